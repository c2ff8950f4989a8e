"""Writes through every kind of view: what the base holds afterwards, and what is refused, as in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import MutationError

SHAPE = (4, 6)


def base() -> Any:
    return np.arange(24.0).reshape(SHAPE)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "row": lambda x: x[1],
    "column": lambda x: x[:, -1],
    "step": lambda x: x[::2, 1::3],
    "reversed": lambda x: x[::-1, ::-2],
    "newaxis": lambda x: x[:, None, 2:],
    "ellipsis": lambda x: x[..., 0],
    "transpose": lambda x: x.T,
    "swapaxes of slice": lambda x: x[1:].swapaxes(0, 1),
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "reshape": lambda x: x.reshape(2, 12),
    "ravel": lambda x: x.ravel(),
    "reshape of rows": lambda x: x[1:3].reshape(-1),
    "flip": lambda x: np.flip(x, 1),
    "rot90": np.rot90,
    "squeeze": lambda x: np.squeeze(x[:, :1]),
    "expand_dims": lambda x: np.expand_dims(x, 1),
    "split": lambda x: np.split(x, 2)[1],
    "array_split": lambda x: np.array_split(x, 4, axis=1)[2],
    "view": lambda x: x.view(),
    "view of view": lambda x: x.T[1:4].T[::2],
    "asarray": np.asarray,
    "real": lambda x: x.real,
    "einsum diagonal": lambda x: x.ravel()[:: x.shape[1] + 1],
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=1, writeable=True),
    "atleast_3d": np.atleast_3d,
    "broadcast of itself": lambda x: x[...],
    "unstack": lambda x: np.unstack(x)[2],
}
COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": lambda x: x.copy(),
    "np.array": np.array,
    "flatten": lambda x: x.flatten(),
    "reshape of transpose": lambda x: x.T.reshape(-1),
    "ravel of columns": lambda x: x[:, :2].ravel(),
    "fancy": lambda x: x[np.array([0, 2])],
    "mask": lambda x: x[np.array([True, False, True, True])],
    "take": lambda x: np.take(x, [0, 1], axis=1),
    "astype": lambda x: x.astype(x.dtype),
    "ascontiguousarray of transpose": lambda x: np.ascontiguousarray(x.T),
    "sort": lambda x: np.sort(x, axis=0),
    "roll": lambda x: np.roll(x, 0),
    "tile": lambda x: np.tile(x, 1),
    "repeat": lambda x: np.repeat(x, 1, axis=0),
    "pad": lambda x: np.pad(x, 0),
    "where": lambda x: np.where(True, x, 0.0),
    "concatenate": lambda x: np.concatenate([x]),
    "positive": lambda x: +x,
    "clip": lambda x: np.clip(x, None, 100.0),
    "round": lambda x: np.round(x),
}
READ_ONLY: dict[str, Callable[[Any], Any]] = {
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 4, 6)),
    "diagonal": np.diagonal,
    "diag": np.diag,
    "windows": lambda x: np.lib.stride_tricks.sliding_window_view(x, 2, axis=0),
    "slice of broadcast": lambda x: np.broadcast_to(x, (2, 4, 6))[0],
}
WRITES: dict[str, Callable[[Any], Any]] = {
    "assign": lambda v: v.__setitem__(Ellipsis, -1.0),
    "iadd": lambda v: v.__iadd__(10.0),
    "out": lambda v: np.multiply(v, 2.0, out=v),
    "fill": lambda v: v.fill(7.0),
    "mask": lambda v: v.__setitem__(v > 9.0, 0.5),
    "flat": lambda v: v.flat.__setitem__(slice(None, None, 2), 3.0),
    "sort": lambda v: v.sort(),
    "put": lambda v: v.put([0, 1], [5.0, 6.0]),
    "copyto": lambda v: np.copyto(v, 4.0, where=v > 3.0),
    "add.at": lambda v: np.add.at(v, (np.array([0, 0]),), 1.0),
    "place": lambda v: np.place(v, v > 2.0, [1.0, 2.0, 3.0]),
}
# overlapping windows: what NumPy leaves behind depends on the order of its own loops
UNORDERED = {"iadd", "out", "sort", "mask", "flat", "copyto", "add.at", "place", "put"}


def through(make: Callable[[Any], Any], write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        y = x * 1.0
        v = make(y)
        write(v)
        return y, v * 1.0

    return f


PAIRS = [(v, w) for v in VIEWS for w in WRITES if not (v == "windows" and w in UNORDERED)]


@pytest.mark.parametrize(("view", "write"), PAIRS)
def test_writes_through_views(view: str, write: str) -> None:
    f = through(VIEWS[view], WRITES[write])
    for got, want in zip(st.functionalize(f)(base()), f(base()), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(("view", "write"), [p for k, p in enumerate(PAIRS) if k % 4 == 0])
def test_writes_through_views_compiled(view: str, write: str) -> None:
    f = through(VIEWS[view], WRITES[write])
    for got, want in zip(st.compile(f)(base()), f(base()), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("view", VIEWS)
def test_arguments_are_written_back(view: str) -> None:
    def f(x: Any) -> None:
        v = VIEWS[view](x)
        v[...] = v * 0 - 3.0

    ours, theirs = base(), base()
    st.compile(f)(ours)
    f(theirs)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("copy", COPIES)
def test_copies_do_not_reach_the_base(copy: str) -> None:
    def f(x: Any) -> Any:
        y = x * 1.0
        v = COPIES[copy](y)
        v[...] = -1.0
        return y, v

    for transformed in (st.functionalize(f), st.compile(f)):
        for got, want in zip(transformed(base()), f(base()), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("view", READ_ONLY)
def test_read_only_views_refuse_writes(view: str) -> None:
    def f(x: Any) -> Any:
        v = READ_ONLY[view](x)
        v[...] = 1.0
        return x

    with pytest.raises(ValueError, match="read-only"):
        f(base())
    for transformed in (st.functionalize(f), st.compile(f)):
        with pytest.raises(ValueError, match="read-only"):
            transformed(base())


def test_out_of_functions() -> None:
    def f(x: Any) -> Any:
        buffers = [np.empty(6) for _ in range(8)]
        np.sum(x, axis=0, out=buffers[0])
        x.mean(axis=0, out=buffers[1])
        np.max(x, axis=0, out=buffers[2])
        np.take(x, [0, 1, 2, 3, 4, 5], out=buffers[3])
        np.cumsum(x[0], out=buffers[4])
        np.dot(x[0], np.eye(6), out=buffers[5])
        np.clip(x[1], 7.0, 9.0, out=buffers[6])
        np.std(x, axis=0, out=buffers[7])
        return buffers

    for transformed in (st.functionalize(f), st.compile(f)):
        for got, want in zip(transformed(base()), f(base()), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-15)


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")  # since NumPy 2.5
def test_shape_can_be_assigned() -> None:
    def f(x: Any) -> Any:
        y = x.copy()
        y.shape = (3, 2)
        y[0] = 7
        return y

    x = np.arange(6.0)
    np.testing.assert_array_equal(st.compile(f)(x), f(x))
    np.testing.assert_array_equal(st.compile(st.vmap(f))(np.stack([x, x + 1])), np.stack([f(x), f(x + 1)]))

    def transposed(x: Any) -> None:
        y = x.copy().T
        y.shape = (6,)

    with pytest.raises(AttributeError, match="Incompatible shape for in-place modification"):
        st.compile(transposed)(x.reshape(2, 3))

    def argument(x: Any) -> None:
        x.shape = (3, 2)

    with pytest.raises(MutationError, match=r"use x\.reshape"):
        st.compile(argument)(x)


def squared(x: Any) -> Any:
    m = x > 0.2
    x[m] = x[m] ** 2
    return x


def scaled(x: Any) -> Any:
    x[x > 0.2] *= 0.7
    return x


def resorted(x: Any) -> Any:
    m = x > 0.2
    x[m] = np.sort(x[m])[::-1]
    return x


def doubled_read(x: Any) -> Any:
    m = x > 0.2
    return x * (x[m].sum() + (x[m] ** 2).sum())


@pytest.mark.parametrize("f", [squared, scaled, resorted, doubled_read], ids=lambda f: f.__name__)
def test_masks_that_select_nothing(f: Any) -> None:
    def g(x: Any) -> Any:
        return f(x.copy())

    def loss(x: Any) -> Any:
        return (g(x) ** 2).sum()

    compiled, gradient = st.compile(g), st.compile(st.grad(loss))
    pushed = st.compile(lambda x: st.jvp(g, (x,), (x,))[1])
    for x in (np.array([-1.0, -1.0, -2.0]), np.array([1.0, -1.0, 2.0]), np.zeros(0)):
        np.testing.assert_allclose(compiled(x), g(x))
        slope = (g(x * (1 + 1e-6)) - g(x * (1 - 1e-6))) / 2e-6
        np.testing.assert_allclose(pushed(x), slope, atol=1e-6)
        np.testing.assert_allclose((gradient(x) * x).sum(), (2 * g(x) * slope).sum(), atol=1e-5)
        rows = np.stack([x, -x, np.abs(x)])
        np.testing.assert_allclose(st.compile(st.vmap(g))(rows), np.stack([g(r) for r in rows]))
        np.testing.assert_allclose(st.compile(st.vmap(st.grad(loss)))(rows), np.stack([gradient(r) for r in rows]))


def test_arrays_of_no_dims_are_changed_in_place() -> None:
    def add(x, w):
        w += x.sum()
        return w

    def loop(x, w):
        for i in range(x.shape[0]):
            w += x[i]
        return w * 2

    def alias(x, w):
        v = w
        v *= 2
        return v + x.sum()

    def number(x, w):
        s = t = x.sum()
        s += 1
        return s, t, w

    for f in (add, loop, alias, number):
        for dtype in (np.float32, np.float64):
            compiled = st.compile(f)
            for _ in range(2):
                ours, theirs = np.ones((), dtype), np.ones((), dtype)
                got, want = compiled(np.arange(3.0), ours), f(np.arange(3.0), theirs)
                np.testing.assert_equal(got, want)
                assert (ours, ours.dtype) == (theirs, theirs.dtype)
    with pytest.raises(TypeError):
        st.compile(add)(np.ones(3), np.zeros((), np.int64))
    square = st.grad(lambda w: add(np.ones(3), w) * w)
    assert (square(np.array(2.0)), square(2.0)) == (10.0, 7.0)


def test_a_view_of_everything_is_another_array() -> None:
    def f(x: Any) -> Any:
        y, z = x[...], x.T
        y.shape = z.shape = (2, 2)
        y[0, 1] = 9.0
        return x.shape, z

    x = np.arange(4.0)
    shape, z = st.compile(f)(x)
    assert shape == (4,)
    np.testing.assert_array_equal(z, [[0.0, 9.0], [2.0, 3.0]])
    for view in (lambda x: x[...], lambda x: x[:], lambda x: x.T):
        y = st.compile(view)(x)
        assert y is not x
        assert np.shares_memory(y, x)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "C": lambda x: x,
    "reversed": lambda x: x[::-1],
    "Fortran": np.asfortranarray,
    "gaps": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
}
MAYBE_VIEWS: dict[str, Callable[[Any], Any]] = {
    "reshape": lambda x: x.reshape(-1),
    "reshape to a column": lambda x: x.reshape(-1, 1),
    "reshape F": lambda x: x.reshape(-1, order="F"),
    "reshape A": lambda x: np.reshape(x, -1, order="A"),
    "reshape of T": lambda x: x.T.reshape(-1),
    "ravel": lambda x: x.ravel(),
    "ravel F": lambda x: np.ravel(x, order="F"),
    "ravel A": lambda x: x.ravel(order="A"),
    "ravel K": lambda x: np.ravel(x, order="K"),
    "ravel of a step": lambda x: x[0, ::2].ravel(),
    "of a copy": lambda x: x.copy()[:, ::2].ravel(),
}


@pytest.mark.parametrize("name", MAYBE_VIEWS)
def test_what_is_a_view_depends_on_the_layout_of_the_argument(name: str) -> None:
    def f(x: Any) -> Any:
        y = MAYBE_VIEWS[name](x)
        y[2:3] = 70.0
        return x.sum() + (y * y).sum()

    compiled = st.compile(f)
    for make in LAYOUTS.values():
        theirs, ours = make(np.arange(9.0).reshape(3, 3)), make(np.arange(9.0).reshape(3, 3))
        want = f(theirs)
        np.testing.assert_array_equal(compiled(ours), want)
        np.testing.assert_array_equal(ours, theirs)
        for transformed in (
            st.grad(f),
            lambda x: st.vmap(f)(x[None]),
            lambda x: st.vmap(f, in_dims=2)(x[..., None]),
            lambda x: st.grad(lambda y: st.vmap(f)(y[None]).sum())(x),
        ):
            ours = make(np.arange(9.0).reshape(3, 3))
            transformed(ours)
            np.testing.assert_array_equal(ours, theirs)


def raises(x: Any) -> None:
    x[0] = 7.0
    np.negative(x[1:], out=x[1:])
    raise KeyError("stop")


def asserts(x: Any) -> Any:
    x[0] = 7.0
    assert x[1] > 0
    x[2] = 9.0
    return x.sum()


def raises_under_a_condition(x: Any) -> Any:
    x[0] = 7.0
    if x[1] < 0:
        raise KeyError("stop")
    x[2] = 9.0
    return x.sum()


def leaves_the_array(x: Any) -> None:
    for i in range(x.shape[0]):
        x[i] = x[(i + 40) % 70]


@pytest.mark.parametrize("f", [raises, asserts, raises_under_a_condition, leaves_the_array], ids=lambda f: f.__name__)
def test_writes_before_an_exception_stay(f: Callable[[Any], Any]) -> None:
    theirs, ours = np.arange(60.0), np.arange(60.0)
    theirs[1] = ours[1] = -2.0
    with pytest.raises(Exception) as expected:  # noqa: PT011
        f(theirs)
    with pytest.raises(expected.type):
        st.compile(f)(ours)
    assert ours[0] != 0.0
    np.testing.assert_array_equal(ours, theirs)
