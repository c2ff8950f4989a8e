"""A `while` of whose turns Python numbers alone decide: `while t < T: …; t += dt` in a traced function.

    k = 0                                   for turn in range(5):
    while k < 10:                              k = 2 * turn
        x = step(x, k)             ->          x = step(x, k)
        k += 2                              k = 10

A trace that is thrown away shows what the test and the numbers need; where no data take part in it, that much is run at
once. So the number of turns is known, and what the numbers are afterwards, in Python's own arithmetic: they are Python
numbers again. The loop is staged as a `for` of as many turns; an integer that each turn moves by the same is no more
than its index. What jumps out (`while True: … break`) stays a `while`.

Everything else goes on in Python: few turns, numbers that may leave 64 bits, bodies that cannot be staged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from stager.array import Array, as_array
from stager.capture.appending import Contents, buffered
from stager.capture.buffers import UNKNOWN
from stager.capture.counts import Part, part_for, settled
from stager.capture.courses import of_range
from stager.capture.growing import growing_lists, sinks
from stager.capture.loops import FEW, decline_loop, stage_for, stage_while, touches_traced
from stager.capture.owners import NeedsBufferError, Owner
from stager.capture.session import current
from stager.capture.variables import Variables, mutable_ids, unshared
from stager.capture.while_node import Counting
from stager.cells import discard_overlays
from stager.concrete import run_segment
from stager.errors import ConcretizationError, ControlFlowError, StagerError
from stager.ir.core_ops import fill_op
from stager.ir.dtypes import i64
from stager.ir.graph import Graph
from stager.ops.regions import Captures, known_dim
from stager.staged import UserRegion, as_raw, close_regions, inside, leaf_type

Closure = Callable[..., Any]
Names = tuple[str, ...]

GROWING = ("mul", "pow", "shl")
# what Python computes to another last bit: a turn could be one too many
NEARLY = frozenset({
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "cos", "cosh", "digamma", "erf", "erfc",
    "erfinv", "exp", "exp2", "expm1", "gamma", "hypot", "lgamma", "log", "log10", "log1p", "log2", "logaddexp",
    "logaddexp2",
    "polygamma", "pow", "sin", "sinh", "tan", "tanh",
})  # fmt: skip
MANY = 64  # turns of a loop that multiplies integers, and it is staged in spite of their size


class Course(NamedTuple):
    """How such a loop goes."""

    turns: int
    ends: dict[str, Any]  # the Python numbers afterwards
    steps: dict[str, int]  # by how much each turn moves an integer
    nested: bool  # whether loops inside that numbers decide about were taken for others


class Watching(Counting):
    """A body that counts its turns, and watches by how much each moves the integers."""

    def __init__(self, body: Closure, variables: Variables, numbers: list[str]) -> None:
        super().__init__(body)
        self.variables = variables
        self.numbers = numbers
        self.steps: dict[str, int] = {}

    def __call__(self) -> Any:
        before = {n: self._known(n) for n in self.numbers}
        signal = super().__call__()
        after = {n: self._known(n) for n in self.numbers}
        moved = {n: b - a for n, a in before.items() if a is not None and (b := after[n]) is not None}
        self.steps = {n: by for n, by in moved.items() if type(by) is int}
        return signal

    def _known(self, name: str) -> Any:
        x = self.variables.get(name)
        if type(x) is int:
            return x
        return known_dim(x.raw()) if type(x) is Array and x.weak and x.type.dtype is i64 else None


class Turn:
    """The body as one of a `for`: the integers that move evenly follow the index."""

    def __init__(self, body: Closure, variables: Variables, begun: dict[str, int], steps: dict[str, int]) -> None:
        self.body = body
        self.__closure__, self.__code__, self.__globals__ = body.__closure__, body.__code__, body.__globals__
        self.variables = variables
        self.begun = begun
        self.steps = steps

    def __call__(self, turn: Any) -> Any:
        for n, by in self.steps.items():
            self.variables.set(n, self.begun[n] + turn * by)
        return self.body()


def counted_while(test: Closure, body: Closure, names: Names, orelse: Closure | None, jumps: bool) -> tuple[bool, Any]:
    """Stage a `while` that begins: (whether it is, its signal)."""
    if not touches_traced(body):
        return False, None
    variables = Variables(test, body, orelse)
    own, lists = unshared(variables, names), growing_lists(variables, names)
    before = variables.snapshot()
    s = current()
    assert s is not None
    bare = list(dict.fromkeys(n.lstrip("+") for n in names))
    numbers = [n for n in bare if type(variables.get(n)) in (int, float, bool)]
    if s.counting and numbers:
        for n in numbers:
            variables.set(n, _traced(before[n]))
        s.met += 1
        return True, buffered(
            variables, lists, lambda: stage_while(test, body, names, orelse, jumps, None, turns=UNKNOWN)
        )
    course = _course(test, body, names, jumps, variables, numbers, lists) if numbers else None
    if course is None or course.turns <= FEW:
        return False, None
    steps = {} if jumps else {n: course.steps[n] for n in course.ends if n in course.steps}
    turn = Turn(body, variables, before, steps)
    carried = tuple([n for n in names if n.lstrip("+") not in steps])

    def staged() -> Any:
        if jumps:
            for n in numbers:
                variables.set(n, _traced(before[n]))
            return stage_while(test, body, names, orelse, True, None, entry=True)
        return stage_for(of_range(range(course.turns)), turn, carried, None, False, 0, own, lists)

    try:
        signal = buffered(variables, lists, staged)
    except (ControlFlowError, ConcretizationError) as e:
        variables.restore(before)
        decline_loop(body, e)
        return False, None
    for n, value in course.ends.items():
        variables.set(n, value)
    return True, signal if jumps or orelse is None else orelse()


def _traced(x: Any) -> Array:
    a = as_array(x)
    return Array(a.cell, a.path, a.type, type(x) is not bool)


def _course(
    test: Closure, body: Closure, names: Names, jumps: bool, variables: Variables, numbers: list[str],
    lists: dict[int, Any],
) -> Course | None:  # fmt: skip
    """How the loop goes; None where data, or what cannot be staged, decide.

    To the first trace loops inside are no more than loops, whatever decides about their turns, and lists keep nothing.
    So a nest is traced once for each loop around, and once more. Where that does not show how the loop goes, the second
    trace looks at the loops inside as at this one.
    """
    s = current()
    assert s is not None
    sunk: dict[int, Any] = {}
    while True:
        owner = Owner({i: items for i, items in lists.items() if i not in sunk})
        s.owners.append(owner)
        try:
            found = _shown(test, body, names, jumps, variables, numbers, lists, sunk)
            break
        except NeedsBufferError as e:
            if e.owner is not owner:
                raise
            sunk[id(e.items)] = e.items
        finally:
            s.owners.remove(owner)
    if found is None and not s.met and not sunk:
        return None  # the other trace would show the same
    if found is not None:
        uneven = [n for n, x in found.ends.items() if type(x) is int and n not in found.steps]
        if not (found.nested and uneven):
            return found
    return _shown(test, body, names, jumps, variables, numbers, lists, None)


def _shown(
    test: Closure, body: Closure, names: Names, jumps: bool, variables: Variables, numbers: list[str],
    lists: dict[int, Any], sunk: dict[int, Any] | None,
) -> Course | None:  # fmt: skip
    """What a trace that is thrown away shows of how the loop goes. sunk: lists that keep nothing."""
    s = current()
    assert s is not None
    region = UserRegion("counted", Captures())
    variables.mark(region, mutable_ids(variables.snapshot()))
    before, contents = variables.snapshot(), Contents(lists)
    active, turns, declined = list(s.buffers), list(s.turns), len(s.declined)
    s.counting, s.met = sunk is not None, 0
    try:
        with inside(region):
            for n in numbers:
                variables.set(n, _traced(before[n]))
            counting = Watching(body, variables, numbers)

            def run() -> None:
                stage_while(test, counting, names, None, jumps, None, turns=UNKNOWN)

            if sunk is None:
                buffered(variables, lists, run)
            else:
                with sinks(variables, sunk):
                    run()
            ends = {n: x for n in numbers if (x := _number(variables.get(n))) is not None}
            region.graph.outputs = [region.local(x) for x in (counting.turns.raw(), *ends.values())]
            region.close()
        (graph,), _, captured = close_regions([region], [()], ())
    except (StagerError, TypeError, ValueError, IndexError, KeyError, AttributeError, NameError, ArithmeticError):
        return None  # in Python it either runs, or fails as it should
    finally:
        s.counting = False
        s.buffers[:], s.turns[:] = active, turns
        del s.declined[declined:]
        discard_overlays(region)
        variables.restore(before)
        contents.restore()
    known = [k for k in range(len(graph.outputs)) if _is_pythons(part_for(graph, captured, [k]))]
    if 0 not in known:
        return None
    part = part_for(graph, captured, known)
    assert part is not None
    count, *values = [x.item() for x in run_segment(part.graph, settled(part) or [])]
    if count <= MANY and _may_overflow(part.graph):
        return None
    named = list(ends)
    values_after = {named[k - 1]: x for k, x in zip(known[1:], values, strict=True)}
    return Course(count, values_after, counting.steps, s.met > 0)


def _number(x: Any) -> Any:
    """The raw value in the region of what is a Python number there, else None."""
    if type(x) in (int, float, bool):
        return as_raw(x, leaf_type(x)[0].dtype)
    same = type(x) is Array and not x.type.shape and x.type in [leaf_type(k)[0] for k in (0, 0.0, True)]
    return x.raw() if same and (x.weak or x.type.dtype.kind == "b") else None


def _is_pythons(part: Part | None) -> bool:
    """Whether a part of the graph gives what Python's numbers would, and no data decide about it."""
    return part is not None and settled(part) is not None and not _is_near(part.graph)


def _is_near(graph: Graph) -> bool:
    return any(node.op.name in NEARLY or any(map(_is_near, node.regions)) for node in graph.nodes)


def _may_overflow(graph: Graph) -> bool:
    """Whether integers are multiplied or added to each other, so that few turns take them out of 64 bits."""
    for node in graph.nodes:
        if any(map(_may_overflow, node.regions)):
            return True
        if node.types and node.types[0].dtype.kind in "iu":
            literals = sum([a.node.op is fill_op for a in node.args])
            if node.op.name in GROWING or (node.op.name in ("add", "sub") and not literals):
                return True
    return False
