"""Large matrix products through BLAS, as an LLVM module made once per machine: what compiled code calls.

    i32 stager_blas_product_f64(Context *, i64 m, i64 n, i64 k, const void *a, i64 a_row, i64 a_step,
                                const void *b, i64 b_row, i64 b_step, void *c, i64 c_row)

and `_f32`: c = a b, with byte strides; of each operand's two strides one is the size of an element. A large product is
divided by rows or columns, each piece one BLAS call on one thread: BLAS starts none.

Invariant: the pieces follow from the sizes alone. BLAS adds in an order that depends on where its panels begin, so
pieces that followed the number of threads would give other bits for another number. More pieces cost a packing of the
shared operand each, some 1 to 2 % of the call.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from stager.codegen.blas import BLAS_ENTER, BLAS_LEAVE
from stager.codegen.declarations import F32, F64, I32, I64, PTR, VOID, Struct, const
from stager.codegen.pool_state import CONTEXT
from stager.codegen.structured import Code
from stager.codegen.target import Target
from stager.ir.abi import PARALLEL_FOR, STATUS_SIZE

PRODUCTS = {"f64": "stager_blas_product_f64", "f32": "stager_blas_product_f32"}
EXPORTS = tuple(PRODUCTS.values())
EXTERNALS = ("stager_blas_dgemm", "stager_blas_sgemm", BLAS_ENTER, BLAS_LEAVE, PARALLEL_FOR)

PIECE = 16
PIECES = ((1 << 20, 2), (1 << 26, 4), (1 << 34, 8))
"""Products of at least so many terms are divided in so many pieces, which begin at multiples of PIECE."""

ARGUMENTS = {"m": I64, "n": I64, "k": I64, "a": PTR, "a_row": I64, "a_step": I64, "b": PTR, "b_row": I64, "b_step": I64,
             "c": PTR, "c_row": I64}  # fmt: skip
CALL = Struct(**ARGUMENTS, share=I64, by_rows=I64)


def emit_products(target: Target, *, gemm: str = "stager_blas_{}gemm", bits: int = 64) -> Any:
    """The module with the functions of `EXPORTS`; it needs those of `EXTERNALS`.

    `gemm`: how BLAS calls its products (s, d in place of the braces). `bits`: of its integers; where they are 32, sizes
    beyond them come back as STATUS_SIZE.
    """
    module = ir.Module("stager_products")
    module.triple = target.triple
    module.data_layout = target.data_layout
    for name, letter, real, size in (("f64", "d", F64, 8), ("f32", "s", F32, 4)):
        piece = _emit_piece(module, f"piece_{name}", gemm.format(letter), real, size, bits)
        _emit_product(module, PRODUCTS[name], piece, size, bits)
    return module


def _emit_piece(module: Any, name: str, gemm: str, real: Any, size: int, bits: int) -> Any:
    """The pieces [begin, end) of a call: a pool body."""
    params = [("ctx", PTR), ("begin", I64), ("end", I64), ("env", PTR)]
    c = Code(module, name, I32, params, linkage="internal")
    p = {field: c.get(CALL, c.arg("env"), field) for field in CALL.fields}
    rows = c.ne(p["by_rows"], 0)
    start = c.mul(c.arg("begin"), p["share"])
    extent = c.select(rows, p["m"], p["n"])
    count = c.sub(c.min(c.mul(c.arg("end"), p["share"]), extent), start)
    m, n = c.select(rows, count, p["m"]), c.select(rows, p["n"], count)
    a = c.offset(p["a"], c.mul(start, c.select(rows, p["a_row"], 0)))
    b = c.offset(p["b"], c.mul(start, c.select(rows, const(I64, 0), p["b_step"])))
    to = c.offset(p["c"], c.mul(start, c.select(rows, p["c_row"], size)))

    def layout(row: Any, step: Any) -> tuple[Any, Any]:
        straight = c.eq(step, size)
        return c.select(straight, const(I32, 111), const(I32, 112)), c.udiv(c.select(straight, row, step), size)

    alone = c.alloca(CONTEXT, align=8)
    c.fill(alone, 0, 64)
    c.put(CONTEXT, alone, "threads", 1)
    held = c.call(BLAS_ENTER, I32, [alone])
    (a_way, lda), (b_way, ldb) = layout(p["a_row"], p["a_step"]), layout(p["b_row"], p["b_step"])
    one, zero = const(real, 1.0), const(real, 0.0)
    ldc = c.udiv(p["c_row"], size)
    m, n, k, lda, ldb, ldc = (c.to(x, ir.IntType(bits)) for x in (m, n, p["k"], lda, ldb, ldc))
    c.call(gemm, VOID, [const(I32, 101), a_way, b_way, m, n, k, one, a, lda, b, ldb, zero, to, ldc])
    with c.if_(c.ne(held, 0)):
        c.call(BLAS_LEAVE)
    c.ret(0)
    return c.finish()


def _emit_product(module: Any, name: str, piece: Any, size: int, bits: int) -> None:
    c = Code(module, name, I32, [("ctx", PTR), *ARGUMENTS.items()])
    if bits < 64:
        most = (1 << (bits - 1)) - 1
        for field, type in ARGUMENTS.items():
            if type is I64:
                limit = most if field in ("m", "n", "k") else most * size
                c.ret_if(c.b.icmp_unsigned(">", c.arg(field), const(I64, limit)), STATUS_SIZE)
    call = c.alloca(CALL, align=8)
    for field in ARGUMENTS:
        c.put(CALL, call, field, c.arg(field))
    m, n = c.arg("m"), c.arg("n")
    rows = c.ge(m, n)
    extent = c.max(c.select(rows, m, n), 1)
    c.put(CALL, call, "by_rows", c.zext(rows, I64))
    work = c.mul(c.mul(m, n), c.arg("k"))
    among: Any = const(I64, 1)
    for least, pieces in PIECES:
        among = c.select(c.ge(work, least), const(I64, pieces), among)
    share = c.and_(c.add(c.udiv(c.sub(c.add(extent, among), 1), among), PIECE - 1), -PIECE)
    c.put(CALL, call, "share", share)
    pieces = c.udiv(c.sub(c.add(extent, share), 1), share)
    c.ret(c.call(PARALLEL_FOR, I32, [c.arg("ctx"), piece, pieces, const(I64, 1), call]))
    c.finish()
