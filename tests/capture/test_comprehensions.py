"""Comprehensions and generator expressions: loops of the graph, and what they mean in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.capture.test_staged import assert_same, evaluated
from tests.graphs import size_of

X = np.linspace(-1.0, 1.0, 5)
STAGED: list[Callable[..., Any]] = []


def staged(f: Callable[..., Any]) -> Callable[..., Any]:
    STAGED.append(f)
    return f


def table(x, n):
    return np.outer(np.arange(n), x) + x


@staged
def over_a_range(x, n):
    return np.array([np.sum(x * t) for t in range(n)]), np.stack([x * t for t in range(2, 2 * n + 2, 2)])


@staged
def over_rows(x, n):
    return np.stack([np.tanh(r) @ x for r in table(x, n)]), np.vstack([r[::-1] for r in table(x, n)])


@staged
def over_pairs(x, n):
    a = table(x, n)
    return np.stack([r * q + k for k, (r, q) in enumerate(zip(a, a[::-1], strict=True))])


@staged
def sums(x, n):
    return sum(np.sum(x * t) for t in range(n)), sum([x * t for t in range(n)]), sum((x * t for t in range(n)), x)


@staged
def extremes(x, n):
    return max(x[0] * t - t**2 / 7 for t in range(n)), min([np.sum(r[1:]) for r in table(x, n)])


@staged
def questions(x, n):
    return any(np.sum(r) > 30 for r in table(x, n)), all([x[0] * t < 1 for t in range(n)])


@staged
def lists_and_tuples(x, n):
    return np.stack(list(x * t for t in range(n))), np.stack(tuple(x * t for t in range(n)))


@staged
def from_an_iterator(x, n):
    return np.fromiter((x[0] * t for t in range(n)), float), np.fromiter((x[1] * t for t in range(n)), "f4", count=5)


@staged
def with_a_test_of_the_index(x, n):
    even = [x[0] * i for i in range(n) if i % 2 == 0]
    odd = np.array([np.sum(r) * k for k, r in enumerate(table(x, n)) if k % 2 and k > 3])
    return np.array(even) @ np.ones(len(even)), odd.sum(), np.sum([x[0] * i for i in range(n) if i % 3])


@staged
def writes_inside(x, n):
    counts = np.zeros(3)

    def note(k):
        counts[k % 3] += 1.0
        return x[0] * k

    return np.array([note(k) for k in range(n)]), counts


@staged
def in_a_loop(x, n):
    for _ in range(n):
        x = x * 0.5 + np.array([np.sum(x * k) for k in range(5)])
    return x


@pytest.mark.parametrize("f", STAGED, ids=lambda f: f.__name__)
def test_staged(f: Callable[..., Any]) -> None:
    graphs = [st.make_graph(lambda x, n=n: f(x, n))(X) for n in (50, 90)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    assert_same(evaluated(lambda x: f(x, 12), X.copy())[0], f(X.copy(), 12))
    assert_same(st.compile(lambda x: f(x, 12))(X.copy()), f(X.copy(), 12))


MEANINGS: list[Callable[..., Any]] = []


def meaning(f: Callable[..., Any]) -> Callable[..., Any]:
    MEANINGS.append(f)
    return f


@meaning
def nested(x):
    table = np.array([[x[0] * i + j for j in range(7)] for i in range(6)])
    return table, [x * i + j for i in range(3) for j in range(i)]


@meaning
def shadowed(x):
    i = 10
    out = [i * x for i in range(6)]
    return i, np.stack(out), [[i * x[0] for i in range(5)] for i in range(2)]


@meaning
def functions_kept(x):
    keep = [lambda: i * x for i in range(7)]
    later = [(x * i for _ in range(2)) for i in range(6)]
    return keep[0](), [v for g in later for v in g]


@meaning
def lazily(x):
    seen = []

    def f(k):
        seen.append(k)
        return x[k]

    g = (f(k) for k in range(5))
    first = next(g)
    rest = [v for v in g if seen]
    return first, rest, seen, list(g), sum(f(k) for k in range(3)), list(zip((f(k) for k in range(2)), range(2)))


@meaning
def targets(x):
    pairs = [(x, 1), (x * 2, 2)]
    return [a * b for a, b in pairs], [rest for first, *rest in [(x, 1, 2)]], [q["k"] for q in [{"k": x}]]


@meaning
def names_bound(x):
    out = [(y := x * k) for k in range(6)]
    return y, np.stack(out)


@meaning
def filters(x):
    rows = [k for k in range(8) if k % 2 if k > 2]
    return rows, [x[k] for k in range(5) if k != 2 and k < 4], [v for v in (1, 2, 3) if v > 1]


@meaning
def conditional(x):
    return [x[k] if k < 3 else -x[k] for k in range(5)], [0.0 if k < 3 else x[k] for k in range(5)]


@meaning
def other_comprehensions(x):
    squares = {k: x[k] ** 2 for k in range(5)}
    return squares[3], sorted({k % 3 for k in range(9)}), sum(squares.values()), list(squares)


@meaning
def not_a_number(x):
    y = np.array([1.0, np.nan, 3.0, 2.0, np.nan, 0.5]) * x[4]
    return max([v for v in y]), min(v for v in y), max(v for v in y[1:]), max([v for v in y[:0]], default=4)


@pytest.mark.parametrize("f", MEANINGS, ids=lambda f: f.__name__)
def test_meaning(f: Callable[..., Any]) -> None:
    assert_same(st.compile(f)(X.copy()), f(X.copy()))
    assert_same(st.functionalize(f)(X.copy()), f(X.copy()))


@pytest.mark.parametrize("f", [over_a_range, over_rows, sums, extremes, with_a_test_of_the_index])
def test_transforms(f: Callable[..., Any]) -> None:
    n = 9

    def loss(x):
        return sum(np.sum(v**2) for v in f(x, n))

    e, v = 1e-6, np.arange(1.0, 6.0)
    slope = (loss(X + e * v) - loss(X - e * v)) / (2 * e)
    for transform in (lambda g: g, st.compile):
        np.testing.assert_allclose(np.sum(transform(st.grad(loss))(X) * v), slope, rtol=1e-6)
        np.testing.assert_allclose(transform(lambda x: st.jvp(loss, (x,), (v,))[1])(X), slope, rtol=1e-6)
        batch = np.stack([X, X * 2, X - 1])
        mapped = transform(st.vmap(lambda x: f(x, n)))(batch)
        for k in range(3):
            assert_same([m[k] for m in mapped], list(f(batch[k], n)))
        per_lane = transform(st.vmap(st.grad(loss)))(batch)
        np.testing.assert_allclose(per_lane[1], st.grad(loss)(batch[1]), rtol=1e-10)
    graphs = [st.make_graph(st.grad(lambda x, n=n: np.sum(f(x, n)[0] ** 2)))(X) for n in (50, 90)]
    assert size_of(graphs[0]) == size_of(graphs[1])


def test_errors_show_the_users_function() -> None:
    def wrong(x):
        return [np.dot(x, x[:k]) for k in range(3)]

    with pytest.raises(ValueError, match=r"in (wrong|<listcomp>)"):
        st.compile(wrong)(X)
