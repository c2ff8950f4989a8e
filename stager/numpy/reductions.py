"""Reductions over any axes with keepdims, `out=`, `dtype=`, `where=` and `initial=` as NumPy has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.array import Array, as_array, wrap
from stager.ir.dims import Dim, Expr
from stager.ir.dtypes import DType, dtype_of, f64
from stager.numpy.registry import implements
from stager.numpy.ufuncs import apply_ufunc, as_array_like, truth
from stager.ops import elementwise as op
from stager.ops.views import reshape

_NO = np._NoValue  # type: ignore[attr-defined]


def normalize_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes as sorted non-negative ints; AxisError when one is out of range or repeated."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    out = []
    for a in axes:
        a = a.__index__()
        if not -ndim <= a < ndim:
            raise np.exceptions.AxisError(a, ndim)
        out.append(a % ndim)
    if len(set(out)) != len(out):
        raise ValueError("duplicate value in 'axis'")
    return tuple(sorted(out))


def kept(x: Any, axes: Sequence[int], shape: Sequence[Dim]) -> Any:
    """A reduced raw value with its reduced axes back as ones."""
    return reshape(x, shape=[1 if k in axes else d for k, d in enumerate(shape)])


def reduce(x: Any, axis: Any, keepdims: Any, rule: Any, dtype: DType | None = None) -> Array:
    """Apply a reduction op over axes."""
    x = as_array(as_array_like(x))
    r = x.raw() if dtype is None else op.convert(x.raw(), dtype=dtype)
    axes = normalize_axes(axis, len(r.type.shape))
    out = rule(r, axes=axes) if axes else r
    return wrap(kept(out, axes, r.type.shape) if keepdims is True else out)


def sum_dtype(d: DType) -> DType:
    """What NumPy accumulates a sum or product of this dtype in."""
    return dtype_of(np.add.reduce(np.zeros(0, d.np)).dtype)


@implements(np.sum, method="sum")
def sum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, initial: Any = _NO, where: Any = _NO) -> Array:
    """Sum over axes."""
    from stager.ops.reductions import reduce_sum

    a = as_array(as_array_like(a))
    return reduce(a, axis, keepdims, reduce_sum, sum_dtype(a.type.dtype) if dtype is None else dtype_of(dtype))


@implements(np.mean, method="mean")
def mean(a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = _NO) -> Array:
    """Arithmetic mean over axes."""
    a = as_array(as_array_like(a))
    d = dtype_of(dtype) if dtype is not None else (a.type.dtype if a.type.dtype.is_inexact else f64)
    total = sum(a, axis, d, None, keepdims)
    count: Dim = 1
    for k in normalize_axes(axis, a.ndim):
        count = count * a.type.shape[k]
    return apply_ufunc(np.divide, total, count if isinstance(count, Expr) else float(count), dtype=d.np)  # type: ignore[no-any-return]


__all__ = ["kept", "mean", "normalize_axes", "reduce", "sum", "sum_dtype", "truth"]
