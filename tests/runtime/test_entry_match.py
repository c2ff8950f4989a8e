"""What the native entry takes and what it hands to the slow path: one test per kind of argument, guard and layout."""

from __future__ import annotations

import collections
import dataclasses
import sys
import types
from typing import Any, NamedTuple

import numpy as np
import pytest
from llvmlite import ir

from stager.codegen.declarations import F64, I64
from stager.codegen.structured import Code
from stager.ir.abi import Abi, InputAbi, SymbolAbi
from stager.ir.dims import dim_max, floordiv, mod, symbol
from stager.ir.types import parse_type
from stager.runtime.entries import DimGuard, EntrySpec
from stager.runtime.function import add_entry, mismatches
from stager.runtime.patterns import (
    AllOf,
    Anything,
    Attribute,
    Attributes,
    Cell,
    Check,
    Constant,
    DictOf,
    Equal,
    Fixed,
    Global,
    Is,
    Item,
    Leaf,
    Length,
    ListOf,
    MakeTuple,
    Opened,
    Output,
    Parameter,
    Passed,
    Pattern,
    TupleOf,
    TypeIs,
)
from tests.runtime.native import add_one_spec, buffer, dense, fresh, kernel, make, plus_one
from tests.runtime.native import symbol as symbol_value


def weigh(c: Code, count: int) -> None:
    """out[0] = the sum of in[k][0] * 10**k."""
    total = c.var(F64, 0.0)
    for k in range(count):
        x = c.at(buffer(c, k), F64, 0)
        total.set(c.b.fadd(total.get(), c.b.fmul(x, ir.Constant(F64, 10.0**k))))
    c.put_at(buffer(c, count), F64, 0, total.get())
    c.ret(0)


def weigher(inputs: tuple[InputAbi, ...], **more: Any) -> dict[str, Any]:
    """The fields of a spec whose kernel weighs the first element of each input."""
    abi = Abi("weigh", inputs, (fresh("f64[]"),), symbols=more.pop("symbols", ()))
    return {"abi": abi, "kernel": kernel(weigh, len(inputs)), "result": Output(0), **more}


def nothing(c: Code) -> None:
    c.ret(0)


def matcher(parameters: tuple[Pattern, ...], **more: Any) -> EntrySpec:
    """An entry without inputs that answers "hit"."""
    return EntrySpec(Abi("nothing", (), ()), kernel(nothing), parameters, more.pop("result", Fixed("hit")), **more)


def one(x: Any) -> str:
    return "miss"


def checks(pattern: Pattern) -> Any:
    """A function that says "hit" or "miss"."""
    fn, _ = make(one, matcher((pattern,)))
    return fn


# --- arrays


def test_the_array_that_fits_does_not_miss() -> None:
    f, slow = make(plus_one, add_one_spec())
    for _ in range(3):
        np.testing.assert_array_equal(f(np.arange(8.0)), np.arange(8.0) + 1)
    assert slow.count == 0
    assert mismatches(f) == [""]


class Subclass(np.ndarray[Any, Any]):
    pass


def misaligned() -> Any:
    return np.zeros(8 * 8 + 1, np.uint8)[1:].view(np.float64)


@pytest.mark.parametrize(
    "x",
    [
        np.arange(7.0), np.arange(9.0), np.arange(8), np.arange(8, dtype=np.float32), np.arange(8.0).reshape(2, 4),
        np.arange(16.0)[::2], np.arange(8.0)[::-1], np.arange(8.0).view(Subclass), np.arange(8.0).astype(">f8"),
        misaligned(), np.float64(1), 1.0, 1, None, "x", [1.0] * 8, np.zeros((0,)), np.array(1.0), object(),
        np.array([None] * 8), np.zeros(8, [("a", "f8")]), np.zeros(8, "M8[s]"), np.zeros(8, "m8[s]"),
        np.zeros(8, np.complex128), np.broadcast_to(1.0, (8,)), np.broadcast_to(1.0, (1 << 30, 1 << 20)),
        np.ma.masked_array(np.arange(8.0), [True] * 8), np.zeros(8, "V8"), np.zeros(8, "S8"), np.zeros(8, np.float16),
    ],
    ids=lambda x: f"{type(x).__name__}-{getattr(x, 'dtype', '')}-{getattr(x, 'shape', '')}",
)  # fmt: skip
def test_other_arguments_go_to_the_slow_path(x: Any) -> None:
    f, slow = make(lambda x: "slow", add_one_spec())
    assert f(x) == "slow"
    assert slow.count == 1
    assert slow.last[0] is f
    assert slow.last[1][0] is x
    assert mismatches(f) == ["argument x is f64[8]"]


def test_read_only_is_fine_unless_written() -> None:
    x = np.arange(8.0)
    x.flags.writeable = False
    f, slow = make(plus_one, add_one_spec())
    f(x)
    assert slow.count == 0
    spec = EntrySpec(Abi("w", (dense("f64[8]", written=True),), ()), kernel(nothing), (Leaf(0),), Fixed("hit"))
    g, slow = make(one, spec)
    assert g(x) == "miss"
    assert g(x.copy()) == "hit"


def test_dtype_is_compared_by_content_where_the_descr_differs() -> None:
    import pickle

    f, slow = make(plus_one, add_one_spec())
    other = np.dtype(np.float64).newbyteorder("<")
    f(np.arange(8.0).astype(other))
    f(np.zeros(8, np.dtype(np.float64, metadata={"unit": "m"})))
    f(pickle.loads(pickle.dumps(np.arange(8.0))))
    assert slow.count == 0
    ints = EntrySpec(Abi("i", (dense("i64[2]"),), ()), kernel(nothing), (Leaf(0),), Fixed("hit"))
    g, _ = make(one, ints)
    assert g(np.zeros(2, np.longlong)) == g(np.zeros(2, np.dtype("l"))) == "hit"
    assert g(np.zeros(2, np.uint64)) == g(np.zeros(2, "m8[s]")) == "miss"


def test_extra_alignment_is_demanded() -> None:
    f, _ = make(
        one, EntrySpec(Abi("a", (dense("f64[2]", align=64),), ()), kernel(nothing), (Leaf(0),), Fixed("hit"))
    )
    raw = np.zeros(64)
    start = -raw.ctypes.data // 8 % 8
    assert f(raw[start : start + 2]) == "hit"
    assert f(raw[start + 1 : start + 3]) == "miss"


def strided(type: str, strides: tuple[Any, ...], symbols: tuple[SymbolAbi, ...] = ()) -> Any:
    abi = Abi("s", (InputAbi(parse_type(type), strides),), (), symbols=symbols)
    fn, _ = make(one, EntrySpec(abi, kernel(nothing), (Leaf(0),), Fixed("hit")))
    return fn


def test_strides_of_long_axes_only() -> None:
    f = strided("f64[3,4]", (8, 24))
    assert f(np.zeros((4, 3)).T) == "hit"
    assert f(np.zeros((3, 4))) == "miss"
    g = strided("f64[1,4]", (999, -8))
    assert g(np.zeros((1, 4))[:, ::-1]) == "hit"
    assert g(np.zeros((1, 4))) == "miss"
    assert strided("f64[0,4]", (999, 999))(np.zeros((0, 4))) == "hit"
    assert strided("f64[3]", (0,))(np.broadcast_to(1.0, 3)) == "hit"


n, m, s = symbol("n"), symbol("m"), symbol("s")
BY_SHAPE = (SymbolAbi("n", "shape", 0, 0), SymbolAbi("m", "shape", 0, 1))


def test_symbolic_strides() -> None:
    f = strided("f64[n,m]", (8, 8 * n), BY_SHAPE)
    assert f(np.zeros((5, 3)).T) == f(np.zeros((7, 9)).T) == "hit"
    assert f(np.zeros((5, 3))) == "miss"
    assert f(np.zeros((1, 3))[:, ::2]) == "miss"
    assert f(np.zeros((0, 3))) == "hit"
    g = strided("f64[n]", (s,), (SymbolAbi("n", "shape", 0, 0), SymbolAbi("s", "stride", 0, 0)))
    assert g(np.zeros(9)[::3]) == g(np.zeros(9)[::-1]) == g(np.broadcast_to(1.0, 4)) == "hit"
    assert strided("f64[n,m]", (8 * m, 8), BY_SHAPE)(np.zeros((4, 5))[:, :3]) == "miss"


def shapes(*types: str, symbols: tuple[SymbolAbi, ...], guards: tuple[DimGuard, ...] = ()) -> Any:
    abi = Abi("d", tuple(dense(t) for t in types), (), symbols=symbols)
    spec = EntrySpec(
        abi, kernel(nothing), (TupleOf(tuple(Leaf(i) for i in range(len(types)))),), Fixed("hit"), dim_guards=guards
    )
    fn, _ = make(one, spec)
    return lambda *sizes: fn(tuple(np.zeros(size) for size in sizes))


def test_dims_that_depend_on_each_other() -> None:
    f = shapes("f64[n,m]", "f64[m,n]", symbols=BY_SHAPE)
    assert f((3, 4), (4, 3)) == "hit"
    assert f((3, 4), (3, 4)) == "miss"
    g = shapes("f64[n,m]", "f64[2*n+m]", symbols=BY_SHAPE)
    assert g((3, 4), 10) == "hit"
    assert g((3, 4), 11) == "miss"


@pytest.mark.parametrize(
    "dim",
    [floordiv(n, 3), mod(n, 4), dim_max(n, 6), n * n + n - 2, floordiv(n * n, m), 3 * n * m - n, mod(-n, 5) + 1],
    ids=str,
)
def test_expressions_of_dims(dim: Any) -> None:
    from stager.ir.dims import evaluate

    f = shapes("f64[n,m]", f"f64[{dim}]", symbols=BY_SHAPE)
    for a, b in ((5, 3), (8, 2), (7, 1)):
        expected = evaluate(dim, {"n": a, "m": b})
        assert f((a, b), expected) == "hit"
        assert f((a, b), expected + 1) == "miss"


def test_an_expression_that_overflows_or_divides_by_zero_is_a_miss() -> None:
    abi = Abi("o", (InputAbi(parse_type("f64[n]"), (0,)), dense(f"f64[{n * n * n * n}]")), (), symbols=BY_SHAPE[:1])
    f, _ = make(one, EntrySpec(abi, kernel(nothing), (TupleOf((Leaf(0), Leaf(1))),), Fixed("hit")))
    assert f((np.broadcast_to(1.0, 2), np.zeros(16))) == "hit"
    assert f((np.broadcast_to(1.0, 1 << 40), np.zeros(16))) == "miss"
    g = shapes("f64[n,m]", f"f64[{floordiv(n, m)}]", symbols=BY_SHAPE)
    assert g((3, 1), 3) == "hit"
    assert g((3, 0), 3) == "miss"


def test_guards_on_dims() -> None:
    f = shapes("f64[n,m]", symbols=BY_SHAPE, guards=(DimGuard(n, 2), DimGuard(n - m, 0, 3)))
    assert f((2, 2)) == f((5, 2)) == "hit"
    assert f((1, 1)) == f((6, 2)) == f((2, 3)) == "miss"


@pytest.mark.parametrize("dtype", ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "b1"])
def test_a_symbol_that_is_the_value_of_an_input(dtype: str) -> None:
    def store(c: Code) -> None:
        c.put_at(buffer(c, 1), I64, 0, symbol_value(c, 0))
        c.ret(0)

    abi = Abi("v", (dense(f"{dtype}[]"),), (fresh("i64[]"),), symbols=(SymbolAbi("k", "value", 0),))
    f, _ = make(one, EntrySpec(abi, kernel(store), (Leaf(0),), Output(0)))
    info = np.iinfo(parse_type(f"{dtype}[]").dtype.np) if dtype != "b1" else None
    for value in (0, 1, *((info.min, info.max) if info else ())):
        assert f(np.array(value, parse_type(f"{dtype}[]").dtype.np)) == value


# --- Python and NumPy scalars


def test_python_numbers() -> None:
    f, slow = make(one, EntrySpec(parameters=(Leaf(0, "float"),), **weigher((dense("f64[]"),))))
    assert f(2.5) == 2.5
    assert f(-0.0) == 0
    assert slow.count == 0
    assert f(2) == f(np.float64(2.5)) == f(True) == "miss"

    def store(c: Code) -> None:
        c.put_at(buffer(c, 1), I64, 0, c.at(buffer(c, 0), I64, 0))
        c.ret(0)

    integer = Abi("i", (dense("i64[]"),), (fresh("i64[]"),))
    g, _ = make(one, EntrySpec(integer, kernel(store), (Leaf(0, "int"),), Output(0)))
    for value in (0, -1, 2**63 - 1, -(2**63), 10**12):
        assert g(value) == value
    assert g(2**63) == g(-(2**63) - 1) == g(10**100) == g(True) == g(1.0) == "miss"

    truth = Abi("b", (dense("b1[]"),), (fresh("b1[]"),))
    h, _ = make(one, EntrySpec(truth, kernel(copy_byte), (Leaf(0, "bool"),), Output(0)))
    assert h(True) is np.True_
    assert h(False) is np.False_
    assert h(1) == h(np.True_) == h(None) == "miss"


def copy_byte(c: Code) -> None:
    c.copy(buffer(c, 1), buffer(c, 0), 1)
    c.ret(0)


@pytest.mark.parametrize("dtype", ["b1", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64"])
def test_numpy_scalars(dtype: str) -> None:
    kind = parse_type(f"{dtype}[]").dtype

    def copy(c: Code) -> None:
        c.copy(buffer(c, 1), buffer(c, 0), kind.itemsize)
        c.ret(0)

    abi = Abi("s", (dense(f"{dtype}[]"),), (fresh(f"{dtype}[]"),))
    f, _ = make(one, EntrySpec(abi, kernel(copy), (Leaf(0, "scalar"),), Output(0)))
    x = kind.np.type(3)
    assert f(x) == x
    assert type(f(x)) is kind.np.type
    assert f(3) == f(np.array(3, kind.np)) == f(np.float16(3)) == "miss"


# --- guards on values


def test_identity_and_equality() -> None:
    marker = object()
    assert checks(Is(marker))(marker) == "hit"
    assert checks(Is(marker))(object()) == "miss"
    assert checks(Is(None))(None) == "hit"
    text = "".join(["a", "b", "c"])
    assert checks(Equal("abc"))(text) == "hit"
    assert checks(Equal("abc"))("abd") == checks(Equal("abc"))(b"abc") == "miss"
    assert checks(Equal(1))(1) == checks(Equal(10**30))(int("1" + "0" * 30)) == "hit"
    assert checks(Equal(1))(True) == checks(Equal(1))(1.0) == checks(Equal(True))(1) == "miss"
    assert checks(Equal(b"ab"))(bytes([97, 98])) == "hit"


def test_floats_are_compared_by_bits() -> None:
    assert checks(Equal(0.5))(float("0.5")) == "hit"
    assert checks(Equal(0.0))(-0.0) == "miss"
    nan = float("nan")
    assert checks(Equal(nan))(float("nan")) == "hit"
    assert checks(Equal((0.0, 1)))((-0.0, 1)) == "miss"
    assert checks(Equal((nan, "x")))((float("nan"), "x")) == "hit"


@pytest.mark.parametrize("value", [(1, "a"), np.dtype(np.int32), slice(1, 2), 1 + 2j, np.float32(2), frozenset({1})])
def test_other_values_are_compared_in_python(value: Any) -> None:
    import copy

    f = checks(Equal(value))
    assert f(value) == f(copy.deepcopy(value)) == "hit"
    assert f(None) == f((1, "b")) == "miss"


class Explodes:
    def __eq__(self, other: object) -> bool:
        raise ValueError("no comparison")

    def __hash__(self) -> int:
        return 1


def test_a_guard_that_raises_is_a_miss() -> None:
    assert checks(Equal(Explodes()))(Explodes()) == "miss"
    assert checks(Check(lambda x: 1 / 0))(1) == "miss"
    assert checks(Check(lambda x: x > 2))(3) == "hit"
    assert checks(Check(lambda x: x > 2))(1) == "miss"
    assert checks(Check(lambda x: np.zeros(2)))(1) == "miss"  # its truth raises
    assert checks(Length(2))(5) == "miss"


def test_keyboard_interrupt_in_a_guard_is_raised() -> None:
    def stop(x: Any) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checks(Check(stop))(1)


def test_type_length_and_all() -> None:
    assert checks(TypeIs(int))(1) == "hit"
    assert checks(TypeIs(int))(True) == "miss"
    assert checks(Length(2))([1, 2]) == checks(Length(2))("ab") == "hit"
    assert checks(Length(2))([1]) == "miss"
    both = checks(AllOf((TypeIs(list), Length(1))))
    assert both([1]) == "hit"
    assert both((1,)) == both([]) == "miss"
    assert checks(Anything())(object()) == "hit"


# --- containers


class Pair(NamedTuple):
    a: Any
    b: Any


class TupleSubclass(tuple[Any, ...]):
    pass


@dataclasses.dataclass
class Layer:
    w: Any
    b: Any


ARRAYS = tuple(np.array(float(k + 1)) for k in range(4))
WEIGHED = tuple(dense("f64[]") for _ in range(2))


def weighs(pattern: Pattern) -> Any:
    fn, _ = make(one, EntrySpec(parameters=(pattern,), **weigher(WEIGHED)))
    return fn


def test_tuples_lists_and_namedtuples() -> None:
    a, b, *_ = ARRAYS
    f = weighs(TupleOf((Leaf(0), Leaf(1))))
    assert f((a, b)) == 21
    assert f((b, a)) == 12
    assert f([a, b]) == f((a,)) == f((a, b, a)) == f(Pair(a, b)) == f(TupleSubclass((a, b))) == f(None) == "miss"
    g = weighs(ListOf((Leaf(1), Leaf(0))))
    assert g([a, b]) == 12
    assert g((a, b)) == g([]) == g([a, b, b]) == "miss"
    h = weighs(TupleOf((Leaf(0), Leaf(1)), Pair))
    assert h(Pair(a, b)) == 21
    assert h((a, b)) == "miss"


def test_dicts_by_keys_in_order() -> None:
    a, b, *_ = ARRAYS
    f = weighs(DictOf((("x", Leaf(0)), ("y", Leaf(1)))))
    assert f({"x": a, "y": b}) == 21
    assert f({"".join(["x"]): a, str(b"y", "ascii"): b}) == 21
    for other in ({"x": a}, {"x": a, "z": b}, {"x": a, "y": b, "z": b}, {}, {"y": b, "x": a}, [("x", a)]):
        assert f(other) == "miss"
    assert f(collections.OrderedDict(x=a, y=b)) == "miss"
    assert f(collections.defaultdict(None, x=a, y=b)) == "miss"


def test_dict_keys_of_other_types() -> None:
    a, b, *_ = ARRAYS
    f = weighs(DictOf(((10**20, Leaf(0)), ("y", Leaf(1)))))
    assert f({int("1" + "0" * 20): a, "y": b}) == 21
    assert f({1e20: a, "y": b}) == "miss"
    key = (1, 2)
    g = weighs(DictOf(((key, Leaf(0)), (None, Leaf(1)))))
    assert g({key: a, None: b}) == 21
    h = weighs(DictOf(((Explodes(), Leaf(0)), ("y", Leaf(1)))))
    assert h({Explodes(): a, "y": b}) == "miss"


def test_a_dict_whose_order_of_slots_changed_by_deletion() -> None:
    a, b, *_ = ARRAYS
    f = weighs(DictOf((("x", Leaf(0)), ("y", Leaf(1)))))
    d = {"gone": a, "x": a, "gone too": b, "y": b}
    del d["gone"], d["gone too"]
    assert f(d) == 21


def test_nesting_and_dataclasses() -> None:
    a, b, *_ = ARRAYS
    inside = Attributes(Layer, (("w", Leaf(0)), ("b", TupleOf((Leaf(1), Is(None))))))
    f = weighs(DictOf((("layers", ListOf((inside,))),)))
    assert f({"layers": [Layer(a, (b, None))]}) == 21
    assert f({"layers": [Layer(a, (b, 0))]}) == "miss"
    layer = Layer(a, (b, None))
    del layer.b
    assert f({"layers": [layer]}) == "miss"


def test_registered_containers_are_opened_by_python() -> None:
    a, b, *_ = ARRAYS
    f = weighs(Opened(collections.OrderedDict, lambda d: tuple(d.values()), TupleOf((Leaf(0), Leaf(1)))))
    assert f(collections.OrderedDict(p=a, q=b)) == 21
    assert f({"p": a, "q": b}) == "miss"


def test_containers_changed_by_python_code_that_the_match_runs() -> None:
    """An attribute that empties the list it stands in: nothing freed is read, nothing out of range is."""
    a, b, *_ = ARRAYS

    class Trap:
        def __init__(self, owner: list[Any]) -> None:
            self.owner = owner

        @property
        def w(self) -> Any:
            self.owner.clear()
            return a.copy()

    f, _ = make(
        one,
        EntrySpec(parameters=(ListOf((Attributes(None, (("w", Leaf(0)),)), ListOf((Leaf(1),)))),), **weigher(WEIGHED)),
    )
    for _ in range(100):
        owner: list[Any] = []
        owner.extend((Trap(owner), [b.copy()]))
        assert f(owner) == 21


# --- signatures


def many(a: Any, /, b: Any, c: Any = ARRAYS[2], *rest: Any, d: Any, e: Any = ARRAYS[3], **more: Any) -> Any:
    return ("miss", a, b, c, rest, d, e, more)


def test_binding_of_every_kind_of_parameter() -> None:
    x = [np.array(float(k)) for k in range(10)]
    inputs = tuple(dense("f64[]") for _ in range(5))
    f, slow = make(many, EntrySpec(parameters=tuple(Leaf(k) for k in range(5)), **weigher(inputs)))

    def value(*args: Any) -> float:
        return float(sum(v * 10**k for k, v in enumerate(args)))

    assert f(x[1], x[2], x[5], d=x[6], e=x[7]) == value(1, 2, 5, 6, 7)
    assert f(x[1], x[2], d=x[6]) == value(1, 2, 3, 6, 4)
    assert f(x[1], b=x[2], d=x[6]) == value(1, 2, 3, 6, 4)
    assert f(x[1], d=x[6], c=x[5], b=x[2]) == value(1, 2, 5, 6, 4)
    assert f(x[1], **{"".join(["b"]): x[2], "".join(["d"]): x[6]}) == value(1, 2, 3, 6, 4)
    assert slow.count == 0
    for args, kwargs in (((x[1], x[2], x[3], x[4]), {"d": x[5]}), ((x[1], x[2]), {"d": x[5], "z": x[6]})):
        assert f(*args, **kwargs) == many(*args, **kwargs)
    assert slow.count == 2
    assert f(x[1], x[2], d=x[3], a=x[4]) == many(x[1], x[2], d=x[3], a=x[4])  # a positional-only name is free


def test_varargs_and_extra_keywords() -> None:
    x = [np.array(float(k)) for k in range(10)]
    inputs = tuple(dense("f64[]") for _ in range(4))

    def f(*rest: Any, **more: Any) -> Any:
        return "miss"

    spec = EntrySpec(
        parameters=(), varargs=(Leaf(0), TupleOf((Leaf(1),))), varkw=(("p", Leaf(2)), ("q", Leaf(3))), **weigher(inputs)
    )
    fn, _ = make(f, spec)
    assert fn(x[1], (x[2],), p=x[3], q=x[4]) == 4321
    assert fn(x[1], (x[2],), **{"".join("p"): x[3], "".join("q"): x[4]}) == 4321
    assert fn(x[1], (x[2],), q=x[4], p=x[3]) == "miss"
    assert fn(x[1], (x[2],), p=x[3]) == fn(x[1], p=x[3], q=x[4]) == fn() == "miss"
    assert fn(x[1], (x[2],), p=x[3], r=x[4]) == "miss"


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}), ((1,), {}), ((1, 2, 3), {}), ((1, 2), {"b": 3}), ((1, 2), {"z": 3}), ((1,), {"a": 1, "b": 1}),
        ((), {"b": 1}), ((1, 2), {"": 3}), ((1,) * 40, {}), ((), {str(k): k for k in range(40)}),
    ],
)  # fmt: skip
def test_wrong_calls_get_pythons_own_error(args: Any, kwargs: Any) -> None:
    def f(a: Any, b: Any) -> Any: ...

    with pytest.raises(TypeError) as expected:
        f(*args, **kwargs)
    fn, _ = make(f, matcher((Anything(), Anything())))
    with pytest.raises(TypeError) as raised:
        fn(*args, **kwargs)
    assert str(raised.value) == str(expected.value)


def test_thousands_of_keywords() -> None:
    def f(**more: Any) -> int:
        return len(more)

    fn, slow = make(f)
    assert fn(**{f"k{i}": i for i in range(5000)}) == 5000
    assert slow.count == 1


def test_keyword_that_is_a_subclass_of_str() -> None:
    class Name(str):
        __slots__ = ()

    fn, _ = make(one, matcher((Anything(),)))
    assert fn(**{Name("x"): 1}) == "hit"


# --- hidden arguments


def hidden(source: Any, pattern: Pattern) -> EntrySpec:
    return matcher((), hidden=((source, pattern),))


def no_arguments() -> str:
    return "miss"


def test_globals_are_read_at_each_call() -> None:
    namespace: dict[str, Any] = {"w": ARRAYS[0], "k": 1}
    spec = EntrySpec(
        parameters=(), hidden=((Global(namespace, "w"), Leaf(0)), (Global(namespace, "k"), Equal(1))),
        **weigher(WEIGHED[:1]),
    )  # fmt: skip
    f, _ = make(no_arguments, spec)
    assert f() == 1
    namespace["w"] = ARRAYS[1]
    assert f() == 2
    ARRAYS[1][()] = 7
    assert f() == 7
    ARRAYS[1][()] = 2
    namespace["k"] = 2
    assert f() == "miss"
    namespace["k"] = 1
    del namespace["w"]
    assert f() == "miss"


def test_absent_names() -> None:
    namespace: dict[str, Any] = {}
    f, _ = make(no_arguments, matcher((), absent=((namespace, "len"),)))
    assert f() == "hit"
    namespace["len"] = 1
    assert f() == "miss"


def test_cells_attributes_items_and_constants() -> None:
    cell = types.CellType(ARRAYS[0])
    f, _ = make(no_arguments, EntrySpec(parameters=(), hidden=((Cell(cell), Leaf(0)),), **weigher(WEIGHED[:1])))
    assert f() == 1
    cell.cell_contents = ARRAYS[1]
    assert f() == 2
    del cell.cell_contents
    assert f() == "miss"

    layer = Layer(ARRAYS[0], {"k": [ARRAYS[1]]})
    root = Constant(layer)
    spec = EntrySpec(
        parameters=(),
        hidden=((Attribute(root, "w"), Leaf(0)), (Item(Item(Attribute(root, "b"), "k"), 0), Leaf(1))),
        **weigher(WEIGHED),
    )
    g, _ = make(no_arguments, spec)
    assert g() == 21
    layer.w = ARRAYS[2]
    assert g() == 23
    layer.b["k"].clear()
    assert g() == "miss"
    assert "b['k'][0] exists" in mismatches(g)[0]


def test_sources_that_start_at_an_argument() -> None:
    f, _ = make(one, matcher((Anything(),), hidden=((Attribute(Parameter(0), "real"), Equal(3)),)))
    assert f(3) == "hit"
    assert f(4) == f("x") == "miss"
    passed = MakeTuple((Passed(Parameter(0)), Passed(Attribute(Parameter(0), "w"))))
    g, _ = make(one, matcher((Anything(),), result=passed))
    layer = Layer([1], 2)
    out = g(layer)
    assert out[0] is layer
    assert out[1] is layer.w


# --- overlap of written arguments


def test_written_arguments_that_overlap_another_miss() -> None:
    abi = Abi("w", (dense("f64[4]", written=True), dense("f64[4]")), ())
    f, _ = make(lambda x, y: "miss", EntrySpec(abi, kernel(nothing), (Leaf(0), Leaf(1)), Fixed("hit")))
    base = np.zeros(16)
    assert f(base[:4], base[4:8]) == f(base[4:8], base[:4]) == f(np.zeros(4), np.zeros(4)) == "hit"
    assert f(base[:4], base[3:7]) == f(base[3:7], base[:4]) == f(base[:4], base[:4]) == "miss"
    backwards = InputAbi(parse_type("f64[n]"), (-8,), written=True)
    both = Abi("w", (dense("f64[n]", written=True), backwards), (), symbols=BY_SHAPE[:1])
    g, _ = make(lambda x, y: "miss", EntrySpec(both, kernel(nothing), (Leaf(0), Leaf(1)), Fixed("hit")))
    assert g(base[:4], base[7:3:-1]) == "hit"
    assert g(base[:5], base[8:3:-1]) == "miss"
    assert g(base[:0], base[:0]) == "hit"


# --- several entries


def test_the_entry_that_hit_last_is_tried_first() -> None:
    f, slow = make(plus_one, add_one_spec(8), add_one_spec(4), add_one_spec(2))
    for size in (8, 4, 2, 2, 8, 8, 4):
        np.testing.assert_array_equal(f(np.arange(float(size))), np.arange(float(size)) + 1)
    assert slow.count == 0
    f(np.arange(3.0))
    assert slow.count == 1


def test_specs_that_contradict_themselves_are_refused() -> None:
    f, _ = make(one)
    good = add_one_spec()
    from dataclasses import replace

    for bad in (
        replace(good, parameters=()),
        replace(good, parameters=(Anything(),)),
        replace(good, parameters=(TupleOf((Leaf(0), Leaf(0))),)),
        replace(good, parameters=(Leaf(0, "float"),)),
        replace(good, result=Output(1)),
        replace(good, varargs=(Anything(),)),
        replace(good, abi=replace(good.abi, symbols=(SymbolAbi("n", "shape", 0, 3),))),
        replace(good, abi=replace(good.abi, arena_bytes=symbol("unknown"))),
        replace(good, forms={0: "wrong"}),
        replace(good, kernel=0),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            add_entry(f, bad)
    with pytest.raises(TypeError):
        add_entry(lambda x: x, good)


def test_references_are_balanced_on_hits_and_misses() -> None:
    a, b = np.zeros(()), np.ones(())
    f = weighs(TupleOf((Leaf(0), DictOf((("k", ListOf((Leaf(1),))),)))))
    hit = (a, {"k": [b]})
    miss = (a, {"k": [b.astype(np.float32)]})
    held = [a, b, hit, hit[1], hit[1]["k"], miss, miss[1], miss[1]["k"], miss[1]["k"][0], np.float64, np.dtype("f8")]
    before = [sys.getrefcount(o) for o in held]
    for _ in range(1000):
        f(hit)
        f(miss)
    after = [sys.getrefcount(o) for o in held]
    assert [y - x for x, y in zip(before, after, strict=True) if abs(y - x) > 3] == []

