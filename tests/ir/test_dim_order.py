"""What is proved of dims holds for every extent, and what slices of named sizes are made of is settled."""

from __future__ import annotations

import itertools
import random

import pytest

from stager.ir.dim_order import Order
from stager.ir.dims import Dim, dim_max, dim_min, evaluate, floordiv, mod, symbol
from stager.ir.graph import Graph, SymbolDef

N, M, K = symbol("n"), symbol("m"), symbol("k")


def graph() -> Graph:
    g = Graph()
    g.symbols = {"n": SymbolDef("shape", 0, 0), "m": SymbolDef("shape", 0, 1), "k": SymbolDef("value", 1)}
    return g


def random_dim(r: random.Random, depth: int) -> Dim:
    kind = r.randrange(9 if depth else 3)
    if kind < 3:
        return r.choice([N, M, K, N - 1, r.randrange(-3, 4)])
    a = random_dim(r, depth - 1)
    if kind == 3:
        return floordiv(a, r.choice([1, 2, 3]))
    if kind == 4:
        return mod(a, r.choice([2, 3, dim_max(random_dim(r, depth - 1), 1)]))
    b = random_dim(r, depth - 1)
    return [dim_max(a, b), dim_min(a, b), a + b, a - r.choice([1, 2]) * b][kind - 5]


@pytest.mark.parametrize("least", [0, 2])
def test_what_is_proved_holds(least: int) -> None:
    r = random.Random(least)
    order = Order(graph(), {"n": least, "m": least})
    proved = 0
    for _ in range(400):
        a, b = random_dim(r, 3), random_dim(r, 3)
        known = order.at_least(a, b)
        chosen = (order.largest([a, b]), order.smallest([a, b]), order.simplest(a))
        proved += known
        for n, m, k in itertools.product(range(least, least + 4), range(least, least + 4), (-3, 0, 2)):
            env = {"n": n, "m": m, "k": k}
            x, y = evaluate(a, env), evaluate(b, env)
            assert x >= y or not known, (a, b, env)
            assert [evaluate(d, env) for d in chosen] == [max(x, y), min(x, y), x], (a, b, env)
    assert proved > 50


def test_ends_of_slices() -> None:
    order = Order(graph())
    assert order.at_least(N, dim_max(0, N - 1))
    assert order.at_least(dim_min(1, N) + dim_max(0, N - 1), N)
    assert order.at_least(N, 2 * floordiv(N, 2))
    assert not order.at_least(dim_max(0, N - 1), dim_min(1, N))  # of one element
    large = Order(graph(), {"n": 4, "m": 4})
    assert large.simplest((dim_max(0, N - 3), dim_min(3, N), M)) == (N - 3, 3, M)
    assert large.simplest((mod(1, dim_max(1, N)), mod(-1, dim_max(1, N)), mod(5, N))) == (1, N - 1, mod(5, N))
    assert large.at_least(N * M, 16)
    assert not large.at_least(N, M)
