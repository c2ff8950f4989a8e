"""Dicts that traced loops fill by integer keys: values in arrays, keys and their order as in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.graphs import size_of

X = np.array([0.3, 0.7, 1.1])


def memo(x: Any, n: int) -> Any:
    d = {0: x[0], 1: x[1]}
    for i in range(2, n):
        d[i] = d[i - 1] * 0.7 + d[i - 2] * x[2]
    return d[n - 1] + sum(d.values()) * 0.1


def grid(x: Any, n: int) -> Any:
    t = {}
    for i in range(n):
        t[i, 0] = x[0] * i
        t[0, i] = x[1] * i
    for i in range(1, n):
        for j in range(1, n):
            t[i, j] = t[i - 1, j] * 0.3 + np.sin(t[i, j - 1]) + t[i - 1, j - 1] * 0.1
    return t[n - 1, n - 1] + sum(t.values())


def common(x: Any, n: int) -> Any:
    """Branches that data decide, each of which sets the same key."""
    t = {(i, j): 0.0 for i in range(n + 1) for j in range(n + 1) if i == 0 or j == 0}
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            if x[i % 3] > x[j % 3] * 0.9:
                t[i, j] = t[i - 1, j - 1] + x[0]
            else:
                t[i, j] = max(t[i - 1, j], t[i, j - 1])
            if t[i, j] > 1.0:
                t[i, j] *= 0.9
    return t[n, n]


def counters(x: Any, n: int) -> Any:
    d: dict[int, Any] = {}
    t = 0.0
    for i in range(n):
        k = i % 3
        d[k] = d.get(k, 0.0) + x[0] * i
        before = d.get(k - 1)
        if before is not None:
            t = t + before
    for i in range(n):
        k = (i * i) % 5
        if k not in d:
            d[k] = 0.0
        d[k] += x[1] * i
        t = t + len(d) * x[2]
    return t + sum(d.values())


def tuples(x: Any, n: int) -> Any:
    d = {}
    for i in range(n):
        for j in range(i):
            if (i + j) % 2 == 0:
                d[i, j] = (x * i, x[0] - j)
    return sum(b + np.sum(a) for a, b in list(d.values())) + len(d)


def filtered(x: Any, n: int) -> Any:
    """Which of the values are added to, data decide; the keys are there."""
    d = {i: x[2] * i for i in range(3)}
    for i in range(n):
        if x[i % 3] * i > 0.8:
            d[i % 3] += x[0]
    return d[0] + d[1] * d[2]


STAGED = [memo, grid, common, counters, tuples, filtered]


def in_order(x: Any, n: int) -> Any:
    d = {n: x[0], 1: x[1], -2: 3}
    for i in range(n - 1, 1, -2):
        d[i] = d[i + 2] * 0.9 if i + 2 in d else x[2]
    for i in range(n):
        d[i] = d.get(i, 0.5) * 2.0
    return d, d[-2] // 2, type(d[-2]) is int


def arrays(x: Any, n: int) -> Any:
    d = {i: np.zeros(3) for i in range(n)}
    e = {}
    for i in range(n):
        d[i] += x
        y = x * i
        e[i] = y
        y[0] = 9.0  # seen in the dict
    return list(d.values()), list(e.values())


def in_python(x: Any, n: int) -> Any:
    d: dict[Any, Any] = {0: x[0]}
    keep, t = [d], 0.0
    for i in range(1, n):
        d[i] = keep[0][i - 1] * 1.1
        t = t + sum(d.values())
        d["last"] = i
    for i in range(0, n, 2):
        del d[i]
    return d, t


ALL = [*STAGED, in_order, arrays, in_python]


def flat(x: Any) -> list[Any]:
    if isinstance(x, dict):
        x = list(x.items())
    if isinstance(x, list | tuple):
        return [v for part in x for v in flat(part)]
    return [x] if isinstance(x, str) else np.ravel(x).tolist()


def test_as_python() -> None:
    got = flat(st.compile(lambda x: [f(x, 9) for f in ALL])(X))
    want = flat([f(X, 9) for f in ALL])
    words = [isinstance(v, str) for v in want]
    assert [v for v, w in zip(got, words, strict=True) if w] == [v for v, w in zip(want, words, strict=True) if w]
    numbers = [[v for v, w in zip(part, words, strict=True) if not w] for part in (got, want)]
    np.testing.assert_allclose(*numbers, rtol=1e-11)
    np.testing.assert_allclose(flat(st.compile(lambda x: in_order(x, 0))(X)), flat(in_order(X, 0)))


def test_transforms() -> None:
    def total(x: Any) -> Any:
        return sum(f(x, 5) for f in (common, counters, tuples, filtered))

    xs = np.array([X, X * 0.6])
    np.testing.assert_allclose(st.compile(st.vmap(total))(xs), [total(x) for x in xs], rtol=1e-11)
    st.testing.check_grads(total, (X,), order=1)


@pytest.mark.parametrize("f", STAGED)
def test_one_size(f: Callable[[Any, int], Any]) -> None:
    sizes = [size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (10, 40)]
    assert sizes[0] == sizes[1]


def test_a_key_that_is_not_there() -> None:
    def f(x: Any) -> Any:
        d = {}
        for i in range(20):
            if i % 4 != 3:
                d[i] = x[0] * i
        t = 0.0
        for i in range(20):
            t = t + d[i] if x[1] > 0 else t
        return t

    with pytest.raises(KeyError):
        f(X)
    compiled = st.compile(f)
    with pytest.raises(KeyError):
        compiled(X)
    assert compiled(-X) == 0.0

    def g(x: Any) -> Any:
        d = {0: x[0]}
        for i in range(2, 20):
            d[i] = d[i - 1] * 2.0
        return d[19]

    with pytest.raises(KeyError):
        st.compile(g)(X)


def test_data_that_decide_about_keys_are_named() -> None:
    def f(x: Any) -> Any:
        d = {}
        for i in range(6):
            if x[0] * i > 0.5:
                d[i] = x[1]
        return sum(d.values())

    with pytest.raises(st.errors.ControlFlowError, match="items of a dict") as found:
        st.compile(f)(X)
    assert f"{__file__}:{f.__code__.co_firstlineno + 4}" in str(found.value)
    assert "remedy" in str(found.value)
