"""Every row of the table by NumPy, as a plain traced call, and compiled: dtype, shape and value agree."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.runtime.structure import flatten
from tests.numpy.cases import CASES, Case


def wanted(case: Case) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return case.f(*[a.copy() for a in case.args])


def agree(got: Any, want: Any, rtol: float) -> None:
    ours, theirs = flatten(got)[0], flatten(want)[0]
    assert len(ours) == len(theirs)
    for g, w in zip(ours, theirs, strict=True):
        if isinstance(w, np.ndarray | np.generic):
            assert np.shape(g) == np.shape(w)
            assert np.asarray(g).dtype == w.dtype
        if isinstance(w, np.ndarray | np.generic | float | int):
            np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol)
        else:
            assert g == w


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_plain(case: Case) -> None:
    got = st.functionalize(case.f)(*[a.copy() for a in case.args])
    agree(got, wanted(case), case.rtol)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_compiled(case: Case) -> None:
    f = st.compile(case.f)
    for _ in range(2):
        agree(f(*[a.copy() for a in case.args]), wanted(case), case.rtol)


def test_powers_of_powers() -> None:
    """NumPy's loop for AVX-512 raises each element to the result so far (2.4), so its accumulation is the reference."""
    x = np.array([0.62, 0.63, 1.14, 0.6, 1.03])
    want = np.power.accumulate(x)[-1]
    for f in (st.compile(np.power.reduce), st.functionalize(np.power.reduce)):
        np.testing.assert_allclose(f(x), want, rtol=1e-13)


@pytest.mark.parametrize("sides", [{}, {"left": -9.0, "right": 9.0}])
def test_interp_between_infinite_points(sides: dict[str, float]) -> None:
    at = np.array([-np.inf, -2.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, np.inf, np.nan])
    points = np.array([-np.inf, 0.0, 1.0, 2.0, np.inf]), np.array([-np.inf, -np.inf, 0.0, 1.0, 1.0])
    values = np.array([-np.inf, -1.0, 2.0, 2.0, 5.0]), np.array([np.inf, np.inf, 0.0, -np.inf, np.nan])
    compiled = st.compile(lambda x, xp, fp: np.interp(x, xp, fp, **sides))
    for xp in points:
        for fp in (*values, *[v[::-1].copy() for v in values]):
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(compiled(at, xp, fp), np.interp(at, xp, fp, **sides))
