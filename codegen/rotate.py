"""Two buffers instead of a copy: a loop that computes a region of its array from the array itself.

A stencil in place, `u[1:-1] = f(u)`, needs all of the old u for the new one: the region goes to a temporary and is
copied back. Where the loop writes nothing else of the array, the new region goes into a second array with the same
border instead, and the two change places. The second array is made by one copy before the loop.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.book import buffers_of, put_before_loops, uses_of
from stager.codegen.index import Ix
from stager.codegen.program import (
    Buffer,
    Leaf,
    Loop,
    MapLanes,
    Move,
    Nest,
    Program,
    Read,
    Stage,
    Storage,
    Store,
    While,
    walk,
)
from stager.ir.dims import Dim, floordiv, symbols_of

SMALL_BYTES = 512
"""A region of so few bytes is copied faster than pointers change."""


def rotate(program: Program) -> None:
    """Replaces copies back into carried arrays by a second array."""
    put_before_loops(program.steps, _Rotation(program).loop)


class _Rotation:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.uses = uses_of(program)
        self.swapping: set[int] = set()

    def loop(self, loop: Loop | While) -> list[Move]:
        """Rotates what can be in one loop; the copies that go before it."""
        before = []
        turning = _turning(loop)
        for copy in list(loop.body):
            found = _copied_region(copy)
            if found is None:
                continue
            carry, temp, leaf, store, load = found
            if symbols_of((store.at.const, *store.at.terms, *(a.extent for a in leaf.loops))) & turning:
                continue  # another region in every turn: the second array lacks what earlier turns wrote
            writer = self._writer(loop, copy, carry, temp)
            at = None if writer is None else _moved(writer[1].at, writer[0], load, store.at, leaf)
            if writer is None or at is None:
                continue
            second = Storage("temp", f"r{len(self.program.storages)}", carry.nbytes)
            self.program.storages.append(second)
            dtype = store.buffer.dtype
            size: Dim = floordiv(carry.nbytes, dtype.itemsize)
            writer[1].buffer = Buffer(second, dtype, store.buffer.shape, store.buffer.strides, store.buffer.offset)
            writer[1].at = at
            whole, other = Buffer(carry, dtype, (size,)), Buffer(second, dtype, (size,))
            loop.body[loop.body.index(copy)] = Move(whole, other, swap=True)
            loop.swaps.append((carry, second))
            self.swapping.update((id(carry), id(second)))
            self.program.storages = [s for s in self.program.storages if s is not temp]
            before.append(Move(Buffer(second, dtype, (size,)), Buffer(carry, dtype, (size,))))
        return before

    def _writer(self, loop: Loop | While, copy: Nest, carry: Storage, temp: Storage) -> tuple[Leaf, Store] | None:
        """What computes the region, when nothing else touches the temporary or writes the array in the loop."""
        if carry.kind not in ("temp", "output", "input") or temp.kind != "temp" or id(carry) in self.swapping:
            return None
        if any(b.storage is carry and not b.is_dense for b in self.program.inputs):
            return None  # the copy would not have the caller's strides
        if isinstance(carry.nbytes, int) and carry.nbytes <= SMALL_BYTES:
            return None
        users = self.uses.get(id(temp), [])
        if len(users) != 2 or users[1] is not copy or not isinstance(users[0], Nest) or users[0] not in loop.body:
            return None
        stores = [(leaf, s) for leaf in users[0].leaves for s in leaf.stage.stores if s.buffer.storage is temp]
        reads = any(b.storage is temp for stage in users[0].stages() for b, _ in stage.loads)
        reduced = any(r.buffer.storage is temp for stage in users[0].stages() for r in stage.reductions)
        if len(stores) != 1 or stores[0][1].combine != "set" or reads or reduced:
            return None
        written = False

        def look(step: Any) -> None:
            nonlocal written
            if step is copy:
                return
            if isinstance(step, Nest):
                written = written or any(id(carry) in stage.writes() for stage in step.stages())
            elif any(b.storage is carry for b in buffers_of(step)):
                written = True  # moves, routines: not worth telling apart

        inner = [loop.body] if isinstance(loop, Loop) else [loop.test, loop.body]
        for body in inner:
            walk(body, look)
        return None if written else stores[0]


def _turning(loop: Loop | While) -> set[str]:
    """The symbols that may have another value in every turn of a loop."""
    found = {loop.symbol, *loop.also} if isinstance(loop, Loop) else set()

    def look(step: Any) -> None:
        if isinstance(step, Loop | MapLanes):
            found.update((step.symbol, *step.also))
        elif isinstance(step, Read):
            found.add(step.name)

    walk([*loop.test, *loop.body] if isinstance(loop, While) else loop.body, look)
    return found


def _copied_region(step: Any) -> tuple[Storage, Storage, Leaf, Store, Ix] | None:
    """(array, temporary, leaf, store, position of the load) of a nest that only copies one into a part of the other."""
    if not isinstance(step, Nest) or len(step.leaves) != 1 or step.outer:
        return None
    (leaf,) = step.leaves
    stage: Stage = leaf.stage
    if stage.reductions or stage.sequential or len(stage.stores) != 1 or len(stage.body) != 1:
        return None
    (store,), (i,) = stage.stores, stage.body
    if i.op != "load" or store.combine != "set" or store.at.is_dynamic or i.data[1].is_dynamic:
        return None
    source, at = i.data
    if source.storage is store.buffer.storage:
        return None
    return store.buffer.storage, source.storage, leaf, store, at


def _moved(at: Ix, writer: Leaf, load: Ix, store: Ix, copier: Leaf) -> Ix | None:
    """Where the writer's element goes in the array: the copy's map from the temporary, applied to its position."""
    if at.is_dynamic or at.const != load.const:
        return None
    extents = {a.var: a.extent for a in copier.loops}
    mine = {a.var: a.extent for a in writer.loops}
    out = Ix(store.const)
    used: set[int] = set()
    for v, c in at.terms:
        found = next((u for u, d in load.terms if d == c and u not in used and extents.get(u) == mine.get(v)), None)
        if found is None or v not in mine:
            return None
        used.add(found)
        out = out.plus(Ix(0, ((v, store.coef(found)),)))
    return out if used == set(extents) else None
