"""Batched and differentiated code is good code: what it consists of, and what it must not contain."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from stager.ir.dtypes import i64
from stager.ir.graph import Graph
from stager.ir.types import Type, parse_type
from stager.ops import elementwise as e
from stager.ops.contract import dot
from stager.ops.control import for_loop, map_lanes, switch_case, while_loop
from stager.ops.families import full
from stager.ops.indexed import gather, scatter
from stager.ops.reductions import reduce_sum
from stager.ops.scans import cumsum
from stager.ops.sort import sort
from tests.graphs import all_nodes
from tests.ops.transforms import mapped, pullback, trace

AT: dict[str, Any] = {"axes": (0,), "batch_dims": 0, "mode": "promise"}
NO_BATCH = ((), ())


def types(text: str) -> list[Type]:
    return [parse_type(t) for t in text.split()]


def ops(graph: Graph) -> Counter[str]:
    """How often each op stands in a graph, literals and inputs left out."""
    return Counter(n.op.name for n in graph.nodes if n.op.name not in ("input", "fill", "iota", "dim"))


def matvec(a: Any, x: Any) -> Any:
    return dot(a, x, contract=((1,), (0,)), batch=NO_BATCH)


BATCHED: list[tuple[str, Any, str, tuple[int | None, ...], dict[str, int]]] = [
    ("matvec, shared matrix", matvec, "f64[4,3] f64[5,3]", (None, 0), {"dot": 1, "transpose": 1}),
    ("matvec, shared vector", matvec, "f64[5,4,3] f64[3]", (0, None), {"dot": 1}),
    ("matvec, both", matvec, "f64[4,5,3] f64[3,5]", (1, 1), {"dot": 1}),
    ("cumsum", lambda x: cumsum(x, axis=0, reverse=False), "f64[5,3]", (0,), {"cumsum": 1}),
    ("sum", lambda x: reduce_sum(x, axes=(0, 1)), "f64[4,5,3]", (1,), {"reduce_sum": 1}),
    ("sort", lambda x: sort(x, axis=0, num_keys=1, stable=True), "f64[5,3]", (0,), {"sort": 1}),
    ("gather from a shared table", lambda x, i: gather(x, i, **AT), "f64[9,2] i64[5,3]", (None, 0), {"gather": 1}),
    ("gather of the same rows", lambda x, i: gather(x, i, **AT), "f64[5,9,2] i64[3]", (0, None),
     {"gather": 1, "transpose": 1}),
    ("gather, both", lambda x, i: gather(x, i, **AT), "f64[5,9] i64[5,3]", (0, 0), {"gather": 1}),
    ("scatter at the same places", lambda x, u, i: scatter(x, u, i, combine="add", **AT),
     "f64[5,9] f64[3,5] i64[3]", (0, 1, None), {"scatter": 1}),
    ("scatter, all mapped", lambda x, u, i: scatter(x, u, i, combine="set", **AT),
     "f64[5,9] f64[5,3] i64[5,3]", (0, 0, 0), {"scatter": 1}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("fn", "signature", "bdims", "expected"), [b[1:] for b in BATCHED], ids=[b[0] for b in BATCHED]
)
def test_one_op_stays_one_op(fn: Any, signature: str, bdims: Any, expected: dict[str, int]) -> None:
    assert ops(trace(mapped(fn, bdims, 5), *types(signature))) == expected


def test_gradient_of_a_matvec_over_lanes_is_two_products() -> None:
    def loss(a: Any, x: Any) -> Any:
        return reduce_sum(matvec(a, x), axes=(0,))

    graph = trace(mapped(pullback(loss, [True, True]), (None, 0, 0), 5), *types("f64[4,3] f64[5,3] f64[5]"))
    assert ops(graph)["dot"] == 3  # the forward product is dead here; passes drop it
    assert not [n for n in graph.nodes if n.op.name == "broadcast" and n.types[0].shape == (5, 4, 3)]


def largest_written(graph: Graph, *families: str) -> int:
    """The number of elements of the largest result of compute nodes of these families."""
    return max([int(t.size) for n in all_nodes(graph) if n.op.family in families for t in n.types], default=0)  # type: ignore[call-overload]


def test_backward_of_a_loop_touches_rows_only() -> None:
    """x[i] = sin(x[i-1]) * x[i]: every iteration, there and back, computes on scalars; no array is taped whole."""

    def body(i: Any, c: Any) -> list[Any]:
        row = e.mul(e.sin(gather(c, e.sub(i, 1), **AT)), gather(c, i, **AT))
        return [scatter(c, row, i, combine="set", **AT)]

    graph = trace(pullback(lambda x: for_loop(1, 100, [x], body), [True]), *types("f64[100] f64[100]"))
    assert largest_written(graph, "elementwise", "structural", "reduction") <= 1
    loops = [r for n in graph.nodes for r in n.regions]
    assert len(loops) == 2
    assert all(largest_written(r, "view") <= 1 for r in loops)  # around them: x[i] before the loop is read where it is
    assert not [t for n in all_nodes(graph) for t in n.types if t.size == 100 * 99]


def test_cotangent_of_a_captured_array_is_summed_row_by_row() -> None:
    def body(i: Any, c: Any, x: Any) -> list[Any]:
        return [e.add(c, e.sin(gather(x, i, **AT)))]

    def fn(x: Any) -> Any:
        return for_loop(0, 100, [full((), 0, x.type.dtype)], lambda i, c: body(i, c, x))

    graph = trace(pullback(fn, [True]), *types("f64[100] f64[]"))
    assert largest_written(graph, "elementwise") <= 1
    tapes = [n for n in graph.nodes if n.op.name == "fill" and n.types[0].shape == (100,)]
    assert len(tapes) == 1, "only the cotangent of x; sin(x[i]) is computed again from x"


def test_branches_and_inner_loops_add_to_the_cotangent_in_place() -> None:
    def fn(x: Any) -> Any:
        def body(i: Any, c: Any) -> list[Any]:
            positive = e.convert(e.gt(c, 0.0), dtype=i64)
            (r,) = switch_case(
                positive, [lambda: (e.sin(gather(x, i, **AT)),), lambda: (e.mul(c, gather(x, i, **AT)),)]
            )
            return for_loop(0, 3, [r], lambda j, s: [e.mul(s, e.exp(gather(x, j, **AT)))])

        return for_loop(0, 100, [full((), 0, x.type.dtype)], body)

    graph = trace(pullback(fn, [True]), *types("f64[100] f64[]"))
    assert largest_written(graph, "elementwise", "view", "structural") <= 1
    zeros = [n for n in all_nodes(graph) if n.op.name == "fill" and n.types[0].shape == (100,)]
    assert len([n for n in graph.nodes if n in zeros]) == len(zeros), "no zeros are made inside the loop"


def test_loop_invariants_are_not_taped() -> None:
    def fn(w: Any, x: Any) -> Any:
        square = {"contract": ((1,), (0,)), "batch": NO_BATCH}
        return for_loop(0, 10, [x], lambda i, c: [e.tanh(matvec(dot(w, w, **square), c))])

    graph = trace(pullback(fn, [True, True]), *types("f64[3,3] f64[3] f64[3]"))
    shapes = {t.shape for n in all_nodes(graph) for t in n.types}
    assert (10, 3) in shapes, "the carries are taped"
    assert (10, 3, 3) not in shapes, "w @ w is the same in every iteration"


def test_second_order_through_a_loop_stays_linear_in_memory() -> None:
    def fn(x: Any) -> Any:
        return for_loop(0, 50, [x], lambda i, c: [e.mul(c, e.sin(c))])

    back = pullback(fn, [True])
    graph = trace(pullback(back, [True, False]), *types("f64[] f64[] f64[]"))
    assert max(int(t.size) for n in all_nodes(graph) for t in n.types) == 50  # type: ignore[call-overload]


def test_a_batched_condition_of_cheap_branches_is_a_select() -> None:
    def fn(x: Any) -> Any:
        positive = e.convert(e.gt(x, 0.0), dtype=i64)
        return switch_case(positive, [lambda: (e.neg(x),), lambda: (e.mul(x, x),)])

    found = ops(trace(mapped(fn, (0,), 5), *types("f64[5]")))
    assert found["select"] == 1
    assert "map" not in found
    differentiated = ops(trace(pullback(mapped(fn, (0,), 5), [True]), *types("f64[5] f64[5]")))
    assert differentiated["map"] == 2, "a derivative of a select would compute the branch not taken"


def test_lanes_with_their_own_trip_counts_run_in_a_map() -> None:
    def fn(x: Any) -> Any:
        return while_loop([x], lambda c: e.lt(c, 10.0), lambda c: [e.mul(c, c)])

    assert ops(trace(mapped(fn, (0,), 5), *types("f64[5]"))) == {"map": 1}
    assert ops(
        trace(mapped(lambda x, n: for_loop(0, n, [x], lambda i, c: [e.sin(c)]), (0, 0), 5), *types("f64[5] i64[5]"))
    ) == {"map": 1}


def test_backward_of_a_map_over_own_rows_is_a_map() -> None:
    def fn(x: Any) -> Any:
        return map_lanes(7, lambda k: (e.sin(gather(x, k, **AT)),))

    found = ops(trace(pullback(fn, [True]), *types("f64[7] f64[7]")))
    assert found["map"] == 2
    assert "for" not in found


def test_loops_batch_without_repeating_what_lanes_share() -> None:
    def fn(a: Any, x: Any) -> Any:
        return for_loop(0, 3, [x], lambda i, c: [matvec(a, c)])

    graph = trace(mapped(fn, (None, 0), 5), *types("f64[4,4] f64[5,4]"))
    (loop,) = [n for n in graph.nodes if n.op.name == "for"]
    assert [n.op.name for n in loop.regions[0].nodes if n.op.name == "dot"] == ["dot"]
    assert np.all([t.shape != (5, 4, 4) for n in all_nodes(graph) for t in n.types])
