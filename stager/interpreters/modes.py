"""Grad modes: `no_grad`, `enable_grad`, `set_grad_enabled` and the forward-mode pair, with torch.func's meaning.

`grad` inside `no_grad` differentiates (a level starts enabled and remembers the mode around it); `no_grad` inside
`grad` stops that level. A mode that a traced function sets and leaves ends with the level, or with the trace.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from stager.interpreters.stack import stack

F = TypeVar("F", bound=Callable[..., Any])


class _Mode:
    """A mode of the stack for a stretch of code: a context, which may be entered again, or a decorator."""

    field = "grad_enabled"

    def __init__(self, enabled: bool) -> None:
        self.enabled = bool(enabled)
        self.saved: list[bool] = []

    def __enter__(self) -> None:
        s = stack()
        self.saved.append(getattr(s, self.field))
        setattr(s, self.field, self.enabled)

    def __exit__(self, *exc: object) -> None:
        setattr(stack(), self.field, self.saved.pop())

    def __call__(self, f: F) -> F:
        @functools.wraps(f)
        def within(*args: Any, **kwargs: Any) -> Any:
            from stager.transforms.calling import call_user

            with self:
                return call_user(f, args, kwargs)

        return within  # type: ignore[return-value]


class set_grad_enabled(_Mode):  # noqa: N801  (it is called as a function)
    """Reverse mode of the innermost grad level records (True) or not (False), from here on; as a context or a decorator
    inside it only.

    >>> import numpy as np, stager as st
    >>> def f(x):
    ...     with st.set_grad_enabled(False):
    ...         c = x ** 2
    ...     return x * c
    >>> float(st.grad(f)(3.0))
    9.0
    """

    def __init__(self, enabled: bool) -> None:
        super().__init__(enabled)
        self.before = getattr(stack(), self.field)
        setattr(stack(), self.field, self.enabled)

    def __enter__(self) -> None:
        setattr(stack(), self.field, self.before)
        super().__enter__()

    def __call__(self, f: F) -> F:
        setattr(stack(), self.field, self.before)
        return _Mode.__call__(_of(self), f)


class set_fwd_grad_enabled(set_grad_enabled):  # noqa: N801
    """Forward mode of the innermost jvp level carries tangents (True) or not (False), from here on; as a context or a
    decorator inside it only.

    >>> import numpy as np, stager as st
    >>> def f(x):
    ...     with st.set_fwd_grad_enabled(False):
    ...         c = x ** 2
    ...     return x * c
    >>> float(st.jvp(f, (3.0,), (1.0,))[1])
    9.0
    """

    field = "fwd_grad_enabled"


def _of(mode: set_grad_enabled) -> _Mode:
    """The mode, as one that making it does not set."""
    made = _Mode(mode.enabled)
    made.field = mode.field
    return made


def no_grad() -> _Mode:
    """Context or decorator: the innermost grad level does not record inside it.

    >>> import stager as st
    >>> @st.no_grad()
    ... def constant(x):
    ...     return x ** 2
    >>> float(st.grad(lambda x: x * constant(x))(3.0))
    9.0
    """
    return _Mode(False)


def enable_grad() -> _Mode:
    """Context or decorator: the innermost grad level records inside it, also inside `no_grad`."""
    return _Mode(True)


@contextlib.contextmanager
def modes_kept() -> Iterator[None]:
    """Context: at its end the modes are those of its beginning."""
    s = stack()
    saved = s.grad_enabled, s.fwd_grad_enabled
    try:
        yield
    finally:
        s.grad_enabled, s.fwd_grad_enabled = saved


class _Around:
    """The modes of the stack in force when one is read: what compiled code that asked for one is guarded with."""

    @property
    def grad_enabled(self) -> bool:
        return stack().grad_enabled


AROUND = _Around()


def is_grad_enabled() -> bool:
    """Whether reverse mode of the innermost level records. Code that asks is compiled for each answer."""
    from stager.capture import current

    session: Any = current()
    if session is not None:
        session.guard((("object", AROUND), ("attr", "grad_enabled")), "eq", session.grad_enabled)
    return stack().grad_enabled
