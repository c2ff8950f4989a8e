"""Fills that a loop repeats: an array begins every turn with one number everywhere and gets a region of new values.

`near = np.zeros_like(b); near[1:-1, 1:-1] = f(b)`: what lies outside of the region never changes, and the region is
written anew before anything reads it. So the fill runs once, before the loop, or the fills do, of the parts around the
region. Turns that may run at the same time keep an array each, and so their fills.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from stager.codegen.book import put_before_loops, uses_of
from stager.codegen.independent import independent
from stager.codegen.program import Leaf, Loop, Nest, Program, Storage, Store, While
from stager.ir.dims import symbols_of


def hoist_fills(program: Program) -> None:
    """Moves fills out of the loops that repeat them."""
    put_before_loops(program.steps, _Fills(program, uses_of(program)).of)


class _Fills:
    """`uses`: the steps that touch a storage."""

    def __init__(self, program: Program, uses: dict[int, list[Any]]) -> None:
        self.program = program
        self.uses = uses
        self.known = set(program.symbols)  # no loop defines them

    def of(self, loop: Loop | While) -> list[Nest]:
        """The fills that a loop repeats, taken out of it."""
        found = [x for x in loop.body if isinstance(x, Nest) and self._is_fill(x, loop)]
        if found and isinstance(loop, Loop) and independent(loop, self.program):
            return []
        for nest in found:
            loop.body.remove(nest)
        return found

    def _is_fill(self, nest: Nest, loop: Loop | While) -> bool:
        """Whether a nest fills an array or a part of it, and the first fill is as good as all of them."""
        storage = self._filled(nest, loop)
        if storage is None:
            return False
        users = self.uses[id(storage)]
        fills = list(takewhile(lambda s: self._filled(s, loop) is storage, users))
        if not any(s is nest for s in fills) or any(s not in loop.body for s in users):
            return False
        readers = users[len(fills) :]
        second = readers[0] if readers else None
        for s in readers:
            if not isinstance(s, Nest):
                return False
            if s is not second and any(id(storage) in stage.writes() for stage in s.stages()):
                return False
        # the region is written whole before it is read, by every turn alike
        if (
            not isinstance(second, Nest)
            or second.first
            or any(id(storage) in stage.reads() for stage in second.stages())
        ):
            return False
        written = [(x, s) for x in second.leaves for s in x.stage.stores if s.buffer.storage is storage]
        reduced = any(r.buffer.storage is storage for x in second.leaves for r in x.stage.reductions)
        if len(written) != 1 or reduced or written[0][0].stage.sequential or written[0][1].combine != "set":
            return False
        home = Leaf([*second.outer, *written[0][0].loops], written[0][0].stage)
        return self._constant(home, written[0][1])

    def _filled(self, step: Any, loop: Loop | While) -> Storage | None:
        """The array that a step writes numbers to, the same to the same places in every turn, and does nothing else."""
        if not isinstance(step, Nest) or step.outer or step.first or len(step.leaves) != 1:
            return None
        (leaf,) = step.leaves
        stage = leaf.stage
        if stage.reductions or stage.sequential or len(stage.stores) != 1 or any(i.op != "const" for i in stage.body):
            return None
        (store,) = stage.stores
        storage = store.buffer.storage
        mine = store.combine == "set" and storage.kind == "temp" and storage not in loop.moving
        return storage if mine and self._constant(leaf, store) else None

    def _constant(self, leaf: Leaf, store: Store) -> bool:
        """Whether a store goes to the same places in every turn, following nothing that the loop computes."""
        dims = (store.at.const, *(c for _, c in store.at.terms), *(a.extent for a in leaf.loops))
        return not store.at.is_dynamic and all(symbols_of(d) <= self.known for d in dims)
