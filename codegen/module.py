"""Program -> LLVM module: the main function, control steps, moves, checks; kernels go through `codegen/nest.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.ir as ir

from stager.codegen.aliases import Aliases
from stager.codegen.emit import I1, I8, I32, I64, PTR, FunctionEmitter, i64
from stager.codegen.growth import grow, open_tapes
from stager.codegen.nest import emit_nest
from stager.codegen.program import (
    Allocate,
    Buffer,
    Check,
    Loop,
    MapLanes,
    Move,
    Nest,
    Program,
    Read,
    Routine,
    Scalar,
    Storage,
    Switch,
    While,
    walk,
)
from stager.codegen.registers import Val
from stager.codegen.rows import emit_abreast
from stager.codegen.target import Target
from stager.codegen.unit import ModuleEmitter
from stager.ir.dims import Dim, product
from stager.ir.dtypes import i64 as dtype_i64

LEAST_CHUNK = 16
"""Loops whose turns take longer look at every turn, or every few, whether to stop."""
LARGE_BYTES = 4096
"""From so many bytes on an array is copied in vectors."""
EXCHANGED = 2048
"""Bytes that change places at once."""


def emit_program(program: Program, target: Target, *, threads: bool = True, blas: bool = False) -> ModuleEmitter:
    """The module of a scheduled and planned program."""
    m = ModuleEmitter(program.name, target)
    m.threads = threads
    m.blas = blas
    m.aliases = Aliases(m.module, program)
    e = FunctionEmitter(m, program.name)
    for n, name in enumerate(program.symbols):
        place = e.entry.gep(e.symbol_values, [i64(8 * n)], source_etype=I8, inbounds=True)
        e.symbols[name] = e.entry.load(place, typ=I64, align=8)
        e.entry_symbols.add(name)
    emit_steps(e, program.steps)
    e.finish()
    return m


def emit_steps(e: FunctionEmitter, steps: list[Any]) -> None:
    """Steps in order."""
    for s in steps:
        EMIT[type(s)](e, s)


def _nest(e: FunctionEmitter, nest: Nest) -> None:
    emit_nest(e, nest)


def scalar_value(e: FunctionEmitter, s: Scalar) -> Any:
    """The i64 that a dim or a 0-d integer buffer holds."""
    if not isinstance(s, Buffer):
        return e.dim(s)
    b = e.scalars(1)
    return b.convert(b.load(e.pointer(s), s.dtype), dtype_i64).ir


def _read(e: FunctionEmitter, r: Read) -> None:
    e.define(r.name, scalar_value(e, r.source))


def _move(e: FunctionEmitter, m: Move) -> None:
    if m.swap:
        a, z = e.slots[id(m.target.storage)], e.slots[id(m.source.storage)]
        x, y = e.b.load(a, typ=PTR), e.b.load(z, typ=PTR)
        e.b.store(y, a)
        e.b.store(x, z)
        return
    if all(d == 1 for d in m.target.shape):
        sb = e.scalars(1)
        sb.store(sb.load(e.pointer(m.source), m.source.dtype), e.pointer(m.target))
        return
    copy_array(e, e.pointer(m.target), e.pointer(m.source), product(m.target.shape) * m.target.dtype.itemsize)


def copy_array(e: FunctionEmitter, to: Any, source: Any, nbytes: Dim) -> None:
    """Copies an array that lies apart. Large ones in vectors: the C library would copy what the caches hold by
    instructions that go around them."""
    lanes = e.target.vector_bits // 64
    if lanes == 0 or (isinstance(nbytes, int) and nbytes < LARGE_BYTES):
        copy_bytes(e, to, source, e.dim(nbytes))
        return
    b, t, step = e.b, ir.VectorType(I64, lanes), 8 * lanes
    whole = b.and_(e.dim(nbytes), i64(-4 * step))
    with e.loop(0, whole, 4 * step, name="copy") as at:
        places = [b.add(at, i64(step * k)) for k in range(4)]
        values = [b.load(e.offset(source, p), typ=t, align=1) for p in places]
        for p, x in zip(places, values, strict=True):
            b.store(x, e.offset(to, p), align=1)
    copy_bytes(e, e.offset(to, whole), e.offset(source, whole), b.sub(e.dim(nbytes), whole))


def copy_bytes(e: FunctionEmitter, to: Any, source: Any, n: Any) -> None:
    """memcpy of n (i64) bytes."""
    f = e.module.globals.get("llvm.memcpy.p0.p0.i64")
    if f is None:
        f = ir.Function(e.module, ir.FunctionType(ir.VoidType(), [PTR, PTR, I64, I1]), "llvm.memcpy.p0.p0.i64")
    e.b.call(f, [to, source, n, ir.Constant(I1, 0)])


def _open_swaps(e: FunctionEmitter, s: Loop | While) -> list[tuple[Any, Any]]:
    """Slots that hold the present addresses of storages which change places."""
    originals = []
    for storage in s.moving:
        base = e.base(storage)
        slot = e.alloca(PTR, storage.name)
        e.b.store(base, slot)
        originals.append((storage, base))
        e.pointers.pop(id(storage), None)
        e.slots[id(storage)] = slot
    if _moves_arguments(s):
        e.ways_out.append(e.b.append_basic_block("unwind"))
    return originals


def _moves_arguments(s: Loop | While) -> bool:
    return any(x.kind == "input" for x in s.moving)


def _close_swaps(e: FunctionEmitter, s: Loop | While, originals: list[tuple[Any, Any]]) -> None:
    """After the loop every carry is in its own storage again; the caller's arrays are so too when it ends early."""
    homes = {id(storage): base for storage, base in originals}
    if _moves_arguments(s):
        b, unwind = e.b, e.ways_out.pop()
        after = b.append_basic_block("after")
        b.branch(after)
        b.position_at_end(unwind)
        with e.scope():
            _all_home(e, s, homes)
        b.branch(e.ways_out[-1])
        b.position_at_end(after)
    _all_home(e, s, homes)
    for storage, base in originals:
        del e.slots[id(storage)]
        e.pointers[id(storage)] = base


def _all_home(e: FunctionEmitter, s: Loop | While, homes: dict[int, Any]) -> None:
    for carry, _ in s.swaps:
        _bring_home(e, carry, homes[id(carry)])
    for trade in s.trades:
        if len(trade.kept) > 1:
            _send_home(e, trade.places, homes)
            continue
        for storage in trade.kept:
            _bring_home(e, storage, homes[id(storage)])


def _bring_home(e: FunctionEmitter, storage: Storage, base: Any) -> None:
    """An array that changed places is copied into its own, if it is elsewhere."""
    b = e.b
    now = b.load(e.slots[id(storage)], typ=PTR)
    elsewhere, home = b.append_basic_block("elsewhere"), b.append_basic_block("home")
    b.cbranch(b.icmp_unsigned("!=", now, base), elsewhere, home)
    b.position_at_end(elsewhere)
    with e.scope():
        copy_array(e, base, now, storage.nbytes)
    b.branch(home)
    b.position_at_end(home)


def _send_home(e: FunctionEmitter, group: list[Storage], homes: dict[int, Any]) -> None:
    """Every array of a group that changed places goes back to its own: it and what stands there change contents."""
    b = e.b
    slots = [e.slots[id(x)] for x in group]
    for k, storage in enumerate(group[:-1]):
        base = homes[id(storage)]
        for other in slots[k + 1 :]:
            here, on = b.append_basic_block("guest"), b.append_basic_block("on")
            b.cbranch(b.icmp_unsigned("==", b.load(other, typ=PTR), base), here, on)
            b.position_at_end(here)
            with e.scope():
                away = b.load(slots[k], typ=PTR)
                _exchange_bytes(e, base, away, e.dim(storage.nbytes))
                b.store(away, other)
                b.store(base, slots[k])
            b.branch(on)
            b.position_at_end(on)


def _exchange_bytes(e: FunctionEmitter, x: Any, y: Any, n: Any) -> None:
    """Two pieces of n (i64) bytes change contents."""
    b = e.b
    room = e.alloca(ir.ArrayType(I8, EXCHANGED), "room", 64)
    with e.loop(0, n, EXCHANGED, name="piece") as start:
        rest = b.sub(n, start)
        size = b.select(b.icmp_signed("<", rest, i64(EXCHANGED)), rest, i64(EXCHANGED))
        p, q = e.offset(x, start), e.offset(y, start)
        copy_bytes(e, room, p, size)
        copy_bytes(e, p, q, size)
        copy_bytes(e, q, room, size)


def _loop(e: FunctionEmitter, s: Loop) -> None:
    if s.abreast:
        emit_abreast(e, s, emit_steps)
        return
    lo, hi = scalar_value(e, s.lower), scalar_value(e, s.upper)
    swapped = _open_swaps(e, s)
    if s.period < LEAST_CHUNK:
        with _turns(e, s, lo, hi) as (i, count):
            e.poll_sometimes(count, s.period)
            _turn(e, s, i)
    else:
        _chunks(e, s, lo, hi)
    _close_swaps(e, s, swapped)


@contextmanager
def _turns(e: FunctionEmitter, s: Loop, lo: Any, hi: Any) -> Iterator[tuple[Any, Any]]:
    """The index and a count of every turn. Larger steps are counted: behind the last one there may be no i64."""
    b, by = e.b, abs(s.step)
    if by == 1:
        with e.loop(lo, hi, s.step, name="for", copies=not _counts(s.body)) as i:
            yield i, i
        return
    span = b.sub(hi, lo) if s.step > 0 else b.sub(lo, hi)
    some = b.icmp_signed("<" if s.step > 0 else ">", lo, hi)
    turns = b.add(b.udiv(b.sub(span, i64(1)), i64(by)), i64(1))
    with e.loop(0, b.select(some, turns, i64(0)), name="for") as k:
        yield b.add(lo, b.mul(k, i64(s.step), flags=("nsw",)), flags=("nsw",)), k


def _counts(turn: list[Any]) -> bool:
    """Whether some turns write where the data says: copies of those wait for each other's addresses. Copies of other
    turns with branches wait less, and each has a history of its own by which it is guessed."""
    found: list[Any] = []

    def look(step: Any) -> None:
        match step:
            case Read():
                found.append(step)
            case Nest():
                found.extend(x for leaf in step.leaves for x in leaf.stage.stores if x.at.is_dynamic)

    walk([x for x in turn if isinstance(x, Switch)], look)
    return bool(found)


def _turn(e: FunctionEmitter, s: Loop, i: Any) -> None:
    for name in (s.symbol, *s.also):
        e.define(name, i)
    emit_steps(e, s.body)


def _chunks(e: FunctionEmitter, s: Loop, lo: Any, hi: Any) -> None:
    """The turns in chunks, with a look at whether to stop between two of them: the loop itself has no other exit and
    calls nobody, so LLVM may keep in registers what its turns hand on."""
    b, up = e.b, s.step > 0
    far = s.period * s.step
    ends = [x.constant for x in (lo, hi) if isinstance(x, ir.Constant)]
    if len(ends) == 2 and abs(ends[1] - ends[0]) <= abs(far):
        with _turns(e, s, lo, hi) as (i, _):
            _turn(e, s, i)
        return
    before, chunk, between, after = b.block, *(b.append_basic_block(n) for n in ("chunk", "between", "after"))
    b.cbranch(b.icmp_signed("<" if up else ">", lo, hi), chunk, after)
    b.position_at_end(chunk)
    start = b.phi(I64, "start")
    start.add_incoming(lo, before)
    left = b.sub(hi, start) if up else b.sub(start, hi)  # exact as an unsigned number
    last = b.icmp_unsigned("<=", left, i64(abs(far)))
    stop = b.select(last, hi, b.add(start, i64(far)))
    with e.scope(), _turns(e, s, start, stop) as (i, _):
        b.assume(b.icmp_signed("<" if up else ">", i, hi))  # which the limits of chunks hide
        _turn(e, s, i)
    b.cbranch(last, after, between)
    b.position_at_end(between)
    e.poll()
    start.add_incoming(stop, b.block)
    b.branch(chunk)
    b.position_at_end(after)


def _while(e: FunctionEmitter, s: While) -> None:
    b = e.b
    turns, test, body, due, done = (b.append_basic_block(n) for n in ("turns", "while", "do", "due", "done"))
    swapped = _open_swaps(e, s)
    room = open_tapes(e, s.tapes)
    if s.count is not None:
        b.store(i64(0), e.pointer(s.count), align=8)
    b.branch(turns)
    b.position_at_end(turns)  # the turns until the next question are a loop that calls nobody
    e.heed()
    before = b.block
    b.branch(test)
    b.position_at_end(test)
    left = b.phi(I64, "left")
    left.add_incoming(i64(s.period), before)
    with e.scope():
        emit_steps(e, s.test)
        sb = e.scalars(1)
        go_on = sb.load(e.pointer(s.condition), s.condition.dtype)
        b.cbranch(go_on.ir, body, done)
        b.position_at_end(body)
        turn = None
        if s.count is not None:
            turn = b.load(e.pointer(s.count), typ=I64, align=8)
            e.define(s.turn, turn)
            grow(e, s.tapes, room, turn)
        emit_steps(e, s.body)
        if s.count is not None:
            b.store(b.add(turn, i64(1), flags=("nsw",)), e.pointer(s.count), align=8)
        fewer = b.sub(left, i64(1), flags=("nsw",))
        left.add_incoming(fewer, b.block)
        e.branch(b.icmp_signed("!=", fewer, i64(0)), test, due)
    b.position_at_end(due)
    e.poll()
    b.branch(turns)
    b.position_at_end(done)
    _close_swaps(e, s, swapped)


def _switch(e: FunctionEmitter, s: Switch) -> None:
    b = e.b
    index = scalar_value(e, s.index)
    last = i64(len(s.branches) - 1)
    index = b.select(b.icmp_signed("<", index, i64(0)), i64(0), index)
    index = b.select(b.icmp_signed(">", index, last), last, index)
    blocks = [b.append_basic_block(f"case{k}") for k in range(len(s.branches))]
    done = b.append_basic_block("joined")
    switch = b.switch(index, blocks[-1])
    for k, block in enumerate(blocks[:-1]):
        switch.add_case(i64(k), block)
    for block, branch in zip(blocks, s.branches, strict=True):
        b.position_at_end(block)
        with e.scope():
            emit_steps(e, branch)
        b.branch(done)
    b.position_at_end(done)


def _map(e: FunctionEmitter, s: MapLanes) -> None:
    if not (s.parallel and e.m.threads):
        for storage in s.own:
            e.own(storage)
        with e.loop(0, s.size, name="lane") as i:
            _define_lane(e, s, i)
            emit_steps(e, s.body)
        return
    body = e.body()
    for storage in s.private:
        body.private.add(id(storage))
        if storage.kind == "stack":
            assert isinstance(storage.nbytes, int)
            body.stack(storage, storage.nbytes)
    for storage in s.own:
        body.own(storage)
    with body.scope(), body.loop(body.begin, body.end, name="lane") as i:
        _define_lane(body, s, i)
        emit_steps(body, s.body)
    body.finish()
    e.call_body(body, s.size, s.grain, brief=s.brief)


def _define_lane(e: FunctionEmitter, s: MapLanes, lane: Any) -> None:
    """Gives the map's symbols their value in a lane."""
    if s.step != 1:
        lane = e.b.mul(lane, i64(s.step), flags=("nsw",))
    value = lane if s.first == 0 else e.b.add(lane, e.dim(s.first), flags=("nsw",))
    for name in (s.symbol, *s.also):
        e.define(name, value)


def _allocate(e: FunctionEmitter, s: Allocate) -> None:
    e.allocate(s.buffer, s.buffer.storage.number if s.buffer.storage.kind == "sized" else None)


def _check(e: FunctionEmitter, s: Check) -> None:
    b = e.b
    sb = e.scalars(1)
    ok: Val = sb.load(e.pointer(s.ok), s.ok.dtype)
    bad, good = b.append_basic_block("wrong"), b.append_basic_block("right")
    b.cbranch(ok.ir, good, bad)
    b.position_at_end(bad)
    e.fail(s.exception, s.text, *(scalar_value(e, d) for d in s.details[:4]))
    b.position_at_end(good)


def _routine(e: FunctionEmitter, s: Routine) -> None:
    from stager.codegen import routines

    routine = routines.named(s.name)
    e.m.by_element |= not (routine.vectors and e.target.vector_bits)
    routine.emit(e, s)


EMIT: dict[type, Any] = {
    Nest: _nest,
    Allocate: _allocate,
    Read: _read,
    Move: _move,
    Loop: _loop,
    While: _while,
    Switch: _switch,
    MapLanes: _map,
    Check: _check,
    Routine: _routine,
}

__all__ = ["I32", "emit_program", "emit_steps", "scalar_value"]
