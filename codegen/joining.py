"""Concatenations: what is put together is computed where it goes.

The memory of a concatenation stands ready when its first operand is computed. An operand that is one itself, or a
reduction that nothing else reads, is written to its place in the whole at once; lazy operands are, when the
concatenation is visited. Invariant: what is written so is a value that the concatenation alone reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stager.codegen.index import Ix
from stager.codegen.program import Buffer
from stager.codegen.pull import value_key
from stager.ir.dims import Dim, product
from stager.ir.graph import Node, Value

if TYPE_CHECKING:
    from stager.codegen.lower import Walk


def lower_concatenate(w: Walk, node: Node) -> None:
    """Writes the operands that are not in their places yet. Parts of rows begin with the longest, whose loop over the
    rows the others may share."""
    axis = node.params["axis"]
    out = _memory_of(w, node)
    start: Dim = 0
    parts = []
    for x in node.args:
        parts.append((x, start))
        start = start + x.shape[axis]
    if product(out.shape[:axis]) != 1 and isinstance(start, int):
        parts.sort(key=lambda part: -part[0].shape[axis])
    for x, begin in parts:

        def at(index: tuple[Ix, ...], start: Dim = begin) -> tuple[Ix, ...]:
            return (*index[:axis], index[axis].shift(start), *index[axis + 1 :])

        there = w.ctx.buffers.get(value_key(x))
        if there is None or there.storage is not out.storage or _whole(w, x) is not node:
            w.write(w.origin(x), out, at)


def place_in_whole(w: Walk, v: Value) -> Buffer | None:
    """The memory in a concatenation that a reduction's result goes to, where nothing else reads it."""
    whole = _whole(w, v) if v.node.op.family == "reduction" else None
    return None if whole is None else _place(v, whole, _memory_of(w, whole))


def _memory_of(w: Walk, node: Node) -> Buffer:
    """Where a concatenation goes: to its place in the one that it is a part of, if in any."""
    nodes = [node]
    while value_key(Value(nodes[-1])) not in w.ctx.buffers and (whole := _whole(w, Value(nodes[-1]))) is not None:
        nodes.append(whole)
    outer = nodes.pop()
    out = w.ctx.buffers.get(value_key(Value(outer))) or w.result(Value(outer))
    while nodes:
        inner = nodes.pop()
        out = w.ctx.buffers[value_key(Value(inner))] = _place(Value(inner), outer, out)
        outer = inner
    return out


def _place(v: Value, whole: Node, out: Buffer) -> Buffer:
    axis = whole.params["axis"]
    start: Dim = 0
    for x in whole.args[: whole.args.index(v)]:
        start = start + x.shape[axis]
    return Buffer(out.storage, out.dtype, v.type.shape, out.strides, out.offset + start * out.strides[axis])


def _whole(w: Walk, v: Value) -> Node | None:
    """The concatenation that alone reads a reduction or another one, once."""
    key = value_key(v)
    users = w.users.get(key, [])
    joins = v.node.op.name == "concatenate" or v.node.op.family == "reduction"
    if not joins or len(users) != 1 or key in w.output_keys or v.type.size == 0:
        return None
    whole: Node = w.nodes[users[0]]
    return whole if whole.op.name == "concatenate" else None
