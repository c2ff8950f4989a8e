"""Gathers and scatters at positions that are known: slices and updates, which fold into index maps.

A position is known when the index operand is a literal, a dim, made of a region's integers (`x[i + 1]` inside a loop,
promised in bounds), or an iota over the whole axis. Checked positions are only replaced where they are seen to be in
bounds; what is out of bounds stays, to raise at run time.
"""

from __future__ import annotations

from collections.abc import Sequence

from stager.ir.core_ops import fill_op
from stager.ir.dims import Dim, Expr
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
    """gather at known positions -> slice; at every position of an axis -> transpose; checked and fine -> promised"""
    x, *indices = node.args
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


def _in_bounds(rw: Rewriter, x: Value, indices: Sequence[Value], node: Node) -> bool:
    """True when positions that are not promised yet are all seen to be in bounds and not negative."""
    if node.params["mode"] == "promise":
        return False
    extents = [x.type.shape[a] for a in node.params["axes"]]
    return all(within(range_of(i, rw.ranges), d, rw.at_least) for i, d in zip(indices, extents, strict=True))


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
    if _in_bounds(rw, x, tuple(indices), node):
        return rw.emit("scatter", *node.args, **{**node.params, "mode": "promise"})
    if node.params["batch_dims"] != 0 or indices[0].type.shape != () or combine not in ("set", "add"):
        return None
    positions = _positions(rw, x, tuple(indices), node)
    if positions is None:
        return None
    region = _region(x.type, node.params["axes"], positions)
    value = rw.emit("reshape", updates, shape=region["sizes"])
    if combine == "add":
        value = rw.emit("add", rw.emit("slice", x, **region), value)
    return rw.emit("slice_update", x, value, **region)


INDEXED: Rules = {"gather": (gather,), "scatter": (scatter,)}
