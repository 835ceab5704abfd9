/* The Gram matrix of a bfloat16 matrix on its short side, on the matrix units (AMX) of x86 processors.

   Products of bfloat16 are exact; DEPTH of them are summed in float32, these sums in the type asked for. A tile is
   16 rows of 16 words, a word two consecutive values along the sums. One factor of a product wants tiles whose rows
   run along the sums, the other the same tiles transposed, so that all values are packed both ways, DEPTH at a
   time; then blocks of 32x32 on and below the diagonal are summed, and mirrored at the end. */
#include "vectors.h"

enum { SIDE = 16, WORDS = SIDE * SIDE, PAIR = 2 * SIDE, DEPTH = 512, TILES = DEPTH / PAIR, PANEL = 8 };

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define MATRIX_UNITS __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw"), noinline))

/* Whether this processor has them and the system lets this process use them. */
int weightscope_has_matrix_units(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    unsigned a, b, c, d, amx = 1u << 22 | 1u << 24, avx512 = 1u << 16 | 1u << 30;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & amx) != amx || (b & avx512) != avx512)
        return 0;
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

typedef struct {
    const Half *values;
    long side, length, stride;
    int wide; /* whether sums run along the rows, so that a row is a row of tiles */
} Matrix;

/* The words of one tile; zeros beyond the matrix. */
MATRIX_UNITS static void pack_tile(const Matrix *matrix, long at, long from, uint32_t *plain, uint32_t *turned) {
    long columns = matrix->side - at < SIDE ? matrix->side - at : SIDE;
    long depth = matrix->length - from < PAIR ? matrix->length - from : PAIR;
    if (columns < SIDE || depth < PAIR)
        memset(plain, 0, WORDS * sizeof(uint32_t));
    if (matrix->wide)
        for (long row = 0; row < columns && depth > 0; row++)
            memcpy(plain + row * SIDE, matrix->values + (at + row) * matrix->stride + from, depth * sizeof(uint16_t));
    else
        for (long k = 0; k < depth; k += 2) {
            const Half *even = matrix->values + (from + k) * matrix->stride + at, *odd = even + matrix->stride;
            uint32_t *words = plain + k / 2 * SIDE;
            if (columns == SIDE && k + 1 < depth)
                for (int c = 0; c < SIDE; c++)
                    words[c] = even[c] | (uint32_t)odd[c] << 16;
            else
                for (long c = 0; c < columns; c++)
                    words[c] = even[c] | (k + 1 < depth ? (uint32_t)odd[c] << 16 : 0);
        }
    for (int row = 0; row < SIDE; row++)
        for (int c = 0; c < SIDE; c++)
            turned[c * SIDE + row] = plain[row * SIDE + c];
}

/* The 32x32 sums of two times two rows of tiles. */
MATRIX_UNITS static void sum_block(const uint32_t *left, const uint32_t *right, float *sums) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long tile = 0; tile < TILES; tile++) {
        _tile_loadd(4, left + tile * WORDS, 64);
        _tile_loadd(5, left + (TILES + tile) * WORDS, 64);
        _tile_loadd(6, right + tile * WORDS, 64);
        _tile_loadd(7, right + (TILES + tile) * WORDS, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, 128);
    _tile_stored(1, sums + SIDE, 128);
    _tile_stored(2, sums + SIDE * PAIR, 128);
    _tile_stored(3, sums + SIDE * PAIR + SIDE, 128);
}

/* Eight tiles of 16 rows with 64 bytes. Not on the stack: GCC's intrinsic says that it reads eight bytes only. */
static const struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } CONFIGURATION = {
    .palette = 1,
    .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE, SIDE},
};

MATRIX_UNITS static void configure(void) { _tile_loadconfig(&CONFIGURATION); }

MATRIX_UNITS static void release(void) { _tile_release(); }

MATRIX_UNITS static void add_block(const float *sums, long row, long column, long side, int doubles, int anew,
                                   void *out) {
    long rows = side - row < PAIR ? side - row : PAIR, columns = side - column < PAIR ? side - column : PAIR;
    for (long i = 0; i < rows; i++)
        if (doubles) {
            double *to = (double *)out + (row + i) * side + column;
            for (long j = 0; j < columns; j++)
                to[j] = (anew ? 0 : to[j]) + sums[i * PAIR + j];
        } else {
            float *to = (float *)out + (row + i) * side + column;
            for (long j = 0; j < columns; j++)
                to[j] = (anew ? 0 : to[j]) + sums[i * PAIR + j];
        }
}

MATRIX_UNITS static void mirror_rows(long start, long stop, long side, int doubles, void *out) {
    for (long block = 0; block < stop; block += PAIR)
        for (long i = start > block ? start : block; i < stop; i++)
            for (long j = block; j < block + PAIR && j < i; j++)
                if (doubles)
                    ((double *)out)[j * side + i] = ((double *)out)[i * side + j];
                else
                    ((float *)out)[j * side + i] = ((float *)out)[i * side + j];
}

/* Bytes that `weightscope_gram` works in. */
long weightscope_gram_room(long side) { return 2 * ((side + PAIR - 1) / PAIR) * 2 * TILES * WORDS * sizeof(uint32_t); }

/* out = W'W, or WW' if `wide`: float32 or float64, square and contiguous. Every element is summed in the same order
   whatever the number of threads. */
void weightscope_gram(const void *values, long rows, long columns, long stride, int wide, int doubles, void *out,
                      void *room, int threads) {
    Matrix matrix = {values, wide ? rows : columns, wide ? columns : rows, stride, wide};
    long blocks = (matrix.side + PAIR - 1) / PAIR, panels = (blocks + PANEL - 1) / PANEL;
    uint32_t *along = room, *across = along + blocks * 2 * TILES * WORDS; /* rows along the sums; transposed */
    #pragma omp parallel num_threads(threads) if (threads > 1)
    {
        long count = omp_get_num_threads(), number = omp_get_thread_num();
        float sums[PAIR * PAIR];
        configure();
        for (long from = 0; from < matrix.length; from += DEPTH) {
            for (long strip = number; strip < blocks; strip += count)
                for (long tile = 0; tile < TILES; tile++)
                    for (long half = 0; half < 2; half++) {
                        long at = ((strip * 2 + half) * TILES + tile) * WORDS;
                        pack_tile(&matrix, strip * PAIR + half * SIDE, from + tile * PAIR, (wide ? along : across) + at,
                                  (wide ? across : along) + at);
                    }
            #pragma omp barrier
            long unit = 0; /* panels of blocks whose tiles stay in the second-level cache, dealt out in turn */
            for (long top = 0; top < panels; top++)
                for (long left = 0; left <= top; left++, unit++) {
                    if (unit % count != number)
                        continue;
                    for (long j = left * PANEL; j < (left + 1) * PANEL && j < blocks; j++)
                        for (long i = top * PANEL > j ? top * PANEL : j; i < (top + 1) * PANEL && i < blocks; i++) {
                            sum_block(along + i * 2 * TILES * WORDS, across + j * 2 * TILES * WORDS, sums);
                            add_block(sums, i * PAIR, j * PAIR, matrix.side, doubles, from == 0, out);
                        }
                }
            #pragma omp barrier
        }
        release();
        long start = matrix.side * number / count, stop = matrix.side * (number + 1) / count;
        mirror_rows(start, stop, matrix.side, doubles, out);
    }
}
#else
int weightscope_has_matrix_units(void) { return 0; }
long weightscope_gram_room(long side) { return 0 * side; }
void weightscope_gram(const void *values, long rows, long columns, long stride, int wide, int doubles, void *out,
                      void *room, int threads) {
    (void)values, (void)rows, (void)columns, (void)stride, (void)wide, (void)doubles, (void)out, (void)room, (void)threads;
}
#endif
