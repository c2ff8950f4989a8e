"""Reductions: a monoid over axes, which vanish. Every rule keeps one reduction one reduction, over shifted axes.

At ties max and min share the (co)tangent evenly, so that a symmetric function has a symmetric gradient. Products are
differentiated through exclusive products, never by division: they are exact when elements are zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.errors import DTypeError, ShapeError, describe
from stager.interpreters.stack import bind
from stager.ir.dims import Expr, product
from stager.ir.dtypes import i64
from stager.ir.types import Type
from stager.ops.elementwise import convert, div, gt, lt, mul, not_, select
from stager.ops.families import OpFunction, define, full, linear, zeros_like
from stager.ops.views import broadcast, inverse, reshape, slice_axis, transpose

# -- what all reductions share ----------------------------------------------------------------------------------------


def kept_axes(ndim: int, axes: Sequence[int]) -> tuple[int, ...]:
    """The axes that a reduction over `axes` leaves."""
    return tuple([k for k in range(ndim) if k not in axes])


def unreduce(y: Any, like: Any, axes: Sequence[int]) -> Any:
    """A reduced value repeated along the axes that vanished."""
    shape = like.type.shape
    return broadcast(y, shape=shape, axes=kept_axes(len(shape), axes))


def _reduced_type(name: str, x: Type, axes: tuple[int, ...], kinds: str, has_identity: bool) -> Type:
    if x.dtype.kind not in kinds:
        raise DTypeError(describe(f"{name} does not take {x.dtype} operands"))
    if list(axes) != sorted(set(axes)) or (axes and not 0 <= axes[0] <= axes[-1] < x.ndim):
        raise ShapeError(describe(f"{name}: axes {axes} do not fit {x}"))
    kept = tuple([x.shape[k] for k in kept_axes(x.ndim, axes)])
    if not has_identity and product([x.shape[k] for k in axes]) == 0 and product(kept) != 0:
        raise ShapeError(describe(f"{name}: {x} has no element along axes {axes}, and {name} of nothing has no value"))
    return Type(x.dtype, kept)


def _batched_axes(x_bdim: int, axes: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """The axes with a batch axis inserted at `x_bdim`, and where the batch ends up in the result."""
    shifted = tuple([a + (a >= x_bdim) for a in axes])
    return shifted, x_bdim - sum(a < x_bdim for a in shifted)


def _batch_of(op_function: Callable[[], OpFunction]) -> Callable[..., Any]:
    def batch(interp: Any, args: Sequence[Any], bdims: Sequence[Any], *, axes: tuple[int, ...]) -> Any:
        shifted, out_bdim = _batched_axes(bdims[0], axes)
        return op_function()(args[0], axes=shifted), out_bdim

    return batch


def _reduction(
    name: str,
    reference: Callable[..., Any],
    *,
    kinds: str,
    jvp: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    has_identity: bool = True,
) -> Callable[..., Any]:
    """Declare a reduction; the returned function takes axes in any order and drops a reduction over none."""
    declared = define(
        name,
        "reduction",
        type_rule=lambda x, *, axes: _reduced_type(name, x, axes, kinds, has_identity),
        reference=reference,
        batch=_batch_of(lambda: declared),
        jvp=jvp,
        vjp=vjp,
    )
    return _normalized(declared)


def _normalized(declared: OpFunction) -> Callable[..., Any]:
    def function(x: Any, *, axes: Sequence[int]) -> Any:
        return declared(x, axes=tuple(sorted(axes))) if len(axes) else x

    function.__name__ = function.__qualname__ = declared.op.name
    return function


# -- sum --------------------------------------------------------------------------------------------------------------

_reduce_sum: OpFunction = linear(
    "reduce_sum",
    "reduction",
    type_rule=lambda x, *, axes: _reduced_type("reduce_sum", x, axes, "iufc", True),
    reference=lambda x, *, axes: np.sum(x, axis=axes, dtype=x.dtype),
    transpose=lambda ct, args, needs, *, axes: [unreduce(ct, args[0], axes)],
    batch=_batch_of(lambda: _reduce_sum),
)
reduce_sum = _normalized(_reduce_sum)

# -- product ----------------------------------------------------------------------------------------------------------


FEW = 16  # so many factors are multiplied one by one


def exclusive_products(x: Any, axes: tuple[int, ...]) -> Any:
    """At every position the product of all other elements along `axes`, exact when elements are zero."""
    shape = x.type.shape
    kept = kept_axes(len(shape), axes)
    order = (*kept, *axes) if len(axes) > 1 else tuple(range(len(shape)))
    axis = len(kept) if len(axes) > 1 else axes[0]
    behind = () if len(axes) > 1 else shape[axis + 1 :]
    x = transpose(x, perm=order)
    flat = reshape(x, shape=(*x.type.shape[:axis], product([shape[k] for k in axes]), *behind))
    others = reshape(_others(flat, axis), shape=x.type.shape)
    return transpose(others, perm=inverse(order))


def _others(x: Any, axis: int) -> Any:
    """The same along one axis. Of many elements the products of what stands at one place of all parts come first, from
    those what the other places have, and then what each element lacks is the product of that and of its place's others:
    two walks over the elements, whose steps do not wait for each other."""
    from stager.ops.structural import concatenate

    n = x.type.shape[axis]
    if isinstance(n, Expr):
        return _by_scans(x, axis)
    if n < 2:
        return full(x.type.shape, 1, x.type.dtype)
    count = n if n <= FEW else 8 if n < 1 << 13 else 16 if n < 1 << 17 else 32
    size = n // count
    parts = [slice_axis(x, axis, k * size, size) for k in range(count)]
    before, after = [None], [None]  # the product of all parts before each, and of all behind it, from the last one on
    for k in range(count - 1):
        before.append(_times(before[-1], parts[k]))
        after.append(_times(after[-1], parts[count - 1 - k]))
    lacks = [_times(p, q) for p, q in zip(before, reversed(after), strict=True)]
    if n == count:
        return concatenate(*lacks, axis=axis)
    whole, rest = slice_axis(x, axis, 0, count * size), slice_axis(x, axis, count * size, n - count * size)
    cut = reshape(whole, shape=(*x.type.shape[:axis], count, size, *x.type.shape[axis + 1 :]))
    places = _by_scans(concatenate(reduce_prod(cut, axes=(axis,)), rest, axis=axis), axis)
    shared, rest = slice_axis(places, axis, 0, size), slice_axis(places, axis, size, n - count * size)
    return concatenate(*[_times(shared, p) for p in lacks], rest, axis=axis)


def _by_scans(x: Any, axis: int) -> Any:
    from stager.ops.scans import cumprod

    before = cumprod(shifted_along(x, axis, 1, reverse=False), axis=axis, reverse=False)
    after = cumprod(shifted_along(x, axis, 1, reverse=True), axis=axis, reverse=True)
    return mul(before, after)


def _times(x: Any, y: Any) -> Any:
    """The product; None stands for 1."""
    return y if x is None else x if y is None else mul(x, y)


def shifted_along(x: Any, axis: int, first: Any, *, reverse: bool) -> Any:
    """Every element moved one place on along the axis (back when `reverse`); `first` comes in at the end it left."""
    from stager.ops.structural import pad

    shape = x.type.shape
    edge = tuple([int(k == axis) for k in range(len(shape))])
    none = (0,) * len(shape)
    low, high = (none, edge) if reverse else (edge, none)
    padded = pad(x, full((), first, x.type.dtype), low=low, high=high, interior=none)
    return slice_axis(padded, axis, 1 if reverse else 0, shape[axis])


def _prod_jvp(primals: Any, tangents: Any, *, axes: tuple[int, ...]) -> Any:
    (x,), (t,) = primals, tangents
    return reduce_prod(x, axes=axes), reduce_sum(mul(t, exclusive_products(x, axes)), axes=axes)


def _prod_vjp(ct: Any, out: Any, args: Any, needs: Any, *, axes: tuple[int, ...]) -> Any:
    return [mul(unreduce(ct, args[0], axes), exclusive_products(args[0], axes))]


reduce_prod = _reduction(
    "reduce_prod",
    lambda x, *, axes: np.prod(x, axis=axes, dtype=x.dtype),
    kinds="iufc",
    jvp=_prod_jvp,
    vjp=_prod_vjp,
)

# -- max and min ------------------------------------------------------------------------------------------------------


def lowest(dtype: np.dtype[Any]) -> Any:
    """What max of nothing is: the identity of maximum."""
    if dtype.kind == "b":
        return False
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def highest(dtype: np.dtype[Any]) -> Any:
    """What min of nothing is: the identity of minimum."""
    if dtype.kind == "b":
        return True
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


def _ties(x: Any, out: Any, axes: Sequence[int], beaten: OpFunction) -> tuple[Any, Any]:
    """(where x attains the result, in how many places). A NaN result is attained everywhere: nothing beats it."""
    attained = not_(beaten(x, unreduce(out, x, axes)))
    return attained, reduce_sum(convert(attained, dtype=x.type.dtype), axes=axes)


def _extreme_rules(name: str, beaten: OpFunction) -> tuple[Callable[..., Any], Callable[..., Any]]:
    from stager.ir.op import op_named

    def jvp(primals: Any, tangents: Any, *, axes: tuple[int, ...]) -> Any:
        (x,), (t,) = primals, tangents
        out = bind(op_named(name), x, axes=axes)
        attained, count = _ties(x, out, axes, beaten)
        return out, div(reduce_sum(select(attained, t, zeros_like(t)), axes=axes), count)

    def vjp(ct: Any, out: Any, args: Any, needs: Any, *, axes: tuple[int, ...]) -> Any:
        (x,) = args
        attained, count = _ties(x, out, axes, beaten)
        return [select(attained, unreduce(div(ct, count), x, axes), zeros_like(x))]

    return jvp, vjp


_max_jvp, _max_vjp = _extreme_rules("reduce_max", lt)
_min_jvp, _min_vjp = _extreme_rules("reduce_min", gt)

reduce_max = _reduction(
    "reduce_max",
    lambda x, *, axes: np.max(x, axis=axes, initial=lowest(x.dtype)),
    kinds="biuf",
    jvp=_max_jvp,
    vjp=_max_vjp,
    has_identity=False,
)
reduce_min = _reduction(
    "reduce_min",
    lambda x, *, axes: np.min(x, axis=axes, initial=highest(x.dtype)),
    kinds="biuf",
    jvp=_min_jvp,
    vjp=_min_vjp,
    has_identity=False,
)

# -- logic ------------------------------------------------------------------------------------------------------------

reduce_or = _reduction("reduce_or", lambda x, *, axes: np.bitwise_or.reduce(x, axis=axes), kinds="biu")
reduce_and = _reduction("reduce_and", lambda x, *, axes: np.bitwise_and.reduce(x, axis=axes), kinds="biu")

# -- where the extremes are -------------------------------------------------------------------------------------------


def _arg_type(name: str) -> Callable[..., Type]:
    def type_rule(x: Type, *, axis: int) -> Type:
        return Type(i64, _reduced_type(name, x, (axis,), "biuf", False).shape)

    return type_rule


def _arg_batch(op_function: Callable[[], OpFunction]) -> Callable[..., Any]:
    def batch(interp: Any, args: Sequence[Any], bdims: Sequence[Any], *, axis: int) -> Any:
        (shifted,), out_bdim = _batched_axes(bdims[0], (axis,))
        return op_function()(args[0], axis=shifted), out_bdim

    return batch


# The first position of the extreme; a NaN counts as one.
argmax: OpFunction = define(
    "argmax",
    "reduction",
    type_rule=_arg_type("argmax"),
    reference=lambda x, *, axis: np.argmax(x, axis=axis),
    batch=_arg_batch(lambda: argmax),
)
argmin: OpFunction = define(
    "argmin",
    "reduction",
    type_rule=_arg_type("argmin"),
    reference=lambda x, *, axis: np.argmin(x, axis=axis),
    batch=_arg_batch(lambda: argmin),
)
