"""Random graphs for hypothesis: any mixture of elementwise ops, literals, views, updates and reductions.

`graphs()` draws a graph; `arrays_for(graph, rng)` makes inputs of its types. Half of the graphs have a symbolic dim.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from stager.ir.dims import Dim, is_static, symbol
from stager.ir.graph import Graph, Value
from tests.ir.build import Build

UNARY = {
    "f64": ("neg", "abs", "sqrt", "exp", "floor", "rint", "sin", "copy", "sign", "stop_gradient"),
    "i64": ("neg", "abs", "not_", "copy"),
    "b1": ("not_", "copy"),
}
BINARY = {
    "f64": ("add", "sub", "mul", "div", "maximum", "minimum", "pow"),
    "i64": ("add", "sub", "mul", "floordiv", "mod", "maximum", "minimum", "and_", "or_", "xor"),
    "b1": ("and_", "or_", "xor"),
}
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
LITERALS = {
    "f64": (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 4.0, 3.0, float("inf"), float("-inf"), float("nan")),
    "i64": (0, 1, -1, 2, 7),
    "b1": (True, False),
}
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, -2.75, 1e300, 5e-324, 3.0])
N = 5  # the run-time value of the symbolic dim


def arrays_for(graph: Graph, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    arrays = []
    for t in graph.input_types:
        shape = tuple(d if isinstance(d, int) else N for d in t.shape)
        if t.dtype.kind == "f":
            a = np.where(rng.random(shape) < 0.4, rng.choice(SPECIAL, shape), rng.standard_normal(shape) * 3)
        else:
            a = rng.integers(-4, 9, shape) if t.dtype.kind == "i" else rng.random(shape) < 0.5
        arrays.append(np.asarray(a).astype(t.dtype.np))
    return arrays


class _Drawn:
    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.b = Build()
        self.pool: list[Value] = []

    def pick(self, dtype: str | None = None, shape: Any = None) -> Value | None:
        fitting = [
            v
            for v in self.pool
            if (dtype is None or v.type.dtype.name == dtype) and (shape is None or v.type.shape == shape)
        ]
        return self.draw(st.sampled_from(fitting)) if fitting else None

    def one_of(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def literal(self, dtype: str, shape: Any) -> Value:
        return self.b.fill(self.one_of(LITERALS[dtype]), shape, dtype)

    def operand(self, dtype: str, shape: Any) -> Value:
        """A value of this type: an earlier one, a literal, or one broadcast to it."""
        choice = self.integer(0, 3)
        found = self.pick(dtype, shape) if choice else None
        if found is None and choice == 3 and shape:
            k = self.integer(0, len(shape) - 1)
            row = self.pick(dtype, (shape[k],))
            if row is not None:
                return self.b.broadcast(row, shape=shape, axes=(k,))
        return found if found is not None else self.literal(dtype, shape)

    # -- one step each -----------------------------------------------------------------------------------------------

    def unary(self, x: Value) -> Value:
        return getattr(self.b, self.one_of(UNARY[x.type.dtype.name]))(x)

    def binary(self, x: Value) -> Value:
        d = x.type.dtype.name
        y = self.operand(d, x.type.shape)
        args = (x, y) if self.integer(0, 1) else (y, x)
        name = self.one_of(COMPARE) if self.integer(0, 4) == 0 else self.one_of(BINARY[d])
        return getattr(self.b, name)(*args)

    def select(self, x: Value) -> Value:
        c = self.operand("b1", x.type.shape)
        y = self.operand(x.type.dtype.name, x.type.shape)
        return self.b.select(c, x, y) if self.integer(0, 1) else self.b.select(c, y, x)

    def convert(self, x: Value) -> Value:
        to = self.one_of(["f64", "f32", "i64", "i32", "b1"])
        back = self.one_of(["f64", "i64", "b1"])
        if x.type.dtype.kind == "f" and "b" not in to + back and ("i" in to or "i" in back):
            x = self.b.isnan(x)  # out of range: NumPy's own answer depends on the machine
        y = x if x.type.dtype.name == to else self.b.convert(x, to)
        return y if y.type.dtype.name == back else self.b.convert(y, back)

    def transpose(self, x: Value) -> Value:
        perm = self.draw(st.permutations(range(x.type.ndim)))
        return self.b.transpose(x, perm=tuple(perm))

    def reshape(self, x: Value) -> Value:
        shape = list(x.type.shape)
        kind = self.integer(0, 2)
        if kind == 0 and len(shape) < 4:
            shape.insert(self.integer(0, len(shape)), 1)
        elif kind == 1:
            shape = [d for d in shape if d != 1 or self.integer(0, 1)]
        elif len(shape) >= 2:
            k = self.integer(0, len(shape) - 2)
            shape[k : k + 2] = [shape[k] * shape[k + 1]]
        return self.b.reshape(x, shape=tuple(shape))

    def broadcast(self, x: Value) -> Value:
        shape = [self.integer(1, 3) if d == 1 else d for d in x.type.shape]
        axes = list(range(len(shape)))
        if len(shape) < 4:
            k = self.integer(0, len(shape))
            shape.insert(k, self.integer(1, 3))
            axes = [a + (a >= k) for a in axes]
        return self.b.broadcast(x, shape=tuple(shape), axes=tuple(axes))

    def region(self, shape: tuple[Dim, ...]) -> dict[str, Any]:
        starts: list[Dim] = []
        sizes: list[Dim] = []
        steps: list[int] = []
        for d in shape:
            if not is_static(d):
                kind = self.integer(0, 3)
                start, size, step = ((0, d, 1), (d - 1, d, -1), (1, d - 1, 1), (1, 2, 2))[kind]
            elif d == 0 or self.integer(0, 2) == 0:
                start, size, step = 0, d, 1
            else:
                step = self.one_of([1, 1, 2, -1])
                start = self.integer(0, d - 1)  # type: ignore[operator]
                room = (d - 1 - start) // step + 1 if step > 0 else start + 1  # type: ignore[operator]
                size = self.integer(0, room)
            starts.append(start)
            sizes.append(size)
            steps.append(step)
        return {"starts": tuple(starts), "sizes": tuple(sizes), "steps": tuple(steps)}

    def slice(self, x: Value) -> Value:
        return self.b.slice(x, **self.region(x.type.shape))

    def slice_update(self, x: Value) -> Value:
        region = self.region(x.type.shape)
        value = self.operand(x.type.dtype.name, region["sizes"])
        return self.b.slice_update(x, value, **region)

    def pad(self, x: Value) -> Value:
        amounts = [[self.integer(0, 2) for _ in x.type.shape] for _ in range(2)]
        interior = [self.integer(0, 1) if is_static(d) else 0 for d in x.type.shape]
        value = self.literal(x.type.dtype.name, ())
        return self.b.pad(x, value, low=tuple(amounts[0]), high=tuple(amounts[1]), interior=tuple(interior))

    def concatenate(self, x: Value) -> Value:
        axis = self.integer(0, x.type.ndim - 1)
        others = [self.operand(x.type.dtype.name, x.type.shape) for _ in range(self.integer(0, 2))]
        if self.integer(0, 1):
            region = self.region(x.type.shape)
            whole = {"starts": 0, "sizes": x.type.shape, "steps": 1}
            for k in range(x.type.ndim):
                if k != axis:
                    for name, full in whole.items():
                        values = list(region[name])
                        values[k] = full[k] if isinstance(full, tuple) else full
                        region[name] = tuple(values)
            others.append(self.b.slice(x, **region))
        return self.b.concatenate(x, *others, axis=axis)

    def reduce(self, x: Value) -> Value:
        axes = [k for k in range(x.type.ndim) if self.integer(0, 1)]
        names = {"f64": ("sum", "max", "min", "prod"), "i64": ("sum", "max", "min", "or"), "b1": ("or", "and")}
        name = self.one_of(names[x.type.dtype.name])
        if name in ("max", "min"):
            axes = [k for k in axes if x.type.shape[k] != 0]
        if x.type.dtype.name == "f64" and name in ("max", "min"):  # of 0.0 and -0.0 NumPy takes any
            x = self.b.add(x, self.b.fill(0.0, x.type.shape))
        return getattr(self.b, f"reduce_{name}")(x, axes=tuple(axes)) if axes else x

    def dot(self, x: Value) -> Value:
        if x.type.ndim < 2 or x.type.dtype.name != "f64":
            return x
        y = self.operand("f64", x.type.shape)
        y = self.b.transpose(y, perm=(*range(x.type.ndim - 2), x.type.ndim - 1, x.type.ndim - 2))
        k = x.type.ndim
        batch = tuple(range(k - 2))
        out = self.b.dot(x, y, contract=((k - 1,), (k - 2,)), batch=(batch, batch))
        return self.b.transpose(out, perm=(*batch, k - 1, k - 2))


STEPS = (
    "unary", "binary", "binary", "binary", "select", "convert", "transpose", "reshape", "broadcast", "slice", "slice",
    "slice_update", "slice_update", "pad", "concatenate", "reduce", "dot",
)  # fmt: skip


@st.composite
def graphs(draw: Any, max_steps: int = 14, steps: tuple[str, ...] = STEPS) -> Graph:
    d = _Drawn(draw)
    dims: list[Dim] = [1, 2, 3, symbol("n") if d.integer(0, 1) else 4]
    first = d.one_of(dims[1:])
    d.pool.append(d.b.input(f"f64[{dims[3]},{first}]"))
    d.pool.append(d.b.input(f"{d.one_of(['f64', 'i64', 'b1'])}[{first}]"))
    d.pool.append(d.literal("f64", (2, first)))
    d.pool.append(d.b.constant(SPECIAL[: 2 * 3].reshape(2, 3)))
    for _ in range(d.integer(1, max_steps)):
        x = d.one_of(d.pool[-4:])
        if x.type.ndim == 0 or (is_static(x.type.size) and x.type.size > 500):  # type: ignore[operator]
            x = d.pool[0]
        new = getattr(d, d.one_of(steps))(x)
        if new.type.dtype.name in UNARY:
            d.pool.append(new)
    outputs = [d.pool[-1]] + [d.one_of(d.pool) for _ in range(d.integer(0, 2))]
    return d.b.done(*outputs)
