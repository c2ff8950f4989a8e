"""Values around a region that the region puts into memory: there in that region only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def both_branches(x: Any, c: Any) -> Any:
    if c > 0.0:
        y = np.sort(x[1:])
    else:
        y = np.sort(x[1:])[::-1] + x[1:]
    return y


def behind_a_branch(x: Any, c: Any) -> Any:
    v = x[::2]
    y = np.zeros(4)
    if c > 0.0:
        y = np.sort(v)
    return y + np.sort(v) * np.cumsum(v)


def behind_a_loop(x: Any, c: Any) -> Any:
    v = x[::2]
    y = np.zeros(4)
    while c > 0.0:
        y = np.sort(v) + y * c
        c = c - 0.5
    return y + np.sort(v)


@pytest.mark.parametrize("c", [-1.0, 1.0])
@pytest.mark.parametrize("f", [both_branches, behind_a_branch, behind_a_loop])
def test_every_place_has_its_own(f: Any, c: float, rng: np.random.Generator) -> None:
    x = rng.standard_normal(8)
    np.testing.assert_allclose(st.compile(f)(x, c), f(x, c), rtol=1e-13)


def test_prints_in_branches_of_lanes(capsys: pytest.CaptureFixture[str]) -> None:
    def f(x: Any) -> Any:
        if x > 0.0:
            print("pos", x)
            y = np.sqrt(x)
        else:
            print("neg", x)
            y = -x
        return y

    got = st.compile(st.vmap(f))(np.array([4.0, -3.0, 0.25]))
    np.testing.assert_array_equal(got, [2.0, 3.0, 0.5])
    assert capsys.readouterr().out == "pos 4.0\nneg -3.0\npos 0.25\n"
