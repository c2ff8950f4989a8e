"""Variables and results that are None on some paths, where traced control flow decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError, MutationError
from tests.capture.test_staged import assert_same, evaluated
from tests.graphs import size_of

X = np.array([0.3, -0.2, 0.5, 0.1])


def one_side(x, n):
    y = None
    if x[0] > 0.4:
        y = x
    return y


def two_returns(x, n):
    if x[0] > 0.4:
        return x, 1
    return None


def found_or_not(x, n):
    for i in range(n):
        if np.sin(x[0] * i) > 0.9:
            return i


def first_index(x, n):
    found = None
    for k in range(n):
        if np.sin(x[0] * k) > 0.9:
            found = k
            break
    return -1 if found is None else found


def least_above(x, n):
    best, at = None, None
    for k in range(n):
        v = np.sin(x[0] * k)
        if v > 0.7 and (best is None or v < best):
            best, at = v, k
    return best, at


def the_one_before(x, n):
    prev, total = None, 0.0
    for k in range(n):
        if np.sin(x[0] * k * 3) > 0:
            if prev is not None:
                total += np.abs(prev - x).sum() * k
            prev = x * k
        elif k > 5:
            prev = None
    return total


def of_a_call(x, n):
    at = found_or_not(x, n)
    if at is None:
        at = 3
    return x * at


def as_a_test(x, n):
    hit = None
    for k in range(n):
        if np.sin(x[0] * k) > 0.9 and not hit:
            hit = k
    return x * hit if hit else x


def a_tuple(x, n):
    best, t = None, 0.0
    while t < x[0] * n:
        t = t + 0.3
        if np.sin(t) > 0.5 and (best is None or t < best[0]):
            best = t, x * t
    if best is not None:
        a, b = best
        return a + b.sum()
    return x[0]


def a_list(x, n):
    best = None
    for k in range(n):
        if np.sin(x[0] * k) > 0.8:
            best = [x * k, x[1]]
    if None is best:
        return x
    return best[0] + best[1]


def or_another(x, n):
    y = None
    if x[0] > 0.4:
        y = x[1]
    return (y or 7.0) + x, y and y * 2


PROGRAMS = [
    a_list, or_another,
    one_side, two_returns, found_or_not, first_index, least_above, the_one_before, of_a_call, as_a_test, a_tuple,
]  # fmt: skip


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_programs(f: Any) -> None:
    graphs = [st.make_graph(lambda x, n=n: f(x, n))(X) for n in (30, 60)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    compiled = st.compile(lambda x: f(x, 12))
    for x in (X, X * 0.1, X + 1):
        assert_same(compiled(x), f(x, 12))
    assert_same(evaluated(lambda x: f(x, 12), X)[0], f(X, 12))


def test_derivatives() -> None:
    e, v = 1e-6, np.array([0.1, 0.2, -0.3, 0.7])
    for f in (the_one_before, a_tuple):
        slope = (f(X + e * v, 12) - f(X - e * v, 12)) / (2 * e)
        np.testing.assert_allclose(st.compile(st.grad(lambda x, f=f: f(x, 12)))(X) @ v, slope, rtol=1e-6)
        np.testing.assert_allclose(st.grad(lambda x, f=f: f(x, 12))(X) @ v, slope, rtol=1e-6)
        batch = np.stack([X, X * 0.1, X + 1])
        np.testing.assert_allclose(st.vmap(lambda x, f=f: f(x, 12))(batch), [f(x, 12) for x in batch], rtol=1e-12)


def test_none_is_used() -> None:
    f = st.compile(lambda x: one_side(x, 0) * 2)
    assert_same(f(X + 1), (X + 1) * 2)
    with pytest.raises(TypeError, match="a value that is None here is used"):
        f(X)


def test_some_lanes_have_none() -> None:
    f = st.vmap(lambda x: one_side(x, 0))
    assert_same(f(np.stack([X + 1, X + 2])), np.stack([X + 1, X + 2]))
    assert f(np.stack([X, X])) is None
    with pytest.raises(TypeError, match="None for some lanes"):
        f(np.stack([X, X + 1]))


def under_another_name(x):
    y, z = None, [x[0], x[1]]
    if x[0] > 0.4:
        y = z
    z[0] = x[2]
    return y


def written_in_place(x):
    y, z = None, x * 1
    if x[0] > 0.4:
        y = z
    if y is not None:
        y += 1
    return z


def set_in_a_list(x):
    y = None
    if x[0] > 0.4:
        y = [x[0], x[1]]
    z = y
    if z is not None:
        z[0] = x[2]
    return y


def asked_which(x):
    y = None
    if x[0] > 0.4:
        y = x
    return x * 2 if y is x else x


@pytest.mark.parametrize("f", [under_another_name, written_in_place, set_in_a_list, asked_which])
def test_other_names_are_refused(f: Any) -> None:
    with pytest.raises((ControlFlowError, MutationError)):
        st.compile(f)(X)


def test_where_values_are_known_python_goes_one_way() -> None:
    def f(x):
        low = None
        if x[0] > 0.4:
            low = x[1]
        return np.clip(x, low, 0.4).sum()

    for x in (X, X + 1):
        assert_same(st.value_and_grad(f)(x)[0], f(x))
    assert_same(st.value_and_grad(lambda x: written_in_place(x).sum())(X + 1)[0], written_in_place(X + 1).sum())
