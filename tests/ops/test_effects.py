"""check, print and callback: order, batching, and that none of them is differentiated in silence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stager.errors import TransformError
from stager.ir.dtypes import f64, i64
from stager.ir.types import Type
from stager.ops import elementwise as e
from stager.ops.control import for_loop
from stager.ops.effects import callback, check, print_values
from stager.ops.indexed import gather
from tests.ops.transforms import evaluate, mapped, pullback, pushforward, trace

INDEX = "index {0} is out of bounds for axis 0 with size 3"


def positive(x: Any, i: Any) -> Any:
    check(e.gt(x, 0.0), i, exception="IndexError", text=INDEX)
    return e.mul(x, x)


def test_check_raises_what_it_says() -> None:
    (out,) = evaluate(positive, np.array(2.0), np.array(7))
    assert out == 4.0
    with pytest.raises(IndexError, match="index 7 is out of bounds for axis 0 with size 3"):
        evaluate(positive, np.array(-2.0), np.array(7))


def test_check_of_lanes_names_the_first_that_fails() -> None:
    xs, i = np.array([1.0, -1.0, -2.0]), np.array([4, 5, 6])
    with pytest.raises(IndexError, match="index 5 "):
        evaluate(mapped(positive, (0, 0), 3), xs, i)
    with pytest.raises(IndexError, match="index 9 "):
        evaluate(mapped(positive, (0, None), 3), xs, np.array(9))
    with pytest.raises(IndexError, match="index 4 "):
        evaluate(mapped(positive, (None, 0), 3), np.array(-1.0), i)
    np.testing.assert_array_equal(evaluate(mapped(positive, (0, 0), 3), np.abs(xs), i)[0], xs * xs)


def test_check_of_no_lane() -> None:
    assert evaluate(mapped(positive, (0, 0), 0), np.zeros(0), np.zeros(0, int))[0].shape == (0,)


@pytest.mark.parametrize("transformed", [pushforward, pullback])
def test_check_survives_differentiation(transformed: Any) -> None:
    args = np.array(-2.0), np.array(7), np.array(1.0)
    with pytest.raises(IndexError):
        evaluate(transformed(positive, [True, False]), *args)


def test_check_in_a_loop_runs_once_in_reverse_mode() -> None:
    def fn(x: Any) -> Any:
        def body(i: Any, c: Any) -> list[Any]:
            check(e.lt(c, 100.0), i, exception="ValueError", text="iteration {0}")
            return [e.mul(c, c)]

        return for_loop(0, 4, [x], body)

    graph = trace(pullback(fn, [True]), Type(f64, ()), Type(f64, ()))
    found = [m.op.name for n in graph.nodes for region in n.regions for m in region.nodes if m.op.name == "check"]
    assert found == ["check"]
    with pytest.raises(ValueError, match="iteration 3"):
        evaluate(pullback(fn, [True]), np.array(2.0), np.array(1.0))


def test_print_runs_per_lane_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    def fn(x: Any) -> Any:
        print_values(x, format="x = {}")
        return e.neg(x)

    evaluate(mapped(fn, (0,), 3), np.array([1.0, 2.0, 3.0]))
    assert capsys.readouterr().out == "x = 1.0\nx = 2.0\nx = 3.0\n"
    evaluate(lambda x: for_loop(0, 2, [x], lambda i, c: [fn(c)]), np.array(5.0))
    assert capsys.readouterr().out == "x = 5.0\nx = -5.0\n"


def test_callback() -> None:
    seen: list[Any] = []

    def host(x: Any) -> Any:
        seen.append(x.copy())
        return x.sum()

    def fn(x: Any) -> Any:
        return callback(x, function=host, results=(Type(f64, ()),))

    x = np.arange(6.0).reshape(2, 3)
    assert evaluate(fn, x)[0] == 15.0
    np.testing.assert_array_equal(evaluate(mapped(fn, (0,), 2), x)[0], [3.0, 12.0])
    np.testing.assert_array_equal(seen[1:], x)
    with pytest.raises(ValueError, match=r"callback: host returned an array of shape \(\), declared was f64\[2\]"):
        evaluate(lambda x: callback(x, function=host, results=(Type(f64, (2,)),)), x)


@pytest.mark.parametrize("transformed", [pushforward, pullback])
def test_callback_has_no_derivative(transformed: Any) -> None:
    def fn(x: Any) -> Any:
        return callback(x, function=np.sin, results=(Type(f64, ()),))

    with pytest.raises(TransformError, match="callback: sin runs in Python and has no derivative"):
        trace(transformed(fn, [True]), Type(f64, ()), Type(f64, ()))
    stopped = transformed(lambda x: fn(e.stop_gradient(x)), [True])
    assert evaluate(stopped, np.array(1.0), np.array(1.0))[0] == 0.0


def test_gather_out_of_range_raises_numpys_text() -> None:
    where: dict[str, Any] = {"axes": (0,), "batch_dims": 0, "mode": "check"}
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
        evaluate(lambda x, i: gather(x, i, **where), np.zeros(3), np.array([0, 3]))
    assert i64.is_integer
