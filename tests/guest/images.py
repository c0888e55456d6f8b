"""The files a guest boots from: made by scripts/make-guest.sh out of Debian packages, and an initial RAM disk made here."""
import fcntl
import gzip
import os
import stat
import subprocess
import sys

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FOLDER = os.environ.get('ANYHYVE_GUESTS', os.path.join(ROOT, 'guests'))
CANNOT_FETCH = 77  # exit status of make-guest.sh

# The whole of an initial RAM disk that ends in a shell.
INIT = '''#!/bin/busybox sh
# Loads the drivers of virtio disks, then is a shell.
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
    [ -e /modules/$module.ko ] && insmod /modules/$module.ko
done
export PATH=/bin HOME=/ PS1='guest:\\w# '
hostname guest
cd /
while :; do
    setsid cttyhack sh
done
'''


class CannotFetch(Exception):
    pass


class Images:
    """What belongs to one kernel package. Paths: vmlinuz, vmlinux, initrd (goes over to the disk), root (a disk), ram (stays)."""

    def __init__(self, folder):
        self.vmlinuz = os.path.join(folder, 'vmlinuz')
        self.vmlinux = os.path.join(folder, 'vmlinux')
        self.initrd = os.path.join(folder, 'initrd.img')
        self.root = os.path.join(folder, 'root.img')
        self.ram = os.path.join(folder, 'ram.img')
        self.memtest = self.stress = self.clocks = None # long_images.py


def folder_of(package):
    # ./run and ./test keep theirs under this name.
    return os.path.join(FOLDER, 'debian' if package == 'linux-image-cloud-amd64' else package)


def prepare(package):
    """All files of a kernel package, made now if they are missing; tests that run at the same time wait for each other."""
    folder = folder_of(package)
    os.makedirs(FOLDER, exist_ok=True)
    with open(os.path.join(FOLDER, '.lock'), 'w', encoding='ascii') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        images = Images(folder)
        if not os.path.exists(os.path.join(folder, 'complete')):
            make_guest(folder, package)
        if not os.path.exists(images.vmlinux):
            make(images.vmlinux, lambda path: subprocess.run(
                [sys.executable, '-B', os.path.join(HERE, 'extract_vmlinux.py'), images.vmlinuz, path], check=True))
        if not os.path.exists(images.ram) or os.path.getmtime(images.ram) < os.path.getmtime(__file__):
            make(images.ram, lambda path: write_ram_disk(images.initrd, path))
        return images


def make(path, write):
    """A file is there whole, or not at all."""
    write(path + '.new')
    os.rename(path + '.new', path)


def make_guest(folder, package):
    made = subprocess.run([os.path.join(ROOT, 'scripts', 'make-guest.sh'), folder, package], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    last = made.stdout.strip().splitlines()[-1:] or ['no reason given']
    if made.returncode == CANNOT_FETCH:
        raise CannotFetch(f'{package} cannot be fetched: {last[0]}')
    if made.returncode:
        sys.exit(f'{made.stdout}\nmake-guest.sh {folder} {package} ended with status {made.returncode}')


def read_cpio(data):
    """Name -> (mode, bytes) of an archive in the format "newc" (cpio(5))."""
    entries = {}
    at = 0
    while True:
        fields = [int(data[at + 6 + 8 * i:at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110:at + 110 + name_size - 1].decode()
        body = (at + 110 + name_size + 3) & ~3
        if name == 'TRAILER!!!':
            return entries
        entries[name.removeprefix('./')] = (mode, data[body:body + size])
        at = (body + size + 3) & ~3


def write_cpio(entries):
    out = bytearray()

    def add(name, mode, body):
        encoded = name.encode() + b'\0'
        fields = [len(out) & 0xffffffff, mode, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(encoded), 0]
        out.extend(b'070701' + b''.join(b'%08x' % field for field in fields) + encoded)
        out.extend(bytes(-len(out) % 4) + body)
        out.extend(bytes(-len(out) % 4))

    for name, (mode, body) in entries.items():
        add(name, mode, body)
    add('TRAILER!!!', 0, b'')
    return bytes(out)


def write_ram_disk(initrd, path, programs=None):
    """Busybox and the modules of make-guest.sh's initial RAM disk, with another init, and with `programs`: name -> bytes."""
    with gzip.open(initrd) as file:
        theirs = read_cpio(file.read())
    folder, program = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755
    entries = {name: (folder, b'') for name in ('bin', 'dev', 'proc', 'sys', 'tmp', 'modules')}
    entries.update((name, entry) for name, entry in theirs.items() if name == 'bin/busybox' or name.startswith('modules/'))
    entries['init'] = (program, INIT.encode())
    entries.update((name, (program, body)) for name, body in (programs or {}).items())
    with gzip.open(path, 'wb', compresslevel=1) as file:
        file.write(write_cpio(entries))
