"""Updates through views: a part of an array is updated where it lies, not in a copy that goes back.

    s = slice x;  t = scatter(s, …);  y = slice_update(x, t)      where both slices are one region

is one write into the memory of x: the result `t` is given the part of x's buffer that `s` shows, and the update that
puts it back finds it there (`Placement.write` writes nothing over itself). The same holds where `t` goes back by views
alone, as after a transposition, into an argument that gets its new content.

Invariant: from the first write on nothing reads the array but what puts the part back; lazy values that read the old
content are computed before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stager.codegen.index import Ix, variable
from stager.codegen.program import Buffer, Storage
from stager.codegen.pull import StageBuilder, diagonal_index, value_key
from stager.ir.dims import Dim, contiguous_strides
from stager.ir.graph import Node, Value

if TYPE_CHECKING:
    from stager.codegen.placement import Placement

VIEWS = ("slice", "transpose", "reshape", "diagonal")
"""Views that show every element once."""
LAYOUT = "layout"  # the name of a storage that only shows where things would lie
PUT_BACK = ("slice_update", "diagonal_update")
"""Updates whose second operand becomes a part of the first."""


def take_through(w: Placement, base: Value, node: Node, result: Value) -> Buffer | None:
    """What `Placement.take` gives for an update of a view: the view of memory that may be written, if it is one."""
    base = w.origin(base)
    if w.users.get(value_key(base), []).count(w.now) > 1 or not w.dies(base):
        return None
    shown = _views(w, base)
    if not shown:
        return None
    root = w.origin(shown[-1].node.args[0])
    found = w.ctx.buffers.get(value_key(root))
    if id(root.node) not in w.order or value_key(root) in w.output_keys:
        return None
    if found is None:  # it is put into memory where it is going to be updated
        way = _Way(w, root, Buffer(Storage("temp", LAYOUT, 0), root.type.dtype, root.shape))
        if not way.fits(shown, result):
            return None
        home = way.home
        if home is not None and home.is_dense and value_key(root) not in w.homes:
            w.homes[value_key(root)] = Buffer(home.storage, home.dtype, root.shape, None, home.offset)
        found = w.realise(root)
    way = _Way(w, root, found)
    if not way.fits(shown, result):
        return None
    w.protect(root, passing=way.passing)
    return laid_out(w, shown, found)


def _views(w: Placement, v: Value) -> list[Value]:
    """The values from v to what is in memory or is computed, each a view of the next."""
    shown: list[Value] = []
    while value_key(v) not in w.ctx.buffers and v.node.op.name in VIEWS:
        shown.append(v)
        v = w.origin(v.node.args[0])
    return shown


def views_of(w: Placement, v: Value) -> list[Value]:
    """The values from v to what is in memory, each a view of the next; none where v is no view of memory."""
    shown = _views(w, w.origin(v))
    return shown if shown and value_key(w.origin(shown[-1].node.args[0])) in w.ctx.buffers else []


def laid_out(w: Placement, shown: list[Value], found: Buffer) -> Buffer | None:
    """The memory of the first of some values, each a view of the next, the last of them of `found`."""
    sb = StageBuilder(w.ctx)
    index = _axes(sb, shown[0].shape)
    for x in shown:
        index = sb._view(x.node, index)
    return _buffer(sb, shown[0].shape, index, found)


def _axes(sb: StageBuilder, shape: tuple[Dim, ...]) -> tuple[Ix, ...]:
    return tuple([variable(len(sb.axes) - 1) if sb.axis(d) is not None and d != 1 else Ix(0) for d in shape])


def _buffer(sb: StageBuilder, shape: tuple[Dim, ...], index: tuple[Ix, ...], found: Buffer) -> Buffer | None:
    at = sb.address(found, index)
    if at.is_dynamic or sb.body:
        return None
    axes = iter(range(len(sb.axes)))
    dense = contiguous_strides(shape, found.dtype.itemsize)
    strides = tuple([at.coef(next(axes)) if d != 1 else dense[k] for k, d in enumerate(shape)])
    return Buffer(found.storage, found.dtype, shape, strides, at.const)


class _Way:
    """The way of an updated part back into `root`, whose memory is `found`.

    `passing`: the keys of the views of root that only the way reads; `updates`: the nodes that put parts back.
    """

    def __init__(self, w: Placement, root: Value, found: Buffer) -> None:
        self.w = w
        self.root = root
        self.found = found
        self.home: Buffer | None = None  # where it ends
        self.passing: set[int] = set()
        self.updates: set[int] = set()

    def fits(self, shown: list[Value], result: Value) -> bool:
        """Whether `result`, an update of the first of the views of root that are shown, goes back and nothing else
        reads what it writes over."""
        part = laid_out(self.w, shown, self.found)
        if part is None or not self.goes_back(result, part):
            return False
        return all(value_key(v) not in self.w.output_keys and self.alone(v) for v in (self.root, *shown))

    def alone(self, v: Value) -> bool:
        """Whether all later readers of a value are on the way."""
        w = self.w
        later = [i for i in w.users.get(value_key(v), ()) if i > w.now and i not in self.updates]
        return all(value_key(Value(w.nodes[i])) in self.passing for i in later)

    def goes_back(self, v: Value, part: Buffer) -> bool:
        """Whether v, which lies in `part`, is put back where it lies, or becomes an argument's new content there."""
        w = self.w
        shown: list[Value] = []
        while True:
            there = lies(w, shown, part)
            key = value_key(v)
            users = w.users.get(key, [])
            if key in w.output_keys:
                home = w.homes.get(key)
                return not users and home is not None and self._is_home(there, home)
            if len(users) != 1:
                return False
            user = w.nodes[users[0]]
            if user.op.name in PUT_BACK and user.args[1] == v and user.args[0] != v:
                self.updates.add(users[0])
                return there is not None and self._put_back(user, there)
            if user.op.name not in VIEWS:
                return False
            v = Value(user)
            shown.insert(0, v)

    def _is_home(self, there: Buffer | None, home: Buffer) -> bool:
        self.home = home
        mine = home.storage is self.found.storage or self.found.name == LAYOUT
        return mine and there is not None and same_memory(there, home)

    def _put_back(self, update: Node, there: Buffer) -> bool:
        w, root, found = self.w, self.root, self.found
        into: list[Value] = []  # the array that is updated, as a view of root
        v = w.origin(update.args[0])
        while v != root:
            key = value_key(v)
            if v.node.op.name not in VIEWS or key in w.ctx.buffers or key in w.output_keys:
                return False
            into.append(v)
            v = w.origin(v.node.args[0])
        region = self._region(update, into)
        if region is None or not same_memory(there, region):
            return False
        self.passing.update(value_key(x) for x in into)
        if any(x.node.op.name != "reshape" for x in into):
            base = laid_out(w, into, found)
            return base is not None and self.goes_back(Value(update), base)
        self.home = home = w.homes.get(id(update) << 20)
        if found.name == LAYOUT:
            return True
        return id(found.storage) in w.ctx.owned or (home is not None and home.storage is found.storage)

    def _region(self, update: Node, into: list[Value]) -> Buffer | None:
        """The memory that an update writes."""
        sb = StageBuilder(self.w.ctx)
        shape = update.args[1].shape
        index = _axes(sb, shape)
        p = update.params
        if update.op.name == "slice_update":
            index = tuple([i.scale(s).shift(k) for i, k, s in zip(index, p["starts"], p["steps"], strict=True)])
        else:
            index = diagonal_index(index, update.args[0].type.ndim, p["axis1"], p["axis2"], p["offset"])
        for x in into:
            index = sb._view(x.node, index)
        return _buffer(sb, shape, index, self.found)


def lies(w: Placement, shown: list[Value], found: Buffer) -> Buffer | None:
    """The memory of the first of some values, each a view of the next, the last of them of `found`."""
    b: Buffer | None = found
    for v in reversed(shown):
        if b is not None:
            b = _reshaped(b, v.shape) if v.node.op.name == "reshape" else laid_out(w, [v], b)
    return b


def _reshaped(b: Buffer, shape: tuple[Dim, ...]) -> Buffer | None:
    """The memory of a reshape, where each new axis lies in axes that follow each other in memory."""
    if b.is_dense:
        return Buffer(b.storage, b.dtype, shape, None, b.offset)
    sizes = [d for d in (*b.shape, *shape) if isinstance(d, int)]
    if len(sizes) < len(b.shape) + len(shape) or 0 in sizes:
        return None
    runs: list[list[Any]] = []  # size and stride of what follows each other
    for d, stride in zip(b.shape, b.strides, strict=True):
        if d == 1:
            continue
        if runs and runs[-1][1] == stride * d:
            runs[-1] = [runs[-1][0] * d, stride]
        else:
            runs.append([d, stride])
    strides: list[Dim] = []
    for d in reversed(shape):
        while runs and runs[-1][0] == 1:
            runs.pop()
        if d == 1:
            strides.append(b.dtype.itemsize)
            continue
        size, stride = runs[-1]
        if size % d:
            return None
        strides.append(stride)
        runs[-1] = [size // d, stride * d]
    return Buffer(b.storage, b.dtype, shape, tuple(reversed(strides)), b.offset)


def memory_of(w: Placement, v: Value) -> Buffer | None:
    """The memory in which a value lies, as itself or as a view."""
    v = w.origin(v)
    b = w.ctx.buffers.get(value_key(v))
    shown = views_of(w, v) if b is None else []
    return lies(w, shown, w.ctx.buffers[value_key(w.origin(shown[-1].node.args[0]))]) if shown else b


def same_memory(a: Buffer, b: Buffer) -> bool:
    """Whether two buffers of one storage show the same elements in the same order."""
    if a.shape != b.shape or a.offset != b.offset:
        return False
    return all(d == 1 or x == y for d, x, y in zip(a.shape, a.strides, b.strides, strict=True))
