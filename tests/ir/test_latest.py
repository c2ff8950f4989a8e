"""The pass `read_latest`: what an update left alone, or wrote, is read from its result."""

from __future__ import annotations

import numpy as np

from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, Value
from stager.ir.passes.latest import read_latest
from stager.ir.verify import verify
from tests.ir.build import Build


def one(at: int) -> dict[str, tuple[int, ...]]:
    return {"starts": (at,), "sizes": (1,), "steps": (1,)}


def after(graph: Graph) -> Graph:
    new = read_latest(graph)
    verify(new)
    x = np.arange(4.0)
    for a, b in zip(evaluate_graph(graph, [x]), evaluate_graph(new, [x]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert read_latest(new) is new
    return new


def source(v: Value) -> str:
    """What an output reads, through views."""
    while v.node.op.family == "view":
        (v,) = v.node.args
    return v.node.op.name


def test_what_an_update_left_alone_is_read_from_its_result() -> None:
    b = Build()
    x = b.input("f64[4]")
    updated = b.slice_update(x, b.fill(0.0, (1,)), **one(1))
    new = after(b.done(updated, b.neg(b.slice(x, **one(2)))))
    assert source(new.outputs[1].node.args[0]) == "slice_update"


def test_what_it_overwrote_is_not() -> None:
    b = Build()
    x = b.input("f64[4]")
    updated = b.slice_update(x, b.fill(0.0, (1,)), **one(1))
    graph = b.done(updated, b.neg(b.slice(x, **one(1))))
    assert after(graph) is graph


def test_a_value_that_was_written_is_read_back() -> None:
    b = Build()
    x = b.input("f64[4]")
    v = b.exp(b.slice(x, **one(0)))
    updated = b.slice_update(x, v, **one(1))
    new = after(b.done(updated, b.neg(v)))
    assert source(new.outputs[1].node.args[0]) == "slice_update"


def test_the_newest_of_several_updates_is_read_until_one_overwrites() -> None:
    b = Build()
    x = b.input("f64[4]")
    first = b.slice_update(x, b.fill(0.0, (1,)), **one(1))
    second = b.slice_update(first, b.fill(1.0, (1,)), **one(3))
    third = b.slice_update(second, b.fill(2.0, (1,)), **one(2))
    new = after(b.done(third, b.neg(b.slice(x, **one(2)))))
    read = new.outputs[1].node.args[0].node
    assert read.args[0].node.params["starts"] == (3,)


def test_an_array_with_two_futures_is_left_alone() -> None:
    b = Build()
    x = b.input("f64[4]")
    left = b.slice_update(x, b.fill(0.0, (1,)), **one(0))
    right = b.slice_update(x, b.fill(0.0, (1,)), **one(1))
    graph = b.done(left, right, b.neg(b.slice(x, **one(2))))
    assert after(graph) is graph
