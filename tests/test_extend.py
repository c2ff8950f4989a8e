"""Ops from outside: the scalar builder, C functions, caches that notice a changed rule, refusals."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stager as st

LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
for _name, _arity in {"j0": 1, "j1": 1, "fdim": 2}.items():
    _f = getattr(LIBM, _name)
    _f.restype, _f.argtypes = ctypes.c_double, [ctypes.c_double] * _arity
LIBM.fdimf.restype, LIBM.fdimf.argtypes = ctypes.c_float, [ctypes.c_float, ctypes.c_float]


def reference(f: Any) -> Any:
    return np.vectorize(f, otypes=[float])


j1 = st.elementwise_op("test_j1", reference(LIBM.j1), c_function=LIBM.j1)
j0 = st.elementwise_op("test_j0", reference(LIBM.j0), c_function=LIBM.j0, d=[lambda t, out, x: -t * j1(x)])
fdim = st.elementwise_op(
    "test_fdim",
    lambda x, y: np.maximum(x - y, 0),
    c_function={np.float64: LIBM.fdim, np.float32: ("fdimf", ctypes.cast(LIBM.fdimf, ctypes.c_void_p).value)},
    d=[lambda t, out, x, y: np.where(x > y, t, 0), lambda t, out, x, y: np.where(x > y, -t, 0)],
)


@pytest.mark.parametrize("n", [0, 1, 7, 1000])
def test_c_functions(n: int) -> None:
    x = np.linspace(0.1, 5, n)
    want = np.array([LIBM.j0(v) for v in x])
    compiled = st.compile(lambda x: j0(x) * 2)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(x), want * 2)
    np.testing.assert_array_equal(j0(x), want)
    single = x.astype(np.float32)
    got = st.compile(j0)(single)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.array([LIBM.j0(v) for v in single], np.float32))


def test_c_functions_under_transforms() -> None:
    x = np.linspace(0.1, 5, 6).reshape(2, 3)
    st.testing.check_grads(j0, (x,))
    st.testing.check_vmap(j0, (x,))
    st.testing.check_grads(lambda x: fdim(x, x[::-1] * 0.7).sum(), (x,))
    product = st.compile(st.vmap(st.grad(lambda r: j0(r).sum())))
    np.testing.assert_allclose(product(x), -reference(LIBM.j1)(x))


def test_operands_promote_and_broadcast() -> None:
    x, y = np.arange(6.0).reshape(2, 3), np.array([1, 2, 3])
    f = st.compile(fdim)
    np.testing.assert_array_equal(f(x, y), np.maximum(x - y, 0))
    single = f(x.astype(np.float32), 2)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, np.maximum(x - 2, 0))


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="an op has one code"):
        st.elementwise_op("test_none", np.sin)
    with pytest.raises(TypeError, match="an op has one code"):
        st.elementwise_op("test_both", np.sin, lower=lambda b, x: x, c_function=LIBM.j0)
    for odd in (np.sin, ("no symbol", 1), ("symbol", 0), "j0", {np.int64: LIBM.j0}):
        with pytest.raises(TypeError, match=r"C function|c_function"):
            st.elementwise_op("test_odd", np.sin, c_function=odd)
    with pytest.raises(ValueError, match="another C function called 'j0'"):
        st.elementwise_op("test_other", np.sin, c_function=("j0", 1234))
    with pytest.raises(ValueError, match="an op called 'test_j0' exists already"):
        st.elementwise_op("test_j0", np.sin, c_function=LIBM.j0)


PROGRAM = """
import numpy as np, stager as st

def scaled(b, x):
    return b.mul(x, b.const(x.dtype, FACTOR))

op = st.elementwise_op("scaled", lambda x: x * FACTOR, lower=lambda b, x: scaled(b, x))
print(float(st.compile(op)(np.ones(3))[0]))
"""


def test_a_changed_rule_is_compiled_anew(tmp_path: Path) -> None:
    def run(factor: float) -> str:
        program = PROGRAM.replace("FACTOR", str(factor))
        env = {**os.environ, "STAGER_CACHE_DIR": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, check=True)
        return done.stdout.strip()

    assert [run(2.0), run(3.0), run(2.0)] == ["2.0", "3.0", "2.0"]
