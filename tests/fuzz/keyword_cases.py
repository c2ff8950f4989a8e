"""Calls of NumPy's functions with every keyword that they take: one family of arguments per kind of function.

A family draws (arguments, keywords). What NumPy makes of them is what stager has to; `test_keywords.py` asks both.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from tests.fuzz.drawing import FLOATS, Draw, Drawn, Family


def reduction(dtype: bool = True, initial: bool = True, where: bool = True) -> Family:
    def family(d: Draw) -> Drawn:
        x = d.array()
        kw = d.keywords(axis=(0.7, lambda: d.axis(x, several=True)), keepdims=(0.4, [True, False]))
        if dtype:
            kw |= d.keywords(dtype=(0.3, d.dtype))
        if initial:
            kw |= d.keywords(initial=(0.3, [0, 1, 2.5, -3, True]))
        if where and d.chance(0.3):
            kw["where"] = d.mask(x.shape if d.chance(0.8) else x.shape[-1:])
        if d.chance(0.12):
            known = {k: v for k, v in kw.items() if k in ("axis", "keepdims")}
            with contextlib.suppress(ValueError, IndexError):
                kw["out"] = np.zeros(np.shape(np.sum(x, **known)), d.one([np.float64, np.float32, np.int64]))
        return (x,), kw

    return family


def spread(d: Draw) -> Drawn:
    x = d.array()
    return (x,), d.keywords(
        axis=(0.7, lambda: d.axis(x, several=True)), keepdims=(0.4, True), ddof=(0.4, [0, 1, 2, 0.5]),
        dtype=(0.2, FLOATS), where=(0.2, lambda: d.mask(x.shape)),
    )  # fmt: skip


def unary(d: Draw) -> Drawn:
    x = d.array()
    kw = d.keywords(dtype=(0.2, [*FLOATS, np.int64]), casting=(0.15, ["same_kind", "unsafe", "safe", "no"]))
    if d.chance(0.3):
        kw["out"] = np.full(x.shape, 7, d.one([np.float64, np.float32, np.int64, np.bool_]))
        kw |= d.keywords(where=(0.3, lambda: d.mask(x.shape)))
    return (x,), kw


def binary(d: Draw) -> Drawn:
    x = d.array()
    kind = d.rng.random()
    y: Any = d.array()
    if kind < 0.4:
        y = d.array(shape=x.shape)
    elif kind < 0.6:
        y = d.one([2, -1, 0, 1.5, True, np.float32(2), np.int8(3), 3e10, -0.0, np.inf, np.nan, 300])
    elif kind < 0.8:
        y = d.array(shape=x.shape[-1:])
    kw = d.keywords(dtype=(0.15, [*FLOATS, np.int64]), casting=(0.1, ["same_kind", "unsafe", "safe"]))
    if d.chance(0.2):
        try:
            shape = np.broadcast_shapes(x.shape, np.shape(y))
        except ValueError:
            return (x, y), kw
        kw["out"] = np.full(shape, 3, d.one([np.float64, np.float32, np.int64, np.bool_]))
        kw |= d.keywords(where=(0.4, lambda: d.mask(shape)))
    return ((x, y) if d.chance(0.8) else (y, x)), kw


def running(d: Draw) -> Drawn:
    x = d.array()
    return (x,), d.keywords(axis=(0.7, lambda: d.axis(x)), dtype=(0.3, d.dtype))


def cumulative(d: Draw) -> Drawn:
    x = d.array((1, 2))
    kw = d.keywords(dtype=(0.3, d.dtype), include_initial=(0.4, True))
    return (x,), kw if x.ndim == 1 and d.chance(0.5) else kw | {"axis": d.axis(x, none=False)}


def position(d: Draw) -> Drawn:
    x = d.array()
    return (x,), d.keywords(axis=(0.7, lambda: d.axis(x)), keepdims=(0.4, True))


def order(d: Draw) -> Drawn:
    x = d.array()
    how = {"kind": (0.4, ["stable", "mergesort"])} if d.chance(0.9) else {"stable": (1.0, True)}
    return (x,), d.keywords(axis=(0.7, lambda: d.axis(x)), **how)


def order_of_ties(d: Draw) -> Drawn:
    args, kw = order(d)
    return args, kw if "stable" in kw else {**kw, "kind": "stable"}


def searched(d: Draw) -> Drawn:
    a, v = np.sort(d.array(1)), d.array()
    kw = d.keywords(side=(0.5, ["left", "right"]))
    if d.chance(0.2):
        p = d.rng.permutation(len(a))
        shuffled = np.empty_like(a)
        shuffled[p] = a
        return (shuffled, v), {**kw, "sorter": p}
    return (a, v), kw


QUANTILES = [
    "inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull",
    "linear", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest",
]  # fmt: skip


def quantile(d: Draw) -> Drawn:
    x, q = d.array(), d.one([0, 0.5, 1, 0.3, [0.1, 0.9], np.float32(0.25), np.array([0, 1.0])])
    return (x, q), d.keywords(
        axis=(0.6, lambda: d.axis(x, several=True)), keepdims=(0.3, True),
        method=(0.6, QUANTILES),
    )  # fmt: skip


def median(d: Draw) -> Drawn:
    x = d.array()
    return (x,), d.keywords(axis=(0.6, lambda: d.axis(x, several=True)), keepdims=(0.3, True))


def average(d: Draw) -> Drawn:
    x = d.array()
    axis = d.axis(x, several=True)
    kw = d.keywords(axis=(0.7, axis), returned=(0.3, True), keepdims=(0.2, True))
    if d.chance(0.6):
        along = isinstance(axis, int) and -x.ndim <= axis < x.ndim and d.chance(0.4)
        kw["weights"] = d.array(shape=(x.shape[axis],) if along else x.shape)
    return (x,), kw


def differences(d: Draw) -> Drawn:
    x = d.array((1, 2, 3))
    return (x,), d.keywords(
        n=(0.5, [0, 1, 2, 3]), axis=(0.6, lambda: d.axis(x, none=False)), prepend=(0.3, [0, 1.5, True]),
        append=(0.3, [0, 1.5]),
    )  # fmt: skip


def slopes(d: Draw) -> Drawn:
    x = d.array((1, 2, 3), dtype=d.one([*FLOATS, np.int64]))
    steps = (d.one([2.0, 0.5, 1]),) if d.chance(0.4) else ()
    return (x, *steps), d.keywords(axis=(0.5, lambda: d.axis(x, several=True)), edge_order=(0.4, [1, 2]))


def area(d: Draw) -> Drawn:
    y = d.array((1, 2, 3))
    axis = d.axis(y, none=False)
    kw = {"axis": axis, **d.keywords(dx=(0.4, [0.5, 2]))}
    if d.chance(0.4):
        kw["x"] = d.array(shape=(y.shape[axis],) if -y.ndim <= axis < y.ndim else (3,))
    return (y,), kw


def interpolated(d: Draw) -> Drawn:
    kinds = [*FLOATS, np.int64]
    grid = np.sort(d.array(1, dtype=d.one(kinds), special=False))
    values, x = d.array(shape=grid.shape, dtype=d.one(kinds)), d.array(dtype=d.one(kinds))
    return (x, grid, values), d.keywords(left=(0.3, -9.0), right=(0.3, 99), period=(0.1, 3.0))


def histogram(d: Draw) -> Drawn:
    x = d.array()
    return (x,), d.keywords(
        bins=(0.8, [1, 3, 5, [-2, 0, 1.5, 4], [0.0, 1, 2]]), density=(0.3, True),
        range=(0.4, [(-1, 1), (0, 3), (-2.5, 2)]), weights=(0.3, lambda: d.array(shape=x.shape)),
    )  # fmt: skip


def counts(d: Draw) -> Drawn:
    x = d.rng.integers(0, 5, d.one([1, 4, 7])).astype(d.one([np.int64, np.uint8, np.int32]))
    return (x,), {"minlength": d.one([5, 8]), **d.keywords(weights=(0.5, lambda: d.array(shape=x.shape)))}


def padding(d: Draw) -> Drawn:
    x = d.array((1, 2, 3))
    modes = ["constant", "edge", "reflect", "symmetric", "wrap", "linear_ramp", "maximum", "mean", "median", "minimum"]
    mode, width = d.one(modes), d.one([1, 2, (1, 3), ((0, 2),) * x.ndim, ((2,),) * x.ndim, 7])
    kw: dict[str, Any] = {}
    if mode == "constant":
        kw = d.keywords(constant_values=(0.5, [1, 2.7, (1, 2), ((3, 4),) * x.ndim]))
    elif mode == "linear_ramp":
        kw = d.keywords(end_values=(0.5, [1, 2.7, (1, 2)]))
    elif mode in ("maximum", "mean", "median", "minimum"):
        kw = d.keywords(stat_length=(0.5, [1, 2, (1, 2), 100]))
    elif mode in ("reflect", "symmetric"):
        kw = d.keywords(reflect_type=(0.2, ["even", "odd"]))
    return (x, width, mode), kw


def distinct(d: Draw) -> Drawn:
    x = d.array()
    return (x,), d.keywords(
        return_index=(0.4, True), return_inverse=(0.4, True), return_counts=(0.4, True), equal_nan=(0.2, [True, False]),
        axis=(0.3, lambda: d.axis(x)),
    )  # fmt: skip


def members(d: Draw) -> Drawn:
    x = d.array()
    return (x, d.array(dtype=x.dtype)), d.keywords(invert=(0.3, True))


def two_sets(d: Draw) -> Drawn:
    x = d.array()
    return (x, d.array(dtype=x.dtype)), {}


def common(d: Draw) -> Drawn:
    return two_sets(d)[0], d.keywords(return_indices=(0.3, True))


def clipped(d: Draw) -> Drawn:
    x = d.array()
    low = d.one([None, -1, 0, 1.5, np.float32(0.5), d.array(shape=x.shape[-1:])])
    return (x, low, d.one([None, 2, 3, 0.5, 300])), {}


def rounded(d: Draw) -> Drawn:
    return (d.array(), *((d.one([0, 1, 2, -1, 3]),) if d.chance(0.7) else ())), {}


def rolled(d: Draw) -> Drawn:
    x = d.array()
    axis = d.axis(x, several=True)
    shift = d.one([1, (2,) + (1,) * (len(axis) - 1)]) if isinstance(axis, tuple) else d.one([1, -2, 7, 0])
    return (x, shift), {"axis": axis}


def repeated(d: Draw) -> Drawn:
    x = d.array()
    axis = d.axis(x)
    n = x.shape[axis] if isinstance(axis, int) and -x.ndim <= axis < x.ndim else x.size
    return (x, d.one([0, 1, 2, 3]) if d.chance(0.6) else d.rng.integers(0, 3, n)), {"axis": axis}


def tiled(d: Draw) -> Drawn:
    return (d.array(), d.one([2, (1, 2), (2, 1, 2), 0, [3]])), {}


def joined(d: Draw) -> Drawn:
    x = d.array((1, 2))
    y = d.array(shape=x.shape)
    return ([x, y] if d.chance(0.7) else (x, y, x),), d.keywords(
        axis=(0.6, lambda: d.axis(x)), dtype=(0.2, d.dtype), casting=(0.15, ["unsafe", "same_kind"])
    )


def stacked(d: Draw) -> Drawn:
    x = d.array((0, 1, 2))
    return ([x, d.array(shape=x.shape)],), d.keywords(axis=(0.6, list(range(-x.ndim - 1, x.ndim + 1))))


def divided(d: Draw) -> Drawn:
    x = d.array((1, 2))
    return (x, d.one([1, 2, [1], [1, 3], [0, 2, 2]])), d.keywords(axis=(0.6, lambda: d.axis(x, none=False)))


def taken(d: Draw) -> Drawn:
    x = d.array((1, 2, 3))
    axis = d.axis(x)
    n = x.shape[axis] if isinstance(axis, int) and -x.ndim <= axis < x.ndim else x.size
    where = d.rng.integers(-n, n, d.one([(), (2,), (2, 2), (0,)])) if n else np.zeros(0, int)
    return (x, np.asarray(where)), {"axis": axis, **d.keywords(mode=(0.3, ["raise", "wrap", "clip"]))}


def flipped(d: Draw) -> Drawn:
    x = d.array((1, 2))
    return (x,), {"axis": d.axis(x)}


def convolved(d: Draw) -> Drawn:
    return (d.array(1), d.array(1)), d.keywords(mode=(0.7, ["full", "same", "valid"]))


def covariance(d: Draw) -> Drawn:
    x = d.array((1, 2), dtype=d.one([*FLOATS, np.int64]), special=False)
    kw = d.keywords(rowvar=(0.3, False), bias=(0.3, True), ddof=(0.3, [0, 1]))
    n = x.shape[0] if "rowvar" in kw and x.ndim == 2 else x.shape[-1]
    kw |= d.keywords(aweights=(0.3, lambda: d.rng.random(n)), fweights=(0.3, lambda: d.rng.integers(1, 3, n)))
    return (x,), kw


def correlation(d: Draw) -> Drawn:
    return (d.array((1, 2), dtype=d.one([np.float64, np.int64]), special=False),), d.keywords(rowvar=(0.3, False))


def replaced(d: Draw) -> Drawn:
    return (d.array(),), d.keywords(nan=(0.4, 5.0), posinf=(0.4, 9), neginf=(0.4, -9.0))


def close(d: Draw) -> Drawn:
    x = d.array()
    y = np.asarray(x + d.one([0, 1e-9, 1e-4])) if x.dtype.kind == "f" else d.array(shape=x.shape)
    return (x, y), d.keywords(rtol=(0.3, 1e-3), atol=(0.3, 0.1), equal_nan=(0.3, True))


def equal(d: Draw) -> Drawn:
    x = d.array()
    return (x, x.copy() if d.chance(0.5) else d.array()), d.keywords(equal_nan=(0.3, True))


def norm(d: Draw) -> Drawn:
    x = d.array((1, 2, 3))
    return (x,), d.keywords(
        ord=(0.7, [None, 1, -1, np.inf, -np.inf, "fro", 0, 3, 2]), axis=(0.7, lambda: d.axis(x, several=True)),
        keepdims=(0.3, True),
    )  # fmt: skip


def contracted(d: Draw) -> Drawn:
    x = d.array(2)
    return (x, d.array(shape=(x.shape[1], 3))), {"axes": d.one([1, 0, ([1], [0]), (-1, 0)])}


def triangle(d: Draw) -> Drawn:
    return (d.array((1, 2, 3)),), d.keywords(k=(0.6, [0, 1, -1, 2, -3]))


def on_diagonal(d: Draw) -> Drawn:
    return (d.array((1, 2)),), d.keywords(k=(0.6, [0, 1, -1, 2]))


def diagonal(d: Draw) -> Drawn:
    axes = {"axis1": d.one([0, -1]), "axis2": d.one([1, -2])}
    return (d.array((2, 3)),), {**axes, **d.keywords(offset=(0.5, [0, 1, -1]))}


def filled(d: Draw) -> Drawn:
    return (d.array(), d.one([3, 2.5, True])), d.keywords(dtype=(0.4, d.dtype), shape=(0.2, (2, 3)))


def alike(d: Draw) -> Drawn:
    return (d.array(),), d.keywords(dtype=(0.4, d.dtype), shape=(0.2, [(2, 3), 4]))


def converted(d: Draw) -> Drawn:
    return (d.array(), d.dtype()), d.keywords(copy=(0.2, [True, False]))


def binned(d: Draw) -> Drawn:
    edges = np.sort(d.rng.standard_normal(4))
    return (d.array(), edges if d.chance(0.7) else edges[::-1].copy()), d.keywords(right=(0.5, True))


def windows(d: Draw) -> Drawn:
    x = d.array((1, 2))
    return (x, d.one([1, 2, 3])), {"axis": d.axis(x, none=False)}


def inserted(d: Draw) -> Drawn:
    x = d.array((1, 2))
    return (x, d.one([0, 1, -1, [0, 1], slice(0, 1)]), d.one([1, 2.5])), {"axis": d.axis(x)}


def deleted(d: Draw) -> Drawn:
    x = d.array((1, 2))
    return (x, d.one([0, -1, [0], slice(0, 2), []])), {"axis": d.axis(x)}


def chosen(d: Draw) -> Drawn:
    x = d.array(dtype=d.one([bool, np.float64, np.int64]))
    return (x, d.one([d.array(shape=x.shape), 1, 2.5]), d.one([d.array(shape=x.shape), 0, np.nan])), {}


def moved(d: Draw) -> Drawn:
    return (d.array((2, 3)), d.one([0, -1, [0, 1]]), d.one([-1, 1, [1, 0]])), {}


def product(d: Draw) -> Drawn:
    a, b = d.array((1, 2, 3)), d.array((1, 2, 3))
    if b.ndim == 1:
        return (a, d.array(shape=a.shape[-1:])), {}
    return (a, d.array(shape=(*b.shape[:-2], a.shape[-1], b.shape[-1])) if d.chance(0.8) else b), {}


def pair(d: Draw) -> Drawn:
    a = d.array()
    return (a, d.array(shape=a.shape)), {}


def any_pair(d: Draw) -> Drawn:
    return (d.array((0, 1, 2)), d.array((0, 1, 2))), {}


def crossed(d: Draw) -> Drawn:
    return (d.array(shape=(d.one([1, 4]), d.one([3, 3, 2]))), d.array(shape=(4, 3))), {}


def spaced(d: Draw) -> Drawn:
    return (d.one([0, d.array(0), d.array(1)]), d.one([1, 5.5, d.array(0)])), {
        "num": d.one([0, 1, 2, 5]),
        **d.keywords(endpoint=(0.4, False), retstep=(0.2, True), dtype=(0.2, [np.float32, int]), axis=(0.2, [0, -1])),
    }


def alone(d: Draw) -> Drawn:
    return (d.array(),), {}


def lined(d: Draw) -> Drawn:
    return (d.array((1, 2)),), {}


def unwrapped(d: Draw) -> Drawn:
    return (d.array((1, 2), dtype=np.float64, special=False),), d.keywords(period=(0.3, 5.0), discont=(0.3, 1.0))


def steps(d: Draw) -> Drawn:
    return (d.array(),), d.keywords(to_begin=(0.4, 1), to_end=(0.4, [[2, 3]]))


def powers(d: Draw) -> Drawn:
    return (d.array(1),), d.keywords(N=(0.5, [0, 1, 3, 4]), increasing=(0.4, True))


def packed(d: Draw) -> Drawn:
    x = d.array(dtype=d.one([np.bool_, np.uint8]))
    return (x,), d.keywords(axis=(0.5, lambda: d.axis(x)), bitorder=(0.5, "little"))


def unpacked(d: Draw) -> Drawn:
    x = d.array((1, 2), dtype=np.uint8)
    return (x,), d.keywords(axis=(0.5, lambda: d.axis(x)), count=(0.3, [5, -3, 12, 0]), bitorder=(0.5, "little"))


def trimmed(d: Draw) -> Drawn:
    return (np.concatenate([np.zeros(int(d.rng.integers(3))), d.array(1, special=False), np.zeros(1)]),), d.keywords(
        trim=(0.6, ["f", "b", "fb"])
    )


def polynomials(d: Draw) -> Drawn:
    return (d.array(1, special=False), d.array(1, special=False)), {}


def series(d: Draw) -> Drawn:
    return (d.array(special=False), d.array((1, 2), special=False)), d.keywords(tensor=(0.3, [True, False]))


def fold(d: Draw) -> Drawn:
    return (d.array(),), d.keywords(
        axis=(0.7, [0, -1, None]), keepdims=(0.3, True), initial=(0.2, 1), dtype=(0.2, d.dtype)
    )


def running_fold(d: Draw) -> Drawn:
    x = d.array((1, 2))
    return (x,), d.keywords(axis=(0.6, lambda: d.axis(x, none=False)), dtype=(0.2, d.dtype))


def all_pairs(d: Draw) -> Drawn:
    return (d.array((0, 1)), d.array((0, 1, 2))), d.keywords(dtype=(0.1, d.dtype))


def segments(d: Draw) -> Drawn:
    x = d.array((1, 2))
    return (x, np.sort(d.rng.integers(0, max(x.shape[0], 1), 3))), {"axis": 0, **d.keywords(dtype=(0.2, d.dtype))}
