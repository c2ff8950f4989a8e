"""Operators over a `ScalarBuilder`, so that a polynomial reads as algebra.

`Expr` pairs a builder with a `Val`; Python numbers become constants of the other operand's dtype. Invariant: one
operator is one rounding, nothing is contracted except `fma`. Not for lowering rules, which use the builder's methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Union

import llvmlite.ir as ir

from stager.codegen.math import coefficients
from stager.codegen.registers import BITS_OF, INT_TYPES, SIGNED_BITS_OF, Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import DType, b1

Number = Union["Expr", float, int]


class Expr:
    """A value being computed. `Expr` masks (b1) combine with `&`, `|`, `~`."""

    __slots__ = ("b", "v")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, b: ScalarBuilder, v: Val) -> None:
        self.b = b
        self.v = v

    @property
    def dtype(self) -> DType:
        return self.v.dtype

    def like(self, x: Number) -> Val:
        """`x` as a register of this dtype."""
        return x.v if isinstance(x, Expr) else self.b.const(self.v.dtype, x)

    def const(self, x: float) -> Expr:
        return Expr(self.b, self.b.const(self.v.dtype, x))

    def _do(self, f: Callable[[Val, Val], Val], x: Number) -> Expr:
        return Expr(self.b, f(self.v, self.like(x)))

    def _rdo(self, f: Callable[[Val, Val], Val], x: Number) -> Expr:
        return Expr(self.b, f(self.like(x), self.v))

    def __add__(self, x: Number) -> Expr:
        return self._do(self.b.add, x)

    def __radd__(self, x: Number) -> Expr:
        return self._rdo(self.b.add, x)

    def __sub__(self, x: Number) -> Expr:
        return self._do(self.b.sub, x)

    def __rsub__(self, x: Number) -> Expr:
        return self._rdo(self.b.sub, x)

    def __mul__(self, x: Number) -> Expr:
        return self._do(self.b.mul, x)

    def __rmul__(self, x: Number) -> Expr:
        return self._rdo(self.b.mul, x)

    def __truediv__(self, x: Number) -> Expr:
        return self._do(self.b.div, x)

    def __rtruediv__(self, x: Number) -> Expr:
        return self._rdo(self.b.div, x)

    def __neg__(self) -> Expr:
        return Expr(self.b, self.b.neg(self.v))

    def __abs__(self) -> Expr:
        return Expr(self.b, self.b.abs(self.v))

    def __and__(self, x: Number) -> Expr:
        return self._do(self.b.and_, x)

    def __or__(self, x: Number) -> Expr:
        return self._do(self.b.or_, x)

    def __xor__(self, x: Number) -> Expr:
        return self._do(self.b.xor, x)

    def __invert__(self) -> Expr:
        return Expr(self.b, self.b.not_(self.v))

    def __lshift__(self, n: int) -> Expr:
        """By a constant below the width."""
        return Expr(self.b, Val(self.b.builder.shl(self.v.ir, self.like(n).ir), self.dtype))

    def __rshift__(self, n: int) -> Expr:
        """By a constant below the width; the sign fills signed integers."""
        shift = self.b.builder.ashr if self.dtype.kind == "i" else self.b.builder.lshr
        return Expr(self.b, Val(shift(self.v.ir, self.like(n).ir), self.dtype))

    def shift_left(self, n: Expr) -> Expr:
        """By a variable below the width."""
        return Expr(self.b, Val(self.b.builder.shl(self.v.ir, n.v.ir), self.dtype))

    def shift_right(self, n: Expr) -> Expr:
        """By a variable below the width; zeros come in."""
        return Expr(self.b, Val(self.b.builder.lshr(self.v.ir, n.v.ir), self.dtype))

    def __lt__(self, x: Number) -> Expr:
        return self._do(self.b.lt, x)

    def __le__(self, x: Number) -> Expr:
        return self._do(self.b.le, x)

    def __gt__(self, x: Number) -> Expr:
        return self._do(self.b.gt, x)

    def __ge__(self, x: Number) -> Expr:
        return self._do(self.b.ge, x)

    def __eq__(self, x: object) -> Expr:  # type: ignore[override]
        assert isinstance(x, (Expr, float, int))
        return self._do(self.b.eq, x)

    def __ne__(self, x: object) -> Expr:  # type: ignore[override]
        assert isinstance(x, (Expr, float, int))
        return self._do(self.b.ne, x)

    def to(self, dtype: DType) -> Expr:
        """NumPy's cast."""
        return Expr(self.b, self.b.convert(self.v, dtype))

    def bits(self) -> Expr:
        """The bits of a float as an unsigned integer."""
        return Expr(self.b, self.b.bitcast(self.v, BITS_OF[self.dtype.name]))

    def signed_bits(self) -> Expr:
        return Expr(self.b, self.b.bitcast(self.v, SIGNED_BITS_OF[self.dtype.name]))

    def as_float(self, dtype: DType) -> Expr:
        """The float that has these bits."""
        return Expr(self.b, self.b.bitcast(self.v, dtype))

    def isnan(self) -> Expr:
        return Expr(self.b, self.b.isnan(self.v))

    def rint(self) -> Expr:
        return Expr(self.b, self.b.rint(self.v))

    def floor(self) -> Expr:
        return Expr(self.b, self.b.floor(self.v))

    def trunc(self) -> Expr:
        return Expr(self.b, self.b.trunc(self.v))

    def sqrt(self) -> Expr:
        return Expr(self.b, self.b.sqrt(self.v))

    def copysign(self, x: Expr) -> Expr:
        return Expr(self.b, self.b.copysign(self.v, x.v))

    def call(self, name: str, *more: Expr) -> Expr:
        """A function of the registry."""
        return Expr(self.b, self.b.functions.call(self.b, name, self.v, *(m.v for m in more)))


def fma(x: Expr, y: Number, z: Number) -> Expr:
    """`x*y + z`, one rounding with FMA, two without."""
    return Expr(x.b, x.b.fma(x.v, x.like(y), x.like(z)))


def where(c: Expr, x: Number, y: Number) -> Expr:
    """`x` where `c`; one of the two must be an Expr."""
    like = x if isinstance(x, Expr) else y
    assert isinstance(like, Expr)
    return Expr(c.b, c.b.select(c.v, like.like(x), like.like(y)))


def larger(x: Expr, bound: Number) -> Expr:
    """The larger; `x` where it is NaN (one instruction on x86)."""
    return where(_ordered(x, "<", bound), bound, x)


def smaller(x: Expr, bound: Number) -> Expr:
    """The smaller; `x` where it is NaN."""
    return where(_ordered(x, ">", bound), bound, x)


def _ordered(x: Expr, sign: str, y: Number) -> Expr:
    flipped = {"<": ">", ">": "<"}[sign]  # `bound > x ? bound : x` is maxpd(bound, x), which gives x for NaN
    return Expr(x.b, Val(x.b.builder.fcmp_ordered(flipped, x.like(y).ir, x.v.ir), b1))


def horner(x: Expr, coefficients: Sequence[float]) -> Expr:
    """c0 + x*(c1 + x*(c2 + …)), lowest first: fewest operations, longest chain."""
    out = x.const(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        out = fma(out, x, c)
    return out


def even_odd(x: Expr, coefficients: Sequence[float]) -> Expr:
    """The same polynomial as two chains, of the even and the odd powers: half the latency for one more product."""
    if len(coefficients) < 5:
        return horner(x, coefficients)
    z = x * x
    return fma(x, horner(z, coefficients[1::2]), horner(z, coefficients[::2]))


def by_fours(x: Expr, coefficients: Sequence[float]) -> Expr:
    """The same polynomial in parts of four terms, each two pairs side by side, joined in powers of x**4: the shortest
    chain up to twelve terms, for one product more again."""
    if len(coefficients) < 5:
        return even_odd(x, coefficients)
    square = x * x

    def part(c: Sequence[float]) -> Expr | float:
        low: Expr | float = fma(x, c[1], c[0]) if len(c) > 1 else c[0]
        if len(c) < 3:
            return low
        return fma(square, fma(x, c[3], c[2]) if len(c) > 3 else c[2], low)

    *parts, last = (part(coefficients[i : i + 4]) for i in range(0, len(coefficients), 4))
    fourth = square * square
    for p in reversed(parts):
        last = fma(fourth, last, p)
    assert isinstance(last, Expr)
    return last


def when_any(mask: Expr, usual: Expr, rare: Callable[[], Expr]) -> Expr:
    """`usual`, or where any lane of `mask` holds `rare()`, which stands in a block of its own, out of the way."""
    b = mask.b
    builder = b.builder
    start = builder.block
    rare_block = builder.append_basic_block("rare")
    done = builder.append_basic_block("done")
    branch = builder.cbranch(b.any(mask.v).ir, rare_block, done)
    branch.set_weights([1, 2000])
    builder.position_at_end(rare_block)
    value = rare()
    return _met(done, (usual, start), (value, builder.block))


def twice_if_any(
    mask: Callable[[], Expr],
    first: list[Expr],
    usual: Callable[[list[Expr]], Expr],
    second: Callable[[], list[Expr]],
    finish: Callable[[Expr], Expr],
) -> Expr:
    """`usual(first)`, or where any lane of `mask()` holds `finish(usual(second()))`: the same code once more, so that
    what is rare takes no time to compile."""
    at = first[0]
    builder, before = at.b.builder, at.b.builder.block
    compute, rare, again, finishing, done = (
        builder.append_basic_block(name) for name in ("compute", "rare", "again", "finishing", "done")
    )
    builder.branch(compute)
    builder.position_at_end(compute)
    phis = [builder.phi(s.v.ir.type) for s in first]
    is_first = builder.phi(INT_TYPES[1])
    value = usual([Expr(s.b, Val(p, s.dtype)) for p, s in zip(phis, first, strict=True)])
    branch = builder.cbranch(at.b.any(mask().v).ir, rare, done)
    branch.set_weights([1, 2000])
    computed = builder.block
    builder.position_at_end(rare)
    builder.cbranch(is_first, again, finishing)
    builder.position_at_end(again)
    for phi, x, y in zip(phis, first, second(), strict=True):
        phi.add_incoming(x.v.ir, before)
        phi.add_incoming(y.v.ir, builder.block)
    is_first.add_incoming(INT_TYPES[1](1), before)
    is_first.add_incoming(INT_TYPES[1](0), builder.block)
    builder.branch(compute)
    builder.position_at_end(finishing)
    finished = finish(value)
    return _met(done, (value, computed), (finished, builder.block))


def _met(done: ir.Block, *ways: tuple[Expr, ir.Block]) -> Expr:
    """The value of the way that was taken to a block. The last one stands where it ends, and goes on there."""
    at = ways[0][0]
    builder = at.b.builder
    builder.branch(done)
    builder.position_at_end(done)
    phi = builder.phi(at.v.ir.type)
    for x, block in ways:
        phi.add_incoming(x.v.ir, block)
    return Expr(at.b, Val(phi, at.dtype))


def while_loop(
    state: list[Expr], go_on: Callable[[list[Expr]], Expr], step: Callable[[list[Expr]], list[Expr]]
) -> list[Expr]:
    """Runs `step` while any lane's `go_on` holds; `step` must be idempotent in lanes that are done."""
    b = state[0].b
    builder, before = b.builder, b.builder.block
    head = builder.append_basic_block("loop")
    body = builder.append_basic_block("step")
    done = builder.append_basic_block("done")
    builder.branch(head)
    builder.position_at_end(head)
    phis = [builder.phi(s.v.ir.type) for s in state]
    now = [Expr(b, Val(p, s.dtype)) for p, s in zip(phis, state, strict=True)]
    builder.cbranch(b.any(go_on(now).v).ir, body, done)
    builder.position_at_end(body)
    after = step(now)
    for phi, start, end in zip(phis, state, after, strict=True):
        phi.add_incoming(start.v.ir, before)
        phi.add_incoming(end.v.ir, builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    return now


def fits(name: str, like: Expr) -> list[float]:
    """The generated coefficients of this name for the dtype of `like`."""
    found: list[float] = getattr(coefficients, f"{name}_{like.dtype.name.upper()}")
    return found
