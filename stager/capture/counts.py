"""What traced loops and branches know of the buffers in use: how far counts move, how much room is taken, and which
arrays the lists hold copies of."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from stager.array import wrap
from stager.capture.buffers import UNKNOWN, Buffer
from stager.capture.courses import Course
from stager.capture.plans import session_in_force
from stager.capture.session import current
from stager.cells import Cell
from stager.concrete import run_segment, settled_value
from stager.ir.dims import Dim, Expr, evaluate, symbols_of
from stager.ir.graph import Graph
from stager.ir.passes.dead import dead_code, dead_results, needed_inputs
from stager.ir.regions import edit_region
from stager.ops.regions import dim_value, known_dim
from stager.ops.silence import silenced
from stager.staged import CHOSEN, UserRegion, decline

Raw = Any


@contextlib.contextmanager
def running(course: Course | None) -> Iterator[None]:
    """Context: the turns of a loop are traced."""
    s = current()
    if s is None:
        yield
        return
    s.turns.append(None if course is None else course.turns)
    try:
        yield
    finally:
        s.turns.pop()


def rooms_taken() -> list[tuple[Buffer, Dim]]:
    """How much room each buffer in use needs so far."""
    s = current()
    return [] if s is None else [(b, b.room) for b in s.buffers]


def take_rooms(rooms: Sequence[tuple[Buffer, Dim]]) -> None:
    """Before a trace that was begun already begins again."""
    for b, room in rooms:
        b.room = room


# -- what lists hold -----------------------------------------------------------------------------------------------


def held_cells() -> set[int]:
    """The ids of the cells of which the buffers in use hold copies."""
    s = current()
    return set() if s is None else {id(cell) for b in s.buffers for cell, _ in b.held}


def held_lists() -> set[int]:
    """The ids of the lists and dicts of which they hold copies."""
    s = current()
    return set() if s is None else {i for b in s.buffers for c in [*b.lists, *b.borrowed] for i in c.ids()}


def hold(cell: Cell) -> None:
    """A variable's array is one that a list holds a copy of: it takes no writes."""
    cell.read_only = CHOSEN
    for b in session_in_force().buffers:
        b.held.append((cell, cell.written))


def held_over_turns(carries: Sequence[Any]) -> set[int]:
    """`held_cells` with those that later turns find in their variables. Declines writes into them.

    The region of the loop is in force; its carries have given their outputs.
    """
    held = held_cells()
    if not held:
        return held
    pairs = [(a, b) for c in carries for a, b in zip(c.entered, c.left, strict=True) if b is not None]
    before = 0
    while before != len(held):
        before = len(held)
        held |= {id(begun) for begun, left in pairs if id(left) in held}
    altered = any(b.altered for b in session_in_force().buffers)
    if any((begun.written and id(begun) in held) or (altered and id(left) in held) for begun, left in pairs):
        decline("writing into an array that a list holds")
    return held


def hold_left(carries: Sequence[Any], held: set[int]) -> None:
    """After the loop: its variables that still hold one of them."""
    for c in carries:
        for cell, left in zip(c.starts_as, c.left, strict=True):
            if left is not None and id(left) in held and cell.type.shape:
                hold(cell)


# -- counts that are known --------------------------------------------------------------------------------------------


def step_of(region: UserRegion, cell: Cell) -> Dim | None:
    """By how much the region, which is in force, moves an integer that it found in an older cell; None if unknown."""
    k = region.touched.get(cell)
    begun = region.inputs[k] if k is not None else region.declared.get(cell)
    if begun is None and cell in region.literals:
        begun = region.local(region._around(cell))
    if begun is None:
        return 0
    now, then = known_dim(cell.read()), known_dim(begun)
    return None if now is None or then is None else now - then


def total(step: Dim | None, course: Course, index: Raw) -> Dim | None:
    """What all turns of a loop come to, of which each moves by `step`; its region is in force."""
    if step is None or not isinstance(step, Expr):
        return None if step is None or course.turns is None else course.turns * step
    own = known_dim(index)
    if own is None or course.count is None or symbols_of((step,)) - symbols_of((own,)):
        return None
    (name,) = symbols_of((own,))
    return sum([evaluate(step, {name: i}) for i in range(course.lower, course.upper, course.step)])


def counts() -> list[Cell]:
    """The cells of the counts of the buffers in use."""
    s = current()
    return [] if s is None else [cell for b in s.buffers if b.plan.grows for cell in b.cells()]


def marks() -> list[Any]:
    """What is noted of the lists and dicts in use that begin blank."""
    s = current()
    return [] if s is None else [b.marks for b in s.buffers if b.marks is not None]


def has_room() -> Any:
    """A traced test whether all lists that are tried with little room have had enough so far; None where none is."""
    s = current()
    tests: list[Any] = [] if s is None else [b.most <= b.capacity for b in s.buffers if b.most is not None]
    return functools.reduce(operator.and_, tests) if tests else None


def moved_by(value: Raw, by: Dim) -> Raw:
    """An integer and a dim."""
    from stager.ops.elementwise import add

    known = known_dim(value)
    return add(value, dim_value(by)) if known is None else dim_value(known + by)


class Part(NamedTuple):
    """What some outputs of a graph need: a graph, and which of the captured values go into it."""

    graph: Graph
    captured: list[Raw]


def part_for(graph: Graph, captured: Sequence[Raw], outputs: Sequence[int]) -> Part | None:
    """What gives these outputs of a graph that is thrown away. None where it needs what has no size yet.

    Checks in the graph do not count: they are made where it really runs.
    """
    quiet = silenced(graph, checks=True)
    quiet.outputs = [quiet.outputs[k] for k in outputs]
    quiet = dead_code(dead_results(quiet))
    found = needed_inputs(quiet, range(len(outputs)))
    named = {name for node in quiet.nodes for name in node.mentioned_symbols()}  # by operands that nothing needs, too
    found |= {d.source for name, d in quiet.symbols.items() if name in named and d.kind != "data"}
    needed = sorted(found)
    quiet = edit_region(quiet, needed, quiet.outputs, unneeded=True)
    return None if _is_endless(quiet) else Part(quiet, [captured[k] for k in needed])


def _is_endless(graph: Graph) -> bool:
    """Whether arrays in a graph have room for an unknown number of items."""
    return any(
        any(map(_is_endless, node.regions)) or any(_constant(d) >= UNKNOWN for t in node.types for d in t.shape)
        for node in graph.nodes
    )


def _constant(d: Dim) -> int:
    return max([abs(c) for _, c in d.terms], default=0) if isinstance(d, Expr) else d


def settled(part: Part | None) -> list[Any] | None:
    """The values that go into it where they follow from constants and int arguments; None where data decide.

    The code is specialised on these arguments.
    """
    if part is None or any(x.type.shape or x.type.dtype.kind not in "iub" for x in part.captured):
        return None
    values = [settled_value(wrap(x)) for x in part.captured]
    return None if any(x is None for x in values) else values


def known_values(graph: Graph, captured: Sequence[Raw], outputs: Sequence[int]) -> list[Any] | None:
    """Outputs of a graph where no data decide about them."""
    part = part_for(graph, captured, outputs)
    values = settled(part)
    return None if part is None or values is None else list(run_segment(part.graph, values))
