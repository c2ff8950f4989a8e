"""Stencils and grids: each cell from its neighbours, many sweeps over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.programs.program import Program

Rng = np.random.Generator


def heat1d(u0: Any, steps: Any, c: Any) -> Any:
    u = u0.copy()
    for _ in range(steps):
        u[1:-1] += c * (u[2:] - 2.0 * u[1:-1] + u[:-2])
    return u


def jacobi2d_sweeps(A: Any, B: Any, steps: Any) -> None:
    for _ in range(1, steps):
        B[1:-1, 1:-1] = 0.2 * (A[1:-1, 1:-1] + A[1:-1, :-2] + A[1:-1, 2:] + A[2:, 1:-1] + A[:-2, 1:-1])
        A[1:-1, 1:-1] = 0.2 * (B[1:-1, 1:-1] + B[1:-1, :-2] + B[1:-1, 2:] + B[2:, 1:-1] + B[:-2, 1:-1])


def jacobi2d(A: Any, steps: Any) -> Any:
    A = A.copy()
    jacobi2d_sweeps(A, A.copy(), steps)
    return A


def heat3d(u0: Any, steps: Any) -> Any:
    u = u0.copy()
    for _ in range(steps):
        c = u[1:-1, 1:-1, 1:-1]
        new = (
            0.125 * (u[2:, 1:-1, 1:-1] - 2.0 * c + u[:-2, 1:-1, 1:-1])
            + 0.125 * (u[1:-1, 2:, 1:-1] - 2.0 * c + u[1:-1, :-2, 1:-1])
            + 0.125 * (u[1:-1, 1:-1, 2:] - 2.0 * c + u[1:-1, 1:-1, :-2])
            + c
        )
        u[1:-1, 1:-1, 1:-1] = new
    return u


def gauss_seidel_sweeps(u: Any, steps: Any) -> None:
    n, m = u.shape
    for _ in range(steps):
        for i in range(1, n - 1):
            for j in range(1, m - 1):
                u[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])


def gauss_seidel(u0: Any, steps: Any) -> Any:
    u = u0.copy()
    gauss_seidel_sweeps(u, steps)
    return u


def wave2d(u0: Any, steps: Any, courant2: Any) -> Any:
    """Leapfrog for the wave equation, three time levels rotating."""
    old = u0.copy()
    now = u0.copy()
    new = np.zeros_like(u0)
    for _ in range(steps):
        new[1:-1, 1:-1] = (
            2.0 * now[1:-1, 1:-1]
            - old[1:-1, 1:-1]
            + courant2
            * (now[2:, 1:-1] + now[:-2, 1:-1] + now[1:-1, 2:] + now[1:-1, :-2] - 4.0 * now[1:-1, 1:-1])
        )
        old[:] = now
        now[:] = new
    return now


def lattice_boltzmann(f0: Any, steps: Any, tau: Any) -> Any:
    """D2Q9 with periodic borders: stream every population, collide towards its equilibrium."""
    cx = (0, 1, 0, -1, 0, 1, -1, -1, 1)
    cy = (0, 0, 1, 0, -1, 1, 1, -1, -1)
    w = (4 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 36, 1 / 36, 1 / 36, 1 / 36)
    f = f0.copy()
    for _ in range(steps):
        for k in range(9):
            f[k] = np.roll(np.roll(f[k], cx[k], axis=0), cy[k], axis=1)
        rho = np.sum(f, axis=0)
        ux = (f[1] - f[3] + f[5] - f[6] - f[7] + f[8]) / rho
        uy = (f[2] - f[4] + f[5] + f[6] - f[7] - f[8]) / rho
        square = 1.5 * (ux * ux + uy * uy)
        for k in range(9):
            cu = 3.0 * (cx[k] * ux + cy[k] * uy)
            f[k] += (w[k] * rho * (1.0 + cu + 0.5 * cu * cu - square) - f[k]) / tau
    return f


def cavity_flow(n: Any, steps: Any, sweeps: Any, nu: Any) -> Any:
    """Lid-driven cavity: pressure Poisson equation by Jacobi sweeps, then the velocity update, in place."""
    h = 2.0 / (n - 1)
    dt = 0.001
    u = np.zeros((n, n))
    v = np.zeros((n, n))
    p = np.zeros((n, n))
    b = np.zeros((n, n))
    for _ in range(steps):
        ux = (u[1:-1, 2:] - u[1:-1, :-2]) / (2.0 * h)
        vy = (v[2:, 1:-1] - v[:-2, 1:-1]) / (2.0 * h)
        uy = (u[2:, 1:-1] - u[:-2, 1:-1]) / (2.0 * h)
        vx = (v[1:-1, 2:] - v[1:-1, :-2]) / (2.0 * h)
        b[1:-1, 1:-1] = (ux + vy) / dt - ux * ux - 2.0 * uy * vx - vy * vy
        for _ in range(sweeps):
            pn = p.copy()
            p[1:-1, 1:-1] = 0.25 * (
                pn[1:-1, 2:] + pn[1:-1, :-2] + pn[2:, 1:-1] + pn[:-2, 1:-1] - h * h * b[1:-1, 1:-1]
            )
            p[:, -1] = p[:, -2]
            p[0, :] = p[1, :]
            p[:, 0] = p[:, 1]
            p[-1, :] = 0.0
        un = u.copy()
        vn = v.copy()
        u[1:-1, 1:-1] = (
            un[1:-1, 1:-1]
            - un[1:-1, 1:-1] * dt / h * (un[1:-1, 1:-1] - un[1:-1, :-2])
            - vn[1:-1, 1:-1] * dt / h * (un[1:-1, 1:-1] - un[:-2, 1:-1])
            - dt / (2.0 * h) * (p[1:-1, 2:] - p[1:-1, :-2])
            + nu * dt / (h * h) * (un[1:-1, 2:] + un[1:-1, :-2] + un[2:, 1:-1] + un[:-2, 1:-1] - 4.0 * un[1:-1, 1:-1])
        )
        v[1:-1, 1:-1] = (
            vn[1:-1, 1:-1]
            - un[1:-1, 1:-1] * dt / h * (vn[1:-1, 1:-1] - vn[1:-1, :-2])
            - vn[1:-1, 1:-1] * dt / h * (vn[1:-1, 1:-1] - vn[:-2, 1:-1])
            - dt / (2.0 * h) * (p[2:, 1:-1] - p[:-2, 1:-1])
            + nu * dt / (h * h) * (vn[1:-1, 2:] + vn[1:-1, :-2] + vn[2:, 1:-1] + vn[:-2, 1:-1] - 4.0 * vn[1:-1, 1:-1])
        )
        u[-1, :] = 1.0
    return u, v, p


def life(board: Any, steps: Any) -> Any:
    b = board.copy()
    for _ in range(steps):
        near = np.zeros_like(b)
        near[1:-1, 1:-1] = (
            b[:-2, :-2] + b[:-2, 1:-1] + b[:-2, 2:] + b[1:-1, :-2]
            + b[1:-1, 2:] + b[2:, :-2] + b[2:, 1:-1] + b[2:, 2:]
        )
        b[:] = (near == 3) | ((b == 1) & (near == 2))
    return b


def convolve_image(image: Any, kernel: Any) -> Any:
    kh, kw = kernel.shape
    h, w = image.shape[0] - kh + 1, image.shape[1] - kw + 1
    out = np.zeros((h, w))
    for i in range(kh):
        for j in range(kw):
            out += kernel[i, j] * image[i : i + h, j : j + w]
    return out


def _grid(rng: Rng, *shape: int) -> Any:
    return rng.standard_normal(shape)


def _fluid(rng: Rng, n: int) -> tuple[Any, ...]:
    w = np.array([4 / 9] + [1 / 9] * 4 + [1 / 36] * 4)
    return w[:, None, None] * (1.0 + 0.05 * rng.standard_normal((9, n, n))), 6, 0.8


PROGRAMS = (
    Program(
        name="heat 1-D", fn=heat1d, make_inputs=lambda rng, n: (_grid(rng, n), 20, 0.2), size=33, bench_size=20_000,
        differentiable=(0, 2), mapped=(0, 2),
    ),
    Program(
        name="Jacobi 2-D", fn=jacobi2d, make_inputs=lambda rng, n: (_grid(rng, n, n), 6), size=12, bench_size=250,
        differentiable=(0,),
    ),
    Program(
        name="heat 3-D", fn=heat3d, make_inputs=lambda rng, n: (_grid(rng, n, n, n), 5), size=7, bench_size=60,
        differentiable=(0,),
    ),
    Program(
        name="Gauss-Seidel", fn=gauss_seidel, in_place=gauss_seidel_sweeps,
        make_inputs=lambda rng, n: (_grid(rng, n, n), 4), size=9, bench_size=200, differentiable=(0,),
    ),
    Program(
        name="wave 2-D", fn=wave2d, make_inputs=lambda rng, n: (_grid(rng, n, n), 10, 0.2), size=11, bench_size=200,
        differentiable=(0, 2), mapped=(0, 2),
    ),
    Program(
        name="lattice Boltzmann", fn=lattice_boltzmann, make_inputs=_fluid, size=8, bench_size=128,
        differentiable=(0, 2), mapped=(0,),
    ),
    Program(
        name="cavity flow", fn=cavity_flow, make_inputs=lambda rng, n: (n, 6, 5, 0.1), size=11, bench_size=61,
        differentiable=(3,), mapped=(3,), tolerance=1e-8,
    ),
    Program(
        name="game of life", fn=life,
        make_inputs=lambda rng, n: (rng.integers(0, 2, (n, n)), 5), size=12, bench_size=256,
    ),
    Program(
        name="image convolution", fn=convolve_image,
        make_inputs=lambda rng, n: (_grid(rng, n, n), _grid(rng, 5, 5)), size=12, bench_size=512,
        differentiable=(0, 1), mapped=(0,),
    ),
)  # fmt: skip
