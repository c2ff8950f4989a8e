"""Elementwise ops: arithmetic, comparison, logic, bits, rounding and the transcendental families.

Derivatives take the tangent (or cotangent) first: `lambda t, out, x: t * f'(x)`. At the hard points they follow one
convention, written beside the op. A quotient t / y is written t times 1 / y: the factor does not depend on t, so it is
computed once where y is smaller than t (a broadcast divisor, a batch of tangents) and shared between operands.
References are NumPy's own functions; NumPy has no erf or gamma family, so those references stand in `special.py`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stager.interpreters.stack import bind
from stager.ir.dtypes import DType, b1, i32, u8
from stager.ir.types import Type
from stager.ops import special
from stager.ops.families import OpFunction, comparison, elementwise, full_like, zeros_like

# -- arithmetic -------------------------------------------------------------------------------------------------------

add: OpFunction = elementwise(
    "add",
    np.add,
    d=[lambda t, out, x, y: t, lambda t, out, x, y: t],
    lower=lambda b, x, y: b.add(x, y),
    commutative=True,
)
sub: OpFunction = elementwise(
    "sub", np.subtract, d=[lambda t, out, x, y: t, lambda t, out, x, y: neg(t)], lower=lambda b, x, y: b.sub(x, y)
)
mul: OpFunction = elementwise(
    "mul",
    np.multiply,
    d=[lambda t, out, x, y: mul(t, y), lambda t, out, x, y: mul(x, t)],
    lower=lambda b, x, y: b.mul(x, y),
    commutative=True,
)


def _over(c: float, y: Any) -> Any:
    return div(full_like(y, c), y)


div: OpFunction = elementwise(
    "div",
    np.divide,
    d=[lambda t, out, x, y: mul(t, _over(1.0, y)), lambda t, out, x, y: neg(mul(mul(t, out), _over(1.0, y)))],
    lower=lambda b, x, y: b.div(x, y),
    kinds="fc",
)
floordiv: OpFunction = elementwise("floordiv", np.floor_divide, lower=lambda b, x, y: b.floordiv(x, y))
# mod(x, y) = x - y * floor(x/y)
mod: OpFunction = elementwise(
    "mod",
    np.mod,
    d=[lambda t, out, x, y: t, lambda t, out, x, y: neg(mul(t, floordiv(x, y)))],
    lower=lambda b, x, y: b.mod(x, y),
)
fmod: OpFunction = elementwise(
    "fmod",
    np.fmod,
    d=[lambda t, out, x, y: t, lambda t, out, x, y: neg(mul(t, trunc(div(x, y))))],
    lower=lambda b, x, y: b.fmod(x, y),
)
neg: OpFunction = elementwise("neg", np.negative, d=[lambda t, out, x: neg(t)], lower=lambda b, x: b.neg(x))
abs_: OpFunction = elementwise(
    "abs", np.absolute, d=[lambda t, out, x: mul(t, sign(x))], lower=lambda b, x: b.abs(x)
)  # 0 at 0
sign: OpFunction = elementwise("sign", np.sign, lower=lambda b, x: b.sign(x))


def _pow_dx(t: Any, out: Any, x: Any, y: Any) -> Any:
    # y x**(y-1), and 0 where y is 0 (x**0 is constant, at x = 0 too)
    zero_exponent = eq(y, 0.0)
    safe = select(zero_exponent, full_like(y, 1.0), y)
    return mul(t, select(zero_exponent, zeros_like(y), mul(y, pow_(x, sub(safe, 1.0)))))


def _pow_dy(t: Any, out: Any, x: Any, y: Any) -> Any:
    # x**y log x, and 0 where x is 0 and the power is 0 or finite: the limit for y > 0
    at_zero = eq(x, 0.0)
    return mul(t, mul(out, log(select(at_zero, full_like(x, 1.0), x))))


pow_: OpFunction = elementwise("pow", np.power, d=[_pow_dx, _pow_dy], lower=lambda b, x, y: b.pow(x, y))
maximum: OpFunction = elementwise(
    "maximum",
    np.maximum,
    d=[lambda t, out, x, y: _share(t, x, y, ge), lambda t, out, x, y: _share(t, y, x, ge)],
    lower=lambda b, x, y: b.maximum(x, y),
)
minimum: OpFunction = elementwise(
    "minimum",
    np.minimum,
    d=[lambda t, out, x, y: _share(t, x, y, le), lambda t, out, x, y: _share(t, y, x, le)],
    lower=lambda b, x, y: b.minimum(x, y),
)
fmax: OpFunction = elementwise(
    "fmax",
    np.fmax,
    d=[lambda t, out, x, y: _share_nan(t, x, y, ge), lambda t, out, x, y: _share_nan(t, y, x, ge)],
    lower=lambda b, x, y: b.fmax(x, y),
)
fmin: OpFunction = elementwise(
    "fmin",
    np.fmin,
    d=[lambda t, out, x, y: _share_nan(t, x, y, le), lambda t, out, x, y: _share_nan(t, y, x, le)],
    lower=lambda b, x, y: b.fmin(x, y),
)


def _share(t: Any, x: Any, y: Any, reaches: OpFunction) -> Any:
    """The tangent of the operand that wins; half of it at a tie, so that max(x, x) has derivative 1.

    Both operands ask the same two questions, so two masks are all that a tape holds of them, and the tangent is halved
    for both at once.
    """
    wins = reaches(x, y)
    return select(wins, select(and_(wins, reaches(y, x)), mul(t, 0.5), t), zeros_like(t))


def _share_nan(t: Any, x: Any, y: Any, reaches: OpFunction) -> Any:
    return select(isnan(y), t, _share(t, x, y, reaches))


# -- comparison, logic, bits ------------------------------------------------------------------------------------------

eq: OpFunction = comparison("eq", np.equal, lambda b, x, y: b.eq(x, y), commutative=True)
ne: OpFunction = comparison("ne", np.not_equal, lambda b, x, y: b.ne(x, y), commutative=True)
lt: OpFunction = comparison("lt", np.less, lambda b, x, y: b.lt(x, y))
le: OpFunction = comparison("le", np.less_equal, lambda b, x, y: b.le(x, y))
gt: OpFunction = comparison("gt", np.greater, lambda b, x, y: b.gt(x, y))
ge: OpFunction = comparison("ge", np.greater_equal, lambda b, x, y: b.ge(x, y))
and_: OpFunction = elementwise(
    "and_", np.bitwise_and, lower=lambda b, x, y: b.and_(x, y), kinds="biu", commutative=True
)
or_: OpFunction = elementwise("or_", np.bitwise_or, lower=lambda b, x, y: b.or_(x, y), kinds="biu", commutative=True)
xor: OpFunction = elementwise("xor", np.bitwise_xor, lower=lambda b, x, y: b.xor(x, y), kinds="biu", commutative=True)
not_: OpFunction = elementwise("not_", np.invert, lower=lambda b, x: b.not_(x), kinds="biu")
shl: OpFunction = elementwise("shl", np.left_shift, lower=lambda b, x, y: b.shl(x, y), kinds="iu")
shr: OpFunction = elementwise("shr", np.right_shift, lower=lambda b, x, y: b.shr(x, y), kinds="iu")


popcount: OpFunction = elementwise(
    "popcount", np.bitwise_count, lower=lambda b, x: b.popcount(x), kinds="iu", result=u8
)
gcd: OpFunction = elementwise("gcd", np.gcd, lower=lambda b, x, y: b.gcd(x, y), kinds="iu", commutative=True)
lcm: OpFunction = elementwise("lcm", np.lcm, lower=lambda b, x, y: b.lcm(x, y), kinds="iu", commutative=True)


def _select_type(c: DType, x: DType, y: DType) -> DType:
    return x


select: OpFunction = elementwise(
    "select",
    lambda c, x, y: np.where(c, x, y),
    d=[
        None,
        lambda t, out, c, x, y: select(c, t, zeros_like(t)),
        lambda t, out, c, x, y: select(c, zeros_like(t), t),
    ],
    lower=lambda b, c, x, y: b.select(c, x, y),
    result=_select_type,
    mixed=True,
)


def _convert_type(x: Type, *, dtype: DType) -> Type:
    return Type(dtype, x.shape)


def _convert_reference(x: Any, *, dtype: DType) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(x).astype(dtype.np)


def _convert_batch(interp: Any, args: Any, bdims: Any, *, dtype: DType) -> Any:
    return convert(args[0], dtype=dtype), bdims[0]


def _convert_jvp(primals: Any, tangents: Any, *, dtype: DType) -> Any:
    out = bind(_convert.op, primals[0], dtype=dtype)
    (t,) = tangents
    return out, convert(t, dtype=dtype) if t is not None and dtype.is_inexact else None


def _convert_vjp(ct: Any, out: Any, args: Any, needs: Any, *, dtype: DType) -> Any:
    return [convert(ct, dtype=args[0].type.dtype)]


def _make_convert() -> OpFunction:
    from stager.ir.op import Op, register

    op = Op(
        "convert",
        "elementwise",
        _convert_type,
        _convert_reference,
        lower=lambda b, x, *, dtype: b.convert(x, dtype),
        jvp=_convert_jvp,
        vjp=_convert_vjp,
        batch=_convert_batch,
    )
    return OpFunction(register(op))


_convert = _make_convert()


def convert(x: Any, *, dtype: DType) -> Any:
    """x in another dtype, with NumPy's casting; x itself when it has it already."""
    return x if x.type.dtype is dtype else _convert(x, dtype=dtype)


# A copy: the same values in memory of their own. Not folded away where aliasing is observable.
copy: OpFunction = elementwise("copy", np.copy, d=[lambda t, out, x: t], lower=lambda b, x: x)
# The identity that passes do not look through: what is computed from it is not shared with what is computed from x.
barrier: OpFunction = elementwise("barrier", lambda x: x, d=[lambda t, out, x: t], lower=lambda b, x: x)
# The identity whose derivative is zero.
stop_gradient: OpFunction = elementwise("stop_gradient", lambda x: x, lower=lambda b, x: x)
# The identity whose derivative one mode takes for zero: `no_grad` and its forward twin inside a region.
stop_reverse: OpFunction = elementwise(
    "stop_reverse", lambda x: x, d=[lambda t, out, x: t], lower=lambda b, x: x, modes=("forward",)
)
stop_forward: OpFunction = elementwise(
    "stop_forward", lambda x: x, d=[lambda t, out, x: t], lower=lambda b, x: x, modes=("reverse",)
)

# -- rounding and the parts of floats ---------------------------------------------------------------------------------

floor: OpFunction = elementwise("floor", np.floor, lower=lambda b, x: b.floor(x), kinds="f")
ceil: OpFunction = elementwise("ceil", np.ceil, lower=lambda b, x: b.ceil(x), kinds="f")
trunc: OpFunction = elementwise("trunc", np.trunc, lower=lambda b, x: b.trunc(x), kinds="f")
rint: OpFunction = elementwise("rint", np.rint, lower=lambda b, x: b.rint(x), kinds="f")
isnan: OpFunction = elementwise("isnan", np.isnan, lower=lambda b, x: b.isnan(x), kinds="f", result=b1)
isinf: OpFunction = elementwise("isinf", np.isinf, lower=lambda b, x: b.isinf(x), kinds="f", result=b1)
isfinite: OpFunction = elementwise("isfinite", np.isfinite, lower=lambda b, x: b.isfinite(x), kinds="f", result=b1)
signbit: OpFunction = elementwise("signbit", np.signbit, lower=lambda b, x: b.signbit(x), kinds="f", result=b1)
copysign: OpFunction = elementwise(
    "copysign",
    np.copysign,
    kinds="f",
    lower=lambda b, x, y: b.copysign(x, y),
    d=[lambda t, out, x, y: select(xor(signbit(x), signbit(y)), neg(t), t), None],
)
nextafter: OpFunction = elementwise(
    "nextafter", np.nextafter, lower=lambda b, x, y: b.nextafter(x, y), kinds="f", d=[lambda t, out, x, y: t, None]
)
spacing: OpFunction = elementwise("spacing", np.spacing, lower=lambda b, x: b.spacing(x), kinds="f")
ldexp: OpFunction = elementwise(
    "ldexp",
    np.ldexp,
    lower=lambda b, x, n: b.ldexp(x, n),
    mixed=True,
    result=lambda x, n: x,
    d=[lambda t, out, x, n: ldexp(t, n), None],
)
frexp_mantissa: OpFunction = elementwise(
    "frexp_mantissa",
    lambda x: np.frexp(x)[0],
    kinds="f",
    lower=lambda b, x: b.frexp(x)[0],
    d=[lambda t, out, x: ldexp(t, neg(frexp_exponent(x)))],
)
frexp_exponent: OpFunction = elementwise(
    "frexp_exponent", lambda x: np.frexp(x)[1], kinds="f", lower=lambda b, x: b.frexp(x)[1], result=i32
)


# -- roots, exponentials, logarithms ----------------------------------------------------------------------------------

_LN2, _LN10 = math.log(2.0), math.log(10.0)
_TWO_OVER_ROOT_PI = 2.0 / math.sqrt(math.pi)

sqrt: OpFunction = elementwise(
    "sqrt", np.sqrt, d=[lambda t, out, x: mul(mul(t, 0.5), _over(1.0, out))], lower=lambda b, x: b.sqrt(x), kinds="f"
)  # inf at 0
cbrt: OpFunction = elementwise(
    "cbrt", np.cbrt, d=[lambda t, out, x: div(t, mul(3.0, mul(out, out)))], lower=lambda b, x: b.cbrt(x), kinds="f"
)
exp: OpFunction = elementwise("exp", np.exp, d=[lambda t, out, x: mul(t, out)], lower=lambda b, x: b.exp(x), kinds="f")
exp2: OpFunction = elementwise(
    "exp2", np.exp2, d=[lambda t, out, x: mul(t, mul(out, _LN2))], lower=lambda b, x: b.exp2(x), kinds="f"
)
expm1: OpFunction = elementwise(
    "expm1", np.expm1, d=[lambda t, out, x: mul(t, add(out, 1.0))], lower=lambda b, x: b.expm1(x), kinds="f"
)
log: OpFunction = elementwise(
    "log", np.log, d=[lambda t, out, x: mul(t, _over(1.0, x))], lower=lambda b, x: b.log(x), kinds="f"
)
log2: OpFunction = elementwise(
    "log2", np.log2, d=[lambda t, out, x: mul(t, _over(1.0 / _LN2, x))], lower=lambda b, x: b.log2(x), kinds="f"
)
log10: OpFunction = elementwise(
    "log10", np.log10, d=[lambda t, out, x: mul(t, _over(1.0 / _LN10, x))], lower=lambda b, x: b.log10(x), kinds="f"
)
log1p: OpFunction = elementwise(
    "log1p", np.log1p, d=[lambda t, out, x: mul(t, _over(1.0, add(x, 1.0)))], lower=lambda b, x: b.log1p(x), kinds="f"
)


def _log_share(t: Any, out: Any, x: Any, y: Any, exponential: OpFunction) -> Any:
    # exp(x - out); where that is inf - inf, x has it all, or half where y is the same infinity: constants, whose own
    # derivatives are 0, so exp must not see the NaN there
    difference = sub(x, out)
    none = isnan(difference)
    infinite = select(eq(x, y), full_like(x, 0.5), full_like(x, 1.0))
    share = exponential(select(none, zeros_like(x), difference))
    return mul(t, select(none, select(isnan(out), difference, infinite), share))


logaddexp: OpFunction = elementwise(
    "logaddexp",
    np.logaddexp,
    kinds="f",
    lower=lambda b, x, y: b.logaddexp(x, y),
    commutative=True,
    d=[lambda t, out, x, y: _log_share(t, out, x, y, exp), lambda t, out, x, y: _log_share(t, out, y, x, exp)],
)
logaddexp2: OpFunction = elementwise(
    "logaddexp2",
    np.logaddexp2,
    kinds="f",
    lower=lambda b, x, y: b.logaddexp2(x, y),
    commutative=True,
    d=[lambda t, out, x, y: _log_share(t, out, x, y, exp2), lambda t, out, x, y: _log_share(t, out, y, x, exp2)],
)

# -- trigonometric and hyperbolic -------------------------------------------------------------------------------------

sin: OpFunction = elementwise(
    "sin", np.sin, d=[lambda t, out, x: mul(t, cos(x))], lower=lambda b, x: b.sin(x), kinds="f"
)
cos: OpFunction = elementwise(
    "cos", np.cos, d=[lambda t, out, x: neg(mul(t, sin(x)))], lower=lambda b, x: b.cos(x), kinds="f"
)
tan: OpFunction = elementwise(
    "tan", np.tan, d=[lambda t, out, x: mul(t, add(mul(out, out), 1.0))], lower=lambda b, x: b.tan(x), kinds="f"
)
asin: OpFunction = elementwise(
    "asin", np.arcsin, d=[lambda t, out, x: div(t, sqrt(_one_minus_square(x)))], lower=lambda b, x: b.asin(x), kinds="f"
)
acos: OpFunction = elementwise(
    "acos",
    np.arccos,
    d=[lambda t, out, x: neg(div(t, sqrt(_one_minus_square(x))))],
    lower=lambda b, x: b.acos(x),
    kinds="f",
)
atan: OpFunction = elementwise(
    "atan", np.arctan, d=[lambda t, out, x: div(t, add(mul(x, x), 1.0))], lower=lambda b, x: b.atan(x), kinds="f"
)
atan2: OpFunction = elementwise(
    "atan2",
    np.arctan2,
    kinds="f",
    lower=lambda b, y, x: b.atan2(y, x),
    d=[
        lambda t, out, y, x: mul(t, div(x, _sum_squares(x, y))),
        lambda t, out, y, x: neg(mul(t, div(y, _sum_squares(x, y)))),
    ],
)
hypot: OpFunction = elementwise(
    "hypot",
    np.hypot,
    kinds="f",
    lower=lambda b, x, y: b.hypot(x, y),
    commutative=True,
    d=[lambda t, out, x, y: mul(t, _ratio(x, out)), lambda t, out, x, y: mul(t, _ratio(y, out))],
)
sinh: OpFunction = elementwise(
    "sinh", np.sinh, d=[lambda t, out, x: mul(t, cosh(x))], lower=lambda b, x: b.sinh(x), kinds="f"
)
cosh: OpFunction = elementwise(
    "cosh", np.cosh, d=[lambda t, out, x: mul(t, sinh(x))], lower=lambda b, x: b.cosh(x), kinds="f"
)
tanh: OpFunction = elementwise(
    "tanh", np.tanh, d=[lambda t, out, x: mul(t, _one_minus_square(out))], lower=lambda b, x: b.tanh(x), kinds="f"
)
asinh: OpFunction = elementwise(
    "asinh",
    np.arcsinh,
    d=[lambda t, out, x: div(t, hypot(x, full_like(x, 1.0)))],
    lower=lambda b, x: b.asinh(x),
    kinds="f",
)
acosh: OpFunction = elementwise(
    "acosh",
    np.arccosh,
    d=[lambda t, out, x: div(t, mul(sqrt(sub(x, 1.0)), sqrt(add(x, 1.0))))],
    lower=lambda b, x: b.acosh(x),
    kinds="f",
)
atanh: OpFunction = elementwise(
    "atanh", np.arctanh, d=[lambda t, out, x: div(t, _one_minus_square(x))], lower=lambda b, x: b.atanh(x), kinds="f"
)


def _one_minus_square(x: Any) -> Any:
    # (1-x)(1+x) keeps its digits near |x| = 1, where 1 - x*x cancels
    return mul(sub(1.0, x), add(x, 1.0))


def _sum_squares(x: Any, y: Any) -> Any:
    return add(mul(x, x), mul(y, y))


def _ratio(x: Any, r: Any) -> Any:
    # x/r, and 0 at the origin: the subgradient of least norm
    at_origin = eq(r, 0.0)
    return select(at_origin, zeros_like(x), div(x, select(at_origin, full_like(r, 1.0), r)))


# -- erf and the gamma family -----------------------------------------------------------------------------------------

erf: OpFunction = elementwise(
    "erf", special.erf, d=[lambda t, out, x: mul(t, _gaussian(x))], lower=lambda b, x: b.erf(x), kinds="f"
)
erfc: OpFunction = elementwise(
    "erfc", special.erfc, d=[lambda t, out, x: neg(mul(t, _gaussian(x)))], lower=lambda b, x: b.erfc(x), kinds="f"
)
erfinv: OpFunction = elementwise(
    "erfinv",
    special.erfinv,
    lower=lambda b, x: b.erfinv(x),
    kinds="f",
    d=[lambda t, out, x: mul(t, mul(exp(mul(out, out)), 1.0 / _TWO_OVER_ROOT_PI))],
)
lgamma: OpFunction = elementwise(
    "lgamma", special.lgamma, d=[lambda t, out, x: mul(t, digamma(x))], lower=lambda b, x: b.lgamma(x), kinds="f"
)
gamma: OpFunction = elementwise(
    "gamma", special.gamma, d=[lambda t, out, x: mul(t, mul(out, digamma(x)))], lower=lambda b, x: b.gamma(x), kinds="f"
)
digamma: OpFunction = elementwise(
    "digamma",
    special.digamma,
    d=[lambda t, out, x: mul(t, polygamma(x, n=1))],
    lower=lambda b, x: b.digamma(x),
    kinds="f",
)
polygamma: OpFunction = elementwise(
    "polygamma",
    lambda x, *, n: special.polygamma(n, x),
    kinds="f",
    d=[lambda t, out, x, *, n: mul(t, polygamma(x, n=n + 1))],
    lower=lambda b, x, *, n: special.lower_polygamma(b, x, n),
)


def _gaussian(x: Any) -> Any:
    return mul(exp(neg(mul(x, x))), _TWO_OVER_ROOT_PI)


fma: OpFunction = elementwise(
    "fma",
    lambda x, y, z: special.fma(x, y, z),
    kinds="f",
    lower=lambda b, x, y, z: b.fma(x, y, z),
    d=[lambda t, out, x, y, z: mul(t, y), lambda t, out, x, y, z: mul(x, t), lambda t, out, x, y, z: t],
)
