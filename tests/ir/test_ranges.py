"""Ranges of indices: checks that cannot fail go, checks that can fail stay and fail as before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.ir.dims import symbol
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, SymbolDef, Value
from stager.ir.passes.pipeline import run_pipeline
from stager.ir.ranges import known_at_least, range_of, within
from stager.ir.text import print_graph
from stager.ir.verify import verify
from tests.ir.build import Build

n = symbol("n")


def reading(lower: Any, upper: Any, step: int, offset: int, type: str = "f64[n]", mode: str = "check") -> Graph:
    """The sum of x[i + offset] over a loop; bounds are ints, or (k,) for n + k."""
    r = Build("body")
    i, total, x = r.input("i64[]"), r.input("f64[]"), r.input(type)
    if "n" in type:
        r.g.symbols["n"] = SymbolDef("value", r.g.inputs.index(r.input("i64[]")))
    index = i if offset == 0 else r.add(i, r.fill(offset, (), "i64"))
    r.done(r.add(total, r.gather(x, index, axes=(0,), batch_dims=0, mode=mode)))
    b = Build()
    x0 = b.input(type)
    bounds = [b.dim(dim=n + v[0]) if isinstance(v, tuple) else b.fill(v, (), "i64") for v in (lower, upper)]
    captures = [x0, b.dim(dim=n)] if "n" in type else [x0]
    return b.done(*b.for_(*bounds, b.fill(0.0), *captures, step=step, n_carry=1, regions=[r.g]))


def modes(graph: Graph) -> set[str]:
    found = {node.params["mode"] for node in graph.nodes if "mode" in node.params}
    return found.union(*[modes(region) for node in graph.nodes for region in node.regions])


@pytest.mark.parametrize(
    ("lower", "upper", "step", "offset", "mode"),
    [
        (0, (0,), 1, 0, "slice"),
        (1, (0,), 1, -1, "slice"),
        (0, (-1,), 1, 1, "slice"),
        (2, (0,), 3, -2, "slice"),
        ((-1,), -1, -1, 0, "slice"),
        ((-1,), 0, -2, -1, "slice"),
        (0, (0,), 1, 1, "check"),  # one too far
        (0, (0,), 1, -1, "check"),  # -1 wraps
        (0, (1,), 1, 0, "check"),
        ((0,), 0, -1, 0, "check"),  # starts one too far
        ((-1,), -2, -1, 0, "check"),  # ends at -1
    ],
)
def test_loops_over_an_axis(lower: Any, upper: Any, step: int, offset: int, mode: str) -> None:
    graph = reading(lower, upper, step, offset)
    after = run_pipeline(graph)
    verify(after)
    assert modes(after) == ({mode} - {"slice"}), print_graph(after)  # what is in bounds became a slice


@given(st.integers(-3, 8), st.integers(-3, 8), st.sampled_from([-3, -2, -1, 1, 2, 3]), st.integers(-3, 3))
def test_the_same_result_or_the_same_error(lower: int, upper: int, step: int, offset: int) -> None:
    graph = reading(lower, upper, step, offset, "f64[5]")
    x = np.arange(5.0) + 1

    def outcome(g: Graph) -> Any:
        try:
            return evaluate_graph(g, [x])[0].item()
        except IndexError as e:
            return str(e)

    assert outcome(run_pipeline(graph)) == outcome(graph)


def test_triangular_loops() -> None:
    """for i in range(n): for j in range(i): x[j] + x[i]"""
    inner = Build("inner")
    j, total, x = inner.input("i64[]"), inner.input("f64[]"), inner.input("f64[n]")
    i, size = inner.input("i64[]"), inner.input("i64[]")
    inner.g.symbols["n"] = SymbolDef("value", 4)
    where = {"axes": (0,), "batch_dims": 0, "mode": "check"}
    inner.done(inner.add(inner.add(total, inner.gather(x, j, **where)), inner.gather(x, i, **where)))
    del size
    outer = Build("outer")
    i, total, x, size = outer.input("i64[]"), outer.input("f64[]"), outer.input("f64[n]"), outer.input("i64[]")
    outer.g.symbols["n"] = SymbolDef("value", 3)
    zero = outer.fill(0, (), "i64")
    outer.done(*outer.for_(zero, i, total, x, i, size, step=1, n_carry=1, regions=[inner.g]))
    b = Build()
    x0 = b.input("f64[n]")
    count = b.dim(dim=n)
    g = b.done(*b.for_(b.fill(0, (), "i64"), count, b.fill(0.0), x0, count, step=1, n_carry=1, regions=[outer.g]))
    after = run_pipeline(g)
    verify(after)
    assert modes(after) == set(), print_graph(after)
    data = [np.array([1.0, 2.0, 4.0, 8.0])]
    assert evaluate_graph(after, data)[0] == evaluate_graph(g, data)[0]


def test_a_condition_that_the_range_decides() -> None:
    r = Build("body")
    i, total = r.input("i64[]"), r.input("f64[]")
    inside = r.and_(r.ge(i, r.fill(0, (), "i64")), r.lt(i, r.fill(7, (), "i64")))
    r.done(r.select(inside, r.add(total, r.fill(1.0)), r.fill(np.nan)))
    b = Build()
    out = b.for_(b.fill(0, (), "i64"), b.fill(7, (), "i64"), b.input("f64[]"), step=1, n_carry=1, regions=[r.g])
    (body,) = [region for node in run_pipeline(b.done(*out)).nodes for region in node.regions]
    assert [node.op.name for node in body.nodes] == ["input", "input", "fill", "add"]


RANGES = {
    "iota": (lambda b, i: b.iota(size=n, dtype=i.type.dtype), (0, n - 1)),
    "shifted": (lambda b, i: b.add(b.fill(2, (), "i64"), b.sub(i, b.fill(1, (), "i64"))), (1, 5)),
    "scaled": (lambda b, i: b.mul(i, b.fill(-3, (), "i64")), (-12, 0)),
    "mod": (lambda b, i: b.mod(i, b.fill(4, (), "i64")), (0, 3)),
    "clipped": (lambda b, i: b.maximum(b.minimum(i, b.fill(3, (), "i64")), b.fill(1, (), "i64")), (1, 3)),
    "constant": (lambda b, i: b.constant([5, -1, 3]), (-1, 5)),
    "select": (lambda b, i: b.select(b.lt(i, i), i, b.fill(9, (), "i64")), (0, 9)),
    "bool": (lambda b, i: b.convert(b.lt(i, i), "i64"), (0, 1)),
    "product": (lambda b, i: b.mul(i, i), (None, None)),
    "narrowed": (lambda b, i: b.convert(b.convert(i, "i8"), "i64"), (None, None)),
    "huge": (lambda b, i: b.fill(2**63 - 1, (), "i64"), (None, None)),
}


@pytest.mark.parametrize("name", RANGES)
def test_range_of(name: str) -> None:
    b = Build()
    i = b.input("i64[]")
    make, expected = RANGES[name]
    v: Value = make(b, i)
    assert range_of(v, {0: (0, 4)}) == expected


def test_within() -> None:
    assert within((0, n - 1), n)
    assert within((1, n - 2), n)
    assert within((0, 4), 5)
    assert not within((-1, 4), 5)
    assert not within((0, n), n)
    assert not within((None, 4), 5)
    assert not within((0, 4), n)


def test_a_symbol_that_another_bounds_is_settled_first() -> None:
    """With q from p + 1 on, q - p is at least 1; p at its greatest and q at its least together would say less."""
    p, q = symbol("p"), symbol("q")
    ranges: dict[str, Any] = {"p": (0, 38), "q": (p + 1, 39)}
    assert known_at_least(320 * q, 320 * p + 320, ranges)
    assert known_at_least(q, p + 1, ranges)
    assert not known_at_least(q, p + 2, ranges)
    assert known_at_least(p + 39, q, ranges)
