"""Control ops: `for`, `while`, `switch` and `map`, nodes whose regions are graphs.

    for(lower, upper, *carries, *captures; step, n_carry; body)     body(i, *carries, *captures) -> carries
    while(*carries, *captures; n_carry; cond, body)                 cond(*carries, *captures) -> b1[]; body -> carries
    switch(index, *captures; branches)                              branch(*captures) -> results; the index is clamped
    map(*captures; size; body)                                      body(lane, *captures) -> results, stacked on axis 0

Rules re-run the regions under the transform and trace new ones. Which carries have a tangent, or differ between lanes,
is a fixpoint found on the graph before anything is traced (`marks.py`). Reverse mode stands in `tapes.py`,
`lanes_back.py`, `whiles.py` and `checkpoints.py`.

Functions that build these nodes take and give raw values: `for_loop`, `while_loop`, `switch_case`, `map_lanes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager.errors import TransformError, describe
from stager.interpreters.stack import bind, push, stack
from stager.ir.dims import Dim
from stager.ir.graph import Graph, Node
from stager.ir.op import Op, register
from stager.ir.types import Type
from stager.ops import lanes_back, tapes, whiles
from stager.ops.control_types import for_type, map_type, switch_type, while_type
from stager.ops.families import materialize_batch, zeros_like, zeros_of
from stager.ops.indexed import gather, scatter
from stager.ops.marks import carries_batch, carries_tangent, carry_fixpoint, dependent_outputs
from stager.ops.regions import (
    I64,
    Captures,
    LaneDependentError,
    dim_value,
    finish,
    known_dim,
    replay,
    scalar_index,
    trace_region,
)
from stager.ops.silence import has_ordered_effects
from stager.ops.tapes import Levels

Raw = Any
RawFunction = Callable[..., Sequence[Raw]]


def no_reference(*args: Any, **params: Any) -> Any:
    raise AssertionError("internal error in stager: regions are evaluated by ir/evaluate.py")


# -- building nodes ---------------------------------------------------------------------------------------------------


def for_loop(
    lower: Raw, upper: Raw, carries: Sequence[Raw], body: RawFunction, *, step: int = 1, checkpoint: Levels = None
) -> tuple[Raw, ...]:
    """carries after `body(i, *carries)` for every i of range(lower, upper, step)."""
    n = len(carries)
    low, high = known_dim(lower), known_dim(upper)
    ends = (low, None if high is None else high - 1) if step > 0 else (None if high is None else high + 1, low)
    traced = trace_region(body, (I64, *[c.type for c in carries]), Captures(), index=ends)
    regions, captured = finish([traced], 1 + n)
    operands = (scalar_index(lower), scalar_index(upper), *carries, *captured)
    out: tuple[Raw, ...] = bind(for_op, *operands, step=step, n_carry=n, regions=regions, **_kept(checkpoint))
    return out


def _kept(checkpoint: Levels) -> dict[str, Any]:
    """The param that says which states reverse mode keeps, where it is not tapes."""
    return {} if checkpoint is None else {"checkpoint": checkpoint}


def while_loop(
    carries: Sequence[Raw], cond: Callable[..., Raw], body: RawFunction, *, checkpoint: Levels = None
) -> tuple[Raw, ...]:
    """carries after as many `body(*carries)` as `cond(*carries)` (a b1 scalar) asks for."""
    captures, types, n = Captures(), [c.type for c in carries], len(carries)
    traced = [trace_region(lambda *cs: (cond(*cs),), types, captures, "cond"), trace_region(body, types, captures)]
    regions, captured = finish(traced, n)
    out: tuple[Raw, ...] = bind(while_op, *carries, *captured, n_carry=n, regions=regions, **_kept(checkpoint))
    return out


def switch_case(index: Raw, branches: Sequence[RawFunction]) -> tuple[Raw, ...]:
    """The results of `branches[index]()`; an index out of range counts as the nearest one. They have the same types."""
    captures = Captures()
    traced = [trace_region(branch, (), captures, f"branch{k}") for k, branch in enumerate(branches)]
    regions, captured = finish(traced, 0)
    out: tuple[Raw, ...] = bind(switch_op, scalar_index(index), *captured, regions=regions)
    return out


def map_lanes(size: Dim, body: RawFunction) -> tuple[Raw, ...]:
    """The results of `body(lane)` for lanes 0 to size-1, stacked on a new first axis. Lanes run in any order."""
    regions, captured = finish([trace_region(body, (I64,), Captures(), index=(0, size - 1))], 1)
    out: tuple[Raw, ...] = bind(map_op, *captured, size=size, regions=regions)
    return out


# -- rebuilding under renamed symbols ---------------------------------------------------------------------------------


def _rebuild_for(operands: Sequence[Raw], params: dict[str, Any], regions: Sequence[Graph]) -> tuple[Raw, ...]:
    n = params["n_carry"]
    carries, captured = operands[2 : 2 + n], operands[2 + n :]
    levels = params.get("checkpoint")
    return for_loop(operands[0], operands[1], carries, lambda i, *cs: replay(regions[0], [i, *cs, *captured]),
                    step=params["step"], checkpoint=levels)  # fmt: skip


def _rebuild_while(operands: Sequence[Raw], params: dict[str, Any], regions: Sequence[Graph]) -> tuple[Raw, ...]:
    n = params["n_carry"]
    carries, captured = operands[:n], operands[n:]
    cond, body = regions
    return while_loop(carries, lambda *cs: replay(cond, [*cs, *captured])[0],
                      lambda *cs: replay(body, [*cs, *captured]), checkpoint=params.get("checkpoint"))  # fmt: skip


def _rebuild_switch(operands: Sequence[Raw], params: dict[str, Any], regions: Sequence[Graph]) -> tuple[Raw, ...]:
    return switch_case(operands[0], [_replayed(region, operands[1:]) for region in regions])


def _replayed(region: Graph, args: Sequence[Raw]) -> RawFunction:
    return lambda: replay(region, args)


def _rebuild_map(operands: Sequence[Raw], params: dict[str, Any], regions: Sequence[Graph]) -> tuple[Raw, ...]:
    return map_lanes(params["size"], lambda lane: replay(regions[0], [lane, *operands]))


REBUILD = {"for": _rebuild_for, "while": _rebuild_while, "switch": _rebuild_switch, "map": _rebuild_map}

# -- forward mode -----------------------------------------------------------------------------------------------------


def which(values: Sequence[Any]) -> list[bool]:
    return [v is not None for v in values]


def pushforward(
    graph: Graph, args: Sequence[Raw], tangents: Sequence[Raw], active: Sequence[bool]
) -> tuple[list[Raw], list[Raw]]:
    """A region under jvp: (results, tangents of those in `active`)."""
    from stager.interpreters.jvp import JvpInterpreter

    level = JvpInterpreter()
    with push(level):
        outs = [level.unwrap(o) for o in replay(graph, [level.wrap(a, t) for a, t in zip(args, tangents, strict=True)])]
    return [p for p, _ in outs], [
        zeros_like(p) if t is None else t for (p, t), on in zip(outs, active, strict=True) if on
    ]


def filled(values: Sequence[Raw], like: Sequence[Raw], active: Sequence[bool]) -> list[Raw]:
    """The tangents of active values, zeros made real."""
    return [zeros_like(x) if t is None else t for t, x, on in zip(values, like, active, strict=True) if on]


def spread(values: Sequence[Raw], active: Sequence[bool]) -> list[Raw]:
    """One value or None per position, from those of the active positions."""
    it = iter(values)
    return [next(it) if on else None for on in active]


def _for_jvp(
    primals: Any, tangents: Any, *, step: int, n_carry: int, regions: tuple[Graph, ...], checkpoint: Levels = None
) -> Any:
    (body,), n = regions, n_carry
    carries, captured = primals[2 : 2 + n], primals[2 + n :]
    t_carries, t_captured = tangents[2 : 2 + n], tangents[2 + n :]
    active = carry_fixpoint(body, 1, which(t_carries), which(t_captured), carries_tangent)

    def both(i: Raw, *cs: Raw) -> list[Raw]:
        args, ts = [i, *cs[:n], *captured], [None, *spread(cs[n:], active), *t_captured]
        primal, tangent = pushforward(body, args, ts, active)
        return primal + tangent

    start = [*carries, *filled(t_carries, carries, active)]
    outs = for_loop(primals[0], primals[1], start, both, step=step, checkpoint=checkpoint)
    return outs[:n], tuple(spread(outs[n:], active))


def _while_jvp(
    primals: Any, tangents: Any, *, n_carry: int, regions: tuple[Graph, ...], checkpoint: Levels = None
) -> Any:
    (cond, body), n = regions, n_carry
    carries, captured = primals[:n], primals[n:]
    t_carries, t_captured = tangents[:n], tangents[n:]
    active = carry_fixpoint(body, 0, which(t_carries), which(t_captured), carries_tangent)

    def both(*cs: Raw) -> list[Raw]:
        primal, tangent = pushforward(body, [*cs[:n], *captured], [*spread(cs[n:], active), *t_captured], active)
        return primal + tangent

    start = [*carries, *filled(t_carries, carries, active)]
    outs = while_loop(start, lambda *cs: replay(cond, [*cs[:n], *captured])[0], both, checkpoint=checkpoint)
    return outs[:n], tuple(spread(outs[n:], active))


def _switch_jvp(primals: Any, tangents: Any, *, regions: tuple[Graph, ...]) -> Any:
    per_branch = [dependent_outputs(region, which(tangents[1:]), carries_tangent) for region in regions]
    active = [any(column) for column in zip(*per_branch, strict=True)]

    def both(region: Graph) -> RawFunction:
        def branch() -> list[Raw]:
            primal, tangent = pushforward(region, primals[1:], tangents[1:], active)
            return primal + tangent

        return branch

    outs = switch_case(primals[0], [both(region) for region in regions])
    n = len(active)
    return outs[:n], tuple(spread(outs[n:], active))


def _map_jvp(primals: Any, tangents: Any, *, size: Dim, regions: tuple[Graph, ...]) -> Any:
    active = dependent_outputs(regions[0], [False, *which(tangents)], carries_tangent)

    def both(lane: Raw) -> list[Raw]:
        primal, tangent = pushforward(regions[0], [lane, *primals], [None, *tangents], active)
        return primal + tangent

    outs = map_lanes(size, both)
    n = len(active)
    return outs[:n], tuple(spread(outs[n:], active))


# -- batching ---------------------------------------------------------------------------------------------------------


def batched(
    interp: Any, graph: Graph, args: Sequence[Raw], bdims: Sequence[int | None], out: Sequence[bool]
) -> list[Raw]:
    """A region over all lanes; the results in `out` carry them at axis 0, the others have none."""
    level = interp.again()
    with push(level):
        raw = [level.unwrap(o) for o in replay(graph, [level.wrap(a, b) for a, b in zip(args, bdims, strict=True)])]
    return [materialize_batch(level, o, b) if on else o for (o, b), on in zip(raw, out, strict=True)]


def fronts(on: Sequence[bool]) -> tuple[int | None, ...]:
    return tuple([0 if x else None for x in on])


def lanes_in_front(interp: Any, carries: Sequence[Raw], bdims: Sequence[int | None], on: Sequence[bool]) -> list[Raw]:
    return [materialize_batch(interp, c, b) if x else c for c, b, x in zip(carries, bdims, on, strict=True)]


def _lane_by_lane(interp: Any, op: Op, args: Sequence[Raw], bdims: Sequence[int | None], params: dict[str, Any]) -> Any:
    """The node itself once per lane: lanes differ in trip counts, branches or sizes. In order when it has effects."""
    refuse_lane_by_lane(interp, op, args, bdims, params["regions"])

    def lane_outs(lane: Raw) -> tuple[Raw, ...]:
        outs: tuple[Raw, ...] = bind(op, *[of_lane(a, b, lane) for a, b in zip(args, bdims, strict=True)], **params)
        return outs

    if any(has_ordered_effects(region) for region in params["regions"]):
        outs = lanes_in_order(interp.batch_size, lane_outs)
    else:
        outs = map_lanes(interp.batch_size, lane_outs)
    return outs, (0,) * len(outs)


def refuse_lane_by_lane(
    interp: Any, op: Op, args: Sequence[Raw], bdims: Sequence[int | None], regions: Sequence[Graph]
) -> None:
    """An error where lanes cannot run one by one: they wait for each other, or share the key of random numbers."""
    if any(_holds_collective(region, interp.lanes) for region in regions):
        text = f"a collective stands in a {op.name} where lanes take different paths: some would never come to it"
        remedy = "make the bounds, the condition and all sizes the same for all lanes"
        raise TransformError(describe(text, remedy=remedy))

    for node in _carried_keys(regions, interp.lanes):
        t = node.types[0]
        if not any(b is not None and _lane_type(a, b) == t for a, b in zip(args, bdims, strict=True)):
            assert node.op.batch is not None
            node.op.batch(interp, [None], [None], **node.params)  # raises: the lanes share every key there is


def of_lane(x: Raw, bdim: int | None, lane: Raw) -> Raw:
    return x if bdim is None else gather(x, lane, axes=(bdim,), batch_dims=0, mode="promise")


def _lane_type(x: Raw, bdim: int) -> Type:
    shape = x.type.shape
    return Type(x.type.dtype, shape[:bdim] + shape[bdim + 1 :])


def _holds_collective(region: Graph, lanes: int) -> bool:
    return any(
        (n.params.get("lanes") == lanes and n.op.name != "carried_key")
        or any(_holds_collective(r, lanes) for r in n.regions)
        for n in region.nodes
    )


def _carried_keys(regions: Sequence[Graph], lanes: int) -> list[Node]:
    """The keys of random numbers that loops in these regions carry, by the vmap with these lanes."""
    nodes = [n for region in regions for n in region.nodes]
    here = [n for n in nodes if n.op.name == "carried_key" and n.params["lanes"] == lanes]
    return here + [k for n in nodes if n.regions for k in _carried_keys(n.regions, lanes)]


def lanes_in_order(size: Dim, lane_outs: RawFunction) -> tuple[Raw, ...]:
    """What `map_lanes` does, one lane after the other."""
    probe = trace_region(lane_outs, (I64,), Captures())
    types = probe.graph.output_types
    buffers = [zeros_of(Type(t.dtype, (size, *t.shape))) for t in types]

    def body(lane: Raw, *filled: Raw) -> list[Raw]:
        where: dict[str, Any] = {"axes": (0,), "batch_dims": 0, "mode": "promise", "combine": "set"}
        return [scatter(buffer, o, lane, **where) for buffer, o in zip(filled, lane_outs(lane), strict=True)]

    return for_loop(0, dim_value(size), buffers, body)


def _for_batch(
    interp: Any,
    args: Any,
    bdims: Any,
    *,
    step: int,
    n_carry: int,
    regions: tuple[Graph, ...],
    checkpoint: Levels = None,
) -> Any:
    (body,), n = regions, n_carry
    params = {"step": step, "n_carry": n_carry, "regions": regions, **_kept(checkpoint)}
    if bdims[0] is not None or bdims[1] is not None:
        return _lane_by_lane(interp, for_op, args, bdims, params)
    carries, captured = args[2 : 2 + n], args[2 + n :]
    captured_bdims = bdims[2 + n :]
    on = carry_fixpoint(body, 1, which(bdims[2 : 2 + n]), which(captured_bdims), carries_batch)
    inner = (None, *fronts(on), *captured_bdims)
    try:
        outs = for_loop(args[0], args[1], lanes_in_front(interp, carries, bdims[2 : 2 + n], on),
                        lambda i, *cs: batched(interp, body, [i, *cs, *captured], inner, on), step=step,
                        checkpoint=checkpoint)  # fmt: skip
    except LaneDependentError:
        return _lane_by_lane(interp, for_op, args, bdims, params)
    return outs, fronts(on)


def _while_batch(
    interp: Any, args: Any, bdims: Any, *, n_carry: int, regions: tuple[Graph, ...], checkpoint: Levels = None
) -> Any:
    (cond, body), n = regions, n_carry
    params = {"n_carry": n_carry, "regions": regions, **_kept(checkpoint)}
    carries, captured, captured_bdims = args[:n], args[n:], bdims[n:]
    on = carry_fixpoint(body, 0, which(bdims[:n]), which(captured_bdims), carries_batch)
    if dependent_outputs(cond, [*on, *which(captured_bdims)], carries_batch)[0]:
        return _lane_by_lane(interp, while_op, args, bdims, params)
    inner = (*fronts(on), *captured_bdims)
    try:
        outs = while_loop(
            lanes_in_front(interp, carries, bdims[:n], on),
            lambda *cs: batched(interp, cond, [*cs, *captured], inner, (False,))[0],
            lambda *cs: batched(interp, body, [*cs, *captured], inner, on),
            checkpoint=checkpoint,
        )
    except LaneDependentError:
        return _lane_by_lane(interp, while_op, args, bdims, params)
    return outs, fronts(on)


def _switch_batch(interp: Any, args: Any, bdims: Any, *, regions: tuple[Graph, ...]) -> Any:
    (index, *captured), (index_bdim, *captured_bdims) = args, bdims
    params = {"regions": regions}
    if index_bdim is not None and not _selectable(regions):
        return _lane_by_lane(interp, switch_op, args, bdims, params)
    per_branch = [dependent_outputs(region, which(captured_bdims), carries_batch) for region in regions]
    on = [any(column) for column in zip(*per_branch, strict=True)]
    try:
        if index_bdim is not None:
            return _select_lanes(interp, index, regions, captured, captured_bdims), (0,) * len(on)
        outs = switch_case(index, [_batched_branch(interp, region, captured, captured_bdims, on) for region in regions])
    except LaneDependentError:
        return _lane_by_lane(interp, switch_op, args, bdims, params)
    return outs, fronts(on)


def _batched_branch(interp: Any, region: Graph, captured: Any, bdims: Any, on: Sequence[bool]) -> RawFunction:
    return lambda: batched(interp, region, captured, bdims, on)


SELECT_OPS = 64  # up to so many cheap ops, all branches with a select are faster than a jump per lane


def _selectable(regions: Sequence[Graph]) -> bool:
    """Whether lanes may compute every branch and select: cheap, pure, and no derivative will be taken of the selects.

    (The derivative of the branch not taken may be inf or NaN, and 0 times that is no zero.)
    """
    s = stack()
    if any(level.key in ("Grad", "Jvp") for level in s.levels[: s.depth]):
        return False
    cheap = ("source", "elementwise", "view")
    nodes = [n for region in regions for n in region.nodes]
    return len(nodes) <= SELECT_OPS and all(n.op.family in cheap and not n.ordered for n in nodes)


def _select_lanes(interp: Any, index: Raw, regions: Sequence[Graph], captured: Any, bdims: Any) -> tuple[Raw, ...]:
    from stager.ops.elementwise import gt, select

    outs = batched(interp, regions[0], captured, bdims, [True] * len(regions[0].outputs))
    for k, region in enumerate(regions[1:], 1):
        here = gt(index, k - 1)  # branch k or a later one, which comes next and takes over
        others = batched(interp, region, captured, bdims, [True] * len(outs))
        outs = [select(_per_lane(here, o), o, before) for o, before in zip(others, outs, strict=True)]
    return tuple(outs)


def _per_lane(flag: Raw, like: Raw) -> Raw:
    from stager.ops.views import broadcast

    return broadcast(flag, shape=like.type.shape, axes=(0,))


def _map_batch(interp: Any, args: Any, bdims: Any, *, size: Dim, regions: tuple[Graph, ...]) -> Any:
    on = dependent_outputs(regions[0], [False, *which(bdims)], carries_batch)
    try:
        outs = map_lanes(size, lambda lane: batched(interp, regions[0], [lane, *args], (None, *bdims), on))
    except LaneDependentError:
        return _lane_by_lane(interp, map_op, args, bdims, {"size": size, "regions": regions})
    return outs, tuple([1 if x else None for x in on])


# -- the ops ----------------------------------------------------------------------------------------------------------

for_op = register(Op("for", "control", for_type, no_reference, jvp=_for_jvp, pullback=tapes.for_pullback,
                     batch=_for_batch, multiple_results=True))  # fmt: skip
while_op = register(Op("while", "control", while_type, no_reference, jvp=_while_jvp, pullback=whiles.while_pullback,
                       batch=_while_batch, multiple_results=True))  # fmt: skip
switch_op = register(Op("switch", "control", switch_type, no_reference, jvp=_switch_jvp,
                        pullback=tapes.switch_pullback, batch=_switch_batch, multiple_results=True))  # fmt: skip
map_op = register(Op("map", "control", map_type, no_reference, jvp=_map_jvp, pullback=lanes_back.map_pullback,
                     batch=_map_batch, multiple_results=True))  # fmt: skip
