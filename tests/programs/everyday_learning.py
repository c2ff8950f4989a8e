"""Statistics and learning."""

from __future__ import annotations

import math

import numpy as np

from tests.programs.everyday import Everyday


def kfold_fixed(X, y):
    folds = np.array_split(np.arange(len(y)), 3)
    s = 0.0
    for f in folds:
        m = np.ones(len(y), bool)
        m[f] = False
        s += (X[m].mean(0) - X[f].mean(0)).sum() * y[f].sum()
    return s


def softmax_regression(X, labels):
    W = np.zeros((X.shape[1], 3))
    Y = np.eye(3)[labels]
    for _ in range(20):
        Z = X @ W
        Z -= Z.max(axis=1, keepdims=True)
        P = np.exp(Z)
        P /= P.sum(axis=1, keepdims=True)
        W -= 0.1 * X.T @ (P - Y) / len(X)
    return W


class Layer:
    def __init__(self, w, b):
        self.w, self.b = w, b

    def __call__(self, x):
        return np.tanh(x @ self.w + self.b)


class Net:
    def __init__(self, params):
        self.layers = [Layer(*p) for p in params]

    def forward(self, x):
        for l in self.layers:
            x = l(x)
        return x


def net(x, w1, b1, w2, b2):
    return Net([(w1, b1), (w2, b2)]).forward(x)


def conv1d_layer(x, k, b):
    out = np.empty((x.shape[0] - k.shape[0] + 1, k.shape[2]))
    for t in range(out.shape[0]):
        out[t] = np.tensordot(x[t : t + k.shape[0]], k, axes=([0, 1], [0, 1])) + b
    return np.maximum(out, 0)


def maxpool(x):
    h, w = x.shape
    return x.reshape(h // 2, 2, w // 2, 2).max(axis=(1, 3))


def batchnorm(x, g, b, mean, var):
    m, v = x.mean(0), x.var(0)
    mean *= 0.9
    mean += 0.1 * m
    var[:] = 0.9 * var + 0.1 * v
    return g * (x - m) / np.sqrt(v + 1e-5) + b


def dropout_fixed(x, mask):
    out = x.copy()
    out[mask] = 0
    return out / 0.8


def onehot_scatter(idx, v):
    out = np.zeros((len(idx), 4))
    out[np.arange(len(idx)), idx] = v
    return out


def groupby_mean(keys, vals):
    sums = np.zeros(4)
    counts = np.zeros(4)
    np.add.at(sums, keys, vals)
    np.add.at(counts, keys, 1)
    return sums / np.maximum(counts, 1)


def bincount_w(keys, vals):
    return np.bincount(keys, weights=vals, minlength=5)


def rank(x):
    r = np.empty(len(x))
    r[np.argsort(x)] = np.arange(len(x))
    return r


def spearman(x, y):
    rx = np.argsort(np.argsort(x))
    ry = np.argsort(np.argsort(y))
    d = rx - ry
    n = len(x)
    return 1 - 6 * np.sum(d**2) / (n * (n**2 - 1))


def attention(q, k, v):
    s = q @ k.T / math.sqrt(q.shape[-1])
    mask = np.tril(np.ones(s.shape, dtype=bool))
    s = np.where(mask, s, -np.inf)
    s = np.exp(s - s.max(-1, keepdims=True))
    return s / s.sum(-1, keepdims=True) @ v


def layernorm(x, g, b):
    mu = x.mean(-1, keepdims=True)
    var = ((x - mu) ** 2).mean(-1, keepdims=True)
    return g * (x - mu) / np.sqrt(var + 1e-5) + b


def gru(x, h, Wz, Wr, Wh):
    sig = lambda a: 1 / (1 + np.exp(-a))
    for t in range(x.shape[0]):
        c = np.concatenate([x[t], h])
        z, r = sig(c @ Wz), sig(c @ Wr)
        h = (1 - z) * h + z * np.tanh(np.concatenate([x[t], r * h]) @ Wh)
    return h


def lenet_dense(p, x):
    h = x
    for name in ("fc1", "fc2"):
        h = np.maximum(h @ p[name]["w"] + p[name]["b"], 0)
    return h.sum(-1)


def ewma(x, alpha):
    out = np.zeros_like(x)
    out[0] = x[0]
    for t in range(1, len(x)):
        out[t] = alpha * x[t] + (1 - alpha) * out[t - 1]
    return out


def rsi(p, n=5):
    d = np.diff(p)
    up, dn = np.where(d > 0, d, 0), np.where(d < 0, -d, 0)
    au, ad = up[:n].mean(), dn[:n].mean()
    out = []
    for i in range(n, len(d)):
        au = (au * (n - 1) + up[i]) / n
        ad = (ad * (n - 1) + dn[i]) / n
        out.append(100 - 100 / (1 + au / (ad + 1e-12)))
    return np.array(out)


def drawdown(p):
    peak = np.maximum.accumulate(p)
    return ((peak - p) / peak).max()


RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape)


CASES = [
    Everyday(kfold_fixed, (normal(7, 2), normal(7)), (0, 1)),
    Everyday(softmax_regression, (normal(8, 3), RNG.integers(0, 3, 8)), (0,)),
    Everyday(net, (normal(4, 3), normal(3, 5), normal(5), normal(5, 2), normal(2)), (0, 1, 2, 3, 4)),
    Everyday(conv1d_layer, (normal(9, 2), normal(3, 2, 4), normal(4)), (0, 1, 2)),
    Everyday(maxpool, (normal(4, 6),), (0,)),
    Everyday(batchnorm, (normal(6, 3), normal(3), normal(3), normal(3), np.abs(normal(3))), (0, 1, 2, 3, 4)),
    Everyday(dropout_fixed, (normal(4, 5), RNG.uniform(size=(4, 5)) > 0.8), (0,)),
    Everyday(onehot_scatter, (RNG.integers(0, 4, 5), normal(5)), (1,)),
    Everyday(groupby_mean, (RNG.integers(0, 4, 9), normal(9)), (1,)),
    Everyday(bincount_w, (RNG.integers(0, 4, 9), normal(9)), (1,)),
    Everyday(rank, (normal(9),)),
    Everyday(spearman, (normal(9), normal(9))),
    Everyday(attention, (normal(5, 4), normal(5, 4), normal(5, 3)), (0, 1, 2)),
    Everyday(layernorm, (normal(4, 6), normal(6), normal(6)), (0, 1, 2)),
    Everyday(gru, (normal(5, 3), normal(4), normal(7, 4), normal(7, 4), normal(7, 4)), (0, 1, 2, 3, 4)),
    Everyday(ewma, (normal(9), 0.3), (0, 1)),
    Everyday(rsi, (np.abs(normal(14)) + 3,), (0,)),
    Everyday(drawdown, (np.abs(normal(9)) + 1,), (0,)),
]
