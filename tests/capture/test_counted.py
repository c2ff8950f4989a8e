"""A `while` on Python numbers is a loop of the graph, and the numbers are Python's own afterwards."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.capture.while_node import WhileNode
from tests.capture.test_staged import assert_same
from tests.graphs import size_of

X = np.array([0.3, -0.2, 0.5, 0.1])


def turns(x: Any, n: int) -> Any:
    k = 0
    while k < n:
        x[k % 7] += x[(k + 1) % 7] * 0.1
        k += 1
    return x, k


def sieve(n: int) -> Any:
    prime = np.ones(n + 1, dtype=bool)
    prime[:2] = False
    i = 2
    while i * i <= n:
        if prime[i]:
            prime[i * i :: i] = False
        i += 1
    return prime


def test_the_graph_does_not_grow_with_the_turns() -> None:
    sizes = [len(st.make_graph(lambda x, n=n: turns(x, n))(np.ones(7))) for n in (50, 5000)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("n", [5, 40, 300])
def test_turns(n: int) -> None:
    got, want = st.compile(turns)(np.ones(7), n), turns(np.ones(7), n)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-13)
    assert got[1] == want[1]


def test_sieve() -> None:
    np.testing.assert_array_equal(st.compile(sieve)(2000), sieve(2000))


def test_what_needs_a_python_number_goes_on_in_python() -> None:
    names = ["a", "b", "c"]

    def f(x: Any) -> Any:
        k = 0
        seen = {}
        while k < 50:
            seen[names[k % 3]] = x * k
            k += 1
        return seen

    got = st.compile(f)(np.ones(2))
    for name, value in f(np.ones(2)).items():
        np.testing.assert_array_equal(got[name], value)


def in_steps_of_time(x: Any, end: float) -> Any:
    t, dt = 0, 0.01
    times, states = [t], [x]
    while t < end:
        x = x - dt * np.sin(x + t)
        t += dt
        times.append(t)
        states.append(x)
    return np.array(times), np.stack(states), t


def several_numbers(x: Any, end: float) -> Any:
    a, b, k, t, going = 7, 3, 0, 0.5, True
    while going:
        a, b = b, (a + 1) % 5
        x = x * 0.99 + a
        t *= 1.01
        k += 1
        going = t < end
    return x, a, b, k, t, going


def by_a_break(x: Any, end: float) -> Any:
    k = 0
    while True:
        x = x * 0.99
        k += 1
        if k * 0.1 >= end:
            break
        x = x + k
    return x, k


def as_an_index(x: Any, end: float) -> Any:
    k, y = 1, np.zeros(int(end * 10))
    while k < len(y):
        y[k] = y[k - 1] + x[k % 4]
        y[:k] *= 0.99
        k += 2
    else:
        y[0] = k
    return y, k


def that_shrinks(x: Any, end: float) -> Any:
    y, s = np.sin(np.arange(int(end * 10)) * x[0]), 0.0
    while len(y) > 1:
        s += y[0] * y[-1]
        y = y[1:]
    return s


def that_grows(x: Any, end: float) -> Any:
    y, k = np.zeros(0), 0
    while k < end * 10:
        x = x * 0.9
        y = np.append(y, x[0])
        k += 1
    return y


def until_data_say_so(x: Any, end: float) -> Any:
    y, v = x[:1], x[0] + 2
    while v > 1 / end:
        v = v * 0.9
        y = np.append(y, v)
    return y


def snapshots(x: Any, end: float) -> Any:
    kept, step = [], 0
    while step < end * 10:
        x = x * 0.99
        if step % 5 == 0:
            kept.append(x.copy())
        step += 1
    return np.array(kept)


PROGRAMS = [
    in_steps_of_time, several_numbers, by_a_break, as_an_index, that_shrinks, that_grows, until_data_say_so, snapshots,
]  # fmt: skip


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_programs(f: Any) -> None:
    graphs = [st.make_graph(lambda x, n=n: f(x, n))(X) for n in (4.0, 9.0)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    got, want = st.compile(lambda x: f(x, 3.0))(X), f(X, 3.0)
    assert_same(got, want)
    if isinstance(want, tuple):
        assert [type(v) for v in got[1:]] == [type(v) for v in want[1:]]


def test_the_numbers_are_pythons_to_the_last_bit() -> None:
    def f(x: Any) -> Any:
        t = 0.0
        while t < 1.0:
            x = x + t
            t += 0.001
        return x, t

    assert st.compile(f)(X)[1] == f(X)[1]


def test_numbers_beyond_64_bits_stay_pythons() -> None:
    def f(x: Any) -> Any:
        a, b = 1, 2
        while a < 10**30:
            a, b = b, a * b
            x = x + 1
        return x, a % 1000

    assert_same(st.compile(f)(X), f(X))


def test_a_last_bit_does_not_decide() -> None:
    """Where the test needs more than arithmetic, Python computes it."""

    def f(x: Any) -> Any:
        t, k = 0.5, 0
        while math.exp(-t) > 0.1:
            x = x * 0.9
            t += 0.25
            k += 1
        return x, k

    assert_same(st.compile(f)(X), f(X))


def test_gradients() -> None:
    def loss(x: Any, n: float) -> Any:
        return np.sum(in_steps_of_time(x, n)[1] ** 2) + np.sum(until_data_say_so(x, n) ** 2)

    e, v = 1e-6, np.array([0.1, 0.2, -0.3, 0.4])
    slope = (loss(X + e * v, 0.2) - loss(X - e * v, 0.2)) / (2 * e)
    np.testing.assert_allclose(st.grad(lambda x: loss(x, 0.2))(X) @ v, slope, rtol=1e-6)
    np.testing.assert_allclose(st.jvp(lambda x: loss(x, 0.2), (X,), (v,))[1], slope, rtol=1e-6)


def test_what_counts_the_turns_is_not_counted_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that grow in a way nobody can follow: the attempts to count the turns do not multiply."""
    attempts = []
    stage = WhileNode.stage
    monkeypatch.setattr(WhileNode, "stage", lambda self: attempts.append(1) or stage(self))

    def f(x: Any) -> Any:
        half, width = x.shape[0] // 2, 1
        while half >= 1:
            x = np.concatenate([x[:half] + x[half:] * width, x[:half] - x[half:]], axis=1)
            half, width = half // 2, 2 * width
        return x

    x = np.arange(16.0).reshape(16, 1)
    np.testing.assert_array_equal(st.compile(f)(x), f(x))
    assert len(attempts) < 8
