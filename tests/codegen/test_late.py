"""Sums that end in what the turn before has written: the last elements in single steps, behind the vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.pipeline import optimize


def program(f: Callable[..., Any], *args: Any) -> str:
    return str(compile_graph(optimize(st.make_graph(f)(*args)), Target.host()).program)


def forward(L: Any, b: Any) -> Any:
    x = np.zeros_like(b)
    for i in range(b.shape[0]):
        x[i] = (b[i] - np.dot(L[i, :i], x[:i])) / L[i, i]
    return x


def from_the_second(L: Any, b: Any) -> Any:
    x = np.zeros_like(b)
    for i in range(1, b.shape[0], 2):
        x[i] = (b[i] - np.dot(L[i, 1:i], x[1:i])) / L[i, i]
    return x


def squares(b: Any) -> Any:
    x = b.copy()
    for i in range(b.shape[0]):
        x[i] = x[i] / (1.0 + np.sum(x[:i] * x[:i]))
    return x


def backward(L: Any, b: Any) -> Any:
    n = b.shape[0]
    x = np.zeros_like(b)
    for i in range(n - 1, -1, -1):
        x[i] = (b[i] - np.dot(L[i, i + 1 :], x[i + 1 :])) / L[i, i]
    return x


def of_the_argument(L: Any, b: Any) -> Any:
    x = np.zeros_like(b)
    for i in range(b.shape[0]):
        x[i] = np.dot(L[i, :i], b[:i])
    return x


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 17, 33, 65, 100])
@pytest.mark.parametrize("f", [forward, from_the_second, backward, of_the_argument])
def test_sums_of_what_was_just_written(f: Any, n: int, rng: np.random.Generator) -> None:
    L, b = rng.standard_normal((n, n)) + n * np.eye(n), rng.standard_normal(n)
    np.testing.assert_allclose(st.compile(f)(L, b), f(L, b), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("n", [1, 8, 9, 40, 2000])
@pytest.mark.parametrize("dynamic", [False, True])
def test_squares(n: int, dynamic: bool, rng: np.random.Generator) -> None:
    b = rng.standard_normal(n)
    f = st.compile(squares, dynamic=dynamic)
    np.testing.assert_allclose(f(b), squares(b), rtol=1e-11)


def test_products_are_summed_unrounded() -> None:
    L, b = np.eye(50), np.ones(50)
    assert "llvm.fma" in compile_graph(optimize(st.make_graph(forward)(L, b)), Target.named("x86-64-v3")).text


def test_which_sums_are_late() -> None:
    L, b = np.eye(50), np.ones(50)
    assert " late" in program(forward, L, b)
    assert " late" in program(squares, b)
    assert " late" not in program(from_the_second, L, b)  # every other element is old
    assert " late" not in program(backward, L, b)
    assert " late" not in program(of_the_argument, L, b)


def steps_down(L: Any, b: Any) -> Any:
    x = b.copy()
    for i in range(b.shape[0] - 1, -1, -1):
        x[i] = x[i] / L[i, i]
        x[:i] -= L[i, :i] * x[i]
    return x


def steps_down_by_two(L: Any, b: Any) -> Any:
    x = b.copy()
    for i in range(b.shape[0] - 1, 1, -2):
        x[i] = x[i] / L[i, i]
        x[:i] -= L[i, :i] * x[i - 1]
    return x


def of_the_first(L: Any, b: Any) -> Any:
    x = b.copy()
    for i in range(b.shape[0] - 1, -1, -1):
        x[:i] -= L[i, :i] * x[0]
    return x


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 17, 33, 65, 100])
@pytest.mark.parametrize("f", [steps_down, steps_down_by_two, of_the_first])
def test_rows_that_end_in_what_the_next_turn_reads(f: Any, n: int, rng: np.random.Generator) -> None:
    L, b = rng.standard_normal((n, n)) + n * np.eye(n), rng.standard_normal(n)
    np.testing.assert_allclose(st.compile(f)(L, b), f(L, b), rtol=1e-11, atol=1e-13)


def test_which_rows_end_late() -> None:
    L, b = np.eye(50), np.ones(50)
    assert " late" in program(steps_down, L, b)
    assert " late" not in program(steps_down_by_two, L, b)
    assert " late" not in program(of_the_first, L, b)
    assert program(st.grad(lambda L, b: np.sum(forward(L, b)), argnums=(0, 1)), L, b).count(" late") == 2
