/* Programs that are bound by loads and stores: pointer chains and copies. */
#define _GNU_SOURCE
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

uint64_t bench_chase(void)
{ /* dependent loads over 64 MB: TLB and cache misses */
    size_t n = (64u << 20) / 64, steps = scaled(8000000);
    struct node { struct node *next; uint64_t pad[7]; } *a = pages(n * 64);
    uint32_t *perm = malloc(n * 4);
    for (size_t i = 0; i < n; i++) perm[i] = (uint32_t)i;
    for (size_t i = n - 1; i > 0; i--) {
        size_t j = random_number() % (i + 1);
        uint32_t x = perm[i]; perm[i] = perm[j]; perm[j] = x;
    }
    for (size_t i = 0; i < n; i++)
        a[perm[i]].next = &a[perm[(i + 1) % n]];
    struct node *p = &a[perm[0]];
    begin();
    for (size_t i = 0; i < steps; i++)
        p = p->next;
    end();
    uint64_t r = (uint64_t)(p - a);
    free(perm);
    munmap(a, n * 64);
    return r;
}

uint64_t bench_chase_l1(void)
{ /* dependent loads that hit L1: pure load-to-use latency of the engine */
    size_t n = 256, steps = scaled(300000000);
    struct node { struct node *next; uint64_t pad[7]; } *a = pages(n * 64);
    for (size_t i = 0; i < n; i++)
        a[i].next = &a[(i + 77) & (n - 1)];
    struct node *p = a;
    begin();
    for (size_t i = 0; i < steps; i++)
        p = p->next;
    end();
    uint64_t r = (uint64_t)(p - a);
    munmap(a, n * 64);
    return r;
}

uint64_t bench_memcpy(void)
{ /* 256 MB per pass in 64 MB buffers */
    size_t n = 64u << 20, reps = scaled(16);
    uint8_t *a = pages(n), *b = pages(n);
    memset(a, 7, n);
    begin();
    for (size_t i = 0; i < reps; i++) {
        memcpy(b, a, n);
        b[i] ^= (uint8_t)i;
        uint8_t *x = a; a = b; b = x;
    }
    end();
    uint64_t r = a[1] + 256u * a[n - 1];
    munmap(a, n);
    munmap(b, n);
    return r;
}

uint64_t bench_memcpy4k(void)
{ /* cache-resident 4 kB copies */
    static uint8_t a[4096], b[4096];
    size_t reps = scaled(8000000);
    begin();
    for (size_t i = 0; i < reps; i++) {
        memcpy(b, a, 4096);
        a[i & 4095] = (uint8_t)(b[(i * 7) & 4095] + 1);
        __asm__ volatile("" ::: "memory");
    }
    end();
    return a[17];
}
