"""Gradients of the programs: half the sum of squares of all results, with respect to every smooth argument.

No NumPy gradient exists, so results are checked along a random direction by central differences. jax gets smaller sizes
than the forward rows where its own time would pass seconds; all candidates of a row run the same size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.loops import c_versions, jax_versions
from bench.workload import Function, Inputs, Workload, leaves
from bench.workloads.f_loops import inputs_of
from tests.programs import all_programs
from tests.programs.program import Program

SIZES = {
    "Cholesky": 80, "Gauss-Seidel": 60, "soft DTW": 60, "Smith-Waterman": 100, "Floyd-Warshall": 100, "LU": 100,
    "tridiagonal": 2000, "random walk": 2000, "exponential average": 5000, "Gram-Schmidt QR": 60, "insertion sort": 200,
    "forward substitution": 200, "back substitution": 200, "Levinson-Durbin": 200, "prefix sums": 20_000,
    "running sum": 20_000,
}  # fmt: skip
IN_PLACE = {"Cholesky", "Gauss-Seidel", "tridiagonal"}


def half_square(fn: Function) -> Function:
    """0.5 Σ result², over all results of `fn`."""

    def loss(*args: Any) -> Any:
        out = fn(*args)
        if not isinstance(out, tuple):
            return 0.5 * np.sum(out * out)
        total = 0.0
        for part in out:
            total = total + 0.5 * np.sum(part * part)
        return total

    return loss


def jax_gradient(program: Program) -> Callable[[Any], Function] | None:
    if program.name in jax_versions.NOT_REVERSIBLE:
        return None
    build = jax_versions.REVERSIBLE.get(program.name) or jax_versions.WRITTEN.get(program.name)
    build = build or jax_versions.same_text(program.fn)

    def made(jax: Any) -> Function:
        fn = build(jax)

        def loss(*args: Any) -> Any:
            return sum(0.5 * jax.numpy.sum(x * x) for x in jax.tree.leaves(fn(*args)))

        gradient: Function = jax.grad(loss, argnums=program.differentiable)
        return gradient

    return made


def along_a_direction(program: Program) -> Callable[[Any, Inputs], str | None]:
    loss = half_square(program.fn)

    def check(result: Any, args: Inputs) -> str | None:
        rng = np.random.default_rng(1)
        got = leaves(result)
        if len(got) != len(program.differentiable):
            return f"{len(got)} gradients instead of {len(program.differentiable)}"
        ways = [rng.standard_normal(np.shape(args[i])) for i in program.differentiable]
        if program.name == "Cholesky":  # reads the lower triangle only
            ways = [np.tril(w) for w in ways]
        step = 1e-6

        def moved(sign: float) -> float:
            new = list(args)
            for i, way in zip(program.differentiable, ways, strict=True):
                shifted = np.asarray(args[i]) + sign * step * way
                new[i] = shifted if isinstance(args[i], np.ndarray) else float(shifted)
            return float(loss(*new))

        slope = (moved(1.0) - moved(-1.0)) / (2.0 * step)
        found = sum(float(np.sum(g * w)) for g, w in zip(got, ways, strict=True))
        scale = sum(float(np.sqrt(np.sum(np.square(g)))) for g in got) + abs(slope)
        wrong = abs(found - slope) / (scale + 1e-30)
        return None if wrong < 1e-5 else f"slope {found:.8g}, differences say {slope:.8g}"

    return check


def _row(program: Program) -> Workload:
    name = program.name
    bars = {"forward": 5.0}  # forward and a backward of at most four times that
    if name in c_versions.GRADIENT:
        bars["c"] = 2.0
    loss = half_square(program.fn)
    return Workload(
        name=f"grad {name}",
        group="in-place gradients" if name in IN_PLACE else "loop gradients",
        fn=loss,
        inputs=inputs_of(program),
        numpy_is_peer=False,
        stager=lambda st: st.compile(st.grad(loss, argnums=program.differentiable)),
        forward=loss,
        jax=jax_gradient(program),
        c=c_versions.GRADIENT.get(name),
        check=along_a_direction(program),
        bars=bars,
        sizes=(SIZES.get(name, program.bench_size),),
        dtypes=("float64",),
        threads=(1,),
        static=True,
    )


WORKLOADS = tuple(_row(p) for p in all_programs() if p.differentiable)
