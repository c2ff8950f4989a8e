"""Blanks: the items of `[None] * n` or `[[] for _ in range(n)]`, until a traced loop sets them.

    out = [None] * n                        rows = zeros((n, …)); there = zeros(n, bool)
    for i in range(n):             ->       for i in range(n):
        out[i] = f(i)                           rows[i] = f(i); there[i] = True

While it is learnt what a list holds, it is also noted which items have been set, and whether all that were read had
been.
Mostly the index alone decides about both. That much is run at once, and nothing of it is left in the statement itself.
Where a blank item may be read, an item is a `Maybe`. Where data decide which items are set, the loop runs in Python.

Invariant: an item that has not been set is the one that was there before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stager.array import Array, as_array, wrap
from stager.bounds import lower, upper
from stager.capture.optional import Maybe
from stager.cells import Cell
from stager.interpreters.stack import stack
from stager.ir.dims import symbols_of
from stager.ops.regions import dim_value, known_dim

Raw = Any


def is_blank(x: Any) -> bool:
    """Whether an item only holds a place."""
    return x is None or (type(x) is list and not x)


class Event(NamedTuple):
    """Something that a trace does with items."""

    what: str  # "set", "read", "all" (what no log tells), or "branch", which has sides
    told: Any  # the place as a dim, None where it is none; the logs of the sides
    level: Any  # where it was done


def _is_known(log: Sequence[Event], region: Any) -> bool:
    """Whether a log of a side says it all, in terms that hold around its branch: no loop in it has added to it."""
    for what, told, level in log:
        if level is not region or what == "all" or told is None:
            return False
        if what != "branch" and not symbols_of((told,)) <= _symbols():
            return False
    return True


def _symbols() -> set[str]:
    s = stack()
    levels: list[Any] = [level for level in s.levels[: s.depth] if level.key == "Stage"]
    return {name for level in levels for name in level.graph.symbols}


def _sets(log: Sequence[Event]) -> list[Any]:
    """The places that a log sets, in its order."""
    out: list[Any] = []
    for what, told, _ in log:
        if what == "branch":
            out += [d for d in _sets(told[0]) if d not in out]
        elif what == "set" and told not in out:
            out.append(told)
    return out


def _place_at(d: Any) -> Any:
    return d if type(d) is int else wrap(dim_value(d), weak=True)


class Known:
    """What is known of the blanks of a list."""

    def __init__(self, items: Sequence[Any]) -> None:
        self.before = [not is_blank(x) for x in items]
        self.after: list[bool] | None = None  # which have been set in the end
        self.are_set = False  # whether all items that are read have been set
        self.optional = False  # whether it has shown that they may be not

    def learn(self, after: Any, fine: Any) -> bool:
        """Take what a trace has told; `fine` is None where data decide. Whether it has to be traced again."""
        self.after = [bool(x) for x in after]
        self.are_set = fine is not None and bool(fine)
        again = not self.are_set and not self.optional
        self.optional |= again
        return again


class Marks:
    """Which items of a list have been set so far in a trace, and whether those were all that it has read."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.there: Any = as_array(np.array(known.before))
        self.fine: Any = as_array(np.array(True))
        self.log: list[Event] = []  # what this trace has done with items, in its order

    def cells(self) -> list[Cell]:
        return [self.there.cell, self.fine.cell]

    def outputs(self) -> list[Array]:
        return [self.there, self.fine]

    def set(self, place: Any) -> None:
        if not self.known.are_set and not self._was_there(place):
            self._log("set", place)
            self._set(place)

    def _was_there(self, place: Any) -> bool:
        """Whether an item was there before the statement, whichever of those that it may be."""
        d = known_dim(place.raw()) if type(place) is Array else place if type(place) is int else None
        least, most = (None, None) if d is None else (lower(d), upper(d))
        return least is not None and most is not None and least >= 0 and all(self.known.before[least : most + 1])

    def _set(self, place: Any) -> None:
        self.there[place] = True

    def has(self, place: Any) -> Any:
        """Whether an item has been set."""
        return self.there[place]

    def read(self, place: Any, item: Any) -> Any:
        """An item that is read."""
        if self.known.are_set:
            return item
        there = self.has(place)
        self.note(place, there)
        return Maybe(item, there) if self.known.optional else item

    def read_all(self, places: Any) -> bool:
        """Note that the items of a slice are read. False where they may be blank."""
        if self.known.are_set:
            return True
        self._log("all", None)
        self._note(np.all(self.there[places]))
        return not self.known.optional

    def note(self, place: Any, there: Any) -> None:
        """An item is read, whether it is there or not."""
        self._log("read", place)
        self._note(there)

    def _note(self, there: Any) -> None:
        self.fine.write((self.fine & there).raw())

    # -- branches that set the same items on every side ---------------------------------------------------------

    def _log(self, what: str, place: Any) -> None:
        s = stack()
        told = known_dim(place.raw()) if type(place) is Array else place
        self.log.append(Event(what, told, s.levels[s.depth - 1]))

    def begin(self) -> list[Raw]:
        """The marks as they are."""
        return [c.read() for c in self.cells()]

    def agree(self, begun: list[Raw], logs: Sequence[list[Event]], regions: Sequence[Any]) -> None:
        """A branch has ended, of whose sides these are the logs. Where each has set the same, data do not decide."""
        s = stack()
        done = set(_sets([e for e in self.log if e.level is s.levels[s.depth - 1]]))
        logs = [[e for e in log if e.what != "set" or e.told not in done] for log in logs]
        known = all(map(_is_known, logs, regions)) and len({tuple(_sets(log)) for log in logs}) == 1
        self._log("branch" if known else "all", logs if known else None)
        if known:
            self._repeat(self.log[-1:], begun)

    def _repeat(self, log: Sequence[Event], begun: list[Raw]) -> None:
        """Do again what a log says, from marks that are given."""
        for cell, raw in zip(self.cells(), begun, strict=True):
            cell.write(raw)
        for what, told, _ in log:
            if what == "branch":
                before = self.begin()
                for side in told:
                    fine = self.fine.raw()
                    self._repeat(side, before)
                    self.fine.write((self.fine & wrap(fine)).raw())
            elif what == "set":
                self._set(_place_at(told))
            else:
                self._note(self.has(_place_at(told)))

    def finished(self, k: int, item: Any, blank: Any) -> Any:
        """Item k after the statement, where it was `blank` before."""
        after = self.known.after
        return blank if after is not None and not after[k] else item
