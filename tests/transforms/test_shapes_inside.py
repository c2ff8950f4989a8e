"""`eval_shape` and what asks it (`jacobian`) inside of other traces: they see the values around and leave none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st

W = np.arange(3.0)
X = np.array([1.0, 2.0, 3.0])


def times(x: Any, w: Any) -> Any:
    return st.jacobian(lambda v: w * v * W)(x)


def scaled(x: Any, w: Any) -> Any:
    return x * np.prod(st.eval_shape(lambda v: w * v * x, W).shape)


def in_a_loop(x: Any, w: Any) -> Any:
    for _ in range(5):
        x = st.jacobian(lambda v: v * w)(x) @ x
    return x


def writes(x: Any, w: Any) -> Any:
    def f(v: Any) -> Any:
        w[0] = 7.0
        return v * w

    assert st.eval_shape(f, x).shape == x.shape
    return x * w


WANT: dict[Callable[..., Any], Callable[..., Any]] = {
    times: lambda x, w: np.diag(w * W),
    scaled: lambda x, w: x * 3,
    in_a_loop: lambda x, w: x * w**5,
    writes: lambda x, w: x * w,
}
AROUND: dict[str, Callable[..., Any]] = {
    "compile": st.compile,
    "functionalize": st.functionalize,
    "vmap": lambda f: lambda x, w: st.vmap(f)(np.stack([x, x]), np.stack([w, w]))[1],
    "compiled vmap": lambda f: st.compile(lambda x, w: st.vmap(f)(np.stack([x, x]), np.stack([w, w]))[1]),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("f", WANT, ids=lambda f: f.__name__)
def test_values_around_are_seen(f: Callable[..., Any], around: str) -> None:
    w = np.array([0.5, 2.0, -1.0])
    np.testing.assert_allclose(AROUND[around](f)(X, w.copy()), WANT[f](X, w))


@pytest.mark.parametrize("f", [scaled, in_a_loop], ids=lambda f: f.__name__)
def test_under_differentiation(f: Callable[..., Any]) -> None:
    w = np.array([0.5, 2.0, -1.0])

    def loss(x: Any, w: Any) -> Any:
        return (f(x, w) ** 2).sum()

    step = 1e-6
    want = [(loss(X, w + step * e) - loss(X, w - step * e)) / (2 * step) for e in np.eye(3)] if f is scaled else (
        10 * X**2 * w**9
    )  # fmt: skip
    for g in (st.grad(loss, 1), st.compile(st.grad(loss, 1))):
        np.testing.assert_allclose(g(X, w), want, atol=1e-8)


def test_plain_jacobian_of_a_closure() -> None:
    np.testing.assert_array_equal(st.jacobian(lambda v: W * v)(X), np.diag(W))


@pytest.mark.parametrize("transform", [st.jacfwd, st.jacrev, st.jacobian])
def test_random_numbers_are_drawn_once(transform: Any) -> None:
    key = st.random.key(0)
    noise = st.random.normal(key, (3,))
    np.testing.assert_allclose(transform(lambda x: x * st.random.normal(key, (3,)))(X), np.diag(noise))
    want = np.zeros((3, 3, 3))
    want[range(3), range(3), range(3)] = 2 * noise
    np.testing.assert_allclose(st.hessian(lambda x: x**2 * st.random.normal(key, (3,)))(X), want)
