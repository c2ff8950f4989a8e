"""Comprehensions and generator expressions: loops that append each element to a list of their own.

    [element for target in iterable if test]    ->    @.listed(iterable, element, test)
    (element for target in iterable if test)    ->    @.generated(iterable, element, test)
    [element for a in one for b in another]     ->    @.listed(one, generated, None, True)

with `element` and `test` as functions of one item, `generated` one that gives what `another` gives. A list is staged
as a `for` statement that appends is (`growing.py`), and runs in Python where that runs in Python. A generator
expression is lazy as ever, item by item; what would read all of it at once (`sum`, `max`, `list`, `np.stack`, …) asks
for the list instead.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Any

from stager.capture import generators, operators
from stager.capture.buffers import Buffer
from stager.capture.consumers import Consumer
from stager.capture.iterables import ENDLESS, Indexed, Mapped, Picked, TracedRange, indexed
from stager.capture.plans import session_in_force
from stager.capture.session import _CURRENT, TRACERS, Session
from stager.capture.variables import Variables, mutable_ids
from stager.cells import discard_overlays
from stager.errors import ConcretizationError, ControlFlowError
from stager.numpy.rows import LEAST
from stager.ops.regions import Captures, known_dim
from stager.staged import UserRegion, decline, inside, refuse_change, region_in_force

Function = Callable[[Any], Any]


def listed(iterable: Any, element: Function, test: Function | None = None, nested: bool = False) -> list[Any]:
    """`[element(item) for item in iterable if test(item)]`.

    nested: each element is a generator expression, and the list has what they give.
    """
    s = _CURRENT.get()
    if s is None:
        return list(_plain(iterable, element, test, nested))
    if test is not None and not nested:
        iterable, test = _picked(iterable, test)
    known = _length(iterable, element, test) if nested else None
    out: list[Any] = _append_each(s, [], iterable, element, test, nested, known)
    return out


def comprehension(iterable: Any, element: Function, test: Function | None = None, nested: bool = False) -> list[Any]:
    """`listed` of the user's, which uses up an iterator that it runs over."""
    out = listed(iterable, element, test, nested)
    if hasattr(type(iterable), "use_up"):
        iterable.use_up(False)
    return out


def keyed(iterable: Any, pair: Function, test: Function | None = None, nested: bool = False) -> dict[Any, Any]:
    """`{key: value for item in iterable if test(item)}`, where `pair(item)` gives both."""
    if nested or _CURRENT.get() is None:
        return dict(_plain(iterable, pair, test, nested))

    def with_a_key(item: Any) -> Any:
        key, value = pair(item)
        if type(key) in TRACERS and region_in_force() is not None and known_dim(key.raw()) is None:
            decline("a key of a dict that is no more than traced")
        return key, value

    return dict(listed(iterable, with_a_key, test))


def _plain(iterable: Any, element: Function, test: Function | None, nested: bool) -> Iterator[Any]:
    """What a generator expression gives, as Python runs it."""
    for item in iterable:
        if test is None or test(item):
            if nested:
                yield from element(item)
            else:
                yield element(item)


def _append_each(
    s: Session, out: Any, iterable: Any, element: Function, test: Function | None, nested: bool,
    known: int | None = None,
) -> Any:  # fmt: skip
    """`out` with what a generator expression gives. Only the cell of this function holds it: a staged loop puts
    something else there while it is traced. known: how much it gives.
    """
    from stager.capture import staging

    def body(item: Any) -> None:
        def append() -> None:
            value = element(item)
            if type(out) is list:
                staging.appends(out)
                refuse_change(out, "list.append")
            elif nested and not value.is_even(out):
                _append_each(session_in_force(), out, *value.parts())
                return
            if nested:
                out.extend(value.listed())
            else:
                out.append(value)

        if test is None:
            append()
        else:
            operators.if_(test(item), append, None, ())

    if known is not None:
        s.lengths[id(out)] = known
    try:
        plan = staging.plan_for(s, iterable, body, (), False)
        if plan is not None:
            plan(None)
            return out
        for item in iterable:
            body(item)
        return out
    finally:
        s.lengths.pop(id(out), None)


def _length(iterable: Any, element: Function, test: Function | None) -> int | None:
    """`_counted` of a nesting. What it does besides counting is thrown away, or declines it."""
    variables = Variables(element, test)
    region = UserRegion("counted", Captures())
    before = variables.snapshot()
    variables.mark(region, mutable_ids(before))
    try:
        with inside(region):
            return _counted(iterable, element, test, True)
    except (ControlFlowError, ConcretizationError):
        return None
    finally:
        discard_overlays(region)
        variables.restore(before)


def _counted(iterable: Any, element: Function, test: Function | None, nested: bool) -> int | None:
    """How many elements there are, where that is known without any of them."""
    from stager.capture import staging

    found, n = _indexed(iterable)
    if found is None or type(n) is not int or n > staging.MOST:
        return None
    if test is None and not nested:
        return n
    if type(iterable) is not range and not found.is_plain:
        return None
    count = 0
    for k in range(n):
        item = found.at(k)
        passes = True if test is None else test(item)
        if type(passes) in TRACERS:
            return None
        if passes and nested:
            more = _counted(*element(item).parts())
            if more is None:
                return None
            count += more
        elif passes:
            count += 1
    return count


def _indexed(iterable: Any) -> tuple[Indexed | None, Any]:
    """An iterable by position, and its length."""
    if type(iterable) is range:
        return TracedRange(iterable.start, iterable.stop, iterable.step), len(iterable)
    found = indexed(iterable)
    return found, None if found is None else found.length


def _picked(iterable: Any, test: Function) -> tuple[Any, Function | None]:
    """Only the elements that pass the test, and no test, where it can be answered now for each of them."""
    from stager.capture import staging

    found, n = _indexed(iterable)
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


class Generated:
    """A generator expression. It runs as it is read, unless somebody asks for all of it before.

    nested: each element is a generator expression, and this gives what they give.
    """

    __slots__ = ("_element", "_iterable", "_nested", "_running", "_test")

    def __init__(self, iterable: Any, element: Function, test: Function | None = None, nested: bool = False) -> None:
        self._iterable = iterable
        self._element = element
        self._test = test
        self._nested = nested
        self._running: Iterator[Any] | None = None

    def parts(self) -> tuple[Any, Function, Function | None, bool]:
        return self._iterable, self._element, self._test, self._nested

    def is_even(self, out: Any) -> bool:
        """Whether it gives many, and a known number of them: a list takes them in one piece."""
        if self._test is not None or self._nested or type(out) is Buffer:
            return False
        n = _indexed(self._iterable)[1]
        return type(n) is int and n > LEAST

    def begin(self) -> bool:
        """Whether somebody may run over all that it gives, who does now: it has not begun."""
        if self._running is not None:
            return False
        self._running = iter(())
        return True

    def owned(self) -> list[int]:
        """The id of what it runs over, where nobody else holds that."""
        return [id(self._iterable)] if sys.getrefcount(self._iterable) <= 2 else []

    def give(self, consumer: Consumer) -> Any:
        """Give a consumer each item; the signal of the loop that does."""
        return generators.give(consumer, *self.parts())

    def __iter__(self) -> Iterator[Any]:
        if self._running is None:
            self._running = _plain(self._iterable, self._element, self._test, self._nested)
        return self._running

    def __next__(self) -> Any:
        return next(iter(self))

    def by_position(self) -> Indexed | None:
        """All that it gives, by position, where a loop runs over it; None where it runs as it is read."""
        from stager.capture import staging

        if self._running is not None or self._nested:
            return None
        iterable, test = self._iterable, self._test
        if test is not None:
            iterable, test = _picked(iterable, test)
        found = _indexed(iterable)[0]
        if found is None or test is not None:
            return None
        self._running = iter(())
        of_numbers = found.is_plain or type(iterable) is range
        return Mapped(found, self._element, of_numbers and not staging.touches_traced(self._element))

    def listed(self) -> list[Any]:
        """What it has still to give."""
        if self._running is not None:
            return list(self._running)
        self._running = iter(())
        return listed(self._iterable, self._element, self._test, self._nested)


class Ready(Generated):
    """An iterator over a list that has been made already."""

    __slots__ = ("_items",)

    def __init__(self, items: list[Any]) -> None:
        super().__init__(items, lambda item: item)
        self._items = items

    def listed(self) -> list[Any]:
        if self._running is not None:
            return list(self._running)
        self._running = iter(())
        return self._items


class Passed(Generated):
    """What a function of `itertools` or a builtin gives of a generator of the user's, by running it."""

    __slots__ = ()

    def __init__(self, iterable: Any) -> None:
        super().__init__(iterable, lambda item: item)

    def _run(self) -> Iterator[Any]:
        """The same as Python has it."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        if self._running is None:
            self._running = self._run()
        return self._running

    def by_position(self) -> Indexed | None:
        return None

    def is_even(self, out: Any) -> bool:
        return False

    def listed(self) -> list[Any]:
        return list(self._running) if self._running is not None else listed(self, lambda item: item)


class Numbered(Passed):
    """`enumerate` of a generator of the user's."""

    __slots__ = ("_start",)

    def __init__(self, iterable: Any, start: Any) -> None:
        super().__init__(iterable)
        self._start = start

    def _run(self) -> Iterator[Any]:
        return enumerate(self._iterable, self._start)

    def give(self, consumer: Consumer) -> Any:
        number = self._start

        def turn(item: Any) -> Any:
            nonlocal number
            left = consumer((number, item))
            number = number + 1
            return generators.leave(consumer, left)

        return generators.run_over(self._iterable, turn, consumer, "number")

    def listed(self) -> list[Any]:
        given = list(self._running) if self._running is not None else None
        if given is None:
            self._running = iter(())
            given = [*enumerate(listed(self._iterable, lambda item: item), self._start)]
        return given


class Beside(Passed):
    """`zip` of a generator and of what can be had by position: `before` and `behind` it."""

    __slots__ = ("_before", "_behind")

    def __init__(self, iterable: Any, before: list[Indexed], behind: list[Indexed]) -> None:
        super().__init__(iterable)
        self._before = before
        self._behind = behind

    def _run(self) -> Iterator[Any]:
        return zip(*self._before, self._iterable, *self._behind, strict=False)

    def give(self, consumer: Consumer) -> Any:
        first, last = (min([p.length for p in parts], default=ENDLESS) for parts in (self._before, self._behind))
        if not first:
            return None
        place = 0

        def turn(item: Any) -> Any:
            def taken() -> Any:
                nonlocal place
                others = [[p.at(place) for p in parts] for parts in (self._before, self._behind)]
                left = consumer((*others[0], item, *others[1]))
                place = place + 1
                return generators.leave(consumer, left)

            def ends() -> Any:  # what stands before has nothing more: the generator is not asked again
                return operators.branch(place >= first, generators.leaving, None, (), False, True)

            names = consumer.carried(("place",))
            given = taken if last >= ENDLESS else lambda: operators.branch(
                place < last, taken, generators.leaving, names, True, False
            )  # fmt: skip
            return given() if first >= ENDLESS else operators.then(operators.settled(given()), ends, names)

        bounded = min(first, last) < ENDLESS
        return generators.run_over(self._iterable, turn, consumer, "place", leaves=bounded)


class Cut(Passed):
    """`itertools.islice` of a generator."""

    __slots__ = ("_places",)

    def __init__(self, iterable: Any, places: range) -> None:
        super().__init__(iterable)
        self._places = places

    def _run(self) -> Iterator[Any]:
        return itertools.islice(self._iterable, self._places.start, self._places.stop, self._places.step)

    def give(self, consumer: Consumer) -> Any:
        p, place = self._places, 0
        if p.stop <= 0:
            return None

        def turn(item: Any) -> Any:
            def taken() -> Any:
                return generators.leave(consumer, consumer(item))

            def ends() -> Any:
                nonlocal place
                place = place + 1
                return operators.branch(place >= p.stop, generators.leaving, None, (), False, True)

            names = consumer.carried(("place",))
            signal = None
            if p.start or p.step != 1:
                chosen = (place >= p.start) & ((place - p.start) % p.step == 0)
                signal = operators.branch(chosen, taken, None, names, True, True)
            else:
                signal = taken()
            return operators.then(operators.settled(signal), ends, names)

        return generators.run_over(self._iterable, turn, consumer, "place", leaves=True)


def generated(iterable: Any, element: Function, test: Function | None = None, nested: bool = False) -> Any:
    """`(element(item) for item in iterable if test(item))`."""
    made = Generated(iterable, element, test, nested)
    return made if _CURRENT.get() is not None else iter(made)


def all_of(x: Any) -> Any:
    """`collected`, for who takes all that there is and keeps nothing else: what a generator of the user gives, too."""
    s = _CURRENT.get()
    return listed(x, lambda item: item) if s is not None and generators.is_fresh(x, s) else collected(x)


def collected(x: Any) -> Any:
    """A generator expression, or what a dict holds, as the list of it; anything else as it is."""
    return x.listed() if isinstance(x, Generated) else list(x) if type(x) in _VIEWS else x


_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))


# -- folds ------------------------------------------------------------------------------------------------------------


def folded(iterable: Any, step: Callable[[Any, Any], Any], value: Any) -> Any:
    """`functools.reduce(step, iterable, value)`."""

    def body(item: Any) -> None:
        nonlocal value
        value = step(value, item)

    operators.for_(iterable, body, ("value",), None, False)
    return value


def accumulated(iterable: Any, step: Callable[[Any, Any], Any], value: Any) -> list[Any]:
    """`list(itertools.accumulate(iterable, step, initial=value))`."""
    from stager.capture import staging

    out: Any = [value]

    def body(item: Any) -> None:
        nonlocal value
        value = step(value, item)
        if type(out) is list:
            staging.appends(out)
            refuse_change(out, "list.append")
        out.append(value)

    operators.for_(iterable, body, ("value",), None, False)
    return out  # type: ignore[no-any-return]
