"""log and its relatives: x = 2**k * m with m in [sqrt(1/2), sqrt(2)), f = m - 1, s = f/(2+f), log(1+f) = 2*atanh(s).

Exponents become floats by bits (or-ing them into 2**p), which every vector unit has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stager.codegen.math.exponential import exp_format, hexadecimal, power_of_two
from stager.codegen.math.expr import Expr, by_fours, even_odd, fits, fma, horner, twice_if_any, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.split import Pair, fast_two_sum, two_product, two_sum
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
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
    upper_half: int  # masks the upper half of the digits
    log2e: tuple[float, float]  # 1/ln2 in two parts, the first short enough for an exact product with such a half
    log10e: tuple[float, float]
    log10_2: tuple[float, float]
    third: tuple[float, float]
    vast: float  # above, x + 1 and sqrt(x*x + 1) are x


LOG_F64 = LogFormat(
    2.0**-1022, 2.0**54, 54.0, 0x3FE6A09E00000000, 0x4330000000000000, 2.0**52, (1 << 52) - 1, ~((1 << 32) - 1),
    (hexadecimal("0x1.71547652p+0"), hexadecimal("0x1.705fc2eefa2p-33")),
    (hexadecimal("0x1.bcb7b152p-2"), hexadecimal("0x1.b9438ca9aadd5p-36")),
    (hexadecimal("0x1.34413509f6p-2"), hexadecimal("0x1.9fef311f12b36p-42")),
    (hexadecimal("0x1.5555555555555p-2"), hexadecimal("0x1.5555555555555p-56")),
    2.0**60,
)  # fmt: skip
LOG_F32 = LogFormat(
    2.0**-126, 2.0**25, 25.0, 0x3F3504F3, 0x4B000000, 2.0**23, (1 << 23) - 1, ~((1 << 12) - 1),
    (hexadecimal("0x1.714p+0"), hexadecimal("0x1.47652cp-12")),
    (hexadecimal("0x1.bcap-2"), hexadecimal("0x1.7b1526p-14")),
    (hexadecimal("0x1.344p-2"), hexadecimal("0x1.3509f8p-18")),
    (hexadecimal("0x1.555554p-2"), hexadecimal("0x1.555556p-26")),
    2.0**30,
)  # fmt: skip


def log_format(x: Expr) -> LogFormat:
    return LOG_F64 if x.dtype is f64 else LOG_F32


def exponent_bias(x: Expr) -> float:
    """What is to be taken from an exponent's field that stands in the digits of a float."""
    exp_fmt = exp_format(x.dtype)
    return log_format(x).carrier_value + (exp_fmt.one >> exp_fmt.mantissa)


def split_exponent(x: Expr, bias: Expr | None = None) -> tuple[Expr, Expr, Expr]:
    """Bits whose low part is k, k as a float, m in [sqrt(1/2), sqrt(2)), for positive finite normal x. `bias`: in k's
    place, what makes k of the field is taken from it (`exponent_bias` and more)."""
    b = x.b
    if b.width == 1 and b.target.vector_bits >= 128:
        # the lane of a vector: one value would go to the registers of integers and back, which takes longer
        wide = b.with_width(128 // x.dtype.bits)
        given = None if bias is None else Expr(wide, wide.splat(bias.v))
        bits, k, m = (Expr(b, wide.extract(part.v, 0)) for part in split_exponent(Expr(wide, wide.splat(x.v)), given))
        return bits, k, m
    fmt, exp_fmt = log_format(x), exp_format(x.dtype)
    bits = x.bits() + (exp_fmt.one - fmt.sqrt_half)
    field = bits >> exp_fmt.mantissa
    k = (field | fmt.carrier).as_float(x.dtype) - (exponent_bias(x) if bias is None else bias)
    m = ((bits & fmt.mantissa_mask) + fmt.sqrt_half).as_float(x.dtype)
    return field - (exp_fmt.one >> exp_fmt.mantissa), k, m


def split_log(x: Expr) -> tuple[Expr, Expr]:
    """k as a float and m, subnormals included."""
    fmt = log_format(x)
    small = x < fmt.tiny
    _, k, m = split_exponent(where(small, x * fmt.lift, x))
    return k - where(small, x.const(fmt.lift_exponent), 0.0), m


def log_specials(x: Expr, out: Expr) -> Expr:
    """The answers at 0, below 0, at inf and NaN."""
    out = where(x == 0.0, -math.inf, out)
    out = where(x < math.inf, out, x)
    return where(x < 0.0, math.nan, out)


def _log_from(k: Expr, m: Expr) -> Expr:
    """k*ln2 + log(m)."""
    fmt = exp_format(m.dtype)
    f = m - 1.0
    s = f / (m + 1.0)
    z = s * s
    half = f * f * 0.5
    # what the series is waited for is multiplied and summed before it is there
    rest = fma(s * z, by_fours(z, fits("LOG", m)), fma(s, half, k * fmt.ln2_lo))
    return fma(k, fmt.ln2_hi, f - (half - rest))


@math_function()
def log(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    fmt, bias = log_format(x), exponent_bias(x)

    def usual(state: list[Expr]) -> Expr:
        return _log_from(*split_exponent(*state)[1:])

    def lifted() -> list[Expr]:
        small = x < fmt.tiny
        return [where(small, x * fmt.lift, x), where(small, x.const(bias + fmt.lift_exponent), bias)]

    def unusual() -> Expr:
        return ~((x >= fmt.tiny) & (x < math.inf))  # handled aside, it would be a third of the work

    return twice_if_any(unusual, [x, x.const(bias)], usual, lifted, lambda out: log_specials(x, out)).v


def log_short(x: Expr) -> Expr:
    """log of a positive normal float64 to a little more than float32's digits."""
    fmt = exp_format(x.dtype)
    _, k, m = split_exponent(x)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    return fma(k, fmt.ln2_hi + fmt.ln2_lo, f - (half - s * (half + z * even_odd(z, fits("LOG_SHORT", x)))))


def _log_to_base(b: ScalarBuilder, v: Val, scale: tuple[float, float], two: tuple[float, float]) -> Val:
    # log(m) = hi + lo with hi half as long as a float, so that its product with the upper part of `scale` is exact
    x = Expr(b, v)
    fmt = log_format(x)
    k, m = split_log(x)
    f = m - 1.0
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    r = z * horner(z, fits("LOG", x))
    hi = ((f - half).bits() & (fmt.upper_half & ((1 << x.dtype.bits) - 1))).as_float(x.dtype)
    lo = ((f - hi) - half) + s * (half + r)
    low = fma(lo + hi, scale[1], lo * scale[0])
    y, e = fast_two_sum(k * two[0], hi * scale[0])
    if two[1]:
        low = fma(k, two[1], low)
    return log_specials(x, y + (e + low)).v


@math_function()
def log2(b: ScalarBuilder, v: Val) -> Val:
    return _log_to_base(b, v, (LOG_F64 if v.dtype is f64 else LOG_F32).log2e, (1.0, 0.0))


@math_function()
def log10(b: ScalarBuilder, v: Val) -> Val:
    fmt = LOG_F64 if v.dtype is f64 else LOG_F32
    return _log_to_base(b, v, fmt.log10e, fmt.log10_2)


def log_of_pair(u: Expr, c: Expr, more: Expr | None = None) -> Expr:
    """log(u + c) + more*ln2 for positive finite normal u, |c| below the last place of u: accurate for u near 1 too."""
    fmt = exp_format(u.dtype)
    k_bits, k, m = split_exponent(u)
    c = where(u < log_format(u).vast, c * power_of_two(k_bits.const(0) - k_bits, u.dtype), 0.0)
    f, low = fast_two_sum(m - 1.0, c)
    low = fma(-low, f, low)
    # m - 1 may be smaller than c: then f is the rounded sum all the same and its error is lost below one part in 2**p
    s = f / (f + 2.0)
    z = s * s
    half = f * f * 0.5
    r = z * horner(z, fits("LOG", u))
    if more is not None:
        k = k + more
    return fma(k, fmt.ln2_hi, f - (half - fma(s, half + r, fma(k, fmt.ln2_lo, low))))


@math_function()
def log1p(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    vast = x > log_format(x).vast
    u, c = two_sum(x.const(1.0), where(vast, 0.0, x))
    u = where(vast, x, u)
    out = log_of_pair(u, c)
    out = where(x == -1.0, -math.inf, out)
    out = where(x < math.inf, out, x)
    out = where(x < -1.0, math.nan, out)
    return where(abs(x) < log_format(x).tiny, x, out).v


def log_pair(x: Expr) -> Pair:
    """log(x) as a pair with about ten more digits than a float, for positive finite x."""
    fmt, exp_fmt = log_format(x), exp_format(x.dtype)
    k, m = split_log(x)
    f = m - 1.0
    d = f + 2.0
    d_low = f - (d - 2.0)
    inverse = 1.0 / d
    s = f * inverse
    p, e = two_product(s, d)
    s_low = (((f - p) - e) - s * d_low) * inverse
    z, z_low = two_product(s, s)
    z_low = fma(s + s, s_low, z_low)
    # atanh(s)/s - 1 = z/3 + z*z*Q(z): the first term in both parts, the rest in one
    tail = z * z * horner(z, fits("LOG_PAIR", x))
    t, t_low = two_product(z, x.const(fmt.third[0]))
    t_low = fma(z_low, fmt.third[0], fma(z, fmt.third[1], t_low))
    t, e = fast_two_sum(t, tail)
    t_low = t_low + e
    p, e = two_product(s, t)
    e = fma(s_low, t, fma(s, t_low, e))
    hi, lo = fast_two_sum(s, p)
    lo = lo + (e + s_low)
    hi, lo = hi + hi, lo + lo
    top, e = fast_two_sum(k * exp_fmt.ln2_hi, hi)
    low = fma(k, exp_fmt.ln2_lo, lo + e)
    return Pair(*fast_two_sum(top, low))


@math_function()
def logaddexp(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    x, y = Expr(b, xv), Expr(b, yv)
    top = where(x > y, x, y)
    gap = where(x == y, 0.0, abs(x - y))
    out = top + (-gap).call("exp").call("log1p")
    return where(x.isnan() | y.isnan(), x + y, out).v


@math_function()
def logaddexp2(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    x, y = Expr(b, xv), Expr(b, yv)
    top = where(x > y, x, y)
    gap = where(x == y, 0.0, abs(x - y))
    out = fma((-gap).call("exp2").call("log1p"), 1.4426950408889634, top)
    return where(x.isnan() | y.isnan(), x + y, out).v
