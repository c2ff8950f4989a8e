"""Reverse mode of `map`: lanes save stacked values, and go back side by side where each touches its own rows only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from stager.interpreters.stack import bind
from stager.ir.dims import Dim
from stager.ir.graph import Graph, Node, Value
from stager.ops.cotangents import Totals, accumulate
from stager.ops.families import zeros_like
from stager.ops.joint import Part, flows, forward_nodes, run_back, trace_joint
from stager.ops.loop_back import added, spread
from stager.ops.marks import carries_tangent, dependent_outputs
from stager.ops.regions import I64, dim_value
from stager.ops.residuals import choose_residuals, index_ranges
from stager.ops.rows import read_row, whole_row
from stager.ops.tapes import hoisted_values, lane_ranges, no_totals

Raw = Any


def map_pullback(
    args: Sequence[Raw], needs: Sequence[bool], *, size: Dim, regions: tuple[Graph, ...]
) -> tuple[Any, Totals]:
    """Lanes save stacked values. Backward is a `map` again when each lane touches its own row of every capture only."""
    from stager.ops.control import for_loop, map_lanes, map_op
    from stager.ops.views import moveaxis

    (body,) = regions
    active = dependent_outputs(body, [False, *needs], carries_tangent)
    if not any(active):
        return bind(map_op, *args, size=size, regions=regions), no_totals
    joint = trace_joint(body, (I64,), 0, (), args, needs, active, (0, size - 1))
    lane_value = joint.graph.inputs[0]
    ranges = index_ranges(joint, 0, size - 1) | lane_ranges(joint)
    residuals = choose_residuals(joint, {lane_value}, ranges)
    stored = residuals.stored

    def forward(lane: Raw) -> list[Raw]:
        part = Part(joint)
        part.know(lane_value, lane)
        part.run(forward_nodes(joint, [*joint.outs, *stored]))
        rows = [whole_row(part.value(v), residuals.bounds[v]) for v in stored]
        return [*[part.value(v) for v in joint.outs], *rows]

    outs = map_lanes(size, forward)
    n = len(active)
    results, saved = outs[:n], outs[n:]

    def pull(cts: Sequence[Raw], totals: Sequence[Raw]) -> list[Raw]:
        given = [ct for ct, on in zip(cts, active, strict=True) if on]
        capture_on = flows(joint, [ct is not None for ct in given])
        needed = [(a, t) for a, t, need in zip(args, totals, needs, strict=True) if need]
        needed = [pair for pair, x in zip(needed, capture_on, strict=True) if x]
        total_inputs = [v for v, x in zip(joint.total_inputs, capture_on, strict=True) if x]
        new = [ct for ct, x in zip(joint.ct_outs, capture_on, strict=True) if x and ct is not None]
        hoisted = hoisted_values(joint, residuals)

        def lane_part(lane: Raw, sums: Sequence[Raw], wanted: Sequence[Value]) -> Part:
            part = Part(joint)
            part.know_all(hoisted)
            part.know(lane_value, lane)
            for tape, v in zip(saved, stored, strict=True):
                part.know(v, read_row(tape, part.type_here(v.type).shape, lane))
            for v, ct in zip(joint.ct_inputs, given, strict=True):
                part.know(v, None if ct is None else read_row(ct, part.type(v.type).shape, lane))
            for v in joint.total_inputs:
                part.know(v, None)
            for v, total in zip(total_inputs, sums, strict=False):
                part.know(v, total)
            run_back(joint, part, wanted)
            return part

        rows = [_own_rows(ct, total, lane_value, size) for ct, total in zip(new, total_inputs, strict=True)]
        if all(rows):

            def lane_back(lane: Raw) -> list[Raw]:
                part = lane_part(lane, (), [node.args[1] for chain in rows for node in chain])
                return [reduce(accumulate, [part.value(node.args[1]) for node in chain]) for chain in rows]

            stacked = map_lanes(size, lane_back)
            own = [moveaxis(s, 0, chain[0].params["axes"][0]) for s, chain in zip(stacked, rows, strict=True)]
            back = added([total for _, total in needed], own)
        else:

            def step(lane: Raw, *state: Raw) -> list[Raw]:
                part = lane_part(lane, state, new)
                return [part.value(ct) for ct in new]

            start = [zeros_like(a) if total is None else total for a, total in needed]
            back = list(for_loop(0, dim_value(size), start, step))
        return spread(spread(back, capture_on), needs)

    return results, Totals(pull)


def _own_rows(ct: Value, total: Value, lane: Value, size: Dim) -> list[Node]:
    """The scatters that make up a cotangent which differs from its total in the lane's own row only; else nothing."""
    chain: list[Node] = []
    while ct != total:
        node = ct.node
        if node.op.name != "scatter" or node.params["combine"] != "add" or node.params["batch_dims"] != 0:
            return []
        if len(node.args) != 3 or node.args[2] != lane or total.type.shape[node.params["axes"][0]] != size:
            return []
        if chain and node.params["axes"] != chain[0].params["axes"]:
            return []
        chain.append(node)
        ct = node.args[0]
    return chain
