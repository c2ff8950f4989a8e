"""Calls of C functions that the user names, from lowering rules.

The declaration is marked `from_outside`, so that its name becomes an external of the ABI record and the loader (or the
linker of a built library) binds it. Such a function is pure, thread-safe and never calls Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as ir

from stager.codegen.registers import Val, element_type, lane_number, undefined
from stager.codegen.scalar import ScalarBuilder


def call_c(b: ScalarBuilder, symbol: str, args: Sequence[Val]) -> Val:
    """Emit the call in `b`, once per lane."""
    dtype = args[0].dtype
    if any(a.dtype is not dtype for a in args):
        raise TypeError(
            f"{symbol}: a C function takes arguments of one type, not {', '.join(a.dtype.name for a in args)}"
        )
    function = _declared(
        b.builder.module, symbol, ir.FunctionType(element_type(dtype), [element_type(dtype)] * len(args))
    )
    if b.width == 1:
        return Val(b.builder.call(function, [a.ir for a in args]), dtype)
    out = undefined(b.type(dtype))
    for lane in range(b.width):
        k = lane_number(lane)
        called = b.builder.call(function, [b.builder.extract_element(a.ir, k) for a in args])
        out = b.builder.insert_element(out, called, k)
    return Val(out, dtype)


def _declared(module: Any, symbol: str, signature: Any) -> Any:
    found = module.globals.get(symbol)
    if found is None:
        found = ir.Function(module, signature, symbol)
        found.attributes.add("nounwind")
        found.from_outside = True
    elif found.function_type != signature:
        raise TypeError(f"the C function {symbol} is called with two signatures, {found.function_type} and {signature}")
    return found


def symbols_from_outside(module: Any) -> list[str]:
    """The names of the C functions that a module calls."""
    return [f.name for f in module.functions if getattr(f, "from_outside", False)]
