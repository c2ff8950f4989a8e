"""Contents of arrays that are written again before anything reads them are never written; others stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st

N = 100


def upwards(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    s[0] = x[0]
    for i in range(1, x.shape[0]):
        s[i] = s[i - 1] * 0.5 + x[i]
    return s


def downwards(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    n = x.shape[0]
    s[n - 1] = x[n - 1]
    for i in range(n - 2, -1, -1):
        s[i] = s[i + 1] * 0.5 + x[i]
    return s


def rows(x: Any) -> Any:
    s = np.full((x.shape[0] + 1, 3), 7.0)
    s[0] = 1.0
    for t in range(x.shape[0]):
        s[t + 1] = s[t] * 0.5 + x[t]
    return s


def two_at_once(x: Any) -> Any:
    s = np.full(2 * x.shape[0], 7.0)
    for i in range(x.shape[0]):
        s[2 * i : 2 * i + 2] = x[i]
        s[2 * i] += s[2 * i + 1]
    return s


def copied(x: Any) -> Any:
    s = x * 7.0
    s[:5] = x[5:10]
    for i in range(5, x.shape[0]):
        s[i] = s[i - 5] + x[i]
    return s


def gap(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    s[0] = x[0]
    for i in range(2, x.shape[0]):
        s[i] = s[i - 2] + x[i]
    return s


def ahead(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    s[0] = x[0]
    for i in range(1, x.shape[0]):
        s[i] = s[i - 1] + s[x.shape[0] - 1] * x[i]
    return s


def itself(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    for i in range(x.shape[0]):
        s[i] = s[i] + x[i]
    return s


def sometimes(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    for i in range(x.shape[0]):
        if x[i] > 0.0:
            s[i] = x[i]
    return s


def every_other(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    for i in range(0, x.shape[0], 2):
        s[i] = x[i]
    return s


def wrong_way(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    n = x.shape[0]
    for i in range(n - 1, -1, -1):
        s[i] = x[i] + s[i // 2]
    return s


def read_between(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    s[0] = x[0]
    total = np.sum(s)
    for i in range(1, x.shape[0]):
        s[i] = s[i - 1] + x[i] * total
    return s


def none(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    for i in range(x.shape[0], x.shape[0]):
        s[i] = x[i]
    return s


def looked_up(x: Any) -> Any:
    s = np.full_like(x, 7.0)
    for i in range(x.shape[0]):
        s[i] = x[i] + s[int(x[i] * x[i]) % x.shape[0]]
    return s


GONE = (upwards, downwards, rows, two_at_once, copied)
KEPT = (gap, ahead, itself, sometimes, every_other, wrong_way, read_between, none, looked_up)


@pytest.mark.parametrize("f", [*GONE, *KEPT])
@pytest.mark.parametrize("n", [5, 11, N])
def test_values(f: Any, n: int, rng: np.random.Generator) -> None:
    if f is copied and n == 5:
        return
    x = rng.standard_normal(n)
    compiled = st.compile(f)
    for _ in range(3):  # results lie in memory that earlier ones have left
        got = compiled(x)
        np.testing.assert_allclose(got, f(x), rtol=1e-13)
        got[:] = np.nan


@pytest.mark.parametrize("f", [*GONE, *KEPT])
def test_what_is_gone(f: Any) -> None:
    text = st.compile(f).show(np.ones(N), stage="kernels")
    assert (" f64 7.0" in text) is (f in KEPT)
