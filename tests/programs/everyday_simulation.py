"""Simulations, integrals, prices."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import numpy as np

from tests.programs.everyday import Everyday


def simpson(y, h):
    n = len(y)
    s = y[0] + y[-1]
    for i in range(1, n - 1):
        s += (4 if i % 2 else 2) * y[i]
    return s * h / 3


def romberg(c):
    f = lambda x: np.exp(-c * x * x)
    n = 6
    R = np.zeros((n, n))
    h = 1.0
    R[0, 0] = 0.5 * h * (f(0.0) + f(1.0))
    for i in range(1, n):
        h /= 2
        s = 0.0
        for k in range(1, 2**i, 2):
            s += f(k * h)
        R[i, 0] = 0.5 * R[i - 1, 0] + h * s
        for j in range(1, i + 1):
            R[i, j] = R[i, j - 1] + (R[i, j - 1] - R[i - 1, j - 1]) / (4**j - 1)
    return R[n - 1, n - 1]


def burgers(u0, nu):
    u = u0.copy()
    n = len(u)
    dx, dt = 2 / (n - 1), 0.001
    for _ in range(20):
        un = u.copy()
        for i in range(1, n - 1):
            u[i] = un[i] - un[i] * dt / dx * (un[i] - un[i - 1]) + nu * dt / dx**2 * (un[i + 1] - 2 * un[i] + un[i - 1])
        u[0] = un[0] - un[0] * dt / dx * (un[0] - un[-2]) + nu * dt / dx**2 * (un[1] - 2 * un[0] + un[-2])
        u[-1] = u[0]
    return u


def shallow(h):
    h = h.copy()
    u = np.zeros_like(h)
    v = np.zeros_like(h)
    for _ in range(10):
        u[:-1] -= 0.1 * (h[1:] - h[:-1])
        v[:, :-1] -= 0.1 * (h[:, 1:] - h[:, :-1])
        h[1:-1, 1:-1] -= 0.1 * (u[1:-1, 1:-1] - u[:-2, 1:-1] + v[1:-1, 1:-1] - v[1:-1, :-2])
    return h


def fdtd(n_src):
    ez, hy = np.zeros(60), np.zeros(60)
    for t in range(40):
        hy[:-1] += 0.5 * (ez[1:] - ez[:-1])
        ez[1:] += 0.5 * (hy[1:] - hy[:-1])
        ez[20] += np.exp(-(((t - 15) / n_src) ** 2))
    return ez


def multigrid(f):
    def smooth(u, f, h, n):
        for _ in range(n):
            for i in range(1, len(u) - 1):
                u[i] = 0.5 * (u[i - 1] + u[i + 1] + h * h * f[i])
        return u

    def vcycle(u, f, h):
        u = smooth(u, f, h, 2)
        if len(u) <= 3:
            return u
        r = np.zeros_like(u)
        r[1:-1] = f[1:-1] - (2 * u[1:-1] - u[:-2] - u[2:]) / h**2
        e = vcycle(np.zeros(len(u) // 2 + 1), r[::2].copy(), 2 * h)
        fine = np.zeros_like(u)
        fine[::2] = e
        fine[1::2] = 0.5 * (e[:-1] + e[1:])
        return smooth(u + fine, f, h, 2)

    u = np.zeros_like(f)
    for _ in range(3):
        u = vcycle(u, f, 1.0 / (len(f) - 1))
    return u


def rk45(y0, k):
    def f(t, y):
        return np.array([y[1], -k * y[0]])

    t, h, y = 0.0, 0.1, y0.copy()
    n = 0
    while t < 1.0:
        if t + h > 1.0:
            h = 1.0 - t
        k1 = f(t, y)
        k2 = f(t + h / 2, y + h / 2 * k1)
        k3 = f(t + 3 * h / 4, y + 3 * h / 4 * k2)
        y3 = y + h * (2 / 9 * k1 + 1 / 3 * k2 + 4 / 9 * k3)
        k4 = f(t + h, y3)
        err = np.max(np.abs(h * (-5 / 72 * k1 + 1 / 12 * k2 + 1 / 9 * k3 - 1 / 8 * k4)))
        if err < 1e-5:
            t += h
            y = y3
        h *= min(2.0, max(0.3, 0.9 * (1e-5 / (err + 1e-300)) ** (1 / 3)))
        n += 1
        if n > 1000:
            raise RuntimeError("too many steps")
    return y


def verlet(x, v):
    x, v = x.copy(), v.copy()

    def acc(x):
        d = x[:, None, :] - x[None, :, :]
        r2 = (d**2).sum(-1) + 0.1
        return -(d / r2[..., None] ** 1.5).sum(1)

    a = acc(x)
    for _ in range(15):
        v += 0.5 * 0.01 * a
        x += 0.01 * v
        a = acc(x)
        v += 0.5 * 0.01 * a
    return x, v


def seir(beta, days=60):
    S, E, I, Rr = 0.99, 0.01, 0.0, 0.0
    peak = 0.0
    traj = []
    for _ in range(days):
        new = beta * S * I
        S, E, I, Rr = S - new, E + new - 0.2 * E, I + 0.2 * E - 0.1 * I, Rr + 0.1 * I
        peak = max(peak, I)
        traj.append(I)
    return np.array(traj), peak


def metropolis(z, u):
    x = 0.0
    out = np.empty(len(z))
    for i, (dz, ui) in enumerate(zip(z, u)):
        prop = x + dz
        if np.log(ui) < 0.5 * (x * x - prop * prop):
            x = prop
        out[i] = x
    return out


def heston(z1, z2, kappa):
    S, v = 100.0, 0.04
    dt = 1 / len(z1)
    rho = -0.7
    for a, b in zip(z1, z2):
        b = rho * a + np.sqrt(1 - rho**2) * b
        vp = max(v, 0.0)
        S *= np.exp(-0.5 * vp * dt + np.sqrt(vp * dt + 1e-12) * a)
        v += kappa * (0.04 - vp) * dt + 0.3 * np.sqrt(vp * dt + 1e-12) * b
    return max(S - 100.0, 0.0)


def spring(x, v, k):
    s = State(x, v, 0.0)
    while s.t < 0.5:
        a = -k * s.x
        s = s._replace(x=s.x + 0.05 * s.v, v=s.v + 0.05 * a, t=s.t + 0.05)
    return s.x, s.v


def bounce(pos, vel, g):
    p = Particle(pos, vel)
    for _ in range(20):
        p.step(0.05, np.array([0.0, -1.0]) * g)
    return p.pos, p.vel


def garch(r, omega, a, b):
    s2 = np.var(r)
    ll = 0.0
    for x in r:
        ll += np.log(s2) + x * x / s2
        s2 = omega + a * x * x + b * s2
    return ll


def binomial_tree(S0, K, r, sigma, T):
    n = 20
    dt = T / n
    u = np.exp(sigma * np.sqrt(dt))
    d = 1 / u
    p = (np.exp(r * dt) - d) / (u - d)
    j = np.arange(n + 1)
    v = np.maximum(K - S0 * u**j * d ** (n - j), 0)
    for i in range(n - 1, -1, -1):
        v = np.exp(-r * dt) * (p * v[1:] + (1 - p) * v[:-1])
        j = np.arange(i + 1)
        v = np.maximum(v, K - S0 * u**j * d ** (i - j))
    return v[0]


def adam(X, y):
    w = np.zeros(X.shape[1])
    m, v = np.zeros_like(w), np.zeros_like(w)
    b1, b2, lr, eps = 0.9, 0.999, 0.05, 1e-8
    for t in range(1, 51):
        g = X.T @ (X @ w - y) / len(y)
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        mhat, vhat = m / (1 - b1**t), v / (1 - b2**t)
        w = w - lr * mhat / (np.sqrt(vhat) + eps)
    return w


def gmm_em(x, mu0):
    mu = mu0.copy()
    sigma = np.ones_like(mu)
    pi = np.full(len(mu), 1 / len(mu))
    for _ in range(5):
        p = pi * np.exp(-0.5 * ((x[:, None] - mu) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        r = p / p.sum(1, keepdims=True)
        nk = r.sum(0)
        mu = (r * x[:, None]).sum(0) / nk
        sigma = np.sqrt((r * (x[:, None] - mu) ** 2).sum(0) / nk + 1e-3)
        pi = nk / len(x)
    return np.concatenate([mu, sigma, pi])


def sinkhorn(C):
    K = np.exp(-C / 0.5)
    u = np.ones(len(C))
    v = np.ones(C.shape[1])
    for _ in range(30):
        u = 1 / len(C) / (K @ v)
        v = 1 / C.shape[1] / (K.T @ u)
    return (u[:, None] * K * v * C).sum()


State = namedtuple("State", "x v t")


@dataclass
class Particle:
    pos: np.ndarray
    vel: np.ndarray

    def step(self, dt, g):
        self.vel = self.vel + dt * g
        self.pos = self.pos + dt * self.vel
        if self.pos[1] < 0:
            self.pos = self.pos * np.array([1.0, -1.0])
            self.vel = self.vel * np.array([1.0, -0.9])


RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape)


CASES = [
    Everyday(simpson, (RNG.normal(size=9), 0.1), (0,)),
    Everyday(romberg, (0.7,), (0,)),
    Everyday(burgers, (RNG.normal(size=20), 0.07), (0, 1)),
    Everyday(shallow, (RNG.normal(size=(8, 9)),), (0,)),
    Everyday(fdtd, (6.0,), (0,)),
    Everyday(multigrid, (RNG.normal(size=17),), (0,)),
    Everyday(rk45, (np.array([1.0, 0.0]), 4.0), (0, 1)),
    Everyday(verlet, (RNG.normal(size=(4, 2)), RNG.normal(size=(4, 2))), (0, 1)),
    Everyday(seir, (0.4,), (0,)),
    Everyday(metropolis, (RNG.normal(size=20), RNG.uniform(size=20)), (0,)),
    Everyday(heston, (RNG.normal(size=30), RNG.normal(size=30), 1.5), (0, 1, 2)),
    Everyday(spring, (1.0, 0.0, 4.0), (0, 1, 2)),
    Everyday(bounce, (np.array([0.0, 0.3]), np.array([1.0, 0.0]), 9.8), (0, 1, 2)),
    Everyday(garch, (normal(12), 0.1, 0.2, 0.6), (0, 1, 2, 3)),
    Everyday(binomial_tree, (100.0, 105.0, 0.03, 0.2, 1.0), (0, 1, 2, 3, 4)),
    Everyday(adam, (RNG.normal(size=(10, 3)), RNG.normal(size=10)), (0, 1)),
    Everyday(gmm_em, (RNG.normal(size=20), np.array([-1.0, 1.0])), (0, 1)),
    Everyday(sinkhorn, (np.abs(normal(4, 5)),), (0,)),
]
