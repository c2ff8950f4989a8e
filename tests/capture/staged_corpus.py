"""NumPy functions whose control flow depends on traced values: run as they are, and staged."""

from __future__ import annotations

import math

import numpy as np

CASES: list[tuple] = []  # (function, arguments, control ops of its graph)


def case(*args, ops=None):
    def note(f):
        CASES.append((f, args, ops))
        return f

    return note


x5 = np.array([3.0, -1.0, 2.0, 0.5, -4.0])
x8 = np.linspace(-1.0, 2.0, 8)
ints = np.array([5, 3, 8, 1, 9, 2])
square = np.arange(36.0).reshape(6, 6) / 7 + np.eye(6) * 20


@case(2.0, ops={"switch"})
@case(-2.0)
def absolute(x):
    if x > 0:
        y = x * 2
    else:
        y = -x
    return y


@case(x8, ops={"for"})
@case(x8.astype(np.float32), ops={"for"})
def weighted(x):
    s = 0.0
    for i in range(x.shape[0]):
        s += x[i] * i
    return s


@case(x8, ops={"for"})
def int_then_float(x):
    s = 0
    for i in range(len(x)):
        s = s + x[i]
    return s


@case(square, ops={"for"})
def cholesky(A):
    A[0, 0] = np.sqrt(A[0, 0])
    for i in range(1, A.shape[0]):
        for j in range(i):
            A[i, j] -= np.dot(A[i, :j], A[j, :j])
            A[i, j] /= A[j, j]
        A[i, i] -= np.dot(A[i, :i], A[i, :i])
        A[i, i] = np.sqrt(A[i, i])


@case(square, np.arange(6.0), ops={"for"})
def forward_substitution(L, b):
    y = np.zeros_like(b)
    for i in range(len(b)):
        y[i] = (b[i] - np.dot(L[i, :i], y[:i])) / L[i, i]
    return y


@case(square, np.arange(6.0), ops={"for"})
def back_substitution(U, b):
    n = len(b)
    x = np.zeros(n)
    for i in range(n - 1, -1, -1):
        x[i] = (b[i] - U[i, i + 1 :] @ x[i + 1 :]) / U[i, i]
    return x


@case(x8, ops={"for"})
def heat(u):
    un = u.copy()
    for t in range(20):
        un[1:-1] = u[1:-1] + 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
        u = un.copy()
    return u


@case(x8, ops={"for"})
def heat_in_place(u):
    for t in range(20):
        u[1:-1] += 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return u.sum()


@case(x8, ops={"for"})
def swapped_buffers(u):
    a = u.copy()
    b = u.copy()
    for t in range(9):
        b[1:-1] = a[1:-1] + 0.1 * (a[2:] - 2 * a[1:-1] + a[:-2])
        a, b = b, a
    return a, b


@case(2.0, ops={"while"})
def newton(a):
    x = a
    err = 1.0
    n = 0
    while err > 1e-10 and n < 50:
        new = 0.5 * (x + a / x)
        err = abs(new - x)
        x = new
        n += 1
    return x, n


@case(2.0, ops={"while", "switch"})
def newton_forever(a):
    x = a
    while True:
        new = 0.5 * (x + a / x)
        if abs(new - x) < 1e-12:
            break
        x = new
    return x


@case(5.0, ops={"while", "switch"})
@case(1.0)
def newton_else(a):
    x = a
    for k in range(6):
        new = 0.5 * (x + a / x)
        if abs(new - x) < 1e-12:
            found = 1
            break
        x = new
    else:
        found = 0
    return x, found


@case(x5, 2.0, ops={"while", "switch"})
@case(x5, 7.0)
def first_index(x, v):
    for i in range(len(x)):
        if x[i] == v:
            return i
    return -1


@case(x8, ops={"for", "switch"})
def skip_negative(x):
    s = 0.0
    for i in range(len(x)):
        if x[i] < 0:
            continue
        s += np.sqrt(x[i])
    return s


@case(x8, 0.5, ops={"switch"})
@case(-x8, 0.5)
@case(x8 * 10, 0.5)
def guard_clauses(x, t):
    m = x.mean()
    if m < 0:
        return m
    if m > t * 4:
        return m * 2
    y = x * t
    if y[0] > 0:
        y = y + 1
    return y.sum()


@case(x8, ops={"for", "switch"})
def bubble_max(x):
    best = x[0]
    where = 0
    for i in range(1, len(x)):
        if x[i] > best:
            best = x[i]
            where = i
    return best, where


@case(ints, ops={"for", "switch"})
def bubble_sort(a):
    n = len(a)
    for i in range(n):
        for j in range(n - 1 - i):
            if a[j] > a[j + 1]:
                a[j], a[j + 1] = a[j + 1], a[j]
    return a


@case(ints, ops={"for", "while", "switch"})
def insertion_sort(a):
    for i in range(1, len(a)):
        key = a[i]
        j = i - 1
        while j >= 0 and a[j] > key:
            a[j + 1] = a[j]
            j -= 1
        a[j + 1] = key


@case(x8, 1.0, ops={"while", "switch"})
def bisection(c, hi):
    lo = -3.0
    for _ in range(60):
        mid = (lo + hi) / 2
        if c[0] * mid**3 + c[1] + mid > 0:
            hi = mid
        else:
            lo = mid
        if hi - lo < 1e-6:
            break
    return mid


@case(np.linspace(-2, 0.5, 5), np.linspace(-1, 1, 4), ops={"for", "while"})
def mandelbrot(re, im):
    out = np.zeros((len(im), len(re)), dtype=np.int64)
    for i in range(len(im)):
        for j in range(len(re)):
            a, b = 0.0, 0.0
            k = 0
            while a * a + b * b < 4 and k < 30:
                a, b = a * a - b * b + re[j], 2 * a * b + im[i]
                k += 1
            out[i, j] = k
    return out


@case(square, ops={"for"})
def row_iteration(A):
    s = np.zeros(A.shape[1])
    for row in A:
        s += row * row[0]
    return s


@case(x8, x8 + 1, ops={"for"})
def zipped(x, y):
    s = 0.0
    for i, (a, b) in enumerate(zip(x, y)):
        s += a * b * i
    for a in reversed(x):
        s = s * 0.5 + a
    return s


@case(square, ops={"for"})
def positions(A):
    out = np.zeros_like(A)
    for i, j in np.ndindex(A.shape):
        out[j, i] += A[i, j] * i
    return out


@case(square, square[:2, :3] / 9, ops={"for"})
def numbered(A, k):
    out = np.zeros((5, 4))
    for (i, j), w in np.ndenumerate(k):
        out += w * A[i : i + 5, j : j + 4]
    return out


@case(square, ops={"for"})
def rows_from_an_index_of_the_data(A):
    out = np.zeros((5, 4))
    for k in range(6):
        i = int(A[k, 0] > 0.5)
        out += A[i : i + 5, :4]
    return out + out[0]


@case(x8, x5[:3], ops={"for", "switch"})
def filtered(x, b):
    y = np.zeros_like(x)
    for n in range(len(x)):
        acc = 0.0
        for k in range(len(b)):
            if n - k >= 0:
                acc += b[k] * x[n - k]
        y[n] = acc
    return y


@case(square, ops=set())
def positions_in_a_list(A):
    return [A[ij] for ij in np.ndindex(2, 2)] + [A[0, 0] for _ in np.ndindex(())] + [A for _ in np.ndindex(0, 3)]


@case(x8, 3, ops={"for"})
def dynamic_bound(x, n):
    s = 0.0
    for i in range(n):
        s += x[i]
    return s


@case(x8)
def steps(x):
    s = 0.0
    for i in range(1, len(x), 2):
        s += x[i]
    for i in range(len(x) - 1, -1, -3):
        s -= x[i] * i
    return s


@case(x8, ops={"switch"})
@case(-x8)
def expressions(x):
    a = x[0] > 0 and x[1] > -5
    b = x[0] > 0 or x[1] > 100
    c = 0 < x[2] < 3
    d = not x[3] > 0
    e = x[4] if x[4] > 0 else -x[4]
    return a, b, c, d, e


@case(x8, ops={"for"})
def function_calls(x):
    def update(acc, v):
        return acc + math.sqrt(v * v + 1)

    acc = 0.0
    for v in x:
        acc = update(acc, float(v))
    return acc


@case(x8, ops={"for"})
def tuple_state(x):
    state = (0.0, {"n": 0, "m": 1.0})
    for v in x:
        state = (state[0] + v, {"n": state[1]["n"] + 1, "m": state[1]["m"] * 0.9 + v})
    return state


@case(x8, ops={"for", "switch"})
def none_then_value(x):
    best = None
    for i in range(len(x)):
        if best is None or x[i] < best:
            best = x[i]
    return best


@case(x8, ops={"for"})
def loop_variable_after(x):
    for i in range(len(x)):
        y = x[i] * 2
    return i, y


@case(x8)
def appended(x):
    out = []
    for i in range(len(x)):
        out.append(x[i] * i)
    return np.array(out)


@case(x8, ops={"for"})
def unrolled_inside(x):
    weights = [0.1, 0.2, 0.7]
    s = np.zeros(3)
    for i in range(len(x)):
        for k, w in enumerate(weights):
            s[k] += w * x[i]
    return s


@case(x8, ops={"switch"})
@case(-x8)
def conditional_write(x):
    y = np.zeros(3)
    if x[0] > 0:
        y[0] = 1
        x[1] = 100
    elif x[0] > -2:
        y[1:] = x[2:4]
    return y


@case(x8, ops={"while", "switch"})
def nested_signals(x):
    total = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            if j > i:
                break
            if x[j] < 0:
                continue
            total += x[i] * x[j]
        if total > 5:
            return total, i
    return total, -1


@case(np.array([10, 7, 25, 4, 1, 2]), ops={"for", "while", "switch"})
def collatz(ns):
    out = np.zeros_like(ns)
    for k in range(len(ns)):
        n = ns[k]
        while n != 1:
            if n % 2 == 0:
                n = n // 2
            else:
                n = 3 * n + 1
            out[k] += 1
    return out


@case(x8, ops={"for"})
def views_inside(x):
    A = np.zeros((4, 8))
    for i in range(8):
        col = A[:, i]
        col[:] = x[i]
        A[1] += x
    return A


@case(x8, ops={"for"})
def views_outside(x):
    A = np.zeros((3, 8))
    row = A[1]
    T = A.T
    for i in range(8):
        row[i] = x[i]
        T[i, 0] += row[i] * 2
    return A


@case(x8, ops={"while"})
def while_else(x):
    i = 0
    s = 0.0
    while s < 3 and i < 8:
        s += abs(x[i])
        i += 1
    else:
        s = -s
    return s, i


@case(x8)
def walrus(x):
    n = 0
    while (y := x[n]) < 1.0:
        n += 1
    return y, n


@case(x8, ops={"for"})
def scalar_state(x):
    a = np.float64(0.0)
    b = a
    for v in x:
        b = a
        a += v
    return a, b


@case(x8, ops={"for"})
def last_two(x):
    prev, cur = 0.0, 1.0
    for v in x:
        prev, cur = cur, prev + cur * v
    return prev, cur


@case(np.array([[1, 2], [3, 4]]), 13, ops={"while", "switch"})
def matrix_power(m, n):
    result = np.eye(2, dtype=m.dtype)
    while n > 0:
        if n % 2 == 1:
            result = result @ m
        m = m @ m
        n //= 2
    return result


class Walker:
    def __init__(self, x):
        self.n = 0
        self.position = x * 0
        self.energy = None
        self.history = [0.0, 1.0]

    def step(self, x):
        self.position = self.position + x
        self.n += 1
        self.energy = self.position.sum()
        self.history[1] = self.history[0] + self.energy
        if self.energy > 3:
            self.n += 10
            self.flag = 1.0
        else:
            self.flag = self.energy


@case(x5, ops={"for", "switch"})
def object_state(x):
    w = Walker(x)
    for i in range(10):
        w.step(x * i)
    return w.position, w.n, w.energy, w.history, w.flag


class Particle:
    def __init__(self, x, v):
        self.x = x
        self.v = v


@case(x5, ops={"for"})
def particles(x):
    ps = [Particle(x, x * 2), Particle(x + 1, -x)]
    for _ in range(20):
        for p in ps:
            p.x = p.x + 0.1 * p.v
        a = ps[0].x - ps[1].x
        ps[0].v -= a
        ps[1].v += a
    return [p.x for p in ps]


@case(x8, ops={"for", "switch"})
def dict_counters(x):
    c = {"n": 0, "s": 0.0}
    for v in x:
        if v > 0.5:
            c["n"] += 1
            c["s"] += v
    return c


@case(x8, ops={"for"})
def counted_by_a_closure(x):
    total = 0.0

    def add(v):
        nonlocal total
        total += v

    for v in x:
        add(v)
    return total


@case(x8, ops={"for"})
def boundary_then_rebound(x):
    u = x.copy()
    for _ in range(8):
        u[0] = 1.0
        u = u + 0.1 * (x - u)
    return u


@case(x8, ops={"for"})
def boundary_of_an_argument(u):
    for _ in range(8):
        u[0] = 1.0
        u = u + 0.1 * u
    return u


@case(x8, x8 + 1, ops={"for"})
def traded_arguments(u, un):
    for _ in range(9):
        un[1:-1] = 0.5 * (u[2:] + u[:-2])
        u, un = un, u
    return u * 1


@case(x8, ops={"for"})
def alias_before_the_loop(x):
    v = x.copy()
    w = v
    for _ in range(8):
        v[0] = v[0] + 1.0
        v = v * 2
    return v, w


@case(x8, ops={"switch"})
@case(-x8)
def rebound_then_written(x):
    y = x * 2
    if x[-1] > 0:
        y = y + 1
    y[0] = 9
    return y


@case(x8, 5, ops={"for"})
def size_from_an_int(x, n):
    for i in range(6):
        y = np.zeros(n)
        x = x + y.sum() + i
    return x


@case(x8, 5)
@case(x8, 2)
def branch_on_an_int(x, n):
    if n > 3:
        return np.zeros(n)
    return x
