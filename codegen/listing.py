"""Programs as text: what `show(stage="kernels")` prints and goldens store.

One line per step, instruction or store, indented by what it stands in; positions in bytes. Nothing is parsed back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stager.codegen.index import DYNAMIC
from stager.codegen.program import (
    Allocate,
    Buffer,
    Check,
    Instr,
    Loop,
    LoopAxis,
    MapLanes,
    Move,
    Nest,
    Program,
    Read,
    Routine,
    Scalar,
    Stage,
    Switch,
    While,
)

_AXIS_NAMES = "ijklmnpqr"


def variable_name(v: int) -> str:
    """`i`, `j`, … for axes, `%3` for an instruction."""
    if v >= DYNAMIC:
        return f"%{v - DYNAMIC}"
    return _AXIS_NAMES[v] if v < len(_AXIS_NAMES) else f"i{v}"


def program_lines(p: Program) -> Iterator[str]:
    ins = ", ".join(map(repr, p.inputs))
    outs = ", ".join(map(repr, p.outputs))
    yield f"program {p.name}({ins}) -> ({outs})"
    for s in p.storages:
        where = f"arena+{s.offset}" if s.offset is not None else s.kind
        yield f"  {s.name}: {s.nbytes} bytes, {where}"
    for step in p.steps:
        yield from ("  " + line for line in step_lines(step))


def step_lines(step: Any) -> Iterator[str]:
    """One step as text, without indentation."""
    match step:
        case Stage():
            yield f"stage {step.label}"
            yield from _body_lines(step)
        case Nest():
            yield from _nest_lines(step)
        case Loop():
            by = f" step {step.step}" if step.step != 1 else ""
            rows = f": {step.abreast} side by side" if step.abreast else ""
            yield f"for {step.symbol} in {_scalar(step.lower)}..{_scalar(step.upper)}{by}{rows}"
            yield from _nested(step.body)
        case While():
            yield "while"
            yield from _nested(step.test)
            growing = "".join(f", {tape.storage.name} grows" for tape in step.tapes)
            yield f"do (while {step.condition.name}{growing})"
            yield from _nested(step.body)
        case Switch():
            yield f"switch {_scalar(step.index)}"
            for i, branch in enumerate(step.branches):
                yield f"case {i}"
                yield from _nested(branch)
        case MapLanes():
            where = "" if step.first == 0 and step.step == 1 else f" from {step.first} step {step.step}"
            of = f": blocks of {step.block}" if step.block else ""
            yield f"{'parallel ' if step.parallel else ''}map {step.symbol} in {step.size}{where}{of}"
            yield from _nested(step.body)
        case Move():
            yield f"{'swap' if step.swap else 'copy'} {step.target.name} <- {step.source.name}"
        case Allocate():
            yield f"allocate {step.buffer!r}"
        case Read():
            yield f"{step.name} = {step.source.name}"
        case Check():
            yield f"check {step.ok.name}: {step.exception}({step.text!r})"
        case Routine():
            ins, outs = (", ".join(b.name for b in bs) for bs in (step.inputs, step.outputs))
            yield f"{outs} = {step.name}({ins})"


def _nested(steps: list[Any]) -> Iterator[str]:
    for s in steps:
        yield from ("  " + line for line in step_lines(s))


def _scalar(s: Scalar) -> str:
    return s.name if isinstance(s, Buffer) else str(s)


def _nest_lines(n: Nest) -> Iterator[str]:
    head = "parallel " if n.parallel else ""
    if n.piece is not None:
        head += f"{variable_name(n.piece)}: pieces of {n.rows}; "
    rows = [s.name for s, *_ in n.scratch.values()]
    loops = " ".join(_loop_text(a, n.block if n.block and a is n.outer[-1] else 0) for a in n.outer)
    yield f"{n.name}: {head}{loops}".rstrip() + (f" (per point: {', '.join(rows)})" if rows else "")
    for leaf in (*n.first, *n.leaves):
        marks = ""
        if leaf.vector is not None:
            how = "side by side" if leaf.narrow else "vector"
            marks = f" {how} {variable_name(leaf.vector)}" + (f" x{leaf.unroll}" if leaf.unroll > 1 else "")
            marks += f" transposing {variable_name(leaf.jam)}" if leaf.jam is not None else ""
            marks += " late" if leaf.late else ""
            marks += " recalled" if leaf.recalled else ""
        marks += " descending" if leaf.stage.descending else ""
        yield f"  loop {' '.join(_loop_text(a) for a in leaf.loops)}".rstrip() + marks
        yield from ("  " + line for line in _body_lines(leaf.stage))


def _loop_text(a: LoopAxis, block: int = 0) -> str:
    by = f" by {block or a.tile}" if block or a.tile else ""
    return f"{variable_name(a.var)}<{a.extent}{by}{' reduce' if a.reduce else ''}"


def _body_lines(s: Stage) -> Iterator[str]:
    for n, i in enumerate(s.body):
        yield f"  %{n} = {instr_text(i)}"
    for st in s.stores:
        how = "=" if st.combine == "set" else f"{st.combine}="
        yield f"  {st.buffer.name}[{st.at.text(variable_name)}] {how} %{st.value}"
    for r in s.reductions:
        how = "=" if r.combine == "set" else f"{r.combine}="
        first = "" if r.first is None else f" from {r.first}"
        yield f"  {r.buffer.name}[{r.at.text(variable_name)}] {how} {r.kind} %{r.value}{first}"


def instr_text(i: Instr) -> str:
    """The right-hand side of an instruction."""
    args = ", ".join(f"%{a}" for a in i.args)
    match i.op:
        case "load":
            return f"{i.data[0].name}[{i.data[1].text(variable_name)}]"
        case "const":
            return f"{i.dtype} {i.data}"
        case "index":
            return f"{i.dtype} {i.data.text(variable_name)}"
        case "floordiv" | "mod":
            return f"{i.op} {i.data[0].text(variable_name)}, {i.data[1]}"
        case "carry":
            return f"carry {i.data}"
        case "bound":
            return f"bound {args} < {i.data[0]} ({i.data[2]})"
        case "apply":
            node = i.data
            params = "".join(f" {k}={v}" for k, v in node.params.items())
            guess = "" if i.usual is None else f" (usually %{i.args[i.usual]})"
            return f"{node.op.name} {args}{params}{guess}"
    return f"{i.op} {args}"
