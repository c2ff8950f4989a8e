"""Why an update does not happen in place: the copies that remain, in words, for `explain`.

An update writes into the buffer of its operand when nobody needs the old content any more and the memory may be
written (`Placement.take`). Where that fails the whole operand is copied first; this module names the reason. It decides
nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stager.codegen.program import Buffer
from stager.codegen.pull import value_key
from stager.ir.graph import Node, Value

if TYPE_CHECKING:
    from stager.codegen.placement import Placement


def copy_text(w: Placement, base: Value, node: Node, found: Buffer, target: Buffer) -> str:
    """The line of `explain` for a copy of `base` that `node` updates."""
    where = f" at {node.loc}" if node.loc is not None else ""
    return f"copy {target.name} <- {found.name} ({target.storage.nbytes} bytes) for {node.op.name}{where}: " + (
        _why(w, base, found)
    )


def _why(w: Placement, base: Value, found: Buffer) -> str:
    key = value_key(base)
    later = [w.nodes[i] for i in w.users.get(key, ()) if i > w.now]
    if key in w.output_keys:
        return "what it updates is a result too"
    if later:
        where = f" at {later[0].loc}" if later[0].loc is not None else ""
        return f"{later[0].op.name}{where} reads the old content"
    if found.storage.kind == "input":
        return f"the argument {found.storage.name} keeps its content"
    if found.storage.kind == "constant":
        return "a constant keeps its content"
    if id(base.node) not in w.order:
        return "the next run of the region reads the old content"
    return "the update itself reads the old content elsewhere"
