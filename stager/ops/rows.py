"""What turns of a loop keep, in rows of tapes: values, and masks of the same numbers as bits of one byte.

A gradient of `minimum` reads two masks, one of `clip` three. Those that compare the same arrays come of one pass over
them, so that their bits join without another. Not here: what is kept (`residuals.py`), and which loops keep it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.ir.dims import Dim
from stager.ir.dtypes import b1, u8
from stager.ir.graph import Value
from stager.ir.types import Type
from stager.ops.families import zeros_of
from stager.ops.joint import Part
from stager.ops.regions import dim_of

Raw = Any
BITS = 8


# -- one row ----------------------------------------------------------------------------------------------------------


def write_row(tape: Raw, row: Raw, t: Raw) -> Raw:
    """tape with row t set; a row smaller than the tape's goes to its corner."""
    from stager.ops.indexed import scatter
    from stager.ops.structural import slice_update
    from stager.ops.views import reshape

    shape = row.type.shape
    if tape.type.shape[1:] == shape:
        return scatter(tape, row, t, axes=(0,), batch_dims=0, mode="promise", combine="set")
    zeros = (0,) * len(shape)
    return slice_update(
        tape,
        reshape(row, shape=(1, *shape)),
        starts=(dim_of(t), *zeros),
        sizes=(1, *shape),
        steps=(1,) * (1 + len(shape)),
    )


def whole_row(row: Raw, shape: tuple[Dim, ...]) -> Raw:
    """A row in the corner of one of this shape."""
    from stager.ops.structural import slice_update

    if row.type.shape == shape:
        return row
    n = len(shape)
    zeros = zeros_of(Type(row.type.dtype, shape))
    return slice_update(zeros, row, starts=(0,) * n, sizes=row.type.shape, steps=(1,) * n)


def read_row(tape: Raw, shape: tuple[Dim, ...], t: Raw) -> Raw:
    from stager.ops.indexed import gather
    from stager.ops.views import reshape, slice_

    if tape.type.shape[1:] == shape:
        return gather(tape, t, axes=(0,), batch_dims=0, mode="promise")
    zeros = (0,) * len(shape)
    row = slice_(tape, starts=(dim_of(t), *zeros), sizes=(1, *shape), steps=(1,) * (1 + len(shape)))
    return reshape(row, shape=shape)


# -- what shares rows -------------------------------------------------------------------------------------------------


class Rows:
    """How stored values share rows of tapes: each group is one value, or up to eight masks."""

    def __init__(self, stored: Sequence[Value], shapes: dict[Value, tuple[Dim, ...]]) -> None:
        """shapes: of the tapes' rows, the largest over all turns."""
        self.stored = stored
        self.groups: list[list[Value]] = []
        for v in stored:
            joined = next((g for g in self.groups if _join(g, v)), None)
            if joined is None:
                self.groups.append([v])
            else:
                joined.append(v)
        self.shapes = [shapes[group[0]] for group in self.groups]

    def tapes(self, turns: Dim) -> list[Raw]:
        """Empty ones."""
        dtypes = [group[0].type.dtype if len(group) == 1 else u8 for group in self.groups]
        return [zeros_of(Type(dtype, (turns, *s))) for dtype, s in zip(dtypes, self.shapes, strict=True)]

    def _made(self, part: Part) -> list[Raw]:
        return [_packed([part.value(v) for v in group]) for group in self.groups]

    def whole(self, part: Part) -> list[Raw]:
        """The rows of a turn, each as large as any."""
        return [whole_row(row, s) for row, s in zip(self._made(part), self.shapes, strict=True)]

    def written(self, part: Part, tapes: Sequence[Raw], t: Raw) -> list[Raw]:
        """The tapes with the rows of turn t."""
        return [write_row(tape, row, t) for tape, row in zip(tapes, self._made(part), strict=True)]

    def know(self, part: Part, tapes: Sequence[Raw], t: Raw) -> None:
        """Tells a part what turn t kept."""
        for tape, group in zip(tapes, self.groups, strict=True):
            row = read_row(tape, part.type_here(group[0].type).shape, t)
            for k, v in enumerate(group):
                part.know(v, row if len(group) == 1 else _bit(row, k))


def _join(group: Sequence[Value], v: Value) -> bool:
    if not 0 < len(group) < BITS or v.type.ndim == 0 or any(v.type != w.type for w in group):
        return False
    return v.type.dtype == b1 and any(_compares(v) & _compares(w) for w in group)


def _compares(v: Value) -> set[Value]:
    """The arrays of its own size that a mask tells something of."""
    if v.node.op.family != "elementwise":
        return set()
    return {a for a in v.node.args if a.type.shape == v.type.shape}


def _packed(masks: Sequence[Raw]) -> Raw:
    from stager.ops.elementwise import convert, mul, or_

    if len(masks) == 1:
        return masks[0]
    row = convert(masks[0], dtype=u8)
    for k, mask in enumerate(masks[1:], 1):
        row = or_(row, mul(convert(mask, dtype=u8), 1 << k))
    return row


def _bit(row: Raw, k: int) -> Raw:
    from stager.ops.elementwise import and_, ne

    return ne(and_(row, 1 << k), 0)
