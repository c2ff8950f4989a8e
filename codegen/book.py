"""Where every storage of a program is used: what the passes that merge and move storages keep up to date."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stager.codegen.contract import touched
from stager.codegen.program import Buffer, Loop, MapLanes, Nest, Program, Storage, Switch, While, walk


class Book:
    """Which buffers lie in a storage, and where in program order a storage is used."""

    def __init__(self, program: Program) -> None:
        self.buffers: dict[int, list[Buffer]] = {}
        self.storages: dict[int, Storage] = {}
        self.steps: dict[int, list[tuple[int, Any]]] = {}
        self.bodies: dict[int, tuple[int, ...]] = {}  # step -> the loops that it stands in
        self.places: dict[int, int] = {}  # step -> its position
        self.program = program
        self.position = 0
        self.swapping: set[int] = set()  # storages that some loop swaps
        self.loops: list[Any] = []
        self._visit(program.steps, ())

    def _visit(self, steps: list[Any], inside: tuple[int, ...]) -> None:
        for s in steps:
            self.position += 1
            self.bodies[id(s)] = inside
            self.places[id(s)] = self.position
            if isinstance(s, Loop | While):
                self.swapping.update(id(x) for x in s.moving)
            for b in buffers_of(s):
                sid = id(b.storage)
                self.storages[sid] = b.storage
                self.buffers.setdefault(sid, []).append(b)
                uses = self.steps.setdefault(sid, [])
                if not uses or uses[-1][1] is not s:
                    uses.append((self.position, s))
            match s:
                case Loop() | MapLanes():
                    if isinstance(s, Loop):
                        self.loops.append(s)
                    self._visit(s.body, (*inside, id(s)))
                case While():
                    self.loops.append(s)
                    self._visit(s.test, (*inside, id(s)))
                    self._visit(s.body, (*inside, id(s)))
                case Switch():
                    for k, branch in enumerate(s.branches):
                        self._visit(branch, (*inside, id(s) + k + 1))

    def adopt(self, step: Any, beside: Any) -> None:
        """Notes a new step that stands in the same body as another one."""
        self.bodies[id(step)] = self.bodies[id(beside)]
        self.places[id(step)] = self.places[id(beside)]
        for b in buffers_of(step):
            self.use(b, step)

    def use(self, b: Buffer, step: Any) -> None:
        """Notes a new buffer of a step."""
        sid = id(b.storage)
        self.storages[sid] = b.storage
        self.buffers.setdefault(sid, []).append(b)
        uses = self.steps.setdefault(sid, [])
        if all(s is not step for _, s in uses):
            uses.append((self.places[id(step)], step))
            uses.sort(key=lambda x: x[0])

    def merge(self, old: Storage, new: Storage) -> None:
        """Everything in `old` lies in `new` from now on."""
        moved = self.buffers.pop(id(old))
        for b in moved:
            b.storage = new
        self.buffers.setdefault(id(new), []).extend(moved)
        uses = self.steps.pop(id(old)) + self.steps.get(id(new), [])
        seen: dict[int, tuple[int, Any]] = {}
        for at, s in uses:
            seen.setdefault(id(s), (at, s))
        self.steps[id(new)] = sorted(seen.values(), key=lambda x: x[0])
        self.program.storages = [s for s in self.program.storages if s is not old]
        if id(old) in self.swapping:  # an inner loop swaps it: that loop swaps the storage it lies in now
            self.swapping.discard(id(old))
            self.swapping.add(id(new))
            for loop in self.loops:
                loop.swaps[:] = [(new if c is old else c, new if t is old else t) for c, t in loop.swaps]
                for trade in loop.trades:
                    trade.places = [new if x is old else x for x in trade.places]
                    trade.kept = [new if x is old else x for x in trade.kept]


def uses_of(program: Program) -> dict[int, list[Any]]:
    """The steps that touch each storage, in program order."""
    uses: dict[int, list[Any]] = {}

    def look(step: Any) -> None:
        for b in buffers_of(step):
            found = uses.setdefault(id(b.storage), [])
            if not found or found[-1] is not step:
                found.append(step)

    walk(program.steps, look)
    return uses


def put_before_loops(steps: list[Any], take: Callable[[Loop | While], list[Any]]) -> None:
    """Puts what `take` makes of each loop, or removes from it, in front of it; inner loops first."""
    at = 0
    while at < len(steps):
        s = steps[at]
        match s:
            case Loop() | While():
                put_before_loops(s.body, take)
                taken = take(s)
                steps[at:at] = taken
                at += len(taken)
            case MapLanes():
                put_before_loops(s.body, take)
            case Switch():
                for b in s.branches:
                    put_before_loops(b, take)
        at += 1


def buffers_of(step: Any) -> list[Buffer]:
    """The buffers that a step itself touches."""
    if isinstance(step, Nest):
        out: list[Buffer] = []
        for stage in step.stages():
            out.extend(b for b, _ in stage.loads)
            out.extend(s.buffer for s in stage.stores)
            out.extend(r.buffer for r in stage.reductions)
        return out
    return touched(step)
