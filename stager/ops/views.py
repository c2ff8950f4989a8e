"""View ops: results at affine positions of one operand; they fold into index maps and cost nothing.

Each states how an update through the view reaches its base (`write_back`), which is all that mutation through views
needs. `reshape` is a view whenever its operand is dense.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.errors import ShapeError, describe
from stager.ir.dims import Dim, floordiv, is_static, product
from stager.ir.graph import Value
from stager.ir.types import Type
from stager.ops.families import OpFunction, linear_batch, view, zeros_like

# -- reshape ----------------------------------------------------------------------------------------------------------


def _reshape_type(x: Type, *, shape: tuple[Dim, ...]) -> Type:
    if product(shape) != x.size:
        raise ShapeError(describe(f"reshape: cannot reshape {x} into shape ({','.join(map(str, shape))})"))
    return Type(x.dtype, tuple(shape))


_reshape = view(
    "reshape",
    type_rule=_reshape_type,
    reference=lambda x, *, shape: np.reshape(x, shape),
    transpose=lambda ct, x, *, shape: reshape(ct, shape=x.type.shape),
    batch=linear_batch(lambda x, interp, *, shape: reshape(x, shape=(interp.batch_size, *shape))),
    write_back=lambda base, update, *, shape: reshape(update, shape=base.type.shape),
)


def reshape(x: Any, *, shape: Sequence[Dim]) -> Any:
    """x in C order with another shape; x itself when the shape is its own."""
    shape = tuple(shape)
    return x if x.type.shape == shape else _reshape(x, shape=shape)


# -- transpose --------------------------------------------------------------------------------------------------------


def inverse(perm: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    out = [0] * len(perm)
    for i, p in enumerate(perm):
        out[p] = i
    return tuple(out)


def _transpose_batch(x: Any, interp: Any, *, perm: tuple[int, ...]) -> Any:
    return transpose(x, perm=(0, *[p + 1 for p in perm]))


_transpose = view(
    "transpose",
    type_rule=lambda x, *, perm: Type(x.dtype, tuple([x.shape[p] for p in perm])),
    reference=lambda x, *, perm: np.transpose(x, perm),
    transpose=lambda ct, x, *, perm: transpose(ct, perm=inverse(perm)),
    batch=linear_batch(_transpose_batch),
    write_back=lambda base, update, *, perm: transpose(update, perm=inverse(perm)),
)


def transpose(x: Any, *, perm: Sequence[int]) -> Any:
    """Axes reordered: result axis k is x's axis perm[k]."""
    perm = tuple(perm)
    return x if perm == tuple(range(len(perm))) else _transpose(x, perm=perm)


def moveaxis(x: Any, source: int, destination: int) -> Any:
    """One axis moved, the others in their order."""
    order = [i for i in range(len(x.type.shape)) if i != source]
    order.insert(destination, source)
    return transpose(x, perm=order)


# -- broadcast --------------------------------------------------------------------------------------------------------


def _broadcast_type(x: Type, *, shape: tuple[Dim, ...], axes: tuple[int, ...]) -> Type:
    for d, k in zip(x.shape, axes, strict=True):
        if d != 1 and d != shape[k]:
            raise ShapeError(describe(f"broadcast: cannot broadcast {x} to shape ({','.join(map(str, shape))})"))
    return Type(x.dtype, tuple(shape))


def _broadcast_reference(x: Any, *, shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    kept = [1] * len(shape)
    for d, k in zip(x.shape, axes, strict=True):
        kept[k] = d
    return np.broadcast_to(np.reshape(x, kept), shape)


def _broadcast_transpose(ct: Any, x: Any, *, shape: tuple[Dim, ...], axes: tuple[int, ...]) -> Any:
    from stager.ops.reductions import reduce_sum

    x_shape = x.type.shape
    summed = tuple([k for k in range(len(shape)) if k not in axes or (x_shape[axes.index(k)] == 1 and shape[k] != 1)])
    return reshape(reduce_sum(ct, axes=summed) if summed else ct, shape=x_shape)


def _broadcast_batch(x: Any, interp: Any, *, shape: tuple[Dim, ...], axes: tuple[int, ...]) -> Any:
    return broadcast(x, shape=(interp.batch_size, *shape), axes=(0, *[k + 1 for k in axes]))


_broadcast = view(
    "broadcast",
    type_rule=_broadcast_type,
    reference=_broadcast_reference,
    transpose=_broadcast_transpose,
    batch=linear_batch(_broadcast_batch),
    write_back=None,
)


def broadcast(x: Any, *, shape: Sequence[Dim], axes: Sequence[int]) -> Any:
    """x repeated to `shape`; x's axis k becomes axis axes[k] (increasing)."""
    shape, axes = tuple(shape), tuple(axes)
    return x if x.type.shape == shape else _broadcast(x, shape=shape, axes=axes)


# -- slice ------------------------------------------------------------------------------------------------------------


def slice_index(starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> tuple[slice, ...]:
    """The Python slices that select what the op selects."""
    out = []
    for start, size, step in zip(starts, sizes, steps, strict=True):
        stop: int | None = start + size * step
        if step < 0 and stop is not None and stop < 0:
            stop = None
        out.append(slice(start, stop, step) if size else slice(0, 0, 1))
    return tuple(out)


def _slice_type(x: Type, *, starts: tuple[Dim, ...], sizes: tuple[Dim, ...], steps: tuple[int, ...]) -> Type:
    for d, start, size, step in zip(x.shape, starts, sizes, steps, strict=True):
        if is_static(d) and is_static(start) and is_static(size) and is_static(step) and size > 0:
            last = start + (size - 1) * step
            if not (0 <= start < d and 0 <= last < d):
                raise ShapeError(describe(f"slice: positions {start}..{last} are outside an axis of {d} in {x}"))
    return Type(x.dtype, tuple(sizes))


def _slice_transpose(ct: Any, x: Any, **params: Any) -> Any:
    from stager.ops.structural import slice_update

    return slice_update(zeros_like(x), ct, **params)


def _slice_write_back(base: Any, update: Any, **params: Any) -> Any:
    from stager.ops.structural import slice_update

    return slice_update(base, update, **params)


def _slice_batch(x: Any, interp: Any, *, starts: Any, sizes: Any, steps: Any) -> Any:
    return slice_(x, starts=(0, *starts), sizes=(interp.batch_size, *sizes), steps=(1, *steps))


_slice = view(
    "slice",
    type_rule=_slice_type,
    reference=lambda x, *, starts, sizes, steps: np.asarray(x)[slice_index(starts, sizes, steps)],
    transpose=_slice_transpose,
    batch=linear_batch(_slice_batch),
    write_back=_slice_write_back,
)


def slice_(x: Any, *, starts: Sequence[Dim], sizes: Sequence[Dim], steps: Sequence[int]) -> Any:
    """Element k of an axis is x's element start + k*step; x itself when that is all of it."""
    shape = x.type.shape
    if tuple(sizes) == shape and all(s == 1 for s in steps):
        return x
    return _slice(x, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))


def slice_axis(x: Any, axis: int, start: Dim, size: Dim, step: int = 1) -> Any:
    """A slice of one axis."""
    shape = x.type.shape
    return slice_(
        x,
        starts=[start if k == axis else 0 for k in range(len(shape))],
        sizes=[size if k == axis else d for k, d in enumerate(shape)],
        steps=[step if k == axis else 1 for k in range(len(shape))],
    )


def leading(x: Any, sizes: Sequence[Dim]) -> Any:
    """The first `sizes` elements of each axis."""
    return slice_(x, starts=[0] * len(sizes), sizes=sizes, steps=[1] * len(sizes))


def flip(x: Any, axes: Sequence[int]) -> Any:
    """Axes reversed."""
    shape = x.type.shape
    if not axes:
        return x
    return _slice(
        x,
        starts=tuple([d - 1 if k in axes else 0 for k, d in enumerate(shape)]),
        sizes=shape,
        steps=tuple([-1 if k in axes else 1 for k in range(len(shape))]),
    )


# -- diagonal ---------------------------------------------------------------------------------------------------------


def _diagonal_type(x: Type, *, axis1: int, axis2: int, offset: int) -> Type:
    from stager.ir.dims import dim_max, dim_min

    rest = [d for k, d in enumerate(x.shape) if k not in (axis1, axis2)]
    rows, cols = x.shape[axis1], x.shape[axis2]
    n = dim_min(rows, cols - offset) if offset >= 0 else dim_min(rows + offset, cols)
    if offset != 0:  # no extent is negative
        n = dim_max(0, n)
    return Type(x.dtype, (*rest, n))


def _diagonal_transpose(ct: Any, x: Any, **params: Any) -> Any:
    from stager.ops.structural import diagonal_update

    return diagonal_update(zeros_like(x), ct, **params)


def _diagonal_write_back(base: Any, update: Any, **params: Any) -> Any:
    from stager.ops.structural import diagonal_update

    return diagonal_update(base, update, **params)


diagonal: OpFunction = view(
    "diagonal",
    type_rule=_diagonal_type,
    reference=lambda x, *, axis1, axis2, offset: np.diagonal(x, offset, axis1, axis2),
    transpose=_diagonal_transpose,
    batch=linear_batch(
        lambda x, interp, *, axis1, axis2, offset: diagonal(x, axis1=axis1 + 1, axis2=axis2 + 1, offset=offset)
    ),
    write_back=_diagonal_write_back,
)

# -- windows ----------------------------------------------------------------------------------------------------------


def _windows_type(x: Type, *, axis: int, size: Dim, step: int) -> Type:
    n = x.shape[axis]
    if is_static(n) and is_static(size) and size > n:
        raise ShapeError(describe(f"windows: window of {size} is larger than the axis of {n} in {x}"))
    count = floordiv(n - size, step) + 1
    return Type(x.dtype, (*x.shape[:axis], count, *x.shape[axis + 1 :], size))


def _windows_reference(x: Any, *, axis: int, size: int, step: int) -> Any:
    w = np.lib.stride_tricks.sliding_window_view(x, size, axis=axis)
    return w[(slice(None),) * axis + (slice(None, None, step),)]


def _windows_transpose(ct: Any, x: Any, *, axis: int, size: Dim, step: int) -> Any:
    return _sum_of_windows(ct, x, x.type.shape, axis, size, step)


def _sum_of_windows(ct: Any, x: Any, shape: tuple[Dim, ...], axis: int, size: Dim, step: int) -> Any:
    from stager.interpreters.stack import top
    from stager.interpreters.vmap import BatchTracer

    if type(ct) is BatchTracer and ct.interp is top():  # the sum of all lanes is the same, and shows what ct is made of
        k, rank = ct.bdim, len(ct.type.shape) + 1
        with ct.interp.lower():
            front = transpose(ct.value, perm=(k, *[d for d in range(rank) if d != k]))
            shown = x.value if type(x) is BatchTracer and x.interp is ct.interp else x
            total = _sum_of_windows(front, shown, (front.type.shape[0], *shape), axis + 1, size, step)
            return BatchTracer(ct.interp, total, 0)
    # The sum over windows that hold an element. With P the cotangent flipped along the window axis, dilated, and padded
    # by size-1, element k is the sum over j of P[k + j, j], a diagonal of windows of P. Where there are many windows
    # only those at both ends see the padding: what is between is read where it is.
    from stager.ops.correlation import sum_of_windows
    from stager.ops.structural import concatenate, pad

    last = len(ct.type.shape) - 1
    n, count = shape[axis], ct.type.shape[axis]
    tail = n - size - (count - 1) * step  # elements after the last window
    if step == 1 and is_static(size):
        found = sum_of_windows(ct, shape, axis)
        if found is None and (not is_static(count) or _of_several_axes(ct, x)):
            found = _shifted(ct, Type(ct.type.dtype, shape), axis, int(size))
        if found is not None:
            return found
    none: list[Dim] = [0] * (last + 1)
    low, high, interior = none.copy(), none.copy(), [0] * (last + 1)
    low[axis], high[axis], interior[axis] = size - 1, size - 1 + tail, step - 1
    zero, flipped = zeros_like_scalar(ct), flip(ct, [last])
    many = is_static(count) and is_static(size) and size > 1 and count >= MANY * size
    if not many or step != 1:
        p = pad(flipped, zero, low=tuple(low), high=tuple(high), interior=tuple(interior))
        return _diagonals(p, axis, size)
    first = slice_axis(flipped, axis, 0, size - 1)
    final = slice_axis(flipped, axis, count - size + 1, size - 1)
    ends = [pad(first, zero, low=tuple(low), high=tuple(none), interior=tuple(interior))]
    ends += [pad(final, zero, low=tuple(none), high=tuple(high), interior=tuple(interior))]
    before, behind = (_diagonals(p, axis, size) for p in ends)
    return concatenate(before, _diagonals(flipped, axis, size), behind, axis=axis)


def _of_several_axes(ct: Any, x: Any) -> bool:
    """Whether these are windows of windows, or windows that others were made of."""
    return (type(x) is Value and x.node.op.name == "windows") or len(_padded_terms(ct)) > 1


SHIFTS = 24
"""Terms of a sum of windows at their shifts, at most."""


def _shifted(ct: Any, x: Type, axis: int, size: int) -> Any:
    """The sum over j of ct[..., j] at the shift j, each part of a sum of padded parts at its own; None where there are
    too many. What is added so is known to be padded, and so is computed where it goes."""
    from stager.ops.elementwise import add
    from stager.ops.families import full
    from stager.ops.structural import slice_update

    last = len(ct.type.shape) - 1
    parts = _padded_terms(ct)
    if size * len(parts) > SHIFTS or any(v.type.shape[last] != size for v, _ in parts):
        return None
    total = None
    for j in range(size):
        for v, starts in parts:
            value = slice_axis(v, last, j, 1)
            value = reshape(value, shape=v.type.shape[:last])
            at = tuple([s + j if k == axis else s for k, s in enumerate(starts[:last])])
            zeros = full(x.shape, 0, x.dtype)
            term = slice_update(zeros, value, starts=at, sizes=value.type.shape, steps=(1,) * last)
            total = term if total is None else add(total, term)
    return total


def _padded_terms(ct: Any) -> list[tuple[Any, tuple[Dim, ...]]]:
    """The parts that a cotangent is the sum of, with where they begin; itself where it is no sum of padded parts."""
    from stager.ops.cotangents import is_zeros

    found: list[tuple[Any, tuple[Dim, ...]]] = []
    todo = [ct]
    while todo:
        v = todo.pop()
        node = v.node if type(v) is Value else None
        if node is not None and node.op.name == "add" and len(found) + len(todo) < SHIFTS:
            todo += reversed(node.args)
        elif node is not None and node.op.name == "slice_update" and is_zeros(node.args[0]):
            if any(step != 1 for step in node.params["steps"]):
                return [(ct, (0,) * len(ct.type.shape))]
            found.append((node.args[1], node.params["starts"]))
        else:
            return [(ct, (0,) * len(ct.type.shape))]
    return found


MANY = 4
"""Windows on a place of one from where on the two ends are treated apart."""


def _diagonals(p: Any, axis: int, size: Dim) -> Any:
    """The sums over j of P[k + j, j], along `axis` and the last axis."""
    from stager.ops.reductions import reduce_sum

    last = len(p.type.shape) - 1
    w = windows(p, axis=axis, size=size, step=1)
    return reduce_sum(diagonal(w, axis1=last, axis2=last + 1, offset=0), axes=(last,))


def zeros_like_scalar(x: Any) -> Any:
    """A zero of x's dtype."""
    from stager.ops.families import full

    return full((), 0, x.type.dtype)


def _windows_write_back(base: Any, update: Any, *, axis: int, size: Dim, step: int) -> Any:
    # Windows overlap: element (k, j) goes to k*step + j, later windows win, as NumPy's strided assignment does.
    from stager.ops.indexed import scatter
    from stager.ops.structural import iota_like

    last = len(update.type.shape) - 1
    front = transpose(update, perm=(axis, last, *[k for k in range(last) if k != axis]))
    position = iota_like(front.type.shape[0], front.type.shape[1], step)
    return scatter(base, front, position, axes=(axis,), batch_dims=0, mode="promise", combine="set")


windows: OpFunction = view(
    "windows",
    type_rule=_windows_type,
    reference=_windows_reference,
    transpose=_windows_transpose,
    batch=linear_batch(lambda x, interp, *, axis, size, step: windows(x, axis=axis + 1, size=size, step=step)),
    write_back=_windows_write_back,
)
