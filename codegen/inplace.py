"""Buffers that can share one storage because one dies where the other is born, and carries that need no copy.

A nest that reads A for the last time and writes B may write B over A when every element of A is read at or before
the point that overwrites it: at the same position in the same leaf, or in an earlier leaf of the same outer point.
Carries of loops are the same question between the new value and the carry's buffer; what cannot be merged is swapped
(two pointers change places per iteration) or, when small, copied.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from stager.codegen.book import Book, buffers_of
from stager.codegen.failing import fails, raises_before
from stager.codegen.overwrite import direct, may_overwrite
from stager.codegen.program import Loop, MapLanes, Move, Nest, Program, Switch, While, walk
from stager.codegen.snapshots import set_aside
from stager.codegen.trades import SMALL_BYTES, drop_copies, trades
from stager.ir.dims import product


def share(program: Program) -> None:
    """Merges storages where that is free, and decides how carries return."""
    book = Book(program)
    _loops(program.steps, book)
    _carries(program.steps, book, None)
    _sequence(program, book)


# -- a carry and its new value ---------------------------------------------------------------------------------------


def _loops(steps: list[Any], book: Book) -> None:
    for s in steps:
        match s:
            case Loop():
                _loops(s.body, book)
                trades(s, book)
                _carries(s.body, book, s)
            case MapLanes():
                _loops(s.body, book)
            case While():
                _loops(s.body, book)
                trades(s, book)
                _carries(s.body, book, s)
            case Switch():
                for b in s.branches:
                    _loops(b, book)
                    _carries(b, book, None)


def _carries(body: list[Any], book: Book, loop: Any) -> None:
    moves = [s for s in body if isinstance(s, Move)]
    sources = Counter(id(m.source.storage) for m in moves)
    for m in moves:
        c, t = m.target.storage, m.source.storage
        if c is t or t.kind not in ("temp", "stack"):
            continue
        if c.kind == "input" and raises_before(body, m, book):
            continue
        both = id(c) in book.swapping and id(t) in book.swapping
        if not both and direct(body, m, book):
            book.merge(t, c)
            drop_copies(body, c)
            body.remove(m)
        elif not both and loop is not None and set_aside(body, m, book):
            book.merge(t, c)
            body.remove(m)
        elif loop is not None and t.kind == "temp" and sources[id(t)] == 1 and _swappable(m, book, loop):
            m.swap = True
            loop.swaps.append((c, t))
            book.swapping.update((id(c), id(t)))


def _swappable(m: Move, book: Book, loop: Any) -> bool:
    c, t = m.target.storage, m.source.storage
    if c.kind == "input" and fails(loop.body):
        return False
    if product(m.target.shape) == 1 or c.kind == "stack" or c.nbytes != t.nbytes or m.target.offset != 0:
        return False
    if isinstance(c.nbytes, int) and c.nbytes <= SMALL_BYTES:
        return False
    if id(c) in book.swapping or id(t) in book.swapping:  # by this loop or by one inside it
        return False
    # the second buffer is this loop's own
    return all(id(loop) in book.bodies[id(s)] for _, s in book.steps[id(t)])


# -- a dying temporary and a new buffer ------------------------------------------------------------------------------


def _sequence(program: Program, book: Book) -> None:
    """Temporaries that die in the nest that writes another buffer of the same size."""
    nests: list[Nest] = []
    walk(program.steps, lambda s: nests.append(s) if isinstance(s, Nest) else None)
    swapped: set[int] = set()

    def note(s: Any) -> None:
        if isinstance(s, Loop | While):
            swapped.update(id(x) for x in s.moving)

    walk(program.steps, note)
    for nest in nests:
        here = book.bodies[id(nest)]
        born = [
            s.buffer.storage
            for stage in nest.stages()
            for s in stage.stores
            if s.buffer.storage.kind in ("temp", "output")
            and id(s.buffer.storage) not in swapped
            and id(s.buffer.storage) not in nest.scratch
            and book.steps[id(s.buffer.storage)][0][1] is nest
            and all(book.bodies[id(step)][: len(here)] == here for _, step in book.steps[id(s.buffer.storage)])
        ]
        for new in born:
            if not any(s.buffer.storage is new for stage in nest.stages() for s in stage.stores):
                continue  # merged meanwhile
            if new.kind == "output" and here:
                continue
            for sid in dict.fromkeys(id(b.storage) for b in buffers_of(nest)):
                old = book.storages.get(sid)
                if old is None or old is new or old.kind != "temp" or sid not in book.steps or sid in swapped:
                    continue
                uses = book.steps[sid]
                if old.nbytes != new.nbytes or uses[-1][1] is not nest or sid in nest.scratch:
                    continue
                if any(book.bodies[id(s)] != here for _, s in uses):
                    continue
                if may_overwrite(nest, old, new):
                    book.merge(old, new)
                    break
