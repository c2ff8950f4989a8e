"""The pass `read_parts`: parts of what is computed from pieces are computed from the pieces, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, Value
from stager.ir.passes.parts import read_parts
from stager.ir.passes.pipeline import simplify
from stager.ir.verify import verify
from tests.ir.build import Build

Cut = tuple[Sequence[int], Sequence[int], Sequence[int]]  # starts, sizes, steps


def joined(b: Build) -> Value:
    return b.concatenate(b.input("f64[3,8]"), b.input("f64[5,8]"), axis=0)


def updated(b: Build) -> Value:
    part, sizes = b.input("f64[3,4]"), (3, 4)
    return b.slice_update(b.input("f64[8,8]"), part, starts=(1, 0), sizes=sizes, steps=(2, 2))


def padded(b: Build) -> Value:
    return b.pad(b.input("f64[4,8]"), b.fill(2.0, ()), low=(1, 0), high=(3, 0), interior=(0, 0))


def in_turn(b: Build) -> Value:
    rows = [b.reshape(b.input("f64[8,4]"), shape=(8, 4, 1)) for _ in range(2)]
    return b.reshape(b.concatenate(*rows, axis=2), shape=(8, 8))


PIECES: dict[str, tuple[Any, list[Cut]]] = {
    "joined": (joined, [((0, 0), (3, 8), (1, 1)), ((3, 1), (5, 4), (1, 2))]),
    "joined, backwards": (joined, [((2, 7), (3, 8), (-1, -1)), ((7, 0), (2, 8), (-4, 1))]),
    "updated": (updated, [((1, 0), (3, 4), (2, 2)), ((1, 1), (3, 4), (2, 2)), ((7, 0), (1, 8), (1, 1))]),
    "padded": (padded, [((0, 0), (1, 8), (1, 1)), ((2, 0), (3, 8), (1, 1)), ((5, 0), (3, 8), (1, 1))]),
    "in turn": (in_turn, [((0, 0), (8, 4), (1, 2)), ((0, 1), (8, 4), (1, 2))]),
}


def graph_of(make: Any, cuts: Sequence[Cut]) -> Graph:
    """Parts of sin(x) * (y + x) where x is put together."""
    b = Build()
    x, y = make(b), b.input("f64[8,8]")
    f = b.mul(b.sin(x), b.add(y, x))
    return b.done(*[b.slice(f, starts=s, sizes=n, steps=k) for s, n, k in cuts])


@pytest.mark.parametrize("name", PIECES)
def test_pieces_are_read_where_they_are(name: str, rng: Any) -> None:
    graph = graph_of(*PIECES[name])
    after = simplify(read_parts(graph))
    verify(after)
    assert not {n.op.name for n in after.nodes} & {"concatenate", "slice_update", "pad"}
    args = [rng.standard_normal(t.shape) for t in graph.input_types]
    for want, got in zip(evaluate_graph(graph, args), evaluate_graph(after, args), strict=True):
        np.testing.assert_array_equal(got, want)
    assert read_parts(after) is after


def test_what_is_read_as_a_whole_or_over_pieces_or_twice_stays() -> None:
    over = [((2, 0), (3, 8), (1, 1))]
    assert read_parts(graph := graph_of(joined, over)) is graph
    much: list[Cut] = [((0, k), (3, 7), (1, 1)) for k in (0, 1)] + [((3, k), (5, 7), (1, 1)) for k in (0, 1)]
    assert read_parts(graph := graph_of(joined, much)) is graph
    b = Build()
    f = b.sin(joined(b))
    first = b.slice(f, starts=(0, 0), sizes=(3, 8), steps=(1, 1))
    assert read_parts(graph := b.done(first, b.exp(f))) is graph
    b = Build()  # an operand of what stays
    f = b.sin(joined(b))
    first = b.slice(b.exp(f), starts=(0, 0), sizes=(3, 8), steps=(1, 1))
    assert read_parts(graph := b.done(first, f)) is graph
