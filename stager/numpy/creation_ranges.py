"""Creation functions that count: arange, linspace and their kin, eye, tri, indices, meshgrid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stager.array import Array, as_array, wrap
from stager.bounds import simplify
from stager.capture.table import substitute
from stager.interpreters.stack import nearest_stage
from stager.ir.dims import Dim, Expr, dim_max
from stager.ir.dtypes import dtype_of, i64
from stager.numpy.creation import concrete
from stager.numpy.promotion import broadcast_raw, operand, result_dtype
from stager.numpy.registry import implements
from stager.numpy.shaping import handle
from stager.numpy.ufuncs import apply_ufunc
from stager.ops import elementwise as op
from stager.ops.regions import dim_value
from stager.ops.structural import iota, iota_along


def constant(x: Any) -> Array:
    """A known ndarray as a traced constant with a cell of its own."""
    return wrap(nearest_stage().lift(np.asarray(x)))


@substitute(np.arange)
def arange(
    *args: Any,
    start: Any = None,
    stop: Any = None,
    step: Any = None,
    dtype: Any = None,
    device: Any = None,
    like: Any = None,
) -> Array:
    """`np.arange`: bounds may be traced dims; traced values need a known size."""
    given = list(args)
    if len(given) == 1:
        stop = given[0] if stop is None else stop
    elif given:
        start, stop = given[0], given[1]
        step = given[2] if len(given) > 2 else step
        dtype = given[3] if len(given) > 3 else dtype
    from stager.symbols import size_of

    start = 0 if start is None else start
    step = 1 if step is None else step
    if any(isinstance(v, Expr) for v in (start, stop)) or any(type(v) is Array for v in (start, stop)):
        first, last = size_of(start), size_of(stop)
        stride = concrete(step, "arange", "step")
        if not isinstance(stride, int) or stride == 0:
            raise TypeError("arange with a traced size takes a non-zero integer step")
        size: Dim = last - first if stride == 1 else (last - first + (stride - (1 if stride > 0 else -1))) // stride
        size = simplify(dim_max(0, size))
        d = i64 if dtype is None else dtype_of(dtype)
        counted = iota(size, i64)
        if stride != 1:
            counted = op.mul(counted, stride)
        if first != 0:
            counted = op.add(counted, broadcast_raw(operand(as_array(first), i64), counted.type.shape))
        return wrap(op.convert(counted, dtype=d))
    known = np.arange(start, stop, step, dtype=dtype)
    if known.size and start == 0 and step == 1 and dtype_of(known.dtype).is_integer:
        return wrap(iota(known.size, dtype_of(known.dtype)))
    return constant(known)


@substitute(np.linspace)
def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    retstep: bool = False,
    dtype: Any = None,
    axis: int = 0,
    *,
    device: Any = None,
) -> Any:
    """`np.linspace`; start and stop may be traced arrays."""
    n = num if isinstance(num, Expr) else concrete(num, "linspace", "num")
    named = isinstance(n, Expr)
    if not named and n < 0:
        raise ValueError(f"Number of samples, {n}, must be non-negative.")
    if not named and not any(type(v) is Array for v in (start, stop)):
        known: Any = np.linspace
        values, step = known(start, stop, n, endpoint, True, dtype, axis)
        return (constant(values), step) if retstep else constant(values)
    from stager.numpy.selection import where
    from stager.numpy.shaping import moveaxis, reshape

    a, b = handle(start), handle(stop)
    d = result_dtype(a, b, 0.0)
    parts = n - 1 if endpoint else n
    spread: Any = apply_ufunc(np.subtract, b, a, dtype=d.np)
    if named:  # one sample is no step: NumPy's is NaN there
        count: Any = wrap(op.convert(dim_value(parts), dtype=d))
        several: Any = count > 0
        step = where(several, spread / where(several, count, 1.0), math.nan)
        slope: Any = where(several, step, spread)
    else:
        several = parts > 0
        step = apply_ufunc(np.divide, spread, float(parts)) if several else math.nan
        slope = step if several else spread
    ticks = reshape(wrap(op.convert(iota(n), dtype=d)), (n, *(1,) * spread.ndim))
    values = apply_ufunc(np.add, apply_ufunc(np.multiply, ticks, slope), a)
    if endpoint and (named or n > 1):
        last: Any = apply_ufunc(np.equal, ticks, count if named else float(n - 1))
        values = where(last & several if named else last, b, values)
    if dtype is not None:
        values = values.astype(dtype)
    values = moveaxis(values, 0, axis) if axis else values
    return (values, step) if retstep else values


@substitute(np.logspace)
def logspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    base: Any = 10.0,
    dtype: Any = None,
    axis: int = 0,
) -> Any:
    """`np.logspace`; start, stop and base may be traced."""
    powers = linspace(start, stop, num, endpoint, axis=axis)
    found = apply_ufunc(np.power, base, powers)
    return found if dtype is None else found.astype(dtype)


@substitute(np.geomspace)
def geomspace(start: Any, stop: Any, num: Any = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0) -> Any:
    """`np.geomspace` of real numbers with one sign; start and stop may be traced."""
    n = concrete(num, "geomspace", "num")
    if not any(type(v) is Array for v in (start, stop)):
        known: Any = np.geomspace
        return constant(known(start, stop, n, endpoint, dtype, axis))
    from stager.numpy.selection import where
    from stager.numpy.shaping import moveaxis, reshape

    a, b = handle(start), handle(stop)
    d = result_dtype(a, b, 0.0)
    a, b = wrap(operand(a, d)), wrap(operand(b, d))
    sign = apply_ufunc(np.sign, a)
    ends = [apply_ufunc(np.log10, apply_ufunc(np.multiply, v, sign)) for v in (a, b)]
    values = apply_ufunc(np.multiply, logspace(*ends, n, endpoint), sign)
    ticks = reshape(wrap(iota(n)), (n, *(1,) * (values.ndim - 1)))
    values = where(apply_ufunc(np.equal, ticks, 0), a, values)
    if endpoint and n > 1:
        values = where(apply_ufunc(np.equal, ticks, n - 1), b, values)
    values = moveaxis(values, 0, axis) if axis else values
    return values if dtype is None else wrap(op.convert(values.raw(), dtype=dtype_of(dtype)))


def _known(original: Any) -> None:
    """A creation function whose arguments are known while tracing: NumPy makes the constant."""

    @substitute(original)
    def made(*args: Any, **kwargs: Any) -> Any:
        args = tuple([concrete(a, original.__name__, "argument") for a in args])
        kwargs = {k: concrete(v, original.__name__, k) for k, v in kwargs.items()}
        out = original(*args, **kwargs)
        return tuple([constant(o) for o in out]) if isinstance(out, tuple) else constant(out)


for _original in (
    np.tri,
    np.indices,
    np.hanning,
    np.hamming,
    np.blackman,
    np.bartlett,
    np.kaiser,
    np.tril_indices,
    np.triu_indices,
    np.diag_indices,
    np.frombuffer,
    np.fromstring,
):
    _known(_original)


@substitute(np.eye)
def eye(
    N: Any, M: Any = None, k: int = 0, dtype: Any = float, order: str = "C", *, device: Any = None, like: Any = None
) -> Array:
    """Ones on a diagonal."""
    from stager.array import check_shape

    shape = check_shape((N, N if M is None else M))
    k = k.__index__()
    rows, cols = iota_along(shape, 0), iota_along(shape, 1)
    return wrap(op.convert(op.eq(op.add(rows, k) if k else rows, cols), dtype=dtype_of(dtype)))


@substitute(np.identity)
def identity(n: Any, dtype: Any = None, *, like: Any = None) -> Array:
    """The identity matrix."""
    made: Array = eye(n, dtype=float if dtype is None else dtype)
    return made


@substitute(np.fromfunction)
def fromfunction(function: Any, shape: Any, *, dtype: Any = float, like: Any = None, **kwargs: Any) -> Any:
    """`function` of the index arrays."""
    from stager.array import check_shape

    dims = check_shape(shape)
    d = dtype_of(dtype)
    return function(*[wrap(op.convert(iota_along(dims, k), dtype=d)) for k in range(len(dims))], **kwargs)


@implements(np.meshgrid)
@substitute(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> tuple[Array, ...]:
    """Coordinate arrays of a grid."""
    from stager.numpy.shaping import broadcast_to, reshape, swapaxes

    if indexing not in ("xy", "ij"):
        raise ValueError("Valid values for `indexing` are 'xy' and 'ij'.")
    n = len(xi)
    out = [reshape(handle(x), (*(1,) * k, -1, *(1,) * (n - 1 - k))) for k, x in enumerate(xi)]
    if indexing == "xy" and n > 1:
        out = [swapaxes(x, 0, 1) for x in out]
    if not sparse:
        from stager.numpy.promotion import broadcast_shapes

        shape = broadcast_shapes("meshgrid", [x.type.shape for x in out])
        out = [broadcast_to(x, shape) for x in out]
    return tuple([wrap(op.copy(x.raw())) for x in out] if copy else out)


def triangle(m: Any, k: int, lower: bool) -> Array:
    """The elements on one side of a diagonal, zero elsewhere."""
    m = handle(m)
    k = k.__index__()
    r = m.raw() if m.ndim > 1 else broadcast_raw(m.raw(), (m.type.shape[0], m.type.shape[0]))
    shape = r.type.shape
    rows, cols = iota_along(shape[-2:], 0), iota_along(shape[-2:], 1)
    keep = op.ge(op.add(rows, k) if k else rows, cols) if lower else op.le(op.add(rows, k) if k else rows, cols)
    from stager.ops.families import zeros_like

    return wrap(op.select(broadcast_raw(keep, shape), r, zeros_like(r)))


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Array:
    """The lower triangle."""
    return triangle(m, k, True)


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Array:
    """The upper triangle."""
    return triangle(m, k, False)
