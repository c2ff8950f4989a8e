"""What Python's builtins and `math` do with traced values in converted code.

Each stand-in answers as the original does when nothing traced is among its arguments. `float(x)` and `int(x)` of a
traced value are traced Python scalars: they convert, and promote weakly as NEP 50 has it for `float` and `int`.
"""

from __future__ import annotations

import bisect
import builtins
import functools
import heapq
import math
import numbers
from collections.abc import Callable
from types import UnionType
from typing import Any

import numpy as np

from stager.capture import copies, iterables, texts
from stager.capture.buffers import Buffer
from stager.capture.comprehensions import collected
from stager.capture.growing import StandIn
from stager.capture.operators import tested
from stager.capture.row_lists import ROWS, RowList, rows_in
from stager.capture.session import TRACERS, holds_tracer, is_tracer
from stager.capture.table import SUBSTITUTES, substitute
from stager.ir.dims import Expr, dim_max, dim_min
from stager.ir.types import Type
from stager.numpy.rows import extreme, summed, whole
from stager.staged import decline, refuse_change, region_in_force

_installed = False
LISTS = (StandIn, Buffer, RowList)  # what stands for a list while a loop appends to it, and after


def install() -> None:
    """Fill the table of substitutes, once; the first trace calls it."""
    global _installed
    if _installed:
        return
    _installed = True
    for name, traced in _MATH.items():
        original = getattr(math, name, None)
        if original is not None:
            SUBSTITUTES[original] = _of_tracers(original, traced)
    for like in (np.zeros_like, np.ones_like, np.empty_like, np.full_like, np.copy):
        SUBSTITUTES[like] = _fresh_like(like)
    for scalar in _SCALAR_TYPES:
        SUBSTITUTES[scalar] = _of_tracers(scalar, _cast(scalar))
    SUBSTITUTES[print] = print_
    copies.install()


def _of_tracers(original: Callable[..., Any], traced: Callable[..., Any]) -> Callable[..., Any]:
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        for a in args:
            if type(a) in TRACERS or type(a) is Expr:
                return traced(*[_counted(a) for a in args], **kwargs)
        return original(*args, **kwargs)

    return stand_in


def _counted(x: Any) -> Any:
    """A symbolic size as a traced number; anything else as it is."""
    if type(x) is not Expr:
        return x
    from stager.symbols import number

    return number(x)


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


def _weak(x: Any) -> Any:
    """The traced scalar as what Python's own `float` or `int` gives: it promotes weakly."""
    from stager.capture.staging import weakened

    return weakened(x)


def _scalar(x: Any) -> Any:
    return x.reshape(()) if x.ndim else x


def _rounded(f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: _weak(f(_scalar(x)).astype(np.int64))


def _real(f: Callable[..., Any]) -> Callable[..., Any]:
    """A `math` function: float64 in, Python float out."""

    def of(*args: Any) -> Any:
        return _weak(f(*[_scalar(a).astype(np.float64) if type(a) in TRACERS else float(a) for a in args]))

    return of


def _special(name: str) -> Callable[..., Any]:
    def call(x: Any) -> Any:
        from stager.array import raw, wrap
        from stager.ops import elementwise

        return wrap(getattr(elementwise, name)(raw(x)))

    return call


_MATH: dict[str, Callable[..., Any]] = {
    **{
        name: _real(getattr(np, numpy_name))
        for name, numpy_name in {
            "sqrt": "sqrt", "cbrt": "cbrt", "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log1p": "log1p",
            "log2": "log2", "log10": "log10", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "arcsin",
            "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
            "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "fabs": "abs", "copysign": "copysign",
            "fmod": "fmod", "pow": "power", "degrees": "degrees", "radians": "radians", "nextafter": "nextafter",
        }.items()
    },
    **{name: _real(_special(name)) for name in ("erf", "erfc", "gamma", "lgamma")},
    "log": lambda x, base=None: _real(np.log)(x) if base is None else _real(np.log)(x) / math_log(base),
    "ldexp": _real(lambda x, n: x * np.exp2(n)),
    "hypot": _real(lambda *xs: np.hypot(*xs) if len(xs) == 2 else sum([x * x for x in xs]) ** 0.5),
    "floor": _rounded(np.floor),
    "ceil": _rounded(np.ceil),
    "trunc": _rounded(np.trunc),
    "isnan": lambda x: np.isnan(_scalar(x)),
    "isinf": lambda x: np.isinf(_scalar(x)),
    "isfinite": lambda x: np.isfinite(_scalar(x)),
    "isclose": lambda a, b, *, rel_tol=1e-9, abs_tol=0.0: (
        np.abs(a - b) <= np.maximum(rel_tol * np.maximum(np.abs(a), np.abs(b)), abs_tol)
    ),
}  # fmt: skip


def math_log(x: Any) -> Any:
    """`math.log` of a traced or plain number."""
    return _real(np.log)(x) if type(x) in TRACERS else math.log(x)


@substitute(builtins.float)
def float_(x: Any = 0.0) -> Any:
    x = _counted(x)
    return _weak(_scalar(x).astype(np.float64)) if type(x) in TRACERS else float(x)


@substitute(builtins.int)
def int_(x: Any = 0, *base: Any, **kwargs: Any) -> Any:
    if type(x) is Expr:
        return x
    if type(x) not in TRACERS:
        return int(x, *base, **kwargs)
    return _weak(_scalar(x).astype(np.int64))


@substitute(builtins.bool)
def bool_(x: Any = False) -> Any:
    x = tested(x)
    return _scalar(x).astype(np.bool_) if type(x) in TRACERS else bool(x)


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
        return _scalar(args[0]).astype(np.complex128)
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
    return x.length() if type(x) is Buffer else len(x)


@substitute(builtins.range)
def range_(*args: Any) -> Any:
    if not 1 <= len(args) <= 3 or all(type(a) is int for a in args):
        return range(*args)
    start, stop, step = (0, args[0], 1) if len(args) == 1 else (*args, 1)[:3]
    from stager.capture.staging import traced_range

    return traced_range(start, stop, step)


@substitute(builtins.enumerate)
def enumerate_(x: Any, start: Any = 0) -> Any:
    found = iterables.indexed(x)
    return enumerate(x, start) if found is None else iterables.Enumerated(found, start)


@substitute(np.ndindex)
def ndindex(*shape: Any) -> Any:
    dims = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape
    if any(type(d) in TRACERS for d in dims):
        dims = tuple([d.__index__() for d in dims])
    if any(isinstance(d, int) and d < 0 for d in dims):
        raise ValueError("negative dimensions are not allowed")
    return iterables.Positions(dims)


@substitute(np.ndenumerate)
def ndenumerate(arr: Any) -> Any:
    return iterables.Numbered(arr) if type(arr) in TRACERS else np.ndenumerate(arr)


@substitute(builtins.zip)
def zip_(*xs: Any, strict: bool = False) -> Any:
    found = [iterables.indexed(x) for x in xs]
    if all(f is None for f in found):
        return zip(*xs, strict=strict)
    parts = []
    for x, f in builtins.zip(xs, found, strict=True):
        if f is None and isinstance(x, range):
            f = iterables.Elements(x)
        if f is None:  # a Python container among the arrays: the loop runs in Python
            return zip(*xs, strict=strict)
        parts.append(f)
    lengths = [p.length for p in parts]
    if all(type(n) is int for n in lengths):
        if strict and len(set(lengths)) > 1:
            raise ValueError("zip() arguments have different lengths")
        return iterables.Zipped(tuple(parts), min(lengths))
    from stager.capture.staging import shortest

    return iterables.Zipped(tuple(parts), shortest(lengths))


@substitute(builtins.reversed)
def reversed_(x: Any) -> Any:
    found = iterables.indexed(x)
    return reversed(x) if found is None else iterables.Reversed(found)


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


def _extreme(original: Callable[..., Any], less: bool) -> Callable[..., Any]:
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        key = kwargs.get("key")
        if len(args) == 1 and type(args[0]) in TRACERS and args[0].ndim == 1 and key is None:
            return args[0].min() if less else args[0].max()
        if len(args) == 1 and type(args[0]) in ROWS and key is None:
            rows_of_it = rows_in(args[0])
            rows_of_it.check_filled(ValueError(f"{original.__name__}() arg is an empty sequence"))
            return extreme(rows_of_it.joined(), rows_of_it.at(0), less, rows_of_it.weak[0])
        items = list(collected(args[0])) if len(args) == 1 else list(args)
        rows = whole(items) if key is None else None
        if rows is not None and rows.ndim == 1:
            return extreme(rows, items[0], less, items[0].weak)
        if key is None and items and any(type(v) is Expr for v in items):
            if all(type(v) in (Expr, int) for v in items):
                return functools.reduce(dim_min if less else dim_max, items)
            items = [_counted(v) for v in items]
        if not holds_tracer(items, 1):
            return original(items, **kwargs) if len(args) == 1 else original(*items, **kwargs)
        if key is not None or (not items and "default" in kwargs):
            return original(items, **kwargs)
        best = items[0]
        for x in items[1:]:  # Python keeps the first unless the next is truly beyond it, NaN included
            best = np.where(x < best if less else x > best, x, best)
        return best

    return stand_in


SUBSTITUTES[builtins.min] = _extreme(builtins.min, True)
SUBSTITUTES[builtins.max] = _extreme(builtins.max, False)


@substitute(builtins.sum)
def sum_(x: Any, /, start: Any = 0) -> Any:
    x = collected(x)
    if type(x) in ROWS:
        from stager.array import wrap
        from stager.ops.families import zeros_of

        x = rows_in(x)
        block = x.joined()
        zero: Any = wrap(zeros_of(Type(block.type.dtype, block.type.shape[1:])))
        return summed(block, start + zero, x.weak[0], 0)
    if type(x) in TRACERS:
        if x.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        total = np.sum(x, axis=0, dtype=np.int64 if x.dtype == np.bool_ else x.dtype)
        return total if type(start) is int and start == 0 else start + total
    if type(x) is list:
        rows = whole(x)
        if rows is not None:
            return summed(rows, start + x[0], x[0].weak)
    return sum(x, start)


@substitute(builtins.any)
def any_(x: Any, /) -> Any:
    x = collected(x)
    if type(x) in ROWS:
        x = rows_in(x).joined()
    if type(x) in TRACERS and x.ndim == 1:
        return np.any(x)
    rows = whole(x)
    if rows is not None and rows.ndim == 1:
        return np.any(rows)
    found: Any = False
    for v in x:
        if type(v) in TRACERS:
            found = bool_(v) if found is False else found | bool_(v)
        elif v:
            return True
    return found


@substitute(builtins.all)
def all_(x: Any, /) -> Any:
    x = collected(x)
    if type(x) in ROWS:
        x = rows_in(x).joined()
    if type(x) in TRACERS and x.ndim == 1:
        return np.all(x)
    rows = whole(x)
    if rows is not None and rows.ndim == 1:
        return np.all(rows)
    found: Any = True
    for v in x:
        if type(v) in TRACERS:
            found = bool_(v) if found is True else found & bool_(v)
        elif not v:
            return False
    return found


@substitute(builtins.list)
def list_(*args: Any) -> Any:
    return rows_in(args[0]).listed() if args and type(args[0]) in ROWS else list(*map(collected, args))


@substitute(builtins.tuple)
def tuple_(*args: Any) -> Any:
    return tuple(*map(collected, args))


@substitute(np.fromiter)
def fromiter(iter: Any, dtype: Any, count: int = -1, **kwargs: Any) -> Any:
    given = collected(iter)
    if type(iter) not in TRACERS and type(given) is not list:
        return np.fromiter(given, dtype, count, **kwargs)
    from stager.numpy.creation import array

    items = given if count < 0 else given[:count]
    if len(items) < count:
        raise ValueError(f"iterator too short: Expected {count} but iterator had only {len(items)} items.")
    return array(items, dtype=dtype)


@substitute(builtins.next)
def next_(iterator: Any, *default: Any) -> Any:
    if region_in_force() is not None:
        decline("next() of an iterator")
    return next(iterator, *default)


@substitute(builtins.getattr)
def getattr_(obj: Any, name: str, *default: Any) -> Any:
    from stager.capture.hooks import attribute

    return attribute(obj, name, *default)


@substitute(builtins.setattr)
def setattr_(obj: Any, name: str, value: Any, /) -> None:
    from stager.capture.hooks import set_attribute

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
    kind: type = x.kind if type(x) is RowList else x.plan.kind if type(x) is Buffer else list
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
