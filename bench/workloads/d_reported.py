"""Workloads that are reported without a bar; a row above 2 of the best peer needs its reason written down."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bench.workload import Function, Inputs, Workload, rebound
from bench.workloads.b_table import flat, normal, square

try:
    from scipy.special import erf
except ImportError:  # the row then fails with the reason
    erf = None


def gelu_erf(x: Any) -> Any:
    return 0.5 * x * (1.0 + erf(x * 0.7071067811865476))


def logsumexp(x: Any) -> Any:
    top = np.max(x, axis=1, keepdims=True)
    return top[:, 0] + np.log(np.sum(np.exp(x - top), axis=1))


def cross_entropy(logits: Any, labels: Any) -> Any:
    top = np.max(logits, axis=1, keepdims=True)
    total = top[:, 0] + np.log(np.sum(np.exp(logits - top), axis=1))
    return np.mean(total - logits[np.arange(logits.shape[0]), labels])


def argmax(x: Any) -> Any:
    return np.argmax(x, axis=1)


def cumsum(x: Any) -> Any:
    return np.cumsum(x)


def reversed_strides(x: Any, y: Any) -> Any:
    return x[::-1] * y[::2][: x.shape[0]] + x


def histogram(x: Any) -> Any:
    return np.histogram(x, bins=64, range=(-4.0, 4.0))[0]


def sort(x: Any) -> Any:
    return np.sort(x)


def concatenate(x: Any, y: Any) -> Any:
    return np.concatenate([x * 2.0, y, x])


def convolve(x: Any, w: Any) -> Any:
    return sliding_window_view(x, w.shape[0]) @ w


def _labels(rng: np.random.Generator, n: int, dtype: np.dtype[Any]) -> Inputs:
    rows = max(n // 100, 1)
    return rng.standard_normal((rows, 100)).astype(dtype), rng.integers(0, 100, rows)


def _numba_gelu_erf(jit: Any, prange: Any) -> Function:
    import math

    @jit
    def gelu_erf(x: Any) -> Any:
        f = x.dtype.type
        out = np.empty_like(x)
        for i in prange(x.size):
            out[i] = f(0.5) * x[i] * (f(1) + math.erf(x[i] * f(0.7071067811865476)))
        return out

    return gelu_erf


def _numba_logsumexp(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def logsumexp(x: Any) -> Any:
        out = np.empty(x.shape[0], x.dtype)
        for i in prange(x.shape[0]):
            top = x[i, 0]
            for j in range(1, x.shape[1]):
                top = max(top, x[i, j])
            total = x.dtype.type(0)
            for j in range(x.shape[1]):
                total += np.exp(x[i, j] - top)
            out[i] = top + np.log(total)
        return out

    return logsumexp


def _numba_cross_entropy(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def cross_entropy(x: Any, labels: Any) -> Any:
        loss = x.dtype.type(0)
        for i in prange(x.shape[0]):
            top = x[i, 0]
            for j in range(1, x.shape[1]):
                top = max(top, x[i, j])
            total = x.dtype.type(0)
            for j in range(x.shape[1]):
                total += np.exp(x[i, j] - top)
            loss += top + np.log(total) - x[i, labels[i]]
        return loss / x.dtype.type(x.shape[0])

    return cross_entropy


def _numba_argmax(jit: Any, prange: Any) -> Function:
    @jit
    def argmax(x: Any) -> Any:
        out = np.empty(x.shape[0], np.int64)
        for i in prange(x.shape[0]):
            best, at = x[i, 0], 0
            for j in range(1, x.shape[1]):
                if x[i, j] > best:
                    best, at = x[i, j], j
            out[i] = at
        return out

    return argmax


def _numba_cumsum(jit: Any, prange: Any) -> Function:
    @jit
    def cumsum(x: Any) -> Any:
        out = np.empty_like(x)
        total = x.dtype.type(0)
        for i in range(x.size):
            total += x[i]
            out[i] = total
        return out

    return cumsum


def _numba_reversed(jit: Any, prange: Any) -> Function:
    @jit
    def reversed_strides(x: Any, y: Any) -> Any:
        n = x.size
        out = np.empty_like(x)
        for i in prange(n):
            out[i] = x[n - 1 - i] * y[2 * i] + x[i]
        return out

    return reversed_strides


def _numba_histogram(jit: Any, prange: Any) -> Function:
    @jit
    def histogram(x: Any) -> Any:
        counts = np.zeros(64, np.int64)
        for i in range(x.size):
            at = int(np.floor((x[i] + 4.0) * 8.0))
            if at == 64 and x[i] == 4.0:
                at = 63
            if 0 <= at < 64:
                counts[at] += 1
        return counts

    return histogram


def _numba_convolve(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def convolve(x: Any, w: Any) -> Any:
        out = np.empty(x.size - w.size + 1, x.dtype)
        for i in prange(out.size):
            total = x.dtype.type(0)
            for j in range(w.size):
                total += x[i + j] * w[j]
            out[i] = total
        return out

    return convolve


def _jax_gelu_erf(jax: Any) -> Function:
    return rebound(gelu_erf, erf=jax.scipy.special.erf)


def _jax_convolve(jax: Any) -> Function:
    return lambda x, w: jax.numpy.correlate(x, w, mode="valid")


def _torch_convolve(torch: Any) -> Function:
    return lambda x, w: torch.nn.functional.conv1d(x[None, None], w[None, None])[0, 0]


def _torch_histogram(torch: Any) -> Function:
    return lambda x: torch.histc(x, 64, -4.0, 4.0).to(torch.int64)


def _torch_reversed(torch: Any) -> Function:
    return lambda x, y: torch.flip(x, (0,)) * y[::2][: x.shape[0]] + x


def _row(
    name: str, fn: Function, inputs: Any, torch: Any, numba: Any = None, jax: Any = "same", loose: float = 10.0
) -> Workload:
    return Workload(
        name=name, group="reported", fn=fn, inputs=inputs, torch=torch, numba=numba, jax=jax, loose=loose, bars={}
    )


WORKLOADS = (
    _row("gelu (erf)", gelu_erf, normal(flat), lambda t: t.nn.functional.gelu, _numba_gelu_erf, _jax_gelu_erf),
    _row("logsumexp", logsumexp, normal(square), lambda t: lambda x: t.logsumexp(x, 1), _numba_logsumexp),
    _row("cross-entropy", cross_entropy, _labels, lambda t: t.nn.functional.cross_entropy, _numba_cross_entropy),
    _row("argmax", argmax, normal(square), lambda t: lambda x: t.argmax(x, 1), _numba_argmax),
    _row("cumsum", cumsum, normal(flat), lambda t: lambda x: t.cumsum(x, 0), _numba_cumsum, loose=1e3),
    _row("reversed strides", reversed_strides, normal(flat, lambda n: (2 * n,)), _torch_reversed, _numba_reversed),
    _row("histogram", histogram, normal(flat), _torch_histogram, _numba_histogram),
    _row("sort", sort, normal(flat), lambda t: lambda x: t.sort(x)[0]),
    _row("concatenate", concatenate, normal(flat, flat), lambda t: lambda x, y: t.cat([x * 2.0, y, x])),
    _row("convolution", convolve, normal(flat, lambda n: (31,)), _torch_convolve, _numba_convolve, _jax_convolve),
)
