"""Sorting, searching and counting."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.errors import UnsupportedError, describe
from stager.ir.dtypes import f64, i64
from stager.numpy.creation import concrete
from stager.numpy.promotion import broadcast_raw, operand, result_dtype
from stager.numpy.reductions import reduce
from stager.numpy.registry import implements
from stager.numpy.shaping import axis_of, handle, ravel, reshape
from stager.numpy.ufuncs import apply_ufunc, truth
from stager.ops import elementwise as op
from stager.ops import sort as sort_ops
from stager.ops import views
from stager.ops.effects import check
from stager.ops.families import full
from stager.ops.indexed import gather, scatter
from stager.ops.structural import iota
from stager.symbols import decide, number


def _sorted_raw(a: Array, axis: int, kind: Any = None, stable: Any = None) -> Any:
    keep = bool(stable) or kind in ("stable", "mergesort")
    return sort_ops.sort(a.raw(), axis=axis, num_keys=1, stable=keep)[0]


@implements(np.sort)
def sort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Array:
    """A sorted copy; NaN last."""
    a = handle(a)
    if axis is None:
        a, axis = ravel(a), 0
    return wrap(_sorted_raw(a, axis_of(axis, a.ndim), kind, stable))


@implements(method="sort")
def sort_in_place(self: Array, axis: int = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> None:
    """Sort the array itself."""
    self.write(_sorted_raw(self, axis_of(axis, self.ndim), kind, stable))


@implements(np.partition)
def partition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Array:
    """A partitioned copy: fully sorted, which is a partition for every kth."""
    _check_kth(handle(a), kth, axis)
    return sort(a, axis)


def _check_kth(a: Array, kth: Any, axis: Any) -> None:
    n = a.type.size if axis is None else a.type.shape[axis_of(axis, a.ndim)]
    for k in np.atleast_1d(np.asarray(concrete(kth, "partition", "kth"))):
        if a.type.size != 0 and not (decide(">=", int(k), -n) and decide("<", int(k), n)):
            raise ValueError(f"kth(={k}) out of bounds ({n.__index__()})")


@implements(np.argsort, method="argsort")
def argsort(a: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Array:
    """The positions that sort; stable."""
    a = handle(a)
    if axis is None:
        a, axis = ravel(a), 0
    a = a if a.ndim else ravel(a)
    return wrap(sort_ops.argsort(a.raw(), axis=axis_of(axis, a.ndim)))


@implements(np.argpartition, method="argpartition")
def argpartition(a: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None) -> Array:
    """The positions that partition: those that sort."""
    _check_kth(handle(a), kth, axis)
    return argsort(a, axis)


@implements(np.lexsort)
def lexsort(keys: Any, axis: int = -1) -> Array:
    """The positions that sort by the last key, then the one before it, and so on."""
    items = [handle(k) for k in (keys if isinstance(keys, tuple | list) else list(handle(keys)))]  # type: ignore[call-overload]
    k = axis_of(axis, items[0].ndim)
    shape = items[0].type.shape
    order = views.broadcast(iota(shape[k]), shape=shape, axes=(k,))
    *_, found = sort_ops.sort(*[x.raw() for x in reversed(items)], order, axis=k, num_keys=len(items), stable=True)
    return wrap(found)


@implements(np.searchsorted, method="searchsorted")
def searchsorted(a: Any, v: Any, side: str = "left", sorter: Any = None) -> Array:
    """Where to insert v into sorted a."""
    if side not in ("left", "right"):
        raise ValueError(f"search side must be 'left' or 'right' (got {side!r})")
    a, v = handle(a), handle(v)
    if a.ndim != 1:
        raise ValueError("object of too small depth for desired array")
    if sorter is not None:
        from stager.numpy.joining import take

        a = take(a, sorter)
    d = result_dtype(a, v)
    return wrap(sort_ops.searchsorted(operand(a, d), operand(v, d), side=side))


@implements(np.digitize)
def digitize(x: Any, bins: Any, right: bool = False) -> Array:
    """The bin of each value; bins increase or decrease."""
    side = "left" if right else "right"
    if not isinstance(bins, Array):
        known = np.asarray(bins)
        if not (np.diff(known) < 0).any():
            return searchsorted(known, x, side)
        if (np.diff(known) > 0).any():
            raise ValueError("bins must be monotonically increasing or decreasing")
    import stager as st

    edges: Any = handle(bins)
    if edges.ndim != 1:
        raise ValueError("object of too small depth for desired array")
    rises: Any = np.all(edges[1:] >= edges[:-1])
    falls: Any = np.all(edges[1:] <= edges[:-1])
    check((rises | falls).raw(), exception="ValueError", text="bins must be monotonically increasing or decreasing")
    return st.cond(  # type: ignore[no-any-return]
        rises,
        lambda e, v: searchsorted(e, v, side),
        lambda e, v: apply_ufunc(np.subtract, number(e.type.shape[0]), searchsorted(e[::-1], v, side)),
        edges,
        handle(x),
    )


@implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Any = None, *, keepdims: bool = False) -> Array:
    """How many elements are not zero."""
    from stager.ops.reductions import reduce_sum

    return reduce(wrap(op.convert(truth(handle(a).raw()), dtype=i64)), axis, keepdims, reduce_sum)


@implements(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Array:
    """Occurrences of each non-negative int; the length must be known: minlength, or known values."""
    if not isinstance(x, Array) and not isinstance(weights, Array):
        from stager.numpy.creation_ranges import constant

        return constant(np.bincount(x, weights, minlength))
    a = handle(x)
    if not a.type.dtype.is_integer:
        raise TypeError(f"Cannot cast array data from {a.dtype!r} to dtype('int64') according to the rule 'safe'")
    n = int(concrete(minlength, "bincount", "minlength"))
    if not isinstance(x, Array):
        n = max(n, int(np.max(x)) + 1 if np.size(x) else 0)
    elif n == 0:
        raise UnsupportedError(
            describe(
                "np.bincount: the length of the result depends on the data",
                remedy="give minlength; a larger value is then an IndexError",
            )
        )
    position = op.convert(a.raw(), dtype=i64)
    # a negative value wraps nowhere: it is moved past the end, where the check finds it
    position = op.select(op.lt(position, 0), full(position.type.shape, n, i64), position)
    updates = (
        full(position.type.shape, 1, i64)
        if weights is None
        else broadcast_raw(operand(weights, f64), position.type.shape)
    )
    base = full((n,), 0, updates.type.dtype)
    return wrap(scatter(base, updates, position, axes=(0,), batch_dims=0, mode="check", combine="add"))


@implements(np.take_along_axis)
def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Array:
    """Elements at one position per line along an axis."""
    a, i = handle(arr), handle(indices)
    if axis is None:
        return take_along_axis(ravel(a), i, 0)
    k = axis_of(axis, a.ndim)
    if i.ndim != a.ndim:
        raise ValueError("`indices` and `arr` must have the same number of dimensions")
    x, idx = _lines(a.raw(), i.raw(), k)
    taken = gather(x, idx, axes=(a.ndim - 1,), batch_dims=a.ndim - 1, mode="check")
    return wrap(views.moveaxis(taken, a.ndim - 1, k))


def _lines(x: Any, idx: Any, k: int) -> tuple[Any, Any]:
    """Operand and positions with the axis last and the other axes broadcast together."""
    from stager.numpy.promotion import broadcast_shapes

    last = len(x.type.shape) - 1
    x, idx = views.moveaxis(x, k, last), op.convert(views.moveaxis(idx, k, last), dtype=i64)
    lines = broadcast_shapes("take_along_axis", [x.type.shape[:-1], idx.type.shape[:-1]])
    return broadcast_raw(x, (*lines, x.type.shape[-1])), broadcast_raw(idx, (*lines, idx.type.shape[-1]))


@implements(np.put_along_axis)
def put_along_axis(arr: Any, indices: Any, values: Any, axis: Any) -> None:
    """Write one position per line along an axis."""
    from stager.numpy.ufuncs import writable

    a, i = writable(arr), handle(indices)
    if axis is None:
        return put_along_axis(reshape(a, (-1,)), i, values, 0)
    k = axis_of(axis, a.ndim)
    x, idx = _lines(a.raw(), i.raw(), k)
    v = broadcast_raw(operand(handle(values), a.type.dtype), i.type.shape)
    updates = broadcast_raw(views.moveaxis(v, k, a.ndim - 1), idx.type.shape)
    new = scatter(x, updates, idx, axes=(a.ndim - 1,), batch_dims=a.ndim - 1, mode="check", combine="set")
    a.write(views.moveaxis(new, a.ndim - 1, k))
    return None
