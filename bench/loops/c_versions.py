"""How each C kernel is called with the program's own arguments. Copies and workspace are made at each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.workload import Function

Builder = Callable[[Any], Function]
FORWARD: dict[str, Builder] = {}
GRADIENT: dict[str, Builder] = {}  # of half the sum of squares, with respect to Program.differentiable


def forward(name: str) -> Callable[[Function], Function]:
    """Registers `run(lib, *args)` as the C peer of a program."""

    def keep(run: Function) -> Function:
        FORWARD[name] = lambda lib: lambda *args: run(lib, *args)
        return run

    return keep


def gradient(name: str) -> Callable[[Function], Function]:
    def keep(run: Function) -> Function:
        GRADIENT[name] = lambda lib: lambda *args: run(lib, *args)
        return run

    return keep


E = np.empty
L = np.empty_like


@forward("heat 1-D")
def _(lib: Any, u0: Any, steps: Any, c: Any) -> Any:
    u = u0.copy()
    lib.heat1d(u, u.size, steps, c, u.copy())
    return u


@forward("Jacobi 2-D")
def _(lib: Any, a0: Any, steps: Any) -> Any:
    a = a0.copy()
    lib.jacobi2d(a, len(a), steps, a.copy())
    return a


@forward("heat 3-D")
def _(lib: Any, u0: Any, steps: Any) -> Any:
    u = u0.copy()
    lib.heat3d(u, len(u), steps, u.copy())
    return u


@forward("Gauss-Seidel")
def _(lib: Any, u0: Any, steps: Any) -> Any:
    u = u0.copy()
    lib.gauss_seidel(u, *u.shape, steps)
    return u


@forward("wave 2-D")
def _(lib: Any, u0: Any, steps: Any, c2: Any) -> Any:
    u = u0.copy()
    lib.wave2d(u, len(u), steps, c2, L(u), L(u))
    return u


@forward("lattice Boltzmann")
def _(lib: Any, f0: Any, steps: Any, tau: Any) -> Any:
    f = f0.copy()
    lib.lattice_boltzmann(f, f.shape[1], steps, tau, L(f))
    return f


@forward("cavity flow")
def _(lib: Any, n: Any, steps: Any, sweeps: Any, nu: Any) -> Any:
    u, v, p = np.zeros((3, n, n))
    lib.cavity_flow(u, v, p, n, steps, sweeps, nu, E((4, n, n)))
    return u, v, p


@forward("game of life")
def _(lib: Any, board: Any, steps: Any) -> Any:
    b = board.copy()
    lib.life(b, len(b), steps, L(b))
    return b


@forward("image convolution")
def _(lib: Any, image: Any, kernel: Any) -> Any:
    h, w = image.shape[0] - kernel.shape[0] + 1, image.shape[1] - kernel.shape[1] + 1
    out = E((h, w))
    lib.convolve_image(image, kernel, out, h, w, *kernel.shape)
    return out


@forward("Cholesky")
def _(lib: Any, a: Any) -> Any:
    a = a.copy()
    lib.cholesky(a, len(a))
    return a


@forward("LU")
def _(lib: Any, a: Any) -> Any:
    a = a.copy()
    lib.lu(a, len(a))
    return a


@forward("Gram-Schmidt QR")
def _(lib: Any, a: Any) -> Any:
    q, r = L(a), E((a.shape[1], a.shape[1]))
    lib.gram_schmidt(a.copy(), q, r, *a.shape)
    return q, r


@forward("forward substitution")
def _(lib: Any, a: Any, b: Any) -> Any:
    x = L(b)
    lib.forward_substitution(a, b, x, b.size)
    return x


@forward("back substitution")
def _(lib: Any, a: Any, b: Any) -> Any:
    x = L(b)
    lib.back_substitution(a, b, x, b.size)
    return x


@forward("tridiagonal")
def _(lib: Any, lower: Any, diagonal: Any, upper: Any, rhs: Any) -> Any:
    x = L(rhs)
    lib.thomas(lower, diagonal, upper, rhs, x, rhs.size, L(rhs))
    return x


@forward("sparse matvec")
def _(lib: Any, indptr: Any, columns: Any, values: Any, x: Any) -> Any:
    y = E(indptr.size - 1)
    lib.sparse_matvec(indptr, columns, values, x, y, y.size)
    return y


@forward("power iteration")
def _(lib: Any, a: Any, v: Any, steps: Any) -> Any:
    return lib.power_iteration(a, v.copy(), v.size, steps, L(v))


@forward("conjugate gradient")
def _(lib: Any, a: Any, b: Any, tolerance: Any) -> Any:
    x = L(b)
    lib.conjugate_gradient(a, b, tolerance, x, b.size, E(3 * b.size))
    return x


@forward("Levinson-Durbin")
def _(lib: Any, r: Any) -> Any:
    y = L(r)
    lib.levinson_durbin(r, y, r.size, L(r))
    return y


@forward("Floyd-Warshall")
def _(lib: Any, d: Any) -> Any:
    d = d.copy()
    lib.floyd_warshall(d, len(d))
    return d


@forward("histogram loop")
def _(lib: Any, x: Any, low: Any, high: Any, bins: Any) -> Any:
    counts = E(bins, np.int64)
    lib.histogram(x, x.size, low, high, bins, counts)
    return counts


@forward("CRC-16")
def _(lib: Any, data: Any) -> Any:
    return lib.crc16(data, data.size)


@forward("sieve")
def _(lib: Any, n: Any) -> Any:
    prime = E(n + 1, bool)
    lib.sieve(n, prime)
    return prime


@forward("connected components")
def _(lib: Any, image: Any) -> Any:
    labels = E(image.shape, np.int64)
    lib.connected_components(image, labels, *image.shape)
    return labels


@forward("k-means")
def _(lib: Any, x: Any, centres: Any, steps: Any) -> Any:
    c = centres.copy()
    lib.kmeans(x, c, *x.shape, len(c), steps, E(c.size + len(c)))
    return c


@forward("mask update")
def _(lib: Any, x: Any, threshold: Any) -> Any:
    y = L(x)
    lib.mask_update(x, y, x.size, threshold)
    return y


@forward("insertion sort")
def _(lib: Any, x: Any) -> Any:
    x = x.copy()
    lib.insertion_sort(x, x.size)
    return x


@forward("arc distance")
def _(lib: Any, t1: Any, p1: Any, t2: Any, p2: Any) -> Any:
    out = L(t1)
    lib.arc_distance(t1, p1, t2, p2, out, out.size)
    return out


@forward("n-body")
def _(lib: Any, x: Any, v: Any, mass: Any, steps: Any, dt: Any) -> Any:
    x, v = x.copy(), v.copy()
    lib.nbody(x, v, mass, len(x), steps, dt, L(x))
    return x, v


@forward("molecular dynamics")
def _(lib: Any, x: Any, v: Any, steps: Any, dt: Any) -> Any:
    x, energies = x.copy(), E(steps)
    lib.molecular_dynamics(x, v.copy(), energies, len(x), steps, dt, L(x))
    return x, energies


@forward("Runge-Kutta 4")
def _(lib: Any, s: Any, sigma: Any, rho: Any, beta: Any, steps: Any, dt: Any) -> Any:
    path = E((steps + 1, 3))
    lib.runge_kutta4(s, sigma, rho, beta, steps, dt, path)
    return path


@forward("adaptive Heun")
def _(lib: Any, y: Any, damping: Any, end: Any, tolerance: Any) -> Any:
    y = y.copy()
    lib.adaptive_heun(y, damping, end, tolerance)
    return y


@forward("Newton for Kepler")
def _(lib: Any, anomaly: Any, eccentricity: Any) -> Any:
    out = L(anomaly)
    lib.newton_kepler(anomaly, eccentricity, out, out.size)
    return out


@forward("bisection")
def _(lib: Any, a: Any, target: Any) -> Any:
    x = L(target)
    lib.bisection(a, target, x, x.size)
    return x


@forward("random walk")
def _(lib: Any, noise: Any, drift: Any) -> Any:
    path = E(noise.size + 1)
    lib.random_walk(noise, drift, path, noise.size)
    return path


@forward("Mandelbrot")
def _(lib: Any, re: Any, im: Any, limit: Any) -> Any:
    counts = E((im.size, re.size), np.int64)
    lib.mandelbrot(re, im, limit, counts, im.size, re.size)
    return counts


@forward("edit distance")
def _(lib: Any, a: Any, b: Any) -> Any:
    return lib.edit_distance(a, b, a.size, b.size, E((a.size + 1) * (b.size + 1), np.int64))


@forward("Smith-Waterman")
def _(lib: Any, a: Any, b: Any, match: Any, mismatch: Any, gap: Any) -> Any:
    return lib.smith_waterman(a, b, a.size, b.size, match, mismatch, gap, E((a.size + 1) * (b.size + 1)))


@forward("soft DTW")
def _(lib: Any, x: Any, y: Any, gamma: Any) -> Any:
    return lib.soft_dtw(x, y, x.size, y.size, gamma, E((x.size + 1) * (y.size + 1)))


@forward("Kalman filter")
def _(lib: Any, z: Any, f: Any, h: Any, q: Any, r: Any) -> Any:
    states = E((z.size, 4))
    lib.kalman_filter(z, f, h, q, r, states, z.size)
    return states


@forward("HMM forward")
def _(lib: Any, initial: Any, transition: Any, emission: Any, seen: Any) -> Any:
    return lib.hmm_forward(initial, transition, emission, seen, *emission.shape, seen.size, E(2 * initial.size))


@forward("Viterbi")
def _(lib: Any, initial: Any, transition: Any, emission: Any, seen: Any) -> Any:
    n, steps = initial.size, seen.size
    path = E(steps, np.int64)
    best = lib.viterbi(
        initial, transition, emission, seen, path, *emission.shape, steps, E(steps * n), E(steps * n, np.int64)
    )
    return path, best


@forward("RNN")
def _(lib: Any, x: Any, h: Any, w: Any, u: Any, b: Any) -> Any:
    h = h.copy()
    lib.rnn(x, h, w, u, b, *x.shape, h.size, L(h))
    return h


@forward("LSTM")
def _(lib: Any, x: Any, w: Any, u: Any, b: Any) -> Any:
    out = E((len(x), len(u)))
    lib.lstm(x, w, u, b, out, *x.shape, len(u), E(6 * len(u)))
    return out


@forward("prefix sums")
def _(lib: Any, x: Any) -> Any:
    s = L(x)
    lib.prefix_sums(x, s, x.size)
    return s


@forward("running sum")
def _(lib: Any, x: Any) -> Any:
    s = L(x)
    lib.running_sum(x, s, x.size)
    return s


@forward("exponential average")
def _(lib: Any, x: Any, alpha: Any) -> Any:
    y = L(x)
    lib.exponential_average(x, alpha, y, x.size)
    return y


@forward("Horner")
def _(lib: Any, coefficients: Any, x: Any) -> Any:
    y = L(x)
    lib.horner(coefficients, x, y, coefficients.size, x.size)
    return y


@forward("FFT (Stockham)")
def _(lib: Any, re: Any, im: Any) -> Any:
    out = L(re), L(im)
    lib.fft(re.copy(), im.copy(), *out, re.size, E(2 * re.size))
    return out


@gradient("heat 1-D")
def _(lib: Any, u0: Any, steps: Any, c: Any) -> Any:
    g = L(u0)
    return g, np.asarray(lib.heat1d_gradient(u0, g, g.size, steps, c, E((steps, g.size)), L(g)))


@gradient("Jacobi 2-D")
def _(lib: Any, a0: Any, steps: Any) -> Any:
    g = L(a0)
    lib.jacobi2d_gradient(a0, g, len(g), steps, L(g))
    return (g,)


@gradient("heat 3-D")
def _(lib: Any, u0: Any, steps: Any) -> Any:
    g = L(u0)
    lib.heat3d_gradient(u0, g, len(g), steps, L(g))
    return (g,)


@gradient("Gauss-Seidel")
def _(lib: Any, u0: Any, steps: Any) -> Any:
    g = L(u0)
    lib.gauss_seidel_gradient(u0, g, *g.shape, steps)
    return (g,)


@gradient("wave 2-D")
def _(lib: Any, u0: Any, steps: Any, c2: Any) -> Any:
    g = L(u0)
    return g, np.asarray(lib.wave2d_gradient(u0, g, len(g), steps, c2, E((steps + 1, g.size)), E(3 * g.size)))


@gradient("Cholesky")
def _(lib: Any, a: Any) -> Any:
    g = L(a)
    lib.cholesky_gradient(a, g, len(a), L(a))
    return (g,)


@gradient("LU")
def _(lib: Any, a: Any) -> Any:
    g = L(a)
    lib.lu_gradient(a, g, len(a), L(a))
    return (g,)


@gradient("forward substitution")
def _(lib: Any, a: Any, b: Any) -> Any:
    ga, gb = L(a), L(b)
    lib.forward_substitution_gradient(a, b, ga, gb, b.size, L(b))
    return ga, gb


@gradient("tridiagonal")
def _(lib: Any, *args: Any) -> Any:
    out = tuple(L(a) for a in args)
    lib.thomas_gradient(*args, *out, args[0].size, E(3 * args[0].size))
    return out


@gradient("exponential average")
def _(lib: Any, x: Any, alpha: Any) -> Any:
    g = L(x)
    return g, np.asarray(lib.exponential_average_gradient(x, alpha, g, x.size, L(x)))


@gradient("image convolution")
def _(lib: Any, image: Any, kernel: Any) -> Any:
    h, w = image.shape[0] - kernel.shape[0] + 1, image.shape[1] - kernel.shape[1] + 1
    gi, gk = L(image), L(kernel)
    lib.convolve_image_gradient(image, kernel, gi, gk, h, w, *kernel.shape, E((h, w)))
    return gi, gk


@gradient("sparse matvec")
def _(lib: Any, indptr: Any, columns: Any, values: Any, x: Any) -> Any:
    gv, gx = L(values), L(x)
    lib.sparse_matvec_gradient(indptr, columns, values, x, gv, gx, indptr.size - 1, x.size)
    return gv, gx
