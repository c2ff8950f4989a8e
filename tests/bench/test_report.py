"""Figures and texts of the benchmark: ratios, bars, fits, comparisons, rebinding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench import measure, peers, report
from bench.workload import Workload, leaves, load, rebound


def row(**fields: Any) -> dict[str, Any]:
    base = {
        "name": "w", "group": "table", "bars": {"best": 1.15}, "size": 1000, "dtype": "float64", "threads": 1,
        "times": {"stager": 2.0, "numpy": 4.0, "jax": 1.0}, "failed": {},
    }  # fmt: skip
    return {**base, **fields}


def test_ratios() -> None:
    assert report.ratio(row()) == 2.0
    assert report.ratio(row(), "numpy") == 0.5
    assert report.ratio(row(), "torch") is None
    assert report.ratio(row(times={"jax": 1.0})) is None
    assert report.best_peer(row(times={"stager": 1.0, "forward": 0.1, "c": 3.0})) == ("c", 3.0)


def test_bars() -> None:
    assert report.over(row()) == ["best 2.00 > 1.15"]
    assert report.over(row(bars={"numpy": 0.5})) == []
    assert report.over(row(bars={"seconds": 0.3})) == ["seconds 2.00 > 0.3"]
    assert report.over(row(bars={"exponent": 1.1}, exponents={"stager": 1.3})) == ["exponent 1.30 > 1.1"]
    assert report.over(row(times={"numpy": 1.0})) == []


def test_bars_of_short_rows() -> None:
    short = row(group="gradients", times={"stager": 35e-6, "jax": 100e-6, "c": 34e-6})
    assert report.over(short) == ["jax 0.35 > 0.3"]
    assert report.over({**short, "bars": {}}) == []
    assert report.over({**short, "times": {"stager": 100e-6, "jax": 110e-6}}) == []
    assert report.over({**short, "times": {"stager": 35e-6}}) == []


def test_a_row_that_could_not_run_says_why() -> None:
    failed = row(times={"numpy": 1.0}, failed={"stager": "UnsupportedError: np.sort"})
    assert "stager failed: UnsupportedError: np.sort" in report.line(failed, ["numpy"])
    assert "1 rows that stager could not run" in report.summary([failed], ["numpy"])


def test_compare_trusts_ratios_not_times() -> None:
    slower_machine = row(times={"stager": 4.0, "numpy": 8.0, "jax": 2.0})
    text = report.compare([row()], [slower_machine])
    assert " slower" not in text
    assert "1.000  (1 rows)" in text
    text = report.compare([row()], [row(times={"stager": 1.0, "numpy": 4.0, "jax": 1.0})])
    assert " faster" in text
    assert "now runs" in report.compare([row(times={"numpy": 1.0})], [row()])
    assert "gone" in report.compare([row(), row(name="old")], [row()])


def test_exponent_and_geomean() -> None:
    sizes = [100, 1000, 10_000]
    assert measure.exponent(sizes, [3e-6 * s**1.5 for s in sizes]) == pytest.approx(1.5)
    assert measure.geomean([0.5, 2.0]) == pytest.approx(1.0)


def test_sampling_counts_calls() -> None:
    calls = []
    candidate = measure.Candidate("f", lambda a, b: calls.append((a, b)), (1, 2))
    candidate.sample(5)
    assert calls == [(1, 2)] * 5
    assert measure.interleaved([], measure.Budget(), settle=False) == {}


def test_candidates_are_warmed_before_the_clock_starts() -> None:
    calls = []
    candidate = measure.Candidate("f", lambda: calls.append(0), ())
    samples = measure.interleaved([candidate], measure.Budget(seconds=0.0, least=3, most=3), settle=False)
    per_sample = len(calls) / len(samples["f"])
    assert len(samples["f"]) == 3
    assert per_sample > measure._warmings(1e-6) == 4
    assert [measure._warmings(t) for t in (1e-3, 1e-2, 1.0)] == [4, 1, 0]


def test_difference() -> None:
    x = np.array([1.0, np.nan, np.inf])
    assert peers.difference(x, x.copy(), "float64", 1.0) is None
    assert peers.difference(np.array([1.0, 2.0, np.inf]), x, "float64", 1.0) == "NaN in other places"
    assert "differs" in str(peers.difference(np.array([1.0 + 1e-6]), np.array([1.0]), "float64", 1.0))
    assert "differs" in str(peers.difference(np.array([np.inf]), np.array([1.0]), "float64", 1.0))
    assert "2 arrays" in str(peers.difference((x, x), x, "float64", 1.0))


def _helper(x: Any) -> Any:
    return np.sqrt(x)


def _sort(x: Any) -> Any:
    return np.sort(_helper(x))


def test_rebound_follows_calls_and_not_attributes() -> None:
    class Fake:
        sqrt = staticmethod(lambda x: ("sqrt", x))
        sort = staticmethod(lambda x: ("sort", x))

    assert rebound(_sort, np=Fake)(3) == ("sort", ("sqrt", 3))


def test_every_workload_makes_inputs_that_numpy_takes() -> None:
    """The plain NumPy side of every row, at a small size, in both dtypes where it has both."""
    for w in load():
        if not isinstance(w, Workload) or w.group in ("loops", "loop gradients", "in-place gradients"):
            continue  # those are held by tests/programs
        size = 1000 if len(w.sizes) > 1 else w.sizes[0]
        if w.name in ("matmul 2048", "gelu (erf)"):
            continue
        for dtype in w.dtypes:
            args = w.inputs(np.random.default_rng(0), size, np.dtype(dtype))
            result = (w.reference or w.fn)(*args)
            kinds = {np.asarray(x).dtype for x in leaves(result)}
            assert all(k == dtype or k.kind in "iu" for k in kinds), (w.name, dtype, kinds)

