"""The language of patterns: in which orders of operands a row matches."""

from __future__ import annotations

from stager.ir.patterns import Row, Var, pattern_rules
from stager.ir.rewrite import rewrite
from tests.ir.build import Build


def test_patterns_of_commutative_ops_match_in_both_orders() -> None:
    x, y = Var("x"), Var("y")
    rules = pattern_rules([Row(("add", ("neg", x), y), ("sub", y, x), lambda rw, node, match: True)])
    b = Build()
    p, q = b.input("f64[3]"), b.input("f64[3]")
    after = rewrite(b.done(b.add(b.neg(p), q), b.add(q, b.neg(p))), rules)
    assert [n.op.name for n in after.nodes if n.op.name != "input"] == ["sub"]
