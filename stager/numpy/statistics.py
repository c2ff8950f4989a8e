"""Averages, spreads, covariance, interpolation, convolution, phase unwrapping."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import wrap
from stager.errors import ConcretizationError
from stager.ir.dims import dim_max, is_static, product
from stager.numpy.comparisons import dynamic
from stager.numpy.creation_ranges import arange
from stager.numpy.promotion import operand, result_dtype
from stager.numpy.reductions import normalize_axes
from stager.numpy.registry import implements
from stager.ops import views
from stager.ops.contract import dot
from stager.ops.effects import check
from stager.ops.elementwise import ge
from stager.ops.families import full
from stager.ops.reductions import reduce_and
from stager.ops.regions import dim_value
from stager.ops.sort import searchsorted
from stager.ops.structural import concatenate, iota_like, pad
from stager.symbols import decide
from stager.transforms.stops import stop_gradient

_NO = np._NoValue


def _every(mask: Any) -> Any:
    r = mask.raw()
    return reduce_and(r, axes=tuple(range(mask.ndim))) if mask.ndim else r


@implements(np.average)
def average(a: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = _NO) -> Any:
    """Weighted mean over axes."""
    x = dynamic(a)
    axes = None if axis is None else normalize_axes(axis, x.ndim)
    kept = {} if keepdims is _NO else {"keepdims": keepdims}
    if weights is None:
        found = x.mean(axis, **kept)
        if not returned:
            return found
        if is_static(product(x.type.shape)):
            count: Any = float(product(x.type.shape if axes is None else [x.type.shape[k] for k in axes]))
        else:
            count = wrap(dim_value(product(x.type.shape if axes is None else [x.type.shape[k] for k in axes])))
        return found, wrap(full(found.type.shape, 1, found.type.dtype)) * count
    w = dynamic(weights)
    if w.type.shape != x.type.shape:
        if axes is None:
            raise TypeError("Axis must be specified when shapes of a and weights differ.")
        if w.type.shape != tuple([x.type.shape[k] for k in axes]):
            raise ValueError("Shape of weights must be consistent with shape of a along specified axis.")
        order = axis if isinstance(axis, tuple) else (axis,)
        w = w.transpose(np.argsort([k % x.ndim for k in order]).tolist())
        w = w.reshape([d if k in axes else 1 for k, d in enumerate(x.type.shape)])
    d = result_dtype(x, w).np if x.type.dtype.is_float else np.result_type(x.dtype, w.dtype, "f8")
    scale = w.sum(axis=axis, dtype=d, **kept)
    check(_every(scale != 0.0), exception="ZeroDivisionError", text="Weights sum to zero, can't be normalized")
    found = np.multiply(x, w, dtype=d).sum(axis, **kept) / scale
    if returned:
        return found, scale if scale.type.shape == found.type.shape else np.broadcast_to(scale, found.shape).copy()
    return found


@implements(np.ptp)
def ptp(a: Any, axis: Any = None, out: Any = None, keepdims: Any = _NO) -> Any:
    """Maximum minus minimum."""
    kept = {} if keepdims is _NO else {"keepdims": keepdims}
    x = dynamic(a)
    return np.subtract(x.max(axis, **kept), x.min(axis, **kept), out=out)


@implements(np.cov)
def cov(
    m: Any,
    y: Any = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: Any = None,
    fweights: Any = None,
    aweights: Any = None,
    *,
    dtype: Any = None,
) -> Any:
    """Covariance matrix of variables in rows (columns with rowvar=False)."""
    if ddof is not None and ddof != int(ddof):
        raise ValueError("ddof must be integer")
    given = [dynamic(m)] + ([] if y is None else [dynamic(y)])
    if any(x.ndim > 2 for x in given):
        raise ValueError(f"{'m' if given[0].ndim > 2 else 'y'} has more than 2 dimensions")
    d = np.result_type(*[x.dtype for x in given], np.float64) if dtype is None else np.dtype(dtype)
    rows = []
    for k, x in enumerate(given):
        r = x.astype(d)
        r = r.reshape((1, -1)) if r.ndim < 2 else r
        transposed = (x.ndim != 1) if k == 0 else r.shape[0] != 1
        rows.append(r.T if not rowvar and transposed else r)
    X: Any = rows[0] if len(rows) == 1 else np.concatenate(rows, axis=0)
    if X.type.shape[0] == 0:
        return X[:0, :0]
    ddof = (0 if bias else 1) if ddof is None else ddof
    w: Any = None
    for weights in (fweights, aweights):
        if weights is not None:
            v = dynamic(weights).astype(float)
            if v.ndim > 1:
                raise RuntimeError("cannot handle multidimensional weights")
            if v.shape[0] != X.shape[1]:
                raise RuntimeError("incompatible numbers of samples and weights")
            w = v if w is None else w * v
    center, total = average(X, axis=1, weights=w, returned=True)
    if w is None:
        n = X.shape[1] - ddof
        if isinstance(n, int):
            factor: Any = np.float64(max(n, 0))
        else:
            factor = np.maximum(dynamic(n), 0)
    else:
        total = total[0]
        if ddof == 0:
            factor = total
        elif aweights is None:
            factor = total - ddof
        else:
            factor = total - ddof * (w * dynamic(aweights)).sum() / total
        factor = np.where(factor <= 0, 0.0, factor)
    X = X - center[:, None]
    Y = X.T if w is None else (X * w).T
    return (np.dot(X, Y) * np.true_divide(1.0, dynamic(factor))).astype(d, copy=False).squeeze()


@implements(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    """Correlation coefficients."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    spread = np.sqrt(np.diagonal(c))
    return np.clip(c / spread[:, None] / spread[None, :], -1, 1)


def _pieces(x0: Any, y0: Any, x1: Any, y1: Any) -> tuple[Any, Any, Any]:
    """Lines between points: slopes, and a point of each, from which NumPy's value follows where an end is infinite.

    Derivatives find no base: that a line moves when its base does, by the slope, is in the height. So what the values
    say about each piece are two sums.
    """
    slope = (y1 - y0) / np.where(x1 == x0, 1.0, x1 - x0)  # none is asked for between equal points
    flat = (np.isnan(slope) & (y0 == y1)) | (np.isinf(slope) & np.isinf(y0) & np.isfinite(y1))
    slope = np.where(flat, 0.0, slope)
    base, height = np.where(np.isinf(x0), x1, x0), np.where(np.isinf(x0), y1, y0)
    base = np.where(np.isinf(base) & (y0 == y1), 0.0, base)
    fixed = stop_gradient(base)
    known = np.isfinite(slope) & np.isfinite(base)
    return slope, fixed, height - np.where(known, slope, 0.0) * np.where(known, base - fixed, 0.0)


@implements(np.interp)
def interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    """Piecewise linear interpolation in float64."""
    at, grid, values = dynamic(x).astype(np.float64), dynamic(xp).astype(np.float64), dynamic(fp).astype(np.float64)
    if grid.ndim != 1 or values.ndim != 1:
        raise ValueError("Data points must be 1-D sequences")
    if grid.shape[0] != values.shape[0]:
        raise ValueError("fp and xp are not of the same length.")
    if grid.shape[0] == 0:
        raise ValueError("array of sample points is empty")
    if period is not None:
        if period == 0:
            raise ValueError("period must be a non-zero value")
        period, left, right = abs(period), None, None
        at, grid = at % period, grid % period
        order = np.argsort(grid)
        grid, values = grid[order], values[order]
        grid = np.concatenate((grid[-1:] - period, grid, grid[0:1] + period))
        values = np.concatenate((values[-1:], values, values[0:1]))
    n = grid.shape[0]
    found: Any = wrap(searchsorted(grid.raw(), at.raw(), side="right"))
    j = np.clip(found - 1, 0, max(n - 2, 0) if isinstance(n, int) else None)  # the piece
    if isinstance(n, int) and n > 1:
        x0, y0, x1, y1 = grid[:-1], values[:-1], grid[1:], values[1:]
    else:  # the last point begins a piece without extent
        behind = np.minimum(arange(n) + 1, n - 1)
        x0, y0, x1, y1 = grid, values, grid[behind], values[behind]
    slope, base, height = _pieces(x0, y0, x1, y1)
    slope, base, height = slope[j], base[j], height[j]
    given, at = at, np.where(np.isfinite(at), at, base)  # nothing that is not finite meets a derivative
    inner = slope * (at - base) + height
    inner = np.where((at == base) & np.isnan(inner), height, inner)
    begin: Any = np.maximum((grid == -np.inf).sum() - 1, 0)
    inner = np.where((given == grid[0]) & np.isinf(given), values[begin], inner)
    result = np.where(
        given >= grid[-1], np.where(given == grid[-1], values[-1], values[-1] if right is None else right), inner
    )
    result = np.where(given < grid[0], values[0] if left is None else left, result)
    return np.where(np.isnan(given), given, result)


def _windowed(a: Any, v: Any, low: int, high: int) -> Any:
    """sum_j a[k + j - low] v[j] over the j for which there is such an element of a, which has as many as v or more."""
    d = result_dtype(a, v)
    x, w = operand(a, d), operand(v, d)
    m = w.type.shape[0]
    inner = wrap(dot(views.windows(x, axis=0, size=m, step=1), w, contract=((1,), (0,)), batch=((), ())))
    if not low and not high:
        return inner
    ends = x.type.shape[0] - (m - 1)
    before = _overhanging(views.slice_axis(x, 0, 0, m - 1), w, first=True)[m - 1 - low :]
    after = _overhanging(views.slice_axis(x, 0, ends, m - 1), w, first=False)[:high]
    return np.concatenate([before, inner, after])


def _overhanging(part: Any, w: Any, first: bool) -> Any:
    """The sums in which 1, 2, ... of the last elements of the part take part (`first`: the reverse of that for its
    first elements). What a weight that is NaN or infinite has no element for is left out, not multiplied by zero."""
    (m,), d = w.type.shape, w.type.dtype
    margin = m - 1
    padded = pad(part, full((), 0, d), low=(margin if first else 0,), high=(0 if first else margin,), interior=(0,))
    at = wrap(iota_like(margin, m, 1))
    terms = np.multiply(wrap(views.windows(padded, axis=0, size=m, step=1)), wrap(w))
    return np.where(at >= margin if first else at < margin, terms, terms.dtype.type(0)).sum(1, dtype=d.np)


def _margins(mode: Any, m: Any) -> tuple[Any, Any]:
    names = {0: "valid", 1: "same", 2: "full"}
    mode = names.get(mode, mode)
    if mode == "valid":
        return 0, 0
    if mode == "full":
        return m - 1, m - 1
    if mode == "same":
        return m // 2, m - 1 - m // 2
    raise ValueError("mode must be one of 'valid', 'same', or 'full'")


@implements(np.correlate)
def correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    """Cross-correlation of two one-dimensional arrays."""
    x, w = dynamic(a), dynamic(v)
    x, w = (x.reshape(1) if x.ndim == 0 else x), (w.reshape(1) if w.ndim == 0 else w)
    if x.ndim != 1 or w.ndim != 1:
        raise ValueError("object too deep for desired array")
    if 0 in (x.shape[0], w.shape[0]):
        raise ValueError(f"{'first' if x.shape[0] == 0 else 'second'} array argument cannot be empty")
    x, w, swapped = _by_length(x, w)
    found = _windowed(x, w, *_margins(mode, w.shape[0]))
    return found[::-1].copy() if swapped else found


def _by_length(a: Any, v: Any) -> tuple[Any, Any, bool]:
    """(the longer, the shorter, whether they changed places). Where only the run knows, the first has to be the longer:
    ValueError at run time where it is not."""
    n, m = a.shape[0], v.shape[0]
    try:
        return (v, a, True) if decide(">", m, n) else (a, v, False)
    except ConcretizationError:
        text = "the first array has {0} elements, fewer than the {1} of the second"
        count, least = dim_value(n), dim_value(m)
        check(ge(count, least), count, least, exception="ValueError", text=text)
        missing = full((dim_max(0, m - n),), 0, a.type.dtype)
        return wrap(concatenate(a.raw(), missing, axis=0)), v, False


@implements(np.convolve)
def convolve(a: Any, v: Any, mode: Any = "full") -> Any:
    """Convolution of two one-dimensional arrays."""
    x, w = dynamic(a), dynamic(v)
    x, w = (x.reshape(1) if x.ndim == 0 else x), (w.reshape(1) if w.ndim == 0 else w)
    if 0 in (x.shape[0], w.shape[0]):
        raise ValueError(f"{'a' if x.shape[0] == 0 else 'v'} cannot be empty")
    x, w, _ = _by_length(x, w)
    return _windowed(x, w[::-1], *_margins(mode, w.shape[0]))


@implements(np.unwrap)
def unwrap(p: Any, discont: Any = None, axis: int = -1, *, period: Any = 6.283185307179586) -> Any:
    """Jumps by more than half a period undone."""
    x = dynamic(p)
    k = normalize_axes(axis, x.ndim)[0]
    dd = np.diff(x, axis=k)
    discont = period / 2 if discont is None else discont
    d = result_dtype(dd, period)
    if d.is_integer:
        high, rem = divmod(period, 2)
        ambiguous = rem == 0
    else:
        high, ambiguous = period / 2, True
    low = -high
    steps = np.mod(dd - low, period) + low
    if ambiguous:
        steps = np.where((steps == low) & (dd > 0), np.asarray(high, dtype=steps.dtype), steps)
    correct = np.where(np.abs(dd) < discont, np.asarray(0, dtype=steps.dtype), steps - dd)
    before = (slice(None),) * k
    first = x[(*before, slice(0, 1))].astype(d.np)
    return np.concatenate([first, (x[(*before, slice(1, None))] + correct.cumsum(k)).astype(d.np)], axis=k)
