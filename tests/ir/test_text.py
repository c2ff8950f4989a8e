"""The text form: what is printed, and that parsing it gives the same graph back."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.ir.dims import floordiv, symbol
from stager.ir.graph import Graph, Location, Node, Signature, SymbolDef
from stager.ir.hash import structural_hash
from stager.ir.op import op_named
from stager.ir.parse import ParseError, _parse_param, _take_strings, parse_graph
from stager.ir.text import format_param, print_graph
from stager.ir.types import parse_type
from stager.ir.verify import verify
from tests.ir.build import Build, chain


def round_trip(graph: Graph) -> Graph:
    text = print_graph(graph, locations=True, version=True)
    back = parse_graph(text)
    verify(back)
    assert print_graph(back, locations=True, version=True) == text
    assert structural_hash(back) == structural_hash(graph)
    assert back.signature == graph.signature
    assert {n: (d.kind, d.axis, d.hint) for n, d in back.symbols.items()} == {
        n: (d.kind, d.axis, d.hint) for n, d in graph.symbols.items()
    }
    return back


def everything() -> Graph:
    b = Build()
    x, y, k = b.input("f64[3,n]"), b.input("f64[3]"), b.input("i64[]")
    i = b.value_symbol("i", k)
    b.g.symbols["s"] = SymbolDef("stride", 0, 1)
    b.g.symbols["n"] = SymbolDef("shape", 0, 1, hint=128)
    t = b.transpose(x, perm=(1, 0))
    m = b.mul(t, b.broadcast(y, shape=(symbol("n"), 3), axes=(1,)))
    head = b.slice(m, starts=(i, 0), sizes=(floordiv(symbol("n"), 2), 3), steps=(1, 1))
    c = b.constant([1.5, -0.0, np.inf])
    count = b.convert(b.reshape(b.slice(y, starts=(0,), sizes=(1,), steps=(1,)), shape=()), "i64")
    j = b.data_symbol("j", count)
    big = b.constant(np.arange(100, dtype=np.int32).reshape(4, 25))
    filled = b.fill(-0.0, ["j"])
    g = b.done(head, c, big, filled, b.dim(dim=j * 2 + 1), x)
    g.signature = Signature(((0, 5),), {5: ("input", 0)}, frozenset({1}), {0: (symbol("s") * 3, symbol("s"))})
    return g


def test_printed_form(golden) -> None:
    golden(print_graph(everything()))


def test_round_trip_of_everything() -> None:
    round_trip(everything())


def test_locations_and_paths() -> None:
    b = Build("a graph, named: oddly")
    x = b.input("f64[]")
    where = Location('dir with "quotes" : and, more.py', 12, "loss")
    node = Node(op_named("sin"), (x,), {}, (x.type,), (), where, ("vmap", "grad"))
    b.g.add(node)
    back = round_trip(b.done(node.outputs[0]))
    (_, copy) = back
    assert (copy.loc, copy.path) == (node.loc, node.path)
    assert " under " not in print_graph(b.g)


FLOATS = st.one_of(
    st.floats(width=64),
    st.integers(0, 2**64 - 1).map(lambda i: struct.unpack("<d", struct.pack("<Q", i))[0]),
    st.sampled_from([-0.0, 5e-324, float("inf"), float("-inf"), 0.1]),
)
SCALARS = st.one_of(
    st.integers(), FLOATS, st.booleans(), st.none(), st.text(), st.complex_numbers(),
    st.sampled_from([symbol("n"), symbol("n") * 2 - 1, floordiv(symbol("n") + 1, symbol("m"))]),
    st.sampled_from([parse_type("f32[3,n+1]"), parse_type("b1[]")]),
    st.sampled_from(["f64[2]", "i8[]", "u64[0,3]"]).map(lambda t: parse_type(t).dtype),
)  # fmt: skip
PARAMS = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12)


def same(a: object, b: object) -> bool:
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, complex) and isinstance(b, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, float) and isinstance(b, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    return type(a) is type(b) and a == b


@given(PARAMS)
def test_params_round_trip(value: object) -> None:
    text = format_param(value)
    assert "\n" not in text
    back = _parse_param(*_take_strings(text))
    assert same(value, back), (value, text, back)


@pytest.mark.parametrize("dtype", ["b1", "i8", "u64", "f32", "f64"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (3, 4), (5, 30)])
def test_constants_round_trip(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> None:
    value = np.asarray(rng.standard_normal(shape) * 100).astype(parse_type(dtype + "[]").dtype.np)
    back = _parse_param(*_take_strings(format_param(value)))
    assert back.dtype == value.dtype
    assert back.shape == value.shape
    assert back.tobytes() == value.tobytes()


def test_constant_with_odd_nan_keeps_its_bits() -> None:
    value = np.array([0x7FF8000000000123, 0xFFF8000000000000], np.uint64).view(np.float64)
    assert _parse_param(*_take_strings(format_param(value))).tobytes() == value.tobytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text ends where"),
        ("stager 99\ngraph main() {\nreturn\n}", "line 1: format version 99 is newer"),
        ("graph main(%0: f65[3]) {\n  return %0\n}", "line 1: no dtype is called 'f65'"),
        ("graph main(%0: f64[3]) {\n  %1 = frob %0 : f64[3]\n  return %1\n}", "line 2: no op is called 'frob'"),
        ("graph main(%0: f64[3]) {\n  %1 = sin %7 : f64[3]\n  return %1\n}", "line 2: %7 is not defined before"),
        ("graph main(%0: f64[3]) {\n  %0 = sin %0 : f64[3]\n  return %0\n}", "line 2: %0 is defined twice"),
        ("graph main(%0: f64[3]) {\n  %1, %2 = sin %0 : f64[3]\n  return %1\n}", "line 2: 2 results but 1 types"),
        ("graph main(%0: f64[3]) {\n  %1 = sin %0, 3 : f64[3]\n  return %1\n}", "line 2: expected an operand"),
        ("graph main(%0: f64[3]) {\n  return %0\n}\nmore", "line 4: text after the end"),
        ("graph main(%0: f64[3]) {\n  return %0\n", "the text ends where '}' was expected"),
        ("graph main(%0: f64[3]) {\n  ???\n  return %0\n}", "line 2: expected '%N = OP"),
    ],
)
def test_parse_errors_name_the_line(text: str, message: str) -> None:
    with pytest.raises(ParseError) as e:
        parse_graph(text)
    assert message in str(e.value)


def test_ten_thousand_nodes_are_quick_and_need_no_stack() -> None:
    g = chain(10_000)
    start = time.perf_counter()
    text = print_graph(g)
    back = parse_graph(text)
    assert time.perf_counter() - start < 4  # 0.2 s on an idle core
    assert len(back) == len(g)
    assert print_graph(back) == text
