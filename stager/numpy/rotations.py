"""Eigenvalues of symmetric matrices and singular values, by plane rotations until nothing is left to rotate (Jacobi).

One matrix at a time; `spectra.py` has NumPy's functions. The loops touch two rows per rotation, so a sweep over n
columns of m elements costs O(m n^2), and orthogonality and small singular values come out to working precision.
Derivatives do not go through the iterations: they are those of the equations that the result solves.

The steps of a loop give back copies, which cost nothing where the loop owns what it carries. Arrays that are written
and then left for others would have each of the nested loops traced, and compiled, for its first turn and for the rest.

Invariant: where eigenvalues or singular values coincide, vectors within their common space count as still. That is
right for everything that does not depend on the choice of a basis there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.numpy.creation_ranges import eye
from stager.transforms.custom import custom_jvp

MOST_SWEEPS = 60  # six to ten are usual


def _angle(over: Any, twice: Any) -> tuple[Any, Any, Any]:
    """(tangent, cosine, sine) of the smaller angle whose double has the cotangent over / twice."""
    zeta = over / twice
    t = np.copysign(1.0, zeta).astype(zeta.dtype) / (np.abs(zeta) + np.sqrt(1 + zeta * zeta))
    c = 1 / np.sqrt(1 + t * t)
    return t, c, c * t


def _swept(n: Any, rotate: Any, start: Any) -> Any:
    """Sweep over all pairs of n until a sweep rotates nothing. rotate(p, q, carry) -> (carry, whether it rotated)."""
    import stager as st

    if isinstance(n, int) and n < 2:
        return start

    def sweep(state: Any) -> Any:
        count, _, carry = state

        def row(p: Any, held: Any) -> Any:
            def pair(q: Any, inner: Any) -> Any:
                moved, now = inner
                now, did = rotate(p, q, now)
                return moved | did, now

            return st.fori_loop(p + 1, n, pair, held)

        moved, carry = st.fori_loop(0, n - 1, row, (np.bool_(False), carry))
        return count + 1, moved, carry

    return st.while_loop(lambda s: s[1] & (s[0] < MOST_SWEEPS), sweep, (0, np.bool_(True), start))[2]


def _reciprocal(x: Any) -> Any:
    """1 / x, and 0 where x is 0."""
    return np.where(x == 0, 0.0, 1 / np.where(x == 0, 1.0, x)).astype(x.dtype)


def _unit(A: Any) -> tuple[Any, Any]:
    """A scaled by a power of two to elements of at most one, so that squares neither overflow nor vanish; the scale."""
    most: Any = np.max(np.abs(A), initial=0)
    usual = (most > 0) & np.isfinite(most)
    scale = np.ldexp(np.ones((), A.dtype), np.where(usual, np.frexp(np.where(usual, most, 1.0))[1], 0))
    scale = scale.astype(A.dtype)
    return A / scale, scale


# -- symmetric eigenvalues --------------------------------------------------------------------------------------------


def _rotated_symmetric(A: Any) -> tuple[Any, Any]:
    """(ascending eigenvalues, eigenvectors as columns) of a symmetric matrix."""
    n = A.shape[0]
    scaled, scale = _unit(A)
    small = np.finfo(A.dtype).eps * np.sqrt(np.sum(scaled * scaled)) / max(1, 2 * int(n) if isinstance(n, int) else 32)

    def rotate(p: Any, q: Any, carry: Any) -> Any:
        S, V = carry
        x = S[p, q]
        turn = np.abs(x) > small

        def turned(S: Any, V: Any) -> Any:
            S, V = S.copy(), V.copy()
            a, b, x = S[p, p], S[q, q], S[p, q]
            t, c, s = _angle(b - a, 2 * x)
            first, second = c * S[p] - s * S[q], s * S[p] + c * S[q]
            first[p], first[q] = a - t * x, 0.0
            second[q], second[p] = b + t * x, 0.0
            S[p], S[q] = first, second
            S[:, p], S[:, q] = first, second
            u, v = c * V[p] - s * V[q], s * V[p] + c * V[q]
            V[p], V[q] = u, v
            return S, V

        import stager as st

        return st.cond(turn, turned, lambda S, V: (S, V), S, V), turn

    S, V = _swept(n, rotate, (scaled, eye(n, dtype=A.dtype)))
    w = np.diagonal(S) * scale
    order = np.argsort(w)
    return w[order], V[order].T


def _eigh_jvp(primals: Any, tangents: Any) -> Any:
    (A,), (dA,) = primals, tangents
    w, V = symmetric(A)
    M = V.T @ dA @ V
    apart = _reciprocal(w[None, :] - w[:, None])
    return (w, V), (np.diagonal(M).copy(), V @ (apart * M))


symmetric = custom_jvp(_rotated_symmetric)
"""(ascending eigenvalues, eigenvectors as columns) of one symmetric matrix, whose tangents are symmetric as well."""
symmetric.defjvp(_eigh_jvp)


# -- singular values --------------------------------------------------------------------------------------------------


def _rotated(A: Any) -> tuple[Any, Any, Any]:
    """(columns of U times s, as rows; descending s; V as rows) of a matrix that is not wider than high."""
    n = A.shape[1]
    scaled, scale = _unit(A)
    eps = float(np.finfo(A.dtype).eps)

    def rotate(p: Any, q: Any, carry: Any) -> Any:
        W, V = carry
        x, y = W[p], W[q]
        a, b, g = np.sum(x * x), np.sum(y * y), np.sum(x * y)
        turn = np.abs(g) > 2 * eps * np.sqrt(a) * np.sqrt(b)

        def turned(W: Any, V: Any) -> Any:
            W, V = W.copy(), V.copy()
            _, c, s = _angle(b - a, 2 * g)
            x, y = c * W[p] - s * W[q], s * W[p] + c * W[q]
            W[p], W[q] = x, y
            u, v = c * V[p] - s * V[q], s * V[p] + c * V[q]
            V[p], V[q] = u, v
            return W, V

        import stager as st

        return st.cond(turn, turned, lambda W, V: (W, V), W, V), turn

    W, V = _swept(n, rotate, (scaled.T.copy(), eye(n, dtype=A.dtype)))
    s = np.sqrt(np.sum(W * W, axis=1))
    order = np.argsort(-s)
    return W[order], s[order] * scale, V[order]


def _completed(W: Any, columns: Any) -> Any:
    """Orthonormal columns, the first of which are the rows of W made units; rows of zeros get what is missing."""
    from stager.numpy.decompositions import orthogonal, reflected

    length = np.sqrt(np.sum(W * W, axis=1))
    units = np.where(length[:, None] > 0, W / np.where(length > 0, length, 1.0)[:, None], 0.0).astype(W.dtype)
    n = W.shape[0]
    R, vectors, factors = reflected(units.T, n)
    signs = np.where(np.diagonal(R) < 0, -1.0, 1.0).astype(W.dtype)
    Q = orthogonal(vectors, factors, columns)
    return Q * signs if columns is n or columns == n else np.concatenate([Q[:, :n] * signs, Q[:, n:]], axis=1)


def _decomposed(A: Any, whole: bool) -> tuple[Any, Any, Any]:
    """(U, s, V transposed); `whole`: U and V square, else with as many singular vectors as there are values."""
    m, n = A.shape
    if m < n:
        U, s, Vt = _decomposed(A.T, whole)
        return Vt.T, s, U.T
    W, s, V = _rotated(A)
    return _completed(W, m if whole else n), s, V


def _svd(A: Any) -> Any:
    return _decomposed(A, False)


def _svd_jvp(primals: Any, tangents: Any) -> Any:
    (A,), (dA,) = primals, tangents
    U, s, Vt = singular(A)
    m, n = A.shape
    M = U.T @ dA @ Vt.T
    apart = _reciprocal((s[None, :] - s[:, None]) * (s[None, :] + s[:, None]))
    low, high = M * s[None, :], M.T * s[None, :]
    # s_i against s_i: what is left of M is skew, which nothing but a choice of signs turns
    dU = U @ (apart * (low + s[:, None] * M.T))
    dV = Vt.T @ (apart * (s[:, None] * M + high))
    inverse = _reciprocal(s)
    if m > n:
        rest = dA @ Vt.T
        dU = dU + (rest - U @ (U.T @ rest)) * inverse
    if n > m:
        rest = dA.T @ U
        dV = dV + (rest - Vt.T @ (Vt @ rest)) * inverse
    return (U, s, Vt), (dU, np.diagonal(M).copy(), dV.T)


singular = custom_jvp(_svd)
"""(U, descending s, V transposed) of one matrix, as many singular values as its shorter side has elements."""
singular.defjvp(_svd_jvp)


def _svd_whole(A: Any) -> Any:
    return _decomposed(A, True)


def _svd_whole_jvp(primals: Any, tangents: Any) -> Any:
    from stager.errors import TransformError, describe

    raise TransformError(
        describe(
            "np.linalg.svd: the columns of U and V that full_matrices=True adds have no derivative",
            remedy="full_matrices=False",
        )
    )


singular_whole = custom_jvp(_svd_whole)
"""`singular` with square U and V."""
singular_whole.defjvp(_svd_whole_jvp)


# -- least squares ----------------------------------------------------------------------------------------------------


def _solved_least(A: Any, B: Any, cutoff: Any) -> Any:
    U, s, Vt = _svd(A)
    most: Any = np.max(s, initial=0)
    kept = s > cutoff * most
    inverse = np.where(kept, 1 / np.where(kept, s, 1.0), np.where(np.isfinite(most), 0.0, np.nan)).astype(A.dtype)
    return Vt.T @ (inverse[:, None] * (U.T @ B))


def _solved_least_jvp(primals: Any, tangents: Any) -> Any:
    """For matrices whose rank stays (Golub and Pereyra, 1973)."""
    (A, B, cutoff), (dA, dB, _) = primals, tangents
    P = least_squares(A, eye(A.shape[0], dtype=A.dtype), cutoff)
    X = P @ B
    outside = dA.T @ (P.T @ X)
    dX = P @ (dB - dA @ X) + P @ (P.T @ (dA.T @ (B - A @ X))) + outside - P @ (A @ outside)
    return X, dX


least_squares = custom_jvp(_solved_least)
"""The least X that A X = B least misses; singular values up to cutoff times the largest count as none."""
least_squares.defjvp(_solved_least_jvp)
