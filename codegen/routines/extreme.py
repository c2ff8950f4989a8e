"""argmax and argmin along a contiguous axis that is long: where the first of the extremes stands, NaN before all else.

A line is read once, in blocks: the block's extreme is found without any position, and only the block that held the
first extreme of all is looked through. What is remembered of a range is (extreme, start of its block); the extreme of
a block with a NaN is NaN, which nothing beats. Long lines are divided among threads. Invariant: the answer is exact,
so how lines are divided does not show.

Short lines, strided ones and those that are computed on the way are reductions like others (`codegen/accumulate.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llvmlite.ir as ir
import numpy as np

from stager.codegen.accumulate import across, tree
from stager.codegen.emit import I64, FunctionEmitter, i64
from stager.codegen.families import identity
from stager.codegen.program import Buffer, Routine
from stager.codegen.registers import Val
from stager.codegen.routines import RoutineSpec
from stager.codegen.routines.lines import each_line, lines_of, moved_by, smaller, when
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dims import Dim
from stager.ir.dtypes import DType, b1
from stager.ir.dtypes import i64 as dtype_i64
from stager.ir.graph import Node, Value
from stager.ir.types import Type

if TYPE_CHECKING:
    from stager.codegen.lower import Walk

LEAST = 256
"""Shorter lines are kept in registers with their positions."""
UNROLL = 4
BLOCK_BYTES = 1 << 13
"""A block is in the first cache when it is looked through."""
PIECE_BYTES = 1 << 17
"""Of one long line, for one thread."""
BYTE_NS = 0.03


def lower(w: Walk, node: Node) -> bool:
    """Takes lines that lie in memory, contiguous, of a known length."""
    (x,) = node.args
    axis = node.params["axis"]
    length, dtype = x.shape[axis], x.type.dtype
    if dtype is b1 or not isinstance(length, int) or length < LEAST or w.ctx.target.lanes(dtype) == 1:
        return False
    if not w.in_memory(x) or x.type.size == 0:
        return False
    source = w.as_buffer(x)
    if source.strides[axis] != dtype.itemsize:
        return False
    pieces = _pieces(length, dtype)
    scratch = [w.ctx.temp(Type(t, (pieces,)), "w") for t in (dtype, dtype_i64)] if _divided(x.type, axis) else []
    w.steps.append(Routine("extreme", node, [source], [w.result(Value(node))], scratch))
    return True


def _pieces(length: int, dtype: DType) -> int:
    return -(-length * dtype.itemsize // PIECE_BYTES)


def _divided(t: Type, axis: int) -> bool:
    """Whether a line is divided: it is the only one, and long."""
    length = t.shape[axis]
    return isinstance(length, int) and t.size == length and _pieces(length, t.dtype) > 1


class _Extreme:
    """One argmax or argmin being emitted."""

    def __init__(self, e: FunctionEmitter, call: Routine) -> None:
        (self.source,), (self.out,), self.scratch = call.inputs, call.outputs, call.scratch
        self.axis: int = call.node.params["axis"]
        self.dtype = self.source.dtype
        self.size = self.dtype.itemsize
        length = self.source.shape[self.axis]
        assert isinstance(length, int)
        self.length = length
        self.kind = "max" if call.node.op.name == "argmax" else "min"
        self.sign = ">" if self.kind == "max" else "<"
        self.lanes = e.target.lanes(self.dtype)
        self.block = BLOCK_BYTES // self.size

    def emit(self, e: FunctionEmitter) -> None:
        if self.scratch:
            self.divided(e)
            return
        shape = list(self.out.shape)
        shape.insert(self.axis, self.length)
        strides: list[Dim] = list(self.out.strides)
        strides.insert(self.axis, 0)
        spread = Buffer(self.out.storage, self.out.dtype, tuple(shape), tuple(strides), self.out.offset)
        lines = lines_of([self.source, spread], [self.axis])

        def line(e: FunctionEmitter, at: list[Any], _: list[Any]) -> None:
            found = self.extreme(e, at[0], 0, self.length)
            e.scalars(1).store(self.place(e, at[0], *found), at[1])

        each_line(e, lines, [self.source, spread], BYTE_NS * self.size, self.length, line)

    def divided(self, e: FunctionEmitter) -> None:
        """One long line: pieces side by side, then the best of them."""
        piece = PIECE_BYTES // self.size
        pieces = _pieces(self.length, self.dtype)
        values, starts = self.scratch

        def some(inner: FunctionEmitter, begin: Any, end: Any) -> None:
            base, to, where = (inner.pointer(b) for b in (self.source, values, starts))
            with inner.loop(begin, end, name="piece") as k:
                lower = inner.b.mul(k, i64(piece))
                upper = smaller(inner, inner.b.add(lower, i64(piece)), i64(self.length))
                best, start = self.extreme(inner, base, lower, upper)
                one = inner.scalars(1)
                one.store(best, moved_by(inner, to, k, self.size))
                one.store(start, moved_by(inner, where, k, 8))

        e.parallel(pieces, 1, some)
        one = e.scalars(1)
        best, start = self.nothing(e)
        to, where = e.pointer(values), e.pointer(starts)
        with e.loop(0, pieces, name="piece") as k:
            x = one.load(moved_by(e, to, k, self.size), self.dtype)
            self.keep(e, best, start, x, one.load(moved_by(e, where, k, 8), dtype_i64))
        found = self.held(e, best, self.dtype), self.held(e, start, dtype_i64)
        one.store(self.place(e, e.pointer(self.source), *found), e.pointer(self.out))

    # -- what is remembered ------------------------------------------------------------------------------------------

    def nothing(self, e: FunctionEmitter) -> tuple[Any, Any]:
        """Slots that hold what every element beats or equals, and the first block."""
        one = e.scalars(1)
        best, start = e.alloca(one.type(self.dtype), "best"), e.alloca(one.type(dtype_i64), "start")
        e.b.store(one.const(self.dtype, identity(self.kind, self.dtype)).ir, best)
        e.b.store(i64(0), start)
        return best, start

    def held(self, e: FunctionEmitter, slot: Any, dtype: DType) -> Val:
        return Val(e.b.load(slot, typ=e.scalars(1).type(dtype)), dtype)

    def keep(self, e: FunctionEmitter, best: Any, start: Any, x: Val, at: Val) -> None:
        """An extreme and its block, where it beats what is held."""
        one = e.scalars(1)
        old, held = self.held(e, best, self.dtype), self.held(e, start, dtype_i64)
        better = one._compare(self.sign, x, old)
        if self.dtype.kind == "f":
            better = one.or_(better, one.and_(one.isnan(x), one.not_(one.isnan(old))))
        e.b.store(one.select(better, x, old).ir, best)
        e.b.store(one.select(better, at, held).ir, start)

    # -- a range -----------------------------------------------------------------------------------------------------

    def extreme(self, e: FunctionEmitter, base: Any, lower: Any, upper: Any) -> tuple[Val, Val]:
        """The extreme of [lower, upper), and where its block starts. Only the last block may be short."""
        best, start = self.nothing(e)
        known = isinstance(upper, int)
        length = upper - lower if known else e.b.sub(upper, lower)
        whole = length // self.block * self.block if known else e.b.and_(length, i64(-self.block))
        top = lower + whole if known else e.b.add(lower, whole)
        with e.loop(lower, top, self.block, name="block") as s:
            x = self.of_block(e, moved_by(e, base, s, self.size), self.block)
            self.keep(e, best, start, x, Val(s, dtype_i64))
        if known and top == upper:
            return self.held(e, best, self.dtype), self.held(e, start, dtype_i64)
        rest = upper - top if known else e.b.sub(upper, top)
        with when(e, e.b.icmp_signed(">", rest if not known else i64(rest), i64(0))):
            x = self.of_block(e, moved_by(e, base, top, self.size), rest)
            self.keep(e, best, start, x, Val(i64(top) if known else top, dtype_i64))
        return self.held(e, best, self.dtype), self.held(e, start, dtype_i64)

    def of_block(self, e: FunctionEmitter, p: Any, count: Any) -> Val:
        """The extreme of `count` elements; NaN when one is NaN. A remainder of lanes is read with elements before it:
        a line has more than one vector of them, and they are no better than what is held."""
        b, lanes = e.b, self.lanes
        sb = e.scalars(lanes)
        slots = [e.alloca(sb.type(self.dtype), "x") for _ in range(UNROLL)]
        nans = e.alloca(sb.type(b1), "nan") if self.dtype.kind == "f" else None
        for slot in slots:
            b.store(sb.const(self.dtype, identity(self.kind, self.dtype)).ir, slot)
        if nans is not None:
            b.store(sb.const(b1, False).ir, nans)

        def take(at: Any, copies: int) -> None:
            xs = [sb.load(e.offset(at, u * lanes * self.size) if u else at, self.dtype) for u in range(copies)]
            for x, slot in zip(xs, slots, strict=False):
                old = Val(b.load(slot, typ=sb.type(self.dtype)), self.dtype)
                b.store(sb.select(sb._compare(self.sign, x, old), x, old).ir, slot)
            if nans is None:
                return
            seen = Val(b.load(nans, typ=sb.type(b1)), b1)
            for x, y in zip(xs[::2], xs[1::2] or xs, strict=True):
                seen = sb.or_(seen, Val(b.fcmp_unordered("uno", x.ir, y.ir), b1))
            b.store(seen.ir, nans)

        done: Any = 0
        for copies in (UNROLL, 1):
            step = lanes * copies
            to = count // step * step if isinstance(count, int) else b.and_(count, i64(-step))
            with e.loop(done, to, step, name="v") as i:
                take(moved_by(e, p, i, self.size), copies)
            done = to
        if isinstance(count, int):
            if done != count:
                take(moved_by(e, p, count - lanes, self.size), 1)
        else:
            with when(e, b.icmp_signed("<", done, count)):
                take(moved_by(e, p, b.sub(count, i64(lanes)), self.size), 1)
        parts = [Val(b.load(slot, typ=sb.type(self.dtype)), self.dtype) for slot in slots]
        out = across(e, sb, self.kind, tree(sb, self.kind, parts))
        if nans is None:
            return out
        one = e.scalars(1)
        some = sb.any(Val(b.load(nans, typ=sb.type(b1)), b1))
        return one.select(some, one.const(self.dtype, np.nan), out)

    # -- the place ---------------------------------------------------------------------------------------------------

    def place(self, e: FunctionEmitter, base: Any, best: Val, start: Val) -> Val:
        """The first position from `start` on whose element is `best` (or NaN, when that is)."""
        b, lanes = e.b, self.lanes
        sb = e.scalars(lanes)
        wanted = sb.splat(best)
        head, found = b.append_basic_block("look"), b.append_basic_block("found")
        before = b.block
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64, "at")
        at = smaller(e, i, i64(self.length - lanes))  # never beyond the line
        x = sb.load(moved_by(e, base, at, self.size), self.dtype)
        hits = b.bitcast(self.hits(sb, x, wanted).ir, ir.IntType(lanes))
        if lanes < 64:
            hits = b.zext(hits, I64)
        following = b.add(i, i64(lanes))
        i.add_incoming(start.ir, before)
        i.add_incoming(following, b.block)
        # the end is for elements that another thread of the user's changes meanwhile
        done = b.or_(b.icmp_unsigned("!=", hits, i64(0)), b.icmp_signed(">=", following, i64(self.length)))
        b.cbranch(done, found, head)
        b.position_at_end(found)
        first = b.add(at, b.cttz(hits, ir.Constant(ir.IntType(1), 0)))
        return Val(smaller(e, first, i64(self.length - 1)), dtype_i64)

    def hits(self, sb: ScalarBuilder, x: Val, wanted: Val) -> Val:
        same = sb.eq(x, wanted)
        if self.dtype.kind != "f":
            return same
        return sb.or_(same, sb.and_(sb.isnan(x), sb.isnan(wanted)))


def emit(e: FunctionEmitter, call: Routine) -> None:
    """The code of one argmax or argmin."""
    _Extreme(e, call).emit(e)


ROUTINE = RoutineSpec("extreme", ("argmax", "argmin"), emit, strided=True, lower=lower)
