"""Reverse mode of the control ops: where the forward pass saves values, and the node that runs backward.

The body's joint region (`joint.py`) says which values the backward part reads. They become extra results of the forward
node: rows of tape buffers of shape (trip, ...) for loops (`rows.py`), plain results for `switch`. Cotangents of
captures are summed in place, row by row where only rows of them are touched. A `while` is `whiles.py`'s, a `map` is
that of `lanes_back.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from stager.bounds import simplify
from stager.interpreters.stack import bind
from stager.ir.dims import Dim, dim_max, dim_min, floordiv, is_static
from stager.ir.graph import Graph, Value
from stager.ir.types import Type
from stager.ops.beginnings import Beginning, beginning
from stager.ops.cotangents import Totals
from stager.ops.families import elementwise, zeros_of
from stager.ops.footprints import lasting
from stager.ops.joint import (
    Joint,
    Part,
    captured_symbols,
    counters,
    course,
    flows,
    forward_nodes,
    known_integers,
    nodes_for,
    run_back,
    trace_joint,
)
from stager.ops.loop_back import LoopBack, in_turn, spread
from stager.ops.marks import carries_tangent, carry_fixpoint, dependent_outputs
from stager.ops.regions import I64, LaneDependentError, dim_of, dim_value, known_dim, scalar_index
from stager.ops.residuals import Residuals, choose_residuals, index_ranges, stores_a_carry
from stager.ops.rows import Rows

Raw = Any
Levels = str | int | None  # of checkpoints: "sqrt", "binomial", or a number of states that are kept


# False: loops do not leave reads to their results, nor branches to what they capture
lasts: ContextVar[bool] = ContextVar("lasts", default=True)
no_totals = Totals(lambda cts, totals: [None] * len(totals))


# -- tapes ------------------------------------------------------------------------------------------------------------


def _longest_batch(interp: Any, args: Any, bdims: Any) -> Any:
    from stager.ops.reductions import reduce_max

    return longest(reduce_max(args[0], axes=(bdims[0],))), None


# The largest of all lanes, the same for all: what a buffer for every lane must hold.
longest = elementwise("longest", lambda x: x, lower=lambda b, x: x, kinds="iu", batch=_longest_batch)


def trip_count(lower: Raw, upper: Raw, step: int) -> tuple[Raw, Dim, Dim, Dim]:
    """Of range(lower, upper, step): its last index, and as dims how many there are and the bounds.

    Where lanes differ: the most, the least lower and the greatest upper bound (the other way round, going down).
    """
    try:
        low, high = dim_of(lower), dim_of(upper)
    except LaneDependentError:
        from stager.ops.elementwise import add, mul, sub

        trips = turns(lower, upper, step)
        low, high = (_end(x, least=(step > 0) == is_start) for x, is_start in ((lower, True), (upper, False)))
        return add(mul(sub(trips, 1), step), lower), dim_of(longest(trips)), low, high
    span_dim = high - low + (step - 1) if step > 0 else low - high - (step + 1)
    count = simplify(dim_max(0, floordiv(span_dim, abs(step))))
    return dim_value(low + (count - 1) * step), count, low, high


def turns(lower: Raw, upper: Raw, step: int) -> Raw:
    """How many indices range(lower, upper, step) has, in each lane."""
    from stager.ops.elementwise import floordiv, maximum, sub

    span, size = (sub(upper, lower), step) if step > 0 else (sub(lower, upper), -step)
    return maximum(floordiv(plus(span, size - 1), _like(span, size)), 0)


def lane_ranges(joint: Joint) -> dict[str, tuple[Dim, Dim]]:
    """The range over all lanes of the symbols in which lanes differ."""
    return {name: (_end(raw, least=True), _end(raw, least=False)) for name, raw in captured_symbols(joint).items()}


def plus(x: Raw, k: int) -> Raw:
    from stager.ops.elementwise import add

    return add(x, k) if k else x


def _like(x: Raw, k: int) -> Raw:
    from stager.ops.families import full_like

    return full_like(x, k)


def _end(x: Raw, *, least: bool) -> Dim:
    from stager.ops.elementwise import neg

    return -dim_of(longest(neg(x))) if least else dim_of(longest(x))


# -- for --------------------------------------------------------------------------------------------------------------


def for_pullback(
    args: Sequence[Raw],
    needs: Sequence[bool],
    *,
    step: int,
    n_carry: int,
    regions: tuple[Graph, ...],
    checkpoint: Levels = None,
    parted: bool = False,
) -> tuple[Any, Totals]:
    """Forward with tapes; backward with the iterations in reverse.

    parted: these are turns of a loop of which others run in another way.
    """
    from stager.ops.checkpoints import checkpointed_pullback
    from stager.ops.control import for_loop, for_op
    from stager.ops.stretches import Stretches
    from stager.ops.worth import in_stretches, is_open, note, planned, turns_on_tapes

    if checkpoint not in (None, "sqrt"):
        return checkpointed_pullback(args, needs, step=step, n_carry=n_carry, regions=regions, levels=checkpoint)
    (body,), n = regions, n_carry
    lower, upper = args[:2]
    carries, captured = args[2 : 2 + n], args[2 + n :]
    needs_captured = needs[2 + n :]
    active = carry_fixpoint(body, 1, needs[2 : 2 + n], needs_captured, carries_tangent)
    if not any(active):
        return bind(for_op, *args, step=step, n_carry=n, regions=regions), no_totals
    last, trips, low, high = trip_count(lower, upper, step)
    own = (I64, *[c.type for c in carries])
    ends = (low, high - 1) if step > 0 else (high + 1, low)
    here, dims = lasts.get(), known_integers(carries)

    def joined() -> tuple[Joint, Residuals]:
        joint = trace_joint(body, own, n, active, captured, needs_captured, active, ends)
        counted = counters(joint, n)
        if here:
            joint.lasting = lasting(course(joint, carries, dims, counted, ends, step), n, joint.outs)
        ranges = index_ranges(joint, *ends) | lane_ranges(joint)
        return joint, choose_residuals(joint, {joint.graph.inputs[0], *counted}, ranges)

    joint, residuals = cheaper(joined)
    i_value = joint.graph.inputs[0]
    stored, counted = residuals.stored, starts(joint, carries)
    # the loops count turns where that makes rows of tapes slices
    by_index = not stored or abs(step) == 1 or not alike(lower, upper)
    begun: list[Beginning] = []
    way_of = course(joint, carries, dims, counters(joint, n), ends, step) if alike(lower, upper) else None
    if stored and way_of is not None:
        found = {v: beginning(joint, way_of, v, step, dim_of(lower)) for v in stored}
        begun = [b for b in found.values() if b is not None]
        stored = [v for v in stored if found[v] is None]
    pieces = [b.piece(carries[b.carry], trips) for b in begun]
    hoisted: dict[Value, Raw] = {}

    def know(part: Part, i: Raw, t: Raw) -> None:
        part.know_all(hoisted)
        part.know(i_value, i)
        for v, (start, change) in counted.items():
            part.know(v, counted_in(start, change, t))
        for b, piece in zip(begun, pieces, strict=True):
            part.know(b.value, b.row(piece, t, part.type_here(b.value.type).shape))

    def in_parts(kept: list[Value], again: list[Value]) -> Stretches:
        known = {i_value, *counted, *residuals.hoisted, *[b.value for b in begun], *kept}
        count = None if alike(lower, upper) else turns(lower, upper, step)
        return Stretches(joint, n, lower, low, step, trips, count, residuals.bounds, know, kept, again, known, way_of)

    stretches = None
    if stored and checkpoint is not None:
        stretches = planned(in_parts, stored, residuals.bounds, way_of) if parted and way_of else in_parts([], stored)
        if not parted:
            note("the way back runs stretches of √n of n turns again, as it is asked to")
    elif stored and way_of is not None and not parted:
        stretches = in_stretches(in_parts, stored, residuals.bounds, way_of)
        first = turns_on_tapes(in_parts, stored, residuals.bounds, way_of) if is_open(trips, way_of) else None
        if first is not None:
            middle = dim_value(low + dim_min(trips, first) * step)
            return _in_two(args, needs, active, middle, step=step, n_carry=n, regions=regions)
    zero_based = is_static(low) and low == 0 and step == 1

    def turn(k: Raw) -> tuple[Raw, Raw]:
        """(the loop's index, the number of the turn) of what the emitted loops count."""
        from stager.ops.elementwise import floordiv as quotient
        from stager.ops.elementwise import sub

        if not by_index:
            return dim_value(low + dim_of(k) * step), k
        if zero_based or not (residuals.stored or counted):
            return k, k
        offset = sub(k, lower) if step > 0 else sub(lower, k)
        return k, offset if abs(step) == 1 else quotient(offset, _like(offset, abs(step)))

    def forward() -> tuple[Sequence[Raw], Callable[[LoopBack], Sequence[Raw]]]:
        """The loop's results, and the way back through its turns."""

        def one(k: Raw, *state: Raw) -> list[Raw]:
            i, t = turn(k)
            part = Part(joint)
            for v, raw in zip(joint.graph.inputs, (i, *state[:n]), strict=False):
                part.know(v, raw)
            part.run(forward_nodes(joint, [*joint.outs, *stored]))
            return [*[part.value(v) for v in joint.outs], *rows.written(part, state[n:], t)]

        rows = Rows(stored, residuals.bounds)
        tapes = rows.tapes(trips)
        span, way_step = ((lower, upper), step) if by_index else ((scalar_index(0), dim_value(trips)), 1)
        outs = for_loop(*span, [*carries, *tapes], one, step=way_step)
        results, filled = outs[:n], outs[n:]

        def back(way: LoopBack) -> Sequence[Raw]:
            def one_back(k: Raw, *state: Raw) -> list[Raw]:
                i, t = turn(k)
                part = Part(joint, results)
                know(part, i, t)
                rows.know(part, filled, t)
                return way.step(part, state)

            ends = (last, plus(lower, -step)) if by_index else (dim_value(trips - 1), scalar_index(-1))
            return for_loop(*ends, way.start, one_back, step=-way_step)

        return results, back

    results, back = forward() if stretches is None else stretches.forward(carries)

    def pull(cts: Sequence[Raw], totals: Sequence[Raw]) -> list[Raw]:
        way = LoopBack(joint, active, carries, captured, needs_captured, cts, totals[2:])
        if way_of is not None:
            way.skip_zeros(way_of)
        hoisted.update(hoisted_values(joint, residuals))
        return [None, None, *way.results(back(way))]

    return results, Totals(pull)


def _in_two(
    args: Sequence[Raw], needs: Sequence[bool], active: Sequence[bool], middle: Raw, *, n_carry: int, **params: Any
) -> tuple[Any, Totals]:
    """A loop whose turns up to `middle` keep tapes; those behind run in stretches."""
    n, (lower, upper), captured = n_carry, args[:2], args[2 + n_carry :]
    begun, first = for_pullback((lower, middle, *args[2:]), needs, n_carry=n, parted=True, **params)
    later = (False, False, *active, *needs[2 + n :])
    results, second = for_pullback(
        (middle, upper, *begun, *captured), later, n_carry=n, parted=True, checkpoint="sqrt", **params
    )
    back = in_turn(first, second, n, 2)
    return results, Totals(lambda cts, totals: [None, None, *back.run(cts, totals[2:])])


def cheaper(joined: Callable[[], tuple[Joint, Residuals]]) -> tuple[Joint, Residuals]:
    """A joint region and what is stored of it: with reads left to results of loops, or without, whichever stores less.

    Loops inside may leave reads to an array that this loop would have to store whole, in every iteration.
    """
    joint, residuals = joined()
    if not lasts.get() or not any(stores_a_carry(joint, v) for v in residuals.stored):
        return joint, residuals
    token = lasts.set(False)
    try:
        other = joined()
    finally:
        lasts.reset(token)
    return other if other[1].nbytes < residuals.nbytes else (joint, residuals)


def alike(*bounds: Raw) -> bool:
    """Whether they are the same in all lanes."""
    try:
        return all(dim_of(b) is not None for b in bounds)
    except LaneDependentError:
        return False


def starts(joint: Joint, carries: Sequence[Raw]) -> dict[Value, tuple[Raw, int]]:
    """The carries that count: what they start with, and by how much they move."""
    return {v: (carries[v.node.params["index"] - 1], change) for v, change in counters(joint, len(carries)).items()}


def counted_in(start: Raw, change: int, t: Raw) -> Raw:
    """What such a carry is in turn t."""
    from stager.ops.elementwise import add, mul

    known = known_dim(start)
    if known is not None and alike(t):
        return dim_value(known + dim_of(t) * change)
    return add(start, mul(t, change)) if change else start


def hoisted_values(joint: Joint, residuals: Residuals) -> dict[Value, Raw]:
    """What is the same in every iteration, computed ahead of the way back."""
    ahead = Part(joint)
    ahead.run(nodes_for(joint, joint.forward, residuals.hoisted, set(joint.graph.inputs)))
    return {v: ahead.value(v) for v in residuals.hoisted}


# -- switch -----------------------------------------------------------------------------------------------------------


def switch_pullback(args: Sequence[Raw], needs: Sequence[bool], *, regions: tuple[Graph, ...]) -> tuple[Any, Totals]:
    """Each branch saves what its own backward reads; branches share the places for it."""
    from stager.ops.control import switch_case, switch_op

    index, *captured = args
    needs_captured = needs[1:]
    per_branch = [dependent_outputs(region, needs_captured, carries_tangent) for region in regions]
    active = [any(column) for column in zip(*per_branch, strict=True)]
    if not any(active):
        return bind(switch_op, *args, regions=regions), no_totals
    joints = [trace_joint(region, (), 0, (), captured, needs_captured, active) for region in regions]
    reads_on = lasts.get()  # in a loop that would have to store an array whole, branches store what they read of it
    stored = [choose_residuals(joint, set(), {}, repeats=False, reads_on=reads_on).stored for joint in joints]
    places, where = _shared_places([[v.type for v in values] for values in stored])

    def forward(k: int) -> Callable[[], list[Raw]]:
        def branch() -> list[Raw]:
            joint = joints[k]
            part = Part(joint)
            part.run(forward_nodes(joint, [*joint.outs, *stored[k]]))
            saved: list[Raw] = [None] * len(places)
            for place, v in zip(where[k], stored[k], strict=True):
                saved[place] = part.value(v)
            rest = [zeros_of(t) if raw is None else raw for raw, t in zip(saved, places, strict=True)]
            return [*[part.value(v) for v in joint.outs], *rest]

        return branch

    outs = switch_case(index, [forward(k) for k in range(len(regions))])
    n = len(active)
    results, saved = outs[:n], outs[n:]

    def pull(cts: Sequence[Raw], totals: Sequence[Raw]) -> list[Raw]:
        given = [ct for ct, on in zip(cts, active, strict=True) if on]
        reached = [flows(joint, [ct is not None for ct in given]) for joint in joints]
        capture_on = [any(column) for column in zip(*reached, strict=True)]
        needed = [(c, t) for c, t, need in zip(captured, totals[1:], needs_captured, strict=True) if need]

        def backward(k: int) -> Callable[[], list[Raw]]:
            def branch() -> list[Raw]:
                joint = joints[k]
                part = Part(joint)
                for place, v in zip(where[k], stored[k], strict=True):
                    part.know(v, saved[place])
                for v, ct in zip(joint.ct_inputs, given, strict=True):
                    part.know(v, ct)
                for v, (_, total) in zip(joint.total_inputs, needed, strict=True):
                    part.know(v, total)
                new = [ct for ct, x in zip(joint.ct_outs, capture_on, strict=True) if x and ct is not None]
                run_back(joint, part, new)
                return [part.value(ct) for ct in new]

            return branch

        back = switch_case(index, [backward(k) for k in range(len(regions))])
        return [None, *spread(spread(back, capture_on), needs_captured)]

    return results, Totals(pull)


def _shared_places(wanted: Sequence[Sequence[Type]]) -> tuple[list[Type], list[list[int]]]:
    """Result slots such that every branch finds one of the right type for each value it saves."""
    places: list[Type] = []
    where: list[list[int]] = []
    for types in wanted:
        taken: set[int] = set()
        mine = []
        for t in types:
            place = next((k for k, p in enumerate(places) if p == t and k not in taken), None)
            if place is None:
                place = len(places)
                places.append(t)
            taken.add(place)
            mine.append(place)
        where.append(mine)
    return places, where
