"""Stages that add to an array what is linear in some values: what they add for a sum is the sum of what they add."""

from __future__ import annotations

from collections.abc import Collection

from stager.codegen.program import Instr, Stage, Store

LINEAR = {("neg", "linear"), ("mul", "linear", "free"), ("mul", "free", "linear"), ("div", "linear", "free")}
"""What of a sum over all elements is the sum of the same of its parts."""


def adds_to(stage: Stage, sums: Collection[int]) -> int | None:
    """The array of a stage that does no more than `array[at] = array[at] + f(sums)`, f linear: what it adds for all
    elements is what it adds for one block after the other."""
    if len(stage.stores) != 1 or stage.reductions:
        return None
    (store,) = stage.stores
    kinds: list[str | None] = []  # "free" of sums, "linear" in them, "added": that and the array's own value
    for i in stage.body:
        if i.op == "load":
            kinds.append(_kind_of_load(i, store, sums))
        else:
            name = i.data.op.name if i.op == "apply" else i.op
            kinds.append(_kind(name, tuple(kinds[n] for n in i.args)))
    return id(store.buffer.storage) if kinds[store.value] == "added" else None


def _kind_of_load(i: Instr, store: Store, sums: Collection[int]) -> str | None:
    buffer, at = i.data
    if id(buffer.storage) in sums:
        return "linear"
    if buffer.storage is not store.buffer.storage:
        return "free"
    return "added" if at == store.at else None


def _kind(name: str, args: tuple[str | None, ...]) -> str | None:
    """What an operation makes of its operands."""
    if all(k == "free" for k in args):
        return "free"
    if name in ("add", "sub") and args in (("linear", "linear"), ("added", "linear")):
        return args[0]
    if name == "add" and args == ("linear", "added"):
        return "added"
    return "linear" if (name, *args) in LINEAR else None
