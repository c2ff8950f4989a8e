"""Particles and differential equations: forces between pairs, integrators, root finding."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.programs.program import Program

Rng = np.random.Generator


def accelerations(x: Any, mass: Any) -> Any:
    d = x[None, :, :] - x[:, None, :]
    r2 = np.sum(d * d, axis=-1) + 0.01
    return np.sum(d * (mass[None, :] / (r2 * np.sqrt(r2)))[:, :, None], axis=1)


def nbody(x: Any, v: Any, mass: Any, steps: Any, dt: Any) -> Any:
    """Leapfrog with all pairs at once."""
    x = x.copy()
    v = v.copy()
    a = accelerations(x, mass)
    for _ in range(steps):
        v += 0.5 * dt * a
        x += dt * v
        a = accelerations(x, mass)
        v += 0.5 * dt * a
    return x, v


def lennard_jones_forces(x: Any, force: Any) -> Any:
    """Fills `force` and returns the energy; loops over pairs, third law used."""
    n = x.shape[0]
    force[:] = 0.0
    energy = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            d = x[i] - x[j]
            r2 = np.dot(d, d)
            s6 = 1.0 / (r2 * r2 * r2)
            energy += 4.0 * (s6 * s6 - s6)
            f = (24.0 * (2.0 * s6 * s6 - s6) / r2) * d
            force[i] += f
            force[j] -= f
    return energy


def molecular_dynamics(x: Any, v: Any, steps: Any, dt: Any) -> Any:
    """Velocity Verlet of Lennard-Jones particles; the energy of every step is recorded."""
    x = x.copy()
    v = v.copy()
    force = np.zeros_like(x)
    energies = np.zeros(steps)
    lennard_jones_forces(x, force)
    for t in range(steps):
        v += 0.5 * dt * force
        x += dt * v
        potential = lennard_jones_forces(x, force)
        v += 0.5 * dt * force
        energies[t] = potential + 0.5 * np.sum(v * v)
    return x, energies


def lorenz(s: Any, sigma: Any, rho: Any, beta: Any) -> Any:
    return np.array([sigma * (s[1] - s[0]), s[0] * (rho - s[2]) - s[1], s[0] * s[1] - beta * s[2]])


def runge_kutta4(s: Any, sigma: Any, rho: Any, beta: Any, steps: Any, dt: Any) -> Any:
    path = np.empty((steps + 1, 3))
    path[0] = s
    for t in range(steps):
        k1 = lorenz(s, sigma, rho, beta)
        k2 = lorenz(s + 0.5 * dt * k1, sigma, rho, beta)
        k3 = lorenz(s + 0.5 * dt * k2, sigma, rho, beta)
        k4 = lorenz(s + dt * k3, sigma, rho, beta)
        s = s + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        path[t + 1] = s
    return path


def pendulum(y: Any, damping: Any) -> Any:
    return np.array([y[1], -np.sin(y[0]) - damping * y[1]])


def adaptive_heun(y: Any, damping: Any, end: Any, tolerance: Any) -> Any:
    """Heun-Euler pair with step control; steps that miss the tolerance are repeated."""
    t = 0.0
    dt = 0.05
    while t < end:
        dt = min(dt, end - t)
        k1 = pendulum(y, damping)
        k2 = pendulum(y + dt * k1, damping)
        error = np.sqrt(np.sum((0.5 * dt * (k2 - k1)) ** 2))
        if error <= tolerance:
            y = y + 0.5 * dt * (k1 + k2)
            t = t + dt
        dt = dt * min(2.0, max(0.2, 0.9 * np.sqrt(tolerance / (error + 1e-30))))
        if t >= end - 1e-12:
            break
    return y


def newton_kepler(mean_anomaly: Any, eccentricity: Any) -> Any:
    """Kepler's equation, every entry until all have converged."""
    E = mean_anomaly + eccentricity * np.sin(mean_anomaly)
    for _ in range(50):
        step = (E - eccentricity * np.sin(E) - mean_anomaly) / (1.0 - eccentricity * np.cos(E))
        E = E - step
        if np.max(np.abs(step)) < 1e-14:
            break
    return E


def bisection(a: Any, target: Any) -> Any:
    """Solves x + a x³ = target per entry on a bracket that holds the root."""
    low = np.full(target.shape, -10.0)
    high = np.full(target.shape, 10.0)
    for _ in range(60):
        middle = 0.5 * (low + high)
        above = middle + a * middle**3 > target
        high = np.where(above, middle, high)
        low = np.where(above, low, middle)
    return 0.5 * (low + high)


def random_walk(noise: Any, drift: Any) -> Any:
    """A walk between reflecting walls, from given noise."""
    path = np.zeros(noise.shape[0] + 1)
    for t in range(noise.shape[0]):
        x = path[t] + drift + 0.1 * noise[t]
        if x > 1.0:
            x = 2.0 - x
        elif x < -1.0:
            x = -2.0 - x
        path[t + 1] = x
    return path


def mandelbrot(re: Any, im: Any, limit: Any) -> Any:
    """Escape counts with an exit per point."""
    counts = np.zeros((im.shape[0], re.shape[0]), dtype=np.int64)
    for i in range(im.shape[0]):
        for j in range(re.shape[0]):
            x = 0.0
            y = 0.0
            k = 0
            while k < limit and x * x + y * y <= 4.0:
                x, y = x * x - y * y + re[j], 2.0 * x * y + im[i]
                k += 1
            counts[i, j] = k
    return counts


def _bodies(rng: Rng, n: int) -> tuple[Any, ...]:
    return rng.standard_normal((n, 3)), 0.1 * rng.standard_normal((n, 3)), rng.random(n) + 0.5, 4, 0.01


def _lattice(rng: Rng, n: int) -> tuple[Any, ...]:
    side = int(np.ceil(n ** (1 / 3)))
    points = np.array([(i, j, k) for i in range(side) for j in range(side) for k in range(side)], dtype=float)[:n]
    return 1.2 * points + 0.02 * rng.standard_normal((n, 3)), 0.1 * rng.standard_normal((n, 3)), 3, 0.002


PROGRAMS = (
    Program(
        name="n-body", fn=nbody, make_inputs=_bodies, size=5, bench_size=100, differentiable=(0, 1, 2), mapped=(0, 1),
    ),
    Program(
        name="molecular dynamics", fn=molecular_dynamics, make_inputs=_lattice, size=6, bench_size=64,
        differentiable=(0, 1), mapped=(0, 1), tolerance=1e-8,
    ),
    Program(
        name="Runge-Kutta 4", fn=runge_kutta4,
        make_inputs=lambda rng, n: (rng.standard_normal(3), 10.0, 28.0, 8.0 / 3.0, n, 0.005), size=20, bench_size=2000,
        differentiable=(0, 1, 2, 3), mapped=(0,), tolerance=1e-6,
    ),
    Program(
        name="adaptive Heun", fn=adaptive_heun,
        make_inputs=lambda rng, n: (np.array([1.0, 0.5]) + 0.1 * rng.standard_normal(2), 0.1, 0.1 * n, 1e-5), size=10,
        bench_size=100, differentiable=(1,), mapped=(0,), tolerance=1e-6,
    ),
    Program(
        name="Newton for Kepler", fn=newton_kepler, make_inputs=lambda rng, n: (rng.uniform(0.0, 6.0, n), 0.3), size=8,
        bench_size=20_000, differentiable=(0, 1), mapped=(0,),
    ),
    Program(
        name="bisection", fn=bisection, make_inputs=lambda rng, n: (rng.random(n), rng.standard_normal(n)), size=8,
        bench_size=5_000, mapped=(0, 1),
    ),
    Program(
        name="random walk", fn=random_walk, make_inputs=lambda rng, n: (rng.standard_normal(n), 0.02), size=60,
        bench_size=20_000, differentiable=(0, 1), mapped=(0,),
    ),
    Program(
        name="Mandelbrot", fn=mandelbrot,
        make_inputs=lambda rng, n: (np.linspace(-2.0, 0.6, n), np.linspace(-1.2, 1.2, n), 60), size=10, bench_size=120,
        mapped=(),
    ),
)  # fmt: skip
