/* Compares the clocks of a PC under load: clocks SECONDS LOADS.
 *
 * LOADS processes keep the processors busy meanwhile. At the beginning, every tenth of the time and at the end every clock is read together with the
 * time stamp counter; the program prints how far each has gone away from the latter, in parts per million. The local APIC's timer is seen through a
 * periodic timer of the kernel's: how many of its expirations came, and the latest of them; and through the ticks of /proc/interrupts.
 * Needs root, for I/O ports and /dev/mem.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { pm_timer_port = 0x408, hpet_address = 0xfed00000, pm_timer_hertz = 3579545 };

static volatile uint64_t *hpet;
static double tsc_hertz;

static uint64_t tsc(void)
{
	unsigned aux;
	return __rdtscp(&aux);
}

/* Calls `read` between two readings of the TSC, until they are close together; the TSC in their middle. */
static uint64_t read_with_tsc(uint64_t (*read)(void), uint64_t *value)
{
	uint64_t best = UINT64_MAX, at = 0;

	for (int i = 0; i < 200; i++) {
		uint64_t before = tsc(), seen = read(), after = tsc();
		if (after - before < best) {
			best = after - before;
			at = before + best / 2;
			*value = seen;
		}
	}
	return at;
}

static uint64_t read_hpet(void) { return (uint32_t)hpet[0xf0 / 8]; }
static uint64_t read_pm_timer(void) { return inl(pm_timer_port) & 0xffffff; }
static uint64_t read_monotonic(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static int cmos(int index)
{
	outb(index, 0x70);
	return inb(0x71);
}

/* Waits for a second of the real-time clock to begin while nothing keeps us from looking; the TSC then, and the second within the day. */
static uint64_t read_rtc_edge(uint64_t *second)
{
	int now, before = cmos(0);
	uint64_t at = tsc(), last;

	for (int edges = 0; edges < 20;) {
		last = at;
		now = cmos(0);
		at = tsc();
		if (now == before || (cmos(0x0a) & 0x80))
			continue;
		before = now;
		edges++;
		if (at - last < tsc_hertz / 10000)
			break;
	}
	int binary = cmos(0x0b) & 4, fields[3] = { now, cmos(2), cmos(4) & 0x7f };
	for (int i = 0; i < 3; i++)
		fields[i] = binary ? fields[i] : (fields[i] >> 4) * 10 + (fields[i] & 15);
	*second = fields[2] * 3600 + fields[1] * 60 + fields[0];
	return at;
}

/* A counter that starts over behind `mask`. How often it did since it was last read, the TSC tells: a guest may have to wait for seconds. */
struct counter {
	const char *name;
	uint64_t (*read)(void);
	double hertz;
	uint64_t mask;
	uint64_t first_tsc, last, total, last_tsc;
};

static void follow(struct counter *c)
{
	uint64_t value = 0, at = read_with_tsc(c->read, &value);

	if (!c->first_tsc)
		c->first_tsc = at;
	else {
		double expected = (at - c->last_tsc) / tsc_hertz * c->hertz;
		uint64_t part = (value - c->last) & c->mask;
		double rounds = (expected - part) / (c->mask + 1.0) + 0.5;
		c->total += part + (rounds >= 1 && c->mask != UINT64_MAX ? (uint64_t)rounds * (c->mask + 1) : 0);
	}
	c->last = value;
	c->last_tsc = at;
}

static double drift(const struct counter *c)
{
	double by_tsc = (c->last_tsc - c->first_tsc) / tsc_hertz;
	return by_tsc == 0 ? 0 : (c->total / c->hertz / by_tsc - 1) * 1e6;
}

static uint64_t local_timer_interrupts(void)
{
	char line[4096];
	uint64_t sum = 0;
	FILE *file = fopen("/proc/interrupts", "r");

	while (file && fgets(line, sizeof line, file)) {
		char *at = strstr(line, "LOC:");
		if (!at)
			continue;
		for (at += 4;; ) {
			char *end;
			uint64_t count = strtoull(at, &end, 10);
			if (end == at)
				break;
			sum += count;
			at = end;
		}
	}
	if (file)
		fclose(file);
	return sum;
}

static void work(void)
{
	static char from[1 << 16], to[1 << 16];

	for (unsigned n = 0;; n++) {
		memcpy(to, from, sizeof to);
		from[n % sizeof from] += to[(n * 7) % sizeof to];
		if (n % 1000 == 0)
			getppid();
	}
}

static void find_frequencies(void)
{
	unsigned a, b, c, d;

	__cpuid(0x40000000, a, b, c, d);
	if (a >= 0x40000010 && a < 0x40001000) {
		__cpuid(0x40000010, a, b, c, d);
		tsc_hertz = a * 1e3;
	}
	__cpuid(0, a, b, c, d);
	if (!tsc_hertz && a >= 0x15) {
		__cpuid(0x15, a, b, c, d);
		tsc_hertz = a ? (double)c * b / a : 0;
	}
	int memory = open("/dev/mem", O_RDONLY | O_SYNC);
	hpet = mmap(NULL, 4096, PROT_READ, MAP_SHARED, memory, hpet_address);
	if (iopl(3) || memory < 0 || hpet == MAP_FAILED || !tsc_hertz) {
		puts("clocks: no I/O ports, no HPET or no TSC frequency in CPUID");
		exit(1);
	}
}

int main(int count, char **words)
{
	double seconds = count > 1 ? atof(words[1]) : 60;
	int loads = count > 2 ? atoi(words[2]) : 1;
	pid_t children[64];

	struct sched_param first = { .sched_priority = 1 };

	setvbuf(stdout, NULL, _IOLBF, 0);
	find_frequencies();
	for (int i = 0; i < loads && i < 64; i++)
		if (!(children[i] = fork()))
			work();
	/* The loads must not come between a clock's edge and our seeing it. */
	sched_setscheduler(0, SCHED_FIFO, &first);

	struct counter counters[] = {
		{ "hpet", read_hpet, 1e15 / (hpet[0] >> 32), 0xffffffff, 0, 0, 0, 0 },
		{ "pm-timer", read_pm_timer, pm_timer_hertz, 0xffffff, 0, 0, 0, 0 },
		{ "monotonic-raw", read_monotonic, 1e9, UINT64_MAX, 0, 0, 0, 0 },
	};
	enum { kinds = sizeof counters / sizeof *counters };
	uint64_t rtc_first, rtc_last, ticks = 0, period = 10000000, latest = 0;
	uint64_t rtc_first_tsc = read_rtc_edge(&rtc_first), rtc_last_tsc;
	int timer = timerfd_create(CLOCK_MONOTONIC, 0);
	struct itimerspec every = { { 0, period }, { 0, period } };
	uint64_t interrupts = local_timer_interrupts();

	timerfd_settime(timer, 0, &every, NULL);
	uint64_t begin = tsc(), last = begin, followed = begin, tenth = 1;
	for (int i = 0; i < kinds; i++)
		follow(&counters[i]);
	while ((tsc() - begin) / tsc_hertz < seconds) {
		uint64_t expired = 0;
		if (read(timer, &expired, sizeof expired) == sizeof expired)
			ticks += expired;
		uint64_t now = tsc(), late = now - last;
		last = now;
		latest = late > latest ? late : latest;
		if (now - followed > tsc_hertz) { /* 24 bits of the PM timer are 4.7 s */
			followed = now;
			for (int i = 0; i < kinds; i++)
				follow(&counters[i]);
		}
		if ((now - begin) / tsc_hertz >= seconds / 10 * tenth) {
			tenth++;
			for (int i = 0; i < kinds; i++)
				follow(&counters[i]);
			printf("after %4.0f s:", (now - begin) / tsc_hertz);
			for (int i = 0; i < kinds; i++)
				printf(" %s %+.3f", counters[i].name, drift(&counters[i]));
			printf(" ppm\n");
		}
	}
	double by_timer = ticks * (period / 1e9), by_tsc = (last - begin) / tsc_hertz;
	interrupts = local_timer_interrupts() - interrupts;
	rtc_last_tsc = read_rtc_edge(&rtc_last);
	for (int i = 0; i < kinds; i++)
		printf("clock %s %+.3f ppm\n", counters[i].name, drift(&counters[i]));
	printf("clock rtc %+.3f ppm\n", (((rtc_last + 86400 - rtc_first) % 86400) / ((rtc_last_tsc - rtc_first_tsc) / tsc_hertz) - 1) * 1e6);
	printf("clock lapic-timer %+.3f ppm\n", (by_timer / by_tsc - 1) * 1e6);
	printf("timer: %.0f expirations, longest time between two %.3f ms; %.0f local timer interrupts a second\n", ticks * 1.0, latest / tsc_hertz * 1e3,
	    interrupts / by_tsc);
	for (int i = 0; i < loads && i < 64; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	printf("measured %.1f s with %d loads\n", by_tsc, loads);
	return 0;
}
