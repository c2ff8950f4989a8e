"""Control nodes: loops and branches whose course is known, captures, and work that every iteration would repeat.

Local rules like any other: they look at a control node, its operands and its regions. What they move out of a region is
pure and cannot raise, so running it where the loop would not have run at all changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from stager.ir.core_ops import fill_op, input_op
from stager.ir.dims import Dim, Expr, symbols_of
from stager.ir.dtypes import b1
from stager.ir.graph import Graph, Node, Value
from stager.ir.hash import literal_bits
from stager.ir.regions import edit_region, first_capture, first_operand, operand_of, own_inputs
from stager.ir.rewrite import Replacement, Rewriter, Rules, known_dim, literal, made_by
from stager.ir.types import Type

# -- courses that are known --------------------------------------------------------------------------------------------


def known_trip(rw: Rewriter, node: Node) -> Replacement:
    """for over no index -> what is carried in; over one index -> the body itself"""
    n, step = node.params["n_carry"], node.params["step"]
    lower, upper = known_dim(node.args[0]), known_dim(node.args[1])
    if lower is None or upper is None:
        return None
    distance = upper - lower
    if isinstance(distance, Expr):
        return None
    trips = max(0, -(-distance // step))
    if trips == 0:
        return node.args[2 : 2 + n]
    if trips == 1:
        return tuple(rw.inline(node.regions[0], [node.args[0], *node.args[2:]]))
    return None


def single_lane(rw: Rewriter, node: Node) -> Replacement:
    """map over one lane -> the body itself"""
    if node.params["size"] != 1:
        return None
    results = rw.inline(node.regions[0], [rw.fill(0, node.regions[0].inputs[0].type), *node.args])
    return tuple([rw.emit("reshape", r, shape=t.shape) for r, t in zip(results, node.types, strict=True)])


def never_begins(rw: Rewriter, node: Node) -> Replacement:
    """while False -> what is carried in"""
    (condition,) = node.regions[0].outputs
    return node.args[: node.params["n_carry"]] if literal(condition) is False else None


def known_branch(rw: Rewriter, node: Node) -> Replacement:
    """switch at a known index -> that branch"""
    index = literal(node.args[0])
    if index is None and len(node.regions) > 1:
        return None
    k = min(max(int(index or 0), 0), len(node.regions) - 1)
    return tuple(rw.inline(node.regions[k], node.args[1:]))


def same_in_all_branches(rw: Rewriter, node: Node) -> Replacement:
    """a result of a switch that every branch takes from one capture, or that is one literal -> that"""
    if any(region.has_effects for region in node.regions):
        return None
    values: list[Value | None] = []
    for k, t in enumerate(node.types):
        outputs = [region.outputs[k] for region in node.regions]
        inputs = {v.node.params["index"] if v.node.op is input_op else -1 for v in outputs}
        found: Value | None = None
        if len(inputs) == 1 and -1 not in inputs:
            found = operand_of(node, inputs.pop())
        elif all(v.node.op is fill_op for v in outputs):
            bits = {literal_bits(v.node.params["value"], t.dtype) for v in outputs}
            found = rw.fill(outputs[0].node.params["value"], t) if len(bits) == 1 else None
        values.append(found if found is not None and found.type == t else None)
    if all(v is None for v in values):
        return None
    kept = [k for k, v in enumerate(values) if v is None]
    if kept:
        regions = [edit_region(r, range(len(r.inputs)), [r.outputs[k] for k in kept]) for r in node.regions]
        results = rw.emit_all(node.op, *node.args, regions=tuple(regions), **node.params)
        for k, v in zip(kept, results, strict=True):
            values[k] = v
    return tuple([v for v in values if v is not None])


SELECTED_OPS = 10  # a branch that is taken wrongly costs as much as so many operations


def little_arithmetic(rw: Rewriter, node: Node) -> Replacement:
    """switch between a few operations on scalars -> all of them, and selects"""
    if len(node.regions) > 3 or any(t.size != 1 for t in node.types):
        return None
    done = [n for region in node.regions for n in region.nodes if n.op is not input_op and n.op is not fill_op]
    if len([n for n in done if n.op.family != "view"]) > SELECTED_OPS or not all(map(_is_little, done)):
        return None
    index = node.args[0]
    chosen = rw.inline(node.regions[0], node.args[1:])
    for k, region in enumerate(node.regions[1:]):
        others = rw.inline(region, node.args[1:])
        truth = index.node.args[0] if k == 0 and made_by(index, "convert") else None
        if truth is None or truth.type.dtype is not b1:
            truth = rw.emit("gt", index, rw.fill(k, index.type))
        chosen = [rw.emit("select", _like(rw, truth, x.type), y, x) for x, y in zip(chosen, others, strict=True)]
    return tuple(chosen)


def _is_little(node: Node) -> bool:
    """Whether it costs nearly nothing, wherever it runs: positions that only its branch may read are not."""
    if node.op.name in ("reshape", "broadcast", "transpose"):
        return node.types[0].size == 1
    return node.op.name in LITTLE and all(t.size == 1 for t in node.types)


def _like(rw: Rewriter, truth: Value, t: Type) -> Value:
    return truth if t.ndim == 0 else rw.emit("reshape", truth, shape=t.shape)


# -- captures ----------------------------------------------------------------------------------------------------------


def invariant_carries(rw: Rewriter, node: Node) -> Replacement:
    """a carry that the body returns as it came, or as the literal it starts with -> a capture"""
    n, own, first = node.params["n_carry"], own_inputs(node), first_operand(node)
    body = node.regions[-1]
    still = [k for k in range(n) if _stays(node, body, k)]
    if not still:
        return None
    moving = [k for k in range(n) if k not in still]
    captures = range(own + n, len(body.inputs))
    inputs = [*range(own), *(own + k for k in moving), *(own + k for k in still), *captures]
    regions = [edit_region(r, inputs, r.outputs) for r in node.regions[:-1]]
    regions.append(edit_region(body, inputs, [*[body.outputs[k] for k in moving], *body.outputs[n:]]))
    carried = node.args[first : first + n]
    operands = [*[carried[k] for k in moving], *[carried[k] for k in still], *node.args[first + n :]]
    params = {**node.params, "n_carry": len(moving)}
    results = iter(
        rw.emit_all(node.op, *node.args[:first], *operands, regions=tuple(map(rw.region, regions)), **params)
    )
    return (*[carried[k] if k in still else next(results) for k in range(n)], *results)


def _stays(node: Node, body: Graph, k: int) -> bool:
    after, start = body.outputs[k], node.args[first_operand(node) + k]
    if after.node is body.inputs[own_inputs(node) + k].node:
        return True
    if after.node.op is not fill_op or start.node.op is not fill_op or start.type != after.type:
        return False
    dtype = start.type.dtype
    return literal_bits(after.node.params["value"], dtype) == literal_bits(start.node.params["value"], dtype)


def literal_captures(rw: Rewriter, node: Node) -> Replacement:
    """captures that are literals, and sizes whose value is known, become so inside the regions"""
    known = [
        k
        for k in range(first_capture(node), len(node.regions[0].inputs))
        if operand_of(node, k).node.op is fill_op and any(_used(region, k) for region in node.regions)
    ]
    if not known:
        return None
    regions = rw.rewritten_regions(node, node.args)
    if all(new is old for new, old in zip(regions, node.regions, strict=True)):
        return None
    return rw.emit_all(node.op, *node.args, regions=regions, **node.params)


def tidy_captures(rw: Rewriter, node: Node) -> Replacement:
    """captures that no region uses go; one value captured twice is captured once"""
    first, count = first_capture(node), len(node.regions[0].inputs)
    seen: dict[tuple[Value, Type], int] = {}
    kept: list[int] = list(range(first))
    same: dict[int, int] = {}  # a capture -> the position of the equal one before it
    for k in range(first, count):
        key = operand_of(node, k), node.regions[0].inputs[k].type
        if key in seen and all(r.inputs[k].type == key[1] for r in node.regions):
            same[k] = seen[key]
        elif any(_used(region, k) for region in node.regions):
            seen[key] = len(kept)
            kept.append(k)
    if len(kept) == count:
        return None
    regions = []
    for r in node.regions:
        stands = {r.inputs[k]: position for k, position in same.items()}
        regions.append(edit_region(r, kept, r.outputs, stands))
    own = own_inputs(node)
    operands = [*node.args[: first_operand(node)], *[operand_of(node, k) for k in kept if k >= own]]
    return rw.emit_all(node.op, *operands, regions=tuple(map(rw.region, regions)), **node.params)


def _used(region: Graph, k: int) -> bool:
    node = region.inputs[k].node
    if region.successors[node] or any(v.node is node for v in region.outputs):
        return True
    names = {name for name, d in region.symbols.items() if d.kind != "data" and d.source == k}
    return bool(names) and any(not names.isdisjoint(n.mentioned_symbols()) for n in region.nodes)


# -- invariant code ----------------------------------------------------------------------------------------------------

# Ops so cheap that computing them again beats reading a larger array of results.
CHEAP = frozenset(
    {
        "add", "sub", "mul", "neg", "abs", "minimum", "maximum", "fmin", "fmax", "select", "convert", "copy", "not_",
        "and_", "or_", "xor", "shl", "shr", "eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite", "signbit",
    }
)  # fmt: skip
LITTLE = CHEAP | {"div", "sqrt"}


def may_raise(node: Node) -> bool:
    """True for what must not run where it would not have run: effects, checked indices, foreign calls."""
    if node.ordered or node.op.family in ("effect", "foreign") or node.params.get("mode") == "check":
        return True
    return any(may_raise(inner) for region in node.regions for inner in region.nodes)


def hoist(rw: Rewriter, node: Node) -> Replacement:
    """Work on captures alone moves in front of the loop; its results are captured."""
    regions = node.regions
    count = len(regions[0].inputs)
    inputs: list[list[int | Type]] = [list(range(count)) for _ in regions]
    stands: list[dict[Value, int]] = [{} for _ in regions]
    hoisted: list[Value] = []
    for r, region in enumerate(regions):
        env = _outer_dims(node, region)
        invariant = _invariant(node, region, env)
        frontier = _frontier(region, invariant)
        if not frontier:
            continue
        frontier = [v for v in frontier if all(symbols_of(v.type.shape) <= other.symbols.keys() for other in regions)]
        results = _emit_outside(rw, node, region, invariant, frontier, env)
        for v, result in zip(frontier, results, strict=True):
            stands[r][v] = count + len(hoisted)
            hoisted.append(result)
            for other in inputs:
                other.append(v.type)
    if not hoisted:
        return None
    edited = [edit_region(region, i, region.outputs, s) for region, i, s in zip(regions, inputs, stands, strict=True)]
    return rw.emit_all(node.op, *node.args, *hoisted, regions=tuple(map(rw.region, edited)), **node.params)


def _outer_dims(node: Node, region: Graph) -> dict[str, Dim]:
    """The symbols of a region whose value is a dim around it."""
    env: dict[str, Dim] = {}
    for name, d in region.symbols.items():
        if d.kind == "data" or d.source < first_capture(node):
            continue
        v = operand_of(node, d.source)
        known = known_dim(v) if d.kind == "value" else v.type.shape[d.axis] if d.kind == "shape" else None
        if known is not None:
            env[name] = known
    return env


def _invariant(node: Node, region: Graph, env: dict[str, Dim]) -> dict[Node, bool]:
    """Nodes of a region that compute from captures alone and may run outside: whether they are worth it."""
    invariant = {v.node: False for v in region.inputs[first_capture(node) :]}
    has_symbols = bool(region.symbols)
    for n in region.nodes:
        if n.op is input_op or may_raise(n) or any(a.node not in invariant for a in n.args):
            continue
        if has_symbols and not n.mentioned_symbols() <= env.keys():
            continue
        invariant[n] = n.op.family not in ("source", "view") and not (n.op.name in CHEAP and _grows(n))
    return invariant


def _grows(node: Node) -> bool:
    """True when a result may be larger than every array that it is computed from, seen through views."""
    sizes: list[Dim] = []
    for a in node.args:
        while a.node.op.family == "view":
            (a,) = a.node.args
        if a.node.op.family != "source" or a.node.op is input_op:
            sizes.append(a.type.size)
    return not any(_at_most(node.types[0].size, s) for s in sizes)


def _at_most(a: Dim, b: Dim) -> bool:
    return a == b or (isinstance(a, int) and isinstance(b, int) and a <= b)


def _frontier(region: Graph, invariant: dict[Node, bool]) -> list[Value]:
    """The hoisted values that what stays in the region reads, in order."""
    found: dict[Value, None] = {}
    staying = [v for n in region.nodes if n not in invariant for v in n.args] + list(region.outputs)
    seen: set[Node] = set()
    while staying:
        v = staying.pop()
        if v.node not in invariant:
            continue
        if invariant[v.node]:
            found[v] = None
        elif v.node not in seen:  # stays inside, and reads its operands there
            seen.add(v.node)
            staying += v.node.args
    position = {n: i for i, n in enumerate(region.nodes)}
    return sorted(found, key=lambda v: (position[v.node], v.index))


def _emit_outside(
    rw: Rewriter, node: Node, region: Graph, invariant: dict[Node, bool], frontier: Sequence[Value], env: dict[str, Dim]
) -> list[Value]:
    needed = {v.node for v in frontier}
    for n in reversed(list(region.nodes)):
        if n in needed:
            needed.update(a.node for a in n.args)
    mapped: dict[Node, tuple[Value, ...]]
    mapped = {v.node: (operand_of(node, k),) for k, v in enumerate(region.inputs) if k >= first_capture(node)}
    for n in region.nodes:
        if n in needed and n.op is not input_op:
            mapped[n] = rw.add(rw.renewed(n, mapped, env))
    return [mapped[v.node][v.index] for v in frontier]


CONTROL: Rules = {
    "for": (known_trip, invariant_carries, literal_captures, tidy_captures, hoist),
    "while": (never_begins, invariant_carries, literal_captures, tidy_captures, hoist),
    "collect": (invariant_carries, literal_captures, tidy_captures, hoist),
    "switch": (known_branch, same_in_all_branches, little_arithmetic, literal_captures, tidy_captures),
    "map": (single_lane, literal_captures, tidy_captures, hoist),
}
