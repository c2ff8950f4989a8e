"""Loops whose iterations touch apart elements: they may run in any order, so they become parallel maps.

For every array that a body writes, the elements that one iteration touches lie in an interval of bytes whose ends are
known as expressions of the loop's index. Iterations are independent when these intervals follow one another: the next
one begins behind the last one's end. Rows do so directly; columns do once multiples of the row's size are left aside.
What only the body uses is every iteration's own. What cannot be shown runs one after the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stager.codegen.book import buffers_of
from stager.codegen.index import DYNAMIC, Facts, Ix
from stager.codegen.program import (
    Buffer,
    Check,
    Loop,
    MapLanes,
    Move,
    Nest,
    Program,
    Read,
    Routine,
    Storage,
    Switch,
    While,
    walk,
)
from stager.ir.dims import Dim, Expr, substitute, symbol, symbols_of
from stager.ir.ranges import Range, at_worst

Interval = tuple[Dim, Dim]
OWN_BYTES = 1 << 20
"""What one iteration may have for itself of one array."""
INSIDE = ("check", "clip", "promise", "wrap")
"""Modes of bounds after which an index that data decides is one of its axis."""


class Access:
    """One access of a storage: where, over which loops, and whether it writes."""

    __slots__ = ("at", "extents", "itemsize", "write")

    def __init__(self, at: Ix, extents: dict[int, Dim], itemsize: int, write: bool) -> None:
        self.at = at
        self.extents = extents
        self.itemsize = itemsize
        self.write = write


@dataclass(slots=True)
class Body:
    """What the turns of a loop touch. `inner`: symbols that the body itself defines. `checked`: an index may be bad."""

    accesses: dict[int, list[Access]] = field(default_factory=dict)
    storages: dict[int, Storage] = field(default_factory=dict)
    inner: set[str] = field(default_factory=set)
    checked: bool = False


def body_of(loop: Loop, around: Mapping[str, Dim] | None = None) -> Body | None:
    """The accesses of a loop's body; None when it holds what has to keep its order. `around`: what symbols of the loops
    around stand for."""
    body = Body()
    fine = True
    names = {name: symbol(loop.symbol) for name in loop.also} | dict(around or {})

    def look(step: Any) -> None:
        nonlocal fine
        accesses = _accesses(step)
        if accesses is None:
            fine = False
            return
        if isinstance(step, Loop | MapLanes):
            body.inner.update((step.symbol, *step.also))
        if isinstance(step, Read):
            body.inner.add(step.name)
        if isinstance(step, Nest):
            bounds = (i for stage in step.stages() for i in stage.body if i.op == "bound")
            body.checked = body.checked or any(i.data[2] == "check" for i in bounds)
        for b, access in accesses:
            if names:
                access.at = Ix(substitute(access.at.const, names), access.at.terms)
            body.storages[id(b.storage)] = b.storage
            body.accesses.setdefault(id(b.storage), []).append(access)

    walk(loop.body, look)
    return body if fine else None


def independent(loop: Loop, program: Program, besides: Collection[int] = ()) -> bool:
    """Whether the iterations of a loop may run in any order, and at the same time. `besides`: ids of storages that are
    known to allow it."""
    if loop.moving or isinstance(loop.lower, Buffer) or isinstance(loop.upper, Buffer):
        return False
    body = body_of(loop)
    if body is None:
        return False
    outside = _outside(loop, program)
    for sid, accesses in body.accesses.items():
        if sid in besides:
            continue
        s = body.storages[sid]
        if sid not in outside and s.kind in ("temp", "stack"):
            if not isinstance(s.nbytes, int) or s.nbytes > OWN_BYTES:
                return False
            continue
        if not any(a.write for a in accesses):
            continue
        if s.kind in ("stack", "heap", "tape", "sized") or (body.checked and s.kind == "input"):
            return False
        if not _follow(accesses, loop, program.facts, body.inner):
            return False
    return True


def _outside(loop: Loop, program: Program) -> set[int]:
    """The storages that anything but the loop's body uses."""
    mine: set[int] = set()
    walk(loop.body, lambda s: mine.add(id(s)))
    used = {id(b.storage) for b in (*program.inputs, *program.outputs)}

    def look(step: Any) -> None:
        if id(step) not in mine:
            used.update(id(b.storage) for b in buffers_of(step))

    walk(program.steps, look)
    return used


def _accesses(step: Any) -> list[tuple[Buffer, Access]] | None:
    """What a step itself touches; None for what has to keep its order."""
    if isinstance(step, Nest):
        return list(_of_nest(step))
    if isinstance(step, Check) or (isinstance(step, Move) and step.swap) or getattr(step, "moving", None):
        return None
    if isinstance(step, Routine) and step.node.op.ordered:
        return None
    written: list[Buffer] = []
    if isinstance(step, Move):
        written = [step.target]
    elif isinstance(step, Routine):
        written = [*step.outputs, *step.scratch]
    elif not isinstance(step, Read | Loop | While | Switch | MapLanes):
        return None
    return [(b, _whole(b, any(b is w for w in written))) for b in buffers_of(step)]


def _of_nest(nest: Nest) -> Iterator[tuple[Buffer, Access]]:
    shared = {a.var: a.extent for a in nest.outer}
    for leaf in nest.leaves:
        extents = shared | {a.var: a.extent for a in leaf.loops}
        stage = leaf.stage
        extents |= {DYNAMIC + n: i.data[0] for n, i in enumerate(stage.body) if i.op == "bound" and i.data[2] in INSIDE}
        for b, at in stage.loads:
            yield b, Access(at, extents, b.dtype.itemsize, False)
        for s in stage.stores:
            yield s.buffer, Access(s.at, extents, s.buffer.dtype.itemsize, True)
        for r in stage.reductions:
            yield r.buffer, Access(r.at, extents, r.buffer.dtype.itemsize, True)


def _whole(b: Buffer, write: bool) -> Access:
    terms = tuple((k, s) for k, s in enumerate(b.strides) if b.shape[k] != 1 and s != 0)
    return Access(Ix(b.offset, terms), dict(enumerate(b.shape)), b.dtype.itemsize, write)


def strides_of(accesses: list[Access], inner: set[str]) -> list[int]:
    """The strides whose multiples may be left aside; 0 for none."""
    strides = {0} | {c for a in accesses for _, c in a.at.terms if isinstance(c, int) and c > 0}
    strides |= {c for a in accesses for c in _coefficients(a.at.const, inner) if c > 0}
    return sorted(strides)


def _follow(accesses: list[Access], loop: Loop, facts: Facts, inner: set[str]) -> bool:
    """Whether the intervals of the iterations follow one another, upwards or downwards."""
    apart = _apart(accesses, loop, facts, inner)
    for stride in strides_of(accesses, inner):
        intervals = [interval(a, stride, facts, inner) for a in accesses]
        if all(x is not None for x in intervals) and _ordered(
            [x for x in intervals if x is not None], [a.itemsize for a in accesses], loop, facts, stride, apart
        ):
            return True
    return False


def _apart(accesses: list[Access], loop: Loop, facts: Facts, inner: set[str]) -> set[tuple[int, int]]:
    """The pairs of accesses, by number, that share no byte, in whatever turns: rows p and q that a rotation mixes."""
    name, step = loop.symbol, abs(loop.step)
    assert not isinstance(loop.lower, Buffer)
    assert not isinstance(loop.upper, Buffer)
    ends = (loop.lower, loop.upper - 1) if loop.step > 0 else (loop.upper + 1, loop.lower)

    def extremes(d: Dim) -> list[Dim]:
        """A dim in the first and the last turn, between which it lies in all others; nothing where it may not."""
        if name not in symbols_of(d):
            return [d]
        by = substitute(d, {name: symbol(name) + step}) - d
        steady = facts.non_negative(by) or facts.non_negative(-by)
        return [substitute(d, {name: end}) for end in ends] if steady else []

    spans = []
    for a in accesses:
        found = interval(a, 0, facts, inner)
        lows, highs = (extremes(found[0]), extremes(found[1])) if found is not None else ([], [])
        spans.append((lows, [high + a.itemsize for high in highs]))

    def behind(k: int, n: int) -> bool:
        lows, highs = spans[n][0], spans[k][1]
        return bool(lows and highs) and all(facts.non_negative(low - high) for low in lows for high in highs)

    pairs = range(len(accesses))
    return {(k, n) for k in pairs for n in pairs if k != n and (behind(k, n) or behind(n, k))}


def _coefficients(d: Dim, names: set[str]) -> list[int]:
    """The factors of symbols in a dim that is linear in them."""
    if not isinstance(d, Expr):
        return []
    return [c for m, c in d.terms if any(n in names for n in symbols_of(Expr(((m, 1),))))]


def interval(a: Access, stride: int, facts: Facts, inner: set[str]) -> Interval | None:
    """The least and greatest position in one iteration, without what moves by multiples of `stride`."""
    const = _folded(a.at.const, stride, inner) if stride else a.at.const
    low: Dim = const
    high: Dim = const
    for v, c in a.at.terms:
        if stride and isinstance(c, int) and c % stride == 0:
            continue
        extent = a.extents.get(v)
        positive = facts.positive_sign(c)
        if extent is None or positive is None:
            return None
        far = c * (extent - 1)
        low, high = (low, high + far) if positive else (low + far, high)
    ranges = {name: r for name, r in facts.ranges.items() if name in inner}
    least, greatest = _settled(low, ranges, inner), _settled(-high, ranges, inner)
    return None if least is None or greatest is None else (least, -greatest)


def _folded(d: Dim, stride: int, inner: set[str]) -> Dim:
    """A dim without the multiples of `stride` in its constant part and in the symbols of inner loops."""
    if not isinstance(d, Expr):
        return d % stride
    out: Dim = 0
    for m, c in d.terms:
        if not m:
            out = out + c % stride
        elif c % stride or len(m) != 1 or m[0][1] != 1 or not symbols_of(Expr(((m, 1),))) <= inner:
            out = out + Expr(((m, c),))
    return out


def _settled(d: Dim, ranges: dict[str, Range], inner: set[str]) -> Dim | None:
    """A dim at its least over the symbols of inner loops."""
    for _ in range(8):
        if not isinstance(d, Expr) or not symbols_of(d) & inner:
            return d
        lower = at_worst(d, ranges)
        if lower is d:
            return None
        d = lower
    return None


def _ordered(
    intervals: list[Interval],
    sizes: list[int],
    loop: Loop,
    facts: Facts,
    stride: int,
    apart: Collection[tuple[int, int]] = (),
) -> bool:
    """Whether the intervals of the turns follow one another, but for pairs of accesses that are apart anyway."""
    i, step = symbol(loop.symbol), abs(loop.step)
    later = {loop.symbol: i + step}

    def grows(d: Dim) -> bool:
        return facts.non_negative(substitute(d, later) - d)

    if stride:  # all iterations stay between two multiples
        lows = [-facts.maximum(-low) for low, _ in intervals]
        ends = [facts.maximum(high) + n for (_, high), n in zip(intervals, sizes, strict=True)]
        if not all(facts.non_negative(stride - (end - low)) for low in lows for end in ends):
            return False
    for sign in (1, -1):
        turned = intervals if sign > 0 else [(-high, -low) for low, high in intervals]
        if not all(grows(low) and grows(high) for low, high in turned):
            continue
        numbered = list(enumerate(zip(turned, sizes, strict=True)))
        if all(
            (k, n) in apart or facts.non_negative(substitute(low, later) - high - (size if sign > 0 else mine))
            for k, ((low, _), mine) in numbered
            for n, ((_, high), size) in numbered
        ):
            return True
    return False
