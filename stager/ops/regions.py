"""Regions: tracing a function into a graph of its own, running a graph again under other levels, dims from values.

A region sees the world through its inputs alone. While one is traced, `RegionInterpreter` is the level in force, and
every value of the levels around it that the function uses becomes a capture: an input of the region and, in the same
order, an operand of the control node. A symbol of the graphs around is captured as its value; inside the region it
keeps its name. Symbols that a region defines itself have names that no graph around it uses.

Rules of control ops do not edit regions: they `replay` them under a transform while tracing new ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from stager.errors import ConcretizationError, describe
from stager.interpreters.stack import Tracer, bind, push, stack
from stager.interpreters.stage import StageInterpreter
from stager.ir.core_ops import constant_op, dim_op, fill_op, input_op
from stager.ir.dims import Dim, dim_max, dim_min, floordiv, is_static, mod, substitute, symbol
from stager.ir.dtypes import i64
from stager.ir.graph import Graph, GraphBuilder, Node, SymbolDef, Value
from stager.ir.op import Op
from stager.ir.types import Type

I64 = Type(i64, ())
JOINT = "joint"


class LaneDependentError(ConcretizationError):
    """A dim whose value differs between the lanes of a vmap."""


# -- captures ---------------------------------------------------------------------------------------------------------


class Captures:
    """What the regions of one control node take from around it, in the order of their inputs."""

    def __init__(self) -> None:
        self.raw: list[Any] = []  # raw values of the levels around; a str stands for the symbol of that name
        self._index: dict[Any, int] = {}

    def index(self, raw: Any) -> int:
        """The position of a value of the levels around, taken up if it is new."""
        key: Any = raw if isinstance(raw, str | Value) else id(raw)
        found = self._index.get(key)
        if found is None:
            found = self._index[key] = len(self.raw)
            self.raw.append(raw)
        return found

    def type(self, k: int) -> Type:
        raw = self.raw[k]
        t: Type = I64 if isinstance(raw, str) else raw.type
        return t

    def operands(self, order: Iterable[int]) -> list[Any]:
        """The raw values to bind, at the level the control node is bound at."""
        return [dim_value(symbol(raw)) if isinstance(raw, str) else raw for raw in map(self.raw.__getitem__, order)]


class RegionInterpreter(StageInterpreter):
    """Level 0 of a region while it is traced."""

    def __init__(self, name: str, captures: Captures) -> None:
        super().__init__(Graph(name))
        self.captures = captures
        self.inputs: dict[int, Value] = {}  # capture -> its input in this region
        self.bounds: dict[int, tuple[Any, Any]] = {}  # input -> least and greatest value, as dims (`bounds.py`)
        self.shared: dict[Any, Any] | None = None  # where equal nodes are one: what has been made

    def process(self, op: Any, args: Sequence[Any], params: dict[str, Any], regions: tuple[Graph, ...] = ()) -> Any:
        known = self.graph.nodes
        args = [a if type(a) is Value and a.node in known else self.local(a) for a in args]
        if self.shared is not None and op is not constant_op and not op.ordered and op.family != "control":
            key = (op, *args, *params.items())
            out = self.shared.get(key)
            if out is None:
                out = self.shared[key] = super().process(op, args, params)
        else:
            out = super().process(op, args, params, regions)
        s = stack()
        if s.grad_enabled and s.fwd_grad_enabled:
            return out
        if op.multiple_results:
            return tuple([self._stopped(o, s) for o in out])
        return self._stopped(out, s)

    def _stopped(self, value: Value, s: Any) -> Value:
        """A result made while a grad mode is off: the level that will differentiate the region must see it."""
        from stager.ops.elementwise import stop_forward, stop_reverse

        if not value.type.dtype.is_inexact:
            return value
        for on, stop in ((s.grad_enabled, stop_reverse), (s.fwd_grad_enabled, stop_forward)):
            if not on:
                value = super().process(stop.op, (value,), {})
        return value

    def keeps_calls(self) -> bool:
        return any(not level.implicit for level in stack().levels[: self.position])

    def local(self, raw: Any) -> Value:
        """The value of this region for any raw value: a capture when it comes from around, a constant when untraced."""
        if type(raw) is Value:
            if raw.node in self.graph:
                return raw
            if not any(raw.node in level.graph for level in _stages_below(self)):
                from stager.interpreters.stage import _foreign_value

                _foreign_value(op_of_trace, raw)
            if raw.node.op is fill_op and raw.type.is_static:  # literals are made anew, they cost nothing
                value: Value = super().process(fill_op, (), raw.node.params)
                return value
        elif isinstance(raw, Tracer):
            if raw.interp.position > self.position or not raw.interp.alive:
                raise AssertionError(f"internal error in stager: {raw!r} is used in a region below its level")
        else:
            return self.lift(raw)
        k = self.captures.index(raw)
        found = self.inputs.get(k)
        if found is None:
            found = self.inputs[k] = self.input(self.captures.type(k))
        return found

    def outer(self, value: Value) -> Any:
        """The raw value that an input captures; None for an input that is the region's own."""
        for k, found in self.inputs.items():
            if found == value:
                return self.captures.raw[k]
        return None

    def close(self) -> None:
        """Capture the symbols that the region mentions and does not define."""
        graph = self.graph
        missing = {name for node in graph.nodes for name in node.mentioned_symbols()} - set(graph.symbols)
        for name in sorted(missing):
            k = self.captures.index(name)
            if k not in self.inputs:
                self.inputs[k] = self.input(I64)
            graph.symbols[name] = SymbolDef("value", self.inputs[k].node.params["index"], hint=hint_of(name))


class _TraceOp:
    name = "region"


op_of_trace: Any = _TraceOp()


def _stages_below(interp: StageInterpreter) -> list[Any]:
    return [level for level in stack().levels[: interp.position] if level.key == "Stage"]


def hint_of(name: str) -> int | None:
    """What a symbol of the levels around was in the first call."""
    s = stack()
    for level in reversed(s.levels[: s.depth]):
        if level.key == "Stage" and name in level.graph.symbols:  # type: ignore[attr-defined]
            hint: int | None = level.graph.symbols[name].hint  # type: ignore[attr-defined]
            return hint
    return None


# -- finishing --------------------------------------------------------------------------------------------------------


def finish(traced: Sequence[RegionInterpreter], n_own: int) -> tuple[tuple[Graph, ...], list[Any]]:
    """The sister regions of one control node, and its operands behind the `n_own` inputs that each region has itself.

    Nodes that nothing uses are gone, and captures that no region uses. All regions take the captures in one order.
    """
    captures = traced[0].captures
    live = [live_nodes(t.graph) for t in traced]
    used: set[int] = set()
    while True:
        for t, nodes in zip(traced, live, strict=True):
            used |= {k for k, v in t.inputs.items() if v.node in nodes}
        before = len(used)
        for t, nodes in zip(traced, live, strict=True):
            for k in sorted(used):
                if k not in t.inputs:
                    t.inputs[k] = t.input(captures.type(k))
                nodes.add(t.inputs[k].node)
            nodes.update(v.node for v in t.graph.inputs[:n_own])
            t.close()
            for name in {name for node in nodes for name in node.mentioned_symbols()}:
                d = t.graph.symbols[name]
                nodes.add(d.source.node if d.kind == "data" else t.graph.inputs[d.source].node)
        for t, nodes in zip(traced, live, strict=True):
            used |= {k for k, v in t.inputs.items() if v.node in nodes}
        if len(used) == before:
            break
    order = sorted(used)
    graphs = []
    for t, nodes in zip(traced, live, strict=True):
        graphs.append(compact(t.graph, [*t.graph.inputs[:n_own], *[t.inputs[k] for k in order]], nodes))
    return tuple(graphs), captures.operands(order)


def live_nodes(graph: Graph, inputs: Sequence[Value] = ()) -> set[Node]:
    """Nodes that the outputs, the effects, these inputs or the symbols of live nodes need."""
    live: set[Node] = set()
    todo = [v.node for v in (*graph.outputs, *inputs)] + [n for n in graph.nodes if n.ordered]
    while todo:
        node = todo.pop()
        if node in live:
            continue
        live.add(node)
        todo += [a.node for a in node.args]
        for name in node.mentioned_symbols():
            d = graph.symbols.get(name)
            if d is not None:
                todo.append(d.source.node if d.kind == "data" else graph.inputs[d.source].node)
    return live


def compact(graph: Graph, inputs: Sequence[Value], live: set[Node]) -> Graph:
    """The live nodes of a region, with its inputs in the given order."""
    if graph.inputs == list(inputs) and len(live) == len(graph):
        return graph
    out = Graph(graph.name)
    builder = GraphBuilder(out)
    position: dict[int, int] = {}
    env: dict[Node, tuple[Value, ...]] = {}
    for new, old in enumerate(inputs):
        env[old.node] = (builder.input(old.type),)
        position[old.node.params["index"]] = new

    def moved(value: Value) -> Value:
        return env[value.node][value.index]

    data: dict[Node, list[str]] = {}
    for name, d in graph.symbols.items():
        if d.kind == "data":
            data.setdefault(d.source.node, []).append(name)
        elif d.source in position:
            out.symbols[name] = SymbolDef(d.kind, position[d.source], d.axis, d.hint)
    for node in graph.nodes:
        if node.op is input_op or node not in live:
            continue
        args = tuple(map(moved, node.args))
        copied = Node(node.op, args, node.params, node.types, node.regions, node.loc, node.path)
        env[node] = copied.outputs
        out.add(copied)
        for name in data.get(node, ()):
            d = graph.symbols[name]
            out.symbols[name] = SymbolDef("data", moved(d.source), d.axis, d.hint)
    out.outputs = [moved(v) for v in graph.outputs]
    return out


def with_input_in_front(graph: Graph, type: Type) -> Graph:
    """The region with one input more, the first one, which it does not read. Its symbols stay those of its inputs."""
    front = Node(input_op, (), {"index": -1}, (type,))
    return compact(graph, [Value(front), *graph.inputs], set(graph.nodes))


# -- tracing ----------------------------------------------------------------------------------------------------------


def trace_region(
    fn: Callable[..., Iterable[Any]],
    types: Sequence[Type],
    captures: Captures,
    name: str = "body",
    *,
    index: tuple[Dim | None, Dim | None] = (None, None),
    share: bool = False,
) -> RegionInterpreter:
    """Run fn once on inputs of these types, at a level of its own; `finish` then gives the graph.

    index: the least and greatest value of input 0, where it is a loop's. share: equal nodes become one.
    """
    interp = RegionInterpreter(name, captures)
    interp.bounds[0] = index
    interp.shared = {} if share else None
    s = stack()
    modes = s.grad_enabled, s.fwd_grad_enabled
    s.grad_enabled = s.fwd_grad_enabled = True  # the modes around decide about the control node as a whole
    try:
        with push(interp):
            inputs = [interp.input(t) for t in types]
            interp.graph.outputs = [interp.local(o) for o in fn(*inputs)]
            interp.close()
    finally:
        s.grad_enabled, s.fwd_grad_enabled = modes
    return interp


# -- dims and values --------------------------------------------------------------------------------------------------


def dim_value(d: Dim) -> Any:
    """A dim as an i64 scalar."""
    from stager.ops.families import full

    if is_static(d):
        return full((), d, i64)
    return bind(dim_op, dim=d)


_passing = itertools.count()


def fresh_symbol_name(graph: Graph) -> str:
    """A name that no graph in force uses for a symbol.

    Parts of a joint region run elsewhere later, among symbols that are defined meanwhile: its names stay its own.
    """
    if graph.name == JOINT:
        return f"p{next(_passing):09}"  # in the order of their definition, like others, when sorted
    s = stack()
    used: set[str] = set()
    for level in s.levels[: s.depth]:
        if level.key == "Stage":
            used |= level.graph.symbols.keys()  # type: ignore[attr-defined]
    return next(n for n in (f"s{k}" for k in range(len(used) + 1)) if n not in used)


def dim_of(raw: Any) -> Dim:
    """The dim that has the value of a raw integer scalar. LaneDependentError when the lanes of a vmap differ in it."""
    return _dim_below(raw, stack().depth)


_ARITHMETIC: dict[str, Callable[..., Dim]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
    "maximum": dim_max,
    "minimum": dim_min,
    "floordiv": floordiv,
    "mod": mod,
}


def _dim_below(raw: Any, depth: int, nesting: int = 0) -> Dim:
    """`dim_of` as the levels below `depth` see it. Sums of an index are expressions: sizes stay comparable."""
    levels = stack().levels
    if isinstance(raw, Tracer):
        for position in range(depth - 1, raw.interp.position, -1):
            region = levels[position]
            if isinstance(region, RegionInterpreter):  # a value of its own there, whatever it differs in around
                return _symbol_for(region, region.local(raw))
        if raw.interp.key != "Vmap":
            return _dim_below(raw.value, depth)
        remedy = "make the size the same for all lanes, or use it inside a loop or cond: that runs lane by lane then"
        raise LaneDependentError(describe("a size or a bound differs between the lanes of a vmap", remedy=remedy))
    if type(raw) is not Value:
        return int(raw)
    if raw.node.op is fill_op:
        return int(raw.node.params["value"])
    if raw.node.op is dim_op:
        d: Dim = raw.node.params["dim"]
        return d
    arithmetic = _ARITHMETIC.get(raw.node.op.name)
    if arithmetic is not None and nesting < 16 and raw.type.dtype is i64 and _divides(raw.node):
        return arithmetic(*[_dim_below(a, depth, nesting + 1) for a in raw.node.args])
    for level in reversed(levels[:depth]):
        if level.key == "Stage" and raw.node in level.graph:  # type: ignore[attr-defined]
            return _symbol_for(level, raw)
    raise AssertionError(f"internal error in stager: {raw!r} belongs to no graph in force")


def known_dim(raw: Any) -> Dim | None:
    """`dim_of` for what is a literal, a dim, an input of a region, or arithmetic on those; else None."""
    if not isinstance(raw, Value):
        return None if isinstance(raw, Tracer) else int(raw)
    if raw.node.op is not fill_op and raw.node.op is not dim_op:
        if raw.node.op.name in _ARITHMETIC:
            if any(known_dim(a) is None for a in raw.node.args):
                return None
        elif raw.node.op is not input_op or not isinstance(_owner(raw), RegionInterpreter):
            return None
    try:
        return dim_of(raw)
    except LaneDependentError:
        return None


def _owner(value: Value) -> Any:
    s = stack()
    levels = reversed(s.levels[: s.depth])
    return next((v for v in levels if v.key == "Stage" and value.node in v.graph), None)  # type: ignore[attr-defined]


def _divides(node: Node) -> bool:
    """False for a quotient whose divisor is not a literal: it might be zero."""
    if node.op.name not in ("floordiv", "mod"):
        return True
    divisor = node.args[1].node
    return divisor.op is fill_op and divisor.params["value"] != 0


def _symbol_for(level: Any, value: Value) -> Dim:
    graph = level.graph
    is_input = value.node.op is input_op
    kind, source = ("value", value.node.params["index"]) if is_input else ("data", value)
    for name, d in graph.symbols.items():
        if d.kind == kind and d.source == source:
            return symbol(name)
    if isinstance(level, RegionInterpreter):
        outer = level.outer(value)
        if isinstance(outer, str):
            return symbol(outer)
        if outer is not None:
            try:
                return _dim_below(
                    outer, level.position
                )  # a symbol of the graph it comes from, as types around mention it
            except LaneDependentError:
                pass
    found: Dim = graph.new_symbol(SymbolDef(kind, source), fresh_symbol_name(graph))
    return found


# -- replaying --------------------------------------------------------------------------------------------------------


def replay(graph: Graph, args: Sequence[Any], instead: Callable[[Node, Any], Any] | None = None) -> list[Any]:
    """Bind every node of a graph in order, at the level in force; returns the raw outputs.

    instead: what stands for a node's results from then on, given them.
    """
    env: dict[Node, Any] = {}
    dims: dict[str, Dim] = {}
    data: dict[Node, list[tuple[str, int]]] = {}
    for name, d in graph.symbols.items():
        if d.kind == "data":
            data.setdefault(d.source.node, []).append((name, d.source.index))
        elif d.kind == "value":
            dims[name] = dim_of(args[d.source])
        else:
            dims[name] = args[d.source].type.shape[d.axis]
    renamed = any(d != symbol(name) for name, d in dims.items())
    for node in graph.nodes:
        if node.op is input_op:
            env[node] = args[node.params["index"]]
            continue
        operands = [env[a.node][a.index] if a.node.op.multiple_results else env[a.node] for a in node.args]
        params = node.params
        if renamed:
            params = {k: substitute(v, dims) for k, v in params.items()}
        if node.regions:
            out = replay_control(node.op, node.regions, operands, params, renamed)
        else:
            out = bind(node.op, *operands, **params)
        if instead is not None:
            out = instead(node, out)
        env[node] = out
        for name, index in data.get(node, ()):
            dims[name] = dim_of(out[index] if node.op.multiple_results else out)
            renamed = renamed or dims[name] != symbol(name)
    return [env[v.node][v.index] if v.node.op.multiple_results else env[v.node] for v in graph.outputs]


def replay_control(op: Op, regions: Any, operands: list[Any], params: dict[str, Any], renamed: bool) -> Any:
    """Bind a control node again; with new regions where its own mention symbols by names that do not hold here."""
    params = {**params, "regions": regions}
    return rebuild(op, operands, params) if renamed else bind(op, *operands, **params)


def rebuild(op: Op, operands: Sequence[Any], params: dict[str, Any]) -> Any:
    """Bind a control op with its regions traced anew."""
    from stager.ops.control import REBUILD

    regions = params["regions"]
    params = {k: v for k, v in params.items() if k != "regions"}
    rule = REBUILD.get(op.name)
    if rule is not None:
        return rule(operands, params, regions)
    assert "inline" in op.facts, op.name
    region = trace_region(
        lambda *inputs: replay(regions[0], inputs), [o.type for o in operands], Captures(), regions[0].name
    )
    graphs, captured = finish([region], len(operands))
    return bind(op, *operands, *captured, regions=graphs, **params)


def holds_call(regions: Iterable[Graph]) -> bool:
    """Whether regions hold calls that only transforms look into."""
    return any("inline" in n.op.facts or holds_call(n.regions) for region in regions for n in region.nodes)


def scalar_index(k: Any) -> Any:
    """An i64 scalar from a Python int, or the raw value as it is."""
    from stager.ops.families import full

    return full((), k, i64) if isinstance(k, int | np.integer) else k
