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
from typing import Any

import numpy as np

from stager.array import Array, as_array
from stager.capture.optional import Maybe
from stager.cells import Cell

Raw = Any


def is_blank(x: Any) -> bool:
    """Whether an item only holds a place."""
    return x is None or (type(x) is list and not x)


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

    def cells(self) -> list[Cell]:
        return [self.there.cell, self.fine.cell]

    def outputs(self) -> list[Array]:
        return [self.there, self.fine]

    def set(self, place: Any) -> None:
        if not self.known.are_set:
            self.there[place] = True

    def read(self, place: Any, item: Any) -> Any:
        """An item that is read."""
        if self.known.are_set:
            return item
        there = self.there[place]
        self._note(there)
        return Maybe(item, there) if self.known.optional else item

    def read_all(self, places: Any) -> bool:
        """Note that the items of a slice are read. False where they may be blank."""
        if self.known.are_set:
            return True
        self._note(np.all(self.there[places]))
        return not self.known.optional

    def _note(self, there: Any) -> None:
        self.fine.write((self.fine & there).raw())

    def finished(self, k: int, item: Any, blank: Any) -> Any:
        """Item k after the statement, where it was `blank` before."""
        after = self.known.after
        return blank if after is not None and not after[k] else item
