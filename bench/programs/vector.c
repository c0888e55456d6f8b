/* Floating point and vector programs: SSE2, scalar doubles, x87, AVX2, FMA. */
#define _GNU_SOURCE
#include "bench.h"

#include <emmintrin.h>
#include <math.h>
#include <string.h>
#include <sys/mman.h>

uint64_t bench_matmul(void)
{ /* SSE2 packed doubles */
    enum { N = 512 };
    double *a = pages(N * N * 8), *b = pages(N * N * 8), *c = pages(N * N * 8);
    for (int i = 0; i < N * N; i++) { a[i] = i % 13 * 0.5; b[i] = i % 7 * 0.25; }
    size_t reps = scaled(6);
    begin();
    for (size_t r = 0; r < reps; r++)
        for (int i = 0; i < N; i++)
            for (int k = 0; k < N; k++) {
                __m128d x = _mm_set1_pd(a[i * N + k]);
                for (int j = 0; j < N; j += 4) {
                    __m128d y0 = _mm_mul_pd(x, _mm_load_pd(&b[k * N + j]));
                    __m128d y1 = _mm_mul_pd(x, _mm_load_pd(&b[k * N + j + 2]));
                    _mm_store_pd(&c[i * N + j], _mm_add_pd(_mm_load_pd(&c[i * N + j]), y0));
                    _mm_store_pd(&c[i * N + j + 2], _mm_add_pd(_mm_load_pd(&c[i * N + j + 2]), y1));
                }
            }
    end();
    double sum = 0;
    for (int i = 0; i < N * N; i += 97) sum += c[i];
    munmap(a, N * N * 8); munmap(b, N * N * 8); munmap(c, N * N * 8);
    return (uint64_t)sum;
}

uint64_t bench_nbody(void)
{ /* scalar SSE doubles with sqrt/div */
    enum { N = 5 };
    static const double init[N][7] = {
        {0, 0, 0, 0, 0, 0, 39.47}, {4.84, -1.16, -.10, .606, 2.81, -.02, .037}, {8.34, 4.12, -.4, -1.01, 1.82, .008, .011},
        {12.89, -15.11, -.22, 1.08, .868, -.01, .0017}, {15.37, -25.9, .179, .979, .594, -.034, .002}};
    double p[N][7];
    memcpy(p, init, sizeof p);
    size_t steps = scaled(4000000);
    begin();
    for (size_t st = 0; st < steps; st++) {
        for (int i = 0; i < N; i++)
            for (int j = i + 1; j < N; j++) {
                double dx = p[i][0] - p[j][0], dy = p[i][1] - p[j][1], dz = p[i][2] - p[j][2];
                double d2 = dx * dx + dy * dy + dz * dz, mag = 0.001 / (d2 * sqrt(d2));
                p[i][3] -= dx * p[j][6] * mag; p[i][4] -= dy * p[j][6] * mag; p[i][5] -= dz * p[j][6] * mag;
                p[j][3] += dx * p[i][6] * mag; p[j][4] += dy * p[i][6] * mag; p[j][5] += dz * p[i][6] * mag;
            }
        for (int i = 0; i < N; i++)
            for (int k = 0; k < 3; k++) p[i][k] += 0.001 * p[i][3 + k];
    }
    end();
    uint64_t r;
    memcpy(&r, &p[0][0], 8);
    return r;
}

uint64_t bench_x87(void)
{ /* 80-bit x87 arithmetic */
    long double x = 0.5L, y = 1.25L;
    size_t n = scaled(20000000);
    begin();
    for (size_t i = 0; i < n; i++) {
        x = x * 1.0000001L + y / (1.0L + x * x);
        y = y - x * 0.000001L;
    }
    end();
    double d = (double)(x + y);
    uint64_t r;
    memcpy(&r, &d, 8);
    return r;
}

typedef double v4 __attribute__((vector_size(32)));
#define AVX_KERNEL(name, tgt, contract)                                                              \
    __attribute__((target(tgt), optimize(contract))) static double name(size_t reps, const double *a, \
                                                                        double *c, int n)            \
    {                                                                                                \
        v4 acc = {0, 0, 0, 0};                                                                       \
        for (size_t r = 0; r < reps; r++)                                                            \
            for (int i = 0; i < n; i += 4) {                                                         \
                v4 x = *(const v4 *)&a[i], y = *(const v4 *)&c[i];                                   \
                acc = acc + x * y;                                                                   \
                *(v4 *)&c[i] = y * 0.999 + x;                                                        \
            }                                                                                        \
        return acc[0] + acc[1] + acc[2] + acc[3];                                                    \
    }
AVX_KERNEL(avx_kernel, "avx2", "fp-contract=off")
AVX_KERNEL(fma_kernel, "avx2,fma", "fp-contract=fast")

static uint64_t avx_run(double (*kernel)(size_t, const double *, double *, int), size_t reps)
{
    static double a[1024] __attribute__((aligned(32))), c[1024] __attribute__((aligned(32)));
    for (int i = 0; i < 1024; i++) { a[i] = i * 0.001; c[i] = 1; }
    begin();
    double d = kernel(scaled(reps), a, c, 1024);
    end();
    uint64_t r;
    memcpy(&r, &d, 8);
    return r;
}
uint64_t bench_avx2(void)
{ /* 256-bit AVX; not timed when the CPU has none */
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") ? avx_run(avx_kernel, 200000) : 0;
}
uint64_t bench_fma(void)
{ /* 256-bit FMA; not timed when the CPU has none */
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx_run(fma_kernel, 100000) : 0;
}
