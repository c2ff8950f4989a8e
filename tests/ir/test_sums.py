"""The pass `early_sums`: rows are walked once less in backward passes, and a user's own sums stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, Value
from stager.ir.op import op_named
from stager.ir.passes.pipeline import run_pipeline
from stager.ir.passes.sums import split_sums
from stager.ir.verify import verify
from stager.transforms.shapes import trace_types
from tests.ir.build import Build


def layernorm(x: Any, g: Any, b: Any, t: Any) -> Any:
    c = x - np.mean(x, axis=-1, keepdims=True)
    return np.sum((c / np.sqrt(np.mean(c * c, axis=-1, keepdims=True) + 1e-5) * g + b) * t)


def batchnorm(x: Any, t: Any) -> Any:
    return np.sum((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-3) * t)


def standardized(x: Any, t: Any) -> Any:
    return np.sum(((x - np.mean(x)) / np.std(x) - t) ** 2)


def correlation(x: Any, y: Any) -> Any:
    a, b = x - np.mean(x), y - np.mean(y)
    return np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b))


CASES: dict[str, tuple[Callable[..., Any], tuple[str, ...], int, int]] = {  # and rounds without the pass, with it
    "layernorm": (layernorm, ("f64[6,16]", "f64[16]", "f64[16]", "f64[6,16]"), 4, 3),
    "batchnorm": (batchnorm, ("f64[16,6]", "f64[16,6]"), 4, 3),
    "standardized": (standardized, ("f64[40]", "f64[40]"), 4, 3),
    "correlation": (correlation, ("f64[40]", "f64[40]"), 3, 2),
}
ALL = pytest.mark.parametrize("name", CASES)


def rounds(graph: Graph) -> int:
    """The longest chain of reductions."""
    found: dict[Any, int] = {}
    for n in graph.nodes:
        found[n] = max([found[a.node] for a in n.args], default=0) + (n.op.family == "reduction")
    return max(found.values())


def before(f: Callable[..., Any], specs: Sequence[str]) -> Graph:
    return run_pipeline(trace_types(f, specs, {}).graph, stop_after="trim_control")


def arrays(graph: Graph, rng: Any) -> list[Any]:
    return [rng.standard_normal(t.shape).astype(t.dtype.np) for t in graph.input_types]


@ALL
@pytest.mark.parametrize("width", ["f64", "f32"])
def test_a_round_is_saved_and_the_values_stay(name: str, width: str, rng: Any) -> None:
    f, specs, without, best = CASES[name]
    argnums = tuple(range(len(specs) - (name in ("batchnorm", "standardized"))))
    graph = before(st.grad(f, argnums=argnums), [s.replace("f64", width) for s in specs])
    after = split_sums(graph)
    verify(after)
    assert (rounds(graph), rounds(after)) == (without, best)
    assert split_sums(after) is after
    args = arrays(graph, rng)
    tolerance = 1e-12 if width == "f64" else 1e-4
    for want, got in zip(evaluate_graph(graph, args), evaluate_graph(after, args), strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@ALL
def test_what_the_user_wrote_stays(name: str) -> None:
    f, specs, _, _ = CASES[name]
    for g in (f, lambda *args: st.jvp(f, args, args)):
        graph = before(g, specs)
        assert split_sums(graph) is graph


def test_sizes_without_a_number() -> None:
    graph = before(st.grad(batchnorm), ["f64[n,6]", "f64[n,6]"])
    assert rounds(split_sums(graph)) == 3


def test_a_walk_that_another_sum_needs_is_kept() -> None:
    """Moving one of two sums in front of it would read its operands twice."""
    b = Build()
    x, y = b.input("f64[6,16]"), b.input("f64[6,16]")
    backward = {"path": ("grad", "backward")}

    def total(v: Value) -> Value:
        return b.builder.emit(op_named("reduce_sum"), (v,), {"axes": (1,)}, **backward)[0]

    def wide(v: Value) -> Value:
        return b.broadcast(v, shape=x.type.shape, axes=(0,))

    first = total(x)
    split = total(b.mul(y, wide(first)))
    needed = total(b.exp(b.mul(y, wide(first))))
    assert split_sums(graph := b.done(split, needed)) is graph
    b.g.outputs = [split]
    after = run_pipeline(b.g)
    assert rounds(after) == 1
    assert all(n.op.name != "broadcast" for n in after.nodes)


def test_terms_that_are_alike_count_as_often_as_they_stand(rng: Any) -> None:
    def f(x: Any, t: Any) -> Any:
        return np.sum(np.mean(x * t) * x + np.mean(x) * t)

    graph = before(st.grad(lambda x, t: f(np.sum(x) + x, t)), ["f64[12]", "f64[12]"])
    after = split_sums(graph)
    args = arrays(graph, rng)
    np.testing.assert_allclose(evaluate_graph(after, args)[0], evaluate_graph(graph, args)[0], rtol=1e-12)
    st.testing.check_grads(lambda x: f(np.sum(x) + x, args[1]), (args[0],), order=2)


def test_negatives_are_summed_as_what_they_negate() -> None:
    """Of cotangents: the sum of x and that of -x are one then."""
    b = Build()
    x = b.input("f64[6,16]")
    mark = {"path": ("grad", "backward")}
    outs = [b.builder.emit(op_named("reduce_sum"), (v,), {"axes": (1,)}, **mark)[0] for v in (x, b.neg(x))]
    after = run_pipeline(b.done(*outs))
    assert sum(n.op.name == "reduce_sum" for n in after.nodes) == 1
    own = Build()
    y = own.input("f64[6,16]")
    graph = own.done(own.reduce_sum(own.neg(y), axes=(1,)))
    assert run_pipeline(graph) is graph


def marked(b: Build, op: str, *args: Value, **params: Any) -> Value:
    """A node of the backward pass."""
    return b.builder.emit(op_named(op), args, params, path=("grad", "backward"))[0]


def test_what_is_repeated_is_multiplied() -> None:
    """Of cotangents; the user's own sum rounds as NumPy's does."""
    for axes, kept in (((0,), "f64[5,6]"), ((0, 2), "f64[5]")):
        b = Build()
        x = b.input("f64[5]")
        wide = b.broadcast(x, shape=(3, 5, 6), axes=(1,))
        after = run_pipeline(b.done(marked(b, "reduce_sum", wide, axes=axes)))
        assert all(n.op.name != "reduce_sum" for n in after.nodes)
        assert str(after.outputs[0].type) == kept
        v = np.arange(5.0) + 0.1
        np.testing.assert_allclose(evaluate_graph(after, [v]), evaluate_graph(b.g, [v]), rtol=1e-15)
        b.g.outputs = [b.reduce_sum(wide, axes=axes)]
        assert sum(n.op.name == "reduce_sum" for n in run_pipeline(b.g).nodes) == 1
    b = Build()
    x = b.input("f64[5,1]")
    graph = b.done(marked(b, "reduce_sum", b.broadcast(x, shape=(5, 6), axes=(0, 1)), axes=(0,)))
    assert sum(n.op.name == "reduce_sum" for n in run_pipeline(graph).nodes) == 1, "one axis is x's own"


@pytest.mark.parametrize(("c", "d", "joined"), [(3.0, -0.5, True), (1e-200, 1e-200, False), (1e200, 1e200, False)])
def test_literals_that_scale_a_cotangent_meet(c: float, d: float, joined: bool) -> None:
    b = Build()
    x = b.input("f64[5]")
    once = marked(b, "mul", x, b.fill(c, (5,)))
    graph = b.done(marked(b, "mul", once, b.fill(d, (5,))))
    assert sum(n.op.name == "mul" for n in run_pipeline(graph).nodes) == (1 if joined else 2)
    b.g.outputs = [b.mul(b.mul(x, b.fill(c, (5,))), b.fill(d, (5,)))]
    assert sum(n.op.name == "mul" for n in run_pipeline(b.g).nodes) == 2, "the user's own"
