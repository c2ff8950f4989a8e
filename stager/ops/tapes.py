"""Reverse mode of the control ops: what the forward pass saves, and the node that runs backward.

The body is traced once, jointly: forward under a grad level, then its backward, in one region. What of the forward part
the backward part reads is the question; a minimum cut (bytes stored, cheap ops free to run again) answers it. The
stored values become extra results of the forward node: rows of tape buffers of shape (trip, ...) for loops, stacked
lanes for `map`, plain results for `switch`. Cotangents of captures are summed in place, row by row where only rows of
them are touched. A `while` is counted first and differentiated as a `for`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stager.interpreters.stack import bind, push
from stager.ir.core_ops import input_op
from stager.ir.dims import Apply, Dim, Expr, Sym, dim_max, dim_min, floordiv, is_static, substitute, symbol, symbols_of
from stager.ir.graph import Graph, Node, Value
from stager.ir.types import Type
from stager.ops.cotangents import accumulate, is_zeros
from stager.ops.families import elementwise, zeros_like, zeros_of
from stager.ops.regions import (
    I64,
    Captures,
    LaneDependentDim,
    RegionInterpreter,
    carries_tangent,
    dim_of,
    dim_value,
    trace_region,
)

Raw = Any
Pull = Callable[[Sequence[Raw]], list[Raw]]


# -- the joint region -------------------------------------------------------------------------------------------------


@dataclass
class Joint:
    """A region holding a body and its backward. Own inputs: the body's own (`n_own`), then one cotangent per active result."""

    interp: RegionInterpreter
    n_own: int
    outs: list[Value]
    ct_inputs: list[Value]
    ct_outs: list[Value | None]  # of the active carries, then of the needed captures
    forward: list[Node] = field(default_factory=list)  # in order; none depends on a cotangent
    backward: list[Node] = field(default_factory=list)  # those that do

    @property
    def graph(self) -> Graph:
        return self.interp.graph

    @property
    def captured(self) -> Sequence[Raw]:
        return self.interp.captures.raw


def trace_joint(
    body: Graph,
    own: Sequence[Type],
    n_carry: int,
    active: Sequence[bool],
    captured: Sequence[Raw],
    needs: Sequence[bool],
    seeded: Sequence[bool],
) -> Joint:
    """own: types of the body's own inputs, the last n_carry of them carries. seeded: results that get a cotangent."""
    from stager.interpreters.grad import GradInterpreter
    from stager.ops.regions import replay

    ct_types = [t for t, on in zip(body.output_types, seeded, strict=True) if on]
    n_own = len(own)
    kept: dict[str, Any] = {}

    def joint(*inputs: Value) -> list[Value]:
        own_inputs, cts = list(inputs[:n_own]), list(inputs[n_own:])
        level = GradInterpreter()
        with push(level):
            first = n_own - n_carry
            tracked = [level.track(v) if k >= first and active[k - first] else v for k, v in enumerate(own_inputs)]
            tracked_captures = [level.track(c) if need else c for c, need in zip(captured, needs, strict=True)]
            outs = replay(body, [*tracked, *tracked_captures])
        raw = [level.unwrap(o) for o in outs]
        it = iter(cts)
        seeds = []
        for (_, slot), on in zip(raw, seeded, strict=True):
            ct = next(it) if on else None
            if slot is not None and ct is not None:
                seeds.append((slot, ct))
        wanted = [t.slot for t, on in zip(tracked[first:], active, strict=True) if on]
        wanted += [t.slot for t, need in zip(tracked_captures, needs, strict=True) if need]
        ct_outs = level.backward(seeds, wanted)
        kept["outs"] = [v for v, _ in raw]
        kept["ct_outs"] = ct_outs
        return [*kept["outs"], *[ct for ct in ct_outs if ct is not None]]

    interp = trace_region(joint, (*own, *ct_types), Captures(), "joint")
    graph = interp.graph
    outputs = iter(graph.outputs)
    outs = [next(outputs) for _ in kept["outs"]]
    ct_outs = [None if ct is None else next(outputs) for ct in kept["ct_outs"]]
    result = Joint(interp, n_own, outs, graph.inputs[n_own : n_own + len(ct_types)], ct_outs)
    dependent = {v.node for v in result.ct_inputs}
    for node in graph.nodes:
        if node.op is input_op:
            continue
        if any(a.node in dependent for a in node.args):
            dependent.add(node)
            result.backward.append(node)
        else:
            result.forward.append(node)
    return result


def _flows(joint: Joint, cts_on: Sequence[bool]) -> list[bool]:
    """Which cotangents that come out depend on those that go in."""
    marked = {v.node for v, on in zip(joint.ct_inputs, cts_on, strict=True) if on}
    for node in joint.backward:
        if any(a.node in marked for a in node.args):
            marked.add(node)
    return [ct is not None and ct.node in marked for ct in joint.ct_outs]


# -- running parts of it again ----------------------------------------------------------------------------------------


class Part:
    """Runs chosen nodes of a joint region elsewhere. `env` holds the raw values known there; captures are free."""

    def __init__(self, joint: Joint) -> None:
        self.joint = joint
        self.env: dict[Value, Raw] = {}
        self.dims: dict[str, Dim] = {}
        self._captures = {v: joint.captured[k] for k, v in joint.interp.inputs.items()}
        self._data: dict[Value, list[str]] = {}
        self._own: dict[int, list[str]] = {}
        for name, d in joint.graph.symbols.items():
            if d.kind == "data":
                self._data.setdefault(d.source, []).append(name)
            elif joint.graph.inputs[d.source] not in self._captures:
                self._own.setdefault(d.source, []).append(name)

    def know(self, value: Value, raw: Raw) -> None:
        """The raw value that stands for a value of the joint region."""
        self.env[value] = raw
        names = self._data.get(value, ())
        if value.node.op is input_op:
            names = (*names, *self._own.get(value.node.params["index"], ()))
        for name in names:
            self.dims[name] = dim_of(raw)

    def value(self, v: Value) -> Raw:
        found = self.env.get(v)
        if found is None:
            raw = self._captures[v]
            found = self.env[v] = dim_value(symbol(raw)) if isinstance(raw, str) else raw
        return found

    def type(self, t: Type) -> Type:
        """A type of the joint region as it reads here."""
        return substitute(t, self.dims) if self.dims else t  # type: ignore[no-any-return]

    def run(self, nodes: Iterable[Node]) -> None:
        from stager.ops.regions import _replay_control

        for node in nodes:
            if Value(node, 0) in self.env:
                continue
            operands = [self.value(a) for a in node.args]
            params = node.params
            renamed = any(d != symbol(name) for name, d in self.dims.items())
            if renamed:
                params = {k: substitute(v, self.dims) for k, v in params.items()}
            if node.regions:
                out = _replay_control(node, operands, params, renamed)
            else:
                out = bind(node.op, *operands, **params)
            outs = out if node.op.multiple_results else (out,)
            for k, o in enumerate(outs):
                self.know(Value(node, k), o)


def _defining(graph: Graph, names: Iterable[str]) -> list[Value]:
    """The values that give local symbols their value."""
    found = []
    for name in names:
        d = graph.symbols[name]
        found.append(d.source if d.kind == "data" else graph.inputs[d.source])
    return found


def _operands(graph: Graph, node: Node) -> list[Value]:
    """Operands, and the values behind the symbols a node mentions."""
    mentioned = node.mentioned_symbols()
    return [*node.args, *_defining(graph, mentioned)] if mentioned else list(node.args)


def _needed(graph: Graph, nodes: Sequence[Node], wanted: Iterable[Value], known: set[Value]) -> list[Node]:
    """Those of `nodes` that must run for `wanted`, given the known values, in order."""
    live: set[Node] = set()
    todo = [v for v in wanted if v not in known]
    while todo:
        v = todo.pop()
        if v.node not in live:
            live.add(v.node)
            todo += [a for a in _operands(graph, v.node) if a not in known]
    return [n for n in nodes if n in live]


# -- what is stored ---------------------------------------------------------------------------------------------------

CHEAP = ("source", "elementwise", "view", "structural")


def _is_cheap(node: Node) -> bool:
    """Fit to run again rather than be stored."""
    return node.op.family in CHEAP or (node.op.name == "gather" and all(a.type.shape == () for a in node.args[1:]))


@dataclass
class Residuals:
    """stored: values the forward node saves. hoisted: the same in every iteration, computed once before going back."""

    stored: list[Value]
    hoisted: list[Value]
    bounds: dict[Value, tuple[Dim, ...]]  # the largest shape of each stored value over all iterations


def choose_residuals(joint: Joint, free: set[Value], ranges: dict[str, tuple[Dim, Dim]]) -> Residuals:
    """The cheapest set of values from which, with `free` and the captures, all that the backward part reads follows."""
    graph = joint.graph
    own = set(joint.graph.inputs[: joint.n_own])
    varying: set[Node] = {v.node for v in own}
    for node in joint.forward:
        if any(a.node in varying for a in _operands(graph, node)):
            varying.add(node)
    free = free | {v for v in graph.inputs if v not in own and v not in joint.ct_inputs}
    wanted: list[Value] = []
    seen: set[Value] = set()
    backward = set(joint.backward) | {v.node for v in joint.ct_inputs}
    for node in joint.backward:
        for a in _operands(graph, node):
            if a.node not in backward and a not in free and a not in seen:
                seen.add(a)
                wanted.append(a)
    hoisted = [v for v in wanted if v.node not in varying and not _is_cheap(v.node)]
    free |= set(hoisted)
    bounds: dict[Value, tuple[Dim, ...]] = {}
    stored = _minimum_cut(joint, [v for v in wanted if v not in free], free, varying, ranges, bounds)
    more = _invariant_frontier(joint, stored, wanted, free, varying)
    return Residuals(stored, hoisted + more, {v: bounds[v] for v in stored})


def _invariant_frontier(
    joint: Joint, stored: list[Value], wanted: list[Value], free: set[Value], varying: set[Node]
) -> list[Value]:
    """Costly invariant values among what is run again: computed once, ahead."""
    nodes = _needed(joint.graph, joint.forward, wanted, free | set(stored))
    return [Value(n, k) for n in nodes if n not in varying and not _is_cheap(n) for k in range(len(n.types))]


def _minimum_cut(
    joint: Joint,
    wanted: Sequence[Value],
    free: set[Value],
    varying: set[Node],
    ranges: dict[str, tuple[Dim, Dim]],
    bounds: dict[Value, tuple[Dim, ...]],
) -> list[Value]:
    """Node-capacitated: v -> v' carries the bytes of v, a cheap node's operands lead to it, what is wanted leads to the end.

    Of the cuts of one size the last one is taken (it runs least again): the digraph is turned around, so that the cut
    nearest its source is the one nearest to the end.
    """
    import networkx as nx
    from networkx.algorithms.flow import boykov_kolmogorov

    if not wanted:
        return []
    flow = nx.DiGraph()
    start, end = "start", "end"
    todo = list(wanted)
    seen: set[Value] = set(todo)
    for v in todo:
        flow.add_edge((v, 1), end)
    while todo:
        v = todo.pop()
        shape = _bound_shape(joint.graph, v.type.shape, ranges)
        must_store = v.node.op is input_op or v.node.op.ordered
        if shape is None:
            if must_store:
                raise AssertionError(f"internal error in stager: no bound on the size of a carried {v.type}")
            flow.add_edge((v, 0), (v, 1))
        else:
            bounds[v] = shape
            flow.add_edge((v, 0), (v, 1), capacity=_bytes(joint.graph, v, shape))
        again = not must_store and (_is_cheap(v.node) or shape is None or v.node not in varying)
        if not again:
            flow.add_edge(start, (v, 0))
            continue
        for a in _operands(joint.graph, v.node):
            if a in free:
                continue
            flow.add_edge((a, 1), (v, 0))
            if a not in seen:
                seen.add(a)
                todo.append(a)
    if start not in flow:
        return []
    _, (near_end, _) = nx.minimum_cut(flow.reverse(), end, start, flow_func=boykov_kolmogorov)
    return [v for v in _in_order(joint, seen) if (v, 1) in near_end and (v, 0) not in near_end]


def _in_order(joint: Joint, values: set[Value]) -> list[Value]:
    nodes = [v.node for v in joint.graph.inputs] + joint.forward
    return [Value(n, k) for n in nodes for k in range(len(n.types)) if Value(n, k) in values]


def _bytes(graph: Graph, v: Value, shape: Sequence[Dim]) -> int:
    total = v.type.dtype.itemsize
    for d in shape:
        total *= d if isinstance(d, int) else 64 if (hint := _hint_of(graph, d)) is None else hint
    return max(total, 1)


def _hint_of(graph: Graph, d: Dim) -> int | None:
    from stager.ir.dims import evaluate

    env = {name: graph.symbols[name].hint for name in symbols_of(d) if name in graph.symbols}
    if any(h is None for h in env.values()) or env.keys() != symbols_of(d):
        return None
    return max(1, evaluate(d, env))  # type: ignore[arg-type]


# -- sizes that depend on the iteration -------------------------------------------------------------------------------


def _bound_shape(graph: Graph, shape: Sequence[Dim], ranges: dict[str, tuple[Dim, Dim]]) -> tuple[Dim, ...] | None:
    """The largest extents over all iterations in terms of the graph around; None when there is no telling."""
    local = _local_symbols(graph)
    out = []
    for d in shape:
        if symbols_of(d) & local:
            high = _extent(d, ranges, local, upper=True)
            if high is None:
                return None
            d = dim_max(0, high)
        out.append(d)
    return tuple(out)


def _local_symbols(graph: Graph) -> set[str]:
    """Symbols that mean something in this region only: its own inputs' values and its data."""
    from stager.interpreters.stack import stack

    s = stack()
    around = {name for level in s.levels[: s.depth] if level.key == "Stage" for name in level.graph.symbols}  # type: ignore[attr-defined]
    return {name for name, d in graph.symbols.items() if name not in around}


def _extent(d: Dim, ranges: dict[str, tuple[Dim, Dim]], local: set[str], *, upper: bool) -> Dim | None:
    """A bound on a dim, local symbols replaced by the ends of their ranges. Interval arithmetic, linear terms only."""
    if not isinstance(d, Expr):
        return d
    total: Dim = 0
    for monomial, c in d.terms:
        factor: Dim = c
        bounded = 0
        for atom, power in monomial:
            here = symbols_of(Expr(((((atom, 1),), 1),)))
            if not here & local:
                for _ in range(power):
                    factor = factor * Expr(((((atom, 1),), 1),))
                continue
            bounded += power
            end = _atom_extent(atom, ranges, local, upper=upper == (c > 0))
            if end is None:
                return None
            factor = factor * end
        if bounded > 1:
            return None
        total = total + factor
    return total


def _atom_extent(atom: Any, ranges: dict[str, tuple[Dim, Dim]], local: set[str], *, upper: bool) -> Dim | None:
    if isinstance(atom, Sym):
        low_high = ranges.get(atom.name)
        return None if low_high is None else low_high[int(upper)]
    assert isinstance(atom, Apply)
    a = _extent(atom.a, ranges, local, upper=upper)
    if atom.fn == "floordiv":
        return floordiv(a, atom.b) if a is not None and isinstance(atom.b, int) and atom.b > 0 else None
    if atom.fn == "mod":
        return (atom.b - 1 if upper else 0) if isinstance(atom.b, int) and atom.b > 0 else None
    b = _extent(atom.b, ranges, local, upper=upper)
    if atom.fn == "min" and upper and (a is None or b is None):
        return a if b is None else b
    if atom.fn == "max" and not upper and (a is None or b is None):
        return a if b is None else b
    if a is None or b is None:
        return None
    return dim_max(a, b) if atom.fn == "max" else dim_min(a, b)


# -- tapes ------------------------------------------------------------------------------------------------------------


def _write_row(tape: Raw, row: Raw, t: Raw) -> Raw:
    """tape with row t set; a row smaller than the tape's goes to its corner."""
    from stager.ops.indexed import scatter
    from stager.ops.structural import slice_update
    from stager.ops.views import reshape

    shape = row.type.shape
    if tape.type.shape[1:] == shape:
        return scatter(tape, row, t, axes=(0,), batch_dims=0, mode="promise", combine="set")
    zeros = (0,) * len(shape)
    return slice_update(
        tape,
        reshape(row, shape=(1, *shape)),
        starts=(dim_of(t), *zeros),
        sizes=(1, *shape),
        steps=(1,) * (1 + len(shape)),
    )


def _read_row(tape: Raw, shape: tuple[Dim, ...], t: Raw) -> Raw:
    from stager.ops.indexed import gather
    from stager.ops.views import reshape, slice_

    if tape.type.shape[1:] == shape:
        return gather(tape, t, axes=(0,), batch_dims=0, mode="promise")
    zeros = (0,) * len(shape)
    row = slice_(tape, starts=(dim_of(t), *zeros), sizes=(1, *shape), steps=(1,) * (1 + len(shape)))
    return reshape(row, shape=shape)


# The largest of all lanes, the same for all: what a buffer for every lane must hold.
longest = elementwise("longest", lambda x: x, lower=lambda b, x: x, kinds="iu")


def _longest_batch(interp: Any, args: Any, bdims: Any) -> Any:
    from stager.ops.reductions import reduce_max

    return longest(reduce_max(args[0], axes=(bdims[0],))), None


object.__setattr__(longest.op, "batch", _longest_batch)


def trip_count(lower: Raw, upper: Raw, step: int) -> tuple[Raw, Dim, Dim, Dim]:
    """Of range(lower, upper, step): the last iteration's number, and as dims how many there are, the least lower and the
    greatest upper bound; where lanes differ, of the lane with most.
    """
    try:
        low, high = dim_of(lower), dim_of(upper)
    except LaneDependentDim:
        from stager.ops.elementwise import floordiv as quotient
        from stager.ops.elementwise import maximum, sub

        span, size = (sub(upper, lower), step) if step > 0 else (sub(lower, upper), -step)
        trips = maximum(quotient(_plus(span, size - 1), _like(span, size)), 0)
        low, high = (_end(x, least=(step > 0) == is_start) for x, is_start in ((lower, True), (upper, False)))
        return sub(trips, 1), dim_of(longest(trips)), low, high
    span_dim = high - low + (step - 1) if step > 0 else low - high - (step + 1)
    count = dim_max(0, floordiv(span_dim, abs(step)))
    return dim_value(count - 1), count, low, high


def _plus(x: Raw, k: int) -> Raw:
    from stager.ops.elementwise import add

    return add(x, k) if k else x


def _like(x: Raw, k: int) -> Raw:
    from stager.ops.families import full_like

    return full_like(x, k)


def _end(x: Raw, *, least: bool) -> Dim:
    from stager.ops.elementwise import neg

    return -dim_of(longest(neg(x))) if least else dim_of(longest(x))


# -- for --------------------------------------------------------------------------------------------------------------


def _spread(values: Iterable[Raw], on: Sequence[bool]) -> list[Raw]:
    it = iter(values)
    return [next(it) if x else None for x in on]


def for_pullback(
    args: Sequence[Raw], needs: Sequence[bool], *, step: int, n_carry: int, regions: tuple[Graph, ...]
) -> tuple[Any, Pull]:
    """Forward with tapes; backward with the iterations in reverse."""
    from stager.ops.control import carry_fixpoint, for_loop, for_op

    (body,), n = regions, n_carry
    lower, upper = args[:2]
    carries, captured = args[2 : 2 + n], args[2 + n :]
    needs_captured = needs[2 + n :]
    active = carry_fixpoint(body, 1, needs[2 : 2 + n], needs_captured, carries_tangent)
    if not any(active):
        outs = bind(for_op, *args, step=step, n_carry=n, regions=regions)
        return outs, lambda cts: [None] * len(args)
    last, trips, low, high = trip_count(lower, upper, step)
    own = (I64, *[c.type for c in carries])
    joint = trace_joint(body, own, n, active, captured, needs_captured, active)
    i_value = joint.graph.inputs[0]
    ranges = _index_ranges(joint, low, high, step)
    residuals = choose_residuals(joint, {i_value}, ranges)
    stored = residuals.stored
    tapes = [zeros_of(Type(v.type.dtype, (trips, *residuals.bounds[v]))) for v in stored]
    zero_based = is_static(low) and low == 0 and step == 1

    def iteration(i: Raw) -> Raw:
        from stager.ops.elementwise import floordiv as quotient
        from stager.ops.elementwise import sub

        if zero_based:
            return i
        offset = sub(i, lower)
        return offset if step == 1 else quotient(offset, _like(offset, step))

    def forward(i: Raw, *state: Raw) -> list[Raw]:
        part = Part(joint)
        for v, raw in zip(joint.graph.inputs, (i, *state[:n]), strict=False):
            part.know(v, raw)
        part.run(_forward_nodes(joint, [*joint.outs, *stored]))
        t = iteration(i) if stored else None
        rows = [_write_row(tape, part.value(v), t) for tape, v in zip(state[n:], stored, strict=True)]
        return [*[part.value(v) for v in joint.outs], *rows]

    outs = for_loop(lower, upper, [*carries, *tapes], forward, step=step)
    results, filled = outs[:n], outs[n:]

    def pull(cts: Sequence[Raw]) -> list[Raw]:
        given = [ct for ct, on in zip(cts, active, strict=True) if on]
        n_active = len(given)
        on = [ct is not None for ct in given]
        while True:
            flows = _flows(joint, on)
            grown = [a or b for a, b in zip(on, flows[:n_active], strict=True)]
            if grown == on:
                break
            on = grown
        capture_on = flows[n_active:]
        active_carries = [c for c, a in zip(carries, active, strict=True) if a]
        needed_captures = [c for c, need in zip(captured, needs_captured, strict=True) if need]
        start = [zeros_like(c) if ct is None else ct for ct, c, x in zip(given, active_carries, on, strict=True) if x]
        sums = [zeros_like(c) for c, x in zip(needed_captures, capture_on, strict=True) if x]
        ahead = Part(joint)
        ahead.run(_needed(joint.graph, joint.forward, residuals.hoisted, set(joint.graph.inputs)))
        hoisted = {v: ahead.value(v) for v in residuals.hoisted}
        n_cts = len(start)

        def backward(t: Raw, *state: Raw) -> list[Raw]:
            from stager.ops.elementwise import add, mul

            i = t if zero_based else add(mul(t, step) if step != 1 else t, lower)
            part = Part(joint)
            part.env.update(hoisted)
            part.know(i_value, i)
            for tape, v in zip(filled, stored, strict=True):
                part.know(v, _read_row(tape, part.type(v.type).shape, t))
            it = iter(state[:n_cts])
            for v, x in zip(joint.ct_inputs, on, strict=True):
                part.know(v, next(it) if x else zeros_of(part.type(v.type)))
            carried = [ct for ct, x in zip(joint.ct_outs[:n_active], on, strict=True) if x]
            summed = [ct for ct, x in zip(joint.ct_outs[n_active:], capture_on, strict=True) if x]
            _run_back(joint, part, [ct for ct in (*carried, *summed) if ct is not None])
            before = [zeros_of(part.type(joint_type)) if ct is None else part.value(ct)
                      for ct, joint_type in zip(carried, [s.type for s in state[:n_cts]], strict=True)]  # fmt: skip
            return [*before, *[accumulate(s, part.value(ct)) for s, ct in zip(state[n_cts:], summed, strict=True)]]

        back = for_loop(last, -1, [*start, *sums], backward, step=-1)
        carry_cts = _spread(_spread(back[:n_cts], on), active)
        capture_cts = _spread(_spread(back[n_cts:], capture_on), needs_captured)
        return [None, None, *carry_cts, *capture_cts]

    return results, pull


def _index_ranges(joint: Joint, low: Dim, high: Dim, step: int) -> dict[str, tuple[Dim, Dim]]:
    """The least and the largest value of the symbols that are the loop's index."""
    ends = (low, high - 1) if step > 0 else (high + 1, low)
    return {name: ends for name, d in joint.graph.symbols.items() if d.kind == "value" and d.source == 0}


def _forward_nodes(joint: Joint, wanted: Sequence[Value]) -> list[Node]:
    """What the forward pass runs: what its results take, and every effect."""
    graph = joint.graph
    effects = [n for n in joint.forward if n.ordered]
    todo = [*wanted, *[a for n in effects for a in _operands(graph, n)]]
    needed = set(_needed(graph, joint.forward, todo, set(graph.inputs))) | set(effects)
    return [n for n in joint.forward if n in needed]


def _run_back(joint: Joint, part: Part, wanted: Sequence[Value]) -> None:
    """Run the backward part for the wanted cotangents, and of the forward part what it reads and is not known."""
    inputs = set(joint.graph.inputs)
    nodes = _needed(joint.graph, [*joint.forward, *joint.backward], wanted, set(part.env) | inputs)
    part.run(n for n in nodes if not n.ordered)


# -- while ------------------------------------------------------------------------------------------------------------


def while_pullback(
    args: Sequence[Raw], needs: Sequence[bool], *, n_carry: int, regions: tuple[Graph, ...]
) -> tuple[Any, Pull]:
    """Run once to count, then as a `for` of so many iterations."""
    from stager.ops.control import carry_fixpoint, while_loop, while_op
    from stager.ops.elementwise import add
    from stager.ops.regions import replay, scalar_index

    (cond, body), n = regions, n_carry
    carries, captured = args[:n], args[n:]
    active = carry_fixpoint(body, 0, needs[:n], needs[n:], carries_tangent)
    if not any(active):
        outs = bind(while_op, *args, n_carry=n, regions=regions)
        return outs, lambda cts: [None] * len(args)
    counted = while_loop(
        [scalar_index(0), *carries],
        lambda count, *cs: replay(cond, [*cs, *captured])[0],
        lambda count, *cs: [add(count, 1), *replay(body, [*cs, *captured])],
    )
    indexed = trace_region(lambda i, *inputs: replay(body, inputs), (I64, *[a.type for a in args]), Captures())
    graph = indexed.finish(1 + len(args))
    captured_more = indexed.captures.operands()
    operands = (scalar_index(0), counted[0], *args, *captured_more)
    wide_needs = (False, False, *needs, *[False] * len(captured_more))
    outs, pull = for_pullback(operands, wide_needs, step=1, n_carry=n, regions=(graph,))
    return outs, lambda cts: pull(cts)[2 : 2 + len(args)]


# -- switch -----------------------------------------------------------------------------------------------------------


def switch_pullback(args: Sequence[Raw], needs: Sequence[bool], *, regions: tuple[Graph, ...]) -> tuple[Any, Pull]:
    """Each branch saves what its own backward reads; branches share the places for it."""
    from stager.ops.control import switch_case, switch_op
    from stager.ops.regions import dependent_outputs

    index, *captured = args
    needs_captured = needs[1:]
    per_branch = [dependent_outputs(region, needs_captured, carries_tangent) for region in regions]
    active = [any(column) for column in zip(*per_branch, strict=True)]
    if not any(active):
        return bind(switch_op, *args, regions=regions), lambda cts: [None] * len(args)
    joints = [trace_joint(region, (), 0, (), captured, needs_captured, active) for region in regions]
    stored = [choose_residuals(joint, set(), {}).stored for joint in joints]
    places, where = _shared_places([[v.type for v in values] for values in stored])

    def forward(k: int) -> Callable[[], list[Raw]]:
        def branch() -> list[Raw]:
            joint = joints[k]
            part = Part(joint)
            part.run(_forward_nodes(joint, [*joint.outs, *stored[k]]))
            saved: list[Raw] = [None] * len(places)
            for place, v in zip(where[k], stored[k], strict=True):
                saved[place] = part.value(v)
            rest = [zeros_of(t) if raw is None else raw for raw, t in zip(saved, places, strict=True)]
            return [*[part.value(v) for v in joint.outs], *rest]

        return branch

    outs = switch_case(index, [forward(k) for k in range(len(regions))])
    n = len(active)
    results, saved = outs[:n], outs[n:]

    def pull(cts: Sequence[Raw]) -> list[Raw]:
        given = [ct for ct, on in zip(cts, active, strict=True) if on]
        on = [ct is not None for ct in given]
        flows = [_flows(joint, on) for joint in joints]
        capture_on = [any(column) for column in zip(*flows, strict=True)]
        needed_captures = [c for c, need in zip(captured, needs_captured, strict=True) if need]

        def backward(k: int) -> Callable[[], list[Raw]]:
            def branch() -> list[Raw]:
                joint = joints[k]
                part = Part(joint)
                for place, v in zip(where[k], stored[k], strict=True):
                    part.know(v, saved[place])
                for v, ct in zip(joint.ct_inputs, given, strict=True):
                    part.know(v, zeros_of(part.type(v.type)) if ct is None else ct)
                wanted = [ct for ct, x in zip(joint.ct_outs, flows[k], strict=True) if x and ct is not None]
                _run_back(joint, part, wanted)
                return [part.value(ct) if x and ct is not None else zeros_like(c)
                        for ct, c, x, any_x in zip(joint.ct_outs, needed_captures, flows[k], capture_on, strict=True)
                        if any_x]  # fmt: skip

            return branch

        back = switch_case(index, [backward(k) for k in range(len(regions))])
        return [None, *_spread(_spread(back, capture_on), needs_captured)]

    return results, pull


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


# -- map --------------------------------------------------------------------------------------------------------------


def map_pullback(
    args: Sequence[Raw], needs: Sequence[bool], *, size: Dim, regions: tuple[Graph, ...]
) -> tuple[Any, Pull]:
    """Lanes save stacked values. Backward is a `map` again when each lane touches its own row of every capture only."""
    from stager.ops.control import for_loop, map_lanes, map_op
    from stager.ops.regions import dependent_outputs
    from stager.ops.views import moveaxis

    (body,) = regions
    active = dependent_outputs(body, [False, *needs], carries_tangent)
    if not any(active):
        return bind(map_op, *args, size=size, regions=regions), lambda cts: [None] * len(args)
    joint = trace_joint(body, (I64,), 0, (), args, needs, active)
    lane_value = joint.graph.inputs[0]
    ranges = _index_ranges(joint, 0, size, 1)
    residuals = choose_residuals(joint, {lane_value}, ranges)
    stored = [v for v in residuals.stored]

    def forward(lane: Raw) -> list[Raw]:
        part = Part(joint)
        part.know(lane_value, lane)
        part.run(_forward_nodes(joint, [*joint.outs, *stored]))
        rows = [_grown(part.value(v), residuals.bounds[v]) for v in stored]
        return [*[part.value(v) for v in joint.outs], *rows]

    outs = map_lanes(size, forward)
    n = len(active)
    results, saved = outs[:n], outs[n:]

    def pull(cts: Sequence[Raw]) -> list[Raw]:
        given = [ct for ct, on in zip(cts, active, strict=True) if on]
        capture_on = _flows(joint, [ct is not None for ct in given])
        needed = [a for a, need in zip(args, needs, strict=True) if need]
        summed = [ct for ct, x in zip(joint.ct_outs, capture_on, strict=True) if x and ct is not None]
        ahead = Part(joint)
        ahead.run(_needed(joint.graph, joint.forward, residuals.hoisted, set(joint.graph.inputs)))
        hoisted = {v: ahead.value(v) for v in residuals.hoisted}

        def lane_part(lane: Raw, wanted: Sequence[Value]) -> Part:
            part = Part(joint)
            part.env.update(hoisted)
            part.know(lane_value, lane)
            for tape, v in zip(saved, stored, strict=True):
                part.know(v, _read_row(tape, part.type(v.type).shape, lane))
            for v, ct in zip(joint.ct_inputs, given, strict=True):
                t = part.type(v.type)
                part.know(v, zeros_of(t) if ct is None else _read_row(ct, t.shape, lane))
            _run_back(joint, part, wanted)
            return part

        rows = [_own_row(joint, ct, lane_value, size) for ct in summed]
        if all(row is not None for row in rows):
            wanted = [row.args[1] for row in rows if row is not None]

            def lane_back(lane: Raw) -> list[Raw]:
                part = lane_part(lane, wanted)
                return [part.value(v) for v in wanted]

            stacked = map_lanes(size, lane_back)
            back = [
                moveaxis(s, 0, row.params["axes"][0]) for s, row in zip(stacked, rows, strict=True) if row is not None
            ]
        else:

            def step(lane: Raw, *state: Raw) -> list[Raw]:
                part = lane_part(lane, summed)
                return [accumulate(s, part.value(ct)) for s, ct in zip(state, summed, strict=True)]

            start = [zeros_like(a) for a, x in zip(needed, capture_on, strict=True) if x]
            back = list(for_loop(0, dim_value(size), start, step))
        return _spread(_spread(back, capture_on), needs)

    return results, pull


def _grown(row: Raw, shape: tuple[Dim, ...]) -> Raw:
    """A row whose size depends on the lane, in the corner of one that holds any lane's."""
    from stager.ops.structural import slice_update

    if row.type.shape == shape:
        return row
    zeros = zeros_of(Type(row.type.dtype, shape))
    return slice_update(zeros, row, starts=(0,) * len(shape), sizes=row.type.shape, steps=(1,) * len(shape))


def _own_row(joint: Joint, ct: Value, lane: Value, size: Dim) -> Node | None:
    """The node of a cotangent that is zero but for the lane's own row: scatter-add at the lane into zeros."""
    node = ct.node
    if node.op.name != "scatter" or node.params["combine"] != "add" or node.params["batch_dims"] != 0:
        return None
    if not is_zeros(node.args[0]) or len(node.args) != 3 or node.args[2] != lane:
        return None
    return node if node.args[0].type.shape[node.params["axes"][0]] == size else None
