"""When a loop's backward runs stretches of its turns again without being asked to.

That is where tapes are far larger than caches, and a turn is cheaper to run again than its tapes are to write to memory
and to read. A loop whose number of turns only the run knows keeps tapes of as many turns as stay near, and runs those
behind in stretches where its turns are that cheap. The constants are of today's processors, not of the one at hand: the
same graph comes of the same function everywhere. Not here: how stretches run (`stretches.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stager.interpreters.stack import stack, user_location
from stager.ir.dims import Dim, evaluate, symbols_of
from stager.ir.graph import Node, Value
from stager.ops.footprints import Course, Scope
from stager.ops.regions import hint_of
from stager.ops.residuals import extent, is_cheap
from stager.ops.stretches import Stretches

CACHE = 8 << 20  # bytes of tapes that stay near
SMALL = 16  # what takes so many times less than the largest tape is kept of every turn
LESS = 4  # how many times less stretches must keep
WORK = 6.0  # bytes made in caches that cost as much as one written to memory and read again, with a margin of 2
NEAR, NEAR_WORK = 1 << 16, 12.0  # and without, where a turn's tapes stay in a near cache
NESTING = 8
ROW = 256  # bytes of tapes per turn, of a loop whose number of turns only the run knows: less is not worth the code
STATE = 4  # how many times larger the state of such a loop may be

Plan = Callable[[list[Value], list[Value]], Stretches]
Shapes = dict[Value, tuple[Dim, ...]]


def in_stretches(plan: Plan, stored: list[Value], shapes: Shapes, course: Course) -> Stretches | None:
    """The loop in stretches where that pays, else None.

    plan: (kept of every turn, again on tapes of a stretch) -> the stretches. stored: what tapes would hold, in rows of
    these shapes. Shapes of what stretches keep beside that are added.
    """
    turns = _most(course.scope, plan([], stored).trips)
    if not CACHE <= turns * sum(_rows(stored, shapes, course).values()) < math.inf:
        return None
    found = planned(plan, stored, shapes, course)
    row, state = _kept(found, shapes, course)
    length = math.ceil(math.sqrt(turns))
    if LESS * (row + state) > math.sqrt(turns) * row or not _is_cheap_again(found, row, course):
        return None
    all_turns = turns * sum(_rows(found.kept, shapes, course).values())
    kept = _size(all_turns + length * (row + state))
    tapes = _size(turns * sum(_rows(stored, shapes, course).values()))
    note(f"the way back runs stretches of {length} of {turns:.0f} turns again, which keeps {kept}, not {tapes}")
    return found


def is_open(trips: Dim, course: Course) -> bool:
    """Whether only the run knows how many turns there are, of a loop that no other loop or transform is around."""
    return stack().depth == 1 and math.isinf(_most(course.scope, trips))


def turns_on_tapes(plan: Plan, stored: list[Value], shapes: Shapes, course: Course) -> int | None:
    """Of a loop whose number of turns only the run knows: how many of them keep tapes, when those behind run in
    stretches. None where all do."""
    size = sum(_rows(stored, shapes, course).values())
    if not ROW <= size < math.inf:
        return None
    found = planned(plan, stored, shapes, course)
    row, state = _kept(found, shapes, course)
    if state > STATE * row or not _is_cheap_again(found, row, course):
        return None
    first, every = max(1, int(CACHE / size)), sum(_rows(found.kept, shapes, course).values())
    beside = f" and {_size(every)} times n" if every else ""
    note(f"the way back keeps tapes of {first} turns ({_size(first * size)}) and runs those behind again in stretches: "
         f"of n turns about {_size(row + state)} times √n{beside}, not {_size(size)} times n")  # fmt: skip
    return first


def note(how: str) -> None:
    """Tell `explain` how the way back of the loop at hand runs."""
    s, where = stack(), user_location()
    entry = ("", 0, how) if where is None else (where.file, where.line, how)
    level: Any = s.levels[0]
    if entry not in level.loops:
        level.loops.append(entry)


def _size(nbytes: float) -> str:
    """A number of bytes in words."""
    for name, unit in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= unit:
            return f"{nbytes / unit:.1f} {name}"
    return f"{nbytes:.0f} bytes"


def planned(plan: Plan, stored: list[Value], shapes: Shapes, course: Course) -> Stretches:
    """The loop in stretches that keep small values of every turn."""
    size = _rows(stored, shapes, course)
    small = max(size.values()) / SMALL
    kept = [v for v in stored if size[v] <= small]
    stretched = [v for v in stored if size[v] > small]
    found = plan(kept, stretched)
    dear = [v for v in found.runs.read if _is_worth_keeping(found, v) and _bytes(course.scope, v) <= small]
    if dear:
        shapes.update((v, v.type.shape) for v in dear)
        found = plan([*kept, *dear], stretched)
    return found


def _kept(stretches: Stretches, shapes: Shapes, course: Course) -> tuple[float, float]:
    """The bytes of a turn's tapes in a stretch, and of a state."""
    inputs = stretches.joint.graph.inputs[1:]
    state = sum(_bytes(course.scope, inputs[k]) for k in stretches.state)
    return sum(_rows(stretches.again, shapes, course).values()), state


def _rows(values: Sequence[Value], shapes: Shapes, course: Course) -> dict[Value, float]:
    """The bytes of a row of each tape."""
    return {v: v.type.dtype.itemsize * math.prod(_most(course.scope, d) for d in shapes[v]) for v in values}


def _is_cheap_again(stretches: Stretches, row: float, course: Course) -> bool:
    """Whether a turn makes little beside the bytes of a row that it saves."""
    return _work(course, course.scope, stretches.runs.nodes) <= row * (NEAR_WORK if row <= NEAR else WORK)


def _is_worth_keeping(stretches: Stretches, v: Value) -> bool:
    """Whether it is a number or an array of one size in all turns, and dear to compute again."""
    joint = stretches.joint
    if v.node not in stretches.runs.nodes or is_cheap(v.node) or v in joint.lasting.written:
        return False
    return not any(name in joint.graph.symbols for name in symbols_of(v.type))


# -- about how much ---------------------------------------------------------------------------------------------------


def _most(scope: Scope, d: Dim) -> float:
    """The most that a dim outside of the loop, or inside in terms of ranges, is; infinity when there is no telling."""
    for _ in range(NESTING):
        local = symbols_of(d) & scope.ranges.keys()
        if not local:
            break
        ranges = {name: (low, high) for name in local for low, high in [scope.ranges[name]] if low is not None}
        bound = extent(d, {k: (a, b) for k, (a, b) in ranges.items() if b is not None}, local, upper=True)
        if bound is None:
            return math.inf
        d = bound
    hints = {name: hint_of(name) for name in symbols_of(d)}
    return math.inf if None in hints.values() else float(max(0, evaluate(d, hints)))  # type: ignore[arg-type]


def _elements(scope: Scope, shape: Sequence[Dim]) -> float:
    """The most elements that a shape in the body has."""
    dims = [scope.dim(d) for d in shape]
    return math.prod(math.inf if d is None else _most(scope, d) for d in dims)


def _bytes(scope: Scope, v: Value) -> float:
    return v.type.dtype.itemsize * _elements(scope, v.type.shape)


def _work(course: Course, scope: Scope, nodes: Iterable[Node]) -> float:
    """Bytes that nodes make, about; those of dear operations count as often as an addition is cheaper."""
    from stager.codegen.lower import WEIGHTS

    total = 0.0
    for node in nodes:
        family, name = node.op.family, node.op.name
        if node.regions:
            inner = [scope.inner(node, region, course.fresh) for region in node.regions]
            total += _turns(scope, node) * max(_work(course, s, s.graph.nodes) for s in inner)
        elif name in ("slice_update", "scatter"):
            total += _bytes(scope, node.args[1])
        elif name == "gather":
            one = all(i.type.shape == () for i in node.args[1:])  # a view
            total += 0 if one else _bytes(scope, Value(node))
        elif family in ("elementwise", "structural"):
            total += _bytes(scope, Value(node)) * WEIGHTS.get(name, 1)
        elif name == "dot":
            x, y = node.args
            inside = (*node.params["contract"][1], *node.params["batch"][1])
            outside = [d for k, d in enumerate(y.type.shape) if k not in inside]
            total += _bytes(scope, x) * _elements(scope, outside)
        elif family not in ("source", "view"):
            total += sum(_bytes(scope, v) for v in (*node.args, *node.outputs))
    return total


def _turns(scope: Scope, node: Node) -> float:
    """How often the region of a control node runs, at most; infinity where it is not known."""
    if node.op.name == "switch":
        return 1.0
    if node.op.name == "map":
        size = scope.dim(node.params["size"])
        return math.inf if size is None else _most(scope, size)
    if node.op.name != "for":
        return math.inf
    low, high = (scope.index(v) for v in node.args[:2])
    if low is None or high is None:
        return math.inf
    step: int = node.params["step"]
    return _most(scope, high - low if step > 0 else low - high) / abs(step)
