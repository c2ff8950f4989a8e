"""The tables of the native entry: what `runtime` writes and the compiled entry (`codegen/entry.py`) reads.

One entry module serves every compiled function. All that differs between functions stands in the C structs below, which
Python fills: a `signature` per function and one `entry` per specialisation, each with a program that matches and
unpacks the arguments, a table of outputs, and a program that builds the result. Both sides take field offsets and
opcodes from here and nowhere else. Not here: what a compiled function's kernel looks like (`abi.py`).

Registers hold objects. The first ones are the bound parameters, in signature order (borrowed from the caller); every
register that an instruction fills is a new reference, released when the call ends. A program fills them in increasing
order without gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

TABLE_VERSION = 2


class Record:
    """A C struct: named fields, each `p` (pointer), `i` (i32) or `l` (i64), in an order that needs no padding.

    >>> Record("pair", "first:p second:i third:i").offset("third")
    12
    """

    WIDTHS = {"p": 8, "l": 8, "i": 4}  # noqa: RUF012

    def __init__(self, name: str, fields: str) -> None:
        self.name = name
        self.fields: dict[str, str] = {}
        self._offsets: dict[str, int] = {}
        at = 0
        for field in fields.split():
            key, code = field.split(":")
            width = self.WIDTHS[code]
            if at % width:
                raise ValueError(f"{name}.{key} would need padding")
            self.fields[key], self._offsets[key] = code, at
            at += width
        if at % 8:
            raise ValueError(f"{name} would need padding at its end")
        self.size = at

    def offset(self, field: str) -> int:
        """Where `field` stands, in bytes."""
        return self._offsets[field]


# The instance itself. The interpreter reads vectorcall, dict and weakrefs by the offsets that the type states.
FUNCTION = Record(
    "function",
    "refcount:l type:p vectorcall:p dict:p weakrefs:p "
    "miss:p "  # strong: called as miss(function, args, kwargs) when no entry takes the arguments
    "owner:p "  # strong: the Python list that keeps alive whatever the tables point to
    "retry:p "  # borrowed, owned by the runtime for ever: what miss returns to have the entries tried once more
    "signature:p first:p hot:p",
)

SIGNATURE = Record(
    "signature",
    "positional_only:i positional:i parameters:i flags:i names:p defaults:p",
)

ENTRY = Record(
    "entry",
    "next:p keep:p "  # keep: the Python object that owns this entry; a call in progress holds it
    "kernel:p match:p outputs:p build:p "
    "parameters:i inputs:i output_count:i status_count:i "
    "frame_bytes:l objects_at:i buffers_at:i symbols_at:i scalars_at:i stack_at:i arena_at:i "
    "arena_bytes:l arena_code:p work_code:p "  # a null code: the static number beside it counts
    "flags:i threads:i "
    "error:p "  # called as error(status, d0, d1, d2, d3), raises
    "failed:p",  # written by the entry: the instruction that did not match at the last try
)

INSTRUCTION = Record("instruction", "op:i src:i dst:i n:i a:p b:p")

ARRAY = Record(
    "array",
    "descr:p itemsize:l align_mask:l kind:i ndim:i flags:i layout:i",  # then ndim times AXIS
)
AXIS = Record("axis", "dim:l stride:l any_dim:i any_stride:i")

OUTPUT = Record(
    "output",
    "kind:i source:i ndim:i form:i "
    "descr:p shape:p shape_code:p "  # shape: static dims; or shape_code: one expression per dim
    "strides_code:p offset_code:p "
    "itemsize:l nbytes:l "  # nbytes: -1 when it depends on symbols
    "scalar_at:l scalar_type:p allocate:p",
)

# The context's user pointer leads here; the callbacks need it.
CALL_STATE = Record("call_state", "entry:p objects:p thread:p skipped_polls:l")


class SignatureFlags(IntFlag):
    VARARGS = 1
    VARKW = 2
    DIRECT = 4  # every parameter is positional and nothing else is taken: the caller's row of arguments is the binding


class EntryFlags(IntFlag):
    RELEASE = 1  # the kernel is long: let other threads run
    SINGLE = 2  # the result is output 0 and nothing else
    RETIRED = 4  # removed from its function while a call may still run


class Op(IntEnum):
    """The opcodes. Matching: `src` is checked, or unpacked into `dst`, `dst + 1`, …; a mismatch is a miss."""

    END = 0
    # leaves: input `n`
    ARRAY = 1  # a: an ARRAY record
    FLOAT = 2  # an exact float
    INT = 3  # an exact int that fits i64; b: its place among the scalars
    BOOL = 4  # True or False; b: its place among the scalars
    SCALAR = 5  # a NumPy scalar of the exact type a
    # objects
    IS = 10  # identity with a
    EQUAL = 11  # identity, or same type as a and equal (builtin types whose comparison runs no Python code)
    SAME_FLOAT = 12  # an exact float with the bits of a
    CHECK = 13  # a(object) is true
    TYPE = 14  # the exact type a
    LENGTH = 15  # len(object) == n
    SAME_INPUT = 16  # identity with the object of input n
    POSITIONAL = 17  # the call has exactly n positional arguments
    # unpacking
    TUPLE = 20  # exact type a, n items
    LIST = 21
    DICT = 22  # exactly the n keys at a, in this order
    ATTRIBUTE = 23  # a: name
    ITEM = 24  # a: key
    CALL = 25  # a(object)
    VARARGS = 26  # exactly n extra positional arguments
    VARKW = 27  # exactly the n extra keyword arguments named at a, in this order
    # roots
    CONSTANT = 30  # a
    GLOBAL = 31  # dict a, key b
    ABSENT = 32  # dict a has no key b
    CELL = 33  # the content of cell a
    FUNCTION_CODE = 34  # the code of function a
    # symbols
    SYMBOL_DIM = 40  # symbol dst = dim n of input src
    SYMBOL_STRIDE = 41
    SYMBOL_VALUE = 42  # symbol dst = the integer at input src, n: bytes, negative when signed
    DIM_EQUAL = 43  # dim n of input src == expression a
    STRIDE_EQUAL = 44  # the same of a stride; dims of at most one element and empty arrays take any
    RANGE = 45  # b[0] <= expression a <= b[1]
    DISJOINT = 46  # inputs src and n share no memory
    # building: a stack of new references
    OUTPUT = 60  # push result n
    REGISTER = 61  # push register n
    PUSH = 62  # push a
    MAKE_TUPLE = 63  # of the n on top
    MAKE_LIST = 64
    MAKE_DICT = 65  # keys at a
    INVOKE = 66  # a called with the n on top, the last of them named by tuple b when not null


class Code(IntEnum):
    """Expressions over symbols: a row of i64 for a small stack machine."""

    END = 0
    CONSTANT = 1  # value
    SYMBOL = 2  # index
    ADD = 3
    MUL = 4
    FLOORDIV = 5
    MOD = 6
    MAX = 7
    MIN = 8


CODE_DEPTH = 64  # the stack machine's stack


class OutputKind(IntEnum):
    ARRAY = 0  # allocated before the call
    SCALAR = 1  # one element in the frame, made an object afterwards
    SIZED = 2  # allocated during the call
    INPUT = 3  # the argument itself
    OUTPUT = 4  # an earlier result itself
    VIEW_INPUT = 5
    VIEW_OUTPUT = 6


class ScalarForm(IntEnum):
    """What a SCALAR output becomes."""

    NUMPY = 0  # scalar_type through its `allocate`
    NUMPY_BOOL = 1  # one of two objects: scalar_type false, allocate true
    FLOAT = 2
    INT = 3
    UNSIGNED = 4
    BOOL = 5


class ArrayLayout(IntEnum):
    ANY = 0
    C_CONTIGUOUS = 1  # the flag decides
    STRIDES = 2  # the axes decide


# The functions of the entry module's object that the runtime looks up,
ENTRY_EXPORTS = (
    "stager_entry_vectorcall",
    "stager_entry_dealloc",
    "stager_entry_traverse",
    "stager_entry_clear",
    "stager_entry_descr_get",
    *(f"stager_entry_{h}_{f}" for h in ("small", "pool") for f in ("malloc", "calloc", "realloc", "free")),
)
# and what it needs from outside, besides CPython's C API by its own names. The handlers are cells that hold objects.
ENTRY_EXTERNALS = (
    "stager_numpy_PyArray_Type",
    "stager_numpy_PyArray_NewFromDescr",
    "stager_numpy_PyArray_SetBaseObject",
    "stager_entry_small_handler",
    "stager_entry_pool_handler",
    "stager_buffer_acquire",
    "stager_buffer_release",
    "stager_arena_acquire",
    "stager_arena_release",
)

NUMPY_C_CONTIGUOUS = 0x0001
NUMPY_ALIGNED = 0x0100
NUMPY_WRITEABLE = 0x0400
NUMPY_OWNDATA = 0x0004

RELEASE_ABOVE_NS = 20_000  # kernels estimated longer than this run without the GIL
STACK_ARENA_BYTES = 4096  # arenas up to this size stand in the call's own frame
STACK_FRAME_BYTES = 32_768  # frames up to this size stand on the stack
POOL_ABOVE_BYTES = 128 * 1024  # results from this size on use the pool of large buffers


@dataclass(frozen=True, slots=True)
class PythonLayout:
    """Offsets inside CPython's and NumPy's objects, measured in this interpreter by `runtime/layout.py`.

    Part of the cache key of the entry's object code. `split_refcount`: from 3.12 on objects can be immortal and the
    counter is the low half of the word.
    """

    version: tuple[int, int]
    split_refcount: bool
    tuple_items: int
    list_items: int
    float_value: int
    scalar_value: int
    array_data: int
    array_ndim: int
    array_shape: int
    array_strides: int
    array_descr: int
    array_flags: int
    array_handler: int
    descr_kind: int
    descr_byteorder: int
    descr_type_num: int
    descr_itemsize: int
