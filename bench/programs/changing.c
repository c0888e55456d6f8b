/* Programs that write the code they run. */
#define _GNU_SOURCE
#include "bench.h"

#include <string.h>
#include <sys/mman.h>

uint64_t bench_smc(void)
{ /* a tiny JIT: rewrite a function's immediate, call it, repeat */
    uint8_t *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) die("mmap");
    static const uint8_t code[] = {0x8d, 0x87, 0, 0, 0, 0, 0xc3}; /* lea eax,[rdi+imm32]; ret */
    memcpy(p, code, sizeof code);
    uint32_t x = 0, n = (uint32_t)scaled(300000);
    begin();
    for (uint32_t i = 0; i < n; i++) {
        memcpy(p + 2, &i, 4);
        x = ((uint32_t (*)(uint32_t))(void *)p)(x);
    }
    end();
    munmap(p, 4096);
    return x;
}

uint64_t bench_jitgen(void)
{ /* generate many fresh functions and call each 20 times: translation cost */
    size_t n = scaled(200000), sz = 4u << 20;
    uint8_t *p = mmap(NULL, sz, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) die("mmap");
    uint64_t x = 1, r = 7;
    size_t off = 0;
    begin();
    for (size_t i = 0; i < n; i++) {
        if (off + 256 > sz) off = 0;
        uint8_t *q = p + off, *c = q;
        *c++ = 0x48; *c++ = 0x89; *c++ = 0xf8;                    /* mov rax,rdi */
        for (int k = 0; k < 16; k++) {
            r ^= r << 13; r ^= r >> 7; r ^= r << 17;
            uint32_t imm = (uint32_t)(r >> 16) & 0x7fffffff;
            *c++ = 0x48; *c++ = (r & 1) ? 0x35 : 0x05;            /* xor/add rax,imm32 */
            memcpy(c, &imm, 4);
            c += 4;
        }
        *c++ = 0xc3;
        for (int k = 0; k < 20; k++)
            x = ((uint64_t (*)(uint64_t))(void *)q)(x);
        off += (size_t)(c - q + 15) & ~(size_t)15;
    }
    end();
    munmap(p, sz);
    return x;
}
