"""Plans: what the traces of a statement have shown of a list that it puts into a buffer.

Invariant: what is known of a list only grows from trace to trace; whatever adds to it asks for another one.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterable
from typing import Any, NoReturn

import numpy as np

from stager.array import Array
from stager.capture.blanks import Known, is_blank
from stager.capture.packing import packed, rows_in_list
from stager.capture.row_lists import RowList
from stager.capture.session import current
from stager.errors import ControlFlowError, describe
from stager.ir.dims import Dim
from stager.ir.types import Type
from stager.runtime.structure import Structure, flatten
from stager.staged import decline, is_traceable, join, leaf_type

MANY = 4  # traced items among the numbers that a list begins with


class EmptyListError(ControlFlowError):
    """A list is read of which it is not known yet what is appended to it."""

    def __init__(self) -> None:
        super().__init__(describe("an item of an empty list is read in a traced branch or loop"))


class LearntError(BaseException):
    """Something new is known of what is appended: trace again."""


class DataDefinedError(ControlFlowError):
    """The length of a list is decided by the data."""

    def __init__(self) -> None:
        super().__init__(describe("how often a traced loop appends to a list depends on the data"))


def learning() -> bool:
    """Whether the trace is to show what a list holds, and is thrown away."""
    s = current()
    return s is not None and any(b.plan.structure is None for b in s.buffers)


class Plan:
    """What the traces so far have shown of one list."""

    def __init__(self, items: Any, shared: bool = False) -> None:
        """`shared`: others may hold arrays that are items."""
        self.items = items
        self.shared = shared or type(items) is not list
        self.before: Dim = items.length if type(items) is RowList else len(items)
        self.structure: Structure | None = None
        self.leaves: list[tuple[Type, bool]] = []
        self.room: Dim = 0  # places in the buffer
        self.known = False  # whether `room` is a bound
        self.ends: list[int] | None = None  # what the counts are after the statement, where they depend on no data
        self.shrinks = False  # whether its last item is taken away
        self.kind = items.kind if type(items) is RowList else type(items)  # list or deque
        self.limit: int | None = (
            items.limit if type(items) is RowList else items.maxlen if self.kind is deque else None
        )
        self.queue = self.limit is not None  # whether its first item is taken away
        self.learnt = False  # something new, for which it has to be traced again
        self.rows: RowList | None = None  # what the list holds now
        self.length: int | None = session_in_force().lengths.get(id(items))  # in the end, where that is known before
        self.blanks: Known | None = None  # of the items that are to be set
        self.grows = False  # items are appended, or taken away
        self.changes = False  # items that were there before are set or taken away
        if type(items) is RowList:
            self.structure = items.structure
            self.leaves = [
                (Type(x.type.dtype, x.type.shape[1:]), w) for x, w in zip(items.arrays, items.weak, strict=True)
            ]
            return
        s = current()
        held = [x for x in self.contents() if type(x) is list]
        if s is not None and any(all(id(x) not in o.inner for o in s.owners) for x in held):
            decline("a list of lists that others may hold")
        self.rows = rows_in_list(items, True) if type(items) is list else None
        if self.rows is not None:
            self.structure = self.rows.structure
            self.leaves = [
                (Type(x.type.dtype, x.type.shape[1:]), w) for x, w in zip(self.rows.arrays, self.rows.weak, strict=True)
            ]
            return
        if type(items) is list and any(map(is_blank, items)):
            self.blanks = Known(items)
        for item in self.contents():
            if self.blanks is not None and is_blank(item):
                continue
            leaves, structure = flatten(packed(item, True))
            if not leaves or not all(map(is_traceable, leaves)):
                decline("appending to a list that holds what is no array")
            with contextlib.suppress(LearntError):
                self.take(structure, [leaf_type(x) for x in leaves])

    def contents(self) -> Iterable[Any]:
        """The items that it begins with."""
        items: Iterable[Any] = self.items
        return items

    def begin(self, arrays: list[Any]) -> None:
        """Put the items that a list begins with into the arrays that have room for them."""
        from stager.numpy.creation import array

        rows = self.items if type(self.items) is RowList else self.rows
        if rows is not None:
            for x, old in zip(arrays, rows.arrays, strict=True):
                x[: self.before] = old
            return
        if self.blanks is not None:
            self._begin_with_blanks(self.blanks.before, arrays)
            return
        columns = zip(*[flatten(packed(value, True))[0] for value in self.items], strict=True)
        for x, column in zip(arrays, columns, strict=False):
            traced = [k for k, leaf in enumerate(column) if type(leaf) is Array]
            if len(traced) > MANY or (x.ndim > 1 and len(traced) < len(column)):
                x[: self.before] = array(list(column))
                continue
            if len(traced) < len(column):  # numbers
                x[: self.before] = np.array([0 if type(leaf) is Array else leaf for leaf in column])
            for k in traced:
                x[k] = column[k]

    def _begin_with_blanks(self, there: list[bool], arrays: list[Any]) -> None:
        """The items that are there, by stretches of them."""
        from stager.numpy.creation import array

        begin = 0
        for is_there, stretch in itertools.groupby(there):
            end = begin + len(list(stretch))
            if is_there:
                flat = [flatten(packed(value, True))[0] for value in self.items[begin:end]]
                for x, column in zip(arrays, zip(*flat, strict=True), strict=True):
                    x[begin:end] = array(list(column))
            begin = end

    def take(self, structure: Structure, types: list[tuple[Type, bool]]) -> None:
        """Fit an item in. Raises where that changes what is known."""
        if self.structure is None:
            self.structure, self.leaves = structure, types
            self.trace_again()
        if structure != self.structure:
            decline("appending items of several kinds to a list")
        joined = [join("an item of a list", [a, b]) for a, b in zip(self.leaves, types, strict=True)]
        if joined != self.leaves:
            self.leaves = joined
            self.trace_again()

    def grow(self) -> None:
        if self.blanks is not None:
            decline("appending to a list of blank items that a loop sets")
        if not self.grows:
            self.grows = True
            self.trace_again()

    def trace_again(self) -> NoReturn:
        self.learnt = True
        raise LearntError


def session_in_force() -> Any:
    s = current()
    assert s is not None
    return s
