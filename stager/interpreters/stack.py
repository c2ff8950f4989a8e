"""The interpreter stack: one interpreter per transform level, and `bind`, which hands an op to the top one.

A *raw value* is what rules compute with: an `ir.Value` (level 0) or a tracer of some level. A tracer of a level
wraps a raw value of a lower one. A value from a lower level is a constant to the levels above it.

The stack is per context (contextvars). `levels[:depth]` is what is in force; an interpreter's `process` lowers the
depth below itself while its rule runs, so `levels` always tells the whole nest (for error texts and node paths).
"""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from stager.errors import EscapedTracerError
from stager.ir.graph import Location
from stager.ir.op import Op
from stager.ir.types import Type


class Stack:
    """The levels of one context. `backward` counts the backward passes that are being emitted."""

    __slots__ = ("backward", "depth", "fwd_grad_enabled", "grad_enabled", "levels")

    def __init__(self) -> None:
        self.levels: list[Interpreter] = []
        self.depth = 0
        self.backward = 0
        self.grad_enabled = True
        self.fwd_grad_enabled = True


_STACK: ContextVar[Stack] = ContextVar("stager_stack")


def stack() -> Stack:
    """This context's stack."""
    try:
        return _STACK.get()
    except LookupError:
        s = Stack()
        _STACK.set(s)
        return s


class _Lowered:
    """Context: the levels below an interpreter are in force. Cheaper than a generator; this runs per op and level."""

    __slots__ = ("depth", "saved", "stack")

    def __init__(self, depth: int) -> None:
        self.depth = depth

    def __enter__(self) -> None:
        s = self.stack = stack()
        self.saved = s.depth
        s.depth = self.depth

    def __exit__(self, *exc: object) -> None:
        self.stack.depth = self.saved


class LoweredMode(_Lowered):
    """As `_Lowered`, and a grad mode is what it was around the interpreter's transform."""

    __slots__ = ("field", "mode", "saved_mode")

    def __init__(self, depth: int, field: str, mode: bool) -> None:
        self.depth, self.field, self.mode = depth, field, mode

    def __enter__(self) -> None:
        super().__enter__()
        self.saved_mode = getattr(self.stack, self.field)
        setattr(self.stack, self.field, self.mode)

    def __exit__(self, *exc: object) -> None:
        setattr(self.stack, self.field, self.saved_mode)
        super().__exit__()


@dataclass(frozen=True)
class InterpreterState:
    """What makes two interpreters the same transform: compared, pickled and guarded on."""

    key: str
    level: int
    facts: tuple[tuple[str, Any], ...] = ()


class Interpreter(ABC):
    """One transform level. `process` emits transformed nodes one level down; it never computes."""

    key: str = ""
    implicit = False  # levels the user did not ask for: not listed, not numbered

    def __init__(self) -> None:
        self.level = 0  # numbered from 1 among the levels the user asked for; set when pushed
        self.position = 0  # index in Stack.levels; set when pushed
        self.alive = False

    @abstractmethod
    def process(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        """Apply `op` at this level: a raw value of this level, or a tuple of them for ops with several results."""

    def lower(self) -> contextlib.AbstractContextManager[None]:
        """Context in which ops go to the level below this one."""
        return _Lowered(self.position)

    def begin(self, s: Stack) -> None:  # noqa: B027  (most levels change nothing)
        """The level has been pushed: what it changes of the stack's grad modes, which come back when it ends."""

    def facts(self) -> tuple[tuple[str, Any], ...]:
        """The settings that belong to the state."""
        return ()

    def get_state(self) -> InterpreterState:
        return InterpreterState(self.key, self.level, self.facts())

    def check_state(self, state: InterpreterState) -> bool:
        return self.get_state() == state

    @property
    def _cptr(self) -> InterpreterState:
        """The frozen state record that a pickled interpreter is rebuilt from."""
        return self.get_state()

    def __getstate__(self) -> InterpreterState:
        return self.get_state()

    def __reduce__(self) -> tuple[Any, ...]:
        from stager.interpreters.states import coerce_interpreter

        return coerce_interpreter, (self.get_state(),)

    def lower_value(self, value: Any) -> Any:
        """The value of the level below that a write to an older buffer commits (see `cells.py`)."""
        return value

    def __repr__(self) -> str:
        facts = "".join(f", {k}={v!r}" for k, v in self.facts())
        return f"<{self.key} level {self.level}{facts}>"


def lifted(
    interp: Interpreter, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Handles among arguments as handles of a level in force: what comes from below is a constant to it, and a write
    into it stays at the level. The rest is as it was."""
    from stager.array import Array, wrap
    from stager.runtime.structure import map_leaves

    s = stack()
    depth, s.depth = s.depth, interp.position + 1
    try:
        a, k = map_leaves(lambda x: wrap(x.raw(), x.weak) if type(x) is Array else x, (args, kwargs))
    finally:
        s.depth = depth
    return a, k


class Tracer:
    """A raw value of a level above 0. `type` is what user code at that level sees."""

    __slots__ = ("interp", "type", "value")

    def __init__(self, interp: Interpreter, value: Any, type: Type) -> None:
        self.interp = interp
        self.value = value
        self.type = type

    @property
    def shape(self) -> Any:
        return self.type.shape

    @property
    def dtype(self) -> Any:
        return self.type.dtype

    def __repr__(self) -> str:
        return f"<{self.interp.key} tracer {self.type}>"


def push(interp: Interpreter) -> _Pushed:
    """Context: `interp` is the top level; it is dead afterwards."""
    return _Pushed(interp)


class _Pushed:
    __slots__ = ("interp", "saved_depth", "saved_levels", "saved_modes", "stack")

    def __init__(self, interp: Interpreter) -> None:
        self.interp = interp

    def __enter__(self) -> Interpreter:
        s = self.stack = stack()
        interp = self.interp
        self.saved_levels, self.saved_depth = s.levels, s.depth
        self.saved_modes = s.grad_enabled, s.fwd_grad_enabled
        s.levels = [*s.levels[: s.depth], interp]
        interp.position = s.depth
        s.depth += 1
        interp.level = 0 if interp.implicit else 1 + sum(not i.implicit for i in s.levels[: interp.position])
        interp.alive = True
        interp.begin(s)
        return interp

    def __exit__(self, *exc: object) -> None:
        s = self.stack
        s.levels, s.depth = self.saved_levels, self.saved_depth
        s.grad_enabled, s.fwd_grad_enabled = self.saved_modes
        self.interp.alive = False


def bind(op: Op, *args: Any, **params: Any) -> Any:
    """Hand an op on raw values to the interpreter at the top of the stack."""
    s = stack()
    if not s.depth:
        raise EscapedTracerError(
            f"{op.name}: no trace is active (a traced value is used outside the call that made it)"
        )
    return s.levels[s.depth - 1].process(op, args, params)


def top() -> Interpreter | None:
    """The interpreter in force, or None."""
    s = stack()
    return s.levels[s.depth - 1] if s.depth else None


def nearest_stage() -> Any:
    """The StageInterpreter that constants go to: the topmost one in force (a region's own while it is traced)."""
    s = stack()
    for i in range(s.depth - 1, -1, -1):
        if s.levels[i].key == "Stage":
            return s.levels[i]
    raise EscapedTracerError("no trace is active (a traced value is used outside the call that made it)")


def made_at(value: Any) -> str:
    """Where the user's code made a raw value, as a part of a sentence: " made at model.py:12 in loss"."""
    while isinstance(value, Tracer):
        value = value.value
    loc = getattr(getattr(value, "node", None), "loc", None)
    return "" if loc is None else f" made at {loc}"


def active() -> bool:
    """True while anything is being traced."""
    return stack().depth > 0


def current_path() -> tuple[str, ...]:
    """The transforms in force as the user nested them, outermost first: ("vmap", "grad")."""
    return tuple(i.key.lower() for i in stack().levels if not i.implicit)


_INTERNAL: dict[str, bool] = {}
_PACKAGE = __name__.partition(".")[0]


def is_internal(filename: str, module: str) -> bool:
    """Whether a frame belongs to stager, NumPy or what runs between them and the user."""
    known = _INTERNAL.get(filename)
    if known is None:
        root = module.partition(".")[0]
        known = root in (_PACKAGE, "numpy", "contextlib", "functools") or filename.startswith("<frozen")
        _INTERNAL[filename] = known
    return known


def user_location(skip: int = 1) -> Location | None:
    """The innermost frame that belongs to the user: neither stager's nor NumPy's."""
    frame: FrameType | None = sys._getframe(skip)
    while frame is not None:
        code = frame.f_code
        internal = _INTERNAL.get(code.co_filename)  # looked up here: this runs for every frame of every node
        if internal is None:
            internal = is_internal(code.co_filename, frame.f_globals.get("__name__") or "")
        if not internal:
            return Location(code.co_filename, _line(frame, code), code.co_name)
        frame = frame.f_back
    return None


LONG_TABLE = 2048  # bytes of a code object's line table from which on it is worth unpacking
_lines: dict[int, tuple[CodeType, list[int], list[int]]] = {}  # by id of the code: it, starts, lines


def _line(frame: FrameType, code: CodeType) -> int:
    """The line a frame is at. Python reads its packed table from the start for every answer, so that tracing a long
    function would take time with the square of its length: long tables are unpacked once."""
    if len(code.co_linetable) < LONG_TABLE:
        return frame.f_lineno
    known = _lines.get(id(code))
    if known is None or known[0] is not code:
        rows = [(start, line) for start, _, line in code.co_lines() if line is not None]
        if len(_lines) > 16:
            _lines.clear()
        known = _lines[id(code)] = code, [start for start, _ in rows], [line for _, line in rows]
    return known[2][bisect_right(known[1], frame.f_lasti) - 1]


# -- the escape hatches of the original module ------------------------------------------------------------------------


def retrieve_current_interpreter() -> Interpreter:
    """The innermost level that the user asked for. RuntimeError when there is none."""
    found = retrieve_all_interpreters()
    if not found:
        raise RuntimeError("the interpreter stack is empty: no transform is in force")
    return found[-1]


def retrieve_all_interpreters() -> list[Interpreter]:
    """The levels the user asked for, bottom to top: `vmap(grad(f))` is [Vmap 1, Grad 2]."""
    s = stack()
    return [i for i in s.levels[: s.depth] if not i.implicit]


@contextlib.contextmanager
def temporarily_pop_interpreter_stack() -> Iterator[Interpreter]:
    """Context: the innermost user level is off; yields it. RuntimeError on an empty stack."""
    interp = retrieve_current_interpreter()
    with interp.lower():
        yield interp


@contextlib.contextmanager
def temporarily_clear_interpreter_stack() -> Iterator[list[Interpreter]]:
    """Context: no user level is in force; yields those that were, for `temporarily_restore_interpreter_stack`."""
    s = stack()
    saved, depth = retrieve_all_interpreters(), s.depth
    s.depth = saved[0].position if saved else depth
    try:
        yield saved
    finally:
        s.depth = depth


@contextlib.contextmanager
def temporarily_restore_interpreter_stack(saved: list[Interpreter] | None) -> Iterator[None]:
    """Context: the levels in `saved` are in force again. Nothing for None or an empty list."""
    if not saved:
        yield
        return
    s = stack()
    dead = [i for i in saved if not i.alive or i.position >= len(s.levels) or s.levels[i.position] is not i]
    if dead:
        raise RuntimeError(f"cannot restore {dead[0]!r}: its transform has ended")
    depth = s.depth
    s.depth = saved[-1].position + 1
    try:
        yield
    finally:
        s.depth = depth


@contextlib.contextmanager
def nested(*contexts: contextlib.AbstractContextManager[Any]) -> Iterator[tuple[Any, ...]]:
    """Context: all of `contexts`, entered from left to right; yields what they yield."""
    with contextlib.ExitStack() as entered:
        yield tuple(entered.enter_context(c) for c in contexts)


def compare_state(states: Sequence[InterpreterState]) -> bool:
    """True when the stack in force has exactly these states: what compiled code is guarded with."""
    return [i.get_state() for i in retrieve_all_interpreters()] == list(states)


def stack_state() -> tuple[InterpreterState, ...]:
    """The states of the levels in force, bottom to top."""
    return tuple(i.get_state() for i in retrieve_all_interpreters())
