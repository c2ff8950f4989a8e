"""The BLAS that NumPy brings: its bundled OpenBLAS, already loaded into the process, by canonical names.

External symbols that compiled code may ask for, when `provides(name)`:

    stager_blas_{s,d,c,z}gemm, …gemv, …dot (s, d), …ger (s, d), …syrk, …trsm

Each is the CBLAS function of that name with 64-bit integers (ILP64), called directly, as in

    void stager_blas_dgemm(i32 order, i32 trans_a, i32 trans_b, i64 m, i64 n, i64 k, double alpha,
                           const double *a, i64 lda, const double *b, i64 ldb, double beta, double *c, i64 ldc)
    void stager_blas_dgemv(i32 order, i32 trans, i64 m, i64 n, double alpha, const double *a, i64 lda,
                           const double *x, i64 incx, double beta, double *y, i64 incy)

with order 101 (rows) or 102 (columns), trans 111 (as it is), 112 (transposed), 113 (conjugated). And

    i32  stager_blas_get_threads(void)
    void stager_blas_set_threads(i32)

which are the process's, NumPy's own products included: who sets them puts the old number back.

Invariant: only a library that is loaded and has 64-bit integers is used; with any other BLAS (MKL, Accelerate, a
distribution's) there are no such symbols, and code generation emits its own kernels. Not here: when BLAS pays.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PREFIX = "stager_blas_"
_LETTERS = {"gemm": "sdcz", "gemv": "sdcz", "syrk": "sdcz", "trsm": "sdcz", "dot": "sd", "ger": "sd"}
FUNCTIONS = tuple(letter + name for name, letters in _LETTERS.items() for letter in letters)
SPELLINGS = ("scipy_cblas_{}64_", "cblas_{}64_")  # NumPy 2's own build of OpenBLAS, and plain ILP64 builds
THREADS = (
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
)


@cache
def symbols() -> Mapping[str, int]:
    """The canonical names with their addresses; empty when NumPy's BLAS cannot be used."""
    library = _loaded_library()
    if library is None:
        return {}
    found = {}
    for name in FUNCTIONS:
        address = next(filter(None, (_address(library, spelling.format(name)) for spelling in SPELLINGS)), None)
        if address is not None:
            found[PREFIX + name] = address
    for get, set in THREADS:
        getter, setter = _address(library, get), _address(library, set)
        if getter is not None and setter is not None:
            found[PREFIX + "get_threads"], found[PREFIX + "set_threads"] = getter, setter
            break
    else:
        return {}  # a library whose threads cannot be held back would break `threads=`
    return found


def provides(name: str) -> bool:
    """Whether compiled code can be linked against a canonical name in this process."""
    return name in symbols()


def external_address(name: str) -> int | None:
    """For `Engine.provide_by`."""
    return symbols().get(name) if name.startswith(PREFIX) else None


def library_name() -> str | None:
    """The file name of the library in use, for `explain` and cache keys."""
    return next((path.name for path in _candidates() if _open_if_loaded(path) is not None), None) if symbols() else None


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """NumPy's BLAS on so many threads, for the time of a block; without OpenBLAS nothing changes."""
    found = symbols()
    if not found:
        yield
        return
    get = ctypes.CFUNCTYPE(ctypes.c_int)(found[PREFIX + "get_threads"])
    set = ctypes.CFUNCTYPE(None, ctypes.c_int)(found[PREFIX + "set_threads"])
    before = get()
    set(threads)
    try:
        yield
    finally:
        set(before)


def _address(library: Any, name: str) -> int | None:
    try:
        return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    except AttributeError:
        return None


def _loaded_library() -> Any:
    """The handle of NumPy's OpenBLAS, when the process has it loaded."""
    return next(filter(None, map(_open_if_loaded, _candidates())), None)


def _candidates() -> list[Path]:
    package = Path(np.__file__).parent
    folders = [package.parent / "numpy.libs", package / ".libs", package / ".dylibs"]  # Linux and Windows; macOS
    return [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*openblas*"))]


def _open_if_loaded(path: Path) -> Any:
    if sys.platform == "win32":
        try:
            return ctypes.CDLL(str(path))  # a file of that name in the package is what NumPy has loaded
        except OSError:
            return None
    try:
        return ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None
