"""Each row of the algebra table, by itself: it fires, and it keeps every bit that its licence promises."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from stager.ir.dtypes import DTYPES, DType
from stager.ir.evaluate import EvaluationError, evaluate_graph
from stager.ir.graph import Graph, Node, Value
from stager.ir.op import op_named
from stager.ir.passes import algebra
from stager.ir.passes.algebra import ROWS, holds_every, never_minus_zero
from stager.ir.passes.pipeline import simplify, simplify_algebra
from stager.ir.patterns import Literal, Row, Var, pattern_rules
from stager.ir.rewrite import literal, rewrite
from stager.ir.text import print_graph
from stager.ir.types import Type
from stager.ir.verify import verify
from tests.ir.build import Build

FLOATS = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -2.75, 3.0, np.inf, -np.inf, np.nan, 5e-324, 1e-310, 1e300, -1e300, 7.0]
INTS = [0, 1, 2, 3, 5, 7, 127, -1, -2, -128]
CANDIDATES = [0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 0.5, 0.25, np.inf, -np.inf, 0, 1, -1, 2, 255, True, False]


def values(dtype: DType) -> np.ndarray[Any, Any]:
    if dtype.is_float:
        with np.errstate(all="ignore"):
            return np.array(FLOATS).astype(dtype.np)
    if dtype.kind == "b":
        return np.array([True, False])
    return np.array(INTS).astype(dtype.np)


class Instance:
    """A row's pattern as a graph of one dtype; inputs run over all combinations of special values."""

    def __init__(self, row: Row, dtype: DType) -> None:
        self.b = Build()
        self.dtype = dtype
        names = sorted(set(self.variables(row.pattern)))
        conditions = {"b"} & set(names)
        grids = [values(DTYPES["b1"]) if n in conditions else values(dtype) for n in names]
        mesh = np.meshgrid(*grids, indexing="ij") if grids else []
        self.arrays = [np.ascontiguousarray(m.ravel()) for m in mesh]
        self.shape = self.arrays[0].shape if self.arrays else (1,)
        self.inputs = {n: self.b.input(Type(DTYPES["b1"] if n in conditions else dtype, self.shape)) for n in names}
        self.graph: Graph = self.b.done(self.build(row.pattern))

    def variables(self, p: Any) -> list[str]:
        if isinstance(p, Var):
            return [p.name]
        return [n for q in p[1:] for n in self.variables(q)] if isinstance(p, tuple) else []

    def build(self, p: Any, condition: bool = False) -> Value:
        if isinstance(p, Var):
            return self.inputs[p.name]
        if isinstance(p, Literal):
            dtype = DTYPES["b1"] if condition else self.dtype
            for v in CANDIDATES:
                fits = isinstance(v, float) == dtype.is_float and (dtype.kind != "b" or isinstance(v, bool))
                low, high = {"u": (0, 255), "i": (-128, 127)}.get(dtype.kind, (-np.inf, np.inf))
                if fits and low <= v <= high and p.test(v, dtype):
                    return self.b.fill(v, self.shape, dtype.name)
            raise TypeError("no such literal")
        name, *args = p
        operands = [self.build(q, condition=name == "select" and k == 0) for k, q in enumerate(args)]
        return self.b.builder.emit(op_named(name), operands)[0]


def same_bits(expected: np.ndarray[Any, Any], actual: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Equal bits, where any NaN is as good as any other."""
    if expected.dtype.kind != "f":
        return expected == actual
    return (np.isnan(expected) & np.isnan(actual)) | (
        (expected == actual) & (np.signbit(expected) == np.signbit(actual))
    )


def label(row: Row) -> str:
    def text(p: Any) -> str:
        return f"{p[0]}({','.join(map(text, p[1:]))})" if isinstance(p, tuple) else p.name

    return f"{text(row.pattern)}-{getattr(row.licence, '__name__', 'licence')}"


@pytest.mark.parametrize("row", [pytest.param(r, id=f"{i}-{label(r)}") for i, r in enumerate(ROWS)])
def test_row(row: Row) -> None:
    fired = False
    for dtype in (DTYPES[n] for n in ("f64", "f32", "i64", "i8", "u8", "b1")):
        try:
            instance = Instance(row, dtype)
        except (TypeError, ValueError):
            continue  # the pattern has no such instance: no rint of integers, no -0.0 among bools
        graph = instance.graph
        verify(graph)
        try:
            (expected,) = evaluate_graph(graph, instance.arrays)
        except (TypeError, ValueError, EvaluationError):
            continue  # NumPy has no such op: no difference of bools
        fast = row.licence in (algebra.FAST, algebra.FAST_FLOAT) and dtype.is_float
        for fast_math in (False, True) if row.licence is algebra.FAST or not fast else (True,):
            after = rewrite(graph, pattern_rules([row]), share=False, fast_math=fast_math)
            if after is graph:
                continue
            fired = True
            verify(after)
            if fast:  # holds for real numbers only
                continue
            (actual,) = evaluate_graph(after, instance.arrays)
            good = same_bits(expected, actual)
            if row.pattern[0] == "pow":  # libm's power is not always the nearest number
                good |= np.isclose(expected, actual, rtol=1e-6 if dtype.bits == 32 else 1e-15, atol=0)
            shown = [a[~good][:5] for a in instance.arrays]
            assert good.all(), (
                f"{dtype}: {shown}: {expected[~good][:5]} became {actual[~good][:5]}\n{print_graph(after)}"
            )
    if row.licence not in (algebra.COTANGENT, algebra.COTANGENT_FACTORS, algebra.NOT_MINUS_ZERO):
        assert fired, "this row applies to nothing"


def test_every_row_that_needs_fast_math_waits_for_it() -> None:
    for row in ROWS:
        if row.licence in (algebra.FAST, algebra.FAST_FLOAT):
            try:
                graph = Instance(row, DTYPES["f64"]).graph
            except (TypeError, ValueError):
                continue
            assert rewrite(graph, pattern_rules([row]), share=False) is graph, label(row)


def added_zero(make: Any) -> Graph:
    b = Build()
    x = b.input("f64[3]")
    return b.done(b.add(make(b, x), b.fill(0.0, (3,))))


NEVER = {
    "exp": lambda b, x: b.exp(x),
    "square": lambda b, x: b.mul(x, x),
    "abs": lambda b, x: b.abs(x),
    "from int": lambda b, x: b.convert(b.convert(b.floor(x), "b1"), "f64"),
    "sum with a square": lambda b, x: b.add(x, b.mul(x, x)),
    "sqrt of square": lambda b, x: b.sqrt(b.mul(x, x)),
    "view": lambda b, x: b.slice(b.exp(x), starts=(2,), sizes=(3,), steps=(-1,)),
    "select": lambda b, x: b.select(b.lt(x, b.fill(1.0, (3,))), b.exp(x), b.fill(2.0, (3,))),
    "square minus x": lambda b, x: b.sub(b.mul(x, x), x),
}
MAYBE = {
    "input": lambda b, x: x,
    "product": lambda b, x: b.mul(x, b.sin(x)),
    "sin": lambda b, x: b.sin(x),
    "neg": lambda b, x: b.neg(b.exp(x)),
    "select": lambda b, x: b.select(b.lt(x, b.fill(1.0, (3,))), x, b.fill(2.0, (3,))),
    "minus": lambda b, x: b.sub(x, b.exp(x)),
    "narrowed": lambda b, x: b.convert(b.convert(b.sub(b.exp(x), b.fill(1.0, (3,))), "f32"), "f64"),
}


@pytest.mark.parametrize("name", NEVER)
def test_adding_zero_to_what_is_never_minus_zero(name: str) -> None:
    graph = added_zero(NEVER[name])
    assert never_minus_zero(graph.outputs[0].node.args[0])
    after = simplify_algebra(graph)
    assert after.outputs[0].node.op.name != "add" or len(after) < len(graph)
    special = np.array(FLOATS[:15]).reshape(5, 3)
    for arrays in special:
        (expected,), (actual,) = (evaluate_graph(g, [arrays]) for g in (graph, after))
        assert same_bits(expected, actual).all()


@pytest.mark.parametrize("name", MAYBE)
def test_adding_zero_to_what_may_be_minus_zero_stays(name: str) -> None:
    graph = added_zero(MAYBE[name])
    assert adds_zero(simplify_algebra(graph))
    assert not adds_zero(simplify_algebra(graph, True))


def adds_zero(graph: Graph) -> bool:
    return any(literal(a) == 0 for n in graph.nodes if n.op.name in ("add", "sub") for a in n.args)


def test_adding_zero_in_a_backward_pass() -> None:
    b = Build()
    x = b.input("f64[3]")
    zero = b.fill(0.0, (3,))
    node = Node(op_named("add"), (x, zero), {}, (x.type,), (), None, ("grad", "backward"))
    b.g.add(node)
    assert simplify_algebra(b.done(node.outputs[0])).outputs[0].node.op.name == "input"


@pytest.mark.parametrize(
    ("first", "via", "to"), list(itertools.permutations(["f64", "f32", "i64", "i32", "u8", "i8", "b1"], 3))
)
def test_conversions(first: str, via: str, to: str) -> None:
    b = Build()
    dtype = DTYPES[first]
    given = values(dtype)
    if dtype.is_float:
        given = given[np.abs(given) < 100]  # out of range: NumPy's own answer depends on the machine
        if "u8" in (via, to):
            given = given[given > -1]
    x = b.input(Type(dtype, given.shape))
    graph = b.done(b.convert(b.convert(x, via), to))
    after = simplify_algebra(graph)
    (expected,), (actual,) = (evaluate_graph(g, [given]) for g in (graph, after))
    assert same_bits(expected, actual).all()
    if holds_every(DTYPES[via], dtype) and not (DTYPES[via].is_float and DTYPES[to].is_integer):
        assert len(after) == 2


def test_holds_every_is_numpys_safe_cast() -> None:
    for a, b in itertools.product(DTYPES.values(), repeat=2):
        lossless = np.can_cast(b.np, a.np, "safe") and not (a is DTYPES["f64"] and b.bits == 64 and b.is_integer)
        assert holds_every(a, b) == lossless, (a, b)


@pytest.mark.parametrize(("dtype", "fast"), [("i64", False), ("f64", False), ("f64", True)])
def test_sums_of_equal_terms(dtype: str, fast: bool) -> None:
    b = Build()
    x = b.input(f"{dtype}[3,n]")
    repeated = b.broadcast(x, shape=(5, 3, x.type.shape[1], 2), axes=(1, 2))
    graph = b.done(b.reduce_sum(repeated, axes=(0, 2, 3)))
    after = simplify(graph, fast)
    multiplied = [n.op.name for n in after.nodes if n.op.name != "input"] == ["reduce_sum", "fill", "mul"]
    assert multiplied == (dtype == "i64" or fast)
    arrays = [np.arange(12).reshape(3, 4).astype(DTYPES[dtype].np)]
    np.testing.assert_array_equal(evaluate_graph(after, arrays)[0], evaluate_graph(graph, arrays)[0])


def test_fast_math_of_literals_and_signs() -> None:
    b = Build()
    x = b.input("f64[3]")
    two = b.fill(2.0, (3,))
    g = b.done(b.sub(b.add(b.add(x, two), two), b.fill(4.0, (3,))), b.mul(b.mul(x, two), two))
    assert simplify(g).outputs[0].node.op.name == "sub"
    after = simplify(g, True)
    assert len([n for n in after.nodes if n.op.name == "mul"]) == 1
    np.testing.assert_array_equal(evaluate_graph(after, [np.arange(3.0)])[1], np.arange(3.0) * 4)
