"""What a turn keeps lies where the loop keeps it: nothing is written to one place and copied to another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def steps(A: Any, B: Any, triangle: bool) -> Any:
    A = A.copy()
    for j in range(A.shape[0]):
        for k in range(j if triangle else B.shape[0]):
            s = np.dot(B[k], A[j])
            A[j] = np.tanh(A[j] - B[k] * s)
    return 0.5 * np.sum(A * A)


def three_deep(A: Any, B: Any, triangle: bool) -> Any:
    A = A.copy()
    for _ in range(3):
        for j in range(A.shape[0]):
            for k in range(j if triangle else B.shape[0]):
                A[j] = np.sin(A[j]) * B[k]
    return np.sum(A)


@pytest.mark.parametrize("f", [steps, three_deep])
@pytest.mark.parametrize("triangle", [False, True])
def test_tapes_of_inner_loops_lie_in_those_around(f: Any, triangle: bool) -> None:
    rng = np.random.default_rng(0)
    A, B, way = (rng.standard_normal((9, 40)) for _ in range(3))

    def fn(A: Any, B: Any) -> Any:
        return f(A, B, triangle)

    gradient = st.compile(st.grad(fn))
    slope = np.sum(gradient(A, B) * way)
    h = 1e-6
    assert slope == pytest.approx((fn(A + h * way, B) - fn(A - h * way, B)) / (2 * h), rel=1e-5)
    lines = gradient.show(A, B, stage="kernels").splitlines()
    at = [n for n, line in enumerate(lines) if "= t" in line or "= x" in line]
    copies = [n for n in at if lines[n + 1].strip().startswith("t") and lines[n + 1].endswith("= %0")]
    inside = [n for n in copies if lines[n].startswith("        ")]
    assert inside == []


def test_a_turn_that_reads_its_array_keeps_its_own() -> None:
    """What is copied last may be read by the turn before, in what it stands for then."""

    def fn(x: Any, n: Any) -> Any:
        out = np.zeros((x.shape[0], x.shape[1]))
        for i in range(1, n):
            row = np.zeros(x.shape[1])
            for k in range(1, x.shape[1]):
                row[k] = 0.5 * row[k - 1] + x[i, k] + out[i, k - 1] + out[i - 1, k]
            out[i] = row
            out[i - 1] += row
        return out

    x = np.random.default_rng(0).standard_normal((6, 70))
    np.testing.assert_allclose(st.compile(fn)(x, 6), fn(x, 6), rtol=1e-13)
