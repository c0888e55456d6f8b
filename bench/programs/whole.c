/* A whole program: busybox compresses a text. */
#define _GNU_SOURCE
#include "bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

uint64_t bench_gzip(void)
{ /* busybox gzip of 32 MB of semi-compressible text */
    char path[256];
    scratch(path, sizeof path, "bench.txt");
    size_t n = scaled(32u << 20);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0) die("open");
    static char line[65536];
    static const char *const words[16] = {"the ", "guest ", "page ", "of ", "memory ", "is ", "a ", "trap ",
        "to ", "kernel ", "and ", "table ", "in ", "cache ", "virtual ", "machine\n"};
    uint64_t r = 42;
    for (size_t done = 0; done < n;) {
        size_t len = 0;
        while (len < sizeof line - 24) {
            r ^= r << 13; r ^= r >> 7; r ^= r << 17;
            const char *w = words[(r >> 8) & 15];
            size_t l = strlen(w);
            memcpy(line + len, w, l);
            len += l;
            if ((r & 7) == 0) len += (size_t)sprintf(line + len, "%llx ", (unsigned long long)(r >> 32));
        }
        if (len > n - done) len = n - done;
        if (write(fd, line, len) != (ssize_t)len) die("write");
        done += len;
    }
    close(fd);
    int pfd[2];
    if (pipe(pfd)) die("pipe");
    begin();
    const char *busybox = getenv("BENCH_BUSYBOX");
    if (!busybox) busybox = "/bin/busybox";
    pid_t p = fork();
    if (p < 0) die("fork");
    if (!p) {
        dup2(pfd[1], 1);
        close(pfd[0]); close(pfd[1]);
        execl(busybox, "gzip", "-c", path, (char *)NULL);
        _exit(127);
    }
    close(pfd[1]);
    uint64_t total = 0;
    ssize_t g;
    while ((g = read(pfd[0], line, sizeof line)) > 0) total += (uint64_t)g;
    close(pfd[0]);
    int st;
    waitpid(p, &st, 0);
    end();
    unlink(path);
    if (!WIFEXITED(st) || WEXITSTATUS(st)) die("gzip child");
    return total / 64; /* the header holds a timestamp and a name, sizes do not vary */
}
