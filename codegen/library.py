"""Built libraries: kernels, their C entries and the thread pool, linked into one module.

Every symbol that a library exports carries its name or a function's, so that several libraries go into one program; all
else is internal. Not here: object files and linking (`stager/aot/`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from stager.codegen.c_entry import emit_entry
from stager.codegen.c_interface import Function
from stager.codegen.pool import POOL_SET_THREADS, POOL_STOP
from stager.codegen.structured import I64, bytes_data, const
from stager.codegen.target import Target
from stager.ir.abi import PARALLEL_FOR

METADATA, METADATA_BYTES = "stager_metadata", "stager_metadata_bytes"


def uses_pool(functions: Sequence[Function]) -> bool:
    """Whether any kernel has parallel regions."""
    return any(PARALLEL_FOR in k.abi.externals for f in functions for k in f.kernels)


def exported_pool(library: str) -> dict[str, str]:
    """The pool's functions under the names that a library exports."""
    return {POOL_SET_THREADS: f"{library}_set_threads", POOL_STOP: f"{library}_stop_threads"}


def emit_library(
    functions: Sequence[Function], target: Target, library: str, *, metadata: bytes = b"", more: Sequence[str] = ()
) -> Any:
    """The LLVM module (llvmlite.binding) of a whole library, optimised. `more`: LLVM text of what kernels call."""
    import llvmlite.binding as llvm

    from stager.codegen.compile import optimise
    from stager.codegen.pool import emit_pool

    target.machine()  # initialises LLVM
    module = ir.Module("library")
    module.triple, module.data_layout = target.triple, target.data_layout
    for f in functions:
        emit_entry(module, f, target)
    if metadata:
        data = bytes_data(module, metadata, METADATA)
        data.linkage = "weak"  # one of several stands when libraries are linked into one program
        length = ir.GlobalVariable(module, I64, METADATA_BYTES)
        length.linkage = "weak"
        length.global_constant = True
        length.initializer = const(I64, len(metadata))
    public = {name for f in functions for name in (f.name, f"{f.name}_workspace", f"{f.name}_error")}
    public |= {k.abi.name for f in functions for k in f.kernels}
    public |= {METADATA, METADATA_BYTES}
    texts = [k.text for f in functions for k in f.kernels] + list(more)
    if uses_pool(functions):
        texts.append(str(emit_pool(target)))
    linked = llvm.parse_assembly(str(module))
    for text in texts:
        linked.link_in(llvm.parse_assembly(text))
    linked.verify()
    renamed = exported_pool(library)
    for value in [*linked.functions, *linked.global_variables]:
        if value.is_declaration:
            continue
        if value.name in renamed:
            value.name = renamed[value.name]
        elif value.name not in public and value.linkage.name == "external":
            value.linkage = "internal"
    optimise(linked, target, inline=True)
    return linked
