"""Updates of an array from its own neighbours on one side: one pass in place, in the order that lets it be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st


def check(f: Callable[..., Any], x: Any) -> None:
    want, got = x.copy(), x.copy()
    f(want)
    st.compile(f)(got)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("n", [2, 9, 33, 65, 131])
@pytest.mark.parametrize("k", [1, 3, 8, 31])
def test_lines(n: int, k: int, rng: np.random.Generator) -> None:
    def up(s: Any) -> None:
        s[k:] += s[:-k]

    def down(s: Any) -> None:
        s[:-k] = 2.0 * s[:-k] - s[k:]

    def every_second(s: Any) -> None:
        s[k::2] = 1.5 * s[:-k:2]

    if k < n:
        for f in (up, down, every_second):
            check(f, rng.standard_normal(n))


def rows_down(s: Any) -> None:
    s[1:, 2:] = s[:-1, :-2] + s[1:, 1:-1]


def rows_up(s: Any) -> None:
    s[:-1, :-1] = np.where(s[1:, 1:] > 0, s[:-1, 1:], s[1:, :-1])


def whole_rows(s: Any) -> None:
    s[1:] += s[:-1]


def columns(s: Any) -> None:
    s.T[1:] -= s.T[:-1]


def upper_right(s: Any) -> None:
    s[1:, :-1] = 2 * s[:-1, 1:]


def lower_left(s: Any) -> None:
    s[:-1, 1:] = 2 * s[1:, :-1]


def both_sides(s: Any) -> None:
    s[1:-1] = s[:-2] + s[2:]


def mirrored(s: Any) -> None:
    s[1:] = s[::-1][1:]


def all_below_one(s: Any) -> None:
    s[1:] += s[0]


def by_row(s: Any) -> None:
    for i in range(1, s.shape[0]):
        s[i, 1:] += s[i, :-1]
        s[i] -= s[i - 1]


IN_PLACE = [(rows_down, True), (rows_up, False), (whole_rows, True), (columns, True), (upper_right, True),
            (lower_left, False), (by_row, True)]  # fmt: skip


@pytest.mark.parametrize("f", [*(f for f, _ in IN_PLACE), both_sides, mirrored, all_below_one])
@pytest.mark.parametrize("shape", [(3, 4), (7, 9), (20, 33)])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1"])
def test_planes(f: Any, shape: Any, dtype: str, rng: np.random.Generator) -> None:
    check(f, (10 * rng.standard_normal(shape)).astype(dtype))


@pytest.mark.parametrize(("f", "descending"), IN_PLACE)
def test_no_copy_is_made(f: Any, descending: bool) -> None:
    text = st.compile(f).show(np.zeros((20, 33)), stage="kernels")
    assert ("descending" in text) is descending
    assert "arena" not in text


@pytest.mark.parametrize("f", [both_sides, mirrored])
def test_neighbours_on_both_sides_take_a_copy(f: Any) -> None:
    text = st.compile(f).show(np.zeros((20, 33)), stage="kernels")
    assert "descending" not in text
    assert "arena" in text


def test_a_wrong_index_leaves_the_array_as_it_was(rng: np.random.Generator) -> None:
    def f(s: Any, k: Any) -> None:
        s[1:] = s[:-1] + s[k]

    s = rng.standard_normal(40)
    before = s.copy()
    with pytest.raises(IndexError, match="index 40 is out of bounds for axis 0 with size 40"):
        st.compile(f)(s, np.r_[np.zeros(20, int), 40, np.zeros(18, int)])
    np.testing.assert_array_equal(s, before)


def test_sizes_of_the_run(rng: np.random.Generator) -> None:
    def f(s: Any) -> None:
        s[3:] += s[:-3]

    compiled = st.compile(f, dynamic=True)
    for n in (4, 7, 8, 40, 100):
        want = rng.standard_normal(n)
        got = want.copy()
        f(want)
        compiled(got)
        np.testing.assert_array_equal(got, want)
