"""asin, acos, atan and atan2: odd polynomials near 0, the rest by half-angle identities with pi in two parts."""

from __future__ import annotations

import math

from stager.codegen.math.expr import Expr, even_odd, fits, fma, smaller, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.split import fast_two_sum, two_product
from stager.codegen.math.trigonometric import TRIG_F32, TRIG_F64, sign_bit
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import f64


def _pi(x: Expr, factor: float) -> tuple[float, float]:
    parts = (TRIG_F64 if x.dtype is f64 else TRIG_F32).whole
    return parts[0] * factor, parts[1] * factor


def _half_angle(a: Expr) -> tuple[Expr, Expr, Expr]:
    """Whether |x| >= 1/2, the r that stands for x (there sqrt((1 - a)/2)), and asin(r) - r."""
    big = a > 0.5
    z = where(big, (1.0 - a) * 0.5, a * a)
    r = where(big, z.sqrt(), a)
    return big, r, r * z * even_odd(z, fits("ASIN", a))


@math_function()
def asin(b: ScalarBuilder, v: Val) -> Val:
    # asin(a) = pi/2 - 2*asin(sqrt((1 - a)/2))
    x = Expr(b, v)
    big, r, rest = _half_angle(abs(x))
    hi, lo = _pi(x, 0.5)
    s, e = fast_two_sum(x.const(hi), -(r + r))
    out = where(big, s + (e + (lo - (rest + rest))), r + rest)
    return out.copysign(x).v


@math_function()
def acos(b: ScalarBuilder, v: Val) -> Val:
    # acos(x) = pi/2 - asin(x) near 0, 2*asin(sqrt((1 - x)/2)) above, pi less that of -x below
    x = Expr(b, v)
    big, r, rest = _half_angle(abs(x))
    sign = sign_bit(x)
    below = sign != 0
    signed, signed_rest = ((e.bits() ^ sign).as_float(x.dtype) for e in (r, rest))
    hi, lo = _pi(x, 0.5)
    s, e = fast_two_sum(x.const(hi), -signed)
    near = s + (e + (lo - signed_rest))
    # 2r + 2rest, or pi - 2r - 2rest
    base, base_low = where(below, x.const(2 * hi), 0.0), where(below, x.const(2 * lo), 0.0)
    s, e = fast_two_sum(base, where(below, -(r + r), r + r))
    far = s + (e + (base_low + where(below, -(rest + rest), rest + rest)))
    return where(big, far, near).v


def _atan_of_ratio(n: Expr, d: Expr) -> tuple[Expr, Expr]:
    """atan(n/d) for 0 <= n <= d, d normal and finite, as a rounded sum and what was lost."""
    turn = n > d * 0.41421356237309503
    total, total_low = fast_two_sum(d, n)
    top, top_low = fast_two_sum(d, -n)
    n, n_low = where(turn, -top, n), where(turn, -top_low, 0.0)
    d, d_low = where(turn, total, d), where(turn, total_low, 0.0)
    inverse = 1.0 / d
    q = n * inverse
    p, e = two_product(q, d)
    q_low = ((((n - p) - e) + n_low) - q * d_low) * inverse
    z = q * q
    rest = fma(q * z, even_odd(z, fits("ATAN", q)), q_low)
    hi, lo = _pi(q, 0.25)
    s, e = fast_two_sum(where(turn, q.const(hi), 0.0), q)
    return fast_two_sum(s, e + (rest + where(turn, q.const(lo), 0.0)))


def _complement(base: tuple[float, float], hi: Expr, lo: Expr) -> tuple[Expr, Expr]:
    s, e = fast_two_sum(hi.const(base[0]), -hi)
    return s, e + (base[1] - lo)


@math_function()
def atan(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    a = smaller(abs(x), 2.0**60)
    steep = a > 1.0
    hi, lo = _atan_of_ratio(where(steep, 1.0, a), where(steep, a, 1.0))
    s, t = _complement(_pi(x, 0.5), hi, lo)
    return where(steep, s + t, hi).copysign(x).v


@math_function()
def atan2(b: ScalarBuilder, yv: Val, xv: Val) -> Val:
    y, x = Expr(b, yv), Expr(b, xv)
    high, low = abs(y), abs(x)
    steep = high > low
    n, d = where(steep, low, high), where(steep, high, low)
    infinite = d == math.inf
    n = where(infinite, where(n == math.inf, n.const(1.0), 0.0), n)
    d = where(infinite | (d == 0.0), 1.0, d)
    wide = x.dtype is f64
    # both are scaled so that no product of the division's residual overflows or is subnormal
    big, down, up = (2.0**400, 2.0**-300, 2.0**500) if wide else (2.0**40, 2.0**-40, 2.0**60)
    factor = where(d > big, d.const(down), up)
    hi, lo = _atan_of_ratio(n * factor, d * factor)
    s, t = _complement(_pi(x, 0.5), hi, lo)
    hi, lo = where(steep, s, hi), where(steep, t, lo)
    s, t = _complement(_pi(x, 1.0), hi, lo)
    left = sign_bit(x) != 0
    out = where(left, s + t, hi + where(steep, lo, 0.0)).copysign(y)
    return where(x.isnan() | y.isnan(), x + y, out).v
