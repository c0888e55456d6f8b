"""Runs the programs of the benchmark: in a guest (QEMU or anyhyve), reading its serial console, and natively."""
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

from groups import BOOT, PARALLEL, counts_wall_time

MEMORY_MIB = 512
# What the guest's clock may be off from the host's over one program, before it counts as a failure.
CLOCK_SLACK_SECONDS, CLOCK_SLACK_RATIO = 1.0, 0.25


@dataclass(frozen=True)
class Timing:
    seconds: float  # without the time that the busiest thread stood in the host's run queue, but see counts_wall_time
    wall: float
    checksum: str


@dataclass
class Outcome:
    """Of one guest, or of one native run: a Timing per program, a sentence per program that failed."""
    timings: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)
    console: str = ''


def qemu_command(qemu, kernel, initramfs, cpus, append):
    accelerator = 'tcg,thread=multi' if cpus > 1 else 'tcg'
    return [qemu, '-accel', accelerator, '-cpu', 'max', '-m', str(MEMORY_MIB), '-smp', str(cpus), '-nographic', '-nodefaults',
            '-no-reboot', '-serial', 'stdio', '-kernel', kernel, '-initrd', initramfs, '-append', append]


def anyhyve_command(bhyve, kernel, initramfs, cpus, append):
    return [bhyve, '-c', str(cpus), '-m', f'{MEMORY_MIB}M', '-H', '-A', '-o', 'engine=soft', '-s', '0,hostbridge', '-s', '31,lpc',
            '-l', 'com1,stdio', '-b', f'linux,kernel={kernel},initrd={initramfs},cmdline={append}', f'bench-{os.getpid()}']


def thread_times(pid):
    """{thread: (seconds on a CPU, seconds in the run queue)}; /proc/PID/task/TID/schedstat, Documentation/scheduler/sched-stats.rst."""
    times = {}
    try:
        for thread in os.listdir(f'/proc/{pid}/task'):
            with open(f'/proc/{pid}/task/{thread}/schedstat', encoding='ascii') as file:
                ran, waited = file.read().split()[:2]
            times[thread] = (int(ran) / 1e9, int(waited) / 1e9)
    except OSError:
        pass
    return times


def busiest_thread(before, after):
    """Of the thread that ran most between the two: seconds on a CPU and in the run queue."""
    best_ran, best_waited = 0.0, 0.0
    for thread, (ran, waited) in after.items():
        ran0, waited0 = before.get(thread, (0.0, 0.0))
        if ran - ran0 > best_ran:
            best_ran, best_waited = ran - ran0, waited - waited0
    return best_ran, best_waited


def corrected(wall, before, after):
    """Without the wait. It is read a little late, so it may be too much by that; what the thread ran is too little at most by its sleep."""
    ran, waited = busiest_thread(before, after)
    return max(wall - waited, min(ran, wall), 1e-6)


class Guest:
    """One start of a machine; reads its console line by line until it ends or the limit is over."""

    def __init__(self, command, cpus, limit, on_program):
        self.outcome = Outcome()
        self.cpus = cpus
        self.on_program = on_program
        self.limit = limit
        self.running = None  # the program under way
        self.at_begin = ({}, 0.0)
        self.done = False
        self.folder = tempfile.mkdtemp(prefix='anyhyve-bench.')
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env={**os.environ, 'VMM_DIR': self.folder}, start_new_session=True)

    def run(self):
        try:
            ending = self.read_console()
        finally:
            self.end()
        if not self.done:
            where = f'while {self.running} ran' if self.running else 'outside of the programs'
            self.outcome.failures[self.running or BOOT] = f'{ending} {where}; the console ends with: {self.console_end()}'
        return self.outcome

    def read_console(self):
        """What ended it, as the start of a sentence."""
        rest = b''
        while (left := self.started + self.limit - time.monotonic()) > 0:
            if not select.select([self.process.stdout], [], [], left)[0]:
                continue
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return f'the machine ended (status {self.process.wait()})'
            *lines, rest = (rest + data).split(b'\n')
            for line in lines:
                self.take_line(line.decode('utf-8', 'replace').strip())
        return f'the limit of {self.limit:.0f} s was over'

    def take_line(self, line):
        self.outcome.console += line + '\n'
        # A message of the kernel may stand before it on the line.
        match = re.search(r'(MARK|BEGIN|RESULT|FAIL|EXIT) (.*)', line)
        if not match:
            return
        word, rest = match.group(1), match.group(2).split()
        if word == 'MARK' and rest[0] == 'init-started':
            wall = time.monotonic() - self.started
            self.outcome.timings[BOOT] = Timing(corrected(wall, {}, thread_times(self.process.pid)), wall, '')
        elif word == 'MARK' and rest[0] == 'done':
            self.done = True
        elif word == 'BEGIN':
            self.running = rest[0]
            self.at_begin = (thread_times(self.process.pid), time.monotonic())
            self.on_program(self.running)
        elif word == 'RESULT':
            self.take_result(rest)
        elif word == 'FAIL':
            self.outcome.failures[rest[0].rstrip(':')] = ' '.join(rest[1:])
        elif word == 'EXIT':
            self.running = None
            if rest[0] not in self.outcome.timings and rest[0] not in self.outcome.failures:
                self.outcome.failures[rest[0]] = f'it ended in the guest with status {rest[1]}: {self.console_end()}'

    def take_result(self, words):
        name = words[0]
        if words[1] == 'unsupported':
            self.outcome.failures[name] = 'the guest\'s CPU lacks the instructions that it needs'
            return
        before, begin = self.at_begin
        wall, by_host = float(words[1]), time.monotonic() - begin
        if abs(wall - by_host) > CLOCK_SLACK_SECONDS + CLOCK_SLACK_RATIO * by_host:
            self.outcome.failures[name] = f'the guest\'s clock counted {wall:.2f} s, the host\'s {by_host:.2f} s'
            return
        counted = wall if counts_wall_time(name, self.cpus) else corrected(wall, before, thread_times(self.process.pid))
        self.outcome.timings[name] = Timing(counted, wall, words[2])

    def console_end(self):
        return ' | '.join(line for line in self.outcome.console.splitlines()[-8:] if line)

    def end(self):
        """After the last line the machine has a few seconds to power off by itself."""
        try:
            self.process.wait(timeout=10 if self.done else 0.1)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            if self.done:
                self.outcome.failures[BOOT] = 'the machine did not end within 10 s after the guest powered off'
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def run_guest(command_for, programs, cpus, divisor, limit, on_program):
    """All programs, in one guest or, when it ends early, in as many as it takes. command_for: the guest's command line -> the machine's."""
    total = Outcome()
    left = list(programs)
    while True:
        append = f'console=ttyS0 quiet panic=-1 bench={",".join(left)} bench_div={divisor}'
        part = Guest(command_for(append), cpus, limit, on_program).run()
        total.timings = {**part.timings, **total.timings}
        total.failures.update(part.failures)
        total.console += part.console
        seen = part.timings.keys() | part.failures.keys()
        tried = [name for name in left if name in seen]
        left = [name for name in left if name not in seen]
        if not left or not tried:
            if left:
                total.failures[BOOT] = f'{part.failures.get(BOOT, "the guest ended too early")} (so {", ".join(left)} did not run)'
            return total


def run_native(bench, busybox, programs, cpus, divisor, limit, on_program):
    """Seconds are those on a CPU, children included: what the same work takes on a machine that does nothing else."""
    outcome = Outcome()
    memory = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix='anyhyve-bench.', dir=memory) as folder:
        environment = {**os.environ, 'BENCH_DIR': folder, 'BENCH_BUSYBOX': busybox}
        for name in programs:
            on_program(name)
            try:
                ended = subprocess.run([bench, '-x', str(divisor), name], env=environment, capture_output=True, text=True, timeout=limit, check=False)
            except subprocess.TimeoutExpired:
                outcome.failures[name] = f'the limit of {limit:.0f} s was over'
                continue
            words = ended.stdout.split()
            if ended.returncode or len(words) < 6:
                outcome.failures[name] = f'status {ended.returncode}: {(ended.stdout + ended.stderr).strip()}'
                continue
            wall, on_cpu = float(words[2]), float(words[5]) / (2 if name in PARALLEL else 1)
            outcome.timings[name] = Timing(wall if counts_wall_time(name, cpus) else max(on_cpu, 1e-6), wall, words[3])
    return outcome
