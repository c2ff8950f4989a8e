"""Loops inside of loops begin with the types that they had in the trace before: nests are traced few times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.staged import UserRegion

X = np.arange(25.0) / 7


def one(x: Any) -> Any:
    s = 0
    for i in range(25):
        s = s + x[i]
    return s


def two(x: Any) -> Any:
    s = 0
    for i in range(20):
        t = 0
        for j in range(25):
            t = t + x[j]
        s = s + t * i
    return s


def three(x: Any) -> Any:
    s = 0
    for i in range(20):
        t = 0
        for j in range(30):
            u = 0
            for k in range(25):
                u = u + x[k]
            t = t + u * j
        s = s + t * i
    return s


def four(x: Any) -> Any:
    s = 0
    for _ in range(30):
        t = 0
        for i in range(20):
            u = 0
            for j in range(30):
                v = 0
                for k in range(25):
                    v = v + x[k]
                u = u + v * j
            t = t + u * i
        s = s + t
    return s


@pytest.mark.parametrize(("f", "depth"), [(one, 1), (two, 2), (three, 3), (four, 4)])
def test_the_innermost_body_of_a_nest_is_traced_once_per_loop_around(
    f: Callable[[Any], Any], depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = 0
    made = UserRegion.__init__

    def count(self: UserRegion, name: str, *args: Any, **kwargs: Any) -> None:
        nonlocal bodies
        bodies += name == "body"
        made(self, name, *args, **kwargs)

    monkeypatch.setattr(UserRegion, "__init__", count)
    np.testing.assert_allclose(st.compile(f)(X), f(X), rtol=1e-14)
    assert bodies == sum(d + 1 for d in range(1, depth + 1))


def total(y: Any) -> Any:
    s = 0
    for i in range(20):
        for j in range(2):
            s = s + y[i + j]
    return s


def of_several_types(x: Any, n: Any) -> Any:
    s, found = 0, []
    for i in range(20):
        found = [total(n), total(x), total(n)]
        s = s + found[1] + found[2] * i
    return s, found[0], found[1], found[2]


def test_a_loop_does_not_have_the_types_of_another_call() -> None:
    n = np.arange(25, dtype=np.int32)
    for got, expected in zip(st.compile(of_several_types)(X, n), of_several_types(X, n), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-14)
        assert np.asarray(got).dtype == np.asarray(expected).dtype
