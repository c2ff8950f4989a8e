"""Norms of vectors and matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array
from stager.errors import ConcretizationError, describe
from stager.numpy.comparisons import dynamic
from stager.numpy.reductions import normalize_axes
from stager.numpy.registry import implements
from stager.numpy.shaping import axis_of
from stager.numpy.spectra import svdvals


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Vector norms of every order; matrix norms."""
    a = dynamic(x)
    a = a if a.type.dtype.is_float else a.astype(float)
    n = a.ndim
    traced = type(ord) is Array
    if not traced and axis is None and (ord is None or (ord in ("f", "fro") and n == 2) or (ord == 2 and n == 1)):
        flat = a.ravel()
        found = _root(np.dot(flat, flat), np.sqrt)
        return found.reshape(n * [1]) if keepdims else found
    axes = tuple(range(n)) if axis is None else axis if isinstance(axis, tuple) else (int(axis),)
    if len(axes) == 1:
        return (_norm_of_order if traced else _vector_norm)(a, ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    if traced:
        text = f"np.linalg.norm: the order of a matrix norm must be known while tracing; a traced {ord.type} was given"
        raise ConcretizationError(describe(text, remedy="call it with a number, or branch on the order"))
    row, col = [axis_of(k, n) for k in axes]
    if row == col:
        raise ValueError("Duplicate axes given.")
    if ord in (2, -2, "nuc"):
        s: Any = svdvals(np.moveaxis(a, (row, col), (-2, -1)))
        if ord == "nuc":
            found = np.sum(s, axis=-1)
        else:
            found = np.max(s, axis=-1, initial=0) if ord == 2 else np.min(s, axis=-1)
    elif ord in (None, "fro", "f"):
        found = _root(np.sum(a * a, axis=(row, col)), np.sqrt)
    elif ord in (1, -1, np.inf, -np.inf):
        first, second = (row, col) if ord in (1, -1) else (col, row)
        sums = np.sum(np.abs(a), axis=first)
        second -= second > first
        found = sums.max(axis=second, initial=0) if ord > 0 else sums.min(axis=second)
    else:
        raise ValueError("Invalid norm order for matrices.")
    return found.reshape([1 if k in (row, col) else d for k, d in enumerate(a.type.shape)]) if keepdims else found


def _vector_norm(a: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order '{ord}' for vectors")
    if ord == np.inf:
        return np.abs(a).max(axis=axes, keepdims=keepdims, initial=0)
    if ord == -np.inf:
        return np.abs(a).min(axis=axes, keepdims=keepdims)
    if ord == 0:
        return (a != 0).astype(a.dtype).sum(axis=axes, keepdims=keepdims)
    if ord == 1:
        return np.sum(np.abs(a), axis=axes, keepdims=keepdims)
    if ord is None or ord == 2:
        return _root(np.sum(a * a, axis=axes, keepdims=keepdims), np.sqrt)
    total = np.sum(np.abs(a) ** ord, axis=axes, keepdims=keepdims)
    power = np.reciprocal(ord, dtype=a.dtype)
    return total**power if ord < 0 else _root(total, lambda t: t**power)


def _norm_of_order(a: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    """The norm of vectors of an order that only the run knows."""
    import stager as st

    def of(order: float) -> Any:
        return lambda a, _: dynamic(_vector_norm(a, order, axes, keepdims)).astype(a.dtype)

    def power(a: Any, ord: Any) -> Any:
        total = np.sum(np.abs(a) ** ord, axis=axes, keepdims=keepdims)
        return _root(total, lambda t: t ** (1.0 / ord)).astype(a.dtype)

    def endless(a: Any, ord: Any) -> Any:
        return st.cond(ord > 0, of(np.inf), of(-np.inf), a, ord)

    def finite(a: Any, ord: Any) -> Any:
        return st.cond(ord == 0, of(0), power, a, ord)

    return st.cond(np.isinf(ord), endless, finite, a, ord)


def _root(total: Any, root: Any) -> Any:
    """The root of a sum of powers, whose derivative at 0 is that of the norm at the origin: 0, one of its slopes."""
    zero = total == 0
    return np.where(zero, 0.0, root(np.where(zero, 1.0, total)))


@implements(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """Vector norm over any axes."""
    a = dynamic(x)
    axes = normalize_axes(axis, a.ndim)
    rest = [k for k in range(a.ndim) if k not in axes]
    lines = a.transpose([*axes, *rest]).reshape((-1, *[a.type.shape[k] for k in rest]))
    found = norm(lines, ord, 0)
    return found.reshape([1 if k in axes else d for k, d in enumerate(a.type.shape)]) if keepdims else found


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """Matrix norm over the last two axes."""
    return norm(x, ord, (-2, -1), keepdims)
