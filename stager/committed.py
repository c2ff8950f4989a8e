"""Commits: what the caller's arrays hold where something may raise while a compiled function runs.

As in NumPy, writes that happened before an exception stay. The optimiser sees values, and would merge writes or do them
late; so the trace of a call puts a `commit` of every array of the caller that was written since in front of what may
raise, and behind control flow that may raise and writes it. Writes under a transform reach the caller when it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stager.cells import Cell
from stager.interpreters.stack import stack
from stager.interpreters.stage import StageInterpreter
from stager.ir.graph import Node, Value
from stager.ir.raising import raises


def commit_writes(stage: StageInterpreter) -> dict[Value, Value]:
    """Commits of what was written at a level since the last one: each value with its commit."""
    made: dict[Value, Value] = {}
    if stage.steps:
        return made
    changed, stage.changed = stage.changed, {}
    if _is_outermost(stage):
        for cell in changed:
            value = _at(stage, cell)
            if _commit(stage, cell, False):
                made[value] = _at(stage, cell)
    return made


def commit_carried(cell: Cell) -> None:
    """A cell has what control flow left of it: where that may raise, a commit says that it is the caller's array."""
    s = stack()
    level = s.levels[s.depth - 1]
    if not isinstance(level, StageInterpreter) or level.steps or cell not in level.changed or not _is_outermost(level):
        return
    value = _at(level, cell)
    if type(value) is Value and value.node in level.graph and value.node.regions and raises(value.node):
        del level.changed[cell]
        _commit(level, cell, True)


@contextmanager
def one_step(stage: StageInterpreter) -> Iterator[None]:
    """Context: what is written at a level reaches the caller's arrays when all of it is done, or not at all."""
    commit_writes(stage)
    stage.steps += 1
    try:
        yield
    finally:
        stage.steps -= 1


def _is_outermost(stage: StageInterpreter) -> bool:
    """Whether no transform is around, at whose end alone writes reach the caller."""
    return all(isinstance(i, StageInterpreter) or i.implicit for i in stack().levels[: stage.position])


def _at(stage: StageInterpreter, cell: Cell) -> Any:
    return cell.value if cell.owner is stage else (cell.overlays or {}).get(stage)


def _commit(stage: StageInterpreter, cell: Cell, carried: bool) -> bool:
    """Whether there is something to commit, which is then the cell's value."""
    from stager.ops.effects import commit_op

    value = _at(stage, cell)
    if type(value) is not Value or value.node not in stage.graph:
        return False
    if value.node.op is commit_op and value.node.params["input"] == cell.place:
        return False
    params = {"input": cell.place, "carried": carried}
    committed = Value(stage.graph.add(Node(commit_op, (value,), params, (value.type,))))
    if cell.owner is stage:
        cell.value = committed
    else:
        assert cell.overlays is not None
        cell.overlays[stage] = committed
    return True
