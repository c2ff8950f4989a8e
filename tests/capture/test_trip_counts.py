"""Tracing and compiling a loop nest cost the same for any number of turns: counted in nodes, traces and LLVM text."""

from __future__ import annotations

from typing import Any

import numpy as np

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.compiler import compiler_of
from stager.pipeline import optimize
from tests.graphs import size_of


def sweeps(u: Any, steps: Any) -> Any:
    u = u.copy()
    for _ in range(steps):
        for i in range(1, u.shape[0] - 1):
            for j in range(1, u.shape[1] - 1):
                u[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])
    return u


def test_graphs_and_code_have_one_size() -> None:
    graphs = [st.make_graph(sweeps)(np.zeros((n, n)), 3) for n in (600, 3000)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    after = [optimize(g) for g in graphs]
    assert size_of(after[0]) == size_of(after[1])
    lines = [compile_graph(g, Target.host(), assemble=False).text.count("\n") for g in after]
    assert lines[0] == lines[1]


def test_gradients_too() -> None:
    def loss(u: Any, steps: Any) -> Any:
        return np.sum(sweeps(u, steps) ** 2)

    graphs = [st.make_graph(st.grad(loss))(np.zeros((n, n)), 3) for n in (20, 200)]
    assert size_of(graphs[0]) == size_of(graphs[1])


def test_the_number_of_turns_is_an_argument() -> None:
    f = st.compile(sweeps)
    u = np.random.default_rng(0).standard_normal((6, 6))
    for steps in (0, 1, 7, 100):
        np.testing.assert_allclose(f(u, steps), sweeps(u, steps), rtol=1e-12)
    assert len(compiler_of(f).history) == 1
