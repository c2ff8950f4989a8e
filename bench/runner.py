"""Runs the table: one worker process per thread count, one fresh process per sample for start-up rows.

A worker that dies or goes silent costs the candidate that it had announced: the row is run again without it, and shows
why. Not here: what is in a row (worker.py) and how it is shown (report.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import selectors
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import peers
from bench.measure import Budget
from bench.worker import AGAIN, finished
from bench.workload import Process, Record, Workload

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Plan:
    """What was asked for on the command line."""

    records: list[Record]
    peers: list[str]
    threads: list[int]
    dtypes: list[str]
    sizes: list[int] | None
    budget: Budget
    log: Path
    patience: float = 180.0  # seconds that a worker may say nothing
    environment: dict[str, str] = field(default_factory=dict)


class Worker:
    """A worker process and the wire to it."""

    def __init__(self, threads: int, plan: Plan) -> None:
        env = {**os.environ, **peers.thread_environment(threads), **plan.environment}
        env["STAGER_CACHE"] = "0"  # first calls compile: nothing that an earlier run left on disk may answer
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
        self._log = plan.log.open("a")
        self._patience = plan.patience
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=env,
        )
        self._buffer = b""

    def ask(self, job: dict[str, Any]) -> tuple[dict[str, Any] | None, str, str]:
        """(row or None when the worker was lost, the phase it was lost in, why)."""
        assert self._process.stdin is not None
        phase = "start"
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None, phase, self._end()
        for message in self._messages():
            if "phase" in message:
                phase = message["phase"]
            if "row" in message:
                return message["row"], phase, ""
        return None, phase, self._end()

    def _messages(self) -> Iterator[dict[str, Any]]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while selector.select(self._patience):
                chunk = os.read(descriptor, 1 << 16)
                if not chunk:
                    return
                *lines, self._buffer = (self._buffer + chunk).split(b"\n")
                for line in lines:
                    yield json.loads(line)

    def _end(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"no answer in {self._patience:.0f} s"
        return f"process died: {signal.Signals(-code).name}" if code < 0 else f"process ended with {code}"

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # ends the worker's loop
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


def jobs(plan: Plan, threads: int) -> Iterator[tuple[Record, dict[str, Any]]]:
    for record in plan.records:
        head = {"name": record.name, "group": record.group, "bars": dict(record.bars), "threads": threads}
        if not isinstance(record, Workload):
            if threads == plan.threads[0]:  # compile and start-up times are taken once
                yield record, {**head, "size": None, "dtype": "float64"}
            continue
        if threads not in record.threads:
            continue
        for dtype in record.dtypes:
            if dtype not in plan.dtypes:
                continue
            sizes = plan.sizes if plan.sizes and len(record.sizes) > 1 else record.sizes
            for size in sizes:
                yield record, {**head, "size": size, "dtype": dtype}


def run(plan: Plan) -> Iterator[dict[str, Any]]:
    """Rows, as they are ready."""
    for threads in plan.threads:
        worker: Worker | None = None
        try:
            for record, head in jobs(plan, threads):
                started = time.perf_counter()
                if isinstance(record, Process):
                    row = process_row(record, plan)
                else:
                    without: dict[str, str] = {}
                    answer = None
                    while answer is None:
                        worker = worker or Worker(threads, plan)
                        job = {**head, "peers": plan.peers, "without": list(without), "budget": asdict(plan.budget)}
                        answer, phase, why = worker.ask(job)
                        if answer is None:
                            worker.close()
                            worker = None
                            if phase in without or phase in ("start", "reference", "timing"):
                                answer = {"times": {}, "failed": {"row": f"{why} in {phase}"}}
                            without[phase] = why
                    row = answer
                    row = {"times": {}, **row, "failed": {**row.get("failed", {}), **without}}
                yield {**head, **row, "took": time.perf_counter() - started}
        finally:
            if worker:
                worker.close()


def process_row(record: Process, plan: Plan) -> dict[str, Any]:
    samples: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="stager-bench-") as folder:
        scripts: dict[str, Path] = {}
        for name, text in record.scripts.items():
            if name == "stager" or name in plan.peers:
                scripts[name] = Path(folder) / f"run_{name}.py"
                scripts[name].write_text(text, encoding="utf-8")
        env = {**os.environ, **peers.thread_environment(1), "PYTHONPATH": str(ROOT), **plan.environment}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have their byte code; a checkout gets it too
        env |= {"STAGER_CACHE_DIR": f"{folder}/stager", "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax"}
        env |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        env |= {"NUMBA_CACHE_DIR": f"{folder}/numba", "JAX_ENABLE_X64": "1"}
        for name in list(scripts):  # fills the disk caches and the file system's
            for _ in range(2):
                done = _timed(scripts[name], env)
                if isinstance(done, str):
                    failed[name] = done
                    del scripts[name]
                    break
        order = [*scripts, *([AGAIN] if "stager" in scripts else [])]
        for _ in range(max(plan.budget.least, 5)):
            for name in order:
                taken = _timed(scripts["stager" if name == AGAIN else name], env)
                if isinstance(taken, float):
                    samples.setdefault(name, []).append(taken)
    return finished({n: statistics.median(v) for n, v in samples.items()}, failed)


def _timed(script: Path, env: dict[str, str]) -> float | str:
    """Seconds (the script's own figure where it prints one), or what went wrong."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - start
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1][:200]
    return float(done.stdout) if done.stdout.strip() else wall


def machine() -> dict[str, Any]:
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        model = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), model)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"processor": model, "processors": os.cpu_count(), "python": platform.python_version(), "load": load}
