"""Products of vectors and matrices beside matmul and dot: traces, outer and cross products, chains."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array
from stager.errors import UnsupportedError, describe
from stager.numpy.comparisons import dynamic
from stager.numpy.reductions import deliver
from stager.numpy.registry import implements
from stager.numpy.shaping import axis_of

_NO = np._NoValue


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
