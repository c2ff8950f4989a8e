"""How every nest runs: collapsed axes, loop order, vector axis, unrolling, blocks of columns, parallel loops.

Decisions depend on shapes and target only, never on the number of threads, so results do not either. Two modes for
nests with shared loops: *rows* (each leaf vectorises along an axis of its own) and *columns* (the last shared axis
runs in blocks; each leaf runs over the block's lanes).
"""

from __future__ import annotations

import math
from typing import Any

from stager.codegen import pieces
from stager.codegen.across import across
from stager.codegen.collapse import collapse
from stager.codegen.independent import independent
from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.modes import DEAR, best_axis, by_lane, column_axis, weight
from stager.codegen.program import (
    SQUARE,
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
    Switch,
    While,
    walk,
)
from stager.codegen.stripes import striped, stripes
from stager.codegen.target import Target
from stager.codegen.work import accesses, body_work, cost_of, guess, points_of, products_work, total_work
from stager.ir.dims import Dim, Expr, dim_max, floordiv, product
from stager.ir.dtypes import b1

COLUMN_BYTES = 1 << 18
"""What one block of columns may touch of one array, so that all leaves find it in the cache."""
WIDE_BYTES = 1 << 20
"""The same where enough blocks are left for several threads: the processor fetches long pieces of a row ahead of their
use, which is worth more than finding the block in the second cache."""
ENOUGH_BLOCKS = 4
ROWS_BYTES = 1 << 15
"""The same where some leaves run along the rows of a block, which then are read again from the first cache."""
LEAST_BLOCK = 32
FEW_POINTS = 2048
"""So few, with dear operations, do not earn the time that a second copy of those takes to compile."""
LANE_BY_LANE = 64
"""Accesses of single lanes in one step: more vectors take more time to compile, and are no faster."""
LEAST_SHARE = 0.01
"""Of the whole run, of a nest that is worth more code."""
MANY_POINTS = 1 << 14
"""So many are waited for, however many vectors a step takes."""
TILE = 64
TILED_POINTS = 1 << 15
"""Fewer points than this stay in the cache without tiles."""
ROW_UNROLL = 4
"""Vectors of one step along a row that a scatter writes: its rows come one after the other, and each is short."""
LITTLE_POINTS = 64
SIDE_BY_SIDE = 4
"""Partial results of a reduction without lanes: an addition takes as many cycles."""
WRITTEN_OUT = 16
"""Operations of a loop of two turns that is no loop: what a turn costs beside them is half as much."""
FEW_OPS = 8
CHUNK = 1 << 15
"""Elements of a piece when one long reduction is divided."""


def schedule(program: Program, target: Target, *, threads: bool = True) -> None:
    """Decides how every nest of a program runs."""
    s = _Scheduler(program, target, threads)
    program.steps = s.steps(program.steps, nested=False)
    program.work = total_work(program.steps, program)


class _Scheduler:
    def __init__(self, program: Program, target: Target, threads: bool) -> None:
        self.program = program
        self.target = target
        self.threads = threads
        self.whole = body_work(program.steps, program.facts) + products_work(program.steps, program.facts)  # ns
        self.count = 0
        self.in_loop = 0  # how many loops run one after the other stand around
        self.little = False  # the innermost of them does little per turn
        self.awake = False  # the innermost of them may come to a nest again before the workers sleep

    def steps(self, steps: list[Any], nested: bool) -> list[Any]:
        out: list[Any] = []
        for s in steps:
            match s:
                case Nest():
                    out.extend(self.nest(s, nested))
                    continue
                case MapLanes():
                    s.body = self.steps(s.body, True)
                    self._map(s, nested, body_work(s.body, self.program.facts))
                case Loop() if (lanes := self._as_map(s, nested)) is not None:
                    lanes.body = self.steps(s.body, True)
                    self._map(lanes, nested, body_work(lanes.body, self.program.facts))
                    out.append(lanes)
                    continue
                case Loop():
                    s.body = self._turn(s.body, nested, pieces.turns(s, self.program.facts))
                    s.period = _period(body_work(s.body, self.program.facts))
                case While():
                    s.test, s.body = (self._turn(steps, nested, 100.0) for steps in (s.test, s.body))
                    s.period = pieces.while_period([*s.test, *s.body], self.program.facts)
                case Switch():
                    s.branches = [self.steps(b, nested) for b in s.branches]
            out.append(s)
        return out

    def _turn(self, steps: list[Any], nested: bool, turns: float) -> list[Any]:
        """What a loop does in one turn."""
        around = self.little, self.awake
        self.little = _is_little(steps)
        self.awake = turns * body_work(steps, self.program.facts) >= pieces.MANY_NS
        self.in_loop += 1
        out = self.steps(steps, nested)
        self.in_loop -= 1
        self.little, self.awake = around
        alone = [s for s in out if not (isinstance(s, Nest | MapLanes) and s.parallel)]
        if body_work(alone, self.program.facts) > pieces.AWAKE_NS:
            pieces.leave_whole(out)
        return out

    def _as_map(self, s: Loop, nested: bool) -> MapLanes | None:
        """A loop as a map over its turns, when these are independent and enough work for the threads."""
        if nested or not self.threads or isinstance(s.lower, Buffer) or isinstance(s.upper, Buffer):
            return None
        span = s.upper - s.lower if s.step > 0 else s.lower - s.upper
        size = floordiv(dim_max(0, span + (abs(s.step) - 1)), abs(s.step))
        if self.in_loop and not (isinstance(size, int) and pieces.is_steady(s.body)):
            return None
        most = self.program.facts.maximum(size)
        if isinstance(most, int) and most * body_work(s.body, self.program.facts) < pieces.least(self.awake):
            return None
        if not independent(s, self.program):
            return None
        return MapLanes(s.symbol, size, s.body, first=s.lower, step=s.step, also=s.also)

    def _map(self, s: MapLanes, nested: bool, lane: float) -> None:
        total = guess(s.size) * lane
        if nested or not self.threads or pieces.has_effects(s.body):
            return
        if isinstance(s.size, int) and total < pieces.least(self.awake):
            return
        s.parallel = True
        s.brief = isinstance(s.size, int) and total < pieces.PARALLEL_NS
        s.grain = pieces.grain(s.size, lane)

    def nest(self, nest: Nest, nested: bool) -> list[Nest]:
        nest.name = f"k{self.count}"
        self.count += 1
        for leaf in nest.leaves:
            leaf.long = _points(nest, leaf) > FEW_POINTS
        if nest.leaves[0].stage.sequential:
            if nest.leaves[0].stage.in_order:
                collapse(nest)
            self._order_sequential(nest.leaves[0])
            return [nest]
        collapse(nest)
        if nest.outer and nest.piece is None:
            self._choose_mode(nest)
        for leaf in (*nest.first, *nest.leaves):
            self._leaf(leaf, nest, nested)
        return self._parallel(nest, nested)

    # -- one leaf ----------------------------------------------------------------------------------------------------

    def _order_sequential(self, leaf: Leaf) -> None:
        """The order of points stays; the last axis may run along lanes: the written rest axis of a scatter."""
        stage = leaf.stage
        if not stage.stores or not leaf.loops:
            return
        last = leaf.loops[-1]
        if stage.in_order:
            if best_axis(leaf, self._lanes(stage)) is last and stage.stores[0].at.coef(last.var) != 0:
                leaf.vector = last.var
                leaf.unroll = self._unroll(leaf, last)
            return
        if all(
            st.at.coef(last.var) == st.buffer.dtype.itemsize
            and all(v < DYNAMIC or not _depends(stage.body, v - DYNAMIC, last.var) for v, _ in st.at.terms)
            for st in stage.stores
        ):
            leaf.vector = last.var
            leaf.unroll = self._fitting(ROW_UNROLL, stage, last)

    def _leaf(self, leaf: Leaf, nest: Nest, nested: bool) -> None:
        if not leaf.loops or leaf.vector is not None:
            return
        for a in leaf.loops:
            most = self.program.facts.maximum(a.extent)
            a.most = most if isinstance(most, int) else None
        stage = leaf.stage
        best = self._vector_axis(leaf, nest)
        leaf.loops = _ordered(leaf, best)
        if best is None:
            if not nest.block and _waits(leaf):
                leaf.vector, leaf.narrow, leaf.unroll = leaf.loops[-1].var, True, SIDE_BY_SIDE
            return
        leaf.vector = best.var
        blocked = nest.block != 0 and best.var == nest.outer[-1].var
        few = not nested and not self.in_loop and not leaf.long
        streams = len(nest.leaves) == 1 and MANY_POINTS <= _points(nest, leaf) < math.inf
        leaf.unroll = self._unroll(leaf, best, blocked, few, streams)
        if not stage.reductions and not nest.block:
            _tile(leaf, best)
            if leaf.jam is not None:
                leaf.unroll = min(self._lanes(stage), SQUARE)

    def _unroll(
        self, leaf: Leaf, a: LoopAxis, blocked: bool = False, few: bool = False, streams: bool = False
    ) -> int:
        """How many vectors one step along a loop takes; `few`: of FEW_POINTS at most, `streams`: of MANY_POINTS."""
        stage = leaf.stage
        ops = sum(weight(i) for i in stage.body)
        if few and ops >= DEAR:
            return 1
        if stage.reductions:
            unroll = 8 if ops <= 4 else 4 if ops <= 16 else 2 if ops <= 60 else 1
            if leaf.late or len(stage.reductions) > 2 or any(r.kind.startswith("arg") for r in stage.reductions):
                unroll = min(unroll, 4)
        else:
            unroll = 4 if ops <= 6 and not streams else 2 if ops <= 24 else 1
            if ops <= WRITTEN_OUT and a.extent == 2 * unroll * self._lanes(stage):
                unroll *= 2
        each = by_lane(stage, a.var, self._lanes(stage))
        while unroll * each > LANE_BY_LANE and unroll > 1:
            unroll //= 2
        return unroll if blocked else self._fitting(unroll, stage, a)

    def _fitting(self, unroll: int, stage: Stage, a: LoopAxis) -> int:
        """No more vectors than a loop has."""
        while unroll > 1 and isinstance(a.extent, int) and self._lanes(stage) * unroll > a.extent:
            unroll //= 2
        return unroll

    def _lanes(self, stage: Stage) -> int:
        bits = max((i.dtype.bits for i in stage.body if i.dtype is not b1), default=64)
        return max(1, self.target.vector_bits // bits)

    def _vector_axis(self, leaf: Leaf, nest: Nest) -> LoopAxis | None:
        if self.target.vector_bits == 0:
            return None
        if nest.block and not nest.mixed:
            return next((a for a in leaf.loops if a.var == nest.outer[-1].var), None)
        best = best_axis(leaf, self._lanes(leaf.stage))
        return None if best is not None and self._hands_on_few(best, leaf.stage) else best

    def _hands_on_few(self, a: LoopAxis, stage: Stage) -> bool:
        """A few elements, less than lanes, that one turn of a loop hands to the next: what a masked store has written
        cannot be loaded before it has reached the cache, and single elements stay in registers."""
        n = a.extent
        return self.little and isinstance(n, int) and n < self._lanes(stage) and n & (n - 1) != 0

    # -- shared loops ------------------------------------------------------------------------------------------------

    def _counts(self, nest: Nest) -> bool:
        """Whether a nest is a part of the run that is noticed: others do not earn more time to compile."""
        work = cost_of(nest) * guess(self.program.facts.maximum(points_of(nest)))
        return self.in_loop > 0 or work >= LEAST_SHARE * self.whole

    def _choose_mode(self, nest: Nest) -> None:
        """Rows, unless lanes along a shared axis are cheaper: then columns, with that axis last."""
        if self.target.vector_bits == 0:
            return
        lanes = min(self._lanes(stage) for stage in nest.stages())
        if not self.little and self._counts(nest) and across(nest, lanes, self.target):
            return
        inner: Dim = 1
        for leaf in nest.leaves:
            size = product(a.extent for a in leaf.loops)
            if isinstance(size, Expr) or (isinstance(inner, int) and size > inner):
                inner = size
        item = max((i.dtype.itemsize for leaf in nest.leaves for i in leaf.stage.body if i.op == "load"), default=8)
        mixed = isinstance(inner, int) and inner * item * LEAST_BLOCK <= ROWS_BYTES
        adds = any(leaf.adds for leaf in nest.leaves)
        if adds:
            last: LoopAxis | None = nest.outer[-1]
        else:
            last = column_axis(nest, lanes, mixed)
        if last is None or (not adds and any(self._hands_on_few(last, stage) for stage in nest.stages())):
            return
        nest.outer.sort(key=lambda a: a is last)
        nest.mixed = mixed
        if isinstance(inner, int):
            column = max(inner, 1) * item
            block = _block(ROWS_BYTES if mixed else COLUMN_BYTES, column)
            wide = _block(WIDE_BYTES, column)
            if not mixed and isinstance(last.extent, int) and last.extent > (ENOUGH_BLOCKS - 1) * wide:
                block = wide
        else:
            block = 64
        nest.block = block
        for sid in _wide_rows(nest, last.var):
            self.program.storages.append(nest.scratch.pop(sid)[0])
        for leaf in nest.leaves:
            leaf.loops.append(LoopAxis(last.var, last.extent, reduce=leaf.adds))

    # -- threads -----------------------------------------------------------------------------------------------------

    def _parallel(self, nest: Nest, nested: bool) -> list[Nest]:
        points = points_of(nest)
        cost = cost_of(nest)
        first = nest.outer[0] if nest.outer else nest.leaves[0].loops[0] if nest.leaves[0].loops else None
        if first is None:
            return [nest]
        most = self.program.facts.maximum(points)
        if (isinstance(most, int) and most * cost < pieces.least(self.awake)) or any(leaf.adds for leaf in nest.leaves):
            return [nest]
        if not nested and striped(nest):
            return self._stripes(nest)
        if first.reduce:
            if nested or (self.in_loop and isinstance(first.extent, Expr)):  # short in most turns, for all that we know
                return [nest]
            return self._divide(nest, first, points)
        if not self.threads or nested:
            return [nest]
        inner = floordiv(points, dim_max(first.extent, 1))
        if not nest.outer and first.tile:
            nest.chunk = first.tile
        elif not nest.outer and first.var == nest.leaves[0].vector:
            nest.chunk = 4096
        unit = max(nest.chunk, nest.block if nest.outer and first is nest.outer[-1] else 0, nest.rows, 1)
        if isinstance(inner, int):
            nest.grain = pieces.grain(floordiv(first.extent + (unit - 1), unit), cost * inner * unit)
        else:
            nest.grain = dim_max(1, floordiv(max(1, int(pieces.PIECE_NS / (cost * unit))), dim_max(inner, 1)))
        if isinstance(first.extent, int) and isinstance(nest.grain, int) and first.extent <= nest.grain * unit:
            nest.chunk = 0
            nest.grain = 0
            return [nest]
        nest.parallel = True
        nest.brief = isinstance(points, int) and points * cost < pieces.PARALLEL_NS
        nest.threshold = None if isinstance(points, int) else (points, max(1, int(pieces.PARALLEL_NS / cost)))
        return [nest]

    def _stripes(self, nest: Nest) -> list[Nest]:
        last = stripes(self.program, nest)
        for n in (nest, last):
            for leaf in (*n.first, *n.leaves):
                self._leaf(leaf, n, nested=False)
        return [*self._parallel(nest, False), *self._parallel(last, False)]

    def _divide(self, nest: Nest, first: LoopAxis, points: Dim) -> list[Nest]:
        """One long reduction: pieces of fixed size give partial results, which a second nest reduces."""
        (leaf,) = nest.leaves
        stage = leaf.stage
        if any(r.kind.startswith("arg") for r in stage.reductions) or any(not a.reduce for a in leaf.loops):
            return [nest]
        inner = floordiv(points, dim_max(first.extent, 1))
        size = CHUNK
        if first.var != leaf.vector:
            if isinstance(inner, Expr):
                size = 16
            else:
                size = max(1, CHUNK // inner)
        count = floordiv(first.extent + (size - 1), size)
        if count == 1:
            return [nest]
        used = [a.var for x in nest.leaves for a in x.loops]
        number = max(used) + 1
        partial: list[Reduction] = []
        second: list[Nest] = []
        body: list[Instr] = []
        final = Stage([], body)
        for r in stage.reductions:
            dtype = r.buffer.dtype
            storage = Storage("temp", f"p{len(self.program.storages)}", count * dtype.itemsize)
            self.program.storages.append(storage)
            buffer = Buffer(storage, dtype, (count,))
            partial.append(Reduction(r.kind, buffer, Ix(0, ((number, dtype.itemsize),)), r.value))
            body.append(Instr("load", dtype, (), (buffer, Ix(0, ((0, dtype.itemsize),)))))
            final.reductions.append(Reduction(r.kind, r.buffer, r.at, len(body) - 1))
        stage.reductions[:] = partial
        nest.outer = [LoopAxis(first.var, first.extent)]
        nest.block = size
        nest.block_var = number
        last = Nest([], [Leaf([LoopAxis(0, count, True)], final)], f"{nest.name}.total")
        self._leaf(last.leaves[0], last, nested=False)
        if self.threads:
            nest.parallel = True
            nest.grain = 1
            nest.threshold = None if isinstance(points, int) else (points, 2 * CHUNK)
        second.append(last)
        return [nest, *second]


def _waits(leaf: Leaf) -> bool:
    """Whether elements that are reduced one by one wait for one another longer than for themselves."""
    stage, last = leaf.stage, leaf.loops[-1]
    if not last.reduce or not stage.reductions or stage.folds:
        return False
    if any(r.kind.startswith("arg") for r in stage.reductions):
        return False
    length = last.extent if isinstance(last.extent, int) else last.most
    return length is not None and length >= 4 * SIDE_BY_SIDE and sum(weight(i) for i in stage.body) <= FEW_OPS


def _block(most: int, column: int) -> int:
    """How many columns of so many bytes a block has."""
    block = max(LEAST_BLOCK, min(512, most // column))
    return 1 << (block.bit_length() - 1)


def _points(nest: Nest, leaf: Leaf) -> float:
    shared = [a for a in nest.outer if all(a.var != b.var for b in leaf.loops)]
    points = product(a.extent for a in (*shared, *leaf.loops) if not a.tile)
    return points if isinstance(points, int) else math.inf


def _wide_rows(nest: Nest, var: int) -> list[int]:
    """Rows that are more than one element per lane of a block: they stay in the arena."""
    bad = set()
    for leaf in nest.leaves:
        stage = leaf.stage
        for b, at in [(b, at) for b, at, _ in accesses(stage)] + [(r.buffer, r.at) for r in stage.reductions]:
            row = nest.scratch.get(id(b.storage))
            if row is not None and (row[1] != b.dtype.itemsize or at.coef(var) != b.dtype.itemsize):
                bad.add(id(b.storage))
    return [sid for sid in nest.scratch if sid in bad]  # in the program's order, not that of addresses


def _period(turn: float) -> int:
    """A power of two: so many turns take about two milliseconds."""
    return int(1 << max(0, min(16, int(2e6 / max(turn, 1.0)).bit_length() - 1)))


def _is_little(steps: list[Any]) -> bool:
    """Whether all nests of a turn are a few points, of what lanes do not make much faster."""
    little = True

    def look(s: Any) -> None:
        nonlocal little
        if isinstance(s, Nest):
            points = points_of(s)
            places = any(r.kind.startswith("arg") for stage in s.stages() for r in stage.reductions)
            little = little and isinstance(points, int) and points <= LITTLE_POINTS and not places

    walk(steps, look)
    return little


def _depends(body: list[Instr], n: int, var: int) -> bool:
    """Whether an instruction varies along an axis."""
    stack, seen = [n], set()
    while stack:
        k = stack.pop()
        if k in seen:
            continue
        seen.add(k)
        i = body[k]
        for v in i.variables():
            if v == var:
                return True
            if v >= DYNAMIC:
                stack.append(v - DYNAMIC)
        stack.extend(i.args)
    return False


def _ordered(leaf: Leaf, best: LoopAxis | None) -> list[LoopAxis]:
    """Outer to inner: large strides first; reduce loops inside unless lanes run along one."""
    loops = leaf.loops
    if len(loops) <= 1:
        return loops
    stage = leaf.stage
    weight: dict[int, tuple[int, float]] = {}
    for n, a in enumerate(loops):
        total, symbolic = 0.0, 0
        for _, at, store in accesses(stage):
            c = at.coef(a.var)
            if isinstance(c, Expr):
                symbolic += 2 if store else 1
            else:
                total += abs(c) * (2 if store else 1)
        weight[a.var] = (symbolic, total - n * 1e-9)
    others = [a for a in loops if a is not best]
    others.sort(key=lambda a: weight[a.var], reverse=True)
    if not stage.reductions:
        return others + ([best] if best is not None else [])
    spatial = [a for a in others if not a.reduce]
    reduce = [a for a in (loops if stage.folds else others) if a.reduce]
    if best is None:
        return spatial + reduce
    return [*spatial, *reduce, best] if best.reduce else [*spatial, best, *reduce]


def _tile(leaf: Leaf, vector: LoopAxis) -> None:
    """Transposed accesses (contiguous along another loop than the lanes) are made in tiles that stay in the cache."""
    size = 1
    for a in leaf.loops:
        if isinstance(a.extent, Expr):
            size = TILED_POINTS
            break
        size *= a.extent
    if size < TILED_POINTS:
        return
    for a in leaf.loops:
        if a is vector or (isinstance(a.extent, int) and a.extent < 2 * TILE):
            continue
        if isinstance(vector.extent, int) and vector.extent < 2 * TILE:
            return
        if any(at.coef(a.var) == b.dtype.itemsize and at.coef(vector.var) != 0 for b, at, _ in accesses(leaf.stage)):
            rest = [x for x in leaf.loops if x is not a and x is not vector]
            leaf.loops = [*rest, LoopAxis(vector.var, vector.extent, tile=TILE), a, vector]
            if sum(weight(i) for i in leaf.stage.body) <= 8:
                leaf.jam = a.var
            else:
                leaf.loops.insert(-2, LoopAxis(a.var, a.extent, tile=TILE))
            return
