/* Thousands of random calls of a built library, most of them with something wrong. Every wrong call must come back with
   an error code, every right one with 0, and nothing else may happen: run under valgrind and the address sanitizer, with
   each array in an allocation of exactly its size. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "fuzzed.h"

static uint64_t state;

static uint64_t random_bits(void) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int64_t below(int64_t n) { return (int64_t)(random_bits() % (uint64_t)n); }
static int one_in(int64_t n) { return below(n) == 0; }

/* What one call is about: whether it must fail, and what to free. */
static int wrong;
static void *owned[16];
static int owned_count;

static void *memory(int64_t bytes) {
    char *p = malloc(bytes > 0 ? (size_t)bytes : 1);
    if (!p) exit(99);
    for (int64_t k = 0; k < bytes; k++) p[k] = 0;
    owned[owned_count++] = p;
    return p;
}

static int64_t size(void) {
    static const int64_t bad[] = {-1, -7, INT64_MIN, INT64_MAX, (1LL << 40) + 1, 1LL << 62, -(1LL << 41), INT32_MIN};
    if (!one_in(12)) return below(7);
    wrong = 1;
    return bad[below(8)];
}

static int64_t known(int64_t n) { return n < 0 || n > 7 ? 0 : n; }

/* Memory for an array, or a pointer that is not one. `elements` is known to be small. */
static void *array(int64_t elements, int64_t item) {
    char *p = memory(elements * item + (one_in(25) ? item : 0));
    if (one_in(25)) {
        wrong |= elements > 0;
        return NULL;
    }
    if (item > 1 && one_in(25)) {
        wrong = 1;
        return memory(elements * item + item) == NULL ? NULL : (char *)owned[owned_count - 1] + 1 + below(item - 1);
    }
    return p;
}

/* Strides of an array with n rows of m elements, its memory with room for them; or strides that cannot be. */
static double *strided(int64_t n, int64_t m, int64_t *strides, int64_t **given, int written) {
    static const int64_t bad[] = {INT64_MIN, INT64_MAX, 1LL << 62, -(1LL << 62), (1LL << 47) + 8, 4, -12, 7};
    int64_t row = (m + below(4)) * 8, step = 8;
    *given = strides;
    if (one_in(4)) {
        *given = NULL;
        return array(n * m, 8);
    }
    if (one_in(3)) {
        step = 16 + 8 * below(2);
        row = step * (m > 0 ? m : 1) + 8 * below(3);
    }
    char *base = memory(n * row + m * step + 8);
    int64_t rows = n > 0 ? n - 1 : 0, columns = m > 0 ? m - 1 : 0;
    if (one_in(3)) {
        base += rows * row;
        row = -row;
    }
    if (one_in(3)) {
        base += columns * step;
        step = -step;
    }
    strides[0] = row;
    strides[1] = step;
    if (!written && one_in(10)) strides[0] = 0;
    if (written && one_in(10) && n > 1 && m > 0) {
        strides[0] = 0;
        wrong = 1;
    }
    if (one_in(15)) {
        int axis = (int)below(2);
        strides[axis] = bad[below(8)];
        wrong |= (axis == 0 ? n : m) > 1; /* of an axis of one element no stride counts */
    }
    return (double *)(void *)base;
}

static void *nothing(stager_call *call, int32_t result, int64_t bytes) {
    (void)call, (void)result, (void)bytes;
    return NULL;
}

static void *places[4];

/* How to call, or null. `workspace`: what the function says it needs, negative when the sizes are wrong. */
static stager_call *way(stager_call *call, int64_t workspace) {
    memset(call, 0, sizeof *call);
    memset(places, 0, sizeof places);
    call->user = places;
    if (one_in(3)) return NULL;
    call->threads = (int32_t)below(3);
    if (workspace > 0 && one_in(2)) {
        char *p = memory(workspace + 128);
        p += (64 - (uintptr_t)p % 64) % 64;
        call->workspace = p;
        call->workspace_bytes = workspace;
        if (one_in(4)) {
            call->workspace_bytes = one_in(2) ? workspace - 1 : INT64_MIN;
            wrong = 1;
        } else if (one_in(4)) {
            call->workspace = p + 8;
            wrong = 1;
        }
    }
    return call;
}

static int32_t call_scaled(stager_call *call) {
    int64_t n = size(), m = size(), strides[2], s_strides[1] = {8}, *x_given;
    double *x = strided(known(n), known(m), strides, &x_given, 0);
    double *s = array(known(m), 8), *out = array(known(n) * known(m), 8), *sums = array(known(n), 8);
    if (one_in(25) && known(n) * known(m) > 0 && !wrong) {
        sums = out;
        wrong = 1;
    }
    return scaled(x, x_given, s, one_in(2) ? s_strides : NULL, out, sums, n, m, way(call, scaled_workspace(n, m)));
}

static int32_t call_shift(stager_call *call) {
    int64_t n = size(), m = size(), strides[2], *given;
    double *x = strided(known(n), known(m), strides, &given, 1);
    if (n < 1 && !wrong) wrong = 1; /* the header: needs n >= 1 */
    return shift(x, given, n, m, way(call, shift_workspace(n, m)));
}

static int32_t call_positive(stager_call *call) {
    int64_t n = size(), room = known(n), shape[1], count[1];
    double *x = array(room, 8), *out;
    for (int64_t k = 0; x && !wrong && k < room; k++) x[k] = one_in(2) ? 1.5 : -1.5;
    int64_t positives = 0;
    for (int64_t k = 0; x && !wrong && k < room; k++) positives += x[k] > 0;
    out = array(room, 8);
    if (one_in(6)) {
        room = one_in(2) ? -1 - below(9) : INT64_MAX - below(9);
        wrong = 1;
    } else if (positives && one_in(4)) {
        room = positives - 1;
        wrong = 1;
    }
    stager_call *how = way(call, positive_workspace(n));
    if (how && !wrong && one_in(3)) {
        how->allocate = one_in(3) ? nothing : stager_allocate;
        wrong = how->allocate == nothing;
        out = NULL, room = 0;
    }
    return positive(x, out, room, one_in(4) ? NULL : shape, count, n, how);
}

static int32_t call_predict(stager_call *call) {
    int64_t n = size();
    double *w = array(12, 8), *b = array(3, 8), *x = array(4 * known(n), 8), *out = array(3 * known(n), 8);
    if (one_in(20) && known(n) > 0 && !wrong) {
        out = w;
        wrong = 1;
    }
    return predict(w, b, x, out, n, way(call, predict_workspace(n)));
}

static int32_t call_pick(stager_call *call) {
    int64_t m = size(), k = size();
    double *x = array(known(m), 8), *out = array(known(k), 8);
    int64_t *i = array(known(k), 8);
    for (int64_t j = 0; i && !wrong && j < known(k); j++) {
        i[j] = below(2 * known(m) + 1) - known(m);
        if (known(m) == 0 || i[j] >= known(m)) i[j] = 0;
        if (one_in(12)) i[j] = one_in(2) ? INT64_MIN : known(m) + below(5);
    }
    for (int64_t j = 0; i && !wrong && j < known(k); j++)
        if (i[j] >= known(m) || i[j] < -known(m)) wrong = 1;
    return pick(x, i, out, m, k, way(call, pick_workspace(m, k)));
}

typedef int32_t (*caller)(stager_call *);
typedef int32_t (*teller)(int32_t, const stager_call *, char *, int64_t);

int main(int argc, char **argv) {
    static const caller callers[] = {call_scaled, call_shift, call_positive, call_predict, call_pick};
    static const teller tellers[] = {scaled_error, shift_error, positive_error, predict_error, pick_error};
    int64_t calls = argc > 1 ? atoll(argv[1]) : 5000, refused = 0;
    state = argc > 2 ? (uint64_t)atoll(argv[2]) : 88172645463325252ULL;
    for (int64_t k = 0; k < calls; k++) {
        stager_call call;
        char text[120];
        int which = (int)below(5);
        wrong = owned_count = 0;
        int32_t code = callers[which](&call);
        if ((code != 0) != wrong) {
            printf("call %lld of function %d: code %d, wrong %d\n", (long long)k, which, (int)code, wrong);
            return 1;
        }
        int32_t length = tellers[which](code, one_in(2) ? &call : NULL, text, 1 + below(120));
        if (length < 5 || strlen(text) > 119) return 2;
        refused += wrong;
        for (int j = 0; j < owned_count; j++) free(owned[j]);
        for (int j = 0; j < 4; j++) free(places[j]);
    }
    fuzzed_stop_threads();
    printf("%lld calls, %lld refused\n", (long long)calls, (long long)refused);
    return 0;
}
