"""Items of Python lists that are read and set by a traced index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError


def servers(times: Any, lengths: Any) -> Any:
    """Numbers that the first turn makes arrays, chosen by a comparison."""
    free = [0.0, 0.0]
    total = 0.0
    for t, s in zip(times, lengths, strict=True):
        k = 0 if free[0] <= free[1] else 1
        begin = max(t, free[k])
        total += begin - t
        free[k] = begin + s
    return total, np.array(free)


def buckets(x: Any) -> Any:
    sums, counts = [0.0, 0.0, 0.0], [0] * 4
    for i in range(len(x)):
        k = int(np.floor(x[i] * 3))
        sums[k] += x[i]
        counts[k - 4] = counts[k - 4] + 1
    return np.array(sums) @ np.arange(3.0), counts[0] + 10 * counts[1] + 100 * counts[2]


TIMES = np.cumsum(np.random.default_rng(0).exponential(1.0, 8))
LENGTHS = np.random.default_rng(1).exponential(1.0, 8)
X = np.random.default_rng(0).random(6)


@pytest.mark.parametrize(("f", "args"), [(servers, (TIMES, LENGTHS)), (buckets, (X,))])
def test_set_and_read(f: Any, args: Any) -> None:
    for got, want in zip(st.compile(f)(*args), f(*args), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13)
    lanes = [np.stack([a, a * 0.9]) for a in args]
    got = st.compile(st.vmap(f))(*lanes)
    for k in range(2):
        for g, w in zip(got, f(*[a[k] for a in lanes]), strict=True):
            np.testing.assert_allclose(g[k], w, rtol=1e-13)
    st.testing.check_grads(lambda *a: f(*a)[0], args, order=1)


def test_an_index_out_of_range() -> None:
    def f(x: Any) -> Any:
        items = [x[0], x[1]]
        items[int(x[2])] = 5.0
        return items[0] + 2 * items[1]

    compiled = st.compile(f)
    assert compiled(np.array([1.0, 2.0, -2.0])) == 9.0
    for k in (2.0, -3.0):
        with pytest.raises(IndexError, match="list assignment index out of range"):
            compiled(np.array([1.0, 2.0, k]))


def names_of_an_item(x: Any, at: Any) -> Any:
    out = [x * 1.0, x + 1.0, x + 2.0]
    row = out[1]
    for i in range(len(at)):
        out[at[i]] *= 2.0
        out[at[i]][i % 2] += x[1]
    return np.stack([row, *out])


def a_name_that_is_picked(x: Any, at: Any) -> Any:
    out = (x * 1.0, x * 2.0, x * 3.0)
    for i in range(len(at)):
        row = out[at[i]]
        row[1:] += i
        row *= 1.5
    return np.stack(out)


def set_and_written(x: Any, at: Any) -> Any:
    out = [x * 1.0, x * 2.0, x * 3.0]
    for k in at:
        out[k] = out[k] * 0.5 + x
    out[0][1] = 3.0
    return np.stack(out)


@pytest.mark.parametrize("f", [names_of_an_item, a_name_that_is_picked, set_and_written])
@pytest.mark.parametrize("at", [[0, 1, 1, 2], [2, -2, -1, 0]])
def test_writes_into_a_picked_item(f: Any, at: Any) -> None:
    x, at = X[:3], np.array(at)
    np.testing.assert_allclose(st.compile(f)(x, at), f(x, at), rtol=1e-13)
    lanes = np.stack([at, at[::-1]])
    want = [f(x, a) for a in lanes]
    np.testing.assert_allclose(st.compile(st.vmap(f, in_dims=(None, 0)))(x, lanes), want, rtol=1e-13)
    st.testing.check_grads(lambda x: f(x, at), (x,), order=1)


def test_older_names_of_an_item_that_was_set() -> None:
    def f(x: Any, k: Any) -> Any:
        out = [x * 1.0, x * 2.0]
        row = out[1]
        out[k] = x + 5.0
        row[0] = 9.0
        return out[1]

    with pytest.raises(st.errors.MutationError, match="under another name"):
        st.compile(f)(X, np.int64(0))


def left_by_break(x: Any) -> Any:
    out, held = [x, x], {"a": x, "b": x}
    for j in range(3):
        if x[j] > 0.5:
            out[0] = x * j
            held["a"] = x + j
            break
    for j in range(3):
        if x[j] > 0.5:
            out[1] = x * j
            continue
        held["b"] = x * j
    return out[0] + 2 * out[1] + held["a"] - held["b"]


def test_items_that_are_set_before_a_break() -> None:
    """The turns behind it are traced again for what they assign: all of them."""
    x = np.array([0.3, 0.7, 1.1])
    np.testing.assert_allclose(st.compile(left_by_break)(x), left_by_break(x), rtol=1e-14)


def test_many_turns_behind_a_break() -> None:
    def f(x: Any) -> Any:
        out: list[Any] = [None] * 12
        for i in range(12):
            if x[0] * i > 1:
                out[i] = x * i
                break
        return out

    with pytest.raises(ControlFlowError, match="behind a break or continue"):
        st.compile(f)(np.array([0.3, 0.7, 1.1]))
