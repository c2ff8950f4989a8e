"""Machine code against the reference evaluator: every op and dtype, and at float64 also its derivatives and batches.

All samples of an op form one graph, compiled once; when that fails, the samples are tried one by one to name the
culprit. The passes of the pipeline run before, as for users.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from stager.ir.evaluate import evaluate_graph
from stager.pipeline import executable
from tests.ops.transforms import as_tuple, inexact, mapped, pullback, pushforward, trace, type_of
from tests.samples import ROWS, Sample

# Relative tolerances of compiled against reference: a few ulp for inlined polynomials (tests/codegen measures them),
# more where sums re-associate.
ULPS: dict[str, float] = {"float64": 4e-15, "float32": 2e-6}
LOOSE: dict[str, float] = {"float64": 1e-12, "float32": 1e-5}

# Sums and products in another order.
REASSOCIATED = ("dot", "cumsum", "cumprod", "recurrence", "reduce_sum", "reduce_prod")

Call = tuple[Callable[..., Any], Sequence[Any], str]


def joined(calls: Sequence[Call]) -> tuple[Callable[..., Any], list[Any]]:
    """One function of all arrays that makes all the calls."""
    arrays = [a for _, xs, _ in calls for a in xs]

    def fn(*raw: Any) -> list[Any]:
        it = iter(raw)
        return [out for f, xs, _ in calls for out in as_tuple(f(*[next(it) for _ in xs]))]

    return fn, arrays


def compare(calls: Sequence[Call], tolerances: dict[str, float]) -> None:
    fn, arrays = joined(calls)
    graph = trace(fn, *[type_of(a) for a in arrays])
    expected = evaluate_graph(graph, arrays)
    got = executable(graph)([np.ascontiguousarray(a) if a.ndim else a for a in arrays])
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == e.dtype
        assert g.shape == e.shape
        if inexact(e):
            scale = float(np.max(np.abs(e[np.isfinite(e)]), initial=0.0))
            tolerance = tolerances[e.dtype.name]
            np.testing.assert_allclose(g, e, rtol=tolerance, atol=tolerance * min(scale, 1.0))
        else:
            np.testing.assert_array_equal(g, e)


def check(calls: Sequence[Call], tolerances: dict[str, float]) -> None:
    try:
        compare(calls, tolerances)
    except Exception as whole:
        for call in calls:
            try:
                compare([call], tolerances)
            except Exception as e:
                raise AssertionError(f"{call[2]}: {type(e).__name__}: {e}") from e
        raise whole


def plain(samples: Sequence[Sample]) -> list[Call]:
    return [(s.fn, s.arrays, s.text) for s in samples]


@pytest.mark.parametrize("name", ROWS)
def test_compiled_is_the_reference(name: str, rng: np.random.Generator) -> None:
    for dtype in ROWS[name].dtypes:
        samples = ROWS[name].samples(rng, np.dtype(dtype))
        check(plain(samples), LOOSE if name in REASSOCIATED else ULPS)


@pytest.mark.parametrize("name", [n for n in ROWS if not ROWS[n].flat])
def test_compiled_derivatives(name: str, rng: np.random.Generator) -> None:
    calls: list[Call] = []
    for s in ROWS[name].samples(rng, np.dtype(np.float64))[:10]:
        needs = [inexact(a) for a in s.arrays]
        if not any(needs):
            continue
        directions = [np.asarray(rng.normal(size=a.shape)) for a in s.arrays if inexact(a)]
        outs = [o for o in evaluate_graph(trace(s.fn, *[type_of(a) for a in s.arrays]), s.arrays) if inexact(o)]
        cts = [np.asarray(rng.normal(size=o.shape)) for o in outs]
        calls.append((pushforward(s.fn, needs), [*s.arrays, *directions], f"jvp of {s.text}"))
        calls.append((pullback(s.fn, needs), [*s.arrays, *cts], f"vjp of {s.text}"))
    check(calls, LOOSE)


@pytest.mark.parametrize("name", [n for n in ROWS if "collective" not in ROWS[n].facts])
def test_compiled_batches(name: str, rng: np.random.Generator) -> None:
    calls: list[Call] = []
    for s in ROWS[name].samples(rng, np.dtype(ROWS[name].dtypes[0]))[:8]:
        for bdims in ([0] * len(s.arrays), [None if k % 2 else 0 for k in range(len(s.arrays))]):
            arrays = [a if b is None else np.stack([a, a]) for a, b in zip(s.arrays, bdims, strict=True)]
            calls.append((mapped(s.fn, bdims, 2), arrays, f"vmap {bdims} of {s.text}"))
    check(calls, LOOSE)
