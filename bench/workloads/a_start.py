"""What a user waits for before the first number: calls, first calls, processes, imports, growth of compile time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from bench.workload import FirstCall, Function, Inputs, Process, Scaling, Workload


def add_one(x: Any) -> Any:
    return x + 1


def _numba_add_one(jit: Any, prange: Any) -> Function:
    @jit
    def add_one(x: Any) -> Any:
        out = np.empty_like(x)
        for i in range(x.size):
            out[i] = x[i] + 1
        return out

    return add_one


def eight(rng: np.random.Generator, n: int, dtype: np.dtype[Any]) -> Inputs:
    return (rng.standard_normal(8).astype(dtype),)


def ten_to_two(d: Any) -> Any:
    return {"first": d["a0"] + d["a1"], "last": d["a8"] * d["a9"]}


def ten_arrays(rng: np.random.Generator, n: int, dtype: np.dtype[Any]) -> Inputs:
    return ({f"a{i}": rng.standard_normal(8).astype(dtype) for i in range(10)},)


def make_add(salt: int) -> Function:
    c = 1.0 + salt

    def add(x: Any) -> Any:
        return x + c

    return add


def make_nest(turns: int, salt: int) -> Function:
    """A loop nest whose trace and code are the same for any number of turns."""
    c = 1.0 + salt * 1e-3

    def nest(x: Any, y: Any) -> Any:
        s = x.copy()
        for _ in range(turns):
            for i in range(1, 9):
                s[i] = 0.5 * s[i - 1] + c * y[i]
        return s

    return nest


def chain_source(length: int, salt: int) -> str:
    """An elementwise chain whose operations neither fold nor repeat; one in twenty is a transcendental."""
    lines = ["def chain(x, y):", f"    v = x + {1.0 + salt * 1e-3!r}"]
    for i in range(1, length):
        c = 1.0 + ((i * 7919 + salt) % 1000) * 1e-3
        forms = (
            f"v * {c!r}",
            "v + y",
            f"v - {c!r}",
            "np.abs(v)",
            f"np.minimum(v, {c + 50!r})",
            f"v / {c!r}",
        )
        lines.append("    v = np.tanh(v)" if i % 20 == 0 else f"    v = {forms[i % 6]}")
    return "\n".join([*lines, "    return v", ""])


def make_chain(length: int, salt: int) -> Function:
    """Built from text without a file, as generated code is: tracing only, the source cannot be read."""
    scope: dict[str, Any] = {"np": np, "__name__": __name__}
    exec(chain_source(length, salt), scope)
    made: Function = scope["chain"]
    return made


def pair(rng: np.random.Generator) -> Inputs:
    return rng.standard_normal(1000), rng.standard_normal(1000)


def make_mlp(salt: int) -> Function:
    scale = 1.0 + salt * 1e-3

    def mlp(params: Any, x: Any) -> Any:
        h = x * scale
        for w, b in params[:-1]:
            h = np.maximum(h @ w + b, 0.0)
        w, b = params[-1]
        logits = h @ w + b
        return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))

    return mlp


def mlp_inputs(rng: np.random.Generator) -> Inputs:
    widths = (784, 512, 512, 10)
    params = [
        (rng.standard_normal((i, o)) / np.sqrt(i), np.zeros(o)) for i, o in itertools.pairwise(widths)
    ]
    return params, rng.standard_normal((128, 784))


COLD = """
import numpy as np
{imports}

def f(x, y):
    r = np.sqrt(x * x + y * y)
    return np.exp(-r) * np.where(x > y, x, y) / (1.0 + r)

x = np.linspace(-1.0, 1.0, 1000)
{run}
"""

WORKLOADS = (
    Workload(
        name="call x+1",
        group="calls",
        fn=add_one,
        inputs=eight,
        numba=_numba_add_one,
        torch=lambda torch: lambda x: x + 1,
        boundary="numpy",
        bars={"numpy": 0.25, "jax": 0.05},
        sizes=(8,),
        dtypes=("float64",),
        threads=(1,),
    ),
    Workload(
        name="call dict 10 to 2",
        group="calls",
        fn=ten_to_two,
        inputs=ten_arrays,
        torch=lambda torch: ten_to_two,
        bars={"jax": 0.15},
        sizes=(8,),
        dtypes=("float64",),
        threads=(1,),
    ),
    FirstCall(
        name="first call x+1",
        group="first calls",
        make=make_add,
        inputs=lambda rng: pair(rng)[:1],
        bars={"jax": 0.4},
    ),
    FirstCall(
        name="first call 200 ops",
        group="first calls",
        make=lambda salt: make_chain(200, salt),
        inputs=pair,
        bars={"jax": 0.4},
        numba=False,
    ),
    FirstCall(
        name="first call MLP forward",
        group="first calls",
        make=make_mlp,
        inputs=mlp_inputs,
        bars={"jax": 0.4},
        numba=False,
    ),
    Process(
        name="cold process",
        group="processes",
        scripts={
            "stager": COLD.format(imports="import stager as st", run="st.compile(f)(x, x[::-1])"),
            "jax": COLD.format(
                imports="import jax, jax.numpy as jnp\nnumpy, np = np, jnp",
                run="numpy.asarray(jax.jit(f)(x, x[::-1]))",
            ),
            "numba": COLD.format(imports="import numba", run="numba.njit(f, cache=True)(x, x[::-1])"),
        },
        bars={"jax": 0.5},
    ),
    Process(
        name="import",
        group="processes",
        scripts={
            name: f"import time\nstart = time.perf_counter()\nimport {name}\nprint(time.perf_counter() - start)\n"
            for name in ("stager", "numpy", "jax", "numba", "torch")
        },
        bars={"seconds": 0.3, "jax": 0.6},
    ),
    Scaling(
        name="compile 100 to 10,000 ops",
        group="compile time",
        make=make_chain,
        inputs=pair,
        sizes=(100, 300, 1000, 3000, 10_000),
        bars={"exponent": 1.1},
    ),
    Scaling(
        name="compile loops of 10 to 10,000 turns",
        group="compile time",
        make=make_nest,
        inputs=pair,
        sizes=(10, 100, 1000, 10_000),
        bars={"exponent": 0.1},
    ),
)
