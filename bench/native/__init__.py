"""The C peers: built once per source text with gcc -O3 -march=native (and OpenMP), called through ctypes."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SOURCES = tuple(Path(__file__).resolve().parent / name for name in ("kernels.c", "gradients.c"))
FLAGS = ("-O3", "-march=native", "-std=c11", "-D_DEFAULT_SOURCE", "-shared", "-fPIC")
REALS = {"power_iteration", "smith_waterman", "soft_dtw", "hmm_forward", "viterbi"}
REALS |= {"heat1d_gradient", "wave2d_gradient", "exponential_average_gradient"}
INTEGERS = {"crc16", "edit_distance"}


class Library:
    """`library.name(...)`: arrays go as pointers, Python ints as int64_t, floats as double."""

    def __init__(self, path: Path) -> None:
        self._dll = ctypes.CDLL(str(path))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._dll, name)
        function.restype = ctypes.c_double if name in REALS else ctypes.c_int64 if name in INTEGERS else None

        def call(*args: Any) -> Any:
            return function(*[_argument(a) for a in args])

        setattr(self, name, call)
        return call


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags.c_contiguous
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int64(value)


@cache
def library(threads: int = 1) -> Library:
    """With OpenMP for several threads. LookupError("no version") where there is no C compiler: the column then stays
    empty."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise LookupError("no version")
    flags = (*FLAGS, "-fopenmp") if threads > 1 else FLAGS
    texts = b"".join(s.read_bytes() for s in SOURCES) + " ".join(flags).encode()
    folder = Path(tempfile.gettempdir()) / f"stager-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"kernels-{hashlib.sha256(texts).hexdigest()[:16]}.so"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".so", delete=False) as unfinished:
            pass
        subprocess.run([compiler, *flags, *map(str, SOURCES), "-o", unfinished.name, "-lm"], check=True)
        os.replace(unfinished.name, path)
    return Library(path)
