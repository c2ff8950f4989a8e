"""sort, searchsorted, positions. NaN sorts last; equal keys keep their order when `stable`.

Sorting is a permutation: tangents go along with it, cotangents go back through it. The positions that the others find
carry no derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.errors import DTypeError, ShapeError, describe
from stager.interpreters.stack import bind
from stager.ir.dims import Dim
from stager.ir.dtypes import i64
from stager.ir.types import Type
from stager.ops.families import align_batch, define, materialize_batch, move_bdim, zeros_like
from stager.ops.indexed import gather, scatter
from stager.ops.structural import iota_along
from stager.ops.views import inverse, transpose

# -- sort -------------------------------------------------------------------------------------------------------------


def _sort_type(*types: Type, axis: int, num_keys: int, stable: bool) -> tuple[Type, ...]:
    first = types[0]
    if any(t.shape != first.shape for t in types):
        raise ShapeError(describe(f"sort: operands have shapes {' and '.join(map(str, types))}"))
    if not 0 <= axis < first.ndim or not 1 <= num_keys <= len(types):
        raise ShapeError(describe(f"sort: axis {axis} with {num_keys} keys does not fit {', '.join(map(str, types))}"))
    return types


def _sort_reference(*operands: Any, axis: int, num_keys: int, stable: bool) -> tuple[Any, ...]:
    order = np.lexsort(operands[:num_keys][::-1], axis=axis)
    return tuple([np.take_along_axis(x, order, axis) for x in operands])


def _sort_batch(interp: Any, args: Any, bdims: Any, *, axis: int, num_keys: int, stable: bool) -> Any:
    args, bdim = align_batch(interp, args, bdims)
    return bind(sort.op, *args, axis=axis + (axis >= bdim), num_keys=num_keys, stable=stable), (bdim,) * len(args)


def _axis_last(ndim: int, axis: int) -> tuple[int, ...]:
    return (*[k for k in range(ndim) if k != axis], axis)


def permute_along(x: Any, order: Any, axis: int) -> Any:
    """take_along_axis with a permutation: element k of a line is element order[k] of x's line."""
    ndim = len(x.type.shape)
    perm = _axis_last(ndim, axis)
    out = gather(
        transpose(x, perm=perm), transpose(order, perm=perm), axes=(ndim - 1,), batch_dims=ndim - 1, mode="promise"
    )
    return transpose(out, perm=inverse(perm))


def unpermute_along(y: Any, order: Any, axis: int) -> Any:
    """The inverse of `permute_along`."""
    ndim = len(y.type.shape)
    perm = _axis_last(ndim, axis)
    y, order = transpose(y, perm=perm), transpose(order, perm=perm)
    out = scatter(zeros_like(y), y, order, axes=(ndim - 1,), batch_dims=ndim - 1, mode="promise", combine="set")
    return transpose(out, perm=inverse(perm))


def _sort_with_order(args: Sequence[Any], axis: int, num_keys: int, stable: bool) -> tuple[Sequence[Any], Any]:
    """The sorted operands and the permutation."""
    *out, order = sort(*args, iota_along(args[0].type.shape, axis), axis=axis, num_keys=num_keys, stable=stable)
    return out, order


def _sort_jvp(primals: Any, tangents: Any, *, axis: int, num_keys: int, stable: bool) -> Any:
    out, order = _sort_with_order(primals, axis, num_keys, stable)
    return tuple(out), tuple([None if t is None else permute_along(t, order, axis) for t in tangents])


def _sort_pullback(args: Any, needs: Any, *, axis: int, num_keys: int, stable: bool) -> Any:
    out, order = _sort_with_order(args, axis, num_keys, stable)

    def pull(cts: Sequence[Any]) -> list[Any]:
        return [None if ct is None else unpermute_along(ct, order, axis) for ct in cts]

    return tuple(out), pull


# All operands in the order of the first `num_keys`, compared lexicographically.
sort = define(
    "sort",
    "sort",
    type_rule=_sort_type,
    reference=_sort_reference,
    jvp=_sort_jvp,
    pullback=_sort_pullback,
    batch=_sort_batch,
    multiple_results=True,
)


def argsort(x: Any, *, axis: int, stable: bool = True) -> Any:
    """The i64 permutation that sorts x along `axis`."""
    return sort(x, iota_along(x.type.shape, axis), axis=axis, num_keys=1, stable=stable)[1]


# -- searchsorted -----------------------------------------------------------------------------------------------------


def _searchsorted_type(a: Type, v: Type, *, side: str) -> Type:
    if side not in ("left", "right"):
        raise ValueError(describe(f"searchsorted: side is 'left' or 'right', not {side!r}"))
    if a.dtype is not v.dtype:
        raise DTypeError(describe(f"searchsorted: operands have dtypes {a.dtype}, {v.dtype}"))
    if a.ndim == 0 or a.shape[:-1] != v.shape[: a.ndim - 1]:
        raise ShapeError(describe(f"searchsorted: {v} does not fit the sorted lines of {a}"))
    return Type(i64, v.shape)


def _searchsorted_reference(a: Any, v: Any, *, side: Any) -> Any:
    lines = a.shape[:-1]
    out = np.empty(v.shape, dtype=np.int64)
    for line in np.ndindex(*lines):
        out[line] = np.searchsorted(a[line], v[line], side=side)
    return out


def _searchsorted_batch(interp: Any, args: Any, bdims: Any, *, side: str) -> Any:
    (a, v), (a_bdim, v_bdim) = args, bdims
    if a_bdim is None:  # one table for all lanes: more values to look up, behind the table's own batch axes
        lines = len(a.type.shape) - 1
        to = max(v_bdim, lines)
        return searchsorted(a, move_bdim(v, v_bdim, to), side=side), to
    return searchsorted(move_bdim(a, a_bdim), materialize_batch(interp, v, v_bdim), side=side), 0


# Where each v goes into a, sorted along its last axis; a's other axes are v's first.
searchsorted = define(
    "searchsorted", "sort", type_rule=_searchsorted_type, reference=_searchsorted_reference, batch=_searchsorted_batch
)

# -- positions --------------------------------------------------------------------------------------------------------


def _positions_type(mask: Type, *, size: Dim) -> Type:
    if mask.dtype.kind != "b" or not mask.ndim:
        raise DTypeError(describe(f"positions: {mask} is no array of bools"))
    return Type(i64, (*mask.shape[:-1], size))


def _positions_reference(mask: Any, *, size: int) -> Any:
    out = np.zeros((*mask.shape[:-1], size), dtype=np.int64)
    for line in np.ndindex(*mask.shape[:-1]):
        found = np.flatnonzero(mask[line])[:size]
        out[line][: len(found)] = found
    return out


def _positions_batch(interp: Any, args: Any, bdims: Any, *, size: Dim) -> Any:
    return positions(move_bdim(args[0], bdims[0]), size=size), 0


# Where the first `size` true elements of each line along the last axis stand, in order. Every line has that many.
positions = define(
    "positions", "sort", type_rule=_positions_type, reference=_positions_reference, batch=_positions_batch
)
