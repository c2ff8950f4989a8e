"""`Program`: the level between graph and LLVM. Buffers, and a tree of steps that read and write them.

A `Stage` computes one thing over a domain of axes: loads and stores at affine positions (`codegen/index.py`, in
bytes), a scalar body in SSA form, reductions. Stages that run in one loop stand in a `Leaf`, leaves that share outer
loops in a `Nest`. The other steps are control (`Loop`, `While`, `Switch`, `MapLanes`), `Check` and `Routine` (code
that a module of `codegen/routines/` emits). Invariants: steps run in order; a body's instruction uses earlier
instructions only; axes of a stage have extents that are not 1. Nothing here knows LLVM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from stager.codegen.index import Ix
from stager.ir.dims import Dim, contiguous_strides, product
from stager.ir.dtypes import DType
from stager.ir.graph import Node

SQUARE = 16
"""Rows and lanes, at most, of the squares that are transposed in registers: the shuffles grow with the square."""


class Storage:
    """Memory that a buffer lies in. `kind`: "input", "output" (the caller's, `number` says which), "constant",
    "temp" (the arena), "stack" (a local variable: small, or one row of a nest), "heap" (a size that only the running
    function knows), "tape" (it grows while a loop writes row after row), "sized" (a result of a size that only the
    running function knows: the caller allocates it when asked)."""

    __slots__ = ("align", "data", "kind", "name", "nbytes", "number", "offset", "slot", "writable")

    def __init__(
        self, kind: str, name: str, nbytes: Dim, number: int = 0, data: Any = None, writable: bool = True
    ) -> None:
        self.kind = kind
        self.name = name
        self.nbytes = nbytes
        self.number = number
        self.data = data
        self.writable = writable
        self.offset: Dim | None = None  # in the arena, once planned
        self.slot: Storage | None = None  # the storage that loops swap this one with
        self.align = 1

    def __repr__(self) -> str:
        return self.name


class Buffer:
    """An array in a storage: dtype, shape and byte strides."""

    __slots__ = ("dtype", "name", "offset", "shape", "storage", "strides")

    def __init__(
        self,
        storage: Storage,
        dtype: DType,
        shape: tuple[Dim, ...],
        strides: tuple[Dim, ...] | None = None,
        offset: Dim = 0,
    ) -> None:
        self.storage = storage
        self.name = storage.name
        self.dtype = dtype
        self.shape = shape
        self.strides = contiguous_strides(shape, dtype.itemsize) if strides is None else strides
        self.offset = offset

    @property
    def is_dense(self) -> bool:
        """C-contiguous."""
        return self.strides == contiguous_strides(self.shape, self.dtype.itemsize)

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype}[{','.join(map(str, self.shape))}]"


class Instr:
    """One instruction of a body.

    "carry": data the number of a fold of the stage, the value that it has before this point.

    op "load": data (buffer, Ix bytes). "const": data value. "index": data Ix, converted to dtype. "floordiv", "mod":
    data (Ix, Dim) -> i64. "apply": data the elementwise Node. "bound": args (index,), data (size, axis, mode) -> a safe
    i64 position. "value": data symbol name. `usual`: the argument that a select is guessed to give, 1 or 2.
    """

    __slots__ = ("args", "data", "dtype", "op", "usual")

    def __init__(self, op: str, dtype: DType, args: tuple[int, ...] = (), data: Any = None) -> None:
        self.op = op
        self.dtype = dtype
        self.args = args
        self.data = data
        self.usual: int | None = None

    @property
    def position(self) -> Ix | None:
        """The position that the instruction holds."""
        at: Ix | None = None
        match self.op:
            case "load":
                at = self.data[1]
            case "index":
                at = self.data
            case "floordiv" | "mod":
                at = self.data[0]
        return at

    def at(self, position: Ix) -> Any:
        """The data of the instruction with another position."""
        match self.op:
            case "load":
                return self.data[0], position
            case "floordiv" | "mod":
                return position, self.data[1]
        return position

    def move(self, f: Callable[[Ix], Ix]) -> None:
        """Replaces the position, where there is one."""
        if (at := self.position) is not None:
            self.data = self.at(f(at))

    def variables(self) -> tuple[int, ...]:
        """The axes and dynamic variables that the instruction's position mentions."""
        at = self.position
        return () if at is None else tuple(v for v, _ in at.terms)


@dataclass(slots=True, eq=False)
class Axis:
    """A loop of a stage. `reduce`: it vanishes from the result."""

    extent: Dim
    reduce: bool = False


@dataclass(slots=True, eq=False)
class Store:
    """`buffer[at] = value`, or combined into what stands there: "add", "mul", "min", "max" by a scatter, and "sum" by a
    part of a reduction, which takes products unrounded."""

    buffer: Buffer
    at: Ix
    value: int
    combine: str = "set"


@dataclass(slots=True, eq=False)
class Reduction:
    """`buffer[at] = monoid over the reduce axes of value`. `kind` sum, prod, max, min, or, and, argmax, argmin.

    Or fold: the points of the reduce axes run in order, each makes its value of the one before ("carry"), the first one
    of what the buffer holds.
    """

    kind: str
    buffer: Buffer
    at: Ix
    value: int
    index: Ix | None = None  # argmax, argmin: the position along the axis
    combine: str = "set"  # how the result joins what stands there, as a store's
    first: Any = None  # fold: the number that every element begins with, where it is not what the buffer holds

    @property
    def begins_with_memory(self) -> bool:
        """Whether it is a fold of what the buffer holds."""
        return self.kind == "fold" and self.first is None


@dataclass(slots=True, eq=False)
class Stage:
    """A computation over `axes`; stores happen at every point, reductions once per point of the other axes."""

    axes: list[Axis]
    body: list[Instr]
    stores: list[Store] = field(default_factory=list)
    reductions: list[Reduction] = field(default_factory=list)
    sequential: bool = False  # points run in order: of a scatter one at a time, else lanes read before they write
    label: str = ""
    descending: bool = False  # sequential from the last point to the first

    @property
    def loads(self) -> Iterator[tuple[Buffer, Ix]]:
        return (i.data for i in self.body if i.op == "load")

    @property
    def positions(self) -> list[Ix]:
        """All positions that the stage holds."""
        held = [at for i in self.body if (at := i.position) is not None]
        held += [s.at for s in self.stores]
        for r in self.reductions:
            held += [r.at] if r.index is None else [r.at, r.index]
        return held

    def move(self, f: Callable[[Ix], Ix]) -> None:
        """Replaces every position."""
        for i in self.body:
            i.move(f)
        move_results(self.stores, self.reductions, f)

    @property
    def in_order(self) -> bool:
        """Whether it is sequential only because it reads neighbours of what it writes: lanes may run side by side."""
        stores = self.stores
        static = all(s.combine == "set" and not s.at.is_dynamic for s in stores)
        return self.sequential and bool(stores) and static and not self.reductions

    def reads(self) -> set[int]:
        """Ids of the storages read."""
        out = {id(b.storage) for b, _ in self.loads}
        out.update(id(s.buffer.storage) for s in self.stores if s.combine != "set")
        out.update(id(r.buffer.storage) for r in self.reductions if r.combine != "set" or r.begins_with_memory)
        return out

    def writes(self) -> set[int]:
        """Ids of the storages written."""
        return {id(s.buffer.storage) for s in self.stores} | {id(r.buffer.storage) for r in self.reductions}

    @property
    def checks(self) -> bool:
        """Whether positions are checked, which is told when the loops have ended."""
        return any(i.op == "bound" and i.data[2] == "check" for i in self.body)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is stored, reduced or checked."""
        return not (self.stores or self.reductions or self.checks)

    @property
    def returns(self) -> bool:
        """Whether a caller's array is written, which has to keep its order with checks."""
        stored = [*(s.buffer for s in self.stores), *(r.buffer for r in self.reductions)]
        return any(b.storage.kind == "input" for b in stored)

    def ops(self) -> int:
        """How many scalar operations one point takes."""
        return sum(i.op not in ("const", "index", "load", "carry") for i in self.body)

    @property
    def folds(self) -> bool:
        """Whether the reduce axes have an order."""
        return any(r.kind == "fold" for r in self.reductions)


def move_results(stores: list[Store], reductions: list[Reduction], f: Callable[[Ix], Ix]) -> None:
    """Replaces the positions that results go to."""
    for s in stores:
        s.at = f(s.at)
    for r in reductions:
        r.at = f(r.at)
        if r.index is not None:
            r.index = f(r.index)


@dataclass(slots=True, eq=False)
class LoopAxis:
    """A loop of a nest or leaf. `var` is the variable of the bodies inside. `tile`: it runs over starts of tiles of so
    many points, which an inner loop of the same variable covers."""

    var: int
    extent: Dim
    reduce: bool = False
    tile: int = 0
    most: int | None = None  # what a symbolic extent is known not to exceed


@dataclass(slots=True, eq=False)
class Leaf:
    """Loops of its own around one body, inside the loops that its nest shares."""

    loops: list[LoopAxis]
    stage: Stage  # its axes are all variables of nest and leaf together
    vector: int | None = None  # the variable that runs along vector lanes
    unroll: int = 1
    jam: int | None = (
        None  # copies run along this variable instead of the lanes': accesses transposed against the lanes
    )
    narrow: bool = False  # `vector` is a loop whose elements are taken one by one, `unroll` of them side by side
    late: bool = False  # the last points read what was written just before: they run one by one, at the end
    adds: bool = False  # its reductions go over the last shared loop too, and add to what is there
    long: bool = False  # its points are many, so that what one vector waits for is filled with others
    recalled: bool = False  # its rows are so few that how long each is can be guessed from the last time


@dataclass(slots=True, eq=False)
class Nest:
    """A kernel: shared outer loops, then leaves in order."""

    outer: list[LoopAxis]
    leaves: list[Leaf]
    name: str = ""
    parallel: bool = False
    brief: bool = False  # a parallel run is so short that it is worth its threads only while they are awake
    grain: Dim = 0
    block: int = 0  # shared lanes: the last outer loop runs over blocks of this many points
    block_var: int | None = None  # the variable that counts the blocks
    mixed: bool = False  # leaves of a block may run along its rows
    scratch: dict[int, Any] = field(default_factory=dict)  # id -> (storage, bytes, lines): live for one outer point
    chunk: int = 0  # elements of one unit of a parallel vector loop
    threshold: Any = None  # (points, how many make threads worth it) when only the running function knows
    rows: int = 0  # the first outer loop runs in pieces of so many points, `piece` counts them
    piece: int | None = None
    first: list[Leaf] = field(default_factory=list)  # what runs before each piece
    polled: bool = False  # blocks ask whether to stop: their points are turns of a loop

    def stages(self) -> Iterator[Stage]:
        return (leaf.stage for leaf in (*self.first, *self.leaves))


Scalar = Dim | Buffer
"""An integer that control needs: a dim, or a 0-d buffer to read it from."""


@dataclass(slots=True, eq=False)
class Move:
    """`target[...] = source[...]`, dense buffers of one size. `swap`: exchange the two storages instead."""

    target: Buffer
    source: Buffer
    swap: bool = False


@dataclass(slots=True, eq=False)
class Trade:
    """Carries that change places among themselves in every turn; `kept` are those that are read behind the loop."""

    places: list[Storage]
    kept: list[Storage]


@dataclass(slots=True, eq=False)
class Loop:
    """`for symbol in range(lower, upper, step)` over `body`; carried arrays live in their buffers."""

    symbol: str
    lower: Scalar
    upper: Scalar
    step: int
    body: list[Any]
    period: int = 1024  # iterations between two looks at `ctx->interrupted`
    swaps: list[tuple[Storage, Storage]] = field(default_factory=list)  # pairs that change places every time
    trades: list[Trade] = field(default_factory=list)
    also: list[str] = field(default_factory=list)  # further names of the index: of loops that were joined to this one
    abreast: int = 0  # so many turns run side by side, the loop of each a turn behind that of the one before

    @property
    def moving(self) -> list[Storage]:
        """The storages that change places."""
        return [x for group in (*self.swaps, *(t.places for t in self.trades)) for x in group]


@dataclass(slots=True, eq=False)
class Tape:
    """A storage that a loop makes larger as it runs, and the bytes of a row."""

    storage: Storage
    row: Dim


@dataclass(slots=True, eq=False)
class While:
    """`while condition` (a b1[] buffer that `test` computes) run `body`. Where it counts its turns, `turn` is the
    number of the turn in its body, and `tapes` have room for that row."""

    test: list[Any]
    condition: Buffer
    body: list[Any]
    period: int = 256  # turns between two questions whether to stop; being entered is none
    turn: str = ""
    count: Buffer | None = None
    tapes: list[Tape] = field(default_factory=list)
    swaps: list[tuple[Storage, Storage]] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)

    @property
    def moving(self) -> list[Storage]:
        """The storages that change places."""
        return [x for group in (*self.swaps, *(t.places for t in self.trades)) for x in group]


@dataclass(slots=True, eq=False)
class Switch:
    """Runs branch `index`, clamped."""

    index: Scalar
    branches: list[list[Any]]


@dataclass(slots=True, eq=False)
class MapLanes:
    """Runs `body` for `size` values of `symbol`, from `first` on in steps, lanes independent of each other. `private`:
    storages per lane; `own` are those of them that a thread allocates once. `block`: lanes are blocks of so many
    elements, made of loops over all of them."""

    symbol: str
    size: Dim
    body: list[Any]
    private: list[Storage] = field(default_factory=list)
    own: list[Storage] = field(default_factory=list)
    parallel: bool = False
    brief: bool = False  # as of a nest
    grain: int = 1
    first: Dim = 0
    step: int = 1
    also: list[str] = field(default_factory=list)  # further names of the index
    block: int = 0


@dataclass(slots=True, eq=False)
class Read:
    """Defines the symbol `name` as the value of a 0-d integer buffer."""

    name: str
    source: Buffer


@dataclass(slots=True, eq=False)
class Check:
    """Returns an error unless the b1[] buffer is true."""

    ok: Buffer
    details: list[Buffer]
    exception: str
    text: str


@dataclass(slots=True, eq=False)
class Allocate:
    """Gives a heap storage, or a result sized by data (`buffer.storage.kind` "sized"), its memory."""

    buffer: Buffer


@dataclass(slots=True, eq=False)
class Routine:
    """Code that `codegen/routines/<name>.py` emits: reads `inputs`, writes `outputs`, may use `scratch`."""

    name: str
    node: Node
    inputs: list[Buffer]
    outputs: list[Buffer]
    scratch: list[Buffer] = field(default_factory=list)


Step = Stage | Nest | Move | Loop | While | Switch | MapLanes | Read | Check | Allocate | Routine


@dataclass(slots=True, eq=False)
class Program:
    """A lowered function: the caller's buffers and the steps."""

    name: str
    inputs: list[Buffer]
    outputs: list[Buffer]
    steps: list[Any]
    symbols: list[str]
    storages: list[Storage] = field(default_factory=list)
    facts: Any = None  # index.Facts of the symbols
    arena_bytes: Dim = 0
    work: Dim = 0  # rough nanoseconds of one call on one thread
    copies: list[str] = field(default_factory=list)  # arrays copied before an update, with the reasons

    @property
    def has_loops(self) -> bool:
        """Whether there are loops written one element at a time, or lane by lane."""
        found = False

        def look(step: Any) -> None:
            nonlocal found
            found = found or isinstance(step, Loop | While | MapLanes)

        walk(self.steps, look)
        return found

    def __str__(self) -> str:
        from stager.codegen.listing import program_lines

        return "\n".join(program_lines(self))


def walk(steps: list[Any], visit: Callable[[Any], None]) -> None:
    """Calls `visit` for every step, outer before inner, in order."""
    for s in steps:
        visit(s)
        match s:
            case Loop() | MapLanes():
                walk(s.body, visit)
            case While():
                walk(s.test, visit)
                walk(s.body, visit)
            case Switch():
                for b in s.branches:
                    walk(b, visit)


def domain_size(axes: list[Axis]) -> Dim:
    """How many points a domain has."""
    return product(a.extent for a in axes)
