"""Control nodes, checks, contractions and routines -> steps: rows of `lower.LOWER`.

How regions are lowered, and where loops carry what they carry, is in `codegen/region.py`.
"""

from __future__ import annotations

from stager.codegen.families import fill_with
from stager.codegen.index import Ix
from stager.codegen.lower import LOWER, Walk, new_symbol
from stager.codegen.program import (
    Buffer,
    Check,
    Loop,
    MapLanes,
    Reduction,
    Routine,
    Storage,
    Store,
    Switch,
    Tape,
    While,
)
from stager.codegen.pull import value_key
from stager.codegen.region import Region, bring_back, captures_of, carried_in, commits, distinct, lending, local, settle
from stager.ir.graph import Graph, Node, Value
from stager.ir.types import Type


def lower_for(w: Walk, node: Node) -> None:
    n, step = node.params["n_carry"], node.params.get("step", 1)
    lower, upper = w.scalar(node.args[0]), w.scalar(node.args[1])
    captures = captures_of(w, node.args[2 + n :])
    carried = carried_in(w, node, 2, n)
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
    region = Region(w, node.regions[0], [i, *carried, *captures], [])
    homes = {value_key(r): b for r, b in zip(region.outputs, carried, strict=True)}
    with lending(w, node, carried):
        inner = region.walk(distinct(homes, region.outputs), w, 1 + n, carried)
        bring_back(w, region, inner, carried)
    region.leave()
    w.steps.append(Loop(str(i), lower, upper, step, inner.steps))
    settle(w, node, carried)


def lower_while(w: Walk, node: Node) -> None:
    """A `collect` counts its turns, and writes rows in their places on tapes that grow before each turn."""
    n = node.params["n_carry"]
    captures = captures_of(w, node.args[n:])
    carried = carried_in(w, node, 0, n)
    test = Region(w, node.regions[0], [*carried, *captures], [])
    with lending(w, node, carried):
        tester = test.walk({})
        condition = local(w, test.outputs[0].type, "c")
        tester.realise(test.outputs[0], condition)
    test.leave()
    region = Region(w, node.regions[1], [*carried, *captures], [])
    step = While(tester.steps, condition, [])
    rows, counted = [], []
    if node.op.name == "collect":
        turn, step.count = new_symbol(w.ctx, "turn"), local(w, node.types[n], "turns")
        step.turn = str(turn)
        counted = [step.count]
        for v, t in zip(region.outputs[n:], node.types[n + 1 :], strict=True):
            whole = _tape(w, t)
            counted.append(whole)
            step.tapes.append(Tape(whole.storage, v.type.nbytes))
            rows.append((v, Buffer(whole.storage, whole.dtype, v.shape, None, turn * v.type.nbytes)))
    homes = {value_key(r): b for r, b in [*zip(region.outputs, carried, strict=False), *rows]}
    with lending(w, node, carried):
        inner = region.walk(distinct(homes, region.outputs), w, n, carried, rows)
        bring_back(w, region, inner, carried)
    region.leave()
    step.body = inner.steps
    w.steps.append(step)
    settle(w, node, [*carried, *counted])


def _tape(w: Walk, t: Type) -> Buffer:
    s = Storage("tape", f"tape{next(w.ctx.names)}", t.nbytes)
    w.ctx.storages.append(s)
    return Buffer(s, t.dtype, t.shape)


_UPDATES = {"slice_update": 0, "scatter": 0, "diagonal_update": 0, "commit": 0}


def _root(region: Graph, v: Value) -> int | None:
    """The region input that an output is, or is an updated form of."""
    while True:
        if v.node.op.name in _UPDATES:
            v = v.node.args[0]
        elif v.node.op.name == "for":
            v = v.node.args[2 + v.index]
        elif v.node.op.name in ("while", "collect") and v.index < v.node.params["n_carry"]:
            v = v.node.args[v.index]
        elif v.node.op.name == "switch":
            found = [_root(r, r.outputs[v.index]) for r in v.node.regions]
            known = [k for k in found if k is not None]
            if not known:
                return None
            v = v.node.args[1 + known[0]]
        elif v.node.op.name == "input":
            return int(v.node.params["index"])
        else:
            return None


def _returns(w: Walk, v: Value) -> bool:
    """Whether a value is what a caller's array shall hold."""
    home = w.homes.get(value_key(v))
    return home is not None and home.storage.kind == "input"


def _commits_to(w: Walk, node: Node, home: Buffer) -> bool:
    """Whether regions of a node commit to the caller's array that a buffer is."""
    return any(w.ctx.inputs[n.params["input"]].storage is home.storage for r in node.regions for n in commits(r))


def lower_switch(w: Walk, node: Node) -> None:
    index = w.scalar(node.args[0])
    operands = list(node.args[1:])
    n = len(node.types)
    found: dict[int, Buffer] = {}  # a buffer per result
    bound: dict[int, Buffer] = {}  # operands that live in a result's buffer: a caller's array in its own before others
    for k in sorted(range(n), key=lambda k: not _returns(w, Value(node, k))):
        result = Value(node, k)
        roots = {_root(r, r.outputs[k]) for r in node.regions}
        candidates = [j for j in roots if j is not None and j not in bound and operands[j].type == result.type]
        if len(candidates) > 1 and _returns(w, result):  # one of them is what the caller's array holds
            candidates = [j for j in candidates if w.stands_in(operands[j], w.homes[value_key(result)])]
        elif not candidates and _returns(w, result) and _commits_to(w, node, w.homes[value_key(result)]):
            # every branch makes a new content, and says so before it may raise
            home = w.homes[value_key(result)]
            candidates = [j for j, v in enumerate(operands) if j not in bound and w.stands_in(v, home)][:1]
        if (
            len(candidates) == 1
            and len(w.users.get(value_key(operands[candidates[0]]), ())) >= 1
            and (result.type.size != 1 or _returns(w, result))
        ):
            j = candidates[0]
            b = w.stay(operands[j], result) or w.take(operands[j], node, result, at_node=True)
            bound[j] = b
        elif result.type.size == 1 and value_key(result) not in w.homes:
            b = local(w, result.type, "s")
        else:
            b = w.home_of(result) or w.ctx.temp(result.type)
        found[k] = b
    targets = [found[k] for k in range(n)]
    captures_of(w, [v for j, v in enumerate(operands) if j not in bound])
    values: list[Value | Buffer] = [bound.get(j, v) for j, v in enumerate(operands)]
    branches = []
    for graph in node.regions:
        region = Region(w, graph, values, [])
        homes = {value_key(r): b for r, b in zip(region.outputs, targets, strict=True)}
        with lending(w, node, targets):
            inner = region.walk(distinct(homes, region.outputs))
            bring_back(w, region, inner, targets)
        region.leave()
        branches.append(inner.steps)
    w.steps.append(Switch(index, branches))
    settle(w, node, targets)


def lower_map(w: Walk, node: Node) -> None:
    size = node.params["size"]
    captures = captures_of(w, node.args)
    targets = [w.result(v) for v in node.outputs]
    lane = new_symbol(w.ctx, "lane")
    w.ctx.facts.ranges[str(lane)] = (0, size - 1)
    region = Region(w, node.regions[0], [lane, *captures], [])
    before = len(w.ctx.storages)
    slices = [Buffer(b.storage, b.dtype, b.shape[1:], b.strides[1:], b.offset + lane * b.strides[0]) for b in targets]
    homes = {value_key(r): b for r, b in zip(region.outputs, slices, strict=True)}
    with lending(w, node, ()):
        inner = region.walk(distinct(homes, region.outputs), w, 1)
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


def lower_commit(w: Walk, node: Node) -> None:
    """The value lies in the caller's array, where it mostly has been made; what that held goes elsewhere if need be."""
    (v,) = node.args
    home = w.ctx.inputs[node.params["input"]]
    key = id(node) << 20
    if id(home.storage) in w.ctx.lent:
        w.become(Value(node), v)
        return
    there = w.stands_in(v, home)
    w.vacate(home, v)
    if not there:
        w.write(w.origin(v), home)
    w.ctx.buffers[key] = home
    w.ctx.occupants[id(home.storage)] = Value(node)


def lower_dot(w: Walk, node: Node) -> None:
    """A routine takes it, or it is a plain reduction of products."""
    from stager.codegen import routines

    if any(r.lower is not None and r.lower(w, node) for r in routines.all_for(node)):
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
        "collect": lower_while,
        "switch": lower_switch,
        "map": lower_map,
        "check": lower_check,
        "commit": lower_commit,
        "dot": lower_dot,
        "sort": lower_routine,
        "scan": lower_routine,
        "effect": lower_routine,
        "foreign": lower_routine,
    }
)
