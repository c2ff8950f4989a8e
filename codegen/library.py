"""Built libraries: kernels, their C entries, the thread pool and the buffers, linked into one module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from stager.codegen.c_entry import Function, emit_entry
from stager.codegen.structured import I64, bytes_data, const
from stager.codegen.target import Target


def emit_library(functions: Sequence[Function], target: Target, *, metadata: bytes = b"") -> Any:
    """The LLVM module (llvmlite.binding) of a whole library, optimised."""
    import llvmlite.binding as llvm

    from stager.codegen.buffers import emit_buffers
    from stager.codegen.pool import emit_pool

    module = ir.Module("library")
    module.triple, module.data_layout = target.triple, target.data_layout
    for f in functions:
        emit_entry(module, f)
    if metadata:
        data = bytes_data(module, metadata, "stager_metadata")
        data.linkage = ""
        length = ir.GlobalVariable(module, I64, "stager_metadata_bytes")
        length.global_constant = True
        length.initializer = const(I64, len(metadata))
    public = {name for f in functions for name in (f.name, f"{f.name}_workspace", f"{f.name}_error", f.abi.name)}
    public |= {"stager_metadata", "stager_metadata_bytes", "stager_pool_set_threads", "stager_pool_stop"}
    linked = llvm.parse_assembly(str(module))
    for text in [f.text for f in functions] + [str(emit_pool(target)), str(emit_buffers(target))]:
        linked.link_in(llvm.parse_assembly(text))
    linked.verify()
    for value in [*linked.functions, *linked.global_variables]:
        if not value.is_declaration and value.name not in public and value.linkage.name == "external":
            value.linkage = "internal"
    machine = target.machine(opt=3)
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(linked, builder)
    return linked
