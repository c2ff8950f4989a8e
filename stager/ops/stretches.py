"""Reverse mode of loops that run stretches of about √n turns again.

The state before each stretch is kept, and tapes hold one stretch at a time. The state is the carries from which a
stretch's tapes follow, and no more: what the results of the loop still hold is read there on the way
(`footprints.py`). Not here: what a turn's tapes would hold (`residuals.py`), and when stretches pay without being
asked for (`worth.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from stager.ir.core_ops import input_op
from stager.ir.dims import Dim, dim_max, dim_min, floordiv, is_static, symbol
from stager.ir.dtypes import f64, i64
from stager.ir.graph import Node, Value
from stager.ir.regions import first_operand, own_inputs
from stager.ir.types import Type
from stager.ops.families import zeros_of
from stager.ops.footprints import Course, Scope, moved_box, versions, written_boxes
from stager.ops.joint import Joint, Part, forward_nodes, operands_back, operands_of
from stager.ops.loop_back import LoopBack
from stager.ops.regions import dim_of, dim_value, scalar_index
from stager.ops.residuals import is_cheap
from stager.ops.rows import Rows, read_row, write_row

Raw = Any
Know = Callable[[Part, Raw, Raw], None]  # what is known of a turn: part, index, number of the turn

# -- what runs again --------------------------------------------------------------------------------------------------


def idle_operands(node: Node, results: Collection[int]) -> set[int]:
    """The operands of a loop that these results of it do not depend on. What a turn reads where it has just written, it
    does not read of the array."""
    from stager.ir.passes.pipeline import resolve_updates

    if node.op.name != "for":
        return set()
    (body,), own, offset = node.regions, own_inputs(node), first_operand(node) - own_inputs(node)
    body = resolve_updates(body)
    live, reached = set(results), set[Value]()
    while True:
        todo = [body.outputs[k] for k in live]
        while todo:
            v = todo.pop()
            if v not in reached:
                reached.add(v)
                todo += operands_of(body, v.node)
        grown = live | {k for k in range(node.params["n_carry"]) if body.inputs[own + k] in reached}
        if grown == live:
            break
        live = grown
    alive = {own + k for k in live} | {j for j, v in enumerate(body.inputs) if v in reached}
    return {j + offset for j in range(own, len(body.inputs)) if j not in alive}


@dataclass
class Again:
    """Nodes of a forward part that run again, and operands of loops among them that nothing wanted depends on."""

    nodes: list[Node]
    idle: set[tuple[Node, int]]
    read: set[Value]


def again(joint: Joint, wanted: Iterable[Value], known: Collection[Value]) -> Again:
    """What of the forward part runs again for the wanted values, with others known and the loop's results at hand."""
    needed: dict[Node, set[int]] = {}
    read = set(wanted) - set(known)
    while True:
        before = len(read)
        for v in read:
            needed.setdefault(v.node, set()).add(v.index)
        idle: set[tuple[Node, int]] = set()
        for node in reversed(joint.forward):
            if node not in needed:
                continue
            here = idle_operands(node, needed[node])
            idle |= {(node, k) for k in here}
            for a in operands_back(joint, node, here):
                if a not in known:
                    read.add(a)
                    needed.setdefault(a.node, set()).add(a.index)
        if len(read) == before:
            return Again([n for n in joint.forward if n in needed], idle, read)


class _Kept(NamedTuple):
    results: Sequence[Raw]
    rows: Sequence[Raw]  # states before the stretches
    tapes: Rows
    filled: Sequence[Raw]  # tapes of all turns
    length: Dim  # of the longest
    stretches: Dim
    ends: Callable[[Raw], tuple[Raw, Raw]]  # the first turn of a stretch, and the one behind its last


def written_inside(course: Course, joint: Joint, n: int) -> dict[Node, dict[Value, tuple[Node, int]]]:
    """Of loops of the body: dear values that they write where nothing writes later, with the updates, and the carries
    in which they still stand."""
    found: dict[Node, dict[Value, tuple[Node, int]]] = {}
    graph, scope, fresh = course.graph, course.scope, course.fresh
    for k in range(n):
        chain = versions(graph, joint.outs[k], graph.inputs[1 + k])
        others = None if chain is None else course.written(chain, course.later)
        for depth, v in enumerate(chain or ()):
            if v.node.op.name != "for" or others is None:
                continue
            (body,), step = v.node.regions, v.node.params["step"]
            updates = versions(body, body.outputs[v.index], body.inputs[1 + v.index])
            inner = scope.inner(v.node, body, fresh)
            boxes = None if updates is None else written_boxes(inner, updates, fresh)
            if updates is None or boxes is None:
                continue
            i, later = inner.inputs[0], symbol(next(fresh))
            low, high = inner.ranges[str(i)]
            inner.ranges[str(later)] = (i + step, high) if step > 0 else (low, i + step)
            behind = [*others, *(written_boxes(scope, chain[: depth + 1], fresh) or [])]  # type: ignore[index]
            behind += [moved_box(box, i, later) for box in boxes]
            for d, u in enumerate(updates[:-1]):
                if not _is_told_by_inputs(inner, u.node):
                    continue
                rest = [*behind, *(written_boxes(inner, updates[: d + 1], fresh) or [])]
                box = inner.box(u.node, u)
                if all(inner.apart(box, w) for w in rest):
                    found.setdefault(v.node, {})[u.node.args[1]] = u.node, k
    return found


def _is_told_by_inputs(scope: Scope, update: Node) -> bool:
    """Whether a dear value is set at one place that integer inputs tell."""
    if update.op.name != "scatter" or update.params["combine"] != "set" or update.params["batch_dims"]:
        return False
    known = all(i.node.op is input_op and scope.index(i) is not None for i in update.args[2:])
    return known and len(update.args[1].node.types) == 1 and not is_cheap(update.args[1].node)


# -- stretches --------------------------------------------------------------------------------------------------------


@dataclass
class Stretches:
    """A loop of `trips` turns in stretches; turn t has the index lower + t·step.

    count: the turns as a raw value where lanes differ, of which `trips` is the most. shapes: of tapes' rows. know: what
    of a turn is known without running it. kept: values on tapes of all turns. again: values on tapes of a stretch.
    known: both what `know` tells and what is kept. course: of the turns, where it is the same in all lanes.
    """

    joint: Joint
    n: int
    lower: Raw
    low: Dim
    step: int
    trips: Dim
    count: Raw | None
    shapes: dict[Value, tuple[Dim, ...]]
    know: Know
    kept: list[Value]
    again: list[Value]
    known: set[Value]
    course: Course | None
    inside: dict[Node, dict[Value, tuple[Node, int]]] = field(default_factory=dict)
    state: list[int] = field(default_factory=list)
    runs: Again = field(init=False)

    def __post_init__(self) -> None:
        inputs = self.joint.graph.inputs[1 : 1 + self.n]
        if self.course is not None and self.joint.lasting.reads:
            self.inside = written_inside(self.course, self.joint, self.n)
        while True:
            after = [self.joint.outs[k] for k in self.state]
            self.runs = again(self.joint, [*self.again, *after], self.known)
            grown = [k for k, v in enumerate(inputs) if v in self.runs.read]
            if grown == self.state:
                return
            self.state = grown

    def length(self) -> Dim:
        """⌈√trips⌉, at least 1."""
        from stager.ops.elementwise import ceil, convert, sqrt

        if isinstance(self.trips, int):
            return max(1, next(k for k in range(self.trips + 1) if k * k >= self.trips))
        root = ceil(sqrt(convert(dim_value(self.trips), dtype=f64)))
        return dim_max(1, dim_of(convert(root, dtype=i64)))

    def _ends(self, c: Raw, length: Dim) -> tuple[Raw, Raw]:
        from stager.ops.elementwise import add, minimum, mul

        if self.count is None:
            here = dim_of(c) * length
            return dim_value(here), dim_value(dim_min(here + length, self.trips))
        first = mul(c, dim_value(length))
        return first, minimum(add(first, dim_value(length)), self.count)

    def _index(self, t: Raw) -> Raw:
        from stager.ops.elementwise import add, mul

        scaled = t if self.step == 1 else mul(t, self.step)
        return scaled if is_static(self.low) and self.low == 0 and self.step == 1 else add(scaled, self.lower)

    def forward(self, carries: Sequence[Raw]) -> tuple[Sequence[Raw], Callable[[LoopBack], Sequence[Raw]]]:
        """The loop's results, and the way back through its turns."""
        from stager.ops.control import for_loop

        length = self.length()
        count = floordiv(self.trips + length - 1, length)
        n, n_state, joint = self.n, len(self.state), self.joint
        types = [carries[k].type for k in self.state]
        rows = [zeros_of(Type(t.dtype, (count, *t.shape))) for t in types]
        tapes = Rows(self.kept, self.shapes)

        def turn(t: Raw, *inner: Raw) -> list[Raw]:
            part = Part(joint)
            for v, raw in zip(joint.graph.inputs, (self._index(t), *inner[:n]), strict=False):
                part.know(v, raw)
            part.run(forward_nodes(joint, [*joint.outs, *self.kept]))
            return [*[part.value(v) for v in joint.outs], *tapes.written(part, inner[n:], t)]

        def stretch(c: Raw, *outer: Raw) -> list[Raw]:
            state, rows, held = outer[:n], outer[n : n + n_state], outer[n + n_state :]
            filled = [write_row(r, state[k], c) for r, k in zip(rows, self.state, strict=True)]
            after = for_loop(*self._ends(c, length), [*state, *held], turn)
            return [*after[:n], *filled, *after[n:]]

        outs = for_loop(0, dim_value(count), [*carries, *rows, *tapes.tapes(self.trips)], stretch)
        ends = partial(self._ends, length=length)
        kept = _Kept(outs[:n], outs[n : n + n_state], tapes, outs[n + n_state :], length, count, ends)
        return outs[:n], lambda way: self._back(way, kept)

    def forward_while(
        self, carries: Sequence[Raw], going: Callable[..., Raw], turn: Callable[..., Sequence[Raw]]
    ) -> tuple[Sequence[Raw], Callable[[LoopBack], Sequence[Raw]]]:
        """The same of a loop that goes on while the carries say so, and keeps no tapes of all turns.

        Each stretch is longer by a turn than the one before: about √(2n) stretches, of as many turns at most.
        """
        from stager.ops.collect import collect
        from stager.ops.control import while_loop
        from stager.ops.elementwise import add, and_, floordiv, lt, minimum, mul

        def behind(c: Raw) -> Raw:
            return floordiv(mul(add(c, 1), add(c, 2)), 2)

        def stretch(c: Raw, t: Raw, *state: Raw) -> list[Raw]:
            end = behind(c)
            after = while_loop(
                [t, *state],
                lambda t, *inner: and_(lt(t, end), going(*inner)),
                lambda t, *inner: [add(t, 1), *turn(*inner)],
            )
            return [add(c, 1), *after, *[state[k] for k in self.state]]

        none = scalar_index(0)
        (_, t, *results), count, rows = collect([none, none, *carries], lambda c, t, *state: going(*state), stretch)
        length = dim_of(count)

        def ends(c: Raw) -> tuple[Raw, Raw]:
            return floordiv(mul(c, add(c, 1)), 2), minimum(behind(c), t)

        kept = _Kept(results, rows, Rows([], {}), (), length, length, ends)
        return results, lambda way: self._back(way, kept)

    def _back(self, way: LoopBack, kept: _Kept) -> Sequence[Raw]:
        from stager.ops.control import for_loop
        from stager.ops.elementwise import sub

        results, rows, tapes, of_all, length, stretches, ends = kept
        again = Rows(self.again, self.shapes)
        joint, n_state = self.joint, len(self.state)
        inputs = joint.graph.inputs[1 : 1 + self.n]

        def part_at(t: Raw) -> Part:
            part = Part(joint, results)
            self.know(part, self._index(t), t)
            tapes.know(part, of_all, t)
            return part

        def stretch(c: Raw, *outer: Raw) -> Sequence[Raw]:
            cts, buffers = outer[: len(way.start)], outer[len(way.start) :]
            first, behind = ends(c)
            state = [read_row(r, r.type.shape[1:], c) for r in rows]

            def forward(t: Raw, *inner: Raw) -> list[Raw]:
                part, at = part_at(t), sub(t, first)
                for k, raw in zip(self.state, inner[:n_state], strict=True):
                    part.know(inputs[k], raw)
                part.idle, part.inside = self.runs.idle, self.inside
                part.run_again(self.runs.nodes)
                after = [part.value(joint.outs[k]) for k in self.state]
                return [*after, *again.written(part, inner[n_state:], at)]

            filled = for_loop(first, behind, [*state, *buffers], forward)[n_state:]

            def backward(t: Raw, *inner: Raw) -> list[Raw]:
                part, at = part_at(t), sub(t, first)
                again.know(part, filled, at)
                return way.step(part, inner)

            return [*for_loop(sub(behind, 1), sub(first, 1), cts, backward, step=-1), *filled]

        buffers = again.tapes(length)  # for all stretches
        return for_loop(dim_value(stretches - 1), -1, [*way.start, *buffers], stretch, step=-1)[: len(way.start)]
