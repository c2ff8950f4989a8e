"""The language in which algebra is written: rows of a pattern, what replaces it, and when that is allowed.

`pattern_rules` makes rules of rows, for a `Rewriter`. A pattern is a `Var`, a `Literal` or a tuple of an op's name and
patterns. Not here: any particular row (`passes/algebra.py`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from stager.ir.core_ops import fill_op
from stager.ir.dtypes import DType
from stager.ir.graph import Node, Value
from stager.ir.op import op_named
from stager.ir.rewrite import Replacement, Rewriter, Rule


@dataclass(frozen=True, slots=True)
class Var:
    """Matches any value; the same Var twice matches the same value."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """Matches a fill whose value passes `test(value, dtype)`; as a replacement, `value` in the root's type."""

    name: str
    test: Callable[[Any, DType], bool]
    value: Any = None


Pattern = Any  # Var, Literal, or (op name, pattern, …)
Match = dict[str, Value]
Licence = Callable[[Rewriter, Node, Match], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """One identity: `pattern` -> `replacement` wherever `licence` allows it.

    A replacement is a pattern to emit or a function of (rewriter, node, match) that returns a value or None.
    """

    pattern: Pattern
    replacement: Any
    licence: Licence


def pattern_rules(rows: Iterable[Row]) -> dict[str, tuple[Rule, ...]]:
    """The rules that apply rows, by op. Patterns of commutative ops match in both orders."""
    by_op: dict[str, dict[Any, list[Row]]] = {}
    for r in rows:
        for pattern in _orders(r.pattern):
            anchors = by_op.setdefault(pattern[0], {})
            anchors.setdefault(_anchor(pattern), []).append(Row(pattern, r.replacement, r.licence))
    return {name: (_rows_rule(anchors),) for name, anchors in by_op.items()}


def _orders(pattern: Pattern) -> list[Pattern]:
    if not isinstance(pattern, tuple):
        return [pattern]
    name, *args = pattern
    combinations = [(name, *chosen) for chosen in itertools.product(*map(_orders, args))]
    if op_named(name).commutative:
        combinations += [c for c in [(name, *reversed(c[1:])) for c in combinations] if c not in combinations]
    return combinations


def _anchor(pattern: Pattern) -> tuple[int, str] | None:
    """The first operand that must be made by a particular op: rows are looked up by it."""
    for i, p in enumerate(pattern[1:]):
        if isinstance(p, tuple):
            return i, p[0]
        if isinstance(p, Literal):
            return i, "fill"
    return None


def _rows_rule(anchors: dict[Any, list[Row]]) -> Rule:
    free = anchors.pop(None, [])

    def rule(rw: Rewriter, node: Node) -> Replacement:
        for row in free:
            result = _try_row(rw, node, row)
            if result is not None:
                return result
        for i, a in enumerate(node.args):
            for row in anchors.get((i, a.node.op.name), ()):
                result = _try_row(rw, node, row)
                if result is not None:
                    return result
        return None

    return rule


def _try_row(rw: Rewriter, node: Node, row: Row) -> Value | None:
    match: Match = {}
    for p, a in zip(row.pattern[1:], node.args, strict=True):
        if not _matches(p, a, match):
            return None
    if not row.licence(rw, node, match):
        return None
    if callable(row.replacement):
        result: Value | None = row.replacement(rw, node, match)
    else:
        result = _emit(rw, row.replacement, node, match)
    return result if result is not None and result.type == node.types[0] else None


def _matches(p: Pattern, v: Value, match: Match) -> bool:
    if type(p) is Var:
        bound = match.setdefault(p.name, v)
        return bound is v or (bound.node is v.node and bound.index == v.index)
    node = v.node
    if type(p) is Literal:
        if node.op is not fill_op or not p.test(node.params["value"], v.type.dtype):
            return False
        match[p.name] = v
        return True
    if node.op.name != p[0]:
        return False
    return all(_matches(q, a, match) for q, a in zip(p[1:], node.args, strict=True))


def _emit(rw: Rewriter, p: Pattern, root: Node, match: Match) -> Value:
    if type(p) is Var:
        return match[p.name]
    if type(p) is Literal:
        return rw.fill(p.value, root.types[0])
    return rw.emit(p[0], *[_emit(rw, q, root, match) for q in p[1:]])
