"""Comprehensions and generator expressions: loops that append each element to a list of their own.

    [element for target in iterable if test]    ->    @.listed(iterable, element, test)
    (element for target in iterable if test)    ->    @.generated(iterable, element, test)

with `element` and `test` as functions of one item. A list is staged as a `for` statement that appends is
(`growing.py`), and runs in Python where that runs in Python. A generator expression is lazy as ever, item by item;
what would read all of it at once (`sum`, `max`, `list`, `np.stack`, …) asks for the list instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from stager.capture import operators
from stager.capture.iterables import Picked, TracedRange, indexed
from stager.capture.session import _CURRENT, TRACERS
from stager.staged import refuse_change

Function = Callable[[Any], Any]


def listed(iterable: Any, element: Function, test: Function | None = None) -> list[Any]:
    """`[element(item) for item in iterable if test(item)]`."""
    s = _CURRENT.get()
    if s is not None:
        from stager.capture import staging

        out: list[Any] = []
        if test is not None:
            iterable, test = _picked(iterable, test)

        def body(item: Any) -> None:
            def append() -> None:
                value = element(item)
                staging.appends(out)
                refuse_change(out, "list.append")
                out.append(value)

            if test is None:
                append()
            else:
                operators.if_(test(item), append, None, ())

        plan = staging.plan_for(s, iterable, body, (), False)
        if plan is not None:
            plan(None)
            return out
    return [element(item) for item in iterable if test is None or test(item)]


def _picked(iterable: Any, test: Function) -> tuple[Any, Function | None]:
    """Only the elements that pass the test, and no test, where it can be answered now for each of them."""
    from stager.capture import staging

    found = TracedRange(iterable.start, iterable.stop, iterable.step) if type(iterable) is range else indexed(iterable)
    n = len(iterable) if type(iterable) is range else None if found is None else found.length
    if found is None or type(n) is not int or n > staging.MOST:
        return iterable, test
    kept = []
    for k in range(n):
        passes = test(found.at(k))
        if type(passes) in TRACERS:
            return iterable, test
        if passes:
            kept.append(k)
    steps = {b - a for a, b in itertools.pairwise(kept)}
    if type(iterable) is range and len(steps) == 1:
        return iterable[kept[0] : kept[-1] + 1 : steps.pop()], None
    return Picked(found, kept), None


def flat(lists: list[Any]) -> list[Any]:
    """The items of lists one after the other."""
    return [x for items in lists for x in items]


class Generated:
    """A generator expression. It runs as it is read, unless somebody asks for all of it before."""

    __slots__ = ("_element", "_iterable", "_running", "_test")

    def __init__(self, iterable: Any, element: Function, test: Function | None = None) -> None:
        self._iterable = iterable
        self._element = element
        self._test = test
        self._running: Iterator[Any] | None = None

    def _items(self) -> Iterator[Any]:
        element, test = self._element, self._test
        return (element(item) for item in self._iterable if test is None or test(item))

    def __iter__(self) -> Iterator[Any]:
        if self._running is None:
            self._running = self._items()
        return self._running

    def __next__(self) -> Any:
        return next(iter(self))

    def listed(self) -> list[Any]:
        """What it has still to give."""
        if self._running is not None:
            return list(self._running)
        self._running = iter(())
        return listed(self._iterable, self._element, self._test)


def generated(iterable: Any, element: Function, test: Function | None = None) -> Any:
    """`(element(item) for item in iterable if test(item))`."""
    made = Generated(iterable, element, test)
    return made if _CURRENT.get() is not None else iter(made)


def collected(x: Any) -> Any:
    """A generator expression as the list of what it gives; anything else as it is."""
    return x.listed() if type(x) is Generated else x
