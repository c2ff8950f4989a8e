"""NumPy's own BLAS by canonical names, called as compiled code calls it."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from stager.codegen.blas import EXPORTS, EXTERNALS
from stager.runtime import blas
from stager.runtime.engine import Engine
from tests.runtime.objects import blas_threads_object, compiled, pool_object

needs_blas = pytest.mark.skipif(not blas.symbols(), reason="NumPy was built without its bundled OpenBLAS")

GEMM = """
declare void @stager_blas_dgemm(i32, i32, i32, i64, i64, i64, double, ptr, i64, ptr, i64, double, ptr, i64)
define void @product(ptr %a, ptr %b, ptr %c, i64 %m, i64 %n, i64 %k) {
  call void @stager_blas_dgemm(i32 101, i32 111, i32 111, i64 %m, i64 %n, i64 %k, double 1.0,
                               ptr %a, i64 %k, ptr %b, i64 %n, double 0.0, ptr %c, i64 %n)
  ret void }
"""


@needs_blas
def test_a_product_from_compiled_code(rng: np.random.Generator) -> None:
    engine = Engine()
    engine.provide_by(blas.external_address)
    loaded = engine.load(compiled(GEMM), ["stager_blas_dgemm"])
    product = loaded.function("product", None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)
    a, b, c = rng.standard_normal((40, 30)), rng.standard_normal((30, 50)), np.empty((40, 50))
    product(a.ctypes.data, b.ctypes.data, c.ctypes.data, 40, 50, 30)
    np.testing.assert_allclose(c, a @ b, rtol=1e-13)


@needs_blas
def test_threads_are_put_back() -> None:
    get = ctypes.CFUNCTYPE(ctypes.c_int)(blas.symbols()["stager_blas_get_threads"])
    before = get()
    with blas.limited(1):
        assert get() == 1
    assert get() == before
    with pytest.raises(KeyError), blas.limited(1):
        raise KeyError
    assert get() == before


@needs_blas
def test_enter_and_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAGER_NUM_THREADS", "3")
    engine = Engine()
    engine.provide_by(blas.external_address)
    engine.provide(["stager_pool_threads"], pool_object)
    engine.provide(EXPORTS, blas_threads_object, externals=EXTERNALS)
    addresses = engine.resolve(EXPORTS)
    enter = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(addresses["stager_blas_enter"])
    leave = ctypes.CFUNCTYPE(None)(addresses["stager_blas_leave"])
    get = ctypes.CFUNCTYPE(ctypes.c_int)(blas.symbols()["stager_blas_get_threads"])

    def context(threads: int) -> ctypes.Array[ctypes.c_int32]:
        words = (ctypes.c_int32 * 16)()
        words[8] = threads
        return words

    with blas.limited(2):
        assert enter(context(2)) == 0
        assert enter(context(1)) == 1
        assert get() == 1
        assert enter(context(2)) == 1  # another call overlaps
        assert get() == 2
        leave()
        assert get() == 2
        leave()
        assert get() == 2, "what the first call met"
        assert enter(context(0)) == 1
        assert get() == 3, "the pool's default"
        leave()
        assert get() == 2


@needs_blas
def test_names() -> None:
    assert blas.provides("stager_blas_sgemm")
    assert not blas.provides("stager_blas_nonsense")
    assert blas.external_address("strlen") is None
    name = blas.library_name()
    assert name is not None
    assert "openblas" in name


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    blas.symbols.cache_clear()
    monkeypatch.setattr(blas, "_candidates", list)
    try:
        assert blas.symbols() == {}
        assert blas.library_name() is None
        with blas.limited(1):
            pass
    finally:
        blas.symbols.cache_clear()
