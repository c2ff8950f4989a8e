/* The programs of tests/programs in plain C, as one writes them for speed without intrinsics:
   restrict pointers, rows outside, buffers that change places, no allocation in loops. The algorithm and, in each
   element, the operations and their order are the source's (no division becomes a product with a reciprocal); where the
   source leaves the order of a sum to NumPy, partial sums stand side by side. Built with gcc -O3 -march=native, for two
   threads with -fopenmp (native/__init__.py). Buffers named w are workspace that the caller owns. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t I;
typedef double D;
#define R restrict
/* With -fopenmp, for two threads and more: outermost loops over elements whose turns are independent. */
#define PARALLEL _Pragma("omp parallel for")

static D dot(const D *R a, const D *R b, I n) {
    D s[16] = {0.0}, total = 0.0;
    I i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++) s[k] += a[i + k] * b[i + k];
    for (; i < n; i++) total += a[i] * b[i];
    for (int k = 0; k < 16; k++) total += s[k];
    return total;
}

/* w is a copy of u; the result ends in u. */
void heat1d(D *R u, I n, I steps, D c, D *R w) {
    D *now = u, *new = w;
    for (I t = 0; t < steps; t++) {
        const D *R a = now;
        D *R b = new;
        PARALLEL for (I i = 1; i < n - 1; i++) b[i] = a[i] + c * (a[i + 1] - 2.0 * a[i] + a[i - 1]);
        D *s = now; now = new; new = s;
    }
    if (now != u) memcpy(u, now, n * sizeof(D));
}

static void jacobi_sweep(const D *R a, D *R b, I n) {
    PARALLEL for (I i = 1; i < n - 1; i++)
        for (I j = 1; j < n - 1; j++)
            b[i * n + j] = 0.2 * (a[i * n + j] + a[i * n + j - 1] + a[i * n + j + 1] + a[(i + 1) * n + j] + a[(i - 1) * n + j]);
}

void jacobi2d(D *R a, I n, I steps, D *R b) {
    for (I t = 1; t < steps; t++) {
        jacobi_sweep(a, b, n);
        jacobi_sweep(b, a, n);
    }
}

static void heat3d_step(const D *R u, D *R w, I n) {
    I p = n * n;
    PARALLEL for (I i = 1; i < n - 1; i++)
        for (I j = 1; j < n - 1; j++)
            for (I k = 1; k < n - 1; k++) {
                I q = i * p + j * n + k;
                D c = u[q];
                w[q] = 0.125 * (u[q + p] - 2.0 * c + u[q - p]) + 0.125 * (u[q + n] - 2.0 * c + u[q - n]) +
                       0.125 * (u[q + 1] - 2.0 * c + u[q - 1]) + c;
            }
}

/* w is a copy of u; the result ends in u. */
void heat3d(D *R u, I n, I steps, D *R w) {
    D *now = u, *new = w;
    for (I t = 0; t < steps; t++) {
        heat3d_step(now, new, n);
        D *s = now; now = new; new = s;
    }
    if (now != u) memcpy(u, now, n * n * n * sizeof(D));
}

void gauss_seidel(D *R u, I n, I m, I steps) {
    for (I t = 0; t < steps; t++)
        for (I i = 1; i < n - 1; i++)
            for (I j = 1; j < m - 1; j++)
                u[i * m + j] = 0.25 * (u[(i - 1) * m + j] + u[(i + 1) * m + j] + u[i * m + j - 1] + u[i * m + j + 1]);
}

/* Rotates pointers instead of copying; the result ends in `now`. */
void wave2d(D *R u, I n, I steps, D c2, D *R w1, D *R w2) {
    D *old = w1, *now = u, *new = w2;
    memcpy(old, u, n * n * sizeof(D));
    memset(new, 0, n * n * sizeof(D));
    for (I t = 0; t < steps; t++) {
        PARALLEL for (I i = 1; i < n - 1; i++)
            for (I j = 1; j < n - 1; j++) {
                I q = i * n + j;
                new[q] = 2.0 * now[q] - old[q] + c2 * (now[q + n] + now[q - n] + now[q + 1] + now[q - 1] - 4.0 * now[q]);
            }
        D *s = old; old = now; now = new; new = s;
        for (I k = 0; k < n; k++) new[k] = new[(n - 1) * n + k] = new[k * n] = new[k * n + n - 1] = 0.0;
    }
    if (now != u) memcpy(u, now, n * n * sizeof(D));
}

void lattice_boltzmann(D *R f, I n, I steps, D tau, D *R g) {
    static const int cx[9] = {0, 1, 0, -1, 0, 1, -1, -1, 1}, cy[9] = {0, 0, 1, 0, -1, 1, 1, -1, -1};
    static const D w[9] = {4.0 / 9, 1.0 / 9, 1.0 / 9, 1.0 / 9, 1.0 / 9, 1.0 / 36, 1.0 / 36, 1.0 / 36, 1.0 / 36};
    I p = n * n;
    for (I t = 0; t < steps; t++) {
        PARALLEL for (int k = 0; k < 9; k++)
            for (I i = 0; i < n; i++) {
                const D *s = f + k * p + ((i - cx[k] + n) % n) * n;
                D *d = g + k * p + i * n;
                if (cy[k] == 0) memcpy(d, s, n * sizeof(D));
                else if (cy[k] == 1) { d[0] = s[n - 1]; memcpy(d + 1, s, (n - 1) * sizeof(D)); }
                else { d[n - 1] = s[0]; memcpy(d, s + 1, (n - 1) * sizeof(D)); }
            }
        PARALLEL for (I q = 0; q < p; q++) {
            D v[9], rho = 0.0;
            for (int k = 0; k < 9; k++) { v[k] = g[k * p + q]; rho += v[k]; }
            D ux = (v[1] - v[3] + v[5] - v[6] - v[7] + v[8]) / rho, uy = (v[2] - v[4] + v[5] + v[6] - v[7] - v[8]) / rho;
            D sq = 1.5 * (ux * ux + uy * uy);
            for (int k = 0; k < 9; k++) {
                D cu = 3.0 * (cx[k] * ux + cy[k] * uy);
                f[k * p + q] = v[k] + (w[k] * rho * (1.0 + cu + 0.5 * cu * cu - sq) - v[k]) / tau;
            }
        }
    }
}

/* u, v, p zeroed by the caller; w holds 4 n*n. */
void cavity_flow(D *R u, D *R v, D *R p, I n, I steps, I sweeps, D nu, D *R w) {
    D *R b = w, *R pn = w + n * n, *R un = w + 2 * n * n, *R vn = w + 3 * n * n;
    D h = 2.0 / (n - 1), dt = 0.001, h2 = 2.0 * h;
    for (I t = 0; t < steps; t++) {
        PARALLEL for (I i = 1; i < n - 1; i++)
            for (I j = 1; j < n - 1; j++) {
                I q = i * n + j;
                D ux = (u[q + 1] - u[q - 1]) / h2, vy = (v[q + n] - v[q - n]) / h2;
                D uy = (u[q + n] - u[q - n]) / h2, vx = (v[q + 1] - v[q - 1]) / h2;
                b[q] = (ux + vy) / dt - ux * ux - 2.0 * uy * vx - vy * vy;
            }
        for (I s = 0; s < sweeps; s++) {
            memcpy(pn, p, n * n * sizeof(D));
            PARALLEL for (I i = 1; i < n - 1; i++)
                for (I j = 1; j < n - 1; j++) {
                    I q = i * n + j;
                    p[q] = 0.25 * (pn[q + 1] + pn[q - 1] + pn[q + n] + pn[q - n] - h * h * b[q]);
                }
            for (I i = 0; i < n; i++) p[i * n + n - 1] = p[i * n + n - 2];
            memcpy(p, p + n, n * sizeof(D));
            for (I i = 0; i < n; i++) p[i * n] = p[i * n + 1];
            memset(p + (n - 1) * n, 0, n * sizeof(D));
        }
        memcpy(un, u, n * n * sizeof(D));
        memcpy(vn, v, n * n * sizeof(D));
        PARALLEL for (I i = 1; i < n - 1; i++)
            for (I j = 1; j < n - 1; j++) {
                I q = i * n + j;
                D a = un[q] * dt / h, c = vn[q] * dt / h, d = nu * dt / (h * h);
                u[q] = un[q] - a * (un[q] - un[q - 1]) - c * (un[q] - un[q - n]) - dt / h2 * (p[q + 1] - p[q - 1]) +
                       d * (un[q + 1] + un[q - 1] + un[q + n] + un[q - n] - 4.0 * un[q]);
                v[q] = vn[q] - a * (vn[q] - vn[q - 1]) - c * (vn[q] - vn[q - n]) - dt / h2 * (p[q + n] - p[q - n]) +
                       d * (vn[q + 1] + vn[q - 1] + vn[q + n] + vn[q - n] - 4.0 * vn[q]);
            }
        for (I j = 0; j < n; j++) u[(n - 1) * n + j] = 1.0;
    }
}

static void life_step(const I *R b, I *R w, I n) {
    PARALLEL for (I i = 1; i < n - 1; i++)
        for (I j = 1; j < n - 1; j++) {
            I q = i * n + j;
            I near = b[q - n - 1] + b[q - n] + b[q - n + 1] + b[q - 1] + b[q + 1] + b[q + n - 1] + b[q + n] + b[q + n + 1];
            w[q] = (near == 3) | ((b[q] == 1) & (near == 2));
        }
    for (I k = 0; k < n; k++) w[k] = w[(n - 1) * n + k] = w[k * n] = w[k * n + n - 1] = 0;
}

void life(I *R b, I n, I steps, I *R w) {
    I *now = b, *new = w;
    for (I t = 0; t < steps; t++) {
        life_step(now, new, n);
        I *s = now; now = new; new = s;
    }
    if (now != b) memcpy(b, now, n * n * sizeof(I));
}

void convolve_image(const D *R x, const D *R k, D *R out, I h, I w, I kh, I kw) {
    I W = w + kw - 1;
    PARALLEL for (I i = 0; i < h; i++) {
        D *R o = out + i * w;
        for (I j = 0; j < w; j++) o[j] = 0.0;
        for (I a = 0; a < kh; a++)
            for (I b = 0; b < kw; b++) {
                D v = k[a * kw + b];
                const D *R s = x + (i + a) * W + b;
                for (I j = 0; j < w; j++) o[j] += v * s[j];
            }
    }
}

void cholesky(D *R A, I n) {
    for (I i = 0; i < n; i++) {
        D *row = A + i * n;
        for (I j = 0; j < i; j++) row[j] = (row[j] - dot(row, A + j * n, j)) / A[j * n + j];
        row[i] = sqrt(row[i] - dot(row, row, i));
        for (I j = i + 1; j < n; j++) row[j] = 0.0;
    }
}

void lu(D *R A, I n) {
    for (I k = 0; k < n - 1; k++)
        PARALLEL for (I i = k + 1; i < n; i++) {
            D f = A[i * n + k] /= A[k * n + k];
            for (I j = k + 1; j < n; j++) A[i * n + j] -= f * A[k * n + j];
        }
}

void gram_schmidt(D *R A, D *R Q, D *R r, I m, I n) {
    memset(r, 0, n * n * sizeof(D));
    for (I k = 0; k < n; k++) {
        D s = 0.0;
        for (I i = 0; i < m; i++) s += A[i * n + k] * A[i * n + k];
        D norm = r[k * n + k] = sqrt(s);
        for (I i = 0; i < m; i++) Q[i * n + k] = A[i * n + k] / norm;
        D *R rk = r + k * n;
        for (I i = 0; i < m; i++)
            for (I j = k + 1; j < n; j++) rk[j] += Q[i * n + k] * A[i * n + j];
        PARALLEL for (I i = 0; i < m; i++)
            for (I j = k + 1; j < n; j++) A[i * n + j] -= Q[i * n + k] * rk[j];
    }
}

void forward_substitution(const D *R L, const D *R b, D *R x, I n) {
    for (I i = 0; i < n; i++) x[i] = (b[i] - dot(L + i * n, x, i)) / L[i * n + i];
}

void back_substitution(const D *R U, const D *R b, D *R x, I n) {
    for (I i = n - 1; i >= 0; i--) x[i] = (b[i] - dot(U + i * n + i + 1, x + i + 1, n - i - 1)) / U[i * n + i];
}

void thomas(const D *R l, const D *R d, const D *R u, const D *R r, D *R x, I n, D *R c) {
    c[0] = u[0] / d[0];
    x[0] = r[0] / d[0];
    for (I i = 1; i < n; i++) {
        D pivot = d[i] - l[i] * c[i - 1];
        c[i] = u[i] / pivot;
        x[i] = (r[i] - l[i] * x[i - 1]) / pivot;
    }
    for (I i = n - 2; i >= 0; i--) x[i] -= c[i] * x[i + 1];
}

void sparse_matvec(const I *R ip, const I *R col, const D *R val, const D *R x, D *R y, I n) {
    PARALLEL for (I i = 0; i < n; i++) {
        D s = 0.0;
        for (I k = ip[i]; k < ip[i + 1]; k++) s += val[k] * x[col[k]];
        y[i] = s;
    }
}

static void matvec(const D *R A, const D *R x, D *R y, I n) {
    PARALLEL for (I i = 0; i < n; i++) y[i] = dot(A + i * n, x, n);
}

D power_iteration(const D *R A, D *R v, I n, I steps, D *R w) {
    D s = sqrt(dot(v, v, n));
    for (I i = 0; i < n; i++) v[i] /= s;
    for (I t = 0; t < steps; t++) {
        matvec(A, v, w, n);
        s = sqrt(dot(w, w, n));
        for (I i = 0; i < n; i++) v[i] = w[i] / s;
    }
    matvec(A, v, w, n);
    return dot(v, w, n);
}

void conjugate_gradient(const D *R A, const D *R b, D tol, D *R x, I n, D *R w) {
    D *R r = w, *R p = w + n, *R q = w + 2 * n;
    memset(x, 0, n * sizeof(D));
    matvec(A, x, q, n);
    for (I i = 0; i < n; i++) r[i] = p[i] = b[i] - q[i];
    D rs = dot(r, r, n);
    while (rs > tol) {
        matvec(A, p, q, n);
        D alpha = rs / dot(p, q, n);
        for (I i = 0; i < n; i++) { x[i] += alpha * p[i]; r[i] -= alpha * q[i]; }
        D new = dot(r, r, n), beta = new / rs;
        for (I i = 0; i < n; i++) p[i] = r[i] + beta * p[i];
        rs = new;
    }
}

static D flipped_dot(const D *R a, const D *R b, I n) {
    D s[16] = {0.0}, total = 0.0;
    I i = 0;
    for (; i + 16 <= n; i += 16)
        for (int k = 0; k < 16; k++) s[k] += a[n - 1 - i - k] * b[i + k];
    for (; i < n; i++) total += a[n - 1 - i] * b[i];
    for (int k = 0; k < 16; k++) total += s[k];
    return total;
}

void levinson_durbin(const D *R r, D *R y, I n, D *R z) {
    D alpha = -r[0], beta = 1.0;
    y[0] = alpha;
    for (I k = 1; k < n; k++) {
        beta *= 1.0 - alpha * alpha;
        alpha = -(r[k] + flipped_dot(r, y, k)) / beta;
        for (I i = 0; i < k; i++) z[i] = y[i] + alpha * y[k - 1 - i];
        memcpy(y, z, k * sizeof(D));
        y[k] = alpha;
    }
}

void floyd_warshall(D *R d, I n) {
    for (I k = 0; k < n; k++)
        PARALLEL for (I i = 0; i < n; i++) {
            if (i == k) continue; /* row k does not change in its own step */
            D a = d[i * n + k];
            D *R di = d + i * n;
            const D *R dk = d + k * n;
            for (I j = 0; j < n; j++) di[j] = di[j] < a + dk[j] ? di[j] : a + dk[j];
        }
}

void histogram(const D *R x, I n, D low, D high, I bins, I *R c) {
    memset(c, 0, bins * sizeof(I));
    for (I i = 0; i < n; i++)
        if (low <= x[i] && x[i] < high) c[(I)((x[i] - low) / (high - low) * bins)]++;
}

I crc16(const uint8_t *R d, I n) {
    uint32_t c = 0xFFFF;
    for (I i = 0; i < n; i++) {
        c ^= (uint32_t)d[i] << 8;
        for (int k = 0; k < 8; k++) c = c & 0x8000 ? ((c << 1) ^ 0x1021) & 0xFFFF : (c << 1) & 0xFFFF;
    }
    return c;
}

void sieve(I n, uint8_t *R p) {
    memset(p, 1, n + 1);
    p[0] = p[1] = 0;
    for (I i = 2; i * i <= n; i++)
        if (p[i])
            for (I j = i * i; j <= n; j += i) p[j] = 0;
}

void connected_components(const uint8_t *R img, I *R l, I n, I m) {
    for (I q = 0; q < n * m; q++) l[q] = img[q] ? q + 1 : 0;
    for (int changed = 1; changed;) {
        changed = 0;
        for (I i = 0; i < n; i++)
            for (I j = 0; j < m; j++) {
                I q = i * m + j, low = l[q];
                if (low <= 0) continue;
                if (i > 0 && l[q - m] > 0 && l[q - m] < low) low = l[q - m];
                if (j > 0 && l[q - 1] > 0 && l[q - 1] < low) low = l[q - 1];
                if (i < n - 1 && l[q + m] > 0 && l[q + m] < low) low = l[q + m];
                if (j < m - 1 && l[q + 1] > 0 && l[q + 1] < low) low = l[q + 1];
                if (low < l[q]) { l[q] = low; changed = 1; }
            }
    }
}

void kmeans(const D *R x, D *R c, I n, I dim, I k, I steps, D *R sums) {
    D *R counts = sums + k * dim;
    for (I t = 0; t < steps; t++) {
        memset(sums, 0, (k * dim + k) * sizeof(D));
        for (I i = 0; i < n; i++) {
            D best = INFINITY;
            I at = 0;
            for (I a = 0; a < k; a++) {
                D s = 0.0;
                for (I d = 0; d < dim; d++) { D e = x[i * dim + d] - c[a * dim + d]; s += e * e; }
                if (s < best) { best = s; at = a; }
            }
            counts[at] += 1.0;
            for (I d = 0; d < dim; d++) sums[at * dim + d] += x[i * dim + d];
        }
        for (I a = 0; a < k; a++)
            if (counts[a] > 0.0)
                for (I d = 0; d < dim; d++) c[a * dim + d] = sums[a * dim + d] / counts[a];
    }
}

void mask_update(const D *R x, D *R y, I n, D threshold) {
    PARALLEL for (I i = 0; i < n; i++) y[i] = x[i] > threshold ? sqrt(x[i]) + threshold : 0.5 * x[i];
}

void insertion_sort(D *R x, I n) {
    for (I i = 1; i < n; i++) {
        D v = x[i];
        I j = i - 1;
        for (; j >= 0 && x[j] > v; j--) x[j + 1] = x[j];
        x[j + 1] = v;
    }
}

void arc_distance(const D *R t1, const D *R p1, const D *R t2, const D *R p2, D *R out, I n) {
    PARALLEL for (I i = 0; i < n; i++) {
        D a = sin((t2[i] - t1[i]) / 2.0), b = sin((p2[i] - p1[i]) / 2.0);
        D t = a * a + cos(t1[i]) * cos(t2[i]) * b * b;
        out[i] = 2.0 * atan2(sqrt(t), sqrt(1.0 - t));
    }
}

static void accelerations(const D *R x, const D *R m, D *R a, I n) {
    PARALLEL for (I i = 0; i < n; i++) {
        D ax = 0.0, ay = 0.0, az = 0.0;
        for (I j = 0; j < n; j++) {
            D dx = x[3 * j] - x[3 * i], dy = x[3 * j + 1] - x[3 * i + 1], dz = x[3 * j + 2] - x[3 * i + 2];
            D r2 = dx * dx + dy * dy + dz * dz + 0.01, f = m[j] / (r2 * sqrt(r2));
            ax += dx * f; ay += dy * f; az += dz * f;
        }
        a[3 * i] = ax; a[3 * i + 1] = ay; a[3 * i + 2] = az;
    }
}

void nbody(D *R x, D *R v, const D *R m, I n, I steps, D dt, D *R a) {
    accelerations(x, m, a, n);
    for (I t = 0; t < steps; t++) {
        for (I i = 0; i < 3 * n; i++) { v[i] += 0.5 * dt * a[i]; x[i] += dt * v[i]; }
        accelerations(x, m, a, n);
        for (I i = 0; i < 3 * n; i++) v[i] += 0.5 * dt * a[i];
    }
}

static D lennard_jones(const D *R x, D *R f, I n) {
    D energy = 0.0;
    memset(f, 0, 3 * n * sizeof(D));
    for (I i = 0; i < n; i++)
        for (I j = i + 1; j < n; j++) {
            D dx = x[3 * i] - x[3 * j], dy = x[3 * i + 1] - x[3 * j + 1], dz = x[3 * i + 2] - x[3 * j + 2];
            D r2 = dx * dx + dy * dy + dz * dz, s6 = 1.0 / (r2 * r2 * r2);
            energy += 4.0 * (s6 * s6 - s6);
            D g = 24.0 * (2.0 * s6 * s6 - s6) / r2;
            f[3 * i] += g * dx; f[3 * i + 1] += g * dy; f[3 * i + 2] += g * dz;
            f[3 * j] -= g * dx; f[3 * j + 1] -= g * dy; f[3 * j + 2] -= g * dz;
        }
    return energy;
}

void molecular_dynamics(D *R x, D *R v, D *R e, I n, I steps, D dt, D *R f) {
    lennard_jones(x, f, n);
    for (I t = 0; t < steps; t++) {
        for (I i = 0; i < 3 * n; i++) { v[i] += 0.5 * dt * f[i]; x[i] += dt * v[i]; }
        D p = lennard_jones(x, f, n), k = 0.0;
        for (I i = 0; i < 3 * n; i++) { v[i] += 0.5 * dt * f[i]; k += v[i] * v[i]; }
        e[t] = p + 0.5 * k;
    }
}

static void lorenz(const D *s, D a, D r, D b, D *k) {
    k[0] = a * (s[1] - s[0]); k[1] = s[0] * (r - s[2]) - s[1]; k[2] = s[0] * s[1] - b * s[2];
}

void runge_kutta4(const D *R s0, D a, D r, D b, I steps, D dt, D *R path) {
    D s[3] = {s0[0], s0[1], s0[2]}, k1[3], k2[3], k3[3], k4[3], y[3];
    memcpy(path, s, sizeof s);
    for (I t = 0; t < steps; t++) {
        lorenz(s, a, r, b, k1);
        for (int i = 0; i < 3; i++) y[i] = s[i] + 0.5 * dt * k1[i];
        lorenz(y, a, r, b, k2);
        for (int i = 0; i < 3; i++) y[i] = s[i] + 0.5 * dt * k2[i];
        lorenz(y, a, r, b, k3);
        for (int i = 0; i < 3; i++) y[i] = s[i] + dt * k3[i];
        lorenz(y, a, r, b, k4);
        for (int i = 0; i < 3; i++) s[i] += dt / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]);
        memcpy(path + 3 * (t + 1), s, sizeof s);
    }
}

void adaptive_heun(D *R y, D damping, D end, D tol) {
    D t = 0.0, dt = 0.05, y0 = y[0], y1 = y[1];
    while (t < end) {
        if (end - t < dt) dt = end - t;
        D a0 = y1, a1 = -sin(y0) - damping * y1;
        D z0 = y0 + dt * a0, z1 = y1 + dt * a1;
        D b0 = z1, b1 = -sin(z0) - damping * z1;
        D e0 = 0.5 * dt * (b0 - a0), e1 = 0.5 * dt * (b1 - a1), error = sqrt(e0 * e0 + e1 * e1);
        if (error <= tol) {
            y0 += 0.5 * dt * (a0 + b0);
            y1 += 0.5 * dt * (a1 + b1);
            t += dt;
        }
        D g = 0.9 * sqrt(tol / (error + 1e-30));
        dt *= g < 0.2 ? 0.2 : g > 2.0 ? 2.0 : g;
        if (t >= end - 1e-12) break;
    }
    y[0] = y0;
    y[1] = y1;
}

void newton_kepler(const D *R M, D e, D *R E, I n) {
    PARALLEL for (I i = 0; i < n; i++) E[i] = M[i] + e * sin(M[i]);
    for (int k = 0; k < 50; k++) {
        D worst = 0.0;
        _Pragma("omp parallel for reduction(max : worst)") for (I i = 0; i < n; i++) {
            D s = (E[i] - e * sin(E[i]) - M[i]) / (1.0 - e * cos(E[i]));
            E[i] -= s;
            worst = fabs(s) > worst ? fabs(s) : worst;
        }
        if (worst < 1e-14) break;
    }
}

void bisection(const D *R a, const D *R target, D *R x, I n) {
    PARALLEL for (I i = 0; i < n; i++) {
        D low = -10.0, high = 10.0;
        for (int k = 0; k < 60; k++) {
            D m = 0.5 * (low + high);
            int above = m + a[i] * (m * m * m) > target[i];
            high = above ? m : high;
            low = above ? low : m;
        }
        x[i] = 0.5 * (low + high);
    }
}

void random_walk(const D *R z, D drift, D *R path, I n) {
    D x = path[0] = 0.0;
    for (I t = 0; t < n; t++) {
        x = x + drift + 0.1 * z[t];
        if (x > 1.0) x = 2.0 - x;
        else if (x < -1.0) x = -2.0 - x;
        path[t + 1] = x;
    }
}

void mandelbrot(const D *R re, const D *R im, I limit, I *R counts, I rows, I cols) {
    _Pragma("omp parallel for schedule(dynamic, 4)") for (I i = 0; i < rows; i++)
        for (I j = 0; j < cols; j++) {
            D x = 0.0, y = 0.0;
            I k = 0;
            for (; k < limit && x * x + y * y <= 4.0; k++) {
                D s = x * x - y * y + re[j];
                y = 2.0 * x * y + im[i];
                x = s;
            }
            counts[i * cols + j] = k;
        }
}

static I min3(I a, I b, I c) { I m = a < b ? a : b; return m < c ? m : c; }

I edit_distance(const I *R a, const I *R b, I n, I m, I *R d) {
    I w = m + 1;
    for (I i = 0; i <= n; i++) d[i * w] = i;
    for (I j = 0; j <= m; j++) d[j] = j;
    for (I i = 1; i <= n; i++)
        for (I j = 1; j <= m; j++)
            d[i * w + j] = min3(d[(i - 1) * w + j] + 1, d[i * w + j - 1] + 1, d[(i - 1) * w + j - 1] + (a[i - 1] != b[j - 1]));
    return d[n * w + m];
}

D smith_waterman(const I *R a, const I *R b, I n, I m, D match, D mismatch, D gap, D *R h) {
    I w = m + 1;
    D best = 0.0;
    memset(h, 0, (n + 1) * w * sizeof(D));
    for (I i = 1; i <= n; i++)
        for (I j = 1; j <= m; j++) {
            D v = h[(i - 1) * w + j - 1] + (a[i - 1] == b[j - 1] ? match : mismatch);
            D up = h[(i - 1) * w + j] + gap, left = h[i * w + j - 1] + gap;
            v = v > 0.0 ? v : 0.0;
            v = v > up ? v : up;
            v = v > left ? v : left;
            h[i * w + j] = v;
            best = best > v ? best : v;
        }
    return best;
}

D soft_dtw(const D *R x, const D *R y, I n, I m, D gamma, D *R r) {
    I w = m + 1;
    for (I q = 0; q < (n + 1) * w; q++) r[q] = 1e10;
    r[0] = 0.0;
    for (I i = 1; i <= n; i++)
        for (I j = 1; j <= m; j++) {
            D d = x[i - 1] - y[j - 1], a = r[(i - 1) * w + j - 1], b = r[(i - 1) * w + j], c = r[i * w + j - 1];
            D low = b < a ? b : a;
            low = c < low ? c : low;
            r[i * w + j] = d * d + low - gamma * log(exp((low - a) / gamma) + exp((low - b) / gamma) + exp((low - c) / gamma));
        }
    return r[n * w + m];
}

void kalman_filter(const D *R z, const D *R F, const D *R H, const D *R Q, D r, D *R out, I T) {
    enum { n = 4 };
    D x[n] = {0}, P[n][n] = {{0}}, A[n][n], y[n], K[n], HP[n];
    for (int i = 0; i < n; i++) P[i][i] = 1.0;
    for (I t = 0; t < T; t++) {
        for (int i = 0; i < n; i++) { y[i] = 0.0; for (int j = 0; j < n; j++) y[i] += F[i * n + j] * x[j]; }
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) { A[i][j] = 0.0; for (int k = 0; k < n; k++) A[i][j] += F[i * n + k] * P[k][j]; }
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) { P[i][j] = Q[i * n + j]; for (int k = 0; k < n; k++) P[i][j] += A[i][k] * F[j * n + k]; }
        D s = r, e = z[t];
        for (int i = 0; i < n; i++) {
            K[i] = HP[i] = 0.0;
            for (int j = 0; j < n; j++) { K[i] += P[i][j] * H[j]; HP[i] += H[j] * P[j][i]; }
            e -= H[i] * y[i];
        }
        for (int i = 0; i < n; i++) s += H[i] * K[i];
        for (int i = 0; i < n; i++) { K[i] /= s; x[i] = y[i] + K[i] * e; out[t * n + i] = x[i]; }
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) P[i][j] -= K[i] * HP[j];
    }
}

D hmm_forward(const D *R pi, const D *R tr, const D *R em, const I *R seen, I n, I symbols, I T, D *R w) {
    D *R a = w, *R b = w + n, total = 0.0;
    for (I i = 0; i < n; i++) total += a[i] = pi[i] * em[i * symbols + seen[0]];
    for (I i = 0; i < n; i++) a[i] /= total;
    D l = log(total);
    for (I t = 1; t < T; t++) {
        total = 0.0;
        for (I j = 0; j < n; j++) {
            D s = 0.0;
            for (I i = 0; i < n; i++) s += a[i] * tr[i * n + j];
            total += b[j] = s * em[j * symbols + seen[t]];
        }
        for (I j = 0; j < n; j++) a[j] = b[j] / total;
        l += log(total);
    }
    return l;
}

D viterbi(const D *R pi, const D *R tr, const D *R em, const I *R seen, I *R path, I n, I symbols, I T, D *R score, I *R back) {
    for (I i = 0; i < n; i++) score[i] = pi[i] + em[i * symbols + seen[0]];
    for (I t = 1; t < T; t++)
        for (I j = 0; j < n; j++) {
            D best = score[(t - 1) * n] + tr[j];
            I at = 0;
            for (I i = 1; i < n; i++) {
                D v = score[(t - 1) * n + i] + tr[i * n + j];
                if (v > best) { best = v; at = i; }
            }
            back[t * n + j] = at;
            score[t * n + j] = best + em[j * symbols + seen[t]];
        }
    I at = 0;
    for (I i = 1; i < n; i++) if (score[(T - 1) * n + i] > score[(T - 1) * n + at]) at = i;
    D best = score[(T - 1) * n + at];
    path[T - 1] = at;
    for (I t = T - 2; t >= 0; t--) path[t] = back[(t + 1) * n + path[t + 1]];
    return best;
}

static void affine(const D *R x, const D *R W, const D *R h, const D *R U, const D *R b, D *R out, I nx, I nh, I no) {
    for (I j = 0; j < no; j++) out[j] = b[j];
    for (I i = 0; i < nx; i++) for (I j = 0; j < no; j++) out[j] += x[i] * W[i * no + j];
    for (I i = 0; i < nh; i++) for (I j = 0; j < no; j++) out[j] += h[i] * U[i * no + j];
}

void rnn(const D *R x, D *R h, const D *R W, const D *R U, const D *R b, I T, I nx, I nh, D *R w) {
    for (I t = 0; t < T; t++) {
        affine(x + t * nx, W, h, U, b, w, nx, nh, nh);
        for (I j = 0; j < nh; j++) h[j] = tanh(w[j]);
    }
}

static D sigmoid(D x) { return 1.0 / (1.0 + exp(-x)); }

void lstm(const D *R x, const D *R W, const D *R U, const D *R b, D *R out, I T, I nx, I n, D *R w) {
    D *R h = w, *R c = w + n, *R g = w + 2 * n;
    memset(w, 0, 2 * n * sizeof(D));
    for (I t = 0; t < T; t++) {
        affine(x + t * nx, W, h, U, b, g, nx, n, 4 * n);
        for (I j = 0; j < n; j++) {
            c[j] = sigmoid(g[n + j]) * c[j] + sigmoid(g[j]) * tanh(g[2 * n + j]);
            h[j] = sigmoid(g[3 * n + j]) * tanh(c[j]);
            out[t * n + j] = h[j];
        }
    }
}

void prefix_sums(const D *R x, D *R s, I n) {
    memcpy(s, x, n * sizeof(D));
    for (I d = 1; d < n; d *= 2)
        for (I i = n - 1; i >= d; i--) s[i] += s[i - d]; /* from the right: what is read is still the last pass's */
}

void running_sum(const D *R x, D *R s, I n) {
    D total = s[0] = x[0];
    for (I i = 1; i < n; i++) s[i] = total = total + x[i];
}

void exponential_average(const D *R x, D a, D *R y, I n) {
    D v = y[0] = x[0];
    for (I i = 1; i < n; i++) y[i] = v = a * x[i] + (1.0 - a) * v;
}

void horner(const D *R c, const D *R x, D *R y, I k, I n) {
    PARALLEL for (I i = 0; i < n; i++) {
        D v = 0.0;
        for (I j = k - 1; j >= 0; j--) v = v * x[i] + c[j];
        y[i] = v;
    }
}

/* Stockham: a and b swap roles each stage; the result ends in (br, bi) or is copied there. */
void fft(D *R ar, D *R ai, D *R br, D *R bi, I n, D *R w) {
    D *xr = ar, *xi = ai, *yr = br, *yi = bi, *R wr = w, *R wi = w + n;
    for (I half = n / 2, width = 1; half >= 1; half /= 2, width *= 2) {
        for (I k = 0; k < width; k++) { D t = -M_PI * k / width; wr[k] = cos(t); wi[k] = sin(t); }
        PARALLEL for (I i = 0; i < half; i++) {
            const D *er = xr + i * width, *ei = xi + i * width, *or = xr + (i + half) * width, *oi = xi + (i + half) * width;
            D *pr = yr + 2 * i * width, *pi = yi + 2 * i * width;
            for (I k = 0; k < width; k++) {
                D dr = or[k] * wr[k] - oi[k] * wi[k], di = or[k] * wi[k] + oi[k] * wr[k];
                pr[k] = er[k] + dr; pi[k] = ei[k] + di;
                pr[width + k] = er[k] - dr; pi[width + k] = ei[k] - di;
            }
        }
        D *s = xr; xr = yr; yr = s;
        s = xi; xi = yi; yi = s;
    }
    if (xr != br) { memcpy(br, xr, n * sizeof(D)); memcpy(bi, xi, n * sizeof(D)); }
}
