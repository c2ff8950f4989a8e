"""The substitution table of calls: which callables become stager's own while tracing, by identity.

`SUBSTITUTES[original] = replacement`, with the original's signature. `stager.numpy` adds NumPy's creation functions
and others that a tracer never reaches by itself (`np.zeros`, `np.array`, `np.arange`); `builtins.py` and its
neighbours add `math`, `float`, `len` and their kin. A replacement is called only while a trace is active, and answers
as the original does when nothing it is given is traced, where that is possible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Substitutes:
    """A mapping on identity: callables need be neither hashable nor comparable."""

    def __init__(self) -> None:
        self._entries: dict[int, tuple[Any, Callable[..., Any]]] = {}

    def __setitem__(self, original: Any, replacement: Callable[..., Any]) -> None:
        self._entries[id(original)] = (original, replacement)

    def __contains__(self, original: Any) -> bool:
        return id(original) in self._entries

    def get(self, original: Any) -> Callable[..., Any] | None:
        entry = self._entries.get(id(original))
        return None if entry is None else entry[1]

    def __len__(self) -> int:
        return len(self._entries)


SUBSTITUTES = Substitutes()


def substitute(original: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: the function stands in for `original` while tracing."""

    def add(replacement: Callable[..., Any]) -> Callable[..., Any]:
        SUBSTITUTES[original] = replacement
        return replacement

    return add
