"""Two rows of one array that are never the same are told apart: mixing them is one loop over both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def mix_rows(A: Any, least: int) -> Any:
    A = A.copy()
    n = A.shape[0]
    for p in range(n - 1):
        for q in range(p + least, n):
            for k in range(A.shape[1]):
                x, y = A[p, k], A[q, k]
                A[p, k] = 0.8 * x - 0.6 * y
                A[q, k] = 0.6 * x + 0.8 * y
    return A


def mix_columns(A: Any, least: int) -> Any:
    A = A.copy()
    n = A.shape[1]
    for p in range(n - 1):
        for q in range(p + least, n):
            for k in range(A.shape[0]):
                x, y = A[k, p], A[k, q]
                A[k, p] = 0.8 * x - 0.6 * y
                A[k, q] = 0.6 * x + 0.8 * y
    return A


def shifted(A: Any, least: int) -> Any:
    """Turn k writes what turn k + 1 reads where the rows are neighbours."""
    A = A.copy()
    flat = A.reshape(-1)
    n = A.shape[1]
    for p in range(A.shape[0] - 2):
        for q in range(p + least, A.shape[0] - 1):
            for k in range(n):
                x, y = flat[p * n + k], flat[q * n + k + 1 - n]
                flat[p * n + k] = 0.8 * x - 0.6 * y
                flat[q * n + k + 1 - n] = 0.6 * x + 0.8 * y
    return A


@pytest.mark.parametrize("f", [mix_rows, mix_columns, shifted])
@pytest.mark.parametrize("least", [0, 1, 2])
def test_rotations(f: Any, least: int) -> None:
    A = np.random.default_rng(0).standard_normal((40, 7) if f is mix_columns else (7, 40))

    def fn(A: Any) -> Any:
        return f(A, least)

    compiled = st.compile(fn)
    np.testing.assert_allclose(compiled(A), fn(A), rtol=1e-13, atol=1e-13)
    text = compiled.show(A, stage="kernels")
    assert ("k2:" not in text) == (least > 0)  # else there are three steps with a temporary
    if f is not mix_columns:  # whose turns are far apart in memory
        assert text.count("for ") == (2 if least > (1 if f is shifted else 0) else 3)


def test_a_row_beside_the_pivot() -> None:
    """Where the rows differ by data, nobody knows that they do."""

    def swap(A: Any, p: Any, q: Any) -> Any:
        A = A.copy()
        for k in range(A.shape[1]):
            x = A[p, k]
            A[p, k] = A[q, k] + 1.0
            A[q, k] = x
        return A

    A = np.random.default_rng(0).standard_normal((5, 33))
    f = st.compile(swap)
    for p, q in ((0, 3), (3, 0), (2, 2)):
        np.testing.assert_array_equal(f(A, p, q), swap(A, p, q))
