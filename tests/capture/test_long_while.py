"""A `while` on Python numbers that goes on and on becomes a loop: code and compile time stop growing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def turns(x: Any, n: int) -> Any:
    k = 0
    while k < n:
        x[k % 7] += x[(k + 1) % 7] * 0.1
        k += 1
    return x, k


def sieve(n: int) -> Any:
    prime = np.ones(n + 1, dtype=bool)
    prime[:2] = False
    i = 2
    while i * i <= n:
        if prime[i]:
            prime[i * i :: i] = False
        i += 1
    return prime


def test_the_graph_does_not_grow_with_the_turns() -> None:
    sizes = [len(st.make_graph(lambda x, n=n: turns(x, n))(np.ones(7))) for n in (50, 5000)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("n", [5, 40, 300])
def test_turns(n: int) -> None:
    got, want = st.compile(turns)(np.ones(7), n), turns(np.ones(7), n)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-13)
    assert got[1] == want[1]


def test_sieve() -> None:
    np.testing.assert_array_equal(st.compile(sieve)(2000), sieve(2000))


def test_what_needs_a_python_number_goes_on_in_python() -> None:
    names = ["a", "b", "c"]

    def f(x: Any) -> Any:
        k = 0
        seen = {}
        while k < 50:
            seen[names[k % 3]] = x * k
            k += 1
        return seen

    got = st.compile(f)(np.ones(2))
    for name, value in f(np.ones(2)).items():
        np.testing.assert_array_equal(got[name], value)
