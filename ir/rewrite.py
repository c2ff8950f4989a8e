"""How a graph is rebuilt: one walk over its nodes that applies local rules and shares equal nodes.

`Rewriter` visits nodes in topological order with operands already rewritten and offers each to the rules of its op.
A rule looks at a node and what its operands are made of, and returns the values that stand for it (operands, or values
it emitted) or None. Emitted nodes are offered to the rules too, so the result is a fixpoint: no rule applies to any
node of it, which makes every pass made this way idempotent. Rules are local: they depend on a node and its operands,
never on who uses it.

Equal nodes are shared (hash-consing) unless they are effects. What no output, effect or data symbol needs is dropped.
Nodes never change, so a node whose operands stayed is taken over as it is, and a walk that changes nothing returns the
graph itself. Regions are rewritten with the same rules. Locations, paths, symbols and the signature are kept. Not here:
any particular rule (`passes/`), and rules written as patterns (`patterns.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stager.ir.assemble import alive_nodes, assemble
from stager.ir.core_ops import constant_op, dim_op, fill_op, input_op
from stager.ir.dims import Dim, Expr, substitute, symbol
from stager.ir.dtypes import DType
from stager.ir.graph import Graph, Node, SymbolDef, Value
from stager.ir.hash import literal_bits, structural_hash
from stager.ir.op import Op, op_named
from stager.ir.ranges import Range, known_at_least, region_ranges
from stager.ir.regions import control_types, first_capture, first_operand, own_inputs
from stager.ir.types import Type

Replacement = Value | tuple[Value, ...] | None
Rule = Callable[["Rewriter", Node], Replacement]
# Rules by what they apply to: an op's name, or "family:elementwise" for all of a family, or "*".
Rules = Mapping[str, Sequence[Rule]]

MAX_DEPTH = 60  # of rules emitting nodes whose rules emit nodes: beyond it a node stays as it is
SHARED_CONSTANT_BYTES = 1 << 16  # larger constants are shared only when they are the same array


def merge_rules(*tables: Rules) -> dict[str, tuple[Rule, ...]]:
    """One table with the rules of all, in order."""
    merged: dict[str, tuple[Rule, ...]] = {}
    for table in tables:
        for key, rules in table.items():
            merged[key] = (*merged.get(key, ()), *rules)
    return merged


def rewrite(graph: Graph, rules: Rules, *, share: bool = True, fast_math: bool = False) -> Graph:
    """`graph` with the rules applied until none applies; the graph itself when nothing changed."""
    return Rewriter(graph, rules, share=share, fast_math=fast_math).run()


def rebuild(graph: Graph, fn: Rule, *, share: bool = False) -> Graph:
    """`graph` rebuilt by one function that sees every node with its mapped operands; regions included.

    `fn(rewriter, node)` returns what stands for the node, or None to keep it. It is not asked about what it emits.
    """
    return Rewriter(graph, {"*": (fn,)}, share=share, again=False).run()


def map_regions(graph: Graph, run: Callable[[Graph, bool], Graph], fast_math: bool) -> Graph:
    """`graph` with a pass applied to the regions of its control nodes."""
    changed: dict[Node, tuple[Graph, ...]] = {}
    for node in graph.nodes:
        if node.regions:
            regions = tuple([run(r, fast_math) for r in node.regions])
            if any(new is not old for new, old in zip(regions, node.regions, strict=True)):
                changed[node] = regions
    if not changed:
        return graph

    def replace(rw: Rewriter, node: Node) -> Replacement:
        regions = changed.get(rw.current) if rw.current is not None else None
        return rw.emit_all(node.op, *node.args, regions=regions, **node.params) if regions is not None else None

    return rebuild(graph, replace)


class Rewriter:
    """One rebuild of one graph. Rules read operands, `fast_math`, and emit nodes."""

    def __init__(
        self,
        graph: Graph,
        rules: Rules,
        *,
        share: bool = True,
        fast_math: bool = False,
        again: bool = True,
        literals: Mapping[int, Any] | None = None,
        dims: Mapping[str, Dim] | None = None,
        ranges: Mapping[int, Range] | None = None,
        region: bool = False,
    ) -> None:
        """Of a region: `literals`, inputs that are one; `dims`, symbols that are one; `ranges` of integer inputs."""
        self.is_region = region
        self.old = graph
        self._literals = literals or {}
        self.ranges = ranges or {}
        self.rules = rules
        self.share = share
        self.fast_math = fast_math
        self.order: list[Node] = []
        self.symbols: dict[str, SymbolDef] = {}
        self.inputs: list[Value] = []
        self._results: dict[Node, tuple[Value, ...]] = {}  # new node -> its values
        self._mapped: dict[Node, tuple[Value, ...]] = {}  # old node -> the values that stand for it
        self._serial: dict[Node, int] = {}
        self._known: dict[Any, Any] = {}  # key -> node, or list of control nodes
        self._replaced: dict[str, Dim] = dict(dims or {})  # symbols that turned out to be known dims
        self._by_op: dict[Op, tuple[Rule, ...]] = {}
        self.current: Node | None = None  # the old node at hand; emitted nodes get its location
        self.memo: dict[Node, Any] = {}  # what a rule found out about a node of this walk
        self._depth = 0
        self._max_depth = MAX_DEPTH if again else 1

    # -- for rules -----------------------------------------------------------------------------------------------

    def emit(self, op: str | Op, *args: Value, **params: Any) -> Value:
        """Apply an op with one result; the result may be any simpler equal value."""
        return self.emit_all(op, *args, **params)[0]

    def emit_all(self, op: str | Op, *args: Value, regions: tuple[Graph, ...] = (), **params: Any) -> tuple[Value, ...]:
        """Apply an op; its result types come from its type rule."""
        record = op_named(op) if isinstance(op, str) else op
        if record.family == "control" and "inline" not in record.facts:
            types = control_types(record, args, params, regions, self.symbols)
        else:
            extra = {"regions": regions} if record.family == "control" else {}
            types = record.type_rule(*[a.type for a in args], **extra, **params)
            types = (types,) if isinstance(types, Type) else tuple(types)
        return self.add(self._node(record, args, params, types, regions))

    def fill(self, value: Any, t: Type) -> Value:
        """One scalar literal in every element of `t`."""
        params = {"value": value, "shape": t.shape, "dtype": t.dtype}
        return self.add(self._node(fill_op, (), params, (t,)))[0]

    def constant(self, value: np.ndarray[Any, Any], t: Type) -> Value:
        value = np.ascontiguousarray(value).reshape(value.shape)
        value.flags.writeable = False
        return self.add(self._node(constant_op, (), {"value": value}, (t,)))[0]

    def new(self, old: Value) -> Value:
        """What stands for a value of the old graph that was visited already."""
        return self._mapped[old.node][old.index]

    def dim(self, d: Dim) -> Value:
        """The run-time value of a dim."""
        return self.emit(dim_op, dim=d)

    def inline(self, region: Graph, args: Sequence[Value]) -> list[Value]:
        """The outputs of a region applied to values of this graph."""
        env: dict[str, Dim] = {}
        mapped: dict[Node, tuple[Value, ...]] = {v.node: (a,) for v, a in zip(region.inputs, args, strict=True)}
        data: dict[Node, list[tuple[str, int]]] = {}
        for name, d in region.symbols.items():
            if d.kind == "value":
                env[name] = self.dim_of(args[d.source])
            elif d.kind == "shape":
                env[name] = args[d.source].type.shape[d.axis]
            elif d.kind == "data":
                data.setdefault(d.source.node, []).append((name, d.source.index))
        for node in region.nodes:
            own = data.get(node, ())
            if own and "counts_turns" in node.op.facts:  # its own types mention the symbol
                name, index = next(x for x in own if symbol(x[0]) == node.params["size"])
                fresh = self._fresh_name()
                mapped[node] = self.add(self.renewed(node, mapped, {**env, name: symbol(fresh)}))
                self._define(fresh, region.symbols[name], mapped[node][index])
            elif node.op is not input_op:
                mapped[node] = self.add(self.renewed(node, mapped, env))
            for name, index in own:
                env[name] = self.dim_of(mapped[node][index])
        return [mapped[v.node][v.index] for v in region.outputs]

    def dim_value(self, v: Value) -> Dim | None:
        """The dim that an integer scalar is: a literal, a dim node, or what defines a symbol; else None."""
        known = known_dim(v)
        if known is not None or not self.symbols:
            return known
        source = v.node.params["index"] if v.node.op is input_op else None
        for name, d in self.symbols.items():
            if (d.kind == "data" and d.source == v) or (d.kind == "value" and d.source == source):
                return symbol(name)
        return None

    def dim_of(self, v: Value) -> Dim:
        """The dim that an integer scalar is: known, or a new data symbol."""
        return known if (known := self.dim_value(v)) is not None else self._new_symbol(_defined_by(v))

    def index_dim(self, v: Value, depth: int = 8) -> Dim | None:
        """The dim that an index is: literals, dims, integer inputs of a region, and sums and multiples of them.

        An input gets a symbol where it has none. Only for positions that are in bounds: their arithmetic did not wrap.
        """
        known = self.dim_value(v)
        if known is not None or v.type.shape != () or v.type.dtype.name != "i64" or depth == 0:
            return known
        node = v.node
        if node.op is input_op:
            return self._new_symbol(SymbolDef("value", node.params["index"])) if self.is_region else None
        if node.op.name not in ("add", "sub", "mul", "neg"):
            return None
        if not _made_of_inputs(v, depth):
            return None
        dims = [self.index_dim(a, depth - 1) for a in node.args]
        if any(d is None for d in dims):
            return None
        return _ARITHMETIC[node.op.name](*dims)

    def at_least(self, a: Dim, b: Dim) -> bool:
        """True when a >= b is known, from the ranges of the integers that symbols stand for too."""
        return known_at_least(a, b, self._symbol_ranges())

    def _symbol_ranges(self) -> dict[str, Range]:
        symbols = self.symbols.items()
        return {name: self.ranges[d.source] for name, d in symbols if d.kind == "value" and d.source in self.ranges}

    def _new_symbol(self, d: SymbolDef) -> Dim:
        name = self._fresh_name()
        self.symbols[name] = d
        return symbol(name)

    def _fresh_name(self) -> str:
        taken = {*self.old.symbols, *self.symbols}
        return next(n for n in (f"s{i}" for i in itertools.count()) if n not in taken)

    # -- the walk ------------------------------------------------------------------------------------------------

    def run(self) -> Graph:
        old = self.old
        data: dict[Node, list[tuple[str, SymbolDef]]] = {}
        for name, d in old.symbols.items():
            if d.kind == "data":
                data.setdefault(d.source.node, []).append((name, d))
            elif name not in self._replaced:
                self.symbols[name] = d
        mapped = self._mapped
        for node in old.nodes:
            self.current = node
            if node.op is input_op:
                mapped[node] = self._input(node)
            else:
                mapped[node] = self.add(self.renewed(node, mapped, self._replaced))
            for name, d in data.get(node, ()):
                self._define(name, d, mapped[node][d.source.index])
        outputs = [mapped[v.node][v.index] for v in old.outputs]
        return self._finish(outputs)

    def _input(self, node: Node) -> tuple[Value, ...]:
        if self._replaced:
            node = self.renewed(node, self._mapped, self._replaced)
        self.order.append(node)
        self._serial[node] = len(self.order)
        self._results[node] = node.outputs
        literal = self._literals.get(node.params["index"])
        return node.outputs if literal is None else (self.fill(literal, node.types[0]),)

    def region(self, graph: Graph, **known: Any) -> Graph:
        """A region rewritten by the same rules; `known` are the facts that the constructor takes about regions."""
        again = self._max_depth > 1
        return Rewriter(
            graph, self.rules, share=self.share, fast_math=self.fast_math, again=again, region=True, **known
        ).run()

    def add(self, node: Node) -> tuple[Value, ...]:
        """Put a node into the new graph: what its rules make of it, or an equal node, or itself."""
        rules = self._by_op.get(node.op)
        if rules is None:
            rules = self._by_op[node.op] = self._rules_of(node.op)
        if rules and self._depth < self._max_depth:
            self._depth += 1
            for rule in rules:
                replaced = rule(self, node)
                if replaced is not None:
                    self._depth -= 1
                    values = (replaced,) if isinstance(replaced, Value) else replaced
                    self._check(rule, node, values)
                    return values
            self._depth -= 1
        if self.share:
            known = self._equal_node(node)
            if known is not node:
                return self._results[known]
        if node not in self._results:
            self.order.append(node)
            self._serial[node] = len(self.order)
            self._results[node] = node.outputs
        return self._results[node]

    def _rules_of(self, op: Op) -> tuple[Rule, ...]:
        rules = self.rules
        return (*rules.get(op.name, ()), *rules.get(f"family:{op.family}", ()), *rules.get("*", ()))

    def _check(self, rule: Rule, node: Node, values: tuple[Value, ...]) -> None:
        if tuple([v.type for v in values]) != node.types:
            raise AssertionError(f"internal error: {rule} replaces {node!r} by {values!r}")

    def _node(
        self, op: Op, args: tuple[Value, ...], params: dict[str, Any], types: tuple[Type, ...], regions: Any = ()
    ) -> Node:
        at = self.current
        return Node(op, args, params, types, regions, at.loc if at else None, at.path if at else ())

    def renewed(self, node: Node, mapped: Mapping[Node, tuple[Value, ...]], env: Mapping[str, Dim]) -> Node:
        """`node` on its mapped operands: the same object when none changed."""
        args = node.args
        changed = False
        for a in args:
            v = mapped[a.node][a.index]
            if v.node is not a.node or v.index != a.index:
                changed = True
                args = tuple([mapped[a.node][a.index] for a in args])
                break
        params, types, regions = node.params, node.types, node.regions
        if env and not env.keys().isdisjoint(node.mentioned_symbols()):
            params = {k: substitute(v, env) for k, v in params.items()}
            types = tuple(substitute(t, env) for t in types)
            changed = True
        if regions:
            regions = self.rewritten_regions(node, args)
            if any(new is not r for new, r in zip(regions, node.regions, strict=True)):
                changed = True
                types = control_types(node.op, args, params, regions, self.symbols)
        if not changed:
            return node
        return Node(node.op, args, params, types, regions, node.loc, node.path)

    def rewritten_regions(self, node: Node, args: Sequence[Value]) -> tuple[Graph, ...]:
        """The regions rewritten; captures that are literals, and symbols whose value is known, become so inside."""
        if self._max_depth == 1:
            return tuple([self.region(r) for r in node.regions])
        offset, first = first_operand(node) - own_inputs(node), first_capture(node)
        captures = range(first, len(node.regions[0].inputs))
        literals = {k: args[k + offset].node.params["value"] for k in captures if args[k + offset].node.op is fill_op}
        regions = []
        for r in node.regions:
            outer: dict[str, Dim] = {}
            for name, d in r.symbols.items():
                if d.kind in ("value", "shape") and d.source >= first:
                    v = args[d.source + offset]
                    known = self.dim_value(v) if d.kind == "value" else v.type.shape[d.axis]
                    if known is not None:
                        outer[name] = known
            static = {name: d for name, d in outer.items() if isinstance(d, int)}
            ranges = region_ranges(node, r, args, self.ranges, outer, self._symbol_ranges())
            regions.append(self.region(r, literals=literals, dims=static, ranges=ranges))
        return tuple(regions)

    def _define(self, name: str, d: SymbolDef, source: Value) -> None:
        known = known_dim(source)
        if isinstance(known, int):
            self._replaced[name] = known
        else:
            self.symbols[name] = _defined_by(source, d.hint)

    def _equal_node(self, node: Node) -> Node:
        """An earlier node with the same results, or the node itself."""
        if node.regions:
            if node.ordered:
                return node
            alike = self._known.setdefault(self._key(node), [])
            if alike:  # only now are the regions worth hashing
                hashes = [structural_hash(r) for r in node.regions]
                for other in alike:
                    if [structural_hash(r) for r in other.regions] == hashes:
                        return other  # type: ignore[no-any-return]
            alike.append(node)
            return node
        if node.op.ordered or node.op.family in ("foreign", "effect"):
            return node
        return self._known.setdefault(self._key(node), node)  # type: ignore[no-any-return]

    def _key(self, node: Node) -> Any:
        """Equal for nodes with equal results, regions apart."""
        op, params = node.op, node.params
        if op is fill_op:
            dtype = params["dtype"]
            return (op, dtype, literal_bits(params["value"], dtype), params["shape"])
        args = [(a.node, a.index) for a in node.args]
        if op.commutative and len(args) == 2 and self._place(args[0]) > self._place(args[1]):
            args.reverse()
        key: list[Any] = [op, *args]
        if params:
            items = [(k, v if type(v) in _EXACT_KEYS else frozen(v)) for k, v in params.items()]
            if len(items) > 1:
                items.sort()  # param names differ, so values are never compared
            key += items
        return tuple(key)

    def _place(self, arg: tuple[Node, int]) -> tuple[int, int]:
        return self._serial[arg[0]], arg[1]

    def _finish(self, outputs: list[Value]) -> Graph:
        old = self.old
        alive = alive_nodes(self.order, outputs, self.symbols)
        order = self.order if len(alive) == len(self.order) else [n for n in self.order if n in alive]
        if len(order) == len(old) and not self._replaced:
            same = all(a is b for a, b in zip(order, old.nodes, strict=True))
            if same and all(a.node is b.node and a.index == b.index for a, b in zip(outputs, old.outputs, strict=True)):
                return old
        return assemble(old, order, outputs, self.symbols, alive, self._replaced)


_ARITHMETIC: dict[str, Callable[..., Dim]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "neg": lambda a: -a,
}


def _made_of_inputs(v: Value, depth: int) -> bool:
    """Whether an integer is sums and multiples of inputs, literals and dims."""
    node = v.node
    if node.op is input_op or known_dim(v) is not None:
        return True
    return depth > 0 and node.op.name in _ARITHMETIC and all(_made_of_inputs(a, depth - 1) for a in node.args)


# -- what an operand is ------------------------------------------------------------------------------------------------

_EXACT_KEYS = frozenset({int, bool, str, DType, Expr, type(None)})  # equal as keys exactly when they mean the same


def frozen(v: Any) -> Any:
    """A key for a param: equal exactly when the params mean the same (0.0 and -0.0 do not)."""
    if type(v) in _EXACT_KEYS:
        return v
    if isinstance(v, tuple):
        return tuple([frozen(x) for x in v])
    if isinstance(v, float | complex | np.generic):
        return (type(v), np.asarray(v).tobytes())
    if isinstance(v, np.ndarray):
        if v.nbytes > SHARED_CONSTANT_BYTES:
            return id(v)
        return (v.dtype.str, v.shape, v.tobytes())
    return v


def literal(v: Value) -> Any:
    """The Python scalar in every element of `v` when it is a fill; else None."""
    return v.node.params["value"] if v.node.op is fill_op else None


def known_dim(v: Value) -> Dim | None:
    """The dim that an integer scalar is when it is a literal or a dim node; else None."""
    node = v.node
    if node.op is dim_op:
        d: Dim = node.params["dim"]
        return d
    if node.op is fill_op and v.type.shape == () and v.type.dtype.is_integer:
        return int(node.params["value"])
    return None


def made_by(v: Value, name: str) -> bool:
    return v.node.op.name == name


def _defined_by(v: Value, hint: int | None = None) -> SymbolDef:
    """The definition of a symbol by an integer scalar."""
    if v.node.op is input_op:
        return SymbolDef("value", v.node.params["index"], 0, hint)
    return SymbolDef("data", v, 0, hint)
