"""Windows and `as_strided`: views of the same memory, read and written, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import UnsupportedError

as_strided = np.lib.stride_tricks.as_strided
windows = np.lib.stride_tricks.sliding_window_view
V = np.arange(7.0)


def test_windows_are_read_only_unless_asked_for() -> None:
    def write(v: Any) -> None:
        windows(v, 3)[0] = 1.0

    for f in (write, st.compile(write), st.functionalize(write)):
        with pytest.raises(ValueError, match="read-only"):
            f(V.copy())


def test_a_write_into_one_window_is_seen_in_the_others() -> None:
    def f(v: Any) -> Any:
        w = windows(v, 3, writeable=True)
        w[2, 1] = 9.0
        return w.sum(axis=1), v * 1.0

    for g in (f, st.compile(f), st.compile(f, dynamic=True)):
        sums, v = g(V.copy())
        np.testing.assert_array_equal(v, [0, 1, 2, 9, 4, 5, 6])
        np.testing.assert_array_equal(sums, [3, 12, 15, 18, 15])


def test_strides_of_any_kind() -> None:
    def f(a: Any) -> Any:
        rows, columns = a.strides
        diagonal = as_strided(a, (3,), (rows + columns,))
        back = as_strided(a[2, 3:], (4,), (-columns,))
        blocks = as_strided(a, (2, 2, 2, 2), (rows, 2 * columns, rows, columns))
        return diagonal * 1.0, back * 1.0, blocks.sum(axis=(2, 3)), as_strided(a[1]) * 2, as_strided(a, (0, 3), (8, 8))

    a = np.arange(12.0).reshape(3, 4)
    for got, want in zip(st.compile(f)(a), f(a), strict=True):
        np.testing.assert_array_equal(got, want)
    st.testing.check_grads(f, (a,), order=2)
    st.testing.check_vmap(f, (np.stack([a, a * 2]),))


def test_strides_that_are_refused() -> None:
    for shape, strides in [((7, 2), (8, 8)), ((2,), (-8,)), ((8,), (8,))]:
        with pytest.raises(ValueError, match="reaches beyond the array"):
            st.compile(lambda v, a=shape, b=strides: as_strided(v, a, b))(V)
    with pytest.raises(UnsupportedError, match="not multiples of the 8 bytes"):
        st.compile(lambda v: as_strided(v, (3,), (4,)))(V)
    with pytest.raises(UnsupportedError, match="known while tracing"):
        st.make_graph(lambda v: as_strided(v, (v.shape[0] - 1, 2), (8, 8)))("f64[n]")
    with pytest.raises(UnsupportedError, match=r"a view of the caller(.|\n)*np\.ascontiguousarray"):
        st.compile(lambda v: as_strided(v, (2,), (16,)))(V[::2])
    with pytest.raises(ValueError, match="read-only"):
        st.compile(lambda v: as_strided(v, (3,), (8,), writeable=False).fill(1.0))(V.copy())


def test_einsum_of_one_operand_is_a_view() -> None:
    def f(a: Any) -> Any:
        np.einsum("ii->i", a)[:] = 0.0
        return np.einsum("ij->ji", a), np.einsum("ij->i", a)

    a, b = np.ones((3, 3)), np.ones((3, 3))
    turned, _ = st.compile(f)(a)
    f(b)
    np.testing.assert_array_equal(a, b)
    assert np.shares_memory(turned, a)
    for call in (f, st.compile(f)):
        with pytest.raises(ValueError):  # noqa: PT011  (NumPy's text and stager's)
            call(np.ones((3, 2)))
