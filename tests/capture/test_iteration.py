"""Loops, folds and lists over what builtins and itertools make of ranges, lists and arrays: one node for any length."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.graphs import size_of

X = np.array([0.3, 0.7, 1.1])


def mapped(x: Any, n: int) -> Any:
    return np.array(list(map(lambda i: np.sin(x[0] * i), range(n))))


def spread(x: Any, n: int) -> Any:
    return np.array([*map(lambda i, j: np.sin(x[0] * i) + j, range(n), range(n, 2 * n))])


def summed(x: Any, n: int) -> Any:
    return sum(map(lambda v: v * x[1], [x[0] * i for i in range(n)])) + max(map(lambda i: np.cos(x[2] * i), range(n)))


def walked(x: Any, n: int) -> Any:
    t = 0.0
    for v in map(lambda i: i * x[0], range(n)):
        t = t * 0.5 + v
    for v in (i * x[1] for i in range(n) if i % 3):
        t = t * 0.5 + v
    return t


def accumulated(x: Any, n: int) -> Any:
    a = list(itertools.accumulate(x[0] * i for i in range(n)))
    b = itertools.accumulate(range(n), lambda s, i: s * 0.5 + i, initial=x[1])
    c = itertools.accumulate([x[2] * i for i in range(n)], max)
    return np.array(a) + np.array(list(b))[1:] + sum(c)


def reduced(x: Any, n: int) -> Any:
    a = functools.reduce(lambda s, i: s * 0.5 + x[0] * i, range(n), 0.0)
    b = functools.reduce(operator.mul, [np.cos(x[1] * i) for i in range(n)])
    return a + b + functools.reduce(operator.add, [x * i for i in range(n)])


def products(x: Any, n: int) -> Any:
    t = 0.0
    for i, j in itertools.product(range(n), range(1, 7, 2)):
        t = t * 0.9 + x[0] * i * np.sin(x[1] * j)
    for i, j in itertools.product(range(n), repeat=2):
        t = t * 0.9 + x[2] * i * j
    return t


def chosen(x: Any, n: int) -> Any:
    y = np.sin(x[0] * np.arange(n))
    t = 0.0
    for i, j in itertools.combinations(range(n), 2):
        t = t + y[i] * np.cos(y[j])
    for a, b in itertools.permutations([x[1] * i for i in range(6)], 2):
        t = t * 0.9 + a * np.sin(b)
    return t


def repeated(x: Any, n: int) -> Any:
    for _ in itertools.repeat(None, n):
        x = np.sin(x)
    return x


def chained(x: Any, n: int) -> Any:
    t = 0.0
    for k in itertools.chain(range(n), range(0), range(2 * n, n, -1)):
        t = t * 0.9 + x[0] * k
    for k in itertools.islice(range(2 * n), n):
        t = t * 0.9 + x[1] * k
    return t


def neighbours(x: Any, n: int) -> Any:
    a = [x[0] * i * i for i in range(n)]
    return sum(v * u for u, v in itertools.pairwise(a)) + sum(map(lambda u, v: u - v, a, range(n)))


def counted(x: Any, n: int) -> Any:
    t = 0.0
    for k, v in enumerate(range(0, 2 * n, 2)):
        t = t * 0.9 + k * x[0] + v * x[1]
    for k, v in zip(range(n), range(n, 0, -1), strict=True):
        t = t * 0.9 + k * x[0] + v * x[1]
    for k in reversed(range(n)):
        t = t * 0.9 + k * x[2]
    for k, (i, v) in enumerate(zip(reversed(range(n)), list(range(n)), strict=True), 1):
        t = t * 0.9 + k * x[2] + i * v
    return t


def filtered(x: Any, n: int) -> Any:
    return sum(x[0] * i for i in filter(lambda i: i % 2 == 0, range(n)))


ALL = [
    mapped, spread, summed, walked, accumulated, reduced, products, chosen, repeated, chained, neighbours, counted,
    filtered,
]  # fmt: skip


def everything(x: Any) -> Any:
    return [np.sum(f(x, 9)) for f in ALL]


def test_as_python() -> None:
    want = everything(X)
    np.testing.assert_allclose(st.compile(everything)(X), want, rtol=1e-12)
    xs = np.stack([X, X * 0.7])
    got = np.array(st.compile(st.vmap(everything))(xs))
    np.testing.assert_allclose(got, np.array([everything(x) for x in xs]).T, rtol=1e-12)


def test_derivatives() -> None:
    def total(x: Any) -> Any:
        return sum([0.1 * v for v in everything(x)])

    st.testing.check_grads(total, (X,), order=1)


@pytest.mark.parametrize("f", ALL)
def test_one_size(f: Callable[[Any, int], Any]) -> None:
    sizes = [size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (20, 60)]
    assert sizes[0] == sizes[1]


def test_item_by_item() -> None:
    """What Python has an iterator for is one."""

    def f(x: Any) -> Any:
        pairs = zip(range(9), range(9, 18), strict=True)
        first = next(pairs)
        rest = [a * b for a, b in pairs]
        down = reversed(range(7))
        steps = itertools.accumulate(range(1, 6))
        return x * (first[1] + sum(rest) + next(down) * next(down) + len(list(down)) + next(steps) + sum(steps))

    np.testing.assert_allclose(st.compile(f)(X), f(X), rtol=1e-14)


def test_bodies_that_need_the_number() -> None:
    names = ["a", "b", "c", "d", "e", "f"]

    def f(x: Any) -> Any:
        out = {}
        for k, i in enumerate(reversed(range(6))):
            out[names[k]] = x * i
        for i, j in itertools.combinations(range(6), 2):
            out[names[i]] = out[names[i]] + j * out[names[j]]
        return out

    got, want = st.compile(f)(X), f(X)
    assert list(got) == list(want)
    for k in want:
        np.testing.assert_allclose(got[k], want[k], rtol=1e-14)


def test_a_list_that_grows_while_it_is_walked() -> None:
    def f(x: Any) -> Any:
        todo = list(range(10))
        t = x[0]
        for k in todo:
            t = t * 0.5 + k
            if k == 3:
                todo.append(100)
        return t

    np.testing.assert_allclose(st.compile(f)(X), f(X), rtol=1e-14)
