"""Short rows are computed across, one row per lane, on copies in which rows are columns."""

from __future__ import annotations

import numpy as np
import pytest

from stager.codegen.compile import compile_graph
from stager.codegen.program import Leaf, Nest
from stager.codegen.target import Target
from stager.ir.dtypes import DTYPES
from stager.ir.graph import Graph
from stager.ir.types import Type
from tests.codegen.build import G
from tests.codegen.run import Runner


def softmax(rows: int, length: int, dtype: str) -> Graph:
    """Of x[::-1], with the sums of its exponentials."""
    g = G()
    x = g.slice(g.input(Type(DTYPES[dtype], (rows, length))), slice(None, None, -1))
    e = g.exp(g.sub(x, g.sum(x, 1, kind="max", keepdims=True)))
    total = g.sum(e, 1, keepdims=True)
    return g.output(g.div(e, total), total)


def expected(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = x[::-1].astype(np.longdouble)
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    total = np.sum(e, axis=1, keepdims=True)
    return e / total, total


def copies(steps: list[object]) -> list[Leaf]:
    return [x for s in steps if isinstance(s, Nest) for x in s.leaves if x.stage.label == "across"]


@pytest.mark.parametrize("level", ["x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_softmax_of_few_classes(level: str, dtype: str, rng: np.random.Generator) -> None:
    for rows, length in ((40, 10), (301, 7)):  # the second: more than a block, and rows that fill no register
        target = Target.named(level)
        compiled = compile_graph(softmax(rows, length, dtype), target)
        found = copies(compiled.program.steps)
        assert len(found) == 2, "what is read is copied, and what is written copied back"
        assert all(x.jam is not None for x in found)
        if target.vector_bits <= Target.host().vector_bits:
            x = rng.standard_normal((rows, length)).astype(DTYPES[dtype].np)
            for got, want in zip(Runner(compiled)(x), expected(x), strict=True):
                np.testing.assert_allclose(got, want.astype(x.dtype), rtol=12 * np.finfo(x.dtype).eps)


def test_rows_that_are_cheap_or_long_stay_rows() -> None:
    g = G()
    x = g.input("f64[64,10]")
    cheap = g.output(g.sum(g.mul(x, x), 1))
    for graph in (cheap, softmax(64, 100, "f64")):
        assert not copies(compile_graph(graph, Target.named("x86-64-v4"), assemble=False).program.steps)
