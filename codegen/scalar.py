"""The vocabulary of lowering rules: one call per scalar operation, emitted for one element or for a vector of them.

`ScalarBuilder(irbuilder, width, target, functions)` wraps an llvmlite builder. With `width=1` its methods emit scalars,
with `width=W` they emit `<W x T>`; a lowering rule (`lambda b, x, y: b.mul(x, y)`) cannot tell which. Invariants: no
method emits anything that is poison or traps for any input, results are NumPy's on x86-64, and the bits of a lane do
not depend on `width`. Arguments of one call have one dtype (promotion is the graph's work), except where a method says
otherwise. Booleans are `i1` in registers and `i8` in memory. No fast-math flag and no contraction is ever set; `fma`
asks for one.

Functions that are more than a few instructions stand in `codegen/math/` and are reached through `functions`
(`MathFunctions`), which materialises each once per module, dtype and width.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import llvmlite.ir as ir
import numpy as np

from stager.codegen.target import Target
from stager.ir.dtypes import DTYPES, DType, b1, f32, f64, i8, i32, i64, u8, u32, u64

if TYPE_CHECKING:
    from stager.codegen.math.functions import MathFunctions


class Val(NamedTuple):
    """A register of the program being emitted: the llvmlite value and the element type that it holds."""

    ir: Any
    dtype: DType


_INT_TYPES = {bits: ir.IntType(bits) for bits in (1, 8, 16, 32, 64)}
_ELEMENT_TYPES: dict[str, Any] = {"f32": ir.FloatType(), "f64": ir.DoubleType(), "b1": _INT_TYPES[1]}
_ELEMENT_TYPES.update({d.name: _INT_TYPES[d.bits] for d in DTYPES.values() if d.is_integer})
_MANTISSA_BITS = {"f32": 23, "f64": 52}
_EXPONENT_BIAS = {"f32": 127, "f64": 1023}
BITS_OF = {"f32": u32, "f64": u64}
"""The unsigned integer of the width of a float."""
SIGNED_BITS_OF = {"f32": i32, "f64": i64}


def element_type(dtype: DType) -> Any:
    """The LLVM type of one element in a register."""
    return _ELEMENT_TYPES[dtype.name]


@cache
def register_type(dtype: str, width: int) -> Any:
    """The LLVM type of so many elements in a register; one object for each, so that types compare at once."""
    t = _ELEMENT_TYPES[dtype]
    return t if width == 1 else ir.VectorType(t, width)


def memory_type(dtype: DType) -> Any:
    """The LLVM type of one element in memory (booleans take a byte)."""
    return _INT_TYPES[8] if dtype is b1 else _ELEMENT_TYPES[dtype.name]


def mangled(dtype: DType, width: int) -> str:
    """`f64`, `v4f64`, `v8i1`: how LLVM's overloaded names spell a type (signedness is not part of it)."""
    element = dtype.name if dtype.kind == "f" else "i1" if dtype is b1 else f"i{dtype.bits}"
    return element if width == 1 else f"v{width}{element}"


def _literal(dtype: DType, value: Any) -> str:
    """LLVM's spelling of a constant of this dtype."""
    if dtype is b1:
        return "true" if value else "false"
    if dtype.kind == "f":
        exact = float(value)
        if dtype.bits < 64:
            with np.errstate(over="ignore"):
                exact = float(dtype.np.type(value))
        return f"0x{struct.unpack('<Q', struct.pack('<d', exact))[0]:016x}"
    n = int(value) & ((1 << dtype.bits) - 1)
    if n >> (dtype.bits - 1):
        n -= 1 << dtype.bits
    return str(n)


class _Literal(ir.Constant):  # type: ignore[misc]
    """A constant that is already spelled; vectors of one value stay short (`splat (double …)`). `number`: it is known
    not to be NaN."""

    def __init__(self, kind: Any, text: str, number: bool = False) -> None:
        self.type = kind  # the base class would take the text for a value of each lane
        self.constant = text
        self.number = number

    def _to_string(self) -> str:
        return f"{self.type} {self.constant}"

    def _get_reference(self) -> str:
        return str(self.constant)


def _is_number(x: Val) -> bool:
    """Whether a value is a constant other than NaN."""
    return isinstance(x.ir, _Literal) and x.ir.number


class ScalarBuilder:
    """Emits elementwise arithmetic on `Val`s. `inline` is how it calls math functions: "auto", "inline" or "call"."""

    __slots__ = ("builder", "functions", "inline", "target", "width")

    def __init__(
        self, builder: Any, width: int, target: Target, functions: MathFunctions, *, inline: str = "auto"
    ) -> None:
        self.builder = builder
        self.width = width
        self.target = target
        self.functions = functions
        self.inline = inline

    # -- types, constants, memory -----------------------------------------------------------------------------------

    def with_width(self, width: int) -> ScalarBuilder:
        """A builder at the same place of the program for another number of lanes."""
        return ScalarBuilder(self.builder, width, self.target, self.functions, inline=self.inline)

    def type(self, dtype: DType) -> Any:
        """The LLVM type of a register of this builder's width."""
        return register_type(dtype.name, self.width)

    def const(self, dtype: DType, value: Any) -> Val:
        """The same value in every lane. Integers wrap into the dtype, floats round to it."""
        text, t = _literal(dtype, value), element_type(dtype)
        number = bool(value == value)
        if self.width == 1:
            return Val(_Literal(t, text, number), dtype)
        return Val(_Literal(self.type(dtype), f"splat ({t} {text})", number), dtype)

    def const_lanes(self, dtype: DType, values: Sequence[Any]) -> Val:
        """One value per lane."""
        if len(values) != self.width:
            raise ValueError(f"const_lanes: {len(values)} values for {self.width} lanes")
        if self.width == 1:
            return self.const(dtype, values[0])
        t = element_type(dtype)
        return Val(_Literal(self.type(dtype), f"<{', '.join(f'{t} {_literal(dtype, v)}' for v in values)}>"), dtype)

    def iota(self, dtype: DType) -> Val:
        """0, 1, 2, … along the lanes."""
        return self.const_lanes(dtype, range(self.width))

    def splat(self, x: Val) -> Val:
        """A scalar in every lane."""
        if self.width == 1:
            return x
        t = self.type(x.dtype)
        lane0 = self.builder.insert_element(ir.Constant(t, ir.Undefined), x.ir, ir.Constant(_INT_TYPES[32], 0))
        mask = ir.Constant(ir.VectorType(_INT_TYPES[32], self.width), [ir.Constant(_INT_TYPES[32], 0)] * self.width)
        return Val(self.builder.shuffle_vector(lane0, ir.Constant(t, ir.Undefined), mask), x.dtype)

    def extract(self, x: Val, lane: int) -> Val:
        """One lane as a scalar."""
        if self.width == 1:
            return x
        return Val(self.builder.extract_element(x.ir, ir.Constant(_INT_TYPES[32], lane)), x.dtype)

    def insert(self, x: Val, lane: int, value: Val) -> Val:
        """`x` with one lane replaced by a scalar."""
        if self.width == 1:
            return value
        return Val(self.builder.insert_element(x.ir, value.ir, ir.Constant(_INT_TYPES[32], lane)), x.dtype)

    def map_lanes(self, f: Callable[..., Val], *args: Val) -> Val:
        """`f(scalar_builder, *scalars)` for each lane in turn: for what has no vector form."""
        if self.width == 1:
            return f(self, *args)
        scalar = self.with_width(1)
        out: Val | None = None
        for lane in range(self.width):
            value = f(scalar, *(self.extract(a, lane) for a in args))
            if out is None:
                out = Val(ir.Constant(self.type(value.dtype), ir.Undefined), value.dtype)
            out = self.insert(out, lane, value)
        assert out is not None
        return out

    def load(self, pointer: Any, dtype: DType, align: int | None = None) -> Val:
        """`width` adjacent elements. `align` in bytes; an element's size where it is not given."""
        t = memory_type(dtype)
        t = t if self.width == 1 else ir.VectorType(t, self.width)
        return self.from_memory(self.builder.load(pointer, typ=t, align=align or dtype.itemsize), dtype)

    def store(self, x: Val, pointer: Any, align: int | None = None) -> None:
        """Writes `width` adjacent elements."""
        self.builder.store(self.to_memory(x), pointer, align=align or x.dtype.itemsize)

    def from_memory(self, loaded: Any, dtype: DType) -> Val:
        """What `load` gave, as a register value: any nonzero byte is a true boolean."""
        if dtype is not b1:
            return Val(loaded, dtype)
        return self.ne(Val(loaded, u8), self.const(u8, 0))

    def to_memory(self, x: Val) -> Any:
        """The llvmlite value to store: booleans become bytes."""
        return self.convert(x, u8).ir if x.dtype is b1 else x.ir

    def any(self, mask: Val) -> Val:
        """Whether a lane is true, as a scalar b1."""
        return self._reduce_mask("or", mask)

    def all(self, mask: Val) -> Val:
        """Whether every lane is true, as a scalar b1."""
        return self._reduce_mask("and", mask)

    def _reduce_mask(self, kind: str, mask: Val) -> Val:
        if self.width == 1:
            return mask
        # through an integer: `vector.reduce.or.v4i1` makes the same mask register, but not on every backend
        bits = self.builder.bitcast(mask.ir, ir.IntType(self.width))
        bound = ir.Constant(bits.type, 0 if kind == "or" else -1)
        return Val(self.builder.icmp_unsigned("!=" if kind == "or" else "==", bits, bound), b1)

    def _intrinsic(self, name: str, result: DType, *args: Val, tail: Sequence[Any] = ()) -> Val:
        """A call of an intrinsic overloaded on its first argument's type."""
        values = [a.ir for a in args] + list(tail)
        full = f"llvm.{name}.{mangled(args[0].dtype, self.width)}"
        module = self.builder.module
        function = module.globals.get(full)
        if function is None:
            function = ir.Function(module, ir.FunctionType(self.type(result), [v.type for v in values]), full)
        return Val(self.builder.call(function, values), result)

    # -- casts ------------------------------------------------------------------------------------------------------

    def convert(self, x: Val, dtype: DType) -> Val:
        """`astype`: integers wrap, floats truncate; out of range and NaN give what NumPy gives on x86-64."""
        src = x.dtype
        if src is dtype:
            return x
        b, t = self.builder, self.type(dtype)
        if dtype is b1:
            zero = self.const(src, 0)
            return self.ne(x, zero)
        if src is b1:
            if dtype.kind == "f":
                return self.select(x, self.const(dtype, 1), self.const(dtype, 0))
            return Val(b.zext(x.ir, t), dtype)
        if src.is_integer and dtype.is_integer:
            if dtype.bits == src.bits:
                return Val(x.ir, dtype)
            if dtype.bits < src.bits:
                return Val(b.trunc(x.ir, t), dtype)
            return Val((b.sext if src.kind == "i" else b.zext)(x.ir, t), dtype)
        if src.is_integer:
            return Val((b.sitofp if src.kind == "i" else b.uitofp)(x.ir, t), dtype)
        if dtype.kind == "f":
            return Val((b.fpext if dtype.bits > src.bits else b.fptrunc)(x.ir, t), dtype)
        return self._float_to_int(x, dtype)

    def _float_to_int(self, x: Val, dtype: DType) -> Val:
        # C on x86-64, which NumPy inherits: narrow types go through i32 and u32 through i64, whose cvtt instructions
        # give the smallest integer for anything out of range; u64 takes its upper half by subtracting 2**63 first.
        if dtype.bits < 32:
            return self.convert(self._float_to_int(x, i32), dtype)
        if dtype is u32:
            return self.convert(self._float_to_int(x, i64), u32)
        if dtype is u64:
            half = self.const(x.dtype, 2.0**63)
            low = self._float_to_int(x, i64)
            high = self._float_to_int(self.sub(x, half), i64)
            flipped = self.xor(high, self.const(i64, -(2**63)))
            return Val(self.select(self.ge(x, half), flipped, low).ir, u64)
        if self.width == 1 and self.target.arch == "x86_64":
            return self._truncated(x, dtype)
        limit = 2.0 ** (dtype.bits - 1)
        inside = self.lt(self.abs(x), self.const(x.dtype, limit))
        whole = Val(self.builder.fptosi(x.ir, self.type(dtype)), dtype)  # poison outside: never selected there
        return self.select(inside, whole, self.const(dtype, -(2 ** (dtype.bits - 1))))

    def _truncated(self, x: Val, dtype: DType) -> Val:
        """The instruction of x86-64 itself, which LLVM's own conversion may not rely on."""
        double = x.dtype.bits == 64
        name = f"llvm.x86.{'sse2.cvttsd2si' if double else 'sse.cvttss2si'}{'64' if dtype.bits == 64 else ''}"
        lanes = ir.VectorType(x.ir.type, 2 if double else 4)
        f = self.builder.module.globals.get(name)
        if f is None:
            f = ir.Function(self.builder.module, ir.FunctionType(self.type(dtype), [lanes]), name)
        first = self.builder.insert_element(ir.Constant(lanes, ir.Undefined), x.ir, ir.Constant(ir.IntType(32), 0))
        return Val(self.builder.call(f, [first]), dtype)

    def bitcast(self, x: Val, dtype: DType) -> Val:
        """The same bits as another dtype of the same width."""
        if x.dtype.bits != dtype.bits or b1 in (x.dtype, dtype):
            raise TypeError(f"bitcast: {x.dtype} to {dtype}")
        same = x.dtype.kind != "f" and dtype.kind != "f"
        return Val(x.ir if same or x.dtype is dtype else self.builder.bitcast(x.ir, self.type(dtype)), dtype)

    # -- arithmetic -------------------------------------------------------------------------------------------------

    def add(self, x: Val, y: Val) -> Val:
        if x.dtype is b1:
            return self.or_(x, y)
        return Val((self.builder.fadd if x.dtype.kind == "f" else self.builder.add)(x.ir, y.ir), x.dtype)

    def sub(self, x: Val, y: Val) -> Val:
        return Val((self.builder.fsub if x.dtype.kind == "f" else self.builder.sub)(x.ir, y.ir), x.dtype)

    def mul(self, x: Val, y: Val) -> Val:
        if x.dtype is b1:
            return self.and_(x, y)
        return Val((self.builder.fmul if x.dtype.kind == "f" else self.builder.mul)(x.ir, y.ir), x.dtype)

    def div(self, x: Val, y: Val) -> Val:
        """True division of floats (integers are promoted before; see `floordiv` and `trunc_div`)."""
        self._float(x, "div")
        return Val(self.builder.fdiv(x.ir, y.ir), x.dtype)

    def fma(self, x: Val, y: Val, z: Val) -> Val:
        """`x*y + z`, contracted where the target has the instruction."""
        if x.dtype.kind == "f" and self.target.has_fma:
            return self._intrinsic("fma", x.dtype, x, y, z)
        return self.add(self.mul(x, y), z)

    def neg(self, x: Val) -> Val:
        if x.dtype.kind == "f":
            return Val(self.builder.fneg(x.ir), x.dtype)
        return self.sub(self.const(x.dtype, 0), x)

    def abs(self, x: Val) -> Val:
        if x.dtype.kind in "ub":
            return x
        if x.dtype.kind == "f":
            return self._intrinsic("fabs", x.dtype, x)
        return self._intrinsic("abs", x.dtype, x, tail=[ir.Constant(_INT_TYPES[1], 0)])

    def sign(self, x: Val) -> Val:
        """-1, 0, 1; NaN stays, the sign of zero does not (as in NumPy)."""
        zero, one = self.const(x.dtype, 0), self.const(x.dtype, 1)
        positive = self.select(self.gt(x, zero), one, zero)
        if x.dtype.kind in "ub":
            return positive
        out = self.select(self.lt(x, zero), self.const(x.dtype, -1), positive)
        return self.select(self.isnan(x), x, out) if x.dtype.kind == "f" else out

    def reciprocal(self, x: Val) -> Val:
        if x.dtype.kind == "f":
            return self.div(self.const(x.dtype, 1), x)
        # np.reciprocal(0) of integers is what the C cast of inf gives
        by_zero = self._float_to_int(self.const(f64, float("inf")), x.dtype)
        return self.select(self.eq(x, self.const(x.dtype, 0)), by_zero, self.trunc_div(self.const(x.dtype, 1), x))

    def sqrt(self, x: Val) -> Val:
        return self._intrinsic("sqrt", x.dtype, x)

    def square(self, x: Val) -> Val:
        return self.mul(x, x)

    # -- division of integers and floats with NumPy's meaning ---------------------------------------------------------

    def _safe_division(self, x: Val, y: Val) -> tuple[Val, Val, Val]:
        """Quotient and remainder toward zero with a divisor of 1 where the machine would trap, and that divisor."""
        one, zero = self.const(x.dtype, 1), self.const(x.dtype, 0)
        traps = self.eq(y, zero)
        if x.dtype.kind == "i":
            smallest = self.eq(x, self.const(x.dtype, -(2 ** (x.dtype.bits - 1))))
            traps = self.or_(traps, self.and_(smallest, self.eq(y, self.const(x.dtype, -1))))
        d = self.select(traps, one, y)
        if self.width > 1 and x.dtype.bits <= 32 and self.target.vector_bits:
            # no vector unit divides integers; a float with more than twice the digits divides them exactly
            wide = f32 if x.dtype.bits == 8 else f64
            q = self.convert(self.trunc(self.div(self.convert(x, wide), self.convert(d, wide))), _whole(x.dtype))
            q = self.convert(q, x.dtype)
        elif x.dtype.kind == "i":
            q = Val(self.builder.sdiv(x.ir, d.ir), x.dtype)
        else:
            q = Val(self.builder.udiv(x.ir, d.ir), x.dtype)
        return q, self.sub(x, self.mul(q, d)), d

    def trunc_div(self, x: Val, y: Val) -> Val:
        """Integer quotient rounded toward zero; /0 gives 0, MIN/-1 gives MIN."""
        q, _, _ = self._safe_division(x, y)
        return self.select(self.eq(y, self.const(y.dtype, 0)), self.const(x.dtype, 0), q)

    def floordiv(self, x: Val, y: Val) -> Val:
        """`np.floor_divide`: integers /0 give 0 and MIN//-1 gives MIN; floats as `npy_divmod`."""
        if x.dtype.kind == "f":
            return self.functions.call(self, "floordiv", x, y)
        if x.dtype is b1:
            return self.convert(self.and_(x, y), i8)
        zero = self.const(x.dtype, 0)
        q, r, d = self._safe_division(x, y)
        if x.dtype.kind == "i":
            down = self.and_(self.ne(r, zero), self.lt(self.xor(r, d), zero))
            q = self.sub(q, self.convert(down, x.dtype))
        return self.select(self.eq(y, zero), zero, q)

    def mod(self, x: Val, y: Val) -> Val:
        """`np.remainder`: the sign of the divisor; integers % 0 give 0."""
        if x.dtype.kind == "f":
            return self.functions.call(self, "mod", x, y)
        zero = self.const(x.dtype, 0)
        _, r, d = self._safe_division(x, y)
        if x.dtype.kind == "i":
            up = self.and_(self.ne(r, zero), self.lt(self.xor(r, d), zero))
            r = self.select(up, self.add(r, d), r)
        return self.select(self.eq(y, zero), zero, r)

    def fmod(self, x: Val, y: Val) -> Val:
        """`np.fmod`: the sign of the dividend; integers % 0 give 0."""
        if x.dtype.kind == "f":
            return self.functions.call(self, "fmod", x, y)
        zero = self.const(x.dtype, 0)
        _, r, _ = self._safe_division(x, y)
        return self.select(self.eq(y, zero), zero, r)

    def gcd(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "gcd", x, y)

    def lcm(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "lcm", x, y)

    # -- rounding and the parts of a float --------------------------------------------------------------------------

    def floor(self, x: Val) -> Val:
        return self._round("floor", x)

    def ceil(self, x: Val) -> Val:
        return self._round("ceil", x)

    def trunc(self, x: Val) -> Val:
        return self._round("trunc", x)

    def rint(self, x: Val) -> Val:
        """To nearest, ties to even."""
        return self._round("rint", x)

    def _round(self, name: str, x: Val) -> Val:
        return self._intrinsic(name, x.dtype, x) if x.dtype.kind == "f" else x

    def copysign(self, x: Val, y: Val) -> Val:
        return self._intrinsic("copysign", x.dtype, x, y)

    def signbit(self, x: Val) -> Val:
        bits = SIGNED_BITS_OF[x.dtype.name]
        return self.lt(self.bitcast(x, bits), self.const(bits, 0))

    def isnan(self, x: Val) -> Val:
        if x.dtype.kind != "f":
            return self.const(b1, False)
        return Val(self.builder.fcmp_unordered("uno", x.ir, x.ir), b1)

    def isinf(self, x: Val) -> Val:
        if x.dtype.kind != "f":
            return self.const(b1, False)
        return self.eq(self.abs(x), self.const(x.dtype, float("inf")))

    def isfinite(self, x: Val) -> Val:
        if x.dtype.kind != "f":
            return self.const(b1, True)
        return self.lt(self.abs(x), self.const(x.dtype, float("inf")))

    def nextafter(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "nextafter", x, y)

    def spacing(self, x: Val) -> Val:
        """`np.spacing`: the distance to the next number away from zero, with the sign of `x`."""
        return self.functions.call(self, "spacing", x)

    def frexp(self, x: Val) -> tuple[Val, Val]:
        """Mantissa in [0.5, 1) and exponent (i32)."""
        return self.functions.call(self, "frexp_mantissa", x), self.functions.call(self, "frexp_exponent", x)

    def ldexp(self, x: Val, n: Val) -> Val:
        """`x * 2**n`, rounded once. `n` is any integer dtype."""
        if n.dtype is not i32:
            wide = self.convert(n, i64) if n.dtype.bits < 64 else n
            limit = self.const(wide.dtype, 1 << 20)
            wide = self.minimum(wide, limit)
            if wide.dtype.kind == "i":
                wide = self.maximum(wide, self.neg(limit))
            n = self.convert(wide, i32)
        return self.functions.call(self, "ldexp", x, n)

    def modf(self, x: Val) -> tuple[Val, Val]:
        """Fraction and whole part, both with the sign of `x`."""
        whole = self.trunc(x)
        fraction = self.select(self.isinf(x), self.const(x.dtype, 0), self.sub(x, whole))
        return self.copysign(fraction, x), whole

    # -- order ------------------------------------------------------------------------------------------------------

    def _compare(self, sign: str, x: Val, y: Val) -> Val:
        if x.dtype.kind == "f":
            compare = self.builder.fcmp_unordered if sign == "!=" else self.builder.fcmp_ordered
        elif x.dtype.kind == "i":
            compare = self.builder.icmp_signed
        else:
            compare = self.builder.icmp_unsigned
        return Val(compare(sign, x.ir, y.ir), b1)

    def eq(self, x: Val, y: Val) -> Val:
        return self._compare("==", x, y)

    def ne(self, x: Val, y: Val) -> Val:
        return self._compare("!=", x, y)

    def lt(self, x: Val, y: Val) -> Val:
        return self._compare("<", x, y)

    def le(self, x: Val, y: Val) -> Val:
        return self._compare("<=", x, y)

    def gt(self, x: Val, y: Val) -> Val:
        return self._compare(">", x, y)

    def ge(self, x: Val, y: Val) -> Val:
        return self._compare(">=", x, y)

    def select(self, c: Val, x: Val, y: Val) -> Val:
        """`x` where the boolean `c` holds, else `y`."""
        return Val(self.builder.select(c.ir, x.ir, y.ir), x.dtype)

    def minimum(self, x: Val, y: Val) -> Val:
        """The smaller; NaN if either is."""
        return self._extreme("<", x, y)

    def maximum(self, x: Val, y: Val) -> Val:
        """The larger; NaN if either is."""
        return self._extreme(">", x, y)

    def _extreme(self, sign: str, x: Val, y: Val) -> Val:
        """The operand that is `sign` the other; of equal ones the second, as in NumPy; NaN if either is."""
        if x.dtype.kind != "f" or _is_number(x):
            return self.select(self._compare(sign, x, y), x, y)
        if _is_number(y):  # one comparison: true as well where x is NaN
            return self.select(Val(self.builder.fcmp_unordered(sign, x.ir, y.ir), b1), x, y)
        # frozen: LLVM would join the two questions, and the inner one alone is an instruction
        inner = self._freeze(self.select(self._compare(sign, x, y), x, y))
        return self.select(self.isnan(x), x, inner)

    def _freeze(self, x: Val) -> Val:
        frozen = ir.Instruction(self.builder.block, x.ir.type, "freeze", [x.ir])
        self.builder._insert(frozen)  # llvmlite's builder has no name for it
        return Val(frozen, x.dtype)

    def fmin(self, x: Val, y: Val) -> Val:
        """The smaller; the other one where one is NaN."""
        smaller = self.select(self.lt(x, y), x, y)
        return self.select(self.isnan(y), x, smaller) if x.dtype.kind == "f" else smaller

    def fmax(self, x: Val, y: Val) -> Val:
        """The larger; the other one where one is NaN."""
        larger = self.select(self.gt(x, y), x, y)
        return self.select(self.isnan(y), x, larger) if x.dtype.kind == "f" else larger

    def clip(self, x: Val, low: Val, high: Val) -> Val:
        return self.minimum(self.maximum(x, low), high)

    # -- bits and logic ---------------------------------------------------------------------------------------------

    def and_(self, x: Val, y: Val) -> Val:
        return Val(self.builder.and_(x.ir, y.ir), x.dtype)

    def or_(self, x: Val, y: Val) -> Val:
        return Val(self.builder.or_(x.ir, y.ir), x.dtype)

    def xor(self, x: Val, y: Val) -> Val:
        return Val(self.builder.xor(x.ir, y.ir), x.dtype)

    def not_(self, x: Val) -> Val:
        return self.xor(x, self.const(x.dtype, True if x.dtype is b1 else -1))

    def shl(self, x: Val, y: Val) -> Val:
        """`x << y`; 0 for a shift of the width or more, or a negative one."""
        inside, amount = self._shift_amount(x, y)
        return self.select(inside, Val(self.builder.shl(x.ir, amount), x.dtype), self.const(x.dtype, 0))

    def shr(self, x: Val, y: Val) -> Val:
        """`x >> y`; the sign fills a shift of the width or more, or a negative one."""
        inside, amount = self._shift_amount(x, y)
        if x.dtype.kind == "u":
            return self.select(inside, Val(self.builder.lshr(x.ir, amount), x.dtype), self.const(x.dtype, 0))
        last = self.const(x.dtype, x.dtype.bits - 1)
        return Val(self.builder.ashr(x.ir, self.select(inside, y, last).ir), x.dtype)

    def _shift_amount(self, x: Val, y: Val) -> tuple[Val, Any]:
        inside = Val(self.builder.icmp_unsigned("<", y.ir, self.const(y.dtype, x.dtype.bits).ir), b1)
        return inside, y.ir  # a shift by too much is poison, which the select does not choose

    def popcount(self, x: Val) -> Val:
        """`np.bitwise_count`: the ones of |x|, as u8."""
        return self.convert(self._intrinsic("ctpop", x.dtype, self.abs(x)), u8)

    # -- powers and transcendentals -----------------------------------------------------------------------------------

    def pow(self, x: Val, y: Val) -> Val:
        """`x**y`. Floats: C's pow. Integers: wrapping squares; a negative exponent gives the truncated quotient."""
        return self.functions.call(self, "pow" if x.dtype.kind == "f" else "ipow", x, y)

    def call(self, name: str, *args: Val) -> Val:
        """Any function of `codegen/math/` by name."""
        return self.functions.call(self, name, *args)

    def _float(self, x: Val, what: str) -> None:
        if x.dtype.kind != "f":
            raise TypeError(f"{what}: takes floats, not {x.dtype}; the graph converts before")

    def exp(self, x: Val) -> Val:
        return self.functions.call(self, "exp", x)

    def exp2(self, x: Val) -> Val:
        return self.functions.call(self, "exp2", x)

    def expm1(self, x: Val) -> Val:
        return self.functions.call(self, "expm1", x)

    def log(self, x: Val) -> Val:
        return self.functions.call(self, "log", x)

    def log2(self, x: Val) -> Val:
        return self.functions.call(self, "log2", x)

    def log10(self, x: Val) -> Val:
        return self.functions.call(self, "log10", x)

    def log1p(self, x: Val) -> Val:
        return self.functions.call(self, "log1p", x)

    def logaddexp(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "logaddexp", x, y)

    def logaddexp2(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "logaddexp2", x, y)

    def sin(self, x: Val) -> Val:
        return self.functions.call(self, "sin", x)

    def cos(self, x: Val) -> Val:
        return self.functions.call(self, "cos", x)

    def tan(self, x: Val) -> Val:
        return self.functions.call(self, "tan", x)

    def asin(self, x: Val) -> Val:
        return self.functions.call(self, "asin", x)

    def acos(self, x: Val) -> Val:
        return self.functions.call(self, "acos", x)

    def atan(self, x: Val) -> Val:
        return self.functions.call(self, "atan", x)

    def atan2(self, y: Val, x: Val) -> Val:
        return self.functions.call(self, "atan2", y, x)

    def sinh(self, x: Val) -> Val:
        return self.functions.call(self, "sinh", x)

    def cosh(self, x: Val) -> Val:
        return self.functions.call(self, "cosh", x)

    def tanh(self, x: Val) -> Val:
        return self.functions.call(self, "tanh", x)

    def asinh(self, x: Val) -> Val:
        return self.functions.call(self, "asinh", x)

    def acosh(self, x: Val) -> Val:
        return self.functions.call(self, "acosh", x)

    def atanh(self, x: Val) -> Val:
        return self.functions.call(self, "atanh", x)

    def cbrt(self, x: Val) -> Val:
        return self.functions.call(self, "cbrt", x)

    def hypot(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "hypot", x, y)

    def erf(self, x: Val) -> Val:
        return self.functions.call(self, "erf", x)

    def erfc(self, x: Val) -> Val:
        return self.functions.call(self, "erfc", x)

    def erfinv(self, x: Val) -> Val:
        return self.functions.call(self, "erfinv", x)

    # -- C functions ------------------------------------------------------------------------------------------------

    def c_call(self, symbol: str, *args: Val) -> Val:
        """The external C function `symbol`, whose parameters and result all have the arguments' type; lane by lane."""
        from stager.codegen.foreign import call_c

        return call_c(self, symbol, args)

    # -- the gamma family ----------------------------------------------------------------------------------------------

    def lgamma(self, x: Val) -> Val:
        """log |gamma(x)|."""
        return self.functions.call(self, "lgamma", x)

    def gamma(self, x: Val) -> Val:
        """gamma(x); NaN at negative integers and -inf, a signed infinity at zeros."""
        return self.functions.call(self, "gamma", x)

    def digamma(self, x: Val) -> Val:
        """The derivative of log gamma."""
        return self.functions.call(self, "digamma", x)

    def sinc(self, x: Val) -> Val:
        """`np.sinc`: sin(pi x)/(pi x)."""
        return self.functions.call(self, "sinc", x)

    def i0(self, x: Val) -> Val:
        """The modified Bessel function of the first kind of order 0."""
        return self.functions.call(self, "i0", x)


def _whole(dtype: DType) -> DType:
    """The integer through which quotients of `dtype` come back from a float: all of its values fit."""
    return i64 if dtype is u32 else i32
