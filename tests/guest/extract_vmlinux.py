#!/usr/bin/env python3
"""Takes the ELF kernel (vmlinux) out of a Linux bzImage: extract_vmlinux.py BZIMAGE VMLINUX

The setup header says where the compressed kernel lies (payload_offset, payload_length; Linux
Documentation/arch/x86/boot.rst); its first bytes say by what it was compressed. The decompressors are
Python's own or the usual tools (zstd, lz4, lzop).
"""
import bz2
import lzma
import shutil
import struct
import subprocess
import sys
import zlib


def by_tool(*command):
    def decompress(data):
        if not shutil.which(command[0]):
            sys.exit(f'{command[0]} is needed to decompress this kernel: install it')
        # The payload ends with the size of the kernel, which the tools take for rubbish after the data.
        result = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if not result.stdout:
            sys.exit(f'{command[0]}: {result.stderr.decode("utf-8", "replace").strip()}')
        return result.stdout
    return decompress


METHODS = [
    (b'\x1f\x8b', lambda data: zlib.decompressobj(31).decompress(data)),
    (b'\xfd7zXZ\0', lambda data: lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data)),
    (b']\0\0', lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)),
    (b'BZh', lambda data: bz2.BZ2Decompressor().decompress(data)),
    (b'\x28\xb5\x2f\xfd', by_tool('zstd', '-dcq')),
    (b'\x02\x21\x4c\x18', by_tool('lz4', '-dcq')),
    (b'\x89LZO', by_tool('lzop', '-dcq')),
    (b'\x7fELF', lambda data: data),
]


def extract(image):
    if len(image) < 0x250 or image[0x202:0x206] != b'HdrS':
        sys.exit('not a bzImage')
    setup_sects = image[0x1f1] or 4
    version, = struct.unpack_from('<H', image, 0x206)
    if version < 0x208:
        sys.exit('the boot protocol of this bzImage is older than 2.08: it does not say where its payload is')
    offset, length = struct.unpack_from('<II', image, 0x248)
    start = (setup_sects + 1) * 512 + offset
    payload = image[start:start + length]
    if len(payload) != length or length == 0:
        sys.exit('the bzImage is truncated')
    for magic, decompress in METHODS:
        if payload.startswith(magic):
            kernel = decompress(payload)
            if not kernel.startswith(b'\x7fELF'):
                sys.exit('what is inside is no ELF file')
            return kernel
    sys.exit(f'compressed by an unknown method: {payload[:6].hex()}')


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], 'rb') as file:
        kernel = extract(file.read())
    with open(sys.argv[2], 'wb') as file:
        file.write(kernel)


if __name__ == '__main__':
    main()
