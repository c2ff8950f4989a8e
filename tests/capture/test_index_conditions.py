"""Appends and jumps that the index of a loop alone decides: staged, and the lists have Python's own lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.compiler import compiler_of
from tests.capture.test_staged import assert_same
from tests.graphs import size_of

U = np.array([0.3, -0.2, 0.5, 0.1, 0.7])


def snapshots(u, n, every=4):
    u = u.copy()
    history, times = [u.copy()], []
    for step in range(1, n + 1):
        u[1:-1] += 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
        if step % every == 0:
            history.append(u.copy())
            times.append(step * 0.1)
    return np.array(history), np.array(times), len(history), history[-1]


def after_a_while(u, n):
    kept = []
    for step in range(n):
        u = u * 0.9 + np.sin(step)
        if step < 3:
            continue
        kept.append(u)
        if step == n - 2:
            break
    return np.mean(kept, axis=0), len(kept)


def off_the_diagonal(u, n):
    out = []
    for i in range(n):
        for j in range(n):
            if i != j:
                out.append(u[0] * i - u[1] * j)
    return np.array(out)


def rows_of_a_sieve(u, n):
    out = []
    for k in range(2, n):
        if k % 2 != 0 and k % 3 != 0:
            out.append(u * k)
        elif k == 9:
            out.append(u)
    return np.stack(out)


def list_of_each_turn(u, n):
    total = np.zeros(n)
    for i in range(n):
        others = []
        for j in range(n):
            if j != i:
                others.append(u[0] * j)
        total[i] = sum(others)
    return total


PROGRAMS = [snapshots, after_a_while, off_the_diagonal, rows_of_a_sieve, list_of_each_turn]


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_programs(f: Any) -> None:
    graphs = [st.make_graph(lambda u, n=n: f(u, n))(U) for n in (20, 40)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    compiled = st.compile(f)
    for n in (9, 14):
        got, want = compiled(U.copy(), n), f(U.copy(), n)
        assert type(got) is type(want)
        assert_same(got, want)


def test_the_interval_is_an_argument() -> None:
    compiled = st.compile(snapshots)
    for every in (2, 3, 3):
        assert_same(compiled(U.copy(), 10, every), snapshots(U.copy(), 10, every))
    assert len(compiler_of(compiled).history) == 1


def test_transforms() -> None:
    def loss(u):
        return np.sum(snapshots(u, 13)[0] ** 2)

    e, v = 1e-6, np.array([0.1, 0.2, -0.3, 0.4, 0.5])
    slope = (loss(U + e * v) - loss(U - e * v)) / (2 * e)
    np.testing.assert_allclose(st.grad(loss)(U) @ v, slope, rtol=1e-6)
    batch = np.stack([U, U * 2])
    np.testing.assert_allclose(st.vmap(loss)(batch), [loss(u) for u in batch], rtol=1e-12)


def test_a_buffer_that_doubles() -> None:
    """It may be one of two arrays when it is written: the loop runs in Python, where the index says which."""

    def f(u, n):
        buf, size = np.zeros(2), 0
        for k in range(n):
            if size == len(buf):
                new = np.zeros(2 * len(buf))
                new[:size] = buf
                buf = new
            buf[size] = u[0] * k
            size += 1
        return buf[:size]

    assert_same(st.compile(lambda u: f(u, 9))(U), f(U, 9))
