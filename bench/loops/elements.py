"""Programs that touch one element at a time and branch on it: what numba was made for. Both compile the same text."""

from __future__ import annotations

from typing import Any

import numpy as np


def quickselect(a: Any, k: Any) -> Any:
    a = a.copy()
    lo, hi = 0, a.shape[0] - 1
    while lo < hi:
        pivot = a[(lo + hi) // 2]
        i, j = lo, hi
        while i <= j:
            while a[i] < pivot:
                i += 1
            while a[j] > pivot:
                j -= 1
            if i <= j:
                t = a[i]
                a[i] = a[j]
                a[j] = t
                i += 1
                j -= 1
        if k <= j:
            hi = j
        elif k >= i:
            lo = i
        else:
            lo = hi = k
    return a[k]


def union_find(parent: Any, edges: Any) -> Any:
    parent = parent.copy()
    for e in range(edges.shape[0]):
        a, b = edges[e, 0], edges[e, 1]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        if a != b:
            parent[a] = b
    return parent


def longest_common_subsequence(a: Any, b: Any) -> Any:
    n, m = a.shape[0], b.shape[0]
    t = np.zeros((n + 1, m + 1), np.int64)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            if a[i - 1] == b[j - 1]:
                t[i, j] = t[i - 1, j - 1] + 1
            else:
                t[i, j] = max(t[i - 1, j], t[i, j - 1])
    return t[n, m]


def jacobi_eigenvalues(A: Any, sweeps: Any) -> Any:
    A = A.copy()
    n = A.shape[0]
    V = np.eye(n)
    for _ in range(sweeps):
        for p in range(n - 1):
            for q in range(p + 1, n):
                if A[p, q] != 0.0:
                    theta = (A[q, q] - A[p, p]) / (2.0 * A[p, q])
                    t = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
                    if theta < 0.0:
                        t = -t
                    c = 1.0 / np.sqrt(t * t + 1.0)
                    s = t * c
                    for k in range(n):
                        x, y = A[k, p], A[k, q]
                        A[k, p] = c * x - s * y
                        A[k, q] = s * x + c * y
                    for k in range(n):
                        x, y = A[p, k], A[q, k]
                        A[p, k] = c * x - s * y
                        A[q, k] = s * x + c * y
                    for k in range(n):
                        x, y = V[k, p], V[k, q]
                        V[k, p] = c * x - s * y
                        V[k, q] = s * x + c * y
    return np.diag(A), V


def _symmetric(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    A = rng.standard_normal((n, n))
    return A + A.T, 3


PROGRAMS: tuple[tuple[str, Any, Any, int], ...] = (
    ("quickselect", quickselect, lambda rng, n: (rng.standard_normal(n), n // 2), 20_000),
    ("union-find", union_find, lambda rng, n: (np.arange(n), rng.integers(0, n, (2 * n, 2))), 5_000),
    (
        "longest common subsequence",
        longest_common_subsequence,
        lambda rng, n: (rng.integers(0, 4, n), rng.integers(0, 4, n)),
        600,
    ),
    ("Jacobi eigenvalues", jacobi_eigenvalues, _symmetric, 40),
)
"""Name, function, inputs of (generator, size), size."""
