"""gather and scatter: positions that come from data.

Both index the axes `axes` of x with one i64 operand each; all index operands have one shape B + S, whose first
`batch_dims` axes (B) run along the first `batch_dims` axes of x. The remaining axes of x stay whole, in their order:

    gather(x, *idx)            -> B + S + rest
    scatter(x, updates, *idx)  -> x with updates (B + S + rest) combined into the places that gather would read

mode says what becomes of an index that is negative or too large: "check" (negative wraps, else IndexError),
"promise" (it is in bounds), "clip", "wrap".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.errors import DTypeError, ShapeError, describe
from stager.ir.dims import Dim, is_static, product
from stager.ir.dtypes import i64
from stager.ir.types import Type
from stager.ops.elementwise import add, convert, div, eq, gt, lt, mul, not_, select
from stager.ops.families import define, full, materialize_batch, move_bdim, zeros_like
from stager.ops.structural import iota
from stager.ops.views import broadcast, reshape

MODES = ("check", "promise", "clip", "wrap")
COMBINES = ("set", "add", "mul", "min", "max")


def rest_axes(ndim: int, axes: Sequence[int], batch_dims: int) -> tuple[int, ...]:
    """The axes of x that are neither batch axes nor indexed."""
    return tuple([k for k in range(batch_dims, ndim) if k not in axes])


def _gathered_shape(
    name: str, x: Type, idx: Sequence[Type], axes: tuple[int, ...], batch_dims: int, mode: str
) -> tuple[Dim, ...]:
    if mode not in MODES:
        raise ValueError(f"{name}: no mode is called {mode!r}")
    if (
        not axes
        or len(axes) != len(idx)
        or list(axes) != sorted(set(axes))
        or not batch_dims <= axes[0] <= axes[-1] < x.ndim
    ):
        raise ShapeError(
            describe(f"{name}: {len(idx)} index operands for axes {axes} of {x} with {batch_dims} batch dims")
        )
    for t in idx:
        if t.dtype is not i64:
            raise DTypeError(describe(f"{name}: an index operand is {t}, not i64"))
        if t.shape != idx[0].shape or t.shape[:batch_dims] != x.shape[:batch_dims]:
            raise ShapeError(describe(f"{name}: index operands {', '.join(map(str, idx))} do not fit {x}"))
    return (*idx[0].shape, *[x.shape[k] for k in rest_axes(x.ndim, axes, batch_dims)])


# -- references -------------------------------------------------------------------------------------------------------


def _resolve(idx: Sequence[Any], sizes: Sequence[int], axes: Sequence[int], mode: str) -> list[Any]:
    """In-bounds indices, or IndexError with NumPy's text."""
    resolved = []
    for i, n, axis in zip(idx, sizes, axes, strict=True):
        i = np.asarray(i)
        if n and mode == "clip":
            i = np.clip(i, 0, n - 1)
        elif n and mode == "wrap":
            i = np.mod(i, n)
        bad = (i < -n) | (i >= n)
        if bad.any():
            first = np.extract(bad, i)[0]
            raise IndexError(f"index {first} is out of bounds for axis {axis} with size {n}")
        resolved.append(np.where(i < 0, i + n, i))
    return resolved


def _positions(x: Any, idx: Sequence[Any], axes: Sequence[int], batch_dims: int, mode: str) -> tuple[Any, ...]:
    """The NumPy index, of shape B + S, into x with its batch and indexed axes in front."""
    resolved = _resolve(idx, [x.shape[a] for a in axes], axes, mode)
    ndim = resolved[0].ndim
    batch = [np.arange(x.shape[k]).reshape([-1 if j == k else 1 for j in range(ndim)]) for k in range(batch_dims)]
    return (*batch, *resolved)


def _front(x: Any, axes: Sequence[int], batch_dims: int) -> Any:
    return np.transpose(x, (*range(batch_dims), *axes, *rest_axes(x.ndim, axes, batch_dims)))


def _gather_reference(x: Any, *idx: Any, axes: tuple[int, ...], batch_dims: int, mode: str) -> Any:
    return _front(x, axes, batch_dims)[_positions(x, idx, axes, batch_dims, mode)]


_UFUNCS = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def _scatter_reference(
    x: Any, updates: Any, *idx: Any, axes: tuple[int, ...], batch_dims: int, mode: str, combine: str
) -> Any:
    out = np.array(x)
    writable, where = _front(out, axes, batch_dims), _positions(x, idx, axes, batch_dims, mode)
    if combine == "set":
        writable[where] = updates
    else:
        _UFUNCS[combine].at(writable, where, updates)
    return out


# -- batching ---------------------------------------------------------------------------------------------------------


def _shared_index(bdims: Sequence[Any]) -> bool:
    return all(b is None for b in bdims)


def _batched_indices(interp: Any, idx: Sequence[Any], bdims: Sequence[Any], to: int) -> list[Any]:
    """Index operands with the batch at axis `to`: they have one shape, so one that is not mapped is repeated."""
    return [materialize_batch(interp, i, b, to) for i, b in zip(idx, bdims, strict=True)]


def _past_batch_dims(x: Any, bdim: int, axes: Sequence[int], batch_dims: int) -> tuple[Any, int, tuple[int, ...]]:
    """x with its batch axis among its rest axes: (x, the batch axis, the indexed axes)."""
    x, bdim = (move_bdim(x, bdim, batch_dims), batch_dims) if bdim < batch_dims else (x, bdim)
    return x, bdim, tuple([a + (a >= bdim) for a in axes])


def _gather_batch(interp: Any, args: Any, bdims: Any, *, axes: tuple[int, ...], batch_dims: int, mode: str) -> Any:
    (x, *idx), (x_bdim, *idx_bdims) = args, bdims
    if _shared_index(idx_bdims):  # all lanes read the same places: the batch is one more axis that stays whole
        x, x_bdim, axes = _past_batch_dims(x, x_bdim, axes, batch_dims)
        out = gather(x, *idx, axes=axes, batch_dims=batch_dims, mode=mode)
        return out, len(idx[0].type.shape) + rest_axes(len(x.type.shape), axes, batch_dims).index(x_bdim)
    if x_bdim is None:  # all lanes read one table: more indices
        to = batch_dims if batch_dims else next(b for b in idx_bdims if b is not None)
        idx = _batched_indices(interp, idx, idx_bdims, to)
        return gather(x, *idx, axes=axes, batch_dims=batch_dims, mode=mode), to
    x, idx = move_bdim(x, x_bdim), _batched_indices(interp, idx, idx_bdims, 0)
    return gather(x, *idx, axes=tuple([a + 1 for a in axes]), batch_dims=batch_dims + 1, mode=mode), 0


def _scatter_batch(
    interp: Any, args: Any, bdims: Any, *, axes: tuple[int, ...], batch_dims: int, mode: str, combine: str
) -> Any:
    (x, updates, *idx), (x_bdim, u_bdim, *idx_bdims) = args, bdims
    if _shared_index(idx_bdims):
        if x_bdim is None:
            x, x_bdim = materialize_batch(interp, x, None, batch_dims), batch_dims
        x, x_bdim, axes = _past_batch_dims(x, x_bdim, axes, batch_dims)
        lane = len(idx[0].type.shape) + rest_axes(len(x.type.shape), axes, batch_dims).index(x_bdim)
        updates = materialize_batch(interp, updates, u_bdim, lane)
        return scatter(x, updates, *idx, axes=axes, batch_dims=batch_dims, mode=mode, combine=combine), x_bdim
    x, updates = materialize_batch(interp, x, x_bdim), materialize_batch(interp, updates, u_bdim)
    idx = _batched_indices(interp, idx, idx_bdims, 0)
    axes = tuple([a + 1 for a in axes])
    return scatter(x, updates, *idx, axes=axes, batch_dims=batch_dims + 1, mode=mode, combine=combine), 0


# -- gather -----------------------------------------------------------------------------------------------------------


def _gather_type(x: Type, *idx: Type, axes: tuple[int, ...], batch_dims: int, mode: str) -> Type:
    return Type(x.dtype, _gathered_shape("gather", x, idx, axes, batch_dims, mode))


def _gather_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    x, *idx = primals
    return gather(x, *idx, **params), gather(tangents[0], *idx, **params)


def _gather_vjp(ct: Any, out: Any, args: Any, needs: Any, **params: Any) -> Any:
    x, *idx = args
    return [scatter(zeros_like(x), ct, *idx, combine="add", **params), *[None] * len(idx)]


gather = define(
    "gather",
    "indexed",
    type_rule=_gather_type,
    reference=_gather_reference,
    jvp=_gather_jvp,
    vjp=_gather_vjp,
    batch=_gather_batch,
)

# -- scatter ----------------------------------------------------------------------------------------------------------


def _scatter_type(
    x: Type, updates: Type, *idx: Type, axes: tuple[int, ...], batch_dims: int, mode: str, combine: str
) -> Type:
    if combine not in COMBINES:
        raise ValueError(f"scatter: no combine is called {combine!r}")
    if updates.dtype is not x.dtype:
        raise DTypeError(describe(f"scatter: operands have dtypes {x.dtype}, {updates.dtype}"))
    shape = _gathered_shape("scatter", x, idx, axes, batch_dims, mode)
    if updates.shape != shape:
        raise ShapeError(
            describe(f"scatter: cannot write {updates} to positions of shape ({','.join(map(str, shape))}) in {x}")
        )
    return x


def _rows(i: Any, batch_dims: int) -> Dim:
    """How many updates each batch position receives."""
    return product(i.type.shape[batch_dims:])


def _last_writes(x: Any, idx: Sequence[Any], updates: Any, axes: tuple[int, ...], batch_dims: int, mode: str) -> Any:
    """b1 like updates: whose value is still there at the end; None when no two updates can meet."""
    rows = _rows(idx[0], batch_dims)
    if is_static(rows) and rows <= 1:
        return None
    shape = idx[0].type.shape
    turn = broadcast(
        reshape(iota(rows), shape=shape[batch_dims:]), shape=shape, axes=tuple(range(batch_dims, len(shape)))
    )
    table = full((*x.type.shape[:batch_dims], *[x.type.shape[a] for a in axes]), 0, i64)
    where: dict[str, Any] = {
        "axes": tuple(range(batch_dims, batch_dims + len(axes))),
        "batch_dims": batch_dims,
        "mode": mode,
    }
    last = gather(scatter(table, turn, *idx, combine="set", **where), *idx, **where)
    return broadcast(eq(turn, last), shape=updates.type.shape, axes=tuple(range(len(shape))))


def _other_factors(x: Any, idx: Sequence[Any], updates: Any, axes: tuple[int, ...], batch_dims: int, mode: str) -> Any:
    """For each update the product of the other updates of its place, without division; None when there are no others.

    The updates are sorted by place; there, products from either end that start anew at each place are recurrences.
    """
    from stager.ops.reductions import shifted_along
    from stager.ops.scans import recurrence
    from stager.ops.sort import sort

    rows = _rows(idx[0], batch_dims)
    if is_static(rows) and rows <= 1:
        return None
    dtype, whole = updates.type.dtype, updates.type.shape
    shape = idx[0].type.shape
    batch, rest = shape[:batch_dims], whole[len(shape) :]
    place = reshape(_linear_place(x, idx, axes, mode), shape=(*batch, rows))
    turn = broadcast(iota(rows), shape=(*batch, rows), axes=(batch_dims,))
    place, order = sort(place, turn, axis=batch_dims, num_keys=1, stable=True)
    where: dict[str, Any] = {"axes": (batch_dims,), "batch_dims": batch_dims, "mode": "promise"}
    u = gather(reshape(updates, shape=(*batch, rows, *rest)), order, **where)
    result = full(u.type.shape, 1, dtype)
    for reverse in (False, True):
        neighbour = shifted_along(place, batch_dims, -1, reverse=reverse)
        again = broadcast(eq(place, neighbour), shape=u.type.shape, axes=tuple(range(batch_dims + 1)))
        previous = shifted_along(u, batch_dims, 1, reverse=reverse)
        a = select(again, previous, zeros_like(u))
        b = select(again, zeros_like(u), full(u.type.shape, 1, dtype))
        result = mul(result, recurrence(a, b, axis=batch_dims, reverse=reverse))
    back = scatter(zeros_like(result), result, order, combine="set", **where)
    return reshape(back, shape=whole)


def _linear_place(x: Any, idx: Sequence[Any], axes: tuple[int, ...], mode: str) -> Any:
    """One number per place, in bounds: equal exactly when the indices mean the same place."""
    total = None
    for i, a in zip(idx, axes, strict=True):
        size = x.type.shape[a]
        n = _extent(size, i)
        if mode == "clip":
            i = _clipped(i, n)
        elif mode == "wrap":
            i = _wrapped(i, n)
        elif mode == "check":
            i = select(lt(i, 0), add(i, n), i)
        total = i if total is None else add(mul(total, n), i)
    return total


def _extent(size: Dim, like: Any) -> Any:
    """A dim as an i64 like an index operand."""
    from stager.interpreters.stack import nearest_stage
    from stager.ir.core_ops import dim_op

    if is_static(size):
        return full(like.type.shape, size, i64)
    return broadcast(nearest_stage().process(dim_op, (), {"dim": size}), shape=like.type.shape, axes=())


def _clipped(i: Any, n: Any) -> Any:
    from stager.ops.elementwise import maximum, minimum, sub

    return maximum(minimum(i, sub(n, 1)), 0)


def _wrapped(i: Any, n: Any) -> Any:
    from stager.ops.elementwise import mod

    return mod(i, n)


def _scatter_jvp(primals: Any, tangents: Any, *, combine: str, **where: Any) -> Any:
    (x, updates, *idx), (tx, tu, *_) = primals, tangents
    out = scatter(x, updates, *idx, combine=combine, **where)
    if combine in ("set", "add"):
        tx = zeros_like(x) if tx is None else tx
        if tu is None and combine == "add":
            return out, tx
        return out, scatter(tx, zeros_like(updates) if tu is None else tu, *idx, combine=combine, **where)
    if combine == "mul":
        total = None if tx is None else scatter(tx, updates, *idx, combine="mul", **where)
        if tu is not None:
            others = _other_factors(x, idx, updates, **where)
            step = mul(tu, gather(x, *idx, **where))
            step = step if others is None else mul(step, others)
            total = scatter(zeros_like(x) if total is None else total, step, *idx, combine="add", **where)
        return out, total
    x_wins, u_wins, count = _winners(x, updates, idx, out, combine, where)
    total = zeros_like(x) if tx is None else select(x_wins, tx, zeros_like(tx))
    if tu is not None:
        total = scatter(total, select(u_wins, tu, zeros_like(tu)), *idx, combine="add", **where)
    return out, div(total, count)


def _winners(
    x: Any, updates: Any, idx: Sequence[Any], out: Any, combine: str, where: dict[str, Any]
) -> tuple[Any, Any, Any]:
    """Who attains the result of a scatter-max (min): (x does, the update does, how many do)."""
    beaten = lt if combine == "max" else gt
    x_wins, u_wins = not_(beaten(x, out)), not_(beaten(updates, gather(out, *idx, **where)))
    dtype = x.type.dtype
    count = scatter(convert(x_wins, dtype=dtype), convert(u_wins, dtype=dtype), *idx, combine="add", **where)
    return x_wins, u_wins, count


def _scatter_vjp(ct: Any, out: Any, args: Any, needs: Any, *, combine: str, **where: Any) -> Any:
    x, updates, *idx = args
    ct_x = ct_u = None
    if combine == "set":
        if needs[0]:
            ct_x = scatter(ct, zeros_like(updates), *idx, combine="set", **where)
        if needs[1]:
            ct_u = gather(ct, *idx, **where)
            last = _last_writes(x, idx, updates, **where)
            ct_u = ct_u if last is None else select(last, ct_u, zeros_like(ct_u))
    elif combine == "add":
        ct_x, ct_u = ct if needs[0] else None, gather(ct, *idx, **where) if needs[1] else None
    elif combine == "mul":
        if needs[0]:
            ct_x = scatter(ct, updates, *idx, combine="mul", **where)
        if needs[1]:
            others = _other_factors(x, idx, updates, **where)
            ct_u = gather(mul(ct, x), *idx, **where)
            ct_u = ct_u if others is None else mul(ct_u, others)
    else:
        x_wins, u_wins, count = _winners(x, updates, idx, out, combine, where)
        share = div(ct, count)
        if needs[0]:
            ct_x = select(x_wins, share, zeros_like(share))
        if needs[1]:
            ct_u = gather(share, *idx, **where)
            ct_u = select(u_wins, ct_u, zeros_like(ct_u))
    return [ct_x, ct_u, *[None] * len(idx)]


# "set": of several updates to one place the last stays. "min" and "max" let NaN through, as NumPy's ufunc.at.
scatter = define(
    "scatter",
    "indexed",
    type_rule=_scatter_type,
    reference=_scatter_reference,
    jvp=_scatter_jvp,
    vjp=_scatter_vjp,
    batch=_scatter_batch,
)
