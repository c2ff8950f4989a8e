"""`compile(..., dynamic=...)`: one piece of code for any size, and sizes as the Python integers that they are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

import stager as st

Function = Callable[..., Any]

# One piece of code serves all sizes.
ANY_SIZE: dict[str, Function] = {
    "half": lambda x: x * (len(x) / 2),
    "math.sqrt": lambda x: x * math.sqrt(len(x)),
    "math.ceil": lambda x: x * math.ceil(len(x) / 3),
    "np.log2": lambda x: x * np.log2(x.shape[0]),
    "float": lambda x: x * float(len(x)),
    "int": lambda x: x * len(x) - -len(x),
    "np.float32": lambda x: x / np.float32(len(x)),
    "np.int64": lambda x: x * np.int64(len(x)),
    "square": lambda x: x * len(x) ** 2,
    "power": lambda x: x + 2.0 ** len(x),
    "fraction": lambda x: x * (1.0 / (len(x) + 1)),
    "half of it": lambda x: x * (len(x) * 0.5 + 0.25),
    "floor of a float": lambda x: x + len(x) // 2.0 + len(x) % 1.5,
    "divmod": lambda x: x * divmod(len(x), 3)[1],
    "shift": lambda x: x * (len(x) >> 1) + (len(x) << 2),
    "isinstance": lambda x: x if isinstance(len(x), int) and not isinstance(len(x), float) else x + 1,
    "array of sizes": lambda x: np.array([len(x), 2.0]) * x[:1],
    "rounded slice": lambda x: x[: round(len(x) / 3)],
    "root slice": lambda x: x[: int(len(x) ** 0.5)],
    "at most five": lambda x: x[: min(len(x), 5)],
    "at least five": lambda x: np.zeros(max(len(x), 5)),
    "last": lambda x: x[len(x) - 1] + x[-len(x)],
    "roll": lambda x: np.roll(x, 1) + np.roll(x, -3),
    "array_split": lambda x: np.array_split(x, 3),
    "stack": lambda x: np.stack([x, np.ones(len(x))]),
    "edge": lambda x: np.pad(x, 2, mode="edge"),
    "wrap": lambda x: np.pad(x, (3, 1), mode="wrap"),
    "reflect": lambda x: np.pad(x, (4, 5), mode="reflect"),
    "symmetric": lambda x: np.pad(x, (4, 5), mode="symmetric"),
    "percentile": lambda x: np.percentile(x, 30),
    "quantiles": lambda x: np.quantile(x, [0.2, 0.35], method="midpoint"),
    "median": lambda x: np.median(x),
    "convolve": lambda x: np.convolve(x, np.array([1.0, 2.0])),
    "sorted": lambda x: np.sort(x)[::-1] + np.argsort(-x),
    "gradient": lambda x: np.diff(x) * np.ones(len(x))[1:],
    "below the middle": lambda x: np.where(np.arange(len(x)) < len(x) // 2, x, 0),
    "size": lambda x: x.size * x.shape[0] + x.nbytes,
}

# Code for some of the sizes: the answer of a comparison, or the value itself, is a guard.
SOME_SIZES: dict[str, Function] = {
    "truth": lambda x: x if len(x) else x + 1,
    "not": lambda x: x if not len(x) else x + 1,
    "even": lambda x: x if len(x) % 2 == 0 else x + 1,
    "chain": lambda x: x if 2 < len(x) < 8 else x + 1,
    "float comparison": lambda x: np.where(len(x) > 4.5, x, x + 1),
    "shape": lambda x: x if x.shape == (5,) else x + 1,
    "shape differs": lambda x: x if x.shape != (5,) else x + 1,
    "among": lambda x: x if len(x) in (5, 6) else x + 1,
    "text": lambda x: x if str(len(x)) == "5" else x + 1,
    "f-string": lambda x: x if f"{len(x)}" == "5" else x + 1,
    "list": lambda x: x * [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11][len(x)],
    "dict": lambda x: x * {10: 1, 7: 2, 5: 3, 3: 4, 2: 5}[len(x)],
    "absolute": lambda x: x * abs(len(x) - 6),
    "factorial": lambda x: x * math.factorial(len(x)),
    "integer root": lambda x: x * math.isqrt(len(x)),
    "bits": lambda x: x * (len(x) & (len(x) - 1)),
    "list of elements": lambda x: np.array([x[i] * 2 for i in range(len(x))]),
    "sum of elements": lambda x: sum(x[i] for i in range(len(x))),
    "fold": lambda x: x[: len(x) // 2 * 2].reshape(-1, 2).sum(1),
    "rows": lambda x: x.reshape(2, -1) * 2,
    "exactly ten": lambda x: x.reshape(2, 5) * 2,
    "split": lambda x: np.split(x, 2),
    "stack on ten": lambda x: np.stack([x, np.ones(10)]),
    "windows": lambda x: sliding_window_view(x, 5).sum(1),
    "long kernel, valid": lambda x: np.convolve(x, np.arange(5.0), "valid"),
    "long kernel, same": lambda x: np.convolve(x, np.arange(5.0), "same"),
    "correlate": lambda x: np.correlate(x, np.arange(5.0), "full"),
    "partition": lambda x: np.sort(np.partition(x, 4)),
    "element": lambda x: x[3] + x[-4],
    "polyval": lambda x: np.polyval(x, 2.0),
    "covariance": lambda x: np.cov(x),
    "delete": lambda x: np.delete(x, 1),
    "insert": lambda x: np.insert(x, 1, 5.0),
    "linspace": lambda x: np.linspace(0.0, 1.0, len(x)),
}
SIZES = (10, 7, 5, 3, 2)


def equal(got: Any, want: Any) -> None:
    if isinstance(want, list | tuple):
        assert len(got) == len(want)
        for a, b in zip(got, want, strict=True):
            equal(a, b)
        return
    assert np.asarray(got).dtype == np.asarray(want).dtype
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def same_as_numpy(f: Function, compiled: Function, x: Any) -> None:
    try:
        want = f(x)
    except (ValueError, IndexError) as e:
        with pytest.raises(type(e)):
            compiled(x)
        return
    equal(compiled(x), want)


@pytest.mark.parametrize("name", ANY_SIZE)
def test_one_piece_of_code(name: str) -> None:
    f = ANY_SIZE[name]
    compiled = st.compile(f, dynamic=("f64[n]",))
    for n in SIZES:
        same_as_numpy(f, compiled, np.arange(float(n)) * 1.5)
    assert str(compiled.explain(np.zeros(4))).count("float64[") == 1


@pytest.mark.parametrize("name", SOME_SIZES)
def test_guarded_sizes(name: str) -> None:
    f = SOME_SIZES[name]
    compiled = st.compile(f, dynamic=("f64[n]",))
    for n in (*SIZES, *SIZES):
        same_as_numpy(f, compiled, np.arange(float(n)) * 1.5)


def test_sizes_promote_as_python_integers() -> None:
    f: Function = lambda x: x * len(x) + x.size  # noqa: E731
    x = np.arange(4, dtype=np.float32)
    equal(st.compile(f, dynamic=("f32[n]",))(x), f(x))


def test_under_transforms() -> None:
    def f(x: Any) -> Any:
        y = np.roll(x, 1) * (len(x) / 2)
        if len(x) % 2 == 0:
            y = y.reshape(-1, 2).sum(1)
        return (np.pad(y, 1, mode="reflect") ** 2).sum() / math.sqrt(len(x))

    gradient = st.compile(st.grad(f), dynamic=("f64[n]",))
    lanes = st.compile(st.vmap(f), dynamic=("f64[b,n]",))
    for n in SIZES:
        x = np.linspace(1.0, 2.0, n)
        numeric = [(f(x + h) - f(x - h)) / 2e-6 for h in np.eye(n) * 1e-6]
        np.testing.assert_allclose(gradient(x), numeric, rtol=1e-6)
        rows = np.stack([x, x + 1, x * 2])
        np.testing.assert_allclose(lanes(rows), [f(r) for r in rows], rtol=1e-12)


def test_two_sizes() -> None:
    def f(a: Any, b: Any) -> Any:
        return a.reshape(-1) @ b.reshape(-1) / a.size if a.shape == b.shape else a.sum() * len(b) / len(a)

    compiled = st.compile(f, dynamic=("f64[n,m]", "f64[k,m]"))
    for n, m, k in ((3, 4, 3), (3, 4, 5), (2, 2, 2), (6, 2, 3)):
        a, b = np.ones((n, m)), np.full((k, m), 2.0)
        equal(compiled(a, b), f(a, b))


@pytest.mark.parametrize("name", ["solve", "inv", "det", "cholesky", "qr", "slogdet"])
def test_linear_algebra_of_any_size(name: str) -> None:
    def f(a: Any, b: Any) -> Any:
        regular = a @ a.T + np.eye(len(a))
        return np.linalg.solve(regular, b) if name == "solve" else getattr(np.linalg, name)(regular)

    compiled = st.compile(f, dynamic=("f64[n,n]", "f64[n]"))
    for n in (4, 2, 5):
        a = np.random.default_rng(n).normal(size=(n, n))
        for got, want in zip(np.atleast_1d(compiled(a, a[0])), np.atleast_1d(f(a, a[0])), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)
    assert len(compiled.explain(a, a[0]).entries) == 1


def test_code_that_symbols_do_not_fit_is_made_for_the_sizes_of_the_call() -> None:
    def f(x: Any) -> Any:
        y = np.zeros(2)
        for i in range(3):
            y = x * i if i else y
        return y

    compiled = st.compile(f, dynamic=("f64[n]",))
    for n in (2, 3):
        equal(compiled(np.ones(n)), f(np.ones(n)))
    with pytest.raises(ValueError, match="broadcast"):
        st.compile(lambda x: x + np.ones(3) @ np.ones((3, 4)), dynamic=("f64[n]",))(np.ones(2))


def test_a_slice_of_an_argument_whose_size_is_computed() -> None:
    f: Function = lambda x: (x[: int(x[0])], x[int(x[1]) :][::2])  # noqa: E731
    for dynamic in (None, ("f64[n]",)):
        compiled = st.compile(f, dynamic=dynamic)
        for first in (1.0, 3.0):
            x = np.array([first, 2.0, 3.0, 4.0, 5.0])
            equal(compiled(x), f(x))


def test_what_only_the_run_knows() -> None:
    fold: Function = lambda x: x[x > 0].reshape(-1, 2).sum(1)  # noqa: E731
    four: Function = lambda x: x[x > 0].reshape(2, 2)  # noqa: E731
    smooth: Function = lambda x: np.convolve(x[x > 0], np.array([1.0, 2.0, 1.0]), "same")  # noqa: E731
    x = np.array([1.0, -1.0, 2.0, 3.0, 4.0])
    for f in (fold, four, smooth):
        equal(st.compile(f)(x), f(x))
    with pytest.raises(ValueError, match="cannot reshape"):
        st.compile(fold)(x[:-1])
    with pytest.raises(ValueError, match="cannot reshape"):
        st.compile(four)(x[:-2])
    with pytest.raises(ValueError, match="fewer than the 3 of the second"):
        st.compile(smooth)(x[:3])


def test_a_size_given_as_a_type_is_never_fixed() -> None:
    with pytest.raises(TypeError, match="Python integer is needed where the size is n"):
        st.make_graph(lambda x: x * math.factorial(len(x)))("f64[n]")


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "?"])
def test_convolutions(mode: Any, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    for n, m in ((7, 3), (3, 7), (4, 4), (5, 1), (6, 2)):
        x, w = (rng.integers(0, 3, k).astype(dtype) for k in (n, m))
        for f in (np.convolve, np.correlate):
            equal(st.compile(lambda x, w, f=f: f(x, w, mode))(x, w), f(x, w, mode))


def test_a_weight_that_is_not_finite_stays_where_it_is_used() -> None:
    x, w = np.arange(1.0, 6.0), np.array([np.nan, 1.0, np.inf])
    for mode in ("full", "same", "valid"):
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(
                st.compile(lambda x, w, mode=mode: np.convolve(x, w, mode))(x, w), np.convolve(x, w, mode)
            )
