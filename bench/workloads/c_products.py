"""Matrix products, alone and with neighbours to fuse."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.workload import Function, Inputs, Workload
from bench.workloads.b_table import gelu, normal


def matmul(a: Any, b: Any) -> Any:
    return a @ b


def dense_gelu(x: Any, w: Any, b: Any) -> Any:
    return gelu(x @ w + b)


def attention(q: Any, k: Any, v: Any) -> Any:
    """softmax(q kᵀ / √d) v, per head; q, k and v are (heads, length, width)."""
    scores = q @ np.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5
    e = np.exp(scores - np.max(scores, axis=-1, keepdims=True))
    return (e / np.sum(e, axis=-1, keepdims=True)) @ v


def _numba_matmul(jit: Any, prange: Any) -> Function:
    @jit
    def matmul(a: Any, b: Any) -> Any:
        return a @ b

    return matmul


def _numba_batched(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def batched(a: Any, b: Any) -> Any:
        out = np.zeros((a.shape[0], a.shape[1], b.shape[2]), a.dtype)
        for n in prange(a.shape[0]):
            for i in range(a.shape[1]):
                for k in range(a.shape[2]):
                    v = a[n, i, k]
                    for j in range(b.shape[2]):
                        out[n, i, j] += v * b[n, k, j]
        return out

    return batched


def _square(side: int) -> Any:
    return normal(lambda n: (side, side), lambda n: (side, side))


def _dense(rng: np.random.Generator, n: int, dtype: np.dtype[Any]) -> Inputs:
    shapes = ((256, 512), (512, 512), (512,))
    return tuple((rng.standard_normal(s) / 16).astype(dtype) for s in shapes)


def _torch_dense(torch: Any) -> Function:
    return lambda x, w, b: torch.nn.functional.gelu(torch.addmm(b, x, w), approximate="tanh")


def _torch_attention(torch: Any) -> Function:
    return torch.nn.functional.scaled_dot_product_attention


def _row(name: str, fn: Function, inputs: Any, torch: Any, numba: Any = None, loose: float = 10.0) -> Workload:
    return Workload(
        name=name, group="products", fn=fn, inputs=inputs, torch=torch, numba=numba, sizes=(0,), loose=loose
    )


def _matmul(torch: Any) -> Function:
    return torch.matmul


WORKLOADS = (
    _row("matmul 8", matmul, _square(8), _matmul, _numba_matmul),
    _row(
        "matmul 32 batch 64", matmul, normal(lambda n: (64, 32, 32), lambda n: (64, 32, 32)), _matmul, _numba_batched
    ),
    _row("matmul 512", matmul, _square(512), _matmul, _numba_matmul, loose=100.0),
    _row("matmul 2048", matmul, _square(2048), _matmul, _numba_matmul, loose=100.0),
    _row("matvec 1024", matmul, normal(lambda n: (1024, 1024), lambda n: (1024,)), _matmul, _numba_matmul),
    _row("matmul+bias+gelu", dense_gelu, _dense, _torch_dense),
    _row("attention 8x128x64", attention, normal(*[lambda n: (8, 128, 64)] * 3), _torch_attention),
)

