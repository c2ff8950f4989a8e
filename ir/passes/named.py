"""Expressions of arrays put together along axes of named sizes, cut into pieces where the order of all places is known.

The gradient of `x[1:] - x[:-1]` adds two parts of an array of n elements, at `[1, n)` and `[0, n-1)`. Between the
latest begin and the earliest end an element lies in both, and there is most of the array. So the value that is read (a
root) becomes a concatenation of pieces: of long ones, inside of which every part is settled to be there or not, and of
what is left between them. Exact but for zeros of cotangents, which are not added where nothing else is.

The ends of pieces are the largest and smallest of dims, in any order: the pieces cover an axis once whatever these are,
and which part is where in a settled piece follows from the ends that lie around it. `piece_by_piece` cuts along one
axis where all places are numbers. Not in the bodies of loops, whose updates are in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from stager.ir.core_ops import fill_op
from stager.ir.dim_order import Order
from stager.ir.dims import Dim
from stager.ir.graph import Graph, Node, Value
from stager.ir.passes.piecewise import AGAIN, DEAR, LAZY, PIECES
from stager.ir.rewrite import Replacement, Rewriter, rebuild
from stager.ir.types import Type

LONG = 8  # a piece is at least 1/LONG of its axis
ENDS = 24  # places along an axis where something begins or ends
WORTH = 4  # at least 1/WORTH of what is written is saved
PLACES = 4  # where each value of an expression is read, on average


class Part(NamedTuple):
    """Positions of one axis, of which may be `settled` on which side of every begin and end they lie."""

    low: Dim
    high: Dim
    settled: bool

    def moved(self, by: Dim) -> Part:
        return Part(self.low + by, self.high + by, self.settled)


Box = tuple[Part, ...]
Place = tuple[Value, Box]
Needs = tuple[Sequence[Place], Callable[[Sequence[Value]], Value]]  # what a piece is made of, and how


@dataclass
class _Plan:
    """The values to cut; of the roots among them, the settled pieces of each axis, or None."""

    cut: set[Node]
    order: Order
    roots: dict[Node, list[list[Part] | None]] = field(default_factory=dict)


def cut_named(graph: Graph, order: Order) -> Graph:
    """Expressions of concatenations, updates and pads at places that are no numbers, as concatenations of pieces."""
    plan = _planned(graph, order)
    if plan is None or not plan.roots:
        return graph
    made: dict[Place, Value] = {}

    def replace(rw: Rewriter, node: Node) -> Replacement:
        root = rw.current
        if root is None or root not in plan.roots:
            return None
        box = tuple([Part(0, d, False) for d in root.types[0].shape])
        return _Pieces(rw, plan, made).of(root, box, 0)

    return rebuild(graph, replace)


# -- what is cut -------------------------------------------------------------------------------------------------------


def _planned(graph: Graph, order: Order) -> _Plan | None:
    if not any(n.op.name in _PUT_TOGETHER and not n.types[0].is_static for n in graph.nodes):
        return None
    users = graph.users()
    outputs = {v.node for v in graph.outputs} | {d.source.node for d in graph.symbols.values() if d.kind == "data"}
    cut: dict[Node, None] = {}
    for n in graph.nodes:
        if _is_cut(n, cut, users):
            cut[n] = None
    plan = _Plan(set(), order)
    for together in _connected(cut):
        inside = set(together)
        roots = [n for n in together if n in outputs or any(u not in inside for u in users.get(Value(n), ()))]
        pieces: dict[Node, list[list[Part] | None]] = {}
        for root in roots:
            found = _pieces_of(root, inside, plan.order)
            if found is None:
                break
            pieces[root] = found
        if len(pieces) == len(roots) and _is_worth_it(together, pieces, outputs, users, order):
            plan.cut |= inside
            plan.roots |= pieces
    return plan


def _is_cut(n: Node, cut: dict[Node, None], users: dict[Value, list[Node]]) -> bool:
    if len(n.types) != 1 or n.ordered:
        return False
    if n.op.name in _PUT_TOGETHER:
        return _PUT_TOGETHER[n.op.name](n, cut)
    if not any(a.node in cut for a in n.args):
        return False
    if n.op.name == "slice":
        return all(step == 1 for step in n.params["steps"])
    several = len(users.get(Value(n), ())) > 1 and any(u.op.name == "slice" for u in users[Value(n)])
    return n.op.family == "elementwise" and not (n.op.name in DEAR and several)  # read at several places, computed once


def _update_is_cut(n: Node, cut: dict[Node, None]) -> bool:
    (base, _), steps = n.args, n.params["steps"]
    free = base.node.op is fill_op or base.node.op.family == "elementwise" or base.node in cut
    return free and all(step == 1 for step in steps)  # what is in memory is written in place


def _pad_is_cut(n: Node, cut: dict[Node, None]) -> bool:
    p = n.params
    return not any(p["interior"]) and all(isinstance(d, int) and d >= 0 for d in (*p["low"], *p["high"]))


_PUT_TOGETHER: dict[str, Callable[[Node, dict[Node, None]], bool]] = {
    "slice_update": _update_is_cut,
    "pad": _pad_is_cut,
    "concatenate": lambda n, cut: True,
}


def _connected(cut: dict[Node, None]) -> list[list[Node]]:
    """The nodes that are cut, those together that read one another."""
    leader = {n: n for n in cut}

    def find(n: Node) -> Node:
        while leader[n] is not n:
            leader[n] = n = leader[leader[n]]
        return n

    for n in cut:
        for a in n.args:
            if a.node in cut:
                leader[find(a.node)] = find(n)
    groups: dict[Node, list[Node]] = {}
    for n in cut:
        groups.setdefault(find(n), []).append(n)
    return list(groups.values())


def _is_worth_it(
    together: list[Node],
    roots: dict[Node, list[list[Part] | None]],
    outputs: set[Node],
    users: dict[Value, list[Node]],
    order: Order,
) -> bool:
    """Whether it saves more memory than the roots that are put together take, which would not have been written."""

    def size(n: Node) -> int:
        return order.usual(n.types[0].nbytes)

    inner = [n for n in together if n not in roots]
    saved = sum(size(n) for n in inner if n.op.name in _PUT_TOGETHER)
    saved += sum(size(n) for n in roots if n.op.name == "slice_update")  # their base is written before them
    lazy = [n for n in roots if n.op.name not in _PUT_TOGETHER and n not in outputs]
    inside = set(together)
    spent = sum(size(n) for n in lazy if all(u.op.family in LAZY or u in inside for u in users[Value(n)]))
    return saved > spent and WORTH * saved >= sum(map(size, roots))


# -- where -------------------------------------------------------------------------------------------------------------


def _pieces_of(root: Node, cut: set[Node], order: Order) -> list[list[Part] | None] | None:
    """The settled pieces of every axis; None where there are none, or too much is computed again."""
    shape = root.types[0].shape
    ends = _ends(root, cut, order)
    if ends is None or all(isinstance(d, int) for axis in ends for d in axis):
        return None
    pieces = [_settled(list(axis), extent, order) for axis, extent in zip(ends, shape, strict=True)]
    last = max([k for k, axis in enumerate(pieces) if axis is not None], default=None)
    if last is None:
        return None
    pieces[last] = _settled(list(ends[last]), shape[last], order, PIECES)
    return pieces


def _ends(root: Node, cut: set[Node], order: Order) -> list[dict[Dim, None]] | None:
    """Where something begins or ends that a value is put together from, by axis, in the positions of that value. None
    where large parts are computed too often."""
    ends: list[dict[Dim, None]] = [{} for _ in root.types[0].shape]
    seen: set[tuple[Node, tuple[Dim, ...]]] = set()
    whole = order.usual(root.types[0].size)
    todo: list[tuple[Node, tuple[Dim, ...], int]] = [(root, (0,) * len(ends), whole)]
    most = PLACES * len(cut)
    computed: list[Node] = []
    while todo:
        n, offset, size = todo.pop()  # where the position 0 of n lies, and how much is read of it
        if (n, offset) in seen:
            continue
        seen.add((n, offset))
        if len(seen) > most:
            return None
        size = min(size, order.usual(n.types[0].size))
        if n.op.family == "elementwise" and 2 * size > whole:
            computed.append(n)
        read: list[tuple[Value, tuple[Dim, ...]]]
        if n.op.name == "concatenate":
            axis, at, read = n.params["axis"], offset, []
            for a in n.args:
                read.append((a, at))
                at = (*at[:axis], at[axis] + a.type.shape[axis], *at[axis + 1 :])
                ends[axis][at[axis]] = None
        elif n.op.name in _PUT_TOGETHER:
            outer, inner, starts = _around(n)
            at = tuple([o + s for o, s in zip(offset, starts, strict=True)])
            for k, (begin, d, extent) in enumerate(zip(at, inner.type.shape, n.types[0].shape, strict=True)):
                if d != extent:
                    ends[k] |= {begin: None, begin + d: None}
            read = [(inner, at)] if outer is None else [(outer, offset), (inner, at)]
        elif n.op.name == "slice":
            read = [(n.args[0], tuple([o - s for o, s in zip(offset, n.params["starts"], strict=True)]))]
        else:
            read = [(a, offset) for a in n.args]
        todo += [(v.node, at, size) for v, at in read if v.node in cut]
    if any(len(axis) > ENDS for axis in ends) or len(computed) > AGAIN * len(set(computed)):
        return None
    return ends


def _around(n: Node) -> tuple[Value | None, Value, tuple[Dim, ...]]:
    """What surrounds the part of an update or pad (of a pad a scalar: None), the part, and where it begins."""
    if n.op.name == "pad":
        return None, n.args[0], n.params["low"]
    return n.args[0], n.args[1], n.params["starts"]


def _settled(ends: list[Dim], extent: Dim, order: Order, most: int = 0) -> list[Part] | None:
    """The long pieces between ends, or all where these are no more than `most`: each from the largest of the ends that
    usually lie before it, to the smallest of those behind. None where the axis is one piece, or only short ones."""
    whole = order.usual(extent)
    at = {d: min(max(order.usual(d), 0), whole) for d in ends}
    between = list(pairwise(sorted({0, whole, *at.values()})))
    if len(between) < 2 or all((last - first) * LONG < whole for first, last in between):
        return None
    pieces: list[Part] = []
    covered: Dim = 0
    for first, last in between:
        if len(between) > most and (last - first) * LONG < whole:
            continue
        low = order.smallest([extent, order.largest([covered, *[d for d in ends if at[d] <= first]])])
        high = order.largest([low, order.smallest([extent, *[d for d in ends if at[d] >= last]])])
        pieces.append(Part(low, high, True))
        covered = high
    return pieces


# -- pieces ------------------------------------------------------------------------------------------------------------


class _Pieces:
    """Emits a root in pieces. Places are made once, whichever roots read them."""

    def __init__(self, rw: Rewriter, plan: _Plan, made: dict[Place, Value]) -> None:
        self.rw = rw
        self.cut = plan.cut
        self.roots = plan.roots
        self.order = plan.order
        self.made = made

    def of(self, root: Node, box: Box, axis: int) -> Value:
        """A root in a box, cut along this axis and those behind it."""
        if axis == len(box):
            return self._emitted((Value(root), box))
        settled = self.roots[root][axis]
        if settled is None:
            return self.of(root, box, axis + 1)
        parts: list[Value] = []
        at: Dim = 0

        def between(low: Dim, high: Dim) -> None:
            if low != high:
                parts.append(self._emitted((Value(root), (*box[:axis], Part(low, high, False), *box[axis + 1 :]))))

        for piece in settled:
            between(at, piece.low)
            parts.append(self.of(root, (*box[:axis], piece, *box[axis + 1 :]), axis + 1))
            at = piece.high
        between(at, root.types[0].shape[axis])
        return self.rw.emit("concatenate", *parts, axis=axis) if len(parts) > 1 else parts[0]

    def _emitted(self, place: Place) -> Value:
        """Not by recursion: expressions may be deep."""
        todo = [place]
        waiting: dict[Place, Needs] = {}
        while todo:
            here = todo[-1]
            if here in self.made:
                todo.pop()
                continue
            v, box = here
            if v.node not in self.cut:
                self.made[here] = self._part(v, box)
                continue
            if here not in waiting:
                waiting[here] = self._needs(v.node, box)
            needs, make = waiting[here]
            missing = [p for p in needs if p not in self.made]
            todo += missing
            if not missing:
                self.made[here] = make([self.made[p] for p in needs])
        return self.made[place]

    def _part(self, v: Value, box: Box) -> Value:
        """A part of a value that is not cut."""
        shape = _shape(box)
        if v.type.ndim == 0:
            return self.rw.new(v)
        if v.node.op is fill_op:
            return self.rw.fill(v.node.params["value"], Type(v.type.dtype, shape))
        if shape == v.type.shape:
            return self.rw.new(v)
        return self.rw.emit(
            "slice", self.rw.new(v), starts=tuple([p.low for p in box]), sizes=shape, steps=(1,) * len(box)
        )

    def _needs(self, n: Node, box: Box) -> Needs:
        if n.op.name == "concatenate":
            return self._of_concatenation(n, box)
        if n.op.name in _PUT_TOGETHER:
            return self._of_update(n, box)
        if n.op.name == "slice":
            moved = tuple([p.moved(s) for p, s in zip(box, n.params["starts"], strict=True)])
            return [(n.args[0], moved)], lambda values: values[0]
        return [(a, box) for a in n.args], lambda values: self._computed(n, values)

    def _computed(self, n: Node, values: Sequence[Value]) -> Value:
        if n.op.name == "add" and n.in_backward:  # a cotangent that is nowhere in a box is nothing to add
            for x, y in (values, reversed(values)):
                if x.node.op is fill_op and x.node.params["value"] == 0:
                    return y
        return self.rw.emit(n.op, *values, **n.params)

    def _lies(self, part: Part, low: Dim, high: Dim) -> bool | None:
        """Whether positions lie in [low, high); None where some may and some not."""
        if part.settled:
            first, last, begin, end = (self.order.usual(d) for d in (part.low, part.high, low, high))
            return begin <= first and last <= end
        if self.order.at_least(part.low, low) and self.order.at_least(high, part.high):
            return True
        if self.order.at_least(low, part.high) or self.order.at_least(part.low, high):
            return False
        return None

    def _of_update(self, n: Node, box: Box) -> Needs:
        outer, inner, starts = _around(n)
        shape = _shape(box)

        def around() -> Value:
            scalar = self.rw.new(n.args[1])
            if scalar.node.op is fill_op:
                return self.rw.fill(scalar.node.params["value"], Type(scalar.type.dtype, shape))
            return self.rw.emit("broadcast", scalar, shape=shape, axes=())

        lies: list[bool | None] = []
        for part, start, size, extent in zip(box, starts, inner.type.shape, n.types[0].shape, strict=True):
            lies.append(True if size == extent else self._lies(part, start, start + size))
        if False in lies:
            return ([], lambda _: around()) if outer is None else ([(outer, box)], lambda values: values[0])
        held: list[Part] = []
        places: list[Dim] = []
        for part, start, size, inside in zip(box, starts, inner.type.shape, lies, strict=True):
            if inside:
                held.append(part.moved(-start))
                places.append(0)
                continue
            low = self._between(part.low, start, part.high)
            high = self._between(low, start + size, part.high)
            first = self._between(0, low - start, size)
            held.append(Part(first, first + (high - low), False))
            places.append(low - part.low)
        if None not in lies:
            return [(inner, tuple(held))], lambda values: values[0]

        def written(values: Sequence[Value]) -> Value:
            base = around() if outer is None else values[0]
            sizes = _shape(tuple(held))
            return self.rw.emit(
                "slice_update", base, values[-1], starts=tuple(places), sizes=sizes, steps=(1,) * len(sizes)
            )

        return [*([] if outer is None else [(outer, box)]), (inner, tuple(held))], written

    def _of_concatenation(self, n: Node, box: Box) -> Needs:
        axis = n.params["axis"]
        part = box[axis]
        offset: Dim = 0
        held: list[tuple[Value, Dim]] = []
        for a in n.args:
            lies = self._lies(part, offset, offset + a.type.shape[axis])
            if lies:
                held = [(a, offset)]
                break
            if lies is None:
                held.append((a, offset))
            offset = offset + a.type.shape[axis]

        def place(a: Value, here: Part) -> Place:
            return a, (*box[:axis], here, *box[axis + 1 :])

        if len(held) == 1:
            a, offset = held[0]
            return [place(a, part.moved(-offset))], lambda values: values[0]
        needs: list[Place] = []
        left = part.high - part.low
        for a, offset in held[:-1]:
            size = a.type.shape[axis]
            low, high = (self._between(0, d - offset, size) for d in (part.low, part.high))
            needs.append(place(a, Part(low, high, False)))
            left = left - (high - low)
        a, offset = held[-1]  # the rest, so that the sizes add up
        low = self._between(0, part.low - offset, a.type.shape[axis])
        needs.append(place(a, Part(low, low + left, False)))
        return needs, lambda values: self.rw.emit("concatenate", *values, axis=axis)

    def _between(self, low: Dim, d: Dim, high: Dim) -> Dim:
        """d, cut to [low, high]."""
        return self.order.largest([low, self.order.smallest([d, high])])


def _shape(box: Box) -> tuple[Dim, ...]:
    return tuple([p.high - p.low for p in box])
