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
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from stager.array import Array, as_array, wrap
from stager.bounds import learn
from stager.capture.iterables import Elements, Indexed
from stager.capture.packing import packed, rows_in_list, unpacked
from stager.capture.row_lists import ROWS, RowList, bound, position
from stager.capture.session import current
from stager.capture.sharing import Contents, alone, is_frozen
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
        # lists of lists that nobody else holds, by the ids of these
        self.inner = {
            id(part): items
            for items in candidates.values()
            if type(items) is list and all(alone(items[k], 1) for k in range(len(items)) if type(items[k]) is list)
            for part in items
            if type(part) is list
        }


BARRIER = Owner({})  # what stands behind it has run in part


def need_buffer(items: Any) -> None:
    """A list is about to be appended to in a region. Raises where a statement around can put it into a buffer."""
    s = current()
    if s is None:
        return
    for owner in reversed(s.owners):
        if owner is BARRIER:
            return
        found = items if id(items) in owner.candidates else owner.inner.get(id(items))
        if found is not None:
            owner.needs = found
            raise NeedsBufferError(owner, found)


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
        self.rows: RowList | None = None  # what the list holds now
        self.length: int | None = session_in_force().lengths.get(id(items))  # in the end, where that is known before
        self.grows = False  # items are appended, or taken away
        self.changes = False  # items that were there before are set or taken away
        if type(items) is RowList:
            self.structure = items.structure
            self.leaves = [
                (Type(x.type.dtype, x.type.shape[1:]), w) for x, w in zip(items.arrays, items.weak, strict=True)
            ]
            return
        s = current()
        if s is not None and any(type(x) is list and all(id(x) not in o.inner for o in s.owners) for x in items):
            decline("a list of lists that others may hold")
        self.rows = rows_in_list(items, True)
        if self.rows is not None:
            self.structure = self.rows.structure
            self.leaves = [
                (Type(x.type.dtype, x.type.shape[1:]), w) for x, w in zip(self.rows.arrays, self.rows.weak, strict=True)
            ]
            return
        for item in items:
            leaves, structure = flatten(packed(item, True))
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

    def grow(self) -> None:
        if not self.grows:
            self.grows = True
            self._trace_again()

    def _trace_again(self) -> None:
        self.learnt = True
        raise LearntError


class Buffer:
    """What takes the place of a list: room for its items, of which there are `count`."""

    __stager_stand_in__ = True
    __slots__ = ("arrays", "before", "begun", "borrowed", "count", "counting", "depth", "held", "lists", "older",
                 "plan", "room", "rows_lent", "spoiled", "unknown")  # fmt: skip

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
        self.borrowed: list[Contents] = []  # items of other lists, or lists with other names
        self.lists: list[Contents] = []  # lists and dicts that were appended
        self.rows_lent: list[weakref.ref[RowList]] = []  # items that are lists themselves, as they stand here
        self.begun = next(_versions)
        self.count = wrap(dim_value(self.before), weak=True)
        session_in_force().row_lists = True
        self.arrays: list[Array] = []
        if counting:
            return
        room = plan.room if plan.known else UNKNOWN if plan.grows else self.before
        room = room if plan.length is None or not plan.known else plan.length
        self.arrays = [wrap(zeros_of(Type(t.dtype, (room, *t.shape)))) for t, _ in plan.leaves]
        if type(plan.items) is RowList:
            for x, old in zip(self.arrays, plan.items.arrays, strict=True):
                target: Any = x
                target[: self.before] = old
            return
        from stager.numpy.creation import array

        if plan.rows is not None:
            for x, old in zip(self.arrays, plan.rows.arrays, strict=True):
                target = x
                target[: self.before] = old
            return
        columns = zip(*[flatten(packed(value, True))[0] for value in plan.items], strict=True)
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
        self.plan.grow()
        self._hold(value)
        leaves, structure = flatten(packed(value, True))
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

    def _hold(self, value: Any) -> None:
        """The lists and dicts in an item are copied here: others must not change, nor be, what is held."""
        found = Contents(value)
        s = stack()
        regions = [level for level in s.levels[: s.depth] if type(level) is UserRegion]
        older = {i for i in found.ids() if any(i in region.older for region in regions)}
        if any(key[0] in older for region in regions for key in region.places):
            self._refuse("putting a list that changes into another one")
        if older or any(is_frozen(c) for c, _ in found.saved):
            self.borrowed.append(found)
            session_in_force().homes.update(found.ids())
            return
        if found.ids() & {i for c in self.lists for i in c.ids()}:
            self._refuse("putting a list into another one twice")
        if found.saved:
            self.lists.append(found)

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
        self.plan.grow()
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
        fresh: list[Any] = [Array(r.cell, r.path, r.type, w) for r, (_, w) in zip(rows, self.plan.leaves, strict=True)]
        structure = self.plan.structure
        assert structure is not None
        if structure.cls is RowList:  # as it stands here: what is written into it is written here
            row = bound(unflatten(structure, fresh), self)
            self.rows_lent = [*[r for r in self.rows_lent if r() is not None], weakref.ref(row)]
            return row
        item = unflatten(structure, [x if not x.ndim else x.copy() for x in fresh])
        return item if structure.kind == "leaf" else bound(item, ())

    def __setitem__(self, k: Any, value: Any) -> None:
        if any(r() is not None for r in self.rows_lent):
            self._refuse("setting items of a list of lists, one of which has a name,")
        self._hold(value)
        leaves, structure = flatten(packed(value, True))
        if not leaves or not all(map(is_traceable, leaves)):
            self._refuse("setting items of a list to what is no array")
        self._take(structure, leaves)
        self.plan.changes = True
        place = self._place(k, "list assignment index out of range")
        for x, leaf in zip(self._read(), leaves, strict=True):
            target: Any = x
            target[place] = leaf

    def take_part(self, row: RowList, leaves: Sequence[Any]) -> None:
        """An item of one of the lists in this list is about to be set. Raises where types have to be learnt first."""
        plan = self.plan
        if len(leaves) != len(plan.leaves) or not all(map(is_traceable, leaves)):
            self._refuse("setting items of a list in a list to what is no array")
        types = []
        for x, (t, _), leaf in zip(row.arrays, plan.leaves, leaves, strict=True):
            part, weak = leaf_type(leaf)
            if part.shape != x.type.shape[1:]:
                self._refuse("setting items of a list in a list to arrays of another shape")
            types.append((Type(part.dtype, t.shape), weak))
        assert plan.structure is not None
        try:
            plan.take(plan.structure, types)
        except ControlFlowError:
            self.spoiled = True
            raise
        plan.changes = True

    def _place(self, k: Any, text: str = "list index out of range") -> Any:
        """A place in the arrays. IndexError, when the code runs, where the list has none such."""
        count: Any = Array(self.count.cell, (), self.count.type, True)
        settled = not (self.plan.changes and self.plan.grows)
        if type(k) is int and settled and type(self.before) is int and -self.before <= k < self.before:
            return k if k >= 0 else k + (count if self.plan.grows else self.before)
        from stager.capture.branches import as_bool, check, wrapped_where

        if not self.plan.grows and type(self.before) is int:
            return position(k, self.before, text)
        k = as_array(k)
        place: Any = wrapped_where(k < 0, k + count, k)
        check(as_bool((place >= 0) & (place < count)), IndexError(text))
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
        """`len` of the list, a traced number where that changes."""
        if not self.plan.grows:
            return self.before
        return Array(self.count.cell, (), self.count.type, True).copy()  # type: ignore[attr-defined]

    def __stager_tested__(self) -> Any:
        """What decides where the list is a test."""
        return self.length() > 0

    def rows(self) -> RowList:
        """The list as it is now."""
        arrays = self._read()
        assert self.plan.structure is not None
        n = dim_of(self.count.raw()) if self.plan.grows else self.before
        room = self.plan.room if self.plan.known else UNKNOWN
        learn(n, (0, room))
        for level in stack().levels[: stack().depth]:
            if type(level) is UserRegion:
                level.bound(self.count.cell, (0, room))
        return RowList(
            self.plan.structure, [wrap(_first(x, n)) for x in arrays], [w for _, w in self.plan.leaves], n
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(self.indexed())

    def indexed(self) -> Indexed:
        """The items by position."""
        if self.plan.grows or type(self.before) is not int:
            return self.rows()
        self._read()
        return Elements(self, self.before)

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
        if self.borrowed and type(self.end()) is int:
            self._refuse("putting a list with several names into another one")
        if any(c.changed() for c in [*self.lists, *self.borrowed]):
            self._refuse("changing a list that another one holds")
        if rewritten or any(cell.written > self.begun for cell in self.older):
            self._refuse("writing into an array that a list holds")

    def finish(self) -> Any:
        """The list after the statement: the same one with its new items, or a `RowList`."""
        plan = self.plan
        n = self.end()
        arrays = self.arrays
        if type(n) is int and type(plan.items) is list:
            assert plan.structure is not None
            columns = [rows_of(wrap(_first(x, n)), w) for x, (_, w) in zip(arrays, plan.leaves, strict=True)]
            for column in columns:
                if n and self.held:
                    self._share(column[0].cell)
            items = [unpacked(unflatten(plan.structure, list(row))) for row in zip(*columns, strict=True)]
            if plan.changes:
                plan.items[:] = items
            else:
                plan.items += items[len(plan.items) :]
            return plan.items
        out = self.rows()
        session_in_force().filtered |= bool(self.borrowed)
        for x in out.arrays:
            if self.held:
                self._share(x.cell)
        return out

    def end(self) -> Dim | None:
        """How many items there are in the end, where that is known."""
        if self.plan.length is not None:
            return self.plan.length
        return known_dim(self.count.raw()) if self.plan.grows else self.before

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
