"""The MLIR form of a graph, in upstream dialects: func, tensor, linalg, arith, math and scf.

`to_mlir(graph)` prints a module that `mlir-opt` accepts and that can be lowered without anything of stager's: a second
way from a graph to machine code, independent of `codegen/`.
"""

from stager.ir.mlir.function import Module, runnable, to_mlir

__all__ = ["Module", "runnable", "to_mlir"]
