"""erf, erfc and erfinv.

erf is an odd polynomial below 1.5 and 1 - 1/P(x)**16 above. erfc keeps its relative error
in the tail: exp(-x*x) with the square as a pair, times a polynomial in (x - c)/(x + c) over x + c.
"""

from __future__ import annotations

import math

from stager.codegen.math.exponential import exp_pair, scale
from stager.codegen.math.expr import Expr, even_odd, fits, fma, horner, smaller, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.split import Pair, fast_two_sum, two_product
from stager.codegen.math.trigonometric import sign_bit
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import f64


def _erf_tail(x: Expr) -> Expr:
    """erf(x)/x - 1 for |x| <= 1.5: a polynomial in x*x about a middle value, where its terms do not cancel."""
    return even_odd(fma(x, x, x.const(-1.25 if x.dtype is f64 else -1.0)), fits("ERF", x))


@math_function()
def erf(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    a = smaller(abs(x), 5.95 if x.dtype is f64 else 3.95)
    p = even_odd(a, fits("ERFC_ROOT", x))
    for _ in range(4):
        p = p * p
    out = where(a < 1.5, fma(a, _erf_tail(a), a), 1.0 - 1.0 / p)
    return (out.bits() | sign_bit(x)).as_float(x.dtype).v


@math_function()
def erfc(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    center = 4.0 if x.dtype is f64 else 2.0
    near = (1.0 - x) - x * _erf_tail(x)
    a = smaller(abs(x), 28.0 if x.dtype is f64 else 11.0)
    square, square_low = two_product(a, a)
    e, k_bits = exp_pair(Pair(-square, -square_low))
    d, d_low = a + center, a - ((a + center) - center)
    u = 1.0 / d
    p, rest = two_product(u, d)
    u_low = (((1.0 - p) - rest) - u * d_low) * u
    t = fma(u, -2.0 * center, 1.0) - u_low * (2.0 * center)
    c0, c1, *more = fits("ERFC", x)
    h = Pair(*fast_two_sum(x.const(c0), fma(t, horner(t, more), c1)))
    out = e * Pair(u, u_low) * h
    tail = scale(out.hi, k_bits)
    far = where(x < 0.0, 2.0 - tail, tail)
    return where(abs(x) < 0.5, near, where(x.isnan(), x, far)).v


@math_function()
def erfinv(b: ScalarBuilder, v: Val) -> Val:
    # a first guess from y = -log(1 - x*x), then two Newton steps on erfc (tail) or erf (middle)
    x = Expr(b, v)
    a = abs(x)
    w = -((1.0 - a) * (1.0 + a)).call("log")
    c = 2.0 / (math.pi * 0.147)
    h = c - w * 0.5
    guess = ((h * h + w * (1.0 / 0.147)).sqrt() - h).sqrt()
    middle = a < 0.53  # erf(0.5): below, erfc is made from erf and no better
    y = guess
    for _ in range(2):
        residual = where(middle, y.call("erf") - a, (1.0 - a) - y.call("erfc"))
        step = residual * (math.sqrt(math.pi) / 2) * (y * y).call("exp")
        y = y - step / fma(step, y, 1.0)
    y = where(a < 1e-8, a * (math.sqrt(math.pi) / 2), y)
    y = where(a == 1.0, math.inf, y)
    return where(a > 1.0, math.nan, y.copysign(x)).v
