"""Sets of values: unique elements and membership. Sizes that the data decides are as in `masks.py`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stager.array import wrap
from stager.ir.dims import product
from stager.ir.dtypes import i64
from stager.numpy.comparisons import dynamic
from stager.numpy.masks import flatnonzero
from stager.numpy.promotion import result_dtype
from stager.numpy.registry import implements
from stager.numpy.shaping import axis_of
from stager.ops import views
from stager.ops.families import full
from stager.ops.indexed import scatter
from stager.ops.structural import iota
from stager.symbols import size_number


class _Ordered(NamedTuple):
    values: Any  # sorted
    order: Any  # the permutation that sorts
    first: Any  # whether an element is the first of its value


def _ordered(flat: Any, equal_nan: bool) -> _Ordered:
    order = np.argsort(flat, kind="stable")
    values = flat[order]
    fresh = values[1:] != values[:-1]
    if equal_nan and flat.type.dtype.is_float:
        fresh = fresh & ~(np.isnan(values[1:]) & np.isnan(values[:-1]))
    return _Ordered(values, order, _started(fresh, flat.type.shape[0]))


def _started(fresh: Any, n: Any) -> Any:
    start = wrap(full((1,), True, result_dtype(np.True_)))
    return fresh if n == 0 else np.concatenate([start, fresh])


def _ordered_rows(rows: Any) -> _Ordered:
    """Rows of a matrix by their first elements, then by their second ones, and so on; NaN equals nothing."""
    import stager as st

    n, columns = rows.type.shape
    order: Any = wrap(iota(n))
    if isinstance(columns, int) and 0 < columns <= KEYS:
        order = np.lexsort(tuple([rows[:, k] for k in range(columns)][::-1]))
    elif columns != 0:  # from the last column to the first, each sort leaves what it finds equal in place
        order = st.fori_loop(
            0, columns, lambda k, order: order[np.argsort(rows[order, columns - 1 - k], kind="stable")], order
        )
    values = rows[order]
    return _Ordered(values, order, _started(np.any(values[1:] != values[:-1], axis=1), n))


KEYS = 8  # rows of more elements are sorted column by column


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
    """The sorted distinct elements (with `axis`, the parts along it), with their first positions, the inverse and the
    counts on request."""
    a = dynamic(ar)
    if axis is None:
        found, shape = _ordered(a.ravel(), equal_nan), a.type.shape
    else:
        k = axis_of(axis, a.ndim)
        lead = np.moveaxis(a, k, 0)
        rest = lead.type.shape[1:]
        found, shape = _ordered_rows(lead.reshape((lead.type.shape[0], product(rest)))), (lead.type.shape[0],)
    values, order, first = found
    at = flatnonzero(first)
    distinct = values[at]
    if axis is not None:
        distinct = np.moveaxis(distinct.reshape((at.type.shape[0], *rest)), 0, k)
    wanted = [distinct]
    if return_index:
        wanted.append(order[at])
    if return_inverse:
        inverse: Any = wrap(full((first.type.shape[0],), 0, i64))
        inverse[order] = np.cumsum(first) - 1
        wanted.append(inverse.reshape(shape))
    if return_counts:
        wanted.append(_counts(first, at))
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
        return _common(dynamic(ar1).ravel(), dynamic(ar2).ravel(), assume_unique)
    d = result_dtype(dynamic(ar1), dynamic(ar2)).np
    a = _distinct(dynamic(ar1).astype(d), False)
    return a[isin(a, ar2)]


def _common(a: Any, b: Any, assume_unique: bool) -> Any:
    """The elements in both, and where they stand first in each."""
    found = [(x, None) if assume_unique else unique(x, return_index=True) for x in (a, b)]
    both = np.concatenate([found[0][0], found[1][0]])
    order = np.argsort(both, kind="stable")
    both = both[order]
    twice = flatnonzero(both[1:] == both[:-1])
    places = [order[:-1][twice], order[1:][twice] - size_number(found[0][0].type.shape[0])]
    return both[:-1][twice], *[at if first is None else first[at] for at, (_, first) in zip(places, found, strict=True)]


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
