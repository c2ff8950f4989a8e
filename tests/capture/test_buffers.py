"""Lists that traced loops and branches append to now and then, and read: staged, of a length that the data decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError, MutationError
from tests.capture.growing_corpus import step
from tests.capture.test_staged import assert_same, evaluated
from tests.graphs import size_of

X = np.array([0.3, -0.4, 0.5, 0.1, 0.9])
STAGED: list[Callable[..., Any]] = []


def staged(f: Callable[..., Any]) -> Callable[..., Any]:
    STAGED.append(f)
    return f


@staged
def under_a_condition(x, n):
    out = []
    for t in range(n):
        x = step(x)
        if np.cos(t * 9 + x[0]) > 0:
            out.append(x)
    return np.stack(out), np.array(out), len(out), sum(out)


@staged
def numbers_under_a_condition(x, n):
    out = [x[1]]
    for t in range(n):
        x = step(x)
        if np.cos(x[0] * t * 9) > 0:
            out.append(x[0] * t)
    return np.array(out), max(out), min(out), out[-1], out[0], np.hstack(out), np.mean(out)


@staged
def one_of_two(x, n):
    out = []
    for t in range(n):
        x = step(x)
        if np.cos(t * 9 + x[0]) > 0:
            out.append(x)
        else:
            out.append(x * 2)
    return np.stack(out), out[2]


@staged
def continued(x, n):
    out = []
    for t in range(n):
        x = step(x)
        if np.sin(x[1] * t * 7) > 0.2:
            continue
        out.append(x[:2])
    return np.vstack(out), np.concatenate(out)


@staged
def left(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        if x[0] > 0.8:
            break
        out.append(x)
    return np.stack(out), x


@staged
def left_or_not(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
        if x[0] > 5:
            break
    else:
        out.append(x * 10)
    return np.stack(out)


@staged
def while_it_grows(x, n):
    out = []
    while np.sum(x) < n:
        x = x + 0.5
        out.append(x)
    return np.stack(out), len(out)


@staged
def until_it_breaks(x, n):
    out, at = [], []
    k = 0
    while True:
        x = x + 0.5
        k += 1
        if k % 2 == 0:
            at.append(k)
        out.append(x)
        if x[0] > n / 4:
            break
    return np.stack(out), np.array(at)


@staged
def the_last_is_read(x, n):
    out = [x]
    for _ in range(n):
        out.append(step(out[-1]))
    return np.stack(out)


@staged
def fibonacci(x, n):
    out = [0.5, x[0]]
    for k in range(2, n):
        out.append(0.5 * out[k - 1] + 0.3 * out[k - 2])
    return np.array(out), out[-1]


@staged
def its_length_is_read(x, n):
    out = []
    for _ in range(n):
        x = step(x) * (1 + len(out))
        if len(out) > 3:
            x = x * 0.1
        out.append(x)
    return np.stack(out)


@staged
def nested(x, n):
    out = []
    for i in range(n):
        for j in range(n):
            x = step(x)
            out.append(x[0] * (i - j))
    return np.array(out)


@staged
def triangle(x, n):
    out = []
    for i in range(n):
        for j in range(i):
            out.append(x[0] * i - x[1] * j)
    return np.array(out)


@staged
def items_set(x, n):
    table = [0.0] * (n + 1)
    table[0] = x[0]
    for k in range(1, n + 1):
        table[k] = 0.9 * table[k - 1] + x[1]
    return np.array(table), table[n]


@staged
def with_a_test(x, n):
    return np.array([x[0] * i for i in range(n) if np.cos(i * 9 + x[0]) > 0])


@staged
def returned_early(x, n):
    out = [x]
    for _ in range(n):
        x = step(x)
        if x[0] > 0.7:
            return np.stack(out)
        out.append(x)
    return np.stack(out)


@staged
def walked(x, n):
    out = []
    for t in range(n):
        x = step(x)
        if np.cos(t * 9 + x[0]) > 0:
            out.append(x)
    total = np.zeros(5)
    for k, y in enumerate(out):
        total = total * 0.5 + y * k
    squares = [np.sum(y * y) for y in out]
    return total, np.array(squares), np.array([a @ b for a, b in zip(out[:-1], out[1:], strict=True)])  # noqa: RUF007


@staged
def pairs(x, n):
    out = []
    for t in range(n):
        x = step(x)
        if np.cos(t * 9 + x[0]) > 0:
            out.append((x, t))
    return np.stack([a for a, _ in out]), np.array([t for _, t in out])


@staged
def grown_further(x, n):
    out = []
    for t in range(n):
        x = step(x)
        if np.cos(t * 9 + x[0]) > 0:
            out.append(x)
    out.append(x * 3)
    for t in range(n):
        if np.cos(x[0] * t * 5) > 0:
            out.append(x * t)
    return np.stack(out)


@staged
def begun_with_arrays(x, n):
    out = [x, x * 2, np.ones(5)]
    for t in range(n):
        if np.cos(t * 9 + x[0]) > 0:
            out.append(out[-1] * 0.5 + out[-3])
    return np.stack(out)


@staged
def a_stack(x, n):
    todo = [x[0], x[1]]
    total = 0.0
    for k in range(n):
        v = todo.pop()
        total += v * k
        todo.append(v * 0.5)
        if np.sin(v * k * 9) > 0:
            todo.append(x[2])
    return total, len(todo), todo[-1]


@staged
def returned(x, n):
    out = []
    for t in range(n):
        x = step(x)
        if np.cos(t * 9 + x[0]) > 0:
            out.append(x[0])
    return out


@pytest.mark.parametrize("f", STAGED, ids=lambda f: f.__name__)
def test_staged(f: Callable[..., Any]) -> None:
    graphs = [st.make_graph(lambda x, n=n: f(x, n))(X) for n in (50, 90)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    assert_same(evaluated(lambda x: f(x, 12), X.copy())[0], f(X.copy(), 12))
    compiled = st.compile(f)
    for n in (9, 13):
        got, want = compiled(X.copy(), n), f(X.copy(), n)
        assert type(got) is type(want)
        assert_same(got, want)


SMOOTH = [
    under_a_condition, one_of_two, continued, left, while_it_grows, the_last_is_read, fibonacci, triangle, items_set,
    walked, with_a_test,
]  # fmt: skip


@pytest.mark.parametrize("f", SMOOTH, ids=lambda f: f.__name__)
def test_transforms(f: Callable[..., Any]) -> None:
    def loss(x):
        found = f(x, 9)
        return sum([np.sum(v * v) for v in found]) if isinstance(found, tuple) else np.sum(found * found)

    e, v = 1e-6, np.arange(1.0, 6.0) / 10
    batch = np.stack([X, X * 1.4, X * 0.6])
    slopes = [(loss(x + e * v) - loss(x - e * v)) / (2 * e) for x in batch]
    for transform in (lambda g: g, st.compile):
        np.testing.assert_allclose(np.sum(transform(st.grad(loss))(X) * v), slopes[0], rtol=1e-5)
        np.testing.assert_allclose(transform(lambda x: st.jvp(loss, (x,), (v,))[1])(X), slopes[0], rtol=1e-5)
        np.testing.assert_allclose(transform(st.vmap(loss))(batch), [loss(x) for x in batch], rtol=1e-10)
        np.testing.assert_allclose(transform(st.vmap(st.grad(loss)))(batch) @ v, slopes, rtol=1e-5)
        np.testing.assert_allclose(
            transform(st.grad(lambda b: np.sum(st.vmap(loss)(b))))(batch) @ v, slopes, rtol=1e-5
        )
    np.testing.assert_allclose(st.functionalize(loss)(X), loss(X), rtol=1e-12)


def test_a_branch_alone() -> None:
    def f(x):
        out = [x]
        if x[0] > 0:
            out.append(x * 2)
        return np.stack(out), len(out)

    g = st.compile(f)
    for x in (X, -X):
        assert_same(g(x), f(x))


def test_nothing_was_appended() -> None:
    def f(x):
        out = []
        for t in range(9):
            if x[0] > t:
                out.append(x)
        return np.stack(out)

    g = st.compile(f)
    assert_same(g(X), f(X))
    with pytest.raises(ValueError, match="need at least one array to stack"):
        g(-X)


def test_an_item_that_is_not_there() -> None:
    def f(x):
        out = []
        for t in range(9):
            if x[0] > t:
                out.append(x[0])
        return out[1]

    g = st.compile(f)
    assert g(X + 1) == f(X + 1)
    with pytest.raises(IndexError):
        g(X)


def test_lists_keep_what_was_appended() -> None:
    def after(x):
        out = []
        for t in range(9):
            x = step(x)
            if x[0] * t > 2:
                out.append(x)
        x += 100
        return np.stack(out)

    def during(x):
        out = []
        for t in range(9):
            x = step(x)
            if x[0] * t > 2:
                out.append(x)
            x *= 0.9
        return np.stack(out)

    for f in (after, during):
        try:
            assert_same(st.compile(f)(X.copy()), f(X.copy()))
        except (MutationError, ControlFlowError):
            pass


def test_what_needs_the_length_says_so() -> None:
    def printed(x):
        out = [x[k] for k in range(5) if x[k] > 0]
        return str(out)

    with pytest.raises(ControlFlowError, match="list's length is decided by the data"):
        st.compile(printed)(X)


def test_two_lists_of_which_one_needs_a_buffer() -> None:
    def f(u, steps=30):
        now_and_then, always = [], []
        for t in range(steps):
            u[1:-1] += 0.2 * (u[2:] - 2 * u[1:-1] + u[:-2])
            always.append((u**2).sum())
            if t % 10 == 0:
                now_and_then.append(u.copy())
        return np.array(always), np.stack(now_and_then), u

    def g(u):
        small, all_of_them = [], []
        for x in u:
            all_of_them.append(x * 2)
            if x < 0.5:
                small.append(x)
            all_of_them.append(-x)
        return np.array(small), np.array(all_of_them)

    u = np.random.default_rng(0).random(40)
    for h in (f, g):
        for got, want in zip(st.compile(h)(u.copy()), h(u.copy()), strict=True):
            np.testing.assert_allclose(got, want)
    np.testing.assert_allclose(
        st.compile(st.grad(lambda u: (g(u)[1] ** 2).sum() + g(u)[0].sum()))(u), 10 * u + (u < 0.5)
    )
