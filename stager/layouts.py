"""Where the elements of a view stand in memory: offset, shape and byte strides, followed through view ops.

NumPy returns views as views; so does compiled code, and this is how it knows their strides. A path that no strides can
express (a reshape that NumPy would copy) has no layout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stager.cells import RETURNED, ViewStep
from stager.ir.dims import Dim, contiguous_strides
from stager.ir.types import Type


@dataclass(frozen=True)
class Layout:
    """Byte offset and byte strides of an array within its base's memory."""

    type: Type
    offset: Dim
    strides: tuple[Dim, ...]

    @staticmethod
    def contiguous(type: Type) -> Layout:
        """A C-contiguous array."""
        return Layout(type, 0, contiguous_strides(type.shape, type.dtype.itemsize))

    @staticmethod
    def of_input(x: Any, type: Type) -> Layout:
        """A caller's array; one with symbolic dims stands for any contiguous array, whatever the one that came."""
        given = isinstance(x, np.ndarray) and type.is_static
        return Layout(type, 0, tuple(x.strides)) if given else Layout.contiguous(type)


def _transpose(layout: Layout, *, perm: Sequence[int]) -> tuple[Dim, tuple[Dim, ...]]:
    return layout.offset, tuple([layout.strides[p] for p in perm])


def _broadcast(layout: Layout, *, shape: Sequence[Dim], axes: Sequence[int]) -> tuple[Dim, tuple[Dim, ...]]:
    strides: list[Dim] = [0] * len(shape)
    for d, s, k in zip(layout.type.shape, layout.strides, axes, strict=True):
        strides[k] = 0 if d == 1 and shape[k] != 1 else s
    return layout.offset, tuple(strides)


def _slice(
    layout: Layout, *, starts: Sequence[Dim], sizes: Sequence[Dim], steps: Sequence[int]
) -> tuple[Dim, tuple[Dim, ...]]:
    offset = layout.offset
    for start, stride in zip(starts, layout.strides, strict=True):
        offset = offset + start * stride
    return offset, tuple([stride * step for stride, step in zip(layout.strides, steps, strict=True)])


def _diagonal(layout: Layout, *, axis1: int, axis2: int, offset: int) -> tuple[Dim, tuple[Dim, ...]]:
    rest = [s for k, s in enumerate(layout.strides) if k not in (axis1, axis2)]
    s1, s2 = layout.strides[axis1], layout.strides[axis2]
    start = layout.offset + (s2 * offset if offset >= 0 else s1 * -offset)
    return start, (*rest, s1 + s2)


def _windows(layout: Layout, *, axis: int, size: Dim, step: int) -> tuple[Dim, tuple[Dim, ...]]:
    s = layout.strides
    return layout.offset, (*s[:axis], s[axis] * step, *s[axis + 1 :], s[axis])


def _ints(dims: Sequence[Dim]) -> tuple[int, ...]:
    return tuple([d for d in dims if isinstance(d, int)])


def _reshape(layout: Layout, *, shape: Sequence[Dim]) -> tuple[Dim, tuple[Dim, ...]] | None:
    old, item = layout.type.shape, layout.type.dtype.itemsize
    if layout.strides == contiguous_strides(old, item):
        return layout.offset, contiguous_strides(tuple(shape), item)
    # unit axes come and go freely; the others are merged and divided again, on concrete dims
    kept = [(d, s) for d, s in zip(old, layout.strides, strict=True) if d != 1]
    if [d for d, _ in kept] == [d for d in shape if d != 1]:
        rest = iter(kept)
        return layout.offset, tuple([next(rest)[1] if d != 1 else item for d in shape])
    if not all(isinstance(v, int) for v in (*old, *layout.strides, *shape)):
        return None
    if 0 in shape:
        return layout.offset, contiguous_strides(tuple(shape), item)
    strides = _regrouped([_ints(axis) for axis in kept], _ints(shape), item)
    return None if strides is None else (layout.offset, strides)


def _regrouped(axes: Sequence[Sequence[int]], shape: Sequence[int], item: int) -> tuple[int, ...] | None:
    """Strides that show axes (sizes and strides, none of size 1) as ``shape``; None where NumPy would copy."""
    blocks: list[tuple[int, int]] = []  # runs of axes that one stride walks through
    for size, stride in axes:
        if blocks and blocks[-1][1] == size * stride:
            size *= blocks.pop()[0]
        blocks.append((size, stride))
    strides, room, step = [], 1, item
    for size in reversed(shape):
        if room == 1 and size != 1:
            room, step = blocks.pop()
        if room % size:
            return None
        strides.append(step)
        room, step = room // size, step * size
    return tuple(reversed(strides))


FOLLOW: dict[str, Callable[..., Any]] = {
    "transpose": _transpose, "broadcast": _broadcast, "slice": _slice, "diagonal": _diagonal, "windows": _windows,
    "reshape": _reshape,
}  # fmt: skip


def follow(layout: Layout, path: Sequence[ViewStep]) -> Layout | None:
    """The layout after a path of views, or None where memory cannot show it."""
    for step in path:
        rule = FOLLOW.get(step.op.name)  # none for a view at a traced position
        found = None if rule is None else rule(layout, **step.params)
        if found is None:
            return None
        layout = Layout(step.op.type_rule(layout.type, **step.params), *found)
    return layout


def layout_of(x: Any) -> Layout | None:
    """Where the elements of a handle stand in the memory of the caller's array, or of the one that its cell is.

    An argument of a level stands where the handle outside stands, without the axis that the level maps over.
    """
    cell = x.cell
    if cell.origin is not None:
        start: Layout | None = Layout.of_input(cell.origin, cell.type)
    elif cell.lent is not None and cell.lent is not RETURNED:
        start = layout_of(cell.lent)
        if start is not None and cell.lane is not None:
            k = cell.lane
            start = Layout(cell.type, start.offset, start.strides[:k] + start.strides[k + 1 :])
    else:
        start = Layout.contiguous(cell.type)
    return None if start is None else follow(start, list(x.path))


def compact(layout: Layout) -> bool:
    """Whether the elements stand side by side in the order of C."""
    shape, strides = layout.type.shape, contiguous_strides(layout.type.shape, layout.type.dtype.itemsize)
    rows = zip(shape, layout.strides, strides, strict=True)
    return layout.type.size == 0 or all(d == 1 or s == p for d, s, p in rows)


def is_contiguous(x: Any) -> bool:
    """Whether NumPy's array would be C-contiguous."""
    found = layout_of(x)
    return found is not None and compact(found)
