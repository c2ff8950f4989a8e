"""Minimax polynomials in multiple precision, for `generate.py` only; nothing imports this while compiling.

`minimax` minimises max |weight(x) * (f(x) - p(x))| on an interval by exchange on a fixed dense grid, then rounds the
coefficients to the float type, the first ones one at a time with the rest fitted again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np

Function = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Polynomial:
    """Rounded coefficients, lowest power first, and log2 of the weighted error that they leave."""

    coefficients: list[float]
    log2_error: float


def _grid(lo: Any, hi: Any, n: int) -> list[Any]:
    half, middle = (hi - lo) / 2, (hi + lo) / 2
    return [middle - half * mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * n)) for i in range(n)]


def _evaluate(coefficients: Sequence[Any], x: Any) -> Any:
    out = mpmath.mpf(0)
    for c in reversed(coefficients):
        out = out * x + c
    return out


def _exchange(xs: list[Any], ys: list[Any], ws: list[Any], n: int, low: int) -> list[Any]:
    """n coefficients of x**low, x**(low+1), … that minimise the weighted error on the grid."""
    m = len(xs)
    reference = sorted({round((m - 1) * (1 - np.cos(np.pi * i / n)) / 2) for i in range(n + 1)})
    while len(reference) < n + 1:
        reference = sorted(set(reference) | {next(i for i in range(m) if i not in reference)})
    coefficients: list[Any] = []
    for _ in range(60):
        a = mpmath.matrix(n + 1, n + 1)
        rhs = mpmath.matrix(n + 1, 1)
        for row, i in enumerate(reference):
            power = xs[i] ** low
            for j in range(n):
                a[row, j] = power
                power *= xs[i]
            a[row, n] = (-1) ** row / ws[i]
            rhs[row] = ys[i]
        solution = mpmath.lu_solve(a, rhs)
        coefficients = [solution[j] for j in range(n)]
        level = abs(solution[n])
        errors = [w * (y - x**low * _evaluate(coefficients, x)) for x, y, w in zip(xs, ys, ws, strict=True)]
        peaks: list[int] = []
        for i, e in enumerate(errors):  # the largest of each run of one sign
            if peaks and (errors[peaks[-1]] > 0) == (e > 0):
                if abs(e) > abs(errors[peaks[-1]]):
                    peaks[-1] = i
            else:
                peaks.append(i)
        while len(peaks) > n + 1:
            if abs(errors[peaks[0]]) < abs(errors[peaks[-1]]):
                peaks.pop(0)
            else:
                peaks.pop()
        if len(peaks) < n + 1:
            return coefficients  # error at the noise of the grid: nothing left to exchange
        reference = peaks
        if max(abs(e) for e in errors) <= level * mpmath.mpf("1.001"):
            break
    return coefficients


def _reweight(xs: list[Any], ys: list[Any], ws: list[Any], n: int, low: int) -> list[Any]:
    """As `_exchange`, by least squares with weights that grow where the error is large (Lawson).

    For intervals around 0, where x**low * polynomial is not a system that exchange may rely on.
    """
    lawson = [mpmath.mpf(1)] * len(xs)
    best: tuple[Any, list[Any]] | None = None
    for _ in range(12):
        moments = [mpmath.mpf(0)] * (2 * n - 1)
        right = [mpmath.mpf(0)] * n
        for x, y, w, extra in zip(xs, ys, ws, lawson, strict=True):
            power = extra * w * w * x**low
            for j in range(n):
                right[j] += power * y
                power *= x
            power = extra * w * w * x ** (2 * low)
            for j in range(2 * n - 1):
                moments[j] += power
                power *= x
        matrix = mpmath.matrix([[moments[i + j] for j in range(n)] for i in range(n)])
        solution = mpmath.lu_solve(matrix, mpmath.matrix(right))
        coefficients = [solution[j] for j in range(n)]
        errors = [abs(w * (y - x**low * _evaluate(coefficients, x))) for x, y, w in zip(xs, ys, ws, strict=True)]
        worst = max(errors)
        if best is None or worst < best[0]:
            best = worst, coefficients
        if worst == 0:
            break
        lawson = [a * (e / worst + mpmath.mpf("1e-6")) for a, e in zip(lawson, errors, strict=True)]
        total = sum(lawson) / len(lawson)
        lawson = [a / total for a in lawson]
    assert best is not None
    return best[1]


def minimax(
    f: Function,
    lo: float,
    hi: float,
    degree: int,
    weight: Function = lambda x: mpmath.mpf(1),
    *,
    single: bool = False,
    two_parts: bool = False,
) -> Polynomial:
    """The polynomial of this degree, its coefficients rounded to float32 (`single`) or float64.

    The first few coefficients are rounded one by one and the others fitted again after each; the best count is kept.
    `two_parts` gives the constant term as two coefficients, the second of them what the first one's rounding lost.
    """
    round_to = (lambda c: float(np.float32(float(c)))) if single else float
    xs = _grid(mpmath.mpf(lo), mpmath.mpf(hi), 24 * (degree + 2))
    ys = [f(x) for x in xs]
    ws = [abs(weight(x)) for x in xs]
    refit = _reweight if lo < 0 < hi else _exchange
    rest = _exchange(xs, ys, ws, degree + 1, 0)
    done: list[float] = []
    lost = 0.0
    if two_parts:
        done = [round_to(rest[0])]
        lost = round_to(rest[0] - done[0])
        ys = [y - lost for y in ys]
        rest = rest[1:]
    best: Polynomial | None = None
    for _ in range(min(5, degree + 1)):
        candidate = done + [round_to(c) for c in rest]
        error = max(abs(w * (y - _evaluate(candidate, x))) for x, y, w in zip(xs, ys, ws, strict=True))
        log2_error = float(mpmath.log(error, 2)) if error else float("-inf")
        if best is None or log2_error < best.log2_error:
            best = Polynomial(candidate, log2_error)
        done.append(round_to(rest[0]))
        if len(done) > degree:
            break
        residual = [y - _evaluate(done, x) for x, y in zip(xs, ys, strict=True)]
        rest = refit(xs, residual, ws, degree + 1 - len(done), len(done))
    assert best is not None
    if two_parts:
        best.coefficients.insert(1, lost)
    return best
