"""Tests of a `while` that change what they test: Python makes each once, at the beginning of its turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError

X = np.array([0.3, 0.7, 1.1])


def counts_up(x: Any) -> Any:
    s, k = x.sum(), 0
    while (k := k + 1) < 10:
        s = s * 0.5 + k
    return s, k


def counts_down(x: Any) -> Any:
    s, k = x.sum(), 9
    while k := k - 1:
        if k % 2:
            continue
        s = s * 0.5 + k
    return s, k


def data_decide(x: Any) -> Any:
    s, k = x.sum(), 0
    while (s := np.cos(s) * 0.9) > 0.65 and k < 50:
        k += 1
    return s, k


def data_decide_and_leaves(x: Any) -> Any:
    s, n = x.sum(), 0
    while (s := s * 0.5) > 0.1:
        n += 1
        if n > 2:
            break
    return s, n


def with_an_else(x: Any) -> Any:
    s, k = x.sum(), 6
    while k := k - 1:
        s = s * 0.5 + k
    else:
        s = s + 1
    return s, k


def with_an_else_that_jumps(x: Any) -> Any:
    i = 0
    for i in range(3):
        k = 6
        while (k := k - 1) > 0:
            x = x * 0.9 + k
        else:
            if i == 1:
                break
    return x, i


def nested(x: Any) -> Any:
    s, i = x.sum(), 0
    while (i := i + 1) < 6:
        j = 0
        while (j := j + 1) < 6:
            s = s * 0.5 + i * j
    return s, i


def a_function_tests(x: Any) -> Any:
    s, k = x.sum(), 0

    def step() -> Any:
        nonlocal k
        k += 1
        return k

    while step() < 10:
        s = s * 0.5 + k
    return s, k


def a_function_tests_data(x: Any) -> Any:
    s, n = x.sum(), 0

    def step() -> Any:
        nonlocal s
        s = s * 0.5
        return s

    while step() > 0.2:
        n += 1
    return s, n


class Clock:
    def __init__(self) -> None:
        self.k = 0

    def tick(self) -> Any:
        self.k += 1
        return self.k


def an_object_tests(x: Any) -> Any:
    s, clock = x.sum(), Clock()
    while clock.tick() < 9:
        s = s * 0.5 + clock.k
    return s, clock.k


def an_object_tests_data(x: Any) -> Any:
    s, clock = x.sum(), Clock()
    while clock.tick() * s < 9:
        s = s * 0.5 + clock.k
    return s, clock.k


STAGED = [
    counts_up, counts_down, data_decide, data_decide_and_leaves, with_an_else, with_an_else_that_jumps, nested,
    a_function_tests, a_function_tests_data, an_object_tests,
]  # fmt: skip


@pytest.mark.parametrize("f", STAGED, ids=lambda f: f.__name__)
def test_each_turn_tests_once(f: Any) -> None:
    want = f(X)
    for got in (st.compile(f)(X), st.functionalize(f)(X)):
        for g, w in zip(got, want, strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-12)


def test_a_test_that_changes_an_object_is_refused() -> None:
    with pytest.raises(ControlFlowError, match=r"the test of a traced while loop writes into an object"):
        st.make_graph(an_object_tests_data)(X)
    got, want = st.grad(lambda x: an_object_tests_data(x)[0])(X), 0.25
    np.testing.assert_allclose(got, want)  # where values are known the loop runs in Python
