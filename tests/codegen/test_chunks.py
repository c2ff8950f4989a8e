"""Long loops run in chunks between two looks at whether to stop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def forwards(x: Any, lower: Any, upper: Any) -> None:
    for i in range(lower, upper):
        x[0] += i
        x[1] = 3 * x[1] + i
        x[2] = i


def backwards(x: Any, lower: Any, upper: Any) -> None:
    for i in range(upper, lower, -3):
        x[0] += i
        x[1] = 3 * x[1] + i
        x[2] = i


@pytest.fixture(scope="module")
def compiled() -> dict[Any, Any]:
    return {f: st.compile(f) for f in (forwards, backwards, upwards)}


def upwards(x: Any, lower: Any, upper: Any) -> None:
    for i in range(lower, upper, 4):
        x[0] += i
        x[1] = 3 * x[1] + i
        x[2] = i


RANGES = [(0, 0), (6, 5), (0, 1), (0, 16383), (0, 16384), (0, 16385), (0, 40000), (-50000, 60000)]
EDGES = [(2**63 - 10, 2**63 - 1), (-(2**63), 16 - 2**63), (-(2**63), 5 - 2**63)]


@pytest.mark.parametrize(("lower", "upper"), RANGES + EDGES)
@pytest.mark.parametrize("f", [forwards, backwards, upwards])
def test_every_turn_runs_once(f: Any, lower: int, upper: int, compiled: Any) -> None:
    want, got = np.ones(3, np.int64), np.ones(3, np.int64)
    with np.errstate(over="ignore"):
        f(want, lower, upper)
    compiled[f](got, lower, upper)
    np.testing.assert_array_equal(got, want)


def test_what_a_turn_hands_on_stays_in_a_register() -> None:
    def walk(noise: Any, drift: Any) -> Any:
        path = np.zeros(noise.shape[0] + 1)
        for t in range(noise.shape[0]):
            path[t + 1] = 0.9 * path[t] + drift * noise[t]
        return path

    text = st.compile(walk).show(np.zeros(40_000), 0.5, stage="llvm")
    assert "store_forwarded" in text
