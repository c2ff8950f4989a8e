"""The order of nodes: what reads an array stands in front of what updates it.

An update may write over its base where nothing reads the base later; the order of tracing says nothing about that
(`A[i] = 0` may be traced before the read of `A[i]` that its value does not depend on). This pass changes the order
alone: no node is made or dropped. What depends on the update stays behind it, and so do effects.
"""

from __future__ import annotations

from collections.abc import Iterator

from stager.ir.assemble import assemble
from stager.ir.core_ops import input_op
from stager.ir.graph import Graph, Node, Value
from stager.ir.raising import raises
from stager.ir.regions import first_operand
from stager.ir.rewrite import map_regions

UPDATES = frozenset({"slice_update", "scatter", "diagonal_update"})
LAZY = frozenset({"elementwise", "view"})  # computed where they are used: their users read the array
MOVED = 256  # nodes looked at per update


def reads_first(graph: Graph, fast_math: bool = False) -> Graph:
    """Reads of a value before the update that may overwrite it, where they do not depend on it."""
    order = list(graph.nodes)
    if any(True for n in order for _ in updated(n)):
        placed = _Order(graph, order).run()
        if placed != order:
            graph = assemble(graph, placed, graph.outputs, graph.symbols)
    return map_regions(graph, reads_first, fast_math)


def updated(node: Node) -> Iterator[Value]:
    """The array operands that a node may write over."""
    name = node.op.name
    if name in UPDATES:
        yield node.args[0]
    elif name in ("for", "while", "collect"):
        first = first_operand(node)
        yield from (a for a in node.args[first : first + node.params["n_carry"]] if a.type.ndim)
    elif name == "switch":
        yield from (a for a in node.args[1:] if a.type.ndim and a.type in node.types)


class _Order:
    def __init__(self, graph: Graph, order: list[Node]) -> None:
        self.pred, self.succ = graph.predecessors, graph.successors
        self.order = order
        self.committed = any(n.op.name == "commit" for n in order)
        self.place = {n: k for k, n in enumerate(order)}
        self.placed: dict[Node, None] = {n: None for n in order if n.op is input_op}

    def run(self) -> list[Node]:
        for node in self.order:
            if node not in self.placed:
                self._put(node)
        return list(self.placed)

    def _put(self, node: Node, nesting: int = 0) -> None:
        if nesting < 8:
            for base in updated(node):
                for reader in self._readers(base, node):
                    ahead = self._ahead(reader, node)
                    for n in ahead:
                        if n not in self.placed:
                            self._put(n, nesting + 1)
        self.placed[node] = None

    def _readers(self, base: Value, update: Node) -> list[Node]:
        """What reads the base and has no place yet, through views and elementwise ops too; in order."""
        seen: set[Node] = set()
        todo = [base.node]
        while todo and len(seen) < MOVED:
            source = todo.pop()
            for user in self.succ[source]:
                if user is update or user in seen or (source is base.node and base not in user.args):
                    continue
                seen.add(user)
                if user.op.family in LAZY or user.op.name == "gather":
                    todo.append(user)
        return sorted((n for n in seen if n not in self.placed), key=self.place.__getitem__)

    def _ahead(self, node: Node, update: Node) -> list[Node]:
        """The node behind all that it needs and that has no place yet; nothing when that includes the update."""
        if node in self.placed:
            return []
        found: set[Node] = {node}
        todo = [node]
        while todo:
            for n in self.pred[todo.pop()]:
                if n is update or len(found) > MOVED:
                    return []
                if n not in self.placed and n not in found:
                    found.add(n)
                    todo.append(n)
        if any(n.ordered or (self.committed and raises(n)) for n in found):
            return []
        return sorted(found, key=self.place.__getitem__)
