"""`FunctionEmitter`: one LLVM function under construction, and what every step needs of it.

It knows where things are: addresses of storages, values of dims, stack slots, statuses, external functions, the
pool. Invariants: allocas, base addresses and dims of the function's own symbols are emitted in the entry block,
once; what is cached at an inner place is forgotten when that place is left (`scope`). A parallel body is a function
of its own whose captured addresses and symbols come in one array (`env`), filled where it is called. No address of
this process appears.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import llvmlite.ir as ir

from stager.codegen.builder import Builder
from stager.codegen.growth import free_tape
from stager.codegen.program import Buffer, Storage
from stager.codegen.registers import memory_type
from stager.codegen.scalar import ScalarBuilder
from stager.codegen.unit import ModuleEmitter
from stager.ir.abi import (
    CONTEXT_ALLOCATE,
    CONTEXT_DETAIL,
    CONTEXT_INTERRUPTED,
    CONTEXT_POLL,
    PARALLEL_BRIEF,
    PARALLEL_FOR,
    STATUS_INTERRUPTED,
    STATUS_NO_MEMORY,
)
from stager.ir.dims import Apply, Dim, Expr, Sym, dim_max, slice_bound, symbols_of

I1, I8, I32, I64 = (ir.IntType(n) for n in (1, 8, 32, 64))
PTR = ir.PointerType()
NULL = ir.Constant(PTR, None)
OFTEN = 200
"""How much more often a condition is said to hold that mostly does: so that LLVM keeps the branch."""


@lru_cache(maxsize=4096)
def i64(n: int) -> Any:
    return ir.Constant(I64, n)


@lru_cache(maxsize=4096)
def _bytes(n: int) -> Any:
    return ir.ArrayType(I8, n)


class FunctionEmitter:
    """One function: the main one (`parent` None: its arguments are the ABI's), a parallel body, or a helper with
    `params` of its own, which knows no storages and no symbols."""

    def __init__(
        self, m: ModuleEmitter, name: str, parent: FunctionEmitter | None = None, params: Sequence[Any] | None = None
    ) -> None:
        self.m = m
        self.module = m.module
        self.target = m.target
        self.parent = parent
        if params is not None:
            self.fn = ir.Function(m.module, ir.FunctionType(I32, list(params)), name)
            self.fn.linkage = "internal"
        elif parent is None:
            self.fn = ir.Function(m.module, ir.FunctionType(I32, [PTR, PTR, PTR, PTR]), name)
            self.context, self.buffers, self.symbol_values, self.arena = self.fn.args
        else:
            self.fn = ir.Function(m.module, ir.FunctionType(I32, [PTR, I64, I64, PTR]), name)
            self.fn.linkage = "internal"
            self.context, self.begin, self.end, self.env = self.fn.args
        self.fn.attributes.add("nounwind")
        self._entry_block = self.fn.append_basic_block("entry")
        self.entry = Builder(self._entry_block)
        self._start = self.fn.append_basic_block("start")
        self.b = Builder(self._start)
        self.pointers: dict[int, Any] = {}
        self.symbols: dict[str, Any] = {}
        self.entry_symbols: set[str] = set()
        self.entry_dims: dict[Any, Any] = {}
        self.scopes: list[dict[Any, Any]] = [{}]
        self.captures: list[tuple[Any, Callable[[FunctionEmitter], Any]]] = []
        self.captured: dict[Any, Any] = {}
        self.slots: dict[int, Any] = {}  # storages whose address changes while the function runs
        self.private: set[int] = set()  # storages that a body has for itself
        self.heap: dict[int, Any] = {}  # storages sized by data: a slot that is freed at the end
        self.grown: list[Any] = []  # slots of tapes, which are freed at the end too
        self.rooms: dict[int, Any] = {}  # loops with tapes: a slot with the rows that these have room for
        self._exit = self.fn.append_basic_block("exit")
        self.ways_out = [self._exit]  # where one leaves to: loops that move the caller's arrays put them back first
        self._result = self.alloca(I32, "status")

    # -- leaving -----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Ends the function: returns 0 from the current place."""
        if not self.b.block.is_terminated:
            self.b.store(ir.Constant(I32, 0), self._result)
            self.b.branch(self._exit)
        x = Builder(self._exit)
        for slot in self.heap.values():
            x.call(self.m.external("free", ir.VoidType(), [PTR]), [x.load(slot, typ=PTR)])
        for slot in self.grown:
            free_tape(self, x, slot)
        x.ret(x.load(self._result, typ=I32))
        self.entry.branch(self._start)

    def leave(self, status: Any) -> None:
        """Returns a status from the current place, which ends."""
        self.b.store(status if not isinstance(status, int) else ir.Constant(I32, status), self._result)
        self.b.branch(self.ways_out[-1])

    def leave_if(self, condition: Any, status: Any) -> None:
        """Returns a status when the i1 holds."""
        stop = self.b.append_basic_block("stop")
        on = self.b.append_basic_block("on")
        self.b.cbranch(condition, stop, on)
        self.b.position_at_end(stop)
        self.leave(status)
        self.b.position_at_end(on)

    def branch(self, condition: Any, often: Any, seldom: Any) -> None:
        """Ends the block: a condition that mostly holds, and stays a branch."""
        branch = self.b.cbranch(condition, often, seldom)
        weights = [ir.Constant(I32, n) for n in (OFTEN, 1)]
        branch.set_metadata(
            "prof", self.module.add_metadata([ir.MetaDataString(self.module, "branch_weights"), *weights])
        )

    def fail(self, exception: str, text: str, *details: Any) -> None:
        """Returns the status of an error; `details` are i64 values for its text. The current place ends."""
        for k, d in enumerate(details):
            self.b.store(d, self._field(CONTEXT_DETAIL + 8 * k), align=8)
        self.leave(self.m.status(exception, text))

    def _field(self, offset: int) -> Any:
        return self.offset(self.context, offset)

    def poll(self) -> None:
        """Leaves when the caller has set `interrupted` or its `poll` says so."""
        b = self.b
        ask, on = b.append_basic_block("ask"), b.append_basic_block("asked")
        function = b.load(self._field(CONTEXT_POLL), typ=PTR, align=8)
        b.cbranch(b.icmp_unsigned("!=", function, NULL), ask, on)
        b.position_at_end(ask)
        status = self.call_pointer(function, I32, [self.context])
        self.leave_if(b.icmp_signed("!=", status, ir.Constant(I32, 0)), STATUS_INTERRUPTED)
        b.branch(on)
        b.position_at_end(on)
        self.heed()

    def heed(self) -> None:
        """Leaves when the caller has set `interrupted`."""
        flag = self.b.load(self._field(CONTEXT_INTERRUPTED), typ=I32, align=4)
        self.leave_if(self.b.icmp_signed("!=", flag, ir.Constant(I32, 0)), STATUS_INTERRUPTED)

    def poll_sometimes(self, count: Any, period: int) -> None:
        """Every `period`-th turn, a power of two, asks whether to stop."""
        b = self.b
        ask, on = b.append_basic_block("poll"), b.append_basic_block("polled")
        b.cbranch(b.icmp_signed("==", b.and_(count, i64(period - 1)), i64(period - 1)), ask, on)
        b.position_at_end(ask)
        self.poll()
        b.branch(on)
        b.position_at_end(on)

    def call_pointer(self, function: Any, result: Any, args: Sequence[Any]) -> Any:
        """Calls the C function at an address."""
        type = ir.FunctionType(result, [a.type for a in args])
        typed = ir.instructions.CastInstr(self.b.block, "bitcast", function, ir.PointerType(type))
        self.b._insert(typed)  # llvmlite wants to know the function's type, LLVM sees an opaque pointer
        return self.b.call(typed, list(args))

    def allocate(self, buffer: Buffer, output: int | None) -> None:
        """Memory for a storage of a size that only this function knows: malloc, or the caller's for result `output`."""
        b, key = self.b, id(buffer.storage)
        slot = self.slots.get(key)
        if slot is None:
            slot = self.slots[key] = self.alloca(PTR, self._called(buffer.name))
            self.entry.store(NULL, slot)
            if output is None:
                self.heap[key] = slot
        if output is None:
            b.call(self.external("free", ir.VoidType(), [PTR]), [b.load(slot, typ=PTR)])
            b.store(NULL, slot)
            p = self._malloc(self.dim(dim_max(buffer.storage.nbytes, 1)))
        else:
            shape = self.alloca(ir.ArrayType(I64, max(1, len(buffer.shape))), "shape", 8)
            for k, d in enumerate(buffer.shape):
                b.store(self.dim(d), self.offset(shape, 8 * k), align=8)
            function = b.load(self._field(CONTEXT_ALLOCATE), typ=PTR, align=8)
            p = self.call_pointer(
                function, PTR, [self.context, ir.Constant(I32, output), i64(len(buffer.shape)), shape]
            )
        b.store(p, slot)
        self.leave_if(b.icmp_unsigned("==", p, NULL), STATUS_NO_MEMORY)

    def own(self, storage: Storage) -> None:
        """Memory that this function alone has, from here until it ends."""
        slot = self.slots[id(storage)] = self.heap[id(storage)] = self.alloca(PTR, self._called(storage.name))
        self.entry.store(NULL, slot)
        p = self._malloc(self.dim(storage.nbytes))
        self.b.store(p, slot)
        self.leave_if(self.b.icmp_unsigned("==", p, NULL), STATUS_NO_MEMORY)

    def _called(self, name: str) -> str:
        """What a storage is called here: in bodies without its number, so that equal ones read alike."""
        return name if self.parent is None else "own"

    def _malloc(self, nbytes: Any) -> Any:
        """malloc of an i64 of bytes; null where an address cannot count them."""
        size = ir.IntType(self.target.pointer_bits)
        return self.b.call(self.external("malloc", PTR, [size]), [self.size(nbytes, size)])

    def size(self, nbytes: Any, size: Any) -> Any:
        """An i64 of bytes as an address counts them; what it cannot count as the most, which malloc refuses."""
        b = self.b
        if size == I64:
            return nbytes
        most = i64((1 << size.width) - 1)
        return b.trunc(b.select(b.icmp_unsigned("<", nbytes, most), nbytes, most), size)

    # -- values ------------------------------------------------------------------------------------------------------

    def scalars(self, width: int = 1, builder: Any = None) -> ScalarBuilder:
        """A scalar builder at the current place."""
        return ScalarBuilder(builder or self.b, width, self.target, self.m.functions)

    def alloca(self, type: Any, name: str = "", align: int = 0) -> Any:
        """A stack slot."""
        slot = self.entry.alloca(type, name=name)
        slot.type = PTR
        if align:
            slot.align = align
        return slot

    def offset(self, pointer: Any, by: Any) -> Any:
        """`pointer` moved by bytes: an int or an i64."""
        if isinstance(by, int):
            if by == 0:
                return pointer
            by = i64(by)
        return self.b.gep(pointer, [by], source_etype=I8, inbounds=True)

    def stepped(self, pointer: Any, i: Any, stride: Dim) -> Any:
        """`pointer` moved by `i`, an i64, times a stride in bytes."""
        if isinstance(stride, int) and stride > 1:
            return self.b.gep(pointer, [i], source_etype=_bytes(stride), inbounds=True)
        return self.offset(pointer, i if stride == 1 else self.b.mul(i, self.dim(stride), flags=("nsw",)))

    def external(self, name: str, result: Any, params: Sequence[Any]) -> Any:
        return self.m.external(name, result, params)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """A part of the program that does not dominate what follows it."""
        self.scopes.append({})
        try:
            yield
        finally:
            self.scopes.pop()

    def dim(self, d: Dim) -> Any:
        """The i64 value of a dim."""
        if not isinstance(d, Expr):
            return i64(d)
        names = sorted(symbols_of(d))  # in an order that every process has
        if all(self._is_entry_symbol(n) for n in names):
            found = self.entry_dims.get(d)
            if found is None:
                found = self.entry_dims[d] = self._evaluate(d, self.entry)
            return found
        for s in reversed(self.scopes):
            if d in s:
                return s[d]
        value = self.scopes[-1][d] = self._evaluate(d, self.b)
        return value

    def _is_entry_symbol(self, name: str) -> bool:
        if name in self.symbols:
            return name in self.entry_symbols
        self._capture_symbol(name)
        return True

    def _capture_symbol(self, name: str) -> None:
        if self.parent is None:
            raise AssertionError(f"internal: the symbol {name} has no value here")
        self.symbols[name] = self.capture(("symbol", name), I64, lambda p: p.symbol(name))
        self.entry_symbols.add(name)

    def symbol(self, name: str) -> Any:
        """The value of a symbol."""
        if name not in self.symbols:
            self._capture_symbol(name)
        return self.symbols[name]

    def define(self, name: str, value: Any) -> None:
        """Gives a symbol its value, for the current scope and those inside."""
        self.symbols[name] = value
        self.entry_symbols.discard(name)

    def _evaluate(self, d: Dim, b: Any) -> Any:
        if not isinstance(d, Expr):
            return i64(d)
        total = None
        for m, c in d.terms:
            term = None
            for atom, power in m:
                v = self.symbol(atom.name) if isinstance(atom, Sym) else self._apply(atom, b)
                for _ in range(power):
                    term = v if term is None else b.mul(term, v, flags=("nsw",))
            if term is None:
                term = i64(c)
            elif c != 1:
                term = b.mul(term, i64(c), flags=("nsw",))
            total = term if total is None else b.add(total, term, flags=("nsw",))
        return total if total is not None else i64(0)

    def _apply(self, atom: Apply, b: Any) -> Any:
        if b is self.b and (inside := slice_bound(atom)) is not None:
            return self._slice_bound(atom, *inside)
        return self._function(atom, b)

    def _slice_bound(self, atom: Apply, bound: Dim, size: Dim) -> Any:
        """A bound of a slice that data decides: mostly it is inside, and then nothing waits for the rest."""
        for s in reversed(self.scopes):
            if atom in s:
                return s[atom]
        b = self.b
        x, n = self.dim(bound), self.dim(size)
        before, outside, joined = b.block, b.append_basic_block("outside"), b.append_basic_block("bounded")
        self.branch(b.icmp_unsigned("<=", x, n), joined, outside)
        b.position_at_end(outside)
        cut = self._function(atom, b)
        b.branch(joined)
        b.position_at_end(joined)
        out = self.scopes[-1][atom] = b.phi(I64)
        out.add_incoming(x, before)
        out.add_incoming(cut, outside)
        return out

    def _function(self, atom: Apply, b: Any) -> Any:
        x, y = self._evaluate(atom.a, b), self._evaluate(atom.b, b)
        if atom.fn in ("max", "min"):
            return b.select(b.icmp_signed(">" if atom.fn == "max" else "<", x, y), x, y)
        zero, one = i64(0), i64(1)
        if isinstance(atom.b, int) and atom.b > 0:
            return self._by_constant(atom.fn, x, atom.b, b)
        y = b.select(b.icmp_signed("==", y, zero), one, y)
        q, r = b.sdiv(x, y), b.srem(x, y)
        wrong = b.and_(b.icmp_signed("!=", r, zero), b.icmp_signed("<", b.xor(r, y), zero))
        if atom.fn == "floordiv":
            return b.select(wrong, b.sub(q, one), q)
        return b.select(wrong, b.add(r, y), r)

    def _by_constant(self, fn: str, x: Any, y: int, b: Any) -> Any:
        """`x // y` or `x % y`, rounded down, of a positive divisor."""
        if y & (y - 1) == 0:
            return b.ashr(x, i64(y.bit_length() - 1)) if fn == "floordiv" else b.and_(x, i64(y - 1))
        r = b.srem(x, i64(y))
        below = b.icmp_signed("<", r, i64(0))
        if fn == "floordiv":
            q = b.sdiv(x, i64(y))
            return b.select(below, b.sub(q, i64(1)), q)
        return b.select(below, b.add(r, i64(y)), r)

    # -- memory ------------------------------------------------------------------------------------------------------

    def capture(self, key: Any, type: Any, get: Callable[[FunctionEmitter], Any]) -> Any:
        """In a body: a value of the caller, read from `env` at entry."""
        found = self.captured.get(key)
        if found is None:
            place = self.entry.gep(self.env, [i64(8 * len(self.captures))], source_etype=I8, inbounds=True)
            found = self.captured[key] = self.entry.load(place, typ=type, align=8)
            self.captures.append((type, get))
        return found

    def base(self, storage: Storage) -> Any:
        """The address of a storage's first byte."""
        key = id(storage)
        slot = self.slots.get(key)
        if slot is not None:
            return self._known(self.b.load(slot, typ=PTR), storage)
        found = self.pointers.get(key)
        if found is not None:
            return found
        if storage.kind == "constant":
            p = self.m.constant(storage)
        elif self.parent is not None and key not in self.private:
            p = self.capture(("storage", key), PTR, lambda parent: parent.base(storage))
        elif storage.kind in ("input", "output"):
            place = self.entry.gep(self.buffers, [i64(8 * storage.number)], source_etype=I8, inbounds=True)
            p = self.entry.load(place, typ=PTR, align=8)
        elif storage.kind == "temp":
            assert storage.offset is not None, f"{storage.name} has no place"
            by = self.dim(storage.offset) if isinstance(storage.offset, Expr) else i64(storage.offset)
            p = self.entry.gep(self.arena, [by], source_etype=I8, inbounds=True)
        else:
            p = self.stack(storage, storage.nbytes)
        self.pointers[key] = self._known(p, storage)
        return p

    def _known(self, pointer: Any, storage: Storage) -> Any:
        """A pointer into a storage, from which accesses learn what they share no byte with."""
        if self.m.aliases is not None and (said := self.m.aliases.says(storage)) != "":
            pointer.memory = said
        return pointer

    def stack(self, storage: Storage, nbytes: Dim) -> Any:
        """Makes a storage a stack slot of this function."""
        assert isinstance(nbytes, int)
        room = 8 if nbytes <= 8 else nbytes + self.target.vector_bits // 8  # the last vector may end behind the array
        p = self.alloca(ir.ArrayType(I8, room), self._called(storage.name), 8 if nbytes <= 8 else 64)
        self.pointers[id(storage)] = self._known(p, storage)
        return p

    def pointer(self, buffer: Buffer) -> Any:
        """The address of element [0, …, 0]."""
        return self.offset(self.base(buffer.storage), self.dim(buffer.offset) if buffer.offset != 0 else 0)

    def load_scalar(self, buffer: Buffer) -> Any:
        """The llvmlite value of a 0-d buffer, as stored in memory."""
        return self.b.load(self.pointer(buffer), typ=memory_type(buffer.dtype), align=buffer.dtype.itemsize)

    def forget_memory(self) -> None:
        """What memory holds is loaded again from here on, and what was made of it is computed again."""
        self.b.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)

    # -- loops -------------------------------------------------------------------------------------------------------

    @contextmanager
    def loop(
        self, lower: Any, upper: Any, step: int = 1, name: str = "i", *, copies: bool = True
    ) -> Iterator[Any]:
        """`for i in range(lower, upper, step)` over ints, dims or i64 values. `copies`: LLVM may unroll it."""
        b = self.b
        lo, hi = self._operand(lower), self._operand(upper)
        head, after = b.append_basic_block(name), b.append_basic_block(f"{name}.end")
        before = b.block
        known = isinstance(lower, int) and isinstance(upper, int)
        sign = "<" if step > 0 else ">"
        if known:
            if (lower < upper) == (step > 0) and lower != upper:
                b.branch(head)
            else:
                b.branch(after)
        else:
            b.cbranch(b.icmp_signed(sign, lo, hi), head, after)
        b.position_at_end(head)
        i = b.phi(I64, name)
        i.add_incoming(lo, before)
        with self.scope():
            yield i
        following = b.add(i, i64(step), flags=("nsw",))
        i.add_incoming(following, b.block)
        again = b.cbranch(b.icmp_signed(sign, following, hi), head, after)
        if not copies:
            again.set_metadata("llvm.loop", self.m.one_copy())
        b.position_at_end(after)

    def _operand(self, x: Any) -> Any:
        if isinstance(x, int):
            return i64(x)
        return self.dim(x) if isinstance(x, Expr) else x

    # -- the pool ----------------------------------------------------------------------------------------------------

    def body(self) -> FunctionEmitter:
        """A function for a parallel piece of this one; `call_body` runs it."""
        self.m.bodies += 1
        return FunctionEmitter(self.m, f"{self.m.name}.{self.m.bodies}", self)

    def call_body(self, body: FunctionEmitter, n: Any, grain: Any, parallel: Any = True, brief: bool = False) -> None:
        """Runs a finished body over [0, n): by the pool, or here when `parallel` (bool or i1) is false.

        `brief`: the pool runs it serially while other programs have the processors."""
        b = self.b
        env = self.alloca(ir.ArrayType(I64, max(1, len(body.captures))), "env", 8)
        for k, (_, get) in enumerate(body.captures):
            b.store(get(self), self.offset(env, 8 * k), align=8)
        n, grain = self._operand(n), self._operand(grain)
        if parallel is False or not self.m.threads:
            status = b.call(body.fn, [self.context, i64(0), n, env])
        else:
            fn = self.m.shared(body.fn)
            f = self.external(PARALLEL_BRIEF if brief else PARALLEL_FOR, I32, [PTR, PTR, I64, I64, PTR])
            if parallel is True:
                status = b.call(f, [self.context, fn, n, grain, env])
            else:
                many, one, done = (b.append_basic_block(x) for x in ("many", "one", "done"))
                b.cbranch(parallel, many, one)
                b.position_at_end(many)
                s1 = b.call(f, [self.context, fn, n, grain, env])
                b.branch(done)
                b.position_at_end(one)
                s2 = b.call(fn, [self.context, i64(0), n, env])
                b.branch(done)
                b.position_at_end(done)
                status = b.phi(I32)
                status.add_incoming(s1, many)
                status.add_incoming(s2, one)
        self.leave_if(b.icmp_signed("!=", status, ir.Constant(I32, 0)), status)

    def parallel(self, n: Any, grain: Any, emit: Callable[[FunctionEmitter, Any, Any], None]) -> None:
        """`emit(inner, begin, end)` writes a piece's code into a function of its own; the pool runs all pieces."""
        inner = self.body()
        emit(inner, inner.begin, inner.end)
        inner.finish()
        self.call_body(inner, n, grain)
