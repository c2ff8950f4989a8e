"""What Python's builtins that make or take iterables, and itertools, do with traced values.

Each stand-in answers as the original does when nothing traced is among its arguments.
Not here: what becomes one value (`folds.py`); the iterables themselves (`iterables.py`).
"""

from __future__ import annotations

import builtins
import functools
import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from stager.capture import iterables, objects
from stager.capture.comprehensions import (
    Beside,
    Cut,
    Generated,
    Numbered,
    Ready,
    accumulated,
    all_of,
    collected,
    folded,
    generated,
)
from stager.capture.generators import is_fresh
from stager.capture.resolve import resolve
from stager.capture.row_lists import ROWS, rows_in
from stager.capture.session import TRACERS, current
from stager.capture.table import SUBSTITUTES, substitute
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
    s = current()
    if s is not None and (isinstance(x, Generated) or is_fresh(x, s)):
        return Numbered(x, start)
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
    s = current()
    given = [i for i, x in enumerate(xs) if s is not None and (isinstance(x, Generated) or is_fresh(x, s))]
    if given and not strict:
        beside = _beside(xs, found, given)
        if beside is not None:
            return beside
    if all(f is None for f in found):
        return zip(*xs, strict=strict)
    parts = []
    for f in found:
        if f is None:  # a Python container among the arrays: the loop runs in Python
            return zip(*xs, strict=strict)
        parts.append(f)
    lengths = [p.length for p in parts if not p.is_endless()] or [iterables.ENDLESS]
    if all(type(n) is int for n in lengths):
        if strict and len(set(lengths)) > 1:
            raise ValueError("zip() arguments have different lengths")
        return iterables.Zipped(tuple(parts), min(lengths))
    from stager.capture.staging import shortest

    return iterables.Zipped(tuple(parts), shortest(lengths))


def _beside(xs: tuple[Any, ...], found: list[iterables.Indexed | None], given: list[int]) -> Any:
    """`zip` of one generator and of what has a known number of elements, or no end; None for anything else."""
    (at,) = given if len(given) == 1 else (-1,)
    others = [f for i, f in enumerate(found) if i != at]
    if at < 0 or any(f is None or type(f.length) is not int for f in others):
        return None
    parts: list[Any] = list(found)
    return Beside(xs[at], parts[:at], parts[at + 1 :])


@substitute(builtins.reversed)
def reversed_(x: Any) -> Any:
    found = iterables.indexed(x)
    return reversed(x) if found is None else iterables.Reversed(found)


@substitute(builtins.map)
def map_(f: Any, x: Any, *others: Any) -> Any:
    s = current()
    if s is None:
        return map(f, x, *others)
    call = resolve(f, s)
    return generated(zip_(x, *others), lambda items: call(*items)) if others else generated(x, call)


@substitute(itertools.starmap)
def starmap(f: Any, x: Any) -> Any:
    s = current()
    if s is None:
        return itertools.starmap(f, x)
    call = resolve(f, s)
    return generated(x, lambda items: call(*items))


@substitute(itertools.product)
def product(*xs: Any, repeat: int = 1) -> Any:
    xs = tuple(map(all_of, xs)) * repeat
    found = [iterables.indexed(x) for x in xs]
    if not xs or any(f is None or type(f.length) is not int for f in found):
        return itertools.product(*xs)
    return iterables.Product(tuple([f for f in found if f is not None]))


@substitute(builtins.filter)
def filter_(f: Any, x: Any) -> Any:
    s = current()
    if s is None:
        return filter(f, x)
    return generated(x, lambda item: item, (lambda item: item) if f is None else resolve(f, s))


@substitute(itertools.chain)
def chain(*xs: Any) -> Any:
    if xs and all(type(x) is range for x in xs):
        return iterables.Chained(tuple([iterables.Evenly(x) for x in xs]))
    s = current()
    if s is not None and any(isinstance(x, Generated) or is_fresh(x, s) for x in xs):
        return generated(xs, lambda x: generated(x, lambda item: item), None, True)
    return itertools.chain(*xs)


def _choosing(original: Callable[..., Any]) -> None:
    """A function of itertools that chooses among the elements by their places."""

    def stand_in(x: Any, *r: Any) -> Any:
        x = collected(x)
        found = iterables.indexed(x)
        if found is None or type(found.length) is not int:
            return original(x, *r)
        places = original(range(found.length), *r)
        table = list(itertools.islice(places, MOST_CHOSEN + 1))
        if not table or not table[0] or len(table) > MOST_CHOSEN:
            return original(x, *r)
        return iterables.Chosen(found, np.array(table))

    SUBSTITUTES[original] = stand_in


MOST_CHOSEN = 100_000  # what is chosen is a table in the compiled code

for _function in (itertools.combinations, itertools.combinations_with_replacement, itertools.permutations):
    _choosing(_function)


@substitute(itertools.repeat)
def repeat(x: Any, *times: Any) -> Any:
    if not times and current() is not None:
        return iterables.Forever(x)
    return (
        iterables.Repeated(x, max(times[0], 0))
        if len(times) == 1 and type(times[0]) is int
        else itertools.repeat(x, *times)
    )


@substitute(itertools.count)
def count(start: Any = 0, step: Any = 1) -> Any:
    known = all(type(x) is int or (type(x) in TRACERS and not x.ndim and x.dtype.kind == "i") for x in (start, step))
    return iterables.Count(start, step) if known and current() is not None else itertools.count(start, step)


@substitute(itertools.islice)
def islice(x: Any, *ends: Any) -> Any:
    if type(x) is range:
        return x[slice(*ends)]
    s, bounds = current(), slice(*ends)
    start, stop, step = bounds.start, bounds.stop, bounds.step
    known = type(stop) is int and stop >= 0 and all(k is None or (type(k) is int and k >= 0) for k in (start, step))
    if s is not None and known and step != 0 and (isinstance(x, Generated) or is_fresh(x, s)):
        return Cut(x, range(start or 0, stop, step or 1))
    return itertools.islice(x, *ends)


@substitute(itertools.pairwise)
def pairwise(x: Any) -> Any:
    x = collected(x)
    return zip_(x[:-1], x[1:]) if type(x) in (list, range, *TRACERS) else itertools.pairwise(x)


@substitute(itertools.accumulate)
def accumulate(x: Any, func: Any = operator.add, *, initial: Any = None) -> Any:
    s, known = current(), _with_known_length(x)
    if s is None or known is None:
        return itertools.accumulate(x, func, initial=initial)
    first = initial
    if initial is None:
        if not len(known):
            return iter(())
        first, known = known[0], known[1:]
    return Ready(accumulated(known, resolve(func, s), first))


@substitute(functools.reduce)
def reduce(f: Any, x: Any, *initial: Any) -> Any:
    s, known = current(), _with_known_length(x)
    if s is None or known is None or (not initial and not len(known)):
        return functools.reduce(f, x, *initial)
    first = initial[0] if initial else known[0]
    return folded(known if initial else known[1:], resolve(f, s), first)


def _with_known_length(x: Any) -> Any:
    """What can be taken apart: a list, range or array of a known number of elements; None for anything else."""
    x = collected(x)
    known = type(x) in (list, tuple, range) or (type(x) in TRACERS and x.ndim and type(x.shape[0]) is int)
    return x if known else None


@substitute(builtins.list)
def list_(*args: Any) -> Any:
    return rows_in(args[0]).listed() if args and type(args[0]) in ROWS else list(*map(all_of, args))


@substitute(builtins.tuple)
def tuple_(*args: Any) -> Any:
    return tuple(*map(all_of, args))


@substitute(np.fromiter)
def fromiter(iter: Any, dtype: Any, count: int = -1, **kwargs: Any) -> Any:
    given = all_of(iter)
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
    objects.take_once(iterator)
    return next(iterator, *default)
