"""The MLIR form: goldens, the whole op table before the real mlir-opt, and what single modules compute when lowered.

What the whole table computes through MLIR is tested in tests/codegen/test_mlir.py.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stager.codegen.mlir.tools import accept
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph
from stager.ir.mlir import to_mlir
from stager.ir.mlir.function import STATUS, can_raise
from stager.ir.op import OPS
from stager.ir.passes.pipeline import run_pipeline
from tests.ir.build import Build
from tests.ir.mlir_tools import needs_tools, run
from tests.ir.test_control import loop
from tests.ir.test_text import everything
from tests.ir.test_views import CASES
from tests.ops.test_lowering import joined
from tests.ops.transforms import trace, type_of
from tests.samples import ROWS

DECLARED = tuple(OPS)  # before any test declares its own
TOLERANCES = {"float64": (1e-12, 1e-14), "float32": (1e-5, 1e-6)}


def sampled(name: str, dtype: str) -> tuple[Graph, list[Any]]:
    """All samples of an op in one graph, and their arrays."""
    rng = np.random.default_rng(zlib.crc32((name + dtype).encode()))
    samples = ROWS[name].samples(rng, np.dtype(dtype))
    fn, arrays = joined([(s.fn, s.arrays, s.text) for s in samples])
    return trace(fn, *[type_of(a) for a in arrays]), arrays


def test_every_op_with_a_row_has_a_form() -> None:
    for name in ROWS:
        text = to_mlir(sampled(name, ROWS[name].dtypes[0])[0], "f")
        assert text.startswith("module {\n")
        assert "func.func @f(" in text
    without_row = {name for name in DECLARED if name not in ROWS and not name.startswith("test_")}
    sources = {"input", "constant", "fill", "iota", "dim"}  # in the graphs of `everything`
    its_operand = {"carried_key", "commit"}
    never_staged = {"psum", "pmax", "pmin", "all_gather", *(name for name, op in OPS.items() if "inline" in op.facts)}
    assert without_row <= {*sources, *its_operand, *never_staged, "check", "print", "callback"}


def test_printed_form(golden: Callable[..., None]) -> None:
    golden(to_mlir(everything()))
    golden(to_mlir(run_pipeline(loop(-1))), "loop")


@needs_tools
def test_mlir_opt_accepts_every_dtype_of_every_op() -> None:
    accept([to_mlir(sampled(name, dtype)[0], "f") for name, row in ROWS.items() for dtype in row.dtypes])


@needs_tools
def test_mlir_opt_accepts_symbolic_dims_and_loops() -> None:
    graphs = [everything(), loop(3), run_pipeline(loop(-1))]
    for case in CASES.values():
        b = Build()
        graphs.append(b.done(case(b, b.input("f64[4,n]"))))
    accept([to_mlir(g) for g in graphs])


def compare(graph: Graph, arrays: list[Any]) -> None:
    expected = evaluate_graph(graph, arrays)
    types = [type_of(e) for e in expected] + ([STATUS] if can_raise(graph) else [])
    got = run(to_mlir(graph, "f"), "f", types, [np.asarray(a) for a in arrays])
    if can_raise(graph):
        assert got[-1][0] == 0
    for e, a in zip(expected, got, strict=False):
        assert a.dtype == e.dtype
        assert a.shape == e.shape
        if e.dtype.kind == "f":
            rtol, atol = TOLERANCES[e.dtype.name]
            np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)
        else:
            np.testing.assert_array_equal(a, e)


@needs_tools
@pytest.mark.parametrize("name", ["slices_compose", "slice_through_transpose_and_broadcast", "update_at_a_symbol",
                                  "arithmetic_of_dims", "elementwise_before_broadcast"])  # fmt: skip
def test_symbolic_dims_are_run_time_values(name: str) -> None:
    b = Build()
    graph = b.done(CASES[name](b, b.input("f64[4,n]")))
    for n in (5, 7):
        compare(graph, [np.arange(4.0 * n).reshape(4, n)])


@needs_tools
def test_errors_come_back_as_numbers() -> None:
    b = Build()
    x, i = b.input("f64[3]"), b.input("i64[]")
    b.check(b.gt(i, b.fill(-9, (), "i64")), i, exception="ValueError", text="{0} is too small")
    graph = b.done(b.gather(x, i, axes=(0,), batch_dims=0, mode="check"))
    text = to_mlir(graph, "f")
    assert "// error 1: ValueError: {0} is too small" in text
    assert "// error 2: IndexError: index {0} is out of bounds for axis {1} with size {2}" in text
    types = [graph.output_types[0], STATUS]
    for index, status in ((2, [0, 0, 0, 0, 0]), (-1, [0, 0, 0, 0, 0]), (7, [2, 7, 0, 3, 0]), (-20, [1, -20, 0, 0, 0])):
        assert run(text, "f", types, [np.arange(3.0), np.asarray(index)])[-1].tolist() == status


@needs_tools
def test_hard_points_of_integer_ops() -> None:
    """What arith leaves open: division by 0, the smallest integer by -1, wide shifts, casts out of range."""
    least = np.iinfo(np.int64).min
    xs = np.array([7, -7, least, 0, 5, least], np.int64)
    ys = np.array([0, 2, -1, 0, 64, 1], np.int64)
    b = Build()
    x, y = b.input("i64[6]"), b.input("i64[6]")
    ops = ("floordiv", "mod", "fmod", "shl", "shr", "gcd", "lcm")
    outs = [getattr(b, op)(x, y) for op in ops] + [b.neg(x), b.abs(x), b.sign(x)]
    compare(b.done(*outs), [xs, ys])
    b = Build()
    v = b.input("f64[6]")
    values = np.array([1e30, -1e30, np.nan, 3e9, -5.5, np.inf])
    with np.errstate(all="ignore"):
        compare(b.done(*[b.convert(v, t) for t in ("i64", "i32", "i8", "u8", "b1")]), [values])


@needs_tools
def test_hard_points_of_float_ops() -> None:
    special = np.array([0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 5e-324, 1e308, -7.25])
    xs, ys = (a.ravel() for a in np.meshgrid(special, special))
    b = Build()
    x, y = b.input("f64[100]"), b.input("f64[100]")
    outs = [
        getattr(b, op)(x, y) for op in ("floordiv", "mod", "fmod", "add", "div", "copysign", "lt", "ne", "nextafter")
    ]
    outs += [
        getattr(b, op)(x) for op in ("sign", "signbit", "isnan", "isinf", "frexp_mantissa", "frexp_exponent", "rint")
    ]
    compare(b.done(*outs), [xs, ys])
