"""How each peer is called: installed or not, inputs in its own arrays, results waited for, results back as ndarrays.

Each peer is used as its own documentation recommends: jax compiled, on device arrays, in 64-bit mode where the data is;
numba without fast maths (sums may be reassociated, as NumPy's pairwise sum is); torch under inference mode, eager and
compiled for static shapes. Setting-up happens once per process, before the first timing.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.workload import Function, Workload, leaves, map_leaves, rebound

ALL = ("numpy", "jax", "numba", "numba.par", "torch", "torch.compile", "autograd", "c")
_MODULES = {"numba.par": "numba", "torch.compile": "torch"}


def installed(names: tuple[str, ...] = ALL) -> list[str]:
    return [n for n in names if n == "c" or importlib.util.find_spec(_MODULES.get(n, n)) is not None]


def thread_environment(threads: int) -> dict[str, str]:
    """What every library reads at start; the processor affinity (runner.py) holds those that read nothing."""
    count = str(threads)
    names = ("OMP", "OPENBLAS", "MKL", "NUMBA", "NUMEXPR", "VECLIB", "BLIS")
    env = {f"{n}_NUM_THREADS": count for n in names}
    env["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}"
    env["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return env


class Jit:
    """What a numba builder decorates with: `jit` keeps the order of operations, `jit.reassoc` may reorder sums."""

    def __init__(self, numba: Any, parallel: bool) -> None:
        self._numba = numba
        self._parallel = parallel

    def __call__(self, fn: Function) -> Function:
        return self._compiled(fn, False)

    def reassoc(self, fn: Function) -> Function:
        return self._compiled(fn, {"reassoc", "contract", "nsz"})

    def _compiled(self, fn: Function, fastmath: Any) -> Function:
        made: Function = self._numba.njit(fn, parallel=self._parallel, fastmath=fastmath, error_model="numpy")
        return made


def adapter(peer: str, workload: Workload, threads: int) -> tuple[Function, Callable[[Any], Any], Callable[[Any], Any]]:
    """(callable, ndarray tree -> the peer's inputs, the peer's result -> ndarray tree), or LookupError: no version."""
    build = _BUILDERS[peer]
    call, to_peer, to_numpy = build(workload, threads)
    if workload.boundary == "native" or peer in ("stager", "numpy", "numba", "numba.par", "c"):
        return call, to_peer, to_numpy
    return (lambda *args: to_numpy(call(*to_peer(args)))), _same, _same


def _same(tree: Any) -> Any:
    return tree


def _arrays(tree: Any) -> Any:
    return map_leaves(tree, np.asarray)


def _forward(workload: Workload, threads: int) -> tuple[Function, Any, Any]:
    import stager as st

    return st.compile(workload.forward), _same, _arrays


def _stager(workload: Workload, threads: int) -> tuple[Function, Any, Any]:
    import stager as st

    return (workload.stager(st) if workload.stager else st.compile(workload.fn)), _same, _arrays


def _numpy(workload: Workload, threads: int) -> tuple[Function, Any, Any]:
    if not workload.numpy_is_peer:
        raise LookupError("only the reference")
    return workload.reference or workload.fn, _same, _arrays


def configured_jax() -> Any:
    """jax in 64-bit mode, without its disk cache, dispatching in the calling thread: the result is waited for at every
    call, so handing the work to another thread would only add its wake-up (40 us on one processor)."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return jax


def _jax(workload: Workload, threads: int) -> tuple[Function, Any, Any]:
    if workload.jax is None:
        raise LookupError("no version")
    jax = configured_jax()
    jnp = jax.numpy
    fn = rebound(workload.fn, np=jnp) if isinstance(workload.jax, str) else workload.jax(jax)
    wait = jax.block_until_ready
    jitted: dict[tuple[int, ...], Function] = {}

    def with_static(*args: Any) -> Any:
        static = tuple([i for i, a in enumerate(args) if type(a) is int])
        if static not in jitted:
            jitted[static] = jax.jit(fn, static_argnums=static)
        return wait(jitted[static](*args))

    plain = jax.jit(fn)

    def call(*args: Any) -> Any:
        return wait(plain(*args))

    def to_jax(tree: Any) -> Any:
        return wait(map_leaves(tree, lambda x: x if workload.static and type(x) is int else jnp.asarray(x)))

    return with_static if workload.static else call, to_jax, _arrays


def _numba(workload: Workload, threads: int, parallel: bool = False) -> tuple[Function, Any, Any]:
    if workload.numba is None or (parallel and threads == 1):
        raise LookupError("no version")
    import numba

    return workload.numba(Jit(numba, parallel), numba.prange if parallel else range), _same, _arrays


def _torch(workload: Workload, threads: int, compiled: bool = False) -> tuple[Function, Any, Any]:
    if workload.torch is None:
        raise LookupError("no version")
    import torch

    torch.set_num_threads(threads)
    inner = workload.torch(torch)
    if compiled:
        torch._dynamo.reset()
        inner = torch.compile(inner, dynamic=False)
    guard = contextlib.nullcontext if workload.reference else torch.inference_mode  # gradients need grad mode

    def call(*args: Any) -> Any:
        with guard():
            return inner(*args)

    def tensor(x: Any) -> Any:
        return torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x

    def to_torch(tree: Any) -> Any:
        return map_leaves(tree, tensor)

    def to_numpy(tree: Any) -> Any:
        return map_leaves(tree, lambda x: x.detach().numpy() if isinstance(x, torch.Tensor) else np.asarray(x))

    return call, to_torch, to_numpy


def _autograd(workload: Workload, threads: int) -> tuple[Function, Any, Any]:
    if workload.autograd is None:
        raise LookupError("no version")
    import autograd

    return workload.autograd(autograd), _same, _arrays


def _c(workload: Workload, threads: int) -> tuple[Function, Any, Any]:
    if workload.c is None:
        raise LookupError("no version")
    from bench import native

    return workload.c(native.library(threads)), _same, _arrays


_BUILDERS: dict[str, Callable[[Workload, int], tuple[Function, Any, Any]]] = {
    "stager": _stager,
    "forward": _forward,
    "numpy": _numpy,
    "jax": _jax,
    "numba": _numba,
    "numba.par": lambda w, t: _numba(w, t, parallel=True),
    "torch": _torch,
    "torch.compile": lambda w, t: _torch(w, t, compiled=True),
    "autograd": _autograd,
    "c": _c,
}

TOLERANCE = {"float64": 1e-9, "float32": 2e-4}


def difference(result: Any, expected: Any, dtype: str, loose: float) -> str | None:
    """What is wrong with a result, or None. Both are trees of ndarrays; the scale is each array's largest entry."""
    got, want = leaves(result), leaves(expected)
    if len(got) != len(want):
        return f"{len(got)} arrays instead of {len(want)}"
    for g, w in zip(got, want, strict=True):
        if np.shape(g) != np.shape(w):
            return f"shape {np.shape(g)} instead of {np.shape(w)}"
        g64, w64 = np.asarray(g, dtype=np.float64), np.asarray(w, dtype=np.float64)
        if not np.array_equal(np.isnan(g64), np.isnan(w64)):
            return "NaN in other places"
        scale = np.max(np.abs(w64), initial=0.0, where=np.isfinite(w64)) + 1e-30
        with np.errstate(invalid="ignore"):
            error = np.abs(np.where(g64 == w64, 0.0, g64 - w64))
        worst = float(np.max(error, initial=0.0, where=~np.isnan(w64))) / scale
        if not worst <= TOLERANCE[dtype] * loose:
            return f"differs by {worst:.1e} of the largest entry"
    return None


def dtype_difference(result: Any, expected: Any) -> str | None:
    """stager also answers in NumPy's dtypes; peers follow their own rules."""
    got, want = [x.dtype for x in map(np.asarray, leaves(result))], [x.dtype for x in leaves(expected)]
    return None if got == want else f"dtypes {', '.join(map(str, got))} instead of {', '.join(map(str, want))}"


def version(name: str) -> str:
    from importlib import metadata

    return metadata.version(name)


def versions() -> dict[str, str]:
    found = {n: version(n) for n in ("numpy", "jax", "jaxlib", "numba", "torch", "autograd", "llvmlite") if _has(n)}
    return found


def _has(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def limit_processors(threads: int) -> None:
    """Pins this process to its last `threads` processors."""
    if hasattr(os, "sched_setaffinity"):
        own = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, own[-threads:])


def limit_memory() -> None:
    """Keeps this process to three quarters of the machine's memory: who needs more fails, and nobody else is killed."""
    try:
        import resource
    except ImportError:  # Windows
        return
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
