"""Staged control flow against plain Python, through the reference evaluator; and what the graphs look like."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest

import stager as st
from stager.ir.evaluate import evaluate_graph
from stager.ir.verify import verify
from stager.tracing import trace
from stager.transforms.calling import run_traced
from tests.capture.staged_corpus import CASES


def evaluated(f, *args):
    """f on args through its graph and the evaluator, writes included; and the graph."""
    traced = trace(f, args, {})
    verify(traced.graph)
    arrays = evaluate_graph(traced.graph, [leaf.value for leaf in traced.leaves if leaf.input is not None])
    traced.stage.concrete = SimpleNamespace(run=lambda wanted: arrays)
    return run_traced(traced), traced


def control_ops(graph):
    found = set()
    for node in graph.nodes:
        if node.regions:
            found.add(node.op.name)
            for region in node.regions:
                found |= control_ops(region)
    return found


def assert_same(got, want):
    if isinstance(want, tuple | list):
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            assert_same(g, w)
    elif isinstance(want, dict):
        assert got.keys() == want.keys()
        for k in want:
            assert_same(got[k], want[k])
    elif want is None:
        assert got is None
    else:
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
        if isinstance(want, np.ndarray | np.generic):
            assert np.asarray(got).dtype == want.dtype


@pytest.mark.parametrize(
    ("f", "args", "ops"), [pytest.param(*c, id=f"{c[0].__name__}-{k}") for k, c in enumerate(CASES)]
)
def test_corpus(f, args, ops) -> None:
    expected_args, own_args = copy.deepcopy(args), copy.deepcopy(args)
    want = f(*expected_args)
    got, traced = evaluated(f, *own_args)
    assert_same(got, want)
    assert_same(own_args, expected_args)
    if ops is not None:
        assert control_ops(traced.graph) == ops, traced.graph


def test_trace_does_not_depend_on_trip_counts() -> None:
    def f(x):
        s = 0.0
        for i in range(x.shape[0]):
            s += x[i]
        return s

    sizes = [len(st.make_graph(f)(np.zeros(n))) for n in (10, 1000)]
    assert sizes[0] == sizes[1]
