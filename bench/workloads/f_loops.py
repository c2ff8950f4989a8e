"""Every program of tests/programs, forward: unmodified NumPy against numba, jax `lax` loops and C."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.loops import c_versions, jax_versions, numba_versions
from bench.workload import Inputs, Workload
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


WORKLOADS = tuple(_row(p) for p in all_programs())
