"""NumPy's own BLAS by canonical names, called as compiled code calls it."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from stager.runtime import blas
from stager.runtime.engine import Engine
from tests.runtime.objects import compiled

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
