"""How many threads compiled code may use: what the user says, else the cores that this process really has.

STAGER_NUM_THREADS, else OMP_NUM_THREADS, else the affinity mask within the cgroup's CPU quota. The emitted pool asks
the same questions by itself in built libraries (it looks at the root cgroup only); in this process the answer is handed
over when the pool is loaded.
"""

from __future__ import annotations

import atexit
import ctypes
import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path

from stager.runtime.engine import Loaded

MAX_THREADS = 128  # participants of one region of the emitted pool


def available_threads(root: Path = Path("/")) -> int:
    """The number of threads to use, at least 1. `root`: where /proc and /sys stand."""
    for variable in ("STAGER_NUM_THREADS", "OMP_NUM_THREADS"):
        number = _first_number(os.environ.get(variable, ""))
        if number > 0:
            return min(number, MAX_THREADS)
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    return max(1, min(cores, MAX_THREADS, *quotas(root)))


def _first_number(text: str) -> int:
    """The first number of `4` or `4,2`; 0 when there is none."""
    first = text.split(",", maxsplit=1)[0].strip()
    return int(first) if first.isdecimal() else 0


def quotas(root: Path = Path("/")) -> Iterator[int]:
    """Whole cores granted by each CPU quota on this process's cgroups, in either version of their files."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            for folder in _upwards(mounted, path):
                try:
                    quota, period = (folder / "cpu.max").read_text().split()[:2]
                except (OSError, ValueError):
                    continue
                if quota != "max":
                    yield from _cores(quota, period)
        elif "cpu" in controllers.split(","):
            for folder in _upwards(mounted / "cpu", path):
                try:
                    quota = (folder / "cpu.cfs_quota_us").read_text()
                    period = (folder / "cpu.cfs_period_us").read_text()
                except OSError:
                    continue
                yield from _cores(quota, period)


def _upwards(mounted: Path, path: str) -> Iterator[Path]:
    """The folder of a cgroup and of its parents, up to the mount: a limit anywhere on the way holds."""
    folder = mounted / path.lstrip("/")
    yield folder
    while folder != mounted and mounted in folder.parents:
        folder = folder.parent
        yield folder


def _cores(quota: str, period: str) -> Iterator[int]:
    try:
        share, whole = int(quota), int(period)
    except ValueError:
        return
    if share > 0 and whole > 0:
        yield max(1, ceil(share / whole))


def start_pool(pool: Loaded) -> None:
    """For `Engine.provide`: configure the loaded pool, and join its workers before the interpreter is torn down."""
    pool.function("stager_pool_set_threads", None, ctypes.c_int32)(available_threads())
    atexit.register(pool.function("stager_pool_stop", None))
