"""Masked updates: packed, computed and unpacked is computed everywhere and selected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.pipeline import optimize


def packs(f: Callable[..., Any], *args: Any) -> bool:
    """Whether the optimised graph of a function still packs elements."""
    graph = optimize(st.make_graph(f)(*args))
    return any(n.op.name in ("cumsum", "gather", "scatter") for n in graph.nodes)


def sqrt_where(x: Any) -> Any:
    y = x.copy()
    m = x > 0.3
    y[m] = np.sqrt(y[m]) + 2.0 * x[m]
    return y


def both_sides(x: Any) -> Any:
    y = x.copy()
    m = y > 0.3
    y[m] = y[m] + 1.0
    y[~m] *= 0.5
    return y


def integers(x: Any) -> Any:
    k = (10.0 * x).astype(np.int64)
    k[k % 2 == 0] //= 2
    return k


@pytest.mark.parametrize("f", [sqrt_where, both_sides, integers])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (0,)])
def test_elementwise_work_under_a_mask_is_not_packed(f: Any, shape: Any, rng: np.random.Generator) -> None:
    x = rng.uniform(0.0, 1.0, shape)
    np.testing.assert_array_equal(st.compile(f)(x), f(x))
    if x.size:
        assert not packs(f, x)


def test_values_of_another_mask_stay_packed(rng: np.random.Generator) -> None:
    def f(x: Any) -> Any:
        y = x.copy()
        m = x > 0.5
        y[m] = x[:5][m[:5]].sum() + np.sort(x[m])
        return y

    x = rng.uniform(0.0, 1.0, 9)
    np.testing.assert_array_equal(st.compile(f)(x), f(x))
    assert packs(f, x)


def test_a_nan_belongs_to_neither_side() -> None:
    def f(x: Any) -> Any:
        y = x.copy()
        y[x > 0.0] = y[x > 0.0] * 2.0
        y[x <= 0.0] = y[x <= 0.0] * 3.0
        return y

    x = np.array([1.0, np.nan, -1.0, np.inf])
    np.testing.assert_array_equal(st.compile(f)(x), f(x))


@pytest.mark.parametrize("f", [sqrt_where, both_sides])
def test_gradients_do_not_pack(f: Callable[[Any], Any], rng: Any) -> None:
    x = rng.uniform(-1.0, 1.0, 40)
    gradient = st.grad(lambda x: np.sum(np.cos(f(x))))
    assert not packs(gradient, x)
    step = 1e-6 * np.cos(np.arange(40.0))
    moved = (np.sum(np.cos(f(x + step))) - np.sum(np.cos(f(x - step)))) / 2
    assert np.isclose(np.dot(st.compile(gradient)(x), step), moved, rtol=1e-5)
