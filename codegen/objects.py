"""Support modules (entry, thread pool, buffers) to object code: emitted once per machine, so fully optimised."""

from __future__ import annotations

from typing import Any

from stager.codegen.target import Target


def object_of(module: Any, target: Target) -> bytes:
    """Optimised object code of an llvmlite module."""
    import llvmlite.binding as llvm

    machine = target.machine(opt=3)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(parsed, passes)
    return bytes(machine.emit_object(parsed))
