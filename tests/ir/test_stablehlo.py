"""The StableHLO form: what it covers computes, through XLA, what the references do; what it does not is named."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph
from stager.ir.op import OPS
from stager.ir.passes.pipeline import run_pipeline
from stager.ir.stablehlo import StableHLOError, to_stablehlo
from tests.codegen.test_mlir import sampled
from tests.ir.build import Build
from tests.ir.xla import Xla
from tests.ops.transforms import trace, type_of
from tests.samples import ROWS

PARTS = 4  # of the op table, so that workers share it
TOLERANCES = {"float64": (1e-11, 1e-12), "float32": (1e-5, 1e-5)}

# Ops without a form; a row that gets one leaves this list.
UNCOVERED = {
    "gcd", "lcm", "spacing", "nextafter", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc", "erfinv", "lgamma",
    "gamma", "digamma", "hypot", "fma", "ldexp", "recurrence", "collect",
}  # fmt: skip
SIZED_BY_THE_RUN = {"sizes from the index", "tape sizes from the index"}  # samples of the control ops


@pytest.fixture(scope="module")
def xla() -> Iterator[Xla]:
    """Runs a module on arrays."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    process = Xla()
    yield process
    process.close()


def assert_same(what: str, got: list[Any], want: list[Any]) -> None:
    for g, w in zip(got, want, strict=True):
        assert (g.dtype, g.shape) == (w.dtype, w.shape), what
        if w.dtype.kind == "f":
            rtol, atol = TOLERANCES[w.dtype.name]
            np.testing.assert_allclose(g, w, rtol=rtol, atol=atol, err_msg=what)
        else:
            np.testing.assert_array_equal(g, w, err_msg=what)


def cases(name: str) -> list[tuple[str, Graph, list[Any]]]:
    if OPS[name].family == "control":
        samples = ROWS[name].samples(np.random.default_rng(3), np.dtype("float64"))
        return [
            (f"{name}: {s.text}", trace(s.fn, *[type_of(a) for a in s.arrays]), list(s.arrays))
            for s in samples
            if s.text not in SIZED_BY_THE_RUN
        ]
    dtypes = ROWS[name].dtypes
    signs = ("int64", "uint8") if OPS[name].family == "elementwise" and name != "pow" else ()
    return [sampled(name, d) for d in dict.fromkeys((dtypes[0], *signs)) if d in dtypes]


@pytest.mark.parametrize("part", range(PARTS))
def test_every_covered_op_computes_what_its_reference_does(part: int, xla: Xla) -> None:
    for name in [n for n in ROWS if n not in UNCOVERED][part::PARTS]:
        for what, graph, arrays in cases(name):
            assert_same(what, xla(to_stablehlo(graph), arrays), evaluate_graph(graph, arrays))


def test_what_is_not_covered_is_named() -> None:
    for name in UNCOVERED:
        with pytest.raises(StableHLOError, match=f"the op {name} has no form in StableHLO"):
            to_stablehlo(sampled(name, ROWS[name].dtypes[0])[1])


def test_printed_form(golden: Callable[..., None]) -> None:
    def f(w: Any, x: Any) -> Any:
        s = 0.0
        for i in range(x.shape[0]):
            s = s + np.tanh(np.dot(w, x[i]))
        return s

    golden(run_pipeline(st.make_graph(f)("f64[3]", "f64[5,3]")).to_stablehlo())


def mlp(params: Any, x: Any, y: Any) -> Any:
    for w, b in params[:-1]:
        x = np.maximum(x @ w + b, 0.0)
    z = x @ params[-1][0] + params[-1][1]
    z = z - np.max(z, axis=1, keepdims=True)
    return -np.mean(np.take_along_axis(z - np.log(np.sum(np.exp(z), axis=1, keepdims=True)), y[:, None], axis=1))


def gauss_seidel(u: Any, f: Any) -> Any:
    for _ in range(4):
        for i in range(1, u.shape[0] - 1):
            u[i] = 0.5 * (u[i - 1] + u[i + 1] - f[i])
    return np.sum(u * u)


def newton(a: Any) -> Any:
    x = a
    while abs(x * x - a) > 1e-10:
        x = 0.5 * (x + a / x)
    return np.where(x > 1.0, x, -x)


def test_whole_functions_and_their_transforms(xla: Xla, rng: np.random.Generator) -> None:
    sizes = (4, 6, 3)
    params = [(rng.normal(size=(a, b)), rng.normal(size=b)) for a, b in itertools.pairwise(sizes)]
    x, y = rng.normal(size=(5, 4)), np.array([0, 2, 1, 1, 0])
    u, f = rng.normal(size=8), rng.normal(size=8)
    for fn, args in (
        (mlp, (params, x, y)),
        (st.grad(mlp), (params, x, y)),
        (st.vmap(st.grad(mlp), in_dims=(None, 0, 0)), (params, x[:, None], y[:, None])),
        (gauss_seidel, (u, f)),
        (st.value_and_grad(gauss_seidel), (u, f)),
        (st.jvp, (gauss_seidel, (u, f), (f, u))),
        (newton, (np.array(7.0),)),
    ):
        if fn is st.jvp:
            args, fn = (u, f), lambda u, f: st.jvp(gauss_seidel, (u, f), (f, u))
        graph = st.make_graph(fn)(*args)
        arrays = [np.asarray(a) for a in st.runtime.structure.flatten(args)[0]]
        want = evaluate_graph(graph, arrays)
        for g in (graph, run_pipeline(graph)):
            assert_same(str(fn), xla(g.to_stablehlo(), arrays), want)


def test_an_index_out_of_bounds_means_the_nearest_element(xla: Xla) -> None:
    graph = st.make_graph(lambda x, i: x[i])("f64[3]", "i64[4]")
    (got,) = xla(graph.to_stablehlo(), [np.arange(3.0), np.array([-1, 7, -9, 1])])
    np.testing.assert_array_equal(got, [2.0, 2.0, 0.0, 1.0])


def test_sizes_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(StableHLOError, match="the size n, which only the run knows, of an argument has no form"):
        st.make_graph(lambda x: x * 2)("f64[n]").to_stablehlo()
    with pytest.raises(StableHLOError, match=r"the op \w+ has no form in StableHLO: the size s\d+, which only"):
        st.make_graph(lambda x: x[x > 0])("f64[4]").to_stablehlo()


def test_errors_name_the_line() -> None:
    def f(x: Any) -> Any:
        return np.sinh(x)

    graph = st.make_graph(f)("f64[4]")
    text = r"the op sinh has no form in StableHLO\n  at .*test_stablehlo.py:\d+ in f"
    with pytest.raises(StableHLOError, match=text):
        graph.to_stablehlo()


def test_large_constants_keep_their_bits(xla: Xla, rng: np.random.Generator) -> None:
    b = Build()
    table = rng.normal(size=(9, 9))
    table[0, 0] = np.nan
    graph = b.done(b.add(b.input("f64[9,9]"), b.constant(table)))
    (got,) = xla(to_stablehlo(graph), [np.zeros((9, 9))])
    np.testing.assert_array_equal(got, table)
