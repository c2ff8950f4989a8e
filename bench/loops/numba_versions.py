"""The programs under numba: the same text where numba takes it well, loops where its users would write loops."""

from __future__ import annotations

import dis
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.workload import Function

Builder = Callable[[Any, Any], Function]
WRITTEN: dict[str, Builder] = {}


def same_text(fn: Function) -> Builder:
    """`fn` itself under `jit`, and the functions that it calls. For one thread: its text has no parallel loops, and
    what numba divides by itself in turns of microseconds takes up to a thousand times as long, or does not end."""

    def build(jit: Any, prange: Any) -> Function:
        if prange is not range:
            raise LookupError("no version")

        def compiled(f: types.FunctionType) -> Function:
            scope = dict(f.__globals__)
            for instruction in dis.get_instructions(f):
                value = scope.get(instruction.argval) if instruction.opname == "LOAD_GLOBAL" else None
                if isinstance(value, types.FunctionType) and value.__module__ == f.__module__:
                    scope[instruction.argval] = compiled(value)
            made: Function = jit(types.FunctionType(f.__code__, scope, f.__name__, f.__defaults__, f.__closure__))
            return made

        assert isinstance(fn, types.FunctionType)
        return compiled(fn)

    return build


def written(name: str) -> Callable[[Builder], Builder]:
    def keep(build: Builder) -> Builder:
        WRITTEN[name] = build
        return build

    return keep


@written("heat 1-D")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def heat1d(u0: Any, steps: Any, c: Any) -> Any:
        u, w = u0.copy(), u0.copy()
        for _ in range(steps):
            for i in range(1, u.size - 1):
                w[i] = u[i] + c * (u[i + 1] - 2.0 * u[i] + u[i - 1])
            u, w = w, u
        return u

    return heat1d


@written("Jacobi 2-D")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def sweep(a: Any, b: Any) -> None:
        for i in prange(1, a.shape[0] - 1):
            for j in range(1, a.shape[1] - 1):
                b[i, j] = 0.2 * (a[i, j] + a[i, j - 1] + a[i, j + 1] + a[i + 1, j] + a[i - 1, j])

    @jit
    def jacobi2d(a0: Any, steps: Any) -> Any:
        a, b = a0.copy(), a0.copy()
        for _ in range(1, steps):
            sweep(a, b)
            sweep(b, a)
        return a

    return jacobi2d


@written("heat 3-D")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def heat3d(u0: Any, steps: Any) -> Any:
        u, w = u0.copy(), u0.copy()
        n, m, l = u.shape  # noqa: E741
        for _ in range(steps):
            for i in prange(1, n - 1):
                for j in range(1, m - 1):
                    for k in range(1, l - 1):
                        c = u[i, j, k]
                        w[i, j, k] = (
                            0.125 * (u[i + 1, j, k] - 2.0 * c + u[i - 1, j, k])
                            + 0.125 * (u[i, j + 1, k] - 2.0 * c + u[i, j - 1, k])
                            + 0.125 * (u[i, j, k + 1] - 2.0 * c + u[i, j, k - 1])
                            + c
                        )
            u, w = w, u
        return u

    return heat3d


@written("wave 2-D")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def wave2d(u0: Any, steps: Any, c2: Any) -> Any:
        old, now, new = u0.copy(), u0.copy(), np.zeros_like(u0)
        n, m = u0.shape
        for _ in range(steps):
            for i in prange(1, n - 1):
                for j in range(1, m - 1):
                    near = now[i + 1, j] + now[i - 1, j] + now[i, j + 1] + now[i, j - 1]
                    new[i, j] = 2.0 * now[i, j] - old[i, j] + c2 * (near - 4.0 * now[i, j])
            old, now, new = now, new, old
            new[0, :] = 0.0
            new[n - 1, :] = 0.0
            new[:, 0] = 0.0
            new[:, m - 1] = 0.0
        return now

    return wave2d


@written("lattice Boltzmann")
def _(jit: Any, prange: Any) -> Function:
    cx = np.array([0, 1, 0, -1, 0, 1, -1, -1, 1])
    cy = np.array([0, 0, 1, 0, -1, 1, 1, -1, -1])
    w = np.array([4 / 9] + [1 / 9] * 4 + [1 / 36] * 4)

    @jit
    def lattice_boltzmann(f0: Any, steps: Any, tau: Any) -> Any:
        f, g = f0.copy(), np.empty_like(f0)
        n, m = f.shape[1:]
        for _ in range(steps):
            for k in range(9):
                for i in prange(n):
                    s = i - cx[k]
                    s = s + n if s < 0 else s - n if s >= n else s
                    for j in range(m):
                        t = j - cy[k]
                        t = t + m if t < 0 else t - m if t >= m else t
                        g[k, i, j] = f[k, s, t]
            for i in prange(n):
                for j in range(m):
                    rho = 0.0
                    for k in range(9):
                        rho += g[k, i, j]
                    ux = (g[1, i, j] - g[3, i, j] + g[5, i, j] - g[6, i, j] - g[7, i, j] + g[8, i, j]) / rho
                    uy = (g[2, i, j] - g[4, i, j] + g[5, i, j] + g[6, i, j] - g[7, i, j] - g[8, i, j]) / rho
                    square = 1.5 * (ux * ux + uy * uy)
                    for k in range(9):
                        cu = 3.0 * (cx[k] * ux + cy[k] * uy)
                        target = w[k] * rho * (1.0 + cu + 0.5 * cu * cu - square)
                        f[k, i, j] = g[k, i, j] + (target - g[k, i, j]) / tau
        return f

    return lattice_boltzmann


@written("cavity flow")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def cavity_flow(n: Any, steps: Any, sweeps: Any, nu: Any) -> Any:
        h = 2.0 / (n - 1)
        dt = 0.001
        u, v, p, b = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
        pn, un, vn = np.zeros((n, n)), np.zeros((n, n)), np.zeros((n, n))
        for _ in range(steps):
            for i in prange(1, n - 1):
                for j in range(1, n - 1):
                    ux, vy = (u[i, j + 1] - u[i, j - 1]) / (2.0 * h), (v[i + 1, j] - v[i - 1, j]) / (2.0 * h)
                    uy, vx = (u[i + 1, j] - u[i - 1, j]) / (2.0 * h), (v[i, j + 1] - v[i, j - 1]) / (2.0 * h)
                    b[i, j] = (ux + vy) / dt - ux * ux - 2.0 * uy * vx - vy * vy
            for _ in range(sweeps):
                pn[:] = p
                for i in prange(1, n - 1):
                    for j in range(1, n - 1):
                        near = pn[i, j + 1] + pn[i, j - 1] + pn[i + 1, j] + pn[i - 1, j]
                        p[i, j] = 0.25 * (near - h * h * b[i, j])
                p[:, n - 1] = p[:, n - 2]
                p[0, :] = p[1, :]
                p[:, 0] = p[:, 1]
                p[n - 1, :] = 0.0
            un[:] = u
            vn[:] = v
            d = nu * dt / (h * h)
            for i in prange(1, n - 1):
                for j in range(1, n - 1):
                    x, y = un[i, j], vn[i, j]
                    a, c = x * dt / h, y * dt / h
                    near = un[i, j + 1] + un[i, j - 1] + un[i + 1, j] + un[i - 1, j]
                    push = dt / (2.0 * h) * (p[i, j + 1] - p[i, j - 1])
                    u[i, j] = x - a * (x - un[i, j - 1]) - c * (x - un[i - 1, j]) - push + d * (near - 4.0 * x)
                    near = vn[i, j + 1] + vn[i, j - 1] + vn[i + 1, j] + vn[i - 1, j]
                    push = dt / (2.0 * h) * (p[i + 1, j] - p[i - 1, j])
                    v[i, j] = y - a * (y - vn[i, j - 1]) - c * (y - vn[i - 1, j]) - push + d * (near - 4.0 * y)
            u[n - 1, :] = 1.0
        return u, v, p

    return cavity_flow


@written("game of life")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def life(board: Any, steps: Any) -> Any:
        b, new = board.copy(), np.zeros_like(board)
        n, m = b.shape
        for _ in range(steps):
            for i in prange(1, n - 1):
                for j in range(1, m - 1):
                    near = b[i - 1, j - 1] + b[i - 1, j] + b[i - 1, j + 1] + b[i, j - 1]
                    near += b[i, j + 1] + b[i + 1, j - 1] + b[i + 1, j] + b[i + 1, j + 1]
                    new[i, j] = (near == 3) | ((b[i, j] == 1) & (near == 2))
            b, new = new, b
            new[0, :] = 0
            new[n - 1, :] = 0
            new[:, 0] = 0
            new[:, m - 1] = 0
        return b

    return life


@written("image convolution")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def convolve(image: Any, kernel: Any) -> Any:
        kh, kw = kernel.shape
        out = np.zeros((image.shape[0] - kh + 1, image.shape[1] - kw + 1))
        for i in prange(out.shape[0]):
            for a in range(kh):
                for b in range(kw):
                    v = kernel[a, b]
                    for j in range(out.shape[1]):
                        out[i, j] += v * image[i + a, j + b]
        return out

    return convolve


@written("Cholesky")
def _(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def cholesky(a: Any) -> Any:
        n = a.shape[0]
        l = np.zeros_like(a)  # noqa: E741
        for i in range(n):
            for j in range(i + 1):
                s = a[i, j]
                for k in range(j):
                    s -= l[i, k] * l[j, k]
                l[i, j] = np.sqrt(s) if i == j else s / l[j, j]
        return l

    return cholesky


@written("LU")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def lu(a0: Any) -> Any:
        a = a0.copy()
        n = a.shape[0]
        for k in range(n - 1):
            for i in prange(k + 1, n):
                f = a[i, k] / a[k, k]
                a[i, k] = f
                for j in range(k + 1, n):
                    a[i, j] -= f * a[k, j]
        return a

    return lu


@written("Gram-Schmidt QR")
def _(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def gram_schmidt(a0: Any) -> Any:
        a = a0.copy()
        m, n = a.shape
        q, r = np.zeros_like(a), np.zeros((n, n))
        for k in range(n):
            s = 0.0
            for i in range(m):
                s += a[i, k] * a[i, k]
            r[k, k] = np.sqrt(s)
            for i in range(m):
                q[i, k] = a[i, k] / r[k, k]
            for i in range(m):
                for j in range(k + 1, n):
                    r[k, j] += q[i, k] * a[i, j]
            for i in range(m):
                for j in range(k + 1, n):
                    a[i, j] -= q[i, k] * r[k, j]
        return q, r

    return gram_schmidt


@written("forward substitution")
def _(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def forward_substitution(l: Any, b: Any) -> Any:  # noqa: E741
        x = np.empty_like(b)
        for i in range(b.size):
            s = b[i]
            for k in range(i):
                s -= l[i, k] * x[k]
            x[i] = s / l[i, i]
        return x

    return forward_substitution


@written("back substitution")
def _(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def back_substitution(u: Any, b: Any) -> Any:
        x = np.empty_like(b)
        for i in range(b.size - 1, -1, -1):
            s = b[i]
            for k in range(i + 1, b.size):
                s -= u[i, k] * x[k]
            x[i] = s / u[i, i]
        return x

    return back_substitution


@written("sparse matvec")
def _(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def sparse_matvec(indptr: Any, columns: Any, values: Any, x: Any) -> Any:
        y = np.empty(indptr.size - 1)
        for i in prange(y.size):
            s = 0.0
            for k in range(indptr[i], indptr[i + 1]):
                s += values[k] * x[columns[k]]
            y[i] = s
        return y

    return sparse_matvec


@written("Levinson-Durbin")
def _(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def levinson_durbin(r: Any) -> Any:
        y, z = np.zeros_like(r), np.zeros_like(r)
        alpha, beta = -r[0], 1.0
        y[0] = alpha
        for k in range(1, r.size):
            beta *= 1.0 - alpha * alpha
            s = r[k]
            for i in range(k):
                s += r[k - 1 - i] * y[i]
            alpha = -s / beta
            for i in range(k):
                z[i] = y[i] + alpha * y[k - 1 - i]
            for i in range(k):
                y[i] = z[i]
            y[k] = alpha
        return y

    return levinson_durbin


@written("Floyd-Warshall")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def floyd_warshall(d0: Any) -> Any:
        d = d0.copy()
        n = d.shape[0]
        for k in range(n):
            row = d[k].copy()
            for i in prange(n):
                a = d[i, k]
                for j in range(n):
                    d[i, j] = min(d[i, j], a + row[j])
        return d

    return floyd_warshall


@written("k-means")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def kmeans(x: Any, centres: Any, steps: Any) -> Any:
        c = centres.copy()
        k, dim = c.shape
        for _ in range(steps):
            sums, counts = np.zeros_like(c), np.zeros(k)
            for i in range(x.shape[0]):
                best, at = np.inf, 0
                for a in range(k):
                    s = 0.0
                    for d in range(dim):
                        s += (x[i, d] - c[a, d]) ** 2
                    if s < best:
                        best, at = s, a
                counts[at] += 1.0
                for d in range(dim):
                    sums[at, d] += x[i, d]
            for a in range(k):
                if counts[a] > 0.0:
                    for d in range(dim):
                        c[a, d] = sums[a, d] / counts[a]
        return c

    return kmeans


@written("mask update")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def mask_update(x: Any, threshold: Any) -> Any:
        y = np.empty_like(x)
        for i in prange(x.size):
            y[i] = np.sqrt(x[i]) + threshold if x[i] > threshold else 0.5 * x[i]
        return y

    return mask_update


@written("arc distance")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def arc_distance(t1: Any, p1: Any, t2: Any, p2: Any) -> Any:
        out = np.empty_like(t1)
        for i in prange(t1.size):
            a, b = np.sin((t2[i] - t1[i]) / 2.0), np.sin((p2[i] - p1[i]) / 2.0)
            t = a * a + np.cos(t1[i]) * np.cos(t2[i]) * b * b
            out[i] = 2.0 * np.arctan2(np.sqrt(t), np.sqrt(1.0 - t))
        return out

    return arc_distance


@written("n-body")
def _(jit: Any, prange: Any) -> Function:
    @jit.reassoc
    def accelerations(x: Any, mass: Any, a: Any) -> None:
        for i in prange(x.shape[0]):
            ax, ay, az = 0.0, 0.0, 0.0
            for j in range(x.shape[0]):
                dx, dy, dz = x[j, 0] - x[i, 0], x[j, 1] - x[i, 1], x[j, 2] - x[i, 2]
                r2 = dx * dx + dy * dy + dz * dz + 0.01
                f = mass[j] / (r2 * np.sqrt(r2))
                ax += dx * f
                ay += dy * f
                az += dz * f
            a[i, 0], a[i, 1], a[i, 2] = ax, ay, az

    @jit
    def nbody(x0: Any, v0: Any, mass: Any, steps: Any, dt: Any) -> Any:
        x, v, a = x0.copy(), v0.copy(), np.empty_like(x0)
        accelerations(x, mass, a)
        for _ in range(steps):
            v += 0.5 * dt * a
            x += dt * v
            accelerations(x, mass, a)
            v += 0.5 * dt * a
        return x, v

    return nbody


@written("molecular dynamics")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def forces(x: Any, f: Any) -> Any:
        n = x.shape[0]
        f[:] = 0.0
        energy = 0.0
        for i in range(n):
            for j in range(i + 1, n):
                dx, dy, dz = x[i, 0] - x[j, 0], x[i, 1] - x[j, 1], x[i, 2] - x[j, 2]
                r2 = dx * dx + dy * dy + dz * dz
                s6 = 1.0 / (r2 * r2 * r2)
                energy += 4.0 * (s6 * s6 - s6)
                g = 24.0 * (2.0 * s6 * s6 - s6) / r2
                f[i, 0] += g * dx
                f[i, 1] += g * dy
                f[i, 2] += g * dz
                f[j, 0] -= g * dx
                f[j, 1] -= g * dy
                f[j, 2] -= g * dz
        return energy

    @jit
    def molecular_dynamics(x0: Any, v0: Any, steps: Any, dt: Any) -> Any:
        x, v, f = x0.copy(), v0.copy(), np.zeros_like(x0)
        energies = np.zeros(steps)
        forces(x, f)
        for t in range(steps):
            v += 0.5 * dt * f
            x += dt * v
            potential = forces(x, f)
            v += 0.5 * dt * f
            energies[t] = potential + 0.5 * np.sum(v * v)
        return x, energies

    return molecular_dynamics


@written("Newton for Kepler")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def newton(anomaly: Any, e: Any) -> Any:
        out = np.empty_like(anomaly)
        for i in prange(anomaly.size):
            out[i] = anomaly[i] + e * np.sin(anomaly[i])
        for _ in range(50):
            worst = 0.0
            for i in prange(out.size):
                step = (out[i] - e * np.sin(out[i]) - anomaly[i]) / (1.0 - e * np.cos(out[i]))
                out[i] -= step
                worst = max(worst, abs(step))
            if worst < 1e-14:
                break
        return out

    return newton


@written("bisection")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def bisection(a: Any, target: Any) -> Any:
        x = np.empty_like(target)
        for i in prange(x.size):
            low, high = -10.0, 10.0
            for _ in range(60):
                middle = 0.5 * (low + high)
                above = middle + a[i] * middle**3 > target[i]
                high, low = middle if above else high, low if above else middle
            x[i] = 0.5 * (low + high)
        return x

    return bisection


@written("Viterbi")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def viterbi(initial: Any, transition: Any, emission: Any, seen: Any) -> Any:
        steps, n = seen.size, initial.size
        score, back = np.zeros((steps, n)), np.zeros((steps, n), np.int64)
        score[0] = initial + emission[:, seen[0]]
        for t in range(1, steps):
            for j in range(n):
                best, at = score[t - 1, 0] + transition[0, j], 0
                for i in range(1, n):
                    v = score[t - 1, i] + transition[i, j]
                    if v > best:
                        best, at = v, i
                back[t, j] = at
                score[t, j] = best + emission[j, seen[t]]
        path = np.zeros(steps, np.int64)
        path[steps - 1] = np.argmax(score[steps - 1])
        for t in range(steps - 2, -1, -1):
            path[t] = back[t + 1, path[t + 1]]
        return path, np.max(score[steps - 1])

    return viterbi


@written("prefix sums")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def prefix_sums(x: Any) -> Any:
        s = x.copy()
        d = 1
        while d < s.size:
            right, left = s[d:], s[:-d]
            for i in range(right.size - 1, -1, -1):
                right[i] += left[i]
            d *= 2
        return s

    return prefix_sums


@written("running sum")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def running_sum(x: Any) -> Any:
        s = np.empty_like(x)
        total = s[0] = x[0]
        for i in range(1, x.size):
            total += x[i]
            s[i] = total
        return s

    return running_sum


@written("Horner")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def horner(coefficients: Any, x: Any) -> Any:
        y = np.empty_like(x)
        for i in prange(x.size):
            v = 0.0
            for k in range(coefficients.size - 1, -1, -1):
                v = v * x[i] + coefficients[k]
            y[i] = v
        return y

    return horner


@written("sieve")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def sieve(n: Any) -> Any:
        prime = np.ones(n + 1, np.bool_)
        prime[:2] = False
        i = 2
        while i * i <= n:
            if prime[i]:
                for j in range(i * i, n + 1, i):
                    prime[j] = False
            i += 1
        return prime

    return sieve


@written("FFT (Stockham)")
def _(jit: Any, prange: Any) -> Function:
    @jit
    def fft(re: Any, im: Any) -> Any:
        n = re.size
        ar, ai, br, bi = re.copy(), im.copy(), np.empty_like(re), np.empty_like(im)
        wr, wi = np.empty_like(re), np.empty_like(re)
        half, width = n // 2, 1
        while half >= 1:
            for k in range(width):
                angle = -np.pi * k / width
                wr[k], wi[k] = np.cos(angle), np.sin(angle)
            for i in range(half):
                e, o, d = i * width, (i + half) * width, 2 * i * width
                for k in range(width):
                    dr = ar[o + k] * wr[k] - ai[o + k] * wi[k]
                    di = ar[o + k] * wi[k] + ai[o + k] * wr[k]
                    br[d + k], bi[d + k] = ar[e + k] + dr, ai[e + k] + di
                    br[d + width + k], bi[d + width + k] = ar[e + k] - dr, ai[e + k] - di
            ar, br = br, ar
            ai, bi = bi, ai
            half, width = half // 2, 2 * width
        return ar, ai

    return fft
