"""Every function that stager takes, with every keyword that NumPy gives it: compiled, of lanes, and differentiated.

NumPy says what is right: value, dtype, shape, what is left in `out=`, and which exception. Where the documentation
says that stager differs, `REFUSALS` names it here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import note, reject
from hypothesis import strategies as some

import stager as st
from stager.errors import StagerError
from stager.runtime.structure import flatten, map_leaves
from tests.fuzz.drawing import Draw
from tests.fuzz.keyword_table import FAMILIES, NAMES, function
from tests.fuzz.test_programs import in_parts, search

# What is refused by design: (where, a part of the message).
REFUSALS = [
    ("", "which stager does not support"),  # float16
    ("", "differs between the lanes"),  # sizes that data decides
    ("polymul", "a leading coefficient is 0"),
]


class Call:
    """One call: the arrays in it can be exchanged, everything else is as drawn."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.f = function(name)
        self.args, self.kwargs = FAMILIES[name](Draw(seed))
        self.given = list(arrays_in((self.args, self.kwargs)))

    def __str__(self) -> str:
        def shown(v: Any) -> str:
            return f"{v.dtype}{list(v.shape)} {v.ravel()[:8].tolist()}" if isinstance(v, np.ndarray) else repr(v)

        keywords = [f"{k}={shown(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join([*map(shown, self.args), *keywords])})"

    def of(self, *arrays: Any) -> Any:
        """The call with these in place of its arrays."""
        left = iter(arrays)

        def put(v: Any) -> Any:
            if isinstance(v, np.ndarray):
                return next(left)
            if isinstance(v, list | tuple) and any(isinstance(x, np.ndarray) for x in v):
                return type(v)(put(x) for x in v)
            return v

        args = [put(v) for v in self.args]
        return self.f(*args, **{k: put(v) for k, v in self.kwargs.items()})

    def owned(self) -> list[np.ndarray[Any, Any]]:
        return [x.copy() for x in self.given]


def arrays_in(v: Any) -> Any:
    if isinstance(v, np.ndarray):
        yield v
    elif isinstance(v, list | tuple | dict):
        for x in v.values() if isinstance(v, dict) else v:
            yield from arrays_in(x)


def outcome(f: Callable[..., Any], arrays: list[Any]) -> tuple[Any, Exception | None]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return f(*arrays), None
        except Exception as e:
            return None, e


def public(e: Exception) -> type:
    """The class that a caller of NumPy catches: its ufunc errors are TypeErrors of private names."""
    return next(c for c in type(e).__mro__ if c.__module__ in ("builtins", "numpy.exceptions", "numpy.linalg"))


def refused(call: Call, e: Exception | None) -> bool:
    said = any(call.name.startswith(name) and text in str(e) for name, text in REFUSALS)
    return isinstance(e, StagerError | ValueError) and said


def coarsest(call: Call, w: np.ndarray[Any, Any]) -> float:
    """The rounding of the coarsest floats that take part."""
    d = call.kwargs.get("dtype")
    kinds = [x.dtype for x in (*call.given, w)] + ([] if d is None else [np.dtype(d)])
    small = any((k.kind == "f" and k.itemsize == 4) or (k.kind in "iub" and k.itemsize <= 2) for k in kinds)
    return float(np.finfo(np.float32 if small else np.float64).eps)


def same(call: Call, got: Any, want: Any) -> None:
    ours, theirs = flatten(got)[0], flatten(want)[0]
    assert len(ours) == len(theirs)
    for g, w in zip(ours, theirs, strict=True):
        g, w = np.asarray(g), np.asarray(w)
        assert (g.dtype, g.shape) == (w.dtype, w.shape)
        if w.dtype.kind != "f":
            np.testing.assert_array_equal(g, w)
            continue
        with np.errstate(all="ignore"):
            scale = np.max(np.abs(w), initial=0, where=np.isfinite(w))
            atol = 20 * coarsest(call, w) * float(min(scale, np.finfo(np.float64).max / 1e6)) + 1e-300
        np.testing.assert_allclose(g, w, rtol=200 * coarsest(call, w), atol=atol)


def check_value(call: Call) -> None:
    theirs, ours = call.owned(), call.owned()
    want, missing = outcome(call.of, theirs)
    got, failed = outcome(st.compile(call.of), ours)
    if refused(call, failed):
        reject()
    if missing is not None:
        assert failed is not None, f"NumPy raises {missing!r}, stager gives {got}"
        assert isinstance(failed, public(missing)), f"NumPy raises {missing!r}, stager {failed!r}"
        return
    if failed is not None:
        raise failed
    same(call, got, want)
    same(call, ours, theirs)


def halved(x: np.ndarray[Any, Any]) -> Any:
    """Another array of this shape, in the same order where this is in order."""
    return x // 2 if x.dtype.kind in "iu" else x * x.dtype.type(0.5) if x.dtype.kind == "f" else x


def check_lanes(call: Call) -> None:
    """A batch is what its lanes are one by one."""
    if "out" in call.kwargs or "sorter" in call.kwargs or not call.given:
        reject()
    other = [halved(x) for x in call.given]
    wants = [outcome(call.of, [x.copy() for x in lane]) for lane in (call.given, other)]
    if any(missing for _, missing in wants):
        reject()
    leaves = [flatten(want)[0] for want, _ in wants]
    if any(np.shape(a) != np.shape(b) for a, b in zip(*leaves, strict=True)):
        reject()
    batch = [np.stack(pair) for pair in zip(call.given, other, strict=True)]
    got, failed = outcome(st.compile(st.vmap(call.of)), batch)
    if refused(call, failed):
        reject()
    if failed is not None:
        raise failed
    same(call, got, map_leaves(lambda a, b: np.stack([a, b]), wants[0][0], wants[1][0]))


def check_derivatives(call: Call) -> None:
    """Both modes agree, and agree with differences where these are to be trusted."""
    smooth = [k for k, x in enumerate(call.given) if x.dtype == np.float64 and np.isfinite(x).all()]
    want, missing = outcome(call.of, call.owned())
    if not smooth or "out" in call.kwargs or missing is not None:
        reject()
    leaves = flatten(want)[0]
    if not any(np.asarray(w).dtype == np.float64 for w in leaves):
        reject()

    def value(*moving: Any) -> Any:
        given = call.owned()
        for k, x in zip(smooth, moving, strict=True):
            given[k] = x
        return [w for w in flatten(call.of(*given))[0] if getattr(w, "dtype", np.dtype(type(w))) == np.float64]

    rng = np.random.default_rng(len(str(call)))
    points = [call.given[k] for k in smooth]
    directions = [rng.standard_normal(x.shape) for x in points]
    cts = [rng.standard_normal(np.shape(w)) for w in leaves if np.asarray(w).dtype == np.float64]

    def at(h: float) -> Any:
        return outcome(value, [np.asarray(x + h * t) for x, t in zip(points, directions, strict=True)])

    tangents, failed = outcome(lambda *xs: st.jvp(value, xs, tuple(directions))[1], points)
    if refused(call, failed):
        reject()
    if failed is not None:
        raise failed
    pulled, failed = outcome(lambda *xs: st.vjp(value, *xs)[1](cts), points)
    if failed is not None:
        raise failed
    tangents = [np.asarray(t) for t in tangents]
    if not all(np.isfinite(t).all() for t in tangents):
        reject()
    along = sum(np.vdot(c, t) for c, t in zip(cts, tangents, strict=True))
    across = sum(np.vdot(p, t) for p, t in zip(pulled, directions, strict=True))
    size = sum(np.abs(np.asarray(c * t)).sum() for c, t in zip(cts, tangents, strict=True))
    np.testing.assert_allclose(across, along, rtol=1e-8, atol=1e-9 * (1 + size))
    values = {h: at(h)[0] for h in (-2e-6, -1e-6, 0.0, 1e-6, 2e-6)}
    if any(v is None for v in values.values()):
        return
    for k, t in enumerate(tangents):
        around = [v[k] for v in values.values()]
        if any(np.shape(v) != t.shape or not np.isfinite(v).all() for v in around):
            continue
        wide, narrow = (np.asarray((values[h][k] - values[-h][k]) / (2 * h)) for h in (2e-6, 1e-6))
        ahead, behind = (np.asarray((values[h][k] - values[0.0][k]) / h) for h in (1e-6, -1e-6))
        fine = np.isclose(wide, narrow, rtol=1e-4, atol=1e-5) & np.isclose(ahead, behind, rtol=1e-3, atol=1e-3)
        steep = 1e-9 * np.max(np.abs(values[0.0][k]), initial=0)  # what rounding alone does to a difference
        np.testing.assert_allclose(t[fine], narrow[fine], rtol=1e-3, atol=1e-4 + steep)


CHECKS = [check_value, check_value, check_lanes, check_derivatives]


@in_parts
def test_keywords(part: int) -> None:
    def run(name: str, seed: int, kind: int) -> None:
        call = Call(name, seed)
        note(str(call))
        CHECKS[kind](call)

    kinds = some.integers(0, len(CHECKS) - 1)
    search(run, part, some.sampled_from(NAMES), some.integers(0, 2**31), kinds, least=60)
