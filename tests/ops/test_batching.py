"""vmap against a loop over lanes: every op, every sample, every mix of mapped and unmapped operands at several axes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tests.ops.transforms import (
    EXACT,
    evaluate,
    inexact,
    loop_over_lanes,
    mapped,
    pullback,
    pushforward,
)
from tests.samples import ROWS, Sample

LANES = 3
CASES = [name for name, row in ROWS.items() if "collective" not in row.facts]


def mixes(s: Sample, rng: np.random.Generator, limit: int) -> list[tuple[int | None, ...]]:
    """Batch axes per operand (None: not mapped), all of them when there are few."""
    options = [[None, *range(a.ndim + 1)] for a in s.arrays]
    product = [m for m in itertools.product(*options) if any(b is not None for b in m)]
    if len(product) <= limit:
        return product
    first = (0,) * len(s.arrays)
    return [first, *[product[k] for k in rng.choice(len(product), limit - 1, replace=False)]]


def lanes(s: Sample, bdims: tuple[int | None, ...], rng: np.random.Generator) -> list[Any]:
    """The sample's arrays with lanes that differ: floats scaled, other dtypes rolled."""
    out = []
    for a, b in zip(s.arrays, bdims, strict=True):
        if b is None:
            out.append(a)
        elif inexact(a):
            out.append(np.stack([a * f for f in rng.permutation([1.0, 0.97, 1.02])], axis=b).astype(a.dtype))
        else:
            out.append(np.stack([np.roll(a, k) for k in range(LANES)], axis=b))
    return out


@pytest.mark.parametrize("name", CASES)
def test_vmap_is_a_loop(name: str, rng: np.random.Generator) -> None:
    for s in ROWS[name].samples(rng, np.dtype(ROWS[name].dtypes[0])):
        for bdims in mixes(s, rng, 9):
            arrays = lanes(s, bdims, rng)
            got = evaluate(mapped(s.fn, bdims, LANES), *arrays)
            for g, expected in zip(got, loop_over_lanes(s.fn, arrays, bdims, LANES), strict=True):
                np.testing.assert_allclose(g, expected, err_msg=f"{s.text} {bdims}", **EXACT)


@pytest.mark.parametrize("name", CASES)
def test_vmap_of_vmap(name: str, rng: np.random.Generator) -> None:
    for s in ROWS[name].samples(rng, np.dtype(ROWS[name].dtypes[0]))[:6]:
        for bdims in mixes(s, rng, 3):
            arrays = lanes(s, bdims, rng)
            outer = [0 if k % 2 == 0 else None for k in range(len(arrays))]
            twice = [
                np.stack([a, a[::-1] if a.ndim and inexact(a) else a]) if o == 0 else a
                for a, o in zip(arrays, outer, strict=True)
            ]
            inner = mapped(s.fn, bdims, LANES)
            got = evaluate(mapped(inner, outer, 2), *twice)
            for g, expected in zip(got, loop_over_lanes(inner, twice, outer, 2), strict=True):
                np.testing.assert_allclose(g, expected, err_msg=f"{s.text} {bdims}", **EXACT)


@pytest.mark.parametrize("name", [n for n in CASES if not ROWS[n].flat])
def test_vmap_and_derivatives_commute(name: str, rng: np.random.Generator) -> None:
    """vmap of jvp, jvp of vmap, vmap of vjp: all against the loop; vjp of vmap sums over lanes what is not mapped."""
    for s in ROWS[name].samples(rng, np.dtype(np.float64))[:16]:
        needs = [inexact(a) for a in s.arrays]
        if not any(needs):
            continue
        for bdims in mixes(s, rng, 4):
            arrays = lanes(s, bdims, rng)
            what = f"{s.text} {bdims}"
            needed = [(a, b) for a, b, need in zip(arrays, bdims, needs, strict=True) if need]
            tangents = [np.asarray(rng.normal(size=a.shape)) for a, _ in needed]
            t_bdims = [b for _, b in needed]
            forth = pushforward(s.fn, needs)
            expected = loop_over_lanes(forth, [*arrays, *tangents], [*bdims, *t_bdims], LANES)
            of_jvp = evaluate(mapped(forth, [*bdims, *t_bdims], LANES), *arrays, *tangents)
            jvp_of = evaluate(pushforward(mapped(s.fn, bdims, LANES), needs), *arrays, *tangents)
            for a, b, e in zip(of_jvp, jvp_of, expected, strict=True):
                np.testing.assert_allclose(a, e, err_msg=f"vmap of jvp: {what}", **EXACT)
                np.testing.assert_allclose(b, e, err_msg=f"jvp of vmap: {what}", **EXACT)
            cts = [np.asarray(rng.normal(size=e.shape)) for e in expected]
            back = pullback(s.fn, needs)
            ct_bdims = [0] * len(cts)
            expected = loop_over_lanes(back, [*arrays, *cts], [*bdims, *ct_bdims], LANES)
            of_vjp = evaluate(mapped(back, [*bdims, *ct_bdims], LANES), *arrays, *cts)
            vjp_of = evaluate(pullback(mapped(s.fn, bdims, LANES), needs), *arrays, *cts)
            for a, b, e, (_, bdim) in zip(of_vjp, vjp_of, expected, needed, strict=True):
                np.testing.assert_allclose(a, e, err_msg=f"vmap of vjp: {what}", **EXACT)
                summed = e.sum(axis=0) if bdim is None else np.moveaxis(e, 0, bdim)
                np.testing.assert_allclose(b, summed, err_msg=f"vjp of vmap: {what}", **EXACT)
