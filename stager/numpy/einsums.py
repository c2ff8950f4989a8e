"""`einsum`: subscripts to products of two operands at a time, each one `dot` with its axes said."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.ir.dims import Dim
from stager.ir.dtypes import dtype_of
from stager.numpy.promotion import broadcast_raw, operand, result_dtype
from stager.numpy.reductions import deliver
from stager.numpy.registry import implements
from stager.numpy.ufuncs import as_array_like
from stager.ops import elementwise as op
from stager.ops import views
from stager.ops.contract import dot
from stager.ops.reductions import reduce_sum
from stager.symbols import require_same

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def parse(subscripts: str, ranks: list[int]) -> tuple[list[str], str]:
    """(labels of each operand, labels of the result), ellipses given letters of their own; ValueError if malformed."""
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"einsum: {len(terms)} operands are named in {subscripts!r}, {len(ranks)} were given")
    free = [c for c in LETTERS if c not in text]
    widest = max(
        (rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True) if "..." in t), default=0
    )
    dots = "".join(free[:widest])
    labels = []
    for t, rank in zip(terms, ranks, strict=True):
        if "..." in t:
            width = rank - len(t.replace("...", ""))
            if width < 0:
                raise ValueError(f"einsum: operand with {rank} dimensions has too many subscripts in {t!r}")
            t = t.replace("...", dots[len(dots) - width :])
        if len(t) != rank or not all(c in LETTERS for c in t):
            raise ValueError(f"einstein sum subscripts {t!r} do not fit an operand with {rank} dimensions")
        labels.append(t)
    if arrow:
        result = right.replace("...", dots)
    else:
        joined = "".join(labels)
        result = dots + "".join(sorted(c for c in set(joined) if joined.count(c) == 1 and c not in dots))
    if len(set(result)) != len(result):
        raise ValueError("einstein sum subscripts string includes output subscript multiple times")
    unknown = [c for c in result if c not in "".join(labels)]
    if unknown:
        raise ValueError(
            f"einstein sum subscripts string included output subscript {unknown[0]!r} which never appeared in an input"
        )
    return labels, result


@implements(np.einsum)
def einsum(
    *operands: Any, out: Any = None, dtype: Any = None, order: str = "K", casting: str = "safe", optimize: Any = False
) -> Array:
    """Sums of products over labelled axes, as `np.einsum`; subscripts as a string or as lists of ints."""
    if not isinstance(operands[0], str):
        operands = _from_lists(operands)
    subscripts, *arrays = operands
    arrays = [as_array_like(a) for a in arrays]
    shown = _view(subscripts, arrays) if out is None and dtype is None else None
    if shown is not None:
        return shown
    d = result_dtype(*arrays) if dtype is None else dtype_of(dtype)
    raws = [operand(a, d) for a in arrays]
    labels, result = parse(subscripts, [len(r.type.shape) for r in raws])
    terms = [_own_diagonals(r, t) for r, t in zip(raws, labels, strict=True)]
    sizes = _sizes(terms)
    while len(terms) > 1:
        i, j = _cheapest(terms, result, sizes) if len(terms) > 2 else (0, 1)
        b, a = terms.pop(j), terms.pop(i)
        keep = set(result).union(*[t for _, t in terms]) if terms else set(result)
        terms.append(_pair(a, b, keep, sizes))
    r, t = _summed(*terms[0], set(result))
    r = views.transpose(r, perm=[t.index(c) for c in result])
    shape = tuple([sizes[c] for c in result])
    return deliver(wrap(op.copy(r) if r is raws[0] else broadcast_raw(r, shape)), out, "einsum")


def _view(subscripts: str, arrays: list[Any]) -> Array | None:
    """What names every label of its one operand in the result is a view: axes in another order, diagonals."""
    if len(arrays) != 1 or type(arrays[0]) is not Array:
        return None
    x = arrays[0]
    (labels,), result = parse(subscripts, [x.ndim])
    if set(labels) != set(result):
        return None
    for i, j, left in _collapsing(labels, x.type.shape):
        x, labels = x.view_by(views.diagonal.op, axis1=i, axis2=j, offset=0), left
    return x.view_by(views._transpose.op, perm=tuple([labels.index(c) for c in result]))


def _from_lists(operands: tuple[Any, ...]) -> tuple[Any, ...]:
    arrays, terms = list(operands[: len(operands) // 2 * 2 : 2]), list(operands[1::2])
    text = ",".join("".join("..." if i is Ellipsis else LETTERS[i] for i in t) for t in terms)
    if len(operands) % 2:
        text += "->" + "".join("..." if i is Ellipsis else LETTERS[i] for i in operands[-1])
    return (text, *arrays)


def _own_diagonals(r: Any, labels: str) -> tuple[Any, str]:
    """A label twice in one operand is its diagonal."""
    for i, j, left in _collapsing(labels, r.type.shape):
        r, labels = views.diagonal(r, axis1=i, axis2=j, offset=0), left
    return r, labels


def _collapsing(labels: str, shape: tuple[Dim, ...]) -> list[tuple[int, int, str]]:
    """The axes that equal labels bring together, pair by pair, each with the labels after it: the pair's comes last."""
    steps: list[tuple[int, int, str]] = []
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            text = f"dimensions for collapsing index {c!r} don't match ({shape[i]} != {shape[j]})"
            require_same(shape[i], shape[j], text)
            labels = labels[:i] + labels[i + 1 : j] + labels[j + 1 :] + c
            shape = (*shape[:i], *shape[i + 1 : j], *shape[j + 1 :], shape[i])
            steps.append((i, j, labels))
    return steps


def _sizes(terms: list[tuple[Any, str]]) -> dict[str, Dim]:
    sizes: dict[str, Dim] = {}
    for r, t in terms:
        for c, n in zip(t, r.type.shape, strict=True):
            if sizes.get(c, 1) == 1:
                sizes[c] = n
            elif n != 1 and n != sizes[c]:
                raise ValueError(f"einsum: the label {c!r} has sizes {sizes[c]} and {n}")
    return sizes


def _cheapest(terms: list[tuple[Any, str]], result: str, sizes: dict[str, Dim]) -> tuple[int, int]:
    """The pair with the smallest result, then the least work (greedy)."""
    best: tuple[Any, tuple[int, int]] | None = None
    for i in range(len(terms)):
        for j in range(i + 1, len(terms)):
            keep = set(result).union(*[t for k, (_, t) in enumerate(terms) if k not in (i, j)])
            together = set(terms[i][1]) | set(terms[j][1])
            cost = (_points(together & keep, sizes), _points(together, sizes))
            if best is None or cost < best[0]:
                best = (cost, (i, j))
    assert best is not None
    return best[1]


def _points(labels: set[str], sizes: dict[str, Dim]) -> int:
    total = 1
    for c in labels:
        n = sizes[c]
        total *= n if isinstance(n, int) else 64
    return total


def _summed(r: Any, t: str, keep: set[str]) -> tuple[Any, str]:
    """Labels that nobody else needs are summed at once."""
    gone = tuple([i for i, c in enumerate(t) if c not in keep])
    return (reduce_sum(r, axes=gone), "".join(c for c in t if c in keep)) if gone else (r, t)


def _pair(a: tuple[Any, str], b: tuple[Any, str], keep: set[str], sizes: dict[str, Dim]) -> tuple[Any, str]:
    x, tx = _full(*_summed(*a, keep | set(b[1])), sizes)
    y, ty = _full(*_summed(*b, keep | set(a[1])), sizes)
    shared = [c for c in tx if c in ty]
    batch = [c for c in shared if c in keep]
    summed = [c for c in shared if c not in keep]
    if not summed:  # no sum: an elementwise product, broadcast
        t = "".join(batch) + "".join(c for c in tx if c not in batch) + "".join(c for c in ty if c not in batch)
        shape = tuple([sizes[c] for c in t])
        return op.mul(_spread(x, tx, t, shape), _spread(y, ty, t, shape)), t
    out = dot(
        x,
        y,
        contract=(tuple([tx.index(c) for c in summed]), tuple([ty.index(c) for c in summed])),
        batch=(tuple([tx.index(c) for c in batch]), tuple([ty.index(c) for c in batch])),
    )
    labels = "".join(batch) + "".join(c for c in tx if c not in shared) + "".join(c for c in ty if c not in shared)
    return out, labels


def _full(r: Any, t: str, sizes: dict[str, Dim]) -> tuple[Any, str]:
    """Unit axes that broadcast against another operand, at their full size."""
    return broadcast_raw(r, tuple([sizes[c] for c in t])), t


def _spread(r: Any, own: str, t: str, shape: tuple[Dim, ...]) -> Any:
    ordered = [c for c in t if c in own]
    r = views.transpose(r, perm=[own.index(c) for c in ordered])
    return views.broadcast(r, shape=shape, axes=[t.index(c) for c in ordered])
