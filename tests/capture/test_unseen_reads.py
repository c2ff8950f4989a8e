"""Captured containers and objects that change between calls, however the code reads them: operators, tests, builtins,
indices, special methods. A call after the change gives what Python gives; a call without one does not trace again.
"""

from __future__ import annotations

import datetime
import functools
import operator
import types
from array import array
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import stager as st
from tests.capture.changes import assert_change_is_seen

X = np.array([1.0, -2.0, 3.0, 4.0])
Pair = namedtuple("Pair", "a b")
Make = Callable[[], Any]
Change = Callable[[Any], Any]
Use = Callable[[Any, Any], Any]


def grow(d: list[float]) -> None:
    d.append(3.0)


def first(d: Any) -> None:
    d[0] = 3


def swap(items: list[int]) -> None:
    items[:] = [4, 1]


def added(d: Any, x: Any) -> Any:
    out: list[float] = []
    out += d
    return x + sum(out)


def matched(d: Any, x: Any) -> Any:
    match d:
        case [a, _]:
            return x + a
        case _:
            return x


def zeroed(d: Any, x: Any) -> Any:
    y = x.copy()
    y[d] = 0.0
    return y


def filled(d: Any, x: Any) -> Any:
    y = x.copy()
    y[:] = d
    y += d
    y[1:] *= d[1:]
    return y


def decided(d: Any, x: Any) -> Any:
    if d:
        return x + 1
    return x


def counted(d: Any, x: Any) -> Any:
    for i in range(len(d)):
        x = x + d[i]
    return x


def enumerated(d: Any, x: Any) -> Any:
    for i, v in enumerate(d):
        x = x + v * i + 1
    return x


def drained(d: Any, x: Any) -> Any:
    k = 0
    while k < len(d):
        x = x + d[k]
        k += 1
    return x


LISTS: dict[str, tuple[Make, Change, Use]] = {
    "len": (lambda: [1.0], grow, lambda d, x: x + len(d)),
    "sum": (lambda: [1.0], grow, lambda d, x: x + sum(d)),
    "max": (lambda: [1.0], grow, lambda d, x: x + max(d)),
    "sorted": (lambda: [1.0], grow, lambda d, x: x + sorted(d)[-1]),
    "reversed": (lambda: [1.0], grow, lambda d, x: x + [v for v in reversed(d)][0]),  # noqa: RUF015
    "reduce": (lambda: [1.0], grow, lambda d, x: x + functools.reduce(operator.add, d)),
    "map": (lambda: [1.0], grow, lambda d, x: x + sum(map(lambda v: v * 2, d))),
    "np.array": (lambda: [1.0], grow, lambda d, x: x + np.array(d).sum()),
    "np.sum": (lambda: [1.0], grow, lambda d, x: x + np.sum(d)),
    "test": (list, grow, decided),
    "not": (list, grow, lambda d, x: x if not d else x + 1),
    "and": (list, grow, lambda d, x: x + (1 if d and d[0] > 2 else 5)),
    "bool": (list, grow, lambda d, x: x + bool(d)),
    "+": (lambda: [1.0], grow, lambda d, x: x + sum([*d, 1.0]) + sum(d + [1.0])),  # noqa: RUF005
    "*": (lambda: [1.0], grow, lambda d, x: x + sum(d * 2)),
    "==": (lambda: [1.0], grow, lambda d, x: x + 1 if d == [1.0] else x),
    "!= by an item": (lambda: [1.0], first, lambda d, x: x + 1 if d != [1.0] else x),
    "<": (lambda: [(1, 2)], lambda d: d.__setitem__(0, (0, 0)), lambda d, x: x + 1 if d[0] < (1, 1) else x),
    "chain": (lambda: [1.0], first, lambda d, x: x + 1 if [0.0] < d < [2.0] else x),
    "in": (lambda: [1.0], grow, lambda d, x: x + 1 if 3.0 in d else x),
    "comprehension": (lambda: [1.0], grow, lambda d, x: x + sum([v for v in d])),
    "range": (lambda: [1.0], grow, counted),
    "enumerate": (lambda: [1.0], grow, enumerated),
    "while": (lambda: [1.0], grow, drained),
    "star": (lambda: [1.0], grow, lambda d, x: x + max(*d, 0.0)),
    "f-string": (lambda: [1.0], grow, lambda d, x: x + len(f"{d}")),
    "str": (lambda: [1.0], grow, lambda d, x: x + len(str(d))),
    "join": (lambda: ["a"], lambda d: d.append("b"), lambda d, x: x + len("".join(d))),
    "+=": (lambda: [1.0, 2.0], grow, added),
    "match": (lambda: [1.0, 2.0], grow, matched),
    "arrays": (lambda: [np.ones(4)], lambda d: d.append(X), lambda d, x: x + np.sum(np.stack(d), 0)),
    "arrays in place": (lambda: [np.ones(4)], lambda d: d[0].fill(3.0), lambda d, x: x + np.sum(np.stack(d), 0)),
    "slice": (lambda: [1.0, 2.0], grow, lambda d, x: x + sum(d[1:])),
    "last": (lambda: [1.0, 2.0], grow, lambda d, x: x + d[-1]),
    "index": (lambda: [1.0, 2.0], lambda d: d.insert(0, 5.0), lambda d, x: x + d.index(2.0) + d.count(5.0)),
    "itemgetter": (lambda: [1.0, 2.0], first, lambda d, x: x + operator.itemgetter(0)(d)),
    "x + list": (lambda: [1.0, 2.0, 3.0, 4.0], first, lambda d, x: (x + d) * (d * x) - x @ d),
    "x > list": (lambda: [1.0, 2.0, 3.0, 4.0], first, lambda d, x: np.where(x > d, x, d)),
    "x[list]": (lambda: [1, 2], first, lambda d, x: x[d]),
    "x[list] = 0": (lambda: [1, 2], first, zeroed),
    "x[:] = list": (lambda: [1.0, 2.0, 3.0, 4.0], first, filled),
    "method of an array": (lambda: [1.0, 2.0, 3.0, 4.0], first, lambda d, x: x.dot(d)),
    "shape": (lambda: [2, 2], swap, lambda d, x: x.reshape(d) + np.zeros(d)),
    "axes": (lambda: [0, 1], lambda d: d.reverse(), lambda d, x: x.reshape(2, 2).transpose(d)),
    "in a list made here": (lambda: [1.0, 2.0], first, lambda d, x: x + np.array([d, [1.0, 1.0]]).sum()),
    "in a tuple made here": (lambda: [1.0, 2.0], first, lambda d, x: x + sum((d, [1.0])[0])),
}


def setter(key: Any, value: Any) -> Change:
    return lambda d: operator.setitem(d, key, value)


def attribute_setter(key: str, value: Any) -> Change:
    return lambda d: setattr(d, key, value)


def namespace() -> Any:
    return types.SimpleNamespace(a=1.0)


OTHERS: dict[str, tuple[Make, Change, Use]] = {
    "deque": (lambda: deque([1.0, 2.0]), lambda d: d.append(3.0), lambda d, x: x + len(d) + sum(v for v in d) + d[-1]),
    "deque of arrays": (lambda: deque([np.ones(4)]), lambda d: d[0].fill(3.0), lambda d, x: x + d[0]),
    "counter": (lambda: Counter(a=1), lambda d: d.update("a"), lambda d, x: x + d["a"]),
    "counter, methods": (lambda: Counter(a=1), lambda d: d.update("a"), lambda d, x: x + sum(d.values()) + d.total()),
    "counter, a missing key": (lambda: Counter(a=1), lambda d: d.update("b"), lambda d, x: x + d["b"]),
    "default": (lambda: defaultdict(float, a=1.0), setter("a", 2.0), lambda d, x: x + d["a"] + d.get("a")),
    "ordered": (lambda: OrderedDict(a=1.0), setter("b", 2.0), lambda d, x: x + sum(v for k, v in d.items())),
    "dict, len": (dict, setter("b", 2.0), lambda d, x: x + len(d)),
    "dict, union": (lambda: {"b": 1}, setter("a", 2.0), lambda d, x: x + len(d | {"c": 1})),
    "dict, in": (dict, setter("b", 2.0), lambda d, x: x + 1 if "b" not in d else x),
    "dict, copies": (lambda: {"a": 1.0}, setter("a", 2.0), lambda d, x: x + dict(d)["a"] + {**d}["a"] + dict(**d)["a"]),
    "dict, nested": (lambda: {"a": [[1.0]]}, lambda d: d["a"][0].append(2.0), lambda d, x: x + sum(d["a"][0])),
    "array": (lambda: array("d", [1.0]), lambda d: d.append(2.0), lambda d, x: x + d[0] + len(d)),
    "bytearray": (lambda: bytearray(b"ab"), setter(0, 2), lambda d, x: x + d[0]),
    "set": (lambda: {1.0}, lambda d: d.add(3.0), lambda d, x: x + len(d) + sum(d)),
    "namedtuple": (lambda: [Pair(1.0, 2.0)], setter(0, Pair(3.0, 2.0)), lambda d, x: x + sum(d[0]) + d[0].a),
    "fraction": (lambda: [Fraction(1, 2)], setter(0, Fraction(1, 3)), lambda d, x: x + float(d[0])),
    "decimal": (lambda: [Decimal(1)], setter(0, Decimal(3)), lambda d, x: x + float(d[0] * 2)),
    "timedelta": (
        lambda: [datetime.timedelta(1)],
        setter(0, datetime.timedelta(2)),
        lambda d, x: x + d[0].total_seconds(),
    ),
    "getattr": (namespace, attribute_setter("a", 2.0), lambda d, x: x + getattr(d, "a")),
    "getattr with a default": (namespace, attribute_setter("b", 2.0), lambda d, x: x + getattr(d, "b", 7.0)),
    "hasattr": (namespace, attribute_setter("b", 2.0), lambda d, x: x + 1 if hasattr(d, "b") else x),
    "vars": (namespace, attribute_setter("a", 2.0), lambda d, x: x + vars(d)["a"] + d.__dict__["a"]),
}


class Layer:
    """What its special methods read is captured too."""

    def __init__(self) -> None:
        self.w = np.ones(4)
        self.n = 1
        self.items = [1.0]

    def __getitem__(self, i: Any) -> Any:
        return self.w[i] * self.n

    def __len__(self) -> int:
        return self.n

    def __add__(self, other: Any) -> Any:
        return self.w * self.n + other

    def __matmul__(self, other: Any) -> Any:
        return self.w @ other

    def __rmul__(self, other: Any) -> Any:
        return self.w * other

    def __bool__(self) -> bool:
        return self.n > 1

    def __iter__(self) -> Iterator[Any]:
        return iter([self.w * 1, self.w * self.n])

    def __contains__(self, k: Any) -> bool:
        return k in self.items

    def __eq__(self, other: object) -> bool:
        return self.n == other

    def __lt__(self, other: Any) -> bool:
        return self.n < other

    __hash__ = None  # type: ignore[assignment]

    def __neg__(self) -> Any:
        return -self.w

    def __abs__(self) -> Any:
        return np.abs(self.w)

    def __float__(self) -> float:
        return self.n * 1.5


class Sequence:
    def __init__(self) -> None:
        self.w = np.ones((2, 4))

    def __getitem__(self, i: int) -> Any:
        if i >= 2:
            raise IndexError
        return self.w[i]


def change_layer(m: Layer) -> None:
    m.n = 2
    m.items.append(3.0)
    m.w[:] = 5


OBJECTS: dict[str, tuple[Make, Change, Use]] = {
    name: (Layer, change_layer, use)
    for name, use in {
        "[]": lambda m, x: x + m[0],
        "len": lambda m, x: x + len(m),
        "+": lambda m, x: m + x,
        "@": lambda m, x: x + m @ x,
        "reflected": lambda m, x: 2.0 * m + x,
        "test": lambda m, x: x + 1 if m else x,
        "iteration": lambda m, x: x + sum(v for v in m) + list(m)[1],
        "in": lambda m, x: x + 1 if 3.0 in m else x,
        "==": lambda m, x: x + 1 if m == 2 else x,
        "!=": lambda m, x: x + 1 if m != 2 else x,
        "<": lambda m, x: x + 1 if m < 2 else x,
        "-": lambda m, x: x + (-m),
        "abs": lambda m, x: x + abs(m) + float(m),
    }.items()
} | {"a sequence": (Sequence, lambda m: m.w.fill(2.0), lambda m, x: x + sum(v for v in m))}

TABLE = {f"{kind}: {name}": row for kind, rows in (("list", LISTS), ("other", OTHERS), ("object", OBJECTS))
         for name, row in rows.items()}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_change_is_seen(name: str) -> None:
    make, change, use = TABLE[name]
    d = make()

    def f(x: Any) -> Any:
        return use(d, x)

    assert_change_is_seen(f, lambda: change(d), X)
    np.testing.assert_allclose(st.functionalize(f)(X), f(X), rtol=1e-14)


def test_special_methods_keep_to_pythons_protocol() -> None:
    class Left:
        def __add__(self, other: Any) -> Any:
            return NotImplemented

        def __sub__(self, other: Any) -> Any:
            return ("left", other)

    class Right:
        def __radd__(self, other: Any) -> Any:
            return ("right", type(other).__name__)

        def __rsub__(self, other: Any) -> Any:
            return "never"

    class Derived(Left):
        def __rsub__(self, other: Any) -> Any:
            return "derived first"

    def f(x: Any) -> Any:
        assert Left() + Right() == ("right", "Left")
        assert (Left() - 3) == ("left", 3)
        assert Left() - Derived() == "derived first"
        assert x is not None
        with pytest.raises(TypeError, match="unsupported operand"):
            Left() + 1
        return x * 2

    np.testing.assert_array_equal(st.compile(f)(X), X * 2)
