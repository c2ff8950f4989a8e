"""Collectives over a named vmap axis, also inside loops and branches, under derivatives and nested namesakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import TransformError

X = np.array([1.0, 2.0, 4.0])


def lanes(f: Any, *xs: Any) -> Any:
    return st.vmap(f, axis_name="i")(*xs)


def test_reductions_over_lanes() -> None:
    np.testing.assert_array_equal(lanes(lambda x: x / st.psum(x, "i"), X), X / 7)
    np.testing.assert_array_equal(lanes(lambda x: x - st.pmean(x, "i"), X), X - X.mean())
    np.testing.assert_array_equal(lanes(lambda x: st.pmax(x, "i") + 10 * st.pmin(x, "i"), X), np.full(3, 14.0))
    np.testing.assert_array_equal(lanes(lambda x: st.all_gather(x, "i"), X), np.tile(X, (3, 1)))
    np.testing.assert_array_equal(lanes(lambda x: st.axis_index("i") * x, X), [0.0, 2.0, 8.0])


def test_what_lanes_share_counts_once_per_lane() -> None:
    np.testing.assert_array_equal(lanes(lambda x: x * 0 + st.psum(np.float64(2.0), "i"), X), np.full(3, 6.0))


def test_inside_loops_and_branches() -> None:
    def power(x: Any) -> Any:
        return st.fori_loop(0, 3, lambda i, s: s / st.psum(s * x, "i"), x)

    expected = X.copy()
    for _ in range(3):
        expected = expected / (expected * X).sum()
    np.testing.assert_allclose(lanes(power, X), expected, rtol=1e-15)

    def branch(x: Any) -> Any:
        total = st.psum(x, "i")
        return st.cond(total > 5, lambda: st.psum(x * x, "i"), lambda: x)

    np.testing.assert_array_equal(lanes(branch, X), np.full(3, 21.0))
    np.testing.assert_array_equal(lanes(lambda x: st.fori_loop(0, 2, lambda i, s: s + st.psum(1.0, "i"), x), X), X + 6)


def test_derivatives() -> None:
    def normalized(x: Any) -> Any:
        return lanes(lambda v: v * v / st.psum(v, "i"), x)

    jacobian = np.diag(2 * X / 7) - np.outer(X * X, np.ones(3)) / 49
    np.testing.assert_allclose(st.jacrev(normalized)(X), jacobian, rtol=1e-14)
    np.testing.assert_allclose(st.jacfwd(normalized)(X), jacobian, rtol=1e-14)

    def looped(x: Any) -> Any:
        return lanes(lambda v: st.fori_loop(0, 2, lambda i, s: s * v / st.psum(s, "i"), v), x)

    np.testing.assert_allclose(st.jacrev(looped)(X), st.jacfwd(looped)(X), rtol=1e-12)

    # the gradient of a lane's own view: every lane's copy of the sum receives every lane's cotangent
    inside = lanes(st.grad(lambda v: st.psum(v * v, "i")), X)
    np.testing.assert_array_equal(inside, 3 * 2 * X)

    def gathered(x: Any) -> Any:
        return lanes(lambda v: (st.all_gather(v, "i") * v).sum(), x)

    np.testing.assert_allclose(st.jacrev(gathered)(X), st.jacfwd(gathered)(X), rtol=1e-14)


def test_nested_axes_of_one_name_and_of_two() -> None:
    x = np.arange(6.0).reshape(2, 3)
    inner = st.vmap(st.vmap(lambda v: st.psum(v, "i"), axis_name="i"), axis_name="i")(x)
    np.testing.assert_array_equal(inner, np.repeat(x.sum(axis=1), 3).reshape(2, 3))
    both = st.vmap(st.vmap(lambda v: st.psum(v, "a") + 100 * st.psum(v, "b"), axis_name="b"), axis_name="a")(x)
    np.testing.assert_array_equal(both, x.sum(axis=0) + 100 * x.sum(axis=1, keepdims=True))


def test_an_unknown_axis_is_named() -> None:
    with pytest.raises(TransformError, match="no vmap in force has an axis named 'j'"):
        lanes(lambda x: st.psum(x, "j"), X)


def test_lanes_with_their_own_trip_counts_cannot_meet() -> None:
    def f(x: Any, n: Any) -> Any:
        return st.fori_loop(0, n, lambda i, s: s + st.psum(s, "i"), x)

    with pytest.raises(TransformError, match=r"a collective .* where lanes take different paths"):
        lanes(f, X, np.array([1, 2, 3]))


def test_several_axes_at_once() -> None:
    x = np.array([[1.0, 2.0, 3.0], [5.0, 4.0, 7.0]])

    def over(f: Any) -> Any:
        return st.vmap(st.vmap(f, axis_name="j"), axis_name="i")

    np.testing.assert_allclose(over(lambda v: v / st.psum(v, ("i", "j")))(x), x / x.sum(), rtol=1e-15)
    np.testing.assert_allclose(over(lambda v: v - st.pmean(v, ["j", "i"]))(x), x - x.mean(), rtol=1e-15)
    spread = over(lambda v: st.pmax(v, ("i", "j")) - st.pmin(v, ("i", "j")))(x)
    np.testing.assert_array_equal(spread, np.full((2, 3), 6.0))
    gathered = over(lambda v: st.all_gather(v, ("i", "j"))[st.axis_index(("i", "j"))])(x)
    np.testing.assert_array_equal(gathered, x)
    scaled = st.grad(lambda x: over(lambda v: v * st.psum(v * v, ("i", "j")))(x).sum())(x)
    np.testing.assert_allclose(scaled, (x * x).sum() + 2 * x * x.sum(), rtol=1e-14)
    named = st.vmap(lambda v: st.psum(v, ("i", "j")), axis_name=("i", "j"))
    np.testing.assert_array_equal(named(x[0]), np.full(3, 6.0))
    with pytest.raises(TransformError, match="named 'k'"):
        over(lambda v: st.psum(v, ("i", "k")))(x)


def test_minimum_of_integers() -> None:
    for dtype, least in ((np.uint8, 0), (np.int8, -128)):
        x = np.array([3, least, 1], dtype)
        np.testing.assert_array_equal(lanes(lambda x: st.pmin(x, "i"), x), np.full(3, least, dtype))


@pytest.mark.parametrize("axis", [0, 1])
def test_gathering_under_another_vmap(axis: int) -> None:
    """The lanes of the inner vmap go behind the new axis, wherever they are."""
    x = np.arange(24.0).reshape(4, 2, 3)  # lane, inner lane, element
    outer = st.vmap(st.vmap(lambda v: st.all_gather(v, "i"), in_dims=axis), axis_name="i")
    got = outer(np.moveaxis(x, 1, 1 + axis))
    np.testing.assert_array_equal(got, np.stack([np.moveaxis(x, 1, 0)] * 4))
    scalar = st.vmap(st.vmap(lambda v: st.all_gather(v, "i")), axis_name="i")
    np.testing.assert_array_equal(st.compile(scalar)(x[..., 0]), np.stack([x[..., 0].T] * 4))
