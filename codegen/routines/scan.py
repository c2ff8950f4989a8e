"""cumsum, cumprod, cummax, cummin and recurrence: every prefix along one axis.

Invariant: each line is added up from its first element on, one after the other, as NumPy does it: the same bits, for
any layout and thread count. Speed comes from lines side by side: a vector of neighbouring lines where the contiguous
axis is not the scanned one, else a few independent chains at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stager.codegen.emit import FunctionEmitter, i64
from stager.codegen.program import Routine
from stager.codegen.registers import Val
from stager.codegen.routines import RoutineSpec
from stager.codegen.routines.lines import Lines, each_line, lines_of, load_step, moved_by, smaller, when
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dims import Dim, Expr, floordiv
from stager.ir.dtypes import DType

Step = Callable[[ScalarBuilder, Val, list[Val]], Val]

CHAINS = 4
"""Lines that run side by side, so that one's additions fill the waiting time of another's."""
UNROLL = 4
ROW = 1024
"""Lines of one stripe when they run along vector lanes: the last results of a stripe stay in the first cache."""
REGISTERS = 4
"""So many vectors of last results are kept in registers."""

STEPS: dict[str, Step] = {
    "cumsum": lambda b, h, x: b.add(h, x[0]),
    "cumprod": lambda b, h, x: b.mul(h, x[0]),
    "cummax": lambda b, h, x: b.maximum(h, x[0]),
    "cummin": lambda b, h, x: b.minimum(h, x[0]),
    "recurrence": lambda b, h, x: b.add(b.mul(x[0], h), x[1]),
}


class _Scan:
    """One scan being emitted. Operand 0 is the result, the others are what is read."""

    def __init__(self, call: Routine) -> None:
        axis = call.node.params["axis"]
        self.step = STEPS[call.node.op.name]
        self.buffers = [call.outputs[0], *call.inputs]
        self.dtype: DType = self.buffers[0].dtype
        self.length: Dim = self.buffers[0].shape[axis]
        self.strides = [b.strides[axis] for b in self.buffers]
        self.reverse: bool = call.node.params["reverse"]
        if self.reverse:
            self.strides = [s * -1 for s in self.strides]
        self.lines = lines_of(self.buffers, [axis])

    def start(self, e: FunctionEmitter, at: list[Any]) -> list[Any]:
        """Addresses of the first elements of a line."""
        if not self.reverse:
            return at
        return [moved_by(e, p, -1, s * (self.length - 1)) for p, s in zip(at, self.strides, strict=True)]

    def emit(self, e: FunctionEmitter) -> None:
        lanes = e.target.lanes(self.dtype)
        lines = self.lines
        size = self.dtype.itemsize
        if lanes > 1 and lines.extents and lines.strides[0][-1] == size:
            width, steps = lines.pop()
            if isinstance(width, Expr) or width > REGISTERS * lanes:
                self.stripes(e, width, steps, lanes)
            else:
                each_line(
                    e,
                    lines,
                    self.buffers,
                    0.5 * width,
                    self.length,
                    lambda e, at, _: self.columns(e, at, width, steps, lanes),
                )
            return
        if not lines.extents:
            with e.scope():
                self.chains(e, self.start(e, [e.pointer(b) for b in self.buffers]), 1, [0] * len(self.buffers))
            return
        group, steps = lines.pop()
        if isinstance(group, int) and group < CHAINS:
            each_line(
                e,
                lines,
                self.buffers,
                1.0 * group,
                self.length,
                lambda e, at, _: self.chains(e, self.start(e, at), group, steps),
            )
            return
        self.groups(e, group, steps)

    # -- lines along lanes --------------------------------------------------------------------------------------------

    def stripes(self, e: FunctionEmitter, width: Dim, steps: list[Dim], lanes: int) -> None:
        """The last results are read back from where they were stored, a row before."""
        lines = self.lines
        count = floordiv(width + (ROW - 1), ROW)
        whole = Lines(
            [*lines.extents, count],
            [[*s, step * ROW] for s, step in zip(lines.strides, steps, strict=True)],
            join=False,
        )
        single = count == 1

        def stripe(e: FunctionEmitter, at: list[Any], index: list[Any]) -> None:
            n: Any = width
            if not single:
                n = smaller(e, e.b.sub(e.dim(width), e.b.mul(index[-1], i64(ROW))), i64(ROW))
            at = self.start(e, at)
            with when(e, e.b.icmp_signed(">", e.dim(self.length), i64(0))):
                self.row(e, at, n, steps, lanes, first=True)
                with e.loop(1, self.length, name="k") as k:
                    here = [moved_by(e, p, k, s) for p, s in zip(at, self.strides, strict=True)]
                    self.row(e, here, n, steps, lanes, first=False)

        points = self.length * (ROW if not single else width)
        each_line(e, whole, self.buffers, 0.3, points, stripe)

    def row(self, e: FunctionEmitter, at: list[Any], n: Any, steps: list[Dim], lanes: int, *, first: bool) -> None:
        done: Any = 0
        for w in (lanes, 1):
            if isinstance(n, int):
                top: Any = n // w * w
                if top == done:
                    continue
            else:
                top = e.b.and_(n, i64(-w)) if w > 1 else n
            with e.loop(done, top, w, name="j") as j:
                here = [moved_by(e, p, j, s) for p, s in zip(at, steps, strict=True)]
                sb = e.scalars(w)
                h = None if first else self.load(e, sb, moved_by(e, here[0], -1, self.strides[0]), steps[0])
                sb.store(self.value(e, sb, here, h, steps), here[0])
            done = top

    def columns(self, e: FunctionEmitter, at: list[Any], width: int, steps: list[Dim], lanes: int) -> None:
        """Few lines: the last results stay in registers."""
        pieces = [(j, lanes) for j in range(0, width // lanes * lanes, lanes)]
        pieces += [(j, 1) for j in range(width // lanes * lanes, width)]
        self.side_by_side(e, self.start(e, at), pieces, steps)

    # -- lines as chains ----------------------------------------------------------------------------------------------

    def groups(self, e: FunctionEmitter, group: Dim, steps: list[Dim]) -> None:
        lines = self.lines
        blocks = floordiv(group + (CHAINS - 1), CHAINS)
        whole = Lines(
            [*lines.extents, blocks],
            [[*s, step * CHAINS] for s, step in zip(lines.strides, steps, strict=True)],
            join=False,
        )

        def block(e: FunctionEmitter, at: list[Any], index: list[Any]) -> None:
            at = self.start(e, at)
            if isinstance(group, int) and group % CHAINS == 0:
                self.chains(e, at, CHAINS, steps)
                return
            b = e.b
            left = b.sub(e.dim(group), b.mul(index[-1] if whole.extents else i64(0), i64(CHAINS)))
            full = b.icmp_signed(">=", left, i64(CHAINS))
            with when(e, full):
                self.chains(e, at, CHAINS, steps)
            with when(e, b.not_(full)), e.loop(0, left, name="line") as j:
                self.chains(e, [moved_by(e, p, j, s) for p, s in zip(at, steps, strict=True)], 1, steps)

        each_line(e, whole, self.buffers, 0.5, self.length * CHAINS, block)

    def chains(self, e: FunctionEmitter, at: list[Any], count: int, steps: list[Dim]) -> None:
        self.side_by_side(e, at, [(j, 1) for j in range(count)], steps)

    # -- both ---------------------------------------------------------------------------------------------------------

    def side_by_side(self, e: FunctionEmitter, at: list[Any], pieces: list[tuple[int, int]], steps: list[Dim]) -> None:
        """Scans pieces (first line, lanes) together; their last results are local variables."""
        b = e.b
        places = [[moved_by(e, p, j, s) for p, s in zip(at, steps, strict=True)] for j, _ in pieces]
        builders = [e.scalars(w) for _, w in pieces]
        slots = [e.alloca(sb.type(self.dtype), "h") for sb in builders]

        def point(k: Any, first: bool) -> None:
            for place, sb, slot in zip(places, builders, slots, strict=True):
                here = [moved_by(e, p, k, s) for p, s in zip(place, self.strides, strict=True)]
                h = None if first else Val(b.load(slot, typ=sb.type(self.dtype)), self.dtype)
                value = self.value(e, sb, here, h, steps)
                b.store(value.ir, slot)
                sb.store(value, here[0])

        n = self.length
        if isinstance(n, int) and n <= 2 * UNROLL:
            for k in range(n):
                point(k, k == 0)
            return
        with when(e, b.icmp_signed(">", e.dim(n), i64(0))):
            point(0, True)
            unroll = UNROLL if len(pieces) < CHAINS else 1
            stop: Any = e.dim(1 + floordiv(n - 1, unroll) * unroll)
            if unroll > 1:
                with e.loop(i64(1), stop, unroll, name="k") as k:
                    for u in range(unroll):
                        point(b.add(k, i64(u)) if u else k, False)
            with e.loop(stop if unroll > 1 else i64(1), e.dim(n), name="k") as k:
                point(k, False)

    def load(self, e: FunctionEmitter, sb: ScalarBuilder, at: Any, step: Dim) -> Val:
        return load_step(e, sb, at, self.dtype, step)

    def value(self, e: FunctionEmitter, sb: ScalarBuilder, at: list[Any], h: Val | None, steps: list[Dim]) -> Val:
        """The result at one place: of what is read there and the result before (None at the first)."""
        if h is None:
            return self.load(e, sb, at[-1], steps[-1])
        return self.step(sb, h, [self.load(e, sb, p, s) for p, s in zip(at[1:], steps[1:], strict=True)])


def emit(e: FunctionEmitter, call: Routine) -> None:
    """The code of one scan."""
    if any(d == 0 for d in call.outputs[0].shape):
        return
    _Scan(call).emit(e)


ROUTINE = RoutineSpec("scan", tuple(STEPS), emit, strided=True)
