"""The index of a loop as an axis of the nests that the loop holds.

`i` in `for i in range(lower, upper, step)` is `lower + step * turn`: a position in which it is linear is one over the
axis of turns. What the passes make of such nests (`inward.py`, `sideways.py`) is theirs.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.index import DYNAMIC, Facts, Ix
from stager.codegen.program import Buffer, Instr, Leaf, Loop, Read
from stager.ir.dims import Dim, dim_max, floordiv, substitute, symbol, symbols_of


class Turns:
    """`before` are the steps that `lower` and `count` need."""

    def __init__(self, loop: Loop, facts: Facts) -> None:
        self.facts = facts
        self.step = loop.step
        self.symbol = loop.symbol
        self.index = symbol(loop.symbol)
        self.names = {loop.symbol, *loop.also}
        self.before: list[Any] = []
        self.lower, upper = self._end(loop, loop.lower, "from"), self._end(loop, loop.upper, "to")
        span = upper - self.lower if loop.step > 0 else self.lower - upper
        count = floordiv(span + (abs(loop.step) - 1), abs(loop.step))
        self.count = count if facts.non_negative(count) else dim_max(0, count)
        self._others = dict.fromkeys(loop.also, self.index)

    def _end(self, loop: Loop, end: Any, which: str) -> Dim:
        if not isinstance(end, Buffer):
            dim: Dim = end
            return dim
        name = f"{loop.symbol}.{which}"
        self.facts.signed.add(name)
        self.before.append(Read(name, end))
        return symbol(name)

    def upwards(self) -> None:
        """Counts the turns from the least index on, where their order does not matter."""
        if self.step < 0:
            self.lower, self.step = self.lower + (self.count - 1) * self.step, -self.step

    def follows(self, value: Any) -> bool:
        """Whether a position, a dim or a tuple of them changes with the index."""
        if isinstance(value, Ix):
            value = (value.const, *(c for _, c in value.terms))
        return bool(symbols_of(value) & self.names)

    def per_turn(self, d: Dim) -> Dim | None:
        """By how much a dim grows with the index; None when that changes."""
        now: Dim = substitute(d, self._others)
        step: Dim = substitute(now, {self.symbol: self.index + 1}) - now
        return None if self.follows(step) else step

    def at(self, at: Ix, var: int) -> Ix | None:
        """A position over the axis of turns, `var`; None where the index is not linear in it."""
        if self.follows(tuple(c for _, c in at.terms)):
            return None
        step = self.per_turn(at.const)
        if step is None:
            return None
        first: Dim = substitute(substitute(at.const, self._others), {self.symbol: self.lower})
        return Ix(first, at.terms).plus(Ix(0, ((var, step * self.step),)) if step != 0 else Ix(0))

    def instr(self, i: Instr, var: int) -> Instr | None:
        """An instruction over the axis of turns."""
        if (at := i.position) is not None:
            new = self.at(at, var)
            divided = i.op in ("floordiv", "mod") and self.follows(i.data[1])
            return None if new is None or divided else Instr(i.op, i.dtype, i.args, i.at(new))
        match i.op:
            case "apply" if self.follows(tuple(i.data.params.values())):
                return None
            case "bound" if self.follows(i.data[0]):
                return None
        return i


def free_variable(leaves: list[Leaf]) -> int:
    """A variable that no leaf has."""
    used = [a.var for x in leaves for a in x.loops]
    used += [v for x in leaves for at in x.stage.positions for v, _ in at.terms if v < DYNAMIC]
    return 1 + max(used, default=-1)
