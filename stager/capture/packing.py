"""Lists of rows, as what crosses a border: a list whose items are rows of arrays packs into a `RowList` of these.

    [[a, b, c], [d, e, f]]  of elements of one array of two axes    ->    RowList(that array)
    [(a, b), (c, d), (e, f)]                                        ->    RowList(one array for each place of the tuple)

Inside a trace a list of known length is a plain list, whatever its items are. Where one enters or leaves a region, is
joined, walked or picked from by a traced index, it is taken as its arrays, so that no node is made for an item. A list
of lists is packed from the inside out: equal rows are one array with one more axis.

Invariant: `unpacked(packed(x))` equals x, with lists of its own. Who may hold the lists is not asked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.array import Array, as_array, wrap
from stager.capture.optional import Maybe
from stager.capture.row_lists import Delivered, RowList
from stager.capture.session import current
from stager.ir.dims import Expr
from stager.ir.types import Type
from stager.numpy.rows import LEAST, rows_of, whole
from stager.ops.families import zeros_of
from stager.runtime.structure import LEAF, Structure, flatten, unflatten
from stager.staged import is_traceable, join, leaf_type


def packed(x: Any, numbers: bool = False) -> Any:
    """x with a `RowList` for each list in it that can be one. `numbers`: for lists of Python numbers too."""
    t = type(x)
    if t is list:
        found = rows_in_list(x, numbers)
        return [packed(item, numbers) for item in x] if found is None else found
    if t is tuple:
        return tuple([packed(item, numbers) for item in x])
    if t is dict:
        return {key: packed(item, numbers) for key, item in x.items()}
    return Maybe(packed(x.value, numbers), x.there) if t is Maybe else x


def delivered(x: Any) -> Any:
    """A result, with its lists of rows as what comes back as lists."""
    return _delivered(packed(x))


def _delivered(x: Any) -> Any:
    t = type(x)
    if t is RowList:
        return Delivered(x)
    if t is list or t is tuple:
        return t([_delivered(item) for item in x])
    if isinstance(x, tuple) and hasattr(t, "_fields"):
        return t(*[_delivered(item) for item in x])
    if t is Maybe:
        return Maybe(_delivered(x.value), x.there)
    return {key: _delivered(item) for key, item in x.items()} if t is dict else x


def rows_in_list(items: list[Any], numbers: bool = False) -> RowList | None:
    """A list as its rows, bound to it; None where they are no rows of arrays, or few."""
    found = _rows(items, numbers)
    s = current()
    if found is not None and s is not None:
        s.homes.add(id(items))
        s.homes.update([id(item) for item in items if type(item) is dict])
    return found


def _rows(items: list[Any], numbers: bool) -> RowList | None:
    if len(items) < LEAST:
        return None
    first = items[0]
    if type(first) is Array:
        block = whole(items)
        return None if block is None else RowList(LEAF, [block], [first.weak], len(items), items)
    if numbers:
        known = _numbers(items)
        if known is not None:
            structure = LEAF
            for _ in range(known.ndim - 1):
                structure = Structure("registered", RowList, structure, (LEAF,))
            return RowList(structure, [known], [True], len(items), items)
    if type(first) not in (list, tuple, dict):
        return None
    flat: list[list[Any]] = []
    structures: list[Structure] = []
    for item in items:
        if type(item) is not type(first) or len(item) != len(first):
            return None
        leaves, structure = flatten(packed(item, numbers))
        structures.append(structure)
        if structure != structures[0]:
            return None
        flat.append(leaves)
    if not any(type(x) is Array for x in flat[0]):
        return None
    columns: list[Any] = [_column(column) for column in zip(*flat, strict=True)]
    if any(c is None for c in columns):
        return None
    return RowList(structures[0], [c[0] for c in columns], [c[1] for c in columns], len(items), items)


def rows_like(items: list[Any], rows: RowList, blank: bool = False) -> Any:
    """A list as a `RowList` of the structure of another one, however short it is; as it is where it has another.

    blank: only its types are asked for.
    """
    if not items:
        empty = [Type(x.type.dtype, (0, *x.type.shape[1:])) for x in rows.arrays]
        return RowList(rows.structure, [wrap(zeros_of(t)) for t in empty], rows.weak, 0)
    flat = [flatten(packed(item, True)) for item in items]
    if rows.kind is not list or any(structure != rows.structure for _, structure in flat):
        return items
    columns = [list(column) for column in zip(*[leaves for leaves, _ in flat], strict=True)]
    if any(not all(map(is_traceable, column)) for column in columns):
        return items
    types = [join("an item of a list", [leaf_type(x) for x in column]) for column in columns]
    if blank:
        arrays: list[Any] = [wrap(zeros_of(Type(t.dtype, (len(items), *t.shape)))) for t, _ in types]
    else:
        arrays = [np.stack([as_array(x) for x in column]) for column in columns]
    return RowList(rows.structure, arrays, [weak for _, weak in types], len(items))


def _numbers(items: list[Any]) -> Array | None:
    """A nesting of equally long lists of Python's floats, or of its ints, as an array."""
    level: list[Any] = items
    while type(level[0]) is list:
        n = len(level[0])
        if n < LEAST or any(type(x) is not list or len(x) != n for x in level):
            return None
        level = [x for part in level for x in part]
    t = type(level[0])
    if t not in (int, float) or any(type(x) is not t for x in level):
        return None
    values = np.array(items)
    if values.dtype not in (np.int64, np.float64):
        return None
    from stager.numpy.creation import full

    if len(set(map(repr, level))) == 1:
        return full(values.shape, level[0])
    return as_array(values)


def _column(values: Sequence[Any]) -> tuple[Array, bool] | None:
    """(the array of which these are the rows, whether they promote weakly), or None."""
    first = values[0]
    if type(first) is Array:
        block = whole(list(values))
        return None if block is None else (block, first.weak)
    if type(first) in (int, float) and all(type(v) is type(first) for v in values):
        return as_array(np.array(values)), True
    return None


def unpacked(x: Any) -> Any:
    """x with plain lists for the `RowList`s of known length in it."""
    t = type(x)
    if t is RowList:
        return x if isinstance(x.length, Expr | Array) else listed_rows(x)
    if t is list:
        return [unpacked(item) for item in x]
    if t is tuple:
        return tuple([unpacked(item) for item in x])
    if t is dict:
        return {key: unpacked(item) for key, item in x.items()}
    return Maybe(unpacked(x.value), x.there) if t is Maybe else x


def listed_rows(x: RowList) -> list[Any]:
    """The items of a `RowList` of known length, in a list of their own."""
    columns = [rows_of(a, w) for a, w in zip(x.arrays, x.weak, strict=True)]
    if x.structure is LEAF or x.structure.kind == "leaf":
        return list(columns[0])
    return [unpacked(unflatten(x.structure, row)) for row in zip(*columns, strict=True)]
