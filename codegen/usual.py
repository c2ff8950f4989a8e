"""Selects that are better guessed, because a loop waits for the answer.

    x = path[t] + noise[t]
    if x > 1.0:
        x = 2.0 - x
    path[t + 1] = x

Computed both ways and selected, the comparison, the subtraction and the selection all stand between one turn and the
next. As a branch they do not: the processor goes on with `x` as it is, and waits only where that was wrong. So a select
is marked where one value of it is compared and the other, of floats, is computed from that one, and the comparison
depends on what the turn before has left. Integers are selected in a cycle, and bits of theirs (CRC) cannot be guessed,
nor can the sides of a bisection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stager.codegen.extremes import put_last
from stager.codegen.index import Ix
from stager.codegen.program import Buffer, Instr, Leaf, Loop, Move, Nest, Program, Reduction, Store, Switch, While, walk
from stager.ir.dims import substitute, symbol
from stager.ir.dtypes import b1

Place = tuple[int, Ix]
"""A storage and a position in it."""


def mark_usual(program: Program) -> None:
    """Marks the selects of all loops."""

    def look(step: Any) -> None:
        if isinstance(step, Loop):
            i = symbol(step.symbol)
            env = dict.fromkeys((step.symbol, *step.also), i + step.step)
            _Turn(step.body, lambda at: Ix(substitute(at.const, env), at.terms)).steps(step.body)
        elif isinstance(step, While):
            turn = [*step.test, *step.body]
            _Turn(turn, lambda at: at).steps(turn)

    walk(program.steps, look)


class _Turn:
    """One turn of a loop, in order: which values depend on what the turn before has written."""

    def __init__(self, body: list[Any], next_turn: Callable[[Ix], Ix]) -> None:
        self.next_turn = next_turn
        self.waits: dict[Place, bool] = {}  # what this turn has written so far: whether that waits
        self.written = set(_writes(body))

    def steps(self, steps: list[Any]) -> None:
        for s in steps:
            match s:
                case Nest():
                    for leaf in s.leaves:
                        self.leaf(leaf, not s.outer and not leaf.loops)
                case Move():
                    self.waits[_place(s.target)] = self.reads(*_place(s.source))
                case Switch():
                    for b in s.branches:
                        self.steps(b)

    def leaf(self, leaf: Leaf, scalar: bool) -> None:
        body = leaf.stage.body
        late: list[bool] = []
        for i in body:
            reads = i.op == "load" and self.reads(id(i.data[0].storage), i.data[1])
            late.append(reads or any(late[a] for a in i.args))
            if scalar and i.op == "apply" and i.data.op.name == "select" and i.dtype.kind == "f" and late[i.args[0]]:
                _mark(body, i)
        if scalar:
            put_last(leaf.stage, late)
        for s in _results(leaf):
            self.waits[id(s.buffer.storage), s.at] = late[s.value]

    def reads(self, storage: int, at: Ix) -> bool:
        known = self.waits.get((storage, at))
        return known if known is not None else (storage, self.next_turn(at)) in self.written


def _mark(body: list[Instr], select: Instr) -> None:
    """Marks a select one value of which is compared and is what the other is computed from."""
    condition = _truth(body, select.args[0])
    for usual in (1, 2):
        value, other = select.args[usual], select.args[3 - usual]
        while (inner := body[value]).usual is not None:
            value = inner.args[inner.usual]
        if value in body[condition].args and other != value and _made_of(body, other, value):
            select.usual = usual
            return


def _truth(body: list[Instr], n: int) -> int:
    """What a condition asks: the index of a switch is a truth value as an integer, and asked whether it is above 0."""
    i = body[n]
    if i.op == "apply" and i.data.op.name == "gt":
        number, zero = (body[a] for a in i.args)
        converted = number.op == "apply" and number.data.op.name == "convert" and body[number.args[0]].dtype is b1
        if converted and zero.op == "const" and zero.data == 0:
            return number.args[0]
    return n


def _made_of(body: list[Instr], n: int, part: int) -> bool:
    """Whether instruction n is computed from another one."""
    stack, seen = [n], set()
    while stack:
        k = stack.pop()
        if k == part:
            return True
        if k > part and k not in seen:
            seen.add(k)
            stack.extend(body[k].args)
    return False


def _place(b: Buffer) -> Place:
    return id(b.storage), Ix(b.offset)


def _writes(steps: list[Any]) -> list[Place]:
    """Where steps write, without the loops among them."""
    out: list[Place] = []
    for s in steps:
        match s:
            case Nest():
                out += [(id(x.buffer.storage), x.at) for leaf in s.leaves for x in _results(leaf)]
            case Move():
                out.append(_place(s.target))
            case Switch():
                for b in s.branches:
                    out += _writes(b)
    return out


def _results(leaf: Leaf) -> list[Store | Reduction]:
    return [*leaf.stage.stores, *leaf.stage.reductions]
