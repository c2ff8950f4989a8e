"""From the text form of a graph (`ir/text.py`) back to the graph.

What comes from outside is read by patterns and names only: nothing is evaluated. Not here: whether the graph makes
sense (`verify`).
"""

from __future__ import annotations

import base64
import json
import re
import struct
from typing import Any

import numpy as np

from stager.ir.core_ops import input_op
from stager.ir.dims import parse_dim
from stager.ir.dtypes import DTYPES
from stager.ir.graph import Graph, Location, Node, Signature, SymbolDef, Value
from stager.ir.op import OPS
from stager.ir.text import FORMAT_VERSION
from stager.ir.types import Type, parse_type


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
