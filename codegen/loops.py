"""The loops of one leaf: by one, unrolled, in tiles, in vectors, over several points of two axes at once.

Every instruction is emitted at the outermost loop that it depends on. The vector loop runs in steps of
`width * unroll`, then of `width`, then one masked step or a scalar loop; instructions that vary along it are emitted
`unroll` times per step. Invariant: a lane computes the same operations in each of the three, so elementwise results
do not depend on which one computed them. What happens at a point, and around loops that reduce, is `leaf.py`'s.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any

from stager.codegen.ahead import AheadEmitter
from stager.codegen.emit import I64, i64
from stager.codegen.modes import by_lane, is_dear, weight
from stager.codegen.program import LoopAxis, Store
from stager.codegen.registers import Val
from stager.ir.dims import Dim, Expr
from stager.ir.dtypes import b1, i8
from stager.ir.dtypes import i64 as dtype_i64

UNROLL_OPS = 64
"""A loop of constant extent is unrolled while its copies have at most this many instructions."""
LONG_LINE = 8
"""A line of so many vectors is worth a step that aligns the rest."""
CHEAP = 40
"""Operations of one point that are more than memory takes: then where it is stored does not matter."""
MANY_LANES = 16
"""More lanes than this are counted in bytes."""
TURNS = 1 << 12
"""Turns of a fold between two looks at whether to stop."""


class LoopEmitter(AheadEmitter, ABC):
    """Emits the loops of one leaf inside the outer loops of its nest."""

    @abstractmethod
    def _innermost(self) -> None:
        """What stands inside all loops."""

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
            if self.places is None or n not in self.only_places:
                self._instr(n)
        self._hoist_pointers(k, dynamic=True)
        if k == len(self.loops) - 1:
            self._innermost()
        else:
            self._enter(k + 1)

    def _enter(self, k: int) -> None:
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
            self.e.m.by_element |= self.leaf.vector is None
            with self._steps(lo, hi, 1, name=f"i{k}") as i:
                self.variables[axis.var] = i
                if axis.reduce and self.stage.folds and is_long(axis):
                    self.e.poll_sometimes(i, TURNS)
                self._look_ahead(k, hi)
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
        known = isinstance(lo, int) and isinstance(hi, int)
        if known:
            middle = lo + (hi - lo) // step * step
        else:
            length = e.b.sub(e._operand(hi), e._operand(lo), flags=("nsw",))
            middle = e.b.add(e._operand(lo), e.b.sub(length, e.b.and_(length, i64(step - 1))))
        for first, last, copies in ((lo, middle, step), (middle, hi, 1)):
            if known and first == last:
                continue
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
            step = self.full_width * self.leaf.unroll
            # one step of vectors is straight code with the copies; more are a loop, and copied as that
            size *= a.extent if a.var != self.leaf.vector else 1 if a.extent == step else self.leaf.unroll
        inside = [self.body[n] for j in range(k, len(self.loops)) for n in self.by_level.get(j, ())]
        inner = sum(weight(i) if is_dear(i) else 1 for i in inside)
        if self.leaf.vector is not None:
            inner += by_lane(self.stage, self.leaf.vector, self.full_width)
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

        self._need_dims()
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
            if width == 1 and (unroll == 1 or jam):
                continue
            to = aligned(at, width if jam else width * unroll)
            if known and to == at:
                continue
            parts.append((width, unroll, at, to))
            at = to
        rest = at
        straight = known and all(to - at == width * unroll for width, unroll, at, to in parts)  # as is what is left
        if self.stage.descending:
            self._rest(k, rest, hi, known, saved, dear=straight or rest is lo)
        for width, unroll, at, to in reversed(parts) if self.stage.descending else parts:
            step = width if jam else width * unroll
            self.width, self.unroll = width, unroll
            self.inline = self.main_inline if at is lo or straight else "call"
            if known and to - at == step:
                self.variables[var] = at
                self._level(k)
            else:
                with self._steps(at, to, step, name=f"v{k}") as i:
                    self.variables[var] = i
                    self._level(k)
            self._restore(saved)
        if not self.stage.descending:
            self._rest(k, rest, hi, known, saved, dear=straight or rest is lo)
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
            self.at_end = True
            self._masked_step(k, at, hi, saved)
            self.at_end, self.mask = False, None
            return
        if self.leaf.late and not self.stage.descending:
            for acc in self.accumulators:
                acc.join()
        self.e.m.by_element = True
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

    def _need_dims(self) -> None:
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
            rest = Val(b.sub(stop, start), dtype_i64)  # less than a vector
            numbered = i8 if w > MANY_LANES else dtype_i64
            self.mask = sb.lt(sb.iota(numbered), sb.splat(e.scalars(1).convert(rest, numbered)))
            self.variables[var] = start
            self._level(k)
        self._restore(saved)
        e.b.branch(none)
        e.b.position_at_end(none)


def is_long(a: LoopAxis) -> bool:
    """Whether a loop may run long enough to look at whether to stop."""
    return not isinstance(a.extent, int) or a.extent >= TURNS


def _is_multiple(d: Dim, of: int) -> bool:
    """Whether a dim is surely a multiple."""
    return all(c % of == 0 for _, c in d.terms) if isinstance(d, Expr) else d % of == 0
