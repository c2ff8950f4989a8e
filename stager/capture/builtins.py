"""What Python's builtins do with traced values in converted code.

Each stand-in answers as the original does when nothing traced is among its arguments. `float(x)` and `int(x)` of a
traced value are traced Python scalars: they convert, and promote weakly as NEP 50 has it for `float` and `int`.
Not here: what makes or takes iterables (`iteration.py`), what makes one value of many (`folds.py`), what orders by
comparison (`ordering.py`), `math` (`mathematics.py`).
"""

from __future__ import annotations

import bisect
import builtins
import heapq
import numbers
from collections.abc import Callable
from types import UnionType
from typing import Any

import numpy as np

from stager.capture import copies, texts
from stager.capture.buffers import Buffer
from stager.capture.growing import Sink, StandIn
from stager.capture.row_lists import RowList
from stager.capture.scalars import counted, of_tracers, scalar, truth, weakly
from stager.capture.session import TRACERS, holds_tracer, is_tracer
from stager.capture.table import SUBSTITUTES, substitute
from stager.capture.tables import Table
from stager.ir.dims import Expr
from stager.staged import refuse_change, region_in_force

_installed = False
LISTS = (StandIn, Sink, Buffer, Table, RowList)  # what stands for a list while a loop appends to it, and after


def install() -> None:
    """Fill the table of substitutes, once; the first trace calls it."""
    global _installed
    if _installed:
        return
    _installed = True
    from stager.capture import folds, iteration, mathematics, ordering  # noqa: F401  (the first two enter themselves)

    mathematics.install()
    ordering.install()
    for like in (np.zeros_like, np.ones_like, np.empty_like, np.full_like, np.copy):
        SUBSTITUTES[like] = _fresh_like(like)
    for kind in _SCALAR_TYPES:
        SUBSTITUTES[kind] = of_tracers(kind, _cast(kind))
    SUBSTITUTES[print] = print_
    copies.install()


def _fresh_like(original: Callable[..., Any]) -> Callable[..., Any]:
    """What `zeros_like` and its kin make of an untraced array may be written into: it is traced from the start."""

    def stand_in(x: Any, *args: Any, **kwargs: Any) -> Any:
        from stager.array import as_array

        return original(
            as_array(np.asarray(x) if not is_tracer(x) and not isinstance(x, np.ndarray) else x), *args, **kwargs
        )

    return stand_in


def _cast(scalar: type) -> Callable[..., Any]:
    return lambda x: x.astype(scalar)


_SCALAR_TYPES = (
    np.float64, np.float32, np.float16, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32,
    np.uint64,     np.bool_, np.complex64, np.complex128,
)  # fmt: skip


@substitute(builtins.float)
def float_(x: Any = 0.0) -> Any:
    x = counted(x)
    return weakly(scalar(x).astype(np.float64)) if type(x) in TRACERS else float(x)


@substitute(builtins.int)
def int_(x: Any = 0, *base: Any, **kwargs: Any) -> Any:
    if type(x) is Expr:
        return x
    if type(x) not in TRACERS:
        return int(x, *base, **kwargs)
    return weakly(scalar(x).astype(np.int64))


substitute(builtins.bool)(truth)


@substitute(builtins.str)
def str_(*args: Any, **kwargs: Any) -> Any:
    from stager.symbols import settled

    return str(*[texts.plain(settled(a)) for a in args], **kwargs)


@substitute(builtins.repr)
def repr_(x: Any, /) -> str:
    return repr(texts.plain(x))


@substitute(builtins.format)
def format_(x: Any, spec: str = "", /) -> str:
    return format(texts.plain(x), spec)


@substitute(builtins.complex)
def complex_(*args: Any, **kwargs: Any) -> Any:
    if len(args) == 1 and type(args[0]) in TRACERS:
        return scalar(args[0]).astype(np.complex128)
    if len(args) == 2 and holds_tracer(args):
        return args[0] + args[1] * 1j
    return complex(*args, **kwargs)


@substitute(builtins.len)
def len_(x: Any) -> Any:
    if type(x) in TRACERS:
        if not x.ndim:
            raise TypeError("len() of unsized object")
        return x.shape[0]
    if type(x) is RowList:
        return x.length
    return x.length() if isinstance(x, Buffer) else len(x)


def _is_known(x: Any) -> bool:
    from stager.concrete import peek

    return peek(x) is not None


def print_(*args: Any, sep: Any = None, end: Any = None, file: Any = None, flush: bool = False) -> None:
    """`print(…)` of values that only the run knows, or in a traced loop or branch, prints when the code runs."""
    traced = [x for a in args for x in (a.values if type(a) is texts.Text else [a]) if type(x) in TRACERS]
    if file is not None or (region_in_force() is None and all(_is_known(a) for a in traced)):
        print(*args, sep=sep, end=end, file=file, flush=flush)
        return
    from stager.array import raw
    from stager.ops.effects import print_values

    fields = [
        a.format if type(a) is texts.Text else "{}" if type(a) in TRACERS
        else str(texts.plain(a)).replace("{", "{{").replace("}", "}}")
        for a in args
    ]  # fmt: skip
    separator = (" " if sep is None else sep).replace("{", "{{").replace("}", "}}")
    print_values(*[raw(a) for a in traced], format=separator.join(fields), end="\n" if end is None else end)


def _changing(original: Callable[..., Any]) -> None:
    """A function of the standard library that changes the list which it is given first."""

    def stand_in(items: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_change(items, original.__name__)
        return original(items, *args, **kwargs)

    SUBSTITUTES[original] = stand_in


for _function in (heapq.heappush, heapq.heappop, heapq.heapify, heapq.heapreplace, heapq.heappushpop,
                  bisect.insort_left, bisect.insort_right):  # fmt: skip
    _changing(_function)


@substitute(builtins.getattr)
def getattr_(obj: Any, name: str, *default: Any) -> Any:
    from stager.capture.stores import attribute

    return attribute(obj, name, *default)


@substitute(builtins.setattr)
def setattr_(obj: Any, name: str, value: Any, /) -> None:
    from stager.capture.stores import set_attribute

    set_attribute(obj, name, value)


@substitute(builtins.hasattr)
def hasattr_(obj: Any, name: str) -> bool:
    return getattr_(obj, name, _MISSING) is not _MISSING


_MISSING = object()


@substitute(builtins.vars)
def vars_(*of: Any) -> Any:
    return getattr_(of[0], "__dict__") if of else vars()


def _classes(classinfo: Any) -> list[Any]:
    if isinstance(classinfo, tuple):
        return [c for part in classinfo for c in _classes(part)]
    if isinstance(classinfo, UnionType):
        return list(classinfo.__args__)
    return [classinfo]


@substitute(builtins.isinstance)
def isinstance_(x: Any, classinfo: Any, /) -> bool:
    if type(x) is Expr:
        return isinstance(0, classinfo)
    if type(x) in LISTS:
        return issubclass(_kind_of(x), classinfo)
    if type(x) not in TRACERS:
        return isinstance(x, classinfo)
    return any(_is_a(x, c) for c in _classes(classinfo))


def _kind_of(x: Any) -> type:
    """What a stand-in of a list stands for."""
    kind: type = x.kind if type(x) is RowList else x.plan.kind if isinstance(x, Buffer) else list
    return kind


@substitute(builtins.type)
def type_(x: Any, /, *namespace: Any, **keywords: Any) -> Any:
    if type(x) in LISTS:
        return _kind_of(x)
    return type(x, *namespace, **keywords)


def class_like(x: Any) -> type:
    """The class of what a traced value stands for."""
    if getattr(x, "weak", False):  # a Python int, float or bool
        return {"b": bool, "i": int, "u": int, "f": float, "c": complex}[x.dtype.kind]
    return np.ndarray


def _is_a(x: Any, cls: Any) -> bool:
    if not isinstance(cls, type):
        return isinstance(x, cls)
    kind = x.dtype.type
    if getattr(x, "weak", False):
        return issubclass(class_like(x), cls)
    if issubclass(np.ndarray, cls):
        return True
    if x.ndim:
        return isinstance(x, cls)
    return issubclass(kind, cls) or (issubclass(cls, numbers.Number) and issubclass(kind, cls))
