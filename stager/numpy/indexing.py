"""Indexing of traced arrays: `x[...]` and `x[...] = v` with every kind of index NumPy takes.

Basic indices (ints, slices, newaxis, ellipsis) are views: a `slice` and a `reshape` on the handle's path, so writes
reach the base. Integer arrays are `gather` and `scatter`, boolean arrays are selected or turned into positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from stager.array import Array, raw, wrap
from stager.bounds import at_most, lower, simplify, upper
from stager.cells import PickStep
from stager.errors import ConcretizationError, ShapeError, describe
from stager.ir.dims import Dim, Expr, dim_max, dim_min, evaluate, floordiv, symbols_of
from stager.ir.dtypes import i64
from stager.ir.types import Type
from stager.numpy.promotion import broadcast_raw, broadcast_shapes, operand, reconciled
from stager.numpy.ufuncs import as_array_like
from stager.ops import elementwise as op
from stager.ops.views import _reshape, _slice, reshape, transpose
from stager.symbols import agreed_extent, decide, hinted, number, size_of, within_i64


class Plan(NamedTuple):
    """An index taken apart: basic slices of every axis, then positions by arrays, then new axes."""

    starts: tuple[Dim, ...]
    sizes: tuple[Dim, ...]
    steps: tuple[int, ...]
    shape: tuple[Dim, ...]  # of the basic part: ints dropped, new axes in
    arrays: tuple[tuple[int, Any], ...]  # (axis of `shape`, integer index array)
    front: bool  # index dims go first: the arrays were not side by side


def expand(index: Any, ndim: int) -> list[Any]:
    """The index as a list with one item per axis, plus None for new axes; booleans still whole."""
    items = list(index) if isinstance(index, tuple) else [index]
    items = [
        np.asarray(i) if isinstance(i, list) and not _has_tracer(i) else as_array_like(i) if isinstance(i, list) else i
        for i in items
    ]
    used = sum(_axes_of(i) for i in items)
    dots = [k for k, i in enumerate(items) if i is Ellipsis]
    if len(dots) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if used > ndim:
        raise IndexError(f"too many indices for array: array is {ndim}-dimensional, but {used} were indexed")
    fill = [slice(None)] * (ndim - used)
    if dots:
        items[dots[0] : dots[0] + 1] = fill
    else:
        items += fill
    return items


def _has_tracer(items: Sequence[Any]) -> bool:
    return any(type(i) is Array or (isinstance(i, list | tuple) and _has_tracer(i)) for i in items)


def _is_bool(i: Any) -> bool:
    return isinstance(i, bool | np.bool_) or (isinstance(i, Array | np.ndarray) and i.dtype == np.bool_)


def _axes_of(item: Any) -> int:
    if item is None or item is Ellipsis:
        return 0
    if _is_bool(item):
        return int(getattr(item, "ndim", 0))
    return 1


def normalize_slice(s: slice, n: Dim) -> tuple[Dim, Dim, int]:
    """(start, size, step) of a slice of an axis of n elements, clamped as Python clamps."""
    step = 1 if s.step is None else s.step.__index__()
    if step == 0:
        raise ValueError("slice step cannot be zero")
    start, stop = _bound(s.start), _bound(s.stop)
    if not isinstance(n, Expr) and not isinstance(start, Expr) and not isinstance(stop, Expr):
        r = range(*slice(start, stop, step).indices(n))
        return r.start, len(r), step
    if step > 0:
        first = 0 if start is None else _clamp(start, n, 0)
        last = n if stop is None else _clamp(stop, n, 0)
        # unclamped where that cannot matter, so that x[1:] and x[:-1] have one size: max(0, n - 1)
        begin = start if start is not None and at_most(0, start) else first
        end = n + stop if stop is not None and at_most(stop, -1) else last
        span = end - begin
    else:
        first = n - 1 if start is None else _clamp(start, n, 1)
        last = -1 if stop is None else _clamp(stop, n, 1)
        span = first - last
    span = simplify(dim_max(0, span))
    return first, span if abs(step) == 1 else floordiv(span + (abs(step) - 1), abs(step)), step


def _bound(b: Any) -> Dim | None:
    return None if b is None else size_of(b)


def _clamp(b: Dim, n: Dim, backward: int) -> Dim:
    """A slice bound as Python takes it: negatives count from the end, all are cut to [0, n] ([-1, n-1] backward)."""
    least, greatest = lower(b), upper(b)
    if least is None or least < 0:
        negative = greatest is not None and greatest < 0
        # -1 where b is negative, else 0: a bound of unknown sign wraps only then
        b = b + n if negative else b - n * dim_min(0, dim_max(-1, b))
    return simplify(dim_max(-backward, dim_min(b, n - backward)))


def plan(index: Any, shape: tuple[Dim, ...]) -> Plan:
    """Take an index apart. IndexError for a concrete integer out of range."""
    items = expand(index, len(shape))
    advanced = any(_is_position(i) for i in items)
    starts: list[Dim] = []
    sizes: list[Dim] = []
    steps: list[int] = []
    out: list[Dim] = []
    arrays: list[tuple[int, Any]] = []
    places: list[int] = []
    axis = 0

    def basic(start: Dim, size: Dim, step: int) -> None:
        starts.append(start)
        sizes.append(size)
        steps.append(step)

    for place, item in enumerate(items):
        if item is None:
            out.append(1)
            continue
        if _is_bool(item):
            for nonzero in _positions(item, shape[axis : axis + getattr(item, "ndim", 0)]):
                arrays.append((len(out), nonzero))
                places.append(place)
                basic(0, shape[axis], 1)
                out.append(shape[axis])
                axis += 1
            continue
        n = shape[axis]
        if isinstance(item, slice):
            start, size, step = normalize_slice(item, n)
            basic(start, size, step)
            out.append(size)
        elif _is_position(item) or (advanced and not isinstance(item, Expr)) or not _promised(item, n, axis):
            basic(0, n, 1)
            position = number(item) if isinstance(item, Expr) else item
            arrays.append((len(out), within_i64(position) if type(position) is Array else position))
            places.append(place)
            out.append(n)
        else:
            basic(_wrapped(item, n, axis), 1, 1)
        axis += 1
    front = bool(places) and places != list(range(places[0], places[0] + len(places))) and len(set(places)) > 1
    front = front and sorted(set(places)) != list(range(min(places), max(places) + 1))
    return Plan(tuple(starts), tuple(sizes), tuple(steps), tuple(out), tuple(arrays), front)


def _promised(item: Any, n: Dim, axis: int) -> bool:
    """Whether an integer index can be taken as it is: it lies in an axis whose size or which itself is a symbol, as a
    guard of the entry where sizes of arguments decide it. Otherwise the index is checked at run time. IndexError when
    it is out of range in the call that traces."""
    if not isinstance(item, Expr) and not isinstance(n, Expr):
        return True
    i = size_of(item)
    try:
        within = decide(">=", n, -i) and decide(">=", n, i + 1)
    except ConcretizationError:
        return False
    if not within:
        i, n = (evaluate(d, hinted()) for d in (i, n))
        raise IndexError(f"index {i} is out of bounds for axis {axis} with size {n}")
    return not isinstance(i, Expr) or not symbols_of(i) - hinted().keys() or _sign(i) is not None


def _sign(i: Dim) -> int | None:
    """0 or -1 where the bounds of a dim say that it is not negative, or negative; else None."""
    least, most = lower(i), upper(i)
    return 0 if least is not None and least >= 0 else -1 if most is not None and most < 0 else None


def _wrapped(item: Any, n: Dim, axis: int) -> Dim:
    """An index that lies in its axis, counted from the front. IndexError for a plain integer that does not."""
    i = size_of(item)
    if isinstance(i, int) and isinstance(n, int):
        if not -n <= i < n:
            raise IndexError(f"index {i} is out of bounds for axis {axis} with size {n}")
        return i % n
    sign = _sign(i)
    return i + n if sign == -1 or (sign is None and decide("<", i, 0)) else i


def _is_position(item: Any) -> bool:
    if isinstance(item, Array | np.ndarray):
        if item.dtype.kind not in "iub":
            raise IndexError("arrays used as indices must be of integer (or boolean) type")
        return item.dtype.kind != "b" and (type(item) is Array or item.ndim > 0)
    if isinstance(item, float | np.floating | str):
        raise IndexError(
            "only integers, slices (`:`), ellipsis (`...`), numpy.newaxis (`None`) and integer or boolean arrays "
            "are valid indices"
        )
    return False


def _positions(mask: Any, shape: tuple[Dim, ...]) -> tuple[Any, ...]:
    """The index arrays that a boolean array stands for."""
    if type(mask) is Array:
        from stager.numpy.masks import nonzero_of

        pairs = list(zip(mask.type.shape, shape, strict=False))
        if len(shape) != mask.ndim or any(a != b and not isinstance(a - b, Expr) for a, b in pairs):
            raise IndexError(
                f"boolean index did not match indexed array: the mask has shape {mask.shape}, the array {shape}"
            )
        if any(a != b for a, b in pairs):
            common = tuple([agreed_extent("boolean index", a, b) for a, b in pairs])
            mask = getitem(mask, tuple([slice(0, d) for d in common]))
        return nonzero_of(mask)
    mask = np.asarray(mask)
    if mask.shape != shape:
        raise IndexError(
            f"boolean index did not match indexed array: the mask has shape {mask.shape}, the array {shape}"
        )
    return np.nonzero(mask)


def basic_view(x: Array, p: Plan) -> Array:
    """The view that the basic part of an index selects."""
    if p.sizes != x.type.shape or any(s != 1 for s in p.steps):
        x = x.view_by(_slice.op, starts=p.starts, sizes=p.sizes, steps=p.steps)
    if p.shape != x.type.shape:
        x = x.view_by(_reshape.op, shape=p.shape)
    return x


def getitem(x: Array, index: Any) -> Array:
    """`x[index]`: a scalar where every axis has an integer, a view for a basic index, else a fresh array."""
    if _is_bool(index) and not getattr(index, "ndim", 0):  # one axis more, of one element or none
        return getitem(_led(x), _listed(index))
    x, index = _with_known_steps(x, index)
    p = plan(index, x.type.shape)
    base = basic_view(x, p)
    if not p.arrays:
        if not p.shape and not _has_ellipsis(index):
            return wrap(base.raw(), x.weak)
        return again(base) if base is x else base
    from stager.ops.indexed import gather

    axes, positions, index_shape = _aligned(p)
    if len(axes) < len(p.shape) and all(type(a) is Array and not a.type.shape for _, a in p.arrays):
        step = PickStep(gather.op, axes, positions)
        rest = tuple([d for k, d in enumerate(p.shape) if k not in axes])
        return Array(x.cell, (*base.path, step), Type(x.type.dtype, rest), x.weak)
    taken = gather(base.raw(), *positions, axes=axes, batch_dims=0, mode="check")
    return wrap(_place(taken, len(index_shape), axes, p.front), x.weak)


def again(x: Array) -> Array:
    """Another view of the same elements. An array of the caller is told from its view by a step of the path."""
    if x.cell.origin is not None and not x.path:
        return x.view_by(_reshape.op, shape=x.type.shape)
    return Array(x.cell, x.path, x.type, x.weak)


def _with_known_steps(x: Array, index: Any) -> tuple[Array, Any]:
    """The view that slices with traced steps make, and the rest of the index."""
    from stager.numpy.traced_steps import has_traced_step, strided

    if not any(has_traced_step(i) for i in (index if isinstance(index, tuple) else (index,))):
        return x, index
    items = expand(index, len(x.type.shape))
    axis = 0
    for k, item in enumerate(items):
        if has_traced_step(item):
            x = strided(x, item, axis)
            items[k] = slice(None)
        axis += _axes_of(item)
    return x, tuple(items)


def _led(x: Array) -> Array:
    return x.view_by(_reshape.op, shape=(1, *x.type.shape))


def _listed(index: Any) -> Any:
    """A single truth value as a mask of one element."""
    return wrap(reshape(index.raw(), shape=(1,))) if type(index) is Array else np.array([bool(index)])


def _has_ellipsis(index: Any) -> bool:
    return index is Ellipsis or (isinstance(index, tuple) and any(i is Ellipsis for i in index))


def _aligned(p: Plan) -> tuple[tuple[int, ...], list[Any], tuple[Dim, ...]]:
    """Index arrays broadcast together as i64."""
    raws = [op.convert(raw(a) if type(a) is Array else raw(np.asarray(a)), dtype=i64) for _, a in p.arrays]
    try:
        shape = broadcast_shapes("indexing", [r.type.shape for r in raws])
    except ShapeError as e:
        raise IndexError(f"shape mismatch: indexing arrays could not be broadcast together: {e}") from None
    return tuple([axis for axis, _ in p.arrays]), [broadcast_raw(r, shape) for r in raws], shape


def _place(taken: Any, k: int, axes: tuple[int, ...], front: bool) -> Any:
    """Index dims stand where the first indexed axis stood, or first when the arrays were apart."""
    if front or axes[0] == 0:
        return taken
    before = axes[0]
    n = len(taken.type.shape)
    return transpose(taken, perm=(*range(k, k + before), *range(k), *range(k + before, n)))


def setitem(x: Array, index: Any, value: Any) -> None:
    """`x[index] = value`."""
    x.refuse_escaped()
    mask = _sole_mask(index)
    if mask is not None and _masked_write(x, mask, value):
        return
    combined_write(x, index, value, "set")


def combined_write(x: Array, index: Any, value: Any, combine: str) -> None:
    """`x[index] = value`, or what is there and value combined ("add", "mul", "min", "max"), each position in turn."""
    if _is_bool(index) and not getattr(index, "ndim", 0):
        return combined_write(_led(x), _listed(index), value, combine)
    x, index = _with_known_steps(x, index)
    p = plan(index, x.type.shape)
    base = basic_view(x, p)
    dtype = x.type.dtype
    if not p.arrays:
        base, new = reconciled("assignment", base, as_value(value, dtype))
        new = _fit(new, base.type.shape)
        base.write(new if combine == "set" else COMBINED[combine](base.raw(), new))
        return None
    from stager.ops.indexed import scatter

    axes, positions, index_shape = _aligned(p)
    rest = tuple([d for k, d in enumerate(base.type.shape) if k not in axes])
    before = 0 if p.front else axes[0]
    k = len(index_shape)
    result_shape = (*rest[:before], *index_shape, *rest[before:])
    update = _fit(as_value(value, dtype), result_shape)
    update = transpose(update, perm=(*range(before, before + k), *range(before), *range(before + k, len(result_shape))))
    base.write(scatter(base.raw(), update, *positions, axes=axes, batch_dims=0, mode="check", combine=combine))
    return None


COMBINED = {"add": op.add, "mul": op.mul, "min": op.minimum, "max": op.maximum}


def as_value(value: Any, dtype: Any) -> Any:
    """The raw value of what is assigned, cast to the buffer's dtype as NumPy casts on assignment."""
    return operand(as_array_like(value), dtype)


def _fit(value: Any, shape: tuple[Dim, ...]) -> Any:
    """Broadcast to the assigned positions; leading unit dims may be dropped, as NumPy allows."""
    own = value.type.shape
    while len(own) > len(shape) and own[0] == 1:
        own = own[1:]
    value = reshape(value, shape=own)
    try:
        fits = broadcast_shapes("assignment", [own, shape]) == shape
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(
            describe(f"could not broadcast input array from shape {tuple(value.type.shape)} into shape {tuple(shape)}")
        )
    return broadcast_raw(value, shape)


def _sole_mask(index: Any) -> Any:
    if isinstance(index, tuple) and len(index) == 1:
        index = index[0]
    if isinstance(index, Array) and index.dtype == np.bool_:
        return index
    return None


def _masked_write(x: Array, mask: Array, value: Any) -> bool:
    """`x[mask] = v`: a select over x, of v where it fits the unmasked axes, else of its elements by their rank."""
    k = mask.ndim
    if mask.type.shape != x.type.shape[:k]:
        raise IndexError(
            f"boolean index did not match indexed array: the mask has shape {mask.shape}, the array {x.shape}"
        )
    new = as_value(value, x.type.dtype)
    if len(new.type.shape) > len(x.type.shape) - k:
        from stager.numpy.masks import write_ranked

        rest = x.type.shape[k:]
        while len(new.type.shape) > len(rest) + 1 and new.type.shape[0] == 1:
            new = reshape(new, shape=new.type.shape[1:])
        if len(new.type.shape) > len(rest) + 1:
            return False
        if new.type.shape[0] != 1:
            write_ranked(x, mask, new)
            return True
        new = reshape(new, shape=new.type.shape[1:])
    m = reshape(mask.raw(), shape=(*mask.type.shape, *(1,) * (len(x.type.shape) - k)))
    shape = x.type.shape
    x.write(op.select(broadcast_raw(m, shape), _fit(new, shape), x.raw()))
    return True
