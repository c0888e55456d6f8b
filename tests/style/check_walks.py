#!/usr/bin/env python3
"""ARCHITECTURE.md: every function of a walk is defined in the file that stands beside it; every path that it names exists."""
import os
import re

from sources import ROOT, end, read, without_comments_and_strings

PAGE = 'ARCHITECTURE.md'


def is_defined(name, text):
    """A definition, not a declaration or a call: the parameters end in what begins a body, and what stands before fits a return type."""
    member = re.escape(name).replace('::', r'\s*::\s*')
    for match in re.finditer(rf'(?:^|[\s*&~>]){member}\s*\(', text, re.MULTILINE):
        line_begin = text.rfind('\n', 0, match.end()) + 1
        before = text[line_begin:text.index(name.split('::')[0], match.start())]
        if re.search(r'[=(;,.!]|\breturn\b|->', before):
            continue
        depth, at = 1, match.end()
        while depth and at < len(text):
            depth += {'(': 1, ')': -1}.get(text[at], 0)
            at += 1
        if re.match(r'\s*(const|noexcept|override|final|\s)*(->[^;{]*)?(:[^;{]*)?\{', text[at:]):
            return True
    return False


def walk_findings(page):
    findings = []
    steps = 0
    for walk in re.findall(r'^```walk\n(.*?)^```', page, re.MULTILINE | re.DOTALL):
        for line in walk.splitlines():
            name, path = line.split()[:2]
            steps += 1
            if not os.path.exists(os.path.join(ROOT, path)):
                findings.append(f'{PAGE}: {name}: there is no file {path}')
            elif not is_defined(name, without_comments_and_strings(read(path))):
                findings.append(f'{PAGE}: {name} is not defined in {path}')
    if steps < 20:
        findings.append(f'{PAGE}: its walks have {steps} steps only')
    return findings


def path_findings(page):
    paths = set(re.findall(r'\b(?:src|tests|docs|bench|scripts|fuzz)/[\w./-]*[\w/]', page))
    return [f'{PAGE}: there is no {path}' for path in sorted(paths) if not os.path.exists(os.path.join(ROOT, path))]


text = read(PAGE)
end(walk_findings(text) + path_findings(text))
