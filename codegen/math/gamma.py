"""gamma, lgamma and digamma for float64; float32 goes through float64.

Three approximations carry them: 1/gamma(x) - 1 over its zeros 1 and 2 on [0.5, 2.5], Stirling's remainder above, and
for digamma one on [1, 2] over its zero and one of the remainder to log(x) above. Negative arguments: gamma by
reflection here; lgamma and digamma, which have zeros there, lane by lane in `gamma_negative.py`.
"""

from __future__ import annotations

import math

from stager.codegen.math.exponential import exp_pair, hexadecimal, scale
from stager.codegen.math.expr import Expr, estrin, fits, fma, horner, when_any, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.logarithm import log_of_pair, log_pair
from stager.codegen.math.split import Pair, fast_two_sum, two_product, two_sum
from stager.codegen.math.trigonometric import TRIG_F64, sin_kernel
from stager.codegen.scalar import ScalarBuilder, Val
from stager.ir.dtypes import f64

NEAR = 2.5
HALF_LOG_TWO_PI = (hexadecimal("0x1.d67f1c864beb5p-1"), hexadecimal("-0x1.65b5a1b7ff5dfp-55"))
DIGAMMA_ROOT_LESS_ONE = (hexadecimal("0x1.d8b618d5af8fep-2"), hexadecimal("-0x1.1e563779a1f5bp-56"))
TINY = 2.0**-60


def _reciprocal_gamma(a: Expr) -> tuple[Expr, Pair]:
    """For 0 <= a < 2.5: whether a < 1/2, and 1/gamma(a), or 1/gamma(a + 1) where that holds."""
    small = a < 0.5
    p, q = where(small, a, a - 1.0), where(small, a - 1.0, a - 2.0)
    w = p * q * horner(q + 0.5, fits("RGAMMA", a))
    return small, Pair(*two_sum(a.const(1.0), w))


def stirling(x: Expr) -> Pair:
    """log gamma(x) for x >= 2.5."""
    log = log_pair(x)
    m, m_low = two_sum(log.hi, x.const(-1.0))
    m_low = m_low + log.lo
    vast = x > 2.0**100
    h = where(vast, 1.0, x - 0.5)
    p, e = two_product(h, m)
    s, e2 = two_sum(p, x.const(HALF_LOG_TWO_PI[0] - 0.5))
    u = 1.0 / x
    rest = fma(u, horner(u * u, fits("STIRLING", x)), HALF_LOG_TWO_PI[1])
    s, e = fast_two_sum(s, (e2 + rest) + fma(h, m_low, e))
    return Pair(where(vast, fma(x, m, x * m_low), s), where(vast, 0.0, e))


def sin_pi(a: Expr) -> Expr:
    """sin(pi*a) for a >= 0."""
    k = a.rint()
    r = a - k
    hi, lo = two_product(r, r.const(TRIG_F64.whole[0]))
    out = sin_kernel(hi, fma(r, TRIG_F64.whole[1], lo))
    half = k * 0.5
    return where(half.floor() == half, out, -out)


@math_function()
def gamma(b: ScalarBuilder, v: Val) -> Val:
    if v.dtype is not f64:
        return b.convert(b.functions.call(b, "gamma", b.convert(v, f64)), v.dtype)
    # reflection: gamma(-a) = -pi / (a * sin(pi*a) * gamma(a)), so both signs need gamma(a) or its reciprocal
    x = Expr(b, v)
    a = abs(x)
    near, negative, tiny = a < NEAR, x < 0.0, a < TINY
    small, reciprocal = _reciprocal_gamma(where(near, a, 1.0))
    log = stirling(where(near, 3.0, a))
    power, k_bits = exp_pair(Pair(where(negative, -log.hi, log.hi), where(negative, -log.lo, log.lo)), -830.0)
    k_bits = where(near, 0, k_bits)
    pi_hi, pi_lo = TRIG_F64.whole[:2]
    above = Pair(where(near, reciprocal.hi, power.hi), where(near, reciprocal.lo, power.lo))
    reflected = above * Pair(x.const(pi_hi), x.const(pi_lo))
    sine = -sin_pi(a)
    below, below_low = two_product(where(small, 1.0, a), sine)  # small: 1/gamma(1 + a) has the factor a already
    factor = Pair(*two_product(where(small, a, 1.0), reciprocal.hi))
    factor = Pair(factor.hi, fma(where(small, a, 1.0), reciprocal.lo, factor.lo))
    n = where(negative, reflected.hi, where(near, 1.0, power.hi))
    n_low = where(negative, reflected.lo, where(near, 0.0, power.lo))
    d = where(negative, below, where(near, factor.hi, 1.0))
    d_low = where(negative, below_low, where(near, factor.lo, 0.0))
    n, n_low = where(tiny, 1.0, n), where(tiny, 0.0, n_low)
    d, d_low = where(tiny, x, d), where(tiny, 0.0, d_low)
    q = n / d
    p, e = two_product(q, d)
    rest = (((n - p) - e) + (n_low - q * d_low)) / d
    out = where(tiny, q, scale(q + rest, k_bits))
    pole = negative & (x.floor() == x)
    out = where(x == math.inf, x, out)
    return where(pole | x.isnan(), math.nan, out).v


@math_function()
def lgamma(b: ScalarBuilder, v: Val) -> Val:
    if v.dtype is not f64:
        return b.convert(b.functions.call(b, "lgamma", b.convert(v, f64)), v.dtype)
    x = Expr(b, v)
    near = x < NEAR
    tiny = x < TINY
    lifted = where(tiny, x * 2.0**200, x)
    small, reciprocal = _reciprocal_gamma(where(near, x, 1.0))
    factor = where(small, lifted, 1.0)
    u, c = two_product(factor, reciprocal.hi)
    c = fma(factor, reciprocal.lo, c)
    log = log_of_pair(u, c, where(tiny, x.const(-200.0), 0.0))
    far = stirling(where(near, 3.0, x)).value()
    out = where(near, 0.0 - log, far)
    out = where((x == 0.0) | (x == math.inf), math.inf, out)
    out = where(x.isnan(), x, out)
    negative = x < 0.0

    def rare() -> Expr:
        lanes = b.map_lanes(lambda s, lane: s.functions.call(s, "lgamma_negative", lane), x.v)
        return where(negative, Expr(b, lanes), out)

    return when_any(negative, out, rare).v


@math_function()
def digamma(b: ScalarBuilder, v: Val) -> Val:
    if v.dtype is not f64:
        return b.convert(b.functions.call(b, "digamma", b.convert(v, f64)), v.dtype)
    x = Expr(b, v)
    far, small = x >= 2.0, x < 1.0
    u = 1.0 / x
    above = fma(u, horner(u, fits("DIGAMMA", x)), x.call("log"))
    y = where(small, x, x - 1.0)
    root_hi, root_lo = DIGAMMA_ROOT_LESS_ONE
    near = ((y - root_hi) - root_lo) * estrin(y - 0.5, fits("DIGAMMA_ROOT", x))
    out = where(far, above, where(small, near - u, near))
    out = where(x == 0.0, -u, out)
    out = where(x.isnan(), x, out)
    negative = x < 0.0

    def rare() -> Expr:
        lanes = b.map_lanes(lambda s, lane: s.functions.call(s, "digamma_negative", lane), x.v)
        return where(negative, Expr(b, lanes), out)

    return when_any(negative, out, rare).v


@math_function()
def i0(b: ScalarBuilder, v: Val) -> Val:
    if v.dtype is not f64:
        return b.convert(b.functions.call(b, "i0", b.convert(v, f64)), v.dtype)
    x = abs(Expr(b, v))
    near = horner(x * x, fits("I0_NEAR", x))
    bounded = where(x > 8.0, x, 8.0)
    u = 1.0 / bounded
    power, k_bits = exp_pair(Pair(x, x.const(0.0)), None, 720.0)
    far = scale(power.hi * (u.sqrt() * horner(u, fits("I0_FAR", x))), k_bits)
    return where(x > 720.0, math.inf, where(x > 8.0, far, near)).v
