"""Dead code: nodes, and results of control nodes, that nothing needs.

A node is needed by outputs, effects and data symbols. A result of a loop is needed when it is used behind the loop or
flows, over the iterations, into one that is; what only feeds itself goes, with the operands that only it needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stager.ir.assemble import alive_nodes, assemble
from stager.ir.core_ops import input_op
from stager.ir.graph import Graph, Node, Value
from stager.ir.regions import edit_region, first_operand, own_inputs
from stager.ir.rewrite import Replacement, Rewriter, map_regions, rebuild

Needed = set[tuple[Node, int]]


def dead_code(graph: Graph, fast_math: bool = False) -> Graph:
    """Without the nodes that no output, effect or data symbol needs."""
    order = list(graph.nodes)
    alive = alive_nodes(order, graph.outputs, graph.symbols)
    if len(alive) < len(order):
        graph = assemble(graph, [n for n in order if n in alive], graph.outputs, graph.symbols, alive)
    return map_regions(graph, dead_code, fast_math)


def dead_results(graph: Graph, fast_math: bool = False) -> Graph:
    """Without the results of loops, branches and maps that nothing needs."""
    if not any(n.regions for n in graph.nodes):
        return graph
    needed = needed_values(graph, [(v.node, v.index) for v in graph.outputs])
    trimmed: dict[Node, list[int]] = {}
    for node in graph.nodes:
        if node.regions:
            kept = _kept(node, [k for k in range(len(node.types)) if (node, k) in needed])
            if len(kept) < len(node.types):
                trimmed[node] = kept
    if trimmed:

        def trim(rw: Rewriter, node: Node) -> Replacement:
            kept = trimmed.get(rw.current) if rw.current is not None else None
            return _trimmed(rw, node, kept) if kept is not None else None

        graph = rebuild(graph, trim)
    return map_regions(graph, dead_results, fast_math)


def needed_values(graph: Graph, outputs: Iterable[tuple[Node, int]]) -> Needed:
    """Which results of nodes (inputs too) are needed for these outputs and for the effects."""
    needed = set(outputs)
    live = {node for node, _ in needed}
    data = {name: d.source for name, d in graph.symbols.items() if d.kind == "data"}
    for node in reversed(list(graph.nodes)):
        if node not in live and not node.ordered:
            continue
        if node.regions:
            operands = needed_operands(node, [k for k in range(len(node.types)) if (node, k) in needed])
            args = [node.args[k] for k in operands]
        else:
            args = list(node.args)
        if graph.symbols:
            for name in node.mentioned_symbols():
                if name in data:
                    args.append(data[name])
        for a in args:
            needed.add((a.node, a.index))
            live.add(a.node)
    return needed


def needed_inputs(region: Graph, outputs: Iterable[int]) -> set[int]:
    """Which inputs of a region these outputs and the effects need; inputs that define a mentioned symbol too."""
    needed = needed_values(region, [(region.outputs[k].node, region.outputs[k].index) for k in outputs])
    found = {n.params["index"] for n, _ in needed if n.op is input_op}
    if region.symbols:
        live = {n for n, _ in needed}
        mentioned: set[str] = set()
        for node in region.nodes:
            if node in live or node.ordered or node.op is input_op:
                mentioned |= node.mentioned_symbols()
        found |= {d.source for name, d in region.symbols.items() if name in mentioned and d.kind != "data"}
    return found


def needed_operands(node: Node, results: list[int]) -> set[int]:
    """Which operands of a control node the given results and the effects inside need."""
    name = node.op.name
    first = first_operand(node)
    operands = set(range(first))
    if name in ("switch", "map"):
        own = own_inputs(node)
        for region in node.regions:
            operands |= {first + k - own for k in needed_inputs(region, results) if k >= own}
        return operands
    n, own = node.params["n_carry"], own_inputs(node)
    carries = {k for k in results if k < n}
    rows = {k - 1 for k in results if k > n}
    while True:
        inputs = needed_inputs(node.regions[-1], carries | rows)
        if name != "for":
            inputs |= needed_inputs(node.regions[0], [0])
        grown = carries | {k - own for k in inputs if own <= k < own + n}
        if grown == carries:
            return operands | {first + k for k in carries} | {first + k - own for k in inputs if k >= own + n}
        carries = grown


def _kept(node: Node, used: list[int]) -> list[int]:
    """The results that stay: the used ones, and carries that flow into those."""
    if "n_carry" not in node.params:
        return used
    first, n = first_operand(node), node.params["n_carry"]
    while True:
        operands = needed_operands(node, used)
        kept = [*[k for k in range(n) if first + k in operands], *[k for k in used if k >= n]]
        sizes = _sizes(node, set(kept))
        if not sizes:
            return kept
        used = sorted({*kept, *sizes})


def _sizes(node: Node, kept: set[int]) -> set[int]:
    """Carries that name sizes of what stays only as an operand, which a control node inside needs no more."""
    own, n = own_inputs(node), node.params["n_carry"]
    rows = {k - 1 for k in kept if k > n}
    found: set[int] = set()
    for region in node.regions:
        names = {d.source - own: name for name, d in region.symbols.items() if d.kind != "data" and d.source >= own}
        if any(k < n and k not in kept for k in names):
            outputs = region.outputs if region is not node.regions[-1] else [
                v for k, v in enumerate(region.outputs) if k in kept or k in rows
            ]  # fmt: skip
            mentioned = {
                name for x in alive_nodes(list(region.nodes), outputs, region.symbols) for name in x.mentioned_symbols()
            }
            found |= {k for k, name in names.items() if k < n and k not in kept and name in mentioned}
    return found


def _trimmed(rw: Rewriter, node: Node, kept: list[int]) -> tuple[Value, ...]:
    """The node with only the results that stay; the others become placeholders that nothing uses."""
    args, params, regions = node.args, node.params, node.regions
    if "n_carry" not in params:
        new = [edit_region(r, range(len(r.inputs)), [r.outputs[k] for k in kept]) for r in regions]
    else:
        first, own, n = first_operand(node), own_inputs(node), params["n_carry"]
        dropped = {k for k in range(n) if k not in kept}
        carries, rows = [k for k in kept if k < n], [k - 1 for k in kept if k > n]
        args = tuple([a for k, a in enumerate(args) if k - first not in dropped])
        inputs = [k for k in range(len(regions[-1].inputs)) if k - own not in dropped]
        new = [edit_region(r, inputs, r.outputs, unneeded=True) for r in regions[:-1]]  # the condition of a while
        outputs = [regions[-1].outputs[k] for k in (*carries, *rows)]
        new.append(edit_region(regions[-1], inputs, outputs, unneeded=True))
        params = {**params, "n_carry": len(carries)}
        if node.op.name == "collect":
            return _collected(rw, node, kept, args, tuple(new), params)
    results = iter(rw.emit_all(node.op, *args, regions=tuple(new), **params))
    return tuple([next(results) if k in kept else rw.fill(0, t) for k, t in enumerate(node.types)])


def _collected(
    rw: Rewriter,
    node: Node,
    kept: list[int],
    args: tuple[Value, ...],
    regions: tuple[Graph, ...],
    params: dict[str, Any],
) -> tuple[Value, ...]:
    """A `collect` with fewer results. One that collects nothing and need not count is a `while`."""
    n, last = node.params["n_carry"], len(node.types)
    if all(k < n for k in kept):
        results = iter(rw.emit_all("while", *args, regions=regions, n_carry=params["n_carry"]))
    else:
        results = iter(rw.emit_all(node.op, *args, regions=regions, **params))
        kept = sorted({*kept, n})
    return tuple([next(results) if k in kept else rw.fill(0, t) for k, t in zip(range(last), node.types, strict=True)])
