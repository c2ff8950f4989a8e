"""Rows of one array as the items of a list: made lazily, and joined again as one slice of the array.

A loop that appends to a list leaves such rows (`stager/capture/growing.py`); `[x[i] for i in range(n)]` makes them of
an array with two axes or more. What joins arrays asks `runs` first, so that its graph has no node per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from stager.array import Array, wrap
from stager.cells import Element, ViewStep
from stager.ir.types import Type
from stager.ops.views import _reshape, _slice

LEAST = 5  # consecutive rows that are joined as one slice


def rows_of(x: Array, weak: bool) -> list[Array]:
    """The rows of an array, as views; those of a vector stand for NumPy scalars."""
    n, *shape = x.type.shape
    last = (ViewStep if shape else Element)(_reshape.op, {"shape": tuple(shape)})
    row = Type(x.type.dtype, tuple(shape))
    zeros, sizes, steps = (0,) * len(shape), (1, *shape), (1,) * (1 + len(shape))
    return [
        Array(x.cell, (ViewStep(_slice.op, {"starts": (k, *zeros), "sizes": sizes, "steps": steps}), last), row, weak)
        for k in range(int(n))
    ]


def _place(x: Any) -> int | None:
    """k where x is row k of all that its cell holds."""
    if type(x) is not Array or len(x.path) != 2:
        return None
    shape, base = x.type.shape, x.cell.type.shape
    first, last = x.path
    if first.op is not _slice.op or last.op is not _reshape.op or base[1:] != shape or len(base) != 1 + len(shape):
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


def runs(items: Sequence[Any]) -> list[Any] | None:
    """The items with each stretch of evenly spaced rows of one array as a `Run`. None when there is none."""
    if len(items) < LEAST or not any(type(x) is Array and len(x.path) == 2 for x in items):
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
            while end < n and places[end] == first + (end - k) * step and _alike(items[k], items[end]):
                end += 1
        if end - k < LEAST:
            out.append(items[k])
            k += 1
            continue
        out.append(Run(_block(items[k], int(first or 0), end - k, step), items[k]))
        k = end
    return out if any(type(x) is Run for x in out) else None


def whole(items: Any) -> Array | None:
    """The array of which the items of a list are rows, all of them one run."""
    found = runs(items) if type(items) is list else None
    return found[0].block if found is not None and len(found) == 1 else None


def summed(x: Array, total: Any, weak: bool) -> Any:
    """`total`, which holds row 0 already, plus the other rows of x, one after the other as Python's `sum` adds them."""
    from stager.ops.control import for_loop
    from stager.ops.tapes import read_row

    shape = x.type.shape[1:]

    def body(i: Any, before: Any) -> list[Any]:
        added: Any = wrap(before, total.weak)
        return [(added + wrap(read_row(x.raw(), shape, i), weak)).raw()]

    (out,) = for_loop(1, x.type.shape[0], [total.raw()], body)
    return wrap(out, total.weak)


def _alike(x: Array, y: Array) -> bool:
    return x.cell is y.cell and x.weak == y.weak


def _block(row: Array, start: int, count: int, step: int) -> Array:
    base = Array(row.cell, (), row.cell.type)
    if start == 0 and step == 1 and base.type.shape[0] == count:
        return base
    shape = row.type.shape
    return base.view_by(
        _slice.op, starts=(start, *(0,) * len(shape)), sizes=(count, *shape), steps=(step, *(1,) * len(shape))
    )
