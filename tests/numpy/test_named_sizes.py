"""NumPy functions on arrays whose sizes have names: one trace for every size, as built libraries need it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.compiler import compiler_of
from stager.errors import UnsupportedError
from stager.runtime.structure import flatten

Function = Callable[..., Any]


def regular(rng: np.random.Generator, n: int) -> Any:
    a = rng.normal(size=(n, n))
    return a @ a.T + n * np.eye(n)


def inverse_twice(a: Any) -> Any:
    return np.linalg.inv(a) @ np.linalg.matrix_power(a, 0)


def inverse_by_gradient(a: Any) -> Any:
    return st.grad(lambda m: np.linalg.slogdet(m)[1])(a)


def loop_over_rows(a: Any) -> Any:
    return st.fori_loop(0, a.shape[0], lambda i, total: total + a[i], np.zeros(a.shape[1]))


SQUARE: list[tuple[Function, Function | None]] = [
    (np.linalg.det, None), (lambda a: np.linalg.solve(a, a[0]), None), (inverse_twice, None),
    (np.linalg.cholesky, None), (lambda a: tuple(np.linalg.slogdet(a)), None),
    (inverse_by_gradient, lambda a: np.linalg.inv(a).T), (loop_over_rows, lambda a: np.sum(a, axis=0)),
]  # fmt: skip
WIDE: list[Function] = [
    lambda a: tuple(np.linalg.qr(a)), lambda a: tuple(np.linalg.qr(a, "complete")), np.linalg.pinv, np.cov, np.corrcoef,
    lambda a: np.average(a, axis=0, returned=True), lambda a: np.linspace(0.0, a[0], a.shape[1]),
    lambda a: np.linspace(-1.0, 1.0, a.shape[1], endpoint=False) * a,
    lambda a: np.linspace(0, 9, a.shape[0], dtype=np.int64, retstep=True),
]  # fmt: skip


def assert_same(f: Function, oracle: Function, spec: str, inputs: list[Any]) -> None:
    compiled = st.compile(f, dynamic=spec)
    for x in inputs:
        for got, want in zip(flatten(compiled(x))[0], flatten(oracle(x))[0], strict=True):
            assert (np.shape(got), np.asarray(got).dtype) == (np.shape(want), np.asarray(want).dtype)
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)
    assert len(compiler_of(compiled).history) == 1


@pytest.mark.parametrize("which", range(len(SQUARE)))
def test_square_matrices(which: int, rng: np.random.Generator) -> None:
    f, oracle = SQUARE[which]
    assert_same(f, oracle or f, "f64[n,n]", [regular(rng, n) for n in (4, 2, 9)])


@pytest.mark.parametrize("which", range(len(WIDE)))
def test_wide_matrices(which: int, rng: np.random.Generator) -> None:
    f = WIDE[which]
    assert_same(f, f, "f64[n,m]", [rng.normal(size=s) for s in ((3, 4), (2, 7))])


def test_tall_and_wide_matrices_share_code(rng: np.random.Generator) -> None:
    inputs = [rng.normal(size=s) for s in ((3, 4), (6, 2))]
    assert_same(lambda a: tuple(np.linalg.qr(a)), np.linalg.qr, "f64[n,m]", inputs)


def halved(x: Any) -> Any:
    y = x
    while np.sum(y) > 1.0:
        y = y * 0.5 * np.cos(y)
        for i in range(1, y.shape[0]):
            y[i] = y[i] * x[i - 1] * 0.1 + y[i] * 0.4
    return np.sum(y * x)


@pytest.mark.parametrize("wrapped", [False, True])
def test_reverse_mode_of_while(wrapped: bool, rng: np.random.Generator) -> None:
    def f(x: Any) -> Any:
        return halved(st.checkpoint(np.sin)(x)) if wrapped else halved(x)

    def slopes(x: Any) -> Any:
        step = 1e-6
        plain: Function = (lambda x: halved(np.sin(x))) if wrapped else halved
        return np.array([(plain(x + step * e) - plain(x - step * e)) / (2.0 * step) for e in np.eye(x.size)])

    compiled = st.compile(st.grad(f), dynamic="f64[n]")
    mapped = st.compile(st.vmap(st.grad(f)), dynamic="f64[b,n]")
    for n in (3, 6):
        x = rng.uniform(0.3, 1.0, size=(2, n))
        want = np.stack([slopes(row) for row in x])
        np.testing.assert_allclose(np.stack([compiled(row) for row in x]), want, rtol=1e-7, atol=1e-8)
        np.testing.assert_allclose(mapped(x), want, rtol=1e-7, atol=1e-8)
    assert len(compiler_of(compiled).history) == len(compiler_of(mapped).history) == 1


def test_sizes_that_follow_from_others() -> None:
    f = st.compile(lambda x, y: x + y[::2], dynamic=("f64[n]", "f64[2*n]"))
    for n in (3, 5):
        np.testing.assert_array_equal(f(np.ones(n), np.arange(2.0 * n)), 1.0 + np.arange(0.0, 2.0 * n, 2.0))
    assert len(compiler_of(f).history) == 1
    np.testing.assert_array_equal(f(np.ones(4), np.arange(7.0)), 1.0 + np.arange(0.0, 7.0, 2.0))
    with pytest.raises(UnsupportedError, match=r"the dim 2\*n in the type f64\[2\*n\] of an argument must be a plain"):
        st.make_graph(np.sin)("f64[2*n]")


def test_rows_looked_up_across_the_lanes() -> None:
    """Copies of a step, one per row of the table, each with a place of its own, and a last step of few lanes."""
    f = st.compile(lambda x, at: (np.take_along_axis(x, at.T, 0), np.take_along_axis(x, at.T, 0) * 2), dynamic=True)
    rng = np.random.default_rng(0)
    for n in (4, 8, 11, 16):
        for m in (3, 8, 13):
            x, at = rng.standard_normal((n, m)), rng.integers(0, n, (m, n))
            want = np.take_along_axis(x, at.T, 0)
            for got, k in zip(f(x, at), (1, 2), strict=True):
                np.testing.assert_array_equal(got, want * k)
