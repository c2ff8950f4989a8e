"""The adjoint of windows of which a product was taken: one more product, with windows of the cotangent.

The cotangent of a convolution's windows is itself a product, ct[…, k, …] w[…, j, …], and an element of the array is the
sum over j of what windows k = element - j hold of it: `ct`, padded by zeros, in windows, times `w` flipped. So neither
the cotangent of all windows nor a sum of its shifted parts is ever made. Where only every s-th window was used, so it
is for elements s apart, each with every s-th of the weights. Where a weight is not finite, zeros of the padding times
it make NaN of the elements at the rim that otherwise would not see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from math import gcd
from typing import Any

from stager.ir.dims import Dim, is_static, product
from stager.ir.graph import Node, Value
from stager.ops.views import flip, slice_, slice_axis, transpose, windows, zeros_like_scalar

FEW = 4
"""Columns, or terms, that do not pay for a product of its own."""


@dataclass(frozen=True, slots=True)
class Part:
    """A value that stands at `starts`, with `steps`, in zeros."""

    value: Any
    starts: tuple[Dim, ...]
    steps: tuple[int, ...]

    def apart(self, other: Part) -> bool:
        """Whether no element is in both."""
        for k, (a, b) in enumerate(zip(self.starts, other.starts, strict=True)):
            if not (is_static(a) and is_static(b)):
                continue
            if (a - b) % gcd(self.steps[k], other.steps[k]):
                return True
        return False


def sum_of_windows(ct: Any, shape: tuple[Dim, ...], axis: int) -> Any:
    """The sum of windows along `axis`, whose elements are the last axis of `ct`, at their places in `shape`; None where
    `ct` is no product of what has the one and what has the other."""
    from stager.ops.families import full
    from stager.ops.structural import slice_update

    if type(ct) is not Value:
        return None
    out: list[Part] = []
    for part in _parts(ct):
        found = _Product.of(part, axis)
        if found is None:
            return None
        out += found.sums()
    if len(out) == 1 and out[0].value.type.shape == shape:
        return out[0].value
    total = full(shape, 0, ct.type.dtype)
    for p in out:
        total = slice_update(total, p.value, starts=p.starts, sizes=p.value.type.shape, steps=p.steps)
    return total


def _parts(ct: Value) -> list[Part]:
    """What zeros were overwritten by; the value itself where it is made otherwise."""
    from stager.ops.cotangents import is_zeros

    found: list[Part] = []
    v = ct
    while v.node.op.name == "slice_update":
        params = v.node.params
        found.append(Part(v.node.args[1], params["starts"], params["steps"]))
        v = v.node.args[0]
    whole = Part(ct, (0,) * ct.type.ndim, (1,) * ct.type.ndim)
    if not is_zeros(v) or any(step < 1 for p in found for step in p.steps):
        return [whole]
    return found if all(a.apart(b) for a, b in combinations(found, 2)) else [whole]


@dataclass(frozen=True, slots=True)
class _Product:
    """dot(a, w) where the places of windows are an axis of `a`, the elements of a window one of `w`."""

    part: Part
    axis: int
    perm: tuple[int, ...]  # of the product's axes
    operands: tuple[Value, Value]
    mine: int  # which of them is a
    place: int
    element: int
    contract: tuple[tuple[int, ...], tuple[int, ...]]
    batch: tuple[tuple[int, ...], tuple[int, ...]]

    @classmethod
    def of(cls, part: Part, axis: int) -> _Product | None:
        """The product that a part is; None where it is none, or where this one is better done otherwise."""
        from stager.ops.contract import free_axes

        v = part.value
        node, last = v.node, v.type.ndim - 1
        perm = tuple(range(last + 1))
        if node.op.name == "transpose":
            perm, node = node.params["perm"], node.args[0].node
        if node.op.name != "dot":
            return None
        contract, batch = node.params["contract"], node.params["batch"]
        owners = [(-1, k) for k in range(len(batch[0]))]
        for side in (0, 1):
            owners += [(side, k) for k in free_axes(node.args[side].type.ndim, contract[side], batch[side])]
        (mine, place), (theirs, element) = owners[perm[axis]], owners[perm[last]]
        if min(mine, theirs) < 0 or mine == theirs:
            return None
        a, w = node.args[mine], node.args[theirs]
        count, size = a.type.shape[place], w.type.shape[element]
        columns = product(w.type.shape[k] for s, k in owners if s == theirs and k != element)
        terms = product(a.type.shape[k] for k in contract[mine])
        if any(is_static(d) and d <= FEW for d in (columns, terms)) or not is_static(size):
            return None
        if (part.steps[axis] > 1 < part.steps[last]) or (is_static(count) and count < 2 * size):
            return None
        return cls(part, axis, perm, node.args, mine, place, element, contract, batch)

    def sums(self) -> Iterator[Part]:
        """The sums over the elements of windows, those that a step of windows keeps apart each for itself."""
        starts, steps = self.part.starts, self.part.steps
        w = self.operands[1 - self.mine]
        size, step = w.type.shape[self.element], steps[self.axis]
        assert isinstance(size, int)
        for first in range(min(step, size)):
            every = w if step == 1 else slice_axis(w, self.element, first, -(-(size - first) // step), step)
            value = self._sum(every, steps[-1])
            start = starts[self.axis] + starts[-1] + first
            yield Part(value, (*starts[: self.axis], start, *starts[self.axis + 1 : -1]), steps[:-1])

    def _sum(self, w: Value, apart: int) -> Any:
        """The product with windows, of `w` with elements that are `apart` places from one another."""
        from stager.ops.contract import dot

        place, mine = self.place, self.mine
        count = w.type.shape[self.element]
        assert isinstance(count, int)
        span = apart * (count - 1) + 1
        a = self.operands[mine]
        around = []  # windows along other axes: of what is padded
        while _leaves(a, place):
            around.append(a.node)
            a = a.node.args[0]
        shown = _padded(a, place, span - 1)
        for node in reversed(around):
            shown = _again(shown, node, place)
        shown = windows(shown, axis=place, size=span, step=1)
        last = len(shown.type.shape) - 1
        if apart > 1:
            shown = slice_axis(shown, last, 0, count, apart)
        sides = [(shown, (*self.contract[mine], last))]
        sides.insert(1 - mine, (flip(w, [self.element]), (*self.contract[1 - mine], self.element)))
        (x, xc), (y, yc) = sides
        gone = self.perm[-1]
        out = dot(x, y, contract=(xc, yc), batch=self.batch)
        return transpose(out, perm=[p - (p > gone) for p in self.perm[:-1]])


def _leaves(v: Value, axis: int) -> bool:
    """Whether a value shows windows, or a slice, along other axes."""
    name, params = v.node.op.name, v.node.params
    if name == "windows":
        return axis < v.type.ndim - 1 and params["axis"] != axis
    whole = name == "slice" and params["sizes"][axis] == v.node.args[0].type.shape[axis]
    return whole and params["steps"][axis] == 1


def _again(x: Any, node: Node, axis: int) -> Any:
    """The same windows, or slice, of a value that is longer along `axis`."""
    if node.op.name == "windows":
        return windows(x, **node.params)
    sizes = tuple([x.type.shape[k] if k == axis else d for k, d in enumerate(node.params["sizes"])])
    return slice_(x, starts=node.params["starts"], sizes=sizes, steps=node.params["steps"])


def _padded(a: Value, axis: int, by: int) -> Any:
    """`by` zeros before and behind along an axis; of what is padded along others, padded once."""
    from stager.ops.cotangents import is_zeros
    from stager.ops.structural import pad

    amounts = tuple([by if k == axis else 0 for k in range(a.type.ndim)])
    if a.node.op.name == "pad" and is_zeros(a.node.args[1]) and not any(a.node.params["interior"]):
        inner = a.node.params
        low, high = (tuple([x + y for x, y in zip(inner[s], amounts, strict=True)]) for s in ("low", "high"))
        return pad(a.node.args[0], a.node.args[1], low=low, high=high, interior=inner["interior"])
    return pad(a, zeros_like_scalar(a), low=amounts, high=amounts, interior=(0,) * a.type.ndim)
