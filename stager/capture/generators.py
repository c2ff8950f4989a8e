"""Loops over generators of the user, whose body the generator runs where it would have suspended (`yields.py`).

`pairs(n)` in converted code gives Python's own generator, and the session keeps how it was made. A `for` over one that
has not begun calls the form of the function that takes a consumer instead; so do `sum`, `list` and their kin, which
take all that there is. Generator expressions of several `for`s, or with a test, are run over in the same way.

Invariant: nobody sees that the generator itself did not run. One that has begun, that is sent to or asked for its next
item by hand, or that somebody may run over again behind a `break`, suspends as Python has it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, GeneratorType
from typing import Any, NamedTuple

from stager.capture import operators
from stager.capture.consumers import Consumer
from stager.capture.references import CLOSED
from stager.capture.scopes import CONSUME
from stager.capture.session import Session
from stager.capture.yields import EACH, LEAVES, UNTIL

Plan = Callable[[Any], Any]
NESTED = "__stager_forms__"  # of a generator function that converted code defines


class Begun(NamedTuple):
    """How a generator was made."""

    fn: FunctionType
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def keeping(made: FunctionType, fn: FunctionType, s: Session) -> Callable[..., Any]:
    """A converted generator function, of whose generators the session keeps how they were made."""

    def start(*args: Any, **kwargs: Any) -> Any:
        running = made(*args, **kwargs)
        if type(running) is GeneratorType:
            s.generators[running] = Begun(fn, args, kwargs)
        return running

    return start


def is_fresh(x: Any, s: Session) -> bool:
    """Whether x is a generator of the user's that has not begun, and can be turned inside out."""
    begun = s.generators.get(x) if type(x) is GeneratorType else None
    return begun is not None and _has_not_begun(x) and _form(begun.fn, EACH, s) is not None


def plan_for(s: Session, x: Any, body: Callable[..., Any], names: tuple[str, ...], jumps: Any) -> Plan | None:
    """How to run a loop over a generator; None to run it as Python does."""
    begun = s.generators.get(x)
    if begun is None:
        return None
    dropped = not jumps or sys.getrefcount(x) <= _HELD or (jumps is LEAVES and id(x) in s.owned)
    if not _has_not_begun(x) or not dropped:
        return None
    call = _form(begun.fn, UNTIL if jumps else EACH, s)
    if call is None:
        s.decline(begun.fn.__code__, _reason(begun.fn))
        return None

    def run(orelse: Any) -> Any:
        x.close()
        del s.generators[x]
        consumer = Consumer(body, names, bool(jumps))
        args = begun.args
        with owning(s, [id(args[k]) for k in range(len(args)) if sys.getrefcount(args[k]) <= 2 + CLOSED]):
            call(*begun.args, **begun.kwargs, **{CONSUME: consumer})
        return ended(consumer, orelse, names)

    return run


def plan_for_expression(
    s: Session, x: Any, body: Callable[..., Any], names: tuple[str, ...], jumps: Any
) -> Plan | None:
    """How to run a loop over a generator expression that has not begun; None to run it as Python does."""
    if jumps and sys.getrefcount(x) > _HELD and not (jumps is LEAVES and id(x) in s.owned):
        return None
    if not x.begin():
        return None

    def run(orelse: Any) -> Any:
        consumer = Consumer(body, names, bool(jumps))
        with owning(s, x.owned()):
            x.give(consumer)
        return ended(consumer, orelse, names)

    return run


def give(
    consumer: Consumer, iterable: Any, element: Callable[[Any], Any], test: Callable[[Any], Any] | None, nested: bool
) -> Any:
    """What a generator expression gives, one by one. Functions that stand for blocks have the consumer among theirs."""

    def turn(item: Any) -> Any:
        def chosen() -> Any:
            if nested:
                return element(item).give(consumer)
            return leave(consumer, consumer(element(item)))

        if test is None:
            return chosen()
        return operators.branch(test(item), chosen, None, consumer.carried(()), True, True)

    return run_over(iterable, turn, consumer)


def run_over(iterable: Any, turn: Callable[..., Any], consumer: Consumer, *names: str, leaves: bool = False) -> Any:
    """A `for` whose turns give items to a consumer; its signal. names: of variables that they set, too.

    leaves: they may end the loop where the consumer does not.
    """
    jumps = LEAVES if leaves or consumer.jumps else False
    return operators.for_(iterable, turn, consumer.carried(names), None, jumps)


def leave(consumer: Consumer, left: Any) -> Any:
    """The signal of a turn that has given an item: it returns where the consumer has ended."""
    return operators.branch(left, leaving, None, (), False, True) if consumer.jumps else None


def leaving() -> Any:
    """The signal of a turn that ends the loop over what gives items."""
    return operators.Return(None)


@contextlib.contextmanager
def owning(s: Session, ids: Sequence[int]) -> Iterator[None]:
    """Context: a generator runs that was given these, which nobody else holds: they end with it."""
    before = s.owned
    s.owned = before.union(ids)
    try:
        yield
    finally:
        s.owned = before


def ended(consumer: Consumer, orelse: Any, names: tuple[str, ...]) -> Any:
    """The signal of a loop whose generator has ended, or was left."""
    signal = consumer.signal()
    if signal is None:
        return None if orelse is None else orelse()
    if signal is operators.BREAK:
        return None
    if type(signal) is operators.Return:
        return signal
    from stager.capture.loops import after_loop

    return after_loop(signal, orelse, names)


def _has_not_begun(x: Any) -> bool:
    return x.gi_frame is not None and not x.gi_running and not x.gi_suspended


def _form(fn: FunctionType, form: str, s: Session) -> Any:
    """The form of a generator function, converted; None where it has none."""
    nested = fn.__dict__.get(NESTED)
    if nested is not None:
        return nested[form]
    from stager.capture.resolve import convert_user

    made = convert_user(fn, s, form)
    return None if made is fn else made


def _reason(fn: FunctionType) -> str:
    from stager.capture.convert import why_not

    why = why_not(fn, EACH) or "it is traced as it is"
    return f"the generator {fn.__name__} suspends at each yield: {why}\n  remedy: {_REMEDY}"


_REMEDY = "let yield be a statement of its own, outside of try and with, or append to a list and loop over that"


# Holders of what a loop alone runs over, counted through as many calls as lie between `operators.for_` and `plan_for`:
# how many references each of them adds differs between versions of Python.


def _plan_of(x: Any) -> int:
    return sys.getrefcount(x)


def _plan_in(x: Any) -> int:
    return _plan_of(x)


def _loop_over(x: Any) -> int:
    return _plan_in(x)


_HELD = _loop_over(object())  # references to what only the loop at hand holds, as `plan_for` counts them
