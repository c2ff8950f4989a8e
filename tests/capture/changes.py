"""Changes of what a compiled function has captured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import stager as st
from stager.compiler import compiler_of


def assert_change_is_seen(f: Callable[[Any], Any], change: Callable[[], Any], x: Any) -> None:
    """Compiled, f(x) is f(x) before a change and after it, with at most one trace for each state."""
    compiled = st.compile(f)
    for _ in range(2):
        np.testing.assert_allclose(compiled(x), f(x), rtol=1e-14)
    assert len(compiler_of(compiled).history) == 1
    change()
    for _ in range(2):
        np.testing.assert_allclose(compiled(x), f(x), rtol=1e-14)
    assert len(compiler_of(compiled).history) <= 2
