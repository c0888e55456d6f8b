#!/usr/bin/env python3
"""Runs kvm-unit-tests (x86) on the built bhyve and prints a table: kvm_unit_tests.py [--arch ARCH] [NAME]...

The suite is built elsewhere: ANYHYVE_GUESTS names a folder with kvm-unit-tests/x86_64/*.flat and kvm-unit-tests/i386/*.flat, ELF files
of 32 bits with a Multiboot header. ANYHYVE_TOOLS is the folder of the built tools. kvm_unit_tests.cfg says how each test is run.
The exit status is 0 when all tests passed, skipped themselves or are known not to pass, 77 when there are none, and else 1.
"""
import argparse
import configparser
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
TOOLS = os.environ.get('ANYHYVE_TOOLS', '')
GUESTS = os.path.join(os.environ.get('ANYHYVE_GUESTS', ''), 'kvm-unit-tests')
SKIPPED = 77
# bhyve ends with twice the test's own status, and one.
STATUS_PASSED, STATUS_SKIPPED = 1, 77


def command(row, image, environment):
    boot = f'multiboot,kernel={image}'
    if row.get('args'):
        boot += f',cmdline={row["args"]}'
    return [os.path.join(TOOLS, 'bhyve'), *row.get('options', '').split(), '-c', row['cpus'], '-m', row['memory'] + 'M',
            '-s', '0,hostbridge', '-s', '31,lpc', '-l', 'com1,stdio', '-l', 'pc-testdev', '-b', f'{boot},module={environment}', 'kvm-unit-tests']


def write_environment(row, path):
    """What the suite otherwise asks QEMU's fw_cfg."""
    with open(path, 'w', encoding='ascii') as file:
        file.write(f'NR_CPUS={row["cpus"]}\nMEMSIZE={row["memory"]}\nMEMLIMIT=0\nTEST_DEVICE={row["device"]}\n')


def run(row, image, folder):
    """The verdict, what is remarkable, and the seconds."""
    environment = os.path.join(folder, 'environment')
    write_environment(row, environment)
    started = time.monotonic()
    try:
        ran = subprocess.run(command(row, image, environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env=dict(os.environ, VMM_DIR=folder), timeout=row.getint('timeout'), check=False)
        output, status = ran.stdout.decode('latin-1'), ran.returncode
    except subprocess.TimeoutExpired as late:
        output, status = (late.stdout or b'').decode('latin-1'), None
    seconds = time.monotonic() - started
    passed, failed = (len(re.findall(rf'^{word}: ', output, re.MULTILINE)) for word in ('PASS', 'FAIL'))
    remark = re.search(r'^(FAIL: .*|Unhandled .*|.*triple fault.*|.*assert failed.*)$', output, re.MULTILINE)
    note = f'{passed}/{failed}' + (f', {remark.group(1).strip()[:80]}' if remark else '')
    if status is None:
        return 'fail', f'{note}, no end', seconds
    if status == STATUS_SKIPPED:
        return 'skip', 'skips itself', seconds
    return ('pass' if status == STATUS_PASSED and not failed else 'fail'), note, seconds


def verdict(row, arch, folder):
    if row.get('skip'):
        return 'skip', row['skip'], 0.0
    image = os.path.join(GUESTS, arch, row['file'] + '.flat')
    if not os.path.exists(image):
        return 'skip', 'not built', 0.0
    result, note, seconds = run(row, image, folder)
    if result == 'fail' and row.get('known'):
        return 'known', f'{row["known"]} ({note})', seconds
    return result, note, seconds


def rows(tests, arguments):
    for arch in ('x86_64', 'i386'):
        if arguments.arch and arguments.arch != arch:
            continue
        for name in tests.sections():
            if tests[name]['arch'] in ('both', arch) and (not arguments.names or name in arguments.names):
                yield arch, tests[name]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument('--arch', choices=('x86_64', 'i386'))
    parser.add_argument('names', nargs='*')
    arguments = parser.parse_args()
    if not os.path.isdir(GUESTS):
        print('skipped: ANYHYVE_GUESTS names no folder with kvm-unit-tests in it')
        return SKIPPED
    tests = configparser.ConfigParser(interpolation=None)
    with open(os.path.join(HERE, 'kvm_unit_tests.cfg'), encoding='utf-8') as file:
        tests.read_file(file)
    folder = tempfile.mkdtemp(prefix='anyhyve-kvm-unit-tests.')
    totals = {}
    print('| test | arch | QEMU 7.2 TCG | anyhyve | s | checks passed/failed |\n| --- | --- | --- | --- | --- | --- |', flush=True)
    try:
        for arch, row in rows(tests, arguments):
            result, note, seconds = verdict(row, arch, folder)
            totals[result] = totals.get(result, 0) + 1
            print(f'| {row.name} | {arch} | {row.get("qemu_" + arch, "-")} | {result} | {seconds:.1f} | {note} |', flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print('\n' + ', '.join(f'{count} {result}' for result, count in sorted(totals.items())))
    return 1 if totals.get('fail') else 0


if __name__ == '__main__':
    sys.exit(main())
