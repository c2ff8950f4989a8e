"""Files of a build: written in one step, linked by the system's compiler or archiver."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from stager.aot.errors import BuildError


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def system_compiler() -> str | None:
    """The C compiler that links, where the system has one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def link_shared(compiler: str, object: Path, library: Path) -> None:
    temporary = library.with_name(f".{library.name}.{os.getpid()}")
    command = [
        compiler,
        "-shared",
        "-o",
        str(temporary),
        str(object),
        "-Wl,--no-undefined",
        "-Wl,--build-id=none",
        "-lm",
        "-pthread",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        temporary.unlink(missing_ok=True)
        raise BuildError(f"the linker failed: {done.stderr.strip()}")
    os.replace(temporary, library)


def archive_static(object: Path, library: Path) -> None:
    """A static library, by the system's `ar`."""
    library.unlink(missing_ok=True)
    subprocess.run(["ar", "rcsD", str(library), str(object)], check=True, capture_output=True)
