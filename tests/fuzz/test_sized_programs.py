"""Random programs whose arrays change their lengths in loops and branches, beside NumPy and central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import note, reject
from hypothesis import strategies as some

import stager as st
from stager.errors import ControlFlowError, MutationError
from tests.fuzz.test_programs import PARTS, load, search

# Every program takes x: f64[9]; v and w are its arrays a and b, c and d numbers, i the index of the loop around.
STEPS = [
    ["{v} = {v}[{v} > {c}] * {d}"],
    ["{v} = np.append({v}, {w}[:1] * {d})"],
    ["{v} = np.concatenate([{v}, x[i % 5 : i % 5 + 2]])"],
    ["{v} = np.concatenate([x[:1] * {d}, {v}])"],
    ["{v} = {v}[1:]"],
    ["{v} = {v}[::-1]"],
    ["{v} = {v}[: len({v}) // 2 + 1]"],
    ["{v} = {v}[::2] * {d}"],
    ["{v} = {v}[1:] - {v}[:-1] * {c}"],
    ["{v} = np.sort({v})"],
    ["{v} = np.where({v} > {c}, {v}, {v} * {d})"],
    ["s = s + {v}.sum() * {c}"],
    ["n = len({v})"],
    ["s = s + n * {c}"],
    ["{v} = x[: min(i, 6)] * {d}"],
    ["{v} = x[x > {c} * 0.1 * i]"],
    ["{v} = {w} * {d}"],
    ["m = {v} > {c}", "{v}, k = {v}[m], ({v} * 2)[m]", "s = s + (k * {v}).sum()"],
    ["if {v}.sum() > {c}:", "    {v} = {v}[1:] * {d}"],
    ["if {v}.sum() > {c}:", "    {v} = np.append({v}, {c})", "else:", "    {v} = {v}[:3]"],
    ["if len({v}) > 6:", "    {v} = {v}[:4]"],
    ["if {v}.sum() > 9:", "    break"],
    ["if len({v}) == 0:", "    continue"],
    ["if len({v}) > 0:", "    {v} = {v} / (1 + abs({v}[0]))"],
    ["{v} = np.cumsum({v}) * 0.5"],
    ["for j in range(3):", "    {v} = np.append({v}[1:], {c} * j)"],
    ["{v} = {v}.copy()", "{v}[:2] *= {d}"],
    ["{v}[0:1] = {c}"],
]
LESS = [s for s in STEPS if not any(t in "".join(s) for t in ("append", "concat", "i %", "* i", "(i", "break", "cont"))]
# "others may hold the first one too", "an array whose place is not known": by design
REFUSED = ("written in place and then set to another", "place is not known", "may have been written under another")


@some.composite
def programs(draw: Callable[..., Any]) -> str:
    """The source of a function of x that returns (f64[?], a number, an integer)."""
    numbers = some.integers(1, 99).map(lambda k: k / 100)
    lines = ["import numpy as np", "", "def program(x):", "    s, n = 0.0, 3"]
    lines.append(f"    a, b = x[:{draw(some.integers(0, 6))}], x[x > {draw(numbers)}]")

    def block(indent: str, steps: Any, most: int) -> None:
        for _ in range(draw(some.integers(1, most))):
            names = {"c": draw(numbers), "d": 0.6 + draw(numbers) / 2}
            names |= dict(zip("vw", draw(some.sampled_from(["ab", "ba"])), strict=True))
            lines.extend(indent + line.format(**names) for line in draw(some.sampled_from(steps)))

    for _ in range(draw(some.integers(1, 2))):
        lines.append(f"    for i in range({draw(some.integers(5, 9))}):")
        block("        ", STEPS, 5)
    if draw(some.booleans()):
        lines += ["    t = 0", "    while len(a) > 2 and t < 20:", "        t += 1"]
        block("        ", LESS, 2)
        lines.append("        a = a[1:]")
    out = draw(some.sampled_from(["np.concatenate([a, b])", "a", "b * a.sum()"]))
    lines.append(f"    return {out}, s + a.sum() * 2 + b.sum(), n + len(a)")
    return "\n".join(lines) + "\n"


def outcome(f: Callable[..., Any], x: Any) -> Any:
    """What f returns, or the class of error that NumPy raises too."""
    try:
        return f(x.copy())
    except (IndexError, ValueError, UnboundLocalError) as e:
        return type(e)


def check(source: str, seed: int) -> None:
    f = load(source)
    xs = [np.random.default_rng(seed + k).random(9) for k in range(3)]
    wants = [outcome(f, x) for x in xs]
    compiled = st.compile(f)
    for x, want in zip(xs, wants, strict=True):
        if isinstance(want, type):
            with pytest.raises(want):
                compiled(x.copy())
            continue
        for got, value in zip(compiled(x.copy()), want, strict=True):
            assert np.shape(got) == np.shape(value)
            np.testing.assert_allclose(got, value, rtol=1e-10, atol=1e-12)
    if any(isinstance(want, type) for want in wants):
        return

    def scalar(x: Any) -> Any:
        out, s, n = f(x)
        return (out * out).sum() + s * n

    gradient, gradients = st.compile(st.grad(scalar)), []
    for x in xs:
        gradients.append(gradient(x.copy()))
        for e, slope in zip(np.eye(9), gradients[-1], strict=True):
            here, high, low = (scalar(x + h * e) for h in (0, 1e-6, -1e-6))
            if abs((high - here) / 1e-6 - (here - low) / 1e-6) < 1e-3 * (1 + abs(slope)):
                np.testing.assert_allclose(slope, (high - low) / 2e-6, rtol=1e-4, atol=1e-5)
    mapped = st.compile(st.vmap(st.grad(scalar)))(np.stack(xs))
    np.testing.assert_allclose(mapped, gradients, rtol=1e-9, atol=1e-10)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("part", range(max(1, PARTS // 4)))
def test_sized_programs(part: int) -> None:
    def run(source: str, seed: int) -> None:
        note(source)
        try:
            check(source, seed)
        except (ControlFlowError, MutationError) as e:
            if not any(text in str(e) for text in REFUSED):
                raise
            reject()

    search(run, part, programs(), some.integers(0, 1000))
