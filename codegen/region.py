"""Regions of control nodes -> steps, and what loops carry.

Carried arrays live in one buffer for the whole loop: the operand's own when it is dead, the result's home, or a copy
made once. A body writes its new value there directly when that is safe, else into a second buffer that is moved (or
swapped) at the end of the iteration. Symbols of a region become dims of the enclosing program (`lower.instantiate`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from stager.codegen.lower import DEAR, WEIGHTS, Walk, instantiate, new_symbol
from stager.codegen.program import Buffer, Read, Scalar, Storage
from stager.codegen.pull import value_key
from stager.codegen.remat import choose
from stager.codegen.unread import never_read
from stager.ir.dims import Dim, Expr, symbols_of
from stager.ir.dtypes import i64
from stager.ir.graph import Graph, Node, Value
from stager.ir.types import Type


def local(w: Walk, t: Type, hint: str) -> Buffer:
    s = Storage("stack", f"{hint}{next(w.ctx.names)}", t.nbytes)
    w.ctx.storages.append(s)
    w.ctx.owned.add(id(s))
    return Buffer(s, t.dtype, t.shape)


class Region:
    """One lowering of a region: inputs bound, then walked."""

    def __init__(self, w: Walk, graph: Graph, operands: Sequence[Value | Buffer | Dim], first_steps: list[Any]) -> None:
        ctx = w.ctx
        ctx.keep.append(graph)
        env: dict[str, Dim] = {}
        steps: list[Any] = list(first_steps)
        position = {value_key(v): k for k, v in enumerate(graph.inputs)}
        data: dict[str, Value] = {}
        for name, d in graph.symbols.items():
            if d.kind == "value":
                k = position[value_key(d.source)] if isinstance(d.source, Value) else int(d.source)
                operand = operands[k]
                known: Scalar = w.scalar(operand) if isinstance(operand, Value) else operand
                if isinstance(known, Buffer):
                    fresh = new_symbol(ctx, name)
                    ctx.facts.signed.add(str(fresh))
                    steps.append(Read(str(fresh), known))
                    known = fresh
                env[name] = known
            elif d.kind == "shape":
                k = position[value_key(d.source)] if isinstance(d.source, Value) else int(d.source)
                operand = operands[k]
                assert isinstance(operand, Value | Buffer)
                env[name] = operand.shape[d.axis]
            else:
                fresh = new_symbol(ctx, name)
                env[name] = fresh
                data[str(fresh)] = d.source
        if not env:
            for node in graph.nodes:  # the same region may have been lowered before
                for i in range(len(node.types)):
                    k = (id(node) << 20) + i
                    ctx.buffers.pop(k, None)
                    ctx.scalars.pop(k, None)
                    ctx.aliases.pop(k, None)
        inputs, nodes, outputs = instantiate(graph, env)
        ctx.keep.append(nodes)
        if data:
            old = list(graph.nodes)
            place = {id(n): k for k, n in enumerate(old)}
            data = {s: Value(nodes[place[id(v.node)]], v.index) for s, v in data.items()}
        for v, operand in zip(inputs, operands, strict=True):
            key = value_key(v)
            if isinstance(operand, Buffer):
                ctx.buffers[key] = operand
                ctx.occupants[id(operand.storage)] = v
            elif isinstance(operand, Value):
                ctx.aliases[key] = operand
            else:
                ctx.scalars[key] = operand
        self.inputs, self.outputs = inputs, outputs
        self._args = (ctx, nodes, outputs, data)
        self._symbols = {str(d) for d in env.values() if isinstance(d, Expr)} - set(ctx.graph.symbols)
        self._steps = steps
        self._known = set(ctx.buffers)
        self._lent: set[int] = set()

    def walk(
        self,
        homes: dict[int, Buffer],
        hoist_into: Walk | None = None,
        variant: int = 0,
        carried: Sequence[Buffer] = (),
        rows: Sequence[tuple[Value, Buffer]] = (),
    ) -> Walk:
        """Lowers the region. `hoist_into`: where what does not depend on the first `variant` inputs is computed.
        `carried`: buffers whose content the region replaces; it may overwrite them, results of the call among them.
        `rows`: outputs behind the carries, and where they go. Those that come from around go there first.
        """
        ctx, nodes, outputs, data = self._args
        self._lent = {id(b.storage) for b in carried if b.storage.kind == "output"} - ctx.owned
        ctx.owned |= self._lent
        before = None
        if hoist_into is not None:
            nodes, before = self._hoist(hoist_into, variant)
        given = [(v, b) for v, b in rows if v.node.op.name == "input"]
        made = [(v, b) for v, b in rows if v.node.op.name != "input"]
        if rows:
            outputs = [*outputs[: len(carried)], *[v for v, _ in made]]
        inner = Walk(ctx, nodes, outputs, homes, data)
        if before is not None:
            inner.ops.update(before.ops)
            inner.weight.update(before.weight)
        inner.steps = self._steps
        inner.kept = choose(nodes, outputs, WEIGHTS, DEAR)
        for v, b in given:
            inner.write(inner.origin(v), b)
        inner.run()
        for v, b in made:
            inner.deliver(v, b)
        return inner

    def leave(self) -> None:
        """What the region put into memory of values around it is there in the region only."""
        ctx, nodes = self._args[:2]
        ctx.owned -= self._lent
        own = {id(n) for n in nodes}
        for key in [k for k in ctx.buffers if k not in self._known and k >> 20 not in own]:
            del ctx.buffers[key]

    def _hoist(self, w: Walk, variant: int) -> tuple[list[Node], Walk | None]:
        """Computes before the loop what every iteration would compute alike; returns the nodes that remain."""
        ctx, nodes, outputs, data = self._args
        varying = {id(v.node) for v in self.inputs[:variant]}
        loop_symbols = {str(d) for v in self.inputs if isinstance(d := ctx.scalars.get(value_key(v)), Expr)}
        loop_symbols |= self._symbols
        remain: list[Node] = []
        moved: list[Node] = []
        for node in nodes:
            if (
                node.op.name == "input"
                or node.op.family not in _HOISTED
                or any(id(a.node) in varying for a in node.args)
                or (node.op.name == "gather" and node.params["mode"] == "check")
                or (loop_symbols and symbols_of((*node.params.values(), *(t.shape for t in node.types))) & loop_symbols)
            ):
                remain.append(node)
                if node.op.name != "input":
                    varying.add(id(node))
            else:
                moved.append(node)
        if not any(n.op.family not in ("source", "view") for n in moved):
            return nodes, None
        places = {id(n) for n in moved}
        frontier = [a for n in remain for a in n.args if id(a.node) in places]
        frontier += [v for v in outputs if id(v.node) in places]
        before = Walk(ctx, moved, frontier, {}, {s: v for s, v in data.items() if id(v.node) in places})
        before.steps = w.steps
        before.run()
        for v in frontier:
            if before.weight.get(value_key(v), 0) >= 2 and not _counted(before, v):
                before.realise(v)
        return remain, before


def _counted(w: Walk, v: Value) -> bool:
    """True for cheap arithmetic on positions alone: to compute it where it is used costs less than to read it."""
    if v.type.dtype.is_inexact or w.weight.get(value_key(v), 0) >= DEAR:
        return False
    todo, seen = [v], {value_key(v)}
    while todo:
        node = todo.pop().node
        if node.op.family not in ("elementwise", "view", "source") or node.op.name in ("input", "constant"):
            return False
        new = [a for a in node.args if value_key(a) not in seen]
        seen.update(map(value_key, new))
        todo += new
    return True


_HOISTED = ("source", "elementwise", "view", "reduction", "scan", "indexed", "contract", "structural", "sort")


def captures_of(w: Walk, values: Sequence[Value]) -> list[Value]:
    """Captured values: what costs work is computed before the loop. Sums of indices are dims: positions stay affine."""
    for v in values:
        if w.weight.get(value_key(v), 0) > 0 and not as_dim(w, v):
            w.realise(v)
    return list(values)


def as_dim(w: Walk, v: Value) -> bool:
    """Makes an integer scalar a known dim, where its definition is one."""
    if v.type.shape != () or v.type.dtype is not i64:
        return False
    known = w.scalar_dim(v)
    if known is None:
        return False
    w.ctx.scalars[value_key(w.origin(v))] = known
    return True


@contextmanager
def lending(w: Walk, node: Node, buffers: Sequence[Buffer]) -> Iterator[None]:
    """Context: regions that work on these buffers. The caller's arrays that they commit to and that are not among them
    keep what they hold until the node is done."""
    places = {n.params["input"] for region in node.regions for n in commits(region)}
    lent = {id(w.ctx.inputs[n].storage) for n in places} - {id(b.storage) for b in buffers} - w.ctx.lent
    w.ctx.lent |= lent
    yield
    w.ctx.lent -= lent


def commits(graph: Graph) -> Iterator[Node]:
    """The commits of a graph and of its regions."""
    for node in graph.nodes:
        if node.op.name == "commit":
            yield node
        for region in node.regions:
            yield from commits(region)


def carried_in(w: Walk, node: Node, first: int, n: int) -> list[Buffer]:
    out = []
    for k in range(n):
        operand, result = node.args[first + k], Value(node, k)
        if result.type.size == 1 and value_key(result) not in w.homes:
            b = local(w, result.type, "s")
            w.write(w.origin(operand), b)
        elif node.op.name == "for" and w.origin(operand).node.op.name == "fill" and never_read(w, node, k):
            b = w.room(result)
        else:
            b = w.stay(operand, result) or w.take(operand, node, result, at_node=True)
        out.append(b)
    return out


def bring_back(w: Walk, region: Region, inner: Walk, carried: list[Buffer]) -> None:
    """Moves the new values of carries into the carries' buffers, each before its place gets a new value itself."""
    moves: list[tuple[Value, Buffer, Buffer]] = []
    homes = {id(b.storage): b for b in carried}
    for r, b in zip(region.outputs[: len(carried)], carried, strict=True):
        origin = inner.origin(r)
        found = w.ctx.buffers.get(value_key(origin))
        if found is not None and found.storage is b.storage:
            continue
        if found is not None and r.type.size != 1 and _trades(b, found, homes):
            moves.append((r, b, found))
            continue
        if found is None or id(found.storage) in homes or found.storage.kind in ("input", "constant"):
            copy = local(w, r.type, "n") if r.type.size == 1 else w.ctx.temp(r.type, "n")
            inner.realise(r, copy)
            found = copy
        elif id(found.storage) not in w.ctx.owned:
            copy = w.ctx.temp(r.type, "n")
            inner.realise(r, copy)
            found = copy
        moves.append((r, b, found))
    ordered: list[tuple[Buffer, Buffer]] = []
    while moves:
        read = {id(found.storage) for _, _, found in moves}
        k = next((k for k, (_, b, _) in enumerate(moves) if id(b.storage) not in read), None)
        if k is None:  # all in a ring: one of them steps aside
            r, b, _ = moves[0]
            copy = w.ctx.temp(r.type, "n")
            inner.realise(r, copy)
            moves[0] = (r, b, copy)
            continue
        _, b, found = moves.pop(k)
        ordered.append((b, found))
    inner.move(ordered)


def _trades(b: Buffer, found: Buffer, homes: dict[int, Buffer]) -> bool:
    """Whether a carry's new value is the whole of another carry's array."""
    home = homes.get(id(found.storage))
    if home is None:
        return False
    return b.is_dense and found.is_dense and home.is_dense and (b.shape, b.offset) == (found.shape, found.offset)


def settle(w: Walk, node: Node, buffers: list[Buffer]) -> None:
    """The results of a control node are in these buffers."""
    for v, b in zip(node.outputs, buffers, strict=True):
        w.ctx.buffers[value_key(v)] = b
        w.ctx.occupants[id(b.storage)] = v


def distinct(homes: dict[int, Buffer], outputs: Sequence[Value]) -> dict[int, Buffer]:
    """Carries' homes serve `take` (updates in place); values that other outputs share have none."""
    counts: dict[int, int] = {}
    for v in outputs:
        counts[value_key(v)] = counts.get(value_key(v), 0) + 1
    return {k: b for k, b in homes.items() if counts[k] == 1}
