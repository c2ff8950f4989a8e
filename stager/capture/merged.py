"""`Merged`: one value that every side of a branch, or a loop that may not run, may have set.

Invariant: the sides agree on everything but the traced leaves; where they may share arrays or lists with what stands
around, the value refuses what would be seen there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from stager.array import Array
from stager.capture.counts import held_cells, hold
from stager.capture.extents import Merges, cut, fit, type_of
from stager.capture.optional import Maybe, as_maybe, decided
from stager.capture.packing import packed, rows_like, unpacked
from stager.capture.row_lists import RowList, bound
from stager.capture.session import UNBOUND
from stager.capture.sharing import changeable_in, is_frozen, refuse_rows
from stager.cells import Cell
from stager.concrete import knows_values
from stager.errors import describe
from stager.ir.dims import Expr
from stager.ir.dtypes import b1
from stager.ir.types import Type
from stager.ops.families import zeros_of
from stager.runtime.structure import Structure, flatten, unflatten
from stager.staged import CHOSEN, MismatchError, as_raw, from_around, handle, is_older, is_traceable, leaf_type


class Merged:
    """One value that every side (region of `merges`) may have set: what is static in it, where its traced leaves go."""

    def __init__(
        self, what: str, values: Sequence[Any], merges: Merges, own: Any = None, older: Sequence[frozenset[int]] = ()
    ) -> None:
        self.merges = merges
        self.own = own  # the cell that only this variable holds: a side that keeps it shares it with nobody
        self.optional = any(v is None for v in values) and any(v is not None and v is not UNBOUND for v in values)
        self.optional |= any(type(v) is Maybe for v in values)
        if self.optional:  # None has no value to merge
            _refuse_optional(what, values, older)
            values = [UNBOUND if v is UNBOUND or v is None else as_maybe(v) for v in values]
        self.rows = next((v for v in values if type(v) is RowList), None)  # a plain list on another side is one too
        known = [self._as_rows(v, True) for v in values if v is not UNBOUND]
        for value in known:
            refuse_rows(value)
        self.frozen = any(is_frozen(c) for v in known for c in changeable_in(v))
        flat = [flatten(packed(v)) for v in known]
        self.packs = all(s == flat[0][1] for _, s in flat)
        if not self.packs:
            flat = [flatten(v) for v in known]
        self.structure: Structure = flat[0][1]
        if any(s != self.structure for _, s in flat):
            kinds = [(_kind(v, s), s) for v, (_, s) in zip(known, flat, strict=True)]
            one, other = kinds[0][0], next(k for k, s in kinds if s != self.structure)
            text = f"{what} is {one} on one side of a traced condition and {other} on the other"
            raise MismatchError(describe(text, remedy="give it the same structure on every path"))
        self.shared: set[int] = set()  # leaves that are an array from around on some side, which others hold too
        self.held: set[int] = set()  # leaves that a list holds a copy of
        self.older: dict[int, list[Cell]] = {}  # the cells of all leaves from around, by leaf
        self.copies: list[tuple[Cell, list[Cell]]] = []  # cells of what was made of these
        self.stood: list[dict[int, list[Cell]]] = []  # by side: what each leaf stood on, or was chosen among
        self.cells: dict[int, Cell] = {}  # of the leaves, behind the node
        self.leaves: list[Any] = []  # a leaf (`extents.py`), or the static value in a list
        there = [v is not UNBOUND for v in values]
        for column in zip(*[leaves for leaves, _ in flat], strict=True):
            self.leaves.append(self._leaf(what, column, there))
        if self.optional:
            self.leaves[-1] = (Type(b1, ()), False)

    def _as_rows(self, value: Any, blank: bool = False) -> Any:
        return value if self.rows is None or type(value) is not list else rows_like(value, self.rows, blank)

    def _leaf(self, what: str, column: Sequence[Any], there: Sequence[bool]) -> Any:
        first = column[0]
        if type(first) is Expr and all(type(x) is Expr and x == first for x in column) and self.merges.knows(first):
            return [first]
        if all(x is first or (type(x) is type(first) and not is_traceable(x) and x == first) for x in column):
            if type(first) is not Array:
                return [first]
        elif all(type(x) is type(first) and type(x) in (int, float, bool) and x == first for x in column):
            return [first]
        for x in column:
            if not is_traceable(x):
                kinds = " and ".join(dict.fromkeys(shown(c) for c in column))
                raise MismatchError(describe(f"{what} is {kinds}, depending on a traced condition",
                                        remedy="set it to an array or number on every path"))  # fmt: skip
        types = iter([leaf_type(x) for x in column])
        return self.merges.join(what, [next(types) if known else None for known in there])

    def types(self) -> list[Type]:
        return [type_of(leaf) for leaf in self.leaves if type(leaf) is tuple]

    def outputs(self, value: Any) -> list[Any]:
        """The raw outputs of one side, in its region."""
        self.stood.append({})
        if value is UNBOUND or (self.optional and value is None):
            return [zeros_of(t) for t in self.types()]
        if self.optional:
            value = as_maybe(value)
        held = held_cells()
        items = flatten(value)[0] if self.rows is not None and type(value) is list else ()
        value = self._as_rows(value)
        leaves = flatten(packed(value) if self.packs else value)[0]
        for j, x in enumerate(items):  # what the rows are a copy of
            if type(x) is Array and x.holds_memory:
                self.held.add(j % len(leaves))
                if is_older(x):
                    self.older.setdefault(j % len(leaves), []).append(x.cell)
        for k, x in enumerate(leaves):
            if type(x) is Array and id(x.cell) in held:
                self.held.add(k)
            if type(x) is Array and x.ndim:
                self.stood[-1][k] = chosen_among(x.cell)
            found = from_around(x) if type(x) is Array else []
            if found:
                self.older.setdefault(k, []).extend(found)
                if (found[0] is x.cell or x.cell.read_only is CHOSEN) and any(c is not self.own for c in found):
                    self.shared.add(k)
        traced = [(x, leaf) for x, leaf in zip(leaves, self.leaves, strict=True) if type(leaf) is tuple]
        return [fit(as_raw(x, leaf[0].dtype), leaf) for x, leaf in traced]

    def rebuild(self, raws: Any) -> Any:
        """The value from the node's results. What may be an older array is a copy of it that refuses writes."""
        leaves = [handle(cut(next(raws), leaf), leaf[1]) if type(leaf) is tuple else leaf[0] for leaf in self.leaves]
        for k in self.held:
            if type(leaves[k]) is Array and leaves[k].ndim:
                hold(leaves[k].cell)
        for k, cells in self.older.items():
            if type(leaves[k]) is Array and leaves[k].ndim:
                self.copies.append((leaves[k].cell, cells))
        self.cells = {k: x.cell for k, x in enumerate(leaves) if type(x) is Array and x.ndim}
        for k in self.shared & self.cells.keys():
            self.cells[k].read_only = CHOSEN
        value = unpacked(unflatten(self.structure, leaves))
        if self.optional:
            value = decided(value)
            return bound(value, ()) if type(value) is Maybe else value  # its lists are not those of the sides
        return bound(value, ()) if self.frozen else value

    def follow(self) -> None:
        """Writes into what a copy may be end it from here on: the node's own writes have been made."""
        for copy, cells in self.copies:
            copy.stand_for(cells)


def chosen_among(cell: Cell) -> list[Cell]:
    """A cell, with those of which traced control flow chose one where it did."""
    return [cell, *[c for c, _, _ in cell.may_be]] if cell.read_only is CHOSEN or cell.reaches else [cell]


Place = tuple[Merged, int]


def alike(merged: Sequence[Merged]) -> list[tuple[Place, Place]]:
    """Pairs of leaves that may be one array on some side. They are marked: neither takes writes behind the node."""
    found: set[tuple[Place, Place]] = set()
    for stood in zip(*[m.stood for m in merged], strict=True):
        holders: dict[int, dict[Place, None]] = {}
        for m, cells in zip(merged, stood, strict=True):
            for k, among in cells.items():
                for cell in among:
                    holders.setdefault(id(cell), {})[m, k] = None
        found |= {pair for places in holders.values() for pair in itertools.combinations(places, 2)}
    for one, other in found:
        one[0].shared.add(one[1])
        other[0].shared.add(other[1])
    return list(found)


def _refuse_optional(what: str, values: Sequence[Any], older: Sequence[frozenset[int]]) -> None:
    """None and a value are not merged where Python can go one way, nor where others may hold a list in the value."""
    known = [v for v in values if v is not UNBOUND]
    changeable = [list(changeable_in(v)) if type(v) is not Maybe else [] for v in values]
    if all(v is None or type(v) is Maybe for v in known) and not knows_values():
        return
    ids = [id(c) for found in changeable for c in found]
    mine = all(
        type(c) in (list, dict) and id(c) not in before and ids.count(id(c)) == 1
        for found, before in zip(changeable, older, strict=bool(older))
        for c in found
    )
    if knows_values() or not mine:
        one, other = "None", next((v for v in known if v is not None), None)
        text = f"{what} is {one} on one side of a traced condition and {_kind(other, flatten(other)[1])} on the other"
        raise MismatchError(describe(text, remedy="give it the same structure on every path, or set it to a copy"))


def _kind(x: Any, structure: Structure) -> str:
    return str(structure) if structure.leaves != 1 or structure.children else shown(x)


def shown(x: Any) -> str:
    if type(x) is Array:
        return f"an array {x.type}"
    return repr(x) if isinstance(x, str | int | float | bool | type(None)) else f"a {type(x).__name__}"
