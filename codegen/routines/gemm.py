"""Generated matrix products: register tiles, straight from the operands or from packed panels.

`Tile` multiplies a few rows by a few vectors of columns and keeps the sums in registers; everything else here is
loops around it. `direct` reads both operands where they are and wants the second one's columns next to each other;
`packed` first copies both into panels (Goto's method) and takes any strides. Invariant: every sum runs over the
contracted axis in order, in blocks that depend on its length only. Works for every dtype: integers wrap, booleans are
or-ed ands.

Method: K. Goto, R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (2008).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import llvmlite.ir as ir

from stager.codegen.emit import I1, I64, PTR, FunctionEmitter, i64
from stager.codegen.program import Buffer
from stager.codegen.registers import Val, memory_type
from stager.codegen.routines.lines import Lines, carrying, each_line, moved_by, smaller, when
from stager.codegen.scalar import ScalarBuilder
from stager.codegen.target import Target
from stager.ir.dims import Dim, Expr, floordiv
from stager.ir.dtypes import DTYPES, DType, b1

DEPTH = 256
"""Terms of a sum that are added in registers before they go to memory (packed products)."""
SHORT_SUM = 128
"""Terms of a sum that are added two at a time: how often a loop of more turns is guessed wrong no longer counts, and
twice the code takes twice the time to compile."""
BLOCK_ROWS = 96
BLOCK_COLUMNS = 512
"""One unit of a packed product: its part of the first operand stays in the second cache."""

Piece = tuple[int, int]
"""First column and width of one vector of a tile."""


@dataclass(frozen=True, slots=True)
class Ring:
    """How elements of a dtype are multiplied and added."""

    dtype: DType

    @property
    def stored(self) -> DType:
        """The dtype in memory and in registers: booleans are bytes."""
        return DTYPES["u8"] if self.dtype is b1 else self.dtype

    @property
    def size(self) -> int:
        return self.dtype.itemsize

    def spread(self, sb: ScalarBuilder, x: Val) -> Val:
        """A factor of the first operand for all lanes; of a boolean, a mask."""
        if self.dtype is not b1:
            return sb.splat(x)
        one = sb.with_width(1)
        return sb.splat(one.select(one.ne(x, one.const(x.dtype, 0)), one.const(x.dtype, 255), one.const(x.dtype, 0)))

    def add_product(self, sb: ScalarBuilder, total: Val, x: Val, y: Val) -> Val:
        if self.dtype is b1:
            return sb.or_(total, sb.and_(x, y))
        if self.dtype.kind == "f":
            return sb.fma(x, y, total)
        return sb.add(total, sb.mul(x, y))

    def result(self, sb: ScalarBuilder, total: Val) -> Val:
        """What is stored of a sum."""
        if self.dtype is not b1:
            return total
        return sb.select(sb.ne(total, sb.const(total.dtype, 0)), sb.const(total.dtype, 1), sb.const(total.dtype, 0))


def lanes_of(target: Target, ring: Ring) -> int:
    return target.lanes(ring.dtype)


def pieces_of(columns: int, lanes: int) -> list[Piece]:
    """Vectors that cover a number of columns: full ones, then halves."""
    out, at, width = [], 0, lanes
    while at < columns:
        while width > columns - at:
            width //= 2
        out.append((at, width))
        at += width
    return out


class Tile:
    """`rows` times `pieces` of sums in registers."""

    def __init__(self, e: FunctionEmitter, ring: Ring, rows: int, pieces: Sequence[Piece]) -> None:
        self.e, self.ring, self.rows, self.pieces = e, ring, rows, pieces
        self.builders = [e.scalars(w) for _, w in pieces]
        self.sums = [sb.const(ring.stored, 0) for _ in range(rows) for sb in self.builders]

    def cells(self) -> Iterator[tuple[int, int, ScalarBuilder]]:
        """Row, column and builder of each sum."""
        return ((r, at, sb) for r in range(self.rows) for (at, _), sb in zip(self.pieces, self.builders, strict=True))

    def load(self, c: Any, c_row: Any, unless: Any) -> None:
        """Starts from what stands in the result, from zero when the i1 holds."""
        olds = [sb.load(self.place(c, c_row, r, at), self.ring.stored) for r, at, sb in self.cells()]
        self.sums = [
            Val(self.e.b.select(unless, zero.ir, old.ir), old.dtype) for zero, old in zip(self.sums, olds, strict=True)
        ]

    def store(self, c: Any, c_row: Any) -> None:
        for total, (r, at, sb) in zip(self.sums, self.cells(), strict=True):
            sb.store(self.ring.result(sb, total), self.place(c, c_row, r, at))

    def store_turned(self, c: Any, c_row: Dim) -> None:
        """Stores the transpose: one sum after the other, to rows `c_row` apart."""
        e, one = self.e, self.e.scalars(1)
        for total, (r, at, sb) in zip(self.sums, self.cells(), strict=True):
            out = self.ring.result(sb, total)
            for lane in range(sb.width):
                one.store(sb.extract(out, lane), e.offset(moved_by(e, c, at + lane, c_row), r * self.ring.size))

    def place(self, c: Any, c_row: Any, r: int, at: int) -> Any:
        """Where a sum goes; `c_row` a dim or an i64."""
        e = self.e
        by_value = isinstance(c_row, ir.Value)
        row = (e.offset(c, e.b.mul(c_row, i64(r))) if r else c) if by_value else moved_by(e, c, r, c_row)
        return e.offset(row, at * self.ring.size)

    def step(self, sums: list[Val], a_rows: Sequence[Any], b: Any) -> list[Val]:
        """Adds the products of one column of the first operand (an address per row) and one row of the second."""
        e, ring = self.e, self.ring
        one = e.scalars(1)
        ys = [
            sb.load(e.offset(b, at * ring.size), ring.stored)
            for (at, _), sb in zip(self.pieces, self.builders, strict=True)
        ]
        out = []
        for r, a in enumerate(a_rows):
            x = one.load(a, ring.stored)
            spread: dict[int, Val] = {}
            for k, (sb, y) in enumerate(zip(self.builders, ys, strict=True)):
                if sb.width not in spread:
                    spread[sb.width] = ring.spread(sb, x)
                out.append(ring.add_product(sb, sums[r * len(ys) + k], spread[sb.width], y))
        return out

    def run(self, length: Any, a: Any, a_row: Dim, a_step: Dim, b: Any, b_step: Dim, unroll: int = 1) -> None:
        """All terms: `length` an int or an i64. What steps by more than elements has an address of its own: nothing
        is left for LLVM to find out."""
        e = self.e
        apart = isinstance(a_row, int)  # rows are reached from the first one's address
        rows = [a] if apart else [moved_by(e, a, r, a_row) for r in range(self.rows)]

        def terms(k: Any, carried: list[Val], count: int) -> list[Val]:
            sums, here = carried[:-1], carried[-1].ir
            firsts = [moved_by(e, p, k, a_step) for p in rows]
            for u in range(count):
                at = [moved_by(e, p, u, a_step) for p in firsts]
                if apart:
                    at = [moved_by(e, at[0], r, a_row) for r in range(self.rows)]
                sums = self.step(sums, at, here)
                here = moved_by(e, here, 1, b_step)
            return [*sums, Val(here, self.ring.stored)]

        whole: Any = length // unroll * unroll if isinstance(length, int) else e.b.and_(length, i64(-unroll))
        carried = [*self.sums, Val(b, self.ring.stored)]
        if isinstance(length, int) and length <= 4:
            self.sums = terms(0, carried, length)[:-1]
            return
        carried = carrying(e, 0, whole, unroll, carried, lambda k, carried: terms(k, carried, unroll))
        if unroll > 1:
            carried = carrying(e, whole, length, 1, carried, lambda k, carried: terms(k, carried, 1))
        self.sums = carried[:-1]


# -- straight from the operands ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Matrices:
    """One product: extents and byte strides. `c` rows are `c_row` apart, its columns next to each other."""

    m: Dim
    n: Dim
    k: Dim
    a_row: Dim
    a_step: Dim  # along the contracted axis
    b_step: Dim
    b_column: Dim
    c_row: Dim
    swapped: bool = False  # a is the second operand


def tile_shape(target: Target, lanes: int, m: Dim, n: Dim) -> tuple[int, int]:
    """Rows and vectors of a tile: 8 to 12 sums hide the latency of their additions; 16, where they fit, read the second
    operand less often."""
    vectors = 1 if isinstance(n, int) and n < 2 * lanes else 2
    best = (8, 4) if vectors == 1 else (8, 6, 4) if target.vector_registers == 32 else (6, 4)
    rows = best[0]
    if isinstance(m, int):
        rows = next((r for r in best if m % r == 0 and (r > 4 or m < 96)), rows)
        rows = min(rows, m)
    return rows, vectors


def tile_width(target: Target, ring: Ring, p: Matrices) -> int:
    """Columns of a tile."""
    lanes = lanes_of(target, ring)
    return tile_shape(target, lanes, p.m, p.n)[1] * lanes


def lanes_along_rows(ring: Ring, p: Matrices, columns: int, lanes: int) -> bool:
    """Whether the last columns, fewer than lanes, are dearer as vectors of columns than as vectors of adjacent rows of
    the first operand, whose sums are stored one by one."""
    if not columns or p.a_row != ring.size or not (isinstance(p.m, int) and isinstance(p.k, int) and p.m >= lanes):
        return False
    pieces = sum(max(w / lanes, 0.5) for _, w in pieces_of(columns, lanes))  # less than half a register saves nothing
    return p.k * (pieces - columns / lanes) > 1.5 * columns


def direct(e: FunctionEmitter, ring: Ring, p: Matrices, a: Any, b: Any, c: Any, m: Any = None) -> None:
    """c = a b for one pair of matrices. `m`: an i64 that stands for the number of rows.

    Inside of a tile the columns of b are next to each other; the tile after w columns begins w times `b_column` behind.
    """
    lanes = lanes_of(e.target, ring)
    rows, vectors = tile_shape(e.target, lanes, p.m if m is None else 64, p.n)
    k = p.k if isinstance(p.k, int) else e.dim(p.k)
    unroll = 2 if isinstance(k, int) and k % 2 == 0 else 1
    long = isinstance(k, int) and k > SHORT_SUM

    def panel(at: Any, pieces: Sequence[Piece]) -> None:
        here_b, here_c = moved_by(e, b, at, p.b_column), moved_by(e, c, at, ring.size)

        def block(i: Any, count: int) -> None:
            tile = Tile(e, ring, count, pieces)
            alike = all(w == pieces[0][1] for _, w in pieces)
            by = 1 if long and alike else unroll
            tile.run(k, moved_by(e, a, i, p.a_row), p.a_row, p.a_step, here_b, p.b_step, by)
            tile.store(moved_by(e, here_c, i, p.c_row), p.c_row)

        _in_blocks(e, p.m if m is None else m, rows if len(pieces) <= 2 else min(rows, 4), block)

    def turned(at: int, skip: int, columns: int) -> None:
        """The last columns as rows of the transposed product: those of the tile at `at` behind `skip` others."""
        here_b = e.offset(moved_by(e, b, at, p.b_column), skip * ring.size)
        here_c = moved_by(e, c, at + skip, ring.size)

        def block(i: Any, count: int) -> None:
            tile = Tile(e, ring, columns, pieces_of(count, lanes))
            tile.run(k, here_b, ring.size, p.b_step, moved_by(e, a, i, p.a_row), p.a_step, unroll)
            tile.store_turned(moved_by(e, here_c, i, p.c_row), p.c_row)

        _in_blocks(e, p.m, lanes * max(1, 8 // columns), block)

    width = vectors * lanes
    if isinstance(p.n, int):
        whole = p.n // width * width
        if whole == width:
            panel(0, pieces_of(width, lanes))
        elif whole:
            with e.loop(0, whole, width, name="j") as j:
                panel(j, pieces_of(width, lanes))
        last = p.n - whole
        if last and m is None and lanes_along_rows(ring, p, last % lanes, lanes):
            if last > lanes:
                panel(whole, pieces_of(lanes, lanes))
            turned(whole, last // lanes * lanes, last % lanes)
        elif last:
            panel(whole, pieces_of(last, lanes))
        return
    n = e.dim(p.n)
    done: Any = i64(0)
    for w in dict.fromkeys((width, lanes, 1)):
        top = e.b.sub(n, e.b.srem(n, i64(w)))
        with e.loop(done, top, w, name="j") as j:
            panel(j, pieces_of(w, lanes))
        done = top


def _in_blocks(e: FunctionEmitter, m: Any, rows: int, block: Any) -> None:
    """block(first row, number of rows) over m rows: an int, a dim or an i64."""
    if isinstance(m, int):
        whole = m // rows * rows
        if whole == rows:
            block(0, rows)
        elif whole:
            with e.loop(0, whole, rows, name="i") as i:
                block(i, rows)
        if whole < m:
            block(whole, m - whole)
        return
    m = e.dim(m) if isinstance(m, Expr) else m
    whole = e.b.sub(m, e.b.srem(m, i64(rows)))
    with e.loop(0, whole, rows, name="i") as i:
        block(i, rows)
    with e.loop(whole, m, name="i") as i:
        block(i, 1)


# -- packed -----------------------------------------------------------------------------------------------------------


def packed_tile(target: Target, ring: Ring) -> tuple[int, int]:
    """Rows and columns of the tile of packed products."""
    return (6, 2 * lanes_of(target, ring)) if target.vector_bits else (4, 4)


def panels(extent: Dim, width: int) -> Dim:
    """How many panels cover an extent."""
    return floordiv(extent + (width - 1), width)


def packing(target: Target, ring: Ring, width: int, extent: Dim, across: Dim, along: Dim, length: Dim) -> list[str]:
    """The ways in which the panels of a matrix are packed, of which the first that can be is taken: "squares" of some
    lanes, "rows", "apart"; and "part", of a panel that is not full."""
    size, lanes = ring.size, lanes_of(target, ring)
    sides = [s for s in dict.fromkeys((lanes, max(lanes // 2, min(lanes, 4)))) if s >= 2 and width % s == 0]
    ways = [f"squares{s}" for s in sides if not isinstance(length, int) or length >= s]
    if isinstance(along, int) and along != size:
        ways = []
    known = isinstance(across, int) and isinstance(along, int) and isinstance(length, int)
    ways += ["rows"] if not isinstance(across, int) or across == size else []
    ways += ["apart"]
    part = not isinstance(extent, int) or extent % width
    full = not isinstance(extent, int) or extent >= width
    return [*(ways[: 1 if known else None] if full else []), *(["part"] if part else [])]


def pack_function(e: FunctionEmitter, ring: Ring, width: int, ways: Sequence[str]) -> Any:
    """`void (from, across, along, to, count, length)`: panel to[k][j] = from[j*across + k*along], 0 for j >= count.
    `ways`: of `packing`."""
    name = f"stager_pack_{ring.dtype}_{width}_{'_'.join(ways)}"
    found = e.module.globals.get(name)
    if found is not None:
        return found
    from stager.codegen.declarations import VOID
    from stager.codegen.structured import Code

    params = [("from", PTR), ("across", I64), ("along", I64), ("to", PTR), ("count", I64), ("length", I64)]
    c = Code(e.module, name, VOID, params, linkage="internal")
    with c.if_(c.eq(c.arg("count"), width)):
        for way in ways:
            if way == "part":
                continue
            with c.if_(_can_be_packed(c, ring, way)):
                _pack(e, c, ring, width, way)
                c.ret()
        c.ret()
    if "part" in ways:
        _pack_part(c, ring, width)
    c.ret()
    return c.finish()


def _can_be_packed(c: Any, ring: Ring, way: str) -> Any:
    if way == "rows":
        return c.eq(c.arg("across"), ring.size)
    if way == "apart":
        return I1(1)
    return c.and_(c.eq(c.arg("along"), ring.size), c.ge(c.arg("length"), int(way.removeprefix("squares"))))


def _pack(e: FunctionEmitter, c: Any, ring: Ring, width: int, way: str) -> None:
    """One full panel."""
    t, size = memory_type(ring.stored), ring.size
    source, across, along, to, n = (c.arg(x) for x in ("from", "across", "along", "to", "length"))
    if way.startswith("squares"):  # they are transposed; the last two may overlap
        side = int(way.removeprefix("squares"))
        sb = ScalarBuilder(c.b, side, e.target, e.m.functions)
        with c.for_range(0, c.udiv(c.add(n, side - 1), side)) as square:
            first = c.min(c.mul(square, side), c.sub(n, side))
            for at in range(0, width, side):
                corner = c.offset(source, c.add(c.mul(across, at), c.mul(first, size)))
                rows = [sb.load(c.offset(corner, c.mul(across, j)), ring.stored) for j in range(side)]
                place = c.offset(to, c.add(c.mul(first, width * size), at * size))
                for j, row in enumerate(sb.transposed(rows)):
                    sb.store(row, c.offset(place, j * width * size))
    elif way == "rows":
        with c.for_range(0, n) as k:
            row, place = c.offset(source, c.mul(k, along)), c.offset(to, c.mul(k, width * size))
            for at, w in pieces_of(width, lanes_of(e.target, ring)):
                sb = ScalarBuilder(c.b, w, e.target, e.m.functions)
                sb.store(sb.load(c.offset(row, at * size), ring.stored), c.offset(place, at * size))
    else:
        rows = [c.offset(source, c.mul(across, j)) for j in range(width)]
        with c.for_range(0, n) as k:
            by, place = c.mul(k, along), c.offset(to, c.mul(k, width * size))
            for j, row in enumerate(rows):
                c.store(c.load(c.offset(row, by), t, align=size), c.offset(place, j * size), align=size)


def _pack_part(c: Any, ring: Ring, width: int) -> None:
    """A panel that is not full: zeros stand behind what there is."""
    t, size = memory_type(ring.stored), ring.size
    source, across, along, to, count = (c.arg(x) for x in ("from", "across", "along", "to", "count"))
    zero = ir.Constant(t, 0.0 if ring.dtype.kind == "f" else 0)
    with c.for_range(0, c.arg("length")) as k:
        row, place = c.offset(source, c.mul(k, along)), c.offset(to, c.mul(k, width * size))
        with c.for_range(0, count) as j:
            x = c.load(c.offset(row, c.mul(across, j)), t, align=size)
            c.store(x, c.offset(place, c.mul(j, size)), align=size)
        with c.for_range(count, width) as j:
            c.store(zero, c.offset(place, c.mul(j, size)), align=size)


def pack_panels(
    e: FunctionEmitter,
    ring: Ring,
    lines: Lines,
    buffers: Sequence[Buffer],
    extent: Dim,
    width: int,
    across: Dim,
    along: Dim,
    length: Dim,
) -> None:
    """Copies a matrix of each line, [from, to] = `buffers`, into panels of `width` of its `extent` rows or columns."""
    function = pack_function(e, ring, width, packing(e.target, ring, width, extent, across, along, length))
    units = Lines(
        [*lines.extents, panels(extent, width)],
        [[*s, step] for s, step in zip(lines.strides, (across * width, length * (width * ring.size)), strict=True)],
        join=False,
        keep=1,
    )

    def unit(e: FunctionEmitter, at: list[Any], index: list[Any]) -> None:
        count = smaller(e, e.b.sub(e.dim(extent), e.b.mul(index[-1], i64(width))), i64(width))
        e.b.call(function, [at[0], e.dim(across), e.dim(along), at[1], count, e.dim(length)])

    each_line(e, units, buffers, 0.5, length * width, unit)


def multiply_function(e: FunctionEmitter, ring: Ring) -> Any:
    """`i32 (a panels, b panels, c, c_row, rows, columns, length)`: one unit of a packed product."""
    name = f"stager_multiply_{ring.dtype}"
    found = e.module.globals.get(name)
    if found is not None:
        return found
    mr, nr = packed_tile(e.target, ring)
    f = FunctionEmitter(e.m, name, params=[PTR, PTR, PTR, I64, I64, I64, I64])
    a, b, c, c_row, m, n, length = f.fn.args
    size = ring.size
    bb = f.b
    spare = f.alloca(ir.ArrayType(ir.IntType(8), mr * nr * size), "spare", 64)
    pieces = pieces_of(nr, max(1, lanes_of(e.target, ring)))
    a_panel, b_panel = bb.mul(length, i64(mr * size)), bb.mul(length, i64(nr * size))
    once = bb.select(bb.icmp_signed("<", length, i64(1)), i64(1), length)  # an empty sum is stored too
    with f.loop(0, once, DEPTH, name="block") as start:
        depth = smaller(f, bb.sub(length, start), i64(DEPTH))
        first = bb.icmp_signed("==", start, i64(0))
        a_here = f.offset(a, bb.mul(start, i64(mr * size)))
        b_here = f.offset(b, bb.mul(start, i64(nr * size)))
        with f.loop(0, n, nr, name="j") as j:
            columns = smaller(f, bb.sub(n, j), i64(nr))
            b_at = f.offset(b_here, bb.mul(bb.udiv(j, i64(nr)), b_panel))
            with f.loop(0, m, mr, name="i") as i:
                rows = smaller(f, bb.sub(m, i), i64(mr))
                a_at = f.offset(a_here, bb.mul(bb.udiv(i, i64(mr)), a_panel))
                c_at = f.offset(f.offset(c, bb.mul(i, c_row)), bb.mul(j, i64(size)))
                whole = bb.and_(bb.icmp_signed("==", rows, i64(mr)), bb.icmp_signed("==", columns, i64(nr)))
                part = bb.not_(whole)
                with when(f, part):
                    _copy_tile(f, ring, c_at, c_row, spare, i64(nr * size), rows, columns)
                # a tile over the edge is computed whole, beside the result
                to, to_row = bb.select(whole, c_at, spare), bb.select(whole, c_row, i64(nr * size))
                tile = Tile(f, ring, mr, pieces)
                tile.load(to, to_row, first)
                tile.run(depth, a_at, size, mr * size, b_at, nr * size, unroll=4)
                tile.store(to, to_row)
                with when(f, part):
                    _copy_tile(f, ring, spare, i64(nr * size), c_at, c_row, rows, columns)
    f.finish()
    return f.fn


def _copy_tile(e: FunctionEmitter, ring: Ring, a: Any, a_row: Any, b: Any, b_row: Any, rows: Any, columns: Any) -> None:
    t, size = memory_type(ring.stored), ring.size
    with e.loop(0, rows, name="r") as r, e.loop(0, columns, name="s") as s:
        by = e.b.mul(s, i64(size))
        x = e.b.load(e.offset(e.offset(a, e.b.mul(r, a_row)), by), typ=t, align=size)
        e.b.store(x, e.offset(e.offset(b, e.b.mul(r, b_row)), by), align=size)
