"""A line on the terminal while something takes long: long compiles show that they are alive.

Nothing is written before DELAY seconds, nor where standard error is no terminal (STAGER_PROGRESS=1 writes anyway,
STAGER_PROGRESS=0 never).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import TracebackType

DELAY = 1.0
EVERY = 0.25


class Progress:
    """Context: shows `text`, the current phase and the seconds that have passed, from DELAY seconds on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.phase = ""
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._shown = False

    def __enter__(self) -> Progress:
        wanted = os.environ.get("STAGER_PROGRESS", "")
        if wanted != "0" and (wanted == "1" or (sys.stderr is not None and sys.stderr.isatty())):
            self._start = time.perf_counter()
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def _run(self) -> None:
        wait = DELAY
        while not self._done.wait(wait):
            wait = EVERY
            self._shown = True
            seconds = time.perf_counter() - self._start
            sys.stderr.write(f"\rstager: {self.text}: {self.phase} {seconds:.1f} s ")
            sys.stderr.flush()

    def __exit__(self, cls: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._thread is not None:
            self._done.set()
            self._thread.join()
            if self._shown:
                sys.stderr.write("\n")
                sys.stderr.flush()
