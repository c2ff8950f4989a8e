"""Real NumPy programs, whole, as users write them. Shared by the tests and by bench/; import stager nowhere here.

Each module kernels_*.py holds a tuple PROGRAMS of records (program.py). `all_programs()` gathers them.
"""

from __future__ import annotations

import importlib
import pkgutil

from tests.programs.program import Program


def all_programs() -> list[Program]:
    found: list[Program] = []
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda i: i.name):
        if info.name.startswith("kernels_"):
            found += importlib.import_module(f"tests.programs.{info.name}").PROGRAMS
    return found


def program(name: str) -> Program:
    return next(p for p in all_programs() if p.name == name)
