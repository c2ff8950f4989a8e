"""Regions of user code: tracing a closure that reads and writes arrays of the levels around into a graph of its own.

User code works on cells, control nodes on values. While a `UserRegion` is in force, the first touch of an older cell
becomes an input of the region; what the code writes stays in the region's overlay. When all regions of a node are
traced, `close_regions` sorts their inputs: own inputs, then written cells, which the node carries, then captures.
"Loops carry cells, never views" holds because cells are all that crosses the border.

Not here: which Python variables cross it (`stager/capture`), the nodes themselves (`stager/ops/control.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NoReturn

import numpy as np

from stager import cells
from stager.array import Array, raw, wrap
from stager.cells import Cell
from stager.errors import ControlFlowError, describe
from stager.interpreters.stack import nearest_stage, push, stack
from stager.ir.core_ops import fill_op
from stager.ir.dims import Expr
from stager.ir.dtypes import DType, dtype_of
from stager.ir.graph import Graph, Value
from stager.ir.types import Type
from stager.ops.regions import Captures, RegionInterpreter, compact, dim_value, live_nodes

Raw = Any


class UserRegion(RegionInterpreter):
    """Level 0 of a region of user code. `declared` are cells known to be carried: their inputs are the region's own."""

    def __init__(self, name: str, captures: Captures, declared: Sequence[Cell] = ()) -> None:
        super().__init__(name, captures)
        self.touched: dict[Cell, int] = {}  # older cell -> its capture
        self.literals: set[Cell] = set()  # older cells read as the literals they hold
        self.relied: set[Cell] = set()  # cells whose value from around was used as a dim or a concrete number
        self.older: dict[int, Any] = {}  # Python containers and objects from around, by id
        self.growing: frozenset[int] = frozenset()  # ids of lists that it may carry what is appended to
        self.grows: tuple[list[Any], str] | None = None  # one of them that was appended to, and the refusal
        self.places: frozenset[Any] = frozenset()  # which of their attributes and items the region carries
        self.bounds: dict[int, tuple[Any, Any]] = {}  # input -> least and greatest value, as dims (`bounds.py`)
        self.declared = dict.fromkeys(declared)  # type: dict[Cell, Value | None]

    def touch(self, cell: Cell) -> Raw:
        """The value that a cell older than this region has inside it."""
        if cell in self.literals:
            return self.local(self._around(cell))
        around = self._around(cell)
        if type(around) is Value and around.node.op is fill_op and not around.type.shape:
            self.literals.add(cell)
            return self.local(around)
        captures = self.captures
        key = ("cell", id(cell))
        k = captures._index.get(key)
        if k is None:
            k = captures._index[key] = len(captures.raw)
            captures.raw.append(around)
        value = self.inputs.get(k)
        if value is None:
            value = self.inputs[k] = self.input(around.type)
        self.touched[cell] = k
        self._see(cell, value)
        return value

    def bound(self, cell: Cell, bounds: tuple[Any, Any]) -> None:
        """Know the least and the greatest value of an integer that an older cell holds where the region begins."""
        k = self.touched.get(cell)
        value = self.inputs[k] if k is not None else self.declared.get(cell)
        if value is not None:
            self.bounds.setdefault(value.node.params["index"], bounds)

    def took(self, cell: Cell, value: Raw) -> bool:
        """Whether a value that the cell has in this region is the one that it has around, which was only read."""
        k = self.touched.get(cell)
        return k is not None and bool(self.inputs[k] == value)

    def declare(self) -> list[Value]:
        """Inputs for the declared cells, in order. The region is in force."""
        for cell in self.declared:
            value = self.declared[cell] = self.input(cell.type)
            self._see(cell, value)
        return [v for v in self.declared.values() if v is not None]

    def _around(self, cell: Cell) -> Raw:
        with self.lower():
            return cell.read()

    def _see(self, cell: Cell, value: Value) -> None:
        if cell.overlays is None:
            cell.overlays = {}
        cell.overlays[self] = value
        cells._overlaid(self).append(cell)

    def outer(self, value: Value) -> Any:
        found = super().outer(value)
        if found is not None:
            self.relied |= {c for c, k in self.touched.items() if self.inputs[k] == value}
        return found

    def takes_symbol(self, name: str) -> bool:
        """Whether a symbol is one of a level around, captured under its name."""
        return name in self.captures.raw

    def written(self) -> dict[Cell, Value]:
        """Older cells with a new value, and that value."""
        out: dict[Cell, Value] = {}
        for cell in cells.overlaid_cells(self):
            assert cell.overlays is not None
            now = cell.overlays.get(self)
            k = self.touched.get(cell)
            before = self.inputs[k] if k is not None else self.declared.get(cell)
            if now is not None and now != before:
                out[cell] = now
        return out

    def conflicts(self, written: Sequence[Cell]) -> list[Cell]:
        """Cells whose value from around the code relied on, although the node changes it: to be declared next time."""
        return [c for c in written if c in self.relied or c in self.literals]


def region_in_force() -> UserRegion | None:
    """The region of user code that is being traced, or None."""
    if not cells.REGIONS:
        return None
    stage = nearest_stage()
    return stage if stage in cells.REGIONS else None


CHOSEN = (
    "a write into an array whose place is not known: it is one of several arrays, chosen by traced control flow, and "
    "which one is not known while tracing"
)


def is_older(x: Array) -> bool:
    """Whether an array stands on a cell from around the region in force."""
    owner = x.cell.owner
    region = region_in_force()
    return region is not None and (owner is None or owner.position < region.position)


def from_around(x: Array) -> list[Cell]:
    """The cells from around the region in force on which an array stands, or of which it may be a copy."""
    region = region_in_force()
    if region is None:
        return []
    found = [x.cell, *[cell for cell, _, _ in x.cell.may_be]]
    return [cell for cell in found if cell.owner is None or cell.owner.position < region.position]


def refuse_change(obj: Any, what: str) -> None:
    """Raise when Python state from around the region in force is about to change: it would once, while tracing."""
    stage = region_in_force()
    if stage is None:
        return
    s = stack()
    if any(id(obj) in level.older for level in s.levels[: s.depth] if level in cells.REGIONS):  # type: ignore[attr-defined]
        decline(what)


class DeclinedError(ControlFlowError):
    """Staging cannot take what the code does."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(
            describe(
                f"{what} inside a traced branch or loop would happen once, while tracing",
                remedy="keep the values in an array that is written by index, or in variables",
            )
        )


LEFT = "__stager_left__"  # of an exception that has left a traced branch or loop: a handler around would always run


def handled_outside(e: BaseException) -> ControlFlowError:
    """The error for an exception that is raised in a traced branch or loop and handled around it."""
    text = f"{type(e).__name__} ({e}) is raised in a traced branch or loop, and handled around it"
    return ControlFlowError(describe(text, remedy="put the try inside the branch or loop, or test for what it tells"))


def decline(what: str) -> NoReturn:
    """Staging cannot take this: loops fall back to Python."""
    raise DeclinedError(what)


@contextlib.contextmanager
def inside(region: UserRegion) -> Iterator[UserRegion]:
    """Context: the region is in force. On an exception its writes vanish."""
    s = stack()
    modes = s.grad_enabled, s.fwd_grad_enabled
    s.grad_enabled = s.fwd_grad_enabled = True  # the modes around decide about the control node as a whole
    cells.REGIONS.add(region)
    try:
        with push(region):
            yield region
    except BaseException as e:
        cells.discard_overlays(region)
        if isinstance(e, Exception):
            setattr(e, LEFT, True)
        raise
    finally:
        region.older = {}  # no user code runs here any more, and an array may keep the region alive
        cells.REGIONS.discard(region)
        s.grad_enabled, s.fwd_grad_enabled = modes


def close_regions(
    regions: Sequence[UserRegion], own: Sequence[Sequence[Value]], carried: Sequence[Cell]
) -> tuple[tuple[Graph, ...], list[Raw], list[Raw]]:
    """(graphs, raw values of the carried cells, raw operands for the captures).

    Each graph takes its own inputs, then the declared and the carried cells, then the captures. Overlays end here.
    """
    captures = regions[0].captures
    rest_of = [c for c in carried if c not in regions[0].declared]
    for cell in rest_of:
        if ("cell", id(cell)) not in captures._index:
            captures._index["cell", id(cell)] = len(captures.raw)
            captures.raw.append(cell.read())
    ks = [captures._index["cell", id(c)] for c in rest_of]
    inputs: list[list[Value]] = []
    for region, values in zip(regions, own, strict=True):
        for k in ks:
            if k not in region.inputs:
                region.inputs[k] = region.input(captures.type(k))
        inputs.append(
            [*values, *[v for v in region.declared.values() if v is not None], *[region.inputs[k] for k in ks]]
        )
    live = [live_nodes(region.graph, values) for region, values in zip(regions, inputs, strict=True)]
    used: set[int] = set()
    while True:  # a capture of one region is one of all; its type may mention symbols, which are captures again
        for region, nodes in zip(regions, live, strict=True):
            used |= {k for k, v in region.inputs.items() if v.node in nodes and k not in ks}
        missing = [
            k
            for k in sorted(used)
            if any(k not in r.inputs or r.inputs[k].node not in n for r, n in zip(regions, live, strict=True))
        ]
        if not missing:
            break
        for k, (region, values, nodes) in product(missing, zip(regions, inputs, live, strict=True)):
            if k not in region.inputs:
                region.inputs[k] = region.input(captures.type(k))
                region.close()
            nodes |= live_nodes(region.graph, [*values, region.inputs[k]])
    order = sorted(used)
    graphs = []
    for region, values, nodes in zip(regions, inputs, live, strict=True):
        graphs.append(compact(region.graph, [*values, *[region.inputs[k] for k in order]], nodes))
        cells.discard_overlays(region)
    return tuple(graphs), captures.operands(ks), captures.operands(order)


# -- leaves that cross the border -------------------------------------------------------------------------------------


class MismatchError(ControlFlowError):
    """Two values that one traced variable cannot be both of."""


def is_traceable(x: Any) -> bool:
    """A leaf that can be a traced value: an array, a number, or a size that only the run knows."""
    return type(x) in (Array, int, float, bool, Expr) or isinstance(x, np.generic | np.ndarray)


def leaf_type(x: Any) -> tuple[Type, bool]:
    """(type, whether it promotes weakly) of an array or number."""
    if type(x) is Array:
        return x.type, x.weak
    if type(x) in (int, float, Expr):
        return Type(dtype_of(np.float64 if type(x) is float else np.int64), ()), True
    a = np.asarray(x)
    return Type(dtype_of(a.dtype), a.shape), False


def join(what: str, types: Sequence[tuple[Type, bool]]) -> tuple[Type, bool]:
    """The one type of a value that is now this, now that: dtypes promote as NumPy's do, shapes must agree."""
    first = types[0]
    if all(t == first for t in types):
        return first
    shapes = [t.shape for t, _ in types]
    if any(s != shapes[0] for s in shapes):
        both = " and ".join(dict.fromkeys(str(t) for t, _ in types))
        raise MismatchError(
            describe(f"{what} has different shapes: {both}", remedy="give it the same shape on every path")
        )
    weak = all(w for _, w in types)
    parts: list[Any] = [t.dtype.np if not w else {"i": 0, "u": 0, "f": 0.0}.get(t.dtype.kind, False) for t, w in types]
    if weak:
        parts = [t.dtype.np for t, _ in types]
    return Type(dtype_of(np.result_type(*parts)), shapes[0]), weak


def as_raw(x: Any, dtype: DType) -> Raw:
    """An array or number as a raw value of a dtype, at the level in force."""
    from stager.ops.elementwise import convert

    if type(x) is Expr:
        x = wrap(dim_value(x))
    if not isinstance(x, Array):
        return raw(x, dtype) if type(x) in (int, float, bool) else convert(raw(x), dtype=dtype)
    value = raw(x)
    return value if value.type.dtype is dtype else convert(value, dtype=dtype)


def handle(value: Raw, weak: bool) -> Array:
    """A fresh array at the level in force."""
    return wrap(value, weak)
