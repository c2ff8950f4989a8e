"""What a workload is: one immutable record that says what to compute, on which inputs, with which peers and bars.

`fn` is plain NumPy and is what stager compiles, unmodified. Peers' versions are builders, called only where the peer is
installed, so that a record imports no peer. Not here: how anything is timed (measure.py) or run (runner.py).
"""

from __future__ import annotations

import dis
import importlib
import os
import pkgutil
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Function = Callable[..., Any]
Inputs = tuple[Any, ...]
TABLE_SIZES = (1_000, 100_000, 1_000_000)
MORE = "STAGER_BENCH_WORKLOADS"  # further modules with a tuple WORKLOADS, comma-separated
ROW_BAR: Mapping[str, float] = {"best": 1.15}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One function, timed per call.

    `jax` is "same" where the NumPy text is also idiomatic jax.numpy: the function is then rebuilt with `np` bound to
    `jax.numpy`. `numba(jit, prange)` decorates with `jit`, or with `jit.reassoc` where the sum may be reordered as
    NumPy's own is. `torch(torch)` returns a function of tensors, timed eagerly and through `torch.compile`.
    `boundary="numpy"` makes every peer take and return ndarrays. `bars` maps "best" or a peer's name to the largest
    ratio that stager may have to it; an empty mapping means that the row is only reported.
    """

    name: str
    group: str
    fn: Function
    inputs: Callable[[np.random.Generator, int, np.dtype[Any]], Inputs]
    jax: Callable[[Any], Function] | str | None = "same"
    numba: Callable[[Any, Any], Function] | None = None
    torch: Callable[[Any], Function] | None = None
    autograd: Callable[[Any], Function] | None = None
    c: Callable[[Any], Function] | None = None
    stager: Callable[[Any], Function] | None = None
    reference: Function | None = None  # the plain NumPy peer, where `fn` is not it (gradients)
    numpy_is_peer: bool = True
    bars: Mapping[str, float] = field(default_factory=lambda: ROW_BAR)
    sizes: tuple[int, ...] = TABLE_SIZES
    dtypes: tuple[str, ...] = ("float64", "float32")
    threads: tuple[int, ...] = (1, 2)
    boundary: str = "native"
    loose: float = 1.0  # factor on the tolerance of the check, for sums that NumPy itself rounds coarsely
    static: bool = False  # Python ints among the inputs are compile-time constants for jax
    check: Callable[[Any, Inputs], str | None] | None = None  # what is wrong with a result, where no reference exists
    forward: Function | None = None  # for gradients: compiled and timed beside them, as the candidate "forward"


@dataclass(frozen=True, kw_only=True)
class FirstCall:
    """Trace and compile of a function never seen before: `make(i)` differs in its constants for every i."""

    name: str
    group: str
    make: Callable[[int], Function]
    inputs: Callable[[np.random.Generator], Inputs]
    bars: Mapping[str, float]
    numba: bool = True
    transform: str | None = None  # "vmap_grad": only trace and transform, against jax.make_jaxpr


@dataclass(frozen=True, kw_only=True)
class Process:
    """A whole fresh process per sample. `scripts` maps a peer to the text it runs; caches of all peers are warm.

    A script that prints a number is timed by that number, another by the wall time of its process.
    """

    name: str
    group: str
    scripts: Mapping[str, str]
    bars: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """First-call time over a growing number of operations; the row's figure is the fitted exponent."""

    name: str
    group: str
    make: Callable[[int, int], Function]  # (number of ops, salt)
    inputs: Callable[[np.random.Generator], Inputs]
    sizes: tuple[int, ...]
    bars: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A row that measures itself: `run(budget)` gives it. Figures that are no times stand in the row's `figures`."""

    name: str
    group: str
    run: Callable[[Any], dict[str, Any]]
    bars: Mapping[str, float]


Record = Workload | FirstCall | Process | Scaling | Measured

# Bars on geometric means, per group: peer (or "best") -> largest geomean of stager's ratios over the group's rows.
GROUP_BARS: dict[str, dict[str, float]] = {
    "table": {"best": 0.85},
    "gradients": {"best": 0.7},
    "loops": {"jax": 0.3, "numba": 1.0},
    "loop gradients": {"jax": 0.2},
    "in-place gradients": {"jax": 0.05},
}

SHORT = 100e-6  # seconds
# Bars on rows of a group that take stager less: peer -> largest ratio, beside the row's own bars.
SHORT_BARS: dict[str, dict[str, float]] = {"gradients": {"jax": 0.3}}


def load() -> list[Record]:
    """Every record of bench/workloads, in file order, then those of the modules that the environment names."""
    from bench import workloads

    modules = [f"bench.workloads.{info.name}" for info in pkgutil.iter_modules(workloads.__path__)]
    more = [m for m in os.environ.get(MORE, "").split(",") if m]
    records: list[Record] = []
    for module in [*sorted(modules), *more]:
        records += getattr(importlib.import_module(module), "WORKLOADS", [])
    names = [r.name for r in records]
    doubled = {n for n in names if names.count(n) > 1}
    if doubled:
        raise ValueError(f"two workloads are called {sorted(doubled)}")
    return records


def rebound(fn: Function, **names: Any) -> Function:
    """The same function with other globals: `rebound(f, np=jax.numpy)`. Workload functions that it calls follow."""
    seen: dict[types.FunctionType, types.FunctionType] = {}

    def rebuild(f: types.FunctionType) -> types.FunctionType:
        if f in seen:
            return seen[f]
        scope: dict[str, Any] = {**f.__globals__, **names}
        made = types.FunctionType(f.__code__, scope, f.__name__, f.__defaults__, f.__closure__)
        made.__kwdefaults__ = f.__kwdefaults__
        seen[f] = made
        for instruction in dis.get_instructions(f):
            value = scope.get(instruction.argval) if instruction.opname == "LOAD_GLOBAL" else None
            if isinstance(value, types.FunctionType) and value.__module__.split(".")[0] in ("bench", "tests"):
                scope[instruction.argval] = rebuild(value)
        return made

    assert isinstance(fn, types.FunctionType)
    return rebuild(fn)


def map_leaves(tree: Any, leaf: Callable[[Any], Any]) -> Any:
    """Containers stay, arrays go through `leaf`."""
    if isinstance(tree, dict):
        return {k: map_leaves(v, leaf) for k, v in tree.items()}
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_leaves(v, leaf) for v in tree)
    return leaf(tree)


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return [x for k in sorted(tree) for x in leaves(tree[k])]
    if isinstance(tree, (tuple, list)):
        return [x for v in tree for x in leaves(v)]
    return [tree]
