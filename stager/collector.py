"""`uncollected`: the garbage collector rests while a function is traced and compiled.

A compile makes many objects in a short time, nearly all of which live as long as it does. Python answers each few
hundred with a look for cycles among them, and each quarter more with one among all objects of the process: up to a
third of the compile, and more than its share when the process is large. Invariant: the collector is on again after the
last compile that rests it, and only if it was on before.
"""

from __future__ import annotations

import gc
import os
import threading


class _Resting:
    """A context that threads may be in at the same time, and within itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._was_on = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._was_on = gc.isenabled()
                gc.disable()
            self._inside += 1

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            self._inside = max(self._inside - 1, 0)
            if not self._inside and self._was_on:
                gc.enable()

    def forked(self) -> None:
        """In the child of a fork: compiles of other threads do not go on there."""
        self._lock = threading.Lock()
        if self._inside and self._was_on:
            gc.enable()
        self._inside = 0


uncollected = _Resting()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=uncollected.forked)
