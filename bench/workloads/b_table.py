"""Fused loops without matrix products: chains, softmax, layernorm, sums, stencils, gathers, at three sizes.

numba's versions are the loops that its users write, one pass where the arithmetic allows; torch's use its own fused
functions (softmax, layer_norm, gelu), which is what its users call.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bench.workload import Function, Inputs, Workload

Rng = np.random.Generator
DType = np.dtype[Any]


def normal(*shapes: Any) -> Any:
    """Inputs of standard normals; a shape is a function of the element count."""

    def inputs(rng: Rng, n: int, dtype: DType) -> Inputs:
        return tuple(rng.standard_normal(shape(n)).astype(dtype) for shape in shapes)

    return inputs


def flat(n: int) -> tuple[int, ...]:
    return (n,)


def square(n: int) -> tuple[int, ...]:
    return math.isqrt(n), math.isqrt(n)


def cube(n: int) -> tuple[int, ...]:
    side = round(n ** (1 / 3))
    return side, side, side


# 12-op elementwise chain


def chain12(x: Any, y: Any) -> Any:
    a = x * y + 0.5
    b = np.abs(a - x)
    c = np.sqrt(b + 1.0) * y
    d = np.maximum(c, a) - b * 0.25
    return d / (1.0 + b * b)


def _numba_chain12(jit: Any, prange: Any) -> Function:
    @jit
    def chain12(x: Any, y: Any) -> Any:
        out = np.empty_like(x)
        one, half, quarter = x.dtype.type(1.0), x.dtype.type(0.5), x.dtype.type(0.25)
        for i in prange(x.size):
            a = x[i] * y[i] + half
            b = abs(a - x[i])
            c = np.sqrt(b + one) * y[i]
            d = max(c, a) - b * quarter
            out[i] = d / (one + b * b)
        return out

    return chain12


def _torch_chain12(torch: Any) -> Function:
    def chain12(x: Any, y: Any) -> Any:
        a = x * y + 0.5
        b = torch.abs(a - x)
        c = torch.sqrt(b + 1.0) * y
        d = torch.maximum(c, a) - b * 0.25
        return d / (1.0 + b * b)

    return chain12


# Black-Scholes, with the Abramowitz-Stegun polynomial for the normal distribution: NumPy has no erf


def cdf(x: Any) -> Any:
    k = 1.0 / (1.0 + 0.2316419 * np.abs(x))
    poly = k * (0.319381530 + k * (-0.356563782 + k * (1.781477937 + k * (-1.821255978 + k * 1.330274429))))
    tail = 0.3989422804014327 * np.exp(-0.5 * x * x) * poly
    return np.where(x > 0.0, 1.0 - tail, tail)


def black_scholes(s: Any, k: Any, t: Any) -> Any:
    r, v = 0.02, 0.30
    root = v * np.sqrt(t)
    d1 = (np.log(s / k) + (r + 0.5 * v * v) * t) / root
    d2 = d1 - root
    discounted = k * np.exp(-r * t)
    call = s * cdf(d1) - discounted * cdf(d2)
    return call, call + discounted - s


def options(rng: Rng, n: int, dtype: DType) -> Inputs:
    return (
        rng.uniform(5.0, 30.0, n).astype(dtype),
        rng.uniform(1.0, 100.0, n).astype(dtype),
        rng.uniform(0.25, 10.0, n).astype(dtype),
    )


def _numba_black_scholes(jit: Any, prange: Any) -> Function:
    @jit
    def black_scholes(s: Any, k: Any, t: Any) -> Any:
        f = s.dtype.type
        r, v, one, half = f(0.02), f(0.30), f(1.0), f(0.5)
        c0, c1, c2, c3, c4 = f(0.319381530), f(-0.356563782), f(1.781477937), f(-1.821255978), f(1.330274429)
        scale, slope = f(0.3989422804014327), f(0.2316419)
        call, put = np.empty_like(s), np.empty_like(s)
        for i in prange(s.size):
            root = v * np.sqrt(t[i])
            d1 = (np.log(s[i] / k[i]) + (r + half * v * v) * t[i]) / root
            d2 = d1 - root
            q1 = one / (one + slope * abs(d1))
            p1 = q1 * (c0 + q1 * (c1 + q1 * (c2 + q1 * (c3 + q1 * c4))))
            n1 = scale * np.exp(-half * d1 * d1) * p1
            n1 = one - n1 if d1 > 0 else n1
            q2 = one / (one + slope * abs(d2))
            p2 = q2 * (c0 + q2 * (c1 + q2 * (c2 + q2 * (c3 + q2 * c4))))
            n2 = scale * np.exp(-half * d2 * d2) * p2
            n2 = one - n2 if d2 > 0 else n2
            discounted = k[i] * np.exp(-r * t[i])
            call[i] = s[i] * n1 - discounted * n2
            put[i] = call[i] + discounted - s[i]
        return call, put

    return black_scholes


def _torch_black_scholes(torch: Any) -> Function:
    def cdf(x: Any) -> Any:
        k = 1.0 / (1.0 + 0.2316419 * torch.abs(x))
        poly = k * (0.319381530 + k * (-0.356563782 + k * (1.781477937 + k * (-1.821255978 + k * 1.330274429))))
        tail = 0.3989422804014327 * torch.exp(-0.5 * x * x) * poly
        return torch.where(x > 0.0, 1.0 - tail, tail)

    def black_scholes(s: Any, k: Any, t: Any) -> Any:
        r, v = 0.02, 0.30
        root = v * torch.sqrt(t)
        d1 = (torch.log(s / k) + (r + 0.5 * v * v) * t) / root
        d2 = d1 - root
        discounted = k * torch.exp(-r * t)
        call = s * cdf(d1) - discounted * cdf(d2)
        return call, call + discounted - s

    return black_scholes


# tanh-gelu


def gelu(x: Any) -> Any:
    return 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


def _numba_gelu(jit: Any, prange: Any) -> Function:
    @jit
    def gelu(x: Any) -> Any:
        f = x.dtype.type
        half, one, a, b = f(0.5), f(1.0), f(0.7978845608028654), f(0.044715)
        out = np.empty_like(x)
        for i in prange(x.size):
            v = x[i]
            out[i] = half * v * (one + np.tanh(a * (v + b * v * v * v)))
        return out

    return gelu


# softmax over either axis


def softmax_rows(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def softmax_columns(x: Any) -> Any:
    e = np.exp(x - np.max(x, axis=0, keepdims=True))
    return e / np.sum(e, axis=0, keepdims=True)


def _numba_softmax_rows(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def softmax_rows(x: Any) -> Any:
        out = np.empty_like(x)
        for i in prange(x.shape[0]):
            top = x[i, 0]
            for j in range(1, x.shape[1]):
                top = max(top, x[i, j])
            for j in range(x.shape[1]):
                out[i, j] = np.exp(x[i, j] - top)
            total = x.dtype.type(0)
            for j in range(x.shape[1]):
                total += out[i, j]
            scale = x.dtype.type(1) / total
            for j in range(x.shape[1]):
                out[i, j] *= scale
        return out

    return softmax_rows


def _numba_softmax_columns(jit: Any, prange: Any) -> Function:
    @jit
    def softmax_columns(x: Any) -> Any:
        out = np.empty_like(x)
        top = x[0].copy()
        for i in range(1, x.shape[0]):
            for j in range(x.shape[1]):
                top[j] = max(top[j], x[i, j])
        total = np.zeros_like(top)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                e = np.exp(x[i, j] - top[j])
                out[i, j] = e
                total[j] += e
        for j in range(x.shape[1]):
            total[j] = x.dtype.type(1) / total[j]
        for i in prange(x.shape[0]):
            for j in range(x.shape[1]):
                out[i, j] *= total[j]
        return out

    return softmax_columns


# layernorm


def layernorm(x: Any, g: Any, b: Any) -> Any:
    mean = np.mean(x, axis=-1, keepdims=True)
    centred = x - mean
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * g + b


def _numba_layernorm(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def layernorm(x: Any, g: Any, b: Any) -> Any:
        f = x.dtype.type
        rows, width = x.shape
        out = np.empty_like(x)
        for i in prange(rows):
            total = f(0)
            for j in range(width):
                total += x[i, j]
            mean = total / f(width)
            square = f(0)
            for j in range(width):
                d = x[i, j] - mean
                square += d * d
            scale = f(1) / np.sqrt(square / f(width) + f(1e-5))
            for j in range(width):
                out[i, j] = (x[i, j] - mean) * scale * g[j] + b[j]
        return out

    return layernorm


# sums, mean and variance


def sum_rows(x: Any) -> Any:
    return np.sum(x, axis=1)


def sum_columns(x: Any) -> Any:
    return np.sum(x, axis=0)


def sum_all(x: Any) -> Any:
    return np.sum(x)


def mean_and_variance(x: Any) -> Any:
    return np.mean(x, axis=1), np.var(x, axis=1)


def _numba_sum_rows(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def sum_rows(x: Any) -> Any:
        out = np.empty(x.shape[0], x.dtype)
        for i in prange(x.shape[0]):
            total = x.dtype.type(0)
            for j in range(x.shape[1]):
                total += x[i, j]
            out[i] = total
        return out

    return sum_rows


def _numba_sum_columns(jit: Any, prange: Any) -> Function:
    @jit
    def sum_columns(x: Any) -> Any:
        out = np.zeros(x.shape[1], x.dtype)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                out[j] += x[i, j]
        return out

    return sum_columns


def _numba_sum_all(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def sum_all(x: Any) -> Any:
        flat = x.ravel()
        total = x.dtype.type(0)
        for i in prange(flat.size):
            total += flat[i]
        return total

    return sum_all


def _numba_mean_and_variance(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def mean_and_variance(x: Any) -> Any:
        f = x.dtype.type
        means, variances = np.empty(x.shape[0], x.dtype), np.empty(x.shape[0], x.dtype)
        for i in prange(x.shape[0]):
            total = f(0)
            for j in range(x.shape[1]):
                total += x[i, j]
            mean = total / f(x.shape[1])
            square = f(0)
            for j in range(x.shape[1]):
                d = x[i, j] - mean
                square += d * d
            means[i] = mean
            variances[i] = square / f(x.shape[1])
        return means, variances

    return mean_and_variance


# stencils


def stencil2d(u: Any) -> Any:
    inner = u[1:-1, 1:-1]
    return inner + 0.1 * (u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4.0 * inner)


def stencil3d(u: Any) -> Any:
    c = u[1:-1, 1:-1, 1:-1]
    near = (
        u[2:, 1:-1, 1:-1] + u[:-2, 1:-1, 1:-1] + u[1:-1, 2:, 1:-1] + u[1:-1, :-2, 1:-1] + u[1:-1, 1:-1, 2:]
        + u[1:-1, 1:-1, :-2]
    )  # fmt: skip
    return c + 0.1 * (near - 6.0 * c)


def _numba_stencil2d(jit: Any, prange: Any) -> Function:
    @jit
    def stencil2d(u: Any) -> Any:
        f = u.dtype.type
        out = np.empty((u.shape[0] - 2, u.shape[1] - 2), u.dtype)
        for i in prange(out.shape[0]):
            for j in range(out.shape[1]):
                c = u[i + 1, j + 1]
                out[i, j] = c + f(0.1) * (u[i + 2, j + 1] + u[i, j + 1] + u[i + 1, j + 2] + u[i + 1, j] - f(4.0) * c)
        return out

    return stencil2d


def _numba_stencil3d(jit: Any, prange: Any) -> Function:
    @jit
    def stencil3d(u: Any) -> Any:
        f = u.dtype.type
        out = np.empty((u.shape[0] - 2, u.shape[1] - 2, u.shape[2] - 2), u.dtype)
        for i in prange(out.shape[0]):
            for j in range(out.shape[1]):
                for k in range(out.shape[2]):
                    c = u[i + 1, j + 1, k + 1]
                    near = u[i + 2, j + 1, k + 1] + u[i, j + 1, k + 1] + u[i + 1, j + 2, k + 1] + u[i + 1, j, k + 1]
                    near += u[i + 1, j + 1, k + 2] + u[i + 1, j + 1, k]
                    out[i, j, k] = c + f(0.1) * (near - f(6.0) * c)
        return out

    return stencil3d


# transposed add, gather, masked where


def transposed_add(x: Any, y: Any) -> Any:
    return x + y.T


def gather(table: Any, rows: Any) -> Any:
    return table[rows] * 2.0


def gather_inputs(rng: Rng, n: int, dtype: DType) -> Inputs:
    count = max(n // 16, 1)
    return rng.standard_normal((4096, 16)).astype(dtype), rng.integers(0, 4096, count)


def masked_where(x: Any, y: Any) -> Any:
    return np.where((x > 0.0) & (y < 0.5), x * y, x - y)


def _numba_transposed_add(jit: Any, prange: Any) -> Function:
    @jit
    def transposed_add(x: Any, y: Any) -> Any:
        out = np.empty_like(x)
        block = 32
        rows, columns = x.shape
        for bi in prange((rows + block - 1) // block):
            for bj in range(0, columns, block):
                for i in range(bi * block, min(bi * block + block, rows)):
                    for j in range(bj, min(bj + block, columns)):
                        out[i, j] = x[i, j] + y[j, i]
        return out

    return transposed_add


def _numba_gather(jit: Any, prange: Any) -> Function:
    @jit
    def gather(table: Any, rows: Any) -> Any:
        two = table.dtype.type(2)
        out = np.empty((rows.size, table.shape[1]), table.dtype)
        for i in prange(rows.size):
            for j in range(table.shape[1]):
                out[i, j] = table[rows[i], j] * two
        return out

    return gather


def _numba_masked_where(jit: Any, prange: Any) -> Function:
    @jit
    def masked_where(x: Any, y: Any) -> Any:
        half = x.dtype.type(0.5)
        out = np.empty_like(x)
        for i in prange(x.size):
            out[i] = x[i] * y[i] if x[i] > 0 and y[i] < half else x[i] - y[i]
        return out

    return masked_where


def _row(name: str, fn: Function, inputs: Any, numba: Any, torch: Any, loose: float = 1.0) -> Workload:
    return Workload(name=name, group="table", fn=fn, inputs=inputs, numba=numba, torch=torch, loose=loose)


def _norm_inputs(rng: Rng, n: int, dtype: DType) -> Inputs:
    side = math.isqrt(n)
    return tuple(rng.standard_normal(s).astype(dtype) for s in ((side, side), (side,), (side,)))


def _torch_layernorm(torch: Any) -> Function:
    return lambda x, g, b: torch.nn.functional.layer_norm(x, (x.shape[-1],), g, b, 1e-5)


def _torch_mean_and_variance(torch: Any) -> Function:
    def mean_and_variance(x: Any) -> Any:
        variance, mean = torch.var_mean(x, dim=1, correction=0)
        return mean, variance

    return mean_and_variance


WORKLOADS = (
    _row("chain of 12", chain12, normal(flat, flat), _numba_chain12, _torch_chain12),
    _row("Black-Scholes", black_scholes, options, _numba_black_scholes, _torch_black_scholes),
    _row(
        "gelu (tanh)", gelu, normal(flat), _numba_gelu,
        lambda torch: lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    ),
    _row("softmax axis 1", softmax_rows, normal(square), _numba_softmax_rows,
         lambda torch: lambda x: torch.softmax(x, dim=1)),
    _row("softmax axis 0", softmax_columns, normal(square), _numba_softmax_columns,
         lambda torch: lambda x: torch.softmax(x, dim=0)),
    _row("layernorm", layernorm, _norm_inputs, _numba_layernorm, _torch_layernorm, loose=10.0),
    _row("sum axis 0", sum_columns, normal(square), _numba_sum_columns, lambda torch: lambda x: torch.sum(x, dim=0)),
    _row("sum axis 1", sum_rows, normal(square), _numba_sum_rows, lambda torch: lambda x: torch.sum(x, dim=1)),
    _row("sum all", sum_all, normal(square), _numba_sum_all, lambda torch: torch.sum, loose=10.0),
    _row("mean and variance", mean_and_variance, normal(square), _numba_mean_and_variance, _torch_mean_and_variance),
    _row("stencil 2-D", stencil2d, normal(square), _numba_stencil2d, lambda torch: stencil2d),
    _row("stencil 3-D", stencil3d, normal(cube), _numba_stencil3d, lambda torch: stencil3d),
    _row("transposed add", transposed_add, normal(square, square), _numba_transposed_add, lambda torch: transposed_add),
    _row("gather", gather, gather_inputs, _numba_gather, lambda torch: gather),
    _row(
        "masked where", masked_where, normal(flat, flat), _numba_masked_where,
        lambda torch: lambda x, y: torch.where((x > 0.0) & (y < 0.5), x * y, x - y),
    ),
)  # fmt: skip
