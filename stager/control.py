"""Control flow as functions: `fori_loop`, `while_loop`, `scan`, `cond`, `switch`, `map`, `associative_scan`.

They are what conversion of Python loops and branches produces, for those who want to say it themselves. Carries,
operands and results are any nesting of containers. User functions may read and write arrays around them as NumPy
functions do (not in `map`, whose lanes run in any order). Each works in a trace and as a plain call.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.array import Array, as_array, raw, wrap
from stager.capture.branches import stage_branches, stage_if
from stager.capture.courses import Course
from stager.capture.loops import stage_for, stage_while
from stager.capture.session import UNBOUND
from stager.errors import ControlFlowError, TransformError, describe
from stager.interpreters.stack import active, bind
from stager.ir.dims import Expr
from stager.ops.checkpoints import checked_levels, checkpointing
from stager.ops.regions import Captures
from stager.runtime.structure import flatten, unflatten
from stager.staged import UserRegion, close_regions, handle, inside
from stager.transforms.calling import call_user, plainly

Tree = Any


def _anywhere(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` in a trace; as a plain call it is traced with its arguments' values and run. Static arguments stay."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if active():
            return function(*args, **kwargs)
        leaves, structure = flatten((args, kwargs))
        traced = [i for i, x in enumerate(leaves) if isinstance(x, np.ndarray | np.generic | float)]

        def body(values: list[Any]) -> Any:
            filled = list(leaves)
            for i, x in zip(traced, values, strict=True):
                filled[i] = x
            a, k = unflatten(structure, filled)
            return function(*a, **k)

        return plainly(body)([leaves[i] for i in traced])

    return call


def _array(x: Any) -> Any:
    return as_array(x)


def _bound(x: Any) -> Any:
    """A loop bound: a plain int, a dim, or a traced integer scalar."""
    return x if type(x) in (Array, Expr) else int(x.__index__()) if hasattr(x, "__index__") else as_array(x)


@_anywhere
def fori_loop(
    lower: Any, upper: Any, body: Callable[[Any, Tree], Tree], init: Tree, *, checkpoint: str | int | None = None
) -> Tree:
    """`carry = body(i, carry)` for every i of `range(lower, upper)`; returns the last carry.

    lower, upper: ints, traced or not. The carry keeps its structure, shapes and dtypes; Python numbers in `init` take
    the dtype that the body gives them. One node, whatever the trip count.

    checkpoint: what reverse mode keeps of the n iterations. None: tapes of what the backward pass needs of each.
    "sqrt": the carry before every √n-th one, the others are run again; O(√n) memory for one more forward pass.
    "binomial": the carry before log₂ n of them, chosen so that fewest are run again; an int: that many.

    >>> import stager as st
    >>> float(st.fori_loop(0, 4, lambda i, s: s + i, 0.0))
    6.0
    """
    carry = init

    def step(i: Any) -> None:
        nonlocal carry
        carry = call_user(body, (i, carry))

    with checkpointing(checked_levels(checkpoint)):
        stage_for(Course(_bound(lower), _bound(upper), 1, lambda i: i), step, ("carry",), None, False)
    return carry


@_anywhere
def while_loop(
    cond: Callable[[Tree], Any], body: Callable[[Tree], Tree], init: Tree, *, checkpoint: str | int | None = None
) -> Tree:
    """`carry = body(carry)` while `cond(carry)`; returns the last carry.

    checkpoint: as in `fori_loop`; "binomial" keeps 16 carries, for the trip count is not known before the loop ran.

    >>> import stager as st
    >>> float(st.while_loop(lambda x: x < 100, lambda x: x * 2, 3.0))
    192.0
    """
    carry = init

    def test() -> Any:
        return call_user(cond, (carry,))

    def step() -> None:
        nonlocal carry
        carry = call_user(body, (carry,))

    with checkpointing(checked_levels(checkpoint)):
        stage_while(test, step, ("carry",), None, False, None)
    return carry


@_anywhere
def cond(pred: Any, true_fn: Callable[..., Tree], false_fn: Callable[..., Tree], *operands: Any) -> Tree:
    """`true_fn(*operands)` if pred else `false_fn(*operands)`; only the one that pred picks runs.

    Both return the same structure, shapes and dtypes (dtypes promote).

    >>> import numpy as np, stager as st
    >>> float(st.cond(np.float64(-2.0) < 0, lambda x: -x, lambda x: x, 3.0))
    -3.0
    """
    result: Any = UNBOUND

    def then() -> None:
        nonlocal result
        result = call_user(true_fn, operands)

    def otherwise() -> None:
        nonlocal result
        result = call_user(false_fn, operands)

    if type(pred) is Array:
        stage_if(pred, then, otherwise, ("result",))
    elif pred:
        then()
    else:
        otherwise()
    return result


@_anywhere
def switch(index: Any, branches: Sequence[Callable[..., Tree]], *operands: Any) -> Tree:
    """`branches[index](*operands)`; an index out of range counts as the nearest one.

    >>> import stager as st
    >>> float(st.switch(1, [lambda x: x, lambda x: x * x], 3.0))
    9.0
    """
    if not branches:
        raise TransformError(describe("switch: there are no branches"))
    if type(index) is not Array:
        return call_user(branches[min(max(int(index), 0), len(branches) - 1)], operands)
    result: Any = UNBOUND

    def take(branch: Callable[..., Tree]) -> Callable[[], None]:
        def run() -> None:
            nonlocal result
            result = call_user(branch, operands)

        return run

    closures = [take(b) for b in branches]
    stage_branches(index, tuple(closures), ("result",), closures)
    return result


def _leading(name: str, xs: Tree, length: int | None) -> Any:
    """The common length of the leading axes."""
    leaves = flatten(xs)[0]
    lengths = [as_array(x).shape[0] if as_array(x).ndim else None for x in leaves]
    if any(n is None for n in lengths):
        raise TransformError(describe(f"{name}: a leaf of xs has no axis to run over"))
    known = [*lengths, *(() if length is None else (length,))]
    if not known:
        raise TransformError(describe(f"{name}: give xs or length"))
    if any(n != known[0] for n in known):
        raise TransformError(describe(f"{name}: the leading axes of xs differ: {', '.join(builtins.map(str, known))}"))
    return known[0]


def _element(xs: Tree, i: Any) -> Tree:
    leaves, structure = flatten(xs)
    return unflatten(structure, [_array(x)[i] for x in leaves])


def _probe(f: Callable[..., Tree], *args: Any) -> tuple[list[Any], Any]:
    """(types of the result leaves, structure) of f, traced aside."""
    from stager import cells
    from stager.staged import leaf_type

    region = UserRegion("probe", Captures())
    with inside(region):
        leaves, structure = flatten(call_user(f, args))
        types = [leaf_type(x)[0] for x in leaves]
    cells.discard_overlays(region)
    return types, structure


@_anywhere
def scan(
    f: Callable[[Tree, Tree], tuple[Tree, Tree]],
    init: Tree,
    xs: Tree = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int = 1,
    checkpoint: str | int | None = None,
) -> tuple[Tree, Tree]:
    """`carry, y = f(carry, x)` over the leading axes of xs; returns (last carry, the y's stacked).

    xs: any nesting of arrays with one leading length, or None with `length` given. reverse: from the last element to
    the first; the y's stay in the places of their x's. unroll: iterations per trip of the loop. checkpoint: as in
    `fori_loop`.

    >>> import numpy as np, stager as st
    >>> st.scan(lambda c, x: (c + x, c * x), 0.0, np.array([1.0, 2.0, 3.0]))
    (np.float64(6.0), array([0., 2., 9.]))
    """
    from stager.numpy.creation import zeros

    n = _leading("scan", xs, length)
    first = 0 if isinstance(n, int) and n == 0 else _place(0, n, reverse)

    def one(carry: Tree, i: Any) -> Any:
        out = call_user(f, (carry, _element(xs, i)))
        if not isinstance(out, tuple) or len(out) != 2:
            raise TransformError(describe("scan: f returns a pair (carry, y)"))
        return out

    empty = isinstance(n, int) and n == 0
    types, structure = ([], None) if empty else _probe(lambda c: one(c, first)[1], init)
    if empty:
        types, structure = _probe(lambda c: call_user(f, (c, _blank(xs)))[1], init)
    ys: list[Any] = [zeros((n, *t.shape), t.dtype.np) for t in types]
    carry = init

    def step(k: Any) -> None:
        nonlocal carry
        for j in range(unroll):
            i = _place(k + j, n, reverse)
            carry, y = one(carry, i)
            for buffer, leaf in builtins.zip(ys, flatten(y)[0], strict=True):
                buffer[i] = leaf

    unroll = unroll if isinstance(n, int) else 1
    whole = n - n % unroll if isinstance(n, int) else as_array(n)
    with checkpointing(checked_levels(checkpoint)):
        stage_for(Course(0, whole, unroll, lambda k: k), step, ("carry",), None, False)
    if unroll > 1:
        rest, unroll = range(whole, n), 1
        for k in rest:
            step(k)
    return carry, None if structure is None else unflatten(structure, ys)


def _place(k: Any, n: Any, reverse: bool) -> Any:
    return n - 1 - k if reverse else k


def _blank(xs: Tree) -> Tree:
    """Zeros of one element of empty xs: only its types matter."""
    from stager.numpy.creation import zeros

    leaves, structure = flatten(xs)
    return unflatten(structure, [zeros(as_array(x).shape[1:], as_array(x).dtype) for x in leaves])


@_anywhere
def map(f: Callable[[Tree], Tree], xs: Tree, *, batch_size: int | None = None) -> Tree:
    """f over the leading axes of xs, results stacked; elements run independently, in parallel.

    batch_size: so many elements at a time are one `vmap` of f (the last batch may be smaller). f must not write into
    arrays around it.

    >>> import numpy as np, stager as st
    >>> st.map(lambda x: x * 2, np.arange(3.0))
    array([0., 2., 4.])
    """
    from stager.ops.control import map_op
    from stager.ops.regions import I64

    n = _leading("map", xs, None)
    if batch_size is not None:
        return _map_batches(f, xs, n, batch_size)
    region = UserRegion("body", Captures())
    with inside(region):
        lane = region.input(I64)
        leaves, structure = flatten(call_user(f, (_element(xs, handle(lane, True)),)))
        if region.written():
            raise ControlFlowError(
                describe(
                    "map: f writes into an array around it, and its lanes run in any order",
                    remedy="use fori_loop or scan",
                )
            )
        region.graph.outputs = [region.local(raw(as_array(x))) for x in leaves]
        region.close()
    graphs, _, captured = close_regions([region], [[lane]], ())
    return unflatten(structure, [wrap(o) for o in bind(map_op, *captured, size=n, regions=graphs)])


def _map_batches(f: Callable[..., Any], xs: Tree, n: Any, size: int) -> Tree:
    from stager.transforms.vmap import vmap

    if not isinstance(n, int):
        raise TransformError(describe("map: batch_size needs a length that is known while tracing"))
    whole = n - n % size
    leaves, structure = flatten(xs)
    parts: list[Tree] = []
    if whole:
        batched = unflatten(
            structure, [_array(x)[:whole].reshape((whole // size, size, *as_array(x).shape[1:])) for x in leaves]
        )
        out, out_structure = flatten(map(vmap(f), batched))
        parts.append(unflatten(out_structure, [x.reshape((whole, *x.shape[2:])) for x in out]))
    if whole < n:
        parts.append(vmap(f)(unflatten(structure, [_array(x)[whole:] for x in leaves])))
    columns = builtins.zip(*[flatten(p)[0] for p in parts], strict=True)
    return unflatten(flatten(parts[0])[1], [c[0] if len(c) == 1 else np.concatenate(c) for c in columns])


@_anywhere
def associative_scan(fn: Callable[[Tree, Tree], Tree], elems: Tree, reverse: bool = False, axis: int = 0) -> Tree:
    """All prefixes of `fn` along an axis, in about 2 log n calls of fn on whole arrays.

    fn(a, b) is associative and works elementwise along the axis. Returns the structure of elems.

    >>> import numpy as np, stager as st
    >>> st.associative_scan(lambda a, b: a + b, np.arange(5.0))
    array([ 0.,  1.,  3.,  6., 10.])
    """
    leaves, structure = flatten(elems)
    moved = [np.moveaxis(_array(x), axis, 0) for x in leaves]
    n = _leading("associative_scan", moved, None)
    if not isinstance(n, int):
        raise TransformError(describe("associative_scan: needs a length that is known while tracing"))
    if reverse:
        moved = [x[::-1] for x in moved]

    def combine(a: list[Any], b: list[Any]) -> list[Any]:
        out: list[Any] = flatten(call_user(fn, (unflatten(structure, a), unflatten(structure, b))))[0]
        return out

    out = _prefixes(combine, moved, n)
    if reverse:
        out = [x[::-1] for x in out]
    return unflatten(structure, [np.moveaxis(x, 0, axis) for x in out])


def _prefixes(combine: Callable[[list[Any], list[Any]], list[Any]], xs: list[Any], n: int) -> list[Any]:
    """Pairs first, then their prefixes, then the elements between (Ladner and Fischer's scheme)."""
    if n < 2:
        return [x + 0 if x.dtype != np.bool_ else x | False for x in xs]
    pairs = combine([x[0 : n - 1 : 2] for x in xs], [x[1:n:2] for x in xs])
    odd = _prefixes(combine, pairs, n // 2)
    out = []
    inner = combine([o[: (n - 1) // 2] for o in odd], [x[2:n:2] for x in xs]) if n > 2 else [x[0:0] for x in xs]
    for x, o, e in builtins.zip(xs, odd, inner, strict=True):
        even = np.concatenate([x[0:1], e])
        if n % 2:
            body = np.stack([even[: n // 2], o], axis=1).reshape((n - 1, *x.shape[1:]))
            out.append(np.concatenate([body, even[n // 2 :]]))
        else:
            out.append(np.stack([even, o], axis=1).reshape((n, *x.shape[1:])))
    return out


__all__ = ["associative_scan", "cond", "fori_loop", "map", "scan", "switch", "while_loop"]
