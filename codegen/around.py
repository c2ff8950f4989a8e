"""Updates of a large part of an array that is not in memory: what lies around the part is computed, and no more.

The adjoint of an interior update is nothing else: zeros, or a sum, of which all but a border is written next. The rest
is slabs: before axis d of the part everything is inside of it, behind that axis everything is out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stager.codegen.program import Buffer, Store
from stager.codegen.pull import StageBuilder, value_key
from stager.ir.dims import is_static, product
from stager.ir.graph import Node, Value

if TYPE_CHECKING:
    from stager.codegen.lower import Walk

LARGE = 1024
"""Smaller arrays are written whole: a kernel per slab costs more."""
CHEAP = 3
"""What weighs no more may be computed again by whoever else reads the array."""


def take_around(w: Walk, node: Node) -> Buffer | None:
    """What `Walk.take` gives for a slice_update, without the part that it writes; None where that does not fit."""
    part, base, result = _part(node), w.origin(node.args[0]), Value(node)
    key, shape = value_key(base), base.shape
    cheap = w.users.get(key) == [w.now] or w.weight.get(key, 0) <= CHEAP
    if part is None or not cheap or key in w.output_keys or w.standing(base) is not None:
        return None
    room = w.room(result)
    trial = StageBuilder(w.ctx)
    trial.pull(base, tuple([trial.axis(d) for d in shape]))
    if room.shape != shape or any(i.op == "load" and i.data[0].storage is room.storage for i in trial.body):
        return None
    for d, (start, size) in enumerate(part):
        extent = shape[d]
        assert isinstance(extent, int)
        for first, count in ((0, start), (start + size, extent - start - size)):
            if count:
                _slab(w, base, room, part[:d], first, count)
    return room


def _slab(w: Walk, base: Value, room: Buffer, inside: list[tuple[int, int]], first: int, count: int) -> None:
    """Elements from `first` on of the axis behind those of `inside`."""
    sb = StageBuilder(w.ctx)
    before = [sb.axis(size).shift(start) for start, size in inside]
    index = (*before, sb.axis(count).shift(first), *[sb.axis(n) for n in base.shape[len(inside) + 1 :]])
    sb.stores.append(Store(room, sb.address(room, index), sb.pull(base, index)))
    w.steps.append(sb.finish())


def _part(node: Node) -> list[tuple[int, int]] | None:
    """Start and size per axis of an update that writes half of a large array or more."""
    p, shape = node.params, node.types[0].shape
    if any(step != 1 for step in p["steps"]) or not all(map(is_static, (*p["starts"], *p["sizes"], *shape))):
        return None
    whole, part = product(shape), product(p["sizes"])
    if not isinstance(whole, int) or not isinstance(part, int) or whole < LARGE or 2 * part < whole:
        return None
    return list(zip(p["starts"], p["sizes"], strict=True))
