"""Which axis lanes run along: the loop of a leaf, and whether a nest with shared loops goes by rows or by columns.

In *rows* every leaf vectorises along an axis of its own; what is one number per row is scalar code. In *columns* the
last shared axis runs in blocks and leaves run over the block's lanes: all of them, or, where the rows of a block stay
in the cache, those that gain by it. The cheaper one is found by counting what
one outer point costs, in rough cycles; shapes and target alone decide. Blocks and loops are `schedule.py`'s.
"""

from __future__ import annotations

from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.lower import WEIGHTS
from stager.codegen.program import Buffer, Instr, Leaf, LoopAxis, Nest, Stage
from stager.ir.dims import Dim

DEAR = 20
"""From this weight on an instruction is a function: its own arithmetic keeps the processor busy."""
UNKNOWN = 256
"""Points of a loop whose extent only the running function knows."""
ACROSS = 10.0
"""Combining the lanes of one reduction."""
CLEAR = 0.85
LATENCY = 4.0
"""An addition until its result can be added to."""
ENTER = 4.0
"""Entering a loop."""


def column_axis(nest: Nest, lanes: int, mixed: bool) -> LoopAxis | None:
    """The shared axis that should run in blocks of lanes, or None for rows. `lanes`: of one register.

    mixed: inside a block each leaf may run along its rows all the same.
    """
    rows = [row_cost(leaf, lanes) for leaf in nest.leaves]
    best, least = None, sum(rows)
    for a in nest.outer:
        if isinstance(a.extent, int) and a.extent < lanes // 2:
            continue
        columns = [column_cost(leaf, a, lanes) for leaf in nest.leaves]
        cost = sum(columns)
        if mixed:  # rows are read again from further away: only for a clear gain
            cost = min(cost, sum(map(min, rows, columns)) / CLEAR)
        if cost < least:
            best, least = a, cost
    return best


def column_cost(leaf: Leaf, a: LoopAxis, lanes: int) -> float:
    """One point of a shared axis that lanes run along."""
    cost = _points(leaf.loops) * _step(leaf.stage, a.var, lanes) / lanes
    if leaf.adds:
        kept = _points([x for x in leaf.loops if not x.reduce])
        cost += ACROSS * len(leaf.stage.reductions) * kept / max(_extent(a.extent), 1)
    return cost


def weight(i: Instr) -> int:
    """What an instruction costs beside an addition; loads are counted apart."""
    if i.op == "apply":
        return WEIGHTS.get(i.data.op.name, 1)
    return 0 if i.op in ("const", "load", "carry") else 1


def is_dear(i: Instr) -> bool:
    """Whether an instruction becomes a whole function."""
    return i.op == "apply" and weight(i) >= DEAR


def best_axis(leaf: Leaf, lanes: int) -> LoopAxis | None:
    """The loop of a leaf that its lanes should run along, or None where scalar code is as good."""
    best, least = None, _scalar(leaf)
    for a in leaf.loops:
        if isinstance(a.extent, int) and a.extent < min(4, lanes // 2):
            continue
        if a.reduce and leaf.stage.folds:
            continue
        cost = _along(leaf, a, lanes)
        if cost < least:
            best, least = a, cost
    return best


def row_cost(leaf: Leaf, lanes: int) -> float:
    """One outer point, lanes along the best loop of the leaf's own."""
    return min([_scalar(leaf), *(_along(leaf, a, lanes) for a in leaf.loops)])


def _scalar(leaf: Leaf) -> float:
    """One outer point, one by one: a reduction waits for each addition."""
    step = _step(leaf.stage, None, 1)
    return _points(leaf.loops) * (max(step, LATENCY) if leaf.stage.reductions else step)


def _along(leaf: Leaf, a: LoopAxis, lanes: int) -> float:
    """One outer point, lanes along loop `a`."""
    stage = leaf.stage
    rest = _points([x for x in leaf.loops if x is not a])
    steps = -(-_extent(a.extent) // lanes)
    cost = rest * (steps * _step(stage, a.var, lanes) + ENTER)
    if a.reduce:
        cost += ACROSS * len(stage.reductions) * _points([x for x in leaf.loops if not x.reduce])
    return cost


def _step(stage: Stage, var: int | None, lanes: int) -> float:
    """One step of a vector loop along `var` (None: of scalar code); what does not vary along it stands before it."""
    moving = _varying(stage, var)
    cost = sum(0.5 * weight(i) for i, m in zip(stage.body, moving, strict=True) if m)
    loads = [(*i.data, 1) for i, m in zip(stage.body, moving, strict=True) if m and i.op == "load"]
    for b, at, factor in (*loads, *((s.buffer, s.at, 2) for s in stage.stores)):
        c = at.coef(var) if var is not None else b.dtype.itemsize
        if any(v >= DYNAMIC and moving[v - DYNAMIC] for v, _ in at.terms):
            cost += 2 * lanes  # a load and an insertion per lane
        elif c != 0:
            cost += factor if c in (b.dtype.itemsize, -b.dtype.itemsize) else (factor + 1) * lanes
    return cost + 0.5 * len(stage.reductions)


def by_lane(stage: Stage, var: int, lanes: int) -> int:
    """Instructions of one step of a vector loop that go lane by lane: one for each lane of what is apart in memory."""
    moving = _varying(stage, var)
    places = [i.data for i, m in zip(stage.body, moving, strict=True) if m and i.op == "load"]
    places += [(s.buffer, s.at) for s in stage.stores]
    return sum(lanes for b, at in places if _is_apart(b, at, var, moving))


def _is_apart(b: Buffer, at: Ix, var: int, moving: list[bool]) -> bool:
    if any(v >= DYNAMIC and moving[v - DYNAMIC] for v, _ in at.terms):
        return True
    return at.coef(var) not in (0, b.dtype.itemsize, -b.dtype.itemsize)


def _varying(stage: Stage, var: int | None) -> list[bool]:
    """Which instructions vary along an axis; all for None."""
    if var is None:
        return [True] * len(stage.body)
    out: list[bool] = []
    for i in stage.body:
        if i.op == "carry":
            out.append(stage.reductions[i.data].at.coef(var) != 0)
            continue
        out.append(
            any(v == var or (v >= DYNAMIC and out[v - DYNAMIC]) for v in i.variables()) or any(out[a] for a in i.args)
        )
    return out


def _points(loops: list[LoopAxis]) -> int:
    total = 1
    for a in loops:
        total *= _extent(a.extent)
    return total


def _extent(d: Dim) -> int:
    return d if isinstance(d, int) else UNKNOWN
