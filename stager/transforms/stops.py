"""`stop_gradient`: values whose derivative is zero for every level."""

from __future__ import annotations

from typing import Any

from stager.array import Array, wrap
from stager.interpreters.stack import active
from stager.ops.elementwise import stop_gradient as stop
from stager.runtime.structure import map_leaves


def stop_gradient(x: Any) -> Any:
    """x, whose derivative is zero for every level in force. x may be any nesting of arrays.

    >>> import stager as st
    >>> float(st.grad(lambda x: x * st.stop_gradient(x))(3.0))
    3.0
    """
    if not active():
        return x
    return map_leaves(lambda leaf: wrap(stop(leaf.raw()), leaf.weak) if isinstance(leaf, Array) else leaf, x)
