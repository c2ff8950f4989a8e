"""Eigenvalues, singular values and least squares: factors against what defines them, numbers against NumPy's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.runtime.structure import flatten, unflatten

R = np.random.default_rng(7)
TALL = R.standard_normal((5, 3))
SQUARE = R.standard_normal((4, 4))
LOW = R.standard_normal((5, 2)) @ R.standard_normal((2, 4))
MATRICES: dict[str, Any] = {  # of few shapes, so that code is shared
    "tall": TALL,
    "wide": TALL.T,
    "square": SQUARE,
    "one element": np.array([[-2.0]]),
    "one column": TALL[:, :1],
    "rank two": LOW[:, :3],
    "all ones": np.ones((4, 4)),
    "nothing but zeros": np.zeros((5, 3)),
    "unit": np.eye(4),
    "pairs": np.diag([2.0, 2.0, -1.0, -1.0]),
    "graded": np.diag([1e8, 1.0, 1.0, 1e-8]) @ SQUARE,
    "huge": 1e200 * TALL,
    "tiny": 1e-200 * TALL,
    "no rows": np.zeros((0, 3)),
    "single": TALL.astype(np.float32),
}


def close(got: Any, want: Any, scale: float = 1.0) -> None:
    want = np.asarray(want)
    eps = float(np.finfo(want.dtype).eps) if want.dtype.kind == "f" else 0.0
    assert np.shape(got) == want.shape
    assert np.asarray(got).dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=400 * eps, atol=400 * eps * scale)


def largest(x: Any) -> float:
    return float(np.abs(x).max(initial=0))


@pytest.mark.parametrize("name", MATRICES)
def test_svd(name: str) -> None:
    A = MATRICES[name]
    thin, whole = st.compile(lambda x: (np.linalg.svd(x, full_matrices=False), np.linalg.svd(x)))(A)
    for found, wanted in ((thin, np.linalg.svd(A, full_matrices=False)), (whole, np.linalg.svd(A))):
        U, s, Vt = found
        assert (U.shape, Vt.shape) == (wanted[0].shape, wanted[2].shape)
        close(s, wanted[1], largest(A))
        close(U.T @ U, np.eye(U.shape[1], dtype=A.dtype))
        close(Vt @ Vt.T, np.eye(Vt.shape[0], dtype=A.dtype))
        close(U[:, : len(s)] * s @ Vt[: len(s)], A, largest(A))
        assert (np.diff(s) <= 0).all()


@pytest.mark.parametrize("name", [n for n, A in MATRICES.items() if A.shape[0] == A.shape[1]])
def test_eigh(name: str) -> None:
    A = MATRICES[name]
    lower, upper = st.compile(lambda x: (np.linalg.eigh(x), np.linalg.eigh(x, "U")))(A)
    for (w, V), S in ((lower, np.tril(A) + np.tril(A, -1).T), (upper, np.triu(A) + np.triu(A, 1).T)):
        close(w, np.linalg.eigvalsh(S), largest(A))
        close(V.T @ V, np.eye(len(A)))
        close(V * w @ V.T, S, largest(A))


def several(x: Any) -> Any:
    return (
        np.linalg.pinv(x),
        np.linalg.pinv(x, rtol=0.1),
        np.linalg.matrix_rank(x),
        *np.linalg.lstsq(x, np.arange(1.0, 1 + x.shape[0], dtype=x.dtype)),
        *np.linalg.lstsq(x, np.stack([np.ones(x.shape[0], x.dtype), x[:, 0]], 1)),
        np.linalg.norm(x, 2),
        np.linalg.norm(x, -2),
        np.linalg.norm(x, "nuc", keepdims=True),
    )


@pytest.mark.parametrize("name", ["wide", "rank two", "nothing but zeros", "pairs", "tiny", "single"])
def test_against_numpy(name: str) -> None:
    A = MATRICES[name]
    for got, want in zip(st.compile(several)(A), several(A), strict=True):
        close(got, want, max(10 * largest(want), largest(A)))


def test_lstsq_of_nothing() -> None:
    for got, want in zip(
        st.compile(np.linalg.lstsq)(np.zeros((0, 3)), np.zeros(0)),
        np.linalg.lstsq(np.zeros((0, 3)), np.zeros(0)),
        strict=True,
    ):
        assert np.array_equal(got, want)


def test_conditions_and_tensors() -> None:
    def conditions(x: Any) -> Any:
        return [np.linalg.cond(x, p) for p in (None, 2, -2, 1, np.inf, "fro")]

    close(st.compile(conditions)(SQUARE), conditions(SQUARE))
    close(
        st.compile(np.linalg.tensorinv)(SQUARE.reshape(2, 2, 2, 2)), np.linalg.tensorinv(SQUARE.reshape(2, 2, 2, 2)), 10
    )
    args = SQUARE.reshape(2, 2, 4), TALL[:2, :2]
    close(st.compile(np.linalg.tensorsolve)(*args), np.linalg.tensorsolve(*args), 10)


def test_stacks_and_lanes() -> None:
    X = R.standard_normal((2, 3, 4, 3))
    close(st.compile(np.linalg.pinv)(X), np.linalg.pinv(X), 10)
    close(st.compile(np.linalg.svdvals)(X), np.linalg.svdvals(X))
    y = R.standard_normal(4)
    found = st.vmap(lambda x: np.linalg.lstsq(x, y)[0])(X[0])
    close(found, np.stack([np.linalg.lstsq(x, y)[0] for x in X[0]]), 10)


def least_squares_of(x: Any) -> Any:
    """The solution and the residuals, of which there is none or one: their sum is known to be a number."""
    solution, residuals, *_ = np.linalg.lstsq(x, x[:, 0] ** 2 + np.arange(5))
    return solution, residuals.sum()


DERIVATIVES: dict[str, Any] = {
    "eigenvalues": (lambda x: np.linalg.eigvalsh(x), SQUARE),
    "eigenvectors": (lambda x: np.linalg.eigh(x + x.T)[1] ** 2, SQUARE),
    "singular values": (np.linalg.svdvals, TALL),
    "singular vectors, tall": (lambda x: [v**2 for v in np.linalg.svd(x, full_matrices=False)], TALL),
    "singular vectors, wide": (lambda x: [v**2 for v in np.linalg.svd(x.T, full_matrices=False)], TALL),
    "singular vectors, square": (lambda x: [v**2 for v in np.linalg.svd(x)], SQUARE),
    "norms": (lambda x: np.linalg.norm(x, 2) + np.linalg.norm(x, "nuc") + np.linalg.cond(x), TALL),
    "pinv": (np.linalg.pinv, TALL),
    "pinv of low rank": (lambda x: np.linalg.pinv(LOW @ (np.eye(4) + x)), 0.1 * SQUARE),
    "lstsq": (lambda x: least_squares_of(x), TALL),
    "lstsq, wide": (lambda x: np.linalg.lstsq(x.T, np.arange(3.0))[0], TALL),
    "polyfit": (lambda x: np.polyfit(x[:, 0], x[:, 1], 2), TALL),
}


TWICE = ("eigenvalues", "singular values", "pinv of low rank")


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives(name: str) -> None:
    f, x = DERIVATIVES[name]
    along = R.standard_normal(x.shape)
    slope: Any = f
    for order in range(2 if name in TWICE else 1):
        agrees_with_differences(slope, x, along, forward=order == 0)
        slope = st.compile(lambda x, f=slope: st.jvp(f, (x,), (along,))[1])


def agrees_with_differences(f: Any, x: Any, along: Any, forward: bool, step: float = 6e-6) -> None:
    """Reverse mode, and forward mode in the same function, against central differences along a direction."""
    numeric = [
        (np.asarray(p, float) - np.asarray(m, float)) / (2 * step)
        for p, m in zip(flatten(f(x + step * along))[0], flatten(f(x - step * along))[0], strict=True)
    ]
    weights = [R.standard_normal(n.shape) for n in numeric]

    @st.compile
    def both(x: Any) -> Any:
        out, back = st.vjp(f, x)
        moved = flatten(st.jvp(f, (x,), (along,))[1])[0] if forward else []
        return moved, back(unflatten(flatten(out)[1], weights))[0]

    moved, backward = both(x)
    for g, n in zip(moved, numeric if forward else [], strict=True):
        np.testing.assert_allclose(g, n, rtol=2e-5, atol=2e-7)
    want = sum(np.vdot(w, n) for w, n in zip(weights, numeric, strict=True))
    np.testing.assert_allclose(np.vdot(backward, along), want, rtol=2e-5, atol=2e-7)


@pytest.mark.parametrize("x", [np.eye(3), np.ones((3, 3)), np.zeros((3, 3))], ids=["unit", "ones", "zeros"])
def test_derivatives_where_values_coincide(x: Any) -> None:
    """What does not depend on the basis of a common space: the trace, the sum of squares."""
    np.testing.assert_allclose(st.grad(lambda a: np.linalg.eigvalsh(a).sum())(x), np.eye(3), atol=1e-12)
    np.testing.assert_allclose(st.grad(lambda a: (np.linalg.svdvals(a) ** 2).sum())(x), 2 * x, atol=1e-12)
    assert np.isfinite(st.grad(lambda a: np.linalg.norm(a, "nuc"))(x)).all()


def test_columns_that_are_added_have_no_derivative() -> None:
    with pytest.raises(TypeError, match=r"full_matrices=False"):
        st.grad(lambda a: np.linalg.svd(a)[0].sum())(TALL)


def test_polyfit() -> None:
    x, y, w = np.linspace(-1, 2, 9), R.standard_normal((9, 2)), np.arange(1.0, 10)
    for f in (
        lambda x, y, w: np.polyfit(x, y, 3),
        lambda x, y, w: np.polyfit(x, y[:, 0], 1, w=w, full=True),
        lambda x, y, w: np.polyfit(x, y, 2, w=w, cov=True),
        lambda x, y, w: np.polyfit(x, y[:, 1], 2, cov="unscaled"),
    ):
        got, want = st.compile(f)(x, y, w), f(x, y, w)
        for g, v in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
            close(g, v, 10)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "f", [np.linalg.svd, np.linalg.pinv, lambda x: np.linalg.eigh(x[:3]), lambda x: np.linalg.lstsq(x, x[:, 0])[0]]
)
def test_what_does_not_converge(f: Any, bad: float) -> None:
    x = TALL.copy()
    x[1, 1] = bad
    for g in (st.functionalize(f), st.compile(f)):
        with pytest.raises(np.linalg.LinAlgError, match="did not converge"):
            g(x)


def test_named_sizes_and_libraries(tmp_path: Path) -> None:
    inverse = st.compile(np.linalg.pinv, dynamic="f64[n,m]")
    for shape in ((5, 3), (3, 5), (4, 4), (6, 1)):
        x = R.standard_normal(shape)
        close(inverse(x), np.linalg.pinv(x), 10)
    fit: Any = lambda x, y: np.linalg.lstsq(x, y)[0]  # noqa: E731
    st.build({"fit": (fit, ["f64[n,3]", "f64[n]"])}, tmp_path)
    fit = st.load(tmp_path / "libfit.so")
    y = np.arange(5.0)
    close(fit(TALL, y), np.linalg.lstsq(TALL, y)[0], 10)
    with pytest.raises(np.linalg.LinAlgError):
        fit(TALL * np.nan, y)
