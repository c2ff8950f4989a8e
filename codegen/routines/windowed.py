"""Products whose first operand is windows of an array: read where they are, never laid out as a matrix.

Element (r, k) of such a matrix lies at a sum of steps along the axes that rows and terms are made of, so tiles of
registers find it by nested loops: rows that stand in one tile are static distances apart, terms are counted along each
of their axes. The second operand is a plain matrix, in panels where its columns are not adjacent. A convolution's
forward, and its derivative by weights (terms are places, rows are the elements of a window), are both of this form.

Invariant: every sum runs over its terms in order, in blocks that depend on shapes only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import llvmlite.ir as ir

from stager.codegen.emit import I1, FunctionEmitter, i64
from stager.codegen.program import Buffer, Routine
from stager.codegen.pull import value_key
from stager.codegen.registers import Val
from stager.codegen.routines import RoutineSpec
from stager.codegen.routines.dot import FEW, groups_of, joined, operand
from stager.codegen.routines.gemm import (
    Piece,
    Ring,
    Tile,
    lanes_of,
    pack_panels,
    panels,
    pieces_of,
    tile_shape,
)
from stager.codegen.routines.lines import Lines, carrying, each_line, moved_by, walk
from stager.codegen.target import Target
from stager.ir.dims import Dim, Expr, contiguous_strides, product
from stager.ir.graph import Node, Value
from stager.ir.types import Type

if TYPE_CHECKING:
    from stager.codegen.lower import Walk

TERM_NS = 0.04
"""Time of one term on one thread."""
BLOCK = 4096
"""Terms that are added in registers before they go to memory, at most, where outer axes of the terms are left."""
UNROLLED = 4
"""Terms along the last axis that need no loop."""
PARTS = 4
"""Parts of the rows, each with all terms, that threads may take."""


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of the product: how far apart neighbours are in the windows, in the other operand and in the result."""

    extent: Dim
    a: Dim
    b: Dim = 0
    c: Dim = 0


@dataclass(frozen=True, slots=True)
class Windowed:
    """One product: c[rows, columns] = sum over terms of a[rows, terms] b[terms, columns], for every batch."""

    batch: list[Axis]
    rows: list[Axis]
    terms: list[Axis]  # `b` of all is that of the last one, times what is behind
    n: Dim
    b_step: Dim
    b_column: Dim

    @property
    def k(self) -> Dim:
        return product(t.extent for t in self.terms)

    def split(self) -> int:
        """How many outer axes of the terms are counted by blocks."""
        for count in range(len(self.terms)):
            inside = product(t.extent for t in self.terms[count:])
            if isinstance(inside, int) and inside <= BLOCK:
                return count
        return max(0, len(self.terms) - 2)


@dataclass(frozen=True, slots=True)
class Shape:
    """A tile: vectors of columns, and its rows: those of the last `fixed` axes together, or `rows` of the last one."""

    fixed: int
    rows: int
    vectors: int


def by_distance(axes: Sequence[int], strides: Sequence[Dim]) -> list[int]:
    """Axes in the order of memory, the farthest apart first; as they are where distances are not known."""
    if not all(isinstance(strides[a], int) for a in axes):
        return list(axes)
    return sorted(axes, key=lambda a: -abs(strides[a]))


def merged(axes: Sequence[Axis]) -> list[Axis]:
    """Neighbours of which one continues the other, as one; axes of one element dropped."""
    out: list[Axis] = []
    for x in axes:
        if x.extent == 1:
            continue
        before = out[-1] if out else None
        if before is not None and all(getattr(before, s) == getattr(x, s) * x.extent for s in "abc"):
            out[-1] = Axis(before.extent * x.extent, x.a, x.b, x.c)
        else:
            out.append(x)
    return out


def tile_of(target: Target, ring: Ring, p: Windowed) -> Shape:
    """The tile: as many sums as hide the latency of additions and fit into registers."""
    lanes = lanes_of(target, ring)
    wide = target.vector_registers == 32
    needed = -(-p.n // lanes) if isinstance(p.n, int) else 2
    most = 12 if wide else 8 if needed == 1 else 6
    fixed = rows = 0
    for count in range(1, len(p.rows) + 1):
        extents = [x.extent for x in p.rows[-count:] if isinstance(x.extent, int)]
        if len(extents) < count or prod(extents) > most:
            break
        fixed, rows = count, prod(extents)
    if fixed or not p.rows:
        return Shape(fixed, max(rows, 1), max(1, min(needed, 4, (24 if wide else 12) // max(rows, 1))))
    return Shape(0, *tile_shape(target, lanes, p.rows[-1].extent, p.n))


def panel_width(target: Target, ring: Ring, p: Windowed) -> int:
    """Columns of a tile."""
    return tile_of(target, ring, p).vectors * lanes_of(target, ring)


class _Tile(Tile):
    """A tile whose rows are at `offsets` from the first, (in the windows, in the result)."""

    def __init__(
        self, e: FunctionEmitter, ring: Ring, offsets: Sequence[tuple[Dim, Dim]], pieces: Sequence[Piece]
    ) -> None:
        super().__init__(e, ring, len(offsets), pieces)
        self.offsets = offsets

    def place(self, c: Any, c_row: Any, r: int, at: int) -> Any:
        return self.e.offset(moved_by(self.e, c, 1, self.offsets[r][1]), at * self.ring.size)

    def add(self, terms: Sequence[Axis], a: Any, b: Any, b_step: Dim) -> None:
        """The products of all terms."""
        self.sums = self._along(terms, a, b, b_step, self.sums)

    def _along(self, terms: Sequence[Axis], a: Any, b: Any, b_step: Dim, sums: list[Val]) -> list[Val]:
        e = self.e
        if not terms:
            return self.step(sums, [moved_by(e, a, 1, offset) for offset, _ in self.offsets], b)
        first, rest = terms[0], terms[1:]
        n = first.extent

        def one(k: Any, sums: list[Val]) -> list[Val]:
            here = moved_by(e, b, k, b_step * product(t.extent for t in rest))
            return self._along(rest, moved_by(e, a, k, first.a), here, b_step, sums)

        if isinstance(n, int) and n <= UNROLLED and not rest:
            for k in range(n):
                sums = one(k, sums)
            return sums
        unroll = 2 if isinstance(n, int) and n % 2 == 0 and not rest else 1

        def several(k: Any, sums: list[Val]) -> list[Val]:
            for u in range(unroll):
                sums = one(e.b.add(k, i64(u), flags=("nsw",)) if u else k, sums)
            return sums

        return carrying(e, 0, n if isinstance(n, int) else e.dim(n), unroll, sums, several)


# -- lowering ---------------------------------------------------------------------------------------------------------


def lower_windowed(w: Walk, node: Node) -> bool:
    """Windows stay where they are; False for what is no windows, or lies as a matrix does."""
    x, y = node.args
    base = _shown(w, x)
    g = groups_of(node)
    m, n = product(x.shape[a] for a in g.rows), product(y.shape[b] for b in g.columns)
    few = any(isinstance(d, int) and d <= FEW for d in (m, n))
    if base is None or few or any(d == 0 for d in (*x.shape, *y.shape)):
        return False
    w.realise(base)
    source = w.as_buffer(x)
    if all(joined(source, axes) is not None for axes in (g.rows, [a for a, _ in g.inner])):
        return False
    inner = dict(g.inner)
    y_groups = [[b for _, b in g.batch], [inner[a] for a in by_distance([*inner], source.strides)], g.columns]
    size = x.type.dtype.itemsize
    other = operand(w, y, y_groups)
    if isinstance(n, Expr) and _column(other, g.columns) != size:  # panels are of a known number of columns
        other = operand(w, y, y_groups, copied=True)
    p, ring = product_of(node, source, other), Ring(x.type.dtype)
    home = w.homes.get(id(node) << 20)
    if home is not None and any(home.storage is b.storage for b in (source, other)):  # never over what it reads
        result = w.ctx.buffers[id(node) << 20] = w.ctx.temp(node.types[0])
    else:
        result = w.result(Value(node))
    scratch = []
    if p.b_column != size:
        width = panel_width(w.ctx.target, ring, p)
        shape = (*[t.extent for t in p.batch], panels(p.n, width) * width * p.k)
        scratch.append(w.ctx.temp(Type(x.type.dtype, shape), "w"))
    w.steps.append(Routine("windowed", node, [source, other], [result], scratch))
    return True


def _shown(w: Walk, v: Value) -> Value | None:
    """The array that a value shows windows of."""
    at, seen = w.origin(v), False
    while at.node.op.family == "view" and value_key(at) not in w.ctx.buffers:
        seen = seen or at.node.op.name == "windows"
        at = w.origin(at.node.args[0])
    return at if seen else None


def _column(b: Buffer, axes: list[int]) -> Dim:
    found = joined(b, axes)
    assert found is not None
    return found[1]


def product_of(node: Node, x: Buffer, y: Buffer) -> Windowed:
    """The axes of a product, of windows as they lie and an operand whose axes join."""
    g = groups_of(node)
    size = x.dtype.itemsize
    c = contiguous_strides(node.types[0].shape, size)
    inner = dict(g.inner)
    order = by_distance([*inner], x.strides)
    columns, steps = joined(y, g.columns), joined(y, [inner[a] for a in order])
    assert columns
    assert steps
    batch = [Axis(x.shape[a], x.strides[a], y.strides[b], c[k]) for k, (a, b) in enumerate(g.batch)]
    place = {a: c[len(g.batch) + k] for k, a in enumerate(g.rows)}
    rows = [Axis(x.shape[a], x.strides[a], 0, place[a]) for a in by_distance(g.rows, x.strides)]
    terms: list[Axis] = []
    step = steps[1]
    for a in reversed(order):
        terms.insert(0, Axis(x.shape[a], x.strides[a], step))
        step = step * x.shape[a]
    return Windowed(batch, merged(rows), merged(terms), columns[0], steps[1], columns[1])


# -- emission ---------------------------------------------------------------------------------------------------------


def emit_windowed(e: FunctionEmitter, call: Routine) -> None:
    """The code of one product."""
    x, y = call.inputs
    p, ring = product_of(call.node, x, y), Ring(x.dtype)
    shape = tile_of(e.target, ring, p)
    buffers = [x, y, call.outputs[0]]
    if call.scratch:
        width = panel_width(e.target, ring, p)
        made = call.scratch[0]
        lines = Lines([t.extent for t in p.batch], [[t.b for t in p.batch], list(made.strides[:-1])])
        pack_panels(e, ring, lines, [y, made], p.n, width, p.b_column, p.b_step, p.k)
        batch = [replace(t, b=s) for t, s in zip(p.batch, made.strides, strict=False)]
        p = replace(p, batch=batch, b_column=p.k * ring.size, b_step=width * ring.size)
        buffers[1] = made
    inside = max(0, len(p.rows) - max(shape.fixed, 1))
    outer, tiled = p.rows[:inside], p.rows[inside:]
    blocks = p.terms[: p.split()]
    each = p.batch
    if not blocks:
        each, outer = [*each, *outer], []
    elif outer and isinstance(outer[0].extent, int):
        first = outer[0]
        share = first.extent // next(d for d in range(PARTS, 0, -1) if first.extent % d == 0)
        parts = Axis(first.extent // share, first.a * share, 0, first.c * share)
        each, outer = [*each, parts], [replace(first, extent=share), *outer[1:]]
    units = Lines([x.extent for x in each], [[x.a for x in each], [x.b for x in each], [x.c for x in each]])
    work = _Unit(ring, p, shape, outer, tiled, blocks, p.terms[len(blocks) :])
    points = p.n * p.k * product(x.extent for x in (*outer, *tiled))
    each_line(e, units, buffers, TERM_NS, points, lambda e, at, _: work.emit(e, *at))


@dataclass(frozen=True, slots=True)
class _Unit:
    """What one thread does at a time."""

    ring: Ring
    p: Windowed
    shape: Shape
    outer: list[Axis]
    tiled: list[Axis]
    blocks: list[Axis]
    terms: list[Axis]

    def emit(self, e: FunctionEmitter, a: Any, b: Any, c: Any) -> None:
        for at, pieces in self._panels(e):
            self._panel(e, a, moved_by(e, b, at, self.p.b_column), moved_by(e, c, at, self.ring.size), pieces)

    def _panels(self, e: FunctionEmitter) -> Iterator[tuple[Any, Sequence[Piece]]]:
        """First column and vectors of each panel, in loops."""
        n, lanes = self.p.n, lanes_of(e.target, self.ring)
        width = self.shape.vectors * lanes
        if not isinstance(n, int):
            count, done = e.dim(n), i64(0)
            for w in dict.fromkeys((width, lanes, 1)):
                top = e.b.sub(count, e.b.srem(count, i64(w)))
                with e.loop(done, top, w, name="j") as j:
                    yield j, pieces_of(w, lanes)
                done = top
            return
        whole = n // width * width
        if whole > width:
            with e.loop(0, whole, width, name="j") as j:
                yield j, pieces_of(width, lanes)
        elif whole:
            yield 0, pieces_of(width, lanes)
        if whole < n:
            yield whole, pieces_of(n - whole, lanes)

    def _panel(self, e: FunctionEmitter, a: Any, b: Any, c: Any, pieces: Sequence[Piece]) -> None:
        if not self.blocks:
            self._rows(e, a, b, c, pieces, self.terms, False)
            return
        self._rows(e, a, b, c, pieces, None, False)  # zeros: there may be no block at all
        span = self.p.b_step * product(t.extent for t in self.terms)
        steps = [span * product(t.extent for t in self.blocks[k + 1 :]) for k in range(len(self.blocks))]
        lines = Lines([t.extent for t in self.blocks], [[t.a for t in self.blocks], steps], join=False)
        walk(e, lines, [a, b], [], lambda e, at, _: self._rows(e, at[0], at[1], c, pieces, self.terms, True))

    def _rows(
        self, e: FunctionEmitter, a: Any, b: Any, c: Any, pieces: Sequence[Piece], terms: list[Axis] | None, adds: bool
    ) -> None:
        """All rows of a unit: without terms zeros are stored; `adds`: to what is there."""

        def tile(e: FunctionEmitter, at: list[Any], offsets: list[tuple[Dim, Dim]]) -> None:
            t = _Tile(e, self.ring, offsets, pieces)
            if adds:
                t.load(at[1], 0, ir.Constant(I1, 0))
            if terms is not None:
                t.add(terms, at[0], b, self.p.b_step)
            t.store(at[1], 0)

        def tiles(e: FunctionEmitter, at: list[Any], _: list[Any]) -> None:
            if self.shape.fixed or not self.tiled:
                tile(e, at, _offsets(self.tiled))
                return
            (last,) = self.tiled
            for start, count in _blocks(e, last.extent, self.shape.rows):
                here = [moved_by(e, at[0], start, last.a), moved_by(e, at[1], start, last.c)]
                tile(e, here, [(last.a * r, last.c * r) for r in range(count)])

        lines = Lines([x.extent for x in self.outer], [[x.a for x in self.outer], [x.c for x in self.outer]])
        walk(e, lines, [a, c], [], tiles)


def _offsets(axes: Sequence[Axis]) -> list[tuple[Dim, Dim]]:
    """Where the rows of a tile are, the last axis running fastest."""
    out: list[tuple[Dim, Dim]] = [(0, 0)]
    for x in axes:
        assert isinstance(x.extent, int)
        out = [(a + x.a * r, c + x.c * r) for a, c in out for r in range(x.extent)]
    return out


def _blocks(e: FunctionEmitter, m: Dim, rows: int) -> Iterator[tuple[Any, int]]:
    """First row and number of rows of each tile along an axis, in loops."""
    if isinstance(m, int):
        whole = m // rows * rows
        if whole > rows:
            with e.loop(0, whole, rows, name="i") as i:
                yield i, rows
        elif whole:
            yield 0, rows
        if whole < m:
            yield whole, m - whole
        return
    extent, done = e.dim(m), i64(0)
    for count in dict.fromkeys((rows, 2, 1)):
        top = e.b.sub(extent, e.b.srem(extent, i64(count)))
        with e.loop(done, top, count, name="i") as i:
            yield i, count
        done = top


ROUTINE = RoutineSpec("windowed", ("dot",), emit_windowed, vectors=True, lower=lower_windowed)
