"""Every way in which control flow is captured, under every transform: NumPy, a loop and differences are the oracles."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.ir.evaluate import evaluate_graph
from stager.ir.verify import verify
from stager.tracing import trace
from tests.transforms.control_corpus import CASES, POINTS

T = np.array([0.7, -0.3, 0.5, 0.2, -0.9])
STEP = 1e-5
CLOSE = {"rtol": 2e-7, "atol": 2e-8}  # of central differences with STEP
SAME = {"rtol": 1e-11, "atol": 1e-12}


def scalar_of(f: Callable[..., Any]) -> Callable[..., Any]:
    def scalar(x: Any) -> Any:
        return np.sin(f(x.copy()) * 0.3).sum()

    return scalar


def slope(f: Callable[..., Any], x: Any, t: Any) -> Any:
    """The derivative along t, of fourth order."""
    y = [np.asarray(f(x + k * STEP * t), dtype=float) for k in (-2, -1, 1, 2)]
    return (y[0] - 8 * y[1] + 8 * y[2] - y[3]) / (12 * STEP)


@functools.cache
def values(name: str) -> list[Any]:
    return [np.asarray(CASES[name](x.copy()), dtype=float) for x in POINTS]


@functools.cache
def gradients(name: str) -> Any:
    scalar = scalar_of(CASES[name])
    return np.array([[slope(scalar, x, unit) for unit in np.eye(5)] for x in POINTS])


@functools.cache
def gradient_of(name: str) -> Callable[..., Any]:
    return st.compile(st.grad(scalar_of(CASES[name])))


@functools.cache
def product(name: str) -> Any:
    """Hessian times T at one point, by differences of a gradient that its own test holds against NumPy."""
    return slope(gradient_of(name), chosen(name)[0], T)


def chosen(name: str) -> tuple[Any, int]:
    """A point and its number, another one for the next case."""
    k = list(CASES).index(name) % len(POINTS)
    return POINTS[k], k


def evaluated(f: Callable[..., Any], x: Any) -> list[Any]:
    """The results of the graph of f by the reference evaluator, which takes no time to compile."""
    traced = trace(f, (x,), {})
    verify(traced.graph)
    return evaluate_graph(traced.graph, [leaf.value for leaf in traced.leaves if leaf.input is not None])


def compiled(name: str) -> None:
    f = st.compile(CASES[name])
    for x, want in zip(POINTS, values(name), strict=True):
        np.testing.assert_allclose(f(x.copy()), want, **SAME)


def grad(name: str) -> None:
    for x, want in zip(POINTS, gradients(name), strict=True):
        np.testing.assert_allclose(gradient_of(name)(x), want, **CLOSE)


def grad_vmap(name: str) -> None:
    scalar = scalar_of(CASES[name])
    got = st.compile(st.grad(lambda xs: st.vmap(scalar)(xs).sum()))(POINTS)
    np.testing.assert_allclose(got, gradients(name), **CLOSE)


def jvp(name: str) -> None:
    f, (x, k) = CASES[name], chosen(name)
    y, t = evaluated(lambda x: st.jvp(lambda x: f(x.copy()), (x,), (T,)), x)
    np.testing.assert_allclose(y, values(name)[k], **SAME)
    np.testing.assert_allclose(t, slope(lambda x: f(x.copy()), x, T), **CLOSE)


def vmap(name: str) -> None:
    f = CASES[name]
    (got,) = evaluated(st.vmap(lambda x: f(x.copy())), POINTS)
    np.testing.assert_allclose(got, np.stack(values(name)), **SAME)


def vmap_grad(name: str) -> None:
    (got,) = evaluated(st.vmap(st.grad(scalar_of(CASES[name])), in_dims=1), POINTS.T)
    np.testing.assert_allclose(got, gradients(name), **CLOSE)


def jvp_grad(name: str) -> None:
    gradient = st.grad(scalar_of(CASES[name]))
    (got,) = evaluated(lambda x: st.jvp(gradient, (x,), (T,))[1], chosen(name)[0])
    np.testing.assert_allclose(got, product(name), **CLOSE)


def grad_grad(name: str) -> None:
    gradient = st.grad(scalar_of(CASES[name]))
    (got,) = evaluated(st.grad(lambda x: (gradient(x) * T).sum()), chosen(name)[0])
    np.testing.assert_allclose(got, product(name), **CLOSE)


def functionalize_inside(name: str) -> None:
    pure, (x, k) = st.functionalize(CASES[name], remove="mutations_and_views"), chosen(name)
    (got,) = evaluated(st.grad(scalar_of(pure)), x)
    np.testing.assert_allclose(got, gradients(name)[k], **CLOSE)


def functionalize_outside(name: str) -> None:
    f = CASES[name]
    (got,) = evaluated(st.functionalize(st.vmap(st.grad(st.functionalize(scalar_of(f))))), POINTS)
    np.testing.assert_allclose(got, gradients(name), **CLOSE)


TRANSFORMS = [
    compiled,
    grad,
    grad_vmap,
    jvp,
    vmap,
    vmap_grad,
    jvp_grad,
    grad_grad,
    functionalize_inside,
    functionalize_outside,
]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_captured(transform: Callable[[str], None], name: str) -> None:
    transform(name)
