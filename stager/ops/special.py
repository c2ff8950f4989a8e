"""References for the functions that NumPy lacks: erf and the gamma family, through the standard library.

They are oracles and constant folders, not fast paths: `math` gives erf, erfc, gamma and lgamma to an ulp or so;
digamma, polygamma and erfinv are computed here in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.ir.dtypes import f32, f64


def _vectorized(scalar: Callable[[float], float]) -> Callable[[Any], Any]:
    def function(x: Any) -> Any:
        x = np.asarray(x)
        out = np.empty(x.shape, x.dtype)
        flat = out.reshape(-1)
        for i, v in enumerate(x.astype(np.float64).reshape(-1)):
            flat[i] = scalar(float(v))
        return out

    return function


def _gamma(x: float) -> float:
    if x == 0.0:
        return math.copysign(math.inf, x)
    if x == -math.inf or (x < 0 and x == math.floor(x)):
        return math.nan
    try:
        return math.gamma(x)
    except OverflowError:
        return math.inf if x > 0 or math.floor(x) % 2 == 0 else -math.inf


def _zeta_minus_one(k: int) -> float:
    """The sum of n**-k over n >= 2: some terms, then Euler and Maclaurin's tail."""
    n = 64
    tail = n ** (1 - k) / (k - 1) - n**-k / 2 + k * n ** (-k - 1) / 12 - k * (k + 1) * (k + 2) * n ** (-k - 3) / 720
    tail += k * (k + 1) * (k + 2) * (k + 3) * (k + 4) * n ** (-k - 5) / 30240
    return math.fsum([m**-k for m in range(n, 1, -1)] + [tail])


_EULER_GAMMA = 0.57721566490153286061
_LGAMMA_SERIES = [(-1) ** k * _zeta_minus_one(k) / k for k in range(2, 32)]


def _lgamma_about_two(z: float) -> float:
    """lgamma(2 + z) for |z| <= 1/2, with full relative accuracy at its zero."""
    total = 0.0
    for c in reversed(_LGAMMA_SERIES):
        total = total * z + c
    return z * (1.0 - _EULER_GAMMA) + total * z * z


def _lgamma(x: float) -> float:
    if 0.5 < x < 1.5:  # math.lgamma loses digits next to the zeros at 1 and 2
        return _lgamma_about_two(x - 1.0) - math.log1p(x - 1.0)
    if 1.5 <= x < 2.5:
        return _lgamma_about_two(x - 2.0)
    try:
        return math.lgamma(x)
    except (ValueError, OverflowError):
        return math.inf


def _digamma(x: float) -> float:
    if math.isnan(x) or x == -math.inf:
        return math.nan
    if x == 0.0:
        return -math.copysign(math.inf, x)
    if x < 0.0:
        if x == math.floor(x):
            return math.nan
        # reflection: psi(1-x) - psi(x) = pi / tan(pi x), the argument reduced first
        r = x - math.floor(x)
        return _digamma(1.0 - x) - math.pi / math.tan(math.pi * r)
    total = 0.0
    while x < 16.0:
        total -= 1.0 / x
        x += 1.0
    if math.isinf(x):
        return x
    y = 1.0 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y * (1 / 132 - y * (691 / 32760 - y / 12))))))
    return total + math.log(x) - 0.5 / x - series


_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510, 43867 / 798, -174611 / 330)


def _polygamma(n: int, x: float) -> float:
    """psi^(n)(x) for n >= 1: recurrence up, then the asymptotic series; reflection is by recurrence for x < 0."""
    if math.isnan(x) or x == -math.inf:
        return math.nan
    if x <= 0.0 and x == math.floor(x):
        return math.inf if n % 2 == 1 else math.nan
    sign = -1.0 if n % 2 == 0 else 1.0
    factorial = float(math.factorial(n))
    with np.errstate(all="ignore"):  # NumPy's scalars overflow to inf, Python's raise
        y, total = np.float64(x), np.float64(0.0)
        while y < 20.0 + n:
            total += factorial / y ** (n + 1)
            y += 1.0
        inverse = 1.0 / y
        series = math.factorial(n - 1) * inverse**n + factorial / 2 * inverse ** (n + 1)
        for k, bernoulli in enumerate(_BERNOULLI, 1):
            scale = bernoulli * math.factorial(2 * k + n - 1) / math.factorial(2 * k)
            series += scale * inverse ** (2 * k + n)
        return float(sign * (total + series))


def _erfinv(x: float) -> float:
    if math.isnan(x) or abs(x) > 1.0:
        return math.nan
    if abs(x) == 1.0:
        return math.copysign(math.inf, x)
    if x == 0.0:
        return x
    # Giles' approximation, then Newton steps on erf or erfc, whichever keeps the digits
    w = -math.log1p(-x * x)
    y = math.copysign(math.sqrt(max(0.0, -(4.3307 + w / -2) + math.sqrt((4.3307 - w / 2) ** 2 + w / 0.147))), x)
    a = abs(x)
    y = abs(y)
    for _ in range(60):
        residual = math.erf(y) - a if a < 0.5 else (1.0 - a) - math.erfc(y)
        slope = 2.0 / math.sqrt(math.pi) * math.exp(-y * y)
        if slope == 0.0:
            break
        step = residual / slope
        step /= 1.0 + y * step  # Halley
        y -= step
        if abs(step) <= 1e-17 * abs(y):
            break
    return math.copysign(y, x)


erf = _vectorized(math.erf)
erfc = _vectorized(math.erfc)
erfinv = _vectorized(_erfinv)
gamma = _vectorized(_gamma)
lgamma = _vectorized(_lgamma)
digamma = _vectorized(_digamma)


def polygamma(n: int, x: Any) -> Any:
    """psi^(n)(x), elementwise, n >= 1."""
    return _vectorized(lambda v: _polygamma(n, v))(x)


def lower_polygamma(b: Any, x: Any, n: int) -> Any:
    """psi^(n) as scalar code: the sum of the first terms, the asymptotic series behind them, reflection for x <= 0.

    The reflection needs the n-th derivative of cot(pi x), a polynomial of the cotangent: P' = -(1 + c**2) dP/dc.
    """
    if x.dtype is f32:
        return b.convert(lower_polygamma(b, b.convert(x, f64), n), f32)

    def const(v: float) -> Any:
        return b.const(f64, v)

    def horner(coefficients: Sequence[float], at: Any) -> Any:
        total = const(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            total = b.add(b.mul(total, at), const(c))
        return total

    def power(base: Any, k: int) -> Any:
        result = base
        for bit in bin(k)[3:]:
            result = b.mul(result, result)
            result = b.mul(result, base) if bit == "1" else result
        return result

    one, zero = const(1.0), const(0.0)
    left = b.le(x, zero)
    y = b.select(left, b.sub(one, x), x)
    terms = 10 + n
    factorial = float(math.factorial(n))
    far = b.add(y, const(float(terms)))
    inverse = b.div(one, far)
    series = [
        bernoulli * math.factorial(2 * k + n - 1) / math.factorial(2 * k) for k, bernoulli in enumerate(_BERNOULLI, 1)
    ]
    tail = b.mul(b.mul(inverse, inverse), horner(series, b.mul(inverse, inverse)))
    tail = b.add(const(math.factorial(n - 1)), b.add(b.mul(const(factorial / 2), inverse), tail))
    total = b.mul(tail, power(inverse, n))
    for k in reversed(range(terms)):  # smallest terms first
        total = b.add(total, b.div(const(factorial), power(b.add(y, const(float(k))), n + 1)))
    right_side = total if n % 2 else b.neg(total)

    polynomial = [0, 1]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(polynomial)][1:]
        polynomial = [-(u + v) for u, v in zip([*slope, 0, 0], [0, 0, *slope], strict=True)]
    turn = b.mul(const(math.pi), b.sub(x, b.rint(x)))
    cotangent = b.div(b.cos(turn), b.sin(turn))
    reflected = b.mul(const(-(math.pi ** (n + 1))), horner([float(c) for c in polynomial], cotangent))
    reflected = b.sub(reflected, total)  # (-1)**n psi^(n)(1-x), whose sign is that of (-1)**(n+1)
    at_pole = b.eq(x, b.rint(x))
    pole = b.select(b.isinf(x), const(math.nan), const(math.inf if n % 2 else math.nan))
    reflected = b.select(at_pole, pole, reflected)
    return b.select(left, reflected, right_side)


def _fma64(a: float, b: float, c: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    from fractions import Fraction

    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact == 0:
        return a * b + c  # the sign of zero
    try:
        return float(exact)
    except OverflowError:
        return math.copysign(math.inf, exact)


def _fma32(a: float, b: float, c: float) -> float:
    """Of operands that are float32 values. Going through a double would round twice."""
    from fractions import Fraction

    rounded = np.float32(_fma64(a, b, c))
    if not np.isfinite(rounded) or rounded == 0:
        return float(rounded)
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    near = [np.nextafter(rounded, np.float32(end)) for end in (-np.inf, np.inf)] + [rounded]
    finite = [v for v in near if np.isfinite(v)]
    return float(min(finite, key=lambda v: (abs(Fraction(float(v)) - exact), int(v.view(np.uint32)) & 1)))


def fma(x: Any, y: Any, z: Any) -> Any:
    """x*y + z with one rounding, through exact rational arithmetic."""
    x, y, z = np.broadcast_arrays(x, y, z)
    one = _fma32 if x.dtype == np.float32 else _fma64
    with np.errstate(all="ignore"):
        flat = [one(float(a), float(b), float(c)) for a, b, c in zip(x.flat, y.flat, z.flat, strict=True)]
    return np.array(flat, dtype=x.dtype).reshape(x.shape)
