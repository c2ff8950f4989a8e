"""`np.linalg` on traced arrays: products, norms, and what elimination with pivots gives (det, inv, solve, cholesky).

Elimination is a loop in the graph over whole matrices, so any size compiles to one loop and every transform passes
through it; it is meant for small matrices. What needs an iteration to convergence (svd, eig) is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.errors import UnsupportedError, describe
from stager.numpy.comparisons import dynamic
from stager.numpy.promotion import operand, result_dtype
from stager.numpy.reductions import deliver, normalize_axes
from stager.numpy.registry import implements
from stager.numpy.shaping import axis_of
from stager.ops.effects import check
from stager.ops.families import full
from stager.ops.reductions import reduce_and

_NO = np._NoValue

# -- products ---------------------------------------------------------------------------------------------------------


@implements(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    """Sum of a diagonal."""
    return np.sum(np.diagonal(dynamic(a), offset, axis1, axis2), axis=-1, dtype=dtype, out=out)


@implements(method="trace")
def trace_method(
    self: Array, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Any:
    """`np.trace(self)`."""
    return trace(self, offset, axis1, axis2, dtype, out)


@implements(np.linalg.trace)
def linalg_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """Sum of a diagonal of the last two axes."""
    return trace(x, offset, -2, -1, dtype)


@implements(np.linalg.diagonal)
def linalg_diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """A diagonal of the last two axes."""
    return np.diagonal(dynamic(x), offset, -2, -1)


@implements(np.linalg.matmul)
def linalg_matmul(x1: Any, x2: Any, /) -> Any:
    """Matrix product."""
    return np.matmul(dynamic(x1), dynamic(x2))


@implements(np.linalg.tensordot)
def linalg_tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Any:
    """Sum over the given axes of both."""
    return np.tensordot(dynamic(x1), dynamic(x2), axes)


@implements(np.linalg.outer)
def linalg_outer(x1: Any, x2: Any, /) -> Any:
    """All products of two vectors."""
    a, b = dynamic(x1), dynamic(x2)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"Input arrays must be one-dimensional, but they are {x1.ndim=} and {x2.ndim=}.")
    return np.outer(a, b)


@implements(np.linalg.matrix_transpose)
def linalg_matrix_transpose(x: Any, /) -> Any:
    """The last two axes swapped."""
    return np.swapaxes(dynamic(x), -1, -2)


def _vector_product(name: str, x: Any, y: Any, core: str, kwargs: dict[str, Any]) -> Any:
    a, b = dynamic(x), dynamic(y)
    need = [len(t) for t in core.split("->", maxsplit=1)[0].split(",")]
    if a.ndim < need[0] or b.ndim < need[1]:
        raise ValueError(f"{name}: Input operand does not have enough dimensions")
    axes, axis, out = kwargs.pop("axes", None), kwargs.pop("axis", None), kwargs.pop("out", None)
    if axes is not None:
        raise UnsupportedError(
            describe(f"np.{name}: axes= is not supported on traced arrays", remedy="move the axes with np.moveaxis")
        )
    if axis is not None:
        a, b = np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1)
    left, right = core.split("->")
    i, j = left.split(",")
    return deliver(np.einsum(f"...{i},...{j}->...{right}", a, b), out, name)


@implements(np.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1, **kwargs: Any) -> Any:
    """Inner products along an axis."""
    return _vector_product("vecdot", x1, x2, "i,i->", {"axis": axis, **kwargs})


@implements(np.linalg.vecdot)
def linalg_vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Inner products along an axis."""
    return vecdot(x1, x2, axis=axis)


@implements(np.matvec)
def matvec(x1: Any, x2: Any, /, **kwargs: Any) -> Any:
    """Matrices times vectors."""
    return _vector_product("matvec", x1, x2, "ij,j->i", kwargs)


@implements(np.vecmat)
def vecmat(x1: Any, x2: Any, /, **kwargs: Any) -> Any:
    """Vectors times matrices."""
    return _vector_product("vecmat", x1, x2, "i,ij->j", kwargs)


@implements(np.kron)
def kron(a: Any, b: Any) -> Any:
    """Kronecker product."""
    x, y = dynamic(a), dynamic(b)
    n = max(x.ndim, y.ndim)
    if x.ndim == 0 or y.ndim == 0:
        return np.multiply(x, y)
    xs, ys = (1,) * (n - x.ndim) + x.type.shape, (1,) * (n - y.ndim) + y.type.shape
    left = x.reshape([d for s in xs for d in (s, 1)])
    right = y.reshape([d for s in ys for d in (1, s)])
    return np.multiply(left, right).reshape([p * q for p, q in zip(xs, ys, strict=True)])


@implements(np.cross)
def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    """Vector product of vectors with 2 or 3 elements."""
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = dynamic(a), dynamic(b)
    if x.ndim < 1 or y.ndim < 1:
        raise ValueError("At least one array has zero dimension")
    x, y = np.moveaxis(x, axis_of(axisa, x.ndim), -1), np.moveaxis(y, axis_of(axisb, y.ndim), -1)
    if x.shape[-1] not in (2, 3) or y.shape[-1] not in (2, 3):
        raise ValueError(
            "Both input arrays must be (arrays of) 3-dimensional vectors, "
            f"but they are {x.shape[-1]} and {y.shape[-1]} dimensional instead."
        )
    x0, x1, y0, y1 = x[..., 0], x[..., 1], y[..., 0], y[..., 1]
    last = x0 * y1 - x1 * y0
    if x.shape[-1] == 2 and y.shape[-1] == 2:
        return last
    x2 = x[..., 2] if x.shape[-1] == 3 else None
    y2 = y[..., 2] if y.shape[-1] == 3 else None
    if x2 is None:
        first, second = x1 * y2, -(x0 * y2)
    elif y2 is None:
        first, second = -(x2 * y1), x2 * y0
    else:
        first, second = x1 * y2 - x2 * y1, x2 * y0 - x0 * y2
    out = np.stack([first, second, last], axis=-1)
    return np.moveaxis(out, -1, axis_of(axisc, out.ndim))


@implements(np.linalg.cross)
def linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Vector product of vectors with 3 elements."""
    x, y = dynamic(x1), dynamic(x2)
    if x.shape[axis] != 3 or y.shape[axis] != 3:
        raise ValueError(
            "Both input arrays must be (arrays of) 3-dimensional vectors, "
            f"but they are {x.shape[axis]} and {y.shape[axis]} dimensional instead."
        )
    return cross(x, y, axis=axis)


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    """Product of a chain of matrices in the order that costs least."""
    items = [dynamic(a) for a in arrays]
    if len(items) < 2:
        raise ValueError("Expecting at least two arrays.")
    row, column = items[0].ndim == 1, items[-1].ndim == 1
    mats = list(items)
    mats[0] = items[0].reshape((1, -1)) if row else items[0]
    mats[-1] = items[-1].reshape((-1, 1)) if column else items[-1]
    if any(m.ndim != 2 for m in mats):
        raise np.linalg.LinAlgError(
            f"{next(m.ndim for m in mats if m.ndim != 2)}-dimensional array given. Array must be two-dimensional"
        )
    sizes = [m.shape[0] if isinstance(m.shape[0], int) else 64 for m in mats] + [
        mats[-1].shape[1] if isinstance(mats[-1].shape[1], int) else 64
    ]
    best: dict[tuple[int, int], tuple[int, Any]] = {(i, i): (0, mats[i]) for i in range(len(mats))}
    order: dict[tuple[int, int], int] = {}
    for width in range(1, len(mats)):
        for i in range(len(mats) - width):
            j = i + width
            costs = [
                (best[i, k][0] + best[k + 1, j][0] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j)
            ]
            cost, k = min(costs)
            best[i, j], order[i, j] = (cost, None), k

    def product(i: int, j: int) -> Any:
        if i == j:
            return mats[i]
        k = order[i, j]
        return np.dot(product(i, k), product(k + 1, j))

    result = product(0, len(mats) - 1)
    if row and column:
        result = result.reshape(())
    elif row or column:
        result = result.reshape(-1)
    return deliver(result, out, "multi_dot")


def _square(a: Any) -> Any:
    x = dynamic(a)
    if x.ndim < 2:
        raise np.linalg.LinAlgError(f"{x.ndim}-dimensional array given. Array must be at least two-dimensional")
    if x.shape[-1] != x.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")
    return x


@implements(np.linalg.matrix_power)
def matrix_power(a: Any, n: Any) -> Any:
    """A square matrix to an integer power known while tracing, by squaring."""
    x = _square(a)
    power = n.__index__()
    if power == 0:
        eye = np.eye(x.shape[-1], dtype=x.dtype)
        return np.broadcast_to(dynamic(eye), x.shape).copy()
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


# -- norms ------------------------------------------------------------------------------------------------------------


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Vector norms of every order; matrix norms but those that need singular values."""
    a = dynamic(x)
    a = a if a.type.dtype.is_float else a.astype(float)
    n = a.ndim
    if axis is None and (ord is None or (ord in ("f", "fro") and n == 2) or (ord == 2 and n == 1)):
        flat = a.ravel()
        found = np.sqrt(np.dot(flat, flat))
        return found.reshape(n * [1]) if keepdims else found
    axes = tuple(range(n)) if axis is None else axis if isinstance(axis, tuple) else (int(axis),)
    if len(axes) == 1:
        return _vector_norm(a, ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    row, col = [axis_of(k, n) for k in axes]
    if row == col:
        raise ValueError("Duplicate axes given.")
    if ord in (2, -2, "nuc"):
        return _refuse("norm", "this order needs singular values; near: 'fro', 1, np.inf")
    if ord in (None, "fro", "f"):
        found = np.sqrt(np.sum(a * a, axis=(row, col)))
    elif ord in (1, -1, np.inf, -np.inf):
        first, second = (row, col) if ord in (1, -1) else (col, row)
        sums = np.sum(np.abs(a), axis=first)
        second -= second > first
        found = sums.max(axis=second, initial=0) if ord > 0 else sums.min(axis=second)
    else:
        raise ValueError("Invalid norm order for matrices.")
    return found.reshape([1 if k in (row, col) else d for k, d in enumerate(a.type.shape)]) if keepdims else found


def _vector_norm(a: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order '{ord}' for vectors")
    if ord == np.inf:
        return np.abs(a).max(axis=axes, keepdims=keepdims, initial=0)
    if ord == -np.inf:
        return np.abs(a).min(axis=axes, keepdims=keepdims)
    if ord == 0:
        return (a != 0).astype(a.dtype).sum(axis=axes, keepdims=keepdims)
    if ord == 1:
        return np.sum(np.abs(a), axis=axes, keepdims=keepdims)
    if ord is None or ord == 2:
        return np.sqrt(np.sum(a * a, axis=axes, keepdims=keepdims))
    total = np.sum(np.abs(a) ** ord, axis=axes, keepdims=keepdims)
    return total ** np.reciprocal(ord, dtype=a.dtype)


@implements(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """Vector norm over any axes."""
    a = dynamic(x)
    axes = normalize_axes(axis, a.ndim)
    rest = [k for k in range(a.ndim) if k not in axes]
    lines = a.transpose([*axes, *rest]).reshape((-1, *[a.type.shape[k] for k in rest]))
    found = norm(lines, ord, 0)
    return found.reshape([1 if k in axes else d for k, d in enumerate(a.type.shape)]) if keepdims else found


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """Matrix norm over the last two axes."""
    return norm(x, ord, (-2, -1), keepdims)


# -- elimination ------------------------------------------------------------------------------------------------------


def _each(f: Callable[..., Any], *stacks: Any) -> Any:
    """f of every matrix of stacks with the same leading axes."""
    import stager as st

    lead = stacks[0].type.shape[:-2]
    if not lead:
        return f(*stacks)
    flat = [s.reshape((-1, *s.type.shape[-2:])) for s in stacks]
    out = st.vmap(f)(*flat)
    shaped = [o.reshape((*lead, *o.type.shape[1:])) for o in (out if isinstance(out, tuple) else (out,))]
    return tuple(shaped) if isinstance(out, tuple) else shaped[0]


def _float(x: Any) -> Any:
    return x if x.type.dtype.is_float else x.astype(np.float64)


def _eliminated(A: Any) -> tuple[Any, Any, Any]:
    """(LU in one matrix, row order, sign of the permutation), with the largest element of a column as its pivot."""
    import stager as st

    n = A.shape[0]
    rows = np.arange(n)

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

    start = (A, dynamic(rows), dynamic(A.dtype.type(1)))
    return st.fori_loop(0, n, step, start)  # type: ignore[no-any-return]


def _substituted(LU: Any, B: Any) -> Any:
    """Solve L U X = B with unit lower L and U in one matrix."""
    import stager as st

    n = LU.shape[0]
    rows = np.arange(n)

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
    check(ok, exception="ValueError", text="Singular matrix")


@implements(np.linalg.det)
def det(a: Any) -> Any:
    """Determinant."""
    return _each(lambda A: _determinant(A), _float(_square(a)))


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

    return SlogdetResult(*_each(one, _float(_square(a))))


def _solved(A: Any, B: Any) -> tuple[Any, Any]:
    LU, order, _ = _eliminated(A)
    return _substituted(LU, B[order]), LU


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    """x with a x = b; ValueError (LinAlgError in NumPy) for a singular matrix."""
    A, B = _square(a), dynamic(b)
    d = result_dtype(A, B)
    d = d if d.is_float else result_dtype(A, B, 0.0)
    A, B = wrap(operand(A, d)), wrap(operand(B, d))
    vector = B.ndim == 1
    B = B.reshape((-1, 1)) if vector else B  # type: ignore[attr-defined]
    if B.shape[-2] != A.shape[-1]:
        raise ValueError(
            "solve: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature (m,m),(m,n)->(m,n) "
            f"(size {B.shape[-2]} is different from {A.shape[-1]})"
        )
    lead = np.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    A, B = np.broadcast_to(A, (*lead, *A.shape[-2:])), np.broadcast_to(B, (*lead, *B.shape[-2:]))
    X, LU = _each(_solved, A, B)
    _regular(LU)
    return X[..., 0] if vector else X


@implements(np.linalg.inv)
def inv(a: Any) -> Any:
    """Inverse; ValueError (LinAlgError in NumPy) for a singular matrix."""
    A = _float(_square(a))
    eye = np.broadcast_to(dynamic(np.eye(A.shape[-1], dtype=A.dtype)), A.shape)
    X, LU = _each(_solved, A, eye)
    _regular(LU)
    return X


@implements(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """Lower (or upper) Cholesky factor; ValueError (LinAlgError in NumPy) where the matrix is not positive definite."""
    import stager as st

    A = _float(_square(a))
    n = A.shape[-1]
    rows = np.arange(n)

    def one(M: Any) -> Any:
        def step(k: Any, carry: Any) -> Any:
            S, L = carry
            line = np.where(rows >= k, S[:, k], 0.0).astype(S.dtype) / np.sqrt(S[k, k])
            L = np.where(rows[None, :] == k, line[:, None], L)
            return S - line[:, None] * line[None, :], L

        return st.fori_loop(0, n, step, (M, wrap(full(M.type.shape, 0, M.type.dtype))))[1]

    L = _each(one, np.swapaxes(A, -1, -2) if upper else A)
    good: Any = np.diagonal(L, 0, -2, -1) > 0
    ok = reduce_and(good.raw(), axes=tuple(range(good.ndim)))
    check(ok, exception="ValueError", text="Matrix is not positive definite")
    return np.swapaxes(L, -1, -2) if upper else L


def _refuse(name: str, reason: str) -> Any:
    raise UnsupportedError(describe(f"np.linalg.{name} is not supported on traced arrays: {reason}"))


def _refused(original: Any, reason: str) -> None:
    @implements(original)
    def refuse(*args: Any, **kwargs: Any) -> Any:
        return _refuse(original.__name__, reason)


for _name in (
    "svd",
    "svdvals",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "pinv",
    "lstsq",
    "matrix_rank",
    "cond",
    "qr",
    "tensorinv",
    "tensorsolve",
):
    _refused(
        getattr(np.linalg, _name), "supported are norm, det, slogdet, inv, solve, cholesky, matrix_power, multi_dot"
    )
