"""The sum over the rows of a large matrix, read in the order in which it lies.

Lanes along columns and turns along rows would begin every turn on another page: neither the CPU's prefetching nor its
memory follows. So few rows at a time are added up and join a partial result that stays in the cache; pieces of rows
have partial results of their own, which a second nest reduces. Sizes depend on shapes alone: results do not depend on
the number of threads.
"""

from __future__ import annotations

from stager.codegen.column_sums import COMBINE, MOST_BYTES, filling, neutral
from stager.codegen.index import Ix
from stager.codegen.program import Buffer, Instr, Leaf, LoopAxis, Nest, Program, Reduction, Stage, Storage
from stager.ir.dims import product
from stager.ir.dtypes import b1

AT_ONCE = (4, 5, 6, 7, 3, 2)
"""Rows that are added before they join the partial result: the first of these that divides their number."""
PIECE_ROWS = 64
"""Rows of one partial result, so that its error stays small."""
FAR_BYTES = 1 << 10
"""Rows that are nearer than this are read in order anyway."""
LARGE_BYTES = 1 << 20
"""Less than this is in the cache anyway."""


def striped(nest: Nest) -> bool:
    """Whether a nest is a reduction with lanes along large rows and another row every turn of its innermost loop."""
    if nest.outer or len(nest.leaves) != 1:
        return False
    (leaf,) = nest.leaves
    stage, reduced = leaf.stage, [a for a in leaf.loops if a.reduce]
    if stage.stores or len(reduced) != 1 or leaf.loops[-1] is not reduced[0] or leaf.vector in (None, reduced[0].var):
        return False
    if any(r.kind not in COMBINE or r.buffer.dtype is b1 for r in stage.reductions):
        return False
    if any(not isinstance(a.extent, int) for a in leaf.loops):
        return False
    widest = max(r.buffer.dtype.itemsize for r in stage.reductions)
    width = product(a.extent for a in leaf.loops if not a.reduce)
    rows = reduced[0].extent
    if not isinstance(width, int) or width * widest > MOST_BYTES or not isinstance(rows, int) or rows < 2 * PIECE_ROWS:
        return False
    steps = [at.coef(reduced[0].var) for _, at in stage.loads]
    return any(isinstance(c, int) and abs(c) >= FAR_BYTES and abs(c) * rows >= LARGE_BYTES for c in steps)


def stripes(program: Program, nest: Nest) -> Nest:
    """Makes the nest one that adds up pieces of rows; returns the nest that follows it and reduces the pieces."""
    (leaf,) = nest.leaves
    stage, axis = leaf.stage, leaf.loops[-1]
    assert isinstance(axis.extent, int)
    few = next((n for n in AT_ONCE if axis.extent % n == 0), 1)
    rows = axis.extent // few
    nest.rows = PIECE_ROWS // few
    pieces = -(-rows // nest.rows)
    kept = leaf.loops[:-1]
    inner = max(a.var for a in leaf.loops) + 1
    piece = inner + 1
    _split(stage, axis.var, inner, few)
    loops = [LoopAxis(a.var, a.extent) for a in kept]
    body: list[Instr] = []
    final = Stage([], body)
    partial: list[Reduction] = []
    for r in stage.reductions:
        dtype = r.buffer.dtype
        shape = (pieces, *(a.extent for a in kept))
        storage = Storage("temp", f"p{len(program.storages)}", product(shape) * dtype.itemsize)
        program.storages.append(storage)
        buffer = Buffer(storage, dtype, shape)
        at = Ix(0, tuple(sorted(zip((piece, *(a.var for a in kept)), buffer.strides, strict=True))))
        partial.append(Reduction(r.kind, buffer, at, r.value, combine=COMBINE[r.kind]))
        body.append(Instr("load", dtype, (), (buffer, at)))
        final.reductions.append(Reduction(r.kind, r.buffer, r.at, len(body) - 1))
        nest.first.append(filling(buffer, neutral(r.kind, dtype), piece, piece + 1))
    stage.reductions[:] = partial
    leaf.loops = [*loops, LoopAxis(inner, few, True)]
    nest.outer = [LoopAxis(axis.var, rows)]
    nest.piece = piece
    again = [LoopAxis(a.var, a.extent) for a in kept]
    return Nest([], [Leaf([*again, LoopAxis(piece, pieces, True)], final)], f"{nest.name}.total")


def _split(stage: Stage, var: int, inner: int, few: int) -> None:
    """The axis `var` becomes `few * var + inner`."""

    def split(at: Ix) -> Ix:
        c = at.coef(var)
        if c == 0:
            return at
        others = [(v, k) for v, k in at.terms if v != var]
        return Ix(at.const, tuple(sorted([*others, (var, c * few), (inner, c)])))

    for i in stage.body:
        i.move(split)
