"""`stop_gradient`, and `checkpoint`: what reverse mode keeps of a function, and what it computes again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from stager.array import Array, as_array, raw, wrap
from stager.interpreters.grad import GradInterpreter
from stager.interpreters.stack import active, bind, push
from stager.ir.graph import Graph
from stager.ir.op import Op, register
from stager.ir.types import Type
from stager.ops.elementwise import stop_gradient as stop
from stager.ops.regions import Captures, finish, replay, trace_region
from stager.runtime.structure import flatten, map_leaves, unflatten
from stager.transforms.calling import call_user


def stop_gradient(x: Any) -> Any:
    """x, whose derivative is zero for every level in force. x may be any nesting of arrays.

    >>> import stager as st
    >>> float(st.grad(lambda x: x * st.stop_gradient(x))(3.0))
    3.0
    """
    if not active():
        return x
    return map_leaves(lambda leaf: wrap(stop(leaf.raw()), leaf.weak) if isinstance(leaf, Array) else leaf, x)


# -- checkpoint -------------------------------------------------------------------------------------------------------


def _types(*operands: Type, regions: tuple[Graph, ...], **params: Any) -> tuple[Type, ...]:
    return tuple(regions[0].output_types)


def _reference(*operands: Any, **params: Any) -> Any:
    raise AssertionError("internal error in stager: a checkpoint reached level 0 as a node")


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, regions: tuple[Graph, ...], policy: Any) -> Any:
    from stager.interpreters.jvp import JvpInterpreter

    interp = JvpInterpreter()
    with push(interp):
        outs = replay(regions[0], [interp.wrap(p, t) for p, t in zip(primals, tangents, strict=True)])
    pairs = [interp.unwrap(o) for o in outs]
    return tuple([p for p, _ in pairs]), tuple([t for _, t in pairs])


def _vjp(
    cts: Any, outs: Any, args: Sequence[Any], needs: Sequence[bool], *, regions: tuple[Graph, ...], policy: Any
) -> list[Any]:
    """Runs the function again, on operands that common subexpressions cannot join with the first run, then back."""
    from stager.ops.elementwise import barrier

    again = [barrier(a) if a.type.dtype.is_inexact else a for a in args]
    interp = GradInterpreter()
    with push(interp):
        tracked = [interp.track(a) if need else a for a, need in zip(again, needs, strict=True)]
        results = replay(regions[0], tracked)
        slots = [interp.unwrap(r)[1] for r in results]
    seeds = [(slot, ct) for slot, ct in zip(slots, cts, strict=True) if slot is not None and ct is not None]
    found = interp.backward(seeds, [t.slot for t, need in zip(tracked, needs, strict=True) if need])
    back = iter(found)
    return [next(back) if need else None for need in needs]


def _batch(interp: Any, args: Sequence[Any], bdims: Sequence[Any], *, regions: tuple[Graph, ...], policy: Any) -> Any:
    inner = interp.again()
    with push(inner):
        outs = [
            inner.unwrap(o) for o in replay(regions[0], [inner.wrap(a, d) for a, d in zip(args, bdims, strict=True)])
        ]
    return tuple([o for o, _ in outs]), tuple([d for _, d in outs])


checkpoint_op = register(Op("checkpoint", "control", _types, _reference, jvp=_jvp, vjp=_vjp, batch=_batch,
                            multiple_results=True,
                            facts=("inline",)))  # fmt: skip


def checkpoint(f: Callable[..., Any], *, policy: str = "nothing") -> Callable[..., Any]:
    """f, of which reverse mode keeps only the arguments: the backward pass runs f again.

    policy: "nothing" (keep nothing of the inside) or "everything" (as without checkpoint).
    Forward mode, batching and plain calls are as without it. f must not write into its arguments.

    >>> import numpy as np, stager as st
    >>> f = st.checkpoint(lambda x: np.sin(np.sin(x)))
    >>> bool(np.isclose(st.grad(lambda x: f(x).sum())(np.ones(2))[0], np.cos(np.sin(1)) * np.cos(1)))
    True
    """
    if policy not in ("nothing", "everything"):
        raise ValueError(f"checkpoint: policy is 'nothing' or 'everything', not {policy!r}")

    @functools.wraps(f)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if not active() or policy == "everything":
            return call_user(f, args, kwargs) if active() else f(*args, **kwargs)
        leaves, structure = flatten((args, kwargs))
        own = [x for x in leaves if isinstance(x, Array)]
        captures = Captures()
        kept: dict[str, Any] = {}

        def run(*raws: Any) -> list[Any]:
            given = iter([wrap(r, x.weak) for r, x in zip(raws, own, strict=True)])
            a, k = unflatten(structure, [next(given) if isinstance(x, Array) else x for x in leaves])
            results, kept["structure"] = flatten(call_user(f, a, k))
            return [raw(as_array(r)) for r in results]

        region = trace_region(run, [x.type for x in own], captures, "checkpoint")
        regions, captured = finish([region], len(own))
        outs = bind(checkpoint_op, *[x.raw() for x in own], *captured, regions=regions, policy=policy)
        return unflatten(kept["structure"], [wrap(o) for o in outs])

    return checkpointed
