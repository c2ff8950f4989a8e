"""What loops inside of a loop were found to carry: where the body around them is traced again, they begin with that.

Types of carries only widen (int -> float), from one trace of a body to the next. So what an inner loop carried in one
trace it carries in the next, or something wider, and a nest is traced a number of times that grows with its depth, not
with two to the power of it. Loops are known again by their order in the body and by their code. Not here: what types
widen to (`carries.py`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from stager.capture.carries import Spec
from stager.capture.carry import Carry
from stager.staged import MismatchError, join


class Settled:
    """Of one loop: what it carried when it was traced last, and the loops inside of it."""

    def __init__(self) -> None:
        self.inner: list[tuple[Any, Settled]] = []
        self.met = 0  # how many of them the trace at hand has met
        self.lost = False  # a loop inside could not be staged: their order is not known
        self.carried: dict[str, tuple[Any, list[Any], list[Any]]] = {}  # structure, leaves before and after settling

    def begin(self, spec: Spec) -> None:
        """Let carries begin with the types that they had in the end."""
        before = {c.name: _types(c) for c in spec.carries}
        for c in spec.carries:
            if c.name in self.carried:
                _begin(c, *self.carried[c.name])
        self.before = before

    def end(self, spec: Spec) -> None:
        """The types are settled."""
        self.carried = {
            c.name: (c.structure, self.before[c.name], _types(c)) for c in spec.carries if c.name in self.before
        }


def _types(c: Carry) -> list[Any]:
    """The leaves that are traced. Others are values, which nothing may hold besides the variables."""
    return [leaf if type(leaf) is tuple else None for leaf in c.leaves]


def _begin(c: Carry, structure: Any, before: list[Any], after: list[Any]) -> None:
    if structure != c.structure or len(before) != len(c.leaves):
        return
    try:
        for k, (leaf, first, last) in enumerate(zip(list(c.leaves), before, after, strict=True)):
            plain = all(type(x) is tuple and len(x) == 2 for x in (leaf, first, last))
            if plain and join(c.text, [first, leaf]) == leaf and leaf[0].shape == last[0].shape:
                c.leaves[k] = join(c.text, [leaf, last])
    except MismatchError:
        return


_KNOWN: WeakKeyDictionary[Callable[..., Any], Settled] = WeakKeyDictionary()  # by the closure that one trace makes
_AROUND: ContextVar[Settled | None] = ContextVar("around", default=None)


def settled_of(body: Callable[..., Any]) -> Settled:
    """What is known of a loop that begins here, in the trace of the loop around it."""
    body = getattr(body, "body", body)  # of a `while` that is tried, and then a `for`
    found = _KNOWN.get(body)
    if found is None:
        found = _KNOWN[body] = _met(body)
    return found


def _met(body: Callable[..., Any]) -> Settled:
    around = _AROUND.get()
    if around is None or around.lost:
        return Settled()
    code, k = getattr(body, "__code__", None), around.met
    around.met += 1
    if k < len(around.inner) and around.inner[k][0] is code:
        return around.inner[k][1]
    del around.inner[k:]
    found = Settled()
    around.inner.append((code, found))
    return found


@contextlib.contextmanager
def tracing(loop: Settled) -> Iterator[None]:
    """Context: the body of a loop is traced, once more perhaps."""
    loop.met = 0
    around = _AROUND.get()
    token = _AROUND.set(loop)
    try:
        yield
    except BaseException:
        if around is not None:
            around.lost = True
        raise
    finally:
        _AROUND.reset(token)
