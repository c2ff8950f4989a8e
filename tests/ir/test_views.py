"""What views, updates, literals, gathers and dims become: one golden text per case, each seen to keep its values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stager.ir.dims import floordiv, symbol
from stager.ir.graph import Graph, Value
from stager.ir.passes.pipeline import run_pipeline
from stager.ir.text import print_graph
from tests.ir.build import Build
from tests.ir.test_control import checked

n = symbol("n")


def whole(b: Build, x: Value, **changed: Any) -> dict[str, Any]:
    """Params of the slice that takes everything, with some changed."""
    params = {"starts": (0,) * x.type.ndim, "sizes": x.type.shape, "steps": (1,) * x.type.ndim}
    return {**params, **changed}


def row(b: Build, x: Value, i: Any) -> Value:
    rest = x.type.shape[1:]
    zeros, ones = (0,) * len(rest), (1,) * len(rest)
    taken = b.slice(x, starts=(i, *zeros), sizes=(1, *rest), steps=(1, *ones))
    return b.reshape(taken, shape=rest)


def set_row(b: Build, x: Value, i: Any, v: Value) -> Value:
    rest = x.type.shape[1:]
    zeros, ones = (0,) * len(rest), (1,) * len(rest)
    v = b.reshape(v, shape=(1, *rest))
    return b.slice_update(x, v, starts=(i, *zeros), sizes=(1, *rest), steps=(1, *ones))


def case_transpose_of_transpose(b: Build, x: Value) -> Value:
    return b.transpose(b.transpose(x, perm=(1, 0)), perm=(1, 0))


def case_slices_compose(b: Build, x: Value) -> Value:
    y = b.slice(x, starts=(1, 0), sizes=(2, n), steps=(2, 1))
    return b.slice(y, starts=(1, n - 1), sizes=(1, n), steps=(-1, -1))


def case_slice_through_transpose_and_broadcast(b: Build, x: Value) -> Value:
    y = b.transpose(b.broadcast(x, shape=(4, 5, n), axes=(0, 2)), perm=(1, 2, 0))
    return b.slice(y, starts=(1, 0, 2), sizes=(3, n, 2), steps=(1, 1, -1))


def case_row_of_row(b: Build, x: Value) -> Value:
    y = b.broadcast(x, shape=(2, 4, n), axes=(1, 2))
    return row(b, row(b, y, 1), 3)


def case_unit_axes(b: Build, x: Value) -> Value:
    y = b.reshape(x, shape=(4, 1, n))
    y = b.transpose(y, perm=(1, 0, 2))
    y = b.broadcast(y, shape=(3, 4, n), axes=(0, 1, 2))
    return b.reshape(y, shape=(3, 4, 1, n))


def case_literals_have_no_views(b: Build, x: Value) -> Value:
    ones = b.transpose(b.broadcast(b.fill(1.0), shape=(n, 4), axes=()), perm=(1, 0))
    return b.add(b.mul(x, ones), b.slice(b.fill(-0.0, (9, "n")), starts=(2, 0), sizes=(4, n), steps=(1, 1)))


def case_elementwise_before_broadcast(b: Build, x: Value) -> Value:
    s = b.reduce_sum(x, axes=(1,))
    t = b.reduce_max(b.reduce_sum(x, axes=(1,)), axes=(0,))
    scale = b.mul(b.exp(b.broadcast(s, shape=(4, n), axes=(0,))), b.broadcast(t, shape=(4, n), axes=()))
    return b.mul(x, scale)


def case_elementwise_before_reshape_and_transpose(b: Build, x: Value) -> Value:
    s = b.reshape(b.reduce_sum(x, axes=(1,)), shape=(4, 1))
    mean = b.mul(s, b.fill(0.25, (4, 1)))
    y = b.sub(x, b.broadcast(b.sqrt(b.add(mean, s)), shape=(4, n), axes=(0, 1)))
    t = b.transpose(y, perm=(1, 0))
    return b.transpose(b.mul(b.sin(t), b.add(t, b.fill(1.0, ("n", 4)))), perm=(1, 0))


def case_dot_takes_transposes_in(b: Build, x: Value) -> Value:
    y = b.dot(b.transpose(x, perm=(1, 0)), x, contract=((1,), (0,)), batch=((), ()))
    return b.transpose(y, perm=(1, 0))


def case_transposed_product(b: Build, x: Value) -> Value:
    w = b.slice(x, starts=(0, 0), sizes=(2, n), steps=(1, 1))
    return b.transpose(b.dot(x, w, contract=((1,), (1,)), batch=((), ())), perm=(1, 0))


def case_reads_look_through_updates(b: Build, x: Value) -> Value:
    y = b.fill(0.0, (4, "n"))
    for i in range(4):
        y = set_row(b, y, i, b.sin(row(b, x, 3 - i)))
    return b.add(row(b, y, 1), row(b, y, 3))


def case_update_at_a_symbol(b: Build, x: Value) -> Value:
    y = b.slice_update(x, b.fill(1.0, (4, 1)), starts=(0, n - 2), sizes=(4, 1), steps=(1, 1))
    untouched = b.slice(y, starts=(0, n - 1), sizes=(4, 1), steps=(1, 1))
    written = b.slice(y, starts=(1, n - 2), sizes=(2, 1), steps=(1, 1))
    return b.concatenate(untouched, written, axis=0)


def case_updates_become_a_concatenation(b: Build, x: Value) -> Value:
    y = b.fill(0.0, (4, "n"))
    for i in (2, 0, 3, 1):
        y = set_row(b, y, i, b.exp(row(b, x, i)))
    return y


def case_overwritten_update(b: Build, x: Value) -> Value:
    y = b.slice_update(x, b.fill(1.0, (1, "n")), starts=(1, 0), sizes=(1, n), steps=(1, 1))
    return b.slice_update(y, b.fill(2.0, (2, "n")), starts=(1, 0), sizes=(2, n), steps=(1, 1))


def case_overwritten_behind_another(b: Build, x: Value) -> Value:
    y = set_row(b, x, 1, b.fill(1.0, ("n",)))
    y = set_row(b, y, 3, b.fill(2.0, ("n",)))
    return set_row(b, y, 1, row(b, x, 0))


def case_products_without_a_sum(b: Build, x: Value) -> Value:
    s, t = b.reduce_sum(x, axes=(0,)), b.reduce_sum(x, axes=(1,))
    outer = b.dot(t, s, contract=((), ()), batch=((), ()))
    column = b.reshape(t, shape=(1, 4))
    same = b.dot(column, b.reshape(s, shape=(1, n)), contract=((0,), (0,)), batch=((), ()))
    none = b.slice(x, starts=(0, 0), sizes=(0, n), steps=(1, 1))
    zero = b.dot(none, none, contract=((0,), (0,)), batch=((), ()))
    outer = b.add(outer, b.broadcast(b.reduce_sum(zero, axes=(0,)), shape=(4, n), axes=(1,)))
    lanes = b.dot(x, x, contract=((), ()), batch=((0,), (0,)))
    return b.add(b.add(outer, same), b.add(x, b.reduce_sum(lanes, axes=(2,))))


def case_update_with_what_is_there(b: Build, x: Value) -> Value:
    region = {"starts": (1, 0), "sizes": (2, n), "steps": (1, 1)}
    return b.slice_update(x, b.slice(x, **region), **region)


def case_whole_reversed_update(b: Build, x: Value) -> Value:
    return b.slice_update(b.fill(0.0, (4, "n")), x, starts=(3, 0), sizes=(4, n), steps=(-1, 1))


def case_slices_of_concatenate_and_pad(b: Build, x: Value) -> Value:
    y = b.concatenate(x, b.sin(x), b.cos(x), axis=0)
    inner = b.slice(y, starts=(5, 0), sizes=(2, n), steps=(1, 1))
    across = b.slice(y, starts=(3, 0), sizes=(2, n), steps=(1, 1))
    p = b.pad(x, b.fill(7.0), low=(2, 0), high=(2, 0), interior=(0, 0))
    inside = b.slice(p, starts=(2, 0), sizes=(2, n), steps=(1, 1))
    outside = b.slice(p, starts=(6, 0), sizes=(2, n), steps=(1, 1))
    return b.concatenate(inner, across, inside, outside, axis=0)


def case_split_and_joined(b: Build, x: Value) -> Value:
    parts = [b.slice(x, starts=(i, 0), sizes=(2, n), steps=(1, 1)) for i in (0, 2)]
    return b.concatenate(b.concatenate(*parts, axis=0), axis=0)


def case_pads_of_pads(b: Build, x: Value) -> Value:
    zero = b.fill(0.0)
    y = b.pad(x, zero, low=(1, 0), high=(0, 0), interior=(0, 0))
    return b.pad(y, zero, low=(0, 2), high=(3, 0), interior=(0, 0))


def case_gather_at_literals(b: Build, x: Value) -> Value:
    minus_one = b.fill(-1, (2,), "i64")
    first = b.gather(x, minus_one, axes=(0,), batch_dims=0, mode="check")
    all_of_it = b.gather(x, b.iota(size=n, dtype=minus_one.type.dtype), axes=(1,), batch_dims=0, mode="check")
    return b.concatenate(first, b.transpose(all_of_it, perm=(1, 0)), axis=0)


def case_gather_out_of_bounds_stays(b: Build, x: Value) -> Value:
    y = b.gather(x, b.fill(9, (), "i64"), axes=(0,), batch_dims=0, mode="clip")
    z = b.gather(x, b.constant([0, 3, 1]), axes=(0,), batch_dims=0, mode="check")
    return b.add(z, b.broadcast(y, shape=(3, n), axes=(1,)))


def case_scatter_at_a_literal(b: Build, x: Value) -> Value:
    two = b.fill(2, (), "i64")
    y = b.scatter(x, b.fill(1.0, ("n",)), two, axes=(0,), batch_dims=0, mode="check", combine="add")
    return b.scatter(y, b.fill(1.0, (4,)), b.dim(dim=n - 1), axes=(1,), batch_dims=0, mode="promise", combine="set")


def case_scatter_around_an_axis(b: Build, x: Value) -> Value:
    i64 = b.fill(1, (), "i64").type.dtype
    size = b.broadcast(b.dim(dim=n), shape=(n,), axes=())
    back = b.mod(b.sub(b.iota(size=n, dtype=i64), b.fill(3, (n,), "i64")), size)
    y = b.scatter(x, b.transpose(x, perm=(1, 0)), back, axes=(1,), batch_dims=0, mode="check", combine="add")
    on = b.mod(b.add(b.fill(-1, (4,), "i64"), b.iota(size=4, dtype=i64)), b.fill(4, (4,), "i64"))
    return b.scatter(y, y, on, axes=(0,), batch_dims=0, mode="promise", combine="set")


def case_reductions_meet(b: Build, x: Value) -> Value:
    y = b.reduce_sum(b.reduce_sum(b.broadcast(x, shape=(4, n, 1), axes=(0, 1)), axes=(2,)), axes=(0,))
    z = b.reduce_max(b.broadcast(x, shape=(3, 4, n), axes=(1, 2)), axes=(0, 1))
    return b.add(y, z)


def case_reduced_literals(b: Build, x: Value) -> Value:
    ones = b.reduce_sum(b.fill(1.0, (4, "n")), axes=(0,))
    return b.add(ones, b.reduce_max(b.fill(3.0, (4, "n")), axes=(0,)))


def case_arithmetic_of_dims(b: Build, x: Value) -> Value:
    a = b.mul(b.add(b.dim(dim=n), b.fill(3, (), "i64")), b.fill(2, (), "i64"))
    half = b.floordiv(a, b.fill(2, (), "i64"))
    bigger = b.gt(half, b.dim(dim=n))
    return b.select(bigger, half, b.dim(dim=floordiv(n, 2)))


def case_folded_constants(b: Build, x: Value) -> Value:
    c = b.constant(np.arange(4.0))
    flat = b.constant(np.full((4, 1), 2.0))
    d = b.mul(b.reshape(b.exp(b.neg(c)), shape=(4, 1)), flat)
    return b.mul(x, b.broadcast(d, shape=(4, n), axes=(0, 1)))


def case_iota_in_floats(b: Build, x: Value) -> Value:
    return b.convert(
        b.slice(b.iota(size=n, dtype=b.fill(1, (), "i64").dtype), starts=(0,), sizes=(n,), steps=(1,)), "f64"
    )


def case_loops_are_not_materialised_twice(b: Build, x: Value) -> Value:
    return b.add(b.exp(b.mul(x, x)), b.exp(b.mul(x, x)))


CASES = {name[5:]: f for name, f in globals().items() if name.startswith("case_")}


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, golden: Callable[..., None]) -> None:
    b = Build()
    x = b.input("f64[4,n]")
    graph: Graph = b.done(CASES[name](b, x))
    after = checked(graph, np.arange(1.0, 21.0).reshape(4, 5))
    golden(f"{print_graph(graph)}\n\n{print_graph(after)}")


def test_reads_of_long_chains_of_updates_are_linear_enough() -> None:
    b = Build()
    x = b.input("f64[400]")
    one = {"sizes": (1,), "steps": (1,)}
    y = x
    for i in range(1, 400):
        left, right = b.slice(y, starts=(i - 1,), **one), b.slice(y, starts=(399 - i,), **one)
        y = b.slice_update(y, b.add(left, right), starts=(i,), **one)
    after = run_pipeline(b.done(y))
    assert len(after) <= len(b.g)
