/* Gradients of half the sum of squares of twelve programs' results, derived and written by hand: the bar for what
   reverse mode gives. Each runs its forward pass too, keeps only what its backward reads, and accumulates in place.
   Cotangents are called g; workspace w is the caller's. */

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t I;
typedef double D;
#define R restrict

void heat1d(D *R u, I n, I steps, D c, D *R w);
void jacobi2d(D *R a, I n, I steps, D *R b);
void heat3d(D *R u, I n, I steps, D *R w);
void gauss_seidel(D *R u, I n, I m, I steps);
void cholesky(D *R A, I n);
void lu(D *R A, I n);
void forward_substitution(const D *R L, const D *R b, D *R x, I n);
void exponential_average(const D *R x, D a, D *R y, I n);
void convolve_image(const D *R x, const D *R k, D *R out, I h, I w, I kh, I kw);
void sparse_matvec(const I *R ip, const I *R col, const D *R val, const D *R x, D *R y, I n);

/* g receives du0; returns dc. tape holds steps rows of n. */
D heat1d_gradient(const D *R u0, D *R g, I n, I steps, D c, D *R tape, D *R w) {
    memcpy(g, u0, n * sizeof(D));
    for (I t = 0; t < steps; t++) {
        D *R u = tape + t * n;
        memcpy(u, g, n * sizeof(D));
        for (I i = 1; i < n - 1; i++) g[i] = u[i] + c * (u[i + 1] - 2.0 * u[i] + u[i - 1]);
    }
    D dc = 0.0;
    for (I t = steps - 1; t >= 0; t--) {
        const D *R u = tape + t * n;
        for (I i = 1; i < n - 1; i++) dc += g[i] * (u[i + 1] - 2.0 * u[i] + u[i - 1]);
        w[0] = w[n - 1] = 0.0;
        memcpy(w + 1, g + 1, (n - 2) * sizeof(D));
        g[0] += c * w[1];
        g[n - 1] += c * w[n - 2];
        for (I i = 1; i < n - 1; i++) g[i] = w[i] + c * (w[i - 1] - 2.0 * w[i] + w[i + 1]);
    }
    return dc;
}

/* ga += adjoint of one sweep b = J(a) from gb, whose inside is consumed. Written as a gather over ga. */
static void jacobi_adjoint(D *R ga, D *R gb, I n) {
    for (I k = 1; k < n - 1; k++) {
        ga[k] += 0.2 * gb[n + k];
        ga[(n - 1) * n + k] += 0.2 * gb[(n - 2) * n + k];
        ga[k * n] += 0.2 * gb[k * n + 1];
        ga[k * n + n - 1] += 0.2 * gb[k * n + n - 2];
    }
    for (I i = 1; i < n - 1; i++)
        for (I j = 1; j < n - 1; j++) {
            I q = i * n + j;
            D s = gb[q];
            if (j > 1) s += gb[q - 1];
            if (j < n - 2) s += gb[q + 1];
            if (i > 1) s += gb[q - n];
            if (i < n - 2) s += gb[q + n];
            ga[q] += 0.2 * s;
        }
    for (I i = 1; i < n - 1; i++) memset(gb + i * n + 1, 0, (n - 2) * sizeof(D));
}

void jacobi2d_gradient(const D *R a0, D *R g, I n, I steps, D *R gb) {
    memcpy(g, a0, n * n * sizeof(D));
    memcpy(gb, a0, n * n * sizeof(D));
    jacobi2d(g, n, steps, gb);
    memset(gb, 0, n * n * sizeof(D));
    for (I t = 1; t < steps; t++) {
        jacobi_adjoint(gb, g, n);
        jacobi_adjoint(g, gb, n);
    }
    for (I q = 0; q < n * n; q++) g[q] += gb[q];
}

/* The update is symmetric inside; m is g with a zero border, so that no neighbour needs a test. */
void heat3d_gradient(const D *R u0, D *R g, I n, I steps, D *R m) {
    I p = n * n;
    memcpy(g, u0, n * p * sizeof(D));
    memcpy(m, u0, n * p * sizeof(D));
    heat3d(g, n, steps, m);
    for (I t = 0; t < steps; t++) {
        memset(m, 0, n * p * sizeof(D));
        for (I i = 1; i < n - 1; i++)
            for (I j = 1; j < n - 1; j++) memcpy(m + i * p + j * n + 1, g + i * p + j * n + 1, (n - 2) * sizeof(D));
        for (I i = 0; i < n; i++)
            for (I j = 0; j < n; j++) {
                if (i > 0 && i < n - 1 && j > 0 && j < n - 1) {
                    I q = i * p + j * n;
                    g[q] += 0.125 * m[q + 1];
                    g[q + n - 1] += 0.125 * m[q + n - 2];
                    for (I k = 1; k < n - 1; k++) {
                        I e = q + k;
                        g[e] = 0.25 * m[e] + 0.125 * (m[e + p] + m[e - p] + m[e + n] + m[e - n] + m[e + 1] + m[e - 1]);
                    }
                } else
                    for (I k = 0; k < n; k++) {
                        I e = i * p + j * n + k;
                        D s = 0.0;
                        if (i > 0) s += m[e - p];
                        if (i < n - 1) s += m[e + p];
                        if (j > 0) s += m[e - n];
                        if (j < n - 1) s += m[e + n];
                        g[e] += 0.125 * s;
                    }
            }
    }
}

void gauss_seidel_gradient(const D *R u0, D *R g, I n, I m, I steps) {
    memcpy(g, u0, n * m * sizeof(D));
    gauss_seidel(g, n, m, steps);
    for (I t = 0; t < steps; t++)
        for (I i = n - 2; i > 0; i--)
            for (I j = m - 2; j > 0; j--) {
                D s = 0.25 * g[i * m + j];
                g[i * m + j] = 0.0;
                g[(i - 1) * m + j] += s;
                g[(i + 1) * m + j] += s;
                g[i * m + j - 1] += s;
                g[i * m + j + 1] += s;
            }
}

/* Returns d(c2); tape holds steps + 1 levels of n*n; w holds three more. */
D wave2d_gradient(const D *R u0, D *R g, I n, I steps, D c2, D *R tape, D *R w) {
    I p = n * n;
    memcpy(tape, u0, p * sizeof(D));
    for (I t = 0; t < steps; t++) {
        const D *R now = tape + t * p, *R old = t ? tape + (t - 1) * p : u0;
        D *R new = tape + (t + 1) * p;
        memset(new, 0, p * sizeof(D));
        for (I i = 1; i < n - 1; i++)
            for (I j = 1; j < n - 1; j++) {
                I q = i * n + j;
                new[q] = 2.0 * now[q] - old[q] + c2 * (now[q + n] + now[q - n] + now[q + 1] + now[q - 1] - 4.0 * now[q]);
            }
    }
    D *gnew = w, *gnow = w + p, *gold = w + 2 * p, dc = 0.0;
    memcpy(gnew, tape + steps * p, p * sizeof(D));
    memset(gnow, 0, p * sizeof(D));
    for (I t = steps - 1; t >= 0; t--) {
        const D *R now = tape + t * p;
        for (I k = 0; k < n; k++) gnew[k] = gnew[(n - 1) * n + k] = gnew[k * n] = gnew[k * n + n - 1] = 0.0;
        memset(gold, 0, p * sizeof(D));
        for (I i = 1; i < n - 1; i++)
            for (I j = 1; j < n - 1; j++) {
                I q = i * n + j;
                dc += gnew[q] * (now[q + n] + now[q - n] + now[q + 1] + now[q - 1] - 4.0 * now[q]);
                gold[q] = -gnew[q];
                /* gnew's border is zero, so this gather is the whole adjoint inside */
                gnow[q] += 2.0 * gnew[q] + c2 * (gnew[q + n] + gnew[q - n] + gnew[q + 1] + gnew[q - 1] - 4.0 * gnew[q]);
            }
        for (I k = 1; k < n - 1; k++) {
            gnow[k] += c2 * gnew[n + k];
            gnow[(n - 1) * n + k] += c2 * gnew[(n - 2) * n + k];
            gnow[k * n] += c2 * gnew[k * n + 1];
            gnow[k * n + n - 1] += c2 * gnew[k * n + n - 2];
        }
        D *s = gnew; gnew = gnow; gnow = gold; gold = s;
    }
    for (I q = 0; q < p; q++) g[q] = gnew[q] + gnow[q]; /* now and old both started as u0 */
    return dc;
}

/* L = cholesky(A), then reverse through the row-by-row recurrences, reading A's lower triangle only. */
void cholesky_gradient(const D *R A, D *R g, I n, D *R L) {
    memcpy(L, A, n * n * sizeof(D));
    cholesky(L, n);
    memcpy(g, L, n * n * sizeof(D));
    for (I i = n - 1; i >= 0; i--) {
        D s = 0.5 * g[i * n + i] / L[i * n + i];
        g[i * n + i] = s;
        for (I k = 0; k < i; k++) g[i * n + k] -= 2.0 * s * L[i * n + k];
        for (I j = i - 1; j >= 0; j--) {
            D v = g[i * n + j] / L[j * n + j];
            g[i * n + j] = v;
            g[j * n + j] -= v * L[i * n + j];
            for (I k = 0; k < j; k++) {
                g[i * n + k] -= v * L[j * n + k];
                g[j * n + k] -= v * L[i * n + k];
            }
        }
    }
}

/* Undoes the elimination step by step, so nothing is stored. */
void lu_gradient(const D *R A, D *R g, I n, D *R F) {
    memcpy(F, A, n * n * sizeof(D));
    lu(F, n);
    memcpy(g, F, n * n * sizeof(D));
    for (I k = n - 2; k >= 0; k--) {
        D pivot = F[k * n + k], gp = 0.0;
        for (I i = k + 1; i < n; i++) {
            D f = F[i * n + k], s = 0.0;
            for (I j = k + 1; j < n; j++) {
                s -= g[i * n + j] * F[k * n + j];
                g[k * n + j] -= f * g[i * n + j];
            }
            D gf = (g[i * n + k] + s) / pivot;
            gp -= gf * f;
            g[i * n + k] = gf;
        }
        g[k * n + k] += gp;
    }
}

void forward_substitution_gradient(const D *R L, const D *R b, D *R gL, D *R gb, I n, D *R x) {
    forward_substitution(L, b, x, n);
    memcpy(gb, x, n * sizeof(D));
    memset(gL, 0, n * n * sizeof(D));
    for (I i = n - 1; i >= 0; i--) {
        D s = gb[i] / L[i * n + i];
        gb[i] = s;
        gL[i * n + i] = -s * x[i];
        for (I k = 0; k < i; k++) {
            gL[i * n + k] = -s * x[k];
            gb[k] -= s * L[i * n + k];
        }
    }
}

/* w holds three rows of n: c, d and the pivots' reciprocals. */
void thomas_gradient(const D *R l, const D *R d, const D *R u, const D *R r, D *R gl, D *R gd, D *R gu, D *R gr, I n, D *R w) {
    D *R c = w, *R e = w + n, *R q = w + 2 * n, *R x = gr;
    q[0] = 1.0 / d[0];
    c[0] = u[0] * q[0];
    e[0] = r[0] * q[0];
    for (I i = 1; i < n; i++) {
        q[i] = 1.0 / (d[i] - l[i] * c[i - 1]);
        c[i] = u[i] * q[i];
        e[i] = (r[i] - l[i] * e[i - 1]) * q[i];
    }
    x[n - 1] = e[n - 1];
    for (I i = n - 2; i >= 0; i--) x[i] = e[i] - c[i] * x[i + 1];
    /* x[i] = e[i] - c[i] x[i+1]: cotangents of x run upwards; gr turns from x into ge, gu into gc */
    D carry = 0.0;
    for (I i = 0; i < n; i++) {
        D gx = x[i] + carry;
        if (i < n - 1) {
            gu[i] = -gx * x[i + 1];
            carry = -gx * c[i];
        } else gu[i] = 0.0;
        gr[i] = gx;
    }
    for (I i = n - 1; i > 0; i--) {
        D ge = gr[i] * q[i], gc = gu[i] * q[i];
        D gpivot = -(ge * e[i] + gc * c[i]);
        gu[i] = gc;
        gr[i] = ge;
        gd[i] = gpivot;
        gl[i] = -ge * e[i - 1] - gpivot * c[i - 1];
        gr[i - 1] -= ge * l[i];
        gu[i - 1] -= gpivot * l[i];
    }
    gr[0] *= q[0];
    gu[0] *= q[0];
    gd[0] = -(gr[0] * e[0] + gu[0] * c[0]);
    gl[0] = 0.0;
}

D exponential_average_gradient(const D *R x, D a, D *R g, I n, D *R y) {
    exponential_average(x, a, y, n);
    D s = y[n - 1], da = 0.0;
    for (I i = n - 1; i > 0; i--) {
        g[i] = a * s;
        da += s * (x[i] - y[i - 1]);
        s = y[i - 1] + (1.0 - a) * s;
    }
    g[0] = s;
    return da;
}

void convolve_image_gradient(const D *R x, const D *R k, D *R gx, D *R gk, I h, I w, I kh, I kw, D *R out) {
    I W = w + kw - 1;
    convolve_image(x, k, out, h, w, kh, kw);
    memset(gx, 0, (h + kh - 1) * W * sizeof(D));
    memset(gk, 0, kh * kw * sizeof(D));
    for (I i = 0; i < h; i++) {
        const D *R o = out + i * w;
        for (I a = 0; a < kh; a++)
            for (I b = 0; b < kw; b++) {
                const D *R s = x + (i + a) * W + b;
                D *R t = gx + (i + a) * W + b;
                D v = k[a * kw + b], s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0;
                I j = 0;
                for (; j + 4 <= w; j += 4) {
                    s0 += o[j] * s[j]; s1 += o[j + 1] * s[j + 1]; s2 += o[j + 2] * s[j + 2]; s3 += o[j + 3] * s[j + 3];
                }
                for (; j < w; j++) s0 += o[j] * s[j];
                gk[a * kw + b] += (s0 + s1) + (s2 + s3);
                for (j = 0; j < w; j++) t[j] += v * o[j];
            }
    }
}

void sparse_matvec_gradient(const I *R ip, const I *R col, const D *R val, const D *R x, D *R gv, D *R gx, I n, I m) {
    memset(gx, 0, m * sizeof(D));
    for (I i = 0; i < n; i++) {
        D s = 0.0;
        for (I k = ip[i]; k < ip[i + 1]; k++) s += val[k] * x[col[k]];
        for (I k = ip[i]; k < ip[i + 1]; k++) {
            gv[k] = s * x[col[k]];
            gx[col[k]] += s * val[k];
        }
    }
}
