"""Rows that are looked up are asked for ahead: where, and that results and errors are those without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.pipeline import optimize
from stager.transforms.shapes import trace_types


def asked(f: Callable[..., Any], *specs: str) -> bool:
    made = compile_graph(optimize(trace_types(f, specs, {}).graph), Target.host())
    return "llvm.prefetch" in made.text


def loss(table: Any, words: Any, w: Any) -> Any:
    return np.sum(np.tanh(table[words]) * w)


def gradient(table: Any, words: Any, w: Any) -> Any:
    th = np.tanh(table[words])
    out = np.zeros_like(table)
    np.add.at(out, words, (1 - th * th) * w)
    return out


def copied(table: Any, words: Any, w: Any) -> Any:
    return table[words] * w


def looked_up(table: Any, words: Any) -> Any:
    return np.tanh(table[words])


@pytest.mark.parametrize("index", ["i64", "i32"])
def test_rows_that_much_is_computed_with(index: str) -> None:
    grad = st.grad(loss)
    assert asked(grad, "f32[5000,64]", f"{index}[2048]", "f32[64]")
    assert asked(grad, "f32[n,64]", f"{index}[m]", "f32[64]")
    assert asked(looked_up, "f32[5000,64]", f"{index}[2048]")


def test_others_are_not() -> None:
    assert not asked(copied, "f32[5000,64]", "i64[2048]", "f32[64]")  # the processor sees far enough ahead
    assert not asked(st.grad(loss), "f32[50,64]", "i64[2048]", "f32[64]")  # in a near cache
    assert not asked(st.grad(loss), "f32[5000,4]", "i64[2048]", "f32[4]")  # several rows to a line
    assert not asked(st.grad(loss), "f32[5000,1024]", "i64[2048]", "f32[1024]")  # long rows


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("index", [np.int64, np.int32])
@pytest.mark.parametrize("count", [1, 7, 9, 500])
def test_results_and_errors(dtype: Any, index: Any, count: int, rng: np.random.Generator) -> None:
    table, w = rng.standard_normal((700, 48)).astype(dtype), rng.standard_normal(48).astype(dtype)
    words = rng.integers(-700, 700, count).astype(index)
    f = st.compile(st.grad(loss))
    for _ in range(2):
        np.testing.assert_allclose(f(table, words, w), gradient(table, words, w), rtol=3e-5, atol=1e-5)
    words[-1] = 700
    with pytest.raises(IndexError, match="700 is out of bounds"):
        f(table, words, w)
