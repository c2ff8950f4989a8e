"""The one text form of a graph: what `str(graph)` shows, errors quote, goldens store and exported files hold.

    graph main(%0: f64[3,n], %1: f64[3]) {
      symbol n = shape(%0, 1)
      %2 = transpose %0, perm=(1, 0) : f64[n,3]
      %3 = broadcast %1, axes=(1,), shape=(n, 3) : f64[n,3]
      %4 = mul %2, %3 : f64[n,3]
      return %4
    }

`parse_graph(print_graph(g))` gives back the same graph: structure, types, params, regions, symbols and signature, and
printing that gives the same text. Values are numbered in order of definition, inputs first; the numbers of a region
go on where its node's operands stop. Floats are printed by shortest round-trip repr, other NaNs than the default one
by their bits, large arrays in base64. `locations=True` adds where each node comes from, `version=True` the first line
that exported files carry. Not here: MLIR, and checking that the text makes sense (`verify`).
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
from stager.ir.dims import Expr, parse_dim
from stager.ir.dtypes import DTYPES, DType, dtype_of
from stager.ir.graph import Graph, Location, Node, Signature, SymbolDef, Value
from stager.ir.op import OPS
from stager.ir.types import Type, parse_type

FORMAT_VERSION = 1
INLINE_ELEMENTS = 16  # constants up to this size are printed element by element

# Words that a param can be, so no symbol may be called so.
RESERVED = frozenset({"True", "False", "None", "inf", "nan", *DTYPES})

_CANONICAL_NAN = struct.pack("<d", float("nan"))


# -- printing --------------------------------------------------------------------------------------------------------


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


# -- parsing ---------------------------------------------------------------------------------------------------------


class ParseError(ValueError):
    """A text that is no graph; says which line and what was expected there."""


_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_HEADER = re.compile(r"(graph|region) (\S+?)\((.*)\) \{$")
_SYMBOL = re.compile(r"symbol (\w+) = (shape|stride|value|data)\(%(\d+)(?:, (\d+))?\)(?: hint (-?\d+))?$")
_WRITE = re.compile(r"write input (\d+) = output (\d+)$")
_ALIAS = re.compile(r"alias output (\d+) = (input|output) (\d+)$")
_DONATE = re.compile(r"donate input (\d+)$")
_LAYOUT = re.compile(r"layout input (\d+) = (.*)$")
_NODE = re.compile(
    r"(?:(?P<results>%[\d, %]+) = )?(?P<op>[A-Za-z_]\w*)(?: (?P<operands>(?!: ).*?))?(?: : (?P<types>.*?))?"
    r'(?: at (?P<file>"\d+"):(?P<line>\d+) in (?P<function>"\d+"))?(?: under (?P<path>"\d+"))?(?P<open> \{)?$'
)
_ARRAY = re.compile(r"([a-z]+\d+)\[([\d,]*)\]\{(.*)\}$", re.DOTALL)
_TYPE = re.compile(r"[a-z]+\d+\[.*\]$")
_NAN_BITS = re.compile(r"nan\(0x([0-9a-f]{16})\)$")
_COMPLEX = re.compile(r"complex\((.*)\)$")
_SEPARATOR = re.compile(r"[(\[{]|[)\]}]|,")


def parse_graph(text: str) -> Graph:
    """Parse what `print_graph` prints. ParseError names the line. Ops must have been declared (`import stager`)."""
    return _Parser(text).parse()


class _Parser:
    def __init__(self, text: str) -> None:
        self.lines = [line.strip() for line in text.splitlines()]
        self.at = 0  # the line after the current one, so its number counted from 1
        self.values: dict[int, Value] = {}
        self.types: dict[str, Type] = {}
        self.params: dict[str, Any] = {}

    def parse(self) -> Graph:
        line = self.next_line("'graph NAME(...) {'")
        if m := re.fullmatch(r"stager (\d+)", line):
            if int(m[1]) > FORMAT_VERSION:
                raise self.error(f"format version {m[1]} is newer than this stager reads ({FORMAT_VERSION})")
            line = self.next_line("'graph NAME(...) {'")
        graph = self.graph(line, "graph")
        while self.at < len(self.lines):
            self.at += 1
            if self.lines[self.at - 1]:
                raise self.error("text after the end of the graph")
        return graph

    def error(self, what: str) -> ParseError:
        line = self.lines[self.at - 1] if 0 < self.at <= len(self.lines) else ""
        return ParseError(f"line {self.at}: {what}\n  {line}")

    def next_line(self, expected: str) -> str:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if line:
                return line
        raise ParseError(f"the text ends where {expected} was expected")

    def graph(self, line: str, keyword: str) -> Graph:
        line, strings = _take_strings(line)
        m = _HEADER.match(line)
        if m is None or m[1] != keyword:
            raise self.error(f"expected '{keyword} NAME(%0: TYPE, ...) {{'")
        graph = Graph(json.loads(strings[int(m[2][1:-1])]) if m[2][0] == '"' else m[2])
        inputs = split_top(m[3])
        graph.meta["input_names"] = [None] * len(inputs)
        for i, part in enumerate(inputs):
            number, _, type_text = part.partition(":")
            node = graph.add(Node(input_op, (), {"index": i}, (self.type(type_text.strip()),)))
            value = Value(node)
            graph.inputs.append(value)
            self.define(number.strip(), value)
        positions = {v.node: i for i, v in enumerate(graph.inputs)}
        signature: dict[str, list[Any]] = {"writes": [], "aliases": [], "donated": [], "layouts": []}
        while True:
            line = self.next_line("'return'")
            if line.startswith("return"):
                graph.outputs = [self.value(v) for v in split_top(line[6:])]
                break
            if self.is_fact(graph, line, positions, signature):
                continue
            self.node(graph, line)
        writes, aliases = tuple(signature["writes"]), dict(signature["aliases"])
        graph.signature = Signature(writes, aliases, frozenset(signature["donated"]), dict(signature["layouts"]))
        if self.next_line("'}'") != "}":
            raise self.error("expected '}' after 'return'")
        return graph

    def is_fact(self, graph: Graph, line: str, positions: dict[Node, int], signature: dict[str, list[Any]]) -> bool:
        """Take a line that is no node: a symbol or a part of the signature."""
        if m := _SYMBOL.match(line):
            name, kind, source, axis, hint = m.groups()
            value = self.value(f"%{source}")
            if kind != "data" and value.node not in positions:
                raise self.error(f"a {kind} symbol is defined by a graph input, and %{source} is none")
            defined_by = value if kind == "data" else positions[value.node]
            graph.symbols[name] = SymbolDef(kind, defined_by, int(axis or 0), None if hint is None else int(hint))
        elif m := _WRITE.match(line):
            signature["writes"].append((int(m[1]), int(m[2])))
        elif m := _ALIAS.match(line):
            signature["aliases"].append((int(m[1]), (m[2], int(m[3]))))
        elif m := _DONATE.match(line):
            signature["donated"].append(int(m[1]))
        elif m := _LAYOUT.match(line):
            signature["layouts"].append((int(m[1]), self.param(m[2], [])))
        else:
            return False
        return True

    def node(self, graph: Graph, line: str) -> None:
        line, strings = _take_strings(line)
        m = _NODE.match(line)
        if m is None:
            raise self.error("expected '%N = OP %A, %B, param=value : TYPE'")
        op = OPS.get(m["op"])
        if op is None:
            raise self.error(f"no op is called {m['op']!r}")
        args: list[Value] = []
        params: dict[str, Any] = {}
        for part in split_top(m["operands"] or ""):
            if part[0] == "%":
                args.append(self.value(part))
                continue
            key, equals, value = part.partition("=")
            if not equals:
                raise self.error(f"expected an operand '%N' or 'param=value', not {part!r}")
            params[key] = self.param(value, strings)
        types = tuple(self.type(t) for t in split_top(m["types"] or ""))
        loc = None
        if m["file"]:
            loc = Location(_string(m["file"], strings), int(m["line"]), _string(m["function"], strings))
        path = tuple(_string(m["path"], strings).split("/")) if m["path"] else ()
        at = self.at
        regions = self.regions() if m["open"] else ()
        node = graph.add(Node(op, tuple(args), params, types, regions, loc, path))
        names = split_top(m["results"] or "")
        if len(names) != len(types):
            self.at = at
            raise self.error(f"{len(names)} results but {len(types)} types")
        for i, name in enumerate(names):
            self.define(name, Value(node, i))

    def regions(self) -> tuple[Graph, ...]:
        regions = []
        while (line := self.next_line("'}'")) != "}":
            regions.append(self.graph(line, "region"))
        return tuple(regions)

    def define(self, name: str, value: Value) -> None:
        number = int(name[1:])
        if number in self.values:
            raise self.error(f"{name} is defined twice")
        self.values[number] = value

    def value(self, name: str) -> Value:
        try:
            return self.values[int(name[1:])]
        except (KeyError, ValueError):
            raise self.error(f"{name} is not defined before this line") from None

    def type(self, text: str) -> Type:
        found = self.types.get(text)
        if found is None:
            try:
                found = self.types[text] = parse_type(text)
            except ValueError as e:
                raise self.error(str(e)) from None
        return found

    def param(self, text: str, strings: list[str]) -> Any:
        found = self.params.get(text)
        if found is None:
            try:
                found = _parse_param(text, strings)
            except ValueError as e:
                raise self.error(str(e)) from None
            if '"' not in text:
                self.params[text] = found
        return found


def parse_param(text: str) -> Any:
    """Parse what `format_param` prints. ValueError for anything else.

    >>> parse_param("(n, 3, f64[2]{1.0, 2.5})")
    (n, 3, array([1. , 2.5]))
    """
    return _parse_param(*_take_strings(text))


def _take_strings(line: str) -> tuple[str, list[str]]:
    """Replace every string literal by its number in quotes, so that what is left has no commas or colons of text."""
    if '"' not in line:
        return line, []
    strings: list[str] = []

    def take(m: re.Match[str]) -> str:
        strings.append(m[0])
        return f'"{len(strings) - 1}"'

    return _STRING.sub(take, line), strings


def _string(placeholder: str, strings: list[str]) -> str:
    return str(json.loads(strings[int(placeholder[1:-1])]))


def split_top(text: str) -> list[str]:
    """Split at commas outside brackets, stripped; no empty last part, so that `(1,)` has one."""
    if "(" not in text and "[" not in text and "{" not in text:
        parts = text.split(",")
    else:
        parts, depth, start = [], 0, 0
        for m in _SEPARATOR.finditer(text):
            ch = m[0]
            if ch == ",":
                if depth == 0:
                    parts.append(text[start : m.start()])
                    start = m.end()
            else:
                depth += 1 if ch in "([{" else -1
        parts.append(text[start:])
    parts = [p.strip() for p in parts]
    return parts if parts[-1] else parts[:-1]


_WORDS: dict[str, Any] = {
    "True": True, "False": False, "None": None,
    "inf": float("inf"), "-inf": float("-inf"), "nan": float("nan"), **DTYPES,
}  # fmt: skip


def _parse_param(text: str, strings: list[str]) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    first = text[:1]
    if first == "(" and text[-1] == ")":
        return tuple(_parse_param(part, strings) for part in split_top(text[1:-1]))
    if first == '"':
        return _string(text, strings)
    if first in "-0123456789":
        for convert in (int, float):
            try:
                return convert(text)
            except ValueError:
                continue
    if m := _ARRAY.match(text):
        return _parse_array(m[1], m[2], m[3], strings)
    if _TYPE.match(text):
        return parse_type(text)
    if m := _NAN_BITS.match(text):
        return struct.unpack("<d", struct.pack("<Q", int(m[1], 16)))[0]
    if m := _COMPLEX.match(text):
        real, imag = (_parse_param(part, strings) for part in split_top(m[1]))
        return complex(real, imag)
    if first == "<":
        raise ValueError(f"{text} is a Python function, which the text form cannot hold")
    return parse_dim(text)


def _parse_array(dtype: str, shape: str, body: str, strings: list[str]) -> np.ndarray[Any, Any]:
    d = DTYPES[dtype].np
    dims = tuple(int(s) for s in shape.split(",") if s)
    if body.startswith("base64 "):
        data = base64.b64decode(_string(body[7:], strings))
        array = np.frombuffer(data, dtype=d.newbyteorder("<")).astype(d).reshape(dims)
    else:
        array = np.array([_parse_param(v, strings) for v in split_top(body)], dtype=d).reshape(dims)
    array.flags.writeable = False
    return array


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
