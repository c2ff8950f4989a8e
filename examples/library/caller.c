/* Calls the library from C11:
 *   python -m stager build model.toml -o out
 *   cc -std=c11 -Iout caller.c -o caller -Lout -lmodel -Wl,-rpath,"$PWD/out" && ./caller
 */
#include <stdio.h>

#include "model.h"

enum { ROWS = 5 };

static int failed(int32_t code, const stager_call *call) {
    char text[160];
    predict_error(code, call, text, sizeof text);
    fprintf(stderr, "error %d: %s\n", (int)code, text);
    return 1;
}

int main(void) {
    double w1[4][8], b1[8] = {0}, w2[8][3], b2[3] = {0}, x[ROWS][4], out[ROWS][3];
    for (int i = 0; i < 32; i++) w1[i / 8][i % 8] = 0.1 * (i % 7) - 0.3;
    for (int i = 0; i < 24; i++) w2[i / 3][i % 3] = 0.2 * (i % 5) - 0.4;
    for (int i = 0; i < 4 * ROWS; i++) x[i / 4][i % 4] = 0.25 * (i % 9) - 1;

    /* The plain way: dense arrays, memory for the result, the library takes its workspace from malloc. */
    int32_t code = predict(w1[0], NULL, b1, NULL, w2[0], NULL, b2, NULL, x[0], NULL, out[0], ROWS, NULL);
    if (code) return failed(code, NULL);
    for (int i = 0; i < ROWS; i++) printf("%.6f %.6f %.6f\n", out[i][0], out[i][1], out[i][2]);

    /* Every second row, last first, by strides in bytes; workspace and result are the caller's. */
    int64_t strides[2] = {-2 * (int64_t)sizeof x[0], sizeof x[0][0]};
    int64_t bytes = predict_workspace(3);
    stager_call call = {.workspace = aligned_alloc(64, (size_t)((bytes + 63) / 64 * 64)), .workspace_bytes = bytes, .threads = 1};
    code = predict(w1[0], NULL, b1, NULL, w2[0], NULL, b2, NULL, x[4], strides, out[0], 3, &call);
    free(call.workspace);
    if (code) return failed(code, &call);
    printf("%.6f %.6f %.6f\n", out[0][0], out[1][0], out[2][0]);

    /* In place, so many steps. */
    double rod[9] = {1, 0, 0, 0, 0, 0, 0, 0, -1};
    int64_t steps = 40;
    if ((code = smooth(rod, &steps, 9, NULL))) return failed(code, NULL);
    printf("%.6f %.6f %.6f\n", rod[1], rod[4], rod[7]);

    /* A result whose size only the data know, in memory that the library asks for. */
    double signal[12] = {0, 2, 1, 5, 1, 0, 3, 3, 0, 4, 0, 9}, threshold = 2.5;
    void *places[1] = {NULL};
    int64_t count = 0;
    stager_call asking = {.allocate = stager_allocate, .user = places};
    if ((code = peaks(signal, &threshold, NULL, 0, &count, 12, &asking))) return failed(code, &asking);
    for (int64_t i = 0; i < count; i++) printf("%d ", (int)((int64_t *)places[0])[i]);
    printf("\n");
    free(places[0]);

    /* What is wrong comes back as a code, with a text. */
    code = predict(w1[0], NULL, b1, NULL, w2[0], NULL, b2, NULL, x[0], NULL, NULL, ROWS, NULL);
    char text[100];
    predict_error(code, NULL, text, sizeof text);
    printf("%s: %s\n", code == STAGER_ERROR_NULL ? "STAGER_ERROR_NULL" : "?", text);
    model_stop_threads();
    return 0;
}
