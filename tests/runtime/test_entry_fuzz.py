"""Random entries against random arguments: the native match agrees with a plain Python model, and nothing crashes."""

from __future__ import annotations

import collections
import sys
from typing import Any

import numpy as np
import pytest

from stager.ir.abi import Abi, InputAbi, SymbolAbi
from stager.ir.dims import Expr, contiguous_strides, evaluate, symbol
from stager.ir.dtypes import dtype_named
from stager.ir.types import Type
from stager.runtime.entries import EntrySpec
from stager.runtime.patterns import (
    Anything,
    Attributes,
    DictOf,
    Equal,
    Fixed,
    Is,
    Leaf,
    ListOf,
    Pattern,
    TupleOf,
    TypeIs,
)
from tests.runtime.native import kernel, make
from tests.runtime.test_entry_match import Layer, Pair, TupleSubclass, misaligned, nothing

Rng = np.random.Generator
DTYPES = ("f64", "f32", "i64", "i32", "u8", "b1")
STATIC: list[Any] = [None, True, 1, 2, 0.5, -0.0, 0.0, "a", "b", b"x", 10**30, int, np.sum]


def pick(rng: Rng, items: Any) -> Any:
    return items[rng.integers(len(items))]


class Model:
    """A random spec, and what a call with it must do."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.inputs: list[InputAbi] = []
        self.kinds: list[str] = []
        self.symbols: list[SymbolAbi] = []
        self.patterns = tuple(self.pattern(2) for _ in range(rng.integers(0, 4)))

    def spec(self) -> EntrySpec:
        abi = Abi("fuzz", tuple(self.inputs), (), symbols=tuple(self.symbols))
        return EntrySpec(abi, kernel(nothing), self.patterns, Fixed("hit"))

    def pattern(self, depth: int) -> Pattern:
        rng = self.rng
        kind = pick(rng, ["array"] * 5 + ["number", "equal", "is", "type", "any"] + ["container"] * 4 * (depth > 0))
        match kind:
            case "array":
                return self.array()
            case "number":
                return self.leaf(*pick(rng, [("float", "f64"), ("int", "i64"), ("bool", "b1"), ("scalar", "f32")]))
            case "equal":
                return Equal(pick(rng, STATIC[:11]))
            case "is":
                return Is(pick(rng, STATIC))
            case "type":
                return TypeIs(pick(rng, [int, str, list, np.ndarray, Pair]))
            case "any":
                return Anything()
        match pick(rng, ["tuple", "list", "dict", "dict", "pair", "layer"]):
            case "tuple":
                return TupleOf(self.patterns_below(depth))
            case "list":
                return ListOf(self.patterns_below(depth))
            case "dict":
                return DictOf(tuple(zip(["a", "b", 3, 2.5], self.patterns_below(depth), strict=False)))
            case "pair":
                return TupleOf((self.pattern(depth - 1), Anything()), Pair)
        return Attributes(Layer, (("w", self.pattern(depth - 1)),))

    def patterns_below(self, depth: int) -> tuple[Pattern, ...]:
        return tuple(self.pattern(depth - 1) for _ in range(self.rng.integers(0, 4)))

    def leaf(self, kind: str, dtype: str) -> Leaf:
        self.inputs.append(InputAbi(Type(dtype_named(dtype), ()), ()))
        self.kinds.append(kind)
        return Leaf(len(self.inputs) - 1, kind)

    def array(self) -> Leaf:
        rng = self.rng
        dtype = dtype_named(pick(rng, DTYPES))
        shape: list[Any] = []
        index = len(self.inputs)
        for axis in range(rng.integers(0, 3)):
            known = [s.name for s in self.symbols]
            choice = rng.integers(4)
            if choice == 0:
                name = f"n{len(self.symbols)}"
                self.symbols.append(SymbolAbi(name, "shape", index, axis))
                shape.append(symbol(name))
            elif choice == 1 and known:
                shape.append(symbol(pick(rng, known)) * int(rng.integers(1, 3)))
            else:
                shape.append(int(rng.integers(0, 4)))
        strides: tuple[Any, ...] = contiguous_strides(tuple(shape), dtype.itemsize)
        if shape and rng.integers(4) == 0:
            strides = (-8, *strides[1:])
        self.inputs.append(InputAbi(Type(dtype, tuple(shape)), strides, written=bool(rng.integers(5) == 0)))
        self.kinds.append("array")
        return Leaf(index)

    # --- what a call must do

    def expected(self, args: tuple[Any, ...]) -> bool:
        found: dict[int, Any] = {}
        if not all(self.fits(p, x, found) for p, x in zip(self.patterns, args, strict=True)):
            return False
        values = {s.name: found[s.input].shape[s.axis] for s in self.symbols}
        arrays = {i: x for i, x in found.items() if self.kinds[i] == "array"}
        if not all(self.laid_out(self.inputs[i], x, values) for i, x in arrays.items()):
            return False
        return not any(
            self.inputs[i].written and i != j and x.size and y.size and np.may_share_memory(x, y)
            for i, x in arrays.items()
            for j, y in arrays.items()
        )

    def laid_out(self, given: InputAbi, x: Any, values: dict[str, int]) -> bool:
        shape = tuple(evaluate(d, values) for d in given.type.shape)
        if x.shape != shape:
            return False
        strides = [evaluate(s, values) for s in given.strides]
        return x.size == 0 or all(a == b or d == 1 for a, b, d in zip(x.strides, strides, shape, strict=True))

    def fits(self, p: Pattern, x: Any, found: dict[int, Any]) -> bool:
        def all_fit(patterns: Any, values: Any) -> bool:
            if len(patterns) != len(values):
                return False
            return all(self.fits(q, y, found) for q, y in zip(patterns, values, strict=True))

        match p:
            case Leaf(i, kind):
                found[i] = x
                given = self.inputs[i]
                match kind:
                    case "array":
                        return (
                            type(x) is np.ndarray and x.dtype == given.type.dtype.np and x.dtype.isnative
                            and x.ndim == given.type.ndim and x.flags.aligned
                            and (x.flags.writeable or not given.written)
                        )  # fmt: skip
                    case "scalar":
                        return type(x) is given.type.dtype.np.type
                    case "int":
                        return type(x) is int and -(2**63) <= x < 2**63
                return type(x).__name__ == kind
            case Equal(value):
                return type(x) is type(value) and repr(x) == repr(value)
            case Is(value):
                return x is value
            case TypeIs(cls):
                return type(x) is cls
            case TupleOf(items, cls):
                return type(x) is cls and all_fit(items, x)
            case ListOf(items):
                return type(x) is list and all_fit(items, x)
            case DictOf(items):
                if type(x) is not dict or [(type(k), k) for k in x] != [(type(k), k) for k, _ in items]:
                    return False
                return all_fit([q for _, q in items], list(x.values()))
            case Attributes(cls, items):
                return type(x) is cls and all_fit([q for _, q in items], [getattr(x, n) for n, _ in items])
        return True

    # --- arguments

    def good(self, p: Pattern, sizes: dict[str, int]) -> Any:
        """A value that fits, or nearly."""
        rng = self.rng
        match p:
            case Leaf(i, kind):
                given = self.inputs[i]
                match kind:
                    case "float":
                        return float(rng.normal())
                    case "int":
                        return int(pick(rng, [0, -5, 2**63 - 1, 2**63, -(2**63)]))
                    case "bool":
                        return bool(rng.integers(2))
                    case "scalar":
                        return given.type.dtype.np.type(1)
                for s in self.symbols:
                    sizes.setdefault(s.name, int(rng.integers(0, 4)))
                shape = tuple(evaluate(d, sizes) if isinstance(d, Expr) else d for d in given.type.shape)
                x = np.zeros(shape, given.type.dtype.np)
                return x[::-1] if given.strides and given.strides[0] == -8 else x
            case Equal(value) | Is(value):
                return value
            case TypeIs(cls):
                return {int: 4, str: "t", list: [], np.ndarray: np.zeros(2), Pair: Pair(1, 2)}[cls]
            case TupleOf(items, cls):
                values = [self.good(q, sizes) for q in items]
                return cls(*values) if cls is Pair else tuple(values)
            case ListOf(items):
                return [self.good(q, sizes) for q in items]
            case DictOf(items):
                return {k: self.good(q, sizes) for k, q in items}
            case Attributes(_, items):
                return Layer(self.good(items[0][1], sizes), None)
        return None

    def spoiled(self, x: Any) -> Any:
        """Something like x, or something else."""
        rng = self.rng
        if rng.integers(3) == 0:
            return pick(rng, ODD)
        match x:
            case np.ndarray():
                return pick(rng, [lambda: x[..., None], lambda: x.astype(x.dtype.newbyteorder(">")), lambda: x.T,
                                  lambda: x.view(np.ma.MaskedArray), lambda: x.astype(np.float32), lambda: list(x.flat),
                                  lambda: np.asfortranarray(x), lambda: np.repeat(x, 2), lambda: read_only(x),
                                  lambda: x.copy(), lambda: x.astype(object), lambda: x.reshape(-1)[:0]])()  # fmt: skip
            case list() if x:
                return [*x[:-1], self.spoiled(x[-1])]
            case tuple() if x and type(x) is tuple:
                return pick(rng, [lambda: (*x[:-1], self.spoiled(x[-1])), lambda: TupleSubclass(x), lambda: list(x)])()
            case dict() if x:
                key = pick(rng, list(x))
                return pick(rng, [lambda: {**x, key: self.spoiled(x[key])}, lambda: dict(reversed(x.items())),
                                  lambda: collections.OrderedDict(x), lambda: {**x, "more": 1}])()  # fmt: skip
        return pick(rng, ODD)


def read_only(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


SHARED = np.zeros((3, 3))
ODD: list[Any] = [
    None, 1, -1, 2**80, 1.5, float("nan"), "a", "ab", b"x", True, (), [], {}, set(), object(), int, len, np.float64(1),
    np.float32(1), np.int64(3), np.True_, np.array(1.0), np.zeros(0), np.zeros((2, 3)), np.zeros((3, 2)).T, SHARED,
    SHARED[1:], misaligned(), np.zeros(3, ">f8"), np.broadcast_to(1.0, (3, 3)), np.zeros(2, [("a", "f8")]),
    np.array([None]), np.ma.zeros(3), Pair(1, 2), TupleSubclass((1,)), Layer(1, 2), {"a": 1}, {1: SHARED},
    np.zeros((1,) * 60), np.zeros(3, np.complex128), np.zeros(2, "M8[s]"), np.zeros(2, "U3"),
    np.lib.stride_tricks.as_strided(np.zeros(1), (1 << 20, 1 << 20), (0, 0)),
]  # fmt: skip


def function_of(count: int) -> Any:
    names = ", ".join(f"p{i}" for i in range(count))
    namespace: dict[str, Any] = {}
    exec(f"def fuzzed({names}):\n    return 'miss'", namespace)
    return namespace["fuzzed"]


@pytest.mark.parametrize("part", range(6))
def test_the_match_agrees_with_the_model(rng: Rng, part: int) -> None:
    hits = misses = 0
    for _ in range(60):
        model = Model(rng)
        f, slow = make(function_of(len(model.patterns)), model.spec())
        for _ in range(25):
            sizes: dict[str, int] = {}
            args = tuple(model.good(p, sizes) for p in model.patterns)
            if rng.integers(2) and args:
                at = rng.integers(len(args))
                args = (*args[:at], model.spoiled(args[at]), *args[at + 1 :])
            if rng.integers(8) == 0:
                args = tuple(SHARED if type(x) is np.ndarray and x.ndim == 2 else x for x in args)
            expected = "hit" if model.expected(args) else "miss"
            split = int(rng.integers(len(args) + 1))
            kwargs = {f"p{i}": x for i, x in enumerate(args) if i >= split}
            answer = f(*args[:split], **kwargs)
            assert answer == expected, (model.patterns, model.inputs, args)
            hits += answer == "hit"
            misses += answer == "miss"
        slow.last = ()
    assert hits > 200
    assert misses > 200


def test_random_calls_never_crash(rng: Rng) -> None:
    models = [Model(rng) for _ in range(40)]
    two = [m for m in models if len(m.patterns) == 2][:6]
    f, _ = make(function_of(2), *(m.spec() for m in two))
    before = {id(x): sys.getrefcount(x) for x in ODD}
    for _ in range(4000):
        count = int(rng.integers(0, 4))
        args = [pick(rng, ODD) for _ in range(count)]
        kwargs = {pick(rng, ["p0", "p1", "p2", "", "x" * 50]): pick(rng, ODD) for _ in range(rng.integers(0, 3))}
        try:
            answer = f(*args, **kwargs)
        except TypeError as error:
            assert "fuzzed()" in str(error)  # noqa: PT017
        else:
            assert answer in ("hit", "miss")
    args, kwargs = [], {}
    f(None, None)
    immortal = (type(None), bool, int, str, bytes, tuple, type)
    grown = [x for x in ODD if sys.getrefcount(x) > before[id(x)] + 3 and not isinstance(x, immortal)]
    assert grown == []
