/* A few rows at a time: their inner products with a vector, and their weighted sum. Float32. */
#pragma once
#include "vectors.h"

/* As many as leave registers for what is summed. */
enum { ROWS = 4 };

INLINE void add_block(int type, const char *const *rows, const float *weights, long column, long columns, long ahead,
                      float *sums) {
    Floats first = load(sums), second = load(sums + HALF);
    for (int k = 0; k < ROWS; k++) {
        Block block = block_at(type, rows[k], column, columns);
        /* The rows that come next: the bus would be idle while these are taken from the cache. */
        for (long byte = 0; ahead && byte < BLOCK * size_of(type); byte += 64)
            __builtin_prefetch(rows[k] + ahead + column * size_of(type) + byte, 0, 2);
        first += block.first * weights[k];
        second += block.second * weights[k];
    }
    store(sums, first);
    store(sums + HALF, second);
}

/* Adds each row's columns from `start` to `stop`, times its weight. */
INLINE void add_rows(int type, const char *const *rows, const float *weights, long start, long stop, long ahead,
                     float *sums) {
    long j = start;
    for (; j + BLOCK <= stop; j += BLOCK)
        add_block(type, rows, weights, j, j + BLOCK, ahead, sums + (j - start));
    if (j < stop)
        add_block(type, rows, weights, j, stop, ahead, sums + (j - start));
}

typedef struct { Floats first[ROWS], second[ROWS]; } Sums;

INLINE void dot_block(int type, const char *const *rows, long column, long columns, const float *vector, Sums *sums) {
    Floats first = load(vector), second = load(vector + HALF);
    for (int k = 0; k < ROWS; k++) {
        Block block = block_at(type, rows[k], column, columns);
        sums->first[k] += block.first * first;
        sums->second[k] += block.second * second;
    }
}

/* Inner products of each row's columns from `start` to `stop` with a vector. */
INLINE void dot_rows(int type, const char *const *rows, const float *vector, long start, long stop,
                     float *products) {
    Sums sums = {{{0}}, {{0}}};
    long j = start;
    for (; j + BLOCK <= stop; j += BLOCK)
        dot_block(type, rows, j, j + BLOCK, vector + (j - start), &sums);
    if (j < stop)
        dot_block(type, rows, j, stop, vector + (j - start), &sums);
    for (int k = 0; k < ROWS; k++)
        products[k] = sum_of(sums.first[k] + sums.second[k]);
}

/* Pointers to some rows; beyond the last one it stands again, and counts for nothing. */
INLINE long some_rows(const char **rows, const void *matrix, int type, long stride, long row, long stop) {
    long count = stop - row < ROWS ? stop - row : ROWS;
    for (long k = 0; k < ROWS; k++)
        rows[k] = row_of(matrix, type, stride, row + (k < count ? k : count - 1));
    return count;
}
