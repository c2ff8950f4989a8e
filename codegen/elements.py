"""What one element of an axis touches of each array: its own places, or others' too.

The positions of an axis of `count` elements lie `step` bytes apart. What else moves a position either stays within one
step, or goes by whole multiples of `count * step`, from one row of a tape to the next. Then no element ever touches
what another one does: blocks of elements may run one after the other, each through all steps. Nothing here changes
anything (`blocks.py` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stager.codegen.index import DYNAMIC, Facts, Ix
from stager.codegen.program import Buffer, Leaf, Loop, Nest
from stager.ir.dims import Dim, Expr, symbols_of


@dataclass(slots=True, eq=False)
class Part:
    """A leaf, the loops that it stands in, and its variable that counts elements: None where it has no such axis."""

    leaf: Leaf
    loops: tuple[Loop, ...]
    var: int | None = None

    def count_along(self, count: int) -> None:
        """Lets the first axis of so many points count elements."""
        self.var = next((a.var for a in self.leaf.loops if a.extent == count), None)

    @property
    def reduces(self) -> bool:
        """Whether the elements are summed up, or something like it."""
        return any(a.var == self.var and a.reduce for a in self.leaf.loops)


@dataclass(slots=True, eq=False)
class Touch:
    """One access of a storage by a part."""

    buffer: Buffer
    at: Ix
    part: Part
    write: bool


@dataclass(slots=True)
class Layout:
    """How an array lies around the elements: bytes from one to the next, the window of bytes that each touches, the
    part of positions that is the same in all turns, and whether every turn of a loop goes on to other rows."""

    step: int
    low: int
    high: int
    base: Dim
    fresh: bool


def parts_of(steps: Iterable[Any], loops: tuple[Loop, ...] = ()) -> Iterator[Part | None]:
    """The leaves of nests and loops in order; None stands for anything else."""
    for s in steps:
        match s:
            case Nest() if not (s.outer or s.first or s.scratch):
                yield from (Part(leaf, loops) for leaf in s.leaves)
            case Loop() if not s.moving:
                yield from parts_of(s.body, (*loops, s))
            case _:
                yield None


def touches_of(part: Part) -> Iterator[Touch]:
    """The accesses of a part, loads first."""
    stage = part.leaf.stage
    for b, at in stage.loads:
        yield Touch(b, at, part, False)
    for s in stage.stores:
        if s.combine != "set":
            yield Touch(s.buffer, s.at, part, False)
        yield Touch(s.buffer, s.at, part, True)
    for r in stage.reductions:
        if r.combine != "set" or r.begins_with_memory:
            yield Touch(r.buffer, r.at, part, False)
        yield Touch(r.buffer, r.at, part, True)


def layout_of(touches: list[Touch], count: int, inner: set[str], facts: Facts) -> Layout | None:
    """The layout of an array whose every element has places of its own; None where that cannot be shown.

    inner: the symbols that the steps in question define, whose ranges bound the window.
    """
    found: Layout | None = None
    for t in touches:
        step = 0 if t.part.var is None else t.at.coef(t.part.var)
        if not isinstance(step, int) or step <= 0 or (found is not None and found.step != step):
            return None
        one = _window(t, step, step * count, inner, facts)
        if one is None or (found is not None and found.base != one.base):
            return None
        if found is not None:
            low, high = min(one.low, found.low), max(one.high, found.high)
            one = Layout(step, low, high, one.base, one.fresh and found.fresh)
        found = one
    return found if found is not None and found.high - found.low <= found.step else None


def _window(t: Touch, step: int, period: int, inner: set[str], facts: Facts) -> Layout | None:
    """The layout as one access has it."""
    low = high = 0
    base: Dim = 0
    fresh = False
    moves: list[tuple[Dim, Dim]] = []  # what moves the position: its least and its greatest value
    extents = {a.var: a.extent for a in t.part.leaf.loops}
    for v, c in t.at.terms:
        if v == t.part.var:
            continue
        if v >= DYNAMIC or not isinstance(c, int):
            return None
        if c % period:
            far = facts.maximum(extents[v]) - 1
            moves.append((min(c, 0) * far, max(c, 0) * far))
    const = t.at.const
    for m, c in const.terms if isinstance(const, Expr) else (((), const),):
        if not m:
            moves.append((c % period, c % period))
            continue
        d = Expr(((m, c),))
        if not symbols_of(d) & inner:
            base = base + d
        elif c % period:
            moves.append((-facts.maximum(-d), facts.maximum(d)))
        else:
            fresh = True
    for least, most in moves:
        if isinstance(least, Expr) or isinstance(most, Expr):
            return None
        low, high = low + least, high + most
    return Layout(step, low, high + t.buffer.dtype.itemsize, base, fresh)


def squeezed(at: Ix, var: int, layout: Layout, count: int, block: int) -> Ix:
    """The position of an array that holds a block of elements, where the whole one has all of them."""
    period, less = layout.step * count, layout.step * block
    terms = tuple((v, c if v == var or c % period else c // period * less) for v, c in at.terms)
    const: Dim = 0
    for m, c in at.const.terms if isinstance(at.const, Expr) else (((), at.const),):
        if not m:
            const = const + (c // period * less + c % period)
        else:
            const = const + Expr(((m, c if c % period else c // period * less),))
    return Ix(const, terms)
