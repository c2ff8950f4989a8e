"""Receives objects and symbol tables: JIT engine, memory, libraries (BLAS), caches, loading of built artefacts.

Imports `stager.ir` types and the ABI record only; never `stager.codegen`.
"""

if __name__ != "stager.runtime":
    raise ImportError("this folder is the package 'stager.runtime'; import it under that name")
