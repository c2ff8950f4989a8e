"""Updates in place: what k elements of a large array cost, and which copies remain and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.program import Allocate, Loop, MapLanes, Move, Nest, Routine, Switch, While
from stager.ir.dims import Dim, product

N = 100_000


def moved(steps: list[Any]) -> int:
    """Points that the kernels of a program write, copies included; loops count one iteration."""
    total = 0
    for s in steps:
        match s:
            case Nest():
                for leaf in s.leaves:
                    extents: dict[int, Dim] = {a.var: a.extent for a in (*s.outer, *leaf.loops)}
                    n = product(extents.values())
                    total += n if isinstance(n, int) else N
            case Loop() | MapLanes():
                total += moved(s.body)
            case While():
                total += moved(s.test) + moved(s.body)
            case Switch():
                total += max(moved(b) for b in s.branches)
            case Move() if not s.swap:
                n = product(s.target.shape)
                total += n if isinstance(n, int) else N
            case Routine() | Allocate():
                total += N
    return total


def program(f: Any, *args: Any) -> Any:
    from stager.pipeline import generate

    return generate(f.graph(*args)).program


def slices(x: Any) -> None:
    x[10:20] = x[30:40] * 2.0
    x[5] += 1.0


def view_of_view(x: Any) -> None:
    y = x.reshape(1000, 100)
    row = y.T[3]
    row[::100] -= 1.0


def reshaped(x: Any) -> None:
    y = x.reshape(1000, 100)
    y[3, 5:9] = 2.0
    y.reshape(10, 100, 100)[2, :, 7] = y[5, :]
    y[7] *= 2.0


def rows(x: Any) -> None:
    for i in range(1, 50):
        x[i] = np.sin(x[i - 1]) + x[i]


def masked_rows(x: Any) -> None:
    for i in range(3):
        for j in range(i):
            x[i * 10 + j] = x[i * 10] * 2.0


def scattered(x: Any) -> None:
    x[np.array([5, 700, 9000])] = 7.0
    np.add.at(x, np.array([1, 1, 2]), 1.0)


def swapped(x: Any) -> None:
    x[3], x[4] = x[4], x[3]


@pytest.mark.parametrize("f", [slices, view_of_view, reshaped, rows, masked_rows, scattered, swapped])
def test_k_elements_of_an_array_cost_k(f: Callable[[Any], None]) -> None:
    made = st.compile(f)
    x = np.random.default_rng(0).standard_normal(N)
    p = program(made, x)
    assert moved(p.steps) <= 500
    assert p.copies == []
    ours, theirs = x.copy(), x.copy()
    made(ours)
    f(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)


def test_k_elements_of_a_buffer_made_inside_cost_k_after_it_is_made() -> None:
    def f(x: Any) -> Any:
        y = np.exp(x)
        y[3:6] = 0.0
        for i in range(1, 40):
            y[i] = y[i - 1] * 0.5 + y[i]
        return y

    made = st.compile(f)
    p = program(made, np.ones(N))
    assert moved(p.steps) <= N + 100
    assert p.copies == []


def test_results_that_are_parts_of_an_argument_are_views() -> None:
    def f(x: Any) -> Any:
        x[2] = 1.0
        return x[10:20].reshape(2, 5).T

    made = st.compile(f)
    x = np.zeros(N)
    assert moved(program(made, x).steps) == 1
    out = made(x)
    assert np.shares_memory(out, x)


def copies(f: Any, *args: Any) -> list[str]:
    made = st.compile(f)
    made(*args)
    found: list[str] = made.explain().stats["copies"]
    return found


def test_copies_that_remain_say_why() -> None:
    def keeps_argument(x: Any) -> Any:
        y = x.copy()
        y[3] = 1.0
        return y

    (text,) = copies(keeps_argument, np.zeros(100))
    assert text.startswith("copy out0 <- x")
    assert "(800 bytes) for slice_update at " in text
    assert "test_copies.py" in text
    assert text.endswith("keeps its content")

    def both(x: Any) -> Any:
        y = np.exp(x)
        z = y.copy()
        z[3] = 1.0
        return y, z

    (text,) = copies(both, np.zeros(100))
    assert text.endswith("what it updates is a result too")

    def read_later(x: Any, i: Any) -> Any:
        y = np.exp(x)
        z = y.copy()
        z[i] = 1.0
        return np.sort(z)[0] + np.sum(y * z)

    (text,) = copies(read_later, np.zeros(100), 7)
    assert "reads the old content" in text


def test_a_loop_may_overwrite_the_result_that_it_carries(rng: np.random.Generator) -> None:
    def f(x: Any, t: Any) -> Any:
        y = x + 1.0
        for _ in range(t):
            for i in range(500):
                y[i] = np.sqrt(np.abs(y[i])) + y[i + 1]
            y = y * 2.0
        return y

    def read_later(x: Any, t: Any) -> Any:
        y = x + 1.0
        for _ in range(t):
            old = y
            y = y * 0.5
            for i in range(500):
                y[i] += old[i + 1]
            y = y + old
        return y

    x = rng.standard_normal(N)
    assert not [line for line in program(st.compile(f), x, 30).copies if line.startswith("copy")]
    for g in (f, read_later):
        np.testing.assert_allclose(st.compile(g)(x, 30), g(x, 30), rtol=1e-14)
