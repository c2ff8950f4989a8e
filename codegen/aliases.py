"""What LLVM is told of memory: which storages share no byte.

Loads and stores name the storage that they go to, so that a value which a loop keeps in one array may stay in a
register while the loop writes others. The facts are of whole programs: two temporaries that take turns in the same
bytes of the arena are never told apart, nor are arrays that change places, nor arguments, which a caller may pass as
he likes. Storages whose place only the run decides stay unnamed. Only programs with loops of steps need to know.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.book import buffers_of
from stager.codegen.program import Loop, Program, Storage, While, walk

MOST_STORAGES = 64
"""More of them are not told apart: what is said of each lists all others."""
PLACED = ("input", "output", "constant", "temp", "stack")


class Aliases:
    """What loads and stores of one module's program say."""

    def __init__(self, module: Any, program: Program) -> None:
        self.said: dict[int, str] = {}  # by ids of storages
        partners, found = _partners(program), _storages(program)
        if partners is None or len(found) > MOST_STORAGES:
            return

        def apart(a: Storage, b: Storage) -> bool:
            return all(_apart(program, x, y) for x in partners.get(id(a), (a,)) for y in partners.get(id(b), (b,)))

        domain = module.add_metadata([program.name])
        scopes = [module.add_metadata([f"{program.name}.{k}", domain]) for k in range(len(found))]
        for s, own in zip(found, scopes, strict=True):
            others = [scope for t, scope in zip(found, scopes, strict=True) if apart(s, t)]
            if others:
                names = [module.add_metadata(nodes).get_reference() for nodes in ([own], others)]
                self.said[id(s)] = f", !alias.scope {names[0]}, !noalias {names[1]}"

    def says(self, storage: Storage) -> str:
        """What the text of an access of a storage ends in."""
        return self.said.get(id(storage), "")


def _storages(program: Program) -> list[Storage]:
    """The storages that steps touch and that have a place."""
    found = {id(b.storage): b.storage for b in (*program.inputs, *program.outputs)}
    walk(program.steps, lambda step: found.update((id(b.storage), b.storage) for b in buffers_of(step)))
    return [s for s in found.values() if s.kind in PLACED]


def _partners(program: Program) -> dict[int, list[Storage]] | None:
    """The storages that change places with a storage in some loop; None when there is no loop."""
    loops: list[Any] = []
    walk(program.steps, lambda step: loops.append(step) if isinstance(step, Loop | While) else None)
    found: dict[int, list[Storage]] = {}
    for places in (places for loop in loops for places in (*loop.swaps, *(t.places for t in loop.trades))):
        group = [*places, *(p for s in places for p in found.get(id(s), ()))]
        for s in group:
            found[id(s)] = group
    return found if loops else None


def _apart(program: Program, a: Storage, b: Storage) -> bool:
    """Whether no byte is ever part of both."""
    if a is b or a.kind == b.kind == "input":
        return False
    if not a.kind == b.kind == "temp":
        return True
    placed = [(s.offset, program.facts.maximum(s.nbytes)) for s in (a, b)]
    spans = [(at, at + size) for at, size in placed if isinstance(at, int) and isinstance(size, int)]
    if len(spans) < 2:  # what has a symbolic size lies behind the rest, in slots that have one size
        return len(spans) == 1 or a.offset != b.offset
    (start, end), (other, behind) = spans
    return end <= other or behind <= start
