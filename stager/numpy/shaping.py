"""Shapes and axes: functions whose results are views wherever NumPy's are, and those that join arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.array import Array, as_array, check_shape, dims_of, wrap
from stager.bounds import at_most
from stager.cells import ViewStep
from stager.errors import ShapeError, describe
from stager.ir.dims import Dim, Expr, dim_max, dim_min, floordiv, product
from stager.ir.dtypes import DType, dtype_of
from stager.layouts import compact, follow, is_contiguous, layout_of
from stager.numpy.indexing import again, getitem
from stager.numpy.promotion import broadcast_shapes, operand, result_dtype
from stager.numpy.reductions import deliver, normalize_axes
from stager.numpy.registry import array_property, implements
from stager.numpy.rows import Run, runs, to_join
from stager.numpy.ufuncs import as_array_like
from stager.ops import elementwise as op
from stager.ops import structural, views
from stager.ops.families import full as full_raw
from stager.symbols import require_same


class Locked(ViewStep):
    """The end of a view that NumPy hands out read-only: what is read through it is as it was, writing raises."""

    __slots__ = ()
    read_only = True

    def write(self, base: Any, update: Any) -> Any:
        raise ValueError("assignment destination is read-only")


def locked(a: Array) -> Array:
    """A read-only handle on the same elements."""
    return Array(a.cell, (*a.path, Locked(views._reshape.op, {"shape": a.type.shape})), a.type, a.weak)


def handle(x: Any) -> Array:
    """An array-like as a handle."""
    return as_array(as_array_like(x))


def axis_of(axis: Any, ndim: int) -> int:
    """One axis as a non-negative int; AxisError when out of range."""
    return normalize_axes(axis.__index__(), ndim)[0]


def permuted(a: Array, perm: Sequence[int]) -> Array:
    """A transpose as a view."""
    perm = tuple(perm)
    return again(a) if perm == tuple(range(a.ndim)) else a.view_by(views._transpose.op, perm=perm)


def reshaped(a: Array, shape: Sequence[Dim]) -> Array:
    """A reshape: a view where NumPy's is one (the handle's memory can show it), else a copy."""
    shape = tuple(shape)
    if shape == a.type.shape:
        return a.view_by(views._reshape.op, shape=shape)
    if product(shape) != a.type.size:
        a = _of_size(a, shape)
    own = not a.path and a.cell.origin is None and a.cell.lent is None
    if own or _shown_by_strides(a, shape):
        return a.view_by(views._reshape.op, shape=shape)
    return wrap(op.copy(views.reshape(a.raw(), shape=shape)), a.weak)


def _of_size(a: Array, shape: tuple[Dim, ...]) -> Array:
    """The elements of a in one axis, where symbolic sizes have to show that they fill the shape."""
    size, wanted = a.type.size, product(shape)
    text = (
        f"cannot reshape array of size {size} into shape ({','.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
    )
    known = require_same(size, wanted, text)
    flat = reshaped(a, (size,))
    if not known and not at_most(
        wanted, size
    ):  # the check keeps no read from happening
        missing = full_raw((dim_max(0, wanted - size),), 0, a.type.dtype)
        flat = wrap(structural.concatenate(flat.raw(), missing, axis=0), a.weak)
    return flat.view_by(views._slice.op, starts=(0,), sizes=(wanted,), steps=(1,))


def _shown_by_strides(a: Array, shape: Sequence[Dim]) -> bool:
    layout = layout_of(a)
    return layout is not None and follow(layout, [ViewStep(views._reshape.op, {"shape": shape})]) is not None


def resolve_shape(shape: Any, size: Dim) -> tuple[Dim, ...]:
    """A shape argument with its one -1 worked out."""
    items = dims_of(shape)
    out: list[Dim] = [d if isinstance(d, Expr) else d.__index__() for d in items]
    unknown = [k for k, d in enumerate(out) if isinstance(d, int) and d < 0]
    if len(unknown) > 1 or any(isinstance(d, int) and d < -1 for d in out):
        raise ShapeError(describe("can only specify one unknown dimension"))
    if unknown:
        rest = product(d for k, d in enumerate(out) if k != unknown[0])
        if rest == 0 or (isinstance(rest, int) and isinstance(size, int) and size % rest):
            raise ShapeError(describe(f"cannot reshape array of size {size} into shape {tuple(out)}"))
        out[unknown[0]] = floordiv(size, rest)
    return tuple(out)


@implements(np.reshape)
def reshape(a: Any, /, shape: Any = None, order: str = "C", *, copy: bool | None = None) -> Array:
    """The same elements in another shape."""
    a = handle(a)
    target = resolve_shape(shape, a.type.size)
    if order == "A":
        order = "F" if not is_contiguous(a) and is_contiguous(permuted(a, range(a.ndim)[::-1])) else "C"
    if order == "F":
        out = reshaped(permuted(a, range(a.ndim)[::-1]), target[::-1])
        out = permuted(out, range(out.ndim)[::-1])
    elif order == "C":
        out = reshaped(a, target)
    else:
        raise ValueError(f"order must be one of 'C', 'F', 'A', not {order!r}")
    return wrap(op.copy(out.raw()), a.weak) if copy else out


@implements(method="reshape")
def reshape_method(self: Array, *shape: Any, order: str = "C", copy: bool | None = None) -> Array:
    """`x.reshape(2, 3)` or `x.reshape((2, 3))`."""
    return reshape(self, shape[0] if len(shape) == 1 else shape, order=order, copy=copy)


@implements(np.ravel, method="ravel")
def ravel(a: Any, order: str = "C") -> Array:
    """One axis; a view where it can be."""
    a = handle(a)
    flat = reshaped(_in_memory_order(a), [a.type.size]) if order == "K" else reshape(a, -1, order=order)
    shown = layout_of(flat)  # elements with gaps between them are copied
    return flat if shown is None or compact(shown) else wrap(op.copy(flat.raw()), a.weak)


def _in_memory_order(a: Array) -> Array:
    """The axes by falling stride, so that the elements come as they stand in memory."""
    found = layout_of(a)
    if found is None or not all(isinstance(s, int) and s > 0 for s in found.strides):
        return a
    steps: list[Any] = [-s for s in found.strides]
    return permuted(a, sorted(range(a.ndim), key=steps.__getitem__))


@implements(method="flatten")
def flatten(self: Array, order: str = "C") -> Array:
    """One axis, always a copy."""
    return wrap(op.copy(ravel(self, order).raw()), self.weak)


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> Array:
    """Axes permuted: a view."""
    a = handle(a)
    perm = tuple(range(a.ndim))[::-1] if axes is None else tuple([axis_of(k, a.ndim) for k in axes])
    if sorted(perm) != list(range(a.ndim)):
        raise ValueError("axes don't match array")
    return permuted(a, perm)


@implements(method="transpose")
def transpose_method(self: Array, *axes: Any) -> Array:
    """`x.transpose()`, `x.transpose(1, 0)` or `x.transpose((1, 0))`."""
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)):
        return transpose(self, axes[0])
    return transpose(self, axes or None)


@array_property("T")
def T(self: Array) -> Array:
    """Axes reversed."""
    return permuted(self, range(self.ndim)[::-1])


@array_property("mT")
def mT(self: Array) -> Array:
    """The last two axes swapped."""
    return swapaxes(self, -1, -2)


@implements(np.matrix_transpose)
def matrix_transpose(x: Any, /) -> Array:
    """The last two axes swapped."""
    return swapaxes(x, -1, -2)


@implements(np.swapaxes, method="swapaxes")
def swapaxes(a: Any, axis1: int, axis2: int) -> Array:
    """Two axes exchanged: a view."""
    a = handle(a)
    i, j = axis_of(axis1, a.ndim), axis_of(axis2, a.ndim)
    perm = list(range(a.ndim))
    perm[i], perm[j] = j, i
    return permuted(a, perm)


@implements(np.moveaxis)
def moveaxis(a: Any, source: Any, destination: Any) -> Array:
    """Axes moved, the others in their order: a view."""
    a = handle(a)
    sources = [axis_of(s, a.ndim) for s in (source if np.iterable(source) else (source,))]
    targets = [axis_of(d, a.ndim) for d in (destination if np.iterable(destination) else (destination,))]
    if len(sources) != len(targets):
        raise ValueError("`source` and `destination` arguments must have the same number of elements")
    perm = [k for k in range(a.ndim) if k not in sources]
    for target, source_axis in sorted(zip(targets, sources, strict=True)):
        perm.insert(target, source_axis)
    return permuted(a, perm)


@implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Array:
    """A read-only view repeated to `shape`."""
    a = handle(array)
    target = check_shape(shape)
    if broadcast_shapes("broadcast_to", [a.type.shape, target]) != target:
        raise ShapeError(describe(f"broadcast_to: cannot broadcast {a.type} to shape {target}"))
    if a.type.shape == target:
        return locked(a)
    offset = len(target) - a.ndim
    return locked(a.view_by(views._broadcast.op, shape=target, axes=tuple(range(offset, len(target)))))


@implements(np.squeeze, method="squeeze")
def squeeze(a: Any, axis: Any = None) -> Array:
    """Unit axes dropped: a view."""
    a = handle(a)
    axes = [k for k, d in enumerate(a.type.shape) if d == 1] if axis is None else normalize_axes(axis, a.ndim)
    if any(a.type.shape[k] != 1 for k in axes):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return reshaped(a, [d for k, d in enumerate(a.type.shape) if k not in axes])


@implements(np.expand_dims)
def expand_dims(a: Any, axis: Any) -> Array:
    """Unit axes added: a view."""
    a = handle(a)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    places = normalize_axes(tuple(axes), a.ndim + len(axes))
    shape = list(a.type.shape)
    for k in places:
        shape.insert(k, 1)
    return reshaped(a, shape)


@implements(np.flip)
def flip(m: Any, axis: Any = None) -> Array:
    """Axes reversed: a view."""
    a = handle(m)
    axes = normalize_axes(axis, a.ndim)
    return getitem(a, tuple([slice(None, None, -1) if k in axes else slice(None) for k in range(a.ndim)]))


@implements(np.diagonal, method="diagonal")
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """The diagonal as the last axis: a read-only view."""
    a = handle(a)
    i, j = axis_of(axis1, a.ndim), axis_of(axis2, a.ndim)
    if i == j:
        raise ValueError("axis1 and axis2 cannot be the same")
    return locked(a.view_by(views.diagonal.op, axis1=i, axis2=j, offset=offset.__index__()))


# -- joining ----------------------------------------------------------------------------------------------------------


def _joined(arrays: Sequence[Any], dtype: Any) -> list[Any]:
    items = [as_array_like(x) for x in arrays]
    d = result_dtype(*items) if dtype is None else dtype_of(dtype)
    return [operand(x, d) for x in items]


@implements(np.concatenate)
def concatenate(arrays: Any, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Array:
    """Arrays one after the other along an axis (None: flattened first)."""
    arrays = to_join(arrays)
    parts = runs(arrays)
    if parts is not None and axis is not None and all(x.row.ndim > 0 for x in parts if type(x) is Run):
        arrays = [_beside(x, axis_of(axis, x.row.ndim)) if type(x) is Run else x for x in parts]
    raws = _joined(arrays, dtype)
    if not raws:
        raise ValueError("need at least one array to concatenate")
    if axis is None:
        raws = [views.reshape(r, shape=(product(r.type.shape),)) for r in raws]
        axis = 0
    if any(not r.type.shape for r in raws):
        raise ValueError("zero-dimensional arrays cannot be concatenated")
    axis = axis_of(axis, len(raws[0].type.shape))
    if dtype is not None or out is not None:
        _castable(arrays, np.dtype(dtype) if out is None else out.dtype, casting)
    joined = structural.concatenate(*raws, axis=axis)
    return deliver(wrap(op.copy(joined) if len(raws) == 1 else joined), out, "concatenate")


def _castable(arrays: Sequence[Any], dtype: np.dtype[Any], casting: str) -> None:
    """NumPy's error for arrays that the casting rule does not let into the dtype."""
    for x in arrays:
        x = x.row if type(x) is Run else as_array(as_array_like(x))
        if not x.weak and not np.can_cast(x.dtype, dtype, casting):  # type: ignore[arg-type]
            text = f"Cannot cast array data from {x.dtype!r} to {dtype!r} according to the rule {casting!r}"
            raise TypeError(text)


def _beside(run: Run, axis: int) -> Array:
    """Rows one after the other along an axis of theirs."""
    shape = run.row.type.shape
    moved = views.moveaxis(run.block.raw(), 0, axis)
    count = run.block.type.shape[0]
    return wrap(views.reshape(moved, shape=(*shape[:axis], count * shape[axis], *shape[axis + 1 :])))


def stacked_runs(parts: Sequence[Any], dtype: DType) -> Any:
    """What `stack_(…, 0)` gives for the items whose `runs` these are; None where their shapes differ."""
    rows = [x.row if type(x) is Run else as_array(as_array_like(x)) for x in parts]
    shape = rows[0].type.shape
    if any(x.type.shape != shape for x in rows):
        return None
    raws = [
        operand(x.block, dtype) if type(x) is Run else views.reshape(operand(row, dtype), shape=(1, *shape))
        for x, row in zip(parts, rows, strict=True)
    ]
    return structural.concatenate(*raws, axis=0) if len(raws) > 1 else op.copy(raws[0])


def _of_one_shape(raws: list[Any]) -> list[Any]:
    """The operands of a stack, where symbolic sizes have to show that their shapes are equal."""
    text = "all input arrays must have the same shape"
    first = raws[0].type.shape
    if any(len(r.type.shape) != len(first) for r in raws):
        raise ValueError(text)
    sizes = list(first)
    for r in raws[1:]:
        for k, d in enumerate(r.type.shape):
            if require_same(sizes[k], d, text):
                sizes[k] = sizes[k] if isinstance(sizes[k], int) else d
            else:
                sizes[k] = dim_min(sizes[k], d)
    return [r if r.type.shape == tuple(sizes) else views.leading(r, sizes) for r in raws]


@implements(np.stack)
def stack(arrays: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind") -> Array:
    """Arrays of one shape side by side along a new axis."""
    arrays = to_join(arrays)
    if dtype is not None:
        _castable(arrays, np.dtype(dtype), casting)
    parts = runs(arrays)
    if parts is not None:
        ones = [x.row if type(x) is Run else as_array_like(x) for x in parts]
        found = stacked_runs(parts, result_dtype(*ones) if dtype is None else dtype_of(dtype))
        if found is not None:
            k = axis_of(axis, len(found.type.shape))
            return deliver(wrap(views.moveaxis(found, 0, k) if k else found), out, "stack")
    raws = _joined(arrays, dtype)
    if not raws:
        raise ValueError("need at least one array to stack")
    if any(r.type.shape != raws[0].type.shape for r in raws):
        raws = _of_one_shape(raws)
    return deliver(wrap(structural.stack_(raws, axis_of(axis, len(raws[0].type.shape) + 1))), out, "stack")


@implements(method="copy")
def copy_method(self: Array, order: str = "C") -> Array:
    """A copy with memory of its own."""
    return wrap(op.copy(self.raw()), self.weak)


@implements(np.copy)
def copy(a: Any, order: str = "K", subok: bool = False) -> Array:
    """A copy with memory of its own."""
    return copy_method(handle(a))


@implements(method="astype")
def astype(
    self: Array, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
) -> Array:
    """The elements cast to another dtype, with NumPy's casting."""
    d = dtype_of(dtype)
    if not np.can_cast(self.dtype, d.np, casting):  # type: ignore[arg-type]
        raise TypeError(f"Cannot cast array data from {self.dtype!r} to {d.np!r} according to the rule {casting!r}")
    if d is self.type.dtype:
        return self if not copy else wrap(op.copy(self.raw()))
    return wrap(op.convert(self.raw(), dtype=d))
