"""The record of one program: the function, sample inputs, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Function = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Program:
    """`fn` leaves its arguments alone and returns its result; `in_place`, where given, is the kernel inside it that
    writes into its first argument and returns None.

    `make_inputs(rng, size)` gives float64 and integer arguments; `size` is small enough for tests, `bench_size` large
    enough to time. `differentiable` lists the arguments with respect to which the result is smooth at such inputs.
    `mapped` lists the arguments that a vmap over program instances stacks (static counts stay out).
    """

    name: str
    fn: Function
    make_inputs: Callable[[np.random.Generator, int], tuple[Any, ...]]
    size: int
    bench_size: int
    differentiable: tuple[int, ...] = ()
    mapped: tuple[int, ...] = (0,)
    in_place: Function | None = None
    tolerance: float = 1e-10  # relative, for reordered sums

    def inputs(self, rng: np.random.Generator) -> tuple[Any, ...]:
        return self.make_inputs(rng, self.size)
