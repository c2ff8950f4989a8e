"""Masks that compare the same arrays share the bytes of a tape, whatever the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st


def shortest(d: Any) -> Any:
    """Ties wherever a path goes through its own end."""
    for k in range(d.shape[0]):
        d = np.minimum(d, d[:, k : k + 1] + d[k])
    return d


def within(x: Any) -> Any:
    for _ in range(5):
        x = np.clip(np.sin(x) * 2.0, -x - 0.5, 0.9)
    return x


def within_until(x: Any) -> Any:
    """The run counts the turns."""
    while np.sum(x) < 40.0:
        x = np.maximum(np.minimum(x * 1.5, 3.0 - x), x + 0.1)
    return x


def triangle(x: Any) -> Any:
    """Rows grow with the index."""
    x = x.copy()
    for i in range(1, x.shape[0]):
        x[i, :i] = np.maximum(x[i, :i], x[i - 1, :i] * x[i, i])
    return x


def many(x: Any) -> Any:
    """More masks than a byte has bits."""
    for _ in range(3):
        total = 0.1 * x
        for k in range(11):
            total = total + np.where(x * x > 0.1 * k, np.sin(x), 0.5)
        x = 0.2 * total
    return x


PROGRAMS = [shortest, within, within_until, triangle, many]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_gradients_agree_with_tangents(program: Callable[[Any], Any]) -> None:
    rng = np.random.default_rng(0)
    x, way, weights = (rng.random((9, 9)) + 0.1 for _ in range(3))

    def loss(x: Any) -> Any:
        return np.sum(weights * program(x))

    _, slope = st.compile(lambda x: st.jvp(loss, (x,), (way,)))(x)
    got = st.compile(st.grad(loss))(x)
    np.testing.assert_allclose(np.sum(got * way), slope, rtol=1e-12)
    step = 1e-7
    np.testing.assert_allclose((loss(x + step * way) - loss(x - step * way)) / (2 * step), slope, rtol=1e-5)


def test_halves_at_ties_and_nothing_of_nans() -> None:
    x, y = np.array([1.0, 2.0, 3.0, np.nan]), np.array([1.0, 3.0, 2.0, 1.0])

    def loss(x: Any, y: Any) -> Any:
        for _ in range(1):
            x = np.minimum(x, y)
        return np.sum(x)

    to_x, to_y = st.compile(st.grad(loss, argnums=(0, 1)))(x, y)
    np.testing.assert_array_equal(to_x, [0.5, 1.0, 0.0, 0.0])
    np.testing.assert_array_equal(to_y, [0.5, 0.0, 1.0, 0.0])
