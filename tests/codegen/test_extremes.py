"""Minima and maxima of integers take what the turn before computes last."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def smallest(a: Any, b: Any) -> Any:
    D = np.zeros((a.shape[0] + 1, b.shape[0] + 1), dtype=np.int64)
    D[:, 0] = np.arange(a.shape[0] + 1)
    D[0, :] = np.arange(b.shape[0] + 1)
    for i in range(1, a.shape[0] + 1):
        for j in range(1, b.shape[0] + 1):
            change = 0 if a[i - 1] == b[j - 1] else 1
            D[i, j] = min(D[i - 1, j] + 1, D[i, j - 1] + 1, D[i - 1, j - 1] + change)
    return D


def largest(a: Any, b: Any) -> Any:
    x = np.zeros(a.shape[0], dtype=np.int64)
    for i in range(1, a.shape[0]):
        x[i] = max(max(x[i - 1] - 1, a[i]), b[i])
    return x


def mixed(a: Any, b: Any) -> Any:
    x = np.zeros(a.shape[0], dtype=np.int64)
    for i in range(1, a.shape[0]):
        x[i] = max(min(x[i - 1] + 3, a[i]), b[i])
    return x


def inner_kept(a: Any, b: Any) -> Any:
    x, y = np.zeros(a.shape[0], dtype=np.int64), np.zeros(a.shape[0], dtype=np.int64)
    for i in range(1, a.shape[0]):
        y[i] = min(x[i - 1] + 1, a[i])
        x[i] = min(y[i], b[i])
    return x + y


def of_floats(a: Any, b: Any) -> Any:
    x = np.zeros(a.shape[0])
    for i in range(1, a.shape[0]):
        x[i] = min(min(x[i - 1] + 1.0, a[i] * np.nan if a[i] == 3 else 0.5 * a[i]), b[i])
    return x


@pytest.mark.parametrize("f", [smallest, largest, mixed, inner_kept, of_floats])
def test_values(f: Any, rng: np.random.Generator) -> None:
    a, b = rng.integers(-5, 5, 40), rng.integers(-5, 5, 40)
    np.testing.assert_array_equal(st.compile(f)(a, b), f(a, b))


@pytest.mark.parametrize("f", [smallest, largest])
def test_what_waits_comes_last(f: Any) -> None:
    a = np.arange(40)
    lines = st.compile(f).show(a, a, stage="kernels").splitlines()
    at = next(k for k in reversed(range(len(lines))) if "select" in lines[k])
    late, early = lines[at - 1].split("lt" if f is smallest else "gt")[1].split(",")
    inner = lines[at - 2].split()[0]
    assert early.strip() == inner
    assert "add" in next(line for line in lines if line.strip().startswith(f"{late.strip()} =")) or f is largest
