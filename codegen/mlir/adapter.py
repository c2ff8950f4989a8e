"""The function of `ir/abi.py` around a lowered one: arguments to memref descriptors, results to the caller's memory.

A descriptor of rank r is `{allocated, aligned, offset, sizes[r], strides[r]}`, strides in elements; the lowered
function takes its fields one by one and returns one, or a struct of several. Its buffers are contiguous: an argument
that is not is copied first, a result that belongs into an argument with strides of its own is copied there.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from stager.codegen.emit import I8, I32, I64, NULL, PTR, FunctionEmitter, i64
from stager.codegen.mlir.support import (
    ALLOCATE,
    COPY,
    RECORD_BYTES,
    RECORD_CONTEXT,
    RECORD_JUMP,
    RECORD_STATUS,
    RECORD_TURNS,
    RELEASE,
    SLACK,
)
from stager.codegen.target import Target
from stager.codegen.unit import ModuleEmitter
from stager.ir.abi import CONTEXT_ALLOCATE, STATUS_NO_MEMORY, Abi
from stager.ir.dims import Dim, contiguous_strides, product
from stager.ir.types import Type

VOID = ir.VoidType()


def descriptor(t: Type) -> Any:
    """The LLVM type of a memref descriptor."""
    head = [PTR, PTR, I64]
    return ir.LiteralStructType(head + [ir.ArrayType(I64, t.ndim)] * 2 if t.ndim else head)


def emit_adapter(abi: Abi, callee: str, target: Target) -> ModuleEmitter:
    """A module with the function `abi.name`, which calls `callee` and the functions of `support.py`."""
    m = ModuleEmitter(abi.name, target)
    e = FunctionEmitter(m, abi.name)
    for n, symbol in enumerate(abi.symbols):
        place = e.entry.gep(e.symbol_values, [i64(8 * n)], source_etype=I8, inbounds=True)
        e.symbols[symbol.name] = e.entry.load(place, typ=I64, align=8)
        e.entry_symbols.add(symbol.name)
    _Adapter(e, abi, callee).emit()
    e.finish()
    return m


class _Adapter:
    """Writes the body. `record` is the call's record of `support.py`."""

    def __init__(self, e: FunctionEmitter, abi: Abi, callee: str) -> None:
        self.e = e
        self.abi = abi
        self.callee = callee
        self.record = e.alloca(ir.ArrayType(I8, RECORD_BYTES), "call", 16)
        self.nothing = e.alloca(ir.ArrayType(I8, SLACK), "nothing", 64)  # where empty arguments point
        e.entry.store(ir.Constant(ir.ArrayType(I8, SLACK), None), self.nothing)

    def emit(self) -> None:
        e, b = self.e, self.e.b
        b.store(self.record, self.record)
        b.store(self.record, e.offset(self.record, 8))
        b.store(e.context, e.offset(self.record, RECORD_CONTEXT))
        b.store(ir.Constant(I32, 0), e.offset(self.record, RECORD_TURNS))
        setjmp = e.external("_setjmp", I32, [PTR])
        setjmp.attributes.add("returns_twice")
        came_back = b.call(setjmp, [e.offset(self.record, RECORD_JUMP)])
        raised, on = b.append_basic_block("raised"), b.append_basic_block("calls")
        b.cbranch(b.icmp_signed("!=", came_back, ir.Constant(I32, 0)), raised, on)
        b.position_at_end(raised)
        self._leave(b.load(e.offset(self.record, RECORD_STATUS), typ=I32, align=4))
        b.position_at_end(on)
        results = self._call([field for n in range(len(self.abi.inputs)) for field in self._input(n)])
        for n, result in enumerate(results):
            self._output(n, result)
        b.call(self._support(RELEASE, VOID, [PTR]), [self.record])

    def _leave(self, status: Any) -> None:
        self.e.b.call(self._support(RELEASE, VOID, [PTR]), [self.record])
        self.e.leave(status)

    def _support(self, name: str, result: Any, params: list[Any]) -> Any:
        found = self.e.module.globals.get(name)
        return found or ir.Function(self.e.module, ir.FunctionType(result, params), name)

    # -- arguments -----------------------------------------------------------------------------------------------------

    def _input(self, n: int) -> list[Any]:
        """The fields of an argument's descriptor."""
        e, spec = self.e, self.abi.inputs[n]
        t, size = spec.type, spec.type.dtype.itemsize
        data = e.b.load(e.offset(e.buffers, 8 * n), typ=PTR, align=8)
        empty = e.b.icmp_signed("==", e.dim(t.size), i64(0))
        data = e.b.select(empty, self.nothing, data)
        dense = contiguous_strides(t.shape, size)
        if spec.strides != dense:
            bytes_ = e.b.mul(e.dim(t.size), i64(size))
            copy = e.b.call(self._support(ALLOCATE, PTR, [PTR, I64]), [self.record, bytes_])
            self._copy(t, data, spec.strides, copy, dense)
            data = copy
        sizes = [e.dim(d) for d in t.shape]
        return [data, data, i64(0), *sizes, *[e.dim(d) for d in contiguous_strides(t.shape, 1)]]

    def _copy(self, t: Type, source: Any, source_strides: Any, target: Any, target_strides: Any) -> None:
        """From one layout (byte strides) to another."""
        views = [self._view(t, source, source_strides), self._view(t, target, target_strides)]
        copy = self._support(COPY, VOID, [I64, PTR, PTR])
        self.e.b.call(copy, [i64(t.dtype.itemsize), *views])

    def _view(self, t: Type, data: Any, strides: tuple[Dim, ...]) -> Any:
        """An unranked descriptor: {rank, descriptor}. Strides are multiples of the element, as aligned arrays' are."""
        e = self.e
        place = e.alloca(ir.ArrayType(I64, 3 + 2 * t.ndim), "view", 8)
        steps = [e.b.sdiv(e.dim(s), i64(t.dtype.itemsize)) for s in strides]
        for k, value in enumerate([data, data, i64(0), *map(e.dim, t.shape), *steps]):
            e.b.store(value, e.offset(place, 8 * k), align=8)
        unranked = e.alloca(ir.ArrayType(I64, 2), "unranked", 8)
        e.b.store(i64(t.ndim), unranked, align=8)
        e.b.store(place, e.offset(unranked, 8), align=8)
        return unranked

    # -- the call ------------------------------------------------------------------------------------------------------

    def _call(self, fields: list[Any]) -> list[Any]:
        """The descriptors of the results."""
        b, types = self.e.b, [descriptor(o.type) for o in self.abi.outputs]
        result = VOID if not types else types[0] if len(types) == 1 else ir.LiteralStructType(types)
        f = self._support(self.callee, result, [PTR, *[x.type for x in fields]])
        made = b.call(f, [self.record, *fields])
        return [made] if len(types) == 1 else [b.extract_value(made, k) for k in range(len(types))]

    # -- results -------------------------------------------------------------------------------------------------------

    def _output(self, n: int, made: Any) -> None:
        e, b, out = self.e, self.e.b, self.abi.outputs[n]
        t, size = out.type, out.type.dtype.itemsize
        if out.kind not in ("fresh", "sized", "input"):
            return  # a view or another result: the caller makes it
        data = b.extract_value(made, 1)
        shape = [b.extract_value(made, (3, k)) for k in range(t.ndim)]
        if out.kind == "input":
            target = b.load(e.offset(e.buffers, 8 * out.source), typ=PTR, align=8)
            into = self.abi.inputs[out.source]
            self._copy(into.type, data, contiguous_strides(into.type.shape, size), target, into.strides)
            return
        if out.kind == "sized":
            target = self._allocated(n, shape)
        else:
            place = 8 * (len(self.abi.inputs) + n)
            target = b.load(e.offset(e.buffers, place), typ=PTR, align=8)
        nbytes = i64(size)
        for extent in shape if out.kind == "sized" else [e.dim(product(t.shape))]:
            nbytes = b.mul(nbytes, extent)
        memcpy = self._support("llvm.memcpy.p0.p0.i64", VOID, [PTR, PTR, I64, ir.IntType(1)])
        b.call(memcpy, [target, data, nbytes, ir.Constant(ir.IntType(1), 0)])

    def _allocated(self, n: int, shape: list[Any]) -> Any:
        """Memory for a result whose shape the caller hears only now."""
        e, b = self.e, self.e.b
        sizes = e.alloca(ir.ArrayType(I64, max(1, len(shape))), "shape", 8)
        for k, extent in enumerate(shape):
            b.store(extent, e.offset(sizes, 8 * k), align=8)
        function = b.load(e.offset(e.context, CONTEXT_ALLOCATE), typ=PTR, align=8)
        args = [e.context, ir.Constant(I32, n), i64(len(shape)), sizes]
        target = e.call_pointer(function, PTR, args)
        none, on = b.append_basic_block("no.memory"), b.append_basic_block("memory")
        b.cbranch(b.icmp_unsigned("==", target, NULL), none, on)
        b.position_at_end(none)
        self._leave(ir.Constant(I32, STATUS_NO_MEMORY))
        b.position_at_end(on)
        return target
