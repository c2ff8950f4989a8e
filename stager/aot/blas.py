"""`--blas`: the BLAS that a library is linked with, and what its functions are called.

A name (`openblas`, as the linker's -l takes it) or the path of a shared library, which is opened to see which of the
spellings of CBLAS it has. Invariant: a library without `--blas` calls none. Not here: the code around the calls
(`codegen/products.py`, `codegen/blas.py`).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stager.aot.errors import BuildError

# (products, bits of integers), (reading and setting the number of threads): whatever is found first
SPELLINGS = (("scipy_cblas_{}gemm64_", 64), ("cblas_{}gemm64_", 64), ("cblas_{}gemm", 32))
THREADS = (
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
)


@dataclass(frozen=True)
class Blas:
    """A BLAS: how its products are called, how wide its integers are, how its threads are held, how it is linked."""

    name: str
    gemm: str
    bits: int
    threads: tuple[str, str] | None
    link: tuple[str, ...]

    def modules(self, target: Any) -> list[str]:
        """The LLVM text of what kernels call."""
        from stager.codegen.blas import emit_blas_threads
        from stager.codegen.products import emit_products

        products = emit_products(target, gemm=self.gemm, bits=self.bits)
        return [str(products), str(emit_blas_threads(target, self.threads))]


def find_blas(name: str) -> Blas:
    """The BLAS of a name or path. BuildError when there is none, or it has no CBLAS."""
    is_path = os.sep in name or name.endswith((".so", ".dylib", ".dll"))
    path = os.path.abspath(name) if is_path else ctypes.util.find_library(name)
    try:
        library = ctypes.CDLL(path) if path else None
    except OSError as e:
        raise BuildError(f"the BLAS {name} cannot be opened: {e}") from None
    if library is None:
        raise BuildError(f"there is no BLAS called {name} on this machine: name one, or the path of its shared library")
    found = _first([spelling.format("d") for spelling, _ in SPELLINGS], library)
    if found is None:
        raise BuildError(f"{path} has no cblas_dgemm: it is no BLAS, or one without its C interface")
    gemm, bits = SPELLINGS[found]
    held = _first([get for get, _ in THREADS], library)
    folder = os.path.dirname(os.path.abspath(name))
    link = (os.path.abspath(name), f"-Wl,-rpath,{folder}") if is_path else (f"-l{name}",)
    return Blas(name, gemm, bits, None if held is None else THREADS[held], link)


def _first(names: Sequence[str], library: Any) -> int | None:
    return next((k for k, name in enumerate(names) if hasattr(library, name)), None)
