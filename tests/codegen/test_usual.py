"""Branches that a loop waits for: guessed where one of them only passes values on, selected otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def reflected(noise: Any) -> Any:
    path = np.zeros(noise.shape[0] + 1)
    for t in range(noise.shape[0]):
        x = path[t] + noise[t]
        if x > 1.0:
            x = 2.0 - x
        elif x < -1.0:
            x = -2.0 - x
        path[t + 1] = x
    return path


def carried(noise: Any) -> Any:
    x, k = 0.0, 0
    while k < noise.shape[0]:
        x = x + noise[k]
        if x > 1.0:
            x = 2.0 - x
        k += 1
    return x


def clamped(noise: Any) -> Any:
    x = 0.0
    for t in range(noise.shape[0]):
        x = x + noise[t]
        if x > 1.0:
            x = 1.0
    return x


def halving(noise: Any) -> Any:
    low, high = -2.0, 2.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        if middle * middle * middle > noise[0]:
            high = middle
        else:
            low = middle
    return low


def register(noise: Any) -> Any:
    r = np.int64(1)
    for _ in range(noise.shape[0]):
        r = r << 1
        if r & 256:
            r = r ^ 285
    return r


def both_compute(noise: Any) -> Any:
    x = 0.5
    for _ in range(noise.shape[0]):
        x = 2.0 * x if x < 0.5 else 2.0 - 2.0 * x
    return x


def does_not_wait(noise: Any) -> Any:
    out = np.zeros(noise.shape[0])
    for t in range(noise.shape[0]):
        x = noise[t]
        if x > 1.0:
            x = 2.0 - x
        out[t] = x
    return out


@pytest.mark.parametrize(
    ("f", "usual"),
    [(reflected, 2), (carried, 1), (clamped, 0), (halving, 0), (register, 0), (both_compute, 0), (does_not_wait, 0)],
)
def test_marks(f: Any, usual: int, rng: np.random.Generator) -> None:
    noise = rng.standard_normal(200)
    noise[150] = np.nan
    compiled = st.compile(f)
    np.testing.assert_array_equal(compiled(noise), f(noise))
    assert compiled.show(noise, stage="kernels").count("usually") == usual


def counted(x: Any, low: Any, high: Any) -> Any:
    counts = np.zeros(16, dtype=np.int64)
    for i in range(x.shape[0]):
        if low <= x[i] < high:
            counts[int((x[i] - low) / (high - low) * 16.0)] += 1
    return counts


def test_turns_that_count_are_not_copied(rng: np.random.Generator) -> None:
    """Counters in memory wait for each other's addresses."""
    x = rng.standard_normal(40_000)
    f = st.compile(counted)
    np.testing.assert_array_equal(f(x, -2.0, 2.0), counted(x, -2.0, 2.0))
    assert f.show(x, -2.0, 2.0, stage="llvm").count(" = fdiv ") == 2  # one in the loop, one in the report


def longest(a: Any, b: Any) -> Any:
    t = np.zeros((a.shape[0] + 1, b.shape[0] + 1), dtype=np.int64)
    for i in range(1, a.shape[0] + 1):
        for j in range(1, b.shape[0] + 1):
            if a[i - 1] == b[j - 1]:
                t[i, j] = t[i - 1, j - 1] + 1
            else:
                t[i, j] = max(t[i - 1, j], t[i, j - 1])
    return t[-1, -1]


def test_other_turns_with_branches_are_copied(rng: np.random.Generator) -> None:
    """Each copy of a branch is guessed by its own history."""
    a, b = rng.integers(0, 4, 120), rng.integers(0, 4, 160)
    f = st.compile(longest)
    assert f(a, b) == longest(a, b)
    text = f.show(a, b, stage="llvm")
    assert text.count("call i64 @llvm.smax.i64") >= 4
    assert "unroll.disable" not in text


def test_reports_of_bad_indices_compute_them_again(rng: np.random.Generator) -> None:
    """What only the report needs is not kept while the loop runs."""
    x = np.array([0.5, -0.5, 0.25, -0.97, 0.5])
    f = st.compile(counted)
    np.testing.assert_array_equal(f(x, -1.0, 1.0), counted(x, -1.0, 1.0))
    with pytest.raises(IndexError, match="index 16 is out of bounds for axis 0 with size 16"):
        f(np.array([0.5, 1.0 - 2.0**-53]), -1.0, 1.0)
