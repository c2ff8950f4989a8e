"""What scientists keep in notebooks: parameters in dataclasses, helpers with keywords, constants, early ends."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tests.programs.everyday import Everyday

EARTH = 6371.0


@dataclasses.dataclass
class Response:
    gain: float = 0.3
    tau: float = 2.0
    cap: float = 0.25


def cascade(x, fc=0.1, order=2, *, gain=1.0):
    a = np.exp(-2 * np.pi * fc)
    y, stages = np.zeros_like(x), np.zeros(order)
    for i in range(len(x)):
        v = x[i]
        for k in range(order):
            stages[k] = a * stages[k] + (1 - a) * v
            v = stages[k]
        y[i] = v * gain
    return y


def single_precision_cascade(x):
    return cascade(x, 0.2, order=3, gain=2.0)


def epidemic(beta, gamma, days=30, start=(0.99, 0.01, 0.0)):
    y, out = np.array(start), np.empty((days, 3))
    for t in range(days):
        s, i, _ = y
        ill, well = beta * s * i, gamma * i
        y = y + np.array([-ill, ill - well, well])
        out[t] = y
    return out, out[:, 1].max(), out[:, 1].argmax()


def track_length(lat, lon, radius=EARTH):
    lat, lon = np.radians(lat), np.radians(lon)
    d = np.sin((lat[1:] - lat[:-1]) / 2) ** 2
    d = d + np.cos(lat[1:]) * np.cos(lat[:-1]) * np.sin((lon[1:] - lon[:-1]) / 2) ** 2
    return (2 * radius * np.arcsin(np.sqrt(np.clip(d, 0, 1)))).sum()


def anomalies(mean, e=0.3, tol=1e-10):
    E = mean.copy()
    for _ in range(50):
        step = (E - e * np.sin(E) - mean) / (1 - e * np.cos(E))
        E -= step
        if np.max(np.abs(step)) < tol:
            break
    return E


def edges_of_bytes(img):
    K = np.array([[1, 0, -1], [2, 0, -2], [1, 0, -1]])
    padded = np.pad(img, 1, mode="edge")
    gx, gy = np.zeros(img.shape), np.zeros(img.shape)
    for i in range(3):
        for j in range(3):
            window = padded[i : i + img.shape[0], j : j + img.shape[1]]
            gx += K[i, j] * window
            gy += K[j, i] * window
    strength = np.hypot(gx, gy)
    return strength / strength.max() if strength.max() > 0 else strength


def normal_cdf(z):
    return 0.5 * (1 + np.array([math.erf(v) for v in z / np.sqrt(2)]))


def options(S, K=100.0, T=1.0, r=0.02, sigma=0.2, call=False):
    d1 = (np.log(S / K) + (r + sigma**2 / 2) * T) / (sigma * np.sqrt(T))
    price = S * normal_cdf(d1) - K * np.exp(-r * T) * normal_cdf(d1 - sigma * np.sqrt(T))
    return price if call else price - S + K * np.exp(-r * T)


def american_put(S, K=100.0, T=1.0, r=0.05, sigma=0.2, n=16):
    dt = T / n
    up = np.exp(sigma * np.sqrt(dt))
    p = (np.exp(r * dt) - 1 / up) / (up - 1 / up)
    v = np.maximum(K - S * up ** (2 * np.arange(n + 1) - n), 0)
    for i in range(n - 1, -1, -1):
        held = np.exp(-r * dt) * (p * v[1:] + (1 - p) * v[:-1])
        v = np.maximum(held, K - S * up ** (2 * np.arange(i + 1) - i))
    return v[0]


class Controller:
    def __init__(self, kp=1.0, ki=0.1, kd=0.05):
        self.kp, self.ki, self.kd = kp, ki, kd
        self.sum, self.last = 0.0, None

    def __call__(self, error, dt=0.1):
        self.sum += error * dt
        slope = 0.0 if self.last is None else (error - self.last) / dt
        self.last = error
        return self.kp * error + self.ki * self.sum + self.kd * slope


def controlled(target):
    controller, x, track = Controller(), 0.0, []
    for s in target:
        x = x + 0.1 * (controller(s - x) - 0.2 * x)
        track.append(x)
    return np.array(track)


def caesar(text, shift=3):
    out = text.copy()
    for low, high in ((65, 90), (97, 122)):
        letters = (text >= low) & (text <= high)
        out[letters] = (text[letters] - low + shift) % 26 + low
    return out, np.bincount(out, minlength=128)[97:123].argmax()


def periodogram(x, n=8, hop=4):
    w, total, count = np.hanning(n), np.zeros(n // 2 + 1), 0
    t = np.arange(n)
    for s in range(0, len(x) - n + 1, hop):
        part = (x[s : s + n] - x[s : s + n].mean()) * w
        re = np.array([np.sum(part * np.cos(2 * np.pi * f * t / n)) for f in range(n // 2 + 1)])
        im = np.array([np.sum(part * np.sin(2 * np.pi * f * t / n)) for f in range(n // 2 + 1)])
        total += re**2 + im**2
        count += 1
    return total / count


def bootstrap(x, draws, q=(5, 95)):
    means = np.array([np.mean(x[i]) for i in draws])
    low, high = np.percentile(means, q)
    return low, high, means.std(ddof=1), np.median(means)


def threshold(img, bins=16):
    counts, at = np.histogram(img, bins=bins, range=(0, 1))
    p, middle = counts / counts.sum(), (at[1:] + at[:-1]) / 2
    best, found = -1.0, 0
    for t in range(1, bins):
        w = p[:t].sum()
        if w == 0 or w == 1:
            continue
        m0, m1 = (p[:t] * middle[:t]).sum() / w, (p[t:] * middle[t:]).sum() / (1 - w)
        spread = w * (1 - w) * (m0 - m1) ** 2
        if spread > best:
            best, found = spread, t
    return at[found], img > at[found]


USUAL = Response()


def saturated(x, how=USUAL):
    y = np.zeros(len(x))
    for i, v in enumerate(x):
        y[i] = how.gain * v if v < how.cap else how.cap
        if i > 0:
            y[i] += y[i - 1] * math.exp(-1 / how.tau)
    return y


def checksum(data, poly=0x07):
    c = np.uint8(0)
    for v in data:
        c ^= v
        for _ in range(8):
            c = np.uint8(((c << 1) ^ poly) & 0xFF) if c & 0x80 else np.uint8((c << 1) & 0xFF)
    return c


def runs_of(bits):
    changes = np.flatnonzero(np.diff(bits)) + 1
    starts = np.concatenate([[0], changes])
    return bits[starts], np.diff(np.concatenate([starts, [len(bits)]]))


def binned_sums(x, at):
    sums = [np.zeros(2), np.zeros(2), np.zeros(2)]
    first = sums[0]
    for i in range(len(x)):
        row = sums[at[i]]
        row[0] += x[i]
        row[1] += 1
    return np.stack(sums), first


R = np.random.default_rng(11)
CASES = [
    Everyday(cascade, (R.random(12),), (0,)),
    Everyday(single_precision_cascade, (R.random(12).astype(np.float32),)),
    Everyday(epidemic, (0.4, 0.1), (0, 1)),
    Everyday(track_length, (R.random(6) * 90, R.random(6) * 90), (0, 1)),
    Everyday(anomalies, (R.random(5) * 3,), (0,)),
    Everyday(edges_of_bytes, ((R.random((5, 6)) * 255).astype(np.uint8),)),
    Everyday(options, (R.random(4) * 50 + 80,), (0,)),
    Everyday(american_put, (95.0,), (0,)),
    Everyday(controlled, (R.random(9) + 1,), (0,)),
    Everyday(caesar, (np.frombuffer(b"Hello, World zz", np.uint8),)),
    Everyday(periodogram, (R.random(16),), (0,)),
    Everyday(bootstrap, (R.random(10), R.integers(0, 10, (8, 10))), (0,)),
    Everyday(threshold, (R.random((6, 6)),)),
    Everyday(saturated, (R.random(6),), (0,)),
    Everyday(checksum, (R.integers(0, 255, 5).astype(np.uint8),)),
    Everyday(runs_of, (R.integers(0, 2, 14),), mapped=False),
    Everyday(binned_sums, (R.random(7), R.integers(0, 3, 7)), (0,)),
]
