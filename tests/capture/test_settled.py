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


def counted_bodies(monkeypatch: pytest.MonkeyPatch) -> list[UserRegion]:
    """The regions of loop bodies that are begun from here on."""
    bodies: list[UserRegion] = []
    made = UserRegion.__init__

    def count(self: UserRegion, name: str, *args: Any, **kwargs: Any) -> None:
        if name == "body":
            bodies.append(self)
        made(self, name, *args, **kwargs)

    monkeypatch.setattr(UserRegion, "__init__", count)
    return bodies


@pytest.mark.parametrize(("f", "depth"), [(one, 1), (two, 2), (three, 3), (four, 4)])
def test_the_innermost_body_of_a_nest_is_traced_once_per_loop_around(
    f: Callable[[Any], Any], depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = counted_bodies(monkeypatch)
    np.testing.assert_allclose(st.compile(f)(X), f(X), rtol=1e-14)
    assert len(bodies) == sum(d + 1 for d in range(1, depth + 1))


def whiles(x: Any) -> Any:
    i = 0
    while i < 9:
        j = 0
        while j < 8:
            k = 0
            while k < 7:
                x = np.sin(x)
                k += 1
            j += 1
        i += 1
    return x, i


def clocks_with_lists(x: Any) -> Any:
    t, found = 0.0, []
    while t < 1.0:
        n, rows = 0, []
        while n < 6:
            x = x + 0.1 * np.sin(x)
            n += 1
            rows.append(x)
        t += 0.01
        found.append(rows[-1] + len(rows))
    return np.stack(found), t, n


@pytest.mark.parametrize(("f", "most"), [(whiles, 9), (clocks_with_lists, 22)])
def test_nests_of_whiles_on_numbers_are_traced_few_times(
    f: Callable[[Any], Any], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = counted_bodies(monkeypatch)
    got, expected = st.compile(f)(X), f(X)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)
        assert type(a) is type(b)
    assert len(bodies) <= most


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
