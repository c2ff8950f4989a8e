"""pow: exp(y * log|x|) with the logarithm and the product in pairs, then the special cases of C's pow.

float32 goes through float64, whose plain exp and log are more exact than float32 pairs and no slower.
"""

from __future__ import annotations

import math

from stager.codegen.math.exponential import exp_of_pair, exp_short, power_of_two, round_to_bits, scale
from stager.codegen.math.expr import Expr, fits, fma, horner, larger, smaller, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.logarithm import log_format, log_pair, log_short, split_exponent
from stager.codegen.math.split import Pair, two_product
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import f32, f64


def _power_of_magnitude(a: Expr, y: Expr) -> Expr:
    """a**y for positive finite a."""
    y = smaller(larger(y, -(2.0**80)), 2.0**80)  # any larger exponent gives 0, 1 or inf as well
    if a.dtype is f32:
        wide = a.to(f64)
        return exp_short(y.to(f64) * log_short(wide)).to(f32)
    log = log_pair(a)
    hi, lo = two_product(log.hi, y)
    p, k_bits = exp_of_pair(Pair(hi, fma(log.lo, y, lo)))
    return scale(p, k_bits)


@math_function()
def pow(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    x, y = Expr(b, xv), Expr(b, yv)
    a = abs(x)
    out = _power_of_magnitude(a, y)
    down = y < 0.0
    out = where(a == 0.0, where(down, y.const(math.inf), 0.0), out)
    out = where(a == math.inf, where(down, y.const(0.0), math.inf), out)
    whole = y.floor() == y
    half = y * 0.5
    odd = whole & (half.floor() != half)
    negative = x.bits() >> (x.dtype.bits - 1) != 0
    out = where(negative & odd, -out, out)
    out = where((x < 0.0) & ~whole & (a < math.inf), math.nan, out)
    out = where(x.isnan() | y.isnan(), x + y, out)
    return where((x == 1.0) | (y == 0.0), 1.0, out).v


@math_function()
def hypot(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    x, y = abs(Expr(b, xv)), abs(Expr(b, yv))
    if x.dtype is f32:
        wide, other = x.to(f64), y.to(f64)
        out = fma(wide, wide, other * other).sqrt().to(f32)
    else:
        a, c = where(x > y, x, y), where(x > y, y, x)
        big, small = a > 2.0**500, a < 2.0**-500
        up = where(big, a.const(2.0**-600), where(small, a.const(2.0**600), 1.0))
        back = where(big, a.const(2.0**600), where(small, a.const(2.0**-600), 1.0))
        a, c = a * up, c * up
        square, e = two_product(a, a)
        other, e2 = two_product(c, c)
        out = (square + (other + (e + e2))).sqrt() * back
    out = where((x == math.inf) | (y == math.inf), math.inf, out)
    return where((x.isnan() | y.isnan()) & ~((x == math.inf) | (y == math.inf)), math.nan, out).v


@math_function()
def cbrt(b: ScalarBuilder, xv: Val) -> Val:
    # a = 2**(3q + r) * m: y near (2**r * m)**(-1/3) from a polynomial, refined; then v*y*y with one exact residual
    x = Expr(b, xv)
    wide = x.dtype is f64
    fmt = log_format(x)
    a = abs(x)
    small = a < fmt.tiny
    _, k, m = split_exponent(where(small, a * (2.0**54 if wide else 2.0**24), a))
    q = ((k + 0.5) * (1.0 / 3.0)).floor()
    r = k - q * 3.0
    one, two = r == 0.0, r == 2.0
    v = m * where(one, x.const(1.0), where(two, x.const(4.0), 2.0))
    y = horner(m, fits("CBRT", x)) * where(one, x.const(1.0), where(two, x.const(2.0 ** (-2 / 3)), 2.0 ** (-1 / 3)))
    if wide:
        h = fma(v * y, -(y * y), 1.0)
        y = fma(y * h, fma(h, 2.0 / 9.0, 1.0 / 3.0), y)
    square = y * y
    c = v * square
    p, e = two_product(c, c)
    cube, e2 = two_product(p, c)
    rest = (v - cube) - fma(e, c, e2)
    c = fma(rest * square, 1.0 / 3.0, c)
    k_bits, _ = round_to_bits(q - where(small, x.const(18.0 if wide else 8.0), 0.0))
    out = c * power_of_two(k_bits, x.dtype)
    return where((x == 0.0) | ~(a < math.inf), x, out.copysign(x)).v
