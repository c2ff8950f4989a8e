"""Dense and sparse linear algebra by hand: factorisations in place, triangular and banded solves, iterations."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.programs.program import Program

Rng = np.random.Generator


def cholesky_in_place(A: Any) -> None:
    A[0, 0] = np.sqrt(A[0, 0])
    for i in range(1, A.shape[0]):
        for j in range(i):
            A[i, j] -= np.dot(A[i, :j], A[j, :j])
            A[i, j] /= A[j, j]
        A[i, i] -= np.dot(A[i, :i], A[i, :i])
        A[i, i] = np.sqrt(A[i, i])


def cholesky(A: Any) -> Any:
    L = A.copy()
    cholesky_in_place(L)
    return np.tril(L)


def lu_in_place(A: Any) -> None:
    n = A.shape[0]
    for k in range(n - 1):
        A[k + 1 :, k] /= A[k, k]
        A[k + 1 :, k + 1 :] -= A[k + 1 :, k : k + 1] * A[k, k + 1 :]


def lu(A: Any) -> Any:
    A = A.copy()
    lu_in_place(A)
    return A


def gram_schmidt(A: Any) -> Any:
    """QR by modified Gram-Schmidt."""
    A = A.copy()
    n = A.shape[1]
    Q = np.zeros_like(A)
    R = np.zeros((n, n))
    for k in range(n):
        R[k, k] = np.sqrt(np.dot(A[:, k], A[:, k]))
        Q[:, k] = A[:, k] / R[k, k]
        for j in range(k + 1, n):
            R[k, j] = np.dot(Q[:, k], A[:, j])
            A[:, j] -= Q[:, k] * R[k, j]
    return Q, R


def forward_substitution(L: Any, b: Any) -> Any:
    x = np.zeros_like(b)
    for i in range(b.shape[0]):
        x[i] = (b[i] - np.dot(L[i, :i], x[:i])) / L[i, i]
    return x


def back_substitution(U: Any, b: Any) -> Any:
    n = b.shape[0]
    x = np.zeros_like(b)
    for i in range(n - 1, -1, -1):
        x[i] = (b[i] - np.dot(U[i, i + 1 :], x[i + 1 :])) / U[i, i]
    return x


def thomas(lower: Any, diagonal: Any, upper: Any, rhs: Any) -> Any:
    """Tridiagonal solve; `lower[0]` and `upper[-1]` are not read."""
    n = rhs.shape[0]
    c = np.zeros_like(rhs)
    d = np.zeros_like(rhs)
    c[0] = upper[0] / diagonal[0]
    d[0] = rhs[0] / diagonal[0]
    for i in range(1, n):
        pivot = diagonal[i] - lower[i] * c[i - 1]
        c[i] = upper[i] / pivot
        d[i] = (rhs[i] - lower[i] * d[i - 1]) / pivot
    x = np.zeros_like(rhs)
    x[n - 1] = d[n - 1]
    for i in range(n - 2, -1, -1):
        x[i] = d[i] - c[i] * x[i + 1]
    return x


def sparse_matvec(indptr: Any, columns: Any, values: Any, x: Any) -> Any:
    """CSR: row i holds values[indptr[i]:indptr[i+1]]."""
    y = np.zeros(indptr.shape[0] - 1)
    for i in range(y.shape[0]):
        row = slice(indptr[i], indptr[i + 1])
        y[i] = np.dot(values[row], x[columns[row]])
    return y


def power_iteration(A: Any, v: Any, steps: Any) -> Any:
    v = v / np.sqrt(np.sum(v * v))
    for _ in range(steps):
        w = A @ v
        v = w / np.sqrt(np.sum(w * w))
    return np.dot(v, A @ v)


def conjugate_gradient(A: Any, b: Any, tolerance: Any) -> Any:
    x = np.zeros_like(b)
    r = b - A @ x
    p = r.copy()
    rs = np.dot(r, r)
    while rs > tolerance:
        q = A @ p
        alpha = rs / np.dot(p, q)
        x += alpha * p
        r -= alpha * q
        new = np.dot(r, r)
        p = r + (new / rs) * p
        rs = new
    return x


def levinson_durbin(r: Any) -> Any:
    """Toeplitz solve for the Yule-Walker equations."""
    n = r.shape[0]
    y = np.zeros_like(r)
    alpha = -r[0]
    beta = 1.0
    y[0] = -r[0]
    for k in range(1, n):
        beta *= 1.0 - alpha * alpha
        alpha = -(r[k] + np.dot(np.flip(r[:k]), y[:k])) / beta
        y[:k] += alpha * np.flip(y[:k])
        y[k] = alpha
    return y


def _positive(rng: Rng, n: int) -> Any:
    A = rng.standard_normal((n, n))
    return A @ A.T / n + 2.0 * np.eye(n)


def _dominant(rng: Rng, n: int) -> Any:
    return rng.standard_normal((n, n)) / n + 2.0 * np.eye(n)


def _bands(rng: Rng, n: int) -> tuple[Any, ...]:
    lower, upper, rhs = rng.standard_normal((3, n))
    return lower, 4.0 + rng.random(n) + np.abs(lower) + np.abs(upper), upper, rhs


def _csr(rng: Rng, n: int) -> tuple[Any, ...]:
    counts = rng.integers(0, 9, n)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return indptr, rng.integers(0, n, indptr[-1]), rng.standard_normal(indptr[-1]), rng.standard_normal(n)


def _spectrum(rng: Rng, n: int) -> tuple[Any, ...]:
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (Q * np.linspace(1.0, 4.0, n)) @ Q.T, rng.standard_normal(n)


PROGRAMS = (
    Program(
        name="Cholesky", fn=cholesky, in_place=cholesky_in_place, make_inputs=lambda rng, n: (_positive(rng, n),),
        size=7, bench_size=200, differentiable=(0,),
    ),
    Program(
        name="LU", fn=lu, in_place=lu_in_place, make_inputs=lambda rng, n: (_dominant(rng, n),), size=7, bench_size=200,
        differentiable=(0,),
    ),
    Program(
        name="Gram-Schmidt QR", fn=gram_schmidt, make_inputs=lambda rng, n: (rng.standard_normal((n + 2, n)),), size=5,
        bench_size=120, differentiable=(0,), tolerance=1e-8,
    ),
    Program(
        name="forward substitution", fn=forward_substitution,
        make_inputs=lambda rng, n: (np.tril(_dominant(rng, n)), rng.standard_normal(n)), size=8, bench_size=500,
        differentiable=(0, 1), mapped=(0, 1),
    ),
    Program(
        name="back substitution", fn=back_substitution,
        make_inputs=lambda rng, n: (np.triu(_dominant(rng, n)), rng.standard_normal(n)), size=8, bench_size=500,
        differentiable=(0, 1), mapped=(1,),
    ),
    Program(
        name="tridiagonal", fn=thomas, make_inputs=_bands, size=9, bench_size=20_000, differentiable=(0, 1, 2, 3),
        mapped=(0, 1, 2, 3),
    ),
    Program(
        name="sparse matvec", fn=sparse_matvec, make_inputs=_csr, size=12, bench_size=20_000, differentiable=(2, 3),
        mapped=(2, 3),
    ),
    Program(
        name="power iteration", fn=power_iteration, make_inputs=lambda rng, n: (*_spectrum(rng, n), 20), size=6,
        bench_size=200, differentiable=(0, 1), mapped=(1,),
    ),
    Program(
        name="conjugate gradient", fn=conjugate_gradient, make_inputs=lambda rng, n: (*_spectrum(rng, n), 1e-20),
        size=6, bench_size=200, differentiable=(1,), mapped=(1,), tolerance=1e-8,
    ),
    Program(
        name="Levinson-Durbin", fn=levinson_durbin,
        make_inputs=lambda rng, n: (0.8 ** np.arange(1, n + 1) * (1.0 + 0.01 * rng.random(n)),), size=7, bench_size=400,
        differentiable=(0,), tolerance=1e-8,
    ),
)  # fmt: skip
