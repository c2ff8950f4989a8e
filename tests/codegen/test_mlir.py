"""The mlir backend: graphs through LLVM's own tools, held against the native backend, the references and NumPy.

Graphs are compiled in batches, one run of the tools for each: starting them costs more than what they do.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stager as st
import stager.opset
from stager.codegen.mlir import compile_many
from stager.codegen.mlir.tools import accept
from stager.codegen.target import Target
from stager.compiler import compiler_of
from stager.errors import BackendError, UnsupportedError
from stager.ir.dtypes import i64
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph
from stager.ir.mlir import to_mlir
from stager.ir.op import OPS
from stager.ops import control, elementwise
from stager.ops.effects import check, print_values
from stager.ops.families import full, zeros_like
from stager.ops.indexed import gather
from stager.ops.regions import scalar_index
from stager.pipeline import executable, optimize
from stager.runtime.call import call
from stager.runtime.engine import engine
from tests.ir.mlir_tools import needs_tools
from tests.ops.test_lowering import joined
from tests.ops.transforms import as_tuple, trace, type_of
from tests.programs import all_programs
from tests.programs.program import Program
from tests.programs.test_compiled import GAPS, half_square
from tests.samples import ROWS

TOLERANCES = {"float64": (1e-12, 1e-14), "float32": (1e-5, 1e-6)}
PARTS = 6  # of the op table, so that workers share it

Case = tuple[str, Graph, list[Any]]


def contiguous(arrays: Sequence[Any]) -> list[Any]:
    return [np.ascontiguousarray(a) if np.ndim(a) else np.asarray(a) for a in arrays]


def assert_same(what: str, got: Sequence[Any], want: Sequence[Any]) -> None:
    assert len(got) == len(want), what
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        assert (g.dtype, g.shape) == (w.dtype, w.shape), what
        if w.dtype.kind == "f":
            rtol, atol = TOLERANCES[w.dtype.name]
            np.testing.assert_allclose(g, w, rtol=rtol, atol=atol, err_msg=f"{what}: result {k}")
        else:
            np.testing.assert_array_equal(g, w, err_msg=f"{what}: result {k}")


def through_mlir(cases: Sequence[Case]) -> list[list[Any]]:
    made = compile_many([graph for _, graph, _ in cases], Target.host(), name="k", opt=0)
    results = []
    for compiled, (_, _, arrays) in zip(made, cases, strict=True):
        loaded = engine().load(compiled.object, compiled.abi.externals)
        results.append(call(compiled.abi, loaded.address("k"), contiguous(arrays)))
    return results


def sampled(name: str, dtype: str) -> Case:
    """All samples of an op in one graph."""
    rng = np.random.default_rng(zlib.crc32((name + dtype).encode()))
    samples = ROWS[name].samples(rng, np.dtype(dtype))
    fn, arrays = joined([(s.fn, s.arrays, s.text) for s in samples])
    return f"{name} {dtype}", trace(fn, *[type_of(a) for a in arrays]), arrays


# -- the op table ------------------------------------------------------------------------------------------------------


@needs_tools
@pytest.mark.parametrize("part", range(PARTS))
def test_every_op_computes_what_the_native_backend_and_the_reference_do(part: int) -> None:
    cases, natively = [], []
    for name in list(ROWS)[part::PARTS]:
        dtypes = ROWS[name].dtypes
        signs = (
            ("int64", "uint8") if OPS[name].family == "elementwise" else ()
        )  # where the sign chooses the instruction
        for dtype in dict.fromkeys((dtypes[0], *signs)):
            if dtype in dtypes:
                cases.append(sampled(name, dtype))
                natively.append(dtype == dtypes[0])
    for (what, graph, arrays), got, both in zip(cases, through_mlir(cases), natively, strict=True):
        assert_same(what, got, evaluate_graph(graph, arrays))
        if both:
            assert_same(f"{what} natively", executable(graph)(contiguous(arrays)), got)


def in_loops(fn: Any) -> Any:
    """fn as the body of a branch in a loop, and of a lane in a while."""

    def run(*args: Any) -> list[Any]:
        start = [zeros_like(x) for x in as_tuple(fn(*args))]
        counted = control.for_loop(0, 2, start, lambda i, *_: _branch(i, fn, args, start))
        turns, *lanes = control.while_loop(
            [full((), 0, i64), *start],
            lambda k, *_: elementwise.lt(k, 1),
            lambda k, *_: [elementwise.add(k, 1), *_lanes(fn, args)],
        )
        return [*as_tuple(counted), *lanes, turns]

    return run


def _branch(i: Any, fn: Any, args: Any, start: Any) -> list[Any]:
    return list(as_tuple(control.switch_case(i, [lambda: tuple(start), lambda: as_tuple(fn(*args))])))


def _lanes(fn: Any, args: Any) -> list[Any]:
    stacked = as_tuple(control.map_lanes(2, lambda lane: as_tuple(fn(*args))))
    return [gather(x, scalar_index(1), axes=(0,), batch_dims=0, mode="promise") for x in stacked]


@needs_tools
@pytest.mark.parametrize("part", range(PARTS))
def test_every_op_inside_loops_branches_and_lanes(part: int) -> None:
    cases = []
    for name in list(ROWS)[part::PARTS]:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        s = ROWS[name].samples(rng, np.dtype(ROWS[name].dtypes[0]))[0]
        cases.append((f"{name}: {s.text}", trace(in_loops(s.fn), *[type_of(a) for a in s.arrays]), s.arrays))
    for (what, graph, arrays), got in zip(cases, through_mlir(cases), strict=True):
        assert_same(what, got, evaluate_graph(graph, arrays))


# -- whole programs ----------------------------------------------------------------------------------------------------

LONG = 40_000  # characters of MLIR: longer ones take seconds to compile, and are only read by mlir-opt


def traced(fn: Any, args: Sequence[Any]) -> Any:
    compiler = compiler_of(st.compile(fn))
    bound = compiler.signature.bind(*args)
    bound.apply_defaults()
    return compiler.trace(bound)


def transformed(p: Program, kind: str, args: Sequence[Any]) -> tuple[Any, Sequence[Any]] | None:
    """A program under a transform and its arguments; None where that makes no sense or does not compile yet."""
    if (kind, p.name) in GAPS:
        return None
    if kind == "gradient":
        fn = st.value_and_grad(half_square(p.fn), argnums=p.differentiable)
        return (fn, args) if p.differentiable else None
    if kind == "vmap":
        in_dims = tuple([0 if i in p.mapped else None for i in range(len(args))])
        stacked = [np.stack([a, a]) if i in p.mapped else a for i, a in enumerate(args)]
        return (st.vmap(p.fn, in_dims=in_dims), stacked) if p.mapped else None
    if kind == "in place":
        return (p.in_place, args) if p.in_place is not None else None
    return p.fn, args


@needs_tools
@pytest.mark.parametrize("kind", ["forward", "in place", "vmap", "gradient"])
def test_every_program_computes_what_it_does_natively(kind: str, rng: np.random.Generator) -> None:
    texts, cases, tolerances = [], [], []
    for p in all_programs():
        found = transformed(p, kind, p.inputs(rng))
        if found is None:
            continue
        trace_ = traced(*found)
        texts.append(to_mlir(trace_.graph))
        if len(texts[-1]) > LONG:
            continue
        arrays = [np.asarray(x.value) for x in trace_.leaves if x.input is not None]
        cases.append((p.name, optimize(trace_.graph), arrays))
        tolerances.append(max(p.tolerance, 1e-9))
    assert cases
    accept(texts)
    for (name, graph, arrays), tolerance, got in zip(cases, tolerances, through_mlir(cases), strict=True):
        for g, w in zip(got, executable(graph)(contiguous(arrays)), strict=True):
            assert (g.dtype, g.shape) == (w.dtype, w.shape), name
            scale = float(np.max(np.abs(np.asarray(w, np.float64)), initial=0.0))
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance * scale, err_msg=name)


# -- compile(backend="mlir") -------------------------------------------------------------------------------------------


@needs_tools
def test_compile(rng: np.random.Generator) -> None:
    @st.compile(backend="mlir")
    def f(x: Any, y: Any) -> Any:
        return {"distance": np.sqrt(x * x + y * y).T, "sum": np.sum(x, axis=1)}

    x, y = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    for left in (x, np.asfortranarray(x), rng.normal(size=(6, 8))[::-2, ::2]):
        for _ in range(2):
            got = f(left, y)
            np.testing.assert_allclose(got["distance"], np.hypot(left, y).T, rtol=1e-14)
            np.testing.assert_allclose(got["sum"], left.sum(axis=1), rtol=1e-14)
    assert len(compiler_of(f).history) == 3
    assert "lower" in f.explain().stats["phases"]
    assert "linalg.generic" in f.show(x, y, stage="mlir")
    assert "stager_mlir_function" in f.show(x, y, stage="llvm") or "longjmp" in f.show(x, y, stage="llvm")
    with pytest.raises(ValueError, match="no kernels"):
        f.show(x, y, stage="kernels")
    again = pickle.loads(pickle.dumps(f))
    assert compiler_of(again).backend == "mlir"
    np.testing.assert_array_equal(again(x, y)["distance"], f(x, y)["distance"])


@needs_tools
@pytest.mark.parametrize("order", ["C", "F"])
def test_writes_reach_the_caller_in_any_layout(order: Any, rng: np.random.Generator) -> None:
    @st.compile(backend="mlir")
    def f(A: Any, n: Any) -> Any:
        for i in range(1, n):
            A[i] += 2 * A[i - 1]
        return A[0, 0]

    A = np.array(rng.normal(size=(5, 3)), order=order)
    want = A.copy()
    for i in range(1, 5):
        want[i] += 2 * want[i - 1]
    assert f(A, 5) == want[0, 0]
    np.testing.assert_array_equal(A, want)


@needs_tools
def test_sizes_that_data_decides_and_empty_arrays(rng: np.random.Generator) -> None:
    f = st.compile(lambda x: (x[x > 0], np.cumsum(x), x.sum()), backend="mlir")
    for x in (rng.normal(size=9), -np.ones(4), np.zeros(0)):
        positive, sums, total = f(x)
        np.testing.assert_array_equal(positive, x[x > 0])
        np.testing.assert_allclose(sums, np.cumsum(x), rtol=1e-13)
        np.testing.assert_allclose(total, x.sum(), rtol=1e-12)


@needs_tools
def test_symbolic_dims_compile_once(rng: np.random.Generator) -> None:
    f = st.compile(lambda x, y: (x @ y, x[1:] * 2), backend="mlir", dynamic=True)
    for n, m in ((4, 3), (7, 2), (9, 5)):
        x, y = rng.normal(size=(n, m)), rng.normal(size=m)
        product, rest = f(x, y)
        np.testing.assert_allclose(product, x @ y, rtol=1e-13, atol=1e-15)
        np.testing.assert_array_equal(rest, x[1:] * 2)
    assert len(compiler_of(f).history) == 1


@needs_tools
def test_transforms_compile(rng: np.random.Generator) -> None:
    def f(x: Any) -> Any:
        s = 0.0
        for i in range(x.shape[0]):
            s = np.sin(s + x[i])
        return s

    xs = rng.normal(size=(3, 4))
    make = st.vmap(st.grad(f))
    np.testing.assert_allclose(st.compile(make, backend="mlir")(xs), st.compile(make)(xs), rtol=1e-12)


# -- errors ------------------------------------------------------------------------------------------------------------


@needs_tools
def test_errors_are_those_of_numpy() -> None:
    pick = st.compile(lambda x, i: x[i], backend="mlir")
    x = np.arange(3.0)
    assert pick(x, np.array([2, -3])).tolist() == [2.0, 0.0]
    with pytest.raises(IndexError, match="index 5 is out of bounds for axis 0 with size 3"):
        pick(x, np.array([1, 5]))
    assert pick(x, np.array([1, 0])).tolist() == [1.0, 0.0]


@needs_tools
def test_nothing_runs_behind_a_failed_check() -> None:
    """The loop would not end, and the memory not suffice, if a check were only remembered."""

    def fn(x: Any, n: Any) -> Any:
        def body(k: Any) -> list[Any]:
            check(elementwise.lt(k, 5), k, exception="OverflowError", text="{0} is too many")
            return [elementwise.add(k, 1)]

        (turns,) = control.while_loop([n], lambda k: elementwise.lt(k, 10**18), body)
        return turns, x

    x, n = np.zeros(2), np.asarray(2)
    graph = trace(fn, type_of(x), type_of(n))
    (made,) = compile_many([graph], Target.host(), name="k")
    loaded = engine().load(made.object, made.abi.externals)
    for _ in range(3):
        with pytest.raises(OverflowError, match="5 is too many"):
            call(made.abi, loaded.address("k"), [x, n])


@needs_tools
def test_a_loop_answers_ctrl_c() -> None:
    @st.compile(backend="mlir")
    def f(x: Any, n: Any) -> Any:
        while x[0] < n:
            x[0] += 1.0
        return x

    f(np.zeros(2), 3.0)
    x = np.zeros(2)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            f(x, 1e18)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert f(x, 3.0)[0] >= 3.0


@needs_tools
def test_too_much_memory_is_an_error() -> None:
    f = st.compile(lambda n, x: np.cumsum(np.full(n, x))[-1], backend="mlir", dynamic=True)
    assert f(5, 2.0) == 10.0
    for n, error in ((10**15, MemoryError), (2**61, ValueError)):  # as NumPy
        with pytest.raises(error):
            f(n, 2.0)
    assert f(7, 2.0) == 14.0


@needs_tools
def test_memory_of_a_loop_is_given_back(tmp_path: Path) -> None:
    """A loop that makes an array in each turn, and calls that fail half-way, do not grow the process."""
    code = """
import resource, numpy as np, stager as st
@st.compile(backend="mlir", dynamic=True)
def f(x, n, i):
    s = 0.0
    for k in range(n):
        y = np.cumsum(x * s)
        s = y[k % 2] + 1e-9
    return s + x[i]
x = np.zeros(100_000)
f(x[:3], 3, np.array(1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
f(x, 200, np.array(1))
for _ in range(200):
    try: f(x[:20_000], 0, np.array(10**6))
    except IndexError: pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    file = tmp_path / "program.py"
    file.write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, file], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20


@needs_tools
def test_an_op_that_calls_python_is_refused() -> None:
    graph = trace(lambda x: print_values(x, format="{0}") or x, type_of(np.zeros(2)))
    with pytest.raises(UnsupportedError, match='compile\\(backend="mlir"\\): the op print calls Python'):
        executable(graph, backend="mlir")


def test_absent_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    f = st.compile(lambda x: x + 41, backend="mlir")
    with pytest.raises(BackendError) as e:
        f(np.zeros(3))
    assert str(e.value) == (
        'compile(backend="mlir"): mlir-opt and mlir-translate of LLVM 22 not found (Debian: mlir-22-tools)'
    )


def test_tools_of_another_version_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("mlir-opt", "mlir-translate"):
        path = tmp_path / name
        path.write_text("#!/bin/sh\necho LLVM version 19.1.7\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackendError, match="mlir-opt is not of LLVM 22"):
        st.compile(lambda x: x + 43, backend="mlir")(np.zeros(3))


def test_backends_have_names() -> None:
    with pytest.raises(ValueError, match="backend is 'native' or 'mlir', not 'gcc'"):
        st.compile(lambda x: x, backend="gcc")
