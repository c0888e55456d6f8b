#!/usr/bin/env python3
"""The commands that README.md and CONTRIBUTING.md show exist and can be executed; links between documents lead somewhere."""
import os
import re

from sources import ROOT, end, read

PAGES = ['README.md', 'CONTRIBUTING.md', 'ARCHITECTURE.md', 'docs/threat-model.md', 'docs/kvm-unit-tests.md', 'docs/profiling.md']
# Programs of others that an example may begin with.
OTHERS = {'cmake', 'ninja', 'ctest', 'python3'}


def tools():
    return set(re.findall(r'foreach\(tool ([^)]*)\)', read('src/tools/CMakeLists.txt'))[0].split())


def command_findings(page):
    for block in re.findall(r'^```sh\n(.*?)^```', read(page), re.MULTILINE | re.DOTALL):
        for line in block.replace('\\\n', ' ').splitlines():
            words = line.split('#')[0].split()
            if not words:
                continue
            command = words[0]
            if command.startswith('./'):
                if not os.access(os.path.join(ROOT, command), os.X_OK):
                    yield f'{page}: {command} is not there, or cannot be executed'
            elif command not in tools() | OTHERS:
                yield f'{page}: what is {command}?'


def link_findings(page):
    folder = os.path.dirname(os.path.join(ROOT, page))
    for target in re.findall(r'\]\(([^)#:]+)\)', read(page)):
        if not os.path.exists(os.path.join(folder, target)):
            yield f'{page}: the link to {target} leads nowhere'


def first_screen_findings():
    first_screen = '\n'.join(read('README.md').splitlines()[:25])
    for command in ('./run', './test'):
        if not re.search(rf'^{re.escape(command)}\b', first_screen, re.MULTILINE):
            yield f'README.md: {command} is not on its first screen'


result = list(first_screen_findings())
for one in PAGES:
    result += command_findings(one)
    result += link_findings(one)
end(result)
