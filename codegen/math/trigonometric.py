"""sin and cos: one odd polynomial on [-pi/2, pi/2] after reduction modulo pi in three parts of pi.

cos(x) is sin at an odd multiple of pi/2 away, so both have one kernel. Reduction by parts holds while k*part is exact;
lanes beyond that take the scalar path of `huge_angle.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stager.codegen.math import coefficients
from stager.codegen.math.exponential import format_of
from stager.codegen.math.expr import Expr, estrin, fma, when_any, where
from stager.codegen.math.functions import math_function
from stager.codegen.scalar import ScalarBuilder, Val
from stager.ir.dtypes import f32, f64


@dataclass(frozen=True, slots=True)
class TrigFormat:
    """pi in parts. `whole` parts fill the mantissa (FMA form), `short` parts leave room for k (no-FMA form)."""

    whole: tuple[float, float, float]
    short: tuple[float, ...]
    limit: float  # of |x| for reduction by parts, with FMA
    short_limit: float  # and without


TRIG_F64 = TrigFormat(
    (
        float.fromhex("0x1.921FB54442D18p1"),
        float.fromhex("0x1.1A62633145C07p-53"),
        float.fromhex("-0x1.F1976B7ED8FBCp-109"),
    ),
    (
        float.fromhex("0x1.921FB544p1"),
        float.fromhex("0x1.0B4611A6p-33"),
        float.fromhex("0x1.3198A2E0p-68"),
        float.fromhex("0x1.B839A252049C1p-103"),
    ),
    2.0**30,
    2.0**20,
)
TRIG_F32 = TrigFormat(
    (float.fromhex("0x1.921FB6p1"), float.fromhex("-0x1.777A5Cp-24"), float.fromhex("-0x1.EE59DAp-49")),
    (),
    2.0**17,
    2.0**20,
)


def reduce_pi(a: Expr, odd_half: bool) -> tuple[Expr, Expr, Expr]:
    """Bits whose lowest is the parity of k, and hi, lo with hi + lo = a - k*pi (a - (k + 1/2)*pi if `odd_half`)."""
    b, fmt = a.b, TRIG_F64 if a.dtype is f64 else TRIG_F32
    if a.dtype is f32 and not b.target.has_fma:
        bits, r, _ = reduce_pi(a.to(f64), odd_half)
        hi = r.to(f32)
        return Expr(b, b.convert(bits.v, hi.bits().dtype)), hi, (r - hi.to(f64)).to(f32)
    magic = format_of(a).magic
    shifted = fma(a, 1 / math.pi, a.const(-0.5)) + magic if odd_half else fma(a, 1 / math.pi, magic)
    k = shifted - magic
    if odd_half:
        k = k + 0.5
    if b.target.has_fma:
        p1, p2, p3 = fmt.whole
        r1 = fma(k, -p1, a)  # exact: a multiple of the last place of p1 below 2
        w = k * p2
        r = r1 - w
        lo = ((r1 - r) - w) - fma(k, p2, -w)
        return shifted.bits(), r, fma(k, -p3, lo)
    p1, p2, p3, p4 = fmt.short
    r1 = a - k * p1
    w2, w3 = k * p2, k * p3
    r2 = r1 - w2
    e2 = (r1 - r2) - w2
    r3 = r2 - w3
    e3 = (r2 - r3) - w3
    return shifted.bits(), r3, (e2 + e3) - k * p4


def sin_kernel(r: Expr, lo: Expr) -> Expr:
    """sin(r + lo) for |r| <= pi/2."""
    z = r * r
    return r + fma(r * z, estrin(z, coefficients.SIN_PI_F64 if r.dtype is f64 else coefficients.SIN_PI_F32), lo)


def _sin_or_cos(b: ScalarBuilder, v: Val, cosine: bool) -> Val:
    x = Expr(b, v)
    a = abs(x)
    parity, r, lo = reduce_pi(a, cosine)
    sign = parity << (x.dtype.bits - 1)
    # sin is odd; sin((k + 1/2)*pi + r) is cos(r) with the sign of k, and cos(x) is -sin(r) there
    sign = ~sign if cosine else sign ^ x.bits()
    sign = sign & (1 << (x.dtype.bits - 1))
    usual = (sin_kernel(r, lo).bits() ^ sign).as_float(x.dtype)
    fmt = TRIG_F64 if x.dtype is f64 else TRIG_F32
    huge = a > (fmt.limit if b.target.has_fma else fmt.short_limit)
    name = "cos_huge" if cosine else "sin_huge"

    def rare() -> Expr:
        wide = x.to(f64)
        out = Expr(b, b.map_lanes(lambda s, lane: s.functions.call(s, name, lane), wide.v))
        return where(huge, out.to(x.dtype), usual)

    return when_any(huge, usual, rare).v


@math_function()
def sin(b: ScalarBuilder, v: Val) -> Val:
    return _sin_or_cos(b, v, False)


@math_function()
def cos(b: ScalarBuilder, v: Val) -> Val:
    return _sin_or_cos(b, v, True)
