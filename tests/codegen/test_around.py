"""Updates of a large part of an array that is computed: only what lies around the part is computed and written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.codegen.test_copies import moved, program

SHAPE = (40, 60)


def border(x: Any) -> Any:
    out = np.zeros(SHAPE)
    out[1:-1, 1:-1] = x[1:-1, 1:-1] * 2.0
    return out


def rows(x: Any) -> Any:
    out = x + 1.0
    out[:-3] = np.sqrt(np.abs(x[3:]))
    return out


def corner(x: Any) -> Any:
    out = x - x.T[:40, :40][:, :1]
    out[5:, :-7] = 0.0
    return out


def read_again(x: Any) -> Any:
    y = x + 1.0
    z = y.copy()
    z[2:, 3:] = y[:-2, :-3] * 3.0
    return z + y[::-1]


def returned_too(x: Any) -> Any:
    y = x + 1.0
    z = y.copy()
    z[1:] = 0.0
    return y, z


def of_itself(x: Any) -> Any:
    y = x * 2.0 + 1.0
    y[1:-1, 1:-1] = y[2:, 1:-1] + y[:-2, 1:-1] * y[1:-1, 2:]
    return y


def cube(x: Any) -> Any:
    out = np.zeros((12, 14, 16))
    out[1:-1, 2:-1, :-3] = x[0, 0] + x[1, :13]
    return out


@pytest.mark.parametrize("f", [border, rows, corner, read_again, returned_too, of_itself, cube])
def test_values(f: Callable[..., Any], rng: np.random.Generator) -> None:
    x = rng.standard_normal(SHAPE)
    for got, want in zip(np.atleast_3d(st.compile(f)(x)), np.atleast_3d(f(x)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)
    st.testing.check_grads(lambda x: sum(np.sum(y * y) for y in f(x)), (x,), order=1)


def test_in_a_loop(rng: np.random.Generator) -> None:
    def f(x: Any, steps: Any) -> Any:
        now, old = x.copy(), x * 0.5
        for _ in range(steps):
            new = now - 0.1 * old
            new[1:-1, 1:-1] = now[2:, 1:-1] + 0.5 * now[:-2, 1:-1] - old[1:-1, 2:]
            old = now
            now = new
        return now

    x = rng.standard_normal(SHAPE)
    for steps in (0, 1, 2, 7):
        np.testing.assert_allclose(st.compile(f)(x, steps), f(x, steps), rtol=1e-12)


def test_each_element_is_written_once() -> None:
    assert moved(program(st.compile(border), np.ones(SHAPE)).steps) == 40 * 60
    assert moved(program(st.compile(rows), np.ones(SHAPE)).steps) == 40 * 60
