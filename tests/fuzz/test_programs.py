"""Random NumPy programs with views, writes, loops and branches, under up to four nested transforms.

A program is source text, as a user would write it, put into a file so that stager reads it. What it must equal: NumPy
for its value, a loop for vmap, central differences for derivatives, itself compiled. `make fuzz` runs 2,000 of them.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, reject, settings
from hypothesis import seed as seed_of_part
from hypothesis import strategies as some

import stager as st
from stager.errors import MutationError

N, M = 4, 3  # every array of a program is f64[N, M], rows are f64[M], columns f64[N]
_counter = itertools.count()
_folder = tempfile.TemporaryDirectory(prefix="stager-fuzz-")

UNARY = [
    "np.sin({})",
    "np.tanh({})",
    "np.exp(-{} * {})",
    "{} * 0.5",
    "-{}",
    "np.sqrt({} * {} + 1.0)",
    "np.arctan({})",
    "np.log1p({} ** 2)",
    "np.clip({}, -0.8, 0.9)",
    "np.abs({})",
    "1.0 / (1.0 + np.exp(-{}))",
]
BINARY = [
    "{} + {}",
    "{} - {}",
    "{} * {}",
    "np.hypot({}, {} + 2.0)",
    "np.where({} > 0.1, {}, 0.3)",
    "{} / (1.5 + {} ** 2)",
    "np.maximum({}, {} * 0.7)",
    "np.minimum({}, {} + 0.1)",
    "np.logaddexp({}, {})",
    "{} @ ({}.T @ np.ones((4, 3))) * 0.1",
    "np.einsum('ij,kj->ik', {}, {})[:, :3] * 0.3",
    "np.take_along_axis({}, np.argsort({}, axis=0), axis=0)",
]
WHOLE = [
    "np.cumsum({}, axis=0)",
    "{}[::-1]",
    "np.roll({}, 1, axis=1)",
    "{} - {}.mean(axis=0)",
    "np.sort({}, axis=0)",
    "{}.T.copy().T",
    "np.concatenate([{}[1:], {}[:1]])",
    "np.broadcast_to({}.sum(axis=1)[:, None], (4, 3)) * 0.2",
    "np.exp({}) / np.exp({}).sum(axis=1, keepdims=True)",
    "({} - {}.mean(axis=1, keepdims=True)) / np.sqrt({}.var(axis=1, keepdims=True) + 0.1)",
    "{} * {}.max(axis=0)",
    "np.cumprod({} + 1.2, axis=1) * 0.4",
    "np.pad({}, ((1, 0), (0, 0)))[:4]",
    "np.stack([{}[0], {}[2]])[[0, 1, 1, 0]]",
    "np.diff({}, axis=1, append=0.5)",
    "np.lib.stride_tricks.sliding_window_view(np.pad({}, 1), (3, 3)).mean(axis=(2, 3))",
    "np.repeat({}[:2], 2, axis=0)",
    "np.tile({}[:1], (4, 1))",
    "np.flip({}, 1) * 0.9",
    "np.tril({}) + 0.1",
]
TARGETS = [
    "{}[1:]",
    "{}[::2]",
    "{}[:, 1]",
    "{}[0]",
    "{}.T[1]",
    "{}[1:][::-1]",
    "{}.reshape(12)[3:7]",
    "{}[:, ::-1][:, 0]",
    "{}[-1, 1:]",
    "{}[[0, 2]]",
    "{}[{} > 0.2]",
    "{}[...]",
    "{}[1:, 1:][::2, ::-1]",
    "{}.T[::-1][1:, 2]",
    "{}[[1, 0, 3], [0, 1, 2]]",
    "{}.ravel()[::5]",
    "{}[1:3].T[:2][::-1]",
    "{}[None, 2]",
    "np.swapaxes({}, 0, 1)[0]",
]
VIEWS = [
    "{}[1:]",
    "{}.T",
    "{}[::-1]",
    "{}[..., :2]",
    "{}.reshape(-1)",
    "{}[:2]",
    "{}[..., None]",
    "np.moveaxis({}, 0, -1)",
]
LOOPS = [
    ["for i in range(1, {n}):", "    {a}[i] = {a}[i - 1] * 0.5 + np.sin({b}[i])"],
    ["for i in range(1, {n}):", "    {a}[i] = {a}[i - 1] * 0.5 + np.sin({b}[i])", "    {b}[i, 0] += {a}[i, 1] * 0.3"],
    ["for i in range({n}):", "    for j in range(i):", "        {a}[i, j] -= {a}[i, :j] @ {b}[j, :j] * 0.4"],
    ["for i in range(3, 0, -1):", "    {a}[i - 1] += {a}[i] * 0.3"],
    [
        "for i in range({n}):",
        "    if {a}[i, 0] > 0.1:",
        "        {a}[i] *= 0.7",
        "    else:",
        "        {b}[i, 1] = {a}[i, 2]",
    ],
    ["for i in range(8):", "    {a} = {a} * 0.9 + {b} * 0.1", "    {a}[i % 4, 1] = 0.2 * i"],
    [
        "for i in range(6):",
        "    if i == 4:",
        "        break",
        "    if {a}[i % 4, 1] > 0.6:",
        "        continue",
        "    {a}[i % 4] += 0.1 * {b}[0]",
    ],
    ["s = 1.0", "while s < {n}.0:", "    s = s * 1.5 + {a}[0, 0] ** 2", "{a}[1] = {a}[1] * 0.5 + s * 0.1"],
    ["for row in {a}:", "    row[1:] += row[:-1] * 0.5"],
    ["s = 0.0", "for i in range({n}):", "    s = s + {a}[i].sum() * {b}[i, 0]", "{a}[0, 0] = s * 0.2"],
]
BRANCHES = [
    ["if {a}[0, 1] > 0.37:", "    {a}[1] *= 0.8", "else:", "    {a}[2] = {a}[0] * 1.1"],
    ["if {a}.sum() > {b}[0, 0]:", "    {a}[:, 0] = {b}[:, 1]", "elif {a}[1, 1] < 0:", "    {b}[1] *= 0.5"],
    ["{a} = {a} * 1.1 if {b}[2, 2] > 0 else {a} - 0.2"],
    ["if {a}[0, 0] > 0.3 and not {b}[1, 1] > 0.2:", "    {a} = {a} + {b}"],
]


def fill(template: str, names: list[str], draw: Callable[..., Any]) -> str:
    """A template with its holes filled by drawn names; repeated holes of one-operand templates take the same name."""
    first = draw(some.sampled_from(names))
    if template not in BINARY:
        return template.replace("{}", first)
    out = template
    while "{}" in out:
        out = out.replace("{}", draw(some.sampled_from(names)), 1)
    return out


@some.composite
def programs(draw: Callable[..., Any]) -> str:
    """The source of a function of x, an f64[N, M], that returns an f64[N, M]."""
    lines = ["import numpy as np", "", "def program(x):"]
    lines.append("    x = x.copy()" if draw(some.booleans()) else "    x = x + 0.0")
    names, viewed = ["x"], set()
    kinds = ["new", "new", "write", "write", "update", "out", "views", "loop", "branch"]
    for _ in range(draw(some.integers(2, 6))):
        kind = draw(some.sampled_from(kinds))
        fresh = f"v{len(names)}"
        a, b = draw(some.sampled_from(names)), draw(some.sampled_from(names))
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
            case "out":
                call = draw(
                    some.sampled_from(
                        [
                            "np.multiply({a}, {b}, out={a})",
                            "np.add({a}[0], {b}[1], out={a}[2])",
                            "np.copyto({a}[1:3], {b}[0])",
                            "np.add.at({a}, [0, 0, 2], {b}[1] * 0.5)",
                            "{a}[1].fill({b}[0, 0])",
                            "{a}[:, 0].sort()",
                            "np.sin({a}, out={a}, where={b} > 0)",
                            "np.put({a}, [1, 4], 0.3)",
                            "np.fill_diagonal({a}, {b}[3, 2])",
                        ]
                    )
                )
                lines.append(f"    {call.format(a=a, b=b)}")
            case "views":  # a chain of views of one array, written while base and views are all in use
                view = a
                viewed.add(a)
                for _ in range(draw(some.integers(1, 3))):
                    more = f"w{len(lines)}"
                    lines.append(f"    {more} = {draw(some.sampled_from(VIEWS)).format(view, '')}".replace("{}", view))
                    view = more
                lines.append(f"    {view}[0] *= 0.5")
                lines.append(f"    {view}[-1:] += {b}[0, 0]")
                lines.append(f"    {fresh} = {a} + {view}.sum() * 0.1")
                names.append(fresh)
            case "loop" | "branch":
                n = draw(some.integers(2, N))
                blocks = LOOPS if kind == "loop" else BRANCHES
                if a in viewed:  # which array a name stands for must be known where it is written and views of it live
                    blocks = [block for block in blocks if not any("{a} = " in line for line in block)]
                block = draw(some.sampled_from(blocks))
                lines += ["    " + line.format(a=a, b=b, n=n) for line in block]
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
    """The central difference of f at x along t, and whether it is to be trusted (no jump or kink within the step)."""
    here = f(x)
    points = {k: f(x + k * t) for k in (-2 * h, -h, h, 2 * h)}
    wide, narrow = [(points[k] - points[-k]) / (2 * k) for k in (2 * h, h)]
    ahead, behind = (points[h] - here) / h, (here - points[-h]) / h
    smooth = np.allclose(wide, narrow, rtol=1e-4, atol=1e-5) and np.allclose(ahead, behind, rtol=1e-3, atol=1e-3)
    return narrow, smooth


# The default profile keeps `make test` short; `make fuzz` runs as many programs as its profile says, in parts with
# seeds of their own: they run beside each other, progress is seen, and a part that fails can be run again alone.
PART = 50
WHOLE_RUN = settings().max_examples > PART
PARTS = settings().max_examples // PART if WHOLE_RUN else 1
CHECKED = settings(
    max_examples=PART if WHOLE_RUN else 10, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
in_parts = pytest.mark.parametrize("part", range(PARTS))


def search(check: Callable[..., None], part: int, *strategies: Any, least: int = 0) -> None:
    """Run a check on many examples of its arguments, `least` or more."""
    chosen = settings(CHECKED, max_examples=max(CHECKED.max_examples, least))
    seed_of_part(part)(chosen(given(*strategies)(check)))()


REFUSED = ("an array whose place is not known", "may have been written under another name")


def unless_refused(check: Callable[[str, int], None], source: str, seed: int) -> None:
    """Programs that bind a name anew in a traced branch while something else holds its array are refused by design."""
    note(source)
    try:
        check(source, seed)
    except MutationError as e:
        if not any(text in str(e) for text in REFUSED):
            raise
        reject()


def refused_by_numpy(f: Callable[..., Any], x: np.ndarray[Any, Any]) -> bool:
    """Whether the program is none, taking an element of an empty view: stager has to say so with the same error."""
    try:
        f(x.copy())
    except IndexError:
        with pytest.raises(IndexError):
            st.compile(f)(x.copy())
        return True
    return False


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@in_parts
def test_value_compiled_and_written_arguments(part: int) -> None:
    def check(source: str, seed: int) -> None:
        unless_refused(check_value, source, seed)

    search(check, part, programs(), some.integers(0, 1000))


def check_value(source: str, seed: int) -> None:
    f, x = load(source), sample(seed)
    if refused_by_numpy(f, x):
        return
    want = f(x.copy())
    compiled = st.compile(f)
    for _ in range(2):
        np.testing.assert_allclose(compiled(x.copy()), want, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(st.functionalize(f)(x.copy()), want, rtol=1e-10, atol=1e-12)
    pure = st.compile(st.functionalize(f, remove="mutations_and_views"))
    np.testing.assert_allclose(pure(x.copy()), want, rtol=1e-10, atol=1e-12)


NESTS = 10


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@in_parts
def test_nested_transforms(part: int) -> None:
    def check(source: str, seed: int, nest: int) -> None:
        unless_refused(functools.partial(check_nest, nest), source, seed)

    search(check, part, programs(), some.integers(0, 1000), some.integers(0, NESTS - 1))


def check_nest(nest: int, source: str, seed: int) -> None:
    f, x, t = load(source), sample(seed), sample(seed + 1)
    if refused_by_numpy(f, x):
        return

    def scalar(x: Any) -> Any:
        return (f(x) ** 2).sum()

    gradient = st.grad(scalar)
    same, close = {"rtol": 1e-10, "atol": 1e-12}, {"rtol": 1e-9, "atol": 1e-11}
    match nest:
        case 0:  # both modes against differences
            slope, smooth = differences(scalar, x, t)
            if smooth:
                np.testing.assert_allclose((gradient(x) * t).sum(), slope, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(st.jvp(scalar, (x,), (t,))[1], (gradient(x) * t).sum(), rtol=1e-9, atol=1e-10)
        case 1:  # vmap of the value and of the gradient is a loop
            xs = sample(seed, 3)
            np.testing.assert_allclose(st.vmap(f)(xs), np.stack([f(v.copy()) for v in xs]), **same)
            np.testing.assert_allclose(st.vmap(gradient)(xs), np.stack([gradient(v) for v in xs]), **close)
        case 2:  # compiled vmap of grad, and grad of vmap
            xs = sample(seed, 2)
            want = np.stack([gradient(v) for v in xs])
            np.testing.assert_allclose(st.compile(st.vmap(gradient))(xs), want, **close)
            whole = st.grad(lambda xs: st.vmap(scalar)(xs).sum())
            np.testing.assert_allclose(whole(xs), want, **close)
        case 3:  # forward over reverse is reverse over forward, functionalised inside and outside
            one = st.jvp(gradient, (x,), (t,))[1]
            two = st.grad(lambda x: st.jvp(scalar, (x,), (t,))[1])(x)
            np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-9)
            pure = st.functionalize(st.grad(st.functionalize(scalar)))(x)
            np.testing.assert_allclose(pure, gradient(x), **same)
        case 4:  # four levels: vmap of jvp of grad of functionalize, compiled
            xs = sample(seed, 2)
            product = st.vmap(lambda x: st.jvp(st.grad(st.functionalize(scalar)), (x,), (t,))[1])
            want = np.stack([st.jvp(gradient, (v,), (t,))[1] for v in xs])
            np.testing.assert_allclose(st.compile(product)(xs), want, rtol=1e-8, atol=1e-9)
        case 5:  # the second order against differences of the gradient, and reverse over reverse
            slope, smooth = differences(gradient, x, t)
            one = st.hvp(scalar, (x,), (t,))[1]
            if smooth:
                np.testing.assert_allclose(one, slope, rtol=1e-4, atol=1e-5)
            two = st.grad(lambda x: (gradient(x) * t).sum())(x)
            np.testing.assert_allclose(one, two, rtol=1e-8, atol=1e-9)
        case 6:  # batches of batches, along other axes
            xs = sample(seed, 2, 2)
            want = np.stack([[gradient(v) for v in row] for row in xs])
            moved = np.moveaxis(xs, 1, -1)
            got = st.compile(st.vmap(st.vmap(gradient, in_dims=-1, out_dims=1)))(moved)
            np.testing.assert_allclose(got, np.moveaxis(want, 1, 2), **close)
        case 7:  # four levels: grad of vmap of jvp of vmap
            xs = sample(seed, 2, 2)

            def inner(rows: Any) -> Any:
                return st.jvp(lambda rows: st.vmap(scalar)(rows).sum(), (rows,), (np.stack([t, t * 0.5]),))[1]

            got = st.grad(lambda xs: st.vmap(inner)(xs).sum())(xs)
            want = np.stack(
                [[st.hvp(scalar, (row[0],), (t,))[1], st.hvp(scalar, (row[1],), (t * 0.5,))[1]] for row in xs]
            )
            np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-9)
        case 8:  # linearize, vjp and checkpoint
            y, push = st.linearize(f, x)
            np.testing.assert_allclose(y, f(x.copy()), **close)
            np.testing.assert_allclose(push(t), st.jvp(f, (x,), (t,))[1], **close)
            (pulled,) = st.vjp(f, x)[1](t)
            np.testing.assert_allclose((pulled * t).sum(), (push(t) * t).sum(), rtol=1e-8, atol=1e-9)
            np.testing.assert_allclose(st.compile(st.grad(st.checkpoint(scalar)))(x), gradient(x), **close)
        case 9:  # Jacobians by both modes, and in chunks
            forward, reverse = st.jacfwd(f)(x), st.compile(st.jacrev(f, chunk_size=5))(x)
            np.testing.assert_allclose(forward, reverse, rtol=1e-8, atol=1e-9)
