"""Reductions over the shared loops of a nest, computed while its rows are in the cache.

The rows are divided into pieces; each piece adds its rows into a partial result of its own, a later stage reduces the
partial results. The gradient of a normalisation so reads its arrays once: what is reduced along each row and what is
reduced over the rows share one pass. Invariant: pieces follow from extents alone, so the order of every sum does not
depend on threads. Which nest a reduction joins is `codegen/fuse.py`'s question.
"""

from __future__ import annotations

from dataclasses import dataclass

from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.program import Axis, Buffer, Instr, Leaf, LoopAxis, Reduction, Stage, Storage, Store
from stager.ir.dims import Dim, Expr, contiguous_strides, floordiv, product
from stager.ir.dtypes import b1

COMBINE = {"sum": "sum", "prod": "mul", "min": "min", "max": "max"}
LEAST_ROWS = 32
"""Rows of a piece: filling and reducing the partial results must stay a small part of the work."""
LEAST_LANES = 4
"""Sums of their own, which are all that threads can share."""
LEAST_LINES = 8
"""Rows of each of these."""
MOST_PIECES = 64
LEAST_POINTS = 1 << 12
"""Smaller reductions stay in the cache anyway."""
MOST_BYTES = 1 << 17
"""A partial result that is not in the cache from row to row costs more than a pass of its own."""


def may_ride(s: Stage) -> bool:
    """Whether a stage is a reduction that can be added up row by row, and long enough to gain by it."""
    if s.sequential or s.stores or len(s.reductions) != 1:
        return False
    (r,) = s.reductions
    if r.kind not in COMBINE or r.buffer.dtype is b1 or any(v >= DYNAMIC for v, _ in r.at.terms):
        return False
    points = product(a.extent for a in s.axes)
    if not isinstance(points, Expr) and points < LEAST_POINTS:
        return False
    width = product(a.extent for a in s.axes if not a.reduce) * r.buffer.dtype.itemsize
    return isinstance(width, Expr) or width <= MOST_BYTES


def across_rows(s: Stage) -> bool:
    """Whether a reduction runs over long strides: it is in no hurry, rows that it could join may follow."""
    for _, at in s.loads:
        reduced = [c for v, c in at.terms if v < DYNAMIC and s.axes[v].reduce]
        kept = [c for v, c in at.terms if v < DYNAMIC and not s.axes[v].reduce]
        if reduced and not all(a.reduce for a in s.axes) and all(isinstance(c, Expr) for c in reduced):
            return not any(isinstance(c, Expr) for c in kept)
        known = [abs(c) for c in reduced if isinstance(c, int)]
        if known and kept and max(known) > min(abs(c) if isinstance(c, int) else max(known) for c in kept):
            return True
    return all(a.reduce for a in s.axes)


@dataclass(slots=True)
class Pieces:
    """How the rows of a nest are divided: the variable that counts pieces, rows of the first loop in each."""

    var: int
    rows: int
    count: Dim


def pieces_of(outer: list[Dim], *, lanes: bool = False) -> tuple[int, Dim] | None:
    """(points of the first loop in a piece, number of pieces), or None when the rows are too few. `lanes`: each point
    of the first loop has sums of its own, of the rows that the other loops run over."""
    first, *inner = outer
    if lanes:
        enough = ((first, LEAST_LANES), (product(inner), LEAST_LINES))
        return None if any(isinstance(d, int) and d < n for d, n in enough) else (1, first)
    inside = product(d for d in inner if isinstance(d, int))
    least = -(-LEAST_ROWS // max(inside, 1)) if isinstance(inside, int) else 1
    if isinstance(first, Expr):
        return least, floordiv(first + (least - 1), least)
    rows = max(least, -(-first // MOST_PIECES))
    count = -(-first // rows)
    return (rows, count) if count > 1 else None


@dataclass(slots=True)
class Partial:
    """A stage that adds rows up, what fills the partial results before, and what reduces them afterwards.

    The axes of `stage` are those of the reduction, and one more: the piece. Where a piece is all that is summed there
    is neither that nor a total."""

    stage: Stage
    storage: Storage
    total: Stage | None
    buffer: Buffer  # its first axis is that of the pieces
    kind: str


def divided(s: Stage, outer: set[int], pieces: Pieces, name: str) -> Partial:
    """A reduction whose axes `outer` are the shared loops of a nest."""
    (r,) = s.reductions
    dtype = r.buffer.dtype
    kept = [n for n, a in enumerate(s.axes) if not a.reduce]
    shape = (pieces.count, *(s.axes[n].extent for n in kept))
    strides = contiguous_strides(shape, dtype.itemsize)
    storage = Storage("temp", name, product(shape) * dtype.itemsize)
    buffer = Buffer(storage, dtype, shape)
    piece = len(s.axes)
    at = Ix(0, (*((n, strides[k + 1]) for k, n in enumerate(kept)), (piece, strides[0])))
    axes = [Axis(a.extent, a.reduce and n not in outer) for n, a in enumerate(s.axes)]
    stage = Stage([*axes, Axis(pieces.count)], s.body, label=s.label)
    if any(a.reduce for a in axes):
        stage.reductions.append(Reduction(r.kind, buffer, at, r.value, combine=COMBINE[r.kind]))
    else:
        stage.stores.append(Store(buffer, at, r.value, COMBINE[r.kind]))
    number = {n: k for k, n in enumerate(kept)} | {piece: len(kept)}
    total = Stage(
        [*(Axis(s.axes[n].extent) for n in kept), Axis(pieces.count, reduce=True)],
        [Instr("load", dtype, (), (buffer, at.rename(number)))],
        reductions=[Reduction(r.kind, r.buffer, r.at.rename(number), 0)],
        label=s.label,
    )
    return Partial(stage, storage, total, buffer, r.kind)


def whole(s: Stage, outer: set[int], lane: int) -> Partial:
    """The same of sums that are apart for each point of the axis `lane`, the first of the shared loops: nothing is left
    to reduce, the results are written where they belong."""
    (r,) = s.reductions
    axes = [Axis(a.extent, a.reduce and n not in outer) for n, a in enumerate(s.axes)]
    stage = Stage(axes, s.body, label=s.label)
    if any(a.reduce for a in axes):
        stage.reductions.append(Reduction(r.kind, r.buffer, r.at, r.value, combine=COMBINE[r.kind]))
    else:
        stage.stores.append(Store(r.buffer, r.at, r.value, COMBINE[r.kind]))
    kept = [lane, *(n for n, a in enumerate(s.axes) if not a.reduce and n != lane)]
    shape = tuple([s.axes[n].extent for n in kept])
    place = Buffer(r.buffer.storage, r.buffer.dtype, shape, tuple([r.at.coef(n) for n in kept]), r.at.const)
    return Partial(stage, r.buffer.storage, None, place, r.kind)


def filling(p: Partial, piece: int, first_var: int) -> Leaf:
    """Fills the partial result of a piece with the neutral element. Loops have variables from `first_var` on."""
    from stager.codegen.families import identity

    dtype = p.buffer.dtype
    # -0.0 is the neutral element of float sums: it keeps a sum of -0.0. A whole sum begins with 0
    value = -0.0 if p.kind == "sum" and dtype.kind == "f" and p.total is not None else identity(p.kind, dtype)
    loops = [LoopAxis(first_var + k, d) for k, d in enumerate(p.buffer.shape[1:])]
    terms = [(piece, p.buffer.strides[0])]
    terms += [(a.var, c) for a, c in zip(loops, p.buffer.strides[1:], strict=True)]
    at = Ix(p.buffer.offset, tuple(sorted(terms)))
    stage = Stage([], [Instr("const", dtype, (), value)], [Store(p.buffer, at, 0)], label="fill")
    return Leaf(loops, stage)
