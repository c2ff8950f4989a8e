"""Every op of the registry under `compile(dynamic=True)`, by itself and under transforms: the code of one call's sizes
gives for other sizes what code of their own gives. A new op is covered by its row of samples.

Params that mention sizes keep a call from others; then both ways refuse alike, and new code may be made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
import tests.samples  # noqa: F401  (fills the table)
from stager.array import raw, wrap
from stager.runtime.structure import flatten
from tests.sampling import ROWS, Sample

Function = Callable[..., Any]
LARGER = {2: 5, 3: 7, 4: 11, 5: 13, 6: 17, 7: 19, 8: 23, 9: 29, 10: 31}
ONE = dict.fromkeys(range(2, 40), 1)
NONE = dict.fromkeys(range(2, 40), 0)
PROMISED = ("positions",)  # a param says how many elements of the operand are true
DATA_DECIDE = ("while", "collect")  # when to stop: nothing adds up to nothing, for ever


def function(sample: Sample) -> Function:
    """The op as user code has it: of arrays."""

    def f(*args: Any) -> Any:
        out = sample.fn(*[raw(a) for a in args])
        return tuple([wrap(o) for o in out]) if isinstance(out, tuple) else wrap(out)

    return st.do_not_convert(f)


def forms(f: Function, args: list[Any], flat: bool) -> dict[str, Function]:
    """The op, over two lanes, and both derivatives along its float operands."""
    floats = tuple([i for i, a in enumerate(args) if a.dtype.kind == "f"])
    made: dict[str, Function] = {"plain": f, "vmap": lambda *a: st.vmap(f)(*[np.stack([x, x]) for x in a])}
    if not floats or flat:
        return made

    def of_floats(*moved: Any, around: Any) -> Any:
        found = dict(zip(floats, moved, strict=True))
        return f(*[found.get(i, a) for i, a in enumerate(around)])

    def loss(*moved: Any, around: Any) -> Any:
        out = flatten(of_floats(*moved, around=around))[0]
        return sum(np.sum(np.sin(o)) for o in out if o.dtype.kind == "f") + 0.0

    made["jvp"] = lambda *a: st.jvp(lambda *b: of_floats(*b, around=a), [a[i] for i in floats], [a[i] for i in floats])
    made["grad"] = lambda *a: st.grad(lambda *b: loss(*b, around=a), tuple(range(len(floats))))(*[a[i] for i in floats])
    return {name: st.do_not_convert(form) for name, form in made.items()}


def resized(args: list[Any], sizes: dict[int, int]) -> list[Any]:
    return [np.resize(a, tuple([sizes.get(d, d) for d in a.shape])).astype(a.dtype) if a.ndim else a for a in args]


def agree(dynamic: Function, f: Function, args: list[Any]) -> bool:
    """The same result as code of its own, or an error on both sides."""
    with np.errstate(all="ignore"):
        try:
            want = flatten(st.compile(f)(*args))[0]
        except (ValueError, TypeError, IndexError):
            with pytest.raises((ValueError, TypeError, IndexError)):
                dynamic(*args)
            return False
        got = flatten(dynamic(*args))[0]
    for g, w in zip(got, want, strict=True):
        assert np.shape(g) == np.shape(w)
        np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-12)
    return True


def first_of_size(name: str) -> tuple[list[Any], Sample] | None:
    row = ROWS[name]
    for sample in row.samples(np.random.default_rng(0), np.dtype(row.dtypes[0])):
        args = [np.ascontiguousarray(a) if np.ndim(a) else np.asarray(a) for a in sample.arrays]
        if any(d >= 2 for a in args for d in a.shape):
            return args, sample
    return None


@pytest.mark.parametrize("name", [n for n in ROWS if n not in PROMISED])
def test_code_for_one_size_serves_others(name: str) -> None:
    found = first_of_size(name)
    if found is None:
        pytest.skip("takes no array with sizes")
    args, sample = found
    for form, f in forms(function(sample), args, ROWS[name].flat).items():
        dynamic = st.compile(f, dynamic=True)
        dynamic(*args)
        agree(dynamic, f, resized(args, LARGER))
        if form == "plain":
            agree(dynamic, f, args)
            agree(dynamic, f, resized(args, ONE))
            if name not in DATA_DECIDE:
                agree(dynamic, f, resized(args, NONE))
