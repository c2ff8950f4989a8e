"""Looking at a function without running it: `eval_shape` and `make_graph`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stager.array import Array
from stager.cells import discard_overlays
from stager.interpreters.stack import active
from stager.ir.dims import substitute, symbols_of
from stager.ir.graph import Graph
from stager.ir.types import Type, parse_type
from stager.leaves import Known
from stager.ops.regions import Captures
from stager.runtime.structure import flatten, unflatten
from stager.staged import UserRegion, inside
from stager.tracing import trace
from stager.transforms.calling import call_user

HINT = 1000  # the size that a symbolic dim is taken to have where only types are given


def eval_shape(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The types of f's results, nested as the results; nothing is computed.

    Arguments are arrays, or types written as text ('f64[3,n]').

    >>> import numpy as np, stager as st
    >>> st.eval_shape(lambda x: x.sum(axis=0), np.ones((3, 2)))
    f64[2]
    """
    if active():  # a region of its own, which sees the values around and comes to nothing
        region = UserRegion("shape", Captures())
        with inside(region):
            types, structure = _fresh(args, kwargs)
            a, k = unflatten(structure, types)
            leaves, out = flatten(call_user(f, a, k))
            found = [x.type if isinstance(x, Array) else x for x in leaves]
        discard_overlays(region)
        return unflatten(out, found)
    traced = trace_types(f, args, kwargs)
    found = [traced.leaves[r.index].array.type if r.kind == "input" else
             traced.graph.outputs[r.index].type if r.kind == "value" else
             r.layout.type if r.layout is not None else r.value for r in traced.results]  # fmt: skip
    return unflatten(traced.result_structure, found)


def _fresh(args: Any, kwargs: Any) -> tuple[list[Any], Any]:
    """Arguments as fresh inputs of the stage in force."""
    from stager.array import type_of, wrap
    from stager.interpreters.stack import nearest_stage

    leaves, structure = flatten((args, kwargs))
    stage = nearest_stage()
    return [
        wrap(stage.input(type_of(x))) if not isinstance(x, str) else wrap(stage.input(parse_type(x))) for x in leaves
    ], structure


def stand_in(t: Type) -> Any:
    """An array of zeros of a type, whose symbolic dims are `HINT`: one number of memory, whatever its size."""
    import numpy as np

    shape = substitute(t.shape, dict.fromkeys(symbols_of(t.shape), HINT))
    return np.lib.stride_tricks.as_strided(np.zeros(1, t.dtype.np), shape, (0,) * len(shape))


def trace_types(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    freeze: bool = False,
    copies: bool = False,
    any_int: bool = False,
    commits: bool = False,
    static: frozenset[int] = frozenset(),
) -> Any:
    """A trace of f on arrays or on types given as text. any_int: the ints stand for any. static: leaves that do not.
    commits: as for `trace`."""
    leaves, structure = flatten((args, kwargs))
    types: list[Any] = []
    known = static | {i for i, x in enumerate(leaves) if isinstance(x, Known)}
    leaves = [x.value if isinstance(x, Known) else x for x in leaves]
    for i, x in enumerate(leaves):
        t = x if isinstance(x, Type) else parse_type(x) if isinstance(x, str) and "[" in x else None
        if t is not None:
            leaves[i] = stand_in(t)
        types.append(t)
    a, k = unflatten(structure, leaves)
    return trace(f, a, k, name=getattr(f, "__name__", "main"), types=types, freeze=freeze, copies=copies,
                 static=known, any_int=any_int, commits=commits,
                 by_type=any(t is not None and symbols_of(t) for t in types))  # fmt: skip


def make_graph(f: Callable[..., Any]) -> Callable[..., Graph]:
    """`make_graph(f)(*args)` is the graph that f traces to, before any pass. Arguments as for `eval_shape`.

    An int whose value the code needs (a size, the turns of a Python loop) is no input: the graph is made for it.

    >>> import numpy as np, stager as st
    >>> print(st.make_graph(lambda x: x * x)(np.ones(3)))
    graph <lambda>(%0: f64[3]) {
      %1 = mul %0, %0 : f64[3]
      return %1
    }
    """

    def graph_of(*args: Any, **kwargs: Any) -> Graph:
        static: frozenset[int] = frozenset()
        while True:
            traced = trace_types(f, args, kwargs, static=static)
            needed = {i for i, leaf in enumerate(traced.leaves) if leaf.specialized}
            if not needed:
                graph: Graph = traced.graph
                return graph
            static |= needed

    return graph_of
