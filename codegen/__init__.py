"""Graph to kernels (loop nests) to an LLVM module to an object file.

Imports `stager.ir` only. Everything that is *emitted* stands here: kernels, the CPython entry, the C entry, the
thread pool. No address of the running process may enter an emitted module.
"""

if __name__ != "stager.codegen":
    raise ImportError("this folder is the package 'stager.codegen'; import it under that name")
