"""One process per thread count: takes jobs as JSON lines on standard input, answers with rows on standard output.

Runs in its own process because thread counts are read at start, and because a crash here must cost one candidate of one
row, not the table: every phase is announced before it begins, so the parent knows what was running.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from bench import measure, peers
from bench.workload import FirstCall, Function, Inputs, Measured, Record, Scaling, Workload, load, map_leaves, rebound

AGAIN = "stager again"  # the second appearance of the candidate under test: the A/A spread


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the log, not between the answers

    def say(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")

    records = {r.name: r for r in load()}
    threads = int(sys.argv[1])
    peers.limit_processors(threads)
    peers.limit_memory()
    warnings.simplefilter("ignore")
    say(ready=True)
    for line in sys.stdin:
        job = json.loads(line)
        budget = measure.Budget(**job["budget"])
        try:
            row = run(records[job["name"]], job, threads, budget, lambda phase: say(phase=phase))
        except Exception as error:
            traceback.print_exc()
            row = {"failed": {"row": reason(error)}}
        say(row=row)


def run(
    record: Record, job: dict[str, Any], threads: int, budget: measure.Budget, phase: Callable[[str], None]
) -> dict[str, Any]:
    names = [n for n in ("stager", *job["peers"]) if n not in job["without"]]
    if isinstance(record, Workload):
        return call_row(record, names, job["size"], job["dtype"], threads, budget, phase)
    if isinstance(record, FirstCall):
        return first_call_row(record, names, budget, phase)
    if isinstance(record, Scaling):
        return scaling_row(record, names, budget, phase)
    if isinstance(record, Measured):
        phase("stager")
        return record.run(budget)
    raise TypeError(f"{record.name} runs in processes of its own")


def reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"[:200]


def call_row(
    workload: Workload, names: list[str], size: int, dtype: str, threads: int, budget: measure.Budget, phase: Any
) -> dict[str, Any]:
    def fresh() -> Inputs:
        return workload.inputs(np.random.default_rng(0), size, np.dtype(dtype))

    phase("reference")
    if workload.check is None:
        expected = map_leaves((workload.reference or workload.fn)(*fresh()), np.asarray)
    if workload.forward is not None and "stager" in names:
        names = [*names, "forward"]
    candidates: list[measure.Candidate] = []
    failed: dict[str, str] = {}
    setup: dict[str, float] = {}
    shared = fresh()  # for all who take ndarrays: which pages an array has got decides whether they fit into a cache
    for name in names:
        phase(name)
        try:
            call, to_peer, to_numpy = peers.adapter(name, workload, threads)
            args = tuple(to_peer(a) for a in shared)
            start = time.perf_counter()
            first = call(*args)
            setup[name] = time.perf_counter() - start
            for result in (first, call(*args)):
                if name == "forward":
                    continue  # the row of the function itself checks it
                if workload.check is not None:
                    wrong = workload.check(to_numpy(result), fresh())
                else:
                    wrong = peers.difference(to_numpy(result), expected, dtype, workload.loose)
                if wrong is None and name == "stager" and workload.check is None:
                    wrong = peers.dtype_difference(result, expected)
                if wrong:
                    raise ArithmeticError(f"wrong result: {wrong}")
            candidates.append(measure.Candidate(name, call, args))
            if name == "stager":
                candidates.append(measure.Candidate(AGAIN, call, args))
        except LookupError as error:
            if str(error) not in ("no version", "only the reference"):
                failed[name] = reason(error)
        except Exception as error:
            traceback.print_exc()
            failed[name] = reason(error)
        if peers.difference(shared, fresh(), dtype, 0.0):
            shared = fresh()  # what a candidate has written into is its own
    phase("timing")

    def announce(name: str) -> None:
        phase("stager" if name == AGAIN else name)

    times = measure.medians(measure.interleaved(candidates, budget, threads > 1, announce))
    return finished(times, failed, setup=setup)


def finished(times: dict[str, float], failed: dict[str, str], **more: Any) -> dict[str, Any]:
    again = times.pop(AGAIN, None)
    if again is not None and "stager" in times:
        more["spread"] = max(again, times["stager"]) / min(again, times["stager"])
    return {"times": times, "failed": failed, **more}


def first_call(name: str, transform: str | None) -> Callable[[Function, Inputs], Any]:
    """What happens from a plain function to its first result (or, with a transform, to its graph)."""
    if name == "stager":
        import stager as st

        if transform == "vmap_grad":
            return lambda fn, args: st.make_graph(st.vmap(st.grad(fn), in_dims=(None, 0, 0)))(*args)
        return lambda fn, args: st.compile(fn)(*args)
    if name == "jax":
        jax = peers.configured_jax()

        def with_jax(fn: Function, args: Inputs) -> Any:
            fn = rebound(fn, np=jax.numpy)
            if transform == "vmap_grad":
                return jax.make_jaxpr(jax.vmap(jax.grad(fn), in_axes=(None, 0, 0)))(*args)
            return jax.block_until_ready(jax.jit(fn)(*args))

        return with_jax
    if name == "numba" and transform is None:
        import numba

        return lambda fn, args: numba.njit(fn)(*args)
    raise LookupError("no version")


def first_call_row(record: FirstCall, names: list[str], budget: measure.Budget, phase: Any) -> dict[str, Any]:
    args = record.inputs(np.random.default_rng(0))
    failed: dict[str, str] = {}
    runs: dict[str, Any] = {}
    salt = 0
    for name in names:
        phase(name)
        if name == "numba" and not record.numba:
            continue
        try:
            once = first_call(name, record.transform)
            result = once(record.make(0), args)  # loads what the peer loads lazily
            if record.transform is None:
                wrong = peers.difference(
                    map_leaves(result, np.asarray), map_leaves(record.make(0)(*args), np.asarray), "float64", 1e3
                )
                if wrong:
                    raise ArithmeticError(f"wrong result: {wrong}")
            runs[name] = once
        except LookupError as error:
            if str(error) != "no version":
                failed[name] = reason(error)
        except Exception as error:
            traceback.print_exc()
            failed[name] = reason(error)
    if "stager" in runs:
        runs[AGAIN] = runs["stager"]
    samples: dict[str, list[float]] = {n: [] for n in runs}
    started = time.perf_counter()
    while len(samples.get("stager", samples.get("jax", [0]))) < budget.most:
        for name, once in runs.items():
            phase(name)
            salt += 1
            fn = record.make(salt)
            start = time.perf_counter()
            once(fn, args)
            samples[name].append(time.perf_counter() - start)
        done = min(len(v) for v in samples.values()) if samples else budget.most
        if done >= budget.least and time.perf_counter() - started > budget.seconds:
            break
        if not samples:
            break
    return finished(measure.medians(samples), failed)


def scaling_row(record: Scaling, names: list[str], budget: measure.Budget, phase: Any) -> dict[str, Any]:
    args = record.inputs(np.random.default_rng(0))
    failed: dict[str, str] = {}
    exponents: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    for name in names:
        if name not in ("stager", "jax"):
            continue
        phase(name)
        try:
            once = first_call(name, None)
            once(record.make(10, 0), args)
            curve = []
            sizes = [s for s in record.sizes if name == "stager" or s <= 3000]
            for size in sizes:
                phase(f"{name}")
                best, spent = math.inf, 0.0
                for salt in range(1, 4):
                    fn = record.make(size, salt)
                    start = time.perf_counter()
                    once(fn, args)
                    took = time.perf_counter() - start
                    best, spent = min(best, took), spent + took
                    if spent > 1.0:  # long enough that a collection of garbage does not count
                        break
                curve.append(best)
            curves[name] = curve
            exponents[name] = measure.exponent(sizes, curve)
        except Exception as error:
            traceback.print_exc()
            failed[name] = reason(error)
    common = min((len(c) for c in curves.values()), default=0)  # times at the largest size that all of them ran
    times = {n: c[common - 1] for n, c in curves.items()}
    return {"times": times, "failed": failed, "exponents": exponents, "curves": curves}


if __name__ == "__main__":
    main()
