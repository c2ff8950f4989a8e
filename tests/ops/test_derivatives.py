"""jvp against central differences, vjp against jvp, and both orders of second derivatives, for every op and sample."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.transforms import (
    DIFFERENCE,
    EXACT,
    directional,
    directions_for,
    evaluate,
    inexact,
    inner,
    pullback,
    pushforward,
)
from tests.samples import ROWS, Sample

DIFFERENTIABLE = [name for name, row in ROWS.items() if not row.flat]


def cases(name: str, rng: np.random.Generator) -> list[tuple[Sample, list[bool]]]:
    found = []
    for s in ROWS[name].samples(rng, np.dtype(np.float64)):
        needs = [inexact(a) for a in s.arrays]
        if any(needs):
            found.append((s, needs))
    return found


def given(arrays: list[object]) -> list[object]:
    return [a for a in arrays if a is not None]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_jvp_is_the_derivative(name: str, rng: np.random.Generator) -> None:
    for s, needs in cases(name, rng):
        directions = directions_for(rng, s.arrays)
        tangents = evaluate(pushforward(s.fn, needs), *s.arrays, *given(directions))
        for got, expected in zip(tangents, directional(s.fn, s.arrays, directions), strict=True):
            np.testing.assert_allclose(got, expected, err_msg=s.text, **DIFFERENCE)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_jvp_along_one_operand_at_a_time(name: str, rng: np.random.Generator) -> None:
    for s, needs in cases(name, rng):
        if sum(needs) < 2:
            continue
        directions = directions_for(rng, s.arrays)
        total = None
        for k in range(len(needs)):
            if needs[k]:
                one = [j == k for j in range(len(needs))]
                part = evaluate(pushforward(s.fn, one), *s.arrays, directions[k])
                total = part if total is None else [a + b for a, b in zip(total, part, strict=True)]
        whole = evaluate(pushforward(s.fn, needs), *s.arrays, *given(directions))
        for got, expected in zip(total or (), whole, strict=True):
            np.testing.assert_allclose(got, expected, err_msg=s.text, **EXACT)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_vjp_is_the_transpose_of_jvp(name: str, rng: np.random.Generator) -> None:
    for s, needs in cases(name, rng):
        directions = given(directions_for(rng, s.arrays))
        tangents = evaluate(pushforward(s.fn, needs), *s.arrays, *directions)
        cotangents = [np.asarray(rng.normal(size=t.shape)) for t in tangents]
        pulled = evaluate(pullback(s.fn, needs), *s.arrays, *cotangents)
        np.testing.assert_allclose(inner(pulled, directions), inner(cotangents, tangents), err_msg=s.text, **EXACT)
        for k in range(len(needs)):  # one operand at a time: the same cotangents
            if needs[k] and sum(needs) > 1:
                one = evaluate(pullback(s.fn, [j == k for j in range(len(needs))]), *s.arrays, *cotangents)
                expected = pulled[sum(needs[:k])]
                np.testing.assert_allclose(one[0], expected, err_msg=s.text, **EXACT)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_second_order(name: str, rng: np.random.Generator) -> None:
    """jvp of vjp against differences of the vjp; vjp of vjp, vjp of jvp and jvp of jvp against that."""
    for s, needs in cases(name, rng)[:24]:
        n, k = len(needs), sum(needs)
        xs = list(s.arrays)
        u, v = given(directions_for(rng, xs)), given(directions_for(rng, xs))
        shapes = [o.shape for o in evaluate(s.fn, *xs) if inexact(o)]
        cts = [np.asarray(rng.normal(size=shape)) for shape in shapes]
        fixed = [False] * len(cts)
        back, forth = pullback(s.fn, needs), pushforward(s.fn, needs)

        over_reverse = evaluate(pushforward(back, [*needs, *fixed]), *xs, *cts, *u)
        it = iter(u)
        along = [next(it) if need else None for need in needs]
        for got, expected in zip(
            over_reverse, directional(lambda *a: back(*a), [*xs, *cts], [*along, *[None] * len(cts)]), strict=True
        ):
            np.testing.assert_allclose(got, expected, err_msg=s.text, rtol=2e-5, atol=1e-6)

        hessian_uv = inner(over_reverse, v)
        reverse_twice = evaluate(pullback(back, [*needs, *fixed]), *xs, *cts, *v)
        np.testing.assert_allclose(
            inner(reverse_twice, u), hessian_uv, err_msg=f"reverse over reverse: {s.text}", **EXACT
        )
        reverse_over_forward = evaluate(pullback(forth, [*needs, *[False] * k]), *xs, *v, *cts)
        np.testing.assert_allclose(
            inner(reverse_over_forward, u), hessian_uv, err_msg=f"reverse over forward: {s.text}", **EXACT
        )
        forward_twice = evaluate(pushforward(forth, [*needs, *[False] * k]), *xs, *v, *u)
        np.testing.assert_allclose(
            inner(forward_twice, cts), hessian_uv, err_msg=f"forward over forward: {s.text}", **EXACT
        )
        assert n == len(xs)
