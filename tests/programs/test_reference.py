"""The programs themselves, against textbook answers: a wrong reference would hide a wrong compiler."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from tests.programs import all_programs, program
from tests.programs.program import Program


def answer(name: str, rng: np.random.Generator) -> tuple[tuple[Any, ...], Any]:
    p = program(name)
    args = p.inputs(rng)
    return args, p.fn(*args)


def test_there_are_at_least_forty() -> None:
    names = [p.name for p in all_programs()]
    assert len(names) == len(set(names)) >= 40


@pytest.mark.parametrize("p", all_programs(), ids=lambda p: p.name)
def test_leaves_its_arguments_alone(p: Program, rng: np.random.Generator) -> None:
    args = p.inputs(rng)
    before = copy.deepcopy(args)
    p.fn(*args)
    for a, b in zip(args, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("p", [p for p in all_programs() if p.differentiable], ids=lambda p: p.name)
def test_differentiable_arguments_are_floats(p: Program, rng: np.random.Generator) -> None:
    args = p.inputs(rng)
    assert all(np.asarray(args[i]).dtype == np.float64 for i in p.differentiable)


def test_factorisations(rng: np.random.Generator) -> None:
    (A,), L = answer("Cholesky", rng)
    np.testing.assert_allclose(L, np.linalg.cholesky(A), rtol=1e-12, atol=1e-14)
    (A,), F = answer("LU", rng)
    np.testing.assert_allclose((np.tril(F, -1) + np.eye(len(A))) @ np.triu(F), A, atol=1e-12)
    (A,), (Q, R) = answer("Gram-Schmidt QR", rng)
    np.testing.assert_allclose(Q @ R, A, atol=1e-12)
    np.testing.assert_allclose(Q.T @ Q, np.eye(A.shape[1]), atol=1e-10)


def test_solves(rng: np.random.Generator) -> None:
    (L, b), x = answer("forward substitution", rng)
    np.testing.assert_allclose(L @ x, b, atol=1e-12)
    (U, b), x = answer("back substitution", rng)
    np.testing.assert_allclose(U @ x, b, atol=1e-12)
    (lower, diagonal, upper, rhs), x = answer("tridiagonal", rng)
    T = np.diag(diagonal) + np.diag(lower[1:], -1) + np.diag(upper[:-1], 1)
    np.testing.assert_allclose(T @ x, rhs, atol=1e-12)
    (A, b, _), x = answer("conjugate gradient", rng)
    np.testing.assert_allclose(A @ x, b, atol=1e-9)
    (r,), y = answer("Levinson-Durbin", rng)
    first = np.concatenate([[1.0], r[:-1]])
    toeplitz = first[np.abs(np.subtract.outer(np.arange(len(r)), np.arange(len(r))))]
    np.testing.assert_allclose(toeplitz @ y, -r, atol=1e-10)


def test_spectra(rng: np.random.Generator) -> None:
    (re, im), (fr, fi) = answer("FFT (Stockham)", rng)
    np.testing.assert_allclose(fr + 1j * fi, np.fft.fft(re + 1j * im), atol=1e-12)
    (A, _, _), value = answer("power iteration", rng)
    assert value == pytest.approx(np.linalg.eigvalsh(A)[-1], rel=0.05)


def test_sequences(rng: np.random.Generator) -> None:
    for name in ("prefix sums", "running sum"):
        (x,), s = answer(name, rng)
        np.testing.assert_allclose(s, np.cumsum(x), atol=1e-12)
    (c, x), y = answer("Horner", rng)
    np.testing.assert_allclose(y, np.polynomial.polynomial.polyval(x, c), atol=1e-12)
    assert program("edit distance").fn(np.array([0, 1, 2, 3]), np.array([0, 2, 3, 3])) == 2
    (initial, transition, emission, seen), loglik = answer("HMM forward", rng)
    alpha = initial * emission[:, seen[0]]
    for o in seen[1:]:
        alpha = alpha @ transition * emission[:, o]
    assert loglik == pytest.approx(np.log(alpha.sum()))


def test_discrete(rng: np.random.Generator) -> None:
    (n,), prime = answer("sieve", rng)
    assert list(np.flatnonzero(prime)[:6]) == [2, 3, 5, 7, 11, 13]
    assert prime.shape == (n + 1,)
    assert program("CRC-16").fn(np.frombuffer(b"123456789", dtype=np.uint8)) == 0x29B1
    (x, low, high, bins), counts = answer("histogram loop", rng)
    np.testing.assert_array_equal(counts, np.histogram(x[(x >= low) & (x < high)], bins, (low, high))[0])
    (x,), ordered = answer("insertion sort", rng)
    np.testing.assert_array_equal(ordered, np.sort(x))
    image = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0]], dtype=bool)
    np.testing.assert_array_equal(program("connected components").fn(image), [[1, 0, 3], [1, 0, 0], [1, 1, 0]])
    blinker = np.zeros((5, 5), dtype=np.int64)
    blinker[2, 1:4] = 1
    np.testing.assert_array_equal(program("game of life").fn(blinker, 1), blinker.T)


def test_roots(rng: np.random.Generator) -> None:
    (M, e), E = answer("Newton for Kepler", rng)
    np.testing.assert_allclose(E - e * np.sin(E), M, atol=1e-13)
    (a, target), x = answer("bisection", rng)
    np.testing.assert_allclose(x + a * x**3, target, atol=1e-10)


def test_grids(rng: np.random.Generator) -> None:
    (f0, _, _), f = answer("lattice Boltzmann", rng)
    assert f.sum() == pytest.approx(f0.sum())  # mass stays
    u, _, _ = answer("cavity flow", rng)[1]
    np.testing.assert_array_equal(u[-1], 1.0)
    (_, v, mass, _, _), (_, v1) = answer("n-body", rng)
    np.testing.assert_allclose(mass @ v1, mass @ v, atol=1e-13)  # momentum stays
