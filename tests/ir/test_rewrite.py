"""The rewriter itself: what it keeps, shares and drops; the pipeline as a list."""

from __future__ import annotations

import gc
import time

import numpy as np
import pytest

from stager.ir import passes
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Location, Node, Signature
from stager.ir.op import op_named
from stager.ir.passes import pipeline
from stager.ir.passes.pipeline import PIPELINE, common_subexpressions, dead_code, run_pipeline
from stager.ir.rewrite import Rewriter, rebuild, rewrite
from stager.ir.verify import VerificationError, verify
from tests.ir.build import Build, chain


def names(graph: object) -> list[str]:
    return [n.op.name for n in graph.nodes if n.op.name != "input"]  # type: ignore[attr-defined]


def test_a_walk_that_changes_nothing_returns_the_graph() -> None:
    g = chain(10)
    assert rewrite(g, {}) is g
    assert run_pipeline(g) is g


def test_rebuild_keeps_everything_else() -> None:
    b = Build("named")
    x = b.input("f64[n]")
    b.g.meta["source"] = "text"
    s = b.g.add(Node(op_named("sin"), (x,), {}, (x.type,), (), Location("a.py", 3, "f"), ("grad",)))
    g = b.done(b.mul(s.outputs[0], x))
    g.signature = Signature(writes=((0, 0),))
    cosines = rebuild(g, lambda rw, node: rw.emit("cos", node.args[0]) if node.op.name == "sin" else None)
    verify(cosines)
    assert names(cosines) == ["cos", "mul"]
    (made, _) = [n for n in cosines.nodes if n.op.name != "input"]
    assert (made.loc, made.path) == (Location("a.py", 3, "f"), ("grad",))
    assert cosines.signature == g.signature
    assert cosines.name == "named"
    assert cosines.meta == g.meta
    assert cosines.symbols == g.symbols
    assert names(g) == ["sin", "mul"]


def test_equal_nodes_are_shared_unless_bits_differ() -> None:
    b = Build()
    x = b.input("f64[3]")
    zeros = [b.fill(0.0, (3,)), b.fill(-0.0, (3,)), b.fill(0, (3,)), b.fill(0.0, (3,), "f32")]
    one, other = b.constant([1.0, 2.0]), b.constant([1.0, 2.0])
    nan, another = b.fill(float("nan"), (3,)), b.fill(float("nan"), (3,))
    g = b.done(
        b.add(x, b.sin(x)), b.add(b.sin(x), x), b.sub(x, b.sin(x)), b.sub(b.sin(x), x), *zeros, one, other, nan, another
    )
    after = common_subexpressions(g)
    verify(after)
    o = after.outputs
    assert o[0] == o[1]
    assert o[2] != o[3]
    assert o[4] == o[6]
    assert len({v.node for v in o[4:8]}) == 3
    assert o[8] == o[9]
    assert o[10] == o[11]
    assert names(after).count("sin") == 1


def test_effects_are_neither_shared_nor_dropped() -> None:
    b = Build()
    x = b.input("i64[]")
    for _ in range(2):
        b.check(b.lt(x, b.fill(3, (), "i64")), x, exception="ValueError", text="{0}")
    b.sin(b.fill(1.0))
    after = run_pipeline(b.done(x))
    verify(after)
    assert names(after).count("check") == 2
    assert "sin" not in names(after)


def test_what_a_data_symbol_needs_stays() -> None:
    b = Build()
    x = b.input("f64[]")
    k = b.data_symbol("k", b.convert(b.floor(x), "i64"))
    b.data_symbol("unused", b.convert(b.ceil(x), "i64"))
    after = dead_code(b.done(b.fill(1.0, (k,))))
    verify(after)
    assert names(after) == ["floor", "convert", "fill"]
    assert set(after.symbols) == {"k"}
    assert evaluate_graph(after, [np.float64(2.5)])[0].shape == (2,)


def test_a_data_symbol_that_is_known_becomes_its_number() -> None:
    b = Build()
    k = b.data_symbol("k", b.convert(b.add(b.fill(1.0), b.fill(2.0)), "i64"))
    v = b.fill(1.0, (k,))
    after = run_pipeline(b.done(b.mul(v, b.exp(v))))
    verify(after)
    assert not after.symbols
    assert [str(t) for t in after.output_types] == ["f64[3]"]


def test_a_rule_that_changes_a_type_is_refused() -> None:
    b = Build()
    x = b.input("f64[3]")
    g = b.done(b.sin(x))

    def wrong(rw: Rewriter, node: Node) -> object:
        return rw.fill(0.0, b.fill(0.0, (2,)).type)

    with pytest.raises(AssertionError, match=r"internal error: .* replaces <sin"):
        rewrite(g, {"sin": (wrong,)})  # type: ignore[dict-item]


def test_pipeline_is_a_list_of_named_passes() -> None:
    timings: dict[str, float] = {}
    b = Build()
    x = b.input("f64[3]")
    g = b.done(b.mul(x, b.fill(1.0, (3,))))
    assert names(run_pipeline(g, timings=timings)) == []
    assert list(timings) == [p.name for p in PIPELINE]
    assert names(run_pipeline(g, stop_after="dead_code")) == ["fill", "mul"]
    with pytest.raises(ValueError, match="no pass is called 'fuse'; the passes are dead_code, simplify"):
        run_pipeline(g, stop_after="fuse")


def test_verifier_runs_between_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def damage(graph: object, fast_math: bool) -> object:
        graph.inputs.append(graph.inputs[0])  # type: ignore[attr-defined]
        return graph

    assert passes.VERIFY
    monkeypatch.setattr(pipeline, "PIPELINE", (pipeline.Pass("damage", damage, ""),))  # type: ignore[arg-type]
    with pytest.raises(VerificationError, match="after the pass damage"):
        run_pipeline(chain(3))
    monkeypatch.setattr(passes, "VERIFY", False)
    run_pipeline(chain(3))


def test_ten_thousand_nodes_take_linear_time() -> None:
    def seconds(length: int) -> float:
        b = Build()
        x = y = b.input("f64[n]")
        for i in range(length // 4):
            y = b.add(b.mul(b.neg(b.neg(y)), b.fill(1.0, ("n",))), x if i % 2 else b.fill(float(i), ("n",)))
        g = b.done(y)
        gc.collect()
        gc.disable()  # a collection looks at what all tests before have left
        try:
            start = time.process_time()
            run_pipeline(g)
            return time.process_time() - start
        finally:
            gc.enable()

    seconds(400)  # prepares the tables
    small, large = min(seconds(1000) for _ in range(3)), seconds(10_000)
    assert large < 3  # 0.3 s on an idle core, the verifier included
    assert large < 30 * small
