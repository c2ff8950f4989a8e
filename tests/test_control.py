"""The control functions: against Python, under every transform, and in plain calls."""

from __future__ import annotations

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError, TransformError

X = np.linspace(0.5, 2.0, 6)


def run_everywhere(f, x, want, rtol=1e-12):
    """f(x) in a plain call and compiled; its gradient and tangent against finite differences; vmap against a loop."""
    np.testing.assert_allclose(f(x), want, rtol=rtol)
    np.testing.assert_allclose(st.compile(f)(x), want, rtol=rtol)
    d = np.cos(np.arange(x.size)).reshape(x.shape)
    slope = (f(x + 1e-6 * d) - f(x - 1e-6 * d)) / 2e-6
    np.testing.assert_allclose(np.sum(st.grad(f)(x) * d), slope, rtol=1e-6)
    np.testing.assert_allclose(st.jvp(f, (x,), (d,))[1], slope, rtol=1e-6)
    xs = np.stack([x, x * 1.1, x + 0.2])
    np.testing.assert_allclose(st.vmap(f)(xs), [f(v) for v in xs], rtol=1e-12)
    np.testing.assert_allclose(st.vmap(st.grad(f))(xs), [st.grad(f)(v) for v in xs], rtol=1e-10)


def test_fori_loop() -> None:
    def f(x):
        return st.fori_loop(0, x.shape[0], lambda i, c: (c[0] + x[i] * c[1], c[1] * 0.9), (0.0, 1.0))[0]

    run_everywhere(f, X, sum(x * 0.9**i for i, x in enumerate(X)))


def test_while_loop() -> None:
    def f(x):
        return st.while_loop(lambda c: c[0] < 10, lambda c: (c[0] * 1.5 + x[0], c[1] + 1), (x.sum(), 0))[0]

    c = X.sum()
    while c < 10:
        c = c * 1.5 + X[0]
    run_everywhere(f, X, c)


def test_cond() -> None:
    def f(x):
        return st.cond(x[0] > 0.4, lambda a, b: a * b, lambda a, b: a - b, x.sum(), 3)

    run_everywhere(f, X, X.sum() * 3)
    run_everywhere(f, X - 0.3, (X - 0.3).sum() - 3)


def test_switch() -> None:
    def f(x):
        return st.switch(np.floor(x[0]).astype(int), [np.sin, np.cos, lambda v: v * v], x.sum())

    for first, g in ((-5.5, np.sin), (0.5, np.sin), (1.5, np.cos), (9.5, np.square)):
        x = X.copy()
        x[0] = first
        run_everywhere(f, x, g(x.sum()))


@pytest.mark.parametrize("unroll", [1, 4])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan(reverse: bool, unroll: int) -> None:
    def f(x):
        c, ys = st.scan(
            lambda c, v: (c * v["a"] + v["b"], {"y": c, "z": v["a"]}),
            0.5,
            {"a": x, "b": x * 2},
            reverse=reverse,
            unroll=unroll,
        )
        return c + (ys["y"] * np.arange(len(x))).sum() + ys["z"][1]

    c, total = 0.5, X[1]
    for i in reversed(range(6)) if reverse else range(6):
        total += c * i
        c = c * X[i] + 2 * X[i]
    run_everywhere(f, X, c + total)


def test_scan_by_length_and_of_nothing() -> None:
    carry, ys = st.scan(lambda c, _: (c * 2, c), 1, length=5)
    assert int(carry) == 32
    assert ys.tolist() == [1, 2, 4, 8, 16]
    carry, ys = st.scan(lambda c, x: (c + x, x * c), 2.0, np.zeros((0,)))
    assert float(carry) == 2.0
    assert ys.shape == (0,)


def test_map() -> None:
    def f(x):
        return st.map(lambda v: np.sin(v) * x[0], x).sum()

    run_everywhere(f, X, (np.sin(X) * X[0]).sum())
    np.testing.assert_allclose(st.map(lambda v: v * 2, np.arange(7.0), batch_size=3), np.arange(7.0) * 2)


def test_map_refuses_writes_to_arrays_around_it() -> None:
    def f(x):
        out = np.zeros(3)

        def lane(v):
            out[0] = v
            return v

        return st.map(lane, x)

    with pytest.raises(ControlFlowError, match="lanes run in any order"):
        st.compile(f)(X)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("reverse", [False, True])
def test_associative_scan(n: int, reverse: bool) -> None:
    x = np.linspace(0.5, 2.0, n)

    def f(x):
        a, b = st.associative_scan(lambda p, q: (p[0] * q[0], q[0] * p[1] + q[1]), (x, x * 2), reverse=reverse)
        return (a * 1.5 + b).sum()

    state, total = (1.0, 0.0), 0.0
    for v in x[::-1] if reverse else x:
        state = (state[0] * v, v * state[1] + 2 * v)
        total += state[0] * 1.5 + state[1]
    run_everywhere(f, x, total)


def test_bodies_write_into_arrays_around_them() -> None:
    def f(x):
        out = np.zeros(6)

        def body(i, c):
            out[i] = c + x[i]
            return c * 0.5

        last = st.fori_loop(0, 6, body, 1.0)
        return (out * np.arange(6)).sum() + last

    want = sum((0.5**i + X[i]) * i for i in range(6)) + 0.5**6
    run_everywhere(f, X, want)


def test_branches_of_different_shape_are_refused() -> None:
    with pytest.raises(ControlFlowError, match=r"different shapes: f64\[\] and f64\[6\]"):
        st.compile(lambda x: st.cond(x[0] > 0, lambda: x, lambda: x[0]))(X)


def test_xs_of_different_lengths_are_refused() -> None:
    with pytest.raises(TransformError, match="leading axes of xs differ: 6, 5"):
        st.scan(lambda c, x: (c, c), 0.0, (X, X[:5]))
