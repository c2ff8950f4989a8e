"""Converted code on plain values is plain Python: same results, same exceptions, same order of effects."""

from __future__ import annotations

import itertools
import linecache
import traceback
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stager.capture import Session, convert, use, why_not
from tests.capture import corpus


class NoArrays(Session):
    def captured_array(self, path, array):
        raise AssertionError(path)


def outcome(f, *args):
    corpus.counter = 0
    try:
        return f(*args)
    except Exception as e:
        return type(e), e.args, type(e.__cause__)


def converted(f, s):
    made = convert(f, s)
    assert why_not(f) is None, why_not(f)
    assert made is not f
    return made


@pytest.mark.parametrize("f", corpus.FUNCTIONS, ids=lambda f: f.__name__)
def test_corpus(f: types.FunctionType) -> None:
    for a, b in itertools.product(range(-1, 8), repeat=2):
        if f is corpus.recursion and a > 5:
            continue
        want = outcome(f, a, b)
        with use(NoArrays()) as s:
            g = converted(f, s)
            assert outcome(g, a, b) == want, (a, b)
        assert outcome(g, a, b) == want, (a, b)


# -- random programs --------------------------------------------------------------------------------------------------

VARS = ["a", "b", "c", "d"]
atoms = st.sampled_from([*VARS, "1", "2", "i0", "i1"])
expressions = st.recursive(
    atoms,
    lambda e: st.one_of(
        st.builds("({} {} {})".format, e, st.sampled_from(["+", "-", "*", "<", "==", ">"]), e),
        st.builds("({} {} {})".format, e, st.sampled_from(["and", "or"]), e),
        st.builds("({} if {} else {})".format, e, e, e),
        st.builds("({} < {} <= {})".format, e, e, e),
        st.builds("(not {})".format, e),
        st.builds("note({})".format, e),
        st.builds("sum([{} for i1 in (1, 2) if {}])".format, e, e),
    ),
    max_leaves=5,
)


def indent(lines):
    return ["    " + line for line in lines]


@st.composite
def blocks(draw, depth, in_loop):
    kinds = ["assign", "aug", "note", "def", "del"]
    if depth:
        kinds += ["if", "if", "if", "for", "for", "while", "try", "with"]
    out = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(kinds))
        e, v = draw(expressions), draw(st.sampled_from(VARS))
        if kind == "assign":
            out.append(f"{v} = {e}")
        elif kind == "aug":
            out.append(f"{v} += {e}")
        elif kind == "note":
            out.append(f"note({e})")
        elif kind == "del":
            out.append(f"del {v}")
        elif kind == "def":
            out += ["def g():", f"    nonlocal {v}", f"    {v} = {e}", f"    return {v}", "note(g())"]
        elif kind == "if":
            out += [f"if {e}:", *indent(draw(blocks(depth - 1, in_loop)))]
            if draw(st.booleans()):
                out += ["else:", *indent(draw(blocks(depth - 1, in_loop)))]
        elif kind == "for":
            n = draw(st.integers(0, 3))
            out += [f"for i{depth % 2} in range({n}):", *indent(draw(blocks(depth - 1, True)))]
            if draw(st.booleans()):
                out += ["else:", *indent(draw(blocks(depth - 1, in_loop)))]
        elif kind == "while":
            out += [f"while tick() and {e}:", *indent(draw(blocks(depth - 1, True)))]
        elif kind == "try":
            out += ["try:", *indent(draw(blocks(depth - 1, in_loop)))]
            out += ["except (NameError, TypeError):", *indent(draw(blocks(depth - 1, in_loop)))]
            if draw(st.booleans()):
                out += ["finally:", *indent(draw(blocks(depth - 1, False)))]
        else:
            out += ["with quiet:", *indent(draw(blocks(depth - 1, in_loop)))]
    last = draw(st.sampled_from(["", "", "return", "break", "continue", "raise"]))
    if last == "return":
        out.append(f"return ({draw(expressions)}, 'r')")
    elif last == "raise":
        out.append("raise NameError('user')")
    elif last and in_loop:
        out.append(last)
    return out


class Recorder:
    """The effects of one run, in order; loops end after some ticks."""

    def __init__(self):
        self.log, self.ticks = [], 0

    def note(self, x):
        self.log.append(x)
        return x

    def tick(self):
        self.ticks += 1
        return self.ticks < 12

    def __enter__(self):
        self.log.append("enter")

    def __exit__(self, *exc):
        kind = NameError if exc[0] is UnboundLocalError else exc[0]
        self.log.append(str(kind))
        return kind is NameError


_serial = itertools.count()


def compile_text(text: str, name: str = "f", **namespace):
    filename = f"/user/program{next(_serial)}.py"
    linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
    namespace["__name__"] = "program"
    exec(compile(text, filename, "exec"), namespace)
    return namespace[name]


@given(blocks(3, False))
def test_random_programs(lines: list[str]) -> None:
    text = "\n".join(
        [
            "def f(a, b, note, tick, quiet):",
            "    c = 3",
            "    if False:",
            "        d = 0",
            *indent(lines),
            "    return a, b, c, d",
        ]
    )
    f = compile_text(text)

    def run(g, a, b):
        r = Recorder()
        try:
            value = g(a, b, r.note, r.tick, r)
        except Exception as e:
            # in a closure of ours an unbound local is a free variable: NameError, of which UnboundLocalError is a kind
            value = NameError if type(e) is UnboundLocalError else type(e)
        return value, r.log

    for a, b in ((0, 1), (2, 2)):
        want = run(f, a, b)
        with use(NoArrays()) as s:
            g = converted(f, s)
            assert run(g, a, b) == want, text
        assert run(g, a, b) == want, text


# -- where things stand -----------------------------------------------------------------------------------------------


def fails(x):
    y = x
    for i in range(3):
        if i == 1:
            y = y / 0  # here
    return y


def test_tracebacks_show_the_users_lines() -> None:
    g = convert(fails, NoArrays())
    try:
        g(1)
    except ZeroDivisionError as e:
        frames = [f for f in traceback.extract_tb(e.__traceback__) if f.filename == __file__]
        assert frames[-1].lineno == fails.__code__.co_firstlineno + 4
        assert frames[-1].name == "fails"
        assert frames[-1].line == "y = y / 0  # here"
    else:
        pytest.fail("no error")


def test_conversion_is_cached() -> None:
    s = NoArrays()
    assert convert(fails, s) is convert(fails, s)
    g = convert(fails, s)
    assert convert(g, s) is g


def test_a_wrapped_function_sees_later_globals_and_cells() -> None:
    k = 1

    def f():
        return k, corpus.LIMIT

    def rebind(v):
        nonlocal k
        k = v

    g = convert(f, NoArrays())
    assert g() == (1, 3)
    rebind(5)
    assert g() == (5, 3)
    assert np.__name__ == "numpy"
