"""What Python's builtins that make or take iterables do with traced values: `range`, `enumerate`, `zip`, `list`, …

Each stand-in answers as the original does when nothing traced is among its arguments.
Not here: what becomes one value (`folds.py`); the iterables themselves (`iterables.py`).
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from stager.capture import iterables
from stager.capture.comprehensions import collected
from stager.capture.row_lists import ROWS, rows_in
from stager.capture.session import TRACERS
from stager.capture.table import substitute
from stager.staged import decline, region_in_force


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
