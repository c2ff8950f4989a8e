"""Which values of a graph carry a mark on: a tangent, a batch axis, a dependence. Nothing is traced for it.

Nodes with regions have a rule of their own each in `MARKED`; in a loop it is a fixpoint over the carries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from stager.ir.core_ops import input_op
from stager.ir.graph import Graph, Node

Carries = Callable[[Node], bool]


def dependent_outputs(graph: Graph, inputs: Sequence[bool], carries: Carries) -> list[bool]:
    """Which outputs depend on the marked inputs through nodes that carry the mark on (tangents, batches, …).

    `carries(node)` is asked for nodes with a marked operand, and for nodes without operands.
    """
    marked: dict[Node, tuple[bool, ...]] = {}
    for node in graph.nodes:
        if node.op is input_op:
            marked[node] = (bool(inputs[node.params["index"]]),)
            continue
        operands = [marked[a.node][a.index] for a in node.args]
        if "inline" in node.op.facts:  # the rules of a custom call may say more than its region
            marked[node] = tuple(
                [any(operands) and (carries is not carries_tangent or t.dtype.is_inexact) for t in node.types]
            )
        elif node.regions:
            marked[node] = tuple(MARKED[node.op.name](node, operands, carries))
        else:
            marked[node] = ((any(operands) or not operands) and carries(node),) * len(node.types)
    return [marked[v.node][v.index] for v in graph.outputs]


def carries_tangent(node: Node) -> bool:
    """Whether a node's results have a derivative with respect to its operands."""
    op = node.op
    return (
        bool(node.args) and (op.jvp is not None or op.vjp is not None) and any(t.dtype.is_inexact for t in node.types)
    )


def carries_batch(node: Node) -> bool:
    """Whether a node's results differ between lanes when an operand does (or by themselves)."""
    return bool(node.args) or "lane" in node.op.facts


def carry_fixpoint(
    body: Graph, first: int, start: Sequence[bool], captured: Sequence[bool], carries: Carries
) -> list[bool]:
    """Which carries are marked after any number of iterations; the first `first` inputs of the body are not marked."""
    marked = list(start)
    while True:
        after = dependent_outputs(body, [*[False] * first, *marked, *captured], carries)[: len(marked)]
        grown = [a or b for a, b in zip(marked, after, strict=True)]
        if grown == marked:
            return marked
        marked = grown


def _marked_for(node: Node, operands: Sequence[bool], carries: Carries) -> list[bool]:
    n = node.params["n_carry"]
    if any(operands[:2]) and carries is carries_batch:
        return [True] * n
    return carry_fixpoint(node.regions[0], 1, operands[2 : 2 + n], operands[2 + n :], carries)


def _marked_while(node: Node, operands: Sequence[bool], carries: Carries) -> list[bool]:
    n = node.params["n_carry"]
    cond, body = node.regions
    marked = carry_fixpoint(body, 0, operands[:n], operands[n:], carries)
    if carries is carries_batch and dependent_outputs(cond, [*marked, *operands[n:]], carries)[0]:
        return [True] * n
    return marked


def _marked_switch(node: Node, operands: Sequence[bool], carries: Carries) -> list[bool]:
    if operands[0] and carries is carries_batch:
        return [True] * len(node.types)
    per_branch = [dependent_outputs(region, operands[1:], carries) for region in node.regions]
    return [any(column) for column in zip(*per_branch, strict=True)]


def _marked_map(node: Node, operands: Sequence[bool], carries: Carries) -> list[bool]:
    return dependent_outputs(node.regions[0], [False, *operands], carries)


MARKED: dict[str, Callable[[Node, Sequence[bool], Carries], list[bool]]] = {
    "for": _marked_for,
    "while": _marked_while,
    "switch": _marked_switch,
    "map": _marked_map,
}
