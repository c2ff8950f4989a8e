"""Sums of padded arrays, read piece by piece instead of put together in memory.

The transpose of a stencil is a sum of arrays that are zero but for a large part each: `0; [1:-1] = a` plus
`0; [2:] = b` plus …, and every term would be filled with zeros, written and read again. Here the last axis is cut where
a part begins or ends. Inside a piece a term is a slice of its part or of what surrounds it; along the other axes it is
read at a clipped position and selected. So the sum is one loop over contiguous rows. The terms are added in the same
order, zeros included: every bit stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from stager.ir.core_ops import fill_op
from stager.ir.dtypes import b1, i64
from stager.ir.graph import Graph, Node, Value
from stager.ir.passes.updates import Span, spans
from stager.ir.rewrite import Replacement, Rewriter, map_regions, rebuild
from stager.ir.types import Type

TERMS = 24  # of one sum
PIECES = 9
SHORTEST = 16  # elements of the last axis


@dataclass(frozen=True, slots=True)
class _Sum:
    """An `add` and the adds below it that nothing else reads; `padded` are the terms that are read in pieces."""

    inner: frozenset[Node]
    padded: dict[Node, list[Span]]
    cuts: list[int]  # of the last axis, its ends included


def sum_padded(graph: Graph, fast_math: bool = False) -> Graph:
    """Sums with several padded terms as a concatenation of pieces along the last axis."""
    sums = _sums(graph)
    if sums:

        def replace(rw: Rewriter, node: Node) -> Replacement:
            found = sums.get(rw.current) if rw.current is not None else None
            if found is None or rw.current is None:
                return None
            pieces = [_piece(rw, rw.current, found, a, b) for a, b in zip(found.cuts, found.cuts[1:], strict=False)]
            return rw.emit("concatenate", *pieces, axis=node.types[0].ndim - 1) if len(pieces) > 1 else pieces[0]

        graph = rebuild(graph, replace)
    return map_regions(graph, sum_padded, fast_math)


def _sums(graph: Graph) -> dict[Node, _Sum]:
    if not any(n.op.name == "slice_update" for n in graph.nodes):
        return {}
    users = graph.users()
    outputs = {v.node for v in graph.outputs}

    def only_added(v: Value) -> bool:
        return v.node not in outputs and [u.op.name for u in users.get(v, ())] == ["add"]

    found: dict[Node, _Sum] = {}
    for node in graph.nodes:
        if node.op.name != "add" or only_added(Value(node)) or not _fits(node.types[0]):
            continue
        inner: set[Node] = {node}
        padded: dict[Node, list[Span]] = {}
        terms = 0
        todo = list(node.args)
        while todo:
            v = todo.pop()
            if v.node.op.name == "add" and only_added(v):
                inner.add(v.node)
                todo += v.node.args
                continue
            terms += 1
            region = _part(v)
            if region is not None and only_added(v):
                padded[v.node] = region
        if sum(n.args[0].node.op is fill_op for n in padded) < 2 or terms > TERMS:
            continue
        extent = node.types[0].shape[-1]
        assert isinstance(extent, int)
        ends = {x for region in padded.values() for x in (region[-1].start, region[-1].start + region[-1].size)}
        cuts = sorted({0, extent} | {x for x in ends if isinstance(x, int)})
        if len(cuts) - 1 <= PIECES:
            found[node] = _Sum(frozenset(inner), padded, cuts)
    return found


def _fits(t: Type) -> bool:
    return t.ndim > 0 and t.is_static and isinstance(t.shape[-1], int) and t.shape[-1] >= SHORTEST


def _part(v: Value) -> list[Span] | None:
    """Where a padded term is not what it surrounds: of static place, without gaps."""
    if v.node.op.name != "slice_update":
        return None
    region = spans(v.node, v.type.shape)
    static = all(isinstance(s.start, int) and isinstance(s.size, int) and s.size > 0 for s in region)
    return region if static and all(s.step == 1 for s in region) else None


def _piece(rw: Rewriter, root: Node, found: _Sum, low: int, high: int) -> Value:
    """The sum, from `low` to `high` on the last axis. Not by recursion: sums may be deep."""
    made: dict[Value, Value] = {}
    todo = [Value(root)]
    while todo:
        v = todo[-1]
        if v in made:
            todo.pop()
        elif v.node in found.inner:
            missing = [a for a in v.node.args if a not in made]
            if missing:
                todo += missing
                continue
            made[v] = rw.emit("add", *[made[a] for a in v.node.args])
        elif v.node in found.padded:
            made[v] = _term(rw, v, found.padded[v.node], low, high)
        else:
            made[v] = _columns(rw, rw.new(v), low, high)
    return made[Value(root)]


def _columns(rw: Rewriter, x: Value, low: int, high: int) -> Value:
    """x from `low` to `high` on its last axis."""
    shape = (*x.type.shape[:-1], high - low)
    if x.node.op is fill_op:
        return rw.fill(x.node.params["value"], Type(x.type.dtype, shape))
    if shape == x.type.shape:
        return x
    zeros = (0,) * (len(shape) - 1)
    return rw.emit("slice", x, starts=(*zeros, low), sizes=shape, steps=(1,) * len(shape))


def _term(rw: Rewriter, v: Value, region: list[Span], low: int, high: int) -> Value:
    """The columns of a padded term: inside its part at clipped positions, selected."""
    base, part = (rw.new(a) for a in v.node.args)
    around = _columns(rw, base, low, high)
    start, size = region[-1].start, region[-1].size
    if not (start <= low and high <= start + size):
        return around
    inside = _columns(rw, part, low - start, high - start)  # type: ignore[arg-type]
    axes = [k for k, s in enumerate(region[:-1]) if not s.whole]
    if not axes:
        return inside
    shape = around.type.shape
    grid = tuple([shape[k] for k in axes])
    index, here = [], None
    for at, k in enumerate(axes):
        s, n = region[k], shape[k]
        count = rw.emit("iota", size=n, dtype=i64)

        def of(value: object, n: object = n) -> Value:
            return rw.fill(value, Type(i64, (n,)))  # type: ignore[arg-type]

        offset = rw.emit("sub", count, of(s.start))
        clipped = rw.emit("minimum", rw.emit("maximum", offset, of(0)), of(s.size - 1))
        index.append(rw.emit("broadcast", clipped, shape=grid, axes=(at,)))
        within = rw.emit("and_", rw.emit("ge", offset, of(0)), rw.emit("lt", offset, of(s.size)))
        within = rw.emit("broadcast", within, shape=grid, axes=(at,))
        here = within if here is None else rw.emit("and_", here, within)
    assert here is not None
    assert here.type.dtype is b1
    read = rw.emit("gather", inside, *index, axes=tuple(axes), batch_dims=0, mode="promise")
    order = [*axes, *[k for k in range(len(shape)) if k not in axes]]
    if order != sorted(order):
        read = rw.emit("transpose", read, perm=tuple([order.index(k) for k in range(len(shape))]))
    return rw.emit("select", rw.emit("broadcast", here, shape=shape, axes=tuple(axes)), read, around)
