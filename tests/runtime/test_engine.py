"""Loading object code: both linkers, symbols by name, lifetimes, refusals."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
import threading

import pytest

from stager.runtime.engine import Engine, LinkError, Loaded
from tests.runtime.objects import compiled

ELF = sys.platform == "linux"
LINKERS = [
    pytest.param(True, id="elf", marks=pytest.mark.skipif(not ELF, reason="ELF only")),
    pytest.param(False, id="orc"),
]

SOURCE = """
@counter = global i64 40
@table = internal constant [2 x ptr] [ptr @one, ptr @two]
@big = internal global [100000 x i8] zeroinitializer
@far = external global double
declare double @outside(double)
declare i64 @strlen(ptr)
@text = private constant [6 x i8] c"hello\\00"

define internal double @one(double %x) { %y = fadd double %x, 1.25
  ret double %y }
define internal double @two(double %x) { %y = call double @outside(double %x)
  ret double %y }
define double @pick(i64 %i, double %x) {
  %p = getelementptr [2 x ptr], ptr @table, i64 0, i64 %i
  %f = load ptr, ptr %p
  %y = call double %f(double %x)
  ret double %y }
define i64 @count() {
  %v = load i64, ptr @counter
  %w = add i64 %v, 1
  store i64 %w, ptr @counter
  store i8 7, ptr getelementptr (i8, ptr @big, i64 99999)
  ret i64 %w }
define i64 @length() { %n = call i64 @strlen(ptr @text)
  ret i64 %n }
define double @read_far() { %v = load double, ptr @far
  ret double %v }
"""

DOUBLE = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)
triple = DOUBLE(lambda x: 3 * x)
far = ctypes.c_double(6.5)


@pytest.fixture(scope="module")
def code() -> bytes:
    return compiled(SOURCE)


@pytest.fixture(params=LINKERS)
def engine(request: pytest.FixtureRequest) -> Engine:
    return Engine(uses_elf=request.param)


def externals() -> dict[str, int]:
    outside = ctypes.cast(triple, ctypes.c_void_p).value
    assert outside is not None
    return {"outside": outside, "far": ctypes.addressof(far)}


def test_calls_data_tables_and_externals(engine: Engine, code: bytes) -> None:
    loaded = engine.load(code, externals())
    pick = loaded.function("pick", ctypes.c_double, ctypes.c_int64, ctypes.c_double)
    assert pick(0, 2.0) == 3.25
    assert pick(1, 2.0) == 6.0
    count = loaded.function("count", ctypes.c_int64)
    assert [count(), count()] == [41, 42]
    assert ctypes.c_int64.from_address(loaded.address("counter")).value == 42
    assert loaded.function("length", ctypes.c_int64)() == 5
    assert loaded.function("read_far", ctypes.c_double)() == 6.5


def test_two_loads_are_apart(engine: Engine, code: bytes) -> None:
    first, second = engine.load(code, externals()), engine.load(code, externals())
    assert first.address("count") != second.address("count")
    assert first.function("count", ctypes.c_int64)() == 41
    assert second.function("count", ctypes.c_int64)() == 41


def test_unknown_symbols(engine: Engine, code: bytes) -> None:
    with pytest.raises(LinkError, match=r"outside|materialize"):
        engine.load(code, {"far": ctypes.addressof(far)}).address("pick")  # ORC links at the first look-up
    with pytest.raises(LinkError, match="no address is known for stager_no_such_thing"):
        engine.resolve(["strlen", "stager_no_such_thing"])
    loaded = engine.load(code, externals())
    with pytest.raises(LinkError, match="absent"):
        loaded.address("absent")


def test_damaged_objects(engine: Engine, code: bytes) -> None:
    for damaged in (b"", b"\x7fELF", code[:40], code[: len(code) // 2], b"x" * 100):
        with pytest.raises(LinkError):
            engine.load(damaged, externals()).address("pick")


@pytest.mark.skipif(not ELF, reason="reads /proc/self/maps")
def test_dropped_code_is_unmapped(code: bytes) -> None:
    engine = Engine()

    def executable() -> int:
        with open("/proc/self/maps") as maps:
            return sum(" r-xp 00000000 00:00 0 \n" in line for line in maps)

    kept = engine.load(code, externals())
    gc.collect()
    before = executable()
    for _ in range(50):
        engine.load(code, externals())
    assert executable() <= before + 1
    assert kept.function("count", ctypes.c_int64)() == 41


def test_a_function_keeps_its_code(engine: Engine, code: bytes) -> None:
    count = engine.load(code, externals()).function("count", ctypes.c_int64)
    gc.collect()
    assert count() == 41


def test_support_is_loaded_once_when_needed(engine: Engine, code: bytes) -> None:
    built: list[int] = []
    started: list[Loaded] = []

    def build() -> bytes:
        built.append(1)
        return compiled("define double @outside(double %x) { %y = fadd double %x, 100.0\n ret double %y }")

    engine.provide(["outside"], build, started.append)
    engine.define({"far": ctypes.addressof(far)})
    assert not built
    loaded = [engine.load(code, ["outside", "far"]) for _ in range(2)]
    pick = loaded[1].function("pick", ctypes.c_double, ctypes.c_int64, ctypes.c_double)
    assert pick(1, 2.0) == 102.0
    assert (len(built), len(started)) == (1, 1)


def test_symbol_sources(engine: Engine) -> None:
    asked = []

    def source(name: str) -> int | None:
        asked.append(name)
        return 4096 if name == "known" else None

    engine.provide_by(source)
    assert engine.resolve(["known", "known"]) == {"known": 4096}
    assert asked == ["known"]
    assert engine.resolve(["PyErr_CheckSignals"])["PyErr_CheckSignals"]


def test_loading_from_many_threads(engine: Engine, code: bytes) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(10):
                assert engine.load(code, externals()).function("count", ctypes.c_int64)() == 41
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not ELF, reason="ELF only")
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("@x = thread_local global i64 0\ndefine ptr @f() { ret ptr @x }", "thread-local"),
        (
            """@llvm.global_ctors = appending global [1 x {i32,ptr,ptr}] [{i32,ptr,ptr} {i32 1, ptr @f, ptr null}]
            declare void @abort()
            define void @f() { call void @abort() ret void }""",
            "constructors",
        ),
        ("@x = common global i64 0\ndefine ptr @f() { ret ptr @x }", "common"),
    ],
)
def test_what_the_elf_linker_refuses(source: str, reason: str) -> None:
    with pytest.raises(LinkError, match=reason):
        Engine(uses_elf=True).load(compiled(source))


@pytest.mark.skipif(not ELF, reason="ELF only")
def test_loading_needs_no_llvm(code: bytes, tmp_path: object) -> None:
    program = f"""
import ctypes, sys
from stager.runtime.engine import engine
f = ctypes.c_double(1.0)
loaded = engine().load(bytes.fromhex({code.hex()!r}), {{"outside": 4096, "far": ctypes.addressof(f)}})
assert loaded.function("length", ctypes.c_int64)() == 5
assert "llvmlite" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_code_survives_interpreter_exit(code: bytes) -> None:
    """What is torn down last may still call compiled code."""
    program = f"""
import ctypes, os, sys
from stager.runtime.engine import Engine
f = ctypes.c_double(1.0)
class Late:
    def __init__(self, function, owner): self.function = function; self.owner = owner
    def __del__(self, write=os.write): write(1, b"%d" % self.function())
symbols = {{{{"outside": 4096, "far": ctypes.addressof(f)}}}}
loaded = Engine(uses_elf={{uses_elf}}).load(bytes.fromhex({code.hex()!r}), symbols)
length = ctypes.CFUNCTYPE(ctypes.c_int64)(loaded.address("length"))
sys.late = Late(length, loaded)
"""
    for uses_elf in (ELF, False):
        done = subprocess.run(
            [sys.executable, "-c", program.format(uses_elf=uses_elf)], check=True, capture_output=True, text=True
        )
        assert done.stdout == "5"
