"""The one text form of a graph: what `str(graph)` shows, errors quote, goldens store and exported files hold.

    graph main(%0: f64[3,n], %1: f64[3]) {
      symbol n = shape(%0, 1)
      %2 = transpose %0, perm=(1, 0) : f64[n,3]
      %3 = broadcast %1, axes=(1,), shape=(n, 3) : f64[n,3]
      %4 = mul %2, %3 : f64[n,3]
      return %4
    }

`parse_graph(print_graph(g))` (`ir/parse.py`) gives back the same graph: structure, types, params, regions, symbols and
signature, and printing that gives the same text. Values are numbered in order of definition, inputs first; the numbers
of a region go on where its node's operands stop. Floats are printed by shortest round-trip repr, other NaNs than the
default one by their bits, large arrays in base64. `locations=True` adds where each node comes from, `version=True` the
first line that exported files carry. Not here: MLIR, and checking that the text makes sense (`verify`).
"""

from __future__ import annotations

import base64
import json
import re
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stager.ir.core_ops import input_op
from stager.ir.dims import Expr
from stager.ir.dtypes import DTYPES, DType, dtype_of
from stager.ir.graph import Graph, Node, Signature, SymbolDef, Value
from stager.ir.types import Type

FORMAT_VERSION = 1
INLINE_ELEMENTS = 16  # constants up to this size are printed element by element

# Words that a param can be, so no symbol may be called so.
RESERVED = frozenset({"True", "False", "None", "inf", "nan", *DTYPES})

_CANONICAL_NAN = struct.pack("<d", float("nan"))


def print_graph(graph: Graph, *, locations: bool = False, version: bool = False) -> str:
    """The text of a graph.

    >>> from stager.ir.dtypes import f64
    >>> from stager.ir.graph import GraphBuilder
    >>> b = GraphBuilder()
    >>> b.graph.outputs = [b.input(Type(f64, (3,)))]
    >>> print(print_graph(b.graph))
    graph main(%0: f64[3]) {
      return %0
    }
    """
    printer = Printer(locations)
    lines = [f"stager {FORMAT_VERSION}"] if version else []
    printer.graph(graph, lines, "", "graph")
    return "\n".join(lines)


class Printer:
    """Numbers values and writes lines. Values that it has not numbered print as `%?`: it serves broken graphs too."""

    def __init__(self, locations: bool = False, param: Callable[[Any], str] | None = None) -> None:
        self.locations = locations
        self.param = param or format_param
        self.numbers: dict[Node, int] = {}
        self.next = 0

    def name(self, value: Value) -> str:
        base = self.numbers.get(value.node)
        return "%?" if base is None else f"%{base + value.index}"

    def define(self, node: Node) -> None:
        self.numbers[node] = self.next
        self.next += len(node.types)

    def graph(self, graph: Graph, lines: list[str], indent: str, keyword: str) -> None:
        for value in graph.inputs:
            self.define(value.node)
        name = graph.name if re.fullmatch(r"[\w.<>\-]+", graph.name) else json.dumps(graph.name)
        inputs = ", ".join(f"{self.name(v)}: {v.type}" for v in graph.inputs)
        lines.append(f"{indent}{keyword} {name}({inputs}) {{")
        inner = indent + "  "
        by_source: dict[Node, list[tuple[str, SymbolDef]]] = {}
        for symbol_name, definition in graph.symbols.items():
            if definition.kind == "data":
                by_source.setdefault(definition.source.node, []).append((symbol_name, definition))
            else:
                lines.append(inner + self.symbol(graph, symbol_name, definition))
        lines += [inner + line for line in _signature_lines(graph.signature)]
        for node in graph.nodes:
            if node.op is not input_op:
                self.node(node, lines, inner)
            for symbol_name, definition in by_source.get(node, ()):
                lines.append(inner + self.symbol(graph, symbol_name, definition))
        outputs = ", ".join(map(self.name, graph.outputs))
        lines.append(f"{inner}return {outputs}" if outputs else f"{inner}return")
        lines.append(indent + "}")

    def symbol(self, graph: Graph, name: str, d: SymbolDef) -> str:
        if d.kind in ("shape", "stride"):
            source = f"{self.name(graph.inputs[d.source])}, {d.axis}"
        elif d.kind == "value":
            source = self.name(graph.inputs[d.source])
        else:
            source = self.name(d.source)
        hint = "" if d.hint is None else f" hint {d.hint}"
        return f"symbol {name} = {d.kind}({source}){hint}"

    def node(self, node: Node, lines: list[str], indent: str) -> None:
        """Define the results of a node and append its lines."""
        operands = [self.name(a) for a in node.args]
        params = node.params
        operands += [f"{key}={self.param(params[key])}" for key in sorted(params)]
        text = node.op.name
        if operands:
            text += " " + ", ".join(operands)
        first = self.next
        self.define(node)
        if node.types:
            results = ", ".join(f"%{i}" for i in range(first, self.next))
            text = f"{results} = {text} : {', '.join(map(str, node.types))}"
        if self.locations:
            text += _location_text(node)
        if not node.regions:
            lines.append(indent + text)
            return
        lines.append(f"{indent}{text} {{")
        for region in node.regions:
            self.graph(region, lines, indent + "  ", "region")
        lines.append(indent + "}")


def _signature_lines(s: Signature) -> Iterator[str]:
    for i, o in s.writes:
        yield f"write input {i} = output {o}"
    for o, (kind, k) in sorted(s.aliases.items()):
        yield f"alias output {o} = {kind} {k}"
    for i in sorted(s.donated):
        yield f"donate input {i}"
    for i, strides in sorted(s.layouts.items()):
        yield f"layout input {i} = {format_param(strides)}"


def _location_text(node: Node) -> str:
    text = ""
    if node.loc is not None:
        text += f" at {json.dumps(node.loc.file)}:{node.loc.line} in {json.dumps(node.loc.function)}"
    if node.path:
        text += f" under {json.dumps('/'.join(node.path))}"
    return text


def format_float(v: float) -> str:
    """Shortest text that parses back to the same bits."""
    if v == v:
        return repr(v)
    bits = struct.pack("<d", v)
    return "nan" if bits == _CANONICAL_NAN else f"nan(0x{struct.unpack('<Q', bits)[0]:016x})"


def format_param(v: Any) -> str:
    """The text of one static parameter. TypeError for what the text form does not know."""
    t = type(v)
    if t is int or t is bool or v is None:
        return repr(v)
    if t is float:
        return format_float(v)
    if t is str:
        return json.dumps(v, ensure_ascii=False)
    if isinstance(v, tuple):
        inner = ", ".join(map(format_param, v))
        return f"({inner},)" if len(v) == 1 else f"({inner})"
    if t is Expr or t is DType or t is Type:
        return str(v)
    if isinstance(v, np.ndarray):
        return _format_array(v)
    if isinstance(v, np.generic):
        return format_param(v.item())
    if t is complex:
        return f"complex({format_float(v.real)}, {format_float(v.imag)})"
    if callable(v):
        return f"<{getattr(v, '__module__', '?')}.{getattr(v, '__qualname__', type(v).__qualname__)}>"
    raise TypeError(f"the text form has no spelling for a param of type {t.__name__}: {v!r}")


def _format_array(a: np.ndarray[Any, Any]) -> str:
    head = f"{dtype_of(a.dtype)}[{','.join(map(str, a.shape))}]"
    if a.size <= INLINE_ELEMENTS and (a.dtype.kind != "f" or not np.isnan(a).any()):
        return f"{head}{{{', '.join(format_param(v) for v in a.ravel().tolist())}}}"
    data = np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("<")).tobytes()
    return f'{head}{{base64 "{base64.b64encode(data).decode()}"}}'


def window(graph: Graph, node: Node, around: int = 4) -> str:
    """The lines of `graph` near `node`, which is marked: for internal errors. The graph may be broken."""

    def param(v: Any) -> str:
        try:
            return format_param(v)
        except TypeError:
            return f"<{type(v).__name__}>"

    printer = Printer(locations=True, param=param)
    for value in graph.inputs:
        printer.define(value.node)
    entries: list[tuple[Node, list[str]]] = []
    write: Callable[[Node, list[str], str], None] = printer.node
    for n in graph.nodes:
        if n.op is input_op:
            if n not in printer.numbers:
                printer.define(n)
            lines = [f"{printer.name(Value(n))} = input : {n.types[0]}"]
        else:
            lines = []
            write(n, lines, "")
        entries.append((n, lines))
    at = next((i for i, (n, _) in enumerate(entries) if n is node), None)
    if at is None:
        lines = []
        printer.node(node, lines, "")
        return "\n".join(["> " + line for line in lines])
    shown = entries[max(0, at - around) : at + around + 1]
    return "\n".join(("> " if n is node else "  ") + line for n, lines in shown for line in lines)
