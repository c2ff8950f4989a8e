"""Gradients of loops in which every turn finds the same elements: what is computed once ahead defines sizes, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st


def summed(x: Any) -> Any:
    s = 0.0
    for i in range(5):
        s += (x[x > 0.01] * x[i]).sum()
    return s


def twice(x: Any) -> Any:
    s = 0.0
    for i in range(5):
        a = x[x > 0.01]
        s += (a[a > 0.2] * x[i]).sum()
    return s


def kept(x: Any) -> Any:
    a = x[:0]
    for _ in range(5):
        a = x[x > 0.01] * 2
    return (a * a).sum()


def in_a_while(x: Any) -> Any:
    s, k = 0.0, x[0]
    while k < 5:
        s, k = s + (x[x > 0.01] * k).sum(), k + 1.0
    return s


def cut_again(x: Any) -> Any:
    a, b = x[:0], x[x > 0.01]
    for _ in range(5):
        a = b * 0.605
        if a.sum() > 0.1:
            a = a[1:]
    return (a * a).sum()


@pytest.mark.parametrize("f", [summed, twice, kept, in_a_while, cut_again])
@pytest.mark.parametrize("n", [9, 13])
def test_gradients(f: Callable[..., Any], n: int) -> None:
    x = np.random.default_rng(n).standard_normal(n)
    want = [st.jvp(f, (x,), (row,))[1] for row in np.eye(n)]
    np.testing.assert_allclose(st.compile(st.grad(f))(x), want, rtol=1e-12, atol=1e-12)
