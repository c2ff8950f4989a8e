"""Control nodes, checks, contractions and routines -> steps: rows of `lower.LOWER`.

Carried arrays live in one buffer for the whole loop: the operand's own when it is dead, the result's home, or a copy
made once. A body writes its new value there directly when that is safe, else into a second buffer that is moved (or
swapped) at the end of the iteration. Symbols of a region become dims of the enclosing program (`lower.instantiate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.codegen.families import fill_with
from stager.codegen.index import Ix
from stager.codegen.lower import DEAR, LOWER, Walk, instantiate, new_symbol
from stager.codegen.program import (
    Buffer,
    Check,
    Loop,
    MapLanes,
    Read,
    Reduction,
    Routine,
    Scalar,
    Storage,
    Store,
    Switch,
    While,
)
from stager.codegen.pull import value_key
from stager.codegen.unread import never_read
from stager.ir.dims import Dim, Expr, symbols_of
from stager.ir.dtypes import i64
from stager.ir.graph import Graph, Node, Value
from stager.ir.types import Type


def _stack(w: Walk, t: Type, hint: str) -> Buffer:
    s = Storage("stack", f"{hint}{next(w.ctx.names)}", t.nbytes)
    w.ctx.storages.append(s)
    w.ctx.owned.add(id(s))
    return Buffer(s, t.dtype, t.shape)


class _Region:
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
    ) -> Walk:
        """Lowers the region. `hoist_into`: where what does not depend on the first `variant` inputs is computed.
        `carried`: buffers whose content the region replaces; it may overwrite them, results of the call among them.
        """
        ctx, nodes, outputs, data = self._args
        self._lent = {id(b.storage) for b in carried if b.storage.kind == "output"} - ctx.owned
        ctx.owned |= self._lent
        before = None
        if hoist_into is not None:
            nodes, before = self._hoist(hoist_into, variant)
        inner = Walk(ctx, nodes, outputs, homes, data)
        if before is not None:
            inner.ops.update(before.ops)
            inner.weight.update(before.weight)
        inner.steps = self._steps
        inner.run()
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
        ctx, nodes, outputs, _ = self._args
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
        before = Walk(ctx, moved, frontier, {}, {})
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


def _captures(w: Walk, values: Sequence[Value]) -> list[Value]:
    """Captured values: what costs work is computed before the loop. Sums of indices are dims: positions stay affine."""
    for v in values:
        if w.weight.get(value_key(v), 0) > 0 and not _as_dim(w, v):
            w.realise(v)
    return list(values)


def _as_dim(w: Walk, v: Value) -> bool:
    """Makes an integer scalar a known dim, where its definition is one."""
    if v.type.shape != () or v.type.dtype is not i64:
        return False
    known = w.scalar_dim(v)
    if known is None:
        return False
    w.ctx.scalars[value_key(w.origin(v))] = known
    return True


def _carried(w: Walk, node: Node, first: int, n: int) -> list[Buffer]:
    out = []
    for k in range(n):
        operand, result = node.args[first + k], Value(node, k)
        if result.type.size == 1 and value_key(result) not in w.homes:
            b = _stack(w, result.type, "s")
            w.write(w.origin(operand), b)
        elif node.op.name == "for" and w.origin(operand).node.op.name == "fill" and never_read(w, node, k):
            b = w.room(result)
        else:
            b = w.take(operand, node, result, at_node=True)
        out.append(b)
    return out


def _bring_back(w: Walk, region: _Region, inner: Walk, carried: list[Buffer]) -> None:
    """Moves the new values of carries into the carries' buffers, each before its place gets a new value itself."""
    moves: list[tuple[Value, Buffer, Buffer]] = []
    homes = {id(b.storage): b for b in carried}
    for r, b in zip(region.outputs, carried, strict=True):
        origin = inner.origin(r)
        found = w.ctx.buffers.get(value_key(origin))
        if found is not None and found.storage is b.storage:
            continue
        if found is not None and r.type.size != 1 and _trades(b, found, homes):
            moves.append((r, b, found))
            continue
        if found is None or id(found.storage) in homes or found.storage.kind in ("input", "constant"):
            copy = _stack(w, r.type, "n") if r.type.size == 1 else w.ctx.temp(r.type, "n")
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


def _settle(w: Walk, node: Node, buffers: list[Buffer]) -> None:
    """The results of a control node are in these buffers."""
    for v, b in zip(node.outputs, buffers, strict=True):
        w.ctx.buffers[value_key(v)] = b
        w.ctx.occupants[id(b.storage)] = v


def lower_for(w: Walk, node: Node) -> None:
    n, step = node.params["n_carry"], node.params.get("step", 1)
    lower, upper = w.scalar(node.args[0]), w.scalar(node.args[1])
    captures = _captures(w, node.args[2 + n :])
    carried = _carried(w, node, 2, n)
    i = new_symbol(w.ctx, "i")
    facts = w.ctx.facts
    if step > 0:
        if not isinstance(lower, Buffer) and not isinstance(upper, Buffer):
            facts.ranges[str(i)] = (lower, upper - 1)
        if isinstance(lower, Buffer) or not facts.non_negative(lower):
            facts.signed.add(str(i))
    else:
        if not isinstance(lower, Buffer) and not isinstance(upper, Buffer):
            facts.ranges[str(i)] = (upper + 1, lower)
        if isinstance(upper, Buffer) or not facts.non_negative(upper + 1):
            facts.signed.add(str(i))
    region = _Region(w, node.regions[0], [i, *carried, *captures], [])
    homes = {value_key(r): b for r, b in zip(region.outputs, carried, strict=True)}
    inner = region.walk(_distinct(homes, region.outputs), w, 1 + n, carried)
    _bring_back(w, region, inner, carried)
    region.leave()
    w.steps.append(Loop(str(i), lower, upper, step, inner.steps))
    _settle(w, node, carried)


def _distinct(homes: dict[int, Buffer], outputs: Sequence[Value]) -> dict[int, Buffer]:
    """Carries' homes serve `take` (updates in place); values that other outputs share have none."""
    counts: dict[int, int] = {}
    for v in outputs:
        counts[value_key(v)] = counts.get(value_key(v), 0) + 1
    return {k: b for k, b in homes.items() if counts[k] == 1}


def lower_while(w: Walk, node: Node) -> None:
    n = node.params["n_carry"]
    captures = _captures(w, node.args[n:])
    carried = _carried(w, node, 0, n)
    test = _Region(w, node.regions[0], [*carried, *captures], [])
    tester = test.walk({})
    condition = _stack(w, test.outputs[0].type, "c")
    tester.realise(test.outputs[0], condition)
    test.leave()
    region = _Region(w, node.regions[1], [*carried, *captures], [])
    homes = {value_key(r): b for r, b in zip(region.outputs, carried, strict=True)}
    inner = region.walk(_distinct(homes, region.outputs), w, n, carried)
    _bring_back(w, region, inner, carried)
    region.leave()
    w.steps.append(While(tester.steps, condition, inner.steps))
    _settle(w, node, carried)


_UPDATES = {"slice_update": 0, "scatter": 0, "diagonal_update": 0}


def _root(region: Graph, v: Value) -> int | None:
    """The region input that an output is, or is an updated form of."""
    while True:
        if v.node.op.name in _UPDATES:
            v = v.node.args[0]
        elif v.node.op.name == "for":
            v = v.node.args[2 + v.index]
        elif v.node.op.name == "while":
            v = v.node.args[v.index]
        elif v.node.op.name == "input":
            return int(v.node.params["index"])
        else:
            return None


def lower_switch(w: Walk, node: Node) -> None:
    index = w.scalar(node.args[0])
    operands = list(node.args[1:])
    n = len(node.types)
    targets: list[Buffer] = []
    bound: dict[int, Buffer] = {}  # operands that live in a result's buffer
    for k in range(n):
        result = Value(node, k)
        roots = {_root(r, r.outputs[k]) for r in node.regions}
        candidates = [j for j in roots if j is not None and j not in bound and operands[j].type == result.type]
        if (
            len(candidates) == 1
            and len(w.users.get(value_key(operands[candidates[0]]), ())) >= 1
            and result.type.size != 1
        ):
            j = candidates[0]
            b = w.take(operands[j], node, result, at_node=True)
            bound[j] = b
        elif result.type.size == 1 and value_key(result) not in w.homes:
            b = _stack(w, result.type, "s")
        else:
            b = w.home_of(result) or w.ctx.temp(result.type)
        targets.append(b)
    _captures(w, [v for j, v in enumerate(operands) if j not in bound])
    values: list[Value | Buffer] = [bound.get(j, v) for j, v in enumerate(operands)]
    branches = []
    for graph in node.regions:
        region = _Region(w, graph, values, [])
        homes = {value_key(r): b for r, b in zip(region.outputs, targets, strict=True)}
        inner = region.walk(_distinct(homes, region.outputs))
        _bring_back(w, region, inner, targets)
        region.leave()
        branches.append(inner.steps)
    w.steps.append(Switch(index, branches))
    _settle(w, node, targets)


def lower_map(w: Walk, node: Node) -> None:
    size = node.params["size"]
    captures = _captures(w, node.args)
    targets = [w.result(v) for v in node.outputs]
    lane = new_symbol(w.ctx, "lane")
    w.ctx.facts.ranges[str(lane)] = (0, size - 1)
    region = _Region(w, node.regions[0], [lane, *captures], [])
    before = len(w.ctx.storages)
    slices = [Buffer(b.storage, b.dtype, b.shape[1:], b.strides[1:], b.offset + lane * b.strides[0]) for b in targets]
    homes = {value_key(r): b for r, b in zip(region.outputs, slices, strict=True)}
    inner = region.walk(_distinct(homes, region.outputs), w, 1)
    for r, b in zip(region.outputs, slices, strict=True):
        found = w.ctx.buffers.get(value_key(inner.origin(r)))
        if found is not b:
            inner.realise(r, b)
    region.leave()
    w.steps.append(MapLanes(str(lane), size, inner.steps, w.ctx.storages[before:]))


def lower_check(w: Walk, node: Node) -> None:
    ok, *details = node.args
    buffers = [w.realise(d) for d in details]
    w.steps.append(Check(w.realise(ok), buffers, node.params["exception"], node.params["text"]))


def lower_dot(w: Walk, node: Node) -> None:
    """A routine takes it, or it is a plain reduction of products."""
    from stager.codegen import routines

    routine = routines.find(node)
    if routine is not None and routine.lower is not None and routine.lower(w, node):
        return
    x, y = node.args
    (xc, yc), (xb, yb) = node.params["contract"], node.params["batch"]
    for v in (x, y):
        if w.weight.get(value_key(v), 0) > 2:
            w.realise(v)
    out = w.result(Value(node))
    if node.types[0].size == 0:
        return
    if any(x.shape[a] == 0 for a in xc):
        fill_with(w, out, 0)
        return
    sb = w.stage()
    xi: dict[int, Ix] = {}
    yi: dict[int, Ix] = {}
    at: list[Ix] = []
    for a, b in zip(xb, yb, strict=True):
        xi[a] = yi[b] = sb.axis(x.shape[a])
        at.append(xi[a])
    for d in range(x.type.ndim):
        if d not in xi and d not in xc:
            xi[d] = sb.axis(x.shape[d])
            at.append(xi[d])
    for d in range(y.type.ndim):
        if d not in yi and d not in yc:
            yi[d] = sb.axis(y.shape[d])
            at.append(yi[d])
    for a, b in zip(xc, yc, strict=True):
        xi[a] = yi[b] = sb.axis(x.shape[a], reduce=True)
    left = sb.pull(x, tuple(xi[d] for d in range(x.type.ndim)))
    right = sb.pull(y, tuple(yi[d] for d in range(y.type.ndim)))
    product = sb.instr("mul", x.type.dtype, (left, right))
    where = sb.address(out, at)
    if any(a.reduce for a in sb.axes):
        sb.reductions.append(Reduction("sum", out, where, product))
    else:
        sb.stores.append(Store(out, where, product))
    w.steps.append(sb.finish("dot"))


def lower_routine(w: Walk, node: Node) -> None:
    """Operands into memory (views of buffers stay views), results into buffers, and one call."""
    from stager.codegen import routines

    routine = routines.find(node)
    if routine is None:
        raise NotImplementedError(f"{node.op.name}: no routine emits this op")
    if routine.lower is not None:
        routine.lower(w, node)
        return
    inputs = [w.as_buffer(a) if routine.strided else w.realise(a) for a in node.args]
    inputs = [b if routine.strided or b.is_dense else _dense(w, a) for a, b in zip(node.args, inputs, strict=True)]
    read = {id(b.storage) for b in inputs}
    outputs = []
    for v in node.outputs:
        home = w.homes.get(value_key(v))
        if home is not None and id(home.storage) in read:  # a routine never writes over what it reads
            w.ctx.buffers[value_key(v)] = w.ctx.temp(v.type)
            outputs.append(w.ctx.buffers[value_key(v)])
        else:
            outputs.append(w.result(v))
    scratch = [w.ctx.temp(Type(dtype, shape), "w") for dtype, shape in routine.scratch(node)]
    w.steps.append(Routine(routine.name, node, inputs, outputs, scratch))


def _dense(w: Walk, v: Value) -> Buffer:
    copy = w.ctx.temp(v.type)
    w.write(w.origin(v), copy)
    return copy


LOWER.update(
    {
        "for": lower_for,
        "while": lower_while,
        "switch": lower_switch,
        "map": lower_map,
        "check": lower_check,
        "dot": lower_dot,
        "sort": lower_routine,
        "scan": lower_routine,
        "effect": lower_routine,
        "foreign": lower_routine,
    }
)
