"""Joining, splitting, repeating, rolling, taking, turning."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.ir.dims import Dim, Expr, dim_max, dim_min, floordiv, mod, product
from stager.ir.dtypes import i64
from stager.ir.types import Type
from stager.numpy.creation import concrete
from stager.numpy.indexing import getitem, normalize_slice
from stager.numpy.promotion import broadcast_raw, operand
from stager.numpy.reductions import normalize_axes
from stager.numpy.registry import FUNCTIONS, implements
from stager.numpy.rows import LEAST, Run, runs, to_join
from stager.numpy.shaping import axis_of, broadcast_to, concatenate, expand_dims, handle, ravel, reshape, stack
from stager.numpy.ufuncs import apply_ufunc, truth
from stager.ops import elementwise as op
from stager.ops import structural, views
from stager.ops.effects import check
from stager.ops.families import full_like
from stager.ops.indexed import gather
from stager.ops.reductions import reduce_and, reduce_sum
from stager.ops.regions import dim_value
from stager.ops.scans import cumsum
from stager.ops.sort import searchsorted
from stager.ops.structural import iota
from stager.symbols import decide, extent_of, size_of


@implements(np.atleast_1d)
def atleast_1d(*arys: Any) -> Any:
    """At least one axis: views."""
    out = [reshape(a, (1,)) if a.ndim == 0 else a for a in map(handle, arys)]
    return out[0] if len(out) == 1 else tuple(out)


@implements(np.atleast_2d)
def atleast_2d(*arys: Any) -> Any:
    """At least two axes: views."""
    out = [a if a.ndim > 1 else reshape(a, (1, 1)) if a.ndim == 0 else expand_dims(a, 0) for a in map(handle, arys)]
    return out[0] if len(out) == 1 else tuple(out)


@implements(np.atleast_3d)
def atleast_3d(*arys: Any) -> Any:
    """At least three axes: views."""
    out = []
    for a in map(handle, arys):
        shape = a.type.shape
        out.append(
            a
            if a.ndim > 2
            else reshape(a, (1, 1, 1))
            if a.ndim == 0
            else reshape(a, (1, *shape, 1))
            if a.ndim == 1
            else reshape(a, (*shape, 1))
        )
    return out[0] if len(out) == 1 else tuple(out)


def _at_least(a: Any, ndim: int) -> Any:
    """An operand with so many axes; of a `Run`, each row."""
    if type(a) is not Run:
        return (atleast_1d, atleast_2d, atleast_3d)[ndim - 1](a)
    missing = ndim - a.row.ndim
    if missing <= 0:
        return a
    count, *shape = a.block.type.shape
    front = (0, 1, 1)[missing] if ndim == 3 and shape else missing
    new = (*(1,) * front, *shape, *(1,) * (missing - front))
    block = reshape(a.block, (count, *new))
    return Run(block, Array(block.cell, block.path, Type(block.type.dtype, new), a.row.weak))


def _are_runs(items: list[Any], ndim: int) -> bool:
    """Whether these are arrays of one shape of so many axes, rows of one array among them."""
    if len(items) == 1 and type(items[0]) is Run:
        return items[0].row.ndim == ndim
    return (
        len(items) >= LEAST
        and all(type(x) is Array and x.ndim == ndim and x.type.shape == items[0].type.shape for x in items)
        and runs(items) is not None
    )


@implements(np.vstack)
def vstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Array:
    """Rows below one another."""
    tup = to_join(tup)
    if _are_runs(tup, 1):
        return stack(tup, 0, dtype=dtype, casting=casting)
    return concatenate([_at_least(a, 2) for a in tup], 0, dtype=dtype, casting=casting)


@implements(np.hstack)
def hstack(tup: Any, *, dtype: Any = None, casting: str = "same_kind") -> Array:
    """Columns beside one another."""
    tup = to_join(tup)
    if _are_runs(tup, 0):
        return stack(tup, 0, dtype=dtype, casting=casting)
    arrays = [_at_least(a, 1) for a in tup]
    first = arrays[0].row if type(arrays[0]) is Run else arrays[0]
    return concatenate(arrays, 0 if first.ndim == 1 else 1, dtype=dtype, casting=casting)


@implements(np.dstack)
def dstack(tup: Any) -> Array:
    """Along the third axis."""
    return concatenate([_at_least(a, 3) for a in to_join(tup)], 2)


@implements(np.column_stack)
def column_stack(tup: Any) -> Array:
    """One-dimensional arrays as columns."""
    tup = to_join(tup)
    if _are_runs(tup, 1):
        return stack(tup, 1)
    return concatenate([_as_column(x) for x in tup], 1)


def _as_column(x: Any) -> Any:
    if type(x) is Run:
        return x
    a = handle(x)
    return reshape(a, (a.type.size, 1)) if a.ndim < 2 else a


@implements(np.block)
def block(arrays: Any) -> Array:
    """Blocks from nested lists, innermost along the last axis."""

    def depth(x: Any) -> int:
        return 1 + max(depth(i) for i in x) if isinstance(x, list) else 0

    levels = depth(arrays)
    leaves: list[Array] = []

    def collect(x: Any) -> None:
        if isinstance(x, list):
            for i in x:
                collect(i)
        else:
            leaves.append(handle(x))

    collect(arrays)
    ndim = max([levels, *[a.ndim for a in leaves]])

    def join(x: Any, level: int) -> Array:
        if not isinstance(x, list):
            a = handle(x)
            return reshape(a, (*(1,) * (ndim - a.ndim), *a.type.shape))
        return concatenate([join(i, level + 1) for i in x], axis=ndim - levels + level)

    return join(arrays, 0)


def _split_points(n: Dim, sections: Any, equal: bool) -> list[tuple[Dim, Dim]]:
    if isinstance(sections, Array):
        sections = sections.__index__() if not sections.ndim else list(sections)  # type: ignore[call-overload]
    if isinstance(sections, int | np.integer):
        count = int(sections)
        if count <= 0:
            raise ValueError("number sections must be larger than 0.")
        size, extra = floordiv(n, count), mod(n, count)
        if equal and not decide("==", extra, 0):
            raise ValueError("array split does not result in an equal division")
        extra = 0 if equal else extra
        ends = [size * k + dim_min(k, extra) for k in range(count)]
        return list(itertools.pairwise([*ends, n]))
    points = [0, *[size_of(p) for p in sections], None]
    found = [normalize_slice(slice(a, b), n) for a, b in itertools.pairwise(points)]
    return [(start, start + size) for start, size, _ in found]


@implements(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0, *, equal: bool = False) -> list[Array]:
    """Pieces along an axis, as views."""
    a = handle(ary)
    k = axis_of(axis, a.ndim)
    return [
        getitem(a, (slice(None),) * k + (slice(lo, hi),))
        for lo, hi in _split_points(a.type.shape[k], indices_or_sections, equal)
    ]


@implements(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Array]:
    """Equal pieces (or pieces at given positions), as views."""
    return array_split(ary, indices_or_sections, axis, equal=True)


@implements(np.hsplit)
def hsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """Pieces along the second axis (the first of a vector)."""
    return split(ary, indices_or_sections, 0 if handle(ary).ndim == 1 else 1)


@implements(np.vsplit)
def vsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """Pieces along the first axis."""
    return split(ary, indices_or_sections, 0)


@implements(np.dsplit)
def dsplit(ary: Any, indices_or_sections: Any) -> list[Array]:
    """Pieces along the third axis."""
    return split(ary, indices_or_sections, 2)


@implements(np.tile)
def tile(A: Any, reps: Any) -> Array:
    """The array repeated as a whole."""
    a = handle(A)
    counts = [concrete(r, "tile", "reps") for r in (reps if isinstance(reps, tuple | list) else (reps,))]
    ndim = max(len(counts), a.ndim)
    counts = [1] * (ndim - len(counts)) + counts
    shape = [1] * (ndim - a.ndim) + list(a.type.shape)
    spread = [d for n, s in zip(counts, shape, strict=True) for d in (n, s)]
    source = views.reshape(a.raw(), shape=[d for s in shape for d in (1, s)])
    out = broadcast_raw(source, tuple(spread))
    return wrap(op.copy(views.reshape(out, shape=[n * s for n, s in zip(counts, shape, strict=True)])))


@implements(np.repeat, method="repeat")
def repeat(a: Any, repeats: Any, axis: Any = None) -> Array:
    """Each element repeated. Counts that only the run knows give a size that only the run knows."""
    a = handle(a)
    if axis is None:
        a, axis = ravel(a), 0
    a = a if a.ndim else ravel(a)
    k = axis_of(axis, a.ndim)
    n = a.type.shape[k]
    counts: Any = repeats if type(repeats) is Array else np.asarray(repeats)
    if type(counts) is Array and counts.ndim == 0:
        counts = size_of(counts)
        if isinstance(counts, Expr):
            return _repeated_alike(a, extent_of(repeats), k)
        counts = np.asarray(counts)
    if type(counts) is Array:
        return _repeated(a, counts, k)
    if counts.ndim == 0 or counts.size == 1:
        c = int(counts.reshape(()))
        if c < 0:
            raise ValueError("repeats may not contain negative values.")
        return _repeated_alike(a, c, k)
    return take(a, np.repeat(np.arange(n), counts), axis=k)


def _repeated_alike(a: Array, c: Dim, k: int) -> Array:
    shape = a.type.shape
    r = views.reshape(a.raw(), shape=(*shape[: k + 1], 1, *shape[k + 1 :]))
    r = broadcast_raw(r, (*shape[: k + 1], c, *shape[k + 1 :]))
    return wrap(op.copy(views.reshape(r, shape=(*shape[:k], shape[k] * c, *shape[k + 1 :]))))


def _repeated(a: Array, counts: Array, k: int) -> Array:
    """Element i of axis k stands where i counts end at or before: found by bisection of their running sum."""
    if counts.dtype.kind not in "iub":
        raise TypeError(f"Cannot cast array data from {counts.dtype!r} to dtype('int64') according to the rule 'safe'")
    n = a.type.shape[k]
    if counts.type.shape not in ((n,), (1,)):
        raise ValueError(f"operands could not be broadcast together with shape ({n},) {tuple(counts.type.shape)}")
    each = broadcast_raw(operand(counts, i64), (n,))
    fine = reduce_and(op.ge(each, full_like(each, 0)), axes=(0,))
    check(fine, exception="ValueError", text="repeats may not contain negative values.")
    total = extent_of(wrap(reduce_sum(each, axes=(0,))))
    position = searchsorted(cumsum(each, axis=0, reverse=False), iota(total), side="right")
    taken = gather(a.raw(), position, axes=(k,), batch_dims=0, mode="clip")
    return wrap(views.moveaxis(taken, 0, k))


@implements(np.take, method="take")
def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Array:
    """Elements at positions along an axis (of the flattened array when it is None)."""
    from stager.numpy.reductions import deliver
    from stager.numpy.ufuncs import as_array_like

    a = handle(a)
    if axis is None:
        a, axis = ravel(a), 0
    k = axis_of(axis, a.ndim)
    idx = as_array_like(indices)
    idx = np.asarray(idx) if not isinstance(idx, Array) else idx
    if idx.dtype.kind not in "iub":
        raise TypeError(f"Cannot cast array data from {idx.dtype!r} to dtype('int64') according to the rule 'safe'")
    position = operand(idx, i64)
    modes = {"raise": "check", "wrap": "wrap", "clip": "clip"}
    if mode not in modes:
        raise ValueError(f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
    if a.type.shape[k] == 0 and product(position.type.shape) != 0:
        raise IndexError("cannot do a non-empty take from an empty axes.")
    taken = gather(a.raw(), position, axes=(k,), batch_dims=0, mode=modes[mode])
    rank = len(position.type.shape)
    perm = (*range(rank, rank + k), *range(rank), *range(rank + k, len(taken.type.shape)))
    return deliver(wrap(views.transpose(taken, perm=perm)), out, "take")


@implements(np.roll)
def roll(a: Any, shift: Any, axis: Any = None) -> Array:
    """Elements moved around along axes."""
    a = handle(a)
    if axis is None:
        return reshape(roll(ravel(a), shift, 0), a.type.shape)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    shifts = shift if isinstance(shift, tuple | list) else (shift,) * len(axes)
    r = a.raw()
    for s, k in zip(shifts, axes, strict=True):
        k = axis_of(k, a.ndim)
        n = r.type.shape[k]
        if type(s) is Array and not s.weak:
            extent = dim_value(n)
            count = op.mod(operand(s, i64), extent)  # all the way round is not at all: no sum overflows
            position = op.mod(op.sub(iota(n), broadcast_raw(count, (n,))), broadcast_raw(extent, (n,)))
            taken = gather(r, position, axes=(k,), batch_dims=0, mode="promise")
            r = views.moveaxis(taken, 0, k)
            continue
        step = mod(size_of(concrete(s, "roll", "shift")), n if isinstance(n, int) and n else dim_max(n, 1))
        if step == 0:
            continue
        r = structural.concatenate(views.slice_axis(r, k, n - step, step), views.slice_axis(r, k, 0, n - step), axis=k)
    return wrap(op.copy(r) if r is a.raw() else r)


@implements(np.append)
def append(arr: Any, values: Any, axis: Any = None) -> Array:
    """values after arr."""
    if axis is None:
        return concatenate([ravel(arr), ravel(values)], 0)
    return concatenate([arr, values], axis)


@implements(np.insert)
def insert(arr: Any, obj: Any, values: Any, axis: Any = None) -> Array:
    """values before the given positions, which must be known while tracing."""
    a = handle(arr)
    if axis is None:
        a, axis = ravel(a), 0
    k = axis_of(axis, a.ndim)
    n = a.type.shape[k]
    known = _known_positions(obj, "insert", n)
    v = handle(values)
    where = np.insert(np.arange(n.__index__()), known, -1 - np.arange(np.size(known)) if np.ndim(known) else -1)
    single = np.ndim(known) == 0
    source = operand(v, a.type.dtype)
    if single and source.type.shape and len(source.type.shape) == a.ndim:
        count = source.type.shape[k]
        parts = [views.slice_axis(a.raw(), k, 0, int(known) % (n + 1) if int(known) >= 0 else n + int(known)), source]
        start = int(known) if int(known) >= 0 else n + int(known)
        parts = [views.slice_axis(a.raw(), k, 0, start), source, views.slice_axis(a.raw(), k, start, n - start)]
        assert count is not None
        return wrap(structural.concatenate(*parts, axis=k))
    m = int((where < 0).sum())
    shape = tuple([m if i == k else d for i, d in enumerate(a.type.shape)])
    if single and len(source.type.shape) < a.ndim and len(source.type.shape) > 0:
        source = views.reshape(source, shape=(*source.type.shape[:k], 1, *source.type.shape[k:]))
    joined = structural.concatenate(a.raw(), broadcast_raw(source, shape), axis=k)
    order = np.where(where >= 0, where, n.__index__() - 1 - where)
    return take(wrap(joined), order, axis=k)


@implements(np.delete)
def delete(arr: Any, obj: Any, axis: Any = None) -> Array:
    """Without the given positions, which must be known while tracing."""
    a = handle(arr)
    if axis is None:
        a, axis = ravel(a), 0
    k = axis_of(axis, a.ndim)
    n = a.type.shape[k].__index__()
    keep = np.delete(np.arange(n), _known_positions(obj, "delete", n))
    return take(a, keep, axis=k)


def _known_positions(obj: Any, name: str, n: Any) -> Any:
    if isinstance(obj, slice):
        return np.arange(n)[obj]
    if isinstance(obj, Array):
        return concrete(obj, name, "the position")
    if not isinstance(obj, list | tuple):
        return obj
    return np.asarray(obj) if len(obj) else np.zeros(0, np.intp)


@implements(np.broadcast_arrays)
def broadcast_arrays(*args: Any, subok: bool = False) -> tuple[Array, ...]:
    """All arrays at their common shape: read-only views."""
    from stager.numpy.promotion import broadcast_shapes

    arrays = [handle(a) for a in args]
    shape = broadcast_shapes("broadcast_arrays", [a.type.shape for a in arrays])
    return tuple([broadcast_to(a, shape) for a in arrays])


@implements(np.fliplr)
def fliplr(m: Any) -> Array:
    """The second axis reversed."""
    return getitem(handle(m), (slice(None), slice(None, None, -1)))


@implements(np.flipud)
def flipud(m: Any) -> Array:
    """The first axis reversed."""
    return getitem(handle(m), slice(None, None, -1))


@implements(np.rot90)
def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Array:
    """Rotated by quarter turns: a view."""
    from stager.numpy.shaping import flip, swapaxes

    a = handle(m)
    i, j = axes
    turns = k.__index__() % 4
    if turns == 0:
        return a
    if turns == 2:
        return flip(flip(a, i), j)
    return flip(swapaxes(a, i, j), i) if turns == 1 else swapaxes(flip(a, i), i, j)


@implements(np.rollaxis)
def rollaxis(a: Any, axis: int, start: int = 0) -> Array:
    """An axis moved back before `start`."""
    from stager.numpy.shaping import moveaxis

    x = handle(a)
    k = axis_of(axis, x.ndim)
    start = start + x.ndim if start < 0 else start
    return moveaxis(x, k, start - 1 if k < start else start)


@implements(np.trim_zeros)
def trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    """What stands between the first and the last element, along each axis, that is not zero."""
    a = handle(filt)
    trim = trim.lower()
    if trim not in ("fb", "bf", "f", "b"):
        raise ValueError(f"unexpected character(s) in `trim`: {trim!r}")
    axes = range(a.ndim) if axis is None else normalize_axes(axis, a.ndim)
    found: Any = a
    for k in axes:
        n = a.type.shape[k]
        if n == 0:
            continue
        others = tuple([i for i in range(a.ndim) if i != k])
        kept = FUNCTIONS[np.any](wrap(truth(a.raw())), axis=others)
        none = apply_ufunc(np.logical_not, FUNCTIONS[np.any](kept))
        first = FUNCTIONS[np.where](none, 0, FUNCTIONS[np.argmax](kept) if "f" in trim else 0)
        last = FUNCTIONS[np.where](none, 0, n - FUNCTIONS[np.argmax](kept[::-1]) if "b" in trim else n)
        found = getitem(found, (*[slice(None)] * k, slice(first, last)))
    return found
