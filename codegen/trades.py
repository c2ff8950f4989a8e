"""Carries that take one another's arrays: `old, now = now, new` changes addresses instead of contents.

A chain of moves c1 <- c2 <- ... <- ck <- x makes c1 the place of ck, whose content x overwrites. So x is computed
right there where that may be; or it changes places too, being the loop's own; or, where every turn writes one region of
it anew, it does so and only what lies around the region is copied; else it is copied.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from stager.codegen.book import Book
from stager.codegen.failing import fails
from stager.codegen.index import Ix
from stager.codegen.overwrite import direct
from stager.codegen.program import (
    Axis,
    Buffer,
    Instr,
    Leaf,
    Loop,
    LoopAxis,
    Move,
    Nest,
    Stage,
    Storage,
    Store,
    Trade,
    While,
)
from stager.ir.dims import Dim, product

SMALL_BYTES = 64
"""So few bytes are copied faster than their addresses change."""
LARGE_BYTES = 1 << 13
"""Copying less than this whole is as good as copying what lies around a region."""


def trades(loop: Loop | While, book: Book) -> None:
    """Lets the carries of one loop change places."""
    body = loop.body
    into = {id(m.target.storage): m for m in body if isinstance(m, Move) and not m.swap}
    sources = Counter(id(m.source.storage) for m in into.values())
    for first in list(into.values()):
        if id(first.target.storage) in sources:
            continue
        chain = [first]
        while (following := into.get(id(chain[-1].source.storage))) is not None:
            chain.append(following)
        if any(sources[id(m.source.storage)] > 1 for m in chain):
            continue  # two want the content of one
        last = chain.pop()
        group = [m.target.storage for m in (*chain, last)]
        if not _same_places([*chain, last], book) or (any(s.kind == "input" for s in group) and fails(body)):
            continue
        x = last.source.storage
        if chain and x.kind in ("temp", "stack") and direct(body, Move(first.target, last.source), book, chain):
            book.merge(x, group[0])
            drop_copies(body, group[0])
            body.remove(last)
        elif not direct(body, last, book) and (region := _region(last, loop, book)) is not None:
            at = body.index(last) + 1
            for nest in _around(last, region):
                body.insert(at, nest)
                book.adopt(nest, last)
            group.append(x)
            chain.append(last)
        elif chain and _is_own(x, last, loop, book):
            group.append(x)
            chain.append(last)
        if not chain:
            continue
        for m in chain:
            m.swap = True
        loop.trades.append(Trade(group, [s for s in group if _is_read_behind(s, loop, book)]))
        book.swapping.update(map(id, group))


def _is_own(x: Storage, move: Move, loop: Loop | While, book: Book) -> bool:
    """Whether an array of the carries' size lives in the loop only: what it holds when a turn begins is nobody's."""
    if x.kind != "temp" or x.nbytes != move.target.storage.nbytes or id(x) in book.swapping:
        return False
    return move.source.is_dense and all(id(loop) in book.bodies[id(s)] for _, s in book.steps[id(x)])


def _is_read_behind(s: Storage, loop: Loop | While, book: Book) -> bool:
    """Whether anything behind the loop, or the caller, may read a storage."""
    if s.kind != "temp" or book.bodies[id(loop)]:
        return True
    outside = [step for _, step in book.steps[id(s)] if id(loop) not in book.bodies[id(step)]]
    return any(not isinstance(x, Nest) or any(id(s) in stage.reads() for stage in x.stages()) for x in outside)


def _same_places(moves: list[Move], book: Book) -> bool:
    """Whether all arrays of a chain are whole storages of one size, which nothing else moves."""
    size = moves[0].target.storage.nbytes
    if isinstance(size, int) and size <= SMALL_BYTES:
        return False
    for s in (m.target.storage for m in moves):
        if s.kind not in ("temp", "input", "output") or s.nbytes != size or id(s) in book.swapping:
            return False
    buffers = [b for m in moves for b in (m.target, m.source)][:-1]
    return all(b.is_dense and b.offset == 0 and product(b.shape) * b.dtype.itemsize == size for b in buffers)


def drop_copies(body: list[Any], storage: Storage) -> None:
    """Nests that only copy a storage onto itself do nothing."""
    for nest in [s for s in body if isinstance(s, Nest)]:
        for leaf in nest.leaves:
            stage = leaf.stage
            for s in list(stage.stores):
                i = stage.body[s.value]
                if s.buffer.storage is not storage or s.combine != "set" or i.op != "load":
                    continue
                if i.data[0].storage is storage and i.data[1] == s.at:
                    stage.stores.remove(s)
        if all(x.stage.is_idle for x in nest.leaves) and not nest.first:
            body.remove(nest)


# -- arrays of which every turn writes one region ---------------------------------------------------------------------

Region = list[tuple[int, int]]


def _region(move: Move, loop: Loop | While, book: Book) -> Region | None:
    """The part of the moved array that every turn writes before anything reads it, when the array is the loop's own."""
    x, size = move.source.storage, move.target.storage.nbytes
    if x.kind != "temp" or x.nbytes != size or id(x) in book.swapping:
        return None
    if not isinstance(size, int) or size <= LARGE_BYTES or not _same_places([move], book):
        return None
    inside = [s for _, s in book.steps[id(x)] if id(loop) in book.bodies[id(s)]]
    if len(inside) == len(book.steps[id(x)]) or _is_read_behind(x, loop, book):
        return None
    if len(inside) != 2 or inside[1] is not move or inside[0] not in loop.body or not isinstance(inside[0], Nest):
        return None
    (nest, _) = inside
    if nest.first or any(id(x) in stage.reads() for stage in nest.stages()):
        return None
    written = [(leaf, s) for leaf in nest.leaves for s in leaf.stage.stores if s.buffer.storage is x]
    reduced = any(r.buffer.storage is x for leaf in nest.leaves for r in leaf.stage.reductions)
    if len(written) != 1 or reduced or written[0][0].stage.sequential or written[0][1].combine != "set":
        return None
    leaf, store = written[0]
    return _box(store.at, [*nest.outer, *leaf.loops], move.source)


def _box(at: Ix, loops: list[LoopAxis], whole: Buffer) -> Region | None:
    """A position over its loops as a range of every axis of a dense array; None where it is none."""
    if at.is_dynamic or not isinstance(at.const, int):
        return None
    extents: dict[Dim, Dim] = {at.coef(a.var): a.extent for a in loops if a.extent != 1}
    if len(extents) != sum(a.extent != 1 for a in loops):
        return None
    rest, out = at.const, []
    for size, stride in zip(whole.shape, whole.strides, strict=True):
        if not isinstance(size, int) or not isinstance(stride, int) or stride <= 0:
            return None
        start, rest = divmod(rest, stride)
        count = extents.pop(stride, 1)
        if not isinstance(count, int) or start < 0 or start + count > size:
            return None
        out.append((start, start + count))
    return None if rest or extents else out


def _around(move: Move, region: Region) -> list[Nest]:
    """Nests that copy what lies around a region, behind the trade: from the whole to where the next one is made."""
    out = []
    whole, other = move.target, move.source
    for d, (start, stop) in enumerate(region):
        size = whole.shape[d]
        assert isinstance(size, int)
        for low, high in ((0, start), (stop, size)):
            if low < high:
                ranges = [*region[:d], (low, high), *[(0, n) for n in whole.shape[d + 1 :]]]
                out.append(_copy(whole, other, ranges))
    return out


def _copy(source: Buffer, target: Buffer, ranges: list[Any]) -> Nest:
    """A nest that copies a box of one array into another of its layout."""
    first: Dim = sum(low * s for (low, _), s in zip(ranges, source.strides, strict=True))
    at = Ix(first, tuple(enumerate(source.strides)))
    extents = [high - low for low, high in ranges]
    load = Instr("load", source.dtype, (), (_same(source), at))
    stage = Stage([Axis(n) for n in extents], [load], [Store(_same(target), at, 0)], label="border")
    return Nest([], [Leaf([LoopAxis(d, n) for d, n in enumerate(extents)], stage)])


def _same(b: Buffer) -> Buffer:
    return Buffer(b.storage, b.dtype, b.shape)
