"""The MLIR tools of LLVM 22, as tests use them: does a module parse and verify, and what does it compute.

`run` lowers a module of `to_mlir` with upstream passes alone (bufferisation, loops, LLVM dialect), translates it to
LLVM IR and calls it in this process. `available` says why a machine cannot.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.ir.types import Type

BUFFERS = (
    "--one-shot-bufferize=bufferize-function-boundaries allow-return-allocs-from-loops"
    " function-boundary-type-conversion=identity-layout-map"
)
# Copies between strided buffers would call MLIR's runtime library; as linalg ops they become loops.
COPY = re.compile(r"memref\.copy (%\S+), (%\S+) : (memref<.*>) to (memref<.*>)$", re.MULTILINE)
LOWERING = (
    "--convert-linalg-to-loops",
    "--expand-strided-metadata",
    "--lower-affine",
    "--convert-math-to-llvm",
    "--convert-math-to-libm",
    "--convert-scf-to-cf",
    "--arith-expand",
    "--convert-arith-to-llvm",
    "--convert-index-to-llvm",
    "--finalize-memref-to-llvm",
    "--convert-func-to-llvm",
    "--convert-cf-to-llvm",
    "--reconcile-unrealized-casts",
)


def tool(name: str) -> str | None:
    return shutil.which(f"{name}-22") or shutil.which(name)


def available() -> str | None:
    """None, or the reason why these tests cannot run here."""
    missing = [name for name in ("mlir-opt", "mlir-translate") if tool(name) is None]
    if missing:
        return f"{' and '.join(missing)} of LLVM 22 not found (Debian: mlir-22-tools)"
    version = subprocess.run([str(tool("mlir-opt")), "--version"], capture_output=True, text=True, check=True).stdout
    return None if "version 22." in version else "mlir-opt is not of LLVM 22"


def _through(name: str, text: str, *options: str) -> str:
    done = subprocess.run([str(tool(name)), *options], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]
    return done.stdout


def accept(modules: Sequence[str]) -> None:
    """Fail unless mlir-opt parses and verifies every module."""
    _through("mlir-opt", "// -----\n".join(modules), "--split-input-file", "-o", "/dev/null")


def run(module: str, name: str, results: Sequence[Type], arrays: Sequence[np.ndarray[Any, Any]]) -> list[Any]:
    """What the function `name` of the module returns; `results` are static types."""
    from llvmlite import binding

    head, rest = module.split(") {\n", 1)
    head = re.sub(r"(%x\d+: tensor<[^>]*>)", r"\1 {bufferization.writable = false}", head)
    marked = head + ") attributes {llvm.emit_c_interface} {\n" + rest
    buffers = COPY.sub(r"linalg.copy ins(\1 : \3) outs(\2 : \4)", _through("mlir-opt", marked, BUFFERS))
    llvm = _through("mlir-translate", _through("mlir-opt", buffers, *LOWERING), "--mlir-to-llvmir")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    parsed = binding.parse_assembly(llvm)
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
