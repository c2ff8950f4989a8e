"""Traces and transforms on raw values: what the public API does, without handles, containers or compilation.

`evaluate(fn, *arrays)` traces fn, verifies the graph and runs it in the reference evaluator; `jvp`, `vjp` and `vmap`
push one interpreter each and nest in any order. Functions take and return raw values or tuples of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.interpreters.grad import GradInterpreter
from stager.interpreters.jvp import JvpInterpreter
from stager.interpreters.stack import push
from stager.interpreters.stage import StageInterpreter
from stager.interpreters.vmap import VmapInterpreter
from stager.ir.dtypes import dtype_of
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph
from stager.ir.types import Type
from stager.ir.verify import verify
from stager.ops.families import materialize_batch, zeros_like

Function = Callable[..., Any]


def as_tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def type_of(array: Any) -> Type:
    return Type(dtype_of(array.dtype), array.shape)


def trace(fn: Function, *types: Type) -> Graph:
    """The verified graph of fn on inputs of these types."""
    stage = StageInterpreter()
    with push(stage):
        outs = as_tuple(fn(*[stage.input(t) for t in types]))
        graph: Graph = stage.graph
        graph.outputs = list(outs)
    verify(graph)
    return graph


def evaluate(fn: Function, *arrays: Any) -> tuple[Any, ...]:
    """fn on concrete arrays, by way of its graph."""
    return tuple(evaluate_graph(trace(fn, *[type_of(a) for a in arrays]), arrays))


def jvp(fn: Function, primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """(results, tangents of the results); a tangent that is a symbolic zero is None, going in and coming out."""
    level = JvpInterpreter()
    with push(level):
        outs = as_tuple(fn(*[level.wrap(p, t) for p, t in zip(primals, tangents, strict=True)]))
    pairs = [level.unwrap(o) for o in outs]
    return tuple([p for p, _ in pairs]), tuple([t for _, t in pairs])


def vjp(
    fn: Function, primals: Sequence[Any], needs: Sequence[bool], cts: Sequence[Any]
) -> tuple[tuple[Any, ...], list[Any]]:
    """(results, cotangents of the operands that `needs` names, None for zero)."""
    level = GradInterpreter()
    with push(level):
        tracked = [level.track(p) if need else p for p, need in zip(primals, needs, strict=True)]
        outs = as_tuple(fn(*tracked))
    raw = [level.unwrap(o) for o in outs]
    seeds = [(slot, ct) for (_, slot), ct in zip(raw, cts, strict=True) if slot is not None and ct is not None]
    wanted = [t.slot for t, need in zip(tracked, needs, strict=True) if need]
    return tuple([value for value, _ in raw]), level.backward(seeds, wanted)


def vmap(fn: Function, args: Sequence[Any], bdims: Sequence[int | None], size: Any) -> tuple[Any, ...]:
    """fn over lanes; results carry them at axis 0."""
    level = VmapInterpreter(size)
    with push(level):
        outs = as_tuple(fn(*[level.wrap(a, b) for a, b in zip(args, bdims, strict=True)]))
    return tuple([materialize_batch(level, *level.unwrap(o)) for o in outs])


def or_zeros(tangents: Sequence[Any], like: Sequence[Any]) -> list[Any]:
    """Symbolic zeros made real."""
    return [zeros_like(x) if t is None else t for t, x in zip(tangents, like, strict=True)]


def inexact(x: Any) -> bool:
    return bool(np.asarray(x).dtype.kind in "fc")


# -- what the tables compare with -------------------------------------------------------------------------------------

# Against finite differences, and between two exact ways to one result.
DIFFERENCE: dict[str, Any] = {"rtol": 2e-6, "atol": 1e-7}
EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}
STEP = 1e-5


def moved(arrays: Sequence[Any], directions: Sequence[Any], step: float) -> list[Any]:
    """arrays + step * directions; what is not inexact stays."""
    return [a if d is None else a + step * d for a, d in zip(arrays, directions, strict=True)]


def directions_for(rng: np.random.Generator, arrays: Sequence[Any]) -> list[Any]:
    """A random direction per inexact array, None for the others."""
    return [np.asarray(rng.normal(size=a.shape)) if inexact(a) else None for a in arrays]


def directional(fn: Function, arrays: Sequence[Any], directions: Sequence[Any]) -> list[Any]:
    """The derivative of fn's inexact results along `directions`, by central differences."""
    high, low = (evaluate(fn, *moved(arrays, directions, h)) for h in (STEP, -STEP))
    return [(h - lo) / (2 * STEP) for h, lo in zip(high, low, strict=True) if inexact(h)]


def pushforward(fn: Function, needs: Sequence[bool]) -> Function:
    """(*primals, *tangents of the needed ones) -> tangents of the inexact results, zeros made real."""

    def pushed(*args: Any) -> list[Any]:
        primals, given = args[: len(needs)], iter(args[len(needs) :])
        outs, tangents = jvp(fn, primals, [next(given) if need else None for need in needs])
        return [t for t, o in zip(or_zeros(tangents, outs), outs, strict=True) if o.type.dtype.is_inexact]

    return pushed


def pullback(fn: Function, needs: Sequence[bool]) -> Function:
    """(*primals, *cotangents of the inexact results) -> cotangents of the needed primals, zeros made real."""

    def pulled(*args: Any) -> list[Any]:
        primals, given = args[: len(needs)], list(args[len(needs) :])
        level = GradInterpreter()
        with push(level):
            tracked = [level.track(p) if need else p for p, need in zip(primals, needs, strict=True)]
            outs = as_tuple(fn(*tracked))
        raw = [level.unwrap(o) for o in outs]
        slots = [slot for value, slot in raw if value.type.dtype.is_inexact]
        seeds = [(slot, ct) for slot, ct in zip(slots, given, strict=True) if slot is not None]
        cts = level.backward(seeds, [t.slot for t, need in zip(tracked, needs, strict=True) if need])
        return or_zeros(cts, [p for p, need in zip(primals, needs, strict=True) if need])

    return pulled


def inner(xs: Sequence[Any], ys: Sequence[Any]) -> float:
    """<x, y>, summed over all arrays."""
    return float(sum(np.sum(x * y) for x, y in zip(xs, ys, strict=True)))


def mapped(fn: Function, bdims: Sequence[int | None], size: int) -> Function:
    """fn under vmap."""
    return lambda *args: vmap(fn, args, bdims, size)


def loop_over_lanes(fn: Function, arrays: Sequence[Any], bdims: Sequence[int | None], size: int) -> list[Any]:
    """What vmap must give, lane by lane."""
    lanes = [evaluate(fn, *[a if b is None else np.take(a, k, axis=b) for a, b in zip(arrays, bdims, strict=True)])
             for k in range(size)]  # fmt: skip
    return [np.stack(column) for column in zip(*lanes, strict=True)]
