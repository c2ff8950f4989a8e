"""The float part of the surface under derivatives and vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st

R = np.random.default_rng(3)
F = R.standard_normal((3, 4))
V = R.standard_normal(6)
W = R.standard_normal(3)
M = R.standard_normal((3, 3)) + 3 * np.eye(3)
HOLES = np.where(R.random((3, 4)) < 0.3, np.nan, 0.0)


def _at(y: Any) -> Any:
    out = y * 1.0
    np.add.at(out, np.array([0, 2, 0]), y[:3] ** 2)
    np.multiply.at(out, np.array([1, 1]), y[:2])
    return out


def _masked(y: Any) -> Any:
    out = y * 1.0
    out[np.array([True, False, True, True, False, False])] = y[:3] ** 2
    return out


SMOOTH: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "average": (lambda x, w: np.average(x, axis=1, weights=w**2), (F, F[0])),
    "cov": (np.cov, (F,)),
    "corrcoef": (np.corrcoef, (F,)),
    "ptp": (lambda x: np.ptp(x, axis=1), (F,)),
    "nanmean": (lambda x: np.nanmean(x + HOLES, axis=0), (F,)),
    "nanvar": (lambda x: np.nanvar(x + HOLES, axis=1), (F,)),
    "nanmax": (lambda x: np.nanmax(x + HOLES, axis=1), (F,)),
    "nanmedian": (lambda x: np.nanmedian(x + HOLES), (F,)),
    "kron": (np.kron, (W, M)),
    "cross": (np.cross, (M, M[::-1].copy())),
    "trace": (np.trace, (F,)),
    "norm": (np.linalg.norm, (F,)),
    "norm 3": (lambda x: np.linalg.norm(x, 3, axis=0), (F,)),
    "matrix_power": (lambda x: np.linalg.matrix_power(x, 3), (M,)),
    "multi_dot": (lambda x, y: np.linalg.multi_dot([x, y, x]), (M, M.T.copy())),
    "det": (np.linalg.det, (M,)),
    "inv": (np.linalg.inv, (M,)),
    "solve": (np.linalg.solve, (M, W)),
    "cholesky": (lambda x: np.linalg.cholesky(x @ x.T), (M,)),
    "interp": (lambda x, fp: np.interp(x, np.array([-1.0, 0.0, 0.5, 2.0]), fp), (F, F[0])),
    "interp all": (np.interp, (F, np.array([-1.0, 0.0, 0.5, 2.0]), F[0])),
    "sinc": (np.sinc, (np.array([0.0, 0.3, -1.7]),)),
    "convolve": (np.convolve, (V, W)),
    "correlate": (lambda x, y: np.correlate(x, y, "same"), (V, W)),
    "polyval": (np.polyval, (W, V)),
    "vander": (np.vander, (W,)),
    "i0": (np.i0, (V,)),
    "select": (lambda x: np.select([x > 1, x > 0], [x**2, 2 * x], -x), (F,)),
    "choose": (lambda x: np.choose(np.array([0, 1, 0, 1, 1, 0]), [x, x**2]), (V,)),
    "logaddexp.reduce": (lambda x: np.logaddexp.reduce(x, axis=1), (F,)),
    "hypot.reduce": (lambda x: np.hypot.reduce(x), (V,)),
    "multiply.outer": (np.multiply.outer, (V, W)),
    "maximum.accumulate": (lambda x: np.maximum.accumulate(x), (V,)),
    "add.reduceat": (lambda x: np.add.reduceat(x, [0, 2, 3]) ** 2, (V,)),
    "ufunc.at": (_at, (V,)),
    "masked write": (_masked, (V,)),
    "mask read": (lambda x: x[np.array([True, False, True, True, False, False])] ** 2, (V,)),
    "data mask": (lambda x: x[x > 0] ** 2, (V,)),
    "vecdot": (np.vecdot, (F, F[::-1].copy())),
    "r_": (lambda x: np.r_[x, 1.0, x[:2] ** 2], (V,)),
    "diag": (lambda x: np.diag(x**2, 1), (V,)),
    "flat": (lambda x: x.T.flat[2:7] ** 2, (F,)),
    "apply_along_axis": (lambda x: np.apply_along_axis(lambda v: v / (v**2).sum(), 1, x), (F,)),
}
DATA_SIZED = {"data mask"}


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives(name: str) -> None:
    f, args = SMOOTH[name]
    st.testing.check_grads(f, args)


@pytest.mark.parametrize("name", ["sinc", "norm", "inv", "interp all", "logaddexp.reduce", "ufunc.at", "convolve"])
def test_second_derivatives(name: str) -> None:
    f, args = SMOOTH[name]
    st.testing.check_grads(f, args, order=2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in SMOOTH if n not in DATA_SIZED])
def test_vmap(name: str) -> None:
    f, args = SMOOTH[name]
    batched = tuple([np.stack([a, a * 1.25 + 0.125]) for a in args])
    st.testing.check_vmap(f, batched, rtol=1e-9, atol=1e-11)


def test_a_point_of_interp_has_the_slope_of_the_piece_that_begins_there() -> None:
    grid, values = np.array([0.0, 1.0, 3.0]), np.array([1.0, 2.0, 8.0])
    slopes = st.grad(lambda x: np.sum(np.interp(x, grid, values)))(np.array([0.0, 1.0, 2.0]))
    np.testing.assert_array_equal(slopes, [1.0, 3.0, 3.0])


def test_lengths_that_differ_between_lanes_are_refused() -> None:
    with pytest.raises(TypeError, match="differs between lanes"):
        st.vmap(lambda x: x[x > 0])(F)
