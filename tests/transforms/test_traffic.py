"""What everyday functions, batched and differentiated, move: bytes and kernels against the least that they could."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.traffic import kernels, least, moved, plan, temporaries

Function = Callable[..., Any]
windows = np.lib.stride_tricks.sliding_window_view

# -- batched code ------------------------------------------------------------------------------------------------------


def written(t: Any, i: Any, u: Any) -> Any:
    t[i] = u
    return t


def added(t: Any, i: Any, u: Any) -> Any:
    np.add.at(t, i, u)
    return t


BATCHED: dict[str, tuple[Function, tuple[int | None, ...], tuple[str, ...]]] = {
    "rows of a shared table": (lambda t, i: t[i], (None, 0), ("f64[50,8]", "i64[9,20]")),
    "rows of own tables": (lambda t, i: t[i], (0, 0), ("f64[9,50,8]", "i64[9,20]")),
    "the same rows": (lambda t, i: t[i] * 2, (0, None), ("f64[9,50,8]", "i64[20]")),
    "columns": (lambda t, i: np.take(t, i, axis=1), (0, 0), ("f64[9,50,8]", "i64[9,5]")),
    "along an axis": (lambda t, i: np.take_along_axis(t, i, axis=1), (0, 0), ("f64[9,50,8]", "i64[9,50,3]")),
    "one element": (lambda t, i: t[i], (0, 0), ("f64[9,50]", "i64[9]")),
    "sort": (np.sort, (0,), ("f64[9,50]",)),
    "cumsum": (np.cumsum, (0,), ("f64[9,50]",)),
    "cumsum over rows": (lambda t: np.cumsum(t, axis=0), (0,), ("f64[9,50,8]",)),
    "cumprod": (np.cumprod, (0,), ("f64[9,50]",)),
    "running maximum": (np.maximum.accumulate, (0,), ("f64[9,50]",)),
    "sum": (np.sum, (0,), ("f64[9,50,8]",)),
    "mean over rows": (lambda t: np.mean(t, axis=0), (0,), ("f64[9,50,8]",)),
    "argmax": (lambda t: np.argmax(t, axis=-1), (0,), ("f64[9,50,8]",)),
    "variance": (np.var, (0,), ("f64[9,50]",)),
    "any": (lambda t: np.any(t > 0), (0,), ("f64[9,50]",)),
    "norm": (np.linalg.norm, (0,), ("f64[9,30]",)),
    "softmax": (lambda x: (lambda e: e / np.sum(e))(np.exp(x - np.max(x))), (0,), ("f64[9,50]",)),
    "matrix times vectors": (lambda a, x: a @ x, (None, 0), ("f64[40,30]", "f64[50,30]")),
    "vectors times matrix": (lambda a, x: x @ a, (None, 0), ("f64[40,30]", "f64[50,40]")),
    "transposed matrix": (lambda a, x: a.T @ x, (None, 0), ("f64[30,40]", "f64[50,30]")),
    "columns as vectors": (lambda a, x: a @ x, (None, 1), ("f64[40,30]", "f64[30,50]")),
    "matrices times vector": (lambda a, x: a @ x, (0, None), ("f64[9,40,30]", "f64[30]")),
    "matrices times vectors": (lambda a, x: a @ x, (0, 0), ("f64[9,40,30]", "f64[9,30]")),
    "matrix times matrices": (lambda a, x: a @ x, (None, 0), ("f64[40,30]", "f64[9,30,20]")),
    "matrices times matrix": (lambda a, x: a @ x, (0, None), ("f64[9,40,30]", "f64[30,20]")),
    "dot": (lambda a, x: a @ x, (0, 0), ("f64[9,30]", "f64[9,30]")),
    "outer": (np.outer, (0, 0), ("f64[9,30]", "f64[9,20]")),
    "searchsorted": (np.searchsorted, (None, 0), ("f64[40]", "f64[9,30]")),
    "differences": (np.diff, (0,), ("f64[9,30]",)),
    "moving average": (lambda a: windows(a, 5).mean(-1), (0,), ("f64[9,30]",)),
    "roll": (lambda a: np.roll(a, 3), (0,), ("f64[9,30]",)),
    "lower triangle": (np.tril, (0,), ("f64[9,30,30]",)),
}


@pytest.mark.parametrize("name", BATCHED)
def test_batched_is_one_kernel(name: str) -> None:
    """One kernel or call of a routine, which reads its operands and writes its result once."""
    f, dims, specs = BATCHED[name]
    p = plan(st.vmap(f, in_dims=dims), *specs)
    assert len(kernels(p)) == 1
    assert moved(p) <= 1.05 * least(p)
    assert not temporaries(p)


@pytest.mark.parametrize("f", [written, added])
def test_batched_writes_are_one_kernel_behind_the_copy_of_the_argument(f: Function) -> None:
    """`explain` names the copy, and why there is one; what is owned is written in place."""
    specs = ("f64[9,50]", "i64[9,5]", "f64[9,5]")
    p = plan(st.vmap(lambda t, i, u: f(t * 1.0, i, u)), *specs)
    assert len(kernels(p)) == 2
    assert [text.split(" for ")[0] for text in p.copies] == ["copy out0 <- x0 (3600 bytes)"]
    assert "the argument x0 keeps its content" in p.copies[0]
    owned = plan(st.vmap(lambda t, i, u: f(np.exp(t), i, u)), *specs)
    assert not owned.copies
    assert len(kernels(owned)) == 2


# -- derivatives -------------------------------------------------------------------------------------------------------


def normalised(x: Any, g: Any, b: Any) -> Any:
    return np.sum(((x - np.mean(x, 0)) / np.sqrt(np.var(x, 0) + 1e-5) * g + b) ** 3)


def labelled(x: Any, i: Any) -> Any:
    s = x - np.max(x, axis=1, keepdims=True)
    return -np.mean((s - np.log(np.sum(np.exp(s), axis=1, keepdims=True)))[np.arange(x.shape[0]), i])


def softmax(x: Any, t: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return np.sum(e / np.sum(e, axis=1, keepdims=True) * t)


def halves(x: Any, c: Any, s: Any) -> Any:
    a, b = x[:, :24], x[:, 24:]
    return np.sum(np.sin(np.concatenate([a * c - b * s, a * s + b * c], axis=-1)))


def in_turn(x: Any, c: Any, s: Any) -> Any:
    a, b, out = x[:, ::2], x[:, 1::2], np.empty_like(x)
    out[:, ::2], out[:, 1::2] = a * c - b * s, a * s + b * c
    return np.sum(np.sin(out))


def gates(x: Any) -> Any:
    a, b, c, d = np.split(x, 4, axis=1)
    return np.sum(np.tanh(a) * np.exp(b) + np.sin(c) * d)


def exchanged(x: Any) -> Any:
    y = x * 1.5
    y[:, 1:] += x[:, :-1]
    y[:, :-1] -= x[:, 1:]
    return np.sum(y**2)


def element_written(x: Any) -> Any:
    y = x * 2
    y[3] = np.sin(x[0])
    return np.sum(y**2)


M, V = "f64[64,48]", "f64[64]"
HALF = "f64[64,24]"
GRADIENTS: dict[str, tuple[Function, tuple[str, ...]]] = {
    "some columns": (lambda x: np.sum(np.sin(x[:, :9])), (M,)),
    "two halves": (lambda x: np.sum(np.sin(x[:, :24] * x[:, 24:])), (M,)),
    "an interior": (lambda x: np.sum(np.sin(x[1:-1, 1:-1])), (M,)),
    "joined": (lambda x, y: np.sum(np.sin(np.concatenate([x, y]))), (V, "f64[30]")),
    "stacked": (lambda x, y: np.sum(np.sin(np.stack([x, y * 2, x * y]))), (V, V)),
    "gates": (gates, (M,)),
    "rotated halves": (halves, (M, HALF, HALF)),
    "rotated pairs": (in_turn, (M, HALF, HALF)),
    "padded": (lambda x: np.sum(np.sin(np.pad(x, 2))), (M,)),
    "rolled": (lambda x: np.sum((np.roll(x, 1, axis=1) - x) ** 2), (M,)),
    "exchanged": (exchanged, (M,)),
    "an element written": (element_written, (V,)),
    "trapezoids": (lambda y: np.trapezoid(y**2, dx=0.1), (V,)),
    "trace of a product": (lambda a, b: np.trace(a @ b), ("f64[48,48]",) * 2),
    "diagonal": (lambda x: np.sum(np.sin(np.diag(x))), ("f64[48,48]",)),
    "triangle": (lambda x: np.sum(np.tril(x) ** 2), ("f64[48,48]",)),
    "norms of rows": (lambda x: np.sum(np.linalg.norm(x, axis=1)), (M,)),
    "variance of rows": (lambda x: np.sum(np.var(x, axis=1)), (M,)),
    "deviation of columns": (lambda x: np.sum(np.std(x, axis=0)), (M,)),
    "maximum of rows": (lambda x: np.sum(np.max(x, axis=1) ** 2), (M,)),
    "rectifier": (lambda x: np.sum(np.maximum(x, 0) ** 2), (M,)),
    "where": (lambda x: np.sum(np.where(x > 0, x * x, np.sin(x))), (M,)),
    "repeated": (lambda x: np.sum(np.repeat(x, 3, axis=0) ** 2), (M,)),
    "tiled": (lambda x: np.sum(np.tile(x, (2, 3)) ** 2), (M,)),
    "flipped": (lambda x: np.sum(np.flip(x) * x), (M,)),
    "laid out anew": (lambda x: np.sum(np.sin(x.T.reshape(8, 6, 64).transpose(1, 0, 2))), (M,)),
    "rows that are picked": (lambda x, i: np.sum(x[np.arange(64), i] ** 2), (M, "i64[64]")),
    "cross-entropy": (labelled, (M, "i64[64]")),
    "logsumexp": (lambda x: np.sum(np.log(np.sum(np.exp(x - np.max(x, axis=1, keepdims=True)), axis=1))), (M,)),
    "softmax": (softmax, (M, M)),
    "batch normalisation": (normalised, (M, "f64[48]", "f64[48]")),
    "maximum of blocks": (lambda x: np.sum(x.reshape(4, 8, 2, 8, 2).max(axis=(2, 4)) ** 2), ("f64[4,16,16]",)),
}
DERIVATIVES: dict[str, Callable[[Function, tuple[int, ...]], Function]] = {
    "gradient": lambda f, at: st.grad(f, argnums=at),
    "batched": lambda f, at: st.vmap(st.grad(f, argnums=at)),
}
PRODUCTS: dict[str, tuple[Function, tuple[str, ...]]] = {
    "few": (lambda x: np.sum(np.prod(x, axis=1)), ("f64[64,12]",)),
    "many": (np.prod, ("f64[3000]",)),
    "rows": (lambda x: np.sum(np.prod(x, axis=1)), ("f64[50,100]",)),
    "columns": (lambda x: np.sum(np.prod(x, axis=0)), ("f64[100,50]",)),
}
MOST = 1.3  # times the least
MORE = {
    ("batched", "rotated pairs"): 1.7,
    ("batched", "batch normalisation"): 4.1,
}  # kernels of their own per lane's sums


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("kind", DERIVATIVES)
def test_a_gradient_reads_and_writes_once(kind: str, name: str) -> None:
    f, specs = GRADIENTS[name]
    at = tuple([k for k, spec in enumerate(specs) if spec.startswith("f")])
    if kind == "batched":
        specs = tuple([s.replace("[", "[5,") for s in specs])
    p = plan(DERIVATIVES[kind](f, at), *specs)
    assert moved(p) <= MORE.get((kind, name), MOST) * least(p)
    assert not p.copies


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_gradient_of_a_product_walks_twice(name: str) -> None:
    p = plan(st.grad(PRODUCTS[name][0]), *PRODUCTS[name][1])
    assert moved(p) <= 2 * least(p)
    assert name != "few" or len(kernels(p)) == 1


def test_a_gradient_of_interp_adds_up_two_numbers_of_each_point() -> None:
    """The search for the piece is a kernel of its own, and so are the sums over pieces."""

    def f(x: Any, points: Any, values: Any) -> Any:
        return np.sum(np.interp(x, points, values))

    specs = ("f64[1000]", "f64[50]", "f64[50]")
    p, every = plan(st.grad(f), *specs), plan(st.grad(f, argnums=(0, 1, 2)), *specs)
    assert moved(p) <= 2.7 * least(p)
    assert moved(every) <= 6.6 * least(every)


@pytest.mark.parametrize("n", [64, "n"])
def test_rows_of_any_number_are_walked_as_well(n: Any) -> None:
    for name in ("gates", "rotated halves", "rotated pairs", "logsumexp", "softmax", "two halves"):
        f, specs = GRADIENTS[name]
        at = tuple(range(len(specs)))
        p = plan(st.grad(f, argnums=at), *[s.replace("[64", f"[{n}") for s in specs])
        assert moved(p) <= MOST * least(p), name
    assert moved(p := plan(st.grad(labelled), f"f64[{n},48]", f"i64[{n}]")) <= MOST * least(p)


def total_variation(x: Any) -> Any:
    return np.sum(np.abs(x[1:] - x[:-1])) + np.sum(np.abs(x[:, 1:] - x[:, :-1]))


def upwind(x: Any) -> Any:
    y = np.zeros_like(x)
    y[1:], y[0] = x[1:] - 0.5 * x[:-1], x[0]
    return np.sum(y**2)


def shifted(x: Any) -> Any:
    n, m = x.shape
    parts = [x[i : n - 1 + i, j : m - 2 + j] * (i + 2 * j + 1) for i in range(2) for j in range(3)]
    return np.sum(np.sin(sum(parts)))


NAMED: dict[str, tuple[Function, tuple[str, ...]]] = {
    "differences": (lambda x: np.sum((x[1:] - x[:-1]) ** 2), ("f64[n]",)),
    "differences of rows": (lambda x: np.sum((x[1:] - x[:-1]) ** 2), ("f64[n,m]",)),
    "differences of columns": (lambda x: np.sum((x[:, 1:] - x[:, :-1]) ** 2), ("f64[n,m]",)),
    "second differences": (lambda x: np.sum((x[2:] - 2 * x[1:-1] + x[:-2]) ** 2), ("f64[n]",)),
    "all but some": (lambda x: np.sum(np.sin(x[3:])), ("f64[n]",)),
    "an interior": (lambda x: np.sum(np.sin(x[1:-1, 1:-1])), ("f64[n,m]",)),
    "joined": (lambda x, y: np.sum(np.sin(np.concatenate([x, y]))), ("f64[n]", "f64[m]")),
    "joined parts": (lambda x: np.sum(np.sin(np.concatenate([x[1:], x[:1]]))), ("f64[n]",)),
    "padded": (lambda x: np.sum(np.sin(np.pad(x, 2))), ("f64[n,m]",)),
    "rolled": (lambda x: np.sum((np.roll(x, 1) - x) ** 2), ("f64[n]",)),
    "rolled columns": (lambda x: np.sum((np.roll(x, 1, axis=1) - x) ** 2), ("f64[n,m]",)),
    "trapezoids": (lambda y: np.trapezoid(y**2, dx=0.1), ("f64[n]",)),
    "exchanged": (exchanged, ("f64[n,m]",)),
    "upwind": (upwind, ("f64[n]",)),
    "total variation": (total_variation, ("f64[n,m]",)),
    "moving average": (lambda x: np.sum(np.sin(windows(x, 5).mean(-1))), ("f64[n]",)),
    "windows over two axes": (lambda x: np.sum(np.sin(windows(x, (3, 3)).sum((2, 3)))), ("f64[n,m]",)),
    "filtered": (lambda x, w: np.sum(np.sin((windows(x, (3, 3)) * w).sum((2, 3)))), ("f64[n,m]", "f64[3,3]")),
    "shifted": (shifted, ("f64[n,m]",)),
}
ONE_ARRAY = {"moving average": 2.0, "windows over two axes": 2.6, "filtered": 3.1, "shifted": 3.4}
"""The sines and cosines of what is shifted are computed once, into an array; and there are slabs around the inside."""


@pytest.mark.parametrize("name", NAMED)
def test_named_sizes_are_cut_as_numbers_are(name: str) -> None:
    f, specs = NAMED[name]
    p = plan(st.grad(f, argnums=tuple(range(len(specs)))), *specs)
    assert moved(p) <= ONE_ARRAY.get(name, MOST) * least(p)
    assert not p.copies


@pytest.mark.parametrize("name", ["windows over two axes", "filtered", "shifted"])
def test_windows_over_two_axes_add_no_array_of_windows(name: str) -> None:
    f, specs = NAMED[name]
    numbers = [s.replace("n,m", "64,64") for s in specs]
    p = plan(st.grad(f, argnums=tuple(range(len(specs)))), *numbers)
    assert moved(p) <= 2.6 * least(p)
    assert temporaries(p) <= 64 * 64 * 8
