"""Reductions that leave NaN out. Those that find nothing but NaN give NaN, as NumPy does after its warning."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import wrap
from stager.numpy.comparisons import dynamic
from stager.numpy.reductions import deliver
from stager.numpy.registry import implements
from stager.ops import elementwise as op
from stager.ops.effects import check
from stager.ops.families import full_like
from stager.ops.reductions import reduce_and

_NO = np._NoValue


def replaced(a: Any, value: Any) -> tuple[Any, Any]:
    """(a with NaN replaced by value, where it was NaN or None for a dtype that has none)."""
    x = dynamic(a)
    if not x.type.dtype.is_float:
        return x, None
    mask = op.isnan(x.raw())
    return wrap(op.select(mask, full_like(x.raw(), value), x.raw())), wrap(mask)


def _passed(**kwargs: Any) -> dict[str, Any]:
    return {k: v for k, v in kwargs.items() if v is not _NO}


@implements(np.nansum)
def nansum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = _NO,
    initial: Any = _NO,
    where: Any = _NO,
) -> Any:
    """Sum, NaN as 0."""
    x, _ = replaced(a, 0)
    return np.sum(x, axis=axis, dtype=dtype, out=out, **_passed(keepdims=keepdims, initial=initial, where=where))


@implements(np.nanprod)
def nanprod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = _NO,
    initial: Any = _NO,
    where: Any = _NO,
) -> Any:
    """Product, NaN as 1."""
    x, _ = replaced(a, 1)
    return np.prod(x, axis=axis, dtype=dtype, out=out, **_passed(keepdims=keepdims, initial=initial, where=where))


@implements(np.nancumsum)
def nancumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running sums, NaN as 0."""
    return np.cumsum(replaced(a, 0)[0], axis=axis, dtype=dtype, out=out)


@implements(np.nancumprod)
def nancumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running products, NaN as 1."""
    return np.cumprod(replaced(a, 1)[0], axis=axis, dtype=dtype, out=out)


def _extreme(f: Any, other: float, a: Any, axis: Any, out: Any, keepdims: Any, initial: Any, where: Any) -> Any:
    x, mask = replaced(a, other)
    passed = _passed(keepdims=keepdims, initial=initial, where=where)
    if mask is None:
        return f(x, axis=axis, out=out, **passed)
    found = f(x, axis=axis, **passed)
    everywhere = np.all(mask, axis=axis, **_passed(keepdims=keepdims, where=where))
    if initial is not _NO:
        everywhere = everywhere & np.isnan(np.asarray(initial))
    return deliver(np.where(everywhere, x.dtype.type(np.nan), found), out, "nanmax")


@implements(np.nanmax)
def nanmax(a: Any, axis: Any = None, out: Any = None, keepdims: Any = _NO, initial: Any = _NO, where: Any = _NO) -> Any:
    """Maximum of what is not NaN."""
    return _extreme(np.max, -np.inf, a, axis, out, keepdims, initial, where)


@implements(np.nanmin)
def nanmin(a: Any, axis: Any = None, out: Any = None, keepdims: Any = _NO, initial: Any = _NO, where: Any = _NO) -> Any:
    """Minimum of what is not NaN."""
    return _extreme(np.min, np.inf, a, axis, out, keepdims, initial, where)


def _position(f: Any, other: float, a: Any, axis: Any, out: Any, keepdims: Any) -> Any:
    x, mask = replaced(a, other)
    if mask is not None:
        empty = np.all(mask, axis=axis)
        any_empty = (
            op.not_(reduce_and(op.not_(empty.raw()), axes=tuple(range(empty.ndim)))) if empty.ndim else empty.raw()
        )
        check(op.not_(any_empty), exception="ValueError", text="All-NaN slice encountered")
    return f(x, axis=axis, out=out, **_passed(keepdims=keepdims))


@implements(np.nanargmax)
def nanargmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = _NO) -> Any:
    """Position of the maximum of what is not NaN; ValueError where all is."""
    return _position(np.argmax, -np.inf, a, axis, out, keepdims)


@implements(np.nanargmin)
def nanargmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = _NO) -> Any:
    """Position of the minimum of what is not NaN; ValueError where all is."""
    return _position(np.argmin, np.inf, a, axis, out, keepdims)


def _refuse_integers(dtype: Any, out: Any) -> None:
    """NumPy's errors for means of floats that are to be integers."""
    if dtype is not None and np.dtype(dtype).kind not in "fc":
        raise TypeError("If a is inexact, then dtype must be inexact")
    if out is not None and dynamic(out).dtype.kind not in "fc":
        raise TypeError("If a is inexact, then out must be inexact")


@implements(np.nanmean)
def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = _NO, *, where: Any = _NO
) -> Any:
    """Mean of what is not NaN."""
    x, mask = replaced(a, 0)
    passed = _passed(keepdims=keepdims, where=where)
    if mask is None:
        return np.mean(x, axis=axis, dtype=dtype, out=out, **passed)
    _refuse_integers(dtype, out)
    total = np.sum(x, axis=axis, dtype=dtype, **passed)
    count = np.sum(~mask, axis=axis, dtype=np.intp, **passed)
    return deliver(
        np.divide(total, count, dtype=np.float64).astype(total.dtype)
        if total.dtype == np.float64
        else total / count.astype(total.dtype),
        out,
        "nanmean",
    )


@implements(np.nanvar)
def nanvar(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = _NO,
    *,
    where: Any = _NO,
    mean: Any = _NO,
    correction: Any = _NO,
) -> Any:
    """Variance of what is not NaN."""
    x, mask = replaced(a, 0)
    if mask is None:
        return np.var(
            x,
            axis=axis,
            dtype=dtype,
            out=out,
            ddof=ddof,
            **_passed(keepdims=keepdims, where=where, mean=mean, correction=correction),
        )
    _refuse_integers(dtype, out)
    ddof = float(ddof if correction is _NO else correction)
    among = _passed(where=where)
    count = np.sum(~mask, axis=axis, dtype=np.intp, keepdims=True, **among)
    center = mean if mean is not _NO else np.sum(x, axis=axis, dtype=dtype, keepdims=True, **among)
    if mean is _NO:
        center = center / count.astype(center.dtype)
    deviation = (x - center).astype(x.dtype)
    deviation = np.where(mask, x.dtype.type(0), deviation)
    total = np.sum(deviation * deviation, axis=axis, dtype=dtype, **_passed(keepdims=keepdims, where=where))
    freedom = np.sum(~mask, axis=axis, dtype=np.intp, **_passed(keepdims=keepdims, where=where)) - ddof
    result = np.where(freedom <= 0, total.dtype.type(np.nan), total / freedom.astype(total.dtype))
    return deliver(result, out, "nanvar")


@implements(np.nanstd)
def nanstd(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = _NO,
    *,
    where: Any = _NO,
    mean: Any = _NO,
    correction: Any = _NO,
) -> Any:
    """Standard deviation of what is not NaN."""
    return np.sqrt(nanvar(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction), out=out)
