"""Updates through views happen where the elements lie: k elements of a large array cost k, whatever views lead to them.

The count is of elements that the program's kernels write (copies and routines included), from the plan, not a timer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.program import Loop, MapLanes, Move, Nest, Routine, Switch, While
from stager.ir.dims import Dim, product
from stager.pipeline import generate

N = 100_000
WIDE = (250, 400)
X = np.random.default_rng(0).standard_normal(N)
K, V = np.array([5, 700, 9000]), np.array([1.0, 2.0, 3.0])


def written(steps: list[Any]) -> int:
    """Elements that steps write; the steps of a loop count once per turn where the number of turns is known."""
    total = 0
    for s in steps:
        match s:
            case Nest():
                for leaf in s.leaves:
                    extents: dict[int, Dim] = {a.var: a.extent for a in (*s.outer, *leaf.loops)}
                    total += _number(product(extents.values()))
            case Loop() | MapLanes():
                count = getattr(s, "trip", 1)
                total += written(s.body) * (count if isinstance(count, int) else 1)
            case While():
                total += written(s.test) + written(s.body)
            case Switch():
                total += max(written(b) for b in s.branches)
            case Move() if not s.swap:
                total += _number(product(s.target.shape))
            case Routine():
                total += sum(_number(product(b.shape)) for b in s.outputs)
            case _:
                pass
    return total


def _number(n: Dim) -> int:
    return n if isinstance(n, int) else N


def cost(f: Any, *args: Any) -> int:
    return written(generate(st.compile(f).graph(*args)).program.steps)


def wide(x: Any) -> Any:
    return x.reshape(WIDE)


def element(x: Any) -> None:
    x[7] = 3.0


def a_slice(x: Any) -> None:
    x[10:20] = np.arange(10.0)
    x[5:9] += x[1:5]


def few_of_a_mask(x: Any, m: Any) -> None:
    x[:50][m] = 0.0


def a_mask_of_a_part(x: Any) -> None:
    y = x[:50]
    y[y > 1] = 0.0


def view_of_views(x: Any) -> None:
    z = x[::2][10:20]
    z[::3] = 1.0


def indices(x: Any, i: Any) -> None:
    x[i] = 2.0


def indices_add(x: Any, i: Any, v: Any) -> None:
    x[i] += v


def add_at(x: Any, i: Any, v: Any) -> None:
    np.add.at(x[10:], i, v)


def indices_of_a_part(x: Any, i: Any) -> None:
    y = x[:50000]
    y[i] = 1.0


def indices_of_a_step(x: Any, i: Any) -> None:
    y = x[::2]
    y[i] = 1.0


def indices_of_a_flip(x: Any, i: Any) -> None:
    x[::-1][i] = 2.0


def columns(x: Any, i: Any) -> None:
    wide(x).T[i % 400] = 1.0


def a_column(x: Any, i: Any) -> None:
    wide(x)[:, 3][i % 250] = 1.0


def rows_of_a_part(x: Any, i: Any) -> None:
    wide(x)[2:200][i % 190, 3] = 1.0


def sort_a_slice(x: Any) -> None:
    x[100:110].sort()


def diagonal(x: Any) -> None:
    np.fill_diagonal(wide(x)[:, :250], 1.0)


def part_of_a_diagonal(x: Any) -> None:
    d = np.einsum("ii->i", wide(x)[:200, :200])
    d[3:5] = 0


def transposed(x: Any) -> None:
    wide(x).T[3, 4:9] = 2.0


def reshaped(x: Any) -> None:
    a = x.reshape(10, 100, 100)
    a[2, :3, 7] = 1.0
    a.transpose(2, 0, 1)[5, 1] += 1.0


def flipped(x: Any) -> None:
    x[::-1][3:6] = 0.0
    np.flip(x)[9] = 0.0
    wide(x)[::-1, ::-1][2:4, 1:3] = 5.0


def turned(x: Any) -> None:
    np.rot90(wide(x))[3, 4] = 1.0


def windows(x: Any) -> None:
    w = np.lib.stride_tricks.sliding_window_view(x, 3, writeable=True)
    w[5, 1] = 2.0


def along_an_axis(x: Any, i: Any, v: Any) -> None:
    np.put_along_axis(wide(x)[:3], i[:, None] % 400, v[:, None], axis=1)


def put(x: Any, i: Any, v: Any) -> None:
    np.put(x, i, v)
    np.copyto(x[3:9], 1.0)
    x[20:24].fill(2.0)
    np.multiply(x[:8], 2.0, out=x[:8])


def in_a_loop(x: Any, n: int) -> None:
    for i in range(n):
        x[i] = x[i - 1] * 0.5


def in_a_loop_inside(x: Any) -> None:
    for i in range(1, 30):
        x[i] = x[i - 1] * 0.5


def in_a_while(x: Any, n: float) -> None:
    while x[0] < n:
        x[0] += 1.0
        x[1] = x[0]


def in_a_branch(x: Any, c: Any) -> None:
    if c:
        x[3] = 1.0
    else:
        x[4] = 2.0


def two_buffers(x: Any, y: Any) -> None:
    x[3], y[4] = y[5], x[6]
    x[10:15], y[10:15] = y[10:15].copy(), x[10:15].copy()


def parts_that_change_places(x: Any) -> None:
    t = x[0:5].copy()
    x[0:5] = x[5:10]
    x[5:10] = t


K_ELEMENTS: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
    (element, ()), (a_slice, ()), (few_of_a_mask, (np.arange(50) % 3 == 0,)), (a_mask_of_a_part, ()),
    (view_of_views, ()), (indices, (K,)), (indices, (7,)), (indices_add, (K, V)), (add_at, (K, V)),
    (indices_of_a_part, (K,)), (indices_of_a_step, (K,)), (indices_of_a_flip, (K,)), (columns, (K,)), (a_column, (K,)),
    (rows_of_a_part, (K,)), (sort_a_slice, ()), (diagonal, ()), (part_of_a_diagonal, ()), (transposed, ()),
    (reshaped, ()), (flipped, ()), (turned, ()), (windows, ()), (along_an_axis, (K, V)), (put, (K, V)),
    (in_a_loop, (30,)), (in_a_while, (5.0,)), (in_a_branch, (np.True_,)), (two_buffers, (X[::-1].copy(),)),
    (parts_that_change_places, ()),
]  # fmt: skip


@pytest.mark.parametrize(("f", "rest"), K_ELEMENTS, ids=lambda v: getattr(v, "__name__", ""))
def test_k_elements_cost_k(f: Callable[..., None], rest: tuple[Any, ...]) -> None:
    assert cost(f, X.copy(), *rest) <= 800
    compiled = st.compile(f)
    ours, theirs = [[np.copy(a) if isinstance(a, np.ndarray) else a for a in (X, *rest)] for _ in range(2)]
    compiled(*ours)
    f(*theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert compiled.explain().stats["copies"] == []


@pytest.mark.parametrize(("f", "rest"), K_ELEMENTS, ids=lambda v: getattr(v, "__name__", ""))
def test_a_buffer_made_inside_is_written_once_more(f: Callable[..., None], rest: tuple[Any, ...]) -> None:
    def made(x: Any, *rest: Any) -> Any:
        y = np.exp(x * 0.1)
        f(y, *rest)
        return y

    assert cost(made, X, *rest) <= N + 800
    ours, theirs = [[np.copy(a) if isinstance(a, np.ndarray) else a for a in rest] for _ in range(2)]
    np.testing.assert_allclose(st.compile(made)(X, *ours), made(X, *theirs), rtol=1e-14)


LANES = [row for row in K_ELEMENTS if row[0] not in (few_of_a_mask, in_a_while, in_a_loop)]
LANES.append((in_a_loop_inside, ()))


@pytest.mark.parametrize(("f", "rest"), LANES, ids=lambda v: getattr(v, "__name__", ""))
def test_lanes_cost_k_each(f: Callable[..., None], rest: tuple[Any, ...]) -> None:
    """Lanes of an argument that is written: k elements of each."""
    if f is two_buffers:
        rest = (np.stack([rest[0]] * 3),)
    axes = (0, 0 if f is two_buffers else None)[: 1 + len(rest)] + (None,) * (len(rest) - 1)
    lanes = st.vmap(f, in_dims=axes)
    xs = np.stack([X, X + 1, X * 2])
    assert cost(lanes, xs, *rest) <= 3 * 800
    ours, theirs = xs.copy(), xs.copy()
    others = [np.copy(a) if isinstance(a, np.ndarray) else a for a in rest]
    st.compile(lanes)(ours, *others)
    for k, row in enumerate(theirs):
        f(row, *[np.copy(a[k]) if f is two_buffers else a for a in rest])
    np.testing.assert_array_equal(ours, theirs)


def test_lanes_that_may_raise_work_on_a_copy() -> None:
    """A transform is one step: where a lane raises, the argument is as it was."""
    lanes = st.vmap(in_a_loop, in_dims=(0, None))
    xs = np.stack([X, X + 1, X * 2])
    assert cost(lanes, xs, 30) <= 2 * xs.size + 3 * 800
    ours = xs.copy()
    with pytest.raises(IndexError):
        st.compile(lanes)(ours, N + 1)
    np.testing.assert_array_equal(ours, xs)


SMOOTH = [row for row in K_ELEMENTS if row[0] not in (in_a_while,)]


@pytest.mark.parametrize(("f", "rest"), SMOOTH, ids=lambda v: getattr(v, "__name__", ""))
def test_a_gradient_costs_its_own_elements(f: Callable[..., None], rest: tuple[Any, ...]) -> None:
    """What is updated, the cotangent of the loss and the gradient have n elements: each is written once, beside k."""

    def loss(x: Any, *rest: Any) -> Any:
        y = x * 1.5
        f(y, *[a.copy() if isinstance(a, np.ndarray) else a for a in rest])
        return np.sum(y * y)

    gradient = st.grad(loss)
    arrays = 4 if f is indices_add else 3  # who wrote last where indices may be equal
    assert cost(gradient, X, *rest) <= arrays * N + 2000
    np.testing.assert_allclose(st.compile(gradient)(X, *rest), gradient(X, *rest), rtol=1e-12, atol=1e-12)


# -- random views ------------------------------------------------------------------------------------------------------


def _view(rng: np.random.Generator, x: Any) -> Any:
    kind = rng.integers(0, 7)
    if kind == 0 and x.ndim:
        k = int(rng.integers(0, x.ndim))
        n = x.shape[k]
        lo, hi = sorted(int(v) for v in rng.integers(0, n + 1, 2))
        step = int(rng.choice([1, 1, 2, 3]))
        cut = slice(lo, hi, step) if rng.random() < 0.7 else slice(hi - 1 if hi else None, None, -step)
        return x[(slice(None),) * k + (cut,)]
    if kind == 1 and x.ndim > 1:
        return x.transpose(tuple(int(k) for k in rng.permutation(x.ndim)))
    if kind == 2 and x.ndim == 1 and x.shape[0] % 2 == 0 and x.strides[0] > 0:
        return x.reshape(2, -1) if rng.random() < 0.5 else x.reshape(-1, 2)
    if kind == 3 and x.ndim > 1 and x.shape[0]:
        return x[int(rng.integers(0, x.shape[0]))]
    if kind == 4:
        return np.flip(x)
    if kind == 5 and x.ndim == 2:
        return np.einsum("ii->i", x[: min(x.shape), : min(x.shape)])
    if kind == 6:
        return x[None]
    return x


def _update(rng: np.random.Generator, y: Any, z: Any) -> None:
    kind = rng.integers(0, 5)
    if kind == 0:
        y[...] = 3.0
    elif kind == 1 and y.ndim and y.shape[0]:
        y[rng.integers(0, y.shape[0], 3)] = 7.0
    elif kind == 2 and y.ndim and y.shape[-1] > 1:
        y[..., 1:] = y[..., :-1] * 2.0
    elif kind == 3:
        y += z[0, 0]
    elif y.ndim and y.shape[0]:
        np.add.at(y, rng.integers(0, y.shape[0], 2), 0.5)


@pytest.mark.parametrize("seed", range(60))
def test_random_views(seed: int) -> None:
    """Updates of random views of two arrays that take turns, with reads between; the same choices in every call."""

    @st.do_not_convert
    def f(x: Any, z: Any) -> Any:
        rng = np.random.default_rng(seed)
        y = x * 1.0 if seed % 3 == 0 else x
        seen = []
        for _ in range(int(rng.integers(1, 5))):
            v = y if rng.random() < 0.7 else z
            for _ in range(int(rng.integers(1, 5))):
                v = _view(rng, v)
            _update(rng, v, z)
            if rng.random() < 0.4:
                seen.append(y.sum() + v.sum())
        return y[::-1] * 1.0, seen

    compiled = st.compile(f)
    ours, theirs = [[np.arange(24.0), np.arange(24.0).reshape(4, 6) + 0.5] for _ in range(2)]
    got, want = compiled(*ours), f(*theirs)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-14)
    np.testing.assert_allclose(got[1], want[1], rtol=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
