"""Which storages LLVM is told share no byte: those that never do, and only in programs with loops of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
import numpy as np
import pytest

import stager as st
from stager.codegen.aliases import Aliases
from stager.codegen.compile import compile_graph
from stager.codegen.program import Loop, Program, Storage, While, walk
from stager.codegen.target import Target
from stager.pipeline import optimize
from stager.transforms.shapes import trace_types


def program(f: Callable[..., Any], *specs: str) -> Program:
    return compile_graph(optimize(trace_types(f, specs, {}).graph), Target.host()).program


def told_apart(p: Program) -> set[tuple[str, str]]:
    """(storage, another that it is said to share no byte with), by name."""
    module = ir.Module("m")
    said = Aliases(module, p).said
    names = {id(s): s.name for s in [*p.storages, *(b.storage for b in (*p.inputs, *p.outputs))]}
    nodes = {m.get_reference(): [o.get_reference() for o in m.operands] for m in module.metadata}
    own: dict[str, str] = {}
    others: dict[str, list[str]] = {}
    for s, text in said.items():
        scope, noalias = (part.split(" ")[1] for part in text.removeprefix(", ").split(", "))
        (own_scope,) = nodes[scope]
        own[own_scope], others[names[s]] = names[s], nodes[noalias]
    return {(name, own[o]) for name, found in others.items() for o in found if o in own}


def turns(x: Any) -> Any:
    """Temporaries one after the other, which lie in the same bytes."""
    total = np.zeros(1000)
    for i in range(20):
        a = np.cumsum(x * (i + 1.0))
        b = np.sort(a[::-1] * x)
        c = np.cumsum(b - x)
        d = np.sort(c + b[::-1])
        total[i * 50 : i * 50 + 50] = d[:50]
    return total


def swapped(x: Any) -> Any:
    x = x.copy()
    for _ in range(20):
        x[1:-1] = 0.5 * (x[2:] + x[:-2])
    return x


def recurrence(x: Any, decay: Any) -> Any:
    out, seen = np.zeros(1000), np.zeros(1000)
    out[0] = x[0]
    for i in range(1, 1000):
        out[i] = decay * out[i - 1] + x[i]
        seen[i] = np.maximum(seen[i - 1], out[i])
    return out, seen


SPECS: dict[Callable[..., Any], tuple[str, ...]] = {
    turns: ("f64[1000]",),
    swapped: ("f64[1000]",),
    recurrence: ("f64[1000]", "f64[]"),
}


@pytest.mark.parametrize("f", SPECS)
def test_only_what_never_shares_a_byte_is_told_apart(f: Callable[..., Any], rng: np.random.Generator) -> None:
    for g in (f, st.grad(lambda *args: sum(np.sum(y * y) for y in np.atleast_2d(f(*args))))):
        p = program(g, *SPECS[f])
        found = told_apart(p)
        assert found
        temps = [s for s in p.storages if s.kind == "temp"]
        for a in temps:
            for b in temps:
                if shares(a, b):
                    assert (a.name, b.name) not in found
        for a, b in swaps(p):
            assert (a.name, b.name) not in found
        inputs = [b.storage.name for b in p.inputs]
        assert not any((a, b) in found for a in inputs for b in inputs)


def shares(a: Storage, b: Storage) -> bool:
    assert isinstance(a.offset, int)
    assert isinstance(b.offset, int)
    assert isinstance(a.nbytes, int)
    assert isinstance(b.nbytes, int)
    return a.offset < b.offset + b.nbytes and b.offset < a.offset + a.nbytes


def swaps(p: Program) -> list[tuple[Storage, Storage]]:
    found: list[tuple[Storage, Storage]] = []
    walk(p.steps, lambda s: found.extend(s.swaps) if isinstance(s, Loop | While) else None)
    return found


def test_some_temporaries_share_bytes_and_some_arrays_change_places() -> None:
    temps = [s for s in program(turns, "f64[1000]").storages if s.kind == "temp"]
    assert any(a is not b and shares(a, b) for a in temps for b in temps)
    assert swaps(program(swapped, "f64[1000]"))


def test_programs_without_loops_need_no_names() -> None:
    assert not told_apart(program(lambda x: np.cumsum(x) + np.sort(x), "f64[1000]"))


@pytest.mark.parametrize("f", SPECS)
def test_values(f: Callable[..., Any], rng: np.random.Generator) -> None:
    args = [rng.standard_normal(1000), np.float64(0.9)][: len(SPECS[f])]
    got, want = st.compile(f)(*args), f(*args)
    for g, w in zip(got, want, strict=True) if isinstance(want, tuple) else [(got, want)]:
        np.testing.assert_allclose(g, w, rtol=1e-11)
    for g, w in zip(*(np.atleast_2d(f(*args)) for f in (st.compile(f), f)), strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-11)


def test_what_a_loop_carries_stays_in_a_register() -> None:
    """The value read from the array that the turn before wrote is not loaded again, though another array is written."""
    text = compile_graph(optimize(trace_types(recurrence, SPECS[recurrence], {}).graph), Target.host()).llvm
    turns = [b for b in text.split("\n\n") if "fmul double" in b and "phi double" in b]
    assert turns
    assert all(b.count("load double") == b.count("fmul double") for b in turns)  # only of x
