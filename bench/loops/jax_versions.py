"""The programs in jax: `lax` loops with `.at` updates, whole rows or diagonals at once where that is the jax idiom.

Python ints among the arguments are static. Slices that follow the loop index do not exist in jax; masks over the full
row stand for them, as jax users write it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.workload import Function, rebound

Builder = Callable[[Any], Function]
WRITTEN: dict[str, Builder] = {}
REVERSIBLE: dict[str, Builder] = {}  # versions with static trip counts, where the forward one has none
NOT_REVERSIBLE = {"conjugate gradient", "adaptive Heun", "Newton for Kepler", "insertion sort"}  # need while_loop


def same_text(fn: Function) -> Builder:
    return lambda jax: rebound(fn, np=jax.numpy)


def written(name: str) -> Callable[[Builder], Builder]:
    def keep(build: Builder) -> Builder:
        WRITTEN[name] = build
        return build

    return keep


@written("heat 1-D")
def _(jax: Any) -> Function:
    def heat1d(u: Any, steps: Any, c: Any) -> Any:
        def step(_: Any, u: Any) -> Any:
            return u.at[1:-1].add(c * (u[2:] - 2.0 * u[1:-1] + u[:-2]))

        return jax.lax.fori_loop(0, steps, step, u)

    return heat1d


@written("Jacobi 2-D")
def _(jax: Any) -> Function:
    def sweep(a: Any, b: Any) -> Any:
        return b.at[1:-1, 1:-1].set(0.2 * (a[1:-1, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1] + a[:-2, 1:-1]))

    def jacobi2d(a: Any, steps: Any) -> Any:
        def step(_: Any, ab: Any) -> Any:
            a, b = ab
            b = sweep(a, b)
            return sweep(b, a), b

        return jax.lax.fori_loop(1, steps, step, (a, a))[0]

    return jacobi2d


@written("heat 3-D")
def _(jax: Any) -> Function:
    def heat3d(u: Any, steps: Any) -> Any:
        def step(_: Any, u: Any) -> Any:
            c = u[1:-1, 1:-1, 1:-1]
            new = (
                0.125 * (u[2:, 1:-1, 1:-1] - 2.0 * c + u[:-2, 1:-1, 1:-1])
                + 0.125 * (u[1:-1, 2:, 1:-1] - 2.0 * c + u[1:-1, :-2, 1:-1])
                + 0.125 * (u[1:-1, 1:-1, 2:] - 2.0 * c + u[1:-1, 1:-1, :-2])
                + c
            )
            return u.at[1:-1, 1:-1, 1:-1].set(new)

        return jax.lax.fori_loop(0, steps, step, u)

    return heat3d


@written("Gauss-Seidel")
def _(jax: Any) -> Function:
    def gauss_seidel(u: Any, steps: Any) -> Any:
        n, m = u.shape
        lax = jax.lax

        def column(j: Any, carry: Any) -> Any:
            i, u = carry
            return i, u.at[i, j].set(0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1]))

        def row(i: Any, u: Any) -> Any:
            return lax.fori_loop(1, m - 1, column, (i, u))[1]

        return lax.fori_loop(0, steps, lambda _, u: lax.fori_loop(1, n - 1, row, u), u)

    return gauss_seidel


@written("wave 2-D")
def _(jax: Any) -> Function:
    def wave2d(u: Any, steps: Any, c2: Any) -> Any:
        def step(_: Any, levels: Any) -> Any:
            old, now = levels
            c = now[1:-1, 1:-1]
            near = now[2:, 1:-1] + now[:-2, 1:-1] + now[1:-1, 2:] + now[1:-1, :-2]
            new = jax.numpy.zeros_like(now).at[1:-1, 1:-1].set(2.0 * c - old[1:-1, 1:-1] + c2 * (near - 4.0 * c))
            return now, new

        return jax.lax.fori_loop(0, steps, step, (u, u))[1]

    return wave2d


@written("lattice Boltzmann")
def _(jax: Any) -> Function:
    jnp = jax.numpy
    cx, cy = (0, 1, 0, -1, 0, 1, -1, -1, 1), (0, 0, 1, 0, -1, 1, 1, -1, -1)

    def lattice_boltzmann(f: Any, steps: Any, tau: Any) -> Any:
        w = jnp.array([4 / 9] + [1 / 9] * 4 + [1 / 36] * 4)[:, None, None]
        x, y = jnp.array(cx)[:, None, None], jnp.array(cy)[:, None, None]

        def step(_: Any, f: Any) -> Any:
            f = jnp.stack([jnp.roll(f[k], (cx[k], cy[k]), (0, 1)) for k in range(9)])
            rho = jnp.sum(f, axis=0)
            ux, uy = jnp.sum(x * f, axis=0) / rho, jnp.sum(y * f, axis=0) / rho
            cu = 3.0 * (x * ux + y * uy)
            return f + (w * rho * (1.0 + cu + 0.5 * cu * cu - 1.5 * (ux * ux + uy * uy)) - f) / tau

        return jax.lax.fori_loop(0, steps, step, f)

    return lattice_boltzmann


@written("cavity flow")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def cavity_flow(n: Any, steps: Any, sweeps: Any, nu: Any) -> Any:
        h, dt = 2.0 / (n - 1), 0.001

        def step(_: Any, fields: Any) -> Any:
            u, v, p = fields
            ux, vy = (u[1:-1, 2:] - u[1:-1, :-2]) / (2.0 * h), (v[2:, 1:-1] - v[:-2, 1:-1]) / (2.0 * h)
            uy, vx = (u[2:, 1:-1] - u[:-2, 1:-1]) / (2.0 * h), (v[1:-1, 2:] - v[1:-1, :-2]) / (2.0 * h)
            b = (ux + vy) / dt - ux * ux - 2.0 * uy * vx - vy * vy

            def sweep(_: Any, p: Any) -> Any:
                near = p[1:-1, 2:] + p[1:-1, :-2] + p[2:, 1:-1] + p[:-2, 1:-1]
                p = p.at[1:-1, 1:-1].set(0.25 * (near - h * h * b))
                p = p.at[:, -1].set(p[:, -2])
                p = p.at[0, :].set(p[1, :])
                p = p.at[:, 0].set(p[:, 1])
                return p.at[-1, :].set(0.0)

            p = jax.lax.fori_loop(0, sweeps, sweep, p)
            x, y = u[1:-1, 1:-1], v[1:-1, 1:-1]

            def moved(w: Any, push: Any) -> Any:
                c = w[1:-1, 1:-1]
                near = w[1:-1, 2:] + w[1:-1, :-2] + w[2:, 1:-1] + w[:-2, 1:-1] - 4.0 * c
                new = c - x * dt / h * (c - w[1:-1, :-2]) - y * dt / h * (c - w[:-2, 1:-1])
                return w.at[1:-1, 1:-1].set(new - dt / (2.0 * h) * push + nu * dt / (h * h) * near)

            new_u = moved(u, p[1:-1, 2:] - p[1:-1, :-2]).at[-1, :].set(1.0)
            return new_u, moved(v, p[2:, 1:-1] - p[:-2, 1:-1]), p

        return jax.lax.fori_loop(0, steps, step, (jnp.zeros((n, n)),) * 3)

    return cavity_flow


@written("game of life")
def _(jax: Any) -> Function:
    def life(board: Any, steps: Any) -> Any:
        def step(_: Any, b: Any) -> Any:
            near = b[:-2, :-2] + b[:-2, 1:-1] + b[:-2, 2:] + b[1:-1, :-2] + b[1:-1, 2:]
            near = near + b[2:, :-2] + b[2:, 1:-1] + b[2:, 2:]
            inner = ((near == 3) | ((b[1:-1, 1:-1] == 1) & (near == 2))).astype(b.dtype)
            return jax.numpy.zeros_like(b).at[1:-1, 1:-1].set(inner)

        return jax.lax.fori_loop(0, steps, step, board)

    return life


@written("image convolution")
def _(jax: Any) -> Function:
    def convolve(image: Any, kernel: Any) -> Any:
        return jax.lax.conv_general_dilated(image[None, None], kernel[None, None], (1, 1), "VALID")[0, 0]

    return convolve


@written("Cholesky")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def cholesky(a: Any) -> Any:
        n = a.shape[0]
        k = jnp.arange(n)

        def column(j: Any, carry: Any) -> Any:
            i, a = carry
            s = jnp.dot(jnp.where(k < j, a[i], 0.0), a[j])
            return i, a.at[i, j].set((a[i, j] - s) / a[j, j])

        def row(i: Any, a: Any) -> Any:
            _, a = jax.lax.fori_loop(0, i, column, (i, a))
            left = jnp.where(k < i, a[i], 0.0)
            return a.at[i, i].set(jnp.sqrt(a[i, i] - jnp.dot(left, left)))

        return jnp.tril(jax.lax.fori_loop(0, n, row, a))

    return cholesky


def _cholesky_static(jax: Any) -> Function:
    """Inner loop over all columns under a mask: reverse mode needs trip counts that are known."""
    jnp = jax.numpy

    def cholesky(a: Any) -> Any:
        n = a.shape[0]
        k = jnp.arange(n)

        def column(j: Any, carry: Any) -> Any:
            i, a = carry
            s = jnp.dot(jnp.where(k < j, a[i], 0.0), a[j])
            return i, a.at[i, j].set(jnp.where(j < i, (a[i, j] - s) / a[j, j], a[i, j]))

        def row(i: Any, a: Any) -> Any:
            _, a = jax.lax.fori_loop(0, n, column, (i, a))
            left = jnp.where(k < i, a[i], 0.0)
            return a.at[i, i].set(jnp.sqrt(a[i, i] - jnp.dot(left, left)))

        return jnp.tril(jax.lax.fori_loop(0, n, row, a))

    return cholesky


REVERSIBLE["Cholesky"] = _cholesky_static


@written("LU")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def lu(a: Any) -> Any:
        n = a.shape[0]
        index = jnp.arange(n)

        def step(k: Any, a: Any) -> Any:
            below = index > k
            f = jnp.where(below, a[:, k] / a[k, k], 0.0)
            a = a - f[:, None] * jnp.where(below, a[k], 0.0)
            return a.at[:, k].set(jnp.where(below, f, a[:, k]))

        return jax.lax.fori_loop(0, n - 1, step, a)

    return lu


@written("Gram-Schmidt QR")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def gram_schmidt(a: Any) -> Any:
        n = a.shape[1]
        index = jnp.arange(n)

        def step(k: Any, carry: Any) -> Any:
            a, q, r = carry
            norm = jnp.sqrt(jnp.dot(a[:, k], a[:, k]))
            unit = a[:, k] / norm
            row = jnp.where(index > k, unit @ a, 0.0)
            return a - unit[:, None] * row, q.at[:, k].set(unit), r.at[k].set(row.at[k].set(norm))

        return jax.lax.fori_loop(0, n, step, (a, jnp.zeros_like(a), jnp.zeros((n, n))))[1:]

    return gram_schmidt


@written("forward substitution")
def _(jax: Any) -> Function:
    def forward_substitution(a: Any, b: Any) -> Any:
        def step(i: Any, x: Any) -> Any:
            return x.at[i].set((b[i] - jax.numpy.dot(a[i], x)) / a[i, i])  # x is zero from i on

        return jax.lax.fori_loop(0, b.shape[0], step, jax.numpy.zeros_like(b))

    return forward_substitution


@written("back substitution")
def _(jax: Any) -> Function:
    def back_substitution(a: Any, b: Any) -> Any:
        n = b.shape[0]

        def step(t: Any, x: Any) -> Any:
            i = n - 1 - t
            return x.at[i].set((b[i] - jax.numpy.dot(a[i], x)) / a[i, i])

        return jax.lax.fori_loop(0, n, step, jax.numpy.zeros_like(b))

    return back_substitution


@written("tridiagonal")
def _(jax: Any) -> Function:
    def thomas(lower: Any, diagonal: Any, upper: Any, rhs: Any) -> Any:
        def down(carry: Any, row: Any) -> Any:
            c, d = carry
            lo, di, up, r = row
            pivot = di - lo * c
            new = up / pivot, (r - lo * d) / pivot
            return new, new

        first = upper[0] / diagonal[0], rhs[0] / diagonal[0]
        rest = tuple(v[1:] for v in (lower, diagonal, upper, rhs))
        _, (c, d) = jax.lax.scan(down, first, rest)
        c = jax.numpy.concatenate([first[0][None], c])
        d = jax.numpy.concatenate([first[1][None], d])

        def up_again(x: Any, row: Any) -> Any:
            x = row[1] - row[0] * x
            return x, x

        _, x = jax.lax.scan(up_again, d[-1], (c[:-1], d[:-1]), reverse=True)
        return jax.numpy.concatenate([x, d[-1:]])

    return thomas


@written("sparse matvec")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def sparse_matvec(indptr: Any, columns: Any, values: Any, x: Any) -> Any:
        n = indptr.shape[0] - 1
        rows = jnp.searchsorted(indptr, jnp.arange(values.shape[0]), side="right") - 1
        return jax.ops.segment_sum(values * x[columns], rows, n, indices_are_sorted=True)

    return sparse_matvec


@written("power iteration")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def power_iteration(a: Any, v: Any, steps: Any) -> Any:
        def step(_: Any, v: Any) -> Any:
            w = a @ v
            return w / jnp.sqrt(jnp.sum(w * w))

        v = jax.lax.fori_loop(0, steps, step, v / jnp.sqrt(jnp.sum(v * v)))
        return jnp.dot(v, a @ v)

    return power_iteration


@written("conjugate gradient")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def conjugate_gradient(a: Any, b: Any, tolerance: Any) -> Any:
        def step(carry: Any) -> Any:
            x, r, p, rs = carry
            q = a @ p
            alpha = rs / jnp.dot(p, q)
            x, r = x + alpha * p, r - alpha * q
            new = jnp.dot(r, r)
            return x, r, r + (new / rs) * p, new

        x = jnp.zeros_like(b)
        r = b - a @ x
        return jax.lax.while_loop(lambda c: c[3] > tolerance, step, (x, r, r, jnp.dot(r, r)))[0]

    return conjugate_gradient


@written("Levinson-Durbin")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def levinson_durbin(r: Any) -> Any:
        n = r.shape[0]
        index = jnp.arange(n)

        def step(k: Any, carry: Any) -> Any:
            y, alpha, beta = carry
            beta = beta * (1.0 - alpha * alpha)
            inside = index < k
            flipped = jnp.where(inside, jnp.take(r, k - 1 - index, mode="clip"), 0.0)
            alpha = -(r[k] + jnp.dot(flipped, y)) / beta
            y = y + alpha * jnp.where(inside, jnp.take(y, k - 1 - index, mode="clip"), 0.0)
            return y.at[k].set(alpha), alpha, beta

        start = (jnp.zeros_like(r).at[0].set(-r[0]), -r[0], jnp.ones(()))
        return jax.lax.fori_loop(1, n, step, start)[0]

    return levinson_durbin


@written("Floyd-Warshall")
def _(jax: Any) -> Function:
    def floyd_warshall(d: Any) -> Any:
        def step(k: Any, d: Any) -> Any:
            return jax.numpy.minimum(d, d[:, k][:, None] + d[k])

        return jax.lax.fori_loop(0, d.shape[0], step, d)

    return floyd_warshall


@written("histogram loop")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def histogram(x: Any, low: Any, high: Any, bins: Any) -> Any:
        at = ((x - low) / (high - low) * bins).astype(jnp.int64)
        inside = (low <= x) & (x < high)
        return jnp.zeros(bins, jnp.int64).at[jnp.where(inside, at, bins)].add(1, mode="drop")

    return histogram


@written("CRC-16")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def crc16(data: Any) -> Any:
        def bit(_: Any, crc: Any) -> Any:
            return jnp.where(crc & 0x8000, (crc << 1) ^ 0x1021, crc << 1) & 0xFFFF

        def byte(crc: Any, value: Any) -> Any:
            return jax.lax.fori_loop(0, 8, bit, crc ^ (value << 8), unroll=True), None

        return jax.lax.scan(byte, jnp.asarray(0xFFFF, jnp.int64), data.astype(jnp.int64))[0]

    return crc16


@written("sieve")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def sieve(n: Any) -> Any:
        index = jnp.arange(n + 1)

        def step(i: Any, prime: Any) -> Any:
            def strike(prime: Any) -> Any:
                return jax.lax.fori_loop(0, (n - i * i) // i + 1, lambda k, p: p.at[i * i + k * i].set(False), prime)

            return jax.lax.cond(prime[i], strike, lambda p: p, prime)

        root = int(n**0.5)
        return jax.lax.fori_loop(2, root + 1, step, index > 1)

    return sieve


@written("connected components")
def _(jax: Any) -> Function:
    jnp, lax = jax.numpy, jax.lax

    def connected_components(image: Any) -> Any:
        n, m = image.shape
        labels = jnp.where(image, jnp.arange(1, n * m + 1).reshape(n, m), 0)
        big = n * m + 1

        def cell(q: Any, carry: Any) -> Any:
            labels, changed = carry
            i, j = q // m, q % m
            mine = labels[i, j]

            def seen(a: Any, b: Any) -> Any:
                inside = (a >= 0) & (a < n) & (b >= 0) & (b < m)
                v = labels[jnp.clip(a, 0, n - 1), jnp.clip(b, 0, m - 1)]
                return jnp.where(inside & (v > 0), v, big)

            near = jnp.minimum(jnp.minimum(seen(i - 1, j), seen(i, j - 1)), jnp.minimum(seen(i + 1, j), seen(i, j + 1)))
            low = jnp.where(mine > 0, jnp.minimum(mine, near), mine)
            return labels.at[i, j].set(low), changed | (low < mine)

        def sweep(carry: Any) -> Any:
            return lax.fori_loop(0, n * m, cell, (carry[0], jnp.asarray(False)))

        return lax.while_loop(lambda c: c[1], sweep, (labels, jnp.asarray(True)))[0]

    return connected_components


@written("k-means")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def kmeans(x: Any, centres: Any, steps: Any) -> Any:
        k = centres.shape[0]

        def step(_: Any, c: Any) -> Any:
            nearest = jnp.argmin(jnp.sum((x[:, None, :] - c[None, :, :]) ** 2, axis=-1), axis=1)
            mine = jax.nn.one_hot(nearest, k, dtype=x.dtype)
            counts = jnp.sum(mine, axis=0)[:, None]
            return jnp.where(counts > 0.0, mine.T @ x / jnp.maximum(counts, 1.0), c)

        return jax.lax.fori_loop(0, steps, step, centres)

    return kmeans


@written("mask update")
def _(jax: Any) -> Function:
    jnp = jax.numpy
    return lambda x, threshold: jnp.where(x > threshold, jnp.sqrt(x) + threshold, 0.5 * x)


@written("insertion sort")
def _(jax: Any) -> Function:
    lax = jax.lax

    def insertion_sort(x: Any) -> Any:
        def insert(i: Any, x: Any) -> Any:
            v = x[i]

            def larger(c: Any) -> Any:
                return (c[1] >= 0) & (c[0][c[1]] > v)

            def shift(c: Any) -> Any:
                x, j = c
                return x.at[j + 1].set(x[j]), j - 1

            x, j = lax.while_loop(larger, shift, (x, i - 1))
            return x.at[j + 1].set(v)

        return lax.fori_loop(1, x.shape[0], insert, x)

    return insertion_sort


@written("n-body")
def _(jax: Any) -> Function:
    from tests.programs.kernels_dynamics import accelerations

    force = rebound(accelerations, np=jax.numpy)

    def nbody(x: Any, v: Any, mass: Any, steps: Any, dt: Any) -> Any:
        def step(_: Any, carry: Any) -> Any:
            x, v, a = carry
            v = v + 0.5 * dt * a
            x = x + dt * v
            a = force(x, mass)
            return x, v + 0.5 * dt * a, a

        return jax.lax.fori_loop(0, steps, step, (x, v, force(x, mass)))[:2]

    return nbody


@written("molecular dynamics")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def forces(x: Any) -> Any:
        n = x.shape[0]
        d = x[:, None, :] - x[None, :, :]
        eye = jnp.eye(n)
        r2 = jnp.sum(d * d, axis=-1) + eye
        s6 = 1.0 / (r2 * r2 * r2)
        f = 24.0 * (2.0 * s6 * s6 - s6) / r2 * (1.0 - eye)
        return jnp.sum(f[:, :, None] * d, axis=1), 2.0 * jnp.sum((s6 * s6 - s6) * (1.0 - eye))

    def molecular_dynamics(x: Any, v: Any, steps: Any, dt: Any) -> Any:
        def step(carry: Any, _: Any) -> Any:
            x, v, f = carry
            v = v + 0.5 * dt * f
            x = x + dt * v
            f, potential = forces(x)
            v = v + 0.5 * dt * f
            return (x, v, f), potential + 0.5 * jnp.sum(v * v)

        (x, v, _), energies = jax.lax.scan(step, (x, v, forces(x)[0]), length=steps)
        return x, energies

    return molecular_dynamics


@written("Runge-Kutta 4")
def _(jax: Any) -> Function:
    from tests.programs.kernels_dynamics import lorenz

    f = rebound(lorenz, np=jax.numpy)

    def runge_kutta4(s: Any, sigma: Any, rho: Any, beta: Any, steps: Any, dt: Any) -> Any:
        def step(s: Any, _: Any) -> Any:
            k1 = f(s, sigma, rho, beta)
            k2 = f(s + 0.5 * dt * k1, sigma, rho, beta)
            k3 = f(s + 0.5 * dt * k2, sigma, rho, beta)
            k4 = f(s + dt * k3, sigma, rho, beta)
            s = s + dt / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
            return s, s

        return jax.numpy.concatenate([s[None], jax.lax.scan(step, s, length=steps)[1]])

    return runge_kutta4


@written("adaptive Heun")
def _(jax: Any) -> Function:
    from tests.programs.kernels_dynamics import pendulum

    jnp = jax.numpy
    f = rebound(pendulum, np=jnp)

    def adaptive_heun(y: Any, damping: Any, end: Any, tolerance: Any) -> Any:
        def step(carry: Any) -> Any:
            y, t, dt = carry
            dt = jnp.minimum(dt, end - t)
            k1 = f(y, damping)
            k2 = f(y + dt * k1, damping)
            error = jnp.sqrt(jnp.sum((0.5 * dt * (k2 - k1)) ** 2))
            good = error <= tolerance
            y, t = jnp.where(good, y + 0.5 * dt * (k1 + k2), y), jnp.where(good, t + dt, t)
            return y, t, dt * jnp.clip(0.9 * jnp.sqrt(tolerance / (error + 1e-30)), 0.2, 2.0)

        return jax.lax.while_loop(lambda c: c[1] < end - 1e-12, step, (y, jnp.zeros(()), jnp.asarray(0.05)))[0]

    return adaptive_heun


@written("Newton for Kepler")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def newton(anomaly: Any, e: Any) -> Any:
        def step(carry: Any) -> Any:
            x, k, _ = carry
            d = (x - e * jnp.sin(x) - anomaly) / (1.0 - e * jnp.cos(x))
            return x - d, k + 1, jnp.max(jnp.abs(d))

        start = (anomaly + e * jnp.sin(anomaly), 0, jnp.asarray(1.0))
        return jax.lax.while_loop(lambda c: (c[1] < 50) & (c[2] >= 1e-14), step, start)[0]

    return newton


@written("bisection")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def bisection(a: Any, target: Any) -> Any:
        def step(_: Any, bracket: Any) -> Any:
            low, high = bracket
            middle = 0.5 * (low + high)
            above = middle + a * middle**3 > target
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        low, high = jax.lax.fori_loop(0, 60, step, (jnp.full_like(target, -10.0), jnp.full_like(target, 10.0)))
        return 0.5 * (low + high)

    return bisection


@written("random walk")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def random_walk(noise: Any, drift: Any) -> Any:
        def step(x: Any, z: Any) -> Any:
            x = x + drift + 0.1 * z
            x = jnp.where(x > 1.0, 2.0 - x, jnp.where(x < -1.0, -2.0 - x, x))
            return x, x

        return jnp.concatenate([jnp.zeros(1), jax.lax.scan(step, jnp.zeros(()), noise)[1]])

    return random_walk


@written("Mandelbrot")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def mandelbrot(re: Any, im: Any, limit: Any) -> Any:
        def point(a: Any, b: Any) -> Any:
            def step(c: Any) -> Any:
                x, y, k = c
                return x * x - y * y + a, 2.0 * x * y + b, k + 1

            start = (jnp.zeros(()), jnp.zeros(()), jnp.zeros((), jnp.int64))
            return jax.lax.while_loop(lambda c: (c[2] < limit) & (c[0] ** 2 + c[1] ** 2 <= 4.0), step, start)[2]

        return jax.vmap(lambda b: jax.vmap(lambda a: point(a, b))(re))(im)

    return mandelbrot


def _by_rows(jax: Any, first: Any, cell: Any, a: Any, left: Any, b: Any) -> Any:
    """Dynamic programming over rows: `cell(up_left, up, left, a_i, b_j)`, a scan in a scan."""
    jnp = jax.numpy

    def row(above: Any, ai: Any) -> Any:
        value, start = ai

        def column(last: Any, at: Any) -> Any:
            up_left, up, bj = at
            new = cell(up_left, up, last, value, bj)
            return new, new

        _, rest = jax.lax.scan(column, start, (above[:-1], above[1:], b))
        new = jnp.concatenate([start[None], rest])
        return new, jnp.max(new)

    return jax.lax.scan(row, first, (a, left))


@written("edit distance")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def edit_distance(a: Any, b: Any) -> Any:
        def cell(up_left: Any, up: Any, left: Any, x: Any, y: Any) -> Any:
            return jnp.minimum(jnp.minimum(up + 1, left + 1), up_left + (x != y))

        first = jnp.arange(b.shape[0] + 1)
        return _by_rows(jax, first, cell, a, jnp.arange(1, a.shape[0] + 1), b)[0][-1]

    return edit_distance


@written("Smith-Waterman")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def smith_waterman(a: Any, b: Any, match: Any, mismatch: Any, gap: Any) -> Any:
        def cell(up_left: Any, up: Any, left: Any, x: Any, y: Any) -> Any:
            best = jnp.maximum(0.0, up_left + jnp.where(x == y, match, mismatch))
            return jnp.maximum(best, jnp.maximum(up + gap, left + gap))

        best = _by_rows(jax, jnp.zeros(b.shape[0] + 1), cell, a, jnp.zeros(a.shape[0]), b)[1]
        return jnp.maximum(jnp.max(best), 0.0)

    return smith_waterman


@written("soft DTW")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def soft_dtw(x: Any, y: Any, gamma: Any) -> Any:
        def cell(up_left: Any, up: Any, left: Any, a: Any, b: Any) -> Any:
            low = jnp.minimum(up_left, jnp.minimum(up, left))
            total = jnp.exp((low - up_left) / gamma) + jnp.exp((low - up) / gamma) + jnp.exp((low - left) / gamma)
            return (a - b) ** 2 + low - gamma * jnp.log(total)

        first = jnp.full(y.shape[0] + 1, 1e10).at[0].set(0.0)
        return _by_rows(jax, first, cell, x, jnp.full(x.shape[0], 1e10), y)[0][-1]

    return soft_dtw


@written("Kalman filter")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def kalman_filter(z: Any, f: Any, h: Any, q: Any, r: Any) -> Any:
        def step(carry: Any, zt: Any) -> Any:
            x, p = carry
            x, p = f @ x, f @ p @ f.T + q
            k = p @ h / (h @ p @ h + r)
            x = x + k * (zt - h @ x)
            return (x, p - jnp.outer(k, h @ p)), x

        return jax.lax.scan(step, (jnp.zeros(f.shape[0]), jnp.eye(f.shape[0])), z)[1]

    return kalman_filter


@written("HMM forward")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def hmm_forward(initial: Any, transition: Any, emission: Any, seen: Any) -> Any:
        def step(alpha: Any, o: Any) -> Any:
            alpha = (alpha @ transition) * emission[:, o]
            total = jnp.sum(alpha)
            return alpha / total, jnp.log(total)

        alpha = initial * emission[:, seen[0]]
        total = jnp.sum(alpha)
        _, logs = jax.lax.scan(step, alpha / total, seen[1:])
        return jnp.log(total) + jnp.sum(logs)

    return hmm_forward


@written("Viterbi")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def viterbi(initial: Any, transition: Any, emission: Any, seen: Any) -> Any:
        def down(score: Any, o: Any) -> Any:
            candidates = score[:, None] + transition
            return jnp.max(candidates, axis=0) + emission[:, o], jnp.argmax(candidates, axis=0)

        score, back = jax.lax.scan(down, initial + emission[:, seen[0]], seen[1:])
        last = jnp.argmax(score)
        _, path = jax.lax.scan(lambda s, row: (row[s], row[s]), last, back, reverse=True)
        return jnp.concatenate([path, last[None]]), jnp.max(score)

    return viterbi


@written("RNN")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def rnn(x: Any, h: Any, w: Any, u: Any, b: Any) -> Any:
        return jax.lax.scan(lambda h, xw: (jnp.tanh(xw + h @ u), None), h, x @ w + b)[0]

    return rnn


@written("LSTM")
def _(jax: Any) -> Function:
    jnp = jax.numpy

    def lstm(x: Any, w: Any, u: Any, b: Any) -> Any:
        def step(carry: Any, xw: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(xw + h @ u, 4)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros(u.shape[0])
        return jax.lax.scan(step, (zero, zero), x @ w + b)[1]

    return lstm


@written("prefix sums")
def _(jax: Any) -> Function:
    def prefix_sums(s: Any) -> Any:
        d = 1
        while d < s.shape[0]:
            s = s.at[d:].add(s[:-d])
            d *= 2
        return s

    return prefix_sums


@written("running sum")
def _(jax: Any) -> Function:
    return jax.numpy.cumsum


@written("exponential average")
def _(jax: Any) -> Function:
    def average(x: Any, alpha: Any) -> Any:
        def step(y: Any, v: Any) -> Any:
            y = alpha * v + (1.0 - alpha) * y
            return y, y

        return jax.numpy.concatenate([x[:1], jax.lax.scan(step, x[0], x[1:])[1]])

    return average


@written("Horner")
def _(jax: Any) -> Function:
    def horner(coefficients: Any, x: Any) -> Any:
        n = coefficients.shape[0]

        def step(t: Any, y: Any) -> Any:
            return y * x + coefficients[n - 1 - t]

        return jax.lax.fori_loop(0, n, step, jax.numpy.zeros_like(x), unroll=True)

    return horner
