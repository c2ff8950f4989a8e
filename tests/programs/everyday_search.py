"""Dynamic programming, graphs, sorting, integers."""

from __future__ import annotations

import math

import numpy as np

from tests.programs.everyday import Everyday


def knapsack(v, w):
    W = 15
    best = np.zeros(W + 1)
    for i in range(len(v)):
        for c in range(W, w[i] - 1, -1):
            best[c] = max(best[c], best[c - w[i]] + v[i])
    return best[W]


def lcs(a, b):
    n, m = len(a), len(b)
    L = np.zeros((n + 1, m + 1), dtype=int)
    for i in range(n):
        for j in range(m):
            if a[i] == b[j]:
                L[i + 1, j + 1] = L[i, j] + 1
            else:
                L[i + 1, j + 1] = max(L[i, j + 1], L[i + 1, j])
    return L[n, m]


def lis(a):
    n = len(a)
    d = np.ones(n, dtype=np.int64)
    for i in range(1, n):
        for j in range(i):
            if a[j] < a[i] and d[j] + 1 > d[i]:
                d[i] = d[j] + 1
    return d.max()


def matrix_chain(p):
    n = len(p) - 1
    m = np.zeros((n, n))
    for L in range(2, n + 1):
        for i in range(n - L + 1):
            j = i + L - 1
            m[i, j] = np.inf
            for k in range(i, j):
                q = m[i, k] + m[k + 1, j] + p[i] * p[k + 1] * p[j + 1]
                if q < m[i, j]:
                    m[i, j] = q
    return m[0, n - 1]


def dijkstra(W):
    n = W.shape[0]
    dist = np.full(n, np.inf)
    done = np.zeros(n, dtype=bool)
    dist[0] = 0.0
    for _ in range(n):
        u = np.argmin(np.where(done, np.inf, dist))
        done[u] = True
        for v in range(n):
            alt = dist[u] + W[u, v]
            if not done[v] and alt < dist[v]:
                dist[v] = alt
    return dist


def bellman_ford(src, dst, w):
    n = 8
    d = np.full(n, 1e9)
    d[0] = 0
    for _ in range(n - 1):
        changed = False
        for e in range(len(w)):
            if d[src[e]] + w[e] < d[dst[e]]:
                d[dst[e]] = d[src[e]] + w[e]
                changed = True
        if not changed:
            break
    return d


def collatz(n):
    steps = 0
    while n != 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def gcd(a, b):
    while b:
        a, b = b, a % b
    return a


def modpow(b, e, m):
    r = 1
    b = b % m
    while e > 0:
        if e & 1:
            r = r * b % m
        e >>= 1
        b = b * b % m
    return r


def rle(a):
    n = len(a)
    vals, counts = np.zeros(n, a.dtype), np.zeros(n, int)
    k = 0
    vals[0], counts[0] = a[0], 1
    for i in range(1, n):
        if a[i] == vals[k]:
            counts[k] += 1
        else:
            k += 1
            vals[k] = a[i]
            counts[k] = 1
    return vals[: k + 1], counts[: k + 1]


def quicksort(a):
    a = a.copy()
    stack = np.zeros((64, 2), dtype=int)
    stack[0] = 0, len(a) - 1
    top = 1
    while top > 0:
        top -= 1
        lo, hi = stack[top]
        if lo >= hi:
            continue
        pivot = a[hi]
        i = lo
        for j in range(lo, hi):
            if a[j] < pivot:
                a[i], a[j] = a[j], a[i]
                i += 1
        a[i], a[hi] = a[hi], a[i]
        stack[top] = lo, i - 1
        stack[top + 1] = i + 1, hi
        top += 2
    return a


def flood(grid):
    g = grid.copy()
    n, m = g.shape
    queue = np.zeros((n * m, 2), dtype=int)
    head, tail = 0, 1
    g[0, 0] = 2
    while head < tail:
        i, j = queue[head]
        head += 1
        for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            a, b = i + di, j + dj
            if 0 <= a < n and 0 <= b < m and g[a, b] == 0:
                g[a, b] = 2
                queue[tail] = a, b
                tail += 1
    return g


def percol(u):
    open_ = u > 0.4
    full = np.zeros_like(open_)
    full[0] = open_[0]
    while True:
        grown = full.copy()
        grown[1:] |= full[:-1]
        grown[:-1] |= full[1:]
        grown[:, 1:] |= full[:, :-1]
        grown[:, :-1] |= full[:, 1:]
        grown &= open_
        if (grown == full).all():
            break
        full = grown
    return full


def viterbi_path(logA, logB):
    T, n = logB.shape
    delta = np.zeros((T, n))
    psi = np.zeros((T, n), int)
    delta[0] = logB[0]
    for t in range(1, T):
        for j in range(n):
            s = delta[t - 1] + logA[:, j]
            psi[t, j] = s.argmax()
            delta[t, j] = s.max() + logB[t, j]
    path = np.zeros(T, int)
    path[-1] = delta[-1].argmax()
    for t in range(T - 2, -1, -1):
        path[t] = psi[t + 1, path[t + 1]]
    return path, delta[-1].max()


def elo(ra, winners, losers):
    r = ra.copy()
    for w, l in zip(winners, losers):
        e = 1 / (1 + 10 ** ((r[l] - r[w]) / 400))
        r[w] += 32 * (1 - e)
        r[l] -= 32 * (1 - e)
    return r


def golden(a):
    f = lambda x: (x - a) ** 2 + 1
    lo, hi = -5.0, 5.0
    g = (math.sqrt(5) - 1) / 2
    c, d = hi - g * (hi - lo), lo + g * (hi - lo)
    while abs(hi - lo) > 1e-8:
        if f(c) < f(d):
            hi = d
        else:
            lo = c
        c, d = hi - g * (hi - lo), lo + g * (hi - lo)
    return (lo + hi) / 2


def implied_vol(price, S, K, T, r):
    def N(x):
        return 0.5 * (1 + math.erf(x / math.sqrt(2)))

    def bs(sig):
        d1 = (math.log(S / K) + (r + sig * sig / 2) * T) / (sig * math.sqrt(T))
        return S * N(d1) - K * math.exp(-r * T) * N(d1 - sig * math.sqrt(T))

    lo, hi = 1e-4, 3.0
    for _ in range(60):
        mid = (lo + hi) / 2
        if bs(mid) > price:
            hi = mid
        else:
            lo = mid
    return mid


def nelder_mead(x0):
    f = lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
    n = 2
    S = np.zeros((n + 1, n))
    S[0] = x0
    for i in range(n):
        S[i + 1] = x0
        S[i + 1, i] += 0.5
    F = np.array([f(s) for s in S])
    for _ in range(60):
        order = np.argsort(F)
        S, F = S[order], F[order]
        c = S[:-1].mean(0)
        xr = c + (c - S[-1])
        fr = f(xr)
        if fr < F[0]:
            xe = c + 2 * (c - S[-1])
            fe = f(xe)
            if fe < fr:
                S[-1], F[-1] = xe, fe
            else:
                S[-1], F[-1] = xr, fr
        elif fr < F[-2]:
            S[-1], F[-1] = xr, fr
        else:
            xc = c + 0.5 * (S[-1] - c)
            fc = f(xc)
            if fc < F[-1]:
                S[-1], F[-1] = xc, fc
            else:
                for i in range(1, n + 1):
                    S[i] = S[0] + 0.5 * (S[i] - S[0])
                    F[i] = f(S[i])
    return S[0]


def rule110(cells):
    table = np.array([0, 1, 1, 1, 0, 1, 1, 0])
    rows = [cells]
    for _ in range(6):
        c = rows[-1]
        idx = 4 * np.roll(c, 1) + 2 * c + np.roll(c, -1)
        rows.append(table[idx])
    return np.array(rows)


def caesar(s, k):
    return (s - 97 + k) % 26 + 97


def crc8(data):
    c = 0
    for b in data:
        c ^= int(b)
        for _ in range(8):
            c = ((c << 1) ^ 0x07) & 0xFF if c & 0x80 else (c << 1) & 0xFF
    return c


def lcg(seed):
    out = np.zeros(8, dtype=np.uint64)
    s = np.uint64(seed)
    for i in range(8):
        s = s * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        out[i] = s >> np.uint64(33)
    return out


def xorshift(seed):
    x = np.uint32(seed)
    out = []
    for _ in range(5):
        x ^= x << np.uint32(13)
        x ^= x >> np.uint32(17)
        x ^= x << np.uint32(5)
        out.append(x)
    return np.array(out)


def permute_cycles(p):
    seen = np.zeros(len(p), bool)
    n = 0
    for i in range(len(p)):
        if seen[i]:
            continue
        n += 1
        j = i
        while not seen[j]:
            seen[j] = True
            j = p[j]
    return n


def merge_sorted(a, b):
    out = np.empty(len(a) + len(b))
    i = j = 0
    for k in range(len(out)):
        if j >= len(b) or (i < len(a) and a[i] <= b[j]):
            out[k] = a[i]
            i += 1
        else:
            out[k] = b[j]
            j += 1
    return out


def two_sum(a, t):
    for i in range(len(a)):
        for j in range(i + 1, len(a)):
            if a[i] + a[j] == t:
                return i, j
    return -1, -1


def kadane(x):
    best = cur = x[0]
    for v in x[1:]:
        cur = max(v, cur + v)
        best = max(best, cur)
    return best


def trapping(h):
    l = np.maximum.accumulate(h)
    r = np.maximum.accumulate(h[::-1])[::-1]
    return (np.minimum(l, r) - h).sum()


def spiral(A):
    A = A.copy()
    n = A.shape[0]
    out = np.zeros(n * n)
    k = 0
    for layer in range((n + 1) // 2):
        hi = n - layer
        for j in range(layer, hi):
            out[k] = A[layer, j]
            k += 1
        for i in range(layer + 1, hi):
            out[k] = A[i, hi - 1]
            k += 1
        for j in range(hi - 2, layer - 1, -1):
            if hi - 1 != layer:
                out[k] = A[hi - 1, j]
                k += 1
        for i in range(hi - 2, layer, -1):
            out[k] = A[i, layer]
            k += 1
    return out


def sudoku_ok(b):
    for i in range(4):
        if len(np.unique(b[i])) != 4 or len(np.unique(b[:, i])) != 4:
            return False
    return True


def in_polygon(pts, poly):
    inside = np.zeros(len(pts), bool)
    n = len(poly)
    j = n - 1
    for i in range(n):
        xi, yi = poly[i]
        xj, yj = poly[j]
        cross = ((yi > pts[:, 1]) != (yj > pts[:, 1])) & (
            pts[:, 0] < (xj - xi) * (pts[:, 1] - yi) / (yj - yi + 1e-300) + xi
        )
        inside ^= cross
        j = i
    return inside


def polygon_area(p):
    x, y = p.T
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def delaunay_cost(p):
    d = p[:, None] - p[None]
    D = np.sqrt((d**2).sum(-1) + np.eye(len(p)))
    iu = np.triu_indices(len(p), 1)
    return D[iu].min(), D[iu].mean()


def mcts_ucb(means, noise):
    n = np.zeros(3)
    s = np.zeros(3)
    for t in range(len(noise)):
        if t < 3:
            a = t
        else:
            a = np.argmax(s / n + np.sqrt(2 * np.log(t) / n))
        n[a] += 1
        s[a] += means[a] + noise[t]
    return s / n


def tabular_q(rewards, actions):
    Q = np.zeros((4, 2))
    s = 0
    for r, a in zip(rewards, actions):
        s2 = (s + 1 + a) % 4
        Q[s, a] += 0.5 * (r + 0.9 * Q[s2].max() - Q[s, a])
        s = s2
    return Q


def value_iteration(P, Rw):
    P = P / P.sum(-1, keepdims=True)
    V = np.zeros(P.shape[1])
    for _ in range(200):
        Q = Rw + 0.9 * P @ V
        Vn = Q.max(0)
        if np.max(np.abs(Vn - V)) < 1e-9:
            break
        V = Vn
    return V, Q.argmax(0)


RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape)


W6 = RNG.uniform(1, 9, (6, 6))
CASES = [
    Everyday(knapsack, (RNG.uniform(1, 5, 6), np.array([3, 4, 5, 2, 7, 1])), (0,)),
    Everyday(lcs, (RNG.integers(0, 3, 9), RNG.integers(0, 3, 11))),
    Everyday(lis, (RNG.integers(0, 20, 12),)),
    Everyday(matrix_chain, (RNG.uniform(1, 9, 7),), (0,)),
    Everyday(dijkstra, (W6,), (0,)),
    Everyday(bellman_ford, (RNG.integers(0, 8, 20), RNG.integers(0, 8, 20), RNG.uniform(1, 5, 20))),
    Everyday(collatz, (27,)),
    Everyday(gcd, (1071, 462)),
    Everyday(modpow, (7, 560, 561)),
    Everyday(rle, (RNG.integers(0, 2, 14),), mapped=False),
    Everyday(quicksort, (RNG.normal(size=20),), (0,)),
    Everyday(flood, ((RNG.uniform(size=(6, 7)) > 0.6).astype(int),)),
    Everyday(percol, (RNG.uniform(size=(9, 9)),)),
    Everyday(viterbi_path, (np.log(RNG.dirichlet(np.ones(3), 3)), np.log(RNG.dirichlet(np.ones(3), 7))), (0, 1)),
    Everyday(elo, (np.array([1500.0, 1600, 1400]), np.array([0, 1, 2, 0]), np.array([1, 2, 0, 2])), (0,)),
    Everyday(golden, (1.3,)),
    Everyday(implied_vol, (10.0, 100.0, 100.0, 1.0, 0.02)),
    Everyday(nelder_mead, (np.array([-1.2, 1.0]),), (0,)),
    Everyday(rule110, (RNG.integers(0, 2, 16),)),
    Everyday(caesar, (RNG.integers(97, 123, 9), 3)),
    Everyday(crc8, (RNG.integers(0, 256, 9).astype(np.uint8),)),
    Everyday(lcg, (np.uint64(5),)),
    Everyday(xorshift, (np.uint32(77),)),
    Everyday(permute_cycles, (RNG.permutation(9),)),
    Everyday(merge_sorted, (np.sort(normal(5)), np.sort(normal(4))), (0, 1)),
    Everyday(two_sum, (RNG.integers(0, 9, 8), 9)),
    Everyday(kadane, (normal(12),), (0,)),
    Everyday(trapping, (np.abs(normal(9)),), (0,)),
    Everyday(spiral, (normal(5, 5),), (0,)),
    Everyday(sudoku_ok, (np.array([[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]),)),
    Everyday(in_polygon, (normal(9, 2), normal(5, 2) * 2)),
    Everyday(polygon_area, (normal(6, 2),), (0,)),
    Everyday(delaunay_cost, (normal(6, 2),), (0,)),
    Everyday(mcts_ucb, (normal(3), normal(12)), (0, 1)),
    Everyday(tabular_q, (normal(12), RNG.integers(0, 2, 12)), (0,)),
    Everyday(value_iteration, (np.abs(normal(2, 4, 4)) + 0.1, normal(2, 4)), (0, 1)),
]
