"""Parts of what is computed from pieces: computed from the pieces that they are made of.

The cotangent of a stack or concatenation comes in one array, as f of the stacked array, and is taken apart again. Where
nothing but parts of f(stack(x, y)) is read, and each lies in one piece, the parts are f(x) and f(y): the stack need not
exist. Exact: the same elements by the same operations. A value that anything reads as a whole stays as it is.
"""

from __future__ import annotations

from typing import Any

from stager.ir.core_ops import fill_op
from stager.ir.dims import Dim, evaluate, product, symbols_of
from stager.ir.graph import Graph, Node, Value
from stager.ir.passes.updates import Span, regions_apart, spans
from stager.ir.passes.views import region_before_reshape
from stager.ir.ranges import at_least
from stager.ir.rewrite import Replacement, Rewriter, map_regions, rebuild
from stager.ir.types import Type

PARTS = 16  # of one value
TYPICAL = 100  # extents that only the call knows
Region = tuple[tuple[Dim, Dim, Any], ...]  # start, size, step on every axis


def read_parts(graph: Graph, fast_math: bool = False) -> Graph:
    """Slices of elementwise values of concatenations, updates and pads, as the same of the pieces' slices."""
    found = _apart(graph)
    if found:
        made: dict[tuple[Value, Region], Value] = {}

        def replace(rw: Rewriter, node: Node) -> Replacement:
            old = rw.current
            if old is None or old.op.name != "slice" or old.args[0].node not in found:
                return None
            return _part(rw, old.args[0], _region(old), found, made)

        graph = rebuild(graph, replace)
    return map_regions(graph, read_parts, fast_math)


def _region(node: Node) -> Region:
    p = node.params
    return tuple(zip(p["starts"], p["sizes"], p["steps"], strict=True))


def _apart(graph: Graph) -> dict[Node, None]:
    """The elementwise nodes of which parts are computed instead."""
    if not any(n.op.name in _HOLDS for n in graph.nodes):
        return {}
    nodes, users = list(graph.nodes), graph.users()
    outputs = {v.node for v in graph.outputs} | {d.source.node for d in graph.symbols.values() if _of_data(d)}
    regions: dict[Node, dict[Region, None]] = {}  # what is read of a value that is read in parts alone
    for n in reversed(nodes):
        if n.op.family != "elementwise" or n in outputs or not n.types[0].ndim or len(n.types) != 1:
            continue
        read: dict[Region, None] = {}
        for u in users.get(Value(n), ()):
            if u.op.name == "slice":
                read[_region(u)] = None
            elif u in regions:
                read.update(regions[u])
            else:
                break
        else:
            if read and len(read) <= PARTS and sum(map(_points, read)) <= _typical(n.types[0].size):
                regions[n] = read
    pieces: set[Node] = set()  # those that pieces are found behind
    for n in nodes:
        if n not in regions:
            continue
        made = [a for a in n.args if _is_put_together(a.node)]
        if not all(_holds(a, r) for a in made for r in regions[n]):
            del regions[n]
        elif made or any(a.node in pieces for a in n.args):
            pieces.add(n)
    kept: dict[Node, None] = {}
    for n in reversed(nodes):  # all that is computed from an operand goes with it
        if n in pieces and all(u.op.name == "slice" or u in kept for u in users[Value(n)]):
            kept[n] = None
    return kept


def _of_data(definition: Any) -> bool:
    return bool(definition.kind == "data")


def _points(region: Region) -> int:
    return _typical(product([size for _, size, _ in region]))


def _typical(size: Dim) -> int:
    return int(evaluate(size, dict.fromkeys(symbols_of((size,)), TYPICAL)))


def _is_put_together(node: Node) -> bool:
    while node.op.name == "reshape":
        node = node.args[0].node
    return node.op.name in _HOLDS


def _holds(v: Value, region: Region) -> bool:
    """Whether a region of a value is one piece of it, or of what surrounds it."""
    while v.node.op.name == "reshape":
        (x,) = v.node.args
        names = zip(("starts", "sizes", "steps"), zip(*region, strict=True), strict=True)
        inner = region_before_reshape(x.type.shape, v.type.shape, dict(names))
        if inner is None:
            return False
        v, region = x, tuple(zip(inner["starts"], inner["sizes"], inner["steps"], strict=True))
    return _HOLDS[v.node.op.name](v.node, [Span(*r, extent) for r, extent in zip(region, v.type.shape, strict=True)])


def _in_concatenation(node: Node, region: list[Span]) -> bool:
    axis, low = node.params["axis"], 0
    span = region[axis]
    for a in node.args:
        high = low + a.type.shape[axis]
        if at_least(span.low, low) and at_least(high, span.high + 1):
            return True
        low = high
    return False


def _in_update(node: Node, region: list[Span]) -> bool:
    while node.op.name == "slice_update":
        written = spans(node, node.types[0].shape)
        if all(s.within(w) for s, w in zip(region, written, strict=True)):
            return True
        if not regions_apart(region, written):
            return False
        node = node.args[0].node
    return node.op.name not in _HOLDS or _HOLDS[node.op.name](node, region)


def _in_pad(node: Node, region: list[Span]) -> bool:
    p, (x, _) = node.params, node.args
    for s, low, gap, d in zip(region, p["low"], p["interior"], x.type.shape, strict=True):
        held = Span(low, d, gap + 1, s.extent)
        if s.apart(held):
            return True
        if not s.within(held):
            return False
    return True


_HOLDS = {"concatenate": _in_concatenation, "slice_update": _in_update, "pad": _in_pad}


def _part(
    rw: Rewriter, v: Value, region: Region, found: dict[Node, None], made: dict[tuple[Value, Region], Value]
) -> Value:
    """A part of a value. Not by recursion: chains may be deep."""
    starts, sizes, steps = zip(*region, strict=True)
    todo = [v]
    while todo:
        x = todo[-1]
        if (x, region) in made:
            todo.pop()
        elif x.node.op is fill_op:
            made[x, region] = rw.fill(x.node.params["value"], Type(x.type.dtype, sizes))
        elif x.node not in found:
            made[x, region] = rw.emit("slice", rw.new(x), starts=starts, sizes=sizes, steps=steps)
        else:
            missing = [a for a in x.node.args if (a, region) not in made]
            todo += missing
            if not missing:
                args = [made[a, region] for a in x.node.args]
                made[x, region] = rw.emit(x.node.op, *args, **x.node.params)
    return made[v, region]
