"""Workloads that misbehave, for test_runner.py. stager is replaced in each: what is under test is the harness."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from bench.workload import Inputs, Workload


def double(x: Any) -> Any:
    return x * 2.0


def _inputs(rng: np.random.Generator, n: int, dtype: np.dtype[Any]) -> Inputs:
    return (rng.standard_normal(n).astype(dtype),)


def _killed(x: Any) -> Any:
    os.abort()


def _endless(x: Any) -> Any:
    time.sleep(60.0)


def _hoards(x: Any) -> Any:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return [np.empty(whole // 8, np.uint8) for _ in range(16)]  # never touched: this asks for room only


def _raises(x: Any) -> Any:
    raise ValueError("no such thing\nand more")


def _row(name: str, stager: Any) -> Workload:
    return Workload(
        name=name, group="lethal", fn=double, inputs=_inputs, stager=lambda st: stager, sizes=(1000,),
        dtypes=("float64",), threads=(1,),
    )  # fmt: skip


WORKLOADS = (
    _row("good", double),
    _row("killed", _killed),
    _row("endless", _endless),
    _row("hoards", _hoards),
    _row("raises", _raises),
    _row("wrong", lambda x: x * 2.0 + 1e-6),
    _row("shape", lambda x: x[:-1] * 2.0),
    _row("good again", double),
)
