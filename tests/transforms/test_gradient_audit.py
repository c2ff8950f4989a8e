"""Gradients of ordinary functions, as users write them: right, and without work that a person would leave out.

Each function is differentiated with its value, so that forward and backward are one graph. What is looked for in the
optimised graph is in `waste`; which kernels may do nothing but move elements stands with the function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.program import Nest
from stager.ir.core_ops import fill_op
from stager.ir.graph import Graph, Node, Value
from stager.pipeline import generate, optimize
from stager.transforms.shapes import trace_types

VIEWS = ("reshape", "transpose", "broadcast", "slice", "convert")


@dataclass(frozen=True)
class Case:
    f: Callable[..., Any]
    specs: tuple[str, ...]
    argnums: tuple[int, ...]
    moves: int  # kernels that only move or fill


CASES: dict[str, Case] = {}


def case(*specs: str, argnums: tuple[int, ...] = (0,), moves: int = 0) -> Callable[[Callable[..., Any]], None]:
    def add(f: Callable[..., Any]) -> None:
        CASES[f.__name__] = Case(f, specs, argnums, moves)

    return add


@case("f64[12,7]", "f64[7]", "i64[12]", argnums=(0, 1))
def cross_entropy_of_labels(x: Any, b: Any, y: Any) -> Any:
    z = x + b
    z = z - z.max(axis=1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -np.mean(np.take_along_axis(logp, y[:, None], axis=1))


@case("f64[12,7]", "f64[7,5]", argnums=(0, 1))
def relu_layer(x: Any, w: Any) -> Any:
    return np.sum(np.maximum(x @ w, 0.0) ** 2)


@case("f64[40]")
def softplus(x: Any) -> Any:
    return np.sum(np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0))


@case("f64[8,7]")
def logsumexp(x: Any) -> Any:
    m = np.max(x, axis=-1, keepdims=True)
    return np.sum(np.log(np.sum(np.exp(x - m), axis=-1)) + m[:, 0])


@case("f64[12,7]")
def variance(x: Any) -> Any:
    return np.sum(np.var(x, axis=0) * np.arange(7.0))


@case("f64[12,7]")
def deviation(x: Any) -> Any:
    return np.std(x)


@case("f64[20]", "f64[20]", argnums=(0, 1))
def cosine(x: Any, y: Any) -> Any:
    return np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y))


@case("f64[6,5]", "f64[9,5]", argnums=(0, 1))
def gaussian_kernel(x: Any, y: Any) -> Any:
    return np.sum(np.exp(-0.1 * np.sum((x[:, None] - y[None]) ** 2, axis=-1)))


@case("f64[6,5]", "f64[9,5]", argnums=(0, 1))
def distances_by_a_product(x: Any, y: Any) -> Any:
    return np.sum(np.sqrt(9.0 + np.sum(x * x, 1)[:, None] + np.sum(y * y, 1)[None] - 2 * x @ y.T))


@case("f64[30]", "f64[5]", argnums=(0, 1), moves=2)
def convolution(x: Any, k: Any) -> Any:
    return np.sum(np.tanh(np.lib.stride_tricks.sliding_window_view(x, 5) @ k))


@case("f64[8,8,4]")
def max_pooling(x: Any) -> Any:
    return np.sum(x.reshape(4, 2, 4, 2, 4).max(axis=(1, 3)) ** 2)


@case("f64[8,8,4]")
def mean_pooling(x: Any) -> Any:
    return np.sum(x.reshape(4, 2, 4, 2, 4).mean(axis=(1, 3)) ** 2)


@case("f64[20]")
def running_sums(x: Any) -> Any:
    return np.sum(np.cumsum(x) ** 2)


@case("f64[20]")
def clipped(x: Any) -> Any:
    return np.sum(np.clip(x, -1, 1) * x)


@case("f64[20]")
def huber(x: Any) -> Any:
    a = np.abs(x)
    return np.sum(np.where(a < 1, 0.5 * x * x, a - 0.5))


@case("f64[12]", "f64[12,12]", argnums=(0, 1))
def quadratic_form(x: Any, a: Any) -> Any:
    return x @ a @ x


@case("f64[24,7]", "f64[7]", "f64[7]", argnums=(0, 1, 2))
def batch_norm(x: Any, g: Any, b: Any) -> Any:
    m = x.mean(axis=0)
    v = ((x - m) ** 2).mean(axis=0)
    return np.sum(np.tanh((x - m) / np.sqrt(v + 1e-5) * g + b))


@case("f64[12,7]", "f64[7]", argnums=(0, 1))
def rms_norm(x: Any, g: Any) -> Any:
    return np.sum(np.tanh(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6) * g))


@case("f64[2,8,4]", "f64[2,8,4]", "f64[2,8,4]", argnums=(0, 1, 2))
def causal_attention(q: Any, k: Any, v: Any) -> Any:
    s = np.einsum("bid,bjd->bij", q, k) / 2.0
    s = np.where(np.tril(np.ones((8, 8), bool)), s, -1e9)
    e = np.exp(s - s.max(-1, keepdims=True))
    return np.sum((e / e.sum(-1, keepdims=True) @ v) ** 2)


@case("f64[5,6]", "f64[7,6]", argnums=(0, 1), moves=2)
def concatenated(x: Any, y: Any) -> Any:
    return np.sum(np.concatenate([x, y]) ** 2 * 0.5)


@case("f64[10]", "f64[10]", argnums=(0, 1), moves=2)
def stacked(x: Any, y: Any) -> Any:
    return np.sum(np.stack([x, y, x * y]) ** 2)


@case("f64[30,30]")
def laplacian(u: Any) -> Any:
    return np.sum((u[1:-1, 2:] + u[1:-1, :-2] + u[2:, 1:-1] + u[:-2, 1:-1] - 4 * u[1:-1, 1:-1]) ** 2)


@case("f64[30]")
def tiled(x: Any) -> Any:
    return np.sum(np.sin(np.tile(x, 4)))


@case("f64[30]")
def polynomial(x: Any) -> Any:
    return np.sum(((2 * x + 1) * x - 3) * x + 5)


@case("f64[30]", "f64[30]", "f64[30]", argnums=(0, 1))
def gaussian_likelihood(mu: Any, s: Any, y: Any) -> Any:
    return np.mean(s + 0.5 * ((y - mu) / np.exp(s)) ** 2)


@case("f64[30]", "f64[30]")
def divergence(p: Any, q: Any) -> Any:
    a = np.exp(p - p.max())
    a = a / a.sum()
    return np.sum(a * (np.log(a) - q))


@case("f64[12,8]", "f64[8,9]", "f64[9,5]", argnums=(0, 1, 2))
def chain_of_products(a: Any, b: Any, c: Any) -> Any:
    return np.sum((a @ b @ c) ** 2)


@case("f64[12,8]")
def transposes(a: Any) -> Any:
    return np.sum((a.T * 2).T * np.swapaxes(a.T, 0, 1))


@case("f64[12,8]", "f64[12]", argnums=(0, 1))
def scaled_rows(x: Any, s: Any) -> Any:
    return np.sum(np.tanh(x * s[:, None]))


@case("f64[20,4]", "i64[30]", "i64[30]", moves=1)
def springs(x: Any, i: Any, j: Any) -> Any:
    return np.sum(np.sqrt(np.sum((x[i] - x[j]) ** 2, axis=1) + 1e-3))


@case("f64[9,6]", moves=2)
def first_columns(x: Any) -> Any:
    return np.sum((x / np.linalg.norm(x, axis=1, keepdims=True))[:, :3] ** 3)


ALL = pytest.mark.parametrize("name", CASES)


def optimized(c: Case) -> Graph:
    return optimize(trace_types(st.value_and_grad(c.f, argnums=c.argnums), c.specs, {}).graph)


def literal(v: Value) -> Any:
    return v.node.params["value"] if v.node.op is fill_op else None


def scales(n: Node) -> bool:
    return n.op.name == "mul" and any(literal(a) is not None for a in n.args)


def waste(n: Node) -> Iterator[str]:
    """What a node does that could be left out."""
    name, args = n.op.name, n.args
    operands = [a.node for a in args]
    if name in ("mul", "div") and any(literal(a) == 1 for a in (args if name == "mul" else args[1:])):
        yield "multiplies by ones"
    if name == "mul" and any(literal(a) in (0, -1) for a in args):
        yield "multiplies by zeros or minus one"
    if name in ("add", "sub") and n.in_backward and any(literal(a) == 0 for a in args):
        yield "adds zeros"
    if name in (*VIEWS, "neg", "not_") and operands[0].op is n.op:
        yield f"{name} of {name}"
    if name == "dot" and any(x.op.name == "transpose" for x in operands):
        yield "transposes for a product"
    if name == "reduce_sum" and n.in_backward and operands[0].op.name in ("broadcast", "fill", "neg"):
        yield f"sums what {operands[0].op.name} gives"
    if scales(n) and n.in_backward and any(scales(x) and x.in_backward for x in operands):
        yield "scales twice"
    if name == "select" and args[1] == args[2]:
        yield "selects between equals"


@ALL
def test_nothing_is_done_that_could_be_left_out(name: str) -> None:
    graph = optimized(CASES[name])
    assert [(n.op.name, w) for n in graph.nodes for w in waste(n)] == []
    program = generate(graph).program
    leaves = [leaf for s in program.steps if isinstance(s, Nest) for leaf in s.leaves]
    moves = [x for x in leaves if x.loops and x.stage.ops() == 0 and not x.stage.reductions]
    assert len(moves) <= CASES[name].moves
    stored = {id(x.buffer.storage) for leaf in leaves for x in (*leaf.stage.stores, *leaf.stage.reductions)}
    loaded = {id(b.storage) for leaf in leaves for b, _ in leaf.stage.loads}
    given = {id(b.storage) for s in program.steps if not isinstance(s, Nest) for b in getattr(s, "inputs", ())}
    kept = {id(s) for s in program.storages if s.kind == "temp"}
    assert stored & kept <= loaded | given, "a kernel computes what nothing reads"


@ALL
def test_values(name: str, rng: np.random.Generator) -> None:
    c = CASES[name]
    args: list[Any] = []
    for t in optimized(c).input_types:
        integers = t.dtype.is_integer
        args.append(rng.integers(-5, 5, t.shape) if integers else rng.uniform(0.2, 1.5, t.shape) * rng.choice([-1, 1]))
    floats = [k for k, a in enumerate(args) if a.dtype.kind == "f"]

    def f(*values: Any) -> Any:
        given = list(args)
        for k, v in zip(floats, values, strict=True):
            given[k] = v
        return c.f(*given)

    st.testing.check_grads(f, tuple(args[k] for k in floats), order=1)
    value, grads = st.compile(st.value_and_grad(c.f, argnums=c.argnums))(*args)
    np.testing.assert_allclose(value, c.f(*args), rtol=1e-12)
    want = st.grad(c.f, argnums=c.argnums)(*args)
    for got, ct in zip(grads, want, strict=True):
        np.testing.assert_allclose(got, ct, rtol=1e-10, atol=1e-12)


def test_labels_out_of_bounds_are_refused() -> None:
    """The comparison that stands for a scatter of one element per row keeps its check."""
    x, b = np.zeros((12, 7)), np.zeros(7)
    step = st.compile(st.grad(CASES["cross_entropy_of_labels"].f))
    want = step(x, b, np.full(12, 5))
    np.testing.assert_array_equal(step(x, b, np.full(12, -2)), want)
    for wrong in (7, -8):
        with pytest.raises(IndexError):
            step(x, b, np.full(12, wrong))
