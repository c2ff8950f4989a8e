"""The decisions of converted code: what an `if`, a loop, `and` or `assert` does once it sees its values.

A concrete value decides as in Python, here; a traced one is handed to `staging.py`, which loads with the first trace.
Closures of one statement share the variables of their function through cells; a *signal* is what a closure returns:
None (fell through), BREAK, CONTINUE, a `Return`, or what `staging` makes of a traced decision.
"""

from __future__ import annotations

import builtins
import copy
import dis
import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from stager.capture import objects, texts, unseen
from stager.capture.session import _CURRENT, TRACERS, holds_tracer
from stager.ir.dims import Expr

Closure = Callable[..., Any]
Names = tuple[str, ...]


class Jump:
    """BREAK or CONTINUE."""

    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word

    def __repr__(self) -> str:
        return self.word


class Return:
    """A `return` that is on its way to its function."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


BREAK = Jump("break")
CONTINUE = Jump("continue")
returned = Return

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_SAME = ("is", "is not")

_ORDERED = ("==", "!=", "<", "<=", ">", ">=")


# -- expressions -----------------------------------------------------------------------------------------------------


def tested(x: Any) -> Any:
    """What decides where x is a test: a size that only the data know decides as a traced number."""
    if type(x) is not Expr:
        if objects.plain(x):
            return x
        count = getattr(type(x), "__stager_tested__", None)  # of a list that a traced loop appends to
        return objects.truth(x) if count is None else tested(count(x))
    from stager.symbols import number

    truth = _compare_sizes("!=", x, 0)
    return number(x) if type(truth) in TRACERS else truth


def and_(value: Any, *others: Closure) -> Any:
    """`value and other() and …`."""
    for i, other in enumerate(others):
        test = tested(value)
        if type(test) in TRACERS:
            from stager.capture import staging

            return staging.and_(test, others[i:], value)
        if not test:
            return value
        value = other()
    return value


def or_(value: Any, *others: Closure) -> Any:
    """`value or other() or …`."""
    for i, other in enumerate(others):
        test = tested(value)
        if type(test) in TRACERS:
            from stager.capture import staging

            return staging.or_(test, others[i:], value)
        if test:
            return value
        value = other()
    return value


def not_(value: Any) -> Any:
    """`not value`."""
    value = tested(value)
    if type(value) in TRACERS:
        from stager.capture import staging

        return staging.not_(value)
    return not value


def ifexp(test: Any, body: Closure, orelse: Closure) -> Any:
    """`body() if test else orelse()`."""
    test = tested(test)
    if type(test) in TRACERS:
        from stager.capture import staging

        return staging.ifexp(test, body, orelse)
    return body() if test else orelse()


def chain(ops: tuple[str, ...], left: Any, right: Any, *others: Closure) -> Any:
    """`left < right < other() < …`: each operand once, and none after the first comparison that fails."""
    value = compare(ops[0], left, right)
    for i, other in enumerate(others):
        if type(value) in TRACERS:
            from stager.capture import staging

            rest = ops[i + 1 :]
            return staging.and_(value, (lambda: chain(rest, right, other(), *others[i + 1 :]),), value)
        if not value:
            return value
        left, right = right, other()
        value = compare(ops[i + 1], left, right)
    return value


def compare(op: str, left: Any, right: Any) -> Any:
    """`left op right`."""
    if right is None and op in ("is", "is not"):
        if not hasattr(type(left), "__stager_optional__"):
            return (left is None) == (op == "is")
        return not_(left.there) if op == "is" else left.there
    if op == "in":
        return contains(left, right)
    if op == "not in":
        return not_(contains(left, right))
    if op in _ORDERED and (_is_size(left) or _is_size(right)):
        return _compare_sizes(op, left, right)
    if op in _SAME:
        return unseen.identical(left, right) is (op == "is")
    s = _CURRENT.get()
    if s is None or op not in _ORDERED or (objects.plain(left) and objects.plain(right)):
        return _COMPARE[op](left, right)
    left, right = objects.mirrored(s, left), objects.mirrored(s, right)
    if op == "!=" and all(objects.special(objects.class_of(x), "__ne__") is None for x in (left, right)):
        return _unequal(s, left, right)
    return objects.operated(s, _COMPARE[op], objects.COMPARISONS[op], left, right)


def _unequal(s: Any, left: Any, right: Any) -> Any:
    """`left != right` where it is `not left == right`: the user's class says what is equal."""
    if all(objects.plain(x) or objects.special(objects.class_of(x), "__eq__") is None for x in (left, right)):
        unseen.watch(s, left, right)
        return left != right
    return not_(objects.operated(s, operator.eq, objects.COMPARISONS["=="], left, right))


def _is_size(x: Any) -> bool:
    """Whether x is a symbolic size, or a tuple or list with one: a shape."""
    return type(x) is Expr or (type(x) in (tuple, list) and any(map(_is_size, x)))


def _compare_sizes(op: str, left: Any, right: Any) -> Any:
    from stager.errors import ConcretizationError
    from stager.symbols import decide, number, settled

    if isinstance(left, Expr | int) and isinstance(right, Expr | int):
        try:
            return decide(op, left, right)
        except ConcretizationError:  # sizes that the data decide
            return _COMPARE[op](number(left), number(right))
    if type(left) is type(right) and type(left) is not Expr and op in ("==", "!="):
        pairs = builtins.zip(left, right, strict=False)
        same = len(left) == len(right) and and_(True, *[lambda a=a, b=b: compare("==", a, b) for a, b in pairs])
        return same if op == "==" else not_(same)
    other = right if type(left) is Expr else left
    if type(other) in TRACERS or isinstance(other, float | np.generic | np.ndarray):
        return _COMPARE[op](*[number(x) if type(x) is Expr else x for x in (left, right)])
    return _COMPARE[op](settled(left), settled(right))


_PLACE_ONLY: Any = (object.__repr__, object.__str__, object.__format__)


def shown(x: Any) -> Any:
    """A value that an f-string formats: sizes with their value."""
    s = _CURRENT.get()
    if s is not None:
        x = objects.mirrored(s, x)
        cls: Any = type(x)
        if not objects.plain(x) and (cls.__repr__, cls.__str__, cls.__format__) != _PLACE_ONLY:
            unseen.watch(s, x)
    if not _is_size(x):
        return texts.plain(x)
    from stager.symbols import settled

    return settled(x)


def contains(item: Any, container: Any) -> Any:
    """`item in container`."""
    s = _CURRENT.get()
    if s is None:
        return item in container
    own = objects.method(s, container, "__contains__")
    if own is not None:
        return tested(own(item))
    container = objects.iterated(s, container)
    if type(container) in TRACERS:
        return (container == item).any()
    if isinstance(container, range) and type(item) in TRACERS:
        low, high = (container[0], container[-1]) if container.step > 0 else (container[-1], container[0])
        if not container:
            return False
        return (item >= low) & (item <= high) & ((item - container.start) % container.step == 0)
    if isinstance(container, list | tuple | set | frozenset) and (
        type(item) in TRACERS or holds_tracer(container, 1) or _is_size(item) or any(map(_is_size, container))
    ):
        found: Any = False
        for element in container:
            equal = item is element or compare("==", item, element)
            if equal is True:
                return True
            found = equal if found is False else found | equal
        return found
    if type(container) is dict and holds_tracer(item, 1):
        from stager.capture.growing import reads

        reads(container)
    if hasattr(type(container), "__stager_contains__"):
        return container.__stager_contains__(item)
    unseen.watch(s, item, container)
    return item in container


# -- checks ----------------------------------------------------------------------------------------------------------


def checked(test: Any, text: Closure | None) -> Any:
    """The test of an `assert`; a traced one becomes a check of the compiled code and passes here."""
    test = tested(test)
    if type(test) in TRACERS:
        from stager.capture import staging

        staging.check(test, AssertionError, "" if text is None else texts.described(text))
        return True
    return test


def raised(error: Any) -> Any:
    """What a `raise` in a branch raises."""
    if _CURRENT.get() is None:
        return error
    from stager.capture import staging

    return staging.raised(error)


# -- if --------------------------------------------------------------------------------------------------------------


def if_(test: Any, then: Closure, orelse: Closure | None, names: Names) -> None:
    """An `if` that control cannot leave sideways."""
    test = tested(test)
    if type(test) in TRACERS:
        from stager.capture import staging

        staging.if_(test, then, orelse, names)
    elif test:
        then()
    elif orelse is not None:
        orelse()


def branch(test: Any, then: Closure, orelse: Closure | None, names: Names, then_falls: bool, orelse_falls: bool) -> Any:
    """An `if` with `return`, `break` or `continue` inside: its signal."""
    test = tested(test)
    if type(test) in TRACERS:
        from stager.capture import staging

        return staging.Pending(test, then, orelse, names, then_falls, orelse_falls)
    if test:
        return then()
    return None if orelse is None else orelse()


def then(signal: Any, rest: Closure, names: Names) -> Any:
    """What follows a statement that gave `signal`."""
    if signal is None:
        return rest()
    if type(signal) is Return or type(signal) is Jump:
        return signal
    from stager.capture import staging

    return staging.then(signal, rest, names)


def settled(signal: Any) -> Any:
    """A signal that has to be decided before what stands around its block ends."""
    if signal is None or type(signal) is Return or type(signal) is Jump:
        return signal
    from stager.capture import staging

    return staging.settle(signal)


def leave(signal: Any) -> Any:
    """A signal on its way out of a `with`, `try` or `match`."""
    if type(signal) is Return or type(signal) is Jump:
        return signal
    from stager.capture import staging

    return staging.leave(signal)


def finish(signal: Any) -> Any:
    """The value that the function returns."""
    if signal is None:
        return None
    if type(signal) is Return:
        return signal.value
    from stager.capture import staging

    return staging.finish(signal)


# -- loops -----------------------------------------------------------------------------------------------------------


def for_(iterable: Any, body: Closure, names: Names, orelse: Closure | None, jumps: bool) -> Any:
    """A `for` statement: its signal (never BREAK or CONTINUE of its own). It uses up an iterator that it runs over."""
    s = _CURRENT.get()
    if s is not None:
        from stager.capture import staging

        iterable = objects.iterated(s, iterable)
        plan = staging.plan_for(s, iterable, body, names, jumps)
        if plan is not None:
            signal = plan(orelse)
            if hasattr(type(iterable), "use_up"):
                iterable.use_up(jumps)
            return signal
    return plain_for(iter(iterable), body, names, orelse)


def plain_for(iterator: Any, body: Closure, names: Names, orelse: Closure | None) -> Any:
    """The loop as Python runs it."""
    for item in iterator:
        signal = _ended(body(item))
        if signal is None:
            continue
        if signal is BREAK:
            return None
        if type(signal) is Return:
            return signal
        from stager.capture import staging

        s = _CURRENT.get()
        if s is not None:
            objects.note_left(s, iterator)
        return staging.after_iteration(signal, _rest(iterator, body, names, orelse), names, (body,))
    return None if orelse is None else orelse()


def _ended(signal: Any) -> Any:
    """The signal of an iteration that Python ran, settled; None where the next one follows."""
    if signal is None or signal is CONTINUE:
        return None
    if signal is BREAK or type(signal) is Return:
        return signal
    from stager.capture import staging

    return staging.ended(signal)


MOST_LEFT = 5  # turns that are traced again: each of them may be, for each of those before it


def _rest(iterator: Any, body: Closure, names: Names, orelse: Closure | None) -> Closure:
    """The remaining turns. They are traced again where they have shown what items or attributes they assign."""
    (left,) = itertools.tee(iterator, 1)
    begun = False

    def run() -> Any:
        nonlocal begun
        if begun and len(list(itertools.islice(copy.copy(left), MOST_LEFT + 1))) > MOST_LEFT:
            from stager.staged import decline

            decline("assigning items or attributes behind a break or continue of a loop that runs in Python,")
        begun = True
        return plain_for(copy.copy(left), body, names, orelse)

    return run


_BINDS = dis.opmap["STORE_DEREF"]
_MAY_CHANGE = frozenset({"call", "method"})  # hooks by which a test may change variables


def while_(test: Closure, body: Closure, names: Names, orelse: Closure | None, jumps: bool) -> Any:
    """A `while` statement: its signal."""
    s: Any = _CURRENT.get()
    began, stuck = s is None, False  # stuck: the test has changed objects, and would do so once more
    code = test.__code__
    effects = not began and (_BINDS in code.co_code[::2] or not _MAY_CHANGE.isdisjoint(code.co_names))
    before: Any = None  # what the test has changed, as it was
    while True:
        if effects:
            from stager.capture.variables import Variables

            variables = Variables(test, body, orelse)
            before, writes = variables.snapshot(), s.writes
        value = tested(test())
        stuck = effects and s.writes != writes
        if before is not None and not stuck and all(variables.get(n) is v for n, v in before.items()):
            before = None
        if type(value) not in TRACERS:
            value = True if value else False  # noqa: SIM210 (holds no list that the body may append to)
        if not began and value is True and before is None:
            from stager.capture import staging

            staged, signal = staging.counted_while(test, body, names, orelse, jumps)
            if staged:
                return signal
        began = True
        if type(value) in TRACERS:
            from stager.capture import staging

            return staging.while_(value, test, body, names, orelse, jumps, before, stuck)
        if not value:
            return None if orelse is None else orelse()
        signal = _ended(body())
        if signal is None:
            continue
        if signal is BREAK:
            return None
        if type(signal) is Return:
            return signal
        from stager.capture import staging

        return staging.rest_of_while(signal, test, body, names, orelse)


# -- subscripts of what is not traced ---------------------------------------------------------------------------------


def subscripted(obj: Any) -> Any:
    """A plain container or ndarray that may be subscripted with a traced index."""
    return _Subscripted(obj)


class _Subscripted:
    __slots__ = ("obj",)

    def __init__(self, obj: Any) -> None:
        self.obj = obj

    def __getitem__(self, key: Any) -> Any:
        obj = self.obj
        if type(key) is slice and type(obj) is list and holds_tracer((key.start, key.stop, key.step), 1):
            from stager.capture.growing import reads

            reads(obj)
        if not holds_tracer(key, 2):
            if _is_size(key) and not isinstance(obj, np.ndarray):
                from stager.symbols import settled

                key = settled(key)
            return obj[key]
        if isinstance(obj, np.ndarray):
            from stager.capture.resolve import lift_array

            return lift_array(obj)[key]
        if isinstance(obj, list | tuple) and type(key) in TRACERS:
            from stager.capture import picked

            return picked.select_item(obj, key)
        if type(obj) is dict:
            from stager.capture import picked

            return picked.select_value(obj, key)
        return obj[key]


class ForeignArray(_Subscripted):
    """An ndarray that came out of code stager did not see, when its items are written."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        if holds_tracer(value, 2) or holds_tracer(key, 2):
            from stager.errors import MutationError, describe

            raise MutationError(
                describe(
                    "a traced value is written into an ndarray that was made outside the traced code",
                    remedy="make the array in the function with np.zeros or np.array, or pass it as an argument",
                )
            )
        self.obj[key] = value

    def __delitem__(self, key: Any) -> None:
        del self.obj[key]
