"""Scatters of one element per lane: a comparison with the index where the rest of the lane is computed anyway."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, Value
from stager.ir.op import op_named
from stager.ir.passes.pipeline import run_pipeline
from tests.ir.build import Build

N = 5


def scattered(base: str, combine: str, mode: str, *, backward: bool = False, axis: int = 2, picks: int = 1) -> Graph:
    """x of 3x4 lanes (and 2 columns each), v added to or set at one place of each."""
    b = Build()
    shape = [3, 4]
    shape.insert(axis, N)
    lanes = tuple(shape[:axis])
    rest = tuple(shape[axis + 1 :])
    x, i = b.input(f"f64[{','.join(map(str, shape))}]"), b.input(f"i64[{','.join(map(str, (*lanes, picks)))}]")
    v = b.input(f"f64[{','.join(map(str, (*lanes, picks, *rest)))}]")
    start: Value = {"input": x, "computed": b.mul(x, x), "zeros": b.fill(0.0, shape), "ones": b.fill(1.0, shape)}[base]
    params = {"axes": (axis,), "batch_dims": axis, "mode": mode, "combine": combine}
    path = ("grad", "backward") if backward else ()
    return b.done(*b.builder.emit(op_named("scatter"), (start, v, i), params, path=path))


def ops(graph: Graph) -> set[str]:
    return {n.op.name for n in graph.nodes}


@pytest.mark.parametrize("mode", ["check", "clip", "wrap", "promise"])
@pytest.mark.parametrize("combine", ["set", "add"])
@pytest.mark.parametrize(("base", "backward"), [("zeros", False), ("ones", False), ("computed", True)])
@pytest.mark.parametrize("axis", [1, 2])
def test_same_values(base: str, backward: bool, combine: str, mode: str, axis: int, rng: Any) -> None:
    graph = scattered(base, combine, mode, backward=backward, axis=axis)
    after = run_pipeline(graph)
    assert "scatter" not in ops(after)
    assert "select" in ops(after)
    x, i, v = (np.zeros(t.shape) for t in graph.input_types)
    low, high = {"check": (-N, N), "promise": (0, N)}.get(mode, (-20, 20))
    args = [rng.standard_normal(x.shape), rng.integers(low, high, i.shape), rng.standard_normal(v.shape)]
    np.testing.assert_array_equal(evaluate_graph(after, args)[0], evaluate_graph(graph, args)[0])


def test_positions_out_of_bounds_are_still_refused() -> None:
    graph = scattered("zeros", "add", "check")
    args = [np.zeros(t.shape, t.dtype.np) for t in graph.input_types]
    for wrong in (N, -N - 1):
        args[1][1, 2, 0] = wrong
        with pytest.raises(IndexError):
            evaluate_graph(run_pipeline(graph), args)


def test_what_is_in_memory_is_written_where_it_is() -> None:
    for graph in (
        scattered("input", "set", "check", backward=True),
        scattered("computed", "add", "check"),  # the user's: it may be large, and a few elements change
        scattered("zeros", "add", "check", picks=2),
        scattered("zeros", "max", "check"),
    ):
        assert "scatter" in ops(run_pipeline(graph))
