"""Models people write down: epidemics on networks, queues, prices, controllers, arms, orbits, reactions, sound."""

from __future__ import annotations

import math

import numpy as np

from tests.programs.everyday import Everyday


def sis_network(adj, state0, beta, gamma):
    """Infection probabilities on a network, by node."""
    p = state0.astype(float)
    history = []
    for _ in range(12):
        stay = (1 - gamma) * p
        escape = np.ones(len(p))
        for i in range(len(p)):
            for j in range(len(p)):
                if adj[i, j]:
                    escape[i] *= 1 - beta * p[j]
        p = stay + (1 - p) * (1 - escape)
        history.append(p.mean())
    return p, np.array(history)


def edge_epidemic(edges, n, noise, beta):
    """Who is infected when, by given random numbers along edges."""
    when = np.full(n, -1)
    when[0] = 0
    for t in range(noise.shape[0]):
        new = np.zeros(n, dtype=bool)
        for k, (a, b) in enumerate(edges):
            if (when[a] >= 0) != (when[b] >= 0) and noise[t, k] < beta:
                new[b if when[a] >= 0 else a] = True
        when[new & (when < 0)] = t + 1
    return when


def mm1_queue(arrivals, services):
    """Waiting times by Lindley's recursion, and the longest queue."""
    wait = np.zeros(len(arrivals))
    depart = np.zeros(len(arrivals))
    for i in range(len(arrivals)):
        start = arrivals[i] if i == 0 else max(arrivals[i], depart[i - 1])
        wait[i] = start - arrivals[i]
        depart[i] = start + services[i]
    longest = 0
    for i, t in enumerate(arrivals):
        longest = max(longest, int(np.sum(depart[:i] > t)))
    return wait, wait.mean(), longest


def two_servers(arrivals, services):
    free = [0.0, 0.0]
    total = 0.0
    for t, s in zip(arrivals, services):
        k = 0 if free[0] <= free[1] else 1
        begin = max(t, free[k])
        total += begin - t
        free[k] = begin + s
    return total, np.array(free)


def erlang_c(load, servers):
    s = 0.0
    term = 1.0
    for k in range(servers):
        if k > 0:
            term = term * load / k
        s += term
    last = term * load / servers * servers / (servers - load)
    return last / (s + last)


def american_put(s0, strike, rate, sigma):
    n = 7
    dt = 1.0 / n
    u = math.exp(sigma * math.sqrt(dt))
    d = 1 / u
    p = (math.exp(rate * dt) - d) / (u - d)
    values = [max(strike - s0 * u**j * d ** (n - j), 0.0) for j in range(n + 1)]
    for i in range(n - 1, -1, -1):
        for j in range(i + 1):
            hold = math.exp(-rate * dt) * (p * values[j + 1] + (1 - p) * values[j])
            values[j] = max(hold, strike - s0 * u**j * d ** (i - j))
    return values[0]


def trinomial(s0, sigma):
    n = 8
    dt, lam = 1.0 / n, 1.2
    pu = 1 / (2 * lam**2) + sigma * 0.01
    pd = 1 / (2 * lam**2) - sigma * 0.01
    pm = 1 - pu - pd
    k = np.arange(-n, n + 1)
    v = np.maximum(s0 * np.exp(lam * sigma * np.sqrt(dt) * k) - 100.0, 0)
    while len(v) > 1:
        v = np.exp(-0.03 * dt) * (pu * v[2:] + pm * v[1:-1] + pd * v[:-2])
    return v[0]


def asian_paths(s0, sigma, z):
    """Arithmetic Asian and a knock-out call by given normal draws."""
    paths, steps = z.shape
    dt = 1 / steps
    payoff, alive_payoff = np.zeros(paths), np.zeros(paths)
    for p in range(paths):
        s, mean, alive = s0, 0.0, True
        for t in range(steps):
            s *= np.exp(-0.5 * sigma**2 * dt + sigma * np.sqrt(dt) * z[p, t])
            mean += s / steps
            if s > 150:
                alive = False
                break
        payoff[p] = max(mean - 100, 0)
        if alive:
            alive_payoff[p] = max(s - 100, 0)
    return payoff.mean(), alive_payoff.mean()


def longstaff(paths, strike):
    """Least-squares Monte Carlo over given paths."""
    cash = np.maximum(strike - paths[:, -1], 0)
    for t in range(paths.shape[1] - 2, 0, -1):
        cash = cash * 0.99
        s = paths[:, t]
        itm = strike - s > 0
        if itm.sum() > 3:
            x = s[itm]
            basis = np.stack([np.ones_like(x), x, x**2], axis=1)
            coef = np.linalg.solve(basis.T @ basis + 1e-9 * np.eye(3), basis.T @ cash[itm])
            hold = basis @ coef
            exercise = strike - x
            kept = cash[itm]
            kept[exercise > hold] = exercise[exercise > hold]
            cash[itm] = kept
    return cash.mean()


def bond_yield(price, coupon):
    """Newton on the yield, bisection where it leaves the bracket."""
    lo, hi, y = -0.5, 1.0, 0.05

    def pv(r):
        total = 0.0
        for k in range(1, 11):
            total += coupon / (1 + r) ** k
        return total + 100 / (1 + r) ** 10

    for _ in range(50):
        f = pv(y) - price
        if abs(f) < 1e-10:
            break
        if f > 0:
            lo = y
        else:
            hi = y
        slope = (pv(y + 1e-6) - pv(y - 1e-6)) / 2e-6
        nxt = y - f / slope
        y = nxt if lo < nxt < hi else 0.5 * (lo + hi)
    return y


def lqr(A, B, q, r):
    """Backward Riccati recursion and the cost of the closed loop."""
    n = A.shape[0]
    P = q * np.eye(n)
    gains = []
    for _ in range(2):
        K = np.linalg.solve(r * np.eye(B.shape[1]) + B.T @ P @ B, B.T @ P @ A)
        P = q * np.eye(n) + A.T @ P @ (A - B @ K)
        gains.append(K)
    x = np.ones(n)
    cost = 0.0
    for K in reversed(gains):
        u = -K @ x
        cost += q * x @ x + r * u @ u
        x = A @ x + B @ u
    return cost, gains[-1]


def mpc(x0, target):
    """Projected gradient on the inputs of a double integrator, receding horizon."""
    horizon, dt = 6, 0.3
    x, v = x0
    u = np.zeros(horizon)
    track = []
    for _ in range(4):
        for _ in range(20):
            grad = np.zeros(horizon)
            p, w = x, v
            states = []
            for k in range(horizon):
                w = w + dt * u[k]
                p = p + dt * w
                states.append(p)
            for k in range(horizon):
                for j in range(k, horizon):
                    grad[k] += 2 * (states[j] - target) * dt * dt * (j - k + 1)
                grad[k] += 0.02 * u[k]
            u = np.clip(u - 0.8 * grad, -1, 1)
        v += dt * u[0]
        x += dt * v
        u[:-1] = u[1:]
        u[-1] = 0.0
        track.append(x)
    return np.array(track)


class Pid:
    def __init__(self, kp, ki, kd):
        self.kp, self.ki, self.kd = kp, ki, kd
        self.total = 0.0
        self.before = None

    def __call__(self, error, dt):
        self.total += error * dt
        slope = 0.0 if self.before is None else (error - self.before) / dt
        self.before = error
        out = self.kp * error + self.ki * self.total + self.kd * slope
        if out > 4.0:
            self.total -= error * dt
            return 4.0
        return max(out, -4.0)


def pid_loop(kp, ki, kd):
    pid, y, v = Pid(kp, ki, kd), 0.0, 0.0
    err = 0.0
    for _ in range(60):
        u = pid(1.0 - y, 0.1)
        v += 0.1 * (u - 0.8 * v - y)
        y += 0.1 * v
        err += abs(1 - y)
    return y, err


def denavit(joints):
    """Forward kinematics of an arm, and the position Jacobian from axes."""
    T = np.eye(4)
    origins, axes = [T[:3, 3]], [T[:3, 2]]
    for i, q in enumerate(joints):
        c, s = np.cos(q), np.sin(q)
        alpha = np.pi / 2 if i % 2 == 0 else -np.pi / 2
        ca, sa = np.cos(alpha), np.sin(alpha)
        A = np.array([[c, -s * ca, s * sa, 0.3 * c], [s, c * ca, -c * sa, 0.3 * s], [0, sa, ca, 0.1], [0, 0, 0, 1]])
        T = T @ A
        origins.append(T[:3, 3])
        axes.append(T[:3, 2])
    J = np.zeros((3, len(joints)))
    for i in range(len(joints)):
        J[:, i] = np.cross(axes[i], origins[-1] - origins[i])
    return T[:3, 3], J


def ccd_ik(lengths, target):
    """Cyclic coordinate descent in the plane."""
    n = len(lengths)
    angles = np.zeros(n)
    for _ in range(8):
        for j in range(n - 1, -1, -1):
            xs, ys, a = [0.0], [0.0], 0.0
            for k in range(n):
                a += angles[k]
                xs.append(xs[-1] + lengths[k] * np.cos(a))
                ys.append(ys[-1] + lengths[k] * np.sin(a))
            to_end = np.arctan2(ys[-1] - ys[j], xs[-1] - xs[j])
            to_goal = np.arctan2(target[1] - ys[j], target[0] - xs[j])
            angles[j] += to_goal - to_end
        if np.hypot(xs[-1] - target[0], ys[-1] - target[1]) < 1e-3:
            break
    return angles


def kepler(mean, ecc):
    """Positions on an orbit: Newton per time."""
    out = np.zeros((len(mean), 2))
    for i, m in enumerate(mean):
        e = m if ecc < 0.8 else np.pi
        while True:
            step = (e - ecc * np.sin(e) - m) / (1 - ecc * np.cos(e))
            e -= step
            if abs(step) < 1e-12:
                break
        out[i] = np.cos(e) - ecc, np.sqrt(1 - ecc**2) * np.sin(e)
    return out


def julian_sidereal(day):
    """Day of the Julian calendar and sidereal time from (year, month, day)."""
    y, m, d = day
    if m <= 2:
        y, m = y - 1, m + 12
    a = y // 100
    b = 2 - a + a // 4
    jd = int(365.25 * (y + 4716)) + int(30.6001 * (m + 1)) + d + b - 1524.5
    t = (jd - 2451545.0) / 36525
    return jd, (280.46061837 + 360.98564736629 * (jd - 2451545.0) + 0.000387933 * t * t) % 360


def three_body(pos, vel, mass):
    """Leapfrog with a softened force, and the drift of the energy."""
    n = len(mass)

    def forces(p):
        f = np.zeros_like(p)
        for i in range(n):
            for j in range(i + 1, n):
                r = p[j] - p[i]
                w = r / (r @ r + 0.01) ** 1.5
                f[i] += mass[j] * w
                f[j] -= mass[i] * w
        return f

    a = forces(pos)
    for _ in range(15):
        vel = vel + 0.01 * a
        pos = pos + 0.02 * vel
        a = forces(pos)
        vel = vel + 0.01 * a
    kinetic = 0.5 * np.sum(mass[:, None] * vel**2)
    return pos, kinetic


def robertson(y0, k):
    """Backward Euler with Newton for a stiff reaction."""
    y, h = y0.copy(), 0.01
    for _ in range(10):
        z = y.copy()
        for _ in range(6):
            f = np.array([
                -k[0] * z[0] + k[1] * z[1] * z[2],
                k[0] * z[0] - k[1] * z[1] * z[2] - k[2] * z[1] ** 2,
                k[2] * z[1] ** 2,
            ])
            J = np.array([
                [-k[0], k[1] * z[2], k[1] * z[1]],
                [k[0], -k[1] * z[2] - 2 * k[2] * z[1], -k[1] * z[1]],
                [0.0, 2 * k[2] * z[1], 0.0],
            ])
            dz = np.linalg.solve(np.eye(3) - h * J, y + h * f - z)
            z += dz
            if np.abs(dz).max() < 1e-12:
                break
        y, h = z, h * 1.5
    return y


def gillespie(x0, rates, u):
    """A birth and death chain by given uniform numbers."""
    x, t = x0, 0.0
    for k in range(u.shape[0]):
        birth, death = rates[0], rates[1] * x
        total = birth + death
        t += -np.log(u[k, 0]) / total
        if u[k, 1] * total < birth:
            x += 1
        else:
            x -= 1
        if t > 5.0:
            break
    return x, t


def titration(pka, volumes):
    """pH along a titration: bisection for the charge balance."""
    out = []
    for v in volumes:
        lo, hi = 0.0, 14.0
        ca, cb = 0.1 * 50 / (50 + v), 0.1 * v / (50 + v)
        for _ in range(60):
            ph = (lo + hi) / 2
            h = 10.0**-ph
            balance = h + cb - 1e-14 / h - ca * 10**-pka / (10**-pka + h)
            if balance > 0:
                lo = ph
            else:
                hi = ph
        out.append(ph)
    return np.array(out)


def karplus(length, noise):
    """A plucked string: a ring buffer and an average."""
    buffer = noise[:length].copy()
    out = np.empty(120)
    at = 0
    for n in range(len(out)):
        out[n] = buffer[at]
        nxt = (at + 1) % length
        buffer[at] = 0.498 * (buffer[at] + buffer[nxt])
        at = nxt
    return out


def adsr(gate, attack, release):
    env, level = np.zeros_like(gate), 0.0
    for i, g in enumerate(gate):
        if g > 0.5:
            level = min(1.0, level + attack)
        else:
            level = max(0.0, level - release * level)
        env[i] = level
    return env


def fm_voice(ratio, index):
    t = np.arange(200) / 8000.0
    env = np.where(t < 0.005, t / 0.005, np.exp(-60 * (t - 0.005)))
    mod = index * env * np.sin(2 * np.pi * 440 * ratio * t)
    return env * np.sin(2 * np.pi * 440 * t + mod)


def compressor(x, threshold, ratio):
    gain, out = 1.0, np.zeros(len(x))
    for i in range(len(x)):
        level = abs(x[i])
        want = 1.0
        if level > threshold:
            want = (threshold + (level - threshold) / ratio) / level
        gain += (0.3 if want < gain else 0.05) * (want - gain)
        out[i] = gain * x[i]
    return out


def biquads(x, sections):
    y = x
    for b0, b1, b2, a1, a2 in sections:
        z1 = z2 = 0.0
        out = []
        for v in y:
            o = b0 * v + z1
            z1 = b1 * v - a1 * o + z2
            z2 = b2 * v - a2 * o
            out.append(o)
        y = np.array(out)
    return y


def lotka_pulse(y0, p):
    """Predators and prey, with a harvest whenever prey pass a level."""
    x, y = y0
    harvests, log = 0, []
    for step in range(80):
        dx = p[0] * x - p[1] * x * y
        dy = -p[2] * y + p[3] * x * y
        x, y = x + 0.05 * dx, y + 0.05 * dy
        if x > 3.0:
            x *= 0.7
            harvests += 1
        if step % 20 == 19:
            log.append((x, y))
    return np.array(log), harvests


def leslie(survive, births, n0):
    n = n0.copy()
    size = len(n)
    total = []
    for _ in range(10):
        new = np.zeros(size)
        new[0] = births @ n
        new[1:] = survive[: size - 1] * n[:-1]
        n = new
        total.append(n.sum())
    growth = [b / a for a, b in zip(total, total[1:])]
    return n, np.array(growth)


R = np.random.default_rng(21)
ADJ = R.random((7, 7)) < 0.4
ADJ = ADJ | ADJ.T
EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (1, 5), (5, 6), (6, 2)])
ARRIVALS = np.cumsum(R.exponential(1.0, 12))
SERVICES = R.exponential(0.8, 12)
PATHS = 100 * np.exp(np.cumsum(R.normal(0, 0.1, (12, 4)), axis=1))
A3 = np.eye(3) + 0.1 * R.normal(size=(3, 3))
B3 = R.normal(size=(3, 2))
SECTIONS = np.array([[0.2, 0.3, 0.1, -0.4, 0.2], [0.5, -0.2, 0.1, 0.3, 0.1]])

CASES = [
    Everyday(sis_network, (ADJ, np.eye(7)[0] * 0.5, 0.3, 0.2), (1, 2, 3)),
    Everyday(edge_epidemic, (EDGES, 7, R.random((6, 8)), 0.5)),
    Everyday(mm1_queue, (ARRIVALS, SERVICES), (0, 1)),
    Everyday(two_servers, (ARRIVALS, SERVICES), (0, 1)),
    Everyday(erlang_c, (3.5, 5), (0,)),
    Everyday(american_put, (95.0, 100.0, 0.05, 0.3), (0, 1, 2, 3)),
    Everyday(trinomial, (100.0, 0.3), (0, 1)),
    Everyday(asian_paths, (100.0, 0.5, R.normal(size=(6, 8))), (0, 1, 2)),
    Everyday(longstaff, (PATHS, 101.0), (0, 1)),
    Everyday(bond_yield, (95.0, 4.0), (0, 1)),
    Everyday(lqr, (A3, B3, 1.0, 0.5), (0, 1, 2, 3)),
    Everyday(mpc, (np.array([0.0, 0.5]), 1.0), (0, 1)),
    Everyday(pid_loop, (2.0, 0.5, 0.1), (0, 1, 2)),
    Everyday(denavit, (np.array([0.3, -0.5, 0.8, 0.1]),), (0,)),
    Everyday(ccd_ik, (np.array([1.0, 0.7, 0.5]), np.array([0.8, 1.1])), (0, 1)),
    Everyday(kepler, (np.linspace(0.1, 6.0, 6), 0.3), (0, 1)),
    Everyday(julian_sidereal, (np.array([2024, 2, 29]),)),
    Everyday(three_body, (R.normal(size=(3, 2)), R.normal(size=(3, 2)), np.array([1.0, 2.0, 0.5])), (0, 1, 2)),
    Everyday(robertson, (np.array([1.0, 0.01, 0.0]), np.array([0.4, 10.0, 30.0])), (0, 1)),
    Everyday(gillespie, (3, np.array([2.0, 0.5]), R.random((30, 2))), (1,)),
    Everyday(titration, (4.75, np.array([10.0, 25.0, 49.0, 55.0]))),
    Everyday(karplus, (11, R.normal(size=20)), (1,)),
    Everyday(adsr, ((np.arange(40) % 17 < 9).astype(float), 0.21, 0.3), (1, 2)),
    Everyday(fm_voice, (1.4, 2.0), (0, 1)),
    Everyday(compressor, (R.normal(size=30), 0.8, 3.0), (0, 1, 2)),
    Everyday(biquads, (R.normal(size=15), SECTIONS), (0, 1)),
    Everyday(lotka_pulse, (np.array([1.0, 0.5]), np.array([1.1, 0.4, 0.4, 0.3])), (0, 1)),
    Everyday(leslie, (R.uniform(0.3, 0.9, 5), R.uniform(0, 2, 5), R.uniform(1, 3, 5)), (0, 1, 2)),
]  # fmt: skip
