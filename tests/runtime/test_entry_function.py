"""Compiled functions as Python objects: attributes, methods, garbage, pickling, weak references, threads that clear."""

from __future__ import annotations

import copy
import ctypes
import functools
import gc
import inspect
import pickle
import subprocess
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest

from stager.runtime import layout
from stager.runtime.function import (
    RETRY,
    add_entry,
    clear_entries,
    compiled_function_type,
    entries,
    external_address,
    is_compiled_function,
    make_function,
    mismatches,
)
from tests.runtime.native import add_one_spec, install, make, plus_one


def method(self: Any, x: Any) -> Any:
    """What a method says."""
    return (self, x)


def test_it_looks_like_the_function_that_it_wraps() -> None:
    f, _ = make(plus_one)
    assert f.__name__ == f.__qualname__ == "plus_one"
    assert f.__module__ == plus_one.__module__
    assert f.__doc__ == "x plus one."
    assert f.__wrapped__ is plus_one
    assert inspect.signature(f) == inspect.signature(plus_one)
    assert callable(f)
    assert repr(f).startswith("<compiled function plus_one at 0x")
    assert inspect.unwrap(f) is plus_one
    assert functools.wraps(f)(lambda x: x).__name__ == "plus_one"
    assert type(f).__name__ == "CompiledFunction"
    assert type(f).__module__ == "stager"
    assert is_compiled_function(f)
    assert not is_compiled_function(plus_one)
    assert dir(f)
    assert hash(f) == hash(f)
    assert f == f
    assert f != make(plus_one)[0]


def test_attributes_can_be_set_and_deleted() -> None:
    f, _ = make(plus_one)
    f.mine = 3
    assert f.__dict__["mine"] == vars(f)["mine"] == 3
    del f.mine
    with pytest.raises(AttributeError):
        _ = f.mine
    f.__name__ = "other"
    assert f.__name__ == "other"
    f.__dict__ = {"__qualname__": "new"}
    assert repr(f).startswith("<compiled function new")
    np.testing.assert_array_equal(f(np.zeros(2)), np.ones(2))


def test_nothing_that_a_user_assigns_changes_how_calls_are_bound() -> None:
    f, slow = make(plus_one, add_one_spec())
    f.__signature__ = inspect.signature(lambda a, b, c: None)
    f.__dict__.clear()
    np.testing.assert_array_equal(f(x=np.zeros(8)), np.ones(8))
    add_entry(f, add_one_spec(3))
    np.testing.assert_array_equal(f(np.zeros(3)), np.ones(3))
    assert slow.count == 0


def test_instances_come_only_from_make_function() -> None:
    install()
    with pytest.raises(TypeError):
        compiled_function_type()()
    with pytest.raises(TypeError):
        object.__new__(compiled_function_type())
    with pytest.raises(TypeError):
        type("Sub", (compiled_function_type(),), {})


def test_python_methods_are_set_on_the_type() -> None:
    f, _ = make(plus_one)
    cls: Any = compiled_function_type()
    cls.shout = lambda self, word: (self, word)
    try:
        assert f.shout("a") == (f, "a")
    finally:
        del cls.shout
    assert not hasattr(f, "shout")


def test_it_binds_as_a_method() -> None:
    made, slow = make(method)

    class Owner:
        call = made
        still = staticmethod(made)
        of_class = classmethod(made)

    owner = Owner()
    assert owner.call(1) == (owner, 1)
    assert owner.call(x=2) == (owner, 2)
    bound = owner.call
    assert bound(3) == (owner, 3)
    assert bound.__self__ is owner
    assert bound.__func__ is made
    assert Owner.call is made
    assert owner.still(1, 2) == (1, 2)
    assert owner.of_class(4) == (Owner, 4)
    assert functools.partial(made, 1)(2) == (1, 2)
    assert slow.count == 6


def test_every_way_of_calling() -> None:
    f, slow = make(plus_one, add_one_spec())
    x = np.zeros(8)
    for y in (f(x), f(*[x]), f(x=x), f.__call__(x), next(map(f, [x])), functools.reduce(lambda a, g: g(a), [f], x)):
        np.testing.assert_array_equal(y, np.ones(8))
    assert slow.count == 0


def test_copies_are_the_function_itself_as_for_functions() -> None:
    f, _ = make(plus_one)
    assert copy.copy(f) is f
    assert copy.deepcopy([f])[0] is f


def rebuild(name: str) -> Any:
    return f"rebuilt {name}"


def test_pickling_goes_through_the_given_function() -> None:
    install()
    f = make_function(
        lambda *a: None, name="f", signature=inspect.signature(plus_one), reduce=lambda fn: (rebuild, (fn.__name__,))
    )
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(f, protocol)) == "rebuilt f"
    g, _ = make(plus_one)
    with pytest.raises(TypeError, match="cannot pickle <compiled function plus_one"):
        pickle.dumps(g)


def test_weak_references() -> None:
    f, _ = make(plus_one)
    gone: list[Any] = []
    ref = weakref.ref(f, gone.append)
    assert ref() is f
    assert weakref.WeakKeyDictionary({f: 1})[f] == 1
    del f, _
    assert ref() is None
    assert gone == [ref]


def test_garbage_cycles_are_collected() -> None:
    f, slow = make(plus_one, add_one_spec())
    f.me = f
    slow.extra = f  # type: ignore[attr-defined]  # a cycle through the slow path
    assert gc.is_tracked(f)
    assert slow in gc.get_referents(f)
    ref = weakref.ref(f)
    del f, slow
    gc.collect()
    assert ref() is None


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="CPython's own limit of nested deallocation needs a full stack")
def test_a_long_chain_of_functions_is_freed_without_recursion() -> None:
    chain, _ = make(plus_one)
    signature = inspect.signature(plus_one)
    for _ in range(5000):
        f = make_function(len, name="f", signature=signature)
        f.next = chain
        chain = f
    del f
    holder = [chain]
    del chain
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=holder.clear)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert holder == []


def test_a_function_called_while_it_is_torn_down() -> None:
    f, _ = make(plus_one, add_one_spec())
    outcomes: list[Any] = []

    class Last:
        def __init__(self, fn: Any) -> None:
            self.fn = fn

        def __del__(self) -> None:
            try:
                outcomes.append(self.fn(np.zeros(8)))
            except Exception as error:
                outcomes.append(error)

    f.last = Last(f)
    del f, _
    gc.collect()
    assert len(outcomes) == 1
    if isinstance(outcomes[0], RuntimeError):
        assert "torn down" in str(outcomes[0])
    else:
        np.testing.assert_array_equal(outcomes[0], np.ones(8))


def test_a_function_dropped_while_it_runs() -> None:
    holder: list[Any] = []

    def drop(fn: Any, args: Any, kwargs: Any) -> Any:
        holder.clear()
        add_entry(fn, add_one_spec())
        return RETRY

    install()
    holder.append(make_function(drop, name="f", signature=inspect.signature(plus_one)))
    np.testing.assert_array_equal(holder[0](np.zeros(8)), np.ones(8))


def test_the_type_lives_as_long_as_its_instances() -> None:
    cls = compiled_function_type()
    before = sys.getrefcount(cls)
    kept = [make(plus_one)[0] for _ in range(50)]
    assert sys.getrefcount(cls) == before + 50
    kept.clear()
    gc.collect()
    assert sys.getrefcount(cls) == before


def test_memory_of_functions_and_entries_is_given_back() -> None:
    f, _ = make(plus_one, add_one_spec(), add_one_spec(4))
    f(np.zeros(8))
    parts = [weakref.ref(part) for entry in entries(f) for part in (entry, entry.memory)]
    assert None not in [ref() for ref in parts]
    clear_entries(f)
    assert [ref() for ref in parts] == [None] * 4
    entry = weakref.ref(add_entry(f, add_one_spec()))
    f(np.zeros(8))
    del f, _
    gc.collect()
    assert entry() is None


def test_clearing_entries() -> None:
    f, slow = make(plus_one, add_one_spec(), add_one_spec(4))
    f(np.zeros(4))
    assert len(entries(f)) == 2
    clear_entries(f)
    assert entries(f) == []
    assert mismatches(f) == []
    f(np.zeros(4))
    assert slow.count == 1
    add_entry(f, add_one_spec(4))
    f(np.zeros(4))
    assert slow.count == 1


def test_clearing_from_within_a_match() -> None:
    """A guard removes all entries while its own is tried."""
    from dataclasses import replace

    from stager.runtime.patterns import AllOf, Check, Leaf

    f, slow = make(plus_one)

    def clear(x: Any) -> bool:
        clear_entries(f)
        gc.collect()
        return True

    good = add_one_spec()
    for answer in (lambda x: clear(x), lambda x: not clear(x)):
        add_entry(f, replace(good, parameters=(AllOf((Check(answer), Leaf(0))),)))
        add_entry(f, good)
        add_entry(f, add_one_spec(4))
        np.testing.assert_array_equal(f(np.zeros(8)), np.ones(8))
        assert entries(f) == []
    assert slow.count <= 2


def test_entries_added_and_cleared_while_others_call() -> None:
    f, _ = make(plus_one)
    stop = threading.Event()
    wrong: list[Any] = []

    def call() -> None:
        while not stop.is_set():
            wrong.extend(size for size in (8, 4) if not np.array_equal(f(np.zeros(size)), np.ones(size)))

    threads = [threading.Thread(target=call) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for t in threads:
            t.start()
        for k in range(300):
            add_entry(f, add_one_spec(8 if k % 2 else 4))
            if k % 5 == 4:
                clear_entries(f)
    finally:
        stop.set()
        for t in threads:
            t.join()
        sys.setswitchinterval(interval)
    assert wrong == []


def test_a_default_is_kept_alive() -> None:
    def scaled(x: Any, y: Any = np.full(8, 5.0)) -> Any:  # noqa: B008
        return "miss"

    from stager.ir.abi import Abi
    from stager.runtime.entries import EntrySpec
    from stager.runtime.patterns import Anything, Leaf, Output
    from tests.runtime.native import add_one, dense, fresh, kernel

    abi = Abi("a", (dense("f64[8]"),), (fresh("f64[8]"),))
    f, _ = make(scaled, EntrySpec(abi, kernel(add_one, 8), (Anything(), Leaf(0)), Output(0)))
    scaled.__defaults__ = None
    del f.__wrapped__, f.__dict__["__signature__"]
    gc.collect()
    np.testing.assert_array_equal(f(1), np.full(8, 6.0))


def test_externals_are_known_by_name() -> None:
    assert external_address("stager_numpy_PyArray_Type") == id(np.ndarray)
    assert external_address("PyFloat_Type") == id(float)
    assert external_address("_Py_NoneStruct") == id(None)
    assert external_address("memcpy") is None


# --- the layout


def test_the_layout_is_what_the_objects_say() -> None:
    at = layout.python_layout()
    x = np.arange(6.0).reshape(2, 3)
    assert layout.word(id(x) + at.array_data) == x.ctypes.data
    assert layout.word(id(x) + at.array_ndim, "i") == 2
    number, pair = 2.5, (1, x)
    assert ctypes.c_double.from_address(id(number) + at.float_value).value == 2.5
    assert layout.word(id(pair) + at.tuple_items + 8) == id(x)
    assert at.version == sys.version_info[:2]
    assert at.split_refcount == (sys.version_info >= (3, 12))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("sysconfig.get_config_var = lambda name: 1 if name == 'Py_GIL_DISABLED' else None", "free-threaded"),
        ("struct.calcsize = lambda code: 4", "64-bit"),
        ("sys.implementation.name = 'pypy'", "pypy"),
    ],
)
def test_builds_that_are_laid_out_otherwise_are_refused(change: str, text: str) -> None:
    code = f"""
import struct, sys, sysconfig, numpy
from stager.runtime import layout
{change}
try:
    layout.python_layout()
except layout.UnsupportedPythonError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert text in done.stdout


def test_the_interpreter_exits_cleanly_with_functions_alive() -> None:
    code = """
import gc, numpy as np
from tests.runtime.native import make, plus_one, add_one_spec
f, _ = make(plus_one, add_one_spec())
f.me = f
class Last:
    def __del__(self, f=f, x=np.zeros(8)):
        f(x)
last = Last()
kept = [f(np.zeros(8)) for _ in range(10)]
big, _ = make(plus_one, add_one_spec(1 << 16))
large = big(np.zeros(1 << 16))
import builtins
builtins.kept, builtins.large, builtins.f = kept, large, f
print("end")
"""
    command = [sys.executable, "-X", "faulthandler", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "end"), done.stderr
