"""Lines that begin between the places of whole registers: the vectors begin where stores are aligned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.pipeline import optimize


def interior(x: Any) -> Any:
    y = np.zeros_like(x)
    y[1:-1, 3:-2] = x[2:, 4:-1] + 2 * x[:-2, 2:-3]
    return y


def in_place(x: Any) -> Any:
    x = x.copy()
    for k in range(3):
        x[:, 1:] = x[:, 1:] * 2 + x[k, 1:]
    return x


def line(x: Any) -> Any:
    x = x.reshape(-1).copy()
    for _ in range(3):
        x[1:-1] = x[2:] - x[:-2]
    return x


@pytest.mark.parametrize("width", [5, 8, 65, 72, 133, 150, 275])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.int8])
@pytest.mark.parametrize("f", [interior, in_place, line])
def test_lines(f: Callable[..., Any], dtype: Any, width: int, rng: np.random.Generator) -> None:
    x = rng.integers(-3, 4, (7, width)).astype(dtype)
    compiled = st.compile(f)
    np.testing.assert_array_equal(compiled(x), f(x))
    packed = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(dtype).reshape(x.shape)  # not aligned at all
    np.testing.assert_array_equal(compiled(packed), f(x))


@pytest.mark.parametrize("f", [interior, in_place, line])
def test_sizes_that_only_the_call_knows(f: Callable[..., Any], rng: np.random.Generator) -> None:
    compiled = st.compile(f, dynamic=True)
    for shape in ((5, 9), (7, 150), (4, 301)):
        x = rng.standard_normal(shape)
        np.testing.assert_allclose(compiled(x), f(x), rtol=1e-14)


def test_which_lines_are_aligned() -> None:
    def aligns(f: Callable[..., Any], x: Any) -> bool:
        return "ptrtoint" in compile_graph(optimize(st.make_graph(f)(x)), Target.host()).text

    assert aligns(interior, np.zeros((7, 150)))
    assert not aligns(interior, np.zeros((7, 20)))  # too short to gain
    assert not aligns(lambda x: x + 1.0, np.zeros(1000))
