"""Built libraries, called from C without Python: as fast as the JIT's code, small, quick to load, call and build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench import libraries
from bench.measure import Budget
from bench.workload import Measured

GROUP = "built libraries"
JIT_BAR = 1.05  # or the spread that the run shows against itself


def add_one(x: Any) -> Any:
    return x + 1.0


def black_scholes(s: Any, k: Any, t: Any) -> Any:
    d1 = (np.log(s / k) + 0.06 * t) / (0.2 * np.sqrt(t))
    d2 = d1 - 0.2 * np.sqrt(t)
    cdf1, cdf2 = (0.5 * (1 + np.tanh(0.7978845608 * (d + 0.044715 * d**3))) for d in (d1, d2))
    return s * cdf1 - k * np.exp(-0.04 * t) * cdf2


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def total(x: Any) -> Any:
    return x.sum(), (x * x).sum()


def mlp(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, x: Any) -> Any:
    h = np.maximum(x @ w1 + b1, 0)
    h = np.maximum(h @ w2 + b2, 0)
    return h @ w3 + b3


def heat(u: Any) -> Any:
    u = u.copy()
    for _ in range(200):
        u[1:-1] = u[1:-1] + 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return u


def recurrence(x: Any, a: Any) -> Any:
    y = np.zeros_like(x)
    y[0] = x[0]
    for i in range(1, x.shape[0]):
        y[i] = a[i] * y[i - 1] + x[i]
    return y


MLP = ["f64[784,512]", "f64[512]", "f64[512,512]", "f64[512]", "f64[512,10]", "f64[10]"]
MLP_SHAPES = [(784, 512), (512,), (512, 512), (512,), (512, 10), (10,)]


def _mlp_inputs(batch: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=s) * 0.05 for s in (*MLP_SHAPES, (batch, 784))]


def _uniform(*shape: int, low: float = 0.5, high: float = 2.0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).uniform(low, high, shape)


def _speed(
    name: str,
    fn: Callable[..., Any],
    specs: list[str],
    inputs: Callable[[], list[np.ndarray[Any, Any]]],
    blas: Callable[[], str] | None = None,
) -> Measured:
    def run(budget: Budget) -> dict[str, Any]:
        row = libraries.against_jit(fn, specs, inputs(), budget, None if blas is None else blas())
        return row | {"bars": {"jit": max(JIT_BAR, row["spread"])}}

    return Measured(name=f"library: {name}", group=GROUP, bars={"jit": JIT_BAR}, run=run)


def _overhead(budget: Budget) -> dict[str, Any]:
    row = libraries.against_jit(add_one, ["f64[n]"], [np.arange(8.0)], budget)
    return {"times": {"stager": row["times"]["stager"]}, "failed": {}, "spread": row["spread"]}


def _salted(k: int) -> Callable[..., Any]:
    return lambda x: np.sqrt(x * x + (1.5 + k)) * 0.5


WORKLOADS = (
    _speed("black-scholes 1e5", black_scholes, ["f64[n]"] * 3, lambda: [_uniform(100_000) for _ in range(3)]),
    _speed("softmax of rows 1000x100", softmax, ["f64[n,m]"], lambda: [_uniform(1000, 100)]),
    _speed("two sums 1e6", total, ["f64[n]"], lambda: [_uniform(1_000_000)]),
    _speed("mlp forward, batch 1", mlp, [*MLP, "f64[n,784]"], lambda: _mlp_inputs(1)),
    _speed("mlp forward, batch 64", mlp, [*MLP, "f64[n,784]"], lambda: _mlp_inputs(64)),
    _speed("mlp forward, batch 64, BLAS", mlp, [*MLP, "f64[n,784]"], lambda: _mlp_inputs(64), libraries.numpys_blas),
    _speed("heat, 200 steps of 1e4", heat, ["f64[n]"], lambda: [_uniform(10_000)]),
    _speed("linear recurrence 1e5", recurrence, ["f64[n]"] * 2, lambda: [_uniform(100_000, high=1.0)] * 2),
    Measured(name="library: call of x + 1 on 8 doubles", group=GROUP, bars={"seconds": 50e-9}, run=_overhead),
    Measured(name="library: bytes of mlp forward", group=GROUP, bars={"bytes": 200 * 1024},
             run=lambda budget: libraries.size(mlp, [*MLP, "f64[n,784]"])),
    Measured(name="library: load of mlp forward", group=GROUP, bars={"seconds": 5e-3},
             run=lambda budget: libraries.load_time(mlp, [*MLP, "f64[n,784]"])),
    Measured(name="library: stager.build of a small function", group=GROUP, bars={"seconds": 0.5},
             run=lambda budget: libraries.build_time(_salted, ["f64[n]"], budget)),
    Measured(name="library: python -m stager build", group=GROUP, bars={"seconds": 0.5},
             run=lambda budget: libraries.command_time(add_one, ["f64[n]"], budget)),
)  # fmt: skip
