"""Items of plain sequences that a traced index picks: read, written through, and set.

`row = out[k]` is one of the arrays of the list, and which one only the run knows. So it is a handle on all of them: it
shows them side by side, and what is written into it reaches each of them, where one of them changes.
Not here: items of traced arrays (`stager.numpy.indexing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.array import Array, as_array
from stager.capture.blanks import is_blank
from stager.capture.iterables import evenly
from stager.capture.raising import check
from stager.capture.row_lists import position
from stager.capture.session import holds_tracer
from stager.cells import Cell, ViewStep
from stager.errors import MutationError, describe
from stager.interpreters.stack import stack
from stager.numpy.rows import whole
from stager.ops.structural import stack_
from stager.ops.views import reshape, slice_axis
from stager.staged import CHOSEN

MOST_SET = 64  # elements of a list that an item of which is set is chosen among


class PickedCell(Cell):
    """The arrays of a sequence, side by side. It stores nothing: reads and writes are those of the arrays."""

    __slots__ = ("items", "key")

    def __init__(self, items: list[Array], key: Any) -> None:
        s = stack()
        self.items = items
        self.key = key
        self.owner = s.levels[s.depth - 1] if s.depth else None
        self.type = self.value.type
        self.overlays = None
        self.origin = None
        self.label = ""
        self.read_only = _unwritable(items)
        self.written = False
        self.may_be = ()
        self.lent = None

    @property
    def value(self) -> Any:
        block = whole(self.items)
        return stack_([x.raw() for x in self.items], 0) if block is None else block.raw()

    @property
    def version(self) -> Any:  # type: ignore[override]
        return tuple([x.cell.version for x in self.items])

    def seen(self) -> Any:
        return self.value

    def read(self, by: Any = None) -> Any:
        return self.value

    def write(self, value: Any, path: Sequence[ViewStep] = (), part: Any = None) -> None:
        if self.read_only:
            raise MutationError(describe(str(self.read_only), remedy="write into the items by their names"))
        for j, x in enumerate(self.items):
            x.write(reshape(slice_axis(value, 0, j, 1), shape=x.type.shape))


def _unwritable(items: list[Array]) -> bool | str:
    """Why nothing can be written into one of the arrays that is not known; False where it can."""
    picked = "a write into an item of a list that a traced index picks"
    if len({id(x.cell) for x in items}) < len(items):
        return f"{picked}: some of the items share memory"
    if any(type(x.cell) is PickedCell for x in items):
        return f"{picked}: it is one of several arrays itself"
    return False


def select_item(items: Sequence[Any], key: Any) -> Any:
    """`items[key]` of a plain sequence and a traced integer."""
    from stager.capture.growing import reads
    from stager.staged import is_traceable, leaf_type

    if type(items) is list and items and type(items[0]) in (list, tuple, dict):
        from stager.capture.packing import rows_in_list

        rows = rows_in_list(items, True)
        if rows is not None:
            return rows.at(key)
    if type(items) is list and any(map(is_blank, items)):
        reads(items)
    if not items or any(not is_traceable(x) for x in items) or len({leaf_type(x)[0] for x in items}) > 1:
        return items[key]
    block: Any = whole(items)
    if block is not None and block.ndim > 1:  # rows of one array: what is written into one is written there
        row = block[position(key, len(items), "list index out of range")]
        if row.cell is block.cell:
            return Array(row.cell, row.path, row.type, items[0].weak)
    arrays = [as_array(x) for x in items]
    side_by_side: Any = np.stack(arrays)
    picked = side_by_side[key]
    if not arrays[0].type.shape or type(picked) is not Array or not all(type(x) is Array for x in items):
        return picked
    return Array(PickedCell(arrays, key), picked.path, picked.type)


def select_value(table: dict[Any, Any], key: Any) -> Any:
    """`table[key]` of a dict whose keys are evenly spaced integers and a traced integer."""
    from stager.capture.growing import reads

    keys, items = list(table), list(table.values())
    even = evenly(keys)
    if even is None or type(key) is tuple:
        reads(table)
    if even is None or type(key) is tuple or key.type.shape or key.dtype.kind not in "iu":
        return table[key]
    place: Any = (key - even.start) // even.step
    is_there = (place >= 0) & (place < len(keys)) & (even.start + place * even.step == key)
    check(is_there, KeyError("a key that is not there"))
    return select_item(items, np.minimum(np.maximum(place, 0), len(keys) - 1))


def get(table: dict[Any, Any], key: Any, default: Any = None) -> Any:
    """`table.get(key, default)` of a dict in a traced branch or loop."""
    from stager.capture.growing import reads

    if holds_tracer(key, 1):
        reads(table)
    return table.get(key, default)


def set_item(items: Any, n: int, key: Any, value: Any) -> bool:
    """`items[key] = value` of n items, a traced key: each becomes the value or stays. False where types forbid it."""
    from stager.staged import is_traceable, leaf_type

    before = [items[j] for j in range(n)] if 0 < n <= MOST_SET else []
    if not before or key.type.shape or key.dtype.kind not in "iu" or not is_traceable(value):
        return False
    if any(not is_traceable(x) or leaf_type(x)[0] != leaf_type(value)[0] for x in before):
        return False
    if _is_there(before, key, value):
        return True
    place: Any = np.where(key < 0, key + n, key)
    check((place >= 0) & (place < n), IndexError("list assignment index out of range"))
    picked = type(value) is Array and type(value.cell) is PickedCell
    chosen = [x for x in (value.cell.items if picked else [value]) if type(x) is Array and x.holds_memory]
    for j, x in enumerate(before):
        new: Any = np.where(place == j, value, x)
        for old in [*chosen, *([x] if type(x) is Array and x.holds_memory else [])]:
            new.cell.stand_beside(old.cell)  # which of them the new item is, is not known
        if picked and new.holds_memory:
            new.cell.read_only = CHOSEN
        items[j] = new
    return True


def _is_there(items: list[Any], key: Any, value: Any) -> bool:
    """Whether the value is what stands at the key: `items[key] += 1` has written into it, and puts it back."""
    cell = value.cell if type(value) is Array else None
    if type(cell) is not PickedCell or cell.key is not key or len(value.path) != 1:
        return False
    return len(items) == len(cell.items) and all(a is b for a, b in zip(items, cell.items, strict=True))

