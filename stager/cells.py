"""Cells: the storage behind user-facing arrays, and how writes reach it through views and levels.

An `Array` is a handle: a cell and a path of view ops. Reading replays the path on the cell's value; writing walks it
back with each view op's `write_back`. So rules and interpreters only ever see pure ops.

A cell belongs to the level that made it. A write from a deeper level goes to an overlay of that level; when the level
ends normally the overlay is lowered and committed one level down, on an exception it is dropped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from stager.errors import MutationError, describe
from stager.interpreters.stack import Interpreter, bind, stack
from stager.interpreters.stage import StageInterpreter
from stager.interpreters.vmap import BatchTracer, VmapInterpreter
from stager.ir.dims import product
from stager.ir.op import Op
from stager.ir.types import Type

_versions = itertools.count(1)


class Reach(Protocol):
    """Another array that a write into a cell may have to reach."""

    def hand_on(self, path: tuple[Any, ...], part: Any, here: bool) -> None:
        """The view at `path` shows `part` now. here: the cell's own level is in force."""

    def check(self) -> None:
        """Make the run fail where a write would have to reach it."""


class Cell:
    """One storage. `origin` is the caller's ndarray that it stands for, if any; `label` names it in errors."""

    __slots__ = (
        "label", "lane", "lent", "may_be", "origin", "overlays", "owner", "place", "reaches", "read_only", "type",
        "value", "version", "written",
    )  # fmt: skip

    def __init__(self, value: Any, owner: Interpreter | None, label: str = "") -> None:
        self.value = value
        self.type: Type = value.type
        self.owner = owner
        self.version = 0
        self.overlays: dict[Interpreter, Any] | None = None
        self.origin: Any = None
        self.label = label
        self.read_only: bool | str = False  # a text says why
        self.written = 0  # when last, counted in writes
        self.may_be: tuple[tuple[Cell, int, Any], ...] = ()
        self.reaches: tuple[Reach, ...] = ()  # the cells that a write into this one may have to reach
        self.lent: Any = None  # of an argument inside a level: the handle outside
        self.place: int | None = None  # of an array of the caller of compiled code: which input of the graph it is
        self.lane: int | None = None  # the axis of that handle which this has not: the level maps over it

    def stand_for(self, cells: Sequence[Cell]) -> None:
        """This is a copy of one of the cells, which traced control flow chose: a write into one of them ends it."""
        found = {id(c): c for cell in cells for c in (cell, *[older for older, _, _ in cell.may_be])}
        self.may_be = tuple([(c, c.version, c.seen()) for c in found.values()])

    def stand_beside(self, other: Cell) -> None:
        """As long as their levels run these are one storage under two names: a write into one ends the other."""
        for a, b in ((self, other), (other, self)):
            kept = [x for x in a.may_be if x[0] is not b and not x[0].is_returned()]
            a.may_be = (*kept, (b, b.version, b.seen()))

    def is_returned(self) -> bool:
        """Whether this was an argument of a level or a call that has ended."""
        return self.lent is RETURNED or (self.lent is not None and self.owner is not None and not self.owner.alive)

    def refuse_ended(self, by: Any = None) -> None:
        """Raise when one of the cells that this one may be has been written since. `by`: the handle that is read."""
        for cell, version, value in self.may_be:
            if cell.version != version and not cell.is_returned() and cell.seen() is not value:
                if by is not None and cell.lent is not None and apart(by, cell.lent):
                    continue
                why = (
                    "it is one of several arrays, chosen by traced control flow, and one of them has been written since"
                )
                if self.lent is not None or cell.lent is not None:
                    why = (
                        "it shares memory with an argument of a transformed function, and one of them has been written"
                    )
                text = f"a read of an array that may have been written under another name: {why}"
                raise MutationError(describe(text, remedy="let the other name hold a copy"))

    def seen(self) -> Any:
        """The value as the last write left it, for the level in force."""
        if self.overlays:
            s = stack()
            for interp in reversed(s.levels[: s.depth]):
                if interp in self.overlays:
                    value = self.overlays[interp]
                    if interp in REGIONS and interp.took(self, value):  # type: ignore[attr-defined]
                        continue
                    return value
                if interp is self.owner:
                    break
        return self.value

    def read(self, by: Any = None) -> Any:
        """The raw value that the level in force sees. `by`: the handle through which it is read, if there is one."""
        if self.may_be:
            self.refuse_ended(by)
        if self.overlays or REGIONS:
            overlays = self.overlays or {}
            s = stack()
            for interp in reversed(s.levels[: s.depth]):
                if interp in overlays:
                    return overlays[interp]
                if interp is self.owner:
                    break
                if interp in REGIONS:
                    return interp.touch(self)  # type: ignore[attr-defined]
        return self.value

    def write(self, value: Any, path: Sequence[ViewStep] = (), part: Any = None) -> None:
        """Replace the whole value, at the level in force. path, part: the view that differs, and what it shows now."""
        self.take(value)
        if self.reaches:
            s = stack()
            here = self.owner is None or not s.depth or s.levels[s.depth - 1] is self.owner
            for reach in self.reaches:
                reach.hand_on(tuple(path), value if part is None else part, here)
            self.may_be = tuple([(c, c.version, c.seen()) for c, _, _ in self.may_be])

    def take(self, value: Any) -> None:
        """Replace the whole value, at the level in force, by what writes at another level have made of it."""
        if self.read_only:
            if isinstance(self.read_only, str):
                raise MutationError(describe(self.read_only, remedy="write into a copy of it"))
            raise ValueError(describe("assignment destination is read-only"))
        s = stack()
        level = s.levels[s.depth - 1] if s.depth else None
        self.written = next(_versions)
        if level is self.owner or self.owner is None or level is None:
            self.value = value
        else:
            _refuse_lanes(self, value)
            if self.overlays is None:
                self.overlays = {}
            if level not in self.overlays:
                _overlaid(level).append(self)
            self.overlays[level] = value
        if self.place is not None and isinstance(level, StageInterpreter):
            level.changed[self] = None
        self.version = next(_versions)

    def drop_overlay(self, level: Interpreter) -> Any:
        """Remove and return a level's overlay."""
        assert self.overlays is not None
        self.version = next(_versions)
        return self.overlays.pop(level)


def apart(x: Any, y: Any) -> bool:
    """Whether two handles on one cell are known to share no element."""
    if x.cell is not y.cell:
        return False
    try:
        one, other = _places(x), _places(y)
    except (TypeError, ValueError, AttributeError):  # sizes or positions that only the run knows
        return False
    return not np.isin(one, other).any()


def _places(x: Any) -> np.ndarray[Any, Any]:
    """The elements of its cell that a handle shows, by number."""
    shape = x.cell.type.shape
    at = np.arange(math.prod(shape)).reshape(shape)
    for step in x.path:
        if type(step) not in (ViewStep, Element):
            raise ValueError
        at = step.op.reference(at, **step.params)
    return at


REGIONS: set[Interpreter] = set()  # regions of user code in force: older cells enter them as inputs (`staged.py`)
_OVERLAID: dict[Interpreter, list[Cell]] = {}


def _overlaid(level: Interpreter) -> list[Cell]:
    return _OVERLAID.setdefault(level, [])


def overlaid_cells(level: Interpreter) -> list[Cell]:
    """The older cells that have been written at `level` so far, in order of first write."""
    return list(_OVERLAID.get(level, ()))


def commit_overlays(level: Interpreter) -> None:
    """A level ends normally: its writes to older cells reach the level below. Call with the level below in force."""
    for cell in _OVERLAID.pop(level, ()):
        cell.take(level.lower_value(cell.drop_overlay(level)))


def take_writes(level: Interpreter) -> list[tuple[Cell, Any]]:
    """The older cells that have been written at `level`, which is in force, with their values; the writes are carried
    to them some other way."""
    written = [(cell, cell.seen()) for cell in overlaid_cells(level)]
    discard_overlays(level)
    return written


def discard_overlays(level: Interpreter) -> None:
    """A level ends with an exception (or its writes are carried some other way): its writes vanish."""
    for cell in _OVERLAID.pop(level, ()):
        cell.drop_overlay(level)


def _refuse_lanes(cell: Cell, value: Any) -> None:
    """Writing what differs between lanes into a cell older than the vmap cannot be given a meaning."""
    s = stack()
    for interp in reversed(s.levels[: s.depth]):
        if interp is cell.owner:
            return
        if isinstance(interp, VmapInterpreter):
            if type(value) is BatchTracer and value.interp is interp:
                name = f" {cell.label!r}" if cell.label else ""
                raise MutationError(
                    describe(
                        f"vmap: a value that differs between lanes is written into the array{name} of shape "
                        f"{tuple(cell.type.shape)}, which is older than the vmap and so is shared by all lanes",
                        remedy="map over the array with in_dims, or create the buffer inside the mapped function",
                    )
                )
        else:
            value = interp.lower_value(value)


RETURNED = object()
"""What `lent` is of an argument that was written back to where it came from."""


class ViewStep:
    """One view op of a path."""

    __slots__ = ("op", "params")
    read_only = False
    number = False  # whether the view stands for a NumPy scalar, which is never written

    def __init__(self, op: Op, params: dict[str, Any]) -> None:
        self.op = op
        self.params = params

    def read(self, base: Any) -> Any:
        """The view of a raw value."""
        return bind(self.op, base, **self.params)

    def write(self, base: Any, update: Any) -> Any:
        """`base` with the view's elements replaced."""
        if self.op.write_back is None:
            raise ValueError(describe("assignment destination is read-only: it is a broadcast view"))
        return self.op.write_back(base, update, **self.params)


class Element(ViewStep):
    """The end of a path to one element that stands for a NumPy scalar: `+=` makes another one."""

    __slots__ = ()
    number = True


class PickStep(ViewStep):
    """A view at traced integer positions along `axes`: `A[i]`, `A[:, j]`, `A[::k]`. `op` is gather."""

    __slots__ = ("positions",)

    def __init__(self, op: Op, axes: tuple[int, ...], positions: Sequence[Any], mode: str = "check") -> None:
        super().__init__(op, {"axes": axes, "batch_dims": 0, "mode": mode})
        self.positions = tuple(positions)

    def read(self, base: Any) -> Any:
        return bind(self.op, base, *self.positions, **self.params)

    def write(self, base: Any, update: Any) -> Any:
        from stager.ops.indexed import scatter

        return scatter(base, update, *self.positions, **self.params, combine="set")


def replay(value: Any, path: Sequence[ViewStep]) -> Any:
    """The value that a path of views reads."""
    for step in path:
        value = step.read(value)
    return value


def write_through(cell: Cell, path: Sequence[ViewStep], update: Any) -> None:
    """Write `update` where the path of views points."""
    first = next((k for k, step in enumerate(path) if step.op.name == "windows"), len(path))
    if first < len(path) - 1 and not any(step.read_only for step in path):
        _write_beside(cell, path[:first], path[first:], update)
        return
    part = update
    bases = [cell.read()]
    for step in path[:-1]:
        bases.append(step.read(bases[-1]))
    for step, base in zip(reversed(path), reversed(bases), strict=True):
        update = step.write(base, update)
    cell.write(update, path, part)


def _write_beside(cell: Cell, path: Sequence[ViewStep], windows: Sequence[ViewStep], update: Any) -> None:
    """Write into a part of windows, which share elements with the others: only the elements that it shows change."""
    from stager.ops.indexed import scatter
    from stager.ops.structural import iota
    from stager.ops.views import reshape

    base = replay(cell.read(), path)
    shape = base.type.shape
    size = product(shape)
    places = replay(reshape(iota(size), shape=shape), windows)
    count = product(places.type.shape)
    written = scatter(
        reshape(base, shape=(size,)), reshape(update, shape=(count,)), reshape(places, shape=(count,)),
        axes=(0,), batch_dims=0, mode="promise", combine="set",
    )  # fmt: skip
    write_through(cell, path, reshape(written, shape=shape)) if path else cell.write(reshape(written, shape=shape))
