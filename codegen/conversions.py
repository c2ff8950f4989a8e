"""Conversions between dtypes, and between registers and memory.

Integers wrap, floats truncate; what is out of range or NaN gives what NumPy gives on x86-64, on every machine.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from stager.codegen.arithmetic import ArithmeticBuilder
from stager.codegen.registers import Val, lane_number, memory_type, undefined
from stager.ir.dtypes import DType, b1, i32, i64, u8, u32, u64


class ConversionBuilder(ArithmeticBuilder):
    """Emits casts, loads and stores."""

    __slots__ = ()

    def convert(self, x: Val, dtype: DType) -> Val:
        """`astype`: integers wrap, floats truncate; out of range and NaN give what NumPy gives on x86-64."""
        src = x.dtype
        if src is dtype:
            return x
        b, t = self.builder, self.type(dtype)
        if dtype is b1:
            zero = self.const(src, 0)
            return self.ne(x, zero)
        if src is b1:
            if dtype.kind == "f":
                return self.select(x, self.const(dtype, 1), self.const(dtype, 0))
            return Val(b.zext(x.ir, t), dtype)
        if src.is_integer and dtype.is_integer:
            if dtype.bits == src.bits:
                return Val(x.ir, dtype)
            if dtype.bits < src.bits:
                return Val(b.trunc(x.ir, t), dtype)
            return Val((b.sext if src.kind == "i" else b.zext)(x.ir, t), dtype)
        if src.is_integer:
            return Val((b.sitofp if src.kind == "i" else b.uitofp)(x.ir, t), dtype)
        if dtype.kind == "f":
            return Val((b.fpext if dtype.bits > src.bits else b.fptrunc)(x.ir, t), dtype)
        return self._float_to_int(x, dtype)

    def _float_to_int(self, x: Val, dtype: DType) -> Val:
        # C on x86-64, which NumPy inherits: narrow types go through i32 and u32 through i64, whose cvtt instructions
        # give the smallest integer for anything out of range; u64 takes its upper half by subtracting 2**63 first.
        if dtype.bits < 32:
            return self.convert(self._float_to_int(x, i32), dtype)
        if dtype is u32:
            return self.convert(self._float_to_int(x, i64), u32)
        if dtype is u64:
            half = self.const(x.dtype, 2.0**63)
            low = self._float_to_int(x, i64)
            high = self._float_to_int(self.sub(x, half), i64)
            flipped = self.xor(high, self.const(i64, -(2**63)))
            return Val(self.select(self.ge(x, half), flipped, low).ir, u64)
        if self.width == 1 and self.target.arch == "x86_64":
            return self._truncated(x, dtype)
        limit = 2.0 ** (dtype.bits - 1)
        inside = self.lt(self.abs(x), self.const(x.dtype, limit))
        whole = Val(self.builder.fptosi(x.ir, self.type(dtype)), dtype)  # poison outside: never selected there
        return self.select(inside, whole, self.const(dtype, -(2 ** (dtype.bits - 1))))

    def _truncated(self, x: Val, dtype: DType) -> Val:
        """The instruction of x86-64 itself, which LLVM's own conversion may not rely on."""
        double = x.dtype.bits == 64
        name = f"llvm.x86.{'sse2.cvttsd2si' if double else 'sse.cvttss2si'}{'64' if dtype.bits == 64 else ''}"
        lanes = ir.VectorType(x.ir.type, 2 if double else 4)
        f = self.builder.module.globals.get(name)
        if f is None:
            f = ir.Function(self.builder.module, ir.FunctionType(self.type(dtype), [lanes]), name)
        first = self.builder.insert_element(undefined(lanes), x.ir, lane_number(0))
        return Val(self.builder.call(f, [first]), dtype)

    def bitcast(self, x: Val, dtype: DType) -> Val:
        """The same bits as another dtype of the same width."""
        if x.dtype.bits != dtype.bits or b1 in (x.dtype, dtype):
            raise TypeError(f"bitcast: {x.dtype} to {dtype}")
        same = x.dtype.kind != "f" and dtype.kind != "f"
        return Val(x.ir if same or x.dtype is dtype else self.builder.bitcast(x.ir, self.type(dtype)), dtype)

    # -- memory -------------------------------------------------------------------------------------------------------

    def load(self, pointer: Any, dtype: DType, align: int | None = None) -> Val:
        """`width` adjacent elements. `align` in bytes; an element's size where it is not given."""
        t = memory_type(dtype)
        t = t if self.width == 1 else ir.VectorType(t, self.width)
        return self.from_memory(self.builder.load(pointer, typ=t, align=align or dtype.itemsize), dtype)

    def store(self, x: Val, pointer: Any, align: int | None = None) -> None:
        """Writes `width` adjacent elements."""
        self.builder.store(self.to_memory(x), pointer, align=align or x.dtype.itemsize)

    def from_memory(self, loaded: Any, dtype: DType) -> Val:
        """What `load` gave, as a register value: any nonzero byte is a true boolean."""
        if dtype is not b1:
            return Val(loaded, dtype)
        return self.ne(Val(loaded, u8), self.const(u8, 0))

    def to_memory(self, x: Val) -> Any:
        """The llvmlite value to store: booleans become bytes."""
        return self.convert(x, u8).ir if x.dtype is b1 else x.ir
