"""Which positions of a carried array the body of a loop reads and writes, and which reads the end of the loop repeats.

`A[i, :j]` read in iteration i needs no tape when neither the rest of that iteration nor a later one writes there: the
array that the loop returns still holds it. A footprint is a box of inclusive bounds per axis, dims in terms of the
loop's index; what cannot be bounded counts as everything. Written values that stay are found the same way.

Nothing here emits nodes. `joint.py` asks `lasting` and leaves such reads to the array at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stager.bounds import bounds_of_symbol
from stager.ir.core_ops import dim_op, fill_op, input_op
from stager.ir.dims import Apply, Dim, Expr, substitute, symbol, symbols_of
from stager.ir.graph import Graph, Node, Value
from stager.ir.regions import first_capture, first_operand, own_inputs

Interval = tuple[Dim, Dim]  # inclusive
Box = tuple[Interval, ...]
Ends = tuple[Dim | None, Dim | None]
UPDATES = ("slice_update", "scatter")
ROUNDS = 12  # symbols replaced by a bound in one comparison
NESTING = 8  # regions and slices looked through
ANY = symbol("%any")  # the end of an axis whose extent has no name outside


@dataclass
class Scope:
    """How a region's symbols and integer inputs read as dims of the outermost region, and what bounds those."""

    graph: Graph
    inputs: dict[int, Dim]  # integer scalars among the inputs
    names: dict[str, Dim]  # symbols of the graph; one that is not here may have another value in each iteration
    ranges: dict[str, Ends]  # of the indices of loops, inner ones last

    def dim(self, d: Dim) -> Dim | None:
        """A dim of the graph; None when it mentions what has no name outside."""
        if not symbols_of(d) <= self.names.keys():
            return None
        found: Dim = substitute(d, self.names)
        return found

    def index(self, v: Value, depth: int = 6) -> Dim | None:
        """An integer scalar as a dim."""
        node = v.node
        if node.op is fill_op:
            return int(node.params["value"])
        if node.op is dim_op:
            return self.dim(node.params["dim"])
        if node.op is input_op:
            return self.inputs.get(node.params["index"])
        if depth == 0 or v.type.shape != ():
            return None
        args = [self.index(a, depth - 1) for a in node.args] if node.op.name in ("add", "sub", "neg", "mul") else [None]
        if any(a is None for a in args):
            return None
        a, b = args[0], args[-1]
        assert a is not None
        assert b is not None
        return {"add": lambda: a + b, "sub": lambda: a - b, "mul": lambda: a * b, "neg": lambda: -a}[node.op.name]()

    def inner(self, node: Node, region: Graph, fresh: Iterator[str]) -> Scope:
        """The scope of a region of a control node in this one."""
        inputs: dict[int, Dim] = {}
        ranges = dict(self.ranges)
        own, offset = own_inputs(node), first_operand(node) - own_inputs(node)
        if own:
            i = symbol(next(fresh))
            inputs[0] = i
            if node.op.name == "for":
                low, high = self.index(node.args[0]), self.index(node.args[1])
                up = node.params["step"] > 0
                ends = (low, _plus(high, -1)) if up else (_plus(high, 1), low)
            else:
                ends = (0, _plus(self.dim(node.params["size"]), -1))
            ranges[str(i)] = ends
        for k in range(first_capture(node), len(region.inputs)):
            if region.inputs[k].type.shape == () and region.inputs[k].type.dtype.is_integer:
                known = self.index(node.args[k + offset])
                if known is not None:
                    inputs[k] = known
        names: dict[str, Dim] = {}
        for name, d in region.symbols.items():
            if d.kind == "value" and d.source in inputs:
                names[name] = inputs[d.source]
            elif d.kind == "shape" and d.source >= own:
                known = self.dim(node.args[d.source + offset].type.shape[d.axis])
                if known is not None:
                    names[name] = known
        return Scope(region, inputs, names, ranges)

    # -- boxes ---------------------------------------------------------------------------------------------------------

    def box(self, node: Node, x: Value) -> Box:
        """What a slice, gather, slice_update or scatter touches of x."""
        whole = self.all_of(x)
        p = node.params
        if node.op.name in ("slice", "slice_update"):
            for axis, (start, size, step) in enumerate(zip(p["starts"], p["sizes"], p["steps"], strict=True)):
                first, last = self.dim(start), self.dim(start + (size - 1) * step)
                if first is not None and last is not None:
                    whole[axis] = (first, last) if step > 0 else (last, first)
        elif not p["batch_dims"] and p["mode"] in ("check", "promise"):
            idx = node.args[1 if node.op.name == "gather" else 2 :]
            for axis, i in zip(p["axes"], idx, strict=True):
                at = self.index(i) if i.type.shape == () else None
                if isinstance(at, int) and at < 0 and p["mode"] == "check":
                    at = at + x.type.shape[axis]
                if at is not None and (p["mode"] == "promise" or self.never_negative(at)):
                    whole[axis] = (at, at)
        return tuple(whole)

    def all_of(self, x: Value) -> list[Interval]:
        """The box of a whole array."""
        extents = [self.dim(d) for d in x.type.shape]
        return [(0, ANY if d is None else d - 1) for d in extents]

    def behind(self, node: Node, box: Box) -> Box:
        """What a box of the result of a slice or gather is of its operand."""
        out: list[Interval] = []
        p = node.params
        if node.op.name == "gather":
            whole = self.box(node, node.args[0])
            rest = iter(box)
            one_each = not p["batch_dims"] and all(i.type.shape == () for i in node.args[1:])
            return tuple(b if d in p["axes"] else next(rest) for d, b in enumerate(whole)) if one_each else whole
        places = zip(p["starts"], p["steps"], box, self.all_of(node.args[0]), strict=True)
        for start, step, (low, high), everything in places:
            first = self.dim(start)
            ends = everything if first is None else (first + low * step, first + high * step)
            out.append(ends if step > 0 or first is None else (ends[1], ends[0]))
        return tuple(out)

    def never_negative(self, d: Dim) -> bool:
        """Whether d >= 0 is known, bounds of indices taken into account, inner ones first."""
        for _ in range(ROUNDS):
            if not isinstance(d, Expr):
                return d >= 0
            replaced = self._bounded(d)
            if replaced is None:
                return False
            d = replaced
        return False

    def _bounded(self, d: Expr) -> Dim | None:
        """d with one symbol replaced by the bound at which d is least; None when there is none to replace."""
        order = [*reversed(self.ranges), *sorted(symbols_of(d) - self.ranges.keys())]
        for name in order:
            c = coefficient(d, name)
            if not c:
                continue
            ends = self.ranges[name] if name in self.ranges else bounds_of_symbol(name)
            end = ends[0 if c > 0 else 1]
            if end is not None:
                return d - c * symbol(name) + c * end
        return None

    def hull(self, boxes: Sequence[Box], name: str) -> list[Box]:
        """The boxes over all values of an index."""
        low, high = self.ranges[name]
        out = []
        for box in boxes:
            new: list[Interval] = []
            for a, b in box:
                first, last = _at_end(a, name, (low, high)), _at_end(b, name, (high, low))
                new.append((0 if first is None else first, ANY if last is None else last))
            out.append(tuple(new))
        return out

    def apart(self, a: Box, b: Box) -> bool:
        return any(
            self.never_negative(y[0] - x[1] - 1) or self.never_negative(x[0] - y[1] - 1)
            for x, y in zip(a, b, strict=True)
        )


def coefficient(d: Dim, name: str) -> int:
    """The factor of a symbol in a dim that is linear in it; 0 when it does not occur, or otherwise than that."""
    if not isinstance(d, Expr):
        return 0
    found = 0
    for monomial, c in d.terms:
        for atom, power in monomial:
            if isinstance(atom, Apply):
                if name in symbols_of(Expr(((((atom, 1),), 1),))):
                    return 0
            elif atom.name == name:
                if len(monomial) > 1 or power != 1:
                    return 0
                found = c
    return found


def _at_end(d: Dim, name: str, ends: Ends) -> Dim | None:
    """The least value of d over an index with ends (least, greatest); the greatest for (greatest, least)."""
    if not isinstance(d, Expr) or name not in symbols_of(d):
        return d
    c = coefficient(d, name)
    end = ends[0 if c > 0 else 1]
    return None if c == 0 or end is None else d - c * symbol(name) + c * end


def _plus(d: Dim | None, k: int) -> Dim | None:
    return None if d is None else d + k


# -- chains ------------------------------------------------------------------------------------------------------------


def versions(graph: Graph, last: Value, start: Value) -> list[Value] | None:
    """The values from `last` back to `start`, each an updated form of the next; None when it is no such chain."""
    found = [last]
    while found[-1] != start:
        v = found[-1]
        name = v.node.op.name
        if name in UPDATES:
            found.append(v.node.args[0])
        elif name in ("for", "while"):
            found.append(v.node.args[first_operand(v.node) + v.index])
        else:
            return None
    return found


def _of_what_stood_there(update: Node) -> list[Value] | None:
    """Where an update puts back what it read there with parts of it updated: the versions of that."""
    chain = [update.args[1]]
    while chain[-1].node.op.name in UPDATES:
        chain.append(chain[-1].node.args[0])
    read = chain[-1].node
    if len(chain) == 1 or read.op.name not in ("slice", "gather") or read.args[0] != update.args[0]:
        return None
    places = {**update.params, "combine": None}
    same = update.params.get("combine", "set") == "set" and {**read.params, "combine": None} == places
    return chain if same and read.args[1:] == update.args[2:] else None


def written_boxes(scope: Scope, chain: Sequence[Value], fresh: Iterator[str], depth: int = 0) -> list[Box] | None:
    """What the updates of a chain write (`chain` from the last version to the one before the first update)."""
    boxes: list[Box] = []
    for v in chain[:-1]:
        node = v.node
        if node.op.name in UPDATES:
            part = _of_what_stood_there(node) if depth <= NESTING else None
            parts = None if part is None else written_boxes(scope, part, fresh, depth + 1)
            if part is None or parts is None:
                boxes.append(scope.box(node, v))
            else:
                boxes += [scope.behind(part[-1].node, b) for b in parts]
            continue
        body = node.regions[-1]
        inner = scope.inner(node, body, fresh)
        start = body.inputs[own_inputs(node) + v.index]
        inner_chain = versions(body, body.outputs[v.index], start)
        inside = None if inner_chain is None else written_boxes(inner, inner_chain, fresh)
        if inside is None:
            return None
        boxes += inner.hull(inside, str(inner.inputs[0])) if own_inputs(node) else inside
    return boxes


def _read(scope: Scope, node: Node, position: int, fresh: Iterator[str], depth: int = 0) -> list[Box] | None:
    """What a node reads of an operand; None for all of it."""
    x = node.args[position]
    if node.op.name == "gather" and position == 0:
        return [scope.box(node, x)]
    if node.op.name == "slice":
        found = None if depth > NESTING else _used(scope, Value(node), fresh, depth + 1)
        return [scope.box(node, x)] if found is None else [scope.behind(node, box) for box in found]
    if node.op.name not in ("for", "while", "switch", "map") or depth > NESTING:
        return None
    k = position - first_operand(node) + own_inputs(node)
    if k < first_capture(node):
        return None
    boxes: list[Box] = []
    for region in node.regions:
        inner = scope.inner(node, region, fresh)
        found = _used(inner, region.inputs[k], fresh, depth + 1)
        if found is None:
            return None
        boxes += inner.hull(found, str(inner.inputs[0])) if own_inputs(node) else found
    return boxes


def _used(scope: Scope, x: Value, fresh: Iterator[str], depth: int) -> list[Box] | None:
    """What all users of a value read of it; None for all of it."""
    if x in scope.graph.outputs:
        return None
    boxes: list[Box] = []
    for node in scope.graph.nx.succ[x.node]:
        for p, a in enumerate(node.args):
            if a == x:
                found = _read(scope, node, p, fresh, depth)
                if found is None:
                    return None
                boxes += found
    return boxes


# -- what lasts --------------------------------------------------------------------------------------------------------


@dataclass
class Lasting:
    """reads: (node, operand position) -> the carry whose end has the same values at what the node reads of it, and the
    slices between the carry and that operand.
    written: values that an update writes where nothing is written later -> (the update, the carry).
    """

    reads: dict[tuple[Node, int], tuple[int, tuple[Node, ...]]] = field(default_factory=dict)
    written: dict[Value, tuple[Node, int]] = field(default_factory=dict)


@dataclass
class Course:
    """A joint region of a loop, and how its turns follow one another: input 0 is the index, then come the carries.

    later, earlier: what the index is in another turn, by the ranges of the scope.
    """

    scope: Scope
    index: Dim
    later: Dim
    earlier: Dim
    fresh: Iterator[str]

    @property
    def graph(self) -> Graph:
        return self.scope.graph

    def written(self, chain: Sequence[Value], turn: Dim) -> list[Box] | None:
        """What a turn writes of the array of a chain."""
        boxes = written_boxes(self.scope, chain, self.fresh)
        if boxes is None:
            return None
        return [moved_box(box, self.index, turn) for box in boxes]


def course_of(
    graph: Graph,
    n_carry: int,
    inputs: Mapping[int, Dim],
    ends: tuple[Dim, Dim],
    step: int,
    moving: Mapping[int, tuple[Dim, int]],
) -> Course:
    """inputs: the dims that captured integers are. ends: the least and the greatest index. moving: integers among the
    carries that are linear in the index, as (constant, factor).
    """
    fresh = (f"%{k}" for k in range(1 << 30))
    i, later, earlier = symbol(next(fresh)), symbol(next(fresh)), symbol(next(fresh))
    above, below = (i + abs(step), ends[1]), (ends[0], i - abs(step))
    known = {**inputs, 0: i, **{k: constant + factor * i for k, (constant, factor) in moving.items()}}
    names: dict[str, Dim] = {}
    for name, d in graph.symbols.items():
        if d.kind == "shape" or (d.kind == "value" and d.source > n_carry):
            names[name] = symbol(name)
        if d.kind == "value" and d.source in known:
            names[name] = known[d.source]
    up = step > 0
    ranges: dict[str, Ends] = {str(i): ends, str(later): above if up else below, str(earlier): below if up else above}
    return Course(Scope(graph, known, names, ranges), i, later, earlier, fresh)


def lasting(course: Course, n_carry: int, outs: Sequence[Value]) -> Lasting:
    """What the results of a loop repeat; `outs` are the new values of its carries."""
    result = Lasting()
    graph, scope, fresh = course.graph, course.scope, course.fresh
    for k in range(n_carry):
        if not outs[k].type.ndim:
            continue
        chain = versions(graph, outs[k], graph.inputs[1 + k])
        if chain is None or len(chain) == 1:
            continue
        others = course.written(chain, course.later)
        if others is None:
            continue
        for depth, v in enumerate(chain):
            rest = written_boxes(scope, chain[: depth + 1], fresh) or []

            def stays(box: Box, rest: list[Box] = rest, others: list[Any] = others) -> bool:
                return all(scope.apart(box, w) for w in (*rest, *others))

            todo: list[tuple[Value, tuple[Node, ...]]] = [(v, ())]
            while todo:
                x, path = todo.pop()
                for user in graph.nx.succ[x.node]:
                    for p, a in enumerate(user.args):
                        if a != x or (user.op.name in UPDATES and p == 0):
                            continue
                        if user.op.name == "slice":
                            boxes: list[Box] | None = [scope.box(user, x)]
                            if len(path) < NESTING:
                                todo.append((Value(user), (*path, user)))
                        else:
                            boxes = _read(scope, user, p, fresh)
                        if boxes is None:
                            continue
                        for node in reversed(path):
                            boxes = [scope.behind(node, box) for box in boxes]
                        if all(map(stays, boxes)):
                            result.reads[user, p] = k, path
            if v.node.op.name in UPDATES and v.node.params.get("combine", "set") == "set":
                value = v.node.args[1]
                if value in result.written:
                    continue
                if stays(scope.box(v.node, v)) and _exact(scope, v.node):
                    result.written[value] = v.node, k
    return result


def untouched(course: Course, start: Value, out: Value) -> list[Node]:
    """What reads, or adds to, places of an array as it was behind the last turn, on the way back through the turns.

    start, out: the array as a turn finds it, where the turns behind it have been, and as it leaves it.
    """
    chain = versions(course.graph, out, start)
    others = None if chain is None or len(chain) == 1 else course.written(chain, course.later)
    if chain is None or others is None:
        return []
    scope, found = course.scope, []
    for depth, v in enumerate(chain):
        written = [*others, *(written_boxes(scope, chain[depth:], course.fresh) or [])]
        todo: list[tuple[Value, tuple[Node, ...]]] = [(v, ())]
        while todo:
            x, path = todo.pop()
            for user in course.graph.nx.succ[x.node]:
                adds = user.op.name == "scatter" and user.params["combine"] == "add" and _is_one_place(user)
                reads = user.op.name == "slice" or (user.op.name == "gather" and not path)
                if user.args[0] != x or x in user.args[1:] or not (adds or reads):
                    continue
                box = scope.box(user, x)
                for node in reversed(path):
                    box = scope.behind(node, box)
                if all(scope.apart(box, w) for w in written):
                    found.append(user)
                elif reads and len(path) < NESTING:
                    todo.append((Value(user), (*path, user)))
    return found


def _is_one_place(scatter: Node) -> bool:
    """Whether it adds once to what it adds to: several positions may be one."""
    return not scatter.params["batch_dims"] and all(i.type.shape == () for i in scatter.args[2:])


def _exact(scope: Scope, update: Node) -> bool:
    """Whether the place can be told ahead of the update, from the index alone."""
    if update.op.name == "slice_update":
        return update.mentioned_symbols() <= scope.names.keys()
    if update.params["batch_dims"] or any(i.type.shape != () for i in update.args[2:]):
        return False
    return all(scope.index(i) is not None for i in update.args[2:])


def moved_box(box: Box, i: Dim, turn: Dim) -> Box:
    """The box with another index."""
    found: Box = substitute(box, {str(i): turn})
    return found
