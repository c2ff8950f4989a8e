"""One leaf of a nest: what its loops store and reduce.

A reduction stands around its outermost loop: accumulators start before it, take one value (or one per lane) at each
point and are stored after it; long float sums run in blocks and fold after each. Folds are reductions in order, whose
values stay in registers. Indices of a checked leaf that are out of bounds leave bits behind, or end its loops at
once; which index it was is found out by `bad_index.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir

from stager.codegen.accumulate import Accumulator, Carry
from stager.codegen.bad_index import INDEX_ERROR, checked_by, refuse_empty, report, report_point
from stager.codegen.emit import I64, i64
from stager.codegen.levels import BLOCK_STEPS, Lane
from stager.codegen.loops import LoopEmitter
from stager.codegen.program import Instr
from stager.codegen.registers import Val
from stager.ir.dims import Expr
from stager.ir.dtypes import i64 as dtype_i64

FEW = 2
"""So many vectors of elements, where how many there are is not known before, are reduced one by one."""


class LeafEmitter(LoopEmitter):
    """Emits one leaf inside the outer loops of its nest."""

    def prepare(self) -> None:
        if any(self.body[n].op == "bound" and self.body[n].data[2] == "check" for n in self.needed):
            e = self.e
            self.bad = e.alloca(ir.VectorType(I64, self.full_width) if self.full_width > 1 else I64, "bad")
            self.bad_scalar = e.alloca(I64, "bad1")
            e.b.store(e.scalars(self.full_width).const(dtype_i64, 0).ir, self.bad)
            e.b.store(i64(0), self.bad_scalar)
            self.leaves_early = not self._reads_rows()
        refuse_empty(self.e, self.nest, self.leaf, self.needed, not self._reads_rows())

    def run(self, outer: dict[int, Any], limits: dict[int, Any]) -> None:
        super().run(outer, limits)
        if self.bad is not None and self._reads_rows():
            self._leave_if_bad(lambda: report_point(self.e, self.nest, self.leaf, outer, limits))

    def _reads_rows(self) -> bool:
        """Whether indices come from rows that last for one outer point: they are looked up again while it lasts."""
        body, rows = self.stage.body, self.nest.scratch
        return any(body[n].op == "load" and id(body[n].data[0].storage) in rows for n in checked_by(body))

    def finish(self) -> None:
        """After the loops: an index that was out of bounds is looked up again and reported."""
        if self.bad is not None and not self._reads_rows():
            self._leave_if_bad(lambda: report(self.e, self.nest, self.leaf))

    def _leave_if_bad(self, look_up: Callable[[], None]) -> None:
        e = self.e
        b = e.b
        zero = i64(0)
        sb = e.scalars(self.full_width)
        flag = b.icmp_signed("<", b.load(self.bad_scalar, typ=I64), zero)
        if self.full_width > 1:
            lanes = sb.lt(Val(b.load(self.bad, typ=sb.type(dtype_i64)), dtype_i64), sb.const(dtype_i64, 0))
            bits = ir.IntType(self.full_width)
            flag = b.or_(flag, b.icmp_unsigned("!=", b.bitcast(lanes.ir, bits), ir.Constant(bits, 0)))
        else:
            flag = b.or_(flag, b.icmp_signed("<", b.load(self.bad, typ=I64), zero))
        wrong, right = self.wrong or b.append_basic_block("bad"), b.append_basic_block("good")
        b.cbranch(flag, wrong, right)
        b.position_at_end(wrong)
        e.forget_memory()  # else the loops would keep the index for the report beside the one that they use
        with e.scope():
            look_up()
        e.fail("IndexError", INDEX_ERROR, zero, zero, zero)
        b.position_at_end(right)

    # -- reductions --------------------------------------------------------------------------------------------------

    def _enter(self, k: int) -> None:
        if k == self.first_reduce:
            self._reduce(k)
        else:
            super()._enter(k)

    def _loop(self, k: int, lo: Any = None, hi: Any = None) -> None:
        if lo is None and k == self.fold_level and not self.loops[k].tile:
            self._blocks(k)
        else:
            super()._loop(k, lo, hi)

    def _reduce(self, k: int) -> None:
        axis = self.loops[k]
        few = axis.var == self.leaf.vector and isinstance(axis.extent, Expr) and k == len(self.loops) - 1
        if few and not self.masked and self.full_width > 1 and not self._finds_places():
            self._few_or_many(k)
        else:
            self._reduce_all(k)

    def _finds_places(self) -> bool:
        return any(r.kind.startswith("arg") for r in self.stage.reductions)

    def _few_or_many(self, k: int) -> None:
        """What blocks of vectors do not pay for: rows of sparse matrices have few elements. They are one step
        or two under masks, whatever their number, where that can be: how often a short loop runs is guessed wrong, but
        for rows that the processor remembers."""
        e, b, axis = self.e, self.e.b, self.loops[k]
        width = self.full_width if self._looks_up() and not self.leaf.recalled else 1
        lo, hi = (e._operand(x) for x in self._range(k))
        few, many, done = (b.append_basic_block(n) for n in ("few", "many", "reduced"))
        saved = (dict(self.values), dict(self.splats), dict(self.pointers))
        b.cbranch(b.icmp_signed("<", b.sub(hi, lo, flags=("nsw",)), i64(FEW * self.full_width)), few, many)
        b.position_at_end(few)
        with e.scope():
            self.accumulators = [
                Accumulator(e, r.kind, self.body[r.value].dtype, width, 1, width > 1, False, True)
                for r in self.stage.reductions
            ]
            for acc in self.accumulators:
                acc.start()
            with e.loop(lo, hi, width, name=f"f{k}", copies=width == 1) as i:
                self.variables[axis.var] = i
                if width > 1:
                    self._mask_few(i, hi)
                self._level(k)
            self.width, self.mask, self.places = 1, None, None
            for r, acc in zip(self.stage.reductions, self.accumulators, strict=True):
                self._store(r.buffer, r.at, acc.results()[0], 0, r.combine)
        b.branch(done)
        self._restore(saved)
        b.position_at_end(many)
        with e.scope():
            self._reduce_all(k)
        b.branch(done)
        self._restore(saved)
        b.position_at_end(done)

    def _mask_few(self, at: Any, hi: Any) -> None:
        """A step from one point on; lanes beyond the last look up what the first one does."""
        e, b, width = self.e, self.e.b, self.full_width
        sb = e.scalars(width)
        self.width, self.mask = width, sb.lt(sb.iota(dtype_i64), sb.splat(Val(b.sub(hi, at), dtype_i64)))
        places = [b.add(at, i64(k), flags=("nsw",)) for k in range(width)]
        self.places = [Lane(p if k == 0 else b.select(b.icmp_signed("<", p, hi), p, at)) for k, p in enumerate(places)]

    def _looks_up(self) -> bool:
        """Whether some of what varies along the lanes is looked up, and the rest can be masked."""
        along = [self.body[n] for n in self.needed if self.varies[n] and n not in self.only_places]
        if any(i.op == "bound" for i in along):
            return False
        loads = [i.data for i in along if i.op == "load"]
        found = [self._dynamic_varies(at) for _, at in loads]
        return (
            self.e.target.has_masks
            and any(found)
            and all(f or self._maskable(b, at) for f, (b, at) in zip(found, loads, strict=True))
            and all(self._maskable(s.buffer, s.at) for s in self.stage.stores)
        )

    def _reduce_all(self, k: int) -> None:
        e, leaf = self.e, self.leaf
        vector_axis = next((a for a in self.loops if a.var == leaf.vector), None)
        lanes = vector_axis is not None and vector_axis.reduce
        width, unroll = (self.full_width, leaf.unroll) if lanes else (self.width, self.unroll)
        self.accumulators = []
        if self.stage.folds:
            self._fold(k)
            return
        for r in self.stage.reductions:
            dtype = self.body[r.value].dtype
            blocked = self.fold_level is not None and r.kind == "sum" and dtype.kind == "f"
            varies = r.at.coef(leaf.vector) != 0 if leaf.vector is not None else False
            acc = (
                Accumulator(e, r.kind, dtype, width, unroll, True, blocked)
                if lanes
                else Accumulator(e, r.kind, dtype, width if varies else 1, unroll if varies else 1, False, blocked)
            )
            if lanes and width > 1 and (leaf.late or not self.masked):
                acc.use_scalar()
            acc.start()
            self.accumulators.append(acc)
        state = (self.width, self.unroll, self.mask)
        self._loop(k)
        self.width, self.unroll, self.mask = state
        if lanes:
            self.width, self.unroll, self.mask = 1, 1, None
        for r, acc in zip(self.stage.reductions, self.accumulators, strict=True):
            for u, value in enumerate(acc.results()):
                self._store(r.buffer, r.at, value, u, r.combine)
        self.width, self.unroll, self.mask = state

    def _fold(self, k: int) -> None:
        """Loop k and those inside of it, in order, over values that stay in registers."""
        e = self.e
        for r in self.stage.reductions:
            varies = self.leaf.vector is not None and r.at.coef(self.leaf.vector) != 0
            width, copies = (self.width, self.unroll) if varies else (1, 1)
            if r.first is None:
                i = Instr("load", r.buffer.dtype, (), (r.buffer, r.at))
                first = [self._load(i, u, width) for u in range(copies)]
            else:
                first = [e.scalars(width).const(r.buffer.dtype, r.first)] * copies
            self.accumulators.append(Carry(e, r.buffer.dtype, width, first))
        state = (self.width, self.unroll, self.mask)
        self._loop(k)
        self.width, self.unroll, self.mask = state
        for r, carry in zip(self.stage.reductions, self.accumulators, strict=True):
            for u, value in enumerate(carry.results()):
                self._store(r.buffer, r.at, value, u, "set")

    def _blocks(self, k: int) -> None:
        """Loop k in blocks; after each the sums fold."""
        e = self.e
        axis = self.loops[k]
        step = BLOCK_STEPS
        if axis.var == self.leaf.vector:
            step *= self.full_width * self.leaf.unroll
        else:
            for a in self.loops[k + 1 :]:
                if a.reduce and isinstance(a.extent, int):
                    n = a.extent if a.var != self.leaf.vector else -(-a.extent // (self.full_width * self.leaf.unroll))
                    step = max(1, step // max(n, 1))
        lo, hi = self._range(k)
        end = e._operand(hi)
        blocked = [a for a in self.accumulators if a.blocked]
        with e.loop(lo, hi, step, name="block") as start:
            b = e.b
            stop = b.add(start, i64(step), flags=("nsw",))
            stop = b.select(b.icmp_signed("<", stop, end), stop, end)
            for acc in blocked:
                acc.restart()
            state = (self.width, self.unroll, self.mask)
            self._loop(k, start, stop)
            self.width, self.unroll, self.mask = state
            for acc in blocked:
                acc.fold()
        self.variables[axis.var] = None

    def _innermost(self) -> None:
        for s in self.stage.stores:
            jammed = self._jammed_at(s.at) or s.value in self.jammed
            for u in range(self._copies(self._store_varies(s.at, s.value), jammed)):
                self._store(s.buffer, s.at, None, u, s.combine, s.value)
        if not self.stage.reductions:
            return
        if self.stage.folds:
            new = []
            for r, carry in zip(self.stage.reductions, self.accumulators, strict=True):
                varies = self.leaf.vector is not None and r.at.coef(self.leaf.vector) != 0
                width = self.width if varies else 1
                new.append([self._operand(r.value, u, width) for u in range(len(carry.slots))])
            for carry, values in zip(self.accumulators, new, strict=True):
                carry.set(values)
            return
        for r, acc in zip(self.stage.reductions, self.accumulators, strict=True):
            vector = self.leaf.vector
            varies = acc.lanes or (vector is not None and r.at.coef(vector) != 0)
            width = self.width if varies else 1
            for u in range(self.unroll if varies else 1):
                x = self._operand(r.value, u, width)
                place = None
                if r.index is not None:
                    place = self._index_value(r.index, u, width, acc.place_dtype)
                fma = self._factors(r.value, u, width) if r.kind == "sum" else None
                acc.add(u, x, width, self.mask if width > 1 else None, place, fma)
