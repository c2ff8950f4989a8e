"""vmap of functions whose sizes differ between lanes: they run lane by lane, and must equal a Python loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import TransformError
from stager.ops.regions import LaneDependentError

ROWS = np.random.default_rng(5).uniform(-1, 1, (3, 5))


def scaled(x: Any) -> Any:
    v = np.where(x > 0.1, x, 0.3)
    v[v > 0.2] *= x[1]
    return v * 1.0


def loss(x: Any) -> Any:
    return (scaled(x) ** 2).sum()


@pytest.mark.parametrize("around", [lambda f: f, st.compile], ids=["plain", "compiled"])
def test_values_and_derivatives_are_a_loop(around: Any) -> None:
    for f in (scaled, st.grad(loss), st.hessian(loss)):
        mapped, want = around(st.vmap(f)), np.stack([f(x) for x in ROWS])
        for _ in range(2):
            np.testing.assert_allclose(mapped(ROWS), want, rtol=1e-12)
    through = around(st.grad(lambda rows: st.vmap(loss)(rows).sum()))
    np.testing.assert_allclose(through(ROWS), np.stack([st.grad(loss)(x) for x in ROWS]), rtol=1e-12)


@pytest.mark.parametrize("around", [lambda f: f, st.compile], ids=["plain", "compiled"])
def test_written_arguments_and_containers(around: Any) -> None:
    def f(x: Any, limit: Any) -> Any:
        x[x > limit] = 7.0
        return x.sum(), {"positive": x[x > 0].sum()}

    ours, theirs, limits = ROWS.copy(), ROWS.copy(), np.array([0.0, 0.1, 0.2])
    total, parts = around(st.vmap(f))(ours, limits)
    want = [f(x, limit) for x, limit in zip(theirs, limits, strict=True)]
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(total, [w[0] for w in want])
    np.testing.assert_allclose(parts["positive"], [w[1]["positive"] for w in want])


def test_nested_maps() -> None:
    got = st.vmap(lambda x: st.vmap(lambda y: x[x > y].sum() * y)(x))(ROWS)
    np.testing.assert_allclose(got, [[x[x > y].sum() * y for y in x] for x in ROWS])


def test_lanes_draw_the_numbers_they_always_draw() -> None:
    key = st.random.key(0)

    def noise(x: Any) -> Any:
        return st.random.normal(key)

    def noisy(x: Any) -> Any:
        return x[x > 0].sum() * 0 + st.random.normal(key)

    for randomness in ("same", "different"):
        got = st.vmap(noisy, randomness=randomness)(ROWS)
        np.testing.assert_allclose(got, st.vmap(noise, randomness=randomness)(ROWS), rtol=1e-14)
    with pytest.raises(TransformError, match="randomness is"):
        st.vmap(noisy)(ROWS)


def test_what_cannot_run_lane_by_lane_says_why() -> None:
    with pytest.raises(LaneDependentError, match=r"a result f64\[s0\] has a size, s0, that differs between lanes"):
        st.vmap(lambda x: x[x > 0])(ROWS)
    with pytest.raises(TransformError, match="a collective stands in"):
        st.vmap(lambda x: st.psum(x[x > 0].sum(), "i"), axis_name="i")(ROWS)
    seen: list[Any] = []

    def remembers(x: Any) -> Any:
        seen.append(x.shape)
        return x[x > 0].sum()

    with pytest.raises(LaneDependentError, match="a size or a bound differs between the lanes"):
        st.vmap(remembers)(ROWS)


def test_a_check_in_a_loop_before_a_size_that_differs() -> None:
    def f(x: Any) -> Any:
        y = x * 1.0
        while np.sum(y) < 10.0:
            assert y[0] < 100.0
            y = y * 1.5
        large = y[y > 3.5]
        return np.sum(large * large)

    xs = np.array([[0.9, 0.55, 0.7], [1.8, 1.1, 1.4], [0.09, 0.055, 0.07]])
    np.testing.assert_allclose(st.vmap(f)(xs), [f(x) for x in xs], rtol=1e-13)
    np.testing.assert_allclose(st.compile(st.vmap(f))(xs), [f(x) for x in xs], rtol=1e-13)
    graph = st.make_graph(st.grad(f))(xs[0])
    np.testing.assert_allclose(st.vmap(lambda x: graph(x))(xs), st.vmap(st.grad(f))(xs), rtol=1e-13)


def test_lengths_that_differ_between_lanes() -> None:
    """A size that is returned is a number, one for each lane."""

    def positive(x: Any) -> Any:
        found = []
        for v in x:
            if v < 0:
                continue
            found.append(v * 2)
        return len(found), sum(found)

    counts, sums = st.vmap(positive)(ROWS)
    assert counts.tolist() == [positive(x)[0] for x in ROWS]
    np.testing.assert_allclose(sums, [positive(x)[1] for x in ROWS])
