"""Where values lie while a graph is lowered: which have memory, whose memory they get, what is updated in place.

A value is *lazy* until something needs it in memory; then `realise` writes one stage for it. Invariant of updates: when
a node overwrites the buffer of its dead operand, every lazy value that still reads the old content has been realised
before (`protect`), so program order alone keeps reads and writes right. What a node does is `codegen/lower.py`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from stager.codegen.copies import copy_text
from stager.codegen.dependence import apart, order_of
from stager.codegen.index import DYNAMIC, Ix, variable
from stager.codegen.program import Buffer, Instr, Move, Scalar, Storage, Store
from stager.codegen.pull import StageBuilder, value_key
from stager.codegen.through import memory_of, same_memory
from stager.ir.dims import Dim, contiguous_strides, product
from stager.ir.graph import Node, Value
from stager.ir.raising import raises

if TYPE_CHECKING:
    from stager.codegen.lower import Lowering

UPDATES = ("slice_update", "scatter", "diagonal_update")
IN_ORDER_BYTES = 1 << 22
"""A larger array that is computed from its own neighbours goes through a copy, which threads can share."""


class Placement:
    """The values of one list of nodes (a graph's or a region's), and the `steps` that put them into memory."""

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
        self.homes = dict(homes)
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
        self.pending: list[Value] = []  # lazy values that look up checked positions
        self.raising = [i for i, node in enumerate(nodes) if raises(node)]
        self._spread_homes()

    def _spread_homes(self) -> None:
        """An operand that its last user updates in place lives where the result shall live."""
        homes = self.homes
        if self.raising:
            for key in [k for k, b in homes.items() if b.storage.kind == "input" and k >> 20 in self.order]:
                v = Value(self.nodes[self.order[key >> 20]], key & 0xFFFFF)
                if not self.may_return(v, len(self.nodes)):
                    del homes[key]
        for i in range(len(self.nodes) - 1, -1, -1):
            node = self.nodes[i]
            name = node.op.name
            carried = False
            if name in UPDATES or name == "reshape":
                pairs = [(0, 0)]
            elif name == "commit":
                home = self.ctx.inputs[node.params["input"]]
                if id(home.storage) in self.ctx.lent:
                    continue
                homes[id(node) << 20] = home
                pairs, carried = [(0, 0)], node.params["carried"]
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
                if home.storage.kind == "input" and not self.may_return(node.args[arg], i, carried):
                    continue
                if name != "reshape":
                    homes[a] = home
                elif home.is_dense and node.args[0].node.op.family not in ("view", "source"):
                    homes[a] = Buffer(home.storage, home.dtype, node.args[0].shape, None, home.offset)

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
        where = sb.address(target, at(index) if at else index)
        there = memory_of(self, v)
        if there is not None and there.storage is target.storage and sb.address(there, index) == where:
            return
        if self.pending and target.storage.kind == "input":
            self.look_up_first()
        value = sb.pull(v, index)
        if any(b.storage is target.storage and not self._same_or_apart(sb, ix, where) for b, ix in loads_of(sb.body)):
            order = self._order_in_place(sb, target, where)
            if order != 0:
                self.checked_first(sb, target)
                sb.stores.append(Store(target, where, value))
                self.steps.append(sb.finish(sequential=True, descending=order < 0))
                return
            copy = self.ctx.temp(v.type)
            self.write(v, copy)
            sb = StageBuilder(self.ctx)
            index = tuple(sb.axis(d) for d in v.shape)
            value = sb.load(copy, sb.address(copy, index))
            where = sb.address(target, at(index) if at else index)
        self.checked_first(sb, target)
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
        if b is not None:
            return b.storage is target.storage
        there = memory_of(self, v)
        return there is not None and there.storage is target.storage and same_memory(there, target)

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

    # -- the caller's arrays ----------------------------------------------------------------------------------------

    def may_return(self, v: Value, at: int, carried: bool = False) -> bool:
        """Whether a value may be made in the caller's array that node `at` says it is: where nothing between may raise.
        `carried`: control flow that may raise writes where that array lies, and commits what it has written."""
        made = self.order.get(id(v.node))
        if made is None or v.node.op.name in ("input", "commit"):
            return True
        if v.node.regions and made in self.raising and not carried:
            return False
        return not any(made < i < at for i in self.raising)

    def become(self, result: Value, v: Value) -> None:
        """A node's result is its operand, under another name."""
        v, key = self.origin(v), value_key(result)
        self.ctx.aliases[key] = v
        self.users[value_key(v)] = sorted([*self.users.get(value_key(v), ()), *self.users.get(key, ())])
        if key in self.output_keys:
            self.output_keys.add(value_key(v))

    def vacate(self, home: Buffer, new: Value) -> None:
        """A caller's array gets a new content: what is still read of the old one goes elsewhere, and so does the new
        content under its other name."""
        buffers = self.ctx.buffers
        for v in dict.fromkeys((self.ctx.occupants.get(id(home.storage)), self.origin(new))):
            key = value_key(v) if v is not None else 0
            if v is None or key not in buffers or buffers[key].storage is not home.storage:
                continue
            self.protect(v)
            if not self.dies(v):
                copy = self.ctx.temp(v.type)
                self.write(v, copy)
                buffers[key] = copy

    def stay(self, base: Value, result: Value) -> Buffer | None:
        """The caller's array that holds `base` and shall hold the result of the control node at hand, where others read
        `base` too: they find a copy."""
        base = self.origin(base)
        home, key = self.homes.get(value_key(result)), value_key(base)
        found = self.ctx.buffers.get(key)
        if home is None or home.storage.kind != "input" or found is None or found.storage is not home.storage:
            return None
        if not same_memory(found, home) or id(base.node) not in self.order:
            return None
        if self.dies(base) and self.users[key].count(self.now) == 1:
            return None
        self.protect(base, at_node=True)
        copy = self.ctx.temp(base.type)
        self.write(base, copy)
        self.ctx.buffers[key] = copy
        self.ctx.occupants[id(home.storage)] = result
        return home

    def look_up_first(self) -> None:
        """Positions that are looked up for later are checked before a caller's array is written; those that what is
        written is made of are checked with it."""
        pending, self.pending = self.pending, []
        for v in pending:
            if value_key(v) not in self.ctx.buffers and self._is_read_behind(v):
                self.realise(v)

    def _is_read_behind(self, v: Value) -> bool:
        """Whether nodes behind the one at hand read a lazy value, or results do."""
        stack, seen = [v], {value_key(v)}
        while stack:
            key = value_key(stack.pop())
            users = self.users.get(key, ())
            if key in self.output_keys or (users and users[-1] > self.now):
                return True
            for i in users:
                for out in self.nodes[i].outputs if i < self.now else ():
                    if value_key(out) not in self.ctx.buffers and value_key(out) not in seen:
                        seen.add(value_key(out))
                        stack.append(out)
        return False

    def checked_first(self, sb: StageBuilder, target: Buffer) -> None:
        """A stage that writes a caller's array looks up positions that have been checked before it began."""
        if target.storage.kind != "input" or not sb.axes:
            return
        checks = [n for n in varying(sb.body) if sb.body[n].op == "bound" and sb.body[n].data[2] == "check"]
        if checks:
            first = StageBuilder(self.ctx)
            first.axes, first.body = list(sb.axes), list(sb.body)
            self.steps.append(first.finish("check", sequential=True))
        for n in checks:
            i = sb.body[n]
            sb.body[n] = Instr(i.op, i.dtype, i.args, (*i.data[:2], "negative"))

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

    def protect(self, base: Value, at_node: bool = False, passing: Collection[int] = ()) -> None:
        """Realises the lazy values that read the content of `base` and are used later than now.

        Not those whose keys are `passing`: what reads them later may see the new content.
        """
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
                    later = () if key in passing else self.users.get(key, ())
                    if (later and later[-1] >= limit) or (key in self.output_keys and key not in buffers):
                        self.realise(out)
                    else:
                        stack.append(out)


def varying(body: list[Instr]) -> list[int]:
    """The instructions of a body whose values are not the same at all points."""
    found: dict[int, None] = {}
    for n, i in enumerate(body):
        if any(a in found for a in i.args) or any(v < DYNAMIC or v - DYNAMIC in found for v in i.variables()):
            found[n] = None
    return list(found)


def loads_of(body: list[Instr]) -> list[tuple[Buffer, Ix]]:
    return [i.data for i in body if i.op == "load"]
