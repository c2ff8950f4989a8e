"""Steps that may fail: there the caller's arrays hold what the function has written so far, no more and no less."""

from __future__ import annotations

from typing import Any

from stager.codegen.book import Book
from stager.codegen.program import Check, Move, Nest, Routine, walk


def fails(steps: list[Any]) -> bool:
    """Whether something among these steps may fail."""
    found = False

    def look(s: Any) -> None:
        nonlocal found
        if isinstance(s, Nest):
            found = found or any(stage.checks for stage in s.stages())
        else:
            found = found or isinstance(s, Check) or (isinstance(s, Routine) and s.node.op.ordered)

    walk(steps, look)
    return found


def raises_before(body: list[Any], move: Move, book: Book) -> bool:
    """Whether something may fail after the first step that writes what is moved, and before it is moved."""
    writers = [s for _, s in book.steps[id(move.source.storage)]]
    first = next((k for k, s in enumerate(body) if any(s is x for x in writers)), 0)
    return fails(body[first : body.index(move)])
