"""Traced integers as dims: the bridge from a value to a symbol of the graph."""

from __future__ import annotations

from typing import Any

from stager.array import Array
from stager.errors import ConcretizationError, describe
from stager.interpreters.stack import nearest_stage
from stager.ir.dims import Dim
from stager.ir.dtypes import i64
from stager.ir.graph import SymbolDef, Value
from stager.ops.elementwise import convert


def dim_of(x: Array) -> Dim:
    """The dim whose run-time value is the traced integer scalar x."""
    if x.type.dtype.kind not in "iu" or x.type.shape:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")
    value: Any = x.raw()
    if not isinstance(value, Value):
        raise ConcretizationError(describe("a size or slice bound differs between the lanes of a vmap or carries a derivative"))
    value = convert(value, dtype=i64)
    if value.node.op.name == "fill":
        return int(value.node.params["value"])
    if value.node.op.name == "dim":
        dim: Dim = value.node.params["dim"]
        return dim
    graph = nearest_stage().graph
    for name, definition in graph.symbols.items():
        if definition.kind in ("data", "value") and definition.source == value:
            from stager.ir.dims import symbol

            return symbol(name)
    found: Dim = graph.new_symbol(SymbolDef("data", value))
    return found
