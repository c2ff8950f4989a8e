"""The reference evaluator: symbols, checks, types and memory."""

from __future__ import annotations

import weakref

import numpy as np
import pytest

from stager.ir.dims import symbol
from stager.ir.evaluate import EvaluationError, evaluate_graph, evaluate_node
from stager.ir.graph import SymbolDef
from stager.ir.op import OPS, Op, register
from tests.ir.build import Build, chain
from tests.ir.test_text import everything


def test_symbols_come_from_shapes_strides_values_and_data() -> None:
    x = np.arange(12.0).reshape(3, 4)
    head, c, big, filled, dim, whole = evaluate_graph(everything(), [x, np.array([2.0, 1.0, 0.5]), np.int64(1)])
    np.testing.assert_array_equal(head, (x.T * [2.0, 1.0, 0.5])[1:3])
    assert c.tolist() == [1.5, -0.0, np.inf]
    assert big.shape == (4, 25)
    assert filled.tolist() == [-0.0, -0.0]
    assert np.signbit(filled).all()
    assert dim == 5
    assert whole is x
    b = Build()
    b.input("f64[3,4]")
    b.g.symbols["s"] = SymbolDef("stride", 0, 1)
    b.done(b.dim(dim=symbol("s") + 1))
    assert evaluate_graph(b.g, [x])[0] == 9
    assert evaluate_graph(b.g, [x], {"s": 41})[0] == 42


def test_arguments_must_fit() -> None:
    b = Build()
    b.done(b.neg(b.input("f64[3,n]")))
    with pytest.raises(
        ValueError, match=r"input 0 of graph 'main' is a f64\[3,n\] with .*; a float64\[4, 2\] was given"
    ):
        evaluate_graph(b.g, [np.ones((4, 2))])
    with pytest.raises(ValueError, match="float32"):
        evaluate_graph(b.g, [np.ones((3, 2), np.float32)])
    with pytest.raises(ValueError, match="takes 1 arrays, 2 were given"):
        evaluate_graph(b.g, [1, 2])
    with pytest.raises(ValueError, match="symbol n is axis 1 of input 0"):
        evaluate_graph(b.g, [np.ones(3)])


def test_checks_raise_their_exceptions() -> None:
    b = Build()
    i = b.input("i64[]")
    b.check(b.lt(i, b.fill(3, (), "i64")), i, exception="IndexError", text="index {0} is out of bounds")
    b.done(i)
    assert evaluate_graph(b.g, [np.int64(2)])[0] == 2
    with pytest.raises(IndexError, match="index 5 is out of bounds"):
        evaluate_graph(b.g, [np.int64(5)])


def test_a_reference_that_breaks_its_type_rule_is_reported() -> None:
    op = register(Op("test_wrong_reference", "elementwise", lambda x: x, lambda x: x.astype(np.float32)))
    try:
        b = Build()
        b.done(b.builder.emit(op, [b.input("f64[2]")])[0])
        message = r"internal error: test_wrong_reference\(f64\[2\]; \) is a f64\[2\], its reference gave float32\[2\]"
        with pytest.raises(EvaluationError, match=message):
            evaluate_graph(b.g, [np.ones(2)])
    finally:
        del OPS["test_wrong_reference"]


def test_values_are_freed_after_their_last_use() -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def reference(x: np.ndarray) -> np.ndarray:
        nonlocal most
        out = x + 1
        alive.append(weakref.ref(out))
        most = max(most, sum(r() is not None for r in alive))
        return out

    op = register(Op("test_counted", "elementwise", lambda x: x, reference))
    try:
        b = Build()
        y = b.input("f64[2]")
        for _ in range(50):
            (y,) = b.builder.emit(op, [y])
        assert evaluate_graph(b.done(y), [np.zeros(2)])[0].tolist() == [50.0, 50.0]
        assert most <= 3
    finally:
        del OPS["test_counted"]


def test_no_floating_point_warnings_and_no_recursion() -> None:
    b = Build()
    x = b.input("f64[2]")
    out = evaluate_graph(b.done(b.div(x, b.sub(x, x))), [np.array([0.0, 1.0])])[0]
    assert np.isnan(out[0])
    assert np.isinf(out[1])
    evaluate_graph(chain(5000), [np.ones(2)])


def test_one_node() -> None:
    b = Build()
    x = b.input("f64[n]")
    v = b.slice(x, starts=(1,), sizes=(symbol("n") - 1,), steps=(1,))
    assert evaluate_node(v.node, [np.arange(3.0)], {"n": 3})[0].tolist() == [1.0, 2.0]
