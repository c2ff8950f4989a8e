"""Short rows that are computed across: each lane has a row of its own, in copies where rows are columns.

A row of ten classes is a register and a quarter: what is dear (an exponential) is computed in lanes that hold nothing,
each reduction combines the lanes of every row, and what is stored under a mask keeps the next leaf waiting. With rows
along the lanes all of them work and a reduction adds whole registers, but the elements of one column lie a row apart.
So what a block of rows holds is copied first, in squares that are transposed in registers, and what is written is
copied back behind. Counting decides, as it does between rows and columns (`modes.py`). Invariant: a nest's points are
independent, and what is copied is touched in one way in the whole nest, so each leaf finds in the copy what it would
find in the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stager.codegen.index import Ix
from stager.codegen.modes import column_cost, row_cost
from stager.codegen.program import SQUARE, Buffer, Instr, Leaf, LoopAxis, Nest, Reduction, Stage, Storage, Store
from stager.codegen.target import Target
from stager.ir.dtypes import b1

BLOCK_BYTES = 1 << 14
"""The copies of a block stay in the first cache, beside what they are copies of."""
MOST_ROWS = 256
MOST_REGISTERS = 4
"""Rows of more registers waste little."""
WAITS = 100.0
"""Cycles until what a mask has stored can be loaded."""
CLEAR = 0.75


@dataclass(slots=True)
class _Rows:
    """The rows of one array, and the lines of the copy in which they are columns."""

    buffer: Buffer
    at: Ix  # of a row's first element
    length: int
    read: bool  # before it is written
    written: bool = False
    again: bool = False  # read after it is written
    copy: Buffer | None = None


@dataclass(slots=True)
class _Finder:
    """The short rows that a nest touches along a shared axis."""

    shared: LoopAxis
    rows: dict[int, _Rows] = field(default_factory=dict)  # by storage
    others: set[int] = field(default_factory=set)  # storages with one element for each row, or for all

    def takes(self, leaf: Leaf) -> bool:
        """Whether everything that a leaf touches is one number for all rows, one for each, or a short row."""
        stage = leaf.stage
        if leaf.adds or leaf.late or leaf.recalled or stage.sequential or stage.folds or len(leaf.loops) > 1:
            return False
        results: list[Store | Reduction] = [*stage.stores, *stage.reductions]
        if any(i.op not in ("load", "const", "apply", "mul") for i in stage.body):
            return False
        if any(r.combine != "set" or r.buffer.storage.kind == "input" for r in results):
            return False
        inner = leaf.loops[0] if leaf.loops else None
        touched = [*((b, at, False) for b, at in stage.loads), *((r.buffer, r.at, True) for r in results)]
        return all(self._takes(b, at, inner, written) for b, at, written in touched)

    def _takes(self, b: Buffer, at: Ix, inner: LoopAxis | None, written: bool) -> bool:
        size, key, apart = b.dtype.itemsize, id(b.storage), at.coef(self.shared.var)
        if at.is_dynamic or b.dtype is b1:
            return False
        if apart in (0, size):
            self.others.add(key)
            return key not in self.rows and not (written and apart == 0)
        if inner is None or at.coef(inner.var) != size or key in self.others or not isinstance(inner.extent, int):
            return False
        first = at.without((inner.var,))
        found = self.rows.setdefault(key, _Rows(b, first, inner.extent, not written))
        found.again = found.again or (found.written and not written)
        found.written = found.written or written
        return found.at == first and found.length == inner.extent and found.buffer.dtype is b.dtype


def across(nest: Nest, lanes: int, target: Target) -> bool:
    """Lets the last shared axis of a nest run along the lanes, where rows are short and that is cheaper."""
    shared = nest.outer[-1]
    if lanes < 2 or not isinstance(shared.extent, int) or shared.extent < 2 * lanes:
        return False
    lengths = {a.extent for leaf in nest.leaves for a in leaf.loops}
    if not lengths or any(not isinstance(n, int) or not 2 <= n <= MOST_REGISTERS * lanes for n in lengths):
        return False
    found = _Finder(shared)
    if not all(found.takes(leaf) for leaf in nest.leaves) or not found.rows:
        return False
    column = sum(r.length * r.buffer.dtype.itemsize for r in found.rows.values())
    block = min(MOST_ROWS, max(2 * lanes, 1 << (BLOCK_BYTES // column).bit_length() - 1))
    for n, r in enumerate(found.rows.values()):
        dtype = r.buffer.dtype
        storage = Storage("stack", f"{nest.name}x{n}", r.length * block * dtype.itemsize)
        r.copy = Buffer(storage, dtype, (r.length, block))
    leaves = [_rewritten(leaf, found.rows, shared) for leaf in nest.leaves]
    cost = sum(column_cost(leaf, shared, lanes) for leaf in leaves) + _copying(found.rows.values(), lanes)
    if cost >= CLEAR * _by_rows(nest, found.rows.values(), lanes, target):
        return False
    inner = 1 + max(a.var for a in (*nest.outer, *(a for leaf in leaves for a in leaf.loops)))
    before, behind = [], []
    for r in found.rows.values():
        private = nest.scratch.pop(id(r.buffer.storage), None) is not None
        if r.read:
            before.append(_copied(r, shared, inner, target, back=False))
        if r.written and not private:
            behind.append(_copied(r, shared, inner, target, back=True))
        copy = _copy_of(r)
        nest.scratch[id(copy.storage)] = (copy.storage, copy.dtype.itemsize, r.length)
    for leaf in leaves:
        leaf.loops.append(LoopAxis(shared.var, shared.extent))
    nest.leaves[:] = [*before, *leaves, *behind]
    nest.block, nest.mixed = block, True
    return True


def _by_rows(nest: Nest, rows: Iterable[_Rows], lanes: int, target: Target) -> float:
    """What a nest costs for one row as it is."""
    waits = sum(r.again and r.length % lanes != 0 for r in rows) * WAITS if target.has_masks else 0.0
    cost = [row_cost(leaf, lanes) for leaf in nest.leaves]
    columns = [column_cost(leaf, nest.outer[-1], lanes) for leaf in nest.leaves]
    return min(sum(cost) + waits, sum(columns))


def _copying(rows: Iterable[_Rows], lanes: int) -> float:
    """What copies cost for one row: of a square's register a load, a store and its part of the shuffles."""
    total = 0.0
    for r in rows:
        squares, rest = divmod(r.length, lanes)
        total += (r.read + r.written) * (squares * (2 + lanes.bit_length()) + 2 * rest)
    return total


def _rewritten(leaf: Leaf, rows: Mapping[int, _Rows], shared: LoopAxis) -> Leaf:
    """A leaf on the copies."""

    def moved(b: Buffer, at: Ix) -> tuple[Buffer, Ix]:
        r = rows.get(id(b.storage))
        return (b, at) if r is None else (_copy_of(r), _place(r, shared, leaf.loops[0].var))

    body = []
    for i in leaf.stage.body:
        body.append(Instr(i.op, i.dtype, i.args, moved(*i.data) if i.op == "load" else i.data))
        body[-1].usual = i.usual
    stores = [Store(*moved(s.buffer, s.at), s.value) for s in leaf.stage.stores]
    stage = Stage(leaf.stage.axes, body, stores, leaf.stage.reductions, label=leaf.stage.label)
    return Leaf(list(leaf.loops), stage, long=leaf.long)


def _copy_of(r: _Rows) -> Buffer:
    assert r.copy is not None
    return r.copy


def _place(r: _Rows, shared: LoopAxis, inner: int) -> Ix:
    """Where an element stands in the copy."""
    copy = _copy_of(r)
    return Ix(0, tuple(sorted(((shared.var, copy.strides[1]), (inner, copy.strides[0])))))


def _copied(r: _Rows, shared: LoopAxis, inner: int, target: Target, *, back: bool) -> Leaf:
    """Copies rows in squares, with lanes along what is contiguous where they are written."""
    dtype = r.buffer.dtype
    rows = (r.buffer, r.at.plus(Ix(0, ((inner, dtype.itemsize),))))
    columns = (_copy_of(r), _place(r, shared, inner))
    source, to = (columns, rows) if back else (rows, columns)
    stage = Stage([], [Instr("load", dtype, (), source)], [Store(*to, 0)], label="across")
    across, along = LoopAxis(shared.var, shared.extent), LoopAxis(inner, r.length)
    loops = [across, along] if back else [along, across]
    return Leaf(loops, stage, loops[1].var, min(target.lanes(dtype), SQUARE), jam=loops[0].var)
