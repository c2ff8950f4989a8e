"""Compiles one operation of the scalar builder into a loop over arrays: a vector body and a scalar tail.

The tests of `codegen/scalar.py` and `codegen/math/` run it on arrays whose length is no multiple of the width, so both
forms of each operation are seen. Not a test.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np

from stager.codegen.math.functions import MathFunctions
from stager.codegen.registers import Val, memory_type
from stager.codegen.scalar import ScalarBuilder
from stager.codegen.target import Target
from stager.ir.dtypes import DType

I64 = ir.IntType(64)
HOST = Target.host()
NO_FMA = Target.named("x86-64-v2")

Emit = Callable[..., Val]


class ArrayLoop:
    """A compiled `out[i] = emit(b, x[i], y[i], …)`; call it with arrays."""

    def __init__(self, emit: Emit, dtypes: Sequence[DType], width: int = 4, target: Target = HOST) -> None:
        self.dtypes = list(dtypes)
        module = ir.Module()
        module.triple = target.triple
        functions = MathFunctions(module, target)
        pointer = ir.PointerType()
        signature = ir.FunctionType(ir.VoidType(), [I64] + [pointer] * (len(dtypes) + 1))
        function = ir.Function(module, signature, "loop")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        n, *inputs, output = function.args

        def emit_loop(w: int, start: Any, stop: Any) -> tuple[Any, DType]:
            b = ScalarBuilder(builder, w, target, functions)
            before = builder.block
            head, body, done = (function.append_basic_block(name) for name in ("head", "body", "done"))
            builder.branch(head)
            builder.position_at_end(head)
            i = builder.phi(I64)
            i.add_incoming(start, before)
            builder.cbranch(builder.icmp_signed("<", i, stop), body, done)
            builder.position_at_end(body)
            args = [
                b.load(builder.gep(p, [i], source_etype=memory_type(d)), d)
                for p, d in zip(inputs, self.dtypes, strict=True)
            ]
            out = emit(b, *args)
            b.store(out, builder.gep(output, [i], source_etype=memory_type(out.dtype)))
            i.add_incoming(builder.add(i, ir.Constant(I64, w)), builder.block)
            builder.branch(head)
            builder.position_at_end(done)
            return i, out.dtype

        i, _ = emit_loop(width, ir.Constant(I64, 0), builder.and_(n, ir.Constant(I64, -width)))
        _, self.result = emit_loop(1, i, n)
        builder.ret_void()

        self.text = str(module)
        compiled = llvm.parse_assembly(self.text)
        compiled.verify()
        machine = target.machine(3, reloc="default", codemodel="jitdefault", jit=True)
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
        passes.getModulePassManager().run(compiled, passes)
        self._engine = llvm.create_mcjit_compiler(compiled, machine)
        self._engine.finalize_object()
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (len(dtypes) + 1))
        self._function = kind(self._engine.get_function_address("loop"))
        self._machine, self._compiled = machine, compiled

    def assembly(self) -> str:
        """The machine code as text."""
        return str(self._machine.emit_assembly(self._compiled))

    def __call__(self, *arrays: Any) -> Any:
        xs = [np.ascontiguousarray(x, d.np) for x, d in zip(arrays, self.dtypes, strict=True)]
        out = np.empty(len(xs[0]), self.result.np)
        self._function(len(xs[0]), *(x.ctypes.data for x in xs), out.ctypes.data)
        return out

    def nanoseconds(self, *arrays: Any, n: int = 8192, repeat: int = 30) -> float:
        """The best time per element, the arrays repeated to n elements."""
        xs = [np.resize(np.asarray(x, d.np), n) for x, d in zip(arrays, self.dtypes, strict=True)]
        out = np.empty(n, self.result.np)
        args = (n, *(x.ctypes.data for x in xs), out.ctypes.data)
        best = float("inf")
        for _ in range(repeat):
            start = time.perf_counter()
            self._function(*args)
            best = min(best, time.perf_counter() - start)
        return best / n * 1e9
