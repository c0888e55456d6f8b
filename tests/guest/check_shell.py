#!/usr/bin/env python3
"""Drives a guest through its serial console: check_shell.py COMMAND...

Starts COMMAND, which runs the guest of scripts/make-guest.sh with COM1 on its standard input and output; waits for the shell's
prompt, works in the shell, powers the guest off, and prints one line that says how long the shell took to appear.
The exit status is 0 when all of that went well; otherwise the console's last lines are printed.
CHECK_TIMEOUT is the most seconds that anything may take (default 600).
"""
import os
import re
import select
import subprocess
import sys
import time

PROMPT = b'guest:/# '
POWERED_OFF = 1  # bhyve's exit status
TIMEOUT = float(os.environ.get('CHECK_TIMEOUT', '600'))


class Failure(Exception):
    pass


class Console:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        self.output = b''
        self.seen = 0
        self.deadline = time.monotonic() + TIMEOUT

    def wait_for(self, text):
        """Everything up to and with `text`, from where the last wait ended."""
        while True:
            at = self.output.find(text, self.seen)
            if at >= 0:
                part = self.output[self.seen:at]
                self.seen = at + len(text)
                return part.decode('utf-8', 'replace').replace('\r', '')
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise Failure(f'"{text.decode().strip()}" did not appear within {TIMEOUT:.0f} s')
            if not select.select([self.process.stdout], [], [], left)[0]:
                continue
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise Failure(f'the machine ended (status {self.process.wait()}) before "{text.decode().strip()}" appeared')
            self.output += data

    def run(self, line):
        """The output of a shell command, which must succeed."""
        # The mark is written so that the echo of the command does not contain it.
        self.process.stdin.write(f'{line}; echo "status"=$?=\n'.encode())
        text = self.wait_for(b'status=')
        status = self.wait_for(b'=')
        self.wait_for(PROMPT)
        if status != '0':
            raise Failure(f'"{line}" failed with status {status} in the guest: {text.strip()}')
        return text.split('\n', 1)[-1].strip()

    def power_off(self):
        self.process.stdin.write(b'poweroff\n')
        while self.process.poll() is None:
            if time.monotonic() > self.deadline:
                raise Failure(f'the guest did not power off within {TIMEOUT:.0f} s')
            if select.select([self.process.stdout], [], [], 0.1)[0]:
                self.output += os.read(self.process.stdout.fileno(), 65536)
        self.output += self.process.stdout.read() or b''
        if self.process.returncode != POWERED_OFF:
            raise Failure(f'after poweroff the machine ended with status {self.process.returncode}, not {POWERED_OFF}')

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def check(console, started):
    console.wait_for(PROMPT)
    to_shell = time.monotonic() - started
    console.run('dmesg -n 1')  # a line of the kernel's in the middle of an answer would spoil it
    kernel = console.run('uname -a')
    if not kernel.startswith('Linux guest '):
        raise Failure(f'uname says "{kernel}"')
    processors = len(re.findall(r'^processor\s*:', console.run('cat /proc/cpuinfo'), re.MULTILINE))
    if processors == 0:
        raise Failure('/proc/cpuinfo lists no processor')
    if '/dev/vda on / type ext4' not in console.run('mount'):
        raise Failure('the root file system is not the virtio disk')
    console.run('dd if=/dev/urandom of=/root/data bs=1M count=8')
    console.run('sync; echo 3 >/proc/sys/vm/drop_caches')
    first = console.run('md5sum /root/data')
    console.run('dd if=/root/data of=/root/copy bs=64k; sync; echo 3 >/proc/sys/vm/drop_caches')
    second = console.run('md5sum /root/copy')
    if first.split()[0] != second.split()[0]:
        raise Failure(f'a file changed on the disk: {first}, {second}')
    console.power_off()
    release = kernel.split()[2]
    return f'ok: shell after {to_shell:.2f} s; Linux {release}, {processors} CPU{"s" if processors > 1 else ""}, 16 MiB through the disk, powered off after {time.monotonic() - started:.2f} s'


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    started = time.monotonic()
    try:
        console = Console(sys.argv[1:])
    except OSError as error:
        sys.exit(f'failed: {sys.argv[1]}: {error.strerror}')
    try:
        print(check(console, started))
    except Failure as failure:
        console.end()
        lines = console.output.decode('utf-8', 'replace').replace('\r', '').splitlines()
        print('\n'.join(lines[-40:]), file=sys.stderr)
        sys.exit(f'failed: {failure}')
    finally:
        console.end()


if __name__ == '__main__':
    main()
