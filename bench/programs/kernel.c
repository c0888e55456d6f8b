/* Programs that spend their time in the kernel: system calls, processes, faults, files. */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t bench_getppid(void)
{
    size_t n = scaled(4000000);
    uint64_t x = 0;
    begin();
    for (size_t i = 0; i < n; i++)
        x += (uint64_t)syscall(SYS_getppid) != 0;
    end();
    (void)x;
    return n;
}

uint64_t bench_clock(void)
{ /* vDSO clock read; falls to a syscall if the guest has no usable TSC */
    size_t n = scaled(2000000);
    struct timespec ts;
    begin();
    for (size_t i = 0; i < n; i++)
        clock_gettime(CLOCK_MONOTONIC, &ts);
    end();
    return n;
}

uint64_t bench_fork(void)
{ /* fork + _exit + wait */
    size_t n = scaled(2000);
    begin();
    for (size_t i = 0; i < n; i++) {
        pid_t p = fork();
        if (p < 0) die("fork");
        if (!p) _exit(0);
        int st;
        waitpid(p, &st, 0);
    }
    end();
    return n;
}

uint64_t bench_forkexec(void)
{ /* fork + exec + exit + wait of this static binary */
    size_t n = scaled(1000);
    begin();
    for (size_t i = 0; i < n; i++) {
        pid_t p = fork();
        if (p < 0) die("fork");
        if (!p) { execl("/proc/self/exe", "bench", "-n", (char *)NULL); _exit(127); }
        int st;
        waitpid(p, &st, 0);
        if (!WIFEXITED(st) || WEXITSTATUS(st)) die("exec child");
    }
    end();
    return n;
}

uint64_t bench_pipe(void)
{ /* two processes, one byte each way: context switches */
    int a[2], b[2];
    if (pipe(a) || pipe(b)) die("pipe");
    size_t n = scaled(100000);
    pid_t p = fork();
    if (p < 0) die("fork");
    char c = 'x';
    if (!p) {
        for (size_t i = 0; i < n; i++)
            if (read(a[0], &c, 1) != 1 || write(b[1], &c, 1) != 1) _exit(1);
        _exit(0);
    }
    begin();
    for (size_t i = 0; i < n; i++)
        if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1) die("pingpong");
    int st;
    waitpid(p, &st, 0);
    end();
    close(a[0]); close(a[1]); close(b[0]); close(b[1]);
    return n;
}

uint64_t bench_mmap(void)
{ /* map 32 MB, touch every page, unmap */
    size_t n = 32u << 20, reps = scaled(30);
    uint64_t sum = 0;
    begin();
    for (size_t r = 0; r < reps; r++) {
        uint8_t *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) die("mmap");
        for (size_t i = 0; i < n; i += 4096) p[i] = (uint8_t)(i >> 12);
        sum += p[4096 * 5];
        munmap(p, n);
    }
    end();
    return sum;
}

static volatile sig_atomic_t segv_count;
static uint8_t *segv_page;
static void on_segv(int sig)
{
    (void)sig;
    segv_count++;
    mprotect(segv_page, 4096, PROT_READ | PROT_WRITE);
}
uint64_t bench_sigsegv(void)
{ /* write fault -> SIGSEGV handler -> mprotect -> retry */
    size_t n = scaled(200000);
    segv_page = pages(4096);
    struct sigaction sa = {.sa_handler = on_segv}, old;
    sigaction(SIGSEGV, &sa, &old);
    begin();
    for (size_t i = 0; i < n; i++) {
        mprotect(segv_page, 4096, PROT_READ);
        *(volatile uint8_t *)segv_page = (uint8_t)i;
    }
    end();
    sigaction(SIGSEGV, &old, NULL);
    munmap(segv_page, 4096);
    return (uint64_t)segv_count;
}

uint64_t bench_tmpfs(void)
{ /* write and read back 64 MB in 4 kB calls on the tmp directory */
    char path[256];
    scratch(path, sizeof path, "bench.dat");
    size_t blocks = scaled(16384), reps = 4;
    static uint8_t buf[4096];
    uint64_t sum = 0;
    begin();
    for (size_t r = 0; r < reps; r++) {
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0) die("open");
        for (size_t i = 0; i < blocks; i++) {
            buf[0] = (uint8_t)i;
            if (write(fd, buf, sizeof buf) != sizeof buf) die("write");
        }
        lseek(fd, 0, SEEK_SET);
        for (size_t i = 0; i < blocks; i++) {
            if (read(fd, buf, sizeof buf) != sizeof buf) die("read");
            sum += buf[0];
        }
        close(fd);
    }
    end();
    unlink(path);
    return sum;
}

uint64_t bench_smallfiles(void)
{ /* create, stat, rename, unlink: path-walk code in the kernel */
    size_t n = scaled(40000);
    char a[300], b[300], d[256];
    scratch(d, sizeof d, "");
    struct stat st;
    begin();
    for (size_t i = 0; i < n; i++) {
        snprintf(a, sizeof a, "%sb-%zu", d, i);
        snprintf(b, sizeof b, "%sc-%zu", d, i);
        int fd = open(a, O_RDWR | O_CREAT, 0600);
        if (fd < 0) die("open");
        if (write(fd, a, 10) != 10) die("write");
        close(fd);
        if (stat(a, &st) || rename(a, b) || unlink(b)) die("path");
    }
    end();
    return n;
}
