"""From a graph to machine code: passes, caches, code generation, loading. One function for `compile` and plain calls.

An `Executable` is found by structural hash and backend, first in memory, then on disk; a hit does no LLVM work.

Two backends go from the optimised graph to an object: "native", stager's own kernels (`codegen/compile.py`), and
"mlir", LLVM's upstream dialects and tools (`codegen/mlir/`). What follows them is the same.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stager.errors import BackendError, UnsupportedError
from stager.ir.abi import Abi
from stager.ir.graph import Graph
from stager.ir.hash import structural_hash

BACKENDS = ("native", "mlir")


@dataclass
class Executable:
    """Loaded machine code for one graph."""

    abi: Abi
    address: int
    key: str
    graph: Graph  # as traced
    object: bytes = b""
    loaded: Any = None
    origin: str = "compiled"  # "compiled", "memory" or "disk"
    times: dict[str, float] = field(default_factory=dict)  # seconds by phase
    backend: str = "native"
    _optimized: Graph | None = None
    _compiled: Any = None

    @property
    def optimized(self) -> Graph:
        """The graph after the passes."""
        if self._optimized is None:
            self._optimized = optimize(self.graph)
        return self._optimized

    @property
    def compiled(self) -> Any:
        """What code generation produced: program, LLVM, statistics. Made again when the code came from a cache."""
        if self._compiled is None:
            self._compiled = generate(self.optimized, self.backend)
        return self._compiled

    def __call__(self, arrays: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """Run on arrays of exactly the input types; fresh outputs."""
        from stager.runtime.call import call

        results: list[np.ndarray[Any, Any]] = call(self.abi, self.address, arrays)
        return results


_memory: weakref.WeakValueDictionary[str, Executable] = weakref.WeakValueDictionary()
_recent: dict[str, Executable] = {}  # keeps the last ones alive, so that a re-trace finds them
_RECENT_LIMIT = 512
_lock = threading.RLock()


def optimize(graph: Graph, stop_after: str | None = None) -> Graph:
    """The graph after the passes (up to and with `stop_after`)."""
    from stager.ir.passes.pipeline import run_pipeline

    return run_pipeline(graph, stop_after=stop_after)


def generate(graph: Graph, backend: str = "native") -> Any:
    """Code for an optimised graph, for this machine. BackendError when the backend cannot work here."""
    from stager.codegen.compile import compile_graph
    from stager.codegen.target import Target

    if backend == "mlir":
        return _through_mlir(graph)
    return compile_graph(graph, Target.host(), name="stager_kernel", blas=_has_blas())


def _through_mlir(graph: Graph) -> Any:
    from stager.codegen.mlir import MlirError, compile_mlir
    from stager.codegen.target import Target

    try:
        return compile_mlir(graph, Target.host(), name="stager_kernel")
    except MlirError as e:
        raise BackendError(f'compile(backend="mlir"): {e}') from None
    except NotImplementedError as e:
        raise UnsupportedError(f'compile(backend="mlir"): {e}') from None


def _has_blas() -> bool:
    """Whether compiled code finds NumPy's BLAS in this process."""
    from stager.runtime import blas

    return blas.provides("stager_blas_dgemm") and blas.provides("stager_blas_sgemm")


def executable(graph: Graph, key: str | None = None, backend: str = "native") -> Executable:
    """Machine code for a graph; `key` is its structural hash where the caller has it."""
    start = time.perf_counter()
    key = structural_hash(graph) if key is None else key
    if backend != "native":
        key = f"{key} {backend}"
    hashed = time.perf_counter()
    with _lock:
        found = _memory.get(key)
    if found is not None:
        times = {"hash": hashed - start}
        return replace(found, graph=graph, origin="memory", times=times)
    made = _from_disk(graph, key, backend) or _compile(graph, key, backend)
    made.times["hash"] = hashed - start
    made.times["total"] = time.perf_counter() - start
    with _lock:
        _memory[key] = made
        _recent[key] = made
        while len(_recent) > _RECENT_LIMIT:
            _recent.pop(next(iter(_recent)))
    return made


def _from_disk(graph: Graph, key: str, backend: str) -> Executable | None:
    from stager.runtime.cache import disk_cache

    start = time.perf_counter()
    cache = disk_cache()
    entry = cache.get(key) if cache is not None else None
    if entry is None:
        return None
    object, abi = entry
    if not _has_blas() and any(x.startswith("stager_blas_") for x in abi.externals):
        return None  # made for another build of NumPy
    return _load(graph, key, object, abi, "disk", {"disk": time.perf_counter() - start}, backend)


def _compile(graph: Graph, key: str, backend: str) -> Executable:
    from stager.progress import Progress
    from stager.runtime.cache import disk_cache

    times: dict[str, float] = {}
    with Progress(f"compiling {graph.name} ({len(graph)} ops)") as progress:
        start = time.perf_counter()
        progress.phase = "passes"
        optimized = optimize(graph)
        times["passes"] = time.perf_counter() - start
        start = time.perf_counter()
        progress.phase = "code generation"
        compiled = generate(optimized, backend)
        times["codegen"] = time.perf_counter() - start
    cache = disk_cache()
    if cache is not None:
        cache.put(key, compiled.object, compiled.abi)
    made = _load(graph, key, compiled.object, compiled.abi, "compiled", times, backend)
    made._optimized, made._compiled = optimized, compiled
    return made


def load_executable(graph: Graph, key: str, object: bytes, abi: Abi, backend: str = "native") -> Executable:
    """An executable from object code made elsewhere on an equal machine."""
    with _lock:
        found = _memory.get(key)
    if found is not None:
        return found
    made = _load(graph, key, object, abi, "pickle", {}, backend)
    with _lock:
        _memory[key] = _recent[key] = made
    return made


def _load(
    graph: Graph, key: str, object: bytes, abi: Abi, origin: str, times: dict[str, float], backend: str
) -> Executable:
    from stager.runtime.engine import engine
    from stager.support import provide_support

    start = time.perf_counter()
    provide_support()
    loaded = engine().load(object, abi.externals)
    address = loaded.address(abi.name)
    times["load"] = time.perf_counter() - start
    return Executable(abi, address, key, graph, object, loaded, origin, times, backend)
