"""Text that user code makes of traced values: f-strings, `str`, `repr`, `format`, `%`, and what `print` is given.

A value that is known while tracing is formatted as NumPy formats it. One that only the run knows cannot be part of a
Python string: that is an error, never the text of a tracer. Two places do better: `print(f"…")` formats when the code
runs, and the text of an exception (`raise`, `assert`) describes the value, because it is only made in case.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from stager.capture.session import TRACERS, holds_tracer

_DESCRIBING: ContextVar[bool] = ContextVar("describing", default=False)


class Text:
    """A text with values that only the run knows: a `str.format` text with one field per value."""

    __slots__ = ("format", "values")

    def __init__(self, format: str, values: list[Any]) -> None:
        self.format = format
        self.values = values


class _Described:
    """A traced value in the text of an exception."""

    __slots__ = ("text",)

    def __init__(self, x: Any) -> None:
        self.text = str(x)

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def __format__(self, spec: str) -> str:
        return self.text


def described(make: Callable[[], Any]) -> Any:
    """`make()`, which makes an exception or the text of one."""
    token = _DESCRIBING.set(True)
    try:
        return make()
    finally:
        _DESCRIBING.reset(token)


def known(x: Any) -> Any:
    """The value of a traced array that is known here, or None."""
    from stager.concrete import peek, settled_value

    found = peek(x)
    return settled_value(x) if found is None else found


def plain(x: Any) -> Any:
    """What is formatted in place of a value that is, or holds, a traced one."""
    if not holds_tracer(x):
        return x
    if type(x) in TRACERS:
        found = known(x)
        if found is not None:
            return _python(x, found)
        if _DESCRIBING.get():
            return _Described(x)
        from stager.concrete import refuse_text

        raise refuse_text(x)
    if isinstance(x, dict):
        return type(x)({k: plain(v) for k, v in x.items()})
    items = [plain(v) for v in x]
    return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)


def modulo(format: str, x: Any) -> str:
    """`format % x`."""
    shown = plain(x)
    if _DESCRIBING.get() and shown is not x:  # what is described is no number
        format = re.sub(r"%[-+ #0-9.]*[diouxXeEfFgG]", "%s", format)
    out: str = format % shown
    return out


def _python(x: Any, found: Any) -> Any:
    if found.ndim:
        return found
    return found.item() if x.weak else found[()]


def text(*parts: Any) -> Any:
    """An f-string that is printed. A part is a literal, or (value, conversion, spec)."""
    out, values, unknown = [], [], False
    for part in parts:
        if type(part) is str:
            out.append(part.replace("{", "{{").replace("}", "}}"))
            continue
        value, conversion, spec = part
        if type(value) in TRACERS and (found := known(value)) is not None:
            value = _python(value, found)
        unknown |= type(value) in TRACERS
        if type(value) not in TRACERS:
            value = plain(value)
        values.append(value)
        out.append("{" + (f"!{chr(conversion)}" if conversion > 0 else "") + (f":{spec}" if spec else "") + "}")
    whole = "".join(out)
    if not unknown:
        return whole.format(*values)
    # numbers that are known already become part of the text
    pieces = iter(out)
    final, rest, at = [], [], 0
    for part, piece in zip(parts, pieces, strict=True):
        if type(part) is str:
            final.append(piece)
            continue
        value = values[at]
        at += 1
        if type(value) in TRACERS:
            final.append(piece)
            rest.append(value)
        else:
            final.append(piece.format(value).replace("{", "{{").replace("}", "}}"))
    return Text("".join(final), rest)
