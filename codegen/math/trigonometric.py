"""sin, cos and tan: one odd polynomial on [-pi/2, pi/2] after reduction modulo pi in three parts of pi.

cos(x) is sin at an odd multiple of pi/2 away, so both have one kernel. Reduction by parts holds while k*part is exact;
tan takes sin and cos on [-pi/4, pi/4] as pairs. Lanes beyond that take the scalar path of `huge_angle.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stager.codegen.math.exponential import exp_format
from stager.codegen.math.expr import Expr, even_odd, fits, fma, horner, when_any, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.split import fast_two_sum, two_product, upper_half
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import f32, f64, u32

hexadecimal = float.fromhex


@dataclass(frozen=True, slots=True)
class TrigFormat:
    """pi in parts. `whole` parts fill the mantissa (FMA form), `short` parts leave room for k (no-FMA form)."""

    whole: tuple[float, float, float]
    short: tuple[float, ...]
    limit: float  # of |x| for reduction by parts, with FMA
    short_limit: float  # and without


TRIG_F64 = TrigFormat(
    (hexadecimal("0x1.921FB54442D18p1"), hexadecimal("0x1.1A62633145C07p-53"), hexadecimal("-0x1.F1976B7ED8FBCp-109")),
    (
        hexadecimal("0x1.921FB544p1"),
        hexadecimal("0x1.0B4611A6p-33"),
        hexadecimal("0x1.3198A2E0p-68"),
        hexadecimal("0x1.B839A252049C1p-103"),
    ),
    2.0**30,
    2.0**20,
)
TRIG_F32 = TrigFormat(
    (hexadecimal("0x1.921FB6p1"), hexadecimal("-0x1.777A5Cp-24"), hexadecimal("-0x1.EE59DAp-49")), (), 2.0**17, 2.0**20
)


def reduce_angle(a: Expr, unit: float, shift: float) -> tuple[Expr, Expr, Expr]:
    """Bits whose lowest is the parity of k, and hi, lo with hi + lo = a - (k + shift)*unit*pi (unit 1 or 1/2)."""
    b, fmt = a.b, TRIG_F64 if a.dtype is f64 else TRIG_F32
    if a.dtype is f32 and not b.target.has_fma:
        bits, r, _ = reduce_angle(a.to(f64), unit, shift)
        hi = r.to(f32)
        return bits.to(u32), hi, (r - hi.to(f64)).to(f32)
    magic = exp_format(a.dtype).magic
    per_unit = 1 / (math.pi * unit)
    shifted = fma(a, per_unit, a.const(-shift)) + magic if shift else fma(a, per_unit, magic)
    k = shifted - magic
    if shift:
        k = k + shift
    if b.target.has_fma:
        p1, p2, p3 = (part * unit for part in fmt.whole)
        r1 = fma(k, -p1, a)  # exact: a multiple of the last place of p1 below 2
        w = k * p2
        r = r1 - w
        lo = ((r1 - r) - w) - fma(k, p2, -w)
        return shifted.bits(), r, fma(k, -p3, lo)
    p1, p2, p3, p4 = (part * unit for part in fmt.short)
    r1 = a - k * p1
    w2, w3 = k * p2, k * p3
    r2 = r1 - w2
    e2 = (r1 - r2) - w2
    r3 = r2 - w3
    e3 = (r2 - r3) - w3
    return shifted.bits(), r3, (e2 + e3) - k * p4


def sin_kernel(r: Expr, lo: Expr) -> Expr:
    """sin(r + lo) for |r| <= pi/2. r**3 is taken as a pair: its share of the sum is too large for three roundings."""
    z = r * r
    lo = fma(lo * z, -4 / math.pi**2, lo)  # times cos(r), to a twentieth
    c0, *rest = fits("SIN_PI", r)
    p = fma(z, even_odd(z, rest), c0)
    if r.b.target.has_fma:
        cube = r * z
        cube_low = fma(r, fma(r, r, -z), fma(r, z, -cube))
        return r + fma(cube, p, fma(cube_low, p, lo))
    upper = upper_half(r)
    z_upper = upper_half(z)
    z_low = (upper * upper - z_upper) + (r - upper) * (r + upper)
    return r + (upper * z_upper * p + (((r - upper) * z_upper + r * z_low) * p + lo))


def tan_kernel(r: Expr, lo: Expr, inverted: Expr) -> Expr:
    """tan(r + lo), or -1/tan(r + lo) where `inverted`, for |r| <= pi/4: sin and cos as pairs, one division."""
    z = r * r
    s, s_low = fast_two_sum(r, fma(r * z, horner(z, fits("SIN", r)), lo))
    half = z * 0.5
    c = 1.0 - half
    c, c_low = fast_two_sum(c, ((1.0 - c) - half) + fma(z * z, horner(z, fits("COS", r)), -(r * lo)))
    n, n_low = where(inverted, -c, s), where(inverted, -c_low, s_low)
    d, d_low = where(inverted, s, c), where(inverted, s_low, c_low)
    inverse = 1.0 / d
    q = n * inverse
    p, e = two_product(q, d)
    return fma((((n - p) - e) + n_low) - q * d_low, inverse, q)


def _beyond(x: Expr, usual: Expr, name: str) -> Expr:
    """`usual`, with the lanes beyond the reduction's reach taken from the scalar function `name` of float64."""
    b, fmt = x.b, TRIG_F64 if x.dtype is f64 else TRIG_F32
    huge = abs(x) > (fmt.limit if b.target.has_fma else fmt.short_limit)

    def rare() -> Expr:
        lanes = b.map_lanes(lambda s, lane: s.functions.call(s, name, lane), x.to(f64).v)
        return where(huge, Expr(b, lanes).to(x.dtype), usual)

    return when_any(huge, usual, rare)


def sign_bit(x: Expr) -> Expr:
    return x.bits() & (1 << (x.dtype.bits - 1))


@math_function()
def sin(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    parity, r, lo = reduce_angle(abs(x), 1.0, 0.0)
    sign = (parity << (x.dtype.bits - 1)) ^ sign_bit(x)
    return _beyond(x, (sin_kernel(r, lo).bits() ^ sign).as_float(x.dtype), "sin_huge").v


@math_function()
def cos(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    parity, r, lo = reduce_angle(abs(x), 1.0, 0.5)  # cos((k + 1/2)*pi + r) is -sin(r), with the sign of k
    sign = (~parity) << (x.dtype.bits - 1)
    return _beyond(x, (sin_kernel(r, lo).bits() ^ sign).as_float(x.dtype), "cos_huge").v


@math_function()
def tan(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    parity, r, lo = reduce_angle(abs(x), 0.5, 0.0)
    out = tan_kernel(r, lo, (parity & 1) != 0)
    return _beyond(x, (out.bits() ^ sign_bit(x)).as_float(x.dtype), "tan_huge").v


@math_function()
def sinc(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    y = x * math.pi
    return where(x == 0.0, 1.0, y.call("sin") / y).v
