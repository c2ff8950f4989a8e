"""Programs that write (`writes.py`): values, written arguments, lanes and derivatives, in nestings of transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.runtime.structure import flatten
from tests.numpy.writes import PROGRAMS

CLOSE = {"rtol": 1e-9, "atol": 1e-11}
each = pytest.mark.parametrize("name", PROGRAMS)


def copies(args: Any) -> list[Any]:
    return [np.array(a) for a in args]


def assert_same(got: Any, want: Any, what: str) -> None:
    for x, y in zip(flatten(got)[0], flatten(want)[0], strict=True):
        np.testing.assert_allclose(x, y, **CLOSE, err_msg=what)


@each
def test_values_and_written_arguments(name: str) -> None:
    f, args = PROGRAMS[name]
    expected = copies(args)
    want = f(*expected)
    pure = st.functionalize(f, remove="mutations_and_views")
    for what, g in [("compiled", st.compile(f)), ("functionalized", st.functionalize(f)), ("pure", st.compile(pure))]:
        for _ in range(2):
            own = copies(args)
            assert_same((g(*own), own), (want, expected), what)


@each
def test_lanes(name: str) -> None:
    f, args = PROGRAMS[name]
    batch = [np.stack([a * s if a.dtype.kind == "f" else a for s in (1.0, 0.7, 1.3)]) for a in args]
    expected = copies(batch)
    rows = [flatten(f(*[a[k] for a in expected]))[0] for k in range(3)]
    want = [np.stack(parts) for parts in zip(*rows, strict=True)]
    inner = st.vmap(st.functionalize(f))
    for what, g in [("plain", st.vmap(f)), ("compiled", st.compile(st.vmap(f))), ("pure inside", inner)]:
        own = copies(batch)
        assert_same((flatten(g(*own))[0], own), (want, expected), what)


def weighed(f: Callable[..., Any], args: Any) -> Callable[..., Any]:
    """A number that depends on every result of f and on every argument as f leaves it, of the floating arguments."""

    def scalar(*given: Any) -> Any:
        left = iter(given)
        own = [next(left) if a.dtype.kind == "f" else a for a in args]
        total = 0.0
        for k, x in enumerate([*flatten(f(*own))[0], *[a for a in own if a.dtype.kind == "f"]]):
            total = total + (x * np.cos(np.arange(1.0 * np.size(x)).reshape(np.shape(x)) + k)).sum()
        return total

    return scalar


@each
def test_derivatives(name: str) -> None:
    f, args = PROGRAMS[name]
    scalar, points = weighed(f, args), [a for a in args if a.dtype.kind == "f"]
    rng = np.random.default_rng(0)
    ts = [rng.standard_normal(a.shape) for a in points]
    high, low = [scalar(*[a + h * t for a, t in zip(points, ts, strict=True)]) for h in (1e-6, -1e-6)]
    slope = (high - low) / 2e-6
    every = tuple(range(len(points)))
    gradient = st.grad(scalar, every)
    pure = st.functionalize(gradient, remove="mutations_and_views")
    after = copies(args)
    f(*after)
    for what, g in [("plain", gradient), ("compiled", st.compile(gradient)), ("pure", pure)]:
        own = copies(points)
        found = g(*own)
        got = sum((x * t).sum() for x, t in zip(found, ts, strict=True))
        np.testing.assert_allclose(got, slope, rtol=1e-5, atol=1e-5, err_msg=what)
        assert_same(own, [a for a in after if a.dtype.kind == "f"], f"{what}: written arguments")
    np.testing.assert_allclose(st.jvp(scalar, copies(points), ts)[1], slope, rtol=1e-5, atol=1e-5)
    one = st.jvp(gradient, copies(points), ts)[1]
    two = st.grad(lambda *xs: st.jvp(scalar, xs, ts)[1], every)(*copies(points))
    for x, y in zip(one, two, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-8)
