"""The registry of math functions and the facility that materialises them in a module.

A family file registers emitters with `@math_function()`: plain functions from (`ScalarBuilder`, `Val`, …) to `Val`.
`MathFunctions(module, target).call(b, "exp", x)` makes `@stager.exp.v4f64` on first use and calls it. Invariant: one
private function per name, dtypes and width in a module, pure for LLVM (no memory, no unwinding), so equal calls merge
and dead ones vanish. A function with few call sites is inlined into them, one with many is called, unless the caller's
builder says "inline" or "call". Where a vector form stands already, the scalar one (a loop's tail) is a call of it with
one lane.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.ir as ir

from stager.codegen.builder import Builder
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.codegen.target import Target
from stager.ir.dtypes import DType

Emitter = Callable[..., Val]
_FAMILIES = (
    "arithmetic", "exponential", "logarithm", "power", "trigonometric", "huge_angle", "inverse_trigonometric",
    "hyperbolic", "error", "gamma", "gamma_negative",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MathFunction:
    """An emitter, the dtype of its result given those of its arguments, and whether it is a rarely taken path."""

    name: str
    emit: Emitter
    result: Callable[[list[DType]], DType]
    cold: bool
    outlined: bool


FUNCTIONS: dict[str, MathFunction] = {}


def math_function(
    name: str | None = None,
    *,
    result: Callable[[list[DType]], DType] = lambda dtypes: dtypes[0],
    cold: bool = False,
    outlined: bool = False,
) -> Callable[[Emitter], Emitter]:
    """Registers an emitter under its own name (or `name`). `cold`: rarely taken, so neither inlined nor
    optimised. `outlined`: taken for some data, so optimised but never inlined.
    """

    def register(emit: Emitter) -> Emitter:
        key = name or getattr(emit, "__name__")  # noqa: B009 (Callable has no __name__ for mypy)
        FUNCTIONS[key] = MathFunction(key, emit, result, cold, outlined)
        return emit

    return register


class _Uses:
    """The call sites of one function, and the attribute that they get when the module is printed."""

    INSTRUCTIONS = 300  # that inlining may add in all

    def __init__(self, function: Any) -> None:
        self.function = function
        self.count = 0

    def _to_list(self, _: Any) -> list[str]:
        size = sum(len(block.instructions) for block in self.function.blocks)
        return ["alwaysinline" if self.count == 1 or self.count * size <= self.INSTRUCTIONS else "noinline"]


@cache
def _load_families() -> None:
    for family in _FAMILIES:
        importlib.import_module(f"stager.codegen.math.{family}")


def function_names() -> list[str]:
    """Every registered name."""
    _load_families()
    return sorted(FUNCTIONS)


class _PureAttributes(ir.values.FunctionAttributes):  # type: ignore[misc]
    """llvmlite knows the attributes of an older LLVM; these say that a call only computes."""

    _known = ir.values.FunctionAttributes._known | {"willreturn", "memory(none)", "nosync", "mustprogress"}


class MathFunctions:
    """The private math functions of one module."""

    __slots__ = ("_made", "_uses", "module", "target")

    def __init__(self, module: Any, target: Target) -> None:
        _load_families()
        self.module = module
        self.target = target
        self._made: dict[tuple[Any, ...], Any] = {}
        self._uses: dict[str, _Uses] = {}

    def function(self, name: str, dtypes: list[DType], width: int) -> Any:
        """The llvmlite function for these argument types, made when it is first asked for."""
        key = (name, width, *(d.name for d in dtypes))
        made = self._made.get(key)
        return made if made is not None else self._make(key, FUNCTIONS[name], dtypes, width)

    def call(self, b: ScalarBuilder, name: str, *args: Val) -> Val:
        """Emits a call in `b`."""
        dtypes = [a.dtype for a in args]
        function = self.function(name, dtypes, b.width)
        record = FUNCTIONS[name]
        call = b.builder.call(function, [a.ir for a in args])
        if record.cold or record.outlined:
            return Val(call, record.result(dtypes))
        if b.inline != "auto":
            call.attributes.add("alwaysinline" if b.inline == "inline" else "noinline")
        else:
            uses = self._uses.setdefault(function.name, _Uses(function))
            uses.count += 1
            call.attributes = uses
        return Val(call, record.result(dtypes))

    def _make(self, key: tuple[Any, ...], record: MathFunction, dtypes: list[DType], width: int) -> Any:
        b = ScalarBuilder(None, width, self.target, self)
        result = record.result(dtypes)
        lanes = f"v{width}" if width > 1 else ""
        symbol = f"stager.{record.name}.{lanes}{'.'.join(dict.fromkeys(d.name for d in dtypes))}"
        function = ir.Function(self.module, ir.FunctionType(b.type(result), [b.type(d) for d in dtypes]), symbol)
        self._made[key] = function
        function.linkage = "private"
        function.attributes = _PureAttributes(("nounwind", "willreturn", "memory(none)", "nosync", "mustprogress"))
        if record.outlined:
            function.attributes.add("noinline")
        if record.cold:
            for attribute in ("noinline", "cold", "optnone"):  # optimising what hardly runs would take most of the time
                function.attributes.add(attribute)
        b.builder = Builder(function.append_basic_block("entry"))
        args = [Val(a, d) for a, d in zip(function.args, dtypes, strict=True)]
        # a finished vector form: one that is being emitted lane by lane asks for this very scalar
        wide = min(
            (k[1] for k, f in self._made.items() if k[0] == key[0] and k[2:] == key[2:] and k[1] > 1 and _finished(f)),
            default=0,
        )
        if width == 1 and wide and not (record.cold or record.outlined):
            out = self._one_lane(b.with_width(wide), record.name, args)
        else:
            out = record.emit(b, *args)
        b.builder.ret(out.ir)
        return function

    def _one_lane(self, b: ScalarBuilder, name: str, args: list[Val]) -> Val:
        b.inline = "call"
        return b.extract(self.call(b, name, *(b.insert(b.const(a.dtype, 1), 0, a) for a in args)), 0)


def _finished(function: Any) -> bool:
    return bool(function.blocks) and bool(function.blocks[-1].is_terminated)
