"""Capture: converts user functions from their source, so that calls, captured reads and control flow reach stager.

`convert(fn, session)` gives the callable to trace. Invariant: without an active session converted code is plain Python.
Not here: tracing itself (`stager/tracing.py`) and the checking of guards (`stager/runtime`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import stager.capture.convert  # noqa: F401  (the submodule first, so that the function below keeps the name)
from stager.capture.session import TRACERS, Guard, Path, Session, Store, current, is_tracer, path_text, use
from stager.capture.table import SUBSTITUTES, substitute


def convert(fn: Callable[..., Any], session: Session) -> Callable[..., Any]:
    """The callable that stands in for `fn` while `session` traces. Cached per function; cheap after the first time."""
    from stager.capture import builtins as _builtins
    from stager.capture.resolve import convert_root

    _builtins.install()
    converted: Callable[..., Any] = convert_root(fn, session)
    return converted


def do_not_convert(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: this function is traced as it is written, without converting its calls and control flow."""
    fn.__stager_convert__ = False  # type: ignore[attr-defined]
    return fn


def why_not(fn: Callable[..., Any]) -> str | None:
    """Why `fn` is traced as it is written; None when it is converted."""
    from stager.capture.convert import why_not as reason

    return reason(fn)


__all__ = [
    "SUBSTITUTES", "TRACERS", "Guard", "Path", "Session", "Store", "convert", "current", "do_not_convert", "is_tracer",
    "path_text", "substitute", "use", "why_not",
]  # fmt: skip
