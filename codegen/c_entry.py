"""C entries: what a C caller calls. An entry validates every argument, computes what the kernel's ABI wants, calls it.

Invariant: an entry keeps nothing between calls; what a caller may want to know of a failure is in its `stager_call`.
Nothing here is known of Python. Not here: what the parameters are (`codegen/c_interface.py`), the checks themselves
(`codegen/c_checks.py`).
"""

from __future__ import annotations

import re
from typing import Any

from llvmlite import ir

from stager.codegen.c_checks import (
    Array,
    Dims,
    add_strides,
    check_conditions,
    check_overlap,
    check_pointers,
    check_sizes,
    dense_array,
)
from stager.codegen.c_interface import (
    CALL_WORKSPACE,
    CALL_WORKSPACE_BYTES,
    ERRORS,
    MOST_BYTES,
    Function,
    Kernel,
)
from stager.codegen.declarations import I1, I8, I32, I64, NULL, PTR, RARE, VOID, Struct, const, cstring
from stager.codegen.error_text import template, write_text
from stager.codegen.structured import Code, Var
from stager.codegen.target import Target
from stager.ir.abi import (
    ARENA_ALIGN,
    CONTEXT_ALLOCATE,
    CONTEXT_BYTES,
    CONTEXT_DETAIL,
    CONTEXT_INTERRUPTED,
    CONTEXT_POLL,
    CONTEXT_THREADS,
    CONTEXT_USER,
)
from stager.ir.dims import symbols_of

STACK_ARENA_BYTES = 8192  # workspaces up to this size stand in the entry's own frame
LLVM_TYPES = {"input": PTR, "strides": PTR, "result": PTR, "capacity": I64, "shape": PTR, "size": I64, "call": PTR}

ROOM = Struct(data=PTR, capacity=I64, shape=PTR)  # of a result whose size the data decides
FRAME = Struct(call=PTR, full=I32, pad=I32)  # behind it one ROOM per output; `full`: a result did not fit


def emit_entry(module: Any, f: Function, target: Target) -> None:
    """The C entry of one function, `NAME_workspace` and `NAME_error`."""
    _Entry(module, f, target).emit()
    _emit_workspace(module, f)
    _emit_error(module, f)


class _Entry:
    def __init__(self, module: Any, f: Function, target: Target) -> None:
        self.module, self.f, self.target = module, f, target
        self.sized = any(r.sized for r in f.results)

    def emit(self) -> None:
        f = self.f
        allocate = self._emit_allocate() if self.sized else None
        poll = self._emit_poll() if self.sized else None
        c = Code(self.module, f.name, I32, _named(f))
        self.c = c
        self.call = c.arg("$call")
        env = {s: c.arg(f"$size_{s}") for s in f.sizes}
        self.dims = check_sizes(c, f, env)
        self.inputs = [
            dense_array(self.dims, c.arg(f"$input_{n}"), i.type, i.written)
            for n, i in zip(f.inputs, f.abi.inputs, strict=True)
        ]
        for k in sorted(f.strided):
            add_strides(self.dims, self.inputs[k], c.arg(f"$strides_{f.inputs[k]}_strides"))
        for r in f.results:
            if not r.sized and not symbols_of(r.type.shape) & f.values.keys():
                dense_array(self.dims, NULL, r.type, True)  # sizes come before pointers
        check_pointers(c, self.inputs, self.target.pointer_bits)
        for s, k in f.values.items():
            env[s] = c.load(self.inputs[k].pointer, I64)
        check_conditions(self.dims, f)
        results = [
            dense_array(self.dims, self._result(k), r.type, True) for k, r in enumerate(f.results) if not r.sized
        ]
        check_pointers(c, results, self.target.pointer_bits)
        rooms = [self._room(k) for k, r in enumerate(f.results) if r.sized]
        check_overlap(c, [*self.inputs, *results, *rooms])
        given = iter(results)
        self.pointers = {r.number: next(given).pointer for r in f.results if not r.sized}
        arena, free = self._workspace()
        context, frame = self._context(allocate, poll)
        status = self._run(context, arena)
        if free is not None:
            with c.if_(c.not_null(free.get())):
                c.call(self.target.system.aligned_free, VOID, [free.get()])
        if frame is not None:
            status = self._after_sized(status, context, frame)
        c.ret(status)
        c.finish()

    # -- results -----------------------------------------------------------------------------------------------------

    def _result(self, k: int) -> Any:
        """The memory of a result of known size: the caller's, or what its `allocate` gives."""
        c, r = self.c, self.f.results[k]
        pointer = c.var(PTR, c.arg(f"$result_{r.name}"))
        missing = c.and_(c.is_null(pointer.get()), c.not_null(self.call))
        with c.if_(missing, likely=False):
            allocate = c.load(c.offset(self.call, CONTEXT_ALLOCATE), PTR)
            with c.if_(c.not_null(allocate)):
                bytes = self.dims.value(r.type.nbytes)
                self.dims.refuse_overflow()
                pointer.set(c.call_pointer(allocate, PTR, [self.call, const(I32, k), bytes]))
                c.ret_if(c.is_null(pointer.get()), ERRORS["NO_MEMORY"][0])
        return pointer.get()

    def _room(self, k: int) -> Array:
        """What the caller gives for a result of unknown size: memory that is written, up to its capacity."""
        c, r = self.c, self.f.results[k]
        pointer, capacity = c.arg(f"$result_{r.name}"), c.arg(f"$capacity_{r.name}_capacity")
        most = MOST_BYTES // r.type.dtype.itemsize
        c.ret_if(c.b.icmp_unsigned(">", capacity, const(I64, most)), ERRORS["SIZE"][0])
        c.ret_if(c.and_(c.is_null(pointer), c.gt(capacity, 0)), ERRORS["NULL"][0])
        wrong = c.ne(c.and_(c.b.ptrtoint(pointer, I64), r.type.dtype.itemsize - 1), 0)
        c.ret_if(wrong, ERRORS["ALIGNMENT"][0])
        size = c.mul(capacity, r.type.dtype.itemsize)
        return Array(pointer, r.type, [], True, const(I64, 0), size, capacity)

    def _emit_allocate(self) -> Any:
        """What a kernel calls for a result whose size it has just computed."""
        f = self.f
        params = [("context", PTR), ("output", I32), ("ndim", I64), ("shape", PTR)]
        c = Code(self.module, f"{f.name}.allocate", PTR, params, linkage="internal")
        frame = c.load(c.offset(c.arg("context"), CONTEXT_USER), PTR)
        room = c.element(c.element(frame, FRAME, 1), ROOM, c.zext(c.arg("output"), I64))
        wanted = c.get(ROOM, room, "shape")
        count = c.var(I64, 1)
        with c.for_range(0, c.arg("ndim")) as axis:
            extent = c.at(c.arg("shape"), I64, axis)
            count.set(c.mul(count.get(), extent))
            with c.if_(c.not_null(wanted)):
                c.put_at(wanted, I64, axis, extent)
        data = c.get(ROOM, room, "data")
        with c.if_(c.is_null(data)):
            call = c.get(FRAME, frame, "call")
            with c.if_(c.not_null(call)):
                allocate = c.load(c.offset(call, CONTEXT_ALLOCATE), PTR)
                with c.if_(c.not_null(allocate)):
                    index, size = c.var(I32, 0), c.var(I64, 1)
                    for k, r in enumerate(f.results):
                        with c.if_(c.eq(c.arg("output"), r.number)):
                            index.set(k)
                            size.set(r.type.dtype.itemsize)
                    arguments = [call, index.get(), c.mul(count.get(), size.get())]
                    c.ret(c.call_pointer(allocate, PTR, arguments))
        with c.if_(c.gt(count.get(), c.get(ROOM, room, "capacity"))):
            c.put(FRAME, frame, "full", 1)
            c.ret(None)
        # nothing is written to a result of no elements, and null would say that there is no memory
        c.ret(c.select(c.is_null(data), room, data))
        return c.finish()

    def _emit_poll(self) -> Any:
        """Asks the caller's own poll and flag, from a kernel that runs on a context of the entry's."""
        c = Code(self.module, f"{self.f.name}.poll", I32, [("context", PTR)], linkage="internal")
        call = c.get(FRAME, c.load(c.offset(c.arg("context"), CONTEXT_USER), PTR), "call")
        c.ret_if(c.is_null(call), 0)
        c.ret_if(c.ne(c.load(c.offset(call, CONTEXT_INTERRUPTED), I32), 0), 1)
        poll = c.load(c.offset(call, CONTEXT_POLL), PTR)
        c.ret_if(c.is_null(poll), 0)
        c.ret(c.call_pointer(poll, I32, [call]))
        return c.finish()

    def _after_sized(self, status: Any, context: Any, frame: Any) -> Any:
        c = self.c
        with c.if_(c.not_null(self.call)):
            c.copy(c.offset(self.call, CONTEXT_DETAIL), c.offset(context, CONTEXT_DETAIL), 32)
        full = c.ne(c.get(FRAME, frame, "full"), 0)
        failed = c.eq(status, ERRORS["NO_MEMORY"][0])
        return c.select(c.and_(failed, full), const(I32, ERRORS["CAPACITY"][0]), status)

    # -- what the kernel gets ----------------------------------------------------------------------------------------

    def _workspace(self) -> tuple[Any, Var | None]:
        """The arena, and what to free afterwards: the caller's workspace, a piece of the stack, or malloc's."""
        c, sizes = self.c, self.f.workspaces
        if sizes == (0,):
            return NULL, None
        needed: Any = const(I64, 0)
        for size in sizes:
            needed = c.max(needed, self.dims.value(size))
        self.dims.refuse_overflow()
        c.ret_if(c.gt(needed, MOST_BYTES), ERRORS["SIZE"][0])
        static = [s for s in sizes if isinstance(s, int)]
        small = len(static) == len(sizes) and max(static) <= STACK_ARENA_BYTES
        arena, own = c.var(PTR, NULL), c.var(PTR, NULL)
        with c.if_(c.not_null(self.call)):
            arena.set(c.load(c.offset(self.call, CALL_WORKSPACE), PTR))
            with c.if_(c.not_null(arena.get())):
                address = c.b.ptrtoint(arena.get(), I64)
                bytes = c.load(c.offset(self.call, CALL_WORKSPACE_BYTES), I64)
                bad = c.or_(c.lt(bytes, needed), c.ne(c.and_(address, ARENA_ALIGN - 1), 0))
                c.ret_if(bad, ERRORS["WORKSPACE"][0])
        with c.if_(c.is_null(arena.get())):
            if small:
                arena.set(c.alloca(ir.ArrayType(I8, max(static)), align=ARENA_ALIGN))
            else:
                size = c.and_(c.add(c.max(needed, 1), ARENA_ALIGN - 1), -ARENA_ALIGN)
                own.set(self._aligned_alloc(size))
                c.ret_if(c.is_null(own.get()), ERRORS["NO_MEMORY"][0])
                arena.set(own.get())
        return arena.get(), None if small else own

    def _aligned_alloc(self, size: Any) -> Any:
        c, system, size_type = self.c, self.target.system, ir.IntType(self.target.pointer_bits)
        if size_type.width < 64:
            c.ret_if(c.gt(size, (1 << 32) - 1), ERRORS["NO_MEMORY"][0])
        arguments = [const(size_type, ARENA_ALIGN), c.to(size, size_type)]
        return c.call(system.aligned_alloc, PTR, arguments[::-1] if system.size_first else arguments)

    def _context(self, allocate: Any, poll: Any) -> tuple[Any, Any]:
        """The Context: the caller's, or one of zeros; of the entry's own where a result is sized by the data."""
        c, f = self.c, self.f
        own = c.alloca(ir.ArrayType(I8, CONTEXT_BYTES), align=16)
        c.fill(own, 0, const(I64, CONTEXT_BYTES))
        if not self.sized:
            return c.select(c.is_null(self.call), own, self.call), None
        frame = c.alloca(ir.LiteralStructType([FRAME.type, ir.ArrayType(ROOM.type, len(f.abi.outputs))]), align=16)
        c.put(FRAME, frame, "call", self.call)
        c.put(FRAME, frame, "full", 0)
        for r in f.results:
            if r.sized:
                room = c.element(c.element(frame, FRAME, 1), ROOM, r.number)
                c.put(ROOM, room, "data", c.arg(f"$result_{r.name}"))
                c.put(ROOM, room, "capacity", c.arg(f"$capacity_{r.name}_capacity"))
                c.put(ROOM, room, "shape", c.arg(f"$shape_{r.name}_shape"))
        c.store(allocate, c.offset(own, CONTEXT_ALLOCATE))
        c.store(poll, c.offset(own, CONTEXT_POLL))
        c.store(frame, c.offset(own, CONTEXT_USER))
        with c.if_(c.not_null(self.call)):
            c.store(c.load(c.offset(self.call, CONTEXT_THREADS), I32), c.offset(own, CONTEXT_THREADS))
        return own, frame

    def _run(self, context: Any, arena: Any) -> Any:
        """Calls the kernel that takes the strides; the status, in the numbering of the function."""
        c, f = self.c, self.f
        count = len(f.abi.inputs) + len(f.abi.outputs)
        buffers = c.alloca(ir.ArrayType(I64, max(1, count)), align=8)  # 8 bytes each, wasm32's too
        for k, a in enumerate(self.inputs):
            c.store(a.pointer, c.element(buffers, I64, k))
        for k in range(len(f.abi.outputs)):
            c.store(self.pointers.get(k, NULL), c.element(buffers, I64, len(self.inputs) + k))
        status = c.var(I32, 0)
        done = c.label("ran")
        fits = {"dense": self._are_dense, "rows": self._have_rows}
        for kernel in f.kernels:
            if kernel is f.kernels[-1]:
                status.set(self._call(kernel, context, buffers, arena))
                continue
            with c.if_(fits[kernel.layout]()):
                status.set(self._call(kernel, context, buffers, arena))
                c.goto(done)
        c.place(done)
        return status.get()

    def _call(self, kernel: Kernel, context: Any, buffers: Any, arena: Any) -> Any:
        c, f = self.c, self.f
        symbols = c.alloca(ir.ArrayType(I64, max(1, len(kernel.abi.symbols))))
        for k, s in enumerate(kernel.abi.symbols):
            if s.kind == "stride":
                strides = self.inputs[s.input].strides
                assert strides is not None
                value = strides[s.axis]
            else:
                value = self.dims.env[s.name]
            c.put_at(symbols, I64, k, value)
        status = c.call(kernel.abi.name, I32, [context, buffers, symbols, arena])
        known = f.statuses
        if kernel.abi.statuses == known[: len(kernel.abi.statuses)]:
            return status
        numbered = c.var(I32, status)
        for k, found in enumerate(kernel.abi.statuses, 1):
            with c.if_(c.eq(status, k)):
                numbered.set(known.index(found) + 1)
        return numbered.get()

    def _are_dense(self) -> Any:
        c = self.c
        dense: Any = const(I1, 1)
        for k in self.f.strided:
            a = self.inputs[k]
            assert a.strides is not None
            step: Any = const(I64, a.type.dtype.itemsize)
            for stride, extent in zip(reversed(a.strides), reversed(a.shape), strict=True):
                dense = c.and_(dense, c.eq(stride, step))
                step = c.mul(step, extent)
        return dense

    def _have_rows(self) -> Any:
        c = self.c
        rows: Any = const(I1, 1)
        for k in self.f.strided:
            a = self.inputs[k]
            if a.strides:
                rows = c.and_(rows, c.eq(a.strides[-1], a.type.dtype.itemsize))
        return rows


def _named(f: Function) -> list[tuple[str, Any]]:
    """The parameters, under names that no two kinds share, with their types."""
    return [("$call" if p.kind == "call" else f"${p.kind}_{p.name}", LLVM_TYPES[p.kind]) for p in f.parameters]


def _emit_workspace(module: Any, f: Function) -> None:
    """int64_t NAME_workspace(int64_t n, ...): the bytes of workspace a call needs; negative for bad sizes."""
    c = Code(module, f"{f.name}_workspace", I64, [(f"size_{s}", I64) for s in f.workspace_parameters])
    dims = Dims(c, {s: c.arg(f"size_{s}") for s in f.workspace_parameters})
    for s in f.sizes:
        c.ret_if(c.b.icmp_unsigned(">", c.arg(f"size_{s}"), const(I64, 1 << 40)), ERRORS["SIZE"][0])
    needed: Any = const(I64, 0)
    for size in f.workspaces:
        needed = c.max(needed, dims.value(size))
    dims.refuse_overflow()
    c.ret_if(c.gt(needed, MOST_BYTES), ERRORS["SIZE"][0])
    c.ret(needed)
    c.finish()


def _emit_error(module: Any, f: Function) -> None:
    """int32_t NAME_error(int32_t code, const stager_call *call, char *text, int64_t size): the text of a code."""
    params = [("code", I32), ("call", PTR), ("text", PTR), ("size", I64)]
    c = Code(module, f"{f.name}_error", I32, params, attributes=RARE)
    c.ret_if(c.or_(c.is_null(c.arg("text")), c.lt(c.arg("size"), 1)), ERRORS["NULL"][0])
    shown = c.var(PTR, cstring(module, "unknown error"))
    unknown = c.is_null(c.arg("call"))  # then nobody has the numbers
    with c.switch(c.arg("code")) as cases:
        for code, text in [(0, "no error"), *ERRORS.values()]:
            with cases.case(code):
                shown.set(cstring(module, text))
        for code, s in enumerate(f.statuses, 1):
            text = f"{s.exception}: {s.text}"
            without = re.sub(r"\{[0-3]\}", "?", text)
            with cases.case(code):
                shown.set(c.select(unknown, cstring(module, without), cstring(module, template(text))))
    numbers = c.offset(c.arg("call"), CONTEXT_DETAIL)
    c.ret(c.call(write_text(module), args=[c.arg("text"), c.arg("size"), shown.get(), numbers]))
    c.finish()
