"""Stages -> nests: which computations share loops."""

from __future__ import annotations

from typing import Any

from stager.codegen.program import Leaf, Loop, LoopAxis, MapLanes, Nest, Program, Stage, Switch, While


def fuse(program: Program) -> None:
    """Replaces the stages of a program by nests."""
    program.steps = _fuse_steps(program.steps)


def _fuse_steps(steps: list[Any]) -> list[Any]:
    out: list[Any] = []
    for s in steps:
        match s:
            case Stage():
                s = single(s)
            case Loop() | MapLanes():
                s.body = _fuse_steps(s.body)
            case While():
                s.test, s.body = _fuse_steps(s.test), _fuse_steps(s.body)
            case Switch():
                s.branches = [_fuse_steps(b) for b in s.branches]
        out.append(s)
    return out


def single(s: Stage) -> Nest:
    """A nest of one stage."""
    loops = [LoopAxis(n, a.extent, a.reduce) for n, a in enumerate(s.axes)]
    return Nest([], [Leaf(loops, s)])
