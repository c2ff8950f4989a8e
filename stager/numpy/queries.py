"""Questions about arrays (shape, dtype, memory), copies by layout, index makers, functions along axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.capture.table import substitute
from stager.errors import UnsupportedError, describe
from stager.ir.dtypes import dtype_of
from stager.layouts import is_contiguous
from stager.numpy.comparisons import dynamic
from stager.numpy.creation import asarray, concrete
from stager.numpy.creation_ranges import constant
from stager.numpy.promotion import kind_of
from stager.numpy.registry import implements
from stager.numpy.shaping import axis_of, handle
from stager.ops import elementwise as op
from stager.ops.families import full


@implements(np.ndim)
def ndim(a: Any) -> int:
    """How many axes."""
    return handle(a).ndim


@implements(np.shape)
def shape(a: Any) -> tuple[Any, ...]:
    """The shape."""
    return handle(a).shape


@implements(np.size)
def size(a: Any, axis: Any = None) -> Any:
    """How many elements, or how many along axes."""
    a = handle(a)
    if axis is None:
        return a.size
    out: Any = 1
    for k in axis if isinstance(axis, tuple) else (axis,):
        out = out * a.shape[axis_of(k, a.ndim)]
    return out


@implements(np.result_type)
@substitute(np.result_type)
def result_type(*arrays_and_dtypes: Any) -> Any:
    """NumPy's common dtype; Python scalars are weak."""
    if not any(type(x) is Array for x in arrays_and_dtypes):
        return np.result_type(*arrays_and_dtypes)
    plain = [
        (0 if k is int else 0.0 if k is float else k)
        for k in (kind_of(x) if type(x) is Array else x for x in arrays_and_dtypes)
    ]
    return np.result_type(*plain)


@substitute(np.isscalar)
def isscalar(element: Any) -> bool:
    """False for arrays; a traced Python number is a scalar."""
    return element.weak and not element.ndim if type(element) is Array else np.isscalar(element)


@substitute(np.iterable)
def iterable(y: Any) -> bool:
    """Whether it has elements to go through."""
    return bool(y.ndim) if type(y) is Array else np.iterable(y)


@implements(np.can_cast)
def can_cast(from_: Any, to: Any, casting: Any = "safe") -> bool:
    """Whether a cast is allowed by a rule."""
    return np.can_cast(from_.dtype if type(from_) is Array else from_, to, casting)


@implements(np.min_scalar_type)
def min_scalar_type(a: Any) -> Any:
    """The dtype of an array; a scalar's would depend on its value."""
    a = handle(a)
    if not a.ndim:
        raise UnsupportedError(describe("np.min_scalar_type of a traced scalar depends on its value"))
    return a.dtype


@implements(np.common_type)
def common_type(*arrays: Any) -> Any:
    """The inexact scalar type common to the arrays."""
    return np.common_type(*[np.empty(0, handle(a).dtype) for a in arrays])


@implements(np.iscomplexobj)
@substitute(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    """Whether the dtype is complex."""
    return False if type(x) is Array else np.iscomplexobj(x)


@implements(np.isrealobj)
@substitute(np.isrealobj)
def isrealobj(x: Any) -> bool:
    """Whether the dtype is not complex."""
    return True if type(x) is Array else np.isrealobj(x)


@implements(np.shares_memory, np.may_share_memory)
def shares_memory(a: Any, b: Any, /, max_work: Any = None) -> bool:
    """Whether two traced arrays are handles on one storage (views of one base count, whichever part they show)."""
    return type(a) is Array and type(b) is Array and a.cell is b.cell


# -- copies by layout -------------------------------------------------------------------------------------------------


@implements(np.ascontiguousarray)
@substitute(np.ascontiguousarray)
def ascontiguousarray(a: Any, dtype: Any = None, *, like: Any = None) -> Any:
    """The array itself when it is C-contiguous, else a copy; at least one axis."""
    x = asarray(a, dtype)
    if x.ndim == 0:
        return x.reshape(1)
    return x if is_contiguous(x) else wrap(op.copy(x.raw()))


@implements(np.asfortranarray)
@substitute(np.asfortranarray)
def asfortranarray(a: Any, dtype: Any = None, *, like: Any = None) -> Any:
    """The array itself when it is Fortran-contiguous, else a copy (C-contiguous: results have no other order)."""
    x = asarray(a, dtype)
    return x if x.ndim == 1 or is_contiguous(x.T) else wrap(op.copy(x.raw()))


@implements(np.asanyarray)
@substitute(np.asanyarray)
def asanyarray(
    a: Any, dtype: Any = None, order: Any = None, *, device: Any = None, copy: Any = None, like: Any = None
) -> Any:
    """`np.asarray`."""
    return asarray(a, dtype, copy=copy)


@implements(np.asarray_chkfinite)
@substitute(np.asarray_chkfinite)
def asarray_chkfinite(a: Any, dtype: Any = None, order: Any = None) -> Any:
    """`np.asarray`, with ValueError for NaN and infinities."""
    from stager.numpy.statistics import _every
    from stager.ops.effects import check

    x = asarray(a, dtype)
    if x.type.dtype.is_float:
        check(_every(np.isfinite(x)), exception="ValueError", text="array must not contain infs or NaNs")
    return x


@implements(np.require)
@substitute(np.require)
def require(a: Any, dtype: Any = None, requirements: Any = None, *, like: Any = None) -> Any:
    """`np.asarray`, contiguous on request."""
    wanted = {str(r).upper()[0] for r in ([requirements] if isinstance(requirements, str) else requirements or [])}
    return ascontiguousarray(a, dtype) if "C" in wanted else asarray(a, dtype)


@implements(np.astype)
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """`x.astype(dtype)`."""
    return dynamic(x).astype(dtype, copy=copy)


@implements(np.resize)
def resize(a: Any, new_shape: Any) -> Any:
    """The elements, repeated or cut, in a new shape."""
    flat = dynamic(a).ravel()
    dims = new_shape if isinstance(new_shape, tuple | list) else (new_shape,)
    n = int(np.prod(dims))
    if any(d < 0 for d in dims):
        raise ValueError("all elements of `new_shape` must be non-negative")
    if flat.shape[0] == 0 or n == 0:
        return wrap(full(tuple(dims), 0, flat.type.dtype))
    return flat[np.arange(n) % flat.shape[0]].reshape(dims)


# -- diagonals and triangles ------------------------------------------------------------------------------------------


@implements(np.diag)
@substitute(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    """A matrix with v on a diagonal, or the diagonal of a matrix (a read-only view)."""
    from stager.ops.structural import diagonal_update

    a = dynamic(v)
    if a.ndim == 2:
        return np.diagonal(a, k)
    if a.ndim != 1:
        raise ValueError("Input must be 1- or 2-d.")
    k = k.__index__()
    n = a.type.shape[0] + abs(k)
    return wrap(diagonal_update(full((n, n), 0, a.type.dtype), a.raw(), axis1=0, axis2=1, offset=k))


@implements(np.diagflat)
@substitute(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Any:
    """A matrix with the flattened v on a diagonal."""
    return diag(dynamic(v).ravel(), k)


def _shape_of(a: Any) -> tuple[int, ...]:
    return tuple([concrete(d, "indices", "shape") for d in handle(a).shape])


def _triangle(arr: Any, indices: Any, part: Any) -> Any:
    """The indices of a triangle of arr's shape; where that is symbolic, of the elements that a triangle keeps."""
    n, m = handle(arr).type.shape
    if isinstance(n, int) and isinstance(m, int):
        return tuple([constant(i) for i in indices(n, m)])
    return np.nonzero(part(wrap(full((n, m), 1, dtype_of(bool)))))


@implements(np.tril_indices_from)
def tril_indices_from(arr: Any, k: int = 0) -> Any:
    """`np.tril_indices` for the shape of arr."""
    if handle(arr).ndim != 2:
        raise ValueError("input array must be 2-d")
    return _triangle(arr, lambda n, m: np.tril_indices(n, k, m), lambda x: np.tril(x, k))


@implements(np.triu_indices_from)
def triu_indices_from(arr: Any, k: int = 0) -> Any:
    """`np.triu_indices` for the shape of arr."""
    if handle(arr).ndim != 2:
        raise ValueError("input array must be 2-d")
    return _triangle(arr, lambda n, m: np.triu_indices(n, k, m), lambda x: np.triu(x, k))


@implements(np.diag_indices_from)
def diag_indices_from(arr: Any) -> Any:
    """`np.diag_indices` for the shape of arr."""
    dims = _shape_of(arr)
    if len(dims) < 2:
        raise ValueError("input array must be at least 2-d")
    if any(d != dims[0] for d in dims):
        raise ValueError("All dimensions of input must be of equal length")
    return tuple([constant(i) for i in np.diag_indices(dims[0], len(dims))])


@implements(np.ix_)
def ix_(*args: Any) -> Any:
    """Index arrays of an open mesh."""
    out = []
    for k, a in enumerate(args):
        x = dynamic(a)
        if x.ndim != 1:
            raise ValueError("Cross index must be 1 dimensional")
        if x.type.dtype.kind == "b":
            (x,) = np.nonzero(x)
        out.append(x.reshape((*(1,) * k, -1, *(1,) * (len(args) - k - 1))))
    return tuple(out)


@implements(np.unravel_index)
def unravel_index(indices: Any, shape: Any, order: str = "C") -> Any:
    """Positions along each axis of flat positions."""
    i = dynamic(indices).astype(np.int64, copy=False)
    dims = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    _in_bounds(i, dims)
    out = []
    for d in reversed(dims) if order == "C" else dims:
        out.append(i % d)
        i = i // d
    return tuple(out[::-1] if order == "C" else out)


def _in_bounds(i: Any, dims: Any) -> None:
    from stager.numpy.statistics import _every
    from stager.ops.effects import check

    total: Any = 1
    for d in dims:
        total = total * d
    check(
        _every((i >= 0) & (i < total)),
        exception="ValueError",
        text=f"index is out of bounds for array with size {total}",
    )


@implements(np.ravel_multi_index)
def ravel_multi_index(multi_index: Any, dims: Any, mode: Any = "raise", order: str = "C") -> Any:
    """Flat positions of positions along each axis."""
    from stager.numpy.statistics import _every
    from stager.ops.effects import check

    parts = [dynamic(m).astype(np.int64, copy=False) for m in multi_index]
    modes = mode if isinstance(mode, tuple) else (mode,) * len(parts)
    total: Any = None
    steps = list(zip(parts, dims, modes, strict=True))
    for i, d, how in steps if order == "C" else reversed(steps):
        if how == "raise":
            check(_every((i >= 0) & (i < d)), exception="ValueError", text="invalid entry in coordinates array")
        i = i % d if how == "wrap" else np.clip(i, 0, d - 1) if how == "clip" else i
        total = i if total is None else total * d + i
    return total


# -- along axes -------------------------------------------------------------------------------------------------------


@implements(np.unstack)
def unstack(x: Any, /, *, axis: int = 0) -> tuple[Any, ...]:
    """The slices along an axis."""
    a = dynamic(x)
    if not a.ndim:
        raise ValueError("Input array must be at least 1-d.")
    return tuple(np.moveaxis(a, axis, 0))


@implements(np.apply_along_axis)
def apply_along_axis(func1d: Any, axis: int, arr: Any, *args: Any, **kwargs: Any) -> Any:
    """func1d of every line along an axis, as one mapped call."""
    import stager as st

    a = dynamic(arr)
    k = axis_of(axis, a.ndim)
    lines = np.moveaxis(a, k, -1)
    if a.ndim == 1:
        return func1d(a, *args, **kwargs)
    lead = lines.type.shape[:-1]
    flat = lines.reshape((-1, lines.type.shape[-1]))
    out: Any = dynamic(st.vmap(lambda line: func1d(line, *args, **kwargs))(flat))
    out = out.reshape((*lead, *out.type.shape[1:]))
    extra = out.ndim - len(lead)
    return np.moveaxis(out, range(len(lead), out.ndim), range(k, k + extra)) if extra else out


@implements(np.apply_over_axes)
def apply_over_axes(func: Any, a: Any, axes: Any) -> Any:
    """func over one axis after the other, keeping them."""
    x = dynamic(a)
    n = x.ndim
    for axis in axes if isinstance(axes, tuple | list) else (axes,):
        found = dynamic(func(x, axis_of(axis, n)))
        x = found if found.ndim == x.ndim else np.expand_dims(found, axis_of(axis, n))
    return x
