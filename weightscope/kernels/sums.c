/* One pass over a matrix in float64: squares of rows and columns, sums, and its product with a vector.

   Values are widened in registers; whatever is summed is a double. The largest magnitude is found by
   integers, whose order on non-negative floats is that of their bits, infinities and NaNs at the end. */
#include "vectors.h"

enum { PAIR = 2, EIGHT = 8, PARTS = BLOCK / EIGHT };
enum { NO_VECTOR = 0, RIGHT = 1, LEFT = 2 };

typedef struct { Doubles part[PARTS]; } Exact;

/* Where the sums of some rows go. Arrays over columns are arranged and padded. */
typedef struct {
    double *row_squares, *row_sums, *row_products, *column_squares, *column_products;
} Places;

INLINE Doubles load_doubles(const double *from) { Doubles found; memcpy(&found, from, 64); return found; }
INLINE void store_doubles(double *to, Doubles values) { memcpy(to, &values, 64); }

INLINE Exact exact(Block block) {
    union { Floats all; EightFloats halves[2]; } first = {block.first}, second = {block.second};
    return (Exact){{
        __builtin_convertvector(first.halves[0], Doubles),
        __builtin_convertvector(first.halves[1], Doubles),
        __builtin_convertvector(second.halves[0], Doubles),
        __builtin_convertvector(second.halves[1], Doubles),
    }};
}

INLINE double total_of(Doubles values) {
    return ((values[0] + values[4]) + (values[1] + values[5])) + ((values[2] + values[6]) + (values[3] + values[7]));
}

INLINE void sum_pair(int type, int vector, const char *const *rows, long columns, long count, const double *right,
                     const double *left, long row, Places to) {
    Doubles squares[PAIR] = {{0}}, sums[PAIR] = {{0}}, products[PAIR] = {{0}};
    for (long j = 0; j < columns; j += BLOCK) {
        Exact values[PAIR];
        for (int k = 0; k < PAIR; k++)
            values[k] = exact(block_at(type, rows[k], j, columns));
        for (int p = 0; p < PARTS; p++) {
            long at = j + p * EIGHT;
            Doubles column = load_doubles(to.column_squares + at);
            for (int k = 0; k < PAIR; k++) {
                Doubles value = values[k].part[p];
                sums[k] += value;
                squares[k] += value * value;
                if (k < count)
                    column += value * value;
                if (vector == RIGHT)
                    products[k] += value * load_doubles(right + at);
            }
            store_doubles(to.column_squares + at, column);
            if (vector == LEFT) {
                Doubles product = load_doubles(to.column_products + at);
                for (int k = 0; k < PAIR; k++)
                    if (k < count)
                        product += values[k].part[p] * left[row + k];
                store_doubles(to.column_products + at, product);
            }
        }
    }
    for (int k = 0; k < count; k++) {
        to.row_squares[row + k] = total_of(squares[k]);
        to.row_sums[row + k] = total_of(sums[k]);
        if (vector == RIGHT)
            to.row_products[row + k] = total_of(products[k]);
    }
}

INLINE void sum_rows(int type, int vector, const void *matrix, long start, long stop, long columns, long stride,
                     const double *right, const double *left, Places to) {
    for (long i = start; i < stop; i += PAIR) {
        long count = stop - i < PAIR ? stop - i : PAIR;
        const char *rows[PAIR] = {row_of(matrix, type, stride, i), row_of(matrix, type, stride, i + count - 1)};
        if (count == PAIR)
            sum_pair(type, vector, rows, columns, PAIR, right, left, i, to);
        else
            sum_pair(type, vector, rows, columns, 1, right, left, i, to);
    }
}

#define VARIANT(name, type, vector)                                                                                   \
    CLONES void name(const void *matrix, long start, long stop, long columns, long stride, const double *right,       \
                     const double *left, Places to) {                                                                 \
        sum_rows(type, vector, matrix, start, stop, columns, stride, right, left, to);                                \
    }
VARIANT(bfloat16_alone, BFLOAT16, NO_VECTOR)
VARIANT(bfloat16_right, BFLOAT16, RIGHT)
VARIANT(bfloat16_left, BFLOAT16, LEFT)
VARIANT(float32_alone, FLOAT32, NO_VECTOR)
VARIANT(float32_right, FLOAT32, RIGHT)
VARIANT(float32_left, FLOAT32, LEFT)

typedef void (*Variant)(const void *, long, long, long, long, const double *, const double *, Places);
static const Variant VARIANTS[2][3] = {
    {bfloat16_alone, bfloat16_right, bfloat16_left},
    {float32_alone, float32_right, float32_left},
};

/* Numbers of float64 that `weightscope_sums` works in. */
long weightscope_sums_room(long columns, int threads) { return (2 * threads + 1) * padded(columns); }

/* row_squares, row_sums: of each row. column_squares: of each column. products: matrix · right where there is
   a `right`, matrix' · left where there is a `left`; one of them at most. */
void weightscope_sums(int type, const void *matrix, long rows, long columns, long stride, const double *right,
                      const double *left, double *row_squares, double *row_sums, double *column_squares,
                      double *products, double *room, int threads) {
    int used = 1;
    long width = padded(columns);
    double *arranged = room, *shares = room + width;
    memset(arranged, 0, width * sizeof(double));
    for (long j = 0; right && j < columns; j++)
        arranged[place_of(type, j)] = right[j];
    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        long count = omp_get_num_threads(), number = omp_get_thread_num();
        double *share = shares + number * 2 * width;
        memset(share, 0, 2 * width * sizeof(double));
        Places to = {row_squares, row_sums, products, share, share + width};
        long pairs = (rows + PAIR - 1) / PAIR, start = pairs * number / count * PAIR;
        long stop = number + 1 == count ? rows : pairs * (number + 1) / count * PAIR;
        if (number == 0)
            used = (int)count;
        VARIANTS[type][right ? RIGHT : left ? LEFT : NO_VECTOR](matrix, start, stop, columns, stride, arranged, left,
                                                                to);
    }
    for (int number = 1; number < used; number++)
        for (long j = 0; j < 2 * width; j++)
            shares[j] += shares[number * 2 * width + j];
    for (long j = 0; j < columns; j++) {
        column_squares[j] = shares[place_of(type, j)];
        if (left)
            products[j] = shares[width + place_of(type, j)];
    }
}

CLONES uint32_t largest_bits(int type, const void *matrix, long start, long stop, long columns, long stride) {
    uint16_t half = 0;
    uint32_t word = 0;
    for (long i = start; i < stop; i++) {
        const char *row = row_of(matrix, type, stride, i);
        if (type == BFLOAT16) {
            const Half *values = (const Half *)row;
            for (long j = 0; j < columns; j++) {
                uint16_t magnitude = values[j] & 0x7fff;
                half = magnitude > half ? magnitude : half;
            }
        } else {
            const Word *values = (const Word *)row;
            for (long j = 0; j < columns; j++) {
                uint32_t magnitude = values[j] & 0x7fffffff;
                word = magnitude > word ? magnitude : word;
            }
        }
    }
    return type == BFLOAT16 ? (uint32_t)half << 16 : word;
}

/* The largest magnitude as a float32; NaN where there is one. */
float weightscope_largest(int type, const void *matrix, long rows, long columns, long stride, int threads) {
    uint32_t bits = 0;
    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        long count = omp_get_num_threads(), number = omp_get_thread_num();
        uint32_t mine = largest_bits(type, matrix, rows * number / count, rows * (number + 1) / count, columns, stride);
        #pragma omp critical
        bits = mine > bits ? mine : bits;
    }
    float found;
    memcpy(&found, &bits, sizeof found);
    return found;
}
