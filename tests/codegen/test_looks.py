"""When loops look whether to stop."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.ir.abi import CONTEXT_POLL
from stager.pipeline import optimize
from tests.codegen.run import CompiledError, Runner


def test_loops_that_are_entered_often_do_not_ask_each_time() -> None:
    """Asking takes a lock of the interpreter's: forty times what the inner loop takes here."""

    def scan(x: Any, turns: Any) -> Any:
        total = 0
        while turns > 0:
            i = 0
            while x[i] < 3.0:
                i += 1
            total += i
            turns -= 1
        return total

    x = np.arange(8.0)
    graph = optimize(st.make_graph(scan)(x, np.int64(0)))
    run = Runner(compile_graph(graph, Target.host()))
    asked = 0

    @ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
    def poll(_: Any) -> int:
        nonlocal asked
        asked += 1
        return int(asked == 50)

    for turns, stops in ((2_000, False), (10**9, True)):
        call, (total,) = run.prepare(x, np.int64(turns))
        ctypes.c_int64.from_buffer(call.keep[4], CONTEXT_POLL).value = ctypes.cast(poll, ctypes.c_void_p).value
        if stops:
            with pytest.raises(CompiledError):
                call()
            assert asked == 50
        else:
            call()
            assert total == 3 * turns
            assert asked < 20
