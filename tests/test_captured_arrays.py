"""Arrays that a compiled function reads from outside: known by two names, of odd kinds, frozen, and in pickles."""

from __future__ import annotations

import functools
import pickle
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.compiler import compiler_of
from stager.errors import MutationError

X, Y, Z = np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 2.0]), np.array([2.0, 2.0, 5.0])
FIRST = SECOND = X


class Config:
    weight = X


CONFIG = Config()


def traces(f: Any) -> int:
    return len(compiler_of(f).history)


def both_names(x: Any) -> Any:
    return FIRST * x + SECOND


def test_an_array_known_by_two_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was one array at the first call may be two at the next."""
    f = st.compile(both_names)
    for first, second in [(X, X), (Z, X), (Z, Z), (X, Z), (X, X)]:
        monkeypatch.setitem(globals(), "FIRST", first)
        monkeypatch.setitem(globals(), "SECOND", second)
        for x in (Y, X, Z):
            np.testing.assert_array_equal(f(x), first * x + second)
    before = traces(f)
    np.testing.assert_array_equal(f(Y), X * Y + X)
    assert traces(f) == before


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"k": [x]}], ids=["bare", "nested"])
def test_a_captured_array_that_is_an_argument_too(wrap: Any) -> None:
    def times(x: Any, y: Any) -> Any:
        while isinstance(x, dict | list):
            x = x["k"] if isinstance(x, dict) else x[0]
        return x * X + y

    f = st.compile(times)
    for x, y in [(X, X), (X, Y), (Y, X), (Y, Y), (X, X)]:
        np.testing.assert_array_equal(f(wrap(x), y), x * X + y)
    derivative = st.compile(lambda x, y: st.hvp(lambda a, b: (a**2 * b).sum(), (x, y), (Y, X))[1])
    for a, b in [(X, Y), (Y, X), (Z, Z), (X, Y)]:
        da, db = derivative(a, b)
        np.testing.assert_allclose(da, 2 * b * Y + 2 * a * X)
        np.testing.assert_allclose(db, 2 * a * Y)


def test_a_written_argument_that_is_captured() -> None:
    captured = X.copy()

    def f(x: Any) -> Any:
        x[0] = captured[1] * 2
        return x + captured

    compiled = st.compile(f)
    np.testing.assert_array_equal(compiled(captured), [8, 4, 6])
    np.testing.assert_array_equal(captured, [4, 2, 3])
    other = Y.copy()
    np.testing.assert_array_equal(compiled(other), [8, 1, 5])
    np.testing.assert_array_equal(other, [4, -1, 2])
    np.testing.assert_array_equal(captured, [4, 2, 3])


def test_frozen_arrays_do_not_follow_an_argument() -> None:
    f = st.compile(lambda x: x * X, freeze=True)
    for x in (X, Y, X):
        np.testing.assert_array_equal(f(x), x * X)


class Plain(np.ndarray):
    pass


def misaligned(x: Any) -> Any:
    raw = np.concatenate([np.zeros(1, np.uint8), x.view(np.uint8)])
    return raw[1:].view(x.dtype)


ODD = {
    "subclass": lambda x: x.view(Plain),
    "byte-swapped": lambda x: x.astype(">f8"),
    "misaligned": misaligned,
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_captured_arrays_are_read_at_each_call(kind: str) -> None:
    w = ODD[kind](X.copy())
    v = w
    f = st.compile(lambda x: x * w + v)
    np.testing.assert_array_equal(f(Y), X * Y + X)
    w[0] = 9.0
    np.testing.assert_array_equal(f(Y), np.asarray(w, float) * (Y + 1))
    before = traces(f)
    w[1] = 7.0
    np.testing.assert_array_equal(f(Y), np.asarray(w, float) * (Y + 1))
    assert traces(f) == before
    w = ODD[kind](Z.copy())
    np.testing.assert_array_equal(f(Y), Z * Y + np.asarray(v, float))
    v = Z
    np.testing.assert_array_equal(f(Y), Z * Y + Z)


def test_writes_into_odd_captured_arrays() -> None:
    def write_into(w: Any) -> Any:
        def f(x: Any) -> Any:
            w[0] = x[1]
            return w + x

        return f

    own = X.copy().view(Plain)
    np.testing.assert_array_equal(st.compile(write_into(own))(Y), [-0.5, 1, 5])
    np.testing.assert_array_equal(np.asarray(own), [-1, 2, 3])
    for kind in ("byte-swapped", "misaligned"):
        with pytest.raises(MutationError, match="which is byte-swapped or misaligned"):
            st.compile(write_into(ODD[kind](X)))(Y)


def by_attribute(x: Any) -> Any:
    return x * CONFIG.weight


def test_pickles_read_attributes_of_globals(monkeypatch: pytest.MonkeyPatch) -> None:
    f = st.compile(by_attribute)
    f(Y)
    again = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal(again(Y), X * Y)
    monkeypatch.setattr(CONFIG, "weight", Z)
    np.testing.assert_array_equal(again(Y), Z * Y)
    assert traces(again) == 1


def test_pickles_of_odd_captured_arrays_and_of_two_names() -> None:
    w = X.view(Plain)
    v = Z
    u = v
    f = st.compile(lambda x: x * w + v * u)
    f(Y)
    again = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal(again(Y), X * Y + Z * Z)


def test_a_large_array_made_while_tracing_is_told_of() -> None:
    made = functools.partial(np.frombuffer, bytes(2 << 20), np.float64)  # stager does not see the call

    def f(x):
        return x[0] + made()

    with pytest.warns(RuntimeWarning, match=r"an array of 2.0 MiB .* is a constant of the compiled code\n  at .*in f"):
        st.compile(f)(np.ones(3))
    assert st.compile(f, freeze=True)(np.ones(3)).shape == (2 << 17,)
