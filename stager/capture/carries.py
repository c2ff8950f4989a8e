"""What a traced loop carries: the variables its iterations rebind, with their types, and the arrays they write.

Invariant: after `Spec.settle_types` and `settle_writes` have both said no, every carried leaf has one type before and
after an iteration, and a write into a carried array means what it means in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.array import Array, raw, wrap
from stager.capture.counts import held_lists
from stager.capture.extents import (
    I64,
    Carried,
    Extent,
    Leaf,
    Merges,
    axes_of,
    before_and_after,
    cut,
    enter,
    fit,
    is_own,
    settle,
    type_of,
)
from stager.capture.merged import Merged, chosen_among, shown
from stager.capture.optional import Maybe, as_maybe, decided
from stager.capture.packing import packed, unpacked
from stager.capture.raising import check
from stager.capture.row_lists import bound
from stager.capture.session import UNBOUND, holds_tracer
from stager.capture.sharing import Contents, changeable_in, is_frozen, refuse_rows, refuse_shared, shared_among
from stager.capture.variables import Names, Variables, mutable_ids
from stager.cells import Cell, Reach
from stager.errors import ControlFlowError, MutationError, describe
from stager.ir.dims import Dim, Expr
from stager.ir.types import Type
from stager.ops.families import zeros_of
from stager.ops.regions import dim_value
from stager.runtime.structure import Structure, flatten, unflatten
from stager.staged import CHOSEN, UserRegion, as_raw, from_around, handle, is_older, is_traceable, join, leaf_type


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
        self.leaves: list[Any] = [leaf_type(x) if _is_traced(x) else [x] for x in leaves]

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
                made.value = unflatten(structure, [_blank(x, region) if _is_traced(x) else x for x in leaves])
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
            value = Maybe(unflatten(structure, [_zero(x) if _is_traced(x) else x for x in leaves]), False)
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

    def reach(self, ran: Any, fresh: set[int]) -> None:
        """Let writes behind a loop that took no turn reach the array that the name has held all along.

        ran: what tells whether it took one; None where nothing does. fresh: ids of the cells that nobody else holds.
        """
        plain = [x for x in flatten(self.initial)[0] if type(x) is Array and x.ndim]
        for cell, first, left, entered in zip(self.starts_as, self._firsts(), self.left, self.entered, strict=True):
            if left is entered or cell.read_only or not cell.type.shape or type(first) is not Array:
                continue
            whole = any(first is x for x in plain)
            if all(id(x.cell) in fresh and not x.cell.reaches for x in ([first] if whole else plain)):
                continue
            if ran is None or not whole or first.type != cell.type or first.cell.read_only is CHOSEN:
                cell.read_only = CHOSEN
            elif first.is_writable:
                cell.reaches = (*cell.reaches, _reaching(first, ran()))

    def origins(self) -> dict[int, Cell]:
        """The cell before the loop of what the iteration began with, by id of the region's cell."""
        starts = [x for x, leaf in zip(self._flat(self.initial)[0], self.leaves, strict=True) if type(leaf) is tuple]
        return {id(c): x.cell for c, x in zip(self.entered, starts, strict=True) if type(x) is Array}

    def follow(self, origins: dict[int, Cell], may_not_run: bool) -> None:
        """Writes into an array that the name may hold after the loop end the copy: its own writes have been made."""
        for cell, left, entered in zip(self.starts_as, self.left, self.entered, strict=True):
            if left is None or not cell.type.shape:
                continue
            found = [entered] if may_not_run else []
            found += [left, *[c for c, _, _ in left.may_be]]
            older = [origins.get(id(c), c) for c in found]
            cell.stand_for([c for c in older if c.owner is None or c.owner.alive])


def _reaching(first: Array, ran: Any) -> Reach:
    """A write into what a loop has left reaches `first` where the loop took no turn. In the code of other loops and
    branches, which would have to carry both, that is an error."""

    def reach(path: tuple[Any, ...], part: Any, here: bool) -> None:
        if here:
            view = Array(first.cell, (*first.path, *path), part.type, False)
            view.write(as_raw(np.where(ran, view, wrap(part)), part.type.dtype))
        else:
            check(ran, MutationError(NO_TURN))

    return reach


NO_TURN = (
    "a write into what a loop has set reaches what was there before it: the loop has taken no turn. Let the other name "
    "hold a copy"
)


def _is_0d(x: Array) -> bool:
    """Whether this is an array of the caller that has no axes: `+=` changes it."""
    return x.cell.origin is not None and not x.path


def _is_traced(x: Any) -> bool:
    return is_traceable(x) and type(x) is not Expr


def _zero(x: Any) -> Array:
    t, weak = leaf_type(x)
    return handle(zeros_of(t), weak)


def _blank(x: Any, region: UserRegion) -> Array:
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


class Spec:
    """What a loop carries, as far as the traces so far have shown."""

    def __init__(
        self, variables: Variables, names: Names, fresh: frozenset[int] = frozenset(), count: int | None = None,
        turns: Dim | None = None,
    ) -> None:  # fmt: skip
        self.variables = variables
        self.fresh = fresh  # ids of cells and lists that nothing but a carried variable holds
        self.same: dict[str, str] = {}  # names that hold one list after an iteration: the other name
        self.count = count
        self.traded: dict[str, str] | None = None
        self.relied: list[Cell] = []  # written by the turns, and taken for what nobody else holds
        self.extents = Carried(turns, count is not None)
        self.carries: list[Carry] = []
        self.in_place: set[str] = set()  # names whose array is only written in place: carried as a cell
        self.declared: list[Cell] = []
        self.unbound: list[str] = []  # names without a value before the loop: the last iteration gives it
        self.older = mutable_ids(variables.snapshot())
        for n in names:
            bare = n.lstrip("+")
            value = variables.get(bare)
            if value is UNBOUND:
                self.unbound.append(bare)
            elif n != bare and type(value) is Array and (value.holds_memory or _is_0d(value)):
                self.in_place.add(bare)
            else:
                self.carries.append(Carry(bare, value, variables.text(bare)))

    def inputs(self, region: UserRegion) -> list[Any]:
        """Region inputs for the carries; sets the variables to the start of an iteration."""
        self.variables.mark(region, self.older)
        counts = [region.input(I64) for _ in self.extents.extents]
        enter(self.extents.extents, counts, region)
        values = [region.input(t) for c in self.carries for t in c.types()]
        it = iter(values)
        for c in self.carries:
            self.variables.set(c.name, c.enter(it))
        return [*counts, *values]

    def starts(self) -> list[Any]:
        return [*[dim_value(e.start) for e in self.extents.extents], *[v for c in self.carries for v in c.start()]]

    def outputs(self) -> list[Any]:
        """The raw values after an iteration, in the region."""
        counts = [dim_value(e.after) for e in self.extents.extents if e.after is not None]
        return [*counts, *[o for c in self.carries for o in c.outputs(self.variables.get(c.name))]]

    def mark_shared(self, late: Sequence[tuple[str, Merged]], region: UserRegion, written: Sequence[Cell]) -> None:
        """Find what is chosen among several arrays in a turn, of which others may hold one behind the loop. late: what
        the loop makes. written: the cells from around that a turn writes. All have given their outputs."""
        for c in self.carries:
            if type(c.initial) is Array and c.initial.type.shape and not c.initial.path and c.initial.cell in written:
                left = c.left[0]
                if (left is not None and c.entered[0] in chosen_among(left)) or region.graph.nx.succ[c.buffers[0].node]:
                    raise SharedError(c.name)  # it is written under another name while this one holds it
        begun = {id(cell): (c, k) for c in self.carries for k, cell in enumerate(c.entered)}
        stood: dict[tuple[Any, int], list[Cell]] = {
            (c, k): chosen_among(cell) for c in self.carries for k, cell in enumerate(c.left) if cell is not None
        }
        stood.update(((m, k), cells) for _, m in late for k, cells in m.stood[-1].items())
        holders: dict[int, list[tuple[Any, int]]] = {}
        for place, cells in stood.items():
            for cell in cells:
                holders.setdefault(id(cell), []).append(place)
        for (owner, k), cells in stood.items():
            kept = owner.entered[k] if isinstance(owner, Carry) else None
            if cells[0] is kept and owner.whole[k]:
                continue
            for cell in cells:
                others = [place for place in holders[id(cell)] if place != (owner, k)]
                if id(cell) in begun:
                    c, j = begun[id(cell)]
                    start = c.first_cells()[j]
                    known = start is not None and id(start) not in self.fresh  # under another name
                    shared = known or any(kept not in stood[place] for place in others)  # two that trade places are two
                else:
                    shared = bool(others) or bool(from_around(Array(cell, (), cell.type, False)))
                if shared and isinstance(owner, Carry):
                    owner.shared[k] = True
                elif shared:
                    owner.shared.add(k)

    def assign(self, results: Any) -> None:
        """The variables after the loop, from the node's results."""
        settle(self.extents.extents, results)
        for c in self.carries:
            value = c.leave(results)
            unset = type(c.initial) is Array and c.left[0] is c.entered[0] and c.whole[0]
            if unset and c.initial.type == value.type:
                value = c.initial  # no turn sets it
            self.variables.assign(c.name, value)
        for name, other in self.same.items():
            self.variables.set(name, self.variables.get(other))

    def late(self, merges: Merges) -> list[tuple[str, Merged]]:
        """Variables that the loop makes: (name, its value's kind) after an iteration."""
        found = [(n, self.variables.get(n)) for n in self.unbound]
        return [
            (n, Merged(self.variables.text(n), [v], merges)) for n, v in found if v is not UNBOUND and holds_tracer(v)
        ]

    def settle_bound(self, region: UserRegion) -> bool:
        """Carry what only some iterations set: the others keep it. True when it has to be traced again."""
        found = [n for n in self.unbound if self.variables.may_be_unbound(n) and holds_tracer(self.variables.get(n))]
        for n in found:
            leaves, structure = flatten(self.variables.get(n))
            blank = [_blank(x, region) if _is_traced(x) else x for x in leaves]
            self.fresh |= {id(x.cell) for x in blank if type(x) is Array}
            self.unbound.remove(n)
            self.carries.append(Carry(n, unflatten(structure, blank), self.variables.text(n)))
        return bool(found)

    def settle_types(self, region: UserRegion) -> bool:
        """Widen the carries to what the traced iteration left. True when it has to be traced again."""
        changed = False
        self.extents.again()
        for c in self.carries:
            if type(c.initial) is Maybe:
                self.variables.set(c.name, c.optional(self.variables.get(c.name)))
            changed |= c.widen(self.variables.get(c.name), self.extents, region)
        settled = self.extents.settle(region)
        if isinstance(settled, Extent):
            leaves = [(c, x) for c in self.carries for x in c.leaves if type(x) is tuple]
            c, leaf = next((c, x) for c, x in leaves if settled in axes_of(x).values())
            before, after = before_and_after(leaf)
            kind = UnboundedError if self.extents.grows_without_end(settled, region) else UnsteadyError
            raise kind(c.text, f"{before} before an iteration and {after} after it")
        return changed or settled

    def settle_writes(self, regions: Sequence[UserRegion]) -> bool:
        """Arrays that were carried by value and written in place. True to trace again.

        Python writes into the array that the name holds before the loop, in the first iteration. That is the same only
        when the name keeps that array (it is carried as a cell then), when the names trade their arrays (they are given
        back afterwards), or when nobody else can hold it (an iteration ahead of the loop made it).
        """
        self._settle_lists()
        written = [c for c in self.carries if any(cell.written for cell in c.starts_as)]
        for c in written:
            value = self.variables.get(c.name)
            if type(value) is Array and type(c.initial) is Array and value.cell is c.starts_as[0] and not value.path:
                self.carries.remove(c)
                self.in_place.add(c.name)
                return True
        if not written:
            return False
        touched = {cell for r in regions for cell in r.touched}
        initial = [x for c in written for x in flatten(c.initial)[0] if type(x) is Array]
        self.relied = [x.cell for x in initial]
        hidden = all(id(x.cell) in self.fresh and not x.path for x in initial) and not any(
            x.cell in touched for x in initial
        )
        if not hidden:
            self.traded = self._trade(written) if self.count is not None else None
            if self.traded is None or any(x.cell in touched for x in initial):
                raise SharedError(written[0].name)
        elif any(map(self._leaves_shared, written)):
            raise SharedError(written[0].name)
        return False

    def _leaves_shared(self, c: Carry) -> bool:
        """Whether a turn leaves an array in a name that others may hold, which the next turn writes into."""
        begun = {id(x): first for d in self.carries for x, first in zip(d.starts_as, d.first_cells(), strict=True)}
        values = {n: self.variables.get(n) for n in [*[d.name for d in self.carries], *self.unbound]}
        leaves = [(n, x) for n, v in values.items() if v is not UNBOUND for x in flatten(v)[0] if type(x) is Array]
        others = {id(cell) for n, x in leaves if n != c.name for cell in chosen_among(x.cell)}
        for n, x in leaves:
            for cell in chosen_among(x.cell) if n == c.name else ():
                first = begun.get(id(cell))
                older = id(cell) not in begun and bool(from_around(Array(cell, (), cell.type, False)))
                if older or id(cell) in others or (first is not None and id(first) not in self.fresh):
                    return True
        return False

    def _settle_lists(self) -> None:
        """Each carried list is one of the loop's own. Declines where that would be seen."""
        changed = [c for c in self.carries if c.contents.changed()]
        if any(not {id(x) for x in changeable_in(c.initial)} <= self.fresh for c in changed):
            refuse_shared("changing a list")
        values = {c.name: self.variables.get(c.name) for c in self.carries}
        for value in [*values.values(), *[self.variables.get(n) for n in self.unbound]]:
            refuse_rows(value)
        held = held_lists() if changed else ()
        if any(id(x) in held for value in values.values() for x in changeable_in(value)):
            refuse_shared("changing a list")
        self.same = {}
        if not shared_among(values.values()):
            return
        if changed or not self.count:
            refuse_shared("carrying a list")
        first: dict[int, str] = {}
        for name, value in values.items():
            if first.setdefault(id(value), name) != name and any(True for _ in changeable_in(value)):
                self.same[name] = first[id(value)]
        if shared_among([value for name, value in values.items() if name not in self.same]):
            refuse_shared("carrying a list")

    def _trade(self, written: Sequence[Carry]) -> dict[str, str] | None:
        """For every name whose array goes round in a cycle of names, the name whose array it takes over; or None."""
        by_cell = {id(c.starts_as[0]): c for c in self.carries if type(c.initial) is Array and not c.initial.path}
        takes: dict[str, str] = {}
        for c in by_cell.values():
            value = self.variables.get(c.name)
            other = by_cell.get(id(value.cell)) if type(value) is Array and not value.path else None
            if other is not None and other.initial.type == c.initial.type:
                takes[c.name] = other.name
        while set(takes) != set(takes.values()):  # what does not come back to a cycle is no trade
            takes = {a: b for a, b in takes.items() if b in takes and a in takes.values()}
        return takes if all(c.name in takes for c in written) else None

    def give_back(self, count: int | None) -> None:
        """After the loop: arrays that were traded hold what their last owner left, and the names hold these arrays."""
        if not self.traded:
            return
        assert count is not None
        initial = {c.name: c.initial for c in self.carries}
        values = {n: raw(self.variables.get(n)) for n in self.traded}
        holder = {n: n for n in self.traded}
        for _ in range(count % _order(self.traded)):
            holder = {n: holder[self.traded[n]] for n in holder}
        for n, first in holder.items():
            initial[first].write(values[n])
        for n, first in holder.items():
            self.variables.set(n, initial[first])


def _order(cycles: dict[str, str]) -> int:
    """After so many steps of a permutation everything is back in place."""
    order, now = 1, dict(cycles)
    while any(a != b for a, b in now.items()):
        now = {a: cycles[b] for a, b in now.items()}
        order += 1
    return order


class SharedError(UnsteadyError):
    """An array is written in place and then left for another one."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r}", "written in place and then set to another array, and others may hold the first one too"
        )
