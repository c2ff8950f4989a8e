"""Loops whose iterations touch apart elements run as parallel maps; others one turn after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.pipeline import optimize


def rows(A: Any) -> Any:
    out = np.zeros(A.shape[0])
    for i in range(A.shape[0]):
        s = 0.0
        for j in range(A.shape[1]):
            s = 0.5 * s + A[i, j]
        out[i] = s
    return out


def columns(A: Any) -> Any:
    A = A.copy()
    for j in range(A.shape[1]):
        for i in range(1, A.shape[0]):
            A[i, j] += 0.5 * A[i - 1, j]
    return A


def triangle(A: Any) -> Any:
    A = A.copy()
    for i in range(A.shape[0]):
        for j in range(1, i):
            A[i, j] += 0.5 * A[i, j - 1]
    return A


def backwards(A: Any) -> Any:
    A = A.copy()
    for i in range(A.shape[0] - 1, -1, -2):
        for j in range(1, A.shape[1]):
            A[i, j] += 0.5 * A[i, j - 1]
    return A


def escapes(A: Any) -> Any:
    counts = np.zeros(A.shape[0], dtype=np.int64)
    for i in range(A.shape[0]):
        x = A[i, 0]
        while np.abs(x) < 1e6:
            x = 1.1 * x + A[i, 1] + 1.0
            counts[i] += 1
    return counts


def rolled(A: Any) -> Any:
    """What a turn looks up stays in its own part of the array, and it has a copy of that for itself."""
    f, shifts = np.stack([A] * 12), np.arange(-7, 5)
    for _ in range(20):
        for k in range(12):
            f[k] = np.roll(np.roll(f[k], shifts[k], axis=0), shifts[k], axis=1)
        f *= 0.5
    return f


def diagonal(A: Any) -> Any:
    A = A.copy()
    for i in range(1, A.shape[0]):
        for j in range(1, A.shape[1]):
            A[i, j] += 0.5 * A[i - 1, j - 1]
    return A


def total(A: Any) -> Any:
    s = 0.0
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            s = 0.5 * s + A[i, j]
    return s


def overlapping(A: Any) -> Any:
    x = A[0].copy()
    for i in range(A.shape[0] - 2):
        for _ in range(20):
            x[i : i + 3] = 0.5 * x[i : i + 3] + A[i, :3]
    return x


def last_wins(A: Any) -> Any:
    out = np.zeros(3)
    for i in range(A.shape[0]):
        s = 0.0
        for j in range(A.shape[1]):
            s = 0.5 * s + A[i, j]
        out[1] = s
    return out


def elsewhere(A: Any) -> Any:
    """What a turn looks up may be another turn's."""
    f, at = np.stack([A] * 12), np.arange(12)[::-1].copy()
    for _ in range(20):
        for k in range(12):
            f[k] = 0.5 * np.roll(f[at[k]], 1, axis=0)
    return f


def is_parallel(f: Callable[..., Any], *args: Any) -> bool:
    program = compile_graph(optimize(st.make_graph(f)(*args)), Target.host()).program
    return "parallel map" in str(program)


@pytest.mark.parametrize("f", [rows, columns, triangle, backwards, escapes, rolled])
def test_independent(f: Any, rng: np.random.Generator) -> None:
    A = rng.standard_normal((300, 300))
    np.testing.assert_allclose(st.compile(f)(A), f(A), rtol=1e-12, atol=1e-13)
    assert is_parallel(f, A)


@pytest.mark.parametrize("f", [diagonal, total, overlapping, last_wins, elsewhere])
def test_not_independent(f: Any, rng: np.random.Generator) -> None:
    A = rng.standard_normal((300, 300))
    np.testing.assert_allclose(st.compile(f)(A), f(A), rtol=1e-12, atol=1e-13)
    assert not is_parallel(f, A)


def test_little_work_stays_on_one_thread(rng: np.random.Generator) -> None:
    assert not is_parallel(rows, rng.standard_normal((5, 5)))
