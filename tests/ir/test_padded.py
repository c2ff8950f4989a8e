"""The pass `sum_padded`: sums of padded parts, read piece by piece, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, Value
from stager.ir.passes.padded import sum_padded
from stager.ir.verify import verify
from tests.ir.build import Build


def stencil(shape: tuple[int, ...], starts: list[tuple[int, ...]], *, around: bool = False) -> Graph:
    """base + Σ zeros with a part of v at `starts`; around: of what is around the first part in the base too."""
    b = Build()
    base = b.input(f"f64[{','.join(map(str, shape))}]")
    sizes = tuple(n - 2 for n in shape)
    ones = (1,) * len(shape)
    v = b.mul(b.slice(base, starts=ones, sizes=sizes, steps=ones), b.fill(0.5, sizes))
    total: Value = base
    if around:
        total = b.slice_update(base, b.fill(0.0, sizes), starts=ones, sizes=sizes, steps=ones)
    for start in starts:
        total = b.add(total, b.slice_update(b.fill(0.0, shape), v, starts=start, sizes=sizes, steps=ones))
    return b.done(total)


CASES: dict[str, tuple[tuple[int, ...], list[tuple[int, ...]]]] = {
    "one axis": ((20,), [(0,), (1,), (2,)]),
    "two axes": ((7, 18), [(0, 1), (2, 1), (1, 0), (1, 2), (1, 1)]),
    "three axes": ((5, 6, 17), [(0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)]),
    "a large plane": ((70, 81), [(0, 1), (2, 1), (1, 0), (1, 2), (1, 1)]),
    "a large plane, on one side": ((70, 81), [(0, 1), (1, 1), (0, 2)]),
    "a large room": ((19, 20, 33), [(0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)]),
}


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_same_bits(name: str, around: bool, rng: Any) -> None:
    shape, starts = CASES[name]
    graph = stencil(shape, starts, around=around)
    after = sum_padded(graph)
    verify(after)
    assert not any(n.op.name == "slice_update" and n.args[0].node.op.name == "fill" for n in after.nodes)
    x = rng.standard_normal(shape)
    x.flat[3] = -0.0
    want, got = evaluate_graph(graph, [x])[0], evaluate_graph(after, [x])[0]
    assert np.array_equal(np.signbit(want), np.signbit(got))
    assert np.array_equal(want, got)
    assert sum_padded(after) is after


def test_the_interior_of_a_large_sum_asks_nothing() -> None:
    """Its largest piece is sums of slices; selects are left to the slabs beside it."""
    shape, starts = CASES["a large plane"]
    after = sum_padded(stencil(shape, starts))
    widest = max((n for n in after.nodes if n.op.name == "select"), key=lambda n: n.types[0].shape[0])
    assert widest.types[0].shape[0] <= 2
    assert any(n.op.name == "add" and n.types[0].shape == (66, 77) for n in after.nodes)


def test_one_part_alone_and_short_rows_stay() -> None:
    for graph in (stencil((20,), [(1,)]), stencil((9, 4), [(0, 0), (1, 1)])):
        assert sum_padded(graph) is graph


def test_a_term_that_is_read_elsewhere_stays() -> None:
    b = Build()
    x = b.input("f64[20]")
    where: dict[str, Any] = {"sizes": (18,), "steps": (1,)}
    v = b.slice(x, starts=(1,), **where)
    first = b.slice_update(b.fill(0.0, (20,)), v, starts=(0,), **where)
    second = b.slice_update(b.fill(0.0, (20,)), v, starts=(2,), **where)
    graph = b.done(b.add(b.add(x, first), second), first)
    assert sum_padded(graph) is graph
