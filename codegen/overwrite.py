"""Whether a nest may write its result over an array that it reads: every element is read at or before the point that
overwrites it, at the same position in the same leaf, or in an earlier leaf of the same outer point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.codegen.book import Book, buffers_of
from stager.codegen.index import Ix
from stager.codegen.program import Leaf, Move, Nest, Storage, walk


def direct(body: list[Any], m: Move, book: Book, besides: Sequence[Move] = ()) -> bool:
    """Whether the new value may be written straight into the carry's buffer. `besides`: moves that do not count."""
    first = last_user(body, m, book, besides)
    if first is None:
        return False
    c, t = m.target.storage, m.source.storage
    return not _touches(first, c) or may_overwrite(first, c, t)


def last_user(body: list[Any], m: Move, book: Book, besides: Sequence[Move] = ()) -> Nest | None:
    """The nest that first writes the new value, when the carry's buffer is used by nothing behind it."""
    c, t = m.target.storage, m.source.storage
    if m.target.strides != m.source.strides or m.target.offset != m.source.offset:
        return None
    writers = [s for _, s in book.steps[id(t)] if isinstance(s, Nest)]
    if not writers or writers[0] not in body:
        return None
    first = writers[0]
    if any(s not in body for _, s in book.steps[id(t)]):
        return None
    at = body.index(first)
    for k, s in enumerate(body):
        if s is m or any(s is x for x in besides):
            continue
        if k > at and _touches(s, c):
            return None
    return first


def _touches(step: Any, storage: Storage) -> bool:
    found = False

    def look(s: Any) -> None:
        nonlocal found
        found = found or any(b.storage is storage for b in buffers_of(s))

    walk([step], look)
    return found


def may_overwrite(nest: Nest, old: Storage, new: Storage) -> bool:
    """Whether a nest that reads `old` and writes `new` may write it over `old`."""
    if any(leaf.stage.sequential for leaf in nest.leaves):
        return False
    outer = {a.var for a in nest.outer}
    writes: list[tuple[int, Leaf, Ix]] = []
    if any(s.combine != "set" and s.buffer.storage is new for stage in nest.stages() for s in stage.stores):
        return False
    for k, leaf in enumerate(nest.leaves):
        stage = leaf.stage
        if any(r.buffer.storage in (old, new) for r in stage.reductions):
            return False
        writes += [(k, leaf, s.at) for s in stage.stores if s.buffer.storage is new]
    if len(writes) != 1:
        return False
    where, home, at = writes[0]
    if at.is_dynamic or id(new) in nest.scratch or id(old) in nest.scratch:
        return False
    shape = _slab(at, home, outer)
    for k, leaf in enumerate(nest.leaves):
        stage = leaf.stage
        touched_here = [ix for b, ix in stage.loads if b.storage is old]
        written_here = [s.at for s in stage.stores if s.buffer.storage is old]
        if written_here and leaf is home:
            return False
        touched_here += written_here
        for ix in touched_here:
            if ix.is_dynamic:
                return False
            if leaf is home:
                if ix != at:
                    return False
            elif k > where or not outer or _slab(ix, leaf, outer) != shape:
                return False
        if leaf is not home and k < where and any(b.storage is new for b, _ in stage.loads):
            return False
    return True


def _slab(at: Ix, leaf: Leaf, outer: set[int]) -> tuple[Any, ...]:
    """What decides the part of a buffer that one outer point touches."""
    extent = {a.var: a.extent for a in leaf.loops}
    shared = tuple(t for t in at.terms if t[0] in outer)
    own = sorted(((c, extent.get(v)) for v, c in at.terms if v not in outer), key=str)
    return at.const, shared, tuple(own)
