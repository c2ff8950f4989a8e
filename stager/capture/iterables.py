"""Iterables over traced values that a staged loop can take: element `k` of a known number of elements.

`range(n)` with a traced bound or step, a traced array (its leading axis), a dict that a loop has filled, its values and
items, `np.ndindex`, `np.ndenumerate`; `enumerate`, `zip`, `reversed` and what itertools makes of those and of plain
ranges; `itertools.count` and `repeat`, which have no end. Plain iteration (a comprehension, `list(...)`)
works where the length is a plain int.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from stager.capture.session import TRACERS
from stager.ir.dims import Expr, dim_max, floordiv, product

FEW_ITEMS = 8  # a longer list of numbers that are a range is taken as one
ENDLESS = 1 << 62  # the length of what has no end


class Indexed:
    """Elements by position. `length` is an int, a dim or a traced integer; `at(k)` takes either kind of integer."""

    length: Any
    is_plain = False  # made of Python numbers alone

    def at(self, k: Any) -> Any:
        raise NotImplementedError

    def is_endless(self) -> bool:
        return type(self.length) is int and self.length >= ENDLESS

    def __len__(self) -> int:
        return int(self.length.__index__())

    def __iter__(self) -> Iterator[Any]:
        return (self.at(k) for k in range(len(self)))

    def __getitem__(self, k: Any) -> Any:
        return self.at(k)


class TracedRange(Indexed):
    """`range` whose start or stop is traced; the step is an int."""

    def __init__(self, start: Any, stop: Any, step: int) -> None:
        self.start, self.stop, self.step = start, stop, step

    @property
    def length(self) -> Any:
        span = self.stop - self.start if self.step > 0 else self.start - self.stop
        if isinstance(span, Expr):
            return dim_max(floordiv(span + (abs(self.step) - 1), abs(self.step)), 0)
        return np.maximum((span + (abs(self.step) - 1)) // abs(self.step), 0)

    def at(self, k: Any) -> Any:
        return self.start + k * self.step


class SteppedRange(Indexed):
    """`range` whose step only the run knows, its sign included. The step is not 0."""

    def __init__(self, start: Any, stop: Any, step: Any) -> None:
        self.start, self.stop, self.step = start, stop, step

    @property
    def length(self) -> Any:
        towards = np.where(self.step > 0, 1, -1)
        return np.maximum((self.stop - self.start + self.step - towards) // self.step, 0)

    def at(self, k: Any) -> Any:
        return self.start + k * self.step


class Elements(Indexed):
    """The leading axis of a traced array, or the items of a plain sequence."""

    def __init__(self, x: Any, length: Any = None) -> None:
        self.x = x
        if type(x) in TRACERS and not x.ndim:
            raise TypeError("iteration over a 0-d array")
        self.length = length if length is not None else x.shape[0] if type(x) in TRACERS else len(x)

    def at(self, k: Any) -> Any:
        return self.x[k]


class Evenly(Indexed):
    """A plain range, or the integers of a list that are one."""

    is_plain = True

    def __init__(self, numbers: range, items: Any = None) -> None:
        self.numbers, self.items = numbers, items
        self.length = len(numbers)

    def at(self, k: Any) -> Any:
        return self.numbers[k] if type(k) is int else self.numbers.start + k * self.numbers.step


class Repeated(Indexed):
    """`itertools.repeat` so many times."""

    is_plain = True

    def __init__(self, x: Any, times: int) -> None:
        self.x = x
        self.length = times

    def at(self, k: Any) -> Any:
        return self.x


class Tabled(Indexed):
    """Integers, or tuples of as many, which are known: the keys of a dict."""

    is_plain = True

    def __init__(self, items: Any, table: np.ndarray[Any, Any]) -> None:
        self.items, self.table = items, table
        self.length = len(table)

    def at(self, k: Any) -> Any:
        if type(k) is int:
            found = self.table[k].tolist()
            return tuple(found) if type(found) is list else found
        from stager.array import Array, as_array

        table: Any = as_array(self.table)
        places = [table[k]] if self.table.ndim == 1 else [table[k, j] for j in range(self.table.shape[1])]
        parts = [Array(p.cell, p.path, p.type, True) for p in places]
        return parts[0] if self.table.ndim == 1 else tuple(parts)


class Passing(Indexed):
    """What Python has an iterator for: it can be read item by item, once."""

    _running: Iterator[Any] | None = None
    left = False  # whether a staged loop has taken so many items as only the run knows

    def __iter__(self) -> Iterator[Any]:
        if self._running is None:
            self._running = super().__iter__()
        return self._running

    def __next__(self) -> Any:
        return next(iter(self))

    def has_begun(self) -> bool:
        return self._running is not None

    def use_up(self, jumps: bool) -> None:
        """A loop of the user's has run over it, staged: over all there was, or as far as its jumps let it."""
        if self._running is not None:
            return
        self._running, self.left = iter(()), jumps
        parts = getattr(self, "parts", ()) or (getattr(self, "of", None),)
        for part in parts:
            if isinstance(part, Passing):
                part.use_up(jumps or type(self) is Zipped)


class Count(Passing):
    """`itertools.count` of integers."""

    is_plain = True
    length = ENDLESS

    def __init__(self, start: Any, step: Any) -> None:
        self.start, self.step = start, step

    def at(self, k: Any) -> Any:
        return self.start + k * self.step


class Forever(Passing):
    """`itertools.repeat` without end."""

    is_plain = True
    length = ENDLESS

    def __init__(self, x: Any) -> None:
        self.x = x

    def at(self, k: Any) -> Any:
        return self.x


class Enumerated(Passing):
    def __init__(self, of: Indexed, start: Any) -> None:
        self.of, self.start = of, start
        self.length = of.length
        self.is_plain = of.is_plain

    def at(self, k: Any) -> Any:
        return self.start + k, self.of.at(k)


class Zipped(Passing):
    def __init__(self, parts: tuple[Indexed, ...], length: Any) -> None:
        self.parts = parts
        self.length = length
        self.is_plain = all(p.is_plain for p in parts)

    def at(self, k: Any) -> Any:
        return tuple([p.at(k) for p in self.parts])


class Product(Passing):
    """`itertools.product`: the last part goes round first."""

    def __init__(self, parts: tuple[Indexed, ...]) -> None:
        self.parts = parts
        self.positions = Positions(tuple([p.length for p in parts]))
        self.length = self.positions.length
        self.is_plain = all(p.is_plain for p in parts)

    def at(self, k: Any) -> Any:
        return tuple([p.at(j) for p, j in zip(self.parts, self.positions.at(k), strict=True)])


class Positions(Indexed):
    """`np.ndindex`: the indices of an array of a shape, in C order."""

    def __init__(self, shape: tuple[Any, ...]) -> None:
        self.shape = shape
        self.length = product(shape)

    def at(self, k: Any) -> Any:
        index = []
        for d in reversed(self.shape[1:]):
            index.append(k % d)
            k = k // d
        return (k, *reversed(index)) if self.shape else ()


class Numbered(Indexed):
    """`np.ndenumerate`: indices and elements."""

    def __init__(self, x: Any) -> None:
        self.positions = Positions(tuple(x.shape))
        self.elements = x.reshape(-1)
        self.length = self.positions.length

    def at(self, k: Any) -> Any:
        return self.positions.at(k), self.elements[k]


class Chosen(Passing):
    """`itertools.combinations` and its kin: a row of a table says which elements make one."""

    def __init__(self, of: Indexed, table: np.ndarray[Any, Any]) -> None:
        self.of, self.table = of, table
        self.length = len(table)
        self.is_plain = of.is_plain

    def at(self, k: Any) -> Any:
        if type(k) is int:
            return tuple([self.of.at(int(j)) for j in self.table[k]])
        from stager.array import Array, as_array

        table: Any = as_array(self.table)
        places = [table[k, j] for j in range(self.table.shape[1])]
        return tuple([self.of.at(Array(p.cell, p.path, p.type, True)) for p in places])


class Chained(Passing):
    """`itertools.chain` of ranges."""

    is_plain = True

    def __init__(self, parts: tuple[Indexed, ...]) -> None:
        self.parts = parts
        self.length = sum([p.length for p in parts])

    def at(self, k: Any) -> Any:
        from stager.capture.branches import wrapped_where

        found: Any = None
        end = self.length
        for part in reversed(self.parts):
            begin = end - part.length
            if type(k) is int and k >= begin:
                return part.at(k - begin)
            if type(k) is not int and part.length:
                value = part.at(k - begin)
                found = value if found is None else wrapped_where(k < end, value, found)
            end = begin
        return found


class Mapped(Indexed):
    """What a generator expression, or `map`, gives for the elements of another."""

    def __init__(self, of: Indexed, element: Callable[[Any], Any], is_plain: bool) -> None:
        self.of, self.element = of, element
        self.length = of.length
        self.is_plain = is_plain

    def at(self, k: Any) -> Any:
        return self.element(self.of.at(k))


class Reversed(Passing):
    def __init__(self, of: Indexed) -> None:
        self.of = of
        self.length = of.length
        self.is_plain = of.is_plain

    def at(self, k: Any) -> Any:
        return self.of.at(self.length - 1 - k)


class Picked(Indexed):
    """Some elements of another, at positions that are known."""

    def __init__(self, of: Indexed, positions: list[int]) -> None:
        self.of, self.positions = of, positions
        self.length = len(positions)
        self.is_plain = of.is_plain or (type(of) is TracedRange and type(of.start) is int)

    def at(self, k: Any) -> Any:
        if type(k) is int:
            return self.of.at(self.positions[k])
        from stager.array import Array, as_array

        place: Any = as_array(np.array(self.positions))
        place = place[k]
        return self.of.at(Array(place.cell, place.path, place.type, True))


class ListedRows(Indexed):
    """A list whose items are rows of arrays: `rows`, which are bound to the list."""

    def __init__(self, items: list[Any], rows: Any) -> None:
        self.items, self.rows = items, rows
        self.length = len(items)

    def at(self, k: Any) -> Any:
        return self.items[k] if type(k) is int else self.rows.at(k)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class DictRows(ListedRows):
    """The values of a dict that are rows of arrays."""

    def __init__(self, of: dict[Any, Any], items: list[Any], rows: Any) -> None:
        super().__init__(items, rows)
        self.of = of


def listed_in(x: Any) -> Iterator[Any]:
    """The lists and dicts whose items are the elements, or parts of them."""
    if isinstance(x, DictRows):
        yield x.of
    elif isinstance(x, ListedRows | Tabled) or (isinstance(x, Evenly) and x.items is not None):
        yield x.items
    of: tuple[Any, ...] = (x.of,) if isinstance(x, Enumerated | Reversed | Picked | Mapped | Chosen) else ()
    parts = x.parts if isinstance(x, Zipped | Product | Chained) else of
    for part in parts:
        yield from listed_in(part)


def evenly(items: list[Any]) -> range | None:
    """The range that has the items of a list, of which there are many; None where they are no such integers."""
    if len(items) <= FEW_ITEMS or type(items[0]) is not int or type(items[1]) is not int or items[0] == items[1]:
        return None
    found = range(items[0], items[-1] + (1 if items[1] > items[0] else -1), items[1] - items[0])
    same = len(found) == len(items) and all(type(x) is int and x == n for x, n in zip(items, found, strict=True))
    return found if same else None


def indexed(x: Any) -> Indexed | None:
    """x by position: traced arrays, lists of rows and the classes above; None for anything else."""
    if isinstance(x, Indexed):
        return None if isinstance(x, Passing) and x.has_begun() else x
    if type(x) is range:
        return Evenly(x)
    if type(x) is list:
        even = evenly(x)
        if even is not None:
            return Evenly(even, x)
        from stager.capture.packing import rows_in_list

        rows = rows_in_list(x)
        return None if rows is None or rows.is_changeable() else ListedRows(x, rows)
    if type(x) is dict:
        return _keys(x)
    if type(x) in _VIEWS:
        (d,) = gc.get_referents(x)
        return _of_dict(d, type(x)) if type(d) is dict else None
    if getattr(type(x), "__stager_stand_in__", False):
        return x.indexed()  # type: ignore[no-any-return]
    return Elements(x) if type(x) in TRACERS else None


_VIEWED: dict[Any, Any] = {}
_KEYS, _VALUES, _ITEMS = _VIEWS = (type(_VIEWED.keys()), type(_VIEWED.values()), type(_VIEWED.items()))


def _of_dict(d: dict[Any, Any], view: type) -> Indexed | None:
    """What a dict holds, by position, where its values are rows of arrays and its keys integers or tuples of them."""
    keys = None if view is _VALUES else _keys(d)
    if view is _KEYS or (keys is None and view is _ITEMS) or len(d) <= FEW_ITEMS:
        return keys if view is _KEYS else None
    from stager.capture.packing import rows_in_list

    values = list(d.values())
    rows = rows_in_list(values)
    if rows is None or rows.is_changeable():
        return None
    found = DictRows(d, values, rows)
    return found if keys is None else Zipped((keys, found), len(d))


def _keys(d: dict[Any, Any]) -> Indexed | None:
    keys = list(d)
    if len(keys) <= FEW_ITEMS:
        return None
    if all(type(k) is int for k in keys):
        even = evenly(keys)
        if even is not None:
            return Evenly(even, d)
    elif not all(type(k) is tuple and len(k) == len(keys[0]) and all(type(i) is int for i in k) for k in keys):
        return None
    try:
        return Tabled(d, np.array(keys, np.int64)) if keys[0] != () else None
    except OverflowError:
        return None
