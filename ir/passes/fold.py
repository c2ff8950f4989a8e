"""Constant folding: nodes whose operands are known while compiling are replaced by their results.

Values come from the ops' NumPy references. Literals (fills) fold to literals whatever their shape, so folding never
makes memory out of a scalar; arrays fold when the result is small or no larger than what goes in. Arithmetic of dims
folds to one `dim`. Iotas stay: as affine indices they are worth more than as arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from stager.ir.core_ops import constant_op, dim_op, fill_op
from stager.ir.dims import Dim, Expr, dim_max, dim_min, floordiv, mod
from stager.ir.evaluate import Array, evaluate_node
from stager.ir.graph import Node
from stager.ir.ranges import at_least, range_of
from stager.ir.rewrite import Replacement, Rewriter, Rules
from stager.ir.types import Type

FOLDED_ELEMENTS = 1 << 16  # results and operands beyond this are left for run time
GROWN_ELEMENTS = 1 << 10  # and beyond this a result may not be larger than its operands
FAMILIES = frozenset({"elementwise", "view", "structural", "reduction", "scan", "contract", "indexed", "sort"})


def uniform_constant(rw: Rewriter, node: Node) -> Replacement:
    """constant [c, c, …] -> fill c"""
    value = node.params["value"]
    if value.size == 0 or value.size > FOLDED_ELEMENTS:
        return None
    flat = value.reshape(-1)
    first = flat[:1]
    if value.size > 1 and (flat[-1:].tobytes() != first.tobytes() or flat.tobytes() != first.tobytes() * value.size):
        return None
    return rw.fill(first[0].item(), node.types[0])


def static_dim(rw: Rewriter, node: Node) -> Replacement:
    """dim 3 -> fill 3"""
    d = node.params["dim"]
    return None if isinstance(d, Expr) else rw.fill(d, node.types[0])


def empty(rw: Rewriter, node: Node) -> Replacement:
    """what has no elements -> a literal, whatever would be in them"""
    if not node.args or node.op.family not in FAMILIES or node.params.get("mode") == "check":
        return None
    if any(0 not in t.shape for t in node.types):
        return None
    return tuple([rw.fill(0, t) for t in node.types])


def fold_literals(rw: Rewriter, node: Node) -> Replacement:
    """An elementwise op of literals is a literal: computed once, on scalars."""
    args = node.args
    if not args or any(a.node.op is not fill_op for a in args):
        return None
    scalars = [np.asarray(a.node.params["value"]).astype(a.type.dtype.np) for a in args]
    results = _evaluated(rw, node, scalars, tuple(Type(t.dtype, ()) for t in node.types))
    if results is None:
        return None
    return tuple(rw.fill(r.item(), t) for r, t in zip(results, node.types, strict=True))


def fold_arrays(rw: Rewriter, node: Node) -> Replacement:
    """Any pure op of constants is a constant, unless that makes more data."""
    args = node.args
    if not args or (args[0].node.op is not constant_op and args[0].node.op is not fill_op):
        return None
    if node.op.family not in FAMILIES or node.ordered or node.params.get("mode") == "check":
        return None
    if any(a.node.op is not constant_op and a.node.op is not fill_op for a in args):
        return None
    if all(a.node.op is fill_op for a in args) and node.op.family not in ("scan", "contract", "sort"):
        return None  # literals have their own rules, which keep them literals
    if not all(t.is_static for t in node.types) or not all(a.type.is_static for a in args):
        return None
    if node.mentioned_symbols():  # where a slice starts, though its size is known
        return None
    taken = max(_size(a.type) for a in args)
    made = sum(_size(t) for t in node.types)
    if max(taken, made) > FOLDED_ELEMENTS or (made > taken and made > GROWN_ELEMENTS):
        return None
    arrays = [evaluate_node(a.node, ())[0] for a in args]
    results = _evaluated(rw, node, arrays, node.types)
    if results is None:
        return None
    return tuple(rw.constant(r, t) for r, t in zip(results, node.types, strict=True))


def _size(t: Type) -> int:
    size = t.size
    assert isinstance(size, int)
    return size


def _evaluated(rw: Rewriter, node: Node, arrays: Sequence[Array], types: tuple[Type, ...]) -> tuple[Array, ...] | None:
    try:
        return evaluate_node(Node(node.op, node.args, node.params, types), arrays)
    except (ValueError, ArithmeticError, IndexError):
        return None  # the op refuses these values: what that means is decided at run time


# -- dims --------------------------------------------------------------------------------------------------------------

# i64 scalars computed from dims, as dims. Divisors must be known not to be 0 (NumPy's answer there is 0, not an error).
DIM_ARITHMETIC: dict[str, Callable[[Dim, Dim], Dim]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": floordiv,
    "mod": mod,
    "minimum": dim_min,
    "maximum": dim_max,
}
COMPARISONS: dict[str, Callable[[int], bool]] = {  # of a - b with 0
    "eq": lambda d: d == 0,
    "ne": lambda d: d != 0,
    "lt": lambda d: d < 0,
    "le": lambda d: d <= 0,
    "gt": lambda d: d > 0,
    "ge": lambda d: d >= 0,
}


def _two_dims(rw: Rewriter, node: Node) -> tuple[Dim, Dim] | None:
    x, y = node.args
    if x.type.shape != () or x.type.dtype.name != "i64" or (x.node.op is not dim_op and y.node.op is not dim_op):
        return None
    a, b = rw.dim_value(x), rw.dim_value(y)
    return None if a is None or b is None else (a, b)


def fold_dims(rw: Rewriter, node: Node) -> Replacement:
    """dim a op dim b -> dim (a op b)"""
    dims = _two_dims(rw, node)
    if dims is None:
        return None
    a, b = dims
    if node.op.name in ("floordiv", "mod") and (isinstance(b, Expr) or b == 0):
        return None
    return rw.dim(DIM_ARITHMETIC[node.op.name](a, b))


def fold_dim_comparison(rw: Rewriter, node: Node) -> Replacement:
    """dim a < dim b -> True when b - a is a known positive number; i < n where the range of i says so"""
    dims = _two_dims(rw, node)
    if dims is not None:
        d = dims[0] - dims[1]
        if not isinstance(d, Expr):
            return rw.fill(COMPARISONS[node.op.name](d), node.types[0])
    x, y = node.args
    if x.type.shape != () or x.type.dtype.name != "i64":
        return None
    (a, b), (c, e) = range_of(x, rw.ranges), range_of(y, rw.ranges)
    relation = "lt" if at_least(c, _more(b)) else "gt" if at_least(a, _more(e)) else "le" if at_least(c, b) else "ge"
    if relation == "ge" and not at_least(a, e):
        return None
    decided = DECIDED.get((node.op.name, relation))
    return rw.fill(decided, node.types[0]) if decided is not None else None


def _more(b: Dim | None) -> Dim | None:
    return None if b is None else b + 1


# What a comparison gives when all of one operand's range stands in a relation to all of the other's.
DECIDED: dict[tuple[str, str], bool] = {
    ("lt", "lt"): True, ("le", "lt"): True, ("ne", "lt"): True,
    ("gt", "lt"): False, ("ge", "lt"): False, ("eq", "lt"): False,
    ("gt", "gt"): True, ("ge", "gt"): True, ("ne", "gt"): True,
    ("lt", "gt"): False, ("le", "gt"): False, ("eq", "gt"): False,
    ("le", "le"): True, ("gt", "le"): False, ("ge", "ge"): True, ("lt", "ge"): False,
}  # fmt: skip


# -- reductions of literals --------------------------------------------------------------------------------------------


def reduced_literal(rw: Rewriter, node: Node) -> Replacement:
    """reduce fill c -> fill: the value itself for max, min, or, and; n*c for a sum, 1 for a product of 1s."""
    (x,) = node.args
    if x.node.op is not fill_op:
        return None
    name, value, t = node.op.name, x.node.params["value"], node.types[0]
    count: Dim = 1
    for k in node.params["axes"]:
        count = count * x.type.shape[k]
    if isinstance(count, Expr):
        zero = value == 0 and name == "reduce_sum" and (not t.dtype.is_inexact or not np.signbit(value))
        return rw.fill(0, t) if zero else None
    if count == 0:
        return None
    if name in ("reduce_max", "reduce_min", "reduce_or", "reduce_and"):
        return rw.fill(value, t)
    if name == "reduce_sum":
        return _literal_sum(rw, value, count, t)
    return rw.fill(value, t) if name == "reduce_prod" and value == 1 else None


def _literal_sum(rw: Rewriter, value: float, count: int, t: Type) -> Replacement:
    with np.errstate(all="ignore"):
        total = np.asarray(value).astype(t.dtype.np) * np.asarray(count).astype(t.dtype.np)
    if t.dtype.is_integer or t.dtype.kind == "b":
        return rw.fill(total.item(), t)
    # one rounding where the sum has many; 0.0 because a sum starts at +0.0
    return rw.fill(total.item() if total != 0 else 0.0, t)


FOLD: Rules = {
    "constant": (uniform_constant,),
    "dim": (static_dim,),
    **dict.fromkeys(DIM_ARITHMETIC, (fold_dims,)),
    **dict.fromkeys(COMPARISONS, (fold_dim_comparison,)),
    **{f"reduce_{name}": (reduced_literal,) for name in ("sum", "prod", "max", "min", "or", "and")},
    "family:elementwise": (fold_literals,),
    "*": (empty, fold_arrays),
}
