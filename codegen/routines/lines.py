"""The axes that a routine repeats its work over: joined where memory allows, walked in loops, divided among threads.

A routine works on lines (or on planes); `Lines` holds the axes that are left, with the byte strides of every operand.
The order of lines never matters, so pieces may run on any thread; what happens inside of one line is the routine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.ir as ir

from stager.codegen.emit import FunctionEmitter, i64
from stager.codegen.pieces import PARALLEL_NS, PIECE_NS
from stager.codegen.program import Buffer
from stager.codegen.registers import Val, lane_number, memory_type, undefined
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dims import Dim, Expr, dim_max, floordiv, product
from stager.ir.dtypes import DType

Emit = Callable[[FunctionEmitter, list[Any], list[Any]], None]
"""Writes the work of one line: (emitter, address of the line in each operand, the line's index along every axis)."""


class Lines:
    """Axes with their extents and, per operand, byte strides; extents of 1 are dropped, joinable neighbours joined."""

    def __init__(
        self, extents: Sequence[Dim], strides: Sequence[Sequence[Dim]], *, join: bool = True, keep: int = 0
    ) -> None:
        """`keep`: the last so many axes stay what they are."""
        self.extents: list[Dim] = []
        self.strides: list[list[Dim]] = [[] for _ in strides]
        for k, extent in enumerate(extents):
            kept = k >= len(extents) - keep
            if extent == 1 and not kept:
                continue
            steps = [s[k] for s in strides]
            joins = all(s[-1:] == [step * extent] for s, step in zip(self.strides, steps, strict=True))
            if join and not kept and self.extents and joins:
                self.extents[-1] = self.extents[-1] * extent
                for mine, step in zip(self.strides, steps, strict=True):
                    mine[-1] = step
                continue
            self.extents.append(extent)
            for mine, step in zip(self.strides, steps, strict=True):
                mine.append(step)

    @property
    def count(self) -> Dim:
        """How many lines there are."""
        return product(self.extents)

    def pop(self, k: int = -1) -> tuple[Dim, list[Dim]]:
        """Takes an axis out: its extent and its strides."""
        return self.extents.pop(k), [s.pop(k) for s in self.strides]


def lines_of(buffers: Sequence[Buffer], inner: Sequence[int]) -> Lines:
    """The axes of equally shaped buffers without the axes `inner`."""
    keep = [k for k in range(len(buffers[0].shape)) if k not in inner]
    return Lines([buffers[0].shape[k] for k in keep], [[b.strides[k] for k in keep] for b in buffers])


def each_line(
    e: FunctionEmitter, lines: Lines, buffers: Sequence[Buffer], cost: float, points: Dim, emit: Emit
) -> None:
    """Runs `emit` for every line, by the pool when `points` (of one line) times `cost` ns make it worth while."""
    total = lines.count
    work = total * points
    if not e.m.threads or e.parent is not None or total == 1 or (isinstance(work, int) and work * cost < PARALLEL_NS):
        with e.scope():
            walk(e, lines, [e.pointer(b) for b in buffers], [], emit)
        return
    piece = max(1, int(PIECE_NS / cost))
    grain = (
        max(1, piece // max(points, 1)) if isinstance(points, int) else dim_max(1, floordiv(piece, dim_max(points, 1)))
    )
    if isinstance(total, int) and isinstance(grain, int):
        grain = min(grain, -(-total // 2))
    body = e.body()
    with body.scope():
        bases = [body.pointer(b) for b in buffers]
        with body.loop(body.begin, body.end, name="line") as u:
            _flat(body, lines, bases, u, emit)
    body.finish()
    many: Any = True
    if isinstance(work, Expr):
        many = e.b.icmp_signed(">=", e.dim(work), i64(max(1, int(PARALLEL_NS / cost))))
    e.call_body(body, total, grain, many)


def walk(e: FunctionEmitter, lines: Lines, bases: list[Any], index: list[Any], emit: Emit) -> None:
    """Runs `emit` for every line here, in nested loops."""
    k = len(index)
    if k == len(lines.extents):
        emit(e, bases, index)
        return
    with e.loop(0, lines.extents[k], name=f"l{k}") as i:
        moved = [moved_by(e, p, i, s[k]) for p, s in zip(bases, lines.strides, strict=True)]
        walk(e, lines, moved, [*index, i], emit)


def _flat(e: FunctionEmitter, lines: Lines, bases: list[Any], u: Any, emit: Emit) -> None:
    """The line of a flat number."""
    b = e.b
    index: list[Any] = []
    for k in range(len(lines.extents) - 1, 0, -1):
        n = e.dim(lines.extents[k])
        index.insert(0, b.urem(u, n))
        u = b.udiv(u, n)
    if lines.extents:
        index.insert(0, u)
    at = list(bases)
    for k, i in enumerate(index):
        at = [moved_by(e, p, i, s[k]) for p, s in zip(at, lines.strides, strict=True)]
    emit(e, at, index)


def moved_by(e: FunctionEmitter, pointer: Any, i: Any, stride: Dim) -> Any:
    """`pointer + i * stride` bytes; `i` an int or an i64."""
    if stride == 0 or (isinstance(i, int) and i == 0):
        return pointer
    if isinstance(i, int):
        return e.offset(pointer, e.dim(stride * i))
    return e.stepped(pointer, i, stride)


@contextmanager
def when(e: FunctionEmitter, condition: Any) -> Iterator[None]:
    """The code inside runs when the i1 holds."""
    b = e.b
    then, after = b.append_basic_block("then"), b.append_basic_block("after")
    b.cbranch(condition, then, after)
    b.position_at_end(then)
    with e.scope():
        yield
    if not b.block.is_terminated:
        b.branch(after)
    b.position_at_end(after)


def smaller(e: FunctionEmitter, x: Any, y: Any) -> Any:
    """min of two i64, signed."""
    return e.b.select(e.b.icmp_signed("<", x, y), x, y)


def carrying(
    e: FunctionEmitter,
    lower: Any,
    upper: Any,
    step: int,
    initial: Sequence[Val],
    body: Callable[[Any, list[Val]], list[Val]],
) -> list[Val]:
    """A loop whose body makes new values of those of the time before: what they are in the end."""
    known = isinstance(lower, int) and isinstance(upper, int)
    if known and lower >= upper:
        return list(initial)
    b = e.b
    before = b.block
    with e.loop(lower, upper, step, name="k") as i:
        inside = [b.phi(x.ir.type) for x in initial]
        made = body(i, [Val(phi, x.dtype) for phi, x in zip(inside, initial, strict=True)])
        last = b.block
        for phi, x, y in zip(inside, initial, made, strict=True):
            phi.add_incoming(x.ir, before)
            phi.add_incoming(y.ir, last)
    if known:
        return made
    out = []
    for x, y in zip(initial, made, strict=True):
        phi = b.phi(x.ir.type)
        phi.add_incoming(x.ir, before)
        phi.add_incoming(y.ir, last)
        out.append(Val(phi, x.dtype))
    return out


def load_step(e: FunctionEmitter, sb: ScalarBuilder, pointer: Any, dtype: DType, step: Dim) -> Val:
    """`sb.width` elements that stand `step` bytes apart."""
    if sb.width == 1 or step == dtype.itemsize:
        return sb.load(pointer, dtype)
    t = memory_type(dtype)
    if step == 0:
        return sb.splat(e.scalars(1).load(pointer, dtype))
    out = undefined(ir.VectorType(t, sb.width))
    for k in range(sb.width):
        x = e.b.load(moved_by(e, pointer, k, step), typ=t, align=dtype.itemsize)
        out = e.b.insert_element(out, x, lane_number(k))
    return sb.from_memory(out, dtype)
