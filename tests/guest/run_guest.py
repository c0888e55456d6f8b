#!/usr/bin/env python3
"""Runs a guest of guests.cfg: run_guest.py NAME; run_guest.py --list says which there are, and how many seconds each may take.

ANYHYVE_TOOLS is the folder of the built tools. The exit status is 0 when the guest did all that it must, 77 when what it boots cannot
be fetched or the host has no room for it, and else 1, with the end of its console on stderr.
ANYHYVE_DISK_MIB (64) is how much goes through the virtio disk; CHECK_TIMEOUT is the most seconds that one machine may take.
Guests with `minutes` run only with ANYHYVE_LONG=1; ANYHYVE_MINUTES is how long then, instead of what the list says.
"""
import configparser
import os
import sys
import time

sys.dont_write_bytecode = True

import images  # noqa: E402
import long_images  # noqa: E402
import scenarios  # noqa: E402
from check_shell import Failure  # noqa: E402
from machine import TOOLS, Machine, NoRoom  # noqa: E402

LIST = os.path.join(os.path.dirname(os.path.realpath(__file__)), 'guests.cfg')
SKIPPED = 77
TIMEOUT = 900  # seconds, and three times what a long run is to take
LONG_RUNS = os.environ.get('ANYHYVE_LONG', '') not in ('', '0')


def prepare(row):
    files = images.prepare(row['kernel'])
    if 'minutes' not in row:
        return files
    if not LONG_RUNS:
        raise images.CannotFetch(f'takes {row["minutes"]} minutes: set ANYHYVE_LONG=1')
    if row['image'] == 'memtest':
        files.memtest = long_images.memtest()
    if row['root'] == 'stress':
        files.stress = long_images.stress_root()
    if row['root'] == 'clocks':
        files.clocks = long_images.clocks_ram_disk(files.initrd)
    return files


def run(row):
    try:
        machine = Machine(row, prepare(row))
    except (images.CannotFetch, NoRoom) as reason:
        print(f'skipped: {reason}')
        return SKIPPED
    started = time.monotonic()
    try:
        getattr(scenarios, row['do'])(machine)
        for text in row['expect'].splitlines():
            scenarios.require(text in machine.output(), f'the console never showed "{text}"')
        for text in row['reject'].splitlines():
            scenarios.require(text not in machine.output(), f'the console shows "{text}"')
    except Failure as failure:
        print('\n'.join(machine.output().splitlines()[-60:]), file=sys.stderr)
        print(f'failed: {row.name}: {failure}', file=sys.stderr)
        return 1
    finally:
        machine.close()
    print(f'ok: {row.name}: {time.monotonic() - started:.1f} s')
    return 0


def main():
    guests = configparser.ConfigParser(interpolation=None)
    with open(LIST, encoding='utf-8') as file:
        guests.read_file(file)
    if sys.argv[1:] == ['--list']:
        for row in map(guests.__getitem__, guests.sections()):
            print(row.name, TIMEOUT + round(180 * float(row.get('minutes', '0'))))
        return 0
    if len(sys.argv) != 2 or sys.argv[1] not in guests.sections():
        sys.exit(f'{__doc__}\nguests: {" ".join(guests.sections())}')
    if not os.access(os.path.join(TOOLS, 'bhyve'), os.X_OK):
        sys.exit(f'ANYHYVE_TOOLS={TOOLS}: there is no bhyve in that folder')
    return run(guests[sys.argv[1]])


if __name__ == '__main__':
    sys.exit(main())
