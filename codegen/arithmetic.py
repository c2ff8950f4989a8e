"""Arithmetic on registers: sums and products, order, bits, and the choice between two values.

Each is one instruction or a few, on elements of one dtype; results are NumPy's and nothing traps. No fast-math flag and
no contraction is ever set; `fma` asks for one. Not here: what changes the dtype (`conversions.py`), and division of
integers, which needs that (`scalar.py`).
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from stager.codegen.registers import INT_TYPES, Literal, RegisterBuilder, Val
from stager.ir.dtypes import b1


class ArithmeticBuilder(RegisterBuilder):
    """Emits what a few instructions do to elements of one dtype."""

    __slots__ = ()

    # -- arithmetic -------------------------------------------------------------------------------------------------

    def add(self, x: Val, y: Val) -> Val:
        if x.dtype is b1:
            return self.or_(x, y)
        return Val((self.builder.fadd if x.dtype.kind == "f" else self.builder.add)(x.ir, y.ir), x.dtype)

    def sub(self, x: Val, y: Val) -> Val:
        return Val((self.builder.fsub if x.dtype.kind == "f" else self.builder.sub)(x.ir, y.ir), x.dtype)

    def mul(self, x: Val, y: Val) -> Val:
        if x.dtype is b1:
            return self.and_(x, y)
        return Val((self.builder.fmul if x.dtype.kind == "f" else self.builder.mul)(x.ir, y.ir), x.dtype)

    def div(self, x: Val, y: Val) -> Val:
        """True division of floats (integers are promoted before; see `floordiv` and `trunc_div`)."""
        self._float(x, "div")
        return Val(self.builder.fdiv(x.ir, y.ir), x.dtype)

    def fma(self, x: Val, y: Val, z: Val) -> Val:
        """`x*y + z`, contracted where the target has the instruction."""
        if x.dtype.kind == "f" and self.target.has_fma:
            return self._intrinsic("fma", x.dtype, x, y, z)
        return self.add(self.mul(x, y), z)

    def neg(self, x: Val) -> Val:
        if x.dtype.kind == "f":
            return Val(self.builder.fneg(x.ir), x.dtype)
        return self.sub(self.const(x.dtype, 0), x)

    def abs(self, x: Val) -> Val:
        if x.dtype.kind in "ub":
            return x
        if x.dtype.kind == "f":
            return self._intrinsic("fabs", x.dtype, x)
        return self._intrinsic("abs", x.dtype, x, tail=[ir.Constant(INT_TYPES[1], 0)])

    def sign(self, x: Val) -> Val:
        """-1, 0, 1; NaN stays, the sign of zero does not (as in NumPy)."""
        zero, one = self.const(x.dtype, 0), self.const(x.dtype, 1)
        positive = self.select(self.gt(x, zero), one, zero)
        if x.dtype.kind in "ub":
            return positive
        out = self.select(self.lt(x, zero), self.const(x.dtype, -1), positive)
        return self.select(self.isnan(x), x, out) if x.dtype.kind == "f" else out

    def sqrt(self, x: Val) -> Val:
        return self._intrinsic("sqrt", x.dtype, x)

    def square(self, x: Val) -> Val:
        return self.mul(x, x)

    def _float(self, x: Val, what: str) -> None:
        if x.dtype.kind != "f":
            raise TypeError(f"{what}: takes floats, not {x.dtype}; the graph converts before")

    # -- order ------------------------------------------------------------------------------------------------------

    def _compare(self, sign: str, x: Val, y: Val) -> Val:
        if x.dtype.kind == "f":
            compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        elif x.dtype.kind == "i":
            compare = self.builder.icmp_signed
        else:
            compare = self.builder.icmp_unsigned
        return Val(compare(sign, x.ir, y.ir), b1)

    def eq(self, x: Val, y: Val) -> Val:
        return self._compare("==", x, y)

    def ne(self, x: Val, y: Val) -> Val:
        return self._compare("!=", x, y)

    def lt(self, x: Val, y: Val) -> Val:
        return self._compare("<", x, y)

    def le(self, x: Val, y: Val) -> Val:
        return self._compare("<=", x, y)

    def gt(self, x: Val, y: Val) -> Val:
        return self._compare(">", x, y)

    def ge(self, x: Val, y: Val) -> Val:
        return self._compare(">=", x, y)

    def isnan(self, x: Val) -> Val:
        if x.dtype.kind != "f":
            return self.const(b1, False)
        return Val(self.builder.fcmp_unordered("uno", x.ir, x.ir), b1)

    def select(self, c: Val, x: Val, y: Val) -> Val:
        """`x` where the boolean `c` holds, else `y`."""
        return Val(self.builder.select(c.ir, x.ir, y.ir), x.dtype)

    def minimum(self, x: Val, y: Val) -> Val:
        """The smaller; NaN if either is."""
        return self._extreme("<", x, y)

    def maximum(self, x: Val, y: Val) -> Val:
        """The larger; NaN if either is."""
        return self._extreme(">", x, y)

    def _extreme(self, sign: str, x: Val, y: Val) -> Val:
        """The operand that is `sign` the other; of equal ones the second, as in NumPy; NaN if either is."""
        if x.dtype.kind != "f" or _is_number(x):
            return self.select(self._compare(sign, x, y), x, y)
        if _is_number(y):  # one comparison: true as well where x is NaN
            return self.select(Val(self.builder.fcmp_unordered(sign, x.ir, y.ir), b1), x, y)
        # frozen: LLVM would join the two questions, and the inner one alone is an instruction
        inner = self._freeze(self.select(self._compare(sign, x, y), x, y))
        return self.select(self.isnan(x), x, inner)

    def _freeze(self, x: Val) -> Val:
        frozen = ir.Instruction(self.builder.block, x.ir.type, "freeze", [x.ir])
        self.builder._insert(frozen)  # llvmlite's builder has no name for it
        return Val(frozen, x.dtype)

    def fmin(self, x: Val, y: Val) -> Val:
        """The smaller; the other one where one is NaN."""
        smaller = self.select(self.lt(x, y), x, y)
        return self.select(self.isnan(y), x, smaller) if x.dtype.kind == "f" else smaller

    def fmax(self, x: Val, y: Val) -> Val:
        """The larger; the other one where one is NaN."""
        larger = self.select(self.gt(x, y), x, y)
        return self.select(self.isnan(y), x, larger) if x.dtype.kind == "f" else larger

    def clip(self, x: Val, low: Val, high: Val) -> Val:
        return self.minimum(self.maximum(x, low), high)

    # -- bits and logic ---------------------------------------------------------------------------------------------

    def and_(self, x: Val, y: Val) -> Val:
        return Val(self.builder.and_(x.ir, y.ir), x.dtype)

    def or_(self, x: Val, y: Val) -> Val:
        return Val(self.builder.or_(x.ir, y.ir), x.dtype)

    def xor(self, x: Val, y: Val) -> Val:
        return Val(self.builder.xor(x.ir, y.ir), x.dtype)

    def not_(self, x: Val) -> Val:
        return self.xor(x, self.const(x.dtype, True if x.dtype is b1 else -1))

    def shl(self, x: Val, y: Val) -> Val:
        """`x << y`; 0 for a shift of the width or more, or a negative one."""
        inside, amount = self._shift_amount(x, y)
        return self.select(inside, Val(self.builder.shl(x.ir, amount), x.dtype), self.const(x.dtype, 0))

    def shr(self, x: Val, y: Val) -> Val:
        """`x >> y`; the sign fills a shift of the width or more, or a negative one."""
        inside, amount = self._shift_amount(x, y)
        if x.dtype.kind == "u":
            return self.select(inside, Val(self.builder.lshr(x.ir, amount), x.dtype), self.const(x.dtype, 0))
        last = self.const(x.dtype, x.dtype.bits - 1)
        return Val(self.builder.ashr(x.ir, self.select(inside, y, last).ir), x.dtype)

    def _shift_amount(self, x: Val, y: Val) -> tuple[Val, Any]:
        inside = Val(self.builder.icmp_unsigned("<", y.ir, self.const(y.dtype, x.dtype.bits).ir), b1)
        return inside, y.ir  # a shift by too much is poison, which the select does not choose


def _is_number(x: Val) -> bool:
    """Whether a value is a constant other than NaN."""
    return isinstance(x.ir, Literal) and x.ir.number
