/* Blocks of 32 stored values as two vectors of float32, for bfloat16 and float32.

   Vectors that meet such blocks are kept in the blocks' own order ("arranged") and padded with zeros to a
   multiple of 32: of bfloat16, the first vector of a block holds its even elements and the second its odd
   ones, which saves the shuffles. Written with the vector extensions of GCC and Clang; the compiler makes a
   version for each generation of processors, and the right one is chosen when the library is loaded. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && !defined(WEIGHTSCOPE_ONE_VERSION)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

/* Of OpenMP, without its header. */
extern int omp_get_thread_num(void);
extern int omp_get_num_threads(void);

enum { BFLOAT16 = 0, FLOAT32 = 1 };
enum { BLOCK = 32, HALF = 16 };

typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));
typedef float EightFloats __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(64)));

/* Stored values, wherever they lie. */
typedef uint16_t __attribute__((aligned(1), may_alias)) Half;
typedef uint32_t __attribute__((aligned(1), may_alias)) Word;

typedef struct { Floats first, second; } Block;

INLINE long padded(long length) { return (length + BLOCK - 1) / BLOCK * BLOCK; }

INLINE long size_of(int type) { return type == BFLOAT16 ? 2 : 4; }

INLINE const char *row_of(const void *matrix, int type, long stride, long row) {
    return (const char *)matrix + row * stride * size_of(type);
}

INLINE Floats load(const float *from) { Floats found; memcpy(&found, from, 64); return found; }
INLINE void store(float *to, Floats values) { memcpy(to, &values, 64); }

INLINE Block widened(int type, const char *from) {
    if (type == FLOAT32)
        return (Block){load((const float *)from), load((const float *)from + HALF)};
    Words pairs;
    memcpy(&pairs, from, 64);
    return (Block){(Floats)(pairs << 16), (Floats)(pairs & 0xffff0000u)};
}

/* Values from `column` on of a row with `columns`; zeros beyond its end. */
INLINE Block block_at(int type, const char *row, long column, long columns) {
    if (column + BLOCK <= columns)
        return widened(type, row + column * size_of(type));
    char rest[BLOCK * 4] = {0};
    memcpy(rest, row + column * size_of(type), (columns - column) * size_of(type));
    return widened(type, rest);
}

INLINE float sum_of(Floats values) {
    typedef float Four __attribute__((vector_size(16)));
    union { Floats all; EightFloats halves[2]; } whole = {values};
    union { EightFloats all; Four halves[2]; } half = {whole.halves[0] + whole.halves[1]};
    Four four = half.halves[0] + half.halves[1];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

/* Where element `index` of a vector stands in its arranged form. */
INLINE long place_of(int type, long index) {
    long within = index % BLOCK;
    return type == FLOAT32 ? index : index - within + within / 2 + (within % 2) * HALF;
}
