"""How many threads: the environment, the affinity, quotas of both cgroup versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager.runtime.threads import available_threads, quotas


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("STAGER_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    return tmp_path


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_environment_decides_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_threads(root) == 16
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert available_threads(root) == 3
    monkeypatch.setenv("STAGER_NUM_THREADS", "200")
    assert available_threads(root) == 128
    for nonsense in ("", "0", "-2", "many"):
        monkeypatch.setenv("STAGER_NUM_THREADS", nonsense)
        assert available_threads(root) == 3


def test_unified_cgroups(root: Path) -> None:
    put(root, "proc/self/cgroup", "0::/a/b\n")
    put(root, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
    assert available_threads(root) == 16
    put(root, "sys/fs/cgroup/a/cpu.max", "250000 100000\n")
    assert list(quotas(root)) == [3]
    assert available_threads(root) == 3
    put(root, "sys/fs/cgroup/a/b/cpu.max", "50000 100000\n")
    assert available_threads(root) == 1


def test_old_cgroups(root: Path) -> None:
    put(root, "proc/self/cgroup", "4:memory:/x\n2:cpuacct,cpu:/docker/1\n")
    put(root, "sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "-1\n")
    put(root, "sys/fs/cgroup/cpu/docker/1/cpu.cfs_period_us", "100000\n")
    assert available_threads(root) == 16
    put(root, "sys/fs/cgroup/cpu/docker/1/cpu.cfs_quota_us", "400000\n")
    assert available_threads(root) == 4


def test_damaged_files_are_no_quota(root: Path) -> None:
    put(root, "proc/self/cgroup", "0::/\n")
    for text in ("", "x y", "100", "0 0"):
        put(root, "sys/fs/cgroup/cpu.max", text)
        assert available_threads(root) == 16
