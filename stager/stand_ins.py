"""Arrays that machine code does not take as they are: plain ones stand in for them during a call.

Subclasses, byte-swapped and misaligned arrays, and arrays that lie among the elements of one another. Writes reach the
originals, and a stand-in that is returned is the original.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from stager.errors import UnsupportedError, describe
from stager.runtime.structure import flatten, map_leaves, unflatten

if TYPE_CHECKING:
    from stager.binding import Bound
    from stager.tracing import Traced


def is_odd(x: np.ndarray[Any, Any]) -> bool:
    """Whether machine code cannot take an array as it is."""
    return type(x) is not np.ndarray or not x.dtype.isnative or not x.flags.aligned


def plain_array(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An odd array as a plain one: a view, or a copy where it is byte-swapped or misaligned."""
    plain = x.view(np.ndarray)
    if not (x.dtype.isnative and x.flags.aligned):
        plain = np.ascontiguousarray(plain.astype(x.dtype.newbyteorder("="))).reshape(x.shape)
    plain.setflags(write=x.flags.writeable)
    return plain


def plain_arrays(bound: Bound) -> tuple[Bound, list[tuple[Any, Any]]]:
    """Arguments with subclass, byte-swapped and misaligned arrays replaced by plain copies or views."""
    leaves, structure = flatten(dict(bound.arguments))
    originals: list[tuple[Any, Any]] = []
    for i, x in enumerate(leaves):
        if type(x) is int and not -(2**63) <= x < 2**63:
            raise OverflowError(f"Python int {x} too large to convert to C long: pass a float, or a NumPy scalar")
        if isinstance(x, np.ndarray) and is_odd(x):
            if isinstance(x, np.ma.MaskedArray | np.matrix):
                raise UnsupportedError(
                    describe(
                        f"an argument is a {type(x).__name__}, whose operations differ from ndarray's",
                        remedy="pass np.asarray(x)",
                    )
                )
            plain = plain_array(x)
            originals.append((x, plain))
            leaves[i] = plain
    if originals:
        bound = bound.replaced(unflatten(structure, leaves))
    return bound, originals


def through_copies(function: Any, bound: Bound, originals: list[tuple[Any, Any]]) -> Any:
    """Call with plain stand-ins; writes reach the originals, those before an exception too. A returned stand-in is the
    original."""
    before = [None if np.shares_memory(x, y) else y.copy() for x, y in originals]
    try:
        out = function(*bound.args, **bound.kwargs)
    finally:
        for (x, y), old in zip(originals, before, strict=True):
            if old is not None and not np.array_equal(old.view(np.uint8), y.view(np.uint8)):
                x[...] = y
    given = {id(y): x for x, y in originals}
    return map_leaves(lambda leaf: given.get(id(leaf), leaf), out)


WORK = 100_000  # finding out whether two layouts meet can take exponential time


def share_elements(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> bool:
    """Whether two arrays share an element, as far as that can be found out with little work; else True."""
    try:
        return np.may_share_memory(x, y) and np.shares_memory(x, y, max_work=WORK)  # type: ignore[arg-type]  # numpy declares 0 and -1 only
    except np.exceptions.TooHardError:
        return True


def refuse_overlap(traced: Traced) -> None:
    """Arrays of a call that share elements have no defined meaning when one of them is written."""
    arrays = [leaf.value for leaf in traced.leaves if isinstance(leaf.value, np.ndarray)]
    for i, _ in traced.writes:
        if sum(share_elements(traced.leaves[i].value, x) for x in arrays) > 1:
            raise ValueError(
                describe(
                    "two arguments share memory and one of them is written",
                    remedy="pass a copy, or one array and slice it inside the function",
                )
            )


def refuse_captured_stretch(traced: Traced) -> None:
    """The native entry compares stretches of memory: a captured array may not lie in that of a written one."""
    arrays = [leaf.value for leaf in traced.leaves if isinstance(leaf.value, np.ndarray)]
    captured = [x for x in arrays if not any(x is leaf.value for leaf in traced.leaves[: traced.arguments])]
    for i, _ in traced.writes:
        written = traced.leaves[i].value
        others = arrays if any(written is x for x in captured) else captured
        if sum(np.may_share_memory(written, x) for x in others) > any(written is x for x in others):
            raise ValueError(
                describe(
                    "a captured array lies in one block of memory with an array that is written",
                    remedy="pass both as arguments, or capture a copy",
                )
            )


def disentangled(bound: Bound) -> tuple[Bound, list[tuple[Any, Any]]]:
    """Arguments with copies for arrays that share no element but lie in one stretch of memory (`x[::2]`, `x[1::2]`).

    The native entry compares stretches only, so where one of them is written it takes none of them.
    """
    leaves, structure = flatten(dict(bound.arguments))
    arrays = [(i, x) for i, x in enumerate(leaves) if isinstance(x, np.ndarray)]
    originals: list[tuple[Any, Any]] = []
    for i, x in arrays:
        near = [y for j, y in arrays if j != i and np.may_share_memory(x, y)]
        if near and not any(share_elements(x, y) for y in near):
            leaves[i] = x.copy()
            leaves[i].setflags(write=x.flags.writeable)
            originals.append((x, leaves[i]))
    if originals:
        bound = bound.replaced(unflatten(structure, leaves))
    return bound, originals
