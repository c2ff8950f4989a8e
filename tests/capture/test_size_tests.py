"""Sizes that the data decide, as tests of `if`, `while`, `and`, `not`, `assert`, and as indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st


def a_size(x: Any) -> Any:
    y = x[x > 0]
    if y.size:
        return y.mean()
    return 0.0


def a_length_in_an_expression(x: Any) -> Any:
    y = x[x > 0]
    return y.mean() if len(y) else 0.0


def not_and_or(x: Any) -> Any:
    y = x[x > 0]
    if not y.size:
        return 0.0
    if (y.size > 2 and y.size < 100) or len(y) == 1:
        return y[0]
    return y.sum()


def a_truth(x: Any) -> Any:
    y = x[x > 0]
    large = bool(len(y)) and y[0] > 0
    return y.sum() * (1 if large else 2)


def checked(x: Any) -> Any:
    y = x[x > 0]
    assert len(y) % 7, "seven"
    return y.sum()


def in_a_loop(x: Any) -> Any:
    t = 0.0
    for i in range(3):
        w = x[x > 0.4 * i]
        t += w.mean() if w.size else 0.0
        if len(w) == 0:
            break
        if w.size < 2:
            continue
        t += w[1]
    return t


def while_something_is_left(x: Any) -> Any:
    n, y = 0, x.copy()
    while len(y[y > 0.5]) and n < 10:
        y[y > 0.5] -= 0.4
        n += 1
    return y.sum() * n


def median(x: Any) -> Any:
    """The index may be negative, and one branch inlined into another graph calls the size otherwise."""
    y = np.sort(x[x > 0])
    n = len(y)
    return y[n // 2] if n % 2 else 0.5 * (y[n // 2 - 1] + y[n // 2])


PROGRAMS = [
    a_size, a_length_in_an_expression, not_and_or, a_truth, checked, in_a_loop, while_something_is_left, median,
]  # fmt: skip
X = np.random.default_rng(0).normal(size=7)
XS = np.stack([X, X * 0.9, X[::-1], np.where(X == X.max(), 1.0, -1.0)])


@pytest.mark.parametrize("f", PROGRAMS)
def test_sizes_decide(f: Callable[[Any], Any]) -> None:
    compiled, grad = st.compile(f), st.grad(f)
    for x in XS:
        np.testing.assert_allclose(compiled(x), f(x.copy()), rtol=1e-13)
    st.testing.check_grads(f, (X,), order=1)
    np.testing.assert_allclose(st.compile(st.vmap(f))(XS), [f(x.copy()) for x in XS], rtol=1e-13)
    each = [grad(x) for x in XS]
    np.testing.assert_allclose(st.compile(st.vmap(grad))(XS), each, rtol=1e-12)


def test_a_check_of_a_size_fails_as_in_numpy() -> None:
    compiled = st.compile(checked)
    with pytest.raises(AssertionError, match="seven"):
        compiled(np.ones(7))
    with pytest.raises(AssertionError, match="seven"):
        compiled(-np.ones(7))
