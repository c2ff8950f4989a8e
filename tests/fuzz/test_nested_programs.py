"""Random programs of several arguments in containers: closures, transforms inside loops inside transforms, writes
through views that are held in containers, positions that repeat, `out=`; under Jacobians of Jacobians and mixed axes.

What `test_programs.py` does not write. Its oracles are the same: NumPy, loops over lanes, central differences, the
other mode, itself compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as some

import stager as st
from stager.runtime.structure import flatten, map_leaves
from tests.fuzz.test_programs import in_parts, load, search, unless_refused

# Every program takes p = {"a": f64[4,3], "b": (f64[3],)} and k, an f64; a and c hold f64[4,3], b and r hold f64[3].
STEPS = [
    ["h = lambda v: np.tanh(v * b[0] + k)", "{a} = {a} + h({a}[::-1])"],
    ["def inner(v, w=b):", "    v[1:] += w[:-1] * 0.3", "    return np.sin(v) * w", "r = inner({a}[2]) + b"],
    ["d = {{'x': {a}, 'y': [b, {a}[1:].T]}}", "d['y'][1][0] *= 0.5", "d['x'][0] += b * k", "r = d['y'][1].sum(1)"],
    ["{a}[[0, 0, 2]] = {a}[[1, 2, 3]] * 0.9"],
    ["{a}[[1, 3], [2, 0]] += k", "{a}[np.array([2, 0])] *= np.cos(r)"],
    ["np.add.at({a}, ([0, 0, 1], [1, 1, 2]), r * 0.2)", "np.multiply.at(r, [0, 0], 0.8)"],
    ["np.add({a}[0], b, out={a}[3])", "np.multiply({a}[:2], k, out={a}[2:])"],
    ["np.cumsum({a}, axis=0, out={a})", "{a} *= 0.4"],
    ["np.copyto({a}[1], r, where={a}[0] > 0.1)"],
    ["for i in range(3):", "    {a}[i + 1] += np.sin({a}[i]) * r[i]", "    r = r * 0.9 + {a}[i, ::-1] * 0.1"],
    ["for i in range(4):",
     "    if {a}[i, 0] > r[0]:", "        r[1] = {a}[i, 1]", "    else:", "        {a}[i] *= 0.8"],
    ["s = k", "while s < 3.0:", "    s = s * 1.6 + {a}[0, 1] ** 2", "    r = r + 0.1 * s * b"],
    ["r = st.vmap(lambda row: np.sin(row) @ b * k)({a})[:3] + r"],
    ["{a} = st.vmap(lambda row, x: row * x.sum() + b, in_dims=(1, None), out_dims=1)({a}.T, r).T * 0.3"],
    ["{a} = st.vmap(lambda col: np.cumsum(col) * k, in_dims=1, out_dims=1)({a})"],
    ["r = st.grad(lambda v: (np.sin(v) * {a}[1] * v[::-1]).sum())(b) + r"],
    ["r = st.jvp(lambda v: np.tanh(v @ {a}.T @ {a}), (r,), (b,))[1] * 0.3 + b"],
    ["r = st.vmap(st.grad(lambda v, w: (v**2 * np.cos(w)).sum()), in_dims=(0, None))({a}, b).sum(0) * 0.2"],
    ["last, rows = st.scan(lambda c, row: (np.tanh(c + row), c * row), r, {a})", "{a} = rows + last"],
    ["r = st.fori_loop(0, 3, lambda i, c: np.sin(c) + {a}[i] * 0.2, r)"],
    ["r = st.cond({a}[0, 0] > 0.1, lambda v: v * 1.2, lambda v: v - {a}[1], r)"],
    [
        "w = np.lib.stride_tricks.sliding_window_view({a}, 2, axis=0, writeable=True)",
        "w[1, :, 0] *= 0.7",
        "r = r + w[2, :, 1]",
    ],
    ["np.einsum('ii->i', {a}[1:])[:] = r * k"],
    ["{a}[:, 0], {a}[:, 1] = {a}[:, 1].copy(), {a}[:, 0] * 0.9"],
    ["{a}.T[1:][::-1][0] += k", "{a}[{a} > 0.4] *= 0.6"],
    ["rows = [row * 1.1 for row in {a}]", "rows[1][0] = k", "{a} = np.stack(rows[::-1])"],
    ["for row, x in zip({a}, range(4)):", "    row[x % 3] = row.mean() + b[x % 3]"],
    ["r = st.checkpoint(lambda v: np.exp(-v * v) * {a}[2])(r)"],
    ["q, t = np.linalg.qr({a} + np.eye(4, 3) * 2.0)", "{a} = q * t[0, 0] * 0.3"],
    ["{a} = {a} - st.stop_gradient({a}).mean() * 0.0 + np.where({a} > 0, {a}, 0.2 * {a})"],
]


@some.composite
def programs(draw: Callable[..., Any]) -> str:
    """The source of a function of (p, k) that returns {"out": (f64[4,3], f64[3]), "s": f64}."""
    lines = ["import numpy as np", "import stager as st", "", "def program(p, k):"]
    writes = draw(some.booleans())  # into the arguments themselves, or into copies
    lines.append("    a, (b,) = p['a'], p['b']" if writes else "    a, b = p['a'] * 1.0, p['b'][0] * 1.0")
    lines += ["    c, r = a[::-1] * 0.5, b * 1.0"]
    for _ in range(draw(some.integers(2, 5))):
        name = draw(some.sampled_from(["a", "a", "c"]))
        lines += ["    " + line.format(a=name) for line in draw(some.sampled_from(STEPS))]
    lines.append("    return {'out': (a + 0.5 * c, r * 1.0), 's': (a * c).sum() + k * r[0]}")
    return "\n".join(lines) + "\n"


def sample(seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return {"a": rng.uniform(-1, 1, (4, 3)), "b": (rng.uniform(-1, 1, 3),)}, float(rng.uniform(0.2, 1))


def own(tree: Any) -> Any:
    return map_leaves(np.array, tree)


def same(got: Any, want: Any, **tolerance: float) -> None:
    for x, y in zip(flatten(got)[0], flatten(want)[0], strict=True):
        np.testing.assert_allclose(x, y, **{"rtol": 1e-9, "atol": 1e-10, **tolerance})


def inner(x: Any, y: Any) -> Any:
    return sum(np.vdot(u, v) for u, v in zip(flatten(x)[0], flatten(y)[0], strict=True))


def stacked(trees: list[Any]) -> Any:
    return map_leaves(lambda *xs: np.stack(xs), trees[0], *trees[1:])


def moved(tree: Any, h: float, direction: Any) -> Any:
    return map_leaves(lambda x, t: np.array(x + h * t), tree, direction)


CHECKS = 6


def check(kind: int, source: str, seed: int) -> None:
    f = load(source)
    (p, k), (t, tk) = sample(seed), sample(seed + 1000)

    def scalar(p: Any, k: Any) -> Any:
        out = f(p, k)
        return out["s"] + (out["out"][0] ** 2).sum() + (np.sin(out["out"][1]) * 3.0).sum()

    gradient = st.grad(scalar, (0, 1))
    match kind:
        case 0:  # values and what is left of the arguments, compiled, functionalised
            left = own(p)
            want = f(left, k)
            pure = st.functionalize(f, remove="mutations_and_views")
            for g in (st.compile(f), pure, st.compile(st.functionalize(f))):
                for _ in range(2):
                    after = own(p)
                    same((g(after, k), after), (want, left))
        case 1:  # lanes along several axes, some shared, in chunks too
            lanes = [sample(seed + i) for i in range(3)]
            batch = {"a": np.stack([q["a"] for q, _ in lanes], axis=1), "b": (np.stack([q["b"][0] for q, _ in lanes]),)}
            ks = np.array([x for _, x in lanes])
            axes, out = ({"a": 1, "b": (0,)}, -1), {"out": (2, 0), "s": 0}
            rows = [f(own(q), x) for q, x in lanes]
            want = {"out": (np.stack([o["out"][0] for o in rows], axis=2), np.stack([o["out"][1] for o in rows])),
                    "s": np.array([o["s"] for o in rows])}  # fmt: skip
            for chunk in (None, 2):
                mapped = st.vmap(f, in_dims=axes, out_dims=out, chunk_size=chunk)
                same(mapped(own(batch), ks), want)
                same(st.compile(mapped)(own(batch), ks), want)
            shared = st.vmap(gradient, in_dims=(None, 0))
            if "p['a'] * 1.0" in source:
                same(shared(own(p), ks), stacked([gradient(own(p), x) for x in ks]), rtol=1e-8, atol=1e-9)
        case 2:  # both modes and their compiled forms against differences
            high, low = scalar(moved(p, 1e-6, t), k + 1e-6 * tk), scalar(moved(p, -1e-6, t), k - 1e-6 * tk)
            here = scalar(own(p), k)
            slope = (high - low) / 2e-6
            smooth = abs((high - here) / 1e-6 - (here - low) / 1e-6) < 1e-3 * (1 + abs(slope))
            found = gradient(own(p), k)
            along = st.jvp(scalar, (own(p), k), (t, tk))[1]
            np.testing.assert_allclose(inner(found, (t, tk)), along, rtol=1e-8, atol=1e-9)
            if smooth:
                np.testing.assert_allclose(along, slope, rtol=1e-4, atol=1e-5)
            same(st.compile(gradient)(own(p), k), found)
            same(st.compile(lambda p, k: st.jvp(scalar, (p, k), (t, tk))[1])(own(p), k), along)
        case 3:  # the second order, four ways
            def along(p: Any, k: Any) -> Any:
                return st.jvp(scalar, (p, k), (t, tk))[1]

            one = st.jvp(gradient, (own(p), k), (t, tk))[1]
            same(st.grad(along, (0, 1))(own(p), k), one, rtol=1e-7, atol=1e-8)
            same(st.grad(lambda p, k: inner(gradient(p, k), (t, tk)), (0, 1))(own(p), k), one, rtol=1e-7, atol=1e-8)
            same(st.compile(lambda p, k: st.jvp(gradient, (p, k), (t, tk))[1])(own(p), k), one, rtol=1e-8, atol=1e-9)
        case 4:  # Jacobians of Jacobians, in chunks, of a nested argument
            def rows(b: Any, k: Any) -> Any:
                out = f({"a": p["a"].copy(), "b": (b,)}, k)
                return np.stack([out["s"], out["out"][1].sum()])

            b = p["b"][0]
            one = st.jacfwd(st.jacrev(rows, (0, 1)), (0, 1))(b.copy(), k)
            two = st.compile(st.jacrev(st.jacfwd(rows, (0, 1), chunk_size=2), (0, 1)))(b.copy(), k)
            same(two, one, rtol=1e-7, atol=1e-8)
        case 5:  # derivatives of a batch, and a batch of derivatives of a batch
            lanes = [sample(seed + i) for i in range(2)]
            batch, ks = stacked([q for q, _ in lanes]), np.array([x for _, x in lanes])
            want = stacked([gradient(own(q), x) for q, x in lanes])
            whole = st.grad(lambda q, x: st.vmap(scalar)(q, x).sum(), (0, 1))
            same(whole(own(batch), ks), want, rtol=1e-8, atol=1e-9)
            same(st.compile(st.vmap(gradient))(own(batch), ks), want, rtol=1e-8, atol=1e-9)
            twice = st.compile(st.vmap(st.vmap(gradient)))
            wide = map_leaves(lambda x: np.array(x)[None], batch)
            same(twice(wide, ks[None]), map_leaves(lambda x: x[None], want), rtol=1e-8, atol=1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@in_parts
def test_nested_programs(part: int) -> None:
    def run(source: str, seed: int, kind: int) -> None:
        unless_refused(lambda source, seed: check(kind, source, seed), source, seed)

    search(run, part, programs(), some.integers(0, 1000), some.integers(0, CHECKS - 1))
