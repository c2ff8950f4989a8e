"""`--blas`: large products by the library that is named, whatever its integers and names are."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

import stager as st
from stager.aot.blas import find_blas
from stager.aot.errors import BuildError
from tests.aot.calling import CC, needs_cc

pytestmark = needs_cc

PLAIN = """
int calls;
#define GEMM(name, real) void name(int order, int ta, int tb, int m, int n, int k, real alpha, \\
    const real *a, int lda, const real *b, int ldb, real beta, real *c, int ldc) { \\
    __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED); \\
    for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) { \\
        real sum = 0; \\
        for (int l = 0; l < k; l++) \\
            sum += (ta == 111 ? a[(long)i * lda + l] : a[(long)l * lda + i]) \\
                 * (tb == 111 ? b[(long)l * ldb + j] : b[(long)j * ldb + l]); \\
        c[(long)i * ldc + j] = alpha * sum + (beta ? beta * c[(long)i * ldc + j] : 0); } }
GEMM(cblas_dgemm, double)
GEMM(cblas_sgemm, float)
"""


def product(a, b):
    return a @ b, a.T @ a


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A BLAS with 32-bit integers and no threads."""
    folder = tmp_path_factory.mktemp("blas")
    (folder / "plain.c").write_text(PLAIN)
    path = folder / "libplain.so"
    subprocess.run([CC, "-O1", "-shared", "-fPIC", str(folder / "plain.c"), "-o", str(path)], check=True)
    return path


def numpys():
    from stager.runtime import blas

    return next((p for p in blas._candidates() if "openblas" in p.name), None)


def check(built, m, n, k):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
    f = st.load(built.files["library"])
    for got, want in zip(f(a, b), product(a, b), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def test_a_plain_blas(plain, tmp_path):
    found = find_blas(str(plain))
    assert (found.gemm, found.bits, found.threads) == ("cblas_{}gemm", 32, None)
    built = st.build({"product": (product, ["f64[m,k]", "f64[k,n]"])}, tmp_path, blas=str(plain))
    calls = ctypes.c_int.in_dll(ctypes.CDLL(str(plain)), "calls")
    for sizes in ((200, 190, 180), (3, 200, 300), (130, 1, 140), (1, 1, 1)):
        check(built, *sizes)
    assert calls.value > 0
    needed = subprocess.run(["ldd", str(built.files["library"])], capture_output=True, text=True, check=True).stdout
    assert "libplain.so" in needed


def test_the_blas_of_numpy(tmp_path):
    path = numpys()
    if path is None:
        pytest.skip("NumPy has no OpenBLAS of its own here")
    found = find_blas(str(path))
    assert found.bits == 64
    assert found.threads is not None
    built = st.build({"product": (product, ["f64[m,k]", "f64[k,n]"])}, tmp_path, blas=str(path))
    check(built, 300, 310, 320)


def test_what_is_no_blas(tmp_path):
    with pytest.raises(BuildError, match="no BLAS called nothing_of_that_name"):
        find_blas("nothing_of_that_name")
    with pytest.raises(BuildError, match="cannot be opened"):
        find_blas(str(Path(__file__)) + ".so")
    with pytest.raises(BuildError, match="has no cblas_dgemm"):
        find_blas("c")
    with pytest.raises(BuildError, match="with threads"):
        st.build({"f": (product, ["f64[m,k]", "f64[k,n]"])}, tmp_path, blas="c", threads=False)
