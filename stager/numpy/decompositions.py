"""`np.linalg` on traced arrays: what elimination gives (det, inv, solve, cholesky), and reflections (qr).

Elimination is a loop in the graph over whole matrices, so any size compiles to one loop and every transform passes
through it; it is meant for small matrices. What iterates to convergence stands in `spectra.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stager.array import wrap
from stager.errors import UnsupportedError, describe
from stager.ir.dims import Dim, dim_min, product
from stager.numpy.comparisons import dynamic
from stager.numpy.creation_ranges import arange, eye
from stager.numpy.promotion import operand, result_dtype
from stager.numpy.registry import implements
from stager.ops.effects import check
from stager.ops.families import full
from stager.ops.reductions import reduce_and

_NO = np._NoValue


def square(a: Any) -> Any:
    x = dynamic(a)
    if x.ndim < 2:
        raise np.linalg.LinAlgError(f"{x.ndim}-dimensional array given. Array must be at least two-dimensional")
    if x.shape[-1] != x.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    return x


@implements(np.linalg.matrix_power)
def matrix_power(a: Any, n: Any) -> Any:
    """A square matrix to an integer power known while tracing, by squaring."""
    x = square(a)
    power = n.__index__()
    if power == 0:
        return np.broadcast_to(eye(x.shape[-1], dtype=x.dtype), x.shape).copy()
    if power < 0:
        x, power = inv(x), -power
    if power == 3:
        return np.matmul(np.matmul(x, x), x)
    result: Any = None
    z = x
    while power > 0:
        power, bit = divmod(power, 2)
        if bit:
            result = z if result is None else np.matmul(result, z)
        if power:
            z = np.matmul(z, z)
    return result if result is not x else x.copy()


# -- elimination ------------------------------------------------------------------------------------------------------


def each(f: Callable[..., Any], *stacks: Any) -> Any:
    """f of every matrix of stacks with the same leading axes."""
    import stager as st

    lead = stacks[0].type.shape[:-2]
    if not lead:
        return f(*stacks)
    flat = [s.reshape((product(lead), *s.type.shape[-2:])) for s in stacks]
    out = st.vmap(f)(*flat)
    shaped = [o.reshape((*lead, *o.type.shape[1:])) for o in (out if isinstance(out, tuple) else (out,))]
    return tuple(shaped) if isinstance(out, tuple) else shaped[0]


def floating(x: Any) -> Any:
    return x if x.type.dtype.is_float else x.astype(np.float64)


def _eliminated(A: Any) -> tuple[Any, Any, Any]:
    """(LU in one matrix, row order, sign of the permutation), with the largest element of a column as its pivot."""
    import stager as st

    n = A.shape[0]
    rows = arange(n)

    def step(k: Any, carry: Any) -> Any:
        M, order, sign = carry
        column = np.abs(M[:, k])
        p = np.argmax(np.where(rows >= k, column, -1.0))
        swap = np.where(rows == k, p, np.where(rows == p, k, rows))
        M, order = M[swap], order[swap]
        sign = np.where(p == k, sign, -sign)
        pivot = M[k, k]
        factor = np.where(rows > k, M[:, k] / np.where(pivot == 0, 1.0, pivot), 0.0).astype(M.dtype)
        M = M - factor[:, None] * np.where(rows > k, M[k, :], 0.0).astype(M.dtype)
        return np.where((rows[:, None] > k) & (rows[None, :] == k), factor[:, None], M), order, sign

    start = (A, rows, dynamic(A.dtype.type(1)))
    if n == 0:
        return start
    return st.fori_loop(0, n, step, start)  # type: ignore[no-any-return]


def _substituted(LU: Any, B: Any) -> Any:
    """Solve L U X = B with unit lower L and U in one matrix."""
    import stager as st

    n = LU.shape[0]
    if n == 0:
        return B
    rows = arange(n)

    def forward(k: Any, X: Any) -> Any:
        below = np.where(rows > k, LU[:, k], 0.0).astype(LU.dtype)
        return X - below[:, None] * X[k][None, :]

    def backward(i: Any, X: Any) -> Any:
        k = n - 1 - i
        line = X[k] / LU[k, k]
        X = np.where(rows[:, None] == k, line[None, :], X)
        above = np.where(rows < k, LU[:, k], 0.0).astype(LU.dtype)
        return X - above[:, None] * line[None, :]

    return st.fori_loop(0, n, backward, st.fori_loop(0, n, forward, B))


def _regular(LU: Any) -> None:
    pivots: Any = np.diagonal(LU, 0, -2, -1) != 0
    ok = reduce_and(pivots.raw(), axes=tuple(range(pivots.ndim)))
    check(ok, exception="LinAlgError", text="Singular matrix")


@implements(np.linalg.det)
def det(a: Any) -> Any:
    """Determinant."""
    return each(lambda A: _determinant(A), floating(square(a)))


def _determinant(A: Any) -> Any:
    LU, _, sign = _eliminated(A)
    return np.prod(np.diagonal(LU)) * sign


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    """Sign and logarithm of the determinant."""

    def one(A: Any) -> Any:
        LU, _, sign = _eliminated(A)
        d = np.diagonal(LU)
        return np.prod(np.sign(d)) * sign, np.sum(np.log(np.abs(d)))

    from numpy.linalg._linalg import SlogdetResult

    return SlogdetResult(*each(one, floating(square(a))))


def solved(A: Any, B: Any) -> tuple[Any, Any]:
    LU, order, _ = _eliminated(A)
    return _substituted(LU, B[order]), LU


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    """x with a x = b; LinAlgError for a singular matrix."""
    A, B = square(a), dynamic(b)
    d = result_dtype(A, B)
    d = d if d.is_float else result_dtype(A, B, 0.0)
    A, B = wrap(operand(A, d)), wrap(operand(B, d))
    vector = B.ndim == 1
    B = B[:, None] if vector else B  # type: ignore[index]
    if B.shape[-2] != A.shape[-1]:
        raise ValueError(
            "solve: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature (m,m),(m,n)->(m,n) "
            f"(size {B.shape[-2]} is different from {A.shape[-1]})"
        )
    lead = np.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    A, B = np.broadcast_to(A, (*lead, *A.shape[-2:])), np.broadcast_to(B, (*lead, *B.shape[-2:]))
    X, LU = each(solved, A, B)
    _regular(LU)
    return X[..., 0] if vector else X


@implements(np.linalg.inv)
def inv(a: Any) -> Any:
    """Inverse; LinAlgError for a singular matrix."""
    A = floating(square(a))
    unit = np.broadcast_to(eye(A.shape[-1], dtype=A.dtype), A.shape)
    X, LU = each(solved, A, unit)
    _regular(LU)
    return X


@implements(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """Lower (or upper) Cholesky factor; LinAlgError where the matrix is not positive definite."""
    import stager as st

    A = floating(square(a))
    n = A.shape[-1]
    rows = arange(n)

    def one(M: Any) -> Any:
        def step(k: Any, carry: Any) -> Any:
            S, L = carry
            line = np.where(rows >= k, S[:, k], 0.0).astype(S.dtype) / np.sqrt(S[k, k])
            L = np.where(rows[None, :] == k, line[:, None], L)
            return S - line[:, None] * line[None, :], L

        return st.fori_loop(0, n, step, (M, wrap(full(M.type.shape, 0, M.type.dtype))))[1]

    L = each(one, np.swapaxes(A, -1, -2) if upper else A)
    good: Any = np.diagonal(L, 0, -2, -1) > 0
    ok = reduce_and(good.raw(), axes=tuple(range(good.ndim)))
    check(ok, exception="LinAlgError", text="Matrix is not positive definite")
    return np.swapaxes(L, -1, -2) if upper else L


# -- orthogonal factors -----------------------------------------------------------------------------------------------


def reflected(A: Any, count: Dim) -> tuple[Any, Any, Any]:
    """(R in the upper triangle, reflectors as columns, their factors) by Householder reflections, signs as LAPACK's."""
    import stager as st

    m = A.shape[0]
    rows = arange(m)
    vectors = wrap(full((m, count), 0, A.type.dtype))
    factors = wrap(full((count,), 0, A.type.dtype))

    def step(k: Any, carry: Any) -> Any:
        R, V, betas = carry
        column = np.where(rows >= k, R[:, k], 0.0).astype(R.dtype)
        tail = np.sum(np.where(rows > k, column * column, 0.0)).astype(R.dtype)
        flat = tail == 0  # the column is one already: its own sign stays
        x = R[k, k]
        length = np.sqrt(np.where(flat, 1.0, tail + x * x)).astype(R.dtype)
        head = np.where(flat, 1.0, x + np.copysign(length, x)).astype(R.dtype)
        v = np.where(rows == k, head, np.where(rows > k, column, 0.0)).astype(R.dtype)
        beta = np.where(flat, 0.0, 2.0 / np.sum(v * v)).astype(R.dtype)
        R = R - beta * v[:, None] * (v @ R)[None, :]
        V = np.where(arange(count)[None, :] == k, v[:, None], V)
        return R, V, np.where(arange(count) == k, beta, betas)

    return st.fori_loop(0, count, step, (A, vectors, factors))  # type: ignore[no-any-return]


def orthogonal(V: Any, betas: Any, columns: Dim) -> Any:
    """The first columns of the product of the reflections."""
    import stager as st

    m, count = V.shape

    def step(i: Any, Q: Any) -> Any:
        k = count - 1 - i
        v = V[:, k]
        return Q - betas[k] * v[:, None] * (v @ Q)[None, :]

    return st.fori_loop(0, count, step, eye(m, columns, dtype=V.dtype))


@implements(np.linalg.qr)
def qr(a: Any, mode: str = "reduced") -> Any:
    """Orthogonal and upper triangular factor; mode "reduced", "complete" or "r"."""
    from numpy.linalg._linalg import QRResult

    if mode not in ("reduced", "complete", "r"):
        if mode == "raw":
            return refuse("qr", "mode 'raw' is LAPACK's own form; near: 'reduced', 'complete', 'r'")
        raise ValueError(f"Unrecognized mode '{mode}'")
    A = floating(dynamic(a))
    if A.ndim < 2:
        raise np.linalg.LinAlgError(f"{A.ndim}-dimensional array given. Array must be at least two-dimensional")
    m, n = A.type.shape[-2:]
    count = dim_min(m, n)
    kept = m if mode == "complete" else count

    def one(M: Any) -> Any:
        R, V, betas = reflected(M, count)
        R = np.triu(R[:kept])
        return R if mode == "r" else (orthogonal(V, betas, kept), R)

    found = each(one, A)
    return found if mode == "r" else QRResult(*found)


def refuse(name: str, reason: str) -> Any:
    raise UnsupportedError(describe(f"np.linalg.{name} is not supported on traced arrays: {reason}"))


def _refused(original: Any, reason: str) -> None:
    @implements(original)
    def refusing(*args: Any, **kwargs: Any) -> Any:
        return refuse(original.__name__, reason)


for _name in ("eig", "eigvals"):
    _refused(getattr(np.linalg, _name), "its results are complex; near: eigh and eigvalsh of symmetric matrices, svd")
