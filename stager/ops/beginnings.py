"""What turns of a loop read of the array as it was when the loop began: one slice of that array is their tape.

`A[:, j] -= Q[:, k] * dot(Q[:, k], A[:, j])` reads column j before anything has written it. All columns that the turns
read are one piece of the array that the loop begins with. Taken ahead of the loop it is the whole tape, in the order in
which the array lies in memory, and it costs nothing where that array stays as it is.

What a tape would take less for is `residuals.py`'s question: this is how what shall be stored is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stager.ir.core_ops import input_op
from stager.ir.dims import Dim, substitute, symbols_of
from stager.ir.graph import Node, Value
from stager.ops.footprints import Box, Course, coefficient, versions
from stager.ops.joint import Joint
from stager.ops.regions import dim_of
from stager.ops.residuals import local_symbols

Raw = Any


@dataclass
class Beginning:
    """One value per turn, a slice or gather of carry `carry`, which all turns together find in one piece of it: along
    `axis`, `stride` places further in every turn. starts, sizes: the part that the first turn reads."""

    value: Value
    carry: int
    axis: int
    stride: int
    starts: tuple[Dim, ...]
    sizes: tuple[Dim, ...]

    def piece(self, array: Raw, trips: Dim) -> Raw:
        """What all turns read of the array that the loop begins with."""
        from stager.ops.views import slice_

        starts, sizes, steps = list(self.starts), list(self.sizes), [1] * len(self.sizes)
        sizes[self.axis], steps[self.axis] = trips, abs(self.stride)
        if self.stride < 0:  # the last turn has the first place
            starts[self.axis] = starts[self.axis] + (trips - 1) * self.stride
        return slice_(array, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))

    def row(self, piece: Raw, t: Raw, shape: tuple[Dim, ...]) -> Raw:
        """The value of turn t, of this shape."""
        from stager.ops.views import reshape, slice_

        node, rest = self.value.node, iter(shape)
        left_out = node.params["axes"] if node.op.name == "gather" else ()
        sizes = tuple(1 if d in left_out else next(rest) for d in range(piece.type.ndim))
        starts: list[Dim] = [0] * len(sizes)
        starts[self.axis] = dim_of(t) if self.stride > 0 else piece.type.shape[self.axis] - 1 - dim_of(t)
        return reshape(slice_(piece, starts=tuple(starts), sizes=sizes, steps=(1,) * len(sizes)), shape=shape)


def beginning(joint: Joint, course: Course, stored: Value, step: int, first: Dim) -> Beginning | None:
    """The part of a carry that a stored value is or is reshaped of, where no turn before writes it; else None.

    first: the first index.
    """
    v = stored
    while v.node.op.name == "reshape":
        v = v.node.args[0]
    node = v.node
    if node.op.name not in ("slice", "gather") or node.args[0].node.op is not input_op:
        return None
    array = node.args[0]
    k = array.node.params["index"] - 1
    if not 0 <= k < joint.n_own - 1:
        return None
    chain = versions(joint.graph, joint.outs[k], array)
    written = None if chain is None else course.written(chain, course.earlier)
    box = course.scope.box(node, array)
    if not _takes_all(node, course, box):
        return None
    if written is None or not all(course.scope.apart(box, w) for w in written):
        return None
    index = str(course.index)
    moving = [d for d, ends in enumerate(box) if index in symbols_of(ends)]
    if len(moving) != 1:
        return None
    (axis,) = moving
    stride = coefficient(box[axis][0], index) * step
    starts = tuple(substitute(low, {index: first}) for low, _ in box)
    sizes = tuple(high - low + 1 for low, high in box)
    names = symbols_of((*starts, *sizes))
    if stride == 0 or sizes[axis] != 1 or names & local_symbols(joint.graph) or any(s[0] == "%" for s in names):
        return None
    return Beginning(v, k, axis, stride, starts, sizes)


def _takes_all(node: Node, course: Course, box: Box) -> bool:
    """Whether what a node reads is all of its box. One that does not know where the node reads holds more."""
    p = node.params
    if node.op.name == "slice":
        known = all(course.scope.dim(d) is not None for d in (*p["starts"], *p["sizes"]))
        return known and all(step == 1 or size == 1 for size, step in zip(p["sizes"], p["steps"], strict=True))
    one_each = not p["batch_dims"] and all(i.type.shape == () for i in node.args[1:])
    return one_each and all(box[axis][0] == box[axis][1] for axis in p["axes"])
