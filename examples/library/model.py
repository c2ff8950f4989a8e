"""The functions of the example library: plain NumPy, as any other module of a project."""

import numpy as np


def predict(params, x):
    """Probabilities of each class, for each row of x."""
    h = np.tanh(x @ params["w1"] + params["b1"])
    z = h @ params["w2"] + params["b2"]
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def loss(params, x, labels):
    """Mean cross-entropy."""
    p = predict(params, x)
    return -np.log(p[np.arange(x.shape[0]), labels]).mean()


def smooth(u, steps):
    """So many steps of heat flow along a rod, in place; the ends keep their values."""
    for _ in range(steps):
        u[1:-1] = u[1:-1] + 0.25 * (u[2:] - 2 * u[1:-1] + u[:-2])


def peaks(signal, threshold):
    """The positions of local maxima above a threshold: how many there are only the data know."""
    inside = signal[1:-1]
    found = (inside > signal[:-2]) & (inside > signal[2:]) & (inside > threshold)
    return np.nonzero(found)[0] + 1
