"""Reads of the newest array: what an update left as it was, or wrote, is read from its result.

Rules look through updates the other way (`updates.py`), so that reads do not wait for writes they do not need. When
all is said, that leaves the array of before alive behind the update, which could then not write in place; and values
that were written would be computed again where they are read. This pass goes last. It uses the order of the nodes: only
what stands behind an update is moved to it. Exact: it moves elements and computes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from stager.ir.graph import Graph, Node, Value
from stager.ir.passes.updates import Span, regions_apart, spans
from stager.ir.rewrite import Replacement, Rewriter, map_regions, rebuild


def read_latest(graph: Graph, fast_math: bool = False) -> Graph:
    """Slices of an array that was updated meanwhile, and values that were written, are slices of the newest array."""
    updates = [n for n in graph.nodes if n.op.name == "slice_update"]
    if updates:
        graph = _Reader(graph, updates).run()
    return map_regions(graph, read_latest, fast_math)


class _Reader:
    def __init__(self, graph: Graph, updates: Sequence[Node]) -> None:
        self.graph = graph
        self.place = {n: k for k, n in enumerate(graph.nodes)}
        self.next: dict[Value, Node | None] = {}  # the only update of a value
        self.written: dict[Value, Node] = {}  # where a computed value is written to, whole
        for n in updates:
            base, value = n.args
            self.next[base] = None if base in self.next else n
            while value.node.op.name == "reshape":
                self.written.setdefault(value, n)
                (value,) = value.node.args
            if value.node.op.family == "elementwise":
                self.written.setdefault(value, n)

    def run(self) -> Graph:
        moved: dict[Node, list[tuple[Value, list[Span]] | None]] = {}
        for node in self.graph.nodes:
            if node.op.family == "source":
                continue
            found = [self._newest(a, self.place[node]) for a in node.args]
            if any(f is not None for f in found):
                moved[node] = found
        if not moved:
            return self.graph

        def move(rw: Rewriter, node: Node) -> Replacement:
            found = moved.get(rw.current) if rw.current is not None else None
            if found is None:
                return None
            args = [a if f is None else _read(rw, a, *f) for a, f in zip(node.args, found, strict=True)]
            return rw.emit_all(node.op, *args, regions=node.regions, **node.params)

        return rebuild(self.graph, move, share=True)

    def _newest(self, value: Value, now: int) -> tuple[Value, list[Span]] | None:
        """The newest array before a node that holds what an operand is, and where; None where that is no gain."""
        layout = value
        while layout.node.op.name == "reshape" and layout not in self.written:
            (layout,) = layout.node.args
        update = self.written.get(layout)
        if update is not None and self.place[update] < now:
            array, region = Value(update), spans(update, update.types[0].shape)
        elif layout.node.op.name == "slice":
            (array,) = layout.node.args
            region = spans(layout.node, array.type.shape)
            update = None
        else:
            return None
        while True:
            later = self.next.get(array)
            if later is None or self.place[later] >= now or not regions_apart(region, spans(later, array.type.shape)):
                break
            array = Value(later)
            update = later
        return None if update is None else (array, region)


def _read(rw: Rewriter, value: Value, array: Value, region: Sequence[Span]) -> Value:
    found = rw.emit(
        "slice",
        rw.new(array),
        starts=tuple([s.start for s in region]),
        sizes=tuple([s.size for s in region]),
        steps=tuple([s.step for s in region]),
    )
    return found if found.type == value.type else rw.emit("reshape", found, shape=value.type.shape)
