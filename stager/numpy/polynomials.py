"""Polynomials by their coefficients (highest power first), Vandermonde matrices, and the Bessel function i0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stager.array import wrap
from stager.capture.session import holds_tracer
from stager.capture.table import substitute
from stager.interpreters.stack import stack
from stager.interpreters.vmap import VmapInterpreter
from stager.ir.dims import Dim, Expr, dim_max
from stager.numpy.comparisons import dynamic
from stager.numpy.creation_ranges import arange
from stager.numpy.promotion import result_dtype
from stager.numpy.registry import implements
from stager.ops.effects import check
from stager.ops.families import full
from stager.symbols import size_number

# Chebyshev coefficients of exp(-x) i0(x) on [0, 8] and of exp(-x) sqrt(x) i0(x) on [8, inf] (Clenshaw, 1962).
_I0_NEAR = (
    -4.4153416464793395e-18,
    3.3307945188222384e-17,
    -2.431279846547955e-16,
    1.715391285555133e-15,
    -1.1685332877993451e-14,
    7.676185498604936e-14,
    -4.856446783111929e-13,
    2.95505266312964e-12,
    -1.726826291441556e-11,
    9.675809035373237e-11,
    -5.189795601635263e-10,
    2.6598237246823866e-09,
    -1.300025009986248e-08,
    6.046995022541919e-08,
    -2.670793853940612e-07,
    1.1173875391201037e-06,
    -4.4167383584587505e-06,
    1.6448448070728896e-05,
    -5.754195010082104e-05,
    0.00018850288509584165,
    -0.0005763755745385824,
    0.0016394756169413357,
    -0.004324309995050576,
    0.010546460394594998,
    -0.02373741480589947,
    0.04930528423967071,
    -0.09490109704804764,
    0.17162090152220877,
    -0.3046826723431984,
    0.6767952744094761,
)
_I0_FAR = (
    -7.233180487874754e-18,
    -4.830504485944182e-18,
    4.46562142029676e-17,
    3.461222867697461e-17,
    -2.8276239805165836e-16,
    -3.425485619677219e-16,
    1.7725601330565263e-15,
    3.8116806693526224e-15,
    -9.554846698828307e-15,
    -4.150569347287222e-14,
    1.54008621752141e-14,
    3.8527783827421426e-13,
    7.180124451383666e-13,
    -1.7941785315068062e-12,
    -1.3215811840447713e-11,
    -3.1499165279632416e-11,
    1.1889147107846439e-11,
    4.94060238822497e-10,
    3.3962320257083865e-09,
    2.266668990498178e-08,
    2.0489185894690638e-07,
    2.8913705208347567e-06,
    6.889758346916825e-05,
    0.0033691164782556943,
    0.8044904110141088,
)


@implements(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    """p at x, by Horner's scheme."""
    c, at = dynamic(p), dynamic(x)
    n = c.type.shape[0]
    if not isinstance(n, int):
        import stager as st

        return st.fori_loop(0, n, lambda k, y: y * at + c[k], wrap(full(at.type.shape, 0, result_dtype(c, at))))
    y = wrap(full(at.type.shape, 0, at.type.dtype))
    for k in range(n):
        y = y * at + c[k]
    return y


@implements(np.polyadd)
def polyadd(a1: Any, a2: Any) -> Any:
    """Sum of two polynomials."""
    return _combined(np.add, a1, a2)


@implements(np.polysub)
def polysub(a1: Any, a2: Any) -> Any:
    """Difference of two polynomials."""
    return _combined(np.subtract, a1, a2)


def _combined(f: Any, a1: Any, a2: Any) -> Any:
    given: list[Any] = [np.atleast_1d(dynamic(x)) for x in (a1, a2)]
    a, b = given
    if isinstance(a.type.shape[0], Expr) or isinstance(b.type.shape[0], Expr):
        n = dim_max(a.type.shape[0], b.type.shape[0])
        return f(*[_extended(x, n) for x in (a, b)])
    n = max(a.shape[0], b.shape[0])
    a, b = [x if x.shape[0] == n else np.concatenate([np.zeros(n - x.shape[0], x.dtype), x]) for x in (a, b)]
    return f(a, b)


def _extended(x: Any, n: Dim) -> Any:
    """The coefficients behind as many zeros as make them n."""
    out = wrap(full((n,), 0, x.type.dtype))
    out[n - x.type.shape[0] :] = x  # type: ignore[index]
    return out


@implements(np.polymul)
def polymul(a1: Any, a2: Any) -> Any:
    """Product of two polynomials, whose leading coefficients that are 0 count for nothing: data say how many there are.

    Under vmap lanes have as many each as the others: ValueError where a leading coefficient of a traced one is 0.
    """
    (a, skipped), (b, left_out) = [_counted(p) for p in (a1, a2)]
    if skipped is None and left_out is None:
        return np.convolve(a, b)
    skipped, left_out = [0 if k is None else k for k in (skipped, left_out)]
    n, m = a.type.shape[0], b.type.shape[0]
    beside = wrap(full((n - 1,), 0, b.type.dtype)), wrap(full((n - 1,), False, result_dtype(np.True_)))
    shown, there = [
        sliding_window_view(np.concatenate([z, x, z]), n)[:, ::-1]
        for z, x in zip(beside, (b, arange(m) >= left_out), strict=True)
    ]  # at [k, j]: of element k - j
    zero = result_dtype(a, b).np.type(0)  # in place of products with what counts for nothing: 0 * inf is no 0
    return np.where(there & (arange(n) >= skipped), a * shown, zero).sum(1, dtype=zero.dtype)[skipped + left_out :]


def _counted(p: Any) -> tuple[Any, Any]:
    """(coefficients, how many of them to leave out): those before the first one that is not 0, but not the last one.
    None where the first one is known to count."""
    if not holds_tracer(p):
        kept = np.trim_zeros(np.atleast_1d(p), "f")
        return dynamic(kept if kept.size else np.zeros(1, kept.dtype)), None
    a: Any = np.atleast_1d(dynamic(p))
    n = a.type.shape[0]
    if isinstance(n, int) and n < 2:
        return a if n else dynamic(np.zeros(1, a.dtype)), None
    if any(isinstance(level, VmapInterpreter) for level in stack().levels):
        leads: Any = a[0] != 0
        text = "np.polymul: a leading coefficient is 0, which makes products of different lengths under vmap"
        check(leads.raw(), exception="ValueError", text=text)
        return a, None
    return a, np.argmax(np.concatenate([a[:-1] != 0, np.ones(1, bool)]))


@implements(np.polydiv)
def polydiv(u: Any, v: Any) -> Any:
    """Quotient and remainder of two polynomials; leading coefficients of the remainder that are near 0 are left out."""
    a, b = np.atleast_1d(dynamic(u)) + 0.0, np.atleast_1d(dynamic(v)) + 0.0
    d, degree, divisor = result_dtype(a, b).np, a.shape[0] - 1, b.shape[0] - 1
    scale = 1.0 / b[0]
    q: Any = wrap(full((max(degree - divisor + 1, 1),), 0, result_dtype(a, b)))
    r: Any = a.astype(d)
    for k in range(degree - divisor + 1):
        q[k] = scale * r[k]
        r[k : k + divisor + 1] -= scale * r[k] * b
    far = np.concatenate([~(np.abs(r[:-1]) <= 1e-8), np.ones(1, bool)])  # NaN is not near 0
    return q, r[np.argmax(far) :]


@implements(np.polyder)
def polyder(p: Any, m: int = 1) -> Any:
    """m-th derivative of a polynomial."""
    m = m.__index__()
    if m < 0:
        raise ValueError("Order of derivative must be positive (see polyint)")
    c = dynamic(p)
    for _ in range(m):
        n = c.type.shape[0] - 1
        c = c[:-1] * (size_number(n) - arange(dim_max(n, 0)))
    return c


@implements(np.polyint)
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """m-th antiderivative of a polynomial, with integration constants k."""
    m = m.__index__()
    if m < 0:
        raise ValueError("Order of integral must be positive (see polyder)")
    constants = dynamic(np.zeros(m) if k is None else k).reshape(-1).astype(float)
    if constants.shape[0] == 1 and m > 1:
        constants = np.broadcast_to(constants, (m,))
    if constants.shape[0] < m:
        raise ValueError("k must be a scalar or a rank-1 array of length 1 or >m.")
    c = dynamic(p)
    for i in range(m):
        c = np.concatenate([c / (size_number(c.type.shape[0]) - arange(c.type.shape[0])), constants[i : i + 1]])
    return c


@implements(np.poly)
def poly(seq_of_zeros: Any) -> Any:
    """The monic polynomial with the given zeros."""
    zeros: Any = np.atleast_1d(dynamic(seq_of_zeros))
    if zeros.ndim != 1:
        from stager.errors import UnsupportedError, describe

        raise UnsupportedError(
            describe("np.poly of a matrix needs its eigenvalues, which is not supported on traced arrays")
        )
    count = zeros.type.shape[0]
    if not isinstance(count, int):
        return _by_factors(zeros, count)
    c: Any = dynamic(np.ones(1, zeros.dtype))
    for i in range(zeros.shape[0]):
        c = np.convolve(c, np.stack([dynamic(zeros.dtype.type(1)), -zeros[i]]))
    return c


@substitute(np.poly)
def _poly(seq_of_zeros: Any) -> Any:
    """`np.poly` in converted code: its dispatcher would walk over the zeros, and so ask for their number."""
    return poly(seq_of_zeros) if holds_tracer(seq_of_zeros) else np.poly(seq_of_zeros)


def _by_factors(zeros: Any, count: Dim) -> Any:
    """The product of the factors x - z, one after the other: each moves the coefficients by one and subtracts."""
    import stager as st

    def times(i: Any, c: Any) -> Any:
        c[1:] -= zeros[i] * c[:-1]
        return c

    c = wrap(full((count + 1,), 0, zeros.type.dtype))
    c[0] = 1  # type: ignore[index]
    return st.fori_loop(0, count, times, c)


@implements(np.polyfit)
def polyfit(x: Any, y: Any, deg: Any, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False) -> Any:
    """The polynomial of least squared error. Nothing warns where the points do not determine it."""
    order = int(deg) + 1
    at, values = dynamic(x) + 0.0, dynamic(y) + 0.0
    if order < 1:
        raise ValueError("expected deg >= 0")
    if at.ndim != 1:
        raise TypeError("expected 1D vector for x")
    if at.type.size == 0:
        raise TypeError("expected non-empty vector for x")
    if values.ndim < 1 or values.ndim > 2:
        raise TypeError("expected 1D or 2D array for y")
    if at.shape[0] != values.shape[0]:
        raise TypeError("expected x and y to have same length")
    count = size_number(at.type.shape[0])
    rcond = count * np.finfo(at.dtype).eps if rcond is None else rcond
    left: Any = vander(at, order)
    right = values
    if w is not None:
        weights = dynamic(w) + 0.0
        if weights.ndim != 1:
            raise TypeError("expected a 1-d array for weights")
        if weights.shape[0] != values.shape[0]:
            raise TypeError("expected w and y to have the same length")
        left = left * weights[:, None]
        right = values * (weights if values.ndim == 1 else weights[:, None])
    scale = np.sqrt((left * left).sum(axis=0))
    left = left / scale
    scaled, missed, rank, s = np.linalg.lstsq(left, right, rcond)
    c = (scaled.T / scale).T
    if full:
        return c, missed, rank, s, rcond
    if not cov:
        return c
    spread = np.linalg.inv(left.T @ left) / np.outer(scale, scale)
    if cov == "unscaled":
        factor: Any = 1.0
    else:
        if at.shape[0] <= order:
            raise ValueError("the number of data points must exceed order to scale the covariance matrix")
        factor = np.sum((right - left @ scaled) ** 2, axis=0) / (count - order)
    return c, spread * factor if values.ndim == 1 else spread[:, :, None] * factor


@implements(np.vander)
def vander(x: Any, N: Any = None, increasing: bool = False) -> Any:
    """Rows of powers of x."""
    a = dynamic(x)
    if a.ndim != 1:
        raise ValueError("x must be a one-dimensional array or sequence.")
    n = a.type.shape[0] if N is None else N.__index__()
    d = np.promote_types(a.dtype, int)
    a = a.astype(d)
    if not isinstance(n, int):
        powers: Any = wrap(full((a.type.shape[0], n), 1, a.type.dtype))
        powers[:, 1:] = np.cumprod(np.broadcast_to(a[:, None], (a.type.shape[0], n - 1)), axis=1)
        return powers if increasing else np.flip(powers, 1)
    columns = [wrap(full(a.type.shape, 1, a.type.dtype))]
    for _ in range(1, n):
        columns.append(columns[-1] * a)
    if n == 0:
        return wrap(full((a.type.shape[0], 0), 1, a.type.dtype))
    return np.stack(columns if increasing else columns[::-1], axis=1)


def _chebyshev(x: Any, coefficients: tuple[float, ...]) -> Any:
    b0: Any = coefficients[0]
    b1: Any = 0.0
    b2: Any = 0.0
    for c in coefficients[1:]:
        b2 = b1
        b1 = b0
        b0 = x * b1 - b2 + c
    return 0.5 * (b0 - b2)


@implements(np.i0)
def i0(x: Any) -> Any:
    """The modified Bessel function of the first kind, order 0."""
    a = dynamic(x)
    a = a if a.type.dtype.is_float else a.astype(result_dtype(a, 0.0).np)
    a = np.abs(a)
    far = a > 8.0
    near_at, far_at = np.where(far, 1.0, a), np.where(far, a, 9.0)
    near = np.exp(near_at) * _chebyshev(near_at / 2.0 - 2.0, _I0_NEAR)
    away = np.exp(far_at) * _chebyshev(32.0 / far_at - 2.0, _I0_FAR) / np.sqrt(far_at)
    return np.where(far, away, near)
