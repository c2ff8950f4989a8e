"""Loops inside of loops whose last elements the turn before has only just written, or the next one reads at once.

`x[i] = (b[i] - dot(L[i, :i], x[:i])) / L[i, i]`: of all that a turn sums, it needs one element that the turn before
has stored a moment ago. In whole vectors that element would hold up the sum from its first addition on, and a vector
cannot be loaded from a store that is not in memory yet. So the last elements are left to single steps behind the
vectors: what does not depend on the turn before is done while it still runs. Only the order of the additions changes.

The way back, `g[:i] -= L[i, :i] * g[i]` from the last i on, ends in the element that the next turn begins with. In the
masked vector that a row ends with it would be late in memory; as a single step it is there at once.
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
            leaf.late = _is_late(leaf, loop, written) or _hands_on(leaf, loop, [x for x in nests if x is not nest])


def _hands_on(leaf: Leaf, loop: Loop, others: list[Nest]) -> bool:
    """Whether a row that is one element shorter in every turn ends in what the next turn begins with."""
    stage, i = leaf.stage, symbol(loop.symbol)
    if len(leaf.loops) != 1 or stage.reductions or stage.sequential:
        return False
    (axis,) = leaf.loops
    if not isinstance(axis.extent, Expr) or _moves(axis.extent, loop, i) != -1:
        return False
    names = dict.fromkeys((loop.symbol, *loop.also), i + loop.step)
    loads = [(id(b.storage), at) for x in others for s in x.stages() for b, at in s.loads if not at.terms]
    read = {(sid, substitute(at.const, names)) for sid, at in loads}
    for s in stage.stores:
        item = s.buffer.dtype.itemsize
        last = substitute(s.at.const + (axis.extent - 1) * item, dict.fromkeys(loop.also, i))
        if s.at.terms == ((axis.var, item),) and (id(s.buffer.storage), last) in read:
            return True
    return False


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
