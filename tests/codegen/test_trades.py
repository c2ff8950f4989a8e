"""Carries that change places: addresses change instead of contents, and all is where it belongs behind the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.pipeline import optimize


def program(f: Callable[..., Any], *args: Any) -> str:
    return str(compile_graph(optimize(st.make_graph(f)(*args)), Target.host()).program)


def leapfrog(u: Any, steps: Any) -> Any:
    old, now = u.copy(), u + 0.0
    for _ in range(steps):
        new = now.copy()
        new[1:-1] = 2.0 * now[1:-1] - old[1:-1] + 0.1 * (now[2:] - 2.0 * now[1:-1] + now[:-2])
        old, now = now, new
    return old, now


def exchanged(u: Any, steps: Any) -> Any:
    a, b = u.copy(), 2.0 * u
    for _ in range(steps):
        a, b = b, a
    return a, b


def exchanged_and_changed(u: Any, steps: Any) -> Any:
    a, b = u.copy(), 2.0 * u
    for t in range(steps):
        a, b = b, 0.5 * a - t
    return a, b


def ring(u: Any, steps: Any) -> Any:
    a, b, c = u.copy(), 2.0 * u, 3.0 * u
    for _ in range(steps):
        a, b, c = b, c, a
    return a, b, c


def ring_of_four_one_kept(u: Any, steps: Any) -> Any:
    a, b, c, d = u.copy(), 2.0 * u, 3.0 * u, 4.0 * u
    for _ in range(steps):
        a, b, c, d = b, c, d, a[::-1].copy()
    return c


def two_of_one(u: Any, steps: Any) -> Any:
    a, b, c = u.copy(), 2.0 * u, 3.0 * u
    for t in range(steps):
        a, b, c = c, c, a[::-1] + b * t
    return a, b, c


def one_place_for_two(u: Any, steps: Any) -> Any:
    a, b, c, d = u.copy(), 2.0 * u, 3.0 * u, 4.0 * u
    for t in range(steps):
        new = b * 0.5 - t
        a, b, c, d = new, d, new, c
    return a, b, c, d


def three_levels(u: Any, steps: Any) -> Any:
    old, now, new = u.copy(), u.copy(), np.zeros_like(u)
    for _ in range(steps):
        new[1:-1] = 2.0 * now[1:-1] - old[1:-1] + 0.1 * (now[2:] - 2.0 * now[1:-1] + now[:-2])
        old[:] = now
        now[:] = new
    return now


def three_levels_all_read(u: Any, steps: Any) -> Any:
    old, now, new = u.copy(), u.copy(), np.zeros_like(u)
    for _ in range(steps):
        new[1:-1] = 2.0 * now[1:-1] - old[1:-1] + 0.1 * (now[2:] - 2.0 * now[1:-1] + now[:-2])
        old[:] = now
        now[:] = new
    return old, now, new


def in_the_plane(u: Any, steps: Any) -> Any:
    u = u.reshape(u.shape[0] // 20, 20)
    now, new = u.copy(), np.ones_like(u)
    for _ in range(steps):
        new[1:-1, 2:-1] = 0.25 * (now[2:, 2:-1] + now[:-2, 2:-1] + now[1:-1, 3:] + now[1:-1, 1:-2])
        now[:] = new
    return now


def within_a_loop(u: Any, steps: Any) -> Any:
    a, b, total = u.copy(), 2.0 * u, np.zeros_like(u)
    for _ in range(3):
        for t in range(steps):
            a, b = b, a + t * b
        total += a[::-1] - b
    return a, b, total


def with_the_old_one_read(u: Any, steps: Any) -> Any:
    a, b = u.copy(), 2.0 * u
    seen = 0.0
    for _ in range(steps):
        new = a[::-1] * 0.5
        seen += np.sum(a) + b[0]
        a, b = b, new
    return a, b, seen


def while_it_is_small(u: Any, steps: Any) -> Any:
    a, b = u.copy(), u * 2.0
    while np.sum(np.abs(a)) < 100.0 * steps:
        a, b = b, a * 1.5 + b
    return a, b


PROGRAMS = [
    leapfrog,
    exchanged,
    exchanged_and_changed,
    ring,
    ring_of_four_one_kept,
    two_of_one,
    one_place_for_two,
    three_levels,
    three_levels_all_read,
    in_the_plane,
    within_a_loop,
    with_the_old_one_read,
    while_it_is_small,
]


@pytest.mark.parametrize("size", [4, 100, 5000])
@pytest.mark.parametrize("f", PROGRAMS)
def test_everything_is_where_it_belongs(f: Any, size: int, rng: np.random.Generator) -> None:
    u = rng.standard_normal(max(size, 80) if f is in_the_plane else size)
    compiled = st.compile(f)
    for steps in (0, 1, 2, 3, 4, 7):
        got, want = compiled(u, steps), f(u, steps)
        for g, w in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
            np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("f", [leapfrog, exchanged, exchanged_and_changed, ring, three_levels, in_the_plane])
def test_nothing_is_copied(f: Any) -> None:
    text = program(f, np.zeros(5000), 12)
    loop = text[text.index("  for ") :]
    assert "swap" in loop
    assert "copy" not in loop.splitlines()[0]
    assert not any(line.strip().startswith("copy") for line in loop.splitlines())


def test_what_is_read_behind_the_loop_is_copied() -> None:
    text = program(three_levels_all_read, np.zeros(5000), 12)
    assert "copy" in text[text.index("  for ") :]


def test_arguments_change_places(rng: np.random.Generator) -> None:
    def f(a: Any, b: Any, steps: Any) -> None:
        for _ in range(steps):
            keep = a.copy()
            a[:] = b
            b[:] = keep * 0.5

    compiled = st.compile(f)
    for steps in (0, 1, 2, 5):
        a, b = rng.standard_normal(300), rng.standard_normal(300)
        x, y = a.copy(), b.copy()
        f(x, y, steps)
        compiled(a, b, steps)
        np.testing.assert_array_equal(a, x)
        np.testing.assert_array_equal(b, y)
        wide = np.zeros(600)
        v = wide[::2]
        v[:], y = x, b.copy()
        want_x, want_y = x.copy(), y.copy()
        f(want_x, want_y, steps)
        compiled(v, y, steps)
        np.testing.assert_array_equal(v, want_x)
        np.testing.assert_array_equal(y, want_y)
        assert not wide[1::2].any()


def test_arguments_are_in_their_places_when_a_loop_ends_early() -> None:
    def f(a: Any, b: Any, last: Any) -> None:
        for t in range(6):
            assert t < last, "too far"
            keep = a.copy()
            a[:] = b
            b[:] = keep * 0.5

    a, b = np.arange(300.0), np.ones(300)
    x, y = a.copy(), b.copy()
    for arrays in ((a, b), (x, y)):
        with pytest.raises(AssertionError):
            (f if arrays[0] is x else st.compile(f))(*arrays, 3)
    np.testing.assert_array_equal(a, x)
    np.testing.assert_array_equal(b, y)
