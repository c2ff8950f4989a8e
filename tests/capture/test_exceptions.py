"""Exceptions that traced code raises and handles, and jumps out of the blocks that handle them."""

from __future__ import annotations

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError
from tests.capture.test_staged import assert_same
from tests.graphs import size_of

X = np.array([0.3, -0.2, 0.5, 0.1])


def test_jumps_out_of_a_try() -> None:
    def f(x, n):
        total = 0.0
        for k in range(n):
            try:
                v = np.sin(x[0] * k)
                if v > 0.9:
                    break
                if v < 0.2:
                    continue
                total += v
            except ValueError:
                total = -1.0
            finally:
                total += 1
        return total

    assert_same(st.compile(lambda x: f(x, 30))(X), f(X, 30))
    graphs = [st.make_graph(lambda x, n=n: f(x, n))(X) for n in (30, 60)]
    assert size_of(graphs[0]) == size_of(graphs[1])


def test_what_a_branch_raises_is_not_handled_always() -> None:
    def f(x):
        for _ in range(9):
            try:
                x = x * 1.1
                if x[0] > 2:
                    return x
                int("one")
            except ValueError:
                x = x + 1
        return x

    with pytest.raises(ControlFlowError, match="is raised in a traced branch or loop, and handled around it"):
        st.compile(f)(X)


def test_what_every_turn_raises_is_handled() -> None:
    def f(x):
        try:
            for _ in range(9):
                x = x * 2
                int("one")
        except ValueError:
            x = x + 1
        return x

    assert_same(st.compile(f)(X), f(X))
