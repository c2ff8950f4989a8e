"""Running `mlir-opt` and `mlir-translate` of LLVM 22: MLIR text in, LLVM IR text out.

Many modules go through one process each of the two, which start slower than they work.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

VERSION = 22
TOOLS = ("mlir-opt", "mlir-translate")
MARK = "// -----\n"

# Upstream passes alone, in order: tensors to buffers, buffers freed where they end, linalg to loops, all to llvm.
_BUFFERS = (
    "bufferize-function-boundaries allow-return-allocs-from-loops function-boundary-type-conversion=identity-layout-map"
)
LOWERING = (
    f"--one-shot-bufferize={_BUFFERS}",
    "--buffer-deallocation-pipeline",
    "--convert-bufferization-to-memref",
    "--convert-linalg-to-loops",
    "--expand-strided-metadata",
    "--lower-affine",
    "--convert-math-to-llvm",
    "--convert-math-to-libm",
    "--convert-scf-to-cf",
    "--arith-expand",
    "--convert-arith-to-llvm",
    "--convert-index-to-llvm",
    "--finalize-memref-to-llvm=use-generic-functions=1",
    "--convert-func-to-llvm",
    "--convert-cf-to-llvm",
    "--reconcile-unrealized-casts",
)


class MlirError(RuntimeError):
    """MLIR's tools are absent or of another version, or did not take a module."""


def tool(name: str) -> str | None:
    """The path of a tool: with the version in its name, as Debian has it, before the plain name."""
    return shutil.which(f"{name}-{VERSION}") or shutil.which(name)


@cache
def _version_of(path: str) -> str:
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout


def missing_tools() -> str | None:
    """None when modules can be lowered here, else the reason why not."""
    missing = [name for name in TOOLS if tool(name) is None]
    if missing:
        return f"{' and '.join(missing)} of LLVM {VERSION} not found (Debian: mlir-{VERSION}-tools)"
    for name in TOOLS:
        path = str(tool(name))
        if f"version {VERSION}." not in _version_of(path):
            return f"{path} is not of LLVM {VERSION} (Debian: mlir-{VERSION}-tools)"
    return None


def through(name: str, text: str, *options: str) -> str:
    """What a tool prints for a text. MlirError with what it says when it refuses."""
    reason = missing_tools()
    if reason is not None:
        raise MlirError(reason)
    done = subprocess.run([str(tool(name)), *options], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MlirError(f"{name} does not take the module: {done.stderr[:4000]}")
    return done.stdout


def accept(modules: Sequence[str]) -> None:
    """Nothing when mlir-opt parses and verifies every module, else MlirError."""
    through("mlir-opt", MARK.join(modules), "--split-input-file", "-o", "/dev/null")


def lower(modules: Sequence[str]) -> list[str]:
    """The LLVM IR of MLIR modules."""
    lowered = through("mlir-opt", MARK.join(modules), *LOWERING, "--split-input-file")
    split = ("--split-input-file", f"--output-split-marker={MARK}")
    llvm = through("mlir-translate", lowered, "--mlir-to-llvmir", *split)
    return [part for part in re.split(f"^{MARK}", llvm, flags=re.MULTILINE) if part.strip()]
