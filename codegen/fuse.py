"""Stages -> nests: which computations share loops, and which buffers therefore need no memory of their own.

Stages are taken in order; each joins an earlier nest when that is legal, else starts one. Two ways of joining:

- *the same leaf*: the axes correspond one to one and every value passed along is read where it was written; the
  load becomes the stored value.
- *the same outer loops*: what is read at one outer point was written at that outer point, by an earlier leaf. Softmax,
  layernorm and attention rows become one pass over each row so.

Invariant: for any storage, the order of conflicting accesses (read after write, write after read, write after write)
is that of the unfused program. Axes correspond when they have equal extents and move equal bytes in the buffers that
both sides touch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from stager.codegen.index import DYNAMIC, Facts, Ix
from stager.codegen.program import (
    Axis,
    Buffer,
    Check,
    Instr,
    Leaf,
    Loop,
    LoopAxis,
    MapLanes,
    Move,
    Nest,
    Program,
    Read,
    Routine,
    Stage,
    Storage,
    Store,
    Switch,
    While,
    walk,
)
from stager.ir.dims import Dim, Expr, mod
from stager.ir.dtypes import DType

MAX_BODY = 300
"""Operations in one fused leaf."""
ROW_BYTES = 1 << 15
"""A buffer that lives for one outer point may be this large."""
WINDOW = 12
"""How many nests back a stage looks for company."""


def fuse(program: Program) -> None:
    """Replaces the stages of a program by nests and drops the buffers that became registers."""
    program.steps = _Fuser(program.facts).steps(program.steps)
    contract(program)


class _Group:
    """A nest under construction."""

    __slots__ = ("axes", "fixed", "leaves", "outer", "reads", "writes")

    def __init__(self, s: Stage) -> None:
        self.axes: dict[int, Axis] = dict(enumerate(s.axes))
        self.outer: list[int] = []
        self.fixed = False  # outer is decided: there are several leaves
        self.leaves: list[_Piece] = [_Piece(s, list(range(len(s.axes))))]
        self.reads = s.reads()
        self.writes = s.writes()

    def add_axis(self, a: Axis) -> int:
        v = len(self.axes)
        self.axes[v] = a
        return v

    def nest(self) -> Nest:
        axes = self.axes
        outer = [LoopAxis(v, axes[v].extent) for v in self.outer]
        leaves = []
        for p in self.leaves:
            reduced = p.reduced
            leaves.append(Leaf([LoopAxis(v, axes[v].extent, v in reduced) for v in p.own], p.stage))
        return Nest(outer, leaves)


class _Piece:
    """A leaf under construction: a stage whose variables are the group's."""

    __slots__ = ("accesses", "own", "reads", "reduced", "stage", "writes")

    def __init__(self, stage: Stage, own: list[int]) -> None:
        self.stage = stage
        self.own = own
        self.reduced = {v for v, a in enumerate(stage.axes) if a.reduce} if stage.reductions else set()
        self.refresh()

    def refresh(self) -> None:
        s = self.stage
        self.reads = s.reads()
        self.writes = s.writes()
        self.accesses: dict[int, list[tuple[Ix, str]]] = {}
        for b, at in s.loads:
            self.accesses.setdefault(id(b.storage), []).append((at, "load"))
        for st in s.stores:
            self.accesses.setdefault(id(st.buffer.storage), []).append((st.at, "store"))
        for r in s.reductions:
            self.accesses.setdefault(id(r.buffer.storage), []).append((r.at, "reduce"))


class _Fuser:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def steps(self, steps: list[Any]) -> list[Any]:
        out: list[Any] = []
        groups: list[_Group] = []
        for s in steps:
            if isinstance(s, Stage):
                self.place(s, groups)
                continue
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
        out.extend(g.nest() for g in groups)
        return out

    def place(self, s: Stage, groups: list[_Group]) -> None:
        """Puts a stage into the latest nest that takes it, or into a new one."""
        if not s.sequential:
            reads, writes = s.reads(), s.writes()
            for g in reversed(groups[-WINDOW:]):
                depends = bool(g.writes & reads or g.writes & writes or g.reads & writes)
                if not g.leaves[-1].stage.sequential and self.join(s, g, depends):
                    g.reads |= reads
                    g.writes |= writes
                    return
                if depends:
                    break
        groups.append(_Group(s))

    # -- joining -----------------------------------------------------------------------------------------------------

    def join(self, s: Stage, g: _Group, depends: bool) -> bool:
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

    def akin(self, s: Stage, p: _Piece) -> bool:
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

    def same_axes(self, s: Stage, p: _Piece, g: _Group) -> dict[int, int] | None:
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

    def correspond(self, s: Stage, pieces: Iterable[_Piece], g: _Group) -> dict[int, int]:
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

    def merge(self, s: Stage, g: _Group, k: int, mapping: dict[int, int]) -> bool:
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
            if sid in mine and (sid, at if identity else _renamed(at, mapping)) not in stored:
                return False
        for sid in my_writes & (p.reads | mine):
            if sid in reduced:
                return False
            at_mine = {
                at if identity else _renamed(at, mapping)
                for at in (x.at for x in s.stores if id(x.buffer.storage) == sid)
            }
            if any(id(r.buffer.storage) == sid for r in s.reductions) or len(at_mine) != 1:
                return False
            if any(at not in at_mine for at, _ in p.accesses[sid]):
                return False
        # earlier leaves: only if what is read at an outer point was written there
        if k > 0 and not self.aligned(s, g, g.leaves[:k], mapping):
            return False
        # later leaves must not care
        for q in g.leaves[k + 1 :]:
            if q.writes & s.reads() or q.writes & my_writes or q.reads & my_writes:
                return False
        _append(target, s, mapping, identity, stored)
        if s.reductions:
            p.reduced = {mapping[a] for a, axis in enumerate(s.axes) if axis.reduce}
        p.refresh()
        return True

    def share_outer(self, s: Stage, g: _Group) -> bool:
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
        _rename(s, full)
        piece = _Piece(s, own)
        piece.reduced = {full[a] for a, axis in enumerate(s.axes) if axis.reduce}
        g.leaves.append(piece)
        return True

    def correspond_writes(self, s: Stage, g: _Group) -> dict[int, int]:
        return self.correspond(s, g.leaves, g)

    def worth(self, s: Stage, g: _Group, outer: list[int]) -> bool:
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
        self, s: Stage, g: _Group, leaves: list[_Piece], mapping: dict[int, int], outer: set[int] | None = None
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

    def _same_slab(self, s: Stage, at: Ix, mapping: dict[int, int], g: _Group, other: Ix, shared: set[int]) -> bool:
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

    def _columns(self, steps: dict[int, Dim], g: _Group, inner: list[tuple[int, Dim]], apart: Dim) -> bool:
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


# -- bodies ----------------------------------------------------------------------------------------------------------


def _renamed(at: Ix, mapping: dict[int, int]) -> Ix:
    return at.rename(mapping)


def _rename(s: Stage, mapping: dict[int, int]) -> None:
    """The variables of a stage replaced by those of its group."""
    if all(a == v for a, v in mapping.items()):
        return
    for i in s.body:
        _rename_instr(i, mapping, 0)
    for st in s.stores:
        st.at = st.at.rename(mapping)
    for r in s.reductions:
        r.at = r.at.rename(mapping)
        if r.index is not None:
            r.index = r.index.rename(mapping)


def _rename_instr(i: Instr, mapping: dict[int, int], shift: int) -> None:
    if i.op == "load":
        i.data = (i.data[0], _moved(i.data[1], mapping, shift))
    elif i.op == "index":
        i.data = _moved(i.data, mapping, shift)
    elif i.op in ("floordiv", "mod"):
        i.data = (_moved(i.data[0], mapping, shift), i.data[1])


def _moved(at: Ix, mapping: dict[int, int], shift: int) -> Ix:
    if shift and at.is_dynamic:
        mapping = dict(mapping)
        for v, _ in at.terms:
            if v >= DYNAMIC:
                mapping[v] = v + shift
    return at.rename(mapping)


def _append(
    target: Stage, s: Stage, mapping: dict[int, int], identity: bool, stored: dict[tuple[int, Ix], int]
) -> None:
    """s's body after target's; equal loads, constants and operations are shared."""
    body = target.body
    known: dict[Any, int] = {}
    for n, i in enumerate(body):
        key = _key(i, i.args)
        if key is not None:
            known.setdefault(key, n)
    place: list[int] = []
    for i in s.body:
        args = tuple(place[a] for a in i.args) if i.args else ()
        data = i.data
        dynamic = i.op in ("load", "index", "floordiv", "mod")
        if dynamic:
            ix = data[1] if i.op == "load" else data if i.op == "index" else data[0]
            if not identity or ix.is_dynamic:
                full = mapping
                if ix.is_dynamic:
                    full = dict(mapping)
                    for v, _ in ix.terms:
                        if v >= DYNAMIC:
                            full[v] = DYNAMIC + place[v - DYNAMIC]
                ix = ix.rename(full)
                data = (data[0], ix) if i.op == "load" else ix if i.op == "index" else (ix, data[1])
            if i.op == "load":
                found = stored.get((id(data[0].storage), ix))
                if found is not None:
                    place.append(found)
                    continue
        new = Instr(i.op, i.dtype, args, data)
        key = _key(new, args)
        found = known.get(key) if key is not None else None
        if found is None:
            found = len(body)
            body.append(new)
            if key is not None:
                known[key] = found
        place.append(found)

    def moved(at: Ix) -> Ix:
        if identity and not at.is_dynamic:
            return at
        full = dict(mapping)
        for v, _ in at.terms:
            if v >= DYNAMIC:
                full[v] = DYNAMIC + place[v - DYNAMIC]
        return at.rename(full)

    for st in s.stores:
        target.stores.append(Store(st.buffer, moved(st.at), place[st.value], st.combine))
    for r in s.reductions:
        r.at, r.value = moved(r.at), place[r.value]
        if r.index is not None:
            r.index = moved(r.index)
        target.reductions.append(r)


def _key(i: Instr, args: tuple[int, ...]) -> Any:
    if i.op == "load":
        return ("load", id(i.data[0].storage), i.data[1], i.dtype.name)
    if i.op == "const":
        return ("const", i.dtype.name, _bits(i.dtype, i.data))
    if i.op == "apply":
        node = i.data
        params = node.params
        return (node.op.name, i.dtype.name, args, tuple(params.items()) if params else None)
    if i.op == "index":
        return ("index", i.dtype.name, i.data)
    return None


def _bits(dtype: DType, value: Any) -> bytes:
    return bytes(dtype.np.type(value).tobytes())


# -- buffers that fusion made superfluous ----------------------------------------------------------------------------


def contract(program: Program) -> None:
    """Stores that nobody loads vanish; temporaries that live for one outer point become rows on the stack."""
    nests: list[Nest] = []
    walk(program.steps, lambda s: nests.append(s) if isinstance(s, Nest) else None)
    users: dict[int, set[int]] = {}
    again = True
    while again:
        users, loaded = _uses(program)
        again = False
        for nest in nests:
            for stage in nest.stages():
                lists: tuple[list[Any], ...] = (stage.stores, stage.reductions)
                for items in lists:
                    for x in list(items):
                        storage = x.buffer.storage
                        if storage.kind in ("temp", "stack") and id(storage) not in loaded:
                            items.remove(x)
                            again = True
    for nest in nests:
        nest.leaves = [x for x in nest.leaves if x.stage.stores or x.stage.reductions or _has_checks(x.stage)]
    for nest in nests:
        if nest.outer and nest.leaves:
            _rows(nest, users)
    _prune(program.steps)
    used: set[int] = set()

    def mark(step: Any) -> None:
        if isinstance(step, Nest):
            for stage in step.stages():
                used.update(stage.reads() | stage.writes())
        else:
            used.update(id(b.storage) for b in touched(step))

    walk(program.steps, mark)
    rows = {sid for nest in nests for sid in nest.scratch}
    program.storages = [s for s in program.storages if id(s) in used and id(s) not in rows]


def _uses(program: Program) -> tuple[dict[int, set[int]], set[int]]:
    """Which steps touch a storage, and which storages anything reads."""
    users: dict[int, set[int]] = {}
    loaded: set[int] = set()

    def visit(step: Any) -> None:
        if not isinstance(step, Nest):
            for b in touched(step):
                users.setdefault(id(b.storage), set()).add(id(step))
                loaded.add(id(b.storage))
            return
        for stage in step.stages():
            _drop_dead(stage)
            for sid in stage.reads():
                users.setdefault(sid, set()).add(id(step))
                loaded.add(sid)
            for sid in stage.writes():
                users.setdefault(sid, set()).add(id(step))

    walk(program.steps, visit)
    return users, loaded


def _drop_dead(stage: Stage) -> None:
    """Instructions whose value nothing uses become literals, which cost nothing."""
    body = stage.body
    live = [False] * len(body)
    for value, at in [(s.value, s.at) for s in stage.stores] + [(r.value, r.at) for r in stage.reductions]:
        live[value] = True
        for v, _ in at.terms:
            if v >= DYNAMIC:
                live[v - DYNAMIC] = True
    for n in range(len(body) - 1, -1, -1):
        i = body[n]
        if i.op == "bound" and i.data[2] == "check":
            live[n] = True
        if live[n]:
            for a in i.args:
                live[a] = True
            for v in i.variables():
                if v >= DYNAMIC:
                    live[v - DYNAMIC] = True
        elif i.op != "const":
            body[n] = Instr("const", i.dtype, (), 0)


def _has_checks(stage: Stage) -> bool:
    return any(i.op == "bound" and i.data[2] == "check" for i in stage.body)


def _prune(steps: list[Any]) -> None:
    for s in list(steps):
        match s:
            case Nest() if not s.leaves:
                steps.remove(s)
            case Loop() | MapLanes():
                _prune(s.body)
            case While():
                _prune(s.test)
                _prune(s.body)
            case Switch():
                for b in s.branches:
                    _prune(b)


def _rows(nest: Nest, users: dict[int, set[int]]) -> None:
    """Temporaries of one nest that keep one row (the part of one outer point) on the stack."""
    outer = {a.var for a in nest.outer}
    extent = {a.var: a.extent for leaf in nest.leaves for a in leaf.loops}
    sizes: dict[int, int] = {}
    storages: dict[int, Storage] = {}
    bad: set[int] = set()
    for stage in nest.stages():
        accesses = [(b.storage, at, b.dtype) for b, at in stage.loads]
        accesses += [(x.buffer.storage, x.at, x.buffer.dtype) for x in stage.stores]
        accesses += [(r.buffer.storage, r.at, r.buffer.dtype) for r in stage.reductions]
        for storage, at, dtype in accesses:
            sid = id(storage)
            if storage.kind != "temp" or len(users.get(sid, ())) != 1 or sid in bad:
                continue
            storages[sid] = storage
            size: Dim = at.const + dtype.itemsize
            for v, c in at.terms:
                if v >= DYNAMIC:
                    bad.add(sid)
                elif v not in outer:
                    size = size + c * (extent[v] - 1)
            if isinstance(size, Expr) or size > ROW_BYTES or {v for v, _ in at.terms if v in outer} != outer:
                bad.add(sid)
            else:
                sizes[sid] = max(sizes.get(sid, 0), size)
    for sid, size in sizes.items():
        if sid not in bad:
            nest.scratch[sid] = (storages[sid], size)


def touched(step: Any) -> list[Buffer]:
    """The buffers that a step other than a nest reads or writes itself (not its nested steps)."""
    match step:
        case Move():
            return [step.target, step.source]
        case Read():
            return [step.source]
        case Check():
            return [step.ok, *step.details]
        case Routine():
            return [*step.inputs, *step.outputs, *step.scratch]
        case Loop():
            return [b for b in (step.lower, step.upper) if isinstance(b, Buffer)]
        case While():
            return [step.condition]
        case Switch():
            return [step.index] if isinstance(step.index, Buffer) else []
    return []
