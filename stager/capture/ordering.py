"""What orders by comparison: `sorted`, `list.sort`, `heapq.nsmallest` and `nlargest`, and `min` and `max` with a key.

The items are compared all at once: their keys stand side by side in arrays, which are sorted as Python's own sort
does, equal ones in their order. The items are gathered where they are values; where users may write into them they
are picked, so that what is written reaches the list too. NaN, which Python's sort leaves wherever it meets it, comes
last.
"""

from __future__ import annotations

import builtins
import heapq
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from stager.array import Array, as_array
from stager.capture import iterables, operators
from stager.capture.comprehensions import all_of, listed
from stager.capture.packing import listed_rows
from stager.capture.row_lists import ROWS, RowList, rows_in
from stager.capture.session import TRACERS, current, holds_tracer
from stager.capture.table import SUBSTITUTES
from stager.errors import ConcretizationError, describe
from stager.ir.dims import Expr
from stager.numpy.rows import whole
from stager.runtime.structure import LEAF, Structure, flatten


class Table(NamedTuple):
    """Items side by side: item k is `structure` around row k of each column."""

    structure: Structure
    columns: list[Any]
    weak: list[bool]


def install() -> None:
    """Fill the table of substitutes."""
    SUBSTITUTES[builtins.sorted] = sorted_
    SUBSTITUTES[heapq.nsmallest] = lambda n, iterable, key=None: sorted_(iterable, key=key)[: max(n, 0)]
    SUBSTITUTES[heapq.nlargest] = lambda n, iterable, key=None: sorted_(iterable, key=key, reverse=True)[: max(n, 0)]


def sorted_(iterable: Any, /, *, key: Callable[[Any], Any] | None = None, reverse: Any = False) -> Any:
    """`sorted(iterable)`. What has a length that only the run knows gives such a list."""
    items, keys = _keyed(iterable, key)
    if not (_is_traced(keys) or (key is None and _is_traced(items))):
        if key is None:
            return sorted(items, reverse=reverse)
        places = sorted(range(len(keys)), key=keys.__getitem__, reverse=reverse)
        return [items[k] for k in places]
    order = _order(_compared(keys), bool(reverse))
    table = _table(items)
    if table is not None and _is_value(table):
        columns = [c[order] for c in table.columns]
        rows = RowList(table.structure, columns, table.weak, columns[0].type.shape[0])
        return rows if isinstance(rows.length, Expr) else listed_rows(rows)
    if type(items) in ROWS or not (type(items) in TRACERS or _is_picked(items)):
        raise ConcretizationError(
            describe(
                "sorting needs to know which of its items come first, and only the run knows",
                remedy="sort numbers, arrays or tuples of them; np.argsort of the keys gives the positions",
            )
        )
    pick = items if type(items) in TRACERS else operators.subscripted(items)
    return [pick[order[k]] for k in range(len(items))]


def sort(items: list[Any], /, *, key: Callable[[Any], Any] | None = None, reverse: Any = False) -> None:
    """`items.sort()`."""
    if any(map(holds_tracer, items)) or key is not None:
        items[:] = sorted_(items, key=key, reverse=reverse)
    else:
        items.sort(reverse=reverse)


def keyed_extreme(iterable: Any, key: Callable[[Any], Any], less: bool, default: Sequence[Any]) -> Any:
    """`min` or `max` of what an iterable gives, by a key: the first of those that nothing is beyond."""
    items, keys = _keyed(iterable, key)
    if not _is_traced(keys):
        if not len(keys):
            return default[0] if default else (min if less else max)(items)
        places = range(len(keys))
        return items[(min if less else max)(places, key=keys.__getitem__)]
    if type(keys) in ROWS:
        rows_in(keys).check_filled(ValueError(f"{'min' if less else 'max'}() arg is an empty sequence"))
    columns = _compared(keys)
    if len(columns) > 1:
        furthest = _order(columns, not less)[0]
    else:
        (x,) = columns
        if x.dtype.kind == "f":  # Python never leaves the first for a NaN, nor a NaN that is the first
            lost = np.isnan(x)
            furthest = np.where(lost[0], 0, _furthest(np.where(lost, np.inf if less else -np.inf, x), less))
        else:
            furthest = _furthest(x, less)
    found = as_array(furthest)
    place: Any = Array(found.cell, found.path, found.type, True)
    if type(items) is range:
        return items.start + place * items.step
    table = None if type(items) in TRACERS else _table(items)
    if table is not None and _is_value(table):
        return RowList(table.structure, table.columns, table.weak, table.columns[0].type.shape[0]).at(place)
    return items[place] if type(items) in TRACERS else operators.subscripted(items)[place]


def _furthest(x: Any, less: bool) -> Any:
    return np.argmin(x) if less else np.argmax(x)


def _keyed(iterable: Any, key: Callable[[Any], Any] | None) -> tuple[Any, Any]:
    """The items of an iterable, and what they are compared by."""
    given = all_of(iterable)
    if type(given) is not range and type(given) not in TRACERS and type(given) not in ROWS:
        given = given if isinstance(given, iterables.Indexed) else list(given)
    items = given
    if isinstance(given, iterables.Indexed) and type(given) not in ROWS:
        items = listed(given, lambda item: item)
    s = current()
    if key is None or s is None:
        return items, items if key is None else list(map(key, items))
    from stager.capture.resolve import resolve

    return items, listed(given, resolve(key, s))


def _is_traced(items: Any) -> bool:
    return type(items) in TRACERS or type(items) in ROWS or (type(items) is not range and any(map(holds_tracer, items)))


def _table(items: Any) -> Table | None:
    """Items as columns; None where they are not numbers and arrays, or not all of one kind."""
    if type(items) in TRACERS:
        return Table(LEAF, [items], [False])
    if type(items) in ROWS:
        rows = rows_in(items)
        return Table(rows.structure, rows.arrays, list(rows.weak))
    if type(items) is range:
        return Table(LEAF, [as_array(np.arange(items.start, items.stop, items.step))], [True])
    block = whole(items)
    if block is not None:
        return Table(LEAF, [block], [items[0].weak])
    flat = [flatten(item) for item in items]
    if any(structure != flat[0][1] for _, structure in flat):
        return None
    columns, weak = [], []
    for column in zip(*[leaves for leaves, _ in flat], strict=True):
        if not all(type(x) in TRACERS or isinstance(x, bool | int | float | np.number | np.ndarray) for x in column):
            return None
        rows = whole(list(column))
        weak.append(all(x.weak if type(x) is Array else type(x) in (bool, int, float) for x in column))
        columns.append(np.stack([as_array(x) for x in column]) if rows is None else rows)
    return Table(flat[0][1], columns, weak)


def _compared(keys: Any) -> list[Any]:
    """The columns by which items are ordered, the first one first."""
    table = _table(keys)
    if table is None:
        raise ConcretizationError(
            describe(
                "items are compared by what only the run knows, and are no numbers, or tuples of them, of one kind",
                remedy="give a key that is a number for every item",
            )
        )
    if any(c.ndim != 1 for c in table.columns):
        raise ValueError("The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()")
    return [c.astype(np.int8) if c.dtype == np.bool_ else c for c in table.columns]


def _order(columns: list[Any], falling: bool) -> Any:
    """The places of the items, sorted: of equal ones the first comes first, falling or not."""
    given = [c[::-1] for c in columns] if falling else columns
    order = np.argsort(given[0], kind="stable") if len(given) == 1 else np.lexsort(tuple(reversed(given)))
    return (order.shape[0] - 1 - order)[::-1] if falling else order


def _is_value(table: Table) -> bool:
    """Whether nobody can write into the items."""
    return all(c.ndim == 1 for c in table.columns) and _has_tuples_only(table.structure)


def _has_tuples_only(s: Structure) -> bool:
    return s.kind in ("leaf", "tuple", "namedtuple") and all(map(_has_tuples_only, s.children))


def _is_picked(items: list[Any]) -> bool:
    return all(type(x) in TRACERS for x in items)
