"""Ranges of integer values: what an index can be, as inclusive bounds that are dims, or None where nothing is known.

They make checked indices promised ones: `A[i - 1]` in `for i in range(1, n)` reads positions 0 to n-2. A loop's index,
a map's lane and captured values bring their ranges into regions. Sizes are taken to be far below 2**62, so that sums
and differences of indices do not wrap. This is about integers of any shape: the range holds for every element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stager.ir.core_ops import constant_op, dim_op, fill_op, input_op, iota_op
from stager.ir.dims import (
    Apply,
    Dim,
    Expr,
    Monomial,
    Sym,
    dim_max,
    dim_min,
    floordiv,
    product,
    substitute,
    symbol,
    symbols_of,
)
from stager.ir.graph import Graph, Node, Value
from stager.ir.regions import first_capture, first_operand, own_inputs

Bound = Dim | None
Range = tuple[Bound, Bound]
UNKNOWN: Range = (None, None)
DEPTH = 8  # nodes looked through
LIMIT = 1 << 62

_SAME = frozenset({"reshape", "transpose", "broadcast", "slice", "diagonal", "windows", "copy", "longest", "gather"})
_JOIN = frozenset({"select", "concatenate", "slice_update", "pad"})


def at_least(a: Bound, b: Bound) -> bool:
    """True when a >= b is known: their difference is a non-negative int."""
    if a is None or b is None:
        return False
    d = a - b
    return not isinstance(d, Expr) and d >= 0


def at_worst(d: Expr, ranges: Mapping[str, Range]) -> Dim:
    """`d` with one ranged symbol, linear in it, at the end of its range that makes `d` smallest; `d` where none is.
    Symbols that others bound come first: with q at p + 1, q - p is 1 whatever p is."""
    best: Dim = d
    for m, c in d.terms:
        if len(m) == 1 and m[0][1] == 1 and isinstance(m[0][0], Sym) and m[0][0].name in ranges:
            name = m[0][0].name
            end = ranges[name][0 if c > 0 else 1]
            bounded = isinstance(end, Expr)
            if end is None or (best is not d and not bounded):
                continue
            others = tuple([t for t in d.terms if t[0] != m])
            if any(name in symbols_of(Expr((t,))) for t in others):
                continue
            best = _sum_of(others) + c * end
            if bounded:
                break
    return best if best is not d else _without_extremes(d)


def _without_extremes(d: Expr) -> Dim:
    """`d` with one minimum that is subtracted, or maximum that is added, replaced by a literal operand: no larger."""
    for m, c in d.terms:
        if len(m) == 1 and m[0][1] == 1 and isinstance(m[0][0], Apply) and m[0][0].fn == ("max" if c > 0 else "min"):
            literals = [x for x in (m[0][0].a, m[0][0].b) if not isinstance(x, Expr)]
            if literals:
                return _sum_of(tuple([t for t in d.terms if t[0] != m])) + c * literals[0]
    return d


def _sum_of(terms: tuple[tuple[Monomial, int], ...]) -> Dim:
    if len(terms) == 1 and not terms[0][0]:
        return terms[0][1]
    return Expr(terms) if terms else 0


def known_at_least(a: Dim, b: Dim, ranges: Mapping[str, Range]) -> bool:
    """True when a >= b is known, given the ranges of symbols."""
    d = a - b
    for _ in range(4):  # a symbol may be bounded by another one
        if not isinstance(d, Expr):
            return d >= 0
        d = at_worst(d, ranges)
    return not isinstance(d, Expr) and d >= 0


def within(r: Range, extent: Dim, known: Callable[[Dim, Dim], bool] = at_least) -> bool:
    """True when every value of the range is known to be a position of an axis; `known` says what is >= what."""
    low, high = r
    return low is not None and high is not None and known(low, 0) and known(extent - 1, high)


def range_of(v: Value, inputs: Mapping[int, Range], depth: int = DEPTH) -> Range:
    """The range of a value, given those of its graph's inputs."""
    node = v.node
    if not v.type.dtype.is_integer:
        return (0, 1) if v.type.dtype.kind == "b" else UNKNOWN
    op, args = node.op, node.args
    if op is input_op:
        return inputs.get(node.params["index"], UNKNOWN)
    if op is fill_op:
        value = int(node.params["value"])
        return _bounded(value, value)
    if op is dim_op:
        return node.params["dim"], node.params["dim"]
    if op is iota_op:
        return 0, node.params["size"] - 1
    if op is constant_op:
        array = node.params["value"]
        return _bounded(int(array.min()), int(array.max())) if 0 < array.size <= 65536 else UNKNOWN
    if op.name == "positions":
        return 0, args[0].type.shape[-1] - 1
    if depth == 0 or v.type.dtype.name != "i64":  # others wrap too soon
        return UNKNOWN

    def of(k: int) -> Range:
        return range_of(args[k], inputs, depth - 1)

    name = op.name
    if name == "add":
        (a, b), (c, d) = of(0), of(1)
        return _sum(a, c), _sum(b, d)
    if name == "sub":
        (a, b), (c, d) = of(0), of(1)
        return _sum(a, d, -1), _sum(b, c, -1)
    if name == "mul" and args[1].node.op is fill_op:
        (a, b), factor = of(0), int(args[1].node.params["value"])
        low, high = (a, b) if factor >= 0 else (b, a)
        return _bounded(None if low is None else low * factor, None if high is None else high * factor)
    if name in ("minimum", "maximum"):
        return _extreme(name, of(0), of(1))
    if name == "mod" and args[1].node.op is fill_op and int(args[1].node.params["value"]) > 0:
        return 0, int(args[1].node.params["value"]) - 1
    if name == "floordiv" and args[1].node.op is fill_op and int(args[1].node.params["value"]) > 0:
        (low, high), divisor = of(0), int(args[1].node.params["value"])
        return None if low is None else floordiv(low, divisor), None if high is None else floordiv(high, divisor)
    if name == "convert":
        return of(0) if args[0].type.dtype.kind in "biu" else UNKNOWN
    if name == "reduce_sum":
        shape = args[0].type.shape
        (low, high), count = of(0), product([shape[k] for k in node.params["axes"]])
        return _bounded(0 if low == 0 else None, None if low != 0 or high is None else high * count)
    if name in _SAME:
        return of(0)
    if name in _JOIN:
        low, high = of(1 if name == "select" else 0)
        for k in range(2 if name == "select" else 1, len(args)):
            other = of(k)
            low, high = _lower(low, other[0]), _upper(high, other[1])
        return low, high
    return UNKNOWN


def _bounded(low: Bound, high: Bound) -> Range:
    """The range, without bounds that arithmetic could wrap."""

    def sane(b: Bound) -> Bound:
        return b if isinstance(b, Expr) or b is None or abs(b) < LIMIT else None

    return sane(low), sane(high)


def _sum(a: Bound, b: Bound, sign: int = 1) -> Bound:
    if a is None or b is None:
        return None
    return _bounded(a + sign * b, None)[0]


def _lower(a: Bound, b: Bound) -> Bound:
    """A bound below both, where one is known to be."""
    return a if at_least(b, a) else b if at_least(a, b) else None


def _upper(a: Bound, b: Bound) -> Bound:
    return a if at_least(a, b) else b if at_least(b, a) else None


def _extreme(name: str, x: Range, y: Range) -> Range:
    (a, b), (c, d) = x, y
    choose = dim_min if name == "minimum" else dim_max
    low = choose(a, c) if a is not None and c is not None else None
    high = choose(b, d) if b is not None and d is not None else None
    if name == "minimum" and high is None:
        high = b if d is None else d
    if name == "maximum" and low is None:
        low = a if c is None else c
    return low, high


# -- into regions ------------------------------------------------------------------------------------------------------


def region_ranges(
    node: Node,
    region: Graph,
    args: Sequence[Value],
    inputs: Mapping[int, Range],
    outer: Mapping[str, Dim],
    known: Mapping[str, Range],
) -> dict[int, Range]:
    """The ranges of a region's inputs. `outer` gives the region's symbols that are dims around it, `known` the ranges
    of symbols around it, for bounds that mention others.
    """
    names = {symbols_of(d).pop(): symbol(name) for name, d in outer.items() if isinstance(d, Expr) and _is_symbol(d)}

    def inside(r: Range, k: int = 0) -> Range:
        mine = {symbol(name) for name, d in region.symbols.items() if d.kind == "value" and d.source == k}
        others = {name: d for name, d in names.items() if d not in mine}  # what an input is says nothing of it
        return _bound_inside(r[0], others, known), _bound_inside(r[1], others, known, -1)

    found: dict[int, Range] = {}
    if node.op.name == "for":
        (low, _), (_, high) = range_of(args[0], inputs), range_of(args[1], inputs)
        if node.params["step"] > 0:
            found[0] = inside((low, _sum(high, -1)))
        else:
            (_, high), (low, _) = range_of(args[0], inputs), range_of(args[1], inputs)
            found[0] = inside((_sum(low, 1), high))
    elif node.op.name == "map":
        found[0] = inside((0, node.params["size"] - 1))
    offset = first_operand(node) - own_inputs(node)
    for k in range(first_capture(node), len(region.inputs)):
        if region.inputs[k].type.dtype.is_integer:
            found[k] = inside(range_of(args[k + offset], inputs), k)
    return {k: r for k, r in found.items() if r != UNKNOWN}


def _bound_inside(b: Bound, names: Mapping[str, Dim], known: Mapping[str, Range], sign: int = 1) -> Bound:
    """A bound under the region's names; an int that it is not below (sign -1: above) where there are none."""
    renamed = _renamed(b, names)
    if renamed is not None or b is None:
        return renamed
    least: Dim = b * sign
    for _ in range(4):
        if not isinstance(least, Expr):
            return least * sign
        least = at_worst(least, known)
    return None


def _is_symbol(d: Expr) -> bool:
    names = symbols_of(d)
    return len(names) == 1 and d == symbol(next(iter(names)))


def _renamed(b: Bound, names: Mapping[str, Dim]) -> Bound:
    if b is None or not isinstance(b, Expr):
        return b
    return substitute(b, names) if symbols_of(b) <= names.keys() else None
