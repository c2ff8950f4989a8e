"""Every invariant that `verify` lists, broken once; what it says; and that valid graphs pass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from stager.ir.core_ops import input_op
from stager.ir.dims import symbol
from stager.ir.graph import Graph, Location, Node, Signature, SymbolDef, Value
from stager.ir.op import Op, op_named
from stager.ir.types import Type, parse_type
from stager.ir.verify import VerificationError, verify
from tests.ir.build import Build, chain
from tests.ir.test_text import everything

F3 = parse_type("f64[3]")


def base() -> Build:
    b = Build()
    x = b.input("f64[3,n]")
    b.done(b.mul(b.sin(x), x))
    return b


def add_node(g: Graph, op: str, args: tuple[Value, ...], types: tuple[Type, ...], **params: object) -> Node:
    return g.add(Node(op_named(op), args, params, types))


def foreign_operand(g: Graph) -> None:
    node = Node(op_named("sin"), (Build().input("f64[3]"),), {}, (F3,))
    g.nx.add_node(node)


def operand_later(g: Graph) -> None:
    later = Node(op_named("fill"), (), {"value": 1.0, "shape": (3,), "dtype": F3.dtype}, (F3,))
    node = Node(op_named("sin"), (Value(later),), {}, (F3,))
    g.nx.add_node(node)
    g.nx.add_edge(later, node)


def wrong_type(g: Graph) -> None:
    add_node(g, "sin", (g.inputs[0],), (F3,))


def refused(g: Graph) -> None:
    add_node(g, "transpose", (g.inputs[0],), (F3,), perm=(0, 5))


def negative_dim(g: Graph) -> None:
    t = Type(F3.dtype, (-1,))
    add_node(g, "fill", (), (t,), value=0.0, shape=(-1,), dtype=F3.dtype)


def odd_param(g: Graph) -> None:
    add_node(g, "copy", (g.inputs[0],), (g.inputs[0].type,))
    list(g.nodes)[-1].params["table"] = {}


def unregistered_op(g: Graph) -> None:
    op = Op("sin", "elementwise", lambda x: x, np.sin)
    g.add(Node(op, (g.inputs[0],), {}, (g.inputs[0].type,)))


def stray_input(g: Graph) -> None:
    g.add(Node(input_op, (), {"index": 7}, (F3,)))


def swapped_inputs(g: Graph) -> None:
    g.inputs.append(g.inputs[0])


def foreign_output(g: Graph) -> None:
    g.outputs.append(Build().input("f64[3]"))


def undefined_symbol(g: Graph) -> None:
    add_node(g, "fill", (), (Type(F3.dtype, (symbol("q"),)),), value=0.0, shape=(symbol("q"),), dtype=F3.dtype)


def shape_symbol_elsewhere(g: Graph) -> None:
    g.symbols["n"] = SymbolDef("shape", 0, 0)


def symbol_of_floats(g: Graph) -> None:
    g.symbols["k"] = SymbolDef("data", g.outputs[0])


def reserved_symbol(g: Graph) -> None:
    g.symbols["nan"] = SymbolDef("stride", 0, 0)


def symbol_kind(g: Graph) -> None:
    g.symbols["k"] = SymbolDef("magic", 0, 0)


def missing_dim_edge(g: Graph) -> None:
    b = Build()
    b.builder.graph = b.g = g
    k = b.data_symbol("k", b.convert(b.fill(2.0), "i64"))
    v = b.fill(0.0, (k,))
    g.nx.remove_edge(g.symbols["k"].source.node, v.node)


def missing_edge(g: Graph) -> None:
    node = list(g.nodes)[-1]
    g.nx.remove_edge(node.args[0].node, node)


def extra_edge(g: Graph) -> None:
    b = Build()
    b.builder.graph = b.g = g
    b.cos(g.inputs[0])
    nodes = list(g.nodes)
    g.nx.add_edge(nodes[1], nodes[-1])


def effects_out_of_order(g: Graph) -> None:
    b = Build()
    b.builder.graph = b.g = g
    ok = b.fill(True, (), "b1")
    for text in ("a", "b"):
        b.check(ok, exception="ValueError", text=text)
    checks = [n for n in g.nodes if n.op.name == "check"]
    g.nx.remove_edge(*checks)


def written_twice(g: Graph) -> None:
    g.signature = Signature(writes=((0, 0), (0, 0)))


def written_misfit(g: Graph) -> None:
    b = Build()
    b.builder.graph = b.g = g
    g.outputs.append(b.fill(0.0))
    g.signature = Signature(writes=((0, 1),))


def alias_forward(g: Graph) -> None:
    g.signature = Signature(aliases={0: ("output", 0)})


def donated_nothing(g: Graph) -> None:
    g.signature = Signature(donated=frozenset({4}))


def layout_rank(g: Graph) -> None:
    g.signature = Signature(layouts={0: (8,)})


def regions_of_sin(g: Graph) -> None:
    g.add(Node(op_named("sin"), (g.inputs[0],), {}, (g.inputs[0].type,), (Graph(),)))


def region_with_outer_symbol(g: Graph) -> None:
    r = Build("body")
    i = r.input("i64[]")
    v = r.fill(0.0, ("n",))
    del i
    r.done(r.reduce_sum(v, axes=(0,)))
    b = Build()
    b.builder.graph = b.g = g
    b.map_(size=2, regions=[r.g])


BREAKS: dict[Callable[[Graph], None], str] = {
    foreign_operand: "comes from a node that is not in the graph",
    operand_later: "comes from a node that stands later in the graph",
    wrong_type: "sin has types f64[3], its type rule says f64[3,n]",
    refused: "the type rule of transpose refuses this node: IndexError",
    negative_dim: "-1 is no dim",
    odd_param: "param table of copy is {}",
    unregistered_op: "sin is not the registered op of that name",
    stray_input: "2 input nodes but 1 inputs",
    swapped_inputs: "inputs[1] is",
    foreign_output: "output 1 comes from a node that is not in the graph",
    undefined_symbol: "fill mentions the symbol q, which nothing defines",
    shape_symbol_elsewhere: "symbol n (shape) is not dim 0 of its input, a f64[3,n]",
    symbol_of_floats: "symbol k (data) is defined by a f64[3,n], not by an integer scalar",
    reserved_symbol: "'nan' cannot name a symbol",
    symbol_kind: "no symbol is of kind 'magic'",
    missing_dim_edge: "edges into fill: missing from ['convert']",
    missing_edge: "edges into mul: missing from ['sin']",
    extra_edge: "too many from ['sin']",
    effects_out_of_order: "the effect check has no edge from the effect before it",
    written_twice: "input 0 is written twice",
    written_misfit: "output 1, a f64[], is written to input 0, a f64[3,n]",
    alias_forward: "output 0 is output 0, which does not come before it",
    donated_nothing: "input 4 is donated; it does not exist",
    layout_rank: "input 0 has the byte strides (8,)",
    regions_of_sin: "sin has regions but is no control op",
    region_with_outer_symbol: "region 0 of map is invalid",
}


@pytest.mark.parametrize("damage", BREAKS, ids=lambda f: f.__name__)
def test_invariant(damage: Callable[[Graph], None]) -> None:
    g = base().g
    verify(g)
    damage(g)
    with pytest.raises(VerificationError) as e:
        verify(g)
    assert "internal error in graph 'main'" in str(e.value)
    assert BREAKS[damage] in str(e.value)


def test_the_error_shows_the_node_in_its_surroundings(golden: Callable[..., None]) -> None:
    g = chain(20)
    node = list(g.nodes)[10]
    g.nx.remove_edge(node.args[0].node, node)
    with pytest.raises(VerificationError) as e:
        verify(g, "after the pass cse")
    golden(str(e.value))


def test_the_error_names_the_users_line() -> None:
    b = base()
    b.g.add(Node(op_named("sin"), (b.g.inputs[0],), {}, (F3,), (), Location("model.py", 12, "loss")))
    with pytest.raises(VerificationError, match=r"from model\.py:12 in loss"):
        verify(b.g)


def test_valid_graphs_pass() -> None:
    verify(base().g)
    verify(everything())
    verify(chain(1000))


def test_a_node_may_mention_the_data_symbol_that_it_defines_itself() -> None:
    b = Build()
    k = b.data_symbol("k", b.convert(b.input("f64[]"), "i64"))
    b.done(b.fill(1.0, (k,)))
    verify(b.g)
