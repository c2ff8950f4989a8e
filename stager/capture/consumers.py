"""`Consumer`: the body of a loop, as what it runs over gives its items to it (`yields.py`).

The variables of the loop stand in closures of another function than those of the generator. A statement of the
generator that gives items has both: `Variables` takes those of the consumer under their name and a mark, and
`carried` adds their names to what the statement carries.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CellType
from typing import Any

from stager.capture.operators import BREAK, CONTINUE, Jump, Return, settled
from stager.capture.session import cell_value

MARK = "'"  # a variable of the loop that runs over what the statement at hand gives
ENDED, RESULT = "@ended", "@result"


class Consumer:
    """The body of a loop. Called with an item it tells whether the loop has ended, as a bool or a traced one."""

    __slots__ = ("body", "can", "cells", "jumps", "names")

    def __init__(self, body: Callable[..., Any], names: tuple[str, ...], jumps: bool) -> None:
        """`jumps`: whether the body may end its loop."""
        self.body = body
        self.jumps = jumps
        self.cells = {ENDED: CellType(0), RESULT: CellType()} if jumps else {}
        self.names = (*names, *self.cells)
        self.can: frozenset[int] = frozenset()  # how the body has been seen to end

    def __call__(self, item: Any) -> Any:
        signal = settled(self.body(item))
        if not self.jumps or signal is None or signal is CONTINUE:
            return False
        from stager.capture.branches import BROKE, FELL, RETURNED, as_bool, codes_of, value_of, wrapped_where

        codes = codes_of(signal)
        ends = codes & {BROKE, RETURNED}
        if not ends:
            return False
        self.can |= ends
        if RETURNED in ends:
            self.cells[RESULT].cell_contents = value_of(signal)
        if type(signal) is Jump or type(signal) is Return:
            self.cells[ENDED].cell_contents = BROKE if signal is BREAK else RETURNED
            return True
        self.cells[ENDED].cell_contents = wrapped_where(signal.code >= BROKE, signal.code, FELL)
        return ends == codes or as_bool(signal.code >= BROKE)

    def signal(self) -> Any:
        """How the loop ended: None (it took all there was), a jump, a return or a traced signal."""
        if not self.jumps:
            return None
        from stager.capture.branches import FELL, Signal, static_signal

        code, value = cell_value(self.cells[ENDED]), cell_value(self.cells[RESULT])
        if type(code) is int:
            return static_signal(frozenset((code,)), value)
        return Signal(code, value, self.can | {FELL})

    def carried(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Names that a statement carries, with those of the loop."""
        return (*names, *[n + MARK for n in self.names])
