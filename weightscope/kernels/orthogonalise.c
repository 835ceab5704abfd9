/* A Lanczos step's vector made orthogonal to those before it: Gram-Schmidt in blocks of rows, twice.

   On one thread, for a basis that stays in the second-level cache, where others would have to be woken for
   less work than that. Each block is read once a round: its share is taken off while it is in the first-level
   cache. Float32; the length that is left in float64. */
#include <math.h>
#include "rows.h"

CLONES static double taken_off(const float *basis, long steps, long size, float *vector) {
    const char *rows[ROWS];
    float products[ROWS];
    double last = 0;
    for (long i = 0; i < steps; i += ROWS) {
        long count = some_rows(rows, basis, FLOAT32, size, i, steps);
        dot_rows(FLOAT32, rows, vector, 0, size, products);
        last = products[count - 1];
        for (long k = 0; k < ROWS; k++)
            products[k] = k < count ? -products[k] : 0;
        add_rows(FLOAT32, rows, products, 0, size, 0, vector);
    }
    return last;
}

/* Numbers of float32 that `weightscope_orthogonalise` works in. */
long weightscope_orthogonalise_room(long size) { return padded(size); }

/* Takes off `vector` what lies along the `steps` rows of `basis`; gives its share of the last row, and the length
   of what is left. */
double weightscope_orthogonalise(const float *basis, long steps, long size, float *vector, float *room, double *length) {
    double along = 0, squares = 0;
    memcpy(room, vector, size * sizeof(float));
    memset(room + size, 0, (padded(size) - size) * sizeof(float));
    for (int round = 0; round < 2; round++) /* "twice is enough": Kahan; Giraud and Langou 2002 */
        along += taken_off(basis, steps, size, room);
    memcpy(vector, room, size * sizeof(float));
    for (long j = 0; j < size; j++)
        squares += (double)vector[j] * vector[j];
    *length = sqrt(squares);
    return along;
}
