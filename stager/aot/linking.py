"""Files of a build: written in one step, linked and archived by the system's tools or by those of the extra `link`.

The system's compiler comes first. The package `ziglang` brings a linker where there is none: it links against the C
library that this process runs on, so nothing else needs to be installed. Objects for other machines are not linked.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stager.aot.errors import BuildError

EXTRA = "stager[link]"
C_LIBRARIES = re.compile(r"/(lib(c|m|pthread)|ld(-[\w-]+)?)[-.][^/]*$|/ld-linux[^/]*$")


@dataclass(frozen=True)
class Linker:
    """A command that makes a shared library: what stands before its inputs, and behind them."""

    name: str
    before: tuple[str, ...]
    after: tuple[str, ...] = ()


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def links_here(target: Any) -> bool:
    """Whether this machine's linkers take objects for a target."""
    from stager.codegen.target import Target

    host = Target.host()
    return bool(target.arch == host.arch and target.system == host.system)


def find_linker(target: Any) -> Linker:
    """The linker of this machine, which is of the target's kind. BuildError where there is none."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    linux = target.system.name == "linux"
    if compiler is not None:
        # -fno-lto: the object has no intermediate code, so linkers need not load what would take it
        after = ("-Wl,--no-undefined", "-Wl,--build-id=none", "-lm", "-pthread") if linux else ()
        return Linker(os.path.basename(compiler), (compiler, "-shared", "-fno-lto"), after)
    zig = _ziglang()
    if zig and linux:
        options = ("-shared", "--no-undefined", "--build-id=none", "--as-needed")
        return Linker("ziglang's ld.lld", (*zig, "ld.lld", *options), _c_libraries())
    if zig:
        return Linker("ziglang's cc", (*zig, "cc", "-shared"))
    raise BuildError(
        f"a shared library needs a linker: a C compiler (cc, gcc or clang), or pip install '{EXTRA}'; "
        "the object file needs neither (--no-shared, shared=False)"
    )


def _ziglang() -> tuple[str, ...]:
    """The command of the package ziglang; empty where it is not installed."""
    return (sys.executable, "-m", "ziglang") if importlib.util.find_spec("ziglang") is not None else ()


def _c_libraries() -> tuple[str, ...]:
    """The C library of this process: the linker reads from it which versions of its functions there are."""
    mapped = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()]
    return tuple(dict.fromkeys([path for path in mapped if C_LIBRARIES.search(path)]))


def link_shared(linker: Linker, object: Path, library: Path, more: Sequence[str] = ()) -> None:
    """Link an object, and `more` libraries, into a shared library. BuildError with what the linker said."""
    temporary = library.with_name(f".{library.name}.{os.getpid()}")
    try:
        _run([*linker.before, str(object), "-o", str(temporary), *more, *linker.after], linker.name)
        os.replace(temporary, library)
    finally:
        temporary.unlink(missing_ok=True)


def archive_static(object: Path, library: Path) -> None:
    """Put an object into a static library. BuildError where nothing can."""
    program = shutil.which("ar") or shutil.which("llvm-ar")
    zig = _ziglang()
    if program is None and not zig:
        raise BuildError(f"a static library needs ar (binutils), llvm-ar, or pip install '{EXTRA}'")
    temporary = library.with_name(f".{library.name}.{os.getpid()}")
    try:
        _run([*([program] if program else [*zig, "ar"]), "rcsD", str(temporary), str(object)], "ar")
        os.replace(temporary, library)
    finally:
        temporary.unlink(missing_ok=True)


def _run(command: Sequence[str], name: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{name} failed: {done.stderr.strip() or done.stdout.strip()}")
