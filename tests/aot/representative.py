"""Functions that stand for what a library can hold, with inputs: what every target must compute as NumPy does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import stager as st


@dataclass(frozen=True)
class Case:
    """A function of the library: its specs, a call's inputs and sizes, and what NumPy says."""

    function: Callable[..., Any]
    specs: tuple[str, ...]
    inputs: tuple[np.ndarray, ...]
    sizes: dict[str, int] = field(default_factory=dict)
    oracle: Callable[..., Any] | None = None
    rtol: float = 1e-12
    error: str = ""  # the text, where the call fails

    def expected(self) -> tuple[np.ndarray, ...]:
        """The inputs after the call, then the results."""
        inputs = [x.copy() for x in self.inputs]
        if self.error:
            return tuple(inputs)
        with np.errstate(all="ignore"):
            results = (self.oracle or self.function)(*inputs)
        results = results if isinstance(results, tuple) else () if results is None else (results,)
        return (*inputs, *[np.asarray(r) for r in results])


def transcendental(x):
    return np.exp(np.sin(x)) + np.tanh(x) * np.log1p(x * x) + np.arctan2(x, 2.0) + np.cbrt(x)


def rounded(x):
    return np.floor(x), np.rint(x), np.trunc(x), np.fmod(x, 1.5), np.where(x > 0, np.sqrt(np.abs(x)), -x)


def reductions(x):
    return x.sum(axis=0), x.mean(), x.max(axis=1), np.argmax(x, axis=1), np.cumsum(x, axis=1), (x * x).sum()


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def matmul(a, b):
    return a @ b


def cholesky(A):
    A[0, 0] = np.sqrt(A[0, 0])
    for i in range(1, A.shape[0]):
        for j in range(i):
            A[i, j] -= np.dot(A[i, :j], A[j, :j])
            A[i, j] /= A[j, j]
        A[i, i] -= np.dot(A[i, :i], A[i, :i])
        A[i, i] = np.sqrt(A[i, i])


def collatz(start):
    steps = np.zeros(start.shape[0], np.int64)
    for k in range(start.shape[0]):
        x = start[k]
        while x > 1:
            if x % 2 == 0:
                x = x // 2
            else:
                x = 3 * x + 1
            steps[k] += 1
    return steps


def ordered(x):
    return np.sort(x), np.argsort(x, kind="stable")


def integers(a, b):
    return a + b, a * b, a // b, a % b, a >> 3, (a ^ b) & 0x55, np.minimum(a, b)


def small_integers(a):
    return a + a, a.sum(), a.astype(np.float32) * 0.5


def loss(w, x):
    return (np.tanh(x @ w) ** 2).sum()


def pick(x, i):
    return x[i] * 2


def positives(x):
    y = x[x > 0]
    return y * 2, np.sort(y) - y.mean()


def long(x):
    return np.sqrt(x * x + 1) * 0.5


def _loss_gradient(w, x):
    t = np.tanh(x @ w)
    return x.T @ (2 * t * (1 - t * t))


def cases() -> dict[str, Case]:
    """By public name."""
    rng = np.random.default_rng(7)
    x = np.concatenate([rng.normal(size=30) * 3, [0.0, -0.0, 1e-300, 700.0, -700.0, 1e5, np.inf, -np.inf, np.nan]])
    square = rng.normal(size=(7, 7))
    positive = square @ square.T + 7 * np.eye(7)
    ints = rng.integers(-1000, 1000, size=21)
    divisors = np.where(ints % 5 == 0, 3, rng.integers(-9, 0, size=21))
    many = rng.normal(size=300_007)
    finite = x[:33]
    return {
        "transcendental": Case(transcendental, ("f64[n]",), (finite,), {"n": 33}),
        "transcendental32": Case(
            transcendental, ("f32[n]",), (finite[:30].astype(np.float32),), {"n": 30}, rtol=2e-6,
            oracle=lambda v: transcendental(v.astype(np.float64)).astype(np.float32),
        ),
        "rounded": Case(rounded, ("f64[39]",), (x,)),
        "reductions": Case(reductions, ("f64[n,m]",), (rng.normal(size=(5, 37)),), {"n": 5, "m": 37}),
        "softmax": Case(softmax, ("f32[n,19]",), (rng.normal(size=(4, 19)).astype(np.float32),), {"n": 4}, rtol=1e-5),
        "matmul": Case(
            matmul, ("f64[m,k]", "f64[k,n]"), (rng.normal(size=(33, 70)), rng.normal(size=(70, 41))),
            {"m": 33, "k": 70, "n": 41},
        ),
        "matmul32": Case(
            matmul, ("f32[5,6]", "f32[6,7]"),
            (rng.normal(size=(5, 6)).astype(np.float32), rng.normal(size=(6, 7)).astype(np.float32)), rtol=1e-5,
        ),
        "cholesky": Case(cholesky, ("f64[n,n]",), (positive,), {"n": 7}),
        "collatz": Case(collatz, ("i64[n]",), (np.array([1, 7, 27, 97, 6171]),), {"n": 5}),
        "ordered": Case(ordered, ("f64[n]",), (rng.permutation(np.repeat(rng.normal(size=40), 3)),), {"n": 120}),
        "integers": Case(integers, ("i64[n]", "i64[n]"), (ints, divisors), {"n": 21}),
        "small_integers": Case(
            small_integers, ("i16[n]",), (ints.astype(np.int16) * 30,), {"n": 21}
        ),
        "loss_grad": Case(
            st.grad(loss), ("f64[6]", "f64[n,6]"), (rng.normal(size=6), rng.normal(size=(9, 6))), {"n": 9},
            oracle=_loss_gradient,
        ),
        "pick": Case(pick, ("f64[m]", "i64[k]"), (finite, np.array([2, 0, -1])), {"m": 33, "k": 3}),
        "pick_wrong": Case(
            pick, ("f64[m]", "i64[k]"), (finite, np.array([2, -34])), {"m": 33, "k": 2},
            error="IndexError: index -34 is out of bounds for axis 0 with size 33",
        ),
        "positives": Case(positives, ("f64[n]",), (finite,), {"n": 33}),
        "long_": Case(long, ("f64[n]",), (many,), {"n": many.size}),
    }  # fmt: skip


def tolerance(case: Case, array: np.ndarray) -> float:
    """Integers are exact."""
    return case.rtol if array.dtype.kind == "f" else 0.0


@dataclass(frozen=True)
class Outcome:
    """What a call gave: the code, its text, the inputs as they are then and the results."""

    code: int
    text: str
    arrays: tuple[np.ndarray, ...]


def check(name: str, case: Case, got: Outcome) -> None:
    """A call's outcome against NumPy's."""
    assert (name, got.code == 0, got.text) == (name, not case.error, case.error or "no error")
    expected = case.expected()
    for g, e in zip(got.arrays, expected, strict=True):
        atol = 1e-300 if e.dtype.kind == "f" else 0
        np.testing.assert_allclose(g, e, rtol=tolerance(case, e), atol=atol, err_msg=name)
