"""Graphs that are cut along axes of named sizes where these are not tiny, and stay as they are where they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.ir.graph import Graph
from stager.pipeline import executable, optimize
from stager.transforms.shapes import trace_types


def differences(x: Any) -> Any:
    return np.sum((x[1:] - x[:-1]) ** 2)


def joined(x: Any) -> Any:
    return np.sum(np.sin(np.concatenate([x[2:] * 2, x[:2]])) ** 2)


def rolled(x: Any) -> Any:
    return np.sum((np.roll(x, 1) - 2 * x + np.roll(x, -2)) ** 2)


def written(x: Any) -> Any:
    y = np.zeros_like(x)
    y[1:] = x[1:] - 0.5 * x[:-1]
    y[0:1] = x[0:1]
    return np.sum(y**3)


def inside(x: Any) -> Any:
    return np.sum(np.sin(x[1:-1, 2:]) * x[1:-1, :-2])


def laplace(x: Any) -> Any:
    return np.sum((x[2:, 1:-1] + x[:-2, 1:-1] + x[1:-1, 2:] + x[1:-1, :-2] - 4 * x[1:-1, 1:-1]) ** 2)


def traced(f: Callable[..., Any], *specs: str) -> Graph:
    graph: Graph = trace_types(f, specs, {}).graph
    return graph


def switches(g: Graph) -> list[Any]:
    return [n for n in g.nodes if n.op.name == "switch"]


@pytest.mark.parametrize("f", [differences, joined, rolled, written, inside, laplace])
def test_results_are_those_of_any_size(f: Any) -> None:
    """The large branch, the small one, and the extents between them."""
    ndim = 2 if f in (inside, laplace) else 1
    graph = traced(st.grad(f), "f64[n,m]" if ndim == 2 else "f64[n]")
    optimized = optimize(graph)
    assert len(switches(optimized)) == 1
    code = executable(graph)
    for n in (0, 1, 2, 3, 17, 18, 19, 20, 33):
        x = np.random.default_rng(n).normal(size=(n,) if ndim == 1 else (n, 40 - n))
        (want,) = [np.asarray(graph(x))]
        np.testing.assert_array_equal(optimized(x), want)
        np.testing.assert_allclose(code([x])[0], want, rtol=1e-12, atol=1e-12)


def test_what_is_long_is_put_together_once() -> None:
    (switch,) = switches(optimize(traced(st.grad(differences), "f64[n]")))
    small, large = switch.regions
    assert [n.op.name for n in small.nodes].count("slice_update") == 2
    names = [n.op.name for n in large.nodes]
    assert names.count("concatenate") == 1
    assert "slice_update" not in names
    assert str(switch.args[0].node.params["dim"]) == "floordiv(n, 18)"


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.sum((x[1:] - x[:-1]) ** 2),  # nothing is put together
        lambda x: np.concatenate([x, x * 2]),  # once it must be
        lambda x: x[1:] * 2,  # a result of max(0, n-1) elements
        lambda x: np.sum(x * x),
    ],
)
def test_graphs_that_gain_nothing_stay(f: Any) -> None:
    assert not switches(optimize(traced(f, "f64[n]")))


def test_arguments_that_are_written_stay_where_they_are() -> None:
    def smoothed(x: Any) -> None:
        y = np.zeros_like(x)
        y[1:-1] = x[2:] + x[:-2]
        x[:] = y + np.roll(y, 1)

    f = st.compile(smoothed, dynamic={"x": "f64[n]"})
    for n in (1, 5, 40):
        x = np.arange(n, dtype=np.float64) ** 2
        want = x.copy()
        smoothed(want)
        f(x)
        np.testing.assert_array_equal(x, want)
