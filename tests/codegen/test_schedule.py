"""What the scheduler decides depends on the program alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.program import Storage
from stager.codegen.target import Target
from stager.pipeline import optimize
from stager.transforms.shapes import trace_types


def test_a_program_does_not_depend_on_where_its_records_lie() -> None:
    """Rows that are too wide for a block of columns go to the arena in the order of the program."""

    def accelerations(x: Any) -> Any:
        away = x[:, None, :] - x[None, :, :]
        squared = np.sum(away * away, axis=2) + 0.01
        return np.sum((1.0 / (squared * np.sqrt(squared)))[:, :, None] * away, axis=1)

    x = np.random.default_rng(0).normal(size=(5, 3))
    texts, held = set(), []
    for turn in range(8):
        gone = [Storage("temp", "x", 8) for _ in range(400)]
        held.append(gone[turn::3])
        gone.sort(key=id, reverse=turn % 2 == 0)
        del gone  # freed in either order: the next records take these places
        texts.add(st.compile(accelerations).show(x, stage="kernels"))
    (text,) = texts
    assert text.index("t0:") < text.index("t1:")


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("n", [15, 16, 17, 18, 19, 37, 64])
def test_reductions_without_lanes_have_several_results_side_by_side(n: int, dtype: str) -> None:
    """Columns lie too far apart for lanes; an addition would wait for the one before."""

    def products(a: Any) -> Any:
        out = np.zeros(9, dtype=a.dtype)
        for k in range(1, a.shape[1]):
            out[k % 5] += a[:, k] @ a[:, k - 1]
            out[k % 5] = np.maximum(out[k % 5], np.max(a[:, k] - a[:, k - 1]))
        return out

    a = (np.random.default_rng(n).standard_normal((n, 9)) * 10).astype(dtype)
    f = st.compile(products)
    np.testing.assert_allclose(f(a), products(a), rtol=1e-5 if dtype == "float32" else 1e-12)
    assert ("side by side" in f.show(a, stage="kernels")) == (n >= 16)


def scaled(x: Any, s: Any) -> Any:
    rows = np.where(np.isnan(s), 0.0, s * s + 1.0)[:, None]
    wrong = (s > 3.0)[:, None]
    return np.where(wrong, x - 1.0, x * rows) * rows + np.where(np.isnan(s)[:, None] & wrong, 0.0, x / 3.0)


def test_loops_of_two_turns_are_written_out() -> None:
    graph = optimize(trace_types(scaled, ("f64[512,32]", "f64[512]"), {}).graph)
    for name, lanes in (("x86-64-v3", 4), ("x86-64-v4", 8)):
        made = compile_graph(graph, Target.named(name))
        leaf = next(leaf for step in made.program.steps for leaf in step.leaves if len(leaf.loops) == 2)
        assert leaf.unroll == (4 if lanes == 8 else 2)


@pytest.mark.parametrize("columns", [8, 16, 32, 33, 64])
def test_conditions_of_a_row(columns: int, rng: np.random.Generator) -> None:
    """They hold for all lanes of the row: with masks in registers of their own they come from a number."""
    x, s = rng.standard_normal((40, columns)), 3.0 * rng.standard_normal(40)
    s[::7] = np.nan
    f = st.compile(scaled)
    for _ in range(2):
        np.testing.assert_allclose(f(x, s), scaled(x, s), rtol=1e-14)
    assert "shufflevector <8 x i1>" not in f.show(x, s, stage="llvm")


def relaxed(a: Any, turns: Any, rest: int) -> Any:
    a = a.copy()
    b = np.zeros_like(a)
    s = np.zeros(8)
    for _ in range(turns):
        b[1:-1, 1:-1] = 0.25 * (a[:-2, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1])
        a[1:-1, 1:-1] = 0.25 * (b[:-2, 1:-1] + b[1:-1, :-2] + b[1:-1, 2:] + b[2:, 1:-1])
        for _ in range(rest):
            s = np.sin(s) + 1.0
    return a + s[0]


@pytest.mark.parametrize(("turns", "rest", "divided"), [(3, 0, 0), (20, 0, 2), (20, 10, 2), (20, 20_000, 0)], ids=str)
def test_short_nests_are_divided_where_workers_stay_awake(turns: int, rest: int, divided: int) -> None:
    """In a loop that ends soon, or that computes long on one thread in between, waking them would cost more."""
    a = np.random.default_rng(0).standard_normal((160, 300))

    def fn(a: Any) -> Any:
        return relaxed(a, turns, rest)

    f = st.compile(fn)
    np.testing.assert_allclose(f(a), fn(a), rtol=1e-12, atol=1e-12)
    assert f.show(a, stage="kernels").count("parallel") == divided


def test_results_of_divided_sweeps_do_not_depend_on_threads() -> None:
    a = np.random.default_rng(0).standard_normal((201, 299))
    one, *others = (st.compile(relaxed, threads=n)(a, 9, 1) for n in (1, 2, 3, 5))
    for other in others:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16])
def test_rows_of_narrow_elements_end_where_they_end(dtype: Any) -> None:
    """What is left of a row behind whole registers is written under a mask: what lies behind the row stays."""

    def inside(x: Any, y: Any) -> Any:
        y = y.copy()
        y[1:-1, 1:-1] = np.where(x[:-2, 1:-1] > x[2:, 1:-1], x[1:-1, :-2], y[1:-1, 2:])
        return y, np.max(x, axis=0), np.sum(y == x, axis=1)

    rng = np.random.default_rng(0)
    known, unknown = st.compile(inside), st.compile(inside, dynamic=True)
    for f, lengths in ((known, (5, 18, 34, 66, 97, 130)), (unknown, (3, 64, 127, 200))):
        for n in lengths:
            x, y = (rng.integers(0, 4, (6, n)).astype(dtype) for _ in range(2))
            for got, expected in zip(f(x, y), inside(x, y), strict=True):
                np.testing.assert_array_equal(got, expected)
