"""sinh, cosh, tanh and their inverses.

sinh and cosh split exp(r) into its even and odd part, so exp(x) and exp(-x) come from one polynomial and sinh loses
nothing near 0. The inverses are logarithms whose argument is a pair.
"""

from __future__ import annotations

import math

from stager.codegen.math.exponential import power_of_two, reduce_exp_pair, reduce_half_exp
from stager.codegen.math.expr import Expr, fits, fma, horner, smaller, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.logarithm import log_format, log_of_pair
from stager.codegen.math.split import Pair, fast_two_sum, two_product, two_sum
from stager.codegen.math.trigonometric import sign_bit
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import f32, f64


@math_function()
def tanh(b: ScalarBuilder, v: Val) -> Val:
    # exp(-2|x|) = (1 + 2h)/2v with v a power of two: tanh is ((v - 0.5) - h)/((v + 0.5) + h)
    x = Expr(b, v)
    power, r, c, tail = reduce_half_exp(smaller(abs(x), 22.0 if x.dtype is f64 else 10.0))
    if x.dtype is f32 and b.target.has_fma:  # 1.95 units of error at most, by trying all numbers; elsewhere beyond 2
        half = fma(r * r, tail, r)
        out = ((power - 0.5) - half) / ((power + 0.5) + half)
    else:  # h is added in the order of its parts, the first without error
        rest = fma(r * r, tail, c)
        high, low = power + 0.5, power - 0.5
        far, near = high + r, low - r
        out = (near + (((low - near) - r) - rest)) / (far + (((high - far) + r) + rest))
    return (out.bits() | sign_bit(x)).as_float(x.dtype).v


def _even_and_odd(a: Expr) -> tuple[Expr, Expr, Expr, Expr, Expr]:
    """For a >= 0: 2**(k-1) + 2**(-k-1), their difference, cosh(r) - 1, sinh(r), and a factor (large a: 4)."""
    big = a > (700.0 if a.dtype is f64 else 85.0)
    k_bits, r, c = reduce_exp_pair(smaller(a, 711.0 if a.dtype is f64 else 90.0))
    z = r * r
    even = fma(z * z, horner(z, fits("COSH", r)), fma(z, 0.5, r * c))
    odd = fma(r * z, horner(z, fits("SINH", r)), c) + r
    up = power_of_two(k_bits - where(big, k_bits.const(3), 1), a.dtype)
    down = where(big, 0.0, power_of_two(k_bits.const(-1) - k_bits, a.dtype))
    return up + down, up - down, even, odd, where(big, a.const(4.0), 1.0)


@math_function()
def sinh(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    total, gap, even, odd, last = _even_and_odd(abs(x))
    out = gap + fma(gap, even, total * odd)
    return (out * last).copysign(x).v


@math_function()
def cosh(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    total, gap, even, odd, last = _even_and_odd(abs(x))
    return ((total + fma(total, even, gap * odd)) * last).v


def _root(square: Pair) -> Pair:
    """The square root of a pair."""
    s = square.hi.sqrt()
    p, e = two_product(s, s)
    rest = (((square.hi - p) - e) + square.lo) / (s + s)
    return Pair(s, where(s == 0.0, 0.0, rest))


@math_function()
def asinh(b: ScalarBuilder, v: Val) -> Val:
    # log(1 + (a + (sqrt(1 + a*a) - 1))); for vast a log(2a)
    x = Expr(b, v)
    a = abs(x)
    vast = a > log_format(x).vast
    a = where(vast, 0.0, a)
    p, e = two_product(a, a)
    one, rest = two_sum(p, a.const(1.0))
    root = _root(Pair(one, rest + e))
    # the sum is taken from the large end: 1 + q is the root itself
    u, c = two_sum(root.hi, a)
    u = where(vast, abs(x), u)
    out = log_of_pair(u, where(vast, 0.0, c + root.lo), where(vast, u.const(1.0), 0.0))
    out = where(abs(x) < math.inf, out, abs(x))
    tiny = abs(x) < (2.0**-28 if x.dtype is f64 else 2.0**-13)
    return where(tiny, x, out.copysign(x)).v


@math_function()
def acosh(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    vast = x > log_format(x).vast
    a = where(vast, 1.0, x)
    p, e = two_product(a, a)
    square, rest = two_sum(p, a.const(-1.0))
    root = _root(Pair(*fast_two_sum(square, rest + e)))
    u, c = two_sum(a, root.hi)
    u = where(vast, x, u)
    out = log_of_pair(u, where(vast, 0.0, c + root.lo), where(vast, u.const(1.0), 0.0))
    out = where(x < math.inf, out, x)
    return where(x < 1.0, math.nan, out).v


@math_function()
def atanh(b: ScalarBuilder, v: Val) -> Val:
    # log((1 + a)/(1 - a))/2, the quotient as 1 + 2a/(1 - a)
    x = Expr(b, v)
    a = abs(x)
    d, d_low = fast_two_sum(a.const(1.0), -a)
    inverse = 1.0 / d
    n = a + a
    q = n * inverse
    p, e = two_product(q, d)
    q_low = (((n - p) - e) - q * d_low) * inverse
    u, c = two_sum(q, a.const(1.0))
    out = log_of_pair(u, c + q_low) * 0.5
    out = where(a < 1.0, out, where(a == 1.0, x.const(math.inf), math.nan))
    tiny = a < (2.0**-28 if x.dtype is f64 else 2.0**-13)
    return where(tiny, x, out.copysign(x)).v
