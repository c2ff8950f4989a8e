"""Loops of which every element of an array runs the turns by itself go inside of the loops over the elements.

`for k in range(n): y = y * x + c[k]` walks through y once per turn. Where a turn reads and writes the carried arrays
at one and the same place, an element needs of the turns before only what they made of itself: then all turns run for a
few vectors of elements, whose values stay in registers (a reduction of kind "fold"), before the next ones have
theirs. Every element sees the same operations in the same order, so results keep their bits.

Legal when one nest is all that the loop holds, it has no place in common with itself at another point, no index in it
may be bad, and the index of the loop appears in positions only linearly. What reads a fresh slice per turn is left as
it is: it would hop through memory.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.index import Facts, Ix
from stager.codegen.program import (
    Instr,
    Leaf,
    Loop,
    LoopAxis,
    MapLanes,
    Nest,
    Program,
    Reduction,
    Stage,
    Store,
    Switch,
    While,
)
from stager.codegen.turns import Turns, free_variable
from stager.ir.dims import Dim, product


def inward(program: Program) -> None:
    """Puts loops inside of their nests, in all bodies."""
    program.steps = _steps(program.steps, program.facts)


def _steps(steps: list[Any], facts: Facts) -> list[Any]:
    out: list[Any] = []
    for s in steps:
        match s:
            case Loop():
                s.body = _steps(s.body, facts)
                found = _inside(s, facts)
                if found is not None:
                    if isinstance(found[0], Nest):
                        _begin(out, found[0].leaves[0])
                    out.extend(found)
                    continue
            case MapLanes():
                s.body = _steps(s.body, facts)
            case While():
                s.body = _steps(s.body, facts)
            case Switch():
                s.branches = [_steps(b, facts) for b in s.branches]
        out.append(s)
    return out


def _inside(loop: Loop, facts: Facts) -> list[Any] | None:
    """The steps that stand for a loop whose turns went inside of its nest."""
    if loop.moving or len(loop.body) != 1 or not isinstance(loop.body[0], Nest):
        return None
    nest = loop.body[0]
    if nest.outer or nest.scratch or nest.first or len(nest.leaves) != 1:
        return None
    turns = Turns(loop, facts)
    folded = _Leaf(turns, nest.leaves[0]).folded()
    if folded is None:
        return None
    nest.leaves[:] = [folded]
    # what stood before the turns' own loop is computed even without turns: then it may be nowhere
    return [*turns.before, nest if facts.non_negative(turns.count - 1) else Switch(turns.count, [[], [nest]])]


def _begin(before: list[Any], leaf: Leaf) -> None:
    """Elements that a nest has only just set to one number begin with it; the nest need not do so."""
    for r in leaf.stage.reductions:
        for at in range(len(before) - 1, -1, -1):
            nest = before[at]
            if not isinstance(nest, Nest) or r.first is not None:
                break
            found = _fill(nest, r, leaf)
            if found is None:
                if any(id(r.buffer.storage) in s.reads() | s.writes() for s in nest.stages()):
                    break
                continue
            filler, store = found
            r.first = filler.stage.body[store.value].data
            filler.stage.stores.remove(store)
            if filler.stage.is_idle:
                nest.leaves.remove(filler)
            if not nest.leaves:
                del before[at]
            break


def _fill(nest: Nest, r: Reduction, leaf: Leaf) -> tuple[Leaf, Store] | None:
    """Where a nest sets all elements of a fold to one number, and does no more with them."""
    if nest.outer or nest.first:
        return None
    sid = id(r.buffer.storage)
    users = [x for x in nest.leaves if sid in x.stage.reads() | x.stage.writes()]
    if len(users) != 1 or sid in users[0].stage.reads() or users[0].stage.sequential:
        return None
    stores = [s for s in users[0].stage.stores if s.buffer.storage is r.buffer.storage]
    if len(stores) != 1 or stores[0].combine != "set" or stores[0].buffer.dtype is not r.buffer.dtype:
        return None
    (store,) = stores
    if users[0].stage.body[store.value].op != "const" or _places(store.at, users[0].loops) != _places(
        r.at, [a for a in leaf.loops if not a.reduce]
    ):
        return None
    return users[0], store


def _places(at: Ix, loops: list[LoopAxis]) -> tuple[Dim, list[tuple[Dim, Dim]]]:
    """The places that a position takes, as a first one and steps with their counts: equal for equal sets."""
    steps = [(at.coef(a.var), a.extent) for a in loops if a.extent != 1]
    again = True
    while again:
        again = False
        for inner in steps:
            outer = next((x for x in steps if x is not inner and x[0] == inner[0] * inner[1]), None)
            if outer is not None:
                steps = [x for x in steps if x is not inner and x is not outer] + [(inner[0], inner[1] * outer[1])]
                again = True
                break
    return at.const, sorted(steps, key=str)


class _Leaf:
    """One leaf that is to run the turns of a loop."""

    def __init__(self, turns: Turns, leaf: Leaf) -> None:
        self.turns = turns
        self.leaf = leaf
        self.stage = leaf.stage
        self.axes = [a for a in leaf.loops if not a.reduce]
        self.var = free_variable([leaf])

    def folded(self) -> Leaf | None:
        """The leaf with all turns inside, or None where that would not do, or not pay."""
        stage = self.stage
        if not self._is_plain():
            return None
        body = [self.turns.instr(i, self.var) for i in stage.body]
        reductions: list[Reduction] = list(stage.reductions)
        for r in reductions:
            if r.kind != "fold" or r.first is not None or self.turns.follows(r.at):
                return None
        for s in stage.stores:
            if self.turns.follows(s.at) or any(s.at.coef(a.var) == 0 for a in self.axes):
                return None
            reductions.append(Reduction("fold", s.buffer, s.at, s.value))
        number = {id(r.buffer.storage): k for k, r in enumerate(reductions)}
        if len(number) != len(reductions):
            return None
        for n, i in enumerate(stage.body):
            if i.op != "load":
                continue
            buffer, at = i.data
            k = number.get(id(buffer.storage))
            if k is not None:
                r = reductions[k]
                if at != r.at or buffer.dtype is not r.buffer.dtype:
                    return None
                body[n] = Instr("carry", i.dtype, (), k)
            elif self._is_fresh(at):
                return None
        if any(i is None for i in body):
            return None
        whole = Stage([], [i for i in body if i is not None], [], reductions, label=stage.label)
        loops = [*self.axes, LoopAxis(self.var, self.turns.count, True), *(a for a in self.leaf.loops if a.reduce)]
        return Leaf(loops, whole)

    def _is_plain(self) -> bool:
        """Whether there are elements, each with places of its own, and nothing whose order would be seen."""
        stage = self.stage
        if stage.sequential or not self.axes or product(a.extent for a in self.axes) == 1:
            return False
        if self.turns.follows(tuple(a.extent for a in self.leaf.loops)) or any(i.op == "bound" for i in stage.body):
            return False
        return all(s.combine == "set" for s in stage.stores) and not any(at.is_dynamic for at in stage.positions)

    def _is_fresh(self, at: Ix) -> bool:
        """Whether every turn reads other memory than the turns before."""
        if not self.turns.follows(at):
            return False
        step = self.turns.per_turn(at.const)
        if step is None:
            return True
        span: Dim = 0
        for a in self.axes:
            c = at.coef(a.var)
            positive = self.turns.facts.positive_sign(c)
            if positive is None:
                return True
            span = span + (c if positive else -c) * (a.extent - 1)
        if span == 0:
            return False  # one number per turn
        far = step if self.turns.facts.non_negative(step) else -step
        return not self.turns.facts.at_most(far, span)
