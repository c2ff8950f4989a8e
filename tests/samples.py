"""Sample inputs of every op: one row per op, read by all tests of the op table.

A row gives, for a dtype, a list of `Sample`s: a function of raw values and the arrays to call it with. Float arrays of
a sample lie where the op is smooth (at least 1e-3 away from any kink), so that finite differences hold; hard points
(zeros, ties, NaN, infinities) stand in tests of their own. `errors` are calls that must fail, with the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import stager.collectives
import stager.random
import stager.transforms.checkpoint
import stager.transforms.custom  # noqa: F401  (they declare ops)
import tests.control_samples  # noqa: F401  (rows too)
from stager.ir.dtypes import DType, dtype_of, f64, i32, i64
from tests.sampling import ALL, FLOATS, INTEGERS, NUMBERS, ROWS, UNSIGNED, Bad, Sample, call, row, sample, values

__all__ = ["CALLS", "EFFECTS", "ROWS", "Sample", "call"]

# -- elementwise ------------------------------------------------------------------------------------------------------

SHAPES: tuple[tuple[int, ...], ...] = ((), (3,), (2, 3), (0,), (2, 0, 3))


def pointwise(name: str, domains: Sequence[tuple[float, float]], dtypes: Sequence[str] = FLOATS, **fields: Any) -> None:
    params = fields.pop("params", {})

    def samples(rng: np.random.Generator, dtype: np.dtype[Any]) -> list[Sample]:
        return [sample(name, *[values(rng, dtype, s, *d) for d in domains], **params) for s in SHAPES]

    if len(domains) > 1 and "errors" not in fields:
        fields["errors"] = (
            Bad((np.ones(3), np.ones(4)), params, ValueError, f"{name}: operands have shapes f64[3] and f64[4]"),
            Bad((np.ones(3), np.ones(3, "f4")), params, TypeError, f"{name}: operands have dtypes f64, f32"),
        )
        if len(domains) == 3:
            fields.pop("errors")
    row(name, dtypes, **fields)(samples)


REAL = (-2.0, 2.0)
POSITIVE = (0.2, 3.0)
UNIT = (-0.95, 0.95)

for name, dtypes in (
    ("add", ALL),
    ("mul", ALL),
    ("sub", NUMBERS),
    ("div", FLOATS),
    ("maximum", ALL),
    ("minimum", ALL),
    ("fmax", ALL),
    ("fmin", ALL),
):
    pointwise(name, [REAL, REAL], dtypes)
pointwise("floordiv", [(0.6, 0.9), (0.2, 0.27)], NUMBERS, flat=True)
pointwise("mod", [(0.6, 0.7), (0.25, 0.29)], NUMBERS)
pointwise("fmod", [(-0.7, -0.6), (0.25, 0.29)], NUMBERS)
pointwise("pow", [POSITIVE, REAL], (*FLOATS, *UNSIGNED))
for name in ("neg", "abs"):
    pointwise(name, [REAL], NUMBERS if name == "neg" else ALL)
pointwise("sign", [REAL], NUMBERS, flat=True)
for name in ("eq", "ne", "lt", "le", "gt", "ge"):
    pointwise(name, [REAL, REAL], ALL, flat=True)
for name in ("and_", "or_", "xor"):
    pointwise(name, [REAL, REAL], (*INTEGERS, "bool"), flat=True)
pointwise("not_", [REAL], (*INTEGERS, "bool"), flat=True)
for name in ("shl", "shr"):
    pointwise(name, [REAL, (0, 2)], INTEGERS, flat=True)
for name in ("gcd", "lcm"):
    pointwise(name, [REAL, REAL], INTEGERS, flat=True)
pointwise("popcount", [REAL], INTEGERS, flat=True)
pointwise("copy", [REAL], ALL)
pointwise("barrier", [REAL], ALL)
pointwise("checkpoint_name", [REAL], ALL, params={"name": "h"})
pointwise("stop_gradient", [REAL], ALL, flat=True)
pointwise("stop_reverse", [REAL], ALL, flat=True)
pointwise("stop_forward", [REAL], ALL, flat=True)
pointwise("longest", [REAL], INTEGERS, flat=True, facts={"collective": True})
for name in ("floor", "ceil", "trunc", "rint", "spacing", "isnan", "isinf", "isfinite", "signbit", "frexp_exponent"):
    pointwise(name, [(0.55, 0.95)], flat=True)
pointwise("frexp_mantissa", [(0.55, 0.95)])
pointwise("copysign", [REAL, REAL])
pointwise("nextafter", [REAL, REAL])
for name, domain in {
    "sqrt": POSITIVE,
    "cbrt": POSITIVE,
    "exp": REAL,
    "exp2": REAL,
    "expm1": REAL,
    "log": POSITIVE,
    "log2": POSITIVE,
    "log10": POSITIVE,
    "log1p": (-0.5, 2.0),
    "sin": REAL,
    "cos": REAL,
    "tan": (-1.2, 1.2),
    "asin": UNIT,
    "acos": UNIT,
    "atan": REAL,
    "sinh": REAL,
    "cosh": REAL,
    "tanh": REAL,
    "asinh": REAL,
    "acosh": (1.2, 3.0),
    "atanh": UNIT,
    "erf": REAL,
    "erfc": REAL,
    "erfinv": UNIT,
    "lgamma": POSITIVE,
    "gamma": POSITIVE,
    "digamma": POSITIVE,
}.items():
    pointwise(name, [domain])
pointwise("polygamma", [POSITIVE], params={"n": 2})
for name in ("atan2", "hypot", "logaddexp", "logaddexp2"):
    pointwise(name, [REAL, REAL])
pointwise("fma", [REAL, REAL, REAL])


@row("mulhi", ("uint64",), flat=True)
def _(rng: Any, dtype: Any) -> list[Sample]:
    def oracle(x: Any, y: Any) -> Any:
        return (x.astype(object) * y.astype(object) >> 64).astype(np.uint64)

    words = [rng.integers(0, 2**64, s, dtype=np.uint64) for s in ((7,), (7,), (2, 3), (2, 3))]
    return [sample("mulhi", *words[:2], oracle=oracle), sample("mulhi", *words[2:], oracle=oracle)]


@row("select", ALL)
def _(rng: Any, dtype: Any) -> list[Sample]:
    return [
        sample("select", values(rng, np.dtype(bool), s), values(rng, dtype, s), values(rng, dtype, s)) for s in SHAPES
    ]


@row("ldexp")
def _(rng: Any, dtype: Any) -> list[Sample]:
    return [sample("ldexp", values(rng, dtype, s), values(rng, np.dtype(np.int32), s)) for s in SHAPES]


@row("convert", ALL)
def _(rng: Any, dtype: Any) -> list[Sample]:
    to: tuple[DType, ...] = (f64, i32) if dtype.kind != "f" else (f64, dtype_of("float32"), i64)
    return [
        sample("convert", values(rng, dtype, s), dtype=t)
        for s in SHAPES[:3]
        for t in to
        if t is not dtype_of(dtype) and not (dtype.kind == "f" and t is dtype_of("float32"))
    ]


# -- views ------------------------------------------------------------------------------------------------------------


@row("reshape", ALL, errors=(Bad((np.ones(6),), {"shape": (4,)}, ValueError, "cannot reshape f64[6] into shape (4)"),))
def _(rng: Any, dtype: Any) -> list[Sample]:
    cases = [
        ((2, 3), (6,)),
        ((6,), (3, 2)),
        ((4,), (2, 1, 2)),
        ((1, 1), ()),
        ((), (1,)),
        ((2, 0), (0, 5)),
        ((2, 3, 4), (4, 6)),
    ]
    return [sample("reshape", values(rng, dtype, a), shape=b) for a, b in cases]


@row("transpose", ALL)
def _(rng: Any, dtype: Any) -> list[Sample]:
    cases = [((2, 3), (1, 0)), ((2, 3, 4), (2, 0, 1)), ((2, 0, 3), (1, 2, 0)), ((2, 3, 4), (0, 2, 1))]
    return [sample("transpose", values(rng, dtype, a), perm=p) for a, p in cases]


@row(
    "broadcast",
    ALL,
    errors=(Bad((np.ones(3),), {"shape": (2, 4), "axes": (1,)}, ValueError, "cannot broadcast f64[3] to shape (2,4)"),),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    cases = [
        ((), (3,), ()),
        ((3,), (2, 3), (1,)),
        ((3,), (3, 2), (0,)),
        ((3, 1), (3, 4), (0, 1)),
        ((2, 1), (2, 3, 4), (0, 2)),
        ((1,), (0,), (0,)),
        ((0,), (2, 0), (1,)),
        ((1, 1), (1, 1, 1), (0, 2)),
    ]
    return [sample("broadcast", values(rng, dtype, a), shape=b, axes=c) for a, b, c in cases]


SLICES: list[tuple[Any, ...]] = [
    ((5,), (1,), (3,), (1,)),
    ((5,), (4,), (3,), (-2,)),
    ((5,), (0,), (3,), (2,)),
    ((4, 5), (1, 0), (2, 2), (1, 3)),
    ((4, 5), (3, 4), (4, 5), (-1, -1)),
    ((5,), (2,), (0,), (1,)),
    ((0, 3), (0, 1), (0, 2), (1, 1)),
    ((3, 4), (2, 0), (1, 4), (1, 1)),
]


@row(
    "slice",
    ALL,
    errors=(
        Bad(
            (np.ones(3),),
            {"starts": (1,), "sizes": (3,), "steps": (1,)},
            ValueError,
            "positions 1..3 are outside an axis of 3",
        ),
    ),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    return [sample("slice", values(rng, dtype, a), starts=s, sizes=n, steps=k) for a, s, n, k in SLICES]


DIAGONALS: list[tuple[Any, ...]] = [
    ((3, 3), 0, 1, 0),
    ((3, 4), 0, 1, 1),
    ((3, 4), 1, 0, -1),
    ((2, 3, 4), 0, 2, 0),
    ((2, 3, 4), 2, 1, -2),
    ((3, 3), 0, 1, 3),
    ((0, 3), 0, 1, 0),
]


@row("diagonal", ALL)
def _(rng: Any, dtype: Any) -> list[Sample]:
    return [sample("diagonal", values(rng, dtype, a), axis1=i, axis2=j, offset=k) for a, i, j, k in DIAGONALS]


@row(
    "windows",
    ALL,
    errors=(
        Bad((np.ones(3),), {"axis": 0, "size": 4, "step": 1}, ValueError, "window of 4 is larger than the axis of 3"),
    ),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    cases = [
        ((5,), 0, 2, 1),
        ((5,), 0, 5, 1),
        ((2, 9), 1, 2, 1),
        ((7,), 0, 3, 2),
        ((3, 6), 1, 2, 3),
        ((6, 2), 0, 4, 1),
        ((0, 4), 1, 2, 1),
        ((8,), 0, 2, 3),
    ]
    return [sample("windows", values(rng, dtype, a), axis=x, size=n, step=k) for a, x, n, k in cases]


# -- structural -------------------------------------------------------------------------------------------------------


@row(
    "slice_update",
    ALL,
    errors=(
        Bad(
            (np.ones(4), np.ones(3)), {"starts": (0,), "sizes": (2,), "steps": (1,)}, ValueError, "cannot write f64[3]"
        ),
    ),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    return [
        sample("slice_update", values(rng, dtype, a), values(rng, dtype, n), starts=s, sizes=n, steps=k)
        for a, s, n, k in SLICES
    ]


@row("diagonal_update", ALL)
def _(rng: Any, dtype: Any) -> list[Sample]:
    out = []
    for a, i, j, k in DIAGONALS:
        n = np.diagonal(np.empty(a), k, i, j).shape
        out.append(sample("diagonal_update", values(rng, dtype, a), values(rng, dtype, n), axis1=i, axis2=j, offset=k))
    return out


@row("pad", ALL)
def _(rng: Any, dtype: Any) -> list[Sample]:
    cases = [
        ((3,), (1,), (2,), (0,)),
        ((3,), (0,), (0,), (2,)),
        ((2, 3), (1, 0), (0, 2), (1, 0)),
        ((0,), (2,), (1,), (0,)),
        ((0,), (1,), (1,), (2,)),
        ((2, 2), (0, 1), (0, 0), (3, 1)),
    ]
    return [
        sample("pad", values(rng, dtype, a), values(rng, dtype, ()), low=lo, high=hi, interior=g)
        for a, lo, hi, g in cases
    ]


@row(
    "concatenate",
    ALL,
    errors=(Bad((np.ones((2, 3)), np.ones((2, 4))), {"axis": 0}, ValueError, "operands do not fit along axis 0"),),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    cases: list[tuple[Any, ...]] = [
        ([(2,), (3,)], 0),
        ([(2, 3), (2, 1), (2, 0)], 1),
        ([(1, 2), (2, 2)], 0),
        ([(0,), (0,)], 0),
    ]
    return [sample("concatenate", *[values(rng, dtype, s) for s in shapes], axis=x) for shapes, x in cases]


# -- reductions and scans ---------------------------------------------------------------------------------------------

REDUCED: list[tuple[Any, ...]] = [
    ((4,), (0,)),
    ((2, 3), (0,)),
    ((2, 3), (1,)),
    ((2, 3), (0, 1)),
    ((2, 3, 4), (0, 2)),
    ((2, 3, 4), (1,)),
    ((0, 3), (1,)),
]
EMPTY: list[tuple[Any, ...]] = [((0,), (0,)), ((2, 0, 3), (1,)), ((0, 3), (0, 1))]


def _reduction_row(name: str, dtypes: Sequence[str], empty: bool, **fields: Any) -> None:
    @row(name, dtypes, **fields)
    def _(rng: Any, dtype: Any) -> list[Sample]:
        return [sample(name, values(rng, dtype, a), axes=x) for a, x in (*REDUCED, *(EMPTY if empty else ()))]


_outside = (Bad((np.ones(3),), {"axes": (1,)}, ValueError, "axes (1,) do not fit f64[3]"),)
_reduction_row("reduce_sum", NUMBERS, True, errors=_outside)
_reduction_row("reduce_prod", NUMBERS, True)
for name in ("reduce_max", "reduce_min"):
    _reduction_row(
        name,
        ALL,
        False,
        errors=(
            Bad(
                (np.ones((2, 0)),),
                {"axes": (1,)},
                ValueError,
                f"f64[2,0] has no element along axes (1,), and {name} of nothing has no value",
            ),
        ),
    )
for name in ("reduce_or", "reduce_and"):
    _reduction_row(name, (*INTEGERS, "bool"), True, flat=True)
for name in ("argmax", "argmin"):

    @row(name, ALL, flat=True, errors=(Bad((np.ones(0),), {"axis": 0}, ValueError, "has no element along axes (0,)"),))
    def _(rng: Any, dtype: Any, name: str = name) -> list[Sample]:
        return [sample(name, values(rng, dtype, a), axis=x[0]) for a, x in REDUCED if len(x) == 1]


SCANNED: list[tuple[Any, ...]] = [
    ((4,), 0),
    ((3, 4), 0),
    ((3, 4), 1),
    ((2, 3, 2), 1),
    ((0,), 0),
    ((2, 0), 1),
    ((0, 2), 1),
    ((1,), 0),
]


def _loop_recurrence(a: Any, b: Any, axis: int, reverse: bool) -> Any:
    a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    out = np.zeros_like(b)
    order = range(len(b))[:: -1 if reverse else 1]
    h = np.zeros(b.shape[1:], b.dtype)
    for k in order:
        h = a[k] * h + b[k]
        out[k] = h
    return np.moveaxis(out, 0, axis)


for name in ("cumsum", "cumprod", "cummax", "cummin", "recurrence"):

    @row(name, ALL if name.startswith("cumm") else NUMBERS)
    def _(rng: Any, dtype: Any, name: str = name) -> list[Sample]:
        out = []
        for a, x in SCANNED:
            for r in (False, True):
                operands = [values(rng, dtype, a) for _ in range(1 + (name == "recurrence"))]
                oracle = (lambda p, q, x=x, r=r: _loop_recurrence(p, q, x, r)) if name == "recurrence" else None
                out.append(sample(name, *operands, axis=x, reverse=r, oracle=oracle))
        return out


# -- contract ---------------------------------------------------------------------------------------------------------

DOTS: list[tuple[Any, ...]] = [
    ((3,), (3,), ((0,), (0,)), ((), ())),
    ((2, 3), (3,), ((1,), (0,)), ((), ())),
    ((2, 3), (3, 4), ((1,), (0,)), ((), ())),
    ((3, 2), (4, 3), ((0,), (1,)), ((), ())),
    ((2,), (3,), ((), ()), ((), ())),
    ((), (), ((), ()), ((), ())),
    ((2, 3, 4), (2, 4, 5), ((2,), (1,)), ((0,), (0,))),
    ((3, 4, 2), (5, 2, 4), ((1,), (2,)), ((2,), (1,))),
    ((2, 3, 4), (4, 3), ((2, 1), (0, 1)), ((), ())),
    ((2, 3, 4), (3, 4, 5), ((1, 2), (0, 1)), ((), ())),
    ((3, 4), (4, 3), ((), ()), ((0, 1), (1, 0))),
    ((2, 0), (0, 3), ((1,), (0,)), ((), ())),
    ((0, 3), (3, 2), ((1,), (0,)), ((), ())),
    ((4, 2, 3), (2, 3, 5, 4), ((1,), (0,)), ((2, 0), (1, 3))),
]


def _einsum(contract: Any, batch: Any) -> Any:
    def oracle(x: Any, y: Any) -> Any:
        letters = iter("abcdefghijklmnop")
        xs: list[Any] = [None] * x.ndim
        ys: list[Any] = [None] * y.ndim
        for i, j in (*zip(*contract, strict=True), *zip(*batch, strict=True)):
            xs[i] = ys[j] = next(letters)
        xs = [v or next(letters) for v in xs]
        ys = [v or next(letters) for v in ys]
        out = [xs[i] for i in batch[0]]
        out += [v for k, v in enumerate(xs) if k not in contract[0] and k not in batch[0]]
        out += [v for k, v in enumerate(ys) if k not in contract[1] and k not in batch[1]]
        if x.dtype == bool:
            return np.einsum(f"{''.join(xs)},{''.join(ys)}->{''.join(out)}", x.astype(int), y.astype(int)) > 0
        return np.einsum(f"{''.join(xs)},{''.join(ys)}->{''.join(out)}", x, y)

    return oracle


@row(
    "dot",
    ALL,
    errors=(
        Bad(
            (np.ones((2, 3)), np.ones((4, 5))),
            {"contract": ((1,), (0,)), "batch": ((), ())},
            ValueError,
            "contracted axis 1 of f64[2,3] and axis 0 of f64[4,5] differ",
        ),
        Bad(
            (np.ones(3), np.ones(3, "f4")),
            {"contract": ((0,), (0,)), "batch": ((), ())},
            TypeError,
            "dot: operands have dtypes f64, f32",
        ),
    ),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    return [
        sample("dot", values(rng, dtype, a), values(rng, dtype, b), contract=c, batch=t, oracle=_einsum(c, t))
        for a, b, c, t in DOTS
    ]


# -- indexed ----------------------------------------------------------------------------------------------------------

# x, index shape, axes, batch_dims
GATHERS: list[tuple[Any, ...]] = [
    ((4,), (3,), (0,), 0),
    ((4,), (), (0,), 0),
    ((4, 3), (2,), (0,), 0),
    ((4, 3), (2,), (1,), 0),
    ((4, 3), (), (1,), 0),
    ((4, 3), (2, 2), (0, 1), 0),
    ((2, 4, 3), (5,), (0, 2), 0),
    ((2, 4), (2, 3), (1,), 1),
    ((2, 3, 4), (2, 5), (2,), 1),
    ((2, 3, 4), (2, 3, 2), (2,), 2),
    ((2, 4, 3), (2,), (1,), 1),
    ((4, 2), (0,), (0,), 0),
    ((3, 0), (2,), (0,), 0),
    ((2, 3, 2, 2), (2, 4), (1, 3), 1),
]


def _indices(rng: Any, x: tuple[int, ...], s: tuple[int, ...], axes: tuple[int, ...], mode: str) -> list[Any]:
    low = {"check": -1, "promise": 0, "clip": -2, "wrap": -2}[mode]
    spread = {"check": 0, "promise": 0, "clip": 2, "wrap": 2}[mode]
    return [np.asarray(rng.integers(low * x[a] if low == -1 else low, x[a] + spread, s), dtype=np.int64) for a in axes]


def _one(x: Any, idx: list[Any], axes: tuple[int, ...], mode: str) -> Any:
    """The NumPy index of one position."""
    where: list[Any] = [slice(None)] * x.ndim
    for i, a in zip(idx, axes, strict=True):
        i = int(i)
        n = x.shape[a]
        where[a] = min(max(i, 0), n - 1) if mode == "clip" else i % n if mode == "wrap" else i
    return where


def _loop_gather(axes: Any, batch_dims: int, mode: str) -> Any:
    def oracle(x: Any, *idx: Any) -> Any:
        rest = [x.shape[k] for k in range(batch_dims, x.ndim) if k not in axes]
        out = np.empty((*idx[0].shape, *rest), x.dtype)
        for p in np.ndindex(*idx[0].shape):
            where = _one(x, [i[p] for i in idx], axes, mode)
            where[:batch_dims] = p[:batch_dims]
            out[p] = x[tuple(where)]
        return out

    return oracle


def _loop_scatter(axes: Any, batch_dims: int, mode: str, combine: str) -> Any:
    ops: dict[str, Any] = {
        "set": lambda a, b: b,
        "add": np.add,
        "mul": np.multiply,
        "min": np.minimum,
        "max": np.maximum,
    }

    def oracle(x: Any, updates: Any, *idx: Any) -> Any:
        out = x.copy()
        for p in np.ndindex(*idx[0].shape):
            where = _one(x, [i[p] for i in idx], axes, mode)
            where[:batch_dims] = p[:batch_dims]
            out[tuple(where)] = ops[combine](out[tuple(where)], updates[p])
        return out

    return oracle


@row(
    "gather",
    ALL,
    errors=(
        Bad(
            (np.ones(3), np.ones(2)),
            {"axes": (0,), "batch_dims": 0, "mode": "check"},
            TypeError,
            "an index operand is f64[2], not i64",
        ),
        Bad(
            (np.ones(3), np.ones(2, int)),
            {"axes": (1,), "batch_dims": 0, "mode": "check"},
            ValueError,
            "for axes (1,) of f64[3]",
        ),
    ),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    out = []
    for k, (x, s, axes, b) in enumerate(GATHERS):
        modes = ("check", "promise", "clip", "wrap") if k < 3 else ("check",)
        for mode in modes:
            where: dict[str, Any] = {"axes": axes, "batch_dims": b, "mode": mode}
            out.append(
                sample(
                    "gather",
                    values(rng, dtype, x),
                    *_indices(rng, x, s, axes, mode),
                    oracle=_loop_gather(**where),
                    **where,
                )
            )
    return out


@row(
    "scatter",
    ALL,
    errors=(
        Bad(
            (np.ones(3), np.ones(3), np.ones(2, int)),
            {"axes": (0,), "batch_dims": 0, "mode": "check", "combine": "set"},
            ValueError,
            "cannot write f64[3] to positions of shape (2)",
        ),
    ),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    out = []
    for k, (x, s, axes, b) in enumerate(GATHERS):
        for combine in ("set", "add", "mul", "min", "max"):
            if dtype.kind == "b" and combine in ("add", "mul"):
                continue
            for mode in ("check", "promise", "clip", "wrap") if k < 2 and combine in ("set", "mul") else ("check",):
                idx = _indices(rng, x, s, axes, mode)
                where: dict[str, Any] = {"axes": axes, "batch_dims": b, "mode": mode}
                shape = _loop_gather(**where)(np.empty(x), *idx).shape
                target, updates = values(rng, dtype, x, -2.0, 2.0), values(rng, dtype, shape, -1.9, 2.1)
                out.append(
                    sample(
                        "scatter",
                        target,
                        updates,
                        *idx,
                        combine=combine,
                        oracle=_loop_scatter(**where, combine=combine),
                        **where,
                    )
                )
    return out


# -- sort -------------------------------------------------------------------------------------------------------------


@row(
    "sort",
    ALL,
    errors=(
        Bad(
            (np.ones(3),),
            {"axis": 1, "num_keys": 1, "stable": True},
            ValueError,
            "axis 1 with 1 keys does not fit f64[3]",
        ),
    ),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    out = []
    for a, x in SCANNED:
        out.append(
            sample(
                "sort",
                values(rng, dtype, a),
                axis=x,
                num_keys=1,
                stable=False,
                oracle=lambda v, x=x: np.sort(v, axis=x),
            )
        )
        out.append(sample("sort", values(rng, dtype, a), values(rng, dtype, a), axis=x, num_keys=1, stable=True))
    keys = np.asarray([1, 0, 1, 0, 1])
    out.append(
        sample("sort", keys, values(rng, dtype, (5,)), values(rng, dtype, (5,)), axis=0, num_keys=2, stable=True)
    )
    return out


@row(
    "searchsorted",
    ALL,
    flat=True,
    errors=(Bad((np.ones(3), np.ones(2)), {"side": "up"}, ValueError, "side is 'left' or 'right'"),),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    cases: list[tuple[Any, ...]] = [
        ((4,), (3,)),
        ((4,), ()),
        ((4,), (2, 3)),
        ((2, 4), (2, 3)),
        ((2, 4), (2,)),
        ((0,), (3,)),
        ((3,), (0,)),
    ]
    return [
        sample("searchsorted", np.sort(values(rng, dtype, a), axis=-1), values(rng, dtype, v), side=side)
        for a, v in cases
        for side in ("left", "right")
    ]


@row(
    "positions",
    ("bool",),
    flat=True,
    errors=(Bad((np.ones(3),), {"size": 2}, TypeError, "positions: f64[3] is no array of bools"),),
)
def _(rng: Any, dtype: Any) -> list[Sample]:
    out = []
    for n, size in ((5, 3), (1, 1), (4, 0), (0, 0), (40, 13), (64, 64), (67, 2), (300, 150)):
        mask = np.zeros((2, n), dtype=bool)
        for line in mask:
            line[rng.permutation(n)[:size]] = True
        out += [sample("positions", mask, size=size), sample("positions", mask[0], size=size)]
    return out


# -- effects: no results to compare; tests/ops/test_effects.py ---------------------------------------------------------

# Ops that mean something under a transform only; tests/transforms tests them.
CALLS = ("psum", "pmax", "pmin", "all_gather", "custom_call", "checkpoint", "carried_key")

EFFECTS = ("check", "commit", "print", "callback")
