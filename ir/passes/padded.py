"""Sums of padded arrays, read piece by piece instead of put together in memory.

The transpose of a stencil is a sum of arrays that are zero but for a large part each: `0; [1:-1] = a` plus
`0; [2:] = b` plus …, and every term would be filled with zeros, written and read again. Here the last axis is cut where
a part begins or ends. Inside a piece a term is a slice of its part or of what surrounds it; along the other axes it is
read at a clipped position and selected. Large arrays fall apart along these too, into an interior where no term asks
anything, and slabs beside it. So the sum is loops over contiguous rows. The terms are added in the same order, zeros
included: every bit stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

from stager.ir.core_ops import fill_op
from stager.ir.dims import Dim
from stager.ir.dtypes import b1, i64
from stager.ir.graph import Graph, Node, Value
from stager.ir.passes.updates import Span, spans
from stager.ir.rewrite import Replacement, Rewriter, map_regions, rebuild
from stager.ir.types import Type

TERMS = 24  # of one sum
PIECES = 9
SHORTEST = 16  # elements of the last axis
LARGE = 4096  # elements of a piece that is cut along further axes

Box = tuple[tuple[int, int], ...]  # first and last position (exclusive) on every axis


@dataclass(frozen=True, slots=True)
class _Sum:
    """An `add` and the adds below it that nothing else reads; `padded` are the terms that are read in pieces."""

    inner: frozenset[Node]
    padded: dict[Node, list[Span]]

    def cuts(self, axis: int, extent: int) -> list[int]:
        """Where parts begin or end on an axis, its ends included."""
        ends = {
            x for region in self.padded.values() for x in (region[axis].start, region[axis].start + region[axis].size)
        }
        return sorted({0, extent} | {x for x in ends if isinstance(x, int)})


def sum_padded(graph: Graph, fast_math: bool = False) -> Graph:
    """Sums with several padded terms as a concatenation of pieces along the last axis."""
    sums = _sums(graph)
    if sums:

        def replace(rw: Rewriter, node: Node) -> Replacement:
            root = rw.current
            found = sums.get(root) if root is not None else None
            if root is None or found is None:
                return None
            return _cut(rw, root, found, tuple([(0, n) for n in node.types[0].shape if isinstance(n, int)]))

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
        found_here = _Sum(frozenset(inner), padded)
        if len(found_here.cuts(-1, extent)) - 1 <= PIECES:
            found[node] = found_here
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


def _cut(rw: Rewriter, root: Node, found: _Sum, box: Box, axis: int = 0) -> Value:
    """The sum in a box. A large one falls along `axis` into what all parts treat alike and the slabs beside it."""
    pieces = list(pairwise(found.cuts(axis, box[axis][1])))
    low, high = max(pieces, key=lambda p: p[1] - p[0])
    middle, whole = (*box[:axis], (low, high), *box[axis + 1 :]), box[axis][1]
    if axis == len(box) - 1 or 2 * (high - low) < whole or prod(b - a for a, b in middle) < LARGE:
        return _rows(rw, root, found, box)
    parts = [_cut(rw, root, found, middle, axis + 1)]
    if low > 0:
        parts.insert(0, _rows(rw, root, found, (*box[:axis], (0, low), *box[axis + 1 :])))
    if high < whole:
        parts.append(_rows(rw, root, found, (*box[:axis], (high, whole), *box[axis + 1 :])))
    return rw.emit("concatenate", *parts, axis=axis) if len(parts) > 1 else parts[0]


def _rows(rw: Rewriter, root: Node, found: _Sum, box: Box) -> Value:
    """The sum in a box, cut along the last axis wherever a part begins or ends."""
    parts = [_piece(rw, root, found, (*box[:-1], piece)) for piece in pairwise(found.cuts(-1, box[-1][1]))]
    return rw.emit("concatenate", *parts, axis=len(box) - 1) if len(parts) > 1 else parts[0]


def _piece(rw: Rewriter, root: Node, found: _Sum, box: Box) -> Value:
    """The sum in a box. Not by recursion: sums may be deep."""
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
            made[v] = _added(rw, v.node, *[made[a] for a in v.node.args])
        elif v.node in found.padded:
            made[v] = _term(rw, v, found.padded[v.node], box)
        else:
            made[v] = _boxed(rw, rw.new(v), box)
    return made[Value(root)]


def _added(rw: Rewriter, node: Node, a: Value, b: Value) -> Value:
    """a + b; a cotangent that is nowhere in a box is nothing to add."""
    for x, y in ((a, b), (b, a)):
        if node.in_backward and x.node.op is fill_op and x.node.params["value"] == 0:
            return y
    return rw.emit("add", a, b)


def _repeated(rw: Rewriter, x: Value, shape: tuple[Dim, ...], axes: tuple[int, ...]) -> Value:
    return x if x.type.shape == shape else rw.emit("broadcast", x, shape=shape, axes=axes)


def _boxed(rw: Rewriter, x: Value, box: Box) -> Value:
    """x inside of a box."""
    shape = tuple([high - low for low, high in box])
    if x.node.op is fill_op:
        return rw.fill(x.node.params["value"], Type(x.type.dtype, shape))
    if shape == x.type.shape:
        return x
    return rw.emit("slice", x, starts=tuple([low for low, _ in box]), sizes=shape, steps=(1,) * len(shape))


def _term(rw: Rewriter, v: Value, region: list[Span], box: Box) -> Value:
    """A padded term inside of a box: its part where the box lies in it, else at clipped positions, selected."""
    base, part = (rw.new(a) for a in v.node.args)
    around = _boxed(rw, base, box)
    place: list[tuple[int, int]] = []  # what box and part have in common, in the part
    axes = []
    for k, (s, (low, high)) in enumerate(zip(region, box, strict=True)):
        assert isinstance(s.start, int)
        assert isinstance(s.size, int)
        first, last = max(low, s.start), min(high, s.start + s.size)
        if first >= last:
            return around
        place.append((first - s.start, last - s.start))
        if (first, last) != (low, high):
            axes.append(k)
    if not axes:
        return _boxed(rw, part, tuple(place))
    shape = around.type.shape
    grid = tuple([shape[k] for k in axes])
    index, here = [], None
    for at, k in enumerate(axes):
        (first, last), n = place[k], shape[k]
        count = rw.emit("iota", size=n, dtype=i64)

        def of(value: object, n: object = n) -> Value:
            return rw.fill(value, Type(i64, (n,)))  # type: ignore[arg-type]

        before = region[k].start + first - box[k][0]
        offset = rw.emit("sub", count, of(before)) if before != 0 else count
        clipped = rw.emit("minimum", rw.emit("maximum", offset, of(0)), of(last - first - 1))
        if first:
            clipped = rw.emit("add", clipped, of(first))
        index.append(_repeated(rw, clipped, grid, (at,)))
        within = rw.emit("and_", rw.emit("ge", offset, of(0)), rw.emit("lt", offset, of(last - first)))
        within = _repeated(rw, within, grid, (at,))
        here = within if here is None else rw.emit("and_", here, within)
    assert here is not None
    assert here.type.dtype is b1
    # a box of what is read, not a read of a box: the part is in memory once, however many boxes there are
    read = rw.emit("gather", part, *index, axes=tuple(axes), batch_dims=0, mode="promise")
    order = [*axes, *[k for k in range(len(shape)) if k not in axes]]
    if order != sorted(order):
        read = rw.emit("transpose", read, perm=tuple([order.index(k) for k in range(len(shape))]))
    whole = [(0, high - low) for low, high in box]
    read = _boxed(rw, read, tuple([whole[k] if k in axes else place[k] for k in range(len(shape))]))
    return rw.emit("select", rw.emit("broadcast", here, shape=shape, axes=tuple(axes)), read, around)
