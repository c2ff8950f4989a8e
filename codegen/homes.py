"""Arrays that a turn fills and then copies into its part of a larger one are filled there.

What an inner loop keeps for its way back is an array, of which the loop around keeps one per turn: without this, each
would be written to one place and copied to the other. Legal where the small array lives in one turn, and the turn
touches nothing else of the large one.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.book import uses_of
from stager.codegen.program import (
    Buffer,
    Instr,
    Loop,
    LoopAxis,
    MapLanes,
    Nest,
    Program,
    Storage,
    Store,
    Switch,
    While,
    walk,
)
from stager.ir.dims import Dim, contiguous_strides, product, symbols_of

REGISTERS = 256
"""So few bytes may be registers: they are copied to where they are kept."""


def settle(program: Program) -> None:
    """Gives arrays of turns their place in the larger ones; inner loops first."""
    _Homes(program).bodies(program.steps, set(program.symbols))


class _Homes:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.uses = uses_of(program)
        self.fixed = {id(b.storage) for b in program.inputs}  # what does not move, and takes nothing in
        walk(program.steps, self._note)

    def _note(self, s: Any) -> None:
        if isinstance(s, Loop | While):
            self.fixed.update(id(x) for x in s.moving)
        elif isinstance(s, MapLanes):
            self.fixed.update(id(x) for x in (*s.private, *s.own))
        elif isinstance(s, Nest):
            self.fixed.update(s.scratch)

    def bodies(self, steps: list[Any], known: set[str]) -> None:
        for s in steps:
            match s:
                case Loop() | MapLanes():
                    inside = known | {s.symbol, *s.also}
                    self.bodies(s.body, inside)
                    self.turn(s.body, inside)
                case While():
                    self.bodies(s.body, known)
                case Switch():
                    for branch in s.branches:
                        self.bodies(branch, known)

    def turn(self, body: list[Any], known: set[str]) -> None:
        """Lets what one turn copies be computed where it is copied to."""
        mine: set[int] = set()
        walk(body, lambda s: mine.add(id(s)))
        for nest in [s for s in body if isinstance(s, Nest)]:
            if nest.outer or nest.first or len(nest.leaves) != 1 or nest.leaves[0].stage.sequential:
                continue
            (leaf,) = nest.leaves
            stage = leaf.stage
            for store in list(stage.stores):
                value = stage.body[store.value]
                by = self._moved_by(store, value, leaf.loops, known)
                if by is None or not self._lives_here(value.data[0].storage, mine):
                    continue
                if not self._takes_in(store.buffer.storage, nest, mine):
                    continue
                stage.stores.remove(store)
                self._move(value.data[0].storage, store.buffer.storage, by)
            if stage.is_idle:
                body.remove(nest)

    def _moved_by(self, store: Store, value: Instr, loops: list[LoopAxis], known: set[str]) -> Dim | None:
        """How far behind its place in the small array each element of it stands in the large one."""
        if value.op != "load" or store.combine != "set" or store.at.is_dynamic:
            return None
        source, at = value.data
        size = source.dtype.itemsize
        shape = tuple(a.extent for a in loops)
        dense = [(a.var, c) for a, c in zip(loops, contiguous_strides(shape, size), strict=True) if a.extent != 1]
        if at.const != 0 or sorted(at.terms) != sorted(dense) or product(shape) * size != source.storage.nbytes:
            return None
        by = store.at.const
        if store.at.terms != at.terms or source.dtype is not store.buffer.dtype or not symbols_of(by) <= known:
            return None
        return by

    def _lives_here(self, small: Storage, mine: set[int]) -> bool:
        """Whether an array lives in one turn, in memory that nests alone touch."""
        if small.kind not in ("temp", "stack") or id(small) in self.fixed:
            return False
        if isinstance(small.nbytes, int) and small.nbytes <= REGISTERS:
            return False
        users = self.uses[id(small)]
        return all(isinstance(s, Nest) and id(s) in mine for s in users) and not _reads(users[0], small)

    def _takes_in(self, large: Storage, nest: Nest, mine: set[int]) -> bool:
        """Whether a turn touches an array in one store of one nest only."""
        if large.kind not in ("temp", "output") or id(large) in self.fixed:
            return False
        if any(id(s) in mine and s is not nest for s in self.uses[id(large)]):
            return False
        stages = list(nest.stages())
        results: list[Any] = [x for s in stages for x in (*s.stores, *s.reductions)]
        writes = sum(x.buffer.storage is large for x in results)
        return writes == 1 and not any(b.storage is large for s in stages for b, _ in s.loads)

    def _move(self, small: Storage, large: Storage, by: Dim) -> None:
        """What lies in the small array lies in the large one, so far behind its place."""
        found = self.uses[id(large)]
        for nest in self.uses.pop(id(small)):
            for stage in nest.stages():
                for i in stage.body:
                    if i.op == "load" and i.data[0].storage is small:
                        b, at = i.data
                        i.data = (Buffer(large, b.dtype, b.shape), at.shift(by))
                results: list[Any] = [*stage.stores, *stage.reductions]
                for x in results:
                    if x.buffer.storage is small:
                        x.buffer, x.at = Buffer(large, x.buffer.dtype, x.buffer.shape), x.at.shift(by)
            if all(s is not nest for s in found):
                found.append(nest)
        self.program.storages = [s for s in self.program.storages if s is not small]


def _reads(nest: Any, storage: Storage) -> bool:
    """Whether a nest reads a storage."""
    return any(id(storage) in stage.reads() for stage in nest.stages())
