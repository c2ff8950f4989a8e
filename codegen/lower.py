"""Graph -> unfused program: which values get a buffer, which are computed where they are used, what is updated in
place.

One walk over the nodes in their order. A value is *lazy* until something needs it in memory; then `realise` writes
one stage for it. Invariant of updates: when a node overwrites the buffer of its dead operand, every lazy value that
still reads the old content has been realised before, so program order alone keeps reads and writes right. Fusion
comes after (`codegen/fuse.py`); nothing here knows loops orders or LLVM.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.codegen.copies import copy_text
from stager.codegen.dependence import apart, order_of
from stager.codegen.index import Facts, Ix, variable
from stager.codegen.program import Buffer, Instr, Move, Program, Read, Scalar, Storage, Store
from stager.codegen.pull import StageBuilder, value_key
from stager.codegen.remat import choose
from stager.codegen.target import Target
from stager.ir.dims import Dim, Expr, contiguous_strides, product, substitute, symbol, symbols_of
from stager.ir.graph import Graph, Node, Value
from stager.ir.types import Type

MAX_OPS = 250
"""A lazy expression of more operations than this gets a buffer."""
UPDATES = ("slice_update", "scatter", "diagonal_update")
IN_ORDER_BYTES = 1 << 22
"""A larger array that is computed from its own neighbours goes through a copy, which threads can share."""
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
        self.names = itertools.count()
        self.keep: list[Any] = []  # keys are ids: what they name must live

    def run(self) -> Program:
        g = self.graph
        signature = g.signature
        for name, d in g.symbols.items():
            if d.kind in ("stride", "value"):
                self.facts.signed.add(name)
        inputs: list[Buffer] = []
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


class Walk:
    """Lowers one list of nodes (a graph's or a region's) into `steps`."""

    def __init__(
        self,
        ctx: Lowering,
        nodes: Sequence[Node],
        outputs: Sequence[Value],
        homes: dict[int, Buffer],
        data_symbols: dict[str, Value],
    ) -> None:
        self.ctx = ctx
        self.nodes = nodes
        self.homes = homes
        self.steps: list[Any] = []
        self.now = 0
        self.order: dict[int, int] = {}
        self.users: dict[int, list[int]] = {}
        self.ops: dict[int, int] = {}  # operations of a lazy value, counted as a tree
        self.weight: dict[int, int] = {}
        self.counted: set[int] = set()  # lazy values that are made of indices and literals alone
        self.kept: dict[int, bool] = {}  # whether later kernels load a value or compute it again, where that was chosen
        self.output_keys = {value_key(v) for v in outputs}
        self.data_symbols: dict[int, list[str]] = {}
        for name, v in data_symbols.items():
            self.data_symbols.setdefault(value_key(v), []).append(name)
        for i, node in enumerate(nodes):
            self.order[id(node)] = i
            for a in node.args:
                self.users.setdefault(value_key(a), []).append(i)
        self._spread_homes()

    def _spread_homes(self) -> None:
        """An operand that its last user updates in place lives where the result shall live."""
        homes = self.homes
        for i in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[i]
            name = node.op.name
            if name in UPDATES or name == "reshape":
                pairs = [(0, 0)]
            elif name == "for":
                pairs = [(2 + k, k) for k in range(node.params["n_carry"])]
            elif name in ("while", "collect"):
                pairs = [(k, k) for k in range(node.params["n_carry"])]
            else:
                continue
            id20 = id(node) << 20
            for arg, out in pairs:
                home = homes.get(id20 + out)
                a = value_key(node.args[arg])
                last = i  # a reshape is read where its own last reader stands
                if name == "reshape":
                    last = self.users[id20][-1] if id20 in self.users else len(self.nodes)
                if home is None or a in homes or self.users[a][-1] > last or a in self.output_keys:
                    continue
                if name != "reshape":
                    homes[a] = home
                elif home.is_dense and node.args[0].node.op.name in UPDATES:
                    homes[a] = Buffer(home.storage, home.dtype, node.args[0].shape, None, home.offset)

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
        if node.op.name in ("broadcast", "windows") and dear and x.type.size != node.types[0].size:
            self.realise(x)
        self.ops[key] = self.ops.get(xk, 0)
        self.weight[key] = self.weight.get(xk, 0)

    def _constant(self, node: Node) -> None:
        value = node.params["value"]
        if value.size == 1:
            return
        data = np.ascontiguousarray(value)
        s = Storage("constant", f"c{next(self.ctx.names)}", data.nbytes, data=data, writable=False)
        self.ctx.storages.append(s)
        self.ctx.buffers[id(node) << 20] = Buffer(s, node.types[0].dtype, node.types[0].shape)

    # -- putting values into memory ----------------------------------------------------------------------------------

    def _is_memory(self, v: Value) -> bool:
        return value_key(self.origin(v)) in self.ctx.buffers

    def in_memory(self, v: Value) -> bool:
        """Whether a value is a view of something that has been computed."""
        root = self.origin(v)
        while root.node.op.family == "view" and value_key(root) not in self.ctx.buffers:
            root = self.origin(root.node.args[0])
        return value_key(root) in self.ctx.buffers

    def origin(self, v: Value) -> Value:
        """Follows region inputs to the value that they are."""
        while (alias := self.ctx.aliases.get(value_key(v))) is not None:
            v = alias
        return v

    def realise(self, v: Value, into: Buffer | None = None) -> Buffer:
        """The buffer of a value, computed now if it is lazy. `into`: where to put it (not the value's own then)."""
        v = self.origin(v)
        key = value_key(v)
        found = self.ctx.buffers.get(key)
        if found is not None and into is None:
            return found
        target = into or self.home_of(v) or self.ctx.temp(v.type)
        if found is None and into is None and v.node.op.name == "reshape" and target.is_dense:
            # a reshape is the dense buffer of what it reshapes
            x = self.origin(v.node.args[0])
            if value_key(x) not in self.ctx.buffers and len(self.users.get(value_key(x), ())) == 1:
                inner = Buffer(target.storage, target.dtype, x.shape, None, target.offset)
                self.realise(x, inner)
                self.ctx.buffers[key] = target
                self._forget(key)
                return target
        self.write(v, target)
        if into is None:
            self.ctx.buffers[key] = target
            if id(target.storage) in self.ctx.occupants:
                self.ctx.occupants[id(target.storage)] = v
            self._forget(key)
        return target

    def _forget(self, key: int) -> None:
        self.ops[key] = self.weight[key] = 0
        self.counted.discard(key)

    def home_of(self, v: Value) -> Buffer | None:
        """Where a value shall live: its output's memory, unless that holds what somebody still reads."""
        home = self.homes.get(value_key(v))
        if home is None or home.shape != v.shape:
            return None
        there = self.ctx.occupants.get(id(home.storage))
        if (
            there is not None
            and there != v
            and (self.users.get(value_key(there)) or value_key(there) in self.output_keys)
        ):
            return None  # a buffer of its own, which comes back by a move that mostly costs nothing (`inplace`)
        return home

    def write(self, v: Value, target: Buffer, at: Callable[[tuple[Ix, ...]], tuple[Ix, ...]] | None = None) -> None:
        """A stage that computes `v` into `target` (or the part of it that `at` says)."""
        if v.type.size == 0:
            return
        sb = StageBuilder(self.ctx)
        index = tuple(sb.axis(d) for d in v.shape)
        value = sb.pull(v, index)
        where = sb.address(target, at(index) if at else index)
        if any(b.storage is target.storage and not self._same_or_apart(sb, ix, where) for b, ix in loads_of(sb.body)):
            order = self._order_in_place(sb, target, where)
            if order != 0:
                sb.stores.append(Store(target, where, value))
                self.steps.append(sb.finish(sequential=True, descending=order < 0))
                return
            copy = self.ctx.temp(v.type)
            self.write(v, copy)
            sb = StageBuilder(self.ctx)
            index = tuple(sb.axis(d) for d in v.shape)
            value = sb.load(copy, sb.address(copy, index))
            where = sb.address(target, at(index) if at else index)
        sb.stores.append(Store(target, where, value))
        self.steps.append(sb.finish())

    def _same_or_apart(self, sb: StageBuilder, read: Ix, written: Ix) -> bool:
        """Whether a stage may read at one position while it writes another of the same storage."""
        return read == written or not sb.axes or apart(read, written, sb.range_of, sb.range_of, self.ctx.facts)

    def _order_in_place(self, sb: StageBuilder, target: Buffer, where: Ix) -> int:
        """The order in which a stage may write over what it reads itself; 0 when it takes a copy, or more threads."""
        body, item = sb.body, target.dtype.itemsize
        extents = [a.extent for a in sb.axes]
        size = product(extents) * item
        if isinstance(size, int) and size > IN_ORDER_BYTES:
            return 0
        # a wrong index is found after the loops, when the old content must still be there
        if any(i.op in ("bound", "floordiv", "mod") for i in body):
            return 0
        loads = [(b, ix) for b, ix in loads_of(body) if b.storage is target.storage]
        if any(b.dtype.itemsize != item for b, _ in loads):
            return 0
        return order_of(where, (ix for _, ix in loads), extents, item, self.ctx.facts)

    def deliver(self, v: Value, target: Buffer) -> None:
        """Makes sure that the content of `v` is in `target`."""
        if not self.stands_in(v, target):
            self.realise(v, target)

    def stands_in(self, v: Value, target: Buffer) -> bool:
        """Whether the content of `v` is in `target` already."""
        b = self.standing(v)
        return b is not None and b.storage is target.storage

    def standing(self, v: Value) -> Buffer | None:
        """The memory that holds a value: its buffer, or that of the dense array that it is a reshape of."""
        v = root = self.origin(v)
        while value_key(root) not in self.ctx.buffers and root.node.op.name == "reshape":
            root = self.origin(root.node.args[0])
        b = self.ctx.buffers.get(value_key(root))
        if b is None or root == v:
            return b
        return Buffer(b.storage, b.dtype, v.shape, None, b.offset) if b.is_dense else None

    def write_back(self, pairs: list[tuple[Buffer, Value]]) -> None:
        """Values into the caller's arrays, after everything that reads what these hold."""
        moves = []
        for target, v in pairs:
            if self.stands_in(v, target):
                continue
            b = self.ctx.buffers.get(value_key(self.origin(v)))
            if b is None or id(b.storage) not in self.ctx.owned:
                copy = self.ctx.temp(v.type)
                self.realise(v, copy)
                b = copy
            moves.append((target, b))
        self.move(moves)

    def move(self, moves: list[tuple[Buffer, Buffer]]) -> None:
        """Copies dense buffers into others, that may be strided, in order."""
        for target, b in moves:
            if target.is_dense:
                self.steps.append(Move(target, b))
            else:
                sb = StageBuilder(self.ctx)
                index = [sb.axis(d) for d in b.shape]
                sb.stores.append(Store(target, sb.address(target, index), sb.load(b, sb.address(b, index))))
                self.steps.append(sb.finish())

    def scalar(self, v: Value) -> Scalar:
        """An integer scalar as a dim when its definition is one, else its buffer."""
        known = self.scalar_dim(v)
        return self.realise(v) if known is None else known

    def scalar_dim(self, v: Value) -> Dim | None:
        """An integer scalar as a dim, when its definition is one."""
        ix = StageBuilder(self.ctx).as_ix(v, ())
        return ix.const if ix is not None and not ix.terms else None

    def as_buffer(self, v: Value) -> Buffer:
        """A buffer (possibly strided) that holds `v`: views of buffers cost nothing."""
        v = self.origin(v)
        if value_key(v) in self.ctx.buffers:
            return self.ctx.buffers[value_key(v)]
        sb = StageBuilder(self.ctx)
        base = v
        index: tuple[Ix, ...] = tuple(
            variable(len(sb.axes) - 1) if sb.axis(d) is not None and d != 1 else Ix(0) for d in v.shape
        )
        while base.node.op.family == "view" and value_key(base) not in self.ctx.buffers:
            index = sb._view(base.node, index)
            base = self.origin(base.node.args[0])
        b = self.ctx.buffers.get(value_key(base))
        if b is None and (base is v or base.type.size != v.type.size):
            return self.realise(v)
        lies = b if b is not None else Buffer(Storage("temp", "layout", 0), base.type.dtype, base.shape)
        at = sb.address(lies, index)
        if at.is_dynamic:
            return self.realise(v)
        if b is None:  # what is only laid out anew is computed as it is
            b = self.realise(base)
            at = sb.address(b, index)
        axes = iter(range(len(sb.axes)))
        dense = contiguous_strides(v.shape, b.dtype.itemsize)
        strides = tuple(at.coef(next(axes)) if d != 1 else dense[k] for k, d in enumerate(v.shape))
        return Buffer(b.storage, b.dtype, v.shape, strides, at.const)

    # -- updates in place --------------------------------------------------------------------------------------------

    def take(self, base: Value, node: Node, result: Value, at_node: bool = False) -> Buffer:
        """A buffer that holds `base` and that may be overwritten to become `result`."""
        base = self.origin(base)
        key = value_key(base)
        dead = self.dies(base) and self.users.get(key, []).count(self.now) <= 1
        found = self.ctx.buffers.get(key)
        home = self.homes.get(value_key(result))
        if found is None:
            if dead and (reshaped := self._take_reshape(base, home, result, at_node)) is not None:
                return reshaped
            if home is not None and self.home_of(result) is None:
                home = None
            target = home if home is not None and home.shape == base.shape else self.ctx.temp(base.type)
            self.write(base, target)
            if dead:
                self.ctx.buffers[key] = target
                self._forget(key)
                self.protect(base, at_node)
            if id(target.storage) in self.ctx.occupants:
                self.ctx.occupants[id(target.storage)] = result
            return target
        may = id(found.storage) in self.ctx.owned or (home is not None and home.storage is found.storage)
        if dead and may and found.shape == base.shape:
            self.protect(base, at_node)
            self.ctx.occupants[id(found.storage)] = result
            return found
        if home is not None and self.home_of(result) is None:
            home = None
        target = home if home is not None and home.storage is not found.storage else self.ctx.temp(base.type)
        self.write(base, target)
        self.ctx.copies.append(copy_text(self, base, node, found, target))
        return target

    def room(self, result: Value) -> Buffer:
        """A buffer that is going to hold `result`; what it holds now does not matter."""
        home = self.home_of(result)
        target = home if home is not None and home.storage.kind != "input" else self.ctx.temp(result.type)
        if id(target.storage) in self.ctx.occupants:
            self.ctx.occupants[id(target.storage)] = result
        return target

    def dies(self, v: Value) -> bool:
        """Whether nothing after the node at hand reads a value."""
        users = self.users.get(value_key(v), [])
        mine = id(v.node) in self.order  # what stands outside of a region is read again by its next run
        return mine and value_key(v) not in self.output_keys and (not users or users[-1] <= self.now)

    def _take_reshape(self, base: Value, home: Buffer | None, result: Value, at_node: bool) -> Buffer | None:
        """The memory of the dying array that `base` is a reshape of, if it may be overwritten."""
        found, root = self.standing(base), base
        if found is None:
            return None
        while value_key(root) not in self.ctx.buffers:
            root = self.origin(root.node.args[0])
            if not self.dies(root):
                return None
        if id(found.storage) not in self.ctx.owned and (home is None or home.storage is not found.storage):
            return None
        self.protect(root, at_node)
        self.ctx.occupants[id(found.storage)] = result
        return found

    def protect(self, base: Value, at_node: bool = False) -> None:
        """Realises the lazy values that read the content of `base` and are used later than now."""
        now, buffers = self.now, self.ctx.buffers
        limit = now if at_node else now + 1
        stack = [base]
        seen: set[int] = set()
        while stack:
            v = stack.pop()
            for i in self.users.get(value_key(v), ()):
                if i >= now:
                    continue
                u = self.nodes[i]
                if id(u) in seen:
                    continue
                seen.add(id(u))
                for out in u.outputs:
                    key = value_key(out)
                    if key in buffers:
                        continue
                    later = self.users.get(key, ())
                    if (later and later[-1] >= limit) or (key in self.output_keys and key not in buffers):
                        self.realise(out)
                    else:
                        stack.append(out)

    # -- stages of the families --------------------------------------------------------------------------------------

    def stage(self) -> StageBuilder:
        return StageBuilder(self.ctx)

    def result(self, v: Value) -> Buffer:
        """The buffer that a node's result is written to; the value is in memory from here on."""
        b = self.home_of(v) or self.ctx.temp(v.type)
        self.ctx.buffers[value_key(v)] = b
        if id(b.storage) in self.ctx.occupants:
            self.ctx.occupants[id(b.storage)] = v
        return b


def loads_of(body: list[Instr]) -> list[tuple[Buffer, Ix]]:
    return [i.data for i in body if i.op == "load"]


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
