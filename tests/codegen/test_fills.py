"""Fills that a loop repeats run once, where only a region is written behind them and nothing reads between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.pipeline import optimize


def loop_of(f: Callable[..., Any], *args: Any) -> str:
    text = str(compile_graph(optimize(st.make_graph(f)(*args)), Target.host()).program)
    return text[text.index("  for ") :]


def life(b: Any, steps: Any) -> Any:
    b = b.copy()
    for _ in range(steps):
        near = np.zeros_like(b)
        near[1:-1] = b[:-2] + b[2:]
        b = 0.5 * b + near[::-1]
    return b


def other_regions(b: Any, steps: Any) -> Any:
    b = b.copy()
    for t in range(steps):
        near = np.ones_like(b)
        near[t : t + 3] = b[:3]
        b = 0.5 * b + near[::-1]
    return b


def added(b: Any, steps: Any) -> Any:
    b = b.copy()
    for _ in range(steps):
        near = np.zeros_like(b)
        near[1:-1] += b[2:]
        near[2:] += b[:-2]
        b = 0.5 * b + near[::-1]
    return b


def read_between(b: Any, steps: Any) -> Any:
    b = b.copy()
    for _ in range(steps):
        near = np.ones_like(b)
        total = np.sum(near[::2])
        near[1:-1] = b[2:] * total
        b = 0.01 * (b + near[::-1])
    return b


def around(b: Any, steps: Any) -> Any:
    """Large enough that only what lies around the region is filled, in four parts."""
    b = np.outer(b, b[::-1])
    b = np.concatenate([b, b, b], axis=1)
    for _ in range(steps):
        near = np.zeros_like(b)
        near[1:-1, 1:-1] = b[:-2, 1:-1] + b[2:, 1:-1] + b[1:-1, :-2] - b[1:-1, 2:]
        b = 0.5 * b + near[::-1, ::-1]
    return b


def around_twice(b: Any, steps: Any) -> Any:
    """The border is written again behind the region: its first fill is not all of them."""
    b = np.outer(b, b[::-1])
    for t in range(steps):
        near = np.zeros_like(b)
        near[1:-1, 1:-1] = b[:-2, 1:-1] + b[2:, 1:-1]
        near[0] = near[1] + t
        b = 0.5 * b + near[::-1, ::-1]
    return b


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("f", [life, other_regions, added, read_between, around, around_twice])
def test_fills(f: Any, dynamic: bool, rng: np.random.Generator) -> None:
    compiled = st.compile(f, dynamic=dynamic)
    for n in (40, 9):
        b = rng.standard_normal(n)
        for steps in (0, 1, 2, 5):
            np.testing.assert_allclose(compiled(b, steps), f(b, steps), rtol=1e-13, atol=1e-14)


def test_which_fills_leave() -> None:
    b = np.zeros(40)
    assert " f64 0.0" not in loop_of(life, b, 5)
    assert " f64 1.0" in loop_of(other_regions, b, 5)
    assert " f64 0.0" not in loop_of(around, b, 5)
