"""Scalar functions that no dialect offers, composed of those that one does. `b` is a `Scalars` builder.

Integers: gcd, lcm, powers. Floats: NumPy's floor division, frexp, log-add-exp, and in double precision digamma,
polygamma (recurrence upwards, then the asymptotic series) and erfinv (Newton and Halley steps on erf).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from stager.ir.dtypes import DType, dtype_named, f64, i32
from stager.ir.mlir.writer import Scalar, element

if TYPE_CHECKING:
    from stager.ir.mlir.scalars import Scalars


def integer_of(dtype: DType) -> DType:
    """The signed integer as wide as a float."""
    return dtype_named(f"i{dtype.bits}")


def _while(
    b: Scalars, carries: list[Scalar], cond: Callable[..., Scalar], body: Callable[..., list[Scalar]]
) -> list[Scalar]:
    def named(names: list[str]) -> list[Scalar]:
        return [Scalar(n, c.dtype) for n, c in zip(names, carries, strict=True)]

    results = b.w.while_loop(
        [(c.name, element(c.dtype)) for c in carries],
        lambda names: (cond(*named(names)).name, names),
        lambda names: [s.name for s in body(*named(names))],
    )
    return named(results)


# -- integers ----------------------------------------------------------------------------------------------------------


def gcd(b: Scalars, x: Scalar, y: Scalar) -> Scalar:
    """Euclid's algorithm on absolute values."""
    zero = b.const(x.dtype, 0)
    unsigned = dtype_named(f"u{x.dtype.bits}")

    def step(p: Scalar, q: Scalar) -> list[Scalar]:
        rest = b.fmod(Scalar(p.name, unsigned), Scalar(q.name, unsigned))
        return [q, Scalar(rest.name, x.dtype)]

    result, _ = _while(b, [b.abs(x), b.abs(y)], lambda p, q: b.ne(q, zero), step)
    return result


def lcm(b: Scalars, x: Scalar, y: Scalar) -> Scalar:
    """|x / gcd * y|; 0 when either is."""
    divisor = gcd(b, x, y)
    return b.abs(b.mul(b.floordiv(b.abs(x), divisor), b.abs(y)))  # floordiv by 0 is 0


def integer_power(b: Scalars, x: Scalar, y: Scalar) -> Scalar:
    """Repeated squaring, wrapping; a negative exponent gives the truncated quotient (0, 1 or -1)."""
    zero, one = b.const(x.dtype, 0), b.const(x.dtype, 1)
    if x.dtype.kind == "b":
        return b.or_(x, b.not_(y))
    negative = b.lt(y, zero)
    unsigned = dtype_named(f"u{x.dtype.bits}")

    def step(result: Scalar, base: Scalar, n: Scalar) -> list[Scalar]:
        odd = b.ne(b.and_(n, one), zero)
        half = b.shr(Scalar(n.name, unsigned), Scalar(one.name, unsigned))
        return [b.select(odd, b.mul(result, base), result), b.mul(base, base), Scalar(half.name, x.dtype)]

    exponent = b.abs(y)
    power, _, _ = _while(b, [one, x, exponent], lambda result, base, n: b.ne(n, zero), step)
    if x.dtype.kind != "i":
        return power
    unit = b.eq(b.abs(x), one)
    return b.select(b.and_(negative, b.not_(unit)), zero, power)


# -- floats ------------------------------------------------------------------------------------------------------------


def float_divmod(b: Scalars, x: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
    """Floor division and remainder as NumPy computes them (npy_divmod)."""
    zero, one = b.const(x.dtype, 0.0), b.const(x.dtype, 1.0)
    rest = b.fmod(x, y)
    quotient = b.div(b.sub(x, rest), y)
    exact = b.eq(rest, zero)
    other_sign = b.xor(b.lt(y, zero), b.lt(rest, zero))
    adjust = b.and_(b.not_(exact), other_sign)
    quotient = b.select(adjust, b.sub(quotient, one), quotient)
    rest = b.select(exact, b.copysign(zero, y), b.select(adjust, b.add(rest, y), rest))
    whole = b.floor(quotient)
    high = b.gt(b.sub(quotient, whole), b.const(x.dtype, 0.5))
    whole = b.select(high, b.add(whole, one), whole)
    whole = b.select(b.eq(quotient, zero), b.copysign(zero, b.div(x, y)), whole)
    by_zero = b.eq(y, zero)
    nan = b.fmod(x, y)
    return b.select(by_zero, b.div(x, y), whole), b.select(by_zero, nan, rest)


def frexp(b: Scalars, x: Scalar) -> tuple[Scalar, Scalar]:
    """Mantissa in [0.5, 1) and exponent; zeros, infinities and NaN come back with exponent 0."""
    whole = integer_of(x.dtype)
    digits = {64: 52, 32: 23}[x.dtype.bits]
    bias = {64: 1022, 32: 126}[x.dtype.bits]
    plain = b.or_(b.eq(x, b.const(x.dtype, 0.0)), b.not_(b.isfinite(x)))
    least = b.const(x.dtype, 2.0 ** (1 - bias))
    small = b.lt(b.abs(x), least)
    scaled = b.select(small, b.mul(x, b.const(x.dtype, 2.0 ** (digits + 2))), x)
    bits = b.bitcast(scaled, whole)
    field = b.and_(b.shr(bits, b.const(whole, digits)), b.const(whole, 2 ** (whole.bits - digits - 1) - 1))
    exponent = b.sub(field, b.const(whole, bias))
    exponent = b.select(small, b.sub(exponent, b.const(whole, digits + 2)), exponent)
    mask = (2 ** (whole.bits - digits - 1) - 1) << digits
    mantissa = b.or_(b.and_(bits, b.const(whole, ~mask)), b.const(whole, bias << digits))
    return (
        b.select(plain, x, b.bitcast(mantissa, x.dtype)),
        b.convert(b.select(plain, b.const(whole, 0), exponent), i32),
    )


def logaddexp(b: Scalars, x: Scalar, y: Scalar, exp: str, scale: float) -> Scalar:
    """max + log1p(exp(-|difference|)); equal infinities have no difference."""
    larger = b.maximum(x, y)
    gap = b.neg(b.abs(b.sub(x, y)))
    small: Scalar = getattr(b, exp)(gap)
    more = b.mul(b.log1p(small), b.const(x.dtype, scale))
    same = b.eq(x, y)
    return b.select(same, b.add(x, b.const(x.dtype, math.log(2) * scale)), b.add(larger, more))


# -- in double precision -----------------------------------------------------------------------------------------------


def _c(b: Scalars, v: float) -> Scalar:
    return b.const(f64, v)


def digamma(b: Scalars, x: Scalar) -> Scalar:
    """psi(x); below 0 by reflection."""
    zero, one, pi = _c(b, 0.0), _c(b, 1.0), _c(b, math.pi)
    negative = b.lt(x, zero)
    start = b.select(negative, b.sub(one, x), x)
    up, total = _while(
        b,
        [start, zero],
        lambda v, s: b.lt(v, _c(b, 16.0)),
        lambda v, s: [b.add(v, one), b.sub(s, b.div(one, v))],
    )
    y = b.div(one, b.mul(up, up))
    series = _c(b, 1 / 12)
    for c in (691 / 32760, 1 / 132, 1 / 240, 1 / 252, 1 / 120, 1 / 12):
        series = b.sub(_c(b, c), b.mul(y, series))
    value = b.sub(b.add(total, b.log(up)), b.add(b.div(_c(b, 0.5), up), b.mul(y, series)))
    reduced = b.sub(x, b.floor(x))
    reflected = b.sub(value, b.div(pi, b.tan(b.mul(pi, reduced))))
    result = b.select(negative, reflected, value)
    pole = b.and_(negative, b.eq(x, b.floor(x)))
    result = b.select(pole, _c(b, math.nan), result)
    at_zero = b.neg(b.copysign(_c(b, math.inf), x))
    result = b.select(b.eq(x, zero), at_zero, result)
    return b.select(b.eq(x, _c(b, math.inf)), x, result)


_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)


def polygamma(b: Scalars, x: Scalar, n: int) -> Scalar:
    """The n-th derivative of psi, n >= 1."""
    zero, one, factorial = _c(b, 0.0), _c(b, 1.0), _c(b, float(math.factorial(n)))

    def power(v: Scalar, k: int) -> Scalar:
        result = v
        for _ in range(k - 1):
            result = b.mul(result, v)
        return result

    up, total = _while(
        b,
        [x, zero],
        lambda v, s: b.and_(b.lt(v, _c(b, 20.0 + n)), b.lt(v, b.add(v, one))),  # the second ends at -inf
        lambda v, s: [b.add(v, one), b.add(s, b.div(factorial, power(v, n + 1)))],
    )
    series = b.div(_c(b, math.factorial(n - 1)), power(up, n))
    series = b.add(series, b.div(_c(b, math.factorial(n) / 2), power(up, n + 1)))
    for k, bernoulli in enumerate(_BERNOULLI, 1):
        c = bernoulli * math.factorial(2 * k + n - 1) / math.factorial(2 * k)
        series = b.add(series, b.div(_c(b, c), power(up, 2 * k + n)))
    result = b.add(total, series)
    if n % 2 == 0:
        result = b.neg(result)
    pole = b.and_(b.le(x, zero), b.eq(x, b.floor(x)))
    result = b.select(pole, _c(b, math.inf if n % 2 == 1 else math.nan), result)
    result = b.select(b.eq(x, _c(b, math.inf)), zero, result)
    return b.select(b.eq(x, _c(b, -math.inf)), _c(b, math.nan), result)


def erfinv(b: Scalars, x: Scalar) -> Scalar:
    """An approximation good to three digits, then Halley steps on erf or erfc, whichever keeps the digits."""
    one = _c(b, 1.0)
    a = b.abs(x)
    w = b.neg(b.log1p(b.neg(b.mul(x, x))))
    half = b.sub(_c(b, 4.3307), b.mul(w, _c(b, 0.5)))
    root = b.sqrt(b.add(b.mul(half, half), b.div(w, _c(b, 0.147))))
    y = b.sqrt(b.maximum(_c(b, 0.0), b.sub(root, half)))
    for _ in range(5):
        residual = b.select(b.lt(a, _c(b, 0.5)), b.sub(b.erf(y), a), b.sub(b.sub(one, a), b.erfc(y)))
        slope = b.mul(_c(b, 2 / math.sqrt(math.pi)), b.exp(b.neg(b.mul(y, y))))
        step = b.div(residual, slope)
        step = b.div(step, b.add(one, b.mul(y, step)))
        y = b.select(b.gt(slope, _c(b, 0.0)), b.sub(y, step), y)
    result = b.copysign(y, x)
    result = b.select(b.eq(a, one), b.copysign(_c(b, math.inf), x), result)
    result = b.select(b.eq(x, _c(b, 0.0)), x, result)
    return b.select(b.gt(a, one), _c(b, math.nan), result)
