"""Ufuncs of scipy.special on traced arrays, against SciPy itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

import stager as st
from stager.errors import UnsupportedError
from stager.numpy.scipy_ufuncs import RULES

X = {
    "erfinv": np.linspace(-0.99, 0.99, 41), "logit": np.linspace(0.01, 0.99, 41), "gamma": np.linspace(0.1, 9.0, 41),
    "gammaln": np.linspace(0.1, 30.0, 41), "psi": np.linspace(0.1, 9.0, 41), "digamma": np.linspace(0.1, 9.0, 41),
    "log1p": np.linspace(-0.9, 9.0, 41),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_agrees_with_scipy(name: str, dtype: type) -> None:
    f = getattr(special, name)
    x = X.get(name, np.linspace(-6.0, 6.0, 41)).astype(dtype)
    args = (x,) if f.nin == 1 else (np.append(x, 0.0).astype(dtype), np.append(np.abs(x) + 0.5, 0.0).astype(dtype))
    got = st.compile(lambda *a: f(*a))(*args)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, f(*args), rtol=1e-12 if dtype == np.float64 else 2e-6, atol=1e-300)


@pytest.mark.parametrize("name", sorted(RULES))
def test_gradient(name: str) -> None:
    f = getattr(special, name)
    x = X.get(name, np.linspace(-3.0, 3.0, 41))[1:-1:7]
    rest = () if f.nin == 1 else (np.abs(x) + 0.5,)
    got = st.grad(lambda v: np.sum(f(v, *rest)))(x)
    step = 1e-6 * np.maximum(1.0, np.abs(x))
    want = (f(x + step, *rest) - f(x - step, *rest)) / (2.0 * step)
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8)


def test_extremes() -> None:
    x = np.array([-1000.0, -40.0, 0.0, 40.0, 1000.0, np.inf, -np.inf, np.nan])
    np.testing.assert_allclose(st.compile(lambda v: special.expit(v))(x), special.expit(x), rtol=1e-15)
    y = np.array([0.0, 1.0, np.inf, np.nan, 2.0, 3.0, 4.0, 5.0])
    z = np.zeros_like(x)
    np.testing.assert_array_equal(st.compile(lambda a, b: special.xlogy(a, b))(z, y), special.xlogy(z, y))


def test_the_slope_of_xlogy_at_zero() -> None:
    y = np.array([2.0, 0.5, 0.0, np.inf])
    for slope in (st.grad(lambda x: special.xlogy(x, y).sum()), st.jacfwd(lambda x: special.xlogy(x, y).sum())):
        np.testing.assert_allclose(slope(np.zeros(4)), [np.log(2.0), np.log(0.5), 0.0, 0.0])


def test_another_ufunc_of_that_name_is_not_taken() -> None:
    odd = np.frompyfunc(lambda v: v, 1, 1)
    with pytest.raises(UnsupportedError):
        st.compile(lambda v: odd(v))(np.ones(3))


@pytest.mark.parametrize(
    "f",
    [
        lambda a: special.logsumexp(a),
        special.logsumexp,
        special.softmax,
        lambda a: special.logsumexp(a, axis=1),
        lambda a: special.logsumexp(a, axis=(0, 1), keepdims=True),
        lambda a: special.softmax(a),
        lambda a: special.softmax(a, axis=0),
        lambda a: special.log_softmax(a, axis=-1),
    ],
)
def test_functions_written_in_python(f) -> None:
    a = np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(st.compile(f)(a), f(a), rtol=1e-13)
    st.testing.check_grads(lambda a: (f(a) ** 2).sum(), (a,), order=2)
    np.testing.assert_allclose(st.vmap(f)(np.stack([a, 2 * a])), [f(a), f(2 * a)], rtol=1e-13)


def test_logsumexp_at_its_edges() -> None:
    def f(a):
        return special.logsumexp(a)

    inf = np.inf
    for a, want in [([-inf, 0.0, 0.0], [0.0, 0.5, 0.5]), ([inf, 0.0], [1.0, 0.0]), ([-inf, -inf], [0.5, 0.5])]:
        np.testing.assert_array_equal(st.grad(f)(np.array(a)), want)
        np.testing.assert_array_equal(st.compile(f)(np.array(a)), f(np.array(a)))
    assert st.compile(lambda a: a * special.logsumexp([1.0, 1.0]))(1.0) == 1 + np.log(2)
    with pytest.raises(UnsupportedError, match="logsumexp is traced without b and return_sign"):
        st.compile(lambda a: special.logsumexp(a, b=a))(np.ones(3))
