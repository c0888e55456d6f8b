"""What the long runs of guests.cfg boot besides kernels: made here, from Debian packages, when one of them is asked for."""
import glob
import os
import shutil
import subprocess
import tempfile

import images

HERE = images.HERE
RELEASE = 'bookworm'
STRESS_PACKAGES = 'stress-ng,iproute2'

# Process 1 of the Debian system of the stress run. `poweroff` here is all that ends it.
STRESS_INIT = r'''#!/bin/bash
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
hostname guest
ip link set lo up
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb PS1='guest:\w# '
cd /
exec setsid -c bash --norc --noprofile </dev/console >/dev/console 2>&1
'''
STRESS_POWEROFF = r'''#!/bin/bash
sync
mount -o remount,ro /
echo o >/proc/sysrq-trigger
sleep 60
'''


def tool(name):
    path = shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin')
    if not path:
        raise images.CannotFetch(f'there is no {name} on this system')
    return path


def run(words, what, **options):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options)
    if done.returncode:
        reasons = [line for line in done.stdout.splitlines() if line.startswith(('E:', 'mke2fs:'))] or ['no reason given']
        raise images.CannotFetch(f'{what} cannot be made: {reasons[0]}')
    return done.stdout


def debian_mirror():
    """The mirror that this system's apt is configured for; it must be a Debian of the same release."""
    wanted = ['apt-get', 'indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages', f'Codename: {RELEASE}', 'Origin: Debian', 'Component: main']
    found = subprocess.run(wanted, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout.split()
    if not found:
        raise images.CannotFetch(f'apt of this system is configured for no Debian {RELEASE}')
    return found[0]


def stress_root():
    """An ext4 image of a small Debian with stress-ng."""
    path = os.path.join(images.FOLDER, 'stress.img')
    if os.path.exists(path) and os.path.getmtime(path) > os.path.getmtime(__file__):
        return path
    mke2fs = tool('mke2fs')
    with tempfile.TemporaryDirectory(prefix='anyhyve-stress.') as folder:
        for name, text in (('init', STRESS_INIT), ('poweroff', STRESS_POWEROFF)):
            with open(os.path.join(folder, name), 'w', encoding='ascii') as file:
                file.write(text)
            os.chmod(file.name, 0o755)
        # mmdebstrap may be another user within; and it has /proc and /sys mounted in what it makes.
        os.chmod(folder, 0o777)
        hooks = [f'copy-in {folder}/init {folder}/poweroff /sbin', f'cp -ax "$1" {folder}/root',
                 f'rm -rf {folder}/root/var/cache/apt {folder}/root/var/lib/apt/lists', f'{mke2fs} -q -t ext4 -L stress -d {folder}/root {folder}/image 900M']
        run([tool('mmdebstrap'), '--variant=minbase', '--format=null', f'--include={STRESS_PACKAGES}', *(f'--customize-hook={hook}' for hook in hooks), RELEASE,
             os.devnull, debian_mirror()], 'a Debian system with stress-ng')
        images.make(path, lambda new: run(['cp', '--sparse=always', f'{folder}/image', new], 'the disk of the stress run'))
    return path


def memtest():
    """memtest86+ as it is booted by the Linux boot protocol."""
    path = os.path.join(images.FOLDER, 'memtest86+x64.bin')
    if os.path.exists(path):
        return path
    with tempfile.TemporaryDirectory(prefix='anyhyve-memtest.') as folder:
        run([tool('apt-get'), '-q', '-o', 'APT::Sandbox::User=root', 'download', 'memtest86+'], 'memtest86+', cwd=folder)
        run([tool('dpkg-deb'), '-x', *glob.glob(os.path.join(folder, '*.deb')), folder], 'memtest86+')
        found = sorted(glob.glob(os.path.join(folder, 'boot', '*x*64.bin')))
        if not found:
            raise images.CannotFetch('the package memtest86+ of this system has no memtest86+x64.bin')
        shutil.copy(found[0], path)
    return path


def clocks_ram_disk(initrd):
    """The initial RAM disk of the other tests, and the program that compares clocks."""
    path = os.path.join(images.FOLDER, 'clocks.img')
    source = os.path.join(HERE, 'clocks.c')
    if not os.path.exists(path) or os.path.getmtime(path) < max(os.path.getmtime(source), os.path.getmtime(images.__file__)):
        with tempfile.TemporaryDirectory(prefix='anyhyve-clocks.') as folder:
            program = os.path.join(folder, 'clocks')
            run([tool('cc'), '-O2', '-static', '-Wall', '-Wextra', '-o', program, source], 'the program that compares clocks')
            with open(program, 'rb') as file:
                images.make(path, lambda new: images.write_ram_disk(initrd, new, {'bin/clocks': file.read()}))
    return path
