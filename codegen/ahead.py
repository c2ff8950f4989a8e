"""Rows that a loop looks up: asked for some turns before they are read.

The processor fetches ahead of what is read in order, not of rows whose numbers stand in an array, and where much is
computed with each row its window holds hardly more than one turn. Invariant: only asks; addresses are not checked,
because asking for one that is not there does nothing. Not here: what loops look like (`loops.py`).
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from stager.codegen.body import BodyEmitter
from stager.codegen.emit import PTR, i64
from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.modes import is_dear
from stager.codegen.program import Instr, LoopAxis, Storage
from stager.codegen.registers import Val
from stager.ir.dtypes import i64 as dtype_i64

TURNS_AHEAD = 8
LINE = 64
MOST_LINES = 8
"""Longer rows have the processor fetching ahead before they end."""
LEAST_TABLE = 1 << 16
"""Smaller tables are in a near cache."""
I32 = ir.IntType(32)


class AheadEmitter(BodyEmitter):
    """Emits the requests of one leaf."""

    def _look_ahead(self, k: int, hi: Any) -> None:
        """Asks for the rows of a later turn of loop k, up to `hi`; around it nothing, inside of it only the row."""
        axis = self.loops[k]
        turn = self.variables.get(axis.var)
        if k != len(self.loops) - 2 or self.loops[-1].var != self.leaf.vector or not isinstance(turn, ir.Value):
            return
        tables = dict.fromkeys(t for t in self.accesses if self._is_looked_up(*t, axis))
        if not tables or self.stage.descending or not any(is_dear(self.body[n]) for n in self.needed):
            return
        b = self.e.b
        later = b.add(turn, i64(TURNS_AHEAD), flags=("nsw",))
        later = b.select(b.icmp_signed("<", later, self.e._operand(hi)), later, turn)
        around = dict(self.values), dict(self.pointers)
        fixed = {key: p for key, p in self.pointers.items() if all(self._is_fixed(v, axis) for v, _ in key[1])}
        self.variables[axis.var] = later
        for storage, at in tables:
            self.values, self.pointers = dict(around[0]), dict(fixed)
            self._ask(storage, at, self._row_number(at))
        self.variables[axis.var] = turn
        self.values, self.pointers = around

    def _is_fixed(self, v: int, axis: LoopAxis) -> bool:
        return v < DYNAMIC and v != axis.var

    def _is_looked_up(self, storage: Storage, at: Ix, axis: LoopAxis) -> bool:
        """Whether a table is read in short rows whose numbers are elements of an array along the loop."""
        dynamic = [v - DYNAMIC for v, _ in at.terms if v >= DYNAMIC]
        row = self.loops[-1]
        step, extent = at.coef(row.var), row.extent
        if len(dynamic) != 1 or not isinstance(step, int) or not isinstance(extent, int):
            return False
        if not 0 < step <= LINE or not LINE <= extent * step <= MOST_LINES * LINE or id(storage) in self.nest.scratch:
            return False
        if isinstance(storage.nbytes, int) and storage.nbytes < LEAST_TABLE:
            return False
        i = self.body[dynamic[0]]
        if i.op != "bound" or self.varies[dynamic[0]] or i.data[2] == "wrap":
            return False
        number = self._in_memory(dynamic[0])
        return number.op == "load" and not number.data[1].is_dynamic and number.data[1].coef(axis.var) != 0

    def _in_memory(self, bound: int) -> Instr:
        """What an index is before it is an i64 and inside of its bounds."""
        i = self.body[self.body[bound].args[0]]
        return self.body[i.args[0]] if i.op == "apply" and i.data.op.name == "convert" else i

    def _row_number(self, at: Ix) -> Val:
        """The number of the later turn's row, as it stands in memory."""
        (bound,) = (v - DYNAMIC for v, _ in at.terms if v >= DYNAMIC)
        one = self.e.scalars(1)
        return one.convert(self._load(self._in_memory(bound), 0, 1), dtype_i64)

    def _ask(self, storage: Storage, at: Ix, number: Val) -> None:
        e, row = self.e, self.loops[-1]
        p = self._pointer(storage, tuple(t for t in at.terms if t[0] < DYNAMIC and t[0] != row.var))
        (size,) = (c for v, c in at.terms if v >= DYNAMIC)
        p = e.offset(p, e.b.mul(number.ir, e.dim(size)))
        p = e.offset(p, e.dim(at.const)) if at.const != 0 else p
        name = "llvm.prefetch.p0"
        f = e.module.globals.get(name)
        if f is None:
            f = ir.Function(e.module, ir.FunctionType(ir.VoidType(), [PTR, I32, I32, I32]), name)
        assert isinstance(row.extent, int)
        for line in range(0, row.extent * int(at.coef(row.var)), LINE):
            e.b.call(f, [e.offset(p, line) if line else p, I32(0), I32(3), I32(1)])
