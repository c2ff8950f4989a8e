"""Reductions over what their own loop has only just written.

`x[i] = (b[i] - dot(L[i, :i], x[:i])) / L[i, i]`: of all that a turn sums, it needs one element that the turn before
has stored a moment ago. In whole vectors that element would hold up the sum from its first addition on, and a vector
cannot be loaded from a store that is not in memory yet. So the last elements are left to single steps behind the
vectors: what does not depend on the turn before is done while it still runs. Only the order of the additions changes.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.program import Leaf, Loop, MapLanes, Nest, Program, Switch, While, walk
from stager.ir.dims import Dim, Expr, substitute, symbol, symbols_of


def mark_late(program: Program) -> None:
    """Marks the leaves whose last points are late."""

    def look(step: Any) -> None:
        if isinstance(step, Loop):
            _mark(step)

    walk(program.steps, look)


def _mark(loop: Loop) -> None:
    """The reductions that stand in a loop, without those of loops inside of it."""
    written: set[int] = set()
    nests: list[Nest] = []

    def note(step: Any) -> None:
        if isinstance(step, Nest):
            for stage in step.stages():
                written.update(stage.writes())

    walk(loop.body, note)

    def find(steps: list[Any]) -> None:
        for s in steps:
            match s:
                case Nest():
                    nests.append(s)
                case Switch():
                    for b in s.branches:
                        find(b)
                case Loop() | While() | MapLanes():
                    pass

    find(loop.body)
    for nest in nests:
        if not nest.outer and len(nest.leaves) == 1:
            (leaf,) = nest.leaves
            leaf.late = _is_late(leaf, loop, written)


def _is_late(leaf: Leaf, loop: Loop, written: set[int]) -> bool:
    """Whether a sum along one axis ends, further on with every turn, in an array that the loop writes."""
    stage = leaf.stage
    if len(leaf.loops) != 1 or not leaf.loops[0].reduce or any(r.kind != "sum" for r in stage.reductions):
        return False
    (axis,) = leaf.loops
    i, names = symbol(loop.symbol), {loop.symbol, *loop.also}
    if not isinstance(axis.extent, Expr) or _moves(axis.extent, loop, i) != 1:
        return False
    return any(
        id(b.storage) in written and at.coef(axis.var) == b.dtype.itemsize and not symbols_of(at.const) & names
        for b, at in stage.loads
    )


def _moves(d: Dim, loop: Loop, i: Expr) -> Dim:
    """By how much a dim grows from one turn to the next."""
    now: Dim = substitute(d, dict.fromkeys(loop.also, i))
    later: Dim = substitute(now, {loop.symbol: i + loop.step})
    return later - now
