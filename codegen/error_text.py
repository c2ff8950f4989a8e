"""The texts of errors, written by code of the library itself: C's printf differs between systems or is not there.

A template is bytes, NUL-terminated; the bytes 1 to 4 stand for the first to fourth number. Invariant: never more than
`size` bytes are written, the last of them a NUL.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from stager.codegen.declarations import I8, I32, I64, PTR, RARE, array, const
from stager.codegen.structured import Code

NUMBERS = 4
WRITE_TEXT = "write_text"


def template(text: str) -> str:
    """A status text ("index {0} is out of bounds") as a template."""
    for k in range(NUMBERS):
        text = text.replace(f"{{{k}}}", chr(k + 1))
    return text


def write_text(module: Any) -> Any:
    """i32 write_text(char *to, i64 size, const char *template, const i64 *numbers): the bytes of the whole text."""
    found = module.globals.get(WRITE_TEXT)
    if found is not None:
        return found
    params = [("to", PTR), ("size", I64), ("template", PTR), ("numbers", PTR)]
    c = Code(module, WRITE_TEXT, I32, params, linkage="internal", attributes=RARE)
    last = c.sub(c.arg("size"), 1)
    count, source = c.var(I64, 0), c.var(I64, 0)

    def put(byte: Any) -> None:
        with c.if_(c.lt(count.get(), last)):
            c.store(byte, c.offset(c.arg("to"), count.get()))
        count.set(c.add(count.get(), 1))

    def put_number(number: Any) -> None:
        digits, used = c.alloca(array(I8, 24)), c.var(I64, 0)
        rest = c.var(I64, c.select(c.lt(number, 0), c.sub(0, number), number))  # MIN stays itself: 2**63, unsigned
        with c.if_(c.lt(number, 0)):
            put(const(I8, ord("-")))
        with c.loop():
            digit = c.add(c.urem(rest.get(), 10), ord("0"))
            c.store(c.b.trunc(digit, I8), c.offset(digits, used.get()))
            used.set(c.add(used.get(), 1))
            rest.set(c.udiv(rest.get(), 10))
            c.break_if(c.eq(rest.get(), 0))
        with c.for_range(c.sub(used.get(), 1), -1, -1) as k:
            put(c.at(digits, I8, k))

    with c.loop():
        byte = c.at(c.arg("template"), I8, source.get())
        source.set(c.add(source.get(), 1))
        c.break_if(c.eq(byte, 0))
        with c.if_(c.and_(c.uge(byte, 1), c.ult(byte, NUMBERS + 1))):
            put_number(c.at(c.arg("numbers"), I64, c.sub(c.zext(byte, I64), 1)))
            c.continue_()
        put(byte)
    with c.if_(c.ge(last, 0)):
        c.store(const(I8, 0), c.offset(c.arg("to"), c.min(count.get(), last)))
    c.ret(c.b.trunc(count.get(), ir.IntType(32)))
    return c.finish()
