"""Extents that control flow decides: `x = x[x > 0]` in a staged loop, or arrays of two lengths from two branches.

An array that enters or leaves a region with such an extent crosses the border as a buffer of the greatest extent it can
have, and a count of what is in use. Inside, and after the node, it is the leading part of the buffer, and its extent a
symbol whose value is the count. Axes that keep step share one count, so that arrays filtered by one mask still fit.

A leaf of a carried or merged value is (type, weak), or (type, weak, {axis: its `Extent`}).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from stager.bounds import at_most, learn, most, simplify, upper
from stager.errors import describe
from stager.ir.dims import Dim, dim_max, symbols_of
from stager.ir.dtypes import i64
from stager.ir.graph import Value
from stager.ir.types import Type
from stager.ops.families import zeros_of
from stager.ops.regions import dim_of, dim_value
from stager.ops.structural import concatenate, slice_update
from stager.ops.views import leading
from stager.staged import MismatchError, UserRegion, inside, join, region_in_force

Raw = Any
Leaf = Any
I64 = Type(i64, ())
LONG = 60  # characters of a bound
CHANGES = 3  # of a capacity: what grows with itself has none


class Extent:
    """One extent: what it is around the node, in the region, and at most."""

    __slots__ = ("after", "capacity", "first", "news", "now", "start")

    def __init__(self, start: Dim, capacity: Dim) -> None:
        self.start = start  # before the loop
        self.capacity = capacity
        self.now: Dim = start  # in the region, and when the node is bound: after it
        self.after: Dim | None = None  # what an iteration leaves
        self.first: Dim = start  # what the first one left
        self.news = 0  # how often the capacity has changed


def axes_of(leaf: Leaf) -> dict[int, Extent]:
    return leaf[2] if len(leaf) > 2 else {}


def shape_of(leaf: Leaf) -> tuple[Dim, ...]:
    """The shape in the region, or after the node."""
    axes = axes_of(leaf)
    return tuple([axes[k].now if k in axes else d for k, d in enumerate(leaf[0].shape)])


def type_of(leaf: Leaf) -> Type:
    """The type that crosses the border: that of the buffer, where there is one."""
    t: Type = leaf[0]
    axes = axes_of(leaf)
    return Type(t.dtype, tuple([axes[k].capacity if k in axes else d for k, d in enumerate(t.shape)])) if axes else t


def before_and_after(leaf: Leaf) -> tuple[Type, Type]:
    """The types before the loop and after an iteration."""
    axes, t = axes_of(leaf), leaf[0]
    before = [axes[k].start if k in axes else d for k, d in enumerate(t.shape)]
    after = [d if k not in axes or (n := axes[k].after) is None else n for k, d in enumerate(t.shape)]
    return Type(t.dtype, tuple(before)), Type(t.dtype, tuple(after))


def fit(value: Raw, leaf: Leaf, buffer: Raw = None) -> Raw:
    """The buffer with the value in front. What is in front already stays: an array that grows gets its new end only."""
    if len(leaf) == 2:
        return value
    if buffer is None:
        buffer = zeros_of(type_of(leaf))
    elif _is_front(value, buffer):
        return buffer
    shape = value.type.shape
    starts: list[Dim] = [0] * len(shape)
    if type(value) is Value and value.node.op.name == "concatenate" and _is_front(value.node.args[0], buffer):
        axis = value.node.params["axis"]
        first, *others = value.node.args
        starts[axis] = first.type.shape[axis]
        value = concatenate(*others, axis=axis)
    return slice_update(buffer, value, starts=starts, sizes=value.type.shape, steps=[1] * len(shape))


def _is_front(value: Raw, buffer: Raw) -> bool:
    """Whether a value is seen to be the leading part of the buffer."""
    while type(value) is Value and value.node.op.name == "reshape" and value.node.args[0].type == value.type:
        value = value.node.args[0]
    if type(value) is not Value or value.node.op.name != "slice":
        return False
    p = value.node.params
    return bool(value.node.args[0] == buffer) and not any(p["starts"]) and all(s == 1 for s in p["steps"])


def cut(buffer: Raw, leaf: Leaf) -> Raw:
    """The value in front of the buffer."""
    return buffer if len(leaf) == 2 else leading(buffer, shape_of(leaf))


def is_own(d: Dim, region: UserRegion | None) -> bool:
    """Whether a dim has no meaning around the region; None is the world around."""
    return region is not None and any(_defines(region, name) for name in symbols_of(d))


def _defines(region: UserRegion, name: str) -> bool:
    return name in region.graph.symbols and not region.takes_symbol(name)


def _greatest(d: Dim, region: UserRegion) -> Dim | None:
    """A dim around the region, which is in force, that d never exceeds."""
    return most(d, lambda name: _defines(region, name))


def enter(extents: Sequence[Extent], counts: Sequence[Any], region: UserRegion) -> None:
    """Counts are inputs of the region: what the extents are there."""
    for e, count in zip(extents, counts, strict=True):
        region.bounds[count.node.params["index"]] = (0, e.capacity)
        e.now = dim_of(count)


def settle(extents: Sequence[Extent], results: Any) -> None:
    """The node's next results are the counts: what the extents are after it."""
    for e in extents:
        e.now = dim_of(next(results))
        learn(e.now, (0, e.capacity))


def _short(d: Dim) -> Dim:
    """A bound that stays short where one is made of another, again and again: the constant, where there is one."""
    if len(str(d)) <= LONG:
        return d
    constant = upper(d)
    return d if constant is None else constant


class Carried:
    """The extents of what a loop carries, as far as the traces so far have shown."""

    def __init__(self, turns: Dim | None, ahead: bool) -> None:
        """`turns`: how many iterations there are at most. `ahead`: whether the first one can be run ahead for sure."""
        self.turns = turns
        self.ahead = ahead
        self.extents: list[Extent] = []
        self._made: dict[tuple[Any, Dim], Extent] = {}

    def again(self) -> None:
        """An iteration has been traced: what it leaves is to be taken in."""
        self._made = {}
        for e in self.extents:
            e.after = None

    def widen(self, leaf: Leaf, shape: tuple[Dim, ...]) -> Leaf:
        """The leaf, with other extents where an iteration leaves another shape of as many axes."""
        axes = dict(axes_of(leaf))
        for k, (before, d) in enumerate(zip(shape_of(leaf), shape, strict=True)):
            e, d = axes.get(k), simplify(d)
            if e is None and before == d:
                continue
            if e is not None and e.after in (None, d):
                e.after = d
                continue
            key = (before if e is None else e, d)
            if key not in self._made:
                start = before if e is None else e.start
                self._made[key] = Extent(start, start)
                self._made[key].now, self._made[key].after = before, d
                self._made[key].first = d if e is None else e.first
            axes[k] = self._made[key]
        self.extents += [e for e in self._made.values() if e not in self.extents]
        return leaf if axes == axes_of(leaf) else (leaf[0], leaf[1], axes)

    def settle(self, region: UserRegion) -> Extent | bool:
        """Find what the extents are at most; the region is in force. True where that is news.

        An extent is given back that has no bound, or that would be static if one iteration ran ahead.
        """
        news = bool(self._made)
        for e in self.extents:
            if e.after is None:
                continue
            steady = e not in self._made.values() and e.after != e.now and not is_own(e.after, region)
            if steady and self.ahead:
                return e
            if e not in self._made.values() and _is_stretched(e, region):
                return e
            capacity = self._most(e, region)
            if capacity is None or e.news > CHANGES:
                return e
            if capacity != e.capacity:
                e.capacity = capacity
                e.news += 1
                news = True
        self.extents = [e for e in self.extents if e.after is not None]
        return news

    def grows_without_end(self, e: Extent, region: UserRegion) -> bool:
        """Whether it would have a bound if the number of turns were known."""
        return self.turns is None and e.after is not None and upper(e.after - e.now) is not None

    def _most(self, e: Extent, region: UserRegion) -> Dim | None:
        assert e.after is not None
        if at_most(e.after, e.now):
            return e.start
        if not is_own(e.after, region):
            return dim_max(e.start, e.after)
        greatest = _greatest(e.after, region)
        if greatest is not None and at_most(greatest, e.capacity):
            return e.capacity
        step = upper(e.after - e.now)
        if step is not None and self.turns is not None:
            return e.start + step * self.turns
        return None if greatest is None else dim_max(e.start, greatest)


def _is_stretched(e: Extent, region: UserRegion) -> bool:
    """Whether it was 1 and the first turn alone made it another: NumPy stretches it. What grows goes on growing."""
    assert e.after is not None
    return e.start == 1 and e.first != 1 and not is_own(e.first, region) and at_most(e.after, e.now)


class Merges:
    """The extents of what one of several regions gives."""

    def __init__(self, regions: Sequence[UserRegion | None]) -> None:
        self.regions = regions
        self.extents: dict[tuple[Dim | None, ...], Extent] = {}  # by the dim in each region

    def join(self, what: str, types: Sequence[tuple[Type, bool] | None]) -> Leaf:
        """The leaf for values of these types, by region; None where a region gives none."""
        known = [t for t in types if t is not None]
        first = known[0][0].shape
        if any(len(t.shape) != len(first) for t, _ in known):
            return join(what, known)
        axes: dict[int, Extent] = {}
        for k in range(len(first)):
            dims = tuple([None if t is None else t[0].shape[k] for t in types])
            if self._differ(dims):
                axes[k] = self._extent(what, dims)
        if not axes:
            return join(what, known)
        shape = tuple([axes[k].capacity if k in axes else d for k, d in enumerate(first)])
        return (*join(what, [(Type(t.dtype, shape), weak) for t, weak in known]), axes)

    def _differ(self, dims: tuple[Dim | None, ...]) -> bool:
        known = [(d, r) for d, r in zip(dims, self.regions, strict=True) if d is not None]
        return any(d != known[0][0] or is_own(d, r) for d, r in known)

    def _extent(self, what: str, dims: tuple[Dim | None, ...]) -> Extent:
        if dims not in self.extents:
            capacity: Dim = 0
            for d, region in zip(dims, self.regions, strict=True):
                if d is None:
                    continue
                greatest: Dim | None = d
                if region is not None and is_own(d, region):
                    with contextlib.nullcontext() if region_in_force() is region else inside(region):
                        greatest = _greatest(d, region)
                if greatest is None:
                    sizes = " and ".join(dict.fromkeys([str(x) for x in dims if x is not None]))
                    text = f"{what} has different shapes: {sizes} elements, and how many at most is not known"
                    raise MismatchError(describe(text, remedy="give it the same shape on every path"))
                capacity = dim_max(capacity, greatest)
            self.extents[dims] = Extent(0, _short(simplify(capacity)))
        return self.extents[dims]

    def knows(self, d: Dim) -> bool:
        """Whether a dim means the same around all regions."""
        return not any(is_own(d, region) for region in self.regions)

    def types(self) -> list[Type]:
        return [I64] * len(self.extents)

    def counts(self, k: int) -> list[Raw]:
        """The counts that region k gives; it is in force."""
        return [dim_value(0 if (d := dims[k]) is None else d) for dims in self.extents]

    def settle(self, results: Any) -> None:
        settle(list(self.extents.values()), results)
