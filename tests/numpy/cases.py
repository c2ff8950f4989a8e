"""The table of the NumPy surface: (name, function, inputs). NumPy itself says what is right.

A row may carry a tolerance in ulps-like relative form where the composition rounds differently from NumPy's own code;
the default is the one that sums and products of a few elements need.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

R = np.random.default_rng(0)
NAN = float("nan")
F = R.standard_normal((4, 5))
G = R.standard_normal((4, 5))
P = np.abs(F) + 0.5
V = R.standard_normal(7)
W = R.standard_normal(3)
S = (R.standard_normal((7, 3)) * 4).astype(np.float32)
K = np.array([[3, -1, 4], [1, -5, 9]])
J = np.array([[2, 7, -1], [8, 2, 8]])
U = np.array([200, 100, 3, 255], np.uint8)
B = np.array([[True, False, True], [False, False, True]])
N = np.array([[1.0, NAN, 3.0, -2.0], [NAN, NAN, NAN, NAN], [4.0, 5.0, 0.5, NAN]])
M = R.standard_normal((3, 3)) + 3 * np.eye(3)
SPD = M @ M.T
Z = np.zeros((0, 3))
IDX = np.array([2, 0, 3, 0])
A3 = R.standard_normal((2, 3, 4))
Q = np.array([3, 1, 2, 3, 3, 0, 1])
MATS = R.standard_normal((2, 3, 3)) + 3 * np.eye(3)


class Case(NamedTuple):
    """One row."""

    name: str
    f: Callable[..., Any]
    args: tuple[Any, ...]
    rtol: float = 1e-13


def _in_place(write: Callable[..., Any]) -> Callable[..., Any]:
    """A function that writes into a copy of its first argument and returns it."""

    def f(x: Any, *rest: Any) -> Any:
        y = x.copy()
        write(y, *rest)
        return y

    return f


ROWS: list[tuple[Any, ...]] = [
    # ufuncs with several results, their keywords and their methods
    ("divmod", np.divmod, (F, P)),
    ("divmod int", lambda x, y: np.divmod(x, y), (K, J)),
    ("modf", np.modf, (F,)),
    ("frexp", np.frexp, (F,)),
    ("ldexp", lambda x: np.ldexp(x, 3), (F,)),
    ("heaviside", lambda x: np.heaviside(x, 0.5), (F,)),
    ("add where out", lambda x, y: np.add(x, y, out=np.zeros(x.shape), where=x > 0), (F, G)),
    ("add dtype", lambda x: np.add(x, x, dtype=np.float64), (S,)),
    ("multiply casting", lambda x: np.multiply(x, 2, casting="same_kind"), (S,)),
    ("add order", lambda x: np.add(x, 1.0, order="C"), (F,)),
    ("modf out", lambda x: np.modf(x, out=(np.empty(x.shape), np.empty(x.shape))), (F,)),
    ("frexp out", lambda x: np.frexp(x, np.empty(x.shape), np.empty(x.shape, np.int32)), (F,)),
    ("matmul ufunc", np.matmul, (M, M)),
    ("matmul out", lambda x: np.matmul(x, x, out=np.empty((3, 3))), (M,)),
    ("imatmul", _in_place(lambda y: y.__imatmul__(y.copy())), (M,)),
    ("vecdot", np.vecdot, (F, G)),
    ("vecdot axis", lambda x, y: np.vecdot(x, y, axis=0), (F, G)),
    ("matvec", np.matvec, (MATS, W)),
    ("vecmat", np.vecmat, (W, MATS)),
    ("add.reduce", lambda x: np.add.reduce(x), (F,)),
    ("add.reduce int8", lambda x: np.add.reduce(x), (U,)),
    ("add.reduce axes", lambda x: np.add.reduce(x, axis=(0, 1), keepdims=True, initial=2.0), (F,)),
    ("add.reduce where", lambda x: np.add.reduce(x, where=x > 0), (F,)),
    ("multiply.reduce", lambda x: np.multiply.reduce(x, axis=1), (F,)),
    ("maximum.reduce", lambda x: np.maximum.reduce(x, axis=None), (F,)),
    ("logical_and.reduce", lambda x: np.logical_and.reduce(x, axis=0), (B,)),
    ("logical_xor.reduce", lambda x: np.logical_xor.reduce(x, axis=1), (B,)),
    ("subtract.reduce", lambda x: np.subtract.reduce(x, axis=1), (F,)),
    ("divide.reduce", lambda x: np.divide.reduce(x), (P,)),
    ("subtract.reduce loop", lambda x: np.subtract.reduce(x), (np.arange(40.0),)),
    ("logaddexp.reduce", lambda x: np.logaddexp.reduce(x, axis=1), (F,)),
    ("hypot.reduce", lambda x: np.hypot.reduce(x), (F,)),
    ("gcd.reduce", lambda x: np.gcd.reduce(x * 6), (Q,)),
    ("lcm.reduce", lambda x: np.lcm.reduce(x + 1), (Q,)),
    ("bitwise_and.reduce", lambda x: np.bitwise_and.reduce(x), (U,)),
    ("bitwise_or.reduce", lambda x: np.bitwise_or.reduce(x), (U,)),
    ("bitwise_xor.reduce", lambda x: np.bitwise_xor.reduce(x, axis=1), (J,)),
    ("fmax.reduce", lambda x: np.fmax.reduce(x, axis=1), (N,)),
    ("power.reduce", lambda x: np.power.reduce(x, axis=0), (P,)),
    ("logaddexp.reduce empty", lambda x: np.logaddexp.reduce(x, axis=0), (Z,)),
    ("hypot.reduce initial", lambda x: np.hypot.reduce(x, initial=3.0), (V,)),
    ("hypot.reduce where", lambda x: np.hypot.reduce(x, where=x > 0), (V,)),
    ("add.accumulate", lambda x: np.add.accumulate(x, axis=1), (F,)),
    ("add.accumulate uint8", lambda x: np.add.accumulate(x), (U,)),
    ("maximum.accumulate", lambda x: np.maximum.accumulate(x), (V,)),
    ("minimum.accumulate", lambda x: np.minimum.accumulate(x, axis=1), (K,)),
    ("multiply.accumulate", lambda x: np.multiply.accumulate(x), (V,)),
    ("subtract.accumulate", lambda x: np.subtract.accumulate(x), (V,)),
    ("hypot.accumulate loop", lambda x: np.hypot.accumulate(x), (np.arange(30.0),)),
    ("logical_or.accumulate", lambda x: np.logical_or.accumulate(x, axis=1), (B,)),
    ("add.reduceat", lambda x: np.add.reduceat(x, [0, 3, 1, 5]), (V,)),
    ("maximum.reduceat", lambda x: np.maximum.reduceat(x, [0, 2], axis=1), (F,)),
    ("add.outer", lambda x, y: np.add.outer(x, y), (V, W)),
    ("multiply.outer", np.multiply.outer, (K, J)),
    ("less.outer", lambda x, y: np.less.outer(x, y), (V, W)),
    ("add.at", _in_place(lambda y, i: np.add.at(y, i, 1.5)), (V, IDX)),
    ("add.at array", _in_place(lambda y, i, v: np.add.at(y, i, v)), (V, IDX, F[:, 0])),
    ("subtract.at", _in_place(lambda y, i: np.subtract.at(y, i, 2.0)), (V, IDX)),
    ("multiply.at", _in_place(lambda y, i: np.multiply.at(y, i, 2)), (V, IDX)),
    ("maximum.at", _in_place(lambda y, i, v: np.maximum.at(y, i, v)), (V, IDX, F[:, 0])),
    ("minimum.at", _in_place(lambda y, i, v: np.minimum.at(y, i, v)), (V, IDX, F[:, 0])),
    ("divide.at", _in_place(lambda y, i: np.divide.at(y, i, 3.0)), (V, IDX)),
    ("negative.at", _in_place(lambda y, i: np.negative.at(y, i)), (V, IDX)),
    ("add.at 2d", _in_place(lambda y, i: np.add.at(y, (slice(None), i), 1.0)), (F, IDX)),
    ("add.at tuple", _in_place(lambda y, i: np.add.at(y, (i, i), 1.0)), (F, IDX)),
    ("add.at int", _in_place(lambda y, i: np.add.at(y, i, 3)), (Q, IDX)),
    ("add.at slice", _in_place(lambda y: np.add.at(y, slice(1, 4), 3.0)), (V,)),
    # NEP 50, overflow, bool
    ("uint8 wraps", lambda x: x + x * 3, (U,)),
    ("uint8 plus int", lambda x: x + 1, (U,)),
    ("int division", lambda x, y: x / y, (K, J)),
    ("bool plus bool", lambda x: x + x, (B,)),
    ("bool times float", lambda x: x * 2.5, (B,)),
    ("float32 scalar", lambda x: x * 2.0 + 1, (S,)),
    ("int power of array", lambda x: x ** np.abs(x), (K,)),
    ("round builtin", lambda x: (round(x[0], 1), round(x[1]) + x), (V,)),
    ("int power", lambda x: x**2, (K,)),
    ("uint8 shift", lambda x: x << 2, (U,)),
    ("negative uint8", lambda x: -x, (U,)),
    ("mixed", lambda x, y: x + y, (S, K[:1, :3])),
    ("invert", lambda x: ~x, (K,)),
    ("0-d", lambda x: x.sum() + np.float32(1), (S,), 1e-5),
    # means and spreads
    ("average", np.average, (F,)),
    ("average weights", lambda x, w: np.average(x, weights=w), (F, P)),
    ("average axis", lambda x, w: np.average(x, axis=1, weights=w), (F, P[0])),
    ("average returned", lambda x, w: np.average(x, axis=0, weights=w, returned=True), (F, P)),
    ("average int", lambda x, w: np.average(x, axis=1, weights=w, keepdims=True), (K, np.array([1, 2, 3]))),
    ("ptp", lambda x: np.ptp(x, axis=1), (F,)),
    ("mean where", lambda x: np.mean(x, where=x > 0), (F,)),
    ("var ddof", lambda x: np.var(x, axis=0, ddof=1), (F,)),
    ("std float32", lambda x: np.std(x, axis=1), (S,), 1e-5),
    ("median", np.median, (F,)),
    ("percentile", lambda x: np.percentile(x, [10, 50], axis=1), (F,)),
    ("cov", np.cov, (F,)),
    ("cov y", lambda x, y: np.cov(x, y, rowvar=False), (F, G), 1e-12),
    ("cov weights", lambda x, w: np.cov(x, aweights=w), (F, P[0]), 1e-12),
    ("cov 1d", np.cov, (V,)),
    ("corrcoef", np.corrcoef, (F,)),
    ("cov bias", lambda x: np.cov(x, bias=True), (F,)),
    # nan variants
    *[
        (f.__name__, f, (N[::2],))
        for f in (
            np.nansum,
            np.nanprod,
            np.nanmax,
            np.nanmin,
            np.nanmean,
            np.nanvar,
            np.nanstd,
            np.nancumsum,
            np.nancumprod,
            np.nanmedian,
            np.nanargmax,
            np.nanargmin,
        )
    ],
    *[
        (f.__name__ + " axis", lambda x, f=f: f(x, axis=0), (N,))
        for f in (np.nansum, np.nanprod, np.nanmean, np.nanvar, np.nancumsum)
    ],
    *[
        (f.__name__ + " rows", lambda x, f=f: f(x, axis=1, keepdims=True), (N[::2],))
        for f in (np.nanmax, np.nanmin, np.nanstd, np.nanmedian, np.nanargmax)
    ],
    ("nanvar ddof", lambda x: np.nanvar(x, axis=1, ddof=1), (N[::2],)),
    ("nanpercentile", lambda x: np.nanpercentile(x, [20, 70], axis=1), (N[::2],)),
    ("nanquantile", lambda x: np.nanquantile(x, 0.3), (N,)),
    ("nanmean int", np.nanmean, (K,)),
    ("nansum float32", np.nansum, (S,), 1e-5),
    ("nan_to_num", np.nan_to_num, (np.array([1.0, NAN, np.inf, -np.inf]),)),
    (
        "nan_to_num values",
        lambda x: np.nan_to_num(x, nan=7.0, posinf=1.0, neginf=2.0),
        (np.array([1.0, NAN, np.inf, -np.inf]),),
    ),
    # products and linalg
    ("cross", np.cross, (M, M[::-1])),
    ("cross axis", lambda x, y: np.cross(x, y, axis=0), (M, M[::-1])),
    ("kron", np.kron, (M, K)),
    ("kron 1d", np.kron, (W, M)),
    ("trace", np.trace, (F,)),
    ("trace offset", lambda x: np.trace(x, 1), (F,)),
    ("trace int8", lambda x: np.trace(x.astype(np.int8)), (K,)),
    ("trace 3d", lambda x: x.trace(axis1=1, axis2=2), (A3,)),
    ("dot", np.dot, (F, M[:, :1].repeat(5, 1).T[:5, :2])),
    ("inner", np.inner, (F, G)),
    ("vdot", np.vdot, (F, G)),
    ("einsum", lambda x, y: np.einsum("ij,kj->ik", x, y), (F, G)),
    ("linalg.norm", np.linalg.norm, (F,)),
    ("norm 1", lambda x: np.linalg.norm(x, 1), (F,)),
    ("norm inf", lambda x: np.linalg.norm(x, np.inf), (F,)),
    ("norm -1", lambda x: np.linalg.norm(x, -1), (F,)),
    ("norm fro axis", lambda x: np.linalg.norm(x, axis=(1, 2)), (A3,)),
    ("norm vector", lambda x: np.linalg.norm(x, axis=1, keepdims=True), (F,)),
    ("norm 3", lambda x: np.linalg.norm(x, 3, axis=0), (F,)),
    ("norm 0", lambda x: np.linalg.norm(x, 0), (V,)),
    ("norm vinf", lambda x: np.linalg.norm(x, -np.inf), (V,)),
    ("norm int", np.linalg.norm, (K,)),
    ("vector_norm", np.linalg.vector_norm, (F,)),
    ("matrix_norm", np.linalg.matrix_norm, (A3,)),
    ("matrix_power", lambda x: np.linalg.matrix_power(x, 5), (M,), 1e-12),
    ("matrix_power 0", lambda x: np.linalg.matrix_power(x, 0), (M,)),
    ("matrix_power -2", lambda x: np.linalg.matrix_power(x, -2), (M,), 1e-10),
    ("multi_dot", lambda x, y, z: np.linalg.multi_dot([x, y, z]), (F, G.T, F), 1e-12),
    ("det", np.linalg.det, (M,), 1e-12),
    ("det stack", np.linalg.det, (MATS,), 1e-12),
    ("slogdet", lambda x: tuple(np.linalg.slogdet(x)), (M,), 1e-12),
    ("inv", np.linalg.inv, (M,), 1e-11),
    ("inv stack", np.linalg.inv, (MATS,), 1e-11),
    ("solve", np.linalg.solve, (M, W), 1e-11),
    ("solve matrix", np.linalg.solve, (M, M.T.copy()), 1e-11),
    ("cholesky", np.linalg.cholesky, (SPD,), 1e-12),
    ("linalg.trace", np.linalg.trace, (A3,)),
    ("linalg.outer", np.linalg.outer, (V, W)),
    ("linalg.cross", np.linalg.cross, (M, M[::-1])),
    # numerics
    (
        "interp",
        lambda x, xp, fp: np.interp(x, xp, fp),
        (F, np.array([-1.0, 0.0, 0.5, 2.0]), np.array([3.0, 1.0, 2.0, -4.0])),
    ),
    (
        "interp sides",
        lambda x, xp, fp: np.interp(x, xp, fp, left=-9, right=9),
        (F, np.array([-1.0, 0.0, 0.5]), np.array([3.0, 1.0, 2.0])),
    ),
    (
        "interp period",
        lambda x, xp, fp: np.interp(x, xp, fp, period=3.0),
        (F, np.array([0.2, 1.0, 2.5]), np.array([3.0, 1.0, 2.0])),
        1e-12,
    ),
    ("sinc", np.sinc, (np.array([0.0, 1e-9, 0.3, -2.5, 1.0]),)),
    ("i0", np.i0, (np.array([0.0, 0.5, -7.9, 8.1, 20.0]),), 1e-12),
    ("unwrap", lambda x: np.unwrap(x * 3, axis=1), (F,)),
    ("unwrap int", lambda x: np.unwrap(x, period=4), (Q,)),
    ("round 2", lambda x: np.round(x, 2), (F,)),
    ("round -1", lambda x: np.around(x, -1), (F * 30,)),
    ("round int", lambda x: x.round(-1), (K * 7,)),
    ("fix", np.fix, (F * 3,)),
    ("isclose", lambda x, y: np.isclose(x, x + y * 1e-6), (F, G)),
    ("isclose nan", lambda x: np.isclose(x, x, equal_nan=True), (N,)),
    ("allclose", lambda x: np.allclose(x, x + 1e-9), (F,)),
    ("array_equal", lambda x, y: np.array_equal(x, y), (F, G)),
    ("array_equal shapes", lambda x, y: np.array_equal(x, y), (F, V)),
    ("isposinf", np.isposinf, (np.array([1.0, np.inf, -np.inf]),)),
    ("isneginf", np.isneginf, (np.array([1.0, np.inf, -np.inf]),)),
    ("isreal", np.isreal, (F,)),
    ("angle", np.angle, (F,)),
    ("real", np.real, (F,)),
    ("imag", np.imag, (F,)),
    ("conj", np.conj, (F,)),
    ("signbit", np.signbit, (F,)),
    *[(f"convolve {m}", lambda x, y, m=m: np.convolve(x, y, m), (V, W)) for m in ("full", "same", "valid")],
    *[(f"correlate {m}", lambda x, y, m=m: np.correlate(x, y, m), (V, W)) for m in ("full", "same", "valid")],
    ("correlate swapped", lambda x, y: np.correlate(x, y, "full"), (W, V)),
    ("convolve int", lambda x, y: np.convolve(x, y), (Q, Q[:2])),
    ("convolve same even", lambda x, y: np.convolve(x, y, "same"), (V, V[:4])),
    ("polyval", np.polyval, (W, F)),
    ("polyadd", np.polyadd, (V, W)),
    ("polymul", np.polymul, (V, W)),
    ("polyder", lambda p: np.polyder(p, 2), (V,)),
    ("polyint", np.polyint, (V,)),
    ("poly", np.poly, (W,)),
    ("vander", np.vander, (V,), 1e-12),
    ("vander increasing", lambda x: np.vander(x, 3, increasing=True), (Q,)),
    ("gradient", np.gradient, (V,)),
    ("trapezoid", lambda x: np.trapezoid(x, dx=0.5), (F,)),
    ("diff", lambda x: np.diff(x, 2, axis=0), (F,)),
    ("ediff1d", lambda x: np.ediff1d(x, to_end=9.0), (V,)),
    ("logaddexp", np.logaddexp, (F, G)),
    ("cumprod", lambda x: np.cumprod(x, axis=1), (F,)),
    # choices
    ("where", lambda x, y: np.where(x > y, x, 0), (F, G)),
    ("select", lambda x: np.select([x > 1, x > 0], [x, 2 * x], 7), (F,)),
    ("piecewise", lambda x: np.piecewise(x, [x < 0, x >= 0], [lambda v: -v, 3.0]), (F,)),
    ("piecewise otherwise", lambda x: np.piecewise(x, [x > 1], [lambda v: v * 2, lambda v: v - 1]), (V,)),
    ("choose", lambda i, x: np.choose(i, [x, -x, x * 2]), (np.array([0, 2, 1]), W)),
    ("choose clip", lambda i, x: np.choose(i, (x, -x), mode="clip"), (np.array([0, 5, -1]), W)),
    ("clip", lambda x: np.clip(x, -0.5, 0.5), (F,)),
    ("clip arrays", lambda x, y: x.clip(min=y), (F, G)),
    ("copyto", _in_place(lambda y: np.copyto(y, 3.0, where=y > 0)), (F,)),
    ("place", _in_place(lambda y: np.place(y, y > 0, [1.0, 2.0, 3.0])), (F,)),
    ("putmask", _in_place(lambda y: np.putmask(y, y > 0, np.array([1.0, 2.0, 3.0]))), (F,)),
    ("put", _in_place(lambda y, i: np.put(y, i, [9.0, 8.0])), (F, IDX)),
    ("put wrap", _in_place(lambda y: np.put(y, [25, -3], 1.0, mode="wrap")), (F,)),
    ("put clip", _in_place(lambda y: y.put([25, -3], 1.0, mode="clip")), (F,)),
    ("fill_diagonal", _in_place(lambda y: np.fill_diagonal(y, 7)), (F,)),
    ("fill_diagonal tall", _in_place(lambda y: np.fill_diagonal(y, 7, wrap=True)), (R.standard_normal((8, 3)),)),
    ("fill_diagonal list", _in_place(lambda y: np.fill_diagonal(y, [1.0, 2.0])), (F,)),
    ("fill", _in_place(lambda y: y.fill(4)), (F,)),
    (
        "put_along_axis",
        _in_place(lambda y, i: np.put_along_axis(y, i, -1.0, axis=1)),
        (F, np.array([[1], [0], [4], [2]])),
    ),
    ("take_along_axis", lambda x: np.take_along_axis(x, np.argsort(x, axis=1), axis=1), (F,)),
    # masks
    ("mask read", lambda x: x[x > 0], (F,)),
    ("mask read rows", lambda x, m: x[m], (F, np.array([True, False, True, True]))),
    ("nonzero", np.nonzero, (B,)),
    ("nonzero method", lambda x: x.nonzero(), (K,)),
    ("flatnonzero", np.flatnonzero, (V > 0,)),
    ("argwhere", np.argwhere, (F > 0,)),
    ("where 1", lambda x: np.where(x > 0), (F,)),
    ("extract", lambda x: np.extract(x > 0, x), (F,)),
    ("compress", lambda x: np.compress([True, False, True], x, axis=1), (F,)),
    ("two masks", lambda x, y: x[x > 0] * y[x > 0], (F, G)),
    ("mask sum", lambda x: x[x > 0].sum(), (F,)),
    ("mask write", _in_place(lambda y: y.__setitem__(y > 0, 0.0)), (F,)),
    ("mask write array", _in_place(lambda y: y.__setitem__(y > 0, y[y > 0] * 2)), (F,)),
    ("mask iadd", _in_place(lambda y: y.__setitem__(y > 0, y[y > 0] + 1)), (F,)),
    ("static mask", lambda x: x[np.array([True, False, True, False])], (F,)),
    ("mask write static", _in_place(lambda y: y.__setitem__(np.eye(4, 5, dtype=bool), [1.0, 2.0, 3.0, 4.0])), (F,)),
    ("mask none", lambda x: x[x > 100], (F,)),
    ("mask and column", lambda x, m: x[m, 1], (F, np.array([True, False, True, True]))),
    ("unique", np.unique, (Q,)),
    ("unique all", lambda x: np.unique(x, return_index=True, return_inverse=True, return_counts=True), (Q,)),
    ("isin", lambda x: np.isin(x, [1, 3]), (Q,)),
    ("isin float", lambda x, y: np.isin(x, y, invert=True), (V, V[::2].copy())),
    ("union1d", np.union1d, (Q, K)),
    ("intersect1d", np.intersect1d, (Q, J)),
    ("setdiff1d", np.setdiff1d, (Q, J)),
    ("setxor1d", np.setxor1d, (Q, J)),
    # creation
    ("zeros_like shape", lambda x: np.zeros_like(x, shape=(2, 2)) + x[0, 0], (F,)),
    ("full_like", lambda x: np.full_like(x, 3), (S,)),
    ("full", lambda x: np.full((2, 3), x[0]), (V,)),
    ("array list", lambda x: np.array([x[0], 1, x[1]]), (V,)),
    ("array nested", lambda x: np.array([[x[0], 2], [3, x[1]]]), (Q,)),
    ("arange float", lambda x: np.arange(0.0, 1.0, 0.1) + x[0], (V,)),
    ("linspace", lambda x: np.linspace(x[0], x[1], 5), (V,)),
    ("eye", lambda x: np.eye(3, 4, 1) * x[0], (V,)),
    ("identity", lambda x: np.identity(3) @ x, (M,)),
    ("diag 1d", np.diag, (W,)),
    ("diag offset", lambda x: np.diag(x, -2), (W,)),
    ("diag 2d", lambda x: np.diag(x, 1), (F,)),
    ("diagflat", lambda x: np.diagflat(x, 1), (K,)),
    ("tril", np.tril, (F,)),
    ("tri", lambda x: np.tri(3) * x[0], (V,)),
    ("meshgrid", lambda x, y: np.meshgrid(x, y), (V, W)),
    ("mgrid", lambda x: np.mgrid[0:2, 0:3] + x[0], (V,)),
    ("ogrid", lambda x: np.ogrid[0:3][0] + x[0] if isinstance(np.ogrid[0:3], tuple) else np.ogrid[0:3] + x[0], (V,)),
    ("indices", lambda x: np.indices((2, 3))[1] * x[0], (V,)),
    ("fromfunction", lambda x: np.fromfunction(lambda i, j: i + j, (2, 3)) + x[0], (V,)),
    ("float32 constructor", lambda x: np.float32(x[0]) * 2, (V,)),
    ("int64 constructor", lambda x: np.int64(x[0]), (V,)),
    ("math", lambda x: math.sqrt(abs(x[0])) + math.floor(x[1]), (V,), 1e-12),
    ("ascontiguousarray", lambda x: np.ascontiguousarray(x.T), (F,)),
    ("asfortranarray", np.asfortranarray, (F,)),
    ("asarray dtype", lambda x: np.asarray(x, dtype=np.float32), (F,)),
    ("copy", np.copy, (F,)),
    ("r_", lambda x: np.r_[x, 1.0, x[:2]], (V,)),
    ("c_", lambda x: np.c_[x, x], (V,)),
    ("loop over arange", lambda x: sum([x[i] for i in np.arange(3)]), (V,)),
    ("array as shape", lambda x: x.reshape(np.array([5, 4])), (F,)),
    ("tuple of array as shape", lambda x: x.reshape(tuple(np.array([2, 10]))), (F,)),
    ("list by arange", lambda x: [x[0], x[1], x[2]][np.arange(3)[1]], (V,)),
    ("shape arithmetic", lambda x: np.zeros(np.prod(x.shape)) + x[0, 0], (F,)),
    ("len of arange", lambda x: x[: len(np.arange(2))], (V,)),
    # shapes
    ("resize", lambda x: np.resize(x, (3, 4)), (V,)),
    ("tile", lambda x: np.tile(x, (2, 2)), (W,)),
    ("repeat", lambda x: np.repeat(x, 3, axis=1), (K,)),
    ("repeat counts", lambda x: np.repeat(x, [1, 0, 2]), (W,)),
    ("roll", lambda x: np.roll(x, 2, axis=1), (F,)),
    ("rot90", np.rot90, (F,)),
    ("pad", lambda x: np.pad(x, 2, mode="reflect"), (F,)),
    ("unstack", lambda x: np.unstack(x, axis=1), (K,)),
    ("ix_", lambda x, i: x[np.ix_(i, [0, 2])], (F, IDX)),
    ("unravel_index", lambda i: np.unravel_index(i, (2, 3)), (IDX,)),
    ("ravel_multi_index", lambda i, j: np.ravel_multi_index((i, j), (4, 5)), (IDX, IDX)),
    ("triu_indices_from", lambda x: x[np.triu_indices_from(x)], (M,)),
    ("tril_indices", lambda x: x[np.tril_indices(3)], (M,)),
    ("apply_along_axis", lambda x: np.apply_along_axis(lambda v: v / v.sum(), 1, x), (P,)),
    ("apply_over_axes", lambda x: np.apply_over_axes(np.sum, x, [0, 2]), (A3,)),
    ("histogram", lambda x: np.histogram(x, 4, (-1.0, 1.0)), (V,)),
    ("histogram2d", lambda x, y: np.histogram2d(x, y, 3, [[-1, 1], [-2, 2]]), (V, V[::-1].copy())),
    ("bincount", lambda x: np.bincount(x, minlength=5), (Q,)),
    ("digitize", lambda x: np.digitize(x, [-1.0, 0.0, 1.0]), (F,)),
    ("flat read", lambda x: x.T.flat[3], (F,)),
    ("flat slice", lambda x: x.T.flat[2:7], (F,)),
    ("flat write", _in_place(lambda y: y.flat.__setitem__(slice(1, None, 3), 0.0)), (F,)),
    ("flat assign", _in_place(lambda y: setattr(y, "flat", 2.0)), (F,)),
    ("argpartition", lambda x: np.sort(np.partition(x, 2)[:3]), (V,)),
    ("sort in place", _in_place(lambda y: y.sort(axis=0)), (F,)),
    ("partition in place", lambda x: (lambda y: (y.partition(3), y[3])[1])(x.copy()), (V,)),
    ("lexsort", lambda x, y: np.lexsort((x, y)), (Q, Q[::-1].copy())),
    ("searchsorted", lambda x: np.searchsorted(np.sort(x), x), (V,)),
    ("view", lambda x: x.view(), (F,)),
    ("flags", lambda x: x.T.flags.c_contiguous, (F,)),
    ("strides", lambda x: x.T.strides, (F,)),
    (
        "queries",
        lambda x: (
            np.ndim(x),
            np.shape(x),
            np.size(x, 1),
            np.isscalar(x),
            np.iterable(x),
            np.result_type(x, 1).name,
            np.can_cast(x.dtype, np.float32),
            np.iscomplexobj(x),
        ),
        (F,),
    ),
    ("finfo", lambda x: x * np.finfo(x.dtype).eps, (S,)),
    ("astype", lambda x: np.astype(x, np.int32), (F,)),
    ("nbytes", lambda x: (x.nbytes, x.itemsize, x.ndim), (S,)),
    # empty and 0-d
    ("sum empty", lambda x: x.sum(axis=0), (Z,)),
    ("concatenate empty", lambda x: np.concatenate([x, x]), (Z,)),
    ("sort empty", lambda x: np.sort(x, axis=0), (Z,)),
    ("mean of 0-d", lambda x: np.mean(x[0]), (V,)),
    ("nonzero empty", lambda x: np.nonzero(x.ravel()), (Z,)),
    ("cumsum empty", lambda x: np.cumsum(x), (Z,)),
    ("any empty", lambda x: (x.any(), x.all()), (Z,)),
    ("dot empty", lambda x: x.T @ x, (Z,)),
    ("unique empty", lambda x: np.unique(x), (Z,)),
]

CASES = [Case(*row) for row in ROWS]
