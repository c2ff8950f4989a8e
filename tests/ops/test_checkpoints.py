"""Loops that keep checkpoints: the gradients of loops with tapes, in less memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.ops.test_footprints import temporary_bytes

LEVELS: tuple[str | int, ...] = ("sqrt", "binomial", 1, 2, 5)


def swing(x: Any, a: Any, steps: Any) -> Any:
    """A state of two arrays, one of which is written in place, and a result per step."""
    v = np.zeros_like(x)
    energy = np.zeros(64)
    x = x.copy()
    for t in range(steps):
        v = v - a * np.sin(x)
        x[1:] += 0.1 * v[:-1]
        energy[t] = np.sum(v * v)
    return np.sum(x * v) + np.sum(energy)


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 30])
@pytest.mark.parametrize("levels", LEVELS)
def test_python_loops(levels: Any, steps: int) -> None:
    x = np.random.default_rng(0).standard_normal(5)

    def gradient(f: Callable[..., Any]) -> Any:
        return st.grad(lambda x, a: f(x, a, steps), argnums=(0, 1))

    want = gradient(swing)(x, 0.3)
    kept = gradient(st.checkpoint(swing, policy=levels))
    for got in (kept(x, 0.3), st.compile(kept)(x, 0.3)):
        assert all(np.allclose(g, w, rtol=1e-12) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("levels", LEVELS)
def test_steps_that_only_the_run_knows(levels: Any) -> None:
    x = np.random.default_rng(1).standard_normal(4)
    kept = st.compile(st.grad(st.checkpoint(swing, policy=levels), argnums=(0, 1)))
    for steps in (0, 1, 13, 40):
        want = st.grad(swing, argnums=(0, 1))(x, 0.3, np.int64(steps))
        assert all(np.allclose(g, w, rtol=1e-12) for g, w in zip(kept(x, 0.3, np.int64(steps)), want, strict=True))


@pytest.mark.parametrize("levels", LEVELS)
def test_explicit_loops(levels: Any) -> None:
    x = np.linspace(0.1, 1.0, 6)

    def looped(checkpoint: Any) -> Callable[[Any], Any]:
        def f(x: Any) -> Any:
            a = st.fori_loop(2, 11, lambda i, c: np.sin(c) * (1.0 + 0.1 * i), x, checkpoint=checkpoint)
            b, ys = st.scan(lambda c, y: (np.cos(c * y), c * c), x[0], a, checkpoint=checkpoint)
            c = st.while_loop(lambda s: s.sum() < 9.0, lambda s: 1.1 * s + 0.01 * s**2, ys + 0.3, checkpoint=checkpoint)
            return np.sum(c) + b * np.sum(a)

        return f

    want = st.grad(looped(None))(x)
    assert np.allclose(st.grad(looped(levels))(x), want, rtol=1e-12)
    assert np.allclose(st.compile(st.grad(looped(levels)))(x), want, rtol=1e-12)


@pytest.mark.parametrize("levels", ["sqrt", 2])
def test_under_other_transforms(levels: Any) -> None:
    x = np.linspace(0.1, 1.0, 4)

    def f(x: Any) -> Any:
        return st.fori_loop(0, 6, lambda i, c: np.sin(c) + 0.1 * c[::-1] ** 2, x, checkpoint=levels).sum()

    def g(x: Any) -> Any:
        return st.fori_loop(0, 6, lambda i, c: np.sin(c) + 0.1 * c[::-1] ** 2, x).sum()

    assert np.allclose(st.hessian(f)(x), st.hessian(g)(x), rtol=1e-10)
    assert np.allclose(st.jacrev(st.grad(f))(x), st.hessian(g)(x), rtol=1e-10)
    xs = np.stack([x, 2 * x])
    assert np.allclose(st.vmap(st.grad(f))(xs), st.vmap(st.grad(g))(xs), rtol=1e-12)
    assert np.allclose(st.grad(lambda xs: st.vmap(f)(xs).sum())(xs), st.vmap(st.grad(g))(xs), rtol=1e-12)
    assert np.allclose(st.jvp(f, (x,), (x,))[1], st.jvp(g, (x,), (x,))[1])


@pytest.mark.parametrize("levels", LEVELS)
def test_lanes_that_take_different_numbers_of_turns(levels: Any) -> None:
    def until(x: Any, n: Any, checkpoint: Any = None) -> Any:
        return np.sum(
            st.while_loop(lambda y: np.sum(y) < n, lambda y: y * 1.5 * np.cos(0.1 * y), x * 1.0, checkpoint=checkpoint)
        )

    def between(x: Any, n: Any, checkpoint: Any = None) -> Any:
        def turn(i: Any, c: Any) -> Any:
            return np.sin(c) * (1.0 + 0.1 * i)

        return np.sum(st.fori_loop(n - 3, 3 * n, turn, x, checkpoint=checkpoint) * x)

    xs = np.array([0.9, 0.55, 0.7]) * np.array([[1.0], [0.3], [3.0], [0.1]])
    counts = np.array([7, 4, 9, 0])
    for f in (until, between):
        each = np.stack([st.grad(f)(x, n) for x, n in zip(xs, counts, strict=True)])

        def kept(x: Any, n: Any, f: Any = f) -> Any:
            return f(x, n, levels)

        np.testing.assert_allclose(st.compile(st.vmap(st.grad(kept)))(xs, counts), each, rtol=1e-12)
        outside = st.grad(lambda xs, k=kept: np.sum(st.vmap(k)(xs, counts)))
        np.testing.assert_allclose(st.compile(outside)(xs), each, rtol=1e-12)


def test_memory() -> None:
    """n steps of a state of w doubles: tapes n·w, √n levels about 2·√n·w, binomial ones about log₂(n)·w."""
    n, w = 400, 500

    def f(checkpoint: Any) -> Callable[[Any], Any]:
        def loss(x: Any) -> Any:
            return np.sum(st.fori_loop(0, n, lambda i, c: np.sin(c) * 1.01, x, checkpoint=checkpoint))

        return st.grad(loss)

    x = np.linspace(0.1, 1.0, w)
    rows = {levels: temporary_bytes(f(levels), x) / (8 * w) for levels in (None, "sqrt", "binomial", 4)}
    assert rows[None] >= n
    assert rows["sqrt"] <= 2 * 20 + 8
    assert rows["binomial"] <= 9 + 8
    assert rows[4] <= 4 + 8


def test_a_carry_that_the_way_back_does_not_read_is_not_kept() -> None:
    """The results of a scan are carried and written row by row; no checkpoint holds them."""
    n, w = 400, 500

    def loss(x: Any) -> Any:
        last, ys = st.scan(lambda c, _: (np.sin(c) * 1.01, c * 2.0), x, length=n, checkpoint="sqrt")
        return np.sum(last) + np.sum(ys)

    rows = temporary_bytes(st.grad(loss), np.linspace(0.1, 1.0, w)) / (8 * w)
    assert rows <= 2 * n + 2 * 20 + 8  # the results, and their cotangents


def test_other_levels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"checkpoint is None, .* or a positive number of states, not 0"):
        st.fori_loop(0, 3, lambda i, c: c, 0.0, checkpoint=0)
    with pytest.raises(ValueError, match="'sqrt', 'binomial' or a positive number of states; not 'most'"):
        st.checkpoint(lambda x: x, policy="most")
