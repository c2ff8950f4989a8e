"""Loops over whole arrays whose elements run by themselves take blocks of elements through all of their turns.

`for k in range(n): y = y * x + c[k]` forward, tapes, and the loop of its gradient backward walk through arrays once per
turn. Where no element needs anything of another one, a block of elements goes through all turns of all these loops,
and through what lies between, before the next block has its turn: the block's part of every array stays in the first
cache, and what only these steps use, tapes above all, has the size of one block. Blocks are lanes of a map: they may
run at the same time.

Sums over the elements keep a partial result per block. One that a turn adds to an array (`dc[k] += sum(g)`) is added to
the block's own copy of that array; the copies are summed behind the map. Blocks follow from extents alone, so the order
of every sum does not depend on threads. Loops whose every turn reads fresh memory are left as they are.

What an element touches is `elements.py`'s question.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from stager.codegen.book import buffers_of
from stager.codegen.column_sums import COMBINE
from stager.codegen.elements import Layout, Part, Touch, layout_of, parts_of, squeezed, touches_of
from stager.codegen.index import Ix
from stager.codegen.linear import adds_to
from stager.codegen.program import (
    Buffer,
    Instr,
    Leaf,
    Loop,
    LoopAxis,
    MapLanes,
    Nest,
    Program,
    Reduction,
    Stage,
    Storage,
    Store,
    Switch,
    While,
    walk,
)
from stager.ir.dims import Dim, dim_min, floordiv, product, symbol
from stager.ir.dtypes import DType, b1
from stager.ir.graph import Node
from stager.ir.op import op_named
from stager.ir.types import Type

LARGE_BYTES = 1 << 17
"""What turns read again and is less than this is near enough anyway."""
BLOCK_BYTES = 3 << 12
"""What a block may touch in all, so that it stays in the first cache beside all else."""
LEAST_ELEMENTS = 64
"""Fewer elements than this, side by side in memory, do not fill the lanes of enough registers."""
REGISTERS = 16
"""A block of elements that lie side by side is a multiple of so many: whole registers, for all targets."""
FEW_BLOCKS = 8
SOME_ROWS = 64
"""Of a tape whose turns only the running function knows."""
TOTAL_BYTES = 1 << 20
"""What the copies of one array that sums are added to may take."""
MOST_STEPS = 32


def blocks(program: Program) -> None:
    """Makes maps over blocks of elements, in all bodies."""
    _Blocks(program).body(program.steps)


class _Blocks:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.count = 0
        self.uses: dict[int, set[int]] = {}
        self.fixed: set[int] = set()
        self._look()

    def _look(self) -> None:
        """Notes which steps use each storage, and which storages others know or move."""
        program = self.program
        self.uses.clear()
        self.fixed = {id(b.storage) for b in (*program.inputs, *program.outputs)}

        def note(step: Any) -> None:
            for b in buffers_of(step):
                self.uses.setdefault(id(b.storage), set()).add(id(step))
            if isinstance(step, Loop | While):
                self.fixed.update(id(s) for s in step.moving)

        walk(program.steps, note)

    def body(self, steps: list[Any]) -> None:
        at = 0
        while at < len(steps):
            s = steps[at]
            match s:
                case Loop():
                    found = self._around(steps, at)
                    if found is not None:
                        at = found
                        continue
                    self.body(s.body)
                case MapLanes() | While():
                    self.body(s.body)
                case Switch():
                    for branch in s.branches:
                        self.body(branch)
            at += 1

    def _around(self, steps: list[Any], at: int) -> int | None:
        """Runs a loop, and what goes along with it, by blocks. Where to go on, or None when it is left as it is."""
        region = _Region.of([steps[at]], self)
        if region is None or not region.pays():
            return None
        ahead: list[Any] = []
        first = at
        while first > 0 and len(region.steps) < MOST_STEPS and isinstance(steps[first - 1], Nest):
            wider = _Region.of([steps[first - 1], *region.steps], self)
            if wider is None or any(_meet(steps[first - 1], s) for s in ahead):
                if len(ahead) > 2:
                    break
                ahead.insert(0, steps[first - 1])
            else:
                region = wider
            first -= 1
        last = at + 1
        while last < len(steps) and len(region.steps) < MOST_STEPS:
            wider = _Region.of([*region.steps, steps[last]], self)
            if wider is not None:
                region = wider
            elif isinstance(steps[last], Nest) and not any(_meet(steps[last], s) for s in region.steps):
                ahead.append(steps[last])
            else:
                break
            last += 1
        made = region.made()
        if made is None:
            return None
        steps[first:last] = [*ahead, *made]
        self._look()
        return first + len(ahead) + len(made)

    def name(self) -> str:
        self.count += 1
        return f"block.{self.count}"


def _meet(one: Any, other: Any) -> bool:
    """Whether the order of two steps matters."""
    (r1, w1), (r2, w2) = _used(one), _used(other)
    return bool(w1 & (r2 | w2) or w2 & r1)


def _used(step: Any) -> tuple[set[int], set[int]]:
    """The storages that nests and loops of them read and write."""
    reads: set[int] = set()
    writes: set[int] = set()

    def look(s: Any) -> None:
        if isinstance(s, Nest):
            for stage in s.stages():
                reads.update(stage.reads())
                writes.update(stage.writes())

    walk([step], look)
    return reads, writes


@dataclass(slots=True, eq=False)
class _Region:
    """Steps that may run by blocks. `layouts`: of the written arrays that have places for every element. `sums`: what
    is reduced over the elements. `totals`: the arrays that sums are added to, with the dtype."""

    steps: list[Any]
    blocks: _Blocks
    count: int
    parts: list[Part]
    touches: dict[int, list[Touch]] = field(default_factory=dict)
    layouts: dict[int, Layout] = field(default_factory=dict)
    storages: dict[int, Storage] = field(default_factory=dict)
    sums: dict[int, tuple[Part, Reduction]] = field(default_factory=dict)
    totals: dict[int, list[Part]] = field(default_factory=dict)
    inner: set[str] = field(default_factory=set)
    own: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, steps: list[Any], blocks: _Blocks) -> _Region | None:
        """The steps as a region, or None where elements need one another."""
        parts = [p for p in parts_of(steps) if p is not None and _is_plain(p.leaf.stage)]
        if len(parts) != sum(1 for _ in parts_of(steps)):
            return None
        inside = [p for p in parts if p.loops]
        extents: dict[int, None] = {}
        for p in inside:
            for a in p.leaf.loops:
                if isinstance(a.extent, int) and a.extent >= FEW_BLOCKS:
                    extents[a.extent] = None
        for count in extents:
            region = cls(steps, blocks, count, parts)
            if region._fits():
                return region
        return None

    # -- what it is ----------------------------------------------------------------------------------------------------

    def _fits(self) -> bool:
        mine: set[int] = set()
        ends: set[int] = set()

        def note(step: Any) -> None:
            mine.add(id(step))
            if isinstance(step, Loop):
                self.inner.update((step.symbol, *step.also))
                ends.update(id(b.storage) for b in buffers_of(step))

        walk(self.steps, note)
        for p in self.parts:
            p.count_along(self.count)
            for t in touches_of(p):
                self.touches.setdefault(id(t.buffer.storage), []).append(t)
                self.storages[id(t.buffer.storage)] = t.buffer.storage
        self.own = {
            sid
            for sid, s in self.storages.items()
            if s.kind in ("temp", "stack") and sid not in self.blocks.fixed and self.blocks.uses[sid] <= mine
        }
        if any(t.write for sid in ends & self.touches.keys() for t in self.touches[sid]):
            return False
        return self._find_sums() and all(self._is_apart(p) for p in self.parts if p.var is None) and self._lay_out()

    def _find_sums(self) -> bool:
        for p in self.parts:
            if p.var is None:
                continue
            for r in p.leaf.stage.reductions:
                if not p.reduces:
                    continue
                sid = id(r.buffer.storage)
                simple = r.kind in COMBINE and r.combine == "set" and r.buffer.dtype is not b1
                if not simple or sid in self.sums or sum(t.write for t in self.touches[sid]) != 1:
                    return False
                read = any(not t.write for t in self.touches[sid])
                if (sid not in self.own) if read else p.loops:
                    return False
                self.sums[sid] = (p, r)
        return not any(p.leaf.stage.reads() & self.sums.keys() for p in self.parts if p.var is not None)

    def _is_apart(self, p: Part) -> bool:
        """A part without elements adds a sum to an array, or every block can do it for itself."""
        stage = p.leaf.stage
        reads, writes = stage.reads(), stage.writes()
        written_here = {sid for sid in reads if any(t.write for t in self.touches[sid])}
        summed = reads & self.sums.keys()
        if summed:
            total = adds_to(stage, summed)
            if total is None or written_here - summed - {total} or any(self.sums[s][1].kind != "sum" for s in summed):
                return False
            self.totals.setdefault(total, []).append(p)
            return True
        return (
            writes <= self.own
            and written_here <= self.own
            and all(t.part.var is None for sid in writes | written_here for t in self.touches[sid] if t.write)
            and not writes & self.totals.keys()
        )

    def _lay_out(self) -> bool:
        for sid, touches in self.touches.items():
            if sid in self.sums or not any(t.write for t in touches):
                continue
            if sid in self.totals:
                storage, mine = self.storages[sid], self.totals[sid]
                dtypes = {t.buffer.dtype for t in touches}
                if storage.kind not in ("temp", "output") or not isinstance(storage.nbytes, int) or len(dtypes) != 1:
                    return False
                if not all(any(t.part is p for p in mine) for t in touches):
                    return False
            elif all(t.part.var is None for t in touches if t.write):
                if not all(t.part.var is None or t.at.coef(t.part.var) == 0 for t in touches):
                    return False
            else:
                facts = self.blocks.program.facts
                layout = layout_of(touches, self.count, self.inner, facts)
                # the caller's own arrays hold what whole turns made of them, should the loop end early
                if layout is None or self.storages[sid].kind not in ("temp", "output"):
                    return False
                self.layouts[sid] = layout
                if sid in self.own and self.storages[sid].kind == "temp" and self._rows_of(sid) is None:
                    return False
        # what positions count with elements must be known numbers
        return all(
            isinstance(t.at.coef(t.part.var), int)
            for touches in self.touches.values()
            for t in touches
            if t.part.var is not None
        )

    # -- whether it pays -----------------------------------------------------------------------------------------------

    def pays(self) -> bool:
        """Whether turns read enough again that is far away."""
        again = fresh = 0
        for sid, touches in self.touches.items():
            inside = [t for t in touches if t.part.loops and t.part.var is not None and t.at.coef(t.part.var) != 0]
            if not inside:
                continue
            step = self._step(inside)
            layout = self.layouts.get(sid)
            if layout is None:
                facts = self.blocks.program.facts
                layout = layout_of(inside[:1], self.count, self.inner, facts)
            if layout is None or layout.fresh:
                fresh += step
            else:
                again += step
        return again * self.count > LARGE_BYTES and again >= fresh

    def _step(self, touches: list[Touch]) -> int:
        """Bytes from one element to the next."""
        steps = [t.at.coef(t.part.var) for t in touches if t.part.var is not None]
        return min((abs(c) for c in steps if isinstance(c, int)), default=0)

    def _block(self) -> int:
        """How many elements a block has."""
        each, packed = 0, False
        for sid, touches in self.touches.items():
            mine = [t for t in touches if t.part.var is not None and t.at.coef(t.part.var) != 0]
            if not mine:
                continue
            rows = self._rows_of(sid)
            each += self._step(mine) * (1 if rows is None else rows if isinstance(rows, int) else SOME_ROWS)
            packed = packed or any(self._step([t]) == t.buffer.dtype.itemsize for t in mine)
        most = max(BLOCK_BYTES // max(each, 1), LEAST_ELEMENTS if packed else 1)
        unit = REGISTERS if packed else 1
        even = next((n for n in range(most, most // 3, -1) if self.count % n == 0 and n % unit == 0), None)
        return even if even is not None else max(unit, most // unit * unit)

    def _rows_of(self, sid: int) -> Dim | None:
        """How many rows of all elements an array of the region's own has; None where it is not made of such rows."""
        layout, storage = self.layouts.get(sid), self.storages[sid]
        if layout is None or sid not in self.own or storage.kind != "temp":
            return None
        period = layout.step * self.count
        rows = floordiv(storage.nbytes, period)
        inside = layout.base == 0 and layout.low >= 0 and layout.high <= layout.step
        return rows if inside and rows * period == storage.nbytes else None

    # -- what becomes of it --------------------------------------------------------------------------------------------

    def made(self) -> list[Any] | None:
        """The steps that stand for the region, or None where there would be too few blocks."""
        program, block = self.blocks.program, self._block()
        number = -(-self.count // block)
        copied = [self.storages[sid].nbytes for sid in self.totals]
        if number < FEW_BLOCKS or any(not isinstance(n, int) or n * number > TOTAL_BYTES for n in copied):
            return None
        name = self.blocks.name()
        program.facts.ranges[name] = (0, number - 1)
        size: Dim = block if self.count % block == 0 else dim_min(block, self.count - symbol(name) * block)
        before = [self._copies(sid, name, number) for sid in self.totals]
        after = [nest for pair in before for nest in pair[1:]]
        after += [
            self._partial(sid, name, number) for sid, (p, _) in self.sums.items() if not p.loops and not self._read(sid)
        ]
        rows = {sid: n for sid in self.layouts if (n := self._rows_of(sid)) is not None}
        for p in self.parts:
            if p.var is not None:
                self._restrict(p, p.var, name, block, size, rows.keys())
        for sid, n in rows.items():
            self.storages[sid].nbytes = n * (self.layouts[sid].step * block)
        lanes = MapLanes(name, number, list(self.steps), block=block)
        return [*(pair[0] for pair in before), lanes, *after]

    def _read(self, sid: int) -> bool:
        return any(not t.write for t in self.touches[sid])

    def _restrict(self, p: Part, var: int, name: str, block: int, size: Dim, small: Collection[int]) -> None:
        """Lets a part run over the elements of one block."""
        first = symbol(name) * block

        def moved(at: Ix) -> Ix:
            return at.shift(at.coef(var) * first)

        def placed(b: Buffer, at: Ix) -> Ix:
            sid = id(b.storage)
            if sid in small:
                return squeezed(at, var, self.layouts[sid], self.count, block)
            return moved(at)

        stage = p.leaf.stage
        for n, i in enumerate(stage.body):
            if (at := i.position) is not None:
                here = placed(i.data[0], at) if i.op == "load" else moved(at)
                stage.body[n] = _like(i, i.at(here))
        for s in stage.stores:
            s.at = placed(s.buffer, s.at)
        for r in stage.reductions:
            r.at = placed(r.buffer, r.at)
            if r.index is not None:
                r.index = moved(r.index)
        for a in p.leaf.loops:
            if a.var == var:
                a.extent = size

    def _copies(self, sid: int, name: str, number: int) -> tuple[Nest, ...]:
        """Gives every block a copy of an array that sums are added to: the nests that clear the copies, and
        those that sum them and add what comes out."""
        old = self.storages[sid]
        dtype = self.touches[sid][0].buffer.dtype
        assert isinstance(old.nbytes, int)
        new, buffer = self._rows(dtype, (number, old.nbytes // dtype.itemsize))
        for p in self.totals[sid]:
            stage = p.leaf.stage
            here = symbol(name) * old.nbytes
            for n, i in enumerate(stage.body):
                if i.op == "load" and i.data[0].storage is old:
                    stage.body[n] = _like(i, (buffer, i.data[1].shift(here)))
            for s in stage.stores:
                s.buffer, s.at = buffer, s.at.shift(here)
        item = dtype.itemsize
        zero = Instr("const", dtype, (), 0 if dtype.is_integer else -0.0)  # adding it changes nothing
        clear = Stage([], [zero], [Store(buffer, Ix(0, ((0, item),)), 0)], label="clear")
        count, at = old.nbytes // item, Ix(0, ((0, item),))
        _, added = self._rows(dtype, (count,))
        one = Instr("load", dtype, (), (buffer, at.plus(Ix(0, ((1, old.nbytes),)))))
        total = Stage([], [one], [], [Reduction("sum", added, at, 0)], label="total")
        whole = Buffer(old, dtype, (count,))
        body = [
            Instr("load", dtype, (), (whole, at)),
            Instr("load", dtype, (), (added, at)),
            _apply("add", dtype, 0, 1),
            Instr("const", dtype, (), 0),
            _apply("eq", b1, 1, 3),
            _apply("select", dtype, 4, 0, 2),  # what nothing is added to keeps the sign of its zero
        ]
        join = Stage([], body, [Store(whole, at, 5)], label="total")
        return (
            Nest([], [Leaf([LoopAxis(0, new.nbytes // item)], clear)]),
            Nest([], [Leaf([LoopAxis(0, count), LoopAxis(1, number, True)], total)]),
            Nest([], [Leaf([LoopAxis(0, count)], join)]),
        )

    def _partial(self, sid: int, name: str, number: int) -> Nest:
        """Lets every block have a result of its own of what is reduced over all; the nest that reduces these."""
        p, r = self.sums[sid]
        kept = [LoopAxis(a.var, a.extent) for a in p.leaf.loops if not a.reduce]
        dtype = r.buffer.dtype
        _, buffer = self._rows(dtype, (number, *(a.extent for a in kept)))
        at = Ix(0, tuple(sorted((a.var, c) for a, c in zip(kept, buffer.strides[1:], strict=True))))
        var = 1 + max((a.var for a in p.leaf.loops), default=0)
        load = Instr("load", dtype, (), (buffer, at.plus(Ix(0, ((var, buffer.strides[0]),)))))
        whole = Stage([], [load], [], [Reduction(r.kind, r.buffer, r.at, 0)], label="total")
        r.buffer, r.at = buffer, at.shift(symbol(name) * buffer.strides[0])
        return Nest([], [Leaf([*kept, LoopAxis(var, number, True)], whole)])

    def _rows(self, dtype: DType, shape: tuple[Dim, ...]) -> tuple[Storage, Buffer]:
        program = self.blocks.program
        storage = Storage("temp", f"p{len(program.storages)}", product(shape) * dtype.itemsize)
        program.storages.append(storage)
        return storage, Buffer(storage, dtype, shape)


def _apply(name: str, dtype: DType, *args: int) -> Instr:
    return Instr("apply", dtype, args, Node(op_named(name), (), {}, (Type(dtype, ()),)))


def _like(i: Instr, data: Any) -> Instr:
    out = Instr(i.op, i.dtype, i.args, data)
    out.usual = i.usual
    return out


def _is_plain(stage: Stage) -> bool:
    """Whether a stage may run for some elements only."""
    if stage.sequential or any(i.op in ("bound", "value") for i in stage.body):
        return False
    return all(s.combine == "set" for s in stage.stores)
