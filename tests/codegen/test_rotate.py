"""Stencils in place: two arrays change places instead of a copy back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.pipeline import optimize


def program(f: Callable[..., Any], *args: Any) -> str:
    return str(compile_graph(optimize(st.make_graph(f)(*args)), Target.host()).program)


def heat(u: Any, steps: Any) -> Any:
    u = u.copy()
    for _ in range(steps):
        u[1:-1] += 0.2 * (u[2:] - 2.0 * u[1:-1] + u[:-2])
    return u


def plane(u: Any, steps: Any) -> Any:
    u = u.copy()
    for _ in range(steps):
        u[1:-1, 2:-1] = 0.25 * (u[2:, 2:-1] + u[:-2, 2:-1] + u[1:-1, 3:] + u[1:-1, 1:-2])
    return u


def watched(u: Any, steps: Any) -> Any:
    u = u.copy()
    totals = np.zeros(steps)
    for t in range(steps):
        u[1:-1] = 0.5 * (u[2:] + u[:-2])
        totals[t] = np.sum(u * u)
    return u, totals


def with_border(u: Any, steps: Any) -> Any:
    u = u.copy()
    for t in range(steps):
        u[1:-1] = 0.5 * (u[2:] + u[:-2])
        u[0] = 0.1 * t
    return u


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 6])
@pytest.mark.parametrize(("f", "shape"), [(heat, (300,)), (plane, (30, 20)), (watched, (200,)), (with_border, (200,))])
def test_stencils_in_place(f: Any, shape: Any, steps: int, rng: np.random.Generator) -> None:
    u = rng.standard_normal(shape)
    got, want = st.compile(f)(u, steps), f(u, steps)
    for g, w in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
        np.testing.assert_allclose(g, w, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(("f", "shape"), [(heat, (300,)), (plane, (30, 20)), (watched, (200,))])
def test_the_region_is_not_copied_back(f: Any, shape: Any) -> None:
    assert "swap" in program(f, np.zeros(shape), 6)


def test_what_writes_more_than_the_region_copies() -> None:
    assert "swap" not in program(with_border, np.zeros(200), 6)


def test_a_region_that_moves_is_no_second_array(rng: np.random.Generator) -> None:
    def rows(x: Any) -> Any:
        out = np.zeros_like(x)
        for i in range(x.shape[0]):
            out[i] = x[i] + out[i - 1]
        return out

    def until(x: Any) -> Any:
        out, i = np.zeros_like(x), 0
        while i < x.shape[0] and x[i, 0] < 5.0:
            out[i] = x[i] + 0.5 * out[i - 1]
            i += 1
        return out

    x = rng.standard_normal((12, 100))
    for f in (rows, until):
        assert "swap" not in program(f, x)
        np.testing.assert_allclose(st.compile(f)(x), f(x), rtol=1e-14)


def test_arguments_in_place(rng: np.random.Generator) -> None:
    def sweeps(u: Any) -> None:
        for _ in range(7):
            u[1:-1] = 0.5 * (u[2:] + u[:-2])

    u = rng.standard_normal(100)
    want, got = u.copy(), u.copy()
    sweeps(want)
    st.compile(sweeps)(got)
    np.testing.assert_allclose(got, want, rtol=1e-13)
    strided = np.zeros(200)[::2]
    strided[:] = u
    st.compile(sweeps)(strided)
    np.testing.assert_allclose(strided, want, rtol=1e-13)


def test_an_array_that_a_loop_around_makes_anew(rng: np.random.Generator) -> None:
    """The copy in front of the inner loop is no return of a carry of the outer one."""

    def histories(v: Any, n: Any) -> Any:
        rows = np.zeros((n, v.shape[0]))
        for k in range(n):
            u = rows[k - 1] + v
            for _ in range(k):
                u[1:-1] += 0.1 * (u[2:] - 2.0 * u[1:-1] + u[:-2])
            rows[k] = u
        return rows

    v = rng.standard_normal(300)
    np.testing.assert_allclose(st.compile(histories)(v, 5), histories(v, 5), rtol=1e-13)


def test_stretches_of_a_stencil_run_again(rng: np.random.Generator) -> None:
    def energy(u: Any, steps: Any, c: Any) -> Any:
        u = u.copy()
        for _ in range(steps):
            u[1:-1] += c * (u[2:] - 2.0 * u[1:-1] + u[:-2])
        return np.sum(u * u)

    u = rng.standard_normal(200)
    want = st.compile(st.grad(energy, argnums=(0, 2)))(u, 20, 0.2)
    got = st.compile(st.grad(st.checkpoint(energy, policy="sqrt"), argnums=(0, 2)))(u, 20, 0.2)
    for x, y in zip(got, want, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)
