"""Loops over whole arrays whose elements run by themselves: blocks of elements take all turns, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen import blocks
from stager.ir.evaluate import evaluate_graph
from stager.pipeline import optimize
from tests.codegen.run import Runner, compiled


def horner(c: Any, x: Any) -> Any:
    y = np.zeros_like(x)
    for k in range(c.shape[0] - 1, -1, -1):
        y = y * x + c[k]
    return y


def roots(c: Any, x: Any) -> Any:
    y = x.copy()
    for _ in range(7):
        y = y - (y * y - x * c[0]) / (2.0 * y)
    return y


def coupled(c: Any, x: Any) -> Any:
    """Two arrays, and a number that every turn makes anew of its index."""
    y, v = x.copy(), np.ones_like(x)
    for k in range(c.shape[0]):
        h = c[k] * 0.01 * k
        v = v - h * np.sin(y)
        y = y + h * v
    return y * v


def rows(c: Any, x: Any) -> Any:
    """Elements of three numbers each, which meet in every turn."""
    y = x.reshape(-1, 3)
    for k in range(c.shape[0]):
        y = y * c[k] + np.sum(y * y, axis=1)[:, None] * 0.1
    return y


def weighted(c: Any, x: Any) -> Any:
    """Every turn adds to one and the same number of the gradient."""
    y = x.copy()
    for k in range(6):
        y = np.tanh(y * c[0] + c[1] * k)
    return y


def greatest(c: Any, x: Any) -> Any:
    y = x.copy()
    for k in range(c.shape[0]):
        y = np.maximum(y * c[k], x)
    return y


def taps(c: Any, image: Any) -> Any:
    """The loop around moves on by rows, that inside stays in them."""
    out = np.zeros((image.shape[0] - 4, 26))
    for i in range(5):
        for j in range(5):
            out += c[i] * c[j + 1] * image[i : i + out.shape[0], j : j + 26]
    return out


APART = [horner, roots, coupled, rows, weighted, greatest, taps]


def averaged(c: Any, x: Any) -> Any:
    """An element needs all others."""
    y = x.copy()
    for k in range(c.shape[0]):
        y = np.tanh(y - np.sum(y) * c[k] / y.shape[0])
    return y


def shifted(c: Any, x: Any) -> Any:
    """An element needs its neighbours."""
    y = x.copy()
    for k in range(c.shape[0]):
        y[1:] = y[1:] * c[k] + y[:-1] * y[1:]
    return y


def first(c: Any, x: Any) -> Any:
    """All elements need one of them."""
    y = x.copy()
    for k in range(c.shape[0]):
        y = np.sin(y * c[k] + y[3])
    return y


def transposed(c: Any, x: Any) -> Any:
    n = int(np.sqrt(x.shape[0]))
    y = x[: n * n].reshape(n, n)
    for k in range(c.shape[0]):
        y = np.sin(y.T * c[k])
    return y


TOGETHER = [averaged, shifted, first, transposed]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of arrays that are too small to be worth it."""
    for name, value in {"LARGE_BYTES": 0, "BLOCK_BYTES": 1 << 10, "LEAST_ELEMENTS": 16, "FEW_BLOCKS": 2}.items():
        monkeypatch.setattr(blocks, name, value)


def gradient(f: Callable[..., Any], c: Any, x: Any) -> Any:
    loss = st.value_and_grad(lambda c, x: 0.5 * np.sum(f(c, x) ** 2), argnums=(0, 1))
    return optimize(st.make_graph(loss)(c, x))


def inputs(n: int, dtype: Any = np.float64) -> tuple[Any, Any]:
    rng = np.random.default_rng(n)
    return rng.uniform(0.3, 0.9, 6).astype(dtype), rng.uniform(0.5, 1.5, n).astype(dtype)


def has_blocks(run: Runner) -> bool:
    return ": blocks of " in str(run.compiled.program)


@pytest.mark.parametrize("n", [960, 1021])
@pytest.mark.parametrize("f", APART)
@pytest.mark.usefixtures("small")
def test_gradients(f: Callable[..., Any], n: int) -> None:
    """For numbers of elements that blocks divide, and that they do not."""
    c, x = inputs(n if f is not rows else n // 3 * 3)
    args = (c, x if f is not taps else np.resize(x, (n // 30, 30)))
    graph = gradient(f, *args)
    run = compiled(graph)
    assert has_blocks(run)
    for got, want in zip(run(*args), evaluate_graph(graph, args), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("f", TOGETHER)
@pytest.mark.usefixtures("small")
def test_what_needs_others_is_left_alone(f: Callable[..., Any]) -> None:
    args = inputs(961)
    graph = gradient(f, *args)
    run = compiled(graph)
    for got, want in zip(run(*args), evaluate_graph(graph, args), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("small")
def test_single_precision() -> None:
    args = inputs(1021, np.float32)
    graph = gradient(horner, *args)
    run = compiled(graph)
    assert has_blocks(run)
    for got, want in zip(run(*args), evaluate_graph(graph, args), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5)


def test_bits_do_not_depend_on_threads() -> None:
    args = inputs(50_021)
    graph = gradient(horner, *args)
    many, one = compiled(graph), compiled(graph, threads=False)
    assert has_blocks(many)
    for a, b in zip(many(*args), one(*args), strict=True):
        np.testing.assert_array_equal(a, b)


def test_tapes_hold_one_block() -> None:
    """Six turns of 400 kB each are not kept whole: what is kept is told with the size of a block."""
    c, x = inputs(50_000)
    report = st.compile(st.grad(lambda c, x: 0.5 * np.sum(horner(c, x) ** 2), argnums=(0, 1))).explain(c, x)
    assert report.stats["arena"] < 1 << 20
    (kept,) = report.stats["kept"]
    assert "per block" in kept
    assert int(kept.split(": ")[1].split(" bytes")[0]) < 1 << 15


@pytest.mark.parametrize("turns", [0, 1, 5])
@pytest.mark.usefixtures("small")
def test_turns_that_only_the_call_knows(turns: int) -> None:
    def loss(x: Any, turns: Any) -> Any:
        y = x.copy()
        for _ in range(turns):
            y = np.sin(y) * x
        return np.sum(y * y)

    _, x = inputs(1021)
    f = st.compile(st.value_and_grad(loss, argnums=0))
    assert ": blocks of " in f.show(x, 3, stage="kernels")
    value, slope = f(x, turns)
    expected, want = st.value_and_grad(loss, argnums=0)(x, turns)
    np.testing.assert_allclose(value, expected, rtol=1e-13)
    np.testing.assert_allclose(slope, want, rtol=1e-12)


def test_sums_leave_the_rest_of_their_array() -> None:
    """Zeros that no sum is added to keep their sign."""

    def f(x: Any) -> Any:
        y, total = np.ones_like(x), np.full(12, -0.0)
        for k in range(9):
            y = np.sin(y) * x + y
            y = y * x
            total[k] += np.sum(y)
        return y, total

    x = np.full(50_000, 0.5)
    run = compiled(optimize(st.make_graph(f)(x)))
    assert has_blocks(run)
    y, total = run(x)
    want, sums = f(x)
    np.testing.assert_allclose(y, want, rtol=1e-13)
    np.testing.assert_allclose(total, sums, rtol=1e-13)
    np.testing.assert_array_equal(np.signbit(total), [False] * 9 + [True] * 3)
