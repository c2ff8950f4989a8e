"""Reductions over the shared loops of a nest, computed while its rows are in the cache.

The rows are divided into pieces; each piece adds its rows into a partial result of its own, a later stage reduces the
partial results. The gradient of a normalisation so reads its arrays once: what is reduced along each row and what is
reduced over the rows share one pass. Invariant: pieces follow from extents alone, so the order of every sum does not
depend on threads. Which nest a reduction joins is `codegen/fuse.py`'s question.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.program import Axis, Buffer, Instr, Leaf, LoopAxis, Reduction, Stage, Storage, Store
from stager.ir.dims import Dim, Expr, contiguous_strides, floordiv, product
from stager.ir.dtypes import DType, b1

COMBINE = {"sum": "sum", "prod": "mul", "min": "min", "max": "max"}
LEAST_ROWS = 32
"""Rows of a piece: filling and reducing the partial results must stay a small part of the work."""
LEAST_LANES = 4
"""Sums of their own, which are all that threads can share."""
LEAST_LINES = 8
"""Rows of each of these."""
MOST_PIECES = 64
SHORT_ROW = 8
"""Rows of partial results of fewer elements are turned."""
MOST_ROW = 1 << 12
"""Points of a row of which sums are taken when it is complete."""
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


def has_lanes(extent: Dim) -> bool:
    """Whether an axis is long enough for lanes to run along it."""
    return isinstance(extent, Expr) or extent >= SHORT_ROW


def is_row(extent: int) -> bool:
    """Whether an axis is a row whose numbers stay in the cache."""
    return SHORT_ROW <= extent <= MOST_ROW


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

    The axes of `stage` are those of the reduction, and one more: the piece, where that is not one of them."""

    stage: Stage
    buffer: Buffer  # its first axis is that of the pieces
    total: Stage | None  # None: the partial results are those that are wanted
    first: Any  # what the sums begin with


def divided(s: Stage, outer: set[int], pieces: Pieces, name: str, lane: int | None = None) -> Partial:
    """A reduction whose axes `outer` are the shared loops of a nest. `lane`: the one of them that is not reduced; then
    a piece is one point of it, and the partial results are those that are wanted."""
    (r,) = s.reductions
    dtype = r.buffer.dtype
    kept = [n for n, a in enumerate(s.axes) if not a.reduce and n != lane]
    order = _long_last(kept, [s.axes[n].extent for n in kept])
    shape = (pieces.count, *(s.axes[n].extent for n in order))
    strides = contiguous_strides(shape, dtype.itemsize)
    piece = len(s.axes) if lane is None else lane
    there = lane is not None and order == kept  # where results lie as partial ones would, they are written at once
    if there:
        buffer = Buffer(r.buffer.storage, dtype, shape, tuple([r.at.coef(n) for n in (piece, *order)]), r.at.const)
        at = r.at
    else:
        buffer = Buffer(Storage("temp", name, product(shape) * dtype.itemsize), dtype, shape)
        at = Ix(0, tuple(sorted([(n, strides[k + 1]) for k, n in enumerate(order)] + [(piece, strides[0])])))
    axes = [Axis(a.extent, a.reduce and n not in outer) for n, a in enumerate(s.axes)]
    stage = Stage([*axes, Axis(pieces.count)] if lane is None else axes, s.body, label=s.label)
    if any(a.reduce for a in axes):
        stage.reductions.append(Reduction(r.kind, buffer, at, r.value, combine=COMBINE[r.kind]))
    else:
        stage.stores.append(Store(buffer, at, r.value, COMBINE[r.kind]))
    first = neutral(r.kind, dtype)
    if lane is not None and first == 0:
        first = 0  # what is wanted is no sum of -0.0
    if there:
        return Partial(stage, buffer, None, first)
    number = {n: k for k, n in enumerate(kept)} | {piece: len(kept)}
    total = Stage(
        [*(Axis(s.axes[n].extent) for n in kept), Axis(pieces.count, reduce=lane is None)],
        [Instr("load", dtype, (), (buffer, at.rename(number)))],
        label=s.label,
    )
    place = r.at.rename(number)
    if lane is None:
        total.reductions.append(Reduction(r.kind, r.buffer, place, 0))
    else:
        total.stores.append(Store(r.buffer, place, 0))
    return Partial(stage, buffer, total, first)


def neutral(kind: str, dtype: DType) -> Any:
    """What a partial result begins with: of float sums -0.0, which keeps a sum of -0.0."""
    from stager.codegen.families import identity

    return -0.0 if kind == "sum" and dtype.kind == "f" else identity(kind, dtype)


def _long_last(kept: list[int], extents: list[Dim]) -> list[int]:
    """The axes of a partial result in the order in which they lie in it: of short rows the longest axis is last, along
    which lanes then lie side by side."""
    if not kept or isinstance(extents[-1], Expr) or extents[-1] >= SHORT_ROW:
        return kept
    longest = max(range(len(kept)), key=lambda k: extents[k] if isinstance(extents[k], int) else SHORT_ROW)
    return [*kept[:longest], *kept[longest + 1 :], kept[longest]]


def filling(b: Buffer, value: Any, piece: int, first_var: int) -> Leaf:
    """Fills the partial result of a piece with what it begins with. Loops have variables from `first_var` on."""
    loops = [LoopAxis(first_var + k, d) for k, d in enumerate(b.shape[1:])]
    terms = [(piece, b.strides[0])]
    terms += [(a.var, c) for a, c in zip(loops, b.strides[1:], strict=True)]
    at = Ix(b.offset, tuple(sorted(terms)))
    stage = Stage([], [Instr("const", b.dtype, (), value)], [Store(b, at, 0)], label="fill")
    return Leaf(loops, stage)
