"""Nest -> LLVM: loops, addresses, bodies, stores and reductions of one kernel.

Every instruction is emitted at the outermost loop that it depends on. The vector loop runs in steps of
`width * unroll`, then of `width`, then one masked step or a scalar loop; instructions that vary along it are emitted
`unroll` times per step. Invariant: a lane computes the same operations in each of the three, so elementwise results
do not depend on which one computed them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import reduce
from typing import Any

import llvmlite.ir as ir

from stager.codegen.accumulate import Accumulator, Carry
from stager.codegen.body import BLOCK_STEPS, BodyEmitter
from stager.codegen.emit import I64, FunctionEmitter, i64
from stager.codegen.index import DYNAMIC
from stager.codegen.modes import is_dear, weight
from stager.codegen.program import Instr, Leaf, LoopAxis, Nest, Store
from stager.codegen.scalar import ScalarBuilder, Val
from stager.ir.dims import Dim, Expr, floordiv
from stager.ir.dtypes import b1
from stager.ir.dtypes import i64 as dtype_i64

UNROLL_OPS = 64
"""A loop of constant extent is unrolled while its copies have at most this many instructions."""
FEW = 2
"""So many vectors of elements, where how many there are is not known before, are reduced one by one."""
LONG_LINE = 8
"""A line of so many vectors is worth a step that aligns the rest."""
CHEAP = 40
"""Operations of one point that are more than memory takes: then where it is stored does not matter."""
TURNS = 1 << 12
"""Turns of a fold between two looks at whether to stop."""
INDEX_ERROR = "index {0} is out of bounds for axis {1} with size {2}"
EMPTY_ERROR = "cannot do a non-empty take from an empty axes."


def emit_nest(e: FunctionEmitter, nest: Nest) -> None:
    """The code of a nest at the current place."""
    if nest.parallel and e.m.threads:
        first = nest.outer[0] if nest.outer else nest.leaves[0].loops[0]
        unit = nest.block if nest.block and len(nest.outer) == 1 else max(nest.chunk, nest.rows, 1)
        body = e.body()
        with body.scope():
            _NestEmitter(body, nest).run(body.begin, body.end, 1 if nest.rows else unit)
        body.finish()
        many: Any = True
        if nest.threshold is not None:
            points, enough = nest.threshold
            many = e.b.icmp_signed(">=", e.dim(points), i64(enough))
        e.call_body(body, floordiv(first.extent + (unit - 1), unit), nest.grain, many)
        return
    with e.scope():
        _NestEmitter(e, nest).run(None, None, 1)


class _NestEmitter:
    def __init__(self, e: FunctionEmitter, nest: Nest) -> None:
        self.e = e
        self.nest = nest
        self.variables: dict[int, Any] = {}
        self.rows: dict[int, Any] = {}

    def run(self, begin: Any, end: Any, unit: int) -> None:
        """The nest, or its units [begin, end) of the first loop."""
        e, nest = self.e, self.nest
        for storage, nbytes in nest.scratch.values():
            lanes = nest.block if nest.block else 1
            e.stack(storage, nbytes * lanes)
        limits = None
        if begin is not None:
            first = nest.outer[0] if nest.outer else nest.leaves[0].loops[0]
            if unit > 1:
                b = e.b
                lo = b.mul(begin, i64(unit), flags=("nsw",))
                hi = b.mul(end, i64(unit), flags=("nsw",))
                n = e.dim(first.extent)
                hi = b.select(b.icmp_signed("<", hi, n), hi, n)
            else:
                lo, hi = begin, end
            limits = (lo, hi)
        emitters = [_LeafEmitter(e, nest, leaf) for leaf in nest.leaves]
        for x in emitters:
            x.prepare()
        if nest.piece is None:
            self._outer(0, emitters, limits)
        else:
            self._pieces(nest.piece, emitters, limits)
        for x in emitters:
            x.finish()

    def _pieces(self, piece: int, emitters: list[_LeafEmitter], limits: Any) -> None:
        """The first outer loop in pieces, each begun anew."""
        e, nest = self.e, self.nest
        extent = nest.outer[0].extent
        lo, hi = limits if limits is not None else (0, floordiv(extent + (nest.rows - 1), nest.rows))
        begin = [_LeafEmitter(e, nest, leaf) for leaf in nest.first]
        with e.loop(lo, hi, name="piece") as p:
            self.variables[piece] = p
            for x in begin:
                with e.scope():
                    x.run(dict(self.variables), {})
            b = e.b
            start = b.mul(p, i64(nest.rows), flags=("nsw",))
            stop, top = b.add(start, i64(nest.rows), flags=("nsw",)), e.dim(extent)
            self._outer(0, emitters, (start, b.select(b.icmp_signed("<", stop, top), stop, top)))

    def _outer(self, k: int, emitters: list[_LeafEmitter], limits: Any) -> None:
        e, nest = self.e, self.nest
        if k == len(nest.outer):
            for x in emitters:
                ranges = {x.loops[0].var: limits} if limits is not None and not nest.outer else {}
                with e.scope():
                    x.run(dict(self.variables), ranges)
            return
        axis = nest.outer[k]
        lo, hi = limits if limits is not None and k == 0 else (0, axis.extent)
        if nest.block and k == len(nest.outer) - 1:
            self._blocks(axis, lo, hi, emitters)
            return
        with e.loop(lo, hi, name=f"r{k}") as i:
            self.variables[axis.var] = i
            self._outer(k + 1, emitters, limits)

    def _blocks(self, axis: LoopAxis, lo: Any, hi: Any, emitters: list[_LeafEmitter]) -> None:
        """The last outer loop in blocks of lanes."""
        e, nest = self.e, self.nest
        step = nest.block
        if isinstance(lo, int) and isinstance(hi, int) and lo == 0 and hi <= step:  # one block, of known limits
            if nest.block_var is not None:
                self.variables[nest.block_var] = 0
            for x in emitters:
                with e.scope():
                    x.run(dict(self.variables), {axis.var: (lo, hi)})
            return
        top = e._operand(hi)
        with e.loop(lo, hi, step, name="block") as start:
            b = e.b
            stop = b.add(start, i64(step), flags=("nsw",))
            stop = b.select(b.icmp_signed("<", stop, top), stop, top)
            if nest.polled:
                e.poll()
                b = e.b
            if nest.block_var is not None:
                self.variables[nest.block_var] = b.udiv(start, i64(step))
            for x in emitters:
                with e.scope():
                    x.run(dict(self.variables), {axis.var: (start, stop)})


class _LeafEmitter(BodyEmitter):
    """Emits one leaf inside the outer loops of its nest."""

    def prepare(self) -> None:
        if any(self.body[n].op == "bound" and self.body[n].data[2] == "check" for n in self.needed):
            e = self.e
            self.bad = e.alloca(ir.VectorType(I64, self.full_width) if self.full_width > 1 else I64, "bad")
            self.bad_scalar = e.alloca(I64, "bad1")
            e.b.store(e.scalars(self.full_width).const(dtype_i64, 0).ir, self.bad)
            e.b.store(i64(0), self.bad_scalar)
            self.leaves_early = not self._reads_rows()
        self._refuse_empty()

    def _refuse_empty(self) -> None:
        """An axis without elements has no position that is safe to read: that is found out before the loops."""
        e, b, zero = self.e, self.e.b, i64(0)
        for mode, text in (("check", INDEX_ERROR), ("clip", EMPTY_ERROR), ("wrap", EMPTY_ERROR)):
            bounds = [self.body[n].data for n in self.needed if self.body[n].op == "bound"]
            axes = {size: axis for size, axis, m in bounds if m == mode and isinstance(size, Expr)}
            if not axes:
                continue
            empty = reduce(b.or_, [b.icmp_signed("<=", e.dim(size), zero) for size in axes])
            for extent in {a.extent for a in (*self.nest.outer, *self.loops) if isinstance(a.extent, Expr)}:
                empty = b.and_(empty, b.icmp_signed(">", e.dim(extent), zero))
            wrong, right = b.append_basic_block("empty"), b.append_basic_block("some")
            b.cbranch(empty, wrong, right)
            b.position_at_end(wrong)
            with e.scope():
                if mode == "check" and not self._reads_rows():
                    _report(e, self.nest, self.leaf)  # with the first index
            e.fail("IndexError", text, zero, i64(next(iter(axes.values()))), zero)
            b.position_at_end(right)

    def run(self, outer: dict[int, Any], limits: dict[int, Any]) -> None:
        """The leaf once, for one outer point; `limits`: ranges of loops that do not run over their whole extent."""
        self.variables = outer
        self.limits = dict(limits)
        self.values.clear()
        self.splats.clear()
        self.pointers.clear()
        for a in self.loops:
            self.e.dim(a.extent)
        self._level(-1)
        if self.bad is not None and self._reads_rows():
            self._leave_if_bad(lambda: _report_point(self.e, self.nest, self.leaf, outer, limits))

    def _reads_rows(self) -> bool:
        """Whether indices come from rows that last for one outer point: they are looked up again while it lasts."""
        body, rows = self.stage.body, self.nest.scratch
        return any(body[n].op == "load" and id(body[n].data[0].storage) in rows for n in checked_by(body))

    def _level(self, k: int) -> None:
        """Everything inside loop k (-1: before the leaf's loops)."""
        self._hoist_pointers(k, dynamic=False)
        for n in self.by_level.get(k, ()):
            self._instr(n)
        self._hoist_pointers(k, dynamic=True)
        if k == len(self.loops) - 1:
            self._innermost()
        else:
            self._enter(k + 1)

    def _enter(self, k: int) -> None:
        if k == self.first_reduce:
            self._reduce(k)
        else:
            self._loop(k)

    def _range(self, k: int) -> tuple[Any, Any]:
        axis = self.loops[k]
        limits: tuple[Any, Any] = self.limits.get(axis.var, (0, axis.extent))
        return limits

    def _loop(self, k: int, lo: Any = None, hi: Any = None) -> None:
        axis = self.loops[k]
        if axis.tile:
            self._tiles(k)
            return
        if lo is None:
            if k == self.fold_level:
                self._blocks(k)
                return
            lo, hi = self._range(k)
        saved = (dict(self.values), dict(self.splats), dict(self.pointers))
        if axis.var == self.leaf.vector:
            self._vector_loop(k, lo, hi)
        elif axis.var == self.leaf.jam:
            self._jam_loop(k, lo, hi)
        elif isinstance(lo, int) and isinstance(hi, int) and self._unrolls(k, hi - lo):
            for i in reversed(range(lo, hi)) if self.stage.descending else range(lo, hi):
                self.variables[axis.var] = i
                self._level(k)
                self._restore(saved)
        else:
            with self._steps(lo, hi, 1, name=f"i{k}") as i:
                self.variables[axis.var] = i
                if axis.reduce and self.stage.folds and self._is_long(axis):
                    self.e.poll_sometimes(i, TURNS)
                self._level(k)
        self._restore(saved)
        self.variables.pop(axis.var, None)

    def _steps(self, lo: Any, hi: Any, step: int, name: str) -> AbstractContextManager[Any]:
        """A loop over the starts of whole steps in [lo, hi), in the order of the stage."""
        if not self.stage.descending:
            return self.e.loop(lo, hi, step, name=name)
        if isinstance(lo, int) and isinstance(hi, int):
            return self.e.loop(hi - step, lo - 1, -step, name=name)
        b = self.e.b
        first, last = (b.sub(self.e._operand(x), i64(by), flags=("nsw",)) for x, by in ((hi, step), (lo, 1)))
        return self.e.loop(first, last, -step, name=name)

    def _jam_loop(self, k: int, lo: Any, hi: Any) -> None:
        """Loop k in steps of as many points as a vector has lanes, then one by one."""
        e, var, step = self.e, self.loops[k].var, self.full_width
        saved = (dict(self.values), dict(self.splats), dict(self.pointers))
        start, stop = e._operand(lo), e._operand(hi)
        length = e.b.sub(stop, start, flags=("nsw",))
        middle = e.b.add(start, e.b.sub(length, e.b.and_(length, i64(step - 1))))
        for first, last, copies in ((start, middle, step), (middle, stop, 1)):
            self.unroll = copies
            with e.loop(first, last, copies, name=f"j{k}") as i:
                self.variables[var] = i
                self._level(k)
            self._restore(saved)
        self.unroll = 1

    def _tiles(self, k: int) -> None:
        """Loop k over the starts of tiles; the inner loop of the same variable stays inside of one."""
        e, axis = self.e, self.loops[k]
        lo, hi = self._range(k)
        whole = self.limits.get(axis.var)
        top = e._operand(hi)
        with e.loop(lo, hi, axis.tile, name=f"t{k}") as start:
            b = e.b
            stop = b.add(start, i64(axis.tile), flags=("nsw",))
            stop = b.select(b.icmp_signed("<", stop, top), stop, top)
            self.limits[axis.var] = (start, stop)
            saved = (dict(self.values), dict(self.splats), dict(self.pointers))
            self._level(k)
            self._restore(saved)
        if whole is None:
            del self.limits[axis.var]
        else:
            self.limits[axis.var] = whole

    def _restore(self, saved: Any) -> None:
        self.values, self.splats, self.pointers = (dict(s) for s in saved)

    def _unrolls(self, k: int, n: int) -> bool:
        size = n * self.unroll
        for a in self.loops[k + 1 :]:
            if not isinstance(a.extent, int):
                return False
            size *= 1 if a.var == self.leaf.vector else a.extent
        inside = [self.body[n] for j in range(k, len(self.loops)) for n in self.by_level.get(j, ())]
        inner = sum(weight(i) if is_dear(i) else 1 for i in inside)
        return n <= 1 or (n <= 16 and size * max(inner, 1) <= UNROLL_OPS)

    def _vector_loop(self, k: int, lo: Any, hi: Any) -> None:
        e, var = self.e, self.loops[k].var
        w, u = self.full_width, self.leaf.unroll
        saved = (dict(self.values), dict(self.splats), dict(self.pointers))
        known = isinstance(lo, int) and isinstance(hi, int)

        late = 1 if self.leaf.late else 0

        def aligned(start: Any, step: int) -> Any:
            if known:
                return start + (hi - start) // step * step
            b = e.b
            a, z = (e._operand(x) for x in (start, hi))
            length = b.sub(z, b.add(a, i64(late)) if late else a, flags=("nsw",))
            whole = b.sub(
                length, b.and_(length, i64(step - 1)) if step & (step - 1) == 0 else b.srem(length, i64(step))
            )
            empty = b.icmp_signed("<", length, i64(0))
            return b.add(a, b.select(empty, i64(0), whole))

        self._need_entry(k, known, lo, hi)
        jam = self.leaf.jam is not None
        start = lo
        if (store := self._store_to_align(k, lo, hi)) is not None:
            known = False
            lo = self._first_aligned(store, var, lo, hi)
            self._restore(saved)
        parts: list[tuple[int, int, Any, Any]] = []  # width, unroll, from, to
        at = lo
        for width, unroll in ((w, self.unroll),) if jam else ((w, u), (w, 1)):
            if (width, unroll) == (w, 1) and u == 1 and at is not lo:
                continue
            if width == 1:
                continue
            to = aligned(at, width if jam else width * unroll)
            if known and to == at:
                continue
            parts.append((width, unroll, at, to))
            at = to
        rest = at
        if self.stage.descending:
            self._rest(k, rest, hi, known, saved, dear=rest is lo)
        for width, unroll, at, to in reversed(parts) if self.stage.descending else parts:
            step = width if jam else width * unroll
            self.width, self.unroll = width, unroll
            self.inline = self.main_inline if at is lo else "call"
            if known and to - at == step:
                self.variables[var] = at
                self._level(k)
            else:
                with self._steps(at, to, step, name=f"v{k}") as i:
                    self.variables[var] = i
                    self._level(k)
            self._restore(saved)
        if not self.stage.descending:
            self._rest(k, rest, hi, known, saved, dear=rest is lo)
        if store is not None:  # last, so that no vector waits for a store of parts of its bytes
            self.inline = "call"
            self._masked_step(k, start, lo, saved)
            self.mask = None
        self._after_vector()

    def _rest(self, k: int, at: Any, hi: Any, known: bool, saved: Any, dear: bool) -> None:
        """What whole vectors leave of loop k: one masked step, or one by one."""
        if known and at == hi:
            return
        self.inline = self.main_inline if dear else "call"
        if self.masked and self.full_width > 1 and not self.leaf.late:
            self._masked_step(k, at, hi, saved)
            self.mask = None
            return
        self.width = 1
        self.unroll = self.unroll if self.leaf.jam is not None else 1
        with self._steps(at, hi, 1, name=f"s{k}") as i:
            self.variables[self.loops[k].var] = i
            self._level(k)
        self._restore(saved)

    def _store_to_align(self, k: int, lo: Any, hi: Any) -> Store | None:
        """The store of a long line that begins between the places of whole registers, as far as that can be told: what
        is stored across two lines of the cache takes twice as long, every time."""
        leaf, stage, w = self.leaf, self.stage, self.full_width
        if leaf.jam is not None or not self.masked or w == 1 or stage.reductions or stage.sequential or self.nest.block:
            return None
        axis = self.loops[k]
        length = hi - lo if isinstance(lo, int) and isinstance(hi, int) else axis.most
        if (length is not None and length < LONG_LINE * w) or sum(weight(self.body[n]) for n in self.needed) > CHEAP:
            return None
        for s in stage.stores:
            item = s.buffer.dtype.itemsize
            if s.at.is_dynamic or s.at.coef(axis.var) != item or id(s.buffer.storage) in self.nest.scratch:
                continue
            steps = [c for v, c in s.at.terms if v != axis.var]
            return None if all(_is_multiple(d, w * item) for d in (s.at.const, *steps)) else s
        return None

    def _first_aligned(self, s: Store, var: int, lo: Any, hi: Any) -> Any:
        """The first point from `lo` on whose store is at a multiple of a register's bytes, or `hi`."""
        e, b = self.e, self.e.b
        item = s.buffer.dtype.itemsize
        self.width, self.variables[var] = 1, lo
        p, _ = self._address(s.buffer.storage, s.at, 0, 1)
        beyond = b.and_(b.sub(i64(0), b.ptrtoint(p, I64)), i64(self.full_width * item - 1))
        first = b.add(e._operand(lo), b.lshr(beyond, i64(item.bit_length() - 1)), flags=("nsw",))
        end = e._operand(hi)
        return b.select(b.icmp_signed("<", first, end), first, end)

    def _after_vector(self) -> None:
        self.width, self.mask, self.inline = 1, None, "auto"
        if self.leaf.jam is None:
            self.unroll = 1

    def _need_entry(self, k: int, known: bool, lo: Any, hi: Any) -> None:
        """Dims that the versions of the loop share are evaluated before them."""
        for _, at in self.accesses:
            for _, c in at.terms:
                if isinstance(c, Expr):
                    self.e.dim(c)

    def _masked_step(self, k: int, at: Any, hi: Any, saved: Any) -> None:
        e, b = self.e, self.e.b
        w, var = self.full_width, self.loops[k].var
        self.width = w
        if self.leaf.jam is None:
            self.unroll = 1
        sb = e.scalars(w)
        if isinstance(at, int) and isinstance(hi, int):
            self.mask = sb.const_lanes(b1, [at + j < hi for j in range(w)])
            self.variables[var] = at
            self._level(k)
            self._restore(saved)
            return
        start, stop = e._operand(at), e._operand(hi)
        some, none = b.append_basic_block("some"), b.append_basic_block("none")
        b.cbranch(b.icmp_signed("<", start, stop), some, none)
        b.position_at_end(some)
        with e.scope():
            lanes = sb.iota(dtype_i64)
            rest = sb.splat(Val(b.sub(stop, start), dtype_i64))
            self.mask = sb.lt(lanes, rest)
            self.variables[var] = start
            self._level(k)
        self._restore(saved)
        e.b.branch(none)
        e.b.position_at_end(none)

    # -- reductions --------------------------------------------------------------------------------------------------

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
        """What the lanes do not pay for is reduced one by one: rows of sparse matrices have few elements."""
        e, b, axis = self.e, self.e.b, self.loops[k]
        lo, hi = (e._operand(x) for x in self._range(k))
        few, many, done = (b.append_basic_block(n) for n in ("few", "many", "reduced"))
        saved = (dict(self.values), dict(self.splats), dict(self.pointers))
        b.cbranch(b.icmp_signed("<", b.sub(hi, lo, flags=("nsw",)), i64(FEW * self.full_width)), few, many)
        b.position_at_end(few)
        with e.scope():
            self.accumulators = [
                Accumulator(e, r.kind, self.body[r.value].dtype, 1, 1, False, False, True)
                for r in self.stage.reductions
            ]
            for acc in self.accumulators:
                acc.start()
            with e.loop(lo, hi, name=f"f{k}") as i:
                self.variables[axis.var] = i
                self._level(k)
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
        if any(self._is_long(a) for a in self.loops[k:]):
            e.poll()
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

    @staticmethod
    def _is_long(a: LoopAxis) -> bool:
        return not isinstance(a.extent, int) or a.extent >= TURNS

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

    def finish(self) -> None:
        """After the loops: an index that was out of bounds is looked up again and reported."""
        if self.bad is not None and not self._reads_rows():
            self._leave_if_bad(lambda: _report(self.e, self.nest, self.leaf))

    def _leave_if_bad(self, report: Callable[[], None]) -> None:
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
        with e.scope():
            report()
        e.fail("IndexError", INDEX_ERROR, zero, zero, zero)
        b.position_at_end(right)


def _report(e: FunctionEmitter, nest: Nest, leaf: Leaf) -> None:
    """Runs the index computations of a leaf again, one by one in order, and leaves at the first bad one."""
    shared = {a.var for a in nest.outer}
    loops = [*nest.outer, *(a for a in leaf.loops if a.var not in shared and not a.tile)]
    scan = _Reporter(e, nest, Leaf(loops, leaf.stage))
    scan.loops = [LoopAxis(a.var, a.extent) for a in sorted(loops, key=lambda a: a.var)]
    scan.search({}, {})


def _report_point(e: FunctionEmitter, nest: Nest, leaf: Leaf, outer: dict[int, Any], limits: dict[int, Any]) -> None:
    """The same at one point of the outer loops."""
    loops = [a for a in leaf.loops if not a.tile]
    scan = _Reporter(e, nest, Leaf(loops, leaf.stage))
    scan.loops = [LoopAxis(a.var, a.extent) for a in sorted(loops, key=lambda a: a.var)]
    scan.search(dict(outer), limits)


def _is_multiple(d: Dim, of: int) -> bool:
    """Whether a dim is surely a multiple."""
    return all(c % of == 0 for _, c in d.terms) if isinstance(d, Expr) else d % of == 0


def checked_by(body: list[Instr]) -> set[int]:
    """The instructions that a body's checked indices are made of."""
    needed: set[int] = set()
    stack = [n for n, i in enumerate(body) if i.op == "bound" and i.data[2] == "check"]
    while stack:
        n = stack.pop()
        if n not in needed:
            needed.add(n)
            stack.extend(body[n].args)
            stack.extend(v - DYNAMIC for v in body[n].variables() if v >= DYNAMIC)
    return needed


class _Reporter(_LeafEmitter):
    """Emits only the bounds of a body, as scalars, each with an exit."""

    def search(self, outer: dict[int, Any], limits: dict[int, Any]) -> None:
        self.needed = sorted(checked_by(self.stage.body))
        used = {v for n in self.needed for v in self.body[n].variables() if v < DYNAMIC}
        self.loops = [a for a in self.loops if a.var in used]
        self.level_of_var = {a.var: k for k, a in enumerate(self.loops)}
        last = len(self.loops) - 1
        self.level = dict.fromkeys(self.needed, last)
        self.varies = dict.fromkeys(self.needed, False)
        self.by_level = {last: self.needed}
        self.accesses = []
        self.first_reduce = None
        self.fold_level = None
        self.run(outer, limits)

    def _unrolls(self, k: int, n: int) -> bool:
        return False

    def _innermost(self) -> None:
        return

    def _bound(self, sb: ScalarBuilder, i: Instr, u: int, width: int) -> Val:
        size, axis, mode = i.data
        if mode != "check":
            return super()._bound(sb, i, u, width)
        e, b = self.e, self.e.b
        x = self._operand(i.args[0], 0, 1)
        n = e.dim(size)
        zero = i64(0)
        wrapped = b.select(b.icmp_signed("<", x.ir, zero), b.add(x.ir, n), x.ir)
        wrong = b.icmp_unsigned(">=", wrapped, n)
        stop, on = b.append_basic_block("found"), b.append_basic_block("next")
        b.cbranch(wrong, stop, on)
        b.position_at_end(stop)
        e.fail("IndexError", INDEX_ERROR, x.ir, i64(axis), n)
        b.position_at_end(on)
        return Val(wrapped, dtype_i64)
