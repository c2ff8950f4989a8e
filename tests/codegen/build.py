"""Graphs written by hand: a NumPy-like spelling over `GraphBuilder`, for tests of code generation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import stager.ops  # noqa: F401  (fills the op table)
from stager.ir.dims import Dim
from stager.ir.dtypes import DType, b1, dtype_of, f64, i64
from stager.ir.graph import Graph, GraphBuilder, SymbolDef, Value
from stager.ir.op import op_named
from stager.ir.types import Type, parse_type


class G:
    """A graph under construction: `g.input("f64[3]")`, `g.add(x, y)`, `g.sum(x, 0)`."""

    def __init__(self, name: str = "main") -> None:
        self.builder = GraphBuilder(name=name)
        self.graph = self.builder.graph

    def input(self, type: str | Type, name: str | None = None) -> Value:
        return self.builder.input(parse_type(type) if isinstance(type, str) else type, name)

    def symbol(self, name: str, source: Value, axis: int = 0, kind: str = "shape") -> Any:
        return self.graph.new_symbol(SymbolDef(kind, source, axis), name)

    def emit(self, op: str, *args: Value, regions: Sequence[Graph] = (), **params: Any) -> Any:
        out = self.builder.emit(op_named(op), args, params, regions)
        return out[0] if len(out) == 1 else out

    def output(self, *values: Value) -> Graph:
        self.graph.outputs.extend(values)
        return self.graph

    def fill(self, value: Any, shape: tuple[Dim, ...] = (), dtype: DType = f64) -> Value:
        return self.emit("fill", value=value, shape=tuple(shape), dtype=dtype)

    def iota(self, size: Dim, dtype: DType = i64) -> Value:
        return self.emit("iota", size=size, dtype=dtype)

    def constant(self, value: Any) -> Value:
        return self.emit("constant", value=np.asarray(value))

    def _operands(self, args: Sequence[Any]) -> list[Value]:
        values = [a for a in args if isinstance(a, Value)]
        ndim = max(v.type.ndim for v in values)
        shape: list[Dim] = [1] * ndim
        for v in values:
            for k, d in enumerate(v.shape):
                at = ndim - v.type.ndim + k
                if shape[at] == 1:
                    shape[at] = d
        out = []
        for a in args:
            if not isinstance(a, Value):
                a = self.fill(a, tuple(shape), values[0].type.dtype)
            elif a.shape != tuple(shape):
                a = self.broadcast(a, tuple(shape))
            out.append(a)
        return out

    def broadcast(self, x: Value, shape: tuple[Dim, ...], axes: tuple[int, ...] | None = None) -> Value:
        axes = tuple(range(len(shape) - x.type.ndim, len(shape))) if axes is None else axes
        return self.emit("broadcast", x, shape=tuple(shape), axes=axes)

    def convert(self, x: Value, dtype: Any) -> Value:
        return self.emit("convert", x, dtype=dtype_of(dtype))

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if op_named(name).family != "elementwise":
            raise AttributeError(name)
        return lambda *args: self.emit(name, *self._operands(args))

    def sum(self, x: Value, *axes: int, kind: str = "sum", keepdims: bool = False) -> Value:
        axes = axes or tuple(range(x.type.ndim))
        out = self.emit(f"reduce_{kind}", x, axes=tuple(sorted(axes)))
        if keepdims:
            out = self.reshape(out, tuple(1 if k in axes else d for k, d in enumerate(x.shape)))
        return out

    def max(self, x: Value, *axes: int, keepdims: bool = False) -> Value:
        return self.sum(x, *axes, kind="max", keepdims=keepdims)

    def reshape(self, x: Value, shape: tuple[Dim, ...]) -> Value:
        return self.emit("reshape", x, shape=tuple(shape))

    def transpose(self, x: Value, *perm: int) -> Value:
        return self.emit("transpose", x, perm=perm or tuple(range(x.type.ndim))[::-1])

    def slice(self, x: Value, *slices: slice | int) -> Value:
        starts, sizes, steps, drop = self._slices(x, slices)
        out = self.emit("slice", x, starts=starts, sizes=sizes, steps=steps)
        if drop:
            out = self.reshape(out, tuple(d for k, d in enumerate(out.shape) if k not in drop))
        return out

    def update(self, x: Value, value: Value, *slices: slice | int) -> Value:
        starts, sizes, steps, _ = self._slices(x, slices)
        if value.shape != sizes:
            value = self.reshape(value, sizes)
        return self.emit("slice_update", x, value, starts=starts, sizes=sizes, steps=steps)

    @staticmethod
    def _slices(x: Value, slices: Sequence[Any]) -> tuple[Any, Any, Any, set[int]]:
        starts: list[Dim] = [0] * x.type.ndim
        sizes: list[Dim] = list(x.shape)
        steps = [1] * x.type.ndim
        drop = set()
        for k, s in enumerate(slices):
            if not isinstance(s, slice):
                starts[k], sizes[k] = s, 1
                drop.add(k)
            elif isinstance(x.shape[k], int) and all(isinstance(v, int | None) for v in (s.start, s.stop)):
                r = range(x.shape[k])[s]  # type: ignore[index]
                starts[k], sizes[k], steps[k] = r.start, len(r), r.step
            else:
                starts[k] = s.start or 0
                sizes[k] = (x.shape[k] if s.stop is None else s.stop) - starts[k]
        return tuple(starts), tuple(sizes), tuple(steps), drop

    def gather(
        self, x: Value, *idx: Value, axes: tuple[int, ...] = (0,), batch_dims: int = 0, mode: str = "check"
    ) -> Value:
        return self.emit("gather", x, *idx, axes=axes, batch_dims=batch_dims, mode=mode)

    def loop(
        self,
        lower: Any,
        upper: Any,
        carries: Sequence[Value],
        body: Callable[..., Any],
        captures: Sequence[Value] = (),
        step: int = 1,
    ) -> Any:
        """body(g, i, symbol of i, *carries, *captures) -> carries'."""
        inner = G("body")
        i = inner.input("i64[]")
        ins = [inner.input(v.type) for v in (*carries, *captures)]
        s = inner.graph.new_symbol(SymbolDef("value", 0), "i")
        out = body(inner, i, s, *ins)
        inner.output(*(out if isinstance(out, tuple | list) else (out,)))
        bounds = [self.fill(v, (), i64) if not isinstance(v, Value) else v for v in (lower, upper)]
        return self.emit("for", *bounds, *carries, *captures, regions=(inner.graph,), step=step, n_carry=len(carries))


__all__ = ["G", "b1", "f64", "i64"]
