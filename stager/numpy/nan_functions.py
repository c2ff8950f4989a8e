"""Reductions that leave NaN out. Those that find nothing but NaN give NaN, as NumPy does after its warning."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import wrap
from stager.errors import UnsupportedError, describe
from stager.numpy.comparisons import dynamic
from stager.numpy.reductions import deliver, kept, normalize_axes
from stager.numpy.registry import FUNCTIONS, implements
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


@implements(np.nanmean)
def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = _NO, *, where: Any = _NO
) -> Any:
    """Mean of what is not NaN."""
    x, mask = replaced(a, 0)
    passed = _passed(keepdims=keepdims, where=where)
    if mask is None:
        return np.mean(x, axis=axis, dtype=dtype, out=out, **passed)
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


def _ranked(a: Any, axis: Any) -> tuple[Any, Any, tuple[int, ...]]:
    """(sorted along a new first axis, how many are not NaN, the axes that became it)."""
    from stager.numpy.shaping import permuted, reshape

    x = dynamic(a)
    x = x if x.type.dtype.is_float else x.astype(np.float64)
    axes = normalize_axes(axis, x.ndim)
    rest = [k for k in range(x.ndim) if k not in axes]
    lines = reshape(permuted(x, [*axes, *rest]), (-1, *[x.type.shape[k] for k in rest]))
    ordered = np.sort(lines, axis=0)
    return ordered, np.sum(~np.isnan(ordered), axis=0), axes


def _at(ordered: Any, position: Any) -> Any:
    return np.take_along_axis(ordered, position[None], axis=0)[0]


def _shaped(result: Any, a: Any, axes: tuple[int, ...], keepdims: Any, lead: int = 0) -> Any:
    if keepdims is not True:
        return result
    shape = dynamic(a).type.shape
    if lead:
        return result.reshape((*result.shape[:lead], *[1 if k in axes else d for k, d in enumerate(shape)]))
    return wrap(kept(result.raw(), axes, shape))


@implements(np.nanmedian)
def nanmedian(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = _NO) -> Any:
    """Median of what is not NaN."""
    ordered, n, axes = _ranked(a, axis)
    low, high = _at(ordered, np.maximum((n - 1) // 2, 0)), _at(ordered, np.maximum(n // 2, 0))
    result = np.where(n % 2 == 1, low, (low + high) / 2)
    result = np.where(n == 0, ordered.dtype.type(np.nan), result)
    return deliver(_shaped(result, a, axes, keepdims), out, "nanmedian")


@implements(np.nanquantile)
def nanquantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: Any = _NO,
    *,
    weights: Any = None,
) -> Any:
    """Quantiles, by the linear method, of what is not NaN; q must be known while tracing."""
    from stager.numpy.creation import concrete

    if method != "linear" or weights is not None:
        raise UnsupportedError(
            describe("np.nanquantile: only the unweighted method 'linear' is supported on traced arrays")
        )
    known = np.asarray(concrete(q, "nanquantile", "q"), dtype=np.float64)
    if ((known < 0) | (known > 1)).any():
        raise ValueError("Quantiles must be in the range [0, 1]")
    ordered, n, axes = _ranked(a, axis)
    parts = []
    for p in known.ravel():
        position = float(p) * (n - 1)
        lower = np.clip(np.floor(position).astype(np.int64), 0, None)
        upper = np.minimum(lower + 1, np.maximum(n - 1, 0))
        t = (position - lower).astype(ordered.dtype)
        low, high = _at(ordered, lower), _at(ordered, upper)
        gap = high - low
        part = np.where(t >= 0.5, high - gap * (1 - t), low + gap * t)
        parts.append(np.where(n == 0, ordered.dtype.type(np.nan), part))
    result: Any = parts[0] if known.ndim == 0 else FUNCTIONS[np.stack](parts)
    if known.ndim > 1:
        result = result.reshape((*known.shape, *result.shape[1:]))
    return deliver(_shaped(result, a, axes, keepdims, known.ndim), out, "nanquantile")


@implements(np.nanpercentile)
def nanpercentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: Any = _NO,
    *,
    weights: Any = None,
) -> Any:
    """Percentiles, by the linear method, of what is not NaN; q must be known while tracing."""
    from stager.numpy.creation import concrete

    known = np.asarray(concrete(q, "nanpercentile", "q"), dtype=np.float64)
    if ((known < 0) | (known > 100)).any():
        raise ValueError("Percentiles must be in the range [0, 100]")
    return nanquantile(a, known / 100, axis, out, overwrite_input, method, keepdims, weights=weights)
