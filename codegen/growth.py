"""Tapes that grow while their loop runs: how many rows they have room for, and memory for more.

All tapes of one loop have room for the same number of rows. They start without memory, double where a turn finds no
room for its row, keep what they have from one run of the loop to the next, and are freed where the function ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import llvmlite.ir as ir

from stager.codegen.declarations import I64, NULL, PTR, const
from stager.codegen.program import Tape
from stager.ir.abi import STATUS_NO_MEMORY
from stager.ir.dims import dim_max

if TYPE_CHECKING:
    from stager.codegen.emit import FunctionEmitter

FIRST_ROWS = 32


def open_tapes(e: FunctionEmitter, tapes: Sequence[Tape]) -> Any:
    """The slot with the rows that there is room for; the slots of the addresses are the storages'."""
    if not tapes:
        return None
    key = id(tapes[0].storage)
    if key not in e.rooms:
        e.rooms[key] = e.alloca(I64, "room", 8)
        e.entry.store(const(I64, 0), e.rooms[key])
        for tape in tapes:
            slot = e.slots[id(tape.storage)] = e.heap[id(tape.storage)] = e.alloca(PTR, tape.storage.name)
            e.entry.store(NULL, slot)
    return e.rooms[key]


def grow(e: FunctionEmitter, tapes: Sequence[Tape], room: Any, turn: Any) -> None:
    """Makes sure of room for row `turn`; what the tapes hold stays."""
    if not tapes:
        return
    b = e.b
    size = ir.IntType(e.target.pointer_bits)
    realloc = e.external("realloc", PTR, [PTR, size])
    before = b.load(room, typ=I64)
    more, on = b.append_basic_block("grow"), b.append_basic_block("grown")
    e.branch(b.icmp_signed("<", turn, before), on, more)
    b.position_at_end(more)
    with e.scope():
        first = b.icmp_signed("==", before, const(I64, 0))
        rows = b.select(first, const(I64, FIRST_ROWS), b.shl(before, const(I64, 1)))
        for tape in tapes:
            slot = e.slots[id(tape.storage)]
            nbytes = b.mul(rows, e.dim(dim_max(tape.row, 1)) if tape.row != 0 else const(I64, 1))
            longer = b.call(realloc, [b.load(slot, typ=PTR), e.size(nbytes, size)])
            e.leave_if(b.icmp_unsigned("==", longer, NULL), STATUS_NO_MEMORY)
            b.store(longer, slot)
        b.store(rows, room)
    b.branch(on)
    b.position_at_end(on)
