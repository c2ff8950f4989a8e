"""What tests ask of whole graphs."""

from __future__ import annotations

from stager.ir.graph import Graph, Node


def all_nodes(graph: Graph) -> list[Node]:
    """The nodes of a graph and of the regions inside."""
    return [m for n in graph.nodes for m in (n, *[k for region in n.regions for k in all_nodes(region)])]


def size_of(graph: Graph) -> int:
    """The number of nodes, those of regions too: what tracing and compiling cost grows with it."""
    return len(all_nodes(graph))
