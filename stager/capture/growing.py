"""Lists that a staged loop appends to: what is appended becomes rows of arrays that the loop carries.

    out = []                             ys = zeros((n, …))
    for t in range(n):             ->    for t in range(n):  x = step(x); ys[t] = x
        x = step(x)                      out += [ys[0], ys[1], …]
        out.append(x)

While the loop is traced a stand-in takes the place of the list in every variable that holds it; all that it can do is
to append, anything else declines the loop, which then runs in Python. After the loop the list itself grows by its rows,
views that nothing computes until they are read; `stager/numpy/rows.py` joins them again as one slice.

Invariant: nothing but the loop's own variables can reach the list (its references are counted) or the stand-in, so
nobody sees the list while it does not hold what Python would have put there. A row and the names that hold the appended
array after the loop stand on one storage; where that cannot be had, both refuse writes.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import CellType
from typing import Any, NoReturn

import numpy as np

from stager.array import Array
from stager.capture.courses import Course
from stager.capture.owners import need_buffer
from stager.capture.packing import packed, unpacked
from stager.capture.row_lists import RowList
from stager.capture.session import cell_value, current
from stager.capture.sharing import changeable_in, is_frozen, refuse_shared
from stager.capture.variables import Names, Variables
from stager.cells import Cell
from stager.errors import ControlFlowError
from stager.interpreters.stack import stack
from stager.ir.dims import Expr, evaluate, symbols_of
from stager.ir.types import Type
from stager.numpy.rows import rows_of, whole
from stager.ops.families import zeros_of
from stager.ops.regions import known_dim
from stager.ops.views import reshape
from stager.runtime.structure import flatten, unflatten
from stager.staged import CHOSEN, UserRegion, decline, handle, is_older

Raw = Any
Key = tuple[Any, ...]
_CONSTANTS = (int, float, complex, str, bytes, np.generic)
GROWS = frozenset({"append", "extend", "insert"})  # methods that a stand-in has


class GrowsError(ControlFlowError):
    """A staged loop appends to a list that it has no stand-in for yet."""

    def __init__(self, items: list[Any], text: str) -> None:
        self.items = items
        super().__init__(text)


def appends(items: Any) -> None:
    """A list is about to be appended to. Raises where the loop that is traced can take it among what it carries."""
    s = stack()
    region: Any = s.levels[s.depth - 1] if s.depth else None
    session = current()
    if type(region) is not UserRegion or session is None or session.path_of(items) is not None:
        return  # outside of regions, or a list that is older than the trace
    if any(items is x for x in session.walked):
        return
    if id(items) not in region.growing:
        need_buffer(items)
        return
    try:
        decline("list.append")
    except ControlFlowError as e:
        region.grows = items, str(e)
        raise GrowsError(items, str(e)) from None


FEW_ITEMS = 8  # a longer list of which a loop sets items by its index becomes an array


def reads(items: Any) -> None:
    """A list is used in a region in a way that an array can take. Raises where a statement around can make it one."""
    session = current()
    if session is not None and session.path_of(items) is None:
        need_buffer(items)


def growing_lists(variables: Variables, names: Names) -> dict[int, list[Any]]:
    """The lists that nothing but variables which the statement does not assign can reach, by id.

    Counts references, so it must run before anything takes a snapshot of the variables.
    """
    assigned = {n for n in names if not n.startswith("+")}  # `out += [x]` keeps the list
    holders: dict[int, list[CellType]] = {}
    for name, cell in variables.cells.items():
        if name not in assigned and type(cell_value(cell)) in (list, deque, dict, RowList):
            holders.setdefault(id(cell_value(cell)), []).append(cell)
    s, session = stack(), current()
    older = [level.older for level in s.levels[: s.depth] if type(level) is UserRegion]
    alone = session.alone if session is not None else {}
    return {
        i: cell_value(cells[0])
        for i, cells in holders.items()
        if (i in alone or _references(cells[0]) <= _ALONE + len(cells) - 1) and not any(i in o for o in older)
    }


def _references(cell: CellType) -> int:
    value = cell.cell_contents
    return sys.getrefcount(value)


_ALONE = _references(CellType([]))


def unchanged(lists: dict[int, list[Any]], run: Callable[[], Any]) -> tuple[Any, dict[int, list[Any]]]:
    """(`run()`, those of the lists of which it has left no further references)."""
    before = [sys.getrefcount(x) for x in lists.values()]
    result = run()
    after = [sys.getrefcount(x) for x in lists.values()]
    return result, {i: x for (i, x), a, b in zip(lists.items(), before, after, strict=True) if b <= a}


class StandIn:
    """What a loop's body finds in place of a list that it appends to."""

    __stager_growing__ = True

    __slots__ = ("appended", "inserted", "items", "region", "spoiled")

    def __init__(self, region: UserRegion, items: list[Any]) -> None:
        self.region = region
        self.items = items
        self.appended: list[Any] = []
        self.inserted: list[Any] = []  # in front
        self.spoiled = False

    def append(self, value: Any) -> None:
        self._check()
        self.appended.append(value)

    def extend(self, values: Any) -> None:
        self._check()
        self.appended += values

    def __iadd__(self, values: Any) -> StandIn:
        self.extend(values)
        return self

    def insert(self, k: Any, value: Any) -> None:
        if type(k) is not int or k != 0:
            refuse(self)
        self._check()
        self.inserted.append(value)

    def is_refused(self) -> bool:
        return self.spoiled or not (self.appended or self.inserted)

    def _check(self) -> None:
        s = stack()
        if s.levels[s.depth - 1] is not self.region:
            refuse(self)

    def __getattr__(self, name: str) -> Any:
        refuse(self)


def refuse(stand_in: StandIn, *args: Any, **kwargs: Any) -> NoReturn:
    """A use of the list that a stand-in does not know."""
    stand_in.spoiled = True
    need_buffer(stand_in.items)
    decline("list.append")


for _name in ("getitem", "setitem", "delitem", "len", "iter", "bool", "contains", "reversed", "add", "radd",
              "mul", "rmul", "imul", "eq", "ne", "lt", "le", "gt", "ge", "hash", "str", "repr", "format",
              "reduce_ex", "copy", "deepcopy", "array"):  # fmt: skip
    setattr(StandIn, f"__{_name}__", refuse)


class Sink(StandIn):
    """Takes the place of a list in a trace that is thrown away, and that only shows how numbers go."""

    __stager_stand_in__ = True

    __slots__ = ()

    def __init__(self) -> None:
        self.items = []  # none that a statement around could put into a buffer
        self.inserted = []
        self.appended = []
        self.spoiled = False

    def _check(self) -> None:
        self.inserted.clear()
        self.appended.clear()


@contextlib.contextmanager
def sinks(variables: Variables, lists: dict[int, list[Any]]) -> Iterator[None]:
    """Context: the variables hold nothing that could be read in the place of these lists. Declines what was refused."""
    found: list[Sink] = []
    for items in lists.values():
        cells = [cell for cell in variables.cells.values() if cell_value(cell) is items]
        found.append(Sink())
        for cell in cells:
            cell.cell_contents = found[-1]
    yield
    if any(sink.spoiled for sink in found):  # the user's code may have caught it
        decline("list.append")


class _Rows:
    """An array of the rows that each turn adds `len(leaves)` of."""

    def __init__(self, leaves: Sequence[Array], count: int, each: int = 0) -> None:
        self.leaves = leaves
        self.each = each  # so many rows are one array
        t = leaves[0].type
        self.type = Type(t.dtype, (count * len(leaves), *t.shape))
        self.array: Any = None  # after the loop
        self.locked = False

    def write(self, rows: Raw, turn: Any) -> Raw:
        """The rows with those of a turn set."""
        from stager.ops.rows import write_row

        each = len(self.leaves)
        for k, x in enumerate(self.leaves):
            rows = write_row(rows, x.raw(), (turn if each == 1 else turn * each + k).raw())
        return rows


class Growth:
    """The lists that one loop appends to."""

    def __init__(self, variables: Variables, candidates: dict[int, list[Any]], course: Course) -> None:
        self.variables = variables
        self.candidates = candidates
        self.count = course.count or 0
        self.course = (course.lower, course.upper, course.step)
        self.lists: list[list[Any]] = []
        self.stand_ins: list[StandIn] = []
        self.arrays: dict[Key, _Rows] = {}
        self.grown: list[tuple[list[Any], list[Any], list[list[Any]], bool]] = []  # structures, leaves, in front
        self.places: dict[int, tuple[list[Any], int] | None] = {}  # an appended list or dict -> where it will be
        self.namesakes: list[tuple[str, list[Any], int]] = []  # variables that hold such an item after the loop
        self.ages: dict[int, tuple[_Rows | None, int]] = {}  # cell -> where an appended array is, and since when
        self.aliases: list[tuple[str, int, _Rows, int]] = []  # variable, leaf, array, turns ago
        self.first: list[tuple[_Rows, Cell]] = []  # the first row is this array from before the loop

    def others(self, names: Names) -> Names:
        """The names without those of lists: `out += [x]` keeps them."""
        own = [n for n, cell in self.variables.cells.items() if id(cell_value(cell)) in self.candidates]
        return tuple([n for n in names if n.lstrip("+") not in own])

    def takes(self, e: GrowsError) -> bool:
        """Take a list among those that have a stand-in. False when it cannot be."""
        taken = any(x is e.items for x in self.lists)
        if not self.count or taken or id(e.items) not in self.candidates or type(e.items) is not list:
            return False
        self.lists.append(e.items)
        return True

    def enter(self, region: UserRegion) -> None:
        """Stand-ins for the lists; the region is in force."""
        region.growing = frozenset(self.candidates) - {id(x) for x in self.lists}
        self.stand_ins = [StandIn(region, items) for items in self.lists]
        for items, stand_in in zip(self.lists, self.stand_ins, strict=True):
            for cell in self.variables.cells.values():
                if cell_value(cell) is items:
                    cell.cell_contents = stand_in

    def leave(self, region: UserRegion, index: Any) -> None:
        """The lists again, after an iteration in the region, which is in force. Declines what was done with them."""
        if region.grows is not None:  # the user's code has caught it
            raise GrowsError(*region.grows)
        self.arrays, self.grown, self.places = {}, [], {}
        for k, items in enumerate(self.lists):
            for cell in self.variables.cells.values():
                if cell_value(cell) is self.stand_ins[k]:
                    cell.cell_contents = items
            if self._is_reached(k):
                gc.collect()  # a declined attempt inside may have left a cycle of frames
            if self.stand_ins[k].is_refused() or self._is_reached(k):
                need_buffer(items)
                decline("list.append")
            self._take(items, self.stand_ins[k], region, index)
        self.stand_ins = []

    def _is_reached(self, k: int) -> bool:
        return sys.getrefcount(self.stand_ins[k]) > 2

    def _take(self, items: list[Any], stand_in: StandIn, region: UserRegion, index: Any) -> None:
        for appended, in_front in ((stand_in.appended, False), (stand_in.inserted, True)):
            if not appended:
                continue
            self._place(items, appended, in_front, region)
            flat = [flatten(packed(v)) for v in appended]
            kinds = [[self._kind(x, region, index) for x in leaves] for leaves, _ in flat]
            alike = all(s == flat[0][1] and k == kinds[0] for (_, s), k in zip(flat, kinds, strict=True))
            if alike and all(type(k) is tuple for k in kinds[0]):
                columns = [[self._column(c) for c in zip(*[leaves for leaves, _ in flat], strict=True)]]
            else:
                columns = [
                    [self._array((x,)) if type(k) is tuple else k for x, k in zip(leaves, ks, strict=True)]
                    for (leaves, _), ks in zip(flat, kinds, strict=True)
                ]
            self.grown.append((items, [s for _, s in flat], columns, in_front))

    def _place(self, items: list[Any], appended: Sequence[Any], in_front: bool, region: UserRegion) -> None:
        """Note which lists and dicts are appended. Declines those that somebody else may hold."""
        for k, value in enumerate(appended):
            for c in changeable_in(value):
                if id(c) in self.places or id(c) in region.older or is_frozen(c):
                    need_buffer(items)
                    refuse_shared("appending a list")
                self.places[id(c)] = (items, k - len(appended)) if c is value and not in_front else None

    def _settle_lists(self, carries: Sequence[Any], finals: dict[str, Any]) -> None:
        """Find the variables that hold an appended list or dict at the end of a turn."""
        self.namesakes = []
        begun: set[int] = set()
        for name, value in finals.items():
            if not any(id(c) in self.places for c in changeable_in(value)):
                continue
            place = self.places.get(id(value))
            if place is None or any(c.contents.changed() for c in carries):
                refuse_shared("appending a list")
            self.namesakes.append((name, place[0], place[1]))
            begun |= {i for c in carries if c.name == name for i in c.contents.ids()}
        if any(id(c) in begun for value in finals.values() for c in changeable_in(value)):
            refuse_shared("appending a list")

    def _kind(self, x: Any, region: UserRegion, index: Any) -> Any:
        """What is appended, leaf by leaf: (type, weak) of an array, or the numbers of all turns in a list."""
        if type(x) is not Array:
            if isinstance(x, _CONSTANTS):
                return [x] * self.count
            decline("list.append")
        if x.weak and x.type.dtype.kind in "iu" and (known := _known(x, index)) is not None:
            turns = range(*self.course)
            (name,) = known[1] or ("",)
            return [int(evaluate(known[0], {name: i}) if isinstance(known[0], Expr) else known[0]) for i in turns]
        if _is_shared(x) or not all(region.takes_symbol(name) for name in symbols_of(x.type.shape)):
            decline("list.append")
        return x.type, x.weak

    def _column(self, leaves: tuple[Array, ...]) -> _Rows:
        block = whole(list(leaves))
        return self._array(leaves) if block is None else self._array((block,), len(leaves))

    def _array(self, leaves: tuple[Array, ...], each: int = 0) -> _Rows:
        key = tuple([(id(x.cell), x.weak, *[id(step) for step in x.path]) for x in leaves])
        if key not in self.arrays:
            self.arrays[key] = _Rows(leaves, self.count, each)
        return self.arrays[key]

    # -- what the node carries -------------------------------------------------------------------------------------

    def types(self) -> list[Type]:
        return [a.type for a in self.arrays.values()]

    def starts(self) -> list[Raw]:
        return [zeros_of(a.type) for a in self.arrays.values()]

    def outputs(self, inputs: Sequence[Raw], turn: Any) -> list[Raw]:
        """The arrays after a turn, in the region."""
        return [a.write(rows, turn) for a, rows in zip(self.arrays.values(), inputs, strict=True)]

    def settle(self, carries: Sequence[Any], finals: dict[str, Any]) -> None:
        """Find which variables hold an appended array at the end, and since which turn. The region is in force.

        `carries` have given their outputs. An appended array that a later turn writes through a name declines.
        """
        self._settle_lists(carries, finals)
        if not self.arrays:
            return
        ages = self.ages = {}
        self.aliases, self.first = [], []
        for a in self.arrays.values():
            for x in a.leaves:
                if not x.holds_memory:
                    continue
                if id(x.cell) in ages:
                    self._lock()  # one array in several places
                ages[id(x.cell)] = (a if not x.path and len(a.leaves) == 1 and not a.each else None, 0)
        pairs = [
            (begun, left, first)
            for c in carries
            for begun, left, first in zip(c.entered, c.left, c.first_cells(), strict=True)
        ]
        for begun, _, first in pairs:
            if id(begun) in ages:
                where = ages[id(begun)][0]
                if first is None or where is None:
                    self._lock()
                else:
                    self.first.append((where, first))
        found = True
        while found:
            found = False
            for begun, left, _ in pairs:
                if left is None or id(left) not in ages:
                    continue
                if begun.written:
                    decline("list.append")  # it is an array that the list holds already
                where, age = ages[id(left)]
                if id(begun) not in ages:
                    ages[id(begun)] = (where, age + 1)
                    found = True
                elif ages[id(begun)] != (where, age + 1):
                    self._lock()
        for a in self.arrays.values():
            if any(x.cell.written and id(x.cell) in {id(b) for b, _, _ in pairs} for x in a.leaves):
                decline("list.append")
        for name, value in finals.items():
            for k, x in enumerate(flatten(value)[0]):
                if type(x) is not Array or not x.holds_memory or id(x.cell) not in ages:
                    continue
                where, age = ages[id(x.cell)]
                if where is None or x.path or age >= self.count:
                    self._lock()
                    where = next(iter(self.arrays.values()))
                    age = -1
                self.aliases.append((name, k, where, age))

    def _lock(self) -> None:
        for a in self.arrays.values():
            a.locked = True

    # -- after the loop --------------------------------------------------------------------------------------------

    def rebuild(self, results: Any) -> None:
        """Take the arrays from the node's results."""
        for a in self.arrays.values():
            rows = next(results)
            if a.each:
                rows = reshape(rows, shape=(self.count * a.each, *a.type.shape[2:]))
            a.array = handle(rows, False)
            if a.locked:
                a.array.cell.read_only = CHOSEN

    def extend(self) -> None:
        """Append the rows. Variables that hold an appended array hold its row; they have been assigned."""
        made = {id(a): rows_of(a.array, a.leaves[0].weak) for a in self.arrays.values()}
        for name, k, a, age in self.aliases:
            value = self.variables.get(name)
            leaves, structure = flatten(value)
            if age < 0:
                leaves[k].cell.read_only = CHOSEN
                continue
            leaves[k] = made[id(a)][self.count - 1 - age]
            self.variables.set(name, unflatten(structure, leaves))
        for a, cell in self.first:
            a.array.cell.stand_beside(cell)
        for items, structures, columns, in_front in self.grown:
            each, new = len(structures), []
            for turn in range(self.count):
                for j, structure in enumerate(structures):
                    at, column = (turn * each + j, columns[0]) if len(columns) == 1 else (turn, columns[j])
                    leaves = [made[id(c)][at] if type(c) is _Rows else c[turn] for c in column]
                    new.append(unpacked(unflatten(structure, leaves)))
            if in_front:
                items[:0] = reversed(new)
            else:
                items += new
        for name, items, k in self.namesakes:
            self.variables.set(name, items[k])


def _known(x: Array, index: Any) -> tuple[Any, set[str]] | None:
    """(the dim that a traced integer is, its symbols) where the index of the turn alone says it."""
    dim = known_dim(x.raw())
    own = None if dim is None else known_dim(index)
    return (dim, symbols_of(dim)) if own is not None and symbols_of(dim) <= symbols_of(own) else None


def _is_shared(x: Array) -> bool:
    """Whether others can write into it: an array from around the loop, not a number."""
    return is_older(x) and (x.holds_memory or x.cell.origin is not None)
