#!/usr/bin/env python3
"""Includes are written from src/ and go downward only; engine and device never include one another."""
import os
import re

from sources import ROOT, end, files, read

# Each folder of src/, and what it may include besides itself.
MAY_INCLUDE = {'base': set()}
MAY_INCLUDE['host'] = {'base'}
MAY_INCLUDE['x86'] = {'base'}
MAY_INCLUDE['vmm'] = {'base', 'host', 'x86'}
for above in ('engine', 'device', 'boot'):
    MAY_INCLUDE[above] = {'vmm', 'base', 'host', 'x86'}
MAY_INCLUDE['machine'] = {'engine', 'device', 'boot'} | MAY_INCLUDE['engine']
MAY_INCLUDE['tools'] = {'machine'} | MAY_INCLUDE['machine']


def findings():
    for path in files('src', '.hpp', '.cpp', '.h'):
        folder = path.split('/')[1]
        if folder not in MAY_INCLUDE:
            yield f'{path}: src/{folder} has no place in the order of folders'
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*"([^"]*)"', line)
            if not match:
                continue
            name = match.group(1)
            if not os.path.exists(os.path.join(ROOT, 'src', name)):
                yield f'{path}:{number}: "{name}" is not written from src/'
            elif name.split('/')[0] not in MAY_INCLUDE[folder] | {folder}:
                yield f'{path}:{number}: {folder} may not include {name}'


end(list(findings()))
