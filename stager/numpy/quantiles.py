"""Medians, quantiles and percentiles, of all elements and of those that are not NaN.

All stand on `_ranked`: the elements that one result is made of, sorted along a new first axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.ir.dims import Dim, product
from stager.numpy.comparisons import dynamic
from stager.numpy.indexing import getitem
from stager.numpy.joining import take
from stager.numpy.nan_functions import nanmean
from stager.numpy.reductions import deliver, mean, normalize_axes
from stager.numpy.registry import implements
from stager.numpy.selection import where
from stager.numpy.shaping import permuted, reshape
from stager.numpy.ufuncs import apply_ufunc
from stager.ops.effects import check
from stager.ops.families import full
from stager.ops.sort import sort
from stager.symbols import size_number

_NO = np._NoValue


class _Ranked:
    """Sorted lines of an array, NaN last, and the way back to its shape."""

    def __init__(self, a: Any, axis: Any) -> None:
        x = dynamic(a)
        shape = x.type.shape
        self.axes = normalize_axes(axis, x.ndim)
        rest = [k for k in range(x.ndim) if k not in self.axes]
        self.count: Dim = product([shape[k] for k in self.axes])
        lines = reshape(permuted(x, [*self.axes, *rest]), (self.count, *[shape[k] for k in rest]))
        self.lines: Any = wrap(sort(lines.raw(), axis=0, num_keys=1, stable=True)[0])
        self.kept = [1 if k in self.axes else d for k, d in enumerate(shape)]

    def shaped(self, result: Any, keepdims: Any, lead: tuple[int, ...] = ()) -> Any:
        return reshape(result, (*lead, *self.kept)) if keepdims is True else result

    def nothing(self) -> Any:
        """What no elements give."""
        return wrap(full(self.lines.type.shape[1:], np.nan, self.lines.type.dtype))

    def unless_nan(self, result: Any) -> Any:
        """NaN sorts last: where there is one, the result is NaN."""
        if not self.lines.type.dtype.is_float:
            return result
        last = getitem(self.lines, -1)
        return where(apply_ufunc(np.isnan, last), last, result)


def _floating(a: Any) -> Any:
    x = dynamic(a)
    return x if x.type.dtype.is_float else x.astype(np.float64)


@implements(np.median)
def median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False) -> Array:
    """The middle value, the mean of the middle two."""
    r = _Ranked(_floating(a), axis)
    if r.count == 0:
        return deliver(r.shaped(r.nothing(), keepdims), out, "median")
    middle = mean(getitem(r.lines, slice((r.count - 1) // 2, r.count // 2 + 1)), 0)
    return deliver(r.shaped(r.unless_nan(middle), keepdims), out, "median")


@implements(np.nanmedian)
def nanmedian(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = _NO) -> Array:
    """Median of what is not NaN."""
    r = _Ranked(_floating(a), axis)
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


# -- quantiles --------------------------------------------------------------------------------------------------------
#
# Of n sorted elements the quantile q stands at a position between them that the method says. Some methods pick an
# element there, the others go between two by a share that the method may fix.


def _between(alpha: float, beta: float) -> Any:
    return lambda n, q: n * q + (alpha + q * (1 - alpha - beta)) - 1


def _step(shift: float, stays: Any) -> Any:
    """The element at a position, or the next one unless `stays(rest, position)`."""

    def position(n: Any, q: Any) -> Any:
        at = n * q - 1 - shift
        low = np.floor(at)
        return np.maximum(np.where(stays(at - low, at), low, low + 1), 0).astype(np.int64)

    return position


def _half(share: Any, at: Any) -> Any:
    return np.where(at % 1 == 0, 0.0, 0.5)


def _averaged(share: Any, at: Any) -> Any:
    return np.where(share == 0, 0.5, 1.0)


# method: (the position of q among n elements, how the share is changed; None where an element is picked)
METHODS: dict[str, tuple[Any, Any]] = {
    "inverted_cdf": (_step(0.0, lambda rest, at: rest == 0), None),
    "closest_observation": (_step(0.5, lambda rest, at: (rest == 0) & (np.floor(at) % 2 == 1)), None),
    "averaged_inverted_cdf": (lambda n, q: n * q - 1, _averaged),
    "interpolated_inverted_cdf": (_between(0, 1), lambda share, at: share),
    "hazen": (_between(0.5, 0.5), lambda share, at: share),
    "weibull": (_between(0, 0), lambda share, at: share),
    "linear": (lambda n, q: (n - 1) * q, lambda share, at: share),
    "median_unbiased": (_between(1 / 3.0, 1 / 3.0), lambda share, at: share),
    "normal_unbiased": (_between(3 / 8.0, 3 / 8.0), lambda share, at: share),
    "lower": (lambda n, q: np.floor((n - 1) * q).astype(np.int64), None),
    "higher": (lambda n, q: np.ceil((n - 1) * q).astype(np.int64), None),
    "midpoint": (lambda n, q: 0.5 * (np.floor((n - 1) * q) + np.ceil((n - 1) * q)), _half),
    "nearest": (lambda n, q: np.around((n - 1) * q).astype(np.int64), None),
}


class _Probabilities:
    """q, known while tracing or not, and whether it is a Python number, which takes the precision of the data."""

    def __init__(self, q: Any, highest: int) -> None:
        traced = q if type(q) is Array else None
        if traced is None and not isinstance(q, np.ndarray):
            handle = dynamic(q) if isinstance(q, list | tuple) else None
            traced = handle if handle is not None and _holds_traced(q) else None
        self.weak = type(q) in (int, float) or (traced is not None and traced.weak and not traced.ndim)
        value: Any = np.asarray(q) if traced is None else traced
        if highest == 100:
            value = np.asarray(np.true_divide(value, 100)) if traced is None else np.true_divide(value, 100)
        text = "Quantiles must be in the range [0, 1]" if highest == 1 else "Percentiles must be in the range [0, 100]"
        if value.ndim > 2:
            raise ValueError("q must be a scalar or 1d")
        if traced is not None:
            inside: Any = np.all((value >= 0) & (value <= 1))
            check(inside.raw(), exception="ValueError", text=text)
        elif not ((value >= 0) & (value <= 1)).all():
            raise ValueError(text)
        self.value = value
        self.shape: tuple[int, ...] = tuple(value.shape)


def _holds_traced(q: Any) -> bool:
    return type(q) is Array or (isinstance(q, list | tuple) and any(_holds_traced(x) for x in q))


def _method(name: str) -> tuple[Any, Any]:
    if name not in METHODS:
        raise ValueError(f"{name!r} is not a valid method. Use one of: {METHODS.keys()}")
    return METHODS[name]


def _interpolated(low: Any, high: Any, t: Any) -> Any:
    """From the nearer end, as NumPy does."""
    gap = np.subtract(high, low)
    ahead, back = low + gap * t, high - gap * (1 - t)
    return np.where(t >= 0.5, back, ahead)


def _ranks(name: str, n: Any, q: Any) -> tuple[Any, Any, Any]:
    """(the element below, the one above, the share) of each q among n elements. None above: the one below is it."""
    position, share_of = _method(name)
    at = position(n, q)
    last = n - 1
    if share_of is None or (name == "linear" and at.dtype.kind in "iu"):
        return np.clip(at, 0, last).astype(np.int64), None, None
    low = np.floor(at)
    share = share_of(at - low, at)
    low = np.clip(low, 0, last)
    high = np.clip(np.where(at < 0, 0, low + 1), 0, last)
    beyond = at >= last
    low, high = np.where(beyond, last, low).astype(np.int64), np.where(beyond, last, high).astype(np.int64)
    return low, high, share


def _share(t: Any, p: _Probabilities, q: Any, lines: Any) -> Any:
    """The share in the dtype in which NumPy multiplies it."""
    if p.weak and lines.type.dtype.is_float:
        return t.astype(lines.dtype)
    return t.astype(q.dtype if q.dtype.kind == "f" else np.float64)


def _quantile(a: Any, q: Any, highest: int, axis: Any, out: Any, method: str, keepdims: Any, weights: Any) -> Array:
    p = _Probabilities(q, highest)
    if weights is not None:
        return _weighted(a, p, axis, out, method, keepdims, weights, False)
    _method(method)
    r = _Ranked(a, axis)
    if r.count == 0:
        raise IndexError("index -1 is out of bounds for axis 0 with size 0")
    low, high, share = _ranks(method, size_number(r.count), p.value)
    found: Any = take(r.lines, low, axis=0)
    if high is not None:
        share = _share(np.asarray(share) if not isinstance(share, Array) else share, p, p.value, r.lines)
        share = share.reshape(share.shape + (1,) * (r.lines.ndim - 1))
        found = _interpolated(found, take(r.lines, high, axis=0), share if share.ndim else share[()])
    return deliver(r.shaped(r.unless_nan(found), keepdims, p.shape), out, "quantile")


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
    """Quantiles by NumPy's methods; with weights by "inverted_cdf"."""
    return _quantile(a, q, 1, axis, out, method, keepdims, weights)


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
    """Percentiles by NumPy's methods; with weights by "inverted_cdf"."""
    return _quantile(a, q, 100, axis, out, method, keepdims, weights)


def _nanquantile(a: Any, q: Any, highest: int, axis: Any, out: Any, method: str, keepdims: Any, weights: Any) -> Array:
    p = _Probabilities(q, highest)
    x = dynamic(a)
    if x.type.size == 0:
        return nanmean(x, axis, out=out, keepdims=keepdims)  # type: ignore[no-any-return]
    if weights is not None:
        return _weighted(a, p, axis, out, method, keepdims, weights, True)
    if not x.type.dtype.is_float:
        return _quantile(a, q, highest, axis, out, method, keepdims, None)
    _method(method)
    r = _Ranked(a, axis)
    n = _known_elements(r)
    each = p.value.reshape((*p.shape, *(1,) * (r.lines.ndim - 1)))
    count = np.maximum(n, 1)
    low, high, share = _ranks(method, count.astype(each.dtype) if each.dtype.kind == "f" else count, each)
    found: Any = _picked(r, low, p.shape)
    if high is not None:
        found = _interpolated(found, _picked(r, high, p.shape), _share(share, p, p.value, r.lines))
    return deliver(r.shaped(_unless_empty(r, n, found), keepdims, p.shape), out, "nanquantile")


def _picked(r: _Ranked, at: Any, lead: tuple[int, ...]) -> Any:
    """The elements at ranks of (*lead, *the shape of a rank of each line)."""
    rest = r.lines.type.shape[1:]
    at = np.broadcast_to(at, (*lead, *rest)).reshape((-1, *rest))
    return np.take_along_axis(r.lines, at, axis=0).reshape((*lead, *rest))


def _weighted(
    a: Any, p: _Probabilities, axis: Any, out: Any, method: str, keepdims: Any, weights: Any, skip_nan: bool
) -> Array:
    """The first element, in order, up to which the weights reach the share q of their sum."""
    if method != "inverted_cdf":
        raise ValueError(f"Only method 'inverted_cdf' supports weights. Got: {method}.")
    x, w = dynamic(a), dynamic(weights)
    axes = normalize_axes(axis, x.ndim)
    if w.type.shape != x.type.shape:
        if axis is None:
            raise TypeError("Axis must be specified when shapes of a and weights differ.")
        if w.type.shape != tuple([x.type.shape[k] for k in axes]):
            raise ValueError("Shape of weights must be consistent with shape of a along specified axis.")
        w = w.reshape([d if k in axes else 1 for k, d in enumerate(x.type.shape)])
        w = np.broadcast_to(w, x.shape)
    positive: Any = np.all(w >= 0)
    check(positive.raw(), exception="ValueError", text="Weights must be non-negative.")
    r = _Ranked(x, axis)
    rest = [k for k in range(x.ndim) if k not in axes]
    values, amounts = [permuted(v, [*axes, *rest]).reshape(r.lines.shape) for v in (x, w)]  # type: ignore[attr-defined]
    order = np.argsort(values, axis=0, kind="stable")
    amounts = np.take_along_axis(amounts, order, axis=0).astype(np.float64)
    n: Any = size_number(r.count)
    if skip_nan and x.type.dtype.is_float:
        amounts = np.where(np.isnan(r.lines), 0.0, amounts)
        n = _known_elements(r)
    last = np.maximum(n - 1, 0)
    reached = np.cumsum(amounts, axis=0)
    reached = reached / reached[-1]
    text = "Weights included NaN, inf or were all zero."
    sound: Any = np.all(~np.isnan(reached[-1]) | (n == 0))
    check(sound.raw(), exception="ValueError", text=text)
    if p.value.dtype.kind == "f":
        reached = reached.astype(p.value.dtype)
    reached = np.where(reached == 0, -1.0, reached)  # elements of no weight at the start are none
    each = p.value.reshape((*p.shape, *(1,) * r.lines.ndim))
    at = np.minimum(np.sum(reached < each, axis=len(p.shape)), last)
    found: Any = _picked(r, at, p.shape)
    if skip_nan and x.type.dtype.is_float:
        found = _unless_empty(r, n, found)
    elif not skip_nan:
        found = r.unless_nan(found)
    return deliver(r.shaped(found, keepdims, p.shape), out, "quantile")


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
    """Quantiles of what is not NaN."""
    return _nanquantile(a, q, 1, axis, out, method, keepdims, weights)


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
    """Percentiles of what is not NaN."""
    return _nanquantile(a, q, 100, axis, out, method, keepdims, weights)
