"""erf, erfc and erfinv.

erf is an odd polynomial below 1 and 1 - exp(-g(x)) above, where g = -log(erfc) is smooth. erfc keeps its relative error
in the tail: exp(-x*x) with the square as a pair, times a polynomial in (x - c)/(x + c) over x + c.
"""

from __future__ import annotations

import math

from stager.codegen.math.exponential import exp_pair, power_of_two, reduce_exp, scale
from stager.codegen.math.expr import Expr, even_odd, fits, fma, horner, smaller, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.split import Pair, fast_two_sum, two_product
from stager.codegen.scalar import ScalarBuilder, Val
from stager.ir.dtypes import f64


@math_function()
def erf(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    a = smaller(abs(x), 5.95 if x.dtype is f64 else 4.0)
    z = x * x
    near = fma(x, even_odd(z, fits("ERF", x)), x)
    g = even_odd(a, fits("ERFC_LOG", x))
    k_bits, r = reduce_exp(-g)
    e = fma(r * r, even_odd(r, fits("EXP_ERF", r)), r) + 1.0  # erfc is below 0.16: a few digits less do
    far = (1.0 - e * power_of_two(k_bits, x.dtype)).copysign(x)
    return where(a < 1.0, near, far).v


@math_function()
def erfc(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    center = 4.0 if x.dtype is f64 else 2.0
    near = (1.0 - x) - x * even_odd(x * x, fits("ERF", x))
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
    middle = a < 0.5
    y = guess
    for _ in range(2):
        residual = where(middle, y.call("erf") - a, (1.0 - a) - y.call("erfc"))
        step = residual * (math.sqrt(math.pi) / 2) * (y * y).call("exp")
        y = y - step / fma(step, y, 1.0)
    y = where(a < 1e-8, a * (math.sqrt(math.pi) / 2), y)
    y = where(a == 1.0, math.inf, y)
    return where(a > 1.0, math.nan, y.copysign(x)).v
