/* The largest eigenvalue of a symmetric tridiagonal matrix, by bisection on Sturm counts. */
#include <math.h>

/* What the library was built from. */
const char *weightscope_sources(void) { return WEIGHTSCOPE_SOURCES; }

/* The number of eigenvalues from `x` on, up to rounding of the matrix. */
static long count_from(const double *diagonal, const double *below, long size, double x, double tiny) {
    long count = 0;
    double pivot = 1;
    for (long i = 0; i < size; i++) {
        pivot = diagonal[i] - x - (i ? below[i - 1] * below[i - 1] / pivot : 0);
        if (fabs(pivot) < tiny)
            pivot = -tiny;
        count += pivot > 0;
    }
    return count;
}

/* To the last digit that float64 holds. `below` has one element fewer. */
double weightscope_largest_eigenvalue(const double *diagonal, const double *below, long size) {
    double low = diagonal[0], high = diagonal[0]; /* no eigenvalue is above the discs of Gershgorin */
    for (long i = 0; i < size; i++) {
        double radius = (i ? fabs(below[i - 1]) : 0) + (i + 1 < size ? fabs(below[i]) : 0);
        low = diagonal[i] > low ? diagonal[i] : low; /* a Rayleigh quotient */
        high = diagonal[i] + radius > high ? diagonal[i] + radius : high;
    }
    double tiny = 1e-300 + 1e-40 * (fabs(low) + fabs(high));
    for (int round = 0; round < 200; round++) {
        double middle = low + (high - low) / 2;
        if (middle <= low || middle >= high)
            break;
        if (count_from(diagonal, below, size, middle, tiny))
            low = middle;
        else
            high = middle;
    }
    return high;
}
