"""Reverse mode of `while`: its turns are counted as it runs, and the way back is a `for` over them.

What tapes have to hold is known only when the turns are counted: a loop that needs any runs once to count, and then
again as a `for` with tapes. A loop whose way back needs nothing of single turns runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager.interpreters.stack import bind
from stager.ir.dims import symbol
from stager.ir.graph import Graph
from stager.ops.cotangents import Totals
from stager.ops.joint import Joint, Part, counters, find_lasting, known_integers, trace_joint
from stager.ops.loop_back import LoopBack
from stager.ops.regions import I64, carries_tangent, scalar_index, with_input_in_front
from stager.ops.residuals import Residuals, choose_residuals
from stager.ops.tapes import (
    Levels,
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
    """Runs once and counts; what tapes need is decided before."""
    from stager.ops.control import carry_fixpoint, while_loop, while_op
    from stager.ops.elementwise import add
    from stager.ops.regions import replay

    (cond, body), n = regions, n_carry
    carries, captured = args[:n], args[n:]
    active = carry_fixpoint(body, 0, needs[:n], needs[n:], carries_tangent)
    if not any(active):
        return bind(while_op, *args, n_carry=n, regions=regions), no_totals
    counted = while_loop(
        [scalar_index(0), *carries],
        lambda count, *cs: replay(cond, [*cs, *captured])[0],
        lambda count, *cs: [add(count, 1), *replay(body, [*cs, *captured])],
    )
    indexed = with_input_in_front(body, I64)
    operands, wide_needs = (scalar_index(0), counted[0], *args), (False, False, *needs)
    joint = None
    if checkpoint is None:
        own, dims = (I64, *[c.type for c in carries]), known_integers(carries)
        joint = trace_joint(indexed, own, n, active, operands[2 + n :], wide_needs[2 + n :], active)
        moving = counters(joint, n)
        if lasts.get():
            find_lasting(joint, carries, dims, moving, (0, symbol("%last")), 1)
        residuals = choose_residuals(joint, {joint.graph.inputs[0], *moving}, lane_ranges(joint))
        if not residuals.stored:
            return counted[1:], Totals(_untaped(joint, residuals, active, operands, wide_needs, counted))
    outs, pull = for_pullback(
        operands, wide_needs, step=1, n_carry=n, regions=(indexed,), checkpoint=checkpoint, traced=joint
    )

    def pull_operands(cts: Sequence[Raw], totals: Sequence[Raw]) -> Sequence[Raw]:
        return pull.run(cts, [None, None, *totals])[2:]

    return outs, Totals(pull_operands)


def _untaped(
    joint: Joint,
    residuals: Residuals,
    active: Sequence[bool],
    operands: Sequence[Raw],
    needs: Sequence[bool],
    counted: Sequence[Raw],
) -> Callable[[Sequence[Raw], Sequence[Raw]], list[Raw]]:
    """The way back through turns that need nothing of their own.

    operands: bounds, carries and captures of the loop. counted: how many turns there were, and the loop's results.
    """
    from stager.ops.control import for_loop

    n, (count, *results) = len(active), counted

    def pull(cts: Sequence[Raw], totals: Sequence[Raw]) -> list[Raw]:
        carries, captured = operands[2 : 2 + n], operands[2 + n :]
        way = LoopBack(joint, active, carries, captured, needs[2 + n :], cts, totals)
        hoisted, moving = hoisted_values(joint, residuals), starts(joint, carries)

        def backward(k: Raw, *state: Raw) -> list[Raw]:
            part = Part(joint, results)
            part.env.update(hoisted)
            part.know(joint.graph.inputs[0], k)
            for v, (start, change) in moving.items():
                part.know(v, counted_in(start, change, k))
            return way.step(part, state)

        back = for_loop(plus(count, -1), scalar_index(-1), way.start, backward, step=-1)
        return way.results(back)

    return pull


