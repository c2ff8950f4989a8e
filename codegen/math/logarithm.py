"""log and its relatives: x = 2**k * m with m in [sqrt(1/2), sqrt(2)), f = m - 1, s = f/(2+f), log(1+f) = 2*atanh(s).

Exponents become floats by bits (or-ing them into 2**p), which every vector unit has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stager.codegen.math import coefficients
from stager.codegen.math.exponential import format_of
from stager.codegen.math.expr import Expr, fma, horner, where
from stager.codegen.math.functions import math_function
from stager.codegen.scalar import ScalarBuilder, Val
from stager.ir.dtypes import f64


@dataclass(frozen=True, slots=True)
class LogFormat:
    """The numbers of a float format that splitting into exponent and mantissa uses."""

    tiny: float  # the smallest normal
    lift: float  # 2**n that makes subnormals normal
    lift_exponent: float
    sqrt_half: int  # the bits of sqrt(1/2), rounded
    carrier: int  # the bits of 2**p
    carrier_value: float
    mantissa_mask: int


LOG_F64 = LogFormat(2.0**-1022, 2.0**54, 54.0, 0x3FE6A09E00000000, 0x4330000000000000, 2.0**52, (1 << 52) - 1)
LOG_F32 = LogFormat(2.0**-126, 2.0**25, 25.0, 0x3F3504F3, 0x4B000000, 2.0**23, (1 << 23) - 1)


def log_format(x: Expr) -> LogFormat:
    return LOG_F64 if x.dtype is f64 else LOG_F32


def split_log(x: Expr) -> tuple[Expr, Expr]:
    """k as a float and m in [sqrt(1/2), sqrt(2)) for positive finite x, subnormals included."""
    fmt, exp_fmt = log_format(x), format_of(x)
    small = x < fmt.tiny
    x = where(small, x * fmt.lift, x)
    bits = x.bits() + (exp_fmt.one - fmt.sqrt_half)
    k = ((bits >> exp_fmt.mantissa) | fmt.carrier).as_float(x.dtype)
    bias = fmt.carrier_value + (exp_fmt.one >> exp_fmt.mantissa)
    k = k - where(small, x.const(bias + fmt.lift_exponent), bias)
    m = ((bits & fmt.mantissa_mask) + fmt.sqrt_half).as_float(x.dtype)
    return k, m


def log_specials(x: Expr, out: Expr) -> Expr:
    """The answers at 0, below 0, at inf and NaN."""
    out = where(x == 0.0, -math.inf, out)
    out = where(x < math.inf, out, x)
    return where(x < 0.0, math.nan, out)


@math_function()
def log(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    fmt = format_of(x)
    k, m = split_log(x)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    r = z * horner(z, coefficients.LOG_F64 if x.dtype is f64 else coefficients.LOG_F32)
    out = fma(k, fmt.ln2_hi, f - (half - fma(s, half + r, k * fmt.ln2_lo)))
    return log_specials(x, out).v
