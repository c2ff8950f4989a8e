"""How long the emitted code is, which is how long it takes to compile: of vector code, of what is read lane by lane, of
fills, of products of windows; and which code LLVM shall find the addresses of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import stager as st
from stager.codegen.compile import Compiled, compile_graph
from stager.codegen.target import Target
from stager.pipeline import optimize

WIDE = Target.named("x86-64-v4")
windows = np.lib.stride_tricks.sliding_window_view


def code(f: Callable[..., Any], *args: Any, target: Target = WIDE) -> Compiled:
    return compile_graph(optimize(st.make_graph(f)(*args)), target, assemble=False)


def length(f: Callable[..., Any], *args: Any) -> int:
    return code(f, *args).text.count("\n")


def test_only_loops_by_element_have_their_addresses_searched() -> None:
    x = np.ones((31, 31), np.float32)
    assert code(lambda x: np.exp(x) @ x, x).plain_addresses
    assert code(lambda x: np.sum(x, axis=1), x).plain_addresses
    assert not code(lambda x: x + x.T, x).plain_addresses, "what is left of a row of gathered lanes goes one by one"
    assert not code(lambda x: np.sort(x), x).plain_addresses


def test_long_elementwise_loops_take_two_vectors_a_step() -> None:
    short, long = (code(lambda x: x + 1.0, np.ones(n)).program for n in (1 << 10, 1 << 15))
    assert "vector i x4" in str(short)
    assert "vector i x2" in str(long)


def test_what_is_apart_in_memory_is_read_for_few_vectors_a_step() -> None:
    def windowed(x: Any) -> Any:
        return np.sum(windows(x, 3, axis=0)[:, 1], axis=-1)

    assert length(windowed, np.ones((1000, 9))) < 450


def test_fills_are_of_vectors_of_what_they_store() -> None:
    text = code(lambda x: np.zeros(x.shape[0] + 1000), np.ones(3)).text
    assert "<8 x double>" in text
    assert "<64 x double>" not in text


def test_a_logarithm_has_one_polynomial() -> None:
    assert length(np.log, np.ones(128)) < 110


def test_gradients_of_products_of_windows_are_short() -> None:
    def loss(x: Any, w: Any) -> Any:
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        return np.sum(np.einsum("bchwij,ocij->bohw", windows(padded, (3, 3), axis=(2, 3)), w) ** 2)

    assert length(st.grad(loss, argnums=(0, 1)), np.ones((8, 3, 32, 32)), np.ones((16, 3, 3, 3))) < 4000


def test_what_takes_little_of_a_run_is_short() -> None:
    def rows(x: Any) -> Any:
        return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))

    x, w = np.ones((128, 10)), np.ones((784, 512))
    assert "transposing" in str(code(rows, x).program)
    assert "transposing" not in str(code(lambda x, h, w: rows((h @ w)[:, :10] + x), x, np.ones((128, 784)), w).program)
