"""Graph -> unfused program: which values get a buffer and which are computed where they are used.

One walk over the nodes in their order; where values lie, and what is updated in place, is `codegen/placement.py`'s.
Fusion comes after (`codegen/fuse.py`); nothing here knows loops orders or LLVM.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from stager.codegen.index import Facts
from stager.codegen.joining import place_in_whole
from stager.codegen.placement import Placement
from stager.codegen.program import Buffer, Program, Read, Storage
from stager.codegen.pull import StageBuilder, value_key
from stager.codegen.remat import choose
from stager.codegen.target import Target
from stager.ir.dims import Dim, Expr, substitute, symbol, symbols_of
from stager.ir.graph import Graph, Node, Value
from stager.ir.types import Type

MAX_OPS = 250
"""A lazy expression of more operations than this gets a buffer."""
DEAR = 12
"""A value of at least this weight that has several uses is computed once."""
REPEATED = 4
"""The same of a value that a broadcast repeats, where computing it takes reading."""

WEIGHTS = dict.fromkeys(("div", "sqrt", "floordiv", "mod", "fmod", "reciprocal", "rint", "floor", "gcd", "lcm"), 5)
_DEAR_OPS = """exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh
cbrt hypot erf erfc erfinv sinc logaddexp logaddexp2 nextafter ldexp"""
WEIGHTS |= dict.fromkeys(_DEAR_OPS.split(), 20)
WEIGHTS |= dict.fromkeys(("pow", "lgamma", "gamma", "digamma", "i0"), 60)


class Lowering:
    """The state of one lowering: shared by the graph and all of its regions."""

    def __init__(self, graph: Graph, name: str, target: Target, blas: bool) -> None:
        self.graph = graph
        self.target = target
        self.blas = blas
        self.name = name
        self.facts = Facts()
        self.buffers: dict[int, Buffer] = {}  # values in memory
        self.scalars: dict[int, Dim] = {}  # integer scalars known as dims
        self.aliases: dict[int, Value] = {}  # region inputs that are another value
        self.storages: list[Storage] = []
        self.copies: list[str] = []  # of whole arrays that are updated, with the reasons
        self.owned: set[int] = set()  # ids of storages that updates may overwrite
        self.occupants: dict[int, Value] = {}  # storage -> the value whose content it holds, for memory with a past
        self.inputs: list[Buffer] = []  # the caller's arrays
        self.lent: set[int] = set()  # ids of their storages that regions do not commit to: they work on copies
        self.names = itertools.count()
        self.keep: list[Any] = []  # keys are ids: what they name must live

    def run(self) -> Program:
        g = self.graph
        signature = g.signature
        for name, d in g.symbols.items():
            if d.kind in ("stride", "value"):
                self.facts.signed.add(name)
        inputs = self.inputs
        outputs: list[Buffer | None] = []
        names = g.meta.get("input_names", [])
        written = {i for i, _ in signature.writes}
        for n, v in enumerate(g.inputs):
            label = names[n] if n < len(names) and names[n] else f"x{n}"
            s = Storage("input", label, v.type.nbytes, n, writable=n in written or n in signature.donated)
            b = Buffer(s, v.type.dtype, v.type.shape, signature.layouts.get(n))
            inputs.append(b)
            self.buffers[value_key(v)] = b
            self.occupants[id(s)] = v
            if n in signature.donated and b.is_dense:
                self.owned.add(id(s))
        homes: dict[int, Buffer] = {}
        written_by = {o: i for i, o in signature.writes}
        late: list[tuple[Buffer, Value]] = []
        for n, v in enumerate(g.outputs):
            if n in written_by:
                b = inputs[written_by[n]]
            elif n in signature.aliases:
                outputs.append(None)
                continue
            else:
                sized = any(d.kind == "data" and s in symbols_of(v.shape) for s, d in g.symbols.items())
                b = Buffer(
                    Storage(
                        "sized" if sized else "output", f"out{n}", v.type.nbytes, n if sized else len(g.inputs) + n
                    ),
                    v.type.dtype,
                    v.type.shape,
                )
            outputs.append(b)
            if value_key(v) in homes or value_key(v) in self.buffers:
                late.append((b, v))
            else:
                homes[value_key(v)] = b
        walk = Walk(
            self, list(g.nodes), g.outputs, homes, {name: d.source for name, d in g.symbols.items() if d.kind == "data"}
        )
        walk.kept = choose(walk.nodes, g.outputs, WEIGHTS, DEAR)
        walk.run()
        back: list[tuple[Buffer, Value]] = []
        for v in g.outputs:
            home = homes.get(value_key(v))
            if home is not None and home.storage.kind == "input":
                back.append((home, v))
            elif home is not None:
                walk.deliver(v, home)
        for b, v in late:
            if b.storage.kind == "input":
                back.append((b, v))
            else:
                walk.deliver(v, b)
        walk.write_back(back)
        fresh = [b for n, b in enumerate(outputs) if b is not None and n not in written_by]
        entry = [name for name, d in g.symbols.items() if d.kind != "data"]
        return Program(self.name, inputs, fresh, walk.steps, entry, self.storages, self.facts, copies=self.copies)

    def temp(self, t: Type, hint: str = "t") -> Buffer:
        """A new buffer in the arena."""
        s = Storage("temp", f"{hint}{next(self.names)}", t.nbytes)
        self.storages.append(s)
        self.owned.add(id(s))
        return Buffer(s, t.dtype, t.shape)

    def fresh_symbol(self, hint: str) -> str:
        return f"{hint}.{next(self.names)}"


class Walk(Placement):
    """Lowers one list of nodes (a graph's or a region's) into `steps`."""

    def run(self) -> None:
        for i, node in enumerate(self.nodes):
            self.now = i
            self.visit(node)

    # -- one node ----------------------------------------------------------------------------------------------------

    def visit(self, node: Node) -> None:
        family = node.op.family
        key = id(node) << 20
        if family == "elementwise":
            ops, weight = 1, WEIGHTS.get(node.op.name, 1)
            for a in node.args:
                ak = value_key(a)
                ops += self.ops.get(ak, 0)
                weight += self.weight.get(ak, 0)
            if ops > MAX_OPS:
                # cut at the operand that carries most of the work
                heavy = max(node.args, key=lambda a: self.ops.get(value_key(a), 0))
                self.realise(heavy)
                ops = 1 + sum(self.ops.get(value_key(a), 0) for a in set(node.args))
                weight = WEIGHTS.get(node.op.name, 1) + sum(self.weight.get(value_key(a), 0) for a in node.args)
            self.ops[key], self.weight[key] = ops, weight
            if all(value_key(a) in self.counted for a in node.args):
                self.counted.add(key)
            self._settle(node)
        elif family == "view":
            self._view(node, key)
            self._settle(node)
        elif family == "source":
            if node.op.name == "constant":
                self._constant(node)
            elif node.op.name != "input":
                self.counted.add(key)
                self._settle(node)
        else:
            LOWER[node.op.name if node.op.name in LOWER else family](self, node)
            for v in node.outputs:
                self._settle_output(v)

    def _settle(self, node: Node) -> None:
        """Decides whether a lazy value stays lazy."""
        key = id(node) << 20
        shared = self.kept.get(key)
        if shared is None:
            shared = self.weight.get(key, 0) >= DEAR and len(self.users.get(key, ())) > 1
        home = self.homes.get(key) if key in self.output_keys else None
        if shared or (home is not None and not self.stands_in(Value(node), home)):
            self.realise(Value(node))
        if key in self.data_symbols:
            self._read_symbols(Value(node))

    def _settle_output(self, v: Value) -> None:
        key = value_key(v)
        if key in self.data_symbols:
            self._read_symbols(v)

    def _read_symbols(self, v: Value) -> None:
        b = self.realise(v)
        for name in self.data_symbols[value_key(v)]:
            self.steps.append(Read(name, b))

    def _view(self, node: Node, key: int) -> None:
        (x,) = node.args
        xk = value_key(x)
        dear = self.weight.get(xk, 0) >= (DEAR if xk in self.counted else REPEATED) and not self._is_memory(x)
        if xk in self.counted:
            self.counted.add(key)
        repeats = node.op.name == "broadcast" or (node.op.name == "windows" and not self._takes_each_once(node))
        if repeats and dear and x.type.size != node.types[0].size:
            self.realise(x)
        self.ops[key] = self.ops.get(xk, 0)
        self.weight[key] = self.weight.get(xk, 0)

    def _takes_each_once(self, windows: Node) -> bool:
        """Whether of windows nothing but diagonals is read, one element of each: they repeat nothing."""
        last = windows.types[0].ndim - 1
        users = [self.nodes[i] for i in self.users.get(value_key(Value(windows)), ())]
        return all(u.op.name == "diagonal" and last in (u.params["axis1"], u.params["axis2"]) for u in users)

    def _constant(self, node: Node) -> None:
        value = node.params["value"]
        if value.size == 1:
            return
        data = np.ascontiguousarray(value)
        s = Storage("constant", f"c{next(self.ctx.names)}", data.nbytes, data=data, writable=False)
        self.ctx.storages.append(s)
        self.ctx.buffers[id(node) << 20] = Buffer(s, node.types[0].dtype, node.types[0].shape)

    # -- stages of the families --------------------------------------------------------------------------------------

    def stage(self) -> StageBuilder:
        return StageBuilder(self.ctx)

    def result(self, v: Value) -> Buffer:
        """The buffer that a node's result is written to; the value is in memory from here on."""
        b = place_in_whole(self, v) or self.home_of(v) or self.ctx.temp(v.type)
        self.ctx.buffers[value_key(v)] = b
        if id(b.storage) in self.ctx.occupants:
            self.ctx.occupants[id(b.storage)] = v
        return b


def instantiate(graph: Graph, env: dict[str, Dim]) -> tuple[list[Value], list[Node], list[Value]]:
    """A region's inputs, nodes and outputs with its symbols replaced: the nodes themselves when it has none."""
    if not env:
        return graph.inputs, list(graph.nodes), graph.outputs
    made: dict[int, Node] = {}

    def value(v: Value) -> Value:
        return Value(made[id(v.node)], v.index)

    nodes = []
    for node in graph.nodes:
        params = {k: substitute(p, env) if isinstance(p, tuple | Expr) else p for k, p in node.params.items()}
        types = tuple(Type(t.dtype, substitute(t.shape, env)) for t in node.types)
        new = Node(node.op, tuple(value(a) for a in node.args), params, types, node.regions, node.loc, node.path)
        made[id(node)] = new
        nodes.append(new)
    return [value(v) for v in graph.inputs], nodes, [value(v) for v in graph.outputs]


LOWER: dict[str, Callable[[Walk, Node], None]] = {}
"""By op name, or by family for ops that have no row of their own: filled by `codegen/families.py` and `control.py`."""


def lower(graph: Graph, name: str, target: Target, *, blas: bool = False) -> Program:
    """The unfused program of a graph. `blas`: large products may call it."""
    from stager.codegen import control, families  # noqa: F401  (they add their rows to LOWER)

    return Lowering(graph, name, target, blas).run()


def new_symbol(ctx: Lowering, hint: str) -> Expr:
    s = symbol(ctx.fresh_symbol(hint))
    assert isinstance(s, Expr)
    return s
