"""`np.pad`: every mode but "empty" values and functions of the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.errors import UnsupportedError, describe
from stager.ir.dims import Dim, Expr, dim_max
from stager.numpy.indexing import getitem
from stager.numpy.joining import take
from stager.numpy.promotion import operand
from stager.numpy.registry import implements
from stager.numpy.shaping import axis_of, broadcast_to, concatenate, handle
from stager.ops import elementwise as op
from stager.ops import structural


def _pad_widths(pad_width: Any, ndim: int) -> list[tuple[int, int]]:
    if isinstance(pad_width, dict):
        out = [(0, 0)] * ndim
        for axis, width in pad_width.items():
            out[axis_of(axis, ndim)] = (width, width) if isinstance(width, int) else tuple(width)
        return out
    w = np.broadcast_to(np.asarray(pad_width), (ndim, 2)).tolist()
    if any(v < 0 for pair in w for v in pair):
        raise ValueError("index can't contain negative values")
    return [(int(a), int(b)) for a, b in w]


@implements(np.pad)
def pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Array:
    """All modes of `np.pad` but "empty" zeros and user functions."""
    a = handle(array)
    widths = _pad_widths(pad_width, a.ndim)
    if mode in ("constant", "empty"):
        values = kwargs.get("constant_values", 0)
        r = a.raw()
        per_axis = (
            np.broadcast_to(np.asarray(values), (a.ndim, 2)).tolist()
            if not isinstance(values, Array)
            else [[values, values]] * a.ndim
        )
        if all(v == per_axis[0][0] for pair in per_axis for v in pair if not isinstance(v, Array)):
            low, high = [w[0] for w in widths], [w[1] for w in widths]
            v = operand(per_axis[0][0] if per_axis else 0, r.type.dtype)
            return (
                wrap(op.copy(r))
                if not any(low + high)
                else wrap(structural.pad(r, v, low=low, high=high, interior=[0] * a.ndim))
            )
        for k, (lo, hi) in enumerate(widths):
            low, high = [0] * a.ndim, [0] * a.ndim
            low[k] = lo
            r = structural.pad(r, operand(per_axis[k][0], r.type.dtype), low=low, high=high, interior=[0] * a.ndim)
            low[k], high[k] = 0, hi
            r = structural.pad(r, operand(per_axis[k][1], r.type.dtype), low=low, high=high, interior=[0] * a.ndim)
        return wrap(r)
    if mode in ("edge", "reflect", "symmetric", "wrap"):
        for k, (lo, hi) in enumerate(widths):
            if lo or hi:
                n = a.type.shape[k]
                if kwargs.get("reflect_type", "even") == "odd" and mode in ("reflect", "symmetric"):
                    a = _pad_odd(a, k, (lo, hi), mode)
                    continue
                if isinstance(n, Expr):
                    a = take(a, _padded(n, lo, hi, mode), axis=k)
                    continue
                order = np.pad(np.arange(n), (lo, hi), mode=mode)
                joined = _in_runs(a, k, order[:lo], order[lo + n :])
                a = take(a, order, axis=k) if joined is None else joined
        return a if any(lo or hi for lo, hi in widths) else wrap(op.copy(a.raw()))
    if mode in ("mean", "maximum", "minimum", "median"):
        return _pad_statistic(a, widths, mode, kwargs.get("stat_length"))
    if mode == "linear_ramp":
        return _pad_ramp(a, widths, kwargs.get("end_values", 0))
    raise UnsupportedError(
        describe(
            f"np.pad: mode {mode!r} is not supported on traced arrays",
            remedy="near: 'constant', 'edge', 'reflect', 'wrap'",
        )
    )


def _in_runs(a: Array, k: int, low: np.ndarray[Any, Any], high: np.ndarray[Any, Any]) -> Array | None:
    """An axis between its elements `low` and `high`, joined from parts of it; None where these are many."""
    before, behind = _runs(low), _runs(high)
    if len(before) + len(behind) > MOST_RUNS:
        return None
    parts = [[_run(a, k, *run) for run in runs] for runs in (before, behind)]
    return concatenate([*parts[0], a, *parts[1]], axis=k)


MOST_RUNS = 8
"""Parts beside a padded axis; more are gathered."""


def _runs(order: np.ndarray[Any, Any]) -> list[list[int]]:
    """(start, step, count) of runs upwards, downwards, and of one element."""
    runs: list[list[int]] = []
    for at in order.tolist():
        if runs:
            start, step, count = runs[-1]
            if count == 1 and -1 <= at - start <= 1:
                runs[-1] = [start, at - start, 2]
                continue
            if count > 1 and at == start + step * count:
                runs[-1][2] += 1
                continue
        runs.append([at, 1, 1])
    return runs


def _run(a: Array, k: int, start: int, step: int, count: int) -> Array:
    last = start + step * (count - 1)
    cut = slice(start, (last if step else start) + 1) if step >= 0 else slice(start, last - 1 if last else None, -1)
    part = getitem(a, (slice(None),) * k + (cut,))
    return part if step else broadcast_to(part, (*a.shape[:k], count, *a.shape[k + 1 :]))


def _padded(n: Dim, low: int, high: int, mode: str) -> Any:
    """Which of n elements, at least one, stands at each place of a padded axis."""
    from stager.numpy.creation_ranges import arange

    last: Any = n - 1
    at: Any = arange(-low, n + high)
    if mode == "edge":
        return np.clip(at, 0, last)
    if mode == "wrap":
        return at % n
    period = dim_max(2 * n - 2, 1) if mode == "reflect" else 2 * n
    at = at % period
    return np.where(at < n, at, (period if mode == "reflect" else period - 1) - at)


def _pad_odd(a: Array, k: int, width: tuple[int, int], mode: str) -> Array:
    """An axis reflected through its ends: f(end + t) = 2 f(end) - f(end - t), in either direction, again and again."""
    n = a.type.shape[k].__index__()
    period = 2 * n - 2 if mode == "reflect" else 2 * n
    turns, at = np.divmod(np.arange(-width[0], n + width[1]), period) if period else (0, np.zeros(n + sum(width), int))
    back = at >= n
    shape = tuple([-1 if i == k else 1 for i in range(a.ndim)])
    signs, firsts, lasts = (
        c.reshape(shape).astype(a.dtype) for c in (np.where(back, -1, 1), -2 * turns + 0 * at, 2 * turns + 2 * back)
    )
    inside: Any = take(a, np.where(back, period - (mode == "symmetric") - at, at), axis=k)
    first, last = (getitem(a, (slice(None),) * k + (slice(e, e + 1 or None),)) for e in (0, -1))
    ends = [np.where(c == 0, a.dtype.type(0), c * end) for c, end in ((firsts, first), (lasts, last))]
    return signs * inside + ends[0] + ends[1]  # type: ignore[no-any-return]


def _pad_statistic(a: Array, widths: Sequence[tuple[int, int]], mode: str, length: Any) -> Array:
    from stager.numpy.registry import FUNCTIONS

    rule = FUNCTIONS[{"mean": np.mean, "maximum": np.max, "minimum": np.min, "median": np.median}[mode]]
    lengths = (
        np.broadcast_to(np.asarray(length), (a.ndim, 2)).tolist() if length is not None else [[None, None]] * a.ndim
    )
    for k, (lo, hi) in enumerate(widths):
        n = a.type.shape[k]
        parts = []
        for side, (count, chosen) in enumerate(zip((lo, hi), lengths[k], strict=True)):
            part = (
                slice(None)
                if chosen is None or chosen >= n
                else slice(0, chosen)
                if side == 0
                else slice(n - chosen, None)
            )
            stat = rule(getitem(a, (slice(None),) * k + (part,)), axis=k, keepdims=True)
            if a.type.dtype.is_integer and mode in ("mean", "median"):
                from stager.numpy.ufuncs import apply_ufunc

                stat = apply_ufunc(np.rint, stat).astype(a.dtype)
            shape = tuple([count if i == k else d for i, d in enumerate(a.type.shape)])
            parts.append(broadcast_to(stat.astype(a.dtype), shape))
        a = concatenate([parts[0], a, parts[1]], axis=k)
    return a


def _pad_ramp(a: Array, widths: Sequence[tuple[int, int]], ends: Any) -> Array:
    from stager.numpy.creation_ranges import linspace

    values = np.broadcast_to(np.asarray(ends), (a.ndim, 2)).tolist()
    for k, (lo, hi) in enumerate(widths):
        first = getitem(a, (slice(None),) * k + (0,))
        last = getitem(a, (slice(None),) * k + (-1,))
        before = linspace(
            broadcast_to(handle(float(values[k][0])), first.type.shape), first, lo, endpoint=False, axis=k
        )
        after = linspace(broadcast_to(handle(float(values[k][1])), last.type.shape), last, hi, endpoint=False, axis=k)
        from stager.numpy.shaping import flip

        a = concatenate([before, a, flip(after, k)], axis=k, dtype=a.dtype, casting="unsafe")
    return a
