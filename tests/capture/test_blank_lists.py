"""Lists that are made of blanks (`[None] * n`, `[[] for _ in range(n)]`) and filled by a traced loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.graphs import size_of

X = np.array([0.3, 0.7, 1.1])


def filled(x: Any, n: int) -> Any:
    out: list[Any] = [None] * n
    for i in range(n):
        out[i] = np.sin(x) * i
    return np.array(out)


def read_back(x: Any, n: int) -> Any:
    ys: list[Any] = [None] * (n + 1)
    ts: list[Any] = [None for _ in range(n + 1)]
    ys[0], ts[0] = x, 0.0
    for i in range(n):
        ts[i + 1] = ts[i] + 0.1
        ys[i + 1] = ys[i] + 0.1 * np.cos(ts[i] * ys[i])
    return np.array(ts) @ np.array(ys)


def replaced(x: Any, n: int) -> Any:
    out: list[Any] = [[] for _ in range(n)]
    for i in range(n):
        out[i] = [x[0] * i, x[1], x[2]]
    return np.array(out)


def records(x: Any, n: int) -> Any:
    out: list[Any] = [None] * n
    for i in range(-1, -n - 1, -1):
        out[i] = {"a": x * i, "b": (x[0], i)}
    return out[5]["a"] * out[7]["b"][1]


def nested(x: Any, n: int) -> Any:
    out: list[Any] = [None] * (3 * n)
    for i in range(n):
        for j in range(3):
            out[3 * i + j] = x[j] * i
    return np.array(out)


def in_two_loops(x: Any, n: int) -> Any:
    out: list[Any] = [None] * n
    for i in range(n // 2):
        out[i] = x * i
    for i in range(n // 2, n):
        out[i] = x * i * 2 + out[i - 3]
    return np.stack(out)


def summed_so_far(x: Any, n: int) -> Any:
    out: list[Any] = [None] * n
    out[0] = x
    for i in range(1, n):
        out[i] = sum(out[:i]) * 0.5 + len(out)
    return out[-1] / out[-2]


def by_a_function(x: Any, n: int) -> Any:
    """The caller holds the list too: the loop runs in Python."""

    def fill(buffer: Any) -> None:
        i = 0
        while i < n:
            buffer[i] = x * i
            i += 1

    out: list[Any] = [None] * n
    other = out
    fill(out)
    out[3][0] = 7.0
    return np.array(other)


ALL = [filled, read_back, replaced, records, nested, in_two_loops, summed_so_far, by_a_function]


def everything(x: Any) -> Any:
    return [np.sum(f(x, 10)) for f in ALL]


def test_as_python() -> None:
    np.testing.assert_allclose(st.compile(everything)(X), everything(X), rtol=1e-12)
    xs = np.stack([X, X * 0.7])
    got = np.array(st.compile(st.vmap(everything))(xs))
    np.testing.assert_allclose(got, np.array([everything(x) for x in xs]).T, rtol=1e-12)


def test_derivatives() -> None:
    st.testing.check_grads(lambda x: sum([0.1 * v for v in everything(x)]), (X,), order=1)


@pytest.mark.parametrize("f", ALL[:-1])
def test_one_size(f: Callable[[Any, int], Any]) -> None:
    sizes = [size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (20, 60)]
    assert sizes[0] == sizes[1]


# -- items that stay blank --------------------------------------------------------------------------------------------


def every_second(x: Any) -> Any:
    out: list[Any] = [None] * 12
    for i in range(0, 12, 2):
        out[i] = x * i
    return out


def where_the_data_say(x: Any) -> Any:
    out: list[Any] = [None] * 12
    for i in range(12):
        if x[0] * i > 1:
            out[i] = x * i
    return out


def on_both_sides(x: Any) -> Any:
    out: list[Any] = [None] * 12
    out[0] = x
    for i in range(1, 12):
        if x[0] * i > 1:
            out[i] = out[i - 1] * 0.5
        else:
            out[i] = x
    return list(np.array(out))


def read_where_blank(x: Any) -> Any:
    out: list[Any] = [None] * 12
    out[0] = x
    for i in range(12):
        if out[i] is None:
            out[i] = x * i
        else:
            out[i] = out[i] + 1
        out[(i + 5) % 12] = x - i
    return out


def asked_for(x: Any) -> Any:
    out: list[Any] = [None] * 12
    for i in range(12):
        for _ in range(2):
            if out[i] is None:
                out[i] = x * i
            else:
                out[i] = out[i] + 1
    return out


def empty_ones(x: Any) -> Any:
    out: list[Any] = [[] for _ in range(12)]
    for i in range(0, 12, 2):
        out[i] = x * i
    out[1].append(5.0)
    return out


STAY = [
    every_second, where_the_data_say, on_both_sides, read_where_blank, asked_for, empty_ones,
]  # fmt: skip


@pytest.mark.parametrize("f", STAY)
def test_items_that_stay_blank(f: Callable[[Any], Any]) -> None:
    got, want = st.compile(f)(X), f(X)
    assert type(got) is list
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        assert (type(a) is list) == (type(b) is list)
        if b is not None:
            np.testing.assert_allclose(a, b, rtol=1e-14)


def test_a_blank_item_that_is_used() -> None:
    def f(x: Any) -> Any:
        out: list[Any] = [None] * 12
        for i in range(12):
            out[i] = out[i - 1] + x
        return out

    with pytest.raises(TypeError):
        st.compile(f)(X)


def test_places_that_are_not_there() -> None:
    def f(x: Any) -> Any:
        out: list[Any] = [None] * 12
        for i in range(13):
            out[i] = x * i
        return out

    with pytest.raises(IndexError, match="list assignment index out of range"):
        st.compile(f)(X)


def test_what_is_set_is_written_afterwards() -> None:
    def f(x: Any) -> Any:
        out: list[Any] = [None] * 12
        for i in range(12):
            y = x * i
            out[i] = y
            y[0] = 5.0
        return np.array(out)

    np.testing.assert_allclose(st.compile(f)(X), f(X), rtol=1e-14)
