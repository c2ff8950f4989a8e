"""Branches that raise: what a traced condition guards is an exception of the compiled code.

Mostly that is a check. Where the branch does something first, it is a branch that ends in a check that fails, so that
what it has written or printed by then is there, as in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.array import as_array, raw
from stager.cells import Cell
from stager.committed import commit_carried
from stager.interpreters.stack import bind
from stager.ir.abi import exception_class
from stager.ir.dtypes import i64
from stager.staged import UserRegion, as_raw, close_regions, inside


def check(ok: Any, error: BaseException) -> None:
    """A check of the compiled code that raises what `error` is when `ok` is false."""
    from stager.ops.effects import check as check_op

    kind = next(c for c in type(error).__mro__ if c is Exception or exception_class(c.__name__) is c)
    said = str(error.args[0]) if len(error.args) == 1 else str(error)  # str of a KeyError has quotes
    text = said.replace("{", "{{").replace("}", "}}")
    check_op(raw(ok), exception=kind.__name__, text=text)


def needs_region(region: UserRegion, written: Sequence[Cell]) -> bool:
    """Whether a branch that raises does something before it that stays."""
    return region.graph.has_effects or any(cell.place is not None for cell in written)


def raise_inside(condition: Any, k: int, region: UserRegion, written: Sequence[Cell], error: Exception) -> None:
    """A branch that raises when `condition` is k, behind what it does before; else nothing happens."""
    from stager.ops.control import switch_op

    idle = UserRegion("idle", region.captures)
    with inside(region):
        check(as_array(False), error)
    for side in (region, idle):
        with inside(side):
            side.graph.outputs = [side.local(cell.read()) for cell in written]
            side.close()
    sides = [region, idle] if k == 0 else [idle, region]
    graphs, _, captured = close_regions(sides, [(), ()], ())
    results = iter(bind(switch_op, as_raw(condition, i64), *captured, regions=graphs))
    for cell in written:
        cell.take(next(results))
        commit_carried(cell)
