"""Timing: interleaved samples, medians, and the spread that the run shows against itself.

Every candidate is sampled once per round, in rotating order, so that drift of the machine hits all alike. The candidate
under test appears twice; the ratio of its two medians is the run's A/A spread. Not here: what is timed.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Any

SAMPLE_SECONDS = 400e-6  # a sample repeats a short call until it lasts about this long
SHORT_SECONDS = 3e-3  # calls whose arrays may stay in the cache
LONG_SECONDS = 0.05  # calls that are announced, and not warmed
SETTLE_SECONDS = 9e-3  # a look whether idle workers spin: the kernel counts a thread's time in ticks of up to 4 ms
MOST_SETTLING = 0.5  # seconds; OpenBLAS's workers spin for 100 ms


@dataclass(frozen=True)
class Budget:
    """How long a row may take: rounds between `least` and `most`, aiming at `seconds` in all."""

    seconds: float = 2.0
    least: int = 5
    most: int = 60
    slow: float = 1.0  # a candidate slower than this per call is sampled twice only


@cache
def _loop(arity: int) -> Callable[..., int]:
    names = ", ".join(f"a{i}" for i in range(arity))
    scope: dict[str, Any] = {"repeat": repeat}
    exec(  # the argument list is written out: unpacking would cost as much as the shortest calls
        f"def loop(f, n, clock, args):\n"
        f"    {names}{',' if arity else ''}{' = args' if arity else 'pass'}\n"
        f"    start = clock()\n"
        f"    for _ in repeat(None, n):\n"
        f"        f({names})\n"
        f"    return clock() - start\n",
        scope,
    )
    made: Callable[..., int] = scope["loop"]
    return made


@dataclass(frozen=True)
class Candidate:
    """A callable with the arguments it is timed on."""

    name: str
    call: Callable[..., Any]
    args: tuple[Any, ...]

    def sample(self, count: int) -> float:
        """Seconds per call over `count` calls."""
        return _loop(len(self.args))(self.call, count, time.perf_counter_ns, self.args) * 1e-9 / count


def interleaved(
    candidates: list[Candidate], budget: Budget, settle: bool, announce: Callable[[str], None] = lambda name: None
) -> dict[str, list[float]]:
    """Samples of seconds per call. Candidates must have been called before (compiled, warm).

    `announce(name)` is called before anything that may take long, so that whoever waits knows what is running.
    """
    if not candidates:
        return {}
    estimate: dict[str, float] = {}
    for c in candidates:
        announce(c.name)
        estimate[c.name] = min(c.sample(1), c.sample(1))
    count = {n: max(1, math.ceil(SAMPLE_SECONDS / max(t, 1e-9))) for n, t in estimate.items()}
    for c in candidates:  # a second estimate where the first was one short call
        if count[c.name] > 1:
            estimate[c.name] = c.sample(count[c.name])
            count[c.name] = max(1, math.ceil(SAMPLE_SECONDS / max(estimate[c.name], 1e-9)))
    per_round = sum(max(estimate[n] * k, 1e-9) for n, k in count.items() if estimate[n] <= budget.slow)
    per_round += settle * SETTLE_SECONDS * len(candidates)
    rounds = min(budget.most, max(budget.least, int(budget.seconds / max(per_round, 1e-9))))
    samples: dict[str, list[float]] = {c.name: [] for c in candidates}
    enabled = gc.isenabled()
    gc.disable()
    try:
        for r in range(rounds):
            shift = r % len(candidates)
            for c in candidates[shift:] + candidates[:shift]:
                if estimate[c.name] > budget.slow and len(samples[c.name]) >= 2:
                    continue
                if estimate[c.name] > LONG_SECONDS:
                    announce(c.name)
                if settle:
                    _settle()
                for _ in range(_warmings(estimate[c.name])):
                    c.call(*c.args)  # brings code, inputs and worker threads back before the clock starts
                samples[c.name].append(c.sample(count[c.name]))
            gc.collect(0)
    finally:
        if enabled:
            gc.enable()
    return samples


def _warmings(seconds: float) -> int:
    """How many calls come before the clock: memory that another candidate drove out of the last cache is back there
    after the third reading or fourth, not after the first."""
    return 4 if seconds < SHORT_SECONDS else 1 if seconds < LONG_SECONDS else 0


def _settle() -> None:
    """Waits until no thread of this process runs. Idle workers of one library that still spin (and give way, again and
    again) would take the second core from the next candidate's: OpenBLAS's do so for 100 ms after each product."""
    until = time.perf_counter() + MOST_SETTLING
    while time.perf_counter() < until:
        used, start = time.process_time(), time.perf_counter()
        time.sleep(SETTLE_SECONDS)
        if time.process_time() - used < 0.1 * (time.perf_counter() - start):
            return


def medians(samples: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in samples.items() if values}


def geomean(values: list[float]) -> float:
    return math.exp(statistics.fmean(math.log(v) for v in values))


def exponent(sizes: list[int], times: list[float]) -> float:
    """Slope of the least-squares line through log(time) over log(size)."""
    xs = [math.log(s) for s in sizes]
    ys = [math.log(t) for t in times]
    return statistics.linear_regression(xs, ys).slope
