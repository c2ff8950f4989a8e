"""Python's builtins and `math` on traced values answer with Python's values, dtypes and kinds."""

from __future__ import annotations

import math

import numpy as np
import pytest

import stager as st

X = np.arange(6.0) + 0.5

CASES = [
    lambda x: min(x[0], x[1], 3.0),
    lambda x: max(x),
    lambda x: min(x, default=0.0),
    lambda x: sum(x),
    lambda x: sum(x, 10.0),
    lambda x: len(x),
    lambda x: abs(x[2] - 4),
    lambda x: int(x[3]) + 1,
    lambda x: float(x[3]) * np.float32(2),
    lambda x: round(2.5),
    lambda x: bool(x[0]),
    lambda x: any(v > 2 for v in x),
    lambda x: all([x[0] < 1, True]),
    lambda x: (isinstance(x, np.ndarray), isinstance(x[0], float), isinstance(x[0], int), isinstance(x, (list, tuple))),
    lambda x: [isinstance(i, int) for i in range(len(x))],
    lambda x: (math.floor(x[4]), math.ceil(x[4]), math.trunc(-x[4])),
    lambda x: (math.sqrt(x[4]), math.exp(x[0]), math.sin(x[1]), math.atan2(x[1], 2), math.hypot(3, x[3])),
    lambda x: (math.log(x[5]), math.log(x[5], 2), math.log2(x[5]), math.pow(x[1], 3), math.fabs(-x[1])),
    lambda x: (math.erf(x[0]), math.erfc(x[0]), math.gamma(x[2]), math.lgamma(x[2])),
    lambda x: (math.isnan(x[0]) or x[1] > 0, math.isclose(x[0], 0.5), math.degrees(x[0]), math.radians(x[0])),
    lambda x: (math.modf(-x[3]), math.frexp(x[4]), math.ulp(x[2]), math.remainder(x[4], -2), math.fmod(x[4], 2)),
    lambda x: (math.fsum(x), math.fsum([x[0], 1e30, x[1], -1e30]), math.dist(x[:2], (x[3], 2)), math.hypot(*x)),
    lambda x: (math.hypot(3e200 * x[0], 4e200 * x[0], 0.0), math.dist(x, x), math.hypot(x[0])),
    lambda x: (np.float32(x[2]), np.int64(x[3]), complex(2, 1)),
    lambda x: list(reversed(x)),
    lambda x: [a * i for i, a in enumerate(x, 1)],
    lambda x: [a * b for a, b in zip(x, x[::-1], strict=True)],
    lambda x: sorted([3, 1, 2]),
    lambda x: list(map(lambda v: v * 2, [x[0], x[1]])),
    lambda x: dict(a=x[0], b=2)["a"],
    lambda x: np.array([x[0], 1, x[1] * 2]),
    lambda x: np.stack([x, x * 2]).sum(),
    lambda x: np.zeros(3) + x[0],
    lambda x: np.full(3, x[0]),
    lambda x: np.max([x[0], x[1]]),
    lambda x: 2.5 in x,
    lambda x: x[0] in (0.5, 3),
    lambda x: divmod(x[3], 2),
    lambda x: pow(x[3], 2),
    lambda x: f"{len(x)} elements",
]


def same(got, want):
    if isinstance(want, list | tuple):
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            same(g, w)
    elif isinstance(want, str):
        assert got == want
    else:
        np.testing.assert_allclose(got, want, rtol=1e-13)
        if not isinstance(want, bool | complex):
            assert type(got) is type(want), (got, want)


@pytest.mark.parametrize("f", CASES, ids=range(len(CASES)))
def test_builtin(f) -> None:
    same(st.compile(f)(X), f(X))


def test_derivatives_go_through_conversions() -> None:
    def f(x):
        return math.exp(float(x[0])) * max(x[1], 0.0) + sum([v * v for v in x])

    x = np.array([0.5, 2.0, 3.0])
    want = [math.exp(0.5) * 2 + 1, math.exp(0.5) + 4, 6.0]
    np.testing.assert_allclose(st.grad(f)(x), want)


def test_a_training_loop_with_gradients_inside() -> None:
    def loss(w, x, y):
        return np.mean((np.tanh(x @ w) - y) ** 2)

    def train(w, x, y, steps):
        momentum = np.zeros_like(w)
        history = np.zeros(steps)
        for k in range(steps):
            value, g = st.value_and_grad(loss)(w, x, y)
            momentum = 0.9 * momentum + g
            w = w - 0.1 * momentum
            history[k] = value
            if value < 1e-8:
                break
        return w, history

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(20, 3)), rng.normal(size=3)
    y = np.tanh(x @ np.array([1.0, -2.0, 0.5]))
    got, history = st.compile(train)(w, x, y, 30)

    m, expected = np.zeros(3), []
    for _ in range(30):
        t = np.tanh(x @ w)
        expected.append(np.mean((t - y) ** 2))
        m = 0.9 * m + x.T @ (2 / 20 * (t - y) * (1 - t * t))
        w = w - 0.1 * m
    np.testing.assert_allclose(got, w, rtol=1e-10)
    np.testing.assert_allclose(history, expected, rtol=1e-10)
