"""What a row of the sample table is made of: `Sample`, `Bad`, `Row`, and `row` and `sample` to write rows with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import stager.ops  # noqa: F401  (declares the ops)
from stager.interpreters.stack import bind
from stager.ir.op import OPS

FLOATS = ("float64", "float32")
SIGNED = ("int64", "int32", "int16", "int8")
UNSIGNED = ("uint64", "uint32", "uint16", "uint8")
INTEGERS = SIGNED + UNSIGNED
NUMBERS = FLOATS + INTEGERS
ALL = (*NUMBERS, "bool")


@dataclass(frozen=True)
class Sample:
    """One call: fn(*raw values) on these arrays. `oracle(*arrays)` is NumPy's answer found in another way, if any."""

    fn: Callable[..., Any]
    arrays: tuple[Any, ...]
    oracle: Callable[..., Any] | None = None
    text: str = ""


@dataclass(frozen=True)
class Bad:
    """A call that must raise `exception` with `text` in its message."""

    arrays: tuple[Any, ...]
    params: dict[str, Any]
    exception: type[Exception]
    text: str


@dataclass(frozen=True)
class Row:
    samples: Callable[[np.random.Generator, np.dtype[Any]], list[Sample]]
    dtypes: tuple[str, ...]
    errors: tuple[Bad, ...] = ()
    flat: bool = False  # derivative zero by definition: no rule to test
    facts: dict[str, Any] = field(default_factory=dict)


ROWS: dict[str, Row] = {}


def call(name: str, /, **params: Any) -> Callable[..., Any]:
    """The op as a function of raw values."""
    op = OPS[name]
    return lambda *args: bind(op, *args, **params)


def row(name: str, dtypes: Sequence[str] = FLOATS, **fields: Any) -> Callable[..., Any]:
    def declare(samples: Any) -> Any:
        assert name not in ROWS, name
        ROWS[name] = Row(samples, tuple(dtypes), **fields)
        return samples

    return declare


def sample(name: str, /, *arrays: Any, oracle: Any = None, **params: Any) -> Sample:
    return Sample(call(name, **params), arrays, oracle, f"{name}{tuple(np.shape(a) for a in arrays)} {params or ''}")


def values(
    rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...], low: float = -2.0, high: float = 2.0
) -> Any:
    """Random values of a dtype, distinct enough for finite differences: floats are 1e-2 apart and from zero."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        least = max(info.min, int(low * 3))
        return np.asarray(rng.integers(least, max(least, int(high * 3)) + 1, shape)).astype(dtype)
    n = int(np.prod(shape))
    grid = low + (high - low) * (np.arange(n) + 0.5 + 0.2 * rng.uniform(-1, 1, n)) / max(n, 1)
    grid = grid + 0.013 * (np.abs(grid) < 0.01)
    return rng.permutation(grid).reshape(shape).astype(dtype)
