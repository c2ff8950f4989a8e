"""Strides of views against NumPy's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stager.cells import ViewStep
from stager.ir.dtypes import f64
from stager.ir.types import Type
from stager.layouts import Layout, follow
from stager.ops import views

BASES: dict[str, Callable[[], np.ndarray[Any, Any]]] = {
    "dense": lambda: np.zeros((4, 6)),
    "transpose": lambda: np.zeros((6, 4)).T,
    "every other row": lambda: np.zeros((8, 6))[::2],
    "columns": lambda: np.zeros((4, 9))[:, :6],
    "backwards": lambda: np.zeros((4, 6))[::-1, ::-1],
    "broadcast": lambda: np.broadcast_to(np.zeros(6), (4, 6)),
    "broadcast twice": lambda: np.broadcast_to(np.zeros(()), (4, 6)),
    "three axes": lambda: np.zeros((2, 3, 8))[:, :, ::2].swapaxes(1, 2),
    "unit axes": lambda: np.zeros((4, 12))[:, None, ::2, None],
}
SHAPES = [s for n in (1, 2, 3, 4) for s in itertools.product((1, 2, 3, 4, 6, 8, 12, 24), repeat=n) if np.prod(s) == 24]


@pytest.mark.parametrize("base", BASES)
def test_reshapes_are_views_where_they_are_numpys(base: str) -> None:
    x = BASES[base]()
    layout = Layout(Type(f64, x.shape), 0, x.strides)
    for shape in SHAPES:
        found = follow(layout, [ViewStep(views._reshape.op, {"shape": shape})])
        want = x.reshape(shape)
        if not np.may_share_memory(x, want):
            assert found is None, shape
            continue
        assert found is not None, shape
        for size, got, stride in zip(shape, found.strides, want.strides, strict=True):
            assert size == 1 or got == stride, shape
