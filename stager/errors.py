"""The errors users meet: one class per kind of mistake, one layout of text.

    what was expected and what came
      at model.py:12 in loss
      under vmap(grad(loss))
      remedy: …

Each class also is the class that a NumPy user expects for the same mistake.
"""

from __future__ import annotations

from typing import Any


class StagerError(Exception):
    """Base of every error that stager raises on purpose."""


class ShapeError(StagerError, ValueError):
    """Shapes that do not fit an operation."""


class DTypeError(StagerError, TypeError):
    """Dtypes that an operation does not take."""


class ConcretizationError(StagerError, TypeError):
    """A traced value was used where Python or NumPy needs a concrete one."""


class EscapedTracerError(StagerError, RuntimeError):
    """A tracer was used after the transform that made it had ended."""


class UnsupportedError(StagerError, TypeError):
    """A NumPy function, argument type or Python feature that stager does not take."""


class ControlFlowError(UnsupportedError):
    """Python control flow on traced values that cannot become a branch or loop of the compiled code."""


class MutationError(StagerError, ValueError):
    """A write that cannot be given its NumPy meaning under the transforms in force."""


class TransformError(StagerError, TypeError):
    """A transform was given arguments that it cannot work on."""


class BackendError(StagerError, RuntimeError):
    """What a backend needs of this machine is not there, or does not take the code."""


REFUSALS = (ConcretizationError, EscapedTracerError, UnsupportedError, MutationError, TransformError)
"""What NumPy would not raise: a program that catches it is not the program any more."""


def describe(text: str, *, remedy: str = "", at: Any = None) -> str:
    """Lay out an error text with the user's line, or the one that is told, and the transforms in force."""
    from stager.interpreters.stack import current_path, user_location

    lines = [text]
    location = user_location() if at is None else at
    if location is not None:
        lines.append(f"  at {location}")
    path = current_path()
    if path:
        lines.append(f"  under {' of '.join(path)}")
    if remedy:
        lines.append(f"  remedy: {remedy}")
    return "\n".join(lines)


def raise_as(cls: type[Exception], text: str, *, remedy: str = "", cause: Any = None) -> None:
    """Raise `cls` with the described text."""
    raise cls(describe(text, remedy=remedy)) from cause
