"""Every program of tests/programs, forward: unmodified NumPy against numba, jax `lax` loops and C; and programs of
single elements, which are numba's own ground, against numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.loops import c_versions, elements, jax_versions, numba_versions
from bench.workload import Function, Inputs, Workload
from tests.programs import all_programs
from tests.programs.program import Program


def inputs_of(program: Program) -> Any:
    def inputs(rng: np.random.Generator, n: int, dtype: np.dtype[Any]) -> Inputs:
        return program.make_inputs(rng, n)

    return inputs


def _row(program: Program) -> Workload:
    return Workload(
        name=program.name,
        group="loops",
        fn=program.fn,
        inputs=inputs_of(program),
        jax=jax_versions.WRITTEN.get(program.name) or jax_versions.same_text(program.fn),
        numba=numba_versions.WRITTEN.get(program.name) or numba_versions.same_text(program.fn),
        c=c_versions.FORWARD.get(program.name),
        sizes=(program.bench_size,),
        dtypes=("float64",),
        static=True,
        loose=max(10.0, program.tolerance / 1e-10),
    )


def _by_element(name: str, fn: Function, inputs: Any, size: int) -> Workload:
    return Workload(
        name=name,
        group="loops",
        fn=fn,
        inputs=lambda rng, n, dtype: inputs(rng, n),
        numba=numba_versions.same_text(fn),
        sizes=(size,),
        dtypes=("float64",),
        threads=(1,),
        static=True,
        loose=100.0,
    )


WORKLOADS = (*(_row(p) for p in all_programs()), *(_by_element(*x) for x in elements.PROGRAMS))
