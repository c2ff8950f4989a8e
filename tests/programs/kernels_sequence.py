"""Recurrences over time or along strings: filters, recurrent cells, dynamic programming, scans."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.programs.program import Program

Rng = np.random.Generator


def edit_distance(a: Any, b: Any) -> Any:
    n, m = a.shape[0], b.shape[0]
    D = np.zeros((n + 1, m + 1), dtype=np.int64)
    D[:, 0] = np.arange(n + 1)
    D[0, :] = np.arange(m + 1)
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            change = 0 if a[i - 1] == b[j - 1] else 1
            D[i, j] = min(D[i - 1, j] + 1, D[i, j - 1] + 1, D[i - 1, j - 1] + change)
    return D[n, m]


def smith_waterman(a: Any, b: Any, match: Any, mismatch: Any, gap: Any) -> Any:
    """Local alignment score, real-valued scores."""
    n, m = a.shape[0], b.shape[0]
    H = np.zeros((n + 1, m + 1))
    best = 0.0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            score = match if a[i - 1] == b[j - 1] else mismatch
            H[i, j] = max(0.0, H[i - 1, j - 1] + score, H[i - 1, j] + gap, H[i, j - 1] + gap)
            best = max(best, H[i, j])
    return best


def soft_dtw(x: Any, y: Any, gamma: Any) -> Any:
    """Dynamic time warping with a soft minimum."""
    n, m = x.shape[0], y.shape[0]
    R = np.full((n + 1, m + 1), 1e10)
    R[0, 0] = 0.0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            d = x[i - 1] - y[j - 1]
            low = min(R[i - 1, j - 1], R[i - 1, j], R[i, j - 1])
            total = (
                np.exp((low - R[i - 1, j - 1]) / gamma)
                + np.exp((low - R[i - 1, j]) / gamma)
                + np.exp((low - R[i, j - 1]) / gamma)
            )
            R[i, j] = d * d + low - gamma * np.log(total)
    return R[n, m]


def kalman_filter(z: Any, F: Any, H: Any, Q: Any, R: Any) -> Any:
    """Filtered states of a linear system; scalar measurements z."""
    n = F.shape[0]
    x = np.zeros(n)
    P = np.eye(n)
    states = np.zeros((z.shape[0], n))
    for t in range(z.shape[0]):
        x = F @ x
        P = F @ P @ F.T + Q
        innovation = z[t] - H @ x
        s = H @ P @ H + R
        K = P @ H / s
        x = x + K * innovation
        P = P - np.outer(K, H @ P)
        states[t] = x
    return states


def hmm_forward(initial: Any, transition: Any, emission: Any, seen: Any) -> Any:
    """Log-likelihood of a sequence, scaled forward algorithm."""
    alpha = initial * emission[:, seen[0]]
    total = np.sum(alpha)
    alpha = alpha / total
    loglik = np.log(total)
    for t in range(1, seen.shape[0]):
        alpha = (alpha @ transition) * emission[:, seen[t]]
        total = np.sum(alpha)
        alpha = alpha / total
        loglik = loglik + np.log(total)
    return loglik


def viterbi(log_initial: Any, log_transition: Any, log_emission: Any, seen: Any) -> Any:
    """The most likely path and its log-probability."""
    T, n = seen.shape[0], log_initial.shape[0]
    score = np.zeros((T, n))
    back = np.zeros((T, n), dtype=np.int64)
    score[0] = log_initial + log_emission[:, seen[0]]
    for t in range(1, T):
        candidates = score[t - 1][:, None] + log_transition
        back[t] = np.argmax(candidates, axis=0)
        score[t] = np.max(candidates, axis=0) + log_emission[:, seen[t]]
    path = np.zeros(T, dtype=np.int64)
    path[T - 1] = np.argmax(score[T - 1])
    for t in range(T - 2, -1, -1):
        path[t] = back[t + 1, path[t + 1]]
    return path, np.max(score[T - 1])


def rnn(x: Any, h: Any, W: Any, U: Any, b: Any) -> Any:
    for t in range(x.shape[0]):
        h = np.tanh(x[t] @ W + h @ U + b)
    return h


def sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def lstm(x: Any, W: Any, U: Any, b: Any) -> Any:
    n = U.shape[0]
    h = np.zeros(n)
    c = np.zeros(n)
    out = np.empty((x.shape[0], n))
    for t in range(x.shape[0]):
        gates = x[t] @ W + h @ U + b
        i, f = sigmoid(gates[:n]), sigmoid(gates[n : 2 * n])
        g, o = np.tanh(gates[2 * n : 3 * n]), sigmoid(gates[3 * n :])
        c = f * c + i * g
        h = o * np.tanh(c)
        out[t] = h
    return out


def prefix_sums(x: Any) -> Any:
    """Hillis-Steele scan: the stride doubles."""
    s = x.copy()
    d = 1
    while d < s.shape[0]:
        s[d:] = s[d:] + s[:-d]
        d *= 2
    return s


def running_sum(x: Any) -> Any:
    s = np.empty_like(x)
    s[0] = x[0]
    for i in range(1, x.shape[0]):
        s[i] = s[i - 1] + x[i]
    return s


def exponential_average(x: Any, alpha: Any) -> Any:
    y = np.empty_like(x)
    y[0] = x[0]
    for i in range(1, x.shape[0]):
        y[i] = alpha * x[i] + (1.0 - alpha) * y[i - 1]
    return y


def horner(coefficients: Any, x: Any) -> Any:
    y = np.zeros_like(x)
    for k in range(coefficients.shape[0] - 1, -1, -1):
        y = y * x + coefficients[k]
    return y


def fft(re: Any, im: Any) -> Any:
    """Stockham's radix-2 transform on separate real and imaginary parts; the length is a power of two."""
    n = re.shape[0]
    ar, ai = re.reshape(n, 1), im.reshape(n, 1)
    half, width = n // 2, 1
    while half >= 1:
        angle = -np.pi * np.arange(width) / width
        wr, wi = np.cos(angle), np.sin(angle)
        er, ei = ar[:half], ai[:half]
        dr = ar[half:] * wr - ai[half:] * wi
        di = ar[half:] * wi + ai[half:] * wr
        ar = np.concatenate([er + dr, er - dr], axis=1)
        ai = np.concatenate([ei + di, ei - di], axis=1)
        half, width = half // 2, 2 * width
    return ar.reshape(n), ai.reshape(n)


def _stochastic(rng: Rng, *shape: int) -> Any:
    p = rng.random(shape) + 0.1
    return p / p.sum(axis=-1, keepdims=True)


def _strings(rng: Rng, n: int) -> tuple[Any, ...]:
    return rng.integers(0, 4, n), rng.integers(0, 4, n + 3)


def _system(rng: Rng, n: int) -> tuple[Any, ...]:
    F = np.array([[1.0, 0.1, 0.0, 0.0], [0.0, 0.98, 0.1, 0.0], [0.0, 0.0, 0.95, 0.1], [0.0, 0.0, 0.0, 0.9]])
    return rng.standard_normal(n), F, np.array([1.0, 0.0, 0.5, 0.0]), 0.01 * np.eye(4), 0.1


def _markov(rng: Rng, n: int) -> tuple[Any, ...]:
    return _stochastic(rng, 6), _stochastic(rng, 6, 6), _stochastic(rng, 6, 5), rng.integers(0, 5, n)


def _log_markov(rng: Rng, n: int) -> tuple[Any, ...]:
    initial, transition, emission, seen = _markov(rng, n)
    return np.log(initial), np.log(transition), np.log(emission), seen


def _cell(rng: Rng, n: int, gates: int) -> tuple[Any, ...]:
    return (
        rng.standard_normal((n, 8)),
        rng.standard_normal((8, gates * 16)) / 3.0,
        rng.standard_normal((16, gates * 16)) / 4.0,
        0.1 * rng.standard_normal(gates * 16),
    )


def _rnn_inputs(rng: Rng, n: int) -> tuple[Any, ...]:
    x, W, U, b = _cell(rng, n, 1)
    return x, np.zeros(16), W, U, b


PROGRAMS = (
    Program(name="edit distance", fn=edit_distance, make_inputs=_strings, size=9, bench_size=300, mapped=(0, 1)),
    Program(
        name="Smith-Waterman", fn=smith_waterman, make_inputs=lambda rng, n: (*_strings(rng, n), 2.0, -1.1, -1.3),
        size=9, bench_size=300, differentiable=(2, 3, 4), mapped=(0, 1),
    ),
    Program(
        name="soft DTW", fn=soft_dtw,
        make_inputs=lambda rng, n: (rng.standard_normal(n), rng.standard_normal(n + 2), 0.5), size=6, bench_size=100,
        differentiable=(0, 1, 2), mapped=(0, 1), tolerance=1e-9,
    ),
    Program(
        name="Kalman filter", fn=kalman_filter, make_inputs=_system, size=10, bench_size=500,
        differentiable=(0, 1, 2, 3, 4), mapped=(0,),
    ),
    Program(
        name="HMM forward", fn=hmm_forward, make_inputs=_markov, size=12, bench_size=1000, differentiable=(0, 1, 2),
        mapped=(3,),
    ),
    Program(name="Viterbi", fn=viterbi, make_inputs=_log_markov, size=12, bench_size=1000, mapped=(3,)),
    Program(
        name="RNN", fn=rnn, make_inputs=_rnn_inputs, size=6, bench_size=200, differentiable=(0, 1, 2, 3, 4),
        mapped=(0, 1),
    ),
    Program(
        name="LSTM", fn=lstm, make_inputs=lambda rng, n: _cell(rng, n, 4), size=5, bench_size=200,
        differentiable=(0, 1, 2, 3), mapped=(0,),
    ),
    Program(
        name="prefix sums", fn=prefix_sums, make_inputs=lambda rng, n: (rng.standard_normal(n),), size=13,
        bench_size=100_000, differentiable=(0,),
    ),
    Program(
        name="running sum", fn=running_sum, make_inputs=lambda rng, n: (rng.standard_normal(n),), size=11,
        bench_size=100_000, differentiable=(0,),
    ),
    Program(
        name="exponential average", fn=exponential_average, make_inputs=lambda rng, n: (rng.standard_normal(n), 0.2),
        size=12, bench_size=50_000, differentiable=(0, 1), mapped=(0,),
    ),
    Program(
        name="Horner", fn=horner, make_inputs=lambda rng, n: (rng.standard_normal(12), rng.uniform(-1.0, 1.0, n)),
        size=9, bench_size=50_000, differentiable=(0, 1), mapped=(1,),
    ),
    Program(
        name="FFT (Stockham)", fn=fft, make_inputs=lambda rng, n: (rng.standard_normal(n), rng.standard_normal(n)),
        size=16, bench_size=16_384, differentiable=(0, 1), mapped=(0, 1),
    ),
)  # fmt: skip
