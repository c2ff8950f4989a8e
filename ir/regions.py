"""Regions of control nodes: which input stands for which operand, and how a region gets other inputs and outputs.

for      operands lower, upper, *carries, *captures    inputs index, *carries, *captures
while    operands *carries, *captures                  inputs *carries, *captures (both regions)
collect  as while; what the body returns behind the carries is a row, the results behind the number of turns are tapes
switch   operands index, *captures                     inputs *captures (every branch)
map      operands *captures                            inputs lane, *captures
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from stager.ir.core_ops import dim_op, fill_op, input_op
from stager.ir.dims import Dim, substitute, symbol
from stager.ir.graph import Graph, Node, SymbolDef, Value
from stager.ir.op import Op
from stager.ir.types import Type

_FIRST_OPERAND = {"for": 2, "while": 0, "collect": 0, "switch": 1, "map": 0}
_OWN_INPUTS = {"for": 1, "while": 0, "collect": 0, "switch": 0, "map": 1}


def first_operand(node: Node) -> int:
    """The position of the first operand that is an input of the regions."""
    return _FIRST_OPERAND[node.op.name]


def own_inputs(node: Node) -> int:
    """How many inputs of the regions are no operands: the index of a loop, the lane of a map."""
    return _OWN_INPUTS[node.op.name]


def first_capture(node: Node) -> int:
    """The first region input that has one value in all iterations, lanes and branches."""
    return own_inputs(node) + int(node.params.get("n_carry", 0))


def operand_of(node: Node, region_input: int) -> Value:
    """The operand that a region input (not an own one) starts with."""
    return node.args[first_operand(node) + region_input - own_inputs(node)]


class _Seen(NamedTuple):
    """What a type rule asks of a region."""

    name: str
    input_types: tuple[Type, ...]
    output_types: tuple[Type, ...]


def control_types(
    op: Op,
    args: Sequence[Value],
    params: Mapping[str, Any],
    regions: Sequence[Graph],
    symbols: Mapping[str, SymbolDef],
) -> tuple[Type, ...]:
    """The result types of a control op in the `symbols` of the graph around.

    A region may call a dim that it captures by another name than the graph that it came into.
    """
    seen: list[Any] = list(regions)
    if not all(t.is_static for r in regions for t in r.output_types):
        first, own = _FIRST_OPERAND[op.name], _OWN_INPUTS[op.name]
        for k, region in enumerate(regions):
            env: dict[str, Dim] = {}
            for name, d in region.symbols.items():
                if d.kind in ("value", "shape") and d.source >= own:
                    v = args[first + d.source - own]
                    known = _dim_of(v, name, symbols) if d.kind == "value" else v.type.shape[d.axis]
                    if known is not None and known != symbol(name):
                        env[name] = known
            if env:
                ins, outs = [[substitute(t, env) for t in ts] for ts in (region.input_types, region.output_types)]
                seen[k] = _Seen(region.name, tuple(ins), tuple(outs))
    return tuple(op.type_rule(*[a.type for a in args], regions=tuple(seen), **params))


def _dim_of(v: Value, name: str, symbols: Mapping[str, SymbolDef]) -> Dim | None:
    """The dim that an integer is: by this name, where it has it."""
    if v.node.op is dim_op or v.node.op is fill_op:
        d: Dim = v.node.params["dim" if v.node.op is dim_op else "value"]
        return d
    kind, source = ("value", v.node.params["index"]) if v.node.op is input_op else ("data", v)
    names = [n for n, d in symbols.items() if d.kind == kind and d.source == source]
    return symbol(name if name in names else names[0]) if names else None


def edit_region(
    region: Graph,
    inputs: Iterable[int | Type],
    outputs: Sequence[Value],
    stands: Mapping[Value, int] | None = None,
    *,
    unneeded: bool = False,
) -> Graph:
    """The region with other inputs and outputs.

    An int among `inputs` takes over that input of the region, a type is a new input. `stands` says which new input
    stands for which value of the region. Nodes that the outputs and effects need no more are gone. `unneeded` says that
    the values of dropped inputs matter to nothing: where a nested control node still takes one, zeros stand for it.
    """
    new = Graph(region.name)
    placed: dict[tuple[Node, int], Value] = {}
    position: dict[int, int] = {}
    for k, source in enumerate(inputs):
        t = source if isinstance(source, Type) else region.inputs[source].type
        value = Value(new.add(Node(input_op, (), {"index": k}, (t,))))
        new.inputs.append(value)
        if not isinstance(source, Type):
            position[source] = k
            placed[region.inputs[source].node, 0] = value
    for old, k in (stands or {}).items():
        placed[old.node, old.index] = new.inputs[k]
        if old.node.op is input_op:
            position[old.node.params["index"]] = k

    live = _live(region, outputs, placed)
    mentioned = {name for node in [*live, *(v.node for v in new.inputs)] for name in node.mentioned_symbols()}
    data: dict[Node, list[tuple[str, SymbolDef]]] = {}
    for name, d in region.symbols.items():
        if d.kind != "data":
            if d.source in position:
                new.symbols[name] = SymbolDef(d.kind, position[d.source], d.axis, d.hint)
            elif name in mentioned:
                raise AssertionError(f"internal error: a dropped input of {region.name} defines the symbol {name}")
        elif (d.source.node, d.source.index) in placed:
            index = placed[d.source.node, d.source.index].node.params["index"]
            new.symbols[name] = SymbolDef("value", index, 0, d.hint)
        elif d.source.node in live:
            data.setdefault(d.source.node, []).append((name, d))
    for node in region.nodes:
        if node not in live or node.op is input_op:
            continue
        for a in node.args:
            if unneeded and a.node.op is input_op and (a.node, 0) not in placed:
                params = {"value": 0, "shape": a.type.shape, "dtype": a.type.dtype}
                placed[a.node, 0] = Value(new.add(Node(fill_op, (), params, (a.type,))))
        args = tuple([placed[a.node, a.index] for a in node.args])
        if any(a is not b for a, b in zip(args, node.args, strict=True)) or not args:
            copy = Node(node.op, args, node.params, node.types, node.regions, node.loc, node.path)
        else:
            copy = node
        new.add(copy)
        for k, value in enumerate(copy.outputs):
            placed.setdefault((node, k), value)
        for name, d in data.get(node, ()):
            new.symbols[name] = SymbolDef("data", copy.outputs[d.source.index], 0, d.hint)
    new.outputs = [placed[v.node, v.index] for v in outputs]
    return new


def _live(region: Graph, outputs: Sequence[Value], placed: Mapping[tuple[Node, int], Value]) -> set[Node]:
    """The nodes that must be computed in the region when `placed` values come from outside."""
    data = {name: d.source for name, d in region.symbols.items() if d.kind == "data"}
    live = {v.node for v in outputs if (v.node, v.index) not in placed}
    for node in reversed(list(region.nodes)):
        if node not in live and not node.ordered:
            continue
        live.add(node)
        needed = list(node.args)
        if data:
            needed += [data[name] for name in node.mentioned_symbols() if name in data]
        live.update(a.node for a in needed if (a.node, a.index) not in placed)
    return live
