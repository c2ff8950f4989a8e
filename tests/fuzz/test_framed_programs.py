"""Random programs of arrays that are one literal around regions: exact against NumPy, signs of zeros included.

Passes compute what is made of such arrays in the regions only. What decides around them is the literal of the right
operand, for the right dtype: a wrong choice is a wrong number, not an error.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import note
from hypothesis import strategies as some

import stager as st
from tests.fuzz.test_programs import PARTS, load, search

Draw = Any
LITERALS = {
    "bool": ["True", "False"],
    "uint8": ["0", "1", "255"],
    "int64": ["0", "1", "-1", "2"],
    "float64": ["0.0", "-0.0", "1.0", "2.5", "np.inf"],
}
BITS = ["{} & {}", "{} | {}", "{} ^ {}"]
NUMBERS = ["{} * {}", "{} + {}", "{} - {}", "np.minimum({}, {})", "np.maximum({}, {})"]
OPS = {
    "bool": [*BITS, "np.logical_and({}, {})", "np.logical_or({}, {})", "~({} & {})"],
    "uint8": [*BITS, *NUMBERS], "int64": [*BITS, *NUMBERS], "float64": NUMBERS,
}  # fmt: skip
SPANS = [":", "1:-1", "2:", ":-2", "::2", "1:6:2", "3"]


@some.composite
def programs(draw: Draw) -> tuple[str, str]:
    """A dtype, and the source of a function of two such arrays of 7 by 7."""
    dtype = draw(some.sampled_from(sorted(LITERALS)))
    literal, span = some.sampled_from(LITERALS[dtype]), some.sampled_from(SPANS)
    regions = [f"{draw(span)}, {draw(span)}" for _ in range(2)]
    lines = ["import numpy as np", "", "def program(a, c):", "    v = [a, c]"]
    for k in range(draw(some.integers(4, 12))):
        one, other, third = (f"v[{draw(some.integers(0, k + 1))}]" for _ in range(3))
        match draw(some.integers(0, 6)):
            case 0 | 1 | 2:
                region = draw(some.sampled_from(regions))
                lines.append(f"    z = np.full((7, 7), {draw(literal)}, '{dtype}'); z[{region}] = {one}[{region}]")
                lines.append("    v.append(z)")
            case 3:
                lines.append(f"    v.append(np.where({one} == {draw(literal)}, {other}, {third}))")
            case _:
                lines.append(f"    v.append({draw(some.sampled_from(OPS[dtype])).format(one, other)})")
    lines.append("    return tuple(v[-3:])")
    return dtype, "\n".join(lines) + "\n"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("part", range(max(1, PARTS // 4)))
def test_framed_programs(part: int) -> None:
    def run(program: tuple[str, str], seed: int) -> None:
        dtype, source = program
        note(source)
        rng = np.random.default_rng(seed)
        a, c = (rng.integers(0, 3, (7, 7)).astype(dtype) for _ in range(2))
        if dtype == "float64":
            a[0, 0], a[2, 2], c[1, 1] = np.nan, np.inf, -0.0
        f = load(source)
        for got, want in zip(st.compile(f)(a, c), f(a, c), strict=True):
            np.testing.assert_array_equal(got, want)
            if dtype == "float64":
                np.testing.assert_array_equal(np.signbit(got)[~np.isnan(want)], np.signbit(want)[~np.isnan(want)])

    search(run, part, programs(), some.integers(0, 1000))
