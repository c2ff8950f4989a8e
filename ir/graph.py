"""`Node`, `Value` and `Graph`: pure operations in a networkx digraph.

Invariants (checked by `verify`): insertion order is a topological order; `Node.args` is the truth of operand order
(`x*x` uses one operand twice, the digraph has one edge); nodes never change, a pass builds a new graph; every symbol
mentioned by a type or param is defined in `Graph.symbols`.

A graph *holds* a digraph instead of being one, and makes it when it is asked for: neither this module nor a call that
finds its code on disk loads networkx.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from stager.ir.dims import Dim, symbol, symbols_of
from stager.ir.op import Op
from stager.ir.types import Type

_SYMBOL_FREE = frozenset({int, float, bool, str, complex, type(None)})


class Location(NamedTuple):
    """Where in the user's code a node comes from."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


class Node:
    """One application of an op. Immutable; identity is equality."""

    __slots__ = ("args", "loc", "op", "params", "path", "regions", "types")

    def __init__(
        self,
        op: Op,
        args: tuple[Value, ...],
        params: dict[str, Any],
        types: tuple[Type, ...],
        regions: tuple[Graph, ...] = (),
        loc: Location | None = None,
        path: tuple[str, ...] = (),
    ) -> None:
        self.op = op
        self.args = args
        self.params = params
        self.types = types
        self.regions = regions
        self.loc = loc  # the user's file and line
        self.path = path  # the transforms it passed through, outermost first: ("vmap", "grad")

    @property
    def outputs(self) -> tuple[Value, ...]:
        return (Value(self),) if len(self.types) == 1 else tuple([Value(self, i) for i in range(len(self.types))])

    @property
    def ordered(self) -> bool:
        """True for an effect, and for a control node with an effect in one of its regions."""
        if not self.regions:
            return self.op.ordered
        return self.op.ordered or any(region.has_effects for region in self.regions)

    @property
    def in_backward(self) -> bool:
        """True for what the backward pass of reverse mode emitted."""
        return bool(self.path) and self.path[-1] == "backward"

    @property
    def in_derivative(self) -> bool:
        """True for what forward or reverse mode emitted."""
        return "backward" in self.path or "jvp" in self.path

    def mentioned_symbols(self) -> set[str]:
        """The symbols in the node's types and params; a region's own are not among them."""
        mentioned: set[str] = set()
        for t in self.types:
            if not t.is_static:
                mentioned |= symbols_of(t.shape)
        for value in self.params.values():
            if type(value) not in _SYMBOL_FREE:
                mentioned |= symbols_of(value)
        return mentioned

    def __repr__(self) -> str:
        return f"<{self.op.name} -> {', '.join(map(str, self.types))}>"


class Value:
    """One result of a node: what operands refer to. Equal when node and index are."""

    __slots__ = ("index", "node", "type")

    def __init__(self, node: Node, index: int = 0) -> None:
        self.node = node
        self.index = index
        self.type = node.types[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and other.node is self.node and other.index == self.index

    def __hash__(self) -> int:
        return hash((id(self.node), self.index))

    @property
    def dtype(self) -> Any:
        return self.type.dtype

    @property
    def shape(self) -> tuple[Dim, ...]:
        return self.type.shape

    def __repr__(self) -> str:
        return f"<value {self.index} of {self.node!r}>"


@dataclass(frozen=True, slots=True)
class SymbolDef:
    """What gives a symbol its value at run time.

    kind "shape": dim `axis` of graph input `source`. "stride": byte stride `axis` of graph input `source`.
    "value": the integer scalar graph input `source` itself (regions receive the symbols they use so; a loop's region
    receives its index so). "data": the integer scalar `Value` `source` computed in this graph.
    """

    kind: str
    source: Any
    axis: int = 0
    hint: int | None = None  # the value at the first call: capacities of minimum cuts, never semantics


@dataclass(slots=True)
class Signature:
    """How inputs and outputs of a graph relate to the caller's arrays; part of the structural hash.

    writes: (input, output) pairs: output's value is written into the caller's array that is that input.
    aliases: output -> ("input", j): the result is the caller's array itself; ("output", k): two results are one.
    donated: inputs whose memory may be reused. layouts: input -> byte strides when not C-contiguous (dims).
    """

    writes: tuple[tuple[int, int], ...] = ()
    aliases: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    donated: frozenset[int] = frozenset()
    layouts: dict[int, tuple[Dim, ...]] = field(default_factory=dict)


class Graph:
    """A function: inputs, pure nodes in topological order, outputs.

    `nx` is the networkx.DiGraph: an edge from operand to user; `kind="order"` between effects, `kind="dim"` from the
    node that defines a symbol to the nodes whose types or params mention it. Calling a graph runs it (`stager` sets
    the runner); on traced arrays it becomes part of their trace (the replayer).
    """

    runner: ClassVar[Callable[[Graph, list[Any]], list[Any]] | None] = None  # the reference evaluator when None
    replayer: ClassVar[Callable[[Graph, tuple[Any, ...]], list[Any] | None] | None] = None  # takes traced arrays

    def __init__(self, name: str = "main") -> None:
        self.name = name
        # The digraph's own dicts. Every pass of every compile adds every node, and filling them here is 2.5 times as
        # fast as DiGraph.add_node and add_edge; and a call that finds its code on disk never needs networkx.
        self._node: dict[Node, dict[str, Any]] = {}
        self._succ: dict[Node, dict[Node, dict[str, Any]]] = {}
        self._pred: dict[Node, dict[Node, dict[str, Any]]] = {}
        self.inputs: list[Value] = []
        self.outputs: list[Value] = []
        self.symbols: dict[str, SymbolDef] = {}
        self.signature = Signature()
        self.meta: dict[str, Any] = {}  # facts for people (argument names, source); never semantics
        self._last_ordered: Node | None = None
        self._fresh = itertools.count()

    # -- building ------------------------------------------------------------------------------------------------

    def add(self, node: Node) -> Node:
        """Append a node whose operands are all in the graph already."""
        succ = self._succ
        self._node[node] = {}
        succ[node] = {}
        sources: dict[Node, dict[str, Any]] = {}
        self._pred[node] = sources
        for a in node.args:
            source = a.node
            if source not in sources:
                succ[source][node] = sources[source] = {}
        if node.ordered:
            if self._last_ordered is not None:
                self._add_edge(self._last_ordered, node, "order")
            self._last_ordered = node
        if self.symbols:
            self._add_dim_edges(node)
        return node

    def _add_edge(self, source: Node, node: Node, kind: str) -> None:
        edge = self._succ[source].setdefault(node, {})
        edge["kind"] = kind
        self._pred[node][source] = edge

    def _add_dim_edges(self, node: Node) -> None:
        data = {name: d.source.node for name, d in self.symbols.items() if d.kind == "data"}
        if not data:
            return
        for name in node.mentioned_symbols():
            source = data.get(name)
            if source is not None and source is not node and node not in self._succ[source]:
                self._add_edge(source, node, "dim")

    def new_symbol(self, definition: SymbolDef, name: str | None = None) -> Dim:
        """A fresh symbol (`s0`, `s1`, … unless named) with its definition."""
        if name is None:
            name = next(n for n in (f"s{i}" for i in self._fresh) if n not in self.symbols)
        self.symbols[name] = definition
        return symbol(name)

    # -- reading -------------------------------------------------------------------------------------------------

    @cached_property
    def nx(self) -> Any:
        """The networkx.DiGraph of the nodes: not a copy, it stays up to date."""
        import networkx

        digraph = networkx.DiGraph()
        digraph._node, digraph._adj, digraph._pred = self._node, self._succ, self._pred
        return digraph

    @property
    def nodes(self) -> Iterable[Node]:
        """All nodes, in topological order."""
        return self._node

    def __len__(self) -> int:
        return len(self._node)

    def __contains__(self, node: Node) -> bool:
        return node in self._node

    def __iter__(self) -> Iterator[Node]:
        return iter(list(self.nodes))

    @property
    def has_effects(self) -> bool:
        """True when some node must run whether or not its results are used."""
        return self._last_ordered is not None

    @property
    def input_types(self) -> tuple[Type, ...]:
        return tuple(v.type for v in self.inputs)

    @property
    def output_types(self) -> tuple[Type, ...]:
        return tuple(v.type for v in self.outputs)

    @property
    def successors(self) -> Mapping[Node, Mapping[Node, Any]]:
        """The nodes that an edge leads to, of each node."""
        return self._succ

    @property
    def predecessors(self) -> Mapping[Node, Mapping[Node, Any]]:
        """The nodes that an edge comes from, of each node."""
        return self._pred

    def users(self) -> dict[Value, list[Node]]:
        """Which nodes use each value (a node stands once per operand position). Outputs do not count."""
        uses: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for a in node.args:
                uses.setdefault(a, []).append(node)
        return uses

    def __call__(self, *arrays: Any) -> Any:
        """The outputs for one array per input: one array, or a tuple of several. Nothing is written to.

        TypeError or ValueError when an array does not have its input's type.
        """
        from stager.ir.evaluate import evaluate_graph

        if len(arrays) != len(self.inputs):
            raise TypeError(f"graph {self.name} takes {len(self.inputs)} arrays, not {len(arrays)}")
        outs = Graph.replayer(self, arrays) if Graph.replayer is not None else None
        if outs is not None:
            return outs[0] if len(outs) == 1 else tuple(outs)
        given = [
            np.asarray(a, v.type.dtype.np if isinstance(a, bool | int | float) else None)
            for a, v in zip(arrays, self.inputs, strict=True)
        ]
        outs = (Graph.runner or evaluate_graph)(self, given)
        return outs[0] if len(outs) == 1 else tuple(outs)

    def __str__(self) -> str:
        from stager.ir.text import print_graph

        return print_graph(self)

    def to_stablehlo(self) -> str:
        """The graph as a StableHLO module (`ir/stablehlo/`). StableHLOError for what that does not cover."""
        from stager.ir.stablehlo import to_stablehlo

        return to_stablehlo(self)

    def to_mlir(self) -> str:
        """The graph as an MLIR module in upstream dialects."""
        from stager.ir.mlir import to_mlir

        return to_mlir(self)

    def __repr__(self) -> str:
        return f"<Graph {self.name}: {len(self)} nodes, {len(self.inputs)} inputs, {len(self.outputs)} outputs>"


class GraphBuilder:
    """Appends checked nodes to a graph: the one place where type rules run."""

    def __init__(self, graph: Graph | None = None, name: str = "main") -> None:
        self.graph = Graph(name) if graph is None else graph

    def input(self, type: Type, name: str | None = None) -> Value:
        """A new graph input."""
        from stager.ir.core_ops import input_op

        node = Node(input_op, (), {"index": len(self.graph.inputs)}, (type,))
        self.graph.add(node)
        value = Value(node)
        self.graph.inputs.append(value)
        self.graph.meta.setdefault("input_names", []).append(name)
        return value

    def emit(
        self,
        op: Op,
        args: Sequence[Value] = (),
        params: Mapping[str, Any] | None = None,
        regions: Sequence[Graph] = (),
        loc: Location | None = None,
        path: tuple[str, ...] = (),
    ) -> tuple[Value, ...]:
        """Apply `op`; the type rule (given `regions` too when there are any) decides the result types."""
        p = dict(params) if params else {}
        in_types = [a.type for a in args]
        extra = {"regions": tuple(regions)} if op.family == "control" else {}
        types = op.type_rule(*in_types, **extra, **p)
        if isinstance(types, Type):
            types = (types,)
        node = Node(op, tuple(args), p, tuple(types), tuple(regions), loc, path)
        self.graph.add(node)
        return node.outputs
