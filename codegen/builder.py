"""`Builder`: llvmlite's IRBuilder whose instructions are text from the start.

An instruction of llvmlite is an object that keeps its operands and is spelled when the module is printed; making and
spelling them took a fifth of a small function's first call. Here the common ones are spelled when they are made, as
llvmlite would spell them, and refer to nothing. Invariant: a module has the same text with either builder
(`tests/codegen/test_builder.py`). What may change after it was made (phi nodes, allocas, switches, calls that other
modules' names follow) stays llvmlite's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import llvmlite.ir as ir

VOID = ir.VoidType()
I1 = ir.IntType(1)
COMPARISONS = {">": "gt", "<": "lt", "==": "eq", "!=": "ne", ">=": "ge", "<=": "le"}


@cache
def _truth(lanes: int) -> Any:
    """The type of a comparison's result."""
    return ir.VectorType(I1, lanes) if lanes else I1


@cache
def _lanes_of(element: Any, count: int) -> Any:
    return ir.VectorType(element, count)


def _compared(type: Any) -> Any:
    return _truth(type.count if isinstance(type, ir.VectorType) else 0)


class Line(ir.Value):  # type: ignore[misc]
    """One instruction: the type of its result, how others refer to that, and its text.

    memory: of a pointer, what the texts of loads and stores through it end in; pointers made from it pass it on.
    """

    memory = ""

    def __init__(self, type: Any, reference: str, text: str) -> None:
        self.type = type
        self.reference = reference
        self.text = text

    def get_reference(self) -> str:
        return self.reference

    def set_metadata(self, name: str, node: Any) -> None:
        self.text += f" , !{name} {node.get_reference()}"

    def __str__(self) -> str:
        return self.text


class Call(Line):
    """A call, whose attributes may still be said after it was made."""

    def __init__(self, type: Any, reference: str, text: str, result: Any) -> None:
        super().__init__(type, reference, text)
        self.result = result
        self._attributes: Any = None

    @property
    def attributes(self) -> Any:
        if self._attributes is None:
            self._attributes = ir.instructions.CallInstrAttributes()
        return self._attributes

    @attributes.setter
    def attributes(self, said: Any) -> None:
        self._attributes = said

    def __str__(self) -> str:
        said = self._attributes
        return f"{self.text} {' '.join(said._to_list(self.result))}" if said else self.text


def memory_of(pointer: Any) -> str:
    """What accesses through a pointer say of memory."""
    said: str = getattr(pointer, "memory", "")
    return said


def through(pointer: Any, call: Any) -> Any:
    """A call that accesses memory through a pointer alone."""
    if (memory := memory_of(pointer)) != "":
        call.text += memory
    return call


Binary = Callable[..., Any]


def _binary(op: str) -> Binary:
    def binary(self: Builder, lhs: Any, rhs: Any, name: str = "", flags: Sequence[str] = ()) -> Any:
        type = lhs.type
        if type is not rhs.type and type != rhs.type:
            raise ValueError(f"Operands must be the same type, got ({type}, {rhs.type})")
        spelled = f"{op} {' '.join(flags)}" if flags else op
        return self._line(type, f"{spelled} {type} {lhs.get_reference()}, {rhs.get_reference()}", name)

    return binary


def _cast(op: str) -> Binary:
    def cast(self: Builder, value: Any, typ: Any, name: str = "") -> Any:
        given = value.type
        if given is typ or given == typ:
            return value
        return self._line(typ, f"{op} {given} {value.get_reference()} to {typ}", name)

    return cast


class Builder(ir.IRBuilder):  # type: ignore[misc]
    """Appends instructions to a block."""

    def _line(self, type: Any, text: str, name: str = "") -> Line:
        block = self._block
        reference = f'%"{block.scope.register(name, deduplicate=True)}"'
        made = Line(type, reference, f"{reference} = {text}")
        block.instructions.insert(self._anchor, made)
        self._anchor += 1
        return made

    add, fadd, sub, fsub = _binary("add"), _binary("fadd"), _binary("sub"), _binary("fsub")
    mul, fmul, fdiv = _binary("mul"), _binary("fmul"), _binary("fdiv")
    udiv, sdiv, urem, srem, frem = (_binary(op) for op in ("udiv", "sdiv", "urem", "srem", "frem"))
    shl, lshr, ashr = _binary("shl"), _binary("lshr"), _binary("ashr")
    and_, or_, xor = _binary("and"), _binary("or"), _binary("xor")
    trunc, zext, sext, bitcast = _cast("trunc"), _cast("zext"), _cast("sext"), _cast("bitcast")
    fptrunc, fpext, fptoui, uitofp, fptosi, sitofp = (
        _cast(op) for op in ("fptrunc", "fpext", "fptoui", "uitofp", "fptosi", "sitofp")
    )

    def fneg(self, arg: Any, name: str = "", flags: Sequence[str] = ()) -> Any:
        spelled = f"fneg {' '.join(flags)}" if flags else "fneg"
        return self._line(arg.type, f"{spelled} {arg.type} {arg.get_reference()}", name)

    def _icmp(self, prefix: str, cmpop: str, lhs: Any, rhs: Any, name: str) -> Any:
        op = COMPARISONS[cmpop] if cmpop in ("==", "!=") else prefix + COMPARISONS[cmpop]
        text = f"icmp {op} {lhs.type} {lhs.get_reference()}, {rhs.get_reference()}"
        return self._line(_compared(lhs.type), text, name)

    def fcmp_ordered(self, cmpop: str, lhs: Any, rhs: Any, name: str = "", flags: Sequence[str] = ()) -> Any:
        return self._fcmp("o", cmpop, lhs, rhs, name, flags)

    def fcmp_unordered(self, cmpop: str, lhs: Any, rhs: Any, name: str = "", flags: Sequence[str] = ()) -> Any:
        return self._fcmp("u", cmpop, lhs, rhs, name, flags)

    def _fcmp(self, prefix: str, cmpop: str, lhs: Any, rhs: Any, name: str, flags: Sequence[str]) -> Any:
        op = prefix + COMPARISONS[cmpop] if cmpop in COMPARISONS else cmpop
        spelled = " ".join(("fcmp", *flags, op))
        text = f"{spelled} {lhs.type} {lhs.get_reference()}, {rhs.get_reference()}"
        return self._line(_compared(lhs.type), text, name)

    def select(self, cond: Any, lhs: Any, rhs: Any, name: str = "", flags: Sequence[str] = ()) -> Any:
        type = lhs.type
        if type is not rhs.type and type != rhs.type:
            raise ValueError(f"select: {type} or {rhs.type}")
        chosen = f"{type} {lhs.get_reference()}, {type} {rhs.get_reference()}"
        return self._line(type, f"select {' '.join(flags)} {cond.type} {cond.get_reference()}, {chosen}", name)

    def load(self, ptr: Any, name: str = "", align: int | None = None, typ: Any = None) -> Any:
        if typ is None:
            return super().load(ptr, name, align)
        if not isinstance(ptr.type, ir.PointerType):
            raise TypeError(f"cannot load from value of type {ptr.type} ({ptr}): not a pointer")
        aligned = "" if align is None else f", align {align}"
        return self._line(typ, f"load {typ}, {ptr.type} {ptr.get_reference()}{aligned}{memory_of(ptr)}", name)

    def store(self, value: Any, ptr: Any, align: int | None = None) -> Any:
        if not isinstance(ptr.type, ir.PointerType):
            raise TypeError(f"cannot store to value of type {ptr.type} ({ptr}): not a pointer")
        if not ptr.type.is_opaque:
            return super().store(value, ptr, align)
        aligned = "" if align is None else f", align {align}"
        text = f"store {value.type} {value.get_reference()}, {ptr.type} {ptr.get_reference()}{aligned}"
        return self._silent(text + memory_of(ptr))

    def _silent(self, text: str) -> Line:
        """An instruction without a result. It takes a name all the same, as llvmlite's do."""
        block = self._block
        made = Line(VOID, f'%"{block.scope.register("", deduplicate=True)}"', text)
        block.instructions.insert(self._anchor, made)
        self._anchor += 1
        return made

    def gep(
        self, ptr: Any, indices: Sequence[Any], inbounds: bool = False, name: str = "", source_etype: Any = None
    ) -> Any:
        if source_etype is None:
            return super().gep(ptr, indices, inbounds, name)
        at = ", ".join([f"{i.type} {i.get_reference()}" for i in indices])
        op = "getelementptr inbounds" if inbounds else "getelementptr"
        made = self._line(ptr.type, f"{op} {source_etype}, {ptr.type} {ptr.get_reference()}, {at}", name)
        if (memory := memory_of(ptr)) != "":
            made.memory = memory
        return made

    def extract_element(self, vector: Any, idx: Any, name: str = "") -> Any:
        text = f"extractelement {vector.type} {vector.get_reference()}, {idx.type} {idx.get_reference()}"
        return self._line(vector.type.element, text, name)

    def insert_element(self, vector: Any, value: Any, idx: Any, name: str = "") -> Any:
        if value.type != vector.type.element:
            raise TypeError(f"value needs to be of type {vector.type.element} not {value.type}.")
        operands = ", ".join([f"{x.type} {x.get_reference()}" for x in (vector, value, idx)])
        return self._line(vector.type, f"insertelement {operands}", name)

    def shuffle_vector(self, vector1: Any, vector2: Any, mask: Any, name: str = "") -> Any:
        if vector1.type is not vector2.type and vector1.type != vector2.type:
            raise TypeError(f"shuffle_vector: {vector1.type} and {vector2.type}")
        operands = ", ".join([f"{x.type} {x.get_reference()}" for x in (vector1, vector2, mask)])
        return self._line(_lanes_of(vector1.type.element, mask.type.count), f"shufflevector {operands}", name)

    def call(self, fn: Any, args: Sequence[Any], name: str = "", **said: Any) -> Any:
        if said or type(fn) is not ir.Function or fn.ftype.var_arg or fn.calling_convention:
            return super().call(fn, args, name, **said)
        f = fn.ftype
        result = f.return_type
        spelled = []
        for k, (a, wanted) in enumerate(zip(args, f.args, strict=True)):
            given = a.type
            if given is not wanted and given != wanted:
                raise TypeError(f"Type of #{k + 1} arg mismatch: {wanted} != {given}")
            spelled.append(f"{given} {a.get_reference()}")
        block = self._block
        reference = f'%"{block.scope.register(name, deduplicate=True)}"'
        text = f"call {result} {fn.get_reference()}({', '.join(spelled)})"
        if not isinstance(result, ir.VoidType):
            text = f"{reference} = {text}"
        made = Call(result, reference, text, result)
        block.instructions.insert(self._anchor, made)
        self._anchor += 1
        return made
