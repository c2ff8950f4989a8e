"""Sets of values: unique elements and membership. Sizes that the data decides are as in `masks.py`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stager.array import wrap
from stager.errors import UnsupportedError, describe
from stager.ir.dtypes import i64
from stager.numpy.comparisons import dynamic
from stager.numpy.masks import flatnonzero
from stager.numpy.promotion import result_dtype
from stager.numpy.registry import implements
from stager.ops import views
from stager.ops.families import full
from stager.ops.indexed import scatter


class _Ordered(NamedTuple):
    values: Any  # sorted
    order: Any  # the permutation that sorts
    first: Any  # whether an element is the first of its value


def _ordered(a: Any, equal_nan: bool) -> _Ordered:
    flat = dynamic(a).ravel()
    order = np.argsort(flat, kind="stable")
    values = flat[order]
    fresh = values[1:] != values[:-1]
    if equal_nan and flat.type.dtype.is_float:
        fresh = fresh & ~(np.isnan(values[1:]) & np.isnan(values[:-1]))
    n = flat.type.shape[0]
    start = wrap(full((1,), True, result_dtype(np.True_)))
    first = fresh if n == 0 else np.concatenate([start, fresh])
    return _Ordered(values, order, first)


def _counts(first: Any, at: Any) -> Any:
    """How many elements each distinct one stands for."""
    n = first.type.shape[0]
    rank: Any = np.cumsum(first) - 1
    ones, none = full((n,), 1, i64), full((n,), 0, i64)
    counts = scatter(none, ones, rank.raw(), axes=(0,), batch_dims=0, mode="promise", combine="add")
    return wrap(views.slice_(counts, starts=(0,), sizes=at.type.shape, steps=(1,)))


@implements(np.unique)
def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: Any = None,
    *,
    equal_nan: bool = True,
    sorted: bool = True,
) -> Any:
    """The sorted distinct elements, with their first positions, the inverse and the counts on request."""
    a = dynamic(ar)
    if axis is not None and a.ndim > 1:
        raise UnsupportedError(
            describe("np.unique: axis= is not supported on traced arrays", remedy="np.lexsort orders rows")
        )
    if a.type.size == 0:
        none = wrap(full((0,), 0, i64))
        found: list[Any] = [wrap(full((0,), 0, a.type.dtype)), none, none, none]
    else:
        values, order, first = _ordered(a, equal_nan)
        at = flatnonzero(first)
        found = [values[at], None, None, None]
        if return_index:
            found[1] = order[at]
        if return_inverse:
            rank = np.cumsum(first) - 1
            inverse = wrap(full((a.type.size,), 0, i64))
            inverse[order] = rank  # type: ignore[index]
            found[2] = inverse.reshape(a.shape)  # type: ignore[attr-defined]
        if return_counts:
            found[3] = _counts(first, at)
    wanted = [found[0]] + [
        f for f, asked in zip(found[1:], (return_index, return_inverse, return_counts), strict=True) if asked
    ]
    return wanted[0] if len(wanted) == 1 else tuple(wanted)


@implements(np.unique_values)
def unique_values(x: Any, /) -> Any:
    """The distinct elements, sorted."""
    return unique(x, equal_nan=False)


@implements(np.isin)
def isin(
    element: Any, test_elements: Any, assume_unique: bool = False, invert: bool = False, *, kind: Any = None
) -> Any:
    """Whether each element is among test_elements."""
    a, b = dynamic(element), dynamic(test_elements).ravel()
    n = b.type.shape[0]
    if n == 0:
        found = wrap(full(a.type.shape, False, result_dtype(np.True_)))
    else:
        d = result_dtype(a, b).np
        a, b = a.astype(d, copy=False), np.sort(b.astype(d, copy=False))
        at = np.minimum(np.searchsorted(b, a), n - 1)
        found = b[at] == a
    return ~found if invert else found  # type: ignore[operator]


def _distinct(a: Any, assume_unique: bool) -> Any:
    flat = dynamic(a).ravel()
    return flat if assume_unique else unique(flat)


@implements(np.union1d)
def union1d(ar1: Any, ar2: Any) -> Any:
    """The distinct elements of both, sorted."""
    return unique(np.concatenate([dynamic(ar1).ravel(), dynamic(ar2).ravel()]))


@implements(np.intersect1d)
def intersect1d(ar1: Any, ar2: Any, assume_unique: bool = False, return_indices: bool = False) -> Any:
    """The distinct elements in both, sorted."""
    if return_indices:
        raise UnsupportedError(describe("np.intersect1d: return_indices= is not supported on traced arrays"))
    d = result_dtype(dynamic(ar1), dynamic(ar2)).np
    a = _distinct(dynamic(ar1).astype(d), False)
    return a[isin(a, ar2)]


@implements(np.setdiff1d)
def setdiff1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    """The distinct elements of ar1 that are not in ar2."""
    a = _distinct(ar1, assume_unique)
    return a[isin(a, ar2, invert=True)]


@implements(np.setxor1d)
def setxor1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    """The distinct elements in exactly one of both, sorted."""
    values: Any = np.sort(np.concatenate([unique(ar1), unique(ar2)]))  # each once or twice; NaN equals nothing
    if values.type.size == 0:
        return values
    end = wrap(full((1,), True, result_dtype(np.True_)))
    fresh = np.concatenate([end, values[1:] != values[:-1], end])
    return values[fresh[1:] & fresh[:-1]]
