"""Consecutive loops over one range: joined where no turn comes too early, else left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.program import Loop, MapLanes, walk
from stager.codegen.target import Target
from stager.pipeline import optimize


def loops(f: Callable[..., Any], *args: Any) -> int:
    program = compile_graph(optimize(st.make_graph(f)(*args)), Target.host()).program
    count = 0

    def look(s: Any) -> None:
        nonlocal count
        count += isinstance(s, Loop | MapLanes)

    walk(program.steps, look)
    return count


def chained(x: Any) -> Any:
    y, z = np.zeros_like(x), np.zeros_like(x)
    for i in range(1, x.shape[0]):
        y[i] = 0.5 * y[i - 1] + x[i]
    for i in range(1, x.shape[0]):
        z[i] = 0.5 * z[i - 1] + y[i] * y[i - 1]
    return y, z


def three(x: Any) -> Any:
    y, z, w = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for i in range(x.shape[0] - 2, -1, -1):
        y[i] = 0.5 * y[i + 1] + x[i]
    for i in range(x.shape[0] - 2, -1, -1):
        z[i] = 0.5 * z[i + 1] + y[i]
    for i in range(x.shape[0] - 2, -1, -1):
        w[i] = 0.5 * w[i + 1] + z[i + 1] - y[i]
    return y, z, w


def ahead(x: Any) -> Any:
    y, z = np.zeros_like(x), np.zeros_like(x)
    for i in range(1, x.shape[0] - 1):
        y[i] = 0.5 * y[i - 1] + x[i]
    for i in range(1, x.shape[0] - 1):
        z[i] = 0.5 * z[i - 1] + y[i + 1]
    return z


def overwritten(x: Any) -> Any:
    y, z = np.cumsum(x), np.zeros_like(x)
    for i in range(1, x.shape[0] - 1):
        z[i] = 0.5 * z[i - 1] + y[i + 1]
    for i in range(1, x.shape[0] - 1):
        y[i] = 0.5 * y[i - 1] + z[i]
    return y, z


def too_early(x: Any) -> Any:
    y, z = np.cumsum(x), np.zeros_like(x)
    for i in range(1, x.shape[0] - 1):
        z[i] = 0.5 * z[i - 1] + y[i - 1]
    for i in range(1, x.shape[0] - 1):
        y[i] = 0.5 * y[i - 1] + z[i]
    return y, z


def other_range(x: Any) -> Any:
    y, z = np.zeros_like(x), np.zeros_like(x)
    for i in range(1, x.shape[0]):
        y[i] = 0.5 * y[i - 1] + x[i]
    for i in range(2, x.shape[0]):
        z[i] = 0.5 * z[i - 1] + y[i]
    return z


def total_first(x: Any) -> Any:
    s, z = 0.0, np.zeros_like(x)
    for i in range(1, x.shape[0]):
        s = 0.5 * s + x[i]
    for i in range(1, x.shape[0]):
        z[i] = 0.5 * z[i - 1] + s
    return z


CASES = [
    (chained, 1), (three, 1), (ahead, 2), (overwritten, 1), (too_early, 2), (other_range, 2), (total_first, 2),
]  # fmt: skip


@pytest.mark.parametrize(("f", "expected"), CASES)
def test_join(f: Any, expected: int, rng: np.random.Generator) -> None:
    x = rng.standard_normal(40)
    got, want = st.compile(f)(x), f(x)
    for g, w in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
        np.testing.assert_allclose(g, w, rtol=1e-13, atol=1e-14)
    assert loops(f, x) == expected


def test_rows_that_are_joined_run_in_parallel(rng: np.random.Generator) -> None:
    def f(A: Any) -> Any:
        B, C = np.zeros_like(A), np.zeros_like(A)
        for i in range(A.shape[0]):
            for j in range(1, A.shape[1]):
                B[i, j] = 0.5 * B[i, j - 1] + A[i, j]
        for i in range(A.shape[0]):
            for j in range(1, A.shape[1]):
                C[i, j] = 0.5 * C[i, j - 1] + B[i, j]
        return B, C

    A = rng.standard_normal((200, 200))
    for g, w in zip(st.compile(f)(A), f(A), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-13, atol=1e-14)
    program = compile_graph(optimize(st.make_graph(f)(A)), Target.host()).program
    assert str(program).count("parallel map") == 1
    assert loops(f, A) == 2
