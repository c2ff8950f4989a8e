"""The functions of `math` on traced values: float64 in, a traced Python float out.

Each answers as the original does when nothing traced is among its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from stager.array import as_array, wrap
from stager.capture.comprehensions import all_of
from stager.capture.row_lists import ROWS, rows_in
from stager.capture.scalars import of_tracers, scalar, weakly
from stager.capture.session import TRACERS, holds_tracer
from stager.capture.table import SUBSTITUTES
from stager.numpy.creation import array
from stager.ops.control import for_loop
from stager.ops.regions import dim_value
from stager.transforms.stops import stop_gradient

_SUMPROD: Any = getattr(math, "sumprod", None)  # since Python 3.12


def install() -> None:
    """Fill the table of substitutes."""
    for name, traced in _MATH.items():
        original = getattr(math, name, None)
        if original is not None:
            SUBSTITUTES[original] = of_tracers(original, traced)
    for original, stand_in in ((math.fsum, fsum), (math.dist, dist), (math.frexp, frexp), (_SUMPROD, _sumprod)):
        if original is not None:
            SUBSTITUTES[original] = stand_in


def _rounded(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: weakly(f(scalar(x)).astype(np.int64))


def _real(f: Callable[..., Any]) -> Callable[..., Any]:
    """A `math` function: float64 in, Python float out."""

    def of(*args: Any) -> Any:
        return weakly(f(*[scalar(a).astype(np.float64) if type(a) in TRACERS else float(a) for a in args]))

    return of


def _special(name: str) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        from stager.array import raw, wrap
        from stager.ops import elementwise

        return wrap(getattr(elementwise, name)(raw(x)))

    return call


def _hypot(*xs: Any) -> Any:
    return np.hypot(*xs) if len(xs) == 2 else _length(np.stack(xs))


def _length(x: Any) -> Any:
    """The Euclidean norm of a vector; its squares neither overflow nor vanish."""
    most = stop_gradient(np.max(np.abs(x), initial=0.0))
    scale = np.where((most > 0.0) & np.isfinite(most), most, 1.0)
    return scale * np.linalg.norm(x / scale)


def _ulp(x: Any) -> Any:
    size = np.abs(x)
    above = np.nextafter(size, np.inf) - size
    return np.where(np.isfinite(above), above, size - np.nextafter(size, 0.0))


def _holds(*xs: Any) -> bool:
    return any(type(x) in ROWS or holds_tracer(x, 1) for x in xs)


def _vector(xs: Any) -> Any:
    """The numbers of a sequence as a vector of float64."""
    xs = rows_in(xs).joined() if type(xs) in ROWS else xs
    return as_array(array(xs if type(xs) in TRACERS else list(xs), dtype=np.float64))


def _remainder(x: Any, y: Any) -> Any:
    """The IEEE 754 remainder: x less the nearest multiple of y, the even one of two that are equally near. Exact."""
    size, divisor = np.abs(x), np.abs(y)
    above = np.fmod(size, divisor)  # beyond the multiple below
    below = divisor - above
    even = above - 2.0 * np.fmod(0.5 * (size - above), divisor)
    return np.where(x < 0, -1.0, 1.0) * np.where(above < below, above, np.where(above > below, -below, even))


def fsum(xs: Any, /) -> Any:
    """`math.fsum`: the sum, and what the rounding of a running sum lost (Neumaier 1974)."""
    xs = all_of(xs)
    if not _holds(xs):
        return math.fsum(xs)
    items = _vector(xs)

    def body(k: Any, *before: Any) -> list[Any]:
        total: Any = wrap(before[0])
        lost: Any = wrap(before[1])
        v: Any = items[wrap(k)]
        after = total + v
        lost = lost + np.where(np.abs(total) >= np.abs(v), (total - after) + v, (v - after) + total)
        return [as_array(after).raw(), as_array(lost).raw()]

    zero = as_array(np.float64(0.0)).raw()
    last: list[Any] = [wrap(x) for x in for_loop(0, dim_value(items.shape[0]), [zero, zero], body)]
    plain: Any = np.sum(items)
    return weakly(plain + stop_gradient(np.where(np.isfinite(plain), (last[0] + last[1]) - plain, 0.0)))


def _sumprod(p: Any, q: Any, /) -> Any:
    p, q = all_of(p), all_of(q)
    return fsum([a * b for a, b in zip(p, q, strict=True)]) if _holds(p, q) else _SUMPROD(p, q)


def dist(p: Any, q: Any, /) -> Any:
    """`math.dist`: the distance of two points."""
    p, q = all_of(p), all_of(q)
    if not _holds(p, q):
        return math.dist(p, q)
    one, other = _vector(p), _vector(q)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError("both points must have the same number of dimensions")
    return weakly(_length(one - other))


def frexp(x: Any, /) -> Any:
    """`math.frexp`: mantissa and exponent."""
    if type(x) not in TRACERS:
        return math.frexp(x)
    mantissa, exponent = np.frexp(scalar(x).astype(np.float64))
    return weakly(mantissa), weakly(exponent.astype(np.int64))


_MATH: dict[str, Callable[..., Any]] = {
    **{
        name: _real(getattr(np, numpy_name))
        for name, numpy_name in {
            "sqrt": "sqrt", "cbrt": "cbrt", "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log1p": "log1p",
            "log2": "log2", "log10": "log10", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "arcsin",
            "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
            "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "fabs": "abs", "copysign": "copysign",
            "fmod": "fmod", "pow": "power", "degrees": "degrees", "radians": "radians", "nextafter": "nextafter",
        }.items()
    },
    **{name: _real(_special(name)) for name in ("erf", "erfc", "gamma", "lgamma")},
    "log": lambda x, base=None: _real(np.log)(x) if base is None else _real(np.log)(x) / math_log(base),
    "ldexp": _real(lambda x, n: x * np.exp2(n)),
    "hypot": _real(_hypot),
    "remainder": _real(_remainder),
    "modf": lambda x: (_real(lambda y: np.modf(y)[0])(x), _real(np.trunc)(x)),
    "ulp": _real(_ulp),
    "floor": _rounded(np.floor),
    "ceil": _rounded(np.ceil),
    "trunc": _rounded(np.trunc),
    "isnan": lambda x: np.isnan(scalar(x)),
    "isinf": lambda x: np.isinf(scalar(x)),
    "isfinite": lambda x: np.isfinite(scalar(x)),
    "isclose": lambda a, b, *, rel_tol=1e-9, abs_tol=0.0: (
        np.abs(a - b) <= np.maximum(rel_tol * np.maximum(np.abs(a), np.abs(b)), abs_tol)
    ),
}  # fmt: skip


def math_log(x: Any) -> Any:
    """`math.log` of a traced or plain number."""
    return _real(np.log)(x) if type(x) in TRACERS else math.log(x)
