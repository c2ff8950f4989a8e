"""The harness survives what it measures: crashes, hangs, errors and wrong results cost one candidate of one row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import runner
from bench.measure import Budget
from bench.workload import MORE, load


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MORE, "tests.bench.lethal")
        plan = runner.Plan(
            records=[r for r in load() if r.group == "lethal"],
            peers=["numpy"],
            threads=[1],
            dtypes=["float64"],
            sizes=None,
            budget=Budget(seconds=0.02, least=3, most=5),
            log=tmp_path_factory.mktemp("bench") / "log",
            patience=8.0,
        )
        return {r["name"]: r for r in runner.run(plan)}


def test_a_good_row_has_both_times_and_its_own_spread(rows: dict[str, dict[str, Any]]) -> None:
    for name in ("good", "good again"):
        assert set(rows[name]["times"]) == {"stager", "numpy"}
        assert rows[name]["failed"] == {}
        assert rows[name]["spread"] >= 1.0


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("killed", "process died: SIGABRT"),
        ("endless", "no answer in 8 s"),
        ("hoards", "MemoryError"),
        ("raises", "ValueError: no such thing"),
        ("wrong", "wrong result: differs by"),
        ("shape", "wrong result: shape (999,) instead of (1000,)"),
    ],
)
def test_a_failure_costs_its_candidate_only(rows: dict[str, dict[str, Any]], name: str, why: str) -> None:
    assert set(rows[name]["times"]) == {"numpy"}
    assert why in rows[name]["failed"]["stager"]


def test_names_are_unique_and_every_group_is_known() -> None:
    groups = {r.group for r in load()}
    assert groups == {
        "calls", "first calls", "processes", "compile time", "table", "products", "reported", "gradients", "loops",
        "loop gradients", "in-place gradients", "built libraries",
    }  # fmt: skip


def test_the_log_is_kept(tmp_path: Path) -> None:
    plan = runner.Plan([], [], [1], ["float64"], None, Budget(), tmp_path / "log")
    assert list(runner.run(plan)) == []
