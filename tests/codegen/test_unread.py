"""Arrays that a loop writes whole are not filled before; those of which anything may be read are."""

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

X = np.random.default_rng(0).standard_normal((40, 20))


def fills(f: Callable[..., Any], *specs: str) -> int:
    """How many arrays of many elements a program fills with one literal."""
    found = 0

    def look(step: Any) -> None:
        nonlocal found
        if isinstance(step, Nest):
            for leaf in step.leaves:
                literal = [s for s in leaf.stage.stores if leaf.stage.body[s.value].op == "const"]
                found += len(literal) if leaf.loops or step.outer else 0

    walk(compile_graph(optimize(trace_types(f, specs, {}).graph), Target.host()).program.steps, look)
    return found


def rows(x: Any) -> Any:
    out = np.zeros((40, 20))
    for i in range(40):
        out[i] = np.sqrt(np.abs(x[i])) + i
    return out


def columns_from_behind(x: Any) -> Any:
    out = np.zeros((40, 20))
    for j in range(19, -1, -1):
        out[:, j] = x[:, 19 - j] * j
    return out


def shifted(x: Any) -> Any:
    out = np.zeros((39, 20))
    for i in range(1, 40):
        out[i - 1] = x[i] - x[i - 1]
    return out


def dynamic(x: Any) -> Any:
    out = np.zeros_like(x)
    for i in range(x.shape[0]):
        out[i] = x[i] * 3.0
    return out


def elements(x: Any) -> Any:
    out = np.zeros((40, 20))
    for i in range(40):
        row = np.zeros(20)
        for j in range(20):
            row[j] = x[i, j] * x[i, 19 - j]
        out[i] = row
    return out


def whole_row_in_a_temporary(x: Any) -> Any:
    """What is computed in each turn is as large as what all turns write: they must not share memory."""
    out = np.zeros(40)
    for i in range(40):
        t = np.cumsum(x[:, 3] * (i + 1.0))
        out[i] = t[i]
    return out


def one_row_short(x: Any) -> Any:
    out = np.zeros((40, 20))
    for i in range(1, 40):
        out[i] = x[i]
    return out


def every_other(x: Any) -> Any:
    out = np.zeros((40, 20))
    for i in range(0, 40, 2):
        out[i] = x[i]
    return out


def part_of_a_row(x: Any) -> Any:
    out = np.zeros((40, 20))
    for i in range(40):
        out[i, 1:] = x[i, 1:]
    return out


def reads_the_row_before(x: Any) -> Any:
    out = np.zeros((40, 20))
    for i in range(40):
        out[i] = x[i] + out[i - 1]
    return out


def written_at_will(x: Any) -> Any:
    out = np.zeros((40, 20))
    for i in range(40):
        if x[i, 0] > 0.0:
            out[i] = x[i]
    return out


@pytest.mark.parametrize("f", [rows, columns_from_behind, shifted, elements, whole_row_in_a_temporary])
def test_what_a_loop_writes_whole_is_not_filled(f: Callable[..., Any]) -> None:
    assert fills(f, "f64[40,20]") == 0
    for _ in range(2):
        np.testing.assert_array_equal(st.compile(f)(X), f(X))


def test_extents_with_names() -> None:
    assert fills(dynamic, "f64[n,m]") == 0
    for n in (0, 1, 7):
        np.testing.assert_array_equal(st.compile(dynamic, dynamic=True)(X[:n]), dynamic(X[:n]))


@pytest.mark.parametrize("f", [one_row_short, every_other, part_of_a_row, reads_the_row_before, written_at_will])
def test_what_may_be_read_is_filled(f: Callable[..., Any]) -> None:
    assert fills(f, "f64[40,20]") > 0
    np.testing.assert_array_equal(st.compile(f)(X), f(X))


@pytest.mark.parametrize("step", [1, -1, 3, -4])
def test_tapes_are_not_filled(step: int) -> None:
    def f(x: Any, y: Any) -> Any:
        for i in range(39, -1, step) if step < 0 else range(0, 40, step):
            y = np.sin(y) * x[i]
        return np.sum(y * y)

    g = st.grad(f, argnums=1)
    assert fills(g, "f64[40,20]", "f64[20]") == 0
    st.testing.check_grads(f, (X, X[0]), order=2)


def triangle(more: int, turns: range) -> Callable[[Any], Any]:
    """Writes rows that grow, and reads from them in other turns, up to `more` elements behind what was written."""

    def f(x: Any) -> Any:
        kept = np.zeros((20, 22))
        for i in range(20):
            kept[i, : i + 1] = x[i, : i + 1] * 2.0
        total = np.zeros(20)
        for i in turns:
            total[i] = np.sum(kept[i, : i + 1 + more])
        return total

    return f


def test_rows_that_grow_are_not_filled_where_they_are_read_as_written() -> None:
    whole = triangle(0, range(20))
    assert fills(whole, "f64[40,20]") == 0
    np.testing.assert_allclose(st.compile(whole)(X), whole(X), rtol=1e-14)
    for f in (triangle(1, range(20)), triangle(0, range(1, 20)), triangle(0, range(0, 20, 2))):
        assert fills(f, "f64[40,20]") > 0
        np.testing.assert_allclose(st.compile(f)(X), f(X), rtol=1e-14)


def test_tapes_of_rows_that_shrink_are_not_filled() -> None:
    """The inner loop's tape is shorter in every turn of the outer one."""

    def f(x: Any) -> Any:
        y = x.copy()
        for i in range(12):
            for j in range(i + 1, 12):
                y[j] = np.sin(y[j]) * y[i]
        return np.sum(y * y)

    x = X[:12, :6]
    st.testing.check_grads(f, (x,), order=2)
    g = st.grad(f)
    np.testing.assert_allclose(st.compile(g)(x), g(x), rtol=1e-12)
    stats = st.compile(g).explain(x).stats
    assert any("bytes from" in text for text in stats["kept"])
