"""Writes `coefficients.py`: run `python -m stager.codegen.math.generate [NAME ...]`.

A row of `FITS` is one polynomial: what it approximates, where, its degree, and the weight that turns its error into a
relative error of the result. Invariant: the coefficients in the repository are what this script computes.
With names given only those rows are computed again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mpmath  # type: ignore[import-untyped]
from mpmath import mpf

from stager.codegen.math.remez import minimax, rational_minimax

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
    fixed: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Ratio:
    """As `Fit`, for a quotient of polynomials: writes NAME_P and NAME_Q, where NAME ends in the dtype."""

    name: str
    f: Callable[[Any], Any]
    lo: float
    hi: float
    degrees: tuple[int, int]
    weight: Callable[[Any], Any] = field(default=lambda x: mpf(1))
    single: bool = False


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


def _tanh_tail(z: Any) -> Any:
    x = mpmath.sqrt(z)
    return (mpmath.tanh(x) / x - 1) / z


def _erfc_log(x: Any) -> Any:
    return -mpmath.log(mpmath.erfc(x))


LN2_HALF = 0.3466
LOG_Z = 0.02945
FITS: list[Fit | Ratio] = [
    Fit("EXP_F64", _exp_tail, -LN2_HALF, LN2_HALF, 9, lambda r: r**2 * mpmath.exp(-r)),
    Fit("EXP_F32", _exp_tail, -LN2_HALF, LN2_HALF, 4, lambda r: r**2 * mpmath.exp(-r), single=True),
    Fit("SIN_PI_F64", _sin_tail, 1e-9, 2.4676, 7, lambda z: z * mpmath.sqrt(z) / mpmath.sin(mpmath.sqrt(z))),
    Fit(
        "SIN_PI_F32", _sin_tail, 1e-9, 2.4676, 3, lambda z: z * mpmath.sqrt(z) / mpmath.sin(mpmath.sqrt(z)), single=True
    ),
    Fit("LOG_F64", _log_tail, 1e-9, LOG_Z, 6, lambda z: z / 2),
    Fit("LOG_F32", _log_tail, 1e-9, LOG_Z, 2, lambda z: z / 2, single=True),
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
    Fit("ERF_F64", _erf_tail, 1e-9, 1.0, 12),
    Fit("ERF_F32", _erf_tail, 1e-9, 1.0, 6, single=True),
    Fit("ERFC_LOG_F64", _erfc_log, 1.0, 6.0, 17, mpmath.erfc),
    Fit("ERFC_LOG_F32", _erfc_log, 1.0, 4.0, 7, mpmath.erfc, single=True),
    Ratio("TANH_F64", _tanh_tail, 1e-9, 0.55**2, (2, 3), lambda z: z),
    Ratio("TANH_F32", _tanh_tail, 1e-9, 0.55**2, (1, 1), lambda z: z, single=True),
]


def compute(fit: Fit | Ratio) -> dict[str, tuple[list[float], float]]:
    """The named coefficient lists of one row with log2 of their error."""
    if isinstance(fit, Fit):
        p = minimax(fit.f, fit.lo, fit.hi, fit.degree, fit.weight, single=fit.single, fixed=fit.fixed)
        return {fit.name: (p.coefficients, round(p.log2_error, 1))}
    r = rational_minimax(fit.f, fit.lo, fit.hi, fit.degrees, fit.weight, single=fit.single)
    stem, dtype = fit.name.rsplit("_", 1)
    error = round(r.log2_error, 1)
    return {f"{stem}_P_{dtype}": (r.p, error), f"{stem}_Q_{dtype}": (r.q, error)}


def names_of(fit: Fit | Ratio) -> list[str]:
    """The names that a row writes."""
    if isinstance(fit, Fit):
        return [fit.name]
    stem, dtype = fit.name.rsplit("_", 1)
    return [f"{stem}_P_{dtype}", f"{stem}_Q_{dtype}"]


def main(wanted: list[str]) -> None:
    """Computes the rows (all, those that start with a given word, those missing) and writes the file."""
    mpmath.mp.dps = 60
    known: dict[str, tuple[list[float], float]] = {}
    if OUTPUT.exists() and wanted:
        scope: dict[str, Any] = {}
        exec(OUTPUT.read_text(), scope)
        known = {name: (scope[name], error) for name, error in scope["LOG2_ERRORS"].items()}
    for fit in FITS:
        if all(n in known for n in names_of(fit)) and not any(fit.name.startswith(n) for n in wanted):
            continue
        for name, (coefficients, error) in compute(fit).items():
            known[name] = (coefficients, error)
            print(f"{name:24} degree {len(coefficients) - 1:2} error 2^{error}", flush=True)
    names = [name for fit in FITS for name in names_of(fit)]
    lines = ['"""Minimax coefficients, lowest power first. Written by `generate.py`; not for editing by hand."""', ""]
    for name in names:
        lines.append(f"{name} = [")
        lines += [f'    float.fromhex("{c.hex()}"),' for c in known[name][0]]
        lines.append("]")
    lines += ["", "LOG2_ERRORS = {", *(f'    "{name}": {known[name][1]},' for name in names), "}"]
    OUTPUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
