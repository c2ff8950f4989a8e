"""Tests of closeness and kind, choices among several arrays, rounding."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.numpy.promotion import broadcast_raw, broadcast_shapes, operand, result_dtype
from stager.numpy.reductions import deliver
from stager.numpy.registry import implements
from stager.numpy.shaping import handle
from stager.numpy.ufuncs import as_array_like, truth
from stager.ops import elementwise as op
from stager.ops.effects import check
from stager.ops.families import full
from stager.ops.reductions import reduce_and


def dynamic(x: Any) -> Any:
    """An array-like as a handle, for arithmetic by operators."""
    return handle(x)


@implements(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1.0e-5, atol: Any = 1.0e-8, equal_nan: bool = False) -> Any:
    """|a - b| <= atol + rtol * |b|, or equal."""
    x: Any = a if isinstance(a, int | float) else dynamic(a)
    y: Any = b if isinstance(b, int | float) else dynamic(b)
    if isinstance(y, Array):
        y = y.astype(result_dtype(y, 1.0).np, copy=False)  # type: ignore[attr-defined]
    elif isinstance(y, int):
        y = float(y)
    result = (np.abs(x - y) <= atol + rtol * np.abs(y)) & np.isfinite(y) | (x == y)
    return result | (np.isnan(x) & np.isnan(y)) if equal_nan else result


@implements(np.allclose)
def allclose(a: Any, b: Any, rtol: Any = 1.0e-5, atol: Any = 1.0e-8, equal_nan: bool = False) -> Any:
    """Whether all elements are close."""
    return isclose(a, b, rtol, atol, equal_nan).all()


@implements(np.array_equal)
def array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    """Whether shapes and elements are equal."""
    x, y = dynamic(a1), dynamic(a2)
    if x.type.shape != y.type.shape:
        return False
    same = x == y
    if equal_nan:
        same = same | (np.isnan(x) & np.isnan(y))
    return same.all()


@implements(np.array_equiv)
def array_equiv(a1: Any, a2: Any) -> Any:
    """Whether the arrays are equal after broadcasting."""
    x, y = dynamic(a1), dynamic(a2)
    try:
        broadcast_shapes("array_equiv", [x.type.shape, y.type.shape])
    except ValueError:
        return False
    return (x == y).all()


@implements(np.isposinf)
def isposinf(x: Any, out: Any = None) -> Any:
    """Whether each element is +inf."""
    return np.logical_and(np.isinf(x), ~np.signbit(_float(x)), out)


@implements(np.isneginf)
def isneginf(x: Any, out: Any = None) -> Any:
    """Whether each element is -inf."""
    return np.logical_and(np.isinf(x), np.signbit(_float(x)), out)


def _float(x: Any) -> Any:
    x = dynamic(x)
    return x if x.type.dtype.is_float else x.astype(np.float64)


@implements(np.isreal)
def isreal(x: Any) -> Any:
    """True everywhere: elements are real."""
    return wrap(full(dynamic(x).type.shape, True, result_dtype(np.True_)))


@implements(np.iscomplex)
def iscomplex(x: Any) -> Any:
    """False everywhere: elements are real."""
    return wrap(full(dynamic(x).type.shape, False, result_dtype(np.True_)))


# -- choices ----------------------------------------------------------------------------------------------------------


@implements(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """The first choice whose condition holds."""
    if len(condlist) != len(choicelist):
        raise ValueError("list of cases must be same length as list of conditions")
    if not len(condlist):
        raise ValueError("select with an empty condition list is not possible")
    choices = [c if type(c) in (int, float) else as_array_like(c) for c in [*choicelist, default]]
    d = result_dtype(*choices)
    conds = [dynamic(c) for c in condlist]
    for i, c in enumerate(conds):
        if c.type.dtype.kind != "b":
            raise TypeError(f"invalid entry {i} in condlist: should be boolean ndarray")
    raws = [operand(c, d) for c in choices]
    shape = broadcast_shapes("select", [*[c.type.shape for c in conds], *[r.type.shape for r in raws]])
    result = broadcast_raw(raws[-1], shape)
    for c, r in reversed(list(zip(conds, raws[:-1], strict=True))):
        result = op.select(broadcast_raw(c.raw(), shape), broadcast_raw(r, shape), result)
    return wrap(op.copy(result))


@implements(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    """The function of the last condition that holds. Functions are applied to all of x, so they must be elementwise."""
    a = dynamic(x)
    if (
        isinstance(condlist, bool | np.bool_)
        or (isinstance(condlist, Array) and condlist.ndim == a.ndim)
        or (not isinstance(condlist, Array) and not isinstance(condlist[0], list | np.ndarray | Array) and a.ndim)
    ):
        condlist = [condlist]
    conds = [dynamic(c).astype(bool, copy=False) for c in condlist]
    if len(conds) == len(funclist) - 1:
        otherwise = conds[0]
        for c in conds[1:]:
            otherwise = otherwise | c
        conds.append(~otherwise)
    elif len(conds) != len(funclist):
        n = len(conds)
        raise ValueError(f"with {n} condition(s), either {n} or {n + 1} functions are expected")
    out: Any = wrap(full(a.type.shape, 0, a.type.dtype))
    for c, f in zip(conds, funclist, strict=True):
        value = f(a, *args, **kw) if callable(f) else f
        np.copyto(out, as_array_like(value), casting="unsafe", where=c)
    return out


@implements(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Array:
    """choices[a[i]][i] for every position i."""
    from stager.ops.indexed import gather
    from stager.ops.structural import iota_along, stack_

    i = dynamic(a)
    if i.type.dtype.kind not in "iub":
        raise TypeError(f"Cannot cast array data from {i.dtype!r} to dtype('int64') according to the rule 'safe'")
    arrays = [
        as_array_like(c) for c in (list(dynamic(choices)) if isinstance(choices, Array | np.ndarray) else choices)
    ]
    d = result_dtype(*arrays)
    raws = [operand(c, d) for c in arrays]
    shape = broadcast_shapes("choose", [i.type.shape, *[r.type.shape for r in raws]])
    from stager.ir.dtypes import i64

    index = op.convert(broadcast_raw(i.raw(), shape), dtype=i64)
    n = len(raws)
    if mode == "raise":
        inside = op.and_(op.ge(index, 0), op.lt(index, n))
        check(
            reduce_and(inside, axes=tuple(range(len(shape)))) if shape else inside,
            exception="ValueError",
            text="invalid entry in choice array",
        )
        index = op.minimum(op.maximum(index, 0), n - 1)
    elif mode == "clip":
        index = op.minimum(op.maximum(index, 0), n - 1)
    elif mode == "wrap":
        index = op.mod(index, n)
    else:
        raise ValueError(f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
    if n <= 8:
        result = broadcast_raw(raws[0], shape)
        for k in range(1, n):
            result = op.select(op.eq(index, k), broadcast_raw(raws[k], shape), result)
    else:
        table = stack_([broadcast_raw(r, shape) for r in raws], 0)
        places = [iota_along(shape, k) for k in range(len(shape))]
        result = gather(table, index, *places, axes=tuple(range(len(shape) + 1)), batch_dims=0, mode="promise")
    return deliver(wrap(op.copy(result)), out, "choose")


@implements(method="choose")
def choose_method(self: Array, choices: Any, out: Any = None, mode: str = "raise") -> Array:
    """`np.choose(self, choices)`."""
    return choose(self, choices, out, mode)


# -- rounding ---------------------------------------------------------------------------------------------------------


@implements(np.round, np.around)
def round_(a: Any, decimals: Any = 0, out: Any = None) -> Any:
    """Rounded to decimals, half to even, as NumPy does: scaled by a power of ten and back."""
    x = dynamic(a)
    places = decimals.__index__()
    if x.type.dtype.is_integer:
        if places >= 0:
            return deliver(wrap(op.copy(x.raw()), x.weak), out, "round")
        scale = float(10**-places)
        whole = np.rint(x.astype(np.float64) / scale) * scale
        return deliver(whole.astype(x.dtype), out, "round")
    if places == 0:
        return np.rint(x, out=out)
    if not x.type.dtype.is_float:
        raise TypeError("Cannot cast ufunc 'multiply' output from dtype('float64') to dtype('bool')")
    scale = float(10 ** abs(places))
    scaled = np.rint(x * scale if places > 0 else x / scale)
    return np.divide(scaled, scale, out=out) if places > 0 else np.multiply(scaled, scale, out=out)


@implements(np.fix)
def fix(x: Any, out: Any = None) -> Any:
    """Rounded towards zero."""
    return np.trunc(x, out=out)


@implements(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    """NaN and the infinities replaced; in place with copy=False."""
    a = dynamic(x)
    result = a.raw()
    if a.type.dtype.is_float:
        info = np.finfo(a.dtype)
        zero = full(a.type.shape, 0, a.type.dtype)
        for where, value in (
            (op.isnan(result), nan),
            (op.and_(op.isinf(result), op.gt(result, zero)), float(info.max) if posinf is None else posinf),
            (op.and_(op.isinf(a.raw()), op.lt(a.raw(), zero)), float(info.min) if neginf is None else neginf),
        ):
            v = broadcast_raw(operand(as_array_like(value), a.type.dtype), a.type.shape)
            result = op.select(where, v, result)
    if copy:
        return wrap(op.copy(result))
    a.write(result)
    return a


@implements(np.real_if_close)
def real_if_close(a: Any, tol: float = 100) -> Any:
    """The array itself: its elements are real."""
    return dynamic(a)


@implements(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    """0 for positive numbers, pi for negative ones."""
    x = dynamic(z)
    a = np.arctan2(0, x)
    return a * (180 / np.pi) if deg else a


@implements(np.sinc)
def sinc(x: Any) -> Any:
    """sin(pi x) / (pi x); near 0 its series, so that derivatives of all orders that matter are right there."""
    y = np.pi * dynamic(x)
    near = np.abs(y) < 1e-3
    square = np.where(near, y * y, 0.0)
    away = np.where(near, 1.0, y)
    return np.where(near, 1.0 - square * (1.0 / 6.0 - square * (1.0 / 120.0)), np.sin(away) / away)


def truths(x: Any) -> Any:
    """The truth of each element."""
    return wrap(truth(dynamic(x).raw()))
