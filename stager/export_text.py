"""The text of an exported function: a record of how it is called, in one line of JSON, and the graph's own text.

    stager export 1
    sha256 0f3a…
    {"name": "loss", "parameters": …, "results": …}
    stager 1
    graph loss(%0: f64[3], %1: f64[n,3]) {
      …
    }

`read` runs nothing that the text says: no eval, no pickle, no import; what it names must be an op or one of the classes
that the caller gives. Every text that `write` has ever written can be read; a format that changes gets the next number
here and keeps the reader of the old one (docs/export.md, tests/exports/).
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from stager.errors import StagerError
from stager.ir.dims import Dim, parse_dim, symbol, symbols_of
from stager.ir.graph import Graph
from stager.ir.op import OPS, Op
from stager.ir.parse import ParseError, parse_graph, parse_param
from stager.ir.text import format_float, format_param, print_graph
from stager.ir.verify import VerificationError, verify
from stager.runtime.structure import LEAF, NONE, Structure

EXPORT_VERSION = 1
HEADER = "stager export "
REQUIRED: Any = object()  # of a parameter: it has no default

KINDS = ("positional-only", "positional", "*", "keyword-only", "**")  # of parameters, as inspect numbers them


class ExportError(StagerError, ValueError):
    """A function that cannot be exported, or a text that cannot be imported."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of the Python function. `default` is an atom or REQUIRED."""

    name: str
    kind: int
    default: Any = REQUIRED


@dataclass(frozen=True)
class LeafRecord:
    """One leaf of the arguments. kind "array", "float", "int" (the next graph input), or "static" (always `value`)."""

    kind: str
    value: Any = None


@dataclass(frozen=True)
class ResultRecord:
    """One leaf of the results. kind "value": graph output `index`, a Python number if `python`; "input": leaf `index`
    itself; "view": views (`path`) of leaf `index`; "view_output": views of output `index`; "static": `value`."""

    kind: str
    index: int = 0
    path: tuple[tuple[Op, dict[str, Any]], ...] = ()
    value: Any = None
    python: bool = False


@dataclass(frozen=True)
class Record:
    """All that is known of an exported function. `leaves` are the arguments'; the graph takes `captured` behind them.
    writes: (leaf or len(leaves) + captured array, graph output). guards: (dim, low, high) that the trace relied on."""

    name: str
    parameters: tuple[Parameter, ...]
    structure: Structure
    leaves: tuple[LeafRecord, ...]
    captured: dict[str, np.ndarray[Any, Any]]
    results: tuple[ResultRecord, ...]
    result_structure: Structure
    writes: tuple[tuple[int, int], ...]
    guards: tuple[tuple[Dim, int, int], ...]
    graph: Graph

    def signature(self) -> inspect.Signature:
        """How Python calls it. ValueError when the parameters fit no function."""
        empty = inspect.Parameter.empty
        made = []
        for p in self.parameters:
            default = empty if p.default is REQUIRED else p.default
            made.append(inspect.Parameter(p.name, inspect._ParameterKind(p.kind), default=default))
        return inspect.Signature(made)


# -- writing -----------------------------------------------------------------------------------------------------------


def write(record: Record) -> str:
    """The text of a record. ExportError for what it cannot hold."""
    told = {
        "name": record.name,
        "parameters": [
            [p.name, KINDS[p.kind], *([] if p.default is REQUIRED else [_atom(p.default)])] for p in record.parameters
        ],
        "structure": _structure(record.structure),
        "leaves": [_atom_of_leaf(leaf) for leaf in record.leaves],
        "captured": [[name, format_param(array)] for name, array in record.captured.items()],
        "results": [_result(r) for r in record.results],
        "result_structure": _structure(record.result_structure),
        "writes": [list(w) for w in record.writes],
        "guards": [[str(d), low, high] for d, low, high in record.guards],
    }
    body = json.dumps(told, ensure_ascii=False) + "\n" + print_graph(record.graph, version=True) + "\n"
    return f"{HEADER}{EXPORT_VERSION}\nsha256 {_digest(body)}\n{body}"


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()


def _atom_of_leaf(leaf: LeafRecord) -> Any:
    return {"static": _atom(leaf.value)} if leaf.kind == "static" else leaf.kind


def _result(r: ResultRecord) -> Any:
    match r.kind:
        case "static":
            return {"static": _atom(r.value)}
        case "value":
            return {"value": r.index, "python": True} if r.python else {"value": r.index}
        case "input":
            return {"input": r.index}
    steps = [[op.name, {k: format_param(v) for k, v in params.items()}] for op, params in r.path]
    return {r.kind: r.index, "path": steps}


def _structure(s: Structure) -> Any:
    if s.kind == "leaf":
        return "*"
    if s.kind == "none":
        return None
    children = [_structure(c) for c in s.children]
    if s.kind in ("tuple", "list"):
        return {s.kind: children}
    if s.kind == "dict":
        keys: Any = s.keys
        kind = "ordered" if s.cls is OrderedDict else "dict"
        return {kind: [[_atom(k), c] for k, c in zip(keys, children, strict=True)]}
    assert s.cls is not None
    return {s.kind: class_name(s.cls), "keys": _atom(s.keys), "children": children}


def class_name(cls: type) -> str:
    """What a text calls a container class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _atom(x: Any) -> Any:
    """A plain value as JSON: what a key, a static argument or a default can be."""
    if x is None or isinstance(x, bool | str) or type(x) is int:
        return x
    if type(x) is float:
        return {"float": format_float(x)}
    if type(x) is complex:
        return {"complex": [format_float(x.real), format_float(x.imag)]}
    if type(x) is tuple:
        return {"tuple": [_atom(v) for v in x]}
    if type(x) is slice:
        return {"slice": [_atom(x.start), _atom(x.stop), _atom(x.step)]}
    if x is Ellipsis:
        return {"ellipsis": True}
    if isinstance(x, np.dtype):
        return {"dtype": x.str}
    if isinstance(x, type) and issubclass(x, np.generic):
        return {"scalar": np.dtype(x).str}
    raise ExportError(f"the text of an exported function cannot hold a {type(x).__name__}: {x!r}")


# -- reading -----------------------------------------------------------------------------------------------------------


def read(text: str, containers: Sequence[type] = ()) -> Record:
    """The record of a text. `containers`: the classes that it may name. ExportError says what is wrong with it."""
    import stager.opset  # noqa: F401  (its ops can be named in the text)

    head, _, rest = text.partition("\n")
    version = head.removeprefix(HEADER).strip()
    if not head.startswith(HEADER) or not version.isdecimal() or len(version) > 9:
        raise ExportError(f"this is not the text of an exported function, which begins with '{HEADER}{EXPORT_VERSION}'")
    if int(version) > EXPORT_VERSION:
        raise ExportError(
            f"the text has export version {int(version)}, this stager reads up to {EXPORT_VERSION}; use a newer stager"
        )
    checksum, _, body = rest.partition("\n")
    if checksum.strip() != f"sha256 {_digest(body)}":
        raise ExportError("the text is damaged: its content does not have the checksum of its second line")
    line, _, graph_text = body.partition("\n")
    try:
        graph = parse_graph(graph_text)
        verify(graph)
        record = _record(json.loads(line), graph, {class_name(c): c for c in containers})
        _check(record)
    except ExportError:
        raise
    except ParseError as e:
        raise ExportError(f"the graph in the text cannot be read: {e}") from None
    except VerificationError as e:
        raise ExportError(f"the graph in the text is not valid: {e}") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as e:
        raise ExportError(f"the text is damaged: {type(e).__name__}: {e}") from None
    return record


def _need(condition: object, what: str) -> None:
    if not condition:
        raise ExportError(f"the text is damaged: {what}")


def _record(told: Any, graph: Graph, containers: Mapping[str, type]) -> Record:
    return Record(
        _text(told["name"]),
        tuple([_parameter(p) for p in told["parameters"]]),
        _read_structure(told["structure"], containers),
        tuple([_read_leaf(x) for x in told["leaves"]]),
        {_text(name): _read_array(text) for name, text in told["captured"]},
        tuple([_read_result(r) for r in told["results"]]),
        _read_structure(told["result_structure"], containers),
        tuple([(_index(i), _index(o)) for i, o in told["writes"]]),
        tuple([(parse_dim(_text(d)), _integer(low), _integer(high)) for d, low, high in told["guards"]]),
        graph,
    )


def _text(x: Any) -> str:
    _need(isinstance(x, str), f"{x!r} is not a text")
    return str(x)


def _integer(x: Any) -> int:
    _need(type(x) is int, f"{x!r} is not an integer")
    return int(x)


def _index(x: Any) -> int:
    _need(type(x) is int and x >= 0, f"{x!r} is not an index")
    return int(x)


def _parameter(told: Any) -> Parameter:
    name, kind, *default = told
    _need(_text(name).isidentifier() and len(default) <= 1, f"{told!r} is not a parameter")
    return Parameter(name, KINDS.index(kind), _read_atom(default[0]) if default else REQUIRED)


def _read_leaf(told: Any) -> LeafRecord:
    if isinstance(told, dict):
        return LeafRecord("static", _read_atom(told["static"]))
    _need(told in ("array", "float", "int"), f"no leaf is of kind {told!r}")
    return LeafRecord(told)


def _read_array(text: Any) -> np.ndarray[Any, Any]:
    array = parse_param(_text(text))
    _need(isinstance(array, np.ndarray), f"{text[:40]!r} is not an array")
    return np.array(array)


def _read_result(told: Any) -> ResultRecord:
    if "static" in told:
        return ResultRecord("static", value=_read_atom(told["static"]))
    if "value" in told:
        return ResultRecord("value", _index(told["value"]), python=told.get("python") is True)
    if "input" in told:
        return ResultRecord("input", _index(told["input"]))
    kind = "view" if "view" in told else "view_output"
    return ResultRecord(kind, _index(told[kind]), tuple([_read_step(*step) for step in told["path"]]))


def _read_step(name: Any, params: Any) -> tuple[Op, dict[str, Any]]:
    op = OPS.get(_text(name))
    _need(op is not None and op.family == "view", f"no view op is called {name!r}")
    assert op is not None
    return op, {_text(k): parse_param(_text(v)) for k, v in params.items()}


def _read_structure(told: Any, containers: Mapping[str, type]) -> Structure:
    if told == "*":
        return LEAF
    if told is None:
        return NONE
    for kind, cls in (("tuple", tuple), ("list", list)):
        if kind in told:
            return Structure(kind, cls, None, tuple([_read_structure(c, containers) for c in told[kind]]))
    for kind, ordered in (("dict", dict), ("ordered", OrderedDict)):
        if kind in told:
            keys = tuple([_read_atom(k) for k, _ in told[kind]])
            _need(len(set(keys)) == len(keys), "a dict has a key twice")
            return Structure("dict", ordered, keys, tuple([_read_structure(c, containers) for _, c in told[kind]]))
    for kind in ("namedtuple", "dataclass", "registered"):
        if kind in told:
            return _read_class(kind, told, containers)
    raise ExportError(f"the text is damaged: no container is {told!r}")


def _read_class(kind: str, told: Any, containers: Mapping[str, type]) -> Structure:
    name, keys = _text(told[kind]), _read_atom(told["keys"])
    cls: Any = containers.get(name)
    if cls is None:
        remedy = f"give it as import_(..., containers=[{name.rpartition('.')[2]}])"
        raise ExportError(f"the text uses the class {name}: {remedy}")
    own = None
    if kind == "namedtuple":
        own = getattr(cls, "_fields", None)
    elif kind == "dataclass" and is_dataclass(cls):
        own = tuple([f.name for f in fields(cls)])
    if kind != "registered" and own != keys:
        raise ExportError(f"the text uses {name} with the fields {keys}, the class has {own}")
    children = tuple([_read_structure(c, containers) for c in told["children"]])
    _need(kind == "registered" or len(children) == len(keys), f"{name} has {len(children)} fields")
    return Structure(kind, cls, keys, children)


def _read_atom(told: Any) -> Any:
    if not isinstance(told, dict):
        _need(told is None or isinstance(told, bool | str | int), f"{told!r} is not a plain value")
        return told
    ((kind, value),) = told.items()
    match kind:
        case "float":
            return parse_param(_text(value)) if "nan" in value else float(value)
        case "complex":
            real, imag = value
            return complex(_read_atom({"float": real}), _read_atom({"float": imag}))
        case "tuple":
            return tuple([_read_atom(v) for v in value])
        case "slice":
            return slice(*[_read_atom(v) for v in value])
        case "ellipsis":
            return Ellipsis
        case "dtype":
            return _dtype(value)
        case "scalar":
            return _dtype(value).type
    raise ExportError(f"the text is damaged: no plain value is a {kind!r}")


def _dtype(text: Any) -> np.dtype[Any]:
    _need(_text(text)[1:2] in ("b", "i", "u", "f", "c") and len(text) <= 4, f"{text!r} is not a dtype")
    made: np.dtype[Any] = np.dtype(text)
    return made


def _check(r: Record) -> None:
    """The parts fit each other."""
    traced = sum(leaf.kind != "static" for leaf in r.leaves)
    places, outputs = len(r.leaves) + len(r.captured), len(r.graph.outputs)
    _need(r.structure.leaves == len(r.leaves), "the arguments have another number of leaves")
    _need(r.structure.kind == "tuple" and len(r.structure.children) == 2, "the arguments are not (args, kwargs)")
    _need(r.result_structure.leaves == len(r.results), "the results have another number of leaves")
    _need(traced + len(r.captured) == len(r.graph.inputs), "the graph has another number of inputs")
    for array, v in zip(r.captured.values(), r.graph.inputs[traced:], strict=True):
        _need((v.type.dtype.np, v.type.shape) == (array.dtype, array.shape), "a captured array is not of its type")
    known = [*[leaf.kind != "static" for leaf in r.leaves], *[True] * len(r.captured)]
    for i, o in r.writes:
        _need(i < places and known[i] and o < outputs, "a written array does not exist")
    for x in r.results:
        ok = x.index < outputs if x.kind in ("value", "view_output") else x.kind == "static" or x.index < places
        _need(ok and (x.kind not in ("input", "view") or known[x.index]), "a result does not exist")
    sizes = {name for name, d in r.graph.symbols.items() if d.kind == "shape"}
    for v in r.graph.inputs:
        ok = all(isinstance(d, int) or (str(d) in sizes and d == symbol(str(d))) for d in v.type.shape)
        _need(ok, f"an argument is a {v.type}")
    _need(all(d.kind != "stride" for d in r.graph.symbols.values()), "a size follows from strides")
    for d, _, _ in r.guards:
        _need(symbols_of(d) <= sizes, f"{d} is not a dim of the arguments")
    r.signature()
