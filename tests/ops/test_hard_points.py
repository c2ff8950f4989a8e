"""Derivatives where formulas break: ties, zeros, infinities, NaN, duplicate indices, empty arrays. One row per fact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.interpreters.stack import nearest_stage
from stager.ops import elementwise as e
from stager.ops.indexed import scatter
from stager.ops.reductions import reduce_max, reduce_min, reduce_prod
from stager.ops.scans import cummax, cumprod
from stager.ops.sort import sort
from tests.ops.transforms import evaluate, inner, pullback, pushforward

INF, NAN = np.inf, np.nan


def gradients(fn: Any, *xs: Any) -> list[Any]:
    """Derivatives of the sum of fn's result, in reverse mode; forward mode must agree."""
    arrays = [np.asarray(x, dtype=np.float64) for x in xs]
    needs = [True] * len(arrays)
    (out,) = evaluate(fn, *arrays)
    cts = list(evaluate(pullback(fn, needs), *arrays, np.ones(out.shape)))
    for k, a in enumerate(arrays):
        one = [j == k for j in range(len(arrays))]
        for at in np.ndindex(*a.shape):
            direction = np.zeros(a.shape)
            direction[at] = 1.0
            (tangent,) = evaluate(pushforward(fn, one), *arrays, direction)
            np.testing.assert_allclose(tangent.sum(), cts[k][at], rtol=1e-12, err_msg="forward and reverse disagree")
    return cts


POINTS: list[tuple[str, Any, list[Any], list[Any]]] = [
    # what, function, operands, derivative per operand
    ("x**0 is constant", e.pow_, [[0.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, np.log(2.0)]]),
    ("0**y for y > 0", e.pow_, [[0.0, 0.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 0.0]]),
    ("abs at 0", e.abs_, [[-1.0, 0.0, 2.0]], [[-1.0, 0.0, 1.0]]),
    ("sqrt at 0", e.sqrt, [[0.0]], [[INF]]),
    ("maximum shares a tie", e.maximum, [[1.0, 2.0, 3.0], [1.0, 1.0, 4.0]], [[0.5, 1.0, 0.0], [0.5, 0.0, 1.0]]),
    ("minimum shares a tie", e.minimum, [[1.0, 2.0, 3.0], [1.0, 1.0, 4.0]], [[0.5, 0.0, 1.0], [0.5, 1.0, 0.0]]),
    ("fmax passes a NaN by", e.fmax, [[NAN, 2.0], [1.0, NAN]], [[0.0, 1.0], [1.0, 0.0]]),
    ("hypot at the origin", e.hypot, [[0.0, 3.0], [0.0, 4.0]], [[0.0, 0.6], [0.0, 0.8]]),
    ("logaddexp of equal infinities", e.logaddexp, [[-INF, 0.0, INF], [-INF, -INF, INF]],
     [[0.5, 1.0, 0.5], [0.5, 0.0, 0.5]]),
    ("logaddexp of one infinity", e.logaddexp, [[INF, 0.0], [0.0, INF]], [[1.0, 0.0], [0.0, 1.0]]),
    ("tanh far out", e.tanh, [[-50.0, 50.0]], [[0.0, 0.0]]),
    ("prod without zeros", lambda x: reduce_prod(x, axes=(0,)), [[2.0, 3.0, 4.0]], [[12.0, 8.0, 6.0]]),
    ("prod with one zero", lambda x: reduce_prod(x, axes=(0,)), [[2.0, 0.0, 4.0]], [[0.0, 8.0, 0.0]]),
    ("prod with two zeros", lambda x: reduce_prod(x, axes=(0,)), [[0.0, 0.0, 4.0]], [[0.0, 0.0, 0.0]]),
    ("prod of two axes", lambda x: reduce_prod(x, axes=(0, 1)), [[[2.0, 0.0], [3.0, 1.0]]], [[[0.0, 6.0], [0.0, 0.0]]]),
    ("cumprod with zeros", lambda x: cumprod(x, axis=0, reverse=False), [[2.0, 0.0, 3.0]], [[1.0, 8.0, 0.0]]),
    ("max shares ties", lambda x: reduce_max(x, axes=(0,)), [[3.0, 1.0, 3.0, 3.0]], [[1 / 3, 0.0, 1 / 3, 1 / 3]]),
    ("min shares ties", lambda x: reduce_min(x, axes=(1,)), [[[1.0, 1.0], [2.0, 5.0]]], [[[0.5, 0.5], [1.0, 0.0]]]),
    ("max of infinities", lambda x: reduce_max(x, axes=(0,)), [[-INF, -INF]], [[0.5, 0.5]]),
    ("cummax shares ties", lambda x: cummax(x, axis=0, reverse=False), [[1.0, 1.0, 0.0, 2.0]], [[2.0, 1.0, 0.0, 1.0]]),
    ("sort at ties", lambda x: sort(x, axis=0, num_keys=1, stable=True)[0], [[2.0, 1.0, 2.0]], [[1.0, 1.0, 1.0]]),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "xs", "expected"), [p[1:] for p in POINTS], ids=[p[0] for p in POINTS])
def test_derivative(fn: Any, xs: list[Any], expected: list[Any]) -> None:
    for got, want in zip(gradients(fn, *xs), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)


def test_select_keeps_the_other_branch_out() -> None:
    """where(x > 0, sqrt(x), 0) guarded the usual way: no NaN from the branch not taken."""

    def guarded(x: Any) -> Any:
        positive = e.gt(x, 0.0)
        safe = e.select(positive, x, e.full_like(x, 1.0))
        return e.select(positive, e.sqrt(safe), e.zeros_like(x))

    (g,) = gradients(guarded, [-1.0, 0.0, 4.0])
    np.testing.assert_array_equal(g, [0.0, 0.0, 0.25])


SCATTERS: list[tuple[str, str, list[float], list[float]]] = [
    # combine, and the derivatives of the sum by x = [3, 1] and by updates = [2, 3, 3], written to places 0, 0, 0
    ("set", "the last write stays", [0.0, 1.0], [0.0, 0.0, 1.0]),
    ("add", "all count", [1.0, 1.0], [1.0, 1.0, 1.0]),
    ("mul", "the product of the others", [18.0, 1.0], [27.0, 18.0, 18.0]),
    ("max", "ties share", [1 / 3, 1.0], [0.0, 1 / 3, 1 / 3]),
    ("min", "ties share", [0.0, 1.0], [1.0, 0.0, 0.0]),
]


@pytest.mark.parametrize(("combine", "what", "by_x", "by_updates"), SCATTERS)
def test_scatter_with_duplicate_indices(combine: str, what: str, by_x: Any, by_updates: Any) -> None:
    idx = np.zeros(3, dtype=np.int64)
    where: dict[str, Any] = {"axes": (0,), "batch_dims": 0, "mode": "check", "combine": combine}
    got = gradients(lambda x, u: scatter(x, u, nearest_stage().lift(idx), **where), [3.0, 1.0], [2.0, 3.0, 3.0])
    np.testing.assert_allclose(got[0], by_x, err_msg=what)
    np.testing.assert_allclose(got[1], by_updates, err_msg=what)


def test_scatter_mul_with_zeros() -> None:
    """Every order is exact: no division anywhere."""
    idx = np.array([0, 1, 0, 0, 1])
    where: dict[str, Any] = {"axes": (0,), "batch_dims": 0, "mode": "check", "combine": "mul"}
    x, u = np.array([2.0, 5.0]), np.array([0.0, 3.0, 0.0, 7.0, 0.0])

    def fn(x: Any, u: Any) -> Any:
        return scatter(x, u, nearest_stage().lift(idx), **where)

    got = gradients(fn, x, u)
    np.testing.assert_array_equal(got[0], [0.0, 0.0])
    np.testing.assert_array_equal(got[1], [0.0, 0.0, 0.0, 0.0, 15.0])
    back = pullback(fn, [True, True])
    seconds = evaluate(pushforward(back, [False, True, False]), x, u, np.ones(2), np.array([1.0, 0, 0, 0, 0]))
    np.testing.assert_array_equal(seconds[1], [0.0, 0.0, 2.0 * 7.0, 0.0, 0.0])  # d2/du0 du2 = x0 u3


def test_negative_indices_are_the_same_place() -> None:
    idx = np.array([-1, 1])
    where: dict[str, Any] = {"axes": (0,), "batch_dims": 0, "mode": "check", "combine": "set"}
    got = gradients(lambda x, u: scatter(x, u, nearest_stage().lift(idx), **where), [3.0, 1.0], [2.0, 4.0])
    np.testing.assert_array_equal(got[0], [1.0, 0.0])
    np.testing.assert_array_equal(got[1], [0.0, 1.0])


@pytest.mark.parametrize("n", [0, 1])
def test_empty_products_and_scans(n: int) -> None:
    x = np.full(n, 3.0)
    for fn in (
        lambda v: reduce_prod(v, axes=(0,)),
        lambda v: cumprod(v, axis=0, reverse=True),
        lambda v: cummax(v, axis=0, reverse=False),
    ):
        (out,) = evaluate(fn, x)
        (ct,) = evaluate(pullback(fn, [True]), x, np.ones(out.shape))
        np.testing.assert_array_equal(ct, np.ones(n))


def test_nan_in_max_has_one_derivative_in_both_modes() -> None:
    x, t, u = np.array([1.0, NAN, 2.0]), np.array([0.5, 0.25, -1.0]), np.array(2.0)
    fn = lambda v: reduce_max(v, axes=(0,))  # noqa: E731
    (tangent,) = evaluate(pushforward(fn, [True]), x, t)
    (ct,) = evaluate(pullback(fn, [True]), x, u)
    np.testing.assert_allclose(inner([ct], [t]), inner([u], [tangent]))


@pytest.mark.parametrize("f", [
    np.linalg.norm, lambda x: np.linalg.norm(x, 3), lambda x: np.linalg.norm(x, axis=0),
    lambda x: np.linalg.norm(np.stack([x, x])), lambda x: np.linalg.vector_norm(x, ord=2),
])  # fmt: skip
def test_norm_of_zeros(f: Any) -> None:
    zeros = np.zeros(3)
    for g in (st.grad(f), st.compile(st.grad(f)), st.jacfwd(f)):
        np.testing.assert_array_equal(g(zeros), zeros)
    np.testing.assert_array_equal(st.vmap(st.grad(f))(zeros[None]), zeros[None])
    np.testing.assert_array_equal(st.hessian(f)(zeros), np.zeros((3, 3)))
    st.testing.check_grads(f, (np.array([0.0, 3.0, -4.0]),), modes=("fwd", "rev"), rtol=1e-4)


@pytest.mark.parametrize("x", [[1.0, 1.0], [-INF, -INF], [INF, 1.0], [1.0, -INF], [INF, INF]])
def test_second_order_of_logaddexp(x: Any) -> None:
    """What infinities share is constant, in every mode."""
    f, at = np.logaddexp.reduce, np.array(x)
    finite = np.isfinite(at).all()
    want = np.array([[0.25, -0.25], [-0.25, 0.25]]) if finite else np.zeros((2, 2))
    mixed = st.compile(st.jacrev(st.jacfwd(f)))
    for second in (st.hessian(f), st.jacrev(st.jacrev(f)), st.jacfwd(st.jacfwd(f)), mixed):
        np.testing.assert_allclose(second(at), want)


MANY = [
    ((16,), (0,)), ((17,), (0,)), ((300,), (0,)), ((3, 40), (1,)), ((40, 3), (0,)), ((3, 7, 4), (0, 2)),
    ((5, 1, 8), (0, 1, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "axes"), MANY)
def test_products_of_many_are_exact_with_zeros(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    for zeros in range(3):
        x = rng.uniform(0.8, 1.25, shape)
        x.reshape(-1)[rng.choice(x.size, zeros, replace=False)] = 0.0
        others = np.empty_like(x)
        for at in np.ndindex(*shape):
            rest = x.copy()
            rest[at] = 1.0
            kept = tuple([slice(None) if k in axes else i for k, i in enumerate(at)])
            others[at] = np.prod(rest[kept])
        ct = np.ones(np.prod(x, axis=axes).shape)
        (found,) = evaluate(pullback(lambda v: reduce_prod(v, axes=axes), [True]), x, ct)
        np.testing.assert_allclose(found, others, rtol=1e-12)


def test_second_derivatives_of_products_are_exact_with_zeros() -> None:
    x = np.linspace(0.5, 1.5, 18)
    x[4] = x[9] = 0.0
    expected = np.zeros((18, 18))
    for i, j in np.ndindex(18, 18):
        if i != j:
            expected[i, j] = np.prod(np.delete(x, [i, j]))
    np.testing.assert_allclose(st.compile(st.hessian(np.prod))(x), expected, rtol=1e-12)
