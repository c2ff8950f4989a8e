"""Commits that nothing can see: what could have raised behind them is gone.

A `commit` says what an array of the caller holds where something may raise. Without that it is the array itself.
"""

from __future__ import annotations

from stager.ir.graph import Graph, Node
from stager.ir.raising import raises
from stager.ir.rewrite import Replacement, Rewriter, map_regions, rebuild


def drop_commits(graph: Graph, fast_math: bool = False) -> Graph:
    """Without the commits of arrays that are committed again, or returned, before anything may raise."""
    unseen: set[Node] = set()
    watched: dict[int, bool] = {}
    rest = False  # whether something may raise behind here; `watched` says it of arrays with a later commit
    for node in reversed(list(graph.nodes)):
        if node.op.name == "commit":
            place, source = node.params["input"], node.args[0].node
            if not watched.get(place, rest) and not (node.params["carried"] and source.regions and raises(source)):
                unseen.add(node)
            else:
                watched[place] = False
        elif raises(node):
            rest = True
            watched = dict.fromkeys(watched, True)
    if unseen:

        def drop(rw: Rewriter, node: Node) -> Replacement:
            return node.args[0] if rw.current in unseen else None

        graph = rebuild(graph, drop)
    return map_regions(graph, drop_commits, fast_math)
