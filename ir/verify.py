"""The invariants of the IR, checked: `verify(graph)` raises a VerificationError that shows the node and its neighbours.

A graph is valid when

1. every node's op is the one registered under its name, and every param is of a kind the text form can hold;
2. insertion order is topological: a node's operands are results of earlier nodes of the same graph;
3. each operand's type is its node's result type, dims are ints >= 0 or expressions, and running the op's type rule
   again gives the node's types (a data symbol made by the node itself stands for any dim);
4. `inputs[i]` is result 0 of the input node with index i, and there are no other input nodes; outputs belong to the
   graph;
5. every symbol mentioned by a type, a param or a layout is defined: "shape" by an input's dim that is that symbol,
   "stride" by an axis of an input, "value" by an integer scalar input, "data" by an integer scalar value of an earlier
   node (or of the node that mentions it); its name is an identifier and no word that a param could be;
6. a node that mentions a data symbol has an edge from the node that defines it;
7. the digraph's nodes and edges are exactly these: operands, data symbols, and the chain of effects in their order;
8. nodes with regions are control nodes; each region is valid by itself, so it mentions only its own symbols;
9. the signature's indices exist and fit: a written-back output and its input have one type, aliases too, a layout has
   a stride per axis.

This is about the form of a graph. What it computes is checked by the tests through `evaluate_graph`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.ir.core_ops import input_op
from stager.ir.dims import Dim, Expr, symbol, symbols_of
from stager.ir.dtypes import DType
from stager.ir.graph import Graph, Node, Value
from stager.ir.op import OPS
from stager.ir.regions import control_types
from stager.ir.text import RESERVED, print_graph, window
from stager.ir.types import Type


class VerificationError(AssertionError):
    """A graph that breaks an invariant: always a bug in stager, never a mistake of the user."""


_SCALARS = (int, float, complex, str, bool, DType, Type, Expr, np.generic, np.ndarray)


def verify(graph: Graph, when: str = "") -> None:
    """Raise VerificationError unless `graph` is valid. `when` says what has just been done to it ("after cse")."""
    _Verifier(graph, when).run()


class _Verifier:
    def __init__(self, graph: Graph, when: str = "") -> None:
        self.graph = graph
        self.when = f" {when}" if when else ""
        self.position: dict[Node, int] = {}
        self.mentions: dict[Node, set[str]] = {}

    def fail(self, what: str, node: Node | None = None) -> VerificationError:
        text = f"internal error in graph {self.graph.name!r}{self.when}: {what}"
        if node is not None:
            loc = f" (from {node.loc})" if node.loc is not None else ""
            return VerificationError(f"{text}{loc}\n{window(self.graph, node)}")
        return VerificationError(f"{text}\n{_excerpt(self.graph)}")

    def run(self) -> None:
        graph = self.graph
        has_symbols = bool(graph.symbols)
        for i, node in enumerate(graph.nodes):
            self.operands(node)
            self.position[node] = i
            self.params(node)
            self.types(node)
            if has_symbols or _mentions_any(node):
                self.mentions[node] = _mentioned(node)
        self.inputs_and_outputs()
        self.symbols()
        self.edges()
        self.signature()
        for node in graph.nodes:
            if node.regions:
                self.regions(node)

    def operands(self, node: Node) -> None:
        if OPS.get(node.op.name) is not node.op:
            raise self.fail(f"{node.op.name} is not the registered op of that name", node)
        for k, a in enumerate(node.args):
            if not isinstance(a, Value):
                raise self.fail(f"operand {k} of {node.op.name} is no Value but {a!r}", node)
            if a.node not in self.position:
                where = "stands later in the graph" if a.node in self.graph else "is not in the graph"
                raise self.fail(f"operand {k} of {node.op.name} comes from a node that {where}: {a.node!r}", node)
            if not 0 <= a.index < len(a.node.types) or a.node.types[a.index] != a.type:
                raise self.fail(f"operand {k} of {node.op.name} says {a.type}, its node {a.node!r} does not", node)

    def types(self, node: Node) -> None:
        for t in node.types:
            if type(t) is not Type or type(t.dtype) is not DType or type(t.shape) is not tuple:
                raise self.fail(f"{t!r} is no type", node)
            for d in t.shape:
                if not isinstance(d, Expr) and (type(d) is not int or d < 0):
                    raise self.fail(f"{d!r} is no dim (in {t})", node)
        if node.op is input_op:
            return
        arg_types = [a.type for a in node.args]
        try:
            inferred: Any
            if node.op.family == "control" and "inline" not in node.op.facts:
                inferred = control_types(node.op, node.args, node.params, node.regions, self.graph.symbols)
            elif node.op.family == "control":
                inferred = node.op.type_rule(*arg_types, regions=node.regions, **node.params)
            else:
                inferred = node.op.type_rule(*arg_types, **node.params)
        except Exception as e:
            raise self.fail(f"the type rule of {node.op.name} refuses this node: {type(e).__name__}: {e}", node) from e
        inferred = (inferred,) if isinstance(inferred, Type) else tuple(inferred)
        if inferred != node.types and not self.made_here(node, inferred):
            raise self.fail(f"{node.op.name} has types {_list(node.types)}, its type rule says {_list(inferred)}", node)

    def made_here(self, node: Node, inferred: tuple[Type, ...]) -> bool:
        """True when `inferred` differs only in dims that are data symbols defined by this very node."""
        own = {n for n, d in self.graph.symbols.items() if d.kind == "data" and d.source.node is node}
        if not own or len(inferred) != len(node.types):
            return False

        def fits(t: Type, u: Type) -> bool:
            if t.dtype is not u.dtype or t.ndim != u.ndim:
                return False
            pairs = zip(t.shape, u.shape, strict=True)
            return all(a == b or (isinstance(a, Expr) and symbols_of(a) <= own) for a, b in pairs)

        return all(map(fits, node.types, inferred))

    def params(self, node: Node) -> None:
        for key, value in node.params.items():
            if not _is_param(value):
                raise self.fail(f"param {key} of {node.op.name} is {value!r}, of {type(value)}", node)

    def inputs_and_outputs(self) -> None:
        graph = self.graph
        for i, v in enumerate(graph.inputs):
            if v.node.op is not input_op or v.node.params["index"] != i or v.index != 0 or v.node not in self.position:
                raise self.fail(f"inputs[{i}] is {v!r}, not the input node with index {i}", v.node)
        count = sum(1 for n in graph.nodes if n.op is input_op)
        if count != len(graph.inputs):
            raise self.fail(f"{count} input nodes but {len(graph.inputs)} inputs")
        for k, v in enumerate(graph.outputs):
            if v.node not in self.position:
                raise self.fail(f"output {k} comes from a node that is not in the graph: {v.node!r}")
            if not 0 <= v.index < len(v.node.types) or v.node.types[v.index] != v.type:
                raise self.fail(f"output {k} says {v.type}, its node does not", v.node)

    def symbols(self) -> None:
        graph = self.graph
        for name, d in graph.symbols.items():
            what = f"symbol {name} ({d.kind})"
            if not name.isidentifier() or name in RESERVED:
                raise self.fail(f"{name!r} cannot name a symbol")
            if d.kind == "data":
                if not isinstance(d.source, Value) or d.source.node not in self.position:
                    raise self.fail(f"{what} is defined by {d.source!r}, which is not in the graph")
                if d.source.node.op is input_op:
                    raise self.fail(f"{what} is defined by an input, which makes it a value")
                source_type = d.source.type
            else:
                if type(d.source) is not int or not 0 <= d.source < len(graph.inputs):
                    raise self.fail(f"{what} names input {d.source!r} of {len(graph.inputs)}")
                source_type = graph.inputs[d.source].type
            if d.kind in ("data", "value"):
                if source_type.shape != () or not source_type.dtype.is_integer:
                    raise self.fail(f"{what} is defined by a {source_type}, not by an integer scalar")
            elif d.kind in ("shape", "stride"):
                if not 0 <= d.axis < source_type.ndim:
                    raise self.fail(f"{what} names axis {d.axis} of {source_type}")
                if d.kind == "shape" and source_type.shape[d.axis] != symbol(name):
                    raise self.fail(f"{what} is not dim {d.axis} of its input, a {source_type}")
            else:
                raise self.fail(f"no symbol is of kind {d.kind!r}")
        for node, mentioned in self.mentions.items():
            for name in mentioned:
                d = graph.symbols.get(name)  # type: ignore[assignment]
                if d is None:
                    raise self.fail(f"{node.op.name} mentions the symbol {name}, which nothing defines", node)
                if d.kind == "data" and self.position[d.source.node] > self.position[node]:
                    raise self.fail(f"{node.op.name} mentions {name} before the node that defines it", node)
        for i, strides in graph.signature.layouts.items():
            undefined = symbols_of(tuple(strides)) - set(graph.symbols)
            if undefined:
                raise self.fail(f"the layout of input {i} mentions undefined symbols: {', '.join(sorted(undefined))}")

    def edges(self) -> None:
        graph = self.graph
        data = {n: d.source.node for n, d in graph.symbols.items() if d.kind == "data"}
        predecessors = graph.predecessors  # the digraph's own dicts: its views compare keys ten times as slowly
        last_ordered: Node | None = None
        expected = 0
        for node in graph.nodes:
            sources = {a.node for a in node.args}
            if node.ordered:
                if last_ordered is not None:
                    if last_ordered not in predecessors[node]:
                        raise self.fail(f"the effect {node.op.name} has no edge from the effect before it", node)
                    sources.add(last_ordered)
                last_ordered = node
            if data:
                mentioned = self.mentions.get(node, ())
                sources |= {data[name] for name in mentioned if name in data and data[name] is not node}
            actual = predecessors[node]
            if sources != actual.keys():
                missing = [n.op.name for n in sources if n not in actual]
                extra = [n.op.name for n in actual if n not in sources]
                raise self.fail(f"edges into {node.op.name}: missing from {missing}, too many from {extra}", node)
            expected += len(sources)
        edges = sum(map(len, graph.successors.values()))
        if edges != expected:
            raise self.fail(f"the digraph has {edges} edges, the nodes account for {expected}")

    def signature(self) -> None:
        graph, s = self.graph, self.graph.signature
        ins, outs = graph.input_types, graph.output_types

        def check(ok: bool, what: str) -> None:
            if not ok:
                raise self.fail(f"the signature says {what}")

        written: set[int] = set()
        for i, o in s.writes:
            check(0 <= i < len(ins) and 0 <= o < len(outs), f"output {o} is written to input {i}; one does not exist")
            check(ins[i] == outs[o], f"output {o}, a {outs[o]}, is written to input {i}, a {ins[i]}")
            check(i not in written, f"input {i} is written twice")
            written.add(i)
        for o, (kind, k) in s.aliases.items():
            others = ins if kind == "input" else outs
            check(kind in ("input", "output"), f"output {o} is an alias of a {kind}")
            check(0 <= o < len(outs) and 0 <= k < len(others), f"output {o} is {kind} {k}; one does not exist")
            check(kind == "input" or k < o, f"output {o} is output {k}, which does not come before it")
            check(outs[o] == others[k], f"output {o}, a {outs[o]}, is {kind} {k}, a {others[k]}")
        for i in s.donated:
            check(0 <= i < len(ins), f"input {i} is donated; it does not exist")
        for i, strides in s.layouts.items():
            check(0 <= i < len(ins) and len(strides) == ins[i].ndim, f"input {i} has the byte strides {strides}")

    def regions(self, node: Node) -> None:
        if node.op.family != "control":
            raise self.fail(f"{node.op.name} has regions but is no control op", node)
        for k, region in enumerate(node.regions):
            try:
                _Verifier(region).run()
            except VerificationError as e:
                raise self.fail(f"region {k} of {node.op.name} is invalid: {e}", node) from None


def _is_param(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_param, value))
    return value is None or isinstance(value, _SCALARS) or callable(value)


def _mentions_any(node: Node) -> bool:
    """True when a type or param of the node holds an expression (cheaper than collecting symbols)."""
    for t in node.types:
        if not t.is_static:
            return True
    return any(map(_has_expr, node.params.values()))


def _has_expr(value: Dim | Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_has_expr, value))
    return isinstance(value, Expr) or (isinstance(value, Type) and not value.is_static)


def _mentioned(node: Node) -> set[str]:
    return node.mentioned_symbols()


def _list(types: tuple[Type, ...]) -> str:
    return ", ".join(map(str, types)) or "none"


def _excerpt(graph: Graph) -> str:
    try:
        lines = print_graph(graph).splitlines()
    except Exception as e:  # a graph too broken to print
        return f"(cannot be printed: {e})"
    return "\n".join(lines if len(lines) <= 40 else [*lines[:20], "  …", *lines[-20:]])
