"""Type rules agree with NumPy's results for every dtype, references with independent oracles; errors have texts."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

from stager.ops import special
from stager.pipeline import executable
from tests.ops.transforms import evaluate, trace, type_of
from tests.samples import ROWS, call

CASES = [(name, dtype) for name, row in ROWS.items() for dtype in row.dtypes]


@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_results_have_the_types_that_the_rule_says(name: str, dtype: str, rng: np.random.Generator) -> None:
    for s in ROWS[name].samples(rng, np.dtype(dtype)):
        outs = evaluate(s.fn, *s.arrays)  # the evaluator compares every result with its node's type
        if s.oracle is None:
            continue
        with np.errstate(all="ignore"):
            expected = s.oracle(*s.arrays)
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(outs[0], expected, rtol=tolerance, atol=tolerance, err_msg=s.text)


ERRORS = [(name, k) for name, row in ROWS.items() for k in range(len(row.errors))]


@pytest.mark.parametrize(("name", "k"), ERRORS)
def test_errors(name: str, k: int) -> None:
    bad = ROWS[name].errors[k]
    with pytest.raises(bad.exception) as caught:
        trace(call(name, **bad.params), *[type_of(a) for a in bad.arrays])
    assert bad.text in str(caught.value)


SPECIAL: dict[str, tuple[Any, Any, Any]] = {
    "erf": (special.erf, scipy.special.erf, np.linspace(-6, 6, 101)),
    "erfc": (special.erfc, scipy.special.erfc, np.linspace(-6, 26, 101)),
    "erfinv": (special.erfinv, scipy.special.erfinv, np.r_[np.linspace(-1, 1, 101), 1e-300, 1 - 1e-15, -1e-9]),
    "gamma": (special.gamma, scipy.special.gamma, np.r_[np.linspace(-20.3, 170, 201), np.inf, np.nan]),
    "lgamma": (special.lgamma, scipy.special.gammaln, np.r_[np.linspace(-20.3, 1e3, 201), 0.0, -1.0, np.inf]),
    "digamma": (special.digamma, scipy.special.digamma, np.r_[np.linspace(-20.3, 100, 201), 1e-200, 1e200]),
    "polygamma": (
        lambda x: special.polygamma(2, x),
        lambda x: scipy.special.polygamma(2, x),
        np.linspace(0.05, 100, 201),
    ),
    "trigamma": (
        lambda x: special.polygamma(1, x),
        lambda x: scipy.special.polygamma(1, x),
        np.linspace(0.05, 100, 201),
    ),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_special_references(name: str) -> None:
    ours, theirs, x = SPECIAL[name]
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(ours(x), theirs(x), rtol=2e-13, atol=1e-300)


def test_polygamma_left_of_zero() -> None:
    x = np.array([-0.5, -1.25, -7.75])
    for n in (1, 2, 3):
        expected = [float(mpmath.polygamma(n, v)) for v in x]
        np.testing.assert_allclose(special.polygamma(n, x), expected, rtol=1e-12)
    far = np.array([1e-150, 1e300, np.inf, 0.0, -1.0, -np.inf, np.nan])
    expected = [1e300, 1e-300, 0.0, np.inf, np.inf, np.nan, np.nan]
    np.testing.assert_allclose(special.polygamma(1, far), expected, rtol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_compiled_polygamma_against_mpmath(n: int) -> None:
    x = np.r_[np.linspace(0.01, 40, 100), 1e-9, 1e10]
    special_points = np.array([np.inf, 0.0, -1.0, -np.inf, np.nan])
    left = np.array([-0.3, -2.7, -11.4])
    arrays = [x, special_points, left]
    graph = trace(lambda *xs: [call("polygamma", n=n)(v) for v in xs], *[type_of(a) for a in arrays])
    right, hard, reflected = executable(graph)(arrays)
    np.testing.assert_allclose(right, [float(mpmath.polygamma(n, v)) for v in x], rtol=4 * 2.0**-52)
    np.testing.assert_array_equal(hard, special.polygamma(n, special_points))
    np.testing.assert_allclose(reflected, [float(mpmath.polygamma(n, v)) for v in left], rtol=1e-14)


def test_fma_rounds_once() -> None:
    x = np.float64(1 + 2.0**-30)
    assert special.fma(x, x, -1.0 - 2.0**-29) == 2.0**-60
    y = np.float32(1 + 2.0**-12)
    assert special.fma(y, y, np.float32(-1 - 2.0**-11)) == np.float32(2.0**-24)
    assert special.fma(np.float32(np.inf), np.float32(1), np.float32(0)) == np.inf
    a, b, c = np.float32(1 + 2.0**-23), np.float32(1 + 2.0**-23), np.float32(2.0**-60)
    assert special.fma(a, b, c) == np.float32(1 + 2.0**-22)  # exact value just above a tie is no tie in double
    assert special.fma(np.float32(3e38), np.float32(2), np.float32(-3e38)) == np.float32(3e38)


def test_lgamma_keeps_its_digits_next_to_its_zeros() -> None:
    x = np.r_[np.linspace(0.55, 2.45, 96), 1 + 1e-9, 2 - 1e-9, 1.0, 2.0]
    np.testing.assert_allclose(special.lgamma(x), [float(mpmath.loggamma(v)) for v in x], rtol=2e-15)
