"""Arrays whose length changes from one iteration to the next, or differs between branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError
from stager.tracing import trace
from tests.capture.extents_corpus import STAGED, append, filtered, filtered_together
from tests.capture.test_staged import assert_same, evaluated
from tests.graphs import size_of

X = np.random.default_rng(0).random(24)
ROWS = np.stack([X, X[::-1], X**2])


def slopes(f: Callable[..., Any], x: Any, h: float = 1e-6) -> Any:
    return np.array([(f(x + h * e) - f(x - h * e)) / (2 * h) for e in np.eye(len(x))])


@pytest.mark.parametrize("f", STAGED, ids=lambda f: f.__name__)
def test_staged(f: Callable[..., Any]) -> None:
    graphs = [st.make_graph(lambda x, n=n: f(x, n))(X) for n in (50, 90)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    assert_same(evaluated(lambda x: f(x, 9), X.copy())[0], f(X.copy(), 9))
    compiled = st.compile(lambda x: f(x, 9))
    for x in (X, X[::-1].copy(), X * 0.5):
        assert_same(compiled(x.copy()), f(x.copy(), 9))


@pytest.mark.parametrize("f", STAGED, ids=lambda f: f.__name__)
def test_transformed(f: Callable[..., Any]) -> None:
    def loss(x: Any) -> Any:
        return (f(x, 9) ** 2).sum()

    expected = [slopes(loss, x) for x in ROWS]
    np.testing.assert_allclose(evaluated(st.grad(loss), X)[0], expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(st.compile(st.vmap(st.grad(loss)))(ROWS), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(st.jvp(loss, (X,), (X,))[1], expected[0] @ X, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("f", [filtered, filtered_together, append], ids=lambda f: f.__name__)
def test_second_order(f: Callable[..., Any]) -> None:
    def loss(x: Any) -> Any:
        return (f(x, 9) ** 3).sum()

    gradient = st.compile(st.grad(loss))
    hvp = st.compile(lambda x: st.jvp(st.grad(loss), (x,), (x,))[1])
    by_differences = (gradient(X + 1e-6 * X) - gradient(X - 1e-6 * X)) / 2e-6
    np.testing.assert_allclose(hvp(X), by_differences, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(st.grad(lambda x: (gradient(x) * X).sum())(X), by_differences, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("f", [filtered, filtered_together, append], ids=lambda f: f.__name__)
def test_of_any_length(f: Callable[..., Any]) -> None:
    compiled = st.compile(f, dynamic=("f64[n]", None))
    for size in (9, 24, 31, 2):
        x = np.random.default_rng(size).random(size)
        for turns in (0, 1, 7) if size > 7 else (0, 1):
            assert_same(compiled(x.copy(), turns), f(x.copy(), turns))


def test_an_append_writes_the_new_end_only() -> None:
    def f(x, n):
        out = np.zeros(0)
        for i in range(n):
            out = np.append(out, x[i])
        return out

    graph = st.make_graph(f)(X, 20)
    (loop,) = [n for n in graph.nodes if n.op.name == "for"]
    (update,) = [n for n in loop.regions[0].nodes if n.op.name == "slice_update"]
    assert update.args[1].type.shape == (1,)


def test_arrays_filtered_by_one_mask_share_a_count() -> None:
    graph = st.make_graph(filtered_together)(X, 20)
    (loop,) = [n for n in graph.nodes if n.op.name == "for"]
    assert [str(t) for t in loop.types].count("i64[]") == 1


def test_branches_of_two_lengths() -> None:
    def f(x):
        y = x[:3] if x[0] > 0.5 else x[2:]
        return y, len(y), y.sum()

    def g(x):
        y = np.zeros((2, 3))
        if x.sum() > 12:
            y = np.outer(x[x > 0.7], x[:2])
        return y * 2

    for h in (f, g):
        compiled = st.compile(h)
        for x in ROWS:
            assert_same(compiled(x.copy()), h(x.copy()))


def test_what_is_left_of_nothing() -> None:
    def f(x):
        y = x[x > 5]
        while len(y) > 0:
            y = y[1:]
        for i in range(6):
            y = np.append(y, i * x[i])
        return y

    assert_same(st.compile(f)(X), f(X))
    assert_same(st.compile(f)(X + 4.5), f(X + 4.5))


def test_integers_and_bools() -> None:
    def sieve(numbers):
        out, k = np.zeros(60, np.int64), 0
        while numbers.size:
            out[k] = numbers[0]
            k += 1
            numbers = numbers[numbers % numbers[0] != 0]
        return out[:k]

    def alternate(flags):
        for _ in range(6):
            flags = ~flags[1:]
        return flags

    assert_same(st.compile(sieve)(np.arange(2, 99)), sieve(np.arange(2, 99)))
    assert_same(st.compile(alternate)(X > 0.5), alternate(X > 0.5))


def test_results_are_new_arrays() -> None:
    def f(x):
        for _ in range(8):
            x = x[x < 2]
        return x, x[:2]

    given = X.copy()
    y, part = st.compile(f)(given)
    y[0] = part[1] = 7
    np.testing.assert_array_equal(given, X)
    assert y.flags.owndata


def test_a_bound_that_nobody_knows() -> None:
    def doubled(x, n):
        for _ in range(np.sum(n)):
            x = np.concatenate([x, x])
        return x

    def grown(x):
        while x.sum() < 100:
            x = np.append(x, x[-1] + 1)
        return x

    said = r"'x' changes in a traced loop: it is f64\[24\] before an iteration"
    for f, args in ((doubled, (X, np.array([3]))), (grown, (X,))):
        with pytest.raises(ControlFlowError, match=said):
            trace(f, args, {})


def test_lanes_of_different_lengths_have_no_array() -> None:
    with pytest.raises(st.errors.ConcretizationError, match="a size, s0, that differs between lanes"):
        st.vmap(lambda x: filtered(x, 9))(ROWS)


def test_a_size_that_no_turn_changes() -> None:
    def f(x):
        b, i, t = x[x > 0.3], np.sum(x > 0.5), 0
        while x[t] > 0.2 and t < 7:
            t += 1
            b = x[: min(i, 6)] * 0.76
        return b

    for x in (X, X + 0.2, X * 0.9 + 0.05, np.zeros(24)):
        assert_same(st.compile(f)(x), f(x))


def test_an_extent_of_one_that_is_stretched() -> None:
    """What the first turn alone changes is not carried as a length: NumPy stretches it."""

    def stretched(x: Any) -> Any:
        s = np.zeros(1)
        for _ in range(5):
            s = s * 0.5 + x
        return s

    def columns(x: Any) -> Any:
        a, b = x[:1], x[:1] * 2.0
        for i in range(3, 8):
            a, b = x[i % 3] - b, a + b * x
        return a + b

    x = np.arange(4.0)
    for f in (stretched, columns):
        np.testing.assert_allclose(st.compile(f)(x), f(x))
        np.testing.assert_allclose(st.compile(f, dynamic=True)(x), f(x))
