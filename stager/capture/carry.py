"""`Carry`: a variable that the turns of a traced loop rebind, from before the loop to behind it.

Invariant: what the name holds behind the loop takes writes only where they mean what they mean in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.capture.extents import (
    Carried,
    Leaf,
    before_and_after,
    cut,
    fit,
    is_own,
    type_of,
)
from stager.capture.merged import shown
from stager.capture.optional import Maybe, as_maybe, decided
from stager.capture.packing import packed, unpacked
from stager.capture.raising import check
from stager.capture.row_lists import bound
from stager.capture.sharing import Contents, changeable_in, is_frozen
from stager.cells import Cell
from stager.errors import ControlFlowError, MutationError, describe
from stager.ir.dims import Expr, product
from stager.ir.types import Type
from stager.ops.families import zeros_of
from stager.runtime.structure import Structure, flatten, unflatten
from stager.staged import CHOSEN, UserRegion, as_raw, handle, is_older, is_traceable, join, leaf_type


class Carry:
    """A variable that iterations rebind: its structure, and a leaf (`extents.py`) or [static value] for each of it."""

    def __init__(self, name: str, value: Any, text: str) -> None:
        self.name = name
        self.text = text
        self.packs = True  # whether its lists of rows are carried as the arrays of the rows
        self._begin(value)
        self.buffers: list[Any] = []  # per traced leaf: the region's input for it
        self.starts_as: list[Cell] = []  # per traced leaf: the region's cell for it at the start of an iteration
        self.shared: list[bool] = []  # per handle: the iteration left an array that is older than the loop
        self.entered: list[Cell] = []  # `starts_as` of the iteration that left these
        self.left: list[Cell | None] = []  # per handle: the cell that the iteration left
        self.whole: list[bool] = []  # per handle: whether it left all of that, and not a view
        self.frozen = any(map(is_frozen, changeable_in(value)))  # an item of another list, on some turn
        self.contents = Contents(None)  # of the lists and dicts at the start of an iteration

    def _begin(self, value: Any) -> None:
        """Begin with a value, as far as its types are known before an iteration has been traced."""
        self.initial = value
        leaves, self.structure = self._flat(value)
        self.leaves: list[Any] = [leaf_type(x) if is_traced(x) else [x] for x in leaves]

    def _flat(self, value: Any) -> tuple[list[Any], Structure]:
        return flatten(packed(value) if self.packs else value)

    def types(self) -> list[Type]:
        return [type_of(leaf) for leaf in self.leaves if type(leaf) is tuple]

    def enter(self, inputs: Any) -> Any:
        """The value at the start of an iteration, on region inputs."""
        raws = [next(inputs) if type(leaf) is tuple else None for leaf in self.leaves]
        made = [
            handle(cut(r, leaf), leaf[1]) if type(leaf) is tuple else leaf[0]
            for r, leaf in zip(raws, self.leaves, strict=True)
        ]
        self.buffers = [r for r in raws if r is not None]
        self.starts_as = [x.cell for x in made if type(x) is Array]
        value = unpacked(unflatten(self.structure, made))
        if self.frozen or type(value) is Maybe:
            bound(value, ())
        self.contents = Contents(value)
        return value

    def start(self) -> list[Any]:
        """The raw values before the loop."""
        return [fit(x, leaf) for x, leaf in self._raws(self.initial)]

    def _raws(self, value: Any) -> list[tuple[Any, Any]]:
        """(raw value, leaf) of the traced leaves."""
        leaves = self._flat(value)[0]
        pairs = [(x, leaf) for x, leaf in zip(leaves, self.leaves, strict=True) if type(leaf) is tuple]
        return [(as_raw(x, leaf[0].dtype), leaf) for x, leaf in pairs]

    def outputs(self, value: Any) -> list[Any]:
        """The raw values after an iteration, in the region."""
        leaves = [x for x, leaf in zip(self._flat(value)[0], self.leaves, strict=True) if type(leaf) is tuple]
        self.shared = [type(x) is Array and is_older(x) for x in leaves]
        self.left = [x.cell if type(x) is Array else None for x in leaves]
        self.whole = [type(x) is Array and not x.path for x in leaves]
        self.entered = list(self.starts_as)
        return [fit(x, leaf, b) for (x, leaf), b in zip(self._raws(value), self.buffers, strict=True)]

    def widen(self, value: Any, extents: Carried, region: UserRegion) -> bool:
        """Take in the type that an iteration leaves. True when that changed something."""
        if type(value) is Maybe and type(self.initial) is not Maybe:
            made = Maybe(value.value if self.initial is None else self.initial, self.initial is not None)
            if self.initial is None:
                leaves, structure = flatten(made.value)
                made.value = unflatten(structure, [blank(x, region) if is_traced(x) else x for x in leaves])
            self._begin(made)
            return True
        leaves, structure = self._flat(value)
        self.frozen |= any(map(is_frozen, changeable_in(value)))
        what = self.text
        if structure != self.structure and self.packs and flatten(self.initial)[1] == flatten(value)[1]:
            self.packs = False
            self._begin(self.initial)
            return True
        if structure != self.structure:
            raise UnsteadyError(what, f"{self.structure} before an iteration and {structure} after it")
        changed = False
        for k, x in enumerate(leaves):
            known = self.leaves[k]
            if type(known) is list:
                before = known[0]
                comparable = type(x) is type(before) and (type(x) is Expr or not is_traceable(x))
                if x is before or (comparable and x == before):
                    continue
                if type(before) is not Expr or not is_traceable(x):
                    raise UnsteadyError(what, f"{shown(before)} before an iteration and {shown(x)} after it")
                known = leaf_type(before)  # a size
            if not is_traceable(x):
                raise UnsteadyError(what, f"an array {known[0]} before an iteration and {shown(x)} after it")
            after = leaf_type(x)
            joined = self._joined(known, after, extents)
            if joined is None:
                raise UnsteadyError(what, f"{before_and_after(known)[0]} before an iteration and {after[0]} after it")
            if joined != self.leaves[k]:
                self.leaves[k] = joined
                changed = True
        return changed

    def optional(self, value: Any) -> Any:
        """What an iteration leaves, of a variable that may be None; the region is in force."""
        if value is None:
            leaves, structure = flatten(self.initial.value)
            value = Maybe(unflatten(structure, [_zero(x) if is_traced(x) else x for x in leaves]), False)
        return as_maybe(value)

    def _joined(self, known: Leaf, after: tuple[Type, bool], extents: Carried) -> Leaf | None:
        """The leaf that is both, or None."""
        t, weak = after
        dims = len(known[0].shape)
        if len(t.shape) != dims or (not known[1] and t.dtype is not known[0].dtype and not weak):
            return None
        known = extents.widen(known, t.shape)
        joined = join(self.text, [known[:2], (Type(t.dtype, known[0].shape), weak)])
        return (*joined, *known[2:])

    def leave(self, raws: Any) -> Any:
        """The value after the loop. Where the name held an older array in the end, it is a copy that refuses writes."""
        value = self.enter(raws)
        for cell, shared in zip(self.starts_as, self.shared, strict=True):
            if shared and cell.type.shape:
                cell.read_only = CHOSEN
        return decided(value) if type(value) is Maybe else value

    def first_cells(self) -> list[Cell | None]:
        """Per handle: the cell before the loop; None where that was a number."""
        return [x.cell if type(x) is Array else None for x in self._firsts()]

    def _firsts(self) -> list[Any]:
        """Per handle: what it was before the loop."""
        return [x for x, leaf in zip(self._flat(self.initial)[0], self.leaves, strict=True) if type(leaf) is tuple]

    def shows(self, k: int, written: Sequence[Cell]) -> bool:
        """Whether a write into one of these cells changes what a handle has shown before the loop."""
        first = self._firsts()[k]
        if type(first) is not Array or not first.ndim or not _shows_all(first):
            return False
        found = [first.cell, *[c for c, _, _ in first.cell.may_be if not c.is_returned()]]
        return any(c in found for c in written)

    def reach(self, ran: Any, fresh: set[int]) -> None:
        """Let writes behind a loop that took no turn reach the array that the name has held all along.

        ran: gives whether it took one; None where nothing tells. fresh: ids of the cells that nobody else holds.
        """
        plain = [x for x in flatten(self.initial)[0] if type(x) is Array and x.ndim]
        for cell, first, left, entered in zip(self.starts_as, self._firsts(), self.left, self.entered, strict=True):
            if left is entered or cell.read_only or not cell.type.shape or type(first) is not Array:
                continue
            whole = any(first is x for x in plain)
            held = [x.cell for x in ([first] if whole else plain)]
            if all(id(c) in fresh and not c.reaches and not c.read_only for c in held):
                continue
            if ran is None or not whole or first.type != cell.type:
                cell.read_only = CHOSEN
            else:
                cell.reaches = (*cell.reaches, Unmoved(first, ran()))

    def origins(self) -> dict[int, Cell]:
        """The cell before the loop of what the iteration began with, by id of the region's cell."""
        return {id(c): x.cell for c, x in zip(self.entered, self._firsts(), strict=True) if type(x) is Array}

    def follow(self, origins: dict[int, Cell], may_not_run: bool) -> None:
        """Writes into an array that the name may hold after the loop end the copy: its own writes have been made."""
        for cell, left, entered in zip(self.starts_as, self.left, self.entered, strict=True):
            if left is None or not cell.type.shape:
                continue
            found = [entered] if may_not_run else []
            found += [left, *[c for c, _, _ in left.may_be]]
            older = [origins.get(id(c), c) for c in found]
            cell.stand_for([c for c in older if c.owner is None or c.owner.alive])


def _shows_all(x: Array) -> bool:
    """Whether a write into the array's cell must change what it shows: it shows all elements."""
    return not x.path or bool(product(x.type.shape) == product(x.cell.type.shape))


class Unmoved:
    """What a name held before a loop, and whether the loop took a turn: where it took none, the name holds that still.

    A write into what the loop has left is made there too. Where that takes none, and in the code of other loops and
    branches, which would have to carry both arrays, such a write is an error of the run.
    """

    def __init__(self, first: Array, ran: Any) -> None:
        self.first = first
        self.ran = ran

    def hand_on(self, path: tuple[Any, ...], part: Any, here: bool) -> None:
        if not here or not self.first.is_writable:
            self.check()
            return
        view = Array(self.first.cell, (*self.first.path, *path), part.type, False)
        view.write(as_raw(np.where(self.ran, view, wrap(part)), part.type.dtype))

    def check(self) -> None:
        text = "a write into what a loop has set reaches what was there before it: the loop has taken no turn"
        check(self.ran, MutationError(f"{text}. Let the other name hold a copy"))


def is_traced(x: Any) -> bool:
    return is_traceable(x) and type(x) is not Expr


def _zero(x: Any) -> Array:
    t, weak = leaf_type(x)
    return handle(zeros_of(t), weak)


def blank(x: Any, region: UserRegion) -> Array:
    """What a variable holds before the first iteration that sets it to x: nobody reads it."""
    t, weak = leaf_type(x)
    shape = tuple([0 if is_own(d, region) else d for d in t.shape])
    with region.lower():
        return handle(zeros_of(Type(t.dtype, shape)), weak)


class UnsteadyError(ControlFlowError):
    """A carried variable is of another kind after an iteration than before it."""

    def __init__(self, what: str, how: str) -> None:
        super().__init__(describe(f"{what} changes in a traced loop: it is {how}",
                                  remedy="give it its final shape and dtype before the loop"))  # fmt: skip


class UnboundedError(UnsteadyError):
    """A carried array grows in a loop whose number of turns is not known."""
