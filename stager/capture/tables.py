"""Dicts that a traced loop fills by integer keys, or tuples of them: their values stand in arrays, one place per key.

    memo = {0: a, 1: b}                       rows = [a, b, 0, 0, …]; there = [1, 2, 0, 0, …]
    for i in range(2, n):              ->     for i in range(2, n):
        memo[i] = memo[i - 1] + …                 rows[i] = rows[i - 1] + …; there[i] = i + 1

A `Table` takes the place of the dict while the statement is traced, as a `Buffer` does for a list of blanks
(`blanks.py`): the places are those between the least and the greatest key, as far as bounds of the keys tell. Which
keys there are, and in which order they came, is run ahead while it is learnt what the dict holds; so afterwards it is a
dict of Python again, in its order. Where data decide about the keys the loop runs in Python.

Invariant: a place is read only where its key is there (KeyError), or behind a test that it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np

from stager.array import Array, as_array, wrap
from stager.bounds import lower, upper
from stager.capture.blanks import Known, Marks
from stager.capture.buffers import Buffer
from stager.capture.optional import Maybe
from stager.capture.packing import packed, unpacked
from stager.capture.plans import Plan
from stager.capture.references import ITEM_GIVEN
from stager.capture.row_lists import bound
from stager.capture.sharing import is_held_by
from stager.cells import Cell
from stager.numpy.rows import rows_of
from stager.ops.regions import known_dim
from stager.runtime.structure import flatten, unflatten
from stager.staged import decline

MOST_PLACES = 1 << 22
NO_KEY = "a key that is not there"


class Box:
    """The keys that a dict may have: integers, or tuples of so many, between bounds."""

    def __init__(self) -> None:
        self.axes: list[tuple[int, int]] = []
        self.single: bool | None = None  # whether keys are integers; None while there is none

    @property
    def places(self) -> int:
        n = 1
        for least, most in self.axes:
            n *= most - least + 1
        return n if self.axes else 0

    def take(self, key: Any) -> bool:
        """Make room for a key. Whether that has changed something. Declines what is no such key."""
        single = type(key) is not tuple
        parts = (key,) if single else key
        bounds = [_bounds(k) for k in parts]
        if not parts or (self.single is not None and (single != self.single or len(parts) != len(self.axes))):
            decline("keys of a dict that are not all integers, or tuples of as many,")
        old = self.axes or bounds
        axes = [(min(a, least), max(b, most)) for (a, b), (least, most) in zip(old, bounds, strict=True)]
        changed, self.axes, self.single = axes != self.axes, axes, single
        if self.places > MOST_PLACES:
            decline("keys of a dict that are far apart")
        return changed

    def place(self, key: Any) -> Any:
        """Where the value of a key stands."""
        out: Any = 0
        for k, (least, most) in zip((key,) if self.single else key, self.axes, strict=True):
            out = out * (most - least + 1) + (k - least)
        return out

    def key(self, place: int) -> Any:
        """The key of a place."""
        out: list[int] = []
        for least, most in reversed(self.axes):
            n = most - least + 1
            out.append(least + place % n)
            place //= n
        return out[0] if self.single else tuple(reversed(out))


def _bounds(k: Any) -> tuple[int, int]:
    """The least and the greatest value of a part of a key."""
    if type(k) is int:
        return k, k
    if type(k) is Array and not k.type.shape and k.type.dtype.kind in "iu":
        d = known_dim(k.raw())
        least, most = (None, None) if d is None else (lower(d), upper(d))
        if least is not None and most is not None and least <= most:
            return least, most
    return decline("a key of a dict that is no integer between known bounds")


class KnownKeys(Known):
    """What is known of the keys. Of each place 0, or the number of its key in their order, from 1."""

    def __init__(self, marks: list[int]) -> None:
        super().__init__(marks)
        self.before = [mark > 0 for mark in marks]
        self.marks = marks
        self.order: list[int] = []  # the marks in the end
        self.written: list[bool] = []  # whether the value of a place may have been set
        self.asked = False  # whether the statement asks which keys there are

    def learn(self, after: Any, fine: Any, written: Any = None) -> bool:
        self.order = [int(x) for x in after]
        self.written = [True] * len(self.order) if written is None else [bool(x) for x in written]
        fine = fine is not None and bool(fine)
        self.are_set = fine and not self.asked
        again = not fine and not self.optional
        self.optional |= again
        return again


class KeyMarks(Marks):
    """Which keys are there so far in a trace, in which order they came, and whose values have been set."""

    def __init__(self, known: KnownKeys) -> None:
        super().__init__(known)
        self.known: KnownKeys = known
        before = np.array(known.marks, np.int64)
        self.there = as_array(before)
        self.count: Any = as_array(np.array(int((before > 0).sum()), np.int64))
        self.written: Any = as_array(np.zeros(len(known.marks), bool))

    def cells(self) -> list[Cell]:
        return [*super().cells(), self.count.cell]

    def outputs(self) -> list[Array]:
        return [*super().outputs(), self.written]

    def set(self, place: Any) -> None:
        if not self.known.are_set:
            self.written[place] = True
            super().set(place)

    def _set(self, place: Any) -> None:
        mark: Any = self.there[place]
        is_new: Any = mark == 0
        self.there[place] = np.where(is_new, self.count + 1, mark)
        self.count.write((self.count + is_new).raw())

    def has(self, place: Any) -> Any:
        """Whether a key is there."""
        return self.there[place] > 0

    def ask(self) -> bool:
        """Keep the marks in the compiled code. Whether that is new."""
        new, self.known.asked = not self.known.asked, True
        return new


class TablePlan(Plan):
    """What the traces so far have shown of a dict."""

    def __init__(self, items: dict[Any, Any]) -> None:
        self.box = Box()
        for key in items:
            self.box.take(key)
        super().__init__(items, True)
        self._lay_out()

    def contents(self) -> Iterable[Any]:
        return list(self.items.values())

    def _lay_out(self) -> None:
        """Begin with the places that there are now."""
        self.before = self.box.places
        marks = [0] * self.box.places
        for n, key in enumerate(self.items, 1):
            marks[self.box.place(key)] = n
        known = KnownKeys(marks)
        if type(self.blanks) is KnownKeys:
            known.optional, known.asked = self.blanks.optional, self.blanks.asked
        self.blanks = known

    def widen(self, key: Any) -> None:
        """Have a place for a key. Raises where it has none yet."""
        if self.box.take(key):
            self._lay_out()
            self.trace_again()

    def begin(self, arrays: list[Any]) -> None:
        from stager.numpy.creation import array

        if not self.items:
            return
        at = _stretch([self.box.place(key) for key in self.items])
        flat = [flatten(packed(value, True))[0] for value in self.items.values()]
        for x, column in zip(arrays, zip(*flat, strict=True), strict=True):
            x[at] = array(list(column))


def _stretch(places: list[int]) -> Any:
    """Places as an index: a slice where they are evenly spaced."""
    steps = {b - a for a, b in itertools.pairwise(places)} or {1}
    step = steps.pop()
    return np.array(places) if steps or step <= 0 else slice(places[0], places[-1] + 1, step)


class Table(Buffer):
    """What takes the place of a dict."""

    __slots__ = ()
    plan: TablePlan

    def __init__(self, plan: TablePlan, counting: bool, capacity: Any = None) -> None:
        super().__init__(plan, counting, capacity)
        assert type(plan.blanks) is KnownKeys
        self.marks: Any = KeyMarks(plan.blanks)

    def _key(self, key: Any) -> Any:
        """The place of a key."""
        self.plan.widen(key)
        place = self.plan.box.place(key)
        return Array(place.cell, place.path, place.type, True) if type(place) is Array else place

    def _place(self, k: Any, text: str = "") -> Any:
        return k  # `_key` has made it

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(self._key(key))

    def changing(self, key: Any) -> Any:
        return super().changing(self._key(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(self._key(key), value)

    def _marked(self, place: Any, item: Any) -> Any:
        marks = self.marks
        if not marks.known.are_set:
            is_there: Any = marks.has(place)
            marks.note(place, is_there)
            if marks.known.optional:
                from stager.capture.branches import as_bool
                from stager.capture.raising import check

                check(as_bool(is_there), KeyError(NO_KEY))
        return bound(item, ()) if type(item) is not Array else item

    def __stager_contains__(self, key: Any) -> Any:
        """`key in table`."""
        place = self._key(key)
        self._ask()
        return self.marks.has(place)

    def get(self, key: Any, default: Any = None) -> Any:
        from stager.capture import operators
        place = self._key(key)
        self._ask()
        there = self.marks.has(place)
        if self.plan.structure is None:  # while it is learnt what it holds
            return default
        item = self._unmarked(place)
        if default is None:
            return bound(Maybe(item, there), ())
        return operators.ifexp(there, lambda: item, lambda: default)

    def _unmarked(self, place: Any) -> Any:
        arrays: list[Any] = self._read()
        rows = [x[place] for x in arrays]
        fresh: list[Any] = [Array(r.cell, r.path, r.type, w) for r, (_, w) in zip(rows, self.plan.leaves, strict=True)]
        structure = self.plan.structure
        assert structure is not None
        return unflatten(structure, [x if not x.ndim else x.copy() for x in fresh])

    def _ask(self) -> None:
        if self.marks.ask():
            self.plan.trace_again()

    def length(self) -> Any:
        self._ask()
        count: Any = self.marks.count
        return Array(count.copy().cell, (), count.type, True)

    def __iter__(self) -> NoReturn:
        self._refuse("running over a dict that a traced loop fills")

    def indexed(self) -> NoReturn:
        self._refuse("running over a dict that a traced loop fills")

    def _together(self, other: Any) -> NoReturn:
        self._refuse("joining a dict that a traced loop fills with another one, or comparing them,")

    __or__ = __ror__ = __ior__ = __eq__ = __ne__ = _together
    __hash__ = object.__hash__

    def __delitem__(self, key: Any) -> NoReturn:
        self._refuse("deleting items of a dict")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse(f"dict.{name}")

    def ends(self) -> list[Any]:
        if self.plan.structure is None:
            self._refuse("looking into a dict that nothing is put into")
        return super().ends()

    def finish(self) -> Any:
        plan: Any = self.plan
        self.older += self.first
        self.held = [self.held[k] for k in range(len(self.held)) if not is_held_by(self.held[k][0], 1 + ITEM_GIVEN)]
        known = plan.blanks
        assert plan.structure is not None
        order = sorted((mark, place) for place, mark in enumerate(known.order) if mark)
        places = [place for _, place in order if known.written[place]]
        if not places:
            return plan.items
        found: list[Any] = self.arrays
        if places != [*range(self.before)]:  # side by side in their order
            at = _stretch(places)
            found = [wrap(x[at].raw()) for x in found]
        columns = [rows_of(x, w) for x, (_, w) in zip(found, plan.leaves, strict=True)]
        for column in columns:
            if self.held or self.older:
                self._share(column[0].cell)
        for place, row in zip(places, zip(*columns, strict=True), strict=True):
            plan.items[plan.box.key(place)] = unpacked(unflatten(plan.structure, list(row)))
        return plan.items


def stand_in(plan: Plan, counting: bool, capacity: Any = None) -> Buffer:
    """What takes the place of a list or dict."""
    kind: Callable[..., Buffer] = Table if type(plan) is TablePlan else Buffer
    return kind(plan, counting, capacity)
