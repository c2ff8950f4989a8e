"""Indices out of bounds in scalar code, vectors, what vectors leave, and sums of few and many elements."""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st


def gathered(x: Any, k: Any) -> Any:
    return 2.0 * x[k]


def one_by_one(x: Any, k: Any) -> Any:
    out = np.zeros(k.shape[0])
    for i in range(k.shape[0]):
        out[i] = x[k[i]]
    return out


def counted(x: Any, k: Any) -> Any:
    counts = np.zeros(x.shape[0])
    for i in range(k.shape[0]):
        counts[k[i]] += x[i % x.shape[0]]
    return counts


def chased(x: Any, k: Any) -> Any:
    at, total = 0, 0.0
    for _ in range(k.shape[0]):
        at = k[at]
        total += x[at]
    return total


def summed(x: Any, k: Any) -> Any:
    out = np.zeros(4)
    for i in range(4):
        part = k[: i * k.shape[0] // 3]
        out[i] = np.sum(x[part])
    return out


FUNCTIONS = [gathered, one_by_one, counted, chased, summed]


@pytest.fixture(scope="module")
def compiled() -> dict[Callable[..., Any], Any]:
    return {f: st.compile(f) for f in FUNCTIONS}


@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize("n", [5, 21, 100])
def test_right_and_negative_indices(f: Any, n: int, compiled: Any, rng: np.random.Generator) -> None:
    x, k = rng.standard_normal(n), rng.integers(-n, n, n)
    np.testing.assert_allclose(compiled[f](x, k), f(x, k), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("f", FUNCTIONS)
@pytest.mark.parametrize("n", [5, 21, 100])
@pytest.mark.parametrize("wrong", [0, 100, -101, -(2**63), 2**63 - 1])
def test_the_first_wrong_index_is_named(f: Any, n: int, wrong: int, compiled: Any) -> None:
    x, k = np.ones(n), np.arange(n)
    k = (k + 1) % n
    at = n - 2
    k[at] = n if wrong == 0 else wrong
    if -n <= k[at] < n:
        return
    with pytest.raises(IndexError) as of_numpy:
        f(x, k)
    with pytest.raises(IndexError, match=re.escape(str(of_numpy.value))):
        compiled[f](x, k)


def test_few_and_many_elements(rng: np.random.Generator) -> None:
    def rows(ends: Any, columns: Any, x: Any) -> Any:
        y = np.ones(ends.shape[0] - 1)
        for i in range(y.shape[0]):
            row = slice(ends[i], ends[i + 1])
            y[i] = np.sum(x[columns[row]])
        return y

    def extremes(ends: Any, columns: Any, x: Any) -> Any:
        y = np.ones(ends.shape[0] - 1)
        for i in range(y.shape[0]):
            y[i] = np.max(x[columns[ends[i] : ends[i + 1]]]) * np.prod(x[columns[ends[i] : ends[i + 1]]])
        return y

    lengths = np.array([0, 1, 2, 15, 16, 17, 63, 64, 65, 200, 1500, 0])
    for f, counts in ((rows, lengths), (extremes, lengths[1:-1])):
        ends = np.concatenate([[0], np.cumsum(counts)])
        x, columns = rng.uniform(0.9, 1.1, 50), rng.integers(-50, 50, ends[-1])
        np.testing.assert_allclose(st.compile(f)(ends, columns, x), f(ends, columns, x), rtol=1e-12)
    zero = st.compile(rows)(np.array([0, 0, 1]), np.array([0, 0]), np.array([-0.0, 1.0]))
    assert not np.signbit(zero[0])


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_few_elements_of_weighted_rows(dtype: str, rng: np.random.Generator) -> None:
    def rows(ends: Any, columns: Any, weights: Any, x: Any) -> Any:
        y = np.zeros(ends.shape[0] - 1, x.dtype)
        for i in range(y.shape[0]):
            row = slice(ends[i], ends[i + 1])
            y[i] = np.dot(weights[row], x[columns[row]])
        return y

    f = st.compile(rows)
    ends = np.concatenate([[0], np.cumsum([*range(40), 0, 3, 0])])
    columns, n = rng.integers(-9, 9, ends[-1]), int(ends[-1])
    weights, x = (10 * rng.standard_normal(n)).astype(dtype), (10 * rng.standard_normal(9)).astype(dtype)
    backward = ends[:-1] - n  # bounds that count from the end, and beyond it
    backward[-1] = n + 5
    for e in (ends, backward):
        np.testing.assert_allclose(f(e, columns, weights, x), rows(e, columns, weights, x), rtol=1e-4, atol=1e-4)
    for at in (0, 1, 4, 30, n // 2, n - 1):
        wrong = columns.copy()
        wrong[at:] = [9 + k for k in range(n - at)]
        with pytest.raises(IndexError, match="index 9 is out of bounds for axis 0 with size 9"):
            f(ends, wrong, weights, x)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pages are protected by mprotect")
def test_few_elements_at_the_end_of_memory(rng: np.random.Generator) -> None:
    """What lanes beyond the last element would read is not there."""

    def rows(ends: Any, columns: Any, x: Any) -> Any:
        y = np.zeros(ends.shape[0] - 1)
        for i in range(y.shape[0]):
            y[i] = np.sum(x[columns[ends[i] : ends[i + 1]]])
        return y

    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(start + page), ctypes.c_size_t(page), 0) == 0
    columns = np.frombuffer(memory, np.int64, page // 8)
    columns[:] = rng.integers(0, 7, columns.size)
    ends, x = np.array([0, 3, 3, 500, 505, 509, 512]), rng.standard_normal(7)
    np.testing.assert_allclose(st.compile(rows)(ends, columns, x), rows(ends, columns, x), rtol=1e-12)


def test_few_elements_that_are_stored_apart(rng: np.random.Generator) -> None:
    """A sum over few looked-up elements that are also stored in columns: nothing behind the last is written."""

    @st.compile
    def f(x: Any, table: Any, out: Any) -> Any:
        k = np.nonzero(x > 0.8)[0]
        picked = table[:, k].T
        total = np.sum(picked * x[k][:, None], axis=0)
        out[: k.shape[0]] = picked
        return total

    x, table, out = np.array([0.9, 0.5, 0.95, 0.1]), rng.standard_normal((3, 4)), np.zeros((12, 3))
    total = f(x, table, out)
    np.testing.assert_allclose(total, table[:, [0, 2]] @ x[[0, 2]], rtol=1e-14)
    np.testing.assert_array_equal(out[:2], table[:, [0, 2]].T)
    assert not out[2:].any()


def test_a_check_beside_copies_that_go_away_stays() -> None:
    """The copy of `s` is computed where the loop keeps it; the check before the write into w is a step of its own."""

    def f(x: Any, w: Any, k: Any) -> Any:
        s = 0.0
        for i in range(6):
            w[i + k] = x[i] + 1
            s = s + x.sum()
        return s

    around = np.zeros(24)
    w = around[6:12]
    compiled = st.compile(f)
    for k in (0, 1):
        around[:] = 0.0
        if k:
            with pytest.raises(IndexError, match="index 6 is out of bounds"):
                compiled(np.arange(6.0), w, k)
        else:
            compiled(np.arange(6.0), w, k)
        assert not around[:6].any()
        assert not around[12:].any()
