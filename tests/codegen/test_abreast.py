"""Rows that run side by side find what they find one after the other, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.program import Loop, walk
from stager.codegen.target import Target
from stager.pipeline import optimize


def rows_abreast(f: Callable[..., Any], *args: Any) -> int:
    """How many rows go side by side in the loops of a function, at most."""
    program = compile_graph(optimize(st.make_graph(f)(*args)), Target.host()).program
    found = [0]
    walk(program.steps, lambda s: found.append(s.abreast) if isinstance(s, Loop) else None)
    return max(found)


def relaxed(u0: Any, steps: Any) -> Any:
    u = u0.copy()
    for _ in range(steps):
        for i in range(1, u.shape[0] - 1):
            for j in range(1, u.shape[1] - 1):
                u[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])
    return u


def backwards(u0: Any, steps: Any) -> Any:
    u = u0.copy()
    for _ in range(steps):
        for i in range(u.shape[0] - 2, 0, -1):
            for j in range(u.shape[1] - 2, 0, -1):
                u[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])
    return u


def aligned(u0: Any, steps: Any) -> Any:
    """Needleman and Wunsch, with the way back."""
    n, m = u0.shape
    score, way = np.zeros((n + 1, m + 1)), np.zeros((n + 1, m + 1), np.int64)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            both, up, left = score[i - 1, j - 1] + u0[i - 1, j - 1], score[i - 1, j] - 0.5, score[i, j - 1] - 0.5
            best, at = both, 0
            if up > best:
                best, at = up, 1
            if left > best:
                best, at = left, 2
            score[i, j] = best
            way[i, j] = at
    return score, way


def written_ahead(u0: Any, steps: Any) -> Any:
    """A row is read further ahead than the next one follows."""
    u = u0.copy()
    for i in range(1, u.shape[0]):
        for j in range(1, u.shape[1] - 4):
            u[i, j] = 0.5 * u[i, j - 1] + 0.25 * u[i - 1, j + 4]
    return u


def summed(u0: Any, steps: Any) -> Any:
    """Every element is added to one number, in order."""
    u, total = u0.copy(), 0.0
    for i in range(1, u.shape[0]):
        for j in range(1, u.shape[1]):
            u[i, j] = 0.5 * u[i, j - 1] + 0.25 * u[i - 1, j]
            total = 0.9 * total + u[i, j]
    return u, total


def looked_up(u0: Any, steps: Any) -> Any:
    u = u0.copy()
    for i in range(1, u.shape[0]):
        for j in range(1, u.shape[1]):
            u[i, j] = 0.5 * u[i, j - 1] + u[i - 1, (3 * j) % u.shape[1]]
    return u


@pytest.mark.parametrize(("f", "rows"), [(relaxed, 4), (backwards, 4), (aligned, 4)])
@pytest.mark.parametrize("shape", [(23, 17), (10, 64), (12, 40), (13, 12)])
def test_rows_side_by_side(f: Any, rows: int, shape: tuple[int, int], rng: np.random.Generator) -> None:
    u = rng.standard_normal(shape)
    assert rows_abreast(f, u, 3) == rows
    for got, want in zip(np.atleast_3d(st.compile(f)(u, 3)), np.atleast_3d(f(u, 3)), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("f", [written_ahead, summed, looked_up])
def test_rows_one_after_the_other(f: Any, rng: np.random.Generator) -> None:
    u = rng.standard_normal((13, 30))
    assert rows_abreast(f, u, 3) == 0
    got, want = st.compile(f)(u, 3), f(u, 3)
    for x, y in zip(got, want, strict=True):
        np.testing.assert_array_equal(x, y)


def test_named_sizes(rng: np.random.Generator) -> None:
    f = st.compile(relaxed, dynamic=True)
    for shape in [(12, 11), (9, 30), (3, 3), (2, 50), (50, 4)]:
        u = rng.standard_normal(shape)
        np.testing.assert_array_equal(f(u, 2), relaxed(u, 2))


@pytest.mark.parametrize("seed", range(30))
def test_random_neighbours(seed: int) -> None:
    """Any three neighbours, rows in any direction: whatever is allowed to run side by side gives the same bits."""
    rng = np.random.default_rng(seed)
    (a, b), (c, d), (e, g) = rng.integers(-2, 3, (3, 2)) * [1, 2]
    down, right = rng.choice([-1, 1], 2)

    def f(u0: Any) -> Any:
        u = u0.copy()
        for p in range(2, u.shape[0] - 2):
            i = p if down > 0 else u.shape[0] - 1 - p
            for q in range(4, u.shape[1] - 4):
                j = q if right > 0 else u.shape[1] - 1 - q
                u[i, j] = 0.5 * u[i + a, j + b] + 0.25 * u[i + c, j + d] - 0.125 * u[i + e, j + g] + 0.1 * u[i, j - 1]
        return u

    u = rng.standard_normal((14 + seed % 3, 23))
    np.testing.assert_array_equal(st.compile(f)(u), f(u))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("same", "other"), [(1.0, -0.5), (-0.0, 0.0), (np.inf, -3.0)])
def test_numbers_that_integers_choose(dtype: str, same: float, other: float, rng: np.random.Generator) -> None:
    yes, no = np.dtype(dtype).type(same), np.dtype(dtype).type(other)

    def scores(a: Any, b: Any) -> Any:
        s = np.zeros((a.shape[0] + 1, b.shape[0] + 1), dtype)
        for i in range(1, s.shape[0]):
            for j in range(1, s.shape[1]):
                s[i, j] = max(s[i, j - 1] - no, s[i - 1, j - 1]) + (yes if a[i - 1] == b[j - 1] else no)
        return s

    a, b = rng.integers(0, 3, (2, 14))
    got, want = st.compile(scores)(a, b), scores(a, b)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
