"""Owners: the statements that can put the lists of their variables into buffers, and what asks them to.

A list that a traced region changes belongs to the innermost statement around whose variables alone reach it. That
statement is left with `NeedsBufferError`, and traced again with a `Buffer` in the list's place (`appending.py`).
"""

from __future__ import annotations

from typing import Any

from stager.capture.plans import Plan
from stager.capture.session import current
from stager.capture.sharing import holds_alone, owns_arrays


class NeedsBufferError(BaseException):
    """A list is appended to, which the owner can put into a buffer. Nothing but the owner catches this."""

    def __init__(self, owner: Owner, items: Any) -> None:
        self.owner = owner
        self.items = items
        super().__init__("internal error in stager: a list needs a buffer")


class Owner:
    """A statement that can put the lists of its variables into buffers."""

    def __init__(self, candidates: dict[int, Any]) -> None:
        self.candidates = candidates
        self.needs: Any = None
        # lists of lists that nobody else holds, by the ids of these
        self.inner = {
            id(part): items
            for items in candidates.values()
            if type(items) is list and holds_alone(items)
            for part in items
            if type(part) is list
        }
        # lists with arrays that others may hold too
        self.shared = {i for i, items in candidates.items() if type(items) is list and not owns_arrays(items)}

    def plan(self, items: Any) -> Plan:
        """What is to be learnt of one of them."""
        if type(items) is dict:
            from stager.capture.tables import TablePlan

            return TablePlan(items)
        return Plan(items, id(items) in self.shared)


BARRIER = Owner({})  # what stands behind it has run in part


def need_buffer(items: Any) -> None:
    """A list is about to be appended to in a region. Raises where a statement around can put it into a buffer."""
    s = current()
    if s is None:
        return
    for owner in reversed(s.owners):
        if owner is BARRIER:
            return
        found = items if id(items) in owner.candidates else owner.inner.get(id(items))
        if found is not None:
            owner.needs = found
            raise NeedsBufferError(owner, found)
