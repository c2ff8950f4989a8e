"""A graph as a function in StableHLO: inputs and outputs, positions that follow a loop's index, control nodes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from stager.ir.core_ops import input_op
from stager.ir.dims import Apply, Dim, Expr, Sym
from stager.ir.dtypes import DType, b1, i32, i64
from stager.ir.graph import Graph, Node
from stager.ir.mlir.writer import Scalar, Tensor, Writer
from stager.ir.stablehlo.arrays import ARRAYS, call, elementwise, reshaped, splat
from stager.ir.stablehlo.elements import Elements, Uncovered, tensor
from stager.ir.types import Type


class StableHLOError(TypeError):
    """A graph that has no StableHLO form."""


def to_stablehlo(graph: Graph, name: str = "main") -> str:
    """The graph as a StableHLO module with one public function.

    Covered are elementwise ops (but error and gamma functions, hyperbolic ones other than tanh, and what works on the
    bits of neighbouring floats), views and updates, reductions, prefix sums, products of floats, gathers and scatters,
    sorts, loops and branches, on arrays whose sizes are numbers. StableHLO has no errors: a check is left out, an index
    out of bounds means the nearest element. StableHLOError names the op and the user's line for anything else.
    """
    emitter = FunctionEmitter()
    emitter.function(graph, name)
    return "\n".join(["module {", *emitter.w.lines, "}"]) + "\n"


class FunctionEmitter:
    """Writes one function; array ops reach its writer `w`."""

    def __init__(self) -> None:
        self.w = Writer({})
        self.symbols: list[dict[str, Tensor]] = [{}]

    def function(self, graph: Graph, name: str) -> None:
        try:
            inputs = [tensor(t) for t in graph.input_types]
        except Uncovered as e:
            raise StableHLOError(f"{e} of an argument has no form in StableHLO; give a number") from None
        args = [Tensor(f"%x{k}", t) for k, t in enumerate(graph.input_types)]
        outputs = self.region(graph, args)
        types = [tensor(x.type) for x in outputs]
        self.w.yields("func.return", [x.name for x in outputs], types)
        taken = ", ".join(f"{x.name}: {t}" for x, t in zip(args, inputs, strict=True))
        self.w.lines.insert(0, f"  func.func public @{name}({taken}) -> ({', '.join(types)}) {{")
        self.w.lines.append("  }")

    def region(self, graph: Graph, args: Sequence[Tensor]) -> list[Tensor]:
        """Write the nodes of a graph; what its outputs are."""
        env: dict[tuple[Node, int], Tensor] = {}
        scope: dict[str, Tensor] = {}
        self.symbols.append(scope)
        for name, d in graph.symbols.items():
            if d.kind == "value":
                x = args[d.source]
                made = Elements(self.w, ()).convert(Scalar(x.name, x.type.dtype), i64)
                scope[name] = Tensor(made.name, Type(i64, ()))
        for v, x in zip(graph.inputs, args, strict=True):
            env[v.node, 0] = x
        data = {d.source: name for name, d in graph.symbols.items() if d.kind == "data"}
        for node in graph.nodes:
            if node.op is input_op:
                continue
            for k, x in enumerate(self.node(node, [env[a.node, a.index] for a in node.args])):
                env[node, k] = x
            for v in node.outputs if data else ():
                if v in data:
                    scope[data[v]] = env[node, v.index]
        self.symbols.pop()
        return [env[v.node, v.index] for v in graph.outputs]

    def node(self, node: Node, args: list[Tensor]) -> list[Tensor]:
        name = node.op.name
        try:
            if name in CONTROL:
                return CONTROL[name](self, node, args)
            if name in ARRAYS:
                return ARRAYS[name](self, node, args)
            if name == "check":
                return []
            if name == "commit":
                return args
            if node.op.family == "elementwise":
                return elementwise(self, node, args)
            raise Uncovered(name)
        except Uncovered as e:
            lines = [f"the op {name} has no form in StableHLO" + ("" if str(e) == name else f": {e} has none")]
            if node.loc is not None:
                lines.append(f"  at {node.loc}")
            raise StableHLOError("\n".join(lines)) from None

    def dim(self, d: Dim) -> Tensor:
        """The i64 scalar that a dim is."""
        t, b = Type(i64, ()), Elements(self.w, ())
        if not isinstance(d, Expr):
            return splat(self, d, t)
        total: Scalar | None = None
        for monomial, coefficient in d.terms:
            factors = [self._atom(atom) for atom, power in monomial for _ in range(power)]
            if coefficient != 1 or not factors:
                factors.insert(0, b.const(i64, coefficient))
            product = functools.reduce(b.mul, factors)
            total = product if total is None else b.add(total, product)
        assert total is not None
        return Tensor(total.name, t)

    def _atom(self, atom: Sym | Apply) -> Scalar:
        if isinstance(atom, Sym):
            for scope in reversed(self.symbols):
                if atom.name in scope:
                    return Scalar(scope[atom.name].name, i64)
            raise Uncovered(f"the size {atom.name}, which only the run knows,")
        b = Elements(self.w, ())
        x, y = (Scalar(self.dim(d).name, i64) for d in (atom.a, atom.b))
        methods: dict[str, Callable[[Scalar, Scalar], Scalar]] = {
            "floordiv": b.floordiv, "mod": b.mod, "max": b.maximum, "min": b.minimum,
        }  # fmt: skip
        return methods[atom.fn](x, y)

    # -- loops -----------------------------------------------------------------------------------------------------

    def while_loop(
        self,
        carries: Sequence[Tensor],
        cond: Callable[[list[Tensor]], Tensor],
        body: Callable[[list[Tensor]], Sequence[Tensor]],
    ) -> list[Tensor]:
        w = self.w
        inner = [Tensor(w.fresh("c"), x.type) for x in carries]
        init = ", ".join(f"{c.name} = {x.name}" for c, x in zip(inner, carries, strict=True))
        types = [tensor(x.type) for x in carries]
        names = w.ops(f"stablehlo.while({init}) : {', '.join(types)}", len(carries))
        w.put("cond {")
        with w.block():
            w.yields("stablehlo.return", [cond(inner).name], [tensor(Type(b1, ()))])
        w.put("} do {")
        with w.block():
            w.yields("stablehlo.return", [x.name for x in body(inner)], types)
        w.put("}")
        return [Tensor(name, x.type) for name, x in zip(names, carries, strict=True)]


def _scalar(f: FunctionEmitter, x: Tensor, dtype: DType = i64) -> Scalar:
    return Elements(f.w, ()).convert(Scalar(x.name, x.type.dtype), dtype)


def for_(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    (region,), n, step = node.regions, node.params["n_carry"], node.params["step"]
    lower, upper = (_scalar(f, x) for x in args[:2])
    carries, captures = args[2 : 2 + n], args[2 + n :]
    b, t = Elements(f.w, ()), Type(i64, ())

    def going(c: list[Tensor]) -> Tensor:
        i = Scalar(c[0].name, i64)
        return Tensor((b.lt(i, upper) if step > 0 else b.gt(i, upper)).name, Type(b1, ()))

    def body(c: list[Tensor]) -> list[Tensor]:
        outputs = f.region(region, [*c, *captures])
        after = b.add(Scalar(c[0].name, i64), b.const(i64, step))
        return [Tensor(after.name, t), *outputs]

    return f.while_loop([Tensor(lower.name, t), *carries], going, body)[1:]


def while_(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    (cond, body), n = node.regions, node.params["n_carry"]
    captures = args[n:]
    return f.while_loop(
        args[:n],
        lambda c: f.region(cond, [*c, *captures])[0],
        lambda c: f.region(body, [*c, *captures]),
    )


def switch(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    w, b = f.w, Elements(f.w, ())
    last = b.const(i64, len(node.regions) - 1)
    index = b.convert(b.maximum(b.const(i64, 0), b.minimum(_scalar(f, args[0]), last)), i32)
    types = [tensor(t) for t in node.types]
    if not types:
        return []
    names = w.ops(f'"stablehlo.case"({index.name}) ({{', len(types))
    for k, region in enumerate(node.regions):
        if k:
            w.put("}, {")
        with w.block():
            w.yields("stablehlo.return", [x.name for x in f.region(region, args[1:])], types)
    w.put(f"}}) : ({b.type(i32)}) -> ({', '.join(types)})")
    return [Tensor(name, t) for name, t in zip(names, node.types, strict=True)]


def map_(f: FunctionEmitter, node: Node, args: list[Tensor]) -> list[Tensor]:
    """One lane after the other; each writes its part of the results."""
    (region,), b, t = node.regions, Elements(f.w, ()), Type(i64, ())
    size = Scalar(f.dim(node.params["size"]).name, i64)

    def body(c: list[Tensor]) -> list[Tensor]:
        written = []
        for out, value in zip(c[1:], f.region(region, [c[0], *args]), strict=True):
            lane = reshaped(f, value, (1, *value.type.shape))
            starts = [c[0], *[f.dim(0)] * value.type.ndim]
            written.append(call(f, "dynamic_update_slice", [out, lane, *starts], out.type))
        return [Tensor(b.add(Scalar(c[0].name, i64), b.const(i64, 1)).name, t), *written]

    def going(c: list[Tensor]) -> Tensor:
        return Tensor(b.lt(Scalar(c[0].name, i64), size).name, Type(b1, ()))

    start = [splat(f, 0, out) for out in node.types]
    if any(0 in out.shape for out in node.types):
        return start
    return f.while_loop([splat(f, 0, t), *start], going, body)[1:]


CONTROL: dict[str, Callable[[Any, Node, list[Tensor]], list[Tensor]]] = {
    "for": for_, "while": while_, "switch": switch, "map": map_,
}  # fmt: skip
