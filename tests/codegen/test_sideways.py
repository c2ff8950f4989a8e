"""Loops over columns: the turns become the shared axis of one nest where lanes along them are cheaper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.ir.evaluate import evaluate_graph
from stager.pipeline import optimize


def program(f: Callable[..., Any], *args: Any) -> str:
    return str(compile_graph(optimize(st.make_graph(f)(*args)), Target.host()).program)


def project(A: Any, q: Any) -> Any:
    A = A.copy()
    r = np.zeros(A.shape[1])
    for j in range(A.shape[1]):
        r[j] = np.dot(q, A[:, j])
        A[:, j] -= q * r[j]
    return A, r


def from_the_right(A: Any, q: Any) -> Any:
    A = A.copy()
    r = np.zeros(A.shape[1])
    for j in range(A.shape[1] - 1, 0, -1):
        r[j] = np.dot(q, A[:, j]) + j
        A[:, j] -= q * r[j]
    return A, r


def every_third(A: Any, q: Any) -> Any:
    A = A.copy()
    for j in range(1, A.shape[1], 3):
        A[:, j] = (A[:, j] - np.max(A[:, j])) * q
    return A


def triangle(A: Any, q: Any) -> Any:
    A = A.copy()
    for k in range(A.shape[1]):
        for j in range(k + 1, A.shape[1]):
            A[:, j] -= np.dot(A[:, k], A[:, j]) * A[:, k] * 0.01
    return A


def gram_schmidt(A: Any, q: Any) -> Any:
    A = A.copy()
    Q = np.zeros_like(A)
    for k in range(A.shape[1]):
        Q[:, k] = A[:, k] * q
        for j in range(k + 1, A.shape[1]):
            A[:, j] -= Q[:, k] * np.dot(Q[:, k], A[:, j]) * 0.01
    return A, Q


def down_the_column(A: Any, q: Any) -> Any:
    A = A.copy()
    for j in range(A.shape[1]):
        for i in range(1, A.shape[0]):
            A[i, j] = A[i, j] - 0.5 * A[i - 1, j]
    return A


def over_rows(A: Any, q: Any) -> Any:
    A = A.copy()
    for i in range(A.shape[0]):
        A[i] -= np.sum(A[i]) * 0.1
    return A


def of_the_left_neighbour(A: Any, q: Any) -> Any:
    A = A.copy()
    for j in range(1, A.shape[1]):
        A[:, j] -= q * np.dot(A[:, j - 1], q) * 0.1
    return A


def checked(A: Any, q: Any) -> Any:
    A = A.copy()
    for j in range(A.shape[1]):
        assert np.dot(q, A[:, j]) < 1e9
        A[:, j] -= q
    return A


ALL = [
    project,
    from_the_right,
    every_third,
    triangle,
    gram_schmidt,
    down_the_column,
    over_rows,
    of_the_left_neighbour,
    checked,
]


@pytest.mark.parametrize("shape", [(9, 5), (40, 70), (33, 130)])
@pytest.mark.parametrize("f", ALL)
def test_columns(f: Any, shape: tuple[int, int], rng: np.random.Generator) -> None:
    A, q = rng.standard_normal(shape), rng.standard_normal(shape[0])
    got, want = st.compile(f)(A, q), f(A, q)
    for g, w in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
        np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("f", [project, gram_schmidt])
def test_sizes_that_only_the_call_knows(f: Any, rng: np.random.Generator) -> None:
    compiled = st.compile(f, dynamic=True)
    for shape in ((12, 50), (7, 3), (70, 12)):
        A, q = rng.standard_normal(shape), rng.standard_normal(shape[0])
        got, want = compiled(A, q), f(A, q)
        for g, w in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
            np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-11)


def test_single_precision_and_threads(rng: np.random.Generator) -> None:
    A, q = rng.standard_normal((50, 700)).astype(np.float32), rng.standard_normal(50).astype(np.float32)
    for threads in (1, 2):
        for g, w in zip(st.compile(project, threads=threads)(A, q), project(A, q), strict=True):
            np.testing.assert_allclose(g, w, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("f", [project, from_the_right, gram_schmidt])
def test_which_become_nests(f: Any) -> None:
    text = program(f, np.ones((40, 70)), np.ones(40))
    assert " by " in text
    assert text.count("for ") == (f is gram_schmidt)


@pytest.mark.parametrize("f", [of_the_left_neighbour, checked])
def test_which_stay_loops(f: Any) -> None:
    assert "for " in program(f, np.ones((40, 70)), np.ones(40))


def test_rows_stay_rows() -> None:
    assert " by " not in program(over_rows, np.ones((40, 70)), np.ones(40))


def cubes(A: Any, q: Any) -> Any:
    """Its way back adds to the cotangent of q in every turn, in a leaf that reduces too."""
    A = A.copy()
    for j in range(A.shape[1]):
        A[:, j] = A[:, j] * q * np.sum(A[:, j] * A[:, j])
    return A


def by_the_first(A: Any, q: Any) -> Any:
    """Row 0 of what the turns change is what they all read: the sums go to a place of the array itself."""
    A = A.copy()
    for j in range(1, A.shape[1]):
        A[:, j] -= A[:, 0] * np.dot(A[:, 0], A[:, j]) * 0.1
    return A * q[:, None]


def adds_columns(A: Any, q: Any) -> Any:
    """The user's own sum: its order is the user's."""
    s = np.zeros(A.shape[0])
    A = A.copy()
    for j in range(A.shape[1]):
        A[:, j] = A[:, j] * np.dot(q, A[:, j])
        s += A[:, j]
    return A, s


def loss_of(f: Callable[..., Any]) -> Callable[..., Any]:
    def loss(A: Any, q: Any) -> Any:
        out = f(A, q)
        total = 0.0
        for part in out if isinstance(out, tuple) else (out,):
            total = total + np.sum(part * np.cos(part))
        return total

    return loss


@pytest.mark.parametrize("shape", [(9, 5), (7, 131)])
@pytest.mark.parametrize("f", [*ALL, cubes, by_the_first, adds_columns])
def test_gradients(f: Any, shape: tuple[int, int], rng: np.random.Generator) -> None:
    A, q, dA, dq = (rng.standard_normal(s) * 0.3 for s in (shape, shape[:1], shape, shape[:1]))
    gradient = st.grad(loss_of(f), argnums=(0, 1))
    got = st.compile(gradient)(A, q)
    want = evaluate_graph(st.make_graph(gradient)(A, q), [A, q])
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-10 * np.max(np.abs(w)))
    _, slope = st.jvp(loss_of(f), (A, q), (dA, dq))
    np.testing.assert_allclose(np.sum(got[0] * dA) + np.sum(got[1] * dq), slope, rtol=1e-9)
    step = 1e-6
    ahead, back = (loss_of(f)(A + s * dA, q + s * dq) for s in (step, -step))
    np.testing.assert_allclose(slope, (ahead - back) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize("f", [project, gram_schmidt, cubes])
def test_gradients_of_sizes_that_only_the_call_knows(f: Any, rng: np.random.Generator) -> None:
    gradient = st.grad(loss_of(f), argnums=(0, 1))
    compiled = st.compile(gradient, dynamic=True)
    for shape in ((12, 50), (7, 1), (5, 150)):
        A, q = rng.standard_normal(shape) * 0.3, rng.standard_normal(shape[0])
        for g, w in zip(compiled(A, q), gradient(A, q), strict=True):
            np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-10 * np.max(np.abs(w)))


def test_the_way_back_sums_over_columns() -> None:
    """No loop is left inside of the one over k, forward and back: what turns add to one place is a sum."""
    text = program(st.grad(loss_of(gram_schmidt)), np.ones((40, 70)), np.ones(40))
    assert text.count("for ") == 2
    assert "sum= sum" in text


def test_a_sum_of_the_user_keeps_its_order() -> None:
    assert "sum= sum" not in program(adds_columns, np.ones((40, 70)), np.ones(40))


def test_sums_do_not_depend_on_threads(rng: np.random.Generator) -> None:
    A, q = rng.standard_normal((200, 900)), rng.standard_normal(200)
    gradient = st.grad(loss_of(cubes), argnums=(0, 1))
    one, two = (st.compile(gradient, threads=n)(A, q) for n in (1, 2))
    for g, w in zip(one, two, strict=True):
        assert g.tobytes() == w.tobytes()
