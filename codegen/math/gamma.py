"""gamma, lgamma and digamma for float64; float32 goes through float64.

Three approximations carry them: 1/gamma(x) - 1 over its zeros 1 and 2 on [0.5, 2.5], Stirling's remainder above, and
for digamma one on [1, 2] over its zero and one of the remainder to log(x) above. Negative arguments: gamma by
reflection here; lgamma and digamma too, but next to their zeros lane by lane in `gamma_negative.py`.
"""

from __future__ import annotations

import math

from stager.codegen.math.exponential import exp_pair, exp_short, hexadecimal, scale
from stager.codegen.math.expr import Expr, even_odd, fits, fma, horner, larger, smaller, when_any, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.logarithm import log_of_pair, log_pair, log_short
from stager.codegen.math.split import Pair, fast_two_sum, two_product, two_sum
from stager.codegen.math.trigonometric import TRIG_F64, sin_kernel, tan_kernel
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import f64

NEAR = 2.5
HALF_LOG_TWO_PI = (hexadecimal("0x1.d67f1c864beb5p-1"), hexadecimal("-0x1.65b5a1b7ff5dfp-55"))
DIGAMMA_ROOT_LESS_ONE = (hexadecimal("0x1.d8b618d5af8fep-2"), hexadecimal("-0x1.1e563779a1f5bp-56"))
TINY = 2.0**-60


def _reciprocal_gamma(a: Expr, name: str = "RGAMMA") -> tuple[Expr, Pair]:
    """For 0 <= a < 2.5: whether a < 1/2, and 1/gamma(a), or 1/gamma(a + 1) where that holds."""
    small = a < 0.5
    p, q = where(small, a, a - 1.0), where(small, a - 1.0, a - 2.0)
    w = p * q * horner(q + 0.5, fits(name, a))
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


def _lane_by_lane(unsure: Expr, usual: Expr, name: str, x: Expr) -> Expr:
    """`usual`, with the lanes of `unsure` taken from the scalar function `name`."""

    def lane(b: ScalarBuilder, mask: Val, value: Val, at: Val) -> Val:
        return when_any(Expr(b, mask), Expr(b, value), lambda: Expr(b, at).call(name)).v

    b = x.b
    return when_any(unsure, usual, lambda: Expr(b, b.map_lanes(lane, unsure.v, usual.v, x.v)))


# -- float32: the same in float64 with shorter polynomials and no pairs -------------------------------------------


def _stirling_short(a: Expr, log: Expr) -> Expr:
    u = 1.0 / a
    rest = fma(u, horner(u * u, fits("STIRLING_SHORT", a)), HALF_LOG_TWO_PI[0] - 0.5)
    return fma(a - 0.5, log - 1.0, rest)


def gamma_short(single: Expr) -> Expr:
    """gamma of a float32."""
    x = single.to(f64)
    a = abs(x)
    near, negative = a < NEAR, x < 0.0
    small, reciprocal = _reciprocal_gamma(where(near, a, 1.0), "RGAMMA_SHORT")
    log = _stirling_short(where(near, 3.0, a), log_short(where(near, 3.0, a)))
    near_value = 1.0 / (where(small, a, 1.0) * reciprocal.hi)
    out = where(near, near_value, exp_short(log))

    def reflected() -> Expr:
        inverse = where(near, where(small, a, 1.0) * reciprocal.hi, exp_short(-log))
        reflection = inverse * math.pi / -(a * sin_pi(a))
        reflection = where(a < TINY, 1.0 / x, where(a.floor() == a, math.nan, reflection))
        return where(negative, reflection, out)

    out = when_any(negative, out, reflected)
    out = where(a == 0.0, math.inf, out).copysign(where(a == 0.0, x, out))
    return where(x == math.inf, x, where(x.isnan(), x, out)).to(single.dtype)


def lgamma_short(single: Expr) -> Expr:
    """lgamma of a float32."""
    x = single.to(f64)
    a = abs(x)
    near = a < NEAR
    small, reciprocal = _reciprocal_gamma(where(near, a, 1.0), "RGAMMA_SHORT")
    argument = where(near, where(small, a, 1.0) * reciprocal.hi, a)
    log = log_short(argument)
    out = where(near, 0.0 - log, _stirling_short(a, log))
    out = where((a == 0.0) | (a == math.inf), math.inf, out)
    out = where(x.isnan(), x, out)
    return _lane_by_lane(x < 0.0, out, "lgamma_scalar", x).to(single.dtype)


def digamma_short(single: Expr) -> Expr:
    """digamma of a float32."""
    x = single.to(f64)
    u = 1.0 / x
    above = fma(u, horner(u, fits("DIGAMMA_SHORT", x)), log_short(x))
    small = x < 1.0
    y = where(small, x, x - 1.0)
    root_hi, root_lo = DIGAMMA_ROOT_LESS_ONE
    near = ((y - root_hi) - root_lo) * even_odd(y - 0.5, fits("DIGAMMA_ROOT_SHORT", x))
    out = where(x >= 2.0, above, where(small, near - u, near))
    out = where(x == 0.0, -u, where(x < math.inf, out, x))
    return _lane_by_lane(x < 0.0, out, "digamma_scalar", x).to(single.dtype)


@math_function(cold=True)
def lgamma_scalar(b: ScalarBuilder, v: Val) -> Val:
    return lgamma(b, v)


@math_function(cold=True)
def digamma_scalar(b: ScalarBuilder, v: Val) -> Val:
    return digamma(b, v)


# -- float64 ---------------------------------------------------------------------------------------------------------


@math_function()
def gamma(b: ScalarBuilder, v: Val) -> Val:
    if v.dtype is not f64:
        return gamma_short(Expr(b, v)).v
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


def _log_gamma(a: Expr) -> Expr:
    """log gamma(a) for a >= 0."""
    near, tiny = a < NEAR, a < TINY
    lifted = where(tiny, a * 2.0**200, a)
    small, reciprocal = _reciprocal_gamma(where(near, a, 1.0))
    factor = where(small, lifted, 1.0)
    u, c = two_product(factor, reciprocal.hi)
    c = fma(factor, reciprocal.lo, c)
    log = log_of_pair(u, c, where(tiny, a.const(-200.0), 0.0))
    out = where(near, 0.0 - log, stirling(where(near, 3.0, a)).value())
    return where((a == 0.0) | (a == math.inf), math.inf, out)


@math_function()
def lgamma(b: ScalarBuilder, v: Val) -> Val:
    if v.dtype is not f64:
        return lgamma_short(Expr(b, v)).v
    x = Expr(b, v)
    a = abs(x)
    out = _log_gamma(a)
    negative = x < 0.0

    def reflected() -> Expr:
        # log(pi/(a*sin(pi*a))) - lgamma(a); where that cancels, or is small altogether, in pairs
        other = (math.pi / (a * abs(sin_pi(a)))).call("log")
        reflection = other - out
        size = where(abs(other) > abs(out), abs(other), abs(out)) * 0.5
        unsure = abs(reflection) < where(size < 0.75, 0.75, size)
        simple = (a < TINY) | (a.floor() == a)
        reflection = where(simple, where(a < TINY, out, math.inf), reflection)
        unsure = unsure & negative & ~simple
        return _lane_by_lane(unsure, where(negative, reflection, out), "lgamma_negative", x)

    return where(x.isnan(), x, when_any(negative, out, reflected)).v


def _pi_over_tan_pi(a: Expr) -> Expr:
    """pi/tan(pi*a); infinite at integers."""
    r = a - a.rint()
    low = abs(r) <= 0.25
    hi, lo = two_product(where(low, abs(r), 0.5 - abs(r)), a.const(TRIG_F64.whole[0]))
    t = tan_kernel(hi, fma(hi, TRIG_F64.whole[1] / TRIG_F64.whole[0], lo), low)
    t = where(low, -t, t) * math.pi
    return where(r < 0.0, -t, t)


@math_function()
def digamma(b: ScalarBuilder, v: Val) -> Val:
    if v.dtype is not f64:
        return digamma_short(Expr(b, v)).v
    x = Expr(b, v)
    a = abs(x)
    u = 1.0 / a
    above = fma(u, horner(u, fits("DIGAMMA", x)), a.call("log"))
    small = a < 1.0
    y = where(small, a, a - 1.0)
    root_hi, root_lo = DIGAMMA_ROOT_LESS_ONE
    near = ((y - root_hi) - root_lo) * even_odd(y - 0.5, fits("DIGAMMA_ROOT", x))
    out = where(a >= 2.0, above, where(small, near - u, near))
    out = where(x == 0.0, -u.copysign(x), out)
    out = where(x.isnan(), x, out)
    negative = x < 0.0

    def reflected() -> Expr:
        # digamma(a) + 1/a + pi/tan(pi*a); where that cancels in pairs
        tangent = _pi_over_tan_pi(a)
        plain = where(small, near, out + u)
        reflection = plain + tangent
        size = where(abs(plain) > abs(tangent), abs(plain), abs(tangent))
        tiny = a < TINY
        reflection = where(tiny, u, where(a.floor() == a, math.nan, reflection))
        unsure = negative & (abs(reflection) < size * 0.75) & ~tiny
        return _lane_by_lane(unsure, where(negative, reflection, out), "digamma_negative", x)

    return when_any(negative, out, reflected).v


@math_function()
def i0(b: ScalarBuilder, v: Val) -> Val:
    if v.dtype is not f64:
        return b.convert(b.functions.call(b, "i0", b.convert(v, f64)), v.dtype)
    # x I1/I0 is up to x: the rounding of x*x would count several times, and so would that of 1/x beyond
    x = abs(Expr(b, v))
    near = _horner_pair(Pair(*two_product(smaller(x, 10.0), smaller(x, 10.0))), fits("I0_NEAR", x))
    bounded = larger(x, 10.0)
    u = 1.0 / bounded
    first, lost, *rest = fits("I0_FAR", x)
    hi, lo = fast_two_sum(x.const(first), u * horner(u, rest))
    power, k_bits = exp_pair(Pair(bounded, x.const(0.0)), None, 720.0)
    root = bounded.sqrt()
    square, error = two_product(root, root)
    far = power * Pair(hi, lo + lost) / Pair(root, ((bounded - square) - error) * (0.5 * u * root))
    return where(x > 720.0, math.inf, where(x > 10.0, scale(far.value(), k_bits), near)).v


def _horner_pair(z: Pair, coefficients: list[float]) -> Expr:
    """A polynomial at hi + lo, rounding little more than once."""
    out, low = z.hi.const(coefficients[-1]), z.hi.const(0.0)
    for c in reversed(coefficients[:-1]):
        product, error = two_product(out, z.hi)
        low = fma(low, z.hi, fma(out, z.lo, error))
        out, error = two_sum(product, z.hi.const(c))
        low = low + error
    return out + low
