"""NumPy's ufuncs on traced arrays: one table from ufunc to how it is computed from ops, one way to apply them.

`apply_ufunc` does what every ufunc shares: `out=`, `where=`, `dtype=`, promotion, broadcasting. The table rows only
say the op, on raw operands of the loop's dtypes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from stager.array import Array, as_array, wrap
from stager.errors import DTypeError, ShapeError, UnsupportedError, describe
from stager.ir.dtypes import dtype_of
from stager.numpy.promotion import (
    broadcast_raw,
    broadcast_shapes,
    kind_of,
    operand,
    operands_together,
    reconciled,
    resolve,
    together,
)
from stager.numpy.scipy_ufuncs import scipy_rule
from stager.ops import elementwise as op
from stager.ops.families import full_like

Rule = Callable[..., Any]


def _boolean(rule: Rule) -> Rule:
    """Logical ufuncs: operands of any dtype become their truth first."""

    def on_truth(*xs: Any) -> Any:
        return rule(*[truth(x) for x in xs])

    return on_truth


def truth(x: Any) -> Any:
    """x != 0 (NaN is true)."""
    return x if x.type.dtype.kind == "b" else op.ne(x, full_like(x, 0))


def _bool_or(on_bool: Rule, otherwise: Rule) -> Rule:
    return lambda *xs: on_bool(*xs) if xs[0].type.dtype.kind == "b" else otherwise(*xs)


def _float_or(on_float: Rule, otherwise: Rule) -> Rule:
    return lambda *xs: on_float(*xs) if xs[0].type.dtype.is_float else otherwise(*xs)


def _heaviside(x: Any, h: Any) -> Any:
    below = op.select(op.lt(x, full_like(x, 0)), full_like(x, 0), x)
    return op.select(op.eq(x, full_like(x, 0)), h, op.select(op.gt(x, full_like(x, 0)), full_like(x, 1), below))


def _divmod(x: Any, y: Any) -> Any:
    return op.floordiv(x, y), op.mod(x, y)


def _modf(x: Any) -> Any:
    whole = op.trunc(x)
    fraction = op.copysign(op.select(op.isinf(x), full_like(x, 0), op.sub(x, whole)), x)
    return fraction, whole


def _int_reciprocal(x: Any) -> Any:
    """1/x truncated: 1 for 1, -1 for -1, 0 beyond; NumPy's answer for 0 is what the cast of inf gives."""
    zero, one = full_like(x, 0), full_like(x, 1)
    unit = op.select(op.eq(x, one), one, zero)
    if x.type.dtype.kind == "i":
        unit = op.select(op.eq(x, full_like(x, -1)), full_like(x, -1), unit)
    with np.errstate(all="ignore"):
        at_zero = int(np.reciprocal(np.zeros((), x.type.dtype.np)))
    return op.select(op.eq(x, zero), full_like(x, at_zero), unit)


def _frexp(x: Any) -> Any:
    return op.frexp_mantissa(x), op.frexp_exponent(x)


def _constant_like(value: Any) -> Rule:
    return lambda x: full_like(op.ne(x, x), value)


_MIRRORED = {op.eq: op.eq, op.ne: op.ne, op.lt: op.gt, op.le: op.ge, op.gt: op.lt, op.ge: op.le}


def _comparison(compare: Any, below: bool) -> Rule:
    """`compare`, exact between i64 and u64 too; `below` is what it says of a negative number and an unsigned one."""

    def rule(x: Any, y: Any) -> Any:
        if x.type.dtype is y.type.dtype:
            return compare(x, y)
        if x.type.dtype.kind == "u":
            return _comparison(_MIRRORED[compare], not below if compare not in (op.eq, op.ne) else below)(y, x)
        negative = op.lt(x, full_like(x, 0))
        found = compare(op.convert(x, dtype=y.type.dtype), y)
        return op.or_(negative, found) if below else op.and_(op.not_(negative), found)

    return rule


UFUNCS: dict[Any, Rule] = {
    np.add: _bool_or(op.or_, op.add),
    np.subtract: op.sub,
    np.multiply: _bool_or(op.and_, op.mul),
    np.divide: op.div,
    np.floor_divide: op.floordiv,
    np.remainder: op.mod,
    np.fmod: op.fmod,
    np.divmod: _divmod,
    np.negative: op.neg,
    np.positive: lambda x: x,
    np.power: op.pow_,
    np.float_power: op.pow_,
    np.absolute: _bool_or(lambda x: x, op.abs_),
    np.fabs: op.abs_,
    np.sign: op.sign,
    np.conjugate: lambda x: x,
    np.maximum: _bool_or(op.or_, op.maximum),
    np.minimum: _bool_or(op.and_, op.minimum),
    np.fmax: _bool_or(op.or_, _float_or(op.fmax, op.maximum)),
    np.fmin: _bool_or(op.and_, _float_or(op.fmin, op.minimum)),
    np.heaviside: _heaviside,
    np.square: lambda x: op.mul(x, x),
    np.reciprocal: lambda x: op.div(full_like(x, 1), x) if x.type.dtype.is_float else _int_reciprocal(x),
    np.gcd: op.gcd,
    np.lcm: op.lcm,
    np.equal: _comparison(op.eq, False),
    np.not_equal: _comparison(op.ne, True),
    np.less: _comparison(op.lt, True),
    np.less_equal: _comparison(op.le, True),
    np.greater: _comparison(op.gt, False),
    np.greater_equal: _comparison(op.ge, False),
    np.logical_and: _boolean(op.and_),
    np.logical_or: _boolean(op.or_),
    np.logical_xor: _boolean(op.xor),
    np.logical_not: _boolean(op.not_),
    np.bitwise_and: op.and_,
    np.bitwise_or: op.or_,
    np.bitwise_xor: op.xor,
    np.invert: op.not_,
    np.left_shift: op.shl,
    np.right_shift: op.shr,
    np.bitwise_count: op.popcount,
    np.floor: _float_or(op.floor, lambda x: x),
    np.ceil: _float_or(op.ceil, lambda x: x),
    np.trunc: _float_or(op.trunc, lambda x: x),
    np.rint: op.rint,
    np.isnan: _float_or(op.isnan, _constant_like(False)),
    np.isinf: _float_or(op.isinf, _constant_like(False)),
    np.isfinite: _float_or(op.isfinite, lambda x: op.eq(x, x)),
    np.signbit: op.signbit,
    np.copysign: op.copysign,
    np.nextafter: op.nextafter,
    np.spacing: op.spacing,
    np.ldexp: op.ldexp,
    np.frexp: _frexp,
    np.modf: _modf,
    np.sqrt: op.sqrt,
    np.cbrt: op.cbrt,
    np.exp: op.exp,
    np.exp2: op.exp2,
    np.expm1: op.expm1,
    np.log: op.log,
    np.log2: op.log2,
    np.log10: op.log10,
    np.log1p: op.log1p,
    np.logaddexp: op.logaddexp,
    np.logaddexp2: op.logaddexp2,
    np.sin: op.sin,
    np.cos: op.cos,
    np.tan: op.tan,
    np.arcsin: op.asin,
    np.arccos: op.acos,
    np.arctan: op.atan,
    np.arctan2: op.atan2,
    np.hypot: op.hypot,
    np.sinh: op.sinh,
    np.cosh: op.cosh,
    np.tanh: op.tanh,
    np.arcsinh: op.asinh,
    np.arccosh: op.acosh,
    np.arctanh: op.atanh,
    np.deg2rad: lambda x: op.mul(x, full_like(x, math.pi / 180.0)),
    np.radians: lambda x: op.mul(x, full_like(x, math.pi / 180.0)),
    np.rad2deg: lambda x: op.mul(x, full_like(x, 180.0 / math.pi)),
    np.degrees: lambda x: op.mul(x, full_like(x, 180.0 / math.pi)),
}


COMPARISONS = frozenset({np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal})


def _wide(x: int, operands: Sequence[Any]) -> Any:
    """A Python int that an integer array cannot hold may still be compared with it."""
    kinds = [kind_of(a) for a in operands]
    integers = [k for k in kinds if isinstance(k, np.dtype) and k.kind in "iu"]
    if not integers or len(integers) == len(kinds) or np.iinfo(integers[0]).min <= x <= np.iinfo(integers[0]).max:
        return x
    wide = np.int64 if x < 2**63 else np.uint64
    return wide(x) if np.iinfo(wide).min <= x <= np.iinfo(wide).max else x


def apply_operator(ufunc: Any, *inputs: Any) -> Any:
    """A Python operator: of Python numbers alone it gives a Python number, weak as they are (a ufunc's is strong)."""
    out = apply_ufunc(ufunc, *inputs)
    if all(type(x) in (int, float) or (type(x) is Array and x.weak) for x in inputs):
        for result in out if isinstance(out, tuple) else (out,):
            result.weak = result.type.dtype.kind != "b"
    return out


def apply_ufunc(
    ufunc: Any,
    *inputs: Any,
    out: Any = None,
    where: Any = True,
    dtype: Any = None,
    casting: str = "same_kind",
    order: str = "K",
    subok: bool = True,
) -> Any:
    """A ufunc call on traced arrays, with NumPy's promotion, broadcasting, `out=`, `where=` and `dtype=`."""
    rule = UFUNCS.get(ufunc) or scipy_rule(ufunc)
    if rule is None:
        _unsupported(ufunc)
    operands = [x if type(x) in (Array, bool, int, float, complex) else as_array_like(x) for x in inputs]
    if ufunc in COMPARISONS:
        operands = [_wide(x, operands) if type(x) is int else x for x in operands]
    in_dtypes, out_dtypes = resolve(ufunc, tuple([kind_of(x) for x in operands]), dtype, casting)
    raws = operands_together(ufunc.__name__, operands, in_dtypes)
    if ufunc is np.power and in_dtypes[1].kind == "i":
        _refuse_negative(operands[1], raws[1])
    result = rule(*raws)
    results = result if ufunc.nout > 1 else (result,)
    results = tuple([op.convert(r, dtype=d) for r, d in zip(results, out_dtypes, strict=True)])
    outs = out if isinstance(out, tuple) else (out,) * ufunc.nout
    final = tuple([_deliver(ufunc.__name__, r, o, where, casting) for r, o in zip(results, outs, strict=True)])
    return final if ufunc.nout > 1 else final[0]


def _refuse_negative(exponent: Any, raw: Any) -> None:
    """NumPy's error for an integer to a negative integer power: while tracing where it is known, else when it runs."""
    from stager.ops.effects import check
    from stager.ops.reductions import reduce_and

    text = "Integers to negative integer powers are not allowed."
    if type(exponent) is int or isinstance(exponent, np.ndarray | np.generic):
        if np.any(np.asarray(exponent) < 0):
            raise ValueError(text)
        return
    fine = op.ge(raw, full_like(raw, 0))
    check(
        reduce_and(fine, axes=tuple(range(len(raw.type.shape)))) if raw.type.shape else fine,
        exception="ValueError",
        text=text,
    )


def _deliver(name: str, result: Any, out: Any, where: Any, casting: Any = "same_kind") -> Array:
    """A ufunc's result: fresh, or written into `out` where `where` holds."""
    if out is None:
        if where is not True:
            given = operand(as_array_like(where), dtype_of(bool))
            mask, result = together(name, [given, result])
            result = op.select(mask, result, full_like(result, 0))  # NumPy leaves these elements uninitialised
        return wrap(result)
    handle = writable(out)
    target, result = reconciled(name, handle, result)
    if not np.can_cast(result.type.dtype.np, target.dtype, casting):
        raise TypeError(
            f"Cannot cast ufunc '{name}' output from {result.type.dtype.np!r} to {target.dtype!r} "
            f"with casting rule '{casting}'"
        )
    if broadcast_shapes(name, [result.type.shape, target.type.shape]) != target.type.shape:
        raise ShapeError(
            describe(f"{name}: non-broadcastable output operand with shape {target.shape}: the result is {result.type}")
        )
    value = broadcast_raw(op.convert(result, dtype=target.type.dtype), target.type.shape)
    if where is not True:
        mask = broadcast_raw(operand(as_array_like(where), dtype_of(bool)), target.type.shape)
        value = op.select(mask, value, target.raw())
    target.write(value)
    return handle


def writable(out: Any) -> Array:
    """The handle that a write goes to. A real ndarray met while tracing has no cell to write to."""
    if type(out) is Array:
        return out
    raise UnsupportedError(
        describe(
            f"a traced value is written into a real {type(out).__name__} that the trace does not know",
            remedy="make the buffer inside the traced function, or pass it as an argument",
        )
    )


def as_array_like(x: Any) -> Any:
    """Operands given as lists or other array-likes."""
    if type(x) is Array or isinstance(x, bool | int | float):
        return x
    if isinstance(x, complex):
        raise DTypeError(
            describe(
                f"complex numbers such as {x} are not supported",
                remedy="keep real and imaginary parts as arrays of their own",
            )
        )
    if isinstance(x, np.generic | np.ndarray):
        return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))
    if isinstance(x, list | tuple):
        from stager.numpy.creation import array

        return array(x)
    if hasattr(x, "__array__"):
        return np.asarray(x)
    from stager.ir.dims import Expr

    if isinstance(x, Expr):
        return as_array(x)
    raise UnsupportedError(describe(f"{type(x).__name__} is not an array, a scalar or a nested list of those"))


def _unsupported(ufunc: Any) -> NoReturn:
    import difflib

    names = [u.__name__ for u in UFUNCS]
    near = difflib.get_close_matches(ufunc.__name__, names, 3, 0.5)
    hint = f"near: {', '.join('np.' + n for n in near)}" if near else "write it with the supported ufuncs"
    raise UnsupportedError(describe(f"the ufunc {ufunc.__name__} is not supported on traced arrays", remedy=hint))
