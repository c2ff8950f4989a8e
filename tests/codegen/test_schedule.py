"""What the scheduler decides depends on the program alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.program import Storage


def test_a_program_does_not_depend_on_where_its_records_lie() -> None:
    """Rows that are too wide for a block of columns go to the arena in the order of the program."""

    def accelerations(x: Any) -> Any:
        away = x[:, None, :] - x[None, :, :]
        squared = np.sum(away * away, axis=2) + 0.01
        return np.sum((1.0 / (squared * np.sqrt(squared)))[:, :, None] * away, axis=1)

    x = np.random.default_rng(0).normal(size=(5, 3))
    texts, held = set(), []
    for turn in range(8):
        gone = [Storage("temp", "x", 8) for _ in range(400)]
        held.append(gone[turn::3])
        gone.sort(key=id, reverse=turn % 2 == 0)
        del gone  # freed in either order: the next records take these places
        texts.add(st.compile(accelerations).show(x, stage="kernels"))
    (text,) = texts
    assert text.index("t0:") < text.index("t1:")


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("n", [15, 16, 17, 18, 19, 37, 64])
def test_reductions_without_lanes_have_several_results_side_by_side(n: int, dtype: str) -> None:
    """Columns lie too far apart for lanes; an addition would wait for the one before."""

    def products(a: Any) -> Any:
        out = np.zeros(9, dtype=a.dtype)
        for k in range(1, a.shape[1]):
            out[k % 5] += a[:, k] @ a[:, k - 1]
            out[k % 5] = np.maximum(out[k % 5], np.max(a[:, k] - a[:, k - 1]))
        return out

    a = (np.random.default_rng(n).standard_normal((n, 9)) * 10).astype(dtype)
    f = st.compile(products)
    np.testing.assert_allclose(f(a), products(a), rtol=1e-5 if dtype == "float32" else 1e-12)
    assert ("side by side" in f.show(a, stage="kernels")) == (n >= 16)
