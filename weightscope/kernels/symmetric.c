/* The product of a symmetric matrix with a vector, from its upper triangle alone: half of the memory is read.

   Each block of 32 rows meets the columns from its own on. To the right of the diagonal an element stands for
   its mirror image as well: one load serves an inner product and a sum. Float32. */
#include <math.h>
#include "rows.h"

INLINE void right_of_diagonal(const char *const *rows, const float *weights, long start, long stop, const float *vector,
                              float *out, float *products) {
    Sums sums = {{{0}}, {{0}}};
    for (long j = start; j < stop; j += BLOCK) {
        Floats first = load(vector + j), second = load(vector + j + HALF);
        Floats out_first = load(out + j), out_second = load(out + j + HALF);
        for (int k = 0; k < ROWS; k++) {
            Block block = block_at(FLOAT32, rows[k], j, stop);
            sums.first[k] += block.first * first;
            sums.second[k] += block.second * second;
            out_first += block.first * weights[k];
            out_second += block.second * weights[k];
        }
        store(out + j, out_first);
        store(out + j + HALF, out_second);
    }
    for (int k = 0; k < ROWS; k++)
        products[k] = sum_of(sums.first[k] + sums.second[k]);
}

CLONES void symmetric_part(const void *matrix, long size, long start, long stop, const float *vector, float *out) {
    const char *rows[ROWS];
    float weights[ROWS], products[ROWS];
    for (long block = start; block < stop; block += BLOCK) {
        long right = block + BLOCK < size ? block + BLOCK : size;
        for (long i = block; i < right; i += ROWS) {
            long count = some_rows(rows, matrix, FLOAT32, size, i, right);
            dot_rows(FLOAT32, rows, vector + block, block, right, products);
            for (long k = 0; k < count; k++)
                out[i + k] += products[k];
            for (long k = 0; k < ROWS; k++)
                weights[k] = k < count ? vector[i + k] : 0;
            right_of_diagonal(rows, weights, right, size, vector, out, products);
            for (long k = 0; k < count; k++)
                out[i + k] += products[k];
        }
    }
}

/* Numbers of float32 that `weightscope_symmetric_product` works in. */
long weightscope_symmetric_product_room(long size, int threads) { return (threads + 1) * padded(size); }

/* out = matrix · vector; the matrix is square and contiguous. */
void weightscope_symmetric_product(const void *matrix, long size, const float *vector, float *out, float *room,
                                   int threads) {
    int used = 1;
    long width = padded(size), blocks = width / BLOCK;
    float *shares = room + width;
    memcpy(room, vector, size * sizeof(float));
    memset(room + size, 0, (width - size) * sizeof(float));
    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        double count = omp_get_num_threads(), number = omp_get_thread_num();
        float *share = shares + (long)number * width;
        memset(share, 0, width * sizeof(float));
        /* The first rows are the longest: shares of equal areas. */
        long start = (long)(blocks * (1 - sqrt(1 - number / count)));
        long stop = number + 1 == count ? blocks : (long)(blocks * (1 - sqrt(1 - (number + 1) / count)));
        if (number == 0)
            used = (int)count;
        symmetric_part(matrix, size, start * BLOCK, stop * BLOCK, room, share);
    }
    for (int number = 1; number < used; number++)
        for (long j = 0; j < width; j++)
            shares[j] += shares[number * width + j];
    memcpy(out, shares, size * sizeof(float));
}
