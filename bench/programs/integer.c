/* Programs of the group "compute": integer arithmetic, branches, calls. */
#define _GNU_SOURCE
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

uint64_t bench_alu(void)
{ /* register-only integer arithmetic with flags: the best case of a JIT */
    uint64_t a = 1, b = 0x9e3779b97f4a7c15ull, n = scaled(300000000);
    begin();
    for (uint64_t i = 0; i < n; i++) {
        a ^= b + i;
        if ((a & 7) == 3)
            b += a >> 5;
        else
            b ^= a << 3;
        a = (a << 11) | (a >> 53);
    }
    end();
    return a ^ b;
}

uint64_t bench_crc32(void)
{ /* table CRC-32: one dependent table load per byte */
    static uint32_t tab[256];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        tab[i] = c;
    }
    size_t n = 1 << 20, reps = scaled(200);
    uint8_t *buf = pages(n);
    for (size_t i = 0; i < n; i++)
        buf[i] = (uint8_t)random_number();
    uint32_t c = ~0u;
    begin();
    for (size_t r = 0; r < reps; r++)
        for (size_t i = 0; i < n; i++)
            c = tab[(c ^ buf[i]) & 255] ^ (c >> 8);
    end();
    munmap(buf, n);
    return c;
}

static const uint32_t sha_k[64] = {
    0x428a2f98,0x71374491,0xb5c0fbcf,0xe9b5dba5,0x3956c25b,0x59f111f1,0x923f82a4,0xab1c5ed5,
    0xd807aa98,0x12835b01,0x243185be,0x550c7dc3,0x72be5d74,0x80deb1fe,0x9bdc06a7,0xc19bf174,
    0xe49b69c1,0xefbe4786,0x0fc19dc6,0x240ca1cc,0x2de92c6f,0x4a7484aa,0x5cb0a9dc,0x76f988da,
    0x983e5152,0xa831c66d,0xb00327c8,0xbf597fc7,0xc6e00bf3,0xd5a79147,0x06ca6351,0x14292967,
    0x27b70a85,0x2e1b2138,0x4d2c6dfc,0x53380d13,0x650a7354,0x766a0abb,0x81c2c92e,0x92722c85,
    0xa2bfe8a1,0xa81a664b,0xc24b8b70,0xc76c51a3,0xd192e819,0xd6990624,0xf40e3585,0x106aa070,
    0x19a4c116,0x1e376c08,0x2748774c,0x34b0bcb5,0x391c0cb3,0x4ed8aa4a,0x5b9cca4f,0x682e6ff3,
    0x748f82ee,0x78a5636f,0x84c87814,0x8cc70208,0x90befffa,0xa4506ceb,0xbef9a3f7,0xc67178f2};

uint64_t bench_sha256(void)
{ /* rotate/add chains, 64 locals: register pressure and stack spills */
    uint32_t h[8] = {0x6a09e667,0xbb67ae85,0x3c6ef372,0xa54ff53a,0x510e527f,0x9b05688c,0x1f83d9ab,0x5be0cd19};
    uint32_t w[64];
    size_t blocks = scaled(2000000);
#define ROR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
    begin();
    for (size_t blk = 0; blk < blocks; blk++) {
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)(blk * 16 + (size_t)i) * 2654435761u;
        for (int i = 16; i < 64; i++) {
            uint32_t a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + (ROR(a, 7) ^ ROR(a, 18) ^ (a >> 3)) + w[i - 7] + (ROR(b, 17) ^ ROR(b, 19) ^ (b >> 10));
        }
        uint32_t v[8];
        memcpy(v, h, sizeof v);
        for (int i = 0; i < 64; i++) {
            uint32_t e = v[4], a = v[0];
            uint32_t t1 = v[7] + (ROR(e, 6) ^ ROR(e, 11) ^ ROR(e, 25)) + ((e & v[5]) ^ (~e & v[6])) + sha_k[i] + w[i];
            uint32_t t2 = (ROR(a, 2) ^ ROR(a, 13) ^ ROR(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
            v[7] = v[6]; v[6] = v[5]; v[5] = e; v[4] = v[3] + t1;
            v[3] = v[2]; v[2] = v[1]; v[1] = a; v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++)
            h[i] += v[i];
    }
    end();
    return ((uint64_t)h[0] << 32) | h[7];
}

uint64_t bench_interp(void)
{ /* branchy bytecode interpreter: switch dispatch through an indirect jump */
    enum { PUSH, ADD, SUB, MUL, XOR, DUP, SWAP, DEC, JNZ, LD, ST, HALT };
    static const uint8_t prog[] = {
        /* 0 */ PUSH, 200, ST, 0,
        /* 4 */ LD, 1, PUSH, 3, MUL, LD, 0, ADD, ST, 1,
        /*14 */ LD, 1, DUP, PUSH, 7, XOR, SWAP, SUB, LD, 2, ADD, ST, 2,
        /*27 */ LD, 0, DEC, DUP, ST, 0, JNZ, 4, HALT };
    uint64_t stack[64], vars[4] = {0}, acc = 0;
    size_t reps = scaled(40000);
    begin();
    for (size_t r = 0; r < reps; r++) {
        const uint8_t *pc = prog;
        uint64_t *sp = stack;
        for (;;) {
            switch (*pc++) {
            case PUSH: *sp++ = *pc++; continue;
            case ADD: sp--; sp[-1] += sp[0]; continue;
            case SUB: sp--; sp[-1] -= sp[0]; continue;
            case MUL: sp--; sp[-1] *= sp[0]; continue;
            case XOR: sp--; sp[-1] ^= sp[0]; continue;
            case DUP: sp[0] = sp[-1]; sp++; continue;
            case SWAP: { uint64_t x = sp[-1]; sp[-1] = sp[-2]; sp[-2] = x; continue; }
            case DEC: sp[-1]--; continue;
            case JNZ: { uint8_t to = *pc++; if (*--sp) pc = prog + to; continue; }
            case LD: *sp++ = vars[*pc++]; continue;
            case ST: vars[*pc++] = *--sp; continue;
            case HALT: break;
            }
            break;
        }
        acc += vars[2];
    }
    end();
    return acc;
}

#define F(n, e) __attribute__((noinline)) static uint64_t f##n(uint64_t x) { return e; }
F(0, x + 1) F(1, x ^ 0x55) F(2, x * 3) F(3, x - 7) F(4, x << 1) F(5, x >> 1) F(6, ~x) F(7, x + (x >> 3))
static uint64_t (*const volatile ftab[8])(uint64_t) = {f0, f1, f2, f3, f4, f5, f6, f7};

uint64_t bench_icall(void)
{ /* indirect calls to 8 targets chosen by a PRNG */
    uint64_t x = 12345, r = 1, n = scaled(50000000);
    begin();
    for (uint64_t i = 0; i < n; i++) {
        r ^= r << 13; r ^= r >> 7; r ^= r << 17;
        x = ftab[r & 7](x);
    }
    end();
    return x;
}

uint64_t bench_icall_mono(void)
{ /* indirect calls to one target: what a virtual call usually looks like */
    uint64_t x = 12345, n = scaled(200000000);
    begin();
    for (uint64_t i = 0; i < n; i++)
        x = ftab[2](x);
    end();
    return x;
}

__attribute__((noinline)) static uint64_t fib(unsigned n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
uint64_t bench_fib(void)
{ /* call/ret and stack traffic */
    unsigned n = 40;
    for (double work = 1; work < divisor && n > 20; work *= 1.618) /* one less is 1.618 times less work */
        n--;
    begin();
    volatile unsigned vn = n;
    uint64_t r = fib(vn);
    end();
    return r;
}

static int cmp_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}
uint64_t bench_qsort(void)
{ /* unpredictable branches, callback calls */
    size_t n = scaled(4000000);
    uint32_t *a = pages(n * 4);
    for (size_t i = 0; i < n; i++)
        a[i] = (uint32_t)random_number();
    begin();
    qsort(a, n, 4, cmp_u32);
    end();
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i += n / 16 + 1)
        sum = sum * 31 + a[i];
    munmap(a, n * 4);
    return sum;
}

uint64_t bench_strhash(void)
{ /* byte loads, compares, malloc/free: "application-like" */
    struct ent { struct ent *next; char key[20]; uint64_t val; };
    size_t nb = 1 << 16, n = scaled(4000000);
    struct ent **tab = calloc(nb, sizeof *tab);
    uint64_t r = 1, sum = 0;
    begin();
    for (size_t i = 0; i < n; i++) {
        r ^= r << 13; r ^= r >> 7; r ^= r << 17;
        char key[20];
        uint64_t v = (r >> 20) % 200000;
        int len = 0;
        key[len++] = 'k';
        do { key[len++] = (char)('0' + v % 10); v /= 10; } while (v);
        key[len] = 0;
        uint64_t h = 14695981039346656037ull;
        for (char *p = key; *p; p++)
            h = (h ^ (uint8_t)*p) * 1099511628211ull;
        struct ent **pp = &tab[h & (nb - 1)], *e;
        while ((e = *pp) && strcmp(e->key, key))
            pp = &e->next;
        if (!e) {
            e = malloc(sizeof *e);
            strcpy(e->key, key);
            e->val = 0;
            e->next = NULL;
            *pp = e;
        } else if ((r & 15) == 0) {
            *pp = e->next;
            sum += e->val;
            free(e);
            continue;
        }
        e->val += i;
    }
    end();
    for (size_t i = 0; i < nb; i++)
        for (struct ent *e = tab[i], *nx; e; e = nx) { nx = e->next; sum += e->val; free(e); }
    free(tab);
    return sum;
}
