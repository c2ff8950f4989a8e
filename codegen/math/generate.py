"""Writes `coefficients.py`: run `python -m stager.codegen.math.generate [NAME ...]`.

A row of `FITS` is one polynomial: what it approximates, where, its degree, and the weight that turns its error into a
relative error of the result. Invariant: the coefficients in the repository are what this script computes.
With names given only those rows are computed again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import mpmath  # type: ignore[import-untyped]
from mpmath import mpf

from stager.codegen.math.remez import minimax

OUTPUT = Path(__file__).with_name("coefficients.py")


@dataclass(frozen=True, slots=True)
class Fit:
    """`f` on [lo, hi]; the error is weighted by `weight`. `single` rounds to float32."""

    name: str
    f: Callable[[Any], Any]
    lo: float
    hi: float
    degree: int
    weight: Callable[[Any], Any] = field(default=lambda x: mpf(1))
    single: bool = False
    two_parts: bool = False  # the constant term as two coefficients


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers that are only rounded, from a function that lists them."""

    name: str
    values: Callable[[], list[Any]]


@dataclass(frozen=True, slots=True)
class Series:
    """The first `count` coefficients of a power series as pairs hi, lo, hi, lo, …"""

    name: str
    coefficient: Callable[[int], Any]
    count: int


def _exp_tail(r: Any) -> Any:
    return (mpmath.expm1(r) - r) / r**2


def _sin_tail(z: Any) -> Any:
    r = mpmath.sqrt(z)
    return (mpmath.sin(r) - r) / (z * r)


def _log_tail(z: Any) -> Any:
    s = mpmath.sqrt(z)
    return (2 * mpmath.atanh(s) / s - 2) / z


def _exp2_tail(r: Any) -> Any:
    return mpmath.expm1(r * mpmath.log(2)) / r


def _log_pair_tail(z: Any) -> Any:
    s = mpmath.sqrt(z)
    return ((mpmath.atanh(s) / s - 1) / z - mpf(1) / 3) / z


def _cos_tail(z: Any) -> Any:
    return (mpmath.cos(mpmath.sqrt(z)) - 1 + z / 2) / z**2


def _cosh_tail(z: Any) -> Any:
    return (mpmath.cosh(mpmath.sqrt(z)) - 1 - z / 2) / z**2


def _sinh_tail(z: Any) -> Any:
    r = mpmath.sqrt(z)
    return (mpmath.sinh(r) - r) / (z * r)


def _asin_tail(z: Any) -> Any:
    r = mpmath.sqrt(z)
    return (mpmath.asin(r) - r) / (z * r)


def _atan_tail(z: Any) -> Any:
    r = mpmath.sqrt(z)
    return (mpmath.atan(r) - r) / (z * r)


def _erf_tail(z: Any) -> Any:
    x = mpmath.sqrt(z)
    return mpmath.erf(x) / x - 1


def _erfc_root(x: Any) -> Any:
    return mpmath.erfc(x) ** (mpf(-1) / 16)


def _erfc_mapped(center: int) -> Callable[[Any], Any]:
    """(x + c) * exp(x*x) * erfc(x) at t = (x - c)/(x + c)."""

    def f(t: Any) -> Any:
        x = center * (1 + t) / (1 - t)
        return (x + center) * mpmath.exp(x * x) * mpmath.erfc(x)

    return f


def _rgamma_tail(t: Any) -> Any:
    x = t + mpf(3) / 2
    return (mpmath.rgamma(x) - 1) / ((x - 1) * (x - 2))


def _stirling_tail(v: Any) -> Any:
    x = 1 / mpmath.sqrt(v)
    main = (x - mpf(1) / 2) * mpmath.log(x) - x + mpmath.log(2 * mpmath.pi) / 2
    return (mpmath.loggamma(x) - main) * x


def _digamma_tail(u: Any) -> Any:
    return (mpmath.digamma(1 / u) + mpmath.log(u)) / u


@cache
def digamma_root() -> Any:
    """The positive zero of digamma."""
    return mpmath.findroot(mpmath.digamma, mpf("1.4616321449683623"))


def _digamma_root_tail(t: Any) -> Any:
    x = t + mpf(3) / 2
    return mpmath.digamma(x) / (x - digamma_root())


@cache
def _rgamma_series() -> list[Any]:
    """Taylor coefficients of 1/gamma(1 + t) at 0."""
    with mpmath.workdps(90):
        return list(mpmath.taylor(lambda t: mpmath.rgamma(1 + t), 0, 36, singular=False))


def _digamma_zeros() -> list[Any]:
    """For each of the first 32 negative zeros: the zero in two parts and four Taylor coefficients of digamma there."""
    out: list[Any] = []
    for n in range(32):
        lo, hi = -mpf(n) - mpf("0.999"), -mpf(n) - mpf("0.001")  # digamma rises from -inf to inf between the poles
        for _ in range(240):
            middle = (lo + hi) / 2
            lo, hi = (middle, hi) if mpmath.digamma(middle) < 0 else (lo, middle)
        out += [float(lo), lo - float(lo), *(mpmath.psi(k, lo) / mpmath.factorial(k) for k in range(1, 5))]
    return out


def _i0_scaled(u: Any) -> Any:
    x = 1 / u
    return mpmath.besseli(0, x) * mpmath.exp(-x) * mpmath.sqrt(x)


LN2_HALF = 0.3466
LOG_Z = 0.02945
FITS: list[Fit | Series | Table] = [
    Fit("EXP_F64", _exp_tail, -LN2_HALF, LN2_HALF, 9, lambda r: r**2 * mpmath.exp(-r)),
    Fit("EXP_F32", _exp_tail, -LN2_HALF, LN2_HALF, 4, lambda r: r**2 * mpmath.exp(-r), single=True),
    Fit("EXPM1_F64", _exp_tail, -LN2_HALF, LN2_HALF, 10, abs),
    Fit("EXPM1_F32", _exp_tail, -LN2_HALF, LN2_HALF, 5, abs, single=True),
    Fit("SIN_PI_F64", _sin_tail, 1e-9, 2.4676, 7, lambda z: z * mpmath.sqrt(z) / mpmath.sin(mpmath.sqrt(z))),
    Fit(
        "SIN_PI_F32", _sin_tail, 1e-9, 2.4676, 3, lambda z: z * mpmath.sqrt(z) / mpmath.sin(mpmath.sqrt(z)), single=True
    ),
    Fit("LOG_F64", _log_tail, 1e-9, LOG_Z, 6, lambda z: z / 2),
    Fit("LOG_F32", _log_tail, 1e-9, LOG_Z, 2, lambda z: z / 2, single=True),
    Fit("EXP_SHORT_F64", _exp_tail, -LN2_HALF, LN2_HALF, 4, lambda r: r**2 * mpmath.exp(-r)),
    Fit("LOG_SHORT_F64", _log_tail, 1e-9, LOG_Z, 3, lambda z: z / 2),
    Fit("EXP2_F64", _exp2_tail, -0.5, 0.5, 10, lambda r: abs(r) * mpf(2) ** -r),
    Fit("EXP2_F32", _exp2_tail, -0.5, 0.5, 5, lambda r: abs(r) * mpf(2) ** -r, single=True),
    Fit("LOG_PAIR_F64", _log_pair_tail, 1e-9, LOG_Z, 7, lambda z: z * z),
    Fit("LOG_PAIR_F32", _log_pair_tail, 1e-9, LOG_Z, 3, lambda z: z * z, single=True),
    Fit("SIN_F64", _sin_tail, 1e-9, 0.6169, 5, lambda z: z),
    Fit("SIN_F32", _sin_tail, 1e-9, 0.6169, 2, lambda z: z, single=True),
    Fit("COS_F64", _cos_tail, 1e-9, 0.6169, 5, lambda z: z**2),
    Fit("COS_F32", _cos_tail, 1e-9, 0.6169, 2, lambda z: z**2, single=True),
    Fit("SINH_F64", _sinh_tail, 1e-9, 0.1202, 4, lambda z: z),
    Fit("SINH_F32", _sinh_tail, 1e-9, 0.1202, 1, lambda z: z, single=True),
    Fit("COSH_F64", _cosh_tail, 1e-9, 0.1202, 4, lambda z: z**2),
    Fit("COSH_F32", _cosh_tail, 1e-9, 0.1202, 1, lambda z: z**2, single=True),
    Fit("ASIN_F64", _asin_tail, 1e-9, 0.25, 12, lambda z: z),
    Fit("ASIN_F32", _asin_tail, 1e-9, 0.25, 4, lambda z: z, single=True),
    Fit("ATAN_F64", _atan_tail, 1e-9, 0.1717, 10, lambda z: z),
    Fit("ATAN_F32", _atan_tail, 1e-9, 0.1717, 4, lambda z: z, single=True),
    Fit("CBRT_F64", lambda m: mpmath.cbrt(1 / m), 0.7071, 1.4143, 5, mpmath.cbrt),
    Fit("CBRT_F32", lambda m: mpmath.cbrt(1 / m), 0.7071, 1.4143, 4, mpmath.cbrt, single=True),
    Fit("ERF_F64", lambda t: _erf_tail(t + mpf("1.25")), -1.25 + 1e-9, 1.0, 14),
    Fit("ERF_F32", lambda t: _erf_tail(t + 1), -1.0 + 1e-9, 1.25, 8, single=True),
    Fit("ERFC_ROOT_F64", _erfc_root, 1.5, 5.95, 14, lambda x: 16 * mpmath.erfc(x) / _erfc_root(x)),
    Fit("ERFC_ROOT_F32", _erfc_root, 1.5, 3.95, 6, lambda x: 16 * mpmath.erfc(x) / _erfc_root(x), single=True),
    Fit("ERFC_F64", _erfc_mapped(4), -7 / 9, 0.748, 22, lambda t: 1 / _erfc_mapped(4)(t), two_parts=True),
    Fit("ERFC_F32", _erfc_mapped(2), -3 / 5, 0.672, 9, lambda t: 1 / _erfc_mapped(2)(t), single=True, two_parts=True),
    Fit("RGAMMA_F64", _rgamma_tail, -1.0, 1.0, 18, lambda t: mpf(1) / 2),
    Fit("STIRLING_F64", _stirling_tail, 1e-7, 0.16, 12, mpmath.sqrt),
    Fit("RGAMMA_SHORT_F64", _rgamma_tail, -1.0, 1.0, 10, lambda t: mpf(1) / 2),
    Fit("STIRLING_SHORT_F64", _stirling_tail, 1e-7, 0.16, 4, mpmath.sqrt),
    Fit("DIGAMMA_SHORT_F64", _digamma_tail, 1e-6, 0.5, 6, lambda u: u),
    Fit("DIGAMMA_ROOT_SHORT_F64", _digamma_root_tail, -0.5, 0.5, 10),
    Fit("DIGAMMA_F64", _digamma_tail, 1e-6, 0.5, 16, lambda u: u),
    Fit("DIGAMMA_ROOT_F64", _digamma_root_tail, -0.5, 0.5, 23),
    Fit(
        "I0_NEAR_F64",
        lambda z: mpmath.besseli(0, mpmath.sqrt(z)),
        1e-9,
        100.0,
        23,
        lambda z: 1 / mpmath.besseli(0, mpmath.sqrt(z)),
    ),
    Fit("I0_FAR_F64", _i0_scaled, 1e-6, 0.1, 21, two_parts=True),
    Series("LOG_SERIES", lambda i: mpf(2) / (2 * i + 1), 23),
    Series("SIN_PI_SERIES", lambda i: (-1) ** i * mpmath.pi ** (2 * i + 1) / mpmath.factorial(2 * i + 1), 17),
    Series("COS_PI_SERIES", lambda i: (-1) ** i * mpmath.pi ** (2 * i) / mpmath.factorial(2 * i), 17),
    Series("DIGAMMA_SERIES", lambda i: mpmath.bernoulli(2 * i + 2) / (2 * i + 2), 16),
    Table("DIGAMMA_ZEROS", _digamma_zeros),
    Series("RGAMMA_SERIES", lambda i: _rgamma_series()[i], 34),
]


def compute(fit: Fit | Series | Table) -> tuple[list[float], float]:
    """The coefficients of one row with log2 of their error (of a series: of the last coefficient)."""
    if isinstance(fit, Table):
        return [float(v) for v in fit.values()], 0.0
    if isinstance(fit, Series):
        pairs: list[float] = []
        for i in range(fit.count):
            c = fit.coefficient(i)
            pairs += [float(c), float(c - float(c))]
        return pairs, round(float(mpmath.log(abs(pairs[-2]), 2)), 1)
    p = minimax(fit.f, fit.lo, fit.hi, fit.degree, fit.weight, single=fit.single, two_parts=fit.two_parts)
    return p.coefficients, round(p.log2_error, 1)


def main(wanted: list[str]) -> None:
    """Computes the rows (all, those that start with a given word, those missing) and writes the file."""
    mpmath.mp.dps = 60
    known: dict[str, tuple[list[float], float]] = {}
    if OUTPUT.exists() and wanted:
        scope: dict[str, Any] = {}
        exec(OUTPUT.read_text(), scope)
        known = {name: (scope[name], error) for name, error in scope["LOG2_ERRORS"].items()}
    for fit in FITS:
        if fit.name in known and not any(fit.name.startswith(n) for n in wanted):
            continue
        known[fit.name] = coefficients, error = compute(fit)
        print(f"{fit.name:24} degree {len(coefficients) - 1:2} error 2^{error}", flush=True)
    names = [fit.name for fit in FITS]
    lines = ['"""Minimax coefficients, lowest power first. Written by `generate.py`; not for editing by hand."""', ""]
    for name in names:
        lines.append(f"{name} = [")
        lines += [f'    float.fromhex("{c.hex()}"),' for c in known[name][0]]
        lines.append("]")
    lines += ["", "LOG2_ERRORS = {", *(f'    "{name}": {known[name][1]},' for name in names), "}"]
    OUTPUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
