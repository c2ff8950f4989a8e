"""Histograms of equally spaced bins: values on the edges and beside them, dtypes of the edges, few and many bins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st

RANGES = [(-4.0, 4.0), (0.1, 0.7), (-1, 2), (1e-310, 3e-310), (-1e30, 1e30), None]


def beside(edges: Any) -> Any:
    """The edges, their neighbours, and what lies outside."""
    more = [np.nextafter(edges, -np.inf, dtype=edges.dtype), np.nextafter(edges, np.inf, dtype=edges.dtype)]
    return np.concatenate([edges, *more, edges[:1] - 1, edges[-1:] + 1, np.array([np.nan, np.inf], edges.dtype)])


@pytest.mark.parametrize("bins", [1, 7, 64, 1000])
@pytest.mark.parametrize("limits", RANGES, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_beside_the_edges(dtype: Any, limits: Any, bins: int) -> None:
    if dtype is np.float32 and limits == RANGES[3]:
        pytest.skip("subnormal below float32")
    data = np.linspace(-2.3, 3.1, 57, dtype=dtype)
    edges = np.histogram_bin_edges(data, bins, limits)
    if limits is not None:
        data = beside(edges)
    want = np.histogram(data, bins, limits)
    got = st.compile(lambda x: np.histogram(x, bins, limits))(data)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == w.dtype
        np.testing.assert_array_equal(g, w)


def test_integers_and_weights() -> None:
    data, weights = np.arange(-7, 30) % 11, np.linspace(0.0, 2.0, 37)
    for args in ((5, None), (5, (2, 9)), (np.array([0.0, 2.5, 4.0, 10.0]), None)):
        want = np.histogram(data, *args, weights=weights)
        got = st.compile(lambda x, w, args=args: np.histogram(x, *args, weights=w))(data, weights)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-13)
        np.testing.assert_array_equal(got[1], want[1])
