"""Buffers that can share one storage because one dies where the other is born, and carries that need no copy.

A nest that reads A for the last time and writes B may write B over A when every element of A is read at or before
the point that overwrites it: at the same position in the same leaf, or in an earlier leaf of the same outer point.
Carries of loops are the same question between the new value and the carry's buffer; what cannot be merged is swapped
(two pointers change places per iteration) or, when small, copied.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.contract import touched
from stager.codegen.index import Ix
from stager.codegen.program import Buffer, Leaf, Loop, MapLanes, Move, Nest, Program, Storage, Switch, While, walk
from stager.ir.dims import product

SMALL_BYTES = 64


def share(program: Program) -> None:
    """Merges storages where that is free, and decides how carries return."""
    book = _Book(program)
    _loops(program.steps, book)
    _carries(program.steps, book, None)
    _sequence(program, book)


class _Book:
    """Which buffers lie in a storage, and where in program order a storage is used."""

    def __init__(self, program: Program) -> None:
        self.buffers: dict[int, list[Buffer]] = {}
        self.storages: dict[int, Storage] = {}
        self.steps: dict[int, list[tuple[int, Any]]] = {}
        self.bodies: dict[int, tuple[int, ...]] = {}  # step -> the loops that it stands in
        self.program = program
        self.position = 0
        self.swapping: set[int] = set()  # storages that some loop swaps
        self.loops: list[Any] = []
        self._visit(program.steps, ())

    def _visit(self, steps: list[Any], inside: tuple[int, ...]) -> None:
        for s in steps:
            self.position += 1
            self.bodies[id(s)] = inside
            for b in buffers_of(s):
                sid = id(b.storage)
                self.storages[sid] = b.storage
                self.buffers.setdefault(sid, []).append(b)
                uses = self.steps.setdefault(sid, [])
                if not uses or uses[-1][1] is not s:
                    uses.append((self.position, s))
            match s:
                case Loop() | MapLanes():
                    if isinstance(s, Loop):
                        self.loops.append(s)
                    self._visit(s.body, (*inside, id(s)))
                case While():
                    self.loops.append(s)
                    self._visit(s.test, (*inside, id(s)))
                    self._visit(s.body, (*inside, id(s)))
                case Switch():
                    for k, branch in enumerate(s.branches):
                        self._visit(branch, (*inside, id(s) + k + 1))

    def merge(self, old: Storage, new: Storage) -> None:
        """Everything in `old` lies in `new` from now on."""
        moved = self.buffers.pop(id(old))
        for b in moved:
            b.storage = new
        self.buffers.setdefault(id(new), []).extend(moved)
        uses = self.steps.pop(id(old)) + self.steps.get(id(new), [])
        seen: dict[int, tuple[int, Any]] = {}
        for at, s in uses:
            seen.setdefault(id(s), (at, s))
        self.steps[id(new)] = sorted(seen.values(), key=lambda x: x[0])
        self.program.storages = [s for s in self.program.storages if s is not old]
        if id(old) in self.swapping:  # an inner loop swaps it: that loop swaps the storage it lies in now
            self.swapping.discard(id(old))
            self.swapping.add(id(new))
            for loop in self.loops:
                loop.swaps[:] = [(new if c is old else c, new if t is old else t) for c, t in loop.swaps]


def buffers_of(step: Any) -> list[Buffer]:
    """The buffers that a step itself touches."""
    if isinstance(step, Nest):
        out: list[Buffer] = []
        for stage in step.stages():
            out.extend(b for b, _ in stage.loads)
            out.extend(s.buffer for s in stage.stores)
            out.extend(r.buffer for r in stage.reductions)
        return out
    return touched(step)


# -- a carry and its new value ---------------------------------------------------------------------------------------


def _loops(steps: list[Any], book: _Book) -> None:
    for s in steps:
        match s:
            case Loop():
                _loops(s.body, book)
                _carries(s.body, book, s)
            case MapLanes():
                _loops(s.body, book)
            case While():
                _loops(s.body, book)
                _carries(s.body, book, s)
            case Switch():
                for b in s.branches:
                    _loops(b, book)
                    _carries(b, book, None)


def _carries(body: list[Any], book: _Book, loop: Any) -> None:
    moves = [s for s in body if isinstance(s, Move)]
    for m in moves:
        c, t = m.target.storage, m.source.storage
        if c is t or t.kind not in ("temp", "stack"):
            continue
        both = id(c) in book.swapping and id(t) in book.swapping
        if not both and _direct(body, m, book):
            book.merge(t, c)
            body.remove(m)
        elif loop is not None and t.kind == "temp" and _swappable(m, book, loop):
            m.swap = True
            loop.swaps.append((c, t))
            book.swapping.update((id(c), id(t)))


def _swappable(m: Move, book: _Book, loop: Any) -> bool:
    c, t = m.target.storage, m.source.storage
    if product(m.target.shape) == 1 or c.kind == "stack" or c.nbytes != t.nbytes or m.target.offset != 0:
        return False
    if isinstance(c.nbytes, int) and c.nbytes <= SMALL_BYTES:
        return False
    if id(c) in book.swapping or id(t) in book.swapping:  # by this loop or by one inside it
        return False
    # the second buffer is this loop's own
    return all(id(loop) in book.bodies[id(s)] for _, s in book.steps[id(t)])


def _direct(body: list[Any], m: Move, book: _Book) -> bool:
    """Whether the new value may be written straight into the carry's buffer."""
    c, t = m.target.storage, m.source.storage
    if m.target.strides != m.source.strides or m.target.offset != m.source.offset:
        return False
    writers = [s for _, s in book.steps[id(t)] if isinstance(s, Nest)]
    if not writers or writers[0] not in body:
        return False
    first = writers[0]
    if any(s not in body for _, s in book.steps[id(t)]):
        return False
    at = body.index(first)
    for k, s in enumerate(body):
        if s is m:
            continue
        if k > at and _touches(s, c):
            return False
    return not _touches(first, c) or may_overwrite(first, c, t)


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


# -- a dying temporary and a new buffer ------------------------------------------------------------------------------


def _sequence(program: Program, book: _Book) -> None:
    """Temporaries that die in the nest that writes another buffer of the same size."""
    nests: list[Nest] = []
    walk(program.steps, lambda s: nests.append(s) if isinstance(s, Nest) else None)
    swapped: set[int] = set()

    def note(s: Any) -> None:
        if isinstance(s, Loop | While):
            swapped.update(id(x) for pair in s.swaps for x in pair)

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
