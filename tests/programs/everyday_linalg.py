"""Matrices: eliminations, factorisations, fits."""

from __future__ import annotations

import functools
import math

import numpy as np

from tests.programs.everyday import Everyday


def natural_spline(x, y):
    n = len(x) - 1
    h = np.diff(x)
    A = np.zeros((n + 1, n + 1))
    b = np.zeros(n + 1)
    A[0, 0] = A[n, n] = 1.0
    for i in range(1, n):
        A[i, i - 1], A[i, i], A[i, i + 1] = h[i - 1], 2 * (h[i - 1] + h[i]), h[i]
        b[i] = 3 * ((y[i + 1] - y[i]) / h[i] - (y[i] - y[i - 1]) / h[i - 1])
    return np.linalg.solve(A, b)


def gauss_pivot(A, b):
    A = A.copy()
    b = b.copy()
    n = len(b)
    for k in range(n):
        p = k + np.argmax(np.abs(A[k:, k]))
        if p != k:
            A[[k, p]] = A[[p, k]]
            b[[k, p]] = b[[p, k]]
        for i in range(k + 1, n):
            m = A[i, k] / A[k, k]
            A[i, k:] -= m * A[k, k:]
            b[i] -= m * b[k]
    x = np.zeros(n)
    for i in range(n - 1, -1, -1):
        x[i] = (b[i] - A[i, i + 1 :] @ x[i + 1 :]) / A[i, i]
    return x


def det_swap(A):
    A = np.array(A)
    n = A.shape[0]
    sign = 1.0
    for k in range(n - 1):
        p = np.argmax(np.abs(A[k:, k])) + k
        if p != k:
            tmp = A[k].copy()
            A[k] = A[p]
            A[p] = tmp
            sign = -sign
        A[k + 1 :, k:] -= np.outer(A[k + 1 :, k] / A[k, k], A[k, k:])
    return sign * np.prod(np.diag(A))


def jacobi_eig(A):
    A = A @ A.T
    n = A.shape[0]
    for sweep in range(6):
        for p in range(n - 1):
            for q in range(p + 1, n):
                if abs(A[p, q]) > 1e-12:
                    theta = (A[q, q] - A[p, p]) / (2 * A[p, q])
                    t = np.sign(theta) / (abs(theta) + math.sqrt(theta * theta + 1))
                    c = 1 / math.sqrt(t * t + 1)
                    s = t * c
                    J = np.eye(n)
                    J[p, p] = J[q, q] = c
                    J[p, q] = s
                    J[q, p] = -s
                    A = J.T @ A @ J
    return np.sort(np.diag(A))


def householder(A):
    m, n = A.shape
    R = A.copy()
    Q = np.eye(m)
    for k in range(n):
        x = R[k:, k]
        e = np.zeros_like(x)
        e[0] = np.copysign(np.linalg.norm(x), x[0])
        v = x + e
        v = v / np.linalg.norm(v)
        R[k:] -= 2.0 * np.outer(v, v @ R[k:])
        Q[k:] -= 2.0 * np.outer(v, v @ Q[k:])
    return R[:n].sum() + Q[0, 0]


def givens(A):
    R = A.copy()
    m, n = R.shape
    for j in range(n):
        for i in range(m - 1, j, -1):
            a, b = R[i - 1, j], R[i, j]
            r = np.hypot(a, b)
            c, s = a / r, -b / r
            G = np.array([[c, -s], [s, c]])
            R[i - 1 : i + 1, j:] = G @ R[i - 1 : i + 1, j:]
    return R


def lanczos(A, v):
    A = A + A.T
    n, m = len(v), 5
    V = np.zeros((m + 1, n))
    alpha, beta = np.zeros(m), np.zeros(m + 1)
    V[0] = v / np.linalg.norm(v)
    for j in range(m):
        w = A @ V[j]
        if j > 0:
            w -= beta[j] * V[j - 1]
        alpha[j] = w @ V[j]
        w -= alpha[j] * V[j]
        beta[j + 1] = np.linalg.norm(w)
        V[j + 1] = w / beta[j + 1]
    return np.concatenate([alpha, beta[1:]])


def sor(A, b):
    A = A + 10 * np.eye(len(b))
    x = np.zeros_like(b)
    w = 1.1
    for it in range(30):
        x_old = x.copy()
        for i in range(len(b)):
            s = A[i, :i] @ x[:i] + A[i, i + 1 :] @ x[i + 1 :]
            x[i] = (1 - w) * x[i] + w * (b[i] - s) / A[i, i]
        if np.max(np.abs(x - x_old)) < 1e-13:
            break
    return x


def lu_inplace_scipy_like(A):
    A = A.copy()
    n = len(A)
    piv = np.arange(n)
    for k in range(n - 1):
        m = k + abs(A[k:, k]).argmax()
        if m != k:
            A[[k, m], :] = A[[m, k], :]
            piv[k], piv[m] = piv[m], piv[k]
        A[k + 1 :, k] /= A[k, k]
        A[k + 1 :, k + 1 :] -= A[k + 1 :, k, None] * A[k, k + 1 :]
    return A, piv


def kalman2(zs):
    x, P = np.zeros(2), np.eye(2)
    F, H, Q, Rm = np.array([[1.0, 1.0], [0, 1]]), np.array([[1.0, 0]]), 0.01 * np.eye(2), np.array([[0.5]])
    est = []
    for z in zs:
        x = F @ x
        P = F @ P @ F.T + Q
        S = H @ P @ H.T + Rm
        K = P @ H.T @ np.linalg.inv(S)
        x = x + (K @ (np.atleast_1d(z) - H @ x))
        P = (np.eye(2) - K @ H) @ P
        est.append(x[0])
    return np.stack(est)


def levenberg(t, y):
    p = np.array([1.0, 0.5])
    lam = 1e-2

    def res(p):
        return p[0] * np.exp(-p[1] * t) - y

    r = res(p)
    for _ in range(10):
        J = np.stack([np.exp(-p[1] * t), -p[0] * t * np.exp(-p[1] * t)], axis=1)
        step = np.linalg.solve(J.T @ J + lam * np.eye(2), -J.T @ r)
        rn = res(p + step)
        if (rn**2).sum() < (r**2).sum():
            p, r, lam = p + step, rn, lam / 3
        else:
            lam *= 2
    return p


def soft_threshold_ista(A, b):
    x = np.zeros(A.shape[1])
    L = np.linalg.norm(A, "fro") ** 2
    for k in range(50):
        g = A.T @ (A @ x - b)
        z = x - g / L
        x = np.sign(z) * np.maximum(np.abs(z) - 0.1 / L, 0)
    return x


def mahalanobis(X, mu):
    C = np.cov(X, rowvar=False)
    d = X - mu
    return np.sqrt(np.einsum("ij,jk,ik->i", d, np.linalg.inv(C), d))


def ols(X, y):
    Xb = np.column_stack([np.ones(len(X)), X])
    beta = np.linalg.solve(Xb.T @ Xb, Xb.T @ y)
    resid = y - Xb @ beta
    r2 = 1 - (resid @ resid) / ((y - y.mean()) @ (y - y.mean()))
    return beta, r2


def ridge_cv(X, y):
    best, err = 0.0, np.inf
    for lam in [0.1, 1.0]:
        e = 0.0
        for k in range(2):
            test = np.arange(len(y)) % 2 == k
            A, b = X[~test], y[~test]
            w = np.linalg.solve(A.T @ A + lam * np.eye(X.shape[1]), A.T @ b)
            e = e + ((X[test] @ w - y[test]) ** 2).sum()
        if e < err:
            best, err = lam, e
    return best, err


def markowitz(mu, S):
    C = S @ S.T + np.eye(len(mu))
    w = np.linalg.solve(C, mu)
    return w / w.sum()


def kabsch_cov(A, B):
    a, b = A - A.mean(0), B - B.mean(0)
    return np.linalg.det(a.T @ b) + np.trace(a.T @ b)


def expm(A):
    out = np.eye(len(A))
    term = np.eye(len(A))
    k = 1
    while np.abs(term).max() > 1e-14 and k < 60:
        term = term @ A / k
        out += term
        k += 1
    return out


def matrix_power(A):
    return np.linalg.matrix_power(A, 5)


def logdet(A):
    s, l = np.linalg.slogdet(A @ A.T + np.eye(len(A)))
    return s * l


def gp_nll(x, y, ls):
    K = np.exp(-0.5 * (x[:, None] - x) ** 2 / ls**2) + 0.1 * np.eye(len(x))
    L = np.linalg.cholesky(K)
    a = np.linalg.solve(L.T, np.linalg.solve(L, y))
    return 0.5 * y @ a + np.log(np.diag(L)).sum()


def matmul_inplace(A, B):
    A @= B
    A -= np.outer(A[:, 0], A[0])
    return A


def corrcoef(X):
    return np.corrcoef(X, rowvar=False)


def standardize(X):
    return (X - X.mean(axis=0)) / (X.std(axis=0, ddof=1) + 1e-9)


def pagerank(A):
    n = A.shape[0]
    out = A.sum(axis=1, keepdims=True)
    P = A / out
    r = np.ones(n) / n
    for _ in range(100):
        new = 0.15 / n + 0.85 * r @ P
        if np.abs(new - r).sum() < 1e-10:
            return new
        r = new
    return r


def bernstein(ctrl, t):
    pts = [ctrl[i] for i in range(len(ctrl))]
    while len(pts) > 1:
        pts = [(1 - t) * a + t * b for a, b in zip(pts, pts[1:])]
    return pts[0]


def bspline(x, knots):
    n = len(knots) - 1
    B = [np.where((x >= knots[i]) & (x < knots[i + 1]), 1.0, 0.0) for i in range(n)]
    for k in range(1, 3):
        B = [
            (x - knots[i]) / (knots[i + k] - knots[i]) * B[i]
            + (knots[i + k + 1] - x) / (knots[i + k + 1] - knots[i + 1]) * B[i + 1]
            for i in range(n - k)
        ]
    return np.stack(B)


def chebyshev(c, x):
    t0, t1 = np.ones_like(x), x.copy()
    s = c[0] * t0 + c[1] * t1
    for k in range(2, len(c)):
        t0, t1 = t1, 2 * x * t1 - t0
        s += c[k] * t1
    return s


def horner_reduce(c, x):
    return functools.reduce(lambda acc, a: acc * x + a, c)


def newton_poly(c):
    x = 1.5
    for _ in range(20):
        p, dp = 0.0, 0.0
        for a in c:
            dp, p = dp * x + p, p * x + a
        if abs(p) < 1e-12:
            break
        x -= p / dp
    else:
        x = x + 0.0
    return x


def quaternion(q, v):
    q = q / np.linalg.norm(q)
    w, u = q[0], q[1:]
    return v + 2 * np.cross(u, np.cross(u, v) + w * v)


def rotate(pts, theta):
    c, s = np.cos(theta), np.sin(theta)
    return pts @ np.array([[c, -s], [s, c]]).T


RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape)


A5 = RNG.normal(size=(5, 5))
x5 = RNG.normal(size=5)
CASES = [
    Everyday(natural_spline, (np.arange(6.0) + RNG.uniform(0, 0.3, 6), RNG.normal(size=6)), (0, 1)),
    Everyday(gauss_pivot, (A5, x5), (0, 1)),
    Everyday(det_swap, (A5,), (0,)),
    Everyday(jacobi_eig, (RNG.normal(size=(3, 3)),), (0,)),
    Everyday(householder, (RNG.normal(size=(5, 3)),), (0,)),
    Everyday(givens, (RNG.normal(size=(4, 3)),), (0,)),
    Everyday(lanczos, (RNG.normal(size=(8, 8)), RNG.normal(size=8)), (0, 1)),
    Everyday(sor, (A5, x5), (0, 1)),
    Everyday(lu_inplace_scipy_like, (A5,), (0,)),
    Everyday(kalman2, (RNG.normal(size=10),), (0,)),
    Everyday(levenberg, (np.linspace(0, 2, 9), 2 * np.exp(-np.linspace(0, 2, 9))), (1,)),
    Everyday(soft_threshold_ista, (RNG.normal(size=(8, 4)), RNG.normal(size=8)), (0, 1)),
    Everyday(mahalanobis, (normal(8, 3), normal(3)), (0, 1)),
    Everyday(ols, (normal(9, 2), normal(9)), (0, 1)),
    Everyday(ridge_cv, (normal(8, 2), normal(8)), (0, 1)),
    Everyday(markowitz, (normal(4), normal(4, 4)), (0, 1)),
    Everyday(kabsch_cov, (normal(5, 3), normal(5, 3)), (0, 1)),
    Everyday(expm, (normal(3, 3) * 0.4,), (0,)),
    Everyday(matrix_power, (normal(3, 3),), (0,)),
    Everyday(logdet, (normal(4, 4),), (0,)),
    Everyday(gp_nll, (normal(6), normal(6), 1.2), (0, 1, 2)),
    Everyday(matmul_inplace, (normal(4, 4), normal(4, 4)), (0, 1)),
    Everyday(corrcoef, (normal(8, 3),), (0,)),
    Everyday(standardize, (normal(8, 3),), (0,)),
    Everyday(pagerank, (RNG.uniform(0.1, 1, (6, 6)),), (0,)),
    Everyday(bernstein, (normal(5, 2), 0.3), (0, 1)),
    Everyday(bspline, (np.linspace(0.5, 4.5, 7), np.arange(8.0)), (0,)),
    Everyday(chebyshev, (normal(5), normal(6)), (0, 1)),
    Everyday(horner_reduce, (normal(5), 1.1), (0, 1)),
    Everyday(newton_poly, (np.array([1.0, 0.0, -2.0]),), (0,)),
    Everyday(quaternion, (normal(4), normal(3)), (0, 1)),
    Everyday(rotate, (normal(5, 2), 0.7), (0, 1)),
]
