"""A graph of given nodes: which ones are needed, and the graph that they make.

Invariant: all but the nodes stays as it is in an older graph: the name, the signature, the order of the inputs and the
symbols of the nodes that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from stager.ir.core_ops import input_op
from stager.ir.dims import Dim, substitute
from stager.ir.graph import Graph, Node, SymbolDef, Value


def alive_nodes(order: Sequence[Node], outputs: Iterable[Value], symbols: Mapping[str, SymbolDef]) -> set[Node]:
    """Nodes that an output, an effect or a live node's data symbol needs; and inputs."""
    alive = {v.node for v in outputs}
    data = {name: d.source.node for name, d in symbols.items() if d.kind == "data"}
    for node in reversed(order):
        if node in alive or node.op is input_op or node.op.ordered or (node.regions and node.ordered):
            alive.add(node)
            for a in node.args:
                alive.add(a.node)
            if data:
                alive.update(data[name] for name in node.mentioned_symbols() if name in data)
    return alive


def assemble(
    old: Graph,
    order: Sequence[Node],
    outputs: Sequence[Value],
    symbols: Mapping[str, SymbolDef],
    alive: set[Node] | None = None,
    replaced: Mapping[str, Dim] | None = None,
) -> Graph:
    """A graph of these nodes that is `old` in everything else; data symbols of dead nodes go."""
    new = Graph(old.name)
    new.meta = dict(old.meta)
    new.signature = old.signature
    if replaced and old.signature.layouts:
        layouts = {i: substitute(s, replaced) for i, s in old.signature.layouts.items()}
        new.signature = type(old.signature)(old.signature.writes, old.signature.aliases, old.signature.donated, layouts)
    data: dict[Node, list[tuple[str, SymbolDef]]] = {}
    for name, d in symbols.items():
        if d.kind == "data" and (alive is None or d.source.node in alive):
            data.setdefault(d.source.node, []).append((name, d))
    static = {name: d for name, d in symbols.items() if d.kind != "data"}
    if data:
        new.symbols = static
        for node in order:
            new.add(node)
            for name, d in data.get(node, ()):
                new.symbols[name] = d
    else:
        for node in order:  # no data symbol, no dim edge: added without looking for them
            new.add(node)
        new.symbols = static
    inputs = [n for n in order if n.op is input_op]
    inputs.sort(key=lambda n: n.params["index"])
    new.inputs = [Value(n) for n in inputs]
    new.outputs = list(outputs)
    return new
