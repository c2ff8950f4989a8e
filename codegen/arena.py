"""Where temporaries lie: one arena, planned by lifetimes."""

from __future__ import annotations

from stager.codegen.program import Program
from stager.ir.abi import ARENA_ALIGN
from stager.ir.dims import Dim


def plan(program: Program) -> None:
    """Gives every temporary its offset."""
    at: Dim = 0
    for s in program.storages:
        if s.kind == "temp":
            s.offset = at
            at = at + (s.nbytes + (ARENA_ALIGN - 1)) // ARENA_ALIGN * ARENA_ALIGN
    program.arena_bytes = at
