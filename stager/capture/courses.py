"""Where a loop goes: the values of its index, and the element at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from stager.array import Array, as_array
from stager.capture.iterables import ENDLESS, Indexed, TracedRange
from stager.errors import ConcretizationError
from stager.ir.dims import dim_max, floordiv


class Course:
    """The values of the loop index, `range(lower, upper, step)`, and the element at each."""

    __slots__ = ("at", "lower", "step", "upper")

    def __init__(self, lower: Any, upper: Any, step: int, at: Callable[[Any], Any]) -> None:
        self.lower = lower
        self.upper = upper
        self.step = step
        self.at = at

    @property
    def is_endless(self) -> bool:
        return type(self.upper) is int and self.upper >= ENDLESS

    @property
    def count(self) -> int | None:
        """The number of iterations where it is known."""
        if self.is_endless:
            return None
        if type(self.lower) is int and type(self.upper) is int:
            return len(range(self.lower, self.upper, self.step))
        return None

    @property
    def turns(self) -> Any:
        """The number of iterations as a dim; None where only the run knows it."""
        if self.is_endless:
            return None
        if self.count is not None:
            return self.count
        ends = [_as_dim(x) for x in (self.lower, self.upper)]
        low, high = ends if self.step > 0 else reversed(ends)
        if low is None or high is None:
            return None
        return dim_max(floordiv(high - low + (abs(self.step) - 1), abs(self.step)), 0)

    def goes_on(self, i: Any) -> Any:
        if self.is_endless:
            return True
        return i < self.upper if self.step > 0 else i > self.upper

    def ran(self) -> Any:
        """Whether it takes a turn, as a traced bool."""
        lower: Any
        upper: Any
        lower, upper = as_array(self.lower), as_array(self.upper)
        return lower < upper if self.step > 0 else lower > upper

    def bounds(self) -> tuple[Any, Any]:
        """The least and the greatest index of an iteration that runs, as dims; None where unknown."""
        ends = [_as_dim(x) for x in (self.lower, self.upper)]
        if self.is_endless:
            return ends[0], None
        if self.step < 0:
            return (None if ends[1] is None else ends[1] + 1), ends[0]
        return ends[0], (None if ends[1] is None else ends[1] - 1)

    def items(self) -> Iterator[Any]:
        """The elements of a course whose count is known."""
        return map(self.at, range(self.lower, self.upper, self.step))

    def turn(self, i: Any) -> Any:
        """The number of the turn with index i."""
        if type(self.lower) is int and self.lower == 0 and self.step == 1:
            return i
        return (i - self.lower) // self.step

    def rest(self) -> Course:
        return Course(self.lower + self.step, self.upper, self.step, self.at)


def _as_dim(x: Any) -> Any:
    if not isinstance(x, Array):
        return x
    from stager.symbols import dim_of

    try:
        return dim_of(x)
    except ConcretizationError:
        return None


def of_range(r: range) -> Course:
    return Course(r.start, r.stop, r.step, lambda i: i)


def of_traced(x: Indexed) -> Course:
    if type(x) is TracedRange:
        return Course(x.start, x.stop, x.step, lambda i: i)
    return Course(0, x.length, 1, x.at)
