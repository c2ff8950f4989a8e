"""Variables without a value before a loop, which only some iterations set: the others keep what they hold."""

from __future__ import annotations

import numpy as np
import pytest

import stager as st
from tests.capture.test_staged import assert_same, evaluated

X = np.array([0.3, -0.2, 0.5])


def now_and_then(x):
    for t in range(12):
        x = x + 1
        if t % 10 == 0:
            last = x * 2
    return last


def read_between(x):
    total = 0.0
    for t in range(12):
        x = x * 1.1
        if t % 5 == 0:
            near = x * 2
        total = total + near * t
    return total, near


def in_a_while(x):
    t = 0
    while x[0] < 9:
        x = x + 1
        if x[0] < 5:
            last = x, t
        if t % 3 == 0:
            other = x * 2
        t += 1
    return last, other


def in_an_inner_loop(x):
    for t in range(9):
        for k in range(t % 7):
            if k < 3:
                found = x * (k + t)
    return found


def of_the_longest_row(x):
    for t in range(9):
        for k in range(5 - t):
            row = x * k + t
    return row, k


def by_continue(x):
    for t in range(9):
        if x[0] + t > 4:
            continue
        last = x * t
    return last


def of_growing_length(x):
    for t in range(9):
        if t % 4 == 0:
            part = np.ones(t + 1) * x[0]
    return part


@pytest.mark.parametrize(
    "f",
    [
        now_and_then, read_between, in_a_while, in_an_inner_loop, of_the_longest_row, by_continue, of_growing_length,
    ],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_they_keep_their_values(f) -> None:
    assert_same(evaluated(f, X.copy())[0], f(X.copy()))


def test_their_gradients() -> None:
    def loss(x):
        return np.sum(read_between(x)[0] ** 2)

    e, v = 1e-6, np.array([0.1, 0.2, -0.3])
    slope = (loss(X + e * v) - loss(X - e * v)) / (2 * e)
    np.testing.assert_allclose(st.grad(loss)(X) @ v, slope, rtol=1e-6)
