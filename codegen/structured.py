"""Structured control flow over llvmlite's builder, for code that is written by hand: the entry, the pool, the buffers.

Invariant: values are plain `ir.Value`s and Python ints stand for constants of the other operand's type, so this layer
adds reading comfort and no semantics. Not here: kernels (they have their own emitter) and anything known of a target.
Types, constants and globals are in `declarations.py`.

    c = Code(module, "sum_to", I64, [("n", I64)])
    total = c.var(I64, 0)
    with c.for_range(0, c.arg("n")) as i:
        total.set(c.add(total.get(), i))
    c.ret(total.get())
    c.finish()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from stager.codegen.builder import Builder
from stager.codegen.declarations import I1, I8, I32, I64, NULL, PTR, VOID, Struct, Value, const, cstring, declare

Operand = Any  # ir.Value or a Python int (float for floating types)


class Var:
    """A local variable: a stack slot that LLVM turns into registers."""

    __slots__ = ("code", "ptr", "type")

    def __init__(self, code: Code, type: Any, ptr: Value) -> None:
        self.code = code
        self.type = type
        self.ptr = ptr

    def get(self) -> Value:
        """Its value now."""
        return self.code.b.load(self.ptr, typ=self.type)

    def set(self, value: Operand) -> None:
        """Assign."""
        self.code.b.store(self.code.as_type(value, self.type), self.ptr)


class Label:
    """A place to `goto`, placed later (or before) by `Code.place`."""

    __slots__ = ("block",)

    def __init__(self, block: Any) -> None:
        self.block = block


class Switch:
    """The cases of one `Code.switch`."""

    def __init__(self, code: Code, instruction: Any, default: Any, end: Any) -> None:
        self._code, self._instruction, self._default, self._end = code, instruction, default, end
        self._has_default = False

    @contextmanager
    def case(self, *values: int) -> Iterator[None]:
        """The code for these values; no fall-through."""
        block = self._code.new_block("case")
        for value in values:
            self._instruction.add_case(value, block)
        with self._code.inside(block, self._end):
            yield

    @contextmanager
    def default(self) -> Iterator[None]:
        """The code for every other value."""
        self._has_default = True
        with self._code.inside(self._default, self._end):
            yield

    def close(self) -> None:
        if not self._has_default:
            with self._code.inside(self._default, self._end):
                pass


class Code:
    """The body of one function while it is written. `b` is the llvmlite builder, for what this layer lacks."""

    def __init__(
        self,
        module: Any,
        name: str,
        result: Any,
        params: Sequence[tuple[str, Any]],
        *,
        linkage: str = "",
        attributes: Sequence[str] = ("nounwind",),
    ) -> None:
        self.module = module
        self.result = result
        self.function = declare(module, name, result, [type for _, type in params])
        self.function.linkage = linkage
        for attribute in attributes:
            self.function.attributes.add(attribute)
        self._args: dict[str, Value] = {}
        for argument, (parameter, _) in zip(self.function.args, params, strict=True):
            argument.name = parameter
            self._args[parameter] = argument
        self._allocas = Builder(self.function.append_basic_block("entry"))
        start = self.function.append_basic_block("start")
        self.b = Builder(start)
        self._start = start
        self._loops: list[tuple[Any, Any]] = []  # (continue block, break block)
        self._closed_if: tuple[Any, Any, Any] | None = None  # the last if_: (else block, then's end block, its branch)

    # --- values

    def arg(self, name: str) -> Value:
        """A parameter by name."""
        return self._args[name]

    def as_type(self, value: Operand, type: Any) -> Value:
        """A Python number as a constant of `type`; a value stays."""
        return ir.Constant(type, value) if isinstance(value, int | float) or value is None else value

    def _pair(self, a: Operand, b: Operand) -> tuple[Value, Value]:
        if isinstance(a, int | float):
            return ir.Constant(b.type, a), b
        return a, self.as_type(b, a.type)

    def add(self, a: Operand, b: Operand) -> Value:
        return self.b.add(*self._pair(a, b))

    def sub(self, a: Operand, b: Operand) -> Value:
        return self.b.sub(*self._pair(a, b))

    def mul(self, a: Operand, b: Operand) -> Value:
        return self.b.mul(*self._pair(a, b))

    def sdiv(self, a: Operand, b: Operand) -> Value:
        return self.b.sdiv(*self._pair(a, b))

    def udiv(self, a: Operand, b: Operand) -> Value:
        return self.b.udiv(*self._pair(a, b))

    def srem(self, a: Operand, b: Operand) -> Value:
        return self.b.srem(*self._pair(a, b))

    def urem(self, a: Operand, b: Operand) -> Value:
        return self.b.urem(*self._pair(a, b))

    def and_(self, a: Operand, b: Operand) -> Value:
        return self.b.and_(*self._pair(a, b))

    def or_(self, a: Operand, b: Operand) -> Value:
        return self.b.or_(*self._pair(a, b))

    def xor(self, a: Operand, b: Operand) -> Value:
        return self.b.xor(*self._pair(a, b))

    def shl(self, a: Operand, b: Operand) -> Value:
        return self.b.shl(*self._pair(a, b))

    def lshr(self, a: Operand, b: Operand) -> Value:
        return self.b.lshr(*self._pair(a, b))

    def ashr(self, a: Operand, b: Operand) -> Value:
        return self.b.ashr(*self._pair(a, b))

    def not_(self, a: Value) -> Value:
        return self.b.not_(a)

    def eq(self, a: Operand, b: Operand) -> Value:
        return self.b.icmp_unsigned("==", *self._pair(a, b))

    def ne(self, a: Operand, b: Operand) -> Value:
        return self.b.icmp_unsigned("!=", *self._pair(a, b))

    def lt(self, a: Operand, b: Operand) -> Value:
        """Signed, as le, gt and ge."""
        return self.b.icmp_signed("<", *self._pair(a, b))

    def le(self, a: Operand, b: Operand) -> Value:
        return self.b.icmp_signed("<=", *self._pair(a, b))

    def gt(self, a: Operand, b: Operand) -> Value:
        return self.b.icmp_signed(">", *self._pair(a, b))

    def ge(self, a: Operand, b: Operand) -> Value:
        return self.b.icmp_signed(">=", *self._pair(a, b))

    def ult(self, a: Operand, b: Operand) -> Value:
        """Unsigned `<`."""
        return self.b.icmp_unsigned("<", *self._pair(a, b))

    def uge(self, a: Operand, b: Operand) -> Value:
        """Unsigned `>=`."""
        return self.b.icmp_unsigned(">=", *self._pair(a, b))

    def is_null(self, pointer: Value) -> Value:
        return self.b.icmp_unsigned("==", pointer, NULL)

    def not_null(self, pointer: Value) -> Value:
        return self.b.icmp_unsigned("!=", pointer, NULL)

    def select(self, condition: Value, a: Operand, b: Operand) -> Value:
        return self.b.select(condition, *self._pair(a, b))

    def min(self, a: Operand, b: Operand) -> Value:
        """The smaller, signed."""
        return self.select(self.lt(a, b), a, b)

    def max(self, a: Operand, b: Operand) -> Value:
        """The larger, signed."""
        return self.select(self.gt(a, b), a, b)

    def to(self, value: Value, type: Any) -> Value:
        """An integer in another width: sign-extended or cut."""
        if value.type.width == type.width:
            return value
        return self.b.sext(value, type) if value.type.width < type.width else self.b.trunc(value, type)

    def zext(self, value: Value, type: Any) -> Value:
        """An integer (an i1 as 0 or 1) zero-extended."""
        return value if value.type.width == type.width else self.b.zext(value, type)

    def and_then(self, first: Value, second: Callable[[], Value]) -> Value:
        """C's `first && second()`: the second is evaluated only when the first holds."""
        return self._short_circuit(first, second, on=True)

    def or_else(self, first: Value, second: Callable[[], Value]) -> Value:
        """C's `first || second()`."""
        return self._short_circuit(first, second, on=False)

    def _short_circuit(self, first: Value, second: Callable[[], Value], *, on: bool) -> Value:
        origin, more, end = self.b.block, self.new_block("more"), self.new_block("both")
        self.b.cbranch(first, *((more, end) if on else (end, more)))
        self.b.position_at_end(more)
        value = second()
        last = self.b.block
        self.b.branch(end)
        self.b.position_at_end(end)
        phi = self.b.phi(I1)
        phi.add_incoming(ir.Constant(I1, not on), origin)
        phi.add_incoming(value, last)
        return phi

    # --- memory

    def var(self, type: Any, initial: Operand | None = None) -> Var:
        """A local variable; assigned `initial` here, where given."""
        made = Var(self, type, self.alloca(type))
        if initial is not None:
            made.set(initial)
        return made

    def alloca(self, type: Any, *, align: int = 0) -> Value:
        """Stack space for `type` (a `Struct` too), made once per call of the function; not initialised."""
        made = self._allocas.alloca(type.type if isinstance(type, Struct) else type)
        made.type = PTR  # llvmlite still hands out typed pointers here; everything else is opaque
        if align:
            made.align = align
        return made

    def load(self, pointer: Value, type: Any, *, align: int | None = None) -> Value:
        return self.b.load(pointer, typ=type, align=align)

    def store(self, value: Value, pointer: Value, *, align: int | None = None) -> None:
        self.b.store(value, pointer, align=align)

    def field(self, struct: Struct, pointer: Value, name: str) -> Value:
        """The address of a field."""
        return self.b.gep(
            pointer, [const(I32, 0), const(I32, struct.index(name))], inbounds=True, source_etype=struct.type
        )

    def get(self, struct: Struct, pointer: Value, name: str) -> Value:
        """The value of a field."""
        return self.b.load(self.field(struct, pointer, name), typ=struct.field_type(name))

    def put(self, struct: Struct, pointer: Value, name: str, value: Operand) -> None:
        """Assign a field."""
        self.b.store(self.as_type(value, struct.field_type(name)), self.field(struct, pointer, name))

    def element(self, pointer: Value, type: Any, index: Operand) -> Value:
        """The address of element `index` of an array of `type` (a `Struct` too) that starts at `pointer`."""
        type = type.type if isinstance(type, Struct) else type
        return self.b.gep(pointer, [self.as_type(index, I64)], inbounds=True, source_etype=type)

    def at(self, pointer: Value, type: Any, index: Operand) -> Value:
        """The value of element `index`."""
        return self.b.load(self.element(pointer, type, index), typ=type)

    def put_at(self, pointer: Value, type: Any, index: Operand, value: Operand) -> None:
        """Assign element `index`."""
        self.b.store(self.as_type(value, type), self.element(pointer, type, index))

    def offset(self, pointer: Value, count: Operand) -> Value:
        """The address `count` bytes further."""
        return self.element(pointer, I8, count)

    def copy(self, target: Value, source: Value, count: Operand) -> None:
        """memcpy of `count` bytes."""
        self._memory("llvm.memcpy.p0.p0.i64", PTR, target, source, count)

    def fill(self, target: Value, byte: Operand, count: Operand) -> None:
        """memset of `count` bytes."""
        self._memory("llvm.memset.p0.i64", I8, target, self.as_type(byte, I8), count)

    def _memory(self, intrinsic: str, second: Any, target: Value, value: Value, count: Operand) -> None:
        fn = declare(self.module, intrinsic, VOID, [PTR, second, I64, I1])
        self.b.call(fn, [target, value, self.as_type(count, I64), const(I1, 0)])

    def atomic_load(self, pointer: Value, type: Any, ordering: str = "seq_cst") -> Value:
        return self.b.load_atomic(pointer, ordering, type.width // 8, typ=type)

    def atomic_store(self, value: Operand, pointer: Value, type: Any, ordering: str = "seq_cst") -> None:
        value = self.as_type(value, type)
        self._insert(ir.instructions.StoreAtomicInstr(self.b.block, value, pointer, ordering, type.width // 8))

    def atomic_rmw(self, op: str, pointer: Value, value: Operand, type: Any, ordering: str = "seq_cst") -> Value:
        """`op` is add, sub, xchg, and, or, max, min, …; the old value."""
        return self.b.atomic_rmw(op, pointer, self.as_type(value, type), ordering)

    def compare_exchange(self, pointer: Value, expected: Operand, value: Operand, type: Any) -> tuple[Value, Value]:
        """(old value, i1 whether it was `expected` and is now `value`)."""
        pair = self.b.cmpxchg(pointer, self.as_type(expected, type), self.as_type(value, type), "seq_cst")
        return self.b.extract_value(pair, 0), self.b.extract_value(pair, 1)

    # --- calls

    def call(
        self, name: str | Any, result: Any = VOID, args: Sequence[Value] = (), *, fixed: int | None = None
    ) -> Value:
        """Call an external function by name, declared by the types of `args`, or an `ir.Function`.

        `fixed`: the number of named parameters of a variadic function (`snprintf` has 3).
        """
        args = list(args)
        if not isinstance(name, str):
            return self.b.call(name, args)
        types = [PTR if a.type.is_pointer else a.type for a in (args if fixed is None else args[:fixed])]
        return self.b.call(declare(self.module, name, result, types, vararg=fixed is not None), args)

    def call_pointer(self, pointer: Value, result: Any, args: Sequence[Value]) -> Value:
        """Call through a function pointer."""
        type = ir.FunctionType(result, [PTR if a.type.is_pointer else a.type for a in args])
        typed = ir.instructions.CastInstr(self.b.block, "bitcast", pointer, ir.PointerType(type))
        self._insert(typed)
        return self.b.call(typed, list(args))

    def _insert(self, instruction: Any) -> None:
        """For instructions whose builder methods still want typed pointers."""
        self.b._insert(instruction)

    def string(self, text: str) -> Value:
        """The address of a C string."""
        return cstring(self.module, text)

    # --- control flow

    def new_block(self, name: str = "") -> Any:
        return self.function.append_basic_block(name)

    @property
    def ended(self) -> bool:
        """Whether the current block already left (returned, jumped)."""
        return bool(self.b.block.is_terminated)

    @contextmanager
    def inside(self, block: Any, then: Any) -> Iterator[None]:
        """Write into `block`, fall to `then`; continue there."""
        self.b.position_at_end(block)
        yield
        if not self.ended:
            self.b.branch(then)
        self.b.position_at_end(then)

    @contextmanager
    def if_(self, condition: Value, *, likely: bool | None = None) -> Iterator[None]:
        """`with c.if_(x): …`, optionally followed at once by `with c.else_(): …`."""
        then, rest = self.new_block("then"), self.new_block("rest")
        branch = self.b.cbranch(condition, then, rest)
        if likely is not None:
            branch.set_weights([1000, 1] if likely else [1, 1000])
        self.b.position_at_end(then)
        yield
        leaving = None
        if not self.ended:
            leaving = self.b.branch(rest)
        self.b.position_at_end(rest)
        self._closed_if = (rest, leaving, None)

    @contextmanager
    def else_(self) -> Iterator[None]:
        """The other branch of the `if_` that ended just before."""
        if self._closed_if is None or self._closed_if[0] is not self.b.block or self.b.block.instructions:
            raise RuntimeError("else_ must follow its if_ at once")
        _, leaving, _ = self._closed_if
        end = self.new_block("end")
        if leaving is not None:
            leaving.operands = [end]
        yield
        if not self.ended:
            self.b.branch(end)
        self.b.position_at_end(end)
        self._closed_if = None

    @contextmanager
    def while_(self, condition: Callable[[], Value]) -> Iterator[None]:
        """`with c.while_(lambda: c.lt(i.get(), n)): …`; break_ and continue_ work inside."""
        head, body, end = self.new_block("while"), self.new_block("body"), self.new_block("done")
        self.b.branch(head)
        self.b.position_at_end(head)
        self.b.cbranch(condition(), body, end)
        with self._loop(body, head, end):
            yield

    @contextmanager
    def loop(self) -> Iterator[None]:
        """For ever, until break_ or ret."""
        body, end = self.new_block("loop"), self.new_block("done")
        self.b.branch(body)
        with self._loop(body, body, end):
            yield

    @contextmanager
    def for_range(self, low: Operand, high: Operand, step: int = 1, *, type: Any = I64) -> Iterator[Value]:
        """`low <= i < high` (`low >= i > high` for a negative step); bounds are read once."""
        low, high = self.as_type(low, type), self.as_type(high, type)
        counter = self.var(low.type, low)
        head, body, following, end = (self.new_block(n) for n in ("for", "body", "next", "done"))
        self.b.branch(head)
        self.b.position_at_end(head)
        i = counter.get()
        self.b.cbranch(self.lt(i, high) if step > 0 else self.gt(i, high), body, end)
        with self._loop(body, following, end):
            yield i
        self.b.position_at_end(following)
        counter.set(self.add(i, step))
        self.b.branch(head)
        self.b.position_at_end(end)

    @contextmanager
    def _loop(self, body: Any, following: Any, end: Any) -> Iterator[None]:
        self._loops.append((following, end))
        self.b.position_at_end(body)
        yield
        if not self.ended:
            self.b.branch(following)
        self._loops.pop()
        self.b.position_at_end(end)

    def break_(self) -> None:
        """Leave the innermost loop."""
        self.b.branch(self._loops[-1][1])

    def continue_(self) -> None:
        """Go to the innermost loop's next round."""
        self.b.branch(self._loops[-1][0])

    def break_if(self, condition: Value) -> None:
        """Leave the innermost loop when it holds."""
        self._leave_if(condition, self._loops[-1][1])

    @contextmanager
    def switch(self, value: Value) -> Iterator[Switch]:
        """`with c.switch(v) as s: with s.case(1, 2): … with s.default(): …`; no default falls through to the end."""
        default, end = self.new_block("default"), self.new_block("end")
        made = Switch(self, self.b.switch(value, default), default, end)
        yield made
        made.close()
        self.b.position_at_end(end)

    def label(self, name: str = "label") -> Label:
        """A label to jump to; give it its place with `place`."""
        return Label(self.new_block(name))

    def goto(self, label: Label) -> None:
        """Jump."""
        self.b.branch(label.block)

    def goto_if(self, condition: Value, label: Label, *, likely: bool | None = None) -> None:
        """Jump when it holds."""
        self._leave_if(condition, label.block, likely=likely)

    def _leave_if(self, condition: Value, target: Any, *, likely: bool | None = None) -> None:
        onward = self.new_block("on")
        branch = self.b.cbranch(condition, target, onward)
        if likely is not None:
            branch.set_weights([1000, 1] if likely else [1, 1000])
        self.b.position_at_end(onward)

    def place(self, label: Label) -> None:
        """The label stands here; code before it falls through."""
        if not self.ended:
            self.b.branch(label.block)
        self.b.position_at_end(label.block)

    def ret(self, value: Operand | None = None) -> None:
        """Return."""
        if isinstance(self.result, ir.VoidType):
            self.b.ret_void()
        else:
            self.b.ret(self.as_type(value, self.result))

    def ret_if(self, condition: Value, value: Operand | None = None) -> None:
        """Return when it holds."""
        with self.if_(condition):
            self.ret(value)

    def finish(self) -> Any:
        """End the function: an open end of a void function returns, any other must be unreachable. The ir.Function."""
        if not self.ended and isinstance(self.result, ir.VoidType):
            self.b.ret_void()
        self._allocas.branch(self._start)
        for block in self.function.blocks:
            if not block.is_terminated:
                Builder(block).unreachable()
        return self.function
