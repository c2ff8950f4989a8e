"""Lists that a dict or an object holds (`history["t"].append(t)`, `self.rows.append(x)`), in traced loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.graphs import size_of

X = np.array([0.3, 0.7, 1.1])


class Record:
    def __init__(self) -> None:
        self.t: list[Any] = []
        self.x: list[Any] = []
        self.n = 0

    def add(self, t: Any, x: Any) -> None:
        self.t.append(t)
        self.x.append(x)
        self.n += 1


class Simulation:
    def __init__(self, x: Any) -> None:
        self.x = x
        self.history: list[Any] = []

    def step(self, i: int) -> None:
        self.x = np.sin(self.x) + 0.1 * i
        if i % 3 == 0:
            self.history.append(self.x.copy())


def in_a_dict(x: Any, n: int) -> Any:
    h: dict[str, list[Any]] = {"e": [], "t": []}
    names = ["a", "b"]
    other: dict[str, list[Any]] = {name: [] for name in names}
    for i in range(n):
        x = np.sin(x)
        h["e"].append(np.sum(x))
        h["t"].append(i * 0.1)
        for name in names:
            other[name].append(x[0] * i + len(name))
    return np.array(h["e"]) + np.array(h["t"]) + np.array(other["a"]) * np.array(other["b"])


def in_an_object(x: Any, n: int) -> Any:
    r = Record()
    for i in range(n):
        x = np.sin(x)
        r.add(i * 0.1, x)
    return np.array(r.t) @ np.array(r.x) + r.n


def now_and_then(x: Any, n: int) -> Any:
    s = Simulation(x)
    for i in range(n):
        s.step(i)
    return np.stack(s.history)


def by_data(x: Any, n: int) -> Any:
    r = Record()
    for i in range(n):
        if x[0] * i < 2:
            r.add(i, x * i)
    return r.n + np.sum(np.array(r.x)) + len(r.t)


def by_index(x: Any, n: int) -> Any:
    h: dict[str, Any] = {"y": [0.0] * n, "g": [[0.0] * 6 for _ in range(n)], "b": [None] * n}
    for i in range(1, n):
        h["y"][i] = h["y"][i - 1] * 0.5 + x[0]
        h["b"][i] = x * i
        for j in range(6):
            h["g"][i][j] = h["y"][i] + j
    return np.sum(np.array(h["y"])) + np.sum(np.array(h["g"])) + sum(h["b"][1:])


STAGED = [in_a_dict, in_an_object, now_and_then, by_data, by_index]


def also_a_variable(x: Any, n: int) -> Any:
    e: list[Any] = []
    h = {"e": e, "f": e}
    for i in range(n):
        h["e"].append(x * i)
    return np.array(h["f"]) + len(e)


def another_one(x: Any, n: int) -> Any:
    h: dict[str, Any] = {"e": []}
    outer = {"h": h}
    for i in range(n):
        h["e"].append(x * i)
        if i == 5:
            h["e"] = []
    return np.array(outer["h"]["e"])


def copied(x: Any, n: int) -> Any:
    h: dict[str, Any] = {"e": []}
    total = 0.0
    for i in range(n):
        h["e"].append(x[0] * i)
        other = dict(h)
        total = total + len(other["e"]) * other["e"][-1]
    return total


ALL = [*STAGED, also_a_variable, another_one, copied]


def everything(x: Any) -> Any:
    return [np.sum(f(x, 10)) for f in ALL]


def test_as_python() -> None:
    np.testing.assert_allclose(st.compile(everything)(X), everything(X), rtol=1e-12)


def test_transforms() -> None:
    def total(x: Any) -> Any:
        return np.sum(in_an_object(x, 6)) + np.sum(by_index(x, 10))

    st.testing.check_grads(total, (X,), order=1)
    xs = np.stack([X, X * 0.7])
    np.testing.assert_allclose(st.compile(st.vmap(total))(xs), [total(x) for x in xs], rtol=1e-12)


@pytest.mark.parametrize("f", STAGED)
def test_one_size(f: Callable[[Any, int], Any]) -> None:
    sizes = [size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (20, 60)]
    assert sizes[0] == sizes[1]


def test_under_a_condition() -> None:
    def f(x: Any) -> Any:
        held: dict[str, Any] = {"out": [], "n": 1}
        if x[0] > 0:
            held["out"].append(x)
        return held

    compiled = st.compile(f)
    for x in (X, -X):
        got, want = compiled(x), f(x)
        assert len(got["out"]) == len(want["out"])
        np.testing.assert_array_equal(np.array(got["out"]), np.array(want["out"]))


def test_what_comes_back() -> None:
    def f(x: Any) -> Any:
        h: dict[str, Any] = {"e": [], "n": 0}
        e = h["e"]
        for i in range(9):
            if i % 2:
                h["e"].append(x * i)
            h["n"] += i
        return h, e is h["e"]

    (got, same), (want, _) = st.compile(f)(X), f(X)
    assert same
    assert list(got) == list(want)
    assert got["n"] == want["n"]
    np.testing.assert_allclose(np.stack(got["e"]), np.stack(want["e"]), rtol=1e-14)
