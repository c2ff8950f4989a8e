"""Every pass: keeps what random graphs compute, is done once, and does what its goldens show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph
from stager.ir.hash import structural_hash
from stager.ir.passes import pipeline
from stager.ir.passes.pipeline import run_pipeline
from stager.ir.text import print_graph
from stager.ir.verify import verify
from tests.ir.random_graphs import arrays_for, graphs

TABLES: dict[str, Callable[..., Graph]] = {
    p.__name__: p
    for p in (
        pipeline.dead_code,
        pipeline.common_subexpressions,
        pipeline.fold_constants,
        pipeline.simplify_algebra,
        pipeline.resolve_views,
        pipeline.resolve_updates,
        pipeline.simplify,
        pipeline.drop_overwritten,
        pipeline.join_updates,
        run_pipeline,
    )
}


def same_values(expected: Any, actual: Any, text: str) -> None:
    """Equal up to rounding; NaN, infinities and the signs of zeros exactly."""
    assert len(expected) == len(actual)
    for e, a in zip(expected, actual, strict=True):
        assert e.dtype == a.dtype, text
        assert e.shape == a.shape, text
        if e.dtype.kind == "f":
            np.testing.assert_allclose(a, e, rtol=1e-12, atol=0, err_msg=text)
            zero = (e == 0) & (a == 0)
            assert (np.signbit(e) == np.signbit(a))[zero].all(), text
        else:
            np.testing.assert_array_equal(a, e, err_msg=text)


@pytest.mark.parametrize("name", TABLES)
@given(data=st.data())
@settings(max_examples=60)
def test_keeps_values_and_is_done_once(name: str, data: st.DataObject) -> None:
    graph = data.draw(graphs())
    arrays = arrays_for(graph, np.random.default_rng(data.draw(st.integers(0, 99))))
    verify(graph)
    after = TABLES[name](graph)
    verify(after)
    text = f"{print_graph(graph)}\n{print_graph(after)}"
    same_values(evaluate_graph(graph, arrays), evaluate_graph(after, arrays), text)
    again = TABLES[name](after)
    assert structural_hash(again) == structural_hash(after), f"{text}\n{print_graph(again)}"
