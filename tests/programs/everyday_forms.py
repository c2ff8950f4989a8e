"""The forms of Python and NumPy that people write: classes, closures, comprehensions, masks, odd slices."""

from __future__ import annotations

import numpy as np

from tests.programs.everyday import Everyday


class Welford:
    def __init__(self):
        self.n = 0
        self.mean = 0.0
        self.m2 = 0.0

    def push(self, x):
        self.n += 1
        d = x - self.mean
        self.mean += d / self.n
        self.m2 += d * (x - self.mean)

    @property
    def var(self):
        return self.m2 / (self.n - 1)


def welford(xs):
    w = Welford()
    for x in xs:
        w.push(x)
    return w.mean, w.var


def vectorized(x):
    f = np.vectorize(lambda v: v * 2 if v > 0 else -v)
    return f(x)


def along(x):
    return np.apply_along_axis(lambda r: r.max() - r.min(), 1, x)


def piecewise(x):
    return np.piecewise(x, [x < 0, x >= 1], [lambda v: -v, lambda v: v * v, 0.5])


def selectf(x):
    return np.select([x < -1, x > 1], [x**2, np.sqrt(np.abs(x))], default=0.0)


def guarded(x):
    try:
        y = x / x.sum()
    except ZeroDivisionError:
        y = x
    with np.errstate(divide="ignore"):
        return np.where(y > 0, np.log(np.abs(y) + 1e-9), 0.0)


def matcher(x, mode="b"):
    match mode:
        case "a":
            return x
        case "b":
            return x * 2
        case _:
            return x * 3


def walrus(x):
    return y + 1 if (y := x.sum()) > 0 else y - 1


def comprehension(x):
    return np.array([v**2 for v in x if True]) + sum(x[i] * i for i in range(len(x)) if i % 2)


def slices(x):
    y = x[::-2].copy()
    y[1:] += y[:-1]
    y[...] *= 2
    x[2:5], x[5:8] = x[5:8].copy(), x[2:5].copy()
    return np.concatenate([y, x])


def fancy(x, idx):
    x[idx] *= 2
    x[idx[::-1]] -= 1
    z = x[:, None] * x[idx]
    z[z > 1] = 1
    return z


RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape)


CASES = [
    Everyday(welford, (RNG.normal(size=10),), (0,)),
    Everyday(vectorized, (normal(7),), (0,)),
    Everyday(along, (normal(4, 5),), (0,)),
    Everyday(piecewise, (normal(9),), (0,)),
    Everyday(selectf, (normal(9) * 2,), (0,)),
    Everyday(guarded, (np.abs(normal(6)),), (0,)),
    Everyday(matcher, (normal(4),), (0,)),
    Everyday(walrus, (normal(4),), (0,)),
    Everyday(comprehension, (normal(6),), (0,)),
    Everyday(slices, (normal(9),), (0,)),
    Everyday(fancy, (normal(8), np.array([1, 3, 5])), (0,)),
]
