"""print: values in memory, and one call into the process that runs the code (`stager_print`, `runtime/printing.py`)."""

from __future__ import annotations

import json
from typing import Any

import llvmlite.ir as ir

from stager.codegen.emit import I8, I32, I64, PTR, FunctionEmitter
from stager.codegen.program import Routine
from stager.codegen.routines import RoutineSpec

PRINT = "stager_print"


def _text(e: FunctionEmitter, content: str) -> Any:
    """A NUL-terminated constant."""
    data = bytearray(content.encode() + b"\0")
    t = ir.ArrayType(I8, len(data))
    found = ir.GlobalVariable(e.module, t, e.module.get_unique_name(".text"))
    found.linkage = "private"
    found.global_constant = True
    found.initializer = ir.Constant(t, data)
    found.type = PTR
    return found


def emit(e: FunctionEmitter, call: Routine) -> None:
    b, params = e.b, call.node.params
    dims = [d for buffer in call.inputs for d in buffer.shape]
    values = e.alloca(ir.ArrayType(PTR, max(1, len(call.inputs))), "values", 8)
    extents = e.alloca(ir.ArrayType(I64, max(1, len(dims))), "extents", 8)
    for k, buffer in enumerate(call.inputs):
        b.store(e.pointer(buffer), e.offset(values, 8 * k), align=8)
    for k, d in enumerate(dims):
        b.store(e.dim(d), e.offset(extents, 8 * k), align=8)
    text = json.dumps([params["format"], params["end"]])
    types = " ".join(f"{buffer.dtype} {len(buffer.shape)}" for buffer in call.inputs)
    f = e.external(PRINT, I32, [PTR, PTR, PTR, PTR])
    b.call(f, [_text(e, text), _text(e, types), extents, values])


ROUTINE = RoutineSpec("print", ("print",), emit)
