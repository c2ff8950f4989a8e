"""Elementwise ops of arrays that are one literal around a region are computed in the region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.pipeline import optimize


def whole_ops(f: Callable[..., Any], *args: Any) -> list[str]:
    """The elementwise ops of the optimised graph that are computed over all of the first argument's elements."""
    graph = optimize(st.make_graph(f)(*args))
    return [n.op.name for n in graph.nodes if n.op.family == "elementwise" and n.types[0].shape == args[0].shape]


def frame(b: Any, dtype: Any = None) -> Any:
    near = np.zeros(b.shape, dtype or b.dtype)
    near[1:-1, 1:-1] = b[:-2, 1:-1] + b[2:, 1:-1] + b[1:-1, :-2] + b[1:-1, 2:]
    return near


def life(b: Any) -> Any:
    near = frame(b)
    return ((near == 3) | ((b == 1) & (near == 2))).astype(b.dtype)


def scaled(b: Any) -> Any:
    near = frame(b)
    return np.cos(near.astype(np.float64) * 2 - 1) + frame(b) * 0.5


def weighed(b: Any) -> Any:
    return frame(b) * b


def ones_around(b: Any) -> Any:
    inside = np.ones(b.shape, bool)
    inside[2:5, ::2] = b[2:5, ::2] > 1
    return inside | (b == 0)


def two_regions(b: Any) -> Any:
    other = np.zeros_like(b)
    other[2:] = b[2:]
    return frame(b) + other


@pytest.mark.parametrize("f", [life, scaled, weighed, ones_around, two_regions])
@pytest.mark.parametrize("dtype", ["int64", "uint8", "float64"])
def test_what_is_known_around_a_region_stays_known(f: Any, dtype: str) -> None:
    b = np.random.default_rng(0).integers(0, 3, (9, 12)).astype(dtype)
    np.testing.assert_allclose(st.compile(f)(b), f(b), rtol=1e-15)
    left = whole_ops(f, b)
    if f in (life, ones_around):
        assert left == ["eq"]  # of b, which is read in the region only
    else:
        assert bool(left) == (f is two_regions or (f is weighed and dtype == "float64"))


def test_nan_and_signed_zeros_are_not_decided_by_a_zero() -> None:
    """0 * nan is nan, 0 * -1 is -0: a float's zero decides nothing."""
    b = np.array([[np.nan, -1.0, np.inf, 2.0]] * 4)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(st.compile(weighed)(b), weighed(b))
    assert np.signbit(st.compile(weighed)(b)[0, 1])


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_only_the_literal_that_decides_decides(dtype: str) -> None:
    """Around a region of ones stands the other operand, not one & one, whichever comes first."""

    def pairs(b: Any) -> Any:
        ones, zeros = np.ones_like(b), np.zeros_like(b)
        ones[1:-1], zeros[2:-1] = b[1:-1], b[2:-1]
        return ones & zeros, zeros & ones, ones | zeros, zeros | ones, ones * zeros, zeros * ones

    b = np.random.default_rng(0).integers(0, 5, (9, 12)).astype(dtype)
    for got, expected in zip(st.compile(pairs)(b), pairs(b), strict=True):
        np.testing.assert_array_equal(got, expected)
