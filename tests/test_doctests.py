"""The examples in docstrings run, and every public name has one or is an alias of something that does."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import stager

MODULES = sorted(
    m.name
    for folder in ("stager", "stager.transforms", "stager.interpreters", "stager.ir", "stager.runtime")
    for m in pkgutil.iter_modules(importlib.import_module(folder).__path__, folder + ".")
    if not m.ispkg and not m.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.failed == 0


NAMES = (Path(__file__).parents[1] / "docs" / "names.md").read_text()


@pytest.mark.parametrize("name", sorted(stager._PUBLIC))
def test_public_names_are_documented(name: str) -> None:
    assert (getattr(stager, name).__doc__ or "").strip(), f"stager.{name} has no docstring"
    assert f"`{name}`" in NAMES, f"docs/names.md has no row for {name}"
