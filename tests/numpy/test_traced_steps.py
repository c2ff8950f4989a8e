"""Slices whose step only the run knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def strides(x: Any, y: Any) -> Any:
    out = np.zeros(5)
    for i in range(1, 6):
        out[i - 1] = np.sum(x[::i]) + np.sum(x[i::i] * 2.0) + np.sum(y[3::-i, 1:4]) + np.sum(y[1, ::i])
        y[::i, 2] *= 1.5
        x[-i::-i] += 0.1
    return out


def loss(x: Any, y: Any) -> Any:
    x, y = x.copy(), y.copy()
    out = strides(x, y)
    return np.sum(out * out) + np.sum(y * y)


def test_reads_and_writes(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal(17), rng.standard_normal((6, 9))
    want_x, want_y = x.copy(), y.copy()
    want = strides(want_x, want_y)
    np.testing.assert_allclose(st.compile(strides)(x, y), want, rtol=1e-13)
    np.testing.assert_allclose(x, want_x, rtol=1e-13)
    np.testing.assert_allclose(y, want_y, rtol=1e-13)


def test_gradient_and_vmap(rng: np.random.Generator) -> None:
    x, y = rng.standard_normal(17), rng.standard_normal((6, 9))
    along = rng.standard_normal(17)
    slope = (loss(x + 1e-6 * along, y) - loss(x - 1e-6 * along, y)) / 2e-6
    gradient = st.compile(st.grad(loss))(x, y)
    assert np.dot(gradient, along) == pytest.approx(slope, rel=1e-6)
    xs = rng.standard_normal((3, 17))
    got = st.compile(st.vmap(loss, in_dims=(0, None)))(xs, y)
    np.testing.assert_allclose(got, [loss(row, y) for row in xs], rtol=1e-12)


def test_a_step_of_zero_raises() -> None:
    def f(x: Any) -> Any:
        total = 0.0
        for i in range(5, -1, -1):
            total += np.sum(x[::i])
        return total

    with pytest.raises(ValueError, match="slice step cannot be zero"):
        st.compile(f)(np.ones(9))
