"""Grad modes: `no_grad`, `enable_grad`, `set_grad_enabled` and the forward-mode pair, with torch.func's meaning.

`grad` inside `no_grad` differentiates (a level starts enabled and remembers the mode around it); `no_grad` inside
`grad` stops that level.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from stager.interpreters.stack import stack


@contextlib.contextmanager
def set_grad_enabled(enabled: bool) -> Iterator[None]:
    """Context or decorator: reverse mode of the innermost grad level records (True) or not (False).

    >>> import numpy as np, stager as st
    >>> def f(x):
    ...     with st.set_grad_enabled(False):
    ...         c = x ** 2
    ...     return x * c
    >>> float(st.grad(f)(3.0))
    9.0
    """
    s = stack()
    saved, s.grad_enabled = s.grad_enabled, enabled
    try:
        yield
    finally:
        s.grad_enabled = saved


@contextlib.contextmanager
def set_fwd_grad_enabled(enabled: bool) -> Iterator[None]:
    """Context or decorator: forward mode of the innermost jvp level carries tangents (True) or not (False)."""
    s = stack()
    saved, s.fwd_grad_enabled = s.fwd_grad_enabled, enabled
    try:
        yield
    finally:
        s.fwd_grad_enabled = saved


def no_grad() -> contextlib.AbstractContextManager[None]:
    """`set_grad_enabled(False)`."""
    return set_grad_enabled(False)


def enable_grad() -> contextlib.AbstractContextManager[None]:
    """`set_grad_enabled(True)`."""
    return set_grad_enabled(True)


def is_grad_enabled() -> bool:
    """Whether reverse mode of the innermost level records."""
    return stack().grad_enabled
