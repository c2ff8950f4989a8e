"""Rows and columns of an array that its update reads are set aside, so that the update can run in place.

`D[:] = np.minimum(D, D[:, k : k + 1] + D[k, :])` needs the old column and the old row for every element. Copied before,
they are a few elements; else all of the array goes to a second one every turn.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.book import Book
from stager.codegen.index import Ix
from stager.codegen.overwrite import last_user, may_overwrite
from stager.codegen.program import Axis, Buffer, Instr, Leaf, LoopAxis, Move, Nest, Stage, Storage, Store
from stager.ir.dims import Dim, product

LARGE_BYTES = 1 << 13
"""Two arrays of less are in the first cache, and need no copies."""
FEW = 8
"""What is set aside is this much smaller than the array."""


def set_aside(body: list[Any], m: Move, book: Book) -> bool:
    """Sets aside what keeps a new value from being written over a carry's old one; whether it can be so now."""
    c, t = m.target.storage, m.source.storage
    if t.kind != "temp" or (isinstance(c.nbytes, int) and c.nbytes < LARGE_BYTES):
        return False
    nest = last_user(body, m, book)
    if nest is None or nest.outer or nest.first or len(nest.leaves) != 1:
        return False
    (leaf,) = nest.leaves
    stage = leaf.stage
    stores = [s for s in stage.stores if s.buffer.storage is t]
    if stage.sequential or stage.reductions or len(stores) != 1 or len(stage.stores) != 1:
        return False
    (store,) = stores
    reads = [(n, i) for n, i in enumerate(stage.body) if i.op == "load" and i.data[0].storage is c]
    apart = [(n, i) for n, i in reads if i.data[1] != store.at]
    if not apart or not all(_is_small(i.data[1], leaf.loops) for _, i in apart):
        return False
    kept: dict[tuple[Ix, Any], Instr] = {}
    for n, i in apart:
        key = (i.data[1], i.dtype)
        if key not in kept:
            kept[key] = _snapshot(body, nest, leaf, i, book)
        stage.body[n] = kept[key]
    assert may_overwrite(nest, c, t)
    return True


def _is_small(at: Ix, loops: list[LoopAxis]) -> bool:
    """Whether a position takes few places over the loops."""
    missing = [a.extent for a in loops if at.coef(a.var) == 0]
    if at.is_dynamic or not missing:
        return False
    times = product(missing)
    return not isinstance(times, int) or times >= FEW


def _snapshot(body: list[Any], nest: Nest, leaf: Leaf, i: Instr, book: Book) -> Instr:
    """Copies what a load reads, before the nest; the load of the copy."""
    source, at = i.data
    axes = [a for a in leaf.loops if at.coef(a.var) != 0]
    shape: tuple[Dim, ...] = tuple(a.extent for a in axes)
    storage = Storage("temp", f"a{len(book.program.storages)}", product(shape) * source.dtype.itemsize)
    book.program.storages.append(storage)
    copy = Buffer(storage, source.dtype, shape)
    read = at.rename({a.var: n for n, a in enumerate(axes)})
    written = Ix(0, tuple(enumerate(copy.strides)))
    original = Buffer(source.storage, source.dtype, source.shape, source.strides, source.offset)
    stage = Stage(
        [Axis(n) for n in shape],
        [Instr("load", source.dtype, (), (original, read))],
        [Store(copy, written, 0)],
        label="aside",
    )
    before = Nest([], [Leaf([LoopAxis(n, d) for n, d in enumerate(shape)], stage)])
    body.insert(body.index(nest), before)
    again = Buffer(storage, source.dtype, shape)
    place = Ix(0, tuple(sorted((a.var, s) for a, s in zip(axes, copy.strides, strict=True))))
    book.adopt(before, nest)
    book.use(again, nest)
    return Instr("load", i.dtype, (), (again, place))
