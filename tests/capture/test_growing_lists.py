"""Loops that append to a list: staged, with the rows of what they carry as the list's items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import MutationError
from tests.capture.growing_corpus import STAGED, step, trajectory
from tests.capture.growing_meanings import MEANINGS
from tests.capture.test_staged import assert_same, evaluated
from tests.graphs import size_of

X = np.linspace(-1.0, 1.0, 5)
A = np.random.default_rng(0).standard_normal((20, 5))
TURNS = 20


@pytest.mark.parametrize("f", STAGED, ids=lambda f: f.__name__)
def test_staged(f: Callable[..., Any]) -> None:
    graphs = [st.make_graph(lambda x, n=n: f(x, n))(X) for n in (50, 90)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    assert_same(evaluated(lambda x: f(x, TURNS), X.copy())[0], f(X.copy(), TURNS))
    assert_same(st.compile(lambda x: f(x, TURNS))(X.copy()), f(X.copy(), TURNS))


@pytest.mark.parametrize("f", MEANINGS, ids=lambda f: f.__name__)
def test_meaning(f: Callable[..., Any]) -> None:
    for n in (8, 12):
        given, expected = X.copy(), X.copy()
        want = f(expected, n)
        assert_same(st.compile(lambda x, n=n: f(x, n))(given), want)
        np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("f", STAGED, ids=lambda f: f.__name__)
def test_the_number_of_turns_is_an_argument(f: Callable[..., Any]) -> None:
    graphs = [st.make_graph(f)(X, n) for n in (50, 90)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    g = st.compile(f)
    for n in (8, 11):
        assert_same(g(X.copy(), n), f(X.copy(), n))


def test_results_are_new_arrays() -> None:
    def f(x):
        out = trajectory(x, TURNS)
        a, b = np.stack(out), np.array(out)
        a += 1
        return a, b, out[0]

    a, b, first = st.compile(f)(X)
    want = np.stack(trajectory(X, TURNS))
    np.testing.assert_allclose(a, want + 1)
    np.testing.assert_allclose(b, want)
    np.testing.assert_allclose(first, want[0])


def test_writes_that_may_reach_two_rows_are_refused() -> None:
    def f(x):
        out = []
        for _ in range(TURNS):
            y = step(x)
            out.append((x, y))
            x = y
        out[3][0][0] = 1.0
        return out[2][1]

    with pytest.raises(MutationError):
        st.compile(f)(X)


# -- over arrays, and transformed ------------------------------------------------------------------------------------


def over_an_array(xs, w):
    h = np.zeros(5)
    out = []
    for x in xs:
        h = np.tanh(w * h + x)
        out.append(h)
    return np.stack(out)


def over_pairs(xs, w):
    out = []
    for k, (x, y) in enumerate(zip(xs, xs[::-1], strict=True)):
        out.append(x * w - y * k)
    return np.array(out)


def normalised(xs, w):
    out = []
    for x in xs:
        out.append(x / np.sqrt(np.sum(x * x) + w @ w))
    return np.vstack(out)


@pytest.mark.parametrize("f", [over_an_array, over_pairs, normalised])
def test_transforms(f: Callable[..., Any]) -> None:
    want = f(A, X)
    assert_same(st.compile(f)(A, X), want)
    assert_same(st.functionalize(f)(A, X), want)
    graphs = [st.make_graph(st.grad(lambda a, x: np.sum(f(a, x) ** 2)))(np.ones((n, 5)), X) for n in (50, 90)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    batch = np.stack([A, A * 2, A - 1])
    mapped = np.stack([f(a, X) for a in batch])
    for transform in (lambda g: g, st.compile):
        assert_same(transform(st.vmap(f, in_dims=(0, None)))(batch, X), mapped)
        loss = transform(lambda a, x: np.sum(f(a, x) ** 2))
        d, v = A[::-1].copy(), X * X
        _, tangent = transform(lambda: st.jvp(f, (A, X), (d, v)))()
        e = 1e-6
        np.testing.assert_allclose(
            tangent, (f(A + e * d, X + e * v) - f(A - e * d, X - e * v)) / (2 * e), rtol=1e-6, atol=1e-8
        )
        da, dx = transform(st.grad(lambda a, x: np.sum(f(a, x) ** 2), argnums=(0, 1)))(A, X)
        np.testing.assert_allclose(
            np.sum(da * d) + np.sum(dx * v),
            (loss(A + e * d, X + e * v) - loss(A - e * d, X - e * v)) / (2 * e),
            rtol=1e-6,
        )
        per_lane = transform(st.vmap(st.grad(lambda a: np.sum(f(a, X) ** 2))))(batch)
        for k in range(3):
            np.testing.assert_allclose(per_lane[k], st.grad(lambda a: np.sum(f(a, X) ** 2))(batch[k]), rtol=1e-10)


def test_sizes_of_arguments() -> None:
    f = st.compile(over_an_array, dynamic=True)
    for n in (6, 9, 20):
        assert_same(f(A[:n], X), over_an_array(A[:n], X))


def test_sizes_of_rows() -> None:
    def f(x):
        out = []
        for _ in range(TURNS):
            x = step(x)
            out.append(x)
        return np.stack(out)

    g = st.compile(f, dynamic=True)
    for n in (2, 5, 9):
        assert_same(g(np.linspace(0, 1, n)), f(np.linspace(0, 1, n)))


def test_a_loop_too_long_to_unroll() -> None:
    def f(x):
        out = []
        for t in range(100_000):
            out.append(x[t % 5] * t)
        return np.array(out)

    assert_same(st.compile(f)(X), f(X))


def skipped(x: Any, n: int) -> Any:
    out = []
    for i in range(n):
        out.append(x[i] * 2)
        if x[i] > 0.5:
            continue
        x[i] += 1.0
    k = 0
    while k < n:
        out.append(x[k])
        k += 1
        if x[k] > 0.5:
            continue
    return np.array(out)


@pytest.mark.parametrize("n", [1, 3, 6])  # unrolled and staged
def test_a_traced_continue_leads_to_the_next_turn(n: int) -> None:
    x = np.linspace(0.2, 0.9, 8)
    np.testing.assert_allclose(st.compile(skipped)(x.copy(), n), skipped(x.copy(), n))
    np.testing.assert_allclose(
        st.grad(lambda x: (skipped(x * 1.0, n) ** 2).sum())(x),
        2 * st.jacfwd(lambda x: skipped(x * 1.0, n))(x).T @ skipped(x.copy(), n),
    )
