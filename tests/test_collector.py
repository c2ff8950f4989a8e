"""The garbage collector rests during compiles and is what it was before afterwards."""

from __future__ import annotations

import gc
import os
import threading

import numpy as np
import pytest

import stager as st
from stager.collector import uncollected


def test_it_rests_while_a_function_is_traced():
    seen = []

    def f(x):
        seen.append(gc.isenabled())
        return x + 1

    np.testing.assert_array_equal(st.compile(f)(np.ones(3)), 2 * np.ones(3))
    assert seen == [False]
    assert gc.isenabled()


def test_it_is_on_again_after_an_error():
    def f(x):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        st.compile(f)(np.ones(3))
    assert gc.isenabled()


def test_one_that_was_off_stays_off():
    gc.disable()
    try:
        with uncollected:
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_last_of_several_threads_turns_it_on():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with uncollected:
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with uncollected:
        thread.start()
        inside.wait()
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_it_on():
    with uncollected:
        child = os.fork()
        if not child:
            os._exit(0 if gc.isenabled() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gc.isenabled()
