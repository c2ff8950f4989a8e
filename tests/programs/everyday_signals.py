"""Signals and images."""

from __future__ import annotations

import itertools

import numpy as np

from tests.programs.everyday import Everyday


def bilinear(img, xs, ys):
    x0, y0 = np.floor(xs).astype(int), np.floor(ys).astype(int)
    x1, y1 = np.minimum(x0 + 1, img.shape[1] - 1), np.minimum(y0 + 1, img.shape[0] - 1)
    wx, wy = xs - x0, ys - y0
    return (1 - wy) * ((1 - wx) * img[y0, x0] + wx * img[y0, x1]) + wy * ((1 - wx) * img[y1, x0] + wx * img[y1, x1])


def sobel(img):
    kx = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    ky = kx.T
    out = np.zeros((img.shape[0] - 2, img.shape[1] - 2))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            patch = img[i : i + 3, j : j + 3]
            out[i, j] = np.hypot((patch * kx).sum(), (patch * ky).sum())
    return out


def equalize(img):
    hist, _ = np.histogram(img, bins=16, range=(0, 1))
    cdf = hist.cumsum() / img.size
    return cdf[np.clip((img * 16).astype(int), 0, 15)]


def moving_median(x, k=5):
    half = k // 2
    out = np.zeros_like(x)
    for i in range(len(x)):
        lo, hi = max(0, i - half), min(len(x), i + half + 1)
        out[i] = np.median(x[lo:hi])
    return out


def autocorr(x, maxlag=6):
    x = x - x.mean()
    return np.array([(x[: len(x) - k] * x[k:]).sum() / (x * x).sum() for k in range(maxlag)])


def dft(re):
    n = len(re)
    k = np.arange(n)
    out = np.zeros((2, n))
    for t in range(n):
        ang = 2 * np.pi * k * t / n
        out[0] += re[t] * np.cos(ang)
        out[1] -= re[t] * np.sin(ang)
    return out


def haar(x):
    x = x.copy()
    n = len(x)
    while n > 1:
        half = n // 2
        a = (x[0:n:2] + x[1:n:2]) / np.sqrt(2)
        d = (x[0:n:2] - x[1:n:2]) / np.sqrt(2)
        x[:half], x[half:n] = a, d
        n = half
    return x


def convolve2d(img, k):
    kh, kw = k.shape
    pad = np.pad(img, ((kh // 2,), (kw // 2,)), mode="reflect")
    out = np.zeros_like(img)
    for (i, j), w in np.ndenumerate(k):
        out += w * pad[i : i + img.shape[0], j : j + img.shape[1]]
    return out


def fir(x, taps):
    return np.convolve(x, taps)[: len(x)]


def iir(x, b, a):
    y = np.zeros_like(x)
    for n in range(len(x)):
        acc = 0.0
        for k in range(len(b)):
            if n - k >= 0:
                acc += b[k] * x[n - k]
        for k in range(1, len(a)):
            if n - k >= 0:
                acc -= a[k] * y[n - k]
        y[n] = acc / a[0]
    return y


def goertzel(x, f):
    w = 2 * np.pi * f
    c = 2 * np.cos(w)
    s1 = s2 = 0.0
    for v in x:
        s1, s2 = v + c * s1 - s2, s1
    return s1**2 + s2**2 - c * s1 * s2


def zero_cross(x):
    return np.count_nonzero(np.diff(np.sign(x)) != 0)


def peaks(x):
    m = (x[1:-1] > x[:-2]) & (x[1:-1] > x[2:])
    return np.flatnonzero(m) + 1, x[1:-1][m]


def envelope(x):
    return np.interp(np.arange(len(x)), np.arange(0, len(x), 3), np.abs(x[::3]))


def hann_welch(x):
    w = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(8) / 8)
    segs = np.lib.stride_tricks.sliding_window_view(x, 8)[::4] * w
    k = np.arange(5)
    C = np.cos(2 * np.pi * np.outer(np.arange(8), k) / 8)
    S = np.sin(2 * np.pi * np.outer(np.arange(8), k) / 8)
    return ((segs @ C) ** 2 + (segs @ S) ** 2).mean(0)


def rgb2gray_otsu(img):
    g = img @ np.array([0.299, 0.587, 0.114])
    q = np.clip((g * 15).astype(int), 0, 15)
    h = np.bincount(q.ravel(), minlength=16).astype(float)
    best, t = -1.0, 0
    for k in range(1, 16):
        w0, w1 = h[:k].sum(), h[k:].sum()
        if w0 == 0 or w1 == 0:
            continue
        m0 = (h[:k] * np.arange(k)).sum() / w0
        m1 = (h[k:] * np.arange(k, 16)).sum() / w1
        v = w0 * w1 * (m0 - m1) ** 2
        if v > best:
            best, t = v, k
    return t, g > t / 15


def erode(b):
    out = b.copy()
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):
        out &= np.roll(np.roll(b, dy, 0), dx, 1)
    return out


def distance_transform(b):
    d = np.where(b, 1e3, 0.0)
    h, w = d.shape
    for i in range(h):
        for j in range(w):
            if i > 0:
                d[i, j] = min(d[i, j], d[i - 1, j] + 1)
            if j > 0:
                d[i, j] = min(d[i, j], d[i, j - 1] + 1)
    for i in range(h - 1, -1, -1):
        for j in range(w - 1, -1, -1):
            if i < h - 1:
                d[i, j] = min(d[i, j], d[i + 1, j] + 1)
            if j < w - 1:
                d[i, j] = min(d[i, j], d[i, j + 1] + 1)
    return d


def integral_image(x):
    I = np.zeros((x.shape[0] + 1, x.shape[1] + 1))
    I[1:, 1:] = x.cumsum(0).cumsum(1)
    return I[2:, 2:] - I[:-2, 2:] - I[2:, :-2] + I[:-2, :-2]


RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape)


CASES = [
    Everyday(bilinear, (RNG.normal(size=(6, 7)), RNG.uniform(0, 5.9, 8), RNG.uniform(0, 4.9, 8)), (0, 1, 2)),
    Everyday(sobel, (RNG.normal(size=(7, 8)),), (0,)),
    Everyday(equalize, (RNG.uniform(size=(8, 8)),)),
    Everyday(moving_median, (RNG.normal(size=14),), (0,)),
    Everyday(autocorr, (RNG.normal(size=20),), (0,)),
    Everyday(dft, (RNG.normal(size=9),), (0,)),
    Everyday(haar, (RNG.normal(size=16),), (0,)),
    Everyday(convolve2d, (RNG.normal(size=(8, 9)), RNG.normal(size=(3, 3))), (0, 1)),
    Everyday(fir, (normal(12), normal(3)), (0, 1)),
    Everyday(iir, (normal(12), normal(3), np.array([1.0, 0.3, 0.1])), (0, 1, 2)),
    Everyday(goertzel, (normal(12), 0.13), (0, 1)),
    Everyday(zero_cross, (normal(12),)),
    Everyday(peaks, (normal(15),), mapped=False),
    Everyday(envelope, (normal(12),), (0,)),
    Everyday(hann_welch, (normal(24),), (0,)),
    Everyday(rgb2gray_otsu, (RNG.uniform(size=(6, 7, 3)),)),
    Everyday(erode, (RNG.uniform(size=(6, 7)) > 0.2,)),
    Everyday(distance_transform, (RNG.uniform(size=(6, 7)) > 0.2,)),
    Everyday(integral_image, (normal(5, 6),), (0,)),
]
