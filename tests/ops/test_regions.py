"""Regions: captures, symbols inside and around, replaying under other names, what cannot be traced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stager.errors import EscapedTracerError, ShapeError
from stager.interpreters.stack import nearest_stage, push, stack
from stager.interpreters.stage import StageInterpreter
from stager.ir.dtypes import f64, i64
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, SymbolDef
from stager.ir.parse import parse_graph
from stager.ir.types import Type
from stager.ir.verify import verify
from stager.ops import elementwise as e
from stager.ops.control import for_loop, map_lanes, switch_case, while_loop
from stager.ops.families import full
from stager.ops.indexed import gather
from stager.ops.reductions import reduce_sum
from stager.ops.regions import LaneDependentError, dim_of, dim_value, replay
from stager.ops.views import slice_
from tests.ops.transforms import as_tuple, evaluate, mapped, pullback, pushforward, trace

VECTOR = Type(f64, (4,))
AT: dict[str, Any] = {"axes": (0,), "batch_dims": 0, "mode": "promise"}


def prefix_sum(x: Any, n: Any) -> Any:
    return reduce_sum(slice_(x, starts=(0,), sizes=(dim_of(n),), steps=(1,)), axes=(0,))


def symbolic(fn: Any, *shapes: tuple[str | int, ...]) -> Graph:
    """The graph of fn on f64 inputs whose named dims are symbols."""
    stage = StageInterpreter()
    graph: Graph = stage.graph
    dims: dict[str, Any] = {}
    with push(stage):
        inputs = []
        for k, shape in enumerate(shapes):
            for axis, d in enumerate(shape):
                if isinstance(d, str) and d not in dims:
                    dims[d] = graph.new_symbol(SymbolDef("shape", k, axis, hint=5), d)
            inputs.append(stage.input(Type(f64, tuple([dims.get(d, d) for d in shape]))))  # type: ignore[call-overload]
        graph.outputs = list(as_tuple(fn(*inputs)))
    verify(graph)
    return graph


def test_values_around_become_captures_once() -> None:
    def fn(x: Any, y: Any) -> Any:
        return for_loop(0, 3, [x], lambda i, c: [e.add(c, e.mul(y, y))])

    (loop,) = [n for n in trace(fn, VECTOR, VECTOR).nodes if n.op.name == "for"]
    assert len(loop.args) == 2 + 1 + 1
    assert loop.regions[0].input_types == (Type(i64, ()), VECTOR, VECTOR)


def test_dead_captures_are_dropped() -> None:
    def fn(x: Any, y: Any) -> Any:
        def body(i: Any, c: Any) -> list[Any]:
            e.exp(y)
            return [e.sin(c)]

        return for_loop(0, 3, [x], body)

    (loop,) = [n for n in trace(fn, VECTOR, VECTOR).nodes if n.op.name == "for"]
    assert len(loop.args) == 3


def test_sister_regions_take_the_same_captures() -> None:
    def fn(x: Any, y: Any, z: Any) -> Any:
        k = e.convert(e.gt(prefix_sum(x, full((), 2, i64)), 0.0), dtype=i64)
        return switch_case(k, [lambda: (e.add(x, y),), lambda: (e.mul(z, y),)])

    graph = trace(fn, VECTOR, VECTOR, VECTOR)
    (node,) = [n for n in graph.nodes if n.op.name == "switch"]
    assert node.regions[0].input_types == node.regions[1].input_types == (VECTOR,) * 3
    arrays = [np.ones(4), np.full(4, 2.0), np.full(4, 3.0)]
    np.testing.assert_array_equal(evaluate_graph(graph, arrays)[0], 6.0)
    np.testing.assert_array_equal(evaluate_graph(graph, [-arrays[0], *arrays[1:]])[0], 1.0)


def test_symbols_around_keep_their_names_inside() -> None:
    def fn(x: Any) -> Any:
        return for_loop(0, dim_value(x.type.shape[0]), [x], lambda i, c: [e.mul(c, full(c.type.shape, 2.0, f64))])

    graph = symbolic(fn, ("n",))
    (loop,) = [n for n in graph.nodes if n.op.name == "for"]
    assert str(loop.regions[0].output_types[0]) == "f64[n]"
    assert loop.regions[0].symbols["n"].kind == "value"
    np.testing.assert_array_equal(evaluate_graph(graph, [np.ones(3)])[0], np.full(3, 8.0))
    assert str(parse_graph(str(graph))) == str(graph)


def test_a_symbol_of_a_region_never_hides_one_around_it() -> None:
    def fn(x: Any, n: Any) -> Any:
        part = slice_(x, starts=(0,), sizes=(dim_of(n),), steps=(1,))  # its dim is s0

        def body(i: Any, c: Any) -> list[Any]:
            head = prefix_sum(part, i)  # a dim of its own
            return [e.add(c, e.add(head, reduce_sum(part, axes=(0,))))]

        return for_loop(0, n, [full((), 0, f64)], body)

    x = np.arange(1.0, 5.0)
    (out,) = evaluate(fn, x, np.array(3))
    assert out == sum(x[:i].sum() + x[:3].sum() for i in range(3))
    (g,) = evaluate(pullback(fn, [True, False]), x, np.array(3), np.array(1.0))
    np.testing.assert_array_equal(g, [5.0, 4.0, 3.0, 0.0])


def test_reverse_mode_with_symbolic_sizes() -> None:
    def fn(x: Any) -> Any:
        n = dim_value(x.type.shape[0])
        return for_loop(1, n, [x], lambda i, c: [e.mul(c, e.sin(c))])

    graph = symbolic(pullback(fn, [True]), ("n",), ("n",))
    x, t = np.array([0.3, 0.5, 0.9]), np.array([1.0, 0.5, 0.25])
    (g,) = evaluate_graph(graph, [x, t])
    h = 1e-6
    difference = [(evaluate(fn, x + h * u)[0] - evaluate(fn, x - h * u)[0]) @ t / (2 * h) for u in np.eye(3)]
    np.testing.assert_allclose(g, difference, rtol=1e-7)


def test_replay_renames_symbols_in_nested_regions() -> None:
    def inner(x: Any, n: Any) -> Any:
        size = dim_of(n)
        start = slice_(x, starts=(0,), sizes=(size,), steps=(1,))
        return [reduce_sum(for_loop(0, 2, [start], lambda i, c: [e.mul(c, c)])[0], axes=(0,))]

    graph = trace(inner, VECTOR, Type(i64, ()))

    def fn(x: Any, k: Any) -> Any:
        first = dim_of(k)  # takes the name that the graph uses for its own symbol
        one = replay(graph, [x, e.add(k, 1)])[0]
        two = replay(graph, [x, k])[0]
        return e.add(e.add(one, two), reduce_sum(slice_(x, starts=(0,), sizes=(first,), steps=(1,)), axes=(0,)))

    x = np.arange(1.0, 5.0)
    assert evaluate(fn, x, np.array(2))[0] == (x[:3] ** 4).sum() + (x[:2] ** 4).sum() + 3.0


def test_a_size_that_differs_between_lanes_is_named() -> None:
    with pytest.raises(LaneDependentError, match="a size or a bound differs between the lanes of a vmap"):
        trace(mapped(prefix_sum, (None, 0), 3), VECTOR, Type(i64, (3,)))


def test_inside_a_loop_lanes_may_differ_in_sizes() -> None:
    def fn(x: Any, n: Any) -> Any:
        return for_loop(0, 2, [full((), 0, f64)], lambda i, c: [e.add(c, prefix_sum(x, n))])

    x, n = np.arange(1.0, 5.0), np.array([1, 4, 2])
    (out,) = evaluate(mapped(fn, (None, 0), 3), x, n)
    np.testing.assert_array_equal(out, [2.0, 20.0, 6.0])
    (g,) = evaluate(pullback(mapped(fn, (None, 0), 3), [True, False]), x, n, np.ones(3))
    np.testing.assert_array_equal(g, [6.0, 4.0, 2.0, 2.0])
    (g,) = evaluate(mapped(pullback(fn, [True, False]), (None, 0, 0), 3), x, n, np.ones(3))
    np.testing.assert_array_equal(g, 2.0 * (np.arange(4) < n[:, None]))


def test_carried_types_must_stay() -> None:
    with pytest.raises(ShapeError, match=r"for: carried value 0 is f64\[4\] before an iteration and f64\[\] after it"):
        trace(lambda x: for_loop(0, 3, [x], lambda i, c: [reduce_sum(c, axes=(0,))]), VECTOR)
    with pytest.raises(TypeError, match=r"while: its condition is \(f64\[\]\), not one bool scalar"):
        trace(lambda x: while_loop([x], lambda c: reduce_sum(c, axes=(0,)), lambda c: [c]), VECTOR)
    with pytest.raises(ShapeError, match=r"switch: branches return different types: \(f64\[4\]\) and \(f64\[\]\)"):
        trace(lambda x: switch_case(0, [lambda: (x,), lambda: (reduce_sum(x, axes=(0,)),)]), VECTOR)


def test_a_value_of_another_trace_is_refused() -> None:
    kept: list[Any] = []

    def leak(i: Any, c: Any) -> list[Any]:
        kept.append(e.sin(c))
        return [c]

    with pytest.raises(EscapedTracerError, match="belongs to another trace"):
        trace(lambda x: [*for_loop(0, 2, [x], leak), e.neg(kept[0])], VECTOR)
    with pytest.raises(EscapedTracerError, match="belongs to another trace"):
        trace(lambda x: for_loop(0, 2, [x], lambda i, c: [e.add(c, kept[0])]), VECTOR)


def test_constants_are_made_where_they_are_used() -> None:
    table = np.arange(3.0)

    def fn(x: Any) -> Any:
        return map_lanes(3, lambda k: (e.mul(gather(nearest_stage().lift(table), k, **AT), gather(x, k, **AT)),))

    np.testing.assert_array_equal(evaluate(fn, np.full(4, 2.0))[0], [0.0, 2.0, 4.0])


def test_sizes_computed_from_an_index_are_expressions() -> None:
    seen: list[Any] = []

    def body(i: Any, c: Any) -> list[Any]:
        twice = e.mul(e.add(i, 1), 2)
        larger = e.maximum(i, full((), 2, i64))
        seen.extend([str(dim_of(twice)), str(dim_of(larger)), dim_of(e.sub(twice, e.add(i, i)))])
        return [c]

    trace(lambda x: for_loop(0, 3, [x], body), VECTOR)
    assert seen == ["2*s0+2", "max(2, s0)", 2]


@pytest.mark.parametrize("mode", ["grad_enabled", "fwd_grad_enabled"])
def test_a_grad_mode_switched_off_inside_a_body(mode: str) -> None:
    def body(i: Any, c: Any) -> list[Any]:
        s = stack()
        setattr(s, mode, False)
        factor = e.sin(c)
        setattr(s, mode, True)
        return [e.mul(c, factor)]

    def fn(x: Any) -> Any:
        return for_loop(0, 1, [x], body)

    x, one = np.array(0.7), np.array(1.0)
    reverse, forward = (evaluate(t(fn, [True]), x, one)[0] for t in (pullback, pushforward))
    full_derivative, factor = np.sin(0.7) + 0.7 * np.cos(0.7), np.sin(0.7)
    expected = (factor, full_derivative) if mode == "grad_enabled" else (full_derivative, factor)
    np.testing.assert_allclose((reverse, forward), expected, rtol=1e-15)
