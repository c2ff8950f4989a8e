"""Accumulators of reductions: the registers of one reduction inside its loops, and how they become one value.

A reduction keeps `unroll` vectors (or, where lanes are different results, `unroll` times one per lane). Long float
sums run in blocks: a block's vectors are added as a tree and join the total with a compensated addition, so the
error does not grow with the length. The tree depends on shape and target only. Slots are allocas; LLVM turns them
into registers.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from stager.codegen.emit import FunctionEmitter
from stager.codegen.families import identity
from stager.codegen.registers import Val, lane_number, lane_numbers, mangled, undefined
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import DType, b1, i32, i64

MONOIDS = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "or": "or_", "and": "and_"}


def combine(b: ScalarBuilder, kind: str, x: Val, y: Val) -> Val:
    """`x (kind) y`."""
    out: Val = getattr(b, MONOIDS[kind])(x, y)
    return out


class Accumulator:
    """One reduction in progress.

    lanes: lanes are partial results of one number (they are combined at the end); otherwise each lane is a result.
    blocked: `fold` will be called at the end of every block. empty: there may be no element at all.
    """

    def __init__(
        self,
        e: FunctionEmitter,
        kind: str,
        dtype: DType,
        width: int,
        unroll: int,
        lanes: bool,
        blocked: bool,
        empty: bool = False,
    ) -> None:
        self.e = e
        self.empty = empty
        self.kind = kind
        self.dtype = dtype
        self.width = width
        self.unroll = unroll
        self.lanes = lanes
        self.blocked = blocked
        self.arg = kind in ("argmax", "argmin")
        b = e.scalars(width)
        self.slots = [e.alloca(b.type(dtype)) for _ in range(unroll)]
        # positions are as wide as the lanes: the caller narrows the lanes only where 32 bits hold every position
        narrow = width > 1 and width * 32 >= e.target.vector_bits
        self.place_dtype = i32 if narrow else i64
        self.places = [e.alloca(b.type(self.place_dtype)) for _ in range(unroll)] if self.arg else []
        self.scalar: Any = None
        self.scalar_place: Any = None
        self.joined = False
        if blocked:
            self.total = [e.alloca(b.type(dtype)) for _ in range(1 if lanes else unroll)]
            self.error = [e.alloca(b.type(dtype)) for _ in range(1 if lanes else unroll)]

    def _load(self, slot: Any, width: int, dtype: DType | None = None) -> Val:
        d = dtype or self.dtype
        return Val(self.e.b.load(slot, typ=self.e.scalars(width).type(d)), d)

    def _store(self, v: Val, slot: Any) -> None:
        self.e.b.store(v.ir, slot)

    def start(self) -> None:
        """All slots hold the neutral element."""
        b = self.e.scalars(self.width)
        if self.blocked:
            zero = b.const(self.dtype, 0)
            for slot in (*self.total, *self.error):
                self._store(zero, slot)
        else:
            self.restart()
        if self.scalar is not None:
            self._store(self.e.scalars(1).const(self.dtype, self._identity()), self.scalar)

    def restart(self) -> None:
        """The slots of one block hold the neutral element."""
        b = self.e.scalars(self.width)
        neutral = b.const(self.dtype, self._identity())
        for slot in self.slots:
            self._store(neutral, slot)
        # What no element beats is an extreme that all of them equal: then the first position is the answer.
        for u, slot in enumerate(self.places):
            start = [u * self.width + k if self.lanes else 0 for k in range(self.width)]
            self._store(b.const_lanes(self.place_dtype, start), slot)
        if self.scalar is not None and self.arg:
            last = (1 << (self.place_dtype.bits - 1)) - 1
            self._store(self.e.scalars(1).const(self.place_dtype, last), self.scalar_place)

    def _identity(self) -> Any:
        if self.kind == "sum" and self.dtype.kind == "f":
            return 0.0 if self.blocked or self.empty else -0.0
        return identity(self.kind, self.dtype)

    def use_scalar(self) -> None:
        """Room for a scalar remainder; before `start`."""
        if self.scalar is None:
            self.scalar = self.e.alloca(self.e.scalars(1).type(self.dtype))
            if self.arg:
                self.scalar_place = self.e.alloca(self.e.scalars(1).type(self.place_dtype))

    def add(
        self, u: int, x: Val, width: int, mask: Val | None, place: Val | None = None, fma: tuple[Val, Val] | None = None
    ) -> None:
        """Accumulates a value; `place` is its position, for argmax and argmin, `fma` the factors of a product."""
        b = self.e.scalars(width)
        scalar = width == 1 and self.width > 1
        slot = self.scalar if scalar else self.slots[u]
        old = self._load(slot, width)
        if self.arg:
            assert place is not None
            place_slot = self.scalar_place if scalar else self.places[u]
            old_place = self._load(place_slot, width, self.place_dtype)
            better = self._better(b, x, old)
            if mask is not None and self.lanes:
                better = b.and_(better, mask)
            self._store(b.select(better, x, old), slot)
            self._store(b.select(better, place, old_place), place_slot)
            return
        # an extreme asks its first operand whether it is NaN: the new value, for which nothing waits
        operands = (x, old) if self.kind in ("max", "min") else (old, x)
        new = combine(b, self.kind, *operands) if fma is None else b.fma(fma[0], fma[1], old)
        if mask is not None and self.lanes:  # else what is left out is a result that nobody stores
            new = b.select(mask, new, old)
        self._store(new, slot)

    def _better(self, b: ScalarBuilder, x: Val, old: Val) -> Val:
        # positions only grow within one lane, so equal values never replace, nor does anything a NaN
        if self.dtype.kind != "f":
            return b.gt(x, old) if self.kind == "argmax" else b.lt(x, old)
        beyond = b.builder.fcmp_unordered(">" if self.kind == "argmax" else "<", x.ir, old.ir)
        return b.and_(Val(beyond, b1), b.not_(b.isnan(old)))

    def fold(self) -> None:
        """Ends a block: its sum joins the total, the rounding error of that addition is kept."""
        b = self.e.scalars(self.width)
        parts = [self._load(s, self.width) for s in self.slots]
        if self.lanes:
            parts = [tree(b, "sum", parts)]
        for part, total, error in zip(parts, self.total, self.error, strict=True):
            s = self._load(total, self.width)
            t = b.add(s, part)
            back = b.sub(t, s)
            lost = b.add(b.sub(s, b.sub(t, back)), b.sub(part, back))
            self._store(t, total)
            self._store(b.add(self._load(error, self.width), lost), error)

    def join(self) -> None:
        """The lanes join what the scalar remainder starts from, so that its last element is the last to be added."""
        if self.arg or self.blocked or self.scalar is None:
            return
        b = self.e.scalars(self.width)
        parts = [self._load(s, self.width) for s in self.slots]
        self._store(across(self.e, b, self.kind, tree(b, self.kind, parts)), self.scalar)
        self.joined = True

    def results(self) -> list[Val]:
        """One value (lanes combined), or `unroll` vectors of values. For argmax and argmin the positions."""
        b = self.e.scalars(self.width)
        if self.joined:
            return [self._load(self.scalar, 1)]
        if self.arg:
            return self._places(b)
        if not self.blocked:
            parts = [self._load(s, self.width) for s in self.slots]
            if not self.lanes:
                return parts
            out = across(self.e, b, self.kind, tree(b, self.kind, parts))
        else:
            totals = [self._load(s, self.width) for s in self.total]
            errors = [self._load(s, self.width) for s in self.error]
            if not self.lanes:
                return [_corrected(b, t, c) for t, c in zip(totals, errors, strict=True)]
            total, error = across(self.e, b, "sum", totals[0]), across(self.e, b, "sum", errors[0])
            out = _corrected(self.e.scalars(1), total, error)
        if self.scalar is not None:
            out = combine(self.e.scalars(1), self.kind, out, self._load(self.scalar, 1))
        return [out]

    def _places(self, b: ScalarBuilder) -> list[Val]:
        pairs = [
            (self._load(s, self.width), self._load(p, self.width, self.place_dtype))
            for s, p in zip(self.slots, self.places, strict=True)
        ]
        if not self.lanes:
            return [b.convert(p, i64) for _, p in pairs]
        best = pairs[0]
        for pair in pairs[1:]:
            best = self._best(b, best, pair)
        one = self.e.scalars(1)
        lanes = [(b.extract(best[0], k), b.extract(best[1], k)) for k in range(self.width)]
        if self.scalar is not None:
            lanes.append((self._load(self.scalar, 1), self._load(self.scalar_place, 1, self.place_dtype)))
        out = lanes[0]
        for pair in lanes[1:]:
            out = self._best(one, out, pair)
        return [one.convert(out[1], i64)]

    def _best(self, b: ScalarBuilder, x: tuple[Val, Val], y: tuple[Val, Val]) -> tuple[Val, Val]:
        """The better of two candidates; of equal ones that which comes first."""
        won = b.gt(y[0], x[0]) if self.kind == "argmax" else b.lt(y[0], x[0])
        same = b.eq(x[0], y[0])
        if self.dtype.kind == "f":
            nx, ny = b.isnan(x[0]), b.isnan(y[0])
            won = b.or_(won, b.and_(ny, b.not_(nx)))
            same = b.or_(same, b.and_(nx, ny))
        take = b.or_(won, b.and_(same, b.lt(y[1], x[1])))
        return b.select(take, y[0], x[0]), b.select(take, y[1], x[1])


class Carry:
    """A fold in progress: the value that each element has, per lane and copy."""

    def __init__(self, e: FunctionEmitter, dtype: DType, width: int, initial: list[Val]) -> None:
        self.e = e
        self.dtype = dtype
        self.type = e.scalars(width).type(dtype)
        self.blocked = False
        self.lanes = False
        self.slots = [e.alloca(self.type) for _ in initial]
        for slot, x in zip(self.slots, initial, strict=True):
            e.b.store(x.ir, slot)

    def get(self, u: int) -> Val:
        """The value of copy `u` now."""
        return Val(self.e.b.load(self.slots[u], typ=self.type), self.dtype)

    def set(self, values: list[Val]) -> None:
        """The values after this point."""
        for slot, x in zip(self.slots, values, strict=True):
            self.e.b.store(x.ir, slot)

    def results(self) -> list[Val]:
        return [self.get(u) for u in range(len(self.slots))]


def _corrected(b: ScalarBuilder, total: Val, error: Val) -> Val:
    # the error of an infinite or NaN total is NaN and says nothing
    return b.select(b.isnan(error), total, b.add(total, error))


def tree(b: ScalarBuilder, kind: str, parts: list[Val]) -> Val:
    """Values combined pairwise."""
    while len(parts) > 1:
        paired = [combine(b, kind, x, y) for x, y in zip(parts[::2], parts[1::2], strict=False)]
        parts = paired + ([parts[-1]] if len(parts) % 2 else [])
    return parts[0]


def across(e: FunctionEmitter, b: ScalarBuilder, kind: str, x: Val) -> Val:
    """The lanes of a vector combined: sums of integers by LLVM, everything else by halving."""
    width = b.width
    if kind == "sum" and x.dtype.is_integer and width > 1:
        # LLVM fails on halves of sums of masks that were made in another block (`tests/ops/test_hoisted.py`)
        name = f"llvm.vector.reduce.add.{mangled(x.dtype, width)}"
        function = e.module.globals.get(name)
        if function is None:
            function = ir.Function(e.module, ir.FunctionType(x.ir.type.element, [x.ir.type]), name)
        return Val(e.b.call(function, [x.ir]), x.dtype)
    while width > 1:
        half = width // 2

        def part(start: int, half: int = half, x: Val = x) -> Val:
            if half == 1:
                return Val(e.b.extract_element(x.ir, lane_number(start)), x.dtype)
            mask = lane_numbers(tuple(range(start, start + half)))
            return Val(e.b.shuffle_vector(x.ir, undefined(x.ir.type), mask), x.dtype)

        x = combine(b.with_width(half), kind, part(0), part(half))
        width = half
    return x
