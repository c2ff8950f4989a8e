"""Short rows of unknown length: one step under a mask, or one by one where the processor knows how long each is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def product(start: Any, column: Any, value: Any, x: Any) -> Any:
    y = np.zeros(start.shape[0] - 1)
    for i in range(y.shape[0]):
        row = slice(start[i], start[i + 1])
        y[i] = np.dot(value[row], x[column[row]])
    return y


def repeated(start: Any, column: Any, value: Any, x: Any) -> Any:
    for _ in range(40):
        x = product(start, column, value, x)
    return x


def chosen(start: Any, column: Any, value: Any, x: Any) -> Any:
    """Rows whose numbers a `while` finds out: nobody knows how many."""
    i, total = 0, 0.0
    while i < start.shape[0] - 1:
        row = slice(start[i], start[i + 1])
        total += np.dot(value[row], x[column[row]])
        i += 1 + column[start[i]] % 2
    return total


def twice(start: Any, column: Any, value: Any, x: Any) -> Any:
    return product(start, column, value, product(start, column, value, x))


def matrix(rng: np.random.Generator, n: int) -> tuple[Any, ...]:
    counts = rng.integers(0, 9, n)
    counts[:3] = 0, 17, 40  # none, more than two vectors
    counts[-1] = 5
    start = np.concatenate([[0], np.cumsum(counts)])
    return start, rng.integers(-n, n, start[-1]), rng.random(start[-1]) / 40, rng.random(n)


CASES = [(product, 500, 1), (product, 26_000, 0), (repeated, 700, 1), (twice, 13_000, 0), (chosen, 90, 0)]


@pytest.mark.parametrize(("f", "n", "recalled"), CASES)
def test_values(f: Any, n: int, recalled: int, rng: np.random.Generator) -> None:
    args = matrix(rng, n)
    compiled = st.compile(f)
    np.testing.assert_allclose(compiled(*args), f(*args), rtol=1e-12)
    assert compiled.show(*args, stage="kernels").count(" recalled") == recalled
    args[1][-1] = n
    with pytest.raises(IndexError, match=f"index {n} is out of bounds for axis 0 with size {n}"):
        compiled(*args)
