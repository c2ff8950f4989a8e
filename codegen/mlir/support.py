"""What lowered modules call, in LLVM IR: memory, copies between strided buffers, errors.

Every block of memory of one call hangs on a list whose head is the call's record, so that an error can leave from
anywhere (`longjmp` to the entry) and nothing leaks. The record, 512 bytes aligned to 16, on the entry's stack:

     0  next and previous block (a ring; its own address when there is none)
    16  the Context of ir/abi.py
    24  the status that the call ends with
    28  turns of loops so far
    32  jmp_buf

Blocks are 16 bytes (next, previous), then the memory, then SLACK: MLIR moves an access to an empty array to its first
element.
"""

from __future__ import annotations

from stager.ir.abi import CONTEXT_DETAIL, CONTEXT_INTERRUPTED, CONTEXT_POLL, STATUS_INTERRUPTED, STATUS_NO_MEMORY

RECORD_BYTES = 512
RECORD_CONTEXT, RECORD_STATUS, RECORD_TURNS, RECORD_JUMP = 16, 24, 28, 32
PERIOD = 256  # turns between two questions whether to stop
SLACK = 64
LIMIT = 1 << 47  # bytes: more is a size that overflowed

ALLOCATE, FREE, RAISE, POLL, RELEASE, COPY = (
    "stager_mlir_alloc", "stager_mlir_free", "stager_mlir_raise", "stager_mlir_poll", "stager_mlir_release",
    "memrefCopy",
)  # fmt: skip

SUPPORT = f"""
declare ptr @malloc(i64)
declare void @free(ptr)
declare void @longjmp(ptr, i32) noreturn
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define ptr @{ALLOCATE}(ptr %call, i64 %n) {{
  %fits = icmp ult i64 %n, {LIMIT}
  br i1 %fits, label %try, label %none
try:
  %bytes = add i64 %n, {16 + SLACK}
  %p = call ptr @malloc(i64 %bytes)
  %got = icmp ne ptr %p, null
  br i1 %got, label %link, label %none
link:
  %next = load ptr, ptr %call
  store ptr %next, ptr %p
  %p.prev = getelementptr i8, ptr %p, i64 8
  store ptr %call, ptr %p.prev
  %next.prev = getelementptr i8, ptr %next, i64 8
  store ptr %p, ptr %next.prev
  store ptr %p, ptr %call
  %memory = getelementptr i8, ptr %p, i64 16
  ret ptr %memory
none:
  %status = getelementptr i8, ptr %call, i64 {RECORD_STATUS}
  store i32 {STATUS_NO_MEMORY}, ptr %status
  %jump = getelementptr i8, ptr %call, i64 {RECORD_JUMP}
  call void @longjmp(ptr %jump, i32 1)
  unreachable
}}

define void @{FREE}(ptr %call, ptr %memory) {{
  %none = icmp eq ptr %memory, null
  br i1 %none, label %done, label %unlink
unlink:
  %p = getelementptr i8, ptr %memory, i64 -16
  %next = load ptr, ptr %p
  %p.prev = getelementptr i8, ptr %p, i64 8
  %prev = load ptr, ptr %p.prev
  store ptr %next, ptr %prev
  %next.prev = getelementptr i8, ptr %next, i64 8
  store ptr %prev, ptr %next.prev
  call void @free(ptr %p)
  br label %done
done:
  ret void
}}

define void @{RELEASE}(ptr %call) {{
  %first = load ptr, ptr %call
  br label %more
more:
  %p = phi ptr [ %first, %0 ], [ %next, %one ]
  %end = icmp eq ptr %p, %call
  br i1 %end, label %done, label %one
one:
  %next = load ptr, ptr %p
  call void @free(ptr %p)
  br label %more
done:
  ret void
}}

define void @{RAISE}(ptr %call, i64 %number, i64 %a, i64 %b, i64 %c, i64 %d) noreturn {{
  %place = getelementptr i8, ptr %call, i64 {RECORD_CONTEXT}
  %context = load ptr, ptr %place
  %pa = getelementptr i8, ptr %context, i64 {CONTEXT_DETAIL}
  %pb = getelementptr i8, ptr %context, i64 {CONTEXT_DETAIL + 8}
  %pc = getelementptr i8, ptr %context, i64 {CONTEXT_DETAIL + 16}
  %pd = getelementptr i8, ptr %context, i64 {CONTEXT_DETAIL + 24}
  store i64 %a, ptr %pa
  store i64 %b, ptr %pb
  store i64 %c, ptr %pc
  store i64 %d, ptr %pd
  %code = trunc i64 %number to i32
  %status = getelementptr i8, ptr %call, i64 {RECORD_STATUS}
  store i32 %code, ptr %status
  %jump = getelementptr i8, ptr %call, i64 {RECORD_JUMP}
  call void @longjmp(ptr %jump, i32 1)
  unreachable
}}

define void @{POLL}(ptr %call) {{
  %place = getelementptr i8, ptr %call, i64 {RECORD_TURNS}
  %turns = load i32, ptr %place
  %more = add i32 %turns, 1
  store i32 %more, ptr %place
  %rest = and i32 %more, {PERIOD - 1}
  %due = icmp eq i32 %rest, 0
  br i1 %due, label %look, label %on
look:
  %context.place = getelementptr i8, ptr %call, i64 {RECORD_CONTEXT}
  %context = load ptr, ptr %context.place
  %flag.place = getelementptr i8, ptr %context, i64 {CONTEXT_INTERRUPTED}
  %flag = load volatile i32, ptr %flag.place
  %set = icmp ne i32 %flag, 0
  br i1 %set, label %stop, label %find
find:
  %function.place = getelementptr i8, ptr %context, i64 {CONTEXT_POLL}
  %function = load ptr, ptr %function.place
  %none = icmp eq ptr %function, null
  br i1 %none, label %on, label %ask
ask:
  %answer = call i32 %function(ptr %context)
  %interrupted = icmp ne i32 %answer, 0
  br i1 %interrupted, label %stop, label %on
stop:
  %status = getelementptr i8, ptr %call, i64 {RECORD_STATUS}
  store i32 {STATUS_INTERRUPTED}, ptr %status
  %jump = getelementptr i8, ptr %call, i64 {RECORD_JUMP}
  call void @longjmp(ptr %jump, i32 1)
  unreachable
on:
  ret void
}}

; Between buffers of one shape, given as {{rank, descriptor}}: rows along the last axis, whose places are divided out.
define void @{COPY}(i64 %size, ptr %source, ptr %target) {{
  %rank = load i64, ptr %source
  %source.place = getelementptr i8, ptr %source, i64 8
  %s = load ptr, ptr %source.place
  %target.place = getelementptr i8, ptr %target, i64 8
  %t = load ptr, ptr %target.place
  %sizes = getelementptr i8, ptr %s, i64 24
  %s.strides = getelementptr i64, ptr %sizes, i64 %rank
  %t.sizes = getelementptr i8, ptr %t, i64 24
  %t.strides = getelementptr i64, ptr %t.sizes, i64 %rank
  %s.data.place = getelementptr i8, ptr %s, i64 8
  %s.data = load ptr, ptr %s.data.place
  %s.offset.place = getelementptr i8, ptr %s, i64 16
  %s.offset = load i64, ptr %s.offset.place
  %s.bytes = mul i64 %s.offset, %size
  %s.first = getelementptr i8, ptr %s.data, i64 %s.bytes
  %t.data.place = getelementptr i8, ptr %t, i64 8
  %t.data = load ptr, ptr %t.data.place
  %t.offset.place = getelementptr i8, ptr %t, i64 16
  %t.offset = load i64, ptr %t.offset.place
  %t.bytes = mul i64 %t.offset, %size
  %t.first = getelementptr i8, ptr %t.data, i64 %t.bytes
  %scalar = icmp eq i64 %rank, 0
  br i1 %scalar, label %single, label %count
single:
  call void @llvm.memcpy.p0.p0.i64(ptr %t.first, ptr %s.first, i64 %size, i1 false)
  ret void
count:
  %last = sub i64 %rank, 1
  %n.place = getelementptr i64, ptr %sizes, i64 %last
  %n = load i64, ptr %n.place
  %s.step.place = getelementptr i64, ptr %s.strides, i64 %last
  %s.step.elements = load i64, ptr %s.step.place
  %s.step = mul i64 %s.step.elements, %size
  %t.step.place = getelementptr i64, ptr %t.strides, i64 %last
  %t.step.elements = load i64, ptr %t.step.place
  %t.step = mul i64 %t.step.elements, %size
  %s.dense = icmp eq i64 %s.step, %size
  %t.dense = icmp eq i64 %t.step, %size
  %dense = and i1 %s.dense, %t.dense
  br label %multiply
multiply:
  %k = phi i64 [ 0, %count ], [ %k.next, %factor ]
  %rows = phi i64 [ 1, %count ], [ %rows.next, %factor ]
  %counted = icmp sge i64 %k, %last
  br i1 %counted, label %rows.start, label %factor
factor:
  %k.place = getelementptr i64, ptr %sizes, i64 %k
  %k.size = load i64, ptr %k.place
  %k.some = icmp sgt i64 %k.size, 0
  %k.count = select i1 %k.some, i64 %k.size, i64 0
  %rows.next = mul i64 %rows, %k.count
  %k.next = add i64 %k, 1
  br label %multiply
rows.start:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %row, label %done
row:
  %r = phi i64 [ 0, %rows.start ], [ %r.next, %row.end ]
  %going = icmp slt i64 %r, %rows
  br i1 %going, label %divide, label %done
divide:
  %axis = phi i64 [ %last, %row ], [ %axis.next, %digit ]
  %rest = phi i64 [ %r, %row ], [ %rest.next, %digit ]
  %s.at = phi i64 [ 0, %row ], [ %s.at.next, %digit ]
  %t.at = phi i64 [ 0, %row ], [ %t.at.next, %digit ]
  %placed = icmp eq i64 %axis, 0
  br i1 %placed, label %copy, label %digit
digit:
  %axis.next = sub i64 %axis, 1
  %extent.place = getelementptr i64, ptr %sizes, i64 %axis.next
  %extent = load i64, ptr %extent.place
  %rest.next = udiv i64 %rest, %extent
  %whole = mul i64 %rest.next, %extent
  %i = sub i64 %rest, %whole
  %s.stride.place = getelementptr i64, ptr %s.strides, i64 %axis.next
  %s.stride = load i64, ptr %s.stride.place
  %s.moved = mul i64 %i, %s.stride
  %s.at.next = add i64 %s.at, %s.moved
  %t.stride.place = getelementptr i64, ptr %t.strides, i64 %axis.next
  %t.stride = load i64, ptr %t.stride.place
  %t.moved = mul i64 %i, %t.stride
  %t.at.next = add i64 %t.at, %t.moved
  br label %divide
copy:
  %s.row.bytes = mul i64 %s.at, %size
  %s.row = getelementptr i8, ptr %s.first, i64 %s.row.bytes
  %t.row.bytes = mul i64 %t.at, %size
  %t.row = getelementptr i8, ptr %t.first, i64 %t.row.bytes
  br i1 %dense, label %whole.row, label %element
whole.row:
  %row.bytes = mul i64 %n, %size
  call void @llvm.memcpy.p0.p0.i64(ptr %t.row, ptr %s.row, i64 %row.bytes, i1 false)
  br label %row.end
element:
  %j = phi i64 [ 0, %copy ], [ %j.next, %element ]
  %s.element.bytes = mul i64 %j, %s.step
  %s.element = getelementptr i8, ptr %s.row, i64 %s.element.bytes
  %t.element.bytes = mul i64 %j, %t.step
  %t.element = getelementptr i8, ptr %t.row, i64 %t.element.bytes
  call void @llvm.memcpy.p0.p0.i64(ptr %t.element, ptr %s.element, i64 %size, i1 false)
  %j.next = add i64 %j, 1
  %j.more = icmp slt i64 %j.next, %n
  br i1 %j.more, label %element, label %row.end
row.end:
  %r.next = add i64 %r, 1
  br label %row
done:
  ret void
}}
"""
