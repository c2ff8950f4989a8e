"""Reductions, updates, joins and indexed ops -> stages: rows of `lower.LOWER`.

Each writes its result into the buffer that the walk gives it; updates take the buffer of their dead operand
(`Walk.take`). A gather stays lazy, what it reads much of is in memory. Invariant: a stage never reads a place of the
buffer that it writes unless it is the very place that it writes at that point.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.codegen.around import take_around
from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.joining import lower_concatenate
from stager.codegen.lower import DEAR, LOWER, Walk
from stager.codegen.placement import loads_of
from stager.codegen.program import Buffer, Reduction, Store
from stager.codegen.pull import StageBuilder, diagonal_index, value_key
from stager.codegen.through import take_through
from stager.ir.dims import Dim, Expr
from stager.ir.dtypes import DType, b1, i64
from stager.ir.graph import Node, Value

FEW = 8
"""An array of which gathers take less than one element in so many is computed where they take it."""
REDUCTIONS = {
    "reduce_sum": "sum", "reduce_prod": "prod", "reduce_max": "max", "reduce_min": "min",
    "reduce_or": "or", "reduce_and": "and", "argmax": "argmax", "argmin": "argmin",
}  # fmt: skip


def lower_reduction(w: Walk, node: Node) -> None:
    """reduce_* over `axes`, argmax and argmin along `axis`."""
    from stager.codegen import routines

    (x,) = node.args
    kind = REDUCTIONS[node.op.name]
    if kind.startswith("arg"):
        routine = routines.find(node)
        if routine is not None and routine.lower is not None and routine.lower(w, node):
            return
    axes = node.params["axes"] if "axes" in node.params else (node.params["axis"],)
    out = w.result(Value(node))
    sb = w.stage()
    if x.type.size == 0:
        fill_with(w, out, identity(kind, x.type.dtype))
        return
    index = tuple(sb.axis(d, reduce=k in axes) for k, d in enumerate(x.shape))
    value = sb.pull(x, index)
    at = sb.address(out, [i for k, i in enumerate(index) if k not in axes])
    if any(b.storage is out.storage for b, _ in loads_of(sb.body)):
        w.homes.pop(id(node) << 20, None)
        out = w.result(Value(node))
        at = sb.address(out, [i for k, i in enumerate(index) if k not in axes])
    if all(not a.reduce for a in sb.axes):  # axes of extent 1 only
        if kind.startswith("arg"):
            value = sb.const(i64, 0)
        sb.stores.append(Store(out, at, value))
    else:
        position = index[axes[0]] if kind.startswith("arg") else None
        sb.reductions.append(Reduction(kind, out, at, value, position))
    w.steps.append(sb.finish())


def identity(kind: str, dtype: DType) -> Any:
    """The neutral element of a monoid."""
    if kind in ("sum", "or"):
        return 0
    if kind == "prod":
        return 1
    if kind == "and":
        return True if dtype is b1 else -1 if dtype.kind == "i" else (1 << dtype.bits) - 1
    if dtype.kind == "f":
        return -np.inf if kind in ("max", "argmax") else np.inf
    if dtype is b1:
        return kind in ("min", "argmin")
    info = np.iinfo(dtype.np)
    return int(info.min if kind in ("max", "argmax") else info.max)


def fill_with(w: Walk, target: Buffer, value: Any) -> None:
    """A stage that fills a buffer with a literal."""
    if target.storage.nbytes == 0 or any(d == 0 for d in target.shape):
        return
    sb = w.stage()
    index = [sb.axis(d) for d in target.shape]
    sb.stores.append(Store(target, sb.address(target, index), sb.const(target.dtype, value)))
    w.steps.append(sb.finish())


def lower_slice_update(w: Walk, node: Node) -> None:
    base, value = node.args
    p = node.params
    result = Value(node)
    out = take_around(w, node) or take_through(w, base, node, result) or w.take(base, node, result)
    w.ctx.buffers[id(node) << 20] = out

    def at(index: tuple[Ix, ...]) -> tuple[Ix, ...]:
        return tuple(i.scale(step).shift(start) for i, start, step in zip(index, p["starts"], p["steps"], strict=True))

    w.write(w.origin(value), out, at)


def lower_diagonal_update(w: Walk, node: Node) -> None:
    base, value = node.args
    p = node.params
    out = take_through(w, base, node, Value(node)) or w.take(base, node, Value(node))
    w.ctx.buffers[id(node) << 20] = out
    w.write(
        w.origin(value), out, lambda index: diagonal_index(index, base.type.ndim, p["axis1"], p["axis2"], p["offset"])
    )


def lower_pad(w: Walk, node: Node) -> None:
    x, value = node.args
    low, high, interior = node.params["low"], node.params["high"], node.params["interior"]
    out = w.result(Value(node))
    shape = node.types[0].shape
    sb = w.stage()
    index = tuple(sb.axis(d) for d in shape)
    filler = sb.pull(value, ())
    dilated = any(i for i in interior)
    if dilated:
        sb.stores.append(Store(out, sb.address(out, index), filler))
        w.steps.append(sb.finish())
    else:
        # slabs: before axis d everything is inside, after it everything is out
        for d in range(len(shape)):
            for start, extent in ((0, low[d]), (low[d] + x.shape[d], high[d])):
                if not isinstance(extent, Expr) and extent <= 0:
                    continue
                s = w.stage()
                slab = []
                for k, n in enumerate(shape):
                    if k < d:
                        slab.append(s.axis(x.shape[k]).shift(low[k]))
                    else:
                        slab.append(s.axis(extent).shift(start) if k == d else s.axis(n))
                s.stores.append(Store(out, s.address(out, slab), s.pull(value, ())))
                w.steps.append(s.finish())
    if x.type.size != 0:
        w.write(
            w.origin(x),
            out,
            lambda ix: tuple(i.scale(g + 1).shift(lo) for i, lo, g in zip(ix, low, interior, strict=True)),
        )


def _takes_few(w: Walk, x: Value) -> bool:
    """Whether all that gathers take of an array is so little that computing it there costs less than storing it all."""
    gathers = [n for n in map(w.nodes.__getitem__, w.users.get(value_key(x), ())) if n.op.name == "gather"]
    taken = sum(n.types[0].size for n in gathers)
    static = isinstance(taken, int) and isinstance(x.type.size, int)
    return static and taken * max(w.weight[value_key(x)], FEW) <= x.type.size


def _unrepeated(w: Walk, x: Value) -> Value:
    """What an array repeats, or the array."""
    while x.node.op.name == "broadcast" and value_key(x) not in w.ctx.buffers:
        x = w.origin(x.node.args[0])
    return x


def lower_gather(w: Walk, node: Node) -> None:
    """Stays lazy; what it reads much of is in memory."""
    x = w.origin(node.args[0])
    key = id(node) << 20
    if value_key(x) not in w.ctx.buffers and w.weight.get(value_key(x), 0) > 2 and not _takes_few(w, x):
        w.realise(_unrepeated(w, x))
    for i in node.args[1:]:
        if w.weight.get(value_key(i), 0) >= DEAR:
            w.realise(i)
    scalar = node.types[0].size == 1
    w.ops[key] = 4 + sum(w.ops.get(value_key(a), 0) for a in node.args)
    w.weight[key] = (2 if scalar else DEAR) + sum(w.weight.get(value_key(a), 0) for a in node.args)
    if node.params["mode"] == "check":
        w.pending.append(Value(node))
    w._settle(node)


def lower_scatter(w: Walk, node: Node) -> None:
    x, updates, *idx = node.args
    p = node.params
    axes, batch, mode, combine = p["axes"], p["batch_dims"], p["mode"], p["combine"]
    n_index = idx[0].type.ndim if idx else batch
    home = w.homes.get(id(node) << 20)
    returns = home is not None and home.storage.kind == "input"
    if w.pending and returns:
        w.look_up_first()
    for i in idx:
        if w.weight.get(value_key(i), 0) >= DEAR:
            w.realise(i)
    there = take_through(w, x, node, Value(node))
    returns = returns if there is None else there.storage.kind == "input"
    # a caller's array is not written before all positions are seen to be good, not even with what is updated
    ahead = returns or not all(isinstance(x.shape[a], int) and x.shape[a] for a in axes)
    if mode == "check" and ahead and updates.type.size != 0:
        sb = w.stage()
        sub = tuple(sb.axis(d) for d in idx[0].shape)
        for axis, i in zip(axes, idx, strict=True):
            _position(sb, i, sub, x.shape[axis], axis, "check")
        if any(i.op == "bound" for i in sb.body):
            w.steps.append(sb.finish("check", sequential=True))
    out = there or w.take(x, node, Value(node))
    w.ctx.buffers[id(node) << 20] = out
    if updates.type.size == 0:
        return

    places: list[Ix] = []
    points: list[int] = []

    def build(source: Value | Buffer) -> StageBuilder:
        nonlocal places, points
        sb = w.stage()
        index = tuple(sb.axis(d) for d in updates.shape)
        sub, rest = index[:n_index], iter(index[n_index:])
        to = {
            axis: _position(sb, i, sub, x.shape[axis], axis, "negative" if mode == "check" and ahead else mode)
            for axis, i in zip(axes, idx, strict=True)
        }
        at = [index[d] if d < batch else to[d] if d in to else next(rest) for d in range(x.type.ndim)]
        places, points = [*index[:batch], *to.values()], [v for ix in sub for v, _ in ix.terms]
        value = sb.load(source, sb.address(source, index)) if isinstance(source, Buffer) else sb.pull(source, index)
        sb.stores.append(Store(out, sb.address(out, at), value, combine))
        return sb

    source = w.origin(updates)
    sb = build(source)
    if any(b.storage is out.storage for b, _ in loads_of(sb.body)) and sb.axes:
        copy = w.ctx.temp(updates.type)
        w.write(source, copy)
        sb = build(copy)
    w.checked_first(sb, out)
    extents = {v: sb.axes[v].extent for v in points}
    dynamic = sb.stores[0].at.is_dynamic
    w.steps.append(sb.finish("scatter", sequential=dynamic or not _told_apart(places, extents)))


def _told_apart(places: list[Ix], extents: dict[int, Dim]) -> bool:
    """Whether points that differ in one of these variables surely go to different places: then they run in any order.

    Places with several variables tell them apart as the digits of a number do: each counts in steps that are longer
    than all that the ones before can reach.
    """
    told: set[int] = set()
    for place in places:
        if any(v >= DYNAMIC for v, _ in place.terms):
            continue
        terms = [(v, c) for v, c in place.terms if v in extents]
        if len(terms) == 1:
            told.update(v for v, _ in terms)
            continue
        known = [(c, extents[v], v) for v, c in terms]
        digits = [(abs(c), n, v) for c, n, v in known if isinstance(c, int) and isinstance(n, int)]
        if len(digits) < len(terms):
            continue
        reach = 0
        for step, n, _ in sorted(digits):
            if step <= reach:
                break
            reach += step * (n - 1)
        else:
            told.update(v for _, _, v in digits)
    return told.issuperset(extents)


def _position(sb: StageBuilder, i: Value, sub: tuple[Ix, ...], size: Dim, axis: int, mode: str) -> Ix:
    p = sb.position(i, sub, size, axis, mode)
    if isinstance(p, Ix):
        return p
    sb.pull(i, sub)
    p = sb.position(i, sub, size, axis, mode)
    assert isinstance(p, Ix)
    return p


LOWER.update(
    {
        "reduction": lower_reduction,
        "slice_update": lower_slice_update,
        "diagonal_update": lower_diagonal_update,
        "concatenate": lower_concatenate,
        "pad": lower_pad,
        "gather": lower_gather,
        "scatter": lower_scatter,
    }
)
