"""Rows of one array as the items of a list: made lazily, and joined again as one slice of the array.

A loop that appends to a list leaves such rows (`stager/capture/growing.py`); `[x[i] for i in range(n)]` makes them of
an array with two axes or more. What joins arrays asks `runs` first, so that its graph has no node per row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from stager.array import Array, wrap
from stager.cells import Element, ViewStep, replay
from stager.ir.types import Type
from stager.ops.views import _reshape, _slice

LEAST = 5  # consecutive rows that are joined as one slice


def rows_of(x: Array, weak: bool) -> list[Array]:
    """The rows of an array, as views; those of a vector stand for NumPy scalars."""
    n, *shape = x.type.shape
    last = (ViewStep if shape else Element)(_reshape.op, {"shape": tuple(shape)})
    row = Type(x.type.dtype, tuple(shape))
    zeros, sizes, steps = (0,) * len(shape), (1, *shape), (1,) * (1 + len(shape))
    cell, path, op = x.cell, x.path, _slice.op
    return [
        Array(cell, (*path, ViewStep(op, {"starts": (k, *zeros), "sizes": sizes, "steps": steps}), last), row, weak)
        for k in range(int(n))
    ]


def _place(x: Any) -> int | None:
    """k where x is row k of all that its cell holds, or of a row of it."""
    if type(x) is not Array or len(x.path) < 2:
        return None
    *around, first, last = x.path
    if first.op is not _slice.op or last.op is not _reshape.op:
        return None
    if around and around[-1].op is not _reshape.op:
        return None
    shape, base = x.type.shape, around[-1].params["shape"] if around else x.cell.type.shape
    if base[1:] != shape or len(base) != 1 + len(shape):
        return None
    starts = first.params["starts"]
    if first.params["sizes"] != (1, *shape) or type(starts[0]) is not int or any(d != 0 for d in starts[1:]):
        return None
    if last.params["shape"] != shape:
        return None
    return starts[0]


class Run(NamedTuple):
    """Consecutive rows of one array: `block` stacks them, `row` is the first."""

    block: Array
    row: Array


def to_join(arrays: Any) -> list[Any]:
    """The operands of what joins arrays; a `Run` stands for all of its rows."""
    return [arrays] if type(arrays) is Run else list(arrays)


def runs(items: Sequence[Any]) -> list[Any] | None:
    """The items with each stretch of evenly spaced rows of one array as a `Run`. None when there is none."""
    if any(type(x) is Run for x in items):
        return list(items)
    if len(items) < LEAST or not any(type(x) is Array and x.path for x in items):
        return None
    places = [_place(x) for x in items]
    out: list[Any] = []
    k, n = 0, len(items)
    while k < n:
        end = k + 1
        first = places[k]
        second = places[end] if end < n else None
        if first is not None and second is not None and second != first:
            step = second - first
            while end < n and places[end] == first + (end - k) * step and _of_one(items[k], items[end]):
                end += 1
            if end - k >= LEAST:
                out.append(Run(_block(items[k], int(first), end - k, step), items[k]))
        if end - k < LEAST:
            end, strides = _sliding(items, k)
            out.append(Run(_windows(items[k], end - k, strides), items[k]) if end - k >= LEAST else items[k])
            end = end if end - k >= LEAST else k + 1
        k = end
    return out if any(type(x) is Run for x in out) else None


def _sliding(items: Sequence[Any], k: int) -> tuple[int, tuple[int, ...]]:
    """(behind the last of the items from k on that are one view of one array, moved on evenly; how far each time)."""
    strides = _moved(items[k], items[k + 1]) if k + 1 < len(items) else None
    if strides is None or not any(strides):
        return k + 1, ()
    end = k + 2
    while end < len(items) and _moved(items[end - 1], items[end]) == strides:
        end += 1
    return end, strides


def _moved(x: Any, y: Any) -> tuple[int, ...] | None:
    """How far the slice that y begins with stands from x's, where both are the same view otherwise."""
    if type(x) is not Array or type(y) is not Array or not _alike(x, y) or x.type != y.type:
        return None
    if not x.path or len(x.path) != len(y.path) or x.path[0].op is not _slice.op or y.path[0].op is not _slice.op:
        return None
    for a, b in zip(x.path, y.path, strict=True):
        if type(a) is not type(b) or type(a) not in (ViewStep, Element) or a.op is not b.op:
            return None
        if a is not x.path[0] and a.params != b.params:
            return None
    one, other = x.path[0].params, y.path[0].params
    if one["sizes"] != other["sizes"] or one["steps"] != other["steps"]:
        return None
    moved = tuple([q - p for p, q in zip(one["starts"], other["starts"], strict=True)])
    return moved if all(type(d) is int for d in moved) else None


def _windows(first: Array, count: int, strides: tuple[int, ...]) -> Array:
    """So many views stacked, each moved on from the one before."""
    from stager.ops.control import map_lanes
    from stager.ops.regions import dim_of

    slice_step, *others = first.path
    starts = slice_step.params["starts"]

    def window(lane: Any) -> list[Any]:
        k = dim_of(lane)
        places = tuple([s + k * d if d else s for s, d in zip(starts, strides, strict=True)])
        moved = ViewStep(_slice.op, {**slice_step.params, "starts": places})
        return [replay(first.cell.read(), (moved, *others))]

    return wrap(map_lanes(count, window)[0])


def whole(items: Any) -> Array | None:
    """The array of which the items of a list are rows, all of them one run."""
    found = runs(items) if type(items) is list else None
    return found[0].block if found is not None and len(found) == 1 else None


def summed(x: Array, total: Any, weak: bool, begin: int = 1) -> Any:
    """`total` plus the rows of x from row `begin` on, one after the other as Python's `sum` adds them."""
    return _folded(x, total, weak, lambda before, row: before + row, begin)


def extreme(x: Array, first: Any, less: bool, weak: bool) -> Any:
    """The least or greatest row of a vector as Python finds it: the first unless the next is truly beyond it."""
    return _folded(x, first, weak, lambda best, row: np.where(row < best if less else row > best, row, best))


def _folded(x: Array, first: Any, weak: bool, step: Callable[[Any, Any], Any], begin: int = 1) -> Any:
    """`step(… step(first, row begin) …, last row)`."""
    from stager.ops.control import for_loop
    from stager.ops.regions import dim_value
    from stager.ops.rows import read_row

    shape = x.type.shape[1:]

    def body(i: Any, before: Any) -> list[Any]:
        return [step(wrap(before, first.weak), wrap(read_row(x.raw(), shape, i), weak)).raw()]

    (out,) = for_loop(begin, dim_value(x.type.shape[0]), [first.raw()], body)
    return wrap(out, first.weak)


def _alike(x: Array, y: Array) -> bool:
    return x.cell is y.cell and x.weak == y.weak


def _of_one(x: Array, y: Array) -> bool:
    """Whether two rows are rows of one array."""
    if x.cell is not y.cell or x.weak != y.weak or len(x.path) != len(y.path):
        return False
    around = zip(x.path[:-2], y.path[:-2], strict=True)
    return all(a is b or (type(a) is type(b) is ViewStep and a.op is b.op and a.params == b.params) for a, b in around)


def _block(row: Array, start: int, count: int, step: int) -> Array:
    around = row.path[:-2]
    t = Type(row.cell.type.dtype, around[-1].params["shape"]) if around else row.cell.type
    base = Array(row.cell, around, t)
    if start == 0 and step == 1 and base.type.shape[0] == count:
        return base
    shape = row.type.shape
    return base.view_by(
        _slice.op, starts=(start, *(0,) * len(shape)), sizes=(count, *shape), steps=(step, *(1,) * len(shape))
    )
