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

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from stager.array import Array, as_array, wrap
from stager.bounds import learn
from stager.capture.blanks import Marks
from stager.capture.iterables import Elements, Indexed
from stager.capture.moves import Moves
from stager.capture.packing import packed, unpacked
from stager.capture.plans import EmptyListError, Plan, session_in_force
from stager.capture.references import ITEM_GIVEN, LOCAL_GIVEN
from stager.capture.row_lists import ROWS, RowList, bound, position
from stager.capture.sharing import Contents, is_frozen, is_held_by
from stager.cells import Cell, _versions
from stager.errors import ControlFlowError, describe
from stager.interpreters.stack import stack
from stager.ir.dims import Dim, Expr
from stager.ir.dtypes import i64
from stager.ir.types import Type
from stager.numpy.rows import rows_of
from stager.ops.families import zeros_of
from stager.ops.regions import dim_of, dim_value, known_dim
from stager.ops.views import slice_axis
from stager.runtime.structure import Structure, flatten, unflatten
from stager.staged import CHOSEN, UserRegion, as_raw, decline, is_older, is_traceable, leaf_type

Raw = Any
UNKNOWN = 1 << 31  # room, while it is learnt how much is needed
ITEM = "a write into an item of a list that a traced loop changes, which is read as a copy"


class Buffer:
    """What takes the place of a list: room for its items, of which there are `count`."""

    __stager_stand_in__ = True
    __slots__ = ("altered", "arrays", "before", "begun", "borrowed", "capacity", "count", "counting", "depth", "first",
                 "front", "held", "lists", "marks", "most", "moves", "older", "plan", "room", "spoiled", "taken",
                 "unknown")  # fmt: skip

    def __init__(self, plan: Plan, counting: bool, capacity: Any = None) -> None:
        """`capacity`: a traced number of items to try it with, in a run that is to show how many are needed."""
        self.plan = plan
        self.capacity = capacity
        self.counting = counting
        self.depth = len(session_in_force().turns)
        self.before = plan.before
        self.room: Dim = self.before  # as far as this trace has come
        self.unknown = False
        self.spoiled = False  # something was refused, which the user's code may have caught
        self.held: list[tuple[Cell, int]] = []  # what was appended, and when it had been written last
        self.older: list[Cell] = []  # of these, what is older than the statement
        self.first: list[Cell] = []  # what it began with, which others hold too
        self.altered = False  # whether items were written in place
        self.taken: Cell | None = None  # an item that is, and is set again
        self.borrowed: list[Contents] = []  # items of other lists, or lists with other names
        self.lists: list[Contents] = []  # lists and dicts that were appended
        self.moves = Moves()  # of items that are lists themselves, as they stand here
        self.begun = next(_versions)
        self.count = wrap(dim_value(self.before), weak=True)  # how many there are, with those taken from the front
        self.front = wrap(dim_value(0), weak=True) if plan.queue else None  # how many these are
        self.most = None if capacity is None else wrap(dim_value(self.before), weak=True)  # what `count` was at most
        session_in_force().row_lists = True
        self.arrays: list[Array] = []
        self.marks = None if plan.blanks is None else Marks(plan.blanks)
        if counting:
            return
        if plan.shared and type(plan.items) is not RowList:
            leaves = [x for item in plan.contents() for x in flatten(item)[0]]
            self.first = [x.cell for x in leaves if type(x) is Array and x.holds_memory]
        room = plan.room if plan.known else UNKNOWN if plan.grows else self.before
        room = room if plan.length is None or not plan.known else plan.length
        if capacity is not None:
            room = dim_of(capacity.raw())
        self.arrays = [wrap(zeros_of(Type(t.dtype, (room, *t.shape)))) for t, _ in plan.leaves]
        plan.begin(self.arrays)

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
            from stager.ops.rows import write_row

            place = self._end().raw()
            for x, leaf, (t, _) in zip(self.arrays, leaves, self.plan.leaves, strict=True):
                x.write(write_row(x.raw(), as_raw(leaf, t.dtype), place))
                self._copied(leaf)
        self._move(self.count, 1)
        count: Any = self.count
        if self.most is not None:
            self.most.write(as_raw(np.maximum(self.most, count), i64))
        if self.plan.limit is not None and self.front is not None:
            self.front.write(as_raw(np.maximum(self.front, count - self.plan.limit), i64))

    def _copied(self, leaf: Any) -> None:
        """What is put into the list is copied; in Python it would be one."""
        if type(leaf) is Array and leaf.holds_memory:
            self.held.append((leaf.cell, leaf.cell.written))
            if is_older(leaf):
                self.older.append(leaf.cell)

    def _end(self) -> Any:
        """The place behind the last item, in the arrays whatever a failing check is late to tell."""
        place: Any = self.count
        if self.capacity is not None:
            return np.minimum(np.maximum(place, 0), self.capacity - 1)
        return np.maximum(place, 0) if self.plan.shrinks else place

    def cells(self) -> list[Cell]:
        """The cells of the counts."""
        return [x.cell for x in (self.count, self.front, self.most) if x is not None]

    def moving(self) -> list[Array]:
        """The counts that decide the length."""
        return [x for x in (self.count, self.front) if x is not None]

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
        if k == (0,) and self.plan.kind is not deque:
            return self._take_first()
        if k not in ((), (-1,)) or (k and self.plan.kind is deque):
            self._refuse("list.pop")
        self.plan.grow()
        self.plan.changes = True
        if not self.plan.shrinks:
            self.plan.shrinks = True
            self.plan.trace_again()
        out = self[-1]
        self._move(self.count, -1)
        return out

    def popleft(self) -> Any:
        if self.plan.kind is not deque:
            raise AttributeError("'list' object has no attribute 'popleft'")
        return self._take_first()

    def _take_first(self) -> Any:
        self.plan.grow()
        self.plan.changes = True
        if self.front is None:
            self.plan.queue = True
            self.plan.trace_again()
        assert self.front is not None
        out = self[0]
        self._move(self.front, 1)
        return out

    def _move(self, x: Array, by: int) -> None:
        from stager.ops.elementwise import add

        x.write(add(x.raw(), dim_value(by)))

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            return self._shown(k)[k]
        item = self._item(k)
        for x in flatten(item)[0] if type(item) is not RowList else ():
            if type(x) is Array and x.holds_memory:
                x.cell.read_only = ITEM
                self.held.append((x.cell, x.cell.written))
        return item

    def _item(self, k: Any) -> Any:
        """An item, with a copy of each array in it."""
        place = self._place(k)
        arrays: list[Any] = self._read()
        rows = [x[place] for x in arrays]
        fresh: list[Any] = [Array(r.cell, r.path, r.type, w) for r, (_, w) in zip(rows, self.plan.leaves, strict=True)]
        structure = self.plan.structure
        assert structure is not None
        if self.marks is not None:
            return self._marked(place, unflatten(structure, [x if not x.ndim else x.copy() for x in fresh]))
        if structure.cls is RowList:  # as it stands here: what is written into it is written here
            row = bound(unflatten(structure, fresh), self)
            self.moves.lend(row, k)
            return row
        item = unflatten(structure, [x if not x.ndim else x.copy() for x in fresh])
        return item if structure.kind == "leaf" else bound(item, ())

    def _marked(self, place: Any, item: Any) -> Any:
        """An item of a list with blank ones, which takes no writes."""
        assert self.marks is not None
        return bound(self.marks.read(place, item if type(item) is Array else bound(item, ())), ())

    def changing(self, k: Any) -> Any:
        """An item that is written in place, and then set again: `items[k] += x`."""
        item = self._item(k)
        if type(item) is not Array or not item.holds_memory:
            return item
        if self.first or any(not is_held_by(cell, 2 + LOCAL_GIVEN) for cell, _ in self.held):
            self._refuse("writing into an item of a list that others may hold")
        self.altered = True
        self.plan.changes = True
        self.taken = item.cell
        return item

    def __setitem__(self, k: Any, value: Any) -> None:
        own = type(value) is RowList and value.home is self
        if not own:
            self._hold(value)
        elif value.outdated:
            self._refuse("putting down an item of a list that has changed since")
        if self.moves.are_lent_around():
            self._refuse("setting items of a list of lists, one of which has a name,")
        self.moves.put(k, value if own else None)
        leaves, structure = flatten(packed(value, True))
        if not leaves or not all(map(is_traceable, leaves)):
            self._refuse("setting items of a list to what is no array")
        self._take(structure, leaves)
        self.plan.changes = True
        place = self._place(k, "list assignment index out of range")
        if self.marks is not None:
            self.marks.set(place)
        for x, leaf in zip(self._read(), leaves, strict=True):
            target: Any = x
            target[place] = leaf
            if type(leaf) is Array and leaf.cell is not self.taken:
                self._copied(leaf)

    def take_part(self, row: RowList, leaves: Sequence[Any]) -> None:
        """An item of one of the lists in this list is about to be set. Raises where types have to be learnt first."""
        plan = self.plan
        if row.parted or self.moves.doubled or self.borrowed or any(c.is_reached() for c in self.lists):
            self._refuse("setting items of a list that may stand at several places, or have a name,")
        self.moves.change()
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
        settled = not (self.plan.changes and self.plan.grows) and self.front is None
        if type(k) is int and settled and type(self.before) is int and -self.before <= k < self.before:
            return k if k >= 0 else k + (count if self.plan.grows else self.before)
        from stager.capture.branches import as_bool, wrapped_where
        from stager.capture.raising import check

        if not self.plan.grows and type(self.before) is int:
            return position(k, self.before, text)
        k = as_array(k)
        front: Any = 0 if self.front is None else Array(self.front.cell, (), self.front.type, True)
        place: Any = wrapped_where(k < 0, k + count, k + front)
        check(as_bool((place >= front) & (place < count)), IndexError(text))
        if self.capacity is not None:
            place = np.minimum(np.maximum(place, 0), self.capacity - 1)
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
        count: Any = Array(self.count.cell, (), self.count.type, True)
        return count.copy() if self.front is None else count - self.front

    def __stager_tested__(self) -> Any:
        """What decides where the list is a test."""
        n = self.length()
        return n if type(n) is Expr else n > 0

    def rows(self) -> RowList:
        """The list as it is now."""
        arrays = self._read()
        assert self.plan.structure is not None
        room = self.plan.room if self.plan.known else UNKNOWN
        if self.capacity is not None:
            room = dim_of(self.capacity.raw())
        n: Dim = dim_of(self.count.raw()) if self.plan.grows else self.before
        front: Dim = 0 if self.front is None or not self.plan.grows else dim_of(self.front.raw())
        for d in (n, front):
            learn(d, (0, room))
        for level in stack().levels[: stack().depth]:
            if type(level) is UserRegion:
                for cell in self.cells():
                    level.bound(cell, (0, room))
        length = n
        if self.front is not None and self.plan.grows:
            length = dim_of(self.length().raw())
            learn(length, (0, room))
        return RowList(
            self.plan.structure,
            [wrap(slice_axis(x.raw(), 0, front, length)) for x in arrays],
            [w for _, w in self.plan.leaves],
            length,
            None,
            self.plan.kind,
            self.plan.limit,
        )

    def _shown(self, places: slice = slice(None)) -> RowList:
        """`rows`, whose items take no writes. `places`: those that are looked at."""
        if self.marks is not None and not self.marks.read_all(places):
            self._refuse("reading items of a list that are None on some paths")
        out = self.rows()
        for x in out.arrays:
            x.cell.read_only = ITEM
        return out

    def __iter__(self) -> Iterator[Any]:
        return iter(self.indexed())

    def indexed(self) -> Indexed:
        """The items by position."""
        if self.plan.grows or type(self.before) is not int:
            return self._shown()
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
        if self.borrowed and all(type(n) is int for n in self.ends()):
            self._refuse("putting a list with several names into another one")
        if self.moves.doubled:
            self._refuse("putting an item of a list of lists to another place of it")
        if any(c.changed() for c in [*self.lists, *self.borrowed]):
            self._refuse("changing a list that another one holds")
        if rewritten or any(cell.written > self.begun for cell in [*self.older, *self.first]):
            self._refuse("writing into an array that a list holds")

    def finish(self) -> Any:
        """The list after the statement: the same one with its new items, or a `RowList`."""
        plan = self.plan
        ends = self.ends()
        arrays = self.arrays
        if plan.changes or plan.queue:
            self.older += self.first
        # what was no more than put into the list, is the list's own
        self.held = [self.held[k] for k in range(len(self.held)) if not is_held_by(self.held[k][0], 1 + ITEM_GIVEN)]
        if all(type(n) is int for n in ends) and type(plan.items) is not RowList:
            assert plan.structure is not None
            first: Any = ends[1] if plan.queue else 0
            n: Any = ends[0] - first
            columns = [
                rows_of(wrap(slice_axis(x.raw(), 0, first, n)), w)
                for x, (_, w) in zip(arrays, plan.leaves, strict=True)
            ]
            for column in columns:
                if n and (self.held or self.older):
                    self._share(column[0].cell)
            items = [unpacked(unflatten(plan.structure, list(row))) for row in zip(*columns, strict=True)]
            if self.marks is not None:
                items = [self.marks.finished(k, x, plan.items[k]) for k, x in enumerate(items)]
            if plan.changes or plan.queue:
                plan.items.clear()
                plan.items.extend(items)
            else:
                plan.items += items[len(plan.items) :]
            return plan.items
        out = self.rows()
        session_in_force().filtered |= bool(self.borrowed)
        for x in out.arrays:
            if self.held or self.older:
                self._share(x.cell)
        return out

    def ends(self) -> list[Dim | None]:
        """What the counts are in the end, as far as that is known."""
        plan = self.plan
        if plan.ends is not None:
            return [*plan.ends]
        if plan.length is not None and not plan.queue:
            return [plan.length]
        return [known_dim(x.raw()) for x in self.moving()] if plan.grows else [self.before, *[0] * plan.queue]

    def _share(self, cell: Cell) -> None:
        """The items are copies of arrays that others may hold: no writes here, and none there from now on."""
        cell.read_only = CHOSEN
        cell.stand_for([c for c in self.older if c.owner is None or c.owner.alive])


ROWS.append(Buffer)
