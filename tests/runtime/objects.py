"""Object code for the tests of the runtime: LLVM text or an emitted module, compiled for this machine."""

from __future__ import annotations

from functools import cache
from typing import Any

from stager.codegen.target import Target


def compiled(module: Any) -> bytes:
    """The object of a module or of LLVM text."""
    import llvmlite.binding as llvm

    machine = Target.host().machine(2)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return bytes(machine.emit_object(parsed))


@cache
def pool_object() -> bytes:
    from stager.codegen.pool import emit_pool

    return compiled(emit_pool(Target.host()))


@cache
def buffers_object() -> bytes:
    from stager.codegen.buffers import emit_buffers

    return compiled(emit_buffers(Target.host()))


@cache
def blas_threads_object() -> bytes:
    from stager.codegen.blas import emit_blas_threads

    return compiled(emit_blas_threads(Target.host()))
