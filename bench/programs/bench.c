/*
 * Small deterministic programs in one static binary, to compare a guest's CPU with native execution:
 * the same binary runs in the guest, from an initramfs, and on the host.
 *
 *   bench [-x NUMBER] [NAME...]    runs the named programs, or all, with the work divided by NUMBER
 *   bench -l                       lists them
 *   bench -n                       does nothing (what the program "forkexec" executes)
 *
 * One line for each:  RESULT <name> <seconds> <checksum> cpu <seconds>
 * "cpu" is what the process and its children had of the CPU. With $BENCH_MARK set, "BEGIN <name>" comes before the timed part.
 * The checksum depends on the work alone, so that each program is a test of the CPU, too. A CPU that lacks what a program
 * needs gives "RESULT <name> unsupported".
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

unsigned divisor = 1;

static const struct program {
    const char *name;
    uint64_t (*run)(void);
} programs[] = {
#define PROGRAM(name) {#name, bench_##name},
#include "programs.inc"
#undef PROGRAM
};
enum { program_count = sizeof programs / sizeof programs[0] };

static const char *running;
static double wall_at_begin, cpu_at_begin, wall_seconds, cpu_seconds;
static uint64_t random_state;

static double wall_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double seconds(struct timeval t) { return (double)t.tv_sec + (double)t.tv_usec * 1e-6; }

static double cpu_now(void)
{
    struct rusage self, children;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    return seconds(self.ru_utime) + seconds(self.ru_stime) + seconds(children.ru_utime) + seconds(children.ru_stime);
}

void begin(void)
{
    if (getenv("BENCH_MARK")) {
        printf("BEGIN %s\n", running);
        fflush(stdout);
    }
    cpu_at_begin = cpu_now();
    wall_at_begin = wall_now();
}

void end(void)
{
    wall_seconds = wall_now() - wall_at_begin;
    cpu_seconds = cpu_now() - cpu_at_begin;
}

size_t scaled(size_t work) { return work > divisor ? work / divisor : 1; }

uint64_t random_number(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

void die(const char *what)
{
    printf("FAIL %s: %s: %s\n", running, what, strerror(errno));
    fflush(stdout);
    _exit(1);
}

void *pages(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (p == MAP_FAILED)
        die("mmap");
    return p;
}

const char *scratch(char *buffer, size_t size, const char *name)
{
    const char *folder = getenv("BENCH_DIR");
    snprintf(buffer, size, "%s/%s", folder ? folder : "/tmp", name);
    return buffer;
}

static void run(const struct program *program)
{
    running = program->name;
    random_state = 88172645463325252ull;
    wall_seconds = -1;
    uint64_t checksum = program->run();
    if (wall_seconds < 0)
        printf("RESULT %s unsupported\n", running);
    else
        printf("RESULT %s %.6f %016llx cpu %.6f\n", running, wall_seconds, (unsigned long long)checksum, cpu_seconds);
    fflush(stdout);
}

static const struct program *find(const char *name)
{
    for (size_t i = 0; i < program_count; i++)
        if (!strcmp(programs[i].name, name))
            return &programs[i];
    fprintf(stderr, "bench: there is no program \"%s\"\n", name);
    exit(2);
}

static void list(void)
{
    for (size_t i = 0; i < program_count; i++)
        puts(programs[i].name);
}

int main(int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "x:ln")) != -1) {
        if (option == 'n')
            return 0;
        if (option == 'l') {
            list();
            return 0;
        }
        if (option == '?')
            return 2;
        if (option == 'x' && atoi(optarg) > 0)
            divisor = (unsigned)atoi(optarg);
    }
    for (int i = optind; i < argc; i++)
        run(find(argv[i]));
    for (size_t i = 0; optind == argc && i < program_count; i++)
        run(&programs[i]);
    return 0;
}
