"""The record of an everyday program: a function as it stands in somebody's notebook, and arguments for it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Everyday:
    """`fn` may write into its arguments. `differentiable`: the arguments that its float results depend on smoothly.
    `mapped`: False where the size of a result depends on the data, which lanes cannot share."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    differentiable: tuple[int, ...] = ()
    mapped: bool = True


def all_everyday() -> list[Everyday]:
    modules = ("linalg", "search", "simulation", "learning", "signals", "forms", "models", "geometry", "notebooks")
    return [c for m in modules for c in importlib.import_module(f"tests.programs.everyday_{m}").CASES]
