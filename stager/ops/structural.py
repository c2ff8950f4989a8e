"""Structural ops: results put together piecewise from their operands (updates, pad, concatenate)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.errors import DTypeError, ShapeError, describe
from stager.interpreters.stack import nearest_stage
from stager.ir.core_ops import iota_op
from stager.ir.dims import Dim, dim_max
from stager.ir.dtypes import DType, i64
from stager.ir.types import Type
from stager.ops.families import batch_all_front, linear, zeros_like
from stager.ops.views import broadcast, diagonal, reshape, slice_, slice_index

# -- iota -------------------------------------------------------------------------------------------------------------


def iota(size: Dim, dtype: DType = i64) -> Any:
    """0, 1, …, size-1: a constant to every level."""
    return nearest_stage().process(iota_op, (), {"size": size, "dtype": dtype})


def iota_along(shape: Sequence[Dim], axis: int, dtype: DType = i64) -> Any:
    """The index along `axis`, for every position of `shape`."""
    return broadcast(iota(shape[axis], dtype), shape=shape, axes=(axis,))


def iota_like(rows: Dim, cols: Dim, step: int) -> Any:
    """The positions i*step + j as an i64[rows,cols]."""
    from stager.ops.elementwise import add, mul

    i, j = iota_along((rows, cols), 0), iota_along((rows, cols), 1)
    return add(mul(i, step) if step != 1 else i, j)


# -- updates ----------------------------------------------------------------------------------------------------------


def _same_dtype(name: str, types: Sequence[Type]) -> None:
    if any(t.dtype is not types[0].dtype for t in types):
        raise DTypeError(describe(f"{name}: operands have dtypes {', '.join(str(t.dtype) for t in types)}"))


def _slice_update_type(x: Type, value: Type, *, starts: Any, sizes: Any, steps: Any) -> Type:
    _same_dtype("slice_update", (x, value))
    if value.shape != tuple(sizes):
        raise ShapeError(describe(f"slice_update: cannot write {value} to positions of shape {tuple(sizes)} in {x}"))
    return x


def _slice_update_reference(x: Any, value: Any, *, starts: Any, sizes: Any, steps: Any) -> Any:
    out = np.array(x)
    out[slice_index(starts, sizes, steps)] = value
    return out


def _slice_update_transpose(ct: Any, args: Sequence[Any], needs: Sequence[bool], **params: Any) -> list[Any]:
    _, value = args
    return [
        slice_update(ct, zeros_like(value), **params) if needs[0] else None,
        slice_(ct, **params) if needs[1] else None,
    ]


def _slice_update_batch(interp: Any, args: Any, bdims: Any, *, starts: Any, sizes: Any, steps: Any) -> Any:
    x, value = batch_all_front(interp, args, bdims)
    return slice_update(x, value, starts=(0, *starts), sizes=(interp.batch_size, *sizes), steps=(1, *steps)), 0


_slice_update = linear(
    "slice_update",
    "structural",
    type_rule=_slice_update_type,
    reference=_slice_update_reference,
    transpose=_slice_update_transpose,
    batch=_slice_update_batch,
)


def slice_update(x: Any, value: Any, *, starts: Sequence[Dim], sizes: Sequence[Dim], steps: Sequence[int]) -> Any:
    """x with the elements that `slice` would read replaced by `value`."""
    if tuple(sizes) == x.type.shape and all(s == 1 for s in steps):
        return value
    return _slice_update(x, value, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))


def _diagonal_update_reference(x: Any, value: Any, *, axis1: int, axis2: int, offset: int) -> Any:
    out = np.array(x)
    writable = np.moveaxis(out, (axis1, axis2), (-2, -1))
    k = np.arange(value.shape[-1])
    writable[..., k + max(0, -offset), k + max(0, offset)] = value
    return out


def _diagonal_update_type(x: Type, value: Type, **params: Any) -> Type:
    _same_dtype("diagonal_update", (x, value))
    return x


def _diagonal_update_transpose(ct: Any, args: Sequence[Any], needs: Sequence[bool], **params: Any) -> list[Any]:
    return [
        diagonal_update(ct, zeros_like(args[1]), **params) if needs[0] else None,
        diagonal(ct, **params) if needs[1] else None,
    ]


def _diagonal_update_batch(interp: Any, args: Any, bdims: Any, *, axis1: int, axis2: int, offset: int) -> Any:
    x, value = batch_all_front(interp, args, bdims)
    return diagonal_update(x, value, axis1=axis1 + 1, axis2=axis2 + 1, offset=offset), 0


diagonal_update = linear(
    "diagonal_update",
    "structural",
    type_rule=_diagonal_update_type,
    reference=_diagonal_update_reference,
    transpose=_diagonal_update_transpose,
    batch=_diagonal_update_batch,
)

# -- pad --------------------------------------------------------------------------------------------------------------


def _pad_type(x: Type, value: Type, *, low: Any, high: Any, interior: Any) -> Type:
    _same_dtype("pad", (x, value))
    shape = []
    for d, lo, hi, gap in zip(x.shape, low, high, interior, strict=True):
        inner = d if gap == 0 else dim_max(0, d - 1) * gap + d
        shape.append(inner + lo + hi)
    return Type(x.dtype, tuple(shape))


def _pad_slice(x: Type, low: Any, interior: Any) -> dict[str, Any]:
    """Where the operand stands in the padded array, as params of `slice`."""
    return {"starts": tuple(low), "sizes": x.shape, "steps": tuple([g + 1 for g in interior])}


def _pad_reference(x: Any, value: Any, *, low: Any, high: Any, interior: Any) -> Any:
    shape = [
        (d if not g else max(0, d - 1) * g + d) + lo + hi
        for d, lo, hi, g in zip(x.shape, low, high, interior, strict=True)
    ]
    out = np.full(shape, value, dtype=x.dtype)
    if x.size:
        out[slice_index(low, x.shape, [g + 1 for g in interior])] = x
    return out


def _pad_transpose(
    ct: Any, args: Sequence[Any], needs: Sequence[bool], *, low: Any, high: Any, interior: Any
) -> list[Any]:
    from stager.ops.reductions import reduce_sum

    x, _ = args
    where = _pad_slice(x.type, low, interior)
    ct_value = None
    if needs[1]:
        outside = slice_update(ct, zeros_like(x), **where)
        ct_value = reduce_sum(outside, axes=tuple(range(len(ct.type.shape))))
    return [slice_(ct, **where), ct_value]


def _pad_batch(interp: Any, args: Any, bdims: Any, *, low: Any, high: Any, interior: Any) -> Any:
    from stager.ops.families import move_bdim

    (x, value), (x_bdim, value_bdim) = args, bdims
    if value_bdim is None:
        x = move_bdim(x, x_bdim)
        return pad(x, value, low=(0, *low), high=(0, *high), interior=(0, *interior)), 0
    x, value = batch_all_front(interp, args, bdims)
    out_type = _pad_type(
        Type(x.type.dtype, x.type.shape[1:]), Type(x.type.dtype, ()), low=low, high=high, interior=interior
    )
    base = broadcast(value, shape=(interp.batch_size, *out_type.shape), axes=(0,))
    where = _pad_slice(Type(x.type.dtype, x.type.shape[1:]), low, interior)
    return slice_update(base, x, starts=(0, *where["starts"]), sizes=x.type.shape, steps=(1, *where["steps"])), 0


_pad = linear(
    "pad", "structural", type_rule=_pad_type, reference=_pad_reference, transpose=_pad_transpose, batch=_pad_batch
)


def pad(x: Any, value: Any, *, low: Sequence[Dim], high: Sequence[Dim], interior: Sequence[int]) -> Any:
    """x with `value` (a scalar) before, after and between its elements. Non-negative amounts."""
    if all(isinstance(d, int) and d == 0 for d in (*low, *high, *interior)):
        return x
    return _pad(x, value, low=tuple(low), high=tuple(high), interior=tuple(interior))


# -- concatenate ------------------------------------------------------------------------------------------------------


def _concatenate_type(*types: Type, axis: int) -> Type:
    _same_dtype("concatenate", types)
    first = types[0]
    for t in types[1:]:
        if len(t.shape) != len(first.shape) or any(
            a != b for k, (a, b) in enumerate(zip(t.shape, first.shape, strict=True)) if k != axis
        ):
            raise ShapeError(
                describe(f"concatenate: operands do not fit along axis {axis}: {', '.join(map(str, types))}")
            )
    total: Dim = 0
    for t in types:
        total = total + t.shape[axis]
    return Type(first.dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :]))


def _concatenate_transpose(ct: Any, args: Sequence[Any], needs: Sequence[bool], *, axis: int) -> list[Any]:
    from stager.ops.views import slice_axis

    out, start = [], 0
    for x, need in zip(args, needs, strict=True):
        size = x.type.shape[axis]
        out.append(slice_axis(ct, axis, start, size) if need else None)
        start = start + size
    return out


def _concatenate_batch(interp: Any, args: Any, bdims: Any, *, axis: int) -> Any:
    return concatenate(*batch_all_front(interp, args, bdims), axis=axis + 1), 0


_concatenate = linear(
    "concatenate",
    "structural",
    type_rule=_concatenate_type,
    reference=lambda *xs, axis: np.concatenate(xs, axis=axis),
    transpose=_concatenate_transpose,
    batch=_concatenate_batch,
)


def concatenate(*xs: Any, axis: int) -> Any:
    """Operands one after the other along `axis`."""
    return xs[0] if len(xs) == 1 else _concatenate(*xs, axis=axis)


def stack_(xs: Sequence[Any], axis: int) -> Any:
    """Operands of one shape side by side along a new axis."""
    grown = []
    for x in xs:
        shape = x.type.shape
        grown.append(reshape(x, shape=(*shape[:axis], 1, *shape[axis:])))
    return concatenate(*grown, axis=axis)
