"""Scatters that join the loop over their positions: values, order, and what a bad position leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.program import Nest, walk
from stager.codegen.target import Target
from stager.pipeline import optimize
from stager.transforms.shapes import trace_types


def leaves(f: Callable[..., Any], *specs: str) -> list[Any]:
    found: list[Any] = []
    steps = compile_graph(optimize(trace_types(f, specs, {}).graph), Target.host()).program.steps
    walk(steps, lambda s: found.extend(leaf.stage for leaf in s.leaves) if isinstance(s, Nest) else None)
    return found


def both(x: Any, v: Any, i: Any) -> Any:
    """What is read at positions and what is added there."""
    read = np.sqrt(x[i]) * v
    total = np.zeros(50)
    np.add.at(total, i, v * x[i])
    return read, total


def rows(table: Any, w: Any, i: Any) -> Any:
    picked = table[i] * w
    total = np.zeros((50, 8))
    np.add.at(total, i, picked * 2.0)
    return picked, total


def sparse_product(start: Any, column: Any, value: Any, x: Any) -> Any:
    y = np.zeros(start.shape[0] - 1)
    for i in range(y.shape[0]):
        y[i] = np.dot(value[start[i] : start[i + 1]], x[column[start[i] : start[i + 1]]])
    return np.sum(y * y)


def arrays(f: Any, rng: np.random.Generator) -> tuple[Any, ...]:
    i = rng.integers(-50, 50, 200)
    if f is rows:
        return rng.random((50, 8)), rng.random((200, 8)), i
    return rng.random(50), rng.random(200), i


@pytest.mark.parametrize("width", [1, 3, 8, 15, 33, 64, 70])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i4"])
def test_rows_of_any_width(width: int, dtype: str, rng: np.random.Generator) -> None:
    def f(table: Any, w: Any, i: Any) -> Any:
        total = np.zeros_like(table)
        np.add.at(total, i, np.abs(table[i]) * w)
        return total

    args = (10 * rng.standard_normal((40, width))).astype(dtype), rng.integers(1, 5, width).astype(dtype)
    i = rng.integers(-40, 40, 150)
    np.testing.assert_allclose(st.compile(f)(*args, i), f(*args, i), rtol=1e-14 if dtype == "f8" else 1e-5)


def test_a_nest_moves_behind_the_fill_that_its_scatter_adds_to() -> None:
    def gradient(table: Any, w: Any, i: Any) -> Any:
        return st.grad(lambda t: np.sum(np.tanh(t[i]) * w))(table)

    fill, one = leaves(gradient, "f64[500,64]", "f64[64]", "i64[200]")
    assert not list(fill.loads)
    assert sorted(b.storage.name for b, _ in one.loads) == ["x0", "x1", "x2"], "each array once"
    assert {s.buffer.storage.kind for s in (*fill.stores, *one.stores)} == {"output"}


@pytest.mark.parametrize("f", [both, rows])
def test_values(f: Callable[..., Any], rng: np.random.Generator) -> None:
    args = arrays(f, rng)
    for got, want in zip(st.compile(f)(*args), f(*args), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-14)


def test_one_loop_reads_and_adds(rng: np.random.Generator) -> None:
    g = st.grad(sparse_product, argnums=(2, 3))
    found = leaves(g, "i64[11]", "i64[60]", "f64[60]", "f64[20]")
    (stage,) = [s for s in found if any(x.combine == "add" for x in s.stores)]
    assert len(stage.stores) == 2
    assert stage.sequential
    start, column = np.sort(rng.integers(0, 60, 11)), rng.integers(0, 20, 60)
    st.testing.check_grads(
        lambda value, x: sparse_product(start, column, value, x), (rng.random(60), rng.random(20)), order=2
    )


def test_what_is_added_was_read_before(rng: np.random.Generator) -> None:
    def f(x: Any, i: Any) -> Any:
        x = np.exp(x)
        np.add.at(x, i, 2.0 * x[i])
        return x

    x, i = rng.random(50), rng.integers(-50, 50, 200)
    np.testing.assert_allclose(st.compile(f)(x, i), f(x, i), rtol=1e-13)


@pytest.mark.parametrize("bad", [50, -51, 2**62, -(2**63)])
@pytest.mark.parametrize("f", [both, rows])
def test_a_bad_position_raises(f: Callable[..., Any], bad: int, rng: np.random.Generator) -> None:
    args = arrays(f, rng)
    args[2][170] = bad
    for g in (st.compile(f), st.compile(st.grad(lambda *a: sum(np.sum(y * y) for y in f(*a))))):
        for _ in range(2):
            with pytest.raises(IndexError):
                g(*args)


def test_a_bad_position_leaves_the_callers_array_alone(rng: np.random.Generator) -> None:
    def add(x: Any, v: Any, i: Any) -> None:
        np.add.at(x, i, v * 2.0)

    x, v, i = arrays(both, rng)
    i[199] = 99
    before = x.copy()
    with pytest.raises(IndexError):
        st.compile(add)(x, v, i)
    np.testing.assert_array_equal(x, before)


def test_empty_arrays_are_never_written() -> None:
    def f(n: Any, v: Any, i: Any) -> Any:
        total = np.zeros(n)
        np.add.at(total, i, v)
        return total

    g = st.compile(f)
    assert g(0, np.zeros(0), np.zeros(0, np.int64)).shape == (0,)
    with pytest.raises(IndexError):
        g(0, np.ones(3), np.zeros(3, np.int64))


def overlapping(x: Any) -> Any:
    """Positions that count up along two axes meet: the last one in order wins, and sums miss none."""
    n = x.shape[0]
    i = np.arange(n)[:, None] + np.arange(3)
    last, total = np.zeros(n + 2), np.zeros(n + 2)
    last[i] = x[:, None] * np.array([1.0, 2.0, 4.0])
    np.add.at(total, i, x[:, None] * np.array([1.0, 2.0, 4.0]))
    return last, total


def one_place(x: Any) -> Any:
    y = np.zeros((2, 5))
    y[:, np.arange(x.shape[0]) * 0 + 3] = x
    return y


def rows_apart(x: Any) -> Any:
    y = np.zeros(x.shape[0] * 4)
    y[np.arange(x.shape[0])[:, None] * 4 + np.arange(4)] = x[:, None]
    return y


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("f", [overlapping, one_place, rows_apart])
def test_positions_that_meet_keep_their_order(f: Callable[..., Any], dynamic: Any) -> None:
    x = np.arange(1.0, 200.0)
    compiled = st.compile(f, dynamic=dynamic)
    got, want = compiled(x), f(x)
    for a, b in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
        np.testing.assert_array_equal(a, b)


def test_what_a_turn_wrote_at_a_position_of_data_is_read_after_it() -> None:
    def f(x: Any) -> Any:
        v = x + 0.5
        for i in range(6):
            v[i % 4] += 0.1 * v[0]
        return v

    x = np.random.default_rng(3).standard_normal((4, 3))
    np.testing.assert_allclose(st.compile(f)(x), f(x), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_functions_of_several_vectors_at_once(dtype: str, rng: np.random.Generator) -> None:
    """What is computed for some vectors together is what each element gives alone."""

    @st.compile
    def f(table: Any, w: Any, i: Any) -> Any:
        total = np.zeros_like(table)
        np.add.at(total, i, np.tanh(table[i]) * np.exp(w))
        return total

    table, w, i = rng.normal(size=(9, 83)).astype(dtype), rng.random(83).astype(dtype), np.arange(9)
    one = st.compile(lambda x, y: np.tanh(x) * np.exp(y))
    want = [[one(x, y) for x, y in zip(row, w, strict=True)] for row in table]
    np.testing.assert_array_equal(f(table, w, i), np.asarray(want, dtype))


def test_scatters_of_one_set_of_positions_share_a_loop(rng: np.random.Generator) -> None:
    def f(v: Any, w: Any, i: Any) -> Any:
        one, two = np.zeros(50), np.zeros(50)
        np.add.at(one, i, v)
        np.add.at(two, i, w)
        return one, two

    assert sum(s.label == "scatter" for s in leaves(f, "f64[200]", "f64[200]", "i64[200]")) == 1
    args = rng.random(200), rng.random(200), rng.integers(-50, 50, 200)
    for found, expected in zip(st.compile(f)(*args), f(*args), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-14)
    with pytest.raises(IndexError, match="index 50 is out of bounds"):
        st.compile(f)(*args[:2], np.where(args[2] == 0, 50, args[2]))
