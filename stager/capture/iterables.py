"""Iterables over traced values that a staged loop can take: element `k` of a known number of elements.

`range(n)` with a traced bound or step, a traced array (its leading axis), `enumerate`, `zip` and `reversed` of those,
`np.ndindex` and `np.ndenumerate`. Plain iteration (a comprehension, `list(...)`) works where the length is a plain int.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stager.capture.session import TRACERS
from stager.ir.dims import Expr, dim_max, floordiv, product


class Indexed:
    """Elements by position. `length` is an int, a dim or a traced integer; `at(k)` takes either kind of integer."""

    length: Any
    is_plain = False  # made of Python numbers alone

    def at(self, k: Any) -> Any:
        raise NotImplementedError

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


class Enumerated(Indexed):
    def __init__(self, of: Indexed, start: Any) -> None:
        self.of, self.start = of, start
        self.length = of.length

    def at(self, k: Any) -> Any:
        return self.start + k, self.of.at(k)


class Zipped(Indexed):
    def __init__(self, parts: tuple[Indexed, ...], length: Any) -> None:
        self.parts = parts
        self.length = length

    def at(self, k: Any) -> Any:
        return tuple([p.at(k) for p in self.parts])


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


class Reversed(Indexed):
    def __init__(self, of: Indexed) -> None:
        self.of = of
        self.length = of.length

    def at(self, k: Any) -> Any:
        return self.of.at(self.length - 1 - k)


class Picked(Indexed):
    """Some elements of another, at positions that are known."""

    def __init__(self, of: Indexed, positions: list[int]) -> None:
        self.of, self.positions = of, positions
        self.length = len(positions)
        self.is_plain = type(of) is TracedRange and type(of.start) is int

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


def listed_in(x: Any) -> Iterator[list[Any]]:
    """The lists whose rows are the elements, or parts of them."""
    if isinstance(x, ListedRows):
        yield x.items
    parts = x.parts if isinstance(x, Zipped) else (x.of,) if isinstance(x, Enumerated | Reversed | Picked) else ()
    for part in parts:
        yield from listed_in(part)


def indexed(x: Any) -> Indexed | None:
    """x by position: traced arrays, lists of rows and the classes above; None for anything else."""
    if isinstance(x, Indexed):
        return x
    if type(x) is list:
        from stager.capture.packing import rows_in_list

        rows = rows_in_list(x)
        return None if rows is None or rows.is_changeable() else ListedRows(x, rows)
    if getattr(type(x), "__stager_stand_in__", False):
        return x.indexed()  # type: ignore[no-any-return]
    return Elements(x) if type(x) in TRACERS else None
