"""Histograms of one and of several variables, and the edges of their bins."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.errors import UnsupportedError, describe
from stager.ir.dtypes import b1, f64, i64
from stager.numpy.comparisons import dynamic
from stager.numpy.creation_ranges import constant, linspace
from stager.numpy.promotion import broadcast_raw, operand, result_dtype
from stager.numpy.reductions import max as amax
from stager.numpy.reductions import min as amin
from stager.numpy.reductions import sum as total_of
from stager.numpy.registry import implements
from stager.numpy.scans import diff
from stager.numpy.selection import where
from stager.numpy.shaping import handle, ravel
from stager.numpy.ufuncs import apply_ufunc
from stager.ops import elementwise as op
from stager.ops import sort as sort_ops
from stager.ops import views
from stager.ops.effects import check
from stager.ops.families import full
from stager.ops.indexed import gather, scatter
from stager.ops.regions import dim_value


@implements(np.histogram_bin_edges)
def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Array:
    """The edges that `histogram` uses."""
    if isinstance(bins, str):
        raise UnsupportedError(describe(f"histogram: bins={bins!r} picks their number from the data", remedy="give it"))
    if np.ndim(bins):
        return handle(bins)
    bins = bins.__index__()
    if bins < 1:
        raise ValueError("`bins` must be positive, when an integer")
    d = handle(a).type.dtype
    d = d if d.is_float else f64
    if range is not None:
        low, high = float(range[0]), float(range[1])
        if low > high:
            raise ValueError("max must be larger than min in range parameter.")
        return constant(np.histogram_bin_edges(np.empty(0, d.np), bins, (low, high)))
    x = handle(a)
    if x.type.size == 0:
        return constant(np.histogram_bin_edges(np.empty(0, d.np), bins))
    least, most = dynamic(amin(x)).astype(d.np), dynamic(amax(x)).astype(d.np)
    finite = op.and_(op.isfinite(least.raw()), op.isfinite(most.raw()))
    check(finite, exception="ValueError", text="the range of the data is not finite")
    flat = apply_ufunc(np.equal, least, most)
    return linspace(where(flat, least - 0.5, least), where(flat, most + 0.5, most), bins + 1)  # type: ignore[no-any-return]


@implements(np.histogram)
def histogram(
    a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> tuple[Array, Array]:
    """(counts, edges)."""
    x = ravel(a)
    edges = histogram_bin_edges(x, bins, range)
    n = edges.type.shape[0] - 1
    d = result_dtype(x, edges) if np.ndim(bins) else edges.type.dtype
    v, e = operand(x, d), operand(edges, d)
    first = broadcast_raw(views.slice_axis(e, 0, 0, 1), v.type.shape)
    last = broadcast_raw(views.slice_axis(e, 0, n, 1), v.type.shape)
    inside = op.and_(op.ge(v, first), op.le(v, last))
    if np.ndim(bins):
        found = op.sub(sort_ops.searchsorted(e, v, side="right"), 1)
        found = op.select(op.eq(v, last), broadcast_raw(dim_value(n - 1), v.type.shape), found)
        found = op.select(inside, found, full(found.type.shape, 0, i64))
    else:
        assert isinstance(n, int)  # as `bins` is
        found = _equal_bins(op.select(inside, v, first), e, first, last, n)
    dtype = i64 if weights is None else handle(weights).type.dtype
    within = f64 if dtype.is_float else i64 if dtype is b1 else dtype  # what is added up in
    amount = full(v.type.shape, 1, i64) if weights is None else operand(ravel(weights), within)
    amount = op.select(inside, amount, full(v.type.shape, 0, within))
    total = scatter(full((n,), 0, within), amount, found, axes=(0,), batch_dims=0, mode="promise", combine="add")
    counts = wrap(op.convert(total, dtype=dtype))
    if density:
        counts = counts / diff(edges) / total_of(counts)
    return counts, edges


def _equal_bins(v: Any, edges: Any, first: Any, last: Any, n: int) -> Any:
    """The bin of each value between the first and the last of equally spaced edges: by arithmetic, whose rounding may
    miss by one bin what the edges themselves say."""
    shape = v.type.shape
    count, top = full(shape, n, v.type.dtype), full(shape, n - 1, i64)
    found = op.convert(op.mul(op.div(op.sub(v, first), op.sub(last, first)), count), dtype=i64)
    found = op.minimum(op.maximum(found, full(shape, 0, i64)), top)
    one, none = full(shape, 1, i64), full(shape, 0, i64)
    at = {"axes": (0,), "batch_dims": 0, "mode": "promise"}
    less = op.select(op.lt(v, gather(edges, found, **at)), one, none)
    beyond = op.and_(op.ge(v, gather(edges, op.add(found, one), **at)), op.lt(found, top))
    return op.add(op.sub(found, less), op.select(beyond, one, none))


@implements(np.histogram2d)
def histogram2d(x: Any, y: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    """Counts in a grid of bins, and the edges of both axes."""
    xs, ys = dynamic(x), dynamic(y)
    if xs.shape[0] != ys.shape[0]:
        raise ValueError("x and y must have the same length.")
    if not isinstance(bins, int | np.integer | str) and len(bins) != 2:
        bins = (bins, bins)
    hist, (first, second) = _gridded([xs.ravel(), ys.ravel()], bins, range, density, weights)
    return hist, first, second


@implements(np.histogramdd)
def histogramdd(sample: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None) -> Any:
    """Counts in a grid of bins of one axis per variable, and the edges of each. `sample` has a row per observation, or
    is one array per variable."""
    if isinstance(sample, Array | np.ndarray) and sample.ndim == 2:
        x = dynamic(sample)
        variables = [x[:, k] for k in builtins.range(x.shape[1])]
    else:
        variables = list(np.atleast_2d(dynamic(sample)))
    return _gridded(variables, bins, range, density, weights)


def _gridded(variables: list[Any], bins: Any, range: Any, density: Any, weights: Any) -> tuple[Any, list[Any]]:
    if isinstance(bins, int | np.integer | str):
        bins = [bins] * len(variables)
    if len(bins) != len(variables):
        raise ValueError("The dimension of bins must be equal to the dimension of the sample x.")
    ranges = [None] * len(variables) if range is None else range
    if len(ranges) != len(variables):
        raise ValueError("range argument must have one entry per dimension")
    edges = [_edges(v, b, r) for v, b, r in zip(variables, bins, ranges, strict=True)]
    shape = tuple([e.shape[0] - 1 for e in edges])
    place: Any = wrap(full(variables[0].type.shape, 0, i64))
    inside: Any = wrap(full(variables[0].type.shape, True, b1))
    for v, e, n in zip(variables, edges, shape, strict=True):
        i = np.where(v == e[-1], n - 1, np.searchsorted(e, v, side="right") - 1)
        place = place * n + i
        inside = inside & (v >= e[0]) & (v <= e[-1])
    ones = wrap(full(variables[0].type.shape, 1.0, f64))
    amount = ones if weights is None else dynamic(weights).ravel().astype(np.float64)
    updates, at = np.where(inside, amount, 0.0), np.where(inside, place, 0)
    base = full((math.prod(shape),), 0, f64)
    counts = scatter(
        base, dynamic(updates).raw(), dynamic(at).raw(), axes=(0,), batch_dims=0, mode="promise", combine="add"
    )
    hist: Any = wrap(views.reshape(counts, shape=shape))
    if density:
        everything = hist.sum()
        for k, e in enumerate(edges):
            hist = hist / np.diff(e).reshape([-1 if k == axis else 1 for axis in builtins.range(len(edges))])
        hist = hist / everything
    return hist, edges


def _edges(v: Any, bins: Any, range: Any) -> Any:
    if np.ndim(bins) == 0 and not isinstance(bins, str) and bins < 1:
        raise ValueError("`bins` must be positive, when an integer")
    return dynamic(histogram_bin_edges(v.astype(np.float64), bins, range))
