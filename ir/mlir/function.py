"""A graph as a function in MLIR: inputs and outputs, symbols, control nodes, effects.

    func.func @main(%x0: tensor<3x?xf64>, …) -> (tensor<3x?xf64>, …)

Every value is a tensor, scalars have rank 0. A function that can raise returns one result more, a tensor<5xi64>: 0, or
the number of the error (listed in comments above the function) and up to four numbers for its text. Regions are
written in place, `for` with a step other than 1 as a loop over its trips. `print` and `callback` call functions that
are declared only.

`runnable` gives the form that `codegen/mlir/` lowers: errors leave by a call of `stop(number, four numbers)`, so that
nothing runs behind a failed check, turns of loops call `poll()`, and the arguments are marked as not to be written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from stager.ir.abi import STATUS_NO_MEMORY
from stager.ir.core_ops import input_op
from stager.ir.dtypes import DType, b1, f64, i64
from stager.ir.graph import Graph, Node, SymbolDef, Value
from stager.ir.mlir.arrays import ARRAYS, elementwise
from stager.ir.mlir.places import PLACES
from stager.ir.mlir.reductions import REDUCTIONS
from stager.ir.mlir.scalars import Scalars
from stager.ir.mlir.writer import Scalar, Tensor, Writer, tensor
from stager.ir.types import Type

STATUS = Type(i64, (5,))
MOST_BYTES = 2**46
_OF_ARRAYS = {**ARRAYS, **REDUCTIONS, **PLACES}


class Module(NamedTuple):
    """The text of an MLIR module, and its errors by number from 1: (exception, text)."""

    text: str
    errors: list[tuple[str, str]]


def to_mlir(graph: Graph, name: str | None = None) -> str:
    """The graph as an MLIR module with one public function, named like the graph unless `name` is given."""
    return _module(graph, name or re.sub(r"\W", "_", graph.name), None).text


def runnable(graph: Graph, name: str, stop: str, poll: str) -> Module:
    """The module that `codegen/mlir/` lowers. NotImplementedError for print and callback, which have no code there."""
    effect = _host_effect(graph)
    if effect is not None:
        raise NotImplementedError(f"the op {effect} calls Python, which lowered MLIR cannot")
    return _module(graph, name, stop, poll)


def _module(graph: Graph, name: str, stop: str | None, poll: str | None = None) -> Module:
    externals: dict[str, str] = {}
    emitter = FunctionEmitter(externals, stop, poll)
    emitter.function(graph, name)
    declared = [f"  {text}" for text in externals.values()]
    return Module("\n".join(["module {", *emitter.w.lines, *declared, "}"]) + "\n", emitter.errors)


def _host_effect(graph: Graph) -> str | None:
    for node in graph.nodes:
        if EFFECTS.get(node.op.name) is host_call:
            return node.op.name
        for region in node.regions:
            found = _host_effect(region)
            if found is not None:
                return found
    return None


def can_raise(graph: Graph) -> bool:
    """True when some node may end the run with an error."""
    return any(
        node.op.name == "check" or node.params.get("mode") == "check" or any(map(can_raise, node.regions))
        for node in graph.nodes
    )


class FunctionEmitter:
    """Writes one function; array ops reach its writer `w` and its scalar builder `b`."""

    b1: DType = b1

    def __init__(self, externals: dict[str, str], stop: str | None = None, poll: str | None = None) -> None:
        self.w = Writer(externals)
        self.b = Scalars(self.w)
        self.stop = stop  # the function that an error calls, in place of a status
        self.poll = poll  # the function that turns of loops call
        if stop is not None:
            self.w.before_empty = self._refuse_huge
        self.errors: list[tuple[str, str]] = []
        self.status: Tensor | None = None  # where the number of an error goes, while something can raise

    def function(self, graph: Graph, name: str) -> None:
        w = self.w
        args = [Tensor(f"%x{k}", t) for k, t in enumerate(graph.input_types)]
        raises = self.stop is None and can_raise(graph)
        if raises:
            self.status = w.filled(self.b.const(i64, 0), STATUS)
        outputs = self.region(graph, args)
        outputs = [w.cast(x, t) for x, t in zip(outputs, graph.output_types, strict=True)]
        if raises:
            assert self.status is not None
            outputs.append(self.status)
        types = [tensor(x.type) for x in outputs]
        w.yields("func.return", [x.name for x in outputs], types)
        kept = "" if self.stop is None else " {bufferization.writable = false}"
        inputs = ", ".join(f"{x.name}: {tensor(x.type)}{kept}" for x in args)
        head = [f"  // error {k}: {exception}: {text}" for k, (exception, text) in enumerate(self.errors, 1)]
        head.append(f"  func.func @{name}({inputs}) -> ({', '.join(types)}) {{")
        w.lines[:0] = head
        w.lines.append("  }")

    # -- regions ---------------------------------------------------------------------------------------------------

    def region(self, graph: Graph, args: Sequence[Tensor]) -> list[Tensor]:
        """Write the nodes of a graph; what its outputs are."""
        w = self.w
        env: dict[tuple[Node, int], Tensor] = {}
        data: dict[Node, list[tuple[str, SymbolDef]]] = {}
        for v, x in zip(graph.inputs, args, strict=True):
            env[v.node, 0] = w.cast(x, v.type)
        for name, d in graph.symbols.items():
            if d.kind == "data":
                data.setdefault(d.source.node, []).append((name, d))
            elif d.kind == "value":
                w.define_symbol(name, w.to_index(w.extract(args[d.source])))
            elif d.kind == "shape":
                x = args[d.source]
                w.define_symbol(name, w.op(f"tensor.dim {x.name}, {w.index(d.axis)} : {tensor(x.type)}"))
        for node in graph.nodes:
            if node.op is input_op:
                continue
            operands = [self._operand(env, a) for a in node.args]
            for k, x in enumerate(self.node(node, operands)):
                env[node, k] = w.cast(x, node.types[k])
            for name, d in data.get(node, ()):
                w.define_symbol(name, w.to_index(w.extract(env[node, d.source.index])))
        return [env[v.node, v.index] for v in graph.outputs]

    def _operand(self, env: dict[tuple[Node, int], Tensor], v: Value) -> Tensor:
        return env[v.node, v.index]

    def node(self, node: Node, args: list[Tensor]) -> list[Tensor]:
        name = node.op.name
        if name in CONTROL:
            return CONTROL[name](self, node, args)
        if name in EFFECTS:
            return EFFECTS[name](self, node, args)
        if name in _OF_ARRAYS:
            return _OF_ARRAYS[name](self, node, args)
        if node.op.family == "elementwise":
            return elementwise(self, node, args)
        raise NotImplementedError(f"the op {name} has no form in MLIR")

    def nested(self, region: Graph, args: Sequence[Tensor], types: Sequence[Type]) -> list[str]:
        """A region inside the current block; the names of its outputs as these types, then of the status."""
        with self.w.isolated():
            outputs = [self.w.cast(x, t).name for x, t in zip(self.region(region, args), types, strict=True)]
        return outputs if self.status is None else [*outputs, self.status.name]

    def turn(self) -> None:
        """At the start of each turn of a loop."""
        if self.poll is not None:
            self.w.call(self.poll, [], [])

    # -- errors ----------------------------------------------------------------------------------------------------

    def check(self, ok: Scalar, details: Sequence[Scalar], exception: str, text: str) -> None:
        """Leave with this error unless ok; or remember it, unless there is one already."""
        w, b = self.w, self.b
        if (exception, text) not in self.errors:
            self.errors.append((exception, text))
        number = b.const(i64, self.errors.index((exception, text)) + 1)
        filled = [number, *[b.convert(d, i64) for d in details], *[b.const(i64, 0)] * (4 - len(details))]
        if self.stop is not None:
            self._stop_unless(ok, filled)
            return
        assert self.status is not None
        values = ", ".join(s.name for s in filled)
        failed = w.op(f"tensor.from_elements {values} : {tensor(STATUS)}")
        none_yet = b.eq(w.extract(self.status, [w.index(0)]), b.const(i64, 0))
        take = b.and_(none_yet, b.not_(ok))
        chosen = w.op(f"arith.select {take.name}, {failed}, {self.status.name} : {tensor(STATUS)}")
        self.status = Tensor(chosen, STATUS)

    def _stop_unless(self, ok: Scalar, numbers: Sequence[Scalar]) -> None:
        w, stop = self.w, self.stop
        assert stop is not None
        w.when(self.b.not_(ok).name, lambda: w.call(stop, [(s.name, "i64") for s in numbers], []))

    def _refuse_huge(self, t: Type) -> None:
        """Stop with STATUS_NO_MEMORY where the bytes of an array are too many to count in an i64."""
        if isinstance(t.nbytes, int) and t.nbytes <= MOST_BYTES:
            return
        w, b = self.w, self.b
        total = b.const(f64, float(t.dtype.itemsize))
        for d in t.shape:
            total = b.mul(total, b.convert(w.from_index(w.dim(d), i64), f64))
        zero = b.const(i64, 0)
        self._stop_unless(
            b.le(total, b.const(f64, float(MOST_BYTES))), [b.const(i64, STATUS_NO_MEMORY), zero, zero, zero, zero]
        )


# -- control -----------------------------------------------------------------------------------------------------------


def _carried(f: FunctionEmitter, values: Sequence[Tensor]) -> list[tuple[str, str]]:
    """Loop carries: the values, then the status."""
    carried = [(x.name, tensor(x.type)) for x in values]
    return carried if f.status is None else [*carried, (f.status.name, tensor(STATUS))]


def _take(f: FunctionEmitter, names: Sequence[str], types: Sequence[Type]) -> list[Tensor]:
    """Tensors of carries or results; the last name is the status."""
    if f.status is not None:
        f.status = Tensor(names[-1], STATUS)
        names = names[:-1]
    return [Tensor(n, t) for n, t in zip(names, types, strict=True)]


def for_(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    (body,), n, step = node.regions, node.params["n_carry"], node.params["step"]
    w = f.w
    lower, upper = (w.to_index(w.extract(x)) for x in args[:2])
    carries, captures = args[2 : 2 + n], args[2 + n :]
    types = [x.type for x in carries]
    distance = w.arith("subi", upper, lower) if step > 0 else w.arith("subi", lower, upper)
    trips = w.arith("ceildivsi", distance, w.index(abs(step)))

    def iteration(k: str, names: list[str]) -> list[str]:
        f.turn()
        values = _take(f, names, types)
        index = w.arith("addi", lower, w.arith("muli", k, w.index(step)))
        i = w.of_scalar(w.from_index(index, i64))
        return f.nested(body, [i, *values, *captures], types)

    return _take(f, w.for_loop(w.index(0), trips, _carried(f, carries), iteration), types)


def while_(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    (cond, body), n = node.regions, node.params["n_carry"]
    w = f.w
    carries, captures = args[:n], args[n:]
    types = [x.type for x in carries]

    def going(names: list[str]) -> tuple[str, list[str]]:
        values = _take(f, names, types)
        with w.isolated():
            (answer,) = f.region(cond, [*values, *captures])
        on = w.extract(answer)
        if f.status is not None:  # what a failed check guards may never become false
            on = f.b.and_(on, f.b.eq(w.extract(f.status, [w.index(0)]), f.b.const(i64, 0)))
        return on.name, [name for name, _ in _carried(f, values)]

    def iteration(names: list[str]) -> list[str]:
        f.turn()
        return f.nested(body, [*_take(f, names, types), *captures], types)

    return _take(f, w.while_loop(_carried(f, carries), going, iteration), types)


def collect(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    """A `while` that counts, then a `for` that writes the rows: a tensor keeps its size in all turns of a loop."""
    (cond, body), n = node.regions, node.params["n_carry"]
    w, b, before = f.w, f.b, f.status
    carries, captures = args[:n], args[n:]
    types = [x.type for x in carries]
    counter = Type(i64, ())

    def going(names: list[str]) -> tuple[str, list[str]]:
        values = _take(f, names, [counter, *types])
        with w.isolated():
            (answer,) = f.region(cond, [*values[1:], *captures])
        on = w.extract(answer)
        if f.status is not None:
            on = b.and_(on, b.eq(w.extract(f.status, [w.index(0)]), b.const(i64, 0)))
        return on.name, [name for name, _ in _carried(f, values)]

    def counting(names: list[str]) -> list[str]:
        f.turn()
        values = _take(f, names, [counter, *types])
        after = w.of_scalar(b.add(w.extract(values[0]), b.const(i64, 1)))
        outs = f.nested(body, [*values[1:], *captures], [*types, *[v.type for v in body.outputs[n:]]])
        return [after.name, *outs[:n], *outs[len(body.outputs) :]]

    start = [w.of_scalar(b.const(i64, 0)), *carries]
    count = _take(f, w.while_loop(_carried(f, start), going, counting), [counter, *types])[0]
    f.status = before  # the turns run again
    turns = w.to_index(w.extract(count))
    w.define_symbol(str(node.params["size"]), turns)
    tapes = [w.empty(t) for t in node.types[n + 1 :]]

    def writing(k: str, names: list[str]) -> list[str]:
        f.turn()
        values = _take(f, names, [*types, *[x.type for x in tapes]])
        outs = f.nested(body, [*values[:n], *captures], body.output_types)
        rows = [Tensor(name, v.type) for name, v in zip(outs[n:], body.outputs[n:], strict=False)]
        filled = [_with_part(f, tape, row, k) for tape, row in zip(values[n:], rows, strict=True)]
        return [*outs[:n], *filled, *outs[len(body.outputs) :]]

    names = w.for_loop(w.index(0), turns, _carried(f, [*carries, *tapes]), writing)
    outs = _take(f, names, [*types, *[x.type for x in tapes]])
    return [*outs[:n], count, *outs[n:]]


def _with_part(f: FunctionEmitter, whole: Tensor, part: Tensor, k: str) -> str:
    """The name of `whole` with `part` at place k of its first axis."""
    w, shape = f.w, part.type.shape
    if not shape:
        return w.insert(whole, w.extract(part), [k]).name
    return w.insert_slice(whole, part, [k, *[0] * len(shape)], (1, *shape), [1] * (1 + len(shape))).name


def switch(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    w, b = f.w, f.b
    last = b.const(i64, len(node.regions) - 1)
    index = w.to_index(b.maximum(b.const(i64, 0), b.minimum(w.extract(args[0]), last)))
    types = list(node.types)
    listed = [tensor(t) for t in types] + ([] if f.status is None else [tensor(STATUS)])
    results = w.ops(
        f"scf.index_switch {index} -> {', '.join(listed)}" if listed else f"scf.index_switch {index}", len(listed)
    )
    before = f.status
    for k, region in enumerate(node.regions):
        f.status = before
        w.put(f"case {k} {{" if k < len(node.regions) - 1 else "default {")
        with w.block():
            w.yields("scf.yield", f.nested(region, args[1:], types), listed)
        w.put("}")
    f.status = before
    return _take(f, results, types)


def map_(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    """One lane after the other; each writes its part of the results."""
    (body,), w = node.regions, f.w
    types = list(node.types)
    start = [w.empty(t) for t in types]
    lane_types = [Type(t.dtype, t.shape[1:]) for t in types]

    def lane(i: str, names: list[str]) -> list[str]:
        f.turn()
        outs = _take(f, names, types)
        index = w.of_scalar(w.from_index(i, i64))
        made = f.nested(body, [index, *args], lane_types)
        parts = [Tensor(name, t) for name, t in zip(made[: len(types)], lane_types, strict=True)]
        written = [_with_part(f, out, part, i) for out, part in zip(outs, parts, strict=True)]
        return [*written, *made[len(types) :]]

    return _take(f, w.for_loop(w.index(0), w.dim(node.params["size"]), _carried(f, start), lane), types)


CONTROL = {"for": for_, "while": while_, "collect": collect, "switch": switch, "map": map_}


# -- effects -----------------------------------------------------------------------------------------------------------


def check(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    ok, *details = [f.w.extract(x) for x in args]
    f.check(ok, details, node.params["exception"], node.params["text"])
    return []


def host_call(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    """print and callback: a function that whoever runs the module must provide."""
    name = f"stager_{node.op.name}_{len(f.w.externals)}"
    results = f.w.call(name, [(x.name, tensor(x.type)) for x in args], [tensor(t) for t in node.types])
    return [Tensor(n, t) for n, t in zip(results, node.types, strict=True)]


def commit(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    """The array itself: results are written back when all has gone well."""
    return args


EFFECTS = {"check": check, "commit": commit, "print": host_call, "callback": host_call}
