"""Lists that traced loops append to and take items away from: stacks, queues, windows that slide."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.capture.test_staged import assert_same
from tests.graphs import size_of

X = np.array([0.3, -0.2, 0.5, 0.1])


def shifted(x, n):
    w, out = [x[0], x[1], x[2]], []
    for _ in range(n):
        w.append(w[0] * 0.5 + w[2] * 0.4)
        out.append(w.pop(0))
    return np.array(out), len(w), w[1]


def moving_average(x, n):
    xs, w, out = np.sin(np.arange(n) * x[0]), [], np.zeros(n)
    for t in range(n):
        w.append(xs[t])
        if len(w) > 3:
            w.pop(0)
        out[t] = sum(w) / len(w)
    return out, w


def last_four(x, n):
    w, out = deque(maxlen=4), []
    for t in range(n):
        w.append(x * t)
        out.append(sum(w) / len(w))
    return np.array(out), np.stack(w)


def of_pairs(x, n):
    todo, total = deque([(x[0], 0)]), 0.0
    for k in range(n):
        v, depth = todo.popleft()
        total += v * depth
        todo.append((v * 0.5, depth + 1))
        if k % 2 == 0:
            todo.append((v * 0.25, k))
    return total, len(todo)


def lower_hull(x, n):
    at, y = np.linspace(0, 1, n), np.sin(7 * np.linspace(0, 1, n)) * x[0]
    stack = []
    for i in range(n):
        while len(stack) >= 2:
            a, b = stack[-2], stack[-1]
            if (at[b] - at[a]) * (y[i] - y[a]) - (y[b] - y[a]) * (at[i] - at[a]) > 0:
                break
            stack.pop()
        stack.append(i)
    return np.array(stack)


def next_greater(x, n):
    a, found, stack = np.sin(np.arange(n) * 1.7) * x[0], np.full(n, -1.0), []
    for i in range(n):
        while stack and a[stack[-1]] < a[i]:
            found[stack.pop()] = a[i]
        stack.append(i)
    return found, len(stack)


def ring(x, n):
    d = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return ((d == 1) | (d == n - 1)) & (x[0] > 0)


def breadth_first(x, n):
    near, dist = ring(x, n), np.full(n, -1)
    dist[0] = 0
    queue = deque([0])
    while queue:
        k = queue.popleft()
        for j in range(n):
            if near[k, j] and dist[j] < 0:
                dist[j] = dist[k] + 1
                queue.append(j)
    return dist


def depth_first(x, n):
    near, seen, stack, order = ring(x, n), np.zeros(n, dtype=bool), [0], []
    while stack:
        k = stack.pop()
        if not seen[k]:
            seen[k] = True
            order.append(k)
            for j in range(n):
                if near[k, j] and not seen[j]:
                    stack.append(j)
    return np.array(order)


def taken_before_anything_is_there(x, n):
    w, b, k = [], x[1], 0
    for t in range(n):
        if len(w) > 2:
            b = w.pop(-1)
        w.append(b * t)
        k = k + len(w)
    return np.array(w), k


PROGRAMS = [
    taken_before_anything_is_there,
    shifted,
    moving_average,
    last_four,
    of_pairs,
    lower_hull,
    next_greater,
    breadth_first,
    depth_first,
]


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_programs(f: Any) -> None:
    if f not in (moving_average,):  # it returns a list of as many numbers
        graphs = [st.make_graph(lambda x, n=n: f(x, n))(X) for n in (30, 60)]
        assert size_of(graphs[0]) == size_of(graphs[1])
    got, want = st.compile(lambda x: f(x, 9))(X), f(X, 9)
    assert type(got) is type(want)
    assert_same(got, want)


def test_many_items() -> None:
    """More than the first guesses at the room have."""
    assert_same(st.compile(lambda x: breadth_first(x, 300))(X), breadth_first(X, 300))


@pytest.mark.parametrize("f", [shifted, moving_average, last_four, of_pairs, next_greater], ids=lambda f: f.__name__)
def test_transforms(f: Any) -> None:
    def loss(x):
        return np.sum(f(x, 7)[0] ** 2)

    e, v = 1e-6, np.array([0.1, 0.2, -0.3, 0.4])
    slope = (loss(X + e * v) - loss(X - e * v)) / (2 * e)
    np.testing.assert_allclose(st.grad(loss)(X) @ v, slope, rtol=1e-5)
    batch = np.stack([X, X * 2])
    np.testing.assert_allclose(st.vmap(loss)(batch), [loss(x) for x in batch], rtol=1e-12)


def test_nothing_is_left() -> None:
    def f(x, first):
        w = [x[0]]
        for t in range(6):
            if x[1] > t:
                w.append(x[0] * t)
            w.pop(0 if first else -1)
        return np.array(w)

    for first in (True, False):
        g = st.compile(lambda x, first=first: f(x, first))
        with pytest.raises(IndexError):
            g(X)
        with pytest.raises(IndexError):
            g(X + 3)


def test_a_deque_is_returned() -> None:
    def f(x):
        w, other = deque([x[0]], maxlen=3), deque()
        for t in range(6):
            w.append(x[0] * t)
            if x[1] * t > -0.5:
                other.append(x[0] + t)
        return w, other

    got, want = st.compile(f)(X), f(X)
    assert [type(x) for x in got] == [deque, deque]
    assert got[0].maxlen == 3
    assert_same([list(x) for x in got], [list(x) for x in want])


def test_a_deque_stays_one() -> None:
    def f(x):
        w = deque()
        for t in range(6):
            if x[1] * t > -0.5:
                w.append(x[0] + t)
        other = w
        if x[0] > 0:
            other = w
        return other

    def g(x):
        return f(x)[1:]

    got = st.compile(f)(X)
    assert type(got) is deque
    assert_same(list(got), list(f(X)))
    with pytest.raises(TypeError, match="sequence index must be integer"):
        st.compile(g)(X)


def test_arrays_of_a_deque() -> None:
    def f(x: Any) -> Any:
        q: deque[Any] = deque(maxlen=3)
        for v in x:
            q.append(v)
        return np.array(q), np.stack(q), np.mean(q), np.max(q)

    x = np.arange(8.0)
    for got, want in zip(st.functionalize(f)(x), f(x), strict=True):
        np.testing.assert_array_equal(got, want)
