"""Integers, graphs and masks: counting, labelling, sieving, clustering."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.programs.program import Program

Rng = np.random.Generator


def floyd_warshall_in_place(D: Any) -> None:
    for k in range(D.shape[0]):
        D[:] = np.minimum(D, D[:, k : k + 1] + D[k, :])


def floyd_warshall(D: Any) -> Any:
    D = D.copy()
    floyd_warshall_in_place(D)
    return D


def histogram(x: Any, low: Any, high: Any, bins: Any) -> Any:
    counts = np.zeros(bins, dtype=np.int64)
    for i in range(x.shape[0]):
        if low <= x[i] < high:
            counts[int((x[i] - low) / (high - low) * bins)] += 1
    return counts


def crc16(data: Any) -> Any:
    """CRC-16/CCITT, bit by bit."""
    crc = 0xFFFF
    for i in range(data.shape[0]):
        crc = crc ^ (int(data[i]) << 8)
        for _ in range(8):
            if crc & 0x8000:
                crc = ((crc << 1) ^ 0x1021) & 0xFFFF
            else:
                crc = (crc << 1) & 0xFFFF
    return crc


def sieve(n: Any) -> Any:
    prime = np.ones(n + 1, dtype=bool)
    prime[:2] = False
    i = 2
    while i * i <= n:
        if prime[i]:
            prime[i * i :: i] = False
        i += 1
    return prime


def connected_components(image: Any) -> Any:
    """Smallest label among the neighbours, until nothing changes; 0 is background."""
    n, m = image.shape
    labels = np.where(image, np.arange(1, n * m + 1).reshape(n, m), 0)
    changed = True
    while changed:
        changed = False
        for i in range(n):
            for j in range(m):
                if labels[i, j] > 0:
                    low = labels[i, j]
                    if i > 0 and 0 < labels[i - 1, j] < low:
                        low = labels[i - 1, j]
                    if j > 0 and 0 < labels[i, j - 1] < low:
                        low = labels[i, j - 1]
                    if i < n - 1 and 0 < labels[i + 1, j] < low:
                        low = labels[i + 1, j]
                    if j < m - 1 and 0 < labels[i, j + 1] < low:
                        low = labels[i, j + 1]
                    if low < labels[i, j]:
                        labels[i, j] = low
                        changed = True
    return labels


def kmeans(x: Any, centres: Any, steps: Any) -> Any:
    centres = centres.copy()
    k = centres.shape[0]
    for _ in range(steps):
        d = np.sum((x[:, None, :] - centres[None, :, :]) ** 2, axis=-1)
        nearest = np.argmin(d, axis=1)
        for c in range(k):
            mine = nearest == c
            if np.any(mine):
                centres[c] = np.mean(x[mine], axis=0)
    return centres


def mask_update(x: Any, threshold: Any) -> Any:
    """Reads and writes through a boolean mask."""
    y = x.copy()
    m = y > threshold
    y[m] = np.sqrt(y[m]) + threshold
    y[~m] *= 0.5
    return y


def insertion_sort(x: Any) -> Any:
    x = x.copy()
    for i in range(1, x.shape[0]):
        v = x[i]
        j = i - 1
        while j >= 0 and x[j] > v:
            x[j + 1] = x[j]
            j -= 1
        x[j + 1] = v
    return x


def arc_distance(theta1: Any, phi1: Any, theta2: Any, phi2: Any) -> Any:
    t = np.sin((theta2 - theta1) / 2.0) ** 2 + np.cos(theta1) * np.cos(theta2) * np.sin((phi2 - phi1) / 2.0) ** 2
    return 2.0 * np.arctan2(np.sqrt(t), np.sqrt(1.0 - t))


def _graph(rng: Rng, n: int) -> tuple[Any, ...]:
    D = rng.uniform(1.0, 10.0, (n, n))
    np.fill_diagonal(D, 0.0)
    return (D,)


def _clusters(rng: Rng, n: int) -> tuple[Any, ...]:
    middle = rng.uniform(-5.0, 5.0, (4, 3))
    x = middle[rng.integers(0, 4, n)] + 0.3 * rng.standard_normal((n, 3))
    return x, x[:4] + 0.0, 4


PROGRAMS = (
    Program(
        name="Floyd-Warshall", fn=floyd_warshall, in_place=floyd_warshall_in_place, make_inputs=_graph, size=8,
        bench_size=150, differentiable=(0,),
    ),
    Program(
        name="histogram loop", fn=histogram, make_inputs=lambda rng, n: (rng.standard_normal(n), -2.0, 2.0, 16),
        size=50, bench_size=100_000,
    ),
    Program(
        name="CRC-16", fn=crc16, make_inputs=lambda rng, n: (rng.integers(0, 256, n, dtype=np.uint8),), size=12,
        bench_size=10_000,
    ),
    Program(name="sieve", fn=sieve, make_inputs=lambda rng, n: (n,), size=60, bench_size=200_000, mapped=()),
    Program(
        name="connected components", fn=connected_components, make_inputs=lambda rng, n: (rng.random((n, n)) < 0.55,),
        size=8, bench_size=64,
    ),
    Program(
        name="k-means", fn=kmeans, make_inputs=_clusters, size=24, bench_size=2_000, differentiable=(0,), mapped=(0,),
    ),
    Program(
        name="mask update", fn=mask_update, make_inputs=lambda rng, n: (rng.uniform(0.1, 2.0, n), 0.7), size=15,
        bench_size=100_000, differentiable=(0,), mapped=(0,),
    ),
    Program(
        name="insertion sort", fn=insertion_sort, make_inputs=lambda rng, n: (rng.standard_normal(n),), size=9,
        bench_size=400, differentiable=(0,),
    ),
    Program(
        name="arc distance", fn=arc_distance,
        make_inputs=lambda rng, n: tuple(rng.uniform(0.1, 1.2, (4, n))), size=11, bench_size=50_000,
        differentiable=(0, 1, 2, 3), mapped=(0, 1, 2, 3),
    ),
)  # fmt: skip
