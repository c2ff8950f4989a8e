"""Tapes that grow while their loop runs: how many rows they have room for, and memory for more.

    void *stager_tape_grow(void *tape, i64 kept, i64 size)   room for `size` bytes that begins with those kept; or null
    void  stager_tape_free(void *tape)
    i64   stager_tape_room(i64 size)                         at least `size`: as much as costs no more than that

All tapes of one loop have room for the same number of rows. They start without memory, double where a turn finds no
room for its row, keep what they have from one run of the loop to the next, and are freed where the function ends.
In a Python process they live in the pool of buffers (`buffers.py`), where a call finds what the one before had grown
to; in a built library they are libc's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import llvmlite.ir as ir

from stager.codegen.declarations import I64, NULL, PTR, VOID, const
from stager.codegen.program import Tape
from stager.codegen.structured import Code
from stager.codegen.target import Target
from stager.ir.abi import STATUS_NO_MEMORY
from stager.ir.dims import dim_max

if TYPE_CHECKING:
    from stager.codegen.emit import FunctionEmitter

FIRST_ROWS = 32
TAPE_GROW, TAPE_FREE, TAPE_ROOM = "stager_tape_grow", "stager_tape_free", "stager_tape_room"


def open_tapes(e: FunctionEmitter, tapes: Sequence[Tape]) -> Any:
    """The slot with the rows that there is room for; the slots of the addresses are the storages'."""
    if not tapes:
        return None
    key = id(tapes[0].storage)
    if key not in e.rooms:
        e.rooms[key] = e.alloca(I64, "room", 8)
        e.entry.store(const(I64, 0), e.rooms[key])
        for tape in tapes:
            slot = e.slots[id(tape.storage)] = e.alloca(PTR, tape.storage.name)
            e.entry.store(NULL, slot)
            e.grown.append(slot)
    return e.rooms[key]


def grow(e: FunctionEmitter, tapes: Sequence[Tape], room: Any, turn: Any) -> None:
    """Makes sure of room for row `turn`; what the tapes hold stays."""
    if not tapes:
        return
    b = e.b
    longer = _external(e, TAPE_GROW, PTR, [PTR, I64, I64])
    longer.return_value.add_attribute("noalias")
    roomier = _external(e, TAPE_ROOM, I64, [I64])
    before = b.load(room, typ=I64)
    more, on = b.append_basic_block("grow"), b.append_basic_block("grown")
    e.branch(b.icmp_signed("<", turn, before), on, more)
    b.position_at_end(more)
    with e.scope():
        first = b.icmp_signed("==", before, const(I64, 0))
        rows = b.select(first, const(I64, FIRST_ROWS), b.shl(before, const(I64, 1)))
        sizes = [e.dim(dim_max(tape.row, 1)) if tape.row != 0 else const(I64, 1) for tape in tapes]
        largest = reduce(lambda x, y: b.select(b.icmp_signed(">", x, y), x, y), sizes)
        rows = b.sdiv(b.call(roomier, [b.mul(rows, largest)]), largest)
        for tape, size in zip(tapes, sizes, strict=True):
            slot = e.slots[id(tape.storage)]
            made = b.call(longer, [b.load(slot, typ=PTR), b.mul(before, size), b.mul(rows, size)])
            e.leave_if(b.icmp_unsigned("==", made, NULL), STATUS_NO_MEMORY)
            b.store(made, slot)
        b.store(rows, room)
    b.branch(on)
    b.position_at_end(on)


def free_tape(e: FunctionEmitter, b: Any, slot: Any) -> None:
    b.call(_external(e, TAPE_FREE, VOID, [PTR]), [b.load(slot, typ=PTR)])


def _external(e: FunctionEmitter, name: str, result: Any, params: Sequence[Any]) -> Any:
    """Loops around a call of it keep in registers what they have loaded."""
    found = e.m.external(name, result, params)
    for attribute in ("nounwind", "inaccessiblemem_or_argmemonly"):
        found.attributes.add(attribute)
    return found


def emit_growth(target: Target) -> Any:
    """The module with the functions of a library: its tapes are libc's."""
    module = ir.Module("stager_growth")
    module.triple, module.data_layout = target.triple, target.data_layout
    width = ir.IntType(target.pointer_bits)
    c = Code(module, TAPE_GROW, PTR, [("tape", PTR), ("kept", I64), ("size", I64)])
    size = c.max(c.arg("size"), 1)
    if width.width < 64:
        c.ret_if(c.gt(size, (1 << width.width) - 1), None)
    c.ret(c.call("realloc", PTR, [c.arg("tape"), c.to(size, width)]))
    c.finish()
    c = Code(module, TAPE_FREE, VOID, [("tape", PTR)])
    c.call("free", VOID, [c.arg("tape")])
    c.finish()
    c = Code(module, TAPE_ROOM, I64, [("size", I64)])
    c.ret(c.arg("size"))
    c.finish()
    return module
