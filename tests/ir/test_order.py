"""The pass `reads_first`: what reads an array stands before the update that may overwrite it."""

from __future__ import annotations

from stager.ir.graph import Graph
from stager.ir.passes.order import reads_first
from tests.ir.build import Build

ONE = {"starts": (1,), "sizes": (1,), "steps": (1,)}


def ops(graph: Graph) -> list[str]:
    return [n.op.name for n in reads_first(graph).nodes if n.op.name not in ("input", "fill")]


def test_a_read_moves_before_the_update() -> None:
    b = Build()
    x = b.input("f64[4]")
    updated = b.slice_update(x, b.fill(0.0, (1,)), **ONE)
    read = b.slice(x, **ONE)
    assert ops(b.done(updated, read)) == ["slice", "slice_update"]


def test_what_is_computed_from_the_read_moves_along() -> None:
    b = Build()
    x = b.input("f64[4]")
    updated = b.slice_update(x, b.fill(0.0, (1,)), **ONE)
    total = b.reduce_sum(b.mul(b.fill(2.0, (4,)), x), axes=(0,))
    assert ops(b.done(updated, total)) == ["mul", "reduce_sum", "slice_update"]


def test_what_needs_the_update_stays_behind_it() -> None:
    b = Build()
    x = b.input("f64[4]")
    updated = b.slice_update(x, b.fill(0.0, (1,)), **ONE)
    moved = b.sub(updated, x)
    assert ops(b.done(moved)) == ["slice_update", "sub"]


def test_reads_move_before_a_loop_that_carries_what_they_read() -> None:
    body = Build("body")
    i, carried = body.input("i64[]"), body.input("f64[4]")
    region = body.done(body.scatter(carried, body.fill(1.0), i, axes=(0,), batch_dims=0, mode="promise", combine="set"))
    b = Build()
    x = b.input("f64[4]")
    looped = b.for_(b.fill(0, dtype="i64"), b.fill(4, dtype="i64"), x, regions=(region,), n_carry=1, step=1)[0]
    assert ops(b.done(looped, b.slice(x, **ONE))) == ["slice", "for"]


def test_two_updates_of_one_array_keep_their_order() -> None:
    b = Build()
    x = b.input("f64[4]")
    graph = b.done(b.slice_update(x, b.fill(0.0, (1,)), **ONE), b.slice_update(x, b.fill(2.0, (1,)), **ONE))
    assert len(reads_first(graph)) == len(graph)


def test_readers_are_met_once_however_many_ways_lead_to_them() -> None:
    b = Build()
    x = b.input("f64[4]")
    y = x
    for _ in range(60):
        y = b.add(y, y)  # as many paths as 2**60
        y = b.mul(y, b.add(y, x))
    placed = b.slice_update(x, b.slice(y, **ONE), **ONE)
    assert ops(b.done(placed, y))[-1] == "slice_update"
