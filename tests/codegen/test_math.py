"""Math functions against exact references, over the whole domain: every function, dtype and form (FMA, no FMA).

Points are random bit patterns (log-uniform, subnormals included), dense stretches where a function is hard, neighbours
of zeros and poles, and special values. The reference is long double (11 digits more than float64), itself held against
mpmath on a sample, or mpmath where NumPy has no such function. Each test prints its worst error in units of the last
place. `STAGER_MATH_POINTS=1000000` sweeps longer.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest

from stager.codegen.math.functions import function_names
from stager.ir.dtypes import DType, f32, f64
from tests.codegen.array_loop import HOST, NO_FMA, ArrayLoop

POINTS = int(os.environ.get("STAGER_MATH_POINTS", "20000"))
Long = np.longdouble
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@dataclass(frozen=True)
class Row:
    """A function: its exact reference (`long`: in long double, `exact`: in mpmath), where it is hard, and the bar."""

    exact: Callable[..., Any]
    lo: float
    hi: float
    long: Callable[..., Any] | None = None
    bar: float = 2.0


def _real(f: Callable[..., Any]) -> Callable[..., Any]:
    """mpmath's value where it is real and finite, else the limit that C gives."""

    def g(*args: float) -> Any:
        try:
            y = f(*(mpmath.mpf(a) for a in args))
        except (ValueError, ZeroDivisionError):
            return mpmath.nan
        return y.real if not isinstance(y, mpmath.mpc) or y.imag == 0 else mpmath.nan

    return g


def _erfc(x: Any) -> Any:
    return mpmath.erfc(x) if x < 120 else mpmath.mpf(0)


def _gamma(x: Any) -> Any:
    if x == 0:
        return mpmath.inf
    if mpmath.isinf(x):
        return x if x > 0 else mpmath.nan
    if x < 0 and x == mpmath.floor(x):
        return mpmath.nan
    if x > 200:
        return mpmath.inf
    return mpmath.gamma(x) if x > -250 else mpmath.mpf(0)


def _lgamma(x: Any) -> Any:
    if mpmath.isinf(x) or (x <= 0 and x == mpmath.floor(x)):
        return mpmath.inf
    if x > 1e20:
        return (x - 0.5) * mpmath.log(x) - x + mpmath.log(2 * mpmath.pi) / 2
    if x < -1e5:
        a = -x
        return mpmath.log(mpmath.pi / (a * abs(mpmath.sinpi(a)))) - _lgamma(a)
    return mpmath.log(abs(mpmath.gamma(x))) if x < 0 else mpmath.loggamma(x)


def _digamma(x: Any) -> Any:
    if mpmath.isinf(x):
        return x if x > 0 else mpmath.nan
    if x == 0:
        return -mpmath.inf
    if x < 0 and x == mpmath.floor(x):
        return mpmath.nan
    return mpmath.digamma(x)


def _i0(x: Any) -> Any:
    return mpmath.besseli(0, x) if abs(x) < 800 else mpmath.inf


def _sinc(x: Any) -> Any:
    y = Long(x.dtype.type(np.pi)) * 0 + (x * x.dtype.type(np.pi)).astype(Long)  # the product that NumPy rounds
    return np.where(x == 0, Long(1), np.sin(y) / y)


ROWS: dict[str, Row] = {
    "exp": Row(mpmath.exp, -746, 711, np.exp),
    "exp2": Row(lambda x: mpmath.mpf(2) ** x, -1076, 1025, np.exp2),
    "expm1": Row(mpmath.expm1, -2, 3, np.expm1),
    "log": Row(mpmath.log, 0.5, 2, np.log),
    "log2": Row(lambda x: mpmath.log(x, 2), 0.5, 2, np.log2),
    "log10": Row(mpmath.log10, 0.5, 2, np.log10),
    "log1p": Row(mpmath.log1p, -0.9, 2, np.log1p),
    "sin": Row(mpmath.sin, -10, 10, np.sin),
    "cos": Row(mpmath.cos, -10, 10, np.cos),
    "tan": Row(mpmath.tan, -10, 10, np.tan),
    "asin": Row(mpmath.asin, -1, 1, np.arcsin),
    "acos": Row(mpmath.acos, -1, 1, np.arccos),
    "atan": Row(mpmath.atan, -3, 3, np.arctan),
    "sinh": Row(mpmath.sinh, -4, 4, np.sinh),
    "cosh": Row(mpmath.cosh, -4, 4, np.cosh),
    "tanh": Row(mpmath.tanh, -3, 3, np.tanh),
    "asinh": Row(mpmath.asinh, -3, 3, np.arcsinh),
    "acosh": Row(mpmath.acosh, 1, 4, np.arccosh),
    "atanh": Row(mpmath.atanh, -1, 1, np.arctanh),
    "cbrt": Row(lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), 0.1, 10, np.cbrt),
    "sqrt": Row(mpmath.sqrt, 0, 4, np.sqrt),
    "erf": Row(mpmath.erf, -6, 6),
    "erfc": Row(_erfc, -6, 28),
    "erfinv": Row(mpmath.erfinv, -1, 1),
    "gamma": Row(_gamma, -190, 175, bar=4.0),
    "lgamma": Row(_lgamma, -30, 30, bar=4.0),
    "digamma": Row(_digamma, -30, 30, bar=4.0),
    "i0": Row(_i0, -30, 30),
    "pow": Row(lambda x, y: mpmath.power(x, y), 0, 10, np.power),
    "hypot": Row(mpmath.hypot, -4, 4, np.hypot),
    "atan2": Row(mpmath.atan2, -4, 4, np.arctan2),
}
BINARY = {"pow", "hypot", "atan2"}
SPECIAL = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 8.0, 10.0, 100.0, 1000.0]
SPECIAL += [5e-324, 1e-310, 1e-45, 1e-40, 1e-30, 1e30, 1e38]
SPECIAL += [2.0**-1022, 2.0**-126, 1e300, 1.7976931348623157e308, 3.4028234e38, float("inf")]
SPECIAL += [-x for x in SPECIAL] + [float("nan")]


@functools.cache
def special_functions_zeros(name: str) -> list[float]:
    """The negative zeros nearest to the origin, and some far ones."""
    f = {"lgamma": _lgamma, "digamma": _digamma}[name]
    zeros = []
    for n in list(range(24)) + ([60, 100, 999, 12345] if name == "digamma" else []):
        grid = [-(n + mpmath.mpf(i) / 64) for i in range(1, 64)]
        grid = [-(n + mpmath.mpf(2) ** -k) for k in range(52, 6, -1)] + grid
        grid += [-(n + 1 - mpmath.mpf(2) ** -k) for k in range(7, 52)]
        positive = [f(x) > 0 for x in grid]
        for i in range(len(grid) - 1):
            if positive[i] != positive[i + 1]:
                x, y = grid[i], grid[i + 1]
                for _ in range(64):
                    middle = (x + y) / 2
                    x, y = (middle, y) if (f(middle) > 0) == positive[i] else (x, middle)
                zeros.append(float(x))
    return zeros


def points(name: str, dtype: DType, rng: np.random.Generator, n: int) -> Any:
    row, t = ROWS[name], dtype.np.type
    bits = rng.integers(0, 2**dtype.bits - 1, n, np.uint64).astype(f"u{dtype.itemsize}").view(dtype.np)
    parts = [
        bits,
        rng.uniform(row.lo, row.hi, n),
        rng.uniform(-1, 1, n // 2),
        np.ldexp(rng.uniform(-1, 1, n // 2), rng.integers(-30, 12, n // 2)),
        1 + rng.integers(-999, 999, n // 8) * float(np.finfo(dtype.np).eps) / 2,
        (rng.integers(-2000, 2000, n // 8) * np.pi / 4),
        np.arange(-180, 180) / 2,
        np.array(SPECIAL),
    ]
    if name in ("lgamma", "digamma"):
        zeros = np.array(special_functions_zeros(name)).astype(dtype.np)
        parts += [zeros, *(np.nextafter(zeros, t(s)) for s in (9, -99999)), zeros * t(1 + 1e-6), zeros * t(1 - 1e-4)]
    return np.concatenate([np.asarray(p).astype(dtype.np) for p in parts])


def ulps(got: Any, want: Any, dtype: DType) -> Any:
    """|got - want| in units of the last place of `want` (long double); infinite where NaN or a zero's sign differ."""
    info = np.finfo(dtype.np)
    _, exponent = np.frexp(np.where(np.isfinite(want), want, 0))
    unit = np.ldexp(Long(1), np.maximum(exponent, info.minexp + 1) - info.nmant - 1)
    limit = Long(2) ** info.maxexp
    wide = np.where(np.isinf(got), np.copysign(limit, got.astype(Long)), got.astype(Long))
    error = np.abs(wide - np.clip(want, -limit, limit)) / unit
    error = np.where(np.isnan(got) & np.isnan(want), 0, error)
    error = np.where(np.isnan(got) != np.isnan(want), np.inf, error)
    sign_differs = (want == 0) & (got == 0) & (np.signbit(want) != np.signbit(got))
    return np.where(sign_differs, np.inf, error)


def exact(name: str, *args: Any) -> Any:
    """mpmath's values as long doubles."""
    out = np.empty(len(args[0]), Long)
    f = _real(ROWS[name].exact)
    with mpmath.workprec(240):
        for i, xs in enumerate(zip(*args, strict=True)):
            if any(np.isnan(x) for x in xs):
                out[i] = np.nan
                continue
            y = f(*(float(x) for x in xs))
            if mpmath.isnan(y) or mpmath.isinf(y) or y == 0:
                out[i] = float(y)
                continue
            m, e = mpmath.frexp(y)
            out[i] = np.ldexp(Long(float(m)) + Long(float(m - float(m))), int(max(min(e, 17000), -17000)))
    return out


def check(name: str, dtype: DType, args: tuple[Any, ...], want: Any, capsys: pytest.CaptureFixture[str]) -> None:
    worst = {}
    row = ROWS[name]
    for form, target in (("fma", HOST), ("no fma", NO_FMA)):
        loop = ArrayLoop(lambda b, *xs: getattr(b, name)(*xs), [dtype] * len(args), target.lanes(dtype), target)
        errors = ulps(loop(*args), want, dtype)
        at = int(np.argmax(errors))
        worst[form] = (float(errors[at]), [float(a[at]) for a in args], float(loop(*args)[at]), float(want[at]))
    with capsys.disabled():
        print(f"\n{name:8} {dtype}  " + "  ".join(f"{k} {v[0]:.3f} ulp" for k, v in worst.items()), end=" ")
    assert all(v[0] <= row.bar for v in worst.values()), worst


@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
@pytest.mark.parametrize("name", [n for n in ROWS if n not in BINARY])
def test_unary(name: str, dtype: DType, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    row = ROWS[name]
    if row.long is None or np.finfo(Long).nmant < 63:
        x = points(name, dtype, rng, max(POINTS // 40, 300))
        want = exact(name, x)
    else:
        x = points(name, dtype, rng, POINTS)
        want = row.long(x.astype(Long))
    want = np.where((x == 0) & (want == 0), np.copysign(Long(0), x), want)  # all of them are odd where they vanish at 0
    if name == "gamma":
        want = np.where(x == 0, np.copysign(Long(np.inf), x), want)
        want = np.where(want == 0, np.where(np.floor(x) % 2 == 0, Long(0), -Long(0)), want)
    if name == "digamma":
        want = np.where(x == 0, -np.copysign(Long(np.inf), x), want)
    check(name, dtype, (x,), want, capsys)


@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
@pytest.mark.parametrize("name", sorted(BINARY))
def test_binary(name: str, dtype: DType, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    x, y = points(name, dtype, rng, POINTS), rng.permutation(points(name, dtype, rng, POINTS))
    n = len(x) // 2
    if name == "pow":  # exponents that bring x**y into range, some of them whole
        with np.errstate(all="ignore"):
            y[:n] = np.clip(rng.uniform(-1100, 1100, n) / np.log2(np.abs(x[:n]).astype(Long)), -1e30, 1e30)
        y[n // 2 : n] = np.rint(y[n // 2 : n])
    else:
        y[:n] = x[:n] * rng.uniform(-4, 4, n).astype(dtype.np)
    xs, ys = np.meshgrid(np.array(SPECIAL, dtype.np), np.array(SPECIAL, dtype.np))
    x, y = np.concatenate([x, xs.ravel()]), np.concatenate([y, ys.ravel()])
    row = ROWS[name]
    assert row.long is not None
    check(name, dtype, (x, y), row.long(x.astype(Long), y.astype(Long)), capsys)


@pytest.mark.skipif(np.finfo(Long).nmant < 63, reason="long double is no wider than float64 here")
@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row.long is not None])
def test_reference_is_exact_enough(name: str, rng: np.random.Generator) -> None:
    """The long double functions that the sweeps trust, on a sample, against mpmath."""
    args = [points(name, f64, rng, 64)[:100] for _ in range(2 if name in BINARY else 1)]
    keep = np.logical_and.reduce([np.isfinite(a) & (a != 0) for a in args])
    args = [np.abs(a[keep]) for a in args] if name == "pow" else [a[keep] for a in args]
    long = ROWS[name].long
    assert long is not None
    want = exact(name, *args)
    got = long(*(a.astype(Long) for a in args))
    usable = np.isfinite(want) & (np.abs(want) < 1e300) & (np.abs(want) > 1e-300)
    assert (np.abs(got - want)[usable] <= np.abs(want[usable]) * 2.0**-61).all()


@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
@pytest.mark.parametrize("name", ["logaddexp", "logaddexp2"])
def test_logaddexp(name: str, dtype: DType, rng: np.random.Generator) -> None:
    # as in NumPy the error is relative to the larger operand where the two terms cancel
    x = np.concatenate([rng.uniform(-800, 800, 3000), rng.uniform(-2, 2, 3000), SPECIAL]).astype(dtype.np)
    y = np.concatenate([x[:3000] + rng.uniform(-40, 40, 3000), rng.uniform(-2, 2, 3000), SPECIAL]).astype(dtype.np)
    want = getattr(np, name)(x.astype(Long), y.astype(Long))
    scale = np.maximum(np.abs(want), np.maximum(np.abs(x), np.abs(y)).astype(Long))
    for target in (HOST, NO_FMA):
        got = ArrayLoop(lambda b, v, w: getattr(b, name)(v, w), [dtype] * 2, target.lanes(dtype), target)(x, y)
        finite = np.isfinite(want) & (scale > 0)
        assert (np.abs(got - want)[finite] <= 2 * np.spacing(scale[finite].astype(dtype.np))).all()
        same = (got == want.astype(dtype.np)) | (np.isnan(got) & np.isnan(want))
        assert same[~np.isfinite(want)].all()


@pytest.mark.parametrize("dtype", [f64, f32], ids=str)
def test_sinc(dtype: DType, rng: np.random.Generator) -> None:
    x = np.concatenate([rng.uniform(-9, 9, 5000), [0.0, 1.0, 2.0, 1e-300, -0.0, 1e10]]).astype(dtype.np)
    for target in (HOST, NO_FMA):
        loop = ArrayLoop(lambda b, v: b.sinc(v), [dtype], target.lanes(dtype), target)
        assert ulps(loop(x), _sinc(x), dtype).max() <= 3


@pytest.mark.parametrize("name", sorted(ROWS))
def test_lanes_do_not_depend_on_the_width(name: str, rng: np.random.Generator) -> None:
    args = [points(name, f64, rng, 100) for _ in range(2 if name in BINARY else 1)]
    loops = [ArrayLoop(lambda b, *xs: getattr(b, name)(*xs), [f64] * len(args), w) for w in (1, 8)]
    one, eight = (loop(*args) for loop in loops)
    assert ((one.view("u8") == eight.view("u8")) | (np.isnan(one) & np.isnan(eight))).all()


def test_nothing_calls_a_maths_library() -> None:
    called = set()
    for name in ROWS:
        arity = 2 if name in BINARY else 1
        for dtype in (f64, f32):
            assembly = ArrayLoop(lambda b, *xs: getattr(b, name)(*xs), [dtype] * arity, 4, NO_FMA).assembly()
            calls = [line.split()[-1] for line in assembly.splitlines() if "\tcall" in line or "\tjmp" in line]
            called |= {c for c in calls if "stager." not in c and not c.startswith((".L", "*"))}
    assert not called


def test_every_function_is_tested() -> None:
    """A new function of the registry appears in one of the tables of these tests."""
    elsewhere = {
        "floordiv", "mod", "fmod", "nextafter", "spacing", "frexp_mantissa", "frexp_exponent", "ldexp",
        "gcd", "lcm", "ipow", "logaddexp", "logaddexp2", "sinc",
    }  # fmt: skip
    inner = {"fmod_far", "sin_huge", "cos_huge", "tan_huge", "lgamma_negative", "digamma_negative"}
    inner |= {"lgamma_scalar", "digamma_scalar", "exp_any"}
    assert set(function_names()) == (set(ROWS) - {"sqrt"}) | elsewhere | inner
