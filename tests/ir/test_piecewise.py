"""The pass `cut_pieces`: expressions of what is put together, piece by piece and bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, Value
from stager.ir.passes.piecewise import cut_pieces
from stager.ir.passes.pipeline import simplify
from stager.ir.verify import verify
from tests.ir.build import Build

N = 20


def part(b: Build, x: Value, start: int, size: int, axis: int) -> Value:
    starts, sizes = [0] * x.type.ndim, list(x.type.shape)
    starts[axis], sizes[axis] = start, size
    return b.slice(x, starts=tuple(starts), sizes=tuple(sizes), steps=(1,) * x.type.ndim)


def rolled(b: Build, x: Value, axis: int) -> Value:
    """x times what lies three before it, going round."""
    before = b.concatenate(part(b, x, N - 3, 3, axis), part(b, x, 0, N - 3, axis), axis=axis)
    return b.mul(b.add(before, x), before)


def shifted(b: Build, x: Value, axis: int) -> Value:
    """Parts of what is joined, across its border, joined again."""
    before = b.concatenate(part(b, x, N - 1, 1, axis), part(b, x, 0, N - 1, axis), axis=axis)
    d = b.sub(before, x)
    inner = b.add(part(b, b.neg(d), 0, N - 1, axis), part(b, d, 1, N - 1, axis))
    return b.concatenate(inner, part(b, d, 0, 1, axis), axis=axis)


def updated(b: Build, x: Value, axis: int) -> Value:
    y = b.mul(x, x)
    starts = [0] * x.type.ndim
    starts[axis] = 1
    v = b.add(part(b, y, 1, N - 2, axis), part(b, x, 2, N - 2, axis))
    y = b.slice_update(y, v, starts=tuple(starts), sizes=v.type.shape, steps=(1,) * x.type.ndim)
    return b.sub(y, part(b, b.concatenate(x, y, axis=axis), 5, N, axis))


def padded(b: Build, x: Value, axis: int) -> Value:
    none = [0] * x.type.ndim
    low, high = none.copy(), none.copy()
    low[axis], high[axis] = 2, 3
    v = b.pad(part(b, x, 4, N - 5, axis), b.fill(-0.0, ()), low=tuple(low), high=tuple(high), interior=tuple(none))
    return b.add(b.mul(v, x), v)


def turned(b: Build, x: Value, axis: int) -> Value:
    """What is joined, with the other axis reversed."""
    before = b.concatenate(part(b, x, N - 3, 3, axis), part(b, x, 0, N - 3, axis), axis=axis)
    starts, steps = [0, 0], [1, 1]
    starts[1 - axis], steps[1 - axis] = x.type.shape[1 - axis] - 1, -1
    return b.add(b.slice(before, starts=tuple(starts), sizes=x.type.shape, steps=tuple(steps)), x)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("f", [rolled, shifted, updated, padded, turned])
def test_same_bits_with_nothing_put_together_but_the_result(f: Any, axis: int, rng: Any) -> None:
    shape = [3, 3]
    shape[axis] = N
    b = Build()
    graph = b.done(f(b, b.input(f"f64[{shape[0]},{shape[1]}]"), axis))
    after = simplify(cut_pieces(graph))
    verify(after)
    made = [n for n in after.nodes if n.op.name in ("concatenate", "slice_update", "pad")]
    assert [n.op.name for n in made] == ["concatenate"]
    assert made[0] is after.outputs[0].node
    x = rng.standard_normal(shape)
    x.flat[7] = -0.0
    (want,), (got,) = evaluate_graph(graph, [x]), evaluate_graph(after, [x])
    np.testing.assert_array_equal(got, want)
    assert np.array_equal(np.signbit(got), np.signbit(want))
    assert cut_pieces(after) is after


def unchanged(graph: Graph) -> bool:
    return cut_pieces(graph) is graph


def test_what_would_make_more_arrays_than_it_saves_stays() -> None:
    b = Build()
    x, y = b.input(f"f64[{N}]"), b.input(f"f64[{N}]")
    whole = b.concatenate(x, y, axis=0)
    assert unchanged(b.done(b.reduce_sum(b.mul(whole, whole), axes=(0,)))), "the product is not in memory"
    b = Build()
    x, y = b.input(f"f64[{N}]"), b.input(f"f64[{N}]")
    whole = b.concatenate(x, y, axis=0)
    assert unchanged(b.done(b.mul(whole, whole), whole)), "it is a result"
    b = Build()
    x = b.input(f"f64[{N}]")
    first = b.slice_update(x, b.exp(part(b, x, 8, 4, 0)), starts=(2,), sizes=(4,), steps=(1,))
    v = b.neg(part(b, first, 1, 4, 0))
    assert unchanged(b.done(b.slice_update(first, v, starts=(5,), sizes=(4,), steps=(1,)))), "x is written in place"
    b = Build()
    x = b.exp(b.input(f"f64[{N}]"))
    first = b.slice_update(x, b.neg(part(b, x, 8, 4, 0)), starts=(2,), sizes=(4,), steps=(1,))
    v = b.neg(part(b, first, 1, 4, 0))
    assert unchanged(b.done(b.slice_update(first, v, starts=(5,), sizes=(4,), steps=(1,)))), "so is exp(x)"


def test_other_axes_and_what_is_read_at_many_shifts_stay(rng: Any) -> None:
    b = Build()
    x = b.input(f"f64[{N},{N}]")
    rows = b.concatenate(part(b, x, 1, N - 1, 0), part(b, x, 0, 1, 0), axis=0)
    columns = b.concatenate(part(b, rows, 1, N - 1, 1), part(b, rows, 0, 1, 1), axis=1)
    graph = b.done(b.mul(columns, x))
    after = simplify(cut_pieces(graph))
    verify(after)
    x = rng.standard_normal((N, N))
    np.testing.assert_array_equal(evaluate_graph(after, [x])[0], evaluate_graph(graph, [x])[0])
    b = Build()
    y = b.input(f"f64[{8 * N}]")
    for _ in range(5):  # a step reads its neighbours, five times over
        y = b.mul(y, b.fill(2.0, y.type.shape))
        n = y.type.shape[0]
        inner = b.add(b.add(part(b, y, 0, n - 2, 0), part(b, y, 1, n - 2, 0)), part(b, y, 2, n - 2, 0))
        y = b.slice_update(y, inner, starts=(1,), sizes=(n - 2,), steps=(1,))
    assert unchanged(b.done(y))
