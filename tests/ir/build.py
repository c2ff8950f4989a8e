"""Graphs by hand, for the tests of the IR: `b = Build(); x = b.input("f64[3,n]"); b.done(b.mul(x, x))`.

Any op is a method (`b.transpose(x, perm=(1, 0))`); a symbol in an input's type is defined by that dim
unless it is already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import stager.ops  # noqa: F401  # fills the op table
from stager.ir.dims import Dim, parse_dim, symbol
from stager.ir.dtypes import dtype_named, dtype_of
from stager.ir.graph import Graph, GraphBuilder, SymbolDef, Value
from stager.ir.op import OPS, op_named
from stager.ir.types import Type, parse_type


class Build:
    def __init__(self, name: str = "main") -> None:
        self.builder = GraphBuilder(name=name)
        self.g: Graph = self.builder.graph

    def input(self, type: str | Type) -> Value:
        t = parse_type(type) if isinstance(type, str) else type
        value = self.builder.input(t)
        for axis, d in enumerate(t.shape):
            if not isinstance(d, int) and d == symbol(str(d)) and str(d) not in self.g.symbols:
                self.g.symbols[str(d)] = SymbolDef("shape", len(self.g.inputs) - 1, axis)
        return value

    def value_symbol(self, name: str, source: Value) -> Dim:
        """The symbol `name`, the value of an integer scalar input."""
        return self.g.new_symbol(SymbolDef("value", self.g.inputs.index(source)), name)

    def data_symbol(self, name: str, source: Value) -> Dim:
        return self.g.new_symbol(SymbolDef("data", source), name)

    def fill(self, value: Any, shape: Sequence[Any] = (), dtype: str = "f64") -> Value:
        dims = tuple(parse_dim(d) if isinstance(d, str) else d for d in shape)
        return self.builder.emit(op_named("fill"), (), {"value": value, "shape": dims, "dtype": dtype_named(dtype)})[0]

    def constant(self, value: Any, dtype: Any = None) -> Value:
        return self.builder.emit(op_named("constant"), (), {"value": np.asarray(value, dtype)})[0]

    def convert(self, x: Value, dtype: str) -> Value:
        return self.builder.emit(op_named("convert"), (x,), {"dtype": dtype_of(dtype_named(dtype))})[0]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        op = OPS.get(name) or OPS.get(name.rstrip("_"))
        if op is None:
            raise AttributeError(name)

        def emit(*args: Value, regions: Sequence[Graph] = (), **params: Any) -> Any:
            results = self.builder.emit(op, args, params, regions)
            return results if op.multiple_results or len(results) != 1 else results[0]

        return emit

    def done(self, *outputs: Value) -> Graph:
        self.g.outputs = list(outputs)
        return self.g


def chain(length: int) -> Graph:
    """A chain of elementwise ops, `length` long."""
    b = Build()
    x = b.input("f64[n]")
    y = x
    steps = (b.sin, lambda v: b.add(v, x), lambda v: b.mul(v, v))
    for i in range(length):
        y = steps[i % 3](y)
    return b.done(y)
