"""What the tests of the printed form need of LLVM's tools: what does a module compute.

`run` lowers a module of `to_mlir` as `codegen/mlir/` does, without its adapter: errors are a result, and the function
is called through MLIR's own C interface in this process.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from stager.codegen.mlir.support import SUPPORT
from stager.codegen.mlir.tools import lower, missing_tools
from stager.ir.types import Type

reason = missing_tools()
needs_tools = pytest.mark.skipif(reason is not None, reason=reason or "")


def run(module: str, name: str, results: Sequence[Type], arrays: Sequence[np.ndarray[Any, Any]]) -> list[Any]:
    """What the function `name` of the module returns; `results` are static types."""
    from llvmlite import binding

    head, rest = module.split(") {\n", 1)
    head = re.sub(r"(%x\d+: tensor<[^>]*>)", r"\1 {bufferization.writable = false}", head)
    (llvm,) = lower([head + ") attributes {llvm.emit_c_interface} {\n" + rest])
    llvm = llvm.replace("_mlir_memref_to_llvm_alloc", "malloc").replace("_mlir_memref_to_llvm_free", "free")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    parsed = binding.parse_assembly(llvm)
    parsed.link_in(binding.parse_assembly(SUPPORT))
    engine = binding.create_mcjit_compiler(parsed, binding.Target.from_default_triple().create_target_machine(opt=0))
    engine.finalize_object()
    function = ctypes.CFUNCTYPE(None)(engine.get_function_address(f"_mlir_ciface_{name}"))
    inputs = [_descriptor(np.ascontiguousarray(a) if a.ndim else a) for a in arrays]
    offsets = np.cumsum([0] + [8 * (3 + 2 * t.ndim) for t in results])
    returned = ctypes.create_string_buffer(int(offsets[-1]) or 8)
    function.argtypes = [ctypes.c_void_p] * (len(inputs) + bool(results))
    function(*([ctypes.addressof(returned)] if results else []), *[ctypes.addressof(d) for d, _ in inputs])
    return [_array(returned, int(at), t) for at, t in zip(offsets, results, strict=False)]


def _descriptor(a: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """A memref descriptor and what keeps its memory alive."""
    words = [a.ctypes.data, a.ctypes.data, 0, *a.shape, *[s // a.itemsize for s in a.strides]]
    return (ctypes.c_int64 * len(words))(*words), a


def _array(buffer: Any, at: int, t: Type) -> np.ndarray[Any, Any]:
    words = np.frombuffer(buffer, np.int64, 3 + 2 * t.ndim, at)
    shape, strides = words[3 : 3 + t.ndim], words[3 + t.ndim :]
    size = t.dtype.itemsize
    if 0 in shape:
        return np.empty(tuple(shape), t.dtype.np)
    reach = 1 + int(sum((n - 1) * s for n, s in zip(shape, strides, strict=True)))
    start = int(words[1]) + int(words[2]) * size
    flat = np.frombuffer((ctypes.c_char * (reach * size)).from_address(start), t.dtype.np)
    return np.lib.stride_tricks.as_strided(flat, tuple(shape), tuple(s * size for s in strides)).copy()
