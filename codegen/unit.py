"""`ModuleEmitter`: what the functions of one module share: externals, statuses, constants, mathematics.

Invariant: each of them is there once, whoever asks first. Not here: functions (`codegen/emit.py`), steps (`module.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llvmlite.ir as ir

from stager.codegen.declarations import I8
from stager.codegen.program import Storage
from stager.codegen.target import Target
from stager.ir.abi import StatusAbi


class _LazyFunctions:
    """`MathFunctions`, imported at the first call: most small functions need none."""

    def __init__(self, module: Any, target: Target) -> None:
        self._args = (module, target)
        self.used = False

    def __getattr__(self, name: str) -> Any:
        from stager.codegen.math.functions import MathFunctions

        made = MathFunctions(*self._args)
        self.used = True
        self.call = made.call
        return getattr(made, name)


class ModuleEmitter:
    """What the functions of one module share."""

    def __init__(self, name: str, target: Target) -> None:
        self.name = name
        self.target = target
        self.module = ir.Module(name)
        self.module.triple = target.triple
        self.module.data_layout = target.data_layout
        self.functions: Any = _LazyFunctions(self.module, target)
        self.statuses: dict[tuple[str, str], int] = {}
        self.externals: dict[str, Any] = {}
        self.constants: dict[int, Any] = {}
        self.bodies = 0
        self._bodies: dict[tuple[int, ...], list[Any]] = {}  # finished ones, by the lengths of their blocks
        self.threads = True
        self.blas = False
        self.by_element = False  # whether a loop goes one element at a time
        self.aliases: Any = None  # what is known of storages, when a program says so

    def external(self, name: str, result: Any, params: Sequence[Any]) -> Any:
        """A C function that the loader binds."""
        f = self.externals.get(name)
        if f is None:
            f = self.externals[name] = ir.Function(self.module, ir.FunctionType(result, list(params)), name)
        return f

    def status(self, exception: str, text: str) -> int:
        """The code of an error."""
        return self.statuses.setdefault((exception, text), len(self.statuses) + 1)

    def status_table(self) -> tuple[StatusAbi, ...]:
        return tuple(StatusAbi(e, t) for e, t in self.statuses)

    def shared(self, body: Any) -> Any:
        """A finished body, or the one that is there already and does the same, word for word: what a program does at
        several places (a solver called in a loop over Python's numbers) is compiled once."""
        alike = self._bodies.setdefault(tuple([len(block.instructions) for block in body.blocks]), [])
        if alike:
            text = _nameless(body)
            for other in alike:
                if _nameless(other) == text:
                    del self.module.globals[body.name]
                    return other
        alike.append(body)
        return body

    def one_copy(self) -> Any:
        """What says of one loop that it is not unrolled."""
        never = self.module.add_metadata([ir.MetaDataString(self.module, "llvm.loop.unroll.disable")])
        loop = ir.MDValue(self.module, [never], str(len(self.module.metadata)))
        loop.operands = (loop, never)  # a node that names itself is a loop's own
        return loop

    def constant(self, storage: Storage) -> Any:
        """The global that holds constant data."""
        found = self.constants.get(id(storage))
        if found is None:
            data = bytearray(storage.data.tobytes())
            t = ir.ArrayType(I8, len(data))
            found = ir.GlobalVariable(self.module, t, f".{storage.name}")
            found.linkage = "private"
            found.global_constant = True
            found.unnamed_addr = True  # so that the variants of a kernel share it
            found.initializer = ir.Constant(t, data)
            found.align = 64
            self.constants[id(storage)] = found
        return found


def _nameless(f: Any) -> str:
    """The text of a function without its name."""
    return str(f).replace(f'@"{f.name}"', "", 1)
