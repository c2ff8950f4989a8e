"""`dot`: which code multiplies, and what operands look like to it.

A contraction becomes batches of plain matrix products c[m, n] = sum over k of a[m, k] b[k, n], with byte strides, so
views and transposes cost nothing. By size it is then
- a loop nest (one of m and n is 1): fuses with its neighbours like any reduction;
- *stripes*, *dots*: few rows times a large matrix, a large matrix times a vector: it streams through once;
- *direct*: register tiles that read the operands where they are (small and medium sizes, columns of b adjacent);
- *half packed*: the same, of a small b that is copied into panels because its columns are not adjacent;
- of direct and half packed ones that are symmetric, one half (`codegen/symmetric.py`, `halves.py`);
- BLAS, when the caller allows it (large f32 and f64), one thread per piece, pieces on stager's pool;
- *packed*: Goto's method in generated code, for all else.
Symbolic sizes choose while running. Invariant: the choice and the order of every sum depend on shapes, layouts and
target, never on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stager.codegen.emit import I32, PTR, FunctionEmitter, i64
from stager.codegen.products import ARGUMENTS, PRODUCTS
from stager.codegen.program import Buffer, Routine, Storage
from stager.codegen.pull import value_key
from stager.codegen.routines import RoutineSpec
from stager.codegen.routines.gemm import (
    BLOCK_COLUMNS,
    BLOCK_ROWS,
    Matrices,
    Ring,
    direct,
    multiply_function,
    pack_panels,
    packed_tile,
    panels,
    tile_width,
)
from stager.codegen.routines.halves import half, half_tile, is_finite, mirror
from stager.codegen.routines.lines import Lines, each_line, moved_by, smaller, walk, when
from stager.codegen.routines.stripes import ROWS, STRIPE_BYTES, several_dots, stripe
from stager.codegen.symmetric import Symmetry
from stager.codegen.target import Target
from stager.codegen.work import PRODUCT_NS
from stager.ir.dims import Dim, Expr, contiguous_strides, product
from stager.ir.dtypes import DType, f32, f64
from stager.ir.graph import Node, Value
from stager.ir.types import Type

if TYPE_CHECKING:
    from stager.codegen.lower import Walk

DIRECT_WORK = 64**3
"""Products of at least this many terms go to BLAS or are packed."""
WIDE_DIRECT_WORK = 1 << 23
"""The same of floats with 512-bit registers, 32 of them: tiles of 8 rows run at the speed of the multipliers while the
second operand's panels stay in the second cache."""
DIRECT_DEPTH = 4096
"""Terms of a sum that are added one after the other in a product of that size."""
FEW = 4
"""Rows or columns that are so few do not pay for laying out windows as a matrix."""
BLAS_LEAST = 8
"""BLAS is slow when an extent is less."""
HALVED_DEPTH = 32
"""Terms of the shortest sums that are dearer than a copy of their results."""
STREAM_BYTES = 1 << 17
"""A matrix of at least this size is read in the order in which it lies."""
STRIPE_ROWS = 4
THREAD_WORK = 1 << 20
"""Terms that make a second thread worth while."""
CALL_TYPES = tuple(ARGUMENTS.values())


@dataclass(slots=True)
class Groups:
    """The axes of a contraction by their role: (x axis, y axis) pairs, x axes, y axes."""

    batch: list[tuple[int, int]]
    rows: list[int]
    columns: list[int]
    inner: list[tuple[int, int]]


def groups_of(node: Node) -> Groups:
    """The roles; the contracted pairs in the order of x's axes."""
    x, y = node.args
    (xc, yc), (xb, yb) = node.params["contract"], node.params["batch"]
    rows = [d for d in range(x.type.ndim) if d not in xc and d not in xb]
    columns = [d for d in range(y.type.ndim) if d not in yc and d not in yb]
    return Groups(list(zip(xb, yb, strict=True)), rows, columns, sorted(zip(xc, yc, strict=True)))


def joined(b: Buffer, axes: list[int]) -> tuple[Dim, Dim] | None:
    """Extent and stride of some axes taken as one, in their order; None when memory does not allow it."""
    extent: Dim = 1
    stride: Dim = 0
    for a in reversed(axes):
        if b.shape[a] == 1:
            continue
        if extent == 1:
            extent, stride = b.shape[a], b.strides[a]
        elif b.strides[a] == stride * extent:
            extent = extent * b.shape[a]
        else:
            return None
    return extent, stride


def matrices(node: Node, x: Buffer, y: Buffer) -> Matrices:
    """The plain product, of operands whose axes join."""
    g = groups_of(node)
    rows, inner = joined(x, g.rows), joined(x, [a for a, _ in g.inner])
    columns, inner_y = joined(y, g.columns), joined(y, [b for _, b in g.inner])
    assert rows
    assert inner
    assert columns
    assert inner_y
    size = x.dtype.itemsize
    c_row = columns[0] * size
    if columns[0] == 1 and rows[0] != 1 and rows[1] == size:  # a matrix, transposed, times a vector
        return Matrices(1, rows[0], inner[0], 0, inner_y[1], inner[1], rows[1], c_row, swapped=True)
    if rows[0] == 1 and columns[0] != 1 and inner_y[1] == size != columns[1]:  # a vector times a transposed matrix
        return Matrices(columns[0], 1, inner[0], columns[1], inner_y[1], inner[1], 0, size, swapped=True)
    return Matrices(rows[0], columns[0], inner[0], rows[1], inner[1], inner_y[1], columns[1], c_row)


def methods(node: Node, p: Matrices, target: Target, blas: bool) -> tuple[str, str]:
    """How to multiply when the work is small, and when it is not."""
    dtype = node.types[0].dtype
    adjacent = p.n == 1 or p.b_column == dtype.itemsize
    if isinstance(p.m, int) and p.m <= STRIPE_ROWS and adjacent:
        size = p.n * p.k * dtype.itemsize
        if isinstance(size, Expr) or size >= STREAM_BYTES:
            return "stripes", "stripes"
    if p.n == 1 and p.a_step == p.b_step == dtype.itemsize and dtype.kind == "f":
        size = p.m * p.k * dtype.itemsize
        if isinstance(size, int) and size >= STREAM_BYTES and p.m != 1:
            return "dots", "dots"
    if p.m == 1 or p.n == 1:
        return "nest", "nest"
    small = "direct" if adjacent else "half_packed" if isinstance(p.m * p.n * p.k, int) else "packed"
    large = "packed"
    if blas and dtype in (f32, f64) and _blas_takes(p, dtype.itemsize):
        large = "blas"
    work = p.m * p.n * p.k
    if isinstance(work, int):
        if work <= 32:
            return "nest", "nest"
        least = min(d for d in (p.m, p.n, p.k) if isinstance(d, int))
        if large == "blas" and least < BLAS_LEAST:
            large = small
        return (small, small) if work < direct_work(p, dtype, target) else (large, large)
    return small, large


def symmetry(node: Node, p: Matrices, target: Target) -> Symmetry | None:
    """What makes half of a product enough, where that is less work."""
    dtype = node.types[0].dtype
    if dtype not in (f32, f64) or not isinstance(p.m, int) or p.m != p.n:
        return None
    if p.m < 2 * half_tile(target, Ring(dtype), p)[1] or (isinstance(p.k, int) and p.k < HALVED_DEPTH):
        return None
    found = Symmetry(node)
    return found if found.holds else None


def direct_work(p: Matrices, dtype: DType, target: Target) -> int:
    """How many terms are too many for register tiles on the operands where they are."""
    wide = target.vector_bits == 512 and dtype.kind == "f" and isinstance(p.k, int) and p.k <= DIRECT_DEPTH
    return WIDE_DIRECT_WORK if wide else DIRECT_WORK


def _blas_takes(p: Matrices, size: int) -> bool:
    """Whether BLAS can express the strides."""

    def plain(row: Dim, column: Dim, rows: Dim, columns: Dim) -> bool:
        if column == size:
            return _leading(row, columns, size)
        return row == size and _leading(column, rows, size)

    return plain(p.a_row, p.a_step, p.m, p.k) and plain(p.b_step, p.b_column, p.k, p.n)


def _leading(stride: Dim, extent: Dim, size: int) -> bool:
    if isinstance(stride, int) and isinstance(extent, int):
        return stride % size == 0 and stride >= extent * size
    return stride == extent * size


# -- lowering -------------------------------------------------------------------------------------------------------


def lower_dot(w: Walk, node: Node) -> bool:
    """Operands into memory, in an order whose axes join; views stay views where they do. False: better a loop nest."""
    x, y = node.args
    g = groups_of(node)
    x_groups = [[a for a, _ in g.batch], g.rows, [a for a, _ in g.inner]]
    y_groups = [[b for _, b in g.batch], [b for _, b in g.inner], g.columns]
    m, n = product(x.shape[a] for a in g.rows), product(y.shape[b] for b in g.columns)
    k = product(x.shape[a] for a, _ in g.inner)
    if any(d == 0 for d in (*x.shape, *y.shape)) or k == 1 or (m == 1 and n == 1):
        return False
    few = min((d for d in (m, n) if isinstance(d, int)), default=FEW + 1)
    if few <= FEW and any(_overlaps(w, v, groups) for v, groups in ((x, x_groups), (y, y_groups))):
        return False  # windows are read where they are: as a matrix they are many times what they are made of
    if m == 1 or n == 1:
        guess = [_layout(w, x, x_groups), _layout(w, y, y_groups)]
        if any(
            joined(b, axes) is None for b, parts in zip(guess, (x_groups, y_groups), strict=True) for axes in parts[1:]
        ):
            return False  # a vector times a tensor whose axes do not join as they stand
    else:
        guess = [operand(w, x, x_groups), operand(w, y, y_groups)]
    ways = methods(node, matrices(node, *guess), w.ctx.target, w.ctx.blas)
    if ways[0] == "nest" or (ways[0] == "dots" and not all(w.in_memory(v) for v in (x, y))):
        return False
    inputs = [operand(w, x, x_groups), operand(w, y, y_groups)] if m == 1 or n == 1 else guess
    out = Value(node)
    home = w.homes.get(id(node) << 20)
    if home is not None and any(home.storage is b.storage for b in inputs):  # never over what it reads
        result = w.ctx.buffers[id(node) << 20] = w.ctx.temp(out.type)
    else:
        result = w.result(out)
    scratch = []
    p = matrices(node, *inputs)
    ways = methods(node, p, w.ctx.target, w.ctx.blas)
    ring = Ring(x.type.dtype)
    packed: list[tuple[Dim, int]] = []
    if "packed" in ways:
        packed = list(zip((p.m, p.n), packed_tile(w.ctx.target, ring), strict=True))
    elif "half_packed" in ways:
        packed = [(p.n, tile_width(w.ctx.target, ring, p))]
    batch = tuple(x.shape[a] for a, _ in g.batch)
    for extent, width in packed:
        scratch.append(w.ctx.temp(Type(x.type.dtype, (*batch, panels(extent, width) * width * p.k)), "w"))
    w.steps.append(Routine("dot", node, inputs, [result], scratch))
    return True


def _overlaps(w: Walk, v: Value, groups: list[list[int]]) -> bool:
    """Whether elements of an array in memory are elements of the operand several times, in no matrix."""
    if not w.in_memory(v):
        return False
    at = w.origin(v)
    while at.node.op.name != "windows":
        if at.node.op.family != "view" or value_key(at) in w.ctx.buffers:
            return False
        at = w.origin(at.node.args[0])
    b = w.as_buffer(v)
    return any(joined(b, axes) is None for axes in groups[1:])


def _layout(w: Walk, v: Value, groups: list[list[int]]) -> Buffer:
    """How an operand lies in memory, or would lie: nothing is computed for it."""
    dense = Buffer(Storage("temp", "layout", 0), v.type.dtype, v.shape)
    b = w.as_buffer(v) if w.in_memory(v) else dense
    return b if all(joined(b, axes) is not None for axes in groups[1:]) else dense


def operand(w: Walk, v: Value, groups: list[list[int]], *, copied: bool = False) -> Buffer:
    """A buffer in which the axes of each group but the batch's join; a copy when they do not, or when asked for."""
    b = w.as_buffer(v)
    if not copied and all(joined(b, axes) is not None for axes in groups[1:]):
        return b
    order = [a for axes in groups for a in axes]
    dense = contiguous_strides(tuple(v.shape[a] for a in order), v.type.dtype.itemsize)
    made = w.ctx.temp(v.type)
    strides = tuple(dense[order.index(a)] for a in range(v.type.ndim))
    copy = Buffer(made.storage, v.type.dtype, v.shape, strides)
    w.write(w.origin(v), copy)
    return copy


# -- emission -------------------------------------------------------------------------------------------------------


def emit_dot(e: FunctionEmitter, call: Routine) -> None:
    """The code of one contraction."""
    _Product(e, call).emit(e)


class _Product:
    def __init__(self, e: FunctionEmitter, call: Routine) -> None:
        self.node = call.node
        g = groups_of(call.node)
        x, y = call.inputs
        self.p = p = matrices(call.node, x, y)
        self.ring = Ring(x.dtype)
        self.out = call.outputs[0]
        self.a, self.b = (y, x) if p.swapped else (x, y)
        self.scratch = call.scratch
        self.ways = methods(call.node, p, e.target, e.m.blas)
        self.symmetry = symmetry(call.node, p, e.target)
        a_axes, b_axes = [a for a, _ in g.batch], [b for _, b in g.batch]
        if p.swapped:
            a_axes, b_axes = b_axes, a_axes
        self.extents = [self.a.shape[k] for k in a_axes]
        count = len(self.extents)
        self.strides = [
            [self.a.strides[k] for k in a_axes],
            [self.b.strides[k] for k in b_axes],
            list(self.out.strides[:count]),
            *(list(s.strides[:count]) for s in self.scratch),
        ]
        self.buffers = [self.a, self.b, self.out, *self.scratch]

    def batches(self, operands: Sequence[int]) -> Lines:
        return Lines(self.extents, [self.strides[k] for k in operands])

    def emit(self, e: FunctionEmitter) -> None:
        small, large = self.ways
        if small == large:
            getattr(self, small)(e)
            return
        b = e.b
        work = e.dim(self.p.m * self.p.n * self.p.k)
        much = b.icmp_signed(">=", work, i64(direct_work(self.p, self.ring.dtype, e.target)))
        if large == "blas":
            for d in (self.p.m, self.p.n, self.p.k):
                much = b.and_(much, b.icmp_signed(">=", e.dim(d), i64(BLAS_LEAST)))
        with when(e, much):
            getattr(self, large)(e)
        with when(e, b.not_(much)):
            getattr(self, small)(e)

    def when_some(self, e: FunctionEmitter) -> Any:
        """i1: whether there is a sum to add up at all."""
        return e.b.icmp_signed(">", e.dim(self.p.k), i64(0))

    # -- small ones -------------------------------------------------------------------------------------------------

    def half_packed(self, e: FunctionEmitter) -> None:
        p, size = self.p, self.ring.size
        width = tile_width(e.target, self.ring, p)
        self._pack(e, 1, 3, p.n, width, p.b_column, p.b_step)
        self.direct(e, 3, replace(p, b_column=p.k * size, b_step=width * size))

    def direct(self, e: FunctionEmitter, b: int = 1, panels_of_b: Matrices | None = None) -> None:
        """`b`: which buffer holds the second operand."""
        p, ring = panels_of_b or self.p, self.ring
        operands = [0, b, 2]
        if self.symmetry is not None:
            self._halves(e, operands, p, self.symmetry.exactly)
            return
        lines, buffers = self.batches(operands), [self.buffers[k] for k in operands]
        points = p.m * p.n * p.k
        rows = self._rows_of_unit(lines.count)
        if rows is None:

            def whole(e: FunctionEmitter, at: list[Any], _: list[Any]) -> None:
                direct(e, ring, p, at[0], at[1], at[2])

            each_line(e, lines, buffers, PRODUCT_NS, points, whole)
            return
        blocks = panels(p.m, rows)
        units = Lines(
            [*lines.extents, blocks],
            [[*s, step * rows] for s, step in zip(lines.strides, (p.a_row, 0, p.c_row), strict=True)],
            join=False,
        )

        def unit(e: FunctionEmitter, at: list[Any], index: list[Any]) -> None:
            left = e.b.sub(e.dim(p.m), e.b.mul(index[-1], i64(rows))) if blocks != 1 else e.dim(p.m)
            direct(e, ring, p, at[0], at[1], at[2], smaller(e, left, i64(rows)))

        each_line(e, units, buffers, PRODUCT_NS, p.n * p.k * rows, unit)

    def _halves(self, e: FunctionEmitter, operands: Sequence[int], p: Matrices, exactly: bool) -> None:
        """A symmetric product: half of it, and the other half copied."""
        ring = self.ring
        assert isinstance(p.m, int)
        rows, _ = half_tile(e.target, ring, p)
        lines, buffers = self.batches(operands), [self.buffers[k] for k in operands]
        steps = (p.a_row * rows, 0, p.c_row * rows)
        blocks = [-(-p.m // rows)]
        units = Lines(
            [*lines.extents, *blocks],
            [[*s, step] for s, step in zip(lines.strides, steps, strict=True)],
            join=False,
            keep=1,
        )

        def unit(e: FunctionEmitter, at: list[Any], index: list[Any]) -> None:
            half(e, ring, p, at, index[-1], below=True)

        def other(e: FunctionEmitter, at: list[Any], _: list[Any]) -> None:
            if exactly:
                mirror(e, ring, p, at[2])
                return
            finite = is_finite(e, ring, p, at[2])
            with when(e, finite):
                mirror(e, ring, p, at[2])
            with when(e, e.b.not_(finite)):
                walk(e, Lines(blocks, [[s] for s in steps], keep=1), at, [], above)

        def above(e: FunctionEmitter, at: list[Any], index: list[Any]) -> None:
            half(e, ring, p, at, index[-1], below=False)

        each_line(e, units, buffers, PRODUCT_NS, p.n * p.k * rows, unit)
        with e.scope():
            walk(e, lines, [e.pointer(b) for b in buffers], [], other)

    def _rows_of_unit(self, count: Dim) -> int | None:
        """Rows of a piece for one thread; None to divide by batches only."""
        p = self.p
        if isinstance(count, Expr) or count >= 8:
            return None
        work = p.m * p.n * p.k * count
        if isinstance(work, int) and work < THREAD_WORK:
            return None
        return 24

    def stripes(self, e: FunctionEmitter) -> None:
        p, ring = self.p, self.ring
        lines = self.batches([0, 1, 2])
        width = STRIPE_BYTES // ring.size
        units = Lines(
            [*lines.extents, panels(p.n, width)],
            [[*s, step * width] for s, step in zip(lines.strides, (0, ring.size, ring.size), strict=True)],
            join=False,
        )
        single = isinstance(p.n, int) and p.n <= width

        def unit(e: FunctionEmitter, at: list[Any], index: list[Any]) -> None:
            columns: Any = p.n
            if not single:
                columns = smaller(e, e.b.sub(e.dim(p.n), e.b.mul(index[-1], i64(width))), i64(width))
            stripe(e, ring, p, at[0], at[1], at[2], columns)

        each_line(e, units, self.buffers[:3], 0.3, p.k * (p.n if single else width), unit)

    def dots(self, e: FunctionEmitter) -> None:
        p, ring = self.p, self.ring
        lines = self.batches([0, 1, 2])
        assert isinstance(p.m, int)
        whole, rest = divmod(p.m, ROWS)

        def unit(e: FunctionEmitter, at: list[Any], _: list[Any]) -> None:
            several_dots(e, ring, p, at[0], at[1], at[2], ROWS)

        def remainder(e: FunctionEmitter, at: list[Any], _: list[Any]) -> None:
            start, to = moved_by(e, at[0], whole * ROWS, p.a_row), moved_by(e, at[2], whole * ROWS, p.c_row)
            several_dots(e, ring, p, start, at[1], to, rest)

        if whole:
            steps = (p.a_row * ROWS, 0, p.c_row * ROWS)
            strides = [[*s, step] for s, step in zip(lines.strides, steps, strict=True)]
            each_line(e, Lines([*lines.extents, whole], strides), self.buffers[:3], 0.06, p.k * ROWS, unit)
        if rest:
            each_line(e, lines, self.buffers[:3], 0.06, p.k * rest, remainder)

    # -- packed -----------------------------------------------------------------------------------------------------

    def packed(self, e: FunctionEmitter) -> None:
        p, ring, size = self.p, self.ring, self.ring.size
        mr, nr = packed_tile(e.target, ring)
        for source, to, extent, width, across, along in (
            (0, 3, p.m, mr, p.a_row, p.a_step),
            (1, 4, p.n, nr, p.b_column, p.b_step),
        ):
            self._pack(e, source, to, extent, width, across, along)
        multiply = multiply_function(e, ring)
        lines = self.batches([2, 3, 4])
        by_rows = [p.c_row * BLOCK_ROWS, p.k * (BLOCK_ROWS * size), 0]
        by_columns = [BLOCK_COLUMNS * size, 0, p.k * (BLOCK_COLUMNS * size)]
        units = Lines(
            [*lines.extents, panels(p.m, BLOCK_ROWS), panels(p.n, BLOCK_COLUMNS)],
            [[*s, r, c] for s, r, c in zip(lines.strides, by_rows, by_columns, strict=True)],
            join=False,
            keep=2,
        )

        def unit(e: FunctionEmitter, at: list[Any], index: list[Any]) -> None:
            b = e.b
            m = smaller(e, b.sub(e.dim(p.m), b.mul(index[-2], i64(BLOCK_ROWS))), i64(BLOCK_ROWS))
            n = smaller(e, b.sub(e.dim(p.n), b.mul(index[-1], i64(BLOCK_COLUMNS))), i64(BLOCK_COLUMNS))
            c, a_panels, b_panels = at
            b.call(multiply, [a_panels, b_panels, c, e.dim(p.c_row), m, n, e.dim(p.k)])

        points = _least(p.m, BLOCK_ROWS) * _least(p.n, BLOCK_COLUMNS) * p.k
        each_line(e, units, [self.out, *self.scratch], PRODUCT_NS, points, unit)

    def _pack(self, e: FunctionEmitter, source: int, to: int, extent: Dim, width: int, across: Dim, along: Dim) -> None:
        lines, buffers = self.batches([source, to]), [self.buffers[source], self.buffers[to]]
        pack_panels(e, self.ring, lines, buffers, extent, width, across, along, self.p.k)

    # -- BLAS -------------------------------------------------------------------------------------------------------

    def blas(self, e: FunctionEmitter) -> None:
        p = self.p
        lines = self.batches([0, 1, 2])
        work = p.m * p.n * p.k
        if lines.extents and isinstance(lines.count, int) and lines.count < 4:  # few, so each is divided
            with e.scope():
                walk(e, lines, [e.pointer(b) for b in self.buffers[:3]], [], self._call)
            return
        if not lines.extents:
            self._call(e, [e.pointer(b) for b in self.buffers[:3]], [])
            return
        each_line(e, lines, self.buffers[:3], PRODUCT_NS, work, self._call)

    def _call(self, e: FunctionEmitter, at: Sequence[Any], _: Sequence[Any]) -> None:
        p = self.p
        product_of = e.external(PRODUCTS[self.ring.dtype.name], I32, [PTR, *CALL_TYPES])
        a, b, c = at
        m, n, k, a_row, a_step, b_row, b_step, c_row = (
            e.dim(d) for d in (p.m, p.n, p.k, p.a_row, p.a_step, p.b_step, p.b_column, p.c_row)
        )
        status = e.b.call(product_of, [e.context, m, n, k, a, a_row, a_step, b, b_row, b_step, c, c_row])
        e.leave_if(e.b.icmp_signed("!=", status, I32(0)), status)


def _least(d: Dim, bound: int) -> Dim:
    return min(d, bound) if isinstance(d, int) else bound


ROUTINE = RoutineSpec("dot", ("dot",), emit_dot, vectors=True, lower=lower_dot)
