"""`dot`: the contraction that every matrix product is an instance of.

The result's axes are the batch axes, then x's free axes, then y's, each group in the operand's own order. A mapped
operand contributes a free axis when the other one is not mapped, a batch axis when both are: batching never repeats
an operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.errors import DTypeError, ShapeError, describe
from stager.ir.types import Type
from stager.ops.elementwise import add
from stager.ops.families import define
from stager.ops.views import inverse, transpose

Pair = tuple[tuple[int, ...], tuple[int, ...]]


def free_axes(ndim: int, contracted: Sequence[int], batch: Sequence[int]) -> tuple[int, ...]:
    """An operand's axes that stay in the result, in its own order."""
    return tuple([k for k in range(ndim) if k not in contracted and k not in batch])


def _dot_type(x: Type, y: Type, *, contract: Pair, batch: Pair) -> Type:
    if x.dtype is not y.dtype:
        raise DTypeError(describe(f"dot: operands have dtypes {x.dtype}, {y.dtype}"))
    for (xs, ys), what in ((contract, "contracted"), (batch, "batch")):
        for i, j in zip(xs, ys, strict=True):
            if x.shape[i] != y.shape[j]:
                text = f"dot: {what} axis {i} of {x} and axis {j} of {y} differ: {x.shape[i]} and {y.shape[j]}"
                raise ShapeError(describe(text))
    x_free, y_free = free_axes(x.ndim, contract[0], batch[0]), free_axes(y.ndim, contract[1], batch[1])
    return Type(
        x.dtype, (*[x.shape[k] for k in batch[0]], *[x.shape[k] for k in x_free], *[y.shape[k] for k in y_free])
    )


def _dot_reference(x: Any, y: Any, *, contract: Pair, batch: Pair) -> Any:
    x_free, y_free = free_axes(x.ndim, contract[0], batch[0]), free_axes(y.ndim, contract[1], batch[1])
    batch_shape = [x.shape[k] for k in batch[0]]
    rows, cols = [x.shape[k] for k in x_free], [y.shape[k] for k in y_free]
    inner = int(np.prod([x.shape[k] for k in contract[0]], dtype=int))
    flat_batch = int(np.prod(batch_shape, dtype=int))
    a = x.transpose((*batch[0], *x_free, *contract[0])).reshape(flat_batch, int(np.prod(rows, dtype=int)), inner)
    b = y.transpose((*batch[1], *contract[1], *y_free)).reshape(flat_batch, inner, int(np.prod(cols, dtype=int)))
    return np.matmul(a, b).reshape((*batch_shape, *rows, *cols))


# -- derivatives ------------------------------------------------------------------------------------------------------


def _sorted_partners(mine: Sequence[int], theirs: Sequence[int]) -> list[int]:
    """My contracted axes in the order in which their partners stand in the other operand."""
    return [m for _, m in sorted(zip(theirs, mine, strict=True))]


def _dot_ct_x(ct: Any, x: Any, y: Any, contract: Pair, batch: Pair) -> Any:
    x_ndim, y_ndim, n_batch = len(x.type.shape), len(y.type.shape), len(batch[0])
    x_free, y_free = free_axes(x_ndim, contract[0], batch[0]), free_axes(y_ndim, contract[1], batch[1])
    ct_y_axes = tuple(range(n_batch + len(x_free), n_batch + len(x_free) + len(y_free)))
    product = dot(ct, y, contract=(ct_y_axes, y_free), batch=(tuple(range(n_batch)), batch[1]))
    return transpose(product, perm=inverse((*batch[0], *x_free, *_sorted_partners(*contract))))


def _dot_ct_y(ct: Any, x: Any, y: Any, contract: Pair, batch: Pair) -> Any:
    x_ndim, y_ndim, n_batch = len(x.type.shape), len(y.type.shape), len(batch[0])
    x_free, y_free = free_axes(x_ndim, contract[0], batch[0]), free_axes(y_ndim, contract[1], batch[1])
    ct_x_axes = tuple(range(n_batch, n_batch + len(x_free)))
    product = dot(x, ct, contract=(x_free, ct_x_axes), batch=(batch[0], tuple(range(n_batch))))
    return transpose(product, perm=inverse((*batch[1], *_sorted_partners(contract[1], contract[0]), *y_free)))


def _dot_jvp(primals: Any, tangents: Any, *, contract: Pair, batch: Pair) -> Any:
    (x, y), (tx, ty) = primals, tangents
    out = dot(x, y, contract=contract, batch=batch)
    left = None if tx is None else dot(tx, y, contract=contract, batch=batch)
    right = None if ty is None else dot(x, ty, contract=contract, batch=batch)
    return out, right if left is None else left if right is None else add(left, right)


def _dot_vjp(ct: Any, out: Any, args: Any, needs: Any, *, contract: Pair, batch: Pair) -> Any:
    x, y = args
    return [
        _dot_ct_x(ct, x, y, contract, batch) if needs[0] else None,
        _dot_ct_y(ct, x, y, contract, batch) if needs[1] else None,
    ]


# -- batching ---------------------------------------------------------------------------------------------------------


def _shifted(axes: Sequence[int], bdim: int) -> tuple[int, ...]:
    return tuple([a + (a >= bdim) for a in axes])


def _dot_batch(interp: Any, args: Any, bdims: Any, *, contract: Pair, batch: Pair) -> Any:
    (x, y), (x_bdim, y_bdim) = args, bdims
    xc, yc, xb, yb = contract[0], contract[1], batch[0], batch[1]
    if x_bdim is not None:
        xc, xb = _shifted(xc, x_bdim), _shifted(xb, x_bdim)
    if y_bdim is not None:
        yc, yb = _shifted(yc, y_bdim), _shifted(yb, y_bdim)
    if x_bdim is not None and y_bdim is not None:
        return dot(x, y, contract=(xc, yc), batch=((x_bdim, *xb), (y_bdim, *yb))), 0
    x_free = free_axes(len(x.type.shape), xc, xb)
    if y_bdim is None:
        out_bdim = len(xb) + x_free.index(x_bdim)
    else:
        out_bdim = len(xb) + len(x_free) + free_axes(len(y.type.shape), yc, yb).index(y_bdim)
    return dot(x, y, contract=(xc, yc), batch=(xb, yb)), out_bdim


# Sums of products over the contracted axis pairs, for every position of the batch pairs. Bools: or of ands.
dot = define(
    "dot", "contract", type_rule=_dot_type, reference=_dot_reference, jvp=_dot_jvp, vjp=_dot_vjp, batch=_dot_batch
)
