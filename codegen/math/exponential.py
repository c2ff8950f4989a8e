"""exp and its relatives: x = k*ln2 + r, a polynomial on |r| <= ln2/2, and 2**k built from bits.

The integer k is read from the low mantissa bits of a float to which 1.5*2**p was added, which needs no float-to-int
cast (no vector form before AVX-512). Scaling is done in two factors, so subnormal results are rounded once and nothing
overflows early.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stager.codegen.math import coefficients
from stager.codegen.math.expr import Expr, estrin, fma, larger, smaller
from stager.codegen.math.functions import math_function
from stager.codegen.scalar import ScalarBuilder, Val
from stager.ir.dtypes import f64


@dataclass(frozen=True, slots=True)
class Format:
    """The numbers of a float format that the reductions use."""

    magic: float  # 1.5 * 2**p: adding it rounds to an integer that stands in the low bits
    mantissa: int
    one: int  # the bits of 1.0
    ln2_hi: float  # ends in zeros, so that k*ln2_hi is exact
    ln2_lo: float
    lowest: float  # exp of anything below is 0
    highest: float  # exp of anything above is inf


F64 = Format(
    6755399441055744.0,
    52,
    1023 << 52,
    float.fromhex("0x1.62E42FEE00000p-1"),
    float.fromhex("0x1.A39EF35793C76p-33"),
    -746.0,
    710.0,
)
F32 = Format(12582912.0, 23, 127 << 23, float.fromhex("0x1.62E4p-1"), float.fromhex("0x1.7F7D1Cp-20"), -104.0, 89.0)
LOG2E = 1.4426950408889634


def format_of(x: Expr) -> Format:
    return F64 if x.dtype is f64 else F32


def split_exp(x: Expr) -> tuple[Expr, Expr, Expr]:
    """Bits whose low part is k, k as a float, and r = x - k*ln2."""
    fmt = format_of(x)
    shifted = fma(x, LOG2E, fmt.magic)
    k = shifted - fmt.magic
    r = fma(k, -fmt.ln2_lo, fma(k, -fmt.ln2_hi, x))
    return shifted.bits(), k, r


def exp_tail(r: Expr) -> Expr:
    """(exp(r) - 1 - r) / r**2."""
    return estrin(r, coefficients.EXP_F64 if r.dtype is f64 else coefficients.EXP_F32)


def power_of_two(k_bits: Expr, like: Any) -> Expr:
    """2**k for a k that gives a normal number; only the low bits of `k_bits` count."""
    fmt = F64 if like is f64 else F32
    return ((k_bits << fmt.mantissa) + fmt.one).as_float(like)


def scale(x: Expr, k_bits: Expr) -> Expr:
    """x * 2**k over the whole range of exponents."""
    half = k_bits >> 1
    return x * power_of_two(half, x.dtype) * power_of_two(k_bits - half, x.dtype)


@math_function()
def exp(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    fmt = format_of(x)
    x = smaller(larger(x, fmt.lowest), fmt.highest)
    k_bits, _, r = split_exp(x)
    return scale(fma(r * r, exp_tail(r), r) + 1.0, k_bits).v
