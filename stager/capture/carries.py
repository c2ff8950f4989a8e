"""What a traced loop carries: the variables its iterations rebind (`carry.py`), and the arrays they write.

Invariant: after `Spec.settle_types` and `settle_writes` have both said no, every carried leaf has one type before and
after an iteration, and a write into a carried array means what it means in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.array import Array, raw
from stager.capture.carry import Carry, UnboundedError, UnsteadyError, blank, is_traced
from stager.capture.counts import held_lists
from stager.capture.extents import (
    I64,
    Carried,
    Extent,
    Merges,
    axes_of,
    before_and_after,
    enter,
    settle,
)
from stager.capture.merged import Merged, chosen_among
from stager.capture.optional import Maybe
from stager.capture.session import UNBOUND, holds_tracer
from stager.capture.sharing import changeable_in, refuse_rows, refuse_shared, shared_among
from stager.capture.variables import Names, Variables, mutable_ids
from stager.cells import Cell
from stager.ir.dims import Dim
from stager.ops.regions import dim_value
from stager.runtime.structure import flatten, unflatten
from stager.staged import UserRegion, from_around


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
            for k, (entered, left) in enumerate(zip(c.entered, c.left, strict=True)):
                stays = left is not None and entered in chosen_among(left)
                if (stays or region.graph.nx.succ[c.buffers[k].node]) and c.shows(k, written):
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
                    known = self._begins_shared(cell, begun, stood)
                    shared = known or any(kept not in stood[place] for place in others)  # two that trade places are two
                else:
                    shared = bool(others) or bool(from_around(Array(cell, (), cell.type, False)))
                if shared and isinstance(owner, Carry):
                    owner.shared[k] = True
                elif shared:
                    owner.shared.add(k)

    def _begins_shared(self, cell: Cell, begun: dict[int, Any], stood: dict[Any, list[Cell]]) -> bool:
        """Whether what a turn begins with, on this or on a later one, others may hold before the loop."""
        todo, seen = [cell], {id(cell)}
        while todo:
            place = begun.get(id(todo.pop()))
            if place is None:
                continue
            start = place[0].first_cells()[place[1]]
            if start is not None and (id(start) not in self.fresh or start.read_only):
                return True
            more = [x for x in stood.get(place, ()) if id(x) not in seen]
            seen |= {id(x) for x in more}
            todo += more
        return False

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
            blanks = [blank(x, region) if is_traced(x) else x for x in leaves]
            self.fresh |= {id(x.cell) for x in blanks if type(x) is Array}
            self.unbound.remove(n)
            self.carries.append(Carry(n, unflatten(structure, blanks), self.variables.text(n)))
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
        hidden = all(id(x.cell) in self.fresh and not x.path and not x.cell.read_only for x in initial) and not any(
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
            if n == c.name and x.cell.read_only:
                return True
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


def _is_0d(x: Array) -> bool:
    """Whether this is an array of the caller that has no axes: `+=` changes it."""
    return x.cell.origin is not None and not x.path


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
