"""Reductions over any axes with keepdims, `out=`, `dtype=`, `where=` and `initial=` as NumPy has them."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.array import Array, as_array, wrap
from stager.errors import ShapeError, describe
from stager.ir.dims import Dim, Expr, symbols_of
from stager.ir.dtypes import DType, b1, dtype_of, f64
from stager.numpy.registry import implements
from stager.numpy.ufuncs import apply_ufunc, as_array_like, truth
from stager.ops import elementwise as op
from stager.ops.views import reshape

_NO = np._NoValue


def normalize_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Axes as sorted non-negative ints; AxisError when one is out of range or repeated."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    out = []
    for a in axes:
        a = a.__index__()
        if not -ndim <= a < ndim:
            raise np.exceptions.AxisError(a, ndim)
        out.append(a % ndim)
    if len(set(out)) != len(out):
        raise ValueError("duplicate value in 'axis'")
    return tuple(sorted(out))


def reduced_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes of a reduction. As NumPy's, those of no axes take 0 and -1 for none."""
    if ndim == 0 and axis is not None and not isinstance(axis, tuple | list) and axis.__index__() in (0, -1):
        return ()
    return normalize_axes(axis, ndim)


def kept(x: Any, axes: Sequence[int], shape: Sequence[Dim]) -> Any:
    """A reduced raw value with its reduced axes back as ones."""
    return reshape(x, shape=[1 if k in axes else d for k, d in enumerate(shape)])


def reduce(x: Any, axis: Any, keepdims: Any, rule: Any, dtype: DType | None = None) -> Array:
    """Apply a reduction op over axes."""
    x = as_array(as_array_like(x))
    r = x.raw() if dtype is None else op.convert(x.raw(), dtype=dtype)
    axes = reduced_axes(axis, len(r.type.shape))
    out = rule(r, axes=axes) if axes else r
    return wrap(kept(out, axes, r.type.shape) if keepdims is True else out)


def sum_dtype(d: DType) -> DType:
    """What NumPy accumulates a sum or product of this dtype in."""
    return dtype_of(np.add.reduce(np.zeros(0, d.np)).dtype)


def deliver(result: Array, out: Any, name: str, casting: str = "same_kind") -> Array:
    """A function's result, written into `out` when there is one."""
    if out is None:
        return result
    from stager.numpy.ufuncs import _deliver

    shape, wanted = result.type.shape, as_array(as_array_like(out[0] if isinstance(out, tuple) else out)).type.shape
    if casting == "unsafe" and shape != wanted and all(isinstance(d, int) for d in (*shape, *wanted)):
        raise ShapeError(describe(f"{name}: the output has shape {wanted}, the result of the reduction {shape}"))
    return _deliver(name, result.raw(), out[0] if isinstance(out, tuple) else out, True, casting)


def kept_dtype(a: Any, dtype: Any, out: Any) -> Any:
    """The dtype that a reduction is made in: as asked for, or the common one of the operand and `out`, where there is
    one; None where the reduction itself decides."""
    if dtype is not None or out is None:
        return dtype
    target = as_array(as_array_like(out[0] if isinstance(out, tuple) else out))
    return np.result_type(target.dtype, as_array(as_array_like(a)).dtype)


def masked(a: Array, where: Any, identity: Any) -> Array:
    """`a` with what `where=` leaves out replaced by the reduction's identity."""
    if where is _NO or where is True:
        return a
    from stager.numpy.promotion import broadcast_raw, operand
    from stager.ops.families import full_like

    r = a.raw()
    mask = broadcast_raw(operand(as_array_like(where), b1), r.type.shape)
    return wrap(op.select(mask, r, full_like(r, identity)))


def _with_initial(ufunc: Any, result: Array, initial: Any) -> Array:
    if initial is _NO or initial is None:
        return result
    from stager.numpy.promotion import operand

    start = operand(as_array_like(initial), result.type.dtype)
    return apply_ufunc(ufunc, result, wrap(start))  # type: ignore[no-any-return]


@implements(np.sum, method="sum")
def sum(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = _NO,
    where: Any = _NO,
) -> Array:
    """Sum over axes."""
    from stager.ops.reductions import reduce_or, reduce_sum

    a = masked(as_array(as_array_like(a)), where, 0)
    dtype = kept_dtype(a, dtype, out)
    d = sum_dtype(a.type.dtype) if dtype is None else dtype_of(dtype)
    total = reduce(a, axis, keepdims, reduce_or if d is b1 else reduce_sum, d)
    return deliver(_with_initial(np.add, total, initial), out, "sum", "unsafe")


@implements(np.prod, method="prod")
def prod(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = _NO,
    where: Any = _NO,
) -> Array:
    """Product over axes."""
    from stager.ops.reductions import reduce_and, reduce_prod

    a = masked(as_array(as_array_like(a)), where, 1)
    dtype = kept_dtype(a, dtype, out)
    d = sum_dtype(a.type.dtype) if dtype is None else dtype_of(dtype)
    total = reduce(a, axis, keepdims, reduce_and if d is b1 else reduce_prod, d)
    return deliver(_with_initial(np.multiply, total, initial), out, "prod", "unsafe")


def check_filled(shape: Sequence[Dim], axes: Sequence[int], text: str) -> None:
    """Raise, when the code runs, where an axis has no element whose length the data decide.

    Lengths of the arguments' own axes are known where it matters: guards and the conditions of libraries see to them.
    """
    from stager.bounds import lower
    from stager.interpreters.stack import stack
    from stager.ops.effects import check
    from stager.ops.regions import dim_value

    for k in axes:
        d = shape[k]
        if not isinstance(d, Expr):
            continue
        least = lower(d)
        if least is not None and least > 0:
            continue
        of_arguments = stack().levels[0].graph.symbols  # type: ignore[attr-defined]
        if any(name not in of_arguments or of_arguments[name].kind != "shape" for name in symbols_of(d)):
            check(op.gt(dim_value(d), dim_value(0)), exception="ValueError", text=text)


def _extreme(name: str, ufunc: Any, a: Any, axis: Any, out: Any, keepdims: Any, initial: Any, where: Any) -> Array:
    from stager.ops import reductions as r

    a = as_array(as_array_like(a))
    if out is not None:
        a = wrap(op.convert(a.raw(), dtype=dtype_of(kept_dtype(a, None, out))))
    if where is not _NO and where is not True:
        if initial is _NO:
            raise ValueError(
                f"reduction operation '{name}imum' does not have an identity, "
                "so to use a where mask one has to specify 'initial'"
            )
        a = masked(a, where, initial)
    axes = reduced_axes(axis, a.ndim)
    if any(a.type.shape[k] == 0 for k in axes):
        if initial is _NO:
            raise ValueError(f"zero-size array to reduction operation {name}imum which has no identity")
        from stager.ops.families import full

        empty = tuple([d for k, d in enumerate(a.type.shape) if k not in axes])
        found = wrap(full(empty, initial, a.type.dtype))
        return deliver(wrap(kept(found.raw(), axes, a.type.shape)) if keepdims is True else found, out, name, "unsafe")
    if initial is _NO:
        check_filled(a.type.shape, axes, f"zero-size array to reduction operation {name}imum which has no identity")
    if a.type.dtype.kind == "b":
        rule = r.reduce_or if name == "max" else r.reduce_and
    else:
        rule = r.reduce_max if name == "max" else r.reduce_min
    return deliver(_with_initial(ufunc, reduce(a, axis, keepdims, rule), initial), out, name, "unsafe")


@implements(np.max, np.amax, method="max")
def max(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = _NO, where: Any = _NO
) -> Array:
    """Maximum over axes; NaN wins."""
    return _extreme("max", np.maximum, a, axis, out, keepdims, initial, where)


@implements(np.min, np.amin, method="min")
def min(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = _NO, where: Any = _NO
) -> Array:
    """Minimum over axes; NaN wins."""
    return _extreme("min", np.minimum, a, axis, out, keepdims, initial, where)


def _truths(a: Any, where: Any, identity: bool) -> Array:
    return masked(wrap(truth(as_array(as_array_like(a)).raw())), where, identity)


@implements(np.any, method="any")
def any_(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = _NO) -> Array:
    """Whether any element is true."""
    from stager.ops.reductions import reduce_or

    return deliver(reduce(_truths(a, where, False), axis, keepdims, reduce_or), out, "any")


@implements(np.all, method="all")
def all_(a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = _NO) -> Array:
    """Whether all elements are true."""
    from stager.ops.reductions import reduce_and

    return deliver(reduce(_truths(a, where, True), axis, keepdims, reduce_and), out, "all")


def count_of(a: Array, axis: Any) -> Dim:
    """How many elements a reduction over `axis` joins."""
    count: Dim = 1
    for k in normalize_axes(axis, a.ndim):
        count = count * a.type.shape[k]
    return count


@implements(np.mean, method="mean")
def mean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = _NO
) -> Array:
    """Arithmetic mean over axes."""
    a = as_array(as_array_like(a))
    d = _mean_dtype(a, dtype, out)
    total = sum(a, axis, d, None, keepdims, where=where)
    if where is not _NO and where is not True:
        n: Any = sum(masked(ones_of(a), where, 0), axis, f64, None, keepdims)
    else:
        count = count_of(a, axis)
        n = count if isinstance(count, Expr) else float(count)
    return deliver(shared(total, n, d), out, "mean", "unsafe")


def _mean_dtype(a: Array, dtype: Any, out: Any) -> DType:
    """What a mean is made in: as asked for, floats for integers, else that of `out`."""
    if dtype is not None:
        return dtype_of(dtype)
    return dtype_of(kept_dtype(a, None, out) or a.dtype) if a.type.dtype.is_inexact else f64


def shared(total: Any, n: Any, d: DType) -> Array:
    """total / n in d; what is not a float is cut, as NumPy cuts it."""
    if d.is_inexact:
        return apply_ufunc(np.divide, total, n, dtype=d.np, casting="unsafe")  # type: ignore[no-any-return]
    return apply_ufunc(np.divide, total, n, dtype=np.float64).astype(d.np)  # type: ignore[no-any-return]


def ones_of(a: Array) -> Array:
    """Ones of a's shape, as floats."""
    from stager.ops.families import full

    return wrap(full(a.type.shape, 1, f64))


@implements(np.var, method="var")
def var(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: Any = False,
    *,
    where: Any = _NO,
    mean: Any = _NO,
    correction: Any = _NO,
) -> Array:
    """Variance over axes, two passes as NumPy: the mean first, then the squared deviations."""
    a = as_array(as_array_like(a))
    ddof = float(ddof if correction is _NO else correction)  # known while tracing
    d = dtype_of(dtype) if dtype is not None else (a.type.dtype if a.type.dtype.is_inexact else f64)
    center = MEAN(a, axis, d.np, None, True, where=where) if mean is _NO else mean
    deviation = apply_ufunc(np.subtract, a, center)
    d = d if dtype is not None or out is None or not a.type.dtype.is_inexact else dtype_of(kept_dtype(a, None, out))
    total = sum(apply_ufunc(np.multiply, deviation, deviation), axis, d, None, keepdims, where=where)
    if where is not _NO and where is not True:
        n: Any = apply_ufunc(np.subtract, sum(masked(ones_of(a), where, 0), axis, f64, None, keepdims), float(ddof))
        n = apply_ufunc(np.maximum, n, 0.0)
    else:
        count = count_of(a, axis) - (int(ddof) if float(ddof).is_integer() else ddof)  # type: ignore[operator]
        n = count if isinstance(count, Expr) else builtins.max(float(count), 0.0)
    return deliver(shared(total, n, d), out, "var", "unsafe")


MEAN = mean


@implements(np.std, method="std")
def std(
    a: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: float = 0,
    keepdims: Any = False,
    *,
    where: Any = _NO,
    mean: Any = _NO,
    correction: Any = _NO,
) -> Array:
    """Standard deviation over axes."""
    found = var(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    return deliver(apply_ufunc(np.sqrt, found), out, "std", "unsafe")


def _position(name: str, rule: Any, a: Any, axis: Any, out: Any, keepdims: Any) -> Array:
    a = as_array(as_array_like(a))
    r = a.raw()
    if axis is None:
        check_filled(r.type.shape, range(a.ndim), f"attempt to get {name} of an empty sequence")
        flat = reshape(r, shape=(a.type.size,))
        found = rule(flat, axis=0)
        return deliver(wrap(reshape(found, shape=(1,) * a.ndim) if keepdims is True else found), out, name)
    if not reduced_axes(axis, a.ndim):  # of no axes: its only element
        return _position(name, rule, wrap(reshape(r, shape=(1,))), None, out, False)
    k = normalize_axes(axis, a.ndim)[0]
    if r.type.shape[k] == 0:
        raise ValueError(f"attempt to get {name} of an empty sequence")
    check_filled(r.type.shape, (k,), f"attempt to get {name} of an empty sequence")
    found = rule(r, axis=k)
    return deliver(wrap(kept(found, (k,), r.type.shape) if keepdims is True else found), out, name)


@implements(np.argmax, method="argmax")
def argmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Array:
    """The first position of the maximum; the first NaN counts as one."""
    from stager.ops.reductions import argmax as rule

    return _position("argmax", rule, a, axis, out, keepdims)


@implements(np.argmin, method="argmin")
def argmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Array:
    """The first position of the minimum; the first NaN counts as one."""
    from stager.ops.reductions import argmin as rule

    return _position("argmin", rule, a, axis, out, keepdims)
