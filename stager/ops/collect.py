"""`collect`: a `while` that keeps rows of every turn. Reverse mode saves in them what the way back reads.

    collect(*carries, *captures; n_carry, size; cond, body)  body -> (*carries, *rows)
    results: the carries, how many turns there were, and per row a tape of type (size, *row)

`size` is the symbol that the number of turns defines. Whoever binds a `collect` may name any, level 0 makes it one of
its own graph. Tapes grow while the loop runs, so that nothing has to count its turns before.

Where the condition differs between the lanes of a vmap, the tapes of all lanes have one length, the most turns that a
lane takes, and zeros behind its own: there the turns are counted first. Not here: what is saved (`whiles.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager.errors import DTypeError, describe
from stager.interpreters.stack import bind
from stager.ir.dims import Dim, symbol
from stager.ir.dtypes import b1
from stager.ir.graph import Graph, Node
from stager.ir.op import Op, register
from stager.ir.types import Type
from stager.ops.control import (
    REBUILD,
    batched,
    filled,
    for_loop,
    fronts,
    lanes_in_front,
    lanes_in_order,
    map_lanes,
    no_reference,
    of_lane,
    pushforward,
    refuse_lane_by_lane,
    spread,
    which,
    while_loop,
)
from stager.ops.control_types import carries_fit, takes
from stager.ops.cotangents import Totals
from stager.ops.families import zeros_of
from stager.ops.marks import MARKED, Carries, carries_batch, carries_tangent, carry_fixpoint, dependent_outputs
from stager.ops.reductions import reduce_max
from stager.ops.regions import I64, Captures, LaneDependentError, dim_of, finish, replay, scalar_index, trace_region
from stager.ops.rows import write_row
from stager.ops.silence import has_ordered_effects, silenced
from stager.ops.tapes import for_pullback, longest, trip_count

Raw = Any
ANY_SIZE = symbol("turns")  # where level 0 gives it a name

# -- types, and building nodes ----------------------------------------------------------------------------------------


def _type(*types: Type, n_carry: int, size: Dim, regions: tuple[Graph, ...]) -> tuple[Type, ...]:
    cond, body = regions
    takes("collect", cond, types)
    takes("collect", body, types)
    if cond.output_types != (Type(b1, ()),):
        raise DTypeError(describe(f"collect: its condition is {cond.output_types}, not one bool scalar"))
    carries_fit("collect", body.input_types[:n_carry], body.output_types[:n_carry])
    tapes = [Type(t.dtype, (size, *t.shape)) for t in body.output_types[n_carry:]]
    return (*types[:n_carry], I64, *tapes)


def collect(
    carries: Sequence[Raw], cond: Callable[..., Raw], body: Callable[..., Sequence[Raw]]
) -> tuple[tuple[Raw, ...], Raw, tuple[Raw, ...]]:
    """(carries, turns, tapes): as `while_loop`, where the body returns the carries and then the rows."""
    captures, types, n = Captures(), [c.type for c in carries], len(carries)
    traced = [trace_region(lambda *cs: (cond(*cs),), types, captures, "cond"), trace_region(body, types, captures)]
    regions, captured = finish(traced, n)
    outs = bind(collect_op, *carries, *captured, n_carry=n, size=ANY_SIZE, regions=regions)
    return outs[:n], outs[n], outs[n + 1 :]


def _again(
    args: Sequence[Raw], n: int, regions: Sequence[Graph]
) -> tuple[Sequence[Raw], Callable[..., Raw], Callable[..., list[Raw]]]:
    """The carries, condition and body of a `collect` as functions of carries."""
    cond, body = regions
    carries, captured = args[:n], args[n:]
    return carries, lambda *cs: replay(cond, [*cs, *captured])[0], lambda *cs: replay(body, [*cs, *captured])


def _flat(carries: Sequence[Raw], count: Raw, tapes: Sequence[Raw]) -> tuple[Raw, ...]:
    return (*carries, count, *tapes)


def _rebuild(operands: Sequence[Raw], params: dict[str, Any], regions: Sequence[Graph]) -> tuple[Raw, ...]:
    return _flat(*collect(*_again(operands, params["n_carry"], regions)))


# -- rules ------------------------------------------------------------------------------------------------------------


def _marked(node: Node, operands: Sequence[bool], carries: Carries) -> list[bool]:
    n = node.params["n_carry"]
    cond, body = node.regions
    marked = carry_fixpoint(body, 0, operands[:n], operands[n:], carries)
    if carries is carries_batch and dependent_outputs(cond, [*marked, *operands[n:]], carries)[0]:
        return [True] * len(node.types)
    rows = dependent_outputs(body, [*marked, *operands[n:]], carries)[n:]
    return [*marked, False, *rows]


def _jvp(primals: Any, tangents: Any, *, n_carry: int, size: Dim, regions: tuple[Graph, ...]) -> Any:
    (cond, body), n = regions, n_carry
    carries, captured = primals[:n], primals[n:]
    t_carries, t_captured = tangents[:n], tangents[n:]
    active = carry_fixpoint(body, 0, which(t_carries), which(t_captured), carries_tangent)
    rows_on = dependent_outputs(body, [*active, *which(t_captured)], carries_tangent)[n:]

    def both(*cs: Raw) -> list[Raw]:
        args, ts = [*cs[:n], *captured], [*spread(cs[n:], active), *t_captured]
        primal, tangent = pushforward(body, args, ts, [*active, *rows_on])
        return [*primal[:n], *tangent[: sum(active)], *primal[n:], *tangent[sum(active) :]]

    start = [*carries, *filled(t_carries, carries, active)]
    outs, count, tapes = collect(start, lambda *cs: replay(cond, [*cs[:n], *captured])[0], both)
    n_rows = len(rows_on)
    t_outs = [*spread(outs[n:], active), None, *spread(tapes[n_rows:], rows_on)]
    return _flat(outs[:n], count, tapes[:n_rows]), tuple(t_outs)


def _pullback(
    args: Sequence[Raw], needs: Sequence[bool], *, n_carry: int, size: Dim, regions: tuple[Graph, ...]
) -> tuple[Any, Totals]:
    """As a `for` over the counted turns that carries the tapes: its rule knows what becomes of their cotangents."""
    n, count = n_carry, _counted(args, n_carry, regions)
    _, turns, _, _ = trip_count(scalar_index(0), count, 1)
    carries, captured = args[:n], args[n:]
    tapes = [zeros_of(Type(t.dtype, (turns, *t.shape))) for t in regions[1].output_types[n:]]
    m = n + len(tapes)

    def turn(k: Raw, *given: Raw) -> list[Raw]:
        outs = replay(regions[1], [*given[:n], *given[m:]])
        return [*outs[:n], *map(write_row, given[n:m], outs[n:], [k] * len(tapes))]

    operands = [*carries, *tapes, *captured]
    traced = trace_region(turn, (I64, *[x.type for x in operands]), Captures(), index=(0, turns - 1))
    graphs, symbols = finish([traced], 1 + len(operands))
    outs, pull = for_pullback(
        (scalar_index(0), count, *operands, *symbols),
        (False, False, *needs[:n], *[False] * len(tapes), *needs[n:], *[False] * len(symbols)),
        step=1,
        n_carry=m,
        regions=graphs,
    )

    def back(cts: Sequence[Raw], totals: Sequence[Raw]) -> Sequence[Raw]:
        given = [None, None, *totals[:n], *[None] * len(tapes), *totals[n:], *[None] * len(symbols)]
        new = pull.run([*cts[:n], *cts[n + 1 :]], given)[2:]
        return [*new[:n], *new[m : m + len(captured)]]

    return _flat(outs[:n], count, outs[n:]), Totals(back)


def _counted(args: Sequence[Raw], n: int, regions: Sequence[Graph]) -> Raw:
    """How many turns the loop takes. It prints nothing: the turns run again."""
    from stager.ops.elementwise import add

    carries, cond, body = _again(args, n, [regions[0], silenced(regions[1])])
    return while_loop(
        [scalar_index(0), *carries],
        lambda _, *cs: cond(*cs),
        lambda count, *cs: [add(count, 1), *body(*cs)[:n]],
    )[0]


def _batch(interp: Any, args: Any, bdims: Any, *, n_carry: int, size: Dim, regions: tuple[Graph, ...]) -> Any:
    (cond, body), n = regions, n_carry
    carries, captured, captured_bdims = args[:n], args[n:], bdims[n:]
    on = carry_fixpoint(body, 0, which(bdims[:n]), which(captured_bdims), carries_batch)
    if dependent_outputs(cond, [*on, *which(captured_bdims)], carries_batch)[0]:
        return _lanes(interp, args, bdims, n, regions)
    rows_on = dependent_outputs(body, [*on, *which(captured_bdims)], carries_batch)[n:]
    inner = (*fronts(on), *captured_bdims)
    try:
        outs, count, tapes = collect(
            lanes_in_front(interp, carries, bdims[:n], on),
            lambda *cs: batched(interp, cond, [*cs, *captured], inner, (False,))[0],
            lambda *cs: batched(interp, body, [*cs, *captured], inner, [*on, *rows_on]),
        )
    except LaneDependentError:
        return _lanes(interp, args, bdims, n, regions)
    return _flat(outs, count, tapes), (*fronts(on), None, *[1 if x else None for x in rows_on])


def _lanes(interp: Any, args: Any, bdims: Any, n: int, regions: tuple[Graph, ...]) -> Any:
    """The turns of every lane are counted; then each fills tapes that all lanes have alike."""
    refuse_lane_by_lane(interp, collect_op, args, bdims, regions)

    def of(lane: Raw) -> list[Raw]:
        return [of_lane(a, b, lane) for a, b in zip(args, bdims, strict=True)]

    (counts,) = map_lanes(interp.batch_size, lambda lane: (_counted(of(lane), n, regions),))
    most = dim_of(longest(reduce_max(counts, axes=(0,))))

    def lane_outs(lane: Raw) -> Sequence[Raw]:
        carries, _, body = _again(of(lane), n, regions)
        tapes = [zeros_of(Type(t.dtype, (most, *t.shape))) for t in regions[1].output_types[n:]]

        def turn(k: Raw, *state: Raw) -> list[Raw]:
            outs = body(*state[:n])
            return [*outs[:n], *map(write_row, state[n:], outs[n:], [k] * len(tapes))]

        return for_loop(0, of_lane(counts, 0, lane), [*carries, *tapes], turn)

    run = lanes_in_order if any(map(has_ordered_effects, regions)) else map_lanes
    outs = run(interp.batch_size, lane_outs)
    return _flat(outs[:n], counts, outs[n:]), (0,) * (len(outs) + 1)


collect_op = register(Op("collect", "control", _type, no_reference, jvp=_jvp, pullback=_pullback, batch=_batch,
                         multiple_results=True, facts=("counts_turns",)))  # fmt: skip
MARKED["collect"] = _marked
REBUILD["collect"] = _rebuild
