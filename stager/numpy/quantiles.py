"""Medians, quantiles and percentiles, of all elements and of those that are not NaN.

All stand on `_ranked`: the elements that one result is made of, sorted along a new first axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.errors import UnsupportedError, describe
from stager.ir.dims import Dim, product
from stager.numpy.comparisons import dynamic
from stager.numpy.creation import concrete
from stager.numpy.indexing import getitem
from stager.numpy.joining import take
from stager.numpy.nan_functions import nanmean
from stager.numpy.reductions import deliver, mean, normalize_axes
from stager.numpy.registry import FUNCTIONS, implements
from stager.numpy.selection import where
from stager.numpy.shaping import permuted, reshape
from stager.numpy.ufuncs import apply_ufunc
from stager.ops.families import full
from stager.ops.sort import sort

_NO = np._NoValue
_PICKERS = ("lower", "higher", "midpoint", "nearest")


class _Ranked:
    """Sorted lines of an array, NaN last, and the way back to its shape."""

    def __init__(self, a: Any, axis: Any) -> None:
        x = dynamic(a)
        x = x if x.type.dtype.is_float else x.astype(np.float64)
        shape = x.type.shape
        self.axes = normalize_axes(axis, x.ndim)
        rest = [k for k in range(x.ndim) if k not in self.axes]
        self.count: Dim = product([shape[k] for k in self.axes])
        lines = reshape(permuted(x, [*self.axes, *rest]), (self.count, *[shape[k] for k in rest]))
        self.lines: Any = wrap(sort(lines.raw(), axis=0, num_keys=1, stable=True)[0])
        self.kept = [1 if k in self.axes else d for k, d in enumerate(shape)]

    def shaped(self, result: Any, keepdims: Any, lead: tuple[int, ...] = ()) -> Any:
        return reshape(result, (*lead, *self.kept)) if keepdims is True else result

    def nothing(self, lead: tuple[int, ...] = ()) -> Any:
        """What no elements give."""
        return wrap(full((*lead, *self.lines.type.shape[1:]), np.nan, self.lines.type.dtype))

    def unless_nan(self, result: Any) -> Any:
        """NaN sorts last: where there is one, the result is NaN."""
        last = getitem(self.lines, -1)
        return where(apply_ufunc(np.isnan, last), last, result)


@implements(np.median)
def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Array:
    """The middle value, the mean of the middle two."""
    r = _Ranked(a, axis)
    if r.count == 0:
        return deliver(r.shaped(r.nothing(), keepdims), out, "median")
    middle = mean(getitem(r.lines, slice((r.count - 1) // 2, r.count // 2 + 1)), 0)
    return deliver(r.shaped(r.unless_nan(middle), keepdims), out, "median")


@implements(np.nanmedian)
def nanmedian(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = _NO) -> Array:
    """Median of what is not NaN."""
    r = _Ranked(a, axis)
    if r.count == 0:
        return deliver(r.shaped(r.nothing(), keepdims), out, "nanmedian")
    n = _known_elements(r)
    low, high = _at(r, np.maximum((n - 1) // 2, 0)), _at(r, np.maximum(n // 2, 0))
    result = np.where(n % 2 == 1, low, (low + high) / 2)
    return deliver(r.shaped(_unless_empty(r, n, result), keepdims), out, "nanmedian")


def _known_elements(r: _Ranked) -> Any:
    """How many elements of each line are not NaN."""
    return np.sum(~np.isnan(r.lines), axis=0)


def _at(r: _Ranked, position: Any) -> Any:
    return np.take_along_axis(r.lines, position[None], axis=0)[0]


def _unless_empty(r: _Ranked, n: Any, result: Any) -> Any:
    return np.where(n == 0, r.lines.dtype.type(np.nan), result)


def _probabilities(name: str, q: Any, a: Any, highest: int) -> np.ndarray[Any, Any]:
    """q as NumPy takes it: a Python number in the array's own precision, the rest as it is."""
    known = concrete(q, name, "q")
    d = dynamic(a).type.dtype
    if isinstance(known, int | float) and d.is_float:
        known = np.asarray(known, d.np)
    known = np.asarray(known)
    if ((known < 0) | (known > highest)).any():
        named = "Quantiles must be in the range [0, 1]"
        raise ValueError(named if highest == 1 else "Percentiles must be in the range [0, 100]")
    return np.true_divide(known, known.dtype.type(100)) if highest == 100 else known * 1.0


def _interpolated(low: Any, high: Any, t: Any) -> Any:
    """From the nearer end, as NumPy does."""
    gap = high - low
    return np.where(t >= 0.5, high - gap * (1 - t), low + gap * t)


def _refuse(name: str, method: str, near: tuple[str, ...]) -> UnsupportedError:
    text = f"np.{name}: method {method!r} is not supported on traced arrays"
    return UnsupportedError(describe(text, remedy=f"near: {', '.join(map(repr, near))}"))


def _quantile(a: Any, q: np.ndarray[Any, Any], axis: Any, out: Any, method: str, keepdims: Any, weights: Any) -> Array:
    if weights is not None:
        raise UnsupportedError(describe("np.quantile: weights are not supported on traced arrays"))
    if method != "linear" and method not in _PICKERS:
        raise _refuse("quantile", method, ("linear", *_PICKERS))
    r = _Ranked(a, axis)
    if r.count == 0:
        raise IndexError("index -1 is out of bounds for axis 0 with size 0")
    last: Any = r.count - 1
    position = q * last  # of a symbolic size: traced
    position = position if isinstance(position, Array) else np.asarray(position)
    lower = np.clip(np.floor(position).astype(int), 0, last)
    upper = np.clip(lower + 1, 0, last)
    next_one = np.where(lower == position, lower, upper)
    if method == "linear":
        t = (position - lower).astype(q.dtype).reshape(position.shape + (1,) * (r.lines.ndim - 1))
        found = _interpolated(take(r.lines, lower, axis=0), take(r.lines, upper, axis=0), t if t.ndim else t[()])
    elif method == "midpoint":
        found = (take(r.lines, lower, axis=0) + take(r.lines, next_one, axis=0)) * 0.5  # type: ignore[operator]
    else:
        nearest = np.clip(np.around(position).astype(int), 0, last)
        found = take(r.lines, {"lower": lower, "higher": next_one, "nearest": nearest}[method], axis=0)
    return deliver(r.shaped(r.unless_nan(found), keepdims, q.shape), out, "quantile")


@implements(np.quantile)
def quantile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: Any = False,
    *,
    weights: Any = None,
) -> Array:
    """Quantiles by the linear method and the four that pick a neighbour; q must be known while tracing."""
    return _quantile(a, _probabilities("quantile", q, a, 1), axis, out, method, keepdims, weights)


@implements(np.percentile)
def percentile(
    a: Any,
    q: Any,
    axis: Any = None,
    out: Any = None,
    overwrite_input: bool = False,
    method: str = "linear",
    keepdims: Any = False,
    *,
    weights: Any = None,
) -> Array:
    """Percentiles; q must be known while tracing."""
    return _quantile(a, _probabilities("percentile", q, a, 100), axis, out, method, keepdims, weights)


def _nanquantile(
    a: Any, q: np.ndarray[Any, Any], axis: Any, out: Any, method: str, keepdims: Any, weights: Any
) -> Array:
    if weights is not None:
        raise UnsupportedError(describe("np.nanquantile: weights are not supported on traced arrays"))
    if method != "linear":
        raise _refuse("nanquantile", method, ("linear",))
    if dynamic(a).type.size == 0:  # NumPy gives the mean of nothing, without the axes of q
        return nanmean(a, axis, out=out, keepdims=keepdims)  # type: ignore[no-any-return]
    r = _Ranked(a, axis)
    n = _known_elements(r)
    parts = []
    for p in q.ravel():
        position = float(p) * (n - 1)
        lower = np.clip(np.floor(position).astype(np.int64), 0, None)
        upper = np.minimum(lower + 1, np.maximum(n - 1, 0))
        t = (position - lower).astype(np.result_type(q.dtype, r.lines.dtype))
        parts.append(_unless_empty(r, n, _interpolated(_at(r, lower), _at(r, upper), t)))
    result: Any = parts[0] if q.ndim == 0 else FUNCTIONS[np.stack](parts)
    if q.ndim > 1:
        result = result.reshape((*q.shape, *result.shape[1:]))
    return deliver(r.shaped(result, keepdims, q.shape), out, "nanquantile")


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
) -> Array:
    """Quantiles, by the linear method, of what is not NaN; q must be known while tracing."""
    return _nanquantile(a, _probabilities("nanquantile", q, a, 1), axis, out, method, keepdims, weights)


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
) -> Array:
    """Percentiles, by the linear method, of what is not NaN; q must be known while tracing."""
    return _nanquantile(a, _probabilities("nanpercentile", q, a, 100), axis, out, method, keepdims, weights)
