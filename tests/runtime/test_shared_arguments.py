"""Arguments that share memory while one of them is written: the right result or an error, never a wrong result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.compiler import compiler_of
from stager.errors import MutationError


def shifted(x: Any, y: Any) -> None:
    x[1:] = y[:-1] * 2


def test_shared_elements_are_refused() -> None:
    f, z = st.compile(shifted), np.arange(6.0)
    for x, y in [(z, z), (z[:4], z[1:5]), (z, z[::-1])]:
        for _ in range(2):
            with pytest.raises(ValueError, match="two arguments share memory and one of them is written"):
                f(x, y)
    f(z[:3], z[3:])
    with pytest.raises(ValueError, match="two arguments share memory and one of them is written"):
        f(z[:3], z[2:5])
    np.testing.assert_array_equal(z, [0, 6, 8, 3, 4, 5])


def test_arrays_that_lie_among_each_other() -> None:
    f = st.compile(shifted)
    for _ in range(3):
        ours, theirs = np.arange(8.0), np.arange(8.0)
        f(ours[::2], ours[1::2])
        shifted(theirs[::2], theirs[1::2])
        np.testing.assert_array_equal(ours, theirs)
        ours, theirs = np.arange(16.0).reshape(4, 4), np.arange(16.0).reshape(4, 4)
        f(ours[:, 0], ours[:, 3])
        shifted(theirs[:, 0], theirs[:, 3])
        np.testing.assert_array_equal(ours, theirs)
    known = len(compiler_of(f).history)
    f(np.arange(8.0)[::2], np.arange(8.0)[1::2])
    f(ours[:, 0], ours[:, 3])
    assert len(compiler_of(f).history) <= known + 1


def test_reading_shared_arguments_needs_no_copies() -> None:
    f, z = st.compile(lambda x, y: x + y), np.arange(8.0)
    for x, y in [(z, z), (z[::2], z[1::2]), (z[:4], z[2:6])]:
        for _ in range(2):
            np.testing.assert_array_equal(f(x, y), x + y)


def test_a_returned_argument_is_the_argument() -> None:
    @st.compile
    def f(x: Any, y: Any) -> Any:
        x += y
        return x

    z = np.arange(8.0)
    x = z[::2]
    assert f(x, z[1::2]) is x
    np.testing.assert_array_equal(z, [1, 1, 5, 3, 9, 5, 13, 7])


def test_captured_arrays() -> None:
    z = np.arange(8.0)
    even = z[::2]

    @st.compile
    def f(x: Any) -> None:
        x += even

    f(np.zeros(4))
    for x in (z[1::2], z[:4]):
        with pytest.raises(ValueError, match="a captured array lies in one block of memory with an array"):
            f(x)


def product(a: Any, b: Any) -> Any:
    a[0] = 10.0
    return (a * b).sum()


@pytest.mark.parametrize(
    "call",
    [
        lambda z: st.grad(product, argnums=(0, 1))(z, z),
        lambda z: st.value_and_grad(product)(z, z[::-1]),
        lambda z: st.jvp(product, (z, z), (z, z)),
        lambda z: st.functionalize(product)(z, z),
        lambda z: st.vmap(product)(z[:, None], z[:, None]),
    ],
)
def test_transforms_refuse_shared_elements_that_are_written(call: Any) -> None:
    with pytest.raises(ValueError, match="two arguments share memory and one of them is written"):
        call(np.array([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    "call",
    [
        lambda z: st.grad(product, argnums=(0, 1))(z, z),
        lambda z: st.grad(product)(z, z),
        lambda z: st.grad(lambda v: product(v, z))(z),
        lambda z: st.functionalize(product)(z, z),
        lambda z: st.vmap(product)(z[:, None], z[:, None]),
        lambda z: st.grad(product, argnums=(0, 1))(z[:2], z[1:]),
    ],
)
def test_the_same_inside_a_traced_function(call: Any) -> None:
    with pytest.raises(MutationError, match="it shares memory with an argument of a transformed function"):
        st.compile(call)(np.array([1.0, 2.0, 3.0]))


def test_views_that_share_no_element_are_two_arrays() -> None:
    want = np.array([0.0, 3.0, 5.0]), np.array([10.0, 2.0, 4.0])
    for f in (lambda z: st.grad(product, argnums=(0, 1))(z[::2], z[1::2]),):
        for call in (f, st.compile(f)):
            for got, w in zip(call(np.arange(6.0)), want, strict=True):
                np.testing.assert_array_equal(got, w)
    z = np.arange(6.0)
    np.testing.assert_array_equal(st.compile(lambda z: st.grad(product)(z[::2], z[1::2]))(z), want[0])
    np.testing.assert_array_equal(z, [10, 1, 2, 3, 4, 5])
