"""What straight-line code keeps in memory for later kernels: the cheapest choice, by a minimum cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen import lower, region, remat
from stager.codegen.program import Nest, Routine
from stager.codegen.pull import value_key
from stager.codegen.remat import choose
from stager.ir.graph import Graph, Value
from stager.pipeline import generate, optimize
from stager.transforms.shapes import trace_types


def optimized(f: Callable[..., Any], *specs: str) -> Graph:
    return optimize(trace_types(f, specs, {}).graph)


def chosen(graph: Graph) -> dict[str, bool]:
    """The choice by the name of the op."""
    nodes = list(graph.nodes)
    found = choose(nodes, graph.outputs, lower.WEIGHTS, lower.DEAR)
    return {n.op.name: found[value_key(Value(n))] for n in nodes if value_key(Value(n)) in found}


def traffic(graph: Graph) -> int:
    """Bytes of temporaries that kernels store and load."""
    total = 0
    for step in generate(graph).program.steps:
        if isinstance(step, Nest):
            for stage in step.stages():
                buffers = [b for b, _ in stage.loads] + [s.buffer for s in stage.stores]
                buffers += [r.buffer for r in stage.reductions]
                temporary = {id(b.storage): b.storage for b in buffers if b.storage.kind == "temp"}
                total += sum(int(x.nbytes) for x in temporary.values())
    return total


def chain(x: Any, w: Any) -> Any:
    """A chain of cheap steps, then a product that its backward pass waits for."""
    h = x
    for k in range(4):
        h = h * h * 0.3 + h * 0.1 - 0.2 * k
    return ((h @ w) ** 2).sum()


SPECS = ("f64[256,128]", "f64[128,64]")


def test_a_chain_of_cheap_steps_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = optimized(st.grad(chain), *SPECS)
    ours = traffic(graph)
    monkeypatch.setattr(lower, "choose", lambda *args: {})
    by_weight = traffic(graph)
    array = 256 * 128 * 8
    assert by_weight - ours == 2 * array, "one array less is stored, and loaded"


def test_backward_of_a_chain_is_one_pass_over_its_data() -> None:
    program = generate(optimized(st.grad(chain), *SPECS)).program
    kernels = [s for s in program.steps if isinstance(s, Nest)]
    assert sum(isinstance(s, Routine) for s in program.steps) == 2
    backward = kernels[-1]
    (stage,) = backward.stages()
    arrays = [b.storage.name for b, _ in stage.loads]
    assert len(arrays) == len(set(arrays)) == 2, "x and the cotangent of the product"
    assert len(kernels) == 3, "the chain, the square's derivative, and all the way back"


def powers(x: Any) -> Any:
    """Four cheap steps."""
    for k in (0, 1, 2, 3):
        x = x * x * 0.3 + x * 0.1 - 0.2 * k
    return x


def before_a_loop(x: Any, w: Any) -> Any:
    y = powers(x) @ w
    s = y
    for _ in range(20):
        s = np.tanh(s) * 0.5 + y
    return (s**2).sum()


def in_a_loop(x: Any, w: Any) -> Any:
    s = x * 0.5
    for _ in range(20):
        s = powers(s) @ w @ w.T * 0.01
    return (s**2).sum()


def temporaries(graph: Graph) -> int:
    return sum(int(s.nbytes) for s in generate(graph).program.storages if s.kind == "temp")


@pytest.mark.parametrize("f", [before_a_loop, in_a_loop])
def test_graphs_with_loops_are_cut_too(f: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Around loops, whose operands and results are in memory, and inside of their bodies."""
    graph = optimized(st.grad(f), *SPECS)
    assert sum(n.op.name == "for" for n in graph.nodes) == 2, "forward and backward"
    ours = temporaries(graph)
    for module in (lower, region):
        monkeypatch.setattr(module, "choose", lambda *args: {})
    assert temporaries(graph) - ours >= 256 * 128 * 8, "an array less is kept"


@pytest.mark.parametrize("f", [before_a_loop, in_a_loop])
def test_results_with_loops_do_not_depend_on_the_choice(
    f: Callable[..., Any], rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, w = rng.uniform(-1, 1, (20, 12)), rng.uniform(-1, 1, (12, 6))
    st.testing.check_grads(f, (x, w), order=1)
    got = st.compile(st.grad(f, argnums=(0, 1)))(x, w)
    for module in (lower, region):
        monkeypatch.setattr(module, "choose", lambda *args: {})
    monkeypatch.setenv("STAGER_CACHE", "0")
    want = st.compile(st.grad(lambda x, w: f(x, w) + 0.0, argnums=(0, 1)))(x, w)
    for g, v in zip(got, want, strict=True):
        np.testing.assert_allclose(g, v, rtol=1e-12, atol=1e-13)


def test_dear_values_are_stored() -> None:
    found = chosen(optimized(lambda x, w: (np.exp(x) @ w) @ w.T + np.exp(x) * 3.0, *SPECS))
    assert found == {"exp": True, "mul": False}


def test_one_sum_is_stored_instead_of_its_terms() -> None:
    def f(x: Any, y: Any, w: Any) -> Any:
        s = np.exp(x) + np.sin(y)
        return ((s @ w) @ w.T) * s

    found = chosen(optimized(f, "f64[64,64]", "f64[64,64]", "f64[64,32]"))
    assert found == {"add": True}


def test_code_without_barriers_is_left_to_the_rule_of_weights() -> None:
    assert chosen(optimized(lambda x: np.exp(x) * np.sin(np.exp(x)), "f64[100]")) == {}
    assert chosen(optimized(lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True), "f64[8,100]")) == {}


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_results_do_not_depend_on_the_choice(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.uniform(-1, 1, (40, 24)).astype(dtype), rng.uniform(-1, 1, (24, 8)).astype(dtype)
    got = st.compile(st.grad(chain, argnums=(0, 1)))(x, w)
    monkeypatch.setattr(lower, "choose", lambda *args: {})
    monkeypatch.setenv("STAGER_CACHE", "0")
    want = st.compile(st.grad(lambda x, w: chain(x, w) + 0.0, argnums=(0, 1)))(x, w)
    for g, v in zip(got, want, strict=True):
        np.testing.assert_allclose(g, v, rtol=1e-12 if dtype == "f8" else 1e-4, atol=1e-12 if dtype == "f8" else 1e-5)
    assert remat.LOAD + remat.STORE == lower.DEAR


def test_a_gather_that_takes_little_computes_it() -> None:
    """Rows at a border of an array that no one else reads whole: the array is never stored."""

    def taken(x: Any, k: Any) -> Any:
        return ((x * x + 1.0) * x - x / 3.0)[k]

    assert traffic(optimized(taken, "f64[5000]", "i64[20]")) == 0
    assert traffic(optimized(taken, "f64[5000]", "i64[3000]")) > 0
    x, k = np.random.default_rng(0).standard_normal(5000), np.array([0, 7, -1, 4999])
    np.testing.assert_allclose(st.compile(taken)(x, k), taken(x, k), rtol=1e-14)
    with pytest.raises(IndexError, match="index 5000 is out of bounds"):
        st.compile(taken)(x, np.array([1, 5000, 2, 3]))
