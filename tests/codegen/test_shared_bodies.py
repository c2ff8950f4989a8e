"""Pieces for the pool that do the same at several places of a program are one function."""

from __future__ import annotations

from typing import Any

import numpy as np

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.pipeline import optimize


def solved(a: Any, b: Any) -> Any:
    total = 0.0
    for k in range(4):
        m = a[k] @ a[k].T + np.eye(a.shape[1])
        total = total + np.sum(np.linalg.solve(m, b[k]) ** 2)
    return total


def test_a_solver_that_is_called_again_is_compiled_once() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 5, 6)), rng.standard_normal((4, 5))
    f = st.compile(solved, dynamic={"a": "f64[4,n,m]", "b": "f64[4,n]"})
    np.testing.assert_allclose(f(a, b), solved(a, b), rtol=1e-12)
    more = rng.standard_normal((4, 40, 33)), rng.standard_normal((4, 40))
    np.testing.assert_allclose(f(*more), solved(*more), rtol=1e-12)
    graph = optimize(st.make_graph(solved)("f64[4,n,m]", "f64[4,n]"))
    text = compile_graph(graph, Target.host(), assemble=False).text
    bodies = [part.partition("\n")[2].partition("\n}\n")[0] for part in text.split("define internal i32 ")[1:]]
    assert len(bodies) > 4
    assert len(bodies) == len(set(bodies))
