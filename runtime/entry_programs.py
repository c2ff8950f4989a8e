"""The two programs of an entry: what matches and unpacks the arguments, and what builds the result.

Invariant: within the match program everything that may run Python code comes before the arrays, whose data pointers are
then read in one go; registers are filled in increasing order without gaps. Not here: the entry's other tables.
"""

from __future__ import annotations

import inspect
import struct
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

from stager.ir.abi import InputAbi
from stager.ir.dims import Dim, Expr, contiguous_strides, symbol
from stager.ir.dtypes import b1, f64, i64
from stager.ir.entry_table import (
    ARRAY,
    AXIS,
    INSTRUCTION,
    NUMPY_ALIGNED,
    NUMPY_C_CONTIGUOUS,
    NUMPY_WRITEABLE,
    ArrayLayout,
    Op,
)
from stager.runtime.patterns import (
    AllOf,
    Anything,
    Attribute,
    Attributes,
    Cell,
    Check,
    Constant,
    DictOf,
    Equal,
    Fixed,
    Global,
    Invoke,
    Is,
    Item,
    Leaf,
    Length,
    ListOf,
    MakeDict,
    MakeList,
    MakeTuple,
    Opened,
    Output,
    Parameter,
    Passed,
    Pattern,
    Result,
    SameInput,
    Source,
    TupleOf,
    TypeIs,
)
from stager.runtime.tables import Memory, Places, expression, pack

if TYPE_CHECKING:
    from stager.runtime.entries import EntrySpec

NEVER = (1 << 63) - 1  # no upper bound
_COMPARED_BY_VALUE = (str, int, bytes, float)  # their comparison runs no Python code


def bound_parameters(signature: inspect.Signature) -> list[inspect.Parameter]:
    """The parameters that entries have patterns for, in order: all but *args and **kwargs."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p for p in signature.parameters.values() if p.kind not in variadic]


def same_value(expected: Any) -> Callable[[Any], bool]:
    """A test for the same type and value, where identity and the fast comparisons do not decide."""

    def same(a: Any, b: Any) -> bool:
        if a is b:
            return True
        if type(a) is not type(b):
            return False
        if isinstance(a, float):
            return struct.pack("d", a) == struct.pack("d", b)
        if isinstance(a, complex):
            return same(a.real, b.real) and same(a.imag, b.imag)
        if isinstance(a, tuple | list):
            return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
        if isinstance(a, np.generic):
            return bool(a.dtype == b.dtype and a.tobytes() == b.tobytes())
        return bool(a == b)

    return lambda value: same(value, expected)


class MatchProgram:
    """The match program of a spec: guards and containers, then leaves, then symbols and what they must satisfy."""

    def __init__(self, spec: EntrySpec, signature: inspect.Signature, memory: Memory) -> None:
        self.spec, self.memory = spec, memory
        self.parameters = self.registers = len(spec.parameters)
        self.names = names = [p.name for p in bound_parameters(signature)]
        if len(names) != len(spec.parameters):
            raise ValueError(f"the entry has {len(spec.parameters)} parameters, the function {len(names)}")
        self.instructions: list[bytes] = []
        self.descriptions: list[str] = []
        self.scalars = Places()
        self._leaves: list[tuple[Leaf, int, str]] = []
        self._same: list[tuple[SameInput, int, str]] = []
        self._sources: dict[Any, int] = {}
        if spec.positional is not None:
            self._add(Op.POSITIONAL, f"{spec.positional} arguments are given by position", n=spec.positional)
        for i, pattern in enumerate(spec.parameters):
            self._match(pattern, i, f"argument {names[i]}")
        self._extra({p.kind for p in signature.parameters.values()})
        for namespace, name in spec.absent:
            self._add(Op.ABSENT, f"the global {name}", a=memory.hold(namespace), b=memory.hold(name))
        for source, pattern in spec.hidden:
            self._match(pattern, self.register(source), self.text(source))
        self._passed(spec.result)
        self._emit_leaves()
        self._emit_symbols()
        self._add(Op.END, "")

    def _add(self, op: Op, text: str, **fields: int) -> None:
        self.instructions.append(pack(INSTRUCTION, op=op, **fields))
        self.descriptions.append(text)

    def _take(self, count: int) -> int:
        first = self.registers
        self.registers += count
        return first

    # --- sources

    def register(self, source: Source) -> int:
        """The register that holds what `source` leads to; each path is walked once."""
        if isinstance(source, Parameter):
            if not 0 <= source.index < self.parameters:
                raise ValueError(f"there is no parameter {source.index}")
            return source.index
        key = _source_key(source)
        if key not in self._sources:
            self._sources[key] = self._load(source)
        return self._sources[key]

    def _load(self, source: Source) -> int:
        text, hold = self.text(source), self.memory.hold
        match source:
            case Constant(value):
                dst = self._take(1)
                self._add(Op.CONSTANT, text, dst=dst, a=hold(value))
            case Global(namespace, name):
                dst = self._take(1)
                self._add(Op.GLOBAL, f"{text} is defined", dst=dst, a=hold(namespace), b=hold(name))
            case Cell(cell):
                dst = self._take(1)
                self._add(Op.CELL, f"{text} is bound", dst=dst, a=hold(cell))
            case Attribute(Constant(function), "__code__") if type(function) is FunctionType:
                dst = self._take(1)  # of every function that was traced; an ATTRIBUTE costs a call 16 ns more
                self._add(Op.FUNCTION_CODE, text, dst=dst, a=hold(function))
            case Attribute(of, name):
                src = self.register(of)
                dst = self._take(1)
                self._add(Op.ATTRIBUTE, f"{text} exists", src=src, dst=dst, a=hold(name))
            case Item(of, key):
                src = self.register(of)
                dst = self._take(1)
                self._add(Op.ITEM, f"{text} exists", src=src, dst=dst, a=hold(key))
            case _:
                raise TypeError(f"not a source: {source!r}")
        return dst

    def text(self, source: Source) -> str:
        """A source as a user would write it."""
        match source:
            case Parameter(index):
                return self.names[index]
            case Global(_, name):
                return name
            case Cell():
                return "a captured variable"
            case Attribute(of, name):
                return f"{self.text(of)}.{name}"
            case Item(of, key):
                return f"{self.text(of)}[{key!r}]"
            case _:
                return "a constant"

    def _passed(self, result: Result) -> None:
        """Load what the result passes through."""
        match result:
            case Passed(source):
                self.register(source)
            case MakeTuple(items) | MakeList(items):
                for item in items:
                    self._passed(item)
            case MakeDict(pairs):
                for _, item in pairs:
                    self._passed(item)
            case Invoke(_, args, kwargs):
                for item in (*args, *(v for _, v in kwargs)):
                    self._passed(item)
            case _:
                pass

    # --- patterns

    def _match(self, pattern: Pattern, src: int, text: str) -> None:
        hold = self.memory.hold
        match pattern:
            case Leaf():
                self._leaves.append((pattern, src, text))
            case Anything():
                pass
            case Is(value):
                self._add(Op.IS, f"{text} is {_short(value)}", src=src, a=hold(value))
            case SameInput():
                self._same.append((pattern, src, text))
            case Equal(value):
                self._equal(value, src, text)
            case Check(test, what):
                self._add(Op.CHECK, f"{text}: {what}", src=src, a=hold(test))
            case TypeIs(cls):
                self._add(Op.TYPE, f"{text} is a {cls.__name__}", src=src, a=hold(cls))
            case Length(count):
                self._add(Op.LENGTH, f"{text} has length {count}", src=src, n=count)
            case TupleOf(items, cls):
                if not issubclass(cls, tuple) or cls.__itemsize__ != tuple.__itemsize__:
                    raise TypeError(f"{cls} is not a kind of tuple")
                dst = self._take(len(items))
                what = f"{text} is a {cls.__name__} of {len(items)}"
                self._add(Op.TUPLE, what, src=src, dst=dst, n=len(items), a=hold(cls))
                for i, item in enumerate(items):
                    self._match(item, dst + i, f"{text}[{i}]")
            case ListOf(items):
                dst = self._take(len(items))
                self._add(Op.LIST, f"{text} is a list of {len(items)}", src=src, dst=dst, n=len(items))
                for i, item in enumerate(items):
                    self._match(item, dst + i, f"{text}[{i}]")
            case DictOf(pairs):
                keys = [key for key, _ in pairs]
                dst = self._take(len(keys))
                by_value = all(type(key) in _COMPARED_BY_VALUE for key in keys)
                self._add(
                    Op.DICT, f"{text} is a dict with the keys {', '.join(map(repr, keys))}",
                    src=src, dst=dst, n=len(keys), a=self.memory.objects(keys), b=by_value,
                )  # fmt: skip
                for i, (key, item) in enumerate(pairs):
                    self._match(item, dst + i, f"{text}[{key!r}]")
            case Attributes(type_, attributes):
                if type_ is not None:
                    self._match(TypeIs(type_), src, text)
                for name, item in attributes:
                    dst = self._take(1)
                    self._add(Op.ATTRIBUTE, f"{text}.{name} exists", src=src, dst=dst, a=hold(name))
                    self._match(item, dst, f"{text}.{name}")
            case Opened(type_, opener, content):
                self._match(TypeIs(type_), src, text)
                dst = self._take(1)
                self._add(Op.CALL, f"{text} opens as a {type_.__name__}", src=src, dst=dst, a=hold(opener))
                self._match(content, dst, text)
            case AllOf(patterns):
                for each in patterns:
                    self._match(each, src, text)
            case _:
                raise TypeError(f"not a pattern: {pattern!r}")

    def _equal(self, value: Any, src: int, text: str) -> None:
        text = f"{text} equals {_short(value)}"
        if type(value) is float:
            self._add(Op.SAME_FLOAT, text, src=src, a=self.memory.hold(value))
        elif type(value) in (str, int, bytes, bool, type(None)):
            self._add(Op.EQUAL, text, src=src, a=self.memory.hold(value))
        else:
            self._add(Op.CHECK, text, src=src, a=self.memory.hold(same_value(value)))

    def _extra(self, kinds: set[Any]) -> None:
        """The arguments beyond the parameters, where the signature has a place for them."""
        if inspect.Parameter.VAR_POSITIONAL in kinds:
            self._varargs(self.spec.varargs)
        elif self.spec.varargs:
            raise ValueError("the function takes no extra positional arguments")
        if inspect.Parameter.VAR_KEYWORD in kinds:
            self._varkw(self.spec.varkw)
        elif self.spec.varkw:
            raise ValueError("the function takes no extra keywords")

    def _varargs(self, positional: tuple[Pattern, ...]) -> None:
        dst = self._take(len(positional))
        self._add(Op.VARARGS, f"{len(positional)} more positional arguments", dst=dst, n=len(positional))
        for i, pattern in enumerate(positional):
            self._match(pattern, dst + i, f"extra argument {i}")

    def _varkw(self, keywords: tuple[tuple[str, Pattern], ...]) -> None:
        names = [name for name, _ in keywords]
        dst = self._take(len(names))
        text = f"the extra keywords {', '.join(names)}" if names else "no extra keywords"
        self._add(Op.VARKW, text, dst=dst, n=len(names), a=self.memory.objects(names))
        for i, (name, pattern) in enumerate(keywords):
            self._match(pattern, dst + i, f"argument {name}")

    # --- leaves

    def _emit_leaves(self) -> None:
        abi = self.spec.abi
        seen = sorted(leaf.input for leaf, _, _ in self._leaves)
        if seen != list(range(len(abi.inputs))):
            raise ValueError(f"each of the {len(abi.inputs)} inputs must be one leaf of the patterns; leaves: {seen}")
        python = {"float": (Op.FLOAT, f64), "int": (Op.INT, i64), "bool": (Op.BOOL, b1)}
        self.arrays: set[int] = set()
        for leaf, src, text in self._leaves:
            given = abi.inputs[leaf.input]
            dtype = given.type.dtype
            if leaf.kind == "array":
                self.arrays.add(leaf.input)
                self._add(Op.ARRAY, f"{text} is {describe(given)}", src=src, n=leaf.input, a=self._array(given))
                continue
            if given.type.ndim:
                raise ValueError(f"input {leaf.input} is {given.type}, which no {leaf.kind} can be")
            if leaf.kind == "scalar":
                cls = dtype.np.type
                self._add(Op.SCALAR, f"{text} is a {cls.__name__}", src=src, n=leaf.input, a=self.memory.hold(cls))
                continue
            if leaf.kind not in python or python[leaf.kind][1] is not dtype:
                raise ValueError(f"input {leaf.input} is {given.type}, which cannot be read from a {leaf.kind}")
            at = self.scalars.room(16, 16)
            self._add(python[leaf.kind][0], f"{text} is a {leaf.kind}", src=src, n=leaf.input, b=at)
        for same, src, text in self._same:
            if not 0 <= same.input < len(abi.inputs):
                raise ValueError(f"{text} cannot be input {same.input}, which is not there")
            self._add(Op.SAME_INPUT, f"{text} is input {same.input} itself", src=src, n=same.input)

    def _array(self, given: InputAbi) -> int:
        dtype, shape = given.type.dtype, given.type.shape
        if len(given.strides) != len(shape):
            raise ValueError(f"an input of type {given.type} has {len(given.strides)} strides")
        if given.align & (given.align - 1) or given.align < 1:
            raise ValueError(f"the alignment {given.align} is not a power of two")
        flags, layout = NUMPY_ALIGNED, ArrayLayout.ANY
        if given.written:
            flags |= NUMPY_WRITEABLE
        if is_contiguous(given):
            flags |= NUMPY_C_CONTIGUOUS
            layout = ArrayLayout.C_CONTIGUOUS
        elif shape:
            layout = ArrayLayout.STRIDES
        head = pack(
            ARRAY, descr=self.memory.hold(dtype.np), itemsize=dtype.itemsize, align_mask=given.align - 1,
            kind=ord(dtype.np.kind), ndim=len(shape), flags=flags, layout=layout,
        )  # fmt: skip
        axes = [
            pack(
                AXIS,
                dim=0 if isinstance(d, Expr) else d,
                any_dim=isinstance(d, Expr),
                stride=0 if isinstance(s, Expr) else s,
                any_stride=isinstance(s, Expr),
            )
            for d, s in zip(shape, given.strides, strict=True)
        ]
        return self.memory.bytes(head + b"".join(axes))

    # --- symbols

    def _emit_symbols(self) -> None:
        abi = self.spec.abi
        symbols: dict[str, int] = {}
        bound: set[tuple[str, int, int, Dim]] = set()
        for index, s in enumerate(abi.symbols):
            given = abi.inputs[s.input]
            symbols[s.name] = index
            if s.kind == "value":
                size = given.type.dtype.itemsize
                n = -size if given.type.dtype.kind == "i" else size
                if given.type.dtype.kind not in "biu" or given.type.ndim:
                    raise ValueError(f"the symbol {s.name} cannot be the value of an input of type {given.type}")
                self._add(Op.SYMBOL_VALUE, "", src=s.input, dst=index, n=n)
                continue
            op = {"shape": Op.SYMBOL_DIM, "stride": Op.SYMBOL_STRIDE}[s.kind]
            if s.input not in self.arrays or not 0 <= s.axis < given.type.ndim:
                raise ValueError(f"the symbol {s.name} names axis {s.axis} of input {s.input}, which has none")
            self._add(op, "", src=s.input, dst=index, n=s.axis)
            bound.add((s.kind, s.input, s.axis, symbol(s.name)))
        for i in sorted(self.arrays):
            self._emit_dims(i, symbols, bound)
        for guard in self.spec.dim_guards:
            code = self.memory.numbers(expression(guard.dim, symbols))
            text = f"{guard.low} <= {guard.dim}" + ("" if guard.high == NEVER else f" <= {guard.high}")
            self._add(Op.RANGE, text, a=code, b=self.memory.numbers((guard.low, guard.high)))
        for i in sorted(self.arrays):
            for j in sorted(self.arrays):
                if abi.inputs[i].written and j != i and not (abi.inputs[j].written and j < i):
                    self._add(Op.DISJOINT, f"inputs {i} and {j} share no memory", src=i, n=j)

    def _emit_dims(self, i: int, symbols: Mapping[str, int], bound: set[tuple[str, int, int, Dim]]) -> None:
        given = self.spec.abi.inputs[i]
        for axis, d in enumerate(given.type.shape):
            if isinstance(d, Expr) and ("shape", i, axis, d) not in bound:
                code = self.memory.numbers(expression(d, symbols))
                self._add(Op.DIM_EQUAL, f"axis {axis} of input {i} is {d}", src=i, n=axis, a=code)
        if is_contiguous(given):
            return
        for axis, stride in enumerate(given.strides):
            if isinstance(stride, Expr) and ("stride", i, axis, stride) not in bound:
                code = self.memory.numbers(expression(stride, symbols))
                self._add(Op.STRIDE_EQUAL, f"stride {axis} of input {i} is {stride}", src=i, n=axis, a=code)


def is_contiguous(given: InputAbi) -> bool:
    """Whether the expected strides are those of a dense array in C order."""
    return bool(given.type.shape) and tuple(given.strides) == contiguous_strides(
        given.type.shape, given.type.dtype.itemsize
    )


def describe(given: InputAbi) -> str:
    """An input as text, for the reason of a miss."""
    dense = not given.type.shape or is_contiguous(given)
    layout = "" if dense else f" with strides ({', '.join(map(str, given.strides))})"
    return f"{given.type}{layout}{', writeable' if given.written else ''}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _source_key(source: Source) -> Any:
    """Equal for sources that walk the same path from the same object."""
    match source:
        case Parameter(index):
            return ("parameter", index)
        case Constant(value):
            return ("constant", id(value))
        case Global(namespace, name):
            return ("global", id(namespace), name)
        case Cell(cell):
            return ("cell", id(cell))
        case Attribute(of, name):
            return ("attribute", _source_key(of), name)
        case Item(of, key):
            return ("item", _source_key(of), type(key), key)


class BuildProgram:
    """The program that makes the returned object, for a stack of `depth` references."""

    def __init__(self, spec: EntrySpec, match: MatchProgram, memory: Memory) -> None:
        self.instructions: list[bytes] = []
        self.depth = self._now = 0
        self._outputs, self._match, self._memory = len(spec.abi.outputs), match, memory
        self._build(spec.result)
        self.instructions.append(pack(INSTRUCTION, op=Op.END))

    def _add(self, op: Op, pops: int = 0, **fields: int) -> None:
        self.instructions.append(pack(INSTRUCTION, op=op, **fields))
        self._now += 1 - pops
        self.depth = max(self.depth, self._now)

    def _build(self, result: Result) -> None:
        hold = self._memory.hold
        match result:
            case Output(index):
                if not 0 <= index < self._outputs:
                    raise ValueError(f"there is no output {index}")
                self._add(Op.OUTPUT, n=index)
            case Passed(source):
                self._add(Op.REGISTER, n=self._match.register(source))
            case Fixed(value):
                self._add(Op.PUSH, a=hold(value))
            case MakeTuple(items) | MakeList(items):
                for item in items:
                    self._build(item)
                op = Op.MAKE_TUPLE if isinstance(result, MakeTuple) else Op.MAKE_LIST
                self._add(op, len(items), n=len(items))
            case MakeDict(pairs):
                for _, item in pairs:
                    self._build(item)
                self._add(Op.MAKE_DICT, len(pairs), n=len(pairs), a=self._memory.objects([k for k, _ in pairs]))
            case Invoke(function, args, kwargs):
                for item in (*args, *(v for _, v in kwargs)):
                    self._build(item)
                names = hold(tuple(k for k, _ in kwargs)) if kwargs else 0
                count = len(args) + len(kwargs)
                self._add(Op.INVOKE, count, n=count, a=hold(function), b=names)
            case _:
                raise TypeError(f"not a result: {result!r}")
