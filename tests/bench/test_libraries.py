"""Rows of built libraries: the C programs that measure them build, run and compare bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench import libraries, report
from bench.measure import Budget
from tests.aot.calling import needs_cc

BUDGET = Budget(seconds=0.01, least=1, most=2)
pytestmark = needs_cc


def scaled(x: Any, w: Any) -> Any:
    return np.exp(x) * w, (x @ w)


def test_speed_is_that_of_the_jit() -> None:
    row = libraries.against_jit(scaled, ["f64[n,m]", "f64[m]"], [np.ones((30, 7)), np.arange(7.0)], BUDGET)
    assert set(row["times"]) == {"stager", "jit"}
    assert all(0 < t < 0.1 for t in row["times"].values())
    assert row["spread"] >= 1


def test_other_figures() -> None:
    row = libraries.size(scaled, ["f64[n,3]", "f64[3]"]) | {"bars": {"bytes": 10}, "name": "size", "size": None}
    row |= {"dtype": "float64", "threads": 1}
    assert 1000 < row["figures"]["bytes"] < 200_000
    assert report.over(row)[0].startswith("bytes ")
    assert f"bytes {row['figures']['bytes']:,}" in report.line(row, [])
    assert 0 < libraries.load_time(scaled, ["f64[n,3]", "f64[3]"])["times"]["stager"] < 1


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries.shutil, "which", lambda name: None)
    with pytest.raises(LookupError, match="no C compiler"):
        libraries.compiler()
