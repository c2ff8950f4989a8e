"""Products of arrays: matmul, dot and their kin, all one op (`dot`) with its axes said."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.errors import ShapeError, describe
from stager.ir.dtypes import b1
from stager.numpy.promotion import broadcast_raw, broadcast_shapes, operand, result_dtype
from stager.numpy.reductions import deliver
from stager.numpy.registry import implements
from stager.numpy.ufuncs import as_array_like
from stager.ops import elementwise as op
from stager.ops.contract import dot as contract
from stager.ops.views import reshape, slice_axis
from stager.symbols import require_same


def pair(a: Any, b: Any, dtype: Any = None) -> tuple[Any, Any]:
    """Two operands as raw values of their common dtype."""
    a, b = as_array_like(a), as_array_like(b)
    d = result_dtype(a, b) if dtype is None else dtype
    return operand(a, d), operand(b, d)


def _mismatch(name: str, x: Any, y: Any) -> ShapeError:
    return ShapeError(describe(f"{name}: shapes {tuple(x.type.shape)} and {tuple(y.type.shape)} not aligned"))


def aligned(name: str, x: Any, i: int, y: Any, j: int) -> tuple[Any, Any]:
    """Operands of a product over axis i of x and j of y. ShapeError where their extents differ."""
    from stager.symbols import agreed

    shape = agreed(name, [(x.type.shape[i],), (y.type.shape[j],)])
    if shape is not None:
        x, y = slice_axis(x, i % len(x.type.shape), 0, shape[0]), slice_axis(y, j, 0, shape[0])
    if x.type.shape[i] != y.type.shape[j]:
        raise _mismatch(name, x, y)
    return x, y


@implements(np.matmul)
def matmul(x1: Any, x2: Any, /, out: Any = None, **kwargs: Any) -> Array:
    """Matrix product over the last two axes, the others broadcast."""
    x, y = pair(x1, x2)
    if not x.type.shape or not y.type.shape:
        raise ValueError(
            "matmul: Input operand does not have enough dimensions (has 0, "
            "gufunc core with signature (n?,k),(k,m?)->(n?,m?) requires 1)"
        )
    nx, ny = len(x.type.shape), len(y.type.shape)
    x, y = aligned("matmul", x, -1, y, max(ny - 2, 0))
    if (nx <= 2 and ny <= 2) or ny <= 2:
        out_raw = contract(x, y, contract=((nx - 1,), (max(ny - 2, 0),)), batch=((), ()))
    else:
        drop_row = nx == 1
        x = reshape(x, shape=(1, *x.type.shape)) if drop_row else x
        nx = len(x.type.shape)
        batch = broadcast_shapes("matmul", [x.type.shape[:-2], y.type.shape[:-2]])
        x, y = broadcast_raw(x, (*batch, *x.type.shape[-2:])), broadcast_raw(y, (*batch, *y.type.shape[-2:]))
        k = len(batch)
        axes = tuple(range(k))
        out_raw = contract(x, y, contract=((k + 1,), (k,)), batch=(axes, axes))
        if drop_row:
            shape = out_raw.type.shape
            out_raw = reshape(out_raw, shape=(*shape[:-2], shape[-1]))
    given = out[0] if isinstance(out, tuple) else out
    if given is not None and given.ndim >= 2 and len(out_raw.type.shape) >= 2:  # these two axes are not broadcast
        for k in (-2, -1):
            want, have = out_raw.type.shape[k], given.shape[k]
            text = f"matmul: Output operand 0 has a mismatch in its core dimension (size {have}, not {want})"
            require_same(want, have, text)
    return deliver(wrap(out_raw), out, "matmul")


@implements(np.dot, method="dot")
def dot(a: Any, b: Any, out: Any = None) -> Array:
    """Sum over the last axis of a and the second last of b."""
    x, y = pair(a, b)
    nx, ny = len(x.type.shape), len(y.type.shape)
    if nx == 0 or ny == 0:
        shape = broadcast_shapes("dot", [x.type.shape, y.type.shape])
        product = op.and_ if x.type.dtype is b1 else op.mul
        return deliver(wrap(product(broadcast_raw(x, shape), broadcast_raw(y, shape))), out, "dot")
    k = max(ny - 2, 0)
    x, y = aligned("dot", x, -1, y, k)
    return deliver(wrap(contract(x, y, contract=((nx - 1,), (k,)), batch=((), ()))), out, "dot")


@implements(np.inner)
def inner(a: Any, b: Any, /) -> Array:
    """Sum over the last axes of both."""
    x, y = pair(a, b)
    if not x.type.shape or not y.type.shape:
        return dot(a, b)
    x, y = aligned("inner", x, -1, y, len(y.type.shape) - 1)
    return wrap(contract(x, y, contract=((len(x.type.shape) - 1,), (len(y.type.shape) - 1,)), batch=((), ())))


@implements(np.vdot)
def vdot(a: Any, b: Any, /) -> Array:
    """Inner product of the flattened arrays."""
    x, y = pair(a, b)
    if x.type.size != y.type.size:
        raise _mismatch("vdot", x, y)
    x, y = reshape(x, shape=(x.type.size,)), reshape(y, shape=(y.type.size,))
    return wrap(contract(x, y, contract=((0,), (0,)), batch=((), ())))


@implements(np.outer)
def outer(a: Any, b: Any, out: Any = None) -> Array:
    """All products of two flattened arrays."""
    x, y = pair(a, b)
    n, m = x.type.size, y.type.size
    product = op.and_ if x.type.dtype is b1 else op.mul
    x, y = broadcast_raw(reshape(x, shape=(n, 1)), (n, m)), broadcast_raw(reshape(y, shape=(1, m)), (n, m))
    return deliver(wrap(product(x, y)), out, "outer")


@implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Array:
    """Sum over the given axes of both."""
    x, y = pair(a, b)
    nx, ny = len(x.type.shape), len(y.type.shape)
    if not isinstance(axes, tuple | list):
        k = axes.__index__()
        ax, ay = list(range(nx - k, nx)), list(range(k))
    else:
        first, second = axes
        ax = [k % nx for k in (first if isinstance(first, tuple | list) else [first])]
        ay = [k % ny for k in (second if isinstance(second, tuple | list) else [second])]
    if len(ax) != len(ay) or any(x.type.shape[i] != y.type.shape[j] for i, j in zip(ax, ay, strict=True)):
        raise _mismatch("tensordot", x, y)
    return wrap(contract(x, y, contract=(tuple(ax), tuple(ay)), batch=((), ())))
