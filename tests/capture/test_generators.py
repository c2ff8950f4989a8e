"""Loops over generators of the user: one loop nest with the generator's, and Python's own where that cannot be seen."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError
from tests.graphs import size_of

X = np.array([0.3, 0.7, 1.1])


def pairs(n: int) -> Iterator[tuple[int, int]]:
    for i in range(n):
        for j in range(i):
            yield i, j


def above(x: Any, n: int) -> Iterator[Any]:
    for i in range(n):
        if np.sin(x[0] * i) > 0.2:
            yield x[1] * i


def until(x: Any, n: int) -> Iterator[Any]:
    yield x[0]
    for i in range(n):
        if x[0] * i > 2.0:
            return
        yield x[1] * i
    yield 100.0


def forever(x: Any) -> Iterator[Any]:
    k = 0
    while True:
        yield x[0] * k
        k += 1


def swaps(a: Any) -> Iterator[int]:
    for i in range(len(a) - 1):
        if a[i] > a[i + 1]:
            a[i], a[i + 1] = a[i + 1], a[i]
            yield i


def delegated(x: Any, n: int) -> Iterator[Any]:
    yield from range(n)
    yield from above(x, n)


def large(values: Iterator[Any], x: Any) -> Iterator[Any]:
    for v in values:
        if v > 3:
            yield v * x[0]


class Mesh:
    def __init__(self, n: int) -> None:
        self.n = n

    def cells(self, scale: float = 2.0) -> Iterator[Any]:
        for i in range(1, self.n - 1):
            yield scale * i


def nest(x: Any, n: int) -> Any:
    m, t = np.zeros((n, n)), 0.0
    for i, j in pairs(n):
        t = t * 0.9 + x[0] * i + np.sin(x[1] * j)
        m[i, j] = t
    return np.sum(m) + t


def with_ends(x: Any, n: int) -> Any:
    t = 0.0
    for v in above(x, n):
        if t > 20:
            break
        if v > 3:
            continue
        t = t + v
    else:
        t = t - 1.0
    for v in until(x, n):
        t = t * 0.9 + v
    return t


def returned(x: Any, n: int) -> Any:
    t = 0.0
    for i, _ in pairs(n):
        t = t + x[0] * i * 0.1
        if t > 7.5:
            return t * 100 + i
    return t


def endless(x: Any, n: int) -> Any:
    t = 0.0
    for v in forever(x):
        t += v
        if t > n:
            break
    return t


def inside(x: Any, n: int) -> Any:
    a, c, t = np.concatenate([x[::-1] * k for k in range(1, 4)]), 0, 0.0
    for i in range(n):
        for k in swaps(a):
            c += k
        for v in until(x * i, n):
            t = t + v
            if v > 5.0:
                break
        else:
            t = t * 0.5
    return np.sum(a) + c + t


def piped(x: Any, n: int) -> Any:
    t = 0.0
    for v in large(delegated(x, n), x):
        t = t * 0.9 + v
        if t > 30:
            break
    for k, v in enumerate(above(x, n), 3):
        t = t + v * k
    return t


def local(x: Any, n: int) -> Any:
    def steps(k: int) -> Iterator[Any]:
        nonlocal c
        while k < n:
            c = c + x[0]
            yield k, c
            k += 2

    c = t = 0.0
    for k, v in steps(1):
        t = t + k * v
    for v in Mesh(n).cells(scale=x[1]):
        t = t * x[0] + v
    return t + c


def listed(x: Any, n: int) -> Any:
    out = [x[2]]
    for i, j in pairs(n):
        out.append(out[-1] * 0.9 + x[1] * i - j)
    return out[-1] + sum(above(x, n)) + sum([v * v for v in above(x, n)])


def expressions(x: Any, n: int) -> Any:
    t = 0.0
    for i, j in ((i, j) for i in range(n) for j in range(i)):
        t = t * 0.9 + x[0] * i + np.sin(x[1] * j)
    for v in (x[0] * i * j for i in range(n) if i % 3 for j in range(i, n) if np.sin(x[2] * j) > 0):
        t = t + v * 0.01
        if t > 70:
            return t + 1000
    return t


STAGED = [nest, with_ends, returned, endless, inside, piped, local, listed, expressions]


# -- what Python has to run ------------------------------------------------------------------------------------------


def closing(n: int, log: list[int]) -> Iterator[int]:
    try:
        yield from range(n)
    finally:
        log.append(1)


def counting() -> Generator[int, int | None, None]:
    k = 0
    while k < 20:
        got = yield k
        k += 1 if got is None else got


def by_hand(x: Any, n: int) -> Any:
    log: list[int] = []
    g = counting()
    t = x[0] * next(g)
    for v in closing(n, log):
        t = t + v * x[0]
        if v > 3:
            break
    return t * x[1] + g.send(n // 4) + len(log)


def resumed(x: Any, n: int) -> Any:
    g, t = pairs(n), 0.0
    for i, _ in g:
        t = t + i * x[0]
        if i == 2:
            break
    for i, _ in g:
        t = t * 0.9 + i * x[1]
    for i, _ in g:
        t = t + 1000.0 * i
    return t


def once(x: Any, n: int) -> Any:
    """Iterators that are older than a loop end in its first turn."""
    iterators = pairs(n), zip([x[0]] * n, range(n), strict=True), iter([1.0, 2.0, 3.0, 5.0, 6.0]), map(np.sin, x)
    a, b, c, d = iterators
    e, f = enumerate(x), (x[1] * i for i in range(n))
    t = 0.0
    for _ in range(20):
        for v, w in a:
            t = t + v * x[1] - w
        for v, w in b:
            t = t + v * w
        for v in c:
            t = t + v * x[1]
        t = t * x[0] + sum(d) + sum(f)
        for v, w in e:
            t = t + v * w
    return t


ALL = [*STAGED, by_hand, resumed, once]


def everything(x: Any) -> Any:
    return [f(x, 12) for f in ALL]


def test_as_python() -> None:
    def few(x: Any) -> Any:
        return [[f(x, n) for f in STAGED] for n in (0, 2)]

    np.testing.assert_allclose(st.compile(everything)(X), everything(X), rtol=1e-11)
    np.testing.assert_allclose(st.compile(few)(X), few(X), rtol=1e-11)


def test_transforms() -> None:
    def total(x: Any) -> Any:
        return sum(f(x, 7) for f in (with_ends, inside, piped))

    xs = np.array([X, X * 0.6])
    np.testing.assert_allclose(st.compile(st.vmap(total))(xs), [total(x) for x in xs], rtol=1e-11)
    st.testing.check_grads(total, (X,), order=1)


@pytest.mark.parametrize("f", STAGED)
def test_one_size(f: Callable[[Any, int], Any]) -> None:
    sizes = [size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (10, 300)]
    assert sizes[0] == sizes[1]


def test_exceptions_have_the_line() -> None:
    def picked(n: int) -> Iterator[int]:
        for i in range(n):
            yield i * 2

    def f(x: Any) -> Any:
        t = 0.0
        for i in picked(10):
            t = t + x[i]  # out of range
        return t

    with pytest.raises(IndexError) as found:
        st.compile(f)(X)
    assert "picked" not in str(found.value)
    with pytest.raises(IndexError):
        f(X)


def test_an_unfit_generator_is_named() -> None:
    def f(x: Any) -> Any:
        t = 0.0
        for v in closing(30, []):
            t = t + v * x[0]
        return t

    compiled = st.compile(f)
    np.testing.assert_allclose(compiled(X), f(X))
    text = str(compiled.explain())
    assert "the generator closing suspends at each yield" in text
    assert f"{__file__}:{closing.__code__.co_firstlineno}" in text
    assert "remedy" in text


def test_an_iterator_that_data_left_is_not_run_over_again() -> None:
    def left(x: Any, n: int) -> Any:
        g = iter([x[i % 3] for i in range(n)])
        for v in g:
            if v > 0.5:
                break
        return g

    def in_a_loop(x: Any) -> Any:
        t = 0.0
        for v in left(x, 6):
            t = t + v
        return t

    def by_sum(x: Any) -> Any:
        return sum(left(x, 6))

    def by_hand(x: Any) -> Any:
        return next(left(x, 6))

    def below(x: Any) -> Any:
        g, t = iter([x[i % 3] for i in range(6)]), 0.0
        for _, v in enumerate(g):
            if v > 0.5:
                break
        for v in g:
            t = t + v
        return t

    for f in (in_a_loop, by_sum, by_hand, below):
        with pytest.raises(ControlFlowError, match="left this iterator"):
            st.compile(f)(X)

    def anew(x: Any) -> Any:
        items = [x[i % 3] for i in range(6)]
        t = 0.0
        for _ in range(2):
            for v in items:
                if v > 0.5:
                    break
                t = t + v
        return t

    np.testing.assert_allclose(st.compile(anew)(X), anew(X))
