"""Rows and columns that an update reads are set aside, and the update runs in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.pipeline import optimize


def program(f: Callable[..., Any], *args: Any) -> str:
    return str(compile_graph(optimize(st.make_graph(f)(*args)), Target.host()).program)


def shortest(D: Any) -> Any:
    D = D.copy()
    for k in range(D.shape[0]):
        D[:] = np.minimum(D, D[:, k : k + 1] + D[k, :])
    return D


def row_only(D: Any) -> Any:
    D = D.copy()
    for k in range(D.shape[0]):
        D = D * 0.5 + D[k]
    return D


def backwards(D: Any) -> Any:
    D = D.copy()
    for k in range(D.shape[0]):
        D = D * 0.5 + D[k, ::-1] - D[::-1, k : k + 1]
    return D


def corner(D: Any) -> Any:
    D = D.copy()
    for k in range(D.shape[0]):
        D = D * 0.5 + D[k, 0]
    return D


def transposed(D: Any) -> Any:
    D = D.copy()
    for k in range(D.shape[0]):
        D = D * 0.5 + D.T - D[k]
    return D


def with_a_sum(D: Any) -> Any:
    D = D.copy()
    total = 0.0
    for k in range(D.shape[0]):
        D = D * 0.5 + D[k]
        total += np.sum(D[:, k])
    return D, total


@pytest.mark.parametrize("n", [3, 40, 65])
@pytest.mark.parametrize("f", [shortest, row_only, backwards, corner, transposed, with_a_sum])
def test_updates_that_read_a_row(f: Any, n: int, rng: np.random.Generator) -> None:
    D = rng.standard_normal((n, n))
    got, want = st.compile(f)(D), f(D)
    for g, w in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
        np.testing.assert_allclose(g, w, rtol=1e-12, atol=1e-13)


def test_sizes_that_only_the_call_knows(rng: np.random.Generator) -> None:
    compiled = st.compile(shortest, dynamic=True)
    for n in (1, 5, 60):
        D = rng.standard_normal((n, n))
        np.testing.assert_array_equal(compiled(D), shortest(D))


def test_arguments_in_place(rng: np.random.Generator) -> None:
    def f(D: Any) -> None:
        for k in range(D.shape[0]):
            D[:] = np.minimum(D, D[:, k : k + 1] + D[k, :])

    D = rng.standard_normal((50, 50))
    for got in (D.copy(), D.copy(order="F"), np.repeat(D, 2, axis=1)[:, ::2]):
        want = got.copy()
        f(want)
        st.compile(f)(got)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("f", [shortest, row_only, backwards, corner])
def test_no_second_array(f: Any) -> None:
    text = program(f, np.zeros((50, 50)))
    assert "swap" not in text
    assert "copy" not in text


def test_what_is_as_large_as_the_array_is_not_set_aside() -> None:
    assert "swap" in program(transposed, np.zeros((50, 50)))
