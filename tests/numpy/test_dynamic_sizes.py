"""`compile(f, dynamic=True)` over the whole table of NumPy's surface: compiled for the sizes of one call, then called
with others. NumPy says what is right; code for other sizes is made only where `FIXED` says why the size must be known.

Sizes 0 and 1 have code of their own by design: an axis of 1 stretches, one of 0 has no element to reduce.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.compiler import compiler_of
from tests.numpy.cases import CASES, Case
from tests.numpy.test_surface import agree

LARGER = {2: 5, 3: 7, 4: 11, 5: 13, 6: 17, 7: 19, 8: 23, 10: 29, 30: 31, 40: 43}
ONE = dict.fromkeys(range(2, 50), 1)
NONE = dict.fromkeys(range(2, 50), 0)

# Rows whose code is for the sizes of one call, and why.
FIXED = {
    "cross": "three is the only size",
    "cross axis": "three is the only size",
    "linalg.cross": "three is the only size",
    "qr of triangles and nothing": "an argument of size 0 has code of its own",
    "static mask": "a constant mask has the size of what it selects from",
    "mask write static": "a constant mask has the size of what it selects from",
    "repeat counts": "constant counts, one per row",
    "fill_diagonal tall": "the diagonal begins again below",
    "unstack": "the number of results",
    "pad reflect odd": "the number of turns back and forth",
    "pad symmetric odd": "the number of turns back and forth",
    "delete nothing": "constant positions",
    "packbits": "whole bytes and a rest",
    "unpackbits": "a count that may be more than there is",
    "polydiv": "one step for each coefficient of the quotient",
    "polydiv by a leading zero": "one step for each coefficient of the quotient",
    "polydiv exact": "one step for each coefficient of the quotient",
}
# Rows that NumPy's own answer for nothing leaves open.
OPEN_FOR_NOTHING = {
    "compress": "np.take from an axis without elements: NumPy answers only where the result is empty too",
    "polymul": "np.convolve refuses what np.polymul takes",
    "pad reflect odd": "NumPy says ValueError for what is a bad index here",
    "pad symmetric odd": "NumPy says ValueError for what is a bad index here",
}
ROWS = [c for c in CASES if any(d >= 2 for a in c.args for d in np.shape(a))]


def resized(args: Sequence[Any], sizes: dict[int, int]) -> list[Any]:
    """The arguments with each size that `sizes` has in place of another, equal sizes equal again."""
    out = []
    for a in args:
        x = np.asarray(a)
        shape = tuple([sizes.get(d, d) for d in x.shape])
        out.append(np.zeros(shape, x.dtype) if 0 in x.shape else np.resize(x, shape).astype(x.dtype))
    return out


def same_as_numpy(case: Case, compiled: Any, args: Sequence[Any]) -> bool:
    """Whether NumPy has an answer; then ours is the same, else ours is an error of the same kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            want = case.f(*[a.copy() for a in args])
        except Exception as e:
            with pytest.raises((ValueError, IndexError) if isinstance(e, ValueError | IndexError) else type(e)):
                compiled(*[a.copy() for a in args])
            return False
    agree(compiled(*[a.copy() for a in args]), want, max(case.rtol * 10, 1e-8))
    return True


@pytest.mark.parametrize("case", ROWS, ids=lambda c: c.name)
def test_one_piece_of_code_for_other_sizes(case: Case) -> None:
    compiled = st.compile(case.f, dynamic=True)
    assert same_as_numpy(case, compiled, resized(case.args, {}))
    answered = same_as_numpy(case, compiled, resized(case.args, LARGER))
    again = len(compiler_of(compiled).history) - 1
    fixed = again > 0 or any("sizes stay" in why for *_, why in compiler_of(compiled).history[0].declined)
    assert fixed == (case.name in FIXED) or not answered, compiler_of(compiled).history[0].declined
    same_as_numpy(case, compiled, resized(case.args, ONE))
    if case.name not in OPEN_FOR_NOTHING:
        same_as_numpy(case, compiled, resized(case.args, NONE))


def test_rows_with_fixed_sizes_exist() -> None:
    assert (FIXED.keys() | OPEN_FOR_NOTHING.keys()) <= {c.name for c in ROWS}


EXTREMES = {
    "max": lambda x: np.max(x[x > 10]),
    "min of rows": lambda x: np.min(np.outer(x, x)[x > 10], axis=0),
    "range": lambda x: np.ptp(x[x > 10]),
    "argmax": lambda x: np.argmax(x[x > 10]),
    "argmin": lambda x: np.outer(x, x)[x > 10].argmin(axis=0),
    "ufunc": lambda x: np.maximum.reduce(x[x > 10]),
    "builtin": lambda x: max(x[x > 10]),
    "not nan": lambda x: np.nanmin(x[x > 10]),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_an_extreme_of_nothing_is_refused_when_the_data_leave_nothing(name: str) -> None:
    f = EXTREMES[name]
    compiled = st.compile(f)
    some = np.array([1.0, 30.0, 20.0, 4.0])
    np.testing.assert_array_equal(compiled(some), f(some))
    with pytest.raises(ValueError, match=r"zero-size array to reduction operation|of an empty sequence"):
        compiled(some / 10)
    assert np.isfinite(compiled(some)).all()


def test_an_extreme_of_nothing_has_its_initial_value() -> None:
    f = st.compile(lambda x: np.max(x[x > 10], initial=2.0))
    assert f(np.arange(4.0)) == 2.0
    assert f(np.arange(14.0)) == 13.0


def test_an_extreme_behind_a_test_of_the_length_is_not_looked_for() -> None:
    @st.compile
    def f(x):
        kept = x[x > 10]
        return kept.max() if len(kept) > 0 else -1.0

    assert f(np.arange(4.0)) == -1.0
    assert f(np.arange(14.0)) == 13.0
    np.testing.assert_array_equal(st.vmap(f)(np.array([[1.0, 2.0], [11.0, 12.0]])), [-1.0, 12.0])
