"""Runs a `Compiled` on NumPy arrays through llvmlite's MCJIT: what the tests of code generation need, and no more."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from stager.codegen.compile import Compiled, compile_graph
from stager.codegen.growth import TAPE_GROW, emit_growth
from stager.codegen.objects import object_of
from stager.codegen.target import Target
from stager.ir.abi import CONTEXT_ALLOCATE, CONTEXT_BYTES, CONTEXT_DETAIL, CONTEXT_THREADS, PARALLEL_BRIEF, PARALLEL_FOR
from stager.ir.dims import evaluate
from stager.ir.graph import Graph

_BODY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_ALLOCATE = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.POINTER(ctypes.c_int64)
)
_FOR = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
)


class CompiledError(Exception):
    """The status of a call, as the runtime would raise it."""


def _parallel_for(context: int, body: int, n: int, grain: int, env: int) -> int:
    f = _BODY(body)
    for begin in reversed(range(0, n, max(grain, 1))):  # backwards: pieces must not depend on their order
        status = f(context, begin, min(begin + max(grain, 1), n), env)
        if status:
            return int(status)
    return 0


class Runner:
    """A loaded function: call it with arrays."""

    def __init__(self, compiled: Compiled) -> None:
        import llvmlite.binding as llvm

        self.compiled = compiled
        self._pool = _FOR(_parallel_for)
        for name in (PARALLEL_FOR, PARALLEL_BRIEF):
            llvm.add_symbol(name, ctypes.cast(self._pool, ctypes.c_void_p).value)
        libc = ctypes.CDLL(None)
        for name in ("malloc", "free", "realloc", "memcpy", "memset"):
            llvm.add_symbol(name, ctypes.cast(getattr(libc, name), ctypes.c_void_p).value)
        machine = compiled.target.machine(jit=True)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(compiled.object))
        if TAPE_GROW in compiled.abi.externals:
            growth = object_of(emit_growth(compiled.target), compiled.target)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(growth))
        self._engine.finalize_object()
        address = self._engine.get_function_address(compiled.abi.name)
        self.function = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 4)(address)

    def prepare(self, *arrays: Any, threads: int = 0) -> tuple[Any, list[np.ndarray]]:
        """A no-argument call on these arrays, and the outputs that it writes."""
        abi = self.compiled.abi
        inputs = [
            a if isinstance(a, np.ndarray) else np.asarray(a, t.type.dtype.np)
            for a, t in zip(arrays, abi.inputs, strict=True)
        ]
        env: dict[str, int] = {}
        for s in abi.symbols:
            a = inputs[s.input]
            env[s.name] = a.shape[s.axis] if s.kind == "shape" else a.strides[s.axis] if s.kind == "stride" else int(a)
        outputs: list[Any] = []
        for o in abi.outputs:
            if o.kind == "sized":
                outputs.append(None)
            elif o.kind == "fresh":
                outputs.append(np.full([evaluate(d, env) for d in o.type.shape], 77, o.type.dtype.np))
            elif o.kind == "input":
                outputs.append(inputs[o.source])
            else:
                outputs.append(outputs[o.source])
        pointers = [a.ctypes.data for a in inputs]
        pointers += [a.ctypes.data if o.kind == "fresh" else 0 for a, o in zip(outputs, abi.outputs, strict=True)]
        buffers = (ctypes.c_void_p * max(1, len(pointers)))(*pointers)
        symbols = (ctypes.c_int64 * max(1, len(abi.symbols)))(*[env[s.name] for s in abi.symbols])
        nbytes = evaluate(abi.arena_bytes, env)
        arena = np.full(nbytes + 64, 0x5A, np.uint8)
        start = -arena.ctypes.data % 64
        context = (ctypes.c_uint8 * CONTEXT_BYTES)()
        ctypes.c_int32.from_buffer(context, CONTEXT_THREADS).value = threads

        def allocate(_: int, output: int, ndim: int, shape: Any) -> int:
            outputs[output] = np.full(shape[:ndim], 77, abi.outputs[output].type.dtype.np)
            return int(outputs[output].ctypes.data)

        allocator = _ALLOCATE(allocate)
        address = ctypes.cast(allocator, ctypes.c_void_p).value or 0
        ctypes.c_int64.from_buffer(context, CONTEXT_ALLOCATE).value = address

        def call() -> None:
            status = self.function(context, buffers, symbols, arena.ctypes.data + start)
            if status < 0:
                raise CompiledError(status)
            if status > 0:
                s = abi.statuses[status - 1]
                details = [ctypes.c_int64.from_buffer(context, CONTEXT_DETAIL + 8 * k).value for k in range(4)]
                raise CompiledError(f"{s.exception}: {s.text.format(*details)}")

        call.keep = (inputs, arena, buffers, symbols, context, allocator)  # type: ignore[attr-defined]
        return call, outputs

    def __call__(self, *arrays: Any, threads: int = 0) -> list[np.ndarray]:
        call, outputs = self.prepare(*arrays, threads=threads)
        call()
        return outputs


def compiled(graph: Graph, **options: Any) -> Runner:
    """Compiles a graph for this machine and loads it."""
    return Runner(compile_graph(graph, Target.host(), **options))
