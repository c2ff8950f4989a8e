"""Control nodes: the evaluator runs them, the text form holds them, and the passes simplify them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stager.ops.control  # noqa: F401  # declares the ops
from stager.ir.dims import symbol
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, SymbolDef
from stager.ir.hash import structural_hash
from stager.ir.parse import parse_graph
from stager.ir.passes.dead import dead_code, dead_results
from stager.ir.passes.pipeline import run_pipeline, simplify, simplify_control
from stager.ir.text import print_graph
from stager.ir.verify import verify
from tests.ir.build import Build
from tests.ir.random_graphs import _Drawn
from tests.ir.test_passes import same_values


def body(*types: str, name: str = "body") -> tuple[Build, list[Any]]:
    b = Build(name)
    return b, [b.input(t) for t in types]


def checked(graph: Graph, *arrays: Any) -> Graph:
    """The graph after the passes, seen to be valid, equal in value, stable and printable."""
    verify(graph)
    assert structural_hash(parse_graph(print_graph(graph))) == structural_hash(graph)
    after = run_pipeline(graph)
    verify(after)
    same_values(evaluate_graph(graph, arrays), evaluate_graph(after, arrays), print_graph(after))
    again = run_pipeline(after)
    assert structural_hash(again) == structural_hash(after), print_graph(again)
    return after


def ops(graph: Graph) -> list[str]:
    return [n.op.name for n in graph.nodes if n.op.name != "input"]


X = np.array([1.0, -2.0, 0.5])


def loop(trips: int = 4) -> Graph:
    """x and y carried; y only counts, and nothing reads it behind the loop; two captures, one of them used twice."""
    r, (i, x, y, a, a2) = body("i64[]", "f64[3]", "f64[]", "f64[3]", "f64[3]")
    t = r.exp(r.mul(a, a2))
    region = r.done(r.add(r.mul(x, t), r.broadcast(r.convert(i, "f64"), shape=(3,), axes=())), r.add(y, r.fill(1.0)))
    b = Build()
    x0, a0, n = b.input("f64[3]"), b.input("f64[3]"), b.input("i64[]")
    upper = n if trips < 0 else b.fill(trips, (), "i64")
    out, _ = b.for_(b.fill(0, (), "i64"), upper, x0, b.fill(0.0), a0, a0, step=1, n_carry=2, regions=[region])
    return b.done(out)


def test_loop(golden) -> None:
    after = checked(loop(-1), X, X / 4, np.int64(5))
    golden(f"{print_graph(loop(-1))}\n\n{print_graph(after)}")


@pytest.mark.parametrize("trips", [0, 1])
def test_short_loops_are_unrolled(trips: int) -> None:
    assert "for" not in ops(checked(loop(trips), X, X / 4, np.int64(5)))


def test_carries_that_stay_are_captures() -> None:
    r, (_i, x, y, _z) = body("i64[]", "f64[3]", "f64[3]", "f64[]")
    region = r.done(r.add(x, y), y, r.fill(2.0))
    b = Build()
    x0, y0, n = b.input("f64[3]"), b.input("f64[3]"), b.input("i64[]")
    zero = b.fill(0, (), "i64")
    outs = b.for_(zero, n, x0, y0, b.fill(2.0), step=1, n_carry=3, regions=[region])
    after = checked(b.done(*outs), X, X, np.int64(3))
    (node,) = [n for n in after.nodes if n.op.name == "for"]
    assert node.params["n_carry"] == 1
    assert after.outputs[1].node is after.inputs[1].node


def test_carries_that_only_feed_dead_carries_of_a_nested_loop() -> None:
    inner, (_j, p, q) = body("i64[]", "f64[]", "f64[]", name="inner")
    inner.done(inner.add(p, inner.fill(1.0)), inner.add(q, p))
    outer, (_i, p, q, k) = body("i64[]", "f64[]", "f64[]", "i64[]", name="outer")
    zero = outer.fill(0, (), "i64")
    outer.done(*outer.for_(zero, k, p, q, step=1, n_carry=2, regions=[inner.g]))
    b = Build()
    x, n = b.input("f64[]"), b.input("i64[]")
    first, _ = b.for_(b.fill(0, (), "i64"), n, x, x, n, step=1, n_carry=2, regions=[outer.g])
    after = checked(b.done(first), np.float64(1.5), np.int64(3))
    (node,) = [n for n in after.nodes if n.op.name == "for"]
    assert node.params["n_carry"] == 1
    assert [n.params["n_carry"] for n in node.regions[0].nodes if n.op.name == "for"] == [1]


def test_while_and_what_its_condition_needs() -> None:
    c, (x, k, lim) = body("f64[3]", "i64[]", "i64[]", name="cond")
    cond = c.done(c.lt(k, lim))
    r, (x, k, lim) = body("f64[3]", "i64[]", "i64[]")
    region = r.done(r.mul(x, r.fill(2.0, (3,))), r.add(k, r.fill(1, (), "i64")))
    b = Build()
    x0, n = b.input("f64[3]"), b.input("i64[]")
    outs = b.while_(x0, b.fill(0, (), "i64"), n, n_carry=2, regions=[cond, region])
    after = checked(b.done(outs[0]), X, np.int64(4))
    (node,) = [n for n in after.nodes if n.op.name == "while"]
    assert node.params["n_carry"] == 2  # the counter is not returned but decides when to stop


@pytest.mark.parametrize("count", [2, 3])
def test_branches_of_little_arithmetic_are_selected(count: int) -> None:
    regions = []
    for k in range(count):
        r, (x, y) = body("f64[]", "f64[1]", name=f"branch{k}")
        scaled = r.mul(x, r.fill(float(k)))
        regions.append(r.done(scaled, r.div(y, r.reshape(scaled, shape=(1,)))))
    b = Build()
    k, x, y = b.input("i64[]"), b.input("f64[]"), b.input("f64[1]")
    graph = b.done(*b.switch(k, x, y, regions=regions))
    for index in range(-1, count + 1):
        after = checked(graph, np.int64(index), np.float64(3.0), X[:1])
    assert "switch" not in ops(after)


def test_branches_with_reads_or_dear_work_stay() -> None:
    def graph(read: bool) -> Graph:
        regions = []
        for k in range(2):
            r, (x, i) = body("f64[3]", "i64[]", name=f"branch{k}")
            s0 = r.value_symbol("s0", i)
            first = r.slice(x, starts=(s0 if read else 0,), sizes=(1,), steps=(1,))
            regions.append(r.done(r.add(first, first) if read else r.exp(first) if k else r.sin(first)))
        b = Build()
        x, i = b.input("f64[3]"), b.input("i64[]")
        return b.done(*b.switch(b.convert(b.lt(i, b.fill(3, (), "i64")), "i64"), x, i, regions=regions))

    # a position that only its branch may read is not read elsewhere
    assert "switch" in ops(run_pipeline(graph(read=True)))
    assert "switch" in ops(run_pipeline(graph(read=False)))


def test_while_false_and_switch_of_a_literal() -> None:
    c, _ = body("f64[3]", name="cond")
    r, (x,) = body("f64[3]")
    b = Build()
    x0 = b.input("f64[3]")
    (out,) = b.while_(x0, n_carry=1, regions=[c.done(c.fill(False, (), "b1")), r.done(r.sin(x))])
    branches = []
    for name in ("sin", "cos"):
        r, (x,) = body("f64[3]", name=name)
        branches.append(r.done(getattr(r, name)(x)))
    (chosen,) = b.switch(b.fill(7, (), "i64"), out, regions=branches)
    assert ops(checked(b.done(chosen), X)) == ["cos"]


def test_results_that_all_branches_share() -> None:
    branches = []
    for name in ("sin", "cos"):
        r, (x, y) = body("f64[3]", "f64[3]", name=name)
        branches.append(r.done(x, getattr(r, name)(y), r.fill(1.0)))
    b = Build()
    k, x0, y0 = b.input("i64[]"), b.input("f64[3]"), b.input("f64[3]")
    after = checked(b.done(*b.switch(k, x0, y0, regions=branches)), np.int64(1), X, X)
    (node,) = [n for n in after.nodes if n.op.name == "switch"]
    assert len(node.types) == 1
    assert len(node.args) == 2


def test_literal_captures_and_known_sizes_reach_the_region() -> None:
    r, (_i, x, k) = body("i64[]", "f64[4]", "i64[]")
    s = r.value_symbol("s", k)
    part = r.slice(x, starts=(0,), sizes=(s,), steps=(1,))
    region = r.done(r.slice_update(x, r.neg(part), starts=(0,), sizes=(s,), steps=(1,)))
    b = Build()
    x0, n = b.input("f64[4]"), b.input("i64[]")
    size = b.add(b.fill(1, (), "i64"), b.fill(1, (), "i64"))
    (out,) = b.for_(b.fill(0, (), "i64"), n, x0, size, step=1, n_carry=1, regions=[region])
    after = checked(b.done(out), np.arange(4.0), np.int64(3))
    (node,) = [n for n in after.nodes if n.op.name == "for"]
    assert not node.regions[0].symbols
    assert len(node.args) == 3


def test_symbols_that_are_captured() -> None:
    r, (_i, x, _n) = body("i64[]", "f64[n]", "i64[]")
    r.g.symbols["n"] = SymbolDef("value", 2)
    grown = r.exp(r.iota(size=symbol("n"), dtype=x.type.dtype))
    region = r.done(r.add(x, grown))
    b = Build()
    x0, m = b.input("f64[n]"), b.input("i64[]")
    (out,) = b.for_(b.fill(0, (), "i64"), m, x0, b.dim(dim=symbol("n")), step=1, n_carry=1, regions=[region])
    after = checked(b.done(out), X, np.int64(3))
    assert "exp" in ops(after)  # does not depend on the iteration


def test_checked_gathers_are_not_hoisted() -> None:
    r, (_i, x, table, k) = body("i64[]", "f64[]", "f64[3]", "i64[]")
    region = r.done(r.add(x, r.gather(table, k, axes=(0,), batch_dims=0, mode="check")))
    b = Build()
    table0, k0, n = b.input("f64[3]"), b.input("i64[]"), b.input("i64[]")
    (out,) = b.for_(b.fill(0, (), "i64"), n, b.fill(0.5), table0, k0, step=1, n_carry=1, regions=[region])
    after = checked(b.done(out), X, np.int64(99), np.int64(0))
    assert "gather" not in ops(after)


def test_effects_in_regions_stay_in_order() -> None:
    r, (i, x) = body("i64[]", "f64[]")
    r.check(r.lt(i, r.fill(3, (), "i64")), i, exception="ValueError", text="i is {0}")
    region = r.done(r.mul(x, x))
    b = Build()
    x0, n = b.input("f64[]"), b.input("i64[]")
    b.check(b.gt(n, b.fill(0, (), "i64")), n, exception="IndexError", text="n is {0}")
    b.for_(b.fill(0, (), "i64"), n, x0, step=1, n_carry=1, regions=[region])
    g = b.done(x0)
    after = checked(g, np.float64(2), np.int64(3))
    assert ops(after).count("for") == 1
    for graph in (g, after):
        with pytest.raises(ValueError, match="i is 3"):
            evaluate_graph(graph, [np.float64(2), np.int64(4)])
        with pytest.raises(IndexError, match="n is 0"):
            evaluate_graph(graph, [np.float64(2), np.int64(0)])


def test_map_runs_lanes() -> None:
    r, (lane, x) = body("i64[]", "f64[3]")
    region = r.done(r.gather(r.exp(x), lane, axes=(0,), batch_dims=0, mode="promise"), r.neg(x))
    b = Build()
    x0 = b.input("f64[3]")
    one, two = b.map_(x0, size=3, regions=[region])
    g = b.done(one, two)
    after = checked(g, X)
    assert ops(after)[0] == "exp"
    np.testing.assert_array_equal(evaluate_graph(g, [X])[0], np.exp(X))


STEPS = ("unary", "binary", "binary", "select", "reshape", "slice_update", "slice", "transpose", "broadcast", "reduce")


@st.composite
def loops(draw: Any) -> Graph:
    """A loop, while, map or switch with a random body over two carries and two captures."""
    kind = draw(st.sampled_from(["for", "while", "map", "switch"]))

    def region(name: str, own: int, outputs: int, condition: bool = False) -> Graph:
        d = _Drawn(draw)
        d.b = Build(name)
        inputs = [d.b.input("i64[]") for _ in range(own)]
        inputs += [d.b.input("f64[3]"), d.b.input("f64[3]"), d.b.input("f64[3]"), d.b.input("i64[]")]
        d.pool += inputs[own : own + 3]
        for _ in range(draw(st.integers(0, 7))):
            x = d.one_of(d.pool[-5:])
            if x.type.ndim and x.type.dtype.name == "f64" and x.type.size < 40:
                d.pool.append(getattr(d, d.one_of(STEPS))(x))
        fitting = [v for v in d.pool if str(v.type) == "f64[3]"]
        outs = [draw(st.sampled_from(fitting)) for _ in range(outputs)]
        if condition:
            small = d.b.lt(d.b.abs(d.b.reduce_sum(outs[0], axes=(0,))), d.b.fill(3.0))
            k = inputs[-1]
            return d.b.done(d.b.and_(small, d.b.lt(k, d.b.fill(0, (), "i64"))))
        return d.b.done(*outs)

    b = Build()
    x, y, n = b.input("f64[3]"), b.input("f64[3]"), b.input("i64[]")
    second = draw(st.sampled_from([y, b.fill(1.0, (3,)), x]))
    third = draw(st.sampled_from([y, x, b.fill(2.0, (3,))]))
    if kind == "for":
        lower = b.fill(0, (), "i64")
        outs = b.for_(lower, n, x, second, third, n, step=1, n_carry=2, regions=[region("body", 1, 2)])
    elif kind == "while":
        regions = [region("cond", 0, 1, condition=True), region("body", 0, 2)]
        outs = b.while_(x, second, third, n, n_carry=2, regions=regions)
    elif kind == "map":
        outs = b.map_(x, second, third, n, size=draw(st.integers(0, 2)), regions=[region("body", 1, 2)])
    else:
        outs = b.switch(n, x, second, third, n, regions=[region(f"branch{k}", 0, 2) for k in range(2)])
    return b.done(*draw(st.sampled_from([outs, outs[:1], outs[1:]])), x)


@pytest.mark.parametrize("run", [dead_code, dead_results, simplify_control, simplify, run_pipeline])
@given(data=st.data())
@settings(max_examples=40)
def test_random_control(run: Any, data: st.DataObject) -> None:
    graph = data.draw(loops())
    n = data.draw(st.integers(0, 3))
    verify(graph)
    after = run(graph)
    verify(after)
    arrays = [X, np.array([0.0, -0.0, np.inf]), np.int64(n)]
    same_values(evaluate_graph(graph, arrays), evaluate_graph(after, arrays), print_graph(graph) + print_graph(after))
    again = run(after)
    assert structural_hash(again) == structural_hash(after), (
        print_graph(graph) + print_graph(after) + print_graph(again)
    )
