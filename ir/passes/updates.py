"""Updates, pads and concatenations: what is read from them is read from the pieces they are made of.

A read of a slice looks through updates that do not touch it and stops at one that covers it, so that a loop unrolled
over rows, or a gradient put together from pieces, leaves no array-sized intermediate. All rows are exact. Regions are
compared as dims: what is not known to be inside or outside is left alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

from stager.ir.core_ops import fill_op
from stager.ir.dims import Dim, Expr, is_static
from stager.ir.graph import Graph, Node, Value
from stager.ir.hash import literal_bits
from stager.ir.passes.views import unit_axes_only
from stager.ir.ranges import at_least
from stager.ir.rewrite import Replacement, Rewriter, Rules, made_by, map_regions, rebuild
from stager.ir.types import Type

Comparison = Callable[[Dim, Dim], bool]

UPDATES_LOOKED_THROUGH = 32  # per read: keeps a read after k writes from costing k
PIECES = 4  # a slice of a concatenation becomes at most so many slices


@dataclass(frozen=True, slots=True)
class Span:
    """The positions start, start + step, … (size of them) of one axis that has `extent` positions."""

    start: Dim
    size: Dim
    step: int
    extent: Dim

    @property
    def low(self) -> Dim:
        return self.start if self.step > 0 else self.start + (self.size - 1) * self.step

    @property
    def high(self) -> Dim:
        """The largest position."""
        return self.start + (self.size - 1) * self.step if self.step > 0 else self.start

    @property
    def whole(self) -> bool:
        return self.size == self.extent and abs(self.step) == 1

    def apart(self, other: Span, known: Comparison = at_least) -> bool:
        """True when the two are known to share no position."""
        if known(other.low, self.high + 1) or known(self.low, other.high + 1):
            return True
        stride = gcd(self.step, other.step)
        offset = self.start - other.start
        return stride > 1 and is_static(offset) and offset % stride != 0

    def within(self, other: Span) -> bool:
        """True when all positions are known to be positions of `other`."""
        if self.size == 0 or other.whole:
            return True
        if self.start == other.start and self.size == other.size and self.step == other.step:
            return True
        if not at_least(self.low, other.low) or not at_least(other.high, self.high):
            return False
        return self.position_in(other) is not None

    def position_in(self, other: Span) -> tuple[Dim, int] | None:
        """The start and step of these positions counted in `other`'s elements, where they are known to be whole."""
        offset = self.start - other.start
        step = other.step
        if step == 1:
            return offset, self.step
        if step == -1:
            return -offset, -self.step
        if self.size == 1 and is_static(offset) and offset % step == 0:
            return offset // step, 1
        if isinstance(offset, Expr) or offset % step or self.step % step:
            return None
        return offset // step, self.step // step


def spans(node: Node, shape: Sequence[Dim]) -> list[Span]:
    """The region of a slice or slice_update, per axis of the array it belongs to."""
    p = node.params
    return [Span(*s) for s in zip(p["starts"], p["sizes"], p["steps"], shape, strict=True)]


def _within(a: Sequence[Span], b: Sequence[Span]) -> bool:
    return all(x.within(y) for x, y in zip(a, b, strict=True))


def regions_apart(a: Sequence[Span], b: Sequence[Span], known: Comparison = at_least) -> bool:
    """True when two regions of one array are known to share no element."""
    return any(x.apart(y, known) for x, y in zip(a, b, strict=True))


def _params(region: Sequence[Span]) -> dict[str, tuple[Dim, ...]]:
    return {
        "starts": tuple([s.start for s in region]),
        "sizes": tuple([s.size for s in region]),
        "steps": tuple([s.step for s in region]),
    }


# -- slice of … --------------------------------------------------------------------------------------------------------


def slice_of_update(rw: Rewriter, node: Node) -> Replacement:
    """slice(slice_update(x, v)) -> slice x where it does not touch, slice v where it covers"""
    (x,) = node.args
    if not made_by(x, "slice_update"):
        return None
    region = spans(node, x.type.shape)
    base = x
    for _ in range(UPDATES_LOOKED_THROUGH):
        if not made_by(base, "slice_update"):
            return rw.emit("slice", base, **node.params)
        written = _spans_of(rw, base)
        if _within(region, written):
            return _slice_of_value(rw, region, written, base.node.args[1])
        if not regions_apart(region, written, rw.at_least):
            break
        base = base.node.args[0]
    return None if base is x else _unless_deep(rw, node, base)


def _unless_deep(rw: Rewriter, node: Node, base: Value) -> Replacement:
    """A read that stopped at an update that it partly touches; nothing when the limit stopped it (it would go on)."""
    written = spans(base.node, base.type.shape) if made_by(base, "slice_update") else None
    if written is None or regions_apart(spans(node, base.type.shape), written, rw.at_least):
        return None
    return rw.emit("slice", base, **node.params)


def _slice_of_value(rw: Rewriter, region: list[Span], written: list[Span], value: Value) -> Replacement:
    positions = [r.position_in(w) for r, w in zip(region, written, strict=True)]
    starts: list[Dim] = []
    steps: list[int] = []
    for r, position in zip(region, positions, strict=True):
        if position is None:
            if r.size != 0:
                return None
            position = (0, 1)
        starts.append(position[0])
        steps.append(position[1])
    return rw.emit("slice", value, starts=tuple(starts), sizes=tuple([r.size for r in region]), steps=tuple(steps))


def slice_of_concatenate(rw: Rewriter, node: Node) -> Replacement:
    """slice(concatenate(x, y, …)) -> slice of the one operand that holds it, or concatenate of the slices"""
    (x,) = node.args
    if not made_by(x, "concatenate"):
        return None
    axis = x.node.params["axis"]
    region = spans(node, x.type.shape)
    cut = region[axis]
    if cut.size == 0:
        return None

    def piece(operand: Value, start: Dim, size: Dim, step: int) -> Value:
        inner = Span(start, size, step, operand.type.shape[axis])
        return rw.emit("slice", operand, **_params([inner if k == axis else s for k, s in enumerate(region)]))

    held = _operands_at(rw, x.node, axis, cut)
    if len(held) == 1:
        operand, offset = held[0]
        return piece(operand, cut.start - offset, cut.size, cut.step)
    if not 2 <= len(held) <= PIECES or cut.step != 1:
        return None
    pieces = []
    for k, (operand, offset) in enumerate(held):
        low = cut.start - offset if k == 0 else 0
        high = cut.start + cut.size - offset if k == len(held) - 1 else operand.type.shape[axis]
        pieces.append(piece(operand, low, high - low, 1))
    return rw.emit("concatenate", *pieces, axis=axis)


def _operands_at(rw: Rewriter, node: Node, axis: int, cut: Span) -> list[tuple[Value, Dim]]:
    """The operands of a concatenation that a slice touches, with their offsets; none when that is not known."""
    offsets: list[Dim] | None = rw.memo.get(node)
    if offsets is None:
        offsets = rw.memo[node] = [0]
        for a in node.args:
            offsets.append(offsets[-1] + a.type.shape[axis])
    if is_static(offsets[-1]) and is_static(cut.low) and is_static(cut.high):
        first = bisect_right(offsets, cut.low) - 1
        last = bisect_right(offsets, cut.high) - 1
        return [(node.args[k], offsets[k]) for k in range(first, last + 1)]
    if len(node.args) > UPDATES_LOOKED_THROUGH:
        return []
    for a, low, end in zip(node.args, offsets, offsets[1:], strict=False):
        if at_least(cut.low, low) and at_least(end, cut.high + 1):
            return [(a, low)]
    return list(zip(node.args, offsets, strict=False)) if cut.whole else []


def slice_of_pad(rw: Rewriter, node: Node) -> Replacement:
    """slice(pad x) -> slice x inside it, the padding's value outside it"""
    (padded,) = node.args
    if not made_by(padded, "pad"):
        return None
    x, value = padded.node.args
    p = padded.node.params
    region = spans(node, padded.type.shape)
    inner: list[Span] = []
    for s, low, gap, d in zip(region, p["low"], p["interior"], x.type.shape, strict=True):
        held = Span(low, d, gap + 1, s.extent)
        if s.size != 0 and s.apart(held):
            return rw.emit("broadcast", value, shape=node.types[0].shape, axes=())
        position = s.position_in(held) if s.size != 0 and s.within(held) else None
        if position is None:
            return None
        inner.append(Span(position[0], s.size, position[1], d))
    return rw.emit("slice", x, **_params(inner))


# -- slice_update ------------------------------------------------------------------------------------------------------


def slice_update(rw: Rewriter, node: Node) -> Replacement:
    """of everything -> the value; of nothing -> x; of what is there -> x; of a part of a part -> of that part"""
    x, value = node.args
    region = spans(node, x.type.shape)
    if any(s.size == 0 for s in region):
        return x
    part = _update_of_part(rw, x, value, region)
    if part is not None:
        return part
    if all(s.whole for s in region):
        turned = [Span(0 if s.step == 1 else s.size - 1, s.size, s.step, s.extent) for s in region]
        return rw.emit("slice", value, **_params(turned))
    if any(s.size == 1 and s.step != 1 for s in region):
        plain = [Span(s.start, s.size, 1, s.extent) if s.size == 1 else s for s in region]
        return rw.emit("slice_update", x, value, **_params(plain))
    if made_by(value, "slice") and value.node.args[0] == x and spans(value.node, x.type.shape) == region:
        return x
    if _same_literal(x, value):
        return x
    if made_by(x, "slice_update") and x.node.args[1] == value and spans(x.node, x.type.shape) == region:
        return x
    return None


def _update_of_part(rw: Rewriter, x: Value, value: Value, region: list[Span]) -> Replacement:
    """slice_update(x, slice_update(slice x, v)) -> slice_update(x, v): a view of a view is written"""
    update, _ = _behind_reshape(value)
    if update is None or not made_by(update, "slice_update"):
        return None
    part, places = _behind_reshape(update.node.args[0])
    if part is None or not made_by(part, "slice") or spans(part.node, part.node.args[0].type.shape) != region:
        return None
    base = x
    while base != part.node.args[0]:  # a part of x before updates that do not touch it
        if not made_by(base, "slice_update") or not regions_apart(region, _spans_of(rw, base), rw.at_least):
            return None
        base = base.node.args[0]
    axes = list(range(len(region))) if places is None else places  # of x -> of what is updated; None for unit axes
    written = spans(update.node, update.type.shape)
    if any(w.size == 0 for w in written):
        return None
    composed: list[Span] = []
    for s, k in zip(region, axes, strict=True):
        w = None if k is None else written[k]
        if w is None or (w.whole and w.step == 1):
            composed.append(s)
        else:
            composed.append(Span(s.start + w.start * s.step, w.size, w.step * s.step, s.extent))
    piece = rw.emit("reshape", update.node.args[1], shape=tuple([s.size for s in composed]))
    return rw.emit("slice_update", x, piece, **_params(composed))


def _behind_reshape(v: Value) -> tuple[Value | None, list[int | None] | None]:
    """What a reshape that only adds and drops unit axes is made of, with where its operand's axes go."""
    if not made_by(v, "reshape"):
        return v, None
    (inner,) = v.node.args
    places = unit_axes_only(inner.type.shape, v.type.shape)
    return (inner, places) if places is not None else (None, None)


def _spans_of(rw: Rewriter, update: Value) -> list[Span]:
    """The region of an update, found once per walk."""
    written: list[Span] | None = rw.memo.get(update.node)
    if written is None:
        written = rw.memo[update.node] = spans(update.node, update.type.shape)
    return written


def _same_literal(x: Value, y: Value) -> bool:
    if x.node.op is not fill_op or y.node.op is not fill_op:
        return False
    dtype = x.type.dtype
    return literal_bits(x.node.params["value"], dtype) == literal_bits(y.node.params["value"], dtype)


# -- pad and concatenate -----------------------------------------------------------------------------------------------


def pad(rw: Rewriter, node: Node) -> Replacement:
    """by nothing -> x; of a literal with itself -> the literal; pad(pad x) with one value -> pad x"""
    x, value = node.args
    low, interior = node.params["low"], node.params["interior"]
    if node.types[0] == x.type and all(d == 0 for d in low):
        return x
    if _same_literal(x, value):
        return rw.fill(value.node.params["value"], node.types[0])
    if any(d == 0 for d in x.type.shape):
        return rw.emit("broadcast", value, shape=node.types[0].shape, axes=())
    if made_by(x, "pad") and x.node.args[1] == value and not any(interior):
        inner = x.node.params
        both = {k: tuple([a + b for a, b in zip(inner[k], node.params[k], strict=True)]) for k in ("low", "high")}
        return rw.emit("pad", x.node.args[0], value, **both, interior=inner["interior"])
    return None


def concatenate(rw: Rewriter, node: Node) -> Replacement:
    """of one -> x; drops empty operands; of concatenations -> one; of equal literals or adjoining slices -> one"""
    axis, args = node.params["axis"], node.args
    if len(args) == 1:
        return args[0]
    full = [a for a in args if a.type.shape[axis] != 0]
    if len(full) < len(args):
        return rw.emit("concatenate", *full, axis=axis) if full else args[0]
    if any(made_by(a, "concatenate") and a.node.params["axis"] == axis for a in args):
        flat: list[Value] = []
        for a in args:
            nested = made_by(a, "concatenate") and a.node.params["axis"] == axis
            flat += a.node.args if nested else [a]
        return rw.emit("concatenate", *flat, axis=axis)
    joined: list[Value] = [args[0]]
    for a in args[1:]:
        merged = _adjoining(rw, joined[-1], a, axis)
        if merged is None:
            joined.append(a)
        else:
            joined[-1] = merged
    return rw.emit("concatenate", *joined, axis=axis) if len(joined) < len(args) else None


def _adjoining(rw: Rewriter, a: Value, b: Value, axis: int) -> Value | None:
    """One value that is `a` and then `b` along `axis`: equal literals, or slices of one array that go on."""
    shape = tuple([d + b.type.shape[k] if k == axis else d for k, d in enumerate(a.type.shape)])
    if _same_literal(a, b):
        return rw.fill(a.node.params["value"], Type(a.type.dtype, shape))
    if not (made_by(a, "slice") and made_by(b, "slice")) or a.node.args[0] != b.node.args[0]:
        return None
    (x,) = a.node.args
    first, second = spans(a.node, x.type.shape), spans(b.node, x.type.shape)
    for k, (s, t) in enumerate(zip(first, second, strict=True)):
        if s.step != t.step or (s != t if k != axis else s.start + s.size * s.step != t.start):
            return None
    params = {**a.node.params, "sizes": shape}
    return rw.emit("slice", x, **params)


UPDATES: Rules = {
    "slice": (slice_of_update, slice_of_concatenate, slice_of_pad),
    "slice_update": (slice_update,),
    "pad": (pad,),
    "concatenate": (concatenate,),
}


# -- chains of updates -------------------------------------------------------------------------------------------------


class _Chains:
    """Chains of updates: `single` are those that nothing but the next update reads, `ends` the last of each chain."""

    def __init__(self, graph: Graph) -> None:
        updates = [n for n in graph.nodes if n.op.name == "slice_update"]
        self.single: set[Node] = set()
        self.ends: list[Node] = []
        if len(updates) < 2:
            return
        users = graph.users()
        outputs = {v.node for v in graph.outputs}
        self.single = {n for n in updates if len(users.get(Value(n), ())) == 1 and n not in outputs}
        based = {n.args[0].node for n in updates if n.args[0].node in self.single}
        self.ends = [n for n in updates if n not in based]


def drop_overwritten(graph: Graph, fast_math: bool = False) -> Graph:
    """Without updates whose elements are all written again before anything reads them."""
    chains = _Chains(graph)
    dropped: set[Node] = set()
    for end in chains.ends:
        shape = end.types[0].shape
        later: list[list[Span]] = []
        exact: set[tuple[Span, ...]] = set()
        node = end
        while True:
            region = spans(node, shape)
            if tuple(region) in exact or any(_within(region, w) for w in later[-UPDATES_LOOKED_THROUGH:]):
                dropped.add(node)
            else:
                exact.add(tuple(region))
                later.append(region)
            if node.args[0].node not in chains.single:
                break
            node = node.args[0].node
    if dropped:

        def drop(rw: Rewriter, node: Node) -> Replacement:
            return node.args[0] if rw.current in dropped else None

        graph = rebuild(graph, drop)
    return map_regions(graph, drop_overwritten, fast_math)


def join_updates(graph: Graph, fast_math: bool = False) -> Graph:
    """A chain of updates that cover their base along one axis -> concatenate of what they write, or of rows of each in
    turn where every one writes each so many-th.

    Only where nothing else reads the arrays between, for then they need not exist.
    """
    chains = _Chains(graph)
    replaced: dict[Node, tuple[int, list[Value], bool]] = {}
    single = chains.single
    for end in chains.ends:
        pieces = _covering(end, single)
        if pieces is not None:
            replaced[end] = pieces
    if not replaced:
        return map_regions(graph, join_updates, fast_math)

    def join(rw: Rewriter, node: Node) -> Replacement:
        found = replaced.get(rw.current) if rw.current is not None else None
        if found is None:
            return None
        axis, values, in_turn = found
        pieces = [rw.new(v) for v in values]
        if not in_turn:
            return rw.emit("concatenate", *pieces, axis=axis)
        shape = pieces[0].type.shape
        rows = [rw.emit("reshape", v, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :])) for v in pieces]
        return rw.emit("reshape", rw.emit("concatenate", *rows, axis=axis + 1), shape=node.types[0].shape)

    return map_regions(rebuild(graph, join), join_updates, fast_math)


def _covering(end: Node, single: set[Node]) -> tuple[int, list[Value], bool] | None:
    """The axis and the written values, in order of position, when the updates up to `end` cover their base, and whether
    they take turns along the axis."""
    shape = end.types[0].shape
    axis: int | None = None
    step = 0
    pieces: dict[int, Value] = {}
    covered = 0
    node = end
    while True:
        region = spans(node, shape)
        partial = [k for k, s in enumerate(region) if not (s.whole and s.step == 1)]
        if len(partial) != 1 or (axis is not None and partial[0] != axis):
            return None
        (axis,) = partial
        s, extent = region[axis], shape[axis]
        step = step or s.step
        if s.step != step or not isinstance(s.start, int) or not isinstance(s.size, int) or not isinstance(extent, int):
            return None
        if s.start in pieces:
            return None
        pieces[s.start] = node.args[1]
        covered += s.size
        if covered >= extent:
            break
        if node.args[0].node not in single:
            return None
        node = node.args[0].node
    values = [pieces[start] for start in sorted(pieces)]
    if step != 1:
        in_turn = sorted(pieces) == list(range(step)) and all(v.type.shape == values[0].type.shape for v in values)
        return (axis, values, True) if in_turn and covered == extent else None
    position: Dim = 0
    for start in sorted(pieces):
        if start != position:
            return None  # a gap, so some were written twice
        position = position + pieces[start].type.shape[axis]
    return (axis, values, False) if position == extent else None
