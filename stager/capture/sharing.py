"""Who holds a list or dict: what a loop carries or appends is copied, so nobody may change it under another name.

In Python a name, an item of another list and an appended value can be one list. A loop that is staged makes lists of
its own for each of them. That is the same as long as a list which has several holders does not change; where it does,
the loop declines.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from stager.array import Array
from stager.capture.references import ITEM_GIVEN, LOCAL_GIVEN
from stager.capture.session import Session, current
from stager.cells import Cell
from stager.errors import MutationError, describe
from stager.runtime.structure import flatten, one_level
from stager.staged import decline


def changeable_in(x: Any) -> Iterator[Any]:
    """The containers in a nesting that can change, from the outside in."""
    level = one_level(x)
    if level is None:
        return
    kind, _, children = level
    if getattr(type(x), "__stager_item__", False):
        yield x
        return
    if kind in ("list", "dict") or (kind == "dataclass" and dataclasses.is_dataclass(x)):
        yield x
    for child in children:
        yield from changeable_in(child)


def shared_among(values: Iterable[Any]) -> set[int]:
    """The ids of the containers that stand in several places of these values."""
    seen: set[int] = set()
    twice: set[int] = set()
    for value in values:
        for c in changeable_in(value):
            (twice if id(c) in seen else seen).add(id(c))
    return twice


class Contents:
    """The containers of a value, and what they hold now."""

    def __init__(self, value: Any) -> None:
        self.saved = [(c, _items(c)) for c in changeable_in(value)]

    def ids(self) -> set[int]:
        return {id(c) for c, _ in self.saved}

    def is_reached(self) -> bool:
        """Whether anything else holds one of them."""
        return any(sys.getrefcount(self.saved[k][0]) > 2 + self._inside(k) for k in range(len(self.saved)))

    def _inside(self, k: int) -> int:
        return sum(x is self.saved[k][0] for _, items in self.saved for x in items) * 2

    def changed(self) -> bool:
        """Whether one of them holds something else now."""
        for c, before in self.saved:
            now = _items(c)
            if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
                return True
        return False


def _items(c: Any) -> list[Any]:
    if isinstance(c, list):
        return list(c)
    return list(c.values()) if isinstance(c, dict) else list(vars(c).values())


def alone(items: list[Any], holders: int) -> bool:
    """Whether so many references are all there are to a list, and its own to each of the lists in it.

    `holders` counts those of the call too (`references.py`).
    """
    if sys.getrefcount(items) > holders:
        return False
    return holds_alone(items)


def holds_alone(items: list[Any]) -> bool:
    """Whether a list is the only one that holds the lists in it, and so on inward."""
    for k in range(len(items)):  # noqa: SIM110 (a generator would make a cell for items)
        if type(items[k]) is list and not alone(items[k], 1 + ITEM_GIVEN):
            return False
    return True


def owns_arrays(items: list[Any]) -> bool:
    """Whether nothing but a list holds the arrays in it, or views of them."""
    held: dict[int, tuple[Cell, int]] = {}
    for k in range(len(items)):
        if type(items[k]) is not Array:
            if any(type(x) is Array and x.holds_memory for x in flatten(items[k])[0]):
                return False
        elif items[k].holds_memory:
            if sys.getrefcount(items[k]) > 2:
                return False
            cell = items[k].cell
            held[id(cell)] = (cell, held.get(id(cell), (cell, 0))[1] + 1)
    for cell, n in held.values():  # noqa: SIM110 (a generator would hold it once more)
        if cell.origin is not None or not is_held_by(cell, n + 2 + LOCAL_GIVEN):
            return False
    return True


def is_held_by(cell: Cell, n: int) -> bool:
    """Whether no more than n references lead to a cell, with those of the caller and of the call (`references.py`)."""
    return sys.getrefcount(cell) <= n


def freeze(c: Any) -> None:
    """A list or dict that was made of arrays, in which nobody would see it change."""
    s = current()
    if s is not None:
        s.frozen[id(c)] = c


def is_frozen(c: Any) -> bool:
    """Whether a container is an item of another one, as its arrays."""
    s = current()
    if getattr(type(c), "__stager_item__", False):
        return c.home is not None
    return s is not None and id(c) in s.frozen


def choose(olders: Iterable[Any], made: Any) -> None:
    """A traced branch has made a value of containers from around it: in Python it would be one of them."""
    s = current()
    if s is not None:
        new = list(changeable_in(made))
        s.chosen += [(older, c) for older in olders for c in new if c is not older]


def changes(s: Session, obj: Any, what: str) -> None:
    """A list or dict is about to change. Declines where items are left that are made of its arrays, or a list that a
    traced branch has made of it."""
    if any(obj is older or obj is made for older, made in s.chosen):
        gc.collect()  # what was given up is held by nobody
        if _may_have_another_name(s, obj):
            text = f"{what} of a {type(obj).__name__} that has another name on one side of a traced condition"
            raise MutationError(describe(text, remedy="let the other name hold a copy"))
    if id(obj) in s.frozen:
        decline(f"{what} of an item that a traced index picked")
    if id(obj) not in s.homes:
        return
    s.changes += 1
    _forget_unused(s)
    if s.frozen:
        gc.collect()  # traces that were given up have left cycles of frames
        _forget_unused(s)
    if s.frozen or s.filtered:
        decline(f"{what} of which a traced index has picked an item")


def _may_have_another_name(s: Session, obj: Any) -> bool:
    """Whether something else is held that a traced branch may have made the same as a list or dict."""
    group, found = {id(obj)}, 0
    while found != len(group):
        found = len(group)
        group |= {id(c) for pair in s.chosen if any(id(x) in group for x in pair) for c in pair}
    others = {id(c): k for k, pair in enumerate(s.chosen) for c in pair if id(c) in group and c is not obj}
    places = [(k, 0 if id(s.chosen[k][0]) == i else 1) for i, k in others.items()]
    del others
    for k, j in places:
        if _held(s, s.chosen[k][j]):
            return True
    s.chosen = [pair for pair in s.chosen if id(pair[0]) not in group]
    return False


def _held(s: Session, c: Any) -> bool:
    """Whether anything but `chosen` holds a container, which is given as an item."""
    chosen = 0
    for pair in s.chosen:
        chosen += (pair[0] is c) + (pair[1] is c)
    return sys.getrefcount(c) > ITEM_GIVEN + chosen


def _forget_unused(s: Session) -> None:
    for key in list(s.frozen):
        if sys.getrefcount(s.frozen[key]) <= 2:
            del s.frozen[key]


def refuse_rows(value: Any) -> None:
    """Declines to keep a row of a buffer, which is one only while the buffer stands for its list."""
    for c in changeable_in(value):
        if getattr(type(c), "__stager_item__", False) and hasattr(c.home, "take_part"):
            refuse_shared("keeping an item of a list")


def refuse_shared(what: str) -> NoReturn:
    decline(f"{what} that has several names")
