"""Running reductions and differences along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.ir.dtypes import DType, b1, dtype_of
from stager.numpy.indexing import getitem
from stager.numpy.reductions import deliver, kept_dtype, sum_dtype
from stager.numpy.registry import implements
from stager.numpy.shaping import axis_of, concatenate, handle, ravel
from stager.numpy.ufuncs import apply_ufunc
from stager.ops import elementwise as op
from stager.ops import scans


def running(rule: Any, a: Any, axis: Any, dtype: DType | None, out: Any, name: str) -> Array:
    """A scan along an axis (of the flattened array when it is None)."""
    a = handle(a)
    if axis is None:
        a, axis = ravel(a), 0
    a = a if a.ndim else ravel(a)
    k = axis_of(axis, a.ndim)
    if dtype is b1:  # a sum of truths is whether there was one, a product whether all were
        truths = op.convert(op.convert(a.raw(), dtype=b1), dtype=dtype_of(np.int8))
        found = _OF_TRUTHS[rule](truths, axis=k, reverse=False)
        return deliver(wrap(op.convert(found, dtype=b1)), out, name)
    r = a.raw() if dtype is None else op.convert(a.raw(), dtype=dtype)
    return deliver(wrap(rule(r, axis=k, reverse=False)), out, name)


_OF_TRUTHS = {scans.cumsum: scans.cummax, scans.cumprod: scans.cummin}


@implements(np.cumsum, method="cumsum")
def cumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Array:
    """Running sums."""
    dtype = kept_dtype(a, dtype, out)
    d = sum_dtype(handle(a).type.dtype) if dtype is None else dtype_of(dtype)
    return running(scans.cumsum, a, axis, d, out, "cumsum")


@implements(np.cumprod, method="cumprod")
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Array:
    """Running products."""
    dtype = kept_dtype(a, dtype, out)
    d = sum_dtype(handle(a).type.dtype) if dtype is None else dtype_of(dtype)
    return running(scans.cumprod, a, axis, d, out, "cumprod")


def _cumulative(rule: Any, x: Any, axis: Any, dtype: Any, out: Any, initial: bool, include_initial: bool) -> Array:
    x = handle(x)
    if axis is None:
        if x.ndim > 1:
            raise ValueError("For arrays which have more than one dimension ``axis`` argument is required.")
        axis = 0
    result = rule(x, axis, dtype)
    if include_initial:
        shape = tuple([1 if k == axis_of(axis, x.ndim) else d for k, d in enumerate(result.type.shape)])
        from stager.ops.families import full

        result = concatenate([wrap(full(shape, initial, result.type.dtype)), result], axis=axis)
    return deliver(result, out, "cumulative")


@implements(np.cumulative_sum)
def cumulative_sum(
    x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
) -> Array:
    """Running sums, with a leading 0 on request."""
    return _cumulative(cumsum, x, axis, dtype, out, False, include_initial)


@implements(np.cumulative_prod)
def cumulative_prod(
    x: Any, /, *, axis: Any = None, dtype: Any = None, out: Any = None, include_initial: bool = False
) -> Array:
    """Running products, with a leading 1 on request."""
    return _cumulative(cumprod, x, axis, dtype, out, True, include_initial)


@implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = np._NoValue, append: Any = np._NoValue) -> Any:
    """The n-th difference along an axis."""
    a = handle(a)
    n = n.__index__()
    if n < 0:
        raise ValueError(f"order must be non-negative but got {n!r}")
    if n == 0:
        return a
    k = axis_of(axis, a.ndim)
    parts: list[Any] = []
    for extra in (prepend, append):
        if extra is np._NoValue:
            parts.append(None)
            continue
        e = handle(extra if isinstance(extra, Array) else np.asanyarray(extra))  # of its own dtype, as in NumPy
        if e.ndim == 0:
            from stager.numpy.shaping import broadcast_to

            e = broadcast_to(e, tuple([1 if i == k else d for i, d in enumerate(a.type.shape)]))
        parts.append(e)
    joined = [p for p in (parts[0], a, parts[1]) if p is not None]
    a = concatenate(joined, axis=k) if len(joined) > 1 else a
    for _ in range(n):
        before = (slice(None),) * k
        rule = np.not_equal if a.type.dtype is b1 else np.subtract
        a = apply_ufunc(rule, getitem(a, (*before, slice(1, None))), getitem(a, (*before, slice(None, -1))))
    return a


@implements(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Array:
    """Differences of the flattened array, with more at either end."""
    flat = ravel(ary)
    middle = diff(flat)

    def end(name: str, more: Any) -> list[Array]:
        more = None if more is None else ravel(more)
        if more is not None and not np.can_cast(more.dtype, flat.dtype, "same_kind"):
            raise TypeError(f"dtype of `{name}` must be compatible with input `ary` under the `same_kind` rule.")
        return [] if more is None else [wrap(op.convert(more.raw(), dtype=flat.type.dtype))]

    parts = [*end("to_begin", to_begin), middle, *end("to_end", to_end)]
    return concatenate(parts) if len(parts) > 1 else middle


@implements(np.trapezoid)
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: int = -1) -> Any:
    """The integral by the trapezoidal rule."""
    from stager.numpy.reductions import sum
    from stager.numpy.shaping import reshape

    y = handle(y)
    k = axis_of(axis, y.ndim)
    if x is not None:
        steps = diff(x, axis=k if handle(x).ndim > 1 else 0)
        if steps.ndim == 1:
            steps = reshape(steps, [steps.type.shape[0] if i == k else 1 for i in range(y.ndim)])
    else:
        steps = dx
    before = (slice(None),) * k
    heights = apply_ufunc(np.add, getitem(y, (*before, slice(1, None))), getitem(y, (*before, slice(None, -1))))
    return sum(apply_ufunc(np.divide, apply_ufunc(np.multiply, steps, heights), 2.0), k)


@implements(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Central differences in the interior, one-sided at the edges; uniform or given coordinates."""
    from stager.numpy.reductions import normalize_axes

    f = handle(f)
    axes = normalize_axes(axis, f.ndim) if not isinstance(axis, tuple) else tuple([axis_of(k, f.ndim) for k in axis])
    spacings = list(varargs) or [1.0] * len(axes)
    if len(spacings) == 1:
        spacings = spacings * len(axes)
    if len(spacings) != len(axes):
        raise TypeError("invalid number of arguments")
    if f.type.dtype.is_integer:
        f = f.astype(np.float64)
    out = [_gradient_along(f, k, h, edge_order) for k, h in zip(axes, spacings, strict=True)]
    return out[0] if len(axes) == 1 else tuple(out)


def _gradient_along(f: Array, k: int, h: Any, edge_order: int) -> Array:
    from stager.numpy.shaping import reshape

    def at(lo: Any, hi: Any) -> Any:
        return part(f, lo, hi)

    def part(x: Any, lo: Any, hi: Any) -> Any:
        return getitem(x, (slice(None),) * k + (slice(lo, hi),))

    n = f.type.shape[k]
    if isinstance(n, int) and n < edge_order + 1:
        raise ValueError(
            "Shape of array too small to calculate a numerical gradient, "
            "at least (edge_order + 1) elements are required."
        )
    if edge_order not in (1, 2):
        raise ValueError("'edge_order' greater than 2 not supported")
    steps: Any = h
    if np.ndim(h) if not isinstance(h, Array) else h.ndim:
        steps = reshape(diff(h), [-1 if i == k else 1 for i in range(f.ndim)])
        h1, h2 = part(steps, None, -1), part(steps, 1, None)
        total = h1 + h2
        inner = -h2 / (h1 * total) * at(None, -2) + (h2 - h1) / (h1 * h2) * at(1, -1) + h1 / (h2 * total) * at(2, None)
        first_h, last_h = part(steps, 0, 1), part(steps, -1, None)
        ends = (
            (part(steps, 0, 1), part(steps, 1, 2)),
            (part(steps, -2, -1), part(steps, -1, None)),
        )
    else:
        inner = (at(2, None) - at(None, -2)) / (2.0 * steps)
        first_h = last_h = steps
        ends = ((steps, steps), (steps, steps))
    if edge_order == 1:
        first = (at(1, 2) - at(0, 1)) / first_h
        last = (at(-1, None) - at(-2, -1)) / last_h
    else:
        (a, b), (c, d) = ends
        first = -(2.0 * a + b) / (a * (a + b)) * at(0, 1) + (a + b) / (a * b) * at(1, 2) - a / (b * (a + b)) * at(2, 3)
        last = (
            d / (c * (c + d)) * at(-3, -2)
            - (d + c) / (c * d) * at(-2, -1)
            + (2.0 * d + c) / (d * (c + d)) * at(-1, None)
        )
    return concatenate([first, inner, last], axis=k)
