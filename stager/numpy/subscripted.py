"""`np.r_` and `np.c_`, which join what they are subscripted with. Reached through the resolution of subscripts."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array
from stager.capture.session import holds_tracer
from stager.capture.table import SUBSTITUTES
from stager.errors import UnsupportedError, describe
from stager.numpy.creation_ranges import arange, constant, linspace
from stager.numpy.promotion import result_dtype
from stager.numpy.shaping import concatenate, handle, permuted, reshape


class Joined:
    """What stands in for `np.r_` (axis 0) or `np.c_` (columns)."""

    __slots__ = ("axis", "ndmin", "original", "trans1d")

    def __init__(self, original: Any, axis: int, ndmin: int, trans1d: int) -> None:
        self.original = original
        self.axis, self.ndmin, self.trans1d = axis, ndmin, trans1d

    def __getitem__(self, key: Any) -> Any:
        items = key if isinstance(key, tuple) else (key,)
        if not holds_tracer(key, 3) and not _traced_bounds(items):
            return constant(self.original[key])
        if any(isinstance(i, str) for i in items):
            raise UnsupportedError(
                describe("np.r_ with a directive is not supported on traced arrays", remedy="use np.concatenate")
            )
        parts = [_range(i) if isinstance(i, slice) else i for i in items]
        dtype = result_dtype(*[p if type(p) in (int, float, bool, Array) else handle(p) for p in parts])
        arrays = [self._at_least(handle(p)) for p in parts]
        return concatenate(arrays, axis=self.axis, dtype=dtype.np)

    def _at_least(self, x: Array) -> Array:
        missing = self.ndmin - x.ndim
        if missing <= 0:
            return x
        own = x.ndim
        x = reshape(x, (*(1,) * missing, *x.type.shape))
        if self.trans1d == -1 or not own:
            return x
        first = self.trans1d if self.trans1d >= 0 else self.trans1d + missing + 1
        axes = list(range(self.ndmin))
        return permuted(x, axes[:first] + axes[missing:] + axes[first:missing])


def _traced_bounds(items: tuple[Any, ...]) -> bool:
    return any(isinstance(i, slice) and any(type(v) is Array for v in (i.start, i.stop, i.step)) for i in items)


def _range(s: slice) -> Any:
    start = 0 if s.start is None else s.start
    if isinstance(s.step, complex):
        return linspace(start, s.stop, int(abs(s.step)))
    return arange(start, s.stop, 1 if s.step is None else s.step)


SUBSTITUTES[np.r_] = Joined(np.r_, 0, 1, -1)  # type: ignore[assignment]
SUBSTITUTES[np.c_] = Joined(np.c_, -1, 2, 0)  # type: ignore[assignment]
