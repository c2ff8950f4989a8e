"""Programs that write, as NumPy users do: through views of views, `out=`, positions that repeat, arrays that overlap.

Each returns arrays that depend on what was written, and writes into its arguments. They are run by `test_writes.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

A = np.arange(20.0).reshape(4, 5) * 0.3 + 0.1
B = np.cos(A)
V = np.arange(7.0) * 0.4 + 0.2
POSITIONS = np.array([0, 2, 2, 1])
PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {}


def program(*args: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: a program and the arguments it is run on."""

    def add(f: Callable[..., Any]) -> Callable[..., Any]:
        PROGRAMS[f.__name__] = f, args
        return f

    return add


@program(A)
def view3(a: Any) -> Any:
    v = a[1:]
    w = v.T
    u = w[::2]
    u[0] *= 2
    w[1] += a[0, :3]
    v[0, 0] = 7
    u += 1
    return (a * 1.0, v.sum(), u * 2)


@program(A)
def reshape_write(a: Any) -> Any:
    v = a.reshape(2, 2, 5)
    v[1, 0] = v[0, 1]
    v[:, 1, ::2] *= 3
    return a.sum(0)


@program(A)
def reshape_of_t(a: Any) -> Any:
    b = a.T.reshape(-1)
    b[0] = 100.0
    return a.sum() + b.sum()


@program(A)
def ravel_write(a: Any) -> Any:
    b = a.ravel()
    b[3:8] = 0
    c = a.flatten()
    c[0] = 50
    return a * 1.0


@program(A)
def diag_write(a: Any) -> Any:
    d = np.einsum("ii->i", a[:4, :4])
    d *= 2
    return a * 1.0


@program(A)
def fill_diag(a: Any) -> Any:
    np.fill_diagonal(a, a[0, 1])
    return a * 2


@program(A)
def fill_diag_wrap(a: Any) -> Any:
    b = np.zeros((7, 3))
    np.fill_diagonal(b, a[0, 1], wrap=True)
    return b + a[0, 0]


@program(A)
def diag_idx(a: Any) -> Any:
    a[np.diag_indices(4)] += a[0, 4]
    return a * 2


@program(A)
def swap_rows(a: Any) -> Any:
    a[[0, 2]] = a[[2, 0]]
    return a * 1.0


@program(A)
def swap_tuple(a: Any) -> Any:
    a[0], a[1] = (a[1], a[0].copy())
    return a * 1.0


@program(A)
def swap_alias(a: Any) -> Any:
    a[0], a[1] = (a[1], a[0])
    return a * 1.0


@program(A)
def swap_elems(a: Any) -> Any:
    a[0, 0], a[1, 1] = (a[1, 1], a[0, 0])
    return a * 1.0


@program(A)
def flips(a: Any) -> Any:
    a[::-1] = a.copy()
    a[:, ::-1] *= np.arange(5.0)
    b = np.flip(a, 0)
    b[0] = 3
    return a * 1.0


@program(A)
def overlap_self(a: Any) -> Any:
    a[1:] = a[:-1]
    return a * 1.0


@program(A)
def overlap_self2(a: Any) -> Any:
    a[:-1] += a[1:]
    return a * 1.0


@program(V)
def overlap_iadd(v: Any) -> Any:
    v[1:] += v[:-1]
    return v * 1.0


@program(V)
def reverse_self(v: Any) -> Any:
    v[:] = v[::-1]
    return v * 1.0


@program(V)
def window_write(v: Any) -> Any:
    w = np.lib.stride_tricks.sliding_window_view(v, 3, writeable=True)
    w[0] *= 2
    w[2, 1] = 5
    return v * 1.0


@program(V)
def window_read_after(v: Any) -> Any:
    w = np.lib.stride_tricks.sliding_window_view(v, 3)
    v[2] = 10 * v[0]
    return w.sum(1)


@program(V)
def strided(v: Any) -> Any:
    w = np.lib.stride_tricks.as_strided(v, (3, 2), (16, 8))
    w[1] *= 3
    return (v * 1.0, w * 1.0)


@program(A)
def t_iadd(a: Any) -> Any:
    a.T[...] += np.arange(4.0)
    a.T[1:3, 0] = a[0, :2]
    return a * 1.0


@program(A)
def put(a: Any) -> Any:
    np.put(a, [1, -1, 3, 3], [a[0, 0], 2.0, 3.0, 4.0])
    return a * 1.0


@program(A)
def put_clip(a: Any) -> Any:
    np.put(a, [1, 100, -50], [1.0, 2.0, 3.0], mode="clip")
    np.put(a, [21], 9.0, mode="wrap")
    return a * 1.0


@program(A)
def place(a: Any) -> Any:
    np.place(a, a > 2, [1.0, 2.0, 3.0])
    return a * 1.0


@program(A, B)
def putmask(a: Any, b: Any) -> Any:
    np.putmask(a, a > b, b * 2)
    return a * 1.0


@program(A)
def putmask_short(a: Any) -> Any:
    np.putmask(a, a > 1.05, [1.0, 2.0, 3.0])
    return a * 1.0


@program(A, B)
def copyto_where(a: Any, b: Any) -> Any:
    np.copyto(a, b, where=a > 1)
    np.copyto(a[0], b[1, 0])
    return a * 1.0


@program(A)
def addat(a: Any) -> Any:
    np.add.at(a, ([0, 0, 1], [1, 1, 2]), [1.0, 2.0, 3.0])
    np.multiply.at(a, [0, 0], 2.0)
    np.subtract.at(a[1], [0, 0, 4], a[0, :3])
    return a * 1.0


@program(A)
def maxat(a: Any) -> Any:
    np.maximum.at(a, [0, 0, 1], a[2] * 1.1)
    np.minimum.at(a[:, 0], [1, 1], a[3, 0] * 0.1)
    return a * 1.0


@program(A, POSITIONS)
def addat_i(a: Any, i: Any) -> Any:
    np.add.at(a[0], i, a[1, :4])
    a[1][i] += 1.0
    a[2, i] = a[3, :4]
    return a * 1.0


@program(A)
def sort_view(a: Any) -> Any:
    a[1:3].T.sort(axis=0)
    a[:, 0].sort()
    a[3, ::-1].sort()
    return a * 1.0


@program(A)
def partition_inplace(a: Any) -> Any:
    b = np.sin(a)
    b.sort()
    b.sort(axis=0)
    return b


@program(A, B)
def mask_ops(a: Any, b: Any) -> Any:
    m = b > 0
    a[m] *= 2
    a[~m] += b[~m]
    a[m] = b[m] ** 2
    return a * 1.0


@program(A, B)
def mask_row(a: Any, b: Any) -> Any:
    a[a[:, 0] > 1] *= b[0]
    a[:, b[0] > 0] = 0.5
    return a * 1.0


@program(A, B)
def out_kw(a: Any, b: Any) -> Any:
    np.add(a, b, out=a)
    np.multiply(a[0], b[1], a[2])
    np.sum(a, axis=0, out=b[0])
    np.matmul(a[:2], b.T[:, :3], out=np.zeros((2, 3)))
    np.cumsum(a, axis=1, out=a)
    return a * 1.0


@program(A, B)
def out_more(a: Any, b: Any) -> Any:
    z = np.empty((4, 4))
    np.dot(a, b.T, out=z)
    np.clip(z, 0, 2, out=z[...])
    np.exp(z, out=z, where=z < 1)
    np.take(a, [0, 1], axis=0, out=b[:2])
    a.mean(axis=1, out=z[0])
    np.maximum.accumulate(a, axis=0, out=a)
    np.add.reduce(a, axis=0, out=b[3])
    np.multiply.outer(a[0, :4], b[0, :4], out=z)
    np.concatenate([a[0:1], b[1:2]], out=b[2:4])
    np.stack([a[0], b[0]], out=a[:2])
    return z


@program(A, B)
def out_of_overlap(a: Any, b: Any) -> Any:
    np.add(a[:-1], a[1:], out=a[1:])
    np.multiply(a[:, ::-1], b, out=a)
    return a * 1.0


@program(A)
def iops(a: Any) -> Any:
    a //= 0.41
    a *= 0.3
    a **= 2
    a -= a[0]
    a /= 3
    return a * 1.0


@program(A)
def iops_bcast(a: Any) -> Any:
    a += a[0]
    a *= a[:, :1]
    a -= a.mean(0)
    return a * 1.0


@program(A)
def imatmul(a: Any) -> Any:
    b = a[:4, :4]
    b @= np.ones((4, 4))
    return a * 1.0


@program(A)
def ret_alias(a: Any) -> Any:
    b = a[1:]
    b[0] = 1.0
    return (a, b, a[::2])


@program(A)
def newaxis_write(a: Any) -> Any:
    v = a[None, :, None]
    v[0, 1] = 4.0
    np.squeeze(v)[2] = 5
    np.moveaxis(a, 0, 1)[0] = 6
    np.swapaxes(a, 0, 1)[1:3, 0] = 7
    np.expand_dims(a, 2)[3, :, 0] = 8
    return a * 1.0


@program(A)
def split_write(a: Any) -> Any:
    upper, lower = np.split(a, 2)
    upper *= 2
    lower[0] = upper[1]
    x, _, z = np.array_split(a, [1, 3], axis=1)
    z[:] = x
    return a * 1.0


@program(A)
def iter_rows(a: Any) -> Any:
    for r in a:
        r[1:] -= r[:-1]
    for r in a.T:
        r *= 0.5
    return a * 1.0


@program(A)
def flat_write(a: Any) -> Any:
    a.flat[3] = 9.0
    a.flat[5:9] = a[0, 0]
    a.flat = a * 2
    return a * 1.0


@program(A)
def real_imag(a: Any) -> Any:
    a.real[0] = 3.0
    return a * 1.0


@program(A)
def take_put_along(a: Any) -> Any:
    i = np.argsort(a, axis=1)
    np.put_along_axis(a, i[:, :1], -1.0, axis=1)
    np.put_along_axis(a[:2], i[:2, 1:3], a[:2, :2], axis=1)
    return a * 1.0


@program(A)
def delete_insert(a: Any) -> Any:
    b = np.insert(a, 1, a[0], axis=0)
    c = np.delete(b, [0, 2], axis=0)
    c[0] = 1
    b[1] *= 2
    return (b, c)


@program(A)
def ix(a: Any) -> Any:
    a[np.ix_([0, 2], [1, 3])] *= 2
    a[[0, 1], 2:4] = a[[2, 3], :2]
    a[1:3, [0, 0]] = a[1:3, :2]
    a[..., -1] = 0
    return a * 1.0


@program(A)
def neg_step(a: Any) -> Any:
    a[::-2, ::-1] += 1
    a[3:0:-1] = a[:3]
    return a * 1.0


@program(A)
def dup_set(a: Any) -> Any:
    a[[0, 0, 1]] = a[[1, 2, 3]]
    return a * 1.0


@program(A)
def swap_cols(a: Any) -> Any:
    a[:, [0, 1]] = a[:, [1, 0]]
    a[[0, 1, 2, 3], [1, 2, 3, 4]] = a[[3, 2, 1, 0], [0, 0, 0, 0]]
    return a * 1.0


@program(A, B)
def write_each_other(a: Any, b: Any) -> Any:
    a[0] = b[0]
    b[0] = a[1]
    a[1] = b[0] * 2
    b[:] = a
    a *= 2
    return a - b


@program(V)
def resize_rot(v: Any) -> Any:
    v[:] = np.roll(v, 2)
    v[:3], v[3:6] = (v[3:6].copy(), v[:3].copy())
    return v * 1.0


@program(V)
def cum_inplace(v: Any) -> Any:
    np.cumsum(v, out=v)
    np.cumprod(v / 10, out=v)
    np.add.accumulate(v, out=v)
    return v * 1.0


@program(A)
def as_list_of_views(a: Any) -> Any:
    vs = [a[k] for k in range(4)]
    vs[0] += 1
    vs[1] *= vs[0]
    d = {"x": vs[2], "y": (vs[3],)}
    d["x"][:] = d["y"][0] * 2
    d["y"][0][1] = 0
    return a * 1.0


@program(A)
def aug_nested(a: Any) -> Any:

    def inner(v, k):
        v[k] *= 2
        return v
    inner(a[1:], 0)
    inner(a.T, 2)[0] = 1
    (lambda v: v.__setitem__(0, 5.0))(a[3])
    return a * 1.0


@program(A)
def shuffle_by_perm(a: Any) -> Any:
    p = np.argsort(-a[:, 0])
    a[:] = a[p]
    return a * 1.0


@program(A)
def vstackw(a: Any) -> Any:
    b = np.vstack([a, a])
    b[0] = 0
    c = np.broadcast_to(a[0], (3, 5)).copy()
    c[1] = 2
    d = np.tile(a, (1, 2))
    d[:, 0] = 1
    return (b, c, d)


@program(A)
def ufunc_out_tuple(a: Any) -> Any:
    b = np.zeros_like(a)
    q, r = np.divmod(a, 0.71)
    np.modf(a + 0.01, out=(b, a))
    return (q, r, b, a * 1.0)


@program(A)
def zerod(a: Any) -> Any:
    s = np.zeros(())
    s[...] = a[0, 0]
    s += a[1, 1]
    t = np.array(2.0)
    t[()] = s * 2
    return (s * 1, t * 1)


@program(A)
def scalar_rebind(a: Any) -> Any:
    s = a[0, 0]
    a[0, 0] = 5
    return (s * 1, a * 1.0)


@program(A)
def copy_kinds(a: Any) -> Any:
    b = a[:]
    c = np.array(a)
    d = np.asarray(a)
    e = a.copy()
    f_ = a.view()
    b[0] = 1
    c[1] = 2
    d[2] = 3
    e[3] = 4
    f_[1, 1] = 7
    return (a * 1.0, b * 1.0, c, d * 1.0, e, f_ * 1.0)


@program(A)
def where_out(a: Any) -> Any:
    a[np.where(a > 2)] = 0.0
    a[np.nonzero(a[:, 0] < 0.5)[0], 1] = 3.0
    a[a.argmax(0), np.arange(5)] = -1
    return a * 1.0


@program(A)
def rot90w(a: Any) -> Any:
    b = np.rot90(a)
    b[0] = 1
    np.fliplr(a)[:, 0] *= 2
    np.flipud(a)[0] = 3
    np.transpose(a)[1] += 1
    a.swapaxes(0, 1)[2] = 2
    return a * 1.0


@program(V)
def windows2d(v: Any) -> Any:
    a = np.outer(v[:4], v[:5])
    w = np.lib.stride_tricks.sliding_window_view(a, (2, 2), writeable=True)
    w[0, 1] += v[0]
    w[2, 2, :, 0] = 7
    w[::2, 1, 1] *= 0.5
    u = w[:, 0].T
    u[0] = v[5]
    return (a * 1.0, w.sum((2, 3)))


@program(V)
def windows_all(v: Any) -> Any:
    w = np.lib.stride_tricks.sliding_window_view(v, 2, writeable=True)
    w[...] = np.arange(12.0).reshape(6, 2) * v[0]
    return v * 1.0


@program(V)
def windows_of_view(v: Any) -> Any:
    a = v[::-1][1:]
    w = np.lib.stride_tricks.sliding_window_view(a, 3, writeable=True)
    w[1] = v[0]
    w[2][1:] *= v[3]
    return v * 1.0


@program(V)
def strided_sum(v: Any) -> Any:
    w = np.lib.stride_tricks.as_strided(v, (v.shape[0] - 2, 3), (v.strides[0], v.strides[0]))
    w2 = np.lib.stride_tricks.as_strided(v[1:], (3,), (2 * v.strides[0],))
    w2 += 1
    return (w.sum(1), w2 * 1.0)


@program(A)
def strided_diag(a: Any) -> Any:
    d = np.lib.stride_tricks.as_strided(a, (4,), (a.strides[0] + a.strides[1],))
    d[:] = a[0, :4] * 2
    t = np.lib.stride_tricks.as_strided(a.T[::-1], (5, 2), (-a.strides[1], a.strides[0]))
    t[1] = 0
    return a * 1.0


@program(A)
def einsum_views(a: Any) -> Any:
    np.einsum("ij->ji", a)[1] = 7
    np.einsum("ii->i", a[:4, :4])[:] += a[0, 0]
    np.einsum("iji->ji", a[:4].reshape(2, 5, 2))[2] *= 3
    return a * 1.0
