"""The pool of large buffers and the arenas: reuse, bounds, alignment, threads, fork."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from stager.codegen.buffers import ARENA_SLOTS, HUGE_BYTES, KEPT_ENTRIES, POOLED_BYTES, capacity_of
from stager.runtime import memory
from stager.runtime.engine import Engine, engine
from tests.runtime.objects import buffers_object

NAMES = (
    "stager_buffer_acquire", "stager_buffer_release", "stager_arena_acquire", "stager_arena_release",
    "stager_buffer_set_limit", "stager_buffer_kept", "stager_buffer_trim",
)  # fmt: skip


class Buffers:
    """The emitted functions, loaded for themselves."""

    def __init__(self) -> None:
        loaded = Engine().load(buffers_object())
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.acquire = loaded.function("stager_buffer_acquire", pointer, number)
        self.release = loaded.function("stager_buffer_release", None, pointer, number)
        self.arena = loaded.function("stager_arena_acquire", pointer, number)
        self.arena_release = loaded.function("stager_arena_release", None, pointer, number)
        self.grow = loaded.function("stager_tape_grow", pointer, pointer, number, number)
        self.free = loaded.function("stager_tape_free", None, pointer)
        self.room = loaded.function("stager_tape_room", number, number)
        self.set_limit = loaded.function("stager_buffer_set_limit", None, number)
        self.kept = loaded.function("stager_buffer_kept", number)
        self.trim = loaded.function("stager_buffer_trim", None)


@pytest.fixture
def buffers() -> Iterator[Buffers]:
    made = Buffers()
    yield made
    made.trim()


def write(address: int, size: int, byte: int) -> None:
    ctypes.memset(address, byte, size)


@pytest.mark.parametrize("size", [0, 1, 63, 1000, POOLED_BYTES - 1, POOLED_BYTES, 300_000, HUGE_BYTES, 5_000_001])
def test_buffers_are_usable_and_aligned(buffers: Buffers, size: int) -> None:
    address = buffers.acquire(size)
    assert address % 64 == 0
    if size >= HUGE_BYTES:
        assert address % HUGE_BYTES == 0
    write(address, size, 0xAB)
    buffers.release(address, size)
    arena = buffers.arena(size)
    assert arena % 64 == 0
    write(arena, size, 0xCD)
    buffers.arena_release(arena, size)


def test_capacities_waste_little() -> None:
    for size in [POOLED_BYTES, POOLED_BYTES + 1, 1 << 20, (1 << 20) + 1, 80_000_000, (1 << 30) - 1]:
        assert size <= capacity_of(size) <= max(size * 1.13, size + 16384)
        assert capacity_of(size) % 4096 == 0
        assert capacity_of(capacity_of(size)) == capacity_of(size)


def test_a_freed_buffer_is_used_again(buffers: Buffers) -> None:
    first = buffers.acquire(1_000_000)
    buffers.release(first, 1_000_000)
    assert buffers.kept() == capacity_of(1_000_000)
    assert buffers.acquire(1_000_000 - 10) == first, "a size of the same capacity"
    assert buffers.kept() == 0
    second = buffers.acquire(1_000_000)
    assert second != first
    buffers.release(second, 1_000_000)
    buffers.release(first, 1_000_000)
    assert buffers.acquire(1_000_000) == first, "the one freed last is the warmest"
    buffers.trim()
    assert buffers.kept() == 0
    buffers.release(first, 1_000_000)


def test_the_limit_holds(buffers: Buffers) -> None:
    buffers.set_limit(3_000_000)
    sizes = [900_000 + 100_000 * i for i in range(8)]
    held = [(buffers.acquire(size), size) for size in sizes]
    for address, size in held:
        write(address, size, 1)
        buffers.release(address, size)
        assert buffers.kept() <= 3_000_000
    assert buffers.kept() >= capacity_of(1_600_000)
    buffers.release(buffers.acquire(10_000_000), 10_000_000)  # more than the limit: straight back to the system
    assert buffers.kept() <= 3_000_000
    buffers.set_limit(0)
    assert buffers.kept() == 0
    buffers.release(buffers.acquire(1_000_000), 1_000_000)
    assert buffers.kept() == 0


def test_the_number_of_entries_holds(buffers: Buffers) -> None:
    held = [buffers.acquire(200_000) for _ in range(KEPT_ENTRIES + 10)]
    for address in held:
        buffers.release(address, 200_000)
    assert buffers.kept() == KEPT_ENTRIES * capacity_of(200_000)


def test_no_memory_is_null(buffers: Buffers) -> None:
    assert buffers.acquire(1 << 60) is None
    assert buffers.acquire((1 << 63) - 1) is None


def test_small_arenas_are_kept(buffers: Buffers) -> None:
    first = buffers.arena(100)
    buffers.arena_release(first, 100)
    assert buffers.arena(POOLED_BYTES) == first, "any small size takes any idle block"
    others = [buffers.arena(10) for _ in range(ARENA_SLOTS + 5)]
    assert len({first, *others}) == ARENA_SLOTS + 6
    for address in others:
        buffers.arena_release(address, 10)
    buffers.arena_release(first, POOLED_BYTES)


def test_many_threads(buffers: Buffers) -> None:
    buffers.set_limit(2_000_000)
    wrong: list[object] = []

    def work(mine: int) -> None:
        rng = np.random.default_rng(mine)
        for _ in range(300):
            size = int(rng.integers(100, 600_000))
            for acquire, release in ((buffers.acquire, buffers.release), (buffers.arena, buffers.arena_release)):
                address = acquire(size)
                memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
                memory[::997] = mine
                if not (memory[::997] == mine).all():
                    wrong.append((mine, size))
                release(address, size)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert buffers.kept() <= 2_000_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forks_while_other_threads_change_the_list(buffers: Buffers) -> None:
    going = True

    def work() -> None:
        while going:
            address = buffers.acquire(200_000)
            buffers.release(address, 200_000)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                address = buffers.acquire(200_000)
                write(address, 200_000, 1)
                buffers.release(address, 200_000)
                os._exit(0)
            deadline = time.monotonic() + 20
            while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(child, 9)
                    os.waitpid(child, 0)
                    pytest.fail("the child hangs")
                time.sleep(0.001)
            assert done[1] == 0
    finally:
        going = False
        for thread in threads:
            thread.join()


def test_arrays_give_their_memory_back() -> None:
    engine().provide(NAMES, buffers_object, memory.start_buffers)
    memory.trim()
    x = memory.empty((1000, 200), np.float64)
    assert x.shape == (1000, 200)
    assert x.dtype == np.float64
    assert x.flags.c_contiguous
    assert x.flags.writeable
    x[:] = 3.0
    part = x[::2].T
    address = x.ctypes.data
    del x
    gc.collect()
    assert memory.kept_bytes() == 0, "a view keeps it"
    assert part.sum() == 3.0 * 100_000
    del part
    gc.collect()
    assert memory.kept_bytes() == capacity_of(1_600_000)
    again = memory.empty((200_000,), np.float64)
    assert again.ctypes.data == address
    assert memory.empty((3,), np.int32).base is None
    assert memory.empty((0, 5), np.int32).shape == (0, 5)
    del again
    memory.trim()
    assert memory.kept_bytes() == 0


def test_the_default_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STAGER_BUFFER_LIMIT", raising=False)
    assert 0 < memory.default_limit() <= 1 << 30
    monkeypatch.setenv("STAGER_BUFFER_LIMIT", "64M")
    assert memory.default_limit() == 64 << 20
    monkeypatch.setenv("STAGER_BUFFER_LIMIT", "0")
    assert memory.default_limit() == 0


def test_tapes_keep_what_they_hold(buffers: Buffers) -> None:
    tape, held = buffers.grow(None, 0, 100), 100
    write(tape, held, 1)
    for byte, size in enumerate((5000, POOLED_BYTES, 3 * POOLED_BYTES, 2 * HUGE_BYTES), 2):
        tape = buffers.grow(tape, held, size)
        assert tape % 64 == 0
        write(tape + held, size - held, byte)
        held = size
    found = ctypes.string_at(tape, held)
    assert [found.count(byte) for byte in range(1, 6)] == [
        100, 4900, POOLED_BYTES - 5000, 2 * POOLED_BYTES, 2 * HUGE_BYTES - 3 * POOLED_BYTES,
    ]  # fmt: skip
    buffers.free(tape)
    buffers.free(None)


def test_tapes_move_into_what_is_kept(buffers: Buffers) -> None:
    assert buffers.room(POOLED_BYTES) == POOLED_BYTES
    tape = buffers.grow(None, 0, 10 * POOLED_BYTES)
    buffers.free(tape)
    kept = buffers.kept()
    assert buffers.room(100) == 100  # no use of the pool
    room = buffers.room(POOLED_BYTES)
    assert room == kept - 64
    assert buffers.grow(None, 0, room) == tape
    assert buffers.kept() == 0
    buffers.free(tape)
    buffers.set_limit(1 << 30)
    huge = buffers.grow(None, 0, 2000 * POOLED_BYTES)
    buffers.free(huge)
    assert buffers.room(POOLED_BYTES) == room  # and not what is far too large
