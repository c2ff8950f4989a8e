"""Regions that run again: their results once more, without what a user would see twice."""

from __future__ import annotations

from stager.ir.graph import Graph, Node, SymbolDef, Value


def is_shown(node: Node) -> bool:
    """Whether a user would see that it runs twice, or out of order. A failing check is one error in any order, and what
    a commit says twice is so twice."""
    return (node.op.ordered and node.op.name not in ("check", "commit")) or any(map(has_ordered_effects, node.regions))


def has_ordered_effects(region: Graph) -> bool:
    """Effects whose order a user can see."""
    return any(map(is_shown, region.nodes))


def silenced(graph: Graph, checks: bool = False) -> Graph:
    """The same results of a region that prints nothing. `checks`: and that checks nothing."""
    if not checks and not has_ordered_effects(graph):
        return graph
    quiet = Graph(graph.name)
    env: dict[Node, Node] = {}

    def moved(v: Value) -> Value:
        return Value(env[v.node], v.index)

    for node in graph.nodes:
        if node.op.name == "print" or (checks and node.op.name == "check"):
            continue
        regions = tuple([silenced(region, checks) for region in node.regions])
        args = tuple(map(moved, node.args))
        env[node] = Node(node.op, args, node.params, node.types, regions, node.loc, node.path)
        quiet.add(env[node])
    quiet.inputs, quiet.outputs = list(map(moved, graph.inputs)), list(map(moved, graph.outputs))
    for name, d in graph.symbols.items():
        quiet.symbols[name] = d if d.kind != "data" else SymbolDef("data", moved(d.source), d.axis, d.hint)
    return quiet
