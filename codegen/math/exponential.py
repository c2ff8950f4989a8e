"""exp and its relatives: x = k*ln2 + r, a polynomial on |r| <= ln2/2, and 2**k built from bits.

The integer k is read from the low mantissa bits of a float to which 1.5*2**p was added, which needs no float-to-int
cast (no vector form before AVX-512). Scaling is done in two factors, so subnormal results are rounded once and nothing
overflows early.
"""

from __future__ import annotations

from dataclasses import dataclass

from stager.codegen.math.expr import Expr, by_fours, even_odd, fits, fma, larger, smaller, when_any, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.split import Pair, fast_two_sum
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import DType, f64

hexadecimal = float.fromhex


@dataclass(frozen=True, slots=True)
class ExpFormat:
    """The numbers of a float format that the reductions use."""

    magic: float  # 1.5 * 2**p: adding it rounds to an integer that stands in the low bits
    mantissa: int
    one: int  # the bits of 1.0
    ln2_hi: float  # ends in zeros, so that k*ln2_hi is exact
    ln2_lo: float
    ln2: float  # the nearest number, and what that lacks
    ln2_rest: float
    lowest: float  # exp of anything below is 0
    highest: float  # exp of anything above is inf
    plain: float  # below in magnitude, exp and its power of two are normal numbers


F64 = ExpFormat(
    6755399441055744.0, 52, 1023 << 52,
    hexadecimal("0x1.62E42FEEp-1"), hexadecimal("0x1.A39EF35793C76p-33"),
    hexadecimal("0x1.62E42FEFA39EFp-1"), hexadecimal("0x1.ABC9E3B39803Fp-56"), -746.0, 710.0, 708.0,
)  # fmt: skip
F32 = ExpFormat(
    12582912.0, 23, 127 << 23, hexadecimal("0x1.62E4p-1"), hexadecimal("0x1.7F7D1Cp-20"),
    hexadecimal("0x1.62E43p-1"), hexadecimal("-0x1.05C610p-29"), -104.0, 89.0, 87.0,
)  # fmt: skip
LOG2E = 1.4426950408889634


def exp_format(dtype: DType) -> ExpFormat:
    return F64 if dtype is f64 else F32


def round_to_bits(x: Expr) -> tuple[Expr, Expr]:
    """The nearest integer k to a small x: bits whose low part is k, and k as a float."""
    magic = exp_format(x.dtype).magic
    shifted = x + magic
    return shifted.bits(), shifted - magic


def reduce_exp(x: Expr) -> tuple[Expr, Expr]:
    """Bits whose low part is k, and r = x - k*ln2."""
    fmt = exp_format(x.dtype)
    shifted = fma(x, LOG2E, fmt.magic)
    k = shifted - fmt.magic
    return shifted.bits(), fma(k, -fmt.ln2_lo, fma(k, -fmt.ln2_hi, x))


def reduce_half_exp(x: Expr) -> tuple[Expr, Expr, Expr, Expr]:
    """v, r, c and q with exp(-2x) = (1 + 2h)/2v, h = r + c + r*r*q, for 0 <= x < 300, in as few operations as it takes:
    v is a power of two (the low bits of `shifted` are its exponent as it stands in a float), c what r lacks for the
    digits that ln2 lacks, and the factor 2 is in the constants, where it changes no bit."""
    fmt = exp_format(x.dtype)
    magic = fmt.magic + float((fmt.one >> fmt.mantissa) - 1)
    shifted = fma(x, 2 * LOG2E, magic)
    power = (shifted.bits() << fmt.mantissa).as_float(x.dtype)
    k = shifted - magic
    r = fma(k, fmt.ln2 / 2, -x)
    return power, r, k * (fmt.ln2_rest / 2), even_odd(r, [c * 2.0 ** (n + 1) for n, c in enumerate(fits("EXPM1", r))])


def reduce_exp_pair(x: Expr, lo: Expr | None = None) -> tuple[Expr, Expr, Expr]:
    """Bits of k, and r + c = x + lo - k*ln2 with |c| below the last place of r."""
    fmt = exp_format(x.dtype)
    shifted = fma(x, LOG2E, fmt.magic)
    k = shifted - fmt.magic
    high = fma(k, -fmt.ln2_hi, x)
    low = k * fmt.ln2_lo if lo is None else fma(k, fmt.ln2_lo, -lo)
    r = high - low
    return shifted.bits(), r, (high - r) - low


def exp_tail(r: Expr) -> Expr:
    """(exp(r) - 1 - r) / r**2."""
    return by_fours(r, fits("EXP", r))


def power_of_two(k_bits: Expr, dtype: DType) -> Expr:
    """2**k for a k that gives a normal number; only the low bits of `k_bits` count."""
    fmt = exp_format(dtype)
    return ((k_bits << fmt.mantissa) + fmt.one).as_float(dtype)


def scale(x: Expr, k_bits: Expr) -> Expr:
    """x * 2**k over the whole range of exponents."""
    one, other = _two_powers(k_bits, x.dtype)
    return x * one * other


def _two_powers(k_bits: Expr, dtype: DType) -> tuple[Expr, Expr]:
    half = k_bits >> 1
    return power_of_two(half, dtype), power_of_two(k_bits - half, dtype)


def exp_of_pair(x: Pair) -> tuple[Expr, Expr]:
    """p and bits of k with exp(hi + lo) = p * 2**k; hi is clamped to where that is finite and not zero."""
    fmt = exp_format(x.hi.dtype)
    hi = smaller(larger(x.hi, fmt.lowest), fmt.highest)
    k_bits, r, c = reduce_exp_pair(hi, where(hi == x.hi, x.lo, 0.0))
    return fma(r * r, exp_tail(r), fma(c, r, c)) + r + 1.0, k_bits


def exp_short(x: Expr) -> Expr:
    """exp of a float64 to a little more than float32's digits, clamped to float32's range."""
    fmt = exp_format(x.dtype)
    k_bits, r = reduce_exp(smaller(larger(x, -110.0), 110.0))
    e = fma(r * r, even_odd(r, fits("EXP_SHORT", r)), r) + 1.0
    return (e.bits() + (k_bits << fmt.mantissa)).as_float(x.dtype)


def exp_pair(x: Pair, lowest: float | None = None, highest: float | None = None) -> tuple[Pair, Expr]:
    """exp(hi + lo) = pair * 2**k, the pair good to a few digits more than a float; hi is clamped."""
    fmt = exp_format(x.hi.dtype)
    hi = smaller(larger(x.hi, lowest or fmt.lowest), highest or fmt.highest)
    k_bits, r, c = reduce_exp_pair(hi, where(hi == x.hi, x.lo, 0.0))
    tail = fma(r * r, exp_tail(r), fma(c, r, c))
    s, e = fast_two_sum(r.const(1.0), r)
    return Pair(*fast_two_sum(s, e + tail)), k_bits


@math_function()
def exp(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    if b.width > 1:
        return exp_clamped(x).v
    # One value is waited for: clamping and the second factor would add to the wait. The bits are the same.
    k_bits, r = reduce_exp(x)
    power = power_of_two(k_bits, x.dtype)
    usual = fma(fma(r * r, exp_tail(r), r), power, power)
    return when_any(~(abs(x) < exp_format(x.dtype).plain), usual, lambda: x.call("exp_any")).v


@math_function(outlined=True)
def exp_any(b: ScalarBuilder, v: Val) -> Val:
    return exp_clamped(Expr(b, v)).v


def exp_clamped(x: Expr) -> Expr:
    """exp of any value, without a branch."""
    fmt = exp_format(x.dtype)
    k_bits, r = reduce_exp(smaller(larger(x, fmt.lowest), fmt.highest))
    one, other = _two_powers(k_bits, x.dtype)
    return fma(fma(r * r, exp_tail(r), r), one, one) * other


@math_function()
def exp2(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    x = smaller(larger(x, -1076.0), 1025.0) if x.dtype is f64 else smaller(larger(x, -151.0), 129.0)
    k_bits, k = round_to_bits(x)
    r = x - k
    return scale(fma(r, even_odd(r, fits("EXP2", r)), 1.0), k_bits).v


@math_function()
def expm1(b: ScalarBuilder, v: Val) -> Val:
    # exp(x) - 1 = 2**k * ((1 - 2**-k) + r + tail), where the bracket's first two terms are summed without error
    x = Expr(b, v)
    fmt = exp_format(x.dtype)
    big = x > 50.0
    k_bits, r, c = reduce_exp_pair(smaller(larger(x, -40.0), fmt.highest))
    tail = fma(r * r, exp_tail(r), fma(c, r, c))
    t = 1.0 - where(big, 0.0, power_of_two(k_bits.const(0) - k_bits, x.dtype))
    s, e = fast_two_sum(t, r)
    return scale(s + (e + tail), k_bits).copysign(x).v
