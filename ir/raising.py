"""What may raise while it runs: checks, callbacks, checked positions, foreign code, and regions that hold such.

Writes into the caller's arrays keep their order with it, as in NumPy: those in front have happened when it raises,
those behind have not (the op `commit`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stager.ir.graph import Graph, Node
from stager.ir.op import Op

RAISING = frozenset({"check", "callback"})


def may_raise(op: Op, params: Mapping[str, Any], regions: Sequence[Graph] | None = None) -> bool:
    """Whether an application of an op may raise. `regions`: where they are not among the params."""
    if op.family == "control":
        inside = params["regions"] if regions is None else regions
        return any(may_raise(n.op, n.params, n.regions) for region in inside for n in region.nodes)
    return op.name in RAISING or op.family == "foreign" or params.get("mode") == "check"


def raises(node: Node) -> bool:
    """Whether a node may raise."""
    return may_raise(node.op, node.params, node.regions)
