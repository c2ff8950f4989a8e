"""Rows of lists of lists that change places in traced loops, as in pivoting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import MutationError
from tests.graphs import size_of

X = np.array([0.3, 0.7, 1.1])


def rows(x: Any, n: int) -> Any:
    return [[x[0] * i + x[1] * j for j in range(6)] for i in range(n)]


def gauss(x: Any, n: int) -> Any:
    """Elimination with pivoting in lists of lists."""
    a = [[np.cos(x[0] * i * j) + (5.0 if i == (j + 1) % n else 0.0) for j in range(n)] for i in range(n)]
    b = [x[1] * i for i in range(n)]
    for k in range(n):
        p = k
        for r in range(k + 1, n):
            if abs(a[r][k]) > abs(a[p][k]):
                p = r
        a[k], a[p] = a[p], a[k]
        b[k], b[p] = b[p], b[k]
        for r in range(k + 1, n):
            f = a[r][k] / a[k][k]
            for c in range(k, n):
                a[r][c] -= f * a[k][c]
            b[r] -= f * b[k]
    y = [0.0] * n
    for i in range(n - 1, -1, -1):
        s = b[i]
        for j in range(i + 1, n):
            s -= a[i][j] * y[j]
        y[i] = s / a[i][i]
    return np.array(y)


def sorted_rows(x: Any, n: int) -> Any:
    g = rows(-x, n)
    for i in range(n - 1):
        p = i
        for j in range(i + 1, n):
            if g[j][0] < g[p][0]:
                p = j
        if p != i:
            g[i], g[p] = g[p], g[i]
    return np.array(g)


def turned(x: Any, n: int) -> Any:
    """Three rows go round, a name holds one of them, and they are changed in between."""
    g = rows(x, n)
    t = x[2]
    for i in range(n - 2):
        g[i], g[i + 1], g[i + 2] = g[i + 2], g[i], g[i + 1]
        g[i][2] -= g[i + 1][2]
        held = g[i]
        g[i] = g[i + 1]
        t = t + held[0] * 2
        g[i + 1] = held
    return np.array(g) * t


def replaced(x: Any, n: int) -> Any:
    g = rows(x, n)
    for i in range(n - 1):
        g[i] = [v * 2 for v in g[i + 1]]
        g[i][0] = 9.0
        g[i + 1] = g[i][:]
    return np.array(g)


STAGED = [gauss, sorted_rows, turned, replaced]


def one_row_twice(x: Any, n: int) -> Any:
    g = rows(x, n)
    for i in range(n - 1):
        g[i] = g[i + 1]
        g[i][0] = 9.0
    return np.array(g)


def a_row_with_a_name(x: Any, n: int) -> Any:
    g = rows(x, n)
    t = 0.0
    for i in range(n):
        row = [x[0] * i] * 6
        g[i] = row
        g[i][0] = 9.0
        t = t + row[0]
    return np.array(g) + t


def the_last_one_has_a_name(x: Any, n: int) -> Any:
    g = rows(x, n)
    last: Any = None
    for i in range(n - 1):
        g[i], g[i + 1] = g[i + 1], g[i]
        last = g[i]
    last[0] = 77.0
    return np.array(g)


ALL = [*STAGED, one_row_twice, a_row_with_a_name, the_last_one_has_a_name]


def everything(x: Any) -> Any:
    return [np.sum(f(x, 7)) for f in ALL]


def test_as_python() -> None:
    np.testing.assert_allclose(st.compile(everything)(X), everything(X), rtol=1e-11)
    xs = np.stack([X, X * 0.7])
    got = st.compile(st.vmap(lambda x: sorted_rows(x, 6)))(xs)
    np.testing.assert_allclose(got, np.array([sorted_rows(x, 6) for x in xs]), rtol=1e-11)


def test_derivatives() -> None:
    st.testing.check_grads(lambda x: np.sum(gauss(x, 6)) + 0.01 * np.sum(turned(x, 6)), (X,), order=1)


@pytest.mark.parametrize("f", STAGED)
def test_one_size(f: Callable[[Any, int], Any]) -> None:
    sizes = [size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (10, 30)]
    assert sizes[0] == sizes[1]


def chosen_by_the_data(x: Any) -> Any:
    g = rows(x, 12)
    for i in range(11):
        if x[0] > i:
            g[i] = g[i + 1]
        else:
            g[i + 1] = g[i]
    g[3][0] = 5.0
    return np.array(g)


def put_down_in_another_branch(x: Any) -> Any:
    g = rows(x, 12)
    for i in range(11):
        a = g[i]
        if x[0] > 0:
            g[i] = g[i + 1]
        if x[0] > 0:
            g[i + 1] = a
        g[i][0] += 1
    return np.array(g)


@pytest.mark.parametrize("f", [chosen_by_the_data, put_down_in_another_branch])
def test_refused(f: Callable[[Any], Any]) -> None:
    with pytest.raises(MutationError, match="has another name on one side of a traced condition"):
        st.compile(f)(X)
