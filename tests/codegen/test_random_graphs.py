"""Random graphs of elementwise ops, views, reductions, updates and gathers: fusion may not change a result."""

from __future__ import annotations

import random

import numpy as np
import pytest

from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, Value
from tests.codegen.build import G
from tests.codegen.run import compiled

SHAPES = [(), (1,), (5,), (12,), (3, 4), (4, 3), (6, 17), (2, 3, 4), (5, 1), (1, 5), (8, 8)]


def random_graph(seed: int, length: int) -> tuple[Graph, list[np.ndarray]]:
    """A graph of about `length` nodes over small arrays, and its arguments."""
    r = random.Random(seed)
    g = G()
    shapes = [r.choice(SHAPES) for _ in range(r.randint(1, 3))]
    values: list[Value] = [g.input(f"f64[{','.join(map(str, s))}]") for s in shapes]
    for _ in range(length):
        values.append(_step(r, g, values))
    count = r.randint(1, 4)
    outputs = r.sample(values[len(shapes) :], min(count, length))
    if values[-1] not in outputs:
        outputs.append(values[-1])
    graph = g.output(*outputs)
    rng = np.random.default_rng(seed)
    return graph, [rng.uniform(-1.5, 1.5, s) for s in shapes]


def _step(r: random.Random, g: G, values: list[Value]) -> Value:
    x = r.choice(values[-6:] if r.random() < 0.8 else values)
    n = x.type.ndim
    shape = x.shape
    kind = r.choice(
        ["map", "map", "map2", "map2", "view", "view", "reduce", "reduce", "update", "gather", "join", "scatter"]
    )
    if kind == "map":
        op = r.choice(["neg", "exp", "sin", "abs", "tanh", "floor", "sqrt"])
        if op == "exp":
            return g.exp(g.minimum(x, 2.0))
        return g.sqrt(g.abs(x)) if op == "sqrt" else g.emit(op, x)
    if kind == "map2":
        same = [v for v in values if v.shape == shape]
        smaller = [v for v in values if v.type.ndim <= n and shape[n - v.type.ndim :] == v.shape]
        y = r.choice(same if r.random() < 0.6 else smaller)
        op = r.choice(["add", "sub", "mul", "maximum", "minimum"])
        return getattr(g, op)(x, y)
    if kind == "view" and n:
        how = r.choice(["slice", "transpose", "reshape", "flip", "broadcast", "windows", "flat"])
        if how == "slice":
            return g.slice(x, *[slice(r.randint(0, d - 1), None, r.choice([1, 1, 2])) for d in shape])
        if how == "flip":
            return g.slice(x, *[slice(None, None, r.choice([1, -1])) for _ in shape])
        if how == "transpose":
            perm = list(range(n))
            r.shuffle(perm)
            return g.transpose(x, *perm)
        if how == "flat":
            return g.reshape(x, (int(np.prod(shape)),))
        if how == "broadcast" and n < 3:
            return g.broadcast(x, (r.choice([2, 3]), *shape))
        if how == "windows" and n < 3:
            size = r.randint(1, shape[-1])
            return g.emit("windows", x, axis=n - 1, size=size, step=r.choice([1, 1, 2]))
        total = int(np.prod(shape))
        options = [(a, total // a) for a in range(1, total + 1) if total % a == 0]
        return g.reshape(x, r.choice(options))
    if kind == "reduce" and n:
        axes = r.sample(range(n), r.randint(1, n))
        out = g.sum(x, *axes, kind=r.choice(["sum", "max", "min", "sum"]), keepdims=r.random() < 0.5)
        if r.random() < 0.6 and out.type.ndim == n:
            return g.sub(x, out)
        return out
    if kind == "update" and n:
        starts = [r.randint(0, d - 1) for d in shape]
        slices = [slice(s, s + r.randint(1, d - s)) for s, d in zip(starts, shape, strict=True)]
        piece = g.slice(x, *slices)
        value = g.mul(piece, 0.5) if r.random() < 0.5 else g.fill(r.random(), piece.shape)
        return g.update(x, value, *slices)
    if kind in ("gather", "scatter") and n:
        count = r.randint(1, 6)
        idx = g.constant(np.array([r.randint(-shape[0], shape[0] - 1) for _ in range(count)], np.int64))
        rows = g.gather(x, idx)
        if kind == "gather":
            return rows
        combine = r.choice(["set", "add", "max"])
        return g.emit("scatter", x, g.mul(rows, 2.0), idx, axes=(0,), batch_dims=0, mode="check", combine=combine)
    if kind == "join" and n:
        axis = r.randrange(n)
        others = [
            v
            for v in values
            if v.type.ndim == n
            and all(a == b or k == axis for k, (a, b) in enumerate(zip(v.shape, shape, strict=True)))
        ]
        y = r.choice(others)
        if x.shape[axis] + y.shape[axis] <= 40:
            return g.emit("concatenate", x, g.neg(y), axis=axis)
    return g.add(x, 1.0)


def run(seed: int, length: int) -> None:
    graph, arrays = random_graph(seed, length)
    want = evaluate_graph(graph, arrays)
    scale = max([1.0] + [float(np.max(np.abs(w), initial=0.0)) for w in want if np.all(np.isfinite(w))])
    got = compiled(graph, threads=seed % 2 == 0)(*arrays)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11 * scale, err_msg=f"seed {seed}, length {length}")


@pytest.mark.parametrize("block", range(5))
def test_random_graphs(block: int) -> None:
    for seed in range(20 * block, 20 * block + 20):
        run(seed, 4 + seed % 25)
