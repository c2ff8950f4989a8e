"""Which family of arguments (`keyword_cases.py`) each of NumPy's functions is called with."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz import keyword_cases as cases
from tests.fuzz.drawing import Family


def _ufuncs(operands: int) -> list[str]:
    """The elementwise ufuncs of so many operands on real numbers."""
    left_out = ("isnat", "_ones_like", "conj", "conjugate")
    found = {n: f for n in dir(np) if isinstance(f := getattr(np, n), np.ufunc) and n not in left_out}
    return [n for n, f in found.items() if f.nin == operands and f.signature is None]


FOLDED = (
    "add multiply maximum minimum logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor fmax hypot "
    "subtract logaddexp"
)

ROWS: list[tuple[str, Family]] = [
    ("sum prod mean nansum nanprod nanmean", cases.reduction()),
    ("max min nanmax nanmin", cases.reduction(dtype=False)),
    ("any all", cases.reduction(dtype=False, initial=False)),
    ("ptp count_nonzero", cases.reduction(dtype=False, initial=False, where=False)),
    ("var std nanvar nanstd", cases.spread),
    ("cumsum cumprod nancumsum nancumprod", cases.running),
    ("cumulative_sum cumulative_prod", cases.cumulative),
    ("argmax argmin nanargmax nanargmin", cases.position),
    ("sort", cases.order),
    ("argsort", cases.order_of_ties),
    ("searchsorted", cases.searched),
    ("quantile nanquantile", cases.quantile),
    ("median nanmedian", cases.median),
    ("average", cases.average),
    ("diff", cases.differences),
    ("gradient", cases.slopes),
    ("trapezoid", cases.area),
    ("interp", cases.interpolated),
    ("histogram", cases.histogram),
    ("bincount", cases.counts),
    ("pad", cases.padding),
    ("unique", cases.distinct),
    ("isin", cases.members),
    ("union1d setdiff1d setxor1d", cases.two_sets),
    ("intersect1d", cases.common),
    ("clip", cases.clipped),
    ("round around", cases.rounded),
    ("roll", cases.rolled),
    ("repeat", cases.repeated),
    ("tile", cases.tiled),
    ("concatenate", cases.joined),
    ("stack", cases.stacked),
    ("split array_split", cases.divided),
    ("take", cases.taken),
    ("flip", cases.flipped),
    ("convolve correlate", cases.convolved),
    ("cov", cases.covariance),
    ("corrcoef", cases.correlation),
    ("nan_to_num", cases.replaced),
    ("isclose allclose", cases.close),
    ("array_equal", cases.equal),
    ("linalg.norm", cases.norm),
    ("tensordot", cases.contracted),
    ("tril triu", cases.triangle),
    ("diag", cases.on_diagonal),
    ("diagonal trace", cases.diagonal),
    ("full_like", cases.filled),
    ("zeros_like ones_like", cases.alike),
    ("astype", cases.converted),
    ("digitize", cases.binned),
    ("lib.stride_tricks.sliding_window_view", cases.windows),
    ("insert", cases.inserted),
    ("delete", cases.deleted),
    ("where", cases.chosen),
    ("moveaxis", cases.moved),
    ("dot matmul", cases.product),
    ("inner vdot", cases.pair),
    ("outer kron", cases.any_pair),
    ("cross", cases.crossed),
    ("linspace", cases.spaced),
    ("squeeze ravel transpose atleast_1d atleast_2d atleast_3d argwhere flatnonzero isreal iscomplex", cases.alone),
    ("real imag fix angle i0", cases.alone),
    ("nonzero", cases.lined),
    ("unwrap", cases.unwrapped),
    ("ediff1d", cases.steps),
    ("vander", cases.powers),
    ("packbits", cases.packed),
    ("unpackbits", cases.unpacked),
    ("trim_zeros", cases.trimmed),
    ("polyadd polysub polymul polyval", cases.polynomials),
    *[(f"polynomial.{n}val", cases.series) for n in ("polynomial.poly", "chebyshev.cheb", "legendre.leg")],
    (" ".join(_ufuncs(1)), cases.unary),
    (" ".join(_ufuncs(2)), cases.binary),
    *[(f"{n}.reduce", cases.fold) for n in FOLDED.split()],
    *[(f"{n}.accumulate", cases.running_fold) for n in FOLDED.split()],
    *[(f"{n}.outer", cases.all_pairs) for n in FOLDED.split()],
    *[(f"{n}.reduceat", cases.segments) for n in FOLDED.split()],
]

FAMILIES: dict[str, Family] = {name: family for names, family in ROWS for name in names.split()}
NAMES = sorted(FAMILIES)


def function(name: str) -> Any:
    """np.linalg.norm of "linalg.norm"."""
    found: Any = np
    for part in name.split("."):
        found = getattr(found, part)
    return found
