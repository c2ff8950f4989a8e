"""Random NumPy programs with views, writes, loops and branches, under up to four nested transforms.

A program is source text, as a user would write it, put into a file so that stager reads it. What it must equal: NumPy
for its value, a loop for vmap, central differences for derivatives, itself compiled. `make fuzz` runs 2,000 of them.
"""

from __future__ import annotations

import importlib.util
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as some

import stager as st

N, M = 4, 3  # every array of a program is f64[N, M], rows are f64[M], columns f64[N]
_counter = itertools.count()
_folder = tempfile.TemporaryDirectory(prefix="stager-fuzz-")

UNARY = ["np.sin({})", "np.tanh({})", "np.exp(-{} * {})", "{} * 0.5", "-{}", "np.sqrt({} * {} + 1.0)", "np.arctan({})"]
BINARY = [
    "{} + {}",
    "{} - {}",
    "{} * {}",
    "np.hypot({}, {} + 2.0)",
    "np.where({} > 0.1, {}, 0.3)",
    "{} / (1.5 + {} ** 2)",
]
WHOLE = ["np.cumsum({}, axis=0)", "{}[::-1]", "np.roll({}, 1, axis=1)", "{} - {}.mean(axis=0)", "np.sort({}, axis=0)",
         "{}.T.copy().T", "np.concatenate([{}[1:], {}[:1]])",
         "np.broadcast_to({}.sum(axis=1)[:, None], (4, 3)) * 0.2"]  # fmt: skip
TARGETS = ["{}[1:]", "{}[::2]", "{}[:, 1]", "{}[0]", "{}.T[1]", "{}[1:][::-1]", "{}.reshape(12)[3:7]",
           "{}[:, ::-1][:, 0]", "{}[-1, 1:]", "{}[[0, 2]]", "{}[{} > 0.2]"]  # fmt: skip


def fill(template: str, names: list[str], draw: Callable[..., Any]) -> str:
    """A template with its holes filled by drawn names; repeated holes of one-operand templates take the same name."""
    first = draw(some.sampled_from(names))
    if template in UNARY or template in WHOLE or template in TARGETS:
        return template.replace("{}", first)
    out = template
    while "{}" in out:
        out = out.replace("{}", draw(some.sampled_from(names)), 1)
    return out


@some.composite
def programs(draw: Callable[..., Any]) -> str:
    """The source of a function of x, an f64[N, M], that returns an f64[N, M] or a scalar."""
    lines = [
        "import numpy as np",
        "",
        "def program(x):",
        "    x = x.copy()" if draw(some.booleans()) else "    x = x + 0.0",
    ]
    names = ["x"]
    for _ in range(draw(some.integers(2, 6))):
        kind = draw(some.sampled_from(["new", "new", "write", "write", "update", "view", "loop", "branch"]))
        fresh = f"v{len(names)}"
        match kind:
            case "new":
                template = draw(some.sampled_from([*UNARY, *BINARY, *WHOLE]))
                lines.append(f"    {fresh} = {fill(template, names, draw)}")
                if template == "{}[::-1]":
                    lines.append(f"    {fresh} = {fresh} * 1.0")
                names.append(fresh)
            case "write":
                target = fill(draw(some.sampled_from(TARGETS)), names, draw)
                value = draw(some.sampled_from(["0.25", "1.5", "x.sum() * 0.1", "np.sin(x[1, 1])"]))
                lines.append(f"    {target} = {value}")
            case "update":
                target = fill(draw(some.sampled_from(TARGETS)), names, draw)
                change = draw(some.sampled_from(["*= 0.7", "+= x[0, 0]", "-= 0.1", "*= x[2, 1]"]))
                lines.append(f"    {target} {change}")
            case "view":
                base, view = draw(some.sampled_from(names)), f"w{len(lines)}"
                lines.append(f"    {view} = {base}[1:].T")
                lines.append(f"    {view}[0] *= 0.5")
                lines.append(f"    {view}[1:, 0] += {base}[0, 0]")
            case "loop":
                a, b = draw(some.sampled_from(names)), draw(some.sampled_from(names))
                lines.append(f"    for i in range(1, {draw(some.integers(2, N))}):")
                lines.append(f"        {a}[i] = {a}[i - 1] * 0.5 + np.sin({b}[i])")
                if draw(some.booleans()):
                    lines.append(f"        {b}[i, 0] += {a}[i, 1] * 0.3")
            case "branch":
                a = draw(some.sampled_from(names))
                lines.append(f"    if {a}[0, 1] > 0.37:")
                lines.append(f"        {a}[1] *= 0.8")
                lines.append("    else:")
                lines.append(f"        {a} = {a} * 1.1")
    lines.append(f"    return {draw(some.sampled_from(names))} * 1.0")
    return "\n".join(lines) + "\n"


def load(source: str) -> Callable[..., Any]:
    """The program as a function whose source can be read."""
    name = f"program_{next(_counter)}"
    path = Path(_folder.name) / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., Any] = module.program
    return found


def sample(seed: int, *lead: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(-1, 1, (*lead, N, M))


def differences(f: Callable[..., Any], x: np.ndarray[Any, Any], t: np.ndarray[Any, Any], h: float = 1e-6) -> Any:
    """The central difference of f at x along t, and whether it is to be trusted (no jump within the step)."""
    wide, narrow = [(f(x + k * t) - f(x - k * t)) / (2 * k) for k in (2 * h, h)]
    return narrow, np.allclose(wide, narrow, rtol=1e-4, atol=1e-5)


# the default profile keeps `make test` short; `make fuzz` runs as many as its profile says
EXAMPLES = 10 if settings().max_examples <= 50 else settings().max_examples
CHECKED = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@CHECKED
@given(programs(), some.integers(0, 1000))
def test_value_compiled_and_written_arguments(source: str, seed: int) -> None:
    note(source)
    f, x = load(source), sample(seed)
    want = f(x.copy())
    compiled = st.compile(f)
    for _ in range(2):
        np.testing.assert_allclose(compiled(x.copy()), want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(st.functionalize(f)(x.copy()), want, rtol=1e-10, atol=1e-12)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@CHECKED
@given(programs(), some.integers(0, 1000), some.integers(0, 4))
def test_nested_transforms(source: str, seed: int, nest: int) -> None:
    note(source)
    f, x, t = load(source), sample(seed), sample(seed + 1)

    def scalar(x: Any) -> Any:
        return (f(x) ** 2).sum()

    gradient = st.grad(scalar)
    slope, smooth = differences(scalar, x, t)
    close = {"rtol": 1e-5, "atol": 1e-6}
    match nest:
        case 0:  # both modes against differences
            if smooth:
                np.testing.assert_allclose((gradient(x) * t).sum(), slope, **close)
            np.testing.assert_allclose(st.jvp(scalar, (x,), (t,))[1], (gradient(x) * t).sum(), rtol=1e-9, atol=1e-10)
        case 1:  # vmap of the value and of the gradient is a loop
            xs = sample(seed, 3)
            np.testing.assert_allclose(st.vmap(f)(xs), np.stack([f(v.copy()) for v in xs]), rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(
                st.vmap(gradient)(xs), np.stack([gradient(v) for v in xs]), rtol=1e-9, atol=1e-11
            )
        case 2:  # compiled vmap of grad, and grad of vmap
            xs = sample(seed, 2)
            want = np.stack([gradient(v) for v in xs])
            np.testing.assert_allclose(st.compile(st.vmap(gradient))(xs), want, rtol=1e-9, atol=1e-11)
            whole = st.grad(lambda xs: st.vmap(scalar)(xs).sum())
            np.testing.assert_allclose(whole(xs), want, rtol=1e-9, atol=1e-11)
        case 3:  # forward over reverse is reverse over forward, functionalised inside and outside
            one = st.jvp(gradient, (x,), (t,))[1]
            two = st.grad(lambda x: st.jvp(scalar, (x,), (t,))[1])(x)
            np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-9)
            pure = st.functionalize(st.grad(st.functionalize(scalar)))(x)
            np.testing.assert_allclose(pure, gradient(x), rtol=1e-10, atol=1e-12)
        case 4:  # four levels: vmap of jvp of grad of functionalize, compiled
            xs = sample(seed, 2)
            product = st.vmap(lambda x: st.jvp(st.grad(st.functionalize(scalar)), (x,), (t,))[1])
            want = np.stack([st.jvp(gradient, (v,), (t,))[1] for v in xs])
            np.testing.assert_allclose(st.compile(product)(xs), want, rtol=1e-8, atol=1e-9)
