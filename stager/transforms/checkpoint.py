"""`checkpoint`: what reverse mode keeps of a function, and what it computes again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

from stager import cells
from stager.array import Array, as_array, raw, wrap
from stager.interpreters.grad import GradInterpreter, GradTracer
from stager.interpreters.stack import active, bind, push, stack
from stager.ir.core_ops import input_op
from stager.ir.graph import Graph, Node, Value
from stager.ir.op import Op, register
from stager.ir.types import Type
from stager.ops.checkpoints import checked_levels, checkpointing
from stager.ops.families import elementwise
from stager.ops.regions import Captures, finish, replay, trace_region
from stager.runtime.structure import flatten, map_leaves, unflatten
from stager.transforms.calling import call_on_copies, call_user, enter, write_back


def _types(*operands: Type, regions: tuple[Graph, ...], **params: Any) -> tuple[Type, ...]:
    return tuple(regions[0].output_types)


def _reference(*operands: Any, **params: Any) -> Any:
    raise AssertionError("internal error in stager: a checkpoint reached level 0 as a node")


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, regions: tuple[Graph, ...], saved: int) -> Any:
    from stager.interpreters.jvp import JvpInterpreter

    interp = JvpInterpreter()
    with push(interp):
        outs = replay(regions[0], [interp.wrap(p, t) for p, t in zip(primals, tangents, strict=True)])
    pairs = [interp.unwrap(o) for o in outs]
    return tuple([p for p, _ in pairs]), tuple([t for _, t in pairs])


def _vjp(
    cts: Any, outs: Any, args: Sequence[Any], needs: Sequence[bool], *, regions: tuple[Graph, ...], saved: int
) -> list[Any]:
    """Runs the function again, on operands that common subexpressions cannot join with the first run, then back.

    The last `saved` results of the first run take the place of what the second one would compute.
    """
    from stager.ops.elementwise import barrier

    def apart(x: Any) -> Any:
        return barrier(x) if x.type.dtype.is_inexact else x

    again = [apart(a) for a in args]
    first = len(outs) - saved
    kept = dict(zip(regions[0].outputs[first:], [apart(x) for x in outs[first:]], strict=True))
    interp = GradInterpreter()
    with push(interp):
        tracked = [interp.track(a) if need else a for a, need in zip(again, needs, strict=True)]

        def known(value: Value, again: Any) -> Any:
            if value not in kept:
                return again
            slot = interp.unwrap(again)[1]
            return kept[value] if slot is None else GradTracer(interp, kept[value], slot)

        def instead(node: Node, out: Any) -> Any:
            if node.op.multiple_results:
                return tuple([known(v, o) for v, o in zip(node.outputs, out, strict=True)])
            found = known(node.outputs[0], out)
            last = interp.tape[-1] if interp.tape else None
            if found is not out and last is not None and last.out is interp.unwrap(out)[0]:
                interp.tape[-1] = last._replace(out=interp.unwrap(found)[0])  # its own rule may read it
            return found

        results = replay(regions[0], tracked, instead if saved else None)
        slots = [interp.unwrap(r)[1] for r in results]
    seeds = [(slot, ct) for slot, ct in zip(slots, cts, strict=True) if slot is not None and ct is not None]
    found = interp.backward(seeds, [t.slot for t, need in zip(tracked, needs, strict=True) if need])
    back = iter(found)
    return [next(back) if need else None for need in needs]


def _batch(interp: Any, args: Sequence[Any], bdims: Sequence[Any], *, regions: tuple[Graph, ...], saved: int) -> Any:
    inner = interp.again()
    with push(inner):
        outs = [
            inner.unwrap(o) for o in replay(regions[0], [inner.wrap(a, d) for a, d in zip(args, bdims, strict=True)])
        ]
    return tuple([o for o, _ in outs]), tuple([d for _, d in outs])


checkpoint_op = register(Op("checkpoint", "control", _types, _reference, jvp=_jvp, vjp=_vjp, batch=_batch,
                            multiple_results=True,
                            facts=("inline",)))  # fmt: skip


# A value that policies know by name.
checkpoint_name_op = elementwise("checkpoint_name", lambda x, *, name: x, d=[lambda t, out, x, *, name: t],
                                 lower=lambda b, x, *, name: x)  # fmt: skip


def checkpoint_name(x: Any, name: str) -> Any:
    """x, with a name for the policies of `checkpoint`. x may be any nesting of arrays.

    >>> import numpy as np, stager as st
    >>> f = st.checkpoint(lambda x: np.sin(st.checkpoint_name(np.exp(x), "e")), policy=["e"])
    >>> bool(np.isclose(st.grad(f)(0.0), np.cos(1.0)))
    True
    """
    if not active():
        return x
    return map_leaves(
        lambda leaf: wrap(checkpoint_name_op(leaf.raw(), name=name), leaf.weak) if isinstance(leaf, Array) else leaf, x
    )


Policy = str | int | Collection[str] | Callable[[Node], bool]


def _keeps(policy: Policy) -> Callable[[Node], bool]:
    """A policy as a question about a node."""
    if policy == "nothing":
        return lambda node: False
    if policy == "dots":
        return lambda node: node.op.family == "contract"
    if callable(policy):
        return policy
    given: Any = policy  # what a caller passes may be anything
    names_only = isinstance(given, Collection) and all(isinstance(name, str) for name in given)
    if isinstance(given, str) or not names_only:
        raise ValueError(
            "checkpoint: policy is 'nothing', 'everything', 'dots', a collection of names or a function, or what loops "
            f"keep: 'sqrt', 'binomial' or a positive number of states; not {policy!r}"
        )
    names = frozenset(given)
    return lambda node: node.op.name == "checkpoint_name" and node.params["name"] in names


def _named(v: Value) -> Value:
    """What a name stands for."""
    while v.node.op is checkpoint_name_op.op:
        (v,) = v.node.args
    return v


def checkpoint(f: Callable[..., Any], *, policy: Policy = "nothing") -> Callable[..., Any]:
    """f, of which reverse mode keeps the arguments and what the policy says: the backward pass runs f again.

    policy: "nothing" (keep nothing of the inside), "everything" (as without checkpoint), "dots" (keep the results of
    matrix products), a collection of names (keep what `checkpoint_name` calls so), or a function that says of a node
    of f's graph whether to keep its results. Values inside loops and branches of f are computed again.
    "sqrt", "binomial" or a number of states: what the loops of f keep, Python loops included, as in `fori_loop`; only
    the loops that stand in no other, and what f does outside of them is kept as without checkpoint.
    Forward mode, batching and plain calls are as without it.

    >>> import numpy as np, stager as st
    >>> f = st.checkpoint(lambda x: np.sin(np.sin(x)))
    >>> bool(np.isclose(st.grad(lambda x: f(x).sum())(np.ones(2))[0], np.cos(np.sin(1)) * np.cos(1)))
    True
    """
    of_loops = policy in ("sqrt", "binomial") or (type(policy) is int and policy > 0)
    levels = checked_levels(policy) if of_loops else None
    keeps = None if of_loops or policy == "everything" else _keeps(policy)

    @functools.wraps(f)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if not active():
            return f(*args, **kwargs)
        if keeps is None:
            with checkpointing(levels):
                return call_user(f, args, kwargs)
        leaves, structure = flatten((args, kwargs))
        own = [x for x in leaves if isinstance(x, Array)]
        captures = Captures()
        kept: dict[str, Any] = {}

        def run(*raws: Any) -> list[Any]:
            s = stack()
            level = s.levels[s.depth - 1]
            entered = [enter(level, x, r) for r, x in zip(raws, own, strict=True)]
            given = iter(entered)
            a, k = unflatten(structure, [next(given).inner if isinstance(x, Array) else x for x in leaves])
            results, kept["structure"] = flatten(call_on_copies(f, a, k))
            outputs = [raw(as_array(r)) for r in results]
            write_back(entered, lambda value: value)
            kept["written"] = written = cells.take_writes(level)
            return [*outputs, *[value for _, value in written]]

        region = trace_region(run, [x.type for x in own], captures, "checkpoint")
        regions, captured = finish([region], len(own))
        graph = regions[0]
        count = len(graph.outputs)
        inside = [n for n in graph.nodes if n.op.family != "source" and keeps(n)]
        values = dict.fromkeys([_named(v) for n in inside for v in n.outputs])
        saved = [v for v in values if v not in graph.outputs and v.node.op is not input_op]
        graph.outputs = [*graph.outputs, *saved]
        outs = bind(checkpoint_op, *[x.raw() for x in own], *captured, regions=regions, saved=len(saved))
        first = count - len(kept["written"])
        for (cell, _), value in zip(kept["written"], outs[first:count], strict=True):
            cell.take(value)
        return unflatten(kept["structure"], [wrap(o) for o in outs[:first]])

    return checkpointed
