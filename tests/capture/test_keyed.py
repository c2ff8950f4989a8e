"""Dict comprehensions, dicts that a traced integer looks into, and rows of one array that it picks from a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.graphs import size_of

X = np.array([0.3, 0.7, 1.1])


def by_counter(x: Any, n: int) -> Any:
    d = {i: x[0] * i for i in range(n)}
    return d[n // 2] + sum(d.values()) + max(d.values())


def looked_up(x: Any, n: int) -> Any:
    d = {i: x * i for i in range(2, n)}
    t = 0.0
    for i in range(2, n):
        t = t + d[i] * np.cos(t)
    return t


def with_a_test(x: Any, n: int) -> Any:
    d = {i: x * i for i in range(n) if i % 2}
    return np.array(list(d.values())) * len(list(d))


def rows_in_place(x: Any, n: int) -> Any:
    """What is written into an item is seen under its other name."""
    out = [x * i for i in range(n)]
    y = out[2]
    for i in range(n):
        out[i][0] = out[i - 1][1] + x[1]
    return np.array(out) + y


def picked_by_data(x: Any, n: int) -> Any:
    out = [x * i for i in range(n)]
    k = int(np.argmax(x))
    out[k][1] = 9.0
    return np.array(out) + out[k]


STAGED = [by_counter, looked_up, with_a_test, rows_in_place, picked_by_data]


def repeated_keys(x: Any, n: int) -> Any:
    return sum({i % 3: x * i for i in range(n)}.values())


def pairs(x: Any, n: int) -> Any:
    d = {(i, j): x[0] * i + j for i in range(n) for j in range(3)}
    return d[3, 2] + len(d)


def nested(x: Any, n: int) -> Any:
    d = {i * i: (x * i, i) for i in range(n)}
    e = {f"k{k}": v[0] * v[1] for k, v in d.items()}
    return e["k9"] + sum({k: v for k, v in zip(("a", "b", "c"), x, strict=True)}.values())


ALL = [*STAGED, repeated_keys, pairs, nested]


def everything(x: Any) -> Any:
    return [np.sum(f(x, 10)) for f in ALL]


def test_as_python() -> None:
    np.testing.assert_allclose(st.compile(everything)(X), everything(X), rtol=1e-12)
    st.testing.check_grads(lambda x: looked_up(x, 6) + np.sum(rows_in_place(x, 6)), (X,), order=1)


@pytest.mark.parametrize("f", STAGED)
def test_one_size(f: Callable[[Any, int], Any]) -> None:
    sizes = [size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (20, 60)]
    assert sizes[0] == sizes[1]


def test_what_comes_back() -> None:
    def f(x: Any) -> Any:
        return {i: x * i for i in range(6, 0, -1)}

    got, want = st.compile(f)(X), f(X)
    assert list(got) == list(want)
    for k in want:
        np.testing.assert_allclose(got[k], want[k], rtol=1e-14)


def test_a_key_that_is_not_there() -> None:
    def f(x: Any) -> Any:
        d = {i: x * i for i in range(9)}
        t = x
        for i in range(10):
            t = t + d[i]
        return t

    with pytest.raises(KeyError):
        st.compile(f)(X)
