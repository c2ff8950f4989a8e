"""`sorted`, `list.sort`, `heapq` and extremes by a key, of traced values, order as Python does."""

from __future__ import annotations

import heapq
import operator
from collections import namedtuple
from functools import partial

import numpy as np
import pytest

import stager as st

X = np.array([0.5, -1.25, 3.0, 0.5, -3.0, 2.0, 0.5, 1.0])
Y = np.array([4.0, 1.0, 7.0, -2.0, 0.5, 6.0, 3.0, -5.0])
Named = namedtuple("Named", "key value")


def sort_in_place(x):
    items = [x[i] for i in range(5)]
    items.sort()
    items.append(x[5])
    items.sort(key=lambda v: -v)
    return np.array(items)


def median(x):
    ordered = sorted([v * v for v in x])
    n = len(ordered)
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2


def sorted_in_a_loop(x):
    total = 0.0
    for i in range(6):
        low, middle, high = sorted([x[i], x[i + 1], x[i + 2]])
        total += middle * (high - low)
    return total


def writes_reach_the_list(x):
    rows = [x[:2].copy(), x[2:4].copy(), x[4:6].copy()]
    largest = max(rows, key=lambda r: r[0])
    largest[1] = 7.0
    first = sorted(rows, key=lambda r: r[1])[0]
    first[0] = -30.0
    return np.array(rows)


FUNCTIONS = {
    "numbers": lambda x, y: np.array(sorted(x)),
    "falling": lambda x, y: np.array(sorted(x, reverse=True)),
    "few": lambda x, y: sorted([x[0], x[1], 2.0])[1],
    "by a key": lambda x, y: np.array(sorted(x, key=lambda v: -abs(v))),
    "pairs": lambda x, y: np.array([a * i + b for i, (a, b) in enumerate(sorted(zip(x, y, strict=True)))]),
    "equal keys": lambda x, y: np.array([b for a, b in sorted(zip(x, y, strict=True), key=lambda t: t[0])]),
    "equal keys falling": lambda x, y: np.array(
        [b for a, b in sorted(zip(x, y, strict=True), key=lambda t: t[0], reverse=True)]
    ),
    "two keys": lambda x, y: np.array([b for a, b in sorted(zip(x, y, strict=True), key=lambda t: (t[0], -t[1]))]),
    "tests as keys": lambda x, y: np.array(sorted(x, key=lambda v: v > 0.5)),
    "rows": lambda x, y: np.array(sorted(np.stack([x, y], 1), key=lambda p: p[1])),
    "places": lambda x, y: y[sorted(range(8), key=lambda i: x[i])[0]],
    "places by a method": lambda x, y: np.array(sorted(range(8), key=x.__getitem__)),
    "named": lambda x, y: np.array(
        [p.value for p in sorted([Named(a, b) for a, b in zip(x, y, strict=True)], key=lambda p: p.key)]
    ),
    "in place": lambda x, y: sort_in_place(x),
    "median": lambda x, y: median(y),
    "in a loop": lambda x, y: sorted_in_a_loop(x),
    "some": lambda x, y: np.array(sorted(y[y > 0])),
    "smallest": lambda x, y: np.array(heapq.nsmallest(3, x)),
    "largest": lambda x, y: np.array(heapq.nlargest(3, x, key=abs)),
    "greatest of places": lambda x, y: max(range(8), key=lambda i: y[i]),
    "greatest of numbered": lambda x, y: max(enumerate(y), key=lambda t: t[1])[1],
    "first of equal": lambda x, y: max(range(8), key=lambda i: -abs(x[i] - 0.5)),
    "least of rows": lambda x, y: min(np.stack([x, y], 1), key=lambda r: r @ r),
    "greatest of pairs": lambda x, y: max(zip(x, y, strict=True))[1],
    "of arguments": lambda x, y: max(x[0], y[1], key=lambda v: -v),
    "by an operator": lambda x, y: min(y, key=operator.neg),
    "writes": lambda x, y: writes_reach_the_list(x),
    "keys that are known": lambda x, y: sorted([x[0], x[1]], key=lambda v: 1)[0],
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_order(name: str) -> None:
    f = FUNCTIONS[name]
    got, want = st.compile(f)(X.copy(), Y.copy()), f(X.copy(), Y.copy())
    np.testing.assert_array_equal(got, want)
    assert np.asarray(got).dtype == np.asarray(want).dtype


@pytest.mark.parametrize("name", ["pairs", "equal keys", "median", "in a loop", "rows", "greatest of numbered"])
def test_derivatives_and_lanes(name: str) -> None:
    def f(x, y):
        return np.sum(np.sin(FUNCTIONS[name](x, y)))

    x, y = X + 0.01 * np.arange(8) ** 2, Y
    st.testing.check_grads(f, (x, y), order=1)
    xs = np.stack([x, x[::-1], -x])
    np.testing.assert_allclose(st.vmap(f, in_dims=(0, None))(xs, y), [f(v, y) for v in xs], rtol=1e-13)


def test_a_nan_is_the_extreme_only_where_it_is_the_first() -> None:
    f = partial(max, key=lambda v: v * 1.0)
    g = st.compile(lambda x: f(x))
    for x in ([np.nan, 1.0, 2.0], [1.0, np.nan, 2.0], [-np.inf, np.nan, np.nan], [2.0, 1.0, np.nan]):
        np.testing.assert_array_equal(g(np.array(x)), f(x))


def test_the_graph_does_not_grow_with_the_items() -> None:
    def f(x):
        return max(range(len(x)), key=lambda i: x[i] * 2) + sorted([v * v for v in x])[0]

    few, many = [len(st.make_graph(f)(np.arange(float(n))).nodes) for n in (10, 300)]
    assert many == few


def test_what_cannot_be_ordered_says_so() -> None:
    with pytest.raises(ValueError, match="ambiguous"):
        st.compile(lambda x: sorted(x))(np.ones((3, 2)))
    with pytest.raises(TypeError, match="no numbers, or tuples of them"):
        st.compile(lambda x: sorted([x[0], "a"]))(X)
    with pytest.raises(TypeError, match=r"np\.argsort of the keys"):
        st.compile(lambda x: sorted([{"a": x[0]}, {"a": x[1]}], key=lambda d: d["a"])[0]["a"])(X)
    with pytest.raises(ValueError, match=r"max\(\).* empty"):
        st.compile(lambda x: max([], key=lambda v: x[v]))(X)
