"""Structures: what is a container, that flattening and building are inverse, prefixes, error texts."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from stager.runtime import structure
from stager.runtime.structure import (
    LEAF,
    Structure,
    broadcast_prefix,
    flatten,
    map_leaves,
    rebuild_one,
    register_container,
    unflatten,
)


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass(frozen=True)
class Layer:
    w: Any
    b: Any = dataclasses.field(default=0)
    size: Any = dataclasses.field(default=None, init=False)


class Box:
    def __init__(self, content: list[Any], label: Any) -> None:
        self.content, self.label = content, label

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and (self.content, self.label) == (other.content, other.label)

    def __hash__(self) -> int:
        return hash(self.label)


@pytest.fixture(autouse=True)
def boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "_REGISTERED", {})
    register_container(Box, lambda b: (b.content, b.label), lambda label, content: Box(list(content), label))


def trees(leaves: Any) -> Any:
    keys = some.one_of(some.text(max_size=2), some.integers(-1, 3), some.booleans(), some.none())

    def containers(inner: Any) -> Any:
        few = some.lists(inner, max_size=3)
        return some.one_of(
            few,
            few.map(tuple),
            some.dictionaries(keys, inner, max_size=3),
            some.dictionaries(keys, inner, max_size=3).map(collections.OrderedDict),
            some.builds(Point, inner, inner),
            some.builds(Layer, inner, inner),
            some.builds(Box, few, some.text(max_size=2)),
        )

    return some.recursive(some.one_of(leaves, some.none()), containers, max_leaves=12)


@given(trees(some.integers()))
def test_flatten_and_unflatten_are_inverse(tree: Any) -> None:
    leaves, s = flatten(tree)
    assert s.leaves == len(leaves)
    again = unflatten(s, leaves)
    assert again == tree
    assert repr(again) == repr(tree) or "Box" in repr(tree)
    assert flatten(again)[1] == s
    assert hash(flatten(again)[1]) == hash(s)
    assert flatten(map_leaves(lambda x: -x, tree))[0] == [-x for x in leaves]


@given(trees(some.integers()), trees(some.integers()))
def test_equal_structures_take_each_others_leaves(a: Any, b: Any) -> None:
    (la, sa), (lb, sb) = flatten(a), flatten(b)
    if sa == sb:
        assert unflatten(sa, lb) == b
        assert unflatten(sb, la) == a
    else:
        assert repr(a) != repr(b)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (1, "*"), (None, "None"), ((1,), "(*,)"), ((1, [2, 3]), "(*, [*, *])"), ((), "()"), ({}, "{}"),
        ({"w": 1, "b": (2, None)}, "{'w': *, 'b': (*, None)}"), (Point(1, [2]), "Point(x=*, y=[*])"),
        (Layer(1, 2), "Layer(w=*, b=*, size=None)"), (Box([1, 2], "l"), "Box<l>(*, *)"),
        (np.zeros(3), "*"), ("text", "*"), ({1, 2}, "*"), (collections.defaultdict(int, a=1), "*"),
        (type("T", (tuple,), {})((1, 2)), "*"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)  # fmt: skip
def test_structures_print(tree: Any, text: str) -> None:
    assert repr(flatten(tree)[1]) == text


def test_what_tells_structures_apart() -> None:
    def of(tree: Any) -> Structure:
        return flatten(tree)[1]

    assert of((1, 2)) != of([1, 2])
    assert of({"a": 1, "b": 2}) != of({"b": 1, "a": 2})  # code that walks over a dict sees its order
    assert of({1: 0}) != of({True: 0})
    assert of({1: 0}) != of({1.0: 0})
    assert of({"a": 1}) != of(collections.OrderedDict(a=1))
    assert of(Point(1, 2)) != of((1, 2))
    assert of(Box([1], "a")) != of(Box([1], "b"))
    assert of(None) != of(1)
    assert of([None]) != of([])
    assert of(3) == LEAF != "leaf"


def test_dataclasses_are_built_without_init() -> None:
    layer = Layer(1, 2)
    object.__setattr__(layer, "size", 5)
    leaves, s = flatten(layer)
    assert leaves == [1, 2, 5]
    assert unflatten(s, [3, 4, 5]).size == 5


def test_one_container_is_rebuilt_around_whole_children() -> None:
    s = flatten({"a": (1, 2), "b": 3})[1]
    assert rebuild_one(s, [1, 2], None) == {"a": [1, 2], "b": None}


def test_registering() -> None:
    for taken in (Box, tuple, list, dict, collections.OrderedDict, type(None)):
        with pytest.raises(ValueError, match="is a container already"):
            register_container(taken, lambda x: ([], None), lambda aux, children: None)
    with pytest.raises(TypeError, match=r"the aux data of a Box must be hashable, not \['list'\]"):
        flatten(Box([1], ["list"]))


def test_wrong_numbers_of_leaves_and_structures() -> None:
    with pytest.raises(ValueError, match=r"2 leaves were expected for \(\*, \*\), 1 came"):
        unflatten(flatten((1, 2))[1], [1])
    with pytest.raises(ValueError, match="structures differ"):
        map_leaves(lambda a, b: a, (1, 2), [1, 2])


def test_prefixes() -> None:
    s = flatten({"a": (1, [2, 3]), "b": Point(4, None)})[1]

    def spread(prefix: Any) -> list[Any]:
        return broadcast_prefix(prefix, s, name="in_dims")

    assert spread(0) == [0] * 4
    assert spread(None) == [None] * 4
    assert spread({"b": 1, "a": 0}) == [0, 0, 0, 1]
    assert spread({"a": (0, None), "b": Point(7, None)}) == [0, None, None, 7]
    assert spread({"a": [0, 2], "b": None}) == [0, 2, 2, None]
    assert broadcast_prefix((1, 2), flatten((1, [2, 3]))[1], name="n", is_leaf=lambda x: x == (1, 2)) == [(1, 2)] * 3
    for wrong in ({"a": 0}, {"a": 0, "c": 1}, (0, 1), {"a": (0,), "b": 1}, {"a": (0, (1, 2, 3)), "b": 1}):
        with pytest.raises(ValueError, match=r"in_dims .* does not fit the structure"):
            spread(wrong)
    with pytest.raises(ValueError, match=r"in_dims has a tuple where the value is a single leaf: \(1, 2\)"):
        spread({"a": ((1, 2), 0), "b": 0})
