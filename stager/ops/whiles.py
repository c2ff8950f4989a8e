"""Reverse mode of `while`: it runs as a `collect`, which counts its turns and keeps what the way back reads of them.

The way back is a `for` over the turns. A loop whose way back needs nothing of single turns is a `while` that counts.
With checkpoints it runs once to count, and then as a `for`: where states are kept follows from the number of turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.interpreters.stack import bind
from stager.ir.dims import symbol
from stager.ir.graph import Graph
from stager.ops.cotangents import Totals
from stager.ops.footprints import lasting
from stager.ops.joint import Joint, Part, counters, course, forward_nodes, known_integers, trace_joint
from stager.ops.loop_back import LoopBack
from stager.ops.marks import carries_tangent, carry_fixpoint
from stager.ops.regions import I64, replay, scalar_index, with_input_in_front
from stager.ops.residuals import Residuals, choose_residuals
from stager.ops.rows import Rows
from stager.ops.silence import silenced
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

    def joined() -> tuple[Joint, Residuals]:
        joint = trace_joint(indexed, own, n, active, captured, needs[n:], active)
        moving = counters(joint, n)
        if here:
            turns = course(joint, carries, dims, moving, (0, symbol("%last")), 1)
            joint.lasting = lasting(turns, n, joint.outs)
        return joint, choose_residuals(joint, {joint.graph.inputs[0], *moving}, lane_ranges(joint))

    joint, residuals = cheaper(joined)
    rows = Rows(residuals.stored, residuals.bounds)
    tapes: tuple[Raw, ...]
    if not rows.groups:
        counted = _counting(carries, captured, cond, body)
        results, count, tapes = counted[1:], counted[0], ()
    else:
        results, count, tapes = _collecting(carries, captured, cond, joint, rows)

    def pull_back(cts: Sequence[Raw], totals: Sequence[Raw]) -> list[Raw]:
        from stager.ops.control import for_loop

        way = LoopBack(joint, active, carries, captured, needs[n:], cts, totals)
        hoisted, moving = hoisted_values(joint, residuals), starts(joint, carries)

        def backward(k: Raw, *state: Raw) -> list[Raw]:
            part = Part(joint, results)
            part.env.update(hoisted)
            part.know(joint.graph.inputs[0], k)
            for v, (start, change) in moving.items():
                part.know(v, counted_in(start, change, k))
            rows.know(part, tapes, k)
            return way.step(part, state)

        back = for_loop(plus(count, -1), scalar_index(-1), way.start, backward, step=-1)
        return way.results(back)

    return results, Totals(pull_back)


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
    carries: Sequence[Raw], captured: Sequence[Raw], cond: Graph, joint: Joint, rows: Rows
) -> tuple[tuple[Raw, ...], Raw, tuple[Raw, ...]]:
    """The loop's results, how many turns it took, and the tapes of what is stored."""
    from stager.ops.collect import collect

    def forward(*state: Raw) -> list[Raw]:
        part = Part(joint)
        for v, raw in zip(joint.graph.inputs[1:], state, strict=False):
            part.know(v, raw)
        part.run(forward_nodes(joint, [*joint.outs, *rows.stored]))
        return [*[part.value(v) for v in joint.outs], *rows.whole(part)]

    return collect(carries, lambda *cs: replay(cond, [*cs, *captured])[0], forward)
