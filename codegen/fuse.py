"""Stages -> nests: which computations share loops, and which buffers therefore need no memory of their own.

Stages are taken in order; each joins an earlier nest when that is legal, else starts one. Three ways of joining:

- *the same leaf*: the axes correspond one to one and every value passed along is read where it was written; the
  load becomes the stored value.
- *the same outer loops*: what is read at one outer point was written at that outer point, by an earlier leaf. Softmax,
  layernorm and attention rows become one pass over each row so.
- *over the outer loops*: a reduction over the rows of a nest adds each row up while it is in the cache
  (`column_sums.py`). Such reductions wait until something needs them, for rows to come by.

Invariant: for any storage, the order of conflicting accesses (read after write, write after read, write after write)
is that of the unfused program. Axes correspond when they have equal extents and move equal bytes in the buffers that
both sides touch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from stager.codegen.bodies import added_weight, append_body, rename
from stager.codegen.column_sums import Pieces, across_rows, divided, has_lanes, is_row, may_ride, pieces_of
from stager.codegen.contract import contract
from stager.codegen.groups import Group, Piece
from stager.codegen.index import DYNAMIC, Facts, Ix
from stager.codegen.program import (
    Axis,
    Loop,
    MapLanes,
    Program,
    Stage,
    Switch,
    While,
)
from stager.ir.dims import Dim, Expr, mod, product

MAX_BODY = 300
"""Operations in one fused leaf."""
SHORT_ROW = 16
"""Rows of fewer points have no sums riding along: points of many rows in lanes are better than a loop along each."""
SPREAD_BYTES = 1 << 18
"""Of a larger array rows are filled one after the other."""
WINDOW = 24
"""How many nests back a stage looks for company."""


def fuse(program: Program) -> None:
    """Replaces the stages of a program by nests and drops the buffers that became registers."""
    program.steps = _Fuser(program).steps(program.steps)
    contract(program)


class _Fuser:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.facts: Facts = program.facts
        self.waiting: list[Stage] = []
        self.names = itertools.count()

    def steps(self, steps: list[Any]) -> list[Any]:
        out: list[Any] = []
        groups: list[Group] = []
        for s in steps:
            if isinstance(s, Stage):
                self.place(s, groups)
                continue
            self.place_waiting(groups)
            out.extend(g.nest() for g in groups)
            groups = []
            match s:
                case Loop() | MapLanes():
                    s.body = self.steps(s.body)
                case While():
                    s.test, s.body = self.steps(s.test), self.steps(s.body)
                case Switch():
                    s.branches = [self.steps(b) for b in s.branches]
            out.append(s)
        self.place_waiting(groups)
        out.extend(g.nest() for g in groups)
        return out

    def place(self, s: Stage, groups: list[Group]) -> None:
        """Puts a stage where it belongs, now or when something needs it."""
        reads, writes = s.reads(), s.writes()
        for n in range(len(self.waiting) - 1, -1, -1):
            w = self.waiting[n]
            if w.writes() & (reads | writes) or w.reads() & writes or Group(w).clashes(s):
                self.place_waiting(groups, n + 1)
                break
        if may_ride(s) and across_rows(s):
            self.waiting.append(s)
        else:
            self.put(s, groups)

    def place_waiting(self, groups: list[Group], count: int | None = None) -> None:
        """The first `count` stages that wait, or all."""
        ready, self.waiting = self.waiting[:count], [] if count is None else self.waiting[count:]
        for s in ready:
            self.put(s, groups)

    def put(self, s: Stage, groups: list[Group]) -> None:
        """Puts a stage into a nest that takes it, or into a new one: into one that made what it reads before one that
        it only has something in common with."""
        if s.sequential:
            if not self.put_in_order(s, groups):
                groups.append(Group(s))
            return
        free: list[Group] = []  # nests that the stage may stand before
        maker: Group | None = None
        for g in reversed(groups[-WINDOW:]):
            if g.depends(s):
                maker = g
                break
            free.append(g)
        if maker is not None and self.put_behind(s, groups, maker, by_row=True):
            return
        if free and maker is not None and self.take(s, maker, True):
            return
        for g in free:
            if self.take(s, g, False) or (not g.is_sequential and self.ride(s, g, groups)):
                return
        if maker is not None and (not free and self.take(s, maker, True)):
            return
        if maker is not None and not maker.is_sequential and self.ride(s, maker, groups):
            return
        if maker is not None and self.put_behind(s, groups, maker):
            return
        groups.append(Group(s))

    def put_behind(self, s: Stage, groups: list[Group], maker: Group, *, by_row: bool = False) -> bool:
        """Puts a stage into a nest that made what it reads and that could stand behind `maker` and those after it.
        `by_row`: one that has a row for every point of `maker`."""
        for n in range(groups.index(maker) - 1, max(len(groups) - WINDOW, 0) - 1, -1):
            g = groups[n]
            if any(h.depends_on(g) for h in groups[n + 1 :]):
                continue
            if g.depends(s) and (not by_row or maker.is_along(g)) and self.take(s, g, True):
                groups.append(groups.pop(n))
                return True
        return False

    def take(self, s: Stage, g: Group, depends: bool) -> bool:
        """Joins a stage to a nest, where that is legal and worth it."""
        if g.is_sequential or g.clashes(s) or not self.join(s, g, depends):
            return False
        g.adopt(s)
        return True

    def put_in_order(self, s: Stage, groups: list[Group]) -> bool:
        """Puts a scatter into the latest nest that takes it and that could stand behind those after it."""
        for n in range(len(groups) - 1, max(len(groups) - WINDOW, 0) - 1, -1):
            g, later = groups[n], groups[n + 1 :]
            if g.clashes(s) or any(h.depends_on(g) for h in later):
                continue
            if self.join_in_order(s, g):
                g.adopt(s)
                groups.append(groups.pop(n))
                return True
        return False

    # -- joining -----------------------------------------------------------------------------------------------------

    def join(self, s: Stage, g: Group, depends: bool) -> bool:
        reads, writes = s.reads(), s.writes()
        last = -1  # the last leaf that s must come after
        for k, p in enumerate(g.leaves):
            if p.writes & reads or p.writes & writes or p.reads & writes:
                last = k
        ops = s.ops()
        for k in range(len(g.leaves) - 1, max(last, 0) - 1, -1):
            p = g.leaves[k]
            if p.stage.ops() + ops <= MAX_BODY and (depends or self.akin(s, p)):
                mapping = self.same_axes(s, p, g)
                if mapping is not None and self.merge(s, g, k, mapping):
                    return True
        return depends and self.share_outer(s, g)

    def join_in_order(self, s: Stage, g: Group) -> bool:
        """Adds a scatter to the loop over its positions that has just read what they point to, or has written
        elsewhere. Lanes gain little there, and the positions are read and checked once."""
        (p, *more), x = g.leaves, g.leaves[0].stage
        if more or g.outer or x.reductions or s.label != "scatter" or s.ops() + x.ops() > MAX_BODY:
            return False
        there = x.label == "scatter" if x.sequential else any(at.is_dynamic for _, at in x.loads)
        if not there or len(x.axes) != len(s.axes):
            return False
        if s.writes() & (p.reads | p.writes):
            return False
        mapping = self.same_axes(s, p, g)
        if mapping is None or any(a != v for a, v in mapping.items()) or not self.merge(s, g, 0, mapping):
            return False
        x.sequential = True
        return True

    def akin(self, s: Stage, p: Piece) -> bool:
        """Whether independent computations are worth one loop: they read the same data, or are tiny."""
        mine = s.reads()
        if mine & p.reads:
            return True
        size = 1
        for a in s.axes:
            if isinstance(a.extent, Expr):
                return False
            size *= a.extent
        return size <= 64 or (not mine and not p.reads)

    def same_axes(self, s: Stage, p: Piece, g: Group) -> dict[int, int] | None:
        """Axes of s -> variables of the leaf, one to one."""
        variables = g.outer + p.own
        if len(s.axes) != len(variables):
            return None
        mapping = self.correspond(s, [p], g)
        free = [v for v in variables if v not in mapping.values()]
        for a, axis in enumerate(s.axes):
            if a not in mapping:
                found = next((v for v in free if g.axes[v].extent == axis.extent), None)
                if found is None:
                    return None
                mapping[a] = found
                free.remove(found)
        if not set(mapping.values()) <= set(variables):
            return None
        reduced = {mapping[a] for a, axis in enumerate(s.axes) if axis.reduce}
        if s.reductions and p.stage.reductions and reduced != p.reduced:
            return None
        if s.reductions and any(v in g.outer for v in reduced):
            return None
        return mapping

    def correspond(self, s: Stage, pieces: Iterable[Piece], g: Group) -> dict[int, int]:
        """Axes of s that move the same bytes in a common buffer as a variable of the pieces."""
        mapping: dict[int, int] = {}
        used: set[int] = set()
        ordered = [*s.loads, *((st.buffer, st.at) for st in s.stores), *((r.buffer, r.at) for r in s.reductions)]
        for kinds in (("store", "reduce"), ("load",)):
            for b, at in ordered:
                if len(mapping) == len(s.axes):
                    return mapping
                for p in pieces:
                    for other, kind in p.accesses.get(id(b.storage), ()):
                        if kind not in kinds:
                            continue
                        for a, c in at.terms:
                            if a >= DYNAMIC or a in mapping:
                                continue
                            for v, d in other.terms:
                                if v < DYNAMIC and d == c and v not in used and g.axes[v].extent == s.axes[a].extent:
                                    mapping[a] = v
                                    used.add(v)
                                    break
        return mapping

    def merge(self, s: Stage, g: Group, k: int, mapping: dict[int, int]) -> bool:
        """Adds s to leaf k: its body is appended, loads of what the leaf stores become the stored values."""
        p = g.leaves[k]
        target = p.stage
        identity = all(a == v for a, v in mapping.items())
        stored: dict[tuple[int, Ix], int] = {}
        for st in target.stores:
            if st.combine == "set":
                stored[id(st.buffer.storage), st.at] = st.value
            else:
                stored.pop((id(st.buffer.storage), st.at), None)
        mine = p.writes
        reduced = {id(r.buffer.storage) for r in target.reductions}
        my_writes = s.writes()
        # legality: what both touch is touched at the same place
        for b, at in s.loads:
            sid = id(b.storage)
            if sid in reduced:
                return False
            # instructions that positions depend on have other numbers here and there
            if sid in mine and (at.is_dynamic or (sid, at if identity else at.rename(mapping)) not in stored):
                written = ((x.at, x.buffer.dtype.itemsize) for x in target.stores if id(x.buffer.storage) == sid)
                if not all(self.apart(s, at, b.dtype.itemsize, g, *other) for other in written):
                    return False
        for sid in my_writes & (p.reads | mine):
            if sid in reduced:
                return False
            at_mine = {
                at if identity else at.rename(mapping) for at in (x.at for x in s.stores if id(x.buffer.storage) == sid)
            }
            if any(id(r.buffer.storage) == sid for r in s.reductions) or len(at_mine) != 1:
                return False
            if any(at.is_dynamic for at in at_mine):
                return False
            size = next(x.buffer.dtype.itemsize for x in s.stores if id(x.buffer.storage) == sid)
            (at,) = {x.at for x in s.stores if id(x.buffer.storage) == sid}
            others = [other for other, _ in p.accesses[sid] if other not in at_mine]
            if others and not s.reads():
                return False  # parts that are filled stay apart: loops leave some of them out (`fills.py`)
            if not all(self.apart(s, at, size, g, other, size) for other in others):
                return False
        # earlier leaves: only if what is read at an outer point was written there
        if k > 0 and not self.aligned(s, g, g.leaves[:k], mapping):
            return False
        # later leaves must not care
        for q in g.leaves[k + 1 :]:
            if q.writes & s.reads() or q.writes & my_writes or q.reads & my_writes:
                return False
        append_body(target, s, mapping, identity, stored)
        if s.reductions:
            p.reduced = {mapping[a] for a, axis in enumerate(s.axes) if axis.reduce}
        p.refresh()
        return True

    def apart(self, s: Stage, at: Ix, size: int, g: Group, other: Ix, other_size: int) -> bool:
        """Whether two positions, of elements of so many bytes, in s and in g, are known to share no byte at any points:
        rows p and q that a rotation mixes."""
        facts = self.facts
        if at.is_dynamic or other.is_dynamic:
            return False
        if _interleaved(at, size, other, other_size):
            return True
        mine = facts.bounds(at, lambda a: (0, s.axes[a].extent - 1))
        theirs = facts.bounds(other, lambda v: (0, g.axes[v].extent - 1))
        if mine is None or theirs is None:
            return False
        return facts.at_most(mine[1] + size, theirs[0]) or facts.at_most(theirs[1] + other_size, mine[0])

    def share_outer(self, s: Stage, g: Group) -> bool:
        """Adds s as a new leaf inside the outer loops of a nest that it depends on."""
        mapping = self.correspond_writes(s, g)
        mapping = {a: v for a, v in mapping.items() if not s.axes[a].reduce}
        if g.fixed:
            if not set(g.outer) <= set(mapping.values()):
                return False
            shared = list(g.outer)
        else:
            p = g.leaves[0]
            shared = [v for v in p.own if v in mapping.values() and v not in p.reduced]
        candidates = list(shared)
        back = {v: a for a, v in mapping.items()}
        if self.is_spread(s, {back[v] for v in shared}, g):
            return False
        while candidates:
            outer = {back[v]: v for v in candidates}
            if self.worth(s, g, candidates) and self.aligned(s, g, g.leaves, outer, set(candidates)):
                break
            if g.fixed:
                return False
            candidates.pop()
        if not candidates:
            return False
        full = dict(outer)
        own = []
        for a, axis in enumerate(s.axes):
            if a not in full:
                v = g.add_axis(Axis(axis.extent, axis.reduce))
                full[a] = v
                own.append(v)
        if not g.fixed:
            g.outer = candidates
            g.fixed = True
            g.leaves[0].own = [v for v in g.leaves[0].own if v not in candidates]
        rename(s, full)
        piece = Piece(s, own)
        piece.reduced = {full[a] for a, axis in enumerate(s.axes) if axis.reduce}
        g.leaves.append(piece)
        return True

    def is_spread(self, s: Stage, outer: set[int], g: Group) -> bool:
        """Whether a stage would fill columns of a large array, and reads nothing of them that the nest has in the
        cache."""
        columns = any(
            not (isinstance(x.buffer.storage.nbytes, int) and x.buffer.storage.nbytes < SPREAD_BYTES)
            and any(v not in outer for v, _ in x.at.terms)
            and any(v in outer and c == x.buffer.dtype.itemsize for v, c in x.at.terms)
            for x in s.stores
        )
        there = g.reads | g.writes
        return columns and not any(
            id(b.storage) in there and any(v not in outer for v, _ in at.terms) for b, at in s.loads
        )

    # -- reductions over the shared loops ----------------------------------------------------------------------------

    def ride(self, s: Stage, g: Group, groups: list[Group]) -> bool:
        """Adds a reduction over the rows of a nest that reads the same data; its total is a stage of its own."""
        if not may_ride(s) or g.clashes(s) or not s.reads() & (g.reads | g.writes):
            return False
        mapping = self.correspond(s, g.leaves, g)
        back = {v: a for a, v in mapping.items()}
        outer = g.outer
        if not g.fixed:
            p = g.leaves[0]
            outer = [v for v in p.own if v not in p.reduced]
            if not p.reduced or self.is_short([g.axes[v].extent for v in p.own if v not in outer]):
                return False
        if not outer or not set(outer) <= set(back):
            return False
        inside = [a.extent for n, a in enumerate(s.axes) if mapping.get(n) not in outer]
        inside += [g.axes[v].extent for p in g.leaves for v in p.own if v not in outer]
        row = g.axes[outer[-1]].extent
        if len(outer) > 1 and isinstance(row, int) and not any(map(has_lanes, inside)):
            if g.pieces is not None or not is_row(row):  # summed up point by point it would leave scalar code
                return False
            outer = outer[:-1]
        lanes = len(outer) > 1 and not s.axes[back[outer[0]]].reduce  # the first loop is over independent sums
        if not all(s.axes[back[v]].reduce for v in outer[lanes:]):
            return False
        rows = pieces_of([g.axes[v].extent for v in outer], lanes=lanes)
        if g.pieces is not None:
            if lanes and g.pieces.rows != 1:
                return False
            rows = g.pieces.rows, g.pieces.count
        shared = {back[v]: v for v in outer}
        if rows is None or not self.aligned(replace(s, reductions=[]), g, g.leaves, shared, set(outer)):
            return False
        if g.pieces is None:
            g.pieces = Pieces(g.add_axis(Axis(rows[1])), *rows)
        if not g.fixed:
            g.outer, g.fixed = outer, True
            g.leaves[0].own = [v for v in g.leaves[0].own if v not in outer]
        elif g.outer != outer:
            dropped, g.outer = g.outer[len(outer) :], outer
            for p in g.leaves:
                p.own = [*dropped, *p.own]
        lane = back[outer[0]] if lanes else None
        partial = divided(s, set(shared), g.pieces, f"p{next(self.names)}", lane)
        if partial.total is not None:
            self.program.storages.append(partial.buffer.storage)
        if lane is None:
            shared[len(s.axes)] = g.pieces.var
        self.add_row(partial.stage, g, shared, {a: v for a, v in mapping.items() if v not in outer})
        g.partials.append(partial)
        g.adopt(replace(s, reductions=[]))
        g.writes.add(id(partial.buffer.storage))
        if partial.total is not None:
            groups.append(Group(partial.total))
        return True

    def is_short(self, extents: list[Dim]) -> bool:
        """Whether a row has too few points to be worth loops of its own."""
        points = product(extents)
        return isinstance(points, int) and points < SHORT_ROW

    def add_row(self, s: Stage, g: Group, shared: dict[int, int], mine: dict[int, int]) -> None:
        """Puts a stage into the leaf over the same points of a row that computes most of it already, else into one of
        its own. Of several it takes one that fills no array: stores into the cache wait behind those that miss it."""
        own = [a for a in range(len(s.axes)) if a not in shared]
        last = max((k for k, p in enumerate(g.leaves) if p.writes & s.reads()), default=0)
        found = []
        for k in range(last, len(g.leaves)):
            full = self.points_of_row(s, g, k, shared | {a: v for a, v in mine.items() if v in g.leaves[k].own})
            if full is not None:
                fills = any(st.combine == "set" and st.at.terms for st in g.leaves[k].stage.stores)
                found.append((added_weight(g.leaves[k].stage, s, full), fills, -k, full))
        for _, _, k, full in sorted(found, key=lambda x: x[:3]):
            if self.merge(s, g, -k, full):
                if s.reductions:
                    g.leaves[-k].reduced = {full[a] for a in own if s.axes[a].reduce}
                return
        full = dict(shared)
        for a in own:
            full[a] = g.add_axis(s.axes[a])
        rename(s, full)
        piece = Piece(s, [full[a] for a in own])
        piece.reduced = {full[a] for a in own if s.axes[a].reduce}
        g.leaves.append(piece)

    def points_of_row(self, s: Stage, g: Group, k: int, known: dict[int, int]) -> dict[int, int] | None:
        """The axes of s as variables of leaf k, where both run over the same points and read the same data."""
        p = g.leaves[k]
        rest = [a for a in range(len(s.axes)) if a not in known]
        free = [v for v in p.own if v not in known.values()]
        if len(rest) != len(free) or not p.reads & s.reads() or p.stage.ops() + s.ops() > MAX_BODY:
            return None
        full = dict(known)
        for a in rest:
            v = next((v for v in free if g.axes[v].extent == s.axes[a].extent), None)
            if v is None:
                return None
            full[a] = v
            free.remove(v)
        reduced = {v for a, v in full.items() if s.axes[a].reduce}
        if s.reductions and p.stage.reductions and reduced != p.reduced:
            return None
        return full

    def correspond_writes(self, s: Stage, g: Group) -> dict[int, int]:
        return self.correspond(s, g.leaves, g)

    def worth(self, s: Stage, g: Group, outer: list[int]) -> bool:
        """Sharing loops pays when a row of work remains inside, or a reduction's result stays in a register."""
        if g.fixed:
            return True
        p = g.leaves[0]
        own = [v for v in p.own if v not in outer]
        if not own:
            return False  # nothing but the shared loops: then the leaf itself should have matched
        inside: Dim = 1
        for v in own:
            inside = inside * g.axes[v].extent
        if isinstance(inside, Expr):
            return True
        return inside >= 4

    def aligned(
        self, s: Stage, g: Group, leaves: list[Piece], mapping: dict[int, int], outer: set[int] | None = None
    ) -> bool:
        """Whether s and the leaves, where they touch the same storage, stay in the slab of one outer point."""
        shared = set(g.outer) if outer is None else outer
        mine: dict[int, list[tuple[Ix, str]]] = {}
        for b, at in s.loads:
            mine.setdefault(id(b.storage), []).append((at, "load"))
        for st in s.stores:
            mine.setdefault(id(st.buffer.storage), []).append((st.at, "store"))
        for r in s.reductions:
            mine.setdefault(id(r.buffer.storage), []).append((r.at, "store"))
        for sid, accesses in mine.items():
            for p in leaves:
                for other, kind in p.accesses.get(sid, ()):
                    for at, my_kind in accesses:
                        if kind == "load" and my_kind == "load":
                            continue
                        if not self._same_slab(s, at, mapping, g, other, shared):
                            return False
        return True

    def _same_slab(self, s: Stage, at: Ix, mapping: dict[int, int], g: Group, other: Ix, shared: set[int]) -> bool:
        """At one point of the shared variables, `at` (in s) and `other` (in g) fall into one block of bytes that
        no other point's accesses touch."""
        if at.is_dynamic or other.is_dynamic:
            return False
        steps: dict[int, Dim] = {}
        inner_a: list[tuple[int, Dim]] = []
        for a, c in at.terms:
            v = mapping.get(a)
            if v in shared:
                steps[v] = c
            else:
                inner_a.append((a, c))
        inner_b = []
        for v, c in other.terms:
            if v in shared:
                if steps.get(v) != c:
                    return False
            else:
                inner_b.append((v, c))
        if set(steps) != {v for v, _ in other.terms if v in shared} or set(steps) != shared:
            return False
        if self._columns(steps, g, [*inner_a, *inner_b], at.const - other.const):
            return True
        facts = self.facts
        ra = facts.bounds(Ix(at.const, tuple(inner_a)), lambda a: (0, s.axes[a].extent - 1))
        rb = facts.bounds(Ix(other.const, tuple(inner_b)), lambda v: (0, g.axes[v].extent - 1))
        if ra is None or rb is None:
            return False
        low = ra[0] if facts.at_most(ra[0], rb[0]) else rb[0] if facts.at_most(rb[0], ra[0]) else None
        high = ra[1] if facts.at_most(rb[1], ra[1]) else rb[1] if facts.at_most(ra[1], rb[1]) else None
        if low is None or high is None:
            return False
        span = high - low + 1
        order = sorted((v for v in steps if not isinstance(steps[v], Expr)), key=lambda v: abs(_int(steps[v])))
        order += sorted((v for v in steps if isinstance(steps[v], Expr)), key=lambda v: str(steps[v]))
        for _ in range(len(order)):
            # the next larger step: the one that is not smaller than what has been spanned so far, and is least
            fitting = [v for v in order if facts.at_most(span, _abs(steps[v]))]
            if not fitting:
                return False
            v = fitting[0]
            order.remove(v)
            span = span + _abs(steps[v]) * (g.axes[v].extent - 1)
        return True

    def _columns(self, steps: dict[int, Dim], g: Group, inner: list[tuple[int, Dim]], apart: Dim) -> bool:
        """Whether the shared variables stay between the steps of all others: each point then is a column of its own."""
        coefs = [c for _, c in inner]
        if not coefs:
            return False
        if all(isinstance(c, int) for c in coefs) and isinstance(apart, int):
            unit: Dim = math.gcd(*(c for c in coefs if isinstance(c, int)), apart)
        else:
            unit = coefs[0]
            for c in (*coefs[1:], apart):
                if mod(c, unit) == 0:
                    continue
                if c == 0 or mod(unit, c) != 0:
                    return False
                unit = c
            if any(mod(c, unit) != 0 for c in (*coefs, apart)):
                return False
        if len(steps) != 1:
            return False
        ((v, c),) = steps.items()
        return self.facts.at_most(_abs(c) * (g.axes[v].extent - 1) + 1, _abs(unit))


def _int(d: Dim) -> int:
    assert isinstance(d, int)
    return d


def _abs(d: Dim) -> Dim:
    return abs(d) if isinstance(d, int) else d


def _interleaved(at: Ix, size: int, other: Ix, other_size: int) -> bool:
    """Whether two positions are apart at all points because both count in steps of which they take different parts."""
    step = 0
    for _, c in (*at.terms, *other.terms):
        if not isinstance(c, int):
            return False
        step = math.gcd(step, c)
    if not step or not isinstance(behind := at.const - other.const, int):
        return False
    return other_size <= behind % step <= step - size
