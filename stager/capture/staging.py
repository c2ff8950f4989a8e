"""Traced decisions: here they take the concrete value that a trace outside `compile` carries, or raise its error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Closure = Callable[..., Any]


def and_(value: Any, others: tuple[Closure, ...]) -> Any:
    for other in others:
        if not value:
            return value
        value = other()
    return value


def or_(value: Any, others: tuple[Closure, ...]) -> Any:
    for other in others:
        if value:
            return value
        value = other()
    return value


def not_(value: Any) -> Any:
    return not bool(value)


def ifexp(test: Any, body: Closure, orelse: Closure) -> Any:
    return body() if bool(test) else orelse()


def check(test: Any, error: type[Exception], text: str) -> None:
    if not bool(test):
        raise error(text)


def raised(error: Any) -> Any:
    return error


def plan_for(s: Any, iterable: Any, body: Closure, names: tuple[str, ...]) -> Any:
    return None
