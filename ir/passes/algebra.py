"""Algebra: identities of scalar arithmetic, as rows (pattern, replacement, licence).

Exact rows hold for every bit pattern of every dtype they apply to, NaN, infinities and signed zeros included (which of
two NaNs an operation returns is not part of a value). What does not hold so stands under `FAST` and needs the user's
`fast_math`.

The one common identity that floats do not have is x + 0.0 -> x: it turns -0.0 into 0.0. Three licences allow it:
`NOT_MINUS_ZERO` where x is seen not to be -0.0 (a square, an exponential, a sum with such a term, …), `COTANGENT` on
nodes that the backward pass emitted (their path ends in "backward"): the zero there stands for "no contribution", and
`FAST`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stager.ir.core_ops import constant_op, fill_op
from stager.ir.dims import product
from stager.ir.dtypes import DType
from stager.ir.graph import Node, Value
from stager.ir.patterns import Licence, Literal, Match, Row, Var, pattern_rules
from stager.ir.rewrite import Replacement, Rewriter, Rule, Rules, literal, merge_rules

X, Y, Z, B = Var("x"), Var("y"), Var("z"), Var("b")  # B: a condition


def _is_minus_zero(v: Any) -> bool:
    return isinstance(v, float | np.floating) and v == 0 and math.copysign(1.0, v) < 0


def _all_ones(v: Any, dtype: DType) -> bool:
    return bool(v) if dtype.kind == "b" else dtype.is_integer and (v == -1 or v == 2**dtype.bits - 1)


def _power_of_two(v: Any, dtype: DType) -> bool:
    """A float whose reciprocal is exact, so that dividing by it is multiplying by that."""
    if not dtype.is_float or not math.isfinite(v) or v == 0:
        return False
    mantissa, _ = math.frexp(v)
    info = np.finfo(dtype.np)
    return abs(mantissa) == 0.5 and float(info.smallest_normal) <= abs(1 / v) <= float(info.max)


ZERO = Literal("0", lambda v, d: v == 0 and not _is_minus_zero(v), 0)
MINUS_ZERO = Literal("-0", lambda v, d: _is_minus_zero(v))
ONE = Literal("1", lambda v, d: v == 1, 1)
MINUS_ONE = Literal("-1", lambda v, d: v == -1 and d.kind in "if")
TWO = Literal("2", lambda v, d: v == 2)
THREE = Literal("3", lambda v, d: v == 3)
HALF = Literal("half", lambda v, d: v == 0.5)
ALL_ONES = Literal("ones", _all_ones)
TRUE = Literal("true", lambda v, d: bool(v), True)
FALSE = Literal("false", lambda v, d: not v, False)
INFINITY = Literal("inf", lambda v, d: v == math.inf)
MINUS_INFINITY = Literal("-inf", lambda v, d: v == -math.inf)
POWER_OF_TWO = Literal("2^k", _power_of_two)
C = Literal("c", lambda v, d: True)
D = Literal("d", lambda v, d: True)


# -- licences ----------------------------------------------------------------------------------------------------------


def EXACT(rw: Rewriter, node: Node, match: Match) -> bool:
    """Holds for every bit pattern."""
    return True


def INTEGER(rw: Rewriter, node: Node, match: Match) -> bool:
    """Holds for integers (modulo 2**bits) and bools."""
    return node.args[0].type.dtype.kind in "iub"


def FLOAT(rw: Rewriter, node: Node, match: Match) -> bool:
    """Holds for every float, not for integers."""
    return node.args[0].type.dtype.is_float


def FAST(rw: Rewriter, node: Node, match: Match) -> bool:
    """Holds for real numbers; the user asked for fast maths."""
    return rw.fast_math or INTEGER(rw, node, match)


def FAST_FLOAT(rw: Rewriter, node: Node, match: Match) -> bool:
    """Holds for real numbers but not for integers."""
    return rw.fast_math and node.args[0].type.dtype.is_float


def SIGNED(rw: Rewriter, node: Node, match: Match) -> bool:
    """Holds for numbers that have a sign."""
    return node.args[0].type.dtype.kind in "if"


def NO_NAN(rw: Rewriter, node: Node, match: Match) -> bool:
    """Holds unless x or y is NaN."""
    return match["x"].type.dtype.kind in "iub"


def NOT_MINUS_ZERO(rw: Rewriter, node: Node, match: Match) -> bool:
    """Holds unless x is -0.0."""
    return never_minus_zero(match["x"])


def COTANGENT(rw: Rewriter, node: Node, match: Match) -> bool:
    """Accumulating nothing in a backward pass."""
    return node.in_backward


def COTANGENT_FACTORS(rw: Rewriter, node: Node, match: Match) -> bool:
    """Scaling a cotangent by literals in turn, whose product is a normal float: one rounding less."""
    inner = node.args[0].node if node.args[1].node.op is fill_op else node.args[1].node
    dtype = node.types[0].dtype
    if not (node.in_backward and inner.in_backward and dtype.is_float):
        return False
    info = np.finfo(dtype.np)
    both = abs(float(literal(match["c"])) * float(literal(match["d"])))
    return bool(float(info.smallest_normal) <= both <= float(info.max))


POSITIVE = frozenset({"exp", "exp2", "cosh", "abs", "erfc", "hypot"})  # never -0.0, whatever the operand
_SAME_ELEMENTS = frozenset({"reshape", "transpose", "broadcast", "slice", "diagonal", "windows", "copy", "barrier"})


def never_minus_zero(v: Value, depth: int = 5) -> bool:
    """True when no element of `v` can be -0.0. Looks at most `depth` nodes deep."""
    node, dtype = v.node, v.type.dtype
    name, args = node.op.name, node.args
    if not dtype.is_float or name in POSITIVE:
        return True
    if node.op is fill_op:
        return not _is_minus_zero(float(node.params["value"]))
    if node.op is constant_op:
        value = node.params["value"]
        return value.size <= 4096 and not np.any((value == 0) & np.signbit(value))
    if depth == 0:
        return False

    def never(k: int) -> bool:
        return never_minus_zero(args[k], depth - 1)

    if name == "mul":
        return args[0] == args[1]  # a square
    if name == "add":  # -0.0 only from -0.0 + -0.0: opposite numbers give +0.0
        return never(0) or never(1)
    if name == "sub":  # -0.0 only from -0.0 - 0.0
        return never(0)
    if name == "convert":  # narrowing a float may underflow to -0.0
        return (holds_every(dtype, args[0].type.dtype) and never(0)) or not args[0].type.dtype.is_float
    if name in _SAME_ELEMENTS or name in ("sqrt", "reduce_sum", "gather"):
        return name == "reduce_sum" or never(0)
    if name in ("select", "slice_update", "pad", "concatenate", "maximum", "minimum"):
        return all(never(k) for k in range(1 if name == "select" else 0, len(args)))
    return False


# -- replacements that compute -----------------------------------------------------------------------------------------


def _reciprocal(rw: Rewriter, node: Node, match: Match) -> Value:
    return rw.emit("mul", match["x"], rw.fill(1 / literal(match["2^k"]), node.types[0]))


def _combined(op: str, outer: str) -> Any:
    """x outer (c op d), for rows that gather literals."""

    def replace(rw: Rewriter, node: Node, match: Match) -> Value:
        return rw.emit(outer, match["x"], rw.emit(op, match["c"], match["d"]))

    return replace


def row(pattern: Any, replacement: Any, licence: Licence = EXACT) -> Row:
    return Row(pattern, replacement, licence)


# fmt: off
ROWS = (
    # neutral elements
    row(("add", X, ZERO), X, INTEGER),                      # x + 0 -> x
    row(("add", X, MINUS_ZERO), X),                         # x + -0.0 -> x, for x = -0.0 too
    row(("add", X, ZERO), X, NOT_MINUS_ZERO),               # x + 0.0 -> x
    row(("add", X, ZERO), X, COTANGENT),                    # ct + 0.0 -> ct
    row(("add", X, ZERO), X, FAST),                         # x + 0.0 -> x
    row(("sub", X, ZERO), X),                               # x - 0.0 -> x, for x = -0.0 too
    row(("mul", X, ONE), X),                                # x * 1 -> x
    row(("div", X, ONE), X),                                # x / 1 -> x
    row(("floordiv", X, ONE), X, INTEGER),                  # x // 1 -> x
    row(("pow", X, ONE), X),                                # x ** 1 -> x
    row(("and_", X, ALL_ONES), X),                          # x & ~0 -> x
    row(("or_", X, ZERO), X),                               # x | 0 -> x
    row(("xor", X, ZERO), X),                               # x ^ 0 -> x
    row(("shl", X, ZERO), X),                               # x << 0 -> x
    row(("shr", X, ZERO), X),                               # x >> 0 -> x
    row(("maximum", X, MINUS_INFINITY), X),                 # max(x, -inf) -> x, NaN too
    row(("maximum", MINUS_INFINITY, X), X),                 # (which of 0.0 and -0.0 is the larger depends on order)
    row(("minimum", X, INFINITY), X),                       # min(x, inf) -> x, NaN too
    row(("minimum", INFINITY, X), X),

    # absorbing elements
    row(("mul", X, ZERO), ZERO, FAST),                      # x * 0 -> 0
    row(("and_", X, ZERO), ZERO),                           # x & 0 -> 0
    row(("or_", X, ALL_ONES), lambda rw, node, m: m["ones"]),   # x | ~0 -> ~0
    row(("pow", X, ZERO), ONE),                             # x ** 0 -> 1, for NaN too
    row(("pow", ONE, X), ONE),                              # 1 ** x -> 1, for NaN too
    row(("mod", X, ONE), ZERO, INTEGER),                    # x % 1 -> 0

    # signs
    row(("neg", ("neg", X)), X),                            # -(-x) -> x
    row(("abs", ("neg", X)), ("abs", X), SIGNED),           # |-x| -> |x|; unsigned negation wraps
    row(("abs", ("abs", X)), ("abs", X)),                   # ||x|| -> |x|
    row(("abs", ("mul", X, X)), ("mul", X, X), FLOAT),      # |x*x| -> x*x; integers overflow
    row(("mul", X, MINUS_ONE), ("neg", X)),                 # x * -1 -> -x
    row(("div", X, MINUS_ONE), ("neg", X)),                 # x / -1 -> -x
    row(("mul", ("neg", X), ("neg", Y)), ("mul", X, Y)),    # -x * -y -> x * y
    row(("div", ("neg", X), ("neg", Y)), ("div", X, Y)),    # -x / -y -> x / y
    row(("add", X, ("neg", Y)), ("sub", X, Y)),             # x + -y -> x - y
    row(("sub", X, ("neg", Y)), ("add", X, Y)),             # x - -y -> x + y
    row(("sub", ZERO, X), ("neg", X), FAST),                # 0 - x -> -x; 0.0 - 0.0 is 0.0, not -0.0
    row(("sub", MINUS_ZERO, X), ("neg", X)),                # -0.0 - x -> -x
    row(("neg", ("sub", X, Y)), ("sub", Y, X), FAST),       # -(x - y) -> y - x; differs where x = y

    # equal operands
    row(("sub", X, X), ZERO, FAST),                         # x - x -> 0; inf - inf is NaN
    row(("div", X, X), ONE, FAST_FLOAT),                    # x / x -> 1
    row(("and_", X, X), X),                                 # x & x -> x
    row(("or_", X, X), X),                                  # x | x -> x
    row(("xor", X, X), ZERO),                               # x ^ x -> 0
    row(("maximum", X, X), X),                              # max(x, x) -> x
    row(("minimum", X, X), X),                              # min(x, x) -> x
    row(("fmax", X, X), X),
    row(("fmin", X, X), X),
    row(("lt", X, X), FALSE),                               # x < x -> False, NaN too
    row(("gt", X, X), FALSE),                               # x > x -> False
    row(("ne", X, X), FALSE, INTEGER),                      # x != x -> False, but for NaN
    row(("eq", X, X), TRUE, INTEGER),                       # x == x -> True
    row(("le", X, X), TRUE, INTEGER),                       # x <= x -> True
    row(("ge", X, X), TRUE, INTEGER),                       # x >= x -> True

    # conditions
    row(("not_", ("not_", X)), X),                          # ~~x -> x
    row(("select", B, X, X), X),                            # x if b else x -> x
    row(("select", TRUE, X, Y), X),
    row(("select", FALSE, X, Y), Y),
    row(("select", ("not_", B), X, Y), ("select", B, Y, X)),
    row(("select", B, ("select", B, X, Y), Z), ("select", B, X, Z)),
    row(("select", B, X, ("select", B, Y, Z)), ("select", B, X, Z)),
    row(("not_", ("eq", X, Y)), ("ne", X, Y)),              # not (x == y) -> x != y, NaN too
    row(("not_", ("ne", X, Y)), ("eq", X, Y)),
    row(("not_", ("lt", X, Y)), ("ge", X, Y), NO_NAN),      # not (x < y) -> x >= y, but for NaN
    row(("not_", ("le", X, Y)), ("gt", X, Y), NO_NAN),
    row(("not_", ("gt", X, Y)), ("le", X, Y), NO_NAN),
    row(("not_", ("ge", X, Y)), ("lt", X, Y), NO_NAN),

    # cheaper forms
    row(("div", X, POWER_OF_TWO), _reciprocal),             # x / 4 -> x * 0.25: both round the same exact quotient
    row(("pow", X, TWO), ("mul", X, X)),                    # x ** 2 -> x * x
    row(("pow", X, MINUS_ONE), ("div", ONE, X), FLOAT),  # x ** -1 -> 1 / x
    row(("pow", X, THREE), ("mul", X, ("mul", X, X))),      # x ** 3 -> x*x*x: within the 2 ulp that a power may be off
    row(("pow", X, HALF), ("sqrt", X), FAST_FLOAT),         # x ** 0.5 -> sqrt x; differs at -0.0 and -inf
    row(("mul", ("sqrt", X), ("sqrt", X)), X, FAST_FLOAT),  # sqrt x * sqrt x -> x
    row(("log", ("exp", X)), X, FAST_FLOAT),                # log exp x -> x
    row(("exp", ("log", X)), X, FAST_FLOAT),                # exp log x -> x

    # literals together
    row(("add", ("add", X, C), D), _combined("add", "add"), FAST),      # (x + c) + d -> x + (c+d)
    row(("sub", ("add", X, C), D), _combined("sub", "add"), FAST),      # (x + c) - d -> x + (c-d)
    row(("mul", ("mul", X, C), D), _combined("mul", "mul"), FAST),      # (x * c) * d -> x * (c*d)
    row(("mul", ("mul", X, C), D), _combined("mul", "mul"), COTANGENT_FACTORS),
    row(("add", ("sub", X, Y), Y), X, FAST),                            # (x - y) + y -> x
    row(("sub", ("add", X, Y), Y), X, FAST),                            # (x + y) - y -> x
)
# fmt: on


# -- rules with params -------------------------------------------------------------------------------------------------

ROUNDINGS = ("floor", "ceil", "trunc", "rint")


def rounded_twice(rw: Rewriter, node: Node) -> Replacement:
    """floor ceil x -> ceil x: what is an integer stays"""
    return node.args[0] if node.args[0].node.op.name in ROUNDINGS else None


def same(rw: Rewriter, node: Node) -> Replacement:
    """copy x -> x, stop_gradient x -> x, …: what they say is settled before the passes run"""
    return node.args[0]


def holds_every(dtype: DType, other: DType) -> bool:
    """True when every value of `other` is a value of `dtype`, so that converting to it loses nothing."""
    if dtype is other or other.kind == "b":
        return True
    if dtype.is_float:
        mantissa = {16: 11, 32: 24, 64: 53}[dtype.bits]
        return dtype.bits > other.bits if other.is_float else other.bits - (other.kind == "i") <= mantissa
    if dtype.kind == "i" and other.kind == "u":
        return dtype.bits > other.bits
    return dtype.kind == other.kind and dtype.bits >= other.bits


def converted_twice(rw: Rewriter, node: Node) -> Replacement:
    """convert to the same dtype -> x; convert(convert x to b) to c -> convert x to c where b holds all of x's dtype"""
    (x,), to = node.args, node.params["dtype"]
    if x.type.dtype is to:
        return x
    if x.node.op.name != "convert":
        return None
    (inner,), via, first = x.node.args, x.type.dtype, x.node.args[0].type.dtype
    if first.kind == "c" or to.kind == "c" or via.kind == "c":
        return None
    exact = holds_every(via, first)
    if via.is_float and to.is_integer and not holds_every(to, first):
        exact = False  # what floats out of range become is not what integers become, nor other floats
    # narrowing of integers forgets high bits only, so the middle may forget no bit that the end keeps
    modular = first.is_integer and via.is_integer and to.is_integer and to.bits <= via.bits
    if not exact and not modular:
        return None
    return inner if first is to else rw.emit("convert", inner, dtype=to)


def literal_right(rw: Rewriter, node: Node) -> Replacement:
    """c + x -> x + c: literals stand right, so that equal sums look equal"""
    if len(node.args) != 2 or not node.op.commutative:
        return None
    x, y = node.args
    if x.node.op is fill_op and y.node.op is not fill_op:
        return rw.emit(node.op, y, x, **node.params)
    return None


def select_of_bools(rw: Rewriter, node: Node) -> Replacement:
    """select(b, True, False) -> b; select(b, False, True) -> not b"""
    b, x, y = node.args
    if x.type.dtype.kind != "b" or x.node.op is not fill_op or y.node.op is not fill_op or literal(x) == literal(y):
        return None
    return b if literal(x) else rw.emit("not_", b)


def sum_of_negatives(rw: Rewriter, node: Node) -> Replacement:
    """sum of -x -> -(sum of x), of cotangents: a sum of zeros may change its sign"""
    x = node.args[0]
    if x.node.op.name != "neg" or not node.in_backward:
        return None
    return rw.emit("neg", rw.emit("reduce_sum", x.node.args[0], axes=node.params["axes"]))


def sum_of_repeated(rw: Rewriter, node: Node) -> Replacement:
    """sum of x repeated n times -> x * n, of cotangents: adding up rounds each time"""
    (source,), axes = node.args, node.params["axes"]
    if source.node.op.name != "broadcast" or not node.in_backward or not node.types[0].dtype.is_float:
        return None
    (x,), places = source.node.args, source.node.params["axes"]
    n = product([source.type.shape[k] for k in axes])
    if not isinstance(n, int) or set(axes) & set(places):
        return None
    t = node.types[0]
    if x.type.shape != t.shape:
        x = rw.emit("broadcast", x, shape=t.shape, axes=tuple([k - sum(a < k for a in axes) for k in places]))
    return rw.emit("mul", x, rw.fill(float(n), t))


def known_check(rw: Rewriter, node: Node) -> Replacement:
    """check True -> nothing"""
    return () if literal(node.args[0]) else None


def rules() -> Rules:
    """The table of the pass. Made when first needed: the ops that rows name are declared by then."""
    more: dict[str, tuple[Rule, ...]] = {
        **dict.fromkeys(ROUNDINGS, (rounded_twice,)),
        "copy": (same,),
        "stop_gradient": (same,),
        "longest": (same,),
        "carried_key": (same,),
        "checkpoint_name": (same,),
        "convert": (converted_twice,),
        "select": (select_of_bools,),
        "check": (known_check,),
        "reduce_sum": (sum_of_negatives, sum_of_repeated),
        "family:elementwise": (literal_right,),
    }
    return merge_rules(more, pattern_rules(ROWS))
