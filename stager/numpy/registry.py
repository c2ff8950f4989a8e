"""The tables of what traced arrays take (functions, ndarray methods, properties) and the decorators that fill them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from stager.errors import UnsupportedError, describe

F = TypeVar("F", bound=Callable[..., Any])

FUNCTIONS: dict[Any, Callable[..., Any]] = {}  # NumPy function -> its counterpart
METHODS: dict[str, Callable[..., Any]] = {}  # ndarray method -> rule(self, ...)
PROPERTIES: dict[str, Callable[..., Any]] = {}  # ndarray property -> rule(self)


def implements(*numpy_functions: Any, method: str | None = None) -> Callable[[F], F]:
    """The counterpart of NumPy functions, and of the ndarray method of that name."""

    def note(rule: F) -> F:
        for f in numpy_functions:
            FUNCTIONS[f] = rule
        if method is not None:
            METHODS[method] = rule
        return rule

    return note


def method(name: str) -> Callable[[F], F]:
    """An ndarray method."""
    return implements(method=name)


def array_property(name: str) -> Callable[[F], F]:
    """An ndarray property."""

    def note(rule: F) -> F:
        PROPERTIES[name] = rule
        return rule

    return note


def unsupported_function(func: Any) -> NoReturn:
    """Raise for a NumPy function that has no counterpart, naming what is near."""
    import difflib

    name = getattr(func, "__name__", str(func))
    module = getattr(func, "__module__", "numpy") or "numpy"
    names = sorted({f.__name__ for f in FUNCTIONS if hasattr(f, "__name__")})
    near = difflib.get_close_matches(name, names, 3, 0.5)
    remedy = "near: " + ", ".join("np." + n for n in near) if near else "write it with the supported functions"
    raise UnsupportedError(
        describe(f"{module.replace('numpy', 'np', 1)}.{name} is not supported on traced arrays", remedy=remedy)
    )
