"""Gathers and scatters at positions that are known: slices and updates, which fold into index maps.

A position is known when the index operand is a literal, a dim, made of a region's integers (`x[i + 1]` inside a loop,
promised in bounds), or an iota over the whole axis. Checked positions are only replaced where they are seen to be in
bounds; what is out of bounds stays, to raise at run time. Positions that go round an axis, `(arange(n) - s) % n`, are
each hit once: to scatter there, as the adjoint of a roll does, is to gather from where they came. One position in each
lane of what is computed anyway is a comparison with the index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.ir.core_ops import fill_op
from stager.ir.dims import Dim, Expr
from stager.ir.dtypes import i64
from stager.ir.graph import Node, Value
from stager.ir.ranges import range_of, within
from stager.ir.rewrite import Replacement, Rewriter, Rules, made_by
from stager.ir.types import Type


def _position(rw: Rewriter, index: Value, extent: Dim, mode: str) -> Dim | None:
    """Where a scalar or literal index points, as a dim known to be in bounds."""
    i: Dim | None = int(index.node.params["value"]) if index.node.op is fill_op else None
    if i is None and mode == "promise":
        i = rw.index_dim(index)
    if i is None:
        return None
    if isinstance(i, Expr):
        return i if mode == "promise" else None
    if isinstance(extent, Expr):
        return i if mode == "promise" and i >= 0 else None
    if mode == "clip":
        i = min(max(i, 0), extent - 1)
    elif mode == "wrap" and extent:
        i %= extent
    elif mode == "check" and -extent <= i < 0:
        i += extent
    return i if 0 <= i < extent else None


def _positions(rw: Rewriter, x: Value, indices: tuple[Value, ...], node: Node) -> list[Dim] | None:
    found = []
    for index, axis in zip(indices, node.params["axes"], strict=True):
        position = _position(rw, index, x.type.shape[axis], node.params["mode"])
        if position is None:
            return None
        found.append(position)
    return found


def _region(x: Type, axes: tuple[int, ...], positions: list[Dim]) -> dict[str, tuple[Dim, ...]]:
    starts: list[Dim] = [0] * x.ndim
    sizes = list(x.shape)
    for axis, p in zip(axes, positions, strict=True):
        starts[axis], sizes[axis] = p, 1
    return {"starts": tuple(starts), "sizes": tuple(sizes), "steps": (1,) * x.ndim}


def gather(rw: Rewriter, node: Node) -> Replacement:
    """gather at known positions -> slice; at every position of an axis -> transpose; checked and fine -> promised; of
    what was just scattered to that place -> that"""
    x, *indices = node.args
    if _is_just_written(x, node):
        return x.node.args[1]
    lanes = _row_by_row(node)
    if lanes is not None:
        return rw.emit("gather", x, *indices[1:], **lanes)
    if made_by(indices[0], "iota"):
        return _gathered_whole(rw, node)
    if _in_bounds(rw, x, indices, node):
        return rw.emit("gather", *node.args, **{**node.params, "mode": "promise"})
    if node.params["batch_dims"] != 0:
        return None
    positions = _positions(rw, x, tuple(indices), node)
    if positions is None:
        return None
    axes = node.params["axes"]
    rest = [k for k in range(x.type.ndim) if k not in axes]
    row = rw.emit("slice", x, **_region(x.type, axes, positions))
    row = rw.emit("reshape", row, shape=tuple([x.type.shape[k] for k in rest]))
    shape = node.types[0].shape
    first = len(shape) - len(rest)
    return rw.emit("broadcast", row, shape=shape, axes=tuple(range(first, len(shape))))


def _is_just_written(x: Value, gather: Node) -> bool:
    """Whether x was set at the one place that a gather reads."""
    if not made_by(x, "scatter") or x.node.args[2:] != gather.args[1:] or x.node.params["combine"] != "set":
        return False
    found, read = x.node.params, gather.params
    modes = {found["mode"], read["mode"]}
    one = not read["batch_dims"] and all(i.type.shape == () for i in gather.args[1:])
    return one and modes <= {"check", "promise"} and found["axes"] == read["axes"] and not found["batch_dims"]


def _in_bounds(rw: Rewriter, x: Value, indices: Sequence[Value], node: Node) -> bool:
    """True when positions that are not promised yet are all seen to be in bounds and not negative."""
    if node.params["mode"] == "promise":
        return False
    extents = [x.type.shape[a] for a in node.params["axes"]]
    return all(
        within(range_of(i, rw.ranges), d, rw.at_least) or _goes_round(i, d)
        for i, d in zip(indices, extents, strict=True)
    )


def _row_by_row(node: Node) -> dict[str, Any] | None:
    """x[0…n-1, i, …] of n rows: a position in every row, by the parameters of a gather or scatter of lanes."""
    x, *rest = node.args
    index = rest[1] if node.op.name == "scatter" else rest[0]
    axes, lanes = node.params["axes"], node.params["batch_dims"]
    if len(axes) < 2 or axes[0] != lanes:
        return None
    if made_by(index, "broadcast"):
        if index.node.params["axes"] != (lanes,):
            return None
        (index,) = index.node.args
    elif lanes:
        return None
    if not made_by(index, "iota") or index.node.params["size"] != x.type.shape[lanes]:
        return None
    return {**node.params, "axes": axes[1:], "batch_dims": lanes + 1}


def _gathered_whole(rw: Rewriter, node: Node) -> Replacement:
    """gather(x, 0…n-1) of an axis with n positions -> that axis first"""
    x, *indices = node.args
    (axis, *more), (index, *_) = node.params["axes"], indices
    if more or node.params["batch_dims"] != 0 or index.node.params["size"] != x.type.shape[axis]:
        return None
    return rw.emit("transpose", x, perm=(axis, *[k for k in range(x.type.ndim) if k != axis]))


def scatter(rw: Rewriter, node: Node) -> Replacement:
    """scatter to one known position -> slice_update"""
    x, updates, *indices = node.args
    combine = node.params["combine"]
    lanes = _row_by_row(node)
    if lanes is not None:
        return rw.emit("scatter", x, updates, *indices[1:], **lanes)
    if _in_bounds(rw, x, tuple(indices), node):
        return rw.emit("scatter", *node.args, **{**node.params, "mode": "promise"})
    if combine not in ("set", "add"):
        return None
    if node.params["batch_dims"] != 0:
        return _one_per_lane(rw, node)
    if indices[0].type.ndim == 1 and len(indices) == 1:
        return _scattered_around(rw, node)
    if indices[0].type.shape != ():
        return None
    positions = _positions(rw, x, tuple(indices), node)
    if positions is None:
        return None
    region = _region(x.type, node.params["axes"], positions)
    value = rw.emit("reshape", updates, shape=region["sizes"])
    if combine == "add":
        value = rw.emit("add", rw.emit("slice", x, **region), value)
    return rw.emit("slice_update", x, value, **region)


def _one_per_lane(rw: Rewriter, node: Node) -> Replacement:
    """scatter(x, v, i), one position per lane of an x that is computed anyway -> select(iota == i, v or x + v, x)

    So the cotangent of a loss with labels is no array of zeros, and what follows needs no kernel of its own.
    """
    x, updates, *indices = node.args
    (axis, *more), lanes, mode = node.params["axes"], node.params["batch_dims"], node.params["mode"]
    computed = x.node.op is fill_op or (node.in_backward and x.node.op.family == "elementwise")
    (index, *others), shape = indices, x.type.shape
    if more or others or rw.is_region or not computed or any(d != 1 for d in index.type.shape[lanes:]):
        return None
    count = rw.emit("iota", size=shape[axis], dtype=i64)
    if mode != "promise":
        index = rw.emit("gather", count, index, axes=(0,), batch_dims=0, mode=mode)
    position = rw.emit("convert", rw.emit("reshape", index, shape=shape[:lanes]), dtype=i64)
    here = rw.emit(
        "eq",
        rw.emit("broadcast", count, shape=shape, axes=(axis,)),
        rw.emit("broadcast", position, shape=shape, axes=tuple(range(lanes))),
    )
    kept = [k for k in range(x.type.ndim) if k != axis]
    value = rw.emit("reshape", updates, shape=tuple([shape[k] for k in kept]))
    value = rw.emit("broadcast", value, shape=shape, axes=tuple(kept))
    if node.params["combine"] == "add":
        value = rw.emit("add", x, value)
    return rw.emit("select", here, value, x)


def summed_lanes(rw: Rewriter, node: Node) -> Replacement:
    """sum of select(iota == i, v or x + v, x) along the axis that i points into -> sum of x, plus v: no walk for v

    The order of a float sum changes, which is the backward pass's to choose.
    """
    (chosen,), axes = node.args, node.params["axes"]
    if not made_by(chosen, "select") or not node.in_backward or len(axes) != 1:
        return None
    here, hit, x = chosen.node.args
    where = _lanes_hit(here, axes[0])
    if where is None:
        return None
    nothing = x.node.op is fill_op and x.node.params["value"] == 0
    value = hit if nothing else _what_is_added(hit, x)
    value = None if value is None else _without(rw, value, axes[0])
    if value is None:
        return None
    if made_by(where, "gather"):  # it is read where i points, which checks i
        lanes = where.type.ndim
        (_, index), mode = where.node.args, where.node.params["mode"]
        kept = tuple([k for k in range(chosen.type.ndim) if k != axes[0]])
        repeated = rw.emit("broadcast", value, shape=chosen.type.shape, axes=kept)
        value = rw.emit("gather", repeated, index, axes=axes, batch_dims=lanes, mode=mode)
    return value if nothing else rw.emit("add", rw.emit("reduce_sum", x, axes=axes), value)


def _lanes_hit(here: Value, axis: int) -> Value | None:
    """The positions i of iota == i, with the iota along `axis` and i for the axes before it."""
    if not made_by(here, "eq") or not all(made_by(a, "broadcast") for a in here.node.args):
        return None
    count, at = (a.node for a in here.node.args)
    if not made_by(count.args[0], "iota") or count.params["axes"] != (axis,):
        return None
    (where,) = at.args
    if at.params["axes"] != tuple(range(where.type.ndim)) or where.type.ndim > axis:
        return None
    return where if where.type.shape == here.type.shape[: where.type.ndim] else None


def _what_is_added(hit: Value, x: Value) -> Value | None:
    """The v of x + v."""
    if not made_by(hit, "add") or x not in hit.node.args:
        return None
    first, second = hit.node.args
    return second if first == x else first


def _without(rw: Rewriter, v: Value, axis: int) -> Value | None:
    """v without an axis along which it does not vary; None where it may."""
    shape = tuple([d for k, d in enumerate(v.type.shape) if k != axis])
    if v.node.op is fill_op:
        return rw.fill(v.node.params["value"], Type(v.type.dtype, shape))
    if not made_by(v, "broadcast") or axis in v.node.params["axes"]:
        return None
    return rw.emit(
        "broadcast", v.node.args[0], shape=shape, axes=tuple([k - (k > axis) for k in v.node.params["axes"]])
    )


def _scattered_around(rw: Rewriter, node: Node) -> Replacement:
    """scatter(x, v, (iota - s) mod n) over an axis of n positions -> gather(v, (iota + s) mod n), added to x or not"""
    x, updates, index = node.args
    (axis,) = node.params["axes"]
    if index.type.shape[0] != x.type.shape[axis] or not _goes_round(index, x.type.shape[axis]):
        return None
    shifted, size = index.node.args
    if shifted.node.op.name not in ("add", "sub"):
        return None
    back = "add" if made_by(shifted, "sub") else "sub"
    first, second = shifted.node.args
    if made_by(first, "iota"):
        positions, shift = first, second
    elif made_by(second, "iota") and back == "sub":
        positions, shift = second, first
    else:
        return None
    if not _is_uniform(shift):
        return None
    source = rw.emit("mod", rw.emit(back, positions, shift), size)
    moved = rw.emit("gather", updates, source, axes=(0,), batch_dims=0, mode="promise")
    rest = list(range(1, x.type.ndim))
    moved = rw.emit("transpose", moved, perm=(*rest[:axis], 0, *rest[axis:]))
    return rw.emit("add", x, moved) if node.params["combine"] == "add" else moved


def _is_uniform(v: Value) -> bool:
    """Whether all elements are one."""
    return v.node.op is fill_op or (made_by(v, "broadcast") and v.node.args[0].type.ndim == 0)


def _goes_round(index: Value, extent: Dim) -> bool:
    """Whether positions are taken modulo the extent; there are none when that is 0."""
    return made_by(index, "mod") and extent in index.type.shape and _is_extent(index.node.args[1], extent)


def _is_extent(v: Value, extent: Dim) -> bool:
    """Whether every element is known to be this dim."""
    if v.node.op is fill_op:
        return bool(v.node.params["value"] == extent)
    scalar = v.node.args[0] if made_by(v, "broadcast") else v
    return made_by(scalar, "dim") and scalar.type.ndim == 0 and bool(scalar.node.params["dim"] == extent)


INDEXED: Rules = {"gather": (gather,), "scatter": (scatter,), "reduce_sum": (summed_lanes,)}
