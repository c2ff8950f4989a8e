"""positions: where the true elements of a line stand.

Eight bytes of the mask are looked at together: eight false ones cost one test. Else every position is stored where the
next one belongs and stays if its element is true, so that nothing branches on the data. Such a store may come behind
the last position: the last eight results are stored under a test.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.declarations import I8, VOID
from stager.codegen.emit import I64, PTR, FunctionEmitter
from stager.codegen.program import Routine
from stager.codegen.routines import RoutineSpec
from stager.codegen.routines.lines import Lines, each_line
from stager.codegen.structured import Code

WORD = 8
"""Elements of a mask that are looked at together."""
NAME = "stager_positions"


def _line_function(e: FunctionEmitter) -> Any:
    """`void (mask, n, out, size)`, one per module."""
    found = e.module.globals.get(NAME)
    if found is not None:
        return found
    c = Code(e.module, NAME, VOID, [("mask", PTR), ("n", I64), ("out", PTR), ("size", I64)], linkage="internal")
    mask, n, out, size = (c.arg(name) for name in ("mask", "n", "out", "size"))
    i, k = c.var(I64, 0), c.var(I64, 0)

    def store(position: Any) -> None:
        c.store(position, c.element(out, I64, k.get()), align=8)

    def element(position: Any) -> Any:
        return c.load(c.element(mask, I8, position), I8, align=1)

    def tested(position: Any) -> None:
        with c.if_(c.ne(element(position), 0)):
            store(position)
            k.set(c.add(k.get(), 1))

    def more(ahead: int) -> Any:
        return c.and_then(c.le(c.add(i.get(), ahead), n), lambda: c.lt(k.get(), size))

    with c.while_(lambda: more(WORD)):
        start = i.get()
        with c.if_(c.ne(c.load(c.element(mask, I8, start), I64, align=1), 0)):
            with c.if_(c.le(c.add(k.get(), WORD), size)):
                for u in range(WORD):
                    position = c.add(start, u)
                    store(position)
                    k.set(c.add(k.get(), c.zext(element(position), I64)))
            with c.else_():
                for u in range(WORD):
                    tested(c.add(start, u))
        i.set(c.add(start, WORD))
    with c.while_(lambda: more(1)):
        tested(i.get())
        i.set(c.add(i.get(), 1))
    c.ret()
    return c.finish()


def emit(e: FunctionEmitter, call: Routine) -> None:
    """The code of one `positions`."""
    (mask,), (out,) = call.inputs, call.outputs
    if any(d == 0 for d in out.shape):
        return
    function = _line_function(e)
    n, size = mask.shape[-1], out.shape[-1]
    lines = Lines(mask.shape[:-1], [b.strides[:-1] for b in (mask, out)])

    def line(e: FunctionEmitter, at: list[Any], index: list[Any]) -> None:
        e.b.call(function, [at[0], e.dim(n), at[1], e.dim(size)])

    each_line(e, lines, [mask, out], 0.4, n, line)


ROUTINE = RoutineSpec("positions", ("positions",), emit)
