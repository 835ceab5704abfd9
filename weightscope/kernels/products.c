/* Matrix products of a Lanczos step, each stored value read from memory once and widened in registers.

   A product W'(Wv) takes a few rows at a time, first their inner products with v, then, while they are in
   the first-level cache, their share of the sum. Of a matrix that is wider than high W(W'u) is taken,
   by strips of columns that stay in the second-level cache. Sums are float32. */
#include "rows.h"

/* Rows summed before the sum is added to the others': a sum of all of them loses more digits. Columns of a
   strip: fewer would mean more, shorter pieces of rows, each on a page of its own. */
enum { SHORT_SUM = 512, STRIP = 2048 };

INLINE void add_floats(float *to, const float *from, long count) {
    for (long j = 0; j < count; j += HALF)
        store(to + j, load(to + j) + load(from + j));
}

INLINE void high_part(int type, const void *matrix, long start, long stop, long columns, long stride,
                      const float *vector, float *total, float *sums) {
    const char *rows[ROWS];
    float products[ROWS];
    long width = padded(columns);
    for (long i = start, summed = 0; i < stop; i += ROWS) {
        long count = some_rows(rows, matrix, type, stride, i, stop);
        dot_rows(type, rows, vector, 0, columns, products);
        for (long k = count; k < ROWS; k++)
            products[k] = 0;
        long ahead = i + 2 * ROWS <= stop ? ROWS * stride * size_of(type) : 0;
        add_rows(type, rows, products, 0, columns, ahead, sums);
        summed += ROWS;
        if (summed >= SHORT_SUM || i + ROWS >= stop) {
            add_floats(total, sums, width);
            memset(sums, 0, width * sizeof(float));
            summed = 0;
        }
    }
}

INLINE void wide_part(int type, const void *matrix, long rows_in_all, long start, long stop, long stride,
                      const float *vector, float *total, float *strip) {
    const char *rows[ROWS];
    float weights[ROWS];
    long ahead = ROWS * stride * size_of(type);
    for (long left = start; left < stop; left += STRIP) {
        long right = left + STRIP < stop ? left + STRIP : stop;
        memset(strip, 0, STRIP * sizeof(float));
        for (long i = 0; i < rows_in_all; i += ROWS) {
            long count = some_rows(rows, matrix, type, stride, i, rows_in_all);
            for (long k = 0; k < ROWS; k++)
                weights[k] = k < count ? vector[i + k] : 0;
            add_rows(type, rows, weights, left, right, i + 2 * ROWS <= rows_in_all ? ahead : 0, strip);
        }
        for (long i = 0; i < rows_in_all; i += ROWS) {
            long count = some_rows(rows, matrix, type, stride, i, rows_in_all);
            dot_rows(type, rows, strip, left, right, weights);
            for (long k = 0; k < count; k++)
                total[i + k] += weights[k];
        }
    }
}

CLONES void high_bfloat16(const void *matrix, long start, long stop, long columns, long stride, const float *vector,
                          float *total, float *sums) {
    high_part(BFLOAT16, matrix, start, stop, columns, stride, vector, total, sums);
}
CLONES void high_float32(const void *matrix, long start, long stop, long columns, long stride, const float *vector,
                         float *total, float *sums) {
    high_part(FLOAT32, matrix, start, stop, columns, stride, vector, total, sums);
}
CLONES void wide_bfloat16(const void *matrix, long rows, long start, long stop, long stride, const float *vector,
                          float *total, float *strip) {
    wide_part(BFLOAT16, matrix, rows, start, stop, stride, vector, total, strip);
}
CLONES void wide_float32(const void *matrix, long rows, long start, long stop, long stride, const float *vector,
                         float *total, float *strip) {
    wide_part(FLOAT32, matrix, rows, start, stop, stride, vector, total, strip);
}

/* Numbers of float32 that `weightscope_gram_product` works in. */
long weightscope_gram_product_room(long rows, long columns, int wide, int threads) {
    long side = padded(wide ? rows : columns);
    return side + threads * (side + (wide ? STRIP : side));
}

/* out = W'(W vector), or W(W' vector) if `wide`; rows lie `stride` values apart. */
void weightscope_gram_product(int type, const void *matrix, long rows, long columns, long stride, int wide,
                              const float *vector, float *out, float *room, int threads) {
    int used = 1;
    long side = wide ? rows : columns, width = padded(side), each = width + (wide ? STRIP : width);
    float *arranged = room, *shares = room + width;
    memset(arranged, 0, width * sizeof(float));
    for (long i = 0; i < side; i++)
        arranged[wide ? i : place_of(type, i)] = vector[i];
    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        long count = omp_get_num_threads(), number = omp_get_thread_num();
        float *total = shares + number * each, *sums = total + width;
        memset(total, 0, each * sizeof(float));
        long units = wide ? (columns + BLOCK - 1) / BLOCK : (rows + ROWS - 1) / ROWS, unit = wide ? BLOCK : ROWS;
        long end = wide ? columns : rows, start = units * number / count * unit, stop = units * (number + 1) / count * unit;
        if (stop > end)
            stop = end;
        if (number == 0)
            used = (int)count;
        if (start < stop && wide && type == BFLOAT16)
            wide_bfloat16(matrix, rows, start, stop, stride, arranged, total, sums);
        else if (start < stop && wide)
            wide_float32(matrix, rows, start, stop, stride, arranged, total, sums);
        else if (start < stop && type == BFLOAT16)
            high_bfloat16(matrix, start, stop, columns, stride, arranged, total, sums);
        else if (start < stop)
            high_float32(matrix, start, stop, columns, stride, arranged, total, sums);
    }
    for (int number = 1; number < used; number++)
        for (long j = 0; j < width; j++)
            shares[j] += shares[number * each + j];
    for (long i = 0; i < side; i++)
        out[i] = shares[wide ? i : place_of(type, i)];
}
