"""Loops whose turns are a few elements, less than lanes: single elements stay in registers from turn to turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def forward(start: Any, moves: Any) -> Any:
    a = start.copy()
    total = 0.0
    for t in range(moves.shape[0]):
        a = (a @ moves[t]) * (1.0 + t)
        s = np.sum(a)
        a = a / s
        total += np.log(s)
    return a, total


def largest(start: Any, moves: Any) -> Any:
    a = start.copy()
    best = np.zeros(moves.shape[0], np.int64)
    for t in range(moves.shape[0]):
        a = np.max(a[:, None] + moves[t], axis=0)
        best[t] = np.argmax(a)
    return a, best


@pytest.mark.parametrize("f", [forward, largest])
@pytest.mark.parametrize("n", [2, 3, 5, 6, 7, 8, 11])
def test_values(f: Any, n: int, rng: np.random.Generator) -> None:
    start, moves = rng.random(n), rng.random((9, n, n))
    for got, want in zip(st.compile(f)(start, moves), f(start, moves), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13)


@pytest.mark.parametrize(("n", "lanes"), [(3, False), (64, True)])
def test_lanes_are_for_more(n: int, lanes: bool) -> None:
    text = st.compile(forward).show(np.ones(n), np.ones((9, n, n)), stage="kernels")
    assert ("vector" in text.split("for ", 1)[1]) is lanes


def begun(moves: Any) -> Any:
    """A small array that begins as numbers, and is not a result."""
    a = np.full(moves.shape[1], 3.0)
    seen = np.zeros(moves.shape[:2])
    for t in range(moves.shape[0]):
        a = moves[t] @ a
        a = a + 0.5 * np.sum(a)
        seen[t] = a
    return seen


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 9, 12, 17])
def test_beginnings(n: int, rng: np.random.Generator) -> None:
    moves = rng.random((9, n, n))
    np.testing.assert_allclose(st.compile(begun)(moves), begun(moves), rtol=1e-13)


def in_parts(start: Any, moves: Any) -> Any:
    """Parts of small arrays are written on their own: what lies behind a part stays."""
    a = start.copy()
    n = a.shape[0]
    sums = np.zeros(moves.shape[0])
    for t in range(moves.shape[0]):
        b = a * 2.0
        b[: n - 2] = b[: n - 2] + moves[t, 0, : n - 2]
        b[1 : n - 1] = np.max(b[None, 1 : n - 1] - moves[t, :, 1 : n - 1], axis=0)
        a = b / (1.0 + np.max(np.abs(b)))
        sums[t] = a[0] + 2.0 * a[n - 1] + np.sum(a[1 : n - 1])
    return a, sums


@pytest.mark.parametrize("n", [3, 5, 7, 9, 12, 14, 19])
def test_parts_of_small_arrays(n: int, rng: np.random.Generator) -> None:
    start, moves = rng.random(n), rng.random((9, n, n))
    for got, want in zip(st.compile(in_parts)(start, moves), in_parts(start, moves), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13)


def test_last_vectors_of_local_arrays_are_stored_whole() -> None:
    """What is stored under a mask is not handed on to the loads of the next stage."""
    text = st.compile(largest).show(np.ones(6), np.ones((9, 6, 6)), stage="llvm")
    local = [line.split()[0] for line in text.splitlines() if " = alloca [" in line]
    stores = [line for line in text.splitlines() if "masked.store" in line]
    assert not [s for s in stores if any(f" {name}," in s for name in local)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_extremes_of_rows_and_columns_keep_nan(dtype: Any, rng: np.random.Generator) -> None:
    x = rng.standard_normal((13, 11)).astype(dtype)
    x[3, 4] = x[12, 0] = x[5, 10] = np.nan
    for axis in (0, 1, None):
        for f in (np.max, np.min, np.argmax, np.argmin):
            np.testing.assert_array_equal(st.compile(lambda x, f=f, axis=axis: f(x, axis=axis))(x), f(x, axis=axis))
