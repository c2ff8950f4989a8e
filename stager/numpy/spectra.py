"""`np.linalg` on traced arrays: what stands on eigenvalues of symmetric matrices and on singular values.

Eigenvectors and singular vectors are determined up to their sign (and a basis of a common space where values coincide);
the signs are not LAPACK's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import wrap
from stager.ir.dims import dim_max, product
from stager.numpy.comparisons import dynamic
from stager.numpy.creation_ranges import eye
from stager.numpy.decompositions import each, floating, inv, solve, square
from stager.numpy.promotion import operand, result_dtype
from stager.numpy.registry import implements
from stager.numpy.rotations import least_squares, singular, singular_whole, symmetric
from stager.numpy.shaping import reshape
from stager.ops.effects import check
from stager.symbols import size_number

_NO = np._NoValue


def _stack(a: Any) -> Any:
    x = floating(dynamic(a))
    if x.ndim < 2:
        raise np.linalg.LinAlgError(f"{x.ndim}-dimensional array given. Array must be at least two-dimensional")
    return x


def _converged(values: Any, text: str) -> Any:
    good: Any = np.all(np.isfinite(values))
    check(good.raw(), exception="LinAlgError", text=text)
    return values


# -- symmetric eigenvalues --------------------------------------------------------------------------------------------


def _mirrored(a: Any, UPLO: str) -> Any:
    """Symmetric matrices from one triangle."""
    side = UPLO.upper()
    if side not in ("L", "U"):
        raise ValueError("UPLO argument must be 'L' or 'U'")
    x = floating(square(a))
    if side == "L":
        return np.tril(x) + np.swapaxes(np.tril(x, -1), -1, -2)
    return np.triu(x) + np.swapaxes(np.triu(x, 1), -1, -2)


@implements(np.linalg.eigh)
def eigh(a: Any, UPLO: str = "L") -> Any:
    """Ascending eigenvalues and eigenvectors of symmetric matrices, of which one triangle is read."""
    from numpy.linalg._linalg import EighResult

    w, V = each(symmetric, _mirrored(a, UPLO))
    return EighResult(_converged(w, "Eigenvalues did not converge"), V)


@implements(np.linalg.eigvalsh)
def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    """Ascending eigenvalues of symmetric matrices."""
    return eigh(a, UPLO)[0]


# -- singular values --------------------------------------------------------------------------------------------------


@implements(np.linalg.svd)
def svd(a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False) -> Any:
    """Singular values, descending, and both orthogonal factors. `hermitian` changes nothing but the way in NumPy."""
    from numpy.linalg._linalg import SVDResult

    x = square(a) if hermitian else a
    x = _mirrored(x, "L") if hermitian else _stack(x)
    m, n = x.type.shape[-2:]
    U, s, Vt = each(singular_whole if compute_uv and full_matrices and m != n else singular, x)
    _converged(s, "SVD did not converge")
    return SVDResult(U, s, Vt) if compute_uv else s


@implements(np.linalg.svdvals)
def svdvals(x: Any, /) -> Any:
    """Singular values, descending."""
    return svd(x, compute_uv=False)


@implements(np.linalg.matrix_rank)
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """How many singular values exceed tol (or rtol times the largest)."""
    if rtol is not None and tol is not None:
        raise ValueError("`tol` and `rtol` can't be both set.")
    x = dynamic(A)
    if x.ndim < 2:
        return np.any(x != 0).astype(int)
    s = svd(x, compute_uv=False, hermitian=hermitian)
    if tol is None:
        most = size_number(dim_max(*x.type.shape[-2:]))
        small = most * np.finfo(s.dtype).eps if rtol is None else np.asarray(rtol)[..., None]
        bound = np.max(s, axis=-1, keepdims=True, initial=0) * small
    else:
        bound = dynamic(tol)[..., None]
    return np.count_nonzero(s > bound, axis=-1)


@implements(np.linalg.cond)
def cond(x: Any, p: Any = None) -> Any:
    """Condition number of matrices in a norm."""
    from stager.numpy.norms import norm

    a = _stack(x)
    if a.type.size == 0:
        raise np.linalg.LinAlgError("cond is not defined on empty arrays")
    if p is None or p in (2, -2):
        s = svd(a, compute_uv=False)
        r = s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    else:
        a = square(a)
        r = norm(a, p, axis=(-2, -1)) * norm(_inverse_or_infinite(a), p, axis=(-2, -1))
    given_nan = np.any(np.isnan(a), axis=(-2, -1))
    return np.where(np.isnan(r) & ~given_nan, np.inf, r).astype(a.dtype)


def _inverse_or_infinite(a: Any) -> Any:
    """Inverses; NaN for singular matrices."""
    from stager.numpy.decompositions import solved

    return each(lambda A: solved(A, eye(A.shape[-1], dtype=A.dtype))[0], a)


@implements(np.linalg.pinv)
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = _NO) -> Any:
    """Pseudo-inverse; singular values up to rcond (rtol) times the largest count as none."""
    A = _mirrored(a, "L") if hermitian else _stack(a)
    m = A.type.shape[-2]
    given = rcond if rcond is not None else None if rtol is _NO else rtol
    if given is None:
        given = 1e-15 if rtol is _NO else size_number(dim_max(*A.type.shape[-2:])) * np.finfo(A.dtype).eps
    bound = np.broadcast_to(dynamic(given).astype(A.dtype), A.type.shape[:-2])[..., None, None]

    def one(M: Any, cutoff: Any) -> Any:
        return least_squares(M, eye(m, dtype=M.dtype), cutoff[0, 0])

    return _converged(each(one, A, bound), "SVD did not converge")


# -- least squares ----------------------------------------------------------------------------------------------------


@implements(np.linalg.lstsq)
def lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    """The least-squares solution, the sums of squared residuals, the rank and the singular values."""
    A, B = dynamic(a), dynamic(b)
    d = result_dtype(A, B)
    d = d if d.is_float else result_dtype(A, B, 0.0)
    A, B = wrap(operand(A, d)), wrap(operand(B, d))
    if A.ndim != 2:
        raise np.linalg.LinAlgError(f"{A.ndim}-dimensional array given. Array must be two-dimensional")
    vector = B.ndim == 1
    B = reshape(B, (-1, 1)) if vector else B
    if B.ndim != 2:
        raise np.linalg.LinAlgError(f"{B.ndim}-dimensional array given. Array must be two-dimensional")
    m, n = A.type.shape
    if m != B.type.shape[0]:
        raise np.linalg.LinAlgError("Incompatible dimensions")
    eps = np.finfo(A.dtype).eps
    given = size_number(dim_max(m, n)) * eps if rcond is None else rcond if rcond != -1 else eps
    cutoff = dynamic(given).astype(A.dtype)
    X = _converged(least_squares(A, B, cutoff), "SVD did not converge in Linear Least Squares")
    s = singular(A)[1]
    rank = np.sum(s > cutoff * np.max(s, initial=0)).astype(np.int32)
    missed = np.sum((B - A @ X) ** 2, axis=0)
    if isinstance(m, int) and isinstance(n, int) and m <= n:
        left = missed[:0]
    else:  # nothing, unless the matrix is high and of full rank
        rows, columns = size_number(m), size_number(n)
        left = missed[: np.where((rank == columns) & np.greater(rows, columns), missed.shape[0], 0)]
    return (X[:, 0] if vector else X), left, rank, s


# -- tensors as matrices ----------------------------------------------------------------------------------------------


@implements(np.linalg.tensorinv)
def tensorinv(a: Any, ind: int = 2) -> Any:
    """The inverse of a tensor, with respect to a product over its last axes."""
    x = dynamic(a)
    if ind <= 0:
        raise ValueError("Invalid ind argument.")
    first, last = x.type.shape[:ind], x.type.shape[ind:]
    return inv(x.reshape((-1, product(last)))).reshape((*last, *first))


@implements(np.linalg.tensorsolve)
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    """x with tensordot(a, x) = b."""
    x, y = dynamic(a), dynamic(b)
    if axes is not None:
        order = [k for k in range(x.ndim) if k not in axes]
        x = x.transpose([*order, *axes])
    shape = x.type.shape[y.ndim :]
    size = product(shape)
    if x.type.size != size * size:
        raise np.linalg.LinAlgError(
            "Input arrays must satisfy the requirement prod(a.shape[b.ndim:]) == prod(a.shape[:b.ndim])"
        )
    return solve(x.reshape((-1, size)), y.ravel()).reshape(shape)
