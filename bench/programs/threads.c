/* Programs with two threads, and what one thread pays for an atomic. */
#define _GNU_SOURCE
#include "bench.h"

#include <pthread.h>

static uint64_t shared_counter;
static void *thr_atomic(void *arg)
{
    size_t n = *(size_t *)arg;
    for (size_t i = 0; i < n; i++)
        __atomic_fetch_add(&shared_counter, 1, __ATOMIC_SEQ_CST);
    return NULL;
}
uint64_t bench_atomic1(void)
{ /* uncontended lock add */
    size_t n = scaled(50000000);
    shared_counter = 0;
    begin();
    thr_atomic(&n);
    end();
    return shared_counter;
}
uint64_t bench_atomic2(void)
{ /* two threads on one counter */
    size_t n = scaled(20000000);
    shared_counter = 0;
    pthread_t a, b;
    begin();
    pthread_create(&a, NULL, thr_atomic, &n);
    pthread_create(&b, NULL, thr_atomic, &n);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    end();
    return shared_counter;
}
static void *thr_alu(void *arg)
{
    uint64_t a = (uintptr_t)arg, b = 77, n = scaled(300000000);
    for (uint64_t i = 0; i < n; i++) {
        a = a * 6364136223846793005ull + b;
        b ^= a >> 33;
    }
    return (void *)(uintptr_t)(a ^ b);
}
uint64_t bench_par2(void)
{ /* two independent compute threads: should take as long as one on 2 CPUs */
    pthread_t a, b;
    void *x, *y;
    begin();
    pthread_create(&a, NULL, thr_alu, (void *)1);
    pthread_create(&b, NULL, thr_alu, (void *)2);
    pthread_join(a, &x);
    pthread_join(b, &y);
    end();
    return (uintptr_t)x ^ (uintptr_t)y;
}
static pthread_mutex_t mtx = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cnd = PTHREAD_COND_INITIALIZER;
static size_t turn;
static void *thr_pp(void *arg)
{
    size_t me = (size_t)arg, n = scaled(50000);
    pthread_mutex_lock(&mtx);
    for (size_t i = 0; i < n; i++) {
        while ((turn & 1) != me) pthread_cond_wait(&cnd, &mtx);
        turn++;
        pthread_cond_signal(&cnd);
    }
    pthread_mutex_unlock(&mtx);
    return NULL;
}
uint64_t bench_futexpp(void)
{ /* condvar ping-pong between two threads: futex + IPI wake-ups */
    turn = 0;
    pthread_t a, b;
    begin();
    pthread_create(&a, NULL, thr_pp, (void *)0);
    pthread_create(&b, NULL, thr_pp, (void *)1);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    end();
    return turn;
}
