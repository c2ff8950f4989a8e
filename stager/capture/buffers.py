"""Lists that a traced loop or branch appends to now and then: their items stand in arrays with room for all of them.

    out = []                               rows = zeros((n, …)); count = 0
    for t in range(n):                     for t in range(n):
        x = step(x)                  ->        x = step(x)
        if x[0] > 0:                           if x[0] > 0:
            out.append(x)                          rows[count] = x; count += 1
                                           out = rows[:count]

While the statement is traced a `Buffer` takes the place of the list, in every variable that holds it. It can be read
there too (`out[-1]`, `len(out)`). A first trace, which is thrown away, tells what is appended and how much room that
takes at most; where no number of turns is known (`while`), the statement is run once only to count.

Where every turn appends as much as the others, the length is known afterwards and the list is a list again; else it
becomes a `RowList`. What every turn of a plain `for` appends goes to rows of its own, without a count (`growing.py`).

Invariant: nothing but the statement's own variables can reach the list or the buffer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from stager.array import Array, as_array, wrap
from stager.bounds import learn
from stager.capture.row_lists import ROWS, RowList
from stager.capture.session import current
from stager.cells import Cell, _versions
from stager.errors import ControlFlowError, describe
from stager.interpreters.stack import stack
from stager.ir.dims import Dim
from stager.ir.types import Type
from stager.numpy.rows import rows_of
from stager.ops.families import zeros_of
from stager.ops.regions import dim_of, dim_value, known_dim
from stager.ops.views import leading
from stager.runtime.structure import Structure, flatten, unflatten
from stager.staged import (
    CHOSEN,
    UserRegion,
    as_raw,
    decline,
    is_older,
    is_traceable,
    join,
    leaf_type,
)

Raw = Any
UNKNOWN = 1 << 31  # room, while it is learnt how much is needed
MANY = 4  # traced items among the numbers that a list begins with


class NeedsBufferError(BaseException):
    """A list is appended to, which the owner can put into a buffer. Nothing but the owner catches this."""

    def __init__(self, owner: Owner, items: Any) -> None:
        self.owner = owner
        self.items = items
        super().__init__("internal error in stager: a list needs a buffer")


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


class Owner:
    """A statement that can put the lists of its variables into buffers."""

    def __init__(self, candidates: dict[int, Any]) -> None:
        self.candidates = candidates
        self.needs: Any = None


BARRIER = Owner({})  # what stands behind it has run in part


def need_buffer(items: Any) -> None:
    """A list is about to be appended to in a region. Raises where a statement around can put it into a buffer."""
    s = current()
    if s is None:
        return
    for owner in reversed(s.owners):
        if owner is BARRIER:
            return
        if id(items) in owner.candidates:
            owner.needs = items
            raise NeedsBufferError(owner, items)


class Plan:
    """What the traces so far have shown of one list."""

    def __init__(self, items: Any) -> None:
        self.items = items
        self.structure: Structure | None = None
        self.leaves: list[tuple[Type, bool]] = []
        self.room: Dim = 0  # places in the buffer
        self.known = False  # whether `room` is a bound
        self.rates: dict[Any, int] = {}  # code of a loop -> how many each of its turns appends
        self.learnt = False  # something new, for which it has to be traced again
        self.changes = False  # items that were there before are set or taken away
        if type(items) is RowList:
            self.structure = items.structure
            self.leaves = [
                (Type(x.type.dtype, x.type.shape[1:]), w) for x, w in zip(items.arrays, items.weak, strict=True)
            ]
            return
        for item in items:
            leaves, structure = flatten(item)
            if not leaves or not all(map(is_traceable, leaves)):
                decline("appending to a list that holds what is no array")
            with contextlib.suppress(LearntError):
                self.take(structure, [leaf_type(x) for x in leaves])

    def take(self, structure: Structure, types: list[tuple[Type, bool]]) -> None:
        """Fit an item in. Raises where that changes what is known."""
        if self.structure is None:
            self.structure, self.leaves = structure, types
            self._trace_again()
        if structure != self.structure:
            decline("appending items of several kinds to a list")
        joined = [join("an item of a list", [a, b]) for a, b in zip(self.leaves, types, strict=True)]
        if joined != self.leaves:
            self.leaves = joined
            self._trace_again()

    def _trace_again(self) -> None:
        self.learnt = True
        raise LearntError


class Buffer:
    """What takes the place of a list: room for its items, of which there are `count`."""

    __stager_stand_in__ = True
    __slots__ = ("arrays", "before", "begun", "count", "counting", "depth", "held", "older", "plan", "room", "spoiled",
                 "unknown")  # fmt: skip

    def __init__(self, plan: Plan, counting: bool) -> None:
        self.plan = plan
        self.counting = counting
        self.depth = len(session_in_force().turns)
        self.before: Dim = plan.items.length if type(plan.items) is RowList else len(plan.items)
        self.room: Dim = self.before  # as far as this trace has come
        self.unknown = False
        self.spoiled = False  # something was refused, which the user's code may have caught
        self.held: list[tuple[Cell, int]] = []  # what was appended, and when it had been written last
        self.older: list[Cell] = []  # of these, what is older than the statement
        self.begun = next(_versions)
        self.count = wrap(dim_value(self.before), weak=True)
        session_in_force().row_lists = True
        self.arrays: list[Array] = []
        if counting:
            return
        room = plan.room if plan.known else self.before + 1
        self.arrays = [wrap(zeros_of(Type(t.dtype, (room, *t.shape)))) for t, _ in plan.leaves]
        if type(plan.items) is RowList:
            for x, old in zip(self.arrays, plan.items.arrays, strict=True):
                target: Any = x
                target[: self.before] = old
            return
        from stager.numpy.creation import array

        columns = zip(*[flatten(value)[0] for value in plan.items], strict=True)
        for x, column in zip(self.arrays, columns, strict=False):
            target = x
            traced = [k for k, leaf in enumerate(column) if type(leaf) is Array]
            if len(traced) > MANY or (x.ndim > 1 and len(traced) < len(column)):
                target[: self.before] = array(list(column))
                continue
            if len(traced) < len(column):  # numbers
                target[: self.before] = np.array([0 if type(leaf) is Array else leaf for leaf in column])
            for k in traced:
                target[k] = column[k]

    # -- what the loop does with its list --------------------------------------------------------------------------

    def append(self, value: Any) -> None:
        leaves, structure = flatten(value)
        if not leaves or not all(map(is_traceable, leaves)):
            self._refuse("appending what is no array to a list")
        self._take(structure, leaves)
        turns: Dim = 1
        for n in session_in_force().turns[self.depth :]:
            if n is None:
                self.unknown = True
            else:
                turns = turns * n
        self.room = self.room + turns
        if not self.counting:
            from stager.ops.tapes import write_row

            for x, leaf, (t, _) in zip(self.arrays, leaves, self.plan.leaves, strict=True):
                x.write(write_row(x.raw(), as_raw(leaf, t.dtype), self.count.raw()))
                if type(leaf) is Array and leaf.holds_memory:
                    self.held.append((leaf.cell, leaf.cell.written))
                    if is_older(leaf):
                        self.older.append(leaf.cell)
        self._move(1)

    def _take(self, structure: Structure, leaves: Sequence[Any]) -> None:
        try:
            self.plan.take(structure, [leaf_type(x) for x in leaves])
        except ControlFlowError:
            self.spoiled = True
            raise

    def extend(self, values: Any) -> None:
        for value in values:
            self.append(value)

    def __iadd__(self, values: Any) -> Buffer:
        self.extend(values)
        return self

    def pop(self, *k: Any) -> Any:
        if k not in ((), (-1,)):
            self._refuse("list.pop")
        self.plan.changes = True
        out = self[-1]
        self._move(-1)
        return out

    def _move(self, by: int) -> None:
        from stager.ops.elementwise import add

        self.count.write(add(self.count.raw(), dim_value(by)))

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return self.rows()[k]
        place = self._place(k)
        arrays: list[Any] = self._read()
        rows = [x[place] for x in arrays]
        fresh = [Array(r.cell, r.path, r.type, w) for r, (_, w) in zip(rows, self.plan.leaves, strict=True)]
        assert self.plan.structure is not None
        return unflatten(self.plan.structure, [x if not x.ndim else x.copy() for x in fresh])  # type: ignore[attr-defined]

    def __setitem__(self, k: Any, value: Any) -> None:
        leaves, structure = flatten(value)
        self._take(structure, leaves)
        self.plan.changes = True
        place = self._place(k)
        for x, leaf in zip(self._read(), leaves, strict=True):
            target: Any = x
            target[place] = leaf

    def _place(self, k: Any) -> Any:
        """A place in the arrays. IndexError, when the code runs, where the list has none such."""
        count: Any = Array(self.count.cell, (), self.count.type, True)
        if type(k) is int and not self.plan.changes and type(self.before) is int and -self.before <= k < self.before:
            return count + k if k < 0 else k
        from stager.capture.branches import as_bool, check, wrapped_where

        k = as_array(k)
        place: Any = wrapped_where(k < 0, k + count, k)
        check(as_bool((place >= 0) & (place < count)), IndexError("list index out of range"))
        return Array(place.cell, place.path, place.type, True)

    def _read(self) -> list[Array]:
        if self.counting:
            self.spoiled = True
            raise ControlFlowError(
                describe(
                    "a list is read in a traced while loop that appends to it",
                    remedy="keep what is read in a variable, or write into an array made before the loop",
                )
            )
        if self.plan.structure is None:
            self.spoiled = True
            raise EmptyListError
        return self.arrays

    def length(self) -> Any:
        """`len` of the list, a traced number."""
        return Array(self.count.cell, (), self.count.type, True).copy()  # type: ignore[attr-defined]

    def __stager_tested__(self) -> Any:
        """What decides where the list is a test."""
        return self.length() > 0

    def rows(self) -> RowList:
        """The list as it is now."""
        arrays = self._read()
        assert self.plan.structure is not None
        n = dim_of(self.count.raw())
        room = self.plan.room if self.plan.known else UNKNOWN
        learn(n, (0, room))
        for level in stack().levels[: stack().depth]:
            if type(level) is UserRegion:
                level.bound(self.count.cell, (0, room))
        return RowList(
            self.plan.structure, [wrap(_first(x, n)) for x in arrays], [w for _, w in self.plan.leaves], n
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f"list.{name}")

    # -- what becomes of it ----------------------------------------------------------------------------------------

    def _refuse(self, what: str) -> NoReturn:
        self.spoiled = True
        decline(what)

    def check_held(self) -> None:
        """What was appended is a copy: nobody may have written into the array since."""
        rewritten = any(cell.written != written for cell, written in self.held)
        if rewritten or any(cell.written > self.begun for cell in self.older):
            self._refuse("writing into an array that a list holds")

    def finish(self) -> Any:
        """The list after the statement: the same one with its new items, or a `RowList`."""
        plan = self.plan
        n = known_dim(self.count.raw())
        arrays = self.arrays
        if type(n) is int and type(plan.items) is list:
            assert plan.structure is not None
            columns = [rows_of(wrap(_first(x, n)), w) for x, (_, w) in zip(arrays, plan.leaves, strict=True)]
            for column in columns:
                if n and self.held:
                    self._share(column[0].cell)
            items = [unflatten(plan.structure, list(row)) for row in zip(*columns, strict=True)]
            if plan.changes:
                plan.items[:] = items
            else:
                plan.items += items[len(plan.items) :]
            return plan.items
        out = self.rows()
        for x in out.arrays:
            if self.held:
                self._share(x.cell)
        return out

    def _share(self, cell: Cell) -> None:
        """The items are copies of arrays that others may hold: no writes here, and none there from now on."""
        cell.read_only = CHOSEN
        cell.stand_for([c for c in self.older if c.owner is None or c.owner.alive])


ROWS.append(Buffer)


def _first(x: Array, n: Dim) -> Raw:
    return leading(x.raw(), (n, *x.type.shape[1:]))


def session_in_force() -> Any:
    s = current()
    assert s is not None
    return s
