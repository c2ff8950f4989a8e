"""Nest -> LLVM: loops, addresses, bodies, stores and reductions of one kernel.

Every instruction is emitted at the outermost loop that it depends on. The vector loop runs in steps of `width * unroll`, then of
`width`, then one masked step or a scalar loop; instructions that vary along it are emitted `unroll` times per step.
Invariant: a lane computes the same operations in each of the three, so elementwise results do not depend on which
one computed them.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from stager.codegen.accumulate import Accumulator
from stager.codegen.emit import I64, PTR, FunctionEmitter, i64
from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.lower import WEIGHTS
from stager.codegen.program import Buffer, Instr, Leaf, LoopAxis, Nest, Storage
from stager.codegen.scalar import ScalarBuilder, Val, memory_type
from stager.ir.dims import Dim, Expr, floordiv
from stager.ir.dtypes import DType, b1
from stager.ir.dtypes import i64 as dtype_i64

INLINED = 12
"""So many transcendentals of one loop stand in it; remainders call."""
UNROLL_OPS = 64
"""A loop of constant extent is unrolled while its copies have at most this many instructions."""
BLOCK_STEPS = 16
"""A long float sum adds this many values per lane before it folds them."""
INDEX_ERROR = "index {0} is out of bounds for axis {1} with size {2}"


def emit_nest(e: FunctionEmitter, nest: Nest) -> None:
    """The code of a nest at the current place."""
    if nest.parallel and e.m.threads:
        first = nest.outer[0] if nest.outer else nest.leaves[0].loops[0]
        unit = nest.block if nest.block and len(nest.outer) == 1 else max(nest.chunk, 1)
        body = e.body()
        with body.scope():
            _NestEmitter(body, nest).run(body.begin, body.end, unit)
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
        self._outer(0, emitters, limits)
        for x in emitters:
            x.finish()

    def _outer(self, k: int, emitters: list[_LeafEmitter], limits: Any) -> None:
        e, nest = self.e, self.nest
        if k == len(nest.outer):
            for x in emitters:
                with e.scope():
                    x.run(dict(self.variables), {x.loops[0].var: limits} if limits is not None and not nest.outer else {})
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
        top = e._operand(hi)
        with e.loop(lo, hi, step, name="block") as start:
            b = e.b
            stop = b.add(start, i64(step), flags=("nsw",))
            stop = b.select(b.icmp_signed("<", stop, top), stop, top)
            if nest.block_var is not None:
                self.variables[nest.block_var] = b.udiv(start, i64(step))
            for x in emitters:
                with e.scope():
                    x.run(dict(self.variables), {axis.var: (start, stop)})


class _LeafEmitter:
    """Emits one leaf inside the outer loops of its nest."""

    def __init__(self, e: FunctionEmitter, nest: Nest, leaf: Leaf) -> None:
        self.e = e
        self.nest = nest
        self.leaf = leaf
        self.stage = leaf.stage
        self.loops = leaf.loops
        self.body = leaf.stage.body
        self.variables: dict[int, Any] = {}
        self.values: dict[int, list[Val]] = {}
        self.splats: dict[tuple[int, int, int], Val] = {}
        self.pointers: dict[Any, Any] = {}
        self.width = 1  # of the code being emitted
        self.unroll = 1
        self.mask: Val | None = None
        self.inline = "auto"
        self.limits: dict[int, Any] = {}
        self.bad: Any = None
        self.shared = {a.var for a in nest.outer}
        if nest.block:
            self.shared.discard(nest.outer[-1].var)
        self._analyse()

    # -- analysis -----------------------------------------------------------------------------------------------------

    def _analyse(self) -> None:
        body, leaf = self.body, self.leaf
        self.level_of_var = {a.var: k for k, a in enumerate(self.loops) if not a.tile}
        needed: set[int] = set()
        stack = [s.value for s in self.stage.stores] + [r.value for r in self.stage.reductions]
        stack += [n for n, i in enumerate(body) if i.op == "bound"]
        for at in (*(s.at for s in self.stage.stores), *(r.at for r in self.stage.reductions)):
            stack += [v - DYNAMIC for v, _ in at.terms if v >= DYNAMIC]
        while stack:
            n = stack.pop()
            if n in needed:
                continue
            needed.add(n)
            stack.extend(body[n].args)
            stack.extend(v - DYNAMIC for v in body[n].variables() if v >= DYNAMIC)
        self.needed = sorted(needed)
        self.level: dict[int, int] = {}
        self.varies: dict[int, bool] = {}
        self.jammed: set[int] = set()
        vector = leaf.vector
        for n in self.needed:
            i = body[n]
            level, varies = -1, False
            for v in i.variables():
                if v >= DYNAMIC:
                    level = max(level, self.level[v - DYNAMIC])
                    varies = varies or self.varies[v - DYNAMIC]
                else:
                    level = max(level, self.level_of_var.get(v, -1))
                    varies = varies or v == vector
            for a in i.args:
                level = max(level, self.level[a])
                varies = varies or self.varies[a]
            self.level[n], self.varies[n] = level, varies
            if leaf.jam is not None and (
                any(v == leaf.jam or (v >= DYNAMIC and v - DYNAMIC in self.jammed) for v in i.variables())
                or any(a in self.jammed for a in i.args)
            ):
                self.jammed.add(n)
        self.by_level: dict[int, list[int]] = {}
        for n in self.needed:
            self.by_level.setdefault(self.level[n], []).append(n)
        self.accesses: list[tuple[Storage, Ix]] = [body[n].data for n in self.needed if body[n].op == "load"]
        self.accesses = [(b.storage, at) for b, at in self.accesses]  # type: ignore[attr-defined]
        self.accesses += [(s.buffer.storage, s.at) for s in self.stage.stores]
        self.first_reduce = next((k for k, a in enumerate(self.loops) if a.reduce), None) if self.stage.reductions else None
        self.dtypes = [body[n].dtype for n in self.needed] or [dtype_i64]
        self.full_width = self.leaf_width()
        dear = sum(body[n].op == "apply" and WEIGHTS.get(body[n].data.op.name, 1) >= 20 for n in self.needed)
        self.main_inline = "inline" if 0 < dear * leaf.unroll <= INLINED else "auto"
        self.masked = self._can_mask()
        self.fold_level = self._fold_level()

    def leaf_width(self) -> int:
        """Lanes: a register of the widest element that memory is accessed with."""
        if self.leaf.vector is None:
            return 1
        bits = 8
        for n in self.needed:
            i = self.body[n]
            if self.varies[n] and i.op in ("load", "apply", "mul") and i.dtype is not b1:
                bits = max(bits, i.dtype.bits)
        if any(r.kind.startswith("arg") for r in self.stage.reductions):
            bits = 64
        return max(1, self.e.target.vector_bits // bits)

    def _can_mask(self) -> bool:
        if self.leaf.vector is None or self.stage.sequential:
            return False
        vector = self.leaf.vector
        for n in self.needed:
            i = self.body[n]
            if i.op == "bound" and self.varies[n]:
                return False
            if i.op == "load" and self.varies[n]:
                b, at = i.data
                if b.dtype.bits < 32 or b.dtype is b1 or at.coef(vector) != b.dtype.itemsize or self._dynamic_varies(at):
                    return False
        for s in self.stage.stores:
            if s.buffer.dtype.bits < 32 or s.buffer.dtype is b1 or s.at.coef(vector) != s.buffer.dtype.itemsize or s.combine != "set":
                return False
            if self._dynamic_varies(s.at):
                return False
        for r in self.stage.reductions:
            if r.at.coef(vector) not in (0, r.buffer.dtype.itemsize) or (
                r.at.coef(vector) != 0 and (r.buffer.dtype.bits < 32 or r.buffer.dtype is b1)
            ):
                return False
        return True

    def _dynamic_varies(self, at: Ix) -> bool:
        return any(v >= DYNAMIC and self.varies[v - DYNAMIC] for v, _ in at.terms)

    def _fold_level(self) -> int | None:
        """The reduce loop whose runs are cut into blocks that fold, for float sums that are long."""
        if not any(r.kind == "sum" and r.buffer.dtype.kind == "f" for r in self.stage.reductions):
            return None
        inside = 1
        for k in range(len(self.loops) - 1, -1, -1):
            a = self.loops[k]
            if not a.reduce:
                continue
            if isinstance(a.extent, Expr):
                return k
            steps = a.extent
            if a.var == self.leaf.vector:
                steps = -(-a.extent // (self.full_width * self.leaf.unroll))
            inside *= max(steps, 1)
            if inside > 2 * BLOCK_STEPS:
                return k
        return None

    # -- running ------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        if any(self.body[n].op == "bound" and self.body[n].data[2] == "check" for n in self.needed):
            e = self.e
            self.bad = e.alloca(ir.VectorType(I64, self.full_width) if self.full_width > 1 else I64, "bad")
            self.bad_scalar = e.alloca(I64, "bad1")
            e.b.store(e.scalars(self.full_width).const(dtype_i64, 0).ir, self.bad)
            e.b.store(i64(0), self.bad_scalar)

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
        return self.limits.get(axis.var, (0, axis.extent))

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
            for i in range(lo, hi):
                self.variables[axis.var] = i
                self._level(k)
                self._restore(saved)
        else:
            with self.e.loop(lo, hi, name=f"i{k}") as i:
                self.variables[axis.var] = i
                self._level(k)
        self._restore(saved)
        self.variables.pop(axis.var, None)

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

    def _is_transposed(self, access: tuple[Buffer, Ix]) -> bool:
        buffer, at = access
        leaf = self.leaf
        return (
            leaf.jam is not None
            and leaf.vector is not None
            and self.mask is None
            and buffer.dtype is not b1
            and self.unroll == self.width
            and at.coef(leaf.jam) == buffer.dtype.itemsize
            and at.coef(leaf.vector) != buffer.dtype.itemsize
            and not at.is_dynamic
        )

    def _load_transposed(self, buffer: Buffer, at: Ix) -> list[Val]:
        """A square of width x width elements, contiguous along the jammed variable, as vectors along the lanes."""
        e, b, width = self.e, self.e.b, self.width
        assert self.leaf.vector is not None
        sb = e.scalars(width)
        p, _ = self._address(buffer.storage, at, 0, width)
        step = at.coef(self.leaf.vector)
        rows = [sb.load(e.offset(p, e.dim(step * k)) if k else p, buffer.dtype).ir for k in range(width)]
        i32 = ir.IntType(32)

        def pick(x: Any, y: Any, lanes: list[int]) -> Any:
            return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(i32, width), [ir.Constant(i32, n) for n in lanes]))

        half = width // 2
        while half:  # blocks off the diagonal of every square of 2*half change places
            out = list(rows)
            for r in range(width):
                if r & half:
                    continue
                x, y = rows[r], rows[r + half]
                out[r] = pick(x, y, [width + n - half if n & half else n for n in range(width)])
                out[r + half] = pick(x, y, [width + n if n & half else n + half for n in range(width)])
            rows = out
            half //= 2
        return [Val(r, buffer.dtype) for r in rows]

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
        inner = sum(len(self.by_level.get(j, ())) for j in range(k, len(self.loops)))
        return n <= 1 or (n <= 16 and size * max(inner, 1) <= UNROLL_OPS)

    def _vector_loop(self, k: int, lo: Any, hi: Any) -> None:
        e, var = self.e, self.loops[k].var
        w, u = self.full_width, self.leaf.unroll
        saved = (dict(self.values), dict(self.splats), dict(self.pointers))
        known = isinstance(lo, int) and isinstance(hi, int)

        def aligned(start: Any, step: int) -> Any:
            if known:
                return start + (hi - start) // step * step
            b = e.b
            a, z = (e._operand(x) for x in (start, hi))
            length = b.sub(z, a, flags=("nsw",))
            whole = b.sub(length, b.and_(length, i64(step - 1)) if step & (step - 1) == 0 else b.srem(length, i64(step)))
            empty = b.icmp_signed("<", length, i64(0))
            return b.add(a, b.select(empty, i64(0), whole))

        at = lo
        self._need_entry(k, known, lo, hi)
        jam = self.leaf.jam is not None
        for width, unroll in ((w, self.unroll),) if jam else ((w, u), (w, 1)):
            if (width, unroll) == (w, 1) and u == 1 and at is not lo:
                continue
            if width == 1:
                continue
            step = width if jam else width * unroll
            to = aligned(at, step)
            if known and to == at:
                continue
            self.width, self.unroll = width, unroll
            self.inline = self.main_inline if at is lo else "call"
            if known and to - at == step:
                self.variables[var] = at
                self._level(k)
            else:
                with e.loop(at, to, step, name=f"v{k}") as i:
                    self.variables[var] = i
                    self._level(k)
            self._restore(saved)
            at = to
        if known and at == hi:
            self._after_vector()
            return
        self.inline = self.main_inline if at is lo else "call"
        if self.masked and w > 1:
            self._masked_step(k, at, hi, saved)
        else:
            self.width = 1
            self.unroll = self.unroll if jam else 1
            with e.loop(at, hi, 1, name=f"s{k}") as i:
                self.variables[var] = i
                self._level(k)
            self._restore(saved)
        self._after_vector()

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

    # -- reductions -----------------------------------------------------------------------------------------------------

    def _reduce(self, k: int) -> None:
        e, leaf = self.e, self.leaf
        vector_axis = next((a for a in self.loops if a.var == leaf.vector), None)
        lanes = vector_axis is not None and vector_axis.reduce
        width, unroll = (self.full_width, leaf.unroll) if lanes else (self.width, self.unroll)
        self.accumulators = []
        for r in self.stage.reductions:
            dtype = self.body[r.value].dtype
            blocked = self.fold_level is not None and r.kind == "sum" and dtype.kind == "f"
            varies = r.at.coef(leaf.vector) != 0 if leaf.vector is not None else False
            acc = (
                Accumulator(e, r.kind, dtype, width, unroll, True, blocked)
                if lanes
                else Accumulator(e, r.kind, dtype, width if varies else 1, unroll if varies else 1, False, blocked)
            )
            if lanes and not self.masked and width > 1:
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
                self._store(r.buffer, r.at, value, u, "set")
        self.width, self.unroll, self.mask = state

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
            for a in blocked:
                a.restart()
            state = (self.width, self.unroll, self.mask)
            self._loop(k, start, stop)
            self.width, self.unroll, self.mask = state
            for a in blocked:
                a.fold()
        self.variables[axis.var] = None

    def _innermost(self) -> None:
        for s in self.stage.stores:
            for u in range(self._copies(self._store_varies(s.at, s.value), self._jammed_at(s.at) or s.value in self.jammed)):
                self._store(s.buffer, s.at, None, u, s.combine, s.value)
        if not self.stage.reductions:
            return
        for r, acc in zip(self.stage.reductions, self.accumulators, strict=True):
            vector = self.leaf.vector
            varies = acc.lanes or (vector is not None and r.at.coef(vector) != 0)
            width = self.width if varies else 1
            for u in range(self.unroll if varies else 1):
                x = self._operand(r.value, u, width)
                place = None
                if r.index is not None:
                    place = self._index_value(r.index, u, width)
                fma = None
                i = self.body[r.value]
                if i.op == "mul" and r.kind == "sum" and i.dtype.kind == "f":
                    fma = (self._operand(i.args[0], u, width), self._operand(i.args[1], u, width))
                acc.add(u, x, width, self.mask if width > 1 else None, place, fma)

    def _store_varies(self, at: Ix, value: int) -> bool:
        v = self.leaf.vector
        return v is not None and (at.coef(v) != 0 or self._dynamic_varies(at) or self.varies[value])

    def _copies(self, varies: bool, jammed: bool) -> int:
        """How often an instruction is emitted per step."""
        if self.leaf.jam is None:
            return self.unroll if varies else 1
        return self.unroll if jammed else 1

    def _jammed_at(self, at: Ix) -> bool:
        jam = self.leaf.jam
        return jam is not None and any(v == jam or (v >= DYNAMIC and v - DYNAMIC in self.jammed) for v, _ in at.terms)

    # -- instructions -----------------------------------------------------------------------------------------------------

    def _instr(self, n: int) -> None:
        i = self.body[n]
        varies = self.varies[n]
        copies = self._copies(varies, n in self.jammed)
        width = self.width if varies else 1
        if copies > 1 and width > 1 and i.op == "load" and self._is_transposed(i.data):
            self.values[n] = self._load_transposed(*i.data)
            return
        self.values[n] = [self._emit(n, i, u, width) for u in range(copies)]

    def _operand(self, n: int, u: int, width: int) -> Val:
        values = self.values[n]
        v = values[u] if len(values) > 1 else values[0]
        if width > 1 and not self.varies[n]:
            if self.body[n].op == "const":
                return self.e.scalars(width).const(v.dtype, self.body[n].data)
            key = (n, width, u if len(values) > 1 else 0)
            found = self.splats.get(key)
            if found is None:
                found = self.splats[key] = self.e.scalars(width).splat(v)
            return found
        return v

    def _emit(self, n: int, i: Instr, u: int, width: int) -> Val:
        sb = self.e.scalars(width)
        sb.inline = self.inline
        match i.op:
            case "apply":
                node = i.data
                args = [self._operand(a, u, width) for a in i.args]
                out: Val = node.op.lower(sb, *args, **node.params)
                return out
            case "load":
                return self._load(i, u, width)
            case "const":
                return sb.const(i.dtype, i.data)
            case "index":
                return sb.convert(self._index_value(i.data, u, width), i.dtype)
            case "mul":
                return sb.mul(self._operand(i.args[0], u, width), self._operand(i.args[1], u, width))
            case "floordiv" | "mod":
                x = self._index_value(i.data[0], u, width)
                by = sb.splat(Val(self.e.dim(i.data[1]), dtype_i64)) if isinstance(i.data[1], Expr) else sb.const(dtype_i64, i.data[1])
                out = sb.floordiv(x, by) if i.op == "floordiv" else sb.mod(x, by)
                return out
            case "bound":
                return self._bound(sb, i, u, width)
        raise AssertionError(f"internal: no emission for {i.op}")

    def _bound(self, sb: ScalarBuilder, i: Instr, u: int, width: int) -> Val:
        size, _, mode = i.data
        x = self._operand(i.args[0], u, width)
        if mode == "promise":
            return x
        n = sb.splat(Val(self.e.dim(size), dtype_i64)) if isinstance(size, Expr) else sb.const(dtype_i64, size)
        zero = sb.const(dtype_i64, 0)
        if mode == "clip":
            top = sb.sub(n, sb.const(dtype_i64, 1))
            x = sb.select(sb.lt(x, zero), zero, x)
            return sb.select(sb.gt(x, top), top, x)
        if mode == "wrap":
            return sb.mod(x, n)
        wrapped = sb.select(sb.lt(x, zero), sb.add(x, n), x)
        if mode == "negative":
            return wrapped
        # the sign bit of `wrong` is set exactly when wrapped is outside [0, n)
        wrong = sb.or_(wrapped, sb.sub(sb.sub(n, sb.const(dtype_i64, 1)), wrapped))
        slot = self.bad if width == self.full_width else self.bad_scalar
        b = self.e.b
        b.store(b.or_(b.load(slot, typ=sb.type(dtype_i64)), wrong.ir), slot)
        return sb.select(sb.lt(wrong, zero), zero, wrapped)

    def finish(self) -> None:
        """After the loops: an index that was out of bounds is looked up again and reported."""
        if self.bad is None:
            return
        e = self.e
        b = e.b
        zero = i64(0)
        bad = Val(b.load(self.bad, typ=e.scalars(self.full_width).type(dtype_i64)), dtype_i64)
        flag = b.load(self.bad_scalar, typ=I64)
        for k in range(self.full_width):
            flag = b.or_(flag, e.scalars(self.full_width).extract(bad, k).ir)
        wrong, right = b.append_basic_block("bad"), b.append_basic_block("good")
        b.cbranch(b.icmp_signed("<", flag, zero), wrong, right)
        b.position_at_end(wrong)
        with e.scope():
            _report(e, self.nest, self.leaf)
        e.fail("IndexError", INDEX_ERROR, zero, zero, zero)
        b.position_at_end(right)

    # -- positions and memory -------------------------------------------------------------------------------------------

    def _index_value(self, ix: Ix, u: int, width: int) -> Val:
        """The i64 value of a position."""
        b, e = self.e.b, self.e
        sb = e.scalars(width)
        total: Any = None
        const = ix.const
        lane_terms: list[Val] = []
        for v, c in ix.terms:
            if v >= DYNAMIC and self.varies[v - DYNAMIC] and width > 1:
                x = self._operand(v - DYNAMIC, u, width)
                lane_terms.append(x if c == 1 else sb.mul(x, sb.splat(Val(e.dim(c), dtype_i64))))
                continue
            if v >= DYNAMIC:
                value = self._operand(v - DYNAMIC, u, 1).ir
            else:
                value = self.variables[v]
                const = const + c * self._apart(v, u)
            if isinstance(value, int):
                const = const + c * value
                continue
            term = value if c == 1 else b.mul(value, e.dim(c), flags=("nsw",))
            total = term if total is None else b.add(total, term, flags=("nsw",))
        if total is None:
            total = e.dim(const)
        elif const != 0:
            total = b.add(total, e.dim(const), flags=("nsw",))
        out = Val(total, dtype_i64)
        if width == 1:
            return out
        out = sb.splat(out)
        vector = self.leaf.vector
        c = ix.coef(vector) if vector is not None else 0
        if c != 0:
            lanes = sb.iota(dtype_i64)
            out = sb.add(out, lanes if c == 1 else sb.mul(lanes, sb.splat(Val(e.dim(c), dtype_i64))))
        for x in lane_terms:
            out = sb.add(out, x)
        return out

    def _apart(self, var: int, u: int) -> int:
        """How far copy u is from the first along a variable."""
        if self.leaf.jam is not None:
            return u if var == self.leaf.jam else 0
        return u * self.width if var == self.leaf.vector else 0

    def _terms(self, storage: Storage, at: Ix) -> tuple[tuple[int, Dim], ...]:
        """The terms of a position that count: a row buffer has no outer ones."""
        row = self.nest.scratch.get(id(storage))
        if row is None:
            return at.terms
        outer = self.shared
        return tuple(t for t in at.terms if t[0] not in outer)

    def _hoist_pointers(self, k: int, dynamic: bool) -> None:
        """Addresses of what deeper loops access, as far as the variables up to loop k decide them."""
        if k == len(self.loops) - 1:
            return
        for storage, at in self.accesses:
            known = []
            deeper = False
            has_dynamic = False
            for v, c in self._terms(storage, at):
                level = self.level[v - DYNAMIC] if v >= DYNAMIC else self.level_of_var.get(v, -1)
                varies = v >= DYNAMIC and self.varies[v - DYNAMIC]
                if level <= k and not varies:
                    known.append((v, c))
                    has_dynamic = has_dynamic or v >= DYNAMIC
                else:
                    deeper = True
            if deeper and has_dynamic == dynamic:
                self._pointer(storage, tuple(known))

    def _pointer(self, storage: Storage, terms: tuple[tuple[int, Dim], ...]) -> Any:
        """The address of a storage plus terms (scalars), without constant parts."""
        key = (id(storage), terms)
        found = self.pointers.get(key)
        if found is not None:
            return found
        e = self.e
        if not terms:
            p = self._row_base(storage)
        else:
            # the innermost term is added last
            order = sorted(
                terms, key=lambda t: self.level[t[0] - DYNAMIC] if t[0] >= DYNAMIC else self.level_of_var.get(t[0], -1)
            )
            last = order[-1]
            rest = tuple(t for t in terms if t is not last)
            p = self._pointer(storage, rest)
            v, c = last
            value = self.values[v - DYNAMIC][0].ir if v >= DYNAMIC else self.variables[v]
            if isinstance(value, int):
                by = c * value
                p = e.offset(p, e.dim(by)) if by != 0 else p
            else:
                p = e.offset(p, value if c == 1 else e.b.mul(value, e.dim(c), flags=("nsw",)))
        self.pointers[key] = p
        return p

    def _row_base(self, storage: Storage) -> Any:
        """The address that positions count from: rows of a block count from the block's first lane."""
        p = self.e.base(storage)
        nest = self.nest
        if nest.block and id(storage) in nest.scratch:
            var = nest.outer[-1].var
            start = self.limits[var][0]
            p = self.e.offset(p, self.e.b.mul(start, i64(-nest.scratch[id(storage)][1])))
        return p

    def _address(self, storage: Storage, at: Ix, u: int, width: int) -> tuple[Any, list[Val]]:
        """A scalar address (of lane 0) and the vector terms that lanes differ in, in bytes."""
        scalar_terms: list[tuple[int, Dim]] = []
        lanes: list[Val] = []
        const = at.const
        sb = self.e.scalars(width)
        for v, c in self._terms(storage, at):
            if v >= DYNAMIC and self.varies[v - DYNAMIC]:
                x = self._operand(v - DYNAMIC, u, width)
                if width == 1:
                    scalar_terms.append((v, c))
                else:
                    lanes.append(x if c == 1 else sb.mul(x, sb.splat(Val(self.e.dim(c), dtype_i64))))
            else:
                scalar_terms.append((v, c))
            if v < DYNAMIC:
                const = const + c * self._apart(v, u)
        p = self._pointer(storage, tuple(scalar_terms))
        return (self.e.offset(p, self.e.dim(const)) if const != 0 else p), lanes

    def _load(self, i: Instr, u: int, width: int) -> Val:
        buffer, at = i.data
        p, lanes = self._address(buffer.storage, at, u, width)
        dtype: DType = buffer.dtype
        sb = self.e.scalars(width)
        if width == 1:
            return sb.load(p, dtype)
        step = at.coef(self.leaf.vector) if self.leaf.vector is not None else 0
        if not lanes and step == dtype.itemsize:
            if self.mask is not None:
                return self._masked_load(p, dtype, sb)
            return sb.load(p, dtype)
        if not lanes and step == -dtype.itemsize and self.mask is None:
            first = self.e.offset(p, -dtype.itemsize * (width - 1))
            return self._reverse(sb.load(first, dtype), width)
        return self._load_lanes(p, lanes, step, dtype, sb)

    def _reverse(self, x: Val, width: int) -> Val:
        i32 = ir.IntType(32)
        mask = ir.Constant(ir.VectorType(i32, width), [ir.Constant(i32, width - 1 - k) for k in range(width)])
        return Val(self.e.b.shuffle_vector(x.ir, ir.Constant(x.ir.type, ir.Undefined), mask), x.dtype)

    def _load_lanes(self, p: Any, lanes: list[Val], step: Dim, dtype: DType, sb: ScalarBuilder) -> Val:
        """One load per lane."""
        e, b = self.e, self.e.b
        t = memory_type(dtype)
        total: Val | None = None
        for x in lanes:
            total = x if total is None else sb.add(total, x)
        out = ir.Constant(ir.VectorType(t, sb.width), ir.Undefined)
        for k in range(sb.width):
            q = p
            if total is not None:
                q = e.offset(q, sb.extract(total, k).ir)
            if step != 0 and k:
                q = e.offset(q, e.dim(step * k))
            out = b.insert_element(out, b.load(q, typ=t, align=dtype.itemsize), ir.Constant(ir.IntType(32), k))
        return sb.from_memory(out, dtype)

    def _masked_load(self, p: Any, dtype: DType, sb: ScalarBuilder) -> Val:
        t = sb.type(dtype)
        name = f"llvm.masked.load.v{sb.width}{_suffix(dtype)}.p0"
        f = self.e.module.globals.get(name)
        if f is None:
            f = ir.Function(self.e.module, ir.FunctionType(t, [PTR, ir.VectorType(ir.IntType(1), sb.width), t]), name)
        assert self.mask is not None
        return Val(self.e.b.call(f, [p, self.mask.ir, sb.const(dtype, 0).ir]), dtype)

    def _masked_store(self, p: Any, x: Val, sb: ScalarBuilder) -> None:
        t = sb.type(x.dtype)
        name = f"llvm.masked.store.v{sb.width}{_suffix(x.dtype)}.p0"
        f = self.e.module.globals.get(name)
        if f is None:
            f = ir.Function(self.e.module, ir.FunctionType(ir.VoidType(), [t, PTR, ir.VectorType(ir.IntType(1), sb.width)]), name)
        assert self.mask is not None
        self.e.b.call(f, [x.ir, p, self.mask.ir])

    def _store(self, buffer: Buffer, at: Ix, value: Val | None, u: int, combine: str, number: int = -1) -> None:
        vector = self.leaf.vector
        varies = vector is not None and (at.coef(vector) != 0 or self._dynamic_varies(at))
        width = self.width if varies else 1
        if value is None:
            value = self._operand(number, u, width)
        sb = self.e.scalars(width)
        p, lanes = self._address(buffer.storage, at, u, width)
        if width == 1:
            if combine != "set":
                value = self._combined(sb, combine, sb.load(p, buffer.dtype), value)
            sb.store(value, p)
            return
        step = at.coef(vector) if vector is not None else 0
        contiguous = not lanes and step == buffer.dtype.itemsize
        if contiguous and combine != "set":
            value = self._combined(sb, combine, sb.load(p, buffer.dtype), value)
        if contiguous and self.mask is not None:
            self._masked_store(p, value, sb)
        elif contiguous:
            sb.store(value, p)
        elif not lanes and step == -buffer.dtype.itemsize and combine == "set":
            sb.store(self._reverse(value, width), self.e.offset(p, -buffer.dtype.itemsize * (width - 1)))
        else:
            self._store_lanes(buffer, p, lanes, step, value, combine, sb)

    def _store_lanes(self, buffer: Buffer, p: Any, lanes: list[Val], step: Dim, value: Val, combine: str, sb: ScalarBuilder) -> None:
        total: Val | None = None
        for x in lanes:
            total = x if total is None else sb.add(total, x)
        one = self.e.scalars(1)
        for k in range(sb.width):
            q = p
            if total is not None:
                q = self.e.offset(q, sb.extract(total, k).ir)
            if step != 0 and k:
                q = self.e.offset(q, self.e.dim(step * k))
            x = sb.extract(value, k)
            if combine != "set":
                x = self._combined(one, combine, one.load(q, buffer.dtype), x)
            one.store(x, q)

    @staticmethod
    def _combined(sb: ScalarBuilder, combine: str, old: Val, new: Val) -> Val:
        name = {"add": "add", "mul": "mul", "min": "minimum", "max": "maximum"}[combine]
        out: Val = getattr(sb, name)(old, new)
        return out


def _suffix(dtype: DType) -> str:
    return dtype.name if dtype.kind == "f" else f"i{dtype.bits}"


def _report(e: FunctionEmitter, nest: Nest, leaf: Leaf) -> None:
    """Runs the index computations of a leaf again, one by one in order, and leaves at the first bad one."""
    scan = _Reporter(e, nest, Leaf([*nest.outer, *(a for a in leaf.loops if not (nest.block and a.var == nest.outer[-1].var))], leaf.stage))
    scan.loops = [LoopAxis(a.var, a.extent) for a in sorted(scan.loops, key=lambda a: a.var) if not a.tile]
    scan.search()


class _Reporter(_LeafEmitter):
    """Emits only the bounds of a body, as scalars, each with an exit."""

    def search(self) -> None:
        stage = self.stage
        keep = [n for n, i in enumerate(stage.body) if i.op == "bound" and i.data[2] == "check"]
        needed: set[int] = set()
        stack = list(keep)
        while stack:
            n = stack.pop()
            if n not in needed:
                needed.add(n)
                stack.extend(stage.body[n].args)
                stack.extend(v - DYNAMIC for v in stage.body[n].variables() if v >= DYNAMIC)
        self.needed = sorted(needed)
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
        self.run({}, {})

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
