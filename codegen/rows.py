"""How a loop runs whose turns go side by side: `abreast.py` says which ones may.

Of some rows, each but the last starts alone, so far that the next one can follow; then all take turns, each an element
behind the row before; then each but the first has its last elements left. Rows that are left over run one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stager.codegen.emit import FunctionEmitter, i64
from stager.codegen.program import Buffer, Loop
from stager.ir.dims import Dim, Expr, floordiv

EmitSteps = Callable[[FunctionEmitter, list[Any]], None]


def emit_abreast(e: FunctionEmitter, s: Loop, emit_steps: EmitSteps) -> None:
    """The code of a loop over pairs of rows."""
    inner: Loop = s.body[0]
    start, rows = _bounds(s)
    from_, count = _bounds(inner)

    def element(row: Any, at: Any) -> None:
        with e.scope():
            e.define(s.symbol, row)
            e.define(inner.symbol, _turn(e, from_, inner.step, at))
            emit_steps(e, inner.body)

    together = s.abreast
    first, n = e.dim(start), e.dim(count)
    groups = floordiv(rows, together)

    def row_of(group: Any, k: Any) -> Any:
        b = e.b
        return _turn(e, first, s.step, b.add(b.mul(group, i64(together), flags=("nsw",)), k, flags=("nsw",)))

    with e.loop(0, groups, name="rows") as group:
        e.poll_sometimes(group, max(1, s.period // together))
        with e.loop(0, together - 1, name="ahead", copies=False) as k:
            row = row_of(group, k)
            with e.loop(0, e.b.sub(i64(together - 1), k), name="at", copies=False) as at:
                element(row, at)
        every = [row_of(group, i64(k)) for k in range(together)]
        with e.loop(together - 1, n, name="abreast", copies=False) as at:
            for k, row in enumerate(every):
                element(row, e.b.sub(at, i64(k), flags=("nsw",)))
        with e.loop(1, together, name="behind", copies=False) as k:
            row = row_of(group, k)
            with e.loop(e.b.sub(n, k), n, name="at", copies=False) as at:
                element(row, at)
    rest = rows - together * groups
    if isinstance(rest, int) and rest == 0:
        return
    with e.loop(0, rest, name="single") as k:
        row = row_of(e.dim(groups), k)
        with e.loop(0, n, name="at") as at:
            element(row, at)


def _bounds(s: Loop) -> tuple[Dim, Dim]:
    """Where a loop starts, and its number of turns."""
    assert not isinstance(s.lower, Buffer)
    assert not isinstance(s.upper, Buffer)
    span = s.upper - s.lower if s.step > 0 else s.lower - s.upper
    turns = floordiv(span + (abs(s.step) - 1), abs(s.step))
    return s.lower, turns


def _turn(e: FunctionEmitter, start: Any, step: int, k: Any) -> Any:
    """The index in turn k."""
    b = e.b
    by = k if step == 1 else b.mul(k, i64(step), flags=("nsw",))
    start = e.dim(start) if isinstance(start, int | Expr) else start
    return b.add(start, by, flags=("nsw",))
