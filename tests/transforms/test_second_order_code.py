"""What second derivatives compile to: the optimised graphs hold no idle work, the kernels are few and move little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import plan_program
from stager.codegen.program import Nest
from stager.codegen.target import Target
from stager.ir.graph import Graph, Node
from stager.pipeline import optimize
from stager.transforms.shapes import trace_types
from tests.traffic import kernels, least, moved

Function = Callable[..., Any]


def logistic(w: Any, x: Any, y: Any) -> Any:
    z = x @ w
    return np.mean(np.logaddexp(0.0, z) - y * z)


def network(w: Any, b: Any, v: Any, x: Any) -> Any:
    return np.sum(np.tanh(x @ w + b) @ v)


def softmax(x: Any, t: Any) -> Any:
    e = np.exp(x - np.max(x))
    return np.sum(e / np.sum(e) * t)


def logsumexp(x: Any) -> Any:
    m = np.max(x)
    return m + np.log(np.sum(np.exp(x - m)))


def rosenbrock(x: Any) -> Any:
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def lennard_jones(x: Any) -> Any:
    d = x[:, None, :] - x[None, :, :]
    eye = np.eye(x.shape[0])
    s6 = 1 / (np.sum(d * d, axis=-1) + eye) ** 3
    return 2 * np.sum((s6 * s6 - s6) * (1 - eye))


def layernorm(x: Any, g: Any) -> Any:
    c = x - np.mean(x)
    return np.sum((c / np.sqrt(np.mean(c * c) + 1e-5) * g) ** 3)


def written(x: Any) -> Any:
    y = x.copy()
    y[1:-1] = y[:-2] * y[2:]
    y[0] *= 2
    return np.sum(y**3)


def filtered(x: Any) -> Any:
    s = 0.0
    for i in range(x.shape[0]):
        s = s * 0.5 + x[i] ** 3
    return s


V, W = "f64[40]", "f64[8,16]"
# What, its arguments, and of hvp, of a gradient of a gradient and of the Hessian: the most kernels, and the most that
# they move, in times the least (inputs and results once each).
PLANS: dict[str, tuple[Function, tuple[str, ...], tuple[tuple[int, float], ...]]] = {
    "logistic regression": (logistic, ("f64[32]", "f64[64,32]", "f64[64]"), ((2, 2.1), (2, 2.1), (2, 3.0))),
    "network": (network, (W, "f64[16]", "f64[16]", "f64[10,8]"), ((4, 3.3), (5, 4.0), (6, 10.0))),
    "softmax": (softmax, (V, V), ((7, 4.8), (10, 5.3), (7, 3.2))),
    "logsumexp": (logsumexp, (V,), ((8, 4.4), (7, 4.4), (7, 1.3))),
    "norm": (np.linalg.norm, (V,), ((3, 1.7), (3, 1.7), (4, 1.1))),
    "Rosenbrock": (rosenbrock, (V,), ((4, 2.3), (4, 2.3), (2, 1.1))),
    "Lennard-Jones": (lennard_jones, ("f64[12,3]",), ((2, 24.0), (2, 13.4), (3, 17.0))),
    "quadratic form": (lambda x, a: x @ a @ x, ("f64[24]", "f64[24,24]"), ((1, 1.0), (1, 1.0), (1, 1.0))),
    "layernorm": (layernorm, (V, V), ((7, 3.0), (11, 4.3), (8, 1.5))),
    "cumulative sum": (lambda x: np.sum(np.cumsum(x) ** 3), (V,), ((4, 3.0), (4, 3.0), (6, 8.9))),
    "product": (np.prod, ("f64[12]",), ((1, 1.0), (1, 1.0), (3, 2.9))),
    "elements by index": (lambda x, i: np.sum(x[i] ** 3), (V, "i64[60]"), ((2, 1.3), (2, 1.3), (4, 4.0))),
    "writes in place": (written, (V,), ((5, 4.3), (7, 5.3), (4, 3.1))),
    "loop": (filtered, (V,), ((2, 1.0), (4, 1.0), (5, 3.0))),
}
KINDS: tuple[tuple[str, Callable[[Function], Function]], ...] = (
    ("hvp", lambda f: lambda x, v, *a: st.jvp(lambda x: st.grad(f)(x, *a), (x,), (v,))[1]),
    ("grad of grad", lambda f: lambda x, v, *a: st.grad(lambda x: np.sum(st.grad(f)(x, *a) * v))(x)),
    ("hessian", st.hessian),
)


def every(graph: Graph) -> Iterator[Node]:
    for n in graph.nodes:
        yield n
        for region in n.regions:
            yield from every(region)


def literals(n: Node) -> list[float]:
    return [a.node.params["value"] for a in n.args if a.node.op.name == "fill"]


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("kind", range(3), ids=[k for k, _ in KINDS])
def test_second_derivatives_are_lean(kind: int, name: str) -> None:
    f, specs, most = PLANS[name]
    if kind < 2:
        specs = (specs[0], specs[0], *specs[1:])
    graph = optimize(trace_types(KINDS[kind][1](f), specs, {}).graph)
    for n in every(graph):
        what = n.op.name
        if what in ("mul", "div"):
            assert 1.0 not in (literals(n) if what == "mul" else literals(n)[1:]), f"{n} by one"
            assert 0.0 not in literals(n), f"{n} by zero"
        if what in ("add", "sub"):
            assert 0.0 not in literals(n), f"{n} of zeros"
        if what in ("reshape", "transpose", "broadcast", "slice"):
            assert n.args[0].node.op is not n.op, f"{n} of another one"
        if what == "dot":
            assert all(a.node.op.name != "transpose" for a in n.args), f"{n} of a transpose"
    program = plan_program(graph, Target.host(), name="f", threads=False, blas=False)
    for nest in (k for k in kernels(program) if isinstance(k, Nest)):
        for stage in nest.stages():
            for s in stage.stores:
                filled = stage.body[s.value].op == "const" and bool(stage.axes)
                assert not filled or name == "elements by index", "literals in memory"
    count, times = most[kind]
    assert len(kernels(program)) <= count
    assert moved(program) <= times * least(program)
