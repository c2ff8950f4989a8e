"""Whose code is it? Functions of the user are converted; the standard library, installed packages and stager are not.
`numpy.polynomial` is: it is Python code over NumPy, as a user would write it.

Not here: functions given to a transform by name, which are converted wherever they stand.
"""

from __future__ import annotations

import functools
import os
import sysconfig
from types import ModuleType

import numpy as np

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOREIGN: tuple[str, ...] = ()
_FILES: dict[str, bool] = {}
_POLYNOMIALS = os.path.join(os.path.dirname(os.path.abspath(np.__file__)), "polynomial") + os.sep


def _foreign_folders() -> tuple[str, ...]:
    global _FOREIGN
    if not _FOREIGN:
        paths = sysconfig.get_paths()
        folders = {paths[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")} | {os.path.dirname(os.__file__)}
        own = {_PACKAGE, *(os.path.join(_PACKAGE, part) for part in ("ir", "codegen", "runtime"))}
        _FOREIGN = tuple({os.path.realpath(f) + os.sep for f in folders | own} | {f + os.sep for f in folders | own})
    return _FOREIGN


def is_user_file(filename: str) -> bool:
    """Whether code of this file belongs to the user."""
    known = _FILES.get(filename)
    if known is None:
        path = os.path.abspath(filename)
        parts = path.split(os.sep)
        installed = "site-packages" in parts or "dist-packages" in parts
        known = not installed and not filename.startswith("<frozen") and not path.startswith(_foreign_folders())
        known = known or path.startswith(_POLYNOMIALS)
        _FILES[filename] = known
    return known


@functools.lru_cache(maxsize=4096)
def is_own_file(filename: str) -> bool:
    """Whether code of this file is stager's."""
    return os.path.abspath(filename).startswith(_PACKAGE + os.sep)


def is_user_module(module: ModuleType) -> bool:
    """Whether a module is the user's own; built-in modules have no file and are not."""
    filename = getattr(module, "__file__", None)
    if isinstance(filename, str):
        return is_user_file(filename)
    return module.__name__ == "__main__"
