"""Joint regions: a body and its backward traced as one, and parts of it run where they are needed.

What of the forward part the backward part reads is known then. Which of that is stored is chosen in `residuals.py`,
where it is stored in `tapes.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stager.interpreters.stack import bind, push
from stager.ir.core_ops import fill_op, input_op
from stager.ir.dims import Dim, substitute, symbol, symbols_of
from stager.ir.graph import Graph, Node, Value
from stager.ir.types import Type
from stager.ops.families import zeros_of
from stager.ops.footprints import Course, Lasting, course_of
from stager.ops.regions import (
    I64,
    JOINT,
    Captures,
    RegionInterpreter,
    dim_of,
    dim_value,
    known_dim,
    replay,
    replay_control,
    trace_region,
)
from stager.ops.silence import silenced

Raw = Any

# -- the joint region -------------------------------------------------------------------------------------------------


@dataclass
class Joint:
    """A region with a body and its backward.

    Inputs: the body's own (`n_own`), a cotangent per seeded result, and per needed capture the total of its cotangent
    up to there, which the backward adds to.
    """

    interp: RegionInterpreter
    n_own: int
    outs: list[Value]
    ct_inputs: list[Value]
    total_inputs: list[Value]
    ct_outs: list[Value | None]  # of the active carries, then the new totals of the needed captures
    known: list[tuple[Raw, Dim]]  # integers around it, with the dims that they are
    lasting: Lasting = field(default_factory=Lasting)  # what the backward part reads of the loop's results instead
    depends: set[Node] = field(default_factory=set)  # on a cotangent or total: those inputs and the backward nodes
    forward: list[Node] = field(default_factory=list)  # in order; none depends on a cotangent
    backward: list[Node] = field(default_factory=list)  # those that do, and are linear in them

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
    index: tuple[Dim | None, Dim | None] = (None, None),
) -> Joint:
    """own: types of the body's own inputs, the last n_carry of them carries. seeded: results that get a cotangent.

    index: the ends of the range of own input 0, where it is a loop's.
    """
    from stager.interpreters.grad import GradInterpreter

    ct_types = [t for t, on in zip(body.output_types, seeded, strict=True) if on]
    total_types = [c.type for c, need in zip(captured, needs, strict=True) if need]
    n_own, n_cts = len(own), len(ct_types)
    kept: dict[str, Any] = {}
    known = known_integers(captured)  # ahead: what the region calls its own symbols depends on those around it

    def joint(*inputs: Value) -> list[Value]:
        own_inputs, cts, totals = inputs[:n_own], inputs[n_own : n_own + n_cts], inputs[n_own + n_cts :]
        level = GradInterpreter()
        with push(level):
            first = n_own - n_carry
            tracked: list[Any] = [
                level.track(v) if k >= first and active[k - first] else v for k, v in enumerate(own_inputs)
            ]
            tracked_captures: list[Any] = [
                level.track(c) if need else c for c, need in zip(captured, needs, strict=True)
            ]
            outs = replay(body, [*tracked, *tracked_captures])
        raw = [level.unwrap(o) for o in outs]
        wanted = [t.slot for t, on in zip(tracked[first:], active, strict=True) if on]
        wanted_captures = [t.slot for t, need in zip(tracked_captures, needs, strict=True) if need]
        seeds = list(zip(wanted_captures, totals, strict=True))
        it = iter(cts)
        for (_, slot), on in zip(raw, seeded, strict=True):
            ct = next(it) if on else None
            if slot is not None and ct is not None:
                seeds.append((slot, ct))
        ct_outs = level.backward(seeds, [*wanted, *wanted_captures])
        kept["outs"] = [v for v, _ in raw]
        kept["ct_outs"] = ct_outs
        return [*kept["outs"], *[ct for ct in ct_outs if ct is not None]]

    types = (*own, *ct_types, *total_types)
    interp = trace_region(joint, types, Captures(), JOINT, index=index, share=True)
    graph = interp.graph
    outputs = iter(graph.outputs)
    outs = [next(outputs) for _ in kept["outs"]]
    ct_outs = [None if ct is None else next(outputs) for ct in kept["ct_outs"]]
    first_total = n_own + n_cts
    total_inputs = graph.inputs[first_total : first_total + len(total_types)]
    result = Joint(interp, n_own, outs, graph.inputs[n_own:first_total], total_inputs, ct_outs, known)
    dependent = result.depends
    dependent.update(v.node for v in (*result.ct_inputs, *total_inputs))
    for node in graph.nodes:
        if node.op is input_op:
            continue
        if any(a.node in dependent for a in node.args):
            dependent.add(node)
            result.backward.append(node)
        else:
            result.forward.append(node)
    return result


def counters(joint: Joint, n_carry: int) -> dict[Value, int]:
    """The integer carries that every iteration moves by a literal, and by how much: what they are needs no tape."""
    found: dict[Value, int] = {}
    for v, out in zip(joint.graph.inputs[joint.n_own - n_carry : joint.n_own], joint.outs, strict=True):
        if v.type != I64:
            continue
        node = out.node
        if out == v:
            found[v] = 0
        elif node.op.name in ("add", "sub") and node.args[0] == v and node.args[1].node.op is fill_op:
            found[v] = int(node.args[1].node.params["value"]) * (1 if node.op.name == "add" else -1)
        elif node.op.name == "add" and node.args[1] == v and node.args[0].node.op is fill_op:
            found[v] = int(node.args[0].node.params["value"])
    return found


def known_integers(values: Sequence[Raw]) -> list[tuple[Raw, Dim]]:
    """The integer scalars among the values that are dims."""
    integers = [x for x in values if x.type.shape == () and x.type.dtype.is_integer]
    return [(x, d) for x in integers if (d := known_dim(x)) is not None]


def course(
    joint: Joint,
    carries: Sequence[Raw],
    starts: Sequence[tuple[Raw, Dim]],
    counted: dict[Value, int],
    ends: tuple[Dim, Dim],
    step: int,
) -> Course:
    """How the turns of the loop of a joint region follow one another; `ends` are those of its index.

    starts: integers among the carries that are dims, found ahead of the joint region.
    """
    integers: dict[int, Dim] = {}
    moving: dict[int, tuple[Dim, int]] = {}
    for v, change in counted.items() if abs(step) == 1 else ():
        k = v.node.params["index"]
        first = next((d for x, d in starts if x is carries[k - 1]), symbol(f"%start{k}"))
        # first + change·t in turn t, and t = (i - start)·step
        moving[k] = (first - change * step * ends[0 if step > 0 else 1], change * step)
    for k, v in joint.interp.inputs.items():
        raw = joint.captured[k]
        if v.type.shape == () and v.type.dtype.is_integer:
            known = symbol(raw) if isinstance(raw, str) else next((d for x, d in joint.known if x is raw), None)
            integers[v.node.params["index"]] = symbol(f"%in{k}") if known is None else known
    return course_of(joint.graph, len(carries), integers, ends, step, moving)


def flows(joint: Joint, cts_on: Sequence[bool]) -> list[bool]:
    """Which cotangents that come out depend on those that go in; totals by themselves do not count."""
    marked = {v.node for v, on in zip(joint.ct_inputs, cts_on, strict=True) if on}
    for node in joint.backward:
        if any(a.node in marked for a in node.args):
            marked.add(node)
    return [ct is not None and ct.node in marked for ct in joint.ct_outs]


# -- running parts of it again ----------------------------------------------------------------------------------------


class _Zero:
    """A cotangent that is zero: what a linear node makes of zeros alone is never computed."""


ZERO: Any = _Zero()


class Part:
    """Runs chosen nodes of a joint region elsewhere. `env` holds the raw values known there; captures are free.

    ends: what the carries are after the loop, from which the way back takes what lasts.
    """

    def __init__(self, joint: Joint, ends: Sequence[Raw] = ()) -> None:
        self.joint = joint
        self.ends = ends
        self._lasting = joint.lasting if ends else Lasting()
        self.first: set[Node] = set()  # scatters that add to zeros: they write
        self.idle: set[tuple[Node, int]] = set()  # operands that nothing wanted depends on
        self.inside: dict[Node, dict[Value, tuple[Node, int]]] = {}  # of loops: values, by what updates of which carry
        self.env: dict[Value, Raw] = {}
        self.dims: dict[str, Dim] = {}
        self._captures = {v: joint.captured[k] for k, v in joint.interp.inputs.items()}
        self._data: dict[Value, list[str]] = {}
        self._own: dict[int, list[str]] = {}
        self._around: dict[str, Raw] = captured_symbols(joint)
        for name, d in joint.graph.symbols.items():
            if d.kind == "data":
                self._data.setdefault(d.source, []).append(name)
            elif joint.graph.inputs[d.source] not in self._captures:
                self._own.setdefault(d.source, []).append(name)

    def know(self, value: Value, raw: Raw) -> None:
        """The raw value that stands for a value of the joint region; None for a cotangent that is zero."""
        if raw is None:
            self.env[value] = ZERO
            return
        self.env[value] = raw
        names = self._data.get(value, ())
        if value.node.op is input_op:
            names = (*names, *self._own.get(value.node.params["index"], ()))
        for name in names:
            self.dims[name] = dim_of(raw)

    def know_all(self, values: dict[Value, Raw]) -> None:
        for value, raw in values.items():
            self.know(value, raw)

    def value(self, v: Value) -> Raw:
        found = self.env.get(v)
        if found is None:
            raw = self._captures[v]
            found = self.env[v] = dim_value(symbol(raw)) if isinstance(raw, str) else raw
        elif found is ZERO:
            return zeros_of(self.type(v.type))
        return found

    def is_zero(self, v: Value) -> bool:
        return self.env.get(v) is ZERO

    def type(self, t: Type) -> Type:
        """A type of the joint region as it reads here."""
        self._see(symbols_of(t))
        return substitute(t, self.dims) if self.dims else t

    def type_here(self, t: Type) -> Type:
        """The same, where what defines its symbols may not have run: sizes that the body's data decide."""
        graph = self.joint.graph
        unknown = [name for name in symbols_of(t) - self.dims.keys() if name in graph.symbols]
        data = [graph.symbols[name].source for name in unknown if graph.symbols[name].kind == "data"]
        known = set(self.env) | set(graph.inputs)
        self.run(nodes_for(self.joint, self.joint.forward, data, known))
        return self.type(t)

    def _see(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._around and name not in self.dims:
                self.dims[name] = dim_of(self._around[name])

    def run_again(self, nodes: Iterable[Node]) -> None:
        """Nodes of the forward part whose effects have been: they are left out, in regions too."""
        self.run((n for n in nodes if not n.op.ordered), again=True)

    def run(self, nodes: Iterable[Node], *, again: bool = False) -> None:
        for node in nodes:
            if node.types and all(v in self.env for v in node.outputs):
                continue
            if self._around:
                self._see(node.mentioned_symbols())
            if self._run_on_zeros(node):
                continue
            written = self._lasting.written.get(Value(node, 0)) if len(node.types) == 1 else None
            if written is not None:
                self.know(Value(node, 0), self._written(*written))
                continue
            operands = [self._operand(node, k, a) for k, a in enumerate(node.args)]
            params = node.params
            renamed = any(d != symbol(name) for name, d in self.dims.items())
            if renamed:
                params = {k: substitute(v, self.dims) for k, v in params.items()}
            if node in self.first:
                params = {**params, "combine": "set"}
            if node.regions:
                regions = tuple(map(silenced, node.regions)) if again else node.regions
                if node in self.inside and regions == node.regions:
                    out = self._loop_inside(node, operands)
                else:
                    out = replay_control(node.op, regions, operands, params, renamed)
            else:
                out = bind(node.op, *operands, **params)
            outs = out if node.op.multiple_results else (out,)
            for v, o in zip(node.outputs, outs, strict=True):
                if v not in self.env:
                    self.know(v, o)

    def _operand(self, node: Node, k: int, a: Value) -> Raw:
        from stager.ops.views import slice_

        found = self._lasting.reads.get((node, k))
        if (node, k) in self.idle:
            return zeros_of(self.type(a.type))
        if found is None:
            return self.value(a)
        carry, path = found
        raw = self.ends[carry]
        for view in path:
            raw = slice_(raw, **self._params(view))
        return raw

    def _params(self, node: Node) -> dict[str, Any]:
        self._see(node.mentioned_symbols())
        return {name: substitute(v, self.dims) for name, v in node.params.items()}

    def _written(self, update: Node, carry: int) -> Raw:
        """What an update wrote, read where it still stands. Its place may be computed after what it wrote."""
        from stager.ops.indexed import gather
        from stager.ops.views import slice_

        known = set(self.env) | set(self.joint.graph.inputs)
        self.run(nodes_for(self.joint, self.joint.forward, update.args[2:], known))
        where = self._params(update)
        where.pop("combine", None)
        if update.op.name == "slice_update":
            return slice_(self.ends[carry], **where)
        return gather(self.ends[carry], *[self.value(i) for i in update.args[2:]], **where)

    def _loop_inside(self, loop: Node, operands: Sequence[Raw]) -> Raw:
        """A `for` of the body, with what it writes for good read where it still stands."""
        from stager.ops.control import for_loop
        from stager.ops.indexed import gather

        (body,), n, written = loop.regions, loop.params["n_carry"], self.inside[loop]

        def turn(i: Raw, *carries: Raw) -> list[Raw]:
            args = [i, *carries, *operands[2 + n :]]

            def instead(node: Node, out: Raw) -> Raw:
                found = written.get(Value(node, 0))
                if found is None:
                    return out
                update, carry = found
                where = {k: v for k, v in update.params.items() if k != "combine"}
                return gather(self.ends[carry], *[args[i.node.params["index"]] for i in update.args[2:]], **where)

            return replay(body, args, instead)

        return for_loop(operands[0], operands[1], operands[2 : 2 + n], turn, step=loop.params["step"])

    def _run_on_zeros(self, node: Node) -> bool:
        """A backward node all of whose cotangents are zero gives zero; a sum with zero is the other term."""
        zeros = [self.is_zero(a) for a in node.args]
        if not any(zeros):
            return False
        cotangents = [zero for a, zero in zip(node.args, zeros, strict=True) if a.node in self.joint.depends]
        if all(cotangents):
            for k in range(len(node.types)):
                self.know(Value(node, k), None)
            return True
        if node.op.name == "add":
            self.know(Value(node, 0), self.value(node.args[zeros.index(False)]))
            return True
        return False


def captured_symbols(joint: Joint) -> dict[str, Raw]:
    """Symbols that the joint region defines for captures in which lanes differ: there are none around."""
    around = {v.node.params["index"]: joint.captured[k] for k, v in joint.interp.inputs.items()}
    found = {}
    for name, d in joint.graph.symbols.items():
        if d.kind == "value" and d.source in around and not isinstance(around[d.source], str):
            found[name] = around[d.source]
    return found


def _defining(graph: Graph, names: Iterable[str]) -> list[Value]:
    """The values that give local symbols their value."""
    found = []
    for name in names:
        d = graph.symbols[name]
        found.append(d.source if d.kind == "data" else graph.inputs[d.source])
    return found


def operands_of(graph: Graph, node: Node) -> list[Value]:
    """Operands, and the values behind the symbols a node mentions."""
    mentioned = node.mentioned_symbols()
    return [*node.args, *_defining(graph, mentioned)] if mentioned else list(node.args)


def operands_back(joint: Joint, node: Node, idle: Collection[int] = ()) -> list[Value]:
    """The same on the way back, where what lasts is read of the loop's results; without idle operands."""
    graph, last = joint.graph, joint.lasting
    written = last.written.get(Value(node, 0)) if len(node.types) == 1 else None
    if written is not None:
        update = written[0]
        return [*update.args[2:], *_defining(graph, update.mentioned_symbols() & graph.symbols.keys())]
    if not last.reads and not idle:
        return operands_of(graph, node)
    read = [a for k, a in enumerate(node.args) if (node, k) not in last.reads and k not in idle]
    views = [view for k in range(len(node.args)) if (node, k) in last.reads for view in last.reads[node, k][1]]
    return [*read, *_defining(graph, {name for n in (node, *views) for name in n.mentioned_symbols()})]


def nodes_for(
    joint: Joint, nodes: Sequence[Node], wanted: Iterable[Value], known: set[Value], *, back: bool = True
) -> list[Node]:
    """Those of `nodes` that must run for `wanted`, given the known values, in order."""
    graph = joint.graph
    live: set[Node] = set()
    todo = [v for v in wanted if v not in known]
    while todo:
        v = todo.pop()
        if v.node not in live:
            live.add(v.node)
            operands = operands_back(joint, v.node) if back else operands_of(graph, v.node)
            todo += [a for a in operands if a not in known]
    return [n for n in nodes if n in live]


def forward_nodes(joint: Joint, wanted: Sequence[Value]) -> list[Node]:
    """What the forward pass runs: what its results take, and every effect."""
    graph = joint.graph
    effects = [n for n in joint.forward if n.ordered]
    todo = [*wanted, *[a for n in effects for a in operands_of(graph, n)]]
    needed = set(nodes_for(joint, joint.forward, todo, set(graph.inputs), back=False)) | set(effects)
    return [n for n in joint.forward if n in needed]


def run_back(joint: Joint, part: Part, wanted: Sequence[Value]) -> None:
    """Run the backward part for the wanted cotangents, and of the forward part what it reads and is not known."""
    inputs = set(joint.graph.inputs)
    nodes = nodes_for(joint, [*joint.forward, *joint.backward], wanted, set(part.env) | inputs)
    part.run_again(nodes)
