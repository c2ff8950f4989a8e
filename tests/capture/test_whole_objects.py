"""Captured objects read as wholes, by code that no hook stands in: generated methods, the standard library, `match`.

A call after a change gives what Python gives; a call without one does not trace again.
"""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import functools
import operator
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.compiler import compiler_of
from stager.errors import UnsupportedError
from tests.capture.changes import assert_change_is_seen

X = np.array([1.0, -2.0, 3.0, 4.0])
Row = tuple[Callable[[], Any], Callable[[Any], Any], Callable[[Any, Any], Any]]


@dataclasses.dataclass(order=True, unsafe_hash=True)
class Point:
    a: float = 1.0
    b: int = 2


@dataclasses.dataclass(slots=True)
class Slotted:
    a: float = 1.0


@dataclasses.dataclass
class Nested:
    point: Point = dataclasses.field(default_factory=Point)
    items: list[float] = dataclasses.field(default_factory=lambda: [1.0])


@dataclasses.dataclass
class Layer:
    w: Any = dataclasses.field(default_factory=lambda: np.ones(4))
    n: float = 1


@dataclasses.dataclass
class Checked:
    x: Any
    scale: dataclasses.InitVar[float] = 1.0
    y: Any = dataclasses.field(init=False, default=None)

    def __post_init__(self, scale: float) -> None:
        self.y = self.x * AROUND.k * scale


@functools.total_ordering
class Ordered:
    def __init__(self, a: int) -> None:
        self.a = a

    def __eq__(self, other: Any) -> bool:
        return bool(self.a == other.a)

    def __lt__(self, other: Any) -> bool:
        return bool(self.a < other.a)

    __hash__ = None  # type: ignore[assignment]


class Thing:
    K = 1.0

    def __init__(self) -> None:
        self.a = 1.0

    def __hash__(self) -> int:
        return int(self.a)

    def __eq__(self, other: Any) -> bool:
        return bool(self.a == other.a)

    def __format__(self, spec: str) -> str:
        return "x" * int(self.a)

    def __index__(self) -> int:
        return int(self.a)

    def __enter__(self) -> float:
        return self.a

    def __exit__(self, *error: object) -> None:
        return None

    @classmethod
    def of_class(cls) -> float:
        return cls.K


AROUND = types.SimpleNamespace(k=1.0)
W = np.ones(4)


def weighted(v: Any) -> Any:
    return v * W


@contextlib.contextmanager
def manager() -> Iterator[float]:
    yield AROUND.k


@functools.singledispatch
def dispatched(x: Any) -> Any:
    return x * AROUND.k


@dispatched.register
def _(x: float) -> Any:
    return x - AROUND.k


def managed(d: Any, x: Any) -> Any:
    with manager() as k:
        return x * k


def entered(d: Any, x: Any) -> Any:
    with d as a:
        return x + a


def matched(d: Any, x: Any) -> Any:
    match d:
        case Point(a=1.0, b=b):
            return x + b
        case _:
            return x


def loss(p: Any, x: Any) -> Any:
    return (p.w * x * p.n).sum()


def with_default() -> Any:
    def f(x: Any, k: float = 1.0) -> Any:
        return x * k

    return f


def with_keyword() -> Any:
    def f(x: Any, *, k: float = 1.0) -> Any:
        return x * k

    return f


def setting(name: str, value: Any) -> Callable[[Any], None]:
    return lambda d: setattr(d, name, value)


def around(d: Any) -> None:
    AROUND.k += 1.0
    W[:] += 1.0


def filled(d: Any) -> None:
    d.w.fill(3.0)


SAME = types.SimpleNamespace
A3 = setting("a", 3.0)
TABLE: dict[str, Row] = {
    "==": (Point, A3, lambda d, x: x + 1 if d == Point() else x),
    "!=": (Point, A3, lambda d, x: x + 1 if d != Point() else x),
    "<": (Point, A3, lambda d, x: x + 1 if d < Point(2.0) else x),
    "reflected": (Point, A3, lambda d, x: x + 1 if Point() == d else x),
    "slots": (Slotted, A3, lambda d, x: x + 1 if d == Slotted() else x),
    "nested": (Nested, lambda d: setattr(d.point, "a", 3.0), lambda d, x: x + 1 if d == Nested() else x),
    "nested list": (Nested, lambda d: d.items.append(2.0), lambda d, x: x + 1 if d == Nested() else x),
    "total_ordering": (lambda: Ordered(1), setting("a", 5), lambda d, x: x + 1 if d >= Ordered(3) else x),
    "namespace": (lambda: SAME(a=1.0), A3, lambda d, x: x + 1 if d == SAME(a=1.0) else x),
    "in": (Point, A3, lambda d, x: x + 1 if d in [Point()] else x),
    "in, its own ==": (Thing, A3, lambda d, x: x + 1 if d in [Thing()] else x),
    "list ==": (Point, A3, lambda d, x: x + 1 if [d] == [Point()] else x),
    "captured list": (lambda: [Point()], lambda d: setattr(d[0], "a", 3.0), lambda d, x: x + d.count(Point())),
    "max": (lambda: [Point(), Point(2.0)], lambda d: setattr(d[0], "a", 3.0), lambda d, x: x + max(d).a),
    "attrgetter": (Point, A3, lambda d, x: x + operator.attrgetter("a")(d)),
    "repr": (Point, setting("a", 13.0), lambda d, x: x + len(repr(d))),
    "f-string": (Thing, A3, lambda d, x: x + len(f"{d:>2}")),
    "hash": (Thing, A3, lambda d, x: x + hash(d)),
    "key of a dict": (Point, A3, lambda d, x: x + {Point(): 1.0}.get(d, 0.0)),
    "key between brackets": (Point, A3, lambda d, x: x + {Point(): 1.0, Point(3.0): 2.0}[d]),
    "in a set": (Point, A3, lambda d, x: x + 1 if d in {Point()} else x),
    "index": (Thing, setting("a", 2.0), lambda d, x: x + x[d] + sum(range(d)) + operator.index(d)),
    "with": (Thing, A3, entered),
    "classmethod": (Thing, lambda d: setattr(Thing, "K", Thing.K + 1.0), lambda d, x: x + d.of_class()),
    "dir": (lambda: SAME(a=1), setting("b", 1), lambda d, x: x + 1 if "b" in dir(d) else x),
    "long list": (lambda: SAME(a=[1.0] * 100), lambda d: d.a.__setitem__(99, True), lambda d, x: x + len(repr(d))),
    "is": (lambda: SAME(a=Thing(), b=Thing()), lambda d: setattr(d, "b", d.a), lambda d, x: x + (d.a is d.b)),
    "is not": (lambda: SAME(a=Thing(), b=Thing()), lambda d: setattr(d, "b", d.a), lambda d, x: x + (d.a is not d.b)),
    "match": (Point, A3, matched),
    "asdict": (Layer, filled, lambda d, x: x + dataclasses.asdict(d)["w"]),
    "astuple": (Layer, filled, lambda d, x: x + dataclasses.astuple(d)[0]),
    "replace": (Layer, filled, lambda d, x: x + dataclasses.replace(d, n=2).w),
    "copy": (Layer, filled, lambda d, x: x + copy.copy(d).w),
    "deepcopy": (Nested, lambda d: setattr(d.point, "a", 3.0), lambda d, x: x + copy.deepcopy(d).point.a),
    "gradient for it": (lambda: Layer(n=1.0), filled, lambda d, x: st.grad(loss)(d, x).w + st.grad(loss, 1)(d, x)),
    "lanes of it": (Layer, filled, lambda d, x: st.vmap(lambda p, v: p.w[0] * v, in_dims=(None, 0))(d, x)),
    "ChainMap": (lambda: collections.ChainMap({"a": 1.0}), lambda d: d.maps[0].update(a=3.0), lambda d, x: x + d["a"]),
    "UserDict": (lambda: collections.UserDict(a=1.0), lambda d: d.update(a=3.0), lambda d, x: x + d["a"] + len(d)),
    "UserList": (lambda: collections.UserList([1.0]), lambda d: d.append(3.0), lambda d, x: x + sum(d)),
    "memoryview": (lambda: memoryview(bytearray(b"ab")), lambda d: d.__setitem__(0, 7), lambda d, x: x + d[0]),
    "map": (Layer, around, lambda d, x: x + sum(map(weighted, [x, x]))),
    "apply_along_axis": (Layer, around, lambda d, x: np.apply_along_axis(weighted, 0, x)),
    "context manager": (Layer, around, managed),
    "singledispatch": (Layer, around, lambda d, x: dispatched(x) + dispatched(2.0)),
    "post_init": (Layer, around, lambda d, x: Checked(x, 2.0).y),
    "default": (with_default, lambda d: setattr(d, "__defaults__", (3.0,)), lambda d, x: d(x)),
    "keyword default": (with_keyword, lambda d: d.__kwdefaults__.update(k=3.0), lambda d, x: d(x)),
    "code": (with_default, lambda d: setattr(d, "__code__", (lambda x, k=2: x - k).__code__), lambda d, x: d(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_change_is_seen(name: str) -> None:
    make, change, use = TABLE[name]
    d = make()

    def f(x: Any) -> Any:
        return use(d, x)

    assert_change_is_seen(f, lambda: change(d), X)


def test_results_are_the_objects_of_now() -> None:
    layer, table, kept = Layer(), {"a": 1.0, "w": np.ones(2)}, [object()]
    f = st.compile(lambda x: (x, layer, table, kept[0]))
    f(X)
    layer.n, table["a"], kept[0] = 2, 3.0, object()
    table["w"] = np.zeros(3)
    _, got, values, marker = f(X)
    assert got.n == 2
    assert got.w is layer.w
    assert values["w"] is table["w"]
    assert values["a"] == 3.0
    assert marker is kept[0]


def test_code_that_is_not_converted_is_guarded_by_what_it_names() -> None:
    scope: dict[str, Any] = {"K": 2.0, "W": np.ones(4), "n": Point()}
    exec("def h(x): return K * x\ndef f(x): return h(x) * W + n.a", scope)
    turned_off = st.do_not_convert(lambda x: x * scope["K"] + loss(layer, x))
    layer = Layer()
    for f, change in (
        (scope["f"], lambda: scope.update(K=3.0)),
        (scope["f"], lambda: scope["W"].fill(5.0)),
        (scope["f"], lambda: setattr(scope["n"], "a", 7.0)),
        (turned_off, lambda: scope.update(K=4.0)),
        (turned_off, lambda: setattr(layer, "n", 7)),
        (turned_off, lambda: layer.w.fill(7.0)),
    ):
        compiled = st.compile(f)
        compiled(X)
        change()
        for _ in range(2):
            np.testing.assert_allclose(compiled(X), f(X))
        assert len(compiler_of(compiled).history) == 2


def test_the_compiled_function_itself_follows_its_parts() -> None:
    def f(x: Any, k: float = 1.0) -> Any:
        return x * k

    def g(x: Any, a: float, b: float = 2.0) -> Any:
        return x * a + b

    compiled = st.compile(f)
    np.testing.assert_array_equal(compiled(X), X)
    f.__defaults__ = (5.0,)
    np.testing.assert_array_equal(compiled(X), 5 * X)
    f.__code__, f.__defaults__ = g.__code__, g.__defaults__
    np.testing.assert_array_equal(compiled(X, 3.0), 3 * X + 2)
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        compiled(X)


def test_a_traced_value_in_an_object_that_is_read_unseen_is_refused() -> None:
    layer = Layer()

    def f(x: Any) -> Any:
        layer.n = x[0]
        text = repr(layer)
        layer.n = 1
        return x * len(text)

    with pytest.raises(UnsupportedError, match=r"reads layer\.n, which was set to a traced value before"):
        st.compile(f)(X)


KEPT = Point()


def shown(x: Any) -> Any:
    return x + len(repr(KEPT)) + (KEPT == Point())


def test_guards_of_whole_objects_are_pickled() -> None:
    compiled = st.compile(shown)
    compiled(X)
    again = pickle.loads(pickle.dumps(compiled))
    np.testing.assert_array_equal(again(X), shown(X))
    KEPT.a = 13.0
    np.testing.assert_array_equal(again(X), shown(X))
    KEPT.a = 1.0
