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
