"""Shapes, meshes, pictures, graphs and texts: hulls, rays, elements, splines, rotations, morphology, alignments."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from tests.programs.everyday import Everyday


def gift_wrap(points):
    """Which points are on the convex hull, and its area."""
    n = len(points)
    on = np.zeros(n, dtype=bool)
    start = int(np.argmin(points[:, 0]))
    at, area = start, 0.0
    for _ in range(n):
        on[at] = True
        best = (at + 1) % n
        for k in range(n):
            a, b = points[best] - points[at], points[k] - points[at]
            if a[0] * b[1] - a[1] * b[0] < 0:
                best = k
        p, q = points[at], points[best]
        area += 0.5 * (p[0] * q[1] - p[1] * q[0])
        at = best
        if at == start:
            break
    return on, area


def winding(polygon, queries):
    inside = []
    n = len(polygon)
    for x, y in queries:
        w = 0
        for i in range(n):
            (x0, y0), (x1, y1) = polygon[i], polygon[(i + 1) % n]
            cross = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
            if y0 <= y < y1 and cross > 0:
                w += 1
            elif y1 <= y < y0 and cross < 0:
                w -= 1
        inside.append(w != 0)
    return np.array(inside)


def clip_polygon(subject, a, b):
    """One side of Sutherland and Hodgman: the part left of the line, as an area."""
    area, found = 0.0, False
    first, previous = np.zeros(2), np.zeros(2)
    n = len(subject)
    for i in range(n):
        p, q = subject[i], subject[(i + 1) % n]
        sp = (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
        sq = (b[0] - a[0]) * (q[1] - a[1]) - (b[1] - a[1]) * (q[0] - a[0])
        t = sp / (sp - sq) if sp != sq else 0.0
        lo = 0.0 if sp >= 0 else t
        hi = 1.0 if sq >= 0 else t
        if sp < 0 and sq < 0:
            continue
        u, v = p + lo * (q - p), p + hi * (q - p)
        if found:
            area += 0.5 * (previous[0] * u[1] - previous[1] * u[0])
        else:
            first, found = u, True
        area += 0.5 * (u[0] * v[1] - u[1] * v[0])
        previous = v
    return area + 0.5 * (previous[0] * first[1] - previous[1] * first[0])


def closest_pair(points):
    best, pair = np.inf, (0, 0)
    for i in range(len(points) - 1):
        d = np.sqrt(np.sum((points[i + 1 :] - points[i]) ** 2, axis=1))
        j = np.argmin(d)
        if d[j] < best:
            best, pair = d[j], (i, i + 1 + j)
    return best, pair


def sphere_march(origin, directions):
    """Signed distances of a ball, a box and a floor; depth and shade per ray."""

    def scene(p):
        ball = np.sqrt(np.sum((p - np.array([0.0, 0.5, 3.0])) ** 2)) - 0.7
        q = np.abs(p - np.array([1.0, 0.3, 2.5])) - 0.3
        box = np.sqrt(np.sum(np.maximum(q, 0) ** 2)) + min(max(q[0], q[1], q[2]), 0.0)
        return min(ball, box, p[1] + 0.5)

    depth = np.zeros(len(directions))
    steps = np.zeros(len(directions), dtype=int)
    for i, d in enumerate(directions):
        t = 0.0
        for k in range(60):
            h = scene(origin + t * d)
            if h < 1e-4 or t > 10:
                break
            t += h
            steps[i] = k
        depth[i] = t
    return depth, steps


def triangles_hit(origin, direction, triangles):
    """Moeller and Trumbore: the nearest hit."""
    nearest, which = np.inf, -1
    for k, (a, b, c) in enumerate(triangles):
        e1, e2 = b - a, c - a
        p = np.cross(direction, e2)
        det = e1 @ p
        if abs(det) < 1e-9:
            continue
        s = origin - a
        u = s @ p / det
        if not 0 <= u <= 1:
            continue
        q = np.cross(s, e1)
        v = direction @ q / det
        if v < 0 or u + v > 1:
            continue
        t = e2 @ q / det
        if 1e-6 < t < nearest:
            nearest, which = t, k
    return nearest, which


def bresenham(grid, x0, y0, x1, y1):
    dx, dy = abs(x1 - x0), -abs(y1 - y0)
    sx, sy = 1 if x0 < x1 else -1, 1 if y0 < y1 else -1
    err = dx + dy
    while True:
        grid[y0, x0] = 1
        if x0 == x1 and y0 == y1:
            break
        e2 = 2 * err
        if e2 >= dy:
            err += dy
            x0 += sx
        if e2 <= dx:
            err += dx
            y0 += sy
    return grid.sum()


def fem_bar(nodes, stiff, load):
    """Linear elements on a line: assembly, a fixed end, the solution and the strains."""
    n = len(nodes)
    K, f = np.zeros((n, n)), np.zeros(n)
    for e in range(n - 1):
        h = nodes[e + 1] - nodes[e]
        k = stiff[e] / h * np.array([[1, -1], [-1, 1]])
        dofs = [e, e + 1]
        for i in range(2):
            for j in range(2):
                K[dofs[i], dofs[j]] += k[i, j]
            f[dofs[i]] += load * h / 2
    u = np.zeros(n)
    u[1:] = np.linalg.solve(K[1:, 1:], f[1:])
    return u, np.diff(u) / np.diff(nodes)


def fem_triangles(xy, cells):
    """Stiffness of linear triangles by np.ix_ and np.add.at; energy of a linear field."""
    n = len(xy)
    K, mass = np.zeros((n, n)), np.zeros(n)
    for cell in cells:
        p = xy[cell]
        D = np.array([p[1] - p[0], p[2] - p[0]])
        area = 0.5 * abs(D[0, 0] * D[1, 1] - D[0, 1] * D[1, 0])
        G = np.linalg.inv(D) @ np.array([[-1.0, 1, 0], [-1, 0, 1]])
        K[np.ix_(cell, cell)] += area * G.T @ G
        np.add.at(mass, cell, area / 3)
    u = xy[:, 0] + 2 * xy[:, 1] ** 2
    return u @ K @ u, mass


def truss(nodes, bars, force):
    n = 2 * len(nodes)
    K = np.zeros((n, n))
    for a, b in bars:
        d = nodes[b] - nodes[a]
        length = np.linalg.norm(d)
        c = d / length
        block = np.outer(c, c) / length
        for i, p in ((0, a), (1, b)):
            for j, q in ((0, a), (1, b)):
                sign = 1 if i == j else -1
                K[2 * p : 2 * p + 2, 2 * q : 2 * q + 2] += sign * block
    free = np.arange(4, n)
    u = np.zeros(n)
    u[free] = np.linalg.solve(K[np.ix_(free, free)], force[free])
    return u


def akima(x, y, xs):
    m = np.diff(y) / np.diff(x)
    m = np.concatenate([[3 * m[0] - 2 * m[1], 2 * m[0] - m[1]], m, [2 * m[-1] - m[-2], 3 * m[-1] - 2 * m[-2]]])
    slopes = np.empty_like(x)
    for i in range(len(x)):
        w1, w2 = abs(m[i + 3] - m[i + 2]), abs(m[i + 1] - m[i])
        if w1 + w2 < 1e-12:
            slopes[i] = 0.5 * (m[i + 1] + m[i + 2])
        else:
            slopes[i] = (w1 * m[i + 1] + w2 * m[i + 2]) / (w1 + w2)
    out = []
    for v in xs:
        k = min(max(np.searchsorted(x, v) - 1, 0), len(x) - 2)
        h, t = x[k + 1] - x[k], (v - x[k]) / (x[k + 1] - x[k])
        a = y[k] * (1 + 2 * t) * (1 - t) ** 2 + y[k + 1] * t * t * (3 - 2 * t)
        out.append(a + h * (slopes[k] * t * (1 - t) ** 2 + slopes[k + 1] * t * t * (t - 1)))
    return np.array(out)


def de_casteljau(control, ts):
    curve = np.zeros((len(ts), control.shape[1]))
    for i, t in enumerate(ts):
        p = control.copy()
        for r in range(1, len(control)):
            p[: len(control) - r] = (1 - t) * p[: len(control) - r] + t * p[1 : len(control) - r + 1]
        curve[i] = p[0]
    return curve, np.sum(np.sqrt(np.sum(np.diff(curve, axis=0) ** 2, axis=1)))


@dataclass
class Quaternion:
    w: float
    v: np.ndarray

    def __mul__(self, o):
        return Quaternion(self.w * o.w - self.v @ o.v, self.w * o.v + o.w * self.v + np.cross(self.v, o.v))

    def conjugate(self):
        return Quaternion(self.w, -self.v)

    def turn(self, p):
        return (self * Quaternion(0.0, p) * self.conjugate()).v

    @classmethod
    def about(cls, axis, angle):
        return cls(np.cos(angle / 2), np.sin(angle / 2) * axis / np.linalg.norm(axis))


def spin(axis, rate, p):
    q = Quaternion.about(axis, 0.0)
    track = []
    for k in range(6):
        q = Quaternion.about(axis + 0.1 * k, rate) * q
        track.append(q.turn(p))
    return np.stack(track)


def slerp(a, b, ts):
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    d = a @ b
    if d < 0:
        b, d = -b, -d
    if d > 0.9995:
        return np.array([(1 - t) * a + t * b for t in ts])
    theta = np.arccos(d)
    return np.array([np.sin((1 - t) * theta) * a + np.sin(t * theta) * b for t in ts]) / np.sin(theta)


def opening(img):
    """Erosion, then dilation, with a cross; the border counts as it is."""
    def pick(x, f):
        out = x.copy()
        for i in range(1, x.shape[0] - 1):
            for j in range(1, x.shape[1] - 1):
                out[i, j] = f(x[i, j], x[i - 1, j], x[i + 1, j], x[i, j - 1], x[i, j + 1])
        return out

    return pick(pick(img, min), max)


def skeleton_step(img):
    """One pass of Zhang and Suen."""
    remove = np.zeros_like(img)
    for i in range(1, img.shape[0] - 1):
        for j in range(1, img.shape[1] - 1):
            if img[i, j] == 0:
                continue
            ring = [img[i - 1, j], img[i - 1, j + 1], img[i, j + 1], img[i + 1, j + 1],
                    img[i + 1, j], img[i + 1, j - 1], img[i, j - 1], img[i - 1, j - 1]]  # fmt: skip
            count = sum(ring)
            turns = sum(a == 0 and b == 1 for a, b in zip(ring, ring[1:] + ring[:1]))
            if 2 <= count <= 6 and turns == 1 and ring[0] * ring[2] * ring[4] == 0:
                remove[i, j] = 1
    return img & ~remove & 1


def floyd_steinberg(img):
    x = img.copy()
    h, w = x.shape
    for i in range(h):
        for j in range(w):
            old = x[i, j]
            x[i, j] = 1.0 if old > 0.5 else 0.0
            err = old - x[i, j]
            if j + 1 < w:
                x[i, j + 1] += err * 7 / 16
            if i + 1 < h:
                if j > 0:
                    x[i + 1, j - 1] += err * 3 / 16
                x[i + 1, j] += err * 5 / 16
                if j + 1 < w:
                    x[i + 1, j + 1] += err / 16
    return x


def seam(energy):
    """The cheapest path from the top to the bottom."""
    cost = energy.copy()
    h, w = cost.shape
    for i in range(1, h):
        for j in range(w):
            lo, hi = max(j - 1, 0), min(j + 2, w)
            cost[i, j] += cost[i - 1, lo:hi].min()
    path = np.zeros(h, dtype=int)
    path[-1] = np.argmin(cost[-1])
    for i in range(h - 2, -1, -1):
        j = path[i + 1]
        lo = max(j - 1, 0)
        path[i] = lo + np.argmin(cost[i, lo : min(j + 2, w)])
    return path, cost[-1].min()


def needleman(a, b, gap):
    score = np.zeros((len(a) + 1, len(b) + 1))
    score[:, 0] = gap * np.arange(len(a) + 1)
    score[0] = gap * np.arange(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            same = 1.0 if a[i - 1] == b[j - 1] else -1.0
            score[i, j] = max(score[i - 1, j - 1] + same, score[i - 1, j] + gap, score[i, j - 1] + gap)
    i, j, moves = len(a), len(b), 0
    while i > 0 and j > 0:
        if score[i, j] == score[i - 1, j] + gap:
            i -= 1
        elif score[i, j] == score[i, j - 1] + gap:
            j -= 1
        else:
            i, j = i - 1, j - 1
        moves += 1
    return score[-1, -1], moves + i + j


def kmp(text, pattern):
    fail = np.zeros(len(pattern), dtype=int)
    k = 0
    for i in range(1, len(pattern)):
        while k > 0 and pattern[k] != pattern[i]:
            k = fail[k - 1]
        if pattern[k] == pattern[i]:
            k += 1
        fail[i] = k
    found, k = 0, 0
    for c in text:
        while k > 0 and (k == len(pattern) or pattern[k] != c):
            k = fail[k - 1]
        if pattern[k] == c:
            k += 1
        if k == len(pattern):
            found += 1
    return found, fail


def dtw(a, b):
    D = np.full((len(a) + 1, len(b) + 1), np.inf)
    D[0, 0] = 0
    for i in range(1, len(a) + 1):
        for j in range(max(1, i - 3), min(len(b), i + 3) + 1):
            D[i, j] = abs(a[i - 1] - b[j - 1]) + min(D[i - 1, j], D[i, j - 1], D[i - 1, j - 1])
    return D[-1, -1]


def bfs_levels(starts, targets, root):
    """Breadth first over a graph in compressed rows, with an array for a queue."""
    n = len(starts) - 1
    level = np.full(n, -1)
    queue = np.zeros(n, dtype=int)
    queue[0] = root
    level[root] = 0
    head, tail = 0, 1
    while head < tail:
        v = queue[head]
        head += 1
        for k in range(starts[v], starts[v + 1]):
            w = targets[k]
            if level[w] < 0:
                level[w] = level[v] + 1
                queue[tail] = w
                tail += 1
    return level


def kruskal(weights, edges, n):
    parent = np.arange(n)

    def find(v):
        while parent[v] != v:
            parent[v] = parent[parent[v]]
            v = parent[v]
        return v

    total, used = 0.0, 0
    for k in np.argsort(weights):
        a, b = find(edges[k, 0]), find(edges[k, 1])
        if a != b:
            parent[a] = b
            total += weights[k]
            used += 1
            if used == n - 1:
                break
    return total, used


def max_flow(capacity):
    """Ford and Fulkerson, the augmenting path by relaxation."""
    n = len(capacity)
    left, flow = capacity.copy(), 0.0
    while True:
        width, before = np.zeros(n), np.full(n, -1)
        width[0] = np.inf
        for _ in range(n):
            for i in range(n):
                for j in range(n):
                    w = min(width[i], left[i, j])
                    if w > width[j]:
                        width[j] = w
                        before[j] = i
        if width[n - 1] <= 0:
            break
        push, v = width[n - 1], n - 1
        while v != 0:
            u = before[v]
            left[u, v] -= push
            left[v, u] += push
            v = u
        flow += push
    return flow


def topological(adj):
    n = len(adj)
    degree = adj.sum(axis=0)
    order, done = np.full(n, -1), np.zeros(n, dtype=bool)
    for k in range(n):
        ready = np.flatnonzero((degree == 0) & ~done)
        if len(ready) == 0:
            return order, False
        v = ready[0]
        order[k] = v
        done[v] = True
        degree = degree - adj[v]
    return order, True


def hungarian_greedy(cost):
    """Greedy assignment, improved by swaps of two."""
    n = len(cost)
    taken, pick = np.zeros(n, dtype=bool), np.zeros(n, dtype=int)
    for i in range(n):
        row = np.where(taken, np.inf, cost[i])
        pick[i] = np.argmin(row)
        taken[pick[i]] = True
    improved = True
    while improved:
        improved = False
        for i in range(n):
            for j in range(i + 1, n):
                now = cost[i, pick[i]] + cost[j, pick[j]]
                then = cost[i, pick[j]] + cost[j, pick[i]]
                if then < now - 1e-12:
                    pick[i], pick[j] = pick[j], pick[i]
                    improved = True
    return pick, sum(cost[i, pick[i]] for i in range(n))


def eikonal(speed):
    """Fast sweeping in four directions."""
    n, m = speed.shape
    t = np.full((n, m), 1e3)
    t[0, 0] = 0.0
    for _ in range(2):
        for si, sj in ((1, 1), (1, -1), (-1, -1), (-1, 1)):
            for i in range(n)[::si]:
                for j in range(m)[::sj]:
                    if i == 0 and j == 0:
                        continue
                    a = min(t[i - 1, j] if i > 0 else 1e3, t[i + 1, j] if i < n - 1 else 1e3)
                    b = min(t[i, j - 1] if j > 0 else 1e3, t[i, j + 1] if j < m - 1 else 1e3)
                    f = 1 / speed[i, j]
                    if abs(a - b) >= f:
                        new = min(a, b) + f
                    else:
                        new = 0.5 * (a + b + np.sqrt(2 * f * f - (a - b) ** 2))
                    t[i, j] = min(t[i, j], new)
    return t


def smoothing_cycle(f):
    """A cycle of two grids for -u'' = f with weighted Jacobi."""

    def smooth(u, f, h, sweeps):
        for _ in range(sweeps):
            u[1:-1] += 2 / 3 * (0.5 * (u[2:] + u[:-2] + h * h * f[1:-1]) - u[1:-1])
        return u

    n, h = len(f), 1.0 / (len(f) - 1)
    u = np.zeros(n)
    norms = []
    for _ in range(3):
        u = smooth(u, f, h, 2)
        r = np.zeros(n)
        r[1:-1] = f[1:-1] + (u[2:] - 2 * u[1:-1] + u[:-2]) / h**2
        coarse = np.zeros(n // 2 + 1)
        coarse[1:-1] = 0.25 * (r[1:-2:2] + 2 * r[2:-1:2] + r[3::2])
        e = smooth(np.zeros(n // 2 + 1), coarse, 2 * h, 30)
        u[::2] += e
        u[1::2] += 0.5 * (e[1:] + e[:-1])
        u = smooth(u, f, h, 2)
        norms.append(np.abs(r).max())
    return u, np.array(norms)


def moving_average_queue(xs, size):
    """A queue that the function keeps by itself."""
    queue, total, out = deque(), 0.0, []
    for x in xs:
        queue.append(x)
        total += x
        if len(queue) > size:
            total -= queue.popleft()
        out.append(total / len(queue))
    return np.array(out)


def kdtree_like(points, query):
    """Median splits of an index array, then a walk down."""
    index = np.arange(len(points))
    lo, hi, axis = 0, len(points), 0
    while hi - lo > 2:
        part = index[lo:hi]
        index[lo:hi] = part[np.argsort(points[part, axis])]
        mid = (lo + hi) // 2
        if query[axis] < points[index[mid], axis]:
            hi = mid
        else:
            lo = mid
        axis = 1 - axis
    d = ((points[index[lo:hi]] - query) ** 2).sum(axis=1)
    return d.min(), hi - lo


R = np.random.default_rng(33)
POINTS = R.normal(size=(8, 2))
STAR = np.array([[0.0, 0.0], [2.0, 0.3], [3.0, 2.0], [1.4, 1.2], [0.2, 2.5]])
DIRECTIONS = np.stack([np.linspace(-0.4, 0.4, 5), np.linspace(-0.2, 0.2, 5), np.ones(5)], axis=1)
NODES = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.1], [1.0, 1.1], [2.0, 0.6]])
BARS = np.array([[0, 2], [1, 3], [0, 3], [1, 2], [2, 3], [2, 4], [3, 4]])
XY = np.array([[0.0, 0.0], [1.0, 0.1], [0.1, 1.0], [1.1, 0.9], [0.5, 0.6]])
CELLS = np.array([[0, 1, 4], [1, 3, 4], [3, 2, 4], [2, 0, 4]])
STARTS, TARGETS = np.array([0, 2, 3, 5, 6, 6, 7]), np.array([1, 2, 3, 3, 4, 5, 0])
DAG = np.triu(R.random((6, 6)) < 0.5, 1).astype(int)
GRAPH = R.uniform(0.5, 4.0, (5, 5)) * (1 - np.eye(5))

CASES = [
    Everyday(gift_wrap, (POINTS,), (0,)),
    Everyday(winding, (STAR, R.uniform(0, 3, (6, 2)))),
    Everyday(clip_polygon, (STAR, np.array([0.0, 0.9]), np.array([3.0, 1.1])), (0, 1, 2)),
    Everyday(closest_pair, (POINTS,), (0,)),
    Everyday(sphere_march, (np.array([0.0, 0.2, 0.0]), DIRECTIONS)),
    Everyday(triangles_hit, (np.array([0.1, 0.2, -2.0]), np.array([0.0, 0.05, 1.0]), R.normal(size=(6, 3, 3))), (0, 1)),
    Everyday(bresenham, (np.zeros((8, 9), dtype=int), 1, 6, 7, 2)),
    Everyday(fem_bar, (np.array([0.0, 0.4, 1.0, 1.3, 2.0]), np.array([1.0, 2.0, 1.5, 0.7]), 0.6), (0, 1, 2)),
    Everyday(fem_triangles, (XY, CELLS), (0,)),
    Everyday(truss, (NODES, BARS, R.normal(size=10)), (0, 2)),
    Everyday(akima, (np.arange(6.0), R.normal(size=6), np.array([0.3, 1.7, 4.2])), (1, 2)),
    Everyday(de_casteljau, (R.normal(size=(4, 2)), np.linspace(0.1, 0.9, 4)), (0, 1)),
    Everyday(spin, (np.array([0.2, 0.5, 1.0]), 0.4, np.array([1.0, 0.0, 0.5])), (0, 1, 2)),
    Everyday(slerp, (R.normal(size=4), R.normal(size=4), np.array([0.2, 0.7])), (0, 1, 2)),
    Everyday(opening, (R.random((6, 7)),), (0,)),
    Everyday(skeleton_step, ((R.random((7, 7)) < 0.6).astype(int),)),
    Everyday(floyd_steinberg, (R.random((5, 6)),)),
    Everyday(seam, (R.random((6, 5)),), (0,)),
    Everyday(needleman, (R.integers(0, 4, 9), R.integers(0, 4, 8), -0.7), (2,)),
    Everyday(kmp, (R.integers(0, 2, 30), np.array([0, 1, 0]))),
    Everyday(dtw, (R.normal(size=8), R.normal(size=8)), (0, 1)),
    Everyday(bfs_levels, (STARTS, TARGETS, 0), mapped=False),
    Everyday(kruskal, (R.uniform(1, 5, 7), BARS, 5), (0,)),
    Everyday(max_flow, (GRAPH,), (0,)),
    Everyday(topological, (DAG,)),
    Everyday(hungarian_greedy, (R.random((5, 5)),), (0,)),
    Everyday(eikonal, (R.uniform(0.5, 2.0, (5, 6)),), (0,)),
    Everyday(smoothing_cycle, (R.normal(size=17),), (0,)),
    Everyday(moving_average_queue, (R.normal(size=9), 3), (0,)),
    Everyday(kdtree_like, (R.normal(size=(13, 2)), np.array([0.3, -0.2])), (0, 1)),
]  # fmt: skip
