"""Reverse mode of `while`: it runs as a `collect`, which counts its turns and keeps what the way back reads of them.

The way back is a `for` over the turns. A loop whose way back needs nothing of single turns is a `while` that counts.
Behind as many turns as have tapes that stay near it goes on in stretches, which run again on the way back.
With checkpoints it runs once to count, and then as a `for`: where states are kept follows from the number of turns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager.interpreters.stack import bind
from stager.ir.dims import symbol
from stager.ir.graph import Graph, Value
from stager.ops.cotangents import Totals
from stager.ops.footprints import Course, lasting
from stager.ops.joint import Joint, Part, counters, course, forward_nodes, known_integers, trace_joint
from stager.ops.loop_back import LoopBack, in_turn
from stager.ops.marks import carries_tangent, carry_fixpoint
from stager.ops.regions import I64, replay, scalar_index, with_input_in_front
from stager.ops.residuals import Residuals, choose_residuals
from stager.ops.rows import Rows
from stager.ops.silence import has_ordered_effects, silenced
from stager.ops.stretches import Know, Stretches
from stager.ops.tapes import (
    Levels,
    cheaper,
    counted_in,
    for_pullback,
    hoisted_values,
    lane_ranges,
    lasts,
    no_totals,
    plus,
    starts,
)
from stager.ops.worth import is_open, turns_on_tapes

Raw = Any


def while_pullback(
    args: Sequence[Raw],
    needs: Sequence[bool],
    *,
    n_carry: int,
    regions: tuple[Graph, ...],
    checkpoint: Levels = None,
) -> tuple[Any, Totals]:
    """Runs once; what tapes need is decided before."""
    from stager.ops.control import while_op

    (cond, body), n = regions, n_carry
    carries, captured = args[:n], args[n:]
    active = carry_fixpoint(body, 0, needs[:n], needs[n:], carries_tangent)
    if not any(active):
        return bind(while_op, *args, n_carry=n, regions=regions), no_totals
    indexed = with_input_in_front(body, I64)
    if checkpoint is not None:
        count, *_ = _counting(carries, captured, cond, silenced(body))
        operands, wide_needs = (scalar_index(0), count, *args), (False, False, *needs)
        outs, pull = for_pullback(operands, wide_needs, step=1, n_carry=n, regions=(indexed,), checkpoint=checkpoint)
        return outs, Totals(lambda cts, totals: pull.run(cts, [None, None, *totals])[2:])
    own, dims, here = (I64, *[c.type for c in carries]), known_integers(carries), lasts.get()
    turns = symbol("%last")

    def course_in(joint: Joint) -> Course:
        return course(joint, carries, dims, counters(joint, n), (0, turns), 1)

    def joined() -> tuple[Joint, Residuals]:
        joint = trace_joint(indexed, own, n, active, captured, needs[n:], active)
        if here:
            joint.lasting = lasting(course_in(joint), n, joint.outs)
        return joint, choose_residuals(joint, {joint.graph.inputs[0], *counters(joint, n)}, lane_ranges(joint))

    joint, residuals = cheaper(joined)
    stored, index, hoisted = residuals.stored, joint.graph.inputs[0], dict[Value, Raw]()
    rows = Rows(stored, residuals.bounds)

    def knowing(begun: Sequence[Raw]) -> Know:
        """What is known of a turn, by its number behind these carries."""
        moving = starts(joint, begun)

        def know(part: Part, i: Raw, t: Raw) -> None:
            part.know_all(hoisted)
            part.know(index, i)
            for v, (start, change) in moving.items():
                part.know(v, counted_in(start, change, t))

        return know

    def way_back(begun: Sequence[Raw], through: Callable[[LoopBack], Sequence[Raw]]) -> Totals:
        """Through turns that begin with these carries."""

        def pull(cts: Sequence[Raw], totals: Sequence[Raw]) -> list[Raw]:
            way = LoopBack(joint, active, begun, captured, needs[n:], cts, totals)
            hoisted.update(hoisted_values(joint, residuals))
            return way.results(through(way))

        return Totals(pull)

    def in_stretches(begun: Sequence[Raw]) -> Stretches:
        known, way = {index, *counters(joint, n), *residuals.hoisted}, course_in(joint)
        zero, shapes = scalar_index(0), residuals.bounds
        return Stretches(joint, n, zero, 0, 1, turns, None, shapes, knowing(begun), [], stored, known, way)

    first = None
    if stored and not has_ordered_effects(cond) and is_open(turns, course_in(joint)):
        first = turns_on_tapes(lambda *_: in_stretches(carries), stored, residuals.bounds, course_in(joint))
    tapes: tuple[Raw, ...]
    if stored:
        results, count, tapes = _collecting(carries, captured, cond, joint, rows, first)
    else:
        counted = _counting(carries, captured, cond, body)
        results, count, tapes = counted[1:], counted[0], ()
    know, middle = knowing(carries), results

    def by_turns(way: LoopBack) -> Sequence[Raw]:
        from stager.ops.control import for_loop

        def backward(k: Raw, *state: Raw) -> list[Raw]:
            part = Part(joint, middle)
            know(part, k, k)
            rows.know(part, tapes, k)
            return way.step(part, state)

        return for_loop(plus(count, -1), scalar_index(-1), way.start, backward, step=-1)

    back = way_back(carries, by_turns)
    if first is None:
        return results, back
    ended, by_stretches = in_stretches(middle).forward_while(
        middle, lambda *cs: replay(cond, [*cs, *captured])[0], lambda *cs: replay(body, [*cs, *captured])
    )
    return ended, in_turn(back, way_back(middle, by_stretches), n, 0)


def _counting(carries: Sequence[Raw], captured: Sequence[Raw], cond: Graph, body: Graph) -> tuple[Raw, ...]:
    """How many turns a loop takes, and its results."""
    from stager.ops.control import while_loop
    from stager.ops.elementwise import add

    return while_loop(
        [scalar_index(0), *carries],
        lambda count, *cs: replay(cond, [*cs, *captured])[0],
        lambda count, *cs: [add(count, 1), *replay(body, [*cs, *captured])],
    )


def _collecting(
    carries: Sequence[Raw], captured: Sequence[Raw], cond: Graph, joint: Joint, rows: Rows, most: int | None
) -> tuple[tuple[Raw, ...], Raw, tuple[Raw, ...]]:
    """The loop's results, how many turns it took, and the tapes of what is stored. most: behind so many it ends."""
    from stager.ops.collect import collect
    from stager.ops.elementwise import and_, lt

    def forward(*state: Raw) -> list[Raw]:
        part = Part(joint)
        for v, raw in zip(joint.graph.inputs[1:], state, strict=False):
            part.know(v, raw)
        part.run(forward_nodes(joint, [*joint.outs, *rows.stored]))
        return [*[part.value(v) for v in joint.outs], *rows.whole(part)]

    def going(*cs: Raw) -> Raw:
        return replay(cond, [*cs, *captured])[0]

    if most is None:
        return collect(carries, going, forward)
    outs, count, tapes = collect(
        [scalar_index(0), *carries],
        lambda k, *cs: and_(lt(k, most), going(*cs)),
        lambda k, *cs: [plus(k, 1), *forward(*cs)],
    )
    return outs[1:], count, tapes
