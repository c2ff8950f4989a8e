"""`make demo`: NumPy functions, compiled, checked against NumPy and timed; then two things made of derivatives.

Every function below is what a NumPy user writes; the only word of stager in it is `st.compile` at the call. The digits
(examples/DATA.md) are read from disk, everything else is generated from a fixed seed.
"""

from __future__ import annotations

import gzip
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

os.environ.setdefault("STAGER_CACHE", "0")  # the table shows what compiling costs, so nothing may come from disk
if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import stager as st

HERE = Path(__file__).resolve().parent
PICTURES = Path("out/demo")
SECONDS_PER_TIMING = 0.6


def classify(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    """Forward pass of a two-layer network, to labels."""
    hidden = np.tanh(x @ w1 + b1)
    return np.argmax(hidden @ w2 + b2, axis=1)


def nearest_neighbours(x: Any, known: Any, labels: Any) -> Any:
    """Five nearest by Euclidean distance, majority vote (ties: the smaller digit)."""
    distance = np.sum(x * x, axis=1)[:, None] - 2.0 * (x @ known.T) + np.sum(known * known, axis=1)
    nearest = labels[np.argsort(distance, axis=1)[:, :5]]
    votes = np.sum(nearest[:, :, None] == np.arange(10), axis=1)
    return np.argmax(votes, axis=1)


def normal_cdf(x: Any) -> Any:
    """Abramowitz and Stegun 26.2.17."""
    k = 1.0 / (1.0 + 0.2316419 * np.abs(x))
    poly = k * (0.319381530 + k * (-0.356563782 + k * (1.781477937 + k * (-1.821255978 + k * 1.330274429))))
    tail = 0.3989422804014327 * np.exp(-0.5 * x * x) * poly
    return np.where(x > 0.0, 1.0 - tail, tail)


def black_scholes(spot: Any, strike: Any, years: Any) -> Any:
    """Prices of European calls and puts."""
    rate, volatility = 0.02, 0.30
    root = volatility * np.sqrt(years)
    d1 = (np.log(spot / strike) + (rate + 0.5 * volatility**2) * years) / root
    discounted = strike * np.exp(-rate * years)
    call = spot * normal_cdf(d1) - discounted * normal_cdf(d1 - root)
    return call, call + discounted - spot


def cross_entropy(logits: Any, labels: Any) -> Any:
    """Mean softmax cross-entropy, shifted by the row maximum."""
    top = np.max(logits, axis=1, keepdims=True)
    logsum = np.log(np.sum(np.exp(logits - top), axis=1)) + top[:, 0]
    return np.mean(logsum - logits[np.arange(logits.shape[0]), labels])


def layernorm(x: Any, gain: Any, bias: Any) -> Any:
    mean = np.mean(x, axis=-1, keepdims=True)
    variance = np.var(x, axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * gain + bias


def jacobi_step(u: Any, f: Any) -> Any:
    """One sweep for the Poisson equation, borders kept."""
    new = u.copy()
    new[1:-1, 1:-1] = 0.25 * (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - f[1:-1, 1:-1])
    return new


def pairwise_distances(x: Any, y: Any) -> Any:
    difference = x[:, None, :] - y[None, :, :]
    return np.sqrt(np.sum(difference * difference, axis=-1))


def moving_deviation(x: Any) -> Any:
    """Mean and standard deviation in a window of 24."""
    windows = sliding_window_view(x, 24)
    return np.mean(windows, axis=-1), np.std(windows, axis=-1)


def standardise_and_clip(x: Any) -> Any:
    """Columns to zero mean and unit deviation, outliers cut."""
    z = (x - np.mean(x, axis=0)) / np.std(x, axis=0)
    return np.clip(z, -3.0, 3.0)


def digits() -> tuple[Any, Any]:
    with gzip.open(HERE / "digits.csv.gz", "rt") as file:
        rows = np.loadtxt(file, delimiter=",")
    return rows[:, :64] / 16.0, rows[:, 64].astype(np.int64)


def random_features(x: Any, labels: Any, rng: np.random.Generator) -> tuple[Any, ...]:
    """A classifier without training loops: random hidden layer, least squares on top."""
    w1, b1 = rng.standard_normal((64, 512)) * 0.25, rng.standard_normal(512) * 0.5
    hidden = np.tanh(x @ w1 + b1)
    target = np.eye(10)[labels] - 0.1
    w2 = np.linalg.solve(hidden.T @ hidden + 0.1 * np.eye(512), hidden.T @ target)
    return w1, b1, w2, np.zeros(10)


Row = tuple[str, Callable[..., Any], tuple[Any, ...]]


def rows() -> tuple[list[Row], Any]:
    rng = np.random.default_rng(0)
    x, labels = digits()
    known, asked = slice(0, 1300), slice(1300, None)
    weights = random_features(x[known], labels[known], rng)
    n = 1_000_000
    prices = (rng.uniform(5.0, 30.0, n), rng.uniform(1.0, 100.0, n), rng.uniform(0.25, 10.0, n))
    table = [
        ("digits: network forward", classify, (x[asked], *weights)),
        ("digits: 5 nearest neighbours", nearest_neighbours, (x[asked], x[known], labels[known])),
        ("Black-Scholes, 1e6 options", black_scholes, prices),
        ("cross-entropy, 4096x256", cross_entropy, (rng.standard_normal((4096, 256)), rng.integers(0, 256, 4096))),
        ("layernorm, 2048x768", layernorm, (rng.standard_normal((2048, 768)), np.ones(768), np.zeros(768))),
        ("Jacobi step, 1500x1500", jacobi_step, tuple(rng.standard_normal((2, 1500, 1500)))),
        ("pairwise distances, 1000x1000x3", pairwise_distances, tuple(rng.standard_normal((2, 1000, 3)))),
        ("moving mean and deviation, 2e5", moving_deviation, (rng.standard_normal(200_000),)),
        ("standardise and clip, 20000x50", standardise_and_clip, (rng.standard_normal((20_000, 50)),)),
    ]
    return table, labels[asked]


def median_seconds(call: Callable[[], Any]) -> float:
    samples: list[float] = []
    started = time.perf_counter()
    while len(samples) < 5 or (time.perf_counter() - started < SECONDS_PER_TIMING and len(samples) < 200):
        start = time.perf_counter()
        call()
        samples.append(time.perf_counter() - start)
    return float(np.median(samples))


def progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def check(result: Any, expected: Any) -> None:
    for got, want in zip(
        result if isinstance(result, tuple) else (result,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)
        assert np.asarray(got).dtype == np.asarray(want).dtype


def main() -> None:
    table, truth = rows()
    progress("loading LLVM")
    start = time.perf_counter()
    st.compile(lambda x: x + 1)(np.ones(8))
    once = time.perf_counter() - start
    progress("")
    print(f"{'function':34} {'NumPy':>10} {'compiled':>10} {'ratio':>6} {'compile':>10} {'kernels':>8}")
    ratios = []
    for number, (name, fn, args) in enumerate(table, 1):
        progress(f"[{number}/{len(table)}] compiling {name}")
        compiled = st.compile(fn)
        start = time.perf_counter()
        result = compiled(*args)
        first = time.perf_counter() - start
        check(result, fn(*args))
        progress(f"[{number}/{len(table)}] timing {name}")
        plain = median_seconds(lambda: fn(*args))
        fast = median_seconds(lambda: compiled(*args))
        kernels = len(compiled.explain().stats["kernels"])
        ratios.append(fast / plain)
        progress("")
        times = f"{plain * 1e3:7.2f} ms {fast * 1e3:7.2f} ms {fast / plain:6.2f} {first * 1e3:7.0f} ms"
        print(f"{name:34} {times} {kernels:8}", flush=True)
        if result is not None and name.startswith("digits"):
            print(f"{'':34} right on {np.mean(result == truth):.1%} of {truth.size} unseen digits")
    print(f"\nevery result agrees with NumPy; geometric mean of the ratios {np.exp(np.mean(np.log(ratios))):.2f}")
    print(f"before the first row: {once * 1e3:.0f} ms once per process (with the disk cache on, mostly reading)\n")

    import simulation
    import training

    progress("training on the digits")
    training.main(*digits(), PICTURES)
    progress("fitting a simulation")
    simulation.main(PICTURES)
    print(f"pictures: {', '.join(sorted(p.name for p in PICTURES.glob('*.png'))) or 'none'} in {PICTURES}")


if __name__ == "__main__":
    main()
