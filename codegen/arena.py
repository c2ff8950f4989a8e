"""Where temporaries lie: one arena, planned by lifetimes.

A storage lives from its first use to its last; one that is used both inside and outside of a loop lives through the
whole loop. Storages whose lifetimes do not meet may overlap. Sizes may be symbolic: a size that mentions a loop
index is replaced by its bound, one that mentions data has no place here and is allocated while running ("heap"). What
only a branch for large extents uses has the size that it has for the smallest of those, where extents are smaller.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from stager.codegen.book import buffers_of
from stager.codegen.program import Allocate, Buffer, Loop, MapLanes, Program, Storage, Switch, While, walk
from stager.ir.abi import ARENA_ALIGN
from stager.ir.dims import Apply, Dim, Expr, dim_max, substitute, symbol, symbols_of

PRIVATE_BYTES = 1 << 14
"""What a thread of a parallel map keeps on its stack."""
STACK_BYTES = 64
"""Temporaries up to this size are local variables, which LLVM keeps in registers."""


def plan(program: Program) -> None:
    """Gives every temporary its offset and the program its arena."""
    _private(program)
    spans = _spans(program)
    least = _least_extents(program)
    static: list[tuple[int, int, int, Storage]] = []
    symbolic: list[tuple[int, int, Dim, Storage]] = []
    entry = set(program.symbols)
    for s in program.storages:
        if s.kind != "temp" or id(s) not in spans:
            continue
        start, end = spans[id(s)]
        size = program.facts.maximum(s.nbytes)
        if isinstance(size, int) and size <= STACK_BYTES:
            s.kind, s.nbytes = "stack", size
        elif isinstance(size, int):
            static.append((start, end, max(size, 1), s))
        elif symbols_of(size) <= entry:
            large = {name: dim_max(symbol(name), n) for name, n in least.get(id(s), {}).items()}
            symbolic.append((start, end, substitute(size, large), s))
        else:
            s.kind = "heap"
    total = _place(static)
    at: Dim = total
    slots: list[tuple[Dim, Dim, int]] = []  # size, offset, free after
    for start, end, size, s in sorted(symbolic, key=lambda x: x[0]):
        for k, (slot_size, offset, free) in enumerate(slots):
            if slot_size == size and free < start:
                s.offset = offset
                slots[k] = (slot_size, offset, end)
                break
        else:
            s.offset = at
            slots.append((size, at, end))
            at = at + (size + (ARENA_ALIGN - 1)) // ARENA_ALIGN * ARENA_ALIGN
    program.arena_bytes = at
    _allocate(program.steps, {id(b.storage): b for b in program.outputs if b.storage.kind == "sized"})


def _least_extents(program: Program) -> dict[int, dict[str, int]]:
    """What extents are at least wherever a storage is used, by the names of sizes: a switch that asks for it stands
    around. Else a size of n-2 bytes would be negative in the sum of all."""
    uses = Counter([id(x) for x in _used(program.steps)])
    found: dict[int, dict[str, int]] = {}

    def look(step: Any) -> None:
        least = _asked(step.index) if isinstance(step, Switch) and isinstance(step.index, Expr) else {}
        if least:
            for branch in step.branches[1:]:
                count = Counter([id(x) for x in _used(branch)])
                found.update({x: least for x, n in count.items() if n == uses[x]})

    walk(program.steps, look)
    return found


def _asked(index: Expr) -> dict[str, int]:
    """What sizes are at least where an index is above 0: k of floordiv(n, k), and both of the smaller of two."""
    (monomial, factor), *others = index.terms
    if others or factor != 1 or len(monomial) != 1 or monomial[0][1] != 1 or not isinstance(monomial[0][0], Apply):
        return {}
    f = monomial[0][0]
    if f.fn == "min":
        return {name: n for d in (f.a, f.b) if isinstance(d, Expr) for name, n in _asked(d).items()}
    name = str(f.a)
    plain = f.fn == "floordiv" and isinstance(f.b, int) and f.b > 0 and f.a == symbol(name)
    return {name: f.b} if plain and isinstance(f.b, int) else {}


def _private(program: Program) -> None:
    """What only the body of a parallel map uses, and nothing anywhere else, is each thread's own."""
    maps: list[MapLanes] = []
    walk(program.steps, lambda s: maps.append(s) if isinstance(s, MapLanes) and s.parallel else None)
    uses = Counter([id(x) for x in _used(program.steps)])
    for s in maps:
        mine = _used(s.body)
        count = Counter([id(x) for x in mine])
        own = {id(x): x for x in mine if count[id(x)] == uses[id(x)] and x.kind in ("temp", "stack")}
        s.private = list(own.values())
        for x in s.private:
            if isinstance(x.nbytes, int) and x.nbytes <= PRIVATE_BYTES:
                x.kind = "stack"
            elif x.kind == "temp":
                x.kind = "heap"
                if isinstance(x.nbytes, int):
                    s.own.append(x)


def _used(steps: list[Any]) -> list[Storage]:
    """What steps use, once for every use."""
    found: list[Storage] = []

    def look(step: Any) -> None:
        found.extend([b.storage for b in buffers_of(step)])
        if isinstance(step, Loop | While):
            found.extend(step.moving)

    walk(steps, look)
    return found


def _allocate(steps: list[Any], results: dict[int, Buffer]) -> None:
    """Puts an `Allocate` before the first step that touches a storage without a place.

    A result is allocated in its own shape: the first step may see a part of it, or other axes.
    """

    def visit(steps: list[Any], known: set[int]) -> None:
        at = 0
        while at < len(steps):
            s = steps[at]
            needed: dict[int, Buffer] = {}
            for b in buffers_of(s):
                if b.storage.kind in ("heap", "sized") and id(b.storage) not in known:
                    needed.setdefault(id(b.storage), b)
            inner: list[list[Any]] = []
            match s:
                case Loop() | MapLanes():
                    inner = [s.body]
                case While():
                    inner = [s.test, s.body]
                case Switch():
                    inner = s.branches
            if inner:
                later = {id(x) for x in getattr(s, "moving", ())}
                walk(steps[at + 1 :], lambda x: later.update(id(b.storage) for b in buffers_of(x)))
                bodies: Counter[int] = Counter()
                for body in inner:
                    found: dict[int, Buffer] = {}

                    def look(x: Any, found: dict[int, Buffer] = found) -> None:
                        for b in buffers_of(x):
                            if b.storage.kind in ("heap", "sized"):
                                found.setdefault(id(b.storage), b)

                    walk(body, look)
                    bodies.update(found.keys())
                    for k, b in found.items():  # what one body alone uses may have a size that only it knows
                        if k not in known and (k in later or bodies[k] > 1):
                            needed.setdefault(k, b)
            for k, b in needed.items():
                steps.insert(at, Allocate(results.get(k, b)))
                known.add(k)
                at += 1
            own = {id(x) for x in s.own} if isinstance(s, MapLanes) else set()
            for body in inner:
                visit(body, known | own)
            at += 1

    known: set[int] = set()
    visit(steps, known)
    steps.extend(Allocate(b) for k, b in results.items() if k not in known)  # no step writes a result without elements


def _place(items: list[tuple[int, int, int, Storage]]) -> int:
    """Offsets for static sizes: large ones first, each at the lowest place that is free for its lifetime."""
    placed: list[tuple[int, int, int, int]] = []  # start, end, offset, size
    total = 0
    for start, end, size, s in sorted(items, key=lambda x: -x[2]):
        rounded = -(-size // ARENA_ALIGN) * ARENA_ALIGN
        at = 0
        for _, _, offset, taken in sorted((p for p in placed if p[0] <= end and start <= p[1]), key=lambda p: p[2]):
            if at + rounded <= offset:
                break
            at = max(at, offset + taken)
        s.offset = at
        placed.append((start, end, at, rounded))
        total = max(total, at + rounded)
    return total


def _spans(program: Program) -> dict[int, tuple[int, int]]:
    """First and last position of every storage."""
    spans: dict[int, tuple[int, int]] = {}
    inside: dict[int, tuple[tuple[int, int], ...]] = {}
    clock = 0

    def touch(sid: int, loops: tuple[tuple[int, int], ...], at: int) -> None:
        first = spans.get(sid)
        spans[sid] = (at, at) if first is None else (min(first[0], at), max(first[1], at))
        known = inside.get(sid)
        if known is None:
            inside[sid] = loops
        else:  # the loops that all uses share
            inside[sid] = tuple(a for a, b in zip(known, loops, strict=False) if a == b)

    ends: dict[int, int] = {}
    records: list[tuple[int, tuple[int, ...], int]] = []
    starts: dict[int, int] = {}

    def visit(steps: list[Any], loops: tuple[int, ...]) -> None:
        nonlocal clock
        for s in steps:
            clock += 1
            at = clock
            records.extend((id(b.storage), loops, at) for b in buffers_of(s))
            if isinstance(s, Loop | While):
                records.extend((id(x), loops, at) for x in s.moving)
            bodies: list[list[Any]] = []
            match s:
                case Loop() | MapLanes():
                    bodies = [s.body]
                case While():
                    bodies = [s.test + s.body]
                case Switch():
                    bodies = s.branches
            if bodies:
                starts[at] = at
                for b in bodies:
                    visit(b, (*loops, at))
                ends[at] = clock

    visit(program.steps, ())
    for sid, loops, at in records:
        touch(sid, tuple((k, k) for k in loops), at)
    for sid, loops, at in records:
        shared = {k for k, _ in inside[sid]}
        low, high = spans[sid]
        for k in loops:
            if k not in shared:
                low, high = min(low, starts[k]), max(high, ends[k])
                break
        spans[sid] = (low, high)
        del at
    return spans
