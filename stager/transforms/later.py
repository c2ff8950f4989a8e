"""Linear functions that a plain `vjp` or `linearize` returned, called inside another trace.

Such a function goes on with a trace that has ended. Inside another one its nodes become a graph, whose residuals are
known arrays, and that graph joins the trace in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.interpreters.stack import push, stack
from stager.interpreters.stage import StageInterpreter
from stager.ir.dtypes import dtype_of
from stager.ir.types import Type
from stager.ops.regions import Captures, finish, replay, trace_region


@contextmanager
def _alone(stage: StageInterpreter) -> Iterator[None]:
    """`stage` is in force, and none of the levels around."""
    s = stack()
    depth = s.depth
    s.depth = 0
    try:
        with push(stage):
            yield
    finally:
        s.depth = depth


def inside_another_trace(
    stage: StageInterpreter, function: Callable[[Sequence[Any]], list[Any]], operands: Sequence[Any]
) -> list[Array]:
    """`function` of raw values of `stage`, on raw operands of the level in force."""
    with _alone(stage):
        region = trace_region(lambda *raws: function(raws), [x.type for x in operands], Captures(), "later")
        (graph,), captured = finish([region], len(operands))
        arrays = stage.concrete.run(list(captured))
    return [wrap(o) for o in replay(graph, [*operands, *map(_known, arrays)])]


def _known(x: np.ndarray[Any, Any]) -> Any:
    """An array as an input of the trace in force where that carries values, else as a constant."""
    root: Any = stack().levels[0]
    if root.concrete is None or not x.ndim:
        return root.lift(x)
    value = root.input(Type(dtype_of(x.dtype), x.shape))
    root.concrete.values[value] = x
    return value
