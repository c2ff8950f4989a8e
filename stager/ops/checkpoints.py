"""Reverse mode of loops that keep states in a fixed number of slots.

Tapes would hold something of every iteration. The state is the carries that the way back depends on, and no more. An
iteration is reached from the nearest slot, and the slots set on the way stand where the number of repeated iterations
is least (A. Griewank and A. Walther, Algorithm 799: revolve). O(log n) memory and passes with log₂ n slots
("binomial"). What `checkpoint=` may be is said here too; "sqrt" is the way of `stretches.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from stager.interpreters.stack import bind
from stager.ir.dims import Dim, is_static
from stager.ir.dtypes import i64
from stager.ir.graph import Graph
from stager.ir.types import Type
from stager.ops.cotangents import Totals
from stager.ops.families import full, zeros_of
from stager.ops.joint import Joint, Part, forward_nodes, nodes_for, trace_joint
from stager.ops.loop_back import LoopBack
from stager.ops.marks import carries_tangent, carry_fixpoint
from stager.ops.regions import I64, dim_value, scalar_index
from stager.ops.rows import read_row, write_row
from stager.ops.tapes import Levels, alike, trip_count, turns

Raw = Any
SLOTS = 16  # of a binomial loop whose trip count is not known before it runs

_levels: ContextVar[Levels] = ContextVar("levels", default=None)


@contextmanager
def checkpointing(levels: Levels) -> Iterator[None]:
    """The loops staged inside, which stand in no other loop, keep checkpoints; None ends that."""
    token = _levels.set(levels)
    try:
        yield
    finally:
        _levels.reset(token)


def loop_params() -> dict[str, Any]:
    """The params that a loop staged now takes from `checkpointing`."""
    levels = _levels.get()
    return {} if levels is None else {"checkpoint": levels}


def checked_levels(levels: Any) -> Levels:
    """The levels as given. ValueError unless None, "sqrt", "binomial" or a positive int."""
    if levels is None or levels in ("sqrt", "binomial") or (type(levels) is int and levels > 0):
        result: Levels = levels
        return result
    raise ValueError(f"checkpoint is None, 'sqrt', 'binomial' or a positive number of states, not {levels!r}")


def checkpointed_pullback(
    args: Sequence[Raw],
    needs: Sequence[bool],
    *,
    step: int,
    n_carry: int,
    regions: tuple[Graph, ...],
    levels: Levels,
) -> tuple[Any, Totals]:
    """The pullback of a `for` that keeps states instead of tapes."""
    from stager.ops.control import for_op
    from stager.ops.tapes import no_totals

    (body,), n = regions, n_carry
    carries, captured = args[2 : 2 + n], args[2 + n :]
    active = carry_fixpoint(body, 1, needs[2 : 2 + n], needs[2 + n :], carries_tangent)
    if not any(active):
        return bind(for_op, *args, step=step, n_carry=n, regions=regions), no_totals
    _, trips, low, high = trip_count(args[0], args[1], step)
    count = dim_value(trips) if alike(args[0], args[1]) else turns(args[0], args[1], step)
    own = (I64, *[c.type for c in carries])
    ends = (low, high - 1) if step > 0 else (high + 1, low)
    joint = trace_joint(body, own, n, active, captured, needs[2 + n :], active, ends)
    loop = _Loop(joint, args[0], step, n, trips, count, ends)
    outs, kept = loop.forward_whole(args[1], carries)

    def pull(cts: Sequence[Raw], totals: Sequence[Raw]) -> list[Raw]:
        way = LoopBack(joint, active, carries, captured, needs[2 + n :], cts, totals[2:])
        return [None, None, *way.results(loop.back_by_slots(way, kept, levels))]

    return outs, Totals(pull)


class _Loop:
    """The joint region of a loop and the ways through it. Iterations are numbered t from 0: index = lower + t·step.

    Where lanes take different numbers of them, `count`, `trips` is the most.
    """

    def __init__(
        self, joint: Joint, lower: Raw, step: int, n: int, trips: Dim, count: Raw, ends: tuple[Dim, Dim]
    ) -> None:
        self.joint, self.lower, self.step, self.n, self.ends = joint, lower, step, n, ends
        self.trips, self.count = trips, count
        self.inputs = joint.graph.inputs[1 : 1 + n]
        self.state = self._state()

    def _state(self) -> list[int]:
        """The carries that the way back through an iteration depends on, and those that these depend on."""
        joint = self.joint
        wanted = [ct for ct in joint.ct_outs if ct is not None]
        found: set[int] = set()
        while True:
            nodes = nodes_for(joint, [*joint.forward, *joint.backward], wanted, set(joint.graph.inputs))
            read = {a for node in nodes for a in node.args} | set(wanted)
            grown = {k for k, v in enumerate(self.inputs) if v in read}
            if grown == found:
                return sorted(found)
            found = grown
            wanted = [*[ct for ct in joint.ct_outs if ct is not None], *[joint.outs[k] for k in sorted(found)]]

    def index(self, t: Raw) -> Raw:
        from stager.ops.elementwise import add, mul

        scaled = t if self.step == 1 else mul(t, self.step)
        return scaled if is_static(self.ends[0]) and self.lower_is_zero else add(scaled, self.lower)

    @property
    def lower_is_zero(self) -> bool:
        return self.step == 1 and self.ends[0] == 0

    def part(self, t: Raw, state: Sequence[Raw]) -> Part:
        """What is known at iteration t."""
        part = Part(self.joint)
        part.know(self.joint.graph.inputs[0], self.index(t))
        for k, raw in zip(self.state, state, strict=True):
            part.know(self.inputs[k], raw)
        return part

    def advanced(self, t: Raw, state: Sequence[Raw]) -> list[Raw]:
        """The state after iteration t."""
        part = self.part(t, state)
        after = [self.joint.outs[k] for k in self.state]
        inputs = set(self.joint.graph.inputs)
        part.run_again(nodes_for(self.joint, self.joint.forward, after, inputs, back=False))
        return [part.value(v) for v in after]

    def _iteration(self, i: Raw, carries: Sequence[Raw]) -> list[Raw]:
        """A whole iteration, effects included."""
        part = Part(self.joint)
        for v, raw in zip(self.joint.graph.inputs, (i, *carries), strict=False):
            part.know(v, raw)
        part.run(forward_nodes(self.joint, self.joint.outs))
        return [part.value(v) for v in self.joint.outs]

    def forward_whole(self, upper: Raw, carries: Sequence[Raw]) -> tuple[tuple[Raw, ...], Any]:
        from stager.ops.control import for_loop

        outs = for_loop(self.lower, upper, carries, lambda i, *inner: self._iteration(i, inner), step=self.step)
        return outs, [carries[k] for k in self.state]

    def back_by_slots(self, way: LoopBack, start: Sequence[Raw], levels: Levels) -> Sequence[Raw]:
        """Slot 0 holds the state before the first iteration; the slots up to `top` are in use, at rising iterations."""
        from stager.ops.control import for_loop, while_loop
        from stager.ops.elementwise import add, eq, gt, lt, select, sub

        slots = _slots(levels, self.trips)
        n, n_cts = len(self.state), len(way.start)
        # one more row: where a state goes that finds no free slot
        rows = [zeros_of(Type(s.type.dtype, (slots + 1, *s.type.shape))) for s in start]
        rows = [write_row(r, s, _int(0)) for r, s in zip(rows, start, strict=True)]
        places = zeros_of(Type(i64, (slots + 1,)))

        def one_back(t: Raw, *state: Raw) -> list[Raw]:
            cts, rows, (places, top) = state[:n_cts], list(state[n_cts : n_cts + n]), state[n_cts + n :]
            at = read_row(places, (), top)
            here = [read_row(r, r.type.shape[1:], top) for r in rows]

            def onward(at: Raw, top: Raw, places: Raw, *inner: Raw) -> list[Raw]:
                here, rows = list(inner[:n]), list(inner[n:])
                free = sub(_int(slots - 1), top)
                rest = sub(add(t, 1), at)  # iterations to go back through from here
                behind = add(at, _first_part(rest, free))
                here = list(for_loop(at, behind, here, lambda k, *x: self.advanced(k, x)))
                stored = gt(free, 0)
                slot = select(stored, add(top, 1), _int(slots))
                rows = [write_row(r, h, slot) for r, h in zip(rows, here, strict=True)]
                return [behind, select(stored, slot, top), write_row(places, behind, slot), *here, *rows]

            at, top, places, *moved = while_loop([at, top, places, *here, *rows], lambda at, *_: lt(at, t), onward)
            new, rows = way.step(self.part(t, moved[:n]), cts), moved[n:]
            taken = eq(read_row(places, (), top), t)  # its slot is free again; slot 0 stays
            top = select(taken, sub(top, 1), top)
            return [*new, *rows, places, select(lt(top, 0), _int(0), top)]

        last = sub(self.count, 1)
        return for_loop(last, -1, [*way.start, *rows, places, _int(0)], one_back, step=-1)[:n_cts]


def _int(k: int) -> Raw:
    return full((), k, i64)


def _slots(levels: Levels, trips: Dim) -> int:
    if isinstance(levels, int):
        return levels
    return max(2, trips.bit_length()) if isinstance(trips, int) else SLOTS


def _first_part(rest: Raw, free: Raw) -> Raw:
    """How far to go before the next state is kept, with `rest` iterations ahead and `free` slots: at least 1.

    The slot here and the free ones reverse C(c + r, c) iterations in r sweeps, c = free + 1. For the least r that
    suffices, the part up to the next state may be what c slots reverse in r - 1 sweeps.
    """
    from stager.ops.control import while_loop
    from stager.ops.elementwise import add, eq, floordiv, lt, maximum, minimum, mul, select, sub

    c = add(free, 1)

    def grown(r: Raw, reach: Raw) -> Raw:
        return floordiv(mul(reach, add(c, r)), r)  # C(c + r, c) from C(c + r - 1, c)

    _, reach = while_loop(
        [scalar_index(1), scalar_index(1)],
        lambda r, reach: lt(grown(r, reach), rest),
        lambda r, reach: [add(r, 1), grown(r, reach)],
    )
    part = maximum(minimum(reach, sub(rest, 1)), 1)
    return select(eq(free, 0), maximum(sub(rest, 1), 1), part)
