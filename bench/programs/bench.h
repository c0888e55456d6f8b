/* What every program of the benchmark has: its frame (begin, end, scaled) and a few words. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Around the timed part, each once. */
void begin(void);
void end(void);

/* The work is divided by this (option -x); scaled() is never 0. */
extern unsigned divisor;
size_t scaled(size_t work);

/* xorshift64, started anew for each program. */
uint64_t random_number(void);

/* Reports errno and ends the process. */
_Noreturn void die(const char *what);

/* Zeroed memory that is all there already. */
void *pages(size_t size);

/* The name of a file in the scratch folder: $BENCH_DIR or /tmp, which must be a tmpfs. */
const char *scratch(char *buffer, size_t size, const char *name);

/* A program returns a checksum of what it worked out. */
#define PROGRAM(name) uint64_t bench_##name(void);
#include "programs.inc"
#undef PROGRAM
