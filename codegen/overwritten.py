"""Contents that nobody reads: an array gets them, and all of it is written again before anything reads it.

    s = np.empty_like(x)              # zeros: what is not written shall be the same every time
    s[0] = x[0]
    for i in range(1, n):
        s[i] = s[i - 1] + x[i]

From one end of the array on, the steps behind the first one write more and more of it, loops a piece per turn, and read
only what is written. When they have written everything, what the first one wrote is gone, and so is that step. Sizes
are numbers here, and steps are stages: before fusion. What cannot be shown is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from stager.codegen.contract import touched
from stager.codegen.independent import Access, Interval, interval
from stager.codegen.index import Facts
from stager.codegen.program import Loop, MapLanes, Program, Read, Stage, Storage, Switch, While, walk
from stager.ir.dims import Dim, substitute, symbol

LEAST_BYTES = 512
"""Smaller contents cost nothing."""


def drop_overwritten(program: Program) -> None:
    """Removes stages whose results are overwritten before anything reads them."""
    _in_list(program.steps, program.facts)

    def look(step: Any) -> None:
        match step:
            case Loop() | MapLanes() | While():
                _in_list(step.body, program.facts)
            case Switch():
                for branch in step.branches:
                    _in_list(branch, program.facts)

    walk(program.steps, look)


def _in_list(steps: list[Any], facts: Facts) -> None:
    for k in reversed(range(len(steps))):
        storage = _result(steps[k])
        if storage is None:
            continue
        if any(_Written(storage, facts, backwards).all_of(steps[k + 1 :]) for backwards in (False, True)):
            del steps[k]


def _result(step: Any) -> Storage | None:
    """The array that a stage writes, where it does nothing else."""
    if not isinstance(step, Stage) or step.reductions or len(step.stores) != 1:
        return None
    if any(i.op == "bound" for i in step.body):
        return None  # it may report an index
    s = step.stores[0].buffer.storage
    return s if s.kind in ("temp", "output") and isinstance(s.nbytes, int) and s.nbytes >= LEAST_BYTES else None


class _Touch(NamedTuple):
    """An access of the array in a loop's body. `always`: every turn makes it."""

    access: Access
    stage: int  # which of the body's stages, in order
    always: bool


class _Written:
    """How much of an array has been written, from its first byte on, or `backwards` from its last one."""

    def __init__(self, storage: Storage, facts: Facts, backwards: bool) -> None:
        assert isinstance(storage.nbytes, int)
        self.storage = storage
        self.nbytes = storage.nbytes
        self.facts = facts
        self.backwards = backwards
        self.written = 0

    def all_of(self, steps: Sequence[Any]) -> bool:
        """Whether these steps write the whole array, and read nothing of it before they have written it."""
        for s in steps:
            if not self._step(s):
                return False
            if self.written >= self.nbytes:
                return True
        return False

    def _step(self, step: Any) -> bool:
        found = self._touches([step])
        if found is None:
            return False
        if not found:
            return True
        if isinstance(step, Stage):
            return self._stage(found)
        if isinstance(step, Loop) and isinstance(step.lower, int) and isinstance(step.upper, int):
            trips = len(range(step.lower, step.upper, step.step))
            inside = self._touches(step.body)
            if trips and inside is not None:
                return self._loop(step, step.lower + step.step * (trips - 1), inside, _inner(step.body))
        return all(t.access.write or self._known(t, _inner([step])) for t in found)

    def _stage(self, found: list[_Touch]) -> bool:
        reach = self.written
        for t in found:
            if not t.access.write:
                if not self._known(t, set()):
                    return False
            elif (span := self._span(t, set())) is not None and _is_dense(t.access):
                start, end = span
                if isinstance(start, int) and isinstance(end, int) and start <= self.written:
                    reach = max(reach, end)
        self.written = reach
        return True

    def _loop(self, loop: Loop, last: int, found: list[_Touch], inner: set[str]) -> bool:
        """A loop that writes the next piece in every turn; its reads lie before that, or in it once it is written."""
        piece = next((p for t in found if (p := self._piece(loop, t)) is not None), None)
        for t in found:
            if t.access.write or self._known(t, inner):
                continue
            span = self._span(t, inner)
            if piece is None or span is None:
                return False
            start, end = piece[1]
            if not self.facts.non_negative((end if t.stage > piece[0].stage else start) - span[1]):
                return False
        if piece is not None:
            end = substitute(piece[1][1], {loop.symbol: last})
            assert isinstance(end, int)
            self.written = max(self.written, end)
        return True

    def _piece(self, loop: Loop, t: _Touch) -> tuple[_Touch, Interval] | None:
        """A write whose pieces follow one another, the first of them where the array has been written up to."""
        span = self._span(t, set()) if t.access.write and t.always and _is_dense(t.access) else None
        if span is None:
            return None
        assert isinstance(loop.lower, int)
        first = substitute(span[0], {loop.symbol: loop.lower})
        follows = substitute(span[0], {loop.symbol: symbol(loop.symbol) + loop.step}) == span[1]
        return (t, span) if isinstance(first, int) and first <= self.written and follows else None

    def _known(self, t: _Touch, inner: set[str]) -> bool:
        """Whether an access stays in what has been written."""
        span = self._span(t, inner)
        return span is not None and self.facts.non_negative(self.written - span[1])

    def _span(self, t: _Touch, inner: set[str]) -> Interval | None:
        """The bytes that an access lies in: from, and behind the last."""
        found = interval(t.access, 0, self.facts, inner)
        if found is None:
            return None
        low, high = found[0], found[1] + t.access.itemsize
        if not self.facts.non_negative(low) or not self.facts.non_negative(self.nbytes - high):
            return None
        return (self.nbytes - high, self.nbytes - low) if self.backwards else (low, high)

    def _touches(self, steps: Sequence[Any]) -> list[_Touch] | None:
        """The accesses of the array in order; None where they are not stages'."""
        out: list[_Touch] = []
        number = 0
        fine = True

        def look(step: Any) -> None:
            nonlocal number, fine
            if not isinstance(step, Stage):
                fine = fine and all(b.storage is not self.storage for b in touched(step))
                return
            number += 1
            direct = any(step is s for s in steps)
            out.extend(_Touch(a, number, direct) for a in _accesses(step, self.storage))

        walk(list(steps), look)
        return out if fine else None


def _inner(steps: Sequence[Any]) -> set[str]:
    """The symbols that steps define."""
    names: set[str] = set()

    def look(step: Any) -> None:
        if isinstance(step, Loop | MapLanes):
            names.update((step.symbol, *step.also))
        elif isinstance(step, Read):
            names.add(step.name)

    walk(list(steps), look)
    return names


def _accesses(stage: Stage, storage: Storage) -> Iterator[Access]:
    """Reads of a stage before its writes."""
    extents: dict[int, Dim] = {k: a.extent for k, a in enumerate(stage.axes)}
    results = [(s.buffer, s.at, s.combine != "set") for s in stage.stores]
    results += [(r.buffer, r.at, r.combine != "set" or r.begins_with_memory) for r in stage.reductions]
    for b, at in (*stage.loads, *((b, at) for b, at, reads in results if reads)):
        if b.storage is storage:
            yield Access(at, extents, b.dtype.itemsize, False)
    for b, at, _ in results:
        if b.storage is storage:
            yield Access(at, extents, b.dtype.itemsize, True)


def _is_dense(a: Access) -> bool:
    """Whether an access writes every element of the bytes that it lies in."""
    reach = a.itemsize
    steps = [(abs(c), a.extents.get(v)) for v, c in a.at.terms if isinstance(c, int)]
    for step, extent in sorted(steps, key=lambda s: s[0]):
        if not isinstance(extent, int) or step != reach:
            return False
        reach *= extent
    return len(steps) == len(a.at.terms)
