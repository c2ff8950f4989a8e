"""Loops over what has no end, over dicts that loops have filled, and over generators beside other things."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError
from tests.graphs import size_of

X = np.array([0.3, 0.7, 1.1])


# -- without end ------------------------------------------------------------------------------------------------------


def until_a_number(x: Any, n: int) -> Any:
    t = x[0]
    for i in itertools.count():
        t = np.sin(t) + i * x[1]
        if i >= n:
            break
    return t + i


def until_data_say(x: Any, n: int) -> Any:
    t, out = x[0], []
    for i in itertools.count(1, 2):
        out.append(t * i)
        t = t * 0.9
        if t < 0.1 or i > 2 * n:
            return t + sum(out)


def numbered_without_end(x: Any, n: int) -> Any:
    t = sum(v * i for v, i in zip(np.arange(n) * x[0], itertools.count(3), strict=False))
    for v, w in zip(np.arange(n) * x[0], itertools.repeat(x[1]), strict=False):
        t = t * 0.9 + v * w
    return t


def nested_without_end(x: Any, n: int) -> Any:
    t = x[0]
    for i in itertools.count():
        for j in itertools.count(i):
            if j > i + n:
                break
            t = t * 0.9 + x[1] * j
        if i > n:
            break
    return t


# -- dicts ------------------------------------------------------------------------------------------------------------


def filled(x: Any, n: int) -> dict[Any, Any]:
    d = {}
    for i in range(n):
        d[2 * i] = np.sin(x * i)
    return d


def values(x: Any, n: int) -> Any:
    t = 0.0
    for v in filled(x, n).values():
        t = t * 0.9 + v.sum()
    for k, v in enumerate(filled(x, n).values()):
        t = t + v[0] * k
    return t


def items(x: Any, n: int) -> Any:
    d, t, e = filled(x, n), 0.0, {}
    for k, v in d.items():
        t = t * 0.9 + v.sum() * k
        e[k] = v * t
    return t + e[4].sum()


def keys(x: Any, n: int) -> Any:
    d, t = filled(x, n), 0.0
    for k in d:
        t = t * 0.9 + d[k].sum() * k
    return t


def pairs_of_integers(x: Any, n: int) -> Any:
    d = {(i, i * i): x * i for i in range(n)}
    return sum(v[0] * i + j for (i, j), v in d.items())


# -- generators -------------------------------------------------------------------------------------------------------


def some(x: Any, n: int, begun: Any) -> Iterator[Any]:
    for i in range(n):
        begun[0] += 1
        yield x * i
        begun[1] += 1


def beside(x: Any, n: int) -> Any:
    c, t = np.zeros(2), 0.0
    for v, w in zip(some(x, n, c), np.arange(6.0), strict=False):
        t = t * 0.9 + v[0] * w
    for w, v in zip(range(7), some(x, n, c), strict=False):
        t = t * 0.9 + v[1] * w
    for k, v in zip(itertools.count(), some(x, n, c), strict=False):
        t = t * 0.9 + v[2] * k
        if v[0] > 2.0:
            break
    return t, c


def cut(x: Any, n: int) -> Any:
    c, t = np.zeros(2), 0.0
    for v in itertools.islice(some(x, n, c), 7):
        t = t * 0.9 + v[0]
    for v in itertools.islice((w * 2 for w in some(x, n, c)), 3, 8, 2):
        t = t * 0.9 + v[1]
    return t + sum(v[0] for v in itertools.islice(some(x, n, c), 5)), c


STAGED = [
    until_a_number, until_data_say, numbered_without_end, nested_without_end, values, items, keys, pairs_of_integers,
    beside, cut,
]  # fmt: skip


def everything(x: Any) -> Any:
    return [f(x, 12) for f in STAGED]


def flat(x: Any) -> Any:
    return np.hstack([np.ravel(v) for part in x for v in (part if isinstance(part, tuple) else (part,))])


def test_as_python() -> None:
    np.testing.assert_allclose(flat(st.compile(everything)(X)), flat(everything(X)), rtol=1e-11)
    few = [f(X, 3) for f in STAGED]
    np.testing.assert_allclose(flat(st.functionalize(lambda x: [f(x, 3) for f in STAGED])(X)), flat(few), rtol=1e-11)


@pytest.mark.parametrize("f", STAGED)
def test_one_size(f: Callable[[Any, int], Any]) -> None:
    sizes = [size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (12, 60)]
    assert sizes[0] == sizes[1]


def test_dicts_that_change_while_they_are_walked() -> None:
    def f(x: Any) -> Any:
        d = filled(x, 12)
        for k, v in d.items():
            d[(k + 2) % 24] = d[(k + 2) % 24] + v
        return np.stack(list(d.values()))

    np.testing.assert_allclose(st.functionalize(f)(X), f(X))

    def grows(x: Any) -> Any:
        d, t = filled(x, 12), 0.0
        for k in d:
            t = t + x[0]
            if k == 6:
                d["new"] = x
        return t

    with pytest.raises(RuntimeError, match="dictionary changed size during iteration"):
        st.functionalize(grows)(X)


def test_iterators_go_on_where_they_are() -> None:
    def all_of_it(x: Any) -> Any:
        pairs, t = enumerate(x[k % 3] for k in range(9)), 0.0
        for k, v in pairs:
            t = t + k * v
        for k, v in pairs:  # nothing is left
            t = t + 100.0 * k * v
        return t

    def left(x: Any) -> Any:
        pairs, t = enumerate(np.arange(9.0) * x[0]), 0.0
        for k, v in pairs:
            t = t + v
            if k > 3:
                break
        for _, v in pairs:
            t = t * 0.9 + v
        return t

    def shared(x: Any) -> Any:
        ids, t = itertools.count(), 0.0
        for v, k in zip(np.arange(9.0) * x[0], ids, strict=False):
            t = t + v * k
        return t + next(ids)

    np.testing.assert_allclose(st.functionalize(all_of_it)(X), all_of_it(X))
    for f in (left, shared):
        with pytest.raises(ControlFlowError, match="has left this iterator"):
            st.functionalize(f)(X)
