"""Moves: rows of a list of lists that change places, as in pivoting: `a[k], a[p] = a[p], a[k]`.

In Python a row is one list, wherever it stands. A buffer has a copy at each place, which is the same as long as no row
stands at two places while one is changed. So it is followed which rows have been put down elsewhere and are still where
they were, and which have been displaced and stand nowhere.

Invariant: places are compared by what they are called in one region; a row is at two places unless known not to be.
"""

from __future__ import annotations

import weakref
from typing import Any

from stager.array import Array
from stager.capture.row_lists import RowList
from stager.interpreters.stack import stack
from stager.ops.regions import known_dim

Key = tuple[Any, ...]


class Moves:
    """What has been done with the rows of one list in a trace."""

    def __init__(self) -> None:
        self.lent: list[tuple[weakref.ref[RowList], Key]] = []  # rows that names may hold, and where they were read
        self.doubled: set[Key] = set()  # places whose row stands at another one too
        self.displaced: set[Key] = set()  # places whose row stands nowhere now
        self.kept: list[Any] = []  # what keys mention

    def lend(self, row: RowList, k: Any) -> None:
        """A row is read at k: it shows the place, until that gets another row."""
        self.lent = [*[(r, key) for r, key in self.lent if r() is not None], (weakref.ref(row), self._key(k))]

    def are_lent_around(self) -> bool:
        """Whether a name may hold a row that was read outside of the region in force."""
        here = self._region()
        return any(r() is not None and key[0] != here for r, key in self.lent)

    def put(self, k: Any, value: Any) -> None:
        """A place is about to get another row."""
        here = self._key(k)
        there = next((key for r, key in self.lent if value is not None and r() is value), None)
        if there is not None and there != here:
            if there in self.displaced:
                self.displaced.remove(there)
            else:
                self.doubled.add(there)
        if there != here:
            if here in self.doubled:
                self.doubled.remove(here)
            else:
                self.displaced.add(here)
        for r, _ in self.lent:
            row = r()
            if row is not None:
                row.part()

    def change(self) -> None:
        """A row is about to be changed: those that show no place any more may be the same one."""
        for r, _ in self.lent:
            row = r()
            if row is not None and row.parted:
                row.outdated = True

    def _key(self, k: Any) -> Key:
        here = self._region()
        if type(k) is not Array:
            return (here, k)
        self.kept.append(k)
        known = known_dim(k.raw())
        return (here, known) if known is not None else (here, id(k.cell), k.cell.version, *map(id, k.path))

    def _region(self) -> int:
        s = stack()
        level: Any = s.levels[s.depth - 1] if s.depth else None
        self.kept.append(level)
        return id(level)
