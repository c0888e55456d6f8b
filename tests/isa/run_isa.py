#!/usr/bin/env python3
"""Runs a small assembled guest and compares the lines that it prints: run_isa.py bhyve|qemu NAME

NAME.S is assembled with what it includes here; NAME.txt has what the manuals say it prints. Under qemu-system-x86_64, a second opinion,
lines that begin with "! " there may differ: what QEMU (7.2) is known to leave out, limits of segments above all.
The exit status is 77 where a program is missing. --print shows what the guest prints and compares nothing.
"""
import difflib
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 120  # seconds for one run
SKIPPED = 77


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            print(f'{program} is not installed: skipped')
            sys.exit(SKIPPED)


def build(name, folder):
    need('as', 'ld', 'objcopy')
    item, kernel = os.path.join(folder, 'guest.o'), os.path.join(folder, 'guest.elf')
    subprocess.run(['as', '--64', '-I', HERE, '-o', item, os.path.join(HERE, name + '.S')], check=True)
    subprocess.run(['ld', '-m', 'elf_x86_64', '-N', '--no-warn-rwx-segments', '-Ttext=0x100000', '-e', '_start', '-o', kernel, item], check=True)
    subprocess.run(['objcopy', '-O', 'elf32-i386', kernel], check=True)  # what Multiboot loaders take
    return kernel


def bhyve(kernel, folder):
    os.mkdir(os.path.join(folder, 'vmm'), 0o700)
    command = [os.path.join(os.environ['ANYHYVE_TOOLS'], 'bhyve'), '-N', '-m', '64M', '-l', 'com1,stdio', '-b', f'multiboot,kernel={kernel}', 'isa']
    return subprocess.run(command, env={**os.environ, 'VMM_DIR': os.path.join(folder, 'vmm')}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          timeout=LIMIT, check=True).stdout


def qemu(kernel, _):
    need('qemu-system-x86_64')
    command = ['qemu-system-x86_64', '-accel', 'tcg', '-cpu', 'max', '-m', '64', '-display', 'none', '-nodefaults', '-serial', 'stdio', '-no-reboot',
               '-kernel', kernel]
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=LIMIT, check=True).stdout


def main():
    machine, name = sys.argv[-2:]
    with tempfile.TemporaryDirectory(prefix='anyhyve-isa.') as folder:
        run = {'bhyve': bhyve, 'qemu': qemu}[machine]
        printed = run(build(name, folder), folder).decode('ascii', 'replace').splitlines()
    if '--print' in sys.argv:
        print('\n'.join(printed))
        return 0
    with open(os.path.join(HERE, name + '.txt'), encoding='ascii') as file:
        rows = file.read().splitlines()
    expected = [row.removeprefix('! ') for row in rows]
    if machine == 'qemu' and len(printed) == len(expected):
        printed = [expected[i] if rows[i].startswith('! ') else line for i, line in enumerate(printed)]
    difference = list(difflib.unified_diff(expected, printed, name + '.txt', machine, lineterm=''))
    print('\n'.join(difference))
    return 1 if difference else 0


sys.exit(main())
