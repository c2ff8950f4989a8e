"""Loops whose turns every element runs by itself: inside of the loop over the elements, with the same bits."""

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


def horner(c: Any, x: Any) -> Any:
    y = np.zeros_like(x)
    for k in range(c.shape[0] - 1, -1, -1):
        y = y * x + c[k]
    return y


def from_its_argument(c: Any, x: Any) -> Any:
    y = x.copy()
    for k in range(c.shape[0]):
        y = 0.5 * y + c[k] * k
    return y


def two_arrays(c: Any, x: Any) -> Any:
    y, v = x.copy(), np.ones_like(x)
    for k in range(1, c.shape[0], 2):
        v = v - c[k] * y
        y = y + 0.25 * v
    return y, v


def exchanged(c: Any, x: Any) -> Any:
    y, v = x.copy(), x * x
    for k in range(c.shape[0]):
        y, v = v, y - c[k]
    return y, v


def powers(c: Any, x: Any) -> Any:
    total = np.zeros_like(x)
    power = np.ones_like(x)
    for k in range(c.shape[0]):
        total += c[k] * power
        power *= x
    return total


def of_numbers(c: Any, x: Any) -> Any:
    n = np.full(x.shape, 27)
    steps = np.zeros(x.shape, dtype=np.int64)
    for _ in range(c.shape[0]):
        steps += n != 1
        n = np.where(n % 2 == 0, n // 2, 3 * n + 1)
    return steps, n


def of_truths(c: Any, x: Any) -> Any:
    seen = np.zeros(x.shape, dtype=bool)
    for k in range(c.shape[0]):
        seen = seen | (x > c[k])
    return seen


def nested(c: Any, x: Any) -> Any:
    y = np.zeros_like(x)
    for i in range(c.shape[0]):
        for j in range(3):
            y = y * 0.5 + c[i] * x + j
    return y


def begun_anew(c: Any, x: Any) -> Any:
    y = np.zeros_like(x)
    for i in range(c.shape[0]):
        y[:] = 0.0
        for j in range(4):
            y = y * 0.5 + c[i] * x + j
    return y


def sliding(c: Any, x: Any) -> Any:
    n = x.shape[0] - c.shape[0] + 1
    out = np.zeros((n, *x.shape[1:]))
    for k in range(c.shape[0]):
        out += c[k] * x[k : k + n]
    return out


def overwritten(c: Any, x: Any) -> Any:
    y, one = x * 5.0, np.ones_like(x)
    for _ in range(c.shape[0]):
        y[:] = one
    return y, one


INSIDE = [horner, from_its_argument, two_arrays, powers, of_numbers, of_truths, nested, sliding, overwritten]


@pytest.mark.parametrize("shape", [(1,), (7,), (201,), (40, 3)])
@pytest.mark.parametrize("f", [*INSIDE, exchanged, begun_anew])
def test_the_bits_stay(f: Any, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    c, x = rng.standard_normal(min(12, shape[0])), rng.standard_normal(shape)
    got, want = st.compile(f)(c, x), f(c, x)
    for g, w in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("f", INSIDE)
def test_they_go_inside(f: Any) -> None:
    text = program(f, np.ones(12), np.ones(500))
    assert " fold " in text
    assert "for " not in text


def test_two_levels_go_inside() -> None:
    def taps(kernel: Any, x: Any) -> Any:
        n = x.shape[0] - 4
        out = np.zeros((n, n))
        for i in range(5):
            for j in range(5):
                out += kernel[i, j] * x[i : i + n, j : j + n]
        return out

    kernel, x = np.arange(25.0).reshape(5, 5), np.arange(900.0).reshape(30, 30)
    text = program(taps, kernel, x)
    assert "for " not in text
    assert " from 0.0" in text  # nothing is filled before
    np.testing.assert_array_equal(st.compile(taps)(kernel, x), taps(kernel, x))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, np.int64])
def test_dtypes(dtype: Any) -> None:
    def mixed(c: Any, x: Any) -> Any:
        y = x.copy()
        for k in range(c.shape[0]):
            y = y * x + c[k]
        return y

    c, x = np.arange(1, 8).astype(dtype), (np.arange(103) % 5).astype(dtype)
    got = st.compile(mixed)(c, x)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, mixed(c, x))


@pytest.mark.parametrize("turns", [0, 1, 2, 7])
def test_turns_that_only_the_call_knows(turns: int, rng: np.random.Generator) -> None:
    def f(x: Any, first: Any, last: Any) -> Any:
        y = x.copy()
        for k in range(first, last):
            y = y * 0.5 + x * k
        return y

    compiled, x = st.compile(f), rng.standard_normal(77)
    for first in (-3, 0, 5):
        np.testing.assert_array_equal(compiled(x, first, first + turns), f(x, first, first + turns))
    np.testing.assert_array_equal(compiled(x, 4, 2), x)


@pytest.mark.parametrize("f", [horner, two_arrays, of_numbers, nested, overwritten])
def test_sizes_that_only_the_call_knows(f: Any, rng: np.random.Generator) -> None:
    compiled = st.compile(f, dynamic=True)
    for n, turns in ((40, 4), (19, 7), (300, 1)):
        c, x = rng.standard_normal(turns), rng.standard_normal(n)
        got, want = compiled(c, x), f(c, x)
        for g, w in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
            np.testing.assert_array_equal(g, w)


def test_turns_that_there_may_be_none_of(rng: np.random.Generator) -> None:
    """What no turn reads is not read before the turns either."""

    def f(A: Any, x: Any) -> Any:
        out = np.zeros_like(A)
        for i in range(A.shape[0]):
            y = x.copy()
            for j in range(i):
                y = y * A[i] + x[j]
            out[i] = y
        return out

    A, x = rng.standard_normal((6, 40)), rng.standard_normal(40)
    np.testing.assert_array_equal(st.compile(f)(A, x), f(A, x))
    text = program(f, A, x)
    assert " fold " in text
    assert "switch" in text


def neighbours(c: Any, x: Any) -> Any:
    y = x.copy()
    for k in range(c.shape[0]):
        y[1:] = y[1:] + c[k] * y[:-1]
    return y


def reversed_each_turn(c: Any, x: Any) -> Any:
    y = x.copy()
    for k in range(c.shape[0]):
        y = y[::-1] * c[k]
    return y


def with_a_history(c: Any, x: Any) -> Any:
    y = x.copy()
    seen = np.zeros((c.shape[0], *x.shape))
    for k in range(c.shape[0]):
        y = y * c[k]
        seen[k] = y
    return y, seen


def over_rows(c: Any, x: Any) -> Any:
    y = np.zeros(10)
    for k in range(6):
        y = y * c[k] + x.reshape(10, 10)[k]
    return y


def picked(c: Any, x: Any) -> Any:
    y = x.copy()
    for k in range(c.shape[0]):
        y = y + x[(np.arange(x.shape[0]) * 3 + k) % x.shape[0]]
    return y


@pytest.mark.parametrize("f", [neighbours, reversed_each_turn, with_a_history, over_rows, picked])
def test_what_has_to_stay_outside(f: Any, rng: np.random.Generator) -> None:
    c, x = rng.standard_normal(6), rng.standard_normal(100)
    assert " fold " not in program(f, c, x)
    got, want = st.compile(f)(c, x), f(c, x)
    for g, w in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
        np.testing.assert_array_equal(g, w)


def test_threads(rng: np.random.Generator) -> None:
    c, x = rng.standard_normal(9), rng.standard_normal(100_003)
    np.testing.assert_array_equal(st.compile(horner, threads=2)(c, x), horner(c, x))


def test_arguments_in_place(rng: np.random.Generator) -> None:
    def decay(u: Any, c: Any) -> None:
        for k in range(c.shape[0]):
            u *= c[k]
            u += 1.0

    u, c = rng.standard_normal((30, 31)), rng.standard_normal(5)
    want = u.copy()
    decay(want, c)
    compiled = st.compile(decay)
    for part in (u, u):
        got = part.copy()
        compiled(got, c)
        np.testing.assert_array_equal(got, want)
    strided = np.zeros((30, 62))[:, ::2]
    strided[:] = u
    compiled(strided, c)
    np.testing.assert_array_equal(strided, want)
