"""Sizes that only the run knows: arrays of them, slices to them, and operands whose extents have to agree then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ShapeError

Function = Callable[..., Any]


def zeros_of_a_count(x: Any) -> Any:
    n = np.count_nonzero(x > 0)
    return np.zeros(n) + x[0]


def ones_of_an_int(x: Any) -> Any:
    n = int(np.sum(x > 0))
    return np.ones((n, 2)) * x[x > 0][:, None]


def full_and_arange(x: Any) -> Any:
    n = np.count_nonzero(x > 0)
    return np.full(n, x[1]) * np.arange(n) + np.linspace(0.0, 1.0, 3)[0]


def slices_to_a_count(x: Any) -> Any:
    n = np.count_nonzero(x > 0)
    return np.arange(n) * x[:n] + x[5 - n :]


def two_masks(x: Any) -> Any:
    return x[x > 0] * x[-x < 0]


def product_of_two_masks(x: Any) -> Any:
    return np.dot(x[x > 0], x[-x < 0]) + x[x > 0] @ x[-x < 0] + np.inner(x[x > 0], x[-x < 0])


def assignment(x: Any) -> Any:
    n = np.count_nonzero(x > 0)
    out = np.zeros(n)
    out[:] = x[-x < 0]
    out += x[x > 0]
    return out


def chosen(x: Any) -> Any:
    return np.where(x[x > 0] > 1.5, x[-x < 0], 2.0)


def matrix_of_a_count(x: Any) -> Any:
    n = np.count_nonzero(x > 0)
    a = np.zeros((n, n))
    for i in range(n):
        a[i, i] = x[i]
    return a @ np.ones(n)


PROGRAMS = [
    zeros_of_a_count, ones_of_an_int, full_and_arange, slices_to_a_count, two_masks, product_of_two_masks, assignment,
    chosen, matrix_of_a_count,
]  # fmt: skip
X = np.array([1.0, -2.0, 3.0, 4.0, -5.0])


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_values(f: Function) -> None:
    compiled = st.compile(f)
    for x in (X, X[::-1].copy(), -X, np.abs(X), -np.abs(X)):
        for got in (compiled(x.copy()), st.functionalize(f)(x.copy())):
            want = f(x.copy())
            assert np.shape(got) == np.shape(want)
            np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_derivatives(f: Function) -> None:
    def loss(x: Any) -> Any:
        return np.sum(np.sin(f(x)))

    step = 1e-6
    want = [(loss(X + step * e) - loss(X - step * e)) / (2.0 * step) for e in np.eye(5)]
    np.testing.assert_allclose(st.compile(st.grad(loss))(X), want, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(st.grad(loss)(X), want, rtol=1e-7, atol=1e-8)
    slope = st.compile(lambda x, t: st.jvp(loss, (x,), (t,))[1])(X, np.ones(5))
    np.testing.assert_allclose(slope, np.sum(want), rtol=1e-7, atol=1e-8)


def test_sizes_that_the_data_decide_compare_when_it_runs() -> None:
    def latin(b: Any) -> Any:
        for i in range(4):  # noqa: SIM110
            if len(np.unique(b[i])) != 4:
                return False
        return True

    def alike(x: Any) -> Any:
        return x[x > 0].shape == x[x < 0].shape

    b = np.arange(16).reshape(4, 4)
    for f, args in ((latin, (b, b // 2, b * 0)), (alike, (X, -X, X - X.mean(), np.array([1.0, -1.0])))):
        compiled = st.compile(f)
        for a in args:
            assert compiled(a) == f(a)


def test_extents_that_do_not_agree_raise_when_it_runs() -> None:
    def add(x: Any, y: Any) -> Any:
        return x[x > 0] + y[y > 0]

    def product(x: Any, y: Any) -> Any:
        return x[x > 0] @ y[y > 0]

    def write(x: Any, y: Any) -> Any:
        out = np.zeros(np.count_nonzero(x > 0))
        out[:] = y[y > 0]
        return out

    for f in (add, product, write):
        compiled = st.compile(f)
        np.testing.assert_allclose(compiled(X, X + 0.5), f(X, X + 0.5))
        with pytest.raises(ValueError, match="an axis of 3 elements meets one of 5"):
            compiled(X, np.abs(X))
        np.testing.assert_allclose(compiled(X, X), f(X, X))


def test_a_negative_size_raises_when_it_runs() -> None:
    def f(x: Any) -> Any:
        n = np.sum(x).astype(np.int64)
        return np.zeros(n)

    compiled = st.compile(f)
    assert compiled(X + 1.0).shape == f(X + 1.0).shape == (6,)
    with pytest.raises(ValueError, match="negative dimensions are not allowed"):
        compiled(X - 1.0)


def test_known_extents_that_differ_raise_while_tracing() -> None:
    def f(x: Any) -> Any:
        y = x[x > 0]
        return y[:, None] * np.ones((2, 3)) + np.ones((3, 4))

    with pytest.raises(ShapeError, match="cannot broadcast"):
        st.compile(f)(X)


@pytest.mark.parametrize("k", [2, 3])
def test_window_and_bins_may_be_traced(k: Any) -> None:
    def f(x: Any, k: Any) -> Any:
        windows = np.lib.stride_tricks.sliding_window_view(x, k)
        return np.sum(windows**2, axis=-1), np.histogram(x, k)[0], np.arange(k) * np.linspace(0.0, 1.0, k)

    for got in (st.compile(f)(X, k), st.functionalize(f)(X, k)):
        for g, w in zip(got, f(X, k), strict=True):
            np.testing.assert_allclose(g, w)
    slope = st.grad(lambda x, k: np.sum(f(x, k)[0]))(X, k)
    np.testing.assert_allclose(slope, 2.0 * X * np.convolve(np.ones(6 - k), np.ones(k)))


@pytest.mark.parametrize("shape", [2**61, (2**40, 2**40)])
def test_shapes_beyond_every_memory_are_refused(shape: Any) -> None:
    for f in (lambda x: np.full(shape, x), lambda x: np.zeros(shape) + x, lambda x: np.broadcast_to(x, shape)):
        with pytest.raises(ValueError, match="array is too big"):
            st.compile(f)(1.0)


def test_results_of_a_size_that_data_decides_and_no_elements() -> None:
    f = st.compile(lambda x, c: (np.repeat(x, c, axis=0), np.argwhere(x.sum())))
    for counts, rows in (([1, 2], 3), ([0, 0], 0)):
        repeated, place = f(np.zeros((2, 0)), np.array(counts))
        assert repeated.shape == (rows, 0)
        assert place.shape == (0, 0)
