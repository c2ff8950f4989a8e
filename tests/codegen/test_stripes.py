"""Reductions over the rows of large matrices: every kind, row counts that divide and do not, threads, accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.codegen.build import G
from tests.codegen.run import Runner, compiled

KINDS = {"reduce_sum": np.sum, "reduce_prod": np.prod, "reduce_max": np.max, "reduce_min": np.min}


def reduced(op: str, spec: str, axis: int) -> Runner:
    g = G()
    x = g.input(spec)
    return compiled(g.output(g.emit(op, x, axes=(axis,))))


@pytest.mark.parametrize("shape", [(1000, 300), (1009, 200), (2, 1030, 257), (128, 4099)], ids=str)
@pytest.mark.parametrize("dtype", ["f64", "f32", "i64"])
@pytest.mark.parametrize("op", KINDS)
def test_against_numpy(op: str, dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    axis = len(shape) - 2
    if dtype == "i64":
        x = rng.integers(-50, 50, shape)
    else:
        x = (1 + rng.standard_normal(shape) * (1e-3 if op == "reduce_prod" else 1)).astype(dtype.replace("f", "float"))
    made = reduced(op, f"{dtype}[{','.join(map(str, shape))}]", axis)
    want = KINDS[op](x.astype(np.longdouble) if dtype != "i64" else x, axis=axis)
    got = [made(x, threads=n)[0] for n in (1, 2, 3)]
    for other in got[1:]:
        np.testing.assert_array_equal(got[0], other)
    if dtype == "i64" or op in ("reduce_max", "reduce_min"):
        np.testing.assert_array_equal(got[0], want)
        return
    # a product rounds as often as it has factors, whatever their order; a sum no worse than its few long chains
    roundings = 16 if op == "reduce_sum" else 3 * shape[axis] ** 0.5
    scale = np.sum(np.abs(x), axis=axis, dtype=np.float64) if op == "reduce_sum" else np.abs(want)
    assert np.all(np.abs(got[0] - want) <= roundings * np.finfo(x.dtype).eps * scale)


def test_a_nan_stays_in_its_column(rng: np.random.Generator) -> None:
    x = rng.standard_normal((500, 300))
    x[77, 5] = np.nan
    for op in ("reduce_sum", "reduce_max"):
        got = reduced(op, "f64[500,300]", 0)(x)[0]
        assert np.isnan(got[5])
        assert np.isfinite(np.delete(got, 5)).all()
