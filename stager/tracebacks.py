"""Tracebacks of the user's own mistakes show the user's own frames. STAGER_TRACEBACK=full keeps all of them."""

from __future__ import annotations

import os
from types import TracebackType

from stager.errors import StagerError
from stager.interpreters.stack import is_internal


def trimmed(error: BaseException) -> BaseException:
    """The error, without stager's frames in its traceback; internal errors keep them all."""
    if not isinstance(error, StagerError) or os.environ.get("STAGER_TRACEBACK") == "full":
        return error
    kept: list[TracebackType] = []
    tb = error.__traceback__
    while tb is not None:
        frame = tb.tb_frame
        if not is_internal(frame.f_code.co_filename, frame.f_globals.get("__name__") or ""):
            kept.append(tb)
        tb = tb.tb_next
    chain: TracebackType | None = None
    for tb in reversed(kept):
        chain = TracebackType(chain, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    return error.with_traceback(chain)
