"""The structural hash: equal for the same function however it was built, different for anything that changes code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from stager.ir.graph import Graph, Location, Node, Signature, SymbolDef
from stager.ir.hash import structural_hash
from stager.ir.op import op_named
from tests.ir.build import Build, chain


def one() -> Graph:
    b = Build()
    x = b.input("f64[3,n]")
    return b.done(b.mul(b.sin(x), x))


def test_insertion_order_and_names_do_not_matter() -> None:
    def build(swapped: bool, n: str, m: str) -> Graph:
        b = Build("g" + n)
        x, y = b.input(f"f64[{n},{m}]"), b.input(f"f64[{m}]")
        if swapped:
            t = b.cos(y)
            s = b.sin(x)
        else:
            s = b.sin(x)
            t = b.cos(y)
        return b.done(b.mul(s, b.broadcast(t, shape=x.shape, axes=(1,))), b.dim(dim=x.shape[0] * 2 + y.shape[0]))

    first = structural_hash(build(False, "n", "m"))
    assert structural_hash(build(True, "n", "m")) == first
    assert structural_hash(build(False, "zz", "a")) == first  # terms of expressions sort by name
    assert structural_hash(build(True, "a", "zz")) == first


def test_locations_paths_hints_and_meta_do_not_matter() -> None:
    b = Build()
    x = b.input("f64[3,n]")
    s = Node(op_named("sin"), (x,), {}, (x.type,), (), Location("a.py", 3, "f"), ("vmap",))
    b.g.add(s)
    g = b.done(b.mul(s.outputs[0], x))
    g.symbols["n"] = SymbolDef("shape", 0, 1, hint=64)
    g.meta["source"] = "x"
    assert structural_hash(g) == structural_hash(one())


def differing() -> dict[str, Graph]:
    graphs = {"base": one()}

    def add(name: str, make: Callable[[Build], Graph]) -> None:
        graphs[name] = make(Build())

    def marked(*path: str) -> Graph:
        b = Build()
        x = b.input("f64[3,n]")
        sin = b.sin(x)
        return b.done(b.g.add(Node(op_named("mul"), (sin, x), {}, (x.type,), path=path)).outputs[0])

    graphs["emitted by the backward pass"] = marked("grad", "backward")
    graphs["emitted by forward mode"] = marked("jvp")
    add("other op", lambda b: (lambda x: b.done(b.mul(b.cos(x), x)))(b.input("f64[3,n]")))
    add("other dtype", lambda b: (lambda x: b.done(b.mul(b.sin(x), x)))(b.input("f32[3,n]")))
    add("static shape", lambda b: (lambda x: b.done(b.mul(b.sin(x), x)))(b.input("f64[3,4]")))
    add("square symbol", lambda b: (lambda x: b.done(b.mul(b.sin(x), x)))(b.input("f64[n,n]")))
    add("two symbols", lambda b: (lambda x: b.done(b.mul(b.sin(x), x)))(b.input("f64[m,n]")))
    add("sub", lambda b: (lambda x: b.done(b.sub(b.sin(x), x)))(b.input("f64[3,n]")))
    add("sub swapped", lambda b: (lambda x: b.done(b.sub(x, b.sin(x))))(b.input("f64[3,n]")))
    add("sin twice", lambda b: (lambda x: b.done(b.mul(b.sin(x), b.sin(x))))(b.input("f64[3,n]")))
    add("sin shared", lambda b: (lambda s: b.done(b.mul(s, s)))(b.sin(b.input("f64[3,n]"))))
    add("two outputs", lambda b: (lambda x: b.done(b.mul(b.sin(x), x), x))(b.input("f64[3,n]")))
    add("dead node", lambda b: (lambda x: (b.cos(x), b.done(b.mul(b.sin(x), x)))[1])(b.input("f64[3,n]")))
    add("extra input", lambda b: (lambda x: (b.input("f64[]"), b.done(b.mul(b.sin(x), x)))[1])(b.input("f64[3,n]")))
    for name, value in {"0.0": 0.0, "-0.0": -0.0, "1.0": 1.0, "nan": float("nan")}.items():
        add(f"fill {name}", lambda b, v=value: b.done(b.fill(v, (3,))))
    add("fill f32", lambda b: b.done(b.fill(1.0, (3,), "f32")))
    add("constant", lambda b: b.done(b.constant([1.0, 1.0, 1.0])))
    add("constant f32", lambda b: b.done(b.constant([1.0, 1.0, 1.0], np.float32)))
    add("constant 2d", lambda b: b.done(b.constant([[1.0, 1.0, 1.0]])))
    add("constant -0", lambda b: b.done(b.constant([0.0, -0.0])))
    add("constant 0", lambda b: b.done(b.constant([0.0, 0.0])))
    for name, signature in {
        "write": Signature(writes=((0, 0),)),
        "alias": Signature(aliases={0: ("input", 0)}),
        "donated": Signature(donated=frozenset({0})),
        "layout": Signature(layouts={0: (8, 24)}),
        "other layout": Signature(layouts={0: (24, 8)}),
    }.items():
        g = one()
        g.signature = signature
        graphs[name] = g
    add("perm 10", lambda b: b.done(b.transpose(b.input("f64[3,3]"), perm=(1, 0))))
    add("perm 01", lambda b: b.done(b.transpose(b.input("f64[3,3]"), perm=(0, 1))))
    return graphs


def test_what_changes_code_changes_the_hash() -> None:
    seen: dict[str, str] = {}
    for name, g in differing().items():
        h = structural_hash(g)
        assert len(h) == 32
        assert h not in seen, f"{name!r} and {seen.get(h)!r} hash equal"
        seen[h] = name
    assert structural_hash(one(), ("fast_math",)) not in seen


def test_literals_hash_by_their_bits_in_their_dtype() -> None:
    def filled(value: object) -> str:
        b = Build()
        return structural_hash(b.done(b.fill(value, (3,))))

    assert filled(1) == filled(1.0) == filled(True) == filled(np.float32(1))


def test_data_symbols_are_named_by_what_defines_them() -> None:
    def build(name: str, other: str) -> Graph:
        b = Build()
        x, y = b.input("i64[]"), b.input("i64[]")
        u, v = b.abs(x), b.abs(y)
        k, j = b.data_symbol(name, u), b.data_symbol(other, v)
        return b.done(b.fill(1.0, (k, j)))

    assert structural_hash(build("k", "j")) == structural_hash(build("b", "z"))
    assert structural_hash(build("k", "j")) == structural_hash(build("z", "b"))


def test_the_same_in_another_process() -> None:
    code = "from tests.ir.test_hash import one, structural_hash; print(structural_hash(one()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == structural_hash(one())


@pytest.mark.parametrize("length", [10_000])
def test_long_chains(length: int) -> None:
    assert structural_hash(chain(length)) == structural_hash(chain(length))
    assert structural_hash(chain(length)) != structural_hash(chain(length + 3))
