"""What `explain` is told of kernels."""

from __future__ import annotations

from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from tests.codegen.build import G


def test_a_softmax_is_one_kernel() -> None:
    g = G()
    x = g.input("f64[10,40]")
    e = g.exp(g.sub(x, g.max(x, 1, keepdims=True)))
    graph = g.output(g.div(e, g.sum(e, 1, keepdims=True)))
    stats = compile_graph(graph, Target.host()).stats
    (kernel,) = stats["kernels"]
    assert kernel["fused"] == "max sub exp sum div"
    assert kernel["flops"] == 400 * (1 + 3 + 1)
    assert kernel["bytes"] == 2 * 400 * 8
    assert stats["copies"] == []
    assert stats["arena"] == 0
