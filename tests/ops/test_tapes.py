"""What reverse mode of loops keeps and runs: counters, loops that only the run ends, graphs of the same size."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph
from stager.pipeline import optimize


def recurrence(x: Any) -> Any:
    """The positions follow a counter of the while; the result still holds what was read."""
    y = x.copy()
    i = 1
    while i < y.shape[0]:
        y[i] = 0.5 * y[i] + 0.3 * y[i - 1] * y[i - 1]
        i += 1
    return y


def until(x: Any) -> Any:
    """The same, as far as the data say."""
    y = x.copy()
    i = 1
    while i < y.shape[0] and y[i] > 0.2:
        y[i] = 0.5 * y[i] + 0.3 * y[i - 1] * y[i - 1]
        i += 1
    return y


def shifted_down(x: Any) -> Any:
    """Moves entries as an insertion does: nothing that is read enters a product."""
    y = x.copy()
    for i in range(1, y.shape[0]):
        v, j = y[i], i - 1
        while j >= 0 and y[j] > v:
            y[j + 1] = y[j]
            j -= 1
        y[j + 1] = 3.0 * v
    return y


def two_counters(x: Any) -> Any:
    total, i, j = 0.0, 0, 11
    while i < j:
        total = total * x[i] + np.sin(x[j])
        i += 2
        j -= 1
    return total * x


def growing(x: Any) -> Any:
    """The number of turns depends on the data, and every turn needs a value of its own."""
    s, turns = 1.0, 0
    while s < 40.0 and turns < 1000:
        s = s * (1.0 + x[turns % 12] ** 2) + 0.5
        turns += 1
    return s * x


def counted_beside_the_index(x: Any) -> Any:
    y, k = x * 1.0, 3
    for _ in range(4):
        y = y * x[k] + x[0]
        k = k + 2
    return y


def stepped(x: Any) -> Any:
    y = x[:3]
    for i in range(11, 0, -4):
        y = np.sin(y) * x[i]
    return y


def never(x: Any) -> Any:
    y, i = x, 100
    while i < 12:
        y = y * y
        i += 1
    return y * 2.0


PROGRAMS = [recurrence, until, shifted_down, two_counters, growing, counted_beside_the_index, stepped, never]
X = np.random.default_rng(0).uniform(0.5, 1.5, 12)


def loss_of(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: np.sum(f(x) ** 2 * np.arange(1.0, 1.0 + np.size(f(x))))


@pytest.mark.parametrize("f", PROGRAMS)
def test_gradients(f: Callable[[Any], Any]) -> None:
    np.testing.assert_allclose(st.compile(f)(X), f(X), rtol=1e-13)
    st.testing.check_grads(lambda x: np.sum(f(x) ** 2), (X,), order=2)
    compiled = st.compile(st.grad(lambda x: np.sum(f(x) ** 2)))
    for x in (X, X[::-1].copy()):
        np.testing.assert_allclose(compiled(x), st.grad(lambda x: np.sum(f(x) ** 2))(x), rtol=1e-12)


@pytest.mark.parametrize("f", PROGRAMS)
def test_lanes_with_turns_of_their_own(f: Callable[[Any], Any]) -> None:
    grad = st.grad(lambda x: np.sum(f(x) ** 2))
    xs = np.random.default_rng(1).uniform(0.5, 1.5, (5, 12))
    each = np.stack([grad(x) for x in xs])
    np.testing.assert_allclose(st.compile(st.vmap(grad))(xs), each, rtol=1e-12)
    outside = st.grad(lambda xs: np.sum(st.vmap(lambda x: np.sum(f(x) ** 2))(xs)))
    np.testing.assert_allclose(outside(xs), each, rtol=1e-12)


def test_a_counter_that_starts_elsewhere_in_every_lane() -> None:
    def f(x: Any, first: Any) -> Any:
        y, i = x[0] * 1.0, first
        while i < 12:
            y = y * x[i] + 0.1
            i += 3
        return y

    starts = np.array([0, 5, 11, 12, 2])
    got = st.compile(st.vmap(st.grad(f), in_dims=(None, 0)))(X, starts)
    np.testing.assert_allclose(got, np.stack([st.grad(f)(X, int(s)) for s in starts]), rtol=1e-12)


def kept(f: Callable[[Any], Any], x: Any) -> list[str]:
    found: list[str] = st.compile(st.grad(lambda x: np.sum(f(x) ** 2))).explain(x).stats["kept"]
    return found


@pytest.mark.parametrize("f", [recurrence, until, counted_beside_the_index])
def test_counters_and_what_follows_them_are_not_kept(f: Callable[[Any], Any]) -> None:
    x = np.random.default_rng(0).uniform(0.1, 0.5, 300)
    assert not any(int(text.split(": ")[1].split(" bytes")[0]) > 8 * 4 * 300 for text in kept(f, x))
    assert kept(recurrence, x) == []


def relaxed(x: Any) -> Any:
    y = x.copy()
    for k in range(x.shape[0]):
        y = np.minimum(y, y[k] + x)
    return y


def test_minima_keep_two_masks_in_a_byte() -> None:
    """Both operands ask who reaches the other, so a turn keeps two bits per element."""
    x = np.random.default_rng(0).uniform(0.1, 0.5, 300)
    assert [text.split(": ")[1].split(" from")[0] for text in kept(relaxed, x)] == ["90000 bytes"]


def ops(graph: Graph) -> Counter[str]:
    found = Counter(n.op.name for n in graph.nodes)
    for n in graph.nodes:
        for region in n.regions:
            found += ops(region)
    return found


def gradient(f: Callable[..., Any], *args: Any) -> Graph:
    return optimize(st.make_graph(st.grad(lambda *a: np.sum(f(*a) ** 2)))(*args))


def test_what_needs_no_tape_runs_once() -> None:
    found = ops(gradient(shifted_down, X))
    assert (found["while"], found["for"]) == (1, 3)  # the loop outside, and both ways back
    found = ops(gradient(until, X))
    assert (found["while"], found["for"]) == (1, 1)
    found = ops(gradient(growing, X))
    assert (found["collect"], found["while"], found["for"]) == (1, 0, 1)  # it keeps rows, and the way back reads them


@pytest.mark.parametrize("turns", [(4, 4000), (50, 70)])
def test_graphs_do_not_grow_with_the_turns(turns: tuple[int, int]) -> None:
    def sweeps(x: Any, steps: int) -> Any:
        for _ in range(steps):
            for i in range(1, x.shape[0] - 1):
                x[i] = 0.5 * (x[i - 1] + x[i + 1]) * x[i]
        return x

    def fixed(n: int) -> Callable[[Any], Any]:
        def f(x: Any) -> Any:
            A = np.zeros((n, n))
            for i in range(n):
                for j in range(i):
                    A[i, j] = x[j] * np.dot(A[i, :j], A[j, :j]) + x[i]
            return A

        return f

    few, many = turns
    assert ops(gradient(sweeps, X.copy(), few)) == ops(gradient(sweeps, X.copy(), many))
    assert ops(gradient(fixed(few + 4), np.ones(few + 4))) == ops(gradient(fixed(2 * few + 4), np.ones(2 * few + 4)))


# -- tapes that grow --------------------------------------------------------------------------------------------------


def nested(x: Any) -> Any:
    """The inner loop takes another number of turns in every turn of the outer one."""
    s, r = x[0] * 1.0, x * 1.0
    while s < 20.0:
        r = x * 1.0
        while np.sum(r) < s:
            r = r * 1.3 + 0.05 * np.sin(r)
        s = s + 0.3 * np.sum(r) * x[1]
    return s * s + np.sum(r)


def in_a_for(x: Any) -> Any:
    t = 0.0
    for i in range(4):
        r, n = x * (1.0 + 0.1 * i), 0
        while np.sum(r * r) < 30.0 + i:
            r = r * 1.2 + 0.1 * np.cos(r)
            n += 1
        t = t + np.sum(np.sin(r)) * n
    return t


def rows_of_several_sizes(x: Any) -> Any:
    y, k = x * 1.0, 1
    while k < 4 and np.sum(y) < 100:
        y = y + 0.5 * np.sum(np.sin(y[:k]) * y[:k])
        k += 1
    return np.sum(y * y)


def sizes_from_the_data(x: Any) -> Any:
    y = x * 1.0
    while np.sum(y) < 40:
        large = y[y > 0.8]
        y = y * 1.1 + 0.1 * np.sum(large * large)
    return np.sum(y * y)


def in_a_branch(x: Any) -> Any:
    y = x * 1.0
    if x[0] > 0.5:
        while np.sum(y) < 9.0:
            y = y * y * 0.5 + y
    else:
        while np.sum(y) < 5.0:
            y = y * 1.3
    return np.sum(y * y * y)


def thousands(x: Any) -> Any:
    y, n = x * 1.0, 0
    while n < 5000 and np.max(y) < 1e6:
        y = y * (1.0 + 1e-4 * np.sin(y))
        n += 1
    return np.sum(y)


GROWING = [nested, in_a_for, rows_of_several_sizes, sizes_from_the_data, in_a_branch, thousands]
SMALL = np.array([0.9, 0.55, 0.7])


@pytest.mark.parametrize("f", GROWING)
def test_tapes_grow(f: Callable[[Any], Any]) -> None:
    st.testing.check_grads(f, (SMALL,), order=2)
    grad = st.grad(f)
    xs = np.stack([SMALL, SMALL * 0.9, SMALL[::-1], SMALL * 0.3, SMALL * 3])
    each = np.stack([grad(x) for x in xs])
    graph = st.make_graph(grad)(SMALL)
    np.testing.assert_allclose(evaluate_graph(graph, [SMALL])[0], each[0], rtol=1e-12)
    np.testing.assert_allclose(evaluate_graph(optimize(graph), [SMALL])[0], each[0], rtol=1e-12)
    compiled = st.compile(grad)
    np.testing.assert_allclose(np.stack([compiled(x) for x in xs]), each, rtol=1e-12)
    np.testing.assert_allclose(st.compile(st.vmap(grad))(xs), each, rtol=1e-12)
    np.testing.assert_allclose(st.compile(st.grad(lambda xs: np.sum(st.vmap(f)(xs))))(xs), each, rtol=1e-12)
    hessian = st.compile(st.hessian(f))(SMALL)
    np.testing.assert_allclose(st.compile(st.vmap(st.jacrev(grad)))(xs)[0], hessian, rtol=1e-10)


def test_explain_tells_of_tapes_that_grow() -> None:
    def f(a: Any) -> Any:
        a, t = a.copy(), 0
        while t < 60 and a[0, 0] < 1e9:
            a[t % 7] = a[t % 7] * 1.1 + 0.1 * a[t % 7] ** 2
            t += 1
        return np.sum(a)

    (text,) = st.compile(st.grad(f)).explain(np.full((7, 40), 0.1)).stats["kept"]
    assert re.match(r"tape\d+: 320\*\w+ bytes from ", text)  # one row for each turn


@pytest.mark.parametrize("levels", [None, "sqrt", "binomial", 2])
@pytest.mark.parametrize("lanes", [False, True])
def test_a_loop_prints_once(levels: Any, lanes: bool, capfd: pytest.CaptureFixture[str]) -> None:
    def f(x: Any) -> Any:
        def turn(y: Any) -> Any:
            print("turn")
            return y * 1.5 * np.cos(0.1 * y)

        return np.sum(st.while_loop(lambda y: np.sum(y) < 10.0, turn, x * 1.0, checkpoint=levels))

    if lanes:
        st.compile(st.vmap(st.grad(f)))(np.stack([SMALL, SMALL]))
    else:
        st.compile(st.grad(f))(SMALL)
    assert capfd.readouterr().out.count("turn") == (8 if lanes else 4)


def test_a_failing_loop_gives_its_tapes_back() -> None:
    def f(x: Any) -> Any:
        y = x * 1.0
        while np.sum(y) < 1e9:
            assert np.max(y) < 4.0, "too large"
            y = y * 1.0001
        return np.sum(y * y)

    import resource

    grad = st.compile(st.grad(f))
    x = np.ones(100)
    with pytest.raises(AssertionError, match="too large"):
        grad(x)  # 14,000 rows of 800 bytes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        with pytest.raises(AssertionError, match="too large"):
            grad(x)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # in KiB; one tape is 13,000


@pytest.mark.parametrize("levels", [None, "sqrt", 2])
def test_loops_inside_that_check_and_print_run_again_in_silence(levels: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """The way back of the outer loop runs the inner one again: its tape has another length in every turn."""

    def f(x: Any) -> Any:
        def turn(i: Any, t: Any) -> Any:
            r = x * (1.0 + 0.1 * i) + 0.1 * np.sin(t)
            while np.sum(r * r) < 30.0:
                print("turn")
                assert np.max(r) < 100.0, "too large"
                r = r * 1.2 + 0.1 * np.cos(r)
            return t + np.sum(np.sin(r))

        return st.fori_loop(0, 4, turn, 0.0, checkpoint=levels)

    value = st.compile(f)(SMALL)
    count = capfd.readouterr().out.count("turn")
    grad = st.compile(st.grad(f))(SMALL)
    assert capfd.readouterr().out.count("turn") == count > 4
    moved = [[st.compile(f)(SMALL + s * h) for s in (1, -1)] for h in 1e-6 * np.eye(3)]
    np.testing.assert_allclose(grad, [(a - b) / 2e-6 for a, b in moved], rtol=1e-6)
    assert np.isfinite(value)


def test_reads_at_an_index_of_the_while_around() -> None:
    """The inner turns read what they found in one column. Which one a tape of all of them cannot tell."""

    def f(a: Any) -> Any:
        h = a.copy()
        for k in range(len(a)):
            for i in range(k):
                h[i, k] = np.sin(h[i, k]) * h[i + 1, k]
            if h[k, k] < -100.0:
                break
        return np.sum(np.sin(h))

    a = np.random.default_rng(0).uniform(0.5, 1.5, (5, 5))
    (grad,) = evaluate_graph(st.make_graph(st.grad(f))(a), [a])
    moved = [(f(a + h.reshape(5, 5)) - f(a - h.reshape(5, 5))) / 2e-6 for h in 1e-6 * np.eye(25)]
    np.testing.assert_allclose(grad.ravel(), moved, atol=1e-8)


# -- memory -----------------------------------------------------------------------------------------------------------


def rows_in_a_branch(a: Any, x: Any, turns: int) -> Any:
    a = a.copy()
    for t in range(turns):
        if x[0] > 0.7:
            a[t % 7] = a[t % 7] * x * np.sin(a[t % 7])
        else:
            a[t % 7] = a[t % 7] + x
    return np.sum(a * a)


def rows_in_branches_of_their_own(a: Any, x: Any, turns: int) -> Any:
    a = a.copy()
    for t in range(turns):
        if a[t % 7, 0] > 0.3 and x[1] > 0.6:
            a[t % 7] = np.tanh(a[t % 7]) * x + a[(t + 3) % 7]
            if x[1] > 0.9:
                continue
            a[t % 7, 1:] *= x[0]
        elif t > 5:
            a[t % 7] = a[t % 7] + np.sin(a[t % 7 - 1])
    return np.sum(a * a)


@pytest.mark.parametrize("f", [rows_in_a_branch, rows_in_branches_of_their_own])
def test_branches_in_loops_store_the_rows_that_they_read(f: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    a, x, turns = rng.uniform(0.1, 0.9, (7, 40)), rng.uniform(0.5, 1.1, 40), 60

    def loss(a: Any, x: Any) -> Any:
        return f(a, x, turns)

    found = st.compile(st.grad(loss, argnums=(0, 1))).explain(a, x).stats["kept"]
    total = sum(int(text.split(": ")[1].split(" bytes")[0]) for text in found)
    assert total <= 5 * 8 * 40 * turns  # a few rows for each turn; the array is seven
    small = (a[:, :3].copy(), np.array([0.9, 0.7, 0.8]))
    for y in (small[1], np.array([0.5, 0.95, 0.8])):
        st.testing.check_grads(lambda a, x: f(a, x, 20), (small[0], y), order=2)
    grad = st.grad(lambda a, x: f(a, x, 20))
    lanes = np.stack([small[1], small[1][::-1], small[1] * 0.6])
    each = [grad(small[0], y) for y in lanes]
    np.testing.assert_allclose(st.compile(st.vmap(grad, in_dims=(None, 0)))(small[0], lanes), each, rtol=1e-12)
