"""The second way from a graph to machine code: MLIR through LLVM's own tools.

`compile_mlir(graph, target)` prints the graph (`ir/mlir/`), has `mlir-opt` bufferise and lower it and `mlir-translate`
turn it into LLVM IR, and wraps that in the calling convention of `ir/abi.py`, so that the same entry runs it. None of
the kernels, loops and polynomials of the first way is used: the two check one another.
"""

from stager.codegen.mlir.compile import MlirCompiled, compile_many, compile_mlir
from stager.codegen.mlir.tools import MlirError, missing_tools

__all__ = ["MlirCompiled", "MlirError", "compile_many", "compile_mlir", "missing_tools"]
