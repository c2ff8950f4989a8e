"""Rows or columns: which axis the lanes of a nest with shared loops run along.

In *rows* every leaf vectorises along an axis of its own; what is one number per row is scalar code. In *columns* the
last shared axis runs in blocks and every leaf runs over the block's lanes. The cheaper one is found by counting what
one outer point costs, in rough cycles; shapes and target alone decide. Blocks and loops are `schedule.py`'s.
"""

from __future__ import annotations

from stager.codegen.lower import WEIGHTS
from stager.codegen.program import Instr, Leaf, LoopAxis, Nest, Stage
from stager.ir.dims import Dim

UNKNOWN = 256
"""Points of a loop whose extent only the running function knows."""
ACROSS = 10.0
"""Combining the lanes of one reduction."""
ENTER = 4.0
"""Entering a loop."""


def column_axis(nest: Nest, lanes: int) -> LoopAxis | None:
    """The shared axis that the lanes of all leaves should run along, or None for rows. `lanes`: of one register."""
    best, least = None, sum(_row_cost(leaf, lanes) for leaf in nest.leaves)
    for a in nest.outer:
        if isinstance(a.extent, int) and a.extent < lanes // 2:
            continue
        cost = sum(_points(leaf.loops) * _step(leaf.stage, a.var, lanes) / lanes for leaf in nest.leaves)
        if cost < least:
            best, least = a, cost
    return best


def weight(i: Instr) -> int:
    """What an instruction costs beside an addition; loads are counted apart."""
    if i.op == "apply":
        return WEIGHTS.get(i.data.op.name, 1)
    return 0 if i.op in ("const", "load") else 1


def _row_cost(leaf: Leaf, lanes: int) -> float:
    """One outer point, lanes along the best loop of the leaf's own."""
    stage = leaf.stage
    least = _points(leaf.loops) * _step(stage, None, 1)
    for a in leaf.loops:
        rest = _points([x for x in leaf.loops if x is not a])
        steps = -(-_extent(a.extent) // lanes)
        cost = rest * (steps * _step(stage, a.var, lanes) + ENTER)
        if a.reduce:
            cost += ACROSS * len(stage.reductions) * _points([x for x in leaf.loops if not x.reduce])
        least = min(least, cost)
    return least


def _step(stage: Stage, var: int | None, lanes: int) -> float:
    """One step of a vector loop along `var` (None: of scalar code)."""
    cost = sum(0.5 * weight(i) for i in stage.body)
    accesses = [*stage.loads, *((s.buffer, s.at) for s in stage.stores)]
    for b, at in accesses:
        c = at.coef(var) if var is not None else b.dtype.itemsize
        if at.is_dynamic:  # a load and an insertion per lane
            cost += 2 * lanes
        elif c != 0:
            cost += 1.0 if c in (b.dtype.itemsize, -b.dtype.itemsize) else 2 * lanes
    return cost + 0.5 * len(stage.reductions)


def _points(loops: list[LoopAxis]) -> int:
    total = 1
    for a in loops:
        total *= _extent(a.extent)
    return total


def _extent(d: Dim) -> int:
    return d if isinstance(d, int) else UNKNOWN
