"""Nests and leaves under construction: what `codegen/fuse.py` puts stages into.

The variables of a group's stages are the group's own; which of them are shared loops is decided with its second leaf.
Invariant: what is said to be read and written is what the stages read and write (`refresh`). Nothing is decided here.
"""

from __future__ import annotations

from stager.codegen.column_sums import Partial, Pieces, filling
from stager.codegen.index import Ix
from stager.codegen.program import Axis, Leaf, LoopAxis, Nest, Stage


class Group:
    """A nest under construction."""

    __slots__ = ("axes", "checks", "fixed", "leaves", "outer", "partials", "pieces", "reads", "returns", "writes")

    def __init__(self, s: Stage) -> None:
        self.axes: dict[int, Axis] = dict(enumerate(s.axes))
        self.outer: list[int] = []
        self.fixed = False  # outer is decided: there are several leaves
        self.leaves: list[Piece] = [Piece(s, list(range(len(s.axes))))]
        self.pieces: Pieces | None = None
        self.partials: list[Partial] = []
        self.reads = s.reads()
        self.writes = s.writes()
        self.checks, self.returns = s.checks, s.returns

    def adopt(self, s: Stage) -> None:
        """Another stage is among the group's."""
        self.reads |= s.reads()
        self.writes |= s.writes()
        self.checks, self.returns = self.checks or s.checks, self.returns or s.returns

    def clashes(self, s: Stage | Group) -> bool:
        """Whether a check in one and a write into a caller's array in the other keep them apart."""
        return (self.checks and s.returns) or (self.returns and s.checks)

    def add_axis(self, a: Axis) -> int:
        v = len(self.axes)
        self.axes[v] = a
        return v

    def depends(self, s: Stage) -> bool:
        """Whether a stage must stay behind the nest."""
        writes = s.writes()
        return bool(self.writes & s.reads() or self.writes & writes or self.reads & writes) or self.clashes(s)

    def depends_on(self, g: Group) -> bool:
        """Whether the nest must stay behind another."""
        return bool(g.writes & self.reads or g.writes & self.writes or g.reads & self.writes) or g.clashes(self)

    def is_along(self, g: Group) -> bool:
        """Whether it has nothing but one point for each row of another nest."""
        rows = g.outer if g.fixed else [v for v in g.leaves[0].own if v not in g.leaves[0].reduced]
        if self.outer or any(p.reduced for p in self.leaves) or not (g.fixed or g.leaves[0].reduced):
            return False
        return sorted(str(a.extent) for a in self.axes.values()) == sorted(str(g.axes[v].extent) for v in rows)

    @property
    def is_sequential(self) -> bool:
        return self.leaves[-1].stage.sequential

    def nest(self) -> Nest:
        axes = self.axes
        outer = [LoopAxis(v, axes[v].extent) for v in self.outer]
        leaves = []
        for p in self.leaves:
            reduced = p.reduced
            leaves.append(Leaf([LoopAxis(v, axes[v].extent, v in reduced) for v in p.own], p.stage))
        if self.pieces is None:
            return Nest(outer, leaves)
        first = []
        for x in self.partials:
            first.append(filling(x.buffer, x.first, self.pieces.var, len(axes)))
            for loop in first[-1].loops:
                self.add_axis(Axis(loop.extent))
        return Nest(outer, leaves, rows=self.pieces.rows, piece=self.pieces.var, first=first)


class Piece:
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
