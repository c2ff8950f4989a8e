"""Rows of the surface table (`cases.py`): ranks, sets, histograms, bits, polynomials, and keywords of reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

R = np.random.default_rng(1)
F = R.standard_normal((4, 5))
S = R.standard_normal((3, 4)).astype(np.float32)
V = R.standard_normal(7)
K = np.array([[3, -1, 4], [1, -5, 9]])
N = np.array([[1.0, np.nan, 3.0, -2.0], [np.nan] * 4, [4.0, 5.0, 0.5, np.nan]])
BYTES = R.integers(0, 256, (3, 5)).astype(np.uint8)
LINES = np.array([[1.0, 2], [0, 1], [1, 2], [0, 0], [1, -1]])
METHODS = [
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull",
    "linear", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest",
]  # fmt: skip
P = np.polynomial
SERIES: list[tuple[str, Any]] = [
    ("polyval of a series", P.polynomial.polyval),
    ("chebval", P.chebyshev.chebval),
    ("legval", P.legendre.legval),
    ("hermval", P.hermite.hermval),
    ("lagval", P.laguerre.lagval),
]


ROWS: list[tuple[Any, ...]] = [
    # quantiles
    *[
        (
            f"quantile {m}",
            lambda x, n, k, m=m: [
                f(v, q, axis=a, method=m)
                for f, v in ((np.quantile, x), (np.nanquantile, n), (np.quantile, k))
                for q, a in ((0.3, 1), ([0.1, 0.5, 1.0], 0), (0.0, None))
            ],
            (F, N, K),
        )
        for m in METHODS
    ],
    (
        "quantile of a given share",
        lambda x, q: (np.quantile(x, q), np.nanpercentile(x, q * 100, axis=0)),
        (F, V[2] * 0 + 0.4),
    ),
    ("quantile of given shares", lambda x, q: np.quantile(x, q, axis=1, method="hazen"), (F, np.array([0.1, 0.9]))),
    (
        "quantile of integers",
        lambda x: (np.quantile(x, 0.5, method="lower"), np.quantile(x, 1), np.percentile(x, 50)),
        (K,),
    ),
    (
        "quantile of weights",
        lambda x, n, w: [
            f(x, [0.2, 0.7], axis=a, weights=w, method="inverted_cdf")
            for f in (np.quantile, np.nanquantile)
            for a in (0, None)
        ],
        (F, N, np.abs(F)),
    ),
    # reductions made in the dtype of out=, and means that are integers
    ("sum into int", lambda x: np.sum(x, out=np.zeros((), int)), (F * 3,)),
    (
        "min into float",
        lambda x: np.min(x, axis=1, initial=-7, out=np.zeros(len(x), np.float32)),
        (K.astype(np.uint32) % 9,),
    ),
    ("mean into int", lambda x: np.mean(x, axis=0, out=np.zeros(x.shape[1], int)), (F * 9,)),
    ("mean as int", lambda x: (np.mean(x, dtype=int), np.nanmean(x, axis=0, dtype=np.int32)), (K,)),
    ("var as float32", lambda x: np.var(x, axis=0, dtype=np.float32), (F,), 1e-6),
    (
        "running truths",
        lambda x: (np.cumsum(x, 1, dtype=bool), np.cumprod(x, 0, dtype=bool)),
        (np.array([[0, 2, 0], [0, 0, 0]]),),
    ),
    (
        "hypot of one",
        lambda x: (np.hypot.reduce(x[:1]), np.hypot.reduce(x), np.hypot.reduce(x, initial=None)),
        (-np.abs(V),),
    ),
    (
        "reduceat of given places",
        lambda x, i: [u.reduceat(x, i, axis=0) for u in (np.add, np.maximum, np.logaddexp)],
        (F, np.array([0, 2, 1])),
    ),
    ("clip beyond the dtype", lambda x: (np.clip(x, -1, 300), np.clip(x, -5, 4)), (BYTES,)),
    ("argwhere of one", lambda x: (np.argwhere(x.sum()), np.argwhere(x.sum() * 0)), (F,)),
    (
        "running sums of one",
        lambda x: (np.cumsum(x.sum(), axis=0), np.argsort(x.sum()), np.repeat(x.sum(), 2, 0)),
        (F,),
    ),
    # sets
    (
        "unique rows",
        lambda x: np.unique(x, axis=0, return_index=True, return_inverse=True, return_counts=True),
        (LINES,),
    ),
    ("unique columns", lambda x: np.unique(x, axis=1), (np.array([[2, 1, 2, 1], [0, 5, 0, 5], [3, 3, 3, 3]]),)),
    ("unique long rows", lambda x: np.unique(np.tile(x, (1, 6)), axis=0, return_inverse=True), (LINES,)),
    ("unique of nothing", lambda x: np.unique(x, return_inverse=True, return_counts=True), (np.zeros((2, 0, 3)),)),
    ("intersect1d places", lambda x, y: np.intersect1d(x, y, return_indices=True), (K, np.array([4, 4, 1, 8]))),
    ("trim_zeros", lambda x: [np.trim_zeros(x, t) for t in ("fb", "f", "b")], (np.array([0.0, 0, 3, 0, 2, 0]),)),
    ("trim_zeros of zeros", lambda x: (np.trim_zeros(x), np.trim_zeros(x[:2], "f")), (np.zeros(4),)),
    # histograms
    ("histogram of float32 weights", lambda x, w: np.histogram(x, 4, weights=w), (S, S), 1e-6),
    ("histogramdd", lambda x: np.histogramdd(x, bins=(2, 3), density=True), (F[:, :2],)),
    ("histogramdd edges", lambda x, w: np.histogramdd(x, [[-1, 0, 1], [-2, 0, 2], 2], weights=w), (F[:, :3], F[:, 0])),
    ("histogram2d of two counts", lambda x, y: np.histogram2d(x, y, (3, 2), range=[(-1, 1), (-2, 2)]), (F[0], F[1])),
    *[
        (
            f"norm of a given order {p}",
            lambda x, p: (np.linalg.norm(x[0], p), np.linalg.norm(x, p, axis=0)),
            (F, np.float64(p)),
        )
        for p in (np.inf, -np.inf, 0, 1, 2, 3.5)
    ],
    # bits
    (
        "packbits",
        lambda x: (np.packbits(x > 9), np.packbits(x & 4, axis=0), np.packbits(x, axis=1, bitorder="little")),
        (BYTES,),
    ),
    (
        "unpackbits",
        lambda x: (np.unpackbits(x), np.unpackbits(x, axis=0, count=-3), np.unpackbits(x, axis=1, count=45)),
        (BYTES,),
    ),
    ("unpackbits little", lambda x: np.unpackbits(x, axis=1, count=11, bitorder="little"), (BYTES,)),
    # polynomials
    ("polydiv", lambda u, v: (np.polydiv(u, v), np.polydiv(v, u)), (V[:4], V[4:6])),
    ("polydiv by a leading zero", np.polydiv, (V[:4], np.r_[0.0, V[:2]])),
    ("polydiv exact", lambda u, v: np.polydiv(np.convolve(u, v), v), (V[:3], V[3:5]), 1e-12),
    *[(name, lambda x, f=f: (f(x, V), f(x[0], V[:, None], tensor=False)), (F,)) for name, f in SERIES],
    (
        "polyvander",
        lambda x: (np.polynomial.polynomial.polyvander(x, 3), np.polynomial.chebyshev.chebvander(x, 2)),
        (V,),
    ),
]
