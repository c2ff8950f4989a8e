"""Nested functions that bind variables of the function around, under traced conditions and in staged loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st

X = np.array([0.5, -1.2, 0.3])


def one_condition(x: Any) -> Any:
    best = x.sum()

    def consider(c: Any) -> None:
        nonlocal best
        if c.sum() < best:
            best = c.sum()

    consider(x + 1)
    consider(x - 1)
    return best


def best_of_many(x: Any) -> Any:
    best, cost, n = x.copy(), 1e9, 0

    def consider(c: Any) -> None:
        nonlocal best, cost, n
        n += 1
        v = (c**2).sum()
        if v < cost:
            best = c
            cost = v

    for i in range(8):
        consider(x * (1 - 0.2 * i) + 0.1)
    best[0] = 0.5
    return best, cost, n


def under_conditions(x: Any) -> Any:
    t = x[0]

    def change(v: Any) -> Any:
        nonlocal t
        if v > 0:
            t = t + v
            return 1.0
        elif v < -1:
            t = t * v
        else:
            return 2.0
        t = t + 0.5
        return 3.0

    r = change(x[1])
    if x[2] > 0:
        r = r + change(x[2])
    return t, r


def loops_inside(x: Any) -> Any:
    t, k = x[0], 0

    def add(v: Any) -> None:
        nonlocal t, k
        for i in range(6):
            if t > 2.0:
                break
            t = t + v * i
        while k < 5:
            k += 1

    add(x[2])
    add(-x[1])
    return t, k


def two_deep(x: Any) -> Any:
    t, u = x[0], x[1]

    def outer(v: Any) -> Any:
        def inner(w: Any) -> None:
            nonlocal t
            if w > 0:
                t = t * w

        nonlocal u
        inner(v)
        if t > 0:
            u = t
        return u

    return outer(x[2]) + outer(x[0]), t, u


def set_in_a_loop_that_leaves(x: Any) -> Any:
    last, found = x[0], False

    def look(v: Any) -> None:
        nonlocal last, found
        if v > 0.2 and not found:
            last, found = v, True

    for v in np.concatenate([x, x[::-1] * 2, x]):
        look(v)
        if last > 5:
            break
    return last, found


@pytest.mark.parametrize(
    "f", [one_condition, best_of_many, under_conditions, loops_inside, two_deep, set_in_a_loop_that_leaves]
)
def test_as_python(f: Callable[[Any], Any]) -> None:
    for x in (X, X[::-1].copy(), -X):
        want = f(x)
        got = st.functionalize(f)(x)
        for g, w in zip(
            got if isinstance(got, tuple) else [got], want if isinstance(want, tuple) else [want], strict=True
        ):
            np.testing.assert_allclose(g, w, rtol=1e-12)


def test_lanes_and_slopes() -> None:
    def cost(x: Any) -> Any:
        return best_of_many(x)[1] + one_condition(x)

    xs = np.stack([X, X[::-1], -X])
    np.testing.assert_allclose(st.compile(st.vmap(cost))(xs), [cost(x) for x in xs], rtol=1e-12)
    st.testing.check_grads(cost, (X,), order=1, modes=("rev",))
