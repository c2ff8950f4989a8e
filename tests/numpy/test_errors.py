"""What NumPy refuses is refused with its class; what stager alone refuses says so in its first line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st

X = np.arange(6.0).reshape(2, 3)
K = np.array([1, 2, 3])
B = np.array([True, False, True])
U = np.array([1, 250], np.uint8)

AS_NUMPY: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "subtract bools": (lambda b: b - b, (B,)),
    "negative bool": (lambda b: -b, (B,)),
    "int out of range": (lambda u: u + 300, (U,)),
    "negative into unsigned": (lambda u: u + (-1), (U,)),
    "known negative power": (lambda i: i**-1, (K,)),
    "negative power": (lambda i: i ** (i - 2), (K,)),
    "shapes": (lambda x: x + np.arange(4.0), (X,)),
    "axis": (lambda x: x.sum(axis=2), (X,)),
    "reshape": (lambda x: x.reshape(4), (X,)),
    "index": (lambda x: x[5], (X,)),
    "index array": (lambda x, i: x[i], (X, K)),
    "float index": (lambda x: x[1.0], (X,)),
    "too many indices": (lambda x: x[0, 0, 0], (X,)),
    "mask shape": (lambda x: x[np.array([True, False, True])], (X,)),
    "float into int": (lambda i: i.__iadd__(0.5), (K,)),
    "max of nothing": (lambda x: x[:0].max(axis=0), (X,)),
    "concatenate": (lambda x: np.concatenate([x, x[0]]), (X,)),
    "len of scalar": (lambda x: len(x.sum()), (X,)),
    "iterate scalar": (lambda x: list(x.sum()), (X,)),
    "assign shape": (lambda x: x.__setitem__(0, np.arange(2.0)), (X,)),
    "masked assign": (lambda x: x.__setitem__(x > 2, np.array([1.0, 2.0])), (X,)),
    "nanargmax": (lambda x: np.nanargmax(x * np.nan), (X,)),
    "choose": (lambda i: np.choose(i, [i, i]), (K,)),
    "average": (lambda x: np.average(x, weights=x * 0), (X,)),
    "put": (lambda x: np.put(x, [9], 1.0), (X,)),
    "add.at": (lambda x: np.add.at(x, np.array([7]), 1.0), (X,)),
    "take": (lambda x: np.take(x, [10]), (X,)),
    "take_along_axis": (lambda x: np.take_along_axis(x, np.array([[5]]), 1), (X,)),
    "norm order": (lambda x: np.linalg.norm(x, "nope"), (X,)),
    "not square": (np.linalg.det, (X,)),
    "cross": (lambda x: np.cross(x.T, x.T[:, :1]), (X,)),
    "reduceat": (lambda x: np.add.reduceat(x, [5]), (X,)),
    "no identity": (
        lambda x: np.hypot.reduce(x[:, :0], axis=1, where=np.zeros((2, 0), bool)) + np.maximum.reduce(x[:0]),
        (X,),
    ),
    "interp": (lambda x: np.interp(x, np.arange(3.0), np.arange(2.0)), (X,)),
    "unravel_index": (lambda i: np.unravel_index(i + 5, (2, 3)), (K,)),
    "fill_diagonal": (lambda i: np.fill_diagonal(i, 1), (K,)),
    "nonzero of scalar": (lambda x: np.nonzero(x.sum()), (X,)),
}


@pytest.mark.parametrize("name", AS_NUMPY)
def test_as_numpy(name: str) -> None:
    f, args = AS_NUMPY[name]
    with pytest.raises(Exception) as refused:  # noqa: PT011  (NumPy says which)
        f(*[a.copy() for a in args])
    expected = next(c for c in type(refused.value).__mro__ if c.__module__ == "builtins")
    for transformed in (st.functionalize(f), st.compile(f)):
        with pytest.raises(expected):
            transformed(*[a.copy() for a in args])


_NO_EIG = (
    "np.linalg.eig is not supported on traced arrays: "
    "its results are complex; near: eigh and eigvalsh of symmetric matrices, svd"
)
OURS: dict[str, tuple[Callable[..., Any], str]] = {
    "eig": (np.linalg.eig, _NO_EIG),
    "view": (
        lambda x: x.view(np.int64),
        "x.view(int64) of a traced f64[2,3] reads its bytes as another dtype, which is not supported",
    ),
    "tobytes": (
        lambda x: x.tobytes(),
        "x.tobytes() of a traced f64[2,3] is not supported: a traced array has no bytes",
    ),
    "float16": (lambda x: np.sqrt(x > 1), "sqrt: NumPy computes this in float16, which stager does not support"),
    "complex": (lambda x: x + 1j, "add: NumPy computes this in complex128, which stager does not support"),
    "roots": (lambda x: np.roots(x[0]), "np.roots is not supported on traced arrays"),
    "random": (
        lambda x: x + np.random.rand(3),
        "np.random.rand would be drawn once, while tracing, and stay the same in every call",
    ),
    "generator": (
        lambda x: x + np.random.default_rng(0).normal(size=3),
        "np.random.default_rng would be drawn once, while tracing, and stay the same in every call",
    ),
    "bincount": (lambda x: np.bincount(x.astype(int)[0]), "np.bincount: the length of the result depends on the data"),
}


@pytest.mark.parametrize("name", OURS)
def test_first_line(name: str) -> None:
    f, line = OURS[name]
    for transformed in (st.functionalize(f), st.compile(f)):
        with pytest.raises((TypeError, ValueError)) as refused:
            transformed(X.copy())
        assert str(refused.value).split("\n")[0] == line


def test_namespace() -> None:
    import stager.numpy as snp

    assert snp.pi == np.pi
    assert snp.float32 is np.float32
    np.testing.assert_array_equal(snp.arange(3), np.arange(3))
    f = st.compile(lambda x: snp.linalg.norm(snp.where(x > 0, x, snp.zeros(3))) + snp.concatenate([x, x]).sum())
    np.testing.assert_allclose(f(np.arange(3.0)), np.sqrt(5.0) + 6.0)
    assert "linalg" in dir(snp)
    with pytest.raises(
        AttributeError, match=r"stager.numpy.roots is not there: np.roots is not supported on traced arrays"
    ):
        _ = snp.roots
    with pytest.raises(AttributeError, match=r"module 'stager\.numpy' has no attribute 'nosuch'"):
        _ = snp.nosuch


@pytest.mark.parametrize("n", [4, 300, 2000])
def test_an_index_computed_beside_its_use(n: int) -> None:
    """Index and use share one pass over blocks of columns: what was wrong is found again in the block it was in."""

    def f(x: Any, t: Any, shift: Any) -> Any:
        s = x[:, None] * 0.5 + t
        k = np.argmax(s, axis=0) + shift
        return s[k, np.arange(s.shape[1])], k

    rng = np.random.default_rng(n)
    x, t = rng.standard_normal(4), rng.standard_normal((4, n))
    fine = np.zeros(n, dtype=int)
    compiled = st.compile(f)
    for got, want in zip(compiled(x, t, fine), f(x, t, fine), strict=True):
        np.testing.assert_array_equal(got, want)
    for where in (0, n // 2, n - 1):
        wrong = fine.copy()
        wrong[where] = 100
        with pytest.raises(IndexError) as wanted:
            f(x, t, wrong)
        with pytest.raises(IndexError) as got_error:
            compiled(x, t, wrong)
        assert str(got_error.value) == str(wanted.value)


SINGULAR: dict[str, Any] = {
    "inv": np.linalg.inv,
    "inv of a stack": lambda x: np.linalg.inv(np.stack([np.eye(3), x])),
    "solve": lambda x: np.linalg.solve(x, np.ones(3)),
    "cholesky": lambda x: np.linalg.cholesky(-x),
    "mapped": lambda x: st.vmap(np.linalg.inv)(np.stack([np.eye(3), x])),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_singular_matrices_are_linalg_errors(name: str) -> None:
    f = SINGULAR[name]
    for g in (st.functionalize(f), st.compile(f)):
        for _ in range(2):  # by the evaluator, then from native code
            with pytest.raises(np.linalg.LinAlgError, match=r"Singular matrix|not positive definite"):
                g(np.ones((3, 3)))


def test_errors_of_the_user_keep_their_class() -> None:
    @st.compile
    def f(x: Any) -> Any:
        if x[0] > 0:
            raise np.linalg.LinAlgError("mine")
        return x

    with pytest.raises(np.linalg.LinAlgError, match="mine"):
        f(np.ones(2))


@pytest.mark.parametrize("f", [lambda A: np.linalg.qr(A)[0], lambda A: np.linalg.qr(A)[1], np.linalg.pinv])
def test_derivatives_of_orthogonal_factors(f: Any) -> None:
    st.testing.check_grads(f, (np.random.default_rng(3).standard_normal((4, 3)),))


@pytest.mark.parametrize("number", [2**64 - 1, 2**63])
def test_an_unsigned_number_beyond_int64_is_beyond_every_axis(number: int) -> None:
    x, i = np.arange(4.0), np.uint64(number)

    def write(x: Any, i: Any) -> None:
        x[i] = 1.0

    for f in (lambda x, i: x[i], lambda x, i: x.reshape(2, 2)[[0, 1], i], write):
        for call in (st.compile(f), st.functionalize(f)):
            with pytest.raises(IndexError, match="is out of bounds for axis"):
                call(x, i)
    np.testing.assert_array_equal(st.compile(lambda x, i: (x[i:].size, x[:i].sum()))(x, i), (0, 6.0))
    np.testing.assert_array_equal(st.compile(lambda x, i: x[i])(x, np.array([2**64 - 1], np.uint64)), x[-1:])
